//! Upgrades: which requests are upgraded, and what happens to the bytes of both directions after the 101.
//!
//! Handshakes and data are raw bytes, independent of a client library. `tests/sdks/websockets.rs` tests a real client
//! and server; rejected upgrades are rows of the fault table (`upstream_faults.rs`).

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use statusquo::conformance::PeerClose;

use super::certificates::Authority;
use super::connections::hold_place;
use super::h2_upstream::H2Server;
use super::prelude::*;
use super::tls_client::TlsClient;
use super::tls_server::TlsServer;

const WEBSOCKET_KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const SWITCHING: &str = "HTTP/1.1 101 Switching Protocols\r\nserver: chat/2\r\nupgrade: websocket\r\n\
    connection: Upgrade\r\nsec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\
    sec-websocket-protocol: chat\r\n\r\n";
/// Each test sets only the timeout under test to this time.
const SHORT_TIMEOUT: Duration = Duration::from_millis(400);

fn upgrade_request() -> String {
    format!(
        "GET /chat?room=1 HTTP/1.1\r\nhost: test\r\nconnection: keep-alive, Upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-key: {WEBSOCKET_KEY}\r\nsec-websocket-version: 13\r\nsec-websocket-protocol: chat\r\n\r\n"
    )
}

/// A server that sends 101 and then runs these steps.
fn upgrading_upstream(steps: impl IntoIterator<Item = Step>) -> ScriptedUpstream {
    script([Step::ReadRequestHead, write_bytes(SWITCHING)].into_iter().chain(steps))
}

/// The client side of a tunnel after the 101.
struct TunnelClient(TcpStream);

impl TunnelClient {
    /// Sends the handshake followed by `early`, and reads the 101.
    #[track_caller]
    fn open(gateway: &Gateway, early: &str) -> TunnelClient {
        TunnelClient::over_stream(TcpStream::connect(gateway.address()).unwrap(), early)
    }

    #[track_caller]
    fn over_stream(stream: TcpStream, early: &str) -> TunnelClient {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(limit())).unwrap();
        stream.set_write_timeout(Some(limit())).unwrap();
        let mut tunnel = TunnelClient(stream);
        tunnel.write(format!("{}{early}", upgrade_request()));
        let head = tunnel.read_head();
        assert!(head.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{head}");
        tunnel
    }

    fn read_head(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            self.0.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        String::from_utf8(head).unwrap()
    }

    #[track_caller]
    fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).unwrap();
    }

    #[track_caller]
    fn expect_bytes(&mut self, expected: &str) {
        let mut bytes = vec![0; expected.len()];
        self.0.read_exact(&mut bytes).unwrap();
        assert_eq!(String::from_utf8_lossy(&bytes), expected);
    }

    #[track_caller]
    fn expect_eof(&mut self) {
        assert_eq!(self.0.read(&mut [0; 16]).unwrap(), 0);
    }

    #[track_caller]
    fn expect_reset(&mut self) {
        let error = self.0.read(&mut [0; 16]).expect_err("a reset, and no clean end");
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }

    fn shutdown_write(&self) {
        self.0.shutdown(Shutdown::Write).unwrap();
    }

    fn reset(self) {
        socket2::SockRef::from(&self.0).set_linger(Some(Duration::ZERO)).unwrap();
    }
}

/// Asserts that the upstream has received exactly these bytes.
#[track_caller]
fn expect_received(upstream: &ScriptedUpstream, end: &str) {
    let arrived = upstream.wait_until(limit(), |seen| {
        seen.connections.iter().any(|connection| connection.raw.ends_with(end.as_bytes()))
    });
    assert!(arrived, "{:?}", upstream.recording());
}

#[track_caller]
fn expect_peer_close(upstream: &ScriptedUpstream, how: PeerClose) {
    upstream.wait_until(limit(), |seen| seen.connections[0].peer_close.is_some());
    assert_eq!(upstream.recording().connections[0].peer_close, Some(how));
}

