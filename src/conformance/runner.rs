//! Runs the cases of clients against a gateway and compares the results with their expectations.
//!
//! [`h1`] and [`h2`] run the steps, and check the connection and the order of the responses. Here is what they share:
//! the environment, the result, and what the upstream must have received. The caller checks the responses against the
//! gateway's configuration ([`TestContext::check_response`]). Violations are texts for an operator.

mod h1;
mod h2;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};

use super::case::{
    ClientFault, ClientProtocol, ExpectedResponse, FAULT_HEADER, OtherConnections, SERVED_BODY, UpstreamSaw,
};
use super::gateway_stream::GatewayStream;
use super::payload::{GatewayProfile, Payload};
use super::response_reader::{BodyEnd, ReceivedResponse, ResponseReader};
use super::scripted_upstream::ScriptedUpstream;
use super::step::RequestKind;

/// The environment of a row: the gateway, its upstream and the response check.
pub struct TestContext<'a> {
    /// Connects to the gateway.
    pub connector: GatewayConnector,
    /// The properties of the gateway.
    pub profile: &'a GatewayProfile,
    /// The upstream of the gateway, which runs [`super::success_routes::upstream_script`].
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
#[derive(Clone, Debug, Default)]
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
pub async fn run_client_fault(case: &ClientFault, context: &TestContext<'_>) -> RunResult {
    let earlier = UpstreamRequestCount::count(&case.marker(), context.upstream);
    let run = CaseRun { case, context, earlier };
    let mut result = RunResult::default();
    let (others, other_responses) = match run.open_others().await {
        Ok(others) => others.into_iter().unzip(),
        Err(violation) => return RunResult { violation: Some(violation), ..result },
    };
    let _others: Vec<ResponseReader> = others;
    let outcome = match (context.connector.connect(case.small_receive_buffer).await, case.protocol) {
        (Err(error), _) => Err(format!("cannot connect to the gateway: {error}")),
        (Ok(stream), ClientProtocol::Http2) => h2::run(run, stream, &mut result).await,
        (Ok(stream), ClientProtocol::Http1 | ClientProtocol::Tls | ClientProtocol::Route) => {
            h1::run(run, stream, &mut result).await
        }
    };
    let other_responses: Vec<Option<ReceivedResponse>> = other_responses;
    result.responses.extend(other_responses.into_iter().flatten());
    result.violation = outcome.and_then(|()| run.requests().check(earlier, case.upstream_saw())).err();
    result
}

/// A running case.
#[derive(Clone, Copy)]
struct CaseRun<'a> {
    case: &'a ClientFault,
    context: &'a TestContext<'a>,
    /// The requests before this run: a case may run twice.
    earlier: UpstreamRequestCount,
}

