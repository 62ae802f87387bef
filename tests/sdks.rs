//! The published SDKs of the API with the built-in contract, through the gateway: what their users get in case of
//! failures.
//!
//! Each SDK calls a successful endpoint, one that fails in each documented way, and a rate-limited one. Its user must
//! catch the SDK's own exception with the documented code, message and type, without internal detail. `.ci/packages`
//! installs the SDKs; the scripts are in `tests/sdks`. [`apis`] covers the SDKs of other APIs, [`truncation`] covers
//! truncated responses in general clients, [`websockets`] tunnels, and [`grpc`] gRPC calls.

#![allow(unreachable_pub)] // a test crate exports nothing
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::panic
)]
#![allow(clippy::print_stderr)] // prints gateway output when a test fails
#![allow(clippy::disallowed_methods)] // tests wait for other programs and read the environment

#[path = "sdks/apis.rs"]
mod apis;
#[path = "browser/chromium.rs"]
mod chromium;
#[path = "real_traffic/curl.rs"]
#[allow(dead_code, reason = "shared with tests/real_traffic.rs, which uses all of it")]
mod curl;
#[path = "real_traffic/folder.rs"]
#[allow(dead_code, reason = "shared with tests/real_traffic.rs, which uses all of it")]
mod folder;
#[path = "real_traffic/gateway.rs"]
#[allow(dead_code, reason = "shared with tests/real_traffic.rs, which uses all of it")]
mod gateway;
#[path = "sdks/grpc.rs"]
mod grpc;
#[path = "it/load.rs"]
#[allow(dead_code)] // each test program uses a different part of it
mod load;
#[path = "browser/page.rs"]
mod page;
#[path = "deploy/processes.rs"]
mod program;
#[path = "sdks/python_server.rs"]
mod python_server;
#[path = "sdks/truncation.rs"]
mod truncation;
#[path = "sdks/websockets.rs"]
mod websockets;

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use statusquo::conformance::{RefusingPort, ScriptedUpstream, Step, http_response, write_bytes};

use gateway::RealGateway;
use program::{install_packages, succeed};

/// A successful response of the API.
const LOCALE_BODY: &str = r#"{"ip":"127.0.0.1","countryCode":"AT","country":"Austria","continentCode":"EU","continent":"Europe","eu":true,"currency":"EUR"}"#;

/// An error response of the API itself.
const OWN_ERROR: &str = r#"{"message":"User (role: guests) missing scopes ([\"locale.read\"])","code":401,"type":"general_unauthorized_scope","version":"1.9.5"}"#;

/// The first path segment selects the failure.
fn upstream() -> ScriptedUpstream {
    ScriptedUpstream::by_request(|request| match request.path().split('/').nth(1).unwrap_or_default() {
        "hanging" => vec![Step::ReadUntilClose],
        "resetting" => vec![Step::Reset],
        "html" => vec![write_bytes(http_response(
            "502 Bad Gateway\ncontent-type: text/html",
            "<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>",
        ))],
        // The API's engine without workers: a status line, no header field, close.
        "empty" => vec![write_bytes("HTTP/1.1 503 Service Unavailable\r\n\r\n"), Step::Close],
        "own" => vec![write_bytes(http_response(
            "401 Unauthorized\ncontent-type: application/json; charset=UTF-8",
            OWN_ERROR,
        ))],
        _ => vec![write_bytes(http_response(
            "200 OK\ncontent-type: application/json; charset=UTF-8",
            LOCALE_BODY,
        ))],
    })
    .unwrap()
}

