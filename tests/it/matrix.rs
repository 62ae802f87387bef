//! The table of upstream faults, row by row, against the executable: each row's outcome exactly as it stands there.
//!
//! The rows run at the same time, each on a route and client connections of its own, so that one row's counters are its
//! own. Single faults that need more than a row are scenarios in the other files; what must be true of the whole table
//! beside its outcomes (nothing leaks, nothing is sent twice) is in `secrets.rs` and `sent.rs`.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use statusquo::rehearse::{
    ExpectedMessage, FaultOutcome, FaultyUpstream, ReplyReason, ServerKind, UpstreamFault, upstream_faults,
};

use super::client::Client;
use super::gateway::{Folder, Gateway, Setup};
use super::promise::{body_of, check_made, text_of};
use super::reader::{Answer, Asked, Ended};
use super::telemetry::Series;

#[test]
fn every_fault_of_the_table_has_exactly_the_outcome_that_stands_there() {
    let faults = upstream_faults();
    let misbehaving = FaultyUpstream::start().unwrap();
    let gateway = in_front_of(&misbehaving, &faults, "127.0.0.1").start();
    for_each_at_once(&faults, |fault| check(&gateway, fault));
    check_accounts(&gateway, &faults);
}

/// A route for each row; short limits, so that silences do not last. `host` is another name of the loopback.
pub fn in_front_of(misbehaving: &FaultyUpstream, faults: &[UpstreamFault], host: &str) -> Setup {
    let server = |place| format!("{host}:{}", misbehaving.address(place).port());
    let mut setup = Setup::of_servers(&[misbehaving.address(ServerKind::Scripted)])
        .set("timeouts.connect", "400ms")
        .set("timeouts.tls", "1s")
        .set("timeouts.response_head", "1s")
        .set("timeouts.total", "8s")
        .set("timeouts.between_bytes", "500ms")
        .set("errors.upstream_body", "{ timeout: 1s }")
        .limit(Duration::from_secs(60));
    let known = |name| format!("name: known-{name}, match: {{ path: {} }}, upstream: {name}", path_to(name));
    setup = with_places(setup, misbehaving, host);
    for place in ServerKind::ALL {
        setup = setup.route(&known(place.upstream_name()));
    }
    for fault in faults {
        // A kept connection is to be used again by the row that it was kept for.
        let upstream = if fault.server_kind == ServerKind::Pooled {
            fault.name
        } else {
            fault.server_kind.upstream_name()
        };
        if fault.server_kind == ServerKind::Pooled {
            setup =
                setup.named_upstream(fault.name, &[&server(ServerKind::Pooled)]).route(&known(fault.name));
        }
        let (name, path) = (fault.name, fault.path());
        setup = setup.route(&format!("name: {name}, match: {{ path: {path} }}, upstream: {upstream}"));
    }
    setup
}

/// With an upstream for each kind of server, under its name and spoken to as it wants.
pub fn with_places(mut setup: Setup, misbehaving: &FaultyUpstream, host: &str) -> Setup {
    let folder = Folder::new();
    let authority = folder.write("ca.pem", misbehaving.ca_pem());
    let tls =
        format!("{{ ca: \"{}\", sni: {} }}", authority.display(), statusquo::rehearse::tls::SERVER_NAME);
    setup = setup.holding(folder);
    for place in ServerKind::ALL {
        let (name, port) = (place.upstream_name(), misbehaving.address(place).port());
        setup = if place.requires_tls() {
            // A name that is spelled like none is refused where it would have to be certified.
            let server = format!("https://127.0.0.1:{port}");
            setup.named_upstream(name, &[&server]).set(&format!("upstream {name}.tls"), &tls)
        } else {
            setup.named_upstream(name, &[&format!("{host}:{port}")])
        };
        if place.requires_http2() {
            setup = setup.set(&format!("upstream {name}.http2"), "always");
        }
    }
    setup
}

/// Waits until every upstream of [`in_front_of`] has an address: names are looked up in the background.
pub fn until_names_are_known(gateway: &Gateway, faults: &[UpstreamFault]) {
    let pooled =
        faults.iter().filter(|fault| fault.server_kind == ServerKind::Pooled).map(|fault| fault.name);
    for name in ServerKind::ALL.iter().map(|place| place.upstream_name()).chain(pooled) {
        while let Some(id) = unanswered_at(gateway, name) {
            if gateway.log_line(|line| line["request_id"] == id.as_str())["cause"] != "dns_error" {
                break;
            }
        }
    }
}

/// The id of a request to this upstream that failed.
fn unanswered_at(gateway: &Gateway, upstream: &str) -> Option<String> {
    let answer = gateway.client().get(&path_to(upstream));
    (answer.status == 504).then(|| answer.field("x-request-id").unwrap().to_owned())
}

fn path_to(upstream: &str) -> String {
    format!("/known/{upstream}")
}

/// Plays the rows, so many at once; panics with the names of those that failed.
#[track_caller]
pub fn for_each_at_once(faults: &[UpstreamFault], play: impl Fn(&UpstreamFault) + Sync) {
    let next = AtomicUsize::new(0);
    let (next, play) = (&next, &play);
    let mut broken: Vec<&str> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..AT_ONCE)
            .map(|_| {
                scope.spawn(move || {
                    let mut broken = Vec::new();
                    while let Some(fault) = faults.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let played = std::panic::AssertUnwindSafe(|| play(fault));
                        if std::panic::catch_unwind(played).is_err() {
                            broken.push(fault.name);
                        }
                    }
                    broken
                })
            })
            .collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    broken.sort_unstable();
    assert_eq!(broken, Vec::<&str>::new(), "these rows failed, see above");
}

