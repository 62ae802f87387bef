//! Upstreams: their servers and addresses, load balancing, concurrency limits, and connections.
//!
//! - [`runtime`] holds the state of an upstream, which survives reloads. [`dns`] holds the resolved addresses.
//! - [`balance`] chooses a server; [`concurrency`] limits the requests in flight. Both decide with pure functions.
//! - [`transport`] opens and pools connections; [`http2`] shares HTTP/2 connections among requests.
//! - [`timer`] wraps pingora's timer. Only it and [`transport`] use pingora.

#[allow(dead_code, reason = "used by the request path next")]
pub(crate) mod address_order;
#[allow(dead_code, reason = "used by the request path next")]
pub(crate) mod balance;
#[allow(dead_code, reason = "used by the request path next")]
pub(crate) mod breaker;
mod candidate;
pub(crate) mod concurrency;
pub(crate) mod dns;
#[allow(dead_code, reason = "used by the request path next")]
pub(crate) mod ejection;
#[allow(dead_code, reason = "used by the request path next")]
pub(crate) mod health;
pub(crate) mod http2;
#[allow(dead_code, reason = "used by the request path next")]
pub(crate) mod outcome_window;
#[allow(dead_code, reason = "used by the request path next")]
pub(crate) mod retry_budget;
pub(crate) mod runtime;
pub(crate) mod timer;
pub(crate) mod transport;

pub(crate) use candidate::Candidate;
pub(crate) use runtime::UpstreamRuntime;
