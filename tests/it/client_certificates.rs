//! Certificates of clients on TLS listeners: who is accepted, what the upstream learns, reloads and resumption.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyUsagePurpose};
use rustls::pki_types::ServerName;
use rustls::version::{TLS12, TLS13};
use rustls::{ALL_VERSIONS, ClientConfig, ClientConnection, StreamOwned};

use super::certificates::{Authority, Dates, EXPIRED, Issued, self_signed};
use super::gateway::run;
use super::h2_client::H2Client;
use super::prelude::*;
use super::tls_client::TlsClient;
use super::unix_sockets::address_of;

const NOT_YET_VALID: Dates = ((2098, 1, 1), (2099, 1, 1));

/// The authorities of a test: that of the gateway and that of its clients, with the files of the gateway.
struct Pki {
    servers: Authority,
    clients: Authority,
    folder: TestFolder,
}

impl Pki {
    fn new() -> Pki {
        let pki = Pki {
            servers: Authority::new(),
            clients: Authority::named("clients"),
            folder: TestFolder::new(),
        };
        let issued = pki.servers.issue(&["test"]);
        pki.folder.write("gateway.crt", &issued.cert);
        pki.folder.write("gateway.key", &issued.key);
        pki.trust(&pki.clients.pem());
        pki
    }

    /// Writes `client_ca`.
    fn trust(&self, text: &str) {
        self.folder.write("clients.pem", text);
    }

    /// `listen[].tls`; `auth` is the value of `client_auth`, or empty for a listener that asks for no certificate.
    fn tls(&self, auth: &str) -> String {
        let path = |name| self.folder.path(name).display().to_string();
        let clients = match auth {
            "" => String::new(),
            auth => format!(", client_ca: \"{}\", client_auth: {auth}", path("clients.pem")),
        };
        format!("{{ cert: \"{}\", key: \"{}\"{clients} }}", path("gateway.crt"), path("gateway.key"))
    }

    /// A client with this certificate.
    fn client(&self, certificate: Option<&Issued>) -> Arc<ClientConfig> {
        self.servers.client(ALL_VERSIONS, &["http/1.1"], certificate)
    }

    fn billing(&self) -> Issued {
        self.clients.issue_client(|parameters| name(parameters, "billing"))
    }
}

fn name(parameters: &mut CertificateParams, name: &str) {
    parameters.distinguished_name = DistinguishedName::new();
    parameters.distinguished_name.push(DnType::OrganizationName, "Acme, Inc.");
    parameters.distinguished_name.push(DnType::CommonName, name);
}

fn date(parameters: &mut CertificateParams, (from, until): Dates) {
    parameters.not_before = rcgen::date_time_ymd(from.0, from.1, from.2);
    parameters.not_after = rcgen::date_time_ymd(until.0, until.1, until.2);
}

/// Responds with the fields of the client's certificate that it received: subject, fingerprint.
fn echo() -> ScriptedUpstream {
    by_request(|request| {
        let values = |name: &str| {
            let fields = request.headers.iter().filter(|(field, _)| field == name);
            fields.map(|(_, value)| value.clone()).collect::<Vec<_>>().join("|")
        };
        let text = format!("[{}] [{}]", values("x-subject"), values("x-fingerprint"));
        vec![Step::ReadBody, Step::Write(http_response("200 OK", &text))]
    })
}

const ROUTE: &str = "name: all, upstream: main, request_headers: { set: { x-subject: \"{client_cert_subject}\", \
                     x-fingerprint: \"{client_cert_fingerprint}\" } }";

fn setup(upstream: &ScriptedUpstream, tls: &str) -> GatewaySetup {
    Gateway::with_upstream(upstream).tls(tls).route(ROUTE)
}

/// What the upstream receives of this certificate.
fn forwarded(subject: &str, issued: &Issued) -> String {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;
    let der = CertificateDer::from_pem_slice(issued.cert.as_bytes()).unwrap();
    let digest = ring::digest::digest(&ring::digest::SHA256, &der);
    let hex: String = digest.as_ref().iter().map(|octet| format!("{octet:02x}")).collect();
    format!("[{subject}] [{hex}]")
}

const NOTHING: &str = "[] []";

