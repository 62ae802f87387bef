//! Relay: the upstream's response passes to the client while the rest of the request still goes the other way.
//!
//! One of the two places that write to clients. What passes keeps every end-to-end field; nothing is judged here. Once
//! the head has left, a fault can only cut the message so that the client sees it.
#![expect(clippy::disallowed_methods, reason = "this is one of the two places that write to clients")]

use std::borrow::Cow;
use std::future::poll_fn;
use std::task::Poll;
use std::time::Instant;

use http::{HeaderName, HeaderValue};

use super::attempt::UpstreamResponse;
use super::classify::ConformingBody;
use super::clock::TimeLimit;
use super::context::{RequestContext, RequestLog};
use super::downstream::{Downstream, FieldWriter};
use super::local_reply::{self, SendResult};
use super::message::{self, BodyLength, HeaderFields, ResponseHeadParts};
use super::tunnel::{self, TunnelTimeouts};
use super::upload::{UploadEvent, WaitingFor};
use super::upstream_conn::UpstreamResponseHead;
use super::upstream_conn::h1::UpstreamH1;
use super::wait::Wait;
use crate::contract::{Cause, Fault, Phase, RequestSent, header_filter};
use crate::http::hop_by_hop;
use crate::http::response_head::ResponseFraming;
use crate::upstream::timer::timeout_at;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Response bytes that may wait for a slow client before the upstream is no longer read.
const MAX_UNSENT: usize = 64 * 1024;

/// How a relay ended.
#[derive(Debug)]
pub(super) enum RelayOutcome {
    /// The client has the whole response, as far as we can know.
    Complete,
    /// The response was cut by this fault.
    Aborted(Fault),
    /// A tunnel was closed because nothing moved in it.
    TunnelIdle,
    /// The client left.
    ClientDisconnected,
}

/// Tells a client that waits for it to send its body.
pub(super) fn send_continue(client: &mut Downstream) {
    client.send_interim(100, |_| {});
}

/// Passes an interim response on, to whom understands it (RFC 9110 15.2).
pub(super) fn forward_interim(client: &mut Downstream, response_head: &UpstreamResponseHead) {
    if !client.supports_interim() {
        return;
    }
    client.send_interim(response_head.facts.status, |writer| forward_fields(writer, response_head, |_| true));
}

/// Passes a response of any length. `buffered` holds what was already read of its body.
pub(super) async fn forward(
    context: &mut RequestContext<'_>,
    response: &mut UpstreamResponse,
    buffered: &[u8],
) -> RelayOutcome {
    let response_head = &response.response_head;
    let status = response_head.facts.status;
    let length = match (response_head.facts.framing, response_head.facts.content_length) {
        // As it was said: gRPC's answers without a message, for one.
        _ if response_head.headers_only && context.client.is_h2() => BodyLength::Absent,
        (ResponseFraming::Length(length), _) | (ResponseFraming::NoBody, Some(length)) => {
            BodyLength::Exactly(length)
        }
        (ResponseFraming::NoBody, None) => BodyLength::Absent,
        (ResponseFraming::Chunked | ResponseFraming::UntilClose, _) => BodyLength::Unknown,
    };
    // The phrase of an error is the upstream's text, and text of errors is ours to choose.
    let reason = (status < 400 && !response_head.reason.is_empty()).then_some(&response_head.reason[..]);
    if context.client.awaits_continue() {
        // It may send its body now or not: what comes next could not be told apart from a request.
        context.client.close_after_response();
    }
    let log = &*context.log;
    let Some(sender) = context.client.response_sender() else { return RelayOutcome::ClientDisconnected };
    let sent = sender.send_response_head(&ResponseHeadParts { status, reason, length }, |writer| {
        forward_fields(writer, response_head, |name| {
            !name.eq_ignore_ascii_case(b"x-request-id") && !log.response_headers.overrides(name)
        });
        write_response_headers(writer, log, &response_head.fields);
    });
    if sent.is_err() {
        return RelayOutcome::ClientDisconnected;
    }
    let delimited = response_head.facts.framing != ResponseFraming::UntilClose;
    context.client.send_data(buffered);
    context.log.response_bytes += buffered.len() as u64;
    let outcome =
        relay_body(context, response, IdlePolicy { streaming: response_head.facts.is_streaming, delimited })
            .await;
    match &outcome {
        RelayOutcome::Complete => {}
        RelayOutcome::Aborted(fault) => {
            // What came before the cut is the client's, unless its time is up or its own slowness is the fault.
            if !matches!(fault.cause(), Cause::ClientTooSlow | Cause::DeadlineExceeded) {
                let _ = local_reply::flush(context.client, context.snapshot.client.write_timeout).await;
            }
            context.client.abort();
        }
        RelayOutcome::ClientDisconnected => context.client.set_disconnected(),
        RelayOutcome::TunnelIdle => context.client.abort(),
    }
    outcome
}

