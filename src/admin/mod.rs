//! The endpoints beside the gateway, as pure functions from a request to a [`PageResponse`] or a fault.
//!
//! Nothing here reads a socket or writes one: the exchange hands over method and path, and sends what comes back. A page
//! is never an error; what cannot be shown is a [`Fault`](crate::contract::Fault) and leaves through the same door as
//! the gateway's own. [`telemetry`] is what Prometheus and probes ask.

pub mod telemetry;

pub use crate::contract::PageResponse;
