//! Redis ails: it is not there, lost, stopped, slow, restarted, emptied, or talks nonsense. By policy no request fails,
//! none waits for long, the metrics tell, and everything recovers by itself.
//!
//! `make chaos` plays the same for longer (`CHAOS_SECONDS` for each fault) and prints the table.

use std::fmt::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use statusquo::rehearse::ScriptedUpstream;

use super::commands_explain::{expected, explained, told};
use super::gateway::{Gateway, Setup};
use super::load::{limit, millis};
use super::redis_relay::{Conduct, Relay};
use super::redis_server::{self, Redis};
use super::upstreams::ok;

const SECRET: &str = "secret: sixteen-or-more-letters";

fn counting(upstream: &ScriptedUpstream, url: &str, more: &str, rule: &str) -> Setup {
    Gateway::in_front_of(upstream)
        .limit(Duration::from_secs(60))
        .set("stores", &format!("{{ shared: {{ redis: \"{url}\", {SECRET}, {more} }} }}"))
        .set("rate_limits", &format!("{{ a: {{ store: shared, {rule} }} }}"))
        .route("name: all, upstream: main, rate_limits: [a]")
}

fn statuses(gateway: &Gateway, number: usize) -> Vec<u16> {
    let mut client = gateway.client();
    (0..number).map(|_| client.get("/").status).collect()
}