/// Passes a 101 that both sides have agreed on, and then every byte of either until both have ended.
///
/// What follows is no message of HTTP: [`tunnel`] moves it, and how it ends is told here.
pub(super) async fn forward_upgrade(
    context: &mut RequestContext<'_>,
    response: UpstreamResponse,
) -> RelayOutcome {
    let UpstreamResponse { conn, response_head } = response;
    let Some(UpstreamH1 { io: mut upstream, .. }) = conn.into_h1() else {
        return RelayOutcome::ClientDisconnected;
    };
    let protocol = context
        .offer
        .as_ref()
        .and_then(|offer| response_head.negotiated_protocol(offer).ok())
        .unwrap_or_default();
    let reason = (!response_head.reason.is_empty()).then_some(&response_head.reason[..]);
    let log = &*context.log;
    let Some(sender) = context.client.response_sender() else { return RelayOutcome::ClientDisconnected };
    let parts = ResponseHeadParts { status: response_head.facts.status, reason, length: BodyLength::Absent };
    let sent = sender.send_response_head(&parts, |writer| {
        forward_fields(writer, &response_head, |name| {
            !name.eq_ignore_ascii_case(b"x-request-id") && !log.response_headers.overrides(name)
        });
        write_response_headers(writer, log, &response_head.fields);
        writer.append(b"Upgrade", protocol);
    });
    if sent.is_err() {
        return RelayOutcome::ClientDisconnected;
    }
    let timeouts = TunnelTimeouts {
        idle: context.route.timeouts().tunnel_idle,
        max_duration: context.clock.max_duration(Phase::Relay),
    };
    let Some(client) = context.client.as_h1() else { return RelayOutcome::ClientDisconnected };
    let begun = Instant::now();
    let (outcome, bytes) = tunnel::run(&mut client.io, &mut upstream, timeouts).await;
    // Whatever passes in a tunnel is between its two ends.
    context.log.waited += begun.elapsed();
    context.log.response_bytes += bytes;
    match &outcome {
        RelayOutcome::Complete => {
            context.client.send_end();
        }
        // Whoever is left sees a reset: the bytes of a tunnel have no other end that is not a clean one.
        RelayOutcome::Aborted(_) => {
            let _ = local_reply::flush(context.client, context.snapshot.client.write_timeout).await;
            context.client.abort();
            upstream.reset();
        }
        RelayOutcome::TunnelIdle => {
            context.client.abort();
            upstream.reset();
        }
        RelayOutcome::ClientDisconnected => {
            context.client.set_disconnected();
            upstream.reset();
        }
    }
    outcome
}

