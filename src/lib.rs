//! A reverse proxy that keeps an API's error contract. Read the modules in this order:
//!
//! 1. [`contract`]: the error contract and the error policy, which maps a fault to a decision and a reply. Pure.
//! 2. [`http`]: the rules of HTTP that both sides must follow. Pure functions on header sections.
//! 3. [`limit`]: rate limits. Pure. [`limit::redis`]: rate limits that several gateways share in Redis.
//! 4. [`tls`]: certificates, their verification, and encrypted streams.
//! 5. [`upstream`]: servers, name resolution and connections.
//! 6. [`config`]: the validated configuration.
//! 7. [`telemetry`]: metrics and logs.
//! 8. [`snapshot`]: the immutable state that requests use, behind one pointer.
//! 9. [`proxy`]: the request path, step by step. Start at `proxy/request.rs`.
//! 10. [`admin`]: the telemetry endpoints, as pure functions.
//! 11. [`conformance`]: the faulty upstream and the faulty client, for `demo`, `verify` and the tests.
//! 12. [`server`]: sockets, threads, signals. [`cli`]: one file per command.
//!
//! Modules import only from modules above them; `tests/architecture.rs` enforces the layers.

pub(crate) mod admin;
pub mod cli;
pub mod config;
pub mod conformance;
pub mod contract;
#[cfg(test)]
#[path = "generated_files_tests.rs"]
mod generated_files;
pub mod http;
pub mod limit;
pub(crate) mod proxy;
pub(crate) mod server;
pub mod snapshot;
pub mod telemetry;
pub(crate) mod tls;
pub(crate) mod upstream;
