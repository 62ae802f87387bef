//! HTTP/2 clients that cancel their requests, slowly enough for all limits of the `h2` crate.
//!
//! The `h2` crate frees a stream immediately; the work for it must end as soon. The table of HTTP/2 client faults
//! covers floods.

use std::io::Read;
use std::net::{Shutdown, SocketAddr};

use statusquo::conformance::FullBacklog;
use statusquo::conformance::frames::{
    ACK, END_HEADERS, END_STREAM, encode_frame, frame_type, rst_stream_frame,
};

use super::http2_lingering_close::connect_with_small_buffer;
use super::prelude::*;
use super::raw_h2_client::{RawH2Client, get_frame, request_block};

/// Sends all frames at once and shuts down its side; returns when the gateway has closed the other.
fn send_and_leave(address: SocketAddr, frames: &[u8]) {
    let mut client = RawH2Client::connect(address, &[], frames).stream;
    client.shutdown(Shutdown::Write).unwrap();
    let _ = client.read_to_end(&mut Vec::new());
}

/// The `h2` crate discards the streams it has read when it reads the end of their connection.
#[test]
fn streams_are_each_counted_when_the_connection_closes_at_once() {
    const STREAMS: u32 = 100;
    let upstream = script([Step::ReadRequestHead, Step::ReadUntilClose]);
    let gateway = Gateway::with_upstream(&upstream).with_h2c_listener().start();
    let heads = (0..STREAMS).flat_map(|number| get_frame(1 + 2 * number));
    send_and_leave(gateway.h2_address(), &heads.collect::<Vec<u8>>());
    let labels = [("cause", "client_gone")];
    gateway.expect_metric("closed_without_response_total", &labels, f64::from(STREAMS));
    gateway.expect_metric("requests_in_flight", &[], 0.0);
    gateway.expect_metric("closed_without_response_total", &[], f64::from(STREAMS));
    gateway.expect_metric("aborted_total", &[], 0.0);
}

/// Whether such a stream becomes a request depends on timing; the counters do not.
#[test]
fn streams_are_each_counted_when_reset_right_after_opening() {
    const STREAMS: u32 = 100;
    let upstream = script([Step::ReadRequestHead, Step::ReadUntilClose]);
    let gateway = Gateway::with_upstream(&upstream).with_h2c_listener().start();
    let both = (0..STREAMS)
        .map(|number| 1 + 2 * number)
        .flat_map(|stream| [get_frame(stream), rst_stream_frame(stream, 8)].concat());
    send_and_leave(gateway.h2_address(), &both.collect::<Vec<u8>>());
    let labels = [("cause", "client_gone")];
    gateway.expect_metric("closed_without_response_total", &labels, f64::from(STREAMS));
    gateway.expect_metric("requests_in_flight", &[], 0.0);
    gateway.expect_metric("closed_without_response_total", &[], f64::from(STREAMS));
    gateway.expect_metric("aborted_total", &[], 0.0);
}

#[test]
fn connections_are_closed_when_requests_are_reset_while_connecting() {
    const BATCH_COUNT: u32 = 60;
    const STREAMS_PER_BATCH: u32 = 10;
    let upstream = FullBacklog::start().unwrap();
    let gateway = GatewaySetup::with_servers(&[upstream.address()])
        .set("timeouts.connect", "50s")
        .set("timeouts.deadline", "55s")
        .with_h2c_listener()
        .start();
    let mut client = RawH2Client::connect(gateway.h2_address(), &[], &[]);
    // A PING acknowledgement means that all earlier frames were read.
    let pong = |client: &mut RawH2Client| {
        client.send(encode_frame(frame_type::PING, 0, 0, [9; 8]));
        client.read_until_frame(|frame| {
            assert_ne!(frame.frame_type, frame_type::GOAWAY, "{frame:?}");
            frame.frame_type == frame_type::PING && frame.flags & ACK != 0
        });
    };
    for batch in 0..BATCH_COUNT {
        let streams = || (0..STREAMS_PER_BATCH).map(|number| 1 + 2 * (batch * STREAMS_PER_BATCH + number));
        client.send(streams().flat_map(get_frame).collect::<Vec<u8>>());
        pong(&mut client);
        client.send(streams().flat_map(|stream| rst_stream_frame(stream, 8)).collect::<Vec<u8>>());
        pong(&mut client);
    }
    // Long before the first request could reach its timeout.
    gateway.expect_metric(
        "closed_without_response_total",
        &[("cause", "client_gone")],
        f64::from(BATCH_COUNT * STREAMS_PER_BATCH),
    );
    gateway.expect_metric("requests_in_flight", &[], 0.0);
    gateway.expect_metric("errors_total", &[], 0.0);
}

/// The client reads nothing, so the headers of its later responses wait behind the first one and are never written.
#[test]
fn response_that_waits_for_the_client_is_counted_once() {
    const STREAMS: u32 = 40;
    let upstream = by_request(|request| match request.path() {
        "/large" => vec![
            Step::ReadRequestHead,
            write_bytes("HTTP/1.1 200 OK\r\ncontent-length: 30000000\r\n\r\n"),
            write_bytes(vec![b'x'; 30_000_000]),
        ],
        _ => vec![Step::ReadRequestHead, Step::Write(http_response("200 OK", "fine"))],
    });
    let gateway =
        Gateway::with_upstream(&upstream).set("client.write_timeout", "500ms").with_h2c_listener().start();
    for resets_streams in [false, true] {
        let before = gateway.metric("responses_total", &[]);
        let aborted = gateway.metric("aborted_total", &[("cause", "client_too_slow")]);
        let block = request_block("GET", "/large", &[]);
        let large = encode_frame(frame_type::HEADERS, END_HEADERS | END_STREAM, 1, block);
        let mut client = connect_with_small_buffer(gateway.h2_address(), &large);
        gateway.expect_metric_of_at_least("aborted_total", &[("cause", "client_too_slow")], aborted + 1.0);
        let streams = || (0..STREAMS).map(|number| 3 + 2 * number);
        client.send(streams().flat_map(get_frame).collect::<Vec<u8>>());
        gateway.expect_metric("responses_total", &[], before + 1.0 + f64::from(STREAMS));
        if resets_streams {
            let resets = streams().flat_map(|stream| rst_stream_frame(stream, 8));
            client.send(resets.collect::<Vec<u8>>());
        }
        drop(client);
        let listener = gateway.h2_address().to_string();
        gateway.expect_metric("connections", &[("listener", &listener)], 0.0);
        gateway.expect_metric("closed_without_response_total", &[], 0.0);
        gateway.expect_metric("responses_total", &[], before + 1.0 + f64::from(STREAMS));
    }
}
