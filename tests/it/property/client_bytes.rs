//! One client-side case: arbitrary bytes on one connection to the gateway, with a correct upstream.
//!
//! Input that the strict reader parses as a request may be served or rejected. A request that is invalid but ends where
//! its framing says must be rejected. Any other input must be rejected and the connection closed. Every close without a
//! response must follow from what the client sent.

use std::io::Write;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::super::load::limit;
use super::super::response_reader::{HttpResponse, NoResponse, ResponseEnd, SentRequest, StrictReader};
use super::generators::{self, Fragment};
use super::observed::{ClientCounts, ObservedResponses};
use super::random::SeededRandom;
use super::request_reader::{MessageSource, ParsedRequest, ReadResult, read};
use super::runner::Property;
use super::upstream_bytes::{SHORTEST_TIMEOUT, check_response, describe};

/// The gateway and the client-side counts.
pub struct ClientProperty<'a> {
    pub gateway: SocketAddr,
    pub observed: &'a ObservedResponses,
}

/// How the client ends the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientClose {
    /// Shuts down its sending side after all responses.
    AfterResponses,
    /// Shuts down its sending side immediately, and reads.
    HalfClose,
    /// Never closes by itself.
    Never,
    /// Resets the connection without reading.
    Reset,
}

/// Bytes of the client.
#[derive(Clone, Debug)]
pub struct ClientCase {
    pub pieces: Vec<Fragment>,
    pub ending: ClientClose,
}

impl Property for ClientProperty<'_> {
    type Case = ClientCase;

    fn make(&self, _: u64, random: &mut SeededRandom) -> ClientCase {
        let client_close = match random.below(100) {
            0..60 => ClientClose::AfterResponses,
            60..88 => ClientClose::HalfClose,
            88..92 => ClientClose::Never,
            _ => ClientClose::Reset,
        };
        ClientCase {
            pieces: generators::requests(random, if client_close == ClientClose::Reset { 1 } else { 4 }),
            ending: client_close,
        }
    }

    fn check(&self, _: u64, case: &ClientCase) -> Result<(), String> {
        let writes = generators::writes(&case.pieces);
        let sent = writes.concat();
        let stream = connect(self.gateway).map_err(|e| e.to_string())?;
        for write in &writes {
            // A write fails if the request was rejected early.
            let _ = (&stream).write_all(write);
        }
        if case.ending == ClientClose::Reset {
            let max_requests = parse_all(&sent).len() as u64;
            self.observed.update(|sums| {
                sums.uncertain.0 += 1;
                sums.uncertain.1 += max_requests.max(1);
            });
            return socket2::SockRef::from(&stream)
                .set_linger(Some(Duration::ZERO))
                .map_err(|e| e.to_string());
        }
        exchange(stream, &sent, case.ending, self.observed).map(drop)
    }

    fn shrink(case: &ClientCase) -> Vec<ClientCase> {
        let smaller = generators::without_one(&case.pieces);
        smaller.into_iter().map(|pieces| ClientCase { pieces, ..case.clone() }).collect()
    }

    fn render(case: &ClientCase) -> String {
        format!("client bytes:\n{}client close: {:?}\n", generators::show(&case.pieces), case.ending)
    }
}

pub fn connect(gateway: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&gateway, limit())?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(limit()))?;
    Ok(stream)
}

/// Parses the client's bytes: complete requests, and possibly something else at the end.
pub fn parse_all(sent: &[u8]) -> Vec<ReadResult> {
    let mut found = Vec::new();
    let mut remaining = sent;
    // A run of CR and LF is no request.
    while remaining.iter().any(|byte| !matches!(byte, b'\r' | b'\n')) {
        let one = read(remaining, MessageSource::Client);
        let length = if let ReadResult::Complete(_, _, length) = &one { *length } else { remaining.len() };
        found.push(one);
        remaining = &remaining[length..];
    }
    found
}

/// Reads all responses until the end of the connection.
pub fn exchange(
    stream: TcpStream,
    sent: &[u8],
    client_close: ClientClose,
    observed: &ObservedResponses,
) -> Result<Vec<HttpResponse>, String> {
    if client_close == ClientClose::HalfClose {
        let _ = stream.shutdown(Shutdown::Write);
    }
    let mut reader = StrictReader::allowing_any_headers(stream);
    let mut responses = Vec::new();
    let requests = parse_all(sent);
    for request in &requests {
        let sent_request = request_of(request, sent);
        let started = Instant::now();
        let response = match reader.read(sent_request) {
            Ok(response) => response,
            // A client that has shut down its sending side counts as disconnected while its request is at the upstream,
            // but not if its bytes are not a request: the gateway rejects these.
            Err(NoResponse::Closed | NoResponse::Reset)
                if client_close == ClientClose::HalfClose && matches!(request, ReadResult::Complete(..)) =>
            {
                observed.update(|sums| sums.unanswered += 1);
                return Ok(responses);
            }
            Err(error) => return Err(format!("no response to request {}: {error:?}", responses.len() + 1)),
        };
        observed.record(&response);
        check_response(&response, sent_request)?;
        // On a busy machine a timeout may expire although no peer is slow.
        let timed_out = matches!(response.status, 400 | 504) && started.elapsed() >= SHORTEST_TIMEOUT;
        if !timed_out {
            check_against_request(request, &response, client_close, seems_grpc(sent))?;
        }
        let (usable, was_cut) = (response.connection_usable, response.end != ResponseEnd::Complete);
        responses.push(response);
        if !usable {
            return match reader.read_end() {
                NoResponse::Closed => Ok(responses),
                NoResponse::Reset if was_cut => Ok(responses),
                // Rejected for bytes before its HEAD, perhaps before HEAD arrived: then the response has a body.
                NoResponse::Malformed(_) if sent_request.is_head() && !begins_with_head(sent) => {
                    Ok(responses)
                }
                other => Err(format!("after a response with Connection: close: {other:?}")),
            };
        }
    }
    if client_close == ClientClose::AfterResponses {
        let _ = reader.stream.shutdown(Shutdown::Write);
    }
    match reader.read_end() {
        NoResponse::Closed => {}
        other => return Err(format!("after the last response: {other:?}")),
    }
    // A body that is still incomplete after the response also ends its connection.
    let clear = requests.iter().all(|request| matches!(request, ReadResult::Complete(..)));
    observed.update(|sums: &mut ClientCounts| {
        sums.idle += u64::from(client_close == ClientClose::Never && clear);
        sums.no_request += u64::from(client_close != ClientClose::Never && requests.is_empty());
    });
    Ok(responses)
}

