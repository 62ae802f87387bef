//! The metrics of the process: one registry, one vector per row of [`super::definitions`], rendered in Prometheus' text
//! format.
//!
//! Handles ([`RouteMetrics`], [`UpstreamMetrics`]) are resolved once, when a snapshot is built. Events without a route
//! or an upstream are counted here. The `admin` room serves the page.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus::core::Collector;
use prometheus::process_collector::ProcessCollector;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

use super::close_reason::{CLIENT_GONE, CloseReason, TUNNEL_IDLE};
use super::definitions::{self, MetricDefinition, MetricKind};
use super::limit::LimitSource;
use super::log::DroppedLines;
use super::route::RouteMetrics;
use super::status_label::StatusLabels;
use super::upstream::UpstreamMetrics;
use crate::contract::{Cause, Contract};

/// The `Content-Type` of [`Metrics::render`].
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All metrics of the process. Counters survive a reload.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    pub(super) vectors: Arc<Vectors>,
    aborted: Vec<IntCounter>,
    aborted_client_gone: IntCounter,
    aborted_tunnel_idle: IntCounter,
    closes: Vec<IntCounter>,
    overhead: Histogram,
    connections: IntGaugeVec,
    concurrency_limits: IntGaugeVec,
    reloads: [IntCounter; 2],
    reload_successful: IntGauge,
    reload_time: IntGauge,
    log_dropped: [IntCounter; 2],
    dropped_log_lines: Mutex<Option<DroppedLines>>,
    pub(super) limits: Mutex<Vec<LimitSource>>,
    /// Panics caught around a request.
    pub panics: IntCounter,
}

/// The vectors from which routes and upstreams resolve their handles.
#[derive(Debug)]
pub(crate) struct Vectors {
    pub(crate) responses: IntCounterVec,
    pub(crate) errors: IntCounterVec,
    pub(crate) disconnects: IntCounterVec,
    pub(crate) would_replace: IntCounterVec,
    pub(crate) grpc_errors: IntCounterVec,
    pub(crate) duration: HistogramVec,
    pub(crate) conformance: IntCounterVec,
    pub(crate) in_flight: IntGaugeVec,
    pub(crate) queued: IntGaugeVec,
    pub(crate) attempts: IntCounterVec,
    pub(crate) retries: IntCounterVec,
    pub(crate) phases: HistogramVec,
    pub(crate) upstream_connections: IntCounterVec,
    pub(crate) limit_decisions: IntCounterVec,
    pub(crate) limit_keys: IntGaugeVec,
    pub(crate) limit_evictions: IntCounterVec,
    pub(crate) shed: IntCounterVec,
    pub(crate) store_duration: HistogramVec,
    pub(crate) store_errors: IntCounterVec,
}

/// The labels that a contract determines: which codes are exported from the start, and which status codes have their
/// own label value. A reload may change the contract; series counted under the old one remain.
#[derive(Debug)]
pub(crate) struct CodeLabels {
    pub(crate) documented: Vec<u16>,
    pub(crate) statuses: StatusLabels,
}

impl CodeLabels {
    /// The labels for the codes of `contract`.
    pub(crate) fn for_contract(contract: &Contract) -> Arc<Self> {
        let documented: Vec<u16> = contract.codes().iter().map(|entry| entry.code().status()).collect();
        Arc::new(CodeLabels { statuses: StatusLabels::new(documented.iter().copied()), documented })
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Metrics::new()
    }
}

