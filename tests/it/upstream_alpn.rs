//! ALPN with TLS upstreams: the negotiated protocol is used, and failures have a documented cause.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::server::SendResponse;
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
use super::prelude::*;

/// A TLS server that uses the negotiated protocol. Connections are numbered from 0.
struct AlpnServer {
    address: SocketAddr,
    log: Arc<AlpnLog>,
    _runtime: Runtime,
}

#[derive(Default)]
struct AlpnLog {
    /// The negotiated protocol of each handshake; empty without ALPN.
    negotiated: Mutex<Vec<String>>,
    requests: AtomicUsize,
}

impl AlpnServer {
    /// `protocols` returns the ALPN protocols of a connection, by preference; empty disables ALPN.
    fn with_protocols(
        issued: &Issued,
        protocols: impl Fn(usize) -> &'static [&'static str] + Send + 'static,
    ) -> AlpnServer {
        AlpnServer::with_barrier(issued, 1, protocols)
    }

    /// The first request and the other handshakes wait until this number of connections exists.
    fn with_barrier(
        issued: &Issued,
        number: usize,
        protocols: impl Fn(usize) -> &'static [&'static str] + Send + 'static,
    ) -> AlpnServer {
        AlpnServer::with(issued, number, Duration::ZERO, protocols)
    }

    /// Delays its handshake messages and its SETTINGS by this time.
    fn slow(issued: &Issued, pause: Duration) -> AlpnServer {
        AlpnServer::with(issued, 1, pause, |_| HTTP2_ONLY)
    }

    fn with(
        issued: &Issued,
        number: usize,
        pause: Duration,
        protocols: impl Fn(usize) -> &'static [&'static str] + Send + 'static,
    ) -> AlpnServer {
        let barrier = Arc::new(Barrier::new(number));
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let log = Arc::<AlpnLog>::default();
        let (server_log, issued) = (Arc::clone(&log), issued.clone());
        runtime.spawn(async move {
            let mut number = 0;
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = TlsAcceptor::from(server_config(&issued, protocols(number)));
                let (log, barrier) = (Arc::clone(&server_log), Arc::clone(&barrier));
                tokio::spawn(async move {
                    if number > 0 {
                        barrier.wait().await;
                    }
                    serve(stream, acceptor, log, pause, (number == 0).then_some(barrier)).await;
                });
                number += 1;
            }
        });
        AlpnServer { address, log, _runtime: runtime }
    }

    fn negotiated(&self) -> Vec<String> {
        self.log.negotiated.lock().unwrap().clone()
    }

    fn requests(&self) -> usize {
        self.log.requests.load(Ordering::SeqCst)
    }
}

fn server_config(issued: &Issued, protocols: &[&str]) -> Arc<ServerConfig> {
    let chain = CertificateDer::pem_slice_iter(issued.cert.as_bytes()).map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = builder.with_no_client_auth().with_single_cert(chain, key).unwrap();
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    Arc::new(config)
}

