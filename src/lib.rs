//! The map of the house. Read it in this order:
//!
//! 1. [`contract`]: what we promise. A fault becomes a ruling, a ruling becomes a reply. Pure.
//! 2. [`http`]: the rules of HTTP that we hold both sides to. Pure functions on heads.
//! 3. [`limit`]: how much is allowed: rate limits. Pure. [`limit::redis`]: counts that several gateways share, in Redis.
//! 4. [`tls`]: certificates, who is shown them, whom we trust, and encrypted streams.
//! 5. [`upstream`]: who answers: servers, names, connections.
//! 6. [`config`]: what the operator said, checked.
//! 7. [`telemetry`]: what is counted and logged.
//! 8. [`snapshot`]: what one request needs, immutable, behind one pointer.
//! 9. [`proxy`]: the request path, a straight line. Start at `proxy/request.rs`.
//! 10. [`admin`]: the telemetry endpoints, as pure functions.
//! 11. [`conformance`]: the misbehaving upstream and client; used by `demo`, `conformance` and by the tests.
//! 12. [`server`]: sockets, threads, signals. [`cli`]: one file per command.
//!
//! Imports point down this list's layers and never back; `tests/architecture.rs` holds that.

pub mod admin;
pub mod cli;
pub mod config;
pub mod conformance;
pub mod contract;
pub mod http;
pub mod limit;
pub mod proxy;
pub mod server;
pub mod snapshot;
pub mod telemetry;
pub mod tls;
pub mod upstream;
