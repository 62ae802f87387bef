//! `explain` compared with the wire: for every upstream status code and every cause that a test can provoke, the
//! explained response equals the one sent, counted and logged. Only the request id and date-dependent values are
//! masked.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;
use statusquo::conformance::{FaultOutcome, FaultyUpstream, ServerKind, UpstreamFault, upstream_faults};
use statusquo::contract::{Cause, Trigger};

use super::commands_explain_cases::{MAX_HEADER_BYTES, check_rejections, one_rejection_for_each_cause};
use super::connections::hold_place;
use super::gateway::run;
use super::prelude::*;
use super::response_reader::StrictReader;
use super::upstream_faults::with_server_kinds;

const REQUEST_ID_PLACEHOLDER: &str = "00000000-0000-7000-8000-000000000000";
const LONG_LIMIT: Duration = Duration::from_secs(120);
const ALL_MEMBERS: &str = "[type, request_id, retryable, request_sent]";

/// Output of `explain` with these arguments for the gateway's own configuration.
#[track_caller]
pub(super) fn explain(gateway: &Gateway, arguments: &str) -> Value {
    let file = gateway.configuration();
    let mut all = vec!["explain", "--format", "json", file.to_str().unwrap()];
    all.extend(arguments.split_whitespace());
    let (status, out, err) = run(&all, &[]);
    assert_eq!(status, Some(0), "{arguments}: {err}");
    serde_json::from_str(&out).unwrap()
}

/// A response in the JSON form of `explain`.
pub(super) fn response_json(response: &HttpResponse) -> Value {
    let id = response.header("x-request-id").unwrap_or_default();
    let masked = |(name, value): &(String, String)| {
        let value = match name.as_str() {
            "x-request-id" => REQUEST_ID_PLACEHOLDER,
            "date" | "x-ratelimit-reset" => "(masked)",
            _ => value,
        };
        serde_json::json!([name, value])
    };
    serde_json::json!({
        "status": response.status,
        "reason": response.reason,
        "fields": response.headers.iter().map(masked).collect::<Vec<_>>(),
        "body": response.text().replace(id, REQUEST_ID_PLACEHOLDER),
    })
}

/// The explained response with lower-case field names, as the strict reader returns them.
pub(super) fn explained_response(explained: &Value) -> Value {
    let mut response = explained["response"].clone();
    for field in response["fields"].as_array_mut().unwrap() {
        field[0] = field[0].as_str().unwrap().to_ascii_lowercase().into();
        if field[0] == "date" || field[0] == "x-ratelimit-reset" {
            field[1] = "(masked)".into();
        }
    }
    response
}

/// Asserts that the response, its counters and its log line are the explained ones.
#[track_caller]
pub(super) fn assert_explained(gateway: &Gateway, explained: &Value, response: &HttpResponse) {
    assert_eq!(explained_response(explained), response_json(response), "{explained:#}");
    assert_counted(gateway, explained);
    assert_logged(gateway, explained);
}

#[track_caller]
fn assert_counted(gateway: &Gateway, explained: &Value) {
    let page = gateway.get_telemetry("/metrics").text();
    for series in explained["metrics"].as_array().unwrap() {
        let start = format!("{} ", series.as_str().unwrap());
        let counted = page.lines().any(|line| line.starts_with(&start) && !line.ends_with(" 0"));
        assert!(counted, "{series} is not counted:\n{page}");
    }
}

#[track_caller]
fn assert_logged(gateway: &Gateway, explained: &Value) {
    let fields = explained["log"].as_object().unwrap();
    assert!(fields.len() >= 5, "{explained:#}");
    gateway.log_line(|line| fields.iter().all(|(name, value)| line.get(name) == Some(value)));
}

