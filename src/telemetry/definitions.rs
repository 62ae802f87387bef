//! The definition of every metric: its name, kind, labels, and the help text that Prometheus and `docs/metrics.md`
//! show.
//!
//! Metric and label names appear only in this table. [`super::metrics`] builds the vectors from its rows.

/// The prefix of every name except `process_*`, which Prometheus prescribes.
pub(crate) const PREFIX: &str = "statusquo_";

/// The type of a metric.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum MetricKind {
    /// Only increases.
    Counter,
    /// Increases and decreases.
    Gauge,
    /// Distribution of durations, with the upper bounds of the buckets in seconds.
    Histogram(&'static [f64]),
}

/// A row of the table.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MetricDefinition {
    /// The name without [`PREFIX`].
    pub name: &'static str,
    /// The type, for a histogram with its buckets.
    pub kind: MetricKind,
    /// Label names, in the order in which the code passes the values.
    pub labels: &'static [&'static str],
    /// One line that says what is counted.
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

    /// The name as exported.
    pub fn full_name(&self) -> String {
        format!("{PREFIX}{}", self.name)
    }
}

/// Up to the longest default timeout.
const REQUEST_BUCKETS: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
/// The gateway typically adds tens of microseconds.
const OVERHEAD_BUCKETS: &[f64] =
    &[0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.0025, 0.005, 0.01, 0.05];

/// A round trip takes a fraction of a millisecond; the default timeout is 20 ms.
const STORE_BUCKETS: &[f64] =
    &[0.000_1, 0.000_25, 0.000_5, 0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0, 5.0];

pub(crate) const RESPONSES: MetricDefinition = MetricDefinition::counter(
    "responses_total",
    &["route", "code", "origin"],
    "Responses whose headers were sent (interim responses excluded), by status code and origin: `upstream` (forwarded), `completed` (forwarded with members that only the gateway knows, or as a problem document), `replaced` (sent in place of the upstream's error), or `proxy` (the gateway's own).",
);
pub(crate) const ERRORS: MetricDefinition = MetricDefinition::counter(
    "errors_total",
    &["route", "upstream", "code", "cause", "upstream_status"],
    "Responses with a status code of 400 or above, by the cause that determined it (`upstream_response`: the upstream's own status code).",
);
pub(crate) const ABORTED: MetricDefinition = MetricDefinition::counter(
    "aborted_total",
    &["cause"],
    "Responses truncated, and tunnels closed, after the headers were sent. The client sees a reset or an early end of its connection or stream.",
);
pub(crate) const CLOSED_WITHOUT_RESPONSE: MetricDefinition = MetricDefinition::counter(
    "closed_without_response_total",
    &["cause"],
    "Connections and HTTP/2 streams that closed while no response was being sent, by cause.",
);
pub(crate) const DISCONNECTS: MetricDefinition = MetricDefinition::counter(
    "client_disconnects_total",
    &["route"],
    "Requests whose client disconnected before the response was complete.",
);
pub(crate) const CONFORMANCE: MetricDefinition = MetricDefinition::counter(
    "conformance_total",
    &["upstream", "result"],
    "Error responses from the upstream, by result: `conforms` (forwarded), `message_withheld` (well-formed, but `errors.upstream_messages` does not allow its message: by default every 5xx), or what is wrong with it: `wrong_shape`, `not_json`, `undocumented`, `too_large` or `incomplete`. `buffers_full`: not read, because the error bodies that are buffered at once use up their 32 MiB.",
);
pub(crate) const WOULD_REPLACE: MetricDefinition = MetricDefinition::counter(
    "would_replace_total",
    &["route", "from", "to"],
    "In mode `observe`: forwarded responses that mode `enforce` would have replaced, by upstream status code and replacement.",
);
pub(crate) const GRPC_ERRORS: MetricDefinition = MetricDefinition::counter(
    "grpc_errors_total",
    &["route", "cause", "grpc_status"],
    "Errors sent to gRPC clients as HTTP 200 with this `grpc-status`. Not included in `errors_total`.",
);
pub(crate) const DURATION: MetricDefinition = MetricDefinition::histogram(
    "request_duration_seconds",
    REQUEST_BUCKETS,
    &["route", "class"],
    "Time from the parsed request headers to the end of the response, by class of the status code sent.",
);
pub(crate) const OVERHEAD: MetricDefinition = MetricDefinition::histogram(
    "overhead_seconds",
    OVERHEAD_BUCKETS,
    &[],
    "Time a request spent in the gateway itself: its duration minus the time spent waiting for the upstream or the client.",
);
pub(crate) const IN_FLIGHT: MetricDefinition = MetricDefinition::gauge(
    "requests_in_flight",
    &["upstream"],
    "Requests currently in progress at an upstream.",
);
pub(crate) const CONNECTIONS: MetricDefinition =
    MetricDefinition::gauge("connections", &["listener"], "Open client connections.");
