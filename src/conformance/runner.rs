//! Plays one row of the table of clients against a gateway, and compares what came with what stands there.
//!
//! What an error answer must be for the gateway's own configuration is for the caller to say ([`TestContext::check_response`]); here are
//! the connection, the order of answers, and what the upstream received. Breaches are sentences for an operator.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};

use super::client_faults::{
    ClientFault, ClientStep, ConnectionOutcome, ExpectedResponse, FAULT_HEADER, GatewayProfile,
    HandshakeOutcome, RequestKind, SERVED_BODY, TlsAlert, TlsClientHello, UpstreamSaw,
};
use super::gateway_stream::{self, GatewayStream};
use super::recorder::{RecordedHead, Recording};
use super::response_reader::{BodyEnd, ReadError, ReceivedResponse, ResponseReader};
use super::script::{Script, UpstreamStep, http_response, write_bytes};
use super::scripted_upstream::ScriptedUpstream;
use super::success_routes;

/// Where rows are played, and who judges.
pub struct TestContext<'a> {
    /// How a connection to the gateway is made.
    pub connector: GatewayConnector,
    /// What the gateway offers.
    pub profile: &'a GatewayProfile,
    /// The upstream behind it, which plays [`upstream_script`].
    pub upstream: &'a ScriptedUpstream,
    /// No wait is longer.
    pub limit: Duration,
    /// Whether an answer is what was expected.
    pub check_response: ResponseCheck<'a>,
}

/// Says what is wrong with an answer.
pub type ResponseCheck<'a> =
    &'a (dyn Fn(ExpectedResponse, RequestKind, &ReceivedResponse) -> Result<(), String> + Sync);

/// The way to a gateway.
#[derive(Clone, Copy, Debug)]
pub struct GatewayConnector {
    /// Where it listens.
    pub gateway: SocketAddr,
    /// Which address of this machine asks; the system's choice when `None`.
    pub source_address: Option<Ipv4Addr>,
    /// A relay that is told the gateway's address in a first line, `ADDRESS\n`, and passes everything else on.
    pub relay: Option<SocketAddr>,
}

/// What came of a row.
#[derive(Clone, Debug)]
pub struct RunResult {
    /// Every answer that was read, those of the request that followed included.
    pub responses: Vec<ReceivedResponse>,
    /// What was received, as it came; the first mebibyte.
    pub raw: Vec<u8>,
    /// The first thing that is not as it stands in the table.
    pub violation: Option<String>,
}

