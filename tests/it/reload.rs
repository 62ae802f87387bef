//! Reload on SIGHUP: the new configuration is applied completely between two requests, or not at all.

use std::io::{Read as _, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use statusquo::conformance::frames::frame_type;

use super::connections::hold_place;
use super::prelude::*;
use super::raw_h2_client::{RawH2Client, get_frame};

/// One route to the upstream.
fn with_route(upstream: &ScriptedUpstream, name: &str, path: &str) -> GatewaySetup {
    Gateway::with_upstream(upstream)
        .route(&format!("name: {name}, match: {{ path: {path} }}, upstream: main"))
}

#[test]
fn reload_changes_routes_and_keeps_both_connections() {
    let upstream = ok_upstream("here");
    let gateway = with_route(&upstream, "old", "/old").start();
    let labels = [("result", "applied")];
    assert_eq!(gateway.metric("config_last_reload_successful", &[]), 1.0);
    let started = gateway.metric("config_last_reload_timestamp_seconds", &[]);
    assert!(started > 0.0);
    let mut client = gateway.client();
    client.get("/old").assert_response(200, "here");
    client.get("/new").assert_local_reply(404);
    assert_eq!(gateway.reload(with_route(&upstream, "new", "/new")), "applied");
    client.get("/new").assert_response(200, "here");
    client.get("/old").assert_local_reply(404);
    assert_eq!(upstream.connection_count(), 1);
    gateway.expect_metric("config_reloads_total", &labels, 1.0);
    assert!(gateway.metric("config_last_reload_timestamp_seconds", &[]) >= started);
    for route in ["old", "new"] {
        gateway.expect_metric("responses_total", &[("route", route), ("code", "200")], 1.0);
    }
    gateway.log_line(|line| line["message"] == "configuration reloaded");
    gateway.expect_metrics_match_responses();
}

#[test]
fn config_hash_changes_with_the_values_of_the_file() {
    let upstream = ok_upstream("");
    let gateway = with_route(&upstream, "a", "/a").start();
    let hash = || {
        let metrics = gateway.metrics();
        let mut found = metrics.iter().filter(|series| series.matches("config_hash_info", &[]));
        let hash = found.next().unwrap().labels["hash"].clone();
        assert!(found.next().is_none() && hash.len() == 12, "{hash}");
        hash
    };
    let first = hash();
    let text = with_route(&upstream, "a", "/a").yaml();
    assert_eq!(gateway.reload_text(&format!("# The same values.\n{text}")), "applied");
    assert_eq!(hash(), first);
    assert_eq!(gateway.reload(with_route(&upstream, "a", "/b")), "applied");
    assert_ne!(hash(), first);
}

#[test]
fn listeners_may_be_listed_in_another_order_and_keep_their_settings() {
    let upstream = ok_upstream("fine");
    let setup = Gateway::with_upstream(&upstream).listener_contract("problem").with_h2c_listener();
    let text = setup.yaml();
    let gateway = setup.start();
    // Without a host the contract of the listener decides.
    let expect_contract_of_listener = || {
        let mut stream = std::net::TcpStream::connect(gateway.address()).unwrap();
        stream.set_read_timeout(Some(limit())).unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).unwrap();
        assert!(response.starts_with("HTTP/1.1 400 "), "{response}");
        assert!(response.contains("application/problem+json"), "{response}");
    };
    expect_contract_of_listener();
    let (start, rest) = text.split_once("  - ").unwrap();
    let (first, rest) = rest.split_once("  - ").unwrap();
    let (second, rest) = rest.split_once('\n').unwrap();
    let swapped = format!("{start}  - {second}\n  - {first}{rest}");
    assert_eq!(gateway.reload_text(&swapped), "applied", "{swapped}");
    expect_contract_of_listener();
    gateway.client().get("/").assert_response(200, "fine");
    gateway.h2_client().get("/").assert_response(200, "fine");
}

