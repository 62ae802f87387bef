//! Clients that send one request after the other and remember every response, and the comparison of what they and the
//! servers saw with the gateway's counters.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::flaky_server::FlakyServer;
use super::metrics_parser::Series;
use super::prelude::*;

/// A response as a client received it.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub retry_after: Option<u64>,
    /// The member `cause` of the body.
    pub cause: Option<String>,
    /// All of the body that Content-Length promised.
    pub is_complete: bool,
}

/// Sends a request without body on a kept connection. Both proxies send Content-Length, or close.
pub fn exchange(
    connection: &mut Option<TcpStream>,
    address: SocketAddr,
    method: &str,
    path: &str,
) -> std::io::Result<Reply> {
    let mut stream = match connection.take() {
        Some(stream) => stream,
        None => TcpStream::connect(address)?,
    };
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(limit()))?;
    let length = if method == "POST" { "content-length: 0\r\n" } else { "" };
    stream.write_all(format!("{method} {path} HTTP/1.1\r\nhost: test\r\n{length}\r\n").as_bytes())?;
    let mut bytes = Vec::new();
    let mut part = [0; 4096];
    let mut read = |stream: &mut TcpStream, bytes: &mut Vec<u8>| -> std::io::Result<usize> {
        let length = stream.read(&mut part)?;
        bytes.extend_from_slice(&part[..length]);
        Ok(length)
    };
    let head_end = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        if read(&mut stream, &mut bytes)? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
    };
    let head = String::from_utf8_lossy(&bytes[..head_end]).to_ascii_lowercase();
    let field =
        |name: &str| head.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok());
    let length = field("content-length:");
    let end = length.map_or(usize::MAX, |length| head_end + length as usize);
    // A truncated response ends with a close or a reset.
    while bytes.len() < end && matches!(read(&mut stream, &mut bytes), Ok(1..)) {}
    let is_complete = length.is_none() || bytes.len() == end;
    if is_complete && length.is_some() && !head.contains("connection: close") {
        *connection = Some(stream);
    }
    let body = String::from_utf8_lossy(&bytes[head_end..]);
    let cause = body.split_once("\"cause\":\"").and_then(|(_, rest)| rest.split_once('"'));
    Ok(Reply {
        status: head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0),
        retry_after: field("retry-after:"),
        cause: cause.map(|(cause, _)| cause.to_owned()),
        is_complete,
    })
}

/// The result of one request.
pub struct RequestResult {
    pub number: u32,
    pub is_post: bool,
    /// `None` if the connection ended without a response.
    pub reply: Option<Reply>,
    pub started: Instant,
}

impl RequestResult {
    /// A complete 200.
    pub fn succeeded(&self) -> bool {
        self.reply.as_ref().is_some_and(|reply| reply.status == 200 && reply.is_complete)
    }
}

/// Clients that send one request after the other; every fifth is a POST.
pub struct Load {
    stopped: Arc<AtomicBool>,
    clients: Vec<std::thread::JoinHandle<Vec<RequestResult>>>,
}

impl Load {
    pub fn start(address: SocketAddr, clients: usize) -> Load {
        let (stopped, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let start = |_| {
            let (stopped, count) = (Arc::clone(&stopped), Arc::clone(&count));
            std::thread::spawn(move || {
                let (mut connection, mut results) = (None, Vec::new());
                while !stopped.load(Ordering::Relaxed) {
                    let number = count.fetch_add(1, Ordering::Relaxed);
                    let (is_post, started) = (number % 5 == 0, Instant::now());
                    let method = if is_post { "POST" } else { "GET" };
                    let reply = exchange(&mut connection, address, method, &format!("/r/{number}")).ok();
                    results.push(RequestResult { number, is_post, reply, started });
                    std::thread::sleep(Duration::from_millis(5));
                }
                results
            })
        };
        let clients = (0..clients).map(start).collect();
        Load { stopped, clients }
    }

    pub fn stop(self) -> Vec<RequestResult> {
        self.stopped.store(true, Ordering::Relaxed);
        let mut results: Vec<_> =
            self.clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
        results.sort_by_key(|result| result.started);
        results
    }
}

/// Panics unless the counters of a gateway equal what its clients and its servers saw.
///
/// The gateway must have `errors.include: [cause]`, and the servers no other clients.
#[track_caller]
pub fn assert_accounts_agree(gateway: &Gateway, servers: &[FlakyServer], results: &[RequestResult]) {
    let deadline = Instant::now() + limit();
    // A request may be counted just after its response was sent.
    loop {
        let differences = differences(&Sums(gateway.metrics()), servers, results);
        if differences.is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "{}", differences.join("\n"));
        std::thread::sleep(Duration::from_millis(20));
    }
}