#[test]
fn upgraded_connection_forwards_bytes_in_both_directions() {
    let upstream = upgrading_upstream([Step::EchoRaw, Step::Close]);
    let gateway = Gateway::with_upstream(&upstream).set("log.requests", "all").start();
    let mut client = gateway.client();
    client.send(upgrade_request());
    let response = client.read(SentRequest::Http11("GET"));
    assert_eq!((response.status, response.reason.as_str()), (101, "Switching Protocols"));
    for (name, value) in [
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
        ("sec-websocket-protocol", "chat"),
        ("server", "chat/2"),
    ] {
        assert_eq!(response.header(name), Some(value), "{response:#?}");
    }
    let id = response.header("x-request-id").unwrap().to_owned();
    for part in ["one", "\r\n\r\nGET / HTTP/1.1\r\n\r\n", "three"] {
        client.send(part);
        client.wait_for(part);
    }
    let head = upstream.recording().requests().next().unwrap().head.clone();
    assert_eq!((head.header("connection"), head.header("upgrade")), (Some("Upgrade"), Some("websocket")));
    assert_eq!(
        (head.header("sec-websocket-key"), head.target.as_str()),
        (Some(WEBSOCKET_KEY), "/chat?room=1")
    );
    gateway.expect_metric("requests_in_flight", &[], 1.0);
    client.shutdown_write();
    assert!(upstream.wait_until(limit(), |seen| seen.connections[0].peer_close.is_some()));
    let line = gateway.log_line(|line| line["request_id"] == id.as_str());
    assert_eq!(
        (&line["code"], &line["outcome"], &line["bytes_out"]),
        (&101.into(), &"forwarded".into(), &30.into())
    );
    gateway.expect_metric("requests_in_flight", &[], 0.0);
    gateway.expect_metric("responses_total", &[("code", "101"), ("origin", "upstream")], 1.0);
    gateway.expect_metric("aborted_total", &[], 0.0);
    gateway.expect_metric("client_disconnects_total", &[], 0.0);
    gateway.expect_metrics_match_responses();
    assert_eq!(upstream.request_count(), 1, "bytes of a tunnel are not requests");
}

#[test]
fn early_bytes_are_forwarded_only_after_the_101() {
    let gate = Gate::new();
    let upstream = script([
        Step::ReadRequestHead,
        Step::WaitForGate(gate.clone()),
        write_bytes(format!("{SWITCHING}early from the server")),
        Step::EchoRaw,
        Step::Close,
    ]);
    let gateway = Gateway::with_upstream(&upstream).start();
    let stream = TcpStream::connect(gateway.address()).unwrap();
    let opened = std::thread::spawn(move || TunnelClient::over_stream(stream, "early from the client"));
    assert!(upstream.wait_until(limit(), |seen| seen.requests().count() == 1));
    assert!(
        upstream.recording().connections[0].raw.ends_with(b"\r\n\r\n"),
        "no bytes after the request headers"
    );
    gate.open();
    let mut tunnel = opened.join().unwrap();
    tunnel.expect_bytes("early from the server");
    tunnel.expect_bytes("early from the client");
    expect_received(&upstream, "\r\n\r\nearly from the client");
}

#[test]
fn bytes_after_a_rejected_upgrade_are_the_next_request() {
    let upstream =
        script([Step::ReadRequestHead, Step::Write(http_response("403 No\ncontent-type: text/html", "<p>"))]);
    let gateway = Gateway::with_upstream(&upstream).start();
    let mut client = gateway.client();
    client.send(format!("{}GET /a/../b HTTP/1.1\r\nhost: test\r\n\r\nbinary\x01\r\n\r\n", upgrade_request()));
    client.read(SentRequest::Http11("GET")).assert_local_reply(403);
    client
        .read(SentRequest::Http11("GET"))
        .assert_local_reply_message(400, "The path of the request is malformed or ambiguous.");
    assert_eq!(client.read(SentRequest::Http11("GET")).status, 400);
    client.expect_close();
    assert_eq!(upstream.request_count(), 1);
}

#[test]
fn half_close_of_one_direction_keeps_the_other_open() {
    let gate = Gate::new();
    let upstream = upgrading_upstream([
        Step::EchoRaw,
        Step::WaitForGate(gate.clone()),
        write_bytes("and one more"),
        Step::ShutdownWrite,
        Step::ReadUntilClose,
    ]);
    let gateway = Gateway::with_upstream(&upstream).start();
    let mut tunnel = TunnelClient::open(&gateway, "");
    tunnel.write("last words");
    tunnel.shutdown_write();
    expect_peer_close(&upstream, PeerClose::Fin);
    gate.open();
    tunnel.expect_bytes("last wordsand one more");
    tunnel.expect_eof();
    gateway.expect_metric("requests_in_flight", &[], 0.0);
    gateway.expect_metric("aborted_total", &[], 0.0);
}

