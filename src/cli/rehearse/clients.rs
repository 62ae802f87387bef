//! Every fault of a client, against one route.
//!
//! What a client sends is refused, mostly, before a route is known; the rows that need one use the first that takes
//! ordinary requests. Which rows do not apply to it is said, never left out in silence.

use std::time::Duration;

use futures_util::future::join_all;
use http::Method;
use tokio::sync::Semaphore;

use super::ledger::Ledger;
use super::load_factor::LoadFactor;
use super::stage::Stage;
use super::visits::Visit;
use super::wanted::{Rules, told};
use super::{Row, Side, again};
use crate::contract::{Cause, RequestSent};
use crate::observe::{CloseReason, silence::CLIENT_GONE};
use crate::protocol::target::check_path;
use crate::rehearse::answers::ReceivedResponse;
use crate::rehearse::clients::{
    ClientFault, ClientStep, ConnectionOutcome, ExpectedResponse, GatewayProfile, RoutedRequest,
    client_faults, client_faults_tls,
};
use crate::rehearse::talk::check_served;
use crate::rehearse::{GatewayConnector, RequestKind, RunResult, TestContext, run_client_fault};

pub(super) const AT_ONCE: usize = 48;
/// And in a second try.
pub(super) const AGAIN_AT_ONCE: usize = 4;
/// No wait is longer, times the load factor.
pub(super) const LIMIT: Duration = Duration::from_secs(12);

/// Plays those of HTTP/1.
pub(super) async fn play_all(stage: &Stage, place: Option<(Visit, GatewayProfile)>) -> Vec<Row> {
    let Some((visit, setting)) = place else {
        return skip_all(client_faults(&GatewayProfile::example()), "no route can be reached");
    };
    let rows = client_faults(&setting);
    play_rows(stage, stage.way(&stage.clients), &visit, &setting, rows).await
}

/// Plays those of TLS.
pub(super) async fn play_tls(stage: &Stage, place: Option<(Visit, GatewayProfile)>) -> Vec<Row> {
    let Some((visit, setting)) = place else {
        return skip_all(client_faults_tls(&GatewayProfile::example()), "no route can be reached");
    };
    let rows = client_faults_tls(&setting);
    match stage.way_tls(&stage.clients) {
        Some(connect) => play_rows(stage, connect, &visit, &setting, rows).await,
        None => skip_all(rows, "no listener speaks TLS"),
    }
}

fn skip_all(rows: Vec<ClientFault>, why: &str) -> Vec<Row> {
    let skip =
        |row: ClientFault| Row::skipped(Side::Client, (row.name, row.description), None, why.to_owned());
    rows.into_iter().map(skip).collect()
}

async fn play_rows(
    stage: &Stage,
    connect: GatewayConnector,
    visit: &Visit,
    setting: &GatewayProfile,
    rows: Vec<ClientFault>,
) -> Vec<Row> {
    let get = method(&setting.read_method);
    let judge =
        |expected, asked, answer: &ReceivedResponse| judge(stage, visit, &get, expected, asked, answer);
    let limit = stage.load.scale(LIMIT);
    let scene = TestContext {
        connector: connect,
        profile: setting,
        upstream: &stage.serving,
        limit,
        check_response: &judge,
    };
    let rows = unhurried(rows, setting, stage.load);
    let places = Semaphore::new(AT_ONCE);
    let on_stage = |index: usize| {
        let (rows, scene, places, get) = (&rows, &scene, &places, &get);
        async move {
            let Some(row) = rows.get(index) else {
                return Row::skipped(Side::Client, ("", ""), None, "there is no such row".to_owned());
            };
            if let Some(why) = obstacle(stage, visit, setting, row) {
                return Row::skipped(Side::Client, (row.name, row.description), None, why);
            }
            let _place = places.acquire().await;
            let played = run_client_fault(row, scene).await;
            note(&stage.clients.ledger, row, &played);
            let answers: Vec<String> =
                played.responses.iter().take(row.expected_responses.len()).map(told).collect();
            Row::of_client(
                (row.name, row.description),
                expectation(stage, visit, get, row),
                &answers,
                played.violation,
            )
        }
    };
    let mut played = join_all((0..rows.len()).map(on_stage)).await;
    again::failed_ones(&mut played, AGAIN_AT_ONCE, on_stage).await;
    played
}

