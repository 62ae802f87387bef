//! Client connections: keep-alive, close and its announcement, in HTTP/1.1 and HTTP/1.0, with single and pipelined
//! requests.

use statusquo::conformance::PeerClose;

use super::prelude::*;
use super::response_reader::MessageFraming;

#[test]
fn refused_upstream_keeps_the_client_connection_open() {
    let refusing = refusing_port();
    let gateway = GatewaySetup::with_servers(&[refusing.address()]).start();
    let mut client = gateway.client();
    for _ in 0..3 {
        let response = client.get("/");
        response.assert_local_reply(504);
        assert!(response.connection_usable);
    }
    gateway.expect_metric("errors_total", &[("cause", "connection_refused"), ("code", "504")], 3.0);
}

#[test]
fn request_without_a_route_gets_404_and_keeps_the_connection() {
    let upstream = ok_upstream("here");
    let gateway =
        Gateway::with_upstream(&upstream).route("name: here, match: { path: /here }, upstream: main").start();
    let mut client = gateway.client();
    client.get("/elsewhere").assert_local_reply(404);
    client.get("/here").assert_response(200, "here");
    gateway.expect_metric("errors_total", &[("route", "none"), ("cause", "destination_not_found")], 1.0);
    gateway.expect_metric("responses_total", &[("route", "none"), ("code", "404"), ("origin", "proxy")], 1.0);
}

#[test]
fn pipelined_requests_get_responses_in_order_with_errors_between() {
    let upstream = by_request(|request| match request.path() {
        "/bad" => vec![
            Step::ReadRequestHead,
            Step::Write(http_response("502 Bad Gateway\ncontent-type: text/html", "<p>")),
        ],
        path => vec![Step::ReadRequestHead, Step::Write(http_response("200 OK", path))],
    });
    let gateway = Gateway::with_upstream(&upstream).start();
    let mut client = gateway.client();
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n");
    let post = "POST /3 HTTP/1.1\r\nhost: test\r\ncontent-length: 4\r\n\r\nbody";
    client.send([&get("/1"), &get("/bad"), post, &get("/a/../b"), &get("/5")].map(str::to_owned).concat());
    client.read(SentRequest::Http11("GET")).assert_response(200, "/1");
    client.read(SentRequest::Http11("GET")).assert_local_reply(504);
    client.read(SentRequest::Http11("POST")).assert_response(200, "/3");
    let fourth = client.read(SentRequest::Http11("GET"));
    assert_eq!(fourth.status, 400);
    if fourth.connection_usable {
        client.read(SentRequest::Http11("GET")).assert_response(200, "/5");
    } else {
        client.expect_close();
    }
    gateway.expect_metrics_match_responses();
}

#[test]
fn connection_close_is_honoured_after_success_and_after_error() {
    let upstream = by_request(|request| match request.path() {
        "/bad" => {
            vec![Step::ReadRequestHead, Step::Write(http_response("502 Bad Gateway", "<p>"))]
        }
        _ => vec![Step::ReadRequestHead, Step::Write(http_response("200 OK", "fine"))],
    });
    let gateway = Gateway::with_upstream(&upstream).start();
    for (path, status) in [("/", 200), ("/bad", 504), ("/a/../b", 400)] {
        let mut client = gateway.client();
        let response = client.request("GET", path, "connection: close\r\n", "");
        assert_eq!(response.status, status);
        assert!(response.has_connection_close(), "{response:#?}");
        client.expect_close();
    }
}

#[test]
fn http10_response_is_not_chunked_and_closes() {
    let upstream =
        static_response("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n");
    let gateway = Gateway::with_upstream(&upstream).start();
    let mut client = gateway.client();
    let response = client.exchange(SentRequest::Http10("GET"), "GET / HTTP/1.0\r\nhost: test\r\n\r\n");
    response.assert_response(200, "abc");
    assert_eq!(response.framing, MessageFraming::CloseDelimited);
}

