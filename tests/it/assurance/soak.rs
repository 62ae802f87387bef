//! Faults at full load for minutes on end: what a gateway holds afterwards is what it held before.
//!
//! Good paths and every fault of the upstream, clients that behave, that churn, and that are hostile, over HTTP/1 and over
//! HTTP/2 in TLS ([`super::soak_tls`]), all at once. A few
//! seconds of it run with every `make test`, to see that it works; `make soak` (`SOAK_SECONDS`) runs it for as long as its
//! figures need to mean something, and then a million property cases (`SOAK_CASES`).

use std::io::{Read as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustls::ClientConfig;
use statusquo::rehearse::{FaultyUpstream, upstream_faults};

use super::super::certificates::{Authority, Issued};
use super::super::gateway::{Folder, Gateway, Setup};
use super::super::load::limit;
use super::super::reader::{Asked, Reader};
use super::client_side::{ClientSide, connect};
use super::ledger::Ledger;
use super::peer::Peer;
use super::properties::{impatient, settle};
use super::run::{Plan, run};
use super::upstream_side::{SHORTEST_LIMIT, UpstreamSide, judge};

/// From here on growth of the memory is judged: before, buffers and tables find their size.
const MEANINGFUL: Duration = Duration::from_secs(60);
/// The memory at rest may grow by so much between the end of the warm-up, a quarter of the time, and the end.
const GROWTH: f64 = 0.05;

/// Clients of each kind at once.
const PLAIN: usize = 6;
const FAULTY: usize = 10;
const CHURNING: usize = 2;
const HOSTILE: usize = 4;
/// Of HTTP/2 over TLS, for good paths and as many for faults.
const STREAMING: usize = 2;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is not a number: {text:?}")))
}

/// What is held by the process.
#[derive(Clone, Copy, Debug)]
struct Held {
    /// Resident memory, in bytes.
    memory: f64,
    descriptors: f64,
}

fn held(gateway: &Gateway) -> Held {
    let metrics = gateway.metrics();
    let of = |name: &str| {
        metrics.iter().find(|series| series.name == name).map_or(f64::NAN, |series| series.value)
    };
    Held { memory: of("process_resident_memory_bytes"), descriptors: of("process_open_fds") }
}

/// The load, and what its clients saw.
pub(super) struct Load<'a> {
    pub(super) gateway: &'a Gateway,
    pub(super) ledger: &'a Ledger,
    pub(super) over: &'a AtomicBool,
    /// What clients of the listener with TLS trust.
    pub(super) trusting: &'a [Arc<ClientConfig>; 2],
    /// Connections that hostile clients left in the middle of something.
    left: &'a AtomicU64,
}

impl Load<'_> {
    /// One kept connection, path after path.
    fn ask(&self, paths: &[String], start: usize) -> Result<(), String> {
        let mut at = start;
        while !self.over.load(Ordering::Relaxed) {
            let mut reader = Reader::of_anything(connect(self.gateway.address()).map_err(|e| e.to_string())?);
            loop {
                at += 7;
                let path = &paths[at % paths.len()];
                let request = format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n");
                reader.stream.write_all(request.as_bytes()).map_err(|e| format!("{path}: {e}"))?;
                let asked = Asked::Http11("GET");
                let answer = reader.read(asked).map_err(|none| format!("{path}: no answer: {none:?}"))?;
                self.ledger.answer(&answer);
                judge(&answer, asked).map_err(|breach| format!("{path}: {breach}"))?;
                if !answer.connection_usable || self.over.load(Ordering::Relaxed) {
                    break;
                }
            }
        }
        Ok(())
    }

    /// A connection for each request.
    fn churn(&self) -> Result<(), String> {
        while !self.over.load(Ordering::Relaxed) {
            let begun = Instant::now();
            let mut reader = Reader::new(connect(self.gateway.address()).map_err(|e| e.to_string())?);
            let request = b"GET /ok HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n";
            reader.stream.write_all(request).map_err(|e| e.to_string())?;
            let answer = reader.read(Asked::Http11("GET")).map_err(|none| format!("/ok: {none:?}"))?;
            self.ledger.answer(&answer);
            // At full load a limit may strike although everybody meant well.
            let late = answer.status == 504 && begun.elapsed() >= SHORTEST_LIMIT;
            if answer.status != 200 && !late {
                return Err(format!("a good path is answered with {}", answer.status));
            }
        }
        Ok(())
    }

    /// Leaves in the middle of things: inside a head, inside a body, inside an answer, at once.
    fn annoy(&self, kind: usize) -> Result<(), String> {
        const BEGINNINGS: [&[u8]; 4] = [
            b"GET /ok HTTP/1.1\r\nhost: te",
            b"POST /echo HTTP/1.1\r\nhost: test\r\ncontent-length: 100000\r\n\r\nnot all of it",
            b"GET /bytes/1000000 HTTP/1.1\r\nhost: test\r\n\r\n",
            b"",
        ];
        let mut room = [0; 1024];
        while !self.over.load(Ordering::Relaxed) {
            let mut stream = connect(self.gateway.address()).map_err(|e| e.to_string())?;
            stream.write_all(BEGINNINGS[kind % BEGINNINGS.len()]).map_err(|e| e.to_string())?;
            if kind % BEGINNINGS.len() == 2 {
                let _ = stream.read(&mut room);
            }
            if kind.is_multiple_of(2) {
                let _ = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
            }
            self.left.fetch_add(1, Ordering::Relaxed);
            // What it takes from the machine should be the gateway's time, not ours.
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }
}