/// A unit test covers the end of the counters, ten minutes later.
#[test]
fn gauges_of_removed_names_disappear_at_once_and_counters_stay() {
    let gate = Gate::new();
    let upstream = gated_upstream(&gate, "old");
    let setup = |route: &str, upstream_name: &str| {
        Gateway::with_upstream(&upstream)
            .upstream(upstream_name, &[upstream.address()])
            .set("rate_limits", &format!("{{ rule_of_{route}: {{ key: [client_ip], allow: 9 per 1m }} }}"))
            .route(&format!("name: {route}, upstream: {upstream_name}, rate_limits: [rule_of_{route}]"))
    };
    let gateway = setup("first", "aaa").start();
    let mut busy = gateway.client();
    busy.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n");
    assert!(upstream.wait_until(limit(), |seen| seen.requests().count() == 1));
    gateway.expect_metric("requests_in_flight", &[("upstream", "aaa")], 1.0);
    assert_eq!(gateway.reload(setup("second", "bbb")), "applied");
    let metrics = gateway.metrics();
    let exists = |name, labels: &[(&str, &str)]| metrics.iter().any(|series| series.matches(name, labels));
    for name in ["requests_in_flight", "upstream_server_up", "upstream_server_state"] {
        assert!(!exists(name, &[("upstream", "aaa")]) && exists(name, &[("upstream", "bbb")]), "{name}");
    }
    assert!(!exists("rate_limit_keys", &[("rule", "rule_of_first")]));
    assert!(exists("rate_limit_decisions_total", &[("rule", "rule_of_first")]));
    assert!(exists("responses_total", &[("route", "first")]));
    gate.open();
    busy.read(SentRequest::Http11("GET")).assert_response(200, "old");
    // A request of the old configuration is counted still.
    gateway.expect_metric("responses_total", &[("route", "first"), ("code", "200")], 1.0);
    gateway.expect_metric("requests_in_flight", &[], 0.0);
    gateway.expect_metrics_match_responses();
}

