//! Checks whether an upstream's error body conforms to the contract ([`check_conformance`]).
//!
//! Parsing is strict: JSON that parsers could interpret differently is rejected. The check does not change the body and
//! does not choose a code (see [`super::policy`]). Content coding is removed before (see [`super::decode`]), and
//! [`super::extract`] extracts the message of a body that does not conform.
//!
//! Nested values are skipped without recursion, so deep nesting cannot overflow the stack.

use std::borrow::Cow;
use std::fmt;
use std::mem;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::code::Contract;
use super::text;

/// Size limit of an error body, in bytes after content decoding.
pub const BODY_LIMIT: usize = 64 * 1024;

/// For which errors the upstream's message may be sent to the client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UpstreamMessages {
    /// Only when the response sent is a 4xx.
    #[default]
    ClientErrors,
    /// Always.
    All,
    /// Never.
    None,
}

impl UpstreamMessages {
    /// Whether an upstream's message may be sent with this status.
    pub const fn allowed_with(self, status_sent: u16) -> bool {
        match self {
            UpstreamMessages::ClientErrors => status_sent < 500,
            UpstreamMessages::All => true,
            UpstreamMessages::None => false,
        }
    }
}

/// The result of checking an upstream's error response against the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Conformance {
    /// Conforms to the contract: may be forwarded unchanged.
    Conforms,
    /// JSON, but not the documented object, or with a message that may not be sent.
    WrongShape,
    /// Not valid JSON, or the media type is not JSON.
    NotJson,
    /// The status is not in the contract.
    Undocumented,
    /// Larger than [`BODY_LIMIT`].
    TooLarge,
    /// Truncated, or not received in time. Set by the code that reads the body.
    Incomplete,
}

impl Conformance {
    /// All values, for arrays of counters.
    pub const ALL: &'static [Conformance] = &[
        Conformance::Conforms,
        Conformance::WrongShape,
        Conformance::NotJson,
        Conformance::Undocumented,
        Conformance::TooLarge,
        Conformance::Incomplete,
    ];

    /// The stable name, used as metric label and log value.
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

/// A complete error body of an upstream.
#[derive(Clone, Copy, Debug)]
pub struct ErrorBody<'a> {
    /// The status code of the upstream's response.
    pub status: u16,
    /// The raw value of Content-Type; empty if the response has several, because the type is then ambiguous.
    pub media_type: Option<&'a [u8]>,
    /// The body after content decoding.
    pub body: &'a [u8],
}

/// Checks a complete error body against the contract.
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

/// Whether the response to a HEAD request conforms. The caller has checked that its status is documented.
pub fn head_response_conforms(media_type: Option<&[u8]>) -> bool {
    media_type.is_none_or(is_json)
}

/// Parses a text that must be exactly one JSON value. A byte order mark or trailing characters are errors.
pub(super) fn parse_json<'de, T>(
    text: &'de str,
    read: impl FnOnce(&mut serde_json::Deserializer<serde_json::de::StrRead<'de>>) -> serde_json::Result<T>,
) -> Option<T> {
    let mut reader = serde_json::Deserializer::from_str(text);
    let value = read(&mut reader).ok()?;
    reader.end().ok()?;
    Some(value)
}

/// Whether the media type is `application/json`, without a charset or with `charset=utf-8`. Case-insensitive.
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

/// Reads a complete body and returns whether it is the documented object. Only invalid JSON is an error: a wrong shape
/// is read to its end, to distinguish [`Conformance::WrongShape`] from [`Conformance::NotJson`].
struct ErrorBodyVisitor<'c> {
    contract: &'c Contract,
    status: u16,
}

/// The members that a conforming body may have.
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

/// The value of a member. `404.0` and `4.04e2` are numbers but not integer literals, so they are `Other`.
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

/// Skips all elements. serde_json skips [`IgnoredAny`] without recursion.
fn skip_elements<'de, A: SeqAccess<'de>>(mut seq: A) -> Result<(), A::Error> {
    while seq.next_element::<IgnoredAny>()?.is_some() {}
    Ok(())
}

#[cfg(test)]
#[path = "conform_tests.rs"]
mod tests;
