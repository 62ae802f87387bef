//! TLS listeners: certificate selection, protocols, and failed handshakes.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ClientConfig;

use super::certificates::{Authority, EXPIRED, Issued};
use super::h2_client::H2Client;
use super::prelude::*;
use super::tls_client::TlsClient;

/// A folder with the files of one certificate, and its `listen[0].tls` configuration.
struct CertificateFiles {
    folder: TestFolder,
}

impl CertificateFiles {
    fn of(issued: &[&Issued]) -> CertificateFiles {
        let files = CertificateFiles { folder: TestFolder::new() };
        for (index, issued) in issued.iter().enumerate() {
            files.write(index, issued);
        }
        files
    }

    fn write(&self, index: usize, issued: &Issued) {
        self.folder.write(&format!("{index}.crt"), &issued.cert);
        self.folder.write(&format!("{index}.key"), &issued.key);
    }

    fn tls(&self, index: usize) -> String {
        let path = |ending| self.folder.path(&format!("{index}.{ending}")).display().to_string();
        format!("{{ cert: \"{}\", key: \"{}\" }}", path("crt"), path("key"))
    }
}

/// A gateway with a certificate for `test`, and a client that trusts it.
pub fn tls_gateway(setup: GatewaySetup) -> (Gateway, Arc<ClientConfig>) {
    tls_gateway_with_alpn(setup, &["http/1.1"])
}

/// Like `tls_gateway`, with a client that offers these protocols.
pub fn tls_gateway_with_alpn(setup: GatewaySetup, protocols: &[&str]) -> (Gateway, Arc<ClientConfig>) {
    let authority = Authority::new();
    let files = CertificateFiles::of(&[&authority.issue(&["test"])]);
    let gateway = setup.tls(&files.tls(0)).start();
    (gateway, authority.trusting_client(protocols))
}

#[test]
fn expiry_of_every_certificate_name_is_exported_and_follows_a_reload() {
    let upstream = ok_upstream("");
    let authority = Authority::new();
    let files = CertificateFiles::of(&[
        &authority.issue_for(&["one.test", "two.test"], ((2024, 1, 1), (2049, 12, 31))),
        &authority.issue_for(&["two.test"], ((2024, 1, 1), (2040, 1, 1))),
    ]);
    let setup = |tls: &str| Gateway::with_upstream(&upstream).tls(tls);
    let gateway = setup(&format!("[{}, {}]", files.tls(0), files.tls(1))).start();
    let listener = gateway.address().to_string();
    let dates = || {
        let metrics = gateway.metrics();
        let labels = [("listener", listener.as_str())];
        let series = metrics
            .iter()
            .filter(|series| series.matches("tls_certificate_expiry_timestamp_seconds", &labels));
        series.map(|series| (series.labels["name"].clone(), series.value)).collect::<Vec<_>>()
    };
    // `date -u -d 2049-12-31 +%s`
    let (in_2049, in_2040) = (2_524_521_600.0, 2_208_988_800.0);
    assert_eq!(dates(), [("one.test".to_owned(), in_2049), ("two.test".to_owned(), in_2040)]);
    assert_eq!(gateway.reload(setup(&files.tls(1))), "applied");
    assert_eq!(dates(), [("two.test".to_owned(), in_2040)]);
}

fn expect_close_reason(gateway: &Gateway, cause: &str, expected: u32) {
    gateway.expect_metric("closed_without_response_total", &[("cause", cause)], f64::from(expected));
}

#[test]
fn tls_requests_are_served_and_forwarded_proto_is_https() {
    let upstream = ok_upstream("fine");
    let (gateway, trusting) = tls_gateway(Gateway::with_upstream(&upstream));
    let mut client = TlsClient::connect(gateway.address(), "test", &trusting);
    assert_eq!(client.protocol().as_deref(), Some("http/1.1"));
    for _ in 0..3 {
        client.get("/").assert_response(200, "fine");
    }
    client.get("/../x").assert_local_reply_message(400, "The path of the request is malformed or ambiguous.");
    let seen = upstream.recording();
    let forwarded_proto: Vec<_> =
        seen.requests().map(|request| request.head.header("x-forwarded-proto")).collect();
    assert_eq!(forwarded_proto, [Some("https"); 3]);
    expect_close_reason(&gateway, "tls_handshake_failed", 0);
}

