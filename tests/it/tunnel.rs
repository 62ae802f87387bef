//! After a 101: which upgrades pass, and what becomes of the bytes of both sides.
//!
//! Handshakes and what follows them are raw bytes, so that nothing is understood that a client library would forgive. A
//! real client and a real server are in `tests/real_traffic.rs`; upgrades that come to nothing are rows of the table of
//! faults (`matrix.rs`).

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use statusquo::rehearse::{Gate, PeerClose, ScriptedUpstream, UpstreamStep, http_response, write_bytes};

use super::certificates::Authority;
use super::gateway::{Folder, Gateway, Setup};
use super::h2_upstream::Serving;
use super::load::{limit, millis};
use super::reader::{Asked, Unanswered};
use super::tls_client::TlsClient;
use super::tls_server::TlsServer;
use super::upstreams::{ok, script};

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const SWITCHING: &str = "HTTP/1.1 101 Switching Protocols\r\nserver: chat/2\r\nupgrade: websocket\r\n\
    connection: Upgrade\r\nsec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\
    sec-websocket-protocol: chat\r\n\r\n";
/// No time in it but the one that a test sets.
const QUICK: Duration = Duration::from_millis(400);

fn handshake() -> String {
    format!(
        "GET /chat?room=1 HTTP/1.1\r\nhost: test\r\nconnection: keep-alive, Upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-key: {KEY}\r\nsec-websocket-version: 13\r\nsec-websocket-protocol: chat\r\n\r\n"
    )
}

/// A server that switches and then does this.
fn switching(steps: impl IntoIterator<Item = UpstreamStep>) -> ScriptedUpstream {
    script([UpstreamStep::ReadRequestHead, write_bytes(SWITCHING)].into_iter().chain(steps))
}

/// The client's end of a tunnel, its 101 read.
struct Tunnel(TcpStream);

impl Tunnel {
    /// Sends the handshake with `early` behind it, and reads the 101.
    #[track_caller]
    fn open(gateway: &Gateway, early: &str) -> Tunnel {
        Tunnel::through(TcpStream::connect(gateway.address()).unwrap(), early)
    }

    #[track_caller]
    fn through(stream: TcpStream, early: &str) -> Tunnel {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(limit())).unwrap();
        stream.set_write_timeout(Some(limit())).unwrap();
        let mut tunnel = Tunnel(stream);
        tunnel.say(format!("{}{early}", handshake()));
        let head = tunnel.head();
        assert!(head.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{head}");
        tunnel
    }

    fn head(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            self.0.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        String::from_utf8(head).unwrap()
    }

    #[track_caller]
    fn say(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).unwrap();
    }

    #[track_caller]
    fn hears(&mut self, expected: &str) {
        let mut bytes = vec![0; expected.len()];
        self.0.read_exact(&mut bytes).unwrap();
        assert_eq!(String::from_utf8_lossy(&bytes), expected);
    }

    #[track_caller]
    fn hears_the_end(&mut self) {
        assert_eq!(self.0.read(&mut [0; 16]).unwrap(), 0);
    }

    #[track_caller]
    fn is_reset(&mut self) {
        let error = self.0.read(&mut [0; 16]).expect_err("a reset, and no clean end");
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }

    fn finish_sending(&self) {
        self.0.shutdown(Shutdown::Write).unwrap();
    }

    fn reset(self) {
        socket2::SockRef::from(&self.0).set_linger(Some(Duration::ZERO)).unwrap();
    }
}

/// The upstream has received this, and nothing behind it.
#[track_caller]
fn received(upstream: &ScriptedUpstream, end: &str) {
    let there = upstream.wait_until(limit(), |seen| {
        seen.connections.iter().any(|connection| connection.raw.ends_with(end.as_bytes()))
    });
    assert!(there, "{:?}", upstream.recording());
}

#[track_caller]
fn left(upstream: &ScriptedUpstream, how: PeerClose) {
    upstream.wait_until(limit(), |seen| seen.connections[0].peer_close.is_some());
    assert_eq!(upstream.recording().connections[0].peer_close, Some(how));
}

