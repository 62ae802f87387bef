//! A client on HTTP/1: its request body as it arrives, and the bytes of the one response it gets.
//!
//! It frames what it is given and never decides what to answer: only [`super::door`] and [`super::relay`] call the
//! `send_*` functions. The head of the request is read in [`super::connection`].

use std::io;
use std::task::{Context, Poll, ready};

use bytes::{BufMut, Bytes, BytesMut};
use pingora::server::ShutdownWatch;

use super::fields;
use super::head::{BodyLength, Ends, HeadParts};
use super::wire::{BODY_ROOM, HEAD_ROOM, Wire};
use crate::protocol::body::{BodyDecoder, DecodeStep};
use crate::protocol::framing::RequestFraming;
use crate::protocol::request_head::{RequestHead, Version};

/// Most bytes of pipelined requests that are read while an earlier one is served.
const MAX_READ_AHEAD: usize = 64 * 1024;

/// A response head of ours or of most upstreams fits into so many bytes.
const USUAL_HEAD: usize = 640;
/// Most room that is made for a body together with its head.
const MOST_ROOM: usize = 4 * 1024;

/// What the request body did.
#[derive(Debug)]
pub(super) enum BodyFault {
    /// Its framing is broken.
    Malformed(&'static str),
    /// The client sent FIN inside it; it may still read.
    Short,
    /// The connection is gone.
    Gone,
}

/// One HTTP/1 connection, request after request.
#[derive(Debug)]
pub(super) struct H1Client {
    pub(super) wire: Wire,
    body: BodyDecoder,
    version: Version,
    head_request: bool,
    client_keeps: bool,
    /// The client waits for a 100 before it sends its body.
    awaits_continue: bool,
    response: ResponseBody,
    close: bool,
    half_closed: bool,
    shutdown: ShutdownWatch,
}

/// How the response that is being sent finds its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ResponseBody {
    None,
    Length(u64),
    Chunked,
    UntilClose,
}

impl HeadParts<'_> {
    /// How the body that follows this head finds its end.
    pub(super) const fn body(&self, version: Version, head_request: bool) -> ResponseBody {
        if self.status == 101 {
            return ResponseBody::UntilClose;
        }
        let bodiless = head_request || matches!(self.status, 204 | 304);
        match (self.length, version) {
            (BodyLength::Absent, _) => ResponseBody::None,
            (BodyLength::Exactly(_) | BodyLength::Unknown, _) if bodiless => ResponseBody::None,
            (BodyLength::Exactly(length), _) => ResponseBody::Length(length),
            (BodyLength::Unknown, Version::Http11) => ResponseBody::Chunked,
            (BodyLength::Unknown, Version::Http10) => ResponseBody::UntilClose,
        }
    }
}

/// Writes a head. Framing and Connection are written here, from what was understood, and nowhere else. `keeps` says that
/// the connection outlives the response.
pub(super) fn write_head(
    out: &mut BytesMut,
    parts: &HeadParts<'_>,
    body: ResponseBody,
    (version, keeps): (Version, bool),
    write_fields: impl FnOnce(&mut BytesMut),
) {
    // Once for the whole message where it is small: growing step by step was a tenth of a refusal's instructions.
    let body_room = match parts.length {
        BodyLength::Exactly(length) => usize::try_from(length).unwrap_or(MOST_ROOM).min(MOST_ROOM),
        BodyLength::Absent | BodyLength::Unknown => 0,
    };
    out.reserve(USUAL_HEAD + body_room);
    fields::status_line(out, parts.status, parts.reason);
    write_fields(out);
    match parts.length {
        BodyLength::Exactly(length) if parts.status != 204 => {
            fields::number(out, b"Content-Length: ", length);
        }
        BodyLength::Exactly(_) | BodyLength::Absent | BodyLength::Unknown => {}
    }
    if body == ResponseBody::Chunked {
        out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
    }
    match (keeps, version) {
        _ if parts.status == 101 => out.extend_from_slice(b"Connection: Upgrade\r\n"),
        (false, _) => out.extend_from_slice(b"Connection: close\r\n"),
        (true, Version::Http10) => out.extend_from_slice(b"Connection: keep-alive\r\n"),
        (true, Version::Http11) => {}
    }
    out.extend_from_slice(b"\r\n");
}

impl H1Client {
    /// `shutdown` turns true when connections should end after their response.
    pub(super) fn new(wire: Wire, shutdown: ShutdownWatch) -> Self {
        H1Client {
            wire,
            body: BodyDecoder::request(RequestFraming::None),
            version: Version::Http11,
            head_request: false,
            client_keeps: false,
            awaits_continue: false,
            response: ResponseBody::None,
            close: false,
            half_closed: false,
            shutdown,
        }
    }

    /// The head was read and is one clear request.
    pub(super) fn begin(&mut self, facts: &RequestHead) {
        self.body = BodyDecoder::request(facts.framing);
        self.version = facts.version;
        self.head_request = facts.method == http::Method::HEAD;
        self.client_keeps = facts.keep_alive;
        self.awaits_continue = facts.expect_continue && facts.framing.has_body();
        self.response = ResponseBody::None;
        self.close = false;
    }

