//! The upstream's side of one attempt, on HTTP/2: one stream of a connection that others share.
//!
//! Frames are the `h2` crate's; here its errors become [`Fault`]s, in the words of HTTP/1 where the same has happened. It
//! decides nothing: not what is retried, not what a client sees. Connections are kept in [`crate::upstream::http2`].
#![expect(clippy::disallowed_methods, reason = "these frames go to an upstream, not to a client")]

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use h2::client::ResponseFuture;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Method, Response};

use super::head::Fields;
use super::peer::UpstreamHead;
use super::request::{Request, Told, list_size, refused};
use super::request_h2;
use crate::contract::{Cause, Evidence, Fault, Phase};
use crate::protocol::framing::{self, RequestFraming};
use crate::protocol::media;
use crate::protocol::response_head::{ResponseFraming, ResponseHead, Version};
use crate::upstream::http2::StreamSlot;

/// Largest list of fields of a response, counted as RFC 9113 6.5.2 does.
const MAX_FIELDS: usize = 64 * 1024;

/// The stream takes nothing more. What comes back on it says why, if anything does.
struct WriteFailed;

impl From<h2::Error> for WriteFailed {
    fn from(_: h2::Error) -> Self {
        WriteFailed
    }
}

/// One stream.
pub(super) struct H2Peer {
    response: Option<ResponseFuture>,
    send: Option<SendStream<Bytes>>,
    body: Option<RecvStream>,
    stream: u32,
    /// A piece of the response body that is not taken yet.
    piece: Bytes,
    body_done: bool,
    trailers: Option<HeaderMap>,
    /// Bytes that flow control has not let out yet.
    output: BytesMut,
    /// The end was asked for and not sent yet.
    ending: bool,
    /// What comes with the end of the request.
    behind: Option<HeaderMap>,
    request_whole: bool,
    write_failed: bool,
    answered: bool,
    passed_over: bool,
    /// Last, so that the stream is gone when its place is given back.
    slot: StreamSlot,
}

impl fmt::Debug for H2Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("H2Peer").field("stream", &self.stream).finish_non_exhaustive()
    }
}

impl H2Peer {
    pub(super) fn new(slot: StreamSlot, framing: RequestFraming) -> Self {
        H2Peer {
            response: None,
            send: None,
            body: None,
            stream: 0,
            piece: Bytes::new(),
            body_done: false,
            trailers: None,
            output: BytesMut::new(),
            ending: false,
            behind: None,
            request_whole: !framing.has_body(),
            write_failed: false,
            answered: false,
            passed_over: false,
            slot,
        }
    }

    /// Opens the stream with the request's head.
    pub(super) fn queue_head(&mut self, request: &Request, told: &Told<'_>) -> Result<(), Fault> {
        let head = request_h2::head(request, told).map_err(refused)?;
        let (response, send) = self.slot.open(head, self.request_whole).map_err(|error| {
            // The connection has ended since its place was taken.
            self.passed_over = true;
            let evidence = error.map_or(Evidence::from_static("the connection ended"), |error| {
                Evidence::owned(error.to_string())
            });
            Fault::new(Cause::ConnectionTerminated, Phase::Connect).with_evidence(evidence)
        })?;
        self.stream = response.stream_id().as_u32();
        self.response = Some(response);
        self.send = Some(send);
        Ok(())
    }

    pub(super) const fn has_answered(&self) -> bool {
        self.answered
    }

    pub(super) const fn was_passed_over(&self) -> bool {
        self.passed_over
    }

    pub(super) const fn write_has_failed(&self) -> bool {
        self.write_failed
    }

    /// The whole request was handed to the connection, whose task may have written it already.
    pub(super) fn has_sent_request(&self) -> bool {
        self.send.is_some() && self.request_whole && self.unsent() == 0 && !self.write_failed
    }

    pub(super) fn queue_body(&mut self, data: &[u8]) {
        self.output.extend_from_slice(data);
    }

    pub(super) fn queue_trailers(&mut self, trailers: HeaderMap) {
        self.behind = Some(trailers);
    }

    pub(super) fn queue_end(&mut self) {
        self.ending = !self.request_whole;
        self.request_whole = true;
    }

