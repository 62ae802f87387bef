//! Every metric by name: its kind, its labels, and the sentence that Prometheus and `docs/metrics.md` show.
//!
//! The table is the only place where a name or a label is spelled. It counts nothing: [`super::metrics`] builds the
//! vectors from these rows.

use std::fmt::Write as _;

use super::status_label;

/// What every name begins with (`process_*` apart: that name is Prometheus' own).
pub const PREFIX: &str = "statusquo_";

/// How a metric moves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum MetricKind {
    /// Only upwards.
    Counter,
    /// Up and down.
    Gauge,
    /// Distribution of seconds.
    Histogram(&'static [f64]),
}

impl MetricKind {
    /// The word in Prometheus' text format.
    pub const fn name(self) -> &'static str {
        match self {
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
            MetricKind::Histogram(_) => "histogram",
        }
    }
}

/// One metric.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MetricDefinition {
    /// Without [`PREFIX`].
    pub name: &'static str,
    /// Counter, gauge or histogram.
    pub kind: MetricKind,
    /// Label names, in the order in which values are given.
    pub labels: &'static [&'static str],
    /// One line: what is counted.
    pub help: &'static str,
}

impl MetricDefinition {
    const fn counter(
        name: &'static str,
        labels: &'static [&'static str],
        help: &'static str,
    ) -> MetricDefinition {
        MetricDefinition { name, kind: MetricKind::Counter, labels, help }
    }

    const fn gauge(
        name: &'static str,
        labels: &'static [&'static str],
        help: &'static str,
    ) -> MetricDefinition {
        MetricDefinition { name, kind: MetricKind::Gauge, labels, help }
    }

    const fn histogram(
        name: &'static str,
        buckets: &'static [f64],
        labels: &'static [&'static str],
        help: &'static str,
    ) -> MetricDefinition {
        MetricDefinition { name, kind: MetricKind::Histogram(buckets), labels, help }
    }

    /// The name on the wire.
    pub fn full_name(&self) -> String {
        format!("{PREFIX}{}", self.name)
    }
}

/// From a request served from memory to the longest default time limit.
const REQUEST_BUCKETS: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
/// Our own share is tens of microseconds.
const OVERHEAD_BUCKETS: &[f64] =
    &[0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.0025, 0.005, 0.01, 0.05];

/// A round trip is a fraction of a millisecond; the default limit is 20.
const STORE_BUCKETS: &[f64] =
    &[0.000_1, 0.000_25, 0.000_5, 0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0, 5.0];

pub(crate) const RESPONSES: MetricDefinition = MetricDefinition::counter(
    "responses_total",
    &["route", "code", "origin"],
    "Final response heads handed to the transport, by the status on the wire and by who made them.",
);
pub(crate) const ERRORS: MetricDefinition = MetricDefinition::counter(
    "errors_total",
    &["route", "upstream", "code", "cause", "upstream_status"],
    "Responses of 400 or above, with the cause that decided the code; `upstream_response` when the upstream answered.",
);
pub(crate) const ABORTED: MetricDefinition = MetricDefinition::counter(
    "aborted_total",
    &["cause"],
    "Responses and tunnels that broke off after their head had left, and were visibly aborted.",
);
pub(crate) const CLOSED_WITHOUT_RESPONSE: MetricDefinition = MetricDefinition::counter(
    "closed_without_response_total",
    &["cause"],
    "Connections or streams that ended without a response.",
);
pub(crate) const DISCONNECTS: MetricDefinition = MetricDefinition::counter(
    "client_disconnects_total",
    &["route"],
    "Requests whose client left before its response was complete.",
);
pub(crate) const CONFORMANCE: MetricDefinition = MetricDefinition::counter(
    "conformance_total",
    &["upstream", "result"],
    "Error responses of the upstream, by whether they keep the contract.",
);
pub(crate) const WOULD_REPLACE: MetricDefinition = MetricDefinition::counter(
    "would_replace_total",
    &["route", "from", "to"],
    "In mode `observe`: responses that `enforce` would have replaced, by status received and code it would send.",
);
pub(crate) const GRPC_ERRORS: MetricDefinition = MetricDefinition::counter(
    "grpc_errors_total",
    &["route", "cause", "grpc_status"],
    "Errors that were said to callers of gRPC: HTTP 200 with this `grpc-status`. They are no part of `errors_total`.",
);
pub(crate) const DURATION: MetricDefinition = MetricDefinition::histogram(
    "request_duration_seconds",
    REQUEST_BUCKETS,
    &["route", "class"],
    "From the parsed request head to the end of the response, by class of the status sent.",
);
pub(crate) const OVERHEAD: MetricDefinition = MetricDefinition::histogram(
    "overhead_seconds",
    OVERHEAD_BUCKETS,
    &[],
    "Time a request spent in the gateway itself: its duration without waiting for the upstream or the client.",
);
pub(crate) const IN_FLIGHT: MetricDefinition = MetricDefinition::gauge(
    "requests_in_flight",
    &["upstream"],
    "Requests that an upstream is working on now.",
);
pub(crate) const CONNECTIONS: MetricDefinition =
    MetricDefinition::gauge("connections", &["listener"], "Client connections that are open now.");
