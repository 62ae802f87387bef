//! The client side of an HTTP/1 connection: reads request bodies and writes response bytes with their framing.
//!
//! Only [`super`] calls the `queue_*` functions, for [`crate::proxy::local_reply`] and [`crate::proxy::relay`].
//! [`crate::proxy::connection`] reads the request header sections.

use std::io;
use std::task::{Context, Poll, ready};

use bytes::{BufMut, Bytes, BytesMut};
use pingora::server::ShutdownWatch;

use crate::http::body_decoder::{BodyDecoder, DecodeStep};
use crate::http::framing::RequestFraming;
use crate::http::request_head::{KnownFraming, RequestHead, Version};
use crate::proxy::buffered_stream::{BODY_BUFFER_SIZE, BufferedStream, HEADER_BUFFER_SIZE};
use crate::proxy::message::h1_writer;
use crate::proxy::message::{BodyLength, CloseMode, ResponseHeadParts};

/// Maximum number of bytes that are read ahead while only a disconnect is awaited: of the request body, or of pipelined
/// requests.
const MAX_READ_AHEAD: usize = 64 * 1024;

/// Initial buffer size for a response header section; most sections fit.
const TYPICAL_HEADER_BYTES: usize = 640;
/// Maximum number of body bytes for which the header buffer reserves memory.
const MAX_BODY_RESERVE: usize = 4 * 1024;

/// Why the request body could not be read.
#[derive(Debug)]
pub(in crate::proxy) enum BodyError {
    /// Invalid framing.
    Malformed(&'static str),
    /// The client sent FIN before the end of the body; it may still read a response.
    Incomplete,
    /// The connection was reset or failed.
    Disconnected,
}

/// One HTTP/1 connection, with the state of its current request.
#[derive(Debug)]
pub(in crate::proxy) struct DownstreamH1 {
    pub(in crate::proxy) io: BufferedStream,
    body: BodyDecoder,
    version: Version,
    is_head_request: bool,
    /// The client wants to keep the connection (RFC 9112 9.3).
    client_keep_alive: bool,
    /// The client waits for a 100 before it sends its body.
    awaits_continue: bool,
    sent_framing: SentFraming,
    close_after_response: bool,
    /// The client has closed its sending side (FIN).
    half_closed: bool,
    shutdown: ShutdownWatch,
}

/// The framing of a response as it is sent to the client: how the client detects the end of the body. The upstream may
/// have used another one ([`crate::http::response_head::ResponseFraming`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy) enum SentFraming {
    None,
    Length(u64),
    Chunked,
    UntilClose,
}

impl ResponseHeadParts<'_> {
    /// The framing of the response body (RFC 9112 6).
    pub(in crate::proxy) const fn sent_framing(
        &self,
        version: Version,
        is_head_request: bool,
    ) -> SentFraming {
        if self.status == 101 {
            return SentFraming::UntilClose;
        }
        let no_body = is_head_request || matches!(self.status, 204 | 304);
        match (self.length, version) {
            (BodyLength::Absent, _) => SentFraming::None,
            (BodyLength::Exactly(_) | BodyLength::Unknown, _) if no_body => SentFraming::None,
            (BodyLength::Exactly(length), _) => SentFraming::Length(length),
            (BodyLength::Unknown, Version::Http11) => SentFraming::Chunked,
            (BodyLength::Unknown, Version::Http10) => SentFraming::UntilClose,
        }
    }
}

/// What the Connection field of an HTTP/1 response depends on.
#[derive(Clone, Copy, Debug)]
pub(in crate::proxy) struct Persistence {
    /// The HTTP version of the request.
    pub(in crate::proxy) version: Version,
    /// The connection stays open after the response.
    pub(in crate::proxy) keep_alive: bool,
}