/// Sends a request and reads the body of the response, or the error: with TLS 1.3 the client has completed its
/// handshake when the gateway rejects it.
fn attempt(address: SocketAddr, config: &Arc<ClientConfig>) -> Result<String, String> {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(limit())).unwrap();
    let name = ServerName::try_from("test").unwrap();
    let mut stream = StreamOwned::new(ClientConnection::new(Arc::clone(config), name).unwrap(), stream);
    let mut response = Vec::new();
    stream
        .write_all(b"GET / HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n")
        .and_then(|()| stream.read_to_end(&mut response))
        .map_err(|error| error.to_string())?;
    let text = String::from_utf8(response).unwrap();
    Ok(text.split_once("\r\n\r\n").unwrap().1.to_owned())
}

#[track_caller]
fn expect_rejections(gateway: &Gateway, expected: u32) {
    let labels = [("cause", "tls_handshake_failed")];
    gateway.expect_metric("closed_without_response_total", &labels, f64::from(expected));
}

/// Certificates that are not accepted: the alert that the client gets, and what the log says.
fn invalid(pki: &Pki) -> Vec<(Issued, &'static str, &'static str)> {
    let clients = &pki.clients;
    vec![
        (
            Authority::new().issue_client(|_| {}),
            "UnknownCA",
            "the certificate is not signed by an authority of listen[].tls.client_ca",
        ),
        (
            self_signed(&["test"]),
            "UnknownCA",
            "the certificate is not signed by an authority of listen[].tls.client_ca",
        ),
        (
            clients.issue_client(|parameters| date(parameters, EXPIRED)),
            "CertificateExpired",
            "the certificate expired on 2021-01-01T00:00:00Z",
        ),
        (
            clients.issue_client(|parameters| date(parameters, NOT_YET_VALID)),
            "CertificateExpired",
            "the certificate is not valid yet, but from 2098-01-01T00:00:00Z on",
        ),
        (
            clients.issue_client(|parameters| {
                parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
            }),
            "UnsupportedCertificate",
            "the certificate is meant for another purpose (key usage, extended key usage)",
        ),
        (
            clients.issue_client(|parameters| parameters.key_usages = vec![KeyUsagePurpose::KeyEncipherment]),
            "UnsupportedCertificate",
            "the certificate is meant for another purpose (key usage, extended key usage)",
        ),
    ]
}

#[test]
fn invalid_certificates_are_refused_counted_once_and_logged_with_the_reason() {
    let (pki, upstream) = (Pki::new(), echo());
    for auth in ["required", "optional"] {
        let gateway = setup(&upstream, &pki.tls(auth)).start();
        let mut rejected = 0;
        for (issued, alert, reason) in invalid(&pki) {
            for (version, protocol) in [(&TLS12, "http/1.1"), (&TLS13, "http/1.1"), (&TLS13, "h2")] {
                let config = pki.servers.client(&[version], &[protocol], Some(&issued));
                let error = attempt(gateway.address(), &config).unwrap_err();
                assert_eq!(error, format!("received fatal alert: {alert}"), "{auth} {version:?} {reason}");
                rejected += 1;
                expect_rejections(&gateway, rejected);
            }
            let line = gateway.log_line(|line| line["evidence"] == reason);
            assert_eq!(line["message"], "TLS handshake failed: no valid client certificate");
            assert_eq!((&line["level"], &line["peer"]), (&"info".into(), &"127.0.0.1".into()));
        }
        gateway.expect_metric("responses_total", &[], 0.0);
        // No other cause counts them too.
        gateway.expect_metric("closed_without_response_total", &[], f64::from(rejected));
        let address = gateway.address().to_string();
        gateway.wait_for_metric(limit(), "connections", &[("listener", &address)], 0.0);
    }
    assert_eq!(upstream.connection_count(), 0);
}

#[test]
fn client_without_a_certificate_is_served_unless_one_is_required() {
    let (pki, upstream) = (Pki::new(), echo());
    let required = setup(&upstream, &pki.tls("required")).start();
    for (rejected, version) in (1..).zip(ALL_VERSIONS) {
        let config = pki.servers.client(&[version], &["http/1.1"], None);
        let error = attempt(required.address(), &config).unwrap_err();
        assert_eq!(error, "received fatal alert: CertificateRequired", "{version:?}");
        expect_rejections(&required, rejected);
    }
    required.log_line(|line| line["evidence"] == "the client sent no certificate");
    required.expect_metric("responses_total", &[], 0.0);
    assert_eq!(upstream.connection_count(), 0);
    for auth in ["optional", ""] {
        let gateway = setup(&upstream, &pki.tls(auth)).start();
        for version in ALL_VERSIONS {
            let config = pki.servers.client(&[version], &["http/1.1"], None);
            assert_eq!(attempt(gateway.address(), &config).as_deref(), Ok(NOTHING), "{auth}");
        }
        expect_rejections(&gateway, 0);
    }
}