#[test]
fn http10_error_has_content_length_and_honours_keep_alive() {
    let upstream = html_upstream("502 Bad Gateway");
    let gateway = Gateway::with_upstream(&upstream).start();
    let mut closing = gateway.client();
    let response = closing.exchange(SentRequest::Http10("GET"), "GET / HTTP/1.0\r\nhost: test\r\n\r\n");
    response.assert_local_reply(504);
    closing.expect_close();
    let mut kept = gateway.client();
    for _ in 0..2 {
        let request = "GET / HTTP/1.0\r\nhost: test\r\nconnection: keep-alive\r\n\r\n";
        let response = kept.exchange(SentRequest::Http10("GET"), request);
        response.assert_local_reply(504);
        assert!(response.connection_usable, "{response:#?}");
    }
}

#[test]
fn http10_request_without_host_is_served() {
    let upstream = ok_upstream("old");
    let gateway = Gateway::with_upstream(&upstream).start();
    gateway
        .client()
        .exchange(SentRequest::Http10("GET"), "GET / HTTP/1.0\r\n\r\n")
        .assert_response(200, "old");
}

#[test]
fn local_reply_to_head_has_the_content_length_of_get() {
    let refusing = refusing_port();
    let gateway = GatewaySetup::with_servers(&[refusing.address()]).start();
    let mut client = gateway.client();
    let head = client.request("HEAD", "/", "", "");
    let get = client.get("/");
    assert_eq!((head.status, get.status), (504, 504));
    assert_eq!(head.header("content-length"), Some(get.body.len().to_string().as_str()));
    assert_eq!(head.header("content-type"), Some("application/json"));
}

#[test]
fn bodiless_statuses_have_no_body() {
    for (head, status) in [
        ("HTTP/1.1 204 No Content\r\ncontent-type: application/json\r\n\r\n", 204),
        ("HTTP/1.1 304 Not Modified\r\netag: \"7\"\r\ncontent-length: 100\r\n\r\n", 304),
    ] {
        let upstream = static_response(head);
        let gateway = Gateway::with_upstream(&upstream).start();
        let mut client = gateway.client();
        for _ in 0..2 {
            let response = client.get("/");
            assert_eq!((response.status, response.framing), (status, MessageFraming::Bodyless));
        }
        assert_eq!(upstream.connection_count(), 1);
    }
}

#[test]
fn no_content_response_keeps_its_content_type() {
    let upstream = static_response("HTTP/1.1 204 No Content\r\ncontent-type: application/json\r\n\r\n");
    let gateway = Gateway::with_upstream(&upstream).start();
    assert_eq!(gateway.client().get("/").header("content-type"), Some("application/json"));
}

#[test]
fn client_disconnect_while_waiting_frees_the_upstream_and_is_counted() {
    for leave in [super::http1_client::Client::reset as fn(super::http1_client::Client), drop] {
        let upstream = script([Step::ReadRequestHead, Step::ReadUntilClose]);
        let gateway = Gateway::with_upstream(&upstream).start();
        let mut client = gateway.client();
        client.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n");
        assert!(upstream.wait_until(limit(), |seen| seen.requests().count() == 1));
        leave(client);
        assert!(upstream.wait_until(limit(), |seen| matches!(
            seen.connections[0].peer_close,
            Some(PeerClose::Fin | PeerClose::Reset)
        )));
        gateway.expect_metric("client_disconnects_total", &[("route", "all")], 1.0);
        gateway.expect_metric("closed_without_response_total", &[("cause", "client_gone")], 1.0);
        gateway.expect_metric("responses_total", &[], 0.0);
    }
}

#[test]
fn client_half_close_while_waiting_is_closed_and_counted() {
    let upstream = script([Step::ReadRequestHead, Step::ReadUntilClose]);
    let gateway = Gateway::with_upstream(&upstream).start();
    let mut client = gateway.client();
    client.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n");
    assert!(upstream.wait_until(limit(), |seen| seen.requests().count() == 1));
    client.shutdown_write();
    assert_eq!(client.read_close(), NoResponse::Closed);
    gateway.expect_metric("closed_without_response_total", &[("cause", "client_gone")], 1.0);
}

/// Opens a connection that keeps its place: only connections that have served a request lose it while they are idle.
/// `count` is the number of connections to the listener including this one.
pub fn hold_place(gateway: &Gateway, count: u32) -> Client {
    let client = gateway.client();
    gateway.expect_metric("connections", &[("listener", &gateway.address().to_string())], f64::from(count));
    client
}

