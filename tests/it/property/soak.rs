//! Soak test: after minutes of faults at full load, the gateway holds the same resources as before.
//!
//! Successful routes and every upstream fault, with well-behaved, short-lived and hostile clients, over HTTP/1 and over
//! HTTP/2 with TLS ([`super::soak_tls`]), all at once. `make test` runs a few seconds of it; `make soak` runs it long
//! enough for meaningful figures (`SOAK_SECONDS`), followed by a million property cases (`SOAK_CASES`).

use std::io::{Read as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustls::ClientConfig;
use statusquo::conformance::{FaultyUpstream, ServerKind, upstream_faults};

use super::super::certificates::{Authority, Issued};
use super::super::prelude::*;
use super::super::response_reader::StrictReader;
use super::client_bytes::{ClientProperty, connect};
use super::contract::{check_settled, short_timeouts};
use super::observed::ObservedResponses;
use super::runner::{CasePlan, run};
use super::strict_upstream::StrictUpstream;
use super::upstream_bytes::{SHORTEST_TIMEOUT, UpstreamProperty, check_response};

/// Memory growth is asserted only for runs of at least this time: buffers and tables grow to their size first.
const MIN_MEASURED: Duration = Duration::from_secs(60);
/// Largest relative growth of idle memory between the end of the warm-up (a quarter of the run) and the end.
const MAX_GROWTH: f64 = 0.05;

/// Concurrent HTTP/1 clients of each kind.
const PLAIN_CLIENTS: usize = 6;
const FAULT_CLIENTS: usize = 10;
const CHURN_CLIENTS: usize = 2;
const HOSTILE_CLIENTS: usize = 4;
/// Concurrent HTTP/2 clients over TLS, for successful routes and as many for faults.
const STREAM_CLIENTS: usize = 2;

fn env_number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is not a number: {text:?}")))
}

/// Resources held by the process.
#[derive(Clone, Copy, Debug)]
struct ResourceUse {
    /// Resident memory, in bytes.
    memory: f64,
    descriptors: f64,
}

fn resource_use(gateway: &Gateway) -> ResourceUse {
    let metrics = gateway.metrics();
    let of = |name: &str| {
        metrics.iter().find(|series| series.name == name).map_or(f64::NAN, |series| series.value)
    };
    ResourceUse { memory: of("process_resident_memory_bytes"), descriptors: of("process_open_fds") }
}

/// The load and its client-side counts.
pub(super) struct SoakLoad<'a> {
    pub(super) gateway: &'a Gateway,
    pub(super) observed: &'a ObservedResponses,
    pub(super) stop: &'a AtomicBool,
    /// TLS client configurations that trust the listener.
    pub(super) trusting: &'a [Arc<ClientConfig>; 2],
    /// Connections that hostile clients abandoned.
    abandoned: &'a AtomicU64,
}

