//! The compared proxies, each configured for the same four jobs with one worker.
//!
//! Each follows its own documentation: upstream connections are kept alive, nothing is logged, and a refused server is
//! not retried. The gateway keeps all its limits, deadlines, metrics and its panic guard: they cannot be disabled.
//! [`super::job`] defines the requests.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::job::{BODY_429, BODY_504};
use super::process::{Process, find};
use super::tls::write_certificate;
use super::upstreams::Upstreams;

/// Start under valgrind is slow.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// Compared proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyKind {
    /// The gateway under test.
    Statusquo,
    /// nginx as packaged by Debian.
    Nginx,
    /// HAProxy as packaged by Debian.
    Haproxy,
}

/// An installed proxy.
#[derive(Clone, Debug)]
pub struct Proxy {
    pub kind: ProxyKind,
    /// Name with version.
    pub name: String,
    executable: PathBuf,
}

/// A running proxy.
pub struct Running {
    pub process: Process,
    pub address: SocketAddr,
    /// TLS listener for the same jobs, with HTTP/1.1 and HTTP/2.
    pub encrypted: SocketAddr,
}

/// Installed proxies, the gateway first, and one sentence for each missing proxy.
pub fn installed(statusquo: &Path) -> (Vec<Proxy>, Vec<String>) {
    let name = concat!("statusquo ", env!("CARGO_PKG_VERSION")).to_owned();
    let mut proxies = vec![Proxy { kind: ProxyKind::Statusquo, name, executable: statusquo.to_owned() }];
    let mut missing = Vec::new();
    for (kind, command) in [(ProxyKind::Nginx, "nginx"), (ProxyKind::Haproxy, "haproxy")] {
        match find(command) {
            Some(executable) => {
                let name = format!("{command} {}", version(&executable));
                proxies.push(Proxy { kind, name, executable });
            }
            None => {
                missing.push(format!("{command} is not installed and is skipped; `make bench` installs it."))
            }
        }
    }
    (proxies, missing)
}

