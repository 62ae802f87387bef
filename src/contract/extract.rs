//! Extracts one message and one `type` from an upstream's error body that does not conform.
//!
//! It supports the usual JSON error formats. Parsing is strict: if parsers could read different messages, nothing is
//! extracted. [`UpstreamMessages`](super::conform::UpstreamMessages) decides whether the message may be sent.
//!
//! serde_json limits nesting to 128 levels: from a deeper body nothing is extracted.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::code::Contract;
use super::conform::{BODY_LIMIT, parse_json};
use super::text;

/// The parts of a non-conforming upstream error body that may be sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExtractedError {
    /// The sanitized message: it passes [`super::text::is_allowed`].
    pub message: Option<String>,
    /// A `type` that the contract allows.
    pub kind: Option<String>,
}

/// Extracts the message and the `type` from an error body, regardless of its media type. A duplicate member in any
/// object discards the whole body. A message that may not be sent is skipped and the next candidate is used.
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

/// The members that can contain the message, in order of preference.
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

/// The values collected so far, not yet sanitized.
#[derive(Default)]
struct Collected<'de> {
    /// Indexed by [`Candidate`].
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

/// The position of a value in the body.
#[derive(Clone, Copy)]
enum JsonPosition {
    /// The body itself.
    Root,
    /// `error`: a string, or an object with a message.
    Error,
    /// `errors`.
    Errors,
    /// `errors[0]`.
    FirstError,
    /// A member that is a candidate.
    Text(Candidate),
    /// The top-level `type`.
    Type,
    /// Any other value: read only to detect duplicate members.
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

/// Reads the value at one position.
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
                return Err(A::Error::custom("duplicate member"));
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

/// Reads the name of a member.
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
