//! The table of upstream faults, row by row, against the executable: each row's outcome exactly as it stands there.
//!
//! The rows run at the same time, each on a route and a client connection of its own, so that one row's counters are its
//! own. Single faults that need more than a row are scenarios in the other files.

use std::time::Duration;

use statusquo::rehearse::{Message, Misbehaving, Outcome, UpstreamFault, upstream_faults};

use super::gateway::{Gateway, Setup};
use super::promise::text_of;
use super::reader::{Answer, Asked, Ended};

#[test]
fn every_fault_of_the_table_has_exactly_the_outcome_that_stands_there() {
    let misbehaving = Misbehaving::start().unwrap();
    let gateway = in_front_of(&misbehaving);
    let faults = upstream_faults();
    let broken: Vec<String> = std::thread::scope(|scope| {
        let rows: Vec<_> =
            faults.iter().map(|fault| (fault.name, scope.spawn(|| check(&gateway, fault)))).collect();
        rows.into_iter().filter_map(|(name, row)| row.join().is_err().then(|| name.to_owned())).collect()
    });
    assert_eq!(broken, Vec::<String>::new(), "these rows failed, see above");
    gateway.expect_accounts_to_agree();
}

fn in_front_of(misbehaving: &Misbehaving) -> Gateway {
    let [(_, scripted), others @ ..] = misbehaving.addresses();
    let mut setup = Setup::of_servers(&[scripted])
        .set("timeouts.connect", "400ms")
        .set("timeouts.response_head", "1s")
        .set("timeouts.between_bytes", "500ms")
        .limit(Duration::from_secs(20));
    for (name, address) in others {
        setup = setup.upstream(name, &[address]);
    }
    for fault in upstream_faults() {
        let upstream = if fault.place.name() == "misbehaving" { "main" } else { fault.place.name() };
        setup = setup.route(&format!(
            "name: {}, match: {{ path: {} }}, upstream: {upstream}",
            fault.name,
            fault.path()
        ));
    }
    setup.start()
}

fn check(gateway: &Gateway, fault: &UpstreamFault) {
    let mut client = gateway.client();
    let answer = client.get(&fault.path());
    assert_eq!(answer.status, fault.outcome.code(), "{}: {answer:#?}\n{}", fault.name, answer.text());
    for (name, value) in fault.keeps {
        assert_eq!(answer.field(name), Some(*value), "{}", fault.name);
    }
    check_outcome(fault, &answer);
    check_metrics(gateway, fault);
    if answer.ended == Ended::Complete {
        assert!(
            answer.connection_usable,
            "{}: the client's connection was given up: {answer:#?}",
            fault.name
        );
        client
            .exchange(Asked::Http11("GET"), "GET /no-such-route HTTP/1.1\r\nhost: test\r\n\r\n")
            .is_made(404);
    }
}

fn check_outcome(fault: &UpstreamFault, answer: &Answer) {
    match fault.outcome {
        Outcome::Answered { code, .. } => match fault.message {
            Message::OfTheCode => answer.is_made_saying(code, text_of(code)),
            Message::Kept(message) => answer.is_made_saying(code, message),
        },
        Outcome::Passed { .. } => {
            assert_eq!(
                (answer.text().as_bytes(), answer.ended),
                (&fault.body[..], Ended::Complete),
                "{}",
                fault.name
            );
        }
        Outcome::Aborted { .. } => {
            assert!(
                matches!(answer.ended, Ended::Cut { .. } | Ended::Reset { .. }),
                "{}: not visibly cut: {answer:#?}",
                fault.name
            );
            assert!(fault.body.starts_with(&answer.body), "{}: {:?}", fault.name, answer.text());
        }
    }
}

fn check_metrics(gateway: &Gateway, fault: &UpstreamFault) {
    let code = fault.outcome.code().to_string();
    gateway.expect_metric("responses_total", &[("route", fault.name), ("code", &code)], 1.0);
    let cause = fault.outcome.cause_name();
    match fault.outcome {
        Outcome::Answered { .. } | Outcome::Passed { .. } => {
            gateway.expect_metric(
                "errors_total",
                &[("route", fault.name), ("code", &code), ("cause", cause)],
                1.0,
            );
        }
        Outcome::Aborted { .. } => gateway.expect_metric(
            "aborted_total",
            &[("cause", cause)],
            upstream_faults().iter().filter(|other| aborted_by(other, cause)).count() as f64,
        ),
    }
}

fn aborted_by(fault: &UpstreamFault, cause: &str) -> bool {
    matches!(fault.outcome, Outcome::Aborted { .. }) && fault.outcome.cause_name() == cause
}
