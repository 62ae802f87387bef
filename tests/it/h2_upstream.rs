//! HTTP/2 upstreams: a correct one based on the `h2` crate, and one that sends exactly the frames of a script.
//!
//! The tests are in [`super::http2_upstream`].

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::Request;
use statusquo::conformance::frames::{self, leading_u32};
pub use statusquo::conformance::frames::{END_HEADERS, END_STREAM, encode_frame, frame_type::*};
use tokio::runtime::Runtime;

/// Default flow-control window (RFC 9113 6.9.2).
const DEFAULT_WINDOW: usize = 65_535;

/// `:status: 200`, from the static table (RFC 7541 appendix A).
pub const STATUS_200: &[u8] = &[0x88];

/// A correct server based on the `h2` crate; one task per request.
pub struct H2Server {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    _runtime: Runtime,
}

impl H2Server {
    /// Allows this number of concurrent streams per connection.
    pub fn with<F, A>(streams: u32, response: A) -> H2Server
    where
        A: Fn(Request<RecvStream>, SendResponse<Bytes>) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&connections);
        let response = Arc::new(response);
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                let response = Arc::clone(&response);
                tokio::spawn(async move {
                    let mut options = h2::server::Builder::new();
                    // An unread body must not exhaust the connection window.
                    options.max_concurrent_streams(streams).initial_connection_window_size(1 << 20);
                    let Ok(mut connection) = options.handshake::<_, Bytes>(stream).await else { return };
                    while let Some(Ok((request, respond))) = connection.accept().await {
                        tokio::spawn(response(request, respond));
                    }
                });
            }
        });
        H2Server { address, connections, _runtime: runtime }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

/// A server that sends the frames of a script; one thread per connection.
pub struct RawH2Server {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    requests: Arc<AtomicUsize>,
}

/// One connection of a [`RawH2Server`].
pub struct RawH2Connection {
    stream: TcpStream,
    /// Number of the connection, from 0.
    pub index: usize,
    acks_pings: bool,
    /// Payload of the last PING.
    last_ping: Vec<u8>,
    requests: Arc<AtomicUsize>,
    /// The peer's initial stream window, and later increments by stream; stream 0 is the connection.
    initial_window: usize,
    window_increments: HashMap<u32, usize>,
}

impl RawH2Server {
    /// Calls `script` for each connection and closes the connection when it returns.
    pub fn with_script(
        script: impl Fn(&mut RawH2Connection) -> Option<()> + Send + Sync + 'static,
    ) -> RawH2Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (connections, requests) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let raw =
            RawH2Server { address, connections: Arc::clone(&connections), requests: Arc::clone(&requests) };
        let script = Arc::new(script);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { return };
                // Watchdog: no script waits longer.
                stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
                let index = connections.fetch_add(1, Ordering::SeqCst);
                let (script, requests) = (Arc::clone(&script), Arc::clone(&requests));
                std::thread::spawn(move || {
                    let mut connection = RawH2Connection {
                        stream,
                        index,
                        acks_pings: true,
                        last_ping: Vec::new(),
                        requests,
                        initial_window: DEFAULT_WINDOW,
                        window_increments: HashMap::new(),
                    };
                    let _ = script(&mut connection);
                    let _ = connection.stream.shutdown(Shutdown::Both);
                });
            }
        });
        raw
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Requests whose headers have arrived.
    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

impl RawH2Connection {
    /// Sends SETTINGS with these parameters.
    pub fn send_settings(&mut self, parameters: &[(u16, u32)]) -> Option<()> {
        self.write(&frames::settings_frame(parameters))
    }

    pub fn stop_ping_acks(&mut self) {
        self.acks_pings = false;
    }

    /// Acknowledges the last PING.
    pub fn send_ping_ack(&mut self) -> Option<()> {
        self.send_frame(PING, 1, 0, &self.last_ping.clone())
    }

    /// The stream of the next request, once its headers have arrived. The first call reads the preface.
    pub fn next_request(&mut self) -> Option<u32> {
        loop {
            let (frame_type, _, stream) = self.next_frame()?;
            if frame_type == HEADERS {
                self.requests.fetch_add(1, Ordering::SeqCst);
                return Some(stream);
            }
        }
    }

