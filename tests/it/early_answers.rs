//! A whole answer of an HTTP/2 upstream while the request's body is still on its way, and then the stream, or the
//! connection, ends in each of the ways in which servers end it: the answer must arrive whole.
//!
//! What breaks inside an answer is in [`super::http2_upstream`]; early answers on HTTP/1 are in [`super::uploads`].

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use bytes::Bytes;

use super::gateway::{Gateway, Setup};
use super::h2_upstream::{RST_STREAM, Raw, RawConnection};
use super::http2_upstream::before;
use super::load::limit;
use super::reader::{Asked, Ended, Reader};

/// How a server ends what it need not hear any more of.
#[derive(Clone, Copy, Debug)]
enum Behind {
    Reset(u8),
    GoAway(u32),
    GoAwayAndClose(u32),
    Close,
    /// Closes although not all was read, as crashed processes do: what the kernel has not sent by then is lost.
    Abandon,
}

const WAYS: [Behind; 10] = [
    Behind::Reset(0),
    Behind::Reset(2),
    Behind::Reset(8),
    Behind::GoAway(0),
    Behind::GoAway(2),
    Behind::GoAwayAndClose(0),
    Behind::GoAwayAndClose(2),
    Behind::GoAwayAndClose(11),
    Behind::Close,
    Behind::Abandon,
];

impl Behind {
    fn play(self, connection: &mut RawConnection, stream: u32) -> Option<()> {
        match self {
            Behind::Reset(code) => {
                connection.frame(RST_STREAM, 0, stream, &[0, 0, 0, code])?;
                connection.until_closed()
            }
            Behind::GoAway(code) => {
                connection.go_away(stream, code)?;
                connection.until_closed()
            }
            Behind::GoAwayAndClose(code) => {
                connection.go_away(stream, code)?;
                connection.finish()
            }
            Behind::Close => connection.finish(),
            Behind::Abandon => Some(()),
        }
    }
}

/// Answers each request as soon as its head is there, with so many bytes.
fn hasty(length: usize, behind: Behind) -> Raw {
    Raw::playing(move |connection| {
        connection.preface()?;
        connection.greet(&[])?;
        let stream = connection.request()?;
        connection.ok_head(stream, length == 0)?;
        connection.body(stream, length)?;
        behind.play(connection, stream)
    })
}

fn gateway(upstream: &Raw) -> Gateway {
    let setup: Setup = before(upstream);
    setup.h2c().start()
}

#[test]
fn a_whole_early_answer_arrives_whole_however_the_server_ends_its_side() {
    let mut cut = Vec::new();
    for behind in WAYS {
        let large = if matches!(behind, Behind::Abandon) { 4000 } else { 200_000 };
        for length in [0, 4, large] {
            let upstream = hasty(length, behind);
            let gateway = gateway(&upstream);
            let upload = Bytes::from(vec![0; 1_000_000]);
            let by_http2 =
                gateway.h2_client().try_ask("POST", "/", &[], upload).map_err(|error| error.to_string());
            let upstream = hasty(length, behind);
            let other = self::gateway(&upstream);
            let mut client = other.client();
            client.send("POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 9\r\n\r\n");
            let by_http1 = client.read(Asked::Http11("POST"));
            for (version, answer) in [(2, by_http2), (1, Ok(by_http1))] {
                let told = answer.map(|answer| (answer.status, answer.body.len(), answer.ended));
                if told != Ok((200, length, Ended::Complete)) {
                    cut.push(format!("{length} bytes, {behind:?}, client of HTTP/{version}: {told:?}"));
                }
            }
        }
    }
    assert!(cut.is_empty(), "{} answers are cut:\n{}", cut.len(), cut.join("\n"));
}

/// What the server has ended lies in the gateway for as long as the client needs.
#[test]
fn a_whole_early_answer_arrives_whole_at_a_client_that_reads_slowly() {
    let mut cut = Vec::new();
    for behind in WAYS.into_iter().filter(|behind| !matches!(behind, Behind::Abandon)) {
        let upstream = hasty(200_000, behind);
        let gateway = gateway(&upstream);
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        socket.connect(&gateway.address().into()).unwrap();
        let mut client = TcpStream::from(socket);
        client.set_read_timeout(Some(limit())).unwrap();
        client.write_all(b"POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 9\r\n\r\n").unwrap();
        let mut slow = Slowly(client);
        let answer = Reader::new(&mut slow).read(Asked::Http11("POST")).unwrap();
        let told = (answer.status, answer.body.len(), answer.ended);
        if told != (200, 200_000, Ended::Complete) {
            cut.push(format!("{behind:?}: {told:?}"));
        }
    }
    assert!(cut.is_empty(), "{} answers are cut:\n{}", cut.len(), cut.join("\n"));
}

struct Slowly(TcpStream);

impl Read for Slowly {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        std::thread::sleep(Duration::from_millis(2)); // the slow client is what is tested
        let most = buffer.len().min(2048);
        self.0.read(&mut buffer[..most])
    }
}
