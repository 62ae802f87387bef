//! An HTTP/2 upstream sends a complete response during the upload, then ends the stream or the connection in each way
//! that servers use. The response must arrive complete.
//!
//! [`super::http2_upstream`] covers faults inside a response, [`super::uploads`] early responses on HTTP/1.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use bytes::Bytes;

use super::h2_upstream::{RST_STREAM, RawH2Connection, RawH2Server};
use super::http2_upstream::raw_server_setup;
use super::prelude::*;
use super::response_reader::StrictReader;

/// How a server ends a stream or connection whose request it does not read further.
#[derive(Clone, Copy, Debug)]
enum EarlyEnd {
    Reset(u8),
    GoAway(u32),
    GoAwayAndClose(u32),
    Close,
    /// Closes with unread data, like a crashed process: the kernel discards unsent data.
    CloseAbruptly,
}

const EARLY_ENDS: [EarlyEnd; 10] = [
    EarlyEnd::Reset(0),
    EarlyEnd::Reset(2),
    EarlyEnd::Reset(8),
    EarlyEnd::GoAway(0),
    EarlyEnd::GoAway(2),
    EarlyEnd::GoAwayAndClose(0),
    EarlyEnd::GoAwayAndClose(2),
    EarlyEnd::GoAwayAndClose(11),
    EarlyEnd::Close,
    EarlyEnd::CloseAbruptly,
];

impl EarlyEnd {
    fn run(self, connection: &mut RawH2Connection, stream: u32) -> Option<()> {
        match self {
            EarlyEnd::Reset(code) => {
                connection.send_frame(RST_STREAM, 0, stream, &[0, 0, 0, code])?;
                connection.read_until_closed()
            }
            EarlyEnd::GoAway(code) => {
                connection.send_goaway(stream, code)?;
                connection.read_until_closed()
            }
            EarlyEnd::GoAwayAndClose(code) => {
                connection.send_goaway(stream, code)?;
                connection.shutdown_and_drain()
            }
            EarlyEnd::Close => connection.shutdown_and_drain(),
            EarlyEnd::CloseAbruptly => Some(()),
        }
    }
}

/// Responds with this many bytes as soon as the request headers have arrived.
fn early_responder(length: usize, end: EarlyEnd) -> RawH2Server {
    RawH2Server::with_script(move |connection| {
        connection.read_preface()?;
        connection.send_settings(&[])?;
        let stream = connection.next_request()?;
        connection.send_ok_headers(stream, length == 0)?;
        connection.send_body(stream, length)?;
        end.run(connection, stream)
    })
}

fn start_gateway(upstream: &RawH2Server) -> Gateway {
    let setup: GatewaySetup = raw_server_setup(upstream);
    setup.with_h2c_listener().start()
}

#[test]
fn early_response_arrives_complete_however_the_server_closes() {
    let mut failures = Vec::new();
    for end in EARLY_ENDS {
        let large = if matches!(end, EarlyEnd::CloseAbruptly) { 4000 } else { 200_000 };
        for length in [0, 4, large] {
            let upstream = early_responder(length, end);
            let gateway = start_gateway(&upstream);
            let upload = Bytes::from(vec![0; 1_000_000]);
            let by_http2 =
                gateway.h2_client().try_request("POST", "/", &[], upload).map_err(|error| error.to_string());
            let upstream = early_responder(length, end);
            let other = self::start_gateway(&upstream);
            let mut client = other.client();
            client.send("POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 9\r\n\r\n");
            let by_http1 = client.read(SentRequest::Http11("POST"));
            for (version, response) in [(2, by_http2), (1, Ok(by_http1))] {
                let outcome = response.map(|response| (response.status, response.body.len(), response.end));
                if outcome != Ok((200, length, ResponseEnd::Complete)) {
                    failures.push(format!("{length} bytes, {end:?}, HTTP/{version} client: {outcome:?}"));
                }
            }
        }
    }
    assert!(failures.is_empty(), "{} responses are truncated:\n{}", failures.len(), failures.join("\n"));
}

/// The time is that after the request was sent, like `timeouts.response_headers`; the upload does not count.
#[test]
fn early_response_was_not_waited_for() {
    let upstream = early_responder(4, EarlyEnd::Reset(0));
    let gateway = raw_server_setup(&upstream).set("log.requests", "all").start();
    let mut client = gateway.client();
    client.send("POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 9\r\n\r\n");
    client.read(SentRequest::Http11("POST")).assert_response(200, "xxxx");
    let line = gateway.log_line(|line| line["code"] == 200);
    assert_eq!(
        (&line["response_headers_ms"], &line["request_sent"]),
        (&0.into(), &"partial".into()),
        "{line:#}"
    );
}

/// The gateway buffers the rest of the response for as long as the client needs.
#[test]
fn early_response_arrives_complete_at_a_slow_reading_client() {
    let mut failures = Vec::new();
    for end in EARLY_ENDS.into_iter().filter(|end| !matches!(end, EarlyEnd::CloseAbruptly)) {
        let upstream = early_responder(200_000, end);
        let gateway = start_gateway(&upstream);
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        socket.connect(&gateway.address().into()).unwrap();
        let mut client = TcpStream::from(socket);
        client.set_read_timeout(Some(limit())).unwrap();
        client.write_all(b"POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 9\r\n\r\n").unwrap();
        let mut slow = SlowReader(client);
        let response = StrictReader::new(&mut slow).read(SentRequest::Http11("POST")).unwrap();
        let outcome = (response.status, response.body.len(), response.end);
        if outcome != (200, 200_000, ResponseEnd::Complete) {
            failures.push(format!("{end:?}: {outcome:?}"));
        }
    }
    assert!(failures.is_empty(), "{} responses are truncated:\n{}", failures.len(), failures.join("\n"));
}

struct SlowReader(TcpStream);

impl Read for SlowReader {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        std::thread::sleep(Duration::from_millis(2)); // slow client under test
        let limit = buffer.len().min(2048);
        self.0.read(&mut buffer[..limit])
    }
}
