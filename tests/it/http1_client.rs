//! An HTTP/1 client that writes raw bytes and reads strictly.
//!
//! Every wait ends at a deadline after connecting, so that no test can hang. Every error response is checked against
//! the contract as it is read, and every status code is counted for comparison with the metrics.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::contract_check::{check_contract, check_local_reply, default_message};
use super::load::limit;
use super::response_reader::{HttpResponse, NoResponse, ResponseEnd, SentRequest, StrictReader};

/// Status codes seen by clients.
pub type StatusTally = Arc<Mutex<BTreeMap<u16, u64>>>;

pub struct Client {
    reader: StrictReader<TcpStream>,
    deadline: Instant,
    tally: StatusTally,
}

impl Client {
    pub fn connect(address: SocketAddr, tally: StatusTally) -> Client {
        let stream = TcpStream::connect_timeout(&address, limit()).expect("the gateway accepts connections");
        stream.set_nodelay(true).unwrap();
        Client { reader: StrictReader::new(stream), deadline: Instant::now() + limit(), tally }
    }

    /// A client over an open connection.
    pub fn over(stream: TcpStream) -> Client {
        stream.set_nodelay(true).unwrap();
        let tally = StatusTally::default();
        Client { reader: StrictReader::new(stream), deadline: Instant::now() + limit(), tally }
    }

    /// Writes all bytes; panics if the gateway does not accept them.
    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).expect("the gateway accepts the client's bytes");
    }

    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.set_timeouts();
        (&self.reader.stream).write_all(bytes.as_ref())
    }

    /// Reads one response and checks it against the contract.
    #[track_caller]
    pub fn read(&mut self, request: SentRequest) -> HttpResponse {
        match self.try_read(request) {
            Ok(response) => response,
            Err(error) => panic!("expected a response to {request:?}, got {error:?}"),
        }
    }

    #[track_caller]
    pub fn try_read(&mut self, request: SentRequest) -> Result<HttpResponse, NoResponse> {
        self.set_timeouts();
        let response = self.reader.read(request)?;
        check_contract(&response, request);
        *self.tally.lock().unwrap().entry(response.status).or_default() += 1;
        Ok(response)
    }

    /// Sends a plain GET request and reads the response.
    #[track_caller]
    pub fn get(&mut self, target: &str) -> HttpResponse {
        self.request("GET", target, "", "")
    }

    /// Sends a request in one write and reads the response. `fields`: lines that end with CRLF. Content-Length is added
    /// for a body.
    #[track_caller]
    pub fn request(&mut self, method: &'static str, target: &str, fields: &str, body: &str) -> HttpResponse {
        let length =
            if body.is_empty() { String::new() } else { format!("content-length: {}\r\n", body.len()) };
        self.exchange(
            SentRequest::Http11(method),
            format!("{method} {target} HTTP/1.1\r\nhost: test\r\n{fields}{length}\r\n{body}"),
        )
    }

    /// Sends raw bytes, reads one response and asserts that no further bytes follow.
    #[track_caller]
    pub fn exchange(&mut self, request: SentRequest, bytes: impl AsRef<[u8]>) -> HttpResponse {
        self.send(bytes);
        let response = self.read(request);
        let surplus = String::from_utf8_lossy(self.reader.unread()).into_owned();
        assert_eq!(surplus, "", "bytes after the response {response:#?}");
        response
    }

    /// Asserts that the gateway closes the connection cleanly without further bytes.
    #[track_caller]
    pub fn expect_close(&mut self) {
        self.set_timeouts();
        assert_eq!(self.reader.read_end(), NoResponse::Closed);
    }

    /// Waits for the end of the connection.
    pub fn read_close(&mut self) -> NoResponse {
        self.set_timeouts();
        self.reader.read_end()
    }

    /// Reads until these bytes have arrived, without consuming them: to act during a response.
    #[track_caller]
    pub fn wait_for(&mut self, bytes: &str) {
        self.set_timeouts();
        self.reader.wait_for(bytes.as_bytes());
    }

    pub fn shutdown_write(&self) {
        self.reader.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// Closes the connection with a reset.
    pub fn reset(self) {
        socket2::SockRef::from(&self.reader.stream).set_linger(Some(Duration::ZERO)).unwrap();
    }

    /// A second handle, to write from another thread.
    pub fn writer(&self) -> TcpStream {
        self.set_timeouts();
        self.reader.stream.try_clone().unwrap()
    }

    fn set_timeouts(&self) {
        let remaining = self.deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        self.reader.stream.set_read_timeout(Some(remaining)).unwrap();
        self.reader.stream.set_write_timeout(Some(remaining)).unwrap();
    }
}

impl HttpResponse {
    /// Panics unless the gateway generated this error with the documented message.
    #[track_caller]
    pub fn assert_local_reply(&self, code: u16) {
        check_local_reply(self, SentRequest::Http11("GET"), code, default_message(code));
    }

    /// Panics unless the gateway generated this error with this message.
    #[track_caller]
    pub fn assert_local_reply_message(&self, code: u16, message: &str) {
        check_local_reply(self, SentRequest::Http11("GET"), code, message);
    }

    /// Panics unless this is a complete response with this status code and body.
    #[track_caller]
    pub fn assert_response(&self, status: u16, body: &str) {
        assert_eq!(
            (self.status, self.text().as_str(), self.end),
            (status, body, ResponseEnd::Complete),
            "{self:#?}"
        );
    }
}
