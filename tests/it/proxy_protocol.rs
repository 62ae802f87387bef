//! PROXY protocol on listeners: which client address counts, what follows the header, and what is refused.

use std::io::Write as _;
use std::net::TcpStream;

use super::h2_client::H2Client;
use super::prelude::*;
use super::tls_client::TlsClient;
use super::tls_listener::tls_gateway;

const V1: &[u8] = b"PROXY TCP4 192.0.2.7 192.0.2.8 4000 443\r\n";
const V2: &[u8] =
    b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x10\xc0\x00\x02\x09\xc0\x00\x02\x08\x0f\xa0\x01\xbb\x04\x00\x01x";
const V2_IPV6: &[u8] = b"\r\n\r\n\x00\r\nQUIT\n\x21\x21\x00\x24\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x07\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x08\x0f\xa0\x01\xbb";
const V2_LOCAL: &[u8] = b"\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00";
const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: test\r\n\r\n";

/// Responds with the address that it received in `X-Forwarded-For`.
fn echo_upstream() -> ScriptedUpstream {
    by_request(|request| {
        let address = request.header("x-forwarded-for").unwrap_or("none").to_owned();
        vec![Step::ReadRequestHead, Step::Write(http_response("200 OK", &address))]
    })
}

fn sent(gateway: &Gateway, bytes: &[&[u8]]) -> Client {
    let mut client = gateway.client();
    for part in bytes {
        client.send(part);
    }
    client
}

#[test]
fn address_of_the_header_stands_for_the_peer() {
    let upstream = echo_upstream();
    let gateway = Gateway::with_upstream(&upstream)
        .proxy_protocol("[127.0.0.0/8]")
        .route("name: total, match: { path: \"/{*rest}\" }, upstream: main")
        .route("name: private, match: { path: \"/private\" }, upstream: main, allow_from: [\"192.0.2.7\"]")
        .start();
    for (header, address) in [
        (V1, "192.0.2.7"),
        (V2, "192.0.2.9"),
        (V2_IPV6, "2001:db8::7"),
        (V2_LOCAL, "127.0.0.1"),
        (b"PROXY UNKNOWN\r\n", "127.0.0.1"),
    ] {
        let mut client = sent(&gateway, &[header, GET]);
        client.read(SentRequest::Http11("GET")).assert_response(200, address);
        client.get("/again").assert_response(200, address);
    }
    sent(&gateway, &[V1]).get("/private").assert_response(200, "192.0.2.7");
    sent(&gateway, &[V2]).get("/private").assert_local_reply(403);
    let line = gateway.log_line(|line| line["cause"] == "http_request_denied");
    assert_eq!(line["client_ip"], "192.0.2.9");
}

#[test]
fn header_precedes_the_tls_handshake_and_http_2() {
    let upstream = echo_upstream();
    let (gateway, trusting) = tls_gateway(Gateway::with_upstream(&upstream).proxy_protocol("[127.0.0.1]"));
    let mut socket = TcpStream::connect(gateway.address()).unwrap();
    socket.write_all(V2).unwrap();
    let mut client = TlsClient::over(socket, "test", &trusting).unwrap();
    client.get("/").assert_response(200, "192.0.2.9");

    let gateway = Gateway::with_upstream(&upstream).proxy_protocol("[127.0.0.1]").with_h2c_listener().start();
    let mut socket = TcpStream::connect(gateway.h2_address()).unwrap();
    socket.write_all(V1).unwrap();
    let mut client = H2Client::over(socket);
    client.get("/").assert_response(200, "192.0.2.7");
}

#[test]
fn connections_without_a_valid_header_are_closed_and_counted() {
    let upstream = ok_upstream("fine");
    let gateway = Gateway::with_upstream(&upstream).proxy_protocol("[127.0.0.1]").start();
    let too_long = [b"PROXY UNKNOWN ".as_slice(), &[b'x'; 120], b"\r\n"].concat();
    let inputs: [&[u8]; 8] = [
        GET,
        b"PROXY TCP4 192.0.2.7 192.0.2.8 4000\r\n",
        b"PROXY TCP4 192.0.2.7 192.0.2.8 4000 443\n",
        b"PROXY UDP4 192.0.2.7 192.0.2.8 4000 443\r\n",
        b"\r\n\r\n\x00\r\nQUIT\n\x31\x11\x00\x00",
        b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\xff\xff",
        b"\r\n\r\n\x00\r\nQUIX",
        &too_long,
    ];
    for input in inputs {
        let mut client = sent(&gateway, &[input]);
        assert!(
            matches!(client.read_close(), NoResponse::Closed | NoResponse::Reset),
            "{}",
            input.escape_ascii()
        );
    }
    let mut client = sent(&gateway, &[b"PROXY TCP4 192."]);
    client.shutdown_write();
    client.expect_close();
    let labels = [("cause", "proxy_protocol_error")];
    gateway.expect_metric("closed_without_response_total", &labels, 9.0);
    assert_eq!(upstream.recording().requests().count(), 0);
}

#[test]
fn header_that_does_not_arrive_is_closed_after_the_header_timeout() {
    let upstream = ok_upstream("fine");
    let gateway = Gateway::with_upstream(&upstream)
        .proxy_protocol("[127.0.0.1]")
        .set("client.header_timeout", "300ms")
        .start();
    let mut client = sent(&gateway, &[b"PROXY TCP4 "]);
    client.expect_close();
    gateway.expect_metric("closed_without_response_total", &[("cause", "proxy_protocol_error")], 1.0);
}

#[test]
fn other_peers_are_closed_whatever_they_send() {
    let upstream = ok_upstream("fine");
    let gateway = Gateway::with_upstream(&upstream).proxy_protocol("[10.0.0.0/8]").start();
    let mut client = sent(&gateway, &[V1]);
    assert!(matches!(client.read_close(), NoResponse::Closed | NoResponse::Reset));
    gateway.expect_metric("closed_without_response_total", &[("cause", "proxy_protocol_error")], 1.0);
}

#[test]
fn connection_that_is_reset_without_a_byte_is_no_request() {
    let upstream = ok_upstream("fine");
    let gateway = Gateway::with_upstream(&upstream).proxy_protocol("[127.0.0.1]").start();
    gateway.client().reset();
    gateway.expect_metric("closed_without_response_total", &[("cause", "no_request")], 1.0);
    sent(&gateway, &[b"PROXY TCP4 192."]).reset();
    gateway.expect_metric("closed_without_response_total", &[("cause", "proxy_protocol_error")], 1.0);
}
