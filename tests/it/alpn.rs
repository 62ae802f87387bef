//! HTTP/2 or HTTP/1.1 with an upstream over TLS: what both agree to (ALPN) is spoken, and what cannot be agreed to is named.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::Barrier;
use tokio_rustls::TlsAcceptor;

use super::certificates::{Authority, Issued, self_signed};
use super::gateway::{Folder, Gateway, Setup};
use super::load::millis;
use super::reader::Ended;

/// A server that speaks TLS, and then what was agreed to. Connections are counted from 0.
struct Server {
    address: SocketAddr,
    seen: Arc<Seen>,
    _runtime: Runtime,
}

#[derive(Default)]
struct Seen {
    /// What was agreed to in each handshake; empty where nothing was.
    agreed: Mutex<Vec<String>>,
    requests: AtomicUsize,
}

impl Server {
    /// `takes` says which protocols the server knows, best first, on each connection; none: it has never heard of ALPN.
    fn taking(issued: &Issued, takes: impl Fn(usize) -> &'static [&'static str] + Send + 'static) -> Server {
        Server::meeting(issued, 1, takes)
    }

    /// The request on the first connection and the handshakes of the others wait until there are so many.
    fn meeting(
        issued: &Issued,
        number: usize,
        takes: impl Fn(usize) -> &'static [&'static str] + Send + 'static,
    ) -> Server {
        Server::with(issued, number, Duration::ZERO, takes)
    }

    /// So long it makes everybody wait for its part of the handshake, and then for its SETTINGS.
    fn slow(issued: &Issued, pause: Duration) -> Server {
        Server::with(issued, 1, pause, |_| TWO)
    }

    fn with(
        issued: &Issued,
        number: usize,
        pause: Duration,
        takes: impl Fn(usize) -> &'static [&'static str] + Send + 'static,
    ) -> Server {
        let all = Arc::new(Barrier::new(number));
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::<Seen>::default();
        let (remembered, issued) = (Arc::clone(&seen), issued.clone());
        runtime.spawn(async move {
            let mut number = 0;
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = TlsAcceptor::from(config(&issued, takes(number)));
                let (seen, all) = (Arc::clone(&remembered), Arc::clone(&all));
                tokio::spawn(async move {
                    if number > 0 {
                        all.wait().await;
                    }
                    serve(stream, acceptor, seen, pause, (number == 0).then_some(all)).await;
                });
                number += 1;
            }
        });
        Server { address, seen, _runtime: runtime }
    }

    fn agreed(&self) -> Vec<String> {
        self.seen.agreed.lock().unwrap().clone()
    }

    fn requests(&self) -> usize {
        self.seen.requests.load(Ordering::SeqCst)
    }
}

fn config(issued: &Issued, takes: &[&str]) -> Arc<ServerConfig> {
    let chain = CertificateDer::pem_slice_iter(issued.cert.as_bytes()).map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = builder.with_no_client_auth().with_single_cert(chain, key).unwrap();
    config.alpn_protocols = takes.iter().map(|name| name.as_bytes().to_vec()).collect();
    Arc::new(config)
}