#[test]
fn connection_over_max_connections_gets_503_and_is_closed() {
    let upstream = ok_upstream("fine");
    let gateway = Gateway::with_upstream(&upstream).set("client.max_connections", "1").start();
    let mut first = hold_place(&gateway, 1);
    let mut second = gateway.client();
    second.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n");
    let response = second.read(SentRequest::Http11("GET"));
    response.assert_local_reply(503);
    assert!(response.has_connection_close());
    gateway.expect_metric("errors_total", &[("cause", "connection_limit_reached")], 1.0);
    first.get("/").assert_response(200, "fine");
}

#[test]
fn panic_becomes_a_documented_500_and_keeps_the_connection() {
    let upstream = ok_upstream("fine");
    let gateway =
        Gateway::with_upstream(&upstream).environment("STATUSQUO_TEST_PANIC", "1").may_panic().start();
    let mut client = gateway.client();
    let response = client.get("/__panic");
    response.assert_local_reply(500);
    assert!(response.connection_usable);
    client.get("/").assert_response(200, "fine");
    gateway.expect_metric("errors_total", &[("cause", "proxy_internal_error"), ("code", "500")], 1.0);
    gateway.expect_metric("panics_total", &[], 1.0);
    let line = gateway.log_line(|line| line["cause"] == "proxy_internal_error");
    assert_eq!((&line["level"], &line["outcome"]), (&"error".into(), &"internal_error".into()), "{line}");
}

/// Level `error` is for what a human must act on.
#[test]
fn internal_error_is_logged_at_level_error() {
    let upstream = html_upstream("502 Bad Gateway");
    let gateway = Gateway::with_upstream(&upstream)
        .environment("STATUSQUO_TEST_PANIC", "1")
        .set("log.level", "error")
        .may_panic()
        .start();
    gateway.client().get("/replaced").assert_local_reply(504);
    gateway.client().get("/__panic").assert_local_reply(500);
    gateway.log_line(|line| line["outcome"] == "internal_error");
    assert!(!gateway.log_text().contains("/replaced"));
}

#[test]
fn panic_path_is_ordinary_without_the_test_variable() {
    let upstream = ok_upstream("fine");
    let gateway = Gateway::with_upstream(&upstream).start();
    gateway.client().get("/__panic").assert_response(200, "fine");
}

/// Two pipelined requests and a half-close: the first response announces a persistent connection, so the second one
/// must follow.
#[test]
fn pipelined_request_gets_a_response_after_client_half_close() {
    let gate = Gate::new();
    let first = vec![
        Step::ReadRequestHead,
        write_bytes("HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\nfir"),
        Step::WaitForGate(gate.clone()),
        write_bytes("st, "),
    ];
    let upstream = super::scripted_upstreams::scripts([first, vec![Step::ReadRequestHead, Step::Close]]);
    let gateway = Gateway::with_upstream(&upstream).start();
    let mut client = gateway.client();
    client.send("GET / HTTP/1.1\r\nhost: test\r\n\r\nGET / HTTP/1.1\r\nhost: a b\r\n\r\n");
    client.wait_for("fir");
    client.shutdown_write();
    std::thread::sleep(millis(100)); // until the gateway has received the half-close
    gate.open();
    let response = client.read(SentRequest::Http11("GET"));
    assert_eq!((response.text().as_str(), response.connection_usable), ("first, ", true));
    let next = client.read(SentRequest::Http11("GET"));
    next.assert_local_reply_message(400, "The Host of the request is missing, repeated or malformed.");
    client.expect_close();
}

#[test]
fn every_request_opens_a_connection_when_keepalive_is_zero() {
    let upstream = ok_upstream("fine");
    let gateway = Gateway::with_upstream(&upstream).set("upstream.keepalive", "{ max: 0 }").start();
    let mut client = gateway.client();
    for _ in 0..3 {
        client.get("/").assert_response(200, "fine");
    }
    assert_eq!((upstream.request_count(), upstream.connection_count()), (3, 3));
}
