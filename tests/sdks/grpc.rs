//! gRPC with a real server and a real client on both sides: PyPI's `grpcio`, installed by `.ci/packages`.
//!
//! Calls of all four kinds pass untouched, both ways at once; what the gateway says in the server's place arrives as a
//! status of gRPC; a server that dies inside a call is never taken for one that has finished. The frames on the wire are in
//! `tests/it/http2_upstream.rs`.

use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use statusquo::rehearse::Refusing;

use crate::gateway::Gateway;
use crate::program::succeed;
use crate::server::{PYTHON, Server};

const SCRIPT: &str = "tests/sdks/grpc.py";

#[test]
fn a_real_client_and_a_real_server_call_as_if_nobody_stood_between_them() {
    let (server, dead) = (Server::start(SCRIPT), Refusing::start().unwrap());
    let gateway = Gateway::with(&format!(
        // Shorter than the silences of these calls.
        "client: {{ body_timeout: 400ms }}\n\
         timeouts: {{ between_bytes: 400ms, stream_idle: 10s }}\n\
         upstreams:\n\
         \x20 calls: {{ servers: [\"127.0.0.1:{}\"], http2: always }}\n\
         \x20 dead: {{ servers: [\"{}\"], http2: always }}\n\
         rate_limits: {{ one: {{ key: [client_ip], allow: 1 per 1h }} }}\n\
         routes:\n\
         - {{ name: dead, match: {{ path: \"/dead/{{*rest}}\" }}, upstream: dead }}\n\
         - {{ name: denied, match: {{ path: \"/denied/{{*rest}}\" }}, upstream: calls, deny: {{ methods: [POST] }} }}\n\
         - {{ name: limited, match: {{ path: \"/limited/{{*rest}}\" }}, upstream: calls, rate_limits: [one] }}\n\
         - {{ name: impatient, match: {{ path: \"/impatient/{{*rest}}\" }}, upstream: calls, timeouts: {{ response_head: 500ms }} }}\n\
         - {{ name: echo, match: {{ path: \"/echo/{{*rest}}\" }}, upstream: calls }}\n",
        server.port,
        dead.address()
    ));
    let address = gateway.h2c.to_string();
    let said = succeed(Command::new(PYTHON).args([SCRIPT, "ask", &address]), Duration::from_secs(90));
    let mut found: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).expect(line)).collect();

    let call = |method: &str, heard: &[&str], code: &str, details: &str| json!({ "method": method, "heard": heard, "code": code, "details": details });
    let failure = "The servers are up, but the request could not be serviced due to some failure within the stack. Try again later.";
    let expected = [
        json!({ "same": true, "code": "OK", "metadata": ["yes", "behind", "00ff"] }),
        call("echo/unary", &["deppizdeppizdeppizde"], "OK", ""),
        call("echo/unary", &[""], "OK", ""),
        call("echo/upload", &["3000000"], "OK", ""),
        json!({ "heard": 500, "code": "OK" }),
        call("echo/talk", &["ONE", "TWO", "THREE"], "OK", ""),
        call("echo/greet", &["early", "one", "two", "late"], "OK", ""),
        call("echo/listen", &["one two"], "OK", ""),
        call("echo/talk", &["ONE", "TWO"], "OK", ""),
        call("echo/enough", &["one"], "OK", ""),
        call("echo/abort", &[], "NOT_FOUND", "no such \u{f6}rder"),
        call("echo/half", &["half"], "DATA_LOSS", "it is gone"),
        call("echo/nothing", &[], "UNIMPLEMENTED", "Method not found!"),
        call("dead/unary", &[], "UNAVAILABLE", failure),
        call("impatient/hang", &[], "DEADLINE_EXCEEDED", failure),
        call(
            "denied/unary",
            &[],
            "PERMISSION_DENIED",
            "The request is understood, but it has been refused, or access is not allowed.",
        ),
        call("limited/unary", &["cba"], "OK", ""),
        call("limited/unary", &[], "RESOURCE_EXHAUSTED", "Too many requests"),
        call(
            "nowhere/unary",
            &[],
            "UNIMPLEMENTED",
            "The URI requested is invalid or the resource requested does not exist.",
        ),
        json!({ "many": true }),
    ];
    // The words for a stream that was cut are the client's own.
    let after: Vec<Value> = found.split_off(expected.len().min(found.len()));
    assert_eq!(found, expected);
    let [died, gone] = &after[..] else { panic!("two more calls: {after:#?}") };
    assert_eq!(died["heard"], json!(["begun"]), "{died}");
    assert!(died["code"] != "OK" && died["code"] != "UNKNOWN", "{died}");
    assert_eq!(gone, &call("echo/unary", &[], "UNAVAILABLE", failure));
    // Whatever a caller of gRPC is told, it is a 200 on the wire.
    gateway.settles(&[(200, 51)].into(), Gateway::responses_by_code);
    gateway.settles(&[].into(), Gateway::errors_by_code);
}
