//! The table of upstream faults, row by row, against the executable: each row has exactly its expected outcome.
//!
//! The rows run concurrently, each with its own route and client connections, so that each has its own counters. Cases
//! that need more than a row are tests in other files. `no_leaks.rs` and `request_sent.rs` assert further properties of
//! the whole table.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use statusquo::conformance::{FaultOutcome, FaultyUpstream, ServerKind, UpstreamFault, upstream_faults};
use statusquo::contract::Trigger;

use super::contract_check::{check_local_reply, default_body, default_message};
use super::metrics_parser::Series;
use super::prelude::*;

#[test]
fn upstream_faults_all_have_their_expected_outcome() {
    let faults = upstream_faults();
    let faulty_upstream = FaultyUpstream::start().unwrap();
    let gateway = upstream_fault_setup(&faulty_upstream, &faults, "127.0.0.1").start();
    run_concurrently(&faults, |fault| check_fault(&gateway, fault));
    check_metrics(&gateway, &faults);
}

/// One route per row, with short timeouts. `host` is a name of the loopback address.
pub fn upstream_fault_setup(
    faulty_upstream: &FaultyUpstream,
    faults: &[UpstreamFault],
    host: &str,
) -> GatewaySetup {
    let server = |server_kind| format!("{host}:{}", faulty_upstream.address(server_kind).port());
    let mut setup = GatewaySetup::with_servers(&[faulty_upstream.address(ServerKind::Scripted)])
        .set("timeouts.connect", "400ms")
        .set("timeouts.tls", "1s")
        .set("timeouts.response_headers", "1s")
        .set("timeouts.deadline", "8s")
        .set("timeouts.body_idle", "500ms")
        .set("errors.upstream_body", "{ timeout: 1s }")
        // `host` may be a spelling of the loopback address that only the C library reads.
        .set("resolver", "system")
        .limit(Duration::from_secs(60));
    let probe_route =
        |name| format!("name: known-{name}, match: {{ path: {} }}, upstream: {name}", probe_path(name));
    setup = with_server_kinds(setup, faulty_upstream, host);
    for server_kind in ServerKind::ALL.iter().copied() {
        setup = setup.route(&probe_route(server_kind.upstream_name()));
    }
    for fault in faults {
        // The row that created a kept connection must reuse it.
        let upstream = if fault.server_kind == ServerKind::Pooled {
            fault.name
        } else {
            fault.server_kind.upstream_name()
        };
        if fault.server_kind == ServerKind::Pooled {
            setup = setup
                .named_upstream(fault.name, &[&server(ServerKind::Pooled)])
                .route(&probe_route(fault.name));
        }
        let (name, path) = (fault.name, fault.path());
        setup = setup.route(&format!("name: {name}, match: {{ path: {path} }}, upstream: {upstream}"));
    }
    setup
}

/// Adds an upstream per server kind, with its protocol.
pub fn with_server_kinds(
    mut setup: GatewaySetup,
    faulty_upstream: &FaultyUpstream,
    host: &str,
) -> GatewaySetup {
    let folder = TestFolder::new();
    let authority = folder.write("ca.pem", faulty_upstream.ca_pem());
    let tls = format!(
        "{{ ca: \"{}\", sni: {} }}",
        authority.display(),
        statusquo::conformance::tls_servers::SERVER_NAME
    );
    setup = setup.keep_folder(folder);
    for server_kind in ServerKind::ALL.iter().copied() {
        let (name, port) = (server_kind.upstream_name(), faulty_upstream.address(server_kind).port());
        setup = if server_kind.requires_tls() {
            // The unusual spelling of the host is not a valid certificate name, so TLS servers use the address.
            let server = format!("https://127.0.0.1:{port}");
            setup.named_upstream(name, &[&server]).set(&format!("upstream {name}.tls"), &tls)
        } else if let Some(socket) = faulty_upstream.socket(server_kind) {
            setup.named_upstream(name, &[&format!("unix:{}", socket.display())])
        } else {
            setup.named_upstream(name, &[&format!("{host}:{port}")])
        };
        if server_kind.requires_http2() {
            setup = setup.set(&format!("upstream {name}.http2"), "always");
        }
    }
    setup
}

/// Waits until every upstream of [`upstream_fault_setup`] is resolved: DNS lookups run in the background.
pub fn wait_for_dns(gateway: &Gateway, faults: &[UpstreamFault]) {
    let pooled =
        faults.iter().filter(|fault| fault.server_kind == ServerKind::Pooled).map(|fault| fault.name);
    for name in ServerKind::ALL.iter().map(|server_kind| server_kind.upstream_name()).chain(pooled) {
        while let Some(id) = failed_request_id(gateway, name) {
            let line = gateway.log_line(|line| line["request_id"] == id.as_str());
            if line["cause"] != "dns_error" && line["cause"] != "dns_timeout" {
                break;
            }
        }
    }
}

/// The id of a failed request to this upstream.
fn failed_request_id(gateway: &Gateway, upstream: &str) -> Option<String> {
    let response = gateway.client().get(&probe_path(upstream));
    (response.status == 504).then(|| response.header("x-request-id").unwrap().to_owned())
}

fn probe_path(upstream: &str) -> String {
    format!("/known/{upstream}")
}

/// Runs the rows concurrently; panics with the names of those that failed.
#[track_caller]
pub fn run_concurrently(faults: &[UpstreamFault], run_fault: impl Fn(&UpstreamFault) + Sync) {
    let next = AtomicUsize::new(0);
    let (next, run_fault) = (&next, &run_fault);
    let mut failed: Vec<&str> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..CONCURRENCY)
            .map(|_| {
                scope.spawn(move || {
                    let mut failed = Vec::new();
                    while let Some(fault) = faults.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let played = std::panic::AssertUnwindSafe(|| run_fault(fault));
                        if std::panic::catch_unwind(played).is_err() {
                            failed.push(fault.name);
                        }
                    }
                    failed
                })
            })
            .collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    failed.sort_unstable();
    assert_eq!(failed, Vec::<&str>::new(), "rows that failed, see above");
}

