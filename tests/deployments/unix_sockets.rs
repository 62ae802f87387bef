//! Unix sockets on both sides: nginx and curl as clients of the gateway, Node, nginx and gunicorn behind it.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::balancers::{HOST, curl, nginx, nginx_temporary_folders};
use crate::gateway::RealGateway;
use crate::load::limit;
use crate::servers::{APPS, ServerProgram, gunicorn_on};

/// A folder with a short path: a socket's may have 107 bytes.
struct Sockets(PathBuf);

impl Sockets {
    fn new(test: &str) -> Sockets {
        let path = std::env::temp_dir().join(format!("statusquo-{test}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Sockets(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The address of a socket.
    fn address(&self, name: &str) -> String {
        format!("unix:{}", self.path(name).display())
    }
}

impl Drop for Sockets {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Waits until a program accepts connections on the socket.
#[track_caller]
fn wait_for(socket: &Path) {
    let deadline = Instant::now() + limit();
    while UnixStream::connect(socket).is_err() {
        assert!(Instant::now() < deadline, "nothing listens on {}", socket.display());
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Node with the application that responds with the forwarded fields it received.
fn node_echo(sockets: &Sockets) -> ServerProgram {
    let socket = sockets.path("app.sock");
    let server = ServerProgram::start("node", 0, |_, _| {
        let mut command = Command::new("node");
        command.arg(format!("{APPS}/echo.mjs")).arg(&socket);
        command
    });
    wait_for(&socket);
    server
}

/// nginx that responds with 404 and its own page.
fn nginx_without_pages(sockets: &Sockets) -> ServerProgram {
    let listen = sockets.address("web.sock");
    let server = nginx(0, |_| {
        let folders = nginx_temporary_folders();
        format!(
            "http {{\naccess_log off;\n{folders}server {{\nlisten {listen};\nlocation / {{ return 404; }}\n}}\n}}\n"
        )
    });
    wait_for(&sockets.path("web.sock"));
    server
}

/// A gateway on a Unix socket, with two of them behind it.
fn gateway(sockets: &Sockets) -> RealGateway {
    let listener = format!("{{ address: \"{}\", mode: 0600 }}", sockets.address("gateway.sock"));
    RealGateway::listening(
        &[listener],
        &format!(
            "client: {{ trusted_proxies: [unix] }}\n\
             upstreams:\n  app: {{ servers: [\"{}\"] }}\n  web: {{ servers: [\"{}\"] }}\n\
             routes:\n  - {{ name: all, match: {{ path: \"/{{*rest}}\" }}, upstream: app }}\n\
             \x20 - {{ name: web, match: {{ path: \"/web/{{*rest}}\" }}, upstream: web }}\n",
            sockets.address("app.sock"),
            sockets.address("web.sock"),
        ),
    )
}

/// What curl prints.
fn get(arguments: &[&str]) -> String {
    let fixed = ["-q", "--silent", "--show-error", "--max-time", "60", "--noproxy", "*"];
    let host = format!("Host: {HOST}");
    curl(&fixed.map(str::to_owned), &[&["-H", &host], arguments].concat()).out
}

#[test]
fn requests_pass_over_sockets_from_nginx_and_curl_to_node_and_nginx() {
    let sockets = Sockets::new("pass");
    let (_application, _web) = (node_echo(&sockets), nginx_without_pages(&sockets));
    let _gateway = gateway(&sockets);
    let socket = sockets.path("gateway.sock").display().to_string();
    let front = nginx(1, |addresses| {
        format!(
            "http {{\naccess_log off;\n{}server {{\nlisten {};\nlocation / {{\nproxy_pass http://unix:{socket}:;\n\
             proxy_http_version 1.1;\nproxy_set_header Connection \"\";\nproxy_set_header Host $host;\n\
             proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;\n\
             proxy_set_header X-Forwarded-Proto https;\nproxy_set_header X-Forwarded-Port 443;\n}}\n}}\n}}\n",
            nginx_temporary_folders(),
            addresses[0],
        )
    });
    // nginx reports its client.
    let over_nginx = |path: &str, more: &[&str]| {
        let url = format!("http://{}{path}", front.address());
        get(&[&["--interface", "127.0.0.2", url.as_str()], more].concat())
    };
    let expected = format!(
        "Host: {HOST}\nX-Forwarded-For: 127.0.0.2\nX-Forwarded-Proto: https\nX-Forwarded-Host: {HOST}\n\
         X-Forwarded-Port: 443\nX-Real-IP: 127.0.0.2\nForwarded: for=127.0.0.2;host={HOST};proto=https\n"
    );
    assert_eq!(over_nginx("/", &[]), expected);
    assert_eq!(over_nginx("/", &["-H", "X-Forwarded-For: 203.0.113.7"]), expected, "a forged field");
    let error = over_nginx("/web/x", &[]);
    assert!(error.starts_with("{\"message\":") && error.ends_with(",\"code\":404}"), "{error}");
    // curl reports nobody, and has no address.
    let expected = format!(
        "Host: {HOST}\nX-Forwarded-Proto: http\nX-Forwarded-Host: {HOST}\nX-Forwarded-Port: 80\n\
         Forwarded: for=unknown;host={HOST};proto=http\n"
    );
    let url = format!("http://{HOST}/");
    for _ in 0..2 {
        assert_eq!(get(&["--unix-socket", &socket, &url]), expected);
    }
}

#[test]
#[ignore = "make proof: gunicorn"]
fn gunicorn_serves_over_a_socket() {
    let sockets = Sockets::new("gunicorn");
    let _application = gunicorn_on(&sockets.path("app.sock"), "counting_wsgi:app");
    wait_for(&sockets.path("app.sock"));
    let _gateway = gateway(&sockets);
    let socket = sockets.path("gateway.sock").display().to_string();
    let url = format!("http://{HOST}/");
    for text in ["one", "two"] {
        assert_eq!(get(&["--unix-socket", &socket, "--data", text, &url]), text);
    }
    assert_eq!(get(&["--unix-socket", &socket, &url]), "2");
}
