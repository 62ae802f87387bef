//! HTTP/2 clients that begin a header block or a frame and do not finish it.
//!
//! Only `client.header_timeout` may end a wait here: all other timeouts are far longer than the watchdog.

use std::io::Write;
use std::time::{Duration, Instant};

use statusquo::conformance::frames::{END_HEADERS, END_STREAM, encode_frame, frame_type, leading_u32};

use super::connections::hold_place;
use super::prelude::*;
use super::raw_h2_client::{RawH2Client, get_frame, request_block};

const HEADER_TIMEOUT: Duration = Duration::from_millis(1200);

fn start_with_short_header_timeout(setup: GatewaySetup) -> Gateway {
    setup
        .set("client.header_timeout", "1200ms")
        .set("client.idle_timeout", "60s")
        .set("client.body_timeout", "50s")
        .with_h2c_listener()
        .limit(Duration::from_secs(60))
        .start()
}

/// Asserts GOAWAY with NO_ERROR and the end of the connection.
#[track_caller]
fn expect_close(raw: &mut RawH2Client) {
    let goaway = raw.read_until(frame_type::GOAWAY);
    assert_eq!(leading_u32(&goaway.payload[4..]), 0);
    while raw.try_frame().is_some() {}
}

fn header_block(method: &str) -> Vec<u8> {
    request_block(method, "/", &[])
}

/// Asserts that `timeouts` connections ended by timeout, and none for another HTTP/2 reason.
fn expect_close_reasons(gateway: &Gateway, timeouts: usize) {
    let count = |cause, wanted| {
        gateway.expect_metric("closed_without_response_total", &[("cause", cause)], wanted);
    };
    count("idle_timeout", timeouts as f64);
    for other in ["client_gone", "http2_connection_error", "http2_stream_error"] {
        count(other, 0.0);
    }
}

#[test]
fn stalled_header_blocks_time_out_while_other_requests_are_served() {
    const CLIENTS_PER_KIND: usize = 200;
    let upstream = ok_upstream("fine");
    let gateway = start_with_short_header_timeout(Gateway::with_upstream(&upstream));
    let complete_block = header_block("GET");
    let halves = [
        encode_frame(frame_type::HEADERS, END_STREAM, 1, &complete_block[..7]),
        [
            encode_frame(frame_type::HEADERS, END_STREAM, 1, &complete_block[..7]),
            encode_frame(frame_type::CONTINUATION, 0, 1, &complete_block[7..12]),
        ]
        .concat(),
        encode_frame(frame_type::HEADERS, END_STREAM | END_HEADERS, 1, &complete_block)[..12].to_vec(),
        encode_frame(frame_type::PING, 0, 0, [1; 8])[..4].to_vec(),
        vec![0],
    ];
    let mut stalled: Vec<(RawH2Client, Instant)> = (0..CLIENTS_PER_KIND)
        .map(|index| {
            let mut raw = RawH2Client::connect(gateway.h2_address(), &[], &[]);
            let started = Instant::now();
            raw.send(&halves[index % halves.len()]);
            (raw, started)
        })
        .collect();
    let mut other_client = gateway.h2_client();
    other_client.get("/").assert_response(200, "fine");
    for (raw, started) in &mut stalled {
        expect_close(raw);
        assert!(started.elapsed() >= HEADER_TIMEOUT, "{:?}", started.elapsed());
    }
    expect_close_reasons(&gateway, CLIENTS_PER_KIND);
    other_client.get("/").assert_response(200, "fine");
}

