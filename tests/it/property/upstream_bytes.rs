//! One upstream-side case: a plain request, arbitrary bytes as the response, and the expected result at the client.
//!
//! The client waits for its response, so it must be one complete response that conforms to the contract, or one that is
//! detectably truncated after its headers. If the strict reader can parse the upstream's response, the client must
//! receive the same one.

use std::io::{Cursor, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::super::contract_check;
use super::super::prelude::*;
use super::super::response_reader::{MessageFraming, StrictReader};
use super::generators::{self, Fragment};
use super::observed::ObservedResponses;
use super::random::SeededRandom;
use super::runner::Property;
use super::strict_upstream::{AfterResponse, PeerScript, StrictUpstream};

/// The shortest timeout of the gateway.
pub const SHORTEST_TIMEOUT: Duration = Duration::from_millis(200);

/// The gateway, its upstream and the client-side counts.
pub struct UpstreamProperty<'a> {
    pub gateway: SocketAddr,
    pub peer: &'a StrictUpstream,
    pub observed: &'a ObservedResponses,
}

/// A request and the upstream's response.
#[derive(Clone, Debug)]
pub struct UpstreamCase {
    request_index: usize,
    pieces: Vec<Fragment>,
    after_response: AfterResponse,
    /// The connection is used for a second request.
    reuses_connection: bool,
}

/// Method and version, and the rest of the request.
const REQUESTS: [(SentRequest, &str, &str, &str); 7] = [
    (SentRequest::Http11("GET"), "GET", "1.1", "host: test\r\n\r\n"),
    (SentRequest::Http11("GET"), "GET", "1.1", "host: test\r\nconnection: close\r\n\r\n"),
    (SentRequest::Http11("HEAD"), "HEAD", "1.1", "host: test\r\n\r\n"),
    (SentRequest::Http11("POST"), "POST", "1.1", "host: test\r\ncontent-length: 4\r\n\r\nbody"),
    (
        SentRequest::Http11("PUT"),
        "PUT",
        "1.1",
        "host: test\r\ntransfer-encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
    ),
    (SentRequest::Http10("GET"), "GET", "1.0", "\r\n"),
    (SentRequest::Http10("GET"), "GET", "1.0", "host: test\r\nconnection: keep-alive\r\n\r\n"),
];

impl Property for UpstreamProperty<'_> {
    type Case = UpstreamCase;

    fn make(&self, _: u64, random: &mut SeededRandom) -> UpstreamCase {
        // Half of the requests are plain GET requests.
        let request_index = random.below(2 * REQUESTS.len()).saturating_sub(REQUESTS.len());
        let pieces = generators::response(random);
        let after_response = match random.below(100) {
            0..35 => AfterResponse::Serve,
            35..80 => AfterResponse::Close,
            80..95 => AfterResponse::Reset,
            _ => AfterResponse::Stall,
        };
        UpstreamCase { request_index, pieces, after_response, reuses_connection: random.percent(25) }
    }

    fn check(&self, number: u64, case: &UpstreamCase) -> Result<(), String> {
        // After a close or stall, the next request on the same upstream connection would be affected.
        let target = format!(
            "/{}/{number}",
            if case.after_response == AfterResponse::Serve { "kept" } else { "single" }
        );
        let mut pieces = generators::writes(&case.pieces);
        let upstream_bytes = pieces.concat();
        if case.after_response == AfterResponse::Serve
            && !is_exactly_one_response(REQUESTS[case.request_index].0, &upstream_bytes)
        {
            // Bytes that arrive shortly after a complete response would affect the next request on this connection, and
            // no gateway could detect that.
            pieces = vec![upstream_bytes.clone()];
        }
        let peer_script = PeerScript { fragments: pieces, after_response: case.after_response, early: false };
        self.peer.set_script(&target, peer_script);
        let outcome = self.send_request(&target, case, &upstream_bytes);
        self.peer.remove_script(&target);
        outcome
    }

    fn shrink(case: &UpstreamCase) -> Vec<UpstreamCase> {
        let smaller = generators::without_one(&case.pieces);
        smaller.into_iter().map(|pieces| UpstreamCase { pieces, ..case.clone() }).collect()
    }

    fn render(case: &UpstreamCase) -> String {
        let (_, method, version, rest) = REQUESTS[case.request_index];
        let request = format!("{method} /u/N HTTP/{version}\r\n{rest}");
        format!(
            "the client: b\"{}\"\nthe upstream:\n{}then {:?}\n",
            request.escape_default(),
            generators::show(&case.pieces),
            case.after_response
        )
    }
}

