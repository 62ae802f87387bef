//! Records a request: metrics when its response headers are sent, metrics and one access log line when it ends.

use bytes::Bytes;
use http::Method;

use super::context::RequestLog;
use super::downstream::{Downstream, ResponseState};
use super::gateway::Gateway;
use super::message::request::Request;
use super::response_headers::ResponseHeaderMutations;
use crate::config::ErrorRules;
use crate::contract::grpc;
use crate::contract::{Cause, Fault, LocalReply, Trigger};
use crate::snapshot::error_context::ErrorContext;
use crate::snapshot::{Route, Snapshot};
use crate::telemetry::{AccessRecord, CloseReason, Outcome, ResponseOrigin, RouteMetrics};

/// The method assumed for a malformed request.
static GET: Method = Method::GET;

/// How a request ended.
#[derive(Debug)]
pub(super) enum RequestEnd {
    /// The upstream's response was forwarded.
    Forwarded { status: u16 },
    /// The upstream's error was replaced.
    Replaced { status: u16 },
    /// The gateway sent a local reply for a fault.
    Replied { status: u16, fault: Fault },
    /// The gateway responded to a preflight.
    Preflight { status: u16 },
    /// The response was truncated after its headers were sent.
    Aborted { status: u16, fault: Fault },
    /// A tunnel was closed after its idle timeout.
    TunnelIdle { status: u16 },
    /// The client disconnected before the response was complete.
    ClientDisconnected,
}

/// How the forwarding of a response ended.
#[derive(Debug)]
pub(super) enum RelayOutcome {
    /// The whole response was written to the transport.
    Complete,
    /// The response was truncated because of this fault.
    Aborted(Fault),
    /// A tunnel was closed after its idle timeout.
    TunnelIdle,
    ClientDisconnected,
}

/// A request that is rejected before it is routed: it is malformed, or its connection is over the connection limit.
#[derive(Debug)]
pub(super) struct RejectedRequest {
    pub(super) fault: Fault,
    /// The received part of the request line.
    pub(super) request_line: Bytes,
    /// Fields to add to the response, as far as the request could be parsed.
    pub(super) response_headers: ResponseHeaderMutations,
    /// The request is a gRPC request, as far as it could be parsed.
    pub(super) is_grpc: bool,
}

/// What a response and its metrics depend on: the configuration, the route and the request.
#[derive(Clone, Copy, Debug)]
pub(super) struct RequestScope<'a> {
    pub(super) gateway: &'a Gateway,
    pub(super) snapshot: &'a Snapshot,
    pub(super) route: Option<&'a Route>,
    /// `None` for a rejected request.
    pub(super) request: Option<&'a Request>,
    /// The request is a rejected gRPC request: `request` is `None`, and the reply must be a gRPC error.
    pub(super) rejected_grpc: bool,
}

impl<'a> RequestScope<'a> {
    /// The scope of a valid request.
    pub(super) const fn for_request(
        gateway: &'a Gateway,
        snapshot: &'a Snapshot,
        route: Option<&'a Route>,
        request: &'a Request,
    ) -> Self {
        RequestScope { gateway, snapshot, route, request: Some(request), rejected_grpc: false }
    }
}

impl RequestScope<'_> {
    /// The `errors` configuration of the route, or the top-level one without a route.
    pub(super) fn error_config(&self) -> &ErrorRules {
        self.route.map_or(&self.snapshot.unrouted.errors, |route| &route.config.errors)
    }

    /// The input of the error policy.
    pub(super) fn error_context(&self) -> ErrorContext<'_> {
        ErrorContext {
            contract: &self.snapshot.contract,
            overrides: &self.snapshot.overrides,
            error_config: self.error_config(),
            upstream: self.route.map(|route| route.upstream.name()),
            method: self.request.map_or(&GET, |request| &request.method),
            grpc: self.request.map_or(self.rejected_grpc, Request::is_grpc),
        }
    }

    fn metrics(&self) -> &RouteMetrics {
        self.route.map_or(&self.snapshot.unrouted.metrics, |route| &route.metrics)
    }
}