#[test]
fn half_closed_server_still_receives_client_bytes() {
    let upstream = upgrading_upstream([write_bytes("bye"), Step::ShutdownWrite, Step::ReadUntilClose]);
    let gateway = Gateway::with_upstream(&upstream).start();
    let mut tunnel = TunnelClient::open(&gateway, "");
    tunnel.expect_bytes("bye");
    tunnel.expect_eof();
    tunnel.write("still here");
    expect_received(&upstream, "still here");
    tunnel.shutdown_write();
    expect_peer_close(&upstream, PeerClose::Fin);
    gateway.expect_metric("aborted_total", &[], 0.0);
}

#[test]
fn server_reset_resets_the_client_and_is_counted() {
    let gate = Gate::new();
    let upstream = upgrading_upstream([write_bytes("half"), Step::WaitForGate(gate.clone()), Step::Reset]);
    let gateway = Gateway::with_upstream(&upstream).start();
    let mut tunnel = TunnelClient::open(&gateway, "");
    tunnel.expect_bytes("half");
    gate.open();
    tunnel.expect_reset();
    gateway.expect_metric("aborted_total", &[("cause", "http_response_incomplete")], 1.0);
    let line = gateway.log_line(|line| line["code"] == 101);
    assert_eq!((&line["outcome"], &line["bytes_out"]), (&"aborted".into(), &4.into()));
}

#[test]
fn client_reset_resets_the_server_and_is_counted() {
    let upstream = upgrading_upstream([Step::ReadUntilClose]);
    let gateway = Gateway::with_upstream(&upstream).start();
    let mut tunnel = TunnelClient::open(&gateway, "");
    tunnel.write("half");
    expect_received(&upstream, "half");
    tunnel.reset();
    expect_peer_close(&upstream, PeerClose::Reset);
    gateway.expect_metric("aborted_total", &[("cause", "client_gone")], 1.0);
    gateway.expect_metric("client_disconnects_total", &[], 1.0);
    gateway.expect_metric("requests_in_flight", &[], 0.0);
}

#[test]
fn idle_tunnel_is_reset_at_tunnel_idle_and_counted() {
    let upstream = upgrading_upstream([Step::ReadUntilClose]);
    let gateway = Gateway::with_upstream(&upstream).set("timeouts.tunnel_idle", "400ms").start();
    let started = Instant::now();
    let mut tunnel = TunnelClient::open(&gateway, "");
    tunnel.expect_reset();
    assert!(started.elapsed() >= SHORT_TIMEOUT);
    expect_peer_close(&upstream, PeerClose::Reset);
    gateway.expect_metric("aborted_total", &[("cause", "tunnel_idle")], 1.0);
    gateway.expect_metric("aborted_total", &[], 1.0);
    let line = gateway.log_line(|line| line["code"] == 101);
    assert_eq!((&line["outcome"], &line["level"]), (&"tunnel_idle".into(), &"info".into()));
    assert!(line["cause"].is_null(), "{line:#}");
}

#[test]
fn any_byte_renews_tunnel_idle_and_no_other_timeout_applies() {
    let drip = |bytes: &str| Step::WriteSlowly { bytes: bytes.to_owned().into(), interval: millis(100) };
    let upstream = upgrading_upstream([drip("0123456789"), Step::EchoRaw, Step::Close]);
    let gateway = Gateway::with_upstream(&upstream)
        .set("timeouts.tunnel_idle", "600ms")
        .set("timeouts.deadline", "500ms")
        .set("timeouts.response_headers", "500ms")
        .set("timeouts.connect", "500ms")
        .set("timeouts.body_idle", "50ms")
        .set("client.body_timeout", "50ms")
        .start();
    let mut tunnel = TunnelClient::open(&gateway, "");
    let started = Instant::now();
    tunnel.expect_bytes("0123456789");
    assert!(started.elapsed() >= Duration::from_millis(700));
    for _ in 0..8 {
        std::thread::sleep(millis(100)); // slow client under test
        tunnel.write("x");
    }
    tunnel.expect_bytes("xxxxxxxx");
}

