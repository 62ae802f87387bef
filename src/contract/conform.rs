//! Does an upstream's error body keep the contract ([`check_conformance`])?
//!
//! It reads the bytes strictly: what two JSON readers could understand differently is no JSON here. It never changes a
//! body and never chooses a code (see [`super::policy`]); decoding comes before (see [`super::decode`]), and what may be
//! kept of a body that does not conform is found in [`super::extract`].
//!
//! Deep nesting costs no stack: what conforms has no nested values, so those are skipped without recursion.

use std::borrow::Cow;
use std::fmt;
use std::mem;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::code::Contract;
use super::text;

pub use super::extract::{ExtractedError, extract};

/// The largest error body that is read, in bytes after decoding.
pub const BODY_LIMIT: usize = 64 * 1024;

/// From which errors the upstream's own message may be kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UpstreamMessages {
    /// When the code sent is a 4xx.
    #[default]
    ClientErrors,
    /// Always.
    All,
    /// Never.
    None,
}

impl UpstreamMessages {
    /// Whether an upstream's message may leave under this status.
    pub const fn allowed_with(self, status_sent: u16) -> bool {
        match self {
            UpstreamMessages::ClientErrors => status_sent < 500,
            UpstreamMessages::All => true,
            UpstreamMessages::None => false,
        }
    }
}

/// What an upstream's error turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Conformance {
    /// In the contract: it may pass as received.
    Conforms,
    /// JSON, but not the documented object, or with a message that may not leave.
    WrongShape,
    /// Not JSON, or not called so.
    NotJson,
    /// The status is not in the contract.
    Undocumented,
    /// Larger than [`BODY_LIMIT`].
    TooLarge,
    /// It ended early or did not arrive in time. Only who reads the body knows.
    Incomplete,
}

impl Conformance {
    /// Every value, for tables of counters.
    pub const ALL: &'static [Conformance] = &[
        Conformance::Conforms,
        Conformance::WrongShape,
        Conformance::NotJson,
        Conformance::Undocumented,
        Conformance::TooLarge,
        Conformance::Incomplete,
    ];

    /// The stable name: metric label, log value.
    pub const fn label(self) -> &'static str {
        match self {
            Conformance::Conforms => "conforms",
            Conformance::WrongShape => "wrong_shape",
            Conformance::NotJson => "not_json",
            Conformance::Undocumented => "undocumented",
            Conformance::TooLarge => "too_large",
            Conformance::Incomplete => "incomplete",
        }
    }
}

/// A whole error body of an upstream.
#[derive(Clone, Copy, Debug)]
pub struct ErrorBody<'a> {
    /// The upstream's status.
    pub status: u16,
    /// The raw value of Content-Type; an empty one stands for several, whose type is unclear.
    pub media_type: Option<&'a [u8]>,
    /// The bytes, after content decoding.
    pub body: &'a [u8],
}

/// Judges a whole error body.
pub fn check_conformance(
    contract: &Contract,
    error: &ErrorBody<'_>,
    messages: UpstreamMessages,
) -> Conformance {
    if contract.code(error.status).is_none() {
        return Conformance::Undocumented;
    }
    if error.body.len() > BODY_LIMIT {
        return Conformance::TooLarge;
    }
    if !error.media_type.is_some_and(is_json) {
        return Conformance::NotJson;
    }
    let Ok(text) = std::str::from_utf8(error.body) else { return Conformance::NotJson };
    let visitor = ErrorBodyVisitor { contract, status: error.status };
    match parse_json(text, |reader| reader.deserialize_any(visitor)) {
        None => Conformance::NotJson,
        Some(true) if messages.allowed_with(error.status) => Conformance::Conforms,
        Some(_) => Conformance::WrongShape,
    }
}

/// Whether the answer to a HEAD request conforms, given that its status is documented: there is no body to judge.
pub fn head_response_conforms(media_type: Option<&[u8]>) -> bool {
    media_type.is_none_or(is_json)
}

/// Runs a reader over a text that must be one JSON value and nothing behind it. A byte order mark is no JSON either.
pub(super) fn parse_json<'de, T>(
    text: &'de str,
    read: impl FnOnce(&mut serde_json::Deserializer<serde_json::de::StrRead<'de>>) -> serde_json::Result<T>,
) -> Option<T> {
    let mut reader = serde_json::Deserializer::from_str(text);
    let value = read(&mut reader).ok()?;
    reader.end().ok()?;
    Some(value)
}

