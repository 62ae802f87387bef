//! A client connection at the level of HTTP/2 frames.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

use statusquo::conformance::frames::{
    END_HEADERS, END_STREAM, Frame, PREFACE, encode_frame, frame_type, settings_frame, take_frame,
};
use statusquo::conformance::hpack::encode;

use super::load::limit;

pub struct RawH2Client {
    pub stream: TcpStream,
    received: Vec<u8>,
}

impl RawH2Client {
    /// Sends the preface, SETTINGS and these frames in one write.
    pub fn connect(address: SocketAddr, settings: &[(u16, u32)], frames: &[u8]) -> RawH2Client {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(limit())).unwrap();
        RawH2Client::over(stream, settings, frames)
    }

    /// Sends the preface, SETTINGS and these frames in one write.
    pub fn over(stream: TcpStream, settings: &[(u16, u32)], frames: &[u8]) -> RawH2Client {
        let mut raw = RawH2Client::of(stream);
        raw.send([PREFACE, &settings_frame(settings), frames].concat());
        raw
    }

    /// A connection from which nothing was read yet.
    pub fn of(stream: TcpStream) -> RawH2Client {
        RawH2Client { stream, received: Vec::new() }
    }

    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).unwrap();
    }

    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        self.stream.write_all(bytes.as_ref())
    }

    /// The next frame; `None` at the end of the connection.
    #[track_caller]
    pub fn try_frame(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = take_frame(&mut self.received) {
                return Some(frame);
            }
            let mut piece = [0; 4096];
            match self.stream.read(&mut piece) {
                Ok(0) => return None,
                Ok(size) => self.received.extend_from_slice(&piece[..size]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("no frame: {error}"),
            }
        }
    }

    #[track_caller]
    pub fn next_frame(&mut self) -> Frame {
        self.try_frame().expect("an open connection")
    }

    /// The next frame of this type.
    #[track_caller]
    pub fn read_until(&mut self, kind: u8) -> Frame {
        self.read_until_frame(|frame| frame.frame_type == kind)
    }

    #[track_caller]
    pub fn read_until_frame(&mut self, matches: impl Fn(&Frame) -> bool) -> Frame {
        loop {
            let frame = self.next_frame();
            if matches(&frame) {
                return frame;
            }
        }
    }

    /// Asserts the response `fine` on this stream, and that the connection stays open.
    #[track_caller]
    pub fn expect_fine(&mut self, stream: u32) {
        let data = self.read_until_frame(|frame| {
            assert_ne!(frame.frame_type, frame_type::GOAWAY, "{frame:?}");
            (frame.frame_type, frame.stream) == (frame_type::DATA, stream)
        });
        assert_eq!(data.payload, b"fine");
    }
}

/// The header block of a request.
pub fn request_block(method: &str, path: &str, fields: &[(&str, &str)]) -> Vec<u8> {
    let pseudo =
        [(":method", method), (":scheme", "http"), (":path", path), (":authority", "resources.example")];
    encode(&[&pseudo, fields].concat())
}

/// The HEADERS frame of a GET.
pub fn get_frame(stream: u32) -> Vec<u8> {
    encode_frame(frame_type::HEADERS, END_HEADERS | END_STREAM, stream, request_block("GET", "/", &[]))
}
