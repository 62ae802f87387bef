//! A client's stream on HTTP/2: its request body as it arrives, and the frames of the one response it gets.
//!
//! It speaks to the `h2` crate and never decides what to answer: only [`super::door`] and [`super::relay`] call the
//! `send_*` functions. Streams are accepted in [`super::connection_h2`].

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, Bytes, BytesMut};
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};

use super::client_h1::BodyFault;
use super::head::{BodyLength, HeadParts, unindexed};
use super::stream_table::StreamTable;
use super::wire::HEAD_ROOM;
use crate::protocol::body::MAX_TRAILER_BYTES;

/// What all streams of a connection may hold together, beside the little that each needs.
const MOST_HELD: usize = 512 * 1024;

/// So much the heads of a connection's requests may be together, while they are served.
const MOST_HEADS: usize = 1024 * 1024;
/// A head up to this size always has room: 128 of them take half of the above.
const SMALL_HEAD: usize = 4 * 1024;

/// One HTTP/2 stream.
#[derive(Debug)]
pub(super) struct H2Client {
    body: RecvStream,
    body_done: bool,
    /// The fields behind the request body.
    said_behind: Option<HeaderMap>,
    /// The library has reset the stream, because it is malformed.
    malformed: bool,
    awaits_continue: bool,
    head_request: bool,
    respond: SendResponse<Bytes>,
    send: Option<SendStream<Bytes>>,
    /// Bytes that flow control has not let out yet.
    output: BytesMut,
    /// How many they may be.
    share: Share,
    /// The end was asked for and not sent yet.
    ending: bool,
    /// What comes with the end.
    trailers: Option<HeaderMap>,
    /// END_STREAM has been sent.
    ended: bool,
    length: Option<u64>,
    remaining: Option<u64>,
    /// Is told of interim responses: in their frames nothing but HPACK says that they are.
    table: StreamTable,
}

impl H2Client {
    pub(super) fn new(
        body: RecvStream,
        respond: SendResponse<Bytes>,
        head_request: bool,
        awaits_continue: bool,
        length: Option<u64>,
        share: Share,
    ) -> Self {
        let body_done = body.is_end_stream();
        H2Client {
            body,
            body_done,
            said_behind: None,
            malformed: false,
            awaits_continue: awaits_continue && !body_done,
            head_request,
            respond,
            send: None,
            output: BytesMut::new(),
            share,
            ending: false,
            trailers: None,
            ended: false,
            length: None,
            remaining: length,
            table: StreamTable::default(),
        }
    }

    /// A stream of the connection that this table is of.
    pub(super) fn counted_in(mut self, table: StreamTable) -> Self {
        self.table = table;
        self
    }

    pub(super) const fn awaits_continue(&self) -> bool {
        self.awaits_continue
    }

    pub(super) const fn body_is_done(&self) -> bool {
        self.body_done
    }

    pub(super) const fn body_remaining(&self) -> Option<u64> {
        if self.body_done { Some(0) } else { self.remaining }
    }

    pub(super) const fn was_malformed(&self) -> bool {
        self.malformed
    }

    /// The next piece of the request body; `None` at its end.
    pub(super) fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, BodyFault>> {
        if self.body_done {
            return Poll::Ready(Ok(None));
        }
        match ready!(self.body.poll_data(cx)) {
            Some(Ok(data)) => {
                self.awaits_continue = false;
                // The window is opened again when the bytes are taken: one piece is under way at a time, so a slow
                // upstream holds the client back.
                let _ = self.body.flow_control().release_capacity(data.len());
                self.remaining = self.remaining.map(|left| left.saturating_sub(data.len() as u64));
                Poll::Ready(Ok(Some(data)))
            }
            Some(Err(error)) => Poll::Ready(Err(self.gone(&error))),
            None => {
                let trailers = ready!(self.body.poll_trailers(cx)).map_err(|error| self.gone(&error))?;
                self.body_done = true;
                let length =
                    |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len() + value.len() + 32;
                if trailers.iter().flatten().map(length).sum::<usize>() > MAX_TRAILER_BYTES {
                    return Poll::Ready(Err(BodyFault::Malformed("the trailers are too long")));
                }
                self.said_behind = trailers;
                Poll::Ready(Ok(None))
            }
        }
    }

