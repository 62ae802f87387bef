//! Runs a case of a faulty HTTP/1 client, plain or inside TLS.

use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::super::case::{ConnectionOutcome, ExpectedResponse};
use super::super::gateway_stream::{self, GatewayStream, HandshakeOutcome, TlsClientHello};
use super::super::response_reader::{ReadError, ResponseReader};
use super::super::step::{ClientStep, RequestKind};
use super::{CaseRun, RunResult};

/// Runs the steps and checks the connection afterwards.
///
/// # Errors
/// The first violation.
pub(super) async fn run(run: CaseRun<'_>, stream: TcpStream, result: &mut RunResult) -> Result<(), String> {
    let reader = ResponseReader::new(GatewayStream::Left(stream), run.context.limit);
    let mut runner = Http1Runner { run, reader: Some(reader), result };
    let outcome = runner.run_steps().await;
    if let Some(reader) = &runner.reader {
        runner.result.raw = reader.raw().to_vec();
    }
    outcome
}

/// The state of a running case.
struct Http1Runner<'a> {
    run: CaseRun<'a>,
    /// `None` once the client has closed the connection.
    reader: Option<ResponseReader>,
    result: &'a mut RunResult,
}

impl Http1Runner<'_> {
    async fn run_steps(&mut self) -> Result<(), String> {
        for step in &self.run.case.steps {
            self.run_step(step).await?;
        }
        self.check_connection_outcome().await
    }

    async fn run_step(&mut self, step: &ClientStep) -> Result<(), String> {
        let (run, context) = (self.run, self.run.context);
        let Some(reader) = &mut self.reader else { return Ok(()) };
        reader.deadline = Instant::now() + context.limit;
        // A failed write is not a violation: the gateway may have responded and closed. The read steps decide.
        match step {
            ClientStep::Write(payload) => _ = write_all(reader, &run.bytes(payload)).await,
            ClientStep::WriteUntilResponse { bytes, interval } => {
                send_slowly(reader, &run.bytes(bytes), run.scale(*interval)).await;
            }
            ClientStep::ReadInterim(status) => {
                let received = reader.read_interim(RequestKind::DEFAULT).await;
                let received =
                    received.map_err(|error| describe_read_error("an interim response", &error))?;
                if received != *status {
                    return Err(format!("expected {status}, got {received}"));
                }
            }
            ClientStep::ReadResponse(request_kind) => {
                return self.read_response(run.kind(*request_kind), None).await;
            }
            ClientStep::ReadResponseSlowly { bytes, interval } => {
                return self.read_response(RequestKind::DEFAULT, Some((*bytes, *interval))).await;
            }
            ClientStep::WaitForRequest => {
                if !run.wait_for_requests(1, reader.deadline).await {
                    return Err("the upstream did not receive the request".to_owned());
                }
            }
            ClientStep::WaitForData => _ = reader.wait_for_data().await,
            ClientStep::Pause(time) => tokio::time::sleep(run.scale(*time)).await,
            ClientStep::OutlastWriteTimeout => {
                tokio::time::sleep(context.profile.write_timeout.saturating_mul(2)).await;
            }
            ClientStep::ShutdownWrite => _ = reader.stream.shutdown().await,
            ClientStep::Close => self.reader = None,
            ClientStep::Reset => {
                let _ = gateway_stream::tcp_stream(&mut reader.stream).set_zero_linger();
                self.reader = None;
            }
            ClientStep::TlsHandshake(hello) => return self.tls_handshake(hello).await,
            ClientStep::WriteBelowTls(bytes) => {
                let (tcp_stream, bytes) = (gateway_stream::tcp_stream(&mut reader.stream), run.bytes(bytes));
                with_timeout(context.limit, tcp_stream.write_all(&bytes)).await;
            }
            ClientStep::ExpectAlert(alert) => {
                let received = gateway_stream::read_fatal_alert(&mut reader.stream);
                let difference = match with_timeout(context.limit, received).await {
                    Some(Ok(received)) if received == *alert as u8 => return Ok(()),
                    Some(Ok(received)) => format!(", got alert {received}"),
                    Some(Err(error)) => format!(": {error}"),
                    None => ": timed out".to_owned(),
                };
                return Err(format!("expected TLS alert {}{difference}", alert.name()));
            }
            ClientStep::ReadUntilClose => {
                if !reader.discard_until_close().await {
                    return Err("expected a connection close: timed out".to_owned());
                }
                self.reader = None;
            }
            // The steps of HTTP/2.
            ClientStep::SuppressAcks | ClientStep::WaitForStreamEnd(_) => {}
        }
        Ok(())
    }

    /// Performs a TLS handshake on a new connection.
    async fn tls_handshake(&mut self, hello: &TlsClientHello) -> Result<(), String> {
        let Some(ResponseReader { stream: GatewayStream::Left(stream), .. }) = self.reader.take() else {
            return Ok(());
        };
        let limit = self.run.context.limit;
        let Some(handshake) = with_timeout(limit, gateway_stream::tls_handshake(stream, hello)).await else {
            return Err("TLS handshake timed out".to_owned());
        };
        match (&hello.expect, handshake) {
            (HandshakeOutcome::Protocol(protocol), Ok(stream))
                if gateway_stream::alpn_protocol(&stream) == protocol.as_deref().map(str::as_bytes) =>
            {
                self.reader = Some(ResponseReader::new(stream, limit));
                Ok(())
            }
            (HandshakeOutcome::Alert(alert), Err(error))
                if gateway_stream::received_alert(&error) == Some(*alert as u8) =>
            {
                Ok(())
            }
            (HandshakeOutcome::CertificateRejected, Err(error))
                if gateway_stream::is_certificate_rejection(&error) =>
            {
                Ok(())
            }
            (_, Ok(stream)) => {
                let protocol = gateway_stream::alpn_protocol(&stream).map(String::from_utf8_lossy);
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
        let number = self.result.responses.len();
        let Some(expected) = self.run.case.expected.get(number).copied() else {
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
        let verdict = self.run.check(expected, request_kind, &response);
        self.result.responses.push(response);
        let prefix = if self.run.case.expected.len() > 1 {
            format!("response {}: ", number + 1)
        } else {
            String::new()
        };
        verdict.map_err(|violation| format!("{prefix}{violation}"))
    }

    async fn check_connection_outcome(&mut self) -> Result<(), String> {
        let request_kind = self.run.kind(self.run.case.reads().next_back().unwrap_or_default());
        let kept_open =
            self.result.responses.last().is_none_or(|response| response.keeps_connection_open(request_kind));
        let Some(reader) = &mut self.reader else { return Ok(()) };
        reader.deadline = Instant::now() + self.run.context.limit;
        match self.run.case.connection() {
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

    /// Checks that the connection is usable: the next request on it must get a response.
    async fn follow_up(&mut self) -> Result<(), String> {
        let Some(reader) = &mut self.reader else { return Ok(()) };
        if !reader.unread().is_empty() {
            return Err("extra bytes after the response".to_owned());
        }
        let profile = self.run.context.profile;
        let (method, path, host) = (&profile.read_method, &profile.path, &profile.host);
        let request = format!("{method} {path}?row=follow-up HTTP/1.1\r\nhost: {host}\r\n\r\n");
        write_all(reader, request.as_bytes()).await;
        let waited_for = "a response to the next request on the connection";
        let response = reader
            .read_response(self.run.kind(RequestKind::DEFAULT))
            .await
            .map_err(|read_error| describe_read_error(waited_for, &read_error))?;
        let verdict = self.run.check(self.run.case.next(), self.run.kind(RequestKind::DEFAULT), &response);
        self.result.responses.push(response);
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

async fn send_slowly(reader: &mut ResponseReader, bytes: &[u8], every: Duration) {
    loop {
        tokio::select! {
            biased;
            _ = reader.wait_for_data() => return,
            () = tokio::time::sleep(every) => {}
        }
        if Instant::now() > reader.deadline || !write_all(reader, bytes).await {
            return;
        }
    }
}

fn describe_read_error(waited_for: &str, read_error: &ReadError) -> String {
    format!("expected {waited_for}: {read_error}")
}
