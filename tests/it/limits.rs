//! Rate limits as clients see them: the refusal to the byte, the fields on everything, and counters that agree.
//!
//! Periods are hours, so that nothing flows back while a test runs.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use statusquo::rehearse::{UpstreamStep, http_response};

use super::gateway::{Gateway, Setup};
use super::load::millis;
use super::promise::check_made;
use super::reader::{Answer, Asked, Ended, Framing};
use super::upstreams::{answering, by_request, ok, refusing};

const ALL: &str = "name: all, upstream: main, rate_limits: ";

/// One route `total` with these rules.
fn limited(setup: Setup, rules: &str, names: &str) -> Setup {
    setup.set("rate_limits", rules).route(&format!("{ALL}{names}"))
}

/// A period of about an hour in whose window now is somewhere in the middle, so that none ends while a test runs; in
/// seconds, and how many are left.
pub fn window_around_now() -> (u64, u64) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let period = (3_600..).find(|period| (period / 4..period * 3 / 4).contains(&(now % period))).unwrap();
    (period, period - now % period)
}

/// Limit, remaining, and seconds until the reset, as the fields say them.
#[track_caller]
fn standing(answer: &Answer) -> Option<(u64, u64, u64)> {
    let number = |name: &str| answer.field(name).map(|value| value.parse::<u64>().unwrap());
    let told = (number("x-ratelimit-limit"), number("x-ratelimit-remaining"), number("x-ratelimit-reset"));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    match told {
        (None, None, None) => None,
        (Some(limit), Some(remaining), Some(reset)) => {
            Some((limit, remaining, (Duration::from_secs(reset).saturating_sub(now)).as_secs() + 1))
        }
        partly => panic!("only some of the fields: {partly:?} in {answer:#?}"),
    }
}

/// The fields say this, with a reset in at most (and nearly) so many seconds.
#[track_caller]
fn stands(answer: &Answer, limit: u64, remaining: u64, reset: u64) {
    let Some((told_limit, told_remaining, told_reset)) = standing(answer) else {
        panic!("no fields: {answer:#?}");
    };
    assert_eq!((told_limit, told_remaining), (limit, remaining), "{answer:#?}");
    assert!(
        (reset.saturating_sub(10)..=reset + 1).contains(&told_reset),
        "{told_reset}, not {reset}: {answer:#?}"
    );
}

#[track_caller]
fn waits(answer: &Answer, seconds: u64) {
    let wait: u64 = answer.field("retry-after").unwrap().parse().unwrap();
    assert!((seconds.saturating_sub(10)..=seconds).contains(&wait), "{wait}, not {seconds}: {answer:#?}");
}

#[test]
fn one_more_than_the_burst_is_refused_and_this_is_all_that_is_said() {
    let upstream = ok("fine");
    let rules = "{ per_ip: { key: [client_ip], allow: 6 per 1h, burst: 3 } }";
    let gateway = limited(Gateway::in_front_of(&upstream), rules, "[per_ip]").start();
    let mut client = gateway.client();
    for (remaining, reset) in [(2, 600), (1, 1200), (0, 1800)] {
        let answer = client.get("/");
        answer.is(200, "fine");
        stands(&answer, 3, remaining, reset);
    }
    let answer = client.get("/");
    stands(&answer, 3, 0, 1800);
    waits(&answer, 600);
    let told = |name: &str| answer.field(name).unwrap().to_owned();
    let fields = [
        ("x-ratelimit-limit", "3".to_owned()),
        ("x-ratelimit-remaining", "0".to_owned()),
        ("x-ratelimit-reset", told("x-ratelimit-reset")),
        ("content-type", "application/json".to_owned()),
        ("cache-control", "no-store".to_owned()),
        ("x-content-type-options", "nosniff".to_owned()),
        ("x-request-id", told("x-request-id")),
        ("retry-after", told("retry-after")),
        ("date", told("date")),
        ("content-length", "42".to_owned()),
    ];
    let expected = Answer {
        status: 429,
        reason: "Too Many Requests".to_owned(),
        fields: fields.map(|(name, value)| (name.to_owned(), value)).to_vec(),
        body: br#"{"message":"Too many requests","code":429}"#.to_vec(),
        framing: Framing::Length(42),
        ended: Ended::Complete,
        interim: Vec::new(),
        connection_usable: true,
    };
    assert_eq!(answer, expected);
    // The same connection, and a body that nobody reads does not cost it.
    client.ask("POST", "/", "", "a body").is_made(429);
    let head = client.ask("HEAD", "/", "", "");
    check_made(&head, Asked::Http11("HEAD"), 429, "");
    assert_eq!(head.field("content-length"), Some("42"));
    assert_eq!(upstream.request_count(), 3, "a refusal does not touch the upstream");
    let line = gateway.log_line(|line| line["cause"] == "rate_limited");
    assert_eq!(
        (&line["code"], &line["rule"], &line["route"]),
        (&429.into(), &"per_ip".into(), &"all".into())
    );
    assert_eq!((&line["phase"], line.get("server")), (&"admit".into(), None));
    gateway.expect_accounts_to_agree();
}

