//! The table of client faults, row by row, against the executable: answers, the upstream's record, and the accounts.
//!
//! The rows are played by the rehearsal's own client; what it received is read a second time by this crate's strict reader
//! and held to this crate's promise, so that neither reader is believed alone.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use statusquo::contract::{Cause, Contract, RequestSent};
use statusquo::rehearse::talk::{judge_served, upstream_script};
use statusquo::rehearse::{
    Act, Answer, Asked, ClientFault, Connect, Ending, Expected, Played, Scene, Setting, Upstream,
    client_faults, play, promise,
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
    let played = play_all(gateway.address(), &upstream, &setting, &rows, play);
    expect_kept(rows.iter().map(|row| row.name), &played);
    for (row, played) in rows.iter().zip(&played) {
        read_again(row, played);
    }
    expect_accounts(&gateway, &rows, &played);
    expect_truth_about_what_was_sent(&upstream, &rows, &played);
    assert_eq!(upstream.seen().requests_for("/smuggled"), 0);
}

/// Every row has the outcome that stands in its table.
#[track_caller]
pub fn expect_kept<'a>(names: impl Iterator<Item = &'a str>, played: &[Played]) {
    let broken: Vec<String> = names
        .zip(played)
        .filter_map(|(name, played)| Some(format!("{name}: {}", played.breach.as_ref()?)))
        .collect();
    assert!(broken.is_empty(), "{} rows are broken:\n{}", broken.len(), broken.join("\n"));
}

/// Limits so short that waiting rows end soon.
pub fn impatient(upstream: &Upstream) -> Setup {
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
pub fn setting() -> Setting {
    Setting { write_timeout: millis(1000), ..Setting::any() }
}

/// Plays rows of either table at this listener.
pub fn play_all<R>(
    gateway: SocketAddr,
    upstream: &Upstream,
    setting: &Setting,
    rows: &[R],
    play: impl AsyncFn(&R, &Scene<'_>) -> Played,
) -> Vec<Played> {
    let judge = judged_by_the_page();
    let scene = Scene {
        connect: Connect { gateway, from: None, relay: None },
        setting,
        upstream,
        limit: millis(10_000),
        judge: &judge,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let places = Semaphore::new(AT_ONCE);
    runtime.block_on(futures_util::future::join_all(rows.iter().map(|row| async {
        let _place = places.acquire().await.unwrap();
        play(row, &scene).await
    })))
}

/// Judges answers by the built-in contract.
fn judged_by_the_page() -> impl Fn(Expected, Asked, &Answer) -> Result<(), String> + Sync {
    let contract = Contract::builtin("appwrite").unwrap();
    move |expected, asked, answer| judge(expected, asked, answer, &contract)
}

fn judge(expected: Expected, asked: Asked, answer: &Answer, contract: &Contract) -> Result<(), String> {
    let (Expected::Refused(cause) | Expected::RefusedOnRoute(cause)) = expected else {
        return judge_served(expected, answer);
    };
    let (code, message) = documented(cause);
    if answer.status != code {
        return Err(format!("{} {:?} in the place of {code} for {cause}", answer.status, answer.text()));
    }
    promise::judge(answer, asked, contract)?;
    match promise::body_of(answer) {
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
fn read_again(row: &ClientFault, played: &Played) {
    let long = |expected: &Expected| {
        matches!(expected, Expected::ServedBytes(_) | Expected::Cut(_) | Expected::Begun)
    };
    if row.answers.iter().any(long) {
        return;
    }
    let mut reader = Reader::new(played.raw.as_slice());
    let asked = row.acts.iter().filter_map(|act| match act {
        Act::Answer(asked) => Some(*asked),
        _ => None,
    });
    let followed = (row.ending == Ending::Stays).then_some(Asked::USUAL);
    for (asked, first) in asked.chain(followed).zip(&played.answers) {
        let method = if asked.head { "HEAD" } else { "GET" };
        let asked = if asked.old { reader::Asked::Http10(method) } else { reader::Asked::Http11(method) };
        let answer = reader.read(asked).unwrap_or_else(|none| panic!("{}: {none:?}", row.name));
        check_contract(&answer, asked);
        assert_eq!(
            (answer.status, &answer.fields, &answer.body),
            (first.status, &first.fields, &first.body),
            "{}",
            row.name
        );
    }
    assert_eq!(String::from_utf8_lossy(reader.surplus()), "", "{}", row.name);
}

/// No error says that nothing was sent of a request of which the upstream has received a byte.
fn expect_truth_about_what_was_sent(upstream: &Upstream, rows: &[ClientFault], played: &[Played]) {
    let seen = upstream.seen();
    let received: Vec<u8> = seen.connections.iter().flat_map(|connection| connection.raw.clone()).collect();
    let (mut unsent, mut begun) = (0, 0);
    for (row, played) in rows.iter().zip(played) {
        for answer in played.answers.iter().filter(|answer| answer.status >= 400) {
            let Ok(body) = promise::body_of(answer) else { continue };
            let said =
                body.sent.unwrap_or_else(|| panic!("{}: no request_sent: {}", row.name, answer.text()));
            let id = answer.field("x-request-id").unwrap();
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
pub fn expect_accounts(gateway: &Gateway, rows: &[ClientFault], played: &[Played]) {
    let mut codes = BTreeMap::<u16, f64>::new();
    for answer in played.iter().flat_map(|played| &played.answers) {
        *codes.entry(answer.status).or_default() += 1.0;
    }
    let mut causes = BTreeMap::<&str, f64>::new();
    let mut cuts = BTreeMap::<&str, f64>::new();
    for expected in rows.iter().flat_map(|row| &row.answers) {
        match expected {
            Expected::Refused(cause) | Expected::RefusedOnRoute(cause) => {
                *causes.entry(cause.name()).or_default() += 1.0;
            }
            Expected::Cut(cause) => *cuts.entry(cause.name()).or_default() += 1.0,
            Expected::Served | Expected::ServedBytes(_) | Expected::Begun => {}
        }
    }
    let mut silences = BTreeMap::<&str, f64>::new();
    for row in rows {
        match row.ending {
            Ending::Silence(name) | Ending::Left(name) => *silences.entry(name).or_default() += 1.0,
            Ending::Idle => *silences.entry("idle_timeout").or_default() += 1.0,
            Ending::LeftInside => *cuts.entry("client_gone").or_default() += 1.0,
            Ending::Stays | Ending::Closes | Ending::Unsaid | Ending::Cut => {}
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