#[test]
fn max_duration_applies_to_tunnels() {
    let drip =
        Step::WriteRepeated { bytes: "x".into(), count: u64::MAX, interval: Duration::from_millis(20) };
    let upstream = upgrading_upstream([drip]);
    let gateway = Gateway::with_upstream(&upstream)
        .set("timeouts.max_duration", "400ms")
        .set("timeouts.deadline", "400ms")
        .set("timeouts.response_headers", "400ms")
        .set("timeouts.connect", "400ms")
        .start();
    let started = Instant::now();
    let mut tunnel = TunnelClient::open(&gateway, "");
    let mut received_bytes = Vec::new();
    let end = tunnel.0.read_to_end(&mut received_bytes).map_err(|error| error.kind());
    assert_eq!(end, Err(std::io::ErrorKind::ConnectionReset));
    assert!(started.elapsed() >= SHORT_TIMEOUT);
    gateway.expect_metric("aborted_total", &[("cause", "deadline_exceeded")], 1.0);
}

#[test]
fn tunnel_applies_backpressure_and_loses_no_bytes() {
    const TRANSFER_BYTES: usize = 32 * 1024 * 1024;
    let upstream = upgrading_upstream([Step::EchoRaw, Step::Close]);
    let gateway = Gateway::with_upstream(&upstream).limit(Duration::from_secs(30)).start();
    let mut tunnel = TunnelClient::open(&gateway, "");
    let piece: Vec<u8> = (0..1024 * 1024).map(|at| (at % 251) as u8).collect();
    let mut writer = tunnel.0.try_clone().unwrap();
    let sent = piece.clone();
    // Reads only when no more can be written: all buffers on the way are full then.
    writer.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    let mut written = 0;
    while written < TRANSFER_BYTES {
        let at = written % sent.len();
        match writer.write(&sent[at..]) {
            Ok(size) => written += size,
            Err(_) => break,
        }
    }
    assert!(written < TRANSFER_BYTES, "32 MiB are buffered on the way");
    writer.shutdown(Shutdown::Write).unwrap();
    let mut received_bytes = Vec::new();
    tunnel.0.read_to_end(&mut received_bytes).unwrap();
    assert_eq!(received_bytes.len(), written);
    assert!(received_bytes.chunks(piece.len()).all(|part| piece.starts_with(part)));
}

#[test]
fn drain_waits_for_tunnels_and_closes_them_at_its_end() {
    let upstream = upgrading_upstream([Step::EchoRaw]);
    let gateway = Gateway::with_upstream(&upstream).set("drain", "700ms").start();
    let mut tunnel = TunnelClient::open(&gateway, "");
    let started = Instant::now();
    gateway.send_sigterm();
    while TcpStream::connect(gateway.address()).is_ok() {
        assert!(started.elapsed() < limit(), "the listener stays open");
    }
    tunnel.write("still served");
    tunnel.expect_bytes("still served");
    assert!(matches!(tunnel.0.read(&mut [0; 16]), Ok(0) | Err(_)));
    assert!(started.elapsed() >= Duration::from_millis(700));
    assert_eq!(gateway.wait_for_exit(limit()).code(), Some(0));
}

#[test]
fn drain_ends_when_the_last_tunnel_closes() {
    let upstream = upgrading_upstream([Step::EchoRaw, Step::Close]);
    let gateway = Gateway::with_upstream(&upstream).set("drain", "60s").start();
    let mut tunnel = TunnelClient::open(&gateway, "");
    gateway.send_sigterm();
    tunnel.write("bye");
    tunnel.shutdown_write();
    tunnel.expect_bytes("bye");
    tunnel.expect_eof();
    assert_eq!(gateway.wait_for_exit(limit()).code(), Some(0));
}

