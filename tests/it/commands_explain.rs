//! `explain` against the wire: for every status of an upstream and every cause that can be provoked, what it prints is
//! what is sent, counted and logged. Only the request's id and what is counted from the date are masked.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;
use statusquo::contract::Cause;
use statusquo::rehearse::{
    FaultCategory, FaultOutcome, FaultyUpstream, ReplyReason, ScriptedUpstream, ServerKind, UpstreamFault,
    UpstreamStep, upstream_faults, write_bytes,
};

use super::gateway::{Folder, Gateway, Setup, run};
use super::matrix::with_places;
use super::reader::{Answer, Asked, Reader};
use super::upstreams::{ok, script};

const PLACEHOLDER: &str = "00000000-0000-7000-8000-000000000000";
const LONG: Duration = Duration::from_secs(120);
const ALL_MEMBERS: &str = "[type, request_id, retryable, request_sent]";

/// What `explain` prints with these arguments for the gateway's own configuration.
#[track_caller]
pub(super) fn explained(gateway: &Gateway, arguments: &str) -> Value {
    let file = gateway.configuration();
    let mut all = vec!["explain", "--format", "json", file.to_str().unwrap()];
    all.extend(arguments.split_whitespace());
    let (status, out, err) = run(&all, &[]);
    assert_eq!(status, Some(0), "{arguments}: {err}");
    serde_json::from_str(&out).unwrap()
}

/// An answer as `explain` writes one.
pub(super) fn told(answer: &Answer) -> Value {
    let id = answer.field("x-request-id").unwrap_or_default();
    let masked = |(name, value): &(String, String)| {
        let value = match name.as_str() {
            "x-request-id" => PLACEHOLDER,
            "date" | "x-ratelimit-reset" => "(masked)",
            _ => value,
        };
        serde_json::json!([name, value])
    };
    serde_json::json!({
        "status": answer.status,
        "reason": answer.reason,
        "fields": answer.fields.iter().map(masked).collect::<Vec<_>>(),
        "body": answer.text().replace(id, PLACEHOLDER),
    })
}

/// The explained answer with lower-case names, as the strict reader gives them.
pub(super) fn expected(explained: &Value) -> Value {
    let mut answer = explained["answer"].clone();
    for field in answer["fields"].as_array_mut().unwrap() {
        field[0] = field[0].as_str().unwrap().to_ascii_lowercase().into();
        if field[0] == "date" || field[0] == "x-ratelimit-reset" {
            field[1] = "(masked)".into();
        }
    }
    answer
}

/// The answer, its counters and its log line are those that were explained.
#[track_caller]
pub(super) fn agrees(gateway: &Gateway, explained: &Value, answer: &Answer) {
    assert_eq!(expected(explained), told(answer), "{explained:#}");
    is_counted(gateway, explained);
    is_logged(gateway, explained);
}

#[track_caller]
fn is_counted(gateway: &Gateway, explained: &Value) {
    let page = gateway.probe("/metrics").text();
    for series in explained["counted"].as_array().unwrap() {
        let start = format!("{} ", series.as_str().unwrap());
        let counted = page.lines().any(|line| line.starts_with(&start) && !line.ends_with(" 0"));
        assert!(counted, "{series} is not counted:\n{page}");
    }
}

#[track_caller]
fn is_logged(gateway: &Gateway, explained: &Value) {
    let fields = explained["logged"].as_object().unwrap();
    assert!(fields.len() >= 5, "{explained:#}");
    gateway.log_line(|line| fields.iter().all(|(name, value)| line.get(name) == Some(value)));
}

#[test]
fn explain_equals_the_wire_for_every_error_status_of_an_upstream() {
    let misbehaving = FaultyUpstream::start().unwrap();
    let gateway = Setup::of_servers(&[misbehaving.address(ServerKind::Scripted)])
        .set("errors.include", ALL_MEMBERS)
        .set("errors.retry_after", "11s")
        .limit(LONG)
        .start();
    let statuses: Vec<u16> = (400..600).collect();
    std::thread::scope(|scope| {
        for part in statuses.chunks(50) {
            let gateway = &gateway;
            scope.spawn(move || {
                for status in part {
                    let mut client = gateway.client();
                    let answer = client.get(&format!("/status/{status}"));
                    let told_to_be = explained(gateway, &format!("--upstream-status {status}"));
                    assert_eq!(expected(&told_to_be), told(&answer), "{status}");
                    is_counted(gateway, &told_to_be);
                }
            });
        }
    });
    for status in [404, 418, 502, 503] {
        is_logged(&gateway, &explained(&gateway, &format!("--upstream-status {status}")));
    }
}