#[test]
fn every_response_of_a_limited_route_has_the_fields_and_the_upstreams_are_replaced() {
    let refusing = refusing();
    let theirs =
        "x-ratelimit-limit: 9999\nX-RateLimit-Remaining: 9998\nx-ratelimit-reset: 1\nx-ratelimit-own: 7";
    let upstream = by_request(move |request| {
        let (status, kind, body) = match request.path() {
            "/fine" => ("200 OK", "text/plain", "fine"),
            "/conforming" => {
                ("404 Not Found", "application/json", r#"{"message":"No such order.","code":404}"#)
            }
            "/own" => ("429 Slow", "application/json", r#"{"message":"Slow down.","code":429}"#),
            _ => ("502 Bad Gateway", "text/html", "<p>"),
        };
        vec![
            UpstreamStep::ReadRequestHead,
            UpstreamStep::Write(http_response(&format!("{status}\ncontent-type: {kind}\n{theirs}"), body)),
        ]
    });
    let gateway = Gateway::in_front_of(&upstream)
        .upstream("dead", &[refusing.address()])
        .set("rate_limits", "{ wide: { key: [client_ip], allow: 50 per 1h } }")
        .route("name: dead, match: { path: /dead }, upstream: dead, rate_limits: [wide]")
        .route("name: denied, match: { path: /denied }, upstream: main, rate_limits: [wide], deny: { methods: [GET] }")
        .route("name: free, match: { path: /free }, upstream: main")
        .route("name: all, match: { path: \"/v1/{*rest}\" }, upstream: main, rate_limits: [wide]")
        .route("name: top, match: { path: \"/{name}\" }, upstream: main, rate_limits: [wide]")
        .start();
    let mut client = gateway.client();
    let asked = [
        ("/fine", 200),
        ("/conforming", 404),
        ("/own", 429),
        ("/html", 504),
        ("/dead", 504),
        ("/denied", 403),
    ];
    for (number, (path, status)) in (1..).zip(asked) {
        let answer = client.get(path);
        assert_eq!(answer.status, status, "{path}");
        stands(&answer, 50, 50 - number, 72 * number);
        assert_eq!(answer.field("x-ratelimit-own"), None, "{path}");
    }
    // Without a rule the upstream's pass, and without a route there is nothing to tell.
    let answer = client.get("/free");
    assert_eq!((answer.status, answer.field("x-ratelimit-own")), (504, Some("7")), "{answer:#?}");
    assert_eq!(standing(&client.get("/no/route")), None);
    for page in ["/metrics", "/livez"] {
        assert_eq!((gateway.probe(page).status, standing(&gateway.probe(page))), (200, None));
    }
    gateway.expect_accounts_to_agree();
}

#[test]
fn of_several_rules_the_tightest_is_told_and_a_refusal_takes_nothing_from_any() {
    let upstream = ok("fine");
    let rules = "{ wide: { key: [client_ip], allow: 100 per 1h }, narrow: { key: [method], allow: 2 per 1h }, \
                 narrower: { key: [\"header:x-tenant\"], allow: 4 per 1h, burst: 1 } }";
    let gateway = limited(Gateway::in_front_of(&upstream), rules, "[wide, narrow, narrower]").start();
    let mut client = gateway.client();
    stands(&client.ask("GET", "/", "x-tenant: a\r\n", ""), 1, 0, 900);
    // The tenant is refused; nothing is taken from the others.
    for _ in 0..5 {
        let refused = client.ask("GET", "/", "x-tenant: a\r\n", "");
        refused.is_made(429);
        stands(&refused, 1, 0, 900);
        waits(&refused, 900);
    }
    // Both narrow rules have nothing left: the one that takes longer to fill is told.
    stands(&client.ask("GET", "/", "x-tenant: b\r\n", ""), 2, 0, 3600);
    let refused = client.ask("GET", "/", "x-tenant: c\r\n", "");
    refused.is_made(429);
    waits(&refused, 1800);
    // Two rules refuse: the longer wait is told, and the rule that asks for it is in the log.
    let refused = client.ask("GET", "/", "x-tenant: a\r\n", "");
    waits(&refused, 1800);
    let id = refused.field("x-request-id").unwrap().to_owned();
    assert_eq!(gateway.log_line(|line| line["request_id"] == id)["rule"], "narrow");
    // c was refused by another rule only, so it still has its one.
    client.ask("POST", "/", "x-tenant: c\r\n", "").is(200, "fine");
    for (rule, decision, count) in [
        ("wide", "allowed", 3.0),
        ("narrow", "allowed", 3.0),
        ("narrower", "allowed", 3.0),
        ("wide", "refused", 0.0),
        ("narrow", "refused", 2.0),
        ("narrower", "refused", 6.0),
    ] {
        let labels = [("rule", rule), ("store", "memory"), ("decision", decision)];
        gateway.expect_metric("rate_limit_decisions_total", &labels, count);
    }
    for (rule, keys) in [("wide", 1.0), ("narrow", 2.0), ("narrower", 3.0)] {
        gateway.expect_metric("rate_limit_keys", &[("rule", rule)], keys);
    }
}

#[test]
fn a_shadow_rule_counts_and_is_never_seen() {
    let upstream = answering(http_response("200 OK\nx-ratelimit-limit: 5", "fine"));
    let rules = "{ trial: { allow: 2 per 1h, mode: shadow } }";
    let gateway = limited(Gateway::in_front_of(&upstream), rules, "[trial]").start();
    let mut client = gateway.client();
    for _ in 0..5 {
        let answer = client.get("/");
        answer.is(200, "fine");
        assert_eq!((answer.field("x-ratelimit-limit"), answer.field("x-ratelimit-reset")), (Some("5"), None));
    }
    let decided = |decision| [("rule", "trial"), ("decision", decision)];
    gateway.expect_metric("rate_limit_decisions_total", &decided("allowed"), 2.0);
    gateway.expect_metric("rate_limit_decisions_total", &decided("would_refuse"), 3.0);
    gateway.expect_metric("rate_limit_decisions_total", &decided("refused"), 0.0);
}

#[test]
fn a_shadow_rule_beside_another_sees_only_what_passes() {
    let upstream = ok("fine");
    let rules = "{ real: { allow: 3 per 1h }, trial: { allow: 1 per 1h, mode: shadow } }";
    let gateway = limited(Gateway::in_front_of(&upstream), rules, "[trial, real]").start();
    let mut client = gateway.client();
    let statuses: Vec<u16> = (0..5).map(|_| client.get("/").status).collect();
    assert_eq!(statuses, [200, 200, 200, 429, 429]);
    gateway.expect_metric("rate_limit_decisions_total", &[("rule", "trial"), ("decision", "allowed")], 1.0);
    gateway.expect_metric(
        "rate_limit_decisions_total",
        &[("rule", "trial"), ("decision", "would_refuse")],
        2.0,
    );
    gateway.expect_metric("rate_limit_decisions_total", &[("rule", "real"), ("decision", "refused")], 2.0);
}

#[test]
fn clients_are_told_apart_by_address_ipv6_by_network_and_exempt_ones_are_not_counted() {
    let upstream = ok("fine");
    let rules = "{ per_ip: { allow: 1 per 1h, exempt: [192.0.2.0/24] } }";
    let gateway = limited(Gateway::in_front_of(&upstream), rules, "[per_ip]")
        .set("client.trusted_proxies", "[127.0.0.1]")
        .start();
    let mut client = gateway.client();
    let mut from = |address: &str| client.ask("GET", "/", &format!("x-forwarded-for: {address}\r\n"), "");
    for (address, status) in [
        ("198.51.100.1", 200),
        ("198.51.100.1", 429),
        ("198.51.100.2", 200),
        ("2001:db8:0:1::1", 200),
        ("2001:db8:0:1:ffff::2", 429),
        ("2001:db8:0:2::1", 200),
    ] {
        assert_eq!(from(address).status, status, "{address}");
    }
    for _ in 0..3 {
        let answer = from("192.0.2.77");
        answer.is(200, "fine");
        assert_eq!(standing(&answer), None);
    }
    gateway.expect_metric("rate_limit_keys", &[("rule", "per_ip")], 4.0);
    gateway.expect_metric("rate_limit_decisions_total", &[], 6.0);
}

#[test]
fn a_field_that_is_missing_empty_or_repeated_counts_as_the_client() {
    let upstream = ok("fine");
    let rules = "{ tenant: { key: [\"header:X-Tenant\"], allow: 2 per 1h } }";
    let gateway = limited(Gateway::in_front_of(&upstream), rules, "[tenant]").start();
    let mut client = gateway.client();
    for (fields, status) in [
        ("", 200),
        ("x-tenant:\r\n", 200),
        ("x-tenant: a\r\nx-tenant: b\r\n", 429),
        ("x-tenant: 127.0.0.1\r\n", 200),
        ("X-TENANT: a\r\n", 200),
        ("x-tenant: a\r\n", 200),
        ("x-tenant: a\r\n", 429),
    ] {
        assert_eq!(client.ask("GET", "/", fields, "").status, status, "{fields:?}");
    }
}

#[test]
fn a_rule_of_several_routes_counts_over_all_of_them_unless_the_route_is_part_of_its_key() {
    let upstream = ok("fine");
    let gateway = Gateway::in_front_of(&upstream)
        .set(
            "rate_limits",
            "{ shared: { allow: 2 per 1h }, each: { key: [client_ip, host, route], allow: 2 per 1h } }",
        )
        .route("name: a, match: { path: /a }, upstream: main, rate_limits: [shared]")
        .route("name: b, match: { path: /b }, upstream: main, rate_limits: [shared]")
        .route("name: c, match: { path: /c }, upstream: main, rate_limits: [each]")
        .route("name: d, match: { path: /d }, upstream: main, rate_limits: [each]")
        .start();
    let mut client = gateway.client();
    let statuses: Vec<u16> =
        ["/a", "/b", "/a", "/c", "/c", "/d", "/d", "/c"].map(|path| client.get(path).status).into();
    assert_eq!(statuses, [200, 200, 429, 200, 200, 200, 200, 429]);
    let mut host = |name: &str| {
        client.exchange(Asked::Http11("GET"), format!("GET /d HTTP/1.1\r\nhost: {name}\r\n\r\n")).status
    };
    assert_eq!(["TEST:80", "test.", "other"].map(&mut host), [429, 429, 200]);
}

#[test]
fn an_override_decides_code_and_wait_of_a_refusal() {
    let upstream = ok("fine");
    let rules = "{ per_ip: { allow: 1 per 1h } }";
    let gateway = limited(Gateway::in_front_of(&upstream), rules, "[per_ip]")
        .set(
            "errors.overrides",
            "[{ when: { cause: rate_limited, method: POST }, code: 503, retry_after: 7s }, \
                                   { when: { cause: rate_limited }, code: 503, message: \"Later.\" }]",
        )
        .start();
    let mut client = gateway.client();
    client.get("/").is(200, "fine");
    let posted = client.ask("POST", "/", "", "x");
    posted.is_made(503);
    assert_eq!(posted.field("retry-after"), Some("7"));
    let got = client.get("/");
    got.is_made_saying(503, "Later.");
    waits(&got, 3600);
}

#[test]
fn sixteen_clients_at_once_are_admitted_exactly_as_often_as_is_allowed_and_the_counters_say_so() {
    let upstream = ok("fine");
    let rules = "{ per_ip: { allow: 100 per 1h }, wide: { key: [route], allow: 1000 per 1h } }";
    let gateway = limited(Gateway::in_front_of(&upstream), rules, "[wide, per_ip]").start();
    let (admitted, refused) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                let mut client = gateway.client();
                for _ in 0..20 {
                    let answer = client.get("/");
                    let counter = if answer.status == 200 { &admitted } else { &refused };
                    counter.fetch_add(1, Ordering::Relaxed);
                    assert!(
                        standing(&answer)
                            .is_some_and(|(_, remaining, _)| answer.status == 200 || remaining == 0)
                    );
                }
            });
        }
    });
    assert_eq!((admitted.into_inner(), refused.into_inner()), (100, 220));
    assert_eq!(upstream.request_count(), 100);
    gateway.expect_accounts_to_agree();
    for (rule, decision, count) in [
        ("per_ip", "allowed", 100.0),
        ("per_ip", "refused", 220.0),
        ("wide", "allowed", 100.0),
        ("wide", "refused", 0.0),
    ] {
        let labels = [("rule", rule), ("decision", decision)];
        gateway.expect_metric("rate_limit_decisions_total", &labels, count);
    }
    gateway.expect_metric("errors_total", &[("code", "429"), ("cause", "rate_limited")], 220.0);
    // A refusal has given nothing away and taken nothing.
    stands(&gateway.client().get("/"), 100, 0, 3600);
}

