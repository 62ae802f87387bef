//! One accepted connection: reads requests leniently, keeps the record, writes what it is told.
//!
//! It must understand just enough HTTP/1 to know where a request ends; it never refuses one. Whether the gateway's
//! bytes are right is for tests to judge by the raw record. The steps themselves are in [`mod@super::play`].

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::record::{Left, Record, Request, SeenRequest, keep};

/// What is left of the current request's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rest {
    /// Nothing.
    Done,
    /// So many bytes.
    Length(u64),
    /// A chunk size line comes next.
    ChunkSize,
    /// So many bytes of a chunk.
    Chunk(u64),
    /// The line end after a chunk.
    ChunkEnd,
    /// Trailer lines and the blank one.
    Trailers,
}

/// A connection with a client.
pub(super) struct Wire {
    stream: TcpStream,
    buffer: BytesMut,
    record: Arc<Record>,
    number: usize,
    /// Request heads read so far.
    heads: usize,
    rest: Rest,
    /// A head was read to choose the script and no step has asked for it yet.
    fresh_head: bool,
    wants_continue: bool,
}

impl Wire {
    pub(super) fn new(stream: TcpStream, record: Arc<Record>) -> Wire {
        // Each write is to leave as its own segment: a script means its pauses.
        let _ = stream.set_nodelay(true);
        let number = record.open();
        let buffer = BytesMut::with_capacity(16 * 1024);
        Wire {
            stream,
            buffer,
            record,
            number,
            heads: 0,
            rest: Rest::Done,
            fresh_head: false,
            wants_continue: false,
        }
    }

    /// Waits until there is a byte to read.
    pub(super) async fn first_byte(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() { self.fill().await } else { Ok(()) }
    }

    /// Reads one head and leaves it for the script's own [`Wire::take_head`].
    pub(super) async fn read_head(&mut self) -> io::Result<Request> {
        let end = loop {
            if let Some(at) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            self.fill().await?;
        };
        self.heads += 1;
        let request = Request::parse(self.buffer.split_to(end).freeze(), self.heads);
        self.rest = rest_of(&request);
        self.wants_continue =
            request.field("expect").is_some_and(|value| value.eq_ignore_ascii_case("100-continue"));
        self.fresh_head = true;
        let whole = self.rest == Rest::Done;
        let seen = SeenRequest { head: request.clone(), body: Vec::new(), body_length: 0, whole };
        self.record.note(self.number, |entry| entry.requests.push(seen));
        Ok(request)
    }

    /// The script's wish to read a head: reads one unless that was done to choose the script.
    pub(super) async fn take_head(&mut self) -> io::Result<()> {
        if !self.fresh_head {
            self.read_head().await?;
        }
        self.fresh_head = false;
        Ok(())
    }

    /// The script is over: what it did not ask for is forgotten, the rest of the body is read.
    pub(super) async fn finish_request(&mut self) -> io::Result<()> {
        self.fresh_head = false;
        while self.next_piece().await?.is_some() {}
        Ok(())
    }

    /// The next piece of the body without its framing; `None` at its end.
    pub(super) async fn next_piece(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            match self.rest {
                Rest::Done => return Ok(None),
                Rest::Length(left) => {
                    let piece = self.take(left).await?;
                    let left = left.saturating_sub(piece.len() as u64);
                    self.rest = if left == 0 { Rest::Done } else { Rest::Length(left) };
                    self.note_body(&piece);
                    return Ok(Some(piece));
                }
                Rest::ChunkSize => {
                    let line = self.line().await?;
                    let digits = line.split(';').next().unwrap_or_default().trim();
                    let size = u64::from_str_radix(digits, 16).map_err(io::Error::other)?;
                    self.rest = if size == 0 { Rest::Trailers } else { Rest::Chunk(size) };
                }
                Rest::Chunk(left) => {
                    let piece = self.take(left).await?;
                    let left = left.saturating_sub(piece.len() as u64);
                    self.rest = if left == 0 { Rest::ChunkEnd } else { Rest::Chunk(left) };
                    self.note_body(&piece);
                    return Ok(Some(piece));
                }
                Rest::ChunkEnd => {
                    self.line().await?;
                    self.rest = Rest::ChunkSize;
                }
                Rest::Trailers => {
                    if self.line().await?.is_empty() {
                        self.rest = Rest::Done;
                        self.note_body(&Bytes::new());
                    }
                }
            }
        }
    }

    /// Reads and records until the other side leaves.
    pub(super) async fn read_to_end(&mut self) {
        while self.fill().await.is_ok() {
            self.buffer.clear();
        }
    }

    /// Sends back what comes, until the other side ends its sending side.
    pub(super) async fn mirror(&mut self) -> io::Result<()> {
        loop {
            let bytes = self.buffer.split();
            self.write(&bytes).await?;
            match self.fill().await {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    pub(super) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// `100 Continue`, once, if the client waits for it.
    pub(super) async fn say_continue(&mut self) -> io::Result<()> {
        if !std::mem::take(&mut self.wants_continue) {
            return Ok(());
        }
        self.write(b"HTTP/1.1 100 Continue\r\n\r\n").await
    }

    pub(super) async fn half_close(&mut self) -> io::Result<()> {
        self.stream.shutdown().await
    }

    /// FIN, then reads on for a second at most: closing with unread bytes would reset the connection.
    pub(super) async fn close(&mut self) {
        if self.half_close().await.is_ok() {
            #[expect(clippy::disallowed_methods, reason = "not the request path")]
            let _ = tokio::time::timeout(Duration::from_secs(1), self.read_to_end()).await;
        }
    }

    /// The next close of the socket is a reset.
    pub(super) fn reset_on_close(&self) {
        let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
    }

    async fn take(&mut self, at_most: u64) -> io::Result<Bytes> {
        self.first_byte().await?;
        let size = usize::try_from(at_most).unwrap_or(usize::MAX).min(self.buffer.len());
        Ok(self.buffer.split_to(size).freeze())
    }

    async fn line(&mut self) -> io::Result<String> {
        let end = loop {
            if let Some(at) = self.buffer.iter().position(|byte| *byte == b'\n') {
                break at;
            }
            self.fill().await?;
        };
        let line = self.buffer.split_to(end);
        self.buffer.advance(1);
        Ok(String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned())
    }

    async fn fill(&mut self) -> io::Result<()> {
        let before = self.buffer.len();
        let outcome = self.stream.read_buf(&mut self.buffer).await;
        let (size, left) = match &outcome {
            Ok(0) => (0, Some(Left::Closed)),
            Ok(size) => (*size, None),
            Err(_) => (0, Some(Left::Reset)),
        };
        let bytes = self.buffer.get(before..).unwrap_or_default();
        self.record.note(self.number, |entry| {
            entry.received += size as u64;
            keep(&mut entry.raw, bytes);
            entry.left = entry.left.or(left);
        });
        match outcome {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn note_body(&self, piece: &[u8]) {
        let whole = self.rest == Rest::Done;
        self.record.note(self.number, |entry| {
            if let Some(request) = entry.requests.last_mut() {
                request.body_length += piece.len() as u64;
                keep(&mut request.body, piece);
                request.whole |= whole;
            }
        });
    }
}

/// Where a request's body ends, by the plainest reading of its head.
fn rest_of(request: &Request) -> Rest {
    if request.field("transfer-encoding").is_some_and(|value| value.to_ascii_lowercase().ends_with("chunked"))
    {
        return Rest::ChunkSize;
    }
    match request.field("content-length").and_then(|value| value.parse().ok()) {
        None | Some(0) => Rest::Done,
        Some(length) => Rest::Length(length),
    }
}
