//! Records a request: metrics when its response headers are sent, metrics and one access log line when it ends.
//!
//! How something ended, from the inside out:
//!
//! | type | what ended | set by |
//! |---|---|---|
//! | [`SendResult`](super::local_reply::SendResult) | writing the queued bytes to the client | `local_reply` |
//! | [`ResponseState`] | the response on its connection, for the close of the connection | `downstream` |
//! | [`DeliveryOutcome`] | the delivery of a final response | `relay`, `tunnel`, `local_reply` |
//! | [`RequestEnd`] | the request: which response, and how it was delivered | `respond`, `request` |
//! | [`RequestOutcome`] | the request, as a label and in the log | this module, from [`RequestEnd`] |
//! | [`AttemptOutcome`](crate::upstream::attempt_window::AttemptOutcome) | an attempt, for ejection and the circuit breaker | `attempt::outcome` |

use std::borrow::Cow;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::Serialize;

use super::context::{Exchange, ReceivedRequest, RetryReason};
use super::downstream::ResponseState;
use super::gateway::Gateway;
use crate::contract::grpc::{self, GrpcFamily};
use crate::contract::{Fault, LocalReply, Trigger};
use crate::http::{ascii_class, partial_request, trace_context};
use crate::telemetry::{AccessRecord, CloseReason, RequestOutcome, ResponseOrigin};

/// How a request ended.
#[derive(Debug)]
pub(super) enum RequestEnd {
    /// The upstream's response was forwarded.
    Forwarded { status: u16 },
    /// The upstream's error was replaced.
    Replaced { status: u16 },
    /// The gateway sent the contract's error for a fault.
    LocalError { status: u16, fault: Fault },
    /// The gateway responded to a preflight.
    Preflight { status: u16 },
    /// The gateway redirected the client.
    Redirected { status: u16 },
    /// The gateway sent the fixed response of the route.
    FixedResponse { status: u16 },
    /// The response was truncated after its headers were sent.
    Aborted { status: u16, fault: Fault },
    /// A tunnel was closed after its idle timeout.
    TunnelIdle { status: u16 },
    /// The client disconnected before the response was complete. `status` is that of the response if its headers were
    /// sent.
    ClientDisconnected { status: Option<u16> },
}

/// How the delivery of a final response ended.
#[derive(Debug)]
pub(super) enum DeliveryOutcome {
    /// The whole response was passed on: to the kernel (HTTP/1), or to the `h2` crate.
    Complete,
    /// The response was truncated because of this fault.
    Aborted(Fault),
    /// A tunnel was closed after its idle timeout.
    TunnelIdle,
    /// The client disconnected.
    ClientDisconnected,
}

impl RequestEnd {
    /// The status code of the response; 0 without one.
    pub(super) const fn status(&self) -> u16 {
        match self {
            RequestEnd::Forwarded { status }
            | RequestEnd::Replaced { status }
            | RequestEnd::LocalError { status, .. }
            | RequestEnd::Preflight { status }
            | RequestEnd::Redirected { status }
            | RequestEnd::FixedResponse { status }
            | RequestEnd::Aborted { status, .. }
            | RequestEnd::TunnelIdle { status } => *status,
            RequestEnd::ClientDisconnected { status: Some(status) } => *status,
            RequestEnd::ClientDisconnected { status: None } => 0,
        }
    }

    /// The end of the request, given how much of its response was delivered.
    pub(super) fn with_delivery(self, outcome: DeliveryOutcome) -> RequestEnd {
        match outcome {
            DeliveryOutcome::Complete => self,
            DeliveryOutcome::Aborted(fault) => RequestEnd::Aborted { status: self.status(), fault },
            DeliveryOutcome::TunnelIdle => RequestEnd::TunnelIdle { status: self.status() },
            DeliveryOutcome::ClientDisconnected => {
                RequestEnd::ClientDisconnected { status: Some(self.status()) }
            }
        }
    }
}

/// A request that is rejected before it is routed: for example it is malformed, or its connection is over a limit.
#[derive(Debug)]
pub(super) struct RejectedRequest {
    pub(super) fault: Fault,
    /// The received part of the request line.
    pub(super) request_line: Bytes,
    pub(super) facts: RejectedFacts,
}

/// What determines the form of the response to a rejected request, as far as the request could be parsed.
#[derive(Clone, Debug, Default)]
pub(super) struct RejectedFacts {
    /// The authority that it names; its routes determine the contract.
    pub(super) host: Option<Bytes>,
    pub(super) origin: Option<Bytes>,
    pub(super) accept: Option<Bytes>,
    /// For the log.
    pub(super) user_agent: Option<Bytes>,
    /// The protocol variant of a gRPC call.
    pub(super) grpc: Option<GrpcFamily>,
}