/// `application/json` in any case; a charset, where given, is UTF-8.
fn is_json(value: &[u8]) -> bool {
    let mut parts = value.split(|&b| b == b';').map(<[u8]>::trim_ascii);
    let essence = parts.next().unwrap_or_default();
    essence.eq_ignore_ascii_case(b"application/json")
        && parts.filter(|parameter| !parameter.is_empty()).all(|parameter| {
            let mut halves = parameter.splitn(2, |&b| b == b'=');
            let (Some(name), Some(value)) = (halves.next(), halves.next()) else { return false };
            let value = match value {
                [b'"', inner @ .., b'"'] => inner,
                plain => plain,
            };
            !name.eq_ignore_ascii_case(b"charset") || value.eq_ignore_ascii_case(b"utf-8")
        })
}

/// Reads a whole body and says whether it is the documented object. Only broken JSON is an error to it: a wrong shape is
/// read to its end, so that the two can be told apart.
struct ErrorBodyVisitor<'c> {
    contract: &'c Contract,
    status: u16,
}

/// The members a conforming body may have.
#[derive(Clone, Copy)]
enum BodyMember {
    Message,
    Code,
    Type,
    Version,
    Undocumented,
}

impl BodyMember {
    fn from_name(name: &str) -> BodyMember {
        match name {
            "message" => BodyMember::Message,
            "code" => BodyMember::Code,
            "type" => BodyMember::Type,
            "version" => BodyMember::Version,
            _ => BodyMember::Undocumented,
        }
    }
}

impl<'de> Visitor<'de> for ErrorBodyVisitor<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an error object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<bool, A::Error> {
        let (mut message, mut code, mut kind, mut version) = (false, false, false, false);
        let mut valid = true;
        while let Some(Scalar::Text(name)) = map.next_key_seed(ScalarSeed)? {
            let value = map.next_value_seed(ScalarSeed)?;
            valid &= match (BodyMember::from_name(&name), &value) {
                (BodyMember::Message, Scalar::Text(value)) => {
                    !mem::replace(&mut message, true) && text::is_allowed(value)
                }
                (BodyMember::Code, Scalar::Integer(value)) => {
                    !mem::replace(&mut code, true) && *value == u64::from(self.status)
                }
                (BodyMember::Type, Scalar::Text(value)) => {
                    !mem::replace(&mut kind, true) && self.contract.allows_type(value)
                }
                (BodyMember::Version, Scalar::Text(value)) => {
                    !mem::replace(&mut version, true) && is_valid_version(value)
                }
                (
                    BodyMember::Message
                    | BodyMember::Code
                    | BodyMember::Type
                    | BodyMember::Version
                    | BodyMember::Undocumented,
                    Scalar::Text(_) | Scalar::Integer(_) | Scalar::Other,
                ) => false,
            };
        }
        Ok(valid && message && code)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<bool, A::Error> {
        skip_elements(seq).map(|()| false)
    }

    fn visit_bool<E>(self, _: bool) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_i64<E>(self, _: i64) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_u64<E>(self, _: u64) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_f64<E>(self, _: f64) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_str<E>(self, _: &str) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_unit<E>(self) -> Result<bool, E> {
        Ok(false)
    }
}

/// The pattern of `version`: `[0-9A-Za-z.+-]{1,32}`.
fn is_valid_version(version: &str) -> bool {
    (1..=32).contains(&version.len())
        && version.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'+' | b'-'))
}

/// A member's value, as far as it matters. `404.0` and `4.04e2` are numbers but no integer literals: they are `Other`.
enum Scalar<'de> {
    Text(Cow<'de, str>),
    Integer(u64),
    Other,
}

struct ScalarSeed;

impl<'de> DeserializeSeed<'de> for ScalarSeed {
    type Value = Scalar<'de>;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Scalar<'de>, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ScalarSeed {
    type Value = Scalar<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Scalar<'de>, E> {
        Ok(Scalar::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Scalar<'de>, E> {
        Ok(Scalar::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Scalar<'de>, E> {
        Ok(Scalar::Integer(value))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Scalar<'de>, E> {
        Ok(Scalar::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Scalar<'de>, E> {
        Ok(Scalar::Other)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Scalar<'de>, E> {
        Ok(Scalar::Other)
    }

    fn visit_unit<E>(self) -> Result<Scalar<'de>, E> {
        Ok(Scalar::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Scalar<'de>, A::Error> {
        skip_elements(seq).map(|()| Scalar::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Scalar<'de>, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Scalar::Other)
    }
}

/// Skips the elements. [`IgnoredAny`] is read without recursion.
fn skip_elements<'de, A: SeqAccess<'de>>(mut seq: A) -> Result<(), A::Error> {
    while seq.next_element::<IgnoredAny>()?.is_some() {}
    Ok(())
}

#[cfg(test)]
#[path = "conform_tests.rs"]
mod tests;
