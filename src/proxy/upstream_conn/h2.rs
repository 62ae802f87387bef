//! The upstream side of one attempt on an HTTP/2 stream.
//!
//! Errors of the `h2` crate become the same [`Fault`]s as the equivalent HTTP/1 failures. [`crate::upstream::http2`]
//! holds the shared connections.
#![expect(clippy::disallowed_methods, reason = "these frames go to an upstream, not to a client")]

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use h2::client::ResponseFuture;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Method, Response};

use super::UpstreamResponseHead;
use crate::contract::{Cause, Evidence, Fault, Phase};
use crate::http::framing::{self, RequestFraming};
use crate::http::media_type;
use crate::http::response_head::{ResponseFraming, ResponseHead, Version};
use crate::proxy::message::HeaderFields;
use crate::proxy::message::added_request_fields::ForwardingInfo;
use crate::proxy::message::request::{Request, header_list_size, rejection_to_fault};
use crate::proxy::message::request_h2;
use crate::upstream::http2::StreamSlot;

/// Largest header list of a response, as defined by RFC 9113 6.5.2.
const MAX_HEADER_LIST: usize = 64 * 1024;

/// A write failed. Reading the response gives the reason, if the upstream sent one.
struct WriteFailed;

impl From<h2::Error> for WriteFailed {
    fn from(_: h2::Error) -> Self {
        WriteFailed
    }
}

/// The HTTP/2 stream of one attempt.
pub(in crate::proxy) struct UpstreamH2 {
    response: Option<ResponseFuture>,
    send: Option<SendStream<Bytes>>,
    body: Option<RecvStream>,
    stream_id: u32,
    /// The part of the current response body chunk that the caller has not consumed.
    chunk: Bytes,
    body_done: bool,
    /// The header section declares an empty body and has not ended the stream: only trailers may follow.
    only_trailers: bool,
    response_trailers: Option<HeaderMap>,
    /// Request bytes that wait for flow control.
    output: BytesMut,
    /// The end of the body is queued and not written.
    end_pending: bool,
    request_trailers: Option<HeaderMap>,
    request_complete: bool,
    write_failed: bool,
    response_started: bool,
    unprocessed: bool,
    /// The upstream requires HTTP/1.1 for the request.
    requires_http1: bool,
    /// The upstream reset the stream; the connection may serve other requests.
    reset: bool,
    /// Declared last: fields drop in order, so the stream is closed before its slot is released.
    slot: StreamSlot,
}

impl fmt::Debug for UpstreamH2 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UpstreamH2").field("stream", &self.stream_id).finish_non_exhaustive()
    }
}

impl UpstreamH2 {
    pub(in crate::proxy) fn new(slot: StreamSlot, framing: RequestFraming) -> Self {
        UpstreamH2 {
            response: None,
            send: None,
            body: None,
            stream_id: 0,
            chunk: Bytes::new(),
            body_done: false,
            only_trailers: false,
            response_trailers: None,
            output: BytesMut::new(),
            end_pending: false,
            request_trailers: None,
            request_complete: !framing.has_body(),
            write_failed: false,
            response_started: false,
            unprocessed: false,
            requires_http1: false,
            reset: false,
            slot,
        }
    }

    /// Opens the stream with the request header section.
    pub(in crate::proxy) fn start_request(
        &mut self,
        request: &Request,
        forwarding_info: &ForwardingInfo<'_>,
    ) -> Result<(), Fault> {
        let request_head = request_h2::request_head(request, forwarding_info).map_err(rejection_to_fault)?;
        let (response, send) = self.slot.open(request_head, self.request_complete).map_err(|error| {
            // The connection closed after the slot was acquired.
            self.unprocessed = true;
            let evidence = error.map_or(Evidence::from_static("connection closed"), |error| {
                Evidence::owned(error.to_string())
            });
            Fault::new(Cause::ConnectionTerminated, Phase::Connect).with_evidence(evidence)
        })?;
        self.stream_id = response.stream_id().as_u32();
        self.response = Some(response);
        self.send = Some(send);
        Ok(())
    }

    pub(in crate::proxy) const fn response_started(&self) -> bool {
        self.response_started
    }

    pub(in crate::proxy) const fn is_unprocessed(&self) -> bool {
        self.unprocessed
    }

    /// Whether the upstream has reset the stream because it requires HTTP/1.1 for this request.
    pub(in crate::proxy) const fn requires_http1(&self) -> bool {
        self.requires_http1
    }

    /// Whether the upstream ended this stream alone, with RST_STREAM.
    pub(in crate::proxy) const fn was_reset(&self) -> bool {
        self.reset
    }

    pub(in crate::proxy) const fn write_failed(&self) -> bool {
        self.write_failed
    }

