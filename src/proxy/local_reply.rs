//! Sends the responses that the gateway generates itself: every local reply goes through this file.
//!
//! Input is a [`LocalReply`], whose error codes are always documented, or a [`PageResponse`] with a status below 400.
//! Sending consumes the [`ResponseSender`], so a request gets one response. Only framing, Connection and Date are added
//! here. After the response and its record the rest of the request body is read within limits: closing a connection
//! with unread bytes resets it, and the client could lose the response.
#![expect(
    clippy::disallowed_methods,
    reason = "relay and local_reply are the only files that write responses"
)]

use std::future::poll_fn;
use std::task::Poll;
use std::time::{Duration, Instant, SystemTime};

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;
use http::header::DATE;

use super::downstream::h1::{Persistence, write_response_head};
use super::downstream::{DiscardLimit, Downstream, FieldWriter, ResponseSender};
use super::message::h1_writer;
use super::message::{BodyLength, ResponseHeadParts};
use super::record::DeliveryOutcome;
use super::wait::measured_timeout;
use crate::contract::{Cause, Fault, LocalReply, PageResponse, Phase};
use crate::http::request_head::Version;
use crate::upstream::timer::timeout_at;

/// HTTP/1: if at most this much of a request body is left, it is read so that the connection can be kept. Reading
/// 64 KiB costs less than a handshake.
const KEEP_ALIVE_DISCARD: DiscardLimit = DiscardLimit { bytes: 64 * 1024, time: Duration::from_secs(2) };
/// HTTP/2: up to this much of the rest of a request body is read before the stream is reset; otherwise curl up to 7.88
/// loses the response.
const H2_DISCARD: DiscardLimit = DiscardLimit { bytes: 256 * 1024, time: Duration::from_secs(1) };

/// The result of writing queued bytes to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SendResult {
    /// All queued bytes were passed on: to the kernel (HTTP/1), or to the `h2` crate (see
    /// [`Downstream::poll_written`]).
    Complete,
    Disconnected,
    /// The client accepted no bytes for `client.write_timeout`.
    WriteTimeout,
}

impl From<SendResult> for DeliveryOutcome {
    fn from(result: SendResult) -> Self {
        match result {
            SendResult::Complete => DeliveryOutcome::Complete,
            SendResult::Disconnected => DeliveryOutcome::ClientDisconnected,
            SendResult::WriteTimeout => {
                DeliveryOutcome::Aborted(Fault::new(Cause::ClientTooSlow, Phase::Relay))
            }
        }
    }
}

/// Sends a local reply. `write_timeout` limits the time in which the client accepts no bytes.
pub(super) async fn send(
    sender: ResponseSender<'_>,
    reply: &LocalReply,
    write_timeout: Duration,
) -> SendResult {
    let write_fields = |writer: &mut FieldWriter<'_>| write_reply_fields(writer, reply, SystemTime::now());
    let parts = response_head_parts(reply, sender.is_h2());
    send_message(sender, &parts, write_fields, reply.body(), write_timeout).await
}

/// Renders a local reply as the HTTP/1.1 bytes that a client receives, for example for `explain`. `closes` adds
/// `Connection: close`.
pub(crate) fn render_h1(reply: &LocalReply, is_head_request: bool, closes: bool, now: SystemTime) -> Bytes {
    let mut out = BytesMut::new();
    let parts = response_head_parts(reply, false);
    let body = parts.sent_framing(Version::Http11, is_head_request);
    write_response_head(
        &mut out,
        &parts,
        body,
        Persistence { version: Version::Http11, keep_alive: !closes },
        |out| {
            write_reply_fields(&mut FieldWriter::Raw(out), reply, now);
        },
    );
    if !is_head_request {
        out.extend_from_slice(reply.body());
    }
    out.freeze()
}

fn response_head_parts(reply: &LocalReply, h2: bool) -> ResponseHeadParts<'_> {
    let length = match reply.content_length() {
        Some(length) => BodyLength::Exactly(length),
        // A gRPC error over HTTP/1 (gRPC-Web) has an empty body; on HTTP/2, END_STREAM says so (next arm).
        None if reply.status() == 200 && !h2 => BodyLength::Exactly(0),
        None => BodyLength::Absent,
    };
    ResponseHeadParts { status: reply.status(), reason: Some(reply.reason().as_bytes()), length }
}

