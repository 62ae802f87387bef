//! TLS to upstreams: trust, and the status code, cause and log entry of every failure.

use std::time::{Duration, Instant};

use super::certificates::{Authority, EXPIRED, Issued, self_signed};
use super::gateway::run;
use super::prelude::*;
use super::tls_server::TlsServer;

fn ok_response() -> bytes::Bytes {
    http_response("200 OK\ncontent-type: text/plain", "fine")
}

/// A gateway for this loopback port over TLS, with further `upstreams.main.tls` options.
fn setup_for(port: u16, tls: &str) -> GatewaySetup {
    let setup = GatewaySetup::with_named_servers(&[&format!("https://127.0.0.1:{port}")]);
    if tls.is_empty() { setup } else { setup.set("upstream.tls", &format!("{{ {tls} }}")) }
}

/// Writes the authority's certificate; returns the option that trusts it.
fn tls_trusting(folder: &TestFolder, authority: &Authority) -> String {
    format!("ca: \"{}\"", folder.write("ca.pem", &authority.pem()).display())
}

/// Asserts a 504 with this cause, and this detail in the log only.
#[track_caller]
fn expect_tls_error(gateway: &Gateway, cause: &str, evidence: &str) {
    gateway.client().get("/").assert_local_reply(504);
    gateway.expect_metric("errors_total", &[("cause", cause), ("code", "504")], 1.0);
    gateway.expect_metric("errors_total", &[], 1.0);
    let line = gateway.log_line(|line| line["cause"] == cause);
    let logged_evidence = line["evidence"].as_str().unwrap_or_default();
    assert!(logged_evidence.contains(evidence), "{line:#}");
    assert_eq!((&line["phase"], &line["request_sent"]), (&"connect".into(), &"none".into()), "{line:#}");
    gateway.expect_metrics_match_responses();
}

#[test]
fn valid_certificate_is_accepted_and_tls_connections_are_reused() {
    let (authority, folder) = (Authority::new(), TestFolder::new());
    let server = TlsServer::start(&authority.issue(&["127.0.0.1"]), ok_response());
    let gateway = setup_for(server.port(), &tls_trusting(&folder, &authority)).start();
    let mut client = gateway.client();
    for _ in 0..3 {
        client.get("/").assert_response(200, "fine");
    }
    let seen = server.seen();
    assert_eq!(
        (seen.server_names.as_slice(), seen.requests),
        (&[String::new()][..], 3),
        "one handshake, no name for an address"
    );
    gateway.expect_metric("upstream_connections_total", &[("reused", "true")], 2.0);
    let phase = [("phase", "tls")];
    gateway.expect_metric("upstream_phase_duration_seconds_count", &phase, 1.0);
}

#[test]
fn server_name_or_sni_option_is_sent_and_verified() {
    let (authority, folder) = (Authority::new(), TestFolder::new());
    let server = TlsServer::start(&authority.issue(&["localhost", "api.internal"]), ok_response());
    let ca = tls_trusting(&folder, &authority);
    let named = GatewaySetup::with_named_servers(&[&format!("https://localhost:{}", server.port())]);
    let gateway = named.set("upstream.tls", &format!("{{ {ca} }}")).start();
    gateway.client().get("/").assert_response(200, "fine");
    let gateway = setup_for(server.port(), &format!("{ca}, sni: api.internal")).start();
    gateway.client().get("/").assert_response(200, "fine");
    assert_eq!(server.seen().server_names, ["localhost", "api.internal"]);
}

#[test]
fn system_roots_are_trusted_by_default() {
    let (authority, folder) = (Authority::new(), TestFolder::new());
    let server = TlsServer::start(&authority.issue(&["127.0.0.1"]), ok_response());
    let roots = folder.write("roots.pem", &authority.pem());
    // The system's trust store may be a folder, too.
    let trust_only = |file: &str| {
        setup_for(server.port(), "").environment("SSL_CERT_FILE", file).environment("SSL_CERT_DIR", "")
    };
    let gateway = trust_only(roots.to_str().unwrap()).start();
    gateway.client().get("/").assert_response(200, "fine");
    let other = folder.write("others.pem", &Authority::new().pem());
    let gateway = trust_only(other.to_str().unwrap()).start();
    expect_tls_error(&gateway, "tls_certificate_error", "not signed by a trusted authority");

    let file = folder.write("statusquo.yaml", &setup_for(server.port(), "").yaml());
    let empty = folder.write("empty.pem", "");
    let environment = [("SSL_CERT_FILE", empty.to_str().unwrap()), ("SSL_CERT_DIR", "")];
    let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let (status, _, output) = run(&["check", file.to_str().unwrap()], &environment);
    assert_eq!(status, Some(78), "{output}");
    let expected = "no trusted authorities are installed on this system; install ca-certificates, or set the authority's \
                    certificate: tls: { ca: FILE }";
    assert!(output.contains(expected), "{output}");
}

