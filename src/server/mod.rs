//! The process around the request path: sockets, threads, background tasks, signals and shutdown.
//!
//! [`boot`] runs the process from a validated configuration to its exit. [`listen`] binds sockets and [`accept`]
//! accepts connections within [`fd_budget`]; [`certificates`] logs problems with certificates; [`tasks`] run in the
//! background; [`reload`] applies a new configuration and [`drain`] shuts down. Requests are handled in
//! [`crate::proxy`].

pub mod accept;
pub mod boot;
pub mod certificates;
pub mod drain;
pub mod fd_budget;
pub mod listen;
pub mod reload;
pub mod tasks;
