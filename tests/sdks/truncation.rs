//! Truncated responses in real clients: none of them takes a truncated response for a complete one. curl, requests,
//! Node's fetch, ureq and Chromium must each report their own error.
//!
//! Inside the response headers nothing can be truncated yet: clients get the documented 504. `tests/it/truncation.rs`
//! covers the bytes.

use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use statusquo::conformance::{ScriptedUpstream, Step, write_bytes};

use crate::gateway::RealGateway;
use crate::load::{millis, scaled};
use crate::page::{PageFetch, TestPage};
use crate::program::{install_packages, run, succeed};

const LENGTH_HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 20\r\n\r\n";
const CHUNKED_HEAD: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n";
const CLOSE_HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\nconnection: close\r\n\r\n";
const TIMEOUT: Duration = Duration::from_secs(60);

/// Name, upstream bytes and end of each response.
fn truncations() -> Vec<(&'static str, String, Step)> {
    let truncation = |name, head: &str, body: &str| (name, format!("{head}{body}"), Step::Close);
    vec![
        truncation("length-after-headers", LENGTH_HEAD, ""),
        truncation("length-first-byte", LENGTH_HEAD, "a"),
        truncation("length-middle", LENGTH_HEAD, "nine byte"),
        truncation("length-last-byte", LENGTH_HEAD, "nineteen bytes here"),
        truncation("chunked-after-headers", CHUNKED_HEAD, ""),
        truncation("chunked-inside-chunk-size", CHUNKED_HEAD, "9\r\nnine byte\r\n1"),
        truncation("chunked-first-byte", CHUNKED_HEAD, "9\r\nn"),
        truncation("chunked-middle", CHUNKED_HEAD, "9\r\nnine byte\r\n9\r\nfour"),
        truncation("chunked-between-chunks", CHUNKED_HEAD, "9\r\nnine byte\r\n"),
        truncation("chunked-inside-last-chunk", CHUNKED_HEAD, "9\r\nnine byte\r\n0\r\n"),
        // Its end is the connection's end: only a reset shows that it is truncated.
        ("close-after-headers", CLOSE_HEAD.to_owned(), Step::Reset),
        ("close-middle", format!("{CLOSE_HEAD}nine byte"), Step::Reset),
    ]
}

/// Truncated responses, complete ones, and malformed response headers.
fn upstream() -> ScriptedUpstream {
    let truncated = truncations();
    ScriptedUpstream::by_request(move |request| {
        let name = request.path().trim_start_matches('/');
        let (bytes, last) = match truncated.iter().find(|(known, ..)| *known == name) {
            // The bytes must arrive before the end of the connection.
            Some((_, bytes, last)) => (bytes.clone(), last.clone()),
            None if name == "inside-headers" => ("HTTP/1.1 200 OK\r\nconte".to_owned(), Step::Close),
            None => {
                return vec![
                    Step::ReadRequestHead,
                    write_bytes(format!("{CHUNKED_HEAD}5\r\nwhole\r\n0\r\n\r\n")),
                ];
            }
        };
        vec![Step::ReadRequestHead, write_bytes(bytes), Step::Pause(millis(100)), last]
    })
    .unwrap()
}

fn gateway_for(upstream: &ScriptedUpstream, origin: &str) -> RealGateway {
    RealGateway::with(&format!(
        "upstreams: {{ truncating: {{ servers: [\"{}\"], retry: {{ attempts: 1 }} }} }}\n\
         cors: {{ allow_origins: [\"{origin}\"] }}\n\
         routes: [{{ name: all, match: {{ path: \"/{{*rest}}\" }}, upstream: truncating, cors: default }}]\n",
        upstream.address()
    ))
}

/// The requests in order: a complete response first and last, everything else in between.
fn names() -> Vec<&'static str> {
    let truncation = truncations().into_iter().map(|(name, ..)| name);
    std::iter::once("whole").chain(truncation).chain(["inside-headers", "whole-again"]).collect()
}

