//! What a route can respond with below 400, where no contract applies: a redirect, or a fixed response.

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderValue;

/// The status of a redirect, which is below 400 and therefore needs no contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RedirectStatus(u16);

impl RedirectStatus {
    /// The status with this code; `None` if it is not a redirect to another location.
    pub(crate) const fn from_code(code: u16) -> Option<RedirectStatus> {
        if matches!(code, 301..=303 | 307 | 308) { Some(RedirectStatus(code)) } else { None }
    }

    /// The status code.
    pub const fn code(self) -> u16 {
        self.0
    }
}

/// The registered phrase, shared. A client must not depend on it; it may be empty (RFC 9112 4).
pub(super) fn shared_reason(status: u16) -> Arc<str> {
    let registered = http::StatusCode::from_u16(status).ok().and_then(|code| code.canonical_reason());
    Arc::from(registered.unwrap_or_default())
}

/// The status of a fixed response: 200 to 399, except those of a redirect, whose target only `redirect` keeps safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FixedStatus(u16);

impl FixedStatus {
    /// The status with this code; `None` for redirects and outside 200 to 399.
    pub(crate) const fn from_code(code: u16) -> Option<FixedStatus> {
        let allowed = matches!(code, 200..=399) && RedirectStatus::from_code(code).is_none();
        if allowed { Some(FixedStatus(code)) } else { None }
    }

    /// The status code.
    pub const fn code(self) -> u16 {
        self.0
    }

    /// Whether such a response may have a body (RFC 9110, sections 15.3.5, 15.3.6 and 15.4.5).
    pub(crate) const fn allows_body(self) -> bool {
        !matches!(self.0, 204 | 205 | 304)
    }

    /// Whether such a response has Content-Length (RFC 9110 8.6). In a 304 it would be that of another response.
    pub(crate) const fn has_length(self) -> bool {
        !matches!(self.0, 204 | 304)
    }
}

/// The response that a route declares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FixedResponse {
    status: FixedStatus,
    reason: Arc<str>,
    body: Bytes,
    media_type: Option<HeaderValue>,
}

impl FixedResponse {
    /// A response without a body.
    pub fn empty(status: FixedStatus) -> FixedResponse {
        let reason = shared_reason(status.code());
        FixedResponse { status, reason, body: Bytes::new(), media_type: None }
    }

    /// This response with a body of this media type.
    #[must_use]
    pub(crate) fn with_body(self, body: String, media_type: HeaderValue) -> FixedResponse {
        FixedResponse { body: Bytes::from(body), media_type: Some(media_type), ..self }
    }

    /// The status.
    pub const fn status(&self) -> FixedStatus {
        self.status
    }

    /// The body; empty without one.
    pub const fn body(&self) -> &Bytes {
        &self.body
    }

    /// The media type of the body.
    pub const fn media_type(&self) -> Option<&HeaderValue> {
        self.media_type.as_ref()
    }

    pub(crate) fn shared_reason(&self) -> Arc<str> {
        Arc::clone(&self.reason)
    }
}