/// Most rows wait; the machine has two processors.
const AT_ONCE: usize = 32;

/// Asks what the row asks; the last answer.
#[track_caller]
pub fn ask(client: &mut Client, fault: &UpstreamFault) -> Answer {
    let body = String::from_utf8(fault.request.body.to_vec()).unwrap();
    let mut asked = || client.ask(fault.request.method, &fault.path(), fault.request.header_lines, &body);
    for _ in 1..fault.request.count {
        // Where another client plays the same row by another method, its fault may come to this request.
        let served = (0..4).any(|_| asked().status == 200);
        assert!(served, "{}: before the fault", fault.name);
    }
    asked()
}

fn check(gateway: &Gateway, fault: &UpstreamFault) {
    let name = fault.name;
    let mut client = gateway.client();
    let answer = ask(&mut client, fault);
    assert_eq!(answer.status, fault.outcome.status(), "{name}: {answer:#?}\n{}", answer.text());
    check_outcome(fault, &answer);
    for (field, value) in fault.kept_headers {
        assert_eq!(answer.field(field), Some(*value), "{name}: {answer:#?}");
    }
    for field in fault.removed_headers {
        assert!(!answer.fields.iter().any(|(found, _)| found == field), "{name}: {field} in {answer:#?}");
    }
    let interim: Vec<u16> = answer.interim.iter().map(|(status, _)| *status).collect();
    assert_eq!(interim, fault.interim_statuses, "{name}");
    assert_eq!(answer.connection_usable, fault.keeps_client_connection(), "{name}: {answer:#?}");
    if answer.connection_usable {
        client.get("/no-such-route").is_made(404);
    }
}

fn check_outcome(fault: &UpstreamFault, answer: &Answer) {
    let name = fault.name;
    let asked = Asked::Http11(fault.request.method);
    match fault.outcome {
        FaultOutcome::LocalReply { code, reason: why } => {
            let message = match fault.expected_message {
                ExpectedMessage::ContractDefault => text_of(code),
                ExpectedMessage::FromUpstream(message) => message,
            };
            check_made(answer, asked, code, message);
            if asked.head() {
                // What GET would have got is known for our own answer, and unknown for one in the place of a page.
                let length = match why {
                    ReplyReason::Fault(_) => Some(body_of(code, message).len().to_string()),
                    ReplyReason::Status(_) => None,
                };
                assert_eq!(answer.field("content-length"), length.as_deref(), "{name}: {answer:#?}");
            }
        }
        FaultOutcome::Forwarded { .. } => {
            assert_eq!(answer.ended, Ended::Complete, "{name}");
            assert!(answer.body == fault.body, "{name}: {answer:#?}\n{}", answer.text());
        }
        FaultOutcome::Aborted { .. } => {
            assert!(
                matches!(answer.ended, Ended::Cut { .. } | Ended::Reset { .. }),
                "{name}: not visibly cut: {answer:#?}"
            );
            assert!(fault.body.starts_with(&answer.body), "{name}: {:?}", answer.text());
        }
    }
}

/// Sums first, then each row's own counters; and no connection ended without a response.
fn check_accounts(gateway: &Gateway, faults: &[UpstreamFault]) {
    gateway.expect_accounts_to_agree();
    let aborted: Vec<&str> = faults
        .iter()
        .filter(|fault| matches!(fault.outcome, FaultOutcome::Aborted { .. }))
        .map(|fault| fault.outcome.cause_name())
        .collect();
    gateway.expect_metric("aborted_total", &[], aborted.len() as f64);
    for cause in &aborted {
        let count = aborted.iter().filter(|other| *other == cause).count();
        gateway.expect_metric("aborted_total", &[("cause", cause)], count as f64);
    }
    gateway.expect_metric("closed_without_response_total", &[], 0.0);
    gateway.expect_metric("client_disconnects_total", &[], 0.0);
    gateway.expect_metric("panics_total", &[], 0.0);
    gateway.expect_metric("requests_in_flight", &[], 0.0);
    let metrics = gateway.metrics();
    let mut wrong = Vec::new();
    for fault in faults {
        let code = fault.outcome.status().to_string();
        let same = if fault.outcome.status() == 200 { fault.request.count } else { 1 };
        let errors = u32::from(fault.outcome.status() >= 400);
        let cause = fault.outcome.cause_name();
        for (metric, labels, wanted) in [
            ("responses_total", &[("route", fault.name)][..], fault.request.count),
            ("responses_total", &[("route", fault.name), ("code", &code)], same),
            ("errors_total", &[("route", fault.name)], errors),
            ("errors_total", &[("route", fault.name), ("code", &code), ("cause", cause)], errors),
        ] {
            let found = sum(&metrics, metric, labels);
            if found != f64::from(wanted) {
                wrong.push(format!("{metric} {labels:?} is {found}, not {wanted}"));
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

fn sum(metrics: &[Series], name: &str, labels: &[(&str, &str)]) -> f64 {
    metrics.iter().filter(|series| series.is(name, labels)).map(|series| series.value).sum()
}
