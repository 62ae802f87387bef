//! The real nghttp: concurrent requests on one HTTP/2 connection.
//!
//! Debian's curl 7.88 cannot reuse an h2c connection: with prior knowledge the second request fails with "Error in the
//! HTTP2 framing layer", even on nginx itself.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::{Command, Stdio};

/// Requests all paths on one connection; counts the responses by status code.
pub fn get_all(server: SocketAddr, paths: &[&str]) -> BTreeMap<u16, usize> {
    run_nghttp("http", server, paths)
}

/// Like `get_all`, over TLS with ALPN.
pub fn get_all_encrypted(server: SocketAddr, paths: &[&str]) -> BTreeMap<u16, usize> {
    run_nghttp("https", server, paths)
}

fn run_nghttp(scheme: &str, server: SocketAddr, paths: &[&str]) -> BTreeMap<u16, usize> {
    let mut command = Command::new("nghttp");
    command.args(["--null-out", "--verbose", "--no-dep", "--timeout=30"]);
    if scheme == "https" {
        // The curl tests cover certificate verification.
        command.arg("--no-verify-peer");
    }
    command.args(paths.iter().map(|path| format!("{scheme}://{server}{path}")));
    let done = command.stdin(Stdio::null()).output();
    let done = done.unwrap_or_else(|e| panic!("nghttp cannot be run ({e}); `make setup` installs it"));
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    let complaints = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success() && complaints.is_empty(), "{complaints}{text}");
    assert_eq!(text.matches("Connected").count(), 1, "{text}");
    // nghttp writes colour codes around the names even to a pipe.
    let statuses = text.lines().filter(|line| line.contains("recv (stream_id=")).filter_map(|line| {
        let (_, value) = line.split_once(":status")?;
        value.rsplit(' ').next()?.trim().parse().ok()
    });
    let mut counts = BTreeMap::new();
    for status in statuses {
        *counts.entry(status).or_default() += 1;
    }
    counts
}
