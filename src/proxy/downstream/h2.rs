//! The client side of one HTTP/2 stream: reads the request body and writes the response frames through the `h2` crate.
//!
//! Only [`super`] calls the `queue_*` functions, for [`crate::proxy::local_reply`] and [`crate::proxy::relay`].
//! [`crate::proxy::connection::h2`] accepts the streams.

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

/// Buffer limit shared by all streams of a connection, in bytes. Each stream gets at least one small buffer, even above
/// this limit.
const MAX_CONNECTION_BUFFER: usize = 512 * 1024;

/// Limit on the total size of the header lists of a connection's open requests, in bytes.
const MAX_CONNECTION_HEADERS: usize = 1024 * 1024;
/// A header list up to this size is always accepted: the maximum of 128 streams uses half of the limit above.
const SMALL_HEADER_LIST: usize = 4 * 1024;

/// One HTTP/2 stream.
#[derive(Debug)]
pub(in crate::proxy) struct DownstreamH2 {
    body: RecvStream,
    body_done: bool,
    request_trailers: Option<HeaderMap>,
    /// The `h2` crate has reset the stream as malformed.
    malformed: bool,
    awaits_continue: bool,
    is_head_request: bool,
    respond: SendResponse<Bytes>,
    send: Option<SendStream<Bytes>>,
    /// Response bytes that wait for flow control.
    output: BytesMut,
    /// Limits `output`.
    budget: StreamBudget,
    /// The end of the body is queued and not written.
    end_pending: bool,
    response_trailers: Option<HeaderMap>,
    /// END_STREAM has been sent.
    end_sent: bool,
    /// Response body bytes still to be queued, if the length is declared.
    response_remaining: Option<u64>,
    request_remaining: Option<u64>,
    /// Records the response, and interim ones, which the frame observer cannot detect because HPACK encodes the status
    /// code.
    table: StreamTable,
}

/// The facts of a request that the framing of its stream depends on.
#[derive(Clone, Copy, Debug)]
pub(in crate::proxy) struct RequestProperties {
    pub(in crate::proxy) is_head_request: bool,
    /// The client waits for a 100 before it sends its body.
    pub(in crate::proxy) awaits_continue: bool,
    /// The declared length of the body.
    pub(in crate::proxy) length: Option<u64>,
}

impl DownstreamH2 {
    pub(in crate::proxy) fn new(
        body: RecvStream,
        respond: SendResponse<Bytes>,
        properties: RequestProperties,
        budget: StreamBudget,
        table: StreamTable,
    ) -> Self {
        let RequestProperties { is_head_request, awaits_continue, length } = properties;
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
            table,
        }
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

    /// The next chunk of the request body; `None` at its end.
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
                // Release flow control only for the chunk that the caller takes, so a slow upstream slows the client
                // down.
                let _ = self.body.flow_control().release_capacity(data.len());
                self.request_remaining =
                    self.request_remaining.map(|remaining| remaining.saturating_sub(data.len() as u64));
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
                    return Poll::Ready(Err(BodyError::Malformed("trailers too large")));
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

    /// The request trailers, once the body has ended.
    pub(in crate::proxy) fn take_trailers(&mut self) -> Option<HeaderMap> {
        self.request_trailers.take()
    }

    /// Ready when the client has reset the stream or disconnected.
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