impl RejectedFacts {
    /// The facts of the part of a header section that was received.
    pub(super) fn parse(head: &[u8]) -> RejectedFacts {
        let copied = |value: Option<&[u8]>| value.map(Bytes::copy_from_slice);
        RejectedFacts {
            host: copied(partial_request::host(head)),
            origin: copied(partial_request::single_field(head, "origin")),
            accept: copied(partial_request::single_field(head, "accept")),
            user_agent: copied(partial_request::single_field(head, "user-agent")),
            grpc: partial_request::grpc_family(head),
        }
    }
}

/// Counts a final response. To be called before its headers are sent: a client that has read the response then finds
/// it counted.
///
/// `trigger` is `None` if the response is not an error of the gateway.
pub(super) fn count_response(
    exchange: &Exchange<'_>,
    status: u16,
    response_origin: ResponseOrigin,
    trigger: Option<Trigger>,
) {
    let metrics = exchange.context.metrics();
    metrics.response(status, response_origin);
    if status >= 400 {
        let trigger = trigger.unwrap_or(Trigger::UpstreamStatus(status));
        metrics.error(status, trigger, exchange.record.upstream_status);
    }
}

/// Counts a local reply that is a gRPC error: its HTTP status code is 200.
pub(super) fn count_grpc_error(exchange: &Exchange<'_>, trigger: Trigger, reply: &LocalReply) {
    if reply.status() == 200
        && let Some(code) = reply.code()
    {
        exchange.context.metrics().grpc_error(trigger, grpc::status_for_error(trigger, code.status()));
    }
}

/// Counts and logs a request that has ended now.
pub(super) fn record_request_end(exchange: &Exchange<'_>, end: &RequestEnd, now: Instant) {
    let context = exchange.context;
    let (gateway, metrics) = (context.gateway, context.metrics());
    let elapsed = now.saturating_duration_since(context.started);
    // Requests of disconnected clients count too.
    gateway.metrics.overhead(elapsed.saturating_sub(exchange.client.total_wait()));
    let (status, fault, outcome) = match end {
        RequestEnd::Forwarded { status } => (Some(*status), None, RequestOutcome::Forwarded),
        RequestEnd::Replaced { status } => (Some(*status), None, RequestOutcome::Replaced),
        RequestEnd::LocalError { status, fault } => {
            (Some(*status), Some(fault), RequestOutcome::for_reply(*status, fault.cause()))
        }
        RequestEnd::Preflight { status } => (Some(*status), None, RequestOutcome::Preflight),
        RequestEnd::Redirected { status } => (Some(*status), None, RequestOutcome::Redirected),
        RequestEnd::FixedResponse { status } => (Some(*status), None, RequestOutcome::FixedResponse),
        RequestEnd::Aborted { status, fault } => {
            gateway.metrics.aborted(fault.cause());
            (Some(*status), Some(fault), RequestOutcome::Aborted)
        }
        RequestEnd::TunnelIdle { status } => {
            gateway.metrics.aborted_tunnel_idle();
            (Some(*status), None, RequestOutcome::TunnelIdle)
        }
        RequestEnd::ClientDisconnected { status } => {
            metrics.client_disconnected();
            (*status, None, RequestOutcome::ClientDisconnected)
        }
    };
    // The duration of an abandoned response says nothing about the gateway or the upstream.
    if let Some(status) = status.filter(|_| outcome != RequestOutcome::ClientDisconnected) {
        metrics.duration(status, elapsed);
    }
    let is_error = match end {
        RequestEnd::Forwarded { status } => *status >= 400,
        RequestEnd::Preflight { .. } | RequestEnd::Redirected { .. } | RequestEnd::FixedResponse { .. } => {
            false
        }
        RequestEnd::Replaced { .. }
        | RequestEnd::LocalError { .. }
        | RequestEnd::Aborted { .. }
        | RequestEnd::TunnelIdle { .. }
        | RequestEnd::ClientDisconnected { .. } => true,
    };
    let access = context.snapshot.access;
    if access.is_enabled(outcome, is_error)
        && (!access.is_sampled() || gateway.log_sampler.admits(fault.map(Fault::cause), outcome, now))
    {
        let attempts = attempt_list(exchange, fault, outcome);
        let record = access_record(exchange, status, fault, outcome, elapsed);
        let record = AccessRecord { attempts: attempts.as_deref(), ..record };
        access.emit(&record);
    }
}