    pub(super) fn unsent(&self) -> usize {
        self.output.len() + usize::from(self.ending)
    }

    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.write_failed {
            self.write_failed = ready!(self.poll_write(cx)).is_err();
        }
        Poll::Ready(())
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), WriteFailed>> {
        let Some(send) = &mut self.send else { return Poll::Ready(Ok(())) };
        while self.output.has_remaining() {
            send.reserve_capacity(self.output.len());
            let mut room = send.capacity();
            if room == 0 {
                match ready!(send.poll_capacity(cx)) {
                    Some(granted) => room = granted?,
                    None => return Poll::Ready(Err(WriteFailed)),
                }
                if room == 0 {
                    continue;
                }
            }
            let piece = self.output.split_to(room.min(self.output.len())).freeze();
            let ends = self.ending && self.output.is_empty() && self.behind.is_none();
            self.ending &= !ends;
            send.send_data(piece, ends)?;
        }
        if self.ending {
            self.ending = false;
            match self.behind.take() {
                Some(trailers) => send.send_trailers(trailers),
                None => send.send_data(Bytes::new(), true),
            }?;
        }
        Poll::Ready(Ok(()))
    }

    pub(super) fn forget_written(&mut self) {
        if self.output.is_empty() {
            self.output = BytesMut::new();
        }
    }

    pub(super) fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        method: &Method,
    ) -> Poll<Result<UpstreamHead, Fault>> {
        let Some(response) = &mut self.response else {
            let evidence = Evidence::from_static("a second response was waited for");
            return Poll::Ready(Err(
                Fault::new(Cause::ProxyInternalError, Phase::Internal).with_evidence(evidence)
            ));
        };
        let (head, ended) = match response.poll_informational(cx) {
            Poll::Ready(Some(Ok(head))) => (head, false),
            Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(self.fault(&error))),
            // Asking for the final head now would pass over an interim one that comes this moment.
            Poll::Pending => return Poll::Pending,
            Poll::Ready(None) => match ready!(Pin::new(response).poll(cx)) {
                Ok(whole) => {
                    let (parts, body) = whole.into_parts();
                    let ended = body.is_end_stream();
                    self.body = Some(body);
                    self.response = None;
                    (Response::from_parts(parts, ()), ended)
                }
                Err(error) => return Poll::Ready(Err(self.fault(&error))),
            },
        };
        self.answered = true;
        Poll::Ready(self.head(head, ended, method))
    }

    fn head(&mut self, head: Response<()>, ended: bool, method: &Method) -> Result<UpstreamHead, Fault> {
        let fault = |cause, evidence| {
            Fault::new(cause, Phase::ResponseHeaders).with_evidence(Evidence::from_static(evidence))
        };
        let (parts, ()) = head.into_parts();
        let status = parts.status.as_u16();
        if status == 101 || !(100..=599).contains(&status) {
            return Err(fault(Cause::HttpProtocolError, "the status is impossible"));
        }
        if list_size(&parts.headers) > MAX_FIELDS {
            return Err(fault(Cause::HttpResponseHeaderSectionSize, "the header list is too large"));
        }
        let mut lengths = parts.headers.get_all(http::header::CONTENT_LENGTH).iter();
        let length = lengths.next().map(|value| framing::content_length(value.as_bytes()));
        if lengths.next().is_some() || length == Some(None) {
            return Err(fault(Cause::HttpProtocolError, "Content-Length is not one number"));
        }
        let content_length = length.flatten();
        let bodiless = status < 200 || matches!(status, 204 | 304) || *method == Method::HEAD;
        let framing = match content_length {
            _ if bodiless => ResponseFraming::NoBody,
            Some(length) => ResponseFraming::Length(length),
            None if ended => ResponseFraming::Length(0),
            // The end of the stream is as clear as a last chunk.
            None => ResponseFraming::Chunked,
        };
        // What comes behind the last byte is no part of the response: the client has all of it with the head.
        self.body_done = status >= 200 && (bodiless || content_length == Some(0));
        let ends = ended && !bodiless && content_length.is_none();
        let media_type = parts.headers.get(http::header::CONTENT_TYPE);
        let facts = ResponseHead {
            version: Version::Http11,
            status,
            framing,
            content_length,
            keep_alive: true,
            // The library takes no head with such a field (RFC 9113 8.2.2).
            names_connection_fields: false,
            is_streaming: media_type.is_some_and(|value| media::is_streaming(value.as_bytes())),
        };
        Ok(UpstreamHead { facts, fields: Fields::Map(parts.headers), reason: Bytes::new(), ends })
    }

    pub(super) fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<usize>, Fault>> {
        loop {
            if !self.piece.is_empty() {
                return Poll::Ready(Ok(Some(self.piece.len())));
            }
            let Some(body) = self.body.as_mut().filter(|_| !self.body_done) else {
                return Poll::Ready(Ok(None));
            };
            match ready!(body.poll_data(cx)) {
                Some(Ok(piece)) => self.piece = piece,
                Some(Err(error)) => {
                    // An answer that was whole stays so, whatever then ends the connection.
                    if !self.came_whole(&error) {
                        return Poll::Ready(Err(self.fault(&error)));
                    }
                    self.body_done = true;
                }
                None => match ready!(body.poll_trailers(cx)) {
                    Ok(trailers) => {
                        self.trailers = trailers;
                        self.body_done = true;
                    }
                    Err(error) => return Poll::Ready(Err(self.fault(&error))),
                },
            }
        }
    }

    pub(super) fn body_bytes(&self, length: usize) -> &[u8] {
        self.piece.get(..length).unwrap_or_default()
    }

    /// The window opens again by what is taken, so a slow client holds the upstream back.
    pub(super) fn take(&mut self, length: usize) {
        let length = length.min(self.piece.len());
        self.piece.advance(length);
        if let Some(body) = &mut self.body {
            let _ = body.flow_control().release_capacity(length);
        }
    }

    pub(super) fn take_trailers(&mut self) -> Option<HeaderMap> {
        self.trailers.take()
    }

    /// The connection has to show that it is alive before it gets another request; one that does not take what is there
    /// for it gets none: nobody can tell whether its window is shut for this stream alone, and a PING passes by windows.
    pub(super) fn doubt(&self) {
        if self.unsent() > 0 {
            self.slot.close_gracefully();
        } else {
            self.slot.probe();
        }
    }

    /// The server had said all that it had to say before this happened. An error that the library found is another matter:
    /// what it did not understand is not whole.
    fn came_whole(&self, error: &h2::Error) -> bool {
        !error.is_library() && !self.slot.ping_timed_out() && self.slot.ended(self.stream)
    }

    /// Names what ended the stream.
    fn fault(&mut self, error: &h2::Error) -> Fault {
        let before_head = self.body.is_none();
        let fell_silent = self.slot.ping_timed_out();
        let left_for = Some(self.slot.goaway_code()).filter(|code| *code > 0 && !error.is_reset());
        let reason = error.reason().or(left_for.map(Reason::from));
        self.passed_over = before_head
            && !self.answered
            && !fell_silent
            && (self.slot.is_unprocessed(self.stream)
                || (error.is_reset() && error.is_remote() && reason == Some(Reason::REFUSED_STREAM)));
        let cause = match () {
            () if fell_silent && before_head => Cause::HttpResponseTimeout,
            () if fell_silent => Cause::ConnectionReadTimeout,
            () if error.is_library() => Cause::HttpProtocolError,
            () if !before_head => Cause::HttpResponseIncomplete,
            () if reason.is_some_and(accuses) => Cause::HttpProtocolError,
            () => Cause::ConnectionTerminated,
        };
        let phase = if before_head { Phase::ResponseHeaders } else { Phase::ResponseBody };
        let what = match () {
            () if fell_silent => "the connection gave no sign of life",
            () if error.is_reset() && error.is_remote() => "RST_STREAM",
            () if (error.is_go_away() && error.is_remote()) || left_for.is_some() => "GOAWAY",
            () if error.is_library() => "the upstream broke HTTP/2",
            () => "the connection ended",
        };
        Fault::new(cause, phase).with_evidence(Evidence::owned(format!("{what}: {error}")))
    }
}

