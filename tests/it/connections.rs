//! Connections of clients: kept, closed and announced as what they are, in HTTP/1.1 and HTTP/1.0, one request or many at once.

use statusquo::rehearse::{Gate, PeerClose, UpstreamStep, http_response, write_bytes};

use super::gateway::{Gateway, Setup};
use super::load::{limit, millis};
use super::reader::{Asked, Framing, Unanswered};
use super::upstreams::{answering, by_request, html, ok, refusing, script};

#[test]
fn a_refusal_keeps_the_clients_connection() {
    let refusing = refusing();
    let gateway = Setup::of_servers(&[refusing.address()]).start();
    let mut client = gateway.client();
    for _ in 0..3 {
        let answer = client.get("/");
        answer.is_made(504);
        assert!(answer.connection_usable);
    }
    gateway.expect_metric("errors_total", &[("cause", "connection_refused"), ("code", "504")], 3.0);
}

#[test]
fn a_request_without_a_route_is_404_and_the_connection_stays() {
    let upstream = ok("here");
    let gateway =
        Gateway::in_front_of(&upstream).route("name: here, match: { path: /here }, upstream: main").start();
    let mut client = gateway.client();
    client.get("/elsewhere").is_made(404);
    client.get("/here").is(200, "here");
    gateway.expect_metric("errors_total", &[("route", "none"), ("cause", "destination_not_found")], 1.0);
    gateway.expect_metric("responses_total", &[("route", "none"), ("code", "404"), ("origin", "proxy")], 1.0);
}

#[test]
fn five_requests_in_one_write_are_answered_in_order_with_errors_between() {
    let upstream = by_request(|request| match request.path() {
        "/bad" => vec![
            UpstreamStep::ReadRequestHead,
            UpstreamStep::Write(http_response("502 Bad Gateway\ncontent-type: text/html", "<p>")),
        ],
        path => vec![UpstreamStep::ReadRequestHead, UpstreamStep::Write(http_response("200 OK", path))],
    });
    let gateway = Gateway::in_front_of(&upstream).start();
    let mut client = gateway.client();
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n");
    let post = "POST /3 HTTP/1.1\r\nhost: test\r\ncontent-length: 4\r\n\r\nbody";
    client.send([&get("/1"), &get("/bad"), post, &get("/a/../b"), &get("/5")].map(str::to_owned).concat());
    client.read(Asked::Http11("GET")).is(200, "/1");
    client.read(Asked::Http11("GET")).is_made(504);
    client.read(Asked::Http11("POST")).is(200, "/3");
    let fourth = client.read(Asked::Http11("GET"));
    assert_eq!(fourth.status, 400);
    if fourth.connection_usable {
        client.read(Asked::Http11("GET")).is(200, "/5");
    } else {
        client.expect_close();
    }
    gateway.expect_accounts_to_agree();
}

#[test]
fn a_client_that_asks_for_a_close_gets_one_after_a_good_answer_and_after_an_error() {
    let upstream = by_request(|request| match request.path() {
        "/bad" => {
            vec![UpstreamStep::ReadRequestHead, UpstreamStep::Write(http_response("502 Bad Gateway", "<p>"))]
        }
        _ => vec![UpstreamStep::ReadRequestHead, UpstreamStep::Write(http_response("200 OK", "fine"))],
    });
    let gateway = Gateway::in_front_of(&upstream).start();
    for (path, status) in [("/", 200), ("/bad", 504), ("/a/../b", 400)] {
        let mut client = gateway.client();
        let answer = client.ask("GET", path, "connection: close\r\n", "");
        assert_eq!(answer.status, status);
        assert!(answer.says_close(), "{answer:#?}");
        client.expect_close();
    }
}

#[test]
fn http_1_0_gets_no_chunks_and_a_close() {
    let upstream = answering("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n");
    let gateway = Gateway::in_front_of(&upstream).start();
    let mut client = gateway.client();
    let answer = client.exchange(Asked::Http10("GET"), "GET / HTTP/1.0\r\nhost: test\r\n\r\n");
    answer.is(200, "abc");
    assert_eq!(answer.framing, Framing::Close);
}

#[test]
fn http_1_0_errors_have_a_length_and_keep_alive_holds_where_it_was_asked_for() {
    let upstream = html("502 Bad Gateway");
    let gateway = Gateway::in_front_of(&upstream).start();
    let mut closing = gateway.client();
    let answer = closing.exchange(Asked::Http10("GET"), "GET / HTTP/1.0\r\nhost: test\r\n\r\n");
    answer.is_made(504);
    closing.expect_close();
    let mut kept = gateway.client();
    for _ in 0..2 {
        let request = "GET / HTTP/1.0\r\nhost: test\r\nconnection: keep-alive\r\n\r\n";
        let answer = kept.exchange(Asked::Http10("GET"), request);
        answer.is_made(504);
        assert!(answer.connection_usable, "{answer:#?}");
    }
}

#[test]
fn http_1_0_without_a_host_is_served() {
    let upstream = ok("old");
    let gateway = Gateway::in_front_of(&upstream).start();
    gateway.client().exchange(Asked::Http10("GET"), "GET / HTTP/1.0\r\n\r\n").is(200, "old");
}

