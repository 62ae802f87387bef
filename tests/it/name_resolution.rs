//! Names of servers, against a scripted name server: what clients get while answers change, fail or do not arrive.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use statusquo::conformance::{NameReply, RecordType, ScriptedNameServer};

use super::commands_explain::{assert_explained, explain};
use super::gateway::run;
use super::prelude::*;

const SERVFAIL: u8 = 2;
const NXDOMAIN: u8 = 3;

/// A name server that gives the answer number `turn` to every question for an IPv4 address.
struct Names {
    server: ScriptedNameServer,
    turn: Arc<AtomicUsize>,
}

impl Names {
    fn answering(answers: Vec<NameReply>) -> Names {
        let turn = Arc::new(AtomicUsize::new(0));
        let current = Arc::clone(&turn);
        let server = ScriptedNameServer::start(move |question| {
            let reply = answers[current.load(Ordering::SeqCst)].clone();
            match (question.question_type, &reply) {
                (RecordType::A, _) | (_, NameReply::Silence | NameReply::Code(_)) => reply,
                _ => NameReply::Records(Vec::new()),
            }
        });
        Names { server: server.expect("a loopback port"), turn }
    }

    fn next(&self) {
        self.turn.fetch_add(1, Ordering::SeqCst);
    }

    /// A gateway whose only server is `app.test` on the port of this upstream.
    fn gateway(&self, upstream: &ScriptedUpstream) -> Gateway {
        GatewaySetup::with_named_servers(&[&format!("app.test:{}", upstream.address().port())])
            .set("resolver", &format!("\"{}\"", self.server.address()))
            .set("errors.include", "[type, request_id, retryable, request_sent]")
            .start()
    }

    /// Waits until this many further questions were asked.
    fn wait_for_questions(&self, count: usize) {
        let (deadline, before) = (Instant::now() + limit(), self.server.questions().len());
        while self.server.questions().len() < before + count {
            assert!(Instant::now() < deadline, "no further questions");
            std::thread::yield_now();
        }
    }
}

/// Requests until one has this status.
fn wait_for_status(gateway: &Gateway, status: u16) {
    let (mut client, deadline) = (gateway.client(), Instant::now() + limit());
    while client.get("/").status != status {
        assert!(Instant::now() < deadline, "no response with {status}");
    }
}

fn address(last: &str) -> NameReply {
    NameReply::addresses("app.test", 0, &[last])
}

#[test]
fn changed_answer_moves_requests_and_closes_idle_connections() {
    let upstream = ok_upstream("fine");
    let names = Names::answering(vec![address("127.0.0.1"), address("127.0.0.9"), address("127.0.0.1")]);
    let gateway = names.gateway(&upstream);
    gateway.client().get("/").assert_response(200, "fine");
    let labels = [("server", format!("app.test:{}", upstream.address().port()))];
    gateway.expect_metric("upstream_server_up", &[(labels[0].0, &labels[0].1)], 1.0);
    names.next();
    wait_for_status(&gateway, 504);
    gateway.expect_metric_of_at_least("errors_total", &[("cause", "connection_refused")], 1.0);
    let all_closed = |recording: &statusquo::conformance::Recording| {
        recording.connections.iter().all(|one| one.peer_close.is_some())
    };
    assert!(upstream.wait_until(limit(), all_closed), "connections to an address that is gone are closed");
    names.next();
    wait_for_status(&gateway, 200);
    gateway.expect_metrics_match_responses();
}

#[test]
fn failing_name_server_and_vanished_name_keep_the_last_addresses() {
    let upstream = ok_upstream("fine");
    let failures = [NameReply::Code(SERVFAIL), NameReply::Code(NXDOMAIN)];
    let names = Names::answering([&[address("127.0.0.1")][..], &failures].concat());
    let gateway = names.gateway(&upstream);
    for _ in failures {
        names.next();
        names.wait_for_questions(4);
        gateway.client().get("/").assert_response(200, "fine");
    }
    gateway.log_line(|line| {
        line["message"] == "DNS refresh failed; keeping previous addresses" && line["cause"] == "dns_error"
    });
    gateway.expect_metric("errors_total", &[], 0.0);
}

