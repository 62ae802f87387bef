//! A client's stream on HTTP/2: its request body as it arrives, and the frames of the one response it gets.
//!
//! It speaks to the `h2` crate and never decides what to answer: only [`crate::proxy::local_reply`] and [`crate::proxy::relay`] call the
//! `send_*` functions. Streams are accepted in [`crate::proxy::connection::h2`].

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, Bytes, BytesMut};
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};

use super::h1::BodyError;
use crate::http::body_decoder::MAX_TRAILER_BYTES;
use crate::proxy::buffered_stream::HEADER_BUFFER_SIZE;
use crate::proxy::message::{BodyLength, ResponseHeadParts, never_indexed};
use crate::proxy::stream_table::StreamTable;

/// What all streams of a connection may hold together, beside the little that each needs.
const MAX_CONNECTION_BUFFER: usize = 512 * 1024;

/// So much the heads of a connection's requests may be together, while they are served.
const MAX_CONNECTION_HEADERS: usize = 1024 * 1024;
/// A head up to this size always has room: 128 of them take half of the above.
const SMALL_HEADER_LIST: usize = 4 * 1024;

/// One HTTP/2 stream.
#[derive(Debug)]
pub(in crate::proxy) struct DownstreamH2 {
    body: RecvStream,
    body_done: bool,
    /// The fields behind the request body.
    request_trailers: Option<HeaderMap>,
    /// The library has reset the stream, because it is malformed.
    malformed: bool,
    awaits_continue: bool,
    is_head_request: bool,
    respond: SendResponse<Bytes>,
    send: Option<SendStream<Bytes>>,
    /// Bytes that flow control has not let out yet.
    output: BytesMut,
    /// How many they may be.
    budget: StreamBudget,
    /// The end was asked for and not sent yet.
    end_pending: bool,
    /// What comes with the end.
    response_trailers: Option<HeaderMap>,
    /// END_STREAM has been sent.
    end_sent: bool,
    response_remaining: Option<u64>,
    request_remaining: Option<u64>,
    /// Is told of interim responses: in their frames nothing but HPACK says that they are.
    table: StreamTable,
}

impl DownstreamH2 {
    pub(in crate::proxy) fn new(
        body: RecvStream,
        respond: SendResponse<Bytes>,
        is_head_request: bool,
        awaits_continue: bool,
        length: Option<u64>,
        budget: StreamBudget,
    ) -> Self {
        let body_done = body.is_end_stream();
        DownstreamH2 {
            body,
            body_done,
            request_trailers: None,
            malformed: false,
            awaits_continue: awaits_continue && !body_done,
            is_head_request,
            respond,
            send: None,
            output: BytesMut::new(),
            budget,
            end_pending: false,
            response_trailers: None,
            end_sent: false,
            response_remaining: None,
            request_remaining: length,
            table: StreamTable::default(),
        }
    }

    /// A stream of the connection that this table is of.
    pub(in crate::proxy) fn counted_in(mut self, table: StreamTable) -> Self {
        self.table = table;
        self
    }

    pub(in crate::proxy) const fn awaits_continue(&self) -> bool {
        self.awaits_continue
    }

    pub(in crate::proxy) const fn body_is_done(&self) -> bool {
        self.body_done
    }

    pub(in crate::proxy) const fn body_remaining(&self) -> Option<u64> {
        if self.body_done { Some(0) } else { self.request_remaining }
    }

    pub(in crate::proxy) const fn is_malformed(&self) -> bool {
        self.malformed
    }

    /// The next piece of the request body; `None` at its end.
    pub(in crate::proxy) fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Bytes>, BodyError>> {
        if self.body_done {
            return Poll::Ready(Ok(None));
        }
        match ready!(self.body.poll_data(cx)) {
            Some(Ok(data)) => {
                self.awaits_continue = false;
                // The window is opened again when the bytes are taken: one piece is under way at a time, so a slow
                // upstream holds the client back.
                let _ = self.body.flow_control().release_capacity(data.len());
                self.request_remaining =
                    self.request_remaining.map(|left| left.saturating_sub(data.len() as u64));
                Poll::Ready(Ok(Some(data)))
            }
            Some(Err(error)) => Poll::Ready(Err(self.body_error(&error))),
            None => {
                let trailers =
                    ready!(self.body.poll_trailers(cx)).map_err(|error| self.body_error(&error))?;
                self.body_done = true;
                let length =
                    |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len() + value.len() + 32;
                if trailers.iter().flatten().map(length).sum::<usize>() > MAX_TRAILER_BYTES {
                    return Poll::Ready(Err(BodyError::Malformed("the trailers are too long")));
                }
                self.request_trailers = trailers;
                Poll::Ready(Ok(None))
            }
        }
    }

