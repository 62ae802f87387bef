//! The upstream's side of one attempt, on HTTP/1: the request as it goes out, the response as it comes in.
//!
//! It names what the upstream does as a [`Fault`] and decides nothing: not what is retried, not what a client sees. Who
//! asks it is [`crate::proxy::upstream_conn`].

use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http::Method;
use pingora::protocols::Stream;

use super::UpstreamResponseHead;
use crate::contract::{Cause, Evidence, Fault, Phase};
use crate::http::body_decoder::{BodyDecoder, DecodeStep};
use crate::http::framing::RequestFraming;
use crate::http::response_framer::{FramerProgress, ResponseFramer};
use crate::http::response_head::{self, ResponseFraming};
use crate::proxy::buffered_stream::{BODY_BUFFER_SIZE, BufferedStream, HEADER_BUFFER_SIZE};
use crate::proxy::message::HeaderFields;
use crate::proxy::message::h1_writer;
use crate::proxy::message::request::{ForwardingInfo, Request, to_fault};
use crate::tls::cert_verification;
use crate::upstream::{Candidate, UpstreamRuntime};

/// One attempt's connection.
#[derive(Debug)]
pub(in crate::proxy) struct UpstreamH1 {
    pub(in crate::proxy) io: BufferedStream,
    candidate: Candidate,
    framer: ResponseFramer,
    body: BodyDecoder,
    keep_alive: bool,
    /// The request is written as chunks.
    request_chunked: bool,
    /// Nothing more of the request can be written.
    write_failed: bool,
    /// The whole request is in `io.output` or beyond it.
    request_complete: bool,
    /// Bytes of a response have come.
    response_started: bool,
    /// A change of protocol was offered with the request: a 101 may be the answer.
    upgrade_offered: bool,
    /// The request authenticates this connection (NTLM, Negotiate): it is closed after the response.
    binds_connection: bool,
}

impl UpstreamH1 {
    pub(in crate::proxy) fn new(stream: Stream, candidate: Candidate, framing: RequestFraming) -> Self {
        UpstreamH1 {
            io: BufferedStream::new(stream),
            candidate,
            framer: ResponseFramer::default(),
            body: BodyDecoder::response(ResponseFraming::NoBody),
            keep_alive: false,
            request_chunked: framing == RequestFraming::Chunked,
            write_failed: false,
            request_complete: !framing.has_body(),
            response_started: false,
            upgrade_offered: false,
            binds_connection: false,
        }
    }

    pub(in crate::proxy) fn queue_request_head(
        &mut self,
        request: &Request,
        forwarding_info: &ForwardingInfo<'_>,
    ) -> Result<(), Fault> {
        self.upgrade_offered = forwarding_info.offer.is_some();
        self.binds_connection = request.binds_connection;
        request.write_request_head(&mut self.io.output, forwarding_info).map_err(to_fault)
    }

    /// Whether any byte of a response has come.
    pub(in crate::proxy) const fn response_started(&self) -> bool {
        self.response_started
    }

    pub(in crate::proxy) const fn write_failed(&self) -> bool {
        self.write_failed
    }

    /// Queues a piece of the request body.
    pub(in crate::proxy) fn queue_body(&mut self, data: &[u8]) {
        if data.is_empty() {
            return;
        }
        let out = &mut self.io.output;
        if self.request_chunked {
            h1_writer::write_hex(out, data.len());
            out.extend_from_slice(b"\r\n");
            out.extend_from_slice(data);
            out.extend_from_slice(b"\r\n");
        } else {
            out.extend_from_slice(data);
        }
    }

    /// Queues the end of the request body.
    pub(in crate::proxy) fn queue_end(&mut self) {
        if self.request_chunked && !self.request_complete {
            self.io.output.extend_from_slice(b"0\r\n\r\n");
        }
        self.request_complete = true;
    }

    /// Bytes that are queued and not written.
    pub(in crate::proxy) fn unsent(&self) -> usize {
        self.io.unsent()
    }

