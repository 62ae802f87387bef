//! HTTP/1.1 and HTTP/2 on either side, both over TLS: curl, nghttp and h2load as clients, nginx as upstream.
//!
//! `tests/real_traffic.rs` covers plaintext; here each of the four protocol pairings forwards pages, 100 MiB in both
//! directions, errors, and a truncated response.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

use crate::curl::Curl;
use crate::folder::{Folder, checksum, write_noise};
use crate::gateway::RealGateway;
use crate::h2load::{H2loadSummary, LoadProtocol, run_h2load};
use crate::load::limit;
use crate::nginx::{Nginx, ServerCertificate};
use crate::{LARGE_FILE, assert_documented, comparable_parts, nghttp};

/// nginx behind one gateway per upstream protocol.
struct PairingTestBed {
    nginx: Nginx,
    /// Gateways that use HTTP/1.1 and HTTP/2 to nginx.
    gateways: [RealGateway; 2],
    folder: Folder,
}

impl PairingTestBed {
    fn start() -> PairingTestBed {
        let folder = Folder::new("pairings");
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name.push(DnType::CommonName, "test authority");
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(parameters, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let names = CertificateParams::new(["shop.example".to_owned()]).unwrap();
        let shown = ServerCertificate {
            cert: names.signed_by(&key, &authority).unwrap().pem(),
            key: key.serialize_pem(),
        };
        let write = |name: &str, text: &str| {
            let path = folder.path.join(name);
            std::fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let ca = write("ca.pem", &authority.pem());
        let (cert, key) = (write("cert.pem", &shown.cert), write("key.pem", &shown.key));
        let nginx = Nginx::with_certificate(Some(&shown));
        let gateways = ["off", "always"].map(|http2| {
            let listener = format!("{{ address: 127.0.0.1:0, tls: {{ cert: \"{cert}\", key: \"{key}\" }} }}");
            let server = nginx.encrypted;
            RealGateway::listening(
                &[listener],
                &format!(
                    "client: {{ max_body: 128MiB }}\n\
                     upstreams: {{ web: {{ servers: [\"https://{server}\"], http2: {http2}, \
                     tls: {{ ca: \"{ca}\", sni: shop.example }} }} }}\n\
                     routes: [{{ name: all, match: {{ path: \"/{{*rest}}\" }}, upstream: web }}]\n"
                ),
            )
        });
        PairingTestBed { nginx, gateways, folder }
    }

    /// The four pairings: name, client and gateway.
    fn pairings(&self) -> Vec<(String, Curl, std::net::SocketAddr)> {
        let ca = self.folder.path.join("ca.pem");
        let mut pairings = Vec::new();
        for (client, option) in [("1.1", "--http1.1"), ("2", "--http2")] {
            for (server, gateway) in ["1.1", "2"].iter().zip(&self.gateways) {
                let name = format!("HTTP/{client} to HTTP/{server}");
                pairings.push((name, Curl::https(option, &ca), gateway.further_listeners[0]));
            }
        }
        pairings
    }
}

#[test]
fn protocol_pairings_all_carry_pages_and_errors() {
    let test_bed = PairingTestBed::start();
    for (name, curl, gateway) in test_bed.pairings() {
        let version = name.strip_prefix("HTTP/").and_then(|name| name.split(' ').next()).unwrap();
        for path in ["/page.html?a=%2F", "/small.txt", "/empty.txt", "/noise.bin", "/moved", "/nothing"] {
            let direct = Curl::http1().get(test_bed.nginx.address, path);
            let response = curl.get(gateway, path);
            assert_eq!(response.version, version, "{name}: {path}");
            assert_eq!(comparable_parts(&response), comparable_parts(&direct), "{name}: {path}");
        }
        let head = curl.with_options(&["--head"]).get(gateway, "/noise.bin");
        assert_eq!(head.field("content-length"), [(300 * 1024).to_string()], "{name}");
        let table = [
            ("/missing", 404, "The URI requested is invalid or the resource requested does not exist."),
            ("/unavailable", 503, "The servers are up but overloaded with requests. Try again later."),
            ("/broken", 500, "Something is broken."),
            ("/kept", 404, "No such order."),
        ];
        for (path, code, message) in table {
            println!("{name}: {path}");
            assert_documented(&curl.get(gateway, path), code, message);
        }
    }
}

#[test]
#[ignore = "make proof: large bodies"]
fn protocol_pairings_all_carry_100_mib_in_both_directions() {
    let test_bed = PairingTestBed::start();
    let file = test_bed.nginx.file("large.bin");
    write_noise(&file, LARGE_FILE);
    let expected = checksum(&file);
    assert_eq!(expected.0, LARGE_FILE);
    for (name, curl, gateway) in test_bed.pairings() {
        let response = curl.get(gateway, "/large.bin");
        assert_eq!((response.status, checksum(&response.body)), (200, expected), "{name}");
        let response =
            curl.with_options(&["--upload-file", file.to_str().unwrap()]).get(gateway, "/uploads/large.bin");
        let stored = test_bed.nginx.file("uploads/large.bin");
        assert_eq!((response.status, checksum(&stored)), (201, expected), "{name}");
        std::fs::remove_file(stored).unwrap();
    }
}

#[test]
fn truncated_response_never_ends_cleanly_in_any_protocol_pairing() {
    for index in 0..4 {
        let mut test_bed = PairingTestBed::start();
        let (name, curl, gateway) = test_bed.pairings().remove(index);
        let status = curl.expect_failure(gateway, "/slow.bin", |body| {
            wait_for_bytes(body);
            test_bed.nginx.kill();
        });
        // 18: partial file; 56: connection reset; 92: stream reset.
        let exit_codes = if name.starts_with("HTTP/2") { [92, 92] } else { [18, 56] };
        assert!(status.code().is_some_and(|code| exit_codes.contains(&code)), "{name}: {status}");
    }
}

/// Waits for the first bytes of a download.
fn wait_for_bytes(body: &Path) {
    let deadline = Instant::now() + limit();
    while std::fs::metadata(body).map_or(0, |body| body.len()) == 0 {
        assert!(Instant::now() < deadline, "no byte of the body");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
#[ignore = "make proof: load"]
fn bounded_load_over_tls_loses_no_request_in_any_protocol_pairing() {
    let test_bed = PairingTestBed::start();
    for gateway in &test_bed.gateways {
        let paths = ["/small.txt", "/page.html", "/missing", "/unavailable"];
        for protocol in [LoadProtocol::Https1, LoadProtocol::Https2] {
            let sums = run_h2load(protocol, gateway.further_listeners[0], &paths, 800, 8);
            let expected = H2loadSummary {
                total: 800,
                done: 800,
                errored: 0,
                timed_out: 0,
                classes: [400, 0, 200, 200],
            };
            assert_eq!(sums, expected, "{protocol:?}");
        }
        let seen = nghttp::get_all_encrypted(gateway.further_listeners[0], &paths);
        assert_eq!(seen, BTreeMap::from([(200, 2), (404, 1), (503, 1)]));
        let codes = [(200, 802), (404, 401), (503, 401)];
        gateway.wait_for_counts(&BTreeMap::from(codes), RealGateway::responses_by_code);
    }
}
