//! Faults after the response head has left: the message is cut where the client can see it, and never gets JSON appended.

use statusquo::rehearse::{Gate, UpstreamStep, write_bytes};

use super::gateway::Gateway;
use super::reader::{Asked, Ended, Framing};
use super::upstreams::script;

const LENGTH: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 20\r\n\r\n";
const CHUNKED: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n";

#[test]
fn a_body_short_of_its_length_is_cut_where_the_upstream_cut_it() {
    for last in [UpstreamStep::Close, UpstreamStep::Reset] {
        let gate = Gate::new();
        let upstream = script([
            UpstreamStep::ReadRequestHead,
            write_bytes(LENGTH),
            write_bytes("nine byte"),
            UpstreamStep::WaitForGate(gate.clone()),
            last,
        ]);
        let gateway = Gateway::in_front_of(&upstream).start();
        let mut client = gateway.client();
        client.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n");
        client.wait_for("nine byte");
        gate.open();
        let answer = client.read(Asked::Http11("GET"));
        assert_eq!((answer.framing, answer.ended), (Framing::Length(20), Ended::Cut { after: 9 }));
        assert_eq!(answer.text(), "nine byte");
        gateway.expect_metric("aborted_total", &[("cause", "http_response_incomplete")], 1.0);
    }
}

#[test]
fn a_chunked_body_without_its_last_chunk_is_not_given_one() {
    for cut in ["", "5\r\n", "5\r\nabc", "5\r\nabcde", "0\r\n", "0\r\nx: y"] {
        let upstream = script([
            UpstreamStep::ReadRequestHead,
            write_bytes(CHUNKED),
            write_bytes("9\r\nnine byte\r\n"),
            write_bytes(cut),
            UpstreamStep::Close,
        ]);
        let gateway = Gateway::in_front_of(&upstream).start();
        let answer = gateway.client().ask("GET", "/", "", "");
        assert!(matches!(answer.ended, Ended::Cut { .. }), "cut after {cut:?}: {answer:#?}");
        assert!("nine byteabcde".starts_with(&answer.text()), "{:?}", answer.text());
        gateway.expect_metric("aborted_total", &[("cause", "http_response_incomplete")], 1.0);
        gateway.expect_metric("responses_total", &[("code", "200")], 1.0);
    }
}

#[test]
fn a_broken_chunk_cuts_the_message() {
    let upstream = script([
        UpstreamStep::ReadRequestHead,
        write_bytes(CHUNKED),
        write_bytes("9\r\nnine byte\r\n"),
        write_bytes("zz\r\nabc"),
        UpstreamStep::Close,
    ]);
    let gateway = Gateway::in_front_of(&upstream).start();
    let answer = gateway.client().ask("GET", "/", "", "");
    assert!(matches!(answer.ended, Ended::Cut { .. }), "{answer:#?}");
    gateway.expect_metric("aborted_total", &[], 1.0);
}

#[test]
fn a_body_that_only_a_close_would_end_is_reset_towards_http_1_0() {
    let gate = Gate::new();
    let upstream = script([
        UpstreamStep::ReadRequestHead,
        write_bytes(CHUNKED),
        write_bytes("9\r\nnine byte\r\n"),
        UpstreamStep::WaitForGate(gate.clone()),
        UpstreamStep::Close,
    ]);
    let gateway = Gateway::in_front_of(&upstream).start();
    let mut client = gateway.client();
    client.send("GET / HTTP/1.0\r\nhost: test\r\n\r\n");
    client.wait_for("nine byte");
    gate.open();
    let answer = client.read(Asked::Http10("GET"));
    assert_eq!((answer.framing, answer.ended), (Framing::Close, Ended::Reset { after: 9 }));
}

#[test]
fn a_body_that_the_upstream_ends_by_closing_is_whole() {
    let upstream = script([
        UpstreamStep::ReadRequestHead,
        write_bytes("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nall there is"),
        UpstreamStep::Close,
    ]);
    let gateway = Gateway::in_front_of(&upstream).start();
    let answer = gateway.client().get("/");
    answer.is(200, "all there is");
    assert!(answer.connection_usable);
}

#[test]
fn a_silence_inside_a_body_is_cut_after_between_bytes() {
    let upstream = script([
        UpstreamStep::ReadRequestHead,
        write_bytes(LENGTH),
        write_bytes("nine byte"),
        UpstreamStep::ReadUntilClose,
    ]);
    let gateway = Gateway::in_front_of(&upstream).set("timeouts.between_bytes", "300ms").start();
    let answer = gateway.client().ask("GET", "/", "", "");
    assert_eq!(answer.ended, Ended::Cut { after: 9 });
    gateway.expect_metric("aborted_total", &[("cause", "connection_read_timeout")], 1.0);
}

#[test]
fn bytes_after_a_complete_response_never_reach_a_client() {
    let upstream = script([
        UpstreamStep::ReadRequestHead,
        write_bytes(
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nforged",
        ),
    ]);
    let gateway = Gateway::in_front_of(&upstream).start();
    let mut client = gateway.client();
    client.get("/").is(200, "ok");
    client.get("/").is(200, "ok");
    assert_eq!(upstream.connection_count(), 2);
}

/// As `nc` does, and old clients: the sending side is shut down once the request is out.
#[test]
fn a_body_without_a_length_that_is_given_up_for_a_half_closed_client_is_reset() {
    let gate = Gate::new();
    let upstream = script([
        UpstreamStep::ReadRequestHead,
        write_bytes("HTTP/1.1 200 OK\r\n\r\nnine byte"),
        UpstreamStep::WaitForGate(gate.clone()),
        write_bytes("s more"),
        UpstreamStep::Close,
    ]);
    let gateway = Gateway::in_front_of(&upstream).start();
    let mut client = gateway.client();
    client.send("GET / HTTP/1.0\r\nhost: test\r\n\r\n");
    client.wait_for("nine byte");
    client.finish_sending();
    gateway.expect_metric("aborted_total", &[("cause", "client_gone")], 1.0);
    gate.open();
    let answer = client.read(Asked::Http10("GET"));
    assert_eq!((answer.framing, answer.ended), (Framing::Close, Ended::Reset { after: 9 }));
}
