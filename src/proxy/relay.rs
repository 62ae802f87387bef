//! Forwards the upstream's response to the client, while the rest of the request body is still being sent.
//!
//! [`super::classify`] has decided that the response is forwarded. Its end-to-end header fields are kept, except those
//! that the route or the gateway sets. Once the response headers are sent, a fault can only truncate the response so
//! that the client detects it.
#![expect(
    clippy::disallowed_methods,
    reason = "relay and local_reply are the only files that write responses"
)]

use std::future::poll_fn;
use std::mem;
use std::task::{Context, Poll};
use std::time::{Instant, SystemTime};

use super::context::{Exchange, Forwarding};
use super::deadlines::TimeLimit;
use super::downstream::Downstream;
use super::error_body::ConformingBody;
use super::forwarded_response::{ConformingFields, conforming_length, forward_fields, write_gateway_fields};
use super::local_reply::{self, SendResult};
use super::message::{self, BodyLength, ResponseHeadParts};
use super::record::DeliveryOutcome;
use super::tunnel::{self, TunnelTimeouts};
use super::upload::{UploadEvent, WaitingFor};
use super::upstream_conn::h1::UpstreamH1;
use super::upstream_conn::{UpstreamConn, UpstreamResponse, UpstreamResponseHead};
use super::wait::Wait;
use crate::contract::{Cause, Fault, Phase, RequestSent};
use crate::http::hop_by_hop;
use crate::http::response_head::ResponseFraming;
use crate::upstream::timer::timeout_at;

/// Response bytes buffered for a slow client before reading from the upstream stops.
const MAX_UNSENT: usize = 64 * 1024;

/// Sends a 100 Continue to a client that waits for it.
pub(super) fn send_continue(client: &mut Downstream) {
    client.queue_interim(100, |_| {});
}

/// Forwards an interim response, unless the client uses HTTP/1.0 (RFC 9110 15.2).
pub(super) fn forward_interim(client: &mut Downstream, response_head: &UpstreamResponseHead) {
    if !client.supports_interim() {
        return;
    }
    client.queue_interim(response_head.parsed.status, |writer| {
        forward_fields(writer, response_head, |_| true);
    });
}

/// Forwards a response. `buffered` is the part of its body that was already read.
pub(super) async fn forward(
    exchange: &mut Exchange<'_>,
    forwarding: &mut Forwarding<'_>,
    response: &mut UpstreamResponse,
    buffered: &[u8],
) -> DeliveryOutcome {
    if !exchange.client.is_h2() {
        response.conn.ignore_trailers();
    }
    let response_head = &response.response_head;
    let status = response_head.parsed.status;
    let length = match (response_head.parsed.framing, response_head.parsed.content_length) {
        // Keep a trailers-only gRPC response as it is: HEADERS with END_STREAM, without Content-Length.
        _ if response_head.headers_only && exchange.client.is_h2() => BodyLength::Absent,
        // Trailers may follow: without Content-Length, HEADERS has no END_STREAM.
        (ResponseFraming::Length(0), _) if response.conn.expects_trailers() => BodyLength::Unknown,
        (ResponseFraming::Length(length), _) | (ResponseFraming::NoBody, Some(length)) => {
            BodyLength::Exactly(length)
        }
        (ResponseFraming::NoBody, None) => BodyLength::Absent,
        (ResponseFraming::Chunked | ResponseFraming::UntilClose, _) => BodyLength::Unknown,
    };
    // Error texts come from the contract: the reason phrase of an upstream error is not forwarded.
    let reason = (status < 400 && !response_head.reason.is_empty()).then_some(&response_head.reason[..]);
    if exchange.client.awaits_continue() {
        // The client may or may not send its body now, so the next bytes could be the body or another request.
        exchange.client.close_after_response();
    }
    let (request_id, header_mutations) = (&exchange.context.request_id, &exchange.header_mutations);
    let Some(sender) = exchange.client.response_sender() else { return DeliveryOutcome::ClientDisconnected };
    let sent = sender.queue_response_head(&ResponseHeadParts { status, reason, length }, |writer| {
        let sent = forward_fields(writer, response_head, |name| !header_mutations.overrides(name));
        sent.add_missing(writer, request_id, SystemTime::now);
        write_gateway_fields(writer, header_mutations, &response_head.fields, |_| true);
    });
    if sent.is_err() {
        return DeliveryOutcome::ClientDisconnected;
    }
    let delimited = response_head.parsed.framing != ResponseFraming::UntilClose;
    exchange.client.queue_response_body(buffered);
    exchange.record.response_bytes += buffered.len() as u64;
    let outcome = relay_body(
        exchange,
        forwarding,
        response,
        BodyProperties { streaming: response_head.parsed.is_streaming, delimited },
    )
    .await;
    match &outcome {
        DeliveryOutcome::Complete => {}
        DeliveryOutcome::Aborted(fault) => {
            // Deliver the bytes already received, unless the deadline has passed or the client is too slow.
            if !matches!(fault.cause(), Cause::ClientTooSlow | Cause::DeadlineExceeded) {
                let write_timeout = exchange.context.snapshot.client.write_timeout;
                let sent = exchange.record.response_bytes;
                if local_reply::flush(exchange.client, write_timeout).await == SendResult::Complete {
                    let written = poll_fn(|cx| exchange.client.poll_written(sent, cx));
                    let _ = timeout_at(Instant::now() + write_timeout, written).await;
                }
            }
            exchange.client.abort();
        }
        DeliveryOutcome::ClientDisconnected => exchange.client.set_disconnected(),
        DeliveryOutcome::TunnelIdle => exchange.client.abort(),
    }
    outcome
}

