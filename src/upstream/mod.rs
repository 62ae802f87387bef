//! Who answers: the servers of an upstream, their addresses, the choice among them, and the connections to them.
//!
//! Decisions ([`balance`], [`concurrency`]) are pure; [`dns`] holds what names resolved to; [`runtime`] is what lives
//! as long as the upstream does; [`transport`] and [`timer`] are the files here that speak to
//! pingora. None of them knows a
//! request's fields or what a client is answered.

pub mod balance;
pub mod concurrency;
pub mod dns;
pub mod http2;
pub mod runtime;
pub mod timer;
pub mod transport;

pub use runtime::{Candidate, UpstreamRuntime};