async fn serve(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    log: Arc<AlpnLog>,
    pause: Duration,
    mut barrier: Option<Arc<Barrier>>,
) {
    tokio::time::sleep(pause).await; // slow server
    let Ok(mut stream) = acceptor.accept(stream).await else { return };
    let agreed = stream.get_ref().1.alpn_protocol().unwrap_or_default().to_vec();
    log.negotiated.lock().unwrap().push(String::from_utf8(agreed.clone()).unwrap());
    if agreed == b"h2" {
        tokio::time::sleep(pause).await; // slow server
        let Ok(mut connection) = h2::server::handshake(stream).await else { return };
        while let Some(Ok((request, mut respond))) = connection.accept().await {
            log.requests.fetch_add(1, Ordering::SeqCst);
            let request: Request<h2::RecvStream> = request;
            match request.uri().path() {
                "/http1" => {
                    respond.send_reset(h2::Reason::HTTP_1_1_REQUIRED);
                    continue;
                }
                "/http1-after-body" => {
                    tokio::spawn(reset_after_body(request, respond));
                    continue;
                }
                _ => {}
            }
            let target = request.uri().to_string();
            let head = Response::builder().header("got-uri", target).body(()).unwrap();
            let mut send = respond.send_response(head, false).unwrap();
            if request.uri().path() == "/cut" {
                send.send_data(Bytes::from_static(b"begun"), false).unwrap();
                // Its frames are sent, then the connection closes without GOAWAY or close_notify.
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
        if has_whole_request(&read) {
            log.requests.fetch_add(1, Ordering::SeqCst);
            read.clear();
            if let Some(barrier) = barrier.take() {
                barrier.wait().await;
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\none").await.unwrap();
            stream.flush().await.unwrap();
        }
    }
}

/// Requires HTTP/1.1 (RFC 9113 section 7) once the whole request has arrived.
async fn reset_after_body(request: Request<h2::RecvStream>, mut respond: SendResponse<Bytes>) {
    let mut body = request.into_body();
    while let Some(Ok(piece)) = body.data().await {
        let _ = body.flow_control().release_capacity(piece.len());
    }
    respond.send_reset(h2::Reason::HTTP_1_1_REQUIRED);
}

/// Whether these bytes are a request with a body of its Content-Length.
fn has_whole_request(read: &[u8]) -> bool {
    let text = String::from_utf8_lossy(read).to_ascii_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    body.len() >= length.map_or(0, |length| length.trim().parse().unwrap())
}

const BOTH: &[&str] = &["h2", "http/1.1"];
const HTTP1_ONLY: &[&str] = &["http/1.1"];
const HTTP2_ONLY: &[&str] = &["h2"];

/// A gateway for these servers with this `http2` policy.
fn setup_for(
    servers: &[&AlpnServer],
    http2: &str,
    authority: &Authority,
    folder: &TestFolder,
) -> GatewaySetup {
    let servers: Vec<_> = servers.iter().map(|server| format!("https://{}", server.address)).collect();
    let ca = folder.write("ca.pem", &authority.pem());
    GatewaySetup::with_named_servers(&servers.iter().map(String::as_str).collect::<Vec<_>>())
        .set("upstream.http2", http2)
        .set("upstream.tls", &format!("{{ ca: \"{}\" }}", ca.display()))
        .set("errors.include", "[request_sent]")
        .with_h2c_listener()
}

#[test]
fn alpn_selects_the_protocol_both_sides_support() {
    let (authority, folder) = (Authority::new(), TestFolder::new());
    let issued = authority.issue(&["127.0.0.1"]);
    for (http2, protocols, agreed, body) in [
        ("auto", BOTH, "h2", "two"),
        ("auto", HTTP2_ONLY, "h2", "two"),
        ("auto", HTTP1_ONLY, "http/1.1", "one"),
        ("auto", &[][..], "", "one"),
        ("always", BOTH, "h2", "two"),
        ("off", BOTH, "http/1.1", "one"),
        ("off", &[][..], "", "one"),
    ] {
        let server = AlpnServer::with_protocols(&issued, move |_| protocols);
        let gateway = setup_for(&[&server], http2, &authority, &folder).start();
        let mut client = gateway.client();
        for _ in 0..3 {
            client.get("/a").assert_response(200, body);
        }
        let response = gateway.h2_client().get("/a");
        response.assert_response(200, body);
        if body == "two" {
            assert_eq!(response.header("got-uri"), Some("https://test/a"));
        }
        let handshakes = server.negotiated();
        assert!(handshakes.iter().all(|found| found == agreed), "{http2}, {protocols:?}: {handshakes:?}");
        // One connection is enough. With HTTP/1 the next request waits until the connection is back in the pool.
        assert!(handshakes.len() == 1 || body == "one" && handshakes.len() < 4, "{handshakes:?}");
        assert_eq!(server.requests(), 4);
        gateway.expect_metrics_match_responses();
    }
}

#[test]
fn concurrent_requests_share_the_first_connection_after_alpn_h2() {
    let (authority, folder) = (Authority::new(), TestFolder::new());
    let server = AlpnServer::with_protocols(&authority.issue(&["127.0.0.1"]), |_| BOTH);
    let gateway = setup_for(&[&server], "auto", &authority, &folder).start();
    for response in gateway.h2_client().get_all(&["/1", "/2", "/3", "/4", "/5", "/6", "/7", "/8"]) {
        response.assert_response(200, "two");
    }
    assert_eq!((server.negotiated().len(), server.requests()), (1, 8));
}

#[test]
fn waiting_for_a_shared_connect_gets_the_full_connect_and_tls_timeouts() {
    let (authority, folder) = (Authority::new(), TestFolder::new());
    let pause = millis(900);
    let server = AlpnServer::slow(&authority.issue(&["127.0.0.1"]), pause);
    // Each step stays within its own timeout; together they exceed either.
    let gateway = setup_for(&[&server], "auto", &authority, &folder)
        .set("timeouts.connect", "1500ms")
        .set("timeouts.tls", "1500ms")
        .start();
    let started = Instant::now();
    for response in gateway.h2_client().get_all(&["/1", "/2", "/3"]) {
        response.assert_response(200, "two");
    }
    assert!(started.elapsed() >= 2 * pause, "{:?}", started.elapsed());
    assert_eq!((server.negotiated().len(), server.requests()), (1, 3));
}

#[test]
fn handshakes_run_in_parallel_once_a_server_negotiated_http1() {
    let (authority, folder) = (Authority::new(), TestFolder::new());
    let server = AlpnServer::with_barrier(&authority.issue(&["127.0.0.1"]), 5, |_| HTTP1_ONLY);
    let gateway = setup_for(&[&server], "auto", &authority, &folder).start();
    for response in gateway.h2_client().get_all(&["/1", "/2", "/3", "/4", "/5"]) {
        response.assert_response(200, "one");
    }
    assert_eq!((server.negotiated().len(), server.requests()), (5, 5));
}

/// Closes idle connections immediately, so that each request has its own handshake.
fn start_without_keepalive(setup: GatewaySetup) -> Gateway {
    setup.set("upstream.keepalive", "{ max: 0 }").start()
}

#[test]
fn server_may_negotiate_a_different_protocol_per_connection() {
    let (authority, folder) = (Authority::new(), TestFolder::new());
    // Like a rolling update behind one address.
    let protocols =
        |number| [BOTH, HTTP1_ONLY, BOTH, &[], HTTP2_ONLY].into_iter().nth(number).unwrap_or(BOTH);
    let server = AlpnServer::with_protocols(&authority.issue(&["127.0.0.1"]), protocols);
    let gateway = start_without_keepalive(setup_for(&[&server], "auto", &authority, &folder));
    let mut handshakes = 0;
    while handshakes < 5 {
        let mut client = gateway.client();
        let target = client.request("POST", "/", "", "").text();
        let agreed = server.negotiated();
        handshakes = agreed.len();
        let spoken = if agreed.last().is_some_and(|last| last == "h2") { "two" } else { "one" };
        assert_eq!(target, spoken, "{agreed:?}");
    }
    assert_eq!(server.negotiated()[..5], ["h2", "http/1.1", "h2", "", "h2"]);
    gateway.expect_metric("errors_total", &[], 0.0);
}

#[test]
fn missing_required_http2_sends_nothing_and_tries_the_next_server() {
    let (authority, folder) = (Authority::new(), TestFolder::new());
    let issued = authority.issue(&["127.0.0.1"]);
    // rustls rejects a handshake without a common protocol; a server without ALPN ignores the offer.
    for (protocols, evidence) in
        [(HTTP1_ONLY, "no_application_protocol"), (&[][..], "did not select HTTP/2 (ALPN)")]
    {
        let server = AlpnServer::with_protocols(&issued, move |_| protocols);
        let gateway = setup_for(&[&server], "always", &authority, &folder).start();
        let response = gateway.client().request("POST", "/", "", "x");
        assert_eq!(response.status, 504);
        assert!(response.text().contains("\"request_sent\":\"none\""), "{}", response.text());
        gateway.expect_metric("errors_total", &[("cause", "tls_protocol_error")], 1.0);
        let line = gateway.log_line(|line| line["cause"] == "tls_protocol_error");
        assert!(line["evidence"].as_str().unwrap_or_default().contains(evidence), "{line:#}");
        assert_eq!(server.requests(), 0);

        let compatible = AlpnServer::with_protocols(&issued, |_| HTTP2_ONLY);
        let gateway = setup_for(&[&server, &compatible], "always", &authority, &folder).start();
        for _ in 0..4 {
            gateway.client().request("POST", "/", "", "x").assert_response(200, "two");
        }
        assert_eq!((server.requests(), compatible.requests()), (0, 4));
    }
}

#[test]
fn certificate_verification_applies_to_http2_as_to_http1() {
    let (authority, folder) = (Authority::new(), TestFolder::new());
    for issued in [self_signed(&["127.0.0.1"]), authority.issue(&["elsewhere.internal"])] {
        let server = AlpnServer::with_protocols(&issued, |_| BOTH);
        for http2 in ["auto", "always"] {
            let gateway = setup_for(&[&server], http2, &authority, &folder).start();
            assert_eq!(gateway.client().get("/").status, 504);
            gateway.expect_metric("errors_total", &[("cause", "tls_certificate_error")], 1.0);
        }
        assert_eq!(server.requests(), 0);
    }
}

#[test]
fn connection_close_inside_a_response_truncates_it_for_both_protocols() {
    let (authority, folder) = (Authority::new(), TestFolder::new());
    let server = AlpnServer::with_protocols(&authority.issue(&["127.0.0.1"]), |_| BOTH);
    let gateway = setup_for(&[&server], "auto", &authority, &folder).start();
    let cut = gateway.h2_client().get("/cut");
    assert_eq!((cut.status, cut.text().as_str(), cut.end), (200, "begun", ResponseEnd::Reset { after: 5 }));
    let cut = gateway.client().get("/cut");
    assert_eq!((cut.status, cut.text().as_str()), (200, "begun"));
    assert_ne!(cut.end, ResponseEnd::Complete);
    gateway.expect_metric("aborted_total", &[("cause", "http_response_incomplete")], 2.0);
    gateway.client().get("/").assert_response(200, "two");
}

/// For example IIS with Windows authentication.
#[test]
fn request_for_which_the_server_requires_http1_is_repeated_over_http1() {
    let (authority, folder) = (Authority::new(), TestFolder::new());
    let server = AlpnServer::with_protocols(&authority.issue(&["127.0.0.1"]), |_| BOTH);
    let gateway = setup_for(&[&server], "auto", &authority, &folder).start();
    let mut client = gateway.client();
    client.get("/http1").assert_response(200, "one");
    client.request("POST", "/http1", "", "a body").assert_response(200, "one");
    client.request("POST", "/http1-after-body", "", "a body").assert_response(200, "one");
    gateway
        .h2_client()
        .request("POST", "/http1", &[], Bytes::from_static(b"a body"))
        .assert_response(200, "one");
    // Other requests use HTTP/2 as before.
    client.get("/").assert_response(200, "two");
    let handshakes = server.negotiated();
    assert_eq!(handshakes.iter().filter(|agreed| *agreed == "h2").count(), 1, "{handshakes:?}");
    assert_eq!(server.requests(), 9);
    gateway.expect_metric("upstream_retries_total", &[("result", "ok")], 4.0);
    gateway.expect_metric("errors_total", &[], 0.0);
    gateway.expect_metrics_match_responses();
}

#[test]
fn request_that_cannot_be_repeated_over_http1_gets_504() {
    let (authority, folder) = (Authority::new(), TestFolder::new());
    let server = AlpnServer::with_protocols(&authority.issue(&["127.0.0.1"]), |_| BOTH);
    let large = "x".repeat(200_000);
    for (http2, path, body) in [("always", "/http1", "x"), ("auto", "/http1-after-body", &large)] {
        let gateway = setup_for(&[&server], http2, &authority, &folder).start();
        let response = gateway.client().request("POST", path, "", body);
        assert_eq!(response.status, 504);
        assert!(response.text().contains("\"request_sent\":\"full\""), "{}", response.text());
        let line = gateway.log_line(|line| line["cause"] == "http_protocol_error");
        let evidence = line["evidence"].as_str().unwrap_or_default();
        assert!(evidence.starts_with("RST_STREAM: HTTP_1_1_REQUIRED"), "{line:#}");
        gateway.expect_metrics_match_responses();
    }
}