#[test]
fn errors_and_bodies_over_tls_equal_those_without() {
    let body = "0123456789abcdef".repeat(256 * 1024);
    let sent = body.clone();
    let upstream = by_request(move |request| match request.path() {
        "/large" => vec![Step::ReadBody, Step::Write(http_response("200 OK", &sent))],
        "/cut" => {
            vec![Step::ReadBody, write_bytes("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nab"), Step::Close]
        }
        _ => vec![
            Step::ReadBody,
            Step::Write(http_response("502 Bad Gateway\ncontent-type: text/html", "<h1>")),
        ],
    });
    let (gateway, trusting) = tls_gateway(Gateway::with_upstream(&upstream));
    let mut client = TlsClient::connect(gateway.address(), "test", &trusting);
    client.get("/error").assert_local_reply(504);
    let response = client.get("/large");
    assert!(response.status == 200 && response.text() == body && response.connection_usable);
    let response = client.get("/cut");
    // Without close_notify: no client can take the body for complete.
    assert_eq!(response.end, ResponseEnd::Reset { after: 2 });
    gateway.expect_metric("aborted_total", &[("cause", "http_response_incomplete")], 1.0);
}

#[test]
fn closing_response_over_tls_ends_with_close_notify() {
    let (gateway, trusting) = tls_gateway(GatewaySetup::with_servers(&[refusing_port().address()]));
    let mut client = TlsClient::connect(gateway.address(), "test", &trusting);
    client.send("GET / HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n");
    client.read().assert_local_reply(504);
    assert_eq!(client.read_close(), NoResponse::Closed);
}

#[test]
fn idle_tls_connection_is_closed_with_close_notify() {
    let upstream = ok_upstream("fine");
    let (gateway, trusting) =
        tls_gateway(Gateway::with_upstream(&upstream).set("client.idle_timeout", "400ms"));
    let mut client = TlsClient::connect(gateway.address(), "test", &trusting);
    client.get("/").assert_response(200, "fine");
    assert_eq!(client.read_close(), NoResponse::Closed);
    expect_close_reason(&gateway, "idle_timeout", 1);
    let mut client = TlsClient::connect(gateway.address(), "test", &trusting);
    client.get("/").assert_response(200, "fine");
    gateway.send_sigterm();
    assert_eq!(client.read_close(), NoResponse::Closed);
}

#[test]
fn http2_is_negotiated_when_the_client_offers_it() {
    let upstream = html_upstream("500 Internal Server Error");
    let authority = Authority::new();
    let files = CertificateFiles::of(&[&authority.issue(&["test"])]);
    let gateway = Gateway::with_upstream(&upstream).tls(&files.tls(0)).start();
    let both = authority.trusting_client(&["h2", "http/1.1"]);
    assert_eq!(TlsClient::connect(gateway.address(), "test", &both).protocol().as_deref(), Some("h2"));
    let none = authority.trusting_client(&[]);
    let mut old = TlsClient::connect(gateway.address(), "test", &none);
    assert_eq!(old.protocol(), None);
    old.get("/").assert_local_reply(500);
    let mut client = H2Client::connect_tls(gateway.address(), "test", &both);
    for response in client.get_all(&["/a", "/b", "/c"]) {
        response.assert_local_reply(500);
    }
    let seen = upstream.recording();
    assert!(seen.requests().all(|request| request.head.header("x-forwarded-proto") == Some("https")));
    // A client without a common ALPN protocol gets a TLS alert.
    let other = authority.trusting_client(&["spdy/3"]);
    assert!(TlsClient::try_connect(gateway.address(), "test", &other).is_err());
    expect_close_reason(&gateway, "tls_handshake_failed", 1);
}

#[test]
fn certificate_is_selected_by_sni() {
    let authority = Authority::new();
    let issued = [&["first.test"][..], &["*.shop.test", "shop.test"], &["deep.shop.test"]];
    let issued = issued.map(|names| authority.issue(names));
    let files = CertificateFiles::of(&[&issued[0], &issued[1], &issued[2]]);
    let tls = format!("[{}, {}, {}]", files.tls(0), files.tls(1), files.tls(2));
    let upstream = ok_upstream("fine");
    let gateway = Gateway::with_upstream(&upstream).tls(&tls).start();
    let trusting = authority.trusting_client(&[]);
    let mut shown = Vec::new();
    for name in ["first.test", "shop.test", "a.shop.test", "DEEP.shop.test"] {
        let mut client = TlsClient::connect(gateway.address(), name, &trusting);
        client.get("/").assert_response(200, "fine");
        shown.push(client.certificate());
    }
    assert_eq!(shown[1], shown[2]);
    assert!(shown[0] != shown[1] && shown[1] != shown[3] && shown[0] != shown[3]);
    // The first certificate is the default for unknown names; the client rejects it with an alert.
    let error = TlsClient::try_connect(gateway.address(), "elsewhere.test", &trusting).err().unwrap();
    assert!(error.to_string().contains("first.test"), "{error}");
    expect_close_reason(&gateway, "tls_handshake_failed", 1);
}

