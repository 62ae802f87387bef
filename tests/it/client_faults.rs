//! The cases of faulty clients, one by one, against the executable: responses, upstream recording and metrics.
//!
//! They run with the conformance suite's own client. The bytes that HTTP/1 clients received are parsed again by this
//! crate's strict reader and checked against this crate's contract check, so that neither reader is trusted alone.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use statusquo::conformance::{
    CheckedMetric, ClientFault, ClientProtocol, ConnectionOutcome, ExpectedResponse, GatewayConnector,
    GatewayProfile, ReceivedResponse, RequestKind, RunResult, Tally, TestContext, client_faults,
    contract_check, run_client_fault,
};
use statusquo::conformance::{runner::check_served, success_routes::upstream_script};
use statusquo::contract::{Cause, Contract, RequestSent};
use tokio::sync::Semaphore;

use super::contract_check::check_contract;
use super::load::factor;
use super::prelude::*;
use super::response_reader::{self, StrictReader};
use super::tls_listener::tls_gateway;

/// Concurrent rows: enough to overlap their waits, few enough to meet their timeouts.
const CONCURRENCY: usize = 48;

#[test]
fn client_faults_all_have_their_expected_outcome() {
    let upstream = by_request(upstream_script);
    let gateway = short_timeouts(&upstream).set("errors.include", "[request_sent]").start();
    let rows = client_faults(ClientProtocol::Http1);
    let results = run_all(gateway.address(), &upstream, &profile(), &rows);
    expect_passed(&rows, &results);
    for (row, results) in rows.iter().zip(&results) {
        reread_strictly(row, results);
    }
    expect_metrics(&gateway, &rows, &results);
    expect_truthful_request_sent(&upstream, &rows, &results);
    assert_eq!(upstream.recording().requests_for("/smuggled"), 0);
}

#[test]
fn tls_client_faults_all_have_their_expected_outcome() {
    let upstream = by_request(upstream_script);
    let (gateway, _) = tls_gateway(short_timeouts(&upstream));
    let rows = client_faults(ClientProtocol::Tls);
    let results = run_all(gateway.address(), &upstream, &profile(), &rows);
    expect_passed(&rows, &results);
    expect_metrics(&gateway, &rows, &results);
}

#[test]
fn h2_client_faults_all_have_their_expected_outcome() {
    let upstream = by_request(upstream_script);
    let gateway = h2_gateway(&upstream);
    let mut rows = client_faults(ClientProtocol::Http2);
    rows.retain(|row| !row.nondeterministic);
    let results = run_all(gateway.h2_address(), &upstream, &profile(), &rows);
    expect_passed(&rows, &results);
    expect_metrics(&gateway, &rows, &results);
    assert_eq!(upstream.recording().requests_for("/smuggled"), 0);
    let kept_open = |row: &ClientFault| row.connection() == ConnectionOutcome::KeptOpen;
    assert!(rows.iter().any(|row| kept_open(row) && row.has_background_stream()));
}

/// The number of streams that become requests depends on timing; the connection is closed in every case.
#[test]
fn stream_flood_closes_only_its_own_connection() {
    let upstream = by_request(upstream_script);
    let gateway = h2_gateway(&upstream);
    let mut other_client = gateway.h2_client();
    other_client.get("/").assert_response(200, "served\n");
    for row in client_faults(ClientProtocol::Http2).iter().filter(|row| row.nondeterministic) {
        let rows = std::slice::from_ref(row);
        expect_passed(rows, &run_all(gateway.h2_address(), &upstream, &profile(), rows));
        other_client.get("/").assert_response(200, "served\n");
    }
    let labels = [("cause", "http2_connection_error")];
    gateway.expect_metric("closed_without_response_total", &labels, 2.0);
    gateway.expect_metric("requests_in_flight", &[], 0.0);
}

