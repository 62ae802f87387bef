//! An upstream that speaks HTTP/2: requests are read by the `h2` crate, answers are frames that a script writes byte for
//! byte.
//!
//! The crate sits behind a pipe: it is shown all that comes in, and of what it would say only SETTINGS, acknowledgements,
//! answers to PINGs and windows go out. So a script may say what no library would, where and when it likes. The greeting
//! allows one stream at a time: what one row breaks is no other one's connection. Who plays which script is told in
//! [`super::upstream`]; the steps are those of [`super::script`].

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

use super::frames::{kind, setting, settings};
use super::record::{Left, Record, Request, SeenRequest, keep};
use super::script::{Script, Step};

/// Stands in a script for the stream of the request, in a frame's head or in what it holds.
pub const THIS: u32 = 0x7fff_fffd;

/// Chooses what is played.
pub(super) type Choose = dyn Fn(&Request) -> Script + Send + Sync;

/// Serves one connection to its end.
pub(super) async fn connection(stream: TcpStream, choose: &Choose, record: Arc<Record>) {
    let _ = stream.set_nodelay(true);
    let number = record.open();
    let (library, pipe) = tokio::io::duplex(PIPE);
    let (said, shown) = tokio::io::split(pipe);
    let (incoming, outgoing) = stream.into_split();
    let out = Arc::new(Out { stream: Mutex::new(outgoing), muted: AtomicBool::new(false) });
    let mut tasks = JoinSet::new();
    tasks.spawn(take_in(incoming, shown, Arc::clone(&record), number));
    tasks.spawn(let_out(said, Arc::clone(&out)));
    let Ok(mut frames) = h2::server::handshake(library).await else { return };
    let (over, mut ended) = mpsc::channel(1);
    let mut requests = 0;
    loop {
        let next = tokio::select! {
            next = frames.accept() => next,
            _ = ended.recv() => return,
        };
        let Some(Ok((request, respond))) = next else { return };
        requests += 1;
        let (parts, body) = request.into_parts();
        let head = Request::parse(text_of(&parts).into(), requests);
        let whole = body.is_end_stream();
        let seen = SeenRequest { head: head.clone(), body: Vec::new(), body_length: 0, whole };
        record.note(number, |entry| entry.requests.push(seen));
        let mut player = Player {
            stream: respond.stream_id().as_u32(),
            body,
            out: Arc::clone(&out),
            record: Arc::clone(&record),
            number,
        };
        let (script, over) = (choose(&head), over.clone());
        tasks.spawn(async move {
            // A step that is impossible ends the connection, as it does in HTTP/1.
            if !matches!(player.play(&script).await, Ok(true)) {
                let _ = over.send(()).await;
            }
            // Gone only now: for the library its stream is open for as long.
            drop(respond);
        });
    }
}

/// Larger than any window, so that nobody waits for the pipe.
const PIPE: usize = 1024 * 1024;

/// The way out.
struct Out {
    stream: Mutex<OwnedWriteHalf>,
    /// Of the library nothing goes out any more.
    muted: AtomicBool,
}

async fn take_in(
    mut incoming: OwnedReadHalf,
    mut shown: WriteHalf<DuplexStream>,
    record: Arc<Record>,
    number: usize,
) {
    let mut buffer = BytesMut::with_capacity(16 * 1024);
    loop {
        let outcome = incoming.read_buf(&mut buffer).await;
        let left = match &outcome {
            Ok(0) => Some(Left::Closed),
            Ok(_) => None,
            Err(_) => Some(Left::Reset),
        };
        record.note(number, |entry| {
            entry.received += buffer.len() as u64;
            keep(&mut entry.raw, &buffer);
            entry.left = entry.left.or(left);
        });
        if left.is_some() || shown.write_all(&buffer).await.is_err() {
            // The library sees the end too.
            let _ = shown.shutdown().await;
            return;
        }
        buffer.clear();
    }
}

/// Lets out what the library says about the connection, frame by frame, with a greeting of ours.
async fn let_out(mut said: ReadHalf<DuplexStream>, out: Arc<Out>) {
    let mut greeted = false;
    loop {
        let mut head = [0; 9];
        if said.read_exact(&mut head).await.is_err() {
            return;
        }
        let [a, b, c, sort, ..] = head;
        let mut whole = head.to_vec();
        whole.resize(9 + u32::from_be_bytes([0, a, b, c]) as usize, 0);
        let Some(payload) = whole.get_mut(9..) else { return };
        if said.read_exact(payload).await.is_err() {
            return;
        }
        if sort == kind::SETTINGS && !std::mem::replace(&mut greeted, true) {
            whole = settings(&[(setting::MAX_CONCURRENT_STREAMS, 1)]);
        }
        let passes = matches!(sort, kind::SETTINGS | kind::PING | kind::WINDOW_UPDATE)
            && !out.muted.load(Ordering::Acquire);
        if passes && out.stream.lock().await.write_all(&whole).await.is_err() {
            return;
        }
    }
}