#[test]
fn preflights_are_never_limited_and_a_refusal_can_be_read_by_the_page() {
    let upstream = ok("fine");
    let gateway = Gateway::in_front_of(&upstream)
        .set("rate_limits", "{ per_ip: { allow: 1 per 1h } }")
        .route(
            "name: all, upstream: main, rate_limits: [per_ip], cors: { allow_origins: [\"https://app.example.com\"] }",
        )
        .start();
    let mut client = gateway.client();
    let origin = "origin: https://app.example.com\r\n";
    for _ in 0..5 {
        let preflight =
            client.ask("OPTIONS", "/", &format!("{origin}access-control-request-method: PUT\r\n"), "");
        assert_eq!((preflight.status, standing(&preflight)), (204, None));
    }
    let answers: Vec<Answer> = (0..2).map(|_| client.ask("GET", "/", origin, "")).collect();
    for (answer, status) in answers.iter().zip([200, 429]) {
        assert_eq!(answer.status, status);
        stands(answer, 1, 0, 3600);
        assert_eq!(answer.field("access-control-allow-origin"), Some("https://app.example.com"));
        let exposed = answer.field("access-control-expose-headers").unwrap().to_ascii_lowercase();
        for name in ["x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset", "retry-after"] {
            assert!(exposed.contains(name), "{name}: {answer:#?}");
        }
    }
}