/// Forwards a negotiated 101, and then the bytes of both sides until both have closed.
///
/// [`tunnel`] forwards the bytes; this function closes both connections according to how the tunnel ended.
pub(super) async fn forward_upgrade(
    exchange: &mut Exchange<'_>,
    forwarding: &mut Forwarding<'_>,
    response: UpstreamResponse,
) -> DeliveryOutcome {
    let UpstreamResponse { conn, response_head } = response;
    let Some(UpstreamH1 { io: mut upstream, .. }) = conn.into_h1() else {
        // Never happens: a 101 is only accepted on an HTTP/1 connection.
        return DeliveryOutcome::ClientDisconnected;
    };
    let protocol = forwarding
        .upgrade_offer
        .as_ref()
        .and_then(|offer| response_head.negotiated_protocol(offer).ok())
        .unwrap_or_default();
    let reason = (!response_head.reason.is_empty()).then_some(&response_head.reason[..]);
    let (request_id, header_mutations) = (&exchange.context.request_id, &exchange.header_mutations);
    let Some(sender) = exchange.client.response_sender() else { return DeliveryOutcome::ClientDisconnected };
    let parts = ResponseHeadParts { status: response_head.parsed.status, reason, length: BodyLength::Absent };
    let sent = sender.queue_response_head(&parts, |writer| {
        let sent = forward_fields(writer, &response_head, |name| !header_mutations.overrides(name));
        // A 101 needs no Date (RFC 9110 6.6.1).
        sent.add_missing_request_id(writer, request_id);
        write_gateway_fields(writer, header_mutations, &response_head.fields, |_| true);
        writer.append(b"Upgrade", protocol);
    });
    if sent.is_err() {
        return DeliveryOutcome::ClientDisconnected;
    }
    let timeouts = TunnelTimeouts {
        idle: forwarding.route.timeouts().tunnel_idle,
        max_duration: forwarding.deadlines.max_duration(Phase::Relay),
    };
    let Some(client) = exchange.client.as_h1() else { return DeliveryOutcome::ClientDisconnected };
    let tunnel_started = Instant::now();
    let (outcome, bytes) = tunnel::run(&mut client.io, &mut upstream, timeouts).await;
    // The whole duration of a tunnel is time spent waiting for its peers.
    exchange.client.add_wait(tunnel_started.elapsed());
    exchange.record.response_bytes += bytes.from_upstream;
    exchange.record.tunnel_bytes_in = bytes.from_client;
    match &outcome {
        DeliveryOutcome::Complete => {
            exchange.client.queue_response_end();
        }
        // A tunnel has no framing: only a reset shows the remaining peer that the bytes are incomplete.
        DeliveryOutcome::Aborted(_) => {
            let _ = local_reply::flush(exchange.client, exchange.context.snapshot.client.write_timeout).await;
            exchange.client.abort();
            upstream.reset();
        }
        DeliveryOutcome::TunnelIdle => {
            exchange.client.abort();
            upstream.reset();
        }
        DeliveryOutcome::ClientDisconnected => {
            exchange.client.set_disconnected();
            upstream.reset();
        }
    }
    outcome
}

