//! One of three servers fails in every way, all of them disappear and return, and they restart one after the other, under
//! load; beside HAProxy with equivalent settings.
//!
//! `make chaos` prints the table. The small cases run in `make test` and depend on no speed: they wait for a state, and
//! then every request must succeed.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::flaky_server::{Behavior, FlakyServer, Received};
use super::gateway::{Gateway, GatewaySetup, TestFolder};
use super::load::{limit, millis, scaled};

/// Three servers that count together.
struct Servers {
    all: [FlakyServer; 3],
    received: Received,
}

impl Servers {
    fn start() -> Servers {
        let received = Received::default();
        Servers { all: [0; 3].map(|_| FlakyServer::start(&received)), received }
    }

    fn addresses(&self) -> [SocketAddr; 3] {
        self.all.each_ref().map(FlakyServer::address)
    }

    fn set_all(&self, behavior: Behavior) {
        self.all.iter().for_each(|server| server.set(behavior));
    }

    /// How many times the servers received requests, and how many of `posts` arrived more than once.
    fn load_and_repeated(&self, posts: &[u32]) -> (u64, usize) {
        let received = self.received.lock().unwrap();
        let repeated = posts.iter().filter(|post| received.get(post).is_some_and(|count| *count > 1)).count();
        (received.values().map(|count| u64::from(*count)).sum(), repeated)
    }
}

fn setup(servers: &Servers) -> GatewaySetup {
    GatewaySetup::with_servers(&servers.addresses())
        .set("timeouts.connect", "500ms")
        .set("timeouts.response_headers", "2s")
        .set(
            "upstream.health",
            "{ path: /healthz, every: 1s, timeout: 500ms, fall: 2, rise: 2, expect: [200] }",
        )
        .set("upstream.ejection", "{ failure_status: [500, 502, 503, 504] }")
}

fn wait_for_state(gateway: &Gateway, server: &FlakyServer, state: &str) {
    let server = server.address().to_string();
    gateway.wait_for_metric(limit(), "upstream_server_state", &[("server", &server), ("state", state)], 1.0);
}

/// Sends requests until the server is in this state: its failures have to be noticed.
fn use_until_state(gateway: &Gateway, server: &FlakyServer, state: &str) {
    let (name, deadline) = (server.address().to_string(), Instant::now() + limit());
    let labels = [("server", name.as_str()), ("state", state)];
    let mut client = gateway.client();
    while gateway.metric("upstream_server_state", &labels) != 1.0 {
        client.get("/r/0");
        assert!(Instant::now() < deadline, "the server did not become {state}");
    }
}

#[test]
fn ejected_server_costs_no_request_whatever_its_fault() {
    let servers = Servers::start();
    for behavior in
        [Behavior::Hangs, Behavior::Resets, Behavior::MostlyFails, Behavior::Refuses, Behavior::Blackholes]
    {
        let gateway = setup(&servers)
            .set("timeouts.response_headers", "300ms")
            .set("timeouts.connect", "100ms")
            .set("upstream.health", "{ path: /healthz, every: 1h }")
            .set("upstream.ejection", "{ consecutive: 2, min_requests: 4, for: 1h, failure_status: [500] }")
            .start();
        servers.all[1].set(behavior);
        use_until_state(&gateway, &servers.all[1], "ejected");
        let mut client = gateway.client();
        for number in 0..30 {
            let method = ["GET", "POST"][number % 2];
            client.request(method, &format!("/r/{number}"), "", "").assert_response(200, "ok");
        }
        gateway.expect_metrics_match_responses();
        servers.all[1].set(Behavior::Works);
    }
}

/// The failed response is never seen by a client: only the attempt shows the failure.
#[test]
fn failure_status_that_is_retried_ejects_its_server() {
    let servers = Servers::start();
    let gateway = setup(&servers)
        .set("upstream.health", "{ path: /healthz, every: 1h }")
        .set("upstream.retry", "{ attempts: 2, on_status: [500], budget: 100% }")
        .set("upstream.ejection", "{ consecutive: 2, min_requests: 4, for: 1h, failure_status: [500] }")
        .start();
    servers.all[1].set(Behavior::MostlyFails);
    use_until_state(&gateway, &servers.all[1], "ejected");
}

