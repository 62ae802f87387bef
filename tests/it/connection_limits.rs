//! The connection limits: above `client.max_connections` the connection that has been idle longest gives its place to a
//! new one, and one client cannot take all places.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use statusquo::conformance::frames::frame_type;

use super::connections::hold_place;
use super::prelude::*;
use super::raw_h2_client::{RawH2Client, get_frame};
use super::tls_listener::tls_gateway;

const EVICTED: [(&str, &str); 1] = [("cause", "evicted")];

/// Connects until a connection is served: the gateway may notice that another one is idle after its response was read.
fn served_client(gateway: &Gateway) -> Client {
    let deadline = Instant::now() + limit();
    loop {
        let mut client = gateway.client();
        let response = client.get("/");
        if response.status == 200 {
            return client;
        }
        response.assert_local_reply(503);
        assert!(Instant::now() < deadline, "no connection gives up its place");
    }
}

/// A client with another address of this host.
fn client_from(gateway: &Gateway, address: &str) -> Client {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let address: SocketAddr = format!("{address}:0").parse().unwrap();
    socket.bind(&address.into()).unwrap();
    socket.connect(&gateway.address().into()).unwrap();
    Client::over(TcpStream::from(socket))
}

#[test]
fn longest_idle_connection_gives_its_place_to_a_new_one() {
    let upstream = ok_upstream("fine");
    // With one worker, a response is read after the connection of an earlier one is idle.
    let gateway =
        Gateway::with_upstream(&upstream).set("client.max_connections", "3").set("workers", "1").start();
    let mut silent = hold_place(&gateway, 1);
    let (mut used_later, mut longest_idle) = (gateway.client(), gateway.client());
    used_later.get("/").assert_response(200, "fine");
    longest_idle.get("/").assert_response(200, "fine");
    used_later.get("/").assert_response(200, "fine");
    let mut newest = served_client(&gateway);
    longest_idle.expect_close();
    gateway.expect_metric("closed_without_response_total", &EVICTED, 1.0);
    for client in [&mut used_later, &mut newest, &mut silent] {
        client.get("/").assert_response(200, "fine");
    }
    // The next one takes its place when it connects, before it sends a request.
    let mut silent = gateway.client();
    used_later.expect_close();
    gateway.expect_metric("closed_without_response_total", &EVICTED, 2.0);
    silent.get("/").assert_response(200, "fine");
    gateway.expect_metric("closed_without_response_total", &[], 2.0);
}

/// Serves everything at once, but `/held` when the gate opens.
fn holding_upstream(gate: &Gate) -> ScriptedUpstream {
    let held = gate.clone();
    by_request(move |request| {
        let response = Step::Write(http_response("200 OK", "fine"));
        match request.path() {
            "/held" => vec![Step::WaitForGate(held.clone()), response],
            _ => vec![response],
        }
    })
}

#[test]
fn busy_connections_keep_their_places() {
    let gate = Gate::new();
    let upstream = holding_upstream(&gate);
    let gateway =
        Gateway::with_upstream(&upstream).set("client.max_connections", "1").with_h2c_listener().start();
    let mut busy = gateway.client();
    busy.get("/").assert_response(200, "fine");
    busy.send("GET /held HTTP/1.1\r\nhost: test\r\n\r\n");
    gateway.expect_metric("requests_in_flight", &[], 1.0);
    gateway.client().get("/").assert_local_reply(503);
    gateway.h2_client().get("/").assert_local_reply(503);
    let line = gateway.log_line(|line| line["cause"] == "connection_limit_reached");
    assert_eq!(
        line["evidence"], "client.max_connections is reached, and no idle connection was found",
        "{line}"
    );
    gate.open();
    busy.read(SentRequest::Http11("GET")).assert_response(200, "fine");
    drop(served_client(&gateway));
    busy.expect_close();
    gateway.expect_metric("closed_without_response_total", &EVICTED, 1.0);
}

#[test]
fn http2_connection_without_streams_gets_goaway() {
    let gate = Gate::new();
    let upstream = holding_upstream(&gate);
    let gateway =
        Gateway::with_upstream(&upstream).set("client.max_connections", "1").with_h2c_listener().start();
    let listener = gateway.h2_address().to_string();
    std::thread::scope(|scope| {
        let client = scope.spawn(|| {
            let mut client = gateway.h2_client();
            let responses = client.get_all(&["/", "/held"]);
            (client, responses)
        });
        gateway.expect_metric("requests_in_flight", &[], 1.0);
        gateway.client().get("/").assert_local_reply(503);
        gate.open();
        let (_open, responses) = client.join().unwrap();
        responses.iter().for_each(|response| response.assert_response(200, "fine"));
        let mut first = served_client(&gateway);
        // The client closes its connection after GOAWAY.
        gateway.expect_metric("connections", &[("listener", &listener)], 0.0);
        gateway.expect_metric("closed_without_response_total", &EVICTED, 1.0);
        first.get("/").assert_response(200, "fine");
    });
}

