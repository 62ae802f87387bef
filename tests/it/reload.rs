//! SIGHUP: another configuration takes the place of the old one between two requests, or does not at all.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use statusquo::rehearse::{Gate, ScriptedUpstream, UpstreamStep, http_response};

use super::gateway::{Gateway, Setup};
use super::load::limit;
use super::reader::Asked;
use super::upstreams::{by_request, html, ok, script};

/// One route to the upstream.
fn routed(upstream: &ScriptedUpstream, name: &str, path: &str) -> Setup {
    Gateway::in_front_of(upstream).route(&format!("name: {name}, match: {{ path: {path} }}, upstream: main"))
}

#[test]
fn routes_change_under_a_connection_and_the_upstreams_connection_stays() {
    let upstream = ok("here");
    let gateway = routed(&upstream, "old", "/old").start();
    let labels = [("result", "applied")];
    assert_eq!(gateway.metric("config_last_reload_successful", &[]), 1.0);
    let started = gateway.metric("config_last_reload_timestamp_seconds", &[]);
    assert!(started > 0.0);
    let mut client = gateway.client();
    client.get("/old").is(200, "here");
    client.get("/new").is_made(404);
    assert_eq!(gateway.reload(routed(&upstream, "new", "/new")), "applied");
    client.get("/new").is(200, "here");
    client.get("/old").is_made(404);
    assert_eq!(upstream.connection_count(), 1);
    gateway.expect_metric("config_reloads_total", &labels, 1.0);
    assert!(gateway.metric("config_last_reload_timestamp_seconds", &[]) >= started);
    for route in ["old", "new"] {
        gateway.expect_metric("responses_total", &[("route", route), ("code", "200")], 1.0);
    }
    gateway.log_line(|line| line["message"] == "configuration reloaded");
    gateway.expect_accounts_to_agree();
}

