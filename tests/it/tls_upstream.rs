//! TLS towards upstreams: who is believed, and what every way of not getting there is called, in code, cause and log.

use std::time::{Duration, Instant};

use statusquo::rehearse::{ScriptedUpstream, UpstreamStep, http_response, write_bytes};

use super::certificates::{Authority, EXPIRED, Issued, self_signed};
use super::gateway::{Folder, Gateway, Setup, run};
use super::tls_server::TlsServer;
use super::upstreams::{ok, script};

fn fine() -> bytes::Bytes {
    http_response("200 OK\ncontent-type: text/plain", "fine")
}

/// Before this port of the loopback over TLS, with what else `upstreams.main.tls` says.
fn before(port: u16, tls: &str) -> Setup {
    let setup = Setup::of_named(&[&format!("https://127.0.0.1:{port}")]);
    if tls.is_empty() { setup } else { setup.set("upstream.tls", &format!("{{ {tls} }}")) }
}

/// The file with an authority's certificate, and what says that it is to be trusted.
fn trusting(folder: &Folder, authority: &Authority) -> String {
    format!("ca: \"{}\"", folder.write("ca.pem", &authority.pem()).display())
}

/// One request is answered 504 for this cause, with this in the log alone.
#[track_caller]
fn is_refused(gateway: &Gateway, cause: &str, evidence: &str) {
    gateway.client().get("/").is_made(504);
    gateway.expect_metric("errors_total", &[("cause", cause), ("code", "504")], 1.0);
    gateway.expect_metric("errors_total", &[], 1.0);
    let line = gateway.log_line(|line| line["cause"] == cause);
    let told = line["evidence"].as_str().unwrap_or_default();
    assert!(told.contains(evidence), "{line:#}");
    assert_eq!((&line["phase"], &line["request_sent"]), (&"connect".into(), &"none".into()), "{line:#}");
    gateway.expect_accounts_to_agree();
}

#[test]
fn a_server_whose_certificate_is_good_is_asked_over_tls_on_kept_connections() {
    let (authority, folder) = (Authority::new(), Folder::new());
    let server = TlsServer::start(&authority.issue(&["127.0.0.1"]), fine());
    let gateway = before(server.port(), &trusting(&folder, &authority)).start();
    let mut client = gateway.client();
    for _ in 0..3 {
        client.get("/").is(200, "fine");
    }
    let seen = server.seen();
    assert_eq!(
        (seen.names.as_slice(), seen.requests),
        (&[String::new()][..], 3),
        "one handshake, no name for an address"
    );
    gateway.expect_metric("upstream_connections_total", &[("reused", "true")], 2.0);
    let phase = [("phase", "tls")];
    gateway.expect_metric("upstream_phase_duration_seconds_count", &phase, 1.0);
}

#[test]
fn the_name_of_the_server_or_sni_is_what_it_is_asked_by_and_certified_for() {
    let (authority, folder) = (Authority::new(), Folder::new());
    let server = TlsServer::start(&authority.issue(&["localhost", "api.internal"]), fine());
    let ca = trusting(&folder, &authority);
    let named = Setup::of_named(&[&format!("https://localhost:{}", server.port())]);
    let gateway = named.set("upstream.tls", &format!("{{ {ca} }}")).start();
    gateway.log_line(|line| line["message"] == "resolved server address");
    gateway.client().get("/").is(200, "fine");
    let gateway = before(server.port(), &format!("{ca}, sni: api.internal")).start();
    gateway.client().get("/").is(200, "fine");
    assert_eq!(server.seen().names, ["localhost", "api.internal"]);
}

#[test]
fn what_the_system_trusts_is_trusted_where_nothing_else_is_said() {
    let (authority, folder) = (Authority::new(), Folder::new());
    let server = TlsServer::start(&authority.issue(&["127.0.0.1"]), fine());
    let roots = folder.write("roots.pem", &authority.pem());
    // The list of this machine may be in a folder too.
    let alone = |file: &str| {
        before(server.port(), "").environment("SSL_CERT_FILE", file).environment("SSL_CERT_DIR", "")
    };
    let gateway = alone(roots.to_str().unwrap()).start();
    gateway.client().get("/").is(200, "fine");
    let other = folder.write("others.pem", &Authority::new().pem());
    let gateway = alone(other.to_str().unwrap()).start();
    is_refused(&gateway, "tls_certificate_error", "signed by nobody who is trusted here");

    let file = folder.write("statusquo.yaml", &before(server.port(), "").text());
    let empty = folder.write("empty.pem", "");
    let environment = [("SSL_CERT_FILE", empty.to_str().unwrap()), ("SSL_CERT_DIR", "")];
    let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let (status, _, said) = run(&["check", file.to_str().unwrap()], &environment);
    assert_eq!(status, Some(78), "{said}");
    let expected = "this system has no list of trusted authorities; install ca-certificates, or name the authority's \
                    certificate: tls: { ca: FILE }";
    assert!(said.contains(expected), "{said}");
}