impl Metrics {
    /// Creates and registers all metrics with the value 0.
    pub(crate) fn new() -> Self {
        let registry = Registry::new();
        let vectors = Arc::new(Vectors {
            responses: counters(&registry, &definitions::RESPONSES),
            errors: counters(&registry, &definitions::ERRORS),
            disconnects: counters(&registry, &definitions::DISCONNECTS),
            would_replace: counters(&registry, &definitions::WOULD_REPLACE),
            grpc_errors: counters(&registry, &definitions::GRPC_ERRORS),
            duration: histograms(&registry, &definitions::DURATION),
            conformance: counters(&registry, &definitions::CONFORMANCE),
            in_flight: gauges(&registry, &definitions::IN_FLIGHT),
            queued: gauges(&registry, &definitions::QUEUED),
            attempts: counters(&registry, &definitions::ATTEMPTS),
            retries: counters(&registry, &definitions::RETRIES),
            phases: histograms(&registry, &definitions::PHASES),
            upstream_connections: counters(&registry, &definitions::UPSTREAM_CONNECTIONS),
            limit_decisions: counters(&registry, &definitions::LIMIT_DECISIONS),
            limit_keys: gauges(&registry, &definitions::LIMIT_KEYS),
            limit_evictions: counters(&registry, &definitions::LIMIT_EVICTIONS),
            shed: counters(&registry, &definitions::SHED),
            store_duration: histograms(&registry, &definitions::STORE_DURATION),
            store_errors: counters(&registry, &definitions::STORE_ERRORS),
        });
        let aborted = counters(&registry, &definitions::ABORTED);
        let closes = counters(&registry, &definitions::CLOSED_WITHOUT_RESPONSE);
        let reloads = counters(&registry, &definitions::RELOADS);
        let log_dropped = counters(&registry, &definitions::LOG_DROPPED);
        let version = [env!("CARGO_PKG_VERSION"), option_env!("STATUSQUO_REVISION").unwrap_or("unknown")];
        gauges(&registry, &definitions::BUILD_INFO).with_label_values(&version).set(1);
        register_process_metrics(&registry);
        Metrics {
            vectors,
            aborted: Cause::ALL.iter().map(|cause| aborted.with_label_values(&[cause.name()])).collect(),
            aborted_client_gone: aborted.with_label_values(&[CLIENT_GONE]),
            aborted_tunnel_idle: aborted.with_label_values(&[TUNNEL_IDLE]),
            closes: CloseReason::ALL
                .iter()
                .map(|reason| closes.with_label_values(&[reason.name()]))
                .collect(),
            overhead: histograms(&registry, &definitions::OVERHEAD).with_label_values::<&str>(&[]),
            connections: gauges(&registry, &definitions::CONNECTIONS),
            concurrency_limits: gauges(&registry, &definitions::CONCURRENCY_LIMIT),
            reloads: ["applied", "refused"].map(|result| reloads.with_label_values(&[result])),
            reload_successful: gauges(&registry, &definitions::RELOAD_SUCCESSFUL)
                .with_label_values::<&str>(&[]),
            reload_time: gauges(&registry, &definitions::RELOAD_TIME).with_label_values::<&str>(&[]),
            log_dropped: ["queue_full", "write_failed"]
                .map(|reason| log_dropped.with_label_values(&[reason])),
            dropped_log_lines: Mutex::new(None),
            limits: Mutex::default(),
            panics: counters(&registry, &definitions::PANICS).with_label_values::<&str>(&[]),
            registry,
        }
    }

    /// The handles of one route; the name is `none` for requests that matched no route. Resolve once per snapshot.
    pub(crate) fn route(
        &self,
        labels: &Arc<CodeLabels>,
        name: &str,
        upstream: Option<&str>,
    ) -> Arc<RouteMetrics> {
        Arc::new(RouteMetrics::new(Arc::clone(&self.vectors), Arc::clone(labels), name, upstream))
    }

    /// The handles of one upstream. Resolve once per snapshot.
    pub(crate) fn upstream(&self, name: &str) -> Arc<UpstreamMetrics> {
        Arc::new(UpstreamMetrics::new(Arc::clone(&self.vectors), name))
    }

    /// The gauge of one listener's open connections. Resolve once per listener; call [`Gauge::guard`] per connection.
    pub(crate) fn connections(&self, listener: &str) -> Gauge {
        Gauge(self.connections.with_label_values(&[listener]))
    }

