//! One wide line per request: which requests get one, what it holds, and in which words.
//!
//! It is told how a request ended and never works it out. A client's fields and bodies have no place here; of what an
//! upstream said in place of a good response, `evidence` holds the beginning. How a line is escaped and written is
//! [`super::formatter`]'s and [`super::log`]'s business.

use std::net::IpAddr;
use std::time::Duration;

use tracing::Level;

use crate::contract::{Cause, Evidence, Phase, RequestSent};

/// Which requests get a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoggedRequests {
    /// Those that ended in an error, an abort or a close.
    Errors,
    /// All.
    All,
    /// None.
    Off,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The upstream's response passed.
    Forwarded,
    /// The upstream answered; we sent something else.
    Replaced,
    /// The upstream failed to answer; we did.
    UpstreamFailed,
    /// We did not ask the upstream: malformed, no route, denied, no capacity.
    Rejected,
    /// We answered a browser's question before its request.
    Preflight,
    /// It broke off after the response head had left.
    Aborted,
    /// A tunnel was closed because nothing moved in it for `timeouts.tunnel_idle`.
    TunnelIdle,
    /// The client left before its response was complete.
    ClientDisconnected,
}

impl Outcome {
    /// Of a fault that was answered with this code: whether we stood in for the upstream or refused the client. Where
    /// there was no room, the upstream was not even asked.
    pub const fn for_reply(code: u16, cause: Cause) -> Self {
        let overloaded = matches!(
            cause,
            Cause::ConnectionLimitReached
                | Cause::QueueFull
                | Cause::QueueTimeout
                | Cause::BreakerOpen
                | Cause::LimiterUnavailable
                | Cause::ResourceExhausted
                | Cause::Draining
        );
        if code >= 500 && !overloaded { Outcome::UpstreamFailed } else { Outcome::Rejected }
    }

    /// The value of the field `outcome`.
    pub const fn name(self) -> &'static str {
        match self {
            Outcome::Forwarded => "forwarded",
            Outcome::Replaced => "replaced",
            Outcome::UpstreamFailed => "upstream_failed",
            Outcome::Rejected => "rejected",
            Outcome::Preflight => "preflight",
            Outcome::Aborted => "aborted",
            Outcome::TunnelIdle => "tunnel_idle",
            Outcome::ClientDisconnected => "client_disconnected",
        }
    }

    /// The message of the line.
    pub const fn message(self) -> &'static str {
        match self {
            Outcome::Forwarded => "forwarded response",
            Outcome::Replaced => "replaced upstream response",
            Outcome::UpstreamFailed => "upstream failed",
            Outcome::Rejected => "rejected request",
            Outcome::Preflight => "answered preflight",
            Outcome::Aborted => "aborted response",
            Outcome::TunnelIdle => "closed idle tunnel",
            Outcome::ClientDisconnected => "client disconnected",
        }
    }

    /// `warn` where the upstream let the client down, `info` where the client got what it asked for or asked wrongly.
    pub const fn level(self) -> Level {
        match self {
            Outcome::Replaced | Outcome::UpstreamFailed | Outcome::Aborted => Level::WARN,
            Outcome::Forwarded
            | Outcome::Rejected
            | Outcome::Preflight
            | Outcome::TunnelIdle
            | Outcome::ClientDisconnected => Level::INFO,
        }
    }
}

