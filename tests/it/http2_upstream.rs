//! HTTP/2 upstreams: the same contract, concurrent requests on one connection, and every fault of streams and
//! connections.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response};
use tokio::sync::Barrier;

use super::h2_upstream::{
    DATA, END_HEADERS, END_STREAM, GOAWAY, H2Server, HEADERS, PING, RST_STREAM, RawH2Connection, RawH2Server,
    STATUS_200, WINDOW_UPDATE, encode_frame,
};
use super::prelude::*;
use super::raw_h2_client::{RawH2Client, get_frame};

pub fn raw_server_setup(raw: &RawH2Server) -> GatewaySetup {
    GatewaySetup::with_servers(&[raw.address()]).set("upstream.http2", "always")
}

pub fn h2_server_setup(serving: &H2Server) -> GatewaySetup {
    GatewaySetup::with_servers(&[serving.address()]).set("upstream.http2", "always").with_h2c_listener()
}

/// Echoes request details, followed by the request body.
pub fn echo_server(streams: u32) -> H2Server {
    H2Server::with(streams, |request, mut respond| async move {
        let (head, mut body) = request.into_parts();
        let mut builder = Response::builder().status(200);
        for (name, value) in &head.headers {
            builder = builder.header(format!("got-{name}"), value);
        }
        builder = builder.header("got-uri", head.uri.to_string()).header("got-method", head.method.as_str());
        let mut send = respond.send_response(builder.body(()).unwrap(), false).unwrap();
        while let Some(Ok(mut piece)) = body.data().await {
            let _ = body.flow_control().release_capacity(piece.len());
            while !piece.is_empty() {
                send.reserve_capacity(piece.len());
                let Some(Ok(room)) = std::future::poll_fn(|cx| send.poll_capacity(cx)).await else { return };
                let part = piece.split_to(room.min(piece.len()));
                send.send_data(part, false).unwrap();
            }
        }
        let _ = send.send_data(Bytes::new(), true);
    })
}

/// Runs the script on the first connection; later ones respond normally.
fn single_request_server(
    respond_with: impl Fn(&mut RawH2Connection, u32) -> Option<()> + Send + Sync + 'static,
) -> RawH2Server {
    RawH2Server::with_script(move |connection| {
        if connection.index > 0 {
            return connection.serve_all();
        }
        connection.read_preface()?;
        connection.send_settings(&[])?;
        let stream = connection.next_request()?;
        respond_with(connection, stream)
    })
}

#[test]
fn requests_of_both_protocols_share_one_connection_unchanged() {
    let upstream = echo_server(100);
    let gateway = h2_server_setup(&upstream).start();
    let mut client = gateway.client();
    for _ in 0..3 {
        let response = client.request(
            "POST",
            "/a%2fb?c=d",
            "X-One: 1\r\ncookie: a=1\r\nConnection: x-two\r\nX-Two: 2\r\n",
            "body",
        );
        response.assert_response(200, "body");
        let got = |name: &str| response.header(&format!("got-{name}")).map(str::to_owned);
        assert_eq!(got("uri").as_deref(), Some("http://test/a%2fb?c=d"));
        assert_eq!(got("method").as_deref(), Some("POST"));
        assert_eq!(got("x-one").as_deref(), Some("1"));
        assert_eq!((got("x-two"), got("connection"), got("host"), got("te")), (None, None, None, None));
        assert_eq!(got("x-forwarded-for").as_deref(), Some("127.0.0.1"));
        assert_eq!(
            (got("x-forwarded-host").as_deref(), got("content-length").as_deref()),
            (Some("test"), Some("4"))
        );
        assert!(got("via").is_some() && got("x-request-id").is_some() && got("traceparent").is_none());
    }
    let fields = [("cookie", "a=1"), ("cookie", "b=2"), ("te", "trailers")];
    let response = gateway.h2_client().request("GET", "/", &fields, Bytes::new());
    assert_eq!(
        (response.header("got-cookie"), response.header("got-te")),
        (Some("a=1; b=2"), Some("trailers"))
    );
    assert_eq!(upstream.connections(), 1);
    gateway.expect_metric("upstream_connections_total", &[("reused", "true")], 3.0);
    gateway.expect_metrics_match_responses();
}

