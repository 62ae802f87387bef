//! The client of one request, on HTTP/1 or HTTP/2 alike, and how far its answer has got.
//!
//! [`ResponseSender`] is the only way to begin an answer, and beginning one uses it up: nobody can answer twice, and after
//! the head has left only [`Downstream::abort`] remains. The `send_*` functions are called by [`super::local_reply`] and
//! [`super::relay`] alone.
#![expect(clippy::disallowed_methods, reason = "hands on what the door and the relay send")]
pub(super) mod h1;
pub(super) mod h2;

use std::io;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::downstream::h1::{BodyError, DownstreamH1};
use super::downstream::h2::DownstreamH2;
use super::message::h1_writer;
use super::message::{CloseMode, ResponseHeadParts};
use crate::http::request_head::Version;

/// How far the answer has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ResponseState {
    /// Nothing of a final response has been queued.
    NotStarted,
    /// The final head is on its way; the body may follow.
    HeadersSent,
    /// The response is complete.
    Complete,
    /// The response was cut; the connection or stream is lost.
    Aborted(CloseMode),
    /// The client was lost with its answer under way.
    Disconnected,
    /// It is there, and takes nothing of its answer.
    WriteTimeout,
}

/// The client of one request.
#[derive(Debug)]
pub(super) struct Downstream {
    protocol: DownstreamProtocol,
    state: ResponseState,
    scheme: &'static str,
    /// Time spent waiting for it to take its response or to send the rest of its request.
    waited: Duration,
}

// The HTTP/1 client is the larger one and the common one: a box would cost an allocation a connection.
#[derive(Debug)]
enum DownstreamProtocol {
    H1(DownstreamH1),
    H2(DownstreamH2),
}

/// An answer that has not begun.
#[derive(Debug)]
pub(super) struct ResponseSender<'a> {
    client: &'a mut Downstream,
}

impl<'a> ResponseSender<'a> {
    /// Whether it speaks HTTP/2.
    pub(super) const fn is_h2(&self) -> bool {
        self.client.is_h2()
    }

    /// The client, without giving up the right to answer.
    pub(super) fn client(&mut self) -> &mut Downstream {
        self.client
    }

    /// Begins the answer with its head.
    ///
    /// # Errors
    /// The stream is gone.
    pub(super) fn send_response_head(
        self,
        parts: &ResponseHeadParts<'_>,
        write_fields: impl FnOnce(&mut FieldWriter<'_>),
    ) -> io::Result<&'a mut Downstream> {
        self.client.state = ResponseState::HeadersSent;
        match &mut self.client.protocol {
            DownstreamProtocol::H1(h1) => {
                h1.send_response_head(parts, |out| write_fields(&mut FieldWriter::Raw(out)))
            }
            DownstreamProtocol::H2(h2) => {
                let mut map = HeaderMap::with_capacity(16);
                write_fields(&mut FieldWriter::Map(&mut map));
                h2.send_response_head(parts, map)?;
            }
        }
        Ok(self.client)
    }
}