#[test]
fn upstream_receives_subject_and_fingerprint_and_clients_cannot_forge_them() {
    let (pki, upstream) = (Pki::new(), echo());
    let billing = pki.billing();
    let expected = forwarded(r"CN=billing,O=Acme\, Inc.", &billing);
    let unnamed =
        pki.clients.issue_client(|parameters| parameters.distinguished_name = DistinguishedName::new());
    let intermediate = Authority::signed_by(&pki.clients);
    let mut chained = intermediate.issue_client(|parameters| name(parameters, "chained"));
    let leaf = chained.clone();
    chained.cert += &intermediate.pem();
    for auth in ["required", "optional"] {
        let gateway = setup(&upstream, &pki.tls(auth)).start();
        for (issued, expected) in [
            (&billing, expected.clone()),
            (&unnamed, forwarded("", &unnamed)),
            (&chained, forwarded(r"CN=chained,O=Acme\, Inc.", &leaf)),
            // Listed, and trusted as itself.
            (&pki.clients.issued(), forwarded("CN=clients", &pki.clients.issued())),
        ] {
            for version in ALL_VERSIONS {
                let config = pki.servers.client(&[version], &["http/1.1"], Some(issued));
                assert_eq!(
                    attempt(gateway.address(), &config).as_deref(),
                    Ok(&*expected),
                    "{auth} {version:?}"
                );
            }
        }
        let mut h1 = TlsClient::connect(gateway.address(), "test", &pki.client(Some(&billing)));
        let both = pki.servers.client(ALL_VERSIONS, &["h2"], Some(&billing));
        let mut h2 = H2Client::connect_tls(gateway.address(), "test", &both);
        for _ in 0..2 {
            h1.send(
                "GET / HTTP/1.1\r\nhost: test\r\nx-subject: CN=root\r\nX_Subject: CN=root\r\nX-Fingerprint: 00\r\n\r\n",
            );
            h1.read().assert_response(200, &expected);
            let forged = [("x-subject", "CN=root"), ("x_fingerprint", "00"), ("x-fingerprint", "00")];
            h2.request("GET", "/", &forged, bytes::Bytes::new()).assert_response(200, &expected);
        }
        expect_rejections(&gateway, 0);
    }
    // Without a certificate the fields of the client are removed, whether the listener asks for one or not.
    for (auth, certificate) in [("optional", None), ("", None), ("", Some(&billing))] {
        let gateway = setup(&upstream, &pki.tls(auth)).with_h2c_listener().start();
        let mut client = TlsClient::connect(gateway.address(), "test", &pki.client(certificate));
        client.send("GET / HTTP/1.1\r\nhost: test\r\nx-subject: CN=root\r\nX_Fingerprint: 00\r\n\r\n");
        client.read().assert_response(200, NOTHING);
        let forged = [("x-subject", "CN=root"), ("x-fingerprint", "00")];
        gateway.h2_client().request("GET", "/", &forged, bytes::Bytes::new()).assert_response(200, NOTHING);
    }
}

#[test]
fn certificates_are_verified_behind_proxy_protocol_and_on_unix_sockets() {
    let (pki, upstream, folder) = (Pki::new(), echo(), TestFolder::new());
    let billing = pki.billing();
    let expected = forwarded(r"CN=billing,O=Acme\, Inc.", &billing);
    let socket = folder.path("tls.sock");
    let gateway = setup(&upstream, &pki.tls("required"))
        .proxy_protocol("[127.0.0.1]")
        .socket(&socket, &format!("tls: {}", pki.tls("required")))
        .start();
    let over = |certificate| {
        let mut stream = TcpStream::connect(gateway.address()).unwrap();
        stream.write_all(b"PROXY TCP4 192.0.2.7 192.0.2.8 4000 443\r\n").unwrap();
        TlsClient::over(stream, "test", &pki.servers.client(&[&TLS12], &[], certificate))
    };
    over(Some(&billing)).unwrap().get("/").assert_response(200, &expected);
    assert!(over(None).is_err());
    let line = gateway.log_line(|line| line["evidence"] == "the client sent no certificate");
    assert_eq!(line["peer"], "192.0.2.7");
    expect_rejections(&gateway, 1);
    let address = address_of(&socket);
    assert_eq!(attempt(address, &pki.client(Some(&billing))), Ok(expected));
    assert!(attempt(address, &pki.client(None)).is_err());
    expect_rejections(&gateway, 2);
}

