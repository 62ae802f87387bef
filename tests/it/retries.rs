//! Retries and the choice of a server: what is asked again, what never is, proven by what the upstream received.

use statusquo::rehearse::{ScriptedUpstream, UpstreamStep, http_response};

use super::gateway::{Gateway, Setup};
use super::load::limit;
use super::upstreams::{ok, refusing, script, scripts};

/// One good answer on a kept connection, then this in the next turn, then good answers.
fn once_good_then(second: Vec<UpstreamStep>) -> ScriptedUpstream {
    let good = vec![
        UpstreamStep::ReadRequestHead,
        UpstreamStep::ReadBody,
        UpstreamStep::Write(http_response("200 OK", "good")),
    ];
    scripts([good.clone(), second, good])
}

#[test]
fn a_refused_connection_is_tried_at_the_next_server_whatever_the_method() {
    let (refusing, upstream) = (refusing(), ok("second"));
    let gateway = Setup::of_servers(&[refusing.address(), upstream.address()]).start();
    let mut client = gateway.client();
    for _ in 0..2 {
        client.get("/").is(200, "second");
        client.ask("POST", "/", "", "once").is(200, "second");
    }
    let seen = upstream.recording();
    assert_eq!(seen.requests().filter(|request| request.body == b"once").count(), 2);
    assert_eq!(seen.requests().count(), 4);
    // Two of the four turns were the refusing server's.
    gateway.expect_metric("upstream_attempts_total", &[("result", "connection_refused")], 2.0);
    gateway.expect_metric("upstream_attempts_total", &[("result", "ok")], 4.0);
    gateway.expect_metric("upstream_retries_total", &[], 2.0);
}

#[test]
fn a_pooled_connection_that_closes_under_a_get_is_replaced_by_a_fresh_one() {
    let upstream = once_good_then(vec![UpstreamStep::ReadRequestHead, UpstreamStep::Close]);
    let gateway = Gateway::in_front_of(&upstream).start();
    let mut client = gateway.client();
    client.get("/1").is(200, "good");
    client.get("/2").is(200, "good");
    assert_eq!((upstream.connection_count(), upstream.recording().requests_for("/2")), (2, 2));
}

#[test]
fn a_pooled_connection_that_resets_under_a_put_is_replaced_and_the_body_sent_again() {
    let upstream =
        once_good_then(vec![UpstreamStep::ReadRequestHead, UpstreamStep::ReadBody, UpstreamStep::Reset]);
    let gateway = Gateway::in_front_of(&upstream).start();
    let mut client = gateway.client();
    client.get("/1").is(200, "good");
    client.ask("PUT", "/2", "", "the whole body").is(200, "good");
    let seen = upstream.recording();
    let puts: Vec<_> = seen.requests().filter(|request| request.head.method == "PUT").collect();
    assert_eq!(puts.len(), 2);
    assert!(puts.iter().all(|put| put.body == b"the whole body" && put.complete));
}

#[test]
fn a_post_reaches_an_upstream_once_whatever_becomes_of_it() {
    for last in [UpstreamStep::Close, UpstreamStep::Reset] {
        let upstream = once_good_then(vec![UpstreamStep::ReadRequestHead, UpstreamStep::ReadBody, last]);
        let gateway = Gateway::in_front_of(&upstream).start();
        let mut client = gateway.client();
        client.get("/1").is(200, "good");
        client.ask("POST", "/pay", "", "once").is_made(504);
        assert_eq!(upstream.recording().requests_for("/pay"), 1);
        gateway.expect_metric("errors_total", &[("cause", "connection_terminated")], 1.0);
        gateway.expect_metric("upstream_retries_total", &[], 0.0);
    }
}

