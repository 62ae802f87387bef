//! The access log: one line per request, with all its facts as fields.
//!
//! The caller determines how a request ended. Of a client's header fields only the host, User-Agent and the trace ID
//! are logged, and never its body; `evidence` may contain the beginning of an invalid upstream response.
//! [`super::formatter`] escapes the line, [`super::log`] writes it.

use std::net::IpAddr;
use std::time::Duration;

use tracing::Level;

use crate::contract::{Cause, Evidence, Phase, RequestSent};

/// Which requests get a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LoggedRequests {
    /// Requests that ended in an error, an abort or a close without a response. A storm of one cause is sampled.
    Errors,
    /// All requests.
    All,
    /// No requests.
    Off,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum RequestOutcome {
    /// The upstream's response was forwarded.
    Forwarded,
    /// The upstream's response was replaced.
    Replaced,
    /// The upstream sent no usable response; the gateway sent an error.
    UpstreamFailed,
    /// A bug or an invalid configuration of the gateway; the gateway sent an error.
    InternalError,
    /// The request was not forwarded: malformed, no route, denied, or no capacity.
    Rejected,
    /// The gateway responded to a CORS preflight.
    Preflight,
    /// The gateway redirected the client.
    Redirected,
    /// The gateway sent the fixed response of the route.
    FixedResponse,
    /// The response was truncated after its headers were sent.
    Aborted,
    /// A tunnel was closed after `timeouts.tunnel_idle` without traffic.
    TunnelIdle,
    /// The client disconnected before the response was complete.
    ClientDisconnected,
}

impl RequestOutcome {
    /// The outcome of a local reply with this code and cause. Lack of capacity, what the client caused and what ended
    /// before an upstream was chosen are rejections even if the code is 500 or above, such as 501 for CONNECT.
    pub(crate) const fn for_reply(code: u16, cause: Cause) -> Self {
        match cause.usual_phase() {
            Phase::Internal => RequestOutcome::InternalError,
            Phase::Admit => RequestOutcome::Rejected,
            _ if code < 500 || cause.is_overload() || cause.is_client_error() => RequestOutcome::Rejected,
            Phase::RequestHeaders
            | Phase::Route
            | Phase::Connect
            | Phase::Send
            | Phase::ResponseHeaders
            | Phase::Relay => RequestOutcome::UpstreamFailed,
        }
    }

    /// The value of the field `outcome`, the message of the line, and its level: `error` for bugs of the gateway,
    /// `warn` for failures of the upstream, `info` for successful requests and errors of the client.
    const fn row(self) -> (&'static str, &'static str, Level) {
        match self {
            RequestOutcome::Forwarded => ("forwarded", "forwarded response", Level::INFO),
            RequestOutcome::Replaced => ("replaced", "replaced upstream response", Level::WARN),
            RequestOutcome::UpstreamFailed => ("upstream_failed", "upstream failed", Level::WARN),
            RequestOutcome::InternalError => ("internal_error", "internal error", Level::ERROR),
            RequestOutcome::Rejected => ("rejected", "rejected request", Level::INFO),
            RequestOutcome::Preflight => ("preflight", "sent preflight response", Level::INFO),
            RequestOutcome::Redirected => ("redirected", "redirected request", Level::INFO),
            RequestOutcome::FixedResponse => ("responded", "sent response of route", Level::INFO),
            RequestOutcome::Aborted => ("aborted", "aborted response", Level::WARN),
            RequestOutcome::TunnelIdle => ("tunnel_idle", "closed idle tunnel", Level::INFO),
            RequestOutcome::ClientDisconnected => ("client_disconnected", "client disconnected", Level::INFO),
        }
    }

    /// The value of the field `outcome`.
    pub(crate) const fn name(self) -> &'static str {
        self.row().0
    }

    /// The level of the line.
    pub(super) const fn level(self) -> Level {
        self.row().2
    }
}