#[test]
fn servers_that_all_disappear_and_return_are_refused_and_used_again() {
    let servers = Servers::start();
    let gateway =
        setup(&servers).set("upstream.health", "{ path: /healthz, every: 200ms, fall: 1, rise: 1 }").start();
    servers.set_all(Behavior::Refuses);
    servers.all.iter().for_each(|server| wait_for_state(&gateway, server, "unhealthy"));
    let response = gateway.client().get("/r/1");
    response.assert_local_reply(503);
    assert!(response.header("retry-after").is_some());
    servers.set_all(Behavior::Works);
    servers.all.iter().for_each(|server| wait_for_state(&gateway, server, "healthy"));
    gateway.client().request("POST", "/r/2", "", "").assert_response(200, "ok");
    gateway.expect_metrics_match_responses();
}

/// One client, so that no connection waits to be accepted when a server stops; `make chaos` has several.
#[test]
fn servers_that_restart_one_after_the_other_fail_no_idempotent_request() {
    let servers = Servers::start();
    // Only one of three servers is ejected at a time, so the requests of another one are retried.
    let gateway = setup(&servers)
        .set("upstream.health", "{ path: /healthz, every: 1h }")
        .set("upstream.retry", "{ budget: 100% }")
        .start();
    let (mut client, mut number) = (gateway.client(), 0);
    let mut send = |methods: &[&'static str]| {
        for method in methods.iter().cycle().take(30) {
            number += 1;
            let response = client.request(method, &format!("/r/{number}"), "", "");
            assert!(*method == "POST" || response.status == 200, "{method} {number}: {}", response.status);
        }
    };
    for server in &servers.all {
        server.set(Behavior::Refuses);
        send(&["GET", "PUT", "POST"]);
        server.wait_until_accepting(false);
        send(&["GET", "PUT"]);
        server.set(Behavior::Works);
        server.wait_until_accepting(true);
        send(&["GET", "POST"]);
    }
    let all: Vec<u32> = (1..=number).collect();
    let received = servers.received.lock().unwrap();
    let repeated = all.iter().filter(|number| received.get(number).is_some_and(|count| *count > 1)).count();
    assert_eq!(repeated, 0, "a server that stops finishes its requests");
    drop(received);
    gateway.expect_metrics_match_responses();
}

/// The result of one request.
struct RequestResult {
    number: u32,
    is_post: bool,
    /// 0 without a response.
    status: u16,
    started: Instant,
}

fn posts(results: &[RequestResult]) -> Vec<u32> {
    results.iter().filter(|result| result.is_post).map(|result| result.number).collect()
}

/// Clients that send one request after the other; every fifth is a POST.
struct Load {
    stopped: Arc<AtomicBool>,
    clients: Vec<std::thread::JoinHandle<Vec<RequestResult>>>,
}

impl Load {
    fn start(address: SocketAddr, clients: usize) -> Load {
        let (stopped, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let start = |_| {
            let (stopped, count) = (Arc::clone(&stopped), Arc::clone(&count));
            std::thread::spawn(move || {
                let (mut connection, mut results) = (None, Vec::new());
                while !stopped.load(Ordering::Relaxed) {
                    let number = count.fetch_add(1, Ordering::Relaxed);
                    let (is_post, started) = (number % 5 == 0, Instant::now());
                    let method = if is_post { "POST" } else { "GET" };
                    let status =
                        exchange(&mut connection, address, method, number).map_or(0, |(status, _)| status);
                    results.push(RequestResult { number, is_post, status, started });
                    std::thread::sleep(Duration::from_millis(5));
                }
                results
            })
        };
        let clients = (0..clients).map(start).collect();
        Load { stopped, clients }
    }

    fn stop(self) -> Vec<RequestResult> {
        self.stopped.store(true, Ordering::Relaxed);
        let mut results: Vec<_> =
            self.clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
        results.sort_by_key(|result| result.started);
        results
    }
}

/// Sends one request on a kept connection; returns the status and `Retry-After`. Both proxies send Content-Length, or
/// close.
fn exchange(
    connection: &mut Option<TcpStream>,
    address: SocketAddr,
    method: &str,
    number: u32,
) -> std::io::Result<(u16, Option<u64>)> {
    let mut stream = match connection.take() {
        Some(stream) => stream,
        None => TcpStream::connect(address)?,
    };
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(limit()))?;
    let length = if method == "POST" { "content-length: 0\r\n" } else { "" };
    stream.write_all(format!("{method} /r/{number} HTTP/1.1\r\nhost: test\r\n{length}\r\n").as_bytes())?;
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
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    };
    let head = String::from_utf8_lossy(&bytes[..head_end]).to_ascii_lowercase();
    let field =
        |name: &str| head.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok());
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    match field("content-length:") {
        Some(length) => {
            while bytes.len() < head_end + length as usize {
                if read(&mut stream, &mut bytes)? == 0 {
                    return Err(std::io::ErrorKind::UnexpectedEof.into());
                }
            }
            if !head.contains("connection: close") {
                *connection = Some(stream);
            }
        }
        None => while read(&mut stream, &mut bytes)? > 0 {},
    }
    Ok((status, field("retry-after:")))
}

