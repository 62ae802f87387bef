//! Local responses with a status below 400, such as admin pages. [`super::reply`] builds all error responses.

use http::{HeaderName, HeaderValue};

/// A complete local response with a status below 400. For a HEAD request the sender omits the body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageResponse {
    /// The status code, below 400.
    pub status: u16,
    /// `Content-Type`.
    pub content_type: &'static str,
    /// The complete body; its length is the `Content-Length`.
    pub body: Vec<u8>,
    /// Additional header fields.
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

impl PageResponse {
    /// Creates a 200 response with `Cache-Control: no-store`, because pages show the current state.
    pub(crate) fn uncached(content_type: &'static str, body: impl Into<Vec<u8>>) -> Self {
        PageResponse {
            status: 200,
            content_type,
            body: body.into(),
            headers: vec![(http::header::CACHE_CONTROL, HeaderValue::from_static("no-store"))],
        }
    }
}
