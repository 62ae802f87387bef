//! Responds to an HTTP/1 request that is sent without TLS to a TLS listener.
//!
//! The response is sent in clear text: the contract's 400, so that the client can report what is wrong. No such request
//! is routed. If the bytes are not HTTP/1, the connection is closed without a response and counted as
//! `plaintext_on_tls`.

use std::time::Instant;

use bytes::BytesMut;
use pingora::protocols::Stream;

use super::{Connection, NextInput};
use crate::contract::{Cause, Evidence, Fault, Phase};
use crate::http::partial_request::{RequestStart, request_start};
use crate::http::request_scanner::{RequestScanner, ScanProgress};
use crate::proxy::buffered_stream::BufferedStream;
use crate::proxy::downstream::Downstream;
use crate::proxy::downstream::h1::DownstreamH1;
use crate::telemetry::CloseReason;

/// Rejects what a client without TLS sends within the header timeout, which began at `started`; `read` was received
/// already.
pub(super) async fn reject(
    connection: &mut Connection<'_>,
    stream: Stream,
    read: BytesMut,
    started: Instant,
) {
    let mut io = BufferedStream::with_input(stream, read);
    if let Err(close_reason) = read_request(connection, &mut io, started).await {
        return connection.listener.gateway.metrics.closed_without_response(close_reason);
    }
    let mut client =
        Downstream::h1(DownstreamH1::new(io, connection.shutdown.clone()), connection.listener_origin);
    let Some(h1) = client.as_h1() else { return };
    let fault = Fault::new(Cause::HttpRequestError, Phase::RequestHeaders)
        .with_evidence(Evidence::from_static("plain HTTP on a TLS listener"));
    let rejected = Connection::rejected_request(fault, &h1.io.input);
    connection.reject(&mut client, rejected, None).await;
    connection.close_after_response(client).await;
}

/// Reads until the header section is complete or invalid, the client stops sending, or its time has passed. In each
/// case the client gets the same 400.
///
/// # Errors
/// The input is not HTTP/1, or the client closed the connection.
async fn read_request(
    connection: &mut Connection<'_>,
    io: &mut BufferedStream,
    started: Instant,
) -> Result<(), CloseReason> {
    let mut scanner = RequestScanner::new(connection.client_config.max_header_bytes);
    loop {
        let start = request_start(&io.input);
        let needs_more = match start {
            RequestStart::Other => return Err(CloseReason::PlaintextOnTls),
            RequestStart::Undecided => io.input.len() < connection.client_config.max_header_bytes,
            RequestStart::Http1 => matches!(scanner.advance(&io.input), ScanProgress::NeedMore),
        };
        let deadline = connection.header_deadline(started);
        let ended = if needs_more { connection.read_more(io, deadline).await } else { None };
        if needs_more && ended.is_none() {
            continue;
        }
        return match (start, ended) {
            (RequestStart::Http1, Some(NextInput::Closed(_))) => Err(CloseReason::ClientGone),
            (RequestStart::Http1, Some(_) | None) => Ok(()),
            (RequestStart::Undecided | RequestStart::Other, _) => Err(CloseReason::PlaintextOnTls),
        };
    }
}
