//! The upstream side of one attempt: an HTTP/1 connection ([`h1`]) or an HTTP/2 stream ([`h2`]).
//!
//! Failures are reported as a [`Fault`]. The callers decide whether to retry and what the client gets.

pub(super) mod h1;
pub(super) mod h2;

use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, Method};
use pingora::protocols::Stream;

use self::h1::UpstreamH1;
use self::h2::UpstreamH2;
use super::by_protocol::by_protocol;
use super::message::HeaderFields;
use super::message::added_request_fields::ForwardingInfo;
use super::message::request::Request;
use crate::contract::{Cause, Evidence, Fault, Phase};
use crate::http::framing::RequestFraming;
use crate::http::hop_by_hop::ConnectionOptions;
use crate::http::request_head::Version;
use crate::http::response_head::ResponseHead;
use crate::http::upgrade::UpgradeOffer;
use crate::upstream::http2::StreamSlot;
use crate::upstream::{Candidate, UpstreamRuntime};

/// The status line and header section of a valid upstream response.
#[derive(Debug)]
pub(super) struct UpstreamResponseHead {
    pub(super) parsed: ResponseHead,
    pub(super) fields: HeaderFields,
    /// The bytes of the reason phrase.
    pub(super) reason: Bytes,
    /// HTTP/2 only: HEADERS had END_STREAM and no Content-Length, as in a gRPC Trailers-Only response.
    pub(super) headers_only: bool,
}

impl UpstreamResponseHead {
    /// Whether this is an interim response (1xx except 101), after which another response follows.
    pub(super) const fn is_interim(&self) -> bool {
        matches!(self.parsed.status, 100..=199) && !self.is_switching_protocols()
    }

    /// Whether this is a 101, after which the connection switches to another protocol.
    pub(super) const fn is_switching_protocols(&self) -> bool {
        self.parsed.status == 101
    }

    /// The options listed in the Connection field.
    pub(super) fn connection_options(&self) -> ConnectionOptions<'_> {
        if !self.parsed.has_connection_options {
            return ConnectionOptions::default();
        }
        ConnectionOptions::from_values(self.fields.values("connection"))
    }

    /// The values of a field that reaches the client: none if `Connection` names it. Errors are judged by these.
    pub(super) fn end_to_end_values(&self, name: &'static str) -> impl Iterator<Item = &[u8]> {
        let is_removed = self.connection_options().removes_name(name.as_bytes());
        self.fields.values(name).filter(move |_| !is_removed)
    }

    /// The protocol that a 101 selected.
    ///
    /// # Errors
    /// `http_upgrade_failed`: the 101 does not match the offer.
    pub(super) fn negotiated_protocol(&self, offer: &UpgradeOffer<'_>) -> Result<&[u8], Fault> {
        let values = |name| self.fields.values(name);
        let protocol = if self.parsed.version != Version::Http11 {
            Err("101 on HTTP/1.0")
        } else {
            offer.verify_switch(values("connection"), values("upgrade"), values("sec-websocket-accept"))
        };
        protocol.map_err(|message| {
            let evidence = match &self.fields {
                HeaderFields::Raw(head) => Evidence::with_excerpt(message, head),
                HeaderFields::Map(_) => Evidence::from_static(message),
            };
            Fault::new(Cause::HttpUpgradeFailed, Phase::ResponseHeaders).with_evidence(evidence)
        })
    }
}

/// The header section of a final response, and the connection to read its body from.
#[derive(Debug)]
pub(super) struct UpstreamResponse {
    pub(super) conn: UpstreamConn,
    pub(super) response_head: UpstreamResponseHead,
}

/// The connection or stream of one attempt.
// The HTTP/1 variant is larger and more common: boxing it would cost one allocation per request.
#[derive(Debug)]
pub(super) enum UpstreamConn {
    H1(UpstreamH1),
    H2(Box<UpstreamH2>),
}

impl UpstreamConn {
    pub(super) fn h1(stream: Stream, candidate: Candidate, framing: RequestFraming) -> Self {
        UpstreamConn::H1(UpstreamH1::new(stream, candidate, framing))
    }