pub(crate) const QUEUED: MetricDefinition = MetricDefinition::gauge(
    "requests_queued",
    &["upstream"],
    "Requests currently queued for an upstream (`concurrency.queue`).",
);
pub(crate) const CONCURRENCY_LIMIT: MetricDefinition = MetricDefinition::gauge(
    "concurrency_limit",
    &["upstream"],
    "Maximum concurrent requests to an upstream (`concurrency.max`). Absent without a limit.",
);
pub(crate) const SERVER_UP: MetricDefinition = MetricDefinition::gauge(
    "upstream_server_up",
    &["upstream", "server"],
    "1 if the server gets requests, 0 while it is unhealthy or ejected (`health`, `ejection`).",
);
pub(crate) const SERVER_STATE: MetricDefinition = MetricDefinition::gauge(
    "upstream_server_state",
    &["upstream", "server", "state"],
    "1 for the state of the server: `healthy`, `unhealthy`, `ejected` or `recovering`; 0 for the others.",
);
pub(crate) const BREAKER_STATE: MetricDefinition = MetricDefinition::gauge(
    "breaker_state",
    &["upstream", "state"],
    "1 for the state of the circuit breaker: `closed`, `open` or `half_open`; 0 for the others. Absent without `breaker`.",
);
pub(crate) const SHED: MetricDefinition = MetricDefinition::counter(
    "shed_total",
    &["upstream", "cause"],
    "Requests rejected because of overload, by cause: the concurrency limit, an open breaker, no available server, an unavailable rate-limit backend (`on_failure: deny`), or no file descriptor. They were not forwarded.",
);
pub(crate) const RELOADS: MetricDefinition = MetricDefinition::counter(
    "config_reloads_total",
    &["result"],
    "Configuration reloads (SIGHUP), by result: `applied` or `rejected`.",
);
pub(crate) const RELOAD_SUCCESSFUL: MetricDefinition = MetricDefinition::gauge(
    "config_last_reload_successful",
    &[],
    "1 if the last configuration reload was applied, 0 if it was rejected.",
);
pub(crate) const RELOAD_TIME: MetricDefinition = MetricDefinition::gauge(
    "config_last_reload_timestamp_seconds",
    &[],
    "Unix time at which the active configuration was loaded, at startup or by a reload.",
);
pub(crate) const CONFIG_HASH: MetricDefinition = MetricDefinition::gauge(
    "config_hash_info",
    &["hash"],
    "Always 1; the label is a hash of the keys and values of the active configuration, with its variables and included files. Instances with equal hashes have equal configurations.",
);
pub(crate) const CERTIFICATE_EXPIRY: MetricDefinition = MetricDefinition::gauge(
    "tls_certificate_expiry_timestamp_seconds",
    &["listener", "name"],
    "Unix time at which the certificate of a listener expires, by each of its DNS names; its file if it has none. Of several certificates with a name, the first to expire.",
);
pub(crate) const ATTEMPTS: MetricDefinition = MetricDefinition::counter(
    "upstream_attempts_total",
    &["upstream", "server", "result"],
    "Attempts to get response headers from a server, by result: `ok` or the cause of the failure.",
);
pub(crate) const RETRIES: MetricDefinition = MetricDefinition::counter(
    "upstream_retries_total",
    &["upstream", "server", "result"],
    "Attempts after the first of a request, and first attempts that succeeded on another connection (reconnects), by result.",
);
pub(crate) const PHASES: MetricDefinition = MetricDefinition::histogram(
    "upstream_phase_duration_seconds",
    REQUEST_BUCKETS,
    &["upstream", "phase"],
    "Duration of the phases of an attempt: TCP `connect`, the `tls` handshake, and the wait for `response_headers` after the request was sent.",
);
pub(crate) const UPSTREAM_CONNECTIONS: MetricDefinition = MetricDefinition::counter(
    "upstream_connections_total",
    &["upstream", "reused"],
    "Connections used for attempts: reused from the pool (`true`) or newly opened (`false`).",
);
pub(crate) const LIMIT_DECISIONS: MetricDefinition = MetricDefinition::counter(
    "rate_limit_decisions_total",
    &["rule", "store", "decision"],
    "Rate-limit decisions, by rule: `allowed`, `denied`, `shadow_denied` (mode `shadow` would deny), and while the backend is \
     unavailable `failed_open` or `failed_closed`. For a denied request only the denying rules count.",
);
pub(crate) const LIMIT_KEYS: MetricDefinition = MetricDefinition::gauge(
    "rate_limit_keys",
    &["rule"],
    "Active rate-limit keys (quota not fully replenished), at most `max_keys`.",
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
    "Duration of rate-limit backend calls, failed calls included.",
);
pub(crate) const STORE_ERRORS: MetricDefinition = MetricDefinition::counter(
    "rate_limit_store_errors_total",
    &["store", "kind"],
    "Failed rate-limit backend calls, by kind: `timeout`, `unreachable`, `invalid_reply`, `refused` (the backend returned an \
     error), or `circuit_open` (not attempted after repeated failures).",
);
pub(crate) const PANICS: MetricDefinition = MetricDefinition::counter(
    "panics_total",
    &[],
    "Panics caught while handling a request; the client got a 500 or an aborted response. Each is a bug.",
);
pub(crate) const DETAILS_DROPPED: MetricDefinition = MetricDefinition::counter(
    "details_dropped_total",
    &[],
    "Texts in the details of upstream errors that were left out because they look like markup, a stack trace or credentials, \
     and details that exceed a bound.",
);
pub(crate) const LOG_DROPPED: MetricDefinition = MetricDefinition::counter(
    "log_lines_dropped_total",
    &["reason"],
    "Lost log lines: `queue_full` (standard error accepts lines too slowly) or `write_failed` (writing to it failed).",
);
pub(crate) const BUILD_INFO: MetricDefinition = MetricDefinition::gauge(
    "build_info",
    &["version", "revision"],
    "Always 1; the labels identify the running build.",
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
    SERVER_UP,
    SERVER_STATE,
    BREAKER_STATE,
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
    CONFIG_HASH,
    CERTIFICATE_EXPIRY,
    PANICS,
    DETAILS_DROPPED,
    LOG_DROPPED,
    BUILD_INFO,
];

/// The label value for requests without a route or an upstream.
pub const NONE: &str = "none";

/// The `store` label of rules that count in memory.
pub(crate) const MEMORY: &str = "memory";
