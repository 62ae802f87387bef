//! Rate limits in a real Redis: several gateways, all ways to connect, reload and commands. `redis_failures.rs` covers
//! Redis failures.
//!
//! Periods are hours, so that no quota is replenished during a test.

use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use super::certificates::Authority;
use super::gateway::run;
use super::prelude::*;
use super::rate_limits::window_around_now;
use super::redis_server::{self, RedisServer, free_port};

/// Enough for a busy machine; other tests cover the timeout.
const LONG_TIMEOUT: &str = "timeout: 2s";
/// Interval between two connections to a server: a closed port is blocked for a minute.
const POLL_INTERVAL: Duration = Duration::from_millis(20);
const SECRET: &str = "secret: sixteen-or-more-letters";

/// A gateway whose rule `a` counts in the store `shared`.
fn with_redis_rule(upstream: &ScriptedUpstream, url: &str, store_options: &str, rule: &str) -> GatewaySetup {
    Gateway::with_upstream(upstream)
        .set("stores", &format!("{{ shared: {{ redis: \"{url}\", {SECRET}, {store_options} }} }}"))
        .set("rate_limits", &format!("{{ a: {{ store: shared, {rule} }} }}"))
        .route("name: all, upstream: main, rate_limits: [a]")
}

fn statuses(gateway: &Gateway, number: usize) -> Vec<u16> {
    let mut client = gateway.client();
    (0..number).map(|_| client.get("/").status).collect()
}

#[test]
fn two_gateways_share_one_quota_and_report_it() {
    let (upstream, redis) = (ok_upstream("fine"), RedisServer::start());
    let start = || with_redis_rule(&upstream, &redis.url(), LONG_TIMEOUT, "allow: 3 per 1h").start();
    let (one, two) = (start(), start());
    let logged_evidence = |gateway: &Gateway| {
        let response = gateway.client().get("/");
        let field = |name| response.header(name).unwrap_or("-").to_owned();
        (response.status, field("x-ratelimit-limit"), field("x-ratelimit-remaining"), field("retry-after"))
    };
    let three = |status, remaining: &str, wait: &str| (status, "3".into(), remaining.into(), wait.into());
    assert_eq!(logged_evidence(&one), three(200, "2", "-"));
    assert_eq!(logged_evidence(&two), three(200, "1", "-"));
    assert_eq!(logged_evidence(&one), three(200, "0", "-"));
    for gateway in [&two, &one, &two] {
        let (status, limit, remaining, wait) = logged_evidence(gateway);
        assert_eq!((status, &*limit, &*remaining), (429, "3", "0"));
        assert!((1190..=1200).contains(&wait.parse::<u32>().unwrap()), "{wait}");
    }
    let decided = |decision| [("rule", "a"), ("store", "shared"), ("decision", decision)];
    one.expect_metric("rate_limit_decisions_total", &decided("allowed"), 2.0);
    two.expect_metric("rate_limit_decisions_total", &decided("denied"), 2.0);
    one.expect_metric("rate_limit_store_errors_total", &[("store", "shared")], 0.0);
    // The second denial came from the deny cache, without a Redis call.
    two.expect_metric("rate_limit_store_duration_seconds_count", &[("store", "shared")], 2.0);
    one.expect_metrics_match_responses();
    two.expect_metrics_match_responses();
}

#[test]
fn concurrent_clients_at_two_gateways_get_exactly_the_quota() {
    let (upstream, redis) = (ok_upstream("fine"), RedisServer::start());
    let (period, _) = window_around_now();
    for rule in [
        "key: [route], allow: 100 per 5h".to_owned(),
        format!("key: [route], allow: 100 per {period}s, algorithm: fixed_window"),
        format!("key: [route], allow: 100 per {period}s, algorithm: sliding_window"),
    ] {
        redis.command(&["FLUSHALL"]);
        let start = || {
            with_redis_rule(&upstream, &redis.url(), LONG_TIMEOUT, &rule)
                .limit(Duration::from_secs(60))
                .start()
        };
        let gateways = [start(), start()];
        let together = Barrier::new(16);
        let admitted: usize = thread::scope(|scope| {
            let clients: Vec<_> = (0..16)
                .map(|number| {
                    let (gateway, together) = (&gateways[number % 2], &together);
                    scope.spawn(move || {
                        let mut client = gateway.client();
                        together.wait();
                        (0..20).filter(|_| client.get("/").status == 200).count()
                    })
                })
                .collect();
            clients.into_iter().map(|client| client.join().unwrap()).sum()
        });
        assert_eq!(admitted, 100, "{rule}");
        for gateway in &gateways {
            gateway.expect_metric("rate_limit_store_errors_total", &[], 0.0);
            gateway.expect_metrics_match_responses();
        }
    }
}

