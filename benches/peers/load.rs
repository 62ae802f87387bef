//! Load generator: a closed loop on kept connections that checks every response.
//!
//! A response whose status code or body differs from its [`Job`] ends the run with an error. [`super::process`]
//! measures what the proxy uses meanwhile.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::job::{Job, forwarded_body};

/// Longest wait for a response. Generous, because a proxy under valgrind is 50 times slower.
const RUN_TIMEOUT: Duration = Duration::from_secs(60);

/// Results of a load loop.
#[derive(Clone, Copy, Debug, Default)]
pub struct LoadTally {
    /// Expected responses.
    pub responses: usize,
    /// Connections that the proxy closed between two responses.
    pub reopened: usize,
    /// Requests that the rate limit allowed: the first one of a client.
    pub admitted: usize,
}

/// Open connections to one proxy, for one job.
pub struct ClientPool {
    clients: Vec<LoadClient>,
}

impl ClientPool {
    /// Opens this number of connections, a few at a time, and sends one request on each.
    pub async fn open(address: SocketAddr, job: Job, connections: usize) -> Result<ClientPool, String> {
        const CONNECT_BATCH: usize = 50;
        let expected = Arc::new(RequestSpec::of(job));
        let mut clients = Vec::with_capacity(connections);
        while clients.len() < connections {
            let mut opening = JoinSet::new();
            for _ in 0..CONNECT_BATCH.min(connections - clients.len()) {
                opening.spawn(LoadClient::open(address, Arc::clone(&expected)));
            }
            while let Some(opened) = with_run_timeout(opening.join_next()).await? {
                clients.push(opened.map_err(|e| e.to_string())??);
            }
        }
        Ok(ClientPool { clients })
    }

    /// Sends requests on all connections for this time.
    pub async fn run_for(&mut self, time: Duration) -> Result<LoadTally, String> {
        let end = Instant::now() + time;
        self.run(move || Instant::now() < end).await
    }

    /// Sends this number of requests, spread over all connections.
    pub async fn run_times(&mut self, requests: usize) -> Result<LoadTally, String> {
        let started = Arc::new(AtomicUsize::new(0));
        self.run(move || started.fetch_add(1, Ordering::Relaxed) < requests).await
    }

    async fn run(
        &mut self,
        keep_running: impl Fn() -> bool + Clone + Send + 'static,
    ) -> Result<LoadTally, String> {
        let mut loops = JoinSet::new();
        for mut client in self.clients.drain(..) {
            let keep_running = keep_running.clone();
            loops.spawn(async move {
                let mut tally = LoadTally::default();
                while keep_running() {
                    client.request(&mut tally).await?;
                }
                Ok::<_, String>((client, tally))
            });
        }
        let mut sum = LoadTally::default();
        while let Some(ended) = with_run_timeout(loops.join_next()).await? {
            let (client, tally) = ended.map_err(|e| e.to_string())??;
            self.clients.push(client);
            sum.responses += tally.responses;
            sum.reopened += tally.reopened;
            sum.admitted += tally.admitted;
        }
        // The rate limit allows the first request of a client, and one more per minute or hour.
        if sum.admitted > 2 {
            return Err(format!("{} requests passed the rate limit", sum.admitted));
        }
        Ok(sum)
    }
}

async fn with_run_timeout<T>(future: impl Future<Output = T>) -> Result<T, String> {
    tokio::time::timeout(RUN_TIMEOUT, future)
        .await
        .map_err(|_| format!("no response within {} seconds", RUN_TIMEOUT.as_secs()))
}

/// The request and expected response of every connection of a pool.
struct RequestSpec {
    request: Vec<u8>,
    job: Job,
    body: Vec<u8>,
    forwarded_body: Vec<u8>,
}

