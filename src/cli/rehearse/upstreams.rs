//! Every fault of an upstream, on every route.
//!
//! Which fault is played is told by a field of the request: the paths are the routes'. Faults of a kept connection are
//! rehearsed once for each upstream, one after the other, for the connection must be nobody else's.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use http::Method;
use tokio::io::AsyncWriteExt;
use tokio::sync::Semaphore;

use super::ledger::Ledger;
use super::load_factor::LoadFactor;
use super::stage::{self, Stage};
use super::visits::Visit;
use super::wanted::{self, Rules, Wanted};
use super::{Row, Side, Verdict, again};
use crate::config::{ErrorMode, ErrorRules};
use crate::protocol::upgrade::WEBSOCKET;
use crate::rehearse::answers::{ReadError, ReceivedResponse, ResponseReader};
use crate::rehearse::clients::FAULT_HEADER;
use crate::rehearse::faults::{FaultCategory, FaultOutcome, ServerKind, UpstreamFault, upstream_faults};
use crate::rehearse::misbehaving::KEPT_OPEN;
use crate::rehearse::{GatewayConnector, RequestKind};

/// Rows that are played at once.
const AT_ONCE: usize = 96;
/// And in a second try.
const AGAIN_AT_ONCE: usize = 4;
/// No answer takes longer, times the load factor.
const LIMIT: Duration = Duration::from_secs(12);
/// And so long a response is read that passes because of `errors.mode`.
const LIMIT_OF_PASSING: Duration = Duration::from_secs(5);
/// So much of its body is read.
const MOST: u64 = 1024 * 1024;

/// A connection that the row before has left broken may be met so often.
const MOST_TRIES: u32 = 3;

/// How far a response is read.
#[derive(Clone, Copy)]
struct ReadLimits {
    time: Duration,
    most: u64,
}

impl ReadLimits {
    /// Of what merely passes, only the beginning matters: it may go on for as long as the upstream likes.
    fn of(load: LoadFactor, passes: bool) -> ReadLimits {
        if passes {
            ReadLimits { time: load.scale(LIMIT_OF_PASSING), most: MOST }
        } else {
            ReadLimits { time: load.scale(LIMIT), most: u64::MAX }
        }
    }
}

/// A row of the table on a route.
struct Play<'a> {
    fault: &'a UpstreamFault,
    visit: &'a Visit,
}

/// Plays all of it.
pub(super) async fn play_all(stage: &Stage) -> Vec<Row> {
    let faults = upstream_faults();
    let mut rows = Vec::new();
    let (mut together, mut in_turn) = (Vec::new(), Vec::new());
    let mut pooled = Vec::new();
    for (index, visit) in stage.map.visits.iter().enumerate() {
        let Some(route) = stage.config.routes.get(index) else { continue };
        let skipped = |fault: &UpstreamFault, why: String| {
            Row::skipped(Side::Upstream, (fault.name, fault.description), Some(&route.name), why)
        };
        let visit = match visit {
            Ok(visit) => visit,
            Err(why) => {
                rows.extend(faults.iter().map(|fault| skipped(fault, why.clone())));
                continue;
            }
        };
        for fault in &faults {
            match obstacle(stage, visit, fault) {
                Some(why) => rows.push(skipped(fault, why)),
                None if pooled.contains(&(route.upstream, fault.name)) => {
                    let why = "rehearsed on another route of the same upstream";
                    rows.push(skipped(fault, why.to_owned()));
                }
                None if fault.server_kind == ServerKind::Pooled => {
                    pooled.push((route.upstream, fault.name));
                    in_turn.push(Play { fault, visit });
                }
                None => together.push(Play { fault, visit }),
            }
        }
    }
    let places = Semaphore::new(AT_ONCE);
    let played = join_all(together.iter().map(|it| async {
        let _place = places.acquire().await;
        play(stage, it).await
    }));
    let one_by_one = async {
        let mut rows = Vec::new();
        for it in &in_turn {
            rows.push(play(stage, it).await);
        }
        rows
    };
    let (mut played, mut one_by_one) = tokio::join!(played, one_by_one);
    again::failed_ones(&mut played, AGAIN_AT_ONCE, |index| play_at(stage, &together, index)).await;
    again::failed_ones(&mut one_by_one, 1, |index| play_at(stage, &in_turn, index)).await;
    rows.extend(played);
    rows.extend(one_by_one);
    rows
}