struct Sums(Vec<Series>);

impl Sums {
    fn of(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        let matching = self.0.iter().filter(|series| series.matches(name, labels));
        matching.map(|series| series.value as u64).sum()
    }
}

fn differences(metrics: &Sums, servers: &[FlakyServer], results: &[RequestResult]) -> Vec<String> {
    let mut found = Vec::new();
    let mut compare = |what: String, counted: u64, seen: u64| {
        if counted != seen {
            found.push(format!("{what}: the gateway counted {counted}, seen were {seen}"));
        }
    };
    let replies: Vec<&Reply> = results.iter().filter_map(|result| result.reply.as_ref()).collect();
    compare("requests without a response".to_owned(), 0, (results.len() - replies.len()) as u64);
    let (mut codes, mut causes) = (BTreeMap::new(), BTreeMap::new());
    for reply in &replies {
        *codes.entry(reply.status).or_default() += 1;
        if reply.status >= 400 {
            let cause = reply.cause.clone().unwrap_or_else(|| "upstream_response".to_owned());
            *causes.entry((reply.status, cause)).or_default() += 1;
        }
    }
    compare("responses_total".to_owned(), metrics.of("responses_total", &[]), replies.len() as u64);
    for (code, seen) in codes {
        let labels = [("code", &*code.to_string())];
        compare(format!("responses_total {code}"), metrics.of("responses_total", &labels), seen);
    }
    compare("errors_total".to_owned(), metrics.of("errors_total", &[]), causes.values().sum());
    let mut refused = 0;
    for ((code, cause), seen) in causes {
        let labels = [("code", &*code.to_string()), ("cause", &cause)];
        compare(format!("errors_total {code} {cause}"), metrics.of("errors_total", &labels), seen);
        if ["destination_unavailable", "breaker_open"].contains(&&*cause) {
            compare(format!("shed_total {cause}"), metrics.of("shed_total", &[("cause", &cause)]), seen);
            refused += seen;
        }
    }
    let truncated = replies.iter().filter(|reply| !reply.is_complete).count();
    compare("aborted_total".to_owned(), metrics.of("aborted_total", &[]), truncated as u64);
    compare("client_disconnects_total".to_owned(), metrics.of("client_disconnects_total", &[]), 0);
    compare_attempts(metrics, servers, results.len() as u64 - refused, &mut compare);
    found
}

fn compare_attempts(
    metrics: &Sums,
    servers: &[FlakyServer],
    forwarded: u64,
    compare: &mut impl FnMut(String, u64, u64),
) {
    let mut moved = 0;
    for server in servers {
        let (name, seen) = (server.address().to_string(), server.seen());
        let attempts = |result: &[(&str, &str)]| {
            let labels = [&[("server", name.as_str())], result].concat();
            metrics.of("upstream_attempts_total", &labels)
        };
        let ok = attempts(&[("result", "ok")]);
        // Of these the server knows nothing.
        let unconnected: u64 = ["connection_refused", "connection_timeout"]
            .iter()
            .map(|result| attempts(&[("result", result)]))
            .sum();
        compare(format!("attempts at {name} with a response"), ok, u64::from(seen.answered));
        let lost = attempts(&[]) - ok - unconnected;
        compare(format!("attempts at {name} without a response"), lost, u64::from(seen.lost));
        moved += u64::from(seen.moved);
    }
    // A request that moved to another connection and then succeeded counts as a retry, but not as another attempt.
    let (attempts, retries) =
        (metrics.of("upstream_attempts_total", &[]), metrics.of("upstream_retries_total", &[]));
    let possible = (forwarded + retries).saturating_sub(moved)..=forwarded + retries;
    compare(
        format!("attempts for {forwarded} requests with {retries} retries and {moved} moves"),
        attempts,
        attempts.clamp(*possible.start(), *possible.end()),
    );
}