/// Codes by which the other side says that HTTP/2 was broken. By the others it gives up, as one that closes its
/// connection.
fn accuses(reason: Reason) -> bool {
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
    use crate::protocol::request_head;
    use crate::upstream::Candidate;
    use crate::upstream::http2::{Http2Pool, HttpVersionPolicy};

    /// A request with this header section on a stream of its own, and what the task of its connection has written by then.
    async fn queued(head: &'static str) -> H2Peer {
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        tokio::spawn(async move {
            let mut connection = h2::server::handshake(theirs).await.unwrap();
            let mut open = Vec::new();
            while let Some(Ok(request)) = connection.accept().await {
                open.push(request);
            }
        });
        let http2 = Http2Pool::new(HttpVersionPolicy::Http2, 1, Duration::from_secs(60));
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        let candidate = Candidate { server: "test".into(), address, tls_name: None };
        let slot = http2.start_connection(&candidate, ours).await.unwrap();
        let head = Bytes::from_static(head.as_bytes());
        let facts = request_head::parse(&head).unwrap();
        let request = Request::from_h1(head, &facts);
        let told = Told {
            forwarded_for: &HeaderValue::from_static("192.0.2.7"),
            proto: "http",
            request_id: &HeaderValue::from_static("0190aaaa-bbbb-7ccc-8ddd-eeeeeeeeeeee"),
            server: "127.0.0.1:3000",
            upstream_tls: false,
            offer: None,
            via: b"1.1 statusquo-1",
        };
        let mut peer = H2Peer::new(slot, request.framing);
        assert!(!peer.has_sent_request());
        peer.queue_head(&request, &told).unwrap();
        peer
    }

    /// Its upstream may answer, or end the connection, before anybody looks at the upload for the first time.
    #[tokio::test]
    async fn request_without_a_body_is_sent_with_its_header_section() {
        assert!(queued("GET / HTTP/1.1\r\nhost: test\r\n\r\n").await.has_sent_request());
    }

    #[tokio::test]
    async fn request_with_a_body_is_sent_when_all_of_it_was_handed_over() {
        let mut peer = queued("POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 4\r\n\r\n").await;
        assert!(!peer.has_sent_request());
        peer.queue_body(b"body");
        peer.queue_end();
        assert!(!peer.has_sent_request());
        std::future::poll_fn(|cx| peer.poll_flush(cx)).await;
        assert!(peer.has_sent_request());
    }
}
