//! The table of HTTP/1 client faults, row by row, against the executable: responses, upstream recording and metrics.
//!
//! The rows run with the conformance suite's own client. The received bytes are parsed again by this crate's strict
//! reader and checked against this crate's contract check, so that neither reader is trusted alone.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use statusquo::conformance::runner::{check_served, upstream_script};
use statusquo::conformance::{
    ClientFault, ClientStep, ConnectionOutcome, ExpectedResponse, GatewayConnector, GatewayProfile,
    ReceivedResponse, RequestKind, RunResult, ScriptedUpstream, TestContext, client_faults, contract_check,
    run_client_fault,
};
use statusquo::contract::{Cause, Contract, RequestSent};
use tokio::sync::Semaphore;

use super::contract_check::{check_contract, default_message};
use super::gateway::{Gateway, GatewaySetup};
use super::load::{millis, scaled};
use super::response_reader::{self, StrictReader};
use super::scripted_upstreams::by_request;

/// Concurrent rows: enough to overlap their waits, few enough to meet their timeouts.
const CONCURRENCY: usize = 48;

#[test]
fn client_faults_all_have_their_expected_outcome() {
    let upstream = by_request(upstream_script);
    let gateway = short_timeouts(&upstream).set("errors.include", "[request_sent]").start();
    let setting = profile();
    let rows = with_scaled_pauses(client_faults(&setting));
    let results = run_all(gateway.address(), &upstream, &setting, &rows, run_client_fault);
    expect_passed(rows.iter().map(|row| row.name), &results);
    for (row, results) in rows.iter().zip(&results) {
        reread_strictly(row, results);
    }
    expect_metrics(&gateway, &rows, &results);
    expect_truthful_request_sent(&upstream, &rows, &results);
    assert_eq!(upstream.recording().requests_for("/smuggled"), 0);
}

