//! A client that writes raw bytes and reads strictly.
//!
//! Every wait ends at a deadline behind the connecting, so that no test can hang. Each error answer is held to the
//! promise as it is read, whatever the test looks at, and each status is counted for the accounting tests.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::load::limit;
use super::promise::{check_contract, check_made, text_of};
use super::reader::{Answer, Asked, Ended, Reader, Unanswered};

/// Statuses that clients saw.
pub type Tally = Arc<Mutex<BTreeMap<u16, u64>>>;

/// One connection.
pub struct Client {
    reader: Reader<TcpStream>,
    deadline: Instant,
    tally: Tally,
}

impl Client {
    pub fn connect(address: SocketAddr, tally: Tally) -> Client {
        let stream = TcpStream::connect_timeout(&address, limit()).expect("the gateway accepts connections");
        stream.set_nodelay(true).unwrap();
        Client { reader: Reader::new(stream), deadline: Instant::now() + limit(), tally }
    }

    /// Writes all of it; panics when the gateway does not take it.
    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).expect("the gateway takes the client's bytes");
    }

    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.limit();
        (&self.reader.stream).write_all(bytes.as_ref())
    }

    /// Reads one answer and holds it to the promise.
    #[track_caller]
    pub fn read(&mut self, asked: Asked) -> Answer {
        match self.try_read(asked) {
            Ok(answer) => answer,
            Err(none) => panic!("expected an answer to {asked:?}, got {none:?}"),
        }
    }

    #[track_caller]
    pub fn try_read(&mut self, asked: Asked) -> Result<Answer, Unanswered> {
        self.limit();
        let answer = self.reader.read(asked)?;
        check_contract(&answer, asked);
        *self.tally.lock().unwrap().entry(answer.status).or_default() += 1;
        Ok(answer)
    }

    /// GET with nothing special; the connection stays as it is.
    #[track_caller]
    pub fn get(&mut self, target: &str) -> Answer {
        self.ask("GET", target, "", "")
    }

    /// A whole request in one write. `fields`: lines that end with CRLF. A Content-Length is added when there is a body.
    #[track_caller]
    pub fn ask(&mut self, method: &'static str, target: &str, fields: &str, body: &str) -> Answer {
        let length =
            if body.is_empty() { String::new() } else { format!("content-length: {}\r\n", body.len()) };
        self.exchange(
            Asked::Http11(method),
            format!("{method} {target} HTTP/1.1\r\nhost: test\r\n{fields}{length}\r\n{body}"),
        )
    }

    /// Sends raw bytes, reads one answer and sees that nothing else came with it.
    #[track_caller]
    pub fn exchange(&mut self, asked: Asked, bytes: impl AsRef<[u8]>) -> Answer {
        self.send(bytes);
        let answer = self.read(asked);
        let surplus = String::from_utf8_lossy(self.reader.surplus()).into_owned();
        assert_eq!(surplus, "", "bytes after the answer {answer:#?}");
        answer
    }

    /// The gateway ends the connection, cleanly and without a further byte.
    #[track_caller]
    pub fn expect_close(&mut self) {
        self.limit();
        assert_eq!(self.reader.read_end(), Unanswered::Closed);
    }

    /// How the connection ends, if it does.
    pub fn end(&mut self) -> Unanswered {
        self.limit();
        self.reader.read_end()
    }

    /// Reads until these bytes are there, without taking any: to act while an answer is under way.
    #[track_caller]
    pub fn wait_for(&mut self, bytes: &str) {
        self.limit();
        self.reader.wait_for(bytes.as_bytes());
    }

    /// Shuts down the sending side.
    pub fn finish_sending(&self) {
        self.reader.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// Ends the connection with a reset.
    pub fn reset(self) {
        socket2::SockRef::from(&self.reader.stream).set_linger(Some(Duration::ZERO)).unwrap();
    }

    /// A second handle, to write from another thread while this one reads.
    pub fn writer(&self) -> TcpStream {
        self.limit();
        self.reader.stream.try_clone().unwrap()
    }

    fn limit(&self) {
        let left = self.deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        self.reader.stream.set_read_timeout(Some(left)).unwrap();
        self.reader.stream.set_write_timeout(Some(left)).unwrap();
    }
}

impl Answer {
    /// Panics unless the gateway made this error with the text of its code.
    #[track_caller]
    pub fn is_made(&self, code: u16) {
        check_made(self, Asked::Http11("GET"), code, text_of(code));
    }

    /// Panics unless the gateway made this error with this message.
    #[track_caller]
    pub fn is_made_saying(&self, code: u16, message: &str) {
        check_made(self, Asked::Http11("GET"), code, message);
    }

    /// Panics unless this is a whole answer with this status and body.
    #[track_caller]
    pub fn is(&self, status: u16, body: &str) {
        assert_eq!(
            (self.status, self.text().as_str(), self.ended),
            (status, body, Ended::Complete),
            "{self:#?}"
        );
    }
}
