//! Regression tests for attacks over HTTP/2, one test each.
//!
//! The frames are written and read at the byte level. Cases that fit a fault table or another file are there.

use statusquo::conformance::frames::{
    END_HEADERS, END_STREAM, encode_frame, frame_type, rst_stream_frame, setting_id, window_update_frame,
};

use super::h2_upstream::RawH2Server;
use super::http2_upstream::raw_server_setup;
use super::prelude::*;
use super::raw_h2_client::{RawH2Client, request_block};

const CANCEL: u32 = 8;

fn headers_frame(stream: u32, method: &str, path: &str, length: Option<&str>) -> Vec<u8> {
    let fields: Vec<_> = length.map(|length| ("content-length", length)).into_iter().collect();
    let ends = if length.is_none() { END_STREAM } else { 0 };
    let block = request_block(method, path, &fields);
    encode_frame(frame_type::HEADERS, END_HEADERS | ends, stream, block)
}

#[test]
fn client_cancelling_all_streams_at_once_keeps_its_connection() {
    let upstream = ok_upstream("fine");
    let gateway = Gateway::with_upstream(&upstream).with_h2c_listener().start();
    let mut frames: Vec<Vec<u8>> = Vec::new();
    for stream in (1..201).step_by(2) {
        frames.extend([headers_frame(stream, "GET", "/", None), rst_stream_frame(stream, CANCEL)]);
    }
    frames.push(headers_frame(201, "GET", "/", None));
    RawH2Client::connect(gateway.h2_address(), &[], &frames.concat()).expect_fine(201);
    let labels = [("cause", "http2_connection_error")];
    gateway.expect_metric("closed_without_response_total", &labels, 0.0);
}

#[test]
fn malformed_stream_counts_neither_as_response_nor_as_client_disconnect() {
    let upstream = ok_upstream("fine");
    let gateway = Gateway::with_upstream(&upstream)
        .route("name: other, match: { path: /other }, upstream: main")
        .with_h2c_listener()
        .start();
    let mut frames: Vec<Vec<u8>> = Vec::new();
    for stream in (1..41).step_by(2) {
        frames.extend([
            headers_frame(stream, "POST", "/nowhere", Some("5")),
            encode_frame(frame_type::DATA, END_STREAM, stream, b"four"),
        ]);
    }
    let mut client = RawH2Client::connect(gateway.h2_address(), &[], &frames.concat());
    let mut resets = 0;
    while resets < 20 {
        let frame = client.next_frame();
        assert_ne!(frame.frame_type, frame_type::HEADERS, "{frame:?}");
        resets += usize::from(frame.frame_type == frame_type::RST_STREAM);
    }
    drop(client);
    let address = gateway.h2_address().to_string();
    gateway.wait_for_metric(limit(), "connections", &[("listener", &address)], 0.0);
    gateway.expect_metric("closed_without_response_total", &[("cause", "http2_stream_error")], 20.0);
    gateway.expect_metric("closed_without_response_total", &[], 20.0);
    gateway.expect_metric("aborted_total", &[], 0.0);
    gateway.expect_metric("responses_total", &[], 0.0);
}

/// gRPC clients send each message in its own frame, as far as the windows allow.
#[test]
fn small_data_frames_are_accepted_while_the_upstream_does_not_read() {
    let upstream = RawH2Server::with_script(|connection| {
        connection.read_preface()?;
        connection.send_settings(&[(setting_id::INITIAL_WINDOW_SIZE, 0)])?;
        // In either order.
        let (mut upload, mut other) = (0, 0);
        while upload == 0 || other == 0 {
            match connection.next_frame()? {
                (frame_type::HEADERS, flags, stream) if flags & END_STREAM == 0 => upload = stream,
                (frame_type::HEADERS, _, stream) => other = stream,
                _ => {}
            }
        }
        connection.send_ok_response(other)?;
        connection.write(&window_update_frame(upload, 1 << 20))?;
        while connection.next_frame()? != (frame_type::DATA, END_STREAM, upload) {}
        connection.send_ok_response(upload)?;
        connection.read_until_closed()
    });
    let gateway = raw_server_setup(&upstream).with_h2c_listener().start();
    let message = encode_frame(frame_type::DATA, 0, 1, [b'm'; 10]);
    let frames = [
        headers_frame(1, "POST", "/", Some("50000")),
        message.repeat(4999),
        encode_frame(frame_type::DATA, END_STREAM, 1, [b'm'; 10]),
        headers_frame(3, "GET", "/", None),
    ];
    let mut client = RawH2Client::connect(gateway.h2_address(), &[], &frames.concat());
    for stream in [3, 1] {
        client.expect_fine(stream);
    }
    gateway.expect_metric("responses_total", &[("code", "200")], 2.0);
    gateway.expect_metric("closed_without_response_total", &[], 0.0);
}