    /// Whether the complete request was passed to the connection, whose task may have written it already.
    pub(in crate::proxy) fn has_sent_request(&self) -> bool {
        self.send.is_some() && self.request_complete && self.unsent() == 0 && !self.write_failed
    }

    pub(in crate::proxy) fn queue_body(&mut self, data: &[u8]) {
        self.output.extend_from_slice(data);
    }

    pub(in crate::proxy) fn queue_trailers(&mut self, trailers: HeaderMap) {
        self.request_trailers = Some(trailers);
    }

    pub(in crate::proxy) fn queue_end(&mut self) {
        self.end_pending = !self.request_complete;
        self.request_complete = true;
    }

    pub(in crate::proxy) fn unsent(&self) -> usize {
        self.output.len() + usize::from(self.end_pending)
    }

    pub(in crate::proxy) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.write_failed {
            self.write_failed = ready!(self.poll_write(cx)).is_err();
        }
        Poll::Ready(())
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), WriteFailed>> {
        let Some(send) = &mut self.send else { return Poll::Ready(Ok(())) };
        while self.output.has_remaining() {
            send.reserve_capacity(self.output.len());
            let mut capacity = send.capacity();
            if capacity == 0 {
                match ready!(send.poll_capacity(cx)) {
                    Some(granted) => capacity = granted?,
                    None => return Poll::Ready(Err(WriteFailed)),
                }
                if capacity == 0 {
                    continue;
                }
            }
            let chunk = self.output.split_to(capacity.min(self.output.len())).freeze();
            let end_stream = self.end_pending && self.output.is_empty() && self.request_trailers.is_none();
            self.end_pending &= !end_stream;
            send.send_data(chunk, end_stream)?;
        }
        if self.end_pending {
            self.end_pending = false;
            match self.request_trailers.take() {
                Some(trailers) => send.send_trailers(trailers),
                None => send.send_data(Bytes::new(), true),
            }?;
        }
        Poll::Ready(Ok(()))
    }

    pub(in crate::proxy) fn free_output(&mut self) {
        if self.output.is_empty() {
            self.output = BytesMut::new();
        }
    }

    pub(in crate::proxy) fn poll_response_head(
        &mut self,
        cx: &mut Context<'_>,
        method: &Method,
    ) -> Poll<Result<UpstreamResponseHead, Fault>> {
        let Some(response) = &mut self.response else {
            let evidence = Evidence::from_static("the final response was already read");
            return Poll::Ready(Err(
                Fault::new(Cause::ProxyInternalError, Phase::Internal).with_evidence(evidence)
            ));
        };
        let (response_head, end_stream) = match response.poll_informational(cx) {
            Poll::Ready(Some(Ok(response_head))) => (response_head, false),
            Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(self.record_error(&error))),
            // Polling for the final response now could skip an interim response that arrives between the two polls.
            Poll::Pending => return Poll::Pending,
            Poll::Ready(None) => match ready!(Pin::new(response).poll(cx)) {
                Ok(message) => {
                    let (parts, body) = message.into_parts();
                    let end_stream = body.is_end_stream();
                    self.body = Some(body);
                    self.response = None;
                    (Response::from_parts(parts, ()), end_stream)
                }
                Err(error) => return Poll::Ready(Err(self.record_error(&error))),
            },
        };
        self.response_started = true;
        Poll::Ready(self.check_response_head(response_head, end_stream, method))
    }

    fn check_response_head(
        &mut self,
        response_head: Response<()>,
        end_stream: bool,
        method: &Method,
    ) -> Result<UpstreamResponseHead, Fault> {
        let fault = |cause, evidence| {
            Fault::new(cause, Phase::ResponseHeaders).with_evidence(Evidence::from_static(evidence))
        };
        let (parts, ()) = response_head.into_parts();
        let status = parts.status.as_u16();
        if status == 101 || !(100..=599).contains(&status) {
            return Err(fault(Cause::HttpProtocolError, "invalid status code"));
        }
        if header_list_size(&parts.headers) > MAX_HEADER_LIST {
            return Err(fault(Cause::HttpResponseHeaderSectionSize, "header list too large"));
        }
        let mut lengths = parts.headers.get_all(http::header::CONTENT_LENGTH).iter();
        let length = lengths.next().map(|value| framing::content_length(value.as_bytes()));
        if lengths.next().is_some() || length == Some(None) {
            return Err(fault(Cause::HttpProtocolError, "invalid or repeated Content-Length"));
        }
        let content_length = length.flatten();
        let no_body = status < 200 || matches!(status, 204 | 304) || *method == Method::HEAD;
        let framing = match content_length {
            _ if no_body => ResponseFraming::NoBody,
            Some(length) => ResponseFraming::Length(length),
            None if end_stream => ResponseFraming::Length(0),
            // END_STREAM delimits the body as reliably as a last chunk.
            None => ResponseFraming::Chunked,
        };
        // The response is complete with its header section, or its trailers; ignore anything else after it.
        self.only_trailers = content_length == Some(0) && !no_body && !end_stream;
        self.body_done = status >= 200 && (no_body || (content_length == Some(0) && end_stream));
        let headers_only = end_stream && !no_body && content_length.is_none();
        let media_type = parts.headers.get(http::header::CONTENT_TYPE);
        let parsed = ResponseHead {
            // The version and `keep_alive` have no meaning on HTTP/2 and are not used.
            version: Version::Http11,
            status,
            framing,
            content_length,
            keep_alive_timeout: None,
            keep_alive: true,
            // The `h2` crate rejects responses with a Connection field (RFC 9113 8.2.2).
            has_connection_options: false,
            is_streaming: media_type.is_some_and(|value| media_type::is_streaming(value.as_bytes())),
        };
        Ok(UpstreamResponseHead {
            parsed,
            fields: HeaderFields::Map(parts.headers),
            reason: Bytes::new(),
            headers_only,
        })
    }

    /// Whether trailers may follow a header section that declares an empty body.
    pub(in crate::proxy) const fn expects_trailers(&self) -> bool {
        self.only_trailers
    }

    /// Takes the response as complete if its header section declares an empty body.
    pub(in crate::proxy) fn ignore_trailers(&mut self) {
        self.body_done |= std::mem::take(&mut self.only_trailers);
    }

    pub(in crate::proxy) fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<usize>, Fault>> {
        loop {
            if !self.chunk.is_empty() {
                return Poll::Ready(Ok(Some(self.chunk.len())));
            }
            let Some(body) = self.body.as_mut().filter(|_| !self.body_done) else {
                return Poll::Ready(Ok(None));
            };
            match ready!(body.poll_data(cx)) {
                Some(Ok(chunk)) if self.only_trailers => self.body_done = !chunk.is_empty(),
                Some(Err(_)) if self.only_trailers => self.body_done = true,
                Some(Ok(chunk)) => self.chunk = chunk,
                Some(Err(error)) => {
                    // A connection error after END_STREAM does not invalidate the response.
                    if !self.response_was_complete(&error) {
                        return Poll::Ready(Err(self.record_error(&error)));
                    }
                    self.body_done = true;
                }
                None => match ready!(body.poll_trailers(cx)) {
                    Ok(trailers) => {
                        self.response_trailers = trailers;
                        self.body_done = true;
                    }
                    Err(error) => return Poll::Ready(Err(self.record_error(&error))),
                },
            }
        }
    }

    pub(in crate::proxy) fn body_bytes(&self, length: usize) -> &[u8] {
        self.chunk.get(..length).unwrap_or_default()
    }

    /// Releases flow control for the consumed bytes only, so a slow client slows the upstream down.
    pub(in crate::proxy) fn consume(&mut self, length: usize) {
        let length = length.min(self.chunk.len());
        self.chunk.advance(length);
        if let Some(body) = &mut self.body {
            let _ = body.flow_control().release_capacity(length);
        }
    }

    pub(in crate::proxy) fn take_trailers(&mut self) -> Option<HeaderMap> {
        self.response_trailers.take()
    }

    /// Requires a PING acknowledgement on the connection before it gets another request. If the upstream does not read
    /// the request, the connection gets no further request: a PING bypasses flow control, so it cannot show whether
    /// only this stream is blocked.
    pub(in crate::proxy) fn on_timeout(&self) {
        if self.unsent() > 0 {
            self.slot.close_gracefully();
        } else {
            self.slot.probe();
        }
    }

    /// Whether the server had ended the stream before the error. False for errors that the `h2` crate detected: a
    /// response that it could not parse is not complete.
    fn response_was_complete(&self, error: &h2::Error) -> bool {
        !error.is_library() && !self.slot.ping_timed_out() && self.slot.ended(self.stream_id)
    }

    /// Records whether the stream was reset and whether the request was unprocessed, on which retries depend. Returns
    /// the [`Fault`] for the error.
    fn record_error(&mut self, error: &h2::Error) -> Fault {
        let before_headers = self.body.is_none();
        let ping_timed_out = self.slot.ping_timed_out();
        let goaway_code = Some(self.slot.goaway_code()).filter(|code| *code > 0 && !error.is_reset());
        let reason = error.reason().or(goaway_code.map(Reason::from));
        self.reset = error.is_reset() && error.is_remote();
        self.unprocessed = before_headers
            && !self.response_started
            && !ping_timed_out
            && (self.slot.is_unprocessed(self.stream_id)
                || (self.reset && reason == Some(Reason::REFUSED_STREAM)));
        self.requires_http1 = before_headers
            && !self.response_started
            && self.reset
            && reason == Some(Reason::HTTP_1_1_REQUIRED);
        let tls_error = self.slot.tls_error();
        let cause = if ping_timed_out && before_headers {
            Cause::HttpResponseTimeout
        } else if ping_timed_out {
            Cause::ConnectionReadTimeout
        } else if error.is_library() && before_headers && self.slot.has_large_header_block(self.stream_id) {
            Cause::HttpResponseHeaderSectionSize
        } else if error.is_library() {
            Cause::HttpProtocolError
        } else if !before_headers {
            Cause::HttpResponseIncomplete
        } else if tls_error.is_some() {
            Cause::TlsProtocolError
        } else if reason.is_some_and(is_protocol_violation) {
            Cause::HttpProtocolError
        } else {
            Cause::ConnectionTerminated
        };
        let phase = if before_headers { Phase::ResponseHeaders } else { Phase::Relay };
        if let Some(tls_error) = tls_error {
            return Fault::new(cause, phase).with_evidence(Evidence::owned(tls_error.to_owned()));
        }
        let description = if ping_timed_out {
            "PING timeout"
        } else if self.requires_http1 {
            "RST_STREAM: HTTP_1_1_REQUIRED"
        } else if self.reset {
            "RST_STREAM"
        } else if (error.is_go_away() && error.is_remote()) || goaway_code.is_some() {
            "GOAWAY"
        } else if error.is_library() {
            "HTTP/2 protocol violation by the upstream"
        } else {
            "connection closed"
        };
        Fault::new(cause, phase).with_evidence(Evidence::owned(format!("{description}: {error}")))
    }
}