/// Writes a status line and header section. No other function writes the Content-Length, Transfer-Encoding and
/// Connection of an HTTP/1 response.
pub(in crate::proxy) fn write_response_head(
    out: &mut BytesMut,
    parts: &ResponseHeadParts<'_>,
    framing: SentFraming,
    Persistence { version, keep_alive }: Persistence,
    write_fields: impl FnOnce(&mut BytesMut),
) {
    // Reserve once for a small message: growing the buffer step by step took a tenth of the instructions of an error
    // response.
    let body_reserve = match parts.length {
        BodyLength::Exactly(length) => {
            usize::try_from(length).unwrap_or(MAX_BODY_RESERVE).min(MAX_BODY_RESERVE)
        }
        BodyLength::Absent | BodyLength::Unknown => 0,
    };
    out.reserve(TYPICAL_HEADER_BYTES + body_reserve);
    h1_writer::write_status_line(out, parts.status, parts.reason);
    write_fields(out);
    match parts.length {
        BodyLength::Exactly(length) if parts.status != 204 => {
            h1_writer::write_number_field(out, b"Content-Length: ", length);
        }
        BodyLength::Exactly(_) | BodyLength::Absent | BodyLength::Unknown => {}
    }
    if framing == SentFraming::Chunked {
        out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
    }
    match (keep_alive, version) {
        _ if parts.status == 101 => out.extend_from_slice(b"Connection: Upgrade\r\n"),
        (false, _) => out.extend_from_slice(b"Connection: close\r\n"),
        (true, Version::Http10) => out.extend_from_slice(b"Connection: keep-alive\r\n"),
        (true, Version::Http11) => {}
    }
    out.extend_from_slice(b"\r\n");
}

impl DownstreamH1 {
    /// `shutdown` becomes true when connections should close after their response.
    pub(in crate::proxy) fn new(io: BufferedStream, shutdown: ShutdownWatch) -> Self {
        DownstreamH1 {
            io,
            body: BodyDecoder::request(RequestFraming::None),
            version: Version::Http11,
            is_head_request: false,
            client_keep_alive: false,
            awaits_continue: false,
            sent_framing: SentFraming::None,
            close_after_response: false,
            half_closed: false,
            shutdown,
        }
    }

    /// Resets the state for a well-formed request.
    pub(in crate::proxy) fn begin_request(&mut self, parsed: &RequestHead) {
        self.body = BodyDecoder::request(parsed.framing);
        self.version = parsed.version;
        self.is_head_request = parsed.method == http::Method::HEAD;
        self.client_keep_alive = parsed.keep_alive;
        self.awaits_continue = parsed.expect_continue && parsed.framing.has_body();
        self.sent_framing = SentFraming::None;
        self.close_after_response = false;
    }

    /// Resets the state for a rejected request. Without `framing` the connection closes after the response, because the
    /// rest of the input cannot be framed. `is_head_request`: the request line begins with HEAD.
    pub(in crate::proxy) fn begin_rejected(&mut self, is_head_request: bool, framing: Option<KnownFraming>) {
        let body = framing.map_or(RequestFraming::None, |known| known.framing);
        self.body = BodyDecoder::request(body);
        self.version = framing.map_or(Version::Http11, |known| known.version);
        self.is_head_request = is_head_request;
        self.client_keep_alive = framing.is_some_and(|known| known.keep_alive);
        self.awaits_continue = framing.is_some_and(|known| known.expect_continue);
        self.sent_framing = SentFraming::None;
        self.close_after_response = framing.is_none();
    }

    pub(in crate::proxy) const fn version(&self) -> Version {
        self.version
    }

    pub(in crate::proxy) const fn awaits_continue(&self) -> bool {
        self.awaits_continue
    }

    pub(in crate::proxy) const fn body_is_done(&self) -> bool {
        self.body.is_done()
    }

    /// Number of request body bytes still to be received, if the client declared a length.
    pub(in crate::proxy) const fn body_remaining(&self) -> Option<u64> {
        self.body.remaining()
    }

    /// The next chunk of the request body; `None` at its end.
    pub(in crate::proxy) fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Bytes>, BodyError>> {
        loop {
            match self.body.decode(&mut self.io.input).map_err(BodyError::Malformed)? {
                DecodeStep::Data(length) => {
                    self.awaits_continue = false;
                    return Poll::Ready(Ok(Some(self.io.input.split_to(length).freeze())));
                }
                DecodeStep::End => return Poll::Ready(Ok(None)),
                DecodeStep::NeedMore => match ready!(self.io.poll_fill(cx, BODY_BUFFER_SIZE)) {
                    Ok(0) => {
                        self.half_closed = true;
                        return Poll::Ready(Err(BodyError::Incomplete));
                    }
                    Ok(_) => {}
                    Err(_) => return Poll::Ready(Err(BodyError::Disconnected)),
                },
            }
        }
    }

