//! The upstream's side of one attempt, on HTTP/1: the request as it goes out, the response as it comes in.
//!
//! It names what the upstream does as a [`Fault`] and decides nothing: not what is retried, not what a client sees. Who
//! asks it is [`super::peer`].

use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http::Method;
use pingora::protocols::Stream;

use super::fields;
use super::head::Fields;
use super::peer::UpstreamHead;
use super::request::{Request, Told, refused};
use super::wire::{BODY_ROOM, HEAD_ROOM, Wire};
use crate::contract::{Cause, Evidence, Fault, Phase};
use crate::protocol::body::{BodyDecoder, DecodeStep};
use crate::protocol::framing::RequestFraming;
use crate::protocol::response_head::{self, ResponseFraming};
use crate::protocol::response_scan::{FramerProgress, ResponseFramer};
use crate::tls::trust;
use crate::upstream::{Candidate, UpstreamRuntime};

/// One attempt's connection.
#[derive(Debug)]
pub(super) struct H1Peer {
    pub(super) wire: Wire,
    candidate: Candidate,
    scan: ResponseFramer,
    body: BodyDecoder,
    keep_alive: bool,
    /// The request is written as chunks.
    chunked: bool,
    /// Nothing more of the request can be written.
    write_failed: bool,
    /// The whole request is in `wire.output` or beyond it.
    request_whole: bool,
    /// Bytes of a response have come.
    answered: bool,
    /// A change of protocol was offered with the request: a 101 may be the answer.
    offered: bool,
    /// The request authenticates this connection (NTLM, Negotiate): it is closed after the response.
    binds_connection: bool,
}

impl H1Peer {
    pub(super) fn new(stream: Stream, candidate: Candidate, framing: RequestFraming) -> Self {
        H1Peer {
            wire: Wire::new(stream),
            candidate,
            scan: ResponseFramer::default(),
            body: BodyDecoder::response(ResponseFraming::NoBody),
            keep_alive: false,
            chunked: framing == RequestFraming::Chunked,
            write_failed: false,
            request_whole: !framing.has_body(),
            answered: false,
            offered: false,
            binds_connection: false,
        }
    }

    pub(super) fn queue_head(&mut self, request: &Request, told: &Told<'_>) -> Result<(), Fault> {
        self.offered = told.offer.is_some();
        self.binds_connection = request.binds_connection;
        request.write_head(&mut self.wire.output, told).map_err(refused)
    }

    /// Whether any byte of a response has come.
    pub(super) const fn has_answered(&self) -> bool {
        self.answered
    }

    pub(super) const fn write_has_failed(&self) -> bool {
        self.write_failed
    }

    /// Queues a piece of the request body.
    pub(super) fn queue_body(&mut self, data: &[u8]) {
        if data.is_empty() {
            return;
        }
        let out = &mut self.wire.output;
        if self.chunked {
            fields::hexadecimal(out, data.len());
            out.extend_from_slice(b"\r\n");
            out.extend_from_slice(data);
            out.extend_from_slice(b"\r\n");
        } else {
            out.extend_from_slice(data);
        }
    }

    /// Queues the end of the request body.
    pub(super) fn queue_end(&mut self) {
        if self.chunked && !self.request_whole {
            self.wire.output.extend_from_slice(b"0\r\n\r\n");
        }
        self.request_whole = true;
    }

    /// Bytes that are queued and not written.
    pub(super) fn unsent(&self) -> usize {
        self.wire.unsent()
    }

