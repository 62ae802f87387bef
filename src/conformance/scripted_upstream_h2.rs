//! A scripted HTTP/2 upstream: the `h2` crate reads requests, and scripts write the frames of the responses.
//!
//! The crate is connected through a pipe. It receives all input; of its output only SETTINGS, PING and WINDOW_UPDATE
//! frames are forwarded. So a script can send frames that no library would. SETTINGS_MAX_CONCURRENT_STREAMS is 1, so
//! that a row that breaks its connection affects no other row. [`super::scripted_upstream`] selects the scripts; the
//! steps are in [`super::step`].

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

use super::frames::{STREAM_PLACEHOLDER, frame_type, setting_id, settings_frame};
use super::recorder::{RecordedHead, Recorder};
use super::script_runner::{ScriptEnd, ScriptedPeer, run_script};
use super::step::Script;

/// Chooses the script for a request.
pub(super) type ScriptChooser = dyn Fn(&RecordedHead) -> Script + Send + Sync;

/// Serves one connection until it closes.
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
        recorder.record_request(connection_index, &head, body.is_end_stream());
        let mut player = StreamPlayer {
            stream: respond.stream_id().as_u32(),
            body,
            writer: Arc::clone(&writer),
            recorder: Arc::clone(&recorder),
            connection_index,
        };
        let (script, finished) = (choose(&head), finished.clone());
        tasks.spawn(async move {
            if run_script(&script, &mut player).await == ScriptEnd::Closed {
                let _ = finished.send(()).await;
            }
            // Dropped last: dropping it earlier makes the library reset the stream.
            drop(respond);
        });
    }
}

/// Larger than any flow-control window, so that the pipe never blocks.
const PIPE_CAPACITY: usize = 1024 * 1024;

/// The sending side of the connection, shared by the library's output and the scripts.
struct SharedWriter {
    stream: Mutex<OwnedWriteHalf>,
    /// Discard the library's output.
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
        recorder.record_read(connection_index, &outcome, &buffer);
        if !matches!(outcome, Ok(1..)) || library_input.write_all(&buffer).await.is_err() {
            // Signal the close to the library, too.
            let _ = library_input.shutdown().await;
            return;
        }
        buffer.clear();
    }
}

/// Forwards the library's SETTINGS, PING and WINDOW_UPDATE frames; replaces its first SETTINGS.
async fn forward_output(mut library_output: ReadHalf<DuplexStream>, writer: Arc<SharedWriter>) {
    let mut settings_sent = false;
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
        if frame_type == frame_type::SETTINGS && !std::mem::replace(&mut settings_sent, true) {
            complete = settings_frame(&[(setting_id::MAX_CONCURRENT_STREAMS, 1)]);
        }
        let forwards =
            matches!(frame_type, frame_type::SETTINGS | frame_type::PING | frame_type::WINDOW_UPDATE)
                && !writer.acks_suppressed.load(Ordering::Acquire);
        if forwards && writer.stream.lock().await.write_all(&complete).await.is_err() {
            return;
        }
    }
}

/// The request headers in HTTP/1 form, for the recording.
fn http1_head(parts: &http::request::Parts) -> Vec<u8> {
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
    let mut text = format!("{} {target} HTTP/2\r\n", parts.method).into_bytes();
    for (name, value) in &parts.headers {
        text.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    text.extend_from_slice(b"\r\n");
    text
}

/// Runs the script of one stream.
struct StreamPlayer {
    stream: u32,
    body: RecvStream,
    writer: Arc<SharedWriter>,
    recorder: Arc<Recorder>,
    connection_index: usize,
}

impl ScriptedPeer for StreamPlayer {
    async fn next_body_chunk(&mut self) -> io::Result<Option<Bytes>> {
        let chunk = self.body.data().await.transpose().map_err(io::Error::other)?;
        let bytes = chunk.as_deref().unwrap_or_default();
        self.recorder.record_body(self.connection_index, bytes, chunk.is_none());
        let _ = self.body.flow_control().release_capacity(bytes.len());
        Ok(chunk)
    }

    /// Replaces every [`STREAM_PLACEHOLDER`] with the stream identifier.
    fn on_wire(&self, bytes: &Bytes) -> Bytes {
        let mut replaced = bytes.to_vec();
        for at in memchr::memmem::find_iter(bytes, &STREAM_PLACEHOLDER.to_be_bytes()) {
            let places = replaced.iter_mut().skip(at);
            places.zip(self.stream.to_be_bytes()).for_each(|(place, octet)| *place = octet);
        }
        replaced.into()
    }

    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.writer.stream.lock().await.write_all(bytes).await
    }

    fn suppress_acks(&self) {
        self.writer.acks_suppressed.store(true, Ordering::Release);
    }

    async fn shutdown_write(&mut self) -> io::Result<()> {
        self.writer.stream.lock().await.shutdown().await
    }

    /// The library reads.
    async fn read_to_end(&mut self) {
        while !self.recorder.peer_has_closed(self.connection_index) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn reset_on_close(&mut self) {
        let stream = self.writer.stream.lock().await;
        let _ = SockRef::from(stream.as_ref()).set_linger(Some(Duration::ZERO));
    }
}
