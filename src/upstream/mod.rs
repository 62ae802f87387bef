//! Upstreams: their servers and addresses, load balancing, concurrency limits, and connections.
//!
//! - [`runtime`] holds the state of an upstream, which survives reloads. [`dns`] holds the resolved addresses.
//! - [`balance`] chooses a server; [`concurrency`] limits the requests in flight. Both decide with pure functions.
//! - [`transport`] opens and pools connections; [`http2`] shares HTTP/2 connections among requests.
//! - [`timer`] wraps pingora's timer. Only it and [`transport`] use pingora.

pub mod balance;
pub mod concurrency;
pub mod dns;
pub mod http2;
pub mod runtime;
pub mod timer;
pub mod transport;

pub use runtime::{Candidate, UpstreamRuntime};