#[test]
fn explain_equals_the_wire_for_every_upstream_error_status() {
    let faulty_upstream = FaultyUpstream::start().unwrap();
    let gateway = GatewaySetup::with_servers(&[faulty_upstream.address(ServerKind::Scripted)])
        .set("errors.include", ALL_MEMBERS)
        .set("errors.retry_after", "11s")
        .limit(LONG_LIMIT)
        .start();
    let statuses: Vec<u16> = (400..600).collect();
    std::thread::scope(|scope| {
        for part in statuses.chunks(50) {
            let gateway = &gateway;
            scope.spawn(move || {
                for status in part {
                    let mut client = gateway.client();
                    let response = client.get(&format!("/status/{status}"));
                    let explanation = explain(gateway, &format!("--upstream-status {status}"));
                    assert_eq!(explained_response(&explanation), response_json(&response), "{status}");
                    assert_counted(gateway, &explanation);
                }
            });
        }
    });
    for status in [404, 418, 502, 503] {
        assert_logged(&gateway, &explain(&gateway, &format!("--upstream-status {status}")));
    }
}

#[test]
fn explain_equals_the_wire_for_other_methods() {
    let faulty_upstream = FaultyUpstream::start().unwrap();
    let html = script([
        Step::ReadRequestHead,
        write_bytes("HTTP/1.1 502 Bad\r\ncontent-type: text/html\r\ncontent-length: 7\r\n\r\n"),
    ]);
    let gateway = GatewaySetup::with_servers(&[faulty_upstream.address(ServerKind::Refusing)])
        .upstream("html", &[html.address()])
        .route("name: refused, match: { path: /refused }, upstream: main")
        .route("name: html, match: { path: /html }, upstream: html")
        .set("errors.include", ALL_MEMBERS)
        .start();
    for method in ["HEAD", "POST", "DELETE", "OPTIONS"] {
        let response = gateway.client().request(method, "/refused", "", "");
        assert_explained(
            &gateway,
            &explain(&gateway, &format!("--cause connection_refused --method {method}")),
            &response,
        );
    }
    let response = gateway.client().request("HEAD", "/html", "", "");
    assert_explained(
        &gateway,
        &explain(&gateway, "--upstream-status 502 --route html --method HEAD"),
        &response,
    );
    let mut client = gateway.client();
    client.send("HEAD / HTTP/1.1\r\nhost: test\r\na : b\r\n\r\n");
    let response = client.read(SentRequest::Http11("HEAD"));
    assert_explained(&gateway, &explain(&gateway, "--cause malformed_header --method HEAD"), &response);
}