pub(crate) const QUEUED: MetricDefinition = MetricDefinition::gauge(
    "requests_queued",
    &["upstream"],
    "Requests that wait for their turn at an upstream now (`concurrency.queue`).",
);
pub(crate) const CONCURRENCY_LIMIT: MetricDefinition = MetricDefinition::gauge(
    "concurrency_limit",
    &["upstream"],
    "Requests that may be at an upstream at once (`concurrency.max`); missing where there is no limit.",
);
pub(crate) const SHED: MetricDefinition = MetricDefinition::counter(
    "shed_total",
    &["upstream", "cause"],
    "Requests refused without asking the upstream, because it has as many as it may have.",
);
pub(crate) const RELOADS: MetricDefinition = MetricDefinition::counter(
    "config_reloads_total",
    &["result"],
    "Reloads of the configuration (SIGHUP), by result: `applied`, `refused`.",
);
pub(crate) const RELOAD_SUCCESSFUL: MetricDefinition = MetricDefinition::gauge(
    "config_last_reload_successful",
    &[],
    "1 while the configuration that was last loaded is served, 0 after a reload was refused.",
);
pub(crate) const RELOAD_TIME: MetricDefinition = MetricDefinition::gauge(
    "config_last_reload_timestamp_seconds",
    &[],
    "When the configuration that is served was loaded: at the start or by a reload. Unix time.",
);
pub(crate) const ATTEMPTS: MetricDefinition = MetricDefinition::counter(
    "upstream_attempts_total",
    &["upstream", "result"],
    "Attempts to get a response head from a server: `ok`, or the cause of the failure.",
);
pub(crate) const RETRIES: MetricDefinition = MetricDefinition::counter(
    "upstream_retries_total",
    &["upstream", "result"],
    "The attempts among them that were not the request's first.",
);
pub(crate) const PHASES: MetricDefinition = MetricDefinition::histogram(
    "upstream_phase_duration_seconds",
    REQUEST_BUCKETS,
    &["upstream", "phase"],
    "How long an attempt took to `connect`, and from the request being sent to the complete `response_headers`.",
);
pub(crate) const UPSTREAM_CONNECTIONS: MetricDefinition = MetricDefinition::counter(
    "upstream_connections_total",
    &["upstream", "reused"],
    "Connections used for attempts: taken from the pool (`true`) or opened (`false`).",
);
pub(crate) const LIMIT_DECISIONS: MetricDefinition = MetricDefinition::counter(
    "rate_limit_decisions_total",
    &["rule", "store", "decision"],
    "What rate limits decided: every rule of a request that passed (`allowed`, or `shadow_denied` in mode `shadow`), and \
     those that denied it (`denied`). Where a store does not answer: `failed_open`, `failed_closed`.",
);
pub(crate) const LIMIT_KEYS: MetricDefinition = MetricDefinition::gauge(
    "rate_limit_keys",
    &["rule"],
    "Keys of a rate limit that have not got back all they took, at most `max_keys`.",
);
pub(crate) const LIMIT_EVICTIONS: MetricDefinition = MetricDefinition::counter(
    "rate_limit_evictions_total",
    &["rule", "kind"],
    "Evicted keys: `idle` (no effect) or `active` (count kept approximately).",
);
pub(crate) const STORE_DURATION: MetricDefinition = MetricDefinition::histogram(
    "rate_limit_store_duration_seconds",
    STORE_BUCKETS,
    &["store"],
    "How long a store of rate limits took to answer, and where it did not, how long it was waited for.",
);
pub(crate) const STORE_ERRORS: MetricDefinition = MetricDefinition::counter(
    "rate_limit_store_errors_total",
    &["store", "kind"],
    "Questions without an answer of use: `timeout`, `unreachable`, `invalid_reply`, `refused` (an error came back), or `circuit_open` \
     (not asked, because it failed before).",
);
pub(crate) const PANICS: MetricDefinition = MetricDefinition::counter(
    "panics_total",
    &[],
    "Panics that the guard turned into a response of 500. Each is a bug.",
);
pub(crate) const LOG_DROPPED: MetricDefinition = MetricDefinition::counter(
    "log_lines_dropped_total",
    &["reason"],
    "Log lines that were lost: `queue_full` (standard error is slower than the lines come) or `write_failed` (writing to it \
     failed).",
);
pub(crate) const BUILD_INFO: MetricDefinition = MetricDefinition::gauge(
    "build_info",
    &["version", "revision"],
    "Always 1; the labels say which build is running.",
);