impl GatewayConnector {
    /// A new connection; `small_rcvbuf` is one whose receive buffer is as small as it gets.
    ///
    /// # Errors
    /// Nobody listens, or the system has no more sockets.
    pub async fn connect(&self, small_rcvbuf: bool) -> io::Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        if small_rcvbuf {
            socket.set_recv_buffer_size(4096)?;
        }
        if let Some(address) = self.source_address {
            // A port that rests after another connection will do: on a busy machine there may be no other.
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

/// Plays a row to its end.
pub async fn run_client_fault(row: &ClientFault, context: &TestContext<'_>) -> RunResult {
    let stream = match context.connector.connect(row.small_rcvbuf).await {
        Ok(stream) => stream,
        Err(error) => {
            let violation = Some(format!("no connection to the gateway: {error}"));
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

/// A row that is being played.
struct Http1Runner<'a> {
    row: &'a ClientFault,
    context: &'a TestContext<'a>,
    before: UpstreamRequestCount,
    /// Gone when the client has left.
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

    async fn run_step(&mut self, step: &ClientStep) -> Result<(), String> {
        let row = self.row;
        let context = self.context;
        let Some(reader) = &mut self.reader else { return Ok(()) };
        reader.deadline = Instant::now() + context.limit;
        match step {
            ClientStep::Send(bytes) => write_all(reader, bytes).await,
            ClientStep::SendRepeated(bytes, times) => {
                for _ in 0..*times {
                    if !write_all(reader, bytes).await {
                        return Ok(());
                    }
                    tokio::task::yield_now().await;
                }
                true
            }
            ClientStep::SendSlowly(bytes, every) => send_slowly(reader, bytes, *every).await,
            ClientStep::ReadInterim(status) => {
                let received = reader
                    .read_interim(RequestKind::DEFAULT)
                    .await
                    .map_err(|read_error| describe_read_error("an interim response", &read_error))?;
                if received != *status {
                    return Err(format!("{received} came in the place of {status}"));
                }
                true
            }
            ClientStep::ReadResponse(request_kind) => return self.read_response(*request_kind, None).await,
            ClientStep::ReadResponseSlowly(request_kind, size, pause) => {
                return self.read_response(*request_kind, Some((*size, *pause))).await;
            }
            ClientStep::WaitForUpstreamRequest => {
                wait_for_upstream_request(row, context, self.before).await?
            }
            ClientStep::WaitForData => !reader.wait_for_data().await,
            ClientStep::Pause(time) => {
                tokio::time::sleep(*time).await;
                true
            }
            ClientStep::ShutdownWrite => reader.stream.shutdown().await.is_ok(),
            ClientStep::Close => self.reader.take().is_some(),
            ClientStep::Reset => {
                let reader = self.reader.take();
                reader.is_some_and(|mut reader| reader.stream.tcp_stream().set_zero_linger().is_ok())
            }
            ClientStep::TlsHandshake(hello) => return self.tls_handshake(hello).await,
            ClientStep::SendBelowTls(bytes) => {
                let beneath = reader.stream.tcp_stream();
                let written = with_timeout(context.limit, beneath.write_all(bytes)).await;
                written.is_some_and(|written| written.is_ok())
            }
            ClientStep::ExpectTlsAlert(TlsAlert { code, name }) => {
                match with_timeout(context.limit, reader.stream.read_fatal_alert()).await {
                    Some(Ok(received)) if received == *code => true,
                    Some(Ok(received)) => {
                        return Err(format!("the alert {received} came in the place of {name}"));
                    }
                    Some(Err(error)) => return Err(format!("expected the alert {name}: {error}")),
                    None => return Err(format!("expected the alert {name}, and nothing comes")),
                }
            }
            ClientStep::DiscardUntilClose => {
                if !reader.discard_until_close().await {
                    return Err("expected the end, and nothing comes".to_owned());
                }
                self.reader.take().is_some()
            }
        };
        // What is not taken any more has been answered: reading decides.
        Ok(())
    }

    /// Begins TLS on a connection that nothing was sent on.
    async fn tls_handshake(&mut self, hello: &TlsClientHello) -> Result<(), String> {
        let Some(ResponseReader { stream: GatewayStream::Plain(stream), .. }) = self.reader.take() else {
            return Ok(());
        };
        let limit = self.context.limit;
        let Some(handshake) = with_timeout(limit, GatewayStream::tls_handshake(stream, hello)).await else {
            return Err("the handshake does not end".to_owned());
        };
        match (hello.expected, handshake) {
            (HandshakeOutcome::Completed(protocol), Ok(stream))
                if stream.alpn_protocol() == protocol.map(str::as_bytes) =>
            {
                self.reader = Some(ResponseReader::new(stream, limit));
                Ok(())
            }
            (HandshakeOutcome::Alert(TlsAlert { code, .. }), Err(error))
                if gateway_stream::received_alert(&error) == Some(code) =>
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
                Err(format!("a handshake that ends well, with {protocol:?}"))
            }
            (_, Err(error)) => Err(format!("a handshake that fails: {error}")),
        }
    }

    async fn read_response(
        &mut self,
        request_kind: RequestKind,
        throttle: Option<(usize, Duration)>,
    ) -> Result<(), String> {
        let number = self.responses.len();
        let Some(expected) = self.row.expected_responses.get(number).copied() else {
            return Err("the row expects fewer answers than it reads".to_owned());
        };
        let Some(reader) = &mut self.reader else { return Ok(()) };
        reader.throttle = throttle;
        reader.max_body = if expected == ExpectedResponse::Prefix { PREFIX_BYTES } else { u64::MAX };
        let response = reader
            .read_response(request_kind)
            .await
            .map_err(|read_error| describe_read_error("an answer", &read_error))?;
        reader.throttle = None;
        let verdict = (self.context.check_response)(expected, request_kind, &response);
        self.responses.push(response);
        let prefix = if self.row.expected_responses.len() > 1 {
            format!("answer {}: ", number + 1)
        } else {
            String::new()
        };
        verdict.map_err(|violation| format!("{prefix}{violation}"))
    }

    async fn check_connection_outcome(&mut self) -> Result<(), String> {
        let request_kind = self.row.last_request_kind();
        let kept_open =
            self.responses.last().is_none_or(|response| response.keeps_connection_open(request_kind));
        let Some(reader) = &mut self.reader else { return Ok(()) };
        reader.deadline = Instant::now() + self.context.limit;
        match self.row.connection_outcome {
            ConnectionOutcome::ClientClosed(_)
            | ConnectionOutcome::ClientClosedDuringResponse
            | ConnectionOutcome::Truncated => Ok(()),
            ConnectionOutcome::KeptOpen if !kept_open => Err("the connection is given up".to_owned()),
            ConnectionOutcome::KeptOpen => self.follow_up().await,
            ConnectionOutcome::AnnouncedClose if kept_open => {
                Err("the connection is about to close and does not say so".to_owned())
            }
            ConnectionOutcome::AnnouncedClose
            | ConnectionOutcome::UnannouncedClose
            | ConnectionOutcome::IdleTimeout => {
                reader.expect_close().await.map_err(|other| describe_read_error("the end", &other))
            }
            ConnectionOutcome::ClosedWithoutResponse(_) => match reader.expect_close().await {
                Ok(()) | Err(ReadError::Reset) => Ok(()),
                Err(other) => Err(describe_read_error("the end", &other)),
            },
        }
    }

    /// The connection is whole only if the next request on it is served.
    async fn follow_up(&mut self) -> Result<(), String> {
        let Some(reader) = &mut self.reader else { return Ok(()) };
        if !reader.unread().is_empty() {
            return Err("bytes after the answer".to_owned());
        }
        write_all(reader, &self.context.profile.follow_up_request()).await;
        let waited_for = "an answer to the next request on the connection";
        let response = reader
            .read_response(RequestKind::DEFAULT)
            .await
            .map_err(|read_error| describe_read_error(waited_for, &read_error))?;
        let verdict =
            (self.context.check_response)(ExpectedResponse::Served, RequestKind::DEFAULT, &response);
        self.responses.push(response);
        verdict.map_err(|violation| format!("the next request on the connection: {violation}"))
    }
}

/// So much of an endless answer is read by who wants its beginning.
const PREFIX_BYTES: u64 = 100_000;

async fn write_all(reader: &mut ResponseReader, bytes: &[u8]) -> bool {
    let stream = &mut reader.stream;
    let write = async { stream.write_all(bytes).await.is_ok() && stream.flush().await.is_ok() };
    tokio::select! {
        written = write => written,
        () = tokio::time::sleep_until(reader.deadline.into()) => false,
    }
}

/// `None` when it takes longer.
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
            return Err("the request does not reach the upstream".to_owned());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(true)
}

/// How many requests of a row an upstream has received, and how many of them whole.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct UpstreamRequestCount {
    total: usize,
    complete: usize,
}

impl UpstreamRequestCount {
    /// The requests that bear this mark, until now.
    pub(super) fn count(marker: &str, upstream: &ScriptedUpstream) -> UpstreamRequestCount {
        let mut received = UpstreamRequestCount::default();
        upstream.wait_until(Duration::ZERO, |seen| {
            received.total = completeness_of_row(seen, marker).count();
            received.complete = completeness_of_row(seen, marker).filter(|complete| **complete).count();
            true
        });
        received
    }

