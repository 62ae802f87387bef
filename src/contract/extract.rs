//! Which texts of an upstream's error body may be kept: one message and one `type`, found in the usual shapes.
//!
//! Strict JSON only: where two readers could understand different messages, none is kept. Whether an upstream's message
//! is wanted at all under the code sent is [`UpstreamMessages`](super::conform::UpstreamMessages)' question.
//!
//! Deep nesting ends at serde_json's limit of 128 levels: a body beyond that keeps nothing.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::code::Contract;
use super::conform::{BODY_LIMIT, parse_json};
use super::text;

/// What may be kept of an upstream's error body that does not pass as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExtractedError {
    /// A message, cleaned: it [is_allowed](super::text::passes).
    pub message: Option<String>,
    /// A `type` that the contract allows.
    pub kind: Option<String>,
}

/// Finds the message and the `type` in an error body, whatever its media type says. Strict JSON only: a member twice in
/// any object, and nothing is kept. A message that may not leave is passed over for the next candidate.
pub fn extract(contract: &Contract, body: &[u8]) -> ExtractedError {
    if body.len() > BODY_LIMIT {
        return ExtractedError::default();
    }
    let Ok(text) = std::str::from_utf8(body) else { return ExtractedError::default() };
    let mut collected = Collected::default();
    let visitor = ExtractVisitor { position: JsonPosition::Root, collected: &mut collected };
    if parse_json(text, |reader| visitor.deserialize(reader)).is_none() {
        return ExtractedError::default();
    }
    let message = collected
        .candidates
        .iter()
        .flatten()
        .find_map(|candidate| text::sanitize(candidate))
        .map(Cow::into_owned);
    ExtractedError {
        message,
        kind: collected.kind.filter(|kind| contract.allows_type(kind)).map(Cow::into_owned),
    }
}

/// Where messages are looked for, the best first.
#[derive(Clone, Copy)]
enum Candidate {
    Message,
    ErrorMessage,
    Detail,
    ErrorDescription,
    Error,
    Title,
    FirstErrorMessage,
    FirstErrorDetail,
}

/// What the walk has found so far, not yet cleaned.
#[derive(Default)]
struct Collected<'de> {
    /// By [`Candidate`].
    candidates: [Option<Cow<'de, str>>; 8],
    kind: Option<Cow<'de, str>>,
}

impl<'de> Collected<'de> {
    fn record(&mut self, position: JsonPosition, text: Cow<'de, str>) {
        let candidate = match position {
            JsonPosition::Text(candidate) => candidate,
            JsonPosition::Error => Candidate::Error,
            JsonPosition::Type => {
                self.kind = Some(text);
                return;
            }
            JsonPosition::Root | JsonPosition::Errors | JsonPosition::FirstError | JsonPosition::Other => {
                return;
            }
        };
        if let Some(candidate_text) = self.candidates.get_mut(candidate as usize) {
            *candidate_text = Some(text);
        }
    }
}

/// Where in the body a value stands.
#[derive(Clone, Copy)]
enum JsonPosition {
    /// The body itself.
    Root,
    /// `error`: a text, or an object with a message.
    Error,
    /// `errors`.
    Errors,
    /// `errors[0]`.
    FirstError,
    /// A member that is a candidate.
    Text(Candidate),
    /// The top `type`.
    Type,
    /// Anything else: read only to find members that stand twice.
    Other,
}

impl JsonPosition {
    fn member(self, name: &str) -> JsonPosition {
        match self {
            JsonPosition::Root => match name {
                "message" => JsonPosition::Text(Candidate::Message),
                "error" => JsonPosition::Error,
                "detail" => JsonPosition::Text(Candidate::Detail),
                "error_description" => JsonPosition::Text(Candidate::ErrorDescription),
                "title" => JsonPosition::Text(Candidate::Title),
                "errors" => JsonPosition::Errors,
                "type" => JsonPosition::Type,
                _ => JsonPosition::Other,
            },
            JsonPosition::Error => match name {
                "message" => JsonPosition::Text(Candidate::ErrorMessage),
                _ => JsonPosition::Other,
            },
            JsonPosition::FirstError => match name {
                "message" => JsonPosition::Text(Candidate::FirstErrorMessage),
                "detail" => JsonPosition::Text(Candidate::FirstErrorDetail),
                _ => JsonPosition::Other,
            },
            JsonPosition::Errors | JsonPosition::Text(_) | JsonPosition::Type | JsonPosition::Other => {
                JsonPosition::Other
            }
        }
    }

    fn element(self, first: bool) -> JsonPosition {
        match self {
            JsonPosition::Errors if first => JsonPosition::FirstError,
            JsonPosition::Root
            | JsonPosition::Error
            | JsonPosition::Errors
            | JsonPosition::FirstError
            | JsonPosition::Text(_)
            | JsonPosition::Type
            | JsonPosition::Other => JsonPosition::Other,
        }
    }
}

/// Reads one value at a spot.
struct ExtractVisitor<'f, 'de> {
    position: JsonPosition,
    collected: &'f mut Collected<'de>,
}

impl<'de> DeserializeSeed<'de> for ExtractVisitor<'_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ExtractVisitor<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<(), E> {
        self.collected.record(self.position, Cow::Borrowed(text));
        Ok(())
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        self.collected.record(self.position, Cow::Owned(text.to_owned()));
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut names = BTreeSet::new();
        while let Some(name) = map.next_key_seed(MemberName)? {
            map.next_value_seed(ExtractVisitor {
                position: self.position.member(&name),
                collected: self.collected,
            })?;
            if !names.insert(name) {
                return Err(A::Error::custom("a member stands twice"));
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let mut first = true;
        while seq
            .next_element_seed(ExtractVisitor {
                position: self.position.element(first),
                collected: self.collected,
            })?
            .is_some()
        {
            first = false;
        }
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

/// Reads a member's name.
struct MemberName;

impl<'de> DeserializeSeed<'de> for MemberName {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Cow<'de, str>, D::Error> {
        reader.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for MemberName {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a member's name")
    }

    fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Borrowed(name))
    }

    fn visit_str<E>(self, name: &str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Owned(name.to_owned()))
    }
}

#[cfg(test)]
#[path = "extract_tests.rs"]
mod tests;
