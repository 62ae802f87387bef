//! The client side of one request, on HTTP/1 or HTTP/2, and the state of its response.
//!
//! [`ResponseSender`] is the only way to start a response, and starting one consumes it: a request gets at most one
//! response, and after the headers only [`Downstream::abort`] can end it early. Only [`super::local_reply`] and
//! [`super::relay`] call the `queue_*` functions; [`Downstream::poll_flush`] writes what was queued.
#![expect(clippy::disallowed_methods, reason = "forwards the calls of local_reply and relay")]

pub(super) mod h1;
pub(super) mod h2;

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};

use self::h1::{BodyError, DownstreamH1};
use self::h2::DownstreamH2;
use super::by_protocol::by_protocol;
use super::message::h1_writer;
use super::message::{CloseMode, ResponseHeadParts};
use super::pinned::PinnedConnections;
use crate::http::reported_origin::ListenerOrigin;
use crate::http::request_head::Version;

/// The state of the response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ResponseState {
    /// No part of a final response has been queued.
    NotStarted,
    /// The header section of the final response was queued; the body may follow.
    Started,
    /// The whole response was queued. The sender changes the state if the client does not receive it.
    Complete,
    /// The gateway truncated the response; the connection or stream cannot be used again.
    Aborted(CloseMode),
    /// The client disconnected during the response.
    Disconnected,
    /// The client is still connected but does not read the response.
    WriteTimeout,
}

/// The client side of one request.
#[derive(Debug)]
pub(super) struct Downstream {
    protocol: DownstreamProtocol,
    state: ResponseState,
    listener_origin: ListenerOrigin,
    /// Bytes of the request body received.
    body_bytes_received: u64,
    /// Time that the request spent waiting for its client or its upstream; `overhead_seconds` excludes it. It is kept
    /// here because every function that waits has the client.
    total_wait: Duration,
    /// How much of the request body is still to be read and discarded after the response.
    discard_limit: Option<DiscardLimit>,
    /// The upstream connections that are pinned to the client's connection. HTTP/2 streams share them.
    pinned: Option<Arc<PinnedConnections>>,
}

/// How much of a request body is read after the response, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DiscardLimit {
    pub(super) bytes: u64,
    pub(super) time: Duration,
}

// The HTTP/1 variant is larger and more common: boxing it would cost one allocation per connection.
#[derive(Debug)]
enum DownstreamProtocol {
    H1(DownstreamH1),
    H2(DownstreamH2),
}

/// The right to send the response to one request.
#[derive(Debug)]
pub(super) struct ResponseSender<'a> {
    client: &'a mut Downstream,
}

impl<'a> ResponseSender<'a> {
    /// Whether the client uses HTTP/2.
    pub(super) const fn is_h2(&self) -> bool {
        self.client.is_h2()
    }

    /// The client, without consuming the right to respond.
    pub(super) fn client(&mut self) -> &mut Downstream {
        self.client
    }

    /// Queues the status line and header section of the final response.
    ///
    /// # Errors
    /// The stream was reset or its connection closed.
    pub(super) fn queue_response_head(
        self,
        parts: &ResponseHeadParts<'_>,
        write_fields: impl FnOnce(&mut FieldWriter<'_>),
    ) -> io::Result<&'a mut Downstream> {
        self.client.state = ResponseState::Started;
        match &mut self.client.protocol {
            DownstreamProtocol::H1(h1) => {
                h1.queue_response_head(parts, |out| write_fields(&mut FieldWriter::Raw(out)))
            }
            DownstreamProtocol::H2(h2) => {
                let mut map = HeaderMap::with_capacity(16);
                write_fields(&mut FieldWriter::Map(&mut map));
                h2.queue_response_head(parts, map)?;
            }
        }
        Ok(self.client)
    }
}