#[test]
fn request_in_flight_keeps_its_configuration_across_reload() {
    let gate = Gate::new();
    let upstream = script([
        Step::ReadRequestHead,
        Step::WaitForGate(gate.clone()),
        Step::Write(http_response("405 No", "<p>")),
    ]);
    let other = ok_upstream("other");
    let old = |message: &str| {
        let overrides =
            format!(r#"[{{ when: {{ upstream_status: [405] }}, code: 404, message: "{message}" }}]"#);
        Gateway::with_upstream(&upstream).set("errors.overrides", &overrides)
    };
    let gateway = old("Old.").start();
    let mut busy = gateway.client();
    busy.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n");
    assert!(upstream.wait_until(limit(), |seen| seen.requests().count() == 1));
    assert_eq!(gateway.reload(Gateway::with_upstream(&other)), "applied");
    gateway.client().get("/").assert_response(200, "other");
    gate.open();
    busy.read(SentRequest::Http11("GET")).assert_local_reply_message(404, "Old.");
    busy.get("/").assert_response(200, "other");
    assert_eq!(gateway.reload(old("New.")), "applied");
    busy.get("/").assert_local_reply_message(404, "New.");
}

#[test]
fn invalid_file_is_rejected_entirely_and_the_old_config_stays_active() {
    let upstream = ok_upstream("fine");
    let gateway = Gateway::with_upstream(&upstream).start();
    let mut client = gateway.client();
    client.get("/").assert_response(200, "fine");
    let invalid = "version: 1\nlisten: [{ address: \"127.0.0.1:0\" }]\nclient: { header_timout: 5s }\n\
        upstreams: { main: { servers: [\"127.0.0.1:1\"] } }\nroutes: [{ name: r, upstream: mian }]\n";
    assert_eq!(gateway.reload_text(invalid), "rejected");
    client.get("/").assert_response(200, "fine");
    gateway.expect_metric("config_last_reload_successful", &[], 0.0);
    let line = gateway.log_line(|line| line["problems"] == 2);
    assert_eq!(line["level"], "error");
    let message = line["message"].as_str().unwrap();
    let (before, after) = message.split_at("reload rejected, keeping the configuration loaded at ".len());
    assert_eq!(before, "reload rejected, keeping the configuration loaded at ");
    assert!(after.len() == "10:42:07: 2 problems".len() && after.ends_with(": 2 problems"), "{message}");
    let line = gateway.log_line(|line| line["key"] == "routes[0].upstream");
    assert_eq!((&line["line"], &line["column"]), (&5.into(), &31.into()));
    assert_eq!(line["message"], "unknown upstream \"mian\"; did you mean \"main\"?");
    gateway.log_line(|line| line["key"] == "client.header_timout");
    for text in ["", "routes: [", "\u{0}"] {
        assert_eq!(gateway.reload_text(text), "rejected", "{text:?}");
    }
    client.get("/").assert_response(200, "fine");
    assert_eq!(gateway.reload(Gateway::with_upstream(&upstream)), "applied");
    gateway.expect_metric("config_last_reload_successful", &[], 1.0);
    gateway.expect_metric("config_reloads_total", &[("result", "rejected")], 4.0);
    assert_eq!(upstream.connection_count(), 1);
}

#[test]
fn reload_reads_included_files_again_and_names_the_damaged_one() {
    let upstream = ok_upstream("fine");
    let folder = TestFolder::new();
    let included = folder.write("more.yaml", "routes: [{ name: a, match: { path: /a }, upstream: more }]\n");
    let more = format!("upstreams: {{ more: {{ servers: [\"{}\"] }} }}\n", upstream.address());
    folder.write("upstreams.yaml", &more);
    let main = format!(
        "version: 1\nlisten: [{{ address: \"127.0.0.1:0\" }}]\ntelemetry: {{ address: \"127.0.0.1:0\" }}\n\
        include: [\"{}\"]\n",
        folder.path("*.yaml").display()
    );
    let own = TestFolder::new();
    let gateway = Gateway::from_command(&["run", own.write("gateway.yaml", &main).to_str().unwrap()]);
    gateway.client().get("/a").assert_response(200, "fine");
    gateway.client().get("/b").assert_local_reply(404);

    folder.write("more.yaml", "routes: [{ name: b, match: { path: /b }, upstream: more }]\n");
    gateway.send_sighup();
    gateway.log_line(|line| line["message"] == "configuration reloaded");
    gateway.client().get("/b").assert_response(200, "fine");
    gateway.client().get("/a").assert_local_reply(404);

    folder.write("more.yaml", "\nroutes: [{ name: b, upstream: less }]\n");
    gateway.send_sighup();
    let line = gateway.log_line(|line| line["key"] == "routes[0].upstream");
    assert_eq!((&line["file"], &line["line"]), (&included.to_str().unwrap().into(), &2.into()));
    gateway.client().get("/b").assert_response(200, "fine");
}

#[test]
fn warnings_of_check_are_logged_once_at_start_and_at_each_reload() {
    let upstream = ok_upstream("fine");
    let setup = |unused: &str| {
        with_route(&upstream, "all", "/")
            .set("rate_limits", &format!("{{ {unused}: {{ allow: 5 per 1m }} }}"))
    };
    let gateway = setup("spare").start();
    let message = "no route has it; remove it, or use its name there";
    let warning = |name: &str| {
        let key = format!("rate_limits.{name}");
        let line = gateway.log_line(|line| line["key"] == *key);
        assert_eq!((&line["level"], &line["message"]), (&"warn".into(), &message.into()), "{line}");
        assert_eq!(&line["file"], &gateway.configuration().to_str().unwrap());
        assert!(line["line"].as_u64().is_some() && line["column"].as_u64().is_some(), "{line}");
    };
    warning("spare");
    assert_eq!(gateway.reload(setup("other")), "applied");
    gateway.log_line(|line| line["message"] == "configuration reloaded");
    warning("other");
    assert_eq!(gateway.log_text().matches(message).count(), 2);
}

#[test]
fn restart_only_changes_are_rejected_by_name_and_nothing_applies() {
    let upstream = ok_upstream("fine");
    let gateway = with_route(&upstream, "old", "/old").start();
    let changed = with_route(&upstream, "new", "/new")
        .set("workers", "1")
        .set("log.format", "text")
        .with_h2c_listener();
    assert_eq!(gateway.reload(changed), "rejected");
    for (key, message) in [
        ("workers", "2 cannot be changed to 1 by a reload; restart the process, or revert this change"),
        (
            "log.format",
            "json cannot be changed to text by a reload; restart the process, or revert this change",
        ),
        (
            "listen",
            "1 addresses cannot be changed to 2 addresses by a reload; restart the process, or revert this change",
        ),
    ] {
        assert_eq!(gateway.log_line(|line| line["key"] == key)["message"], message);
    }
    let mut client = gateway.client();
    client.get("/old").assert_response(200, "fine");
    client.get("/new").assert_local_reply(404);
}

#[test]
fn client_limits_apply_to_the_next_request_on_open_connections() {
    let upstream = ok_upstream("fine");
    let gateway = Gateway::with_upstream(&upstream).start();
    let (mut one, mut other) = (gateway.client(), gateway.client());
    one.get("/").assert_response(200, "fine");
    other.get("/").assert_response(200, "fine");
    let tight = Gateway::with_upstream(&upstream)
        .set("client.max_header_bytes", "1KiB")
        .set("client.max_body", "10B");
    assert_eq!(gateway.reload(tight), "applied");
    let long = format!("x-long: {}\r\n", "x".repeat(2000));
    assert_eq!(one.request("GET", "/", &long, "").status, 400);
    assert_eq!(other.request("POST", "/", "", "more than ten").status, 400);
    gateway.expect_metric("errors_total", &[("cause", "header_too_large")], 1.0);
    gateway.expect_metric("errors_total", &[("cause", "body_too_large")], 1.0);
}

#[test]
fn lowered_max_connections_closes_none_and_admits_none() {
    let upstream = ok_upstream("fine");
    let gateway = Gateway::with_upstream(&upstream).start();
    let mut clients = [hold_place(&gateway, 1), hold_place(&gateway, 2)];
    assert_eq!(
        gateway.reload(Gateway::with_upstream(&upstream).set("client.max_connections", "1")),
        "applied"
    );
    gateway.client().get("/").assert_local_reply(503);
    clients.iter_mut().for_each(|client| client.get("/").assert_response(200, "fine"));
    assert_eq!(gateway.reload(Gateway::with_upstream(&upstream)), "applied");
    gateway.client().get("/").assert_response(200, "fine");
}

#[test]
fn reload_switches_the_contract_with_its_codes_and_labels() {
    let upstream = html_upstream("502 Bad Gateway");
    let gateway = Gateway::with_upstream(&upstream).start();
    let mut client = gateway.client();
    client.get("/").assert_local_reply(504);
    let codes: Vec<_> = [400, 401, 403, 404, 409, 429, 500, 503, 504]
        .iter()
        .map(|code| format!("{{ code: {code}, message: \"It is {code}.\" }}"))
        .collect();
    let contract = format!("{{ codes: [{}] }}", codes.join(", "));
    assert_eq!(gateway.reload(Gateway::with_upstream(&upstream).set("contract", &contract)), "applied");
    client.get("/").assert_local_reply_message(504, "It is 504.");
    gateway.expect_metric("errors_total", &[("code", "504")], 2.0);
    gateway.expect_metrics_match_responses();
}

#[test]
fn changed_server_is_used_and_its_name_resolved_in_advance() {
    let (one, other) = (ok_upstream("one"), ok_upstream("other"));
    let gateway = Gateway::with_upstream(&one).start();
    let mut client = gateway.client();
    client.get("/").assert_response(200, "one");
    let named = format!("localhost:{}", other.address().port());
    let moved = GatewaySetup::with_servers(&[])
        .named_upstream("main2", &[&named])
        .route("name: all, match: { path: \"/{*rest}\" }, upstream: main2");
    let text = with_listener_address(moved);
    assert_eq!(gateway.reload_text(&text), "applied");
    client.get("/").assert_response(200, "other");
    gateway.expect_metric("errors_total", &[], 0.0);
}

/// The configuration without the upstream `main`.
fn with_listener_address(setup: GatewaySetup) -> String {
    let text = setup.yaml();
    text.lines().filter(|line| !line.contains("main: {")).map(|line| format!("{line}\n")).collect()
}

#[test]
fn requests_in_flight_count_against_the_limit_after_reload() {
    let gate = Gate::new();
    let opened = gate.clone();
    let upstream = by_request(move |_| {
        vec![Step::WaitForGate(opened.clone()), Step::Write(http_response("200 OK", "fine"))]
    });
    let limited = |max: u32| {
        let limits = format!("{{ max: {max}, queue: 0 }}");
        Gateway::with_upstream(&upstream).set("upstream.concurrency", &limits)
    };
    let gateway = limited(1).start();
    let mut first = gateway.client();
    first.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n");
    gateway.expect_metric("requests_in_flight", &[], 1.0);
    assert_eq!(gateway.reload(limited(1).set("errors.retry_after", "9s")), "applied");
    let refused = gateway.client().get("/");
    refused.assert_local_reply(503);
    assert_eq!(refused.header("retry-after"), Some("9"));
    assert_eq!(gateway.reload(limited(2)), "applied");
    gateway.expect_metric("concurrency_limit", &[("upstream", "main")], 2.0);
    let mut second = gateway.client();
    second.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n");
    gateway.expect_metric("requests_in_flight", &[], 2.0);
    gateway.client().get("/").assert_local_reply(503);
    assert_eq!(gateway.reload(Gateway::with_upstream(&upstream)), "applied");
    gate.open();
    for client in [&mut first, &mut second] {
        client.read(SentRequest::Http11("GET")).assert_response(200, "fine");
    }
    gateway.client().get("/").assert_response(200, "fine");
    assert!(!gateway.metrics().iter().any(|series| series.matches("concurrency_limit", &[])));
}

#[test]
fn rate_limit_counts_survive_reload_while_the_rule_exists() {
    let upstream = ok_upstream("fine");
    let limited = |rule: &str| {
        Gateway::with_upstream(&upstream)
            .set("rate_limits.rule", rule)
            .route("name: all, match: { path: \"/{*rest}\" }, upstream: main, rate_limits: [rule]")
    };
    let once = "{ key: [client_ip], allow: 1 per 1h }";
    let gateway = limited(once).start();
    let mut client = gateway.client();
    client.get("/").assert_response(200, "fine");
    assert_eq!(gateway.reload(limited(once).set("errors.include", "[type]")), "applied");
    assert_eq!(client.get("/").status, 429);
    assert_eq!(gateway.reload(limited("{ key: [client_ip], allow: 2 per 1h }")), "applied");
    client.get("/").assert_response(200, "fine");
}

#[test]
fn reload_changes_which_requests_and_levels_are_logged() {
    let upstream = ok_upstream("fine");
    let gateway = Gateway::with_upstream(&upstream).start();
    let mut client = gateway.client();
    client.get("/unseen").assert_response(200, "fine");
    assert_eq!(gateway.reload(Gateway::with_upstream(&upstream).set("log.requests", "all")), "applied");
    client.get("/seen").assert_response(200, "fine");
    gateway.log_line(|line| line["path"] == "/seen");
    let quiet = || Gateway::with_upstream(&upstream).set("log.requests", "all").set("log.level", "error");
    assert_eq!(gateway.reload(quiet()), "applied");
    client.get("/quiet").assert_response(200, "fine");
    assert_eq!(gateway.reload(Gateway::with_upstream(&upstream).set("log.requests", "all")), "applied");
    client.get("/last").assert_response(200, "fine");
    gateway.log_line(|line| line["path"] == "/last");
    let log = gateway.log_text();
    assert!(!log.contains("/unseen") && !log.contains("/quiet"), "{log}");
}

#[test]
fn sighup_while_draining_is_ignored_and_logged() {
    let upstream = ok_upstream("fine");
    let gateway = Gateway::with_upstream(&upstream).set("drain_delay", "2s").start();
    gateway.send_sigterm();
    gateway.log_line(|line| line["message"] == "draining");
    gateway.send_sighup();
    gateway.log_line(|line| line["message"] == "ignored SIGHUP: shutting down");
    assert_eq!(gateway.wait_for_exit(limit()).code(), Some(0));
}

#[test]
fn drain_timeouts_are_those_of_the_last_reload() {
    let upstream = script([Step::ReadRequestHead, Step::ReadUntilClose]);
    let setup = || {
        Gateway::with_upstream(&upstream)
            .set("timeouts.response_headers", "60s")
            .set("timeouts.deadline", "60s")
    };
    let gateway = setup().set("drain", "10m").set("drain_delay", "10m").start();
    let mut client = gateway.client();
    client.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n");
    gateway.expect_metric("requests_in_flight", &[], 1.0);
    assert_eq!(gateway.reload(setup().set("drain", "100ms").set("drain_delay", "100ms")), "applied");
    gateway.send_sigterm();
    assert_eq!(gateway.wait_for_exit(limit()).code(), Some(0));
}

#[test]
fn twenty_reloads_under_load_lose_no_request() {
    let upstream = ok_upstream("fine");
    let setup = |number: u32| {
        let keepalive = format!("{{ max: {} }}", 8 + number % 2);
        Gateway::with_upstream(&upstream).set("upstream.keepalive", &keepalive)
    };
    let gateway = setup(0).limit(Duration::from_secs(40)).start();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let mut client = gateway.client();
                    for _ in 0..50 {
                        client.get("/").assert_response(200, "fine");
                    }
                }
            });
        }
        for number in 1..=20 {
            assert_eq!(gateway.reload(setup(number)), "applied");
        }
        done.store(true, Ordering::Relaxed);
    });
    gateway.expect_metric("requests_in_flight", &[], 0.0);
    gateway.expect_metric("errors_total", &[], 0.0);
    gateway.expect_metrics_match_responses();
}

