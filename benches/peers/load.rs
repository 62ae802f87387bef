//! The clients of the run: a closed loop on connections that stay, in which every answer is checked.
//!
//! An answer with another status or body than its [`Job`] asks for ends the run with a sentence. What the proxy spends
//! meanwhile is not seen from here (see [`super::process`]).

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::job::{Job, passed_body};

/// Longest wait for what should take microseconds; generous, because valgrind is fifty times slower.
const PATIENCE: Duration = Duration::from_secs(60);

/// What came of a loop.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// Answers that count.
    pub answers: usize,
    /// Connections that the proxy closed between two answers.
    pub reopened: usize,
    /// Requests that the limit let through: the first of a client does pass.
    pub let_through: usize,
}

/// Open connections to one proxy, for one job.
pub struct Crowd {
    clients: Vec<Client>,
}

impl Crowd {
    /// Opens so many connections, a few at a time, and makes one request on each.
    pub async fn open(address: SocketAddr, job: Job, connections: usize) -> Result<Crowd, String> {
        const AT_ONCE: usize = 50;
        let expected = Arc::new(Expected::of(job));
        let mut clients = Vec::with_capacity(connections);
        while clients.len() < connections {
            let mut opening = JoinSet::new();
            for _ in 0..AT_ONCE.min(connections - clients.len()) {
                opening.spawn(Client::open(address, Arc::clone(&expected)));
            }
            while let Some(opened) = within_patience(opening.join_next()).await? {
                clients.push(opened.map_err(|e| e.to_string())??);
            }
        }
        Ok(Crowd { clients })
    }

    /// Requests on all connections for so long.
    pub async fn run_for(&mut self, time: Duration) -> Result<Tally, String> {
        let end = Instant::now() + time;
        self.run(move || Instant::now() < end).await
    }

    /// So many requests, over all connections.
    pub async fn run_times(&mut self, requests: usize) -> Result<Tally, String> {
        let begun = Arc::new(AtomicUsize::new(0));
        self.run(move || begun.fetch_add(1, Ordering::Relaxed) < requests).await
    }

    async fn run(&mut self, more: impl Fn() -> bool + Clone + Send + 'static) -> Result<Tally, String> {
        let mut loops = JoinSet::new();
        for mut client in self.clients.drain(..) {
            let more = more.clone();
            loops.spawn(async move {
                let mut tally = Tally::default();
                while more() {
                    client.ask(&mut tally).await?;
                }
                Ok::<_, String>((client, tally))
            });
        }
        let mut sum = Tally::default();
        while let Some(ended) = within_patience(loops.join_next()).await? {
            let (client, tally) = ended.map_err(|e| e.to_string())??;
            self.clients.push(client);
            sum.answers += tally.answers;
            sum.reopened += tally.reopened;
            sum.let_through += tally.let_through;
        }
        // The first request of a client passes, and one a minute or an hour later; more would be no limit.
        if sum.let_through > 2 {
            return Err(format!("{} requests passed the limit", sum.let_through));
        }
        Ok(sum)
    }
}

async fn within_patience<T>(future: impl Future<Output = T>) -> Result<T, String> {
    tokio::time::timeout(PATIENCE, future)
        .await
        .map_err(|_| format!("no answer within {} seconds", PATIENCE.as_secs()))
}

/// What every connection of a crowd sends and wants to see.
struct Expected {
    request: Vec<u8>,
    job: Job,
    body: Vec<u8>,
    passed: Vec<u8>,
}

impl Expected {
    fn of(job: Job) -> Expected {
        let request = format!(
            "GET {} HTTP/1.1\r\nHost: api.example.com\r\nUser-Agent: bench/1.0\r\nAccept: application/json\r\n\r\n",
            job.path()
        );
        Expected { request: request.into(), job, body: job.body(), passed: passed_body() }
    }

    fn judge(&self, answer: &Answer<'_>, tally: &mut Tally) -> Result<(), String> {
        if answer.status == self.job.status() && answer.body == self.body {
            tally.answers += 1;
            return Ok(());
        }
        if self.job == Job::Limited && answer.status == 200 && answer.body == self.passed {
            tally.let_through += 1;
            return Ok(());
        }
        Err(format!(
            "answered {} with status {} and {:?}, not {} with {:?}",
            self.job.name(),
            answer.status,
            String::from_utf8_lossy(answer.body),
            self.job.status(),
            String::from_utf8_lossy(&self.body)
        ))
    }
}

struct Client {
    address: SocketAddr,
    stream: TcpStream,
    received: Vec<u8>,
    expected: Arc<Expected>,
}

impl Client {
    async fn open(address: SocketAddr, expected: Arc<Expected>) -> Result<Client, String> {
        let stream = connect(address).await?;
        let mut client = Client { address, stream, received: Vec::with_capacity(4096), expected };
        client.ask(&mut Tally::default()).await?;
        Ok(client)
    }

    /// One request and its answer; on a new connection if the proxy had closed the old one.
    async fn ask(&mut self, tally: &mut Tally) -> Result<(), String> {
        if self.exchange(tally).await? {
            return Ok(());
        }
        tally.reopened += 1;
        self.stream = connect(self.address).await?;
        if self.exchange(tally).await? {
            Ok(())
        } else {
            Err("closes new connections without an answer".into())
        }
    }

    /// `false`: the connection ended before a byte of the answer.
    async fn exchange(&mut self, tally: &mut Tally) -> Result<bool, String> {
        self.received.clear();
        if self.stream.write_all(&self.expected.request).await.is_err() {
            return Ok(false);
        }
        loop {
            match self.stream.read_buf(&mut self.received).await {
                Ok(0) | Err(_) if self.received.is_empty() => return Ok(false),
                Ok(0) => return Err("closes the connection inside an answer".into()),
                Err(error) => return Err(format!("breaks the connection inside an answer: {error}")),
                Ok(_) => {}
            }
            if let Some(answer) = Answer::of(&self.received)? {
                self.expected.judge(&answer, tally)?;
                return Ok(true);
            }
        }
    }
}

async fn connect(address: SocketAddr) -> Result<TcpStream, String> {
    let stream = TcpStream::connect(address).await.map_err(|e| format!("cannot be connected to: {e}"))?;
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

/// A whole answer with Content-Length.
struct Answer<'a> {
    status: u16,
    body: &'a [u8],
}

impl<'a> Answer<'a> {
    fn of(received: &'a [u8]) -> Result<Option<Answer<'a>>, String> {
        let Some(end) = memchr::memmem::find(received, b"\r\n\r\n") else { return Ok(None) };
        let (head, body) = (&received[..end], &received[end + 4..]);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let status = head.get(9..12).and_then(number).ok_or_else(|| format!("answers {:?}", text(head)))?;
        let length = head.split(|octet| *octet == b'\n').find_map(|line| {
            let (name, value) = line.split_at_checked(15)?;
            name.eq_ignore_ascii_case(b"content-length:").then(|| number(value.trim_ascii())).flatten()
        });
        let length = length.ok_or_else(|| format!("answers without Content-Length: {:?}", text(head)))?;
        if body.len() > length {
            return Err(format!("sends more than its Content-Length of {length}"));
        }
        Ok((body.len() == length).then_some(Answer { status: status as u16, body }))
    }
}

fn number(digits: &[u8]) -> Option<usize> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}
