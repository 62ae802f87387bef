//! HTTP/2 clients that cancel their requests, slowly enough for all limits of the `h2` crate.
//!
//! The `h2` crate frees a stream immediately; the work for it must end as soon. The table of HTTP/2 client faults
//! covers floods.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use statusquo::conformance::frames::{
    ACK, END_HEADERS, END_STREAM, PREFACE, encode_frame, frame_type, rst_stream_frame, settings_frame,
    take_frame,
};
use statusquo::conformance::hpack::HeaderList;
use statusquo::conformance::{FullBacklog, Step};

use super::gateway::{Gateway, GatewaySetup};
use super::load::limit;
use super::scripted_upstreams::script;

/// Sends all frames at once and shuts down its side; returns when the gateway has closed the other.
fn send_and_leave(address: SocketAddr, frames: &[u8]) {
    let mut client = TcpStream::connect(address).unwrap();
    client.set_nodelay(true).unwrap();
    client.set_read_timeout(Some(limit())).unwrap();
    client.write_all(&[PREFACE, &settings_frame(&[]), frames].concat()).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let _ = client.read_to_end(&mut Vec::new());
}

fn get() -> Vec<u8> {
    let list = HeaderList::default().with(":method", "GET").with(":scheme", "http").with(":path", "/");
    list.with(":authority", "test").encode()
}

/// The `h2` crate discards the streams it has read when it reads the end of their connection.
#[test]
fn streams_are_each_counted_when_the_connection_closes_at_once() {
    const STREAMS: u32 = 100;
    let upstream = script([Step::ReadRequestHead, Step::ReadUntilClose]);
    let gateway = Gateway::with_upstream(&upstream).with_h2c_listener().start();
    let heads = (0..STREAMS).flat_map(|number| {
        encode_frame(frame_type::HEADERS, END_HEADERS | END_STREAM, 1 + 2 * number, get())
    });
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
    let both = (0..STREAMS).map(|number| 1 + 2 * number).flat_map(|stream| {
        [
            encode_frame(frame_type::HEADERS, END_HEADERS | END_STREAM, stream, get()),
            rst_stream_frame(stream, 8),
        ]
        .concat()
    });
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
    let mut client = TcpStream::connect(gateway.h2_address()).unwrap();
    client.set_nodelay(true).unwrap();
    client.set_read_timeout(Some(limit())).unwrap();
    client.write_all(&[PREFACE, &settings_frame(&[])].concat()).unwrap();
    let block = get();
    let ping = encode_frame(frame_type::PING, 0, 0, [9; 8]);
    let mut received = Vec::new();
    // A PING acknowledgement means that all earlier frames were read.
    let mut pong = |client: &mut TcpStream| {
        client.write_all(&ping).unwrap();
        loop {
            while let Some(frame) = take_frame(&mut received) {
                assert_ne!(frame.frame_type, frame_type::GOAWAY, "{frame:?}");
                if frame.frame_type == frame_type::PING && frame.flags & ACK != 0 {
                    return;
                }
            }
            let mut piece = [0; 4096];
            let size = client.read(&mut piece).unwrap();
            assert!(size > 0, "the connection is closed");
            received.extend_from_slice(&piece[..size]);
        }
    };
    for batch in 0..BATCH_COUNT {
        let streams = || (0..STREAMS_PER_BATCH).map(|number| 1 + 2 * (batch * STREAMS_PER_BATCH + number));
        let heads = streams()
            .flat_map(|stream| encode_frame(frame_type::HEADERS, END_HEADERS | END_STREAM, stream, &block));
        client.write_all(&heads.collect::<Vec<u8>>()).unwrap();
        pong(&mut client);
        client
            .write_all(&streams().flat_map(|stream| rst_stream_frame(stream, 8)).collect::<Vec<u8>>())
            .unwrap();
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
