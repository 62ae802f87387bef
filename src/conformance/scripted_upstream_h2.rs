//! An upstream that speaks HTTP/2: requests are read by the `h2` crate, answers are frames that a script writes byte for
//! byte.
//!
//! The crate sits behind a pipe: it is shown all that comes in, and of what it would say only SETTINGS, acknowledgements,
//! answers to PINGs and windows go out. So a script may say what no library would, where and when it likes. The greeting
//! allows one stream at a time: what one row breaks is no other one's connection. Who plays which script is told in
//! [`super::scripted_upstream`]; the steps are those of [`super::script`].

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use h2::RecvStream;
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;

use super::frames::{frame_type, setting_id, settings_frame};
use super::recorder::{PeerClose, RecordedHead, RecordedRequest, Recorder, append_capped};
use super::script::{Script, UpstreamStep};

/// Stands in a script for the stream of the request, in a frame's head or in what it holds.
pub const STREAM_PLACEHOLDER: u32 = 0x7fff_fffd;

/// Chooses what is played.
pub(super) type ScriptChooser = dyn Fn(&RecordedHead) -> Script + Send + Sync;

/// Serves one connection to its end.
pub(super) async fn serve_connection(stream: TcpStream, choose: &ScriptChooser, recorder: Arc<Recorder>) {
    let _ = stream.set_nodelay(true);
    let connection_index = recorder.add_connection();
    let (library, pipe) = tokio::io::duplex(PIPE_CAPACITY);
    let (library_output, library_input) = tokio::io::split(pipe);
    let (incoming, outgoing) = stream.into_split();
    let writer =
        Arc::new(SharedWriter { stream: Mutex::new(outgoing), acks_suppressed: AtomicBool::new(false) });
    let mut tasks = JoinSet::new();
    tasks.spawn(forward_input(incoming, library_input, Arc::clone(&recorder), connection_index));
    tasks.spawn(forward_output(library_output, Arc::clone(&writer)));
    let Ok(mut frames) = h2::server::handshake(library).await else { return };
    let (finished, mut closed) = mpsc::channel(1);
    let mut requests = 0;
    loop {
        let next = tokio::select! {
            next = frames.accept() => next,
            _ = closed.recv() => return,
        };
        let Some(Ok((request, respond))) = next else { return };
        requests += 1;
        let (parts, body) = request.into_parts();
        let head = RecordedHead::parse(http1_head(&parts).into(), requests);
        let complete = body.is_end_stream();
        let seen = RecordedRequest { head: head.clone(), body: Vec::new(), body_length: 0, complete };
        recorder.update(connection_index, |entry| entry.requests.push(seen));
        let mut player = StreamPlayer {
            stream: respond.stream_id().as_u32(),
            body,
            writer: Arc::clone(&writer),
            recorder: Arc::clone(&recorder),
            connection_index,
        };
        let (script, finished) = (choose(&head), finished.clone());
        tasks.spawn(async move {
            // A step that is impossible ends the connection, as it does in HTTP/1.
            if !matches!(player.run(&script).await, Ok(true)) {
                let _ = finished.send(()).await;
            }
            // Gone only now: for the library its stream is open for as long.
            drop(respond);
        });
    }
}

/// Larger than any window, so that nobody waits for the pipe.
const PIPE_CAPACITY: usize = 1024 * 1024;

/// The way out.
struct SharedWriter {
    stream: Mutex<OwnedWriteHalf>,
    /// Of the library nothing goes out any more.
    acks_suppressed: AtomicBool,
}

async fn forward_input(
    mut incoming: OwnedReadHalf,
    mut library_input: WriteHalf<DuplexStream>,
    recorder: Arc<Recorder>,
    connection_index: usize,
) {
    let mut buffer = BytesMut::with_capacity(16 * 1024);
    loop {
        let outcome = incoming.read_buf(&mut buffer).await;
        let peer_close = match &outcome {
            Ok(0) => Some(PeerClose::Fin),
            Ok(_) => None,
            Err(_) => Some(PeerClose::Reset),
        };
        recorder.update(connection_index, |entry| {
            entry.received += buffer.len() as u64;
            append_capped(&mut entry.raw, &buffer);
            entry.peer_close = entry.peer_close.or(peer_close);
        });
        if peer_close.is_some() || library_input.write_all(&buffer).await.is_err() {
            // The library sees the end too.
            let _ = library_input.shutdown().await;
            return;
        }
        buffer.clear();
    }
}

/// Lets out what the library says about the connection, frame by frame, with a greeting of ours.
async fn forward_output(mut library_output: ReadHalf<DuplexStream>, writer: Arc<SharedWriter>) {
    let mut greeted = false;
    loop {
        let mut head = [0; 9];
        if library_output.read_exact(&mut head).await.is_err() {
            return;
        }
        let [a, b, c, frame_type, ..] = head;
        let mut complete = head.to_vec();
        complete.resize(9 + u32::from_be_bytes([0, a, b, c]) as usize, 0);
        let Some(payload) = complete.get_mut(9..) else { return };
        if library_output.read_exact(payload).await.is_err() {
            return;
        }
        if frame_type == frame_type::SETTINGS && !std::mem::replace(&mut greeted, true) {
            complete = settings_frame(&[(setting_id::MAX_CONCURRENT_STREAMS, 1)]);
        }
        let passes =
            matches!(frame_type, frame_type::SETTINGS | frame_type::PING | frame_type::WINDOW_UPDATE)
                && !writer.acks_suppressed.load(Ordering::Acquire);
        if passes && writer.stream.lock().await.write_all(&complete).await.is_err() {
            return;
        }
    }
}

