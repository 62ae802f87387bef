//! TLS towards clients: which certificate is shown, what is spoken, and what becomes of handshakes that come to nothing.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ClientConfig;
use statusquo::rehearse::{UpstreamStep, http_response, write_bytes};

use super::certificates::{Authority, EXPIRED, Issued};
use super::gateway::{Folder, Gateway, Setup};
use super::h2_client::H2Client;
use super::load::limit;
use super::reader::{Ended, Unanswered};
use super::tls_client::TlsClient;
use super::upstreams::{answering, by_request, html, ok, refusing};

/// A folder with the files of one certificate, and what `listen[0].tls` says of them.
struct Files {
    folder: Folder,
}

impl Files {
    fn of(issued: &[&Issued]) -> Files {
        let files = Files { folder: Folder::new() };
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
pub fn house(setup: Setup) -> (Gateway, Arc<ClientConfig>) {
    house_speaking(setup, &["http/1.1"])
}

/// The same with a client that offers these protocols.
pub fn house_speaking(setup: Setup, protocols: &[&str]) -> (Gateway, Arc<ClientConfig>) {
    let authority = Authority::new();
    let files = Files::of(&[&authority.issue(&["test"])]);
    let gateway = setup.tls(&files.tls(0)).start();
    (gateway, authority.trusted_by_client(protocols))
}

fn count(gateway: &Gateway, cause: &str, wanted: u32) {
    gateway.expect_metric("closed_without_response_total", &[("cause", cause)], f64::from(wanted));
}

#[test]
fn requests_are_answered_over_tls_and_the_upstream_is_told_so() {
    let upstream = ok("fine");
    let (gateway, trusting) = house(Gateway::in_front_of(&upstream));
    let mut client = TlsClient::connect(gateway.address(), "test", &trusting);
    assert_eq!(client.protocol().as_deref(), Some("http/1.1"));
    for _ in 0..3 {
        client.get("/").is(200, "fine");
    }
    client.get("/../x").is_made_saying(400, "The path of the request is malformed or ambiguous.");
    let seen = upstream.recording();
    let told: Vec<_> = seen.requests().map(|request| request.head.header("x-forwarded-proto")).collect();
    assert_eq!(told, [Some("https"); 3]);
    count(&gateway, "tls_handshake_failed", 0);
}

#[test]
fn errors_and_bodies_come_through_tls_as_without_it() {
    let body = "0123456789abcdef".repeat(256 * 1024);
    let sent = body.clone();
    let upstream = by_request(move |request| match request.path() {
        "/large" => vec![UpstreamStep::ReadBody, UpstreamStep::Write(http_response("200 OK", &sent))],
        "/cut" => vec![
            UpstreamStep::ReadBody,
            write_bytes("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nab"),
            UpstreamStep::Close,
        ],
        _ => vec![
            UpstreamStep::ReadBody,
            UpstreamStep::Write(http_response("502 Bad Gateway\ncontent-type: text/html", "<h1>")),
        ],
    });
    let (gateway, trusting) = house(Gateway::in_front_of(&upstream));
    let mut client = TlsClient::connect(gateway.address(), "test", &trusting);
    client.get("/error").is_made(504);
    let answer = client.get("/large");
    assert!(answer.status == 200 && answer.text() == body && answer.connection_usable);
    let answer = client.get("/cut");
    // No goodbye of TLS either: nobody can take it for a whole one.
    assert_eq!(answer.ended, Ended::Reset { after: 2 });
    gateway.expect_metric("aborted_total", &[("cause", "http_response_incomplete")], 1.0);
}

#[test]
fn an_answer_that_closes_says_goodbye_in_tls_too() {
    let (gateway, trusting) = house(Setup::of_servers(&[refusing().address()]));
    let mut client = TlsClient::connect(gateway.address(), "test", &trusting);
    client.send("GET / HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n");
    client.read().is_made(504);
    assert_eq!(client.end(), Unanswered::Closed);
}

#[test]
fn a_connection_that_waited_too_long_is_told_goodbye_in_tls() {
    let upstream = ok("fine");
    let (gateway, trusting) = house(Gateway::in_front_of(&upstream).set("client.idle_timeout", "400ms"));
    let mut client = TlsClient::connect(gateway.address(), "test", &trusting);
    client.get("/").is(200, "fine");
    assert_eq!(client.end(), Unanswered::Closed);
    count(&gateway, "idle_timeout", 1);
    let mut client = TlsClient::connect(gateway.address(), "test", &trusting);
    client.get("/").is(200, "fine");
    gateway.terminate();
    assert_eq!(client.end(), Unanswered::Closed);
}

#[test]
fn http2_is_spoken_where_the_client_asks_for_it() {
    let upstream = html("500 Internal Server Error");
    let authority = Authority::new();
    let files = Files::of(&[&authority.issue(&["test"])]);
    let gateway = Gateway::in_front_of(&upstream).tls(&files.tls(0)).start();
    let both = authority.trusted_by_client(&["h2", "http/1.1"]);
    assert_eq!(TlsClient::connect(gateway.address(), "test", &both).protocol().as_deref(), Some("h2"));
    let none = authority.trusted_by_client(&[]);
    let mut old = TlsClient::connect(gateway.address(), "test", &none);
    assert_eq!(old.protocol(), None);
    old.get("/").is_made(500);
    let mut client = H2Client::connect_tls(gateway.address(), "test", &both);
    for answer in client.get_all(&["/a", "/b", "/c"]) {
        answer.is_made(500);
    }
    let seen = upstream.recording();
    assert!(seen.requests().all(|request| request.head.header("x-forwarded-proto") == Some("https")));
    // Who speaks nothing that we do is told so in TLS.
    let other = authority.trusted_by_client(&["spdy/3"]);
    assert!(TlsClient::try_connect(gateway.address(), "test", &other).is_err());
    count(&gateway, "tls_handshake_failed", 1);
}

#[test]
fn each_client_is_shown_the_certificate_for_the_name_that_it_asks_for() {
    let authority = Authority::new();
    let issued = [&["first.test"][..], &["*.shop.test", "shop.test"], &["deep.shop.test"]];
    let issued = issued.map(|names| authority.issue(names));
    let files = Files::of(&[&issued[0], &issued[1], &issued[2]]);
    let tls = format!("[{}, {}, {}]", files.tls(0), files.tls(1), files.tls(2));
    let upstream = ok("fine");
    let gateway = Gateway::in_front_of(&upstream).tls(&tls).start();
    let trusting = authority.trusted_by_client(&[]);
    let mut shown = Vec::new();
    for name in ["first.test", "shop.test", "a.shop.test", "DEEP.shop.test"] {
        let mut client = TlsClient::connect(gateway.address(), name, &trusting);
        client.get("/").is(200, "fine");
        shown.push(client.certificate());
    }
    assert_eq!(shown[1], shown[2]);
    assert!(shown[0] != shown[1] && shown[1] != shown[3] && shown[0] != shown[3]);
    // The first is for who asks for another name; that client refuses it and says so.
    let error = TlsClient::try_connect(gateway.address(), "elsewhere.test", &trusting).err().unwrap();
    assert!(error.to_string().contains("first.test"), "{error}");
    count(&gateway, "tls_handshake_failed", 1);
}

#[test]
fn what_is_no_handshake_is_counted_by_what_it_is_and_answered_nothing() {
    let upstream = ok("fine");
    let (gateway, trusting) = house(Gateway::in_front_of(&upstream));
    let raw = |bytes: &[u8]| -> Vec<u8> {
        let mut stream = TcpStream::connect(gateway.address()).unwrap();
        stream.set_read_timeout(Some(limit())).unwrap();
        stream.write_all(bytes).unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        answer
    };
    assert_eq!(raw(b"GET / HTTP/1.1\r\nhost: test\r\n\r\n"), b"");
    assert_eq!(raw(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), b"");
    count(&gateway, "tls_not_spoken", 2);
    // A first message that is no ClientHello is answered with an alert.
    let alert = raw(b"\x16\x03\x01\x00\x04\x02\x00\x00\x00");
    assert_eq!(alert.first(), Some(&0x15), "{alert:?}");
    count(&gateway, "tls_handshake_failed", 1);
    drop(TcpStream::connect(gateway.address()).unwrap());
    count(&gateway, "connect_and_close", 1);
    // One that leaves in the middle, and one that does not trust us.
    let mut stream = TcpStream::connect(gateway.address()).unwrap();
    stream.write_all(b"\x16\x03\x01").unwrap();
    drop(stream);
    count(&gateway, "tls_handshake_failed", 2);
    let stranger = Authority::new().trusted_by_client(&[]);
    assert!(TlsClient::try_connect(gateway.address(), "test", &stranger).is_err());
    count(&gateway, "tls_handshake_failed", 3);
    TlsClient::connect(gateway.address(), "test", &trusting).get("/").is(200, "fine");
    gateway.expect_metric("responses_total", &[], 1.0);
}

#[test]
fn two_hundred_stalled_handshakes_and_heads_are_cut_at_their_limit_while_others_are_served() {
    const EACH: usize = 200;
    let timeout = Duration::from_millis(1500);
    let upstream = ok("fine");
    let setup = Gateway::in_front_of(&upstream).set("client.header_timeout", "1500ms");
    let (gateway, trusting) = house(setup.limit(Duration::from_secs(60)));
    let address = gateway.address();
    let mut heads: Vec<(TlsClient, Instant)> = (0..EACH)
        .map(|_| {
            let mut client = TlsClient::connect(address, "test", &trusting);
            let begun = Instant::now();
            client.send("GET / HTTP/1.1\r\nhost: te");
            (client, begun)
        })
        .collect();
    let handshakes: Vec<(TcpStream, Instant)> = (0..EACH)
        .map(|index| {
            let begun = Instant::now();
            let mut stream = TcpStream::connect(address).unwrap();
            // Some say nothing at all, some begin.
            stream.write_all(&b"\x16\x03\x01\x02\x00\x01"[..index % 7]).unwrap();
            (stream, begun)
        })
        .collect();
    TlsClient::connect(address, "test", &trusting).get("/").is(200, "fine");
    for (client, begun) in &mut heads {
        client.read().is_made_saying(400, "The request was not received in time.");
        assert!(begun.elapsed() >= timeout, "{:?}", begun.elapsed());
    }
    for (mut stream, begun) in handshakes {
        stream.set_read_timeout(Some(limit())).unwrap();
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        assert!(begun.elapsed() >= timeout, "{:?}", begun.elapsed());
        assert_eq!(rest, b"");
    }
    count(&gateway, "tls_handshake_timeout", EACH as u32);
    gateway.expect_metric("errors_total", &[("cause", "client_too_slow")], EACH as f64);
    drop(heads);
    gateway.wait_for_metric(limit(), "connections", &[("listener", &address.to_string())], 0.0);
    TlsClient::connect(address, "test", &trusting).get("/").is(200, "fine");
}

#[test]
fn a_client_that_there_is_no_place_for_reads_so_in_tls() {
    let upstream = ok("fine");
    let (gateway, trusting) = house(Gateway::in_front_of(&upstream).set("client.max_connections", "1"));
    let mut first = TlsClient::connect(gateway.address(), "test", &trusting);
    first.get("/").is(200, "fine");
    TlsClient::connect(gateway.address(), "test", &trusting).get("/").is_made(503);
    first.get("/").is(200, "fine");
}

#[test]
fn a_reload_shows_the_files_as_they_are_now_or_keeps_what_it_has() {
    let authority = Authority::new();
    let (old, new) = (authority.issue(&["test"]), authority.issue(&["test"]));
    let files = Files::of(&[&old]);
    let upstream = ok("fine");
    let setup = || Gateway::in_front_of(&upstream).tls(&files.tls(0));
    let gateway = setup().start();
    let trusting = authority.trusted_by_client(&[]);
    let shown = || TlsClient::connect(gateway.address(), "test", &trusting).certificate();
    let (mut kept, first) = (TlsClient::connect(gateway.address(), "test", &trusting), shown());
    kept.get("/").is(200, "fine");

    files.write(0, &new);
    assert_eq!(gateway.reload(setup()), "applied");
    let second = shown();
    assert_ne!(first, second);
    kept.get("/").is(200, "fine");

    files.write(0, &Issued { cert: new.cert.clone(), key: old.key.clone() });
    assert_eq!(gateway.reload(setup()), "refused");
    gateway.log_line(|line| {
        line["key"] == "listen[0].tls.key"
            && line["message"]
                .as_str()
                .is_some_and(|text| text.contains("the key does not belong to the certificate"))
    });
    assert_eq!(shown(), second);
    assert_eq!(gateway.reload(Gateway::in_front_of(&upstream)), "refused");
    gateway.log_line(|line| {
        line["message"]
            == "a listener with TLS cannot become a listener without TLS by a reload; restart the process, or take this \
                change back"
    });
}

#[test]
fn an_expired_certificate_is_served_and_told_as_an_error() {
    let authority = Authority::new();
    let files = Files::of(&[&authority.issue_for(&["test"], EXPIRED)]);
    let upstream = ok("fine");
    let gateway = Gateway::in_front_of(&upstream).tls(&files.tls(0)).start();
    let line = gateway.log_line(|line| line["level"] == "error");
    assert_eq!(
        line["message"],
        "serving a certificate that expired on 2021-01-01T00:00:00Z: clients refuse it"
    );
    let trusting = authority.trusted_by_client(&[]);
    assert!(TlsClient::try_connect(gateway.address(), "test", &trusting).is_err());
    count(&gateway, "tls_handshake_failed", 1);
}

#[test]
fn a_client_that_takes_nothing_of_a_large_answer_is_cut_at_its_limit() {
    let upstream = answering(http_response("200 OK", "x".repeat(32 << 20)));
    let (gateway, trusting) = house(Gateway::in_front_of(&upstream).set("client.write_timeout", "400ms"));
    let mut client = TlsClient::connect(gateway.address(), "test", &trusting);
    client.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n");
    gateway.expect_metric("aborted_total", &[], 1.0);
}