impl UpstreamProperty<'_> {
    fn send_request(&self, target: &str, case: &UpstreamCase, upstream_bytes: &[u8]) -> Result<(), String> {
        let (sent_request, method, version, rest) = REQUESTS[case.request_index];
        let mut stream = TcpStream::connect_timeout(&self.gateway, limit()).map_err(|e| e.to_string())?;
        stream
            .set_nodelay(true)
            .and_then(|()| stream.set_read_timeout(Some(limit())))
            .map_err(|e| e.to_string())?;
        let started = Instant::now();
        let request = format!("{method} {target} HTTP/{version}\r\n{rest}");
        stream.write_all(request.as_bytes()).map_err(|e| format!("the gateway accepts no request: {e}"))?;
        let mut reader = StrictReader::allowing_any_headers(stream);
        let response = reader.read(sent_request).map_err(|error| format!("no response: {error:?}"))?;
        self.observed.record(&response);
        check_response(&response, sent_request)?;
        // On a busy machine a timeout may expire although the upstream is not slow.
        let timed_out = started.elapsed() >= SHORTEST_TIMEOUT;
        if !timed_out {
            compare(&response, sent_request, upstream_bytes, case.after_response)?;
        }
        if !response.connection_usable {
            return match reader.read_end() {
                NoResponse::Closed => Ok(()),
                NoResponse::Reset if response.end != ResponseEnd::Complete => Ok(()),
                other => Err(format!("after a response with Connection: close: {other:?}")),
            };
        }
        if !case.reuses_connection {
            return Ok(());
        }
        let started = Instant::now();
        let second_write =
            reader.stream.write_all(b"GET /fine HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n");
        second_write.map_err(|e| format!("the connection cannot be reused: {e}"))?;
        let next = reader
            .read(SentRequest::Http11("GET"))
            .map_err(|error| format!("no second response: {error:?}"))?;
        self.observed.record(&next);
        let timed_out = next.status == 504 && started.elapsed() >= SHORTEST_TIMEOUT;
        if !timed_out && (next.status, next.text().as_str()) != (200, "fine") {
            return Err(format!("the second response on the connection is {}", describe(&next)));
        }
        Ok(())
    }
}

/// Exactly one complete response without further bytes.
fn is_exactly_one_response(sent_request: SentRequest, upstream_bytes: &[u8]) -> bool {
    let mut reader = StrictReader::allowing_any_headers(Cursor::new(upstream_bytes));
    reader.read(sent_request).is_ok_and(|response| response.end == ResponseEnd::Complete)
        && reader.unread().is_empty()
}

/// A short description of a response.
pub fn describe(response: &HttpResponse) -> String {
    let HttpResponse { status, headers: fields, framing, end: ended, .. } = response;
    format!("{status} {fields:?} {framing:?} {ended:?} b\"{}\"", response.body.escape_ascii())
}

/// Rules that hold for every response.
pub fn check_response(response: &HttpResponse, sent_request: SentRequest) -> Result<(), String> {
    if !(200..600).contains(&response.status) {
        return Err(format!("status code outside the contract: {}", describe(response)));
    }
    if matches!(response.end, ResponseEnd::TimedOut { .. }) {
        return Err(format!("stalls inside its body: {}", describe(response)));
    }
    if response.status >= 400 {
        contract_check::check_error_response(response, sent_request)
            .map_err(|violation| format!("{violation}: {}", describe(response)))?;
    }
    Ok(())
}

/// Compares the client's response with the strict reader's parse of the upstream bytes.
fn compare(
    response: &HttpResponse,
    sent_request: SentRequest,
    upstream_bytes: &[u8],
    after_response: AfterResponse,
) -> Result<(), String> {
    let Ok(intended) = StrictReader::allowing_any_headers(Cursor::new(upstream_bytes)).read(sent_request)
    else {
        return Ok(());
    };
    // A close-delimited body is complete only if the connection ends cleanly.
    let may_be_truncated =
        intended.framing == MessageFraming::CloseDelimited && after_response != AfterResponse::Close;
    // More interim responses than the gateway forwards are a fault.
    let too_many_interim = intended.interim.len() > 16;
    if !(200..400).contains(&intended.status)
        || intended.end != ResponseEnd::Complete
        || may_be_truncated
        || too_many_interim
    {
        return Ok(());
    }
    let received = (response.status, &response.body, response.end);
    // A reset may discard data that was sent before it.
    let overtaken = after_response == AfterResponse::Reset
        && (response.status == 504 || response.end != ResponseEnd::Complete);
    if overtaken || received == (intended.status, &intended.body, ResponseEnd::Complete) {
        return Ok(());
    }
    Err(format!("upstream response {}, client response {}", describe(&intended), describe(response)))
}