#[test]
fn a_request_under_way_ends_by_the_rules_that_it_began_with() {
    let gate = Gate::new();
    let upstream = script([
        UpstreamStep::ReadRequestHead,
        UpstreamStep::WaitForGate(gate.clone()),
        UpstreamStep::Write(http_response("405 No", "<p>")),
    ]);
    let other = ok("other");
    let old = |message: &str| {
        let overrides =
            format!(r#"[{{ when: {{ upstream_status: [405] }}, code: 404, message: "{message}" }}]"#);
        Gateway::in_front_of(&upstream).set("errors.overrides", &overrides)
    };
    let gateway = old("Old.").start();
    let mut busy = gateway.client();
    busy.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n");
    assert!(upstream.wait_until(limit(), |seen| seen.requests().count() == 1));
    assert_eq!(gateway.reload(Gateway::in_front_of(&other)), "applied");
    gateway.client().get("/").is(200, "other");
    gate.open();
    busy.read(Asked::Http11("GET")).is_made_saying(404, "Old.");
    busy.get("/").is(200, "other");
    assert_eq!(gateway.reload(old("New.")), "applied");
    busy.get("/").is_made_saying(404, "New.");
}

#[test]
fn a_bad_file_is_refused_whole_with_its_problems_and_the_old_one_serves_on() {
    let upstream = ok("fine");
    let gateway = Gateway::in_front_of(&upstream).start();
    let mut client = gateway.client();
    client.get("/").is(200, "fine");
    let bad = "version: 1\nlisten: [{ address: \"127.0.0.1:0\" }]\nclient: { header_timout: 5s }\n\
        upstreams: { main: { servers: [\"127.0.0.1:1\"] } }\nroutes: [{ name: r, upstream: mian }]\n";
    assert_eq!(gateway.reload_text(bad), "refused");
    client.get("/").is(200, "fine");
    gateway.expect_metric("config_last_reload_successful", &[], 0.0);
    let line = gateway.log_line(|line| line["problems"] == 2);
    assert_eq!(line["level"], "error");
    let message = line["message"].as_str().unwrap();
    let (before, after) = message.split_at("reload refused, still serving the configuration of ".len());
    assert_eq!(before, "reload refused, still serving the configuration of ");
    assert!(after.len() == "10:42:07: 2 problems".len() && after.ends_with(": 2 problems"), "{message}");
    let line = gateway.log_line(|line| line["key"] == "routes[0].upstream");
    assert_eq!((&line["line"], &line["column"]), (&5.into(), &31.into()));
    assert_eq!(line["message"], "there is no upstream \"mian\"; did you mean \"main\"?");
    gateway.log_line(|line| line["key"] == "client.header_timout");
    for text in ["", "routes: [", "\u{0}"] {
        assert_eq!(gateway.reload_text(text), "refused", "{text:?}");
    }
    client.get("/").is(200, "fine");
    assert_eq!(gateway.reload(Gateway::in_front_of(&upstream)), "applied");
    gateway.expect_metric("config_last_reload_successful", &[], 1.0);
    gateway.expect_metric("config_reloads_total", &[("result", "refused")], 4.0);
    assert_eq!(upstream.connection_count(), 1);
}

#[test]
fn what_needs_a_restart_is_refused_by_name_and_nothing_else_of_the_file_is_taken() {
    let upstream = ok("fine");
    let gateway = routed(&upstream, "old", "/old").start();
    let wanted = routed(&upstream, "new", "/new").set("workers", "1").set("log.format", "text").h2c();
    assert_eq!(gateway.reload(wanted), "refused");
    for (key, message) in [
        ("workers", "2 cannot become 1 by a reload; restart the process, or take this change back"),
        ("log.format", "json cannot become text by a reload; restart the process, or take this change back"),
        (
            "listen",
            "1 addresses cannot become 2 addresses by a reload; restart the process, or take this change back",
        ),
    ] {
        assert_eq!(gateway.log_line(|line| line["key"] == key)["message"], message);
    }
    let mut client = gateway.client();
    client.get("/old").is(200, "fine");
    client.get("/new").is_made(404);
}

#[test]
fn limits_on_clients_hold_for_the_next_request_of_old_connections_too() {
    let upstream = ok("fine");
    let gateway = Gateway::in_front_of(&upstream).start();
    let (mut one, mut other) = (gateway.client(), gateway.client());
    one.get("/").is(200, "fine");
    other.get("/").is(200, "fine");
    let tight =
        Gateway::in_front_of(&upstream).set("client.max_header_bytes", "1KiB").set("client.max_body", "10B");
    assert_eq!(gateway.reload(tight), "applied");
    let long = format!("x-long: {}\r\n", "x".repeat(2000));
    assert_eq!(one.ask("GET", "/", &long, "").status, 400);
    assert_eq!(other.ask("POST", "/", "", "more than ten").status, 400);
    gateway.expect_metric("errors_total", &[("cause", "header_too_large")], 1.0);
    gateway.expect_metric("errors_total", &[("cause", "body_too_large")], 1.0);
}

#[test]
fn fewer_connections_than_are_open_throw_nobody_out_and_let_nobody_in() {
    let upstream = ok("fine");
    let gateway = Gateway::in_front_of(&upstream).start();
    let mut clients = [gateway.client(), gateway.client()];
    clients.iter_mut().for_each(|client| client.get("/").is(200, "fine"));
    assert_eq!(gateway.reload(Gateway::in_front_of(&upstream).set("client.max_connections", "1")), "applied");
    clients.iter_mut().for_each(|client| client.get("/").is(200, "fine"));
    gateway.client().get("/").is_made(503);
    assert_eq!(gateway.reload(Gateway::in_front_of(&upstream)), "applied");
    gateway.client().get("/").is(200, "fine");
}

#[test]
fn another_contract_takes_over_with_its_codes_and_labels() {
    let upstream = html("502 Bad Gateway");
    let gateway = Gateway::in_front_of(&upstream).start();
    let mut client = gateway.client();
    client.get("/").is_made(504);
    let codes: Vec<_> = [400, 401, 403, 404, 409, 429, 500, 503, 504]
        .iter()
        .map(|code| format!("{{ code: {code}, message: \"It is {code}.\" }}"))
        .collect();
    let contract = format!("{{ codes: [{}] }}", codes.join(", "));
    assert_eq!(gateway.reload(Gateway::in_front_of(&upstream).set("contract", &contract)), "applied");
    client.get("/").is_made_saying(504, "It is 504.");
    gateway.expect_metric("errors_total", &[("code", "504")], 2.0);
    gateway.expect_accounts_to_agree();
}

#[test]
fn an_upstream_whose_server_changed_is_asked_there_and_a_name_is_found_before_it_is_needed() {
    let (one, other) = (ok("one"), ok("other"));
    let gateway = Gateway::in_front_of(&one).start();
    let mut client = gateway.client();
    client.get("/").is(200, "one");
    let named = format!("localhost:{}", other.address().port());
    let moved = Setup::of_servers(&[])
        .named_upstream("main2", &[&named])
        .route("name: all, match: { path: \"/{*rest}\" }, upstream: main2");
    let text = moved_text(moved);
    assert_eq!(gateway.reload_text(&text), "applied");
    client.get("/").is(200, "other");
    gateway.expect_metric("errors_total", &[], 0.0);
}

/// The file without the upstream that has no server.
fn moved_text(setup: Setup) -> String {
    let text = setup.text();
    text.lines().filter(|line| !line.contains("main: {")).map(|line| format!("{line}\n")).collect()
}

#[test]
fn who_is_at_an_upstream_counts_against_its_limit_after_a_reload_too() {
    let gate = Gate::new();
    let opened = gate.clone();
    let upstream = by_request(move |_| {
        vec![UpstreamStep::WaitForGate(opened.clone()), UpstreamStep::Write(http_response("200 OK", "fine"))]
    });
    let limited = |max: u32| {
        let limits = format!("{{ max: {max}, queue: 0 }}");
        Gateway::in_front_of(&upstream).set("upstream.concurrency", &limits)
    };
    let gateway = limited(1).start();
    let mut first = gateway.client();
    first.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n");
    gateway.expect_metric("requests_in_flight", &[], 1.0);
    assert_eq!(gateway.reload(limited(1).set("errors.retry_after", "9s")), "applied");
    let refused = gateway.client().get("/");
    refused.is_made(503);
    assert_eq!(refused.field("retry-after"), Some("9"));
    assert_eq!(gateway.reload(limited(2)), "applied");
    gateway.expect_metric("concurrency_limit", &[("upstream", "main")], 2.0);
    let mut second = gateway.client();
    second.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n");
    gateway.expect_metric("requests_in_flight", &[], 2.0);
    gateway.client().get("/").is_made(503);
    assert_eq!(gateway.reload(Gateway::in_front_of(&upstream)), "applied");
    gate.open();
    for client in [&mut first, &mut second] {
        client.read(Asked::Http11("GET")).is(200, "fine");
    }
    gateway.client().get("/").is(200, "fine");
    assert!(!gateway.metrics().iter().any(|series| series.is("concurrency_limit", &[])));
}

#[test]
fn what_a_rate_limit_has_counted_stays_while_the_rule_does() {
    let upstream = ok("fine");
    let limited = |rule: &str| {
        Gateway::in_front_of(&upstream)
            .set("rate_limits.rule", rule)
            .route("name: all, match: { path: \"/{*rest}\" }, upstream: main, rate_limits: [rule]")
    };
    let once = "{ key: [client_ip], allow: 1 per 1h }";
    let gateway = limited(once).start();
    let mut client = gateway.client();
    client.get("/").is(200, "fine");
    assert_eq!(gateway.reload(limited(once).set("errors.include", "[type]")), "applied");
    assert_eq!(client.get("/").status, 429);
    assert_eq!(gateway.reload(limited("{ key: [client_ip], allow: 2 per 1h }")), "applied");
    client.get("/").is(200, "fine");
}

#[test]
fn which_requests_and_lines_are_logged_may_change() {
    let upstream = ok("fine");
    let gateway = Gateway::in_front_of(&upstream).start();
    let mut client = gateway.client();
    client.get("/unseen").is(200, "fine");
    assert_eq!(gateway.reload(Gateway::in_front_of(&upstream).set("log.requests", "all")), "applied");
    client.get("/seen").is(200, "fine");
    gateway.log_line(|line| line["path"] == "/seen");
    let quiet = || Gateway::in_front_of(&upstream).set("log.requests", "all").set("log.level", "error");
    assert_eq!(gateway.reload(quiet()), "applied");
    client.get("/quiet").is(200, "fine");
    assert_eq!(gateway.reload(Gateway::in_front_of(&upstream).set("log.requests", "all")), "applied");
    client.get("/last").is(200, "fine");
    gateway.log_line(|line| line["path"] == "/last");
    let log = gateway.log_text();
    assert!(!log.contains("/unseen") && !log.contains("/quiet"), "{log}");
}

#[test]
fn a_hangup_while_draining_is_ignored_and_said_so() {
    let upstream = ok("fine");
    let gateway = Gateway::in_front_of(&upstream).set("drain_delay", "2s").start();
    gateway.terminate();
    gateway.log_line(|line| line["message"] == "draining");
    gateway.hang_up();
    gateway.log_line(|line| line["message"] == "ignored SIGHUP: shutting down");
    assert_eq!(gateway.wait(limit()).code(), Some(0));
}

#[test]
fn the_drain_times_are_those_of_the_last_reload() {
    let upstream = script([UpstreamStep::ReadRequestHead, UpstreamStep::ReadUntilClose]);
    let setup =
        || Gateway::in_front_of(&upstream).set("timeouts.response_head", "60s").set("timeouts.total", "60s");
    let gateway = setup().set("drain", "10m").set("drain_delay", "10m").start();
    let mut client = gateway.client();
    client.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n");
    gateway.expect_metric("requests_in_flight", &[], 1.0);
    assert_eq!(gateway.reload(setup().set("drain", "100ms").set("drain_delay", "100ms")), "applied");
    gateway.terminate();
    assert_eq!(gateway.wait(limit()).code(), Some(0));
}

#[test]
fn nobody_notices_twenty_reloads_under_load() {
    let upstream = ok("fine");
    let setup = |number: u32| {
        let keepalive = format!("{{ max: {} }}", 8 + number % 2);
        Gateway::in_front_of(&upstream).set("upstream.keepalive", &keepalive)
    };
    let gateway = setup(0).limit(Duration::from_secs(40)).start();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let mut client = gateway.client();
                    for _ in 0..50 {
                        client.get("/").is(200, "fine");
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
    gateway.expect_accounts_to_agree();
}

#[test]
fn newcomers_are_told_of_a_limit_that_was_lowered_below_what_is_open() {
    let upstream = ok("fine");
    let setup = |most| Gateway::in_front_of(&upstream).descriptors(128).set("client.max_connections", most);
    let gateway = setup("18").start();
    let mut clients: Vec<_> = (0..18).map(|_| gateway.client()).collect();
    for client in &mut clients {
        client.get("/").is(200, "fine");
    }
    assert_eq!(gateway.reload(setup("1")), "applied");
    for _ in 0..3 {
        gateway.client().get("/").is_made(503);
    }
    for client in &mut clients {
        client.get("/").is(200, "fine");
    }
}

#[test]
fn a_hangup_right_after_the_start_is_a_reload_and_not_the_end() {
    let upstream = ok("fine");
    let gateway = Gateway::in_front_of(&upstream).start_hanging_up();
    gateway.client().get("/").is(200, "fine");
    gateway.hang_up();
    gateway.client().get("/").is(200, "fine");
}

#[test]
fn who_waits_for_a_limit_that_is_gone_is_let_in_and_who_is_there_counts_when_it_is_back() {
    let gate = Gate::new();
    let held = gate.clone();
    let upstream = by_request(move |request| {
        let answer = UpstreamStep::Write(http_response("200 OK", request.path()));
        if request.path() == "/held" {
            vec![UpstreamStep::WaitForGate(held.clone()), answer]
        } else {
            vec![answer]
        }
    });
    let limited = |limit: Option<&str>| {
        let setup = Gateway::in_front_of(&upstream);
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
    gateway.expect_metric("requests_waiting", &[], 1.0);
    assert_eq!(gateway.reload(limited(None)), "applied");
    second.read(Asked::Http11("GET")).is(200, "/second");
    gateway.client().get("/third").is(200, "/third");
    gateway.expect_metric("concurrency_limit", &[], 0.0);
    assert_eq!(gateway.reload(limited(Some("{ max: 1, queue: 0 }"))), "applied");
    gateway.client().get("/fourth").is_made(503);
    gate.open();
    first.read(Asked::Http11("GET")).is(200, "/held");
}

#[test]
fn connections_to_an_upstream_that_is_gone_are_closed_at_once() {
    let (first, second) = (ok("first"), ok("second"));
    let kept = |upstream: &ScriptedUpstream| {
        Gateway::in_front_of(upstream).set("upstream.keepalive", "{ max: 8, idle: 10m }")
    };
    let gateway = kept(&first).start();
    gateway.client().get("/").is(200, "first");
    assert!(first.recording().connections.iter().all(|connection| connection.peer_close.is_none()));
    assert_eq!(gateway.reload(kept(&second)), "applied");
    assert!(first.wait_until(limit(), |seen| {
        seen.connections.iter().all(|connection| connection.peer_close.is_some())
    }));
    gateway.client().get("/").is(200, "second");
}