/// Counts a final response. To be called before its headers are sent: a client that has read the response then finds
/// it counted.
///
/// `trigger` is `None` if the upstream's status is forwarded.
pub(super) fn count_response(
    scope: &RequestScope<'_>,
    status: u16,
    origin: ResponseOrigin,
    trigger: Option<Trigger>,
    log: &RequestLog,
) {
    let metrics = scope.metrics();
    metrics.response(status, origin);
    if status >= 400 {
        metrics.error(status, trigger.unwrap_or(Trigger::UpstreamStatus(status)), log.upstream_status);
    }
}

/// Counts a local reply that is a gRPC error: its HTTP status code is 200.
pub(super) fn count_grpc_error(scope: &RequestScope<'_>, trigger: Trigger, reply: &LocalReply) {
    if reply.status() == 200
        && let Some(code) = reply.code()
    {
        scope.metrics().grpc_error(trigger, grpc::status_for_error(trigger, code.status()));
    }
}

/// Counts and logs the end of a request.
pub(super) fn record(scope: &RequestScope<'_>, log: &RequestLog, client: &Downstream, end: &RequestEnd) {
    let metrics = scope.metrics();
    let elapsed = log.started.elapsed();
    // Requests of disconnected clients count too.
    scope.gateway.metrics.overhead(elapsed.saturating_sub(log.waited).saturating_sub(client.waited()));
    let (status, fault, outcome) = match end {
        RequestEnd::Forwarded { status } => (Some(*status), None, Outcome::Forwarded),
        RequestEnd::Replaced { status } => (Some(*status), None, Outcome::Replaced),
        RequestEnd::Replied { status, fault } => {
            (Some(*status), Some(fault), Outcome::for_reply(*status, fault.cause()))
        }
        RequestEnd::Preflight { status } => (Some(*status), None, Outcome::Preflight),
        RequestEnd::Aborted { status, fault } => {
            scope.gateway.metrics.aborted(fault.cause());
            (Some(*status), Some(fault), Outcome::Aborted)
        }
        RequestEnd::TunnelIdle { status } => {
            scope.gateway.metrics.aborted_tunnel_idle();
            (Some(*status), None, Outcome::TunnelIdle)
        }
        RequestEnd::ClientDisconnected => {
            metrics.client_disconnected();
            (None, None, Outcome::ClientDisconnected)
        }
    };
    if let Some(status) = status {
        metrics.duration(status, elapsed);
    }
    let is_error =
        !matches!(end, RequestEnd::Forwarded { status } | RequestEnd::Preflight { status } if *status < 400);
    let access = scope.snapshot.access;
    if !access.is_enabled(is_error) {
        return;
    }
    access.emit(&AccessRecord {
        request_id: log.request_id.to_str().unwrap_or_default(),
        route: scope.route.map_or("", |route| &route.config.name),
        method: scope.request.map_or("", |request| request.method.as_str()),
        path: scope.request.map_or_else(|| path_of_request_line(&log.request_line), Request::path),
        client_ip: Some(log.client_ip),
        upstream: scope.route.map_or("", |route| route.upstream.name()),
        server: log.server.as_deref().unwrap_or_default(),
        cause: fault.map(Fault::cause),
        phase: fault.map(Fault::phase),
        code: status,
        upstream_status: log.upstream_status,
        bytes: log.response_bytes,
        attempts: log.attempts,
        elapsed,
        connect: log.connect_time,
        response_headers: log.response_headers_time,
        request_sent: log.request_sent,
        rule: log.denied_by.as_ref().map_or("", |rule| rule.limiter.name()),
        evidence: fault.map_or(&log.upstream_evidence, Fault::evidence),
        outcome,
    });
}

/// The path in a request line, without the query; empty if the line has no target.
fn path_of_request_line(request_line: &[u8]) -> &[u8] {
    let target = request_line.split(|octet| *octet == b' ').nth(1).unwrap_or_default();
    target.split(|octet| *octet == b'?').next().unwrap_or_default()
}

/// Counts a client that disconnected or did not read: as a connection closed without response, or as an aborted
/// response.
pub(super) fn count_disconnect(gateway: &Gateway, state: ResponseState) {
    match state {
        ResponseState::NotStarted => gateway.metrics.closed_without_response(CloseReason::ClientGone),
        ResponseState::HeadersSent | ResponseState::Disconnected => gateway.metrics.aborted_client_gone(),
        ResponseState::WriteTimeout => gateway.metrics.aborted(Cause::ClientTooSlow),
        ResponseState::Complete | ResponseState::Aborted(_) => {}
    }
}