#[test]
fn several_rules_are_charged_atomically_across_backends() {
    let (upstream, redis) = (ok_upstream("fine"), RedisServer::start());
    let gateway = Gateway::with_upstream(&upstream)
        .set("stores", &format!("{{ shared: {{ redis: \"{}\", {SECRET}, {LONG_TIMEOUT} }} }}", redis.url()))
        .set(
            "rate_limits",
            "{ far: { store: shared, key: [\"header:x-one\"], allow: 2 per 1h }, near: { allow: 9 per 1h }, \
             farther: { store: shared, key: [\"header:x-two\"], allow: 3 per 1h } }",
        )
        .route("name: all, upstream: main, rate_limits: [far, near, farther]")
        .start();
    let mut client = gateway.client();
    let mut send = |one: &str, two: &str| {
        let response = client.request("GET", "/", &format!("x-one: {one}\r\nx-two: {two}\r\n"), "");
        (response.status, response.header("x-ratelimit-remaining").unwrap().to_owned())
    };
    for (one, two, status, remaining) in [
        ("a", "x", 200, "1"),
        ("a", "x", 200, "0"),
        ("a", "x", 429, "0"),
        ("a", "y", 429, "0"),
        // The denials consumed no quota of the others.
        ("b", "x", 200, "0"),
        ("c", "x", 429, "0"),
        ("c", "y", 200, "1"),
        ("c", "y", 200, "0"),
        ("d", "y", 200, "0"),
        ("d", "z", 200, "0"),
    ] {
        assert_eq!(send(one, two), (status, remaining.to_owned()), "{one} {two}");
    }
}

#[test]
fn redis_keys_hold_no_client_data_and_expire() {
    let (upstream, redis) = (ok_upstream("fine"), RedisServer::start());
    let rule = "key: [client_ip, \"header:x-mail\"], allow: 5 per 1h, algorithm: sliding_window";
    let gateway = with_redis_rule(&upstream, &redis.url(), "prefix: \"mine:\", timeout: 2s", rule).start();
    let mut client = gateway.client();
    client.request("GET", "/", "x-mail: bob@example.com\r\n", "").assert_response(200, "fine");
    client.request("GET", "/", "x-mail: eve@example.com\r\n", "").assert_response(200, "fine");
    let keys = redis.keys();
    assert_eq!(keys.len(), 2, "{keys:?}");
    for key in &keys {
        assert!(key.starts_with("mine:a:") && !key.contains("example") && !key.contains("127"), "{key}");
        assert!(key.ends_with('}') && key.contains(":{"), "{key}");
        let value = redis.command(&["GET", key]);
        assert!(value.bytes().all(|octet| octet.is_ascii_digit() || octet == b' '), "{value}");
        let lasts: i64 = redis.command(&["PTTL", key]).parse().unwrap();
        assert!((3_500_000..7_300_000).contains(&lasts), "{lasts}");
    }
    // Another secret hashes the same client to another key.
    let store_options = "prefix: \"mine:\", timeout: 2s";
    let other = with_redis_rule(&upstream, &redis.url(), store_options, rule).set(
        "stores",
        &format!(
            "{{ shared: {{ redis: \"{}\", {store_options}, secret: another-secret-of-ours }} }}",
            redis.url()
        ),
    );
    other
        .start()
        .client()
        .request("GET", "/", "x-mail: bob@example.com\r\n", "")
        .assert_response(200, "fine");
    assert_eq!(redis.keys().len(), 3);
}

#[test]
fn reset_on_status_resets_the_count_for_all_gateways() {
    let redis = RedisServer::start();
    let upstream = by_request(|request| {
        let status = if request.path() == "/right" { "201 Created" } else { "401 Unauthorized" };
        let body = r#"{"message":"Who?","code":401}"#;
        vec![
            statusquo::conformance::Step::ReadRequestHead,
            statusquo::conformance::Step::Write(statusquo::conformance::http_response(
                &format!("{status}\ncontent-type: application/json"),
                body,
            )),
        ]
    });
    let rule = "allow: 3 per 1h, algorithm: fixed_window, reset_on: [201]";
    let start = || with_redis_rule(&upstream, &redis.url(), LONG_TIMEOUT, rule).start();
    let (one, two) = (start(), start());
    for (gateway, path, status) in [
        (&one, "/wrong", 401),
        (&two, "/wrong", 401),
        (&one, "/right", 201),
        (&two, "/wrong", 401),
        (&one, "/wrong", 401),
        (&two, "/wrong", 401),
        (&one, "/wrong", 429),
        (&two, "/right", 429),
    ] {
        assert_eq!(gateway.client().get(path).status, status, "{path}");
    }
}

