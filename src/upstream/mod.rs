//! Upstreams: their servers and addresses, load balancing, concurrency limits, and connections.
//!
//! - [`runtime`] holds the state of an upstream, which survives reloads: its servers, their addresses ([`endpoint`]), and
//!   the breaker ([`shared_breaker`]).
//! - Pure functions decide: [`balance`] and [`address_order`] choose, [`ejection`], [`health`] and [`breaker`] exclude,
//!   [`retry_budget`] limits retries, [`concurrency`] limits the requests in flight.
//! - [`transport`] opens and pools connections; [`http2`] shares HTTP/2 connections among requests.
//! - [`timer`] wraps pingora's timer. Only it and [`transport`] use pingora.

pub(crate) mod address_order;
pub(crate) mod balance;
#[allow(dead_code, reason = "used by configuration and metrics next")]
pub(crate) mod breaker;
mod candidate;
pub(crate) mod concurrency;
pub(crate) mod ejection;
#[allow(dead_code, reason = "used by configuration and metrics next")]
pub(crate) mod endpoint;
#[allow(dead_code, reason = "used by configuration and metrics next")]
pub(crate) mod health;
pub(crate) mod http2;
mod idle_pool;
pub(crate) mod outcome_window;
pub(crate) mod retry_budget;
#[allow(dead_code, reason = "used by configuration and metrics next")]
pub(crate) mod runtime;
#[allow(dead_code, reason = "used by configuration and metrics next")]
mod server;
#[allow(dead_code, reason = "used by configuration and metrics next")]
pub(crate) mod settings;
#[allow(dead_code, reason = "used by configuration and metrics next")]
pub(crate) mod shared_breaker;
pub(crate) mod timer;
pub(crate) mod transport;

pub(crate) use candidate::Candidate;
pub(crate) use runtime::UpstreamRuntime;
pub(crate) use server::ServerState;