#[test]
fn invalid_certificates_are_rejected_without_detail_to_the_client() {
    let (authority, folder) = (Authority::new(), TestFolder::new());
    let ca = tls_trusting(&folder, &authority);
    let cases: [(Issued, &str); 5] = [
        (authority.issue_for(&["127.0.0.1"], EXPIRED), "expired"),
        (authority.issue_for(&["127.0.0.1"], ((2090, 1, 1), (2091, 1, 1))), "not valid yet"),
        (
            authority.issue(&["elsewhere.internal"]),
            "not valid for the name 127.0.0.1, but for elsewhere.internal (upstreams.*.tls.sni)",
        ),
        (self_signed(&["127.0.0.1"]), "not signed by a trusted authority"),
        (Authority::new().issue(&["127.0.0.1"]), "not signed by a trusted authority"),
    ];
    for (issued, evidence) in cases {
        let server = TlsServer::start(&issued, ok_response());
        let gateway = setup_for(server.port(), &ca).start();
        expect_tls_error(&gateway, "tls_certificate_error", evidence);
        assert_eq!(server.seen().requests, 0);
    }
}

#[test]
fn plaintext_port_and_aborted_handshake_are_protocol_errors() {
    let cases: [(ScriptedUpstream, &str); 3] = [
        (
            script([write_bytes("HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n"), Step::Close]),
            "does not use TLS on this port",
        ),
        (script([Step::Close]), "closed the connection inside the TLS handshake"),
        // The pause lets the connection attempt succeed: an earlier reset would be a connection failure.
        (script([Step::Pause(Duration::from_millis(300)), Step::Reset]), "inside the TLS handshake"),
    ];
    for (upstream, evidence) in cases {
        let gateway = setup_for(upstream.address().port(), "verify: false").start();
        expect_tls_error(&gateway, "tls_protocol_error", evidence);
    }
}

#[test]
fn server_alert_is_logged_by_name() {
    // handshake_failure (40), as sent by a server without a common cipher suite.
    let upstream = script([write_bytes(&b"\x15\x03\x03\x00\x02\x02\x28"[..]), Step::Close]);
    let gateway = setup_for(upstream.address().port(), "verify: false").start();
    expect_tls_error(&gateway, "tls_protocol_error", "the peer sent the TLS alert handshake_failure");
}

#[test]
fn stalled_handshake_ends_at_the_tls_timeout_without_retry() {
    let upstream = script([Step::ReadUntilClose]);
    let setup = setup_for(upstream.address().port(), "verify: false").set("timeouts.tls", "400ms");
    let gateway = setup.start();
    let started = Instant::now();
    expect_tls_error(&gateway, "tls_timeout", "");
    assert!(started.elapsed() >= Duration::from_millis(400));
    gateway.expect_metric("upstream_attempts_total", &[("result", "tls_timeout")], 1.0);
    gateway.expect_metric("upstream_attempts_total", &[], 1.0);
}

#[test]
fn deadline_applies_during_the_handshake() {
    let upstream = script([Step::ReadUntilClose]);
    let setup = setup_for(upstream.address().port(), "verify: false").set("timeouts.deadline", "400ms");
    let setup = setup.set("timeouts.response_headers", "400ms").set("timeouts.connect", "400ms");
    expect_tls_error(&setup.start(), "deadline_exceeded", "");
}

#[test]
fn invalid_certificate_moves_any_method_to_the_next_server() {
    let (authority, folder) = (Authority::new(), TestFolder::new());
    let valid = TlsServer::start(&authority.issue(&["127.0.0.1"]), ok_response());
    let invalid = TlsServer::start(&self_signed(&["127.0.0.1"]), ok_response());
    let servers = [&invalid, &valid].map(|server| format!("https://127.0.0.1:{}", server.port()));
    let setup = GatewaySetup::with_named_servers(&[&servers[0], &servers[1]]);
    let gateway = setup.set("upstream.tls", &format!("{{ {} }}", tls_trusting(&folder, &authority))).start();
    for _ in 0..4 {
        gateway.client().request("DELETE", "/", "", "").assert_response(200, "fine");
    }
    assert_eq!((valid.seen().requests, invalid.seen().requests), (4, 0));
    gateway.expect_metric("upstream_attempts_total", &[("result", "tls_certificate_error")], 2.0);
}

