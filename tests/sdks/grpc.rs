//! gRPC with a real client and server: PyPI's `grpcio`, installed by `.ci/packages`.
//!
//! Calls of all four kinds are forwarded transparently, in both directions at once; local replies arrive as gRPC
//! statuses; a server that exits during a call is never taken for one that has finished. Both in plaintext and over TLS
//! on both sides. `tests/it/http2_upstream.rs` covers the frames.

use std::process::Command;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use serde_json::{Value, json};
use statusquo::conformance::RefusingPort;

use crate::folder::Folder;
use crate::gateway::RealGateway;
use crate::program::succeed;
use crate::python_server::{PYTHON, PythonServer};

const SCRIPT: &str = "tests/sdks/grpc.py";

/// The files of a certificate for `calls.test`.
struct TlsFiles {
    folder: Folder,
}

impl TlsFiles {
    fn issue() -> TlsFiles {
        let folder = Folder::new("grpc");
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name.push(DnType::CommonName, "test authority");
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(parameters, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let names = CertificateParams::new(["calls.test".to_owned()]).unwrap();
        let cert = names.signed_by(&key, &authority).unwrap().pem();
        for (name, text) in [("ca", authority.pem()), ("cert", cert), ("key", key.serialize_pem())] {
            std::fs::write(folder.path.join(name), text).unwrap();
        }
        TlsFiles { folder }
    }

    fn file(&self, name: &str) -> String {
        self.folder.path.join(name).display().to_string()
    }
}

#[test]
fn grpcio_calls_pass_transparently_over_h2c() {
    let server = PythonServer::start(SCRIPT);
    let calls = format!("servers: [\"127.0.0.1:{}\"], http2: always", server.port);
    check_calls(&[], &calls, ("", "http2: always"), |gateway| vec![gateway.h2c.to_string()]);
}

#[test]
#[ignore = "make proof: gRPC over TLS"]
fn grpcio_calls_pass_transparently_over_tls_on_both_sides() {
    let papers = TlsFiles::issue();
    let (ca, cert, key) = (papers.file("ca"), papers.file("cert"), papers.file("key"));
    let server = PythonServer::start_with(SCRIPT, &[&cert, &key]);
    let listener = format!("{{ address: 127.0.0.1:0, tls: {{ cert: \"{cert}\", key: \"{key}\" }} }}");
    let trust = format!("tls: {{ ca: \"{ca}\", sni: calls.test }}");
    let calls = format!("servers: [\"https://127.0.0.1:{}\"], {trust}", server.port);
    check_calls(&[listener], &calls, ("https://", &trust), |gateway| {
        vec![gateway.further_listeners[0].to_string(), ca]
    });
}

/// Runs all calls. `calls` configures the upstream with a server, `scheme` and `extra_options` the one that refuses
/// connections; `check_requests` returns the arguments of the client.
fn check_calls(
    listeners: &[String],
    calls: &str,
    (scheme, extra_options): (&str, &str),
    check_requests: impl FnOnce(&RealGateway) -> Vec<String>,
) {
    let dead = RefusingPort::start().unwrap();
    let sections = format!(
        // Shorter than the pauses of these calls.
        "client: {{ body_timeout: 400ms }}\n\
         timeouts: {{ body_idle: 400ms, stream_idle: 10s }}\n\
         upstreams:\n\
         \x20 calls: {{ {calls} }}\n\
         \x20 dead: {{ servers: [\"{scheme}{}\"], {extra_options} }}\n\
         rate_limits: {{ one: {{ key: [client_ip], allow: 1 per 1h }} }}\n\
         routes:\n\
         - {{ name: dead, match: {{ path: \"/dead/{{*rest}}\" }}, upstream: dead }}\n\
         - {{ name: denied, match: {{ path: \"/denied/{{*rest}}\" }}, upstream: calls, deny: {{ methods: [POST] }} }}\n\
         - {{ name: limited, match: {{ path: \"/limited/{{*rest}}\" }}, upstream: calls, rate_limits: [one] }}\n\
         - {{ name: impatient, match: {{ path: \"/impatient/{{*rest}}\" }}, upstream: calls, timeouts: {{ response_headers: 500ms }} }}\n\
         - {{ name: echo, match: {{ path: \"/echo/{{*rest}}\" }}, upstream: calls }}\n",
        dead.address()
    );
    let gateway = RealGateway::listening(listeners, &sections);
    let output = succeed(
        Command::new(PYTHON).args([SCRIPT, "call"]).args(check_requests(&gateway)),
        Duration::from_secs(90),
    );
    let mut found: Vec<Value> = output.lines().map(|line| serde_json::from_str(line).expect(line)).collect();

    let call = |method: &str, received: &[&str], code: &str, details: &str| json!({ "method": method, "received": received, "code": code, "details": details });
    let failure = "The servers are up, but the request could not be serviced due to some failure within the stack. Try again later.";
    let expected = [
        json!({ "same": true, "code": "OK", "metadata": ["yes", "behind", "00ff"] }),
        call("echo/unary", &["deppizdeppizdeppizde"], "OK", ""),
        call("echo/unary", &[""], "OK", ""),
        call("echo/upload", &["3000000"], "OK", ""),
        json!({ "received": 500, "code": "OK" }),
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
    // The message for a reset stream is the client's own.
    let after: Vec<Value> = found.split_off(expected.len().min(found.len()));
    assert_eq!(found, expected);
    let [died, gone] = &after[..] else { panic!("expected two more calls: {after:#?}") };
    assert_eq!(died["received"], json!(["begun"]), "{died}");
    assert!(died["code"] != "OK" && died["code"] != "UNKNOWN", "{died}");
    assert_eq!(gone, &call("echo/unary", &[], "UNAVAILABLE", failure));
    // Every gRPC status is a 200 on the wire.
    gateway.wait_for_counts(&[(200, 51)].into(), RealGateway::responses_by_code);
    gateway.wait_for_counts(&[].into(), RealGateway::errors_by_code);
}
