//! `explain` against the wire where there is too much of something: requests at an upstream, requests in line, descriptors,
//! bytes that an upstream does not take. The rest of the causes is in [`super::commands_explain`].

use statusquo::rehearse::{Gate, ScriptedUpstream, UpstreamStep, http_response};

use super::client::Client;
use super::commands_explain::{agrees, explained};
use super::gateway::{Gateway, Setup};
use super::reader::Asked;
use super::upstreams::{by_request, script};

const MEMBERS: &str = "[type, request_id, retryable, request_sent]";

/// One request is at the upstream and stays there.
fn full(upstream: &ScriptedUpstream, concurrency: &str) -> (Gateway, Client) {
    let gateway = Gateway::in_front_of(upstream)
        .set("upstream.concurrency", concurrency)
        .set("errors.include", MEMBERS)
        .start();
    let mut first = gateway.client();
    first.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n");
    gateway.expect_metric("requests_in_flight", &[], 1.0);
    (gateway, first)
}

#[test]
fn explain_equals_the_wire_for_a_full_queue_and_for_a_wait_in_vain() {
    let upstream = script([UpstreamStep::ReadRequestHead, UpstreamStep::ReadUntilClose]);
    for (concurrency, cause) in [
        ("{ max: 1, queue: 0 }", "queue_full"),
        ("{ max: 1, queue: 1, queue_timeout: 300ms }", "queue_timeout"),
    ] {
        let (gateway, _first) = full(&upstream, concurrency);
        let answer = gateway.client().get("/");
        assert_eq!(answer.status, 503);
        agrees(&gateway, &explained(&gateway, &format!("--cause {cause}")), &answer);
    }
}

#[test]
fn explain_equals_the_wire_for_an_upstream_that_takes_nothing() {
    let upstream = script([UpstreamStep::ReadRequestHead, UpstreamStep::Stall]);
    let gateway = Setup::of_servers(&[upstream.address()])
        .set("timeouts.between_bytes", "300ms")
        .set("client.max_body", "100MB")
        .set("errors.include", MEMBERS)
        .start();
    let mut client = gateway.client();
    client.send("POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 64000000\r\n\r\n");
    let mut writer = client.writer();
    let sending = std::thread::spawn(move || std::io::Write::write_all(&mut writer, &vec![b'x'; 64_000_000]));
    let mut answer = client.read(Asked::Http11("POST"));
    // The rest of the upload is not worth reading: `explain` says so in a note.
    answer.fields.retain(|(name, _)| name != "connection");
    let made = explained(&gateway, "--cause connection_write_timeout --method POST");
    agrees(&gateway, &made, &answer);
    drop(client);
    let _ = sending.join().unwrap();
}

#[test]
fn explain_equals_the_wire_where_descriptors_are_used_up() {
    let gate = Gate::new();
    let opened = gate.clone();
    let upstream = by_request(move |_| {
        vec![UpstreamStep::WaitForGate(opened.clone()), UpstreamStep::Write(http_response("200 OK", ""))]
    });
    let gateway =
        Gateway::in_front_of(&upstream).descriptors(128).set("errors.include", MEMBERS).h2c().start();
    let answers = std::thread::scope(|scope| {
        let asking = scope.spawn(|| gateway.h2_client().get_all(&["/"; 120]));
        gateway.expect_metric_of_at_least("errors_total", &[("cause", "resource_exhausted")], 1.0);
        gate.open();
        asking.join().unwrap()
    });
    let mut answer = answers.into_iter().find(|answer| answer.status == 503).unwrap();
    // The names of its fields are in small letters, and HTTP/2 has no reason phrase.
    let made = explained(&gateway, "--cause resource_exhausted");
    answer.reason = made["answer"]["reason"].as_str().unwrap().to_owned();
    agrees(&gateway, &made, &answer);
}
