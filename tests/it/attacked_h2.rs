//! What attacks over HTTP/2 have found, one scenario for each: none of it may come back.
//!
//! The frames are written by hand and read as they come. Where a finding belongs to a table or a file of its own, it stands
//! there.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use statusquo::rehearse::frames::{
    self, END_HEADERS, END_STREAM, Frame, PREFACE, encode_frame, frame_type, rst_stream_frame, setting_id,
    settings_frame, window_update_frame,
};
use statusquo::rehearse::hpack::HeaderList;

use super::gateway::Gateway;
use super::h2_upstream::Raw;
use super::http2_upstream::before;
use super::load::limit;
use super::upstreams::ok;

const CANCEL: u32 = 8;

/// A connection that has said all of this in one breath.
struct Talker {
    stream: TcpStream,
    come: Vec<u8>,
}

impl Talker {
    fn saying(address: SocketAddr, frames: &[Vec<u8>]) -> Talker {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(limit())).unwrap();
        stream.write_all(&[PREFACE, &settings_frame(&[]), &frames.concat()].concat()).unwrap();
        Talker { stream, come: Vec::new() }
    }

    fn next(&mut self) -> Frame {
        loop {
            if let Some(frame) = frames::take_frame(&mut self.come) {
                return frame;
            }
            let mut piece = [0; 4096];
            let read = self.stream.read(&mut piece).expect("a frame in time");
            assert!(read > 0, "the connection has ended");
            self.come.extend_from_slice(&piece[..read]);
        }
    }
}

fn head(stream: u32, method: &str, path: &str, length: Option<&str>) -> Vec<u8> {
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
fn a_client_may_cancel_everything_at_once_and_go_on() {
    let upstream = ok("fine");
    let gateway = Gateway::in_front_of(&upstream).h2c().start();
    let mut said: Vec<Vec<u8>> = Vec::new();
    for stream in (1..201).step_by(2) {
        said.extend([head(stream, "GET", "/", None), rst_stream_frame(stream, CANCEL)]);
    }
    said.push(head(201, "GET", "/", None));
    let mut client = Talker::saying(gateway.h2_address(), &said);
    loop {
        let frame = client.next();
        assert_ne!(frame.frame_type, frame_type::GOAWAY, "{frame:?}");
        if (frame.frame_type, frame.stream) == (frame_type::DATA, 201) {
            assert_eq!(frame.payload, b"fine");
            break;
        }
    }
    let broken = [("cause", "http2_connection_error")];
    gateway.expect_metric("closed_without_response_total", &broken, 0.0);
}

#[test]
fn a_malformed_stream_that_needs_no_upstream_is_no_answer_and_no_client_that_left() {
    let upstream = ok("fine");
    let gateway = Gateway::in_front_of(&upstream)
        .route("name: other, match: { path: /other }, upstream: main")
        .h2c()
        .start();
    let mut said: Vec<Vec<u8>> = Vec::new();
    for stream in (1..41).step_by(2) {
        said.extend([
            head(stream, "POST", "/nowhere", Some("5")),
            encode_frame(frame_type::DATA, END_STREAM, stream, b"four"),
        ]);
    }
    let mut client = Talker::saying(gateway.h2_address(), &said);
    let mut resets = 0;
    while resets < 20 {
        let frame = client.next();
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

/// As programs do that call with a stream of messages (gRPC): each in a frame of its own, as far as the windows go.
#[test]
fn a_client_may_send_small_messages_while_the_upstream_takes_none() {
    let upstream = Raw::playing(|connection| {
        connection.preface()?;
        connection.greet(&[(setting_id::INITIAL_WINDOW_SIZE, 0)])?;
        // In either order.
        let (mut upload, mut beside) = (0, 0);
        while upload == 0 || beside == 0 {
            match connection.next()? {
                (frame_type::HEADERS, flags, stream) if flags & END_STREAM == 0 => upload = stream,
                (frame_type::HEADERS, _, stream) => beside = stream,
                _ => {}
            }
        }
        connection.fine(beside)?;
        connection.say(&window_update_frame(upload, 1 << 20))?;
        while connection.next()? != (frame_type::DATA, END_STREAM, upload) {}
        connection.fine(upload)?;
        connection.until_closed()
    });
    let gateway = before(&upstream).h2c().start();
    let message = encode_frame(frame_type::DATA, 0, 1, [b'm'; 10]);
    let said = [
        head(1, "POST", "/", Some("50000")),
        message.repeat(4999),
        encode_frame(frame_type::DATA, END_STREAM, 1, [b'm'; 10]),
        head(3, "GET", "/", None),
    ];
    let mut client = Talker::saying(gateway.h2_address(), &said);
    for stream in [3, 1] {
        loop {
            let frame = client.next();
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
