//! The upstream side of one attempt on an HTTP/1 connection: writes the request and reads the response.

use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http::Method;
use http::header::AUTHORIZATION;
use pingora::protocols::Stream;

use super::UpstreamResponseHead;
use crate::contract::{Cause, Evidence, Fault, Phase};
use crate::http::authentication;
use crate::http::body_decoder::{BodyDecoder, DecodeStep};
use crate::http::framing::RequestFraming;
use crate::http::response_framer::{FramerProgress, ResponseFramer};
use crate::http::response_head::{self, ResponseFraming};
use crate::proxy::buffered_stream::{BODY_BUFFER_SIZE, BufferedStream, HEADER_BUFFER_SIZE};
use crate::proxy::message::HeaderFields;
use crate::proxy::message::added_request_fields::ForwardingInfo;
use crate::proxy::message::h1_writer;
use crate::proxy::message::request::Request;
use crate::tls::cert_verification;
use crate::upstream::{Candidate, UpstreamRuntime};

/// The HTTP/1 connection of one attempt.
#[derive(Debug)]
pub(in crate::proxy) struct UpstreamH1 {
    pub(in crate::proxy) io: BufferedStream,
    candidate: Candidate,
    framer: ResponseFramer,
    body: BodyDecoder,
    keep_alive: bool,
    /// The request body uses the chunked transfer coding.
    request_chunked: bool,
    /// A write failed; nothing more is written.
    write_failed: bool,
    /// All of the request is queued or written.
    request_complete: bool,
    /// Any byte of a response was received.
    response_started: bool,
    /// The bytes received do not begin as an HTTP/1 response does.
    received_non_http: bool,
    /// A valid header section was received, interim or final.
    head_received: bool,
    /// How long the server keeps an idle connection, if it has announced that.
    server_timeout: Option<Duration>,
    /// The request offered a protocol upgrade, so a 101 is allowed.
    upgrade_offered: bool,
    /// This request, or an earlier one, authenticates the connection (NTLM, Negotiate). It is pinned to its client, or
    /// closed after the response; it never returns to the pool.
    connection_authenticated: bool,
}