    /// An HTTP/1 connection that is pinned to the client: see [`super::pinned`].
    pub(super) fn pinned(stream: Stream, candidate: Candidate, framing: RequestFraming) -> Self {
        let mut h1 = UpstreamH1::new(stream, candidate, framing);
        h1.set_connection_authenticated();
        UpstreamConn::H1(h1)
    }

    pub(super) fn h2(slot: StreamSlot, framing: RequestFraming) -> Self {
        UpstreamConn::H2(Box::new(UpstreamH2::new(slot, framing)))
    }

    /// Starts the request: queues its request line and header section (HTTP/1), or opens the stream with HEADERS
    /// (HTTP/2).
    ///
    /// # Errors
    /// The upstream's protocol cannot represent the request, or the connection accepts no further request.
    pub(super) fn start_request(
        &mut self,
        request: &Request,
        forwarding_info: &ForwardingInfo<'_>,
    ) -> Result<(), Fault> {
        by_protocol!(UpstreamConn, self, side => side.start_request(request, forwarding_info))
    }

    /// Whether any byte of a response was received.
    pub(super) const fn response_started(&self) -> bool {
        by_protocol!(UpstreamConn, self, side => side.response_started())
    }

    /// Whether the bytes received do not begin as an HTTP/1 response does.
    pub(super) const fn received_non_http(&self) -> bool {
        match self {
            UpstreamConn::H1(h1) => h1.received_non_http(),
            UpstreamConn::H2(_) => false,
        }
    }

    /// Whether the upstream has reported that it did not process the request (RFC 9113 8.7).
    pub(super) const fn is_unprocessed(&self) -> bool {
        match self {
            UpstreamConn::H1(_) => false,
            UpstreamConn::H2(h2) => h2.is_unprocessed(),
        }
    }

    /// Whether the upstream has refused the request with HTTP_1_1_REQUIRED.
    pub(super) const fn requires_http1(&self) -> bool {
        match self {
            UpstreamConn::H1(_) => false,
            UpstreamConn::H2(h2) => h2.requires_http1(),
        }
    }

    /// Whether the upstream ended the request's stream and left the connection open: the server responded, so the
    /// connection is not stale.
    pub(super) const fn stream_was_reset(&self) -> bool {
        match self {
            UpstreamConn::H1(_) => false,
            UpstreamConn::H2(h2) => h2.was_reset(),
        }
    }

    pub(super) const fn write_failed(&self) -> bool {
        by_protocol!(UpstreamConn, self, side => side.write_failed())
    }

    /// Whether the complete request was passed to the HTTP/2 connection, whose task may have written it already.
    pub(super) fn has_sent_request(&self) -> bool {
        match self {
            // Nothing is written before `poll_flush`.
            UpstreamConn::H1(_) => false,
            UpstreamConn::H2(h2) => h2.has_sent_request(),
        }
    }

    /// Queues a chunk of the request body.
    pub(super) fn queue_body(&mut self, data: &[u8]) {
        by_protocol!(UpstreamConn, self, side => side.queue_body(data))
    }

    /// Queues request trailers; must be called before [`UpstreamConn::queue_end`]. HTTP/1 requests have no trailers.
    pub(super) fn queue_trailers(&mut self, trailers: HeaderMap) {
        match self {
            // The request has no Trailer field, which would announce them.
            UpstreamConn::H1(_) => {}
            UpstreamConn::H2(h2) => h2.queue_trailers(trailers),
        }
    }

    /// Queues the end of the request body.
    pub(super) fn queue_end(&mut self) {
        by_protocol!(UpstreamConn, self, side => side.queue_end())
    }

    /// Whether trailers may follow a header section that declares an empty body.
    pub(super) const fn expects_trailers(&self) -> bool {
        match self {
            UpstreamConn::H1(_) => false,
            UpstreamConn::H2(h2) => h2.expects_trailers(),
        }
    }