#[test]
fn explain_equals_the_wire_for_other_methods() {
    let misbehaving = FaultyUpstream::start().unwrap();
    let html = script([
        UpstreamStep::ReadRequestHead,
        write_bytes("HTTP/1.1 502 Bad\r\ncontent-type: text/html\r\ncontent-length: 7\r\n\r\n"),
    ]);
    let gateway = Setup::of_servers(&[misbehaving.address(ServerKind::Refusing)])
        .upstream("html", &[html.address()])
        .route("name: refused, match: { path: /refused }, upstream: main")
        .route("name: html, match: { path: /html }, upstream: html")
        .set("errors.include", ALL_MEMBERS)
        .start();
    for method in ["HEAD", "POST", "DELETE", "OPTIONS"] {
        let answer = gateway.client().ask(method, "/refused", "", "");
        agrees(
            &gateway,
            &explained(&gateway, &format!("--cause connection_refused --method {method}")),
            &answer,
        );
    }
    let answer = gateway.client().ask("HEAD", "/html", "", "");
    agrees(&gateway, &explained(&gateway, "--upstream-status 502 --route html --method HEAD"), &answer);
    let mut client = gateway.client();
    client.send("HEAD / HTTP/1.1\r\nhost: test\r\na : b\r\n\r\n");
    let answer = client.read(Asked::Http11("HEAD"));
    agrees(&gateway, &explained(&gateway, "--cause malformed_header --method HEAD"), &answer);
}

/// Everything that can go wrong on one gateway: a route for each.
fn prone(misbehaving: &FaultyUpstream, hanging: &ScriptedUpstream, overrides: &str) -> Setup {
    let mut setup = Setup::of_servers(&[misbehaving.address(ServerKind::Scripted)])
        .upstream("hanging", &[hanging.address()])
        .named_upstream("nowhere", &["nowhere.invalid:80"])
        // No connection can be made to everybody.
        .named_upstream("everywhere", &["255.255.255.255:80"])
        .set("errors.include", ALL_MEMBERS)
        .set("client.max_header_bytes", "4KiB")
        .set("client.header_timeout", "500ms")
        .set("client.body_timeout", "400ms")
        .set("timeouts.connect", "400ms")
        .set("timeouts.response_head", "1s")
        .set("timeouts.between_bytes", "500ms")
        .environment("STATUSQUO_TEST_PANIC", "1")
        .may_panic()
        .limit(LONG)
        .route("name: denied, match: { path: /denied }, upstream: main, deny: { methods: [GET] }")
        .route("name: small, match: { path: /small }, upstream: main, max_body: 10B")
        .route("name: late, match: { path: /late }, upstream: hanging, timeouts: { total: 300ms }")
        .route("name: nowhere, match: { path: /nowhere }, upstream: nowhere")
        .route("name: everywhere, match: { path: /everywhere }, upstream: everywhere")
        .route("name: panics, match: { path: /__panic }, upstream: main")
        .route("name: ok, match: { path: /ok }, upstream: main");
    setup = with_places(setup.set("timeouts.tls", "1s"), misbehaving, "127.0.0.1");
    for fault in one_for_each_cause() {
        let upstream = if fault.server_kind == ServerKind::Scripted {
            "main"
        } else {
            fault.server_kind.upstream_name()
        };
        let (name, path) = (fault.name, fault.path());
        setup = setup.route(&format!("name: {name}, match: {{ path: {path} }}, upstream: {upstream}"));
    }
    if overrides.is_empty() { setup } else { setup.set("errors.overrides", overrides) }
}

/// What a client sends to provoke a cause, and what `explain` is told beside the cause.
struct Provoked {
    cause: &'static str,
    told: String,
    bytes: String,
    /// The client ends its side after these bytes.
    then_ends: bool,
}

