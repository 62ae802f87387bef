//! Record: counters when an answer's head is handed over, one event when the request is over.
//!
//! The values are those that decided the answer; nothing is derived a second time.

use bytes::Bytes;
use http::Method;

use super::downstream::{Downstream, Stage};
use super::dress::Dress;
use super::flow::Story;
use super::gateway::Gateway;
use super::request::Request;
use crate::config::ErrorRules;
use crate::contract::grpc::GrpcStatus;
use crate::contract::{Cause, Fault, LocalReply, Trigger};
use crate::observe::{AccessRecord, CloseReason, Outcome, ResponseOrigin, RouteMetrics};
use crate::snapshot::grounds::ErrorContext;
use crate::snapshot::{Route, Snapshot};

/// The method of what is no request.
static GET: Method = Method::GET;

/// How a request ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// The upstream's response passed.
    Passed { status: u16 },
    /// Its error was replaced.
    Replaced { status: u16 },
    /// We answered a fault.
    Replied { status: u16, fault: Fault },
    /// We answered a preflight.
    Preflight { status: u16 },
    /// The response was cut after its head.
    Cut { status: u16, fault: Fault },
    /// A tunnel was closed because nothing moved in it.
    TunnelIdle { status: u16 },
    /// Nobody was there to answer, or to answer in full.
    ClientGone,
}

/// What is answered although it is no request.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) fault: Fault,
    /// `METHOD TARGET ...`, as far as it was sent.
    pub(super) line: Bytes,
    /// What the answer wears, as far as anything is known of the request.
    pub(super) dress: Dress,
    /// It is a call of gRPC, as far as that can be read.
    pub(super) grpc: bool,
}

/// What a request belongs to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scope<'a> {
    pub(super) gateway: &'a Gateway,
    pub(super) snapshot: &'a Snapshot,
    pub(super) route: Option<&'a Route>,
    /// `None` when the head was not one.
    pub(super) request: Option<&'a Request>,
    /// What is no request is answered as a call of gRPC.
    pub(super) refused_grpc: bool,
}

impl<'a> Scope<'a> {
    /// Of a request that was understood.
    pub(super) const fn of(
        gateway: &'a Gateway,
        snapshot: &'a Snapshot,
        route: Option<&'a Route>,
        request: &'a Request,
    ) -> Self {
        Scope { gateway, snapshot, route, request: Some(request), refused_grpc: false }
    }
}

impl Scope<'_> {
    /// The error rules that hold.
    pub(super) fn rules(&self) -> &ErrorRules {
        self.route.map_or(&self.snapshot.unrouted.errors, |route| &route.config.errors)
    }

    /// What its error answers rest on.
    pub(super) fn grounds(&self) -> ErrorContext<'_> {
        ErrorContext {
            contract: &self.snapshot.contract,
            overrides: &self.snapshot.overrides,
            error_config: self.rules(),
            upstream: self.route.map(|route| route.upstream.name()),
            method: self.request.map_or(&GET, |request| &request.method),
            grpc: self.request.map_or(self.refused_grpc, Request::is_grpc),
        }
    }

    fn metrics(&self) -> &RouteMetrics {
        self.route.map_or(&self.snapshot.unrouted.metrics, |route| &route.metrics)
    }
}

/// Counts a final head, before it is handed to the transport: whoever has read it finds it counted.
///
/// `case` is `None` when the upstream's own status passes.
pub(super) fn count(
    scope: &Scope<'_>,
    status: u16,
    origin: ResponseOrigin,
    case: Option<Trigger>,
    story: &Story,
) {
    let metrics = scope.metrics();
    metrics.response(status, origin);
    if status >= 400 {
        metrics.error(status, case.unwrap_or(Trigger::UpstreamStatus(status)), story.upstream_status);
    }
}

/// Counts an error that is said in the words of gRPC: on the wire it is a 200.
pub(super) fn grpc(scope: &Scope<'_>, case: Trigger, reply: &LocalReply) {
    if reply.status() == 200
        && let Some(code) = reply.code()
    {
        scope.metrics().grpc_error(case, GrpcStatus::for_error(case, code.status()));
    }
}

/// Counts and logs the end of a request.
pub(super) fn record(scope: &Scope<'_>, story: &Story, client: &Downstream, ended: &Ended) {
    let metrics = scope.metrics();
    let elapsed = story.started.elapsed();
    // Whatever became of it: what the gateway does for a client that leaves is its own work too.
    scope.gateway.metrics.overhead(elapsed.saturating_sub(story.waited).saturating_sub(client.waited()));
    let (status, fault, outcome) = match ended {
        Ended::Passed { status } => (Some(*status), None, Outcome::Forwarded),
        Ended::Replaced { status } => (Some(*status), None, Outcome::Replaced),
        Ended::Replied { status, fault } => {
            (Some(*status), Some(fault), Outcome::for_reply(*status, fault.cause()))
        }
        Ended::Preflight { status } => (Some(*status), None, Outcome::Preflight),
        Ended::Cut { status, fault } => {
            scope.gateway.metrics.aborted(fault.cause());
            (Some(*status), Some(fault), Outcome::Aborted)
        }
        Ended::TunnelIdle { status } => {
            scope.gateway.metrics.aborted_tunnel_idle();
            (Some(*status), None, Outcome::TunnelIdle)
        }
        Ended::ClientGone => {
            metrics.client_disconnected();
            (None, None, Outcome::ClientDisconnected)
        }
    };
    if let Some(status) = status {
        metrics.duration(status, elapsed);
    }
    let is_error = !matches!(ended, Ended::Passed { status } | Ended::Preflight { status } if *status < 400);
    let access = scope.snapshot.access;
    if !access.is_enabled(is_error) {
        return;
    }
    access.emit(&AccessRecord {
        request_id: story.request_id.to_str().unwrap_or_default(),
        route: scope.route.map_or("", |route| &route.config.name),
        method: scope.request.map_or("", |request| request.method.as_str()),
        path: scope.request.map_or_else(|| path_of_line(&story.line), Request::path),
        client_ip: Some(story.client_ip),
        upstream: scope.route.map_or("", |route| route.upstream.name()),
        server: story.server.as_deref().unwrap_or_default(),
        cause: fault.map(Fault::cause),
        phase: fault.map(Fault::phase),
        code: status,
        upstream_status: story.upstream_status,
        bytes: story.bytes,
        attempts: story.attempts,
        elapsed,
        connect: story.connect,
        response_headers: story.response_head,
        request_sent: story.sent,
        rule: story.rule.as_ref().map_or("", |rule| rule.limiter.name()),
        evidence: fault.map_or(&story.said, Fault::evidence),
        outcome,
    });
}

/// The second word of a line, without a query; nothing when there is no second word.
fn path_of_line(line: &[u8]) -> &[u8] {
    let target = line.split(|octet| *octet == b' ').nth(1).unwrap_or_default();
    target.split(|octet| *octet == b'?').next().unwrap_or_default()
}

/// Counts a client that left: as a silence when nothing had been answered, as an abort when an answer had begun.
pub(super) fn client_left(gateway: &Gateway, stage: Stage) {
    match stage {
        Stage::Unanswered => gateway.metrics.closed_without_response(CloseReason::ClientGone),
        Stage::HeadSent | Stage::Lost => gateway.metrics.aborted_client_gone(),
        Stage::Stuck => gateway.metrics.aborted(Cause::ClientTooSlow),
        Stage::Finished | Stage::Cut(_) => {}
    }
}