    fn gone(&mut self, error: &h2::Error) -> BodyFault {
        self.malformed = error.is_library() && error.is_reset();
        BodyFault::Gone
    }

    /// The fields behind the request body, once it has ended.
    pub(super) fn take_trailers(&mut self) -> Option<HeaderMap> {
        self.said_behind.take()
    }

    /// Ready when the client has reset the stream or left.
    pub(super) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let reset = match &mut self.send {
            Some(send) => send.poll_reset(cx),
            None => self.respond.poll_reset(cx),
        };
        if ready!(reset).is_ok() {
            self.look_who_reset(cx);
        }
        Poll::Ready(())
    }

    /// Whether it is gone now.
    pub(super) fn is_gone(&mut self) -> bool {
        self.poll_gone(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    /// A stream that the library has reset is malformed, and not left by its client: only the body's side tells.
    fn look_who_reset(&mut self, cx: &mut Context<'_>) {
        while let Poll::Ready(Some(data)) = self.body.poll_data(cx) {
            if let Err(error) = data {
                self.malformed = error.is_library() && error.is_reset();
                return;
            }
        }
    }

    /// Sends an interim response (1xx but 101).
    pub(super) fn send_interim(&mut self, status: u16, fields: HeaderMap) {
        if status == 100 {
            self.awaits_continue = false;
        }
        if let Some(head) = response(status, fields) {
            self.table.interim(self.respond.stream_id().as_u32());
            // A failure means that the stream is gone, which the next step sees.
            #[expect(clippy::disallowed_methods, reason = "asked for by the relay alone")]
            let _ = self.respond.send_informational(head);
        }
    }

    /// Sends the head.
    ///
    /// # Errors
    /// The stream is gone.
    pub(super) fn send_head(&mut self, parts: &HeadParts<'_>, mut fields: HeaderMap) -> io::Result<()> {
        let bodiless = self.head_request || matches!(parts.status, 204 | 304);
        if let (BodyLength::Exactly(length), true) = (parts.length, parts.status != 204) {
            fields.insert(http::header::CONTENT_LENGTH, HeaderValue::from(length));
            self.length = (!bodiless).then_some(length);
        }
        let ends = bodiless || matches!(parts.length, BodyLength::Absent | BodyLength::Exactly(0));
        let head = response(parts.status, fields).ok_or(io::ErrorKind::InvalidData)?;
        #[expect(clippy::disallowed_methods, reason = "asked for by the door and the relay alone")]
        let send = self.respond.send_response(head, ends).map_err(io::Error::other)?;
        self.send = Some(send);
        self.ended = ends;
        if ends {
            self.length = Some(0);
        }
        Ok(())
    }

    /// Queues body bytes; never more than the head promised.
    pub(super) fn send_data(&mut self, data: &[u8]) -> bool {
        if let Some(left) = &mut self.length {
            let length = data.len() as u64;
            if length > *left {
                return false;
            }
            *left -= length;
        }
        self.output.extend_from_slice(data);
        true
    }

    /// Queues the fields behind the body.
    pub(super) fn send_trailers(&mut self, trailers: HeaderMap) {
        self.trailers = Some(trailers);
    }

    /// Queues the end of the stream. Says whether the body is as long as the head promised.
    pub(super) fn send_end(&mut self) -> bool {
        self.ending = !self.ended;
        self.length.is_none_or(|left| left == 0)
    }

    /// How much more may be queued, where a response on its own may have `most` under way.
    pub(super) fn room(&self, most: usize) -> usize {
        self.share.of(most).saturating_sub(self.unsent())
    }

    /// How much of the request body may be kept, where a request on its own may have `most`.
    pub(super) fn may_keep(&self, most: usize) -> usize {
        self.share.of(most)
    }

    pub(super) fn unsent(&self) -> usize {
        self.output.len() + usize::from(self.ending)
    }

    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(send) = &mut self.send else { return Poll::Ready(Ok(())) };
        while self.output.has_remaining() {
            send.reserve_capacity(self.output.len());
            let mut room = send.capacity();
            if room == 0 {
                match ready!(send.poll_capacity(cx)) {
                    Some(Ok(granted)) => room = granted,
                    Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error))),
                    None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
                }
                if room == 0 {
                    continue;
                }
            }
            let piece = self.output.split_to(room.min(self.output.len())).freeze();
            let ends = self.ending && self.output.is_empty() && self.trailers.is_none();
            self.ended |= ends;
            self.ending &= !ends;
            #[expect(clippy::disallowed_methods, reason = "bytes queued by the door and the relay alone")]
            send.send_data(piece, ends).map_err(io::Error::other)?;
        }
        if self.ending {
            self.ending = false;
            self.ended = true;
            #[expect(clippy::disallowed_methods, reason = "frames queued by the door and the relay alone")]
            match self.trailers.take() {
                Some(trailers) => send.send_trailers(trailers),
                None => send.send_data(Bytes::new(), true),
            }
            .map_err(io::Error::other)?;
        }
        Poll::Ready(Ok(()))
    }

    /// The client will see that the response is cut: a stream that is let go without its end is reset (CANCEL) behind
    /// what is queued. `send_reset` would throw the queued frames away.
    pub(super) fn cut(&mut self) {
        self.send = None;
        self.output = BytesMut::new();
        self.ending = false;
    }
}