/// The line of a request in the access log.
fn access_record<'r>(
    exchange: &'r Exchange<'_>,
    code: Option<u16>,
    fault: Option<&'r Fault>,
    outcome: RequestOutcome,
    elapsed: Duration,
) -> AccessRecord<'r> {
    let Exchange { context, record, client, .. } = exchange;
    let request = LoggedRequest::from_received(context.received);
    AccessRecord {
        request_id: context.request_id.to_str().unwrap_or_default(),
        trace_id: request.trace_id,
        route: context.route.map_or("", |route| &route.config.name),
        method: request.method,
        host: request.host,
        path: request.path,
        protocol: client.protocol_name(),
        tls: client.listener_origin().tls_version,
        user_agent: request.user_agent,
        client_ip: context.client_address.ip(),
        upstream: context.route.map_or("", |route| route.upstream.name()),
        server: record.server(),
        cause: fault.map(Fault::cause),
        phase: fault.map(Fault::phase),
        code,
        upstream_status: record.upstream_status,
        bytes_in: client.body_bytes_received() + record.tunnel_bytes_in,
        bytes_out: record.response_bytes,
        attempts: None,
        elapsed,
        connect: record.connect_time,
        response_headers: record.response_headers_time,
        queue: record.queue_time,
        request_sent: record.request_sent,
        rule: record.denied_by.as_ref().map_or("", |rule| rule.limiter.name()),
        evidence: fault.map_or(&record.upstream_evidence, Fault::evidence),
        outcome,
    }
}

/// The fields of a request that are logged.
struct LoggedRequest<'r> {
    method: &'r str,
    path: &'r [u8],
    host: &'r [u8],
    user_agent: &'r [u8],
    trace_id: &'r str,
}

impl<'r> LoggedRequest<'r> {
    fn from_received(received: ReceivedRequest<'r>) -> Self {
        match received {
            ReceivedRequest::Valid(request) => LoggedRequest {
                method: request.method.as_str(),
                path: request.path(),
                host: &request.authority,
                user_agent: request.fields.value("user-agent").unwrap_or_default(),
                trace_id: request
                    .fields
                    .value("traceparent")
                    .and_then(trace_context::trace_id)
                    .unwrap_or_default(),
            },
            ReceivedRequest::Rejected { request_line, host, user_agent, .. } => LoggedRequest {
                method: method_of_request_line(request_line),
                path: path_of_request_line(request_line),
                host: host.unwrap_or_default(),
                user_agent: user_agent.unwrap_or_default(),
                trace_id: "",
            },
        }
    }
}

/// An attempt as it is logged.
#[derive(Serialize)]
struct LoggedAttempt<'r> {
    server: &'r str,
    cause: Cow<'r, str>,
    ms: u64,
}

/// All attempts as a JSON list, if there was more than one.
fn attempt_list(exchange: &Exchange<'_>, fault: Option<&Fault>, outcome: RequestOutcome) -> Option<String> {
    let record = &exchange.record;
    let last_started = record.retried_attempts.last()?.ended;
    let failed = record.retried_attempts.iter().map(|attempt| LoggedAttempt {
        server: &attempt.server,
        cause: match attempt.reason {
            RetryReason::Fault(cause) => cause.name().into(),
            RetryReason::Status(status) => status.to_string().into(),
        },
        ms: milliseconds(attempt.elapsed),
    });
    // An attempt ends with the response headers; the body is not part of it.
    let response_time = record.response_headers_at.map(|at| at.saturating_duration_since(last_started));
    let (cause, elapsed) = match (response_time, fault) {
        (Some(elapsed), _) => ("ok", elapsed),
        (None, Some(fault)) => (fault.cause().name(), last_started.elapsed()),
        (None, None) => (outcome.name(), last_started.elapsed()),
    };
    let last = LoggedAttempt { server: record.server(), cause: cause.into(), ms: milliseconds(elapsed) };
    serde_json::to_string(&failed.chain([last]).collect::<Vec<_>>()).ok()
}

fn milliseconds(elapsed: Duration) -> u64 {
    u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
}

/// The method in a request line; empty if it is not a token (RFC 9110 5.6.2).
fn method_of_request_line(request_line: &[u8]) -> &str {
    let method = request_line.split(|octet| *octet == b' ').next().unwrap_or_default();
    if ascii_class::is_token(method) { str::from_utf8(method).unwrap_or_default() } else { "" }
}

/// The path in a request line, without the query; empty if the line has no target.
fn path_of_request_line(request_line: &[u8]) -> &[u8] {
    let target = request_line.split(|octet| *octet == b' ').nth(1).unwrap_or_default();
    target.split(|octet| *octet == b'?').next().unwrap_or_default()
}

/// Counts a client that disconnected: as a connection closed without response, or as an aborted response. One that did
/// not read is counted with its request.
pub(super) fn count_disconnect(gateway: &Gateway, state: ResponseState) {
    match state {
        ResponseState::NotStarted => gateway.metrics.closed_without_response(CloseReason::ClientGone),
        ResponseState::Started | ResponseState::Disconnected => gateway.metrics.aborted_client_gone(),
        ResponseState::Complete | ResponseState::Aborted(_) | ResponseState::WriteTimeout => {}
    }
}