#[test]
fn disabled_verification_accepts_any_certificate_and_warns_on_load() {
    let server = TlsServer::start(&self_signed(&["elsewhere"]), ok_response());
    let setup = || setup_for(server.port(), "verify: false");
    let gateway = setup().start();
    gateway.client().get("/").assert_response(200, "fine");
    let warnings = || gateway.log_text().matches("certificate verification is disabled").count();
    assert_eq!(warnings(), 1);
    let line = gateway.log_line(|line| line["level"] == "error");
    assert_eq!(line["upstream"], "main");
    assert_eq!(gateway.reload(setup()), "applied");
    gateway.log_line(|line| line["message"] == "configuration reloaded");
    assert_eq!(warnings(), 2);
}

#[test]
fn unverified_connection_is_not_reused_after_enabling_verification() {
    let (authority, folder) = (Authority::new(), TestFolder::new());
    let server = TlsServer::start(&self_signed(&["127.0.0.1"]), ok_response());
    let gateway = setup_for(server.port(), "verify: false").start();
    gateway.client().get("/").assert_response(200, "fine");
    assert_eq!(gateway.reload(setup_for(server.port(), &tls_trusting(&folder, &authority))), "applied");
    gateway.client().get("/").assert_local_reply(504);
    gateway.expect_metric("errors_total", &[("cause", "tls_certificate_error")], 1.0);
    assert_eq!(server.seen().requests, 1);
}

#[test]
fn server_requiring_a_client_certificate_is_a_protocol_error() {
    let (authority, folder) = (Authority::new(), TestFolder::new());
    let issued = authority.issue(&["127.0.0.1"]);
    for protocols in [&[][..], &["h2", "http/1.1"]] {
        let server = TlsServer::requiring_client_certificates(&issued, &authority, protocols);
        let gateway = setup_for(server.port(), &tls_trusting(&folder, &authority)).start();
        gateway.client().get("/").assert_local_reply(504);
        let line = gateway.log_line(|line| line["code"] == 504);
        assert_eq!(line["cause"], "tls_protocol_error", "{line:#}");
        let evidence = line["evidence"].as_str().unwrap_or_default();
        assert!(evidence.contains("the TLS alert certificate_required"), "{line:#}");
        gateway.expect_metric("errors_total", &[("cause", "tls_protocol_error")], 1.0);
    }
}

#[test]
fn body_ended_without_close_notify_is_truncated() {
    let (authority, folder) = (Authority::new(), TestFolder::new());
    let issued = authority.issue(&["127.0.0.1"]);
    let server = TlsServer::closing_without_notify(&issued, &b"HTTP/1.1 200 OK\r\n\r\nhalf"[..]);
    let gateway = setup_for(server.port(), &tls_trusting(&folder, &authority)).start();
    let response = gateway.client().get("/");
    assert_ne!(response.end, super::response_reader::ResponseEnd::Complete, "{response:#?}");
    gateway.expect_metric("aborted_total", &[("cause", "http_response_incomplete")], 1.0);
}

#[test]
fn plaintext_request_to_a_tls_port_is_a_named_protocol_error() {
    let authority = Authority::new();
    let server = TlsServer::start(&authority.issue(&["127.0.0.1"]), ok_response());
    let gateway = GatewaySetup::with_named_servers(&[&format!("127.0.0.1:{}", server.port())]).start();
    gateway.client().get("/").assert_local_reply(504);
    gateway.expect_metric("errors_total", &[("cause", "http_protocol_error")], 1.0);
    let line = gateway.log_line(|line| line["cause"] == "http_protocol_error");
    let logged_evidence = line["evidence"].as_str().unwrap_or_default();
    assert!(
        logged_evidence.contains("the response is a TLS alert: this port expects TLS, use https://"),
        "{logged_evidence}"
    );
}

#[test]
fn plaintext_upstreams_do_not_use_tls() {
    let upstream = ok_upstream("fine");
    let gateway = Gateway::with_upstream(&upstream).start();
    gateway.client().get("/").assert_response(200, "fine");
    gateway.expect_metric("upstream_phase_duration_seconds_count", &[("phase", "tls")], 0.0);
}