/// A connection that can take another request.
pub(in crate::proxy) struct ReusableConnection {
    pub(in crate::proxy) stream: Stream,
    pub(in crate::proxy) candidate: Candidate,
    /// How long the server keeps it, if it has announced that.
    pub(in crate::proxy) server_timeout: Option<Duration>,
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
            received_non_http: false,
            head_received: false,
            server_timeout: None,
            upgrade_offered: false,
            connection_authenticated: false,
        }
    }

    pub(in crate::proxy) fn start_request(
        &mut self,
        request: &Request,
        forwarding_info: &ForwardingInfo<'_>,
    ) -> Result<(), Fault> {
        self.upgrade_offered = forwarding_info.upgrade_offer.is_some();
        // A route may add credentials too.
        let added = forwarding_info.added_fields();
        self.connection_authenticated |= request.authenticates_connection
            || added.iter().any(|(name, value)| {
                *name == AUTHORIZATION && authentication::authenticates_connection(value.as_bytes())
            });
        request.write_request_head(&mut self.io.output, forwarding_info);
        Ok(())
    }

    pub(in crate::proxy) const fn response_started(&self) -> bool {
        self.response_started
    }

    pub(in crate::proxy) const fn received_non_http(&self) -> bool {
        self.received_non_http
    }

    pub(in crate::proxy) const fn write_failed(&self) -> bool {
        self.write_failed
    }

    /// Queues a chunk of the request body.
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

    /// Number of bytes queued and not written.
    pub(in crate::proxy) fn unsent(&self) -> usize {
        self.io.unsent()
    }

    /// Writes the queued bytes. After a write error, a response can still be read.
    pub(in crate::proxy) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.write_failed {
            self.write_failed = ready!(self.io.poll_flush(cx)).is_err();
        }
        Poll::Ready(())
    }

    /// Reads the next header section, interim or final.
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
                    let parsed = match response_head::parse(&response_head, method) {
                        Ok(parsed) => parsed,
                        Err(message) => {
                            self.received_non_http =
                                !self.head_received && !response_head.starts_with(RESPONSE_START);
                            return Poll::Ready(Err(protocol_error(message, &response_head)));
                        }
                    };
                    if parsed.status == 101 && !self.upgrade_offered {
                        let message = "101 without an upgrade offer";
                        return Poll::Ready(Err(protocol_error(message, &response_head)));
                    }
                    // An interim response that declares a body may be followed by it: what the server sends after the
                    // final response could be the response to another request. After a 101 the connection uses another
                    // protocol.
                    let all_kept_alive = self.keep_alive || !self.head_received;
                    self.keep_alive = all_kept_alive && parsed.keep_alive && parsed.status != 101;
                    self.head_received = true;
                    self.server_timeout = parsed.keep_alive_timeout;
                    self.body = BodyDecoder::response(parsed.framing);
                    let reason = reason_phrase(&response_head);
                    return Poll::Ready(Ok(UpstreamResponseHead {
                        parsed,
                        fields: HeaderFields::Raw(response_head),
                        reason,
                        headers_only: false,
                    }));
                }
                FramerProgress::NeedMore => {}
                FramerProgress::Malformed(message) => {
                    self.received_non_http =
                        !self.head_received && !self.io.input.starts_with(RESPONSE_START);
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
                        "connection closed before the end of the response headers"
                    } else {
                        "connection closed before the response headers"
                    };
                    let fault = Fault::new(Cause::ConnectionTerminated, Phase::ResponseHeaders);
                    let evidence = Evidence::with_excerpt(message, &self.io.input);
                    return Poll::Ready(Err(fault.with_evidence(evidence)));
                }
                Ok(_) => self.response_started = true,
                Err(error) => {
                    // With TLS 1.3 a server can reject the handshake late, for example if it requires a client
                    // certificate.
                    let is_tls_error = cert_verification::is_tls_error(&error);
                    let cause =
                        if is_tls_error { Cause::TlsProtocolError } else { Cause::ConnectionTerminated };
                    let fault = Fault::new(cause, Phase::ResponseHeaders);
                    let evidence =
                        Evidence::with_excerpt(&cert_verification::describe_io_error(&error), &self.io.input);
                    return Poll::Ready(Err(fault.with_evidence(evidence)));
                }
            }
        }
    }

    /// Adds the received part of the header section to the fault as evidence.
    pub(in crate::proxy) fn with_partial_head(&self, fault: Fault) -> Fault {
        fault.with_evidence(Evidence::with_excerpt("", &self.io.input))
    }

    /// Returns how many body bytes are at the front of `io.input`; [`UpstreamH1::consume`] removes them. `None` at the
    /// end of the body. Reads about `capacity` bytes ahead.
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
                    let fault = Fault::new(Cause::HttpProtocolError, Phase::Relay);
                    return Poll::Ready(Err(fault.with_evidence(Evidence::from_static(evidence))));
                }
            }
            match ready!(self.io.poll_fill(cx, capacity.clamp(HEADER_BUFFER_SIZE, BODY_BUFFER_SIZE))) {
                Ok(0) => {
                    self.keep_alive = false;
                    if self.body.finish_on_close() {
                        return Poll::Ready(Ok(None));
                    }
                    let fault = Fault::new(Cause::HttpResponseIncomplete, Phase::Relay);
                    return Poll::Ready(Err(fault.with_evidence(Evidence::from_static(
                        "connection closed before the end of the response body",
                    ))));
                }
                Ok(_) => {}
                Err(error) => {
                    self.keep_alive = false;
                    let fault = Fault::new(Cause::HttpResponseIncomplete, Phase::Relay);
                    let evidence = Evidence::owned(cert_verification::describe_io_error(&error));
                    return Poll::Ready(Err(fault.with_evidence(evidence)));
                }
            }
        }
    }

    /// The bytes reported by [`UpstreamH1::poll_body`].
    pub(in crate::proxy) fn body_bytes(&self, length: usize) -> &[u8] {
        self.io.input.get(..length).unwrap_or_default()
    }

    /// Removes bytes from the front of the body buffer.
    pub(in crate::proxy) fn consume(&mut self, length: usize) {
        self.io.input.advance(length.min(self.io.input.len()));
    }

    /// Returns the connection to the pool if it can take another request; closes it otherwise. A connection that a
    /// request has authenticated would give the next client that user's access.
    pub(in crate::proxy) fn release(self, upstream: &UpstreamRuntime) {
        if self.connection_authenticated {
            return;
        }
        if let Some(idle) = self.into_reusable() {
            upstream.transport().release(idle.stream, &idle.candidate, idle.server_timeout);
        }
    }

    /// Whether a request has authenticated the connection: it may serve only the same client.
    pub(in crate::proxy) const fn is_connection_authenticated(&self) -> bool {
        self.connection_authenticated
    }

    /// The connection, if the request and the response are complete and no input is left: bytes after the response
    /// could be read as the response to the next request (response smuggling).
    pub(in crate::proxy) fn into_reusable(self) -> Option<ReusableConnection> {
        let reusable = self.request_complete && !self.write_failed && self.body.is_done() && self.keep_alive;
        let stream = if reusable { self.io.into_idle_stream() } else { None }?;
        Some(ReusableConnection { stream, candidate: self.candidate, server_timeout: self.server_timeout })
    }

    /// Marks a connection that earlier requests of the client have authenticated.
    pub(in crate::proxy) fn set_connection_authenticated(&mut self) {
        self.connection_authenticated = true;
    }
}

/// How every HTTP/1 response begins.
const RESPONSE_START: &[u8] = b"HTTP/1.";

/// The reason phrase of a valid status line, which starts after `HTTP/1.1 200 `.
fn reason_phrase(response_head: &Bytes) -> Bytes {
    let end = response_head.iter().position(|octet| *octet == b'\r').unwrap_or(0);
    if end > 13 { response_head.slice(13..end) } else { Bytes::new() }
}