#[test]
fn a_head_error_of_our_own_tells_the_length_that_get_would_have() {
    let refusing = refusing();
    let gateway = Setup::of_servers(&[refusing.address()]).start();
    let mut client = gateway.client();
    let head = client.ask("HEAD", "/", "", "");
    let get = client.get("/");
    assert_eq!((head.status, get.status), (504, 504));
    assert_eq!(head.field("content-length"), Some(get.body.len().to_string().as_str()));
    assert_eq!(head.field("content-type"), Some("application/json"));
}

#[test]
fn bodyless_statuses_stay_bodyless() {
    for (head, status) in [
        ("HTTP/1.1 204 No Content\r\ncontent-type: application/json\r\n\r\n", 204),
        ("HTTP/1.1 304 Not Modified\r\netag: \"7\"\r\ncontent-length: 100\r\n\r\n", 304),
    ] {
        let upstream = answering(head);
        let gateway = Gateway::in_front_of(&upstream).start();
        let mut client = gateway.client();
        for _ in 0..2 {
            let answer = client.get("/");
            assert_eq!((answer.status, answer.framing), (status, Framing::Bodyless));
        }
        assert_eq!(upstream.connection_count(), 1);
    }
}

#[test]
fn a_204_keeps_its_content_type() {
    let upstream = answering("HTTP/1.1 204 No Content\r\ncontent-type: application/json\r\n\r\n");
    let gateway = Gateway::in_front_of(&upstream).start();
    assert_eq!(gateway.client().get("/").field("content-type"), Some("application/json"));
}

#[test]
fn a_client_that_leaves_while_it_waits_frees_the_upstream_and_is_counted() {
    for leave in [super::client::Client::reset as fn(super::client::Client), drop] {
        let upstream = script([UpstreamStep::ReadRequestHead, UpstreamStep::ReadUntilClose]);
        let gateway = Gateway::in_front_of(&upstream).start();
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
fn a_client_that_ends_its_sending_side_while_it_waits_is_closed_and_counted() {
    let upstream = script([UpstreamStep::ReadRequestHead, UpstreamStep::ReadUntilClose]);
    let gateway = Gateway::in_front_of(&upstream).start();
    let mut client = gateway.client();
    client.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n");
    assert!(upstream.wait_until(limit(), |seen| seen.requests().count() == 1));
    client.finish_sending();
    assert_eq!(client.end(), Unanswered::Closed);
    gateway.expect_metric("closed_without_response_total", &[("cause", "client_gone")], 1.0);
}

#[test]
fn beyond_the_largest_number_of_connections_one_is_answered_503_and_closed() {
    let upstream = ok("fine");
    let gateway = Gateway::in_front_of(&upstream).set("client.max_connections", "1").start();
    let mut first = gateway.client();
    first.get("/").is(200, "fine");
    let mut second = gateway.client();
    second.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n");
    let answer = second.read(Asked::Http11("GET"));
    answer.is_made(503);
    assert!(answer.says_close());
    gateway.expect_metric("errors_total", &[("cause", "connection_limit_reached")], 1.0);
    first.get("/").is(200, "fine");
}

#[test]
fn a_panic_of_our_own_is_a_documented_500_and_the_connection_stays() {
    let upstream = ok("fine");
    let gateway =
        Gateway::in_front_of(&upstream).environment("STATUSQUO_TEST_PANIC", "1").may_panic().start();
    let mut client = gateway.client();
    let answer = client.get("/__panic");
    answer.is_made(500);
    assert!(answer.connection_usable);
    client.get("/").is(200, "fine");
    gateway.expect_metric("errors_total", &[("cause", "proxy_internal_error"), ("code", "500")], 1.0);
    gateway.expect_metric("panics_total", &[], 1.0);
}

#[test]
fn without_the_tests_trigger_the_panic_path_is_an_ordinary_one() {
    let upstream = ok("fine");
    let gateway = Gateway::in_front_of(&upstream).start();
    gateway.client().get("/__panic").is(200, "fine");
}

/// Two requests at once, and no more to send: told that the connection stays, the client waits for its second answer.
#[test]
fn a_request_behind_an_answer_that_was_under_way_when_the_client_stopped_sending_is_not_forgotten() {
    let gate = Gate::new();
    let first = vec![
        UpstreamStep::ReadRequestHead,
        write_bytes("HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\nfir"),
        UpstreamStep::WaitForGate(gate.clone()),
        write_bytes("st, "),
    ];
    let upstream =
        super::upstreams::scripts([first, vec![UpstreamStep::ReadRequestHead, UpstreamStep::Close]]);
    let gateway = Gateway::in_front_of(&upstream).start();
    let mut client = gateway.client();
    client.send("GET / HTTP/1.1\r\nhost: test\r\n\r\nGET / HTTP/1.1\r\nhost: a b\r\n\r\n");
    client.wait_for("fir");
    client.finish_sending();
    std::thread::sleep(millis(100)); // until the gateway has seen that
    gate.open();
    let answer = client.read(Asked::Http11("GET"));
    assert_eq!((answer.text().as_str(), answer.connection_usable), ("first, ", true));
    let next = client.read(Asked::Http11("GET"));
    next.is_made_saying(400, "The Host of the request is missing, repeated or malformed.");
    client.expect_close();
}

#[test]
fn where_no_idle_connection_is_kept_every_request_has_one_of_its_own() {
    let upstream = ok("fine");
    let gateway = Gateway::in_front_of(&upstream).set("upstream.keepalive", "{ max: 0 }").start();
    let mut client = gateway.client();
    for _ in 0..3 {
        client.get("/").is(200, "fine");
    }
    assert_eq!((upstream.request_count(), upstream.connection_count()), (3, 3));
}