    fn body_error(&mut self, error: &h2::Error) -> BodyError {
        self.malformed = error.is_library() && error.is_reset();
        BodyError::Disconnected
    }

    /// The fields behind the request body, once it has ended.
    pub(in crate::proxy) fn take_trailers(&mut self) -> Option<HeaderMap> {
        self.request_trailers.take()
    }

    /// Ready when the client has reset the stream or left.
    pub(in crate::proxy) fn poll_disconnect(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let reset = match &mut self.send {
            Some(send) => send.poll_reset(cx),
            None => self.respond.poll_reset(cx),
        };
        if ready!(reset).is_ok() {
            self.detect_library_reset(cx);
        }
        Poll::Ready(())
    }

    /// Whether it is gone now.
    pub(in crate::proxy) fn is_disconnected(&mut self) -> bool {
        self.poll_disconnect(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    /// A stream that the library has reset is malformed, and not left by its client: only the body's side tells.
    fn detect_library_reset(&mut self, cx: &mut Context<'_>) {
        while let Poll::Ready(Some(data)) = self.body.poll_data(cx) {
            if let Err(error) = data {
                self.malformed = error.is_library() && error.is_reset();
                return;
            }
        }
    }

    /// Sends an interim response (1xx but 101).
    pub(in crate::proxy) fn send_interim(&mut self, status: u16, fields: HeaderMap) {
        if status == 100 {
            self.awaits_continue = false;
        }
        if let Some(response) = response_head(status, fields) {
            self.table.interim(self.respond.stream_id().as_u32());
            // A failure means that the stream is gone, which the next step sees.
            #[expect(clippy::disallowed_methods, reason = "asked for by the relay alone")]
            let _ = self.respond.send_informational(response);
        }
    }

    /// Sends the head.
    ///
    /// # Errors
    /// The stream is gone.
    pub(in crate::proxy) fn send_response_head(
        &mut self,
        parts: &ResponseHeadParts<'_>,
        mut fields: HeaderMap,
    ) -> io::Result<()> {
        let no_body = self.is_head_request || matches!(parts.status, 204 | 304);
        if let (BodyLength::Exactly(length), true) = (parts.length, parts.status != 204) {
            fields.insert(http::header::CONTENT_LENGTH, HeaderValue::from(length));
            self.response_remaining = (!no_body).then_some(length);
        }
        let end_stream = no_body || matches!(parts.length, BodyLength::Absent | BodyLength::Exactly(0));
        let response = response_head(parts.status, fields).ok_or(io::ErrorKind::InvalidData)?;
        #[expect(clippy::disallowed_methods, reason = "asked for by the door and the relay alone")]
        let send = self.respond.send_response(response, end_stream).map_err(io::Error::other)?;
        self.send = Some(send);
        self.end_sent = end_stream;
        if end_stream {
            self.response_remaining = Some(0);
        }
        Ok(())
    }

    /// Queues body bytes; never more than the head promised.
    pub(in crate::proxy) fn send_data(&mut self, data: &[u8]) -> bool {
        if let Some(left) = &mut self.response_remaining {
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
    pub(in crate::proxy) fn send_trailers(&mut self, trailers: HeaderMap) {
        self.response_trailers = Some(trailers);
    }

    /// Queues the end of the stream. Says whether the body is as long as the head promised.
    pub(in crate::proxy) fn send_end(&mut self) -> bool {
        self.end_pending = !self.end_sent;
        self.response_remaining.is_none_or(|left| left == 0)
    }

    /// How much more may be queued, where a response on its own may have `max` under way.
    pub(in crate::proxy) fn send_capacity(&self, max: usize) -> usize {
        self.budget.capacity(max).saturating_sub(self.unsent())
    }

    /// How much of the request body may be kept, where a request on its own may have `max`.
    pub(in crate::proxy) fn replay_capacity(&self, max: usize) -> usize {
        self.budget.capacity(max)
    }

    pub(in crate::proxy) fn unsent(&self) -> usize {
        self.output.len() + usize::from(self.end_pending)
    }

    pub(in crate::proxy) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(send) = &mut self.send else { return Poll::Ready(Ok(())) };
        while self.output.has_remaining() {
            send.reserve_capacity(self.output.len());
            let mut capacity = send.capacity();
            if capacity == 0 {
                match ready!(send.poll_capacity(cx)) {
                    Some(Ok(granted)) => capacity = granted,
                    Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error))),
                    None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
                }
                if capacity == 0 {
                    continue;
                }
            }
            let chunk = self.output.split_to(capacity.min(self.output.len())).freeze();
            let end_stream = self.end_pending && self.output.is_empty() && self.response_trailers.is_none();
            self.end_sent |= end_stream;
            self.end_pending &= !end_stream;
            #[expect(clippy::disallowed_methods, reason = "bytes queued by the door and the relay alone")]
            send.send_data(chunk, end_stream).map_err(io::Error::other)?;
        }
        if self.end_pending {
            self.end_pending = false;
            self.end_sent = true;
            #[expect(clippy::disallowed_methods, reason = "frames queued by the door and the relay alone")]
            match self.response_trailers.take() {
                Some(trailers) => send.send_trailers(trailers),
                None => send.send_data(Bytes::new(), true),
            }
            .map_err(io::Error::other)?;
        }
        Poll::Ready(Ok(()))
    }

