//! Every fault of an HTTP/2 client, against the route that the faults of HTTP/1 clients are played on.
//!
//! What the HTTP/2 library does by itself has no answer to be judged: such a row is kept when the stream or the connection
//! ends as it should, and nothing else on it is harmed.

use futures_util::future::join_all;
use tokio::sync::Semaphore;

use super::clients::{AGAIN_AT_ONCE, AT_ONCE, LIMIT, expectation_of, judge, method, obstacle_to, shortened};
use super::ledger::Ledger;
use super::load_factor::LoadFactor;
use super::stage::Stage;
use super::visits::Visit;
use super::wanted::told;
use super::{Row, Side, again};
use crate::contract::Cause;
use crate::rehearse::answers::ReceivedResponse;
use crate::rehearse::clients::{ExpectedResponse, GatewayProfile, RoutedRequest};
use crate::rehearse::clients_h2::{CloseOutcome, FrameStep, H2ClientFault, StreamOutcome, client_faults_h2};
use crate::rehearse::{RunResult, TestContext, talk_h2};

/// Plays all of it.
pub(super) async fn play_all(stage: &Stage, place: Option<(Visit, GatewayProfile)>) -> Vec<Row> {
    let skip = |row: &H2ClientFault, why: &str| {
        Row::skipped(Side::Client, (row.name, row.description), None, why.to_owned())
    };
    let skip_all =
        |why: &str| client_faults_h2(&GatewayProfile::example()).iter().map(|row| skip(row, why)).collect();
    let Some((visit, setting)) = place else { return skip_all("no route can be reached") };
    let (exact, floods) = (stage.way_h2(&stage.clients_h2), stage.way_h2(&stage.floods));
    let (Some(exact), Some(floods)) = (exact, floods) else { return skip_all("no listener speaks HTTP/2") };
    let rows = unhurried(client_faults_h2(&setting), stage.load);
    let get = method(&setting.read_method);
    let judge =
        |expected, asked, answer: &ReceivedResponse| judge(stage, &visit, &get, expected, asked, answer);
    let limit = stage.load.scale(LIMIT);
    let scene = |connect| TestContext {
        connector: connect,
        profile: &setting,
        upstream: &stage.serving,
        limit,
        check_response: &judge,
    };
    let (exact, floods) = (scene(exact), scene(floods));
    let places = Semaphore::new(AT_ONCE);
    let on_stage = |index: usize| {
        let (rows, exact, floods) = (&rows, &exact, &floods);
        let (places, visit, setting, get) = (&places, &visit, &setting, &get);
        async move {
            let Some(row) = rows.get(index) else {
                return Row::skipped(Side::Client, ("", ""), None, "there is no such row".to_owned());
            };
            let leads_elsewhere = row.dot_segment_path.and_then(|path| {
                let (method, path) = (setting.read_method.clone(), path.to_owned());
                obstacle_to(stage, visit, setting, &RoutedRequest { method, path, without_host: false })
            });
            if let Some(why) = leads_elsewhere {
                return skip(row, &why);
            }
            let _place = places.acquire().await;
            let (scene, gateway) =
                if row.nondeterministic { (floods, &stage.floods) } else { (exact, &stage.clients_h2) };
            let played = talk_h2::run_h2_client_fault(row, scene).await;
            note(&gateway.ledger, row, &played);
            let expected: Vec<String> = row
                .stream_outcomes
                .iter()
                .filter_map(|(_, fate)| match fate {
                    StreamOutcome::Response(expected) => Some(expectation_of(stage, visit, get, *expected)),
                    StreamOutcome::HeadersOnly(cause) => Some(
                        expectation_of(stage, visit, get, ExpectedResponse::Rejected(*cause))
                            + ", its head alone",
                    ),
                    StreamOutcome::Reset => Some("a reset".to_owned()),
                    StreamOutcome::Empty431 => Some("an empty 431".to_owned()),
                    StreamOutcome::NoResponse => None,
                })
                .chain(ending(row))
                .collect();
            let answered = row
                .stream_outcomes
                .iter()
                .filter(|(_, fate)| {
                    matches!(fate, StreamOutcome::Response(_) | StreamOutcome::HeadersOnly(_))
                })
                .count();
            let answers: Vec<String> = played.responses.iter().take(answered).map(told).collect();
            Row::of_client((row.name, row.description), shortened(&expected), &answers, played.violation)
        }
    };
    let mut played = join_all((0..rows.len()).map(on_stage)).await;
    again::failed_ones(&mut played, AGAIN_AT_ONCE, on_stage).await;
    played
}

/// What drips until a timeout drips no oftener where the timeout is longer: the library counts empty frames.
fn unhurried(mut rows: Vec<H2ClientFault>, load: LoadFactor) -> Vec<H2ClientFault> {
    for deed in rows.iter_mut().flat_map(|row| &mut row.steps) {
        if let FrameStep::SendSlowly(_, every) = deed {
            *every = load.scale(*every);
        }
    }
    rows
}

/// Writes down what a row got. Where it came out otherwise, not everything of it is known.
fn note(ledger: &Ledger, row: &H2ClientFault, played: &RunResult) {
    if played.violation.is_some() {
        return ledger.lost(row.stream_outcomes.len() + row.close_reasons.len() + 3);
    }
    if row.nondeterministic {
        ledger.more();
    }
    for answer in played.responses.iter().filter(|answer| answer.status < 400) {
        ledger.answer(answer.status, None);
    }
    // Errors are those of the row: what goes on beside it is served.
    let mut causes = row.stream_outcomes.iter().filter_map(|(_, fate)| match fate {
        StreamOutcome::Response(expected) => expected.cause(),
        StreamOutcome::HeadersOnly(cause) => Some(*cause),
        StreamOutcome::Reset | StreamOutcome::Empty431 | StreamOutcome::NoResponse => None,
    });
    for answer in played.responses.iter().filter(|answer| answer.status >= 400) {
        ledger.answer(answer.status, causes.next().map(Cause::name));
    }
    for (_, fate) in &row.stream_outcomes {
        match fate {
            StreamOutcome::Response(ExpectedResponse::Truncated(cause)) => ledger.cut(cause.name()),
            StreamOutcome::HeadersOnly(_) => ledger.cut(Cause::ClientTooSlow.name()),
            StreamOutcome::Response(_)
            | StreamOutcome::Reset
            | StreamOutcome::Empty431
            | StreamOutcome::NoResponse => {}
        }
    }
    for silence in &row.close_reasons {
        ledger.silent(silence);
    }
}

/// What becomes of the connection, in a few words.
fn ending(row: &H2ClientFault) -> Option<String> {
    match row.close_outcome {
        CloseOutcome::KeptOpen => None,
        CloseOutcome::ErrorGoaway => Some("GOAWAY".to_owned()),
        CloseOutcome::GracefulGoaway => Some("GOAWAY without an error".to_owned()),
        CloseOutcome::ClientClosed => Some("the client leaves".to_owned()),
    }
}