/// Where the fields of a head are written.
#[derive(Debug)]
pub(super) enum FieldWriter<'a> {
    /// The bytes of an HTTP/1 head.
    Raw(&'a mut BytesMut),
    /// The fields of an HTTP/2 head.
    Map(&'a mut HeaderMap),
}

impl FieldWriter<'_> {
    /// Adds a field after those that are there.
    pub(super) fn append(&mut self, name: &[u8], value: &[u8]) {
        match self {
            FieldWriter::Raw(out) => h1_writer::write_field(out, name, value),
            FieldWriter::Map(map) => h2::append_bytes(map, name, value),
        }
    }

    /// Adds a field of our own, spelled as such fields are.
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
    /// `scheme`: how it reached us, `http` or `https`.
    pub(super) fn h1(client: DownstreamH1, scheme: &'static str) -> Self {
        Downstream {
            protocol: DownstreamProtocol::H1(client),
            state: ResponseState::Complete,
            scheme,
            waited: Duration::ZERO,
        }
    }

    pub(super) fn h2(client: DownstreamH2, scheme: &'static str) -> Self {
        Downstream {
            protocol: DownstreamProtocol::H2(client),
            state: ResponseState::NotStarted,
            scheme,
            waited: Duration::ZERO,
        }
    }

    /// How it reached us: `http` or `https`.
    pub(super) const fn scheme(&self) -> &'static str {
        self.scheme
    }

    /// The HTTP/1 connection, for the loop that reads the next request.
    pub(super) fn as_h1(&mut self) -> Option<&mut DownstreamH1> {
        match &mut self.protocol {
            DownstreamProtocol::H1(h1) => Some(h1),
            DownstreamProtocol::H2(_) => None,
        }
    }

    /// The HTTP/1 connection, for good.
    pub(super) fn into_h1(self) -> Option<DownstreamH1> {
        match self.protocol {
            DownstreamProtocol::H1(h1) => Some(h1),
            DownstreamProtocol::H2(_) => None,
        }
    }

    /// A new request has been read on this connection.
    pub(super) fn expect_response(&mut self) {
        self.state = ResponseState::NotStarted;
        self.waited = Duration::ZERO;
    }

    pub(super) const fn state(&self) -> ResponseState {
        self.state
    }

    /// It was waited for so long.
    pub(super) fn add_wait(&mut self, waited: Duration) {
        self.waited += waited;
    }

    /// How long it has been waited for since its request was read, as far as that was counted here.
    pub(super) const fn waited(&self) -> Duration {
        self.waited
    }

    /// The right to answer, while there is one. Nobody answers a stream that has been reset: it would be counted, and the
    /// library would throw it away.
    pub(super) fn response_sender(&mut self) -> Option<ResponseSender<'_>> {
        let reset = match &mut self.protocol {
            DownstreamProtocol::H1(_) => false,
            DownstreamProtocol::H2(h2) => h2.is_disconnected(),
        };
        (self.state == ResponseState::NotStarted && !reset).then_some(ResponseSender { client: self })
    }

    /// Whether interim responses may be sent at all.
    pub(super) const fn supports_interim(&self) -> bool {
        match &self.protocol {
            DownstreamProtocol::H1(h1) => matches!(h1.version(), Version::Http11),
            DownstreamProtocol::H2(_) => true,
        }
    }

    pub(super) const fn is_h2(&self) -> bool {
        matches!(self.protocol, DownstreamProtocol::H2(_))
    }

    /// The HTTP/2 library has reset the stream, because it is malformed, and counted that.
    pub(super) const fn is_malformed(&self) -> bool {
        match &self.protocol {
            DownstreamProtocol::H1(_) => false,
            DownstreamProtocol::H2(h2) => h2.is_malformed(),
        }
    }

    /// The client waits for a 100 before it sends its body.
    pub(super) const fn awaits_continue(&self) -> bool {
        match &self.protocol {
            DownstreamProtocol::H1(h1) => h1.awaits_continue(),
            DownstreamProtocol::H2(h2) => h2.awaits_continue(),
        }
    }

    pub(super) const fn body_is_done(&self) -> bool {
        match &self.protocol {
            DownstreamProtocol::H1(h1) => h1.body_is_done(),
            DownstreamProtocol::H2(h2) => h2.body_is_done(),
        }
    }

    /// How much of the request body is still to come, where the client said it.
    pub(super) const fn body_remaining(&self) -> Option<u64> {
        match &self.protocol {
            DownstreamProtocol::H1(h1) => h1.body_remaining(),
            DownstreamProtocol::H2(h2) => h2.body_remaining(),
        }
    }

    /// The next piece of the request body; `None` at its end.
    pub(super) fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, BodyError>> {
        match &mut self.protocol {
            DownstreamProtocol::H1(h1) => h1.poll_body(cx),
            DownstreamProtocol::H2(h2) => h2.poll_body(cx),
        }
    }

    /// The fields behind the request body, once it has ended. HTTP/1's are read and dropped.
    pub(super) fn take_trailers(&mut self) -> Option<HeaderMap> {
        match &mut self.protocol {
            DownstreamProtocol::H1(_) => None,
            DownstreamProtocol::H2(h2) => h2.take_trailers(),
        }
    }

    /// Ready when the client has left.
    pub(super) fn poll_disconnect(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.protocol {
            DownstreamProtocol::H1(h1) => h1.poll_disconnect(cx),
            DownstreamProtocol::H2(h2) => h2.poll_disconnect(cx),
        }
    }

    /// After this response the connection ends. HTTP/2 connections outlive their streams.
    pub(super) fn close_after_response(&mut self) {
        match &mut self.protocol {
            DownstreamProtocol::H1(h1) => h1.close_after_response(),
            DownstreamProtocol::H2(_) => {}
        }
    }

    /// Queues an interim response (1xx but 101).
    pub(super) fn send_interim(&mut self, status: u16, write_fields: impl FnOnce(&mut FieldWriter<'_>)) {
        match &mut self.protocol {
            DownstreamProtocol::H1(h1) => {
                h1.send_interim(status, |out| write_fields(&mut FieldWriter::Raw(out)))
            }
            DownstreamProtocol::H2(h2) => {
                let mut map = HeaderMap::new();
                write_fields(&mut FieldWriter::Map(&mut map));
                h2.send_interim(status, map);
            }
        }
    }

    /// Queues body bytes. Says whether the head's promise allows them.
    pub(super) fn send_data(&mut self, data: &[u8]) -> bool {
        match &mut self.protocol {
            DownstreamProtocol::H1(h1) => h1.send_data(data),
            DownstreamProtocol::H2(h2) => h2.send_data(data),
        }
    }

    /// Queues the fields behind the body, where the client's protocol has them; to be told before the end.
    pub(super) fn send_trailers(&mut self, trailers: HeaderMap) {
        match &mut self.protocol {
            // Nobody is promised any (Trailer, TE).
            DownstreamProtocol::H1(_) => {}
            DownstreamProtocol::H2(h2) => h2.send_trailers(trailers),
        }
    }

    /// Queues the end of the body. Says whether the body is as long as the head promised.
    pub(super) fn send_end(&mut self) -> bool {
        let complete = match &mut self.protocol {
            DownstreamProtocol::H1(h1) => h1.send_end(),
            DownstreamProtocol::H2(h2) => h2.send_end(),
        };
        if complete {
            self.state = ResponseState::Complete;
        }
        complete
    }

    /// Ends the response so that the client sees that it is not whole.
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

    /// The client takes nothing more, although its answer had begun.
    pub(super) fn set_disconnected(&mut self) {
        self.state = ResponseState::Disconnected;
    }

    /// The client is there and takes nothing of the answer that had begun.
    pub(super) fn set_write_timeout(&mut self) {
        self.state = ResponseState::WriteTimeout;
    }

    /// Bytes that are queued and not written.
    pub(super) fn unsent(&self) -> usize {
        match &self.protocol {
            DownstreamProtocol::H1(h1) => h1.unsent(),
            DownstreamProtocol::H2(h2) => h2.unsent(),
        }
    }

    /// How much more may be queued where each response may have `max` under way; streams share what their connection
    /// may have.
    pub(super) fn send_capacity(&self, max: usize) -> usize {
        match &self.protocol {
            DownstreamProtocol::H1(h1) => max.saturating_sub(h1.unsent()),
            DownstreamProtocol::H2(h2) => h2.send_capacity(max),
        }
    }

    /// How much of a request body may be kept where each request may have `max` of its own; streams share it likewise.
    pub(super) fn replay_capacity(&self, max: usize) -> usize {
        match &self.protocol {
            DownstreamProtocol::H1(_) => max,
            DownstreamProtocol::H2(h2) => h2.replay_capacity(max),
        }
    }

    /// Writes what is queued.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.protocol {
            DownstreamProtocol::H1(h1) => h1.poll_flush(cx),
            DownstreamProtocol::H2(h2) => h2.poll_flush(cx),
        }
    }
}
