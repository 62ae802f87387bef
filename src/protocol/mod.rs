//! The rules of HTTP that we hold both sides to, as pure functions on the bytes of heads.
//!
//! This room knows no socket, clock, runtime or configuration, and chooses no status: it says *what is wrong* with a
//! head as a [`Rejection`], and what a good one means as facts. Everything here runs before the codec parses anything,
//! and is stricter than it: whatever passes here is read in one way only, by us, by the codec and by the upstream.
//!
//! In the order of a request: [`raw_head`] (is it whole? can it still become a head?), [`request_head`] (what does it
//! say?), with [`target`], [`authority`] and [`framing`] for its parts; [`path`] (how routes see it); [`forwarded`]
//! (who the client is); [`member`] (one named value of a request); [`hop`] (what must not travel on); [`upgrade`] (what
//! may, where both sides agree); [`response_head`] and [`media`] for the way back; [`cors`]
//! and [`origin`] (whose pages may read it), with [`torn_head`] where there is nothing but a refusal to read.
//! [`octets`] holds the character tables; [`frame`] tells the frames of HTTP/2 apart, for who watches them pass.

pub mod accept;
pub(crate) mod authentication;
pub mod authority;
pub mod body;
pub mod cors;
pub mod forwarded;
pub mod frame;
pub mod framing;
pub mod hop;
pub mod media;
pub mod member;
pub mod octets;
pub mod origin;
pub mod path;
pub mod raw_head;
mod request_fields;
pub mod request_head;
pub mod response_head;
pub mod response_scan;
pub mod target;
pub mod torn_head;
pub mod upgrade;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::string_slice, clippy::panic)]
mod properties;

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
