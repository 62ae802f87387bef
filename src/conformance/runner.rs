//! Runs a case of a faulty client against a gateway and compares the result with its expectations.
//!
//! HTTP/1 and TLS are here, HTTP/2 is in [`super::runner_h2`]. The caller checks the responses against the gateway's configuration ([`TestContext::check_response`]). This module
//! checks the connection, the order of the responses, and what the upstream received. Violations are texts for an
//! operator.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};

use super::case::{
    ClientFault, ClientProtocol, ConnectionOutcome, ExpectedResponse, FAULT_HEADER, GatewayProfile,
    SERVED_BODY, UpstreamSaw,
};
use super::gateway_stream::{self, GatewayStream};
use super::recorder::{RecordedHead, Recording};
use super::response_reader::{BodyEnd, ReadError, ReceivedResponse, ResponseReader};
use super::runner_h2::run_h2_client_fault;
use super::scripted_upstream::ScriptedUpstream;
use super::step::{HandshakeOutcome, RequestKind, Script, Step, TlsClientHello, http_response, write_bytes};
use super::success_routes;

/// The environment of a row: the gateway, its upstream and the response check.
pub struct TestContext<'a> {
    /// Connects to the gateway.
    pub connector: GatewayConnector,
    /// The properties of the gateway.
    pub profile: &'a GatewayProfile,
    /// The upstream of the gateway, which runs [`upstream_script`].
    pub upstream: &'a ScriptedUpstream,
    /// The timeout of each step.
    pub limit: Duration,
    /// Compares a response with the expected one.
    pub check_response: ResponseCheck<'a>,
}

/// Compares a response with the expected one; the error describes the violation.
pub type ResponseCheck<'a> =
    &'a (dyn Fn(ExpectedResponse, RequestKind, &ReceivedResponse) -> Result<(), String> + Sync);

/// Opens connections to a gateway.
#[derive(Clone, Copy, Debug)]
pub struct GatewayConnector {
    /// The gateway's listener.
    pub gateway: SocketAddr,
    /// The local address; `None` leaves the choice to the system.
    pub source_address: Option<Ipv4Addr>,
    /// A relay that reads the gateway's address from a first line, `ADDRESS\n`, and forwards everything after it.
    pub relay: Option<SocketAddr>,
}

/// The result of a row.
#[derive(Clone, Debug)]
pub struct RunResult {
    /// All responses, including that to the follow-up request.
    pub responses: Vec<ReceivedResponse>,
    /// The first 1 MiB of the received bytes.
    pub raw: Vec<u8>,
    /// The first difference from the row's expectations.
    pub violation: Option<String>,
}

impl GatewayConnector {
    /// Opens a connection; `small_rcvbuf` requests the smallest receive buffer.
    ///
    /// # Errors
    /// The connection is refused, or the system is out of sockets.
    pub async fn connect(&self, small_rcvbuf: bool) -> io::Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        if small_rcvbuf {
            socket.set_recv_buffer_size(4096)?;
        }
        if let Some(address) = self.source_address {
            // Allow ports in TIME_WAIT: on a busy machine no others may be free.
            socket.set_reuseaddr(true)?;
            socket.bind(SocketAddr::from((address, 0)))?;
        }
        let mut stream = socket.connect(self.relay.unwrap_or(self.gateway)).await?;
        stream.set_nodelay(true)?;
        if self.relay.is_some() {
            stream.write_all(format!("{}\n", self.gateway).as_bytes()).await?;
        }
        Ok(stream)
    }
}

