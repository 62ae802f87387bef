//! The real nghttp: several requests at once on one HTTP/2 connection.
//!
//! curl 7.88, which is Debian's, cannot use an h2c connection twice: with prior knowledge the second request fails with
//! "Error in the HTTP2 framing layer" at nginx itself.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::{Command, Stdio};

/// Asks for all paths on one connection and counts the answers by status.
pub fn get_all(server: SocketAddr, paths: &[&str]) -> BTreeMap<u16, usize> {
    run_nghttp("http", server, paths)
}

/// The same over TLS, where both agree on HTTP/2.
pub fn get_all_encrypted(server: SocketAddr, paths: &[&str]) -> BTreeMap<u16, usize> {
    run_nghttp("https", server, paths)
}

fn run_nghttp(scheme: &str, server: SocketAddr, paths: &[&str]) -> BTreeMap<u16, usize> {
    let mut command = Command::new("nghttp");
    command.args(["--null-out", "--verbose", "--no-dep", "--timeout=30"]);
    if scheme == "https" {
        // Who is trusted is for curl to test.
        command.arg("--no-verify-peer");
    }
    command.args(paths.iter().map(|path| format!("{scheme}://{server}{path}")));
    let done = command.stdin(Stdio::null()).output();
    let done = done.unwrap_or_else(|e| panic!("nghttp cannot be run ({e}); `make setup` installs it"));
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    let complaints = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success() && complaints.is_empty(), "{complaints}{text}");
    assert_eq!(text.matches("Connected").count(), 1, "{text}");
    // Colours stand around the names even when nobody sees them.
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