/// Passes a conforming error: whole, unstorable, without the fields that tell about the server.
pub(super) async fn forward_error(
    context: &mut RequestContext<'_>,
    response_head: &UpstreamResponseHead,
    error: &ConformingBody,
    default_retry_after: u64,
) -> RelayOutcome {
    let status = response_head.facts.status;
    let length = match (&error.body, response_head.facts.content_length) {
        (Some(body), _) => BodyLength::Exactly(body.len() as u64),
        (None, Some(length)) => BodyLength::Exactly(length),
        (None, None) => BodyLength::Absent,
    };
    let log = &*context.log;
    let drain = local_reply::plan_drain(context.client);
    let now = std::time::SystemTime::now();
    let Some(sender) = context.client.response_sender() else { return RelayOutcome::ClientDisconnected };
    let sent = sender.send_response_head(&ResponseHeadParts { status, reason: None, length }, |writer| {
        let mut retry_afters = response_head.fields.values("retry-after");
        let usable = |value: &&[u8]| {
            HeaderValue::from_bytes(value).is_ok_and(|value| header_filter::is_valid_retry_after(&value, now))
        };
        let first = retry_afters.next().filter(usable).map(Cow::Borrowed);
        // Of several, clients read one or none: the first stands, as in an error that is replaced.
        let (several, wants_retry_after) = (retry_afters.next().is_some(), matches!(status, 429 | 503));
        let sets_retry_after = several || (wants_retry_after && first.is_none());
        let default_value =
            || wants_retry_after.then(|| Cow::Owned(default_retry_after.max(1).to_string().into_bytes()));
        let retry_after_value = sets_retry_after.then(|| first.or_else(default_value)).flatten();
        forward_fields(writer, response_head, |name| {
            let is = |lower: &[u8]| name.eq_ignore_ascii_case(lower);
            let replaced = is(b"x-request-id")
                || log.response_headers.overrides(name)
                || is(b"cache-control")
                || (sets_retry_after && is(b"retry-after"))
                || (error.decoded && is(b"content-encoding"));
            !replaced
                && HeaderName::from_bytes(name).is_ok_and(|name| !header_filter::drop_on_conforming(&name))
        });
        writer.append(b"Cache-Control", b"no-store");
        write_response_headers(writer, log, &response_head.fields);
        if let Some(retry_after_value) = retry_after_value {
            writer.append(b"Retry-After", &retry_after_value);
        }
    });
    let Ok(client) = sent else { return RelayOutcome::ClientDisconnected };
    let body_bytes = error.body.as_ref().map_or(&[][..], |body| &body[..]);
    client.send_data(body_bytes);
    client.send_end();
    context.log.response_bytes += body_bytes.len() as u64;
    match local_reply::finish_response(client, drain, context.snapshot.client.write_timeout).await {
        SendResult::Complete => RelayOutcome::Complete,
        SendResult::Disconnected | SendResult::WriteTimeout => RelayOutcome::ClientDisconnected,
    }
}

/// The fields that are added to whatever passes.
fn write_response_headers(writer: &mut FieldWriter<'_>, log: &RequestLog, upstream_fields: &HeaderFields) {
    writer.append_generated(&REQUEST_ID, &log.request_id);
    for (name, value) in log.response_headers.fields() {
        writer.append_generated(name, value);
    }
    for (name, value) in log.response_headers.merged_fields(Some(upstream_fields)) {
        writer.append_generated(&name, &value);
    }
}

/// Every end-to-end field that `keep` does not take out, as it came.
fn forward_fields(
    writer: &mut FieldWriter<'_>,
    response_head: &UpstreamResponseHead,
    keep: impl Fn(&[u8]) -> bool,
) {
    let connection_options = response_head.connection_options();
    for (name, value) in response_head.fields.iter() {
        if !connection_options.removes_name(name) && !hop_by_hop::is_framing_name(name) && keep(name) {
            writer.append(name, value);
        }
    }
}

/// Which silences of the upstream are allowed.
#[derive(Clone, Copy, Debug)]
struct IdlePolicy {
    /// An event stream or gRPC: quiet by nature.
    streaming: bool,
    /// The end is not the connection's end.
    delimited: bool,
}

/// What one step of the relay brought.
enum RelayStep {
    /// Bytes moved; limits begin anew.
    Progress,
    /// Everything is written.
    Done,
    /// The upstream's message broke.
    Fault(Fault),
    /// The client takes nothing more.
    ClientDisconnected,
    Upload(UploadEvent),
}