#[test]
fn a_connection_that_was_closed_while_idle_is_not_used_even_for_a_post() {
    let good = || {
        vec![
            UpstreamStep::ReadRequestHead,
            UpstreamStep::ReadBody,
            UpstreamStep::Write(http_response("200 OK", "good")),
        ]
    };
    let closing = [good(), vec![UpstreamStep::Close]].concat();
    let upstream = scripts([closing, good()]);
    let gateway = Gateway::in_front_of(&upstream).start();
    let mut client = gateway.client();
    client.get("/1").is(200, "good");
    // The upstream's FIN is under way; once the gateway has closed its side too, the connection is out of the pool.
    let gone = |seen: &statusquo::rehearse::Recording| seen.connections[0].peer_close.is_some();
    assert!(upstream.wait_until(limit(), gone));
    client.ask("POST", "/2", "", "once").is(200, "good");
    assert_eq!(upstream.recording().requests_for("/2"), 1);
}

#[test]
fn nothing_is_tried_again_after_a_timeout() {
    let upstream = script([UpstreamStep::ReadRequestHead, UpstreamStep::ReadUntilClose]);
    let gateway = Gateway::in_front_of(&upstream).set("timeouts.response_head", "300ms").start();
    gateway.client().get("/").is_made(504);
    assert_eq!(upstream.request_count(), 1);
}

#[test]
fn nothing_is_tried_again_after_a_byte_of_an_answer() {
    let upstream = script([
        UpstreamStep::ReadRequestHead,
        UpstreamStep::Write("HTTP/1.1 2".into()),
        UpstreamStep::Close,
    ]);
    let gateway = Gateway::in_front_of(&upstream).start();
    gateway.client().get("/").is_made(504);
    assert_eq!(upstream.request_count(), 1);
}

#[test]
fn no_status_is_tried_again_unless_it_is_listed() {
    let scripts_of = || {
        let answer =
            |head: &str| vec![UpstreamStep::ReadRequestHead, UpstreamStep::Write(http_response(head, ""))];
        scripts([answer("503 Busy"), answer("200 OK")])
    };
    let once = scripts_of();
    let gateway = Gateway::in_front_of(&once).start();
    gateway.client().get("/").is_made(503);
    assert_eq!(once.request_count(), 1);
    let listed = scripts_of();
    let gateway =
        Gateway::in_front_of(&listed).set("upstream.retry", "{ attempts: 2, on_status: [503] }").start();
    gateway.client().get("/").is(200, "");
    assert_eq!(listed.request_count(), 2);
}

#[test]
fn attempts_are_bounded_by_their_number() {
    let upstream = script([UpstreamStep::ReadRequestHead, UpstreamStep::Close]);
    let gateway = Gateway::in_front_of(&upstream).set("upstream.retry", "{ attempts: 3 }").start();
    gateway.client().get("/").is_made(504);
    assert_eq!(upstream.request_count(), 3);
    gateway.expect_metric("upstream_attempts_total", &[], 3.0);
    gateway.expect_metric("errors_total", &[], 1.0);
}

#[test]
fn servers_take_turns() {
    let (a, b) = (ok("a"), ok("b"));
    let gateway = Setup::of_servers(&[a.address(), b.address()]).start();
    let mut client = gateway.client();
    let answers: Vec<_> = (0..6).map(|_| client.get("/").text()).collect();
    assert!(answers.windows(2).all(|pair| pair[0] != pair[1]), "{answers:?}");
    assert_eq!((a.request_count(), b.request_count()), (3, 3));
    assert_eq!((a.connection_count(), b.connection_count()), (1, 1));
}

#[test]
fn a_name_without_an_address_is_a_504_and_no_reason_not_to_start() {
    let upstream = ok("other");
    let gateway = Gateway::in_front_of(&upstream)
        .named_upstream("nowhere", &["no-such-name.invalid:80"])
        .route("name: nowhere, match: { path: /nowhere }, upstream: nowhere")
        .route("name: main, match: { path: / }, upstream: main")
        .start();
    let mut client = gateway.client();
    client.get("/nowhere").is_made(504);
    client.get("/").is(200, "other");
    gateway.expect_metric("errors_total", &[("route", "nowhere"), ("cause", "dns_error")], 1.0);
}

#[test]
fn address_without_a_route_to_it_is_a_504() {
    let gateway = Setup::of_named(&["255.255.255.255:80"]).start();
    gateway.client().get("/").is_made(504);
    gateway.expect_metric("errors_total", &[("cause", "destination_ip_unroutable")], 1.0);
}