#[test]
fn slowly_sent_header_block_has_the_same_timeout() {
    let upstream = ok_upstream("fine");
    let gateway = start_with_short_header_timeout(Gateway::with_upstream(&upstream));
    let mut raw = RawH2Client::connect(gateway.h2_address(), &[], &[]);
    raw.read_until(frame_type::SETTINGS);
    let started = Instant::now();
    raw.send(encode_frame(frame_type::HEADERS, END_STREAM, 1, []));
    let mut slow_writer = raw.stream.try_clone().unwrap();
    let fragment = encode_frame(frame_type::CONTINUATION, 0, 1, []);
    // Sending them without a pause would be a flood.
    let pause = millis(200);
    let writer_thread = std::thread::spawn(move || {
        while slow_writer.write_all(&fragment).is_ok() {
            std::thread::sleep(pause); // slow client under test
        }
    });
    expect_close(&mut raw);
    assert!(started.elapsed() >= HEADER_TIMEOUT, "{:?}", started.elapsed());
    writer_thread.join().unwrap();
    expect_close_reasons(&gateway, 1);
}

#[test]
fn slow_data_frame_is_not_limited_by_the_header_timeout() {
    let upstream = ok_upstream("fine");
    let gateway = start_with_short_header_timeout(Gateway::with_upstream(&upstream));
    let data = encode_frame(frame_type::DATA, END_STREAM, 1, [b'x'; 64]);
    // Inside the payload, and inside the frame header.
    for split in [40, 2] {
        let mut raw = RawH2Client::connect(gateway.h2_address(), &[], &[]);
        raw.send(encode_frame(frame_type::HEADERS, END_HEADERS, 1, header_block("POST")));
        raw.send(&data[..split]);
        std::thread::sleep(scaled(HEADER_TIMEOUT * 2)); // slow client under test
        raw.send(&data[split..]);
        let head = raw.read_until(frame_type::HEADERS);
        assert_eq!(head.stream, 1);
        assert_eq!(raw.read_until(frame_type::DATA).payload, b"fine");
    }
    expect_close_reasons(&gateway, 0);
}

#[test]
fn pending_request_gets_a_response_before_header_timeout_closes() {
    let gate = Gate::default();
    let upstream = script([
        Step::ReadRequestHead,
        Step::WaitForGate(gate.clone()),
        Step::Write(http_response("200 OK", "fine")),
    ]);
    let gateway = start_with_short_header_timeout(Gateway::with_upstream(&upstream));
    let mut raw = RawH2Client::connect(gateway.h2_address(), &[], &[]);
    let started = Instant::now();
    raw.send(get_frame(1));
    raw.send(encode_frame(frame_type::HEADERS, END_STREAM, 3, []));
    raw.read_until(frame_type::GOAWAY);
    assert!(started.elapsed() >= HEADER_TIMEOUT, "{:?}", started.elapsed());
    gate.open();
    assert_eq!(raw.read_until(frame_type::HEADERS).stream, 1);
    assert_eq!(raw.read_until(frame_type::DATA).payload, b"fine");
    while raw.try_frame().is_some() {}
    expect_close_reasons(&gateway, 1);
}

#[test]
fn connection_over_the_limit_closes_despite_further_requests() {
    let upstream = ok_upstream("fine");
    let gateway = Gateway::with_upstream(&upstream)
        .set("client.max_connections", "1")
        .with_h2c_listener()
        .limit(limit() * 3)
        .start();
    let mut first_client = hold_place(&gateway, 1);
    let mut raw = RawH2Client::connect(gateway.h2_address(), &[], &[]);
    let mut writer = raw.stream.try_clone().unwrap();
    let sender_thread = std::thread::spawn(move || {
        for stream in (1..).step_by(2) {
            if writer.write_all(&get_frame(stream)).is_err() {
                return;
            }
            std::thread::sleep(Duration::from_millis(200)); // the client keeps sending requests
        }
    });
    // It never acknowledges the PING that is sent with GOAWAY.
    assert_eq!(leading_u32(&raw.read_until(frame_type::GOAWAY).payload[4..]), 0);
    let goaway_at = Instant::now();
    while raw.try_frame().is_some() {
        assert!(goaway_at.elapsed() < limit(), "the connection is never closed");
    }
    sender_thread.join().unwrap();
    first_client.get("/").assert_response(200, "fine");
    gateway.expect_metric("closed_without_response_total", &[("cause", "http2_connection_error")], 0.0);
}