#[test]
fn certificates_that_are_not_good_are_refused_and_the_client_learns_nothing_of_it() {
    let (authority, folder) = (Authority::new(), Folder::new());
    let ca = trusting(&folder, &authority);
    let cases: [(Issued, &str); 5] = [
        (authority.issue_for(&["127.0.0.1"], EXPIRED), "expired"),
        (authority.issue_for(&["127.0.0.1"], ((2090, 1, 1), (2091, 1, 1))), "not valid yet"),
        (authority.issue(&["elsewhere.internal"]), "not valid for name"),
        (self_signed(&["127.0.0.1"]), "signed by nobody who is trusted here"),
        (Authority::new().issue(&["127.0.0.1"]), "signed by nobody who is trusted here"),
    ];
    for (issued, evidence) in cases {
        let server = TlsServer::start(&issued, fine());
        let gateway = before(server.port(), &ca).start();
        is_refused(&gateway, "tls_certificate_error", evidence);
        assert_eq!(server.seen().requests, 0);
    }
}

#[test]
fn a_port_without_tls_and_a_handshake_that_is_cut_are_protocol_errors() {
    let cases: [(ScriptedUpstream, &str); 3] = [
        (
            script([
                write_bytes("HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n"),
                UpstreamStep::Close,
            ]),
            "a plain port?",
        ),
        (script([UpstreamStep::Close]), "closed the connection inside the TLS handshake"),
        // Not before the connection is one: that would be another fault.
        (
            script([UpstreamStep::Pause(Duration::from_millis(300)), UpstreamStep::Reset]),
            "inside the TLS handshake",
        ),
    ];
    for (upstream, evidence) in cases {
        let gateway = before(upstream.address().port(), "verify: false").start();
        is_refused(&gateway, "tls_protocol_error", evidence);
    }
}

#[test]
fn an_alert_of_the_server_is_told_by_its_name() {
    // handshake_failure (40), as a server says that has no suite in common with us.
    let upstream = script([write_bytes(&b"\x15\x03\x03\x00\x02\x02\x28"[..]), UpstreamStep::Close]);
    let gateway = before(upstream.address().port(), "verify: false").start();
    is_refused(&gateway, "tls_protocol_error", "HandshakeFailure");
}

#[test]
fn a_handshake_that_stalls_ends_at_its_limit_and_is_not_tried_again() {
    let upstream = script([UpstreamStep::ReadUntilClose]);
    let setup = before(upstream.address().port(), "verify: false").set("timeouts.tls", "400ms");
    let gateway = setup.start();
    let begun = Instant::now();
    is_refused(&gateway, "tls_timeout", "");
    assert!(begun.elapsed() >= Duration::from_millis(400));
    gateway.expect_metric("upstream_attempts_total", &[("result", "tls_timeout")], 1.0);
    gateway.expect_metric("upstream_attempts_total", &[], 1.0);
}

#[test]
fn the_total_limit_holds_inside_a_handshake_too() {
    let upstream = script([UpstreamStep::ReadUntilClose]);
    let setup = before(upstream.address().port(), "verify: false").set("timeouts.total", "400ms");
    let setup = setup.set("timeouts.response_head", "400ms").set("timeouts.connect", "400ms");
    is_refused(&setup.start(), "deadline_exceeded", "");
}