/// Asserts that every row passed.
#[track_caller]
pub fn expect_passed<'a>(names: impl Iterator<Item = &'a str>, results: &[RunResult]) {
    let failed: Vec<String> = names
        .zip(results)
        .filter_map(|(name, results)| Some(format!("{name}: {}", results.violation.as_ref()?)))
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
pub fn profile() -> GatewayProfile {
    GatewayProfile { write_timeout: millis(1000), ..GatewayProfile::example() }
}

/// Scales the pauses of these rows as the timeouts of the gateway are scaled.
pub fn with_scaled_pauses(mut rows: Vec<ClientFault>) -> Vec<ClientFault> {
    for step in rows.iter_mut().flat_map(|row| &mut row.steps) {
        match step {
            ClientStep::SendSlowly(_, every) => *every = scaled(*every),
            // A longer one outlasts a timeout of the profile, which is scaled already.
            ClientStep::Pause(time) if *time < profile().write_timeout => *time = scaled(*time),
            _ => {}
        }
    }
    rows
}

/// Runs rows of either table against this listener.
pub fn run_all<R>(
    gateway: SocketAddr,
    upstream: &ScriptedUpstream,
    profile: &GatewayProfile,
    rows: &[R],
    run_row: impl AsyncFn(&R, &TestContext<'_>) -> RunResult,
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
        run_row(row, &context).await
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
    let (ExpectedResponse::Rejected(cause) | ExpectedResponse::RejectedOnRoute(cause)) = expected else {
        return check_served(expected, response);
    };
    let (code, message) = documented_error(cause);
    if response.status != code {
        return Err(format!("expected {code} for {cause}, got {} {:?}", response.status, response.text()));
    }
    contract_check::check_error_response(response, request_kind, contract)?;
    match contract_check::parse_error_body(response) {
        _ if request_kind.head => Ok(()),
        Ok(body) if body.message == message => Ok(()),
        other => Err(format!("expected {message:?}, got {other:?}")),
    }
}

/// The documented status code and message of the causes in the table; 400 has one message per cause.
fn documented_error(cause: Cause) -> (u16, &'static str) {
    let explained = match cause.name() {
        "destination_not_found" => return (404, default_message(404)),
        "http_request_error" => "The request is not a valid HTTP request.",
        "malformed_request_line" => "The request line is malformed.",
        "malformed_header" => "A header field of the request is malformed.",
        "ambiguous_framing" => "The length of the request body is not stated clearly.",
        "invalid_host" => "The Host of the request is missing, repeated or malformed.",
        "ambiguous_path" => "The path of the request is malformed or ambiguous.",
        "unsupported_version" => "The HTTP version of the request is not supported.",
        "unsupported_method" => "The method of the request is not supported.",
        "unsupported_expectation" => "The expectation of the request cannot be met.",
        "malformed_body" => "The request body is malformed or incomplete.",
        "header_too_large" => "The header fields of the request are too large.",
        "uri_too_long" => "The URI of the request is too long.",
        "body_too_large" => "The request body is too large.",
        "client_too_slow" => "The request was not received in time.",
        other => panic!("no row expects {other}"),
    };
    (400, explained)
}

/// Parses the received bytes a second time, with the strict reader.
fn reread_strictly(row: &ClientFault, results: &RunResult) {
    let long = |expected: &ExpectedResponse| {
        matches!(
            expected,
            ExpectedResponse::ServedBytes(_) | ExpectedResponse::Truncated(_) | ExpectedResponse::Prefix
        )
    };
    if row.expected_responses.iter().any(long) {
        return;
    }
    let mut reader = StrictReader::new(results.raw.as_slice());
    let request_kind = row.steps.iter().filter_map(|step| match step {
        ClientStep::ReadResponse(request_kind) => Some(*request_kind),
        _ => None,
    });
    let followed = (row.connection_outcome == ConnectionOutcome::KeptOpen).then_some(RequestKind::DEFAULT);
    for (request_kind, first) in request_kind.chain(followed).zip(&results.responses) {
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
    let recording = upstream.recording();
    let upstream_bytes: Vec<u8> =
        recording.connections.iter().flat_map(|connection| connection.raw.clone()).collect();
    let (mut not_sent, mut reached_upstream) = (0, 0);
    for (row, results) in rows.iter().zip(results) {
        for response in results.responses.iter().filter(|response| response.status >= 400) {
            let Ok(body) = contract_check::parse_error_body(response) else { continue };
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

/// Compares the counters by status code, cause and close reason with the responses seen here.
pub fn expect_metrics(gateway: &Gateway, rows: &[ClientFault], results: &[RunResult]) {
    let mut codes = BTreeMap::<u16, f64>::new();
    for response in results.iter().flat_map(|results| &results.responses) {
        *codes.entry(response.status).or_default() += 1.0;
    }
    let mut causes = BTreeMap::<&str, f64>::new();
    let mut truncations = BTreeMap::<&str, f64>::new();
    for expected in rows.iter().flat_map(|row| &row.expected_responses) {
        match expected {
            ExpectedResponse::Rejected(cause) | ExpectedResponse::RejectedOnRoute(cause) => {
                *causes.entry(cause.name()).or_default() += 1.0;
            }
            ExpectedResponse::Truncated(cause) => *truncations.entry(cause.name()).or_default() += 1.0,
            ExpectedResponse::Served | ExpectedResponse::ServedBytes(_) | ExpectedResponse::Prefix => {}
        }
    }
    let mut close_reasons = BTreeMap::<&str, f64>::new();
    for row in rows {
        match row.connection_outcome {
            ConnectionOutcome::ClosedWithoutResponse(name) | ConnectionOutcome::ClientClosed(name) => {
                *close_reasons.entry(name).or_default() += 1.0
            }
            ConnectionOutcome::IdleTimeout => *close_reasons.entry("idle_timeout").or_default() += 1.0,
            ConnectionOutcome::ClientClosedDuringResponse => {
                *truncations.entry("client_gone").or_default() += 1.0
            }
            ConnectionOutcome::KeptOpen
            | ConnectionOutcome::AnnouncedClose
            | ConnectionOutcome::UnannouncedClose
            | ConnectionOutcome::Truncated => {}
        }
    }
    for (code, count) in &codes {
        gateway.expect_metric("responses_total", &[("code", &code.to_string())], *count);
    }
    for (metric, label, counts) in [
        ("errors_total", "cause", causes),
        ("aborted_total", "cause", truncations),
        ("closed_without_response_total", "cause", close_reasons),
    ] {
        for (name, count) in &counts {
            gateway.expect_metric(metric, &[(label, name)], *count);
        }
        gateway.expect_metric(metric, &[], counts.values().sum());
    }
    gateway.expect_metric("responses_total", &[], codes.values().sum());
    gateway.expect_metric("requests_in_flight", &[], 0.0);
    gateway.expect_metric("panics_total", &[], 0.0);
}