/// Forwards an error that conforms to the contract.
pub(super) async fn forward_error(
    exchange: &mut Exchange<'_>,
    response_head: &UpstreamResponseHead,
    error: &ConformingBody,
) -> DeliveryOutcome {
    let fields = ConformingFields {
        response_head,
        error,
        settings: exchange.context.error_config(),
        request_id: &exchange.context.request_id,
        added: &exchange.header_mutations,
        now: SystemTime::now(),
    };
    let status = response_head.parsed.status;
    let length = conforming_length(error, response_head.parsed.content_length);
    local_reply::plan_discard(exchange.client);
    let Some(sender) = exchange.client.response_sender() else { return DeliveryOutcome::ClientDisconnected };
    let parts = ResponseHeadParts { status, reason: None, length };
    let sent = sender.queue_response_head(&parts, |writer| fields.write(writer));
    let Ok(client) = sent else { return DeliveryOutcome::ClientDisconnected };
    let body_bytes = error.body.as_ref().map_or(&[][..], |body| &body[..]);
    client.queue_response_body(body_bytes);
    client.queue_response_end();
    exchange.record.response_bytes += body_bytes.len() as u64;
    local_reply::finish_response(client, exchange.context.snapshot.client.write_timeout).await.into()
}

/// Properties of the response body that select the idle timeout, and the reaction to a client that closes its sending
/// side.
#[derive(Clone, Copy, Debug)]
struct BodyProperties {
    /// An event stream or gRPC: `timeouts.stream_idle` applies instead of `timeouts.body_idle`.
    streaming: bool,
    /// The body is delimited by Content-Length, chunks or END_STREAM, not by the close of the connection.
    delimited: bool,
}

/// The result of one step of the relay.
enum RelayStep {
    /// Bytes were transferred: the idle timeout starts again.
    Progress,
    /// The whole response is written.
    Done,
    /// The upstream's response failed.
    Fault(Fault),
    ClientDisconnected,
    Upload(UploadEvent),
}

/// The state of a relay between its steps.
struct Relay {
    body_properties: BodyProperties,
    /// The whole response was read and queued.
    response_ended: bool,
    /// The upload is polled: it sends the rest of the request body, then reports a client that disconnects.
    polls_upload: bool,
    /// When bytes were last transferred.
    last_progress: Instant,
    /// Set by a step in which the client accepted bytes, or bytes were queued for it while none were: the write timeout
    /// starts again.
    client_progressed: bool,
    /// The start of the write timeout: when the client last accepted bytes, or when bytes were first queued for it.
    client_progress_at: Instant,
}

/// Forwards the response body, and sends the rest of the request body, until the response is complete.
async fn relay_body(
    exchange: &mut Exchange<'_>,
    forwarding: &mut Forwarding<'_>,
    response: &mut UpstreamResponse,
    body_properties: BodyProperties,
) -> DeliveryOutcome {
    let conn = &mut response.conn;
    let mut now = Instant::now();
    let mut relay = Relay {
        body_properties,
        response_ended: false,
        polls_upload: true,
        last_progress: now,
        client_progressed: false,
        client_progress_at: now,
    };
    loop {
        let limit = relay.limit(exchange, forwarding);
        let mut wait = Wait::begin(now);
        let step = timeout_at(
            limit.at,
            poll_fn(|cx| {
                wait.poll_started();
                match relay.poll_response(cx, exchange, conn) {
                    Poll::Ready(step) => Poll::Ready(step),
                    Poll::Pending if relay.polls_upload => wait
                        .poll_ended(forwarding.upload.poll(cx, exchange.client, conn).map(RelayStep::Upload)),
                    Poll::Pending => wait.poll_ended(Poll::Pending),
                }
            }),
        )
        .await;
        exchange.client.add_wait(wait.total());
        now = Instant::now();
        if mem::take(&mut relay.client_progressed) {
            relay.client_progress_at = now;
        }
        let upload = &forwarding.upload;
        if upload.has_ended() && upload.waiting() == WaitingFor::Nothing && !conn.write_failed() {
            exchange.record.request_sent = RequestSent::Full;
        }
        match step {
            // The limit moves while bytes are transferred: check that it has really passed.
            None => {
                let limit = relay.limit(exchange, forwarding);
                if now >= limit.at {
                    let fault = limit.fault();
                    conn.on_timeout(&fault);
                    return DeliveryOutcome::Aborted(fault.in_phase(Phase::Relay));
                }
            }
            Some(RelayStep::Done) => return DeliveryOutcome::Complete,
            Some(RelayStep::Progress) => relay.last_progress = now,
            Some(RelayStep::Upload(UploadEvent::WaitingChanged)) => {}
            // The upload does not know that the response headers were sent.
            Some(RelayStep::Fault(fault) | RelayStep::Upload(UploadEvent::Failed(fault))) => {
                return DeliveryOutcome::Aborted(fault.in_phase(Phase::Relay));
            }
            Some(RelayStep::ClientDisconnected) => return DeliveryOutcome::ClientDisconnected,
            // A client that half-closed may still read a delimited response; if it is gone, the next write fails. An
            // idle event stream has no next write, so a half-close counts as a disconnect there.
            Some(RelayStep::Upload(UploadEvent::ClientDisconnected)) => {
                if exchange.client.is_h2() || body_properties.streaming || !body_properties.delimited {
                    return DeliveryOutcome::ClientDisconnected;
                }
                relay.polls_upload = false;
            }
        }
    }
}