fn write_reply_fields(writer: &mut FieldWriter<'_>, reply: &LocalReply, now: SystemTime) {
    let mut has_date = false;
    for (name, value) in reply.headers() {
        has_date |= *name == DATE;
        writer.append_generated(name, value);
    }
    if !has_date {
        writer.append_generated(&DATE, &h1_writer::http_date(now));
    }
}

/// Sends a page of the telemetry endpoints.
pub(super) async fn send_page(
    sender: ResponseSender<'_>,
    page: &PageResponse,
    is_head_request: bool,
    write_timeout: Duration,
) -> SendResult {
    let length = page.body.len() as u64;
    let parts = ResponseHeadParts { status: page.status, reason: None, length: BodyLength::Exactly(length) };
    let write_fields = |writer: &mut FieldWriter<'_>| {
        writer.append(b"Content-Type", page.content_type.as_bytes());
        for (name, value) in &page.headers {
            writer.append_generated(name, value);
        }
        writer.append_generated(&DATE, &h1_writer::http_date(SystemTime::now()));
    };
    let body = if is_head_request { &[] } else { page.body.as_slice() };
    send_message(sender, &parts, write_fields, body, write_timeout).await
}

async fn send_message(
    mut sender: ResponseSender<'_>,
    parts: &ResponseHeadParts<'_>,
    write_fields: impl FnOnce(&mut FieldWriter<'_>),
    body: &[u8],
    write_timeout: Duration,
) -> SendResult {
    plan_discard(sender.client());
    let Ok(client) = sender.queue_response_head(parts, write_fields) else { return SendResult::Disconnected };
    client.queue_response_body(body);
    client.queue_response_end();
    finish_response(client, write_timeout).await
}

/// Writes a queued response. The rest of the request body is read later: see [`discard_request_body`].
pub(super) async fn finish_response(client: &mut Downstream, write_timeout: Duration) -> SendResult {
    let result = flush(client, write_timeout).await;
    match result {
        SendResult::Complete => discard_received(client),
        SendResult::Disconnected => client.set_disconnected(),
        SendResult::WriteTimeout => client.set_write_timeout(),
    }
    result
}

/// Plans how much of the request body to read after the response. If the rest is too large or its size is unknown, an
/// HTTP/1 connection closes after the response. To be called before the response headers are written, because they then
/// contain `Connection: close`.
pub(super) fn plan_discard(client: &mut Downstream) {
    let limit = discard_limit(client);
    client.set_discard_limit(limit);
}

fn discard_limit(client: &mut Downstream) -> Option<DiscardLimit> {
    if client.body_is_done() {
        return None;
    }
    if client.is_h2() {
        // A client that waits for a 100 does not send the body after a final response.
        return (!client.awaits_continue()).then_some(H2_DISCARD);
    }
    // The lingering close reads the rest.
    if client.will_close() {
        return None;
    }
    // A chunked body may have arrived with the header section. What is buffered is read without waiting; if the end is
    // not there, the connection closes.
    if client.body_remaining().is_none() && client.body_bytes_received() == 0 && !client.awaits_continue() {
        let _ = read_and_discard(client, &mut { KEEP_ALIVE_DISCARD.bytes }).now_or_never();
    }
    match client.body_remaining() {
        Some(0) => None,
        // A client that waits for a 100 may or may not send the body: the next bytes could be the body or a request.
        Some(remaining) if remaining <= KEEP_ALIVE_DISCARD.bytes && !client.awaits_continue() => {
            Some(DiscardLimit { bytes: remaining, ..KEEP_ALIVE_DISCARD })
        }
        Some(_) | None => {
            client.close_after_response();
            None
        }
    }
}

/// Plans the same for a forwarded response that was sent, whose headers did not depend on the rest of the request body:
/// the last chunk often arrives just after the response is sent.
pub(super) fn plan_discard_after_response(client: &mut Downstream) {
    let limit = if client.body_is_done() || client.awaits_continue() || client.will_close() {
        None
    } else if client.is_h2() {
        Some(H2_DISCARD)
    } else {
        let is_small = client.body_remaining().is_none_or(|remaining| remaining <= KEEP_ALIVE_DISCARD.bytes);
        is_small.then_some(KEEP_ALIVE_DISCARD)
    };
    client.set_discard_limit(limit);
    discard_received(client);
}

/// Reads what has arrived of the request body after the response, without waiting: it counts for the request.
fn discard_received(client: &mut Downstream) {
    let Some(mut limit) = client.take_discard_limit() else { return };
    match read_and_discard(client, &mut limit.bytes).now_or_never() {
        Some(true) => {}
        Some(false) => client.close_after_response(),
        None => client.set_discard_limit(Some(limit)),
    }
}

/// Reads the rest of the request body, if that was planned. An HTTP/1 connection closes if the end is not reached
/// within the limit. To be called after the request is recorded, whose duration does not depend on what its client
/// still sends.
pub(super) async fn discard_request_body(client: &mut Downstream) {
    let Some(DiscardLimit { mut bytes, time }) = client.take_discard_limit() else { return };
    // Boxed because it is rare: a connection should not reserve memory for it.
    let reading = Box::pin(timeout_at(Instant::now() + time, read_and_discard(client, &mut bytes)));
    if reading.await != Some(true) {
        client.close_after_response();
    }
}

/// Writes what is queued. Fails if the client accepts no bytes for `write_timeout`.
pub(super) async fn flush(client: &mut Downstream, write_timeout: Duration) -> SendResult {
    // The socket usually takes all at once, which needs no timer and no clock.
    match poll_fn(|cx| Poll::Ready(client.poll_flush(cx))).await {
        Poll::Ready(Ok(())) => return SendResult::Complete,
        Poll::Ready(Err(_)) => return SendResult::Disconnected,
        Poll::Pending => {}
    }
    let mut unsent = client.unsent();
    loop {
        let (flushed, waited) =
            measured_timeout(Instant::now(), write_timeout, poll_fn(|cx| client.poll_flush(cx))).await;
        client.add_wait(waited);
        match flushed {
            Some(Ok(())) => return SendResult::Complete,
            Some(Err(_)) => return SendResult::Disconnected,
            None if client.unsent() < unsent => unsent = client.unsent(),
            None => return SendResult::WriteTimeout,
        }
    }
}

/// Reads and discards up to `remaining` bytes of the request body, and subtracts them. Returns whether the end of the
/// body was reached.
async fn read_and_discard(client: &mut Downstream, remaining: &mut u64) -> bool {
    poll_fn(|cx| {
        loop {
            match client.poll_body(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(Some(data))) => match remaining.checked_sub(data.len() as u64) {
                    Some(rest) => *remaining = rest,
                    None => return Poll::Ready(false),
                },
                Poll::Ready(Ok(None)) => return Poll::Ready(true),
                Poll::Ready(Err(_)) => return Poll::Ready(false),
            }
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::http::reported_origin::ListenerOrigin;
    use crate::proxy::downstream::h2::{ConnectionBudget, DownstreamH2, RequestProperties};
    use crate::proxy::stream_table::StreamTable;

    /// A stream of a client that has sent its header section only.
    async fn stream_with_unsent_body(awaits_continue: bool) -> Downstream {
        let (client_io, server_io) = tokio::io::duplex(1 << 16);
        let (client, server) =
            tokio::join!(h2::client::handshake(client_io), h2::server::handshake(server_io));
        let (mut client, connection) = client.unwrap();
        tokio::spawn(connection);
        let request = http::Request::post("http://test/").body(()).unwrap();
        let _response = client.send_request(request, false).unwrap();
        let (request, respond) = server.unwrap().accept().await.unwrap().unwrap();
        let properties = RequestProperties { is_head_request: false, awaits_continue, length: None };
        let budget = ConnectionBudget::default().add_stream(0).budget;
        let stream =
            DownstreamH2::new(request.into_body(), respond, properties, budget, StreamTable::default());
        let origin = ListenerOrigin { scheme: "http", port: 80, tls_version: None };
        Downstream::h2(stream, origin, Arc::default())
    }

    #[tokio::test]
    async fn body_that_an_http2_client_does_not_send_is_not_awaited() {
        for (awaits_continue, limit) in [(true, None), (false, Some(H2_DISCARD))] {
            let mut client = stream_with_unsent_body(awaits_continue).await;
            plan_discard(&mut client);
            assert_eq!(client.take_discard_limit(), limit, "{awaits_continue}");
        }
    }
}
