//! Unix sockets: of upstream servers.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread;

use statusquo::conformance::{RecordedRequest, ScriptedUpstream, Step, http_response};

use super::gateway::{GatewaySetup, TestFolder};
use super::load::limit;
use super::scripted_upstreams::{by_request, ok_upstream, refusing_port};

/// Serves a scripted upstream at a Unix socket, by copying the bytes of both directions.
fn bridge(path: &Path, upstream: &ScriptedUpstream) {
    let (listener, address) = (UnixListener::bind(path).unwrap(), upstream.address());
    thread::spawn(move || {
        for accepted in listener.incoming() {
            let Ok(accepted) = accepted else { return };
            thread::spawn(move || copy_both(accepted, address));
        }
    });
}

fn copy_both(mut accepted: UnixStream, address: SocketAddr) {
    // The upstream is gone at the end of a test.
    let Ok(mut upstream) = TcpStream::connect(address) else { return };
    let (mut from_client, mut to_upstream) = (accepted.try_clone().unwrap(), upstream.try_clone().unwrap());
    thread::spawn(move || {
        let _ = io::copy(&mut from_client, &mut to_upstream);
        let _ = to_upstream.shutdown(Shutdown::Write);
    });
    let _ = io::copy(&mut upstream, &mut accepted);
    let _ = accepted.shutdown(Shutdown::Both);
}

/// A gateway with an upstream of these sockets.
fn with_sockets(sockets: &[&PathBuf]) -> GatewaySetup {
    let servers: Vec<String> = sockets.iter().map(|path| format!("unix:{}", path.display())).collect();
    GatewaySetup::with_servers(&[refusing_port().address()])
        .named_upstream("app", &servers.iter().map(String::as_str).collect::<Vec<_>>())
        .route("name: app, upstream: app")
}

#[test]
fn requests_are_forwarded_to_a_unix_socket() {
    let (folder, upstream) = (TestFolder::new(), ok_upstream("from the socket"));
    let socket = folder.path("app.sock");
    bridge(&socket, &upstream);
    let gateway = with_sockets(&[&socket]).start();
    let mut client = gateway.client();
    for _ in 0..2 {
        client.get("/a?b=c").assert_response(200, "from the socket");
    }
    let body = "x".repeat(300_000);
    client.request("POST", "/upload", "", &body).assert_response(200, "from the socket");
    let seen = upstream.recording();
    let hosts: Vec<_> =
        seen.requests().map(|request| request.head.header("host").map(str::to_owned)).collect();
    assert_eq!(hosts, vec![Some("test".to_owned()); 3]);
    assert_eq!(seen.requests().last().unwrap().body, body.as_bytes());
    assert_eq!(upstream.connection_count(), 1, "the connection is kept");
    let label = format!("unix:{}", socket.display());
    gateway.expect_metric("upstream_attempts_total", &[("server", &label), ("result", "ok")], 3.0);
    gateway.expect_metric("upstream_server_up", &[("server", &label)], 1.0);
    // Its own host is that of nginx and curl.
    let gateway = with_sockets(&[&socket]).set("upstream app.host", "server").start();
    gateway.client().get("/").assert_response(200, "from the socket");
    assert_eq!(upstream.recording().requests().last().unwrap().head.header("host"), Some("localhost"));
}

#[test]
fn missing_and_unanswered_sockets_are_refused_connections() {
    let folder = TestFolder::new();
    let (missing, stale) = (folder.path("missing.sock"), folder.path("stale.sock"));
    drop(UnixListener::bind(&stale).unwrap());
    for socket in [&missing, &stale] {
        let gateway = with_sockets(&[socket]).start();
        gateway.client().get("/").assert_local_reply(504);
        let line = gateway.log_line(|line| line["code"] == 504);
        let expected = ("connection_refused", "none", format!("unix:{}", socket.display()));
        let logged = |key: &str| line[key].as_str().unwrap_or_default().to_owned();
        assert_eq!((&*logged("cause"), &*logged("request_sent"), logged("server")), expected, "{line}");
    }
    // A server that starts later is used without a reload.
    let gateway = with_sockets(&[&missing]).start();
    gateway.client().get("/").assert_local_reply(504);
    let upstream = ok_upstream("started");
    bridge(&missing, &upstream);
    gateway.client().get("/").assert_response(200, "started");
}

#[test]
fn unix_sockets_are_checked_and_ejected_like_other_servers() {
    let folder = TestFolder::new();
    let upstream = by_request(|_| vec![Step::ReadBody, Step::Write(http_response("200 OK", "fine"))]);
    let (good, missing) = (folder.path("good.sock"), folder.path("missing.sock"));
    bridge(&good, &upstream);
    let down = format!("unix:{}", missing.display());
    let gateway = with_sockets(&[&good, &missing])
        .set("upstream app.health", "{ path: /healthz, every: 1s, fall: 1 }")
        .start();
    gateway.expect_metric("upstream_server_state", &[("server", &down), ("state", "unhealthy")], 1.0);
    let is_probe = |request: &RecordedRequest| request.head.target == "/healthz";
    assert!(upstream.wait_until(limit(), |seen| seen.requests().any(is_probe)));
    let probe = upstream.recording();
    let probe = probe.requests().find(|request| is_probe(request)).unwrap();
    assert_eq!(probe.head.header("host"), Some("localhost"));
    let mut client = gateway.client();
    for _ in 0..4 {
        client.get("/").assert_response(200, "fine");
    }
    gateway.expect_metric("upstream_attempts_total", &[("server", &down)], 0.0);
    // Without checks, failures eject it; another server gets the request.
    let gateway =
        with_sockets(&[&good, &missing]).set("upstream app.ejection", "{ consecutive: 1, for: 10m }").start();
    let mut client = gateway.client();
    for _ in 0..4 {
        client.get("/").assert_response(200, "fine");
    }
    gateway.expect_metric("upstream_server_state", &[("server", &down), ("state", "ejected")], 1.0);
    gateway.expect_metric("upstream_attempts_total", &[("server", &down)], 1.0);
}
