//! The table of client faults, row by row, against the executable: answers, the upstream's record, and the accounts.
//!
//! The rows are played by the rehearsal's own client; what it received is read a second time by this crate's strict reader
//! and held to this crate's promise, so that neither reader is believed alone.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use statusquo::contract::{Cause, Contract, RequestSent};
use statusquo::rehearse::talk::{check_served, upstream_script};
use statusquo::rehearse::{
    ClientFault, ClientStep, ConnectionOutcome, ExpectedResponse, GatewayConnector, GatewayProfile,
    ReceivedResponse, RequestKind, RunResult, ScriptedUpstream, TestContext, client_faults, promise,
    run_client_fault,
};
use tokio::sync::Semaphore;

use super::gateway::{Gateway, Setup};
use super::load::millis;
use super::promise::{check_contract, text_of};
use super::reader::{self, Reader};
use super::upstreams::by_request;

/// Rows that are played at once: enough that waiting rows do not add up, few enough that nobody is late.
const AT_ONCE: usize = 48;

#[test]
fn every_client_fault_has_exactly_the_outcome_that_stands_there() {
    let upstream = by_request(upstream_script);
    let gateway = impatient(&upstream).set("errors.include", "[request_sent]").start();
    let setting = setting();
    let rows = client_faults(&setting);
    let played = play_all(gateway.address(), &upstream, &setting, &rows, run_client_fault);
    expect_kept(rows.iter().map(|row| row.name), &played);
    for (row, played) in rows.iter().zip(&played) {
        read_again(row, played);
    }
    expect_accounts(&gateway, &rows, &played);
    expect_truth_about_what_was_sent(&upstream, &rows, &played);
    assert_eq!(upstream.recording().requests_for("/smuggled"), 0);
}

/// Every row has the outcome that stands in its table.
#[track_caller]
pub fn expect_kept<'a>(names: impl Iterator<Item = &'a str>, played: &[RunResult]) {
    let broken: Vec<String> = names
        .zip(played)
        .filter_map(|(name, played)| Some(format!("{name}: {}", played.violation.as_ref()?)))
        .collect();
    assert!(broken.is_empty(), "{} rows are broken:\n{}", broken.len(), broken.join("\n"));
}

/// Limits so short that waiting rows end soon.
pub fn impatient(upstream: &ScriptedUpstream) -> Setup {
    Setup::of_servers(&[upstream.address()])
        .set("client.header_timeout", "1s")
        .set("client.body_timeout", "1s")
        .set("client.write_timeout", "1s")
        .set("client.idle_timeout", "2s")
        .set("client.max_body", "1MiB")
        .set("timeouts.response_head", "8s")
        .set("timeouts.total", "8s")
        .limit(Duration::from_secs(40))
}

/// What [`impatient`] offers to the rows.
pub fn setting() -> GatewayProfile {
    GatewayProfile { write_timeout: millis(1000), ..GatewayProfile::example() }
}

