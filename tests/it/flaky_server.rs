//! A server whose behaviour changes while it runs: for tests of ejection, health checks and retries under load.
//!
//! It counts how often it received each request, by the number in its path (`/r/7`), and what became of it. No request
//! is lost on the way: a server that stops accepts every connection that was established, and reads every connection to
//! its end. So its counts can be compared with those of a gateway exactly.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use socket2::{Domain, SockAddr, SockFilter, SockRef, Socket, Type};

use super::load::limit;

/// What a server does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behavior {
    /// Responds with 200.
    Works,
    /// Responds ten times slower.
    Slow,
    /// Reads requests and does not respond to them, whatever it does later.
    Hangs,
    /// Resets the connection after the request.
    Resets,
    /// Promises two bytes of a body, and closes after the first.
    Truncates,
    /// Responds with 500 to seven of ten requests; the health check still works.
    MostlyFails,
    /// Does not listen. Requests in progress are finished, idle connections closed.
    Refuses,
    /// Listens, but accepts no connection. Idle connections are closed.
    Blackholes,
}

/// The number of requests with this identifier that a server received.
pub type Received = Arc<Mutex<HashMap<u32, u32>>>;

/// What became of the requests that a server received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// The header section of a response was sent.
    pub answered: u32,
    /// They got none, and a proxy may not repeat them without counting another attempt.
    pub lost: u32,
    /// They got none, but are idempotent and came on a connection that had served another request before: it may have
    /// been stale, so a proxy repeats them without counting an attempt.
    pub moved: u32,
}

/// The server; it stops when it is dropped.
pub struct FlakyServer {
    address: SocketAddr,
    state: Arc<FlakyState>,
    acceptor: Option<JoinHandle<()>>,
}

struct FlakyState {
    behavior: Mutex<Behavior>,
    stopped: AtomicBool,
    seen: Mutex<Seen>,
    received: Received,
}

/// A connection, from its first request on.
struct FlakyConnection {
    stream: TcpStream,
    /// Whether a request on it has had a response.
    used: bool,
}

/// A request, as far as it is of interest.
struct FlakyRequest {
    /// `None` for a health check.
    number: Option<u32>,
    is_idempotent: bool,
}

const POLL: Duration = Duration::from_millis(5);
/// How long a working server takes to respond.
const SERVICE_TIME: Duration = Duration::from_millis(2);

impl FlakyServer {
    pub fn start(received: &Received) -> FlakyServer {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(FlakyState {
            behavior: Mutex::new(Behavior::Works),
            stopped: AtomicBool::new(false),
            seen: Mutex::default(),
            received: Arc::clone(received),
        });
        let of_thread = Arc::clone(&state);
        let acceptor = std::thread::spawn(move || accept(address, listener, &of_thread));
        FlakyServer { address, state, acceptor: Some(acceptor) }
    }

    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn set(&self, behavior: Behavior) {
        *self.state.behavior.lock().unwrap() = behavior;
    }

    /// Waits until the port accepts connections, or refuses them.
    pub fn wait_until_accepting(&self, accepting: bool) {
        let deadline = Instant::now() + limit();
        while TcpStream::connect(self.address).is_ok() != accepting {
            assert!(Instant::now() < deadline, "the server does not change");
            std::thread::sleep(POLL);
        }
    }

    /// What became of the requests, without health checks.
    pub fn seen(&self) -> Seen {
        *self.state.seen.lock().unwrap()
    }
}