/// Asserts that truncated responses failed and all others were read.
#[track_caller]
fn check_failures(client: &str, found: &[Value]) {
    let names = names();
    assert_eq!(found.len(), names.len(), "{client}: {found:#?}");
    for (name, found) in names.iter().zip(found) {
        match *name {
            "whole" | "whole-again" => {
                assert_eq!(
                    (&found["status"], &found["body"]),
                    (&json!(200), &json!("whole")),
                    "{client}, {name}"
                );
            }
            "inside-headers" => assert_eq!(found["status"], 504, "{client}, {name}: {found}"),
            _ => assert!(found["failed"].is_string(), "{client} accepts the truncated {name}: {found}"),
        }
    }
}

fn urls(gateway: &RealGateway) -> Vec<String> {
    names().iter().map(|name| format!("http://{}/{name}", gateway.http1)).collect()
}

fn json_lines(output: &str) -> Vec<Value> {
    output.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
}

/// Asserts that the gateway counted one truncation per client and case.
fn expect_counts(gateway: &RealGateway, clients: u64) {
    let responses = clients * (truncations().len() as u64 + 2);
    gateway.wait_for_counts(&[(200, responses), (504, clients)].into(), RealGateway::responses_by_code);
}

#[test]
fn curl_fails_wherever_a_response_is_truncated() {
    let upstream = upstream();
    let gateway = gateway_for(&upstream, "http://unused.example");
    for version in ["--http1.1", "--http1.0"] {
        let request = |url: String| {
            let mut curl = Command::new("curl");
            curl.args(["-q", "--silent", "--noproxy", "*", "--max-time", "20", version]);
            let done = run(curl.args(["--write-out", "\n%{http_code}", &url]), TIMEOUT);
            let (body, status) = done.out.rsplit_once('\n').unwrap();
            match done.status.code() {
                Some(0) => json!({ "status": status.parse::<u16>().unwrap(), "body": body }),
                code => json!({ "failed": format!("{code:?}") }),
            }
        };
        let found: Vec<Value> = urls(&gateway).into_iter().map(request).collect();
        check_failures(&format!("curl {version}"), &found);
    }
    expect_counts(&gateway, 2);
}

#[test]
#[ignore = "make proof: Python requests"]
fn python_requests_fails_wherever_a_response_is_truncated() {
    install_packages();
    let upstream = upstream();
    let gateway = gateway_for(&upstream, "http://unused.example");
    for version in [&[][..], &["--http1.0"]] {
        let mut python = Command::new("target/packages/python/bin/python");
        python.arg("tests/sdks/truncated.py").args(version).args(urls(&gateway)).env("NO_PROXY", "*");
        check_failures(&format!("requests {version:?}"), &json_lines(&succeed(&mut python, TIMEOUT)));
    }
    expect_counts(&gateway, 2);
}

#[test]
fn node_fetch_fails_wherever_a_response_is_truncated() {
    let upstream = upstream();
    let gateway = gateway_for(&upstream, "http://unused.example");
    let mut node = Command::new("node");
    check_failures(
        "node",
        &json_lines(&succeed(node.arg("tests/sdks/truncated.mjs").args(urls(&gateway)), TIMEOUT)),
    );
    expect_counts(&gateway, 1);
}

#[test]
fn rust_client_fails_wherever_a_response_is_truncated() {
    let upstream = upstream();
    let gateway = gateway_for(&upstream, "http://unused.example");
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .proxy(None)
        .timeout_global(Some(scaled(TIMEOUT)))
        .build()
        .into();
    let request = |url: String| {
        let read = agent.get(&url).call().and_then(|mut response| {
            Ok(json!({ "status": response.status().as_u16(), "body": response.body_mut().read_to_string()? }))
        });
        read.unwrap_or_else(|error| json!({ "failed": error.to_string() }))
    };
    let found: Vec<Value> = urls(&gateway).into_iter().map(request).collect();
    check_failures("ureq", &found);
    expect_counts(&gateway, 1);
}

#[test]
#[ignore = "make proof: browser"]
fn browser_fetch_fails_wherever_a_response_is_truncated() {
    let upstream = upstream();
    let page = TestPage::serve();
    let gateway = gateway_for(&upstream, &page.origin());
    let fetches: Vec<PageFetch> = names()
        .iter()
        .zip(urls(&gateway))
        .map(|(name, url)| PageFetch { name: (*name).to_owned(), url, options: json!({}) })
        .collect();
    let found = page.open(&fetches);
    let found: Vec<Value> = names().iter().map(|name| found[*name].clone()).collect();
    check_failures("chromium", &found);
    expect_counts(&gateway, 1);
}