#[test]
fn errors_are_replaced_and_conforming_ones_forwarded() {
    let upstream = H2Server::with(100, |request: Request<_>, mut respond| async move {
        let is_conforming = request.uri().path() == "/conforming";
        let (kind, body) = if is_conforming {
            ("application/json", r#"{"message":"No such order.","code":404}"#)
        } else {
            ("text/html", "<html>")
        };
        let status = if is_conforming { 404 } else { 502 };
        let head = Response::builder().status(status).header("content-type", kind).body(()).unwrap();
        let mut send = respond.send_response(head, false).unwrap();
        let _ = send.send_data(Bytes::from_static(body.as_bytes()), true);
    });
    let gateway = h2_server_setup(&upstream).start();
    gateway.client().get("/").assert_local_reply(504);
    let conforming = gateway.client().get("/conforming");
    assert_eq!(
        (conforming.status, conforming.text().as_str()),
        (404, r#"{"message":"No such order.","code":404}"#)
    );
    assert_eq!(upstream.connections(), 1);
    gateway.expect_metrics_match_responses();
}

#[test]
fn data_after_content_length_zero_is_discarded() {
    // 200 and Content-Length: 0.
    let head = [STATUS_200, &[0x0f, 0x0d, 1, b'0']].concat();
    let upstream = RawH2Server::with_script(move |connection| {
        connection.read_preface()?;
        connection.send_settings(&[])?;
        loop {
            let stream = connection.next_request()?;
            connection.send_frame(HEADERS, END_HEADERS, stream, &head)?;
            connection.send_frame(DATA, END_STREAM, stream, b"more")?;
        }
    });
    let gateway = raw_server_setup(&upstream).with_h2c_listener().start();
    gateway.client().get("/").assert_response(200, "");
    gateway.h2_client().get("/").assert_response(200, "");
    gateway.expect_metric("aborted_total", &[], 0.0);
    gateway.expect_metrics_match_responses();
}

#[test]
fn concurrent_streams_respect_the_server_limit() {
    // No response is sent before all 5 requests have arrived.
    let all = Arc::new(Barrier::new(5));
    let upstream = H2Server::with(2, move |_, mut respond| {
        let all = Arc::clone(&all);
        async move {
            all.wait().await;
            let _ = respond.send_response(Response::new(()), true);
        }
    });
    let gateway = h2_server_setup(&upstream).start();
    for response in gateway.h2_client().get_all(&["/1", "/2", "/3", "/4", "/5"]) {
        response.assert_response(200, "");
    }
    assert_eq!(upstream.connections(), 3);
}

#[test]
fn upload_and_download_of_20_mb_are_complete_on_both_protocols() {
    let upstream = echo_server(100);
    let gateway =
        h2_server_setup(&upstream).set("client.max_body", "64MiB").set("timeouts.deadline", "60s").start();
    let body: Vec<u8> = (0..20_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let body = Bytes::from(body);
    let response = gateway.h2_client().request("POST", "/", &[], body.clone());
    assert!(response.status == 200 && response.body == body, "{} bytes", response.body.len());
    let mut client = gateway.client();
    let head = format!("POST / HTTP/1.1\r\nhost: test\r\ncontent-length: {}\r\n\r\n", body.len());
    let mut writer = client.writer();
    let sent = body.clone();
    let sending = std::thread::spawn(move || {
        std::io::Write::write_all(&mut writer, head.as_bytes()).unwrap();
        std::io::Write::write_all(&mut writer, &sent).unwrap();
    });
    let response = client.read(super::response_reader::SentRequest::Http11("POST"));
    sending.join().unwrap();
    assert!(response.status == 200 && response.body == body, "{} bytes", response.body.len());
    gateway.expect_metrics_match_responses();
}

#[test]
fn complete_response_survives_reset_with_no_error() {
    // RFC 9113 8.1: a complete response before the end of the request, followed by RST_STREAM with NO_ERROR.
    for ends_in in ["head", "body", "trailers"] {
        let upstream = RawH2Server::with_script(move |connection| {
            connection.read_preface()?;
            connection.send_settings(&[])?;
            loop {
                let stream = connection.next_request()?;
                let head = encode_frame(HEADERS, END_HEADERS, stream, STATUS_200);
                let response = match ends_in {
                    "head" => encode_frame(HEADERS, END_HEADERS | END_STREAM, stream, STATUS_200),
                    "body" => [head, encode_frame(DATA, END_STREAM, stream, b"fine")].concat(),
                    _ => {
                        let trailers =
                            encode_frame(HEADERS, END_HEADERS | END_STREAM, stream, b"\0\x01a\x01b");
                        [head, encode_frame(DATA, 0, stream, b"fine"), trailers].concat()
                    }
                };
                connection.write(&[response, encode_frame(RST_STREAM, 0, stream, [0; 4])].concat())?;
            }
        });
        let gateway = raw_server_setup(&upstream).with_h2c_listener().start();
        let body = if ends_in == "head" { "" } else { "fine" };
        let response = gateway.h2_client().request("POST", "/", &[], Bytes::from(vec![0; 1_000_000]));
        response.assert_response(200, body);
        assert_eq!(response.end, ResponseEnd::Complete);
        let mut client = gateway.client();
        client.send("POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 9\r\n\r\n");
        let response = client.read(super::response_reader::SentRequest::Http11("POST"));
        assert_eq!(
            (response.status, response.text().as_str(), response.end),
            (200, body, ResponseEnd::Complete)
        );
    }
}

#[test]
fn refused_stream_is_retried_for_any_method() {
    let upstream = RawH2Server::with_script(|connection| {
        connection.read_preface()?;
        connection.send_settings(&[])?;
        let stream = connection.next_request()?;
        connection.send_frame(RST_STREAM, 0, stream, &[0, 0, 0, 7])?;
        let stream = connection.next_request()?;
        connection.send_ok_response(stream)?;
        connection.read_until_closed()
    });
    let gateway = raw_server_setup(&upstream).start();
    gateway.client().request("POST", "/", "", "body").assert_response(200, "fine");
    assert_eq!((upstream.connections(), upstream.requests()), (1, 2));
    gateway.expect_metric("upstream_retries_total", &[("result", "ok")], 1.0);
}

#[test]
fn goaway_retries_only_unprocessed_streams() {
    let unprocessed = single_request_server(|connection, _| {
        connection.send_goaway(0, 0)?;
        connection.read_until_closed()
    });
    let gateway = raw_server_setup(&unprocessed).start();
    gateway.client().request("POST", "/", "", "body").assert_response(200, "fine");
    assert_eq!((unprocessed.connections(), unprocessed.requests()), (2, 2));

    let cut = single_request_server(|connection, stream| connection.send_goaway(stream, 0));
    let gateway = raw_server_setup(&cut).start();
    gateway.client().request("POST", "/", "", "body").assert_local_reply(504);
    gateway.expect_metric("errors_total", &[("cause", "connection_terminated")], 1.0);
    assert_eq!(cut.requests(), 1);
    gateway.client().get("/").assert_response(200, "fine");
}

#[test]
fn request_before_goaway_completes_and_next_opens_a_connection() {
    let upstream = single_request_server(|connection, stream| {
        connection.send_ok_headers(stream, false)?;
        connection.send_goaway(stream, 0)?;
        connection.send_frame(DATA, END_STREAM, stream, b"late")?;
        connection.read_until_closed()
    });
    let gateway = raw_server_setup(&upstream).start();
    let mut client = gateway.client();
    client.get("/").assert_response(200, "late");
    client.request("POST", "/", "", "body").assert_response(200, "fine");
    assert_eq!((upstream.connections(), upstream.requests()), (2, 2));
}

#[test]
fn server_without_settings_is_detected_before_the_request_is_sent() {
    let silent_server = RawH2Server::with_script(RawH2Connection::read_until_closed);
    let other = RawH2Server::with_script(|connection| {
        connection.read_preface()?;
        connection.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")?;
        connection.read_until_closed()
    });
    let closing = RawH2Server::with_script(RawH2Connection::read_preface);
    for (upstream, cause) in [
        (silent_server, "connection_timeout"),
        (other, "http_protocol_error"),
        (closing, "connection_terminated"),
    ] {
        let gateway = raw_server_setup(&upstream)
            .set("errors.include", "[request_sent]")
            .set("timeouts.connect", "300ms")
            .start();
        let started = Instant::now();
        let response = gateway.client().request("POST", "/", "", "x");
        assert_eq!(response.status, 504);
        assert!(response.text().contains("\"request_sent\":\"none\""), "{}", response.text());
        gateway.expect_metric("errors_total", &[("cause", cause)], 1.0);
        if cause == "connection_timeout" {
            assert!(started.elapsed() >= Duration::from_millis(300));
        }
    }
}

#[test]
fn closed_flow_control_window_is_a_write_timeout() {
    let upstream = RawH2Server::with_script(|connection| {
        connection.read_preface()?;
        connection.send_settings(&[(4, 0)])?;
        connection.next_request()?;
        connection.read_until_closed()
    });
    let gateway = raw_server_setup(&upstream).set("timeouts.body_idle", "300ms").start();
    let started = Instant::now();
    gateway.client().request("POST", "/", "", "body").assert_local_reply(504);
    assert!(started.elapsed() >= Duration::from_millis(300));
    gateway.expect_metric("errors_total", &[("cause", "connection_write_timeout")], 1.0);
}

#[test]
fn write_blocked_connection_gets_no_further_request() {
    let upstream = RawH2Server::with_script(|connection| {
        if connection.index > 0 {
            return connection.serve_all();
        }
        connection.read_preface()?;
        // Ample stream windows, but only 65,535 bytes for the connection, without any WINDOW_UPDATE.
        connection.send_settings(&[(4, 1 << 20)])?;
        let first = connection.next_request()?;
        while connection.next_frame()? != (DATA, END_STREAM, first) {}
        connection.send_ok_response(first)?;
        // The connection is closed, or probed with PING and reused.
        while !matches!(connection.next_frame()?.0, PING | GOAWAY) {}
        let _ = connection.ping_and_wait();
        connection.count_request();
        connection.read_until_closed()
    });
    let gateway = raw_server_setup(&upstream).set("timeouts.body_idle", "300ms").start();
    let body = "x".repeat(60_000);
    let upload = || gateway.client().request("POST", "/", "", &body);
    upload().assert_response(200, "fine");
    upload().assert_local_reply(504);
    gateway.expect_metric("errors_total", &[("cause", "connection_write_timeout")], 1.0);
    let deadline = Instant::now() + limit();
    while upstream.requests() < 2 {
        assert!(Instant::now() < deadline, "the connection is neither probed nor closed");
        std::thread::yield_now();
    }
    upload().assert_response(200, "fine");
    assert_eq!(upstream.connections(), 2);
}

#[test]
fn connection_is_reused_after_a_timeout_only_if_it_acks_a_ping() {
    for responses in [true, false] {
        let upstream = RawH2Server::with_script(move |connection| {
            if connection.index > 0 {
                return connection.serve_all();
            }
            if !responses {
                connection.stop_ping_acks();
            }
            connection.read_preface()?;
            connection.send_settings(&[])?;
            // No response; then the gateway probes the connection.
            connection.next_request()?;
            while connection.next_frame()?.0 != PING {}
            while let Some(stream) = connection.next_request() {
                connection.send_ok_headers(stream, false)?;
                connection.send_frame(DATA, END_STREAM, stream, b"first")?;
            }
            connection.count_request();
            Some(())
        });
        let gateway = raw_server_setup(&upstream).set("timeouts.response_headers", "300ms").start();
        let started = Instant::now();
        gateway.client().get("/").assert_local_reply(504);
        assert!(started.elapsed() >= Duration::from_millis(300));
        gateway.expect_metric("errors_total", &[("cause", "http_response_timeout")], 1.0);
        let deadline = Instant::now() + limit();
        if responses {
            while gateway.client().get("/").text() != "first" {
                assert!(Instant::now() < deadline, "a live connection is never reused");
            }
        } else {
            gateway.client().get("/").assert_response(200, "fine");
            // Its end counts as one more request.
            while upstream.requests() < 3 {
                assert!(Instant::now() < deadline, "a dead connection is never closed");
                std::thread::yield_now();
            }
            gateway.client().get("/").assert_response(200, "fine");
            assert_eq!(upstream.connections(), 2);
        }
    }
}

#[test]
fn stalled_stream_does_not_affect_other_streams() {
    let upstream = H2Server::with(100, |request: Request<_>, mut respond| async move {
        if request.uri().path() == "/hang" {
            std::future::pending::<()>().await;
        }
        let _ = respond.send_response(Response::new(()), true);
    });
    let gateway = h2_server_setup(&upstream).set("timeouts.response_headers", "400ms").start();
    let mut client = gateway.h2_client();
    let responses = client.get_all(&["/hang", "/1", "/hang", "/2"]);
    let codes: Vec<u16> = responses.iter().map(|response| response.status).collect();
    assert_eq!(codes, [504, 200, 504, 200]);
    client.get("/3").assert_response(200, "");
    gateway.expect_metrics_match_responses();
}

#[test]
fn header_only_responses_are_complete() {
    let upstream = H2Server::with(100, |request: Request<_>, mut respond| async move {
        let status = if request.uri().path() == "/204" { 204 } else { 200 };
        let mut head = Response::builder().status(status);
        if request.method() == "HEAD" {
            head = head.header("content-length", "900");
        }
        let _ = respond.send_response(head.body(()).unwrap(), true);
    });
    let gateway = h2_server_setup(&upstream).start();
    let mut client = gateway.client();
    client.get("/204").assert_response(204, "");
    client.get("/200").assert_response(200, "");
    assert_eq!(client.request("HEAD", "/", "", "").header("content-length"), Some("900"));
    let headers_only = gateway.h2_client().get("/200");
    assert_eq!((headers_only.status, headers_only.header("content-length")), (200, None));
}

#[test]
fn idle_connection_is_closed_in_time_and_zero_keepalive_keeps_none() {
    let upstream = echo_server(100);
    let gateway = h2_server_setup(&upstream).set("upstream.keepalive", "{ max: 0 }").start();
    let mut client = gateway.client();
    for _ in 0..3 {
        client.get("/").assert_response(200, "");
    }
    // Two requests may share a connection before it ends; none may fail because of that.
    assert!((1..=3).contains(&upstream.connections()));
    let idle = RawH2Server::with_script(|connection| {
        connection.read_preface()?;
        connection.send_settings(&[])?;
        let stream = connection.next_request()?;
        connection.send_ok_response(stream)?;
        // GOAWAY, then the end of the connection.
        while connection.next_frame()?.0 != GOAWAY {}
        connection.count_request();
        connection.read_until_closed()
    });
    let gateway = raw_server_setup(&idle).set("upstream.keepalive", "{ idle: 200ms }").start();
    gateway.client().get("/").assert_response(200, "fine");
    let deadline = Instant::now() + limit();
    while idle.requests() < 2 {
        assert!(Instant::now() < deadline, "the idle connection is never closed");
        std::thread::yield_now();
    }
}

/// Each time, the same number of bytes has to wait for the window.
#[test]
fn upstream_that_blocks_twice_for_a_moment_is_not_treated_as_non_reading() {
    let upstream = RawH2Server::with_script(|connection| {
        let grant = |connection: &mut RawH2Connection, stream, octets: u32| {
            connection.send_frame(WINDOW_UPDATE, 0, stream, &octets.to_be_bytes())
        };
        connection.read_preface()?;
        connection.send_settings(&[(4, 4)])?;
        let stream = connection.next_request()?;
        while connection.next_frame()?.0 != DATA {}
        grant(connection, stream, 8)?;
        while connection.next_frame()?.0 != DATA {}
        connection.count_request();
        while connection.next_frame()?.0 != DATA {}
        std::thread::sleep(Duration::from_millis(50)); // upstream under test
        connection.count_request();
        grant(connection, stream, 100)?;
        while connection.next_frame()? != (DATA, END_STREAM, stream) {}
        connection.send_ok_response(stream)?;
        connection.read_until_closed()
    });
    let gateway = raw_server_setup(&upstream).set("timeouts.body_idle", "400ms").start();
    let mut client = gateway.client();
    client.send("POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 24\r\n\r\n12345678");
    let wait_until = |count| {
        let deadline = Instant::now() + limit();
        while upstream.requests() < count {
            assert!(Instant::now() < deadline, "the upstream has not got part {count} of the body");
            std::thread::yield_now();
        }
    };
    wait_until(2);
    std::thread::sleep(millis(600)); // slow client under test
    client.send("12345678");
    wait_until(3);
    client.send("12345678");
    client.read(SentRequest::Http11("POST")).assert_response(200, "fine");
}

#[test]
fn trailers_after_an_empty_body_of_declared_length_reach_http2_clients() {
    let upstream = RawH2Server::with_script(|connection| {
        connection.read_preface()?;
        connection.send_settings(&[])?;
        loop {
            let stream = connection.next_request()?;
            // `:status: 200`, `content-length: 0`; then trailers `grpc-status: 5`.
            connection.send_frame(HEADERS, END_HEADERS, stream, b"\x88\x0f\x0d\x010")?;
            let trailers = b"\x00\x0bgrpc-status\x015";
            connection.send_frame(HEADERS, END_HEADERS | END_STREAM, stream, trailers)?;
        }
    });
    let gateway = raw_server_setup(&upstream).with_h2c_listener().start();
    let mut client = RawH2Client::connect(gateway.h2_address(), &[], &get_frame(1));
    let head = client.read_until(HEADERS);
    assert_eq!(head.flags & END_STREAM, 0, "{head:?}");
    let trailers = client.read_until(HEADERS);
    assert_ne!(trailers.flags & END_STREAM, 0, "{trailers:?}");
    gateway.client().get("/").assert_response(200, "");
}
