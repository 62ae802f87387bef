//! One accepted connection of a scripted upstream: parses requests leniently, records them, and writes responses.
//!
//! It parses just enough HTTP/1 to find the end of a request and never rejects one. Tests check the gateway's bytes in
//! the raw recording. [`mod@super::script_runner`] executes the steps.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::recorder::{RecordedHead, Recorder};
use super::script_runner::ScriptedPeer;

/// The unread rest of the current request's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BodyState {
    /// The body is complete.
    Done,
    /// This many bytes, of a chunk or of the whole body; after those of a chunk, its line end.
    Data { remaining: u64, chunked: bool },
    /// A chunk size line.
    ChunkSize,
    /// Trailer lines and the final blank line.
    Trailers,
}

/// An accepted connection.
pub(super) struct AcceptedConnection {
    stream: TcpStream,
    buffer: BytesMut,
    recorder: Arc<Recorder>,
    number: usize,
    request_count: usize,
    body_state: BodyState,
    /// The headers were read to choose the script, and no step has consumed them yet.
    unread_head: bool,
    expects_continue: bool,
}

impl AcceptedConnection {
    pub(super) fn new(stream: TcpStream, recorder: Arc<Recorder>) -> AcceptedConnection {
        // Send each write as its own segment: scripts depend on their pauses.
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

    /// Reads a request line and header section; the script consumes it with [`AcceptedConnection::take_request_head`].
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
        self.recorder.record_request(self.number, &request, self.body_state == BodyState::Done);
        Ok(request)
    }

    /// Ends the request after its script: reads the rest of the body.
    pub(super) async fn finish_request(&mut self) -> io::Result<()> {
        self.unread_head = false;
        while self.next_body_chunk().await?.is_some() {}
        Ok(())
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
        self.recorder.record_read(self.number, &outcome, self.buffer.get(before..).unwrap_or_default());
        match outcome {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn record_body(&self, chunk: &[u8]) {
        self.recorder.record_body(self.number, chunk, self.body_state == BodyState::Done);
    }
}

impl ScriptedPeer for AcceptedConnection {
    /// Consumes the request headers; reads them unless they were read to choose the script.
    async fn take_request_head(&mut self) -> io::Result<()> {
        if !self.unread_head {
            self.read_request_head().await?;
        }
        self.unread_head = false;
        Ok(())
    }

    async fn wait_for_data(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() { self.fill().await } else { Ok(()) }
    }

    async fn next_body_chunk(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            match self.body_state {
                BodyState::Done => return Ok(None),
                BodyState::Data { remaining: 0, .. } => {
                    self.read_line().await?;
                    self.body_state = BodyState::ChunkSize;
                }
                BodyState::Data { remaining, chunked } => {
                    let chunk = self.take(remaining).await?;
                    let remaining = remaining.saturating_sub(chunk.len() as u64);
                    let is_last = remaining == 0 && !chunked;
                    self.body_state =
                        if is_last { BodyState::Done } else { BodyState::Data { remaining, chunked } };
                    self.record_body(&chunk);
                    return Ok(Some(chunk));
                }
                BodyState::ChunkSize => {
                    let line = self.read_line().await?;
                    let digits = line.split(';').next().unwrap_or_default().trim();
                    let size = u64::from_str_radix(digits, 16).map_err(io::Error::other)?;
                    let data = BodyState::Data { remaining: size, chunked: true };
                    self.body_state = if size == 0 { BodyState::Trailers } else { data };
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

    /// Reads and records until the peer closes.
    async fn read_to_end(&mut self) {
        while self.fill().await.is_ok() {
            self.buffer.clear();
        }
    }

    async fn echo_raw(&mut self) -> io::Result<()> {
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

    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    async fn send_continue(&mut self) -> io::Result<()> {
        if !std::mem::take(&mut self.expects_continue) {
            return Ok(());
        }
        self.write(b"HTTP/1.1 100 Continue\r\n\r\n").await
    }

    async fn shutdown_write(&mut self) -> io::Result<()> {
        self.stream.shutdown().await
    }

    async fn reset_on_close(&mut self) {
        let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
    }
}

/// The framing of the request body. Lenient: Transfer-Encoding wins over Content-Length.
fn initial_body_state(request: &RecordedHead) -> BodyState {
    if request
        .header("transfer-encoding")
        .is_some_and(|value| value.to_ascii_lowercase().ends_with("chunked"))
    {
        return BodyState::ChunkSize;
    }
    match request.header("content-length").and_then(|value| value.parse().ok()) {
        None | Some(0) => BodyState::Done,
        Some(remaining) => BodyState::Data { remaining, chunked: false },
    }
}
