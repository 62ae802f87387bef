//! An upstream that parses requests strictly, so that an ambiguous request is detected, and replays given bytes.
//!
//! A request that is not strictly valid, or that the lenient readers parse differently, is recorded as a violation. The
//! upstream does not check the effect of its responses.

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
use super::lenient_readers::{self, DuplicatePolicy};
use super::request_reader::{MessageSource, ParsedRequest, ReadResult, read};

/// Behaviour after a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterResponse {
    /// Reads the next request.
    Serve,
    Close,
    Reset,
    /// Sends nothing until the gateway closes.
    Stall,
}

/// A scripted response.
#[derive(Clone, Debug)]
pub struct PeerScript {
    /// Fragments, each written in its own segment.
    pub fragments: Vec<Vec<u8>>,
    pub after_response: AfterResponse,
    /// Respond before the request body has arrived.
    pub early: bool,
}

/// A request that reached the upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForwardedRequest {
    pub method: String,
    pub target: String,
    pub body: Vec<u8>,
}

#[derive(Default)]
struct PeerState {
    scripts: Mutex<HashMap<String, PeerScript>>,
    forwarded: Mutex<Vec<ForwardedRequest>>,
    keeps_requests: AtomicBool,
    violations: Mutex<Vec<String>>,
}

/// The upstream; dropping it closes all connections.
pub struct StrictUpstream {
    address: SocketAddr,
    shared: Arc<PeerState>,
    runtime: Option<Runtime>,
}

impl StrictUpstream {
    pub fn start() -> StrictUpstream {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let shared = Arc::new(PeerState::default());
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::clone(&shared);
        runtime.spawn(async move {
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => drop(tokio::spawn(serve(stream, Arc::clone(&state)))),
                    // Out of descriptors: open connections will close.
                    Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
                }
            }
        });
        StrictUpstream { address, shared, runtime: Some(runtime) }
    }

    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Responds with this script to requests for this target.
    pub fn set_script(&self, target: &str, script: PeerScript) {
        self.shared.scripts.lock().insert(target.to_owned(), script);
    }

    pub fn remove_script(&self, target: &str) {
        self.shared.scripts.lock().remove(target);
    }

    /// Records every request from now on, for [`StrictUpstream::forwarded`].
    pub fn keep_requests(&self) {
        self.shared.keeps_requests.store(true, Ordering::Relaxed);
    }

    /// Complete requests for targets with this prefix, in order.
    pub fn forwarded(&self, prefix: &str) -> Vec<ForwardedRequest> {
        let requests = self.shared.forwarded.lock();
        requests.iter().filter(|request| request.target.starts_with(prefix)).cloned().collect()
    }

    /// Invalid or ambiguous requests.
    pub fn violations(&self) -> Vec<String> {
        self.shared.violations.lock().clone()
    }
}

impl Drop for StrictUpstream {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn serve(mut stream: TcpStream, shared: Arc<PeerState>) {
    let _ = stream.set_nodelay(true);
    let mut buffer = Vec::new();
    let mut continued = false;
    loop {
        let (script, length) = match read(&buffer, MessageSource::Gateway) {
            ReadResult::Complete(head, body, length) => {
                shared.record(&head, body, &buffer, length);
                (shared.choose(&head), length)
            }
            ReadResult::IncompleteBody(head) if shared.choose(&head).early => {
                (shared.choose(&head), buffer.len())
            }
            ReadResult::IncompleteBody(head) if head.header("expect").is_some() && !continued => {
                continued = true;
                if stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.is_err() {
                    return;
                }
                continue;
            }
            ReadResult::Incomplete | ReadResult::IncompleteBody(_) => {
                match stream.read_buf(&mut buffer).await {
                    Ok(1..) => continue,
                    // An incomplete request of a client ends here.
                    Ok(0) | Err(_) => return,
                }
            }
            ReadResult::Malformed(what) | ReadResult::MalformedBody(_, what) => {
                return shared.violations.lock().push(format!("{what}: {}", buffer.escape_ascii()));
            }
        };
        buffer.drain(..length);
        continued = false;
        if run_script(&mut stream, &script).await.is_err() || script.after_response != AfterResponse::Serve {
            return;
        }
    }
}

async fn run_script(stream: &mut TcpStream, script: &PeerScript) -> io::Result<()> {
    for (index, piece) in script.fragments.iter().enumerate() {
        if index > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        stream.write_all(piece).await?;
    }
    match script.after_response {
        AfterResponse::Serve => {}
        AfterResponse::Reset => socket2::SockRef::from(&*stream).set_linger(Some(Duration::ZERO))?,
        AfterResponse::Close => {
            stream.shutdown().await?;
            let _ = tokio::time::timeout(millis(1000), read_to_end(stream)).await;
        }
        AfterResponse::Stall => {
            let _ = tokio::time::timeout(limit(), read_to_end(stream)).await;
        }
    }
    Ok(())
}

async fn read_to_end(stream: &mut TcpStream) {
    let mut room = [0; 4096];
    while matches!(stream.read(&mut room).await, Ok(1..)) {}
}

impl PeerState {
    /// Compares a complete request, the first `length` bytes of `received`, with the lenient readers.
    fn record(&self, head: &ParsedRequest, body: Vec<u8>, received: &[u8], length: usize) {
        let strict = (head.method.clone(), head.target.clone(), body);
        for policy in [DuplicatePolicy::First, DuplicatePolicy::Last] {
            let (seen, rest) = lenient_readers::read_all(received, policy);
            if seen != [strict.clone()] || !rest.is_empty() || length != received.len() {
                let violation =
                    format!("a lenient reader that uses the {policy:?} length parses {seen:?} and {rest:?}");
                self.violations.lock().push(format!("{violation}: {}", received.escape_ascii()));
            }
        }
        if self.keeps_requests.load(Ordering::Relaxed) {
            let (method, target, body) = strict;
            self.forwarded.lock().push(ForwardedRequest { method, target, body });
        }
    }

    fn choose(&self, head: &ParsedRequest) -> PeerScript {
        let state = self.scripts.lock().get(&head.target).cloned();
        state.unwrap_or_else(|| success_response(&head.method, &head.target))
    }
}

/// The response of a correct upstream, sometimes an error; announces a close.
fn success_response(method: &str, target: &str) -> PeerScript {
    let has = |word: &str| target.contains(word);
    let response_bytes = |status: &str, body: &str| {
        format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
    };
    let fine = response_bytes("200 OK\r\ncontent-type: text/plain", "fine");
    let (mut pieces, mut then) = (vec![fine.clone()], AfterResponse::Serve);
    if has("/until") {
        (pieces, then) = (
            vec![b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nfi".to_vec(), b"ne".to_vec()],
            AfterResponse::Close,
        );
    } else if has("/chunks") {
        pieces = vec![
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nfi\r\n".to_vec(),
            b"2;x=y\r\nne\r\n0\r\nx-trailer: 1\r\n\r\n".to_vec(),
        ];
    } else if has("/hints") {
        pieces = vec![b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n".to_vec(), fine];
    } else if has("/broken") {
        pieces = vec![response_bytes("502 Bad Gateway\r\ncontent-type: text/html", "<h1>502</h1>")];
    } else if has("/taken") {
        let conforming_body = r#"{"message":"Taken.","code":409}"#;
        pieces = vec![response_bytes("409 Conflict\r\ncontent-type: application/json", conforming_body)];
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
        pieces =
            vec![response_bytes("200 OK\r\nconnection: close", if method == "HEAD" { "" } else { "fine" })];
    }
    PeerScript { fragments: pieces, after_response: if early { AfterResponse::Close } else { then }, early }
}
