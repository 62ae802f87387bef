//! THE DOOR: the only way by which an answer of our own reaches a client.
//!
//! It takes a [`LocalReply`], which only a documented code can make, or a [`PageResponse`] below 400, and uses up the right to
//! answer. It adds framing, Connection and Date and nothing else, and it sees to it that the client can read the answer
//! although its request may still be on the way.
#![expect(clippy::disallowed_methods, reason = "this is one of the two places that write to clients")]

use std::future::poll_fn;
use std::task::Poll;
use std::time::{Duration, Instant, SystemTime};

use bytes::{Bytes, BytesMut};
use http::header::DATE;

use super::client_h1::write_head;
use super::downstream::{Downstream, FieldSink, Unanswered};
use super::fields;
use super::head::{BodyLength, HeadParts};
use super::wait::waited;
use crate::contract::{LocalReply, PageResponse};
use crate::protocol::request_head::Version;

/// An unread rest of a request body up to this size is read so that the connection can be kept: reading 64 KiB costs
/// less than a handshake.
const KEEP_DRAIN: u64 = 64 * 1024;
/// And for so long.
const KEEP_DRAIN_TIME: Duration = Duration::from_secs(2);
/// On HTTP/2 so much of an upload is taken before its stream is reset: curl up to 7.88 loses the answer otherwise.
const H2_DRAIN: u64 = 256 * 1024;
/// And for so long.
const H2_DRAIN_TIME: Duration = Duration::from_secs(1);

/// How the writing of an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// It is with the transport.
    Whole,
    /// The client is gone.
    Lost,
    /// The client takes nothing.
    Stuck,
}

/// Writes a local reply. `write_timeout` is the client's silence in bytes taken.
pub(super) async fn answer(
    unanswered: Unanswered<'_>,
    reply: &LocalReply,
    write_timeout: Duration,
) -> Written {
    let fill = |sink: &mut FieldSink<'_>| put_fields(sink, reply, SystemTime::now());
    let parts = parts(reply, unanswered.is_h2());
    write(unanswered, &parts, fill, reply.body(), write_timeout).await
}

/// The bytes of a reply on HTTP/1.1, as [`answer`] writes them: for those who want to see them without a client.
/// `close` says that the connection ends with it.
pub fn wire_form(reply: &LocalReply, head_request: bool, closes: bool, now: SystemTime) -> Bytes {
    let mut out = BytesMut::new();
    let parts = parts(reply, false);
    let body = parts.body(Version::Http11, head_request);
    write_head(&mut out, &parts, body, (Version::Http11, !closes), |out| {
        put_fields(&mut FieldSink::Raw(out), reply, now);
    });
    if !head_request {
        out.extend_from_slice(reply.body());
    }
    out.freeze()
}

fn parts(reply: &LocalReply, h2: bool) -> HeadParts<'_> {
    let length = match reply.content_length() {
        Some(length) => BodyLength::Exactly(length),
        // To a caller of gRPC. On HTTP/2 the head itself ends the message.
        None if reply.status() == 200 && !h2 => BodyLength::Exactly(0),
        None => BodyLength::Absent,
    };
    HeadParts { status: reply.status(), reason: Some(reply.reason().as_bytes()), length }
}

fn put_fields(sink: &mut FieldSink<'_>, reply: &LocalReply, now: SystemTime) {
    let mut dated = false;
    for (name, value) in reply.headers() {
        dated |= *name == DATE;
        sink.put_own(name, value);
    }
    if !dated {
        sink.put_own(&DATE, &fields::date(now));
    }
}

/// Writes a page of the telemetry or admin endpoints: always below 400.
pub(super) async fn page(
    unanswered: Unanswered<'_>,
    page: &PageResponse,
    head: bool,
    write_timeout: Duration,
) -> Written {
    let length = page.body.len() as u64;
    let parts = HeadParts { status: page.status, reason: None, length: BodyLength::Exactly(length) };
    let fill = |sink: &mut FieldSink<'_>| {
        sink.put(b"Content-Type", page.content_type.as_bytes());
        for (name, value) in &page.headers {
            sink.put_own(name, value);
        }
        sink.put_own(&DATE, &fields::date(SystemTime::now()));
    };
    let body = if head { &[] } else { page.body.as_slice() };
    write(unanswered, &parts, fill, body, write_timeout).await
}