/// A row that fails on a busy machine is retried under the same name.
#[test]
fn row_can_run_twice_against_the_same_upstream() {
    let upstream = by_request(upstream_script);
    let gateway = h2_gateway(&upstream);
    let mut rows = client_faults(ClientProtocol::Http2);
    rows.retain(|row| ["h2-host-alone", "h2-longer-body", "h2-reset-while-waiting"].contains(&row.name));
    assert_eq!(rows.len(), 3);
    for _ in 0..2 {
        expect_passed(&rows, &run_all(gateway.h2_address(), &upstream, &profile(), &rows));
    }
}

/// The idle timeout is longer than the others: a busy machine may pause between two requests of a row.
fn h2_gateway(upstream: &ScriptedUpstream) -> Gateway {
    short_timeouts(upstream).set("client.idle_timeout", "5s").with_h2c_listener().start()
}

/// Asserts that every row passed.
#[track_caller]
fn expect_passed(rows: &[ClientFault], results: &[RunResult]) {
    let failed: Vec<String> = rows
        .iter()
        .zip(results)
        .filter_map(|(row, results)| Some(format!("{}: {}", row.name, results.violation.as_ref()?)))
        .collect();
    assert!(failed.is_empty(), "{} rows failed:\n{}", failed.len(), failed.join("\n"));
}

/// Short timeouts, so that waiting rows end soon.
pub fn short_timeouts(upstream: &ScriptedUpstream) -> GatewaySetup {
    GatewaySetup::with_servers(&[upstream.address()])
        .set("client.header_timeout", "1s")
        .set("client.body_timeout", "1s")
        .set("client.write_timeout", "1s")
        .set("client.idle_timeout", "2s")
        .set("client.max_body", "1MiB")
        .set("timeouts.response_headers", "8s")
        .set("timeouts.deadline", "8s")
        .limit(Duration::from_secs(40))
}

/// The gateway profile of [`short_timeouts`].
fn profile() -> GatewayProfile {
    GatewayProfile { write_timeout: millis(1000), pause_tenths: 10 * factor(), ..GatewayProfile::example() }
}

