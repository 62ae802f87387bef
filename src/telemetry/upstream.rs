//! The handles of one upstream: attempts, connections, the time they took, and whether its errors keep the contract.
//!
//! Counting is all it does; retries, pools and judgements live elsewhere.

use std::sync::Arc;
use std::time::Duration;

use prometheus::{Histogram, IntCounter, IntCounterVec};

use super::handle_cache::DenseHandles;
use super::metrics::{Gauge, GaugeGuard, Vectors};
use crate::contract::Cause;
use crate::contract::conform::Conformance;

/// What is counted for one upstream.
#[derive(Debug)]
pub struct UpstreamMetrics {
    vectors: Arc<Vectors>,
    upstream: Box<str>,
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
    pub(crate) fn new(vectors: Arc<Vectors>, upstream: &str) -> Self {
        // One place per cause, and one for `ok_upstream`.
        let results = Cause::ALL.len() + 1;
        UpstreamMetrics {
            upstream: upstream.into(),
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

    /// An attempt is over: a whole response head, or the cause of the failure.
    pub fn attempt(&self, result: Result<(), Cause>) {
        self.count_result(&self.attempts, &self.vectors.attempts, result);
    }

    /// That attempt was not the request's first. Call it beside [`UpstreamMetrics::attempt`], not instead.
    pub fn retry(&self, result: Result<(), Cause>) {
        self.count_result(&self.retries, &self.vectors.retries, result);
    }

    /// How long a new connection took to be there.
    pub fn connect_time(&self, elapsed: Duration) {
        self.observe_phase(0, "connect", elapsed);
    }

    /// How long a TLS handshake took to be over.
    pub fn tls_time(&self, elapsed: Duration) {
        self.observe_phase(2, "tls", elapsed);
    }

    /// From the request being sent until the whole response head was there.
    pub fn response_headers_time(&self, elapsed: Duration) {
        self.observe_phase(1, "response_headers", elapsed);
    }

    /// An attempt got a connection: from the pool, or a new one.
    pub fn connection(&self, reused: bool) {
        let label = if reused { "true" } else { "false" };
        self.connections.with(
            usize::from(reused),
            || self.vectors.upstream_connections.with_label_values(&[&*self.upstream, label]),
            IntCounter::inc,
        );
    }

    /// An error response of the upstream was judged.
    pub fn conformance(&self, result: Conformance) {
        self.conformance.with(
            result as usize,
            || self.vectors.conformance.with_label_values(&[&*self.upstream, result.label()]),
            IntCounter::inc,
        );
    }

    /// A request was refused for this cause, and the upstream not asked.
    pub fn shed(&self, cause: Cause) {
        let make = || self.vectors.shed.with_label_values(&[&*self.upstream, cause.name()]);
        self.shed.with(cause.index(), make, IntCounter::inc);
    }

    /// Counts one request that the upstream is working on, until the guard is dropped.
    #[must_use = "it counts only while it is held"]
    pub fn in_flight(&self) -> GaugeGuard {
        self.in_flight.guard()
    }

    /// Counts one request that waits for its turn, until the guard is dropped.
    #[must_use = "it counts only while it is held"]
    pub fn queued(&self) -> GaugeGuard {
        let make = || Gauge::new(self.vectors.queued.with_label_values(&[&*self.upstream]));
        self.queued.with(0, make, Gauge::guard)
    }

    /// How many requests the upstream is working on now.
    pub fn in_flight_count(&self) -> i64 {
        self.in_flight.get()
    }

    fn count_result(
        &self,
        handles: &DenseHandles<IntCounter>,
        vector: &IntCounterVec,
        result: Result<(), Cause>,
    ) {
        let (index, label) = match result {
            Ok(()) => (Cause::ALL.len(), "ok"),
            Err(cause) => (cause.index(), cause.name()),
        };
        handles.with(index, || vector.with_label_values(&[&*self.upstream, label]), IntCounter::inc);
    }

    fn observe_phase(&self, index: usize, phase: &str, elapsed: Duration) {
        self.phases.with(
            index,
            || self.vectors.phases.with_label_values(&[&*self.upstream, phase]),
            |histogram| histogram.observe(elapsed.as_secs_f64()),
        );
    }
}