impl Relay {
    /// Transfers what the upstream has sent to the client. Reads before writing: body bytes that arrived with the
    /// headers are sent with them in one write.
    fn poll_response(
        &mut self,
        cx: &mut Context<'_>,
        exchange: &mut Exchange<'_>,
        conn: &mut UpstreamConn,
    ) -> Poll<RelayStep> {
        let was_idle = exchange.client.unsent() == 0;
        let mut progressed = match self.read_response(cx, exchange, conn) {
            Ok(progressed) => progressed,
            Err(fault) => return Poll::Ready(RelayStep::Fault(fault)),
        };
        let client = &mut *exchange.client;
        let queued = client.unsent();
        if queued > 0 {
            match client.poll_flush(cx) {
                Poll::Ready(Ok(())) => progressed = true,
                Poll::Ready(Err(_)) => return Poll::Ready(RelayStep::ClientDisconnected),
                Poll::Pending => {}
            }
            // Bytes that were queued meanwhile are no progress of the client.
            self.client_progressed |= was_idle || client.unsent() < queued;
        }
        if self.response_ended && client.unsent() == 0 {
            return Poll::Ready(RelayStep::Done);
        }
        if progressed { Poll::Ready(RelayStep::Progress) } else { Poll::Pending }
    }

    /// Reads from the upstream until it has sent nothing more or the client has enough to read. Returns whether
    /// anything was read.
    fn read_response(
        &mut self,
        cx: &mut Context<'_>,
        exchange: &mut Exchange<'_>,
        conn: &mut UpstreamConn,
    ) -> Result<bool, Fault> {
        let mut progressed = false;
        while !self.response_ended {
            let capacity = exchange.client.send_capacity(MAX_UNSENT);
            if capacity == 0 {
                break;
            }
            let Poll::Ready(read) = conn.poll_body(cx, capacity) else { break };
            progressed = true;
            if let Some(length) = read? {
                if !exchange.client.queue_response_body(conn.body_bytes(length)) {
                    return Err(Fault::new(Cause::HttpProtocolError, Phase::Relay));
                }
                conn.consume(length);
                exchange.record.response_bytes += length as u64;
                continue;
            }
            self.response_ended = true;
            if let Some(trailers) = conn.take_trailers() {
                let trailers = message::filter_trailers(trailers, hop_by_hop::is_allowed_in_trailers);
                exchange.client.queue_response_trailers(trailers);
            }
            if !exchange.client.queue_response_end() {
                return Err(Fault::new(Cause::HttpResponseIncomplete, Phase::Relay));
            }
        }
        Ok(progressed)
    }

    /// The limit that expires first: of the response, of the rest of the request body, of the whole request.
    fn limit(&self, exchange: &Exchange<'_>, forwarding: &Forwarding<'_>) -> TimeLimit {
        self.response_limit(exchange, forwarding)
            .earlier(self.upload_limit(exchange, forwarding))
            .earlier(forwarding.deadlines.max_duration(Phase::Relay))
    }

    /// The limit of the side that the response waits for: the client while bytes are queued for it, else the upstream.
    fn response_limit(&self, exchange: &Exchange<'_>, forwarding: &Forwarding<'_>) -> TimeLimit {
        if exchange.client.unsent() > 0 {
            let at = self.client_progress_at + exchange.context.snapshot.client.write_timeout;
            return TimeLimit::new(at, Cause::ClientTooSlow, Phase::Relay);
        }
        let timeouts = forwarding.route.timeouts();
        let idle = if self.body_properties.streaming { timeouts.stream_idle } else { timeouts.body_idle };
        // An upstream that still receives the request body is not idle.
        let last_activity = if self.polls_upload {
            self.last_progress.max(forwarding.upload.idle_since())
        } else {
            self.last_progress
        };
        TimeLimit::new(last_activity + idle, Cause::ConnectionReadTimeout, Phase::Relay)
    }

    /// The limit on a client that still sends its request body. No limit applies if the response is a stream.
    fn upload_limit(&self, exchange: &Exchange<'_>, forwarding: &Forwarding<'_>) -> Option<TimeLimit> {
        let waits_for_client = self.polls_upload && forwarding.upload.waiting() == WaitingFor::Client;
        (waits_for_client && !self.body_properties.streaming)
            .then(|| forwarding.upload.idle_limit(&exchange.context.snapshot.client))
    }
}