/// A stream's part in what its connection may hold: for a client that does not take it, and of its heads.
#[derive(Debug, Default)]
pub(super) struct Share {
    /// The heads of all streams, in bytes.
    heads: Arc<AtomicUsize>,
    /// That of this one.
    head: usize,
}

impl Share {
    /// The part of a further stream, whose head is so long, and whether there is room for it.
    pub(super) fn stream(&self, head: usize) -> (Share, bool) {
        let held = self.heads.fetch_add(head, Ordering::Relaxed);
        (Share { heads: Arc::clone(&self.heads), head }, head <= SMALL_HEAD || held + head <= MOST_HEADS)
    }

    /// Equal parts, for as many streams as there are now; enough to come on with, and no more than `most`.
    fn of(&self, most: usize) -> usize {
        // The connection has one of its own.
        let streams = Arc::strong_count(&self.heads).saturating_sub(1).max(1);
        (MOST_HELD / streams).max(HEAD_ROOM).min(most)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.heads.fetch_sub(self.head, Ordering::Relaxed);
    }
}

fn response(status: u16, fields: HeaderMap) -> Option<Response<()>> {
    let mut head = Response::new(());
    *head.status_mut() = StatusCode::from_u16(status).ok()?;
    *head.version_mut() = http::Version::HTTP_2;
    *head.headers_mut() = fields;
    Some(head)
}

/// Adds a field of an HTTP/1 head to an HTTP/2 one; what cannot be said there is left out.
pub(super) fn append(map: &mut HeaderMap, name: &[u8], value: &[u8]) {
    if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
        put(map, name, value);
    }
}

/// Adds a field after those that are there. One that the next response will not have does not enter HPACK's table.
pub(super) fn put(map: &mut HeaderMap, name: HeaderName, value: HeaderValue) {
    let changes = matches!(
        name.as_str(),
        "date" | "ratelimit" | "retry-after" | "x-ratelimit-remaining" | "x-ratelimit-reset" | "x-request-id"
    );
    map.append(name, if changes { unindexed(value) } else { value });
}