impl SoakLoad<'_> {
    /// Sends requests for all paths in turn on one kept connection.
    fn request_loop(&self, paths: &[String], start: usize) -> Result<(), String> {
        let mut position = start;
        while !self.stop.load(Ordering::Relaxed) {
            let mut reader = StrictReader::allowing_any_headers(
                connect(self.gateway.address()).map_err(|e| e.to_string())?,
            );
            loop {
                position += 7;
                let path = &paths[position % paths.len()];
                let request = format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n");
                reader.stream.write_all(request.as_bytes()).map_err(|e| format!("{path}: {e}"))?;
                let sent_request = SentRequest::Http11("GET");
                let response =
                    reader.read(sent_request).map_err(|error| format!("{path}: no response: {error:?}"))?;
                self.observed.record(&response);
                check_response(&response, sent_request)
                    .map_err(|violation| format!("{path}: {violation}"))?;
                if !response.connection_usable || self.stop.load(Ordering::Relaxed) {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Opens a connection for each request.
    fn churn(&self) -> Result<(), String> {
        while !self.stop.load(Ordering::Relaxed) {
            let started = Instant::now();
            let mut reader = StrictReader::new(connect(self.gateway.address()).map_err(|e| e.to_string())?);
            let request = b"GET /ok HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n";
            reader.stream.write_all(request).map_err(|e| e.to_string())?;
            let response =
                reader.read(SentRequest::Http11("GET")).map_err(|error| format!("/ok: {error:?}"))?;
            self.observed.record(&response);
            // At full load a timeout may expire although no peer is slow.
            let timed_out = response.status == 504 && started.elapsed() >= SHORTEST_TIMEOUT;
            if response.status != 200 && !timed_out {
                return Err(format!("a successful route responded {}", response.status));
            }
        }
        Ok(())
    }

    /// Disconnects at different points: inside the headers, inside the body, inside the response, or immediately.
    fn abandon_connections(&self, kind: usize) -> Result<(), String> {
        const PARTIAL_REQUESTS: [&[u8]; 4] = [
            b"GET /ok HTTP/1.1\r\nhost: te",
            b"POST /echo HTTP/1.1\r\nhost: test\r\ncontent-length: 100000\r\n\r\nnot all of it",
            b"GET /bytes/1000000 HTTP/1.1\r\nhost: test\r\n\r\n",
            b"",
        ];
        let mut buffer = [0; 1024];
        while !self.stop.load(Ordering::Relaxed) {
            let mut stream = connect(self.gateway.address()).map_err(|e| e.to_string())?;
            stream.write_all(PARTIAL_REQUESTS[kind % PARTIAL_REQUESTS.len()]).map_err(|e| e.to_string())?;
            if kind % PARTIAL_REQUESTS.len() == 2 {
                let _ = stream.read(&mut buffer);
            }
            if kind.is_multiple_of(2) {
                let _ = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
            }
            self.abandoned.fetch_add(1, Ordering::Relaxed);
            // Leaves CPU time to the gateway.
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }
}

/// One phase of load: client errors, and median resource use.
struct SoakPhase {
    failures: Vec<String>,
    memory: f64,
    descriptors: f64,
}

impl SoakLoad<'_> {
    /// Runs all kinds of load for this time.
    fn phase(
        &self,
        faulty_upstream: &FaultyUpstream,
        success_paths: &[String],
        faults: &[String],
        time: Duration,
    ) -> SoakPhase {
        let started = Instant::now();
        let (mut memory, mut descriptors) = (Vec::new(), Vec::new());
        self.stop.store(false, Ordering::Relaxed);
        let failures = std::thread::scope(|scope| {
            let mut clients = Vec::new();
            clients.extend(
                (0..PLAIN_CLIENTS).map(|start| scope.spawn(move || self.request_loop(success_paths, start))),
            );
            clients.extend(
                (0..FAULT_CLIENTS).map(|start| scope.spawn(move || self.request_loop(faults, 3 * start))),
            );
            clients.extend((0..CHURN_CLIENTS).map(|_| scope.spawn(|| self.churn())));
            clients.extend(
                (0..STREAM_CLIENTS)
                    .map(|start| scope.spawn(move || self.request_loop_h2(success_paths, start))),
            );
            clients.extend(
                (0..STREAM_CLIENTS).map(|start| scope.spawn(move || self.request_loop_h2(faults, 5 * start))),
            );
            clients.push(scope.spawn(|| self.churn_tls()));
            clients
                .extend((0..HOSTILE_CLIENTS).map(|kind| scope.spawn(move || self.abandon_connections(kind))));
            while started.elapsed() < time && clients.iter().all(|client| !client.is_finished()) {
                std::thread::sleep(Duration::from_millis(200).min(time.saturating_sub(started.elapsed())));
                faulty_upstream.clear_recording();
                let usage = resource_use(self.gateway);
                memory.push(usage.memory);
                descriptors.push(usage.descriptors);
            }
            self.stop.store(true, Ordering::Relaxed);
            clients.into_iter().filter_map(|client| client.join().unwrap().err()).collect()
        });
        SoakPhase { failures, memory: median(memory), descriptors: median(descriptors) }
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Resources of an idle gateway: idle upstream connections are closed after 1 s. Under load, memory varies with the
/// number of connections by 20 percent and more; when idle, only a leak remains.
fn wait_until_idle(gateway: &Gateway, start: ResourceUse) -> ResourceUse {
    let deadline = Instant::now() + limit();
    loop {
        let usage = resource_use(gateway);
        if usage.descriptors <= start.descriptors || Instant::now() > deadline {
            return usage;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn start_gateway(faulty_upstream: &FaultyUpstream, limit: Duration, issued: &Issued) -> Gateway {
    let folder = TestFolder::new();
    let file = |name: &str, text: &str| folder.write(name, text).display().to_string();
    let (cert, key) = (file("test.crt", &issued.cert), file("test.key", &issued.key));
    let scripted = faulty_upstream.address(ServerKind::Scripted);
    let mut setup = GatewaySetup::with_servers(&[scripted])
        .set("log.requests", "off")
        .set("timeouts.connect", "200ms")
        .set("timeouts.response_headers", "300ms")
        .set("timeouts.deadline", "600ms")
        .set("timeouts.body_idle", "300ms")
        .set("client.header_timeout", "500ms")
        .set("client.body_timeout", "500ms")
        .set("client.idle_timeout", "1s")
        .set("upstream.keepalive", "{ idle: 1s }")
        .with_tls_listener(&format!("{{ cert: \"{cert}\", key: \"{key}\" }}"))
        .keep_folder(folder)
        .limit(limit);
    for (server_kind, server) in faulty_upstream.servers().skip(1) {
        let scheme = if server_kind.requires_tls() { "https://" } else { "" };
        setup = setup.named_upstream(server_kind.upstream_name(), &[&format!("{scheme}{server}")]);
        if server_kind.requires_tls() {
            setup = setup.set(&format!("upstream {}.tls", server_kind.upstream_name()), "{ verify: false }");
        }
        if server_kind.requires_http2() {
            setup = setup.set(&format!("upstream {}.http2", server_kind.upstream_name()), "always");
        }
        for fault in upstream_faults().iter().filter(|fault| fault.server_kind == server_kind) {
            let (name, path) = (fault.name, fault.path());
            setup = setup.route(&format!(
                "name: {name}, match: {{ path: {path} }}, upstream: {}",
                fault.server_kind.upstream_name()
            ));
        }
    }
    setup.route("name: rest, match: { path: \"/{*rest}\" }, upstream: main").start()
}

#[test]
fn sustained_faults_at_full_load_leak_nothing() {
    let time = Duration::from_secs(env_number("SOAK_SECONDS").unwrap_or(4));
    let faulty_upstream = FaultyUpstream::start().unwrap();
    let authority = Authority::new();
    let trusting = [authority.trusting_client(&["http/1.1"]), authority.trusting_client(&["h2"])];
    let issued = authority.issue(&["test"]);
    let gateway = start_gateway(&faulty_upstream, time + Duration::from_secs(120), &issued);
    let (observed, stop, abandoned) =
        (ObservedResponses::default(), AtomicBool::new(false), AtomicU64::new(0));
    let load = SoakLoad {
        gateway: &gateway,
        observed: &observed,
        stop: &stop,
        trusting: &trusting,
        abandoned: &abandoned,
    };
    let faults: Vec<String> = upstream_faults().iter().map(|fault| fault.path()).collect();
    let success_paths =
        ["/ok", "/created", "/no-content", "/not-modified", "/hints", "/bytes/5000"].map(str::to_owned);

    let start = resource_use(&gateway);
    let first = load.phase(&faulty_upstream, &success_paths, &faults, time / 4);
    let warm = wait_until_idle(&gateway, start);
    let second = load.phase(&faulty_upstream, &success_paths, &faults, time - time / 4);
    let end = wait_until_idle(&gateway, start);

    let sums = observed.counts();
    let counted = |name: &str| gateway.metric(name, &[]);
    let seen: u64 = sums.responses.values().sum();
    let growth = end.memory / warm.memory - 1.0;
    let mebibytes = |bytes: f64| bytes / 1024.0 / 1024.0;
    let abandoned = abandoned.load(Ordering::Relaxed);
    eprintln!("soak: {} s", time.as_secs());
    eprintln!(
        "  responses seen by clients          {seen:>12}   {:.0} per second",
        seen as f64 / time.as_secs_f64()
    );
    eprintln!(
        "  of them errors                     {:>12}",
        sums.responses.range(400..).map(|(_, n)| n).sum::<u64>()
    );
    eprintln!("  of them truncated                  {:>12}", sums.truncated);
    eprintln!("  abandoned connections              {abandoned:>12}");
    eprintln!("  responses counted                  {:>12}", counted("responses_total"));
    eprintln!("  closes without response counted    {:>12}", counted("closed_without_response_total"));
    eprintln!("  panics                             {:>12}", counted("panics_total"));
    eprintln!(
        "  idle memory, start   / warm / end {:>12.1} / {:.1} / {:.1} MiB   {:+.1} %",
        mebibytes(start.memory),
        mebibytes(warm.memory),
        mebibytes(end.memory),
        100.0 * growth
    );
    eprintln!(
        "  memory under load, median          {:>12.1} / {:.1} MiB",
        mebibytes(first.memory),
        mebibytes(second.memory)
    );
    eprintln!(
        "  descriptors, start / load / end    {:>12} / {} / {}",
        start.descriptors, second.descriptors, end.descriptors
    );

    let failures = [first.failures, second.failures].concat();
    assert_eq!(failures, Vec::<String>::new(), "errors seen by clients");
    assert!(end.descriptors <= start.descriptors, "leaked descriptors: {start:?}, {end:?}");
    assert!(time < MIN_MEASURED || growth < MAX_GROWTH, "memory grew by {:.1} %", 100.0 * growth);
    // Disconnecting clients read nothing: each of them causes one response or one close; those that disconnect inside a
    // response cause a response and an abort.
    observed.update(|sums| sums.uncertain = (abandoned, abandoned));
    assert_eq!(observed.differences(&gateway), Vec::<String>::new());
}

/// A few cases with every `make test`; all with `make soak` (`SOAK_CASES`).
#[test]
fn million_random_cases_never_break_the_contract() {
    let cases: u64 = env_number("SOAK_CASES").unwrap_or(2_000);
    let plan = CasePlan { cases: cases / 2, ..CasePlan::from_environment(0) };
    let limit = limit().max(Duration::from_millis(10 * cases));
    let (peer, observed) = (StrictUpstream::start(), ObservedResponses::default());
    let gateway = short_timeouts(&peer).limit(limit).start();
    let property = ClientProperty { gateway: gateway.address(), observed: &observed };
    let played = run("client side", plan, &property);
    check_settled(&gateway, &observed, &peer);

    let (peer, observed) = (StrictUpstream::start(), ObservedResponses::default());
    let gateway = super::contract::with_two_upstreams(&peer).limit(limit).start();
    let property = UpstreamProperty { gateway: gateway.address(), peer: &peer, observed: &observed };
    let played = played + run("upstream side", plan, &property);
    check_settled(&gateway, &observed, &peer);
    assert_eq!(played, plan.cases * 2);
    eprintln!("soak: {played} cases in all");
}