async fn serve(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    seen: Arc<Seen>,
    pause: Duration,
    mut meet: Option<Arc<Barrier>>,
) {
    tokio::time::sleep(pause).await; // a slow server
    let Ok(mut stream) = acceptor.accept(stream).await else { return };
    let agreed = stream.get_ref().1.alpn_protocol().unwrap_or_default().to_vec();
    seen.agreed.lock().unwrap().push(String::from_utf8(agreed.clone()).unwrap());
    if agreed == b"h2" {
        tokio::time::sleep(pause).await; // a slow server
        let Ok(mut connection) = h2::server::handshake(stream).await else { return };
        while let Some(Ok((request, mut respond))) = connection.accept().await {
            seen.requests.fetch_add(1, Ordering::SeqCst);
            let request: Request<h2::RecvStream> = request;
            let said = request.uri().to_string();
            let head = Response::builder().header("got-uri", said).body(()).unwrap();
            let mut send = respond.send_response(head, false).unwrap();
            if request.uri().path() == "/cut" {
                send.send_data(Bytes::from_static(b"begun"), false).unwrap();
                // Its frames leave, and then nothing more comes: no GOAWAY, no goodbye of TLS.
                let frames = std::future::poll_fn(|cx| connection.poll_closed(cx));
                let _ = tokio::time::timeout(millis(200), frames).await;
                return;
            }
            send.send_data(Bytes::from_static(b"two"), true).unwrap();
        }
        return;
    }
    let mut read = Vec::new();
    while let Ok(1..) = stream.read_buf(&mut read).await {
        if read.ends_with(b"\r\n\r\n") {
            seen.requests.fetch_add(1, Ordering::SeqCst);
            read.clear();
            if let Some(all) = meet.take() {
                all.wait().await;
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\none").await.unwrap();
            stream.flush().await.unwrap();
        }
    }
}

const BOTH: &[&str] = &["h2", "http/1.1"];
const ONE: &[&str] = &["http/1.1"];
const TWO: &[&str] = &["h2"];

/// Before these servers, with this `http2`.
fn before(servers: &[&Server], http2: &str, authority: &Authority, folder: &Folder) -> Setup {
    let servers: Vec<_> = servers.iter().map(|server| format!("https://{}", server.address)).collect();
    let ca = folder.write("ca.pem", &authority.pem());
    Setup::of_named(&servers.iter().map(String::as_str).collect::<Vec<_>>())
        .set("upstream.http2", http2)
        .set("upstream.tls", &format!("{{ ca: \"{}\" }}", ca.display()))
        .set("errors.include", "[request_sent]")
        .h2c()
}

#[test]
fn what_both_sides_know_is_agreed_to_and_spoken() {
    let (authority, folder) = (Authority::new(), Folder::new());
    let issued = authority.issue(&["127.0.0.1"]);
    for (http2, takes, agreed, body) in [
        ("auto", BOTH, "h2", "two"),
        ("auto", TWO, "h2", "two"),
        ("auto", ONE, "http/1.1", "one"),
        ("auto", &[][..], "", "one"),
        ("always", BOTH, "h2", "two"),
        ("off", BOTH, "http/1.1", "one"),
        ("off", &[][..], "", "one"),
    ] {
        let server = Server::taking(&issued, move |_| takes);
        let gateway = before(&[&server], http2, &authority, &folder).start();
        let mut client = gateway.client();
        for _ in 0..3 {
            client.get("/a").is(200, body);
        }
        let answer = gateway.h2_client().get("/a");
        answer.is(200, body);
        if body == "two" {
            assert_eq!(answer.field("got-uri"), Some("https://test/a"));
        }
        let handshakes = server.agreed();
        assert!(handshakes.iter().all(|found| found == agreed), "{http2}, {takes:?}: {handshakes:?}");
        // One connection is enough; of HTTP/1, where the next request does not come before it is given back.
        assert!(handshakes.len() == 1 || body == "one" && handshakes.len() < 4, "{handshakes:?}");
        assert_eq!(server.requests(), 4);
        gateway.expect_accounts_to_agree();
    }
}

#[test]
fn requests_that_come_together_share_the_first_connection_once_it_speaks_http_2() {
    let (authority, folder) = (Authority::new(), Folder::new());
    let server = Server::taking(&authority.issue(&["127.0.0.1"]), |_| BOTH);
    let gateway = before(&[&server], "auto", &authority, &folder).start();
    for answer in gateway.h2_client().get_all(&["/1", "/2", "/3", "/4", "/5", "/6", "/7", "/8"]) {
        answer.is(200, "two");
    }
    assert_eq!((server.agreed().len(), server.requests()), (1, 8));
}

#[test]
fn who_waits_for_a_connection_that_another_makes_has_the_time_of_all_its_steps() {
    let (authority, folder) = (Authority::new(), Folder::new());
    let pause = millis(900);
    let server = Server::slow(&authority.issue(&["127.0.0.1"]), pause);
    // Each step within its limit, and both together beyond either.
    let gateway = before(&[&server], "auto", &authority, &folder)
        .set("timeouts.connect", "1500ms")
        .set("timeouts.tls", "1500ms")
        .start();
    let began = Instant::now();
    for answer in gateway.h2_client().get_all(&["/1", "/2", "/3"]) {
        answer.is(200, "two");
    }
    assert!(began.elapsed() >= 2 * pause, "{:?}", began.elapsed());
    assert_eq!((server.agreed().len(), server.requests()), (1, 3));
}

#[test]
fn once_a_server_is_known_to_speak_http_1_nobody_waits_for_anybody_elses_handshake() {
    let (authority, folder) = (Authority::new(), Folder::new());
    let server = Server::meeting(&authority.issue(&["127.0.0.1"]), 5, |_| ONE);
    let gateway = before(&[&server], "auto", &authority, &folder).start();
    for answer in gateway.h2_client().get_all(&["/1", "/2", "/3", "/4", "/5"]) {
        answer.is(200, "one");
    }
    assert_eq!((server.agreed().len(), server.requests()), (5, 5));
}

/// Closes what is idle at once, so that each request has a handshake of its own.
fn forgetful(setup: Setup) -> Gateway {
    setup.set("upstream.keepalive", "{ max: 0 }").start()
}

#[test]
fn a_server_may_agree_to_something_else_each_time() {
    let (authority, folder) = (Authority::new(), Folder::new());
    // As while a fleet behind one address is updated.
    let takes = |number| [BOTH, ONE, BOTH, &[], TWO].into_iter().nth(number).unwrap_or(BOTH);
    let server = Server::taking(&authority.issue(&["127.0.0.1"]), takes);
    let gateway = forgetful(before(&[&server], "auto", &authority, &folder));
    let mut handshakes = 0;
    while handshakes < 5 {
        let mut client = gateway.client();
        let said = client.ask("POST", "/", "", "").text();
        let agreed = server.agreed();
        handshakes = agreed.len();
        let spoken = if agreed.last().is_some_and(|last| last == "h2") { "two" } else { "one" };
        assert_eq!(said, spoken, "{agreed:?}");
    }
    assert_eq!(server.agreed()[..5], ["h2", "http/1.1", "h2", "", "h2"]);
    gateway.expect_metric("errors_total", &[], 0.0);
}

#[test]
fn without_http_2_where_it_is_demanded_nothing_is_sent_and_another_server_is_asked() {
    let (authority, folder) = (Authority::new(), Folder::new());
    let issued = authority.issue(&["127.0.0.1"]);
    // rustls refuses a handshake without a common protocol; a server that knows no ALPN says nothing.
    for (takes, evidence) in [(ONE, "NoApplicationProtocol"), (&[][..], "agreed to no HTTP/2 (ALPN)")] {
        let server = Server::taking(&issued, move |_| takes);
        let gateway = before(&[&server], "always", &authority, &folder).start();
        let answer = gateway.client().ask("POST", "/", "", "x");
        assert_eq!(answer.status, 504);
        assert!(answer.text().contains("\"request_sent\":\"none\""), "{}", answer.text());
        gateway.expect_metric("errors_total", &[("cause", "tls_protocol_error")], 1.0);
        let line = gateway.log_line(|line| line["cause"] == "tls_protocol_error");
        assert!(line["evidence"].as_str().unwrap_or_default().contains(evidence), "{line:#}");
        assert_eq!(server.requests(), 0);

        let good = Server::taking(&issued, |_| TWO);
        let gateway = before(&[&server, &good], "always", &authority, &folder).start();
        for _ in 0..4 {
            gateway.client().ask("POST", "/", "", "x").is(200, "two");
        }
        assert_eq!((server.requests(), good.requests()), (0, 4));
    }
}

#[test]
fn certificates_are_demanded_for_http_2_as_for_http_1() {
    let (authority, folder) = (Authority::new(), Folder::new());
    for issued in [self_signed(&["127.0.0.1"]), authority.issue(&["elsewhere.internal"])] {
        let server = Server::taking(&issued, |_| BOTH);
        for http2 in ["auto", "always"] {
            let gateway = before(&[&server], http2, &authority, &folder).start();
            assert_eq!(gateway.client().get("/").status, 504);
            gateway.expect_metric("errors_total", &[("cause", "tls_certificate_error")], 1.0);
        }
        assert_eq!(server.requests(), 0);
    }
}

#[test]
fn a_connection_that_ends_inside_a_response_is_a_visible_cut_for_both_kinds_of_clients() {
    let (authority, folder) = (Authority::new(), Folder::new());
    let server = Server::taking(&authority.issue(&["127.0.0.1"]), |_| BOTH);
    let gateway = before(&[&server], "auto", &authority, &folder).start();
    let cut = gateway.h2_client().get("/cut");
    assert_eq!((cut.status, cut.text().as_str(), cut.ended), (200, "begun", Ended::Reset { after: 5 }));
    let cut = gateway.client().get("/cut");
    assert_eq!((cut.status, cut.text().as_str()), (200, "begun"));
    assert_ne!(cut.ended, Ended::Complete);
    gateway.expect_metric("aborted_total", &[("cause", "http_response_incomplete")], 2.0);
    gateway.client().get("/").is(200, "two");
}