#[test]
fn plain_http_is_rejected_in_clear_text() {
    let upstream = ok_upstream("fine");
    let (gateway, trusting) = tls_gateway(Gateway::with_upstream(&upstream));
    let large =
        format!("POST /x HTTP/1.1\r\nhost: test\r\ncontent-length: 200000\r\n\r\n{}", "x".repeat(200_000));
    let absolute = "GET http://test/ HTTP/1.1\r\nhost: other\r\n\r\n";
    for (request, bytes) in
        [("GET", "GET / HTTP/1.1\r\nhost: test\r\n\r\n"), ("GET", absolute), ("POST", &large)]
    {
        let mut client = gateway.client();
        let response = client.exchange(SentRequest::Http11(request), bytes);
        response.assert_local_reply_message(400, "The request is not a valid HTTP request.");
        assert_eq!(response.header("connection"), Some("close"));
        client.expect_close();
    }
    let mut client = gateway.client();
    let head = client.exchange(SentRequest::Http11("HEAD"), "HEAD / HTTP/1.1\r\nhost: test\r\n\r\n");
    assert_eq!(head.status, 400);
    gateway.expect_metric("errors_total", &[("cause", "http_request_error"), ("code", "400")], 4.0);
    expect_close_reason(&gateway, "plaintext_on_tls", 0);
    assert_eq!(upstream.connection_count(), 0);
    TlsClient::connect(gateway.address(), "test", &trusting).get("/").assert_response(200, "fine");
}

/// The response depends on the whole header section, so a slowly sent one is awaited.
#[test]
fn slowly_sent_plain_http_is_read_to_the_end_of_its_headers() {
    let upstream = ok_upstream("fine");
    let (gateway, _) = tls_gateway(
        Gateway::with_upstream(&upstream)
            .set("cors", "{ allow_origins: [\"https://page.test\"] }")
            .route("name: all, match: { path: \"/{*rest}\" }, upstream: main, cors: default"),
    );
    let mut client = gateway.client();
    client.send("GET / HTTP/1.1\r\nhost: test\r\n");
    std::thread::sleep(Duration::from_millis(300)); // slow client under test
    client.send("origin: https://page.test\r\n\r\n");
    let response = client.read(SentRequest::Http11("GET"));
    response.assert_local_reply_message(400, "The request is not a valid HTTP request.");
    assert_eq!(response.header("access-control-allow-origin"), Some("https://page.test"), "{response:#?}");
}

