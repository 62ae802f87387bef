//! The client of one request, on HTTP/1 or HTTP/2 alike, and how far its answer has got.
//!
//! [`Unanswered`] is the only way to begin an answer, and beginning one uses it up: nobody can answer twice, and after
//! the head has left only [`Downstream::cut`] remains. The `send_*` functions are called by [`super::door`] and
//! [`super::relay`] alone.
#![expect(clippy::disallowed_methods, reason = "hands on what the door and the relay send")]

use std::io;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::client_h1::{BodyFault, H1Client};
use super::client_h2::{self, H2Client};
use super::fields;
use super::head::{Ends, HeadParts};
use crate::protocol::request_head::Version;

/// How far the answer has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Nothing of a final response has been queued.
    Unanswered,
    /// The final head is on its way; the body may follow.
    HeadSent,
    /// The response is complete.
    Finished,
    /// The response was cut; the connection or stream is lost.
    Cut(Ends),
    /// The client was lost with its answer under way.
    Lost,
    /// It is there, and takes nothing of its answer.
    Stuck,
}

/// The client of one request.
#[derive(Debug)]
pub(super) struct Downstream {
    kind: Kind,
    stage: Stage,
    scheme: &'static str,
    /// Time spent waiting for it to take its response or to send the rest of its request.
    waited: Duration,
}

// The HTTP/1 client is the larger one and the common one: a box would cost an allocation a connection.
#[derive(Debug)]
enum Kind {
    H1(H1Client),
    H2(H2Client),
}

/// An answer that has not begun.
#[derive(Debug)]
pub(super) struct Unanswered<'a> {
    client: &'a mut Downstream,
}

impl<'a> Unanswered<'a> {
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
    pub(super) fn begin(
        self,
        parts: &HeadParts<'_>,
        fill: impl FnOnce(&mut FieldSink<'_>),
    ) -> io::Result<&'a mut Downstream> {
        self.client.stage = Stage::HeadSent;
        match &mut self.client.kind {
            Kind::H1(h1) => h1.send_head(parts, |out| fill(&mut FieldSink::Raw(out))),
            Kind::H2(h2) => {
                let mut map = HeaderMap::with_capacity(16);
                fill(&mut FieldSink::Map(&mut map));
                h2.send_head(parts, map)?;
            }
        }
        Ok(self.client)
    }
}

/// Where the fields of a head are written.
#[derive(Debug)]
pub(super) enum FieldSink<'a> {
    /// The bytes of an HTTP/1 head.
    Raw(&'a mut BytesMut),
    /// The fields of an HTTP/2 head.
    Map(&'a mut HeaderMap),
}

impl FieldSink<'_> {
    /// Adds a field after those that are there.
    pub(super) fn put(&mut self, name: &[u8], value: &[u8]) {
        match self {
            FieldSink::Raw(out) => fields::field(out, name, value),
            FieldSink::Map(map) => client_h2::append(map, name, value),
        }
    }

    /// Adds a field of our own, spelled as such fields are.
    pub(super) fn put_own(&mut self, name: &HeaderName, value: &HeaderValue) {
        match self {
            FieldSink::Raw(out) => {
                fields::field(out, fields::titled(name.as_str()).as_bytes(), value.as_bytes());
            }
            FieldSink::Map(map) => client_h2::put(map, name.clone(), value.clone()),
        }
    }
}

impl Downstream {
    /// `scheme`: how it reached us, `http` or `https`.
    pub(super) fn h1(client: H1Client, scheme: &'static str) -> Self {
        Downstream { kind: Kind::H1(client), stage: Stage::Finished, scheme, waited: Duration::ZERO }
    }

    pub(super) fn h2(client: H2Client, scheme: &'static str) -> Self {
        Downstream { kind: Kind::H2(client), stage: Stage::Unanswered, scheme, waited: Duration::ZERO }
    }