#[test]
fn both_sides_agree_and_speak_freely_afterwards() {
    let upstream = switching([UpstreamStep::EchoRaw, UpstreamStep::Close]);
    let gateway = Gateway::in_front_of(&upstream).set("log.requests", "all").start();
    let mut client = gateway.client();
    client.send(handshake());
    let answer = client.read(Asked::Http11("GET"));
    assert_eq!((answer.status, answer.reason.as_str()), (101, "Switching Protocols"));
    for (name, value) in [
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
        ("sec-websocket-protocol", "chat"),
        ("server", "chat/2"),
    ] {
        assert_eq!(answer.field(name), Some(value), "{answer:#?}");
    }
    let id = answer.field("x-request-id").unwrap().to_owned();
    for part in ["one", "\r\n\r\nGET / HTTP/1.1\r\n\r\n", "three"] {
        client.send(part);
        client.wait_for(part);
    }
    let head = upstream.recording().requests().next().unwrap().head.clone();
    assert_eq!((head.header("connection"), head.header("upgrade")), (Some("Upgrade"), Some("websocket")));
    assert_eq!((head.header("sec-websocket-key"), head.target.as_str()), (Some(KEY), "/chat?room=1"));
    gateway.expect_metric("requests_in_flight", &[], 1.0);
    client.finish_sending();
    assert!(upstream.wait_until(limit(), |seen| seen.connections[0].peer_close.is_some()));
    let line = gateway.log_line(|line| line["request_id"] == id.as_str());
    assert_eq!(
        (&line["code"], &line["outcome"], &line["bytes"]),
        (&101.into(), &"passed".into(), &30.into())
    );
    gateway.expect_metric("requests_in_flight", &[], 0.0);
    gateway.expect_metric("responses_total", &[("code", "101"), ("origin", "upstream")], 1.0);
    gateway.expect_metric("aborted_total", &[], 0.0);
    gateway.expect_metric("client_disconnects_total", &[], 0.0);
    gateway.expect_accounts_to_agree();
    assert_eq!(upstream.request_count(), 1, "what goes through a tunnel is no request");
}

#[test]
fn early_bytes_arrive_in_both_directions_and_not_before_both_sides_agree() {
    let gate = Gate::new();
    let upstream = script([
        UpstreamStep::ReadRequestHead,
        UpstreamStep::WaitForGate(gate.clone()),
        write_bytes(format!("{SWITCHING}early from the server")),
        UpstreamStep::EchoRaw,
        UpstreamStep::Close,
    ]);
    let gateway = Gateway::in_front_of(&upstream).start();
    let stream = TcpStream::connect(gateway.address()).unwrap();
    let opened = std::thread::spawn(move || Tunnel::through(stream, "early from the client"));
    assert!(upstream.wait_until(limit(), |seen| seen.requests().count() == 1));
    assert!(upstream.recording().connections[0].raw.ends_with(b"\r\n\r\n"), "nothing follows the head");
    gate.open();
    let mut tunnel = opened.join().unwrap();
    tunnel.hears("early from the server");
    tunnel.hears("early from the client");
    received(&upstream, "\r\n\r\nearly from the client");
}

#[test]
fn bytes_behind_an_upgrade_that_is_refused_are_the_next_request() {
    let upstream = script([
        UpstreamStep::ReadRequestHead,
        UpstreamStep::Write(http_response("403 No\ncontent-type: text/html", "<p>")),
    ]);
    let gateway = Gateway::in_front_of(&upstream).start();
    let mut client = gateway.client();
    client.send(format!("{}GET /a/../b HTTP/1.1\r\nhost: test\r\n\r\nbinary\x01\r\n\r\n", handshake()));
    client.read(Asked::Http11("GET")).is_made(403);
    client
        .read(Asked::Http11("GET"))
        .is_made_saying(400, "The path of the request is malformed or ambiguous.");
    assert_eq!(client.read(Asked::Http11("GET")).status, 400);
    client.expect_close();
    assert_eq!(upstream.request_count(), 1);
}

