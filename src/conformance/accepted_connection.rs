//! One accepted connection: reads requests leniently, keeps the record, writes what it is told.
//!
//! It must understand just enough HTTP/1 to know where a request ends; it never refuses one. Whether the gateway's
//! bytes are right is for tests to judge by the raw record. The steps themselves are in [`mod@super::script_runner`].

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::recorder::{PeerClose, RecordedHead, RecordedRequest, Recorder, append_capped};

/// What is left of the current request's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BodyState {
    /// Nothing.
    Done,
    /// So many bytes.
    Remaining(u64),
    /// A chunk size line comes next.
    ChunkSize,
    /// So many bytes of a chunk.
    ChunkRemaining(u64),
    /// The line end after a chunk.
    ChunkEnd,
    /// Trailer lines and the blank one.
    Trailers,
}

/// A connection with a client.
pub(super) struct AcceptedConnection {
    stream: TcpStream,
    buffer: BytesMut,
    recorder: Arc<Recorder>,
    number: usize,
    /// Request heads read so far.
    request_count: usize,
    body_state: BodyState,
    /// A head was read to choose the script and no step has asked for it yet.
    unread_head: bool,
    expects_continue: bool,
}

impl AcceptedConnection {
    pub(super) fn new(stream: TcpStream, recorder: Arc<Recorder>) -> AcceptedConnection {
        // Each write is to leave as its own segment: a script means its pauses.
        let _ = stream.set_nodelay(true);
        let number = recorder.add_connection();
        let buffer = BytesMut::with_capacity(16 * 1024);
        AcceptedConnection {
            stream,
            buffer,
            recorder,
            number,
            request_count: 0,
            body_state: BodyState::Done,
            unread_head: false,
            expects_continue: false,
        }
    }

    /// Waits until there is a byte to read.
    pub(super) async fn wait_for_data(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() { self.fill().await } else { Ok(()) }
    }

    /// Reads one head and leaves it for the script's own [`AcceptedConnection::take_request_head`].
    pub(super) async fn read_request_head(&mut self) -> io::Result<RecordedHead> {
        let end = loop {
            if let Some(at) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            self.fill().await?;
        };
        self.request_count += 1;
        let request = RecordedHead::parse(self.buffer.split_to(end).freeze(), self.request_count);
        self.body_state = initial_body_state(&request);
        self.expects_continue =
            request.header("expect").is_some_and(|value| value.eq_ignore_ascii_case("100-continue"));
        self.unread_head = true;
        let complete = self.body_state == BodyState::Done;
        let seen = RecordedRequest { head: request.clone(), body: Vec::new(), body_length: 0, complete };
        self.recorder.update(self.number, |entry| entry.requests.push(seen));
        Ok(request)
    }

    /// The script's wish to read a head: reads one unless that was done to choose the script.
    pub(super) async fn take_request_head(&mut self) -> io::Result<()> {
        if !self.unread_head {
            self.read_request_head().await?;
        }
        self.unread_head = false;
        Ok(())
    }

    /// The script is over: what it did not ask for is forgotten, the rest of the body is read.
    pub(super) async fn finish_request(&mut self) -> io::Result<()> {
        self.unread_head = false;
        while self.next_body_chunk().await?.is_some() {}
        Ok(())
    }

    /// The next piece of the body without its framing; `None` at its end.
    pub(super) async fn next_body_chunk(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            match self.body_state {
                BodyState::Done => return Ok(None),
                BodyState::Remaining(remaining) => {
                    let chunk = self.take(remaining).await?;
                    let remaining = remaining.saturating_sub(chunk.len() as u64);
                    self.body_state =
                        if remaining == 0 { BodyState::Done } else { BodyState::Remaining(remaining) };
                    self.record_body(&chunk);
                    return Ok(Some(chunk));
                }
                BodyState::ChunkSize => {
                    let line = self.read_line().await?;
                    let digits = line.split(';').next().unwrap_or_default().trim();
                    let size = u64::from_str_radix(digits, 16).map_err(io::Error::other)?;
                    self.body_state =
                        if size == 0 { BodyState::Trailers } else { BodyState::ChunkRemaining(size) };
                }
                BodyState::ChunkRemaining(remaining) => {
                    let chunk = self.take(remaining).await?;
                    let remaining = remaining.saturating_sub(chunk.len() as u64);
                    self.body_state = if remaining == 0 {
                        BodyState::ChunkEnd
                    } else {
                        BodyState::ChunkRemaining(remaining)
                    };
                    self.record_body(&chunk);
                    return Ok(Some(chunk));
                }
                BodyState::ChunkEnd => {
                    self.read_line().await?;
                    self.body_state = BodyState::ChunkSize;
                }
                BodyState::Trailers => {
                    if self.read_line().await?.is_empty() {
                        self.body_state = BodyState::Done;
                        self.record_body(&Bytes::new());
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
    pub(super) async fn echo_raw(&mut self) -> io::Result<()> {
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
    pub(super) async fn send_continue(&mut self) -> io::Result<()> {
        if !std::mem::take(&mut self.expects_continue) {
            return Ok(());
        }
        self.write(b"HTTP/1.1 100 Continue\r\n\r\n").await
    }

    pub(super) async fn shutdown_write(&mut self) -> io::Result<()> {
        self.stream.shutdown().await
    }

    /// FIN, then reads on for a second at most: closing with unread bytes would reset the connection.
    pub(super) async fn close(&mut self) {
        if self.shutdown_write().await.is_ok() {
            #[expect(clippy::disallowed_methods, reason = "not the request path")]
            let _ = tokio::time::timeout(Duration::from_secs(1), self.read_to_end()).await;
        }
    }

    /// The next close of the socket is a reset.
    pub(super) fn reset_on_close(&self) {
        let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
    }

    async fn take(&mut self, at_most: u64) -> io::Result<Bytes> {
        self.wait_for_data().await?;
        let size = usize::try_from(at_most).unwrap_or(usize::MAX).min(self.buffer.len());
        Ok(self.buffer.split_to(size).freeze())
    }

    async fn read_line(&mut self) -> io::Result<String> {
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
        let (size, remaining) = match &outcome {
            Ok(0) => (0, Some(PeerClose::Fin)),
            Ok(size) => (*size, None),
            Err(_) => (0, Some(PeerClose::Reset)),
        };
        let bytes = self.buffer.get(before..).unwrap_or_default();
        self.recorder.update(self.number, |entry| {
            entry.received += size as u64;
            append_capped(&mut entry.raw, bytes);
            entry.peer_close = entry.peer_close.or(remaining);
        });
        match outcome {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn record_body(&self, chunk: &[u8]) {
        let complete = self.body_state == BodyState::Done;
        self.recorder.update(self.number, |entry| {
            if let Some(request) = entry.requests.last_mut() {
                request.body_length += chunk.len() as u64;
                append_capped(&mut request.body, chunk);
                request.complete |= complete;
            }
        });
    }
}

/// Where a request's body ends, by the plainest reading of its head.
fn initial_body_state(request: &RecordedHead) -> BodyState {
    if request
        .header("transfer-encoding")
        .is_some_and(|value| value.to_ascii_lowercase().ends_with("chunked"))
    {
        return BodyState::ChunkSize;
    }
    match request.header("content-length").and_then(|value| value.parse().ok()) {
        None | Some(0) => BodyState::Done,
        Some(length) => BodyState::Remaining(length),
    }
}