/// HAProxy with settings equivalent to [`setup`]; `None` where it is not installed.
struct Haproxy {
    process: Child,
    address: SocketAddr,
    _folder: TestFolder,
}

impl Haproxy {
    fn start(servers: &Servers) -> Option<Haproxy> {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        // The gateway's timeouts are scaled too.
        let (connect, response) = (millis(500).as_millis(), millis(2_000).as_millis());
        let mut text = format!(
            "global\n  maxconn 1000\ndefaults\n  mode http\n  timeout connect {connect}ms\n  timeout server {response}ms\n  timeout client 30s\n  \
             retries 1\n  option redispatch 1\n  option http-keep-alive\nfrontend in\n  bind {address}\n  default_backend shop\n\
             backend shop\n  balance roundrobin\n  http-request disable-l7-retry if METH_POST\n  \
             retry-on conn-failure empty-response\n  option httpchk GET /healthz\n"
        );
        for (index, server) in servers.addresses().iter().enumerate() {
            let _ = writeln!(
                text,
                "  server s{index} {server} check inter 1s fall 2 rise 2 observe layer7 error-limit 5 on-error mark-down"
            );
        }
        let folder = TestFolder::new();
        let file = folder.write("haproxy.cfg", &text);
        let mut command = Command::new("haproxy");
        command.args(["-db", "-q", "-f"]).arg(file).stdout(Stdio::null()).stderr(Stdio::null());
        let haproxy = Haproxy { process: command.spawn().ok()?, address, _folder: folder };
        let deadline = Instant::now() + limit();
        while TcpStream::connect(address).is_err() {
            assert!(Instant::now() < deadline, "haproxy does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(haproxy)
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

const CLIENTS: usize = 4;
/// How long a fault may take to be noticed, before requests that fail count as failures after ejection.
const SETTLE: Duration = Duration::from_secs(5);

fn seconds() -> Duration {
    let text = std::env::var("CHAOS_SECONDS").unwrap_or_else(|_| "10".to_owned());
    Duration::from_secs(text.parse().unwrap())
}

/// One row of the table.
fn row(
    proxy: &str,
    scenario: &str,
    servers: &Servers,
    results: &[RequestResult],
    settled: Instant,
    back: &str,
) -> String {
    let failed = |results: &[&RequestResult]| results.iter().filter(|result| result.status != 200).count();
    let all: Vec<_> = results.iter().collect();
    let later: Vec<_> = results.iter().filter(|result| result.started >= settled).collect();
    let (load, repeated) = servers.load_and_repeated(&posts(results));
    let share = 100.0 * failed(&later) as f64 / later.len().max(1) as f64;
    format!(
        "| {scenario} | {proxy} | {} | {} | {share:.2} % | {repeated} | {:.2} | {back} |\n",
        all.len(),
        failed(&all),
        load as f64 / all.len().max(1) as f64,
    )
}

/// One of three servers has a fault for the duration of `CHAOS_SECONDS`, and works again.
fn one_of_three(
    proxy: &str,
    scenario: &str,
    behavior: Behavior,
    servers: &Servers,
    address: SocketAddr,
) -> String {
    let load = Load::start(address, CLIENTS);
    std::thread::sleep(Duration::from_secs(1));
    servers.all[1].set(behavior);
    let settled = Instant::now() + scaled(SETTLE);
    std::thread::sleep(scaled(SETTLE) + seconds());
    let served = servers.all[1].served();
    servers.all[1].set(Behavior::Works);
    let recovered = Instant::now();
    // Two requests are served by the recovered server.
    while servers.all[1].served() < served + 2 && recovered.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(10));
    }
    let back = format!("{:.1} s", recovered.elapsed().as_secs_f64());
    let results = load.stop();
    row(proxy, scenario, servers, &results, settled, &back)
}

fn all_of_three(proxy: &str, servers: &Servers, address: SocketAddr) -> String {
    let load = Load::start(address, CLIENTS);
    std::thread::sleep(Duration::from_secs(1));
    servers.set_all(Behavior::Refuses);
    std::thread::sleep(seconds());
    servers.set_all(Behavior::Works);
    let returned = Instant::now();
    std::thread::sleep(Duration::from_secs(5));
    let results = load.stop();
    let first = results.iter().find(|result| result.started >= returned && result.status == 200);
    let back = first
        .map_or("never".to_owned(), |first| format!("{:.1} s", (first.started - returned).as_secs_f64()));
    row(proxy, "all refuse and return", servers, &results, returned + Duration::from_secs(2), &back)
}

fn rolling_restart(proxy: &str, servers: &Servers, address: SocketAddr) -> String {
    let load = Load::start(address, CLIENTS);
    let started = Instant::now();
    std::thread::sleep(Duration::from_secs(1));
    for server in &servers.all {
        server.set(Behavior::Refuses);
        std::thread::sleep(Duration::from_secs(1));
        server.set(Behavior::Works);
        std::thread::sleep(Duration::from_secs(3));
    }
    row(proxy, "three restart in turn", servers, &load.stop(), started, "")
}

/// How many clients succeed when they repeat the request after `Retry-After`; the servers return when it is sent.
fn obeyed_retry_after(servers: &Servers, gateway: &Gateway) -> (u32, u32) {
    const TRIALS: u32 = 8;
    let mut succeeded = 0;
    for trial in 0..TRIALS {
        servers.set_all(Behavior::Refuses);
        let (mut connection, mut number, deadline) =
            (None, 1_000_000 + trial * 10_000, Instant::now() + limit());
        let wait = loop {
            number += 1;
            match exchange(&mut connection, gateway.address(), "GET", number) {
                Ok((503, Some(wait))) => break wait,
                Ok(_) | Err(_) => assert!(Instant::now() < deadline, "no 503"),
            }
        };
        servers.set_all(Behavior::Works);
        std::thread::sleep(Duration::from_secs(wait));
        let status =
            exchange(&mut connection, gateway.address(), "GET", number + 1).map_or(0, |(status, _)| status);
        succeeded += u32::from(status == 200);
    }
    (succeeded, TRIALS)
}

#[test]
#[ignore = "make proof: five minutes of load"]
fn table_of_failing_servers_beside_haproxy() {
    let mut table = String::from(
        "| scenario | proxy | requests | failed | failed once settled | POST twice | upstream / offered | back after |\n\
         |---|---|---|---|---|---|---|---|\n",
    );
    let faults = [
        ("one hangs", Behavior::Hangs),
        ("one resets", Behavior::Resets),
        ("one refuses", Behavior::Refuses),
        ("one accepts nothing", Behavior::Blackholes),
        ("one answers 500 for 70 %", Behavior::MostlyFails),
        ("one is ten times slower", Behavior::Slow),
    ];
    let each_proxy = |run: &dyn Fn(&str, &Servers, SocketAddr) -> String| {
        let mut rows = String::new();
        let servers = Servers::start();
        let gateway = setup(&servers).start();
        rows += &run("statusquo", &servers, gateway.address());
        let servers = Servers::start();
        if let Some(haproxy) = Haproxy::start(&servers) {
            rows += &run("haproxy", &servers, haproxy.address);
        }
        rows
    };
    for (scenario, behavior) in faults {
        table +=
            &each_proxy(&|proxy, servers, address| one_of_three(proxy, scenario, behavior, servers, address));
    }
    table += &each_proxy(&all_of_three);
    table += &each_proxy(&rolling_restart);
    for (name, key, value) in [
        ("no healthy server", "upstream.via", "on"),
        ("breaker", "upstream.breaker", "{ min_requests: 5, open_for: 2s }"),
    ] {
        let servers = Servers::start();
        let (succeeded, trials) = obeyed_retry_after(&servers, &setup(&servers).set(key, value).start());
        let _ = writeln!(
            table,
            "Retry-After obeyed ({name}): {succeeded} of {trials} succeed at the first retry"
        );
        assert_eq!(succeeded, trials);
    }
    println!("{table}");
    let lines = table.lines().filter(|line| line.contains("| statusquo |"));
    for line in lines {
        let columns: Vec<&str> = line.split('|').map(str::trim).collect();
        let share: f64 = columns[5].trim_end_matches(" %").parse().unwrap();
        assert!(share < 0.5, "{line}");
        assert_eq!(columns[6], "0", "{line}");
    }
}
