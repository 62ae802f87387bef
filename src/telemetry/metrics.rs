//! The metrics of the process: one registry, one vector per row of [`super::definitions`], rendered in Prometheus' text
//! format.
//!
//! Handles ([`RouteMetrics`], [`UpstreamMetrics`]) are resolved once, when a snapshot is built. Events without a route
//! or an upstream are counted here. The `admin` module serves the page.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use prometheus::process_collector::ProcessCollector;
use prometheus::{Histogram, IntCounter, IntGauge, IntGaugeVec, Registry, TextEncoder};

use super::close_reason::{CLIENT_GONE, CloseReason, TUNNEL_IDLE};
use super::definitions;
use super::limit::{BackendMetrics, LimitMetrics, LimitSources, LimitStats};
use super::log::DroppedLines;
use super::route::RouteMetrics;
use super::series_names::{SeriesName, SeriesNames};
use super::status_label::CodeLabels;
use super::upstream::UpstreamMetrics;
use super::vectors::{Gauge, Vectors, counters, gauges, histograms};
use crate::contract::Cause;

/// The `Content-Type` of [`Metrics::render`].
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All metrics of the process. Counters survive a reload.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    vectors: Arc<Vectors>,
    aborted: Vec<IntCounter>,
    aborted_client_gone: IntCounter,
    aborted_tunnel_idle: IntCounter,
    closes: Vec<IntCounter>,
    overhead: Histogram,
    connections: IntGaugeVec,
    concurrency_limits: IntGaugeVec,
    server_up: IntGaugeVec,
    server_state: IntGaugeVec,
    breaker_state: IntGaugeVec,
    reloads: [IntCounter; 2],
    reload_successful: IntGauge,
    reload_time: IntGauge,
    config_hash: IntGaugeVec,
    certificate_expiry: IntGaugeVec,
    log_dropped: [IntCounter; 2],
    dropped_log_lines: Mutex<Option<DroppedLines>>,
    limits: LimitSources,
    series_names: SeriesNames,
    /// Panics caught around a request.
    pub panics: IntCounter,
    details_dropped: IntCounter,
}