/// Runs one case.
pub async fn run_client_fault(row: &ClientFault, context: &TestContext<'_>) -> RunResult {
    if row.protocol == ClientProtocol::Http2 {
        return run_h2_client_fault(row, context).await;
    }
    let stream = match context.connector.connect(row.small_rcvbuf).await {
        Ok(stream) => stream,
        Err(error) => {
            let violation = Some(format!("cannot connect to the gateway: {error}"));
            return RunResult { responses: Vec::new(), raw: Vec::new(), violation };
        }
    };
    let earlier = UpstreamRequestCount::count(&row.marker(), context.upstream);
    let mut runner = Http1Runner {
        row,
        context,
        before: earlier,
        reader: Some(ResponseReader::new(stream, context.limit)),
        responses: Vec::new(),
        raw: Vec::new(),
    };
    let result = runner.run().await;
    if let Some(reader) = &runner.reader {
        runner.raw = reader.raw().to_vec();
    }
    let violation = match result {
        Ok(()) => UpstreamRequestCount::count(&row.marker(), context.upstream)
            .check(earlier, row.upstream_saw)
            .err(),
        Err(violation) => Some(violation),
    };
    RunResult { responses: runner.responses, raw: runner.raw, violation }
}

/// The state of a running row.
struct Http1Runner<'a> {
    row: &'a ClientFault,
    context: &'a TestContext<'a>,
    before: UpstreamRequestCount,
    /// `None` once the client has closed the connection.
    reader: Option<ResponseReader>,
    responses: Vec<ReceivedResponse>,
    raw: Vec<u8>,
}