impl Drop for FlakyServer {
    fn drop(&mut self) {
        self.state.stopped.store(true, Ordering::Relaxed);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

impl FlakyState {
    fn behavior(&self) -> Behavior {
        *self.behavior.lock().unwrap()
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    fn accepts(&self) -> bool {
        !matches!(self.behavior(), Behavior::Refuses | Behavior::Blackholes)
    }

    fn count(&self, change: impl FnOnce(&mut Seen)) {
        change(&mut self.seen.lock().unwrap());
    }

    fn count_without_response(&self, request: &FlakyRequest, used: bool) {
        if request.number.is_some() {
            let moves = used && request.is_idempotent;
            self.count(|seen| if moves { seen.moved += 1 } else { seen.lost += 1 });
        }
    }
}

fn accept(address: SocketAddr, listener: TcpListener, state: &Arc<FlakyState>) {
    let mut listener = Some(listener);
    let mut blackhole: Option<Socket> = None;
    while !state.is_stopped() {
        match (state.behavior(), &listener) {
            (Behavior::Refuses, _) => {
                stop_listening(listener.take(), state);
                blackhole = None;
            }
            (Behavior::Blackholes, _) if blackhole.is_none() => {
                stop_listening(listener.take(), state);
                blackhole = listen_to_nothing(address);
            }
            (Behavior::Blackholes, _) => {}
            (_, None) => {
                blackhole = None;
                // The port may still be in use for a moment.
                listener = TcpListener::bind(address).ok();
            }
            (_, Some(listening)) => accept_waiting(listening, state),
        }
        std::thread::sleep(POLL);
    }
}

/// Closes a listener. First it ignores new connections, then those are accepted that wait: they would be reset, with
/// the requests that they have sent.
fn stop_listening(listener: Option<TcpListener>, state: &Arc<FlakyState>) {
    let Some(listening) = listener else { return };
    ignore_packets(&SockRef::from(&listening));
    accept_waiting(&listening, state);
}

fn accept_waiting(listening: &TcpListener, state: &Arc<FlakyState>) {
    listening.set_nonblocking(true).unwrap();
    while let Ok((stream, _)) = listening.accept() {
        let state = Arc::clone(state);
        std::thread::spawn(move || serve(stream, &state));
    }
}

/// A listener that does not reply to connection attempts. `None` if the port is still in use.
fn listen_to_nothing(address: SocketAddr) -> Option<Socket> {
    let listening = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    listening.set_reuse_address(true).unwrap();
    listening.bind(&SockAddr::from(address)).ok()?;
    ignore_packets(&SockRef::from(&listening));
    listening.listen(1).ok()?;
    Some(listening)
}

/// Drops what arrives at a listener. Connections that it has established are not affected.
fn ignore_packets(listening: &SockRef<'_>) {
    /// `BPF_RET | BPF_K`: the packet is cut to this length.
    const RETURN: u16 = 0x06;
    // Where filters are not allowed, a connection may be lost on rare occasions.
    let _ = listening.attach_filter(&[SockFilter::new(RETURN, 0, 0, 0)]);
}

fn serve(stream: TcpStream, state: &FlakyState) {
    let _ = (stream.set_nonblocking(false), stream.set_nodelay(true), stream.set_read_timeout(Some(POLL)));
    let mut connection = FlakyConnection { stream, used: false };
    let may_close = || state.is_stopped() || !state.accepts();
    while let Some(request) = connection.read_request(may_close) {
        if let Some(number) = request.number {
            *state.received.lock().unwrap().entry(number).or_default() += 1;
        }
        match connection.respond(&request, state) {
            AfterResponse::Open => connection.used = true,
            AfterResponse::Close => break,
            AfterResponse::Closed => return,
        }
    }
    // A request may be on its way.
    let _ = connection.stream.shutdown(Shutdown::Write);
    while let Some(request) = connection.read_request(|| state.is_stopped()) {
        if let Some(number) = request.number {
            *state.received.lock().unwrap().entry(number).or_default() += 1;
        }
        state.count_without_response(&request, connection.used);
    }
}

/// What happens to a connection after a request.
enum AfterResponse {
    Open,
    Close,
    /// The other side has closed it, or it was reset.
    Closed,
}

impl FlakyConnection {
    /// Reads a request. `None` at the end of the connection, or when it may be closed and is idle.
    fn read_request(&mut self, may_close: impl Fn() -> bool) -> Option<FlakyRequest> {
        let mut buffer = Vec::new();
        let head_end = loop {
            if let Some(at) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            self.read(&mut buffer, &may_close)?;
        };
        // Bodies have at most a few bytes.
        let head = String::from_utf8_lossy(&buffer[..head_end]).into_owned();
        let length = head
            .lines()
            .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
        while buffer.len() < head_end + length.unwrap_or(0_usize) {
            self.read(&mut buffer, || false)?;
        }
        let path = head.split(' ').nth(1).unwrap_or_default();
        let number = path.strip_prefix("/r/").and_then(|number| number.parse().ok());
        Some(FlakyRequest { number, is_idempotent: !head.starts_with("POST ") })
    }

    fn read(&mut self, buffer: &mut Vec<u8>, may_close: impl Fn() -> bool) -> Option<()> {
        let mut part = [0; 4096];
        match self.stream.read(&mut part) {
            Ok(0) => None,
            Ok(length) => {
                buffer.extend_from_slice(&part[..length]);
                Some(())
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                (!buffer.is_empty() || !may_close()).then_some(())
            }
            Err(_) => None,
        }
    }

    fn respond(&mut self, request: &FlakyRequest, state: &FlakyState) -> AfterResponse {
        let behavior = state.behavior();
        match behavior {
            Behavior::Hangs => {
                // Until the other side gives up.
                while self.read(&mut Vec::new(), || state.is_stopped()).is_some() {}
                if request.number.is_some() {
                    state.count(|seen| seen.lost += 1);
                }
                return AfterResponse::Closed;
            }
            Behavior::Resets => {
                state.count_without_response(request, self.used);
                let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
                return AfterResponse::Closed;
            }
            Behavior::Slow => std::thread::sleep(SERVICE_TIME * 10),
            Behavior::Works
            | Behavior::Truncates
            | Behavior::MostlyFails
            | Behavior::Refuses
            | Behavior::Blackholes => {
                std::thread::sleep(SERVICE_TIME);
            }
        }
        let mut answered = 0;
        if request.number.is_some() {
            state.count(|seen| {
                answered = seen.answered;
                seen.answered += 1;
            });
        }
        let fails = behavior == Behavior::MostlyFails && request.number.is_some() && answered % 10 < 7;
        let truncates = behavior == Behavior::Truncates && request.number.is_some();
        let status = if fails { "500 Broken" } else { "200 OK" };
        let closes = truncates || !state.accepts();
        let close = if closes { "connection: close\r\n" } else { "" };
        let body = if truncates { "o" } else { "ok" };
        let response = format!("HTTP/1.1 {status}\r\ncontent-length: 2\r\n{close}\r\n{body}");
        match self.stream.write_all(response.as_bytes()) {
            Ok(()) if closes => AfterResponse::Close,
            Ok(()) => AfterResponse::Open,
            Err(_) => AfterResponse::Closed,
        }
    }
}
