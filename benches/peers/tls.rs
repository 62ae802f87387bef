//! Clients that speak TLS: HTTP/1.1, and HTTP/2 with one stream or many on a connection. h2load (nghttp2) asks.
//!
//! It knows how h2load is told and what it says. Bodies are not looked at here: the same answers are compared byte by
//! byte without TLS ([`super::load`]); here their statuses are counted.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use super::job::Job;
use super::process::find;

/// How the clients speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsMode {
    /// One request after the other on each connection.
    Http1,
    /// The same on HTTP/2.
    SingleStream,
    /// As browsers and gRPC do.
    MultipleStreams,
}

impl TlsMode {
    /// In the order of the tables.
    const ALL: [TlsMode; 3] = [TlsMode::Http1, TlsMode::SingleStream, TlsMode::MultipleStreams];

    /// A few words for the tables.
    pub const fn name(self) -> &'static str {
        match self {
            TlsMode::Http1 => "HTTP/1.1, 16 connections",
            TlsMode::SingleStream => "HTTP/2, 16 connections, one stream",
            TlsMode::MultipleStreams => "HTTP/2, 8 connections, 16 streams",
        }
    }

    /// Connections, streams on each, and the protocol to agree on.
    const fn options(self) -> [&'static str; 3] {
        match self {
            TlsMode::Http1 => ["-c16", "-m1", "--npn-list=http/1.1"],
            TlsMode::SingleStream => ["-c16", "-m1", "--npn-list=h2"],
            TlsMode::MultipleStreams => ["-c8", "-m16", "--npn-list=h2"],
        }
    }
}

/// What is done in TLS too (passing, replacing and refusing), each way; nothing where the tool is missing.
pub fn jobs() -> impl Iterator<Item = (Job, TlsMode)> {
    const JOBS: [Job; 3] = [Job::Forwarded, Job::Replaced, Job::Limited];
    let tls_modes: &[TlsMode] = if missing_tool().is_some() { &[] } else { &TlsMode::ALL };
    tls_modes.iter().flat_map(|tls_mode| JOBS.map(|job| (job, *tls_mode)))
}

/// A sentence where the tool is missing.
pub fn missing_tool() -> Option<&'static str> {
    let sentence = "h2load is not installed and TLS is left out; `make bench` installs it (nghttp2-client).";
    find("h2load").is_none().then_some(sentence)
}

/// Asks so many times, and says how many answers came a second.
pub async fn run_h2load(
    address: SocketAddr,
    job: Job,
    tls_mode: TlsMode,
    requests: usize,
) -> Result<f64, String> {
    let url = format!("https://{address}{}", job.path());
    // The upstream lives on this thread: it may not wait for h2load.
    let ran = tokio::task::spawn_blocking(move || {
        let mut command = Command::new("h2load");
        command.arg(format!("-n{requests}")).args(tls_mode.options()).arg(url).stdin(Stdio::null());
        command.output().map_err(|error| format!("h2load cannot be run: {error}"))
    });
    let output = ran.await.map_err(|e| e.to_string())??;
    let stdout_text = String::from_utf8_lossy(&output.stdout);
    parse_h2load_output(&stdout_text, job, requests)
        .map_err(|sentence| format!("{sentence}; h2load said:\n{stdout_text}"))
}

/// Reads `finished in 1.28s, 1563.97 req/s, ...` and `status codes: 2000 2xx, 0 3xx, 0 4xx, 0 5xx`.
fn parse_h2load_output(stdout_text: &str, job: Job, requests: usize) -> Result<f64, String> {
    let line = |start: &str| stdout_text.lines().find_map(|line| line.strip_prefix(start));
    let statuses = line("status codes: ").ok_or("counts no statuses")?;
    let of_class = |class: u16| {
        let part = statuses.split(", ").find_map(|part| part.strip_suffix(&format!(" {class}xx")));
        part.and_then(|part| part.parse::<usize>().ok()).unwrap_or_default()
    };
    let good = of_class(job.status() / 100);
    // The first request of a client passes the limit, and one a minute later.
    let let_through = if job == Job::Limited { of_class(2) } else { 0 };
    if good + let_through != requests || let_through > 2 {
        return Err(format!("answered {} {good} times of {requests} as it should", job.name()));
    }
    let rate =
        line("finished in ").and_then(|rest| rest.split(", ").nth(1)?.strip_suffix(" req/s")?.parse().ok());
    rate.ok_or_else(|| "tells no rate".into())
}

/// Writes a certificate for the address and its key, and both in one file as HAProxy wants them.
pub fn write_certificate(folder: &Path) -> Result<(), String> {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).map_err(|e| e.to_string())?;
    let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let both = format!("{certificate}{key}");
    for (name, text) in [("cert.pem", certificate), ("key.pem", key), ("both.pem", both)] {
        std::fs::write(folder.join(name), text).map_err(|e| format!("{name}: {e}"))?;
    }
    Ok(())
}