fn gateway(upstream: &ScriptedUpstream, dead: &RefusingPort) -> RealGateway {
    RealGateway::with(&format!(
        "errors: {{ include: [type] }}\n\
         timeouts: {{ connect: 1s, response_headers: 500ms, deadline: 2s }}\n\
         upstreams: {{ api: {{ servers: [\"{}\"] }}, dead: {{ servers: [\"{}\"] }} }}\n\
         rate_limits: {{ one: {{ key: [client_ip], allow: 1 per 1h }} }}\n\
         routes:\n\
         - {{ name: dead, match: {{ path: \"/dead/{{*rest}}\" }}, upstream: dead }}\n\
         - {{ name: limited, match: {{ path: \"/limited/{{*rest}}\" }}, upstream: api, rate_limits: [one] }}\n\
         - {{ name: api, match: {{ path: \"/{{*rest}}\" }}, upstream: api }}\n",
        upstream.address(),
        dead.address()
    ))
}

/// What the SDK's user gets, by endpoint, in the order of the calls. The body is the SDK's `response`.
fn expected() -> Vec<(&'static str, Value)> {
    let raised = |code: u16, kind: &str, message: &str| {
        let body = format!(r#"{{"message":"{message}","code":{code},"type":"{kind}"}}"#);
        json!({ "raised": "AppwriteException", "code": code, "type": kind, "message": message, "response": body })
    };
    let fine = json!({ "country": "Austria" });
    let failure = raised(
        504,
        "general_gateway_timeout",
        "The servers are up, but the request could not be serviced due to some failure within the stack. Try again later.",
    );
    let overload = raised(
        503,
        "general_service_overloaded",
        "The servers are up but overloaded with requests. Try again later.",
    );
    let own_error: Value = serde_json::from_str(OWN_ERROR).unwrap();
    let own_error = json!({
        "raised": "AppwriteException",
        "code": 401,
        "type": own_error["type"],
        "message": own_error["message"],
        "response": OWN_ERROR,
    });
    vec![
        ("good", fine.clone()),
        ("dead", failure.clone()),
        ("hanging", failure.clone()),
        ("resetting", failure.clone()),
        ("html", failure),
        ("empty", overload),
        ("own", own_error),
        ("limited", fine.clone()),
        ("limited", raised(429, "general_rate_limit_exceeded", "Too many requests")),
        ("good", fine),
    ]
}

/// Runs all calls of an SDK; `command` prints one JSON value per endpoint.
#[track_caller]
fn every_failure_is_the_sdks_own_exception(mut command: Command) {
    let (upstream, dead) = (upstream(), RefusingPort::start().unwrap());
    let gateway = gateway(&upstream, &dead);
    let expected = expected();
    let endpoints = expected.iter().map(|(endpoint, _)| format!("http://{}/{endpoint}/v1", gateway.http1));
    let output = succeed(command.args(endpoints), Duration::from_secs(120));
    let outcomes: Vec<Value> = output.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    let found: Vec<_> = expected.iter().map(|(endpoint, _)| *endpoint).zip(outcomes).collect();
    assert_eq!(found, expected);

    let mut codes = BTreeMap::new();
    for (_, outcome) in &expected {
        *codes.entry(outcome["code"].as_u64().unwrap_or(200) as u16).or_default() += 1;
    }
    gateway.wait_for_counts(&codes, RealGateway::responses_by_code);
}

fn node(package: &str) -> Command {
    install_packages();
    let mut command = Command::new("node");
    command.args(["tests/sdks/sdk_requests.mjs", package]);
    command.env("NODE_PATH", concat!(env!("CARGO_MANIFEST_DIR"), "/target/packages/node/node_modules"));
    command
}

#[test]
fn npm_server_sdk_raises_its_own_exception_for_every_failure() {
    every_failure_is_the_sdks_own_exception(node("node-appwrite"));
}

#[test]
#[ignore = "make proof: another SDK"]
fn npm_web_sdk_raises_its_own_exception_for_every_failure() {
    every_failure_is_the_sdks_own_exception(node("appwrite"));
}

#[test]
#[ignore = "make proof: another SDK"]
fn pypi_sdk_raises_its_own_exception_for_every_failure() {
    install_packages();
    let mut command = Command::new(python_server::PYTHON);
    every_failure_is_the_sdks_own_exception({
        command.arg("tests/sdks/sdk_requests.py");
        command
    });
}
