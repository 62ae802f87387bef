//! A server whose behaviour changes while it runs: for tests of ejection, health checks and retries under load.
//!
//! It counts how often it received each request, by the number in its path: `/r/7`.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use socket2::{Domain, SockAddr, SockRef, Socket, Type};

use super::load::limit;

/// What a server does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behavior {
    /// Responds with 200.
    Works,
    /// Responds ten times slower.
    Slow,
    /// Reads requests and does not respond.
    Hangs,
    /// Resets the connection after the request.
    Resets,
    /// Responds with 500 to seven of ten requests; the health check still works.
    MostlyFails,
    /// Does not listen. Requests in progress are finished, idle connections closed.
    Refuses,
    /// Listens, but accepts no connection. Idle connections are closed.
    Blackholes,
}

/// The number of requests with this identifier that a server received.
pub type Received = Arc<Mutex<HashMap<u32, u32>>>;

/// The server; it stops when it is dropped.
pub struct FlakyServer {
    address: SocketAddr,
    state: Arc<FlakyState>,
    acceptor: Option<JoinHandle<()>>,
}

struct FlakyState {
    behavior: Mutex<Behavior>,
    stopped: AtomicBool,
    served: AtomicU32,
    received: Received,
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
            served: AtomicU32::new(0),
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

    /// The number of requests with a response, without health checks.
    pub fn served(&self) -> u32 {
        self.state.served.load(Ordering::Relaxed)
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
}

fn accept(address: SocketAddr, listener: TcpListener, state: &Arc<FlakyState>) {
    let mut listener = Some(listener);
    // The connections that fill the queue of a blackhole, and its listener.
    let mut blackhole: Vec<Socket> = Vec::new();
    while !state.is_stopped() {
        match (state.behavior(), &listener) {
            (Behavior::Refuses, _) => {
                // Connections that wait to be accepted would be reset.
                listener.iter().for_each(|listening| accept_waiting(listening, state));
                (listener, blackhole) = (None, Vec::new());
            }
            (Behavior::Blackholes, _) if blackhole.is_empty() => {
                drop(listener.take());
                blackhole = fill_backlog(address);
            }
            (Behavior::Blackholes, _) => {}
            (_, None) => {
                blackhole.clear();
                // The port may still be in use for a moment.
                listener = TcpListener::bind(address).ok();
            }
            (_, Some(listening)) => accept_waiting(listening, state),
        }
        std::thread::sleep(POLL);
    }
}

fn accept_waiting(listening: &TcpListener, state: &Arc<FlakyState>) {
    listening.set_nonblocking(true).unwrap();
    while let Ok((stream, _)) = listening.accept() {
        let state = Arc::clone(state);
        std::thread::spawn(move || serve(stream, &state));
    }
}

/// A listener with a full queue: further connection attempts get no reply. Empty if the port is still in use.
fn fill_backlog(address: SocketAddr) -> Vec<Socket> {
    let socket = || Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let (listening, target) = (socket(), SockAddr::from(address));
    listening.set_reuse_address(true).unwrap();
    if listening.bind(&target).and_then(|()| listening.listen(0)).is_err() {
        return Vec::new();
    }
    let mut sockets = vec![listening];
    for _ in 0..16 {
        let filler = socket();
        let is_full = filler.connect_timeout(&target, Duration::from_millis(150)).is_err();
        sockets.push(filler);
        if is_full {
            break;
        }
    }
    sockets
}

fn serve(mut stream: TcpStream, state: &FlakyState) {
    let _ = (stream.set_nonblocking(false), stream.set_nodelay(true), stream.set_read_timeout(Some(POLL)));
    let mut buffer = Vec::new();
    loop {
        let Some(head_end) = buffer.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4) else {
            let mut part = [0; 4096];
            match stream.read(&mut part) {
                Ok(0) => return,
                Ok(length) => buffer.extend_from_slice(&part[..length]),
                // Idle, so that no request is lost.
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    if buffer.is_empty() && (state.is_stopped() || !state.accepts()) {
                        return;
                    }
                }
                Err(_) => return,
            }
            continue;
        };
        // Bodies have at most a few bytes and are sent with the header section.
        let head = String::from_utf8_lossy(&buffer[..head_end]).into_owned();
        let length = head
            .lines()
            .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
        let end = head_end + length.unwrap_or(0_usize);
        while buffer.len() < end {
            let mut part = [0; 4096];
            match stream.read(&mut part) {
                Ok(0) => return,
                Ok(length) => buffer.extend_from_slice(&part[..length]),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock && !state.is_stopped() => {}
                Err(_) => return,
            }
        }
        buffer.drain(..end);
        if !respond(&mut stream, state, head.split(' ').nth(1).unwrap_or_default()) {
            return;
        }
    }
}

/// Responds to one request. Returns whether the connection stays open.
fn respond(stream: &mut TcpStream, state: &FlakyState, path: &str) -> bool {
    let number = path.strip_prefix("/r/").and_then(|number| number.parse::<u32>().ok());
    if let Some(number) = number {
        *state.received.lock().unwrap().entry(number).or_default() += 1;
    }
    let behavior = state.behavior();
    match behavior {
        Behavior::Hangs => {
            while state.behavior() == Behavior::Hangs && !state.is_stopped() {
                std::thread::sleep(POLL);
            }
            return false;
        }
        Behavior::Resets => {
            let _ = SockRef::from(&*stream).set_linger(Some(Duration::ZERO));
            return false;
        }
        Behavior::Slow => std::thread::sleep(SERVICE_TIME * 10),
        Behavior::Works | Behavior::MostlyFails | Behavior::Refuses | Behavior::Blackholes => {
            std::thread::sleep(SERVICE_TIME);
        }
    }
    let served = if number.is_some() { state.served.fetch_add(1, Ordering::Relaxed) } else { 0 };
    let fails = behavior == Behavior::MostlyFails && number.is_some() && served % 10 < 7;
    let status = if fails { "500 Broken" } else { "200 OK" };
    let close = if state.accepts() { "" } else { "connection: close\r\n" };
    let response = format!("HTTP/1.1 {status}\r\ncontent-length: 2\r\n{close}\r\nok");
    stream.write_all(response.as_bytes()).is_ok() && state.accepts()
}