    /// How it reached us: `http` or `https`.
    pub(super) const fn scheme(&self) -> &'static str {
        self.scheme
    }

    /// The HTTP/1 connection, for the loop that reads the next request.
    pub(super) fn as_h1(&mut self) -> Option<&mut H1Client> {
        match &mut self.kind {
            Kind::H1(h1) => Some(h1),
            Kind::H2(_) => None,
        }
    }

    /// The HTTP/1 connection, for good.
    pub(super) fn into_h1(self) -> Option<H1Client> {
        match self.kind {
            Kind::H1(h1) => Some(h1),
            Kind::H2(_) => None,
        }
    }

    /// A new request has been read on this connection.
    pub(super) fn expect_answer(&mut self) {
        self.stage = Stage::Unanswered;
        self.waited = Duration::ZERO;
    }

    pub(super) const fn stage(&self) -> Stage {
        self.stage
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
    pub(super) fn unanswered(&mut self) -> Option<Unanswered<'_>> {
        let reset = match &mut self.kind {
            Kind::H1(_) => false,
            Kind::H2(h2) => h2.is_gone(),
        };
        (self.stage == Stage::Unanswered && !reset).then_some(Unanswered { client: self })
    }

    /// Whether interim responses may be sent at all.
    pub(super) const fn takes_interim(&self) -> bool {
        match &self.kind {
            Kind::H1(h1) => matches!(h1.version(), Version::Http11),
            Kind::H2(_) => true,
        }
    }

    pub(super) const fn is_h2(&self) -> bool {
        matches!(self.kind, Kind::H2(_))
    }

    /// The HTTP/2 library has reset the stream, because it is malformed, and counted that.
    pub(super) const fn was_malformed(&self) -> bool {
        match &self.kind {
            Kind::H1(_) => false,
            Kind::H2(h2) => h2.was_malformed(),
        }
    }

    /// The client waits for a 100 before it sends its body.
    pub(super) const fn awaits_continue(&self) -> bool {
        match &self.kind {
            Kind::H1(h1) => h1.awaits_continue(),
            Kind::H2(h2) => h2.awaits_continue(),
        }
    }

    pub(super) const fn body_is_done(&self) -> bool {
        match &self.kind {
            Kind::H1(h1) => h1.body_is_done(),
            Kind::H2(h2) => h2.body_is_done(),
        }
    }

    /// How much of the request body is still to come, where the client said it.
    pub(super) const fn body_remaining(&self) -> Option<u64> {
        match &self.kind {
            Kind::H1(h1) => h1.body_remaining(),
            Kind::H2(h2) => h2.body_remaining(),
        }
    }

    /// The next piece of the request body; `None` at its end.
    pub(super) fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, BodyFault>> {
        match &mut self.kind {
            Kind::H1(h1) => h1.poll_body(cx),
            Kind::H2(h2) => h2.poll_body(cx),
        }
    }

    /// The fields behind the request body, once it has ended. HTTP/1's are read and dropped.
    pub(super) fn take_trailers(&mut self) -> Option<HeaderMap> {
        match &mut self.kind {
            Kind::H1(_) => None,
            Kind::H2(h2) => h2.take_trailers(),
        }
    }

    /// Ready when the client has left.
    pub(super) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.kind {
            Kind::H1(h1) => h1.poll_gone(cx),
            Kind::H2(h2) => h2.poll_gone(cx),
        }
    }

    /// After this response the connection ends. HTTP/2 connections outlive their streams.
    pub(super) fn close_after(&mut self) {
        match &mut self.kind {
            Kind::H1(h1) => h1.close_after(),
            Kind::H2(_) => {}
        }
    }

    /// Queues an interim response (1xx but 101).
    pub(super) fn send_interim(&mut self, status: u16, fill: impl FnOnce(&mut FieldSink<'_>)) {
        match &mut self.kind {
            Kind::H1(h1) => h1.send_interim(status, |out| fill(&mut FieldSink::Raw(out))),
            Kind::H2(h2) => {
                let mut map = HeaderMap::new();
                fill(&mut FieldSink::Map(&mut map));
                h2.send_interim(status, map);
            }
        }
    }

    /// Queues body bytes. Says whether the head's promise allows them.
    pub(super) fn send_data(&mut self, data: &[u8]) -> bool {
        match &mut self.kind {
            Kind::H1(h1) => h1.send_data(data),
            Kind::H2(h2) => h2.send_data(data),
        }
    }

    /// Queues the fields behind the body, where the client's protocol has them; to be told before the end.
    pub(super) fn send_trailers(&mut self, trailers: HeaderMap) {
        match &mut self.kind {
            // Nobody is promised any (Trailer, TE).
            Kind::H1(_) => {}
            Kind::H2(h2) => h2.send_trailers(trailers),
        }
    }

    /// Queues the end of the body. Says whether the body is as long as the head promised.
    pub(super) fn send_end(&mut self) -> bool {
        let whole = match &mut self.kind {
            Kind::H1(h1) => h1.send_end(),
            Kind::H2(h2) => h2.send_end(),
        };
        if whole {
            self.stage = Stage::Finished;
        }
        whole
    }

    /// Ends the response so that the client sees that it is not whole.
    pub(super) fn cut(&mut self) {
        let ends = match &mut self.kind {
            Kind::H1(h1) => h1.cut(),
            Kind::H2(h2) => {
                h2.cut();
                Ends::Reset
            }
        };
        self.stage = Stage::Cut(ends);
    }

    /// The client takes nothing more, although its answer had begun.
    pub(super) fn lost(&mut self) {
        self.stage = Stage::Lost;
    }

    /// The client is there and takes nothing of the answer that had begun.
    pub(super) fn stuck(&mut self) {
        self.stage = Stage::Stuck;
    }

    /// Bytes that are queued and not written.
    pub(super) fn unsent(&self) -> usize {
        match &self.kind {
            Kind::H1(h1) => h1.unsent(),
            Kind::H2(h2) => h2.unsent(),
        }
    }

    /// How much more may be queued where each response may have `most` under way; streams share what their connection
    /// may have.
    pub(super) fn room(&self, most: usize) -> usize {
        match &self.kind {
            Kind::H1(h1) => most.saturating_sub(h1.unsent()),
            Kind::H2(h2) => h2.room(most),
        }
    }

    /// How much of a request body may be kept where each request may have `most` of its own; streams share it likewise.
    pub(super) fn may_keep(&self, most: usize) -> usize {
        match &self.kind {
            Kind::H1(_) => most,
            Kind::H2(h2) => h2.may_keep(most),
        }
    }

    /// Writes what is queued.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.kind {
            Kind::H1(h1) => h1.poll_flush(cx),
            Kind::H2(h2) => h2.poll_flush(cx),
        }
    }
}