#[test]
fn tunnel_holds_its_concurrency_permit_and_connection_slot() {
    let upstream = upgrading_upstream([Step::EchoRaw, Step::Close]);
    let gateway = Gateway::with_upstream(&upstream)
        .set("upstream.concurrency", "{ max: 1, queue: 0 }")
        .set("client.max_connections", "2")
        .start();
    let mut tunnel = TunnelClient::open(&gateway, "");
    let mut second = hold_place(&gateway, 2);
    gateway.client().get("/").assert_local_reply(503);
    gateway.expect_metric("errors_total", &[("cause", "connection_limit_reached")], 1.0);
    second.get("/").assert_local_reply(503);
    gateway.expect_metric("errors_total", &[("cause", "queue_full")], 1.0);
    tunnel.shutdown_write();
    tunnel.expect_eof();
    gateway.expect_metric("requests_in_flight", &[], 0.0);
}

#[test]
fn unsupported_upgrade_is_served_as_an_ordinary_request() {
    let old = upgrade_request().replace("HTTP/1.1", "HTTP/1.0");
    let upgrades = [
        (
            "h2c",
            upgrade_request()
                .replace("upgrade: websocket", "upgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__"),
        ),
        ("another", upgrade_request().replace("upgrade: websocket", "upgrade: irc/6.9")),
        ("unnamed", upgrade_request().replace(", Upgrade", "")),
        ("head", upgrade_request().replace("GET", "HEAD")),
        ("options", upgrade_request().replace("GET", "OPTIONS")),
        (
            "post",
            upgrade_request().replace("GET", "POST").replace("host: test", "host: test\r\ncontent-length: 0"),
        ),
        ("body", upgrade_request().replace("host: test", "host: test\r\ncontent-length: 2") + "hi"),
        (
            "chunks",
            upgrade_request().replace("host: test", "host: test\r\ntransfer-encoding: chunked") + "0\r\n\r\n",
        ),
        ("old", old),
    ];
    for (name, request) in upgrades {
        let upstream = ok_upstream("");
        let gateway = Gateway::with_upstream(&upstream).start();
        let sent_request = match name {
            "old" => SentRequest::Http10("GET"),
            "head" => SentRequest::Http11("HEAD"),
            _ => SentRequest::Http11("GET"),
        };
        assert_eq!(gateway.client().exchange(sent_request, request).status, 200, "{name}");
        let head = upstream.recording().requests().next().unwrap().head.clone();
        for gone in ["upgrade", "http2-settings", "connection"] {
            assert_eq!(head.header(gone), None, "{name}");
        }
    }
}

#[test]
fn upgrade_forwards_only_protocols_the_route_allows() {
    let upstream = upgrading_upstream([Step::EchoRaw, Step::Close]);
    let gateway = Gateway::with_upstream(&upstream).start();
    let mut client = gateway.client();
    client
        .send(upgrade_request().replace("upgrade: websocket", "upgrade: h2c, websocket\r\nupgrade: tls/1.0"));
    assert_eq!(client.read(SentRequest::Http11("GET")).status, 101);
    let head = upstream.recording().requests().next().unwrap().head.clone();
    let upgrades: Vec<_> = head.headers.iter().filter(|(name, _)| name == "upgrade").collect();
    assert_eq!(upgrades, [&("upgrade".to_owned(), "websocket".to_owned())]);
}

#[test]
fn unexpected_101_is_a_fault_on_a_route_without_upgrades() {
    let upstream = upgrading_upstream([Step::ReadUntilClose]);
    let gateway = Gateway::with_upstream(&upstream)
        .route("name: plain, match: { path: \"/{*rest}\" }, upstream: main, upgrades: []")
        .start();
    let mut client = gateway.client();
    client.send(upgrade_request());
    client.read(SentRequest::Http11("GET")).assert_local_reply(504);
    gateway.expect_metric("errors_total", &[("cause", "http_protocol_error")], 1.0);
    assert_eq!(upstream.recording().requests().next().unwrap().head.header("upgrade"), None);
}

#[test]
fn route_may_allow_another_upgrade_protocol() {
    let head = "HTTP/1.1 101 Switching\r\nupgrade: Example/1\r\nconnection: upgrade\r\n\r\n";
    let upstream = script([Step::ReadRequestHead, write_bytes(head), Step::EchoRaw, Step::Close]);
    let gateway = Gateway::with_upstream(&upstream)
        .route("name: all, match: { path: \"/{*rest}\" }, upstream: main, upgrades: [example/1]")
        .start();
    let mut client = gateway.client();
    client.send("GET / HTTP/1.1\r\nhost: test\r\nconnection: upgrade\r\nupgrade: example/1\r\n\r\n");
    let response = client.read(SentRequest::Http11("GET"));
    assert_eq!((response.status, response.header("upgrade")), (101, Some("Example/1")));
    client.send("hello");
    client.wait_for("hello");
}

