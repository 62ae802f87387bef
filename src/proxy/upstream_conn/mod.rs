//! The upstream's side of one attempt, on HTTP/1 or HTTP/2 alike.
//!
//! It names what the upstream does as a [`Fault`] and decides nothing: not what is retried, not what a client sees. How
//! it is said is told in [`super::upstream_conn::h1`] and [`super::upstream_conn::h2`].

pub(super) mod h1;
pub(super) mod h2;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, Method};
use pingora::protocols::Stream;

use super::message::HeaderFields;
use super::message::request::{ForwardingInfo, Request};
use super::upstream_conn::h1::UpstreamH1;
use super::upstream_conn::h2::UpstreamH2;
use crate::contract::{Cause, Evidence, Fault, Phase};
use crate::http::framing::RequestFraming;
use crate::http::hop_by_hop::ConnectionOptions;
use crate::http::request_head::Version;
use crate::http::response_head::ResponseHead;
use crate::http::upgrade::UpgradeOffer;
use crate::upstream::http2::StreamSlot;
use crate::upstream::{Candidate, UpstreamRuntime};

/// A response head that was read and found good.
#[derive(Debug)]
pub(super) struct UpstreamResponseHead {
    pub(super) facts: ResponseHead,
    pub(super) fields: HeaderFields,
    /// The bytes of the reason phrase.
    pub(super) reason: Bytes,
    /// The head is all there is: nothing follows, and no length was said.
    pub(super) headers_only: bool,
}

impl UpstreamResponseHead {
    /// 1xx but 101: more heads follow.
    pub(super) const fn is_interim(&self) -> bool {
        matches!(self.facts.status, 100..=199) && !self.is_switching_protocols()
    }

    /// 101: no head follows any more.
    pub(super) const fn is_switching_protocols(&self) -> bool {
        self.facts.status == 101
    }