/// Every metric, in the order of the documentation.
pub const ALL: &[MetricDefinition] = &[
    RESPONSES,
    ERRORS,
    ABORTED,
    CLOSED_WITHOUT_RESPONSE,
    DISCONNECTS,
    CONFORMANCE,
    WOULD_REPLACE,
    GRPC_ERRORS,
    DURATION,
    OVERHEAD,
    IN_FLIGHT,
    QUEUED,
    CONCURRENCY_LIMIT,
    SHED,
    CONNECTIONS,
    ATTEMPTS,
    RETRIES,
    PHASES,
    UPSTREAM_CONNECTIONS,
    LIMIT_DECISIONS,
    LIMIT_KEYS,
    LIMIT_EVICTIONS,
    STORE_DURATION,
    STORE_ERRORS,
    RELOADS,
    RELOAD_SUCCESSFUL,
    RELOAD_TIME,
    PANICS,
    LOG_DROPPED,
    BUILD_INFO,
];

/// The value of a `route` or `upstream` label where there is none.
pub const NONE: &str = "none";

/// The content of `docs/metrics.md`.
pub fn markdown_page() -> String {
    let mut page = String::from(PAGE_HEADER);
    page.push_str("| metric | type | labels | what it counts |\n|---|---|---|---|\n");
    for row in ALL {
        let labels = row.labels.iter().map(|label| format!("`{label}`")).collect::<Vec<_>>().join(", ");
        let _ = writeln!(page, "| `{}` | {} | {labels} | {} |", row.full_name(), row.kind.name(), row.help);
    }
    page.push_str(PAGE_FOOTER);
    page.push_str("\n## Values of the status labels\n\n");
    let labelled_statuses = status_label::LABELLED_STATUSES
        .iter()
        .map(|status| format!("`{status}`"))
        .collect::<Vec<_>>()
        .join(" ");
    let _ = writeln!(
        page,
        "These statuses, and every code of the contract, are labelled as they are: {labelled_statuses}.\nAny other is \
         `{}` (400-499), `{}` (500-599) or `{}`.",
        status_label::OTHER_4XX,
        status_label::OTHER_5XX,
        status_label::OTHER
    );
    page
}

const PAGE_HEADER: &str = "\
<!-- Generated from src/telemetry/definitions.rs; write it again with: UPDATE_DOCS=1 cargo test metrics_page -->
# Metrics

`GET /metrics` on the telemetry address, in Prometheus' text format. Label values are fixed words or names from the
configuration, never anything that a client sent. `route` and `upstream` are `none` where there is none.

";

const PAGE_FOOTER: &str = "
Beside these, on Linux, Prometheus' own `process_cpu_seconds_total`, `process_open_fds`, `process_max_fds`,
`process_virtual_memory_bytes`, `process_resident_memory_bytes`, `process_start_time_seconds`, `process_threads`.

## What is there from the start

At 0 before the first request: `responses_total` for every route and documented error code, with the origins `replaced`
and `proxy`; `aborted_total` and `closed_without_response_total` for every cause; `log_lines_dropped_total` for every
reason; everything without labels. The other series appear when they first count.

## What counts as waiting

`overhead_seconds` counts every request that was read, also one whose client left before its response. Waiting for the
upstream is: for a turn (`concurrency.queue`), for a connection with its TLS handshake, until the response head is there,
and for each further piece of the body. Waiting for the client is: for each further piece of its request body, and until it
takes more of its response. A tunnel is all waiting. What remains is the gateway's: routing, limits (a store of rate limits
included), reading, judging and writing.

## Sums that agree

- For every code, the sum of `responses_total` is the number of response heads that clients were sent.
- For every code of 400 or above, the sum of `errors_total` is the sum of `responses_total`.
- `upstream_retries_total` is part of `upstream_attempts_total`: attempts without retries are requests forwarded.
";