/// Writes header fields in the format of the client's protocol.
#[derive(Debug)]
pub(super) enum FieldWriter<'a> {
    /// The bytes of an HTTP/1 header section.
    Raw(&'a mut BytesMut),
    /// The fields of an HTTP/2 header section.
    Map(&'a mut HeaderMap),
}

impl FieldWriter<'_> {
    /// Appends a field.
    pub(super) fn append(&mut self, name: &[u8], value: &[u8]) {
        match self {
            FieldWriter::Raw(out) => h1_writer::write_field(out, name, value),
            FieldWriter::Map(map) => h2::append_bytes(map, name, value),
        }
    }

    /// Appends a field that the gateway generates, with canonical capitalization on HTTP/1.
    pub(super) fn append_generated(&mut self, name: &HeaderName, value: &HeaderValue) {
        match self {
            FieldWriter::Raw(out) => {
                h1_writer::write_field(
                    out,
                    h1_writer::canonical_name(name.as_str()).as_bytes(),
                    value.as_bytes(),
                );
            }
            FieldWriter::Map(map) => h2::append_value(map, name.clone(), value.clone()),
        }
    }
}

impl Downstream {
    /// The state is `Complete` until [`Downstream::begin_request`] is called.
    pub(super) fn h1(client: DownstreamH1, listener_origin: ListenerOrigin) -> Self {
        Downstream {
            protocol: DownstreamProtocol::H1(client),
            state: ResponseState::Complete,
            listener_origin,
            body_bytes_received: 0,
            total_wait: Duration::ZERO,
            discard_limit: None,
            pinned: None,
        }
    }

    /// A stream of a connection with these pinned connections.
    pub(super) fn h2(
        client: DownstreamH2,
        listener_origin: ListenerOrigin,
        pinned: Arc<PinnedConnections>,
    ) -> Self {
        Downstream {
            protocol: DownstreamProtocol::H2(client),
            state: ResponseState::NotStarted,
            listener_origin,
            body_bytes_received: 0,
            total_wait: Duration::ZERO,
            discard_limit: None,
            pinned: Some(pinned),
        }
    }

    /// The upstream connections that are pinned to the client's connection, if there may be any.
    pub(super) fn pinned(&self) -> Option<&PinnedConnections> {
        self.pinned.as_deref()
    }

    /// Like [`Downstream::pinned`], for a request that pins one.
    pub(super) fn pinned_or_new(&mut self) -> &PinnedConnections {
        self.pinned.get_or_insert_default()
    }

    /// Bytes of the request body received.
    pub(super) const fn body_bytes_received(&self) -> u64 {
        self.body_bytes_received
    }