/// A head in the form of HTTP/1, for the record.
fn http1_head(parts: &http::request::Parts) -> Vec<u8> {
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
    let mut text = format!("{} {target} HTTP/2\r\n", parts.method).into_bytes();
    for (stream_id, value) in &parts.headers {
        text.extend_from_slice(stream_id.as_str().as_bytes());
        text.extend_from_slice(b": ");
        text.extend_from_slice(value.as_bytes());
        text.extend_from_slice(b"\r\n");
    }
    text.extend_from_slice(b"\r\n");
    text
}

/// Plays for one stream.
struct StreamPlayer {
    stream: u32,
    body: RecvStream,
    writer: Arc<SharedWriter>,
    recorder: Arc<Recorder>,
    connection_index: usize,
}

impl StreamPlayer {
    /// Says whether the connection serves on.
    async fn run(&mut self, script: &[UpstreamStep]) -> io::Result<bool> {
        for step in script {
            match step {
                // The library has read it, and knows no other way to answer 100 than as part of a script.
                UpstreamStep::ReadRequestHead
                | UpstreamStep::SendContinue
                | UpstreamStep::EchoBody
                | UpstreamStep::EchoRaw => {}
                UpstreamStep::ReadBody => while self.next_body_chunk().await?.is_some() {},
                UpstreamStep::ReadBodyBytes(minimum) => {
                    let mut read = 0;
                    while read < *minimum
                        && let Some(length) = self.next_body_chunk().await?
                    {
                        read += length as u64;
                    }
                }
                UpstreamStep::Write(bytes) => self.write(bytes).await?,
                UpstreamStep::WriteSlowly { bytes, interval } => {
                    let bytes = self.with_stream_id(bytes);
                    for at in 0..bytes.len() {
                        self.write(&bytes.slice(at..=at)).await?;
                        tokio::time::sleep(*interval).await;
                    }
                }
                UpstreamStep::WriteRepeated { bytes, count, interval } => {
                    for _ in 0..*count {
                        self.write(bytes).await?;
                        tokio::time::sleep(*interval).await;
                    }
                }
                UpstreamStep::Pause(time) => tokio::time::sleep(*time).await,
                UpstreamStep::WaitForGate(gate) => gate.wait().await,
                UpstreamStep::OpenGate(gate) => gate.open(),
                UpstreamStep::SuppressAcks => self.writer.acks_suppressed.store(true, Ordering::Release),
                UpstreamStep::ShutdownWrite => self.writer.stream.lock().await.shutdown().await?,
                // Others of its connection are served meanwhile; it ends with them.
                UpstreamStep::ReadUntilClose | UpstreamStep::Stall => std::future::pending().await,
                UpstreamStep::Close => {
                    self.writer.stream.lock().await.shutdown().await?;
                    // Until the other side has left, so that no unread byte turns the FIN into a reset.
                    let peer_close = || self.recorder.peer_has_closed(self.connection_index);
                    let mut attempts = 100;
                    while !peer_close() && attempts > 0 {
                        tokio::time::sleep(Duration::from_millis(10)).await;
                        attempts -= 1;
                    }
                    return Ok(false);
                }
                UpstreamStep::CloseAbruptly => return Ok(false),
                UpstreamStep::Reset => {
                    let stream = self.writer.stream.lock().await;
                    let _ = SockRef::from(stream.as_ref()).set_linger(Some(Duration::ZERO));
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// The length of the next piece of the request body; its window is opened again.
    async fn next_body_chunk(&mut self) -> io::Result<Option<usize>> {
        let chunk = match self.body.data().await {
            Some(chunk) => Some(chunk.map_err(io::Error::other)?),
            None => None,
        };
        self.recorder.update(self.connection_index, |entry| {
            if let Some(request) = entry.requests.last_mut() {
                request.complete |= chunk.is_none();
                let chunk = chunk.as_deref().unwrap_or_default();
                request.body_length += chunk.len() as u64;
                append_capped(&mut request.body, chunk);
            }
        });
        let length = chunk.map(|chunk| chunk.len());
        let _ = self.body.flow_control().release_capacity(length.unwrap_or_default());
        Ok(length)
    }

    async fn write(&self, bytes: &Bytes) -> io::Result<()> {
        self.writer.stream.lock().await.write_all(&self.with_stream_id(bytes)).await
    }

    /// With this stream in every place of [`STREAM_PLACEHOLDER`].
    fn with_stream_id(&self, bytes: &Bytes) -> Bytes {
        let (placeholder, stream_id) = (STREAM_PLACEHOLDER.to_be_bytes(), self.stream.to_be_bytes());
        let mut replaced = Vec::with_capacity(bytes.len());
        let mut rest: &[u8] = bytes;
        while let Some((first, tail)) = rest.split_first() {
            match rest.strip_prefix(&placeholder) {
                Some(tail) => {
                    replaced.extend_from_slice(&stream_id);
                    rest = tail;
                }
                None => {
                    replaced.push(*first);
                    rest = tail;
                }
            }
        }
        replaced.into()
    }
}