#[test]
fn cluster_commands_go_to_the_node_that_owns_the_key() {
    let upstream = ok_upstream("fine");
    let nodes = redis_server::cluster();
    // One node is configured; the others are discovered.
    let url = nodes[0].url().replace("redis://", "redis+cluster://");
    let gateway = Gateway::with_upstream(&upstream)
        .limit(Duration::from_secs(60))
        .set("stores", &format!("{{ shared: {{ redis: \"{url}\", {SECRET}, {LONG_TIMEOUT} }} }}"))
        .set(
            "rate_limits",
            "{ one: { store: shared, key: [\"header:x-one\"], allow: 2 per 1h }, \
             two: { store: shared, key: [\"header:x-two\"], allow: 3 per 1h } }",
        )
        .route("name: all, upstream: main, rate_limits: [one, two]")
        .start();
    let mut client = gateway.client();
    let mut send = |one: &str, two: &str| {
        client.request("GET", "/", &format!("x-one: {one}\r\nx-two: {two}\r\n"), "").status
    };
    for (one, two, status) in [
        ("a", "x", 200),
        ("a", "x", 200),
        ("a", "x", 429),
        ("a", "x", 429),
        ("a", "y", 429),
        // The quota consumed from the other rule, on another node, was refunded.
        ("b", "x", 200),
        ("b", "x", 429),
        ("b", "y", 200),
        ("c", "y", 200),
        ("d", "y", 200),
        ("e", "y", 429),
    ] {
        assert_eq!(send(one, two), status, "{one} {two}");
    }
    for number in 0..30 {
        assert_eq!(send(&format!("n{number}"), &format!("m{number}")), 200);
    }
    gateway.expect_metric("rate_limit_store_errors_total", &[], 0.0);
    assert!(nodes.iter().all(|node| !node.keys().is_empty()), "every node has some keys");
}

#[test]
fn sentinel_failover_is_followed() {
    let upstream = ok_upstream("fine");
    let mut master = RedisServer::start();
    let replica = RedisServer::start_with(&["--replicaof", "127.0.0.1", &master.port().to_string()]);
    let folder = TestFolder::new();
    let port = free_port();
    let text = format!(
        "port {port}\nbind 127.0.0.1\nsentinel monitor ours 127.0.0.1 {} 1\n\
         sentinel down-after-milliseconds ours 300\nsentinel failover-timeout ours 2000\n",
        master.port()
    );
    let file = folder.write("sentinel.conf", &text);
    let _sentinel = RedisServer::launch(
        "redis-sentinel",
        port,
        &[file.to_str().unwrap()],
        &format!("redis://127.0.0.1:{port}"),
        folder,
    );
    let deadline = std::time::Instant::now() + limit();
    while !_sentinel.command(&["SENTINEL", "REPLICAS", "ours"]).contains(&replica.port().to_string()) {
        assert!(std::time::Instant::now() < deadline, "the sentinel does not see the replica");
        thread::sleep(POLL_INTERVAL);
    }
    let url = format!("redis+sentinel://127.0.0.1:{port}/ours");
    let gateway = with_redis_rule(&upstream, &url, LONG_TIMEOUT, "allow: 1000 per 24h")
        .limit(Duration::from_secs(90))
        .start();
    assert_eq!(statuses(&gateway, 3), [200; 3]);
    assert_eq!(master.keys().len(), 1);
    gateway.expect_metric("rate_limit_store_errors_total", &[], 0.0);
    master.kill();
    // Every request gets a response meanwhile; then the promoted replica is used.
    let deadline = std::time::Instant::now() + 2 * limit();
    let backend_calls = || gateway.metric("rate_limit_store_duration_seconds_count", &[]);
    let errors = || gateway.metric("rate_limit_store_errors_total", &[]);
    assert_eq!(statuses(&gateway, 5), [200; 5]);
    loop {
        let (asked_before, errors_before) = (backend_calls(), errors());
        assert_eq!(statuses(&gateway, 1), [200]);
        if backend_calls() > asked_before && errors() == errors_before {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "{}", gateway.log_text());
        thread::sleep(POLL_INTERVAL);
    }
    assert_eq!(replica.command(&["ROLE"]).split(' ').next(), Some("master"));
}

