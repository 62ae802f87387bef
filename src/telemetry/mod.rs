//! What is counted and logged: numbers for Prometheus, lines for people.
//!
//! This room knows the contract's words (causes, codes) and nothing of requests, configuration or sockets: others tell
//! it what happened. [`definitions`] is the list of every metric; [`metrics`] owns them and renders them; [`route`],
//! [`upstream`] and [`limit`] are the handles that a snapshot keeps, so that counting a request hashes no label. [`log`] writes the
//! lines, [`access_log`] says what one request's line holds.

pub mod access_log;
pub mod close_reason;
pub mod definitions;
pub mod formatter;
mod handle_cache;
pub mod limit;
pub mod log;
pub mod metrics;
pub mod route;
mod sink;
pub mod status_label;
pub mod upstream;

pub use access_log::{AccessLog, AccessRecord, LoggedRequests, Outcome};
pub use close_reason::CloseReason;
pub use limit::{LimitDecision, LimitMetrics, LimitStats, StoreMetrics};
pub use metrics::{CodeLabels, Gauge, GaugeGuard, Metrics};
pub use route::{ResponseOrigin, RouteMetrics};
pub use upstream::UpstreamMetrics;