fn request_of(request: &ReadResult, sent: &[u8]) -> SentRequest {
    match request {
        ReadResult::Complete(head, ..)
        | ReadResult::IncompleteBody(head)
        | ReadResult::MalformedBody(head, _) => request_from_head(head),
        // A response to HEAD has no body, even if the rest of the header section is malformed.
        ReadResult::Incomplete | ReadResult::Malformed(_) => {
            let remaining = unparsed(sent);
            SentRequest::Http11(if remaining.trim_ascii_start().starts_with(b"HEAD ") {
                "HEAD"
            } else {
                "GET"
            })
        }
    }
}

/// The malformed rest begins with HEAD, possibly after empty lines.
fn begins_with_head(sent: &[u8]) -> bool {
    let remaining = unparsed(sent);
    let blank = remaining.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
    remaining[blank..].starts_with(b"HEAD ")
}

/// The bytes after the complete requests.
fn unparsed(sent: &[u8]) -> &[u8] {
    let mut remaining = sent;
    while let ReadResult::Complete(_, _, length) = read(remaining, MessageSource::Client) {
        remaining = &remaining[length..];
    }
    remaining
}

fn request_from_head(head: &ParsedRequest) -> SentRequest {
    match (head.method == "HEAD", head.http10) {
        (true, false) => SentRequest::Http11("HEAD"),
        (false, false) => SentRequest::Http11("GET"),
        (true, true) => SentRequest::Http10("HEAD"),
        (false, true) => SentRequest::Http10("GET"),
    }
}

/// `OPTIONS *` matches no route.
fn reaches_no_route(head: &ParsedRequest) -> bool {
    head.target == "*" || !head.target.starts_with('/')
}

/// A malformed request may still have the content type of gRPC.
fn seems_grpc(sent: &[u8]) -> bool {
    let remaining = String::from_utf8_lossy(unparsed(sent)).to_ascii_lowercase();
    let has_line = |line: &str| {
        let value = line.strip_prefix("content-type:");
        value.is_some_and(|value| value.trim_start_matches([' ', '\t']).starts_with("application/grpc"))
    };
    remaining.trim_start().starts_with("post ") && remaining.split('\n').any(has_line)
}

fn is_grpc(head: &ParsedRequest) -> bool {
    let grpc =
        |(name, value): &(String, Vec<u8>)| name == "content-type" && value.starts_with(b"application/grpc");
    head.method == "POST" && head.headers.iter().any(grpc)
}

/// The status code, or for gRPC the one that corresponds to grpc-status.
fn effective_status(grpc: bool, response: &HttpResponse) -> u16 {
    if !grpc || response.status != 200 {
        return response.status;
    }
    match response.header("grpc-status") {
        None => 200,
        Some(_) if !response.body.is_empty() => 0,
        Some("3" | "8") => 400,
        // A timeout of the client or of the upstream.
        Some("4") if response.header("grpc-message") == Some("The request was not received in time.") => 400,
        Some("10") => 409,
        Some("12") => 404,
        Some("4" | "13" | "14") => 504,
        Some(_) => 0,
    }
}

fn check_against_request(
    request: &ReadResult,
    response: &HttpResponse,
    client_close: ClientClose,
    seems_grpc: bool,
) -> Result<(), String> {
    let status = match request {
        ReadResult::Complete(head, ..)
        | ReadResult::IncompleteBody(head)
        | ReadResult::MalformedBody(head, _) => effective_status(is_grpc(head), response),
        ReadResult::Incomplete | ReadResult::Malformed(_) => effective_status(seems_grpc, response),
    };
    let expected = match request {
        ReadResult::Complete(head, ..)
        | ReadResult::IncompleteBody(head)
        | ReadResult::MalformedBody(head, _)
            if head.problem.is_some() =>
        {
            status == 400
        }
        ReadResult::Complete(head, ..) => match status {
            200 if response.end != ResponseEnd::Complete => {
                // A close-delimited response is not forwarded to a half-closed client; the client detects this.
                client_close == ClientClose::HalfClose
                    && head.target.contains("/until")
                    && "fine".starts_with(&response.text())
            }
            200 => head.method == "HEAD" || response.text() == "fine",
            400 => true,
            // `OPTIONS *` matches no route.
            404 => {
                head.target == "*" || head.target.starts_with("HTTP://") || head.target.starts_with("http://")
            }
            504 => head.target.contains("/broken"),
            409 => head.target.contains("/taken"),
            _ => false,
        },
        // The upstream may have responded before it read the invalid body.
        ReadResult::IncompleteBody(head) | ReadResult::MalformedBody(head, _) => match status {
            400 => true,
            404 => reaches_no_route(head),
            _ => head.target.contains("/early"),
        },
        ReadResult::Incomplete | ReadResult::Malformed(_) => status == 400 && response.has_connection_close(),
    };
    if expected { Ok(()) } else { Err(format!("unexpected response to {request:?}: {}", describe(response))) }
}
