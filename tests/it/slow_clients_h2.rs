//! Regression tests for attacks over HTTP/2, one test each.
//!
//! The frames are written and read at the byte level. Cases that fit a fault table or another file are there.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use statusquo::conformance::frames::{
    self, END_HEADERS, END_STREAM, Frame, PREFACE, encode_frame, frame_type, rst_stream_frame, setting_id,
    settings_frame, window_update_frame,
};
use statusquo::conformance::hpack::HeaderList;

use super::gateway::Gateway;
use super::h2_upstream::RawH2Server;
use super::http2_upstream::raw_server_setup;
use super::load::limit;
use super::scripted_upstreams::ok_upstream;

const CANCEL: u32 = 8;

/// A connection that has sent these frames in one write.
struct FrameClient {
    stream: TcpStream,
    received: Vec<u8>,
}

impl FrameClient {
    fn connect_and_send(address: SocketAddr, frames: &[Vec<u8>]) -> FrameClient {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(limit())).unwrap();
        stream.write_all(&[PREFACE, &settings_frame(&[]), &frames.concat()].concat()).unwrap();
        FrameClient { stream, received: Vec::new() }
    }

    fn next_frame(&mut self) -> Frame {
        loop {
            if let Some(frame) = frames::take_frame(&mut self.received) {
                return frame;
            }
            let mut piece = [0; 4096];
            let read = self.stream.read(&mut piece).expect("a frame in time");
            assert!(read > 0, "the connection has ended");
            self.received.extend_from_slice(&piece[..read]);
        }
    }
}

fn headers_frame(stream: u32, method: &str, path: &str, length: Option<&str>) -> Vec<u8> {
    let list = HeaderList::default()
        .with(":method", method)
        .with(":scheme", "http")
        .with(":path", path)
        .with(":authority", "test");
    let (list, ends) = match length {
        Some(length) => (list.with("content-length", length), 0),
        None => (list, END_STREAM),
    };
    encode_frame(frame_type::HEADERS, END_HEADERS | ends, stream, list.encode())
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
    let mut client = FrameClient::connect_and_send(gateway.h2_address(), &frames);
    loop {
        let frame = client.next_frame();
        assert_ne!(frame.frame_type, frame_type::GOAWAY, "{frame:?}");
        if (frame.frame_type, frame.stream) == (frame_type::DATA, 201) {
            assert_eq!(frame.payload, b"fine");
            break;
        }
    }
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
    let mut client = FrameClient::connect_and_send(gateway.h2_address(), &frames);
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
    let mut client = FrameClient::connect_and_send(gateway.h2_address(), &frames);
    for stream in [3, 1] {
        loop {
            let frame = client.next_frame();
            assert_ne!(frame.frame_type, frame_type::GOAWAY, "{frame:?}");
            if (frame.frame_type, frame.stream) == (frame_type::DATA, stream) {
                assert_eq!(frame.payload, b"fine");
                break;
            }
        }
    }
    gateway.expect_metric("responses_total", &[("code", "200")], 2.0);
    gateway.expect_metric("closed_without_response_total", &[], 0.0);
}