#[test]
fn http_2_is_limited_alike_and_the_connection_goes_on() {
    let upstream = ok("fine");
    let rules = "{ per_ip: { allow: 4 per 1h, burst: 2 } }";
    let gateway = limited(Gateway::in_front_of(&upstream), rules, "[per_ip]").h2c().start();
    let mut client = gateway.h2_client();
    let first = client.get("/");
    first.is(200, "fine");
    stands(&first, 2, 1, 900);
    // The client is the same on the other listener.
    stands(&gateway.client().get("/"), 2, 0, 1800);
    for _ in 0..3 {
        let refused = client.ask("POST", "/", &[], Bytes::from_static(b"a body"));
        refused.is_made(429);
        stands(&refused, 2, 0, 1800);
        waits(&refused, 900);
    }
    assert_eq!(upstream.request_count(), 2);
    gateway.expect_accounts_to_agree();
}

#[test]
fn a_fixed_window_counts_down_to_its_end_which_is_the_same_for_everybody() {
    let upstream = ok("fine");
    let (period, left) = window_around_now();
    let rules = format!(
        "{{ a: {{ key: [\"header:x-a\"], algorithm: fixed_window, allow: {{ requests: 10, per: {period}s }} }} }}"
    );
    let gateway = limited(Gateway::in_front_of(&upstream), &rules, "[a]").start();
    let mut client = gateway.client();
    let mut ends = Vec::new();
    for name in ["x", "y"] {
        let mut ask = || client.ask("GET", "/", &format!("x-a: {name}\r\n"), "");
        for remaining in (0..10).rev() {
            let answer = ask();
            answer.is(200, "fine");
            stands(&answer, 10, remaining, left);
            ends.push(answer.field("x-ratelimit-reset").unwrap().parse::<u64>().unwrap());
        }
        for _ in 0..3 {
            let refused = ask();
            refused.is_made(429);
            stands(&refused, 10, 0, left);
            waits(&refused, left);
            ends.push(refused.field("x-ratelimit-reset").unwrap().parse::<u64>().unwrap());
        }
    }
    ends.dedup();
    assert_eq!(ends.len(), 1, "{ends:?}");
    assert_eq!(ends[0] % period, 0, "aligned to the epoch: {ends:?}");
    gateway.expect_accounts_to_agree();
}