async fn play_at(stage: &Stage, plays: &[Play<'_>], index: usize) -> Row {
    match plays.get(index) {
        Some(it) => play(stage, it).await,
        None => Row::skipped(Side::Upstream, ("", ""), None, "there is no such row".to_owned()),
    }
}

/// Why a row cannot be played on a route.
fn obstacle(stage: &Stage, visit: &Visit, fault: &UpstreamFault) -> Option<String> {
    let method = method_of(visit, fault);
    let route = stage.config.routes.get(visit.route)?;
    if fault.category == FaultCategory::Upgrade && !route.upgrades.iter().any(|name| name == WEBSOCKET) {
        return Some("the route does not take an upgrade to websocket".to_owned());
    }
    let written = stage.original.upstreams.get(route.upstream);
    if !written.is_some_and(|written| stage::speaks(written, fault.server_kind)) {
        let in_tls = written.is_some_and(|written| written.cert_verification.is_some());
        let why = if fault.server_kind.requires_http2() {
            "its upstream is not spoken to in HTTP/2"
        } else if fault.server_kind.has_invalid_certificate() && in_tls {
            "the certificates of its upstream are not looked at"
        } else if in_tls {
            "its upstream is spoken to in TLS"
        } else {
            "its upstream is not spoken to in TLS"
        };
        return Some(why.to_owned());
    }
    if needs_its_method(fault) {
        // What comes of these depends on the method.
        let asked = Method::from_bytes(fault.request.method.as_bytes()).unwrap_or_default();
        if !stage.map.takes(visit, &asked) || route.deny_methods.contains(&asked) {
            return Some(format!("the route does not take {asked}"));
        }
    }
    if fault.request.body.len() as u64 > route.max_body {
        return Some("the route does not take a body of that size".to_owned());
    }
    let method = Method::from_bytes(method.as_bytes()).unwrap_or_default();
    (!stage.map.takes(visit, &method)).then(|| format!("the route does not take {method}"))
}

/// The row's method where it matters, else the route's.
fn method_of<'a>(visit: &'a Visit, fault: &UpstreamFault) -> &'a str {
    if needs_its_method(fault) { fault.request.method } else { visit.method.as_str() }
}

/// What comes of the row depends on the method.
fn needs_its_method(fault: &UpstreamFault) -> bool {
    fault.request.method != "GET"
        || fault.server_kind == ServerKind::Pooled
        || fault.category == FaultCategory::Upgrade
}

async fn play(stage: &Stage, it: &Play<'_>) -> Row {
    let Play { fault, visit } = it;
    let name = method_of(visit, fault);
    let method = Method::from_bytes(name.as_bytes()).unwrap_or_default();
    let route = stage.config.routes.get(visit.route);
    let wanted = Rules { config: &stage.config, route, method: &method }.of_row(fault);
    let asked = RequestKind { head: method == Method::HEAD, http10: false };
    let passes = route.is_some_and(|route| route.errors.mode != ErrorMode::Enforce);
    let Some(gateway) = stage.at(fault.server_kind) else {
        let why = "there is no gateway for it".to_owned();
        return Row::skipped(Side::Upstream, (fault.name, fault.description), None, why);
    };
    let limits = ReadLimits::of(stage.load, passes);
    let outcome = ask(stage.way(gateway), &gateway.ledger, it, (name, asked), limits).await;
    let (got, verdict) = match outcome {
        Err(none) => (none.clone(), Verdict::Failed(none)),
        Ok(answer) => {
            let judged = wanted.judge(&answer, asked, &stage.config.contract);
            let judged = judged.and_then(|()| interim(fault, &answer));
            let judged = judged.and_then(|()| as_in_the_table(stage, fault, &wanted, route));
            let judged = judged.and_then(|()| fields(fault, &wanted, &answer, route));
            wanted.note(&gateway.ledger, &answer, judged.is_ok());
            (wanted::told(&answer), judged.map_or_else(Verdict::Failed, |()| Verdict::Passed))
        }
    };
    Row {
        side: Side::Upstream,
        fault: fault.name,
        meaning: fault.description,
        route: route.map(|route| route.name.clone()),
        expected: wanted.told(),
        got,
        verdict,
        repeated: false,
    }
}