/// The first dotted number in the output of `-v`.
fn version(executable: &Path) -> String {
    let Ok(output) = Command::new(executable).arg("-v").output() else { return String::new() };
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let mut words = text.split([' ', '/', '\n']);
    let number = words.find(|word| word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.'));
    number.and_then(|number| number.split('-').next()).unwrap_or_default().to_owned()
}

impl Proxy {
    /// Starts the proxy, behind `wrapper` if given, and waits until it accepts connections.
    pub fn start(
        &self,
        upstreams: &Upstreams,
        folder: &Path,
        core: Option<usize>,
        wrapper: &[String],
    ) -> Result<Running, String> {
        let log = folder.join("log");
        // Another process can take the free port before the proxy binds it; then try another one.
        for _ in 0..3 {
            let [address, encrypted] = free_addresses().map_err(|e| e.to_string())?;
            let words = [wrapper, &self.command(upstreams, folder, [address, encrypted])?].concat();
            let mut process = Process::start(&words, core, &log)?;
            let deadline = Instant::now() + START_TIMEOUT;
            while !process.has_ended() && Instant::now() < deadline {
                if [address, encrypted].into_iter().all(accepts) {
                    return Ok(Running { process, address, encrypted });
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        let output = std::fs::read_to_string(&log).unwrap_or_default();
        Err(format!("{} does not start:\n{output}", self.name))
    }

    /// Writes the configuration and returns the command that serves it in the foreground.
    fn command(
        &self,
        upstreams: &Upstreams,
        folder: &Path,
        [address, encrypted]: [SocketAddr; 2],
    ) -> Result<Vec<String>, String> {
        write_certificate(folder)?;
        let (name, template, before): (_, _, &[&str]) = match self.kind {
            ProxyKind::Statusquo => ("statusquo.yaml", STATUSQUO, &["run"]),
            ProxyKind::Nginx => ("nginx.conf", NGINX, &["-e", "/dev/null", "-c"]),
            ProxyKind::Haproxy => ("haproxy.cfg", HAPROXY, &["-db", "-q", "-f"]),
        };
        let file = folder.join(name);
        let text = template
            .replace("@ADDRESS@", &address.to_string())
            .replace("@ENCRYPTED@", &encrypted.to_string())
            .replace("@SERVING@", &upstreams.serving.to_string())
            .replace("@REFUSING@", &upstreams.refusing.to_string())
            .replace("@FOLDER@", &folder.display().to_string())
            .replace("@504@", BODY_504)
            .replace("@429@", BODY_429);
        std::fs::write(&file, text).map_err(|e| format!("{}: {e}", file.display()))?;
        let words = before.iter().map(|word| (*word).to_owned());
        let program = self.executable.display().to_string();
        Ok([program].into_iter().chain(words).chain([file.display().to_string()]).collect())
    }
}

/// Whether a server accepts connections at `address`. A connection from an ephemeral port can connect to itself; this
/// does not count.
fn accepts(address: SocketAddr) -> bool {
    TcpStream::connect(address).is_ok_and(|stream| stream.local_addr().is_ok_and(|local| local != address))
}

fn free_addresses() -> std::io::Result<[SocketAddr; 2]> {
    let free = || TcpListener::bind("127.0.0.1:0");
    let (one, other) = (free()?, free()?);
    Ok([one.local_addr()?, other.local_addr()?])
}

/// The defaults, without the access log for failed requests, which the other proxies do not write either.
const STATUSQUO: &str = r#"
version: 1
workers: 1
drain_delay: 0s
drain: 1s
listen:
  - { address: "@ADDRESS@" }
  - { address: "@ENCRYPTED@", tls: { cert: @FOLDER@/cert.pem, key: @FOLDER@/key.pem } }
telemetry: { address: "127.0.0.1:0" }
log: { requests: off }
upstreams:
  serving: { servers: ["@SERVING@"] }
  refusing: { servers: ["@REFUSING@"] }
rate_limits:
  clients: { key: [client_ip], allow: 1 per 1m }
routes:
  - { name: refused, match: { path: "/refused" }, upstream: refusing }
  - { name: limited, match: { path: "/limited" }, upstream: serving, rate_limits: [clients] }
  - { name: all, match: { path: "/{*rest}" }, upstream: serving }
"#;

const NGINX: &str = r#"
daemon off;
master_process off;
worker_rlimit_nofile 20000;
pid @FOLDER@/nginx.pid;
error_log /dev/null emerg;
events { worker_connections 16384; }
http {
    access_log off;
    server_tokens off;
    tcp_nodelay on;
    keepalive_timeout 75s;
    keepalive_requests 1000000000;
    client_body_temp_path @FOLDER@/client_body;
    proxy_temp_path @FOLDER@/proxy;
    fastcgi_temp_path @FOLDER@/fastcgi;
    uwsgi_temp_path @FOLDER@/uwsgi;
    scgi_temp_path @FOLDER@/scgi;
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_set_header Host $host;
    proxy_connect_timeout 2s;
    proxy_read_timeout 30s;
    proxy_intercept_errors on;
    error_page 500 501 502 503 504 =504 @failed;
    error_page 429 @limited;
    limit_req_zone $binary_remote_addr zone=clients:1m rate=1r/m;
    limit_req_status 429;
    limit_req_log_level info;
    upstream serving { server @SERVING@; keepalive 128; keepalive_requests 1000000000; }
    upstream refusing { server @REFUSING@; keepalive 16; }
    server {
        listen @ADDRESS@ backlog=4096;
        listen @ENCRYPTED@ ssl http2 backlog=4096;
        ssl_certificate @FOLDER@/cert.pem;
        ssl_certificate_key @FOLDER@/key.pem;
        ssl_protocols TLSv1.3;
        location / { proxy_pass http://serving; }
        location /refused { proxy_pass http://refusing; }
        location /limited { limit_req zone=clients; proxy_pass http://serving; }
        location @failed {
            default_type application/json;
            add_header Cache-Control no-store always;
            return 504 '@504@';
        }
        location @limited {
            default_type application/json;
            add_header Cache-Control no-store always;
            return 429 '@429@';
        }
    }
}
"#;

const HAPROXY: &str = r#"
global
    nbthread 1
    maxconn 8000
defaults
    mode http
    timeout connect 2s
    timeout client 75s
    timeout server 30s
    timeout http-keep-alive 75s
    option http-keep-alive
    http-reuse always
frontend clients
    bind @ADDRESS@ backlog 4096
    bind @ENCRYPTED@ ssl crt @FOLDER@/both.pem alpn h2,http/1.1 ssl-min-ver TLSv1.3 backlog 4096
    stick-table type ip size 100k expire 10m store http_req_rate(10m)
    acl limited path_beg /limited
    http-request track-sc0 src if limited
    http-request return status 429 content-type application/json hdr cache-control no-store string '@429@' if limited { sc_http_req_rate(0) gt 1 }
    use_backend refusing if { path_beg /refused }
    default_backend serving
backend serving
    http-response return status 504 content-type application/json hdr cache-control no-store string '@504@' if { status ge 500 }
    server s1 @SERVING@
backend refusing
    retries 0
    http-error status 503 content-type application/json hdr cache-control no-store string '@504@'
    http-after-response set-status 504
    server s1 @REFUSING@
"#;