#[test]
fn interim_responses_before_a_101_are_forwarded() {
    let upstream = script([
        Step::ReadRequestHead,
        write_bytes(format!("HTTP/1.1 103 Early Hints\r\nlink: <a>\r\n\r\n{SWITCHING}")),
        Step::EchoRaw,
        Step::Close,
    ]);
    let gateway = Gateway::with_upstream(&upstream).start();
    let mut client = gateway.client();
    client.send(upgrade_request());
    let response = client.read(SentRequest::Http11("GET"));
    assert_eq!((response.status, response.interim.len()), (101, 1));
    client.send("hello");
    client.wait_for("hello");
}

#[test]
fn upgraded_upstream_connection_is_never_reused() {
    let upstream = upgrading_upstream([Step::ShutdownWrite, Step::ReadUntilClose]);
    let gateway = Gateway::with_upstream(&upstream).start();
    for round in 1..=2 {
        let mut tunnel = TunnelClient::open(&gateway, "");
        tunnel.expect_eof();
        tunnel.shutdown_write();
        gateway.expect_metric("requests_in_flight", &[], 0.0);
        assert_eq!(upstream.connection_count(), round);
    }
}

#[test]
fn http2_only_upstream_gets_the_request_without_upgrade() {
    let upstream = H2Server::with(100, |request, mut respond| async move {
        let requested = ["upgrade", "connection"].iter().any(|name| request.headers().contains_key(*name));
        let status = if requested { 500 } else { 200 };
        let _ = respond.send_response(http::Response::builder().status(status).body(()).unwrap(), true);
    });
    let gateway = GatewaySetup::with_servers(&[upstream.address()]).set("upstream.http2", "always").start();
    let mut client = gateway.client();
    client.send(upgrade_request());
    assert_eq!(client.read(SentRequest::Http11("GET")).status, 200);
}

#[test]
fn upgrade_uses_http1_with_a_server_that_prefers_http2() {
    let (authority, folder) = (Authority::new(), TestFolder::new());
    let issued = authority.issue(&["127.0.0.1"]);
    let server = TlsServer::preferring_http2(&issued, format!("{SWITCHING}early from the server"));
    let trusted = format!("{{ ca: \"{}\" }}", folder.write("ca.pem", &authority.pem()).display());
    let gateway = GatewaySetup::with_named_servers(&[&format!("https://127.0.0.1:{}", server.port())])
        .set("upstream.tls", &trusted)
        .set("upstream.http2", "auto")
        .start();
    let mut tunnel = TunnelClient::open(&gateway, "");
    tunnel.expect_bytes("early from the server");
    tunnel.write("\r\n\r\n");
    tunnel.expect_bytes("HTTP/1.1 101 Switching Protocols\r\n");
    tunnel.shutdown_write();
    gateway.expect_metric("requests_in_flight", &[], 0.0);
}

#[test]
fn tunnel_over_tls_ends_with_close_notify() {
    let (authority, folder) = (Authority::new(), TestFolder::new());
    let issued = authority.issue(&["test"]);
    let path = |name, text: &str| folder.write(name, text).display().to_string();
    let tls = format!("{{ cert: \"{}\", key: \"{}\" }}", path("crt", &issued.cert), path("key", &issued.key));
    let upstream = upgrading_upstream([write_bytes("bye"), Step::ShutdownWrite, Step::ReadUntilClose]);
    let gateway = Gateway::with_upstream(&upstream).tls(&tls).start();
    let trusting = authority.trusting_client(&["http/1.1"]);
    let mut client = TlsClient::connect(gateway.address(), "test", &trusting);
    client.send(upgrade_request() + "early");
    assert_eq!(client.read().status, 101);
    client.expect_bytes("bye");
    assert_eq!(client.read_close(), NoResponse::Closed);
    client.send("still here");
    expect_received(&upstream, "earlystill here");
}