/// One stretch of load: what clients complained about, and what was held meanwhile (medians).
struct Phase {
    failures: Vec<String>,
    memory: f64,
    descriptors: f64,
}

impl Load<'_> {
    /// Everything at once, for so long.
    fn phase(
        &self,
        misbehaving: &FaultyUpstream,
        good: &[String],
        faults: &[String],
        time: Duration,
    ) -> Phase {
        let begun = Instant::now();
        let (mut memory, mut descriptors) = (Vec::new(), Vec::new());
        self.over.store(false, Ordering::Relaxed);
        let failures = std::thread::scope(|scope| {
            let mut clients = Vec::new();
            clients.extend((0..PLAIN).map(|start| scope.spawn(move || self.ask(good, start))));
            clients.extend((0..FAULTY).map(|start| scope.spawn(move || self.ask(faults, 3 * start))));
            clients.extend((0..CHURNING).map(|_| scope.spawn(|| self.churn())));
            clients.extend((0..STREAMING).map(|start| scope.spawn(move || self.ask_h2(good, start))));
            clients.extend((0..STREAMING).map(|start| scope.spawn(move || self.ask_h2(faults, 5 * start))));
            clients.push(scope.spawn(|| self.churn_tls()));
            clients.extend((0..HOSTILE).map(|kind| scope.spawn(move || self.annoy(kind))));
            while begun.elapsed() < time && clients.iter().all(|client| !client.is_finished()) {
                std::thread::sleep(Duration::from_millis(200).min(time.saturating_sub(begun.elapsed())));
                misbehaving.clear_recording();
                let held = held(self.gateway);
                memory.push(held.memory);
                descriptors.push(held.descriptors);
            }
            self.over.store(true, Ordering::Relaxed);
            clients.into_iter().filter_map(|client| client.join().unwrap().err()).collect()
        });
        Phase { failures, memory: median(memory), descriptors: median(descriptors) }
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// What is held when nobody asks for anything: idle connections to upstreams are given up after a second. Under load
/// memory follows the connections of the moment, by a fifth and more; at rest nothing but a leak is left of them.
fn at_rest(gateway: &Gateway, start: Held) -> Held {
    let deadline = Instant::now() + limit();
    loop {
        let held = held(gateway);
        if held.descriptors <= start.descriptors || Instant::now() > deadline {
            return held;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn in_front_of(misbehaving: &FaultyUpstream, limit: Duration, issued: &Issued) -> Gateway {
    let folder = Folder::new();
    let file = |name: &str, text: &str| folder.write(name, text).display().to_string();
    let (cert, key) = (file("test.crt", &issued.cert), file("test.key", &issued.key));
    let [(_, scripted), others @ ..] = misbehaving.addresses();
    let mut setup = Setup::of_servers(&[scripted])
        .set("log.requests", "off")
        .set("timeouts.connect", "200ms")
        .set("timeouts.response_head", "300ms")
        .set("timeouts.total", "600ms")
        .set("timeouts.between_bytes", "300ms")
        .set("client.header_timeout", "500ms")
        .set("client.body_timeout", "500ms")
        .set("client.idle_timeout", "1s")
        .set("upstream.keepalive", "{ idle: 1s }")
        .tls_beside(&format!("{{ cert: \"{cert}\", key: \"{key}\" }}"))
        .holding(folder)
        .limit(limit);
    for (place, address) in others {
        let scheme = if place.wants_tls() { "https://" } else { "" };
        setup = setup.named_upstream(place.name(), &[&format!("{scheme}{address}")]);
        if place.wants_tls() {
            setup = setup.set(&format!("upstream {}.tls", place.name()), "{ verify: false }");
        }
        if place.wants_http2() {
            setup = setup.set(&format!("upstream {}.http2", place.name()), "always");
        }
        for fault in upstream_faults().iter().filter(|fault| fault.server_kind == place) {
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
fn minutes_of_faults_at_full_load_leave_nothing_behind() {
    let time = Duration::from_secs(number("SOAK_SECONDS").unwrap_or(4));
    let misbehaving = FaultyUpstream::start().unwrap();
    let authority = Authority::new();
    let trusting = [authority.trusted_by_client(&["http/1.1"]), authority.trusted_by_client(&["h2"])];
    let issued = authority.issue(&["test"]);
    let gateway = in_front_of(&misbehaving, time + Duration::from_secs(120), &issued);
    let (ledger, over, left) = (Ledger::default(), AtomicBool::new(false), AtomicU64::new(0));
    let load = Load { gateway: &gateway, ledger: &ledger, over: &over, trusting: &trusting, left: &left };
    let faults: Vec<String> = upstream_faults().iter().map(|fault| fault.path()).collect();
    let good =
        ["/ok", "/created", "/no-content", "/not-modified", "/hints", "/bytes/5000"].map(str::to_owned);

    let start = held(&gateway);
    let first = load.phase(&misbehaving, &good, &faults, time / 4);
    let warm = at_rest(&gateway, start);
    let second = load.phase(&misbehaving, &good, &faults, time - time / 4);
    let end = at_rest(&gateway, start);

    let sums = ledger.sums();
    let counted = |name: &str| gateway.metric(name, &[]);
    let seen: u64 = sums.answers.values().sum();
    let growth = end.memory / warm.memory - 1.0;
    let mebibytes = |bytes: f64| bytes / 1024.0 / 1024.0;
    let left = left.load(Ordering::Relaxed);
    eprintln!("soak: {} s", time.as_secs());
    eprintln!(
        "  answers that clients read          {seen:>12}   {:.0} a second",
        seen as f64 / time.as_secs_f64()
    );
    eprintln!(
        "  of them errors                     {:>12}",
        sums.answers.range(400..).map(|(_, n)| n).sum::<u64>()
    );
    eprintln!("  of them visibly cut                {:>12}", sums.cut);
    eprintln!("  connections left by hostile clients{left:>12}");
    eprintln!("  responses counted                  {:>12}", counted("responses_total"));
    eprintln!("  silences counted                   {:>12}", counted("closed_without_response_total"));
    eprintln!("  panics                             {:>12}", counted("panics_total"));
    eprintln!(
        "  memory at rest, start / warm / end {:>12.1} / {:.1} / {:.1} MiB   {:+.1} %",
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
    assert_eq!(failures, Vec::<String>::new(), "what clients saw");
    assert!(end.descriptors <= start.descriptors, "descriptors were not given back: {start:?}, {end:?}");
    assert!(time < MEANINGFUL || growth < GROWTH, "memory grew by {:.1} %", 100.0 * growth);
    // Clients that leave read nothing: each of them is one response or one silence, and those who leave inside an answer
    // are both a response and an abort.
    ledger.add(|sums| sums.unknown = (left, left));
    assert_eq!(ledger.differences(&gateway), Vec::<String>::new());
}

/// A few of them with every `make test`; all of them with `make soak` (`SOAK_CASES`).
#[test]
fn a_million_cases_lead_out_of_the_contract_nowhere() {
    let cases: u64 = number("SOAK_CASES").unwrap_or(2_000);
    let plan = Plan { cases: cases / 2, ..Plan::of_environment(0) };
    let limit = limit().max(Duration::from_millis(10 * cases));
    let (peer, ledger) = (Peer::start(), Ledger::default());
    let gateway = impatient(&peer).limit(limit).start();
    let side = ClientSide { gateway: gateway.address(), ledger: &ledger };
    let played = run("client side", plan, &side);
    settle(&gateway, &ledger, &peer);

    let (peer, ledger) = (Peer::start(), Ledger::default());
    let gateway = super::properties::with_two_upstreams(&peer).limit(limit).start();
    let side = UpstreamSide { gateway: gateway.address(), peer: &peer, ledger: &ledger };
    let played = played + run("upstream side", plan, &side);
    settle(&gateway, &ledger, &peer);
    assert_eq!(played, plan.cases * 2);
    eprintln!("soak: {played} cases in all");
}