impl CaseRun<'_> {
    fn bytes(&self, payload: &Payload) -> Bytes {
        payload.bytes(self.case.scope(self.context.profile)).into()
    }

    /// Opens the connections beside that of the case.
    async fn open_others(&self) -> Result<Vec<(ResponseReader, Option<ReceivedResponse>)>, String> {
        let (OtherConnections { count, busy }, context) = (self.case.others, self.context);
        let field = if busy { format!("{FAULT_HEADER}: hang\r\n") } else { String::new() };
        let text = format!("<get> HTTP/1.1\r\nhost: <host>\r\n{field}\r\n");
        let mut others = Vec::new();
        for number in 1..=count {
            let failed = |error: String| format!("connection {number} before that of the case: {error}");
            let stream = context.connector.connect(false).await.map_err(|error| failed(error.to_string()))?;
            let mut reader = ResponseReader::new(GatewayStream::Left(stream), context.limit);
            let request = self.bytes(&Payload::Text(text.clone()));
            reader.stream.write_all(&request).await.map_err(|error| failed(error.to_string()))?;
            let response = if busy {
                self.wait_for_requests(number, reader.deadline).await;
                None
            } else {
                let response = reader.read_response(RequestKind::DEFAULT).await;
                Some(response.map_err(|error| failed(error.to_string()))?)
            };
            others.push((reader, response));
        }
        Ok(others)
    }

    /// How a response is parsed: the method of a case of routes is that of the route.
    fn kind(&self, kind: RequestKind) -> RequestKind {
        let of_route = self.case.protocol == ClientProtocol::Route;
        RequestKind { head: kind.head || (of_route && self.context.profile.read_method == "HEAD"), ..kind }
    }

    /// A pause, multiplied by the factor of the gateway's timeouts.
    fn scale(&self, pause: Duration) -> Duration {
        pause.saturating_mul(self.context.profile.pause_tenths) / 10
    }

    fn requests(&self) -> UpstreamRequestCount {
        UpstreamRequestCount::count(&self.case.marker(), self.context.upstream)
    }

    /// Whether the upstream has received this many requests of this run.
    fn has_received(&self, count: usize) -> bool {
        self.requests().total >= self.earlier.total + count
    }

    /// Waits until the upstream has received this many requests of this run. Returns `false` if the deadline passes
    /// first.
    async fn wait_for_requests(&self, count: usize, deadline: Instant) -> bool {
        while !self.has_received(count) {
            if Instant::now() > deadline {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        true
    }

    /// Compares a response with the expected one.
    fn check(
        &self,
        expected: ExpectedResponse,
        request_kind: RequestKind,
        response: &ReceivedResponse,
    ) -> Result<(), String> {
        (self.context.check_response)(expected, request_kind, response)
    }
}

/// The number of a row's requests that the upstream received, and how many of them were complete.
#[derive(Clone, Copy, Debug, Default)]
struct UpstreamRequestCount {
    total: usize,
    complete: usize,
}

impl UpstreamRequestCount {
    /// Counts the recorded requests with this marker.
    fn count(marker: &str, upstream: &ScriptedUpstream) -> UpstreamRequestCount {
        let mut received = UpstreamRequestCount::default();
        upstream.wait_until(Duration::ZERO, |seen| {
            for request in seen.requests() {
                let of_row = request.head.target.split(['?', '&']).any(|part| part == marker);
                received.total += usize::from(of_row);
                received.complete += usize::from(of_row && request.complete);
            }
            true
        });
        received
    }

    /// Compares the requests since `earlier` with the expectation.
    ///
    /// # Errors
    /// The difference.
    fn check(self, earlier: UpstreamRequestCount, upstream_saw: UpstreamSaw) -> Result<(), String> {
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

/// Compares a response with the expected upstream response.
///
/// # Errors
/// The difference.
pub fn check_served(expected: ExpectedResponse, response: &ReceivedResponse) -> Result<(), String> {
    let ends = |end| response.status == 200 && response.end == end;
    let is_expected = match expected {
        ExpectedResponse::Served => ends(BodyEnd::Complete) && response.body == SERVED_BODY.as_bytes(),
        ExpectedResponse::ServedBytes(length) => ends(BodyEnd::Complete) && response.body_length == length,
        ExpectedResponse::Prefix => ends(BodyEnd::LimitReached),
        ExpectedResponse::Truncated(_) if !ends(BodyEnd::Truncated) => {
            return Err(format!("expected a truncated response, got a complete {}", response.status));
        }
        ExpectedResponse::Truncated(_) => true,
        ExpectedResponse::Ordinary
        | ExpectedResponse::OrdinaryOrRejected(_)
        | ExpectedResponse::Rejected(_)
        | ExpectedResponse::RejectedOnRoute(_)
        | ExpectedResponse::Reset
        | ExpectedResponse::Empty431
        | ExpectedResponse::HeadersOnly(_)
        | ExpectedResponse::NoResponse => false,
    };
    let prefix: String = response.text().chars().take(80).collect();
    let suffix = if response.end == BodyEnd::Complete { "" } else { ", incomplete" };
    let difference = format!("expected the upstream's response, got {} {prefix:?}{suffix}", response.status);
    is_expected.then_some(()).ok_or(difference)
}