fn by_bytes(cause: &'static str, told: &str, bytes: impl Into<String>) -> Provoked {
    Provoked { cause, told: told.to_owned(), bytes: bytes.into(), then_ends: false }
}

fn provocations(via: &str) -> Vec<Provoked> {
    let get = |path: &str, fields: &str| format!("GET {path} HTTP/1.1\r\nhost: test\r\n{fields}\r\n");
    let mut all = vec![
        Provoked { then_ends: true, ..by_bytes("http_request_error", "", "GET / HTTP/1.1\r\nho") },
        by_bytes("malformed_request_line", "", "GET  / HTTP/1.1\r\nhost: test\r\n\r\n"),
        by_bytes("malformed_header", "", get("/ok", "a : b\r\n")),
        by_bytes("ambiguous_framing", "", get("/ok", "content-length: 1\r\ncontent-length: 2\r\n")),
        by_bytes("invalid_host", "", "GET /ok HTTP/1.1\r\n\r\n"),
        by_bytes("ambiguous_path", "", get("/a/../b", "")),
        by_bytes("unsupported_version", "", "GET / HTTP/2.0\r\nhost: test\r\n\r\n"),
        by_bytes("unsupported_method", "", "TRACE / HTTP/1.1\r\nhost: test\r\n\r\n"),
        by_bytes("unsupported_expectation", "", get("/ok", "expect: a-miracle\r\n")),
        by_bytes("header_too_large", "", get("/ok", &format!("a: {}\r\n", "x".repeat(5000)))),
        by_bytes("uri_too_long", "", get(&format!("/{}", "x".repeat(5000)), "")),
        by_bytes("client_too_slow", "", "GET / HTTP/1.1\r\nhost: test\r\n"),
        by_bytes("client_too_slow", "--route ok", get("/ok", "content-length: 10\r\n")),
        by_bytes("malformed_body", "--route ok", get("/ok", "transfer-encoding: chunked\r\n") + "zz\r\n"),
        by_bytes("body_too_large", "--route small", get("/small", "content-length: 11\r\n") + "01234567890"),
        by_bytes("destination_not_found", "", get("/no/such/route", "")),
        by_bytes("http_request_denied", "--route denied", get("/denied", "")),
        by_bytes("proxy_loop_detected", "--route ok", get("/ok", &format!("via: {via}\r\n"))),
        by_bytes("proxy_internal_error", "", get("/__panic", "")),
        by_bytes("dns_error", "--route nowhere", get("/nowhere", "")),
        by_bytes("destination_ip_unroutable", "--route everywhere", get("/everywhere", "")),
        by_bytes("deadline_exceeded", "--route late", get("/late", "")),
    ];
    for fault in one_for_each_cause() {
        let told = format!("--route {}", fault.name);
        all.push(by_bytes(fault.outcome.cause_name(), &told, get(&fault.path(), fault.request.header_lines)));
    }
    all
}

/// The first fault of the table for each cause.
fn one_for_each_cause() -> Vec<UpstreamFault> {
    let mut seen = BTreeSet::new();
    let mut faults = upstream_faults();
    faults.retain(|fault| match fault.outcome {
        // One that accepts and closes may be noticed while writing or while reading.
        FaultOutcome::LocalReply { reason: ReplyReason::Fault(cause), .. } => {
            let asked_so = fault.request.is_plain_get() || fault.category == FaultCategory::Upgrade;
            fault.server_kind != ServerKind::Closing && asked_so && seen.insert(cause)
        }
        FaultOutcome::LocalReply { .. } | FaultOutcome::Forwarded { .. } | FaultOutcome::Aborted { .. } => {
            false
        }
    });
    faults
}

