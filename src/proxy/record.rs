//! Record: counters when an answer's head is handed over, one event when the request is over.
//!
//! The values are those that decided the answer; nothing is derived a second time.

use bytes::Bytes;
use http::Method;

use super::context::RequestLog;
use super::downstream::{Downstream, ResponseState};
use super::gateway::Gateway;
use super::message::request::Request;
use super::response_headers::ResponseHeaderMutations;
use crate::config::ErrorRules;
use crate::contract::grpc::GrpcStatus;
use crate::contract::{Cause, Fault, LocalReply, Trigger};
use crate::snapshot::error_context::ErrorContext;
use crate::snapshot::{Route, Snapshot};
use crate::telemetry::{AccessRecord, CloseReason, Outcome, ResponseOrigin, RouteMetrics};

/// The method of what is no request.
static GET: Method = Method::GET;

/// How a request ended.
#[derive(Debug)]
pub(super) enum RequestEnd {
    /// The upstream's response passed.
    Forwarded { status: u16 },
    /// Its error was replaced.
    Replaced { status: u16 },
    /// We answered a fault.
    Replied { status: u16, fault: Fault },
    /// We answered a preflight.
    Preflight { status: u16 },
    /// The response was cut after its head.
    Aborted { status: u16, fault: Fault },
    /// A tunnel was closed because nothing moved in it.
    TunnelIdle { status: u16 },
    /// Nobody was there to answer, or to answer in full.
    ClientDisconnected,
}

/// What is answered although it is no request.
#[derive(Debug)]
pub(super) struct RejectedRequest {
    pub(super) fault: Fault,
    /// `METHOD TARGET ...`, as far as it was sent.
    pub(super) request_line: Bytes,
    /// What the answer wears, as far as anything is known of the request.
    pub(super) response_headers: ResponseHeaderMutations,
    /// It is a call of gRPC, as far as that can be read.
    pub(super) is_grpc: bool,
}

/// What a request belongs to.
#[derive(Clone, Copy, Debug)]
pub(super) struct RequestScope<'a> {
    pub(super) gateway: &'a Gateway,
    pub(super) snapshot: &'a Snapshot,
    pub(super) route: Option<&'a Route>,
    /// `None` when the head was not one.
    pub(super) request: Option<&'a Request>,
    /// What is no request is answered as a call of gRPC.
    pub(super) rejected_grpc: bool,
}

impl<'a> RequestScope<'a> {
    /// Of a request that was understood.
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
    /// The error rules that hold.
    pub(super) fn error_config(&self) -> &ErrorRules {
        self.route.map_or(&self.snapshot.unrouted.errors, |route| &route.config.errors)
    }

    /// What its error answers rest on.
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

/// Counts a final head, before it is handed to the transport: whoever has read it finds it counted.
///
/// `trigger` is `None` when the upstream's own status passes.
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

/// Counts an error that is said in the words of gRPC: on the wire it is a 200.
pub(super) fn count_grpc_error(scope: &RequestScope<'_>, trigger: Trigger, reply: &LocalReply) {
    if reply.status() == 200
        && let Some(code) = reply.code()
    {
        scope.metrics().grpc_error(trigger, GrpcStatus::for_error(trigger, code.status()));
    }
}

/// Counts and logs the end of a request.
pub(super) fn record(scope: &RequestScope<'_>, story: &RequestLog, client: &Downstream, ended: &RequestEnd) {
    let metrics = scope.metrics();
    let elapsed = story.started.elapsed();
    // Whatever became of it: what the gateway does for a client that leaves is its own work too.
    scope.gateway.metrics.overhead(elapsed.saturating_sub(story.waited).saturating_sub(client.waited()));
    let (status, fault, outcome) = match ended {
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
    let is_error = !matches!(ended, RequestEnd::Forwarded { status } | RequestEnd::Preflight { status } if *status < 400);
    let access = scope.snapshot.access;
    if !access.is_enabled(is_error) {
        return;
    }
    access.emit(&AccessRecord {
        request_id: story.request_id.to_str().unwrap_or_default(),
        route: scope.route.map_or("", |route| &route.config.name),
        method: scope.request.map_or("", |request| request.method.as_str()),
        path: scope.request.map_or_else(|| path_of_request_line(&story.request_line), Request::path),
        client_ip: Some(story.client_ip),
        upstream: scope.route.map_or("", |route| route.upstream.name()),
        server: story.server.as_deref().unwrap_or_default(),
        cause: fault.map(Fault::cause),
        phase: fault.map(Fault::phase),
        code: status,
        upstream_status: story.upstream_status,
        bytes: story.response_bytes,
        attempts: story.attempts,
        elapsed,
        connect: story.connect_time,
        response_headers: story.response_headers_time,
        request_sent: story.request_sent,
        rule: story.denied_by.as_ref().map_or("", |rule| rule.limiter.name()),
        evidence: fault.map_or(&story.upstream_evidence, Fault::evidence),
        outcome,
    });
}

/// The second word of a line, without a query; nothing when there is no second word.
fn path_of_request_line(request_line: &[u8]) -> &[u8] {
    let target = request_line.split(|octet| *octet == b' ').nth(1).unwrap_or_default();
    target.split(|octet| *octet == b'?').next().unwrap_or_default()
}

/// Counts a client that left: as a silence when nothing had been answered, as an abort when an answer had begun.
pub(super) fn count_disconnect(gateway: &Gateway, state: ResponseState) {
    match state {
        ResponseState::NotStarted => gateway.metrics.closed_without_response(CloseReason::ClientGone),
        ResponseState::HeadersSent | ResponseState::Disconnected => gateway.metrics.aborted_client_gone(),
        ResponseState::WriteTimeout => gateway.metrics.aborted(Cause::ClientTooSlow),
        ResponseState::Complete | ResponseState::Aborted(_) => {}
    }
}