#[test]
fn new_connections_get_503_after_the_limit_was_lowered() {
    let upstream = ok_upstream("fine");
    let setup = |max_connections| {
        Gateway::with_upstream(&upstream).descriptors(128).set("client.max_connections", max_connections)
    };
    let gateway = setup("18").start();
    let mut clients: Vec<_> = (1..=18).map(|count| hold_place(&gateway, count)).collect();
    assert_eq!(gateway.reload(setup("1")), "applied");
    for _ in 0..3 {
        gateway.client().get("/").assert_local_reply(503);
    }
    for client in &mut clients {
        client.get("/").assert_response(200, "fine");
    }
}

#[test]
fn sighup_right_after_start_reloads_instead_of_terminating() {
    let upstream = ok_upstream("fine");
    let gateway = Gateway::with_upstream(&upstream).start_with_sighup();
    gateway.client().get("/").assert_response(200, "fine");
    gateway.send_sighup();
    gateway.client().get("/").assert_response(200, "fine");
}

#[test]
fn removed_limit_releases_waiters_and_restored_limit_counts_in_flight() {
    let gate = Gate::new();
    let shared_gate = gate.clone();
    let upstream = by_request(move |request| {
        let response = Step::Write(http_response("200 OK", request.path()));
        if request.path() == "/held" {
            vec![Step::WaitForGate(shared_gate.clone()), response]
        } else {
            vec![response]
        }
    });
    let limited = |limit: Option<&str>| {
        let setup = Gateway::with_upstream(&upstream);
        match limit {
            Some(limit) => setup.set("upstream.concurrency", limit),
            None => setup,
        }
    };
    let gateway = limited(Some("{ max: 1, queue: 1, queue_timeout: 9s }")).start();
    let mut first = gateway.client();
    first.send("GET /held HTTP/1.1\r\nhost: test\r\n\r\n");
    gateway.expect_metric("requests_in_flight", &[], 1.0);
    let mut second = gateway.client();
    second.send("GET /second HTTP/1.1\r\nhost: test\r\n\r\n");
    gateway.expect_metric("requests_queued", &[], 1.0);
    assert_eq!(gateway.reload(limited(None)), "applied");
    second.read(SentRequest::Http11("GET")).assert_response(200, "/second");
    gateway.client().get("/third").assert_response(200, "/third");
    gateway.expect_metric("concurrency_limit", &[], 0.0);
    assert_eq!(gateway.reload(limited(Some("{ max: 1, queue: 0 }"))), "applied");
    gateway.client().get("/fourth").assert_local_reply(503);
    gate.open();
    first.read(SentRequest::Http11("GET")).assert_response(200, "/held");
}