#[test]
fn a_good_server_is_asked_instead_of_one_whose_certificate_is_not_with_any_method() {
    let (authority, folder) = (Authority::new(), Folder::new());
    let good = TlsServer::start(&authority.issue(&["127.0.0.1"]), fine());
    let bad = TlsServer::start(&self_signed(&["127.0.0.1"]), fine());
    let servers = [&bad, &good].map(|server| format!("https://127.0.0.1:{}", server.port()));
    let setup = Setup::of_named(&[&servers[0], &servers[1]]);
    let gateway = setup.set("upstream.tls", &format!("{{ {} }}", trusting(&folder, &authority))).start();
    for _ in 0..4 {
        gateway.client().ask("DELETE", "/", "", "").is(200, "fine");
    }
    assert_eq!((good.seen().requests, bad.seen().requests), (4, 0));
    gateway.expect_metric("upstream_attempts_total", &[("result", "tls_certificate_error")], 2.0);
}

#[test]
fn no_verification_takes_anybody_and_is_shouted_at_every_start_and_reload() {
    let server = TlsServer::start(&self_signed(&["elsewhere"]), fine());
    let setup = || before(server.port(), "verify: false");
    let gateway = setup().start();
    gateway.client().get("/").is(200, "fine");
    let shouted = || gateway.log_text().matches("NOT verifying the certificates").count();
    assert_eq!(shouted(), 1);
    let line = gateway.log_line(|line| line["level"] == "error");
    assert_eq!(line["upstream"], "main");
    assert_eq!(gateway.reload(setup()), "applied");
    gateway.log_line(|line| line["message"] == "configuration reloaded");
    assert_eq!(shouted(), 2);
}

#[test]
fn a_connection_made_without_verification_is_not_used_once_there_is_some() {
    let (authority, folder) = (Authority::new(), Folder::new());
    let server = TlsServer::start(&self_signed(&["127.0.0.1"]), fine());
    let gateway = before(server.port(), "verify: false").start();
    gateway.client().get("/").is(200, "fine");
    assert_eq!(gateway.reload(before(server.port(), &trusting(&folder, &authority))), "applied");
    gateway.client().get("/").is_made(504);
    gateway.expect_metric("errors_total", &[("cause", "tls_certificate_error")], 1.0);
    assert_eq!(server.seen().requests, 1);
}

#[test]
fn a_server_that_wants_a_certificate_of_ours_is_a_protocol_error() {
    let (authority, folder) = (Authority::new(), Folder::new());
    let server = TlsServer::wanting_certificates(&authority.issue(&["127.0.0.1"]), &authority);
    let gateway = before(server.port(), &trusting(&folder, &authority)).start();
    gateway.client().get("/").is_made(504);
    gateway.expect_metric("errors_total", &[("cause", "tls_protocol_error")], 1.0);
    gateway
        .log_line(|line| line["evidence"].as_str().is_some_and(|told| told.contains("CertificateRequired")));
}

#[test]
fn a_body_that_ends_without_the_goodbye_of_tls_is_not_a_whole_one() {
    let (authority, folder) = (Authority::new(), Folder::new());
    let issued = authority.issue(&["127.0.0.1"]);
    let server = TlsServer::cutting(&issued, &b"HTTP/1.1 200 OK\r\n\r\nhalf"[..]);
    let gateway = before(server.port(), &trusting(&folder, &authority)).start();
    let answer = gateway.client().get("/");
    assert_ne!(answer.ended, super::reader::Ended::Complete, "{answer:#?}");
    gateway.expect_metric("aborted_total", &[("cause", "http_response_incomplete")], 1.0);
}

#[test]
fn a_request_without_tls_to_a_port_with_it_is_a_protocol_error_that_says_so() {
    let authority = Authority::new();
    let server = TlsServer::start(&authority.issue(&["127.0.0.1"]), fine());
    let gateway = Setup::of_named(&[&format!("127.0.0.1:{}", server.port())]).start();
    gateway.client().get("/").is_made(504);
    gateway.expect_metric("errors_total", &[("cause", "http_protocol_error")], 1.0);
    let line = gateway.log_line(|line| line["cause"] == "http_protocol_error");
    let told = line["evidence"].as_str().unwrap_or_default();
    assert!(told.contains("the answer is a TLS alert: this port speaks TLS, write https://"), "{told}");
}

#[test]
fn plain_upstreams_stay_plain() {
    let upstream = ok("fine");
    let gateway = Gateway::in_front_of(&upstream).start();
    gateway.client().get("/").is(200, "fine");
    gateway.expect_metric("upstream_phase_duration_seconds_count", &[("phase", "tls")], 0.0);
}