#[test]
fn tls_and_acl_user_work_and_the_password_is_never_logged() {
    let (upstream, folder) = (ok_upstream("fine"), TestFolder::new());
    let authority = Authority::new();
    let issued = authority.issue(&["127.0.0.1", "localhost"]);
    let ca = folder.write("ca.pem", &authority.pem());
    let (cert, key) = (folder.write("cert.pem", &issued.cert), folder.write("key.pem", &issued.key));
    let (port, plain) = (free_port(), free_port());
    let (plain_port, tls_port) = (plain.to_string(), port.to_string());
    let words = ["--port", &plain_port, "--tls-port", &tls_port];
    let files = ["--tls-cert-file", cert.to_str().unwrap(), "--tls-key-file", key.to_str().unwrap()];
    let store_options = ["--tls-ca-cert-file", ca.to_str().unwrap(), "--tls-auth-clients", "no"];
    let arguments = [&words[..], &files[..], &store_options[..]].concat();
    let plaintext_url = format!("redis://127.0.0.1:{plain}");
    let redis = RedisServer::launch("redis-server", port, &arguments, &plaintext_url, TestFolder::new());
    // The ACL user of docs/rate-limits.md.
    redis.command(&[
        "ACL",
        "SETUSER",
        "statusquo",
        "on",
        ">p@ss/word",
        "~statusquo:*",
        "+eval",
        "+evalsha",
        "+time",
        "+get",
        "+set",
        "+del",
    ]);
    redis.command(&["ACL", "SETUSER", "default", "resetpass", ">other"]);
    let url = format!("rediss://statusquo:p%40ss%2Fword@127.0.0.1:{port}");
    let trusted = format!("tls: {{ ca: {} }}, {LONG_TIMEOUT}", ca.display());
    let gateway = with_redis_rule(&upstream, &url, &trusted, "allow: 2 per 1h, reset_on: [404]").start();
    assert_eq!(statuses(&gateway, 3), [200, 200, 429]);
    gateway.expect_metric("rate_limit_store_errors_total", &[], 0.0);
    gateway.expect_metric("rate_limit_store_duration_seconds_count", &[], 3.0);

    // Neither a wrong password nor an untrusted certificate stops the gateway; the log has the reason.
    let wrong_password_url = url.replace("p%40ss", "p%40sz");
    let other = folder.write("other.pem", &Authority::new().pem());
    let untrusted = trusted.replace("ca.pem", other.file_name().unwrap().to_str().unwrap());
    for (url, store_options, evidence) in
        [(&wrong_password_url, &trusted, "WRONGPASS"), (&url, &untrusted, "UnknownIssuer")]
    {
        let gateway = with_redis_rule(&upstream, url, store_options, "allow: 2 per 1h").start();
        assert_eq!(statuses(&gateway, 3), [200, 200, 429], "counted in memory");
        let line = gateway.log_line(|line| line["store"] == "shared");
        let logged_evidence = line["evidence"].as_str().unwrap_or_default();
        assert!(
            logged_evidence.contains(evidence) || logged_evidence.to_lowercase().contains("auth"),
            "{line}"
        );
        let log = gateway.log_text();
        assert!(!log.contains("/word") && !log.contains("p%40") && !log.contains("sixteen"), "{log}");
    }
}

