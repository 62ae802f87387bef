//! `docs/routing.md`: each configuration on the page is started, and each transcript compared with what its commands
//! print. `UPDATE_DOCS=1 cargo test --test it routing_page` writes the transcripts again.
//!
//! Only addresses differ from the page: listeners get free ports, upstream servers are local ones, networks of load
//! balancers are the loopback network. `X-Request-Id` and `Date` are replaced by constants.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::certificates::Authority;
use super::load::{self};
use super::prelude::*;

/// The fields of a request that the upstreams print.
const PRINTED: [&str; 5] = ["host", "x-tenant", "x-internal", "x-forwarded-for", "x-forwarded-proto"];

/// Responds with the request that it got.
fn echo(name: &str) -> ScriptedUpstream {
    let name = name.to_owned();
    by_request(move |request| {
        let mut text = format!("{name} got {} {}\n", request.method, request.target);
        for field in PRINTED {
            for (_, value) in request.headers.iter().filter(|(name, _)| name == field) {
                writeln!(text, "{field}: {value}").unwrap();
            }
        }
        vec![
            Step::ReadRequestHead,
            Step::ReadBody,
            write_bytes(http_response("200 OK\nx-powered-by: php", text)),
        ]
    })
}

/// A running configuration of the page.
struct Deployment {
    gateway: Gateway,
    /// The ports of its listeners on the page.
    ports: Vec<String>,
    authority: PathBuf,
    _upstreams: Vec<ScriptedUpstream>,
    _folder: TestFolder,
}

impl Deployment {
    fn start(config: &str) -> Deployment {
        let folder = TestFolder::new();
        let authority = Authority::new();
        let issued = authority.issue(&["shop.example"]);
        std::fs::create_dir_all(folder.path("tls")).unwrap();
        folder.write("tls/gateway.crt", &issued.cert);
        folder.write("tls/gateway.key", &issued.key);
        let mut text = config.replace("10.0.0.0/8", "127.0.0.0/8");
        let mut upstreams = Vec::new();
        while let Some(end) = text.find(".internal:8000") {
            let start = text[..end].rfind('"').unwrap() + 1;
            let server = text[start..end + ".internal:8000".len()].to_owned();
            let upstream = echo(&text[start..end]);
            text = text.replace(&server, &upstream.address().to_string());
            upstreams.push(upstream);
        }
        let mut ports = Vec::new();
        while let Some(start) = text.find("0.0.0.0:") {
            let digits = &text[start + "0.0.0.0:".len()..];
            let port = digits[..digits.find(|c: char| !c.is_ascii_digit()).unwrap()].to_owned();
            text = text.replacen(&format!("0.0.0.0:{port}"), "127.0.0.1:0", 1);
            ports.push(port);
        }
        text.push_str("telemetry: { address: \"127.0.0.1:0\" }\n");
        let file = folder.write("statusquo.yaml", &load::configuration(&text));
        let gateway = Gateway::with_listeners(&["run", file.to_str().unwrap()], ports.len());
        let authority = folder.write("authority.pem", &authority.pem());
        Deployment { gateway, ports, authority, _upstreams: upstreams, _folder: folder }
    }

    /// What a command of the page prints.
    fn run(&self, command: &str) -> String {
        let words = words(command);
        let printed = match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            ["curl", ..] => self.curl(&words[1..]),
            ["printf", bytes, "|", "nc", "gateway", _] => self.send(bytes),
            _ => panic!("{command}: only curl, and printf with nc, can be run"),
        };
        let lines = printed.lines().map(masked);
        lines.collect::<Vec<_>>().join("\n").trim_end().to_owned()
    }

    fn curl(&self, arguments: &[String]) -> String {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--max-time", &limit().as_secs().to_string()]);
        curl.arg("--cacert").arg(&self.authority).args(["--noproxy", "*"]);
        for (port, address) in self.ports.iter().zip(self.gateway.addresses()) {
            curl.args(["--connect-to", &format!(":{port}:{address}")]);
        }
        let output = curl.args(arguments).output().expect("curl is installed");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn send(&self, bytes: &str) -> String {
        let mut stream = TcpStream::connect(self.gateway.address()).unwrap();
        stream.set_read_timeout(Some(limit())).unwrap();
        stream.write_all(bytes.replace("\\r", "\r").replace("\\n", "\n").as_bytes()).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }
}

/// The line with constants for what differs between requests.
fn masked(line: &str) -> String {
    for (name, value) in [
        ("x-request-id: ", "01a22a19-b563-7495-b403-bff66f5f36b0"),
        ("date: ", "Mon, 30 Nov 2026 01:37:37 GMT"),
    ] {
        let (start, rest) = line.split_at_checked(name.len()).unwrap_or((line, ""));
        if start.eq_ignore_ascii_case(name) && !rest.is_empty() {
            return format!("{start}{value}");
        }
    }
    line.to_owned()
}

/// The words of a command; quoted ones without their quotation marks.
fn words(command: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (index, part) in command.split('\'').enumerate() {
        if index % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    words
}

/// The page with what its commands print now.
fn page_with_transcripts(page: &str) -> String {
    let mut written = String::new();
    let mut deployment = None;
    let mut parts = page.split("```");
    written.push_str(parts.next().unwrap());
    while let (Some(block), Some(prose)) = (parts.next(), parts.next()) {
        let (language, text) = block.split_once('\n').unwrap();
        match language {
            "yaml" => {
                deployment = Some(Deployment::start(text));
                write!(written, "```{block}```{prose}").unwrap();
            }
            "console" => {
                let deployment = deployment.as_ref().expect("a configuration precedes the transcript");
                let commands = text.lines().filter_map(|line| line.strip_prefix("$ "));
                let transcript =
                    commands.map(|command| format!("$ {command}\n{}\n", deployment.run(command)));
                let transcript = transcript.collect::<Vec<_>>().join("\n");
                write!(written, "```console\n{transcript}```{prose}").unwrap();
            }
            other => panic!("unexpected block {other}"),
        }
    }
    written
}

#[test]
fn routing_page_shows_what_its_configurations_do() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/routing.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let now = page_with_transcripts(&page);
    assert_eq!(now.matches("```yaml").count(), 8);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &now).unwrap();
        return;
    }
    for (line, (shown, printed)) in page.lines().zip(now.lines()).enumerate() {
        assert_eq!(
            shown,
            printed,
            "docs/routing.md:{}; UPDATE_DOCS=1 writes the transcripts again",
            line + 1
        );
    }
    assert_eq!(page, now);
}