#[test]
fn the_end_of_one_direction_is_not_the_end_of_the_other() {
    let gate = Gate::new();
    let upstream = switching([
        UpstreamStep::EchoRaw,
        UpstreamStep::WaitForGate(gate.clone()),
        write_bytes("and one more"),
        UpstreamStep::ShutdownWrite,
        UpstreamStep::ReadUntilClose,
    ]);
    let gateway = Gateway::in_front_of(&upstream).start();
    let mut tunnel = Tunnel::open(&gateway, "");
    tunnel.say("last words");
    tunnel.finish_sending();
    left(&upstream, PeerClose::Fin);
    gate.open();
    tunnel.hears("last wordsand one more");
    tunnel.hears_the_end();
    gateway.expect_metric("requests_in_flight", &[], 0.0);
    gateway.expect_metric("aborted_total", &[], 0.0);
}

#[test]
fn a_server_that_has_ended_still_hears_the_client() {
    let upstream = switching([write_bytes("bye"), UpstreamStep::ShutdownWrite, UpstreamStep::ReadUntilClose]);
    let gateway = Gateway::in_front_of(&upstream).start();
    let mut tunnel = Tunnel::open(&gateway, "");
    tunnel.hears("bye");
    tunnel.hears_the_end();
    tunnel.say("still here");
    received(&upstream, "still here");
    tunnel.finish_sending();
    left(&upstream, PeerClose::Fin);
    gateway.expect_metric("aborted_total", &[], 0.0);
}

#[test]
fn a_reset_of_the_server_is_one_for_the_client_and_counted() {
    let gate = Gate::new();
    let upstream =
        switching([write_bytes("half"), UpstreamStep::WaitForGate(gate.clone()), UpstreamStep::Reset]);
    let gateway = Gateway::in_front_of(&upstream).start();
    let mut tunnel = Tunnel::open(&gateway, "");
    tunnel.hears("half");
    gate.open();
    tunnel.is_reset();
    gateway.expect_metric("aborted_total", &[("cause", "http_response_incomplete")], 1.0);
    let line = gateway.log_line(|line| line["code"] == 101);
    assert_eq!((&line["outcome"], &line["bytes"]), (&"aborted".into(), &4.into()));
}

#[test]
fn a_reset_of_the_client_is_one_for_the_server_and_counted() {
    let upstream = switching([UpstreamStep::ReadUntilClose]);
    let gateway = Gateway::in_front_of(&upstream).start();
    let mut tunnel = Tunnel::open(&gateway, "");
    tunnel.say("half");
    received(&upstream, "half");
    tunnel.reset();
    left(&upstream, PeerClose::Reset);
    gateway.expect_metric("aborted_total", &[("cause", "client_gone")], 1.0);
    gateway.expect_metric("client_disconnects_total", &[], 1.0);
    gateway.expect_metric("requests_in_flight", &[], 0.0);
}

#[test]
fn a_tunnel_in_which_nothing_moves_is_reset_at_its_limit_and_counted_by_name() {
    let upstream = switching([UpstreamStep::ReadUntilClose]);
    let gateway = Gateway::in_front_of(&upstream).set("timeouts.tunnel_idle", "400ms").start();
    let begun = Instant::now();
    let mut tunnel = Tunnel::open(&gateway, "");
    tunnel.is_reset();
    assert!(begun.elapsed() >= QUICK);
    left(&upstream, PeerClose::Reset);
    gateway.expect_metric("aborted_total", &[("cause", "tunnel_idle")], 1.0);
    gateway.expect_metric("aborted_total", &[], 1.0);
    let line = gateway.log_line(|line| line["code"] == 101);
    assert_eq!((&line["outcome"], &line["level"]), (&"tunnel_idle".into(), &"info".into()));
    assert!(line["cause"].is_null(), "{line:#}");
}

#[test]
fn every_byte_in_either_direction_renews_the_limit_and_no_other_limit_holds() {
    let drip =
        |bytes: &str| UpstreamStep::WriteSlowly { bytes: bytes.to_owned().into(), interval: millis(100) };
    let upstream = switching([drip("0123456789"), UpstreamStep::EchoRaw, UpstreamStep::Close]);
    let gateway = Gateway::in_front_of(&upstream)
        .set("timeouts.tunnel_idle", "600ms")
        .set("timeouts.total", "500ms")
        .set("timeouts.response_head", "500ms")
        .set("timeouts.connect", "500ms")
        .set("timeouts.between_bytes", "50ms")
        .set("client.body_timeout", "50ms")
        .start();
    let mut tunnel = Tunnel::open(&gateway, "");
    let begun = Instant::now();
    tunnel.hears("0123456789");
    assert!(begun.elapsed() >= Duration::from_millis(700));
    for _ in 0..8 {
        std::thread::sleep(millis(100)); // the slow client is what is tested
        tunnel.say("x");
    }
    tunnel.hears("xxxxxxxx");
}

