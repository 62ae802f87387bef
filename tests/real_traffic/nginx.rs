//! Debian's nginx as an upstream with its own site and folder.
//!
//! One process, run by the current user on a free port; ended on drop. [`SITE_CONFIG`] defines its responses.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::folder::Folder;
use crate::load::limit;

/// The site. Absolute redirects would contain nginx' own port, so they are disabled.
const SITE_CONFIG: &str = r#"
    root site;
    default_type application/octet-stream;
    types { text/html html; text/plain txt; application/json json; }
    absolute_redirect off;
    client_max_body_size 200m;
    keepalive_requests 100000;
    log_not_found off;
    gzip on;
    gzip_http_version 1.0;
    gzip_proxied any;
    gzip_min_length 100;
    gzip_vary on;
    gzip_types text/plain application/json;

    location = /moved { return 301 /page.html?from=moved; }
    location = /found { return 302 https://elsewhere.example/path?x=1&y=%20; }
    location = /nothing { return 204; }
    location = /coloured { add_header X-Colour red; add_header X-Colour "green, blue"; return 200 "coloured\n"; }
    location = /paced.bin { limit_rate 400k; }
    location = /slow.bin { alias site/noise.bin; limit_rate 60k; }
    location = /forbidden { return 403; }
    location = /gone { return 410; }
    location = /not-allowed { return 405; }
    location = /broken { return 500; }
    location = /bad-gateway { return 502; }
    location = /unavailable { return 503; }
    location = /kept { default_type application/json; return 404 '{"message":"No such order.","code":404}'; }
    location /uploads/ { dav_methods PUT; create_full_put_path on; }
"#;

pub struct Nginx {
    child: Child,
    folder: Folder,
    /// The plaintext listener.
    pub address: SocketAddr,
    /// The TLS listener with HTTP/1.1 and HTTP/2, if there is a certificate.
    pub encrypted: SocketAddr,
}

/// A certificate with its key, in PEM.
pub struct ServerCertificate {
    pub cert: String,
    pub key: String,
}

impl Nginx {
    /// Starts nginx and waits until it accepts connections.
    pub fn start() -> Nginx {
        Nginx::with_certificate(None)
    }

    /// Like `start`, with TLS on a second port.
    pub fn with_certificate(certificate: Option<&ServerCertificate>) -> Nginx {
        let folder = Folder::new("nginx");
        if let Some(certificate) = certificate {
            std::fs::write(folder.path.join("cert.pem"), &certificate.cert).unwrap();
            std::fs::write(folder.path.join("key.pem"), &certificate.key).unwrap();
        }
        write_site_files(&folder.path.join("site"));
        // Another process can take the free port before nginx binds it; then try another one.
        for _ in 0..5 {
            let (address, encrypted) = (free_address(), free_address());
            if let Some(child) =
                spawn_nginx(&folder.path, address, certificate.is_some().then_some(encrypted))
            {
                return Nginx { child, folder, address, encrypted };
            }
        }
        panic!("nginx does not start:\n{}", log(&folder.path));
    }

    /// Kills the process.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Path of a file of the site.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path.join("site").join(name)
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("-- nginx wrote:\n{}", log(&self.folder.path));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Creates the files of the site.
fn write_site_files(site: &Path) {
    std::fs::create_dir_all(site.join("uploads")).unwrap();
    let page = format!(
        "<!doctype html>\n<title>A page</title>\n{}",
        "<p>Some text, again and again.</p>\n".repeat(200)
    );
    let records: Vec<String> = (0..500).map(|n| format!("{{\"id\":{n},\"name\":\"record {n}\"}}")).collect();
    std::fs::write(site.join("page.html"), page).unwrap();
    std::fs::write(site.join("records.json"), format!("[{}]", records.join(","))).unwrap();
    std::fs::write(site.join("small.txt"), "small\n").unwrap();
    std::fs::write(site.join("empty.txt"), "").unwrap();
    crate::folder::write_noise(&site.join("paced.bin"), 200 * 1024);
    crate::folder::write_noise(&site.join("noise.bin"), 300 * 1024);
}

fn spawn_nginx(folder: &Path, address: SocketAddr, encrypted: Option<SocketAddr>) -> Option<Child> {
    let encrypted = encrypted.map_or_else(String::new, |address| {
        format!("    listen {address} ssl http2;\n    ssl_certificate cert.pem;\n    ssl_certificate_key key.pem;\n")
    });
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let temporary = temporary.map(|kind| format!("    {kind}_temp_path temporary_{kind};\n")).concat();
    let config = format!(
        "daemon off;\nmaster_process off;\npid nginx.pid;\nerror_log error.log;\nevents {{ worker_connections 512; }}\n\
         http {{\n    access_log off;\n{temporary}    server {{\n    listen {address};\n{encrypted}{SITE_CONFIG}    }}\n}}\n"
    );
    std::fs::write(folder.join("nginx.conf"), config).unwrap();
    let mut child = Command::new(executable())
        .arg("-p")
        .arg(folder)
        .args(["-c", "nginx.conf", "-e", "error.log"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|e| panic!("nginx cannot be run ({e}); `make setup` installs it"));
    let deadline = Instant::now() + limit();
    while Instant::now() < deadline {
        if child.try_wait().unwrap().is_some() {
            return None;
        }
        if TcpStream::connect(address).is_ok() {
            return Some(child);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let _ = child.kill();
    let _ = child.wait();
    None
}

/// Debian installs it in a folder that only root's PATH contains.
fn executable() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from));
    folders
        .map(|folder| folder.join("nginx"))
        .find(|file| file.is_file())
        .unwrap_or_else(|| PathBuf::from("nginx"))
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// The end of its log.
fn log(folder: &Path) -> String {
    let text = std::fs::read_to_string(folder.join("error.log")).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}