/// Moves the body, and the rest of the request, until the response is whole.
async fn relay_body(
    context: &mut RequestContext<'_>,
    response: &mut UpstreamResponse,
    idle_policy: IdlePolicy,
) -> RelayOutcome {
    let conn = &mut response.conn;
    let mut response_ended = false;
    let mut upload_active = true;
    let mut last_read = Instant::now();
    let mut last_write = last_read;
    let mut now = last_read;
    loop {
        let unsent = context.client.unsent();
        let limit =
            relay_limit(context, idle_policy, upload_active, (unsent > 0).then_some(last_write), last_read);
        let mut wait = Wait::begin(now);
        let step = timeout_at(
            limit.at,
            poll_fn(|cx| {
                wait.polled();
                // Reading goes first, so that what came with the head leaves with it, in one write.
                let mut progressed = false;
                while !response_ended {
                    let capacity = context.client.send_capacity(MAX_UNSENT);
                    if capacity == 0 {
                        break;
                    }
                    match conn.poll_body(cx, capacity) {
                        Poll::Ready(Ok(Some(length))) => {
                            if !context.client.send_data(conn.body_bytes(length)) {
                                return Poll::Ready(RelayStep::Fault(Fault::new(
                                    Cause::HttpProtocolError,
                                    Phase::Relay,
                                )));
                            }
                            conn.consume(length);
                            context.log.response_bytes += length as u64;
                            progressed = true;
                        }
                        Poll::Ready(Ok(None)) => {
                            response_ended = true;
                            if let Some(trailers) = conn.take_trailers() {
                                context.client.send_trailers(message::filter_trailers(
                                    trailers,
                                    hop_by_hop::is_allowed_in_trailers,
                                ));
                            }
                            if !context.client.send_end() {
                                return Poll::Ready(RelayStep::Fault(Fault::new(
                                    Cause::HttpResponseIncomplete,
                                    Phase::Relay,
                                )));
                            }
                            progressed = true;
                        }
                        Poll::Ready(Err(fault)) => return Poll::Ready(RelayStep::Fault(fault)),
                        Poll::Pending => break,
                    }
                }
                if context.client.unsent() > 0 {
                    match context.client.poll_flush(cx) {
                        Poll::Ready(Ok(())) => progressed = true,
                        Poll::Ready(Err(_)) => return Poll::Ready(RelayStep::ClientDisconnected),
                        Poll::Pending => {}
                    }
                }
                if response_ended && context.client.unsent() == 0 {
                    return Poll::Ready(RelayStep::Done);
                }
                if progressed {
                    return Poll::Ready(RelayStep::Progress);
                }
                wait.result(if upload_active {
                    context.upload.poll(cx, context.client, conn).map(RelayStep::Upload)
                } else {
                    Poll::Pending
                })
            }),
        )
        .await;
        context.log.waited += wait.total();
        now = Instant::now();
        if context.client.unsent() != unsent {
            last_write = now;
        }
        if context.upload.has_ended()
            && context.upload.waiting() == WaitingFor::Nothing
            && !conn.write_failed()
        {
            context.log.request_sent = RequestSent::Full;
        }
        match step {
            None => {
                let writing_since = (context.client.unsent() > 0).then_some(last_write);
                let limit = relay_limit(context, idle_policy, upload_active, writing_since, last_read);
                if now >= limit.at {
                    let fault = limit.fault();
                    conn.probe(&fault);
                    return RelayOutcome::Aborted(fault);
                }
            }
            Some(RelayStep::Done) => return RelayOutcome::Complete,
            Some(RelayStep::Progress) => last_read = now,
            Some(RelayStep::Fault(fault)) => return RelayOutcome::Aborted(fault),
            Some(RelayStep::ClientDisconnected) => return RelayOutcome::ClientDisconnected,
            Some(RelayStep::Upload(UploadEvent::WaitChanged)) => {}
            Some(RelayStep::Upload(UploadEvent::Failed(fault))) => return RelayOutcome::Aborted(fault),
            // A client that half-closes still reads a response that has an end of its own; one that left is noticed
            // when we write to it. A quiet stream would never notice.
            Some(RelayStep::Upload(UploadEvent::ClientDisconnected)) => {
                if context.client.is_h2() || idle_policy.streaming || !idle_policy.delimited {
                    return RelayOutcome::ClientDisconnected;
                }
                upload_active = false;
            }
        }
    }
}

/// The limit that strikes first while a response passes.
fn relay_limit(
    context: &RequestContext<'_>,
    idle_policy: IdlePolicy,
    upload_active: bool,
    writing_since: Option<Instant>,
    last_read: Instant,
) -> TimeLimit {
    let timeouts = context.route.timeouts();
    let first = match writing_since {
        // The client takes nothing; the upstream may be as quiet as it likes.
        Some(since) => {
            TimeLimit::new(since + context.snapshot.client.write_timeout, Cause::ClientTooSlow, Phase::Relay)
        }
        None => {
            let idle = if idle_policy.streaming { timeouts.stream_idle } else { timeouts.body_idle };
            // An upstream that still takes an upload may be quiet meanwhile.
            let last_activity =
                if upload_active { last_read.max(context.upload.idle_since()) } else { last_read };
            TimeLimit::new(last_activity + idle, Cause::ConnectionReadTimeout, Phase::Relay)
        }
    };
    let upload = (upload_active && context.upload.waiting() == WaitingFor::Client && !idle_policy.streaming)
        .then(|| context.upload.idle_limit(&context.snapshot.client));
    first.earlier(upload).earlier(context.clock.max_duration(Phase::Relay))
}