/// Plays rows of either table at this listener.
pub fn play_all<R>(
    gateway: SocketAddr,
    upstream: &ScriptedUpstream,
    setting: &GatewayProfile,
    rows: &[R],
    play: impl AsyncFn(&R, &TestContext<'_>) -> RunResult,
) -> Vec<RunResult> {
    let judge = judged_by_the_page();
    let scene = TestContext {
        connector: GatewayConnector { gateway, source_address: None, relay: None },
        profile: setting,
        upstream,
        limit: millis(10_000),
        check_response: &judge,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let places = Semaphore::new(AT_ONCE);
    runtime.block_on(futures_util::future::join_all(rows.iter().map(|row| async {
        let _place = places.acquire().await.unwrap();
        play(row, &scene).await
    })))
}

/// Judges answers by the built-in contract.
fn judged_by_the_page()
-> impl Fn(ExpectedResponse, RequestKind, &ReceivedResponse) -> Result<(), String> + Sync {
    let contract = Contract::builtin("appwrite").unwrap();
    move |expected, asked, answer| judge(expected, asked, answer, &contract)
}

fn judge(
    expected: ExpectedResponse,
    asked: RequestKind,
    answer: &ReceivedResponse,
    contract: &Contract,
) -> Result<(), String> {
    let (ExpectedResponse::Rejected(cause) | ExpectedResponse::RejectedOnRoute(cause)) = expected else {
        return check_served(expected, answer);
    };
    let (code, message) = documented(cause);
    if answer.status != code {
        return Err(format!("{} {:?} in the place of {code} for {cause}", answer.status, answer.text()));
    }
    promise::check_error_response(answer, asked, contract)?;
    match promise::parse_error_body(answer) {
        _ if asked.head => Ok(()),
        Ok(body) if body.message == message => Ok(()),
        other => Err(format!("{other:?} in the place of {message:?}")),
    }
}

/// What the page says about the causes of the table; the messages of 400 explain further.
fn documented(cause: Cause) -> (u16, &'static str) {
    let explained = match cause.name() {
        "destination_not_found" => return (404, text_of(404)),
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

/// Reads what came a second time.
fn read_again(row: &ClientFault, played: &RunResult) {
    let long = |expected: &ExpectedResponse| {
        matches!(
            expected,
            ExpectedResponse::ServedBytes(_) | ExpectedResponse::Truncated(_) | ExpectedResponse::Prefix
        )
    };
    if row.expected_responses.iter().any(long) {
        return;
    }
    let mut reader = Reader::new(played.raw.as_slice());
    let asked = row.steps.iter().filter_map(|act| match act {
        ClientStep::ReadResponse(asked) => Some(*asked),
        _ => None,
    });
    let followed = (row.connection_outcome == ConnectionOutcome::KeptOpen).then_some(RequestKind::DEFAULT);
    for (asked, first) in asked.chain(followed).zip(&played.responses) {
        let method = if asked.head { "HEAD" } else { "GET" };
        let asked = if asked.http10 { reader::Asked::Http10(method) } else { reader::Asked::Http11(method) };
        let answer = reader.read(asked).unwrap_or_else(|none| panic!("{}: {none:?}", row.name));
        check_contract(&answer, asked);
        assert_eq!(
            (answer.status, &answer.fields, &answer.body),
            (first.status, &first.headers, &first.body),
            "{}",
            row.name
        );
    }
    assert_eq!(String::from_utf8_lossy(reader.surplus()), "", "{}", row.name);
}

/// No error says that nothing was sent of a request of which the upstream has received a byte.
fn expect_truth_about_what_was_sent(upstream: &ScriptedUpstream, rows: &[ClientFault], played: &[RunResult]) {
    let seen = upstream.recording();
    let received: Vec<u8> = seen.connections.iter().flat_map(|connection| connection.raw.clone()).collect();
    let (mut unsent, mut begun) = (0, 0);
    for (row, played) in rows.iter().zip(played) {
        for answer in played.responses.iter().filter(|answer| answer.status >= 400) {
            let Ok(body) = promise::parse_error_body(answer) else { continue };
            let said = body
                .request_sent
                .unwrap_or_else(|| panic!("{}: no request_sent: {}", row.name, answer.text()));
            let id = answer.header("x-request-id").unwrap();
            let arrived = memchr::memmem::find(&received, id.as_bytes()).is_some();
            assert!(
                !arrived || said > RequestSent::None,
                "{}: {said:?} is said, and some of it came",
                row.name
            );
            unsent += usize::from(said == RequestSent::None);
            begun += usize::from(arrived);
        }
    }
    // Both are there to be told apart.
    assert!(unsent > 200 && begun > 5, "{unsent} {begun}");
}

/// For every code, every cause and every silence: what was counted is what was seen here.
pub fn expect_accounts(gateway: &Gateway, rows: &[ClientFault], played: &[RunResult]) {
    let mut codes = BTreeMap::<u16, f64>::new();
    for answer in played.iter().flat_map(|played| &played.responses) {
        *codes.entry(answer.status).or_default() += 1.0;
    }
    let mut causes = BTreeMap::<&str, f64>::new();
    let mut cuts = BTreeMap::<&str, f64>::new();
    for expected in rows.iter().flat_map(|row| &row.expected_responses) {
        match expected {
            ExpectedResponse::Rejected(cause) | ExpectedResponse::RejectedOnRoute(cause) => {
                *causes.entry(cause.name()).or_default() += 1.0;
            }
            ExpectedResponse::Truncated(cause) => *cuts.entry(cause.name()).or_default() += 1.0,
            ExpectedResponse::Served | ExpectedResponse::ServedBytes(_) | ExpectedResponse::Prefix => {}
        }
    }
    let mut silences = BTreeMap::<&str, f64>::new();
    for row in rows {
        match row.connection_outcome {
            ConnectionOutcome::ClosedWithoutResponse(name) | ConnectionOutcome::ClientClosed(name) => {
                *silences.entry(name).or_default() += 1.0
            }
            ConnectionOutcome::IdleTimeout => *silences.entry("idle_timeout").or_default() += 1.0,
            ConnectionOutcome::ClientClosedDuringResponse => *cuts.entry("client_gone").or_default() += 1.0,
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
        ("aborted_total", "cause", cuts),
        ("closed_without_response_total", "cause", silences),
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