#[test]
fn a_sliding_window_and_a_cost_hold_as_they_say() {
    let upstream = ok("fine");
    let (period, left) = window_around_now();
    let rules = format!(
        "{{ a: {{ algorithm: sliding_window, allow: 10 per {period}s, cost: 3 }}, b: {{ key: [method], allow: 9 per 9h, cost: 4 }} }}"
    );
    let gateway = limited(Gateway::in_front_of(&upstream), &rules, "[a, b]").start();
    let mut client = gateway.client();
    stands(&client.get("/"), 9, 5, 4 * 3600);
    stands(&client.get("/"), 9, 1, 8 * 3600);
    let refused = client.get("/");
    refused.is_made(429);
    stands(&refused, 9, 1, 8 * 3600);
    waits(&refused, 3 * 3600);
    stands(&client.ask("POST", "/", "", ""), 10, 1, left);
    let refused = client.ask("PUT", "/", "", "");
    refused.is_made(429);
    // In the next window, as soon as only seven of the nine count.
    waits(&refused, left + period * 2 / 9 + 1);
}

#[test]
fn sixteen_clients_at_once_never_get_more_than_a_window_allows() {
    let upstream = ok("fine");
    for algorithm in ["fixed_window", "sliding_window"] {
        let (period, _) = window_around_now();
        let rules = format!("{{ a: {{ algorithm: {algorithm}, allow: 100 per {period}s }} }}");
        let gateway = limited(Gateway::in_front_of(&upstream), &rules, "[a]").start();
        let admitted = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| {
                    let mut client = gateway.client();
                    let statuses = (0..20).map(|_| client.get("/").status).filter(|status| *status == 200);
                    admitted.fetch_add(statuses.count() as u64, Ordering::Relaxed);
                });
            }
        });
        assert_eq!(admitted.into_inner(), 100, "{algorithm}");
    }
}