    /// Writes what is queued. After a failure nothing more is written, but an answer may still be read.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.write_failed {
            self.write_failed = ready!(self.wire.poll_flush(cx)).is_err();
        }
        Poll::Ready(())
    }

    /// The next head: interim or final.
    pub(super) fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        method: &Method,
    ) -> Poll<Result<UpstreamHead, Fault>> {
        let protocol_error = |sentence, said: &[u8]| {
            Fault::new(Cause::HttpProtocolError, Phase::ResponseHeaders)
                .with_evidence(Evidence::with_excerpt(sentence, said))
        };
        loop {
            let scanned = if self.wire.input.is_empty() {
                FramerProgress::NeedMore
            } else {
                self.scan.advance(&self.wire.input)
            };
            match scanned {
                FramerProgress::Complete(length) => {
                    let head = self.wire.input.split_to(length).freeze();
                    self.scan = ResponseFramer::default();
                    let facts = response_head::parse(&head, method)
                        .map_err(|sentence| protocol_error(sentence, &head))?;
                    if facts.status == 101 && !self.offered {
                        let sentence = "101 although no upgrade was asked for";
                        return Poll::Ready(Err(protocol_error(sentence, &head)));
                    }
                    // After a 101 the connection speaks another language.
                    self.keep_alive = facts.keep_alive && facts.status != 101;
                    self.body = BodyDecoder::response(facts.framing);
                    let reason = reason(&head);
                    return Poll::Ready(Ok(UpstreamHead {
                        facts,
                        fields: Fields::Raw(head),
                        reason,
                        ends: false,
                    }));
                }
                FramerProgress::NeedMore => {}
                FramerProgress::Malformed(sentence) => {
                    return Poll::Ready(Err(protocol_error(sentence, &self.wire.input)));
                }
                FramerProgress::TooLarge => {
                    let fault = Fault::new(Cause::HttpResponseHeaderSectionSize, Phase::ResponseHeaders);
                    return Poll::Ready(Err(self.begun(fault)));
                }
            }
            match ready!(self.wire.poll_fill(cx, HEAD_ROOM)) {
                Ok(0) => {
                    let sentence =
                        if self.answered { "closed inside the head" } else { "closed before the head" };
                    let fault = Fault::new(Cause::ConnectionTerminated, Phase::ResponseHeaders);
                    let evidence = Evidence::with_excerpt(sentence, &self.wire.input);
                    return Poll::Ready(Err(fault.with_evidence(evidence)));
                }
                Ok(_) => self.answered = true,
                Err(error) => {
                    // Some servers refuse a handshake only after it: for want of a client's certificate, say.
                    let broken = trust::is_tls_error(&error);
                    let cause = if broken { Cause::TlsProtocolError } else { Cause::ConnectionTerminated };
                    let fault = Fault::new(cause, Phase::ResponseHeaders);
                    let evidence = Evidence::with_excerpt(&error.to_string(), &self.wire.input);
                    return Poll::Ready(Err(fault.with_evidence(evidence)));
                }
            }
        }
    }

    /// The same fault with what has come of a head as its evidence.
    pub(super) fn begun(&self, fault: Fault) -> Fault {
        fault.with_evidence(Evidence::with_excerpt("", &self.wire.input))
    }

    /// So many bytes of the response body stand at the front of `wire.input`; the caller takes them with
    /// [`H1Peer::take`]. `None` at the end of the body. Not much more than `room` is read ahead.
    pub(super) fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
        room: usize,
    ) -> Poll<Result<Option<usize>, Fault>> {
        loop {
            match self.body.decode(&mut self.wire.input) {
                Ok(DecodeStep::Data(length)) => return Poll::Ready(Ok(Some(length))),
                Ok(DecodeStep::End) => return Poll::Ready(Ok(None)),
                Ok(DecodeStep::NeedMore) => {}
                Err(evidence) => {
                    self.keep_alive = false;
                    let fault = Fault::new(Cause::HttpProtocolError, Phase::ResponseBody);
                    return Poll::Ready(Err(fault.with_evidence(Evidence::from_static(evidence))));
                }
            }
            match ready!(self.wire.poll_fill(cx, room.clamp(HEAD_ROOM, BODY_ROOM))) {
                Ok(0) => {
                    self.keep_alive = false;
                    if self.body.finish_on_close() {
                        return Poll::Ready(Ok(None));
                    }
                    let fault = Fault::new(Cause::HttpResponseIncomplete, Phase::ResponseBody);
                    return Poll::Ready(Err(
                        fault.with_evidence(Evidence::from_static("closed inside the body"))
                    ));
                }
                Ok(_) => {}
                Err(error) => {
                    self.keep_alive = false;
                    let fault = Fault::new(Cause::HttpResponseIncomplete, Phase::ResponseBody);
                    return Poll::Ready(Err(fault.with_evidence(Evidence::owned(error.to_string()))));
                }
            }
        }
    }

    /// The bytes that [`H1Peer::poll_body`] spoke of.
    pub(super) fn body_bytes(&self, length: usize) -> &[u8] {
        self.wire.input.get(..length).unwrap_or_default()
    }

    /// Takes them out.
    pub(super) fn take(&mut self, length: usize) {
        self.wire.input.advance(length.min(self.wire.input.len()));
    }

    /// Back to the pool when both directions are whole and nothing is left over; else the connection is closed.
    ///
    /// Bytes after the response are another response that nobody asked for: such a connection is never used again. Nor is
    /// one that a request has authenticated: the next client would be served as that user.
    pub(super) fn release(self, upstream: &UpstreamRuntime) {
        let whole = self.request_whole && !self.write_failed && self.body.is_done() && self.keep_alive;
        if !whole || self.binds_connection {
            return;
        }
        if let Some(stream) = self.wire.into_stream() {
            upstream.transport().release(stream, &self.candidate);
        }
    }
}

/// The reason phrase of a head that passed the check: what follows the second blank of the status line.
fn reason(head: &Bytes) -> Bytes {
    let end = head.iter().position(|octet| *octet == b'\r').unwrap_or(0);
    if end > 13 { head.slice(13..end) } else { Bytes::new() }
}
