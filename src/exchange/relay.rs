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

use super::attempt::Answered;
use super::clock::Limit;
use super::door::{self, Written};
use super::downstream::{Downstream, FieldSink};
use super::flow::{Flow, Story};
use super::head::{self, BodyLength, Fields, HeadParts};
use super::judge::ErrorBytes;
use super::peer::UpstreamHead;
use super::peer_h1::H1Peer;
use super::tunnel::{self, Times};
use super::upload::{UploadEvent, Waiting};
use super::wait::Wait;
use crate::contract::{Cause, Fault, Phase, RequestSent, fields};
use crate::protocol::hop;
use crate::protocol::response_head::ResponseFraming;
use crate::upstream::timer::timeout_at;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Response bytes that may wait for a slow client before the upstream is no longer read.
const MAX_UNSENT: usize = 64 * 1024;

/// How a relay ended.
#[derive(Debug)]
pub(super) enum Relayed {
    /// The client has the whole response, as far as we can know.
    Whole,
    /// The response was cut by this fault.
    Cut(Fault),
    /// A tunnel was closed because nothing moved in it.
    Idle,
    /// The client left.
    ClientGone,
}

/// Tells a client that waits for it to send its body.
pub(super) fn invite(client: &mut Downstream) {
    client.send_interim(100, |_| {});
}

/// Passes an interim response on, to whom understands it (RFC 9110 15.2).
pub(super) fn interim(client: &mut Downstream, head: &UpstreamHead) {
    if !client.takes_interim() {
        return;
    }
    client.send_interim(head.facts.status, |sink| pass_fields(sink, head, |_| true));
}

/// Passes a response of any length. `begun` holds what was already read of its body.
pub(super) async fn pass(flow: &mut Flow<'_>, answered: &mut Answered, begun: &[u8]) -> Relayed {
    let head = &answered.head;
    let status = head.facts.status;
    let length = match (head.facts.framing, head.facts.content_length) {
        // As it was said: gRPC's answers without a message, for one.
        _ if head.ends && flow.client.is_h2() => BodyLength::Absent,
        (ResponseFraming::Length(length), _) | (ResponseFraming::NoBody, Some(length)) => {
            BodyLength::Exactly(length)
        }
        (ResponseFraming::NoBody, None) => BodyLength::Absent,
        (ResponseFraming::Chunked | ResponseFraming::UntilClose, _) => BodyLength::Unknown,
    };
    // The phrase of an error is the upstream's text, and text of errors is ours to choose.
    let reason = (status < 400 && !head.reason.is_empty()).then_some(&head.reason[..]);
    if flow.client.awaits_continue() {
        // It may send its body now or not: what comes next could not be told apart from a request.
        flow.client.close_after();
    }
    let story = &*flow.story;
    let Some(unanswered) = flow.client.unanswered() else { return Relayed::ClientGone };
    let began = unanswered.begin(&HeadParts { status, reason, length }, |sink| {
        pass_fields(sink, head, |name| {
            !name.eq_ignore_ascii_case(b"x-request-id") && !story.dress.replaces(name)
        });
        wear(sink, story, &head.fields);
    });
    if began.is_err() {
        return Relayed::ClientGone;
    }
    let bounded = head.facts.framing != ResponseFraming::UntilClose;
    flow.client.send_data(begun);
    flow.story.bytes += begun.len() as u64;
    let ended = body(flow, answered, Silence { streams: head.facts.is_streaming, bounded }).await;
    match &ended {
        Relayed::Whole => {}
        Relayed::Cut(fault) => {
            // What came before the cut is the client's, unless its time is up or its own slowness is the fault.
            if !matches!(fault.cause(), Cause::ClientTooSlow | Cause::DeadlineExceeded) {
                let _ = door::flush(flow.client, flow.snapshot.client.write_timeout).await;
            }
            flow.client.cut();
        }
        Relayed::ClientGone => flow.client.lost(),
        Relayed::Idle => flow.client.cut(),
    }
    ended
}

/// Passes a 101 that both sides have agreed on, and then every byte of either until both have ended.
///
/// What follows is no message of HTTP: [`tunnel`] moves it, and how it ends is told here.
pub(super) async fn switch(flow: &mut Flow<'_>, answered: Answered) -> Relayed {
    let Answered { peer, head } = answered;
    let Some(H1Peer { wire: mut upstream, .. }) = peer.into_h1() else { return Relayed::ClientGone };
    let protocol = flow.offer.as_ref().and_then(|offer| head.agreed(offer).ok()).unwrap_or_default();
    let reason = (!head.reason.is_empty()).then_some(&head.reason[..]);
    let story = &*flow.story;
    let Some(unanswered) = flow.client.unanswered() else { return Relayed::ClientGone };
    let parts = HeadParts { status: head.facts.status, reason, length: BodyLength::Absent };
    let began = unanswered.begin(&parts, |sink| {
        pass_fields(sink, &head, |name| {
            !name.eq_ignore_ascii_case(b"x-request-id") && !story.dress.replaces(name)
        });
        wear(sink, story, &head.fields);
        sink.put(b"Upgrade", protocol);
    });
    if began.is_err() {
        return Relayed::ClientGone;
    }
    let times = Times { idle: flow.route.timeouts().tunnel_idle, whole: flow.clock.whole(Phase::Relay) };
    let Some(client) = flow.client.as_h1() else { return Relayed::ClientGone };
    let begun = Instant::now();
    let (ended, bytes) = tunnel::run(&mut client.wire, &mut upstream, times).await;
    // Whatever passes in a tunnel is between its two ends.
    flow.story.waited += begun.elapsed();
    flow.story.bytes += bytes;
    match &ended {
        Relayed::Whole => {
            flow.client.send_end();
        }
        // Whoever is left sees a reset: the bytes of a tunnel have no other end that is not a clean one.
        Relayed::Cut(_) => {
            let _ = door::flush(flow.client, flow.snapshot.client.write_timeout).await;
            flow.client.cut();
            upstream.reset();
        }
        Relayed::Idle => {
            flow.client.cut();
            upstream.reset();
        }
        Relayed::ClientGone => {
            flow.client.lost();
            upstream.reset();
        }
    }
    ended
}

