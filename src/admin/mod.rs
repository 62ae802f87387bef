//! The administrative endpoints, as pure functions from a request to a [`PageResponse`] or a fault.
//!
//! [`crate::proxy`] passes method and path and sends the result. A page is never an error response: errors are a
//! [`Fault`](crate::contract::Fault), sent like any other local reply. [`telemetry`] serves Prometheus and probes.

pub(crate) mod telemetry;

pub(crate) use crate::contract::PageResponse;
