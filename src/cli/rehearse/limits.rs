//! What the configuration itself refuses: rate limits, denied methods, clients that are not allowed.
//!
//! One row for each, on each route that has it, with everything else out of the way.

use std::net::Ipv4Addr;
use std::time::Duration;

use http::Method;
use tokio::io::AsyncWriteExt;

use super::stage::{STRANGER, Stage, Started, contains};
use super::visits::Visit;
use super::wanted::{Rules, told};
use super::{Row, Side, Verdict, again};
use crate::config::RouteConfig;
use crate::contract::{Cause, RequestSent};
use crate::limit::LimiterMode;
use crate::rehearse::answers::{ReceivedResponse, ResponseReader};
use crate::rehearse::{GatewayConnector, RequestKind};

const LIMITED: (&str, &str) = ("rate-limited", "asks more often than the route's rate limits allow");
const DENIED: (&str, &str) = ("denied-method", "asks by a method that the route denies");
const STRANGE: (&str, &str) = ("not-allowed-from", "asks from an address that is not in allow_from");
const LIMIT: Duration = Duration::from_secs(12);
/// Two are enough where nobody else counts by the same key.
const MOST_ASKED: usize = 3;

/// Plays all of it.
pub(super) async fn play_all(stage: &Stage) -> Vec<Row> {
    let mut rows = Vec::new();
    for (route, visit) in stage.config.routes.iter().zip(&stage.map.visits) {
        let skip = |fault, why: &str| Row::skipped(Side::Limits, fault, Some(&route.name), why.to_owned());
        let Ok(visit) = visit else { continue };
        match enforced(stage, route) {
            None => {}
            Some(false) => rows.push(skip(LIMITED, "its rate limits only watch")),
            Some(true) => rows.push(again::at_most_twice(|| limited(stage, route, visit)).await),
        }
        for method in &route.deny_methods {
            let there = stage.map.takes(visit, method);
            if there && !is_unserved(method) {
                let play = || refused(stage, route, visit, DENIED, (method, None));
                rows.push(again::at_most_twice(play).await);
            } else {
                rows.push(skip(DENIED, &format!("{method} does not reach the route")));
            }
        }
        let original = stage.original.routes.get(visit.route).map(|route| &route.allow_from[..]);
        match original {
            None | Some([]) => {}
            Some(networks) if contains(networks, STRANGER) => {
                rows.push(skip(STRANGE, "every address of this machine is allowed"));
            }
            Some(_) => {
                let play = || refused(stage, route, visit, STRANGE, (&visit.method, Some(STRANGER)));
                rows.push(again::at_most_twice(play).await);
            }
        }
    }
    rows
}

/// Whether a rule of the route can refuse; `None` where it has none.
fn enforced(stage: &Stage, route: &RouteConfig) -> Option<bool> {
    let rules = route.rate_limits.iter().filter_map(|index| stage.config.rate_limits.get(*index));
    let modes: Vec<LimiterMode> = rules.map(|limit| limit.settings.mode).collect();
    (!modes.is_empty()).then(|| modes.contains(&LimiterMode::Enforce))
}

/// Answered before rules of routes are asked.
fn is_unserved(method: &Method) -> bool {
    *method == Method::CONNECT || *method == Method::TRACE
}

async fn limited(stage: &Stage, route: &RouteConfig, visit: &Visit) -> Row {
    let mut asked = 0;
    let outcome = loop {
        asked += 1;
        match ask(stage, &stage.scarce, None, (visit, &visit.method), Cause::RateLimited).await {
            Ok(answer) if answer.status == 200 && asked < MOST_ASKED => {}
            other => break other,
        }
    };
    judged(stage, route, LIMITED, &visit.method, Cause::RateLimited, outcome, |answer| {
        let told = ["x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"];
        match told.iter().find(|name| answer.header(name).is_none()) {
            Some(name) => Err(format!("a refusal without {name}")),
            None => Ok(()),
        }
    })
}

async fn refused(
    stage: &Stage,
    route: &RouteConfig,
    visit: &Visit,
    fault: (&'static str, &'static str),
    (method, from): (&Method, Option<Ipv4Addr>),
) -> Row {
    let cause = Cause::HttpRequestDenied;
    let outcome = ask(stage, &stage.clients, from, (visit, method), cause).await;
    judged(stage, route, fault, method, cause, outcome, |_| Ok(()))
}

fn judged(
    stage: &Stage,
    route: &RouteConfig,
    fault: (&'static str, &'static str),
    method: &Method,
    cause: Cause,
    outcome: Result<ReceivedResponse, String>,
    more: impl Fn(&ReceivedResponse) -> Result<(), String>,
) -> Row {
    let rules = Rules { config: &stage.config, route: Some(route), method };
    let wanted = rules.of_fault(cause, RequestSent::None);
    let asked = RequestKind { head: *method == Method::HEAD, http10: false };
    let (got, verdict) = match outcome {
        Err(none) => (none.clone(), Verdict::Failed(none)),
        Ok(answer) => {
            let verdict = wanted.judge(&answer, asked, &stage.config.contract).and_then(|()| more(&answer));
            (told(&answer), verdict.map_or_else(Verdict::Failed, |()| Verdict::Passed))
        }
    };
    let expected = wanted.told();
    let route = Some(route.name.clone());
    Row {
        side: Side::Limits,
        fault: fault.0,
        meaning: fault.1,
        route,
        expected,
        got,
        verdict,
        repeated: false,
    }
}

/// Asks once; an error is expected to be of this cause.
async fn ask(
    stage: &Stage,
    gateway: &Started,
    from: Option<Ipv4Addr>,
    (visit, method): (&Visit, &Method),
    cause: Cause,
) -> Result<ReceivedResponse, String> {
    let way = GatewayConnector { source_address: from, ..stage.way(gateway) };
    let stream =
        way.connect(false).await.map_err(|error| format!("no connection to the gateway: {error}"))?;
    let mut reader = ResponseReader::new(stream, stage.load.scale(LIMIT));
    let request = format!("{method} {} HTTP/1.1\r\nhost: {}\r\n\r\n", visit.path, visit.host);
    let _ = reader.stream.write_all(request.as_bytes()).await;
    let asked = RequestKind { head: *method == Method::HEAD, http10: false };
    match reader.read_response(asked).await {
        Ok(answer) => {
            gateway.ledger.answer(answer.status, Some(cause.name()));
            Ok(answer)
        }
        Err(none) => {
            gateway.ledger.lost(1);
            Err(format!("no answer: {none:?}"))
        }
    }
}
