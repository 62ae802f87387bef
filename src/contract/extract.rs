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
use super::conform::{BODY_LIMIT, read_json};
use super::text;

/// What may be kept of an upstream's error body that does not pass as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extract {
    /// A message, cleaned: it [passes](super::text::passes).
    pub message: Option<String>,
    /// A `type` that the contract allows.
    pub kind: Option<String>,
}

/// Finds the message and the `type` in an error body, whatever its media type says. Strict JSON only: a member twice in
/// any object, and nothing is kept. A message that may not leave is passed over for the next candidate.
pub fn extract(contract: &Contract, body: &[u8]) -> Extract {
    if body.len() > BODY_LIMIT {
        return Extract::default();
    }
    let Ok(text) = std::str::from_utf8(body) else { return Extract::default() };
    let mut found = Found::default();
    let walk = Walk { spot: Spot::Top, found: &mut found };
    if read_json(text, |reader| walk.deserialize(reader)).is_none() {
        return Extract::default();
    }
    let message =
        found.candidates.iter().flatten().find_map(|candidate| text::clean(candidate)).map(Cow::into_owned);
    Extract { message, kind: found.kind.filter(|kind| contract.allows_type(kind)).map(Cow::into_owned) }
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
struct Found<'de> {
    /// By [`Candidate`].
    candidates: [Option<Cow<'de, str>>; 8],
    kind: Option<Cow<'de, str>>,
}

impl<'de> Found<'de> {
    fn keep(&mut self, spot: Spot, text: Cow<'de, str>) {
        let candidate = match spot {
            Spot::Text(candidate) => candidate,
            Spot::Error => Candidate::Error,
            Spot::Kind => {
                self.kind = Some(text);
                return;
            }
            Spot::Top | Spot::Errors | Spot::FirstError | Spot::Elsewhere => return,
        };
        if let Some(place) = self.candidates.get_mut(candidate as usize) {
            *place = Some(text);
        }
    }
}

/// Where in the body a value stands.
#[derive(Clone, Copy)]
enum Spot {
    /// The body itself.
    Top,
    /// `error`: a text, or an object with a message.
    Error,
    /// `errors`.
    Errors,
    /// `errors[0]`.
    FirstError,
    /// A member that is a candidate.
    Text(Candidate),
    /// The top `type`.
    Kind,
    /// Anything else: read only to find members that stand twice.
    Elsewhere,
}

impl Spot {
    fn member(self, name: &str) -> Spot {
        match self {
            Spot::Top => match name {
                "message" => Spot::Text(Candidate::Message),
                "error" => Spot::Error,
                "detail" => Spot::Text(Candidate::Detail),
                "error_description" => Spot::Text(Candidate::ErrorDescription),
                "title" => Spot::Text(Candidate::Title),
                "errors" => Spot::Errors,
                "type" => Spot::Kind,
                _ => Spot::Elsewhere,
            },
            Spot::Error => match name {
                "message" => Spot::Text(Candidate::ErrorMessage),
                _ => Spot::Elsewhere,
            },
            Spot::FirstError => match name {
                "message" => Spot::Text(Candidate::FirstErrorMessage),
                "detail" => Spot::Text(Candidate::FirstErrorDetail),
                _ => Spot::Elsewhere,
            },
            Spot::Errors | Spot::Text(_) | Spot::Kind | Spot::Elsewhere => Spot::Elsewhere,
        }
    }

    fn element(self, first: bool) -> Spot {
        match self {
            Spot::Errors if first => Spot::FirstError,
            Spot::Top
            | Spot::Error
            | Spot::Errors
            | Spot::FirstError
            | Spot::Text(_)
            | Spot::Kind
            | Spot::Elsewhere => Spot::Elsewhere,
        }
    }
}

/// Reads one value at a spot.
struct Walk<'f, 'de> {
    spot: Spot,
    found: &'f mut Found<'de>,
}

impl<'de> DeserializeSeed<'de> for Walk<'_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<(), E> {
        self.found.keep(self.spot, Cow::Borrowed(text));
        Ok(())
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        self.found.keep(self.spot, Cow::Owned(text.to_owned()));
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut names = BTreeSet::new();
        while let Some(name) = map.next_key_seed(Name)? {
            map.next_value_seed(Walk { spot: self.spot.member(&name), found: self.found })?;
            if !names.insert(name) {
                return Err(A::Error::custom("a member stands twice"));
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let mut first = true;
        while seq.next_element_seed(Walk { spot: self.spot.element(first), found: self.found })?.is_some() {
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
struct Name;

impl<'de> DeserializeSeed<'de> for Name {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Cow<'de, str>, D::Error> {
        reader.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Name {
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
