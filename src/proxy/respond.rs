//! Responds to a request: [`respond`] counts, sends and ends every final response, in this order.
//!
//! [`super::request`] chooses the response. [`super::relay`] and [`super::local_reply`] write it.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method};

use super::classify::Classification;
use super::context::{Exchange, Forwarding};
use super::error_body::{BodyChange, ConformingBody};
use super::local_reply;
use super::record::{self, DeliveryOutcome, RequestEnd};
use super::relay;
use super::reply_builder;
use super::upstream_conn::{UpstreamResponse, UpstreamResponseHead};
use crate::contract::{Cause, Fault, FixedResponse, LocalReply, Phase, RedirectStatus, Trigger};
use crate::http::cors::HeaderField;
use crate::http::header_edits::{RenderedEdits, is_defined_for_errors};
use crate::telemetry::ResponseOrigin;

/// The final response to a request.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "the largest is the most common: boxing it costs an allocation"
)]
pub(super) enum FinalResponse<'r, 'a> {
    /// The local reply that the contract defines for this fault.
    Fault(Fault),
    /// The reply to a CORS preflight from an allowed origin, with these fields.
    Preflight(Vec<HeaderField>),
    /// The redirect that the route declares.
    Redirect(RedirectStatus, HeaderValue),
    /// The fixed response that the route declares.
    Fixed(&'r FixedResponse),
    /// The upstream's response, forwarded or replaced.
    Upstream(&'r mut Forwarding<'a>, UpstreamResponse, Classification),
}

/// A final response, by what has been read of it.
enum Outgoing<'r, 'a> {
    LocalReply(LocalReply),
    /// An error that conforms to the contract: its whole body was read.
    ConformingError(UpstreamResponseHead, ConformingBody),
    /// The beginning of the body was read; the rest is relayed.
    Relayed(&'r mut Forwarding<'a>, UpstreamResponse, Bytes),
}

/// A final response that is ready to be counted and sent.
struct Prepared<'r, 'a> {
    outgoing: Outgoing<'r, 'a>,
    response_origin: ResponseOrigin,
    /// Why the response is an error of the gateway; `None` if it is not.
    trigger: Option<Trigger>,
    /// How the request ends if the whole response is sent.
    end: RequestEnd,
}

impl Prepared<'_, '_> {
    /// A reply of the gateway below 400.
    fn without_error(reply: LocalReply, end: RequestEnd) -> Self {
        let outgoing = Outgoing::LocalReply(reply);
        Prepared { outgoing, response_origin: ResponseOrigin::Proxy, trigger: None, end }
    }
}

/// Counts a final response, sends it, and returns how the request ended.
pub(super) async fn respond(exchange: &mut Exchange<'_>, response: FinalResponse<'_, '_>) -> RequestEnd {
    let Prepared { mut outgoing, response_origin, trigger, end } = prepare(exchange, response);
    if let (Outgoing::LocalReply(reply), Some(edits)) = (&mut outgoing, exchange.header_mutations.edits()) {
        edit_reply(reply, edits);
    }
    // A response that cannot be sent is not counted: the client disconnected, or another response was started.
    if !exchange.client.claim_response() {
        if let Outgoing::Relayed(forwarding, response, _) = outgoing {
            forwarding.release(response.conn);
        }
        return RequestEnd::ClientDisconnected { status: None };
    }
    if let (Outgoing::LocalReply(reply), Some(trigger)) = (&outgoing, trigger) {
        record::count_grpc_error(exchange, trigger, reply);
    }
    record::count_response(exchange, end.status(), response_origin, trigger);
    let outcome = match outgoing {
        Outgoing::LocalReply(reply) => send_local_reply(exchange, &reply).await,
        Outgoing::ConformingError(response_head, error) => {
            relay::forward_error(exchange, &response_head, &error).await
        }
        // Boxed because tunnels are rare and long: other requests should not reserve memory for one.
        Outgoing::Relayed(forwarding, response, _) if response.response_head.is_switching_protocols() => {
            Box::pin(relay::forward_upgrade(exchange, forwarding, response)).await
        }
        Outgoing::Relayed(forwarding, mut response, buffered) => {
            let outcome = relay::forward(exchange, forwarding, &mut response, &buffered).await;
            forwarding.release(response.conn);
            if matches!(outcome, DeliveryOutcome::Complete) {
                local_reply::plan_discard_after_response(exchange.client);
            }
            outcome
        }
    };
    end.with_delivery(outcome)
}

/// Applies the route's `response_headers` to a local reply. An error keeps the fields that the contract defines for it.
pub(crate) fn edit_reply(reply: &mut LocalReply, edits: &RenderedEdits) {
    let is_error = reply.code().is_some();
    let is_editable = |name: &HeaderName| !(is_error && is_defined_for_errors(name));
    let added = edits.fields().iter().filter(|(name, _)| is_editable(name)).cloned();
    reply.edit_headers(|name| is_editable(name) && edits.removes(name.as_str().as_bytes()), added);
}

/// Whether an HTTP/1 connection usually closes after the reply to this fault. For `explain`, which knows the cause and
/// the phase, but not the request: besides the faults of [`closes_connection`], a malformed header section leaves the
/// end of the request unknown.
pub(crate) const fn usually_closes_connection(cause: Cause, phase: Phase) -> bool {
    // CONNECT, and an expectation of a request with a body, are rejected before the framing is known.
    let is_unframed =
        matches!(phase, Phase::RequestHeaders) && !matches!(cause, Cause::InvalidHost | Cause::AmbiguousPath);
    is_unframed || closes_connection(cause, phase)
}

/// Whether an HTTP/1 connection closes after the reply to this fault of a request whose header section was framed: the
/// end of its body is unknown, or the connection is over the connection limit. [`local_reply`] also closes it if too
/// much of the request body is unread.
const fn closes_connection(cause: Cause, phase: Phase) -> bool {
    matches!(cause, Cause::ClientTooSlow | Cause::ConnectionLimitReached)
        // In phase `admit` a rate-limit key could not use the content; the framing is valid.
        || (matches!(cause, Cause::MalformedBody) && !matches!(phase, Phase::Admit))
}

/// Builds what is sent.
fn prepare<'r, 'a>(exchange: &mut Exchange<'_>, response: FinalResponse<'r, 'a>) -> Prepared<'r, 'a> {
    match response {
        FinalResponse::Fault(fault) => prepare_fault(exchange, fault),
        FinalResponse::Preflight(fields) => {
            let reply = LocalReply::preflight(fields, &exchange.context.request_id);
            let end = RequestEnd::Preflight { status: reply.status() };
            Prepared::without_error(reply, end)
        }
        FinalResponse::Redirect(status, location) => {
            let fields = exchange.header_mutations.take_fields(None);
            let reply = LocalReply::redirect(status, location, fields, &exchange.context.request_id);
            let end = RequestEnd::Redirected { status: reply.status() };
            Prepared::without_error(reply, end)
        }
        FinalResponse::Fixed(fixed) => {
            let fields = exchange.header_mutations.take_fields(None);
            let context = exchange.context;
            let is_head = context.error_context().method == Method::HEAD;
            let reply = LocalReply::fixed(fixed, is_head, fields, &context.request_id);
            let end = RequestEnd::FixedResponse { status: reply.status() };
            Prepared::without_error(reply, end)
        }
        FinalResponse::Upstream(forwarding, response, classification) => {
            prepare_upstream(exchange, forwarding, response, classification)
        }
    }
}

/// Builds what is sent for the upstream's response. Unless the response is relayed, its connection is released: the
/// next request of the upstream must not wait for a slow client.
fn prepare_upstream<'r, 'a>(
    exchange: &mut Exchange<'_>,
    forwarding: &'r mut Forwarding<'a>,
    response: UpstreamResponse,
    classification: Classification,
) -> Prepared<'r, 'a> {
    let end = RequestEnd::Forwarded { status: response.response_head.parsed.status };
    let response_origin = ResponseOrigin::Upstream;
    match classification {
        Classification::Forward(buffered) => {
            let outgoing = Outgoing::Relayed(forwarding, response, buffered);
            Prepared { outgoing, response_origin, trigger: None, end }
        }
        Classification::ForwardConforming(error) => {
            let UpstreamResponse { conn, response_head } = response;
            forwarding.release(conn);
            let response_origin = match error.change {
                BodyChange::MembersAdded | BodyChange::Problem => ResponseOrigin::Completed,
                BodyChange::Unchanged | BodyChange::Decoded | BodyChange::UnknownLength => response_origin,
            };
            Prepared {
                outgoing: Outgoing::ConformingError(response_head, error),
                response_origin,
                trigger: None,
                end,
            }
        }
        Classification::Replace(replacement) => {
            let UpstreamResponse { conn, response_head } = response;
            forwarding.release(conn);
            let reply = reply_builder::for_replacement(exchange, &response_head, &replacement);
            exchange.record.upstream_evidence = replacement.evidence;
            let end = RequestEnd::Replaced { status: reply.status() };
            let (outgoing, trigger) = (Outgoing::LocalReply(reply), replacement.decision.trigger());
            Prepared { outgoing, response_origin: ResponseOrigin::Replaced, trigger: Some(trigger), end }
        }
    }
}

fn prepare_fault<'r, 'a>(exchange: &mut Exchange<'_>, fault: Fault) -> Prepared<'r, 'a> {
    if closes_connection(fault.cause(), fault.phase()) {
        exchange.client.close_after_response();
    }
    let reply = reply_builder::for_fault(exchange, &fault);
    let trigger = Some(Trigger::Fault(fault.cause()));
    let end = RequestEnd::LocalError { status: reply.status(), fault };
    Prepared { outgoing: Outgoing::LocalReply(reply), response_origin: ResponseOrigin::Proxy, trigger, end }
}

async fn send_local_reply(exchange: &mut Exchange<'_>, reply: &LocalReply) -> DeliveryOutcome {
    exchange.record.response_bytes = reply.body().len() as u64;
    let write_timeout = exchange.context.snapshot.client.write_timeout;
    let Some(sender) = exchange.client.response_sender() else { return DeliveryOutcome::ClientDisconnected };
    local_reply::send(sender, reply, write_timeout).await.into()
}
