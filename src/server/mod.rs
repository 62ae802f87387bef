//! The process around the request path: sockets, threads, background tasks, signals and the end.
//!
//! [`boot`] is the story from a checked configuration to an orderly exit; [`listen`] binds and [`accept`] accepts within
//! [`fd_budget`] with [`certificates`], [`tasks`] runs beside the requests, [`reload`] is how the configuration changes and [`drain`] how it ends.
//! Nothing here looks into a request.

pub mod accept;
pub mod boot;
pub mod certificates;
pub mod drain;
pub mod fd_budget;
pub mod listen;
pub mod reload;
pub mod tasks;
