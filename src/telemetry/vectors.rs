//! The metric vectors from which routes, upstreams and rate limits resolve their handles, and their registration.

use prometheus::core::Collector;
use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

use super::definitions::{self, MetricDefinition, MetricKind};
use super::series_names::{SeriesName, remove_series};

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

impl Vectors {
    /// Creates and registers the vectors.
    pub(super) fn new(registry: &Registry) -> Self {
        Vectors {
            responses: counters(registry, &definitions::RESPONSES),
            errors: counters(registry, &definitions::ERRORS),
            disconnects: counters(registry, &definitions::DISCONNECTS),
            would_replace: counters(registry, &definitions::WOULD_REPLACE),
            grpc_errors: counters(registry, &definitions::GRPC_ERRORS),
            duration: histograms(registry, &definitions::DURATION),
            conformance: counters(registry, &definitions::CONFORMANCE),
            in_flight: gauges(registry, &definitions::IN_FLIGHT),
            queued: gauges(registry, &definitions::QUEUED),
            attempts: counters(registry, &definitions::ATTEMPTS),
            retries: counters(registry, &definitions::RETRIES),
            phases: histograms(registry, &definitions::PHASES),
            upstream_connections: counters(registry, &definitions::UPSTREAM_CONNECTIONS),
            limit_decisions: counters(registry, &definitions::LIMIT_DECISIONS),
            limit_keys: gauges(registry, &definitions::LIMIT_KEYS),
            limit_evictions: counters(registry, &definitions::LIMIT_EVICTIONS),
            shed: counters(registry, &definitions::SHED),
            store_duration: histograms(registry, &definitions::STORE_DURATION),
            store_errors: counters(registry, &definitions::STORE_ERRORS),
        }
    }

    /// Removes the gauges with a name for which `is_removed` returns true.
    pub(super) fn remove_gauges(&self, is_removed: &dyn Fn(&SeriesName) -> bool) {
        for gauges in [&self.in_flight, &self.queued, &self.limit_keys] {
            remove_series(gauges, is_removed);
        }
    }

    /// Removes the counters and histograms with a name for which `is_removed` returns true.
    pub(super) fn remove_counters(&self, is_removed: &dyn Fn(&SeriesName) -> bool) {
        for counters in [
            &self.responses,
            &self.errors,
            &self.disconnects,
            &self.would_replace,
            &self.grpc_errors,
            &self.conformance,
            &self.attempts,
            &self.retries,
            &self.upstream_connections,
            &self.limit_decisions,
            &self.limit_evictions,
            &self.shed,
            &self.store_errors,
        ] {
            remove_series(counters, is_removed);
        }
        for histograms in [&self.duration, &self.phases, &self.store_duration] {
            remove_series(histograms, is_removed);
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
    #[cfg(test)]
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

pub(super) fn counters(registry: &Registry, row: &MetricDefinition) -> IntCounterVec {
    register(registry, IntCounterVec::new(Opts::new(row.full_name(), row.help), row.labels))
}

pub(super) fn gauges(registry: &Registry, row: &MetricDefinition) -> IntGaugeVec {
    register(registry, IntGaugeVec::new(Opts::new(row.full_name(), row.help), row.labels))
}

pub(super) fn histograms(registry: &Registry, row: &MetricDefinition) -> HistogramVec {
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