#[test]
fn removed_upstream_closes_its_connections_at_once() {
    let (first, second) = (ok_upstream("first"), ok_upstream("second"));
    let kept = |upstream: &ScriptedUpstream| {
        Gateway::with_upstream(upstream).set("upstream.keepalive", "{ max: 8, idle: 10m }")
    };
    let gateway = kept(&first).start();
    gateway.client().get("/").assert_response(200, "first");
    assert!(first.recording().connections.iter().all(|connection| connection.peer_close.is_none()));
    assert_eq!(gateway.reload(kept(&second)), "applied");
    assert!(first.wait_until(limit(), |seen| {
        seen.connections.iter().all(|connection| connection.peer_close.is_some())
    }));
    gateway.client().get("/").assert_response(200, "second");
}

#[test]
fn reload_changes_the_timeouts_of_open_http2_connections() {
    let upstream = ok_upstream("fine");
    let setup = |time: &str| {
        let setup = Gateway::with_upstream(&upstream).with_h2c_listener();
        setup.set("client.idle_timeout", time).set("client.header_timeout", time)
    };
    let gateway = setup("1h").start();
    let mut idle = RawH2Client::connect(gateway.h2_address(), &[], &get_frame(1));
    let mut stalled = RawH2Client::connect(gateway.h2_address(), &[], &get_frame(1));
    idle.expect_fine(1);
    stalled.expect_fine(1);
    assert_eq!(gateway.reload(setup("300ms")), "applied");
    // From the next request on.
    idle.send(get_frame(3));
    idle.expect_fine(3);
    stalled.send([get_frame(3), get_frame(5)[..12].to_vec()].concat());
    stalled.expect_fine(3);
    for raw in [&mut idle, &mut stalled] {
        raw.read_until(frame_type::GOAWAY);
    }
}