/// Runs cases against this listener.
pub fn run_all(
    gateway: SocketAddr,
    upstream: &ScriptedUpstream,
    profile: &GatewayProfile,
    rows: &[ClientFault],
) -> Vec<RunResult> {
    let check = builtin_contract_check();
    let context = TestContext {
        connector: GatewayConnector { gateway, source_address: None, relay: None },
        profile,
        upstream,
        limit: millis(10_000),
        check_response: &check,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let permits = Semaphore::new(CONCURRENCY);
    runtime.block_on(futures_util::future::join_all(rows.iter().map(|row| async {
        let _permit = permits.acquire().await.unwrap();
        run_client_fault(row, &context).await
    })))
}

/// Checks responses against the built-in contract.
fn builtin_contract_check()
-> impl Fn(ExpectedResponse, RequestKind, &ReceivedResponse) -> Result<(), String> + Sync {
    let contract = Contract::builtin("appwrite").unwrap();
    move |expected, request_kind, response| check_response(expected, request_kind, response, &contract)
}

fn check_response(
    expected: ExpectedResponse,
    request_kind: RequestKind,
    response: &ReceivedResponse,
    contract: &Contract,
) -> Result<(), String> {
    let Some(cause) = expected.error_cause() else { return check_served(expected, response) };
    let (code, message) = documented_error(cause);
    if response.status != code {
        return Err(format!("expected {code} for {cause}, got {} {:?}", response.status, response.text()));
    }
    contract_check::check_error_response(response, request_kind, contract)?;
    match contract_check::parse_error_body(response, contract) {
        _ if request_kind.head => Ok(()),
        Ok(body) if body.message == message => Ok(()),
        other => Err(format!("expected {message:?}, got {other:?}")),
    }
}

/// The committed decisions of the built-in contracts, one per line.
const DECISIONS: &str = include_str!("../../src/contract/decisions.txt");

/// The documented status code and message of a cause, as committed.
fn documented_error(cause: Cause) -> (u16, &'static str) {
    let start = format!("appwrite {cause} -> ");
    let decision = DECISIONS.lines().find_map(|line| line.strip_prefix(start.as_str()));
    let (code, message) = decision.and_then(|decision| decision.split_once(' ')).unwrap();
    (code.parse().unwrap(), message)
}

/// Parses the received bytes a second time, with the strict reader.
fn reread_strictly(row: &ClientFault, results: &RunResult) {
    let long = |expected: &ExpectedResponse| {
        matches!(
            expected,
            ExpectedResponse::ServedBytes(_) | ExpectedResponse::Truncated(_) | ExpectedResponse::Prefix
        )
    };
    if row.expected.iter().any(long) {
        return;
    }
    let mut reader = StrictReader::new(results.raw.as_slice());
    let followed = (row.connection() == ConnectionOutcome::KeptOpen).then_some(RequestKind::DEFAULT);
    for (request_kind, first) in row.reads().chain(followed).zip(&results.responses) {
        let method = if request_kind.head { "HEAD" } else { "GET" };
        let request_kind = if request_kind.http10 {
            response_reader::SentRequest::Http10(method)
        } else {
            response_reader::SentRequest::Http11(method)
        };
        let response = reader.read(request_kind).unwrap_or_else(|error| panic!("{}: {error:?}", row.name));
        check_contract(&response, request_kind);
        assert_eq!(
            (response.status, &response.headers, &response.body),
            (first.status, &first.headers, &first.body),
            "{}",
            row.name
        );
    }
    assert_eq!(String::from_utf8_lossy(reader.unread()), "", "{}", row.name);
}

/// No error reports `request_sent: none` for a request of which the upstream received a byte.
fn expect_truthful_request_sent(upstream: &ScriptedUpstream, rows: &[ClientFault], results: &[RunResult]) {
    let contract = Contract::builtin("appwrite").unwrap();
    let recording = upstream.recording();
    let upstream_bytes: Vec<u8> =
        recording.connections.iter().flat_map(|connection| connection.raw.clone()).collect();
    let (mut not_sent, mut reached_upstream) = (0, 0);
    for (row, results) in rows.iter().zip(results) {
        for response in results.responses.iter().filter(|response| response.status >= 400) {
            let Ok(body) = contract_check::parse_error_body(response, &contract) else { continue };
            let request_sent = body
                .request_sent
                .unwrap_or_else(|| panic!("{}: no request_sent: {}", row.name, response.text()));
            let id = response.header("x-request-id").unwrap();
            let arrived = memchr::memmem::find(&upstream_bytes, id.as_bytes()).is_some();
            assert!(
                !arrived || request_sent > RequestSent::None,
                "{}: reported {request_sent:?}, but the upstream received bytes",
                row.name
            );
            not_sent += usize::from(request_sent == RequestSent::None);
            reached_upstream += usize::from(arrived);
        }
    }
    // Both cases must occur.
    assert!(not_sent > 200 && reached_upstream > 5, "{not_sent} {reached_upstream}");
}

/// Compares the counters by status code, cause and close reason with what the clients saw.
#[track_caller]
fn expect_metrics(gateway: &Gateway, rows: &[ClientFault], results: &[RunResult]) {
    let tally = Tally::default();
    for (row, result) in rows.iter().zip(results) {
        tally.record_client_fault(row, result);
    }
    let deadline = Instant::now() + limit();
    loop {
        let page = gateway.get_telemetry("/metrics").text();
        let differences = |metric: &CheckedMetric| tally.differences(*metric, &page);
        let differences: Vec<String> = CheckedMetric::ALL.iter().flat_map(differences).collect();
        if differences.is_empty() {
            break;
        }
        assert!(Instant::now() < deadline, "{differences:#?}");
    }
    gateway.expect_metric("requests_in_flight", &[], 0.0);
    gateway.expect_metric("panics_total", &[], 0.0);
}