    /// Whether there is one that was not there before: a row may be played twice.
    pub(super) const fn exceeds(self, earlier: UpstreamRequestCount) -> bool {
        self.total > earlier.total
    }

    /// Compares what came since then with what should have.
    ///
    /// # Errors
    /// What is different.
    pub(super) fn check(
        self,
        earlier: UpstreamRequestCount,
        upstream_saw: UpstreamSaw,
    ) -> Result<(), String> {
        let (write, complete) = (self.total - earlier.total, self.complete - earlier.complete);
        match upstream_saw {
            UpstreamSaw::Any => Ok(()),
            UpstreamSaw::Complete(expected) if (write, complete) == (expected, expected) => Ok(()),
            UpstreamSaw::Complete(expected) => Err(format!(
                "the upstream received {write} requests, {complete} of them whole, not {expected}"
            )),
            UpstreamSaw::AtMostPartial if complete == 0 && write <= 1 => Ok(()),
            UpstreamSaw::AtMostPartial => {
                Err(format!("the upstream received {write} requests, {complete} of them whole"))
            }
        }
    }
}

/// Whether each request of a row came whole.
fn completeness_of_row<'a>(seen: &'a Recording, marker: &'a str) -> impl Iterator<Item = &'a bool> {
    let marked = move |target: &str| target.split(['?', '&']).any(|part| part == marker);
    seen.requests().filter(move |request| marked(&request.head.target)).map(|request| &request.complete)
}

fn describe_read_error(waited_for: &str, read_error: &ReadError) -> String {
    match read_error {
        ReadError::Closed => format!("expected {waited_for}, and the connection ends without a byte"),
        ReadError::Reset => format!("expected {waited_for}, and the connection is reset"),
        ReadError::TimedOut => format!("expected {waited_for}, and nothing comes"),
        ReadError::Malformed(found) => format!("expected {waited_for}, and what comes is malformed: {found}"),
    }
}

/// Judges an answer that the upstream has made.
///
/// # Errors
/// It is another one.
pub fn check_served(expected: ExpectedResponse, response: &ReceivedResponse) -> Result<(), String> {
    let complete = response.status == 200 && response.end == BodyEnd::Complete;
    match expected {
        ExpectedResponse::Served if complete && response.body == SERVED_BODY.as_bytes() => Ok(()),
        ExpectedResponse::ServedBytes(length) if complete && response.body_length == length => Ok(()),
        ExpectedResponse::Prefix if response.status == 200 && response.end == BodyEnd::LimitReached => Ok(()),
        ExpectedResponse::Truncated(_) if response.status == 200 && response.end == BodyEnd::Truncated => {
            Ok(())
        }
        ExpectedResponse::Truncated(_) => Err(format!("a {} that is not visibly cut", response.status)),
        ExpectedResponse::Served
        | ExpectedResponse::ServedBytes(_)
        | ExpectedResponse::Prefix
        | ExpectedResponse::Rejected(_)
        | ExpectedResponse::RejectedOnRoute(_) => {
            let prefix: String = response.text().chars().take(80).collect();
            let how = if complete { "" } else { ", not whole," };
            Err(format!("{} {prefix:?}{how} in the place of the upstream's answer", response.status))
        }
    }
}

/// What the upstream behind the gateway plays for a request of the table of clients.
pub fn upstream_script(request: &RecordedHead) -> Script {
    let served = || UpstreamStep::Write(http_response("200 OK\ncontent-type: text/plain", SERVED_BODY));
    let chunked = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n";
    match request.header(FAULT_HEADER) {
        Some("hang") => vec![UpstreamStep::ReadRequestHead, UpstreamStep::ReadUntilClose],
        Some("early") => vec![UpstreamStep::ReadRequestHead, served()],
        Some("endless") => {
            let chunk = format!("8000\r\n{}\r\n", "x".repeat(0x8000));
            let forever = UpstreamStep::WriteRepeated {
                bytes: chunk.into(),
                count: u64::MAX,
                interval: Duration::ZERO,
            };
            vec![UpstreamStep::ReadRequestHead, write_bytes(chunked), forever]
        }
        Some("megabyte") => {
            let head = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 1048576\r\n\r\n";
            let body = UpstreamStep::WriteRepeated {
                bytes: success_routes::PATTERN.into(),
                count: 1024,
                interval: Duration::ZERO,
            };
            vec![UpstreamStep::ReadRequestHead, write_bytes(head), body]
        }
        Some(_) | None => {
            vec![UpstreamStep::ReadRequestHead, UpstreamStep::SendContinue, UpstreamStep::ReadBody, served()]
        }
    }
}