#[test]
fn reload_verifies_new_connections_by_the_new_file_and_resumes_no_session() {
    let (pki, upstream) = (Pki::new(), echo());
    let (billing, next) = (pki.billing(), Authority::new());
    let shipping = next.issue_client(|parameters| name(parameters, "shipping"));
    let reload = |gateway: &Gateway, auth: &str| gateway.reload(setup(&upstream, &pki.tls(auth)));
    let gateway = setup(&upstream, &pki.tls("required")).start();
    // One configuration, and so one store of sessions, for all connections of a client.
    let (of_billing, of_shipping) = (pki.client(Some(&billing)), pki.client(Some(&shipping)));
    let mut kept = TlsClient::connect(gateway.address(), "test", &of_billing);
    for _ in 0..2 {
        kept.get("/").assert_response(200, &forwarded(r"CN=billing,O=Acme\, Inc.", &billing));
        assert!(!TlsClient::connect(gateway.address(), "test", &of_billing).is_resumed());
    }
    let alert = || Err("received fatal alert: UnknownCA".to_owned());
    assert_eq!(attempt(gateway.address(), &of_shipping), alert());

    pki.trust(&next.pem());
    assert_eq!(reload(&gateway, "required"), "applied");
    assert_eq!(attempt(gateway.address(), &of_billing), alert());
    let accepted = Ok(forwarded(r"CN=shipping,O=Acme\, Inc.", &shipping));
    assert_eq!(attempt(gateway.address(), &of_shipping), accepted);
    kept.get("/").assert_response(200, &forwarded(r"CN=billing,O=Acme\, Inc.", &billing));

    // A file that cannot be used changes nothing.
    for (text, reason) in [
        ("", "the file is not PEM"),
        (&*next.issued().key, "the file contains a private key"),
        (&*shipping.cert, "certificate 1 of the file is not that of an authority"),
    ] {
        pki.trust(text);
        assert_eq!(reload(&gateway, "required"), "rejected");
        gateway.log_line(|line| {
            line["key"] == "listen[0].tls.client_ca"
                && line["message"].as_str().is_some_and(|message| message.contains(reason))
        });
        assert_eq!(attempt(gateway.address(), &of_billing), alert());
        assert_eq!(attempt(gateway.address(), &of_shipping), accepted);
    }
    // Both can be turned off and on without a restart. A session that was resumable meanwhile is not resumed.
    let anonymous = pki.client(None);
    assert_eq!(reload(&gateway, ""), "applied");
    TlsClient::connect(gateway.address(), "test", &anonymous).get("/").assert_response(200, NOTHING);
    let mut resumed = TlsClient::connect(gateway.address(), "test", &anonymous);
    assert!(resumed.is_resumed());
    resumed.get("/").assert_response(200, NOTHING);
    pki.trust(&next.pem());
    assert_eq!(reload(&gateway, "required"), "applied");
    let missing = Err("received fatal alert: CertificateRequired".to_owned());
    assert_eq!(attempt(gateway.address(), &anonymous), missing);
    expect_rejections(&gateway, 6);
}