/// Whether the upstream's error code reports a protocol violation. The other codes are handled like a closed
/// connection.
fn is_protocol_violation(reason: Reason) -> bool {
    !matches!(
        reason,
        Reason::NO_ERROR
            | Reason::INTERNAL_ERROR
            | Reason::REFUSED_STREAM
            | Reason::CANCEL
            | Reason::CONNECT_ERROR
            | Reason::ENHANCE_YOUR_CALM
    )
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::time::Duration;

    use http::HeaderValue;

    use super::*;
    use crate::http::reported_origin::RequestOrigin;
    use crate::http::request_head;
    use crate::proxy::message::added_request_fields::PeerTrust;
    use crate::upstream::Candidate;
    use crate::upstream::http2::{Http2Pool, HttpVersionPolicy};

    /// A stream on a new connection, with the request's header section queued.
    async fn open_stream(header_section: &'static str) -> UpstreamH2 {
        let (client_io, server_io) = tokio::io::duplex(1 << 16);
        tokio::spawn(async move {
            let mut connection = h2::server::handshake(server_io).await.unwrap();
            let mut open = Vec::new();
            while let Some(Ok(request)) = connection.accept().await {
                open.push(request);
            }
        });
        let http2 = Http2Pool::new(HttpVersionPolicy::Http2, 1, Duration::from_secs(60));
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        let candidate = Candidate::for_test("test", address);
        let slot = http2.start_connection(&candidate, client_io).await.unwrap();
        let header_section = Bytes::from_static(header_section.as_bytes());
        let parsed = request_head::parse(&header_section).unwrap();
        let request = Request::from_h1(header_section, &parsed);
        let forwarding = ForwardingInfo {
            target: &request.target,
            edits: None,
            forwarded_for: &HeaderValue::from_static("192.0.2.7"),
            origin: RequestOrigin { scheme: "http", host: b"test", port: 80 },
            peer_trust: PeerTrust::Untrusted,
            request_id: &HeaderValue::from_static("0190aaaa-bbbb-7ccc-8ddd-eeeeeeeeeeee"),
            host: b"test",
            upstream_tls: false,
            upgrade_offer: None,
            via: Some(b"1.1 statusquo-1"),
        };
        let mut conn = UpstreamH2::new(slot, request.framing);
        assert!(!conn.has_sent_request());
        conn.start_request(&request, &forwarding).unwrap();
        conn
    }

    /// The upstream may respond or close the connection before the first poll of the upload.
    #[tokio::test]
    async fn request_without_a_body_is_sent_with_its_header_section() {
        assert!(open_stream("GET / HTTP/1.1\r\nhost: test\r\n\r\n").await.has_sent_request());
    }

    #[tokio::test]
    async fn request_with_a_body_is_sent_after_the_whole_body_is_flushed() {
        let mut conn = open_stream("POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 4\r\n\r\n").await;
        assert!(!conn.has_sent_request());
        conn.queue_body(b"body");
        conn.queue_end();
        assert!(!conn.has_sent_request());
        std::future::poll_fn(|cx| conn.poll_flush(cx)).await;
        assert!(conn.has_sent_request());
    }
}