/// Waits until a question to the store has had its answer again.
#[track_caller]
fn until_it_answers(gateway: &Gateway, path: &str) {
    let deadline = Instant::now() + limit();
    let figures = || {
        let asked = gateway.metric("rate_limit_store_duration_seconds_count", &[]);
        (asked, gateway.metric("rate_limit_store_errors_total", &[]))
    };
    loop {
        let before = figures();
        gateway.client().get(path);
        let after = figures();
        if after.0 > before.0 && after.1 == before.1 {
            return;
        }
        assert!(Instant::now() < deadline, "it does not recover; the gateway says:\n{}", gateway.log_text());
        // Each look is a connection, and its port is not free again for a minute.
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_dead_redis_does_not_stop_the_gateway_and_is_used_when_it_comes() {
    let (upstream, mut redis) = (ok("fine"), Redis::start());
    redis.kill();
    let gateway = counting(&upstream, &redis.url(), "timeout: 1s", "allow: 2 per 1h").start();
    assert_eq!(statuses(&gateway, 3), [200, 200, 429], "counted in memory");
    gateway.expect_metric("rate_limit_store_errors_total", &[("store", "shared"), ("kind", "resting")], 3.0);
    let decided = |decision| [("rule", "a"), ("store", "shared"), ("decision", decision)];
    gateway.expect_metric("rate_limit_decisions_total", &decided("allowed"), 2.0);
    redis.start_again();
    until_it_answers(&gateway, "/other");
    assert_eq!(redis.keys().len(), 1);
    gateway.log_line(|line| line["message"] == "cannot reach a store of rate limits; trying on");
    gateway.log_line(|line| line["message"] == "connected to a store of rate limits");
    gateway.expect_accounts_to_agree();
}

#[test]
fn what_a_lost_redis_means_for_requests_is_the_operators_choice() {
    let (upstream, mut redis) = (ok("fine"), Redis::start());
    redis.kill();
    let open = counting(&upstream, &redis.url(), "on_failure: allow", "allow: 1 per 1h").start();
    let mut client = open.client();
    for _ in 0..3 {
        let answer = client.get("/");
        answer.is(200, "fine");
        assert_eq!(answer.field("x-ratelimit-limit"), None, "nobody knows");
    }
    let decided = |decision| [("rule", "a"), ("decision", decision)];
    open.expect_metric("rate_limit_decisions_total", &decided("failed_open"), 3.0);

    let closed = counting(&upstream, &redis.url(), "on_failure: refuse", "allow: 1 per 1h").start();
    let mut client = closed.client();
    for _ in 0..3 {
        client.get("/").is_made(503);
    }
    closed.expect_metric("rate_limit_decisions_total", &decided("failed_closed"), 3.0);
    closed.expect_metric("errors_total", &[("cause", "limiter_unavailable"), ("code", "503")], 3.0);
    closed.expect_accounts_to_agree();
    assert_eq!(upstream.request_count(), 3);
}

#[test]
fn a_store_that_is_gone_is_explained_as_it_is_answered() {
    let (upstream, mut redis) = (ok("fine"), Redis::start());
    redis.kill();
    let start = |rules: &str, names: &str| {
        counting(&upstream, &redis.url(), "on_failure: refuse", "allow: 1 per 1h")
            .set("rate_limits", rules)
            .route(&format!("name: other, match: {{ path: /other }}, upstream: main, rate_limits: {names}"))
            .start()
    };
    for (rules, names) in [
        ("{ a: { store: shared, allow: 4 per 1h } }", "[a]"),
        ("{ a: { store: shared, allow: 4 per 1h }, near: { allow: 9 per 1h } }", "[a, near]"),
    ] {
        let gateway = start(rules, names);
        let wire = gateway.client().get("/other");
        wire.is_made(503);
        let explained = explained(&gateway, "--cause limiter_unavailable --route other");
        assert_eq!(told(&wire), expected(&explained), "{rules}");
    }
}

#[test]
fn whom_redis_refused_is_refused_until_the_wait_ends_even_while_it_is_gone() {
    let (upstream, mut redis) = (ok("fine"), Redis::start());
    let rule = "key: [\"header:x-id\"], allow: 1 per 1h";
    let gateway = counting(&upstream, &redis.url(), "timeout: 1s, on_failure: allow", rule).start();
    let mut client = gateway.client();
    let mut ask = |id: &str| client.ask("GET", "/", &format!("x-id: {id}\r\n"), "").status;
    assert_eq!([ask("a"), ask("a")], [200, 429]);
    redis.kill();
    assert_eq!([ask("b"), ask("a"), ask("b"), ask("a"), ask("a")], [200, 429, 200, 429, 429]);
    // And a short wait does end.
    let mut redis = Redis::start();
    let period = millis(2000);
    let rule = format!("allow: 1 per {}ms", period.as_millis());
    let gateway = counting(&upstream, &redis.url(), "timeout: 1s, on_failure: allow", &rule).start();
    let mut client = gateway.client();
    let began = Instant::now();
    assert_eq!([client.get("/").status, client.get("/").status], [200, 429]);
    redis.kill();
    while client.get("/").status == 429 {
        assert!(began.elapsed() < limit());
        thread::sleep(Duration::from_millis(5));
    }
    assert!(began.elapsed() >= period / 2);
}

#[test]
fn a_redis_that_stops_in_its_tracks_costs_the_time_limit_and_then_nothing() {
    let (upstream, redis) = (ok("fine"), Redis::start());
    let more = "timeout: 300ms, on_failure: allow";
    let gateway = counting(&upstream, &redis.url(), more, "allow: 1000 per 1h").start();
    assert_eq!(statuses(&gateway, 1), [200]);
    redis.pause();
    let mut client = gateway.client();
    for number in 0..5 {
        let began = Instant::now();
        client.get("/").is(200, "fine");
        assert!(began.elapsed() >= Duration::from_millis(300), "{number}: {:?}", began.elapsed());
    }
    // Five in a row are no accident.
    let kind = |kind| [("store", "shared"), ("kind", kind)];
    gateway.expect_metric("rate_limit_store_errors_total", &kind("timeout"), 5.0);
    for _ in 0..100 {
        client.get("/").is(200, "fine");
    }
    gateway.expect_metric("rate_limit_store_errors_total", &kind("timeout"), 5.0);
    gateway.expect_metric("rate_limit_store_errors_total", &kind("resting"), 100.0);
    redis.resume();
    until_it_answers(&gateway, "/");
    gateway.expect_accounts_to_agree();
}

#[test]
#[ignore = "make proof: a fleet of Redis nodes"]
fn a_lost_node_of_a_cluster_costs_no_request_and_is_found_again() {
    let (upstream, mut nodes) = (ok("fine"), redis_server::cluster());
    let url = nodes[0].url().replace("redis://", "redis+cluster://");
    let rule = "key: [\"header:x-id\"], allow: 5 per 1h";
    let gateway = counting(&upstream, &url, "timeout: 100ms", rule).start();
    // Of these clients some are at home on each node.
    let round = |name: &str| {
        let mut client = gateway.client();
        let mut ask = |number| client.ask("GET", "/", &format!("x-id: {name}{number}\r\n"), "").status;
        (0..30).map(&mut ask).all(|status| status == 200)
    };
    assert!(round("before"));
    gateway.expect_metric("rate_limit_store_errors_total", &[], 0.0);
    nodes[2].kill();
    for number in 0..10 {
        assert!(round(&format!("lost{number}")));
    }
    assert!(gateway.metric("rate_limit_store_errors_total", &[]) > 0.0);
    nodes[2].start_again();
    redis_server::until_agreed(&nodes);
    let deadline = Instant::now() + limit();
    let errors = || gateway.metric("rate_limit_store_errors_total", &[]);
    for number in 0.. {
        let before = errors();
        assert!(round(&format!("back{number}")));
        if errors() == before {
            break;
        }
        assert!(Instant::now() < deadline, "it does not recover; the gateway says:\n{}", gateway.log_text());
        thread::sleep(Duration::from_millis(100));
    }
    gateway.expect_accounts_to_agree();
}

#[test]
fn nonsense_from_the_store_is_an_error_of_the_store_and_never_more() {
    let (upstream, redis) = (ok("fine"), Redis::start());
    let relay = Relay::to(redis.port());
    let more = "timeout: 1s, on_failure: refuse";
    let gateway = counting(&upstream, &relay.url(), more, "allow: 1000 per 1h").start();
    let nonsense: [(&[u8], &[&str]); 11] = [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", &["garbage", "unreachable"]),
        (b"\x00\xff\x80\x81", &["garbage", "unreachable"]),
        (b"*99999999999999999999\r\n", &["garbage", "unreachable"]),
        (b"$-7\r\n", &["garbage", "unreachable"]),
        (b"-ERR nonsense\r\n", &["refused"]),
        (b"-READONLY You can't write against a read only replica.\r\n", &["unreachable"]),
        (b":1\r\n", &["garbage"]),
        (b"$5\r\nhello\r\n", &["garbage"]),
        (b"*0\r\n", &["garbage"]),
        (b"*6\r\n:1795384886\r\n:0\r\n:1\r\n:-1\r\n:0\r\n:0\r\n", &["garbage"]),
        (b"*6\r\n:1795384886\r\n:0\r\n:0\r\n:0\r\n:0\r\n:0\r\n", &["garbage"]),
    ];
    for (bytes, kinds) in nonsense {
        let bytes: &'static [u8] = bytes;
        relay.set(Conduct::Pass);
        until_it_answers(&gateway, "/");
        let counted = || {
            let of = |kind: &&str| gateway.metric("rate_limit_store_errors_total", &[("kind", kind)]);
            kinds.iter().map(of).sum::<f64>()
        };
        let before = counted();
        relay.set(Conduct::Says(bytes));
        let told = format!("{:?}", String::from_utf8_lossy(bytes));
        gateway.client().get("/").is_made(503);
        assert!(counted() > before, "{told}");
    }
    relay.set(Conduct::Pass);
    until_it_answers(&gateway, "/");
    gateway.expect_accounts_to_agree();
}

/// What is done to Redis, and what undoes it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    None,
    Killed,
    Stopped,
    Restarted,
    Flushed,
    ScriptsFlushed,
    Relayed(Conduct),
}

const FAULTS: [(&str, Fault, &[&str]); 11] = [
    ("nothing", Fault::None, &[]),
    ("killed", Fault::Killed, &["unreachable"]),
    ("stopped (SIGSTOP)", Fault::Stopped, &["timeout"]),
    ("restarted", Fault::Restarted, &["unreachable"]),
    ("flushed again and again", Fault::Flushed, &[]),
    ("scripts flushed", Fault::ScriptsFlushed, &[]),
    ("slow: 60 ms", Fault::Relayed(Conduct::Late(Duration::from_millis(60))), &["timeout"]),
    ("silent", Fault::Relayed(Conduct::Silent), &["timeout"]),
    ("connections cut", Fault::Relayed(Conduct::Cut), &["unreachable"]),
    ("answers bytes", Fault::Relayed(Conduct::Says(b"\x00\xff nonsense\r\n")), &["garbage", "unreachable"]),
    ("answers errors", Fault::Relayed(Conduct::Says(b"-ERR no\r\n")), &["refused"]),
];

/// What clients saw of one fault, by the policy's path.
#[derive(Default)]
struct Seen {
    statuses: std::collections::BTreeMap<(&'static str, u16), u64>,
    times: Vec<Duration>,
}

#[test]
#[ignore = "make proof: chaos"]
fn by_policy_no_request_fails_or_waits_while_redis_ails_under_load() {
    let seconds = std::env::var("CHAOS_SECONDS").ok().and_then(|text| text.parse::<f64>().ok());
    let lasts = Duration::from_secs_f64(seconds.unwrap_or(0.4));
    let (upstream, mut redis) = (ok("fine"), Redis::start());
    let relay = Relay::to(redis.port());
    let store =
        |policy: &str| format!("{policy}: {{ redis: \"{}\", {SECRET}, on_failure: {policy} }}", relay.url());
    let stores: Vec<String> = ["use_memory", "allow", "refuse"].iter().map(|policy| store(policy)).collect();
    let rules: Vec<String> = ["use_memory", "allow", "refuse"]
        .iter()
        .map(|policy| format!("{policy}: {{ store: {policy}, key: [route], allow: 1000000 per 1s }}"))
        .collect();
    let mut setup = Gateway::in_front_of(&upstream)
        .limit(Duration::from_secs(120) + lasts * 30)
        .set("stores", &format!("{{ {} }}", stores.join(", ")))
        .set("rate_limits", &format!("{{ {} }}", rules.join(", ")))
        .set("log.requests", "off");
    for policy in ["use_memory", "allow", "refuse"] {
        setup = setup.route(&format!(
            "name: {policy}, match: {{ path: /{policy} }}, upstream: main, rate_limits: [{policy}]"
        ));
    }
    let gateway = setup.start();
    let kinds = ["timeout", "unreachable", "garbage", "refused", "resting"];
    let counted_errors =
        || kinds.map(|kind| gateway.metric("rate_limit_store_errors_total", &[("kind", kind)]));
    let mut table = String::new();
    writeln!(
        table,
        "| fault | requests | 200 | 503 (refuse) | median | 99 % | longest | {} | back after |",
        kinds.join(" | ")
    )
    .unwrap();
    writeln!(table, "|{}", "---|".repeat(8 + kinds.len())).unwrap();
    for (name, fault, expected) in FAULTS {
        for path in ["/use_memory", "/allow", "/refuse"] {
            until_it_answers(&gateway, path);
        }
        let (before, over, seen) = (counted_errors(), AtomicBool::new(false), Mutex::new(Seen::default()));
        let back = thread::scope(|scope| {
            for first in 0..6 {
                let (gateway, over, seen) = (&gateway, &over, &seen);
                scope.spawn(move || load(gateway, first, over, seen));
            }
            suffer(&mut redis, &relay, fault, lasts);
            let healed = Instant::now();
            for path in ["/use_memory", "/allow", "/refuse"] {
                until_it_answers(&gateway, path);
            }
            over.store(true, Ordering::Relaxed);
            healed.elapsed()
        });
        let after = counted_errors();
        let counted: Vec<f64> = before.iter().zip(&after).map(|(before, after)| after - before).collect();
        let Seen { statuses, mut times } = seen.into_inner().unwrap();
        times.sort_unstable();
        let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize].as_secs_f64() * 1e3;
        let of = |status: u16| {
            statuses.iter().filter(|((_, it), _)| *it == status).map(|(_, count)| count).sum::<u64>()
        };
        let shown: Vec<String> = counted.iter().map(|count| format!("{count:.0}")).collect();
        writeln!(
            table,
            "| {name} | {} | {} | {} | {:.2} ms | {:.1} ms | {:.1} ms | {} | {:.2} s |",
            times.len(),
            of(200),
            of(503),
            at(0.5),
            at(0.99),
            at(1.0),
            shown.join(" | "),
            back.as_secs_f64(),
        )
        .unwrap();
        let errors: f64 = counted.iter().sum();
        for ((path, status), count) in &statuses {
            let fine = *status == 200 || (*status == 503 && *path == "/refuse" && errors > 0.0);
            assert!(fine, "{name}: {count} requests of {path} were answered {status}\n{table}");
        }
        let kind = |kind: &&str| counted[kinds.iter().position(|it| it == kind).unwrap()];
        let told: f64 = expected.iter().map(kind).sum();
        // Twenty milliseconds can pass on a machine that is busy with other tests.
        assert!(!expected.is_empty() || errors <= 0.02 * times.len() as f64, "{name}\n{table}");
        assert!(expected.is_empty() || told > 0.0, "{name}\n{table}");
        // A hang would be seconds: what is more than 20 ms here is a busy machine.
        assert!(at(1.0) < 5_000.0, "{name}\n{table}");
    }
    if seconds.is_some() {
        eprintln!("{table}");
    }
    gateway.expect_accounts_to_agree();
}

#[test]
#[ignore = "make proof: chaos"]
fn many_clients_at_two_gateways_never_get_more_than_is_allowed_however_long() {
    let seconds = std::env::var("CHAOS_SECONDS").ok().and_then(|text| text.parse::<f64>().ok());
    let lasts = Duration::from_secs_f64(seconds.map_or(1.0, |seconds| seconds * 3.0));
    let (upstream, redis) = (ok("fine"), Redis::start());
    let rule = "key: [\"header:x-round\"], allow: 200 per 24h";
    let start = || {
        counting(&upstream, &redis.url(), "timeout: 5s", rule)
            .limit(Duration::from_secs(60) + lasts * 3)
            .set("log.requests", "off")
            .start()
    };
    let gateways = [start(), start()];
    let (began, mut rounds, mut asked) = (Instant::now(), 0, 0);
    while began.elapsed() < lasts {
        rounds += 1;
        let admitted: usize = thread::scope(|scope| {
            let clients: Vec<_> = (0..16)
                .map(|number| {
                    let gateway = &gateways[number % 2];
                    scope.spawn(move || {
                        let mut client = gateway.client();
                        let field = format!("x-round: {rounds}\r\n");
                        (0..40).filter(|_| client.ask("GET", "/", &field, "").status == 200).count()
                    })
                })
                .collect();
            clients.into_iter().map(|client| client.join().unwrap()).sum()
        });
        asked += 16 * 40;
        assert_eq!(admitted, 200, "round {rounds}");
    }
    if seconds.is_some() {
        eprintln!("{rounds} rounds of 16 clients at two gateways, {asked} requests: 200 admitted in each");
    }
    for gateway in &gateways {
        gateway.expect_metric("rate_limit_store_errors_total", &[], 0.0);
        gateway.expect_accounts_to_agree();
    }
}

fn load(gateway: &Gateway, first: usize, over: &AtomicBool, seen: &Mutex<Seen>) {
    let paths = ["/use_memory", "/allow", "/refuse"];
    let mut mine = Seen::default();
    while !over.load(Ordering::Relaxed) {
        let mut client = gateway.client();
        for number in 0..100 {
            let path = paths[(first + number) % 3];
            let began = Instant::now();
            let status = client.get(path).status;
            mine.times.push(began.elapsed());
            *mine.statuses.entry((path, status)).or_default() += 1;
            if over.load(Ordering::Relaxed) {
                break;
            }
        }
    }
    let mut seen = seen.lock().unwrap();
    seen.times.extend(mine.times);
    for (key, count) in mine.statuses {
        *seen.statuses.entry(key).or_default() += count;
    }
}

/// For so long; afterwards everything is as before, but what was counted.
fn suffer(redis: &mut Redis, relay: &Relay, fault: Fault, lasts: Duration) {
    let until = Instant::now() + lasts;
    let repeat = |redis: &Redis, words: &[&str]| {
        while Instant::now() < until {
            redis.ask(words);
            thread::sleep(Duration::from_millis(20));
        }
    };
    match fault {
        Fault::None => thread::sleep(lasts),
        Fault::Killed => {
            redis.kill();
            thread::sleep(lasts);
            redis.start_again();
        }
        Fault::Restarted => {
            redis.kill();
            redis.start_again();
            thread::sleep(lasts);
        }
        Fault::Stopped => {
            redis.pause();
            thread::sleep(lasts);
            redis.resume();
        }
        Fault::Flushed => repeat(redis, &["FLUSHALL"]),
        Fault::ScriptsFlushed => repeat(redis, &["SCRIPT", "FLUSH"]),
        Fault::Relayed(conduct) => {
            relay.set(conduct);
            thread::sleep(lasts);
            relay.set(Conduct::Pass);
        }
    }
}
