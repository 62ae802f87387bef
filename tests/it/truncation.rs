//! Faults after the response headers were sent: the response is detectably truncated, and JSON is never appended.

use super::prelude::*;
use super::response_reader::MessageFraming;

const LENGTH_HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 20\r\n\r\n";
const CHUNKED_HEAD: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n";

#[test]
fn body_shorter_than_content_length_is_truncated() {
    for last in [Step::Close, Step::Reset] {
        let gate = Gate::new();
        let upstream = script([
            Step::ReadRequestHead,
            write_bytes(LENGTH_HEAD),
            write_bytes("nine byte"),
            Step::WaitForGate(gate.clone()),
            last,
        ]);
        let gateway = Gateway::with_upstream(&upstream).start();
        let mut client = gateway.client();
        client.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n");
        client.wait_for("nine byte");
        gate.open();
        let response = client.read(SentRequest::Http11("GET"));
        assert_eq!(
            (response.framing, response.end),
            (MessageFraming::Length(20), ResponseEnd::Truncated { after: 9 })
        );
        assert_eq!(response.text(), "nine byte");
        gateway.expect_metric("aborted_total", &[("cause", "http_response_incomplete")], 1.0);
    }
}

#[test]
fn malformed_chunk_truncates_the_response() {
    let upstream = script([
        Step::ReadRequestHead,
        write_bytes(CHUNKED_HEAD),
        write_bytes("9\r\nnine byte\r\n"),
        write_bytes("zz\r\nabc"),
        Step::Close,
    ]);
    let gateway = Gateway::with_upstream(&upstream).start();
    let response = gateway.client().request("GET", "/", "", "");
    assert!(matches!(response.end, ResponseEnd::Truncated { .. }), "{response:#?}");
    gateway.expect_metric("aborted_total", &[], 1.0);
}

#[test]
fn truncated_close_delimited_body_is_reset_for_http10() {
    let gate = Gate::new();
    let upstream = script([
        Step::ReadRequestHead,
        write_bytes(CHUNKED_HEAD),
        write_bytes("9\r\nnine byte\r\n"),
        Step::WaitForGate(gate.clone()),
        Step::Close,
    ]);
    let gateway = Gateway::with_upstream(&upstream).start();
    let mut client = gateway.client();
    client.send("GET / HTTP/1.0\r\nhost: test\r\n\r\n");
    client.wait_for("nine byte");
    gate.open();
    let response = client.read(SentRequest::Http10("GET"));
    assert_eq!(
        (response.framing, response.end),
        (MessageFraming::CloseDelimited, ResponseEnd::Reset { after: 9 })
    );
}

#[test]
fn silent_body_is_truncated_after_body_idle() {
    let upstream = script([
        Step::ReadRequestHead,
        write_bytes(LENGTH_HEAD),
        write_bytes("nine byte"),
        Step::ReadUntilClose,
    ]);
    let gateway = Gateway::with_upstream(&upstream).set("timeouts.body_idle", "300ms").start();
    let response = gateway.client().request("GET", "/", "", "");
    assert_eq!(response.end, ResponseEnd::Truncated { after: 9 });
    gateway.expect_metric("aborted_total", &[("cause", "connection_read_timeout")], 1.0);
}

#[test]
fn bytes_after_a_complete_response_are_not_forwarded() {
    let upstream = script([
        Step::ReadRequestHead,
        write_bytes(
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nforged",
        ),
    ]);
    let gateway = Gateway::with_upstream(&upstream).start();
    let mut client = gateway.client();
    client.get("/").assert_response(200, "ok");
    client.get("/").assert_response(200, "ok");
    assert_eq!(upstream.connection_count(), 2);
}

/// Like `nc` and old clients, which shut down their sending side after the request.
#[test]
fn close_delimited_body_is_reset_for_a_half_closed_client() {
    let gate = Gate::new();
    let upstream = script([
        Step::ReadRequestHead,
        write_bytes("HTTP/1.1 200 OK\r\n\r\nnine byte"),
        Step::WaitForGate(gate.clone()),
        write_bytes("s more"),
        Step::Close,
    ]);
    let gateway = Gateway::with_upstream(&upstream).start();
    let mut client = gateway.client();
    client.send("GET / HTTP/1.0\r\nhost: test\r\n\r\n");
    client.wait_for("nine byte");
    client.shutdown_write();
    gateway.expect_metric("aborted_total", &[("cause", "client_gone")], 1.0);
    gate.open();
    let response = client.read(SentRequest::Http10("GET"));
    assert_eq!(
        (response.framing, response.end),
        (MessageFraming::CloseDelimited, ResponseEnd::Reset { after: 9 })
    );
}
