//! An answer of our own that is no error: what may be said below 400. Errors are [`super::reply`]'s alone.

use http::{HeaderName, HeaderValue};

/// A finished answer below 400. A HEAD gets its fields without the body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageResponse {
    /// Below 400.
    pub status: u16,
    /// `Content-Type`.
    pub content_type: &'static str,
    /// All of it; its length is the `Content-Length`.
    pub body: Vec<u8>,
    /// Further fields.
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

impl PageResponse {
    /// A page that no cache keeps: all of ours are about this moment.
    pub fn uncached(content_type: &'static str, body: impl Into<Vec<u8>>) -> Self {
        PageResponse {
            status: 200,
            content_type,
            body: body.into(),
            headers: vec![(http::header::CACHE_CONTROL, HeaderValue::from_static("no-store"))],
        }
    }
}
