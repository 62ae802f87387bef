//! Runs the HTTP/2 client faults against the route of the HTTP/1 client faults.
//!
//! A fault that the HTTP/2 library handles has no response to check. Such a row passes if the stream or the connection
//! ends as expected and the other streams of the connection are served.

use futures_util::future::join_all;
use tokio::sync::Semaphore;

use super::client_rows::{
    CONCURRENCY, RESPONSE_TIMEOUT, RETRY_CONCURRENCY, check_response, collapse_repeats,
    describe_expected_response, parse_method, skip_reason_for,
};
use super::expectation::describe_response;
use super::harness::Harness;
use super::load_factor::LoadFactor;
use super::observed::ObservedCounts;
use super::route_probe::RouteProbe;
use super::{ReportRow, Section, retry};
use crate::conformance::client_faults::{ExpectedResponse, GatewayProfile, RoutedRequest};
use crate::conformance::client_faults_h2::{
    CloseOutcome, FrameStep, H2ClientFault, StreamOutcome, client_faults_h2,
};
use crate::conformance::response_reader::ReceivedResponse;
use crate::conformance::{RunResult, TestContext, runner_h2};
use crate::contract::Cause;

/// Runs all HTTP/2 client faults.
pub(super) async fn run_all(
    harness: &Harness,
    target: Option<(RouteProbe, GatewayProfile)>,
) -> Vec<ReportRow> {
    let skip = |row: &H2ClientFault, reason: &str| {
        ReportRow::skipped(Section::Client, (row.name, row.description), None, reason.to_owned())
    };
    let skip_all = |reason: &str| {
        client_faults_h2(&GatewayProfile::example()).iter().map(|row| skip(row, reason)).collect()
    };
    let Some((probe, profile)) = target else { return skip_all("no route accepts an ordinary request") };
    let (regular, floods) =
        (harness.connect_h2(&harness.h2_client_gateway), harness.connect_h2(&harness.flood_gateway));
    let (Some(regular), Some(floods)) = (regular, floods) else {
        return skip_all("no listener uses HTTP/2");
    };
    let rows = scale_pauses(client_faults_h2(&profile), harness.load);
    let get = parse_method(&profile.read_method);
    let check = |expected, request_kind, response: &ReceivedResponse| {
        check_response(harness, &probe, &get, expected, request_kind, response)
    };
    let limit = harness.load.scale(RESPONSE_TIMEOUT);
    let context = |connect| TestContext {
        connector: connect,
        profile: &profile,
        upstream: &harness.client_upstream,
        limit,
        check_response: &check,
    };
    let (regular, floods) = (context(regular), context(floods));
    let permits = Semaphore::new(CONCURRENCY);
    let run_row = |index: usize| {
        let (rows, regular, floods) = (&rows, &regular, &floods);
        let (permits, probe, profile, get) = (&permits, &probe, &profile, &get);
        async move {
            let Some(row) = rows.get(index) else {
                return ReportRow::skipped(Section::Client, ("", ""), None, "no such row".to_owned());
            };
            let mismatch = row.dot_segment_path.and_then(|path| {
                let (method, path) = (profile.read_method.clone(), path.to_owned());
                skip_reason_for(harness, probe, profile, &RoutedRequest { method, path, without_host: false })
            });
            if let Some(reason) = mismatch {
                return skip(row, &reason);
            }
            let _permit = permits.acquire().await;
            let (context, gateway) = if row.nondeterministic {
                (floods, &harness.flood_gateway)
            } else {
                (regular, &harness.h2_client_gateway)
            };
            let result = runner_h2::run_h2_client_fault(row, context).await;
            record(&gateway.observed, row, &result);
            let expected: Vec<String> = row
                .stream_outcomes
                .iter()
                .filter_map(|(_, outcome)| match outcome {
                    StreamOutcome::Response(expected) => {
                        Some(describe_expected_response(harness, probe, get, *expected))
                    }
                    StreamOutcome::HeadersOnly(cause) => Some(
                        describe_expected_response(harness, probe, get, ExpectedResponse::Rejected(*cause))
                            + ", headers only",
                    ),
                    StreamOutcome::Reset => Some("RST_STREAM".to_owned()),
                    StreamOutcome::Empty431 => Some("empty 431".to_owned()),
                    StreamOutcome::NoResponse => None,
                })
                .chain(describe_close(row))
                .collect();
            let response_count = row
                .stream_outcomes
                .iter()
                .filter(|(_, outcome)| {
                    matches!(outcome, StreamOutcome::Response(_) | StreamOutcome::HeadersOnly(_))
                })
                .count();
            let responses: Vec<String> =
                result.responses.iter().take(response_count).map(describe_response).collect();
            ReportRow::for_client_fault(
                (row.name, row.description),
                collapse_repeats(&expected),
                &responses,
                result.violation,
            )
        }
    };
    let mut result = join_all((0..rows.len()).map(run_row)).await;
    retry::failed_ones(&mut result, RETRY_CONCURRENCY, run_row).await;
    result
}

/// Scales pauses like the timeouts, so that a slow sender sends no more frames before one fires: the library counts
/// empty frames.
fn scale_pauses(mut rows: Vec<H2ClientFault>, load: LoadFactor) -> Vec<H2ClientFault> {
    for step in rows.iter_mut().flat_map(|row| &mut row.steps) {
        if let FrameStep::SendSlowly(_, every) = step {
            *every = load.scale(*every);
        }
    }
    rows
}

/// Records the responses of a row. After a violation the number of events is not known exactly.
fn record(observed: &ObservedCounts, row: &H2ClientFault, result: &RunResult) {
    if result.violation.is_some() {
        return observed.record_unknown(row.stream_outcomes.len() + row.close_reasons.len() + 3);
    }
    if row.nondeterministic {
        observed.allow_extra();
    }
    for response in result.responses.iter().filter(|response| response.status < 400) {
        observed.record_response(response.status, None);
    }
    // Errors belong to the row: the background upload and the follow-up request get 200.
    let mut causes = row.stream_outcomes.iter().filter_map(|(_, outcome)| match outcome {
        StreamOutcome::Response(expected) => expected.cause(),
        StreamOutcome::HeadersOnly(cause) => Some(*cause),
        StreamOutcome::Reset | StreamOutcome::Empty431 | StreamOutcome::NoResponse => None,
    });
    for response in result.responses.iter().filter(|response| response.status >= 400) {
        observed.record_response(response.status, causes.next().map(Cause::name));
    }
    for (_, outcome) in &row.stream_outcomes {
        match outcome {
            StreamOutcome::Response(ExpectedResponse::Truncated(cause)) => {
                observed.record_truncated(cause.name())
            }
            StreamOutcome::HeadersOnly(_) => observed.record_truncated(Cause::ClientTooSlow.name()),
            StreamOutcome::Response(_)
            | StreamOutcome::Reset
            | StreamOutcome::Empty431
            | StreamOutcome::NoResponse => {}
        }
    }
    for close_reason in &row.close_reasons {
        observed.record_close(close_reason);
    }
}

/// The expected close of the connection, for the report.
fn describe_close(row: &H2ClientFault) -> Option<String> {
    match row.close_outcome {
        CloseOutcome::KeptOpen => None,
        CloseOutcome::ErrorGoaway => Some("GOAWAY with an error".to_owned()),
        CloseOutcome::GracefulGoaway => Some("GOAWAY".to_owned()),
        CloseOutcome::ClientClosed => Some("closed by the client".to_owned()),
    }
}
