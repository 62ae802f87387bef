//! Checks whether an upstream's error body conforms to the contract ([`check_conformance`]).
//!
//! Parsing is strict: JSON that parsers could interpret differently is rejected. The check does not change the body and
//! does not choose a code (see [`super::policy`]). Content coding is removed before (see [`super::decode`]), and
//! [`super::extract`] extracts the message of a body that does not conform.
//!
//! The contract's [`template`](super::template) has the form of a body.

use http::HeaderValue;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::code::Contract;
use super::json::{self, ReadError, Value};

/// Size limit of an error body, in bytes after content decoding.
pub(crate) const BODY_LIMIT: usize = 64 * 1024;

/// For which errors the upstream's message may be sent to the client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UpstreamMessages {
    /// Errors that the upstream sent with a 4xx code and the client receives with one.
    #[default]
    ClientErrors,
    /// All errors, 5xx included. Use it only if upstream messages never contain internal details.
    All,
    /// No errors.
    None,
}

impl UpstreamMessages {
    /// Whether a message that the upstream sent with one status may be sent with another.
    pub const fn allowed(self, upstream_status: u16, status_sent: u16) -> bool {
        match self {
            UpstreamMessages::ClientErrors => upstream_status < 500 && status_sent < 500,
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
    /// Of the documented form, but with a message that may not be sent (`errors.upstream_messages`): no fault of the
    /// upstream, and by default so for every 5xx.
    MessageWithheld,
    /// JSON, but not the documented object.
    WrongShape,
    /// Not valid JSON, or the media type is not JSON.
    NotJson,
    /// The status is not in the contract.
    Undocumented,
    /// Larger than [`BODY_LIMIT`].
    TooLarge,
    /// Not read: the error bodies that are buffered at once use up their 32 MiB. No fault of the upstream. Set by the
    /// code that reads the body.
    BuffersFull,
    /// Truncated, or not received in time. Set by the code that reads the body.
    Incomplete,
}

impl Conformance {
    /// All values, for arrays of counters.
    pub const ALL: &'static [Conformance] = &[
        Conformance::Conforms,
        Conformance::MessageWithheld,
        Conformance::WrongShape,
        Conformance::NotJson,
        Conformance::Undocumented,
        Conformance::TooLarge,
        Conformance::BuffersFull,
        Conformance::Incomplete,
    ];

    /// The stable name, used as metric label and log value.
    pub const fn label(self) -> &'static str {
        match self {
            Conformance::Conforms => "conforms",
            Conformance::MessageWithheld => "message_withheld",
            Conformance::WrongShape => "wrong_shape",
            Conformance::NotJson => "not_json",
            Conformance::Undocumented => "undocumented",
            Conformance::TooLarge => "too_large",
            Conformance::BuffersFull => "buffers_full",
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
    check_body(contract, error, messages).map_or_else(|conformance| conformance, |_| Conformance::Conforms)
}

/// Checks a complete error body against the contract.
///
/// # Errors
/// Why it does not conform.
pub(crate) fn check_body<'t>(
    contract: &Contract,
    error: &ErrorBody<'t>,
    messages: UpstreamMessages,
) -> Result<ConformingError<'t>, Conformance> {
    if contract.code(error.status).is_none() {
        return Err(Conformance::Undocumented);
    }
    if error.body.len() > BODY_LIMIT {
        return Err(Conformance::TooLarge);
    }
    if !error.media_type.is_some_and(|media_type| is_media_type(media_type, contract.media_type())) {
        return Err(Conformance::NotJson);
    }
    let text = std::str::from_utf8(error.body).map_err(|_| Conformance::NotJson)?;
    let value = json::read(text).map_err(|problem| match problem {
        ReadError::Syntax => Conformance::NotJson,
        ReadError::DuplicateMember | ReadError::TooDeep => not_conforming(text),
    })?;
    if !contract.template().conforms(&value, error.status, contract.allowed_types()) {
        return Err(Conformance::WrongShape);
    }
    if !messages.allowed(error.status, error.status) {
        return Err(Conformance::MessageWithheld);
    }
    Ok(ConformingError { text, value })
}

/// A conforming body that has been read.
#[derive(Clone, Debug)]
pub(crate) struct ConformingError<'t> {
    /// The body.
    pub text: &'t str,
    /// What it says.
    pub value: Value<'t>,
}

/// The result for a text that was not read to its end. serde_json skips ignored values without recursion.
fn not_conforming(text: &str) -> Conformance {
    match serde_json::from_str::<IgnoredAny>(text) {
        Ok(_) => Conformance::WrongShape,
        Err(_) => Conformance::NotJson,
    }
}

/// Checks the response to a HEAD request, which has no body.
pub(crate) fn check_head_response(
    contract: &Contract,
    status: u16,
    media_type: Option<&[u8]>,
    messages: UpstreamMessages,
) -> Conformance {
    if contract.code(status).is_none() {
        Conformance::Undocumented
    } else if !media_type.is_none_or(|media_type| is_media_type(media_type, contract.media_type())) {
        Conformance::WrongShape
    } else if status >= 500 && messages != UpstreamMessages::All {
        Conformance::MessageWithheld
    } else {
        Conformance::Conforms
    }
}

/// Whether a Content-Type is the contract's, without a charset or with `charset=utf-8`. Case-insensitive.
fn is_media_type(value: &[u8], expected: &HeaderValue) -> bool {
    let mut parts = value.split(|&b| b == b';').map(<[u8]>::trim_ascii);
    let essence = parts.next().unwrap_or_default();
    let expected = expected.as_bytes().split(|&b| b == b';').next().unwrap_or_default().trim_ascii();
    essence.eq_ignore_ascii_case(expected)
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

#[cfg(test)]
#[path = "conform_tests.rs"]
mod tests;