    /// The HTTP version that the client uses, for the log.
    pub(super) const fn protocol_name(&self) -> &'static str {
        match &self.protocol {
            DownstreamProtocol::H1(h1) => match h1.version() {
                Version::Http10 => "HTTP/1.0",
                Version::Http11 => "HTTP/1.1",
            },
            DownstreamProtocol::H2(_) => "HTTP/2",
        }
    }

    /// Where the request arrived: the scheme and port of the listener, and the TLS version.
    pub(super) const fn listener_origin(&self) -> ListenerOrigin {
        self.listener_origin
    }

    /// The HTTP/1 connection, to read the next request from it.
    pub(super) fn as_h1(&mut self) -> Option<&mut DownstreamH1> {
        match &mut self.protocol {
            DownstreamProtocol::H1(h1) => Some(h1),
            DownstreamProtocol::H2(_) => None,
        }
    }

    /// Takes the HTTP/1 connection, to close it or to tunnel through it.
    pub(super) fn into_h1(self) -> Option<DownstreamH1> {
        match self.protocol {
            DownstreamProtocol::H1(h1) => Some(h1),
            DownstreamProtocol::H2(_) => None,
        }
    }

    /// Resets the state for a new request on the same connection.
    pub(super) fn begin_request(&mut self) {
        self.state = ResponseState::NotStarted;
        self.body_bytes_received = 0;
        self.total_wait = Duration::ZERO;
        self.discard_limit = None;
    }

    pub(super) const fn state(&self) -> ResponseState {
        self.state
    }

    /// Adds time in which the request waited for its client or its upstream; `overhead_seconds` leaves it out.
    pub(super) fn add_wait(&mut self, waited: Duration) {
        self.total_wait += waited;
    }

    /// The sum of the waits since the request was read, as reported to [`Downstream::add_wait`].
    pub(super) const fn total_wait(&self) -> Duration {
        self.total_wait
    }

    /// The right to respond; `None` once a response has started or the stream was reset. The `h2` crate would discard a
    /// response on a reset stream, but the metrics would count it.
    pub(super) fn response_sender(&mut self) -> Option<ResponseSender<'_>> {
        let reset = match &mut self.protocol {
            DownstreamProtocol::H1(_) => false,
            DownstreamProtocol::H2(h2) => h2.is_disconnected(),
        };
        (self.state == ResponseState::NotStarted && !reset).then_some(ResponseSender { client: self })
    }

    /// Whether the final response may be counted and sent: no response has started, and no disconnect was counted. From
    /// then on a disconnect is not counted as one without a response.
    pub(super) fn claim_response(&mut self) -> bool {
        self.response_sender().is_some()
            && match &self.protocol {
                DownstreamProtocol::H1(_) => true,
                DownstreamProtocol::H2(h2) => h2.claim_response(),
            }
    }

    /// Whether the client's protocol supports interim responses.
    pub(super) const fn supports_interim(&self) -> bool {
        match &self.protocol {
            DownstreamProtocol::H1(h1) => matches!(h1.version(), Version::Http11),
            DownstreamProtocol::H2(_) => true,
        }
    }

    pub(super) const fn is_h2(&self) -> bool {
        matches!(self.protocol, DownstreamProtocol::H2(_))
    }

    /// Whether the `h2` crate has reset the stream as malformed; the frame observer has counted that.
    pub(super) const fn is_malformed(&self) -> bool {
        match &self.protocol {
            DownstreamProtocol::H1(_) => false,
            DownstreamProtocol::H2(h2) => h2.is_malformed(),
        }
    }

    /// Whether the client waits for a 100 before it sends its body.
    pub(super) const fn awaits_continue(&self) -> bool {
        by_protocol!(DownstreamProtocol, &self.protocol, side => side.awaits_continue())
    }

    pub(super) const fn body_is_done(&self) -> bool {
        by_protocol!(DownstreamProtocol, &self.protocol, side => side.body_is_done())
    }

    /// Number of request body bytes still to be received, if the client declared a length.
    pub(super) const fn body_remaining(&self) -> Option<u64> {
        by_protocol!(DownstreamProtocol, &self.protocol, side => side.body_remaining())
    }

    /// Sets how much of the request body is read and discarded after the response.
    pub(super) fn set_discard_limit(&mut self, limit: Option<DiscardLimit>) {
        self.discard_limit = limit;
    }

    /// Takes what [`Downstream::set_discard_limit`] has set.
    pub(super) fn take_discard_limit(&mut self) -> Option<DiscardLimit> {
        self.discard_limit.take()
    }

    /// The next chunk of the request body; `None` at its end.
    pub(super) fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, BodyError>> {
        let chunk = by_protocol!(DownstreamProtocol, &mut self.protocol, side => side.poll_body(cx));
        if let Poll::Ready(Ok(Some(data))) = &chunk {
            self.body_bytes_received += data.len() as u64;
        }
        chunk
    }

    /// The request trailers, once the body has ended. HTTP/1 trailers are discarded.
    pub(super) fn take_trailers(&mut self) -> Option<HeaderMap> {
        match &mut self.protocol {
            DownstreamProtocol::H1(_) => None,
            DownstreamProtocol::H2(h2) => h2.take_trailers(),
        }
    }

    /// Ready when the client has disconnected. An HTTP/1 client that closes its sending side (FIN) counts as
    /// disconnected: it may have closed both.
    pub(super) fn poll_disconnect(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        by_protocol!(DownstreamProtocol, &mut self.protocol, side => side.poll_disconnect(cx))
    }

    /// Closes an HTTP/1 connection after this response. No effect on HTTP/2, where other streams share the connection.
    pub(super) fn close_after_response(&mut self) {
        match &mut self.protocol {
            DownstreamProtocol::H1(h1) => h1.close_after_response(),
            DownstreamProtocol::H2(_) => {}
        }
    }

    /// Whether an HTTP/1 connection closes after this response, however much of the request body is read.
    pub(super) fn will_close(&self) -> bool {
        match &self.protocol {
            DownstreamProtocol::H1(h1) => h1.will_close(),
            DownstreamProtocol::H2(_) => false,
        }
    }

    /// Queues an interim response (1xx except 101).
    pub(super) fn queue_interim(&mut self, status: u16, write_fields: impl FnOnce(&mut FieldWriter<'_>)) {
        match &mut self.protocol {
            DownstreamProtocol::H1(h1) => {
                h1.queue_interim(status, |out| write_fields(&mut FieldWriter::Raw(out)))
            }
            DownstreamProtocol::H2(h2) => {
                let mut map = HeaderMap::new();
                write_fields(&mut FieldWriter::Map(&mut map));
                h2.queue_interim(status, map);
            }
        }
    }

    /// Queues body bytes. Returns false if they exceed the declared length.
    pub(super) fn queue_response_body(&mut self, data: &[u8]) -> bool {
        by_protocol!(DownstreamProtocol, &mut self.protocol, side => side.queue_response_body(data))
    }

    /// Queues trailers; must be called before [`Downstream::queue_response_end`]. HTTP/1 responses have no trailers.
    pub(super) fn queue_response_trailers(&mut self, trailers: HeaderMap) {
        match &mut self.protocol {
            // The response has no Trailer field, which would announce them.
            DownstreamProtocol::H1(_) => {}
            DownstreamProtocol::H2(h2) => h2.queue_response_trailers(trailers),
        }
    }

    /// Queues the end of the body. Returns false if the body is shorter than the declared length.
    pub(super) fn queue_response_end(&mut self) -> bool {
        let complete = match &mut self.protocol {
            DownstreamProtocol::H1(h1) => h1.queue_response_end(),
            DownstreamProtocol::H2(h2) => h2.queue_response_end(),
        };
        if complete {
            self.state = ResponseState::Complete;
        }
        complete
    }

    /// Marks the response as truncated. HTTP/2: the stream is reset. HTTP/1: the connection closes after this request,
    /// so that the client can detect the truncation.
    pub(super) fn abort(&mut self) {
        let close_mode = match &mut self.protocol {
            DownstreamProtocol::H1(h1) => h1.abort(),
            DownstreamProtocol::H2(h2) => {
                h2.abort();
                CloseMode::Reset
            }
        };
        self.state = ResponseState::Aborted(close_mode);
    }

    /// The client disconnected after the response had started.
    pub(super) fn set_disconnected(&mut self) {
        self.state = ResponseState::Disconnected;
    }

    /// The client did not read the response within the write timeout.
    pub(super) fn set_write_timeout(&mut self) {
        self.state = ResponseState::WriteTimeout;
    }

    /// Number of bytes that are queued and not yet passed to the kernel (HTTP/1) or to the `h2` crate.
    pub(super) fn unsent(&self) -> usize {
        by_protocol!(DownstreamProtocol, &self.protocol, side => side.unsent())
    }

    /// Number of bytes that may still be queued, with at most `max` per response. HTTP/2 streams share a limit per
    /// connection.
    pub(super) fn send_capacity(&self, max: usize) -> usize {
        match &self.protocol {
            DownstreamProtocol::H1(h1) => max.saturating_sub(h1.unsent()),
            DownstreamProtocol::H2(h2) => h2.send_capacity(max),
        }
    }

    /// Number of request body bytes that may be kept for a retry, with at most `max` per request. HTTP/2 streams share
    /// a limit per connection.
    pub(super) fn replay_capacity(&self, max: usize) -> usize {
        match &self.protocol {
            DownstreamProtocol::H1(_) => max,
            DownstreamProtocol::H2(h2) => h2.replay_capacity(max),
        }
    }

    /// Ready when the `sent` flushed body bytes were written to the connection, or cannot be.
    pub(super) fn poll_written(&self, sent: u64, cx: &mut Context<'_>) -> Poll<()> {
        match &self.protocol {
            DownstreamProtocol::H1(_) => Poll::Ready(()),
            DownstreamProtocol::H2(h2) => h2.poll_written(sent, cx),
        }
    }

    /// Passes the queued bytes to the kernel (HTTP/1) or to the `h2` crate, which writes them later: see
    /// [`Downstream::poll_written`].
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        by_protocol!(DownstreamProtocol, &mut self.protocol, side => side.poll_flush(cx))
    }
}