#[test]
fn what_was_refused_is_admitted_after_its_retry_after() {
    let upstream = ok("fine");
    let period = millis(1500);
    let rules = format!("{{ per_ip: {{ allow: 1 per {}ms }} }}", period.as_millis());
    let gateway = limited(Gateway::in_front_of(&upstream), &rules, "[per_ip]").start();
    let mut client = gateway.client();
    client.get("/").is(200, "fine");
    let refused = client.get("/");
    refused.is_made(429);
    let wait: u64 = refused.field("retry-after").unwrap().parse().unwrap();
    assert!(wait >= 1 && u128::from(wait) <= period.as_millis().div_ceil(1000), "{wait} s");
    std::thread::sleep(std::time::Duration::from_secs(wait)); // the wait that was told is what is tested
    client.get("/").is(200, "fine");
}

#[test]
fn keys_beyond_the_largest_number_evict_others_and_are_counted() {
    let upstream = ok("fine");
    let rules = "{ tenant: { key: [\"header:x-tenant\"], allow: 2 per 1h, max_keys: 16 } }";
    let gateway = limited(Gateway::in_front_of(&upstream), rules, "[tenant]").start();
    let mut client = gateway.client();
    let evicted =
        |kind: &str| gateway.metric("rate_limit_evictions_total", &[("rule", "tenant"), ("kind", kind)]);
    for tenant in 0..16 {
        client.ask("GET", "/", &format!("x-tenant: {tenant}\r\n"), "").is(200, "fine");
    }
    let before = evicted("in_debt");
    for tenant in 16..48 {
        client.ask("GET", "/", &format!("x-tenant: {tenant}\r\n"), "").is(200, "fine");
    }
    assert_eq!(evicted("in_debt") - before, 32.0, "of 48 keys in debt 16 are remembered");
}