    /// The head is not a request: whatever is answered, nothing after it can be trusted. `head_request`: it began as one
    /// with the method HEAD.
    pub(super) fn begin_refused(&mut self, head_request: bool) {
        self.body = BodyDecoder::request(RequestFraming::None);
        self.version = Version::Http11;
        self.head_request = head_request;
        self.client_keeps = false;
        self.awaits_continue = false;
        self.response = ResponseBody::None;
        self.close = true;
    }

    pub(super) const fn version(&self) -> Version {
        self.version
    }

    pub(super) const fn awaits_continue(&self) -> bool {
        self.awaits_continue
    }

    pub(super) const fn body_is_done(&self) -> bool {
        self.body.is_done()
    }

    /// How much of the body is still to come, where the client said it.
    pub(super) const fn body_remaining(&self) -> Option<u64> {
        self.body.remaining()
    }

    /// The next piece of the request body; `None` at its end.
    pub(super) fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, BodyFault>> {
        loop {
            match self.body.decode(&mut self.wire.input).map_err(BodyFault::Malformed)? {
                DecodeStep::Data(length) => {
                    self.awaits_continue = false;
                    return Poll::Ready(Ok(Some(self.wire.input.split_to(length).freeze())));
                }
                DecodeStep::End => return Poll::Ready(Ok(None)),
                DecodeStep::NeedMore => match ready!(self.wire.poll_fill(cx, BODY_ROOM)) {
                    Ok(0) => {
                        self.half_closed = true;
                        return Poll::Ready(Err(BodyFault::Short));
                    }
                    Ok(_) => {}
                    Err(_) => return Poll::Ready(Err(BodyFault::Gone)),
                },
            }
        }
    }

    /// Ready when the client has left or has shut down its sending side. Reads ahead, within bounds.
    pub(super) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.wire.input.len() < MAX_READ_AHEAD {
            match ready!(self.wire.poll_fill(cx, HEAD_ROOM)) {
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

    /// After this response the connection ends, whatever the client asked for.
    pub(super) fn close_after(&mut self) {
        self.close = true;
    }

    /// Whether the next request may come on this connection. Never before the end of this one's body was seen: what
    /// follows in the buffer would be taken for a head.
    pub(super) const fn keeps_alive(&self) -> bool {
        self.client_keeps && !self.close && self.body.is_done()
    }

    /// Queues an interim response (1xx but 101).
    pub(super) fn send_interim(&mut self, status: u16, fields: impl FnOnce(&mut BytesMut)) {
        if status == 100 {
            self.awaits_continue = false;
        }
        fields::status_line(&mut self.wire.output, status, None);
        fields(&mut self.wire.output);
        self.wire.output.extend_from_slice(b"\r\n");
    }

    /// Queues a head.
    pub(super) fn send_head(&mut self, parts: &HeadParts<'_>, write_fields: impl FnOnce(&mut BytesMut)) {
        self.response = parts.body(self.version, self.head_request);
        // What is said here holds: a request that is already in the buffer counts on it, also when the client shuts down
        // its sending side later.
        self.close |=
            self.response == ResponseBody::UntilClose || self.half_closed || *self.shutdown.borrow();
        let keeps = self.client_keeps && !self.close;
        write_head(&mut self.wire.output, parts, self.response, (self.version, keeps), write_fields);
    }

    /// Queues body bytes; never more than the head promised. Says whether all of them were within it.
    pub(super) fn send_data(&mut self, data: &[u8]) -> bool {
        if data.is_empty() {
            return true;
        }
        let out = &mut self.wire.output;
        match &mut self.response {
            ResponseBody::None => return false,
            ResponseBody::Length(left) => {
                let length = data.len() as u64;
                if length > *left {
                    return false;
                }
                *left -= length;
                out.extend_from_slice(data);
            }
            ResponseBody::Chunked => {
                fields::hexadecimal(out, data.len());
                out.extend_from_slice(b"\r\n");
                out.extend_from_slice(data);
                out.put_slice(b"\r\n");
            }
            ResponseBody::UntilClose => out.extend_from_slice(data),
        }
        true
    }

    /// Queues the end of the body. Says whether the body is as long as the head promised.
    pub(super) fn send_end(&mut self) -> bool {
        match self.response {
            ResponseBody::Length(left) => left == 0,
            ResponseBody::Chunked => {
                self.wire.output.extend_from_slice(b"0\r\n\r\n");
                self.response = ResponseBody::None;
                true
            }
            ResponseBody::None | ResponseBody::UntilClose => true,
        }
    }

    pub(super) fn unsent(&self) -> usize {
        self.wire.unsent()
    }

    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.wire.poll_flush(cx)
    }

    /// How the client tells a cut response from a whole one.
    pub(super) fn cut(&mut self) -> Ends {
        self.close = true;
        match self.response {
            ResponseBody::UntilClose => Ends::Reset,
            ResponseBody::None | ResponseBody::Length(_) | ResponseBody::Chunked => Ends::Short,
        }
    }
}