#[test]
fn one_client_cannot_take_all_places() {
    let upstream = ok_upstream("fine");
    let setup = || {
        Gateway::with_upstream(&upstream)
            .set("client.max_connections", "10")
            .set("client.max_connections_per_client", "1")
    };
    let gateway = setup().start();
    let mut first = gateway.client();
    first.get("/").assert_response(200, "fine");
    let mut second = gateway.client();
    let response = second.get("/");
    response.assert_local_reply(503);
    assert!(response.has_connection_close(), "{response:#?}");
    let line = gateway.log_line(|line| line["cause"] == "connection_limit_reached");
    assert_eq!(line["evidence"], "client.max_connections_per_client is reached", "{line}");
    let mut other = client_from(&gateway, "127.0.0.2");
    other.get("/").assert_response(200, "fine");
    first.get("/").assert_response(200, "fine");
    gateway.expect_metric("closed_without_response_total", &[], 0.0);
    drop(first);
    served_client(&gateway);
    // A proxy connects for many clients.
    let gateway = setup().set("client.trusted_proxies", "[127.0.0.1]").start();
    let mut clients = [gateway.client(), gateway.client()];
    for client in &mut clients {
        client.get("/").assert_response(200, "fine");
    }
    client_from(&gateway, "127.0.0.2").get("/").assert_response(200, "fine");
}

#[test]
fn slow_request_over_the_limit_gets_503_and_a_silent_connection_is_counted() {
    let upstream = ok_upstream("fine");
    let gateway = Gateway::with_upstream(&upstream)
        .set("client.max_connections", "1")
        .set("client.header_timeout", "50s")
        .start();
    let mut first = hold_place(&gateway, 1);
    let (mut slow, mut silent) = (gateway.client(), gateway.client());
    slow.send("GET / HTTP/1.1\r\nhost: te");
    slow.read(SentRequest::Http11("GET")).assert_local_reply(503);
    assert_eq!(silent.read_close(), NoResponse::Closed);
    let labels = [("cause", "connection_limit_reached")];
    gateway.expect_metric("errors_total", &labels, 1.0);
    gateway.expect_metric("closed_without_response_total", &labels, 1.0);
    gateway.expect_metric("closed_without_response_total", &[], 1.0);
    first.get("/").assert_response(200, "fine");
}

#[test]
fn http2_request_over_the_limit_is_served_if_a_place_is_free_by_then() {
    let upstream = ok_upstream("fine");
    let gateway =
        Gateway::with_upstream(&upstream).set("client.max_connections", "1").with_h2c_listener().start();
    let listener = gateway.address().to_string();
    let deadline = Instant::now() + limit();
    loop {
        let first = hold_place(&gateway, 1);
        let mut waiting = RawH2Client::connect(gateway.h2_address(), &[], &[]);
        waiting.read_until(frame_type::SETTINGS);
        drop(first);
        gateway.expect_metric("connections", &[("listener", &listener)], 0.0);
        waiting.send(get_frame(1));
        let frame = waiting.read_until_frame(|frame| {
            frame.frame_type == frame_type::GOAWAY
                || (frame.frame_type, frame.stream) == (frame_type::DATA, 1)
        });
        if frame.payload == b"fine"[..] {
            waiting.send(get_frame(3));
            return waiting.expect_fine(3);
        }
        // On a busy machine the connection may have waited for more than 1 s before the place was free.
        assert!(Instant::now() < deadline, "never served: {frame:?}");
    }
}

#[test]
fn unfinished_tls_handshake_over_the_limit_is_counted_as_over_the_limit() {
    let upstream = ok_upstream("fine");
    let setup = Gateway::with_upstream(&upstream).set("client.max_connections", "1");
    let (gateway, _) = tls_gateway(setup.set("client.header_timeout", "50s"));
    let _first = hold_place(&gateway, 1);
    for (begin, closed) in [(&[][..], 1.0), (&[0x16, 3, 1], 2.0)] {
        let mut slow = TcpStream::connect(gateway.address()).unwrap();
        slow.set_read_timeout(Some(limit())).unwrap();
        slow.write_all(begin).unwrap();
        let end = slow.read(&mut [0; 64]).map_err(|error| error.kind());
        assert!(matches!(end, Ok(0) | Err(ErrorKind::ConnectionReset)), "{end:?}");
        let labels = [("cause", "connection_limit_reached")];
        gateway.expect_metric("closed_without_response_total", &labels, closed);
        gateway.expect_metric("closed_without_response_total", &[], closed);
    }
}