/// One gateway with a route for every failure.
fn provoking_gateway(
    faulty_upstream: &FaultyUpstream,
    hanging: &ScriptedUpstream,
    overrides: &str,
) -> GatewaySetup {
    let mut setup = GatewaySetup::with_servers(&[faulty_upstream.address(ServerKind::Scripted)])
        .upstream("hanging", &[hanging.address()])
        .named_upstream("nowhere", &["nowhere.invalid:80"])
        // A broadcast address accepts no TCP connection.
        .named_upstream("everywhere", &["255.255.255.255:80"])
        .set("errors.include", ALL_MEMBERS)
        .set("client.max_header_bytes", &format!("{MAX_HEADER_BYTES}B"))
        .set("client.header_timeout", "500ms")
        .set("client.body_timeout", "400ms")
        .set("timeouts.connect", "400ms")
        .set("timeouts.response_headers", "1s")
        .set("timeouts.body_idle", "500ms")
        .environment("STATUSQUO_TEST_PANIC", "1")
        .may_panic()
        .limit(LONG_LIMIT)
        .route("name: denied, match: { path: /denied }, upstream: main, deny: { methods: [GET] }, rate_limits: [few]")
        .route(
            "name: edited, match: { path: /edited }, upstream: main, deny: { methods: [GET] }, response_headers: \
             { set: { x-a: b, cache-control: max-age=1 }, add: { x-c: d }, remove: [x-content-type-options] }",
        )
        .route(
            "name: maintained, match: { path: /maintained }, upstream: main, \
             maintenance: { message: \"Back at 10:00 UTC.\", retry_after: 1h }, rate_limits: [few]",
        )
        .set("rate_limits.few", "{ allow: 5 per 1m }")
        .route("name: gone, match: { path: /gone }, respond: { code: 409 }")
        .route("name: posted, match: { path: /posted, methods: [POST, DELETE] }, upstream: main")
        .route("name: put, match: { path: /posted, methods: [PUT] }, respond: { code: 409 }")
        .route("name: small, match: { path: /small }, upstream: main, max_body: 10B, rate_limits: [few]")
        .route("name: late, match: { path: /late }, upstream: hanging, timeouts: { deadline: 300ms }")
        .route("name: nowhere, match: { path: /nowhere }, upstream: nowhere")
        .route("name: everywhere, match: { path: /everywhere }, upstream: everywhere")
        .route("name: panics, match: { path: /__panic }, upstream: main")
        .route("name: ok, match: { path: /ok }, upstream: main");
    setup = with_server_kinds(setup.set("timeouts.tls", "1s"), faulty_upstream, "127.0.0.1");
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

/// The request that provokes a cause, and the arguments of `explain` besides the cause.
struct Provocation {
    cause: &'static str,
    explain_options: String,
    bytes: String,
    /// The client shuts down its sending side after these bytes.
    half_closes: bool,
}

fn provoked_by(cause: &'static str, explain_options: &str, bytes: impl Into<String>) -> Provocation {
    Provocation {
        cause,
        explain_options: explain_options.to_owned(),
        bytes: bytes.into(),
        half_closes: false,
    }
}

fn provocations(via: &str) -> Vec<Provocation> {
    let get = |path: &str, fields: &str| format!("GET {path} HTTP/1.1\r\nhost: test\r\n{fields}\r\n");
    let mut all = vec![
        Provocation { half_closes: true, ..provoked_by("http_request_error", "", "GET / HTTP/1.1\r\nho") },
        provoked_by("ambiguous_path", "", get("/a/../b", "")),
        provoked_by("client_too_slow", "", "GET / HTTP/1.1\r\nhost: test\r\n"),
        provoked_by("client_too_slow", "--route ok", get("/ok", "content-length: 10\r\n")),
        provoked_by("malformed_body", "--route ok", get("/ok", "transfer-encoding: chunked\r\n") + "zz\r\n"),
        provoked_by(
            "body_too_large",
            "--route small",
            get("/small", "content-length: 11\r\n") + "01234567890",
        ),
        provoked_by("destination_not_found", "", get("/no/such/route", "")),
        provoked_by("http_request_denied", "--route denied", get("/denied", "")),
        provoked_by("http_request_denied", "--route edited", get("/edited", "")),
        provoked_by("maintenance", "--route maintained", get("/maintained", "")),
        provoked_by("route_response", "--route gone", get("/gone", "")),
        provoked_by("method_not_allowed", "", get("/posted", "")),
        provoked_by("method_not_allowed", "--route put", get("/posted", "")),
        provoked_by("proxy_loop_detected", "--route ok", get("/ok", &format!("via: {via}\r\n"))),
        provoked_by("proxy_internal_error", "--route panics", get("/__panic", "")),
        provoked_by("dns_error", "--route nowhere", get("/nowhere", "")),
        provoked_by("destination_ip_unroutable", "--route everywhere", get("/everywhere", "")),
        provoked_by("deadline_exceeded", "--route late", get("/late", "")),
    ];
    for fault in one_for_each_cause() {
        let explain_options = format!("--route {}", fault.name);
        all.push(provoked_by(
            fault.expect.outcome.cause_name(),
            &explain_options,
            get(&fault.path(), &fault.request.header_lines()),
        ));
    }
    all
}

/// The first fault of the table for each cause.
fn one_for_each_cause() -> Vec<UpstreamFault> {
    let mut seen = BTreeSet::new();
    let mut faults = upstream_faults();
    faults.retain(|fault| match fault.expect.outcome {
        // A server that accepts and closes may be detected while writing or while reading.
        FaultOutcome::LocalReply { reason: Trigger::Fault(cause), .. } => {
            let asked_so = fault.request.is_plain_get() || fault.is_upgrade();
            fault.server_kind != ServerKind::Closing && asked_so && seen.insert(cause)
        }
        FaultOutcome::LocalReply { .. } | FaultOutcome::Forwarded { .. } | FaultOutcome::Aborted { .. } => {
            false
        }
    });
    faults
}

/// The gateway's pseudonym in Via.
fn via(gateway: &Gateway, faulty_upstream: &FaultyUpstream) -> String {
    gateway.client().get("/ok").assert_response(200, r#"{"ok":true}"#);
    faulty_upstream
        .recording_upstreams()
        .next()
        .unwrap()
        .recording()
        .requests()
        .next()
        .unwrap()
        .head
        .header("via")
        .unwrap()
        .to_owned()
}

#[track_caller]
fn check_provocation(gateway: &Gateway, provoked: &Provocation) {
    let mut client = gateway.client();
    client.send(&provoked.bytes);
    if provoked.half_closes {
        client.shutdown_write();
    }
    let response = client.read(SentRequest::Http11("GET"));
    let made = explain(gateway, &format!("--cause {} {}", provoked.cause, provoked.explain_options));
    assert_eq!(explained_response(&made), response_json(&response), "{}: {made:#}", provoked.cause);
    assert_counted(gateway, &made);
    assert_logged(gateway, &made);
}

#[track_caller]
fn check_all(overrides: &str) {
    let faulty_upstream = FaultyUpstream::start().unwrap();
    let hanging = script([Step::ReadRequestHead, Step::ReadUntilClose]);
    let gateway = provoking_gateway(&faulty_upstream, &hanging, overrides).start();
    let provocations = provocations(&via(&gateway, &faulty_upstream));
    let named = provocations.iter().map(|provoked| provoked.cause).collect();
    let mut differing = check_rejections(&gateway, &hanging, one_rejection_for_each_cause(&named));
    let provoked: Vec<&str> = std::thread::scope(|scope| {
        let rows: Vec<_> = provocations
            .iter()
            .map(|provoked| {
                let gateway = &gateway;
                (provoked.cause, scope.spawn(move || check_provocation(gateway, provoked)))
            })
            .collect();
        rows.into_iter().filter_map(|(cause, row)| row.join().is_err().then_some(cause)).collect()
    });
    differing.extend(provoked);
    assert_eq!(differing, Vec::<&str>::new(), "causes that differ, see above");
}

#[test]
fn explain_equals_the_wire_for_every_provokable_cause() {
    check_all("");
}

#[test]
fn explain_equals_the_wire_when_overrides_apply() {
    check_all(
        "[{ when: { cause: [connection_refused, dns_error, malformed_header] }, code: 503, message: \"Later.\", \
         retry_after: 7s }, { when: { cause: [http_request_denied, uri_too_long] }, code: 404 }, \
         { when: { method: GET, upstream: main }, message: \"Not now.\" }]",
    );
}

#[test]
fn explain_equals_the_wire_for_a_connection_over_the_limit() {
    let upstream = ok_upstream("fine");
    let gateway = Gateway::with_upstream(&upstream).set("client.max_connections", "1").start();
    let _first = hold_place(&gateway, 1);
    let mut second = gateway.client();
    second.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n");
    let response = second.read(SentRequest::Http11("GET"));
    assert_explained(&gateway, &explain(&gateway, "--cause connection_limit_reached"), &response);
}

#[test]
fn route_override_precedes_global_one_and_explain_names_its_index() {
    let faulty_upstream = FaultyUpstream::start().unwrap();
    let gateway = GatewaySetup::with_servers(&[faulty_upstream.address(ServerKind::Scripted)])
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
        (
            "POST",
            411,
            "own",
            "default",
            "of the preferred codes 400, the contract appwrite documents 400 first",
        ),
        ("POST", 404, "own", "documented", "the contract documents this status"),
    ] {
        let response = gateway.client().request(method, &format!("/status/{status}"), "", "");
        let made =
            explain(&gateway, &format!("--upstream-status {status} --route {route} --method {method}"));
        assert_explained(&gateway, &made, &response);
        assert_eq!(made["rule"], serde_json::json!({ "kind": rule, "where": decided }));
    }
}

#[test]
fn explain_equals_the_wire_for_cross_origin_requests() {
    let faulty_upstream = FaultyUpstream::start().unwrap();
    let shared = "cors: { allow_origins: [\"https://app.example.com\"], allow_credentials: true }";
    let gateway = GatewaySetup::with_servers(&[faulty_upstream.address(ServerKind::Scripted)])
        .set("cors.allow_origins", "[\"*\"]")
        .upstream("refusing", &[faulty_upstream.address(ServerKind::Refusing)])
        .route(&format!("name: status, match: {{ path: \"/status/{{code}}\" }}, upstream: main, {shared}"))
        .route(&format!("name: refused, match: {{ path: /refused }}, upstream: refusing, {shared}"))
        .start();
    for origin in ["https://app.example.com", "https://evil.example.com"] {
        for (path, arguments) in [
            ("/status/502", "--upstream-status 502 --route status"),
            ("/refused", "--cause connection_refused --route refused"),
            ("/no/such/route", "--cause destination_not_found"),
            ("/status/1?\u{1}", "--cause malformed_request_line"),
        ] {
            let mut client = gateway.client();
            client.send(format!("GET {path} HTTP/1.1\r\nhost: test\r\norigin: {origin}\r\n\r\n"));
            let response = client.read(SentRequest::Http11("GET"));
            assert_explained(
                &gateway,
                &explain(&gateway, &format!("{arguments} --origin {origin}")),
                &response,
            );
        }
    }
    let response = gateway.client().get("/refused");
    assert_explained(&gateway, &explain(&gateway, "--cause connection_refused --route refused"), &response);
}

#[test]
fn explain_equals_the_wire_for_first_and_denied_request_of_a_rate_limit() {
    let faulty_upstream = FaultyUpstream::start().unwrap();
    let shared = "cors: { allow_origins: [\"https://app.example.com\"] }";
    let gateway = GatewaySetup::with_servers(&[faulty_upstream.address(ServerKind::Scripted)])
        .set("rate_limits", "{ by_route: { key: [route, client_ip], allow: 3 per 1h }, wide: { allow: 900 per 1h } }")
        .upstream("refusing", &[faulty_upstream.address(ServerKind::Refusing)])
        .route("name: free, match: { path: /free }, upstream: main")
        .route(&format!(
            "name: status, match: {{ path: \"/status/{{code}}\" }}, upstream: main, rate_limits: [by_route], {shared}"
        ))
        .route("name: refused, match: { path: /refused }, upstream: refusing, rate_limits: [by_route, wide]")
        .start();
    let response = gateway.client().get("/status/502");
    assert_explained(&gateway, &explain(&gateway, "--upstream-status 502 --route status"), &response);
    // Sent immediately: the quota replenished meanwhile is reported in whole seconds.
    let mut client = gateway.client();
    let [first, _, _, fourth] = [(); 4].map(|()| client.get("/refused"));
    assert_explained(&gateway, &explain(&gateway, "--cause connection_refused --route refused"), &first);
    assert_eq!(fourth.status, 429);
    assert_explained(&gateway, &explain(&gateway, "--cause rate_limited --route refused"), &fourth);

    let made = explain(&gateway, "--cause rate_limited");
    assert_eq!(made["route"], "status", "the first route that has limits");
    let made = explain(&gateway, "--cause rate_limited --route free");
    assert!(made["notes"].to_string().contains("No rate limit of this route"), "{made:#}");
}

#[test]
fn explain_reports_forwarded_and_truncated_responses() {
    let faulty_upstream = FaultyUpstream::start().unwrap();
    let gateway = GatewaySetup::with_servers(&[faulty_upstream.address(ServerKind::Scripted)])
        .set("timeouts.body_idle", "400ms")
        .set("log.requests", "all")
        .route("name: observed, match: { path: /status/410 }, upstream: main, errors: observe")
        .route("name: passed, match: { path: /status/411 }, upstream: main, errors: pass")
        .route("name: cut, match: { path: \"/{*rest}\" }, upstream: main")
        .start();
    for (status, route) in [(410, "observed"), (411, "passed")] {
        // The route violates the contract on purpose, so the strict client cannot be used.
        let stream = std::net::TcpStream::connect(gateway.address()).unwrap();
        std::io::Write::write_all(
            &mut &stream,
            format!("GET /status/{status} HTTP/1.1\r\nhost: test\r\n\r\n").as_bytes(),
        )
        .unwrap();
        let response = StrictReader::new(stream).read(SentRequest::Http11("GET")).unwrap();
        assert_eq!((response.status, response.header("server")), (status, Some("apache/2.4")));
        let made = explain(&gateway, &format!("--upstream-status {status} --route {route}"));
        assert_eq!(made["response"], Value::Null);
        assert_counted(&gateway, &made);
        assert_logged(&gateway, &made);
    }
    for (path, cause) in
        [("/cut-body", "http_response_incomplete"), ("/stalled-body", "connection_read_timeout")]
    {
        let response = gateway.client().get(path);
        assert_eq!(response.status, 200);
        let made = explain(&gateway, &format!("--cause {cause} --route cut"));
        assert_eq!(made["response"], Value::Null);
        gateway.expect_metric("aborted_total", &[("cause", cause)], 1.0);
        assert_counted(&gateway, &made);
    }
}

/// Unreserved causes that no request can provoke on every machine.
const NOT_PROVOKED: [&str; 2] = ["proxy_configuration_error", "limiter_unavailable"];

#[test]
fn causes_are_all_provoked_or_listed_as_not_provokable() {
    let mut named: BTreeSet<&str> = provocations("").iter().map(|provoked| provoked.cause).collect();
    named.extend(one_rejection_for_each_cause(&named).iter().map(|(cause, _)| cause.name()));
    named.extend([
        "rate_limited",
        "connection_limit_reached",
        "queue_full",
        "queue_timeout",
        "breaker_open",
        "destination_unavailable",
        "dns_timeout",
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
fn causes_all_have_an_explanation_without_further_options() {
    let folder = TestFolder::new();
    let file = folder.write("statusquo.yaml", include_str!("../../config/minimal.yaml"));
    for cause in Cause::ALL {
        let (status, out, err) = run(&["explain", "--cause", cause.name(), file.to_str().unwrap()], &[]);
        assert_eq!(status, Some(0), "{cause}: {err}");
        assert!(out.starts_with(&format!("{cause}, GET ")), "{out}");
    }
}

#[test]
fn explain_text_contains_the_exact_response_bytes() {
    let faulty_upstream = FaultyUpstream::start().unwrap();
    let gateway = GatewaySetup::with_servers(&[faulty_upstream.address(ServerKind::Refusing)]).start();
    let file = gateway.configuration();
    let (_, out, _) = run(&["explain", "--cause", "connection_refused", file.to_str().unwrap()], &[]);
    let (_, rest) = out.split_once("\n\n").unwrap();
    let (response, rest) = rest.split_once("\n\ncounted:\n").unwrap();
    let mut client = gateway.client();
    let wire = client.get("/");
    let text = response.replacen("\n\n", "\r\n\r\n", 1);
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let bytes = format!("{}\r\n\r\n{body}", head.replace('\n', "\r\n"));
    let read = StrictReader::new(bytes.as_bytes()).read(SentRequest::Http11("GET")).unwrap();
    assert_eq!(response_json(&read), response_json(&wire));
    assert!(rest.contains("logged:") && rest.contains("notes:"), "{out}");
}

#[test]
fn unknown_name_exits_2_with_a_suggestion() {
    let folder = TestFolder::new();
    let file = folder.write("statusquo.yaml", include_str!("../../config/minimal.yaml"));
    let file = file.to_str().unwrap();
    for (arguments, expected_text) in [
        (&["--cause", "conection_refused"][..], "did you mean connection_refused?"),
        (&["--cause", "upstream_response"], "use --upstream-status"),
        (&["--upstream-status", "399"], "399"),
        (&["--upstream-status", "500", "--route", "ap"], "unknown route \"ap\"; did you mean \"app\"?"),
        (
            &["--upstream-status", "500", "--upstream", "apq"],
            "unknown upstream \"apq\"; did you mean \"app\"?",
        ),
        (&["--upstream-status", "500", "--cause", "dns_error"], "cannot be used with"),
        (&["--upstream-status", "500", "--method", "get"], "write GET"),
        (&[], "--cause"),
    ] {
        let (status, out, err) = run(&[&["explain", file], arguments].concat(), &[]);
        assert_eq!((status, out.as_str()), (Some(2), ""), "{arguments:?}: {err}");
        assert!(err.contains(expected_text), "{arguments:?}: {err}");
    }
}