/// Pauses are as much longer as the timeouts are: bytes get time to arrive, and what drips until a timeout drips no oftener.
fn unhurried(mut rows: Vec<ClientFault>, setting: &GatewayProfile, load: LoadFactor) -> Vec<ClientFault> {
    for act in rows.iter_mut().flat_map(|row| &mut row.steps) {
        match act {
            ClientStep::SendSlowly(_, every) => *every = load.scale(*every),
            // A longer one outlasts a timeout of the setting, which is scaled already.
            ClientStep::Pause(time) if *time < setting.write_timeout => *time = load.scale(*time),
            _ => {}
        }
    }
    rows
}

/// Writes down what a row got. Where it came out otherwise, not everything of it is known.
fn note(ledger: &Ledger, row: &ClientFault, played: &RunResult) {
    if played.violation.is_some() {
        return ledger.lost(row.expected_responses.len() + 2);
    }
    for (index, answer) in played.responses.iter().enumerate() {
        let expected = row.expected_responses.get(index);
        ledger.answer(answer.status, expected.and_then(|expected| expected.cause()).map(Cause::name));
        if let Some(ExpectedResponse::Truncated(cause)) = expected {
            ledger.cut(cause.name());
        }
    }
    match row.connection_outcome {
        ConnectionOutcome::ClosedWithoutResponse(name) | ConnectionOutcome::ClientClosed(name) => {
            ledger.silent(name)
        }
        ConnectionOutcome::IdleTimeout => ledger.silent(CloseReason::IdleTimeout.name()),
        ConnectionOutcome::ClientClosedDuringResponse => ledger.cut(CLIENT_GONE),
        ConnectionOutcome::KeptOpen
        | ConnectionOutcome::AnnouncedClose
        | ConnectionOutcome::UnannouncedClose
        | ConnectionOutcome::Truncated => {}
    }
}

/// The route that takes the rows, and what it offers: of those that take GET and POST at the same place, the one that most
/// rows apply to. Not quick: to be found before anybody waits.
pub(super) fn setting(stage: &Stage) -> Option<(Visit, GatewayProfile)> {
    let visits = || stage.map.visits.iter().flatten();
    let fits = |visit: &&Visit| {
        let allowed = |method: &Method| {
            let route = stage.config.routes.get(visit.route);
            let denied = route.is_some_and(|route| route.deny_methods.contains(method));
            stage.map.takes(visit, method) && !denied
        };
        [Method::GET, Method::POST].iter().all(allowed)
    };
    let both = visits().filter(fits).map(|visit| {
        let visit = Visit { method: Method::GET, ..visit.clone() };
        (visit.clone(), setting_of(stage, &visit, &Method::POST))
    });
    let fewest = both.min_by_key(|(visit, setting)| {
        let rows = client_faults(setting);
        rows.iter().filter(|row| obstacle(stage, visit, setting, row).is_some()).count()
    });
    fewest.or_else(|| {
        let visit = visits().next()?;
        Some((visit.clone(), setting_of(stage, visit, &visit.method)))
    })
}

fn setting_of(stage: &Stage, visit: &Visit, write: &Method) -> GatewayProfile {
    let client = &stage.config.client;
    let route = stage.config.routes.get(visit.route);
    GatewayProfile {
        read_method: visit.method.to_string(),
        write_method: write.to_string(),
        path: visit.path.clone(),
        host: visit.host.clone(),
        max_header_bytes: client.max_header_bytes,
        max_body: route.map_or(client.max_body, |route| route.max_body),
        write_timeout: client.write_timeout,
    }
}

pub(super) fn method(name: &str) -> Method {
    Method::from_bytes(name.as_bytes()).unwrap_or_default()
}

/// Why a row does not apply.
fn obstacle(stage: &Stage, visit: &Visit, setting: &GatewayProfile, row: &ClientFault) -> Option<String> {
    obstacle_to(stage, visit, setting, row.routed_request.as_ref()?)
}