impl Http1Runner<'_> {
    async fn run(&mut self) -> Result<(), String> {
        for step in &self.row.steps {
            self.run_step(step).await?;
        }
        self.check_connection_outcome().await
    }

    async fn run_step(&mut self, step: &Step) -> Result<(), String> {
        let row = self.row;
        let context = self.context;
        let Some(reader) = &mut self.reader else { return Ok(()) };
        reader.deadline = Instant::now() + context.limit;
        match step {
            Step::Write(bytes) => write_all(reader, bytes).await,
            Step::WriteUntilResponse { bytes, interval } => send_slowly(reader, bytes, *interval).await,
            Step::ReadInterim(status) => {
                let received = reader
                    .read_interim(RequestKind::DEFAULT)
                    .await
                    .map_err(|read_error| describe_read_error("an interim response", &read_error))?;
                if received != *status {
                    return Err(format!("expected {status}, got {received}"));
                }
                true
            }
            Step::ReadResponse(request_kind) => return self.read_response(*request_kind, None).await,
            Step::ReadResponseSlowly { bytes, interval } => {
                return self.read_response(RequestKind::DEFAULT, Some((*bytes, *interval))).await;
            }
            Step::WaitForUpstreamRequest => wait_for_upstream_request(row, context, self.before).await?,
            Step::WaitForData => !reader.wait_for_data().await,
            Step::Pause(time) => {
                tokio::time::sleep(*time).await;
                true
            }
            Step::OutlastWriteTimeout => {
                tokio::time::sleep(context.profile.write_timeout.saturating_mul(2)).await;
                true
            }
            Step::ShutdownWrite => reader.stream.shutdown().await.is_ok(),
            Step::Close => self.reader.take().is_some(),
            Step::Reset => {
                let reader = self.reader.take();
                reader.is_some_and(|mut reader| reader.stream.tcp_stream().set_zero_linger().is_ok())
            }
            Step::TlsHandshake(hello) => return self.tls_handshake(hello).await,
            Step::WriteBelowTls(bytes) => {
                let tcp_stream = reader.stream.tcp_stream();
                let written = with_timeout(context.limit, tcp_stream.write_all(bytes)).await;
                written.is_some_and(|written| written.is_ok())
            }
            Step::ExpectAlert(alert) => {
                let name = alert.name();
                match with_timeout(context.limit, reader.stream.read_fatal_alert()).await {
                    Some(Ok(received)) if received == alert.code() => true,
                    Some(Ok(received)) => {
                        return Err(format!("expected TLS alert {name}, got alert {received}"));
                    }
                    Some(Err(error)) => return Err(format!("expected TLS alert {name}: {error}")),
                    None => return Err(format!("expected TLS alert {name}: timed out")),
                }
            }
            Step::ReadUntilClose => {
                if !reader.discard_until_close().await {
                    return Err("expected a connection close: timed out".to_owned());
                }
                self.reader.take().is_some()
            }
            // The steps of upstreams and of HTTP/2.
            _ => true,
        };
        // A failed write is not a violation: the gateway may have responded and closed. The read steps decide.
        Ok(())
    }

    /// Performs a TLS handshake on a new connection.
    async fn tls_handshake(&mut self, hello: &TlsClientHello) -> Result<(), String> {
        let Some(ResponseReader { stream: GatewayStream::Plain(stream), .. }) = self.reader.take() else {
            return Ok(());
        };
        let limit = self.context.limit;
        let Some(handshake) = with_timeout(limit, GatewayStream::tls_handshake(stream, hello)).await else {
            return Err("TLS handshake timed out".to_owned());
        };
        match (&hello.expect, handshake) {
            (HandshakeOutcome::Protocol(protocol), Ok(stream))
                if stream.alpn_protocol() == protocol.as_deref().map(str::as_bytes) =>
            {
                self.reader = Some(ResponseReader::new(stream, limit));
                Ok(())
            }
            (HandshakeOutcome::Alert(alert), Err(error))
                if gateway_stream::received_alert(&error) == Some(alert.code()) =>
            {
                Ok(())
            }
            (HandshakeOutcome::CertificateRejected, Err(error))
                if gateway_stream::is_certificate_rejection(&error) =>
            {
                Ok(())
            }
            (_, Ok(stream)) => {
                let protocol = stream.alpn_protocol().map(String::from_utf8_lossy);
                Err(format!("unexpected TLS handshake, negotiated protocol {protocol:?}"))
            }
            (_, Err(error)) => Err(format!("TLS handshake failed: {error}")),
        }
    }

    async fn read_response(
        &mut self,
        request_kind: RequestKind,
        throttle: Option<(usize, Duration)>,
    ) -> Result<(), String> {
        let number = self.responses.len();
        let Some(expected) = self.row.expected.get(number).copied() else {
            return Err("the row reads more responses than it expects".to_owned());
        };
        let Some(reader) = &mut self.reader else { return Ok(()) };
        reader.throttle = throttle;
        reader.max_body = if expected == ExpectedResponse::Prefix { PREFIX_BYTES } else { u64::MAX };
        let response = reader
            .read_response(request_kind)
            .await
            .map_err(|read_error| describe_read_error("a response", &read_error))?;
        reader.throttle = None;
        let verdict = (self.context.check_response)(expected, request_kind, &response);
        self.responses.push(response);
        let prefix =
            if self.row.expected.len() > 1 { format!("response {}: ", number + 1) } else { String::new() };
        verdict.map_err(|violation| format!("{prefix}{violation}"))
    }

    async fn check_connection_outcome(&mut self) -> Result<(), String> {
        let request_kind = self.row.last_request_kind();
        let kept_open =
            self.responses.last().is_none_or(|response| response.keeps_connection_open(request_kind));
        let Some(reader) = &mut self.reader else { return Ok(()) };
        reader.deadline = Instant::now() + self.context.limit;
        match self.row.connection {
            ConnectionOutcome::ClientClosed
            | ConnectionOutcome::Truncated
            | ConnectionOutcome::ErrorGoaway
            | ConnectionOutcome::Goaway => Ok(()),
            ConnectionOutcome::KeptOpen if !kept_open => {
                Err("expected an open connection, got Connection: close".to_owned())
            }
            ConnectionOutcome::KeptOpen => self.follow_up().await,
            ConnectionOutcome::AnnouncedClose if kept_open => {
                Err("expected Connection: close in the response".to_owned())
            }
            ConnectionOutcome::AnnouncedClose | ConnectionOutcome::Closed => {
                reader.expect_close().await.map_err(|other| describe_read_error("a connection close", &other))
            }
            ConnectionOutcome::Dropped => match reader.expect_close().await {
                Ok(()) | Err(ReadError::Reset) => Ok(()),
                Err(other) => Err(describe_read_error("a connection close", &other)),
            },
        }
    }

    /// Checks that the connection is usable: the next request on it must be served.
    async fn follow_up(&mut self) -> Result<(), String> {
        let Some(reader) = &mut self.reader else { return Ok(()) };
        if !reader.unread().is_empty() {
            return Err("extra bytes after the response".to_owned());
        }
        let profile = self.context.profile;
        let (method, path, host) = (&profile.read_method, &profile.path, &profile.host);
        let request = format!("{method} {path}?row=follow-up HTTP/1.1\r\nhost: {host}\r\n\r\n");
        write_all(reader, request.as_bytes()).await;
        let waited_for = "a response to the next request on the connection";
        let response = reader
            .read_response(RequestKind::DEFAULT)
            .await
            .map_err(|read_error| describe_read_error(waited_for, &read_error))?;
        let verdict =
            (self.context.check_response)(ExpectedResponse::Served, RequestKind::DEFAULT, &response);
        self.responses.push(response);
        verdict.map_err(|violation| format!("next request on the connection: {violation}"))
    }
}

