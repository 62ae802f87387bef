//! Upstreams: their servers and addresses, load balancing, concurrency limits, and connections.
//!
//! - [`runtime`] holds the state of an upstream, which survives reloads. [`dns`] holds the resolved addresses.
//! - [`balance`] chooses a server; [`concurrency`] limits the requests in flight. Both decide with pure functions.
//! - [`transport`] opens and pools connections; [`http2`] shares HTTP/2 connections among requests.
//! - [`timer`] wraps pingora's timer. Only it and [`transport`] use pingora.

pub(crate) mod balance;
mod candidate;
pub(crate) mod concurrency;
pub(crate) mod dns;
pub(crate) mod http2;
pub(crate) mod runtime;
pub(crate) mod timer;
pub(crate) mod transport;

pub(crate) use candidate::Candidate;
pub(crate) use runtime::UpstreamRuntime;