    /// Ready when the client has disconnected or closed its sending side. To notice that, reads ahead up to
    /// [`MAX_READ_AHEAD`].
    pub(in crate::proxy) fn poll_disconnect(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.io.input.len() < MAX_READ_AHEAD {
            match ready!(self.io.poll_fill(cx, HEADER_BUFFER_SIZE)) {
                Ok(0) => {
                    self.half_closed = true;
                    return Poll::Ready(());
                }
                Ok(_) => {}
                Err(_) => return Poll::Ready(()),
            }
        }
        Poll::Pending
    }

    /// Closes the connection after this response.
    pub(in crate::proxy) fn close_after_response(&mut self) {
        self.close_after_response = true;
    }

    /// Whether the connection can serve another request. False while the request body is incomplete: the rest of it
    /// would be parsed as a request.
    pub(in crate::proxy) const fn is_keep_alive(&self) -> bool {
        self.client_keep_alive && !self.close_after_response && self.body.is_done()
    }

    /// Whether the connection closes after this response, however much of the request body is read.
    pub(in crate::proxy) fn will_close(&self) -> bool {
        !self.client_keep_alive || self.close_after_response || self.half_closed || *self.shutdown.borrow()
    }

    /// Queues an interim response (1xx except 101).
    pub(in crate::proxy) fn queue_interim(&mut self, status: u16, write_fields: impl FnOnce(&mut BytesMut)) {
        if status == 100 {
            self.awaits_continue = false;
        }
        h1_writer::write_status_line(&mut self.io.output, status, None);
        write_fields(&mut self.io.output);
        self.io.output.extend_from_slice(b"\r\n");
    }

    /// Queues the status line and header section of the final response.
    pub(in crate::proxy) fn queue_response_head(
        &mut self,
        parts: &ResponseHeadParts<'_>,
        write_fields: impl FnOnce(&mut BytesMut),
    ) {
        self.sent_framing = parts.sent_framing(self.version, self.is_head_request);
        // The Connection field written here is binding, even if the client closes its sending side later: a pipelined
        // request may depend on it.
        self.close_after_response |=
            self.sent_framing == SentFraming::UntilClose || self.half_closed || *self.shutdown.borrow();
        let keep_alive = self.client_keep_alive && !self.close_after_response;
        write_response_head(
            &mut self.io.output,
            parts,
            self.sent_framing,
            Persistence { version: self.version, keep_alive },
            write_fields,
        );
    }

    /// Queues body bytes. Returns false, and queues nothing, if they exceed the declared length.
    pub(in crate::proxy) fn queue_response_body(&mut self, data: &[u8]) -> bool {
        if data.is_empty() {
            return true;
        }
        let out = &mut self.io.output;
        match &mut self.sent_framing {
            SentFraming::None => return false,
            SentFraming::Length(remaining) => {
                let length = data.len() as u64;
                if length > *remaining {
                    return false;
                }
                *remaining -= length;
                out.extend_from_slice(data);
            }
            SentFraming::Chunked => {
                h1_writer::write_hex(out, data.len());
                out.extend_from_slice(b"\r\n");
                out.extend_from_slice(data);
                out.put_slice(b"\r\n");
            }
            SentFraming::UntilClose => out.extend_from_slice(data),
        }
        true
    }

    /// Queues the end of the body. Returns false if the body is shorter than the declared length.
    pub(in crate::proxy) fn queue_response_end(&mut self) -> bool {
        match self.sent_framing {
            SentFraming::Length(remaining) => remaining == 0,
            SentFraming::Chunked => {
                self.io.output.extend_from_slice(b"0\r\n\r\n");
                self.sent_framing = SentFraming::None;
                true
            }
            SentFraming::None | SentFraming::UntilClose => true,
        }
    }

    pub(in crate::proxy) fn unsent(&self) -> usize {
        self.io.unsent()
    }

    pub(in crate::proxy) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io.poll_flush(cx)
    }

    /// Truncates the response. Returns how the connection must close so that the client can detect the truncation.
    pub(in crate::proxy) fn abort(&mut self) -> CloseMode {
        self.close_after_response = true;
        match self.sent_framing {
            SentFraming::UntilClose => CloseMode::Reset,
            SentFraming::None | SentFraming::Length(_) | SentFraming::Chunked => CloseMode::Fin,
        }
    }
}