/// Most rows wait rather than compute.
const CONCURRENCY: usize = 32;

/// Sends the requests of the row; returns the last response.
#[track_caller]
pub fn send_requests(client: &mut Client, fault: &UpstreamFault) -> HttpResponse {
    let body = String::from_utf8(fault.request.body.to_vec()).unwrap();
    let mut send =
        || client.request(fault.request.method, &fault.path(), &fault.request.header_lines(), &body);
    for _ in 1..fault.request.count {
        // Another client may run the same row with another method, and its fault may affect this request.
        let deadline = Instant::now() + limit();
        while send().status != 200 {
            assert!(Instant::now() < deadline, "{}: no successful response before the fault", fault.name);
        }
    }
    send()
}

fn check_fault(gateway: &Gateway, fault: &UpstreamFault) {
    let name = fault.name;
    let mut client = gateway.client();
    let response = send_requests(&mut client, fault);
    assert_eq!(response.status, fault.expect.outcome.status(), "{name}: {response:#?}\n{}", response.text());
    check_outcome(fault, &response);
    for (field, value) in fault.expect.kept() {
        assert_eq!(response.header(field), Some(value), "{name}: {response:#?}");
    }
    for field in &fault.expect.removed {
        assert!(
            !response.headers.iter().any(|(found, _)| found == field),
            "{name}: {field} in {response:#?}"
        );
    }
    let interim: Vec<u16> = response.interim.iter().map(|(status, _)| *status).collect();
    assert_eq!(interim, fault.expect.interim, "{name}");
    assert_eq!(
        response.connection_usable,
        !matches!(fault.expect.outcome, FaultOutcome::Aborted { .. }),
        "{name}: {response:#?}"
    );
    if response.connection_usable {
        client.get("/no-such-route").assert_local_reply(404);
    }
}

fn check_outcome(fault: &UpstreamFault, response: &HttpResponse) {
    let name = fault.name;
    let send = SentRequest::Http11(fault.request.method);
    match fault.expect.outcome {
        FaultOutcome::LocalReply { code, reason: why } => {
            let message = fault.expect.message.as_deref().unwrap_or_else(|| default_message(code));
            check_local_reply(response, send, code, message);
            if send.is_head() {
                // For HEAD, Content-Length is known for a local reply, and unknown for a reply that replaces a page.
                let length = match why {
                    Trigger::Fault(_) => Some(default_body(code, message).len().to_string()),
                    Trigger::UpstreamStatus(_) => None,
                };
                assert_eq!(response.header("content-length"), length.as_deref(), "{name}: {response:#?}");
            }
        }
        FaultOutcome::Forwarded { .. } => {
            assert_eq!(response.end, ResponseEnd::Complete, "{name}");
            assert!(response.body == fault.expect.body, "{name}: {response:#?}\n{}", response.text());
        }
        FaultOutcome::Aborted { .. } => {
            assert!(
                matches!(response.end, ResponseEnd::Truncated { .. } | ResponseEnd::Reset { .. }),
                "{name}: not visibly cut: {response:#?}"
            );
            assert!(fault.expect.body.starts_with(&response.body), "{name}: {:?}", response.text());
        }
    }
}

/// Compares the sums, then each row's counters; no connection closed without a response.
fn check_metrics(gateway: &Gateway, faults: &[UpstreamFault]) {
    gateway.expect_metrics_match_responses();
    let aborted: Vec<&str> = faults
        .iter()
        .filter(|fault| matches!(fault.expect.outcome, FaultOutcome::Aborted { .. }))
        .map(|fault| fault.expect.outcome.cause_name())
        .collect();
    gateway.expect_metric("aborted_total", &[], aborted.len() as f64);
    for cause in &aborted {
        let count = aborted.iter().filter(|other| *other == cause).count();
        gateway.expect_metric("aborted_total", &[("cause", cause)], count as f64);
    }
    gateway.expect_metric("closed_without_response_total", &[], 0.0);
    gateway.expect_metric("client_disconnects_total", &[], 0.0);
    gateway.expect_metric("panics_total", &[], 0.0);
    gateway.expect_metric("requests_in_flight", &[], 0.0);
    let metrics = gateway.metrics();
    let mut mismatches = Vec::new();
    for fault in faults {
        let code = fault.expect.outcome.status().to_string();
        let with_code = if fault.expect.outcome.status() == 200 { fault.request.count } else { 1 };
        let errors = u32::from(fault.expect.outcome.status() >= 400);
        let cause = fault.expect.outcome.cause_name();
        for (metric, labels, expected) in [
            ("responses_total", &[("route", fault.name)][..], fault.request.count),
            ("responses_total", &[("route", fault.name), ("code", &code)], with_code),
            ("errors_total", &[("route", fault.name)], errors),
            ("errors_total", &[("route", fault.name), ("code", &code), ("cause", cause)], errors),
        ] {
            let found = sum(&metrics, metric, labels);
            if found != f64::from(expected) {
                mismatches.push(format!("{metric} {labels:?} is {found}, not {expected}"));
            }
        }
    }
    assert_eq!(mismatches, Vec::<String>::new());
}

fn sum(metrics: &[Series], name: &str, labels: &[(&str, &str)]) -> f64 {
    metrics.iter().filter(|series| series.matches(name, labels)).map(|series| series.value).sum()
}