    /// Whether the client has reset the stream or disconnected.
    pub(in crate::proxy) fn is_disconnected(&mut self) -> bool {
        self.poll_disconnect(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    /// Distinguishes a reset by the `h2` crate (malformed stream) from one by the client: only the receive side reports
    /// which of the two it was.
    fn detect_library_reset(&mut self, cx: &mut Context<'_>) {
        while let Poll::Ready(Some(data)) = self.body.poll_data(cx) {
            if let Err(error) = data {
                self.malformed = error.is_library() && error.is_reset();
                return;
            }
        }
    }

    /// Queues an interim response (1xx except 101).
    pub(in crate::proxy) fn queue_interim(&mut self, status: u16, fields: HeaderMap) {
        if status == 100 {
            self.awaits_continue = false;
        }
        if let Some(response) = response_head(status, fields) {
            self.table.expect_interim(self.respond.stream_id().as_u32());
            // An error means that the stream was reset, which the next poll reports.
            #[expect(clippy::disallowed_methods, reason = "called by relay only")]
            let _ = self.respond.send_informational(response);
        }
    }

    /// Claims the stream for its final response, which is then counted. Returns false if a disconnect was counted
    /// before.
    pub(in crate::proxy) fn claim_response(&self) -> bool {
        self.table.claim_response(self.respond.stream_id().as_u32())
    }

    /// Queues the status code and header section of the final response.
    ///
    /// # Errors
    /// The stream was reset or its connection closed.
    pub(in crate::proxy) fn queue_response_head(
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
        #[expect(clippy::disallowed_methods, reason = "called by local_reply and relay only")]
        let send = self.respond.send_response(response, end_stream).map_err(io::Error::other)?;
        self.send = Some(send);
        self.end_sent = end_stream;
        if end_stream {
            self.response_remaining = Some(0);
        }
        Ok(())
    }

    /// Queues body bytes. Returns false, and queues nothing, if they exceed the declared length.
    pub(in crate::proxy) fn queue_response_body(&mut self, data: &[u8]) -> bool {
        if let Some(remaining) = &mut self.response_remaining {
            let length = data.len() as u64;
            if length > *remaining {
                return false;
            }
            *remaining -= length;
        }
        self.output.extend_from_slice(data);
        true
    }

    /// Queues the response trailers.
    pub(in crate::proxy) fn queue_response_trailers(&mut self, trailers: HeaderMap) {
        self.response_trailers = Some(trailers);
    }

    /// Queues the end of the stream. Returns false if the body is shorter than the declared length.
    pub(in crate::proxy) fn queue_response_end(&mut self) -> bool {
        self.end_pending = !self.end_sent;
        self.response_remaining.is_none_or(|remaining| remaining == 0)
    }

    /// Number of bytes that may still be queued, at most `max` in total.
    pub(in crate::proxy) fn send_capacity(&self, max: usize) -> usize {
        self.budget.capacity(max).saturating_sub(self.unsent())
    }

    /// Number of request body bytes that may be kept for a retry, at most `max`.
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
            #[expect(clippy::disallowed_methods, reason = "local_reply and relay queued the bytes")]
            send.send_data(chunk, end_stream).map_err(io::Error::other)?;
        }
        if self.end_pending {
            self.end_pending = false;
            self.end_sent = true;
            #[expect(clippy::disallowed_methods, reason = "local_reply and relay queued the frames")]
            match self.response_trailers.take() {
                Some(trailers) => send.send_trailers(trailers),
                None => send.send_data(Bytes::new(), true),
            }
            .map_err(io::Error::other)?;
        }
        Poll::Ready(Ok(()))
    }

    /// Ready when the `sent` body bytes, all flushed, are written or cannot be: the `h2` crate discards DATA frames
    /// that it has not written when the stream is reset.
    pub(in crate::proxy) fn poll_written(&self, sent: u64, cx: &mut Context<'_>) -> Poll<()> {
        if self.send.is_none() {
            return Poll::Ready(());
        }
        self.table.poll_data_written(self.respond.stream_id().as_u32(), sent, cx)
    }

    /// Truncates the response. Dropping the stream before its end makes the `h2` crate send RST_STREAM (CANCEL).
    pub(in crate::proxy) fn abort(&mut self) {
        self.send = None;
        self.output = BytesMut::new();
        self.end_pending = false;
    }
}

/// The memory limits of one connection, shared by its streams: buffered body bytes and header lists.
///
/// The buffer limit is divided by the number of open streams. Each of them holds a [`StreamBudget`], so that number is
/// the number of references to `total_header_bytes`, less one.
#[derive(Debug, Default)]
pub(in crate::proxy) struct ConnectionBudget {
    /// Size of the header lists of all streams, in bytes.
    total_header_bytes: Arc<AtomicUsize>,
}

/// One stream's share of the memory limits of its connection.
#[derive(Debug)]
pub(in crate::proxy) struct StreamBudget {
    total_header_bytes: Arc<AtomicUsize>,
    /// Size of this stream's header list, in bytes.
    header_bytes: usize,
}

/// The result of adding a stream to a connection.
pub(in crate::proxy) struct AddedStream {
    pub(in crate::proxy) budget: StreamBudget,
    /// The stream may be served: its header list is small, or with it the connection is within its limit.
    pub(in crate::proxy) is_admitted: bool,
}

impl ConnectionBudget {
    /// Adds a stream with a header list of `header_bytes`.
    pub(in crate::proxy) fn add_stream(&self, header_bytes: usize) -> AddedStream {
        let previous = self.total_header_bytes.fetch_add(header_bytes, Ordering::Relaxed);
        AddedStream {
            budget: StreamBudget { total_header_bytes: Arc::clone(&self.total_header_bytes), header_bytes },
            is_admitted: header_bytes <= SMALL_HEADER_LIST
                || previous + header_bytes <= MAX_CONNECTION_HEADERS,
        }
    }
}

impl StreamBudget {
    /// The buffer limit divided by the number of open streams, but at least one small buffer and at most `max`.
    fn capacity(&self, max: usize) -> usize {
        // The connection itself holds one reference.
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

/// Appends a field that is given as bytes. A field that HTTP/2 cannot represent is skipped.
pub(in crate::proxy) fn append_bytes(map: &mut HeaderMap, name: &[u8], value: &[u8]) {
    if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
        append_value(map, name, value);
    }
}

/// Appends a field. Values that differ in every response are kept out of the HPACK dynamic table.
pub(in crate::proxy) fn append_value(map: &mut HeaderMap, name: HeaderName, value: HeaderValue) {
    let varies = matches!(
        name.as_str(),
        "date" | "ratelimit" | "retry-after" | "x-ratelimit-remaining" | "x-ratelimit-reset" | "x-request-id"
    );
    map.append(name, if varies { never_indexed(value) } else { value });
}