impl Metrics {
    /// Creates and registers all metrics with the value 0.
    pub(crate) fn new() -> Self {
        let registry = Registry::new();
        let vectors = Arc::new(Vectors::new(&registry));
        let aborted = counters(&registry, &definitions::ABORTED);
        let closes = counters(&registry, &definitions::CLOSED_WITHOUT_RESPONSE);
        let reloads = counters(&registry, &definitions::RELOADS);
        let log_dropped = counters(&registry, &definitions::LOG_DROPPED);
        let version = [env!("CARGO_PKG_VERSION"), option_env!("STATUSQUO_REVISION").unwrap_or("unknown")];
        gauges(&registry, &definitions::BUILD_INFO).with_label_values(&version).set(1);
        // Fails without /proc; nothing depends on these metrics.
        let _ = registry.register(Box::new(ProcessCollector::for_self()));
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
            server_up: gauges(&registry, &definitions::SERVER_UP),
            server_state: gauges(&registry, &definitions::SERVER_STATE),
            breaker_state: gauges(&registry, &definitions::BREAKER_STATE),
            reloads: ["applied", "rejected"].map(|result| reloads.with_label_values(&[result])),
            reload_successful: gauges(&registry, &definitions::RELOAD_SUCCESSFUL)
                .with_label_values::<&str>(&[]),
            reload_time: gauges(&registry, &definitions::RELOAD_TIME).with_label_values::<&str>(&[]),
            config_hash: gauges(&registry, &definitions::CONFIG_HASH),
            certificate_expiry: gauges(&registry, &definitions::CERTIFICATE_EXPIRY),
            log_dropped: ["queue_full", "write_failed"]
                .map(|reason| log_dropped.with_label_values(&[reason])),
            dropped_log_lines: Mutex::new(None),
            limits: LimitSources::default(),
            series_names: SeriesNames::default(),
            panics: counters(&registry, &definitions::PANICS).with_label_values::<&str>(&[]),
            details_dropped: counters(&registry, &definitions::DETAILS_DROPPED)
                .with_label_values::<&str>(&[]),
            registry,
        }
    }

    /// Counts texts of upstream details that were left out.
    pub(crate) fn details_dropped(&self, texts: u32) {
        self.details_dropped.inc_by(u64::from(texts));
    }

    /// Keeps the series of these names. Call it before their handles are resolved.
    pub(crate) fn keep_series(&self, names: &BTreeSet<SeriesName>) {
        self.series_names.keep(names);
    }

    /// Records that the configuration with exactly these names became active at `now`. The series of other names are
    /// removed: gauges at the next scrape, the others ten minutes later.
    pub(crate) fn activate_series(&self, names: &BTreeSet<SeriesName>, now: Instant) {
        self.series_names.activate(names, now);
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
    pub(crate) fn upstream(&self, name: &str, servers: Vec<String>) -> Arc<UpstreamMetrics> {
        Arc::new(UpstreamMetrics::new(Arc::clone(&self.vectors), name, servers))
    }

    /// The handles of one rule that counts in the backend `store`, or in memory. Resolve once per limiter.
    pub(crate) fn limit(&self, rule: &str, store: Option<&str>) -> LimitMetrics {
        LimitMetrics::new(Arc::clone(&self.vectors), rule, store)
    }

    /// The handles of one backend, with the kinds of its errors. Resolve once per backend.
    pub(crate) fn backend(&self, name: &str, kinds: impl Iterator<Item = &'static str>) -> BackendMetrics {
        BackendMetrics::new(&self.vectors, name, kinds)
    }

    /// Registers a limiter: every scrape calls `read`, until it returns `None`. The values of several limiters of one
    /// rule, which exist during a reload, are summed.
    pub(crate) fn register_limit(
        &self,
        rule: &str,
        read: impl Fn() -> Option<LimitStats> + Send + Sync + 'static,
    ) {
        self.limits.register(rule, read);
    }

    /// The gauge of one listener's open connections. Resolve once per listener; call [`Gauge::guard`] per connection.
    pub(crate) fn connections(&self, listener: &str) -> Gauge {
        Gauge::new(self.connections.with_label_values(&[listener]))
    }

    /// Replaces the exported concurrency limits, given as pairs of upstream and limit. Other upstreams have no limit.
    pub(crate) fn concurrency_limits<'a>(&self, limits: impl Iterator<Item = (&'a str, u32)>) {
        self.concurrency_limits.reset();
        for (upstream, limit) in limits {
            self.concurrency_limits.with_label_values(&[upstream]).set(i64::from(limit));
        }
    }

    /// Replaces the exported states of servers, given as upstream, server and state, and of breakers, given as upstream
    /// and state.
    pub(crate) fn upstream_states<'a>(
        &self,
        servers: impl Iterator<Item = (&'a str, &'a str, &'static str)>,
        breakers: impl Iterator<Item = (&'a str, &'static str)>,
    ) {
        self.server_up.reset();
        self.server_state.reset();
        for (upstream, server, state) in servers {
            let up = matches!(state, "healthy" | "recovering");
            self.server_up.with_label_values(&[upstream, server]).set(i64::from(up));
            for other in SERVER_STATES {
                let gauge = self.server_state.with_label_values(&[upstream, server, other]);
                gauge.set(i64::from(other == state));
            }
        }
        self.breaker_state.reset();
        for (upstream, state) in breakers {
            for other in BREAKER_STATES {
                self.breaker_state.with_label_values(&[upstream, other]).set(i64::from(other == state));
            }
        }
    }

    /// Replaces the exported expiry dates of certificates, given as listener, name and seconds since 1970. The earliest
    /// date of a name is exported.
    pub(crate) fn certificate_expiry<'a>(&self, certificates: impl Iterator<Item = (&'a str, &'a str, u64)>) {
        let mut earliest: BTreeMap<(&str, &str), u64> = BTreeMap::new();
        for (listener, name, expiry) in certificates {
            let date = earliest.entry((listener, name)).or_insert(expiry);
            *date = expiry.min(*date);
        }
        self.certificate_expiry.reset();
        for ((listener, name), expiry) in earliest {
            let expiry = i64::try_from(expiry).unwrap_or(i64::MAX);
            self.certificate_expiry.with_label_values(&[listener, name]).set(expiry);
        }
    }

    /// Records that the active configuration, with this hash, was loaded at startup, at this time.
    pub(crate) fn config_loaded(&self, hash: &str, at: SystemTime) {
        self.config_hash.reset();
        self.config_hash.with_label_values(&[hash]).set(1);
        let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
        self.reload_time.set(i64::try_from(since.as_secs()).unwrap_or(i64::MAX));
        self.reload_successful.set(1);
    }

    /// Records that a reload was applied at this time.
    pub(crate) fn reload_applied(&self, hash: &str, at: SystemTime) {
        self.config_loaded(hash, at);
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
        self.render_at(Instant::now())
    }

    fn render_at(&self, now: Instant) -> Vec<u8> {
        self.update_dropped_lines();
        self.limits.collect(&self.vectors);
        self.remove_series(now);
        let mut page = String::with_capacity(PAGE_CAPACITY);
        // Encoding to a String fails only for a family without a name or metrics, which the registry never returns.
        let _ = TextEncoder::new().encode_utf8(&self.registry.gather(), &mut page);
        page.into_bytes()
    }

    /// Removes the series of names that reloads have removed.
    fn remove_series(&self, now: Instant) {
        let Some(removed) = self.series_names.removed(now) else { return };
        self.vectors.remove_gauges(&|name| removed.contains(name));
        if removed.has_expired() {
            self.vectors.remove_counters(&|name| removed.is_expired(name));
        }
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

/// The values of the label `state` of servers.
const SERVER_STATES: [&str; 4] = ["healthy", "unhealthy", "ejected", "recovering"];
/// The values of the label `state` of breakers.
const BREAKER_STATES: [&str; 3] = ["closed", "open", "half_open"];

/// Enough for a few routes and upstreams.
const PAGE_CAPACITY: usize = 64 * 1024;

#[cfg(test)]
#[path = "metrics_tests.rs"]
mod tests;