impl RequestSpec {
    fn of(job: Job) -> RequestSpec {
        let request = format!(
            "GET {} HTTP/1.1\r\nHost: api.example.com\r\nUser-Agent: bench/1.0\r\nAccept: application/json\r\n\r\n",
            job.path()
        );
        RequestSpec { request: request.into(), job, body: job.body(), forwarded_body: forwarded_body() }
    }

    fn check(&self, response: &ParsedResponse<'_>, tally: &mut LoadTally) -> Result<(), String> {
        if response.status == self.job.status() && response.body == self.body {
            tally.responses += 1;
            return Ok(());
        }
        if self.job == Job::Limited && response.status == 200 && response.body == self.forwarded_body {
            tally.admitted += 1;
            return Ok(());
        }
        Err(format!(
            "unexpected response to {}: status code {} and body {:?}, expected {} and {:?}",
            self.job.name(),
            response.status,
            String::from_utf8_lossy(response.body),
            self.job.status(),
            String::from_utf8_lossy(&self.body)
        ))
    }
}

struct LoadClient {
    address: SocketAddr,
    stream: TcpStream,
    received: Vec<u8>,
    expected: Arc<RequestSpec>,
}

impl LoadClient {
    async fn open(address: SocketAddr, expected: Arc<RequestSpec>) -> Result<LoadClient, String> {
        let stream = connect(address).await?;
        let mut client = LoadClient { address, stream, received: Vec::with_capacity(4096), expected };
        client.request(&mut LoadTally::default()).await?;
        Ok(client)
    }

    /// Sends one request and reads its response; on a new connection if the proxy closed the old one.
    async fn request(&mut self, tally: &mut LoadTally) -> Result<(), String> {
        if self.exchange(tally).await? {
            return Ok(());
        }
        tally.reopened += 1;
        self.stream = connect(self.address).await?;
        if self.exchange(tally).await? {
            Ok(())
        } else {
            Err("closes new connections without a response".into())
        }
    }

    /// Returns `false` if the connection ended before the first byte of the response.
    async fn exchange(&mut self, tally: &mut LoadTally) -> Result<bool, String> {
        self.received.clear();
        if self.stream.write_all(&self.expected.request).await.is_err() {
            return Ok(false);
        }
        loop {
            match self.stream.read_buf(&mut self.received).await {
                Ok(0) | Err(_) if self.received.is_empty() => return Ok(false),
                Ok(0) => return Err("closes the connection inside a response".into()),
                Err(error) => return Err(format!("connection error inside a response: {error}")),
                Ok(_) => {}
            }
            if let Some(response) = ParsedResponse::of(&self.received)? {
                self.expected.check(&response, tally)?;
                return Ok(true);
            }
        }
    }
}

async fn connect(address: SocketAddr) -> Result<TcpStream, String> {
    let stream = TcpStream::connect(address).await.map_err(|e| format!("connection failed: {e}"))?;
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

/// A complete response with Content-Length.
struct ParsedResponse<'a> {
    status: u16,
    body: &'a [u8],
}

impl<'a> ParsedResponse<'a> {
    fn of(received: &'a [u8]) -> Result<Option<ParsedResponse<'a>>, String> {
        let Some(end) = memchr::memmem::find(received, b"\r\n\r\n") else { return Ok(None) };
        let (head, body) = (&received[..end], &received[end + 4..]);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let status =
            head.get(9..12).and_then(parse_digits).ok_or_else(|| format!("answers {:?}", text(head)))?;
        let length = head.split(|octet| *octet == b'\n').find_map(|line| {
            let (name, value) = line.split_at_checked(15)?;
            name.eq_ignore_ascii_case(b"content-length:").then(|| parse_digits(value.trim_ascii())).flatten()
        });
        let length = length.ok_or_else(|| format!("response without Content-Length: {:?}", text(head)))?;
        if body.len() > length {
            return Err(format!("response exceeds its Content-Length of {length}"));
        }
        Ok((body.len() == length).then_some(ParsedResponse { status: status as u16, body }))
    }
}

fn parse_digits(digits: &[u8]) -> Option<usize> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}
