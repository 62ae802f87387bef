//! What is counted and logged: numbers for Prometheus, lines for people.
//!
//! This room knows the contract's words (causes, codes) and nothing of requests, configuration or sockets: others tell
//! it what happened. [`names`] is the list of every metric; [`metrics`] owns them and renders them; [`route`],
//! [`upstream`] and [`limit`] are the handles that a snapshot keeps, so that counting a request hashes no label. [`log`] writes the
//! lines, [`access`] says what one request's line holds.

pub mod access;
mod cells;
pub mod limit;
pub mod line;
pub mod log;
pub mod metrics;
pub mod names;
pub mod route;
pub mod silence;
mod sink;
pub mod status;
pub mod upstream;

pub use access::{AccessLog, AccessRecord, LoggedRequests, Outcome};
pub use limit::{LimitDecision, LimitMetrics, LimitStats, StoreMetrics};
pub use metrics::{CodeLabels, Gauge, GaugeGuard, Metrics};
pub use route::{ResponseOrigin, RouteMetrics};
pub use silence::CloseReason;
pub use upstream::UpstreamMetrics;
