//! Pooled connections to real servers that close idle ones: no POST fails, and none is processed twice.
//!
//! Many clients send POSTs with pauses of half to one and a half times the server's limit, so that connections of the
//! pool are just about to be closed again and again.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::balancers::{nginx, nginx_temporary_folders};
use crate::curl::Curl;
use crate::gateway::RealGateway;
use crate::load::limit;
use crate::servers::{ServerProgram, apache_php, gunicorn, node, uvicorn};

/// How many clients send how many requests each.
#[derive(Clone, Copy)]
struct Load {
    clients: u64,
    requests: u64,
    /// The idle limit of the server, in seconds.
    idle_limit: u32,
}

/// 10,000 requests.
const PROOF: Load = Load { clients: 400, requests: 25, idle_limit: 2 };

/// A connection of a client to the gateway.
struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    fn connect(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(limit())).unwrap();
        stream.set_nodelay(true).unwrap();
        Client { stream: BufReader::new(stream) }
    }

    /// Sends a POST and returns the status code and the body.
    fn post(&mut self, body: &str) -> (u16, String) {
        let length = body.len();
        let request =
            format!("POST /orders HTTP/1.1\r\nHost: shop.example\r\nContent-Length: {length}\r\n\r\n{body}");
        self.stream.get_mut().write_all(request.as_bytes()).unwrap();
        let mut line = String::new();
        self.stream.read_line(&mut line).unwrap();
        let status =
            line.split(' ').nth(1).unwrap_or_else(|| panic!("no status line: {line:?}")).parse().unwrap();
        let (mut length, mut chunked) = (0, false);
        loop {
            let field = self.line();
            let field = field.to_ascii_lowercase();
            if field.is_empty() {
                break;
            }
            if let Some(value) = field.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            chunked |= field.starts_with("transfer-encoding:");
        }
        let mut received = Vec::new();
        while chunked {
            let size = usize::from_str_radix(&self.line(), 16).unwrap();
            self.read(size, &mut received);
            self.line();
            chunked = size > 0;
        }
        self.read(length, &mut received);
        (status, String::from_utf8(received).unwrap())
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    fn read(&mut self, size: usize, into: &mut Vec<u8>) {
        let mut bytes = vec![0; size];
        self.stream.read_exact(&mut bytes).unwrap();
        into.extend(bytes);
    }
}

/// Sends the requests of one client. Returns the responses that are not the expected ones.
fn run_client(address: SocketAddr, number: u64, load: Load, echoes: bool) -> Vec<String> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(number + 1);
    let mut client = Client::connect(address);
    let mut failures = Vec::new();
    for request in 0..load.requests {
        // xorshift64: the pause is 0.5 to 1.5 times the limit.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let share = 0.5 + (state % 1_000) as f64 / 1_000.0;
        std::thread::sleep(Duration::from_secs_f64(f64::from(load.idle_limit) * share));
        let body = format!("order {number}/{request}");
        let (status, received) = client.post(&body);
        if status != 200 || (echoes && received != body) {
            failures.push(format!("{body}: {status} {received:?}"));
        }
    }
    failures
}

/// Sends the load and expects that every POST was answered, and processed once.
#[track_caller]
fn assert_no_post_fails(name: &str, server: SocketAddr, load: Load, processed: impl Fn() -> u64) {
    let gateway = RealGateway::with_upstream(server);
    let started = Instant::now();
    let (address, echoes) = (gateway.http1, name != "nginx");
    let clients: Vec<_> = (0..load.clients)
        .map(|number| {
            let builder = std::thread::Builder::new().stack_size(256 * 1024);
            builder.spawn(move || run_client(address, number, load, echoes)).unwrap()
        })
        .collect();
    let failures: Vec<String> = clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
    let (total, elapsed) = (load.clients * load.requests, started.elapsed());
    // A server may log a request just after its response was read.
    let deadline = Instant::now() + limit();
    while processed() < total && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(10));
    }
    println!(
        "{name}: {total} POSTs at 0.5 to 1.5 times {} s in {:.0} s, {} failed, {} processed",
        load.idle_limit,
        elapsed.as_secs_f64(),
        failures.len(),
        processed()
    );
    assert_eq!(failures, Vec::<String>::new(), "{name}");
    assert_eq!(processed(), total, "{name} processed a POST twice, or not at all");
}

/// The number of POSTs that the application itself has counted.
fn counted(server: SocketAddr) -> u64 {
    Curl::http1().get(server, "/").text().parse().unwrap()
}

/// The number of POSTs in the log of the server.
fn logged_posts(server: &ServerProgram) -> u64 {
    let log = std::fs::read_to_string(server.file("access.log")).unwrap();
    log.lines().filter(|line| line.contains("POST ")).count() as u64
}

/// A few requests: the margin between the gateway's limit of 1 s and the server's is wide.
#[test]
fn no_post_fails_behind_node_that_closes_idle_connections() {
    let load = Load { clients: 12, requests: 2, idle_limit: 3 };
    let server = node("counting.mjs", &[&load.idle_limit.to_string()]);
    assert_no_post_fails("Node", server.address(), load, || counted(server.address()));
}

#[test]
#[ignore = "make proof: 10,000 POSTs"]
fn ten_thousand_posts_behind_node_all_succeed() {
    let server = node("counting.mjs", &[&PROOF.idle_limit.to_string()]);
    assert_no_post_fails("Node", server.address(), PROOF, || counted(server.address()));
}

#[test]
#[ignore = "make proof: 10,000 POSTs"]
fn ten_thousand_posts_behind_gunicorn_all_succeed() {
    let server = gunicorn("counting_wsgi:app", PROOF.idle_limit);
    assert_no_post_fails("gunicorn", server.address(), PROOF, || counted(server.address()));
}

#[test]
#[ignore = "make proof: 10,000 POSTs"]
fn ten_thousand_posts_behind_uvicorn_all_succeed() {
    let server = uvicorn("counting_asgi:app", PROOF.idle_limit);
    assert_no_post_fails("uvicorn", server.address(), PROOF, || counted(server.address()));
}

#[test]
#[ignore = "make proof: 10,000 POSTs"]
fn ten_thousand_posts_behind_php_all_succeed() {
    let server = apache_php("echo.php", PROOF.idle_limit);
    assert_no_post_fails("PHP", server.address(), PROOF, || logged_posts(&server));
}

#[test]
#[ignore = "make proof: 10,000 POSTs"]
fn ten_thousand_posts_behind_nginx_all_succeed() {
    let idle_limit = PROOF.idle_limit;
    let server = nginx(1, |addresses| {
        let (listen, folders) = (addresses[0], nginx_temporary_folders());
        format!(
            "http {{\naccess_log access.log;\n{folders}server {{\nlisten {listen};\nkeepalive_timeout {idle_limit}s;\n\
             location / {{ return 200 \"fine\"; }}\n}}\n}}\n"
        )
    });
    assert_no_post_fails("nginx", server.address(), PROOF, || logged_posts(&server));
}