#[test]
fn the_limit_on_everything_holds_in_a_tunnel_too() {
    let drip = UpstreamStep::WriteRepeated {
        bytes: "x".into(),
        count: u64::MAX,
        interval: Duration::from_millis(20),
    };
    let upstream = switching([drip]);
    let gateway = Gateway::in_front_of(&upstream)
        .set("timeouts.whole", "400ms")
        .set("timeouts.total", "400ms")
        .set("timeouts.response_head", "400ms")
        .set("timeouts.connect", "400ms")
        .start();
    let begun = Instant::now();
    let mut tunnel = Tunnel::open(&gateway, "");
    let mut heard = Vec::new();
    let end = tunnel.0.read_to_end(&mut heard).map_err(|error| error.kind());
    assert_eq!(end, Err(std::io::ErrorKind::ConnectionReset));
    assert!(begun.elapsed() >= QUICK);
    gateway.expect_metric("aborted_total", &[("cause", "deadline_exceeded")], 1.0);
}

#[test]
fn a_side_that_takes_nothing_stops_the_other_and_everything_arrives_in_the_end() {
    const SIZE: usize = 32 * 1024 * 1024;
    let upstream = switching([UpstreamStep::EchoRaw, UpstreamStep::Close]);
    let gateway = Gateway::in_front_of(&upstream).limit(Duration::from_secs(30)).start();
    let mut tunnel = Tunnel::open(&gateway, "");
    let piece: Vec<u8> = (0..1024 * 1024).map(|at| (at % 251) as u8).collect();
    let mut writer = tunnel.0.try_clone().unwrap();
    let sent = piece.clone();
    // Nothing is read until nothing can be written any more: the whole way is full then.
    writer.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    let mut written = 0;
    while written < SIZE {
        let at = written % sent.len();
        match writer.write(&sent[at..]) {
            Ok(size) => written += size,
            Err(_) => break,
        }
    }
    assert!(written < SIZE, "somebody keeps 32 MiB");
    writer.shutdown(Shutdown::Write).unwrap();
    let mut heard = Vec::new();
    tunnel.0.read_to_end(&mut heard).unwrap();
    assert_eq!(heard.len(), written);
    assert!(heard.chunks(piece.len()).all(|part| piece.starts_with(part)));
}

#[test]
fn tunnels_are_waited_for_in_a_drain_and_closed_at_its_end() {
    let upstream = switching([UpstreamStep::EchoRaw]);
    let gateway = Gateway::in_front_of(&upstream).set("drain", "700ms").start();
    let mut tunnel = Tunnel::open(&gateway, "");
    let begun = Instant::now();
    gateway.terminate();
    while TcpStream::connect(gateway.address()).is_ok() {
        assert!(begun.elapsed() < limit(), "the listener stays open");
    }
    tunnel.say("still served");
    tunnel.hears("still served");
    assert!(matches!(tunnel.0.read(&mut [0; 16]), Ok(0) | Err(_)));
    assert!(begun.elapsed() >= Duration::from_millis(700));
    assert_eq!(gateway.wait(limit()).code(), Some(0));
}

#[test]
fn a_tunnel_that_ends_in_time_ends_the_drain() {
    let upstream = switching([UpstreamStep::EchoRaw, UpstreamStep::Close]);
    let gateway = Gateway::in_front_of(&upstream).set("drain", "60s").start();
    let mut tunnel = Tunnel::open(&gateway, "");
    gateway.terminate();
    tunnel.say("bye");
    tunnel.finish_sending();
    tunnel.hears("bye");
    tunnel.hears_the_end();
    assert_eq!(gateway.wait(limit()).code(), Some(0));
}