    /// The client will see that the response is cut: a stream that is let go without its end is reset (CANCEL) behind
    /// what is queued. `send_reset` would throw the queued frames away.
    pub(in crate::proxy) fn abort(&mut self) {
        self.send = None;
        self.output = BytesMut::new();
        self.end_pending = false;
    }
}

/// A stream's part in what its connection may hold: for a client that does not take it, and of its heads.
#[derive(Debug, Default)]
pub(in crate::proxy) struct StreamBudget {
    /// The heads of all streams, in bytes.
    total_header_bytes: Arc<AtomicUsize>,
    /// That of this one.
    header_bytes: usize,
}

impl StreamBudget {
    /// The part of a further stream, whose head is so long, and whether there is room for it.
    pub(in crate::proxy) fn for_stream(&self, header_bytes: usize) -> (StreamBudget, bool) {
        let previous = self.total_header_bytes.fetch_add(header_bytes, Ordering::Relaxed);
        (
            StreamBudget { total_header_bytes: Arc::clone(&self.total_header_bytes), header_bytes },
            header_bytes <= SMALL_HEADER_LIST || previous + header_bytes <= MAX_CONNECTION_HEADERS,
        )
    }

    /// Equal parts, for as many streams as there are now; enough to come on with, and no more than `max`.
    fn capacity(&self, max: usize) -> usize {
        // The connection has one of its own.
        let streams = Arc::strong_count(&self.total_header_bytes).saturating_sub(1).max(1);
        (MAX_CONNECTION_BUFFER / streams).max(HEADER_BUFFER_SIZE).min(max)
    }
}

impl Drop for StreamBudget {
    fn drop(&mut self) {
        self.total_header_bytes.fetch_sub(self.header_bytes, Ordering::Relaxed);
    }
}

fn response_head(status: u16, fields: HeaderMap) -> Option<Response<()>> {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::from_u16(status).ok()?;
    *response.version_mut() = http::Version::HTTP_2;
    *response.headers_mut() = fields;
    Some(response)
}

/// Adds a field of an HTTP/1 head to an HTTP/2 one; what cannot be said there is left out.
pub(in crate::proxy) fn append_bytes(map: &mut HeaderMap, name: &[u8], value: &[u8]) {
    if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
        append_value(map, name, value);
    }
}

/// Adds a field after those that are there. One that the next response will not have does not enter HPACK's table.
pub(in crate::proxy) fn append_value(map: &mut HeaderMap, name: HeaderName, value: HeaderValue) {
    let varies = matches!(
        name.as_str(),
        "date" | "ratelimit" | "retry-after" | "x-ratelimit-remaining" | "x-ratelimit-reset" | "x-request-id"
    );
    map.append(name, if varies { never_indexed(value) } else { value });
}
