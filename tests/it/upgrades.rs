//! Which upgrades reach the upstream, and the 101 that the client receives. `tunnel.rs` has what follows the 101.

use super::prelude::*;

const HANDSHAKE: &str = "GET /chat HTTP/1.1\r\nhost: test\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
    sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\r\n";

#[test]
fn framing_fields_of_a_101_are_removed() {
    for fields in [
        "transfer-encoding: chunked",
        "content-length: 0",
        "content-length: 5",
        "content-length: 5\r\ntransfer-encoding: chunked",
        "content-length: 1\r\ncontent-length: 2",
        "transfer-encoding: identity",
    ] {
        let switching = format!(
            "HTTP/1.1 101 Switching Protocols\r\n{fields}\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\
             sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
        );
        let upstream = script([Step::ReadRequestHead, write_bytes(switching), Step::EchoRaw, Step::Close]);
        let gateway = Gateway::with_upstream(&upstream).start();
        let mut client = gateway.client();
        let response = client.exchange(SentRequest::Http11("GET"), HANDSHAKE);
        assert_eq!(response.status, 101, "{fields}: {response:?}");
        for name in ["transfer-encoding", "content-length"] {
            assert_eq!(response.header(name), None, "{fields}");
        }
        client.send("5\r\nhello");
        client.wait_for("5\r\nhello");
    }
}

/// The requests of container clients: method and target, `Upgrade`, and a body.
const CONTAINER_REQUESTS: [(&str, &str, &str, &str); 6] = [
    ("POST", "/v1.43/exec/3f/start", "tcp", "{\"Detach\":false,\"Tty\":true}"),
    ("POST", "/v1.43/containers/3f/attach?stream=1&stdin=1", "tcp", ""),
    ("POST", "/api/v1/namespaces/n/pods/p/exec?command=sh", "SPDY/3.1", ""),
    ("POST", "/session", "h2c, example/2", "x"),
    ("PUT", "/stream", "example/2", "{}"),
    ("GET", "/stream", "example/2", "hello"),
];

#[test]
fn container_client_upgrades_by_post_with_a_body() {
    for (method, target, upgrade, body) in CONTAINER_REQUESTS {
        let protocol = upgrade.rsplit(", ").next().unwrap();
        let head = format!(
            "HTTP/1.1 101 UPGRADED\r\ncontent-type: application/vnd.docker.raw-stream\r\nconnection: Upgrade\r\n\
             upgrade: {protocol}\r\n\r\nready"
        );
        let upstream =
            script([Step::ReadRequestHead, Step::ReadBody, write_bytes(head), Step::EchoRaw, Step::Close]);
        let gateway = Gateway::with_upstream(&upstream)
            .route(
                "name: engine, match: { path: \"/{*rest}\" }, upstream: main, \
                 upgrades: [websocket, tcp, spdy/3.1, example/2]",
            )
            .start();
        let mut client = gateway.client();
        client.send(format!(
            "{method} {target} HTTP/1.1\r\nhost: test\r\nconnection: Upgrade\r\nupgrade: {upgrade}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        ));
        let response = client.read(SentRequest::Http11(method));
        assert_eq!((response.status, response.header("upgrade")), (101, Some(protocol)), "{target}");
        client.wait_for("ready");
        client.send("stdin");
        client.wait_for("readystdin");
        // The end of standard input; the rest of the output still arrives.
        client.send("last");
        client.shutdown_write();
        client.wait_for("readystdinlast");
        let recording = upstream.recording();
        let request = recording.requests().next().unwrap();
        assert_eq!(request.head.header("upgrade"), Some(protocol), "{target}");
        assert_eq!(request.head.header("connection"), Some("Upgrade"), "{target}");
        assert_eq!(request.body, body.as_bytes(), "{target}");
    }
}

#[test]
fn upgrade_with_a_chunked_body_or_websocket_by_post_is_an_ordinary_request() {
    let chunked = "transfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n";
    let counted = "content-length: 2\r\n\r\nhi";
    for (upgrade, rest) in
        [("tcp", chunked), ("websocket", counted), ("h2c", counted), ("websocket", chunked)]
    {
        let upstream = ok_upstream("served");
        let gateway = Gateway::with_upstream(&upstream)
            .route("name: engine, match: { path: \"/{*rest}\" }, upstream: main, upgrades: [websocket, tcp]")
            .start();
        let head =
            format!("POST / HTTP/1.1\r\nhost: test\r\nconnection: upgrade\r\nupgrade: {upgrade}\r\n{rest}");
        let mut client = gateway.client();
        client.exchange(SentRequest::Http11("POST"), head).assert_response(200, "served");
        client.get("/next").assert_response(200, "served");
        let recording = upstream.recording();
        assert!(recording.requests().all(|request| request.head.header("upgrade").is_none()), "{upgrade}");
    }
}

#[test]
fn refused_upgrade_by_post_is_an_ordinary_error_and_the_connection_stays() {
    let upstream = by_request(|request| {
        let status = if request.path() == "/next" { "200 OK" } else { "409 Conflict" };
        vec![Step::ReadBody, write_bytes(format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n"))]
    });
    let gateway = Gateway::with_upstream(&upstream)
        .route("name: engine, match: { path: \"/{*rest}\" }, upstream: main, upgrades: [tcp]")
        .start();
    let mut client = gateway.client();
    let fields = "connection: upgrade\r\nupgrade: tcp\r\n";
    client.request("POST", "/exec", fields, "{}").assert_local_reply(409);
    client.get("/next").assert_response(200, "");
}

#[test]
fn switch_before_the_body_was_requested_is_a_failed_upgrade() {
    let head = "HTTP/1.1 101 UPGRADED\r\nconnection: Upgrade\r\nupgrade: tcp\r\n\r\n";
    let upstream = script([Step::ReadRequestHead, write_bytes(head), Step::ReadUntilClose]);
    let gateway = Gateway::with_upstream(&upstream)
        .route("name: engine, match: { path: \"/{*rest}\" }, upstream: main, upgrades: [tcp]")
        .start();
    let mut client = gateway.client();
    client.send(
        "POST /exec HTTP/1.1\r\nhost: test\r\nconnection: upgrade\r\nupgrade: tcp\r\nexpect: 100-continue\r\n\
         content-length: 2\r\n\r\n",
    );
    client.read(SentRequest::Http11("POST")).assert_local_reply(504);
    gateway.expect_metric("errors_total", &[("cause", "http_upgrade_failed")], 1.0);
}
