//! Metric handles of one upstream: attempts, connections, durations, and whether its errors conform to the contract.

use std::sync::Arc;
use std::time::Duration;

use prometheus::{Histogram, IntCounter, IntCounterVec};

use super::handle_cache::DenseHandles;
use super::vectors::{Gauge, GaugeGuard, Vectors};
use crate::contract::Cause;
use crate::contract::conform::Conformance;

/// The metrics of one upstream.
#[derive(Debug)]
pub(crate) struct UpstreamMetrics {
    vectors: Arc<Vectors>,
    upstream: Box<str>,
    /// The labels of the servers, in configuration order.
    servers: Vec<String>,
    in_flight: Gauge,
    queued: DenseHandles<Gauge>,
    attempts: DenseHandles<IntCounter>,
    retries: DenseHandles<IntCounter>,
    phases: DenseHandles<Histogram>,
    connections: DenseHandles<IntCounter>,
    conformance: DenseHandles<IntCounter>,
    shed: DenseHandles<IntCounter>,
}

impl UpstreamMetrics {
    pub(crate) fn new(vectors: Arc<Vectors>, upstream: &str, servers: Vec<String>) -> Self {
        // For each server one handle per cause, and one for `ok`.
        let results = (Cause::ALL.len() + 1) * servers.len();
        UpstreamMetrics {
            upstream: upstream.into(),
            servers,
            in_flight: Gauge::new(vectors.in_flight.with_label_values(&[upstream])),
            queued: DenseHandles::new(1),
            attempts: DenseHandles::new(results),
            retries: DenseHandles::new(results),
            phases: DenseHandles::new(3),
            connections: DenseHandles::new(2),
            conformance: DenseHandles::new(Conformance::ALL.len()),
            shed: DenseHandles::new(Cause::ALL.len()),
            vectors,
        }
    }

    /// Counts a finished attempt: complete response headers, or the cause of the failure.
    pub(crate) fn attempt(&self, server: usize, result: Result<(), Cause>) {
        self.count_result(&self.attempts, &self.vectors.attempts, server, result);
    }

    /// Counts a finished attempt that was a retry. Call [`UpstreamMetrics::attempt`] as well.
    pub(crate) fn retry(&self, server: usize, result: Result<(), Cause>) {
        self.count_result(&self.retries, &self.vectors.retries, server, result);
    }

    /// Records the duration of a TCP connect.
    pub(crate) fn connect_time(&self, elapsed: Duration) {
        self.observe_phase(0, "connect", elapsed);
    }

    /// Records the duration of a TLS handshake.
    pub(crate) fn tls_time(&self, elapsed: Duration) {
        self.observe_phase(2, "tls", elapsed);
    }

    /// Records the time from the end of the request until the response headers were complete; 0 if they came before.
    pub(crate) fn response_headers_time(&self, elapsed: Duration) {
        self.observe_phase(1, "response_headers", elapsed);
    }

    /// Counts a connection used for an attempt: `reused` from the pool, or new.
    pub(crate) fn connection(&self, reused: bool) {
        let label = if reused { "true" } else { "false" };
        self.connections.with(
            usize::from(reused),
            || self.vectors.upstream_connections.with_label_values(&[&*self.upstream, label]),
            IntCounter::inc,
        );
    }

    /// Counts an error response from the upstream by its conformance.
    pub(crate) fn conformance(&self, result: Conformance) {
        self.conformance.with(
            result as usize,
            || self.vectors.conformance.with_label_values(&[&*self.upstream, result.label()]),
            IntCounter::inc,
        );
    }

    /// Counts a request that was rejected for this cause instead of being forwarded.
    pub(crate) fn shed(&self, cause: Cause) {
        let make = || self.vectors.shed.with_label_values(&[&*self.upstream, cause.name()]);
        self.shed.with(cause.index(), make, IntCounter::inc);
    }

    /// Counts one request in progress at the upstream, until the guard is dropped.
    #[must_use = "dropping the guard decrements the gauge"]
    pub(crate) fn in_flight(&self) -> GaugeGuard {
        self.in_flight.guard()
    }

    /// Counts one queued request, until the guard is dropped.
    #[must_use = "dropping the guard decrements the gauge"]
    pub(crate) fn queued(&self) -> GaugeGuard {
        let make = || Gauge::new(self.vectors.queued.with_label_values(&[&*self.upstream]));
        self.queued.with(0, make, Gauge::guard)
    }

    /// The number of requests in progress at the upstream.
    #[cfg(test)]
    pub(crate) fn in_flight_count(&self) -> i64 {
        self.in_flight.get()
    }

    fn count_result(
        &self,
        handles: &DenseHandles<IntCounter>,
        vector: &IntCounterVec,
        server: usize,
        result: Result<(), Cause>,
    ) {
        let Some(name) = self.servers.get(server) else { return };
        let (index, label) = match result {
            Ok(()) => (Cause::ALL.len(), "ok"),
            Err(cause) => (cause.index(), cause.name()),
        };
        let handle = server * (Cause::ALL.len() + 1) + index;
        handles.with(handle, || vector.with_label_values(&[&*self.upstream, name, label]), IntCounter::inc);
    }

    fn observe_phase(&self, index: usize, phase: &str, elapsed: Duration) {
        self.phases.with(
            index,
            || self.vectors.phases.with_label_values(&[&*self.upstream, phase]),
            |histogram| histogram.observe(elapsed.as_secs_f64()),
        );
    }
}