/// Why a request for this does not end as its row says.
pub(super) fn obstacle_to(
    stage: &Stage,
    visit: &Visit,
    setting: &GatewayProfile,
    RoutedRequest { method: name, path, without_host: no_host }: &RoutedRequest,
) -> Option<String> {
    let route = stage.config.routes.get(visit.route)?;
    let asked = method(name);
    let dots = check_path(path.as_bytes()).is_ok_and(|facts| facts.dot_segments);
    let found = stage.map.route(if *no_host { "" } else { &setting.host }, path, &asked);
    if dots {
        // Refused wherever it leads, unless a route lets dot segments pass.
        let lenient = found.and_then(|index| stage.config.routes.get(index));
        return lenient
            .filter(|route| route.lenient_paths)
            .map(|route| format!("the route {} lets dot segments pass", route.name));
    }
    if found != Some(visit.route) {
        let place = if *no_host { "without a host " } else { "" };
        return Some(
            format!("the route {} does not take {name} {path} {place}", route.name).trim_end().to_owned(),
        );
    }
    route.deny_methods.contains(&asked).then(|| format!("the route {} denies {name}", route.name))
}

pub(super) fn judge(
    stage: &Stage,
    visit: &Visit,
    get: &Method,
    expected: ExpectedResponse,
    asked: RequestKind,
    answer: &ReceivedResponse,
) -> Result<(), String> {
    let Some((cause, routed)) = refusal(expected) else { return check_served(expected, answer) };
    let wanted = rules(stage, visit, get, routed).of_fault(cause, RequestSent::None);
    wanted.judge(answer, asked, &stage.config.contract)
}

fn rules<'a>(stage: &'a Stage, visit: &Visit, get: &'a Method, routed: bool) -> Rules<'a> {
    let route = stage.config.routes.get(visit.route).filter(|_| routed);
    Rules { config: &stage.config, route, method: get }
}

const fn refusal(expected: ExpectedResponse) -> Option<(Cause, bool)> {
    match expected {
        ExpectedResponse::Rejected(cause) => Some((cause, false)),
        ExpectedResponse::RejectedOnRoute(cause) => Some((cause, true)),
        ExpectedResponse::Served
        | ExpectedResponse::ServedBytes(_)
        | ExpectedResponse::Truncated(_)
        | ExpectedResponse::Prefix => None,
    }
}

/// The row's expectation in a few words.
fn expectation(stage: &Stage, visit: &Visit, get: &Method, row: &ClientFault) -> String {
    let told = |expected: &ExpectedResponse| expectation_of(stage, visit, get, *expected);
    let answers: Vec<String> = row.expected_responses.iter().map(told).collect();
    let ending = match row.connection_outcome {
        ConnectionOutcome::KeptOpen => "stays open".to_owned(),
        ConnectionOutcome::AnnouncedClose | ConnectionOutcome::UnannouncedClose => "closes".to_owned(),
        ConnectionOutcome::Truncated => String::new(),
        ConnectionOutcome::IdleTimeout => "closed when idle".to_owned(),
        ConnectionOutcome::ClientClosedDuringResponse => "the client leaves".to_owned(),
        ConnectionOutcome::ClosedWithoutResponse(name) | ConnectionOutcome::ClientClosed(name) => {
            format!("no answer, counted as {name}")
        }
    };
    let parts = [shortened(&answers), ending];
    parts.iter().filter(|part| !part.is_empty()).cloned().collect::<Vec<_>>().join("; ")
}

/// What one answer should be, in a few words.
pub(super) fn expectation_of(
    stage: &Stage,
    visit: &Visit,
    get: &Method,
    expected: ExpectedResponse,
) -> String {
    match (refusal(expected), expected) {
        (Some((cause, routed)), _) => {
            rules(stage, visit, get, routed).of_fault(cause, RequestSent::None).told()
        }
        (None, ExpectedResponse::Truncated(cause)) => format!("200, cut: {cause}"),
        (None, _) => "200 of the upstream".to_owned(),
    }
}

/// Equal neighbours once, with their number.
pub(super) fn shortened(answers: &[String]) -> String {
    let mut kinds: Vec<(&String, usize)> = Vec::new();
    for answer in answers {
        match kinds.iter_mut().find(|(kind, _)| *kind == answer) {
            Some((_, times)) => *times += 1,
            None => kinds.push((answer, 1)),
        }
    }
    let told = kinds.iter().map(|(kind, times)| match times {
        1 => (*kind).clone(),
        _ => format!("{times} x {kind}"),
    });
    told.collect::<Vec<_>>().join(", ")
}
