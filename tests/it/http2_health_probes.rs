//! Health probes of HTTP/2 upstream connections: when they start, what satisfies them, and which requests they affect.
//!
//! [`super::http2_upstream`] covers other faults of connections and streams.

use std::time::{Duration, Instant};

use super::h2_upstream::{DATA, END_HEADERS, END_STREAM, HEADERS, PING, RST_STREAM, RawH2Server, STATUS_200};
use super::http2_upstream::raw_server_setup;
use super::prelude::*;

/// `:status: 500`, from the static table (RFC 7541 appendix A).
const STATUS_500: &[u8] = &[0x8e];

const GET: SentRequest = SentRequest::Http11("GET");

#[test]
fn stale_ping_ack_does_not_satisfy_a_new_ping() {
    let upstream = RawH2Server::with_script(|connection| {
        if connection.index > 0 {
            return connection.serve_all();
        }
        connection.stop_ping_acks();
        connection.read_preface()?;
        connection.send_settings(&[])?;
        let long = connection.next_request()?;
        connection.send_frame(HEADERS, END_HEADERS, long, STATUS_200)?;
        connection.send_frame(DATA, 0, long, b"begun,")?;
        // Two requests time out. The first starts a probe, which bytes other than the PING acknowledgement satisfy; the
        // acknowledgement arrives after the second timeout.
        let (mut pings, mut resets) = (0, 0);
        while (pings, resets) != (1, 2) {
            match connection.next_frame()?.0 {
                PING => {
                    pings += 1;
                    connection.send_frame(DATA, 0, long, b"alive,")?;
                }
                RST_STREAM => resets += 1,
                _ => {}
            }
        }
        connection.send_ping_ack()?;
        connection.send_frame(DATA, 0, long, b"answered,")?;
        // A third request: the server sends nothing before the next PING.
        while connection.next_frame()?.0 != PING {}
        connection.send_ping_ack()?;
        connection.send_frame(DATA, END_STREAM, long, b"over")?;
        connection.read_until_closed()
    });
    let gateway = raw_server_setup(&upstream)
        .set("timeouts.response_headers", "300ms")
        .set("timeouts.body_idle", "9s")
        .route("name: late, match: { path: /late }, upstream: main, timeouts: { response_headers: 1200ms }")
        .route("name: all, match: { path: \"/{*rest}\" }, upstream: main")
        .start();
    let mut long = gateway.client();
    long.send("GET /late HTTP/1.1\r\nhost: test\r\n\r\n");
    long.wait_for("begun,");
    let (mut first, mut second) = (gateway.client(), gateway.client());
    second.send("GET /late HTTP/1.1\r\nhost: test\r\n\r\n");
    first.send("GET /hang HTTP/1.1\r\nhost: test\r\n\r\n");
    first.read(GET).assert_local_reply(504);
    second.read(GET).assert_local_reply(504);
    long.wait_for("answered,");
    // A probed connection gets no new requests.
    let deadline = Instant::now() + limit();
    while gateway.client().get("/hang").status != 504 {
        assert!(Instant::now() < deadline, "a live connection is never reused");
    }
    let response = long.read(GET);
    assert_eq!(
        (response.text().as_str(), response.end),
        ("begun,alive,answered,over", ResponseEnd::Complete)
    );
    gateway.expect_metric("aborted_total", &[], 0.0);
}

#[test]
fn slow_client_does_not_trigger_an_upstream_health_probe() {
    // Before and after the response headers.
    for responses in [false, true] {
        let upstream = RawH2Server::with_script(move |connection| {
            if connection.index > 0 {
                return connection.serve_all();
            }
            connection.read_preface()?;
            connection.send_settings(&[])?;
            let slow = connection.next_request()?;
            if responses {
                connection.send_ok_headers(slow, false)?;
                connection.send_frame(DATA, 0, slow, b"begun")?;
            }
            loop {
                match connection.next_frame()? {
                    (HEADERS, _, stream) => {
                        connection.count_request();
                        connection.send_ok_response(stream)?;
                    }
                    (PING, 0, _) => connection.count_request(),
                    _ => {}
                }
            }
        });
        let gateway = raw_server_setup(&upstream).set("client.body_timeout", "300ms").start();
        let mut slow = gateway.client();
        let started = Instant::now();
        slow.send("POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 9\r\n\r\n");
        let response = slow.read(SentRequest::Http11("POST"));
        assert_eq!((response.status == 200, response.end == ResponseEnd::Complete), (responses, !responses));
        assert!(started.elapsed() >= Duration::from_millis(300));
        let name = if responses { "aborted_total" } else { "errors_total" };
        gateway.expect_metric(name, &[("cause", "client_too_slow")], 1.0);
        gateway.client().get("/").assert_response(200, "fine");
        // A PING would count as one more request.
        assert_eq!((upstream.connections(), upstream.requests()), (1, 2), "{responses}");
    }
}

#[test]
fn error_body_that_does_not_arrive_starts_a_probe() {
    let upstream = RawH2Server::with_script(|connection| {
        if connection.index > 0 {
            return connection.serve_all();
        }
        connection.stop_ping_acks();
        connection.read_preface()?;
        connection.send_settings(&[])?;
        let stream = connection.next_request()?;
        connection.send_frame(HEADERS, END_HEADERS, stream, STATUS_500)?;
        // Everything after that is lost.
        connection.read_until_closed()
    });
    let gateway = raw_server_setup(&upstream).set("errors.upstream_body", "{ timeout: 500ms }").start();
    gateway.client().get("/").assert_local_reply(500);
    // No PING is acknowledged: the next request needs another connection.
    gateway.client().get("/").assert_response(200, "fine");
    assert_eq!(upstream.connections(), 2);
}