#[test]
fn a_tunnel_keeps_its_place_at_the_upstream_and_among_the_connections() {
    let upstream = switching([UpstreamStep::EchoRaw, UpstreamStep::Close]);
    let gateway = Gateway::in_front_of(&upstream)
        .set("upstream.concurrency", "{ max: 1, queue: 0 }")
        .set("client.max_connections", "2")
        .start();
    let mut tunnel = Tunnel::open(&gateway, "");
    let mut second = gateway.client();
    second.get("/").is_made(503);
    gateway.expect_metric("errors_total", &[("cause", "queue_full")], 1.0);
    gateway.client().get("/").is_made(503);
    gateway.expect_metric("errors_total", &[("cause", "connection_limit_reached")], 1.0);
    tunnel.finish_sending();
    tunnel.hears_the_end();
    gateway.expect_metric("requests_in_flight", &[], 0.0);
}

#[test]
fn what_is_no_upgrade_that_the_route_takes_is_served_as_if_it_had_not_asked() {
    let old = handshake().replace("HTTP/1.1", "HTTP/1.0");
    let upgrades = [
        (
            "h2c",
            handshake().replace("upgrade: websocket", "upgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__"),
        ),
        ("another", handshake().replace("upgrade: websocket", "upgrade: irc/6.9")),
        ("unnamed", handshake().replace(", Upgrade", "")),
        ("head", handshake().replace("GET", "HEAD")),
        ("options", handshake().replace("GET", "OPTIONS")),
        ("post", handshake().replace("GET", "POST").replace("host: test", "host: test\r\ncontent-length: 0")),
        ("body", handshake().replace("host: test", "host: test\r\ncontent-length: 2") + "hi"),
        (
            "chunks",
            handshake().replace("host: test", "host: test\r\ntransfer-encoding: chunked") + "0\r\n\r\n",
        ),
        ("old", old),
    ];
    for (name, request) in upgrades {
        let upstream = ok("");
        let gateway = Gateway::in_front_of(&upstream).start();
        let asked = match name {
            "old" => Asked::Http10("GET"),
            "head" => Asked::Http11("HEAD"),
            _ => Asked::Http11("GET"),
        };
        assert_eq!(gateway.client().exchange(asked, request).status, 200, "{name}");
        let head = upstream.recording().requests().next().unwrap().head.clone();
        for gone in ["upgrade", "http2-settings", "connection"] {
            assert_eq!(head.header(gone), None, "{name}");
        }
    }
}

#[test]
fn of_several_protocols_only_the_one_that_the_route_takes_is_forwarded() {
    let upstream = switching([UpstreamStep::EchoRaw, UpstreamStep::Close]);
    let gateway = Gateway::in_front_of(&upstream).start();
    let mut client = gateway.client();
    client.send(handshake().replace("upgrade: websocket", "upgrade: h2c, websocket\r\nupgrade: tls/1.0"));
    assert_eq!(client.read(Asked::Http11("GET")).status, 101);
    let head = upstream.recording().requests().next().unwrap().head.clone();
    let upgrades: Vec<_> = head.headers.iter().filter(|(name, _)| name == "upgrade").collect();
    assert_eq!(upgrades, [&("upgrade".to_owned(), "websocket".to_owned())]);
}

#[test]
fn a_route_may_take_no_upgrade_and_then_a_101_is_a_fault() {
    let upstream = switching([UpstreamStep::ReadUntilClose]);
    let gateway = Gateway::in_front_of(&upstream)
        .route("name: plain, match: { path: \"/{*rest}\" }, upstream: main, upgrades: []")
        .start();
    let mut client = gateway.client();
    client.send(handshake());
    client.read(Asked::Http11("GET")).is_made(504);
    gateway.expect_metric("errors_total", &[("cause", "http_protocol_error")], 1.0);
    assert_eq!(upstream.recording().requests().next().unwrap().head.header("upgrade"), None);
}

#[test]
fn a_route_may_take_another_protocol() {
    let head = "HTTP/1.1 101 Switching\r\nupgrade: Rehearsal/1\r\nconnection: upgrade\r\n\r\n";
    let upstream = script([
        UpstreamStep::ReadRequestHead,
        write_bytes(head),
        UpstreamStep::EchoRaw,
        UpstreamStep::Close,
    ]);
    let gateway = Gateway::in_front_of(&upstream)
        .route("name: own, match: { path: \"/{*rest}\" }, upstream: main, upgrades: [rehearsal/1]")
        .start();
    let mut client = gateway.client();
    client.send("GET / HTTP/1.1\r\nhost: test\r\nconnection: upgrade\r\nupgrade: rehearsal/1\r\n\r\n");
    let answer = client.read(Asked::Http11("GET"));
    assert_eq!((answer.status, answer.field("upgrade")), (101, Some("Rehearsal/1")));
    client.send("hello");
    client.wait_for("hello");
}

