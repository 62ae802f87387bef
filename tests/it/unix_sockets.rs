//! Unix sockets, of upstream servers and of listeners.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread;

use statusquo::conformance::RecordedRequest;

use super::certificates::Authority;
use super::gateway::run;
use super::h2_client::H2Client;
use super::prelude::*;
use super::tls_client::TlsClient;

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

impl GatewaySetup {
    /// Adds a listener on a Unix socket, with further keys such as `mode: 0600`.
    pub fn socket(mut self, path: &Path, keys: &str) -> GatewaySetup {
        self.further_listeners += &format!("  - {{ address: \"unix:{}\", {keys} }}\n", path.display());
        self
    }
}

/// An address for clients of TCP, whose bytes are copied to this socket and back.
pub fn address_of(socket: &Path) -> SocketAddr {
    let (listener, socket) = (TcpListener::bind("127.0.0.1:0").unwrap(), socket.to_owned());
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for accepted in listener.incoming() {
            let (Ok(mut to_client), Ok(mut to_gateway)) = (accepted, UnixStream::connect(&socket)) else {
                return;
            };
            let (mut from_client, mut from_gateway) =
                (to_client.try_clone().unwrap(), to_gateway.try_clone().unwrap());
            thread::spawn(move || {
                let _ = io::copy(&mut from_client, &mut to_gateway);
                let _ = to_gateway.shutdown(Shutdown::Write);
            });
            thread::spawn(move || {
                let _ = io::copy(&mut from_gateway, &mut to_client);
                let _ = to_client.shutdown(Shutdown::Both);
            });
        }
    });
    address
}

/// A client of a listener on this socket.
fn client_of(socket: &Path) -> Client {
    Client::over(TcpStream::connect(address_of(socket)).unwrap())
}

#[test]
fn tls_and_http2_are_served_over_sockets() {
    let (folder, upstream) = (TestFolder::new(), ok_upstream("fine"));
    let authority = Authority::new();
    let issued = authority.issue(&["test"]);
    let (cert, key) = (folder.write("gateway.crt", &issued.cert), folder.write("gateway.key", &issued.key));
    let tls = format!("tls: {{ cert: \"{}\", key: \"{}\" }}", cert.display(), key.display());
    let (encrypted, plain) = (folder.path("tls.sock"), folder.path("h2c.sock"));
    let gateway = Gateway::with_upstream(&upstream)
        .socket(&encrypted, &tls)
        .socket(&plain, "h2c: true")
        .route("name: all, upstream: main")
        .route("name: local, match: { path: /local }, upstream: main, allow_from: [\"0.0.0.0/0\"]")
        .start();
    let (address, trusting) = (address_of(&encrypted), authority.trusting_client(&["h2"]));
    let mut over_tls = H2Client::connect_tls(address, "test", &trusting);
    let mut over_h2c = H2Client::over(TcpStream::connect(address_of(&plain)).unwrap());
    for client in [&mut over_tls, &mut over_h2c] {
        client.get("/a").assert_response(200, "fine");
        client.get("/local").assert_local_reply(403);
    }
    let http1 = authority.trusting_client(&["http/1.1"]);
    TlsClient::connect(address, "test", &http1).get("/a").assert_response(200, "fine");
    // Neither protocol is taken for the other.
    assert_eq!(client_of(&encrypted).get("/a").status, 400);
    drop((over_tls, over_h2c));
    drop(gateway);
}

#[test]
fn listener_on_a_socket_serves_peers_without_an_address() {
    let (folder, upstream) = (TestFolder::new(), ok_upstream("fine"));
    let socket = folder.path("gateway.sock");
    // Left behind by a process that was killed.
    drop(UnixListener::bind(&socket).unwrap());
    let gateway = Gateway::with_upstream(&upstream)
        .socket(&socket, "mode: 0600")
        .set("log.requests", "all")
        .route("name: open, match: { path: \"/{*rest}\" }, upstream: main")
        .route("name: local, match: { path: /local }, upstream: main, allow_from: [127.0.0.1, \"0.0.0.0/0\"]")
        .start();
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    let mut client = client_of(&socket);
    client.request("GET", "/", "x-forwarded-for: 192.0.2.7\r\n", "").assert_response(200, "fine");
    {
        let seen = upstream.recording();
        let request = seen.requests().last().unwrap();
        for absent in ["x-forwarded-for", "x-real-ip"] {
            assert_eq!(request.head.header(absent), None, "{absent}");
        }
        assert_eq!(request.head.header("forwarded"), Some("for=unknown;host=test;proto=http"));
        assert_eq!(request.head.header("x-forwarded-port"), Some("80"));
    }
    let line = gateway.log_line(|line| line["path"] == "/" && line["code"] == 200);
    assert!(line.get("client_ip").is_none(), "{line}");
    client.get("/local").assert_local_reply(403);
    let label = format!("unix:{}", socket.display());
    gateway.expect_metric("connections", &[("listener", &label)], 1.0);
    gateway.client().get("/local").assert_response(200, "fine");
    // A second process does not take it over.
    let (code, _, errors) = run(&["run", gateway.configuration().to_str().unwrap()], &[]);
    assert_eq!(code, Some(1), "{errors}");
    let expected = format!("cannot listen on {label}: another process accepts connections on it; help: ");
    assert!(errors.contains(&expected), "{errors}");
    client.get("/").assert_response(200, "fine");
    drop(client);
    gateway.send_sigterm();
    assert_eq!(gateway.wait_for_exit(limit()).code(), Some(0));
    assert!(!socket.exists(), "removed at the end");
}

