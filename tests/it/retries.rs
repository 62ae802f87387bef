//! Retries and server selection, asserted by what the upstream received.

use std::time::Duration;

use serde_json::Value;

use super::prelude::*;

/// One successful response on a kept connection, then `second`, then successful responses.
fn first_succeeds_then(second: Vec<Step>) -> ScriptedUpstream {
    let success = vec![Step::ReadRequestHead, Step::ReadBody, Step::Write(http_response("200 OK", "good"))];
    scripts([success.clone(), second, success])
}

#[test]
fn refused_connection_is_retried_at_the_next_server_for_any_method() {
    let (refusing, upstream) = (refusing_port(), ok_upstream("second"));
    let gateway = GatewaySetup::with_servers(&[refusing.address(), upstream.address()]).start();
    let mut client = gateway.client();
    for _ in 0..2 {
        client.get("/").assert_response(200, "second");
        client.request("POST", "/", "", "once").assert_response(200, "second");
    }
    let seen = upstream.recording();
    assert_eq!(seen.requests().filter(|request| request.body == b"once").count(), 2);
    assert_eq!(seen.requests().count(), 4);
    // Two of the four attempts went to the refusing server.
    gateway.expect_metric("upstream_attempts_total", &[("result", "connection_refused")], 2.0);
    gateway.expect_metric("upstream_attempts_total", &[("result", "ok")], 4.0);
    gateway.expect_metric("upstream_retries_total", &[], 2.0);
}

#[test]
fn pooled_connection_closed_during_get_is_retried_on_a_new_one() {
    let upstream = first_succeeds_then(vec![Step::ReadRequestHead, Step::Close]);
    let gateway = Gateway::with_upstream(&upstream).start();
    let mut client = gateway.client();
    client.get("/1").assert_response(200, "good");
    client.get("/2").assert_response(200, "good");
    assert_eq!((upstream.connection_count(), upstream.recording().requests_for("/2")), (2, 2));
}

#[test]
fn pooled_connection_reset_during_put_is_retried_with_its_body() {
    let upstream = first_succeeds_then(vec![Step::ReadRequestHead, Step::ReadBody, Step::Reset]);
    let gateway = Gateway::with_upstream(&upstream).start();
    let mut client = gateway.client();
    client.get("/1").assert_response(200, "good");
    client.request("PUT", "/2", "", "the whole body").assert_response(200, "good");
    let seen = upstream.recording();
    let puts: Vec<_> = seen.requests().filter(|request| request.head.method == "PUT").collect();
    assert_eq!(puts.len(), 2);
    assert!(puts.iter().all(|put| put.body == b"the whole body" && put.complete));
}

#[test]
fn post_reaches_an_upstream_at_most_once_on_close_and_reset() {
    for last in [Step::Close, Step::Reset] {
        let upstream = first_succeeds_then(vec![Step::ReadRequestHead, Step::ReadBody, last]);
        let gateway = Gateway::with_upstream(&upstream).start();
        let mut client = gateway.client();
        client.get("/1").assert_response(200, "good");
        client.request("POST", "/pay", "", "once").assert_local_reply(504);
        assert_eq!(upstream.recording().requests_for("/pay"), 1);
        gateway.expect_metric("errors_total", &[("cause", "connection_terminated")], 1.0);
        gateway.expect_metric("upstream_retries_total", &[], 0.0);
    }
}

#[test]
fn connection_closed_while_idle_is_not_reused_even_for_post() {
    let success =
        || vec![Step::ReadRequestHead, Step::ReadBody, Step::Write(http_response("200 OK", "good"))];
    let closing = [success(), vec![Step::Close]].concat();
    let upstream = scripts([closing, success()]);
    let gateway = Gateway::with_upstream(&upstream).start();
    let mut client = gateway.client();
    client.get("/1").assert_response(200, "good");
    // The upstream has sent FIN; once the gateway has closed its side too, the connection is out of the pool.
    let gone = |seen: &statusquo::conformance::Recording| seen.connections[0].peer_close.is_some();
    assert!(upstream.wait_until(limit(), gone));
    client.request("POST", "/2", "", "once").assert_response(200, "good");
    assert_eq!(upstream.recording().requests_for("/2"), 1);
}

#[test]
fn request_is_not_retried_after_a_timeout() {
    let upstream = script([Step::ReadRequestHead, Step::ReadUntilClose]);
    let gateway = Gateway::with_upstream(&upstream).set("timeouts.response_headers", "300ms").start();
    gateway.client().get("/").assert_local_reply(504);
    assert_eq!(upstream.request_count(), 1);
}

#[test]
fn request_is_not_retried_after_the_first_response_byte() {
    let upstream = script([Step::ReadRequestHead, Step::Write("HTTP/1.1 2".into()), Step::Close]);
    let gateway = Gateway::with_upstream(&upstream).start();
    gateway.client().get("/").assert_local_reply(504);
    assert_eq!(upstream.request_count(), 1);
}

#[test]
fn status_is_retried_only_if_listed() {
    let scripts_of = || {
        let response = |head: &str| vec![Step::ReadRequestHead, Step::Write(http_response(head, ""))];
        scripts([response("503 Busy"), response("200 OK")])
    };
    let once = scripts_of();
    let gateway = Gateway::with_upstream(&once).start();
    gateway.client().get("/").assert_local_reply(503);
    assert_eq!(once.request_count(), 1);
    let listed = scripts_of();
    let gateway =
        Gateway::with_upstream(&listed).set("upstream.retry", "{ attempts: 2, on_status: [503] }").start();
    gateway.client().get("/").assert_response(200, "");
    assert_eq!(listed.request_count(), 2);
}

