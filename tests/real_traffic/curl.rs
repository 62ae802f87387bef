//! The real curl: options, the response it parsed, and the number of connections it opened.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use crate::folder::Folder;

/// How requests are sent. The host name is always the same, so that responses can be compared.
#[derive(Clone, Debug)]
pub struct Curl {
    options: Vec<String>,
    encrypted: bool,
}

/// The response as curl parsed it.
#[derive(Debug)]
pub struct CurlResponse {
    pub status: u16,
    /// HTTP version of the response: `1.0`, `1.1` or `2`.
    pub version: String,
    /// Header fields of the last response in order, names in lower case.
    pub fields: Vec<(String, String)>,
    /// TCP connections opened for this response.
    pub connects: u32,
    pub redirects: u32,
    /// The file with the body.
    pub body: PathBuf,
    _folder: Folder,
}

impl Curl {
    pub fn http1() -> Curl {
        Curl::with(&["--http1.1"])
    }

    pub fn http10() -> Curl {
        Curl::with(&["--http1.0"])
    }

    pub fn h2c() -> Curl {
        Curl::with(&["--http2-prior-knowledge"])
    }

    /// TLS with this authority; the HTTP version is negotiated with ALPN.
    pub fn https(version: &str, authority: &Path) -> Curl {
        let curl = Curl::with(&[version, "--cacert", authority.to_str().unwrap()]);
        Curl { encrypted: true, ..curl }
    }

    fn with(options: &[&str]) -> Curl {
        let fixed = [
            "--silent",
            "--show-error",
            "--max-time",
            "120",
            "--noproxy",
            "*",
            "--header",
            "Host: shop.example",
        ];
        let options = fixed.iter().chain(options).map(ToString::to_string).collect();
        Curl { options, encrypted: false }
    }

    /// Adds options.
    pub fn with_options(&self, options: &[&str]) -> Curl {
        let mut extra = self.clone();
        extra.options.extend(options.iter().map(ToString::to_string));
        extra
    }

    /// Sends one request; curl must succeed.
    pub fn get(&self, server: SocketAddr, path: &str) -> CurlResponse {
        let mut responses = self.get_all(server, &[path]);
        responses.pop().unwrap()
    }

    /// Starts one request that curl must fail after `meanwhile`; returns its exit status. `meanwhile` receives the path
    /// of the file with the body.
    pub fn expect_failure(
        &self,
        server: SocketAddr,
        path: &str,
        meanwhile: impl FnOnce(&Path),
    ) -> ExitStatus {
        let folder = Folder::new("curl");
        let body = folder.path.join("body");
        let mut command = Command::new("curl");
        command.args(["-q", "--no-buffer"]).args(&self.options).arg("--output").arg(&body);
        command
            .args(self.target(server, path))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut child =
            command.spawn().unwrap_or_else(|e| panic!("curl cannot be run ({e}); `make setup` installs it"));
        meanwhile(&body);
        let status = child.wait().unwrap();
        assert!(!status.success(), "curl accepts the truncated {path}");
        status
    }

    /// The URL; over TLS with the host name of the certificate.
    fn target(&self, server: SocketAddr, path: &str) -> Vec<String> {
        if !self.encrypted {
            return vec![format!("http://{server}{path}")];
        }
        let (ip, port) = (server.ip(), server.port());
        let resolve = format!("shop.example:{port}:{ip}");
        vec!["--resolve".to_owned(), resolve, format!("https://shop.example:{port}{path}")]
    }

    /// Sends several requests in sequence, on one connection if the server keeps it open.
    pub fn get_all(&self, server: SocketAddr, paths: &[&str]) -> Vec<CurlResponse> {
        let folders: Vec<Folder> = paths.iter().map(|_| Folder::new("curl")).collect();
        let mut command = Command::new("curl");
        command.arg("-q"); // ignores ~/.curlrc
        for (index, (path, folder)) in paths.iter().zip(&folders).enumerate() {
            if index > 0 {
                command.arg("--next");
            }
            command.args(&self.options);
            command.args(["--write-out", WRITE_OUT]).arg("--dump-header").arg(folder.path.join("head"));
            // For HEAD, curl would write the header section a second time, as the body.
            let head = self.options.iter().any(|option| option == "--head");
            command.arg("--output").arg(if head {
                PathBuf::from("/dev/null")
            } else {
                folder.path.join("body")
            });
            command.args(self.target(server, path));
        }
        let done = command.stdin(Stdio::null()).output();
        let done = done.unwrap_or_else(|e| panic!("curl cannot be run ({e}); `make setup` installs it"));
        let written = String::from_utf8(done.stdout).unwrap();
        assert!(
            done.status.success(),
            "curl {:?} {server}{paths:?}: {}\n{}{written}",
            self.options,
            done.status,
            String::from_utf8_lossy(&done.stderr)
        );
        assert_eq!(written.lines().count(), paths.len(), "{written}");
        written
            .lines()
            .zip(folders)
            .map(|(line, folder)| CurlResponse::parse_write_out(line, folder))
            .collect()
    }
}

/// One line per response.
const WRITE_OUT: &str = "%{http_code} %{http_version} %{num_connects} %{num_redirects}\n";

impl CurlResponse {
    fn parse_write_out(line: &str, folder: Folder) -> CurlResponse {
        let words: Vec<&str> = line.split(' ').collect();
        let [status, version, connects, redirects] = words[..] else { panic!("curl wrote: {line}") };
        let head = std::fs::read(folder.path.join("head")).unwrap();
        CurlResponse {
            status: status.parse().unwrap(),
            version: version.to_owned(),
            fields: final_headers(&String::from_utf8(head).unwrap()),
            connects: connects.parse().unwrap(),
            redirects: redirects.parse().unwrap(),
            body: folder.path.join("body"),
            _folder: folder,
        }
    }

    /// Values of a field.
    pub fn field(&self, name: &str) -> Vec<&str> {
        self.fields.iter().filter(|(n, _)| n == name).map(|(_, value)| value.as_str()).collect()
    }

    /// The body; curl creates no file for an empty one.
    pub fn bytes(&self) -> Vec<u8> {
        if Path::new(&self.body).exists() { std::fs::read(&self.body).unwrap() } else { Vec::new() }
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.bytes()).expect("the body is UTF-8")
    }
}

/// The fields of the last of several header sections (100, redirects, final response).
fn final_headers(heads: &str) -> Vec<(String, String)> {
    let last = heads.trim_end().rsplit("\r\n\r\n").next().unwrap_or_default();
    let field = |line: &str| {
        let (name, value) = line.split_once(':').unwrap_or_else(|| panic!("not a header field: {line}"));
        (name.to_ascii_lowercase(), value.trim().to_owned())
    };
    last.lines().skip(1).map(field).collect()
}