#[test]
fn interim_responses_may_come_before_a_101() {
    let upstream = script([
        UpstreamStep::ReadRequestHead,
        write_bytes(format!("HTTP/1.1 103 Early Hints\r\nlink: <a>\r\n\r\n{SWITCHING}")),
        UpstreamStep::EchoRaw,
        UpstreamStep::Close,
    ]);
    let gateway = Gateway::in_front_of(&upstream).start();
    let mut client = gateway.client();
    client.send(handshake());
    let answer = client.read(Asked::Http11("GET"));
    assert_eq!((answer.status, answer.interim.len()), (101, 1));
    client.send("hello");
    client.wait_for("hello");
}

#[test]
fn a_connection_that_has_switched_is_never_used_again() {
    let upstream = switching([UpstreamStep::ShutdownWrite, UpstreamStep::ReadUntilClose]);
    let gateway = Gateway::in_front_of(&upstream).start();
    for round in 1..=2 {
        let mut tunnel = Tunnel::open(&gateway, "");
        tunnel.hears_the_end();
        tunnel.finish_sending();
        gateway.expect_metric("requests_in_flight", &[], 0.0);
        assert_eq!(upstream.connection_count(), round);
    }
}

#[test]
fn an_upstream_that_speaks_http_2_alone_is_asked_as_if_nobody_had_asked_to_change() {
    let upstream = Serving::with(100, |request, mut respond| async move {
        let asked = ["upgrade", "connection"].iter().any(|name| request.headers().contains_key(*name));
        let status = if asked { 500 } else { 200 };
        let _ = respond.send_response(http::Response::builder().status(status).body(()).unwrap(), true);
    });
    let gateway = Setup::of_servers(&[upstream.address()]).set("upstream.http2", "always").start();
    let mut client = gateway.client();
    client.send(handshake());
    assert_eq!(client.read(Asked::Http11("GET")).status, 200);
}

#[test]
fn a_server_that_would_rather_speak_http_2_over_tls_is_asked_in_http_1() {
    let (authority, folder) = (Authority::new(), Folder::new());
    let issued = authority.issue(&["127.0.0.1"]);
    let server = TlsServer::preferring_http2(&issued, format!("{SWITCHING}early from the server"));
    let trusted = format!("{{ ca: \"{}\" }}", folder.write("ca.pem", &authority.pem()).display());
    let gateway = Setup::of_named(&[&format!("https://127.0.0.1:{}", server.port())])
        .set("upstream.tls", &trusted)
        .set("upstream.http2", "auto")
        .start();
    let mut tunnel = Tunnel::open(&gateway, "");
    tunnel.hears("early from the server");
    tunnel.say("\r\n\r\n");
    tunnel.hears("HTTP/1.1 101 Switching Protocols\r\n");
    tunnel.finish_sending();
    gateway.expect_metric("requests_in_flight", &[], 0.0);
}

#[test]
fn a_client_has_its_tunnel_over_tls_and_its_end_is_an_orderly_one() {
    let (authority, folder) = (Authority::new(), Folder::new());
    let issued = authority.issue(&["test"]);
    let path = |name, text: &str| folder.write(name, text).display().to_string();
    let tls = format!("{{ cert: \"{}\", key: \"{}\" }}", path("crt", &issued.cert), path("key", &issued.key));
    let upstream = switching([write_bytes("bye"), UpstreamStep::ShutdownWrite, UpstreamStep::ReadUntilClose]);
    let gateway = Gateway::in_front_of(&upstream).tls(&tls).start();
    let trusting = authority.trusted_by_client(&["http/1.1"]);
    let mut client = TlsClient::connect(gateway.address(), "test", &trusting);
    client.send(handshake() + "early");
    assert_eq!(client.read().status, 101);
    client.hears("bye");
    assert_eq!(client.end(), Unanswered::Closed);
    client.send("still here");
    received(&upstream, "earlystill here");
}