    /// Writes what is queued. After a failure nothing more is written, but an answer may still be read.
    pub(in crate::proxy) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.write_failed {
            self.write_failed = ready!(self.io.poll_flush(cx)).is_err();
        }
        Poll::Ready(())
    }

    /// The next head: interim or final.
    pub(in crate::proxy) fn poll_response_head(
        &mut self,
        cx: &mut Context<'_>,
        method: &Method,
    ) -> Poll<Result<UpstreamResponseHead, Fault>> {
        let protocol_error = |message, bytes: &[u8]| {
            Fault::new(Cause::HttpProtocolError, Phase::ResponseHeaders)
                .with_evidence(Evidence::with_excerpt(message, bytes))
        };
        loop {
            let framed = if self.io.input.is_empty() {
                FramerProgress::NeedMore
            } else {
                self.framer.advance(&self.io.input)
            };
            match framed {
                FramerProgress::Complete(length) => {
                    let response_head = self.io.input.split_to(length).freeze();
                    self.framer = ResponseFramer::default();
                    let facts = response_head::parse(&response_head, method)
                        .map_err(|message| protocol_error(message, &response_head))?;
                    if facts.status == 101 && !self.upgrade_offered {
                        let message = "101 although no upgrade was asked for";
                        return Poll::Ready(Err(protocol_error(message, &response_head)));
                    }
                    // After a 101 the connection speaks another language.
                    self.keep_alive = facts.keep_alive && facts.status != 101;
                    self.body = BodyDecoder::response(facts.framing);
                    let reason = reason_phrase(&response_head);
                    return Poll::Ready(Ok(UpstreamResponseHead {
                        facts,
                        fields: HeaderFields::Raw(response_head),
                        reason,
                        headers_only: false,
                    }));
                }
                FramerProgress::NeedMore => {}
                FramerProgress::Malformed(message) => {
                    return Poll::Ready(Err(protocol_error(message, &self.io.input)));
                }
                FramerProgress::TooLarge => {
                    let fault = Fault::new(Cause::HttpResponseHeaderSectionSize, Phase::ResponseHeaders);
                    return Poll::Ready(Err(self.with_partial_head(fault)));
                }
            }
            match ready!(self.io.poll_fill(cx, HEADER_BUFFER_SIZE)) {
                Ok(0) => {
                    let message = if self.response_started {
                        "closed inside the head"
                    } else {
                        "closed before the head"
                    };
                    let fault = Fault::new(Cause::ConnectionTerminated, Phase::ResponseHeaders);
                    let evidence = Evidence::with_excerpt(message, &self.io.input);
                    return Poll::Ready(Err(fault.with_evidence(evidence)));
                }
                Ok(_) => self.response_started = true,
                Err(error) => {
                    // Some servers refuse a handshake only after it: for want of a client's certificate, say.
                    let is_tls_error = cert_verification::is_tls_error(&error);
                    let cause =
                        if is_tls_error { Cause::TlsProtocolError } else { Cause::ConnectionTerminated };
                    let fault = Fault::new(cause, Phase::ResponseHeaders);
                    let evidence = Evidence::with_excerpt(&error.to_string(), &self.io.input);
                    return Poll::Ready(Err(fault.with_evidence(evidence)));
                }
            }
        }
    }

    /// The same fault with what has come of a head as its evidence.
    pub(in crate::proxy) fn with_partial_head(&self, fault: Fault) -> Fault {
        fault.with_evidence(Evidence::with_excerpt("", &self.io.input))
    }

    /// So many bytes of the response body stand at the front of `io.input`; the caller takes them with
    /// [`UpstreamH1::consume`]. `None` at the end of the body. Not much more than `capacity` is read ahead.
    pub(in crate::proxy) fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
        capacity: usize,
    ) -> Poll<Result<Option<usize>, Fault>> {
        loop {
            match self.body.decode(&mut self.io.input) {
                Ok(DecodeStep::Data(length)) => return Poll::Ready(Ok(Some(length))),
                Ok(DecodeStep::End) => return Poll::Ready(Ok(None)),
                Ok(DecodeStep::NeedMore) => {}
                Err(evidence) => {
                    self.keep_alive = false;
                    let fault = Fault::new(Cause::HttpProtocolError, Phase::ResponseBody);
                    return Poll::Ready(Err(fault.with_evidence(Evidence::from_static(evidence))));
                }
            }
            match ready!(self.io.poll_fill(cx, capacity.clamp(HEADER_BUFFER_SIZE, BODY_BUFFER_SIZE))) {
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

    /// The bytes that [`UpstreamH1::poll_body`] spoke of.
    pub(in crate::proxy) fn body_bytes(&self, length: usize) -> &[u8] {
        self.io.input.get(..length).unwrap_or_default()
    }

    /// Takes them out.
    pub(in crate::proxy) fn consume(&mut self, length: usize) {
        self.io.input.advance(length.min(self.io.input.len()));
    }

    /// Back to the pool when both directions are whole and nothing is left over; else the connection is closed.
    ///
    /// Bytes after the response are another response that nobody asked for: such a connection is never used again. Nor is
    /// one that a request has authenticated: the next client would be served as that user.
    pub(in crate::proxy) fn release(self, upstream: &UpstreamRuntime) {
        let reusable = self.request_complete && !self.write_failed && self.body.is_done() && self.keep_alive;
        if !reusable || self.binds_connection {
            return;
        }
        if let Some(stream) = self.io.into_idle_stream() {
            upstream.transport().release(stream, &self.candidate);
        }
    }
}

/// The reason phrase of a head that passed the check: what follows the second blank of the status line.
fn reason_phrase(response_head: &Bytes) -> Bytes {
    let end = response_head.iter().position(|octet| *octet == b'\r').unwrap_or(0);
    if end > 13 { response_head.slice(13..end) } else { Bytes::new() }
}
