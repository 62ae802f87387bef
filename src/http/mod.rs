//! The rules of HTTP that we hold both sides to, as pure functions on the bytes of heads.
//!
//! This room knows no socket, clock, runtime or configuration, and chooses no status: it says *what is wrong* with a
//! head as a [`Rejection`], and what a good one means as facts. Everything here runs before the codec parses anything,
//! and is stricter than it: whatever passes here is read in one way only, by us, by the codec and by the upstream.
//!
//! In the order of a request: [`request_scanner`] (is it whole? can it still become a head?), [`request_head`] (what does it
//! say?), with [`target`], [`authority`] and [`framing`] for its parts; [`path`] (how routes see it); [`forwarded`]
//! (who the client is); [`selectors`] (one named value of a request); [`hop_by_hop`] (what must not travel on); [`upgrade`] (what
//! may, where both sides agree); [`response_head`] and [`media_type`] for the way back; [`cors`]
//! and [`origin`] (whose pages may read it), with [`partial_request`] where there is nothing but a refusal to read.
//! [`ascii_class`] holds the character tables; [`h2_frame`] tells the frames of HTTP/2 apart, for who watches them pass.

pub mod accept_encoding;
pub mod ascii_class;
pub(crate) mod authentication;
pub mod authority;
pub mod body_decoder;
pub mod cors;
pub mod forwarded;
pub mod framing;
pub mod h2_frame;
pub mod hop_by_hop;
pub mod media_type;
pub mod origin;
pub mod partial_request;
pub mod path;
mod request_fields;
pub mod request_head;
pub mod request_scanner;
pub mod response_framer;
pub mod response_head;
pub mod selectors;
pub mod target;
pub mod upgrade;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::string_slice, clippy::panic)]
mod property_tests;

use crate::contract::Cause;

/// Most fields in one head. The codec reads 256 and fails on the 257th; so do we, with a cause.
pub const MAX_FIELDS: usize = 256;

/// Why a client's head is not served: the cause that is answered, and a fixed sentence for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// What the client is told, through the contract.
    pub cause: Cause,
    /// What the log is told. Never a byte of the request.
    pub evidence: &'static str,
}

impl Rejection {
    /// A refusal of this cause.
    pub const fn new(cause: Cause, evidence: &'static str) -> Self {
        Rejection { cause, evidence }
    }
}