#[test]
fn reload_keeps_unchanged_stores_and_replaces_changed_ones() {
    let (upstream, redis, other) = (ok_upstream("fine"), RedisServer::start(), RedisServer::start());
    let setup = |redis: &RedisServer, store_options: &str| {
        with_redis_rule(&upstream, &redis.url(), store_options, "allow: 2 per 1h")
    };
    let gateway = setup(&redis, LONG_TIMEOUT).limit(Duration::from_secs(30)).start();
    let connections = |redis: &RedisServer| -> u32 {
        let text = redis.command(&["INFO", "stats"]);
        let line = text.lines().find_map(|line| line.strip_prefix("total_connections_received:"));
        line.unwrap().trim().parse().unwrap()
    };
    assert_eq!(statuses(&gateway, 1), [200]);
    let before = connections(&redis);
    assert_eq!(gateway.reload(setup(&redis, LONG_TIMEOUT).set("errors.include", "[type]")), "applied");
    assert_eq!(statuses(&gateway, 2), [200, 429]);
    assert_eq!(connections(&redis), before + 1, "only the connection of the test");
    assert_eq!(gateway.reload(setup(&other, LONG_TIMEOUT)), "applied");
    assert_eq!(statuses(&gateway, 3), [200, 200, 429]);
    assert_eq!(other.keys().len(), 1);
    // A different timeout makes a new store, but the counts are in Redis.
    assert_eq!(gateway.reload(setup(&other, "timeout: 3s")), "applied");
    assert_eq!(statuses(&gateway, 1), [429]);
    let changed = Gateway::with_upstream(&upstream)
        .set("rate_limits", "{ a: { allow: 2 per 1h } }")
        .route("name: all, upstream: main, rate_limits: [a]");
    assert_eq!(gateway.reload(changed), "applied");
    assert_eq!(statuses(&gateway, 3), [200, 200, 429]);
    gateway.expect_metric("rate_limit_store_errors_total", &[], 0.0);
    let connected = |redis: &RedisServer| redis.command(&["CLIENT", "LIST"]).lines().count();
    let deadline = std::time::Instant::now() + limit();
    while connected(&other) + connected(&redis) > 2 {
        assert!(std::time::Instant::now() < deadline, "{}", other.command(&["CLIENT", "LIST"]));
        thread::sleep(POLL_INTERVAL);
    }
}

#[test]
fn check_reports_store_problems_without_printing_the_address() {
    let folder = TestFolder::new();
    let check = |stores: &str, rule: &str| {
        let text = format!(
            "version: 1\nlisten: [{{ address: \":1\" }}]\nupstreams: {{ u: {{ servers: [a:1] }} }}\n\
             routes: [{{ name: r, upstream: u, rate_limits: [a] }}]\nstores: {stores}\nrate_limits: {{ a: {{ {rule} }} }}\n"
        );
        let file = folder.write("statusquo.yaml", &text);
        let (status, out, err) = run(&["check", file.to_str().unwrap()], &[]);
        (status, format!("{out}{err}"))
    };
    let valid_rule = "allow: 1 per 1s, store: shared";
    for (stores, rule, expected) in [
        ("{ shared: { redis: \"redis://u:hunter2@a:x\" } }", valid_rule, "invalid port in the Redis address"),
        ("{ shared: { redis: \"http://u:hunter2@a\" } }", valid_rule, "unknown scheme in the Redis address"),
        ("{ shared: {} }", valid_rule, "stores.shared.redis: missing"),
        ("{ shared: { redis: redis://a, secret: hunter2 } }", valid_rule, "the secret is too short"),
        ("{ shared: { redis: redis://a, prefix: \"{x}\" } }", valid_rule, "is not a valid key prefix"),
        ("{ shared: { redis: redis://a, timeout: 10s } }", valid_rule, "use 1ms to 5s"),
        ("{ shared: { redis: redis://a, tls: { ca: x } } }", valid_rule, "this store does not use TLS"),
        ("{ memory: { redis: redis://a } }", "allow: 1 per 1s, store: memory", "another name"),
        ("{ shared: { redis: redis://a } }", "allow: 1 per 1s, store: sharde", "did you mean \"shared\"?"),
        ("{ shared: { redis: redis://a, on_failure: panic } }", valid_rule, "local"),
    ] {
        let (status, logged_evidence) = check(stores, rule);
        assert_eq!(status, Some(78), "{stores}: {logged_evidence}");
        assert!(logged_evidence.contains(expected), "{stores}: {logged_evidence}");
        assert!(!logged_evidence.contains("hunter2"), "{logged_evidence}");
    }
    let (status, logged_evidence) = check("{ shared: { redis: \"redis://u:hunter2@a\" } }", valid_rule);
    assert_eq!(status, Some(0), "{logged_evidence}");
    assert!(
        logged_evidence.contains("hashed without a secret") && !logged_evidence.contains("hunter2"),
        "{logged_evidence}"
    );
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/config/shared-limits.yaml");
    let (status, out, err) = run(&["check", example], &[]);
    assert_eq!((status, err.contains("warning")), (Some(0), false), "{out}{err}");
    let (status, logged_evidence) =
        check("{ shared: { redis: redis://a, secret: 0123456789abcdef } }", valid_rule);
    assert_eq!((status, logged_evidence.contains("warning")), (Some(0), false), "{logged_evidence}");
}
