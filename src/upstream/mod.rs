//! Upstreams: their servers and addresses, load balancing, concurrency limits, and connections.
//!
//! - [`runtime`] holds the state of an upstream, which survives reloads: its servers, their addresses ([`endpoint`]),
//!   and the breaker ([`shared_breaker`]).
//! - Pure functions decide: [`balance`] and [`address_order`] choose, [`ejection`], [`health`] and [`breaker`] exclude,
//!   [`retry_budget`] limits retries, [`concurrency`] limits the requests in flight.
//! - [`resolver`] looks up names in the background.
//! - [`transport`] opens and pools connections; [`http2`] shares HTTP/2 connections among requests.
//! - [`timer`] wraps pingora's timer. Only it and [`transport`] use pingora.

pub(crate) mod address_order;
pub(crate) mod attempt_window;
pub(crate) mod balance;
pub(crate) mod breaker;
mod candidate;
pub(crate) mod concurrency;
pub(crate) mod ejection;
pub(crate) mod endpoint;
pub(crate) mod health;
pub(crate) mod health_check;
pub(crate) mod http2;
pub(crate) mod idle_pool;
pub(crate) mod resolver;
pub(crate) mod retry_budget;
pub(crate) mod runtime;
mod server;
pub(crate) mod settings;
pub(crate) mod shared_breaker;
pub(crate) mod timer;
pub(crate) mod transport;

pub(crate) use candidate::Candidate;
pub(crate) use runtime::UpstreamRuntime;
pub(crate) use server::ServerState;