    /// The fields that its `Connection` names. More than any real server names: then none, and only the fixed ones stay back.
    pub(super) fn connection_options(&self) -> ConnectionOptions<'_> {
        if !self.facts.names_connection_fields {
            return ConnectionOptions::default();
        }
        ConnectionOptions::from_values(self.fields.values("connection")).unwrap_or_default()
    }

    /// The protocol that both sides have agreed on, of a head that switches.
    ///
    /// # Errors
    /// `http_upgrade_failed`: they have not.
    pub(super) fn negotiated_protocol(&self, offer: &UpgradeOffer<'_>) -> Result<&[u8], Fault> {
        let values = |name| self.fields.values(name);
        let has_body = self.facts.content_length.is_some_and(|length| length > 0)
            || values("transfer-encoding").next().is_some();
        let protocol = if has_body || self.facts.version != Version::Http11 {
            Err("a 101 with a body, or on HTTP/1.0")
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

/// One attempt's connection, or its stream on one.
// The HTTP/1 peer is the larger one and the common one: a box would cost an allocation a request.
#[derive(Debug)]
pub(super) enum UpstreamConn {
    H1(UpstreamH1),
    H2(Box<UpstreamH2>),
}

impl UpstreamConn {
    pub(super) fn h1(stream: Stream, candidate: Candidate, framing: RequestFraming) -> Self {
        UpstreamConn::H1(UpstreamH1::new(stream, candidate, framing))
    }

    pub(super) fn h2(slot: StreamSlot, framing: RequestFraming) -> Self {
        UpstreamConn::H2(Box::new(UpstreamH2::new(slot, framing)))
    }

    /// Queues the request's head.
    ///
    /// # Errors
    /// It cannot be said, or the connection takes no request any more.
    pub(super) fn queue_request_head(
        &mut self,
        request: &Request,
        forwarding_info: &ForwardingInfo<'_>,
    ) -> Result<(), Fault> {
        match self {
            UpstreamConn::H1(h1) => h1.queue_request_head(request, forwarding_info),
            UpstreamConn::H2(h2) => h2.queue_request_head(request, forwarding_info),
        }
    }

    /// Whether anything of a response has come.
    pub(super) const fn response_started(&self) -> bool {
        match self {
            UpstreamConn::H1(h1) => h1.response_started(),
            UpstreamConn::H2(h2) => h2.response_started(),
        }
    }

    /// The upstream has said that it did not look at the request and never will.
    pub(super) const fn is_unprocessed(&self) -> bool {
        match self {
            UpstreamConn::H1(_) => false,
            UpstreamConn::H2(h2) => h2.is_unprocessed(),
        }
    }

    pub(super) const fn write_failed(&self) -> bool {
        match self {
            UpstreamConn::H1(h1) => h1.write_failed(),
            UpstreamConn::H2(h2) => h2.write_failed(),
        }
    }

    /// Nothing of the request is left to be written: HTTP/2 writes the header section behind our back.
    pub(super) fn has_sent_request(&self) -> bool {
        match self {
            // What is queued is written by `poll_flush`, and not before.
            UpstreamConn::H1(_) => false,
            UpstreamConn::H2(h2) => h2.has_sent_request(),
        }
    }

    /// Queues a piece of the request body.
    pub(super) fn queue_body(&mut self, data: &[u8]) {
        match self {
            UpstreamConn::H1(h1) => h1.queue_body(data),
            UpstreamConn::H2(h2) => h2.queue_body(data),
        }
    }

    /// Queues the fields behind the request body, where the upstream's protocol has them; to be told before the end.
    pub(super) fn queue_trailers(&mut self, trailers: HeaderMap) {
        match self {
            // It was promised none (Trailer).
            UpstreamConn::H1(_) => {}
            UpstreamConn::H2(h2) => h2.queue_trailers(trailers),
        }
    }

    /// Queues the end of the request body.
    pub(super) fn queue_end(&mut self) {
        match self {
            UpstreamConn::H1(h1) => h1.queue_end(),
            UpstreamConn::H2(h2) => h2.queue_end(),
        }
    }

    /// Bytes that are queued and not written.
    pub(super) fn unsent(&self) -> usize {
        match self {
            UpstreamConn::H1(h1) => h1.unsent(),
            UpstreamConn::H2(h2) => h2.unsent(),
        }
    }

    /// Writes what is queued. After a failure nothing more is written, but an answer may still be read.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            UpstreamConn::H1(h1) => h1.poll_flush(cx),
            UpstreamConn::H2(h2) => h2.poll_flush(cx),
        }
    }

    /// There is nothing more to send for now: what was sent takes no memory any more.
    pub(super) fn free_output(&mut self) {
        match self {
            UpstreamConn::H1(h1) => h1.io.free_output(),
            UpstreamConn::H2(h2) => h2.free_output(),
        }
    }

    /// The next head: interim or final.
    pub(super) fn poll_response_head(
        &mut self,
        cx: &mut Context<'_>,
        method: &Method,
    ) -> Poll<Result<UpstreamResponseHead, Fault>> {
        match self {
            UpstreamConn::H1(h1) => h1.poll_response_head(cx, method),
            UpstreamConn::H2(h2) => h2.poll_response_head(cx, method),
        }
    }

    /// The same fault with what has come of a head as its evidence.
    pub(super) fn with_partial_head(&self, fault: Fault) -> Fault {
        match self {
            UpstreamConn::H1(h1) => h1.with_partial_head(fault),
            UpstreamConn::H2(_) => fault,
        }
    }

    /// A limit of time has struck. A client's own slowness tells nothing of the upstream.
    pub(super) fn probe(&self, fault: &Fault) {
        match self {
            // Its connection is not used again anyway.
            UpstreamConn::H1(_) => {}
            UpstreamConn::H2(_) if fault.cause() == Cause::ClientTooSlow => {}
            UpstreamConn::H2(h2) => h2.probe(),
        }
    }

    /// So many bytes of the response body are there; see [`UpstreamConn::body_bytes`], and take them with [`UpstreamConn::consume`].
    /// `None` at the end of the body. `capacity` is what the client has place for; HTTP/2 is held back by its windows.
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

    /// The bytes that [`UpstreamConn::poll_body`] spoke of.
    pub(super) fn body_bytes(&self, length: usize) -> &[u8] {
        match self {
            UpstreamConn::H1(h1) => h1.body_bytes(length),
            UpstreamConn::H2(h2) => h2.body_bytes(length),
        }
    }

    /// Takes them out.
    pub(super) fn consume(&mut self, length: usize) {
        match self {
            UpstreamConn::H1(h1) => h1.consume(length),
            UpstreamConn::H2(h2) => h2.consume(length),
        }
    }

    /// The fields behind the body, once it has ended. HTTP/1 has none here: nobody asked for them (TE).
    pub(super) fn take_trailers(&mut self) -> Option<HeaderMap> {
        match self {
            UpstreamConn::H1(_) => None,
            UpstreamConn::H2(h2) => h2.take_trailers(),
        }
    }

    /// The connection, after a 101. An HTTP/2 stream never switches.
    pub(super) fn into_h1(self) -> Option<UpstreamH1> {
        match self {
            UpstreamConn::H1(h1) => Some(h1),
            UpstreamConn::H2(_) => None,
        }
    }

    /// Gives the connection back, as far as it can serve again. A stream that is not over is reset.
    pub(super) fn release(self, upstream: &UpstreamRuntime) {
        match self {
            UpstreamConn::H1(h1) => h1.release(upstream),
            UpstreamConn::H2(h2) => drop(h2),
        }
    }
}
