//! Every fault of an HTTP/2 client, against the route that the faults of HTTP/1 clients are played on.
//!
//! What the HTTP/2 library does by itself has no answer to be judged: such a row is kept when the stream or the connection
//! ends as it should, and nothing else on it is harmed.

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

/// Plays all of it.
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
    let Some((probe, profile)) = target else { return skip_all("no route can be reached") };
    let (regular, floods) =
        (harness.connect_h2(&harness.h2_client_gateway), harness.connect_h2(&harness.flood_gateway));
    let (Some(regular), Some(floods)) = (regular, floods) else {
        return skip_all("no listener speaks HTTP/2");
    };
    let rows = unhurried(client_faults_h2(&profile), harness.load);
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
                return ReportRow::skipped(
                    Section::Client,
                    ("", ""),
                    None,
                    "there is no such row".to_owned(),
                );
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
                            + ", its head alone",
                    ),
                    StreamOutcome::Reset => Some("a reset".to_owned()),
                    StreamOutcome::Empty431 => Some("an empty 431".to_owned()),
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

/// What drips until a timeout drips no oftener where the timeout is longer: the library counts empty frames.
fn unhurried(mut rows: Vec<H2ClientFault>, load: LoadFactor) -> Vec<H2ClientFault> {
    for step in rows.iter_mut().flat_map(|row| &mut row.steps) {
        if let FrameStep::SendSlowly(_, every) = step {
            *every = load.scale(*every);
        }
    }
    rows
}

/// Writes down what a row got. Where it came out otherwise, not everything of it is known.
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
    // Errors are those of the row: what goes on beside it is served.
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

/// What becomes of the connection, in a few words.
fn describe_close(row: &H2ClientFault) -> Option<String> {
    match row.close_outcome {
        CloseOutcome::KeptOpen => None,
        CloseOutcome::ErrorGoaway => Some("GOAWAY".to_owned()),
        CloseOutcome::GracefulGoaway => Some("GOAWAY without an error".to_owned()),
        CloseOutcome::ClientClosed => Some("the client leaves".to_owned()),
    }
}