#[test]
fn silent_name_server_gets_504_dns_timeout_and_recovers() {
    let upstream = ok_upstream("fine");
    let names = Names::answering(vec![NameReply::Silence, address("127.0.0.1")]);
    let gateway = names.gateway(&upstream);
    let response = gateway.client().get("/");
    assert_eq!(response.status, 504);
    assert_explained(&gateway, &explain(&gateway, "--cause dns_timeout"), &response);
    gateway.expect_metric("errors_total", &[("cause", "dns_timeout")], 1.0);
    let server = format!("app.test:{}", upstream.address().port());
    gateway.expect_metric("upstream_server_up", &[("server", &server)], 0.0);
    names.next();
    wait_for_status(&gateway, 200);
    gateway.expect_metrics_match_responses();
}

#[test]
fn name_without_an_address_gets_504_dns_error_and_recovers() {
    let upstream = ok_upstream("fine");
    let names = Names::answering(vec![NameReply::Code(NXDOMAIN), address("127.0.0.1")]);
    let gateway = names.gateway(&upstream);
    assert_eq!(gateway.client().get("/").status, 504);
    gateway.expect_metric("errors_total", &[("cause", "dns_error")], 1.0);
    names.next();
    wait_for_status(&gateway, 200);
}

#[test]
fn unresolved_server_costs_no_attempt_while_another_one_works() {
    let upstream = ok_upstream("fine");
    let names = Names::answering(vec![NameReply::Code(NXDOMAIN)]);
    let servers = ["gone.test:80".to_owned(), upstream.address().to_string()];
    let gateway = GatewaySetup::with_named_servers(&servers.each_ref().map(String::as_str))
        .set("resolver", &format!("[\"{}\"]", names.server.address()))
        .set("upstream.retry", "{ attempts: 1 }")
        .start();
    let mut client = gateway.client();
    for _ in 0..10 {
        client.request("POST", "/", "", "once").assert_response(200, "fine");
    }
    gateway.expect_metric("upstream_attempts_total", &[], 10.0);
}

#[test]
fn addresses_and_localhost_are_never_asked_for() {
    let upstream = ok_upstream("fine");
    let names = Names::answering(vec![NameReply::Code(SERVFAIL)]);
    let port = upstream.address().port();
    for host in ["127.0.0.1", "localhost", "LOCALHOST"] {
        let gateway = GatewaySetup::with_named_servers(&[&format!("{host}:{port}")])
            .set("resolver", &format!("\"{}\"", names.server.address()))
            .start();
        gateway.client().get("/").assert_response(200, "fine");
    }
    assert_eq!(names.server.questions(), []);
}

#[test]
fn resolver_refuses_what_is_no_name_server() {
    let folder = TestFolder::new();
    for (value, expected) in [
        ("[]", "resolver: no name server is listed; "),
        ("dnsmasq", "resolver: \"dnsmasq\" is not the address of a name server; "),
        (
            "[10.0.0.53, \"10.0.0.54:0\"]",
            "resolver[1]: \"10.0.0.54:0\" is not the address of a name server; ",
        ),
        ("[dns, 10.0.0.53]", "resolver[0]: \"dns\" is not the address of a name server; "),
    ] {
        let text = format!("resolver: {value}\n{}", include_str!("../../config/minimal.yaml"));
        let file = folder.write("statusquo.yaml", &text);
        let (status, out, err) = run(&["check", file.to_str().unwrap()], &[]);
        let all = out + &err;
        assert_eq!(status, Some(78), "{value}: {all}");
        assert!(all.contains(expected), "{value}: {all}");
    }
    for value in ["dns", "system", "10.0.0.53", "[\"127.0.0.1:8600\", \"[::1]:53\"]"] {
        let text = format!("resolver: {value}\n{}", include_str!("../../config/minimal.yaml"));
        let file = folder.write("statusquo.yaml", &text);
        assert_eq!(run(&["check", file.to_str().unwrap()], &[]).0, Some(0), "{value}");
    }
}

/// The C library reads numbers that are no usual spelling of an address.
#[test]
fn system_resolver_uses_the_c_library() {
    let upstream = ok_upstream("fine");
    let servers = format!("127.1:{}", upstream.address().port());
    let gateway = GatewaySetup::with_named_servers(&[&servers]).set("resolver", "system").start();
    gateway.client().get("/").assert_response(200, "fine");
}
