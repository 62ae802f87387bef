//! Which certificates of upstreams are accepted: those that OpenSSL creates, with OpenSSL's server.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use super::gateway::{Gateway, GatewaySetup, TestFolder};

/// How a certificate is created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// `openssl req -x509`: an authority, without alternative names.
    Authority,
    AuthorityWithAddress,
    AuthorityForOtherName,
    /// Its alternative names name no host.
    WithEmailAndUri,
    /// X.509 version 1.
    Version1,
    Expired,
    Rsa1024,
    P521,
}

/// A certificate and its key in a folder.
struct OpensslCertificate {
    folder: TestFolder,
}

impl OpensslCertificate {
    fn create(kind: Kind) -> OpensslCertificate {
        let folder = TestFolder::new();
        let [cert, key, request] =
            ["c.pem", "k.pem", "r.pem"].map(|name| folder.path(name).display().to_string());
        let new_key: &[&str] = match kind {
            Kind::Rsa1024 => &["-newkey", "rsa:1024"],
            Kind::P521 => &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-521"],
            _ => &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"],
        };
        let names: &[&str] = match kind {
            Kind::AuthorityWithAddress => &["-addext", "subjectAltName=IP:127.0.0.1"],
            Kind::AuthorityForOtherName => &["-addext", "subjectAltName=DNS:elsewhere.internal"],
            Kind::WithEmailAndUri => &["-addext", "subjectAltName=email:a@test,URI:spiffe://test/backend"],
            _ => &[],
        };
        let base = ["req", "-nodes", "-subj", "/CN=backend", "-keyout", &key];
        if matches!(kind, Kind::Version1 | Kind::Expired) {
            openssl(&[&base, new_key, &["-new", "-out", &request]].concat());
            let days = if kind == Kind::Expired { "-1" } else { "30" };
            openssl(&["x509", "-req", "-in", &request, "-signkey", &key, "-days", days, "-out", &cert]);
        } else {
            openssl(&[&base, new_key, names, &["-x509", "-days", "30", "-out", &cert]].concat());
        }
        OpensslCertificate { folder }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path(name).display().to_string()
    }
}

fn openssl(arguments: &[&str]) {
    let output = Command::new("openssl").args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// `openssl s_server`, which responds with a page.
struct OpensslServer {
    process: Child,
    port: u16,
}

impl OpensslServer {
    fn start(certificate: &OpensslCertificate, version: &str) -> OpensslServer {
        let (cert, key) = (certificate.path("c.pem"), certificate.path("k.pem"));
        let mut process = Command::new("openssl")
            .args(["s_server", "-accept", "127.0.0.1:0", "-cert", &cert, "-key", &key, "-www", version])
            .args(["-cipher", "DEFAULT:@SECLEVEL=0"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let accept = lines.find_map(|line| line.unwrap().strip_prefix("ACCEPT ").map(str::to_owned));
        let accept = accept.expect("openssl s_server prints its address");
        let port = accept.rsplit(':').next().unwrap().trim().parse().unwrap();
        // Its output is small: nobody needs to read the rest.
        std::thread::spawn(move || lines.count());
        OpensslServer { process, port }
    }
}

impl Drop for OpensslServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn gateway_for(server: &OpensslServer, tls: &str) -> Gateway {
    GatewaySetup::with_named_servers(&[&format!("https://127.0.0.1:{}", server.port)])
        .set("upstream.tls", &format!("{{ {tls} }}"))
        .start()
}

const VERSIONS: [&str; 2] = ["-tls1_2", "-tls1_3"];

#[test]
fn certificate_in_ca_is_trusted_as_itself() {
    for kind in [Kind::Authority, Kind::AuthorityWithAddress, Kind::WithEmailAndUri, Kind::Version1] {
        let certificate = OpensslCertificate::create(kind);
        for version in VERSIONS {
            let server = OpensslServer::start(&certificate, version);
            let gateway = gateway_for(&server, &format!("ca: \"{}\"", certificate.path("c.pem")));
            let response = gateway.client().get("/");
            assert_eq!(response.status, 200, "{kind:?} {version}: {}", gateway.log_text());
        }
    }
}

#[test]
fn certificate_in_ca_is_rejected_for_its_own_faults() {
    let (first, second) =
        (OpensslCertificate::create(Kind::Authority), OpensslCertificate::create(Kind::Authority));
    let other_name = OpensslCertificate::create(Kind::AuthorityForOtherName);
    let expired = OpensslCertificate::create(Kind::Expired);
    for (certificate, ca, evidence) in [
        (
            &first,
            &second,
            "the certificate is that of an authority, not that of a server; to trust it, list it in upstreams.*.tls.ca",
        ),
        (
            &other_name,
            &other_name,
            "the certificate is not valid for the name 127.0.0.1, but for elsewhere.internal (upstreams.*.tls.sni)",
        ),
        (&expired, &expired, "the certificate expired on "),
    ] {
        let server = OpensslServer::start(certificate, "-tls1_3");
        let gateway = gateway_for(&server, &format!("ca: \"{}\"", ca.path("c.pem")));
        gateway.client().get("/").assert_local_reply(504);
        let line = gateway.log_line(|line| line["cause"] == "tls_certificate_error");
        let logged = line["evidence"].as_str().unwrap_or_default().to_owned();
        assert!(logged.starts_with(evidence), "{logged}");
        assert!(!logged.contains("Error") && !logged.contains("Other("), "{logged}");
    }
}

#[test]
fn every_certificate_is_accepted_without_verification() {
    for kind in [Kind::Authority, Kind::Version1, Kind::Expired, Kind::Rsa1024, Kind::P521] {
        let certificate = OpensslCertificate::create(kind);
        // In TLS 1.2 a server with a P-521 key needs a client that offers this curve for the key exchange too.
        for version in VERSIONS.into_iter().skip(usize::from(kind == Kind::P521)) {
            let server = OpensslServer::start(&certificate, version);
            let gateway = gateway_for(&server, "verify: false");
            let response = gateway.client().get("/");
            assert_eq!(response.status, 200, "{kind:?} {version}: {}", gateway.log_text());
        }
    }
}

#[test]
fn unusable_certificate_of_a_listener_is_described() {
    for (kind, key, message) in [
        (
            Kind::Version1,
            "cert",
            "c.pem cannot be used: the first certificate of the file is X.509 version 1, which cannot name a host",
        ),
        (Kind::Rsa1024, "key", "k.pem cannot be used: the key of the certificate is RSA with 1024 bits"),
        (Kind::P521, "key", "k.pem cannot be used: the key of the certificate is ECDSA with P-521"),
    ] {
        let certificate = OpensslCertificate::create(kind);
        let text = "listen:\n  - address: 127.0.0.1:0\n    tls: { cert: c.pem, key: k.pem }\n\
            upstreams: { a: { servers: [\"127.0.0.1:1\"] } }\nroutes: [{ name: r, upstream: a }]\n";
        let file = certificate.folder.write("statusquo.yaml", text);
        let (status, _, output) = super::gateway::run(&["check", file.to_str().unwrap()], &[]);
        assert_eq!(status, Some(78), "{output}");
        assert!(output.contains(&format!("listen[0].tls.{key}: ")) && output.contains(message), "{output}");
    }
}