#[test]
fn retries_stop_at_the_attempt_limit() {
    let ports: Vec<_> = (0..4).map(|_| refusing_port()).collect();
    let servers: Vec<_> = ports.iter().map(|port| port.address()).collect();
    let gateway = GatewaySetup::with_servers(&servers).set("upstream.retry", "{ attempts: 3 }").start();
    gateway.client().get("/").assert_local_reply(504);
    gateway.expect_metric("upstream_attempts_total", &[("result", "connection_refused")], 3.0);
    gateway.expect_metric("errors_total", &[], 1.0);
}

/// The server has read the request: if the request is what makes it fail, the next server would fail too.
#[test]
fn close_of_a_new_connection_is_not_retried() {
    let upstream = script([Step::ReadRequestHead, Step::Close]);
    let gateway = Gateway::with_upstream(&upstream).set("upstream.retry", "{ attempts: 3 }").start();
    gateway.client().get("/").assert_local_reply(504);
    assert_eq!(upstream.request_count(), 1);
    gateway.expect_metric("upstream_attempts_total", &[], 1.0);
}

#[test]
fn servers_are_used_round_robin() {
    let (a, b) = (ok_upstream("a"), ok_upstream("b"));
    let gateway = GatewaySetup::with_servers(&[a.address(), b.address()]).start();
    let mut client = gateway.client();
    let responses: Vec<_> = (0..6).map(|_| client.get("/").text()).collect();
    assert!(responses.windows(2).all(|pair| pair[0] != pair[1]), "{responses:?}");
    assert_eq!((a.request_count(), b.request_count()), (3, 3));
    assert_eq!((a.connection_count(), b.connection_count()), (1, 1));
}

#[test]
fn unresolvable_name_gets_504_and_does_not_prevent_start() {
    let upstream = ok_upstream("other");
    let gateway = Gateway::with_upstream(&upstream)
        .named_upstream("nowhere", &["no-such-name.invalid:80"])
        .route("name: nowhere, match: { path: /nowhere }, upstream: nowhere")
        .route("name: main, match: { path: / }, upstream: main")
        .start();
    let mut client = gateway.client();
    client.get("/nowhere").assert_local_reply(504);
    client.get("/").assert_response(200, "other");
    gateway.expect_metric("errors_total", &[("route", "nowhere"), ("cause", "dns_error")], 1.0);
}

#[test]
fn unroutable_address_gets_504() {
    let gateway = GatewaySetup::with_named_servers(&["255.255.255.255:80"]).start();
    gateway.client().get("/").assert_local_reply(504);
    gateway.expect_metric("errors_total", &[("cause", "destination_ip_unroutable")], 1.0);
}

#[test]
fn server_that_the_budget_keeps_from_being_tried_is_not_recorded() {
    let (refusing, upstream) = (refusing_port(), ok_upstream("second"));
    let gateway = GatewaySetup::with_servers(&[refusing.address(), upstream.address()])
        .set("upstream.ejection", "off")
        .start();
    let mut client = gateway.client();
    // More than the ten retries in 10 s that are always allowed.
    while client.get("/").status != 504 {}
    let line = gateway.log_line(|line| line["code"] == 504);
    assert_eq!((&line["server"], &line["attempts"]), (&refusing.address().to_string().into(), &Value::Null));
}

#[test]
fn record_of_an_attempt_has_nothing_of_the_one_before() {
    let (refusing, failing) = (
        refusing_port(),
        script([
            Step::ReadRequestHead,
            Step::Write(http_response("503 Service Unavailable", "busy")),
            Step::Close,
        ]),
    );
    let gateway = GatewaySetup::with_servers(&[refusing.address(), failing.address()])
        .set("upstream.retry", "{ on_status: [503] }")
        .start();
    let mut client = gateway.client();
    // Round robin: one of the two requests goes to the failing server first.
    let statuses = [client.get("/").status, client.get("/").status];
    assert_eq!(
        {
            let mut sorted = statuses;
            sorted.sort_unstable();
            sorted
        },
        [503, 504]
    );
    let line = gateway.log_line(|line| line["code"] == 504);
    assert_eq!(line["cause"], "connection_refused");
    for field in ["upstream_status", "response_headers_ms"] {
        assert_eq!(line[field], Value::Null, "{line:#}");
    }
}

#[test]
fn client_gets_at_most_16_interim_responses_of_all_attempts() {
    let hints = Step::WriteRepeated {
        bytes: "HTTP/1.1 103 Early Hints\r\nlink: <a>\r\n\r\n".into(),
        count: 10,
        interval: Duration::ZERO,
    };
    let attempt =
        |status| vec![Step::ReadRequestHead, hints.clone(), Step::Write(http_response(status, "end"))];
    let upstream = scripts([attempt("503 Service Unavailable"), attempt("200 OK")]);
    let gateway = Gateway::with_upstream(&upstream).set("upstream.retry", "{ on_status: [503] }").start();
    let mut client = gateway.client();
    client.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n");
    let response = client.read(SentRequest::Http11("GET"));
    assert_eq!((response.status, response.interim.len()), (200, 16));
}