/// The pseudonym of this gateway.
fn via(gateway: &Gateway, misbehaving: &FaultyUpstream) -> String {
    gateway.client().get("/ok").is(200, r#"{"ok":true}"#);
    misbehaving.scripted().recording().requests().next().unwrap().head.header("via").unwrap().to_owned()
}

#[track_caller]
fn check(gateway: &Gateway, provoked: &Provoked) {
    let mut client = gateway.client();
    client.send(&provoked.bytes);
    if provoked.then_ends {
        client.finish_sending();
    }
    let answer = client.read(Asked::Http11("GET"));
    let made = explained(gateway, &format!("--cause {} {}", provoked.cause, provoked.told));
    assert_eq!(expected(&made), told(&answer), "{}: {made:#}", provoked.cause);
    is_counted(gateway, &made);
    is_logged(gateway, &made);
}

#[track_caller]
fn check_all(overrides: &str) {
    let misbehaving = FaultyUpstream::start().unwrap();
    let hanging = script([UpstreamStep::ReadRequestHead, UpstreamStep::ReadUntilClose]);
    let gateway = prone(&misbehaving, &hanging, overrides).start();
    let provocations = provocations(&via(&gateway, &misbehaving));
    let broken: Vec<&str> = std::thread::scope(|scope| {
        let rows: Vec<_> = provocations
            .iter()
            .map(|provoked| {
                let gateway = &gateway;
                (provoked.cause, scope.spawn(move || check(gateway, provoked)))
            })
            .collect();
        rows.into_iter().filter_map(|(cause, row)| row.join().is_err().then_some(cause)).collect()
    });
    assert_eq!(broken, Vec::<&str>::new(), "these differ, see above");
}

#[test]
fn explain_equals_the_wire_for_every_cause_that_can_be_provoked() {
    check_all("");
}

#[test]
fn explain_equals_the_wire_where_overrides_decide() {
    check_all(
        "[{ when: { cause: [connection_refused, dns_error, malformed_header] }, code: 503, message: \"Later.\", \
         retry_after: 7s }, { when: { cause: [http_request_denied, uri_too_long] }, code: 404 }, \
         { when: { method: GET, upstream: main }, message: \"Not now.\" }]",
    );
}

#[test]
fn explain_equals_the_wire_for_a_connection_too_many() {
    let upstream = ok("fine");
    let gateway = Gateway::in_front_of(&upstream).set("client.max_connections", "1").start();
    let mut first = gateway.client();
    first.get("/").is(200, "fine");
    let mut second = gateway.client();
    second.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n");
    let answer = second.read(Asked::Http11("GET"));
    agrees(&gateway, &explained(&gateway, "--cause connection_limit_reached"), &answer);
}

#[test]
fn a_route_s_override_precedes_a_global_one_and_explain_names_it_by_its_place_in_the_file() {
    let misbehaving = FaultyUpstream::start().unwrap();
    let gateway = Setup::of_servers(&[misbehaving.address(ServerKind::Scripted)])
        .set(
            "errors.overrides",
            "[{ when: { cause: connection_refused }, code: 500 }, { when: { upstream_status: [405, 410] }, code: 400, \
             message: \"Globally not.\" }]",
        )
        .route("name: plain, match: { path: \"/{*rest}\", methods: [GET] }, upstream: main")
        .route(
            "name: own, match: { path: \"/{*rest}\", methods: [POST] }, upstream: main, errors: { overrides: \
             [{ when: { upstream_status: 405 }, code: 403, message: \"Not on this route.\" }] }",
        )
        .start();
    for (method, status, route, rule, decided) in [
        ("GET", 405, "plain", "global_override", "errors.overrides[1]"),
        ("POST", 405, "own", "route_override", "routes[1].errors.overrides[0]"),
        ("POST", 410, "own", "global_override", "errors.overrides[1]"),
        ("POST", 411, "own", "default", "the contract's default table"),
        ("POST", 404, "own", "documented", "the contract documents this status"),
    ] {
        let answer = gateway.client().ask(method, &format!("/status/{status}"), "", "");
        let made =
            explained(&gateway, &format!("--upstream-status {status} --route {route} --method {method}"));
        agrees(&gateway, &made, &answer);
        assert_eq!(made["rule"], serde_json::json!({ "kind": rule, "where": decided }));
    }
}

#[test]
fn explain_equals_the_wire_for_pages_of_other_origins() {
    let misbehaving = FaultyUpstream::start().unwrap();
    let shared = "cors: { allow_origins: [\"https://app.example.com\"], allow_credentials: true }";
    let gateway = Setup::of_servers(&[misbehaving.address(ServerKind::Scripted)])
        .set("cors.allow_origins", "[\"*\"]")
        .upstream("refusing", &[misbehaving.address(ServerKind::Refusing)])
        .route(&format!("name: status, match: {{ path: \"/status/{{code}}\" }}, upstream: main, {shared}"))
        .route(&format!("name: refused, match: {{ path: /refused }}, upstream: refusing, {shared}"))
        .start();
    for origin in ["https://app.example.com", "https://evil.example.com"] {
        for (path, told_to) in [
            ("/status/502", "--upstream-status 502 --route status"),
            ("/refused", "--cause connection_refused --route refused"),
            ("/no/such/route", "--cause destination_not_found"),
            ("/status/1?\u{1}", "--cause malformed_request_line"),
        ] {
            let mut client = gateway.client();
            client.send(format!("GET {path} HTTP/1.1\r\nhost: test\r\norigin: {origin}\r\n\r\n"));
            let answer = client.read(Asked::Http11("GET"));
            agrees(&gateway, &explained(&gateway, &format!("{told_to} --origin {origin}")), &answer);
        }
    }
    let answer = gateway.client().get("/refused");
    agrees(&gateway, &explained(&gateway, "--cause connection_refused --route refused"), &answer);
}

#[test]
fn explain_equals_the_wire_on_a_limited_route_for_the_first_request_and_the_one_too_many() {
    let misbehaving = FaultyUpstream::start().unwrap();
    let shared = "cors: { allow_origins: [\"https://app.example.com\"] }";
    let gateway = Setup::of_servers(&[misbehaving.address(ServerKind::Scripted)])
        .set("rate_limits", "{ by_route: { key: [route, client_ip], allow: 3 per 1h }, wide: { allow: 900 per 1h } }")
        .upstream("refusing", &[misbehaving.address(ServerKind::Refusing)])
        .route("name: free, match: { path: /free }, upstream: main")
        .route(&format!(
            "name: status, match: {{ path: \"/status/{{code}}\" }}, upstream: main, rate_limits: [by_route], {shared}"
        ))
        .route("name: refused, match: { path: /refused }, upstream: refusing, rate_limits: [by_route, wide]")
        .start();
    let answer = gateway.client().get("/status/502");
    agrees(&gateway, &explained(&gateway, "--upstream-status 502 --route status"), &answer);
    // At once, for what flows back meanwhile is told in whole seconds.
    let mut client = gateway.client();
    let [first, _, _, fourth] = [(); 4].map(|()| client.get("/refused"));
    agrees(&gateway, &explained(&gateway, "--cause connection_refused --route refused"), &first);
    assert_eq!(fourth.status, 429);
    agrees(&gateway, &explained(&gateway, "--cause rate_limited --route refused"), &fourth);

    let made = explained(&gateway, "--cause rate_limited");
    assert_eq!(made["route"], "status", "the first route that has limits");
    let made = explained(&gateway, "--cause rate_limited --route free");
    assert!(made["notes"].to_string().contains("No rate limit of this route"), "{made:#}");
}

#[test]
fn where_the_upstreams_error_passes_or_the_response_is_cut_explain_says_so() {
    let misbehaving = FaultyUpstream::start().unwrap();
    let gateway = Setup::of_servers(&[misbehaving.address(ServerKind::Scripted)])
        .set("timeouts.between_bytes", "400ms")
        .set("log.requests", "all")
        .route("name: observed, match: { path: /status/410 }, upstream: main, errors: observe")
        .route("name: passed, match: { path: /status/411 }, upstream: main, errors: pass")
        .route("name: cut, match: { path: \"/{*rest}\" }, upstream: main")
        .start();
    for (status, route) in [(410, "observed"), (411, "passed")] {
        // Such a route is outside of the promise, so the strict client must not judge.
        let stream = std::net::TcpStream::connect(gateway.address()).unwrap();
        std::io::Write::write_all(
            &mut &stream,
            format!("GET /status/{status} HTTP/1.1\r\nhost: test\r\n\r\n").as_bytes(),
        )
        .unwrap();
        let answer = Reader::new(stream).read(Asked::Http11("GET")).unwrap();
        assert_eq!((answer.status, answer.field("server")), (status, Some("apache/2.4")));
        let made = explained(&gateway, &format!("--upstream-status {status} --route {route}"));
        assert_eq!(made["answer"], Value::Null);
        is_counted(&gateway, &made);
        is_logged(&gateway, &made);
    }
    for (path, cause) in
        [("/cut-body", "http_response_incomplete"), ("/stalled-body", "connection_read_timeout")]
    {
        let answer = gateway.client().get(path);
        assert_eq!(answer.status, 200);
        let made = explained(&gateway, &format!("--cause {cause} --route cut"));
        assert_eq!(made["answer"], Value::Null);
        gateway.expect_metric("aborted_total", &[("cause", cause)], 1.0);
        is_counted(&gateway, &made);
    }
}

/// Causes that are not reserved and that no request provokes on every machine.
const NOT_PROVOKED: [&str; 2] = ["proxy_configuration_error", "limiter_unavailable"];

#[test]
fn every_cause_is_provoked_above_or_named_as_one_that_cannot_be() {
    let mut named: BTreeSet<&str> = provocations("").iter().map(|provoked| provoked.cause).collect();
    named.extend([
        "rate_limited",
        "connection_limit_reached",
        "queue_full",
        "queue_timeout",
        "resource_exhausted",
        "connection_write_timeout",
        "http_response_incomplete",
        "connection_read_timeout",
    ]);
    for cause in NOT_PROVOKED {
        assert!(!named.contains(cause), "{cause} can be provoked");
    }
    let missing: Vec<&str> = Cause::ALL
        .iter()
        .filter(|cause| !cause.is_reserved())
        .map(|cause| cause.name())
        .filter(|name| !named.contains(name) && !NOT_PROVOKED.contains(name))
        .collect();
    assert_eq!(missing, Vec::<&str>::new());
}

#[test]
fn every_cause_has_an_explanation_without_being_told_more() {
    let folder = Folder::new();
    let file = folder.write("statusquo.yaml", include_str!("../../config/minimal.yaml"));
    for cause in Cause::ALL {
        let (status, out, err) = run(&["explain", "--cause", cause.name(), file.to_str().unwrap()], &[]);
        assert_eq!(status, Some(0), "{cause}: {err}");
        assert!(out.starts_with(&format!("{cause}, GET on ")), "{out}");
    }
}

#[test]
fn the_text_form_holds_the_bytes_of_the_answer_as_they_are() {
    let misbehaving = FaultyUpstream::start().unwrap();
    let gateway = Setup::of_servers(&[misbehaving.address(ServerKind::Refusing)]).start();
    let file = gateway.configuration();
    let (_, out, _) = run(&["explain", "--cause", "connection_refused", file.to_str().unwrap()], &[]);
    let (_, rest) = out.split_once("\n\n").unwrap();
    let (answer, rest) = rest.split_once("\n\ncounted:\n").unwrap();
    let mut client = gateway.client();
    let wire = client.get("/");
    let text = answer.replacen("\n\n", "\r\n\r\n", 1);
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let bytes = format!("{}\r\n\r\n{body}", head.replace('\n', "\r\n"));
    let read = Reader::new(bytes.as_bytes()).read(Asked::Http11("GET")).unwrap();
    assert_eq!(told(&read), told(&wire));
    assert!(rest.contains("logged:") && rest.contains("notes:"), "{out}");
}

#[test]
fn a_name_that_is_not_there_is_status_2_and_a_suggestion() {
    let folder = Folder::new();
    let file = folder.write("statusquo.yaml", include_str!("../../config/minimal.yaml"));
    let file = file.to_str().unwrap();
    for (arguments, said) in [
        (&["--cause", "conection_refused"][..], "did you mean connection_refused?"),
        (&["--cause", "upstream_response"], "use --upstream-status"),
        (&["--upstream-status", "399"], "399"),
        (&["--upstream-status", "500", "--route", "ap"], "there is no route \"ap\"; did you mean \"app\"?"),
        (
            &["--upstream-status", "500", "--upstream", "apq"],
            "there is no upstream \"apq\"; did you mean \"app\"?",
        ),
        (&["--upstream-status", "500", "--cause", "dns_error"], "cannot be used with"),
        (&["--upstream-status", "500", "--method", "get"], "write GET"),
        (&[], "--cause"),
    ] {
        let (status, out, err) = run(&[&["explain", file], arguments].concat(), &[]);
        assert_eq!((status, out.as_str()), (Some(2), ""), "{arguments:?}: {err}");
        assert!(err.contains(said), "{arguments:?}: {err}");
    }
}
