//! Metrics and the access log.
//!
//! [`definitions`] is the table of all metrics; [`metrics`] owns and renders them, [`vectors`] registers them.
//! [`route`], [`upstream`] and [`limit`] hold the handles that a snapshot resolves, so that counting a request hashes
//! no labels; [`series_names`] removes the series of what a reload removed. [`log`] writes log lines, [`access_log`]
//! defines the line of a request, [`log_sampler`] thins out the lines of a storm.
//!
//! This module depends on the contract's causes and codes, not on requests, configuration or sockets: callers pass the
//! facts.

pub(crate) mod access_log;
pub(crate) mod close_reason;
pub mod definitions;
pub(crate) mod formatter;
mod handle_cache;
pub(crate) mod limit;
pub(crate) mod log;
pub(crate) mod log_sampler;
pub(crate) mod metrics;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod metrics_page_tests;
pub(crate) mod route;
mod series_names;
mod sink;
pub(crate) mod status_label;
pub(crate) mod upstream;
mod vectors;

pub(crate) use access_log::{AccessLog, AccessRecord, LoggedRequests, RequestOutcome};
pub(crate) use close_reason::CloseReason;
pub(crate) use limit::{BackendMetrics, LimitDecision, LimitMetrics, LimitStats};
pub(crate) use log_sampler::LogSampler;
pub(crate) use metrics::Metrics;
pub(crate) use route::{ResponseOrigin, RouteMetrics};
pub(crate) use series_names::SeriesName;
pub(crate) use status_label::CodeLabels;
pub(crate) use upstream::UpstreamMetrics;
pub(crate) use vectors::{Gauge, GaugeGuard};
