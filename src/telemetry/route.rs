//! Metric handles of one route: responses, errors, durations. Counting costs an index lookup and an increment.

use std::sync::Arc;
use std::time::Duration;

use prometheus::{Histogram, IntCounter};

use super::definitions::NONE;
use super::handle_cache::{DenseHandles, SparseHandles};
use super::status_label::CodeLabels;
use super::vectors::Vectors;
use crate::contract::grpc_status::GrpcStatus;
use crate::contract::{Cause, Trigger};

/// Where a response came from: the label `origin` of `responses_total`. It is not the origin of a URI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum ResponseOrigin {
    /// The upstream; forwarded.
    Upstream,
    /// The upstream; forwarded with what only the gateway knows, or as a problem document.
    Completed,
    /// The gateway, in place of the upstream's response.
    Replaced,
    /// The gateway, without a usable response from the upstream.
    Proxy,
}

impl ResponseOrigin {
    /// Every value.
    pub(crate) const ALL: &'static [ResponseOrigin] = &[
        ResponseOrigin::Upstream,
        ResponseOrigin::Completed,
        ResponseOrigin::Replaced,
        ResponseOrigin::Proxy,
    ];

    /// The value of the label.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            ResponseOrigin::Upstream => "upstream",
            ResponseOrigin::Completed => "completed",
            ResponseOrigin::Replaced => "replaced",
            ResponseOrigin::Proxy => "proxy",
        }
    }
}

/// The metrics of one route and its upstream.
#[derive(Debug)]
pub(crate) struct RouteMetrics {
    vectors: Arc<Vectors>,
    labels: Arc<CodeLabels>,
    route: Box<str>,
    upstream: Box<str>,
    responses: DenseHandles<IntCounter>,
    errors: SparseHandles<IntCounter>,
    would_replace: SparseHandles<IntCounter>,
    grpc_errors: SparseHandles<IntCounter>,
    durations: DenseHandles<Histogram>,
    disconnects: DenseHandles<IntCounter>,
}

impl RouteMetrics {
    pub(crate) fn new(
        vectors: Arc<Vectors>,
        labels: Arc<CodeLabels>,
        route: &str,
        upstream: Option<&str>,
    ) -> Self {
        let metrics = RouteMetrics {
            route: route.into(),
            upstream: upstream.unwrap_or(NONE).into(),
            responses: DenseHandles::new(labels.statuses.len() * ResponseOrigin::ALL.len()),
            errors: SparseHandles::new(),
            would_replace: SparseHandles::new(),
            grpc_errors: SparseHandles::new(),
            durations: DenseHandles::new(CLASSES.len()),
            disconnects: DenseHandles::new(1),
            vectors,
            labels,
        };
        for &code in &metrics.labels.documented {
            for origin in [ResponseOrigin::Replaced, ResponseOrigin::Proxy] {
                metrics.count_response(code, origin, 0);
            }
        }
        metrics
    }

    /// Counts a final response whose headers were handed to the transport (101 included, other 1xx not).
    pub(crate) fn response(&self, status: u16, origin: ResponseOrigin) {
        self.count_response(status, origin, 1);
    }

    /// Counts an error response: the `code` sent, the trigger that determined it, and the upstream's status code if it
    /// responded. Call it once for every [`RouteMetrics::response`] of 400 or above.
    pub(crate) fn error(&self, code: u16, trigger: Trigger, upstream_status: Option<u16>) {
        let (cause, received_status) = match trigger {
            Trigger::Fault(cause) => (cause.index(), upstream_status),
            Trigger::UpstreamStatus(status) => (Cause::ALL.len(), upstream_status.or(Some(status))),
        };
        let statuses = &self.labels.statuses;
        // "No upstream status" has the index after the last status.
        let upstream_status_index = received_status.map_or(statuses.len(), |status| statuses.index(status));
        self.errors.with(
            pack_key(cause, statuses.index(code), upstream_status_index),
            || {
                let received = received_status.map_or(NONE, |status| statuses.label(status));
                let labels = [&*self.route, &*self.upstream, statuses.label(code), trigger.name(), received];
                self.vectors.errors.with_label_values(&labels)
            },
            IntCounter::inc,
        );
    }

    /// Records the duration of a finished request by the class of the status code sent. Ignores 101, which starts a
    /// tunnel.
    pub(crate) fn duration(&self, status: u16, elapsed: Duration) {
        let Some(class) = usize::from(status / 100).checked_sub(2).filter(|class| *class < CLASSES.len())
        else {
            return;
        };
        let label = CLASSES.get(class).copied().unwrap_or(NONE);
        self.durations.with(
            class,
            || self.vectors.duration.with_label_values(&[&*self.route, label]),
            |histogram| histogram.observe(elapsed.as_secs_f64()),
        );
    }

    /// Counts a client that disconnected before its response was complete.
    pub(crate) fn client_disconnected(&self) {
        let make = || self.vectors.disconnects.with_label_values(&[&*self.route]);
        self.disconnects.with(0, make, IntCounter::inc);
    }

    /// Counts a response forwarded in mode `observe` that mode `enforce` would have replaced: `from` the upstream's
    /// status code `to` the replacement's.
    pub(crate) fn would_replace(&self, from: u16, to: u16) {
        let statuses = &self.labels.statuses;
        self.would_replace.with(
            pack_key(0, statuses.index(from), statuses.index(to)),
            || {
                let labels = [&*self.route, statuses.label(from), statuses.label(to)];
                self.vectors.would_replace.with_label_values(&labels)
            },
            IntCounter::inc,
        );
    }

    /// Counts an error sent to a gRPC client as HTTP 200 with `status`.
    pub(crate) fn grpc_error(&self, trigger: Trigger, status: GrpcStatus) {
        let cause = match trigger {
            Trigger::Fault(cause) => cause.index(),
            Trigger::UpstreamStatus(_) => Cause::ALL.len(),
        };
        self.grpc_errors.with(
            pack_key(0, cause, status as usize),
            || {
                let labels = [&*self.route, trigger.name(), &(status as u8).to_string()];
                self.vectors.grpc_errors.with_label_values(&labels)
            },
            IntCounter::inc,
        );
    }

    fn count_response(&self, status: u16, origin: ResponseOrigin, by: u64) {
        let statuses = &self.labels.statuses;
        self.responses.with(
            statuses.index(status) * ResponseOrigin::ALL.len() + origin as usize,
            || {
                self.vectors.responses.with_label_values(&[
                    &*self.route,
                    statuses.label(status),
                    origin.name(),
                ])
            },
            |counter| counter.inc_by(by),
        );
    }
}

const CLASSES: [&str; 4] = ["2xx", "3xx", "4xx", "5xx"];

/// Packs three indices, each below 1,000, into one key.
const fn pack_key(a: usize, b: usize, c: usize) -> u32 {
    ((a as u32) << 20) | ((b as u32) << 10) | c as u32
}