/// Asks as often as the row says, and gives the last answer. What came before it is noted.
async fn ask(
    way: GatewayConnector,
    ledger: &Ledger,
    it: &Play<'_>,
    (method, asked): (&str, RequestKind),
    limits: ReadLimits,
) -> Result<ReceivedResponse, String> {
    let Play { fault, visit } = it;
    let no_connection = |error| format!("no connection to the gateway: {error}");
    let stream = way.connect(false).await.map_err(no_connection)?;
    // Left by a reset: each of tens of thousands of orderly ends would keep a port of this machine for a minute.
    stream.set_zero_linger().map_err(no_connection)?;
    let mut reader = ResponseReader::new(stream, limits.time);
    reader.max_body = limits.most;
    let length = match fault.request.body.len() {
        0 => String::new(),
        length => format!("content-length: {length}\r\n"),
    };
    let (path, host, name) = (&visit.path, &visit.host, fault.name);
    let fields = fault.request.header_lines;
    let head = format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\n{fields}{length}");
    let play_of = |name: &str| {
        [format!("{head}{FAULT_HEADER}: {name}\r\n\r\n").as_bytes(), &fault.request.body].concat()
    };
    let named = play_of(name);
    let (mut before, mut tries) = (1, 0);
    while before < fault.request.count {
        tries += 1;
        // The upstream of kept connections is asked to serve well, whatever the rows before have left of them.
        let before_it =
            if fault.server_kind == ServerKind::Pooled { play_of(KEPT_OPEN) } else { named.clone() };
        let answer = once(&mut reader, ledger, &before_it, asked, limits.time).await?;
        ledger.answer(answer.status, None);
        if answer.status == 200 {
            before += 1;
        } else if tries > MOST_TRIES {
            return Err(format!("{} to a request that is served well", answer.status));
        }
    }
    once(&mut reader, ledger, &named, asked, limits.time).await
}

async fn once(
    reader: &mut ResponseReader,
    ledger: &Ledger,
    request: &[u8],
    asked: RequestKind,
    limit: Duration,
) -> Result<ReceivedResponse, String> {
    reader.deadline = Instant::now() + limit;
    // What is not taken any more has been answered.
    let _ = reader.stream.write_all(request).await;
    let answer = reader.read_response(asked).await;
    answer.map_err(|none| {
        ledger.lost(1);
        missing(&none, limit)
    })
}

fn missing(none: &ReadError, limit: Duration) -> String {
    match none {
        ReadError::Closed => "closed without an answer".to_owned(),
        ReadError::Reset => "reset without an answer".to_owned(),
        ReadError::TimedOut => format!("no answer within {} s", limit.as_secs()),
        ReadError::Malformed(what) => format!("malformed: {what}"),
    }
}

/// Where the configuration decides nothing about codes, the code is the one that stands in the table, whatever the policy
/// room says: it is not judged by its own word alone.
fn as_in_the_table(
    stage: &Stage,
    fault: &UpstreamFault,
    wanted: &Wanted,
    route: Option<&crate::config::RouteConfig>,
) -> Result<(), String> {
    let enforces = |rules: &ErrorRules| rules.mode == ErrorMode::Enforce && rules.overrides.is_empty();
    let decides_nothing = stage.builtin && stage.config.overrides.is_empty();
    if !decides_nothing || !route.is_some_and(|route| enforces(&route.errors)) {
        return Ok(());
    }
    let (status, documented) = (wanted.status(), fault.outcome.status());
    if status == documented { Ok(()) } else { Err(format!("{status}, where {documented} is documented")) }
}

/// The row's interim responses, and no other.
fn interim(fault: &UpstreamFault, answer: &ReceivedResponse) -> Result<(), String> {
    let same = answer.interim == fault.interim_statuses;
    if same { Ok(()) } else { Err(format!("the interim responses {:?}", answer.interim)) }
}

/// Fields that stay and fields that go, on an error that was made in the place of the upstream's.
fn fields(
    fault: &UpstreamFault,
    wanted: &Wanted,
    answer: &ReceivedResponse,
    route: Option<&crate::config::RouteConfig>,
) -> Result<(), String> {
    let Wanted::Made { status, .. } = wanted else { return Ok(()) };
    // The row tells of another answer than this configuration gives.
    if *status != fault.outcome.status() || matches!(fault.outcome, FaultOutcome::Forwarded { .. }) {
        return Ok(());
    }
    let limited = route.is_some_and(|route| !route.rate_limits.is_empty());
    let shared = route.is_some_and(|route| route.cors.is_some());
    let ours = |name: &str| {
        (limited && name.starts_with("x-ratelimit"))
            || (shared && (name.starts_with("access-control-") || name == "vary"))
            || route.is_some_and(|route| route.errors.keep_headers.iter().any(|kept| kept == name))
    };
    let has = |name: &str, value: &str| answer.headers.iter().any(|(it, found)| it == name && found == value);
    for (name, value) in fault.kept_headers.iter().filter(|(name, _)| !ours(name)) {
        if !has(name, value) {
            return Err(format!("{name}: {value} of the upstream is lost"));
        }
    }
    match fault.removed_headers.iter().find(|name| !ours(name) && answer.header(name).is_some()) {
        Some(name) => Err(format!("the upstream's {name} has passed")),
        None => Ok(()),
    }
}