    /// Replaces the exported concurrency limits, given as pairs of upstream and limit. Other upstreams have no limit.
    pub(crate) fn concurrency_limits<'a>(&self, limits: impl Iterator<Item = (&'a str, u32)>) {
        self.concurrency_limits.reset();
        for (upstream, limit) in limits {
            self.concurrency_limits.with_label_values(&[upstream]).set(i64::from(limit));
        }
    }

    /// Records that the active configuration was loaded at startup, at this time.
    pub(crate) fn config_loaded(&self, at: SystemTime) {
        let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
        self.reload_time.set(i64::try_from(since.as_secs()).unwrap_or(i64::MAX));
        self.reload_successful.set(1);
    }

    /// Records that a reload was applied at this time.
    pub(crate) fn reload_applied(&self, at: SystemTime) {
        self.config_loaded(at);
        let [applied, _] = &self.reloads;
        applied.inc();
    }

    /// Records that a reload was rejected; the previous configuration stays active.
    pub(crate) fn reload_rejected(&self) {
        self.reload_successful.set(0);
        let [_, rejected] = &self.reloads;
        rejected.inc();
    }

    /// Counts a response that was truncated after its headers were sent, because of this fault.
    pub(crate) fn aborted(&self, cause: Cause) {
        if let Some(counter) = self.aborted.get(cause.index()) {
            counter.inc();
        }
    }

    /// Counts a response that was truncated after its headers were sent, because the client disconnected.
    pub(crate) fn aborted_client_gone(&self) {
        self.aborted_client_gone.inc();
    }

    /// Counts a tunnel that was closed because it was idle.
    pub(crate) fn aborted_tunnel_idle(&self) {
        self.aborted_tunnel_idle.inc();
    }

    /// Counts a connection or stream that was closed without a response.
    pub(crate) fn closed_without_response(&self, reason: CloseReason) {
        if let Some(counter) = self.closes.get(reason.index()) {
            counter.inc();
        }
    }

    /// Records the time that one request spent in the gateway itself.
    pub(crate) fn overhead(&self, elapsed: Duration) {
        self.overhead.observe(elapsed.as_secs_f64());
    }

    /// Exports the number of lines that this log dropped.
    pub(crate) fn register_log(&self, dropped: DroppedLines) {
        *self.dropped_log_lines.lock().unwrap_or_else(PoisonError::into_inner) = Some(dropped);
    }

    /// Renders all metrics in the format of [`CONTENT_TYPE`]. Reads `/proc`; do not call it on the request path.
    pub(crate) fn render(&self) -> Vec<u8> {
        self.update_dropped_lines();
        self.collect_limits();
        let mut page = String::with_capacity(PAGE_CAPACITY);
        // Encoding to a String fails only for a family without a name or metrics, which the registry never returns.
        let _ = TextEncoder::new().encode_utf8(&self.registry.gather(), &mut page);
        page.into_bytes()
    }

    /// Copies the log's own counts into the counters. Holds the lock, so that concurrent scrapes do not add twice.
    fn update_dropped_lines(&self) {
        let log = self.dropped_log_lines.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(dropped) = log.as_ref() {
            for (counter, lines) in
                self.log_dropped.iter().zip([dropped.queue_full(), dropped.write_failed()])
            {
                counter.inc_by(lines.saturating_sub(counter.get()));
            }
        }
    }
}

/// A gauge of things that exist for some time, such as connections.
#[derive(Clone, Debug)]
pub(crate) struct Gauge(IntGauge);

impl Gauge {
    pub(crate) fn new(gauge: IntGauge) -> Self {
        Gauge(gauge)
    }

    /// Increments the gauge until the returned guard is dropped.
    #[must_use = "dropping the guard decrements the gauge"]
    pub(crate) fn guard(&self) -> GaugeGuard {
        self.0.inc();
        GaugeGuard(self.0.clone())
    }

    /// The current value.
    pub(crate) fn get(&self) -> i64 {
        self.0.get()
    }
}

/// Decrements the [`Gauge`] when dropped, also during a panic.
#[derive(Debug)]
pub(crate) struct GaugeGuard(IntGauge);

impl Drop for GaugeGuard {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Enough for a few routes and upstreams.
const PAGE_CAPACITY: usize = 64 * 1024;

fn counters(registry: &Registry, row: &MetricDefinition) -> IntCounterVec {
    register(registry, IntCounterVec::new(Opts::new(row.full_name(), row.help), row.labels))
}

fn gauges(registry: &Registry, row: &MetricDefinition) -> IntGaugeVec {
    register(registry, IntGaugeVec::new(Opts::new(row.full_name(), row.help), row.labels))
}

fn histograms(registry: &Registry, row: &MetricDefinition) -> HistogramVec {
    let buckets = match row.kind {
        MetricKind::Histogram(buckets) => buckets.to_vec(),
        MetricKind::Counter | MetricKind::Gauge => Vec::new(),
    };
    register(
        registry,
        HistogramVec::new(HistogramOpts::new(row.full_name(), row.help).buckets(buckets), row.labels),
    )
}

// Fails only for an invalid or repeated name. All names are constants of `definitions`, and every test here registers
// them.
#[expect(clippy::expect_used, reason = "depends only on constants; an invalid one fails every test")]
fn register<C: Collector + Clone + 'static>(registry: &Registry, metric: prometheus::Result<C>) -> C {
    let collector = metric.expect("valid metric definition");
    registry.register(Box::new(collector.clone())).expect("unique metric name");
    collector
}

#[cfg(target_os = "linux")]
fn register_process_metrics(registry: &Registry) {
    // Fails without /proc; nothing depends on these metrics.
    let _ = registry.register(Box::new(ProcessCollector::for_self()));
}

#[cfg(not(target_os = "linux"))]
fn register_process_metrics(_registry: &Registry) {}

#[cfg(test)]
#[path = "metrics_tests.rs"]
mod tests;
