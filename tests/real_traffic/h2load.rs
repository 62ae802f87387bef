//! The real h2load: a fixed number of requests on a few connections, and its printed totals.

use std::net::SocketAddr;
use std::process::{Command, Stdio};

/// Totals of h2load.
#[derive(Debug, PartialEq, Eq)]
pub struct H2loadSummary {
    pub total: u64,
    pub done: u64,
    /// Lost connections, reset streams and missing responses, which have no status code.
    pub errored: u64,
    pub timed_out: u64,
    /// Responses by class: 2xx, 3xx, 4xx, 5xx.
    pub classes: [u64; 4],
}

/// Protocol of the requests.
#[derive(Clone, Copy, Debug)]
pub enum LoadProtocol {
    Http1,
    H2c,
    /// HTTP/1.1 over TLS.
    Https1,
    /// HTTP/2 over TLS.
    Https2,
}

/// Sends `requests` requests over `clients` connections, each requesting `paths` in turn.
pub fn run_h2load(
    protocol: LoadProtocol,
    server: SocketAddr,
    paths: &[&str],
    requests: u64,
    clients: u64,
) -> H2loadSummary {
    let mut command = Command::new("h2load");
    command.args(["-n", &requests.to_string(), "-c", &clients.to_string(), "-T", "60", "-N", "60"]);
    match protocol {
        LoadProtocol::Http1 => command.args(["--h1", "-m", "1"]),
        LoadProtocol::H2c => command.args(["-p", "h2c", "-m", "8"]),
        LoadProtocol::Https1 => command.args(["--npn-list=http/1.1", "-m", "1"]),
        LoadProtocol::Https2 => command.args(["--npn-list=h2", "-m", "8"]),
    };
    let scheme = match protocol {
        LoadProtocol::Http1 | LoadProtocol::H2c => "http",
        LoadProtocol::Https1 | LoadProtocol::Https2 => "https",
    };
    command.args(paths.iter().map(|path| format!("{scheme}://{server}{path}")));
    let done = command.stdin(Stdio::null()).output();
    let done = done.unwrap_or_else(|e| panic!("h2load cannot be run ({e}); `make setup` installs it"));
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(done.status.success(), "{text}\n{}", String::from_utf8_lossy(&done.stderr));
    parse_summary(&text)
}

/// Parses the two lines of totals.
fn parse_summary(text: &str) -> H2loadSummary {
    let requests = counts(text, "requests: ");
    let classes = counts(text, "status codes: ");
    let of = |counts: &[(u64, String)], name: &str| {
        counts.iter().find(|(_, n)| n == name).unwrap_or_else(|| panic!("no {name} in:\n{text}")).0
    };
    H2loadSummary {
        total: of(&requests, "total"),
        done: of(&requests, "done"),
        errored: of(&requests, "errored"),
        timed_out: of(&requests, "timeout"),
        classes: ["2xx", "3xx", "4xx", "5xx"].map(|class| of(&classes, class)),
    }
}

/// `name: 1 a, 2 b` returns `[(1, a), (2, b)]`.
fn counts(text: &str, name: &str) -> Vec<(u64, String)> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .unwrap_or_else(|| panic!("no {name}in:\n{text}"));
    let pair = |part: &str| {
        let (number, name) = part.trim().split_once(' ')?;
        Some((number.parse().ok()?, name.to_owned()))
    };
    line.split(',').filter_map(pair).collect()
}

#[test]
fn h2load_summary_is_parsed() {
    let text = "finished in 10ms\nrequests: 50 total, 50 started, 49 done, 20 succeeded, 30 failed, 1 errored, 0 timeout\n\
                status codes: 10 2xx, 10 3xx, 9 4xx, 20 5xx\n";
    let expected = H2loadSummary { total: 50, done: 49, errored: 1, timed_out: 0, classes: [10, 10, 9, 20] };
    assert_eq!(parse_summary(text), expected);
}