/// The content of one line. Build it only if [`AccessLog::is_enabled`]. Fields that are `None` or empty are omitted.
#[derive(Clone, Debug)]
pub(crate) struct AccessRecord<'a> {
    /// The request ID.
    pub request_id: &'a str,
    /// The trace ID of the request's `traceparent`; empty without one.
    pub trace_id: &'a str,
    /// Name of the route; empty if none matched.
    pub route: &'a str,
    /// Method as received.
    pub method: &'a str,
    /// The host that the request is for, with the port if the client sent one. May be any bytes, like `path`.
    pub host: &'a [u8],
    /// Path as received, without the query. May be any bytes; decoded lossily and escaped.
    pub path: &'a [u8],
    /// The HTTP version of the client: `HTTP/1.0`, `HTTP/1.1` or `HTTP/2`.
    pub protocol: &'a str,
    /// The TLS version of the client's connection: `TLSv1.2` or `TLSv1.3`; `None` without TLS.
    pub tls: Option<&'a str>,
    /// The User-Agent field. May be any bytes, like `path`.
    pub user_agent: &'a [u8],
    /// The client's address, as determined from the connection and trusted proxies.
    pub client_ip: Option<IpAddr>,
    /// Name of the upstream; empty without a route.
    pub upstream: &'a str,
    /// `host:port` of the last attempt; empty without an attempt.
    pub server: &'a str,
    /// Cause of the fault, if any.
    pub cause: Option<Cause>,
    /// Phase in which the fault occurred.
    pub phase: Option<Phase>,
    /// Status code sent; `None` without a response.
    pub code: Option<u16>,
    /// Status code received from the upstream, if any.
    pub upstream_status: Option<u16>,
    /// Bytes of the request body received.
    pub bytes_in: u64,
    /// Bytes of the response body queued for the client, which may have disconnected before it received all of them.
    pub bytes_out: u64,
    /// The attempts, if there was more than one: a JSON list of objects with `server`, `cause` and `ms`.
    pub attempts: Option<&'a str>,
    /// Time from the request headers to the end.
    pub elapsed: Duration,
    /// Connect time of the last attempt; `None` on a reused connection.
    pub connect: Option<Duration>,
    /// Time that the last attempt waited for the response headers.
    pub response_headers: Option<Duration>,
    /// Time in the upstream's queue; `None` if the request did not wait.
    pub queue: Option<Duration>,
    /// How much of the request was sent to the upstream.
    pub request_sent: RequestSent,
    /// Name of the rate limit that denied the request; empty if none did.
    pub rule: &'a str,
    /// Details beyond the cause.
    pub evidence: &'a Evidence,
    /// How the request ended.
    pub outcome: RequestOutcome,
}

/// Decides which requests are logged, and writes their lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AccessLog {
    requests: LoggedRequests,
    level: Level,
    evidence_limit: usize,
}

impl AccessLog {
    /// Creates the log for these requests at the configured log level, with at most this many bytes of what an
    /// upstream sent in a line.
    pub(crate) fn new(requests: LoggedRequests, level: Level, evidence_limit: usize) -> Self {
        AccessLog { requests, level, evidence_limit }
    }

    /// Whether a request with this outcome is logged. Cheap: check it before building the record.
    pub(crate) fn is_enabled(&self, outcome: RequestOutcome, is_error: bool) -> bool {
        let is_selected = match self.requests {
            LoggedRequests::Off => false,
            LoggedRequests::Errors => is_error,
            LoggedRequests::All => true,
        };
        // tracing orders levels by verbosity.
        is_selected && outcome.level() <= self.level
    }

    /// Whether a storm of one cause is sampled ([`super::log_sampler`]). A log of all requests is complete: it can be
    /// replayed.
    pub(crate) fn is_sampled(&self) -> bool {
        self.requests == LoggedRequests::Errors
    }

    /// Writes the line.
    pub(crate) fn emit(&self, record: &AccessRecord<'_>) {
        let evidence = record.evidence.for_log(self.evidence_limit);
        let (outcome, message, level) = record.outcome.row();
        match level {
            Level::ERROR => emit_at!(Level::ERROR, record, evidence, outcome, message),
            Level::WARN => emit_at!(Level::WARN, record, evidence, outcome, message),
            // No outcome has another level.
            Level::INFO | Level::DEBUG | Level::TRACE => {
                emit_at!(Level::INFO, record, evidence, outcome, message);
            }
        }
    }
}

/// A macro, because tracing requires a constant level per callsite.
macro_rules! emit_at {
    ($level:expr, $record:ident, $evidence:ident, $outcome:ident, $message:ident) => {
        tracing::event!(
            target: TARGET,
            $level,
            request_id = non_empty($record.request_id),
            trace_id = non_empty($record.trace_id),
            route = non_empty($record.route),
            method = non_empty($record.method),
            host = non_empty(&String::from_utf8_lossy($record.host)),
            path = &*String::from_utf8_lossy($record.path),
            protocol = non_empty($record.protocol),
            tls = $record.tls,
            user_agent = non_empty(&String::from_utf8_lossy($record.user_agent)),
            client_ip = $record.client_ip.map(tracing::field::display),
            upstream = non_empty($record.upstream),
            server = non_empty($record.server),
            attempts.json = $record.attempts,
            cause = $record.cause.map(Cause::name),
            phase = $record.phase.map(Phase::name),
            code = $record.code,
            upstream_status = $record.upstream_status,
            bytes_in = $record.bytes_in,
            bytes_out = $record.bytes_out,
            elapsed_ms = milliseconds($record.elapsed),
            connect_ms = $record.connect.map(milliseconds),
            response_headers_ms = $record.response_headers.map(milliseconds),
            queue_ms = $record.queue.map(milliseconds),
            request_sent = $record.request_sent.name(),
            rule = non_empty($record.rule),
            evidence = non_empty(&$evidence),
            outcome = $outcome,
            message = $message,
        )
    };
}
use emit_at;

/// A child of the crate's target, so that the configured level applies.
pub(super) const TARGET: &str = concat!(env!("CARGO_PKG_NAME"), "::access");

fn non_empty(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

/// Milliseconds with microsecond precision.
fn milliseconds(elapsed: Duration) -> f64 {
    elapsed.as_micros() as f64 / 1000.0
}

#[cfg(test)]
#[path = "access_log_tests.rs"]
mod tests;
