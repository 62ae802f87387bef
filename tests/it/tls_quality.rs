//! Protocols and cipher suites of a TLS listener: Debian's OpenSSL offers each of them alone.
//!
//! OpenSSL's own restrictions are disabled (`SECLEVEL=0`), so that a rejection comes from the gateway.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::certificates::Authority;
use super::prelude::*;

/// The cipher suite that OpenSSL negotiated with these options, if any.
fn negotiated_suite(server: SocketAddr, options: &[&str]) -> Option<String> {
    let mut command = openssl();
    command.args(["s_client", "-connect", &server.to_string(), "-servername", "test"]).args(options);
    let done =
        command.output().unwrap_or_else(|e| panic!("openssl cannot be run ({e}); `make setup` installs it"));
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    let line = text.lines().find(|line| line.starts_with("New, ") && !line.contains("(NONE)"))?;
    // `New, TLSv1.3, Cipher is TLS_AES_256_GCM_SHA384`
    line.rsplit(' ').next().map(str::to_owned)
}

fn openssl() -> Command {
    let mut command = Command::new("openssl");
    command.stdin(Stdio::null()).stderr(Stdio::null());
    command
}

/// The cipher suites that this OpenSSL can offer under a protocol.
fn cipher_suites(protocol: &str) -> Vec<String> {
    let list = openssl().args(["ciphers", "-s", protocol, "ALL:COMPLEMENTOFALL:@SECLEVEL=0"]).output();
    let list = list.unwrap_or_else(|e| panic!("openssl cannot be run ({e}); `make setup` installs it"));
    let list = String::from_utf8(list.stdout).unwrap();
    list.trim().split(':').map(str::to_owned).collect()
}

/// A gateway with a certificate for `test`.
fn tls_gateway() -> (Gateway, statusquo::conformance::ScriptedUpstream) {
    let (authority, folder) = (Authority::new(), TestFolder::new());
    let issued = authority.issue(&["test"]);
    let (cert, key) = (folder.write("test.crt", &issued.cert), folder.write("test.key", &issued.key));
    let upstream = ok_upstream("fine");
    let gateway = Gateway::with_upstream(&upstream)
        .tls(&format!("{{ cert: \"{}\", key: \"{}\" }}", cert.display(), key.display()))
        .limit(Duration::from_secs(60))
        .start();
    (gateway, upstream)
}

/// sslyze checks for all known vulnerabilities.
#[test]
#[ignore = "make proof: sslyze"]
fn sslyze_reports_nothing_obsolete_or_vulnerable() {
    let installed = Command::new(".ci/packages").output().unwrap();
    assert!(installed.status.success(), "{}", String::from_utf8_lossy(&installed.stderr));
    let (gateway, _upstream) = tls_gateway();
    let scans = [
        "--sslv2",
        "--sslv3",
        "--tlsv1",
        "--tlsv1_1",
        "--tlsv1_2",
        "--tlsv1_3",
        "--compression",
        "--heartbleed",
        "--openssl_ccs",
        "--robot",
        "--reneg",
        "--fallback",
        "--elliptic_curves",
        "--ems",
        "--early_data",
    ];
    let done = Command::new("target/packages/python/bin/python")
        .args(["-m", "sslyze", "--json_out=-", "--sni=test", "--mozilla_config=disable"])
        .args(scans)
        .arg(gateway.address().to_string())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&done.stdout);
    let error_output = String::from_utf8_lossy(&done.stderr);
    let report: Value =
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}{error_output}"));
    let found = &report["server_scan_results"][0]["scan_result"];
    let result = |scan: &str| {
        assert_eq!(found[scan]["status"], "COMPLETED", "{scan}: {}", found[scan]);
        &found[scan]["result"]
    };
    for old in ["ssl_2_0", "ssl_3_0", "tls_1_0", "tls_1_1"] {
        let result = result(&format!("{old}_cipher_suites"));
        assert_eq!(result["accepted_cipher_suites"].as_array().map(Vec::len), Some(0), "{old}: {result}");
        assert_eq!(result["is_tls_version_supported"], false, "{old}");
    }
    for current in ["tls_1_2", "tls_1_3"] {
        let accepted =
            result(&format!("{current}_cipher_suites"))["accepted_cipher_suites"].as_array().unwrap();
        let names: Vec<_> =
            accepted.iter().filter_map(|suite| suite["cipher_suite"]["name"].as_str()).collect();
        let allowed = |name: &&str| name.contains("_GCM_") || name.contains("CHACHA20_POLY1305");
        assert!(names.len() == 3 && names.iter().all(allowed), "{current}: {names:?}");
        assert!(accepted.iter().all(|suite| !suite["ephemeral_key"].is_null()), "{current}: {accepted:?}");
    }
    for (scan, member, expected) in [
        ("tls_compression", "supports_compression", Value::from(false)),
        ("heartbleed", "is_vulnerable_to_heartbleed", Value::from(false)),
        ("openssl_ccs_injection", "is_vulnerable_to_ccs_injection", Value::from(false)),
        ("robot", "robot_result", Value::from("NOT_VULNERABLE_RSA_NOT_SUPPORTED")),
        ("session_renegotiation", "is_vulnerable_to_client_renegotiation_dos", Value::from(false)),
        ("session_renegotiation", "supports_secure_renegotiation", Value::from(true)),
        ("tls_fallback_scsv", "supports_fallback_scsv", Value::from(true)),
        ("tls_extended_master_secret", "supports_ems_extension", Value::from(true)),
        ("tls_1_3_early_data", "supports_early_data", Value::from(false)),
    ] {
        assert_eq!(result(scan)[member], expected, "{scan}");
    }
}

#[test]
fn obsolete_protocols_and_cipher_suites_are_not_negotiated() {
    let (gateway, _upstream) = tls_gateway();
    let server = gateway.address();
    let anything = "ALL:COMPLEMENTOFALL:@SECLEVEL=0";
    for protocol in ["-tls1", "-tls1_1"] {
        assert!(!cipher_suites(protocol).is_empty(), "OpenSSL offers no suite of {protocol}");
        assert_eq!(negotiated_suite(server, &[protocol, "-cipher", anything]), None, "{protocol}");
    }
    let offered = cipher_suites("-tls1_2");
    assert!(offered.len() > 60, "{offered:?}");
    let taken: BTreeSet<String> = offered
        .iter()
        .filter_map(|suite| {
            negotiated_suite(server, &["-tls1_2", "-cipher", &format!("{suite}:@SECLEVEL=0")])
        })
        .collect();
    // Forward secrecy and authenticated encryption only, matching the key type of the certificate.
    let allowed =
        ["ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-ECDSA-CHACHA20-POLY1305"];
    assert_eq!(taken, allowed.map(str::to_owned).into());
    let all = ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"];
    for suite in all {
        assert_eq!(negotiated_suite(server, &["-tls1_3", "-ciphersuites", suite]).as_deref(), Some(suite));
    }
    for weak in ["TLS_AES_128_CCM_SHA256", "TLS_AES_128_CCM_8_SHA256"] {
        assert_eq!(negotiated_suite(server, &["-tls1_3", "-ciphersuites", weak]), None, "{weak}");
    }
    // Weak groups, renegotiation and compression are rejected, too.
    assert_eq!(negotiated_suite(server, &["-tls1_3", "-groups", "ffdhe2048"]), None);
    assert!(negotiated_suite(server, &["-tls1_3", "-groups", "X25519"]).is_some());
    let refused = 2 + offered.len() - allowed.len() + 3;
    gateway.expect_metric(
        "closed_without_response_total",
        &[("cause", "tls_handshake_failed")],
        refused as f64,
    );
}