/// Passes a conforming error: whole, unstorable, without the fields that tell about the server.
pub(super) async fn pass_error(
    flow: &mut Flow<'_>,
    head: &UpstreamHead,
    error: &ErrorBytes,
    retry_after: u64,
) -> Relayed {
    let status = head.facts.status;
    let length = match (&error.body, head.facts.content_length) {
        (Some(body), _) => BodyLength::Exactly(body.len() as u64),
        (None, Some(length)) => BodyLength::Exactly(length),
        (None, None) => BodyLength::Absent,
    };
    let story = &*flow.story;
    let drain = door::prepare(flow.client);
    let now = std::time::SystemTime::now();
    let Some(unanswered) = flow.client.unanswered() else { return Relayed::ClientGone };
    let began = unanswered.begin(&HeadParts { status, reason: None, length }, |sink| {
        let mut waits = head.fields.values("retry-after");
        let usable = |value: &&[u8]| {
            HeaderValue::from_bytes(value).is_ok_and(|value| fields::is_valid_retry_after(&value, now))
        };
        let first = waits.next().filter(usable).map(Cow::Borrowed);
        // Of several, clients read one or none: the first stands, as in an error that is replaced.
        let (several, says_later) = (waits.next().is_some(), matches!(status, 429 | 503));
        let adds_wait = several || (says_later && first.is_none());
        let own = || says_later.then(|| Cow::Owned(retry_after.max(1).to_string().into_bytes()));
        let wait = adds_wait.then(|| first.or_else(own)).flatten();
        pass_fields(sink, head, |name| {
            let is = |lower: &[u8]| name.eq_ignore_ascii_case(lower);
            let replaced = is(b"x-request-id")
                || story.dress.replaces(name)
                || is(b"cache-control")
                || (adds_wait && is(b"retry-after"))
                || (error.decoded && is(b"content-encoding"));
            !replaced && HeaderName::from_bytes(name).is_ok_and(|name| !fields::drop_on_conforming(&name))
        });
        sink.put(b"Cache-Control", b"no-store");
        wear(sink, story, &head.fields);
        if let Some(wait) = wait {
            sink.put(b"Retry-After", &wait);
        }
    });
    let Ok(client) = began else { return Relayed::ClientGone };
    let bytes = error.body.as_ref().map_or(&[][..], |body| &body[..]);
    client.send_data(bytes);
    client.send_end();
    flow.story.bytes += bytes.len() as u64;
    match door::finish(client, drain, flow.snapshot.client.write_timeout).await {
        Written::Whole => Relayed::Whole,
        Written::Lost | Written::Stuck => Relayed::ClientGone,
    }
}

/// The fields that are added to whatever passes.
fn wear(sink: &mut FieldSink<'_>, story: &Story, theirs: &Fields) {
    sink.put_own(&REQUEST_ID, &story.request_id);
    for (name, value) in story.dress.fields() {
        sink.put_own(name, value);
    }
    for (name, value) in story.dress.merged(Some(theirs)) {
        sink.put_own(&name, &value);
    }
}

/// Every end-to-end field that `keeps` does not take out, as it came.
fn pass_fields(sink: &mut FieldSink<'_>, head: &UpstreamHead, keeps: impl Fn(&[u8]) -> bool) {
    let nominated = head.nominated();
    for (name, value) in head.fields.iter() {
        if !nominated.removes_name(name) && !hop::is_framing_name(name) && keeps(name) {
            sink.put(name, value);
        }
    }
}

/// Which silences of the upstream are allowed.
#[derive(Clone, Copy, Debug)]
struct Silence {
    /// An event stream or gRPC: quiet by nature.
    streams: bool,
    /// The end is not the connection's end.
    bounded: bool,
}

/// What one step of the relay brought.
enum Step {
    /// Bytes moved; limits begin anew.
    Moved,
    /// Everything is written.
    Done,
    /// The upstream's message broke.
    Fault(Fault),
    /// The client takes nothing more.
    ClientGone,
    Upload(UploadEvent),
}

