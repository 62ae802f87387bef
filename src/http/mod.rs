//! HTTP message validation and parsing, as pure functions on bytes.
//!
//! This module does not use sockets, the clock, the async runtime or the configuration, and does not choose status
//! codes: an invalid request gives a [`Rejection`] with a cause. Validation runs before the codec parses a message and
//! is stricter than the codec, so that the gateway, the codec and the upstream interpret every accepted message
//! identically.
//!
//! In the order of a request: [`request_scanner`] (finds the end of the header section), [`request_head`] (parses it),
//! with [`target`], [`authority`] and [`framing`]; [`path`] (normalises it for routing); [`forwarded`] (client address)
//! and [`reported_origin`] (its scheme, host and port); [`selectors`] (values for rate-limit keys); [`hop_by_hop`]
//! (fields to remove); [`upgrade`] (protocol switches); [`response_framer`], [`response_head`] and [`media_type`]
//! (responses); [`body_decoder`] (bodies); [`cors`] and [`origin`] (CORS). [`partial_request`] parses rejected requests
//! as far as possible. [`ascii_class`] has the character tables, and [`h2_frame`] splits HTTP/2 byte streams into
//! frames.

pub(crate) mod accept;
pub(crate) mod accept_encoding;
pub(crate) mod ascii_class;
pub(crate) mod authentication;
pub(crate) mod authority;
pub(crate) mod base_path;
pub mod body_decoder;
pub(crate) mod cors;
pub(crate) mod forwarded;
pub mod framing;
pub(crate) mod h2_frame;
pub(crate) mod header_edits;
pub(crate) mod hop_by_hop;
pub(crate) mod media_type;
pub(crate) mod origin;
pub(crate) mod partial_request;
pub(crate) mod path;
pub(crate) mod path_pattern;
pub(crate) mod path_rewrite;
pub(crate) mod peer;
pub mod proxy_protocol;
pub(crate) mod reason_phrase;
pub(crate) mod reported_origin;
mod request_fields;
pub mod request_head;
pub mod request_scanner;
pub mod response_framer;
pub mod response_head;
pub mod route_conditions;
pub(crate) mod selectors;
pub(crate) mod target;
pub(crate) mod trace_context;
pub(crate) mod upgrade;
pub(crate) mod value_template;
mod version;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::string_slice, clippy::panic)]
mod property_tests;

use crate::contract::Cause;

/// Why a request is rejected: the cause, and a constant text for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// The cause, which the error policy maps to a response.
    pub cause: Cause,
    /// The text for the log. Never contains bytes of the request.
    pub evidence: &'static str,
}

impl Rejection {
    /// Creates a rejection with this cause.
    pub const fn new(cause: Cause, evidence: &'static str) -> Self {
        Rejection { cause, evidence }
    }
}
