//! The process around the request path: sockets, threads, background tasks, signals and shutdown.
//!
//! [`boot`] runs the process from a validated configuration to its exit. [`listen`] binds sockets and [`accept`]
//! accepts connections within [`fd_budget`]; [`certificates`] logs problems with certificates and [`problem_log`] those
//! of the configuration; [`tasks`] run in the background; [`signals`] are received; [`reload`] applies a new
//! configuration and [`drain`] shuts down. Requests are handled in [`crate::proxy`].

pub(crate) mod accept;
pub(crate) mod boot;
pub(crate) mod certificates;
pub(crate) mod drain;
pub(crate) mod fd_budget;
pub(crate) mod health_checks;
mod listen;
mod problem_log;
pub(crate) mod reload;
pub(crate) mod signals;
pub(crate) mod tasks;
mod unix_socket;