/// Moves the body, and the rest of the request, until the response is whole.
async fn body(flow: &mut Flow<'_>, answered: &mut Answered, silence: Silence) -> Relayed {
    let peer = &mut answered.peer;
    let mut ended = false;
    let mut uploads = true;
    let mut read_at = Instant::now();
    let mut written_at = read_at;
    let mut now = read_at;
    loop {
        let unsent = flow.client.unsent();
        let limit = relay_limit(flow, silence, uploads, (unsent > 0).then_some(written_at), read_at);
        let mut wait = Wait::begin(now);
        let step = timeout_at(
            limit.at,
            poll_fn(|cx| {
                wait.polled();
                // Reading goes first, so that what came with the head leaves with it, in one write.
                let mut moved = false;
                while !ended {
                    let room = flow.client.room(MAX_UNSENT);
                    if room == 0 {
                        break;
                    }
                    match peer.poll_body(cx, room) {
                        Poll::Ready(Ok(Some(length))) => {
                            if !flow.client.send_data(peer.body_bytes(length)) {
                                return Poll::Ready(Step::Fault(Fault::new(
                                    Cause::HttpProtocolError,
                                    Phase::Relay,
                                )));
                            }
                            peer.take(length);
                            flow.story.bytes += length as u64;
                            moved = true;
                        }
                        Poll::Ready(Ok(None)) => {
                            ended = true;
                            if let Some(trailers) = peer.take_trailers() {
                                flow.client
                                    .send_trailers(head::trailers(trailers, hop::is_allowed_in_trailers));
                            }
                            if !flow.client.send_end() {
                                return Poll::Ready(Step::Fault(Fault::new(
                                    Cause::HttpResponseIncomplete,
                                    Phase::Relay,
                                )));
                            }
                            moved = true;
                        }
                        Poll::Ready(Err(fault)) => return Poll::Ready(Step::Fault(fault)),
                        Poll::Pending => break,
                    }
                }
                if flow.client.unsent() > 0 {
                    match flow.client.poll_flush(cx) {
                        Poll::Ready(Ok(())) => moved = true,
                        Poll::Ready(Err(_)) => return Poll::Ready(Step::ClientGone),
                        Poll::Pending => {}
                    }
                }
                if ended && flow.client.unsent() == 0 {
                    return Poll::Ready(Step::Done);
                }
                if moved {
                    return Poll::Ready(Step::Moved);
                }
                wait.result(if uploads {
                    flow.upload.poll(cx, flow.client, peer).map(Step::Upload)
                } else {
                    Poll::Pending
                })
            }),
        )
        .await;
        flow.story.waited += wait.total();
        now = Instant::now();
        if flow.client.unsent() != unsent {
            written_at = now;
        }
        if flow.upload.has_ended() && flow.upload.waiting() == Waiting::Nothing && !peer.write_has_failed() {
            flow.story.sent = RequestSent::Full;
        }
        match step {
            None => {
                let waits = (flow.client.unsent() > 0).then_some(written_at);
                let limit = relay_limit(flow, silence, uploads, waits, read_at);
                if now >= limit.at {
                    let fault = limit.fault();
                    peer.doubt(&fault);
                    return Relayed::Cut(fault);
                }
            }
            Some(Step::Done) => return Relayed::Whole,
            Some(Step::Moved) => read_at = now,
            Some(Step::Fault(fault)) => return Relayed::Cut(fault),
            Some(Step::ClientGone) => return Relayed::ClientGone,
            Some(Step::Upload(UploadEvent::Changed)) => {}
            Some(Step::Upload(UploadEvent::Failed(fault))) => return Relayed::Cut(fault),
            // A client that half-closes still reads a response that has an end of its own; one that left is noticed
            // when we write to it. A quiet stream would never notice.
            Some(Step::Upload(UploadEvent::ClientGone)) => {
                if flow.client.is_h2() || silence.streams || !silence.bounded {
                    return Relayed::ClientGone;
                }
                uploads = false;
            }
        }
    }
}

/// The limit that strikes first while a response passes.
fn relay_limit(
    flow: &Flow<'_>,
    silence: Silence,
    uploads: bool,
    writing_since: Option<Instant>,
    read_at: Instant,
) -> Limit {
    let timeouts = flow.route.timeouts();
    let first = match writing_since {
        // The client takes nothing; the upstream may be as quiet as it likes.
        Some(since) => {
            Limit::new(since + flow.snapshot.client.write_timeout, Cause::ClientTooSlow, Phase::Relay)
        }
        None => {
            let idle = if silence.streams { timeouts.stream_idle } else { timeouts.body_idle };
            // An upstream that still takes an upload may be quiet meanwhile.
            let moved_at = if uploads { read_at.max(flow.upload.quiet_since()) } else { read_at };
            Limit::new(moved_at + idle, Cause::ConnectionReadTimeout, Phase::Relay)
        }
    };
    let upload = (uploads && flow.upload.waiting() == Waiting::Client && !silence.streams)
        .then(|| flow.upload.silence_limit(&flow.snapshot.client));
    first.or(upload).or(flow.clock.whole(Phase::Relay))
}