    /// Takes a response whose header section declares an empty body as complete: the client cannot receive trailers.
    pub(super) fn ignore_trailers(&mut self) {
        match self {
            UpstreamConn::H1(_) => {}
            UpstreamConn::H2(h2) => h2.ignore_trailers(),
        }
    }

    /// Number of bytes queued and not written.
    pub(super) fn unsent(&self) -> usize {
        by_protocol!(UpstreamConn, self, side => side.unsent())
    }

    /// Writes the queued bytes. After a write error, a response can still be read.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        by_protocol!(UpstreamConn, self, side => side.poll_flush(cx))
    }

    /// Frees the empty output buffer.
    pub(super) fn free_output(&mut self) {
        match self {
            UpstreamConn::H1(h1) => h1.io.free_output(),
            UpstreamConn::H2(h2) => h2.free_output(),
        }
    }

    /// Reads the next header section, interim or final.
    pub(super) fn poll_response_head(
        &mut self,
        cx: &mut Context<'_>,
        method: &Method,
    ) -> Poll<Result<UpstreamResponseHead, Fault>> {
        by_protocol!(UpstreamConn, self, side => side.poll_response_head(cx, method))
    }

    /// Adds the received part of the header section to the fault as evidence.
    pub(super) fn with_partial_head(&self, fault: Fault) -> Fault {
        match self {
            UpstreamConn::H1(h1) => h1.with_partial_head(fault),
            UpstreamConn::H2(_) => fault,
        }
    }

    /// To be called after a timeout: the HTTP/2 connection must acknowledge a PING before it gets another request. Has
    /// no effect if the client was too slow, because that says nothing about the upstream.
    pub(super) fn on_timeout(&self, fault: &Fault) {
        match self {
            // An HTTP/1 connection is not reused after a timeout.
            UpstreamConn::H1(_) => {}
            UpstreamConn::H2(_) if fault.cause() == Cause::ClientTooSlow => {}
            UpstreamConn::H2(h2) => h2.on_timeout(),
        }
    }

    /// Returns how many body bytes [`UpstreamConn::body_bytes`] can return; [`UpstreamConn::consume`] removes them.
    /// `None` at the end of the body. `capacity` limits how much is read ahead on HTTP/1; HTTP/2 has flow control.
    pub(super) fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
        capacity: usize,
    ) -> Poll<Result<Option<usize>, Fault>> {
        match self {
            UpstreamConn::H1(h1) => h1.poll_body(cx, capacity),
            UpstreamConn::H2(h2) => h2.poll_body(cx),
        }
    }

    /// The bytes reported by [`UpstreamConn::poll_body`].
    pub(super) fn body_bytes(&self, length: usize) -> &[u8] {
        by_protocol!(UpstreamConn, self, side => side.body_bytes(length))
    }

    /// Removes bytes from the front of the body buffer.
    pub(super) fn consume(&mut self, length: usize) {
        by_protocol!(UpstreamConn, self, side => side.consume(length))
    }

    /// The response trailers, once the body has ended. None on HTTP/1, because the request sent no `TE: trailers`.
    pub(super) fn take_trailers(&mut self) -> Option<HeaderMap> {
        match self {
            UpstreamConn::H1(_) => None,
            UpstreamConn::H2(h2) => h2.take_trailers(),
        }
    }

    /// Whether a request has authenticated the connection (NTLM, Negotiate).
    pub(super) const fn is_connection_authenticated(&self) -> bool {
        match self {
            UpstreamConn::H1(h1) => h1.is_connection_authenticated(),
            UpstreamConn::H2(_) => false,
        }
    }

    /// The HTTP/1 connection, to tunnel through it after a 101 or to keep it for its client.
    pub(super) fn into_h1(self) -> Option<UpstreamH1> {
        match self {
            UpstreamConn::H1(h1) => Some(h1),
            UpstreamConn::H2(_) => None,
        }
    }

    /// Returns a reusable connection to the pool. An unfinished HTTP/2 stream is reset.
    pub(super) fn release(self, upstream: &UpstreamRuntime) {
        match self {
            UpstreamConn::H1(h1) => h1.release(upstream),
            UpstreamConn::H2(h2) => drop(h2),
        }
    }
}
