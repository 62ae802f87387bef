//! The endpoints beside the gateway, as pure functions from a request to a [`Page`] or a fault.
//!
//! Nothing here reads a socket or writes one: the exchange hands over method and path, and sends what comes back. A page
//! is never an error; what cannot be shown is a [`Fault`](crate::contract::Fault) and leaves through the same door as
//! the gateway's own. [`telemetry`] is what Prometheus and probes ask.

pub mod telemetry;

use http::{HeaderName, HeaderValue};

/// A finished answer below 400. A HEAD gets its fields without the body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Below 400.
    pub status: u16,
    /// `Content-Type`.
    pub content_type: &'static str,
    /// All of it; its length is the `Content-Length`.
    pub body: Vec<u8>,
    /// Further fields.
    pub fields: Vec<(HeaderName, HeaderValue)>,
}

impl Page {
    /// A page that no cache keeps: all of ours are about this moment.
    pub fn now(content_type: &'static str, body: impl Into<Vec<u8>>) -> Self {
        Page {
            status: 200,
            content_type,
            body: body.into(),
            fields: vec![(http::header::CACHE_CONTROL, HeaderValue::from_static("no-store"))],
        }
    }
}
