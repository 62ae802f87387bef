//! The process around the request path: sockets, threads, background tasks, signals and the end.
//!
//! [`boot`] is the story from a checked configuration to an orderly exit; [`listen`] binds, [`tasks`] runs beside the
//! requests, [`drain`] is how it ends. Nothing here looks into a request.

pub mod boot;
pub mod drain;
pub mod limits;
pub mod listen;
pub mod tasks;