#[test]
fn check_refuses_unusable_authorities_and_keys_without_effect() {
    let pki = Pki::new();
    let leaf = pki.billing();
    let files = [
        ("empty", String::new()),
        ("junk", "no PEM at all\n".to_owned()),
        ("key", leaf.key.clone()),
        ("both", pki.clients.pem() + &pki.clients.issued().key),
        ("leaf", pki.clients.pem() + &leaf.cert),
        ("damaged", "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n".to_owned()),
    ];
    for (name, text) in &files {
        pki.folder.write(name, text);
    }
    let check = |tls: &str, route: &str| {
        let text = format!(
            "listen:\n  - address: \":8443\"\n    tls: {tls}\nupstreams: {{ a: {{ servers: [\"127.0.0.1:1\"] }} }}\n\
             routes: [{{ name: r, upstream: a, request_headers: {{ {route} }} }}]\n"
        );
        let file = pki.folder.write("statusquo.yaml", &text);
        let (status, _, output) = run(&["check", file.to_str().unwrap()], &[]);
        let folder = format!("{}/", pki.folder.path("").display().to_string().trim_end_matches('/'));
        (
            status,
            output
                .replace(&folder, "")
                .lines()
                .find(|line| *line != "warnings:")
                .unwrap_or_default()
                .to_owned(),
        )
    };
    let pair = "cert: gateway.crt, key: gateway.key";
    let with = |client: &str| format!("{{ {pair}, {client} }}");
    let missing = "write the path of a PEM file, relative to the directory of this file";
    for (ca, expected) in [
        ("none", format!("cannot read none: no such file; {missing}")),
        ("empty", "empty cannot be used: the file is not PEM; expected text with a -----BEGIN line".to_owned()),
        ("junk", "junk cannot be used: the file is not PEM; expected text with a -----BEGIN line".to_owned()),
        (
            "key",
            "key cannot be used: the file contains a private key; write only the certificates of the authorities; the \
             gateway needs no key of theirs"
                .to_owned(),
        ),
        (
            "both",
            "both cannot be used: the file contains a private key; write only the certificates of the authorities; the \
             gateway needs no key of theirs"
                .to_owned(),
        ),
        (
            "leaf",
            "leaf cannot be used: certificate 2 of the file is not that of an authority; write the certificate of the \
             authority that has issued it (basicConstraints CA:TRUE)"
                .to_owned(),
        ),
        (
            "damaged",
            "damaged cannot be used: certificate 1 of the file is damaged; replace it with an intact copy".to_owned(),
        ),
    ] {
        let (status, output) = check(&with(&format!("client_ca: {ca}, client_auth: required")), "");
        assert_eq!(status, Some(78), "{output}");
        assert_eq!(output, format!("statusquo.yaml:3:60: listen[0].tls.client_ca: {expected}"));
    }
    for (tls, expected) in [
        (
            with("client_ca: clients.pem"),
            "3:60: listen[0].tls.client_ca: client_ca has no effect without client_auth; add client_auth: required, or \
             client_auth: optional for clients without a certificate",
        ),
        (
            with("client_auth: required"),
            "3:62: listen[0].tls.client_auth: client_auth has no effect without client_ca; add the authorities that issue \
             the certificates of clients, for example client_ca: clients.pem, or remove client_auth",
        ),
        (
            format!("[{}, {{ {pair} }}]", with("client_ca: clients.pem, client_auth: optional")),
            "3:99: listen[0].tls[1]: the certificates of a listener differ in client_ca or client_auth, but the client \
             chooses one by the name that it asks for; write client_ca: \"clients.pem\", client_auth: optional here too, or \
             use another listener",
        ),
        (
            format!("[{{ {pair} }}, {}]", with("client_ca: clients.pem, client_auth: optional")),
            "3:52: listen[0].tls[1]: the certificates of a listener differ in client_ca or client_auth, but the client \
             chooses one by the name that it asks for; write both for the first certificate too, or remove them here",
        ),
        (
            with("client_ca: clients.pem, client_auth: maybe"),
            "3:86: listen[0].tls.client_auth: unknown value \"maybe\"; expected required or optional",
        ),
    ] {
        let (status, output) = check(&tls, "");
        assert_eq!(status, Some(78), "{output}");
        assert_eq!(output, format!("statusquo.yaml:{expected}"));
    }
    let same = with("client_ca: clients.pem, client_auth: required");
    let subject = "x-a: \"{client_cert_subject}\"";
    for (tls, route, expected) in [
        (format!("[{same}, {same}]"), format!("set: {{ {subject} }}"), ""),
        (
            format!("{{ {pair} }}"),
            format!("set: {{ {subject} }}"),
            "statusquo.yaml:5:65: routes[0].request_headers.set.x-a: no listener asks clients for certificates, so \
             the value is always absent; set client_ca and client_auth in listen[].tls, or remove it",
        ),
        (
            same.clone(),
            format!("add: {{ {subject} }}"),
            "statusquo.yaml:5:65: routes[0].request_headers.add.x-a: add keeps the fields of this name that the \
             client sends, so that it can name any certificate; move it to set",
        ),
    ] {
        let (status, output) = check(&tls, &route);
        assert_eq!((status, &*output), (Some(0), expected));
    }
}