/// Bytes of an endless response that are read for [`ExpectedResponse::Prefix`].
const PREFIX_BYTES: u64 = 100_000;

async fn write_all(reader: &mut ResponseReader, bytes: &[u8]) -> bool {
    let stream = &mut reader.stream;
    let write = async { stream.write_all(bytes).await.is_ok() && stream.flush().await.is_ok() };
    tokio::select! {
        written = write => written,
        () = tokio::time::sleep_until(reader.deadline.into()) => false,
    }
}

/// Returns `None` on timeout.
async fn with_timeout<T>(limit: Duration, waited_for: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        done = waited_for => Some(done),
        () = tokio::time::sleep(limit) => None,
    }
}

async fn send_slowly(reader: &mut ResponseReader, bytes: &[u8], every: Duration) -> bool {
    loop {
        tokio::select! {
            biased;
            _ = reader.wait_for_data() => return true,
            () = tokio::time::sleep(every) => {}
        }
        if Instant::now() > reader.deadline || !write_all(reader, bytes).await {
            return true;
        }
    }
}

async fn wait_for_upstream_request(
    row: &ClientFault,
    context: &TestContext<'_>,
    earlier: UpstreamRequestCount,
) -> Result<bool, String> {
    let deadline = Instant::now() + context.limit;
    let marker = row.marker();
    while !UpstreamRequestCount::count(&marker, context.upstream).exceeds(earlier) {
        if Instant::now() > deadline {
            return Err("the upstream did not receive the request".to_owned());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(true)
}

/// The number of a row's requests that the upstream received, and how many of them were complete.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct UpstreamRequestCount {
    total: usize,
    complete: usize,
}

impl UpstreamRequestCount {
    /// Counts the recorded requests with this marker.
    pub(super) fn count(marker: &str, upstream: &ScriptedUpstream) -> UpstreamRequestCount {
        let mut received = UpstreamRequestCount::default();
        upstream.wait_until(Duration::ZERO, |seen| {
            received.total = completeness_of_row(seen, marker).count();
            received.complete = completeness_of_row(seen, marker).filter(|complete| **complete).count();
            true
        });
        received
    }

    /// Whether a request arrived since `earlier`; a row may run twice.
    pub(super) const fn exceeds(self, earlier: UpstreamRequestCount) -> bool {
        self.total > earlier.total
    }

    /// Compares the requests since `earlier` with the expectation.
    ///
    /// # Errors
    /// The difference.
    pub(super) fn check(
        self,
        earlier: UpstreamRequestCount,
        upstream_saw: UpstreamSaw,
    ) -> Result<(), String> {
        let (total, complete) = (self.total - earlier.total, self.complete - earlier.complete);
        match upstream_saw {
            UpstreamSaw::Any => Ok(()),
            UpstreamSaw::Complete(expected) if (total, complete) == (expected, expected) => Ok(()),
            UpstreamSaw::Complete(expected) => Err(format!(
                "upstream requests: expected {expected} complete, got {total}, {complete} of them complete"
            )),
            UpstreamSaw::AtMostPartial if complete == 0 && total <= 1 => Ok(()),
            UpstreamSaw::AtMostPartial => Err(format!(
                "upstream requests: expected at most 1 incomplete, got {total}, {complete} of them complete"
            )),
        }
    }
}

/// For each recorded request of a row: whether it is complete.
fn completeness_of_row<'a>(seen: &'a Recording, marker: &'a str) -> impl Iterator<Item = &'a bool> {
    let marked = move |target: &str| target.split(['?', '&']).any(|part| part == marker);
    seen.requests().filter(move |request| marked(&request.head.target)).map(|request| &request.complete)
}

fn describe_read_error(waited_for: &str, read_error: &ReadError) -> String {
    match read_error {
        ReadError::Closed => format!("expected {waited_for}: connection closed"),
        ReadError::Reset => format!("expected {waited_for}: connection reset"),
        ReadError::TimedOut => format!("expected {waited_for}: timed out"),
        ReadError::Malformed(problem) => format!("expected {waited_for}: {problem}"),
    }
}

/// Compares a response with the expected upstream response.
///
/// # Errors
/// The difference.
pub fn check_served(expected: ExpectedResponse, response: &ReceivedResponse) -> Result<(), String> {
    let complete = response.status == 200 && response.end == BodyEnd::Complete;
    match expected {
        ExpectedResponse::Served if complete && response.body == SERVED_BODY.as_bytes() => Ok(()),
        ExpectedResponse::ServedBytes(length) if complete && response.body_length == length => Ok(()),
        ExpectedResponse::Prefix if response.status == 200 && response.end == BodyEnd::LimitReached => Ok(()),
        ExpectedResponse::Truncated(_) if response.status == 200 && response.end == BodyEnd::Truncated => {
            Ok(())
        }
        ExpectedResponse::Truncated(_) => {
            Err(format!("expected a truncated response, got a complete {}", response.status))
        }
        ExpectedResponse::Served
        | ExpectedResponse::ServedBytes(_)
        | ExpectedResponse::Prefix
        | ExpectedResponse::Rejected(_)
        | ExpectedResponse::RejectedOnRoute(_)
        | ExpectedResponse::Reset
        | ExpectedResponse::Empty431
        | ExpectedResponse::HeadersOnly(_)
        | ExpectedResponse::NoResponse => {
            let prefix: String = response.text().chars().take(80).collect();
            let suffix = if response.end == BodyEnd::Complete { "" } else { ", incomplete" };
            Err(format!("expected the upstream's response, got {} {prefix:?}{suffix}", response.status))
        }
    }
}

/// The upstream's script for a request of the client fault tables.
pub fn upstream_script(request: &RecordedHead) -> Script {
    let served = || Step::Write(http_response("200 OK\ncontent-type: text/plain", SERVED_BODY));
    let chunked = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n";
    match request.header(FAULT_HEADER) {
        Some("hang") => vec![Step::ReadRequestHead, Step::ReadUntilClose],
        Some("early") => vec![Step::ReadRequestHead, served()],
        Some("endless") => {
            let chunk = format!("8000\r\n{}\r\n", "x".repeat(0x8000));
            let forever =
                Step::WriteRepeated { bytes: chunk.into(), count: u64::MAX, interval: Duration::ZERO };
            vec![Step::ReadRequestHead, write_bytes(chunked), forever]
        }
        Some("megabyte") => {
            let head = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 1048576\r\n\r\n";
            let body = Step::WriteRepeated {
                bytes: success_routes::PATTERN.into(),
                count: 1024,
                interval: Duration::ZERO,
            };
            vec![Step::ReadRequestHead, write_bytes(head), body]
        }
        Some(_) | None => {
            vec![Step::ReadRequestHead, Step::SendContinue, Step::ReadBody, served()]
        }
    }
}