    /// Reads the connection preface.
    pub fn read_preface(&mut self) -> Option<()> {
        let mut preface = [0; 24];
        self.stream.read_exact(&mut preface).ok()?;
        assert!(preface.starts_with(b"PRI * HTTP/2.0"));
        Some(())
    }

    /// Reads the next frame: type, flags, stream. Acknowledges SETTINGS and PING.
    pub fn next_frame(&mut self) -> Option<(u8, u8, u32)> {
        let mut frame_header = [0; 9];
        self.stream.read_exact(&mut frame_header).ok()?;
        let [a, b, c, frame_type, flags, stream @ ..] = frame_header;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        self.stream.read_exact(&mut payload).ok()?;
        let stream = u32::from_be_bytes(stream);
        match (frame_type, flags & 1) {
            (SETTINGS, 0) => {
                let window_setting = payload.chunks(6).find(|window_setting| window_setting[..2] == [0, 4]);
                self.initial_window = window_setting
                    .map_or(self.initial_window, |window_setting| leading_u32(&window_setting[2..]) as usize);
                self.send_frame(SETTINGS, 1, 0, &[])?;
            }
            (WINDOW_UPDATE, _) => {
                *self.window_increments.entry(stream).or_default() += leading_u32(&payload) as usize
            }
            (PING, 0) => {
                self.last_ping = payload;
                if self.acks_pings {
                    self.send_ping_ack()?;
                }
            }
            _ => {}
        }
        Some((frame_type, flags, stream))
    }

    /// Counts an event that a test waits for as one more request.
    pub fn count_request(&mut self) {
        self.requests.fetch_add(1, Ordering::SeqCst);
    }

    /// Waits until the peer has read everything sent so far: it acknowledges a PING.
    pub fn ping_and_wait(&mut self) -> Option<()> {
        self.send_frame(PING, 0, 0, &[7; 8])?;
        while !matches!(self.next_frame()?, (PING, 1, _)) {}
        Some(())
    }

    /// Shuts down the sending side and reads until the peer closes.
    pub fn shutdown_and_drain(&mut self) -> Option<()> {
        self.stream.shutdown(Shutdown::Write).ok()?;
        self.read_until_closed()
    }

    /// Reads until the peer closes.
    pub fn read_until_closed(&mut self) -> Option<()> {
        while self.next_frame().is_some() {}
        Some(())
    }

    pub fn send_frame(&mut self, frame_type: u8, flags: u8, stream: u32, payload: &[u8]) -> Option<()> {
        self.write(&encode_frame(frame_type, flags, stream, payload))
    }

    pub fn write(&mut self, bytes: &[u8]) -> Option<()> {
        self.stream.write_all(bytes).ok()
    }

    /// Sends response headers with status 200, with END_STREAM if `ends`.
    pub fn send_ok_headers(&mut self, stream: u32, ends: bool) -> Option<()> {
        self.send_frame(HEADERS, END_HEADERS | u8::from(ends), stream, STATUS_200)
    }

    /// Sends a body of `length` bytes with END_STREAM as the windows allow; only for the first body of a connection.
    pub fn send_body(&mut self, stream: u32, length: usize) -> Option<()> {
        let mut sent = 0;
        while sent < length {
            let window = |stream| self.window_increments.get(&stream).copied().unwrap_or_default();
            let available = (self.initial_window + window(stream)).min(DEFAULT_WINDOW + window(0)) - sent;
            let size = available.min(length - sent).min(16 * 1024);
            if size == 0 {
                self.next_frame()?;
                continue;
            }
            sent += size;
            let ends = if sent == length { END_STREAM } else { 0 };
            self.send_frame(DATA, ends, stream, &vec![b'x'; size])?;
        }
        Some(())
    }

    /// Sends a complete 200 response.
    pub fn send_ok_response(&mut self, stream: u32) -> Option<()> {
        self.send_ok_headers(stream, false)?;
        self.send_frame(DATA, END_STREAM, stream, b"fine")
    }

    /// Sends SETTINGS and responds 200 to every request.
    pub fn serve_all(&mut self) -> Option<()> {
        self.read_preface()?;
        self.send_settings(&[])?;
        loop {
            let stream = self.next_request()?;
            self.send_ok_response(stream)?;
        }
    }

    pub fn send_goaway(&mut self, last: u32, code: u32) -> Option<()> {
        self.send_frame(GOAWAY, 0, 0, &[last.to_be_bytes(), code.to_be_bytes()].concat())
    }
}
