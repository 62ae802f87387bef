//! An upstream that reads strictly, so that a request which could be read in two ways does not go unseen, and that plays
//! whatever bytes it was told to.
//!
//! What is not strictly one request, or not the same request to the lenient readers, is kept as a breach. It knows
//! nothing of the gateway before it and does not judge what comes of its bytes.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};

use super::super::load::{limit, millis};
use super::lenient::{self, Takes};
use super::request_reader::{From, Head, Read, read};

/// What follows the bytes of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// The next request.
    Serve,
    Close,
    Reset,
    /// Nothing, until the gateway leaves.
    Hang,
}

/// What is answered.
#[derive(Clone, Debug)]
pub struct Play {
    /// Written one after the other, each in a segment of its own.
    pub pieces: Vec<Vec<u8>>,
    pub then: Then,
    /// Before the body of the request has come.
    pub early: bool,
}

/// A request that reached the upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forwarded {
    pub method: String,
    pub target: String,
    pub body: Vec<u8>,
}

#[derive(Default)]
struct Shared {
    plays: Mutex<HashMap<String, Play>>,
    forwarded: Mutex<Vec<Forwarded>>,
    keeps: AtomicBool,
    breaches: Mutex<Vec<String>>,
}

/// The upstream. Dropping it ends every connection.
pub struct Peer {
    address: SocketAddr,
    shared: Arc<Shared>,
    runtime: Option<Runtime>,
}

impl Peer {
    pub fn start() -> Peer {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let shared = Arc::new(Shared::default());
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let told = Arc::clone(&shared);
        runtime.spawn(async move {
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => drop(tokio::spawn(serve(stream, Arc::clone(&told)))),
                    // Without a descriptor: those that are open will end.
                    Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
                }
            }
        });
        Peer { address, shared, runtime: Some(runtime) }
    }

    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers requests for this target so.
    pub fn play(&self, target: &str, play: Play) {
        self.shared.plays.lock().insert(target.to_owned(), play);
    }

    pub fn forget(&self, target: &str) {
        self.shared.plays.lock().remove(target);
    }

    /// Keeps every request from now on, for [`Peer::forwarded`].
    pub fn keep(&self) {
        self.shared.keeps.store(true, Ordering::Relaxed);
    }

    /// The whole requests that came for targets which begin so, in their order.
    pub fn forwarded(&self, prefix: &str) -> Vec<Forwarded> {
        let all = self.shared.forwarded.lock();
        all.iter().filter(|request| request.target.starts_with(prefix)).cloned().collect()
    }

    /// What was not one clear request.
    pub fn breaches(&self) -> Vec<String> {
        self.shared.breaches.lock().clone()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn serve(mut stream: TcpStream, shared: Arc<Shared>) {
    let _ = stream.set_nodelay(true);
    let mut buffer = Vec::new();
    let mut continued = false;
    loop {
        let (play, used) = match read(&buffer, From::Gateway) {
            Read::Whole(head, body, used) => {
                shared.note(&head, body, &buffer, used);
                (shared.choose(&head), used)
            }
            Read::Body(head) if shared.choose(&head).early => (shared.choose(&head), buffer.len()),
            Read::Body(head) if head.field("expect").is_some() && !continued => {
                continued = true;
                if stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.is_err() {
                    return;
                }
                continue;
            }
            Read::More | Read::Body(_) => match stream.read_buf(&mut buffer).await {
                Ok(1..) => continue,
                // What the client did not send in full ends so.
                Ok(0) | Err(_) => return,
            },
            Read::Broken(what) | Read::BrokenBody(_, what) => {
                return shared.breaches.lock().push(format!("{what}: {}", buffer.escape_ascii()));
            }
        };
        buffer.drain(..used);
        continued = false;
        if perform(&mut stream, &play).await.is_err() || play.then != Then::Serve {
            return;
        }
    }
}

async fn perform(stream: &mut TcpStream, play: &Play) -> io::Result<()> {
    for (index, piece) in play.pieces.iter().enumerate() {
        if index > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        stream.write_all(piece).await?;
    }
    match play.then {
        Then::Serve => {}
        Then::Reset => socket2::SockRef::from(&*stream).set_linger(Some(Duration::ZERO))?,
        Then::Close => {
            stream.shutdown().await?;
            let _ = tokio::time::timeout(millis(1000), read_to_end(stream)).await;
        }
        Then::Hang => {
            let _ = tokio::time::timeout(limit(), read_to_end(stream)).await;
        }
    }
    Ok(())
}

async fn read_to_end(stream: &mut TcpStream) {
    let mut room = [0; 4096];
    while matches!(stream.read(&mut room).await, Ok(1..)) {}
}

impl Shared {
    /// Holds a whole request, `used` bytes of what has come, against the lenient readers.
    fn note(&self, head: &Head, body: Vec<u8>, come: &[u8], used: usize) {
        let strict = (head.method.clone(), head.target.clone(), body);
        for takes in [Takes::First, Takes::Last] {
            let (seen, rest) = lenient::read_all(come, takes);
            if seen != [strict.clone()] || !rest.is_empty() || used != come.len() {
                let breach = format!("a reader that takes the {takes:?} length sees {seen:?} and {rest:?}");
                self.breaches.lock().push(format!("{breach}: {}", come.escape_ascii()));
            }
        }
        if self.keeps.load(Ordering::Relaxed) {
            let (method, target, body) = strict;
            self.forwarded.lock().push(Forwarded { method, target, body });
        }
    }

    fn choose(&self, head: &Head) -> Play {
        let told = self.plays.lock().get(&head.target).cloned();
        told.unwrap_or_else(|| good(&head.method, &head.target))
    }
}

/// What a good upstream answers; errors among it, as they come. It says so before it closes.
fn good(method: &str, target: &str) -> Play {
    let has = |word: &str| target.contains(word);
    let whole = |status: &str, body: &str| {
        format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
    };
    let fine = whole("200 OK\r\ncontent-type: text/plain", "fine");
    let (mut pieces, mut then) = (vec![fine.clone()], Then::Serve);
    if has("/until") {
        (pieces, then) =
            (vec![b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nfi".to_vec(), b"ne".to_vec()], Then::Close);
    } else if has("/chunks") {
        pieces = vec![
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nfi\r\n".to_vec(),
            b"2;x=y\r\nne\r\n0\r\nx-trailer: 1\r\n\r\n".to_vec(),
        ];
    } else if has("/hints") {
        pieces = vec![b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n".to_vec(), fine];
    } else if has("/broken") {
        pieces = vec![whole("502 Bad Gateway\r\ncontent-type: text/html", "<h1>502</h1>")];
    } else if has("/taken") {
        let own = r#"{"message":"Taken.","code":409}"#;
        pieces = vec![whole("409 Conflict\r\ncontent-type: application/json", own)];
    }
    if method == "HEAD" {
        let bytes = pieces.concat();
        let last_head = bytes.windows(4).rposition(|window| window == b"\r\n\r\n").unwrap_or(0);
        let body = if has("/chunks") {
            bytes.windows(4).position(|w| w == b"\r\n\r\n").unwrap_or(0)
        } else {
            last_head
        };
        pieces = vec![bytes[..body + 4].to_vec()];
    }
    let early = has("/early");
    if early {
        pieces = vec![whole("200 OK\r\nconnection: close", if method == "HEAD" { "" } else { "fine" })];
    }
    Play { pieces, then: if early { Then::Close } else { then }, early }
}