/// What one line says. Borrowed; made only after [`AccessLog::is_enabled`] said so. A field that is `None` or empty is left out.
#[derive(Clone, Debug)]
pub struct AccessRecord<'a> {
    /// The request's id.
    pub request_id: &'a str,
    /// Name of the route; empty when none matched.
    pub route: &'a str,
    /// Method as sent.
    pub method: &'a str,
    /// Path as sent, without the query. Any bytes: they are decoded lossily and escaped.
    pub path: &'a [u8],
    /// The client, as determined.
    pub client_ip: Option<IpAddr>,
    /// Name of the upstream; empty when there is none.
    pub upstream: &'a str,
    /// `host:port` of the last attempt; empty when none was made.
    pub server: &'a str,
    /// The fault, if there was one.
    pub cause: Option<Cause>,
    /// Where it happened.
    pub phase: Option<Phase>,
    /// Status on the wire; `None` when nothing was sent.
    pub code: Option<u16>,
    /// What the upstream answered, if it did.
    pub upstream_status: Option<u16>,
    /// Bytes of the response body that were sent.
    pub bytes: u64,
    /// Attempts at the upstream.
    pub attempts: u32,
    /// From the request head to the end.
    pub elapsed: Duration,
    /// The last attempt's connect; `None` on a reused connection.
    pub connect: Option<Duration>,
    /// The last attempt's wait for the response head.
    pub response_headers: Option<Duration>,
    /// How much of the request the upstream was given.
    pub request_sent: RequestSent,
    /// The rate limit that refused it; empty when none did.
    pub rule: &'a str,
    /// What is known beyond the cause.
    pub evidence: &'a Evidence,
    /// How it ended.
    pub outcome: Outcome,
}

/// Decides which requests are worth a [`AccessRecord`], and writes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccessLog {
    errors: bool,
    successes: bool,
}

impl AccessLog {
    /// From the operator's choice, and the level below which lines are not written anyway.
    pub fn new(requests: LoggedRequests, level: Level) -> Self {
        let (errors, others) = match requests {
            LoggedRequests::Off => (false, false),
            LoggedRequests::Errors => (true, false),
            LoggedRequests::All => (true, true),
        };
        // In tracing's order a more verbose level is greater. An error's line is `warn` or `info`, any other's `info`.
        AccessLog { errors: errors && level >= Level::WARN, successes: others && level >= Level::INFO }
    }

    /// Whether a request that ended so would be written. Ask before making the record: it costs two loads.
    pub const fn is_enabled(&self, is_error: bool) -> bool {
        if is_error { self.errors } else { self.successes }
    }

    /// Writes the line.
    pub fn emit(&self, record: &AccessRecord<'_>) {
        match record.outcome.level() {
            Level::WARN => emit_at!(Level::WARN, record),
            // No outcome has another level.
            Level::INFO | Level::ERROR | Level::DEBUG | Level::TRACE => emit_at!(Level::INFO, record),
        }
    }
}

/// tracing wants the level in the callsite; the fields are the same.
macro_rules! emit_at {
    ($level:expr, $record:ident) => {
        tracing::event!(
            target: TARGET,
            $level,
            request_id = non_empty($record.request_id),
            route = non_empty($record.route),
            method = non_empty($record.method),
            path = &*String::from_utf8_lossy($record.path),
            client_ip = $record.client_ip.map(tracing::field::display),
            upstream = non_empty($record.upstream),
            server = non_empty($record.server),
            cause = $record.cause.map(Cause::name),
            phase = $record.phase.map(Phase::name),
            code = $record.code,
            upstream_status = $record.upstream_status,
            bytes = $record.bytes,
            attempts = $record.attempts,
            elapsed_ms = milliseconds($record.elapsed),
            connect_ms = $record.connect.map(milliseconds),
            response_headers_ms = $record.response_headers.map(milliseconds),
            request_sent = $record.request_sent.name(),
            rule = non_empty($record.rule),
            evidence = non_empty($record.evidence.for_log()),
            outcome = $record.outcome.name(),
            message = $record.outcome.message(),
        )
    };
}
use emit_at;

/// Beneath the crate's own target, so that the level of the log applies.
const TARGET: &str = concat!(env!("CARGO_PKG_NAME"), "::access");

fn non_empty(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

/// Milliseconds with three decimals.
fn milliseconds(elapsed: Duration) -> f64 {
    elapsed.as_micros() as f64 / 1000.0
}

#[cfg(test)]
#[path = "access_log_tests.rs"]
mod tests;