async fn write(
    mut unanswered: Unanswered<'_>,
    parts: &HeadParts<'_>,
    fill: impl FnOnce(&mut FieldSink<'_>),
    body: &[u8],
    write_timeout: Duration,
) -> Written {
    let drain = prepare(unanswered.client());
    let Ok(client) = unanswered.begin(parts, fill) else { return Written::Lost };
    client.send_data(body);
    client.send_end();
    finish(client, drain, write_timeout).await
}

/// Sees a complete answer out, and reads what `drain` allows of the request behind it.
pub(super) async fn finish(
    client: &mut Downstream,
    drain: Option<Drain>,
    write_timeout: Duration,
) -> Written {
    let written = flush(client, write_timeout).await;
    match written {
        Written::Whole => self::drain(client, drain).await,
        Written::Lost => client.lost(),
        Written::Stuck => client.stuck(),
    }
    written
}

/// How much of a request body is read after its answer, and for how long.
pub(super) type Drain = (u64, Duration);

/// Decides, before the head is written, whether the connection outlives the answer: `Connection` has to say it.
pub(super) fn prepare(client: &mut Downstream) -> Option<Drain> {
    if client.body_is_done() {
        return None;
    }
    if client.is_h2() {
        return Some((H2_DRAIN, H2_DRAIN_TIME));
    }
    match client.body_remaining() {
        // A client that waits for its 100 may send the body or not: nothing after it could be told apart.
        Some(rest) if rest <= KEEP_DRAIN && !client.awaits_continue() => Some((rest, KEEP_DRAIN_TIME)),
        Some(_) | None => {
            client.close_after();
            None
        }
    }
}

/// Reads the rest of a request body that was answered before its end; without reaching the end the connection cannot
/// be kept.
async fn drain(client: &mut Downstream, drain: Option<Drain>) {
    let Some((bytes, time)) = drain else { return };
    let (ended, waited) = waited(Instant::now(), time, discard(client, bytes)).await;
    client.add_wait(waited);
    if ended != Some(true) {
        client.close_after();
    }
}

/// The same after a response that promised nothing about the connection: the last chunk of an upload is often only a
/// moment behind its answer.
pub(super) async fn finish_request(client: &mut Downstream) {
    if client.body_is_done() || client.awaits_continue() {
        return;
    }
    if client.is_h2() {
        drain(client, Some((H2_DRAIN, H2_DRAIN_TIME))).await;
    } else if client.body_remaining().is_none_or(|rest| rest <= KEEP_DRAIN) {
        drain(client, Some((KEEP_DRAIN, KEEP_DRAIN_TIME))).await;
    }
}

/// Writes what is queued while the client takes some of it in every `silence`.
pub(super) async fn flush(client: &mut Downstream, silence: Duration) -> Written {
    let mut unsent = client.unsent();
    loop {
        let (flushed, waited) = waited(Instant::now(), silence, poll_fn(|cx| client.poll_flush(cx))).await;
        client.add_wait(waited);
        match flushed {
            Some(Ok(())) => return Written::Whole,
            Some(Err(_)) => return Written::Lost,
            None if client.unsent() < unsent => unsent = client.unsent(),
            None => return Written::Stuck,
        }
    }
}

/// Reads and forgets the rest of a request body; says whether its end was reached.
async fn discard(client: &mut Downstream, most: u64) -> bool {
    let mut left = most;
    poll_fn(|cx| {
        loop {
            match client.poll_body(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(Some(data))) => match left.checked_sub(data.len() as u64) {
                    Some(rest) => left = rest,
                    None => return Poll::Ready(false),
                },
                Poll::Ready(Ok(None)) => return Poll::Ready(true),
                Poll::Ready(Err(_)) => return Poll::Ready(false),
            }
        }
    })
    .await
}