/// A head in the form of HTTP/1, for the record.
fn text_of(parts: &http::request::Parts) -> Vec<u8> {
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
    let mut text = format!("{} {target} HTTP/2\r\n", parts.method).into_bytes();
    for (name, value) in &parts.headers {
        text.extend_from_slice(name.as_str().as_bytes());
        text.extend_from_slice(b": ");
        text.extend_from_slice(value.as_bytes());
        text.extend_from_slice(b"\r\n");
    }
    text.extend_from_slice(b"\r\n");
    text
}

/// Plays for one stream.
struct Player {
    stream: u32,
    body: RecvStream,
    out: Arc<Out>,
    record: Arc<Record>,
    number: usize,
}

impl Player {
    /// Says whether the connection serves on.
    async fn play(&mut self, script: &[Step]) -> io::Result<bool> {
        for step in script {
            match step {
                // The library has read it, and knows no other way to answer 100 than as part of a script.
                Step::ReadHead | Step::Continue | Step::Echo | Step::Mirror => {}
                Step::ReadBody => while self.next_piece().await?.is_some() {},
                Step::ReadBytes(wanted) => {
                    let mut read = 0;
                    while read < *wanted
                        && let Some(length) = self.next_piece().await?
                    {
                        read += length as u64;
                    }
                }
                Step::Write(bytes) => self.write(bytes).await?,
                Step::Drip { bytes, every } => {
                    let bytes = self.named(bytes);
                    for at in 0..bytes.len() {
                        self.write(&bytes.slice(at..=at)).await?;
                        tokio::time::sleep(*every).await;
                    }
                }
                Step::Repeat { bytes, times, every } => {
                    for _ in 0..*times {
                        self.write(bytes).await?;
                        tokio::time::sleep(*every).await;
                    }
                }
                Step::Pause(time) => tokio::time::sleep(*time).await,
                Step::Wait(gate) => gate.opened().await,
                Step::Open(gate) => gate.open(),
                Step::Mute => self.out.muted.store(true, Ordering::Release),
                Step::HalfClose => self.out.stream.lock().await.shutdown().await?,
                // Others of its connection are served meanwhile; it ends with them.
                Step::Hang | Step::Freeze => std::future::pending().await,
                Step::Close => {
                    self.out.stream.lock().await.shutdown().await?;
                    // Until the other side has left, so that no unread byte turns the FIN into a reset.
                    let left = || self.record.left(self.number);
                    let mut patience = 100;
                    while !left() && patience > 0 {
                        tokio::time::sleep(Duration::from_millis(10)).await;
                        patience -= 1;
                    }
                    return Ok(false);
                }
                Step::Abandon => return Ok(false),
                Step::Reset => {
                    let stream = self.out.stream.lock().await;
                    let _ = SockRef::from(stream.as_ref()).set_linger(Some(Duration::ZERO));
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// The length of the next piece of the request body; its window is opened again.
    async fn next_piece(&mut self) -> io::Result<Option<usize>> {
        let piece = match self.body.data().await {
            Some(piece) => Some(piece.map_err(io::Error::other)?),
            None => None,
        };
        self.record.note(self.number, |entry| {
            if let Some(request) = entry.requests.last_mut() {
                request.whole |= piece.is_none();
                let piece = piece.as_deref().unwrap_or_default();
                request.body_length += piece.len() as u64;
                keep(&mut request.body, piece);
            }
        });
        let length = piece.map(|piece| piece.len());
        let _ = self.body.flow_control().release_capacity(length.unwrap_or_default());
        Ok(length)
    }

    async fn write(&self, bytes: &Bytes) -> io::Result<()> {
        self.out.stream.lock().await.write_all(&self.named(bytes)).await
    }

    /// With this stream in every place of [`THIS`].
    fn named(&self, bytes: &Bytes) -> Bytes {
        let (mark, name) = (THIS.to_be_bytes(), self.stream.to_be_bytes());
        let mut named = Vec::with_capacity(bytes.len());
        let mut rest: &[u8] = bytes;
        while let Some((first, others)) = rest.split_first() {
            match rest.strip_prefix(&mark) {
                Some(behind) => {
                    named.extend_from_slice(&name);
                    rest = behind;
                }
                None => {
                    named.push(*first);
                    rest = others;
                }
            }
        }
        named.into()
    }
}