#[test]
fn non_http_input_is_closed_and_counted_by_reason() {
    let upstream = ok_upstream("fine");
    let (gateway, trusting) = tls_gateway(Gateway::with_upstream(&upstream));
    let raw = |bytes: &[u8]| -> Vec<u8> {
        let mut stream = TcpStream::connect(gateway.address()).unwrap();
        stream.set_read_timeout(Some(limit())).unwrap();
        stream.write_all(bytes).unwrap();
        let mut response = Vec::new();
        let _ = stream.read_to_end(&mut response);
        response
    };
    assert_eq!(raw(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), b"");
    assert_eq!(raw(b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n"), b"");
    expect_close_reason(&gateway, "plaintext_on_tls", 2);
    // A first message that is not a ClientHello gets an alert.
    let alert = raw(b"\x16\x03\x01\x00\x04\x02\x00\x00\x00");
    assert_eq!(alert.first(), Some(&0x15), "{alert:?}");
    expect_close_reason(&gateway, "tls_handshake_failed", 1);
    drop(TcpStream::connect(gateway.address()).unwrap());
    expect_close_reason(&gateway, "no_request", 1);
    // One client disconnects during the handshake, another one does not trust the certificate.
    let mut stream = TcpStream::connect(gateway.address()).unwrap();
    stream.write_all(b"\x16\x03\x01").unwrap();
    drop(stream);
    expect_close_reason(&gateway, "tls_handshake_failed", 2);
    let untrusting = Authority::new().trusting_client(&[]);
    assert!(TlsClient::try_connect(gateway.address(), "test", &untrusting).is_err());
    expect_close_reason(&gateway, "tls_handshake_failed", 3);
    TlsClient::connect(gateway.address(), "test", &trusting).get("/").assert_response(200, "fine");
    gateway.expect_metric("responses_total", &[], 1.0);
}

#[test]
fn stalled_handshakes_and_headers_time_out_while_others_are_served() {
    const CLIENTS_PER_KIND: usize = 200;
    let timeout = Duration::from_millis(1500);
    let upstream = ok_upstream("fine");
    let setup = Gateway::with_upstream(&upstream).set("client.header_timeout", "1500ms");
    let (gateway, trusting) = tls_gateway(setup.limit(Duration::from_secs(60)));
    let address = gateway.address();
    let mut heads: Vec<(TlsClient, Instant)> = (0..CLIENTS_PER_KIND)
        .map(|_| {
            let mut client = TlsClient::connect(address, "test", &trusting);
            let started = Instant::now();
            client.send("GET / HTTP/1.1\r\nhost: te");
            (client, started)
        })
        .collect();
    let handshakes: Vec<(TcpStream, Instant)> = (0..CLIENTS_PER_KIND)
        .map(|index| {
            let started = Instant::now();
            let mut stream = TcpStream::connect(address).unwrap();
            // Some send nothing, some a partial ClientHello.
            stream.write_all(&b"\x16\x03\x01\x02\x00\x01"[..index % 7]).unwrap();
            (stream, started)
        })
        .collect();
    TlsClient::connect(address, "test", &trusting).get("/").assert_response(200, "fine");
    for (client, started) in &mut heads {
        client.read().assert_local_reply_message(400, "The request was not received in time.");
        assert!(started.elapsed() >= timeout, "{:?}", started.elapsed());
    }
    for (mut stream, started) in handshakes {
        stream.set_read_timeout(Some(limit())).unwrap();
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        assert!(started.elapsed() >= timeout, "{:?}", started.elapsed());
        assert_eq!(rest, b"");
    }
    expect_close_reason(&gateway, "tls_handshake_timeout", CLIENTS_PER_KIND as u32);
    gateway.expect_metric("errors_total", &[("cause", "client_too_slow")], CLIENTS_PER_KIND as f64);
    drop(heads);
    gateway.wait_for_metric(limit(), "connections", &[("listener", &address.to_string())], 0.0);
    TlsClient::connect(address, "test", &trusting).get("/").assert_response(200, "fine");
}

#[test]
fn client_over_the_connection_limit_gets_503_over_tls() {
    let upstream = ok_upstream("fine");
    let (gateway, trusting) =
        tls_gateway(Gateway::with_upstream(&upstream).set("client.max_connections", "1"));
    // It keeps its place until its first request.
    let mut first = TlsClient::connect(gateway.address(), "test", &trusting);
    TlsClient::connect(gateway.address(), "test", &trusting).get("/").assert_local_reply(503);
    first.get("/").assert_response(200, "fine");
}

#[test]
fn reload_uses_current_certificate_files_or_keeps_the_old_ones() {
    let authority = Authority::new();
    let (old, new) = (authority.issue(&["test"]), authority.issue(&["test"]));
    let files = CertificateFiles::of(&[&old]);
    let upstream = ok_upstream("fine");
    let setup = || Gateway::with_upstream(&upstream).tls(&files.tls(0));
    let gateway = setup().start();
    let trusting = authority.trusting_client(&[]);
    let shown = || TlsClient::connect(gateway.address(), "test", &trusting).certificate();
    let (mut kept, first) = (TlsClient::connect(gateway.address(), "test", &trusting), shown());
    kept.get("/").assert_response(200, "fine");

    files.write(0, &new);
    assert_eq!(gateway.reload(setup()), "applied");
    let second = shown();
    assert_ne!(first, second);
    kept.get("/").assert_response(200, "fine");

    files.write(0, &Issued { cert: new.cert.clone(), key: old.key.clone() });
    assert_eq!(gateway.reload(setup()), "rejected");
    gateway.log_line(|line| {
        line["key"] == "listen[0].tls.key"
            && line["message"]
                .as_str()
                .is_some_and(|text| text.contains("the key does not belong to the certificate"))
    });
    assert_eq!(shown(), second);
    assert_eq!(gateway.reload(Gateway::with_upstream(&upstream)), "rejected");
    gateway.log_line(|line| {
        line["message"]
            == "a listener with TLS cannot be changed to a listener without TLS by a reload; restart the process, or \
                revert this change"
    });
}

#[test]
fn expired_certificate_is_served_and_logged_as_error() {
    let authority = Authority::new();
    let files = CertificateFiles::of(&[&authority.issue_for(&["test"], EXPIRED)]);
    let upstream = ok_upstream("fine");
    let gateway = Gateway::with_upstream(&upstream).tls(&files.tls(0)).start();
    let line = gateway.log_line(|line| line["level"] == "error");
    assert_eq!(
        line["message"],
        "serving a certificate that expired on 2021-01-01T00:00:00Z; clients will reject it"
    );
    let trusting = authority.trusting_client(&[]);
    assert!(TlsClient::try_connect(gateway.address(), "test", &trusting).is_err());
    expect_close_reason(&gateway, "tls_handshake_failed", 1);
}

#[test]
fn non_reading_tls_client_is_closed_at_the_write_timeout() {
    let upstream = static_response(http_response("200 OK", "x".repeat(32 << 20)));
    let (gateway, trusting) =
        tls_gateway(Gateway::with_upstream(&upstream).set("client.write_timeout", "400ms"));
    let mut client = TlsClient::connect(gateway.address(), "test", &trusting);
    client.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n");
    gateway.expect_metric("aborted_total", &[], 1.0);
}