#[test]
fn peers_of_sockets_are_one_client_unless_they_are_trusted_proxies() {
    let (folder, upstream) = (TestFolder::new(), ok_upstream("fine"));
    let everybody = "[0.0.0.0/0, \"::/0\"]";
    for (trusted, exempt, expected) in [
        ("[]", "[]", [200, 429, 429]),
        ("[unix]", "[]", [200, 200, 429]),
        // They have no address, so no network has them.
        ("[]", everybody, [200, 429, 429]),
        ("[unix]", everybody, [200, 200, 200]),
    ] {
        let socket = folder.path("gateway.sock");
        let gateway = Gateway::with_upstream(&upstream)
            .socket(&socket, "")
            .set("client.trusted_proxies", trusted)
            .set("rate_limits", &format!("{{ one: {{ allow: 1 per 1h, exempt: {exempt} }} }}"))
            .route("name: all, upstream: main, rate_limits: [one]")
            .start();
        let statuses = ["192.0.2.1", "192.0.2.2", "192.0.2.2"].map(|client| {
            let field = format!("x-forwarded-for: {client}\r\n");
            client_of(&socket).request("GET", "/", &field, "").status
        });
        assert_eq!(statuses, expected, "{trusted} {exempt}");
        gateway.client().get("/").assert_response(200, "fine");
        gateway.send_sigterm();
        assert_eq!(gateway.wait_for_exit(limit()).code(), Some(0));
    }
}

#[test]
fn proxy_protocol_over_a_socket_names_the_client() {
    let (folder, upstream) = (TestFolder::new(), ok_upstream("fine"));
    let socket = folder.path("gateway.sock");
    let gateway = Gateway::with_upstream(&upstream)
        .socket(&socket, "proxy_protocol: { from: [unix] }")
        .route("name: all, upstream: main, allow_from: [192.0.2.0/24]")
        .start();
    let mut client = client_of(&socket);
    client.send(b"PROXY TCP4 192.0.2.7 192.0.2.8 4000 443\r\n");
    client.get("/").assert_response(200, "fine");
    assert_eq!(
        upstream.recording().requests().last().unwrap().head.header("x-forwarded-for"),
        Some("192.0.2.7")
    );
    // It names nobody: the peer has no address.
    let mut client = client_of(&socket);
    client.send(b"PROXY UNKNOWN\r\n");
    client.get("/").assert_local_reply(403);
    let mut client = client_of(&socket);
    client.send(b"GET / HTTP/1.1\r\nhost: test\r\n\r\n");
    client.expect_close();
    gateway.expect_metric("closed_without_response_total", &[("cause", "proxy_protocol_error")], 1.0);
}

#[test]
fn reload_rejects_another_socket_and_keeps_serving() {
    let (folder, upstream) = (TestFolder::new(), ok_upstream("fine"));
    let socket = folder.path("gateway.sock");
    let gateway = Gateway::with_upstream(&upstream).socket(&socket, "mode: 0600").start();
    let mut client = client_of(&socket);
    client.get("/").assert_response(200, "fine");
    let text = std::fs::read_to_string(gateway.configuration()).unwrap();
    let rejected = |from: &str, to: &str, key: &str| {
        assert!(text.contains(from), "{text}");
        assert_eq!(gateway.reload_text(&text.replace(from, to)), "rejected");
        let key = format!("listen[1].{key}");
        gateway.log_line(|line| line["key"] == key);
        client_of(&socket).get("/").assert_response(200, "fine");
    };
    rejected("gateway.sock", "other.sock", "address");
    rejected("mode: 0600", "mode: 0666", "mode");
    assert!(!folder.path("other.sock").exists());
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    client.get("/").assert_response(200, "fine");
}
