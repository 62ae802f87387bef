//! Metrics and the access log.
//!
//! [`definitions`] is the table of all metrics; [`metrics`] owns and renders them. [`route`], [`upstream`] and
//! [`limit`] hold the handles that a snapshot resolves, so that counting a request hashes no labels. [`log`] writes log
//! lines, [`access_log`] defines the line of a request.
//!
//! This room depends on the contract's causes and codes, not on requests, configuration or sockets: callers pass the
//! facts.

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
