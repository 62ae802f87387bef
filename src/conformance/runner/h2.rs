//! Runs a case of a faulty HTTP/2 client and compares its streams with their expected outcomes.
//!
//! It reads and writes concurrently, as HTTP/2 requires, and acknowledges SETTINGS and PING.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use super::super::case::{ConnectionOutcome, ExpectedResponse};
use super::super::frames::{self, ACK, END_HEADERS, END_STREAM, Frame, PREFACE, frame_type, setting_id};
use super::super::hpack;
use super::super::payload::request_block;
use super::super::recorder::append_capped;
use super::super::response_reader::{BodyEnd, ReceivedResponse, ResponseBodyFraming};
use super::super::step::{ClientStep, RequestKind};
use super::{CaseRun, RunResult};

/// The stream of the background upload.
const BACKGROUND_STREAM: u32 = 1;
/// The stream of the follow-up request.
const FOLLOW_UP_STREAM: u32 = 0x0100_0001;
/// Interval of the background upload: shorter than the gateway's body timeout.
const UPLOAD_INTERVAL: Duration = Duration::from_millis(200);
/// Half of the maximum window: flow control never blocks the gateway, unless the row's settings do.
const LARGE_WINDOW_SIZE: u32 = 0x4000_0000;

/// Runs the steps and checks the streams and the connection afterwards.
///
/// # Errors
/// The first violation.
pub(super) async fn run(run: CaseRun<'_>, stream: TcpStream, result: &mut RunResult) -> Result<(), String> {
    let (reading, writing) = stream.into_split();
    let mut runner = Http2Runner {
        run,
        result,
        read_half: reading,
        write_half: writing,
        received: Vec::new(),
        output: Bytes::new(),
        acks: VecDeque::new(),
        streams: BTreeMap::new(),
        settings_received: false,
        goaway_code: None,
        connection_closed: false,
        client_closed: false,
        acks_suppressed: false,
        deadline: Instant::now() + run.context.limit,
        next_upload_at: None,
    };
    runner.run_steps().await
}

/// The state of a running row.
struct Http2Runner<'a> {
    run: CaseRun<'a>,
    result: &'a mut RunResult,
    read_half: OwnedReadHalf,
    write_half: OwnedWriteHalf,
    /// Bytes of an incomplete frame.
    received: Vec<u8>,
    /// Bytes to write next.
    output: Bytes,
    /// Acknowledgements and upload frames, written between two steps.
    acks: VecDeque<Vec<u8>>,
    streams: BTreeMap<u32, ReceivedStream>,
    settings_received: bool,
    /// The error code of the last GOAWAY.
    goaway_code: Option<u32>,
    connection_closed: bool,
    client_closed: bool,
    acks_suppressed: bool,
    deadline: Instant,
    /// When the background upload sends its next frame; `None` before its HEADERS and once it ends.
    next_upload_at: Option<Instant>,
}

/// The state of one stream.
#[derive(Debug, Default)]
struct ReceivedStream {
    response: Option<ReceivedResponse>,
    interim: Vec<u16>,
    complete: bool,
    reset_code: Option<u32>,
}

impl ReceivedStream {
    fn is_ended(&self) -> bool {
        self.complete || self.reset_code.is_some()
    }
}

impl Http2Runner<'_> {
    async fn run_steps(&mut self) -> Result<(), String> {
        let (case, profile) = (self.run.case, self.run.context.profile);
        if case.preface {
            // No dynamic table, because the decoder has none; large windows, unless the row overrides them.
            let base_settings =
                [(setting_id::HEADER_TABLE_SIZE, 0), (setting_id::INITIAL_WINDOW_SIZE, LARGE_WINDOW_SIZE)];
            let description: Vec<_> =
                base_settings.into_iter().chain(case.settings.iter().copied()).collect();
            let window_update = frames::window_update_frame(0, LARGE_WINDOW_SIZE - 0xffff);
            self.write([PREFACE, &frames::settings_frame(&description), &window_update].concat()).await?;
            // Also wait for our ACK to be written: the next step may be half a frame.
            self.wait_until("SETTINGS", |runner| {
                runner.settings_received && runner.acks.is_empty() && runner.output.is_empty()
            })
            .await?;
        }
        if case.has_background_stream() {
            let head = request_block(profile, &profile.write_method, "background");
            self.write(frames::encode_frame(frame_type::HEADERS, END_HEADERS, BACKGROUND_STREAM, head))
                .await?;
            // Only now: DATA on an idle stream is a connection error.
            self.next_upload_at = Some(Instant::now() + UPLOAD_INTERVAL);
        }
        for step in &case.steps {
            if self.client_closed {
                break;
            }
            self.run_step(step).await?;
        }
        self.check_outcome().await
    }

    async fn run_step(&mut self, step: &ClientStep) -> Result<(), String> {
        let run = self.run;
        self.deadline = Instant::now() + run.context.limit;
        match step {
            ClientStep::Write(payload) => self.write(run.bytes(payload)).await,
            ClientStep::WriteUntilResponse { bytes, interval: every } => {
                let (limit, case, bytes) = (self.deadline, run.case, run.bytes(bytes));
                let is_done = |runner: &Self| {
                    runner.connection_closed
                        || !case.expected.is_empty()
                            && case.streams().all(|(number, _)| runner.is_stream_ended(number))
                };
                while !is_done(self) && Instant::now() < limit {
                    self.deadline = limit;
                    self.write(bytes.clone()).await?;
                    self.deadline = limit.min(Instant::now() + run.scale(*every));
                    // A timeout here is only the pause between two writes.
                    let _ = self.wait_until("", is_done).await;
                }
                self.deadline = limit;
                Ok(())
            }
            ClientStep::WaitForRequest => {
                self.wait_until("the request at the upstream", |_| run.has_received(1)).await
            }
            ClientStep::WaitForStreamEnd(number) => {
                self.wait_until("a response", |runner| runner.is_stream_ended(*number)).await
            }
            ClientStep::SuppressAcks => {
                self.acks_suppressed = true;
                Ok(())
            }
            ClientStep::Close => {
                self.client_closed = true;
                // Unread data turns the FIN into a reset; both count as a client that has closed.
                self.write_half.shutdown().await.map_err(|error| format!("cannot close: {error}"))
            }
            // The steps of HTTP/1.
            _ => Ok(()),
        }
    }

    async fn check_outcome(&mut self) -> Result<(), String> {
        self.deadline = Instant::now() + self.run.context.limit;
        if self.client_closed {
            // Close without reading what still arrives.
            return Ok(());
        }
        let case = self.run.case;
        for (number, outcome) in case.streams() {
            if outcome != ExpectedResponse::NoResponse {
                self.wait_until(&format!("a response on stream {number}"), |runner| {
                    runner.is_stream_ended(number) || runner.connection_closed
                })
                .await?;
            }
        }
        for (number, outcome) in case.streams() {
            self.check_stream(number, outcome)
                .map_err(|violation| format!("stream {number}: {violation}"))?;
        }
        let is_error_expected = match case.connection() {
            ConnectionOutcome::KeptOpen => return self.follow_up().await,
            ConnectionOutcome::ErrorGoaway => true,
            ConnectionOutcome::Goaway => false,
            ConnectionOutcome::AnnouncedClose
            | ConnectionOutcome::Closed
            | ConnectionOutcome::Dropped
            | ConnectionOutcome::Truncated
            | ConnectionOutcome::ClientClosed => return Ok(()),
        };
        self.wait_until("a connection close", |runner| runner.connection_closed).await?;
        match self.goaway_code {
            None => Err("expected GOAWAY, got a connection close without it".to_owned()),
            Some(0) if is_error_expected => Err("expected GOAWAY with an error, got NO_ERROR".to_owned()),
            Some(code) if code != 0 && !is_error_expected => {
                Err(format!("expected GOAWAY with NO_ERROR, got error {code}"))
            }
            Some(_) => Ok(()),
        }
    }

    /// Compares a stream with its expected outcome.
    fn check_stream(&mut self, number: u32, outcome: ExpectedResponse) -> Result<(), String> {
        let stream = self.streams.remove(&number).unwrap_or_default();
        let description = format!("{}{}", describe_stream(&stream), self.describe_end());
        let expected = match (outcome, stream.response) {
            (ExpectedResponse::NoResponse, None) => return Ok(()),
            (ExpectedResponse::Reset, None) if stream.reset_code.is_some_and(|code| code != 0) => {
                return Ok(());
            }
            (ExpectedResponse::Empty431, Some(response))
                if response.status == 431 && response.body_length == 0 =>
            {
                return Ok(());
            }
            (ExpectedResponse::HeadersOnly(cause), Some(response))
                if response.body_length == 0 && response.end == BodyEnd::Truncated =>
            {
                // Check it like a response to HEAD: headers without a body.
                let head = ReceivedResponse { end: BodyEnd::Complete, ..response };
                let request_kind = RequestKind { head: true, http10: false };
                let verdict = self.run.check(ExpectedResponse::Rejected(cause), request_kind, &head);
                self.result.responses.push(head);
                return verdict;
            }
            (ExpectedResponse::NoResponse, _) => "no response",
            (ExpectedResponse::Reset, _) => "RST_STREAM",
            (ExpectedResponse::Empty431, _) => "an empty 431",
            (ExpectedResponse::HeadersOnly(_), _) => "response headers only",
            (_, None) => "a response",
            (expected, Some(response)) => {
                let verdict = check_content_length(&response)
                    .and_then(|()| self.run.check(expected, RequestKind::DEFAULT, &response));
                self.result.responses.push(response);
                return verdict;
            }
        };
        Err(format!("expected {expected}, got {description}"))
    }

    /// The state of the connection, appended to a violation.
    fn describe_end(&self) -> String {
        match (self.connection_closed, self.goaway_code) {
            (false, None) => String::new(),
            (false, Some(code)) => format!(" (GOAWAY with error {code})"),
            (true, None) => " (connection closed)".to_owned(),
            (true, Some(code)) => format!(" (connection closed, GOAWAY with error {code})"),
        }
    }

    /// Checks that the connection is usable: the background upload completes and the next request is served.
    async fn follow_up(&mut self) -> Result<(), String> {
        let mut expected = vec![(FOLLOW_UP_STREAM, "the next request on the connection")];
        if self.run.case.has_background_stream() {
            // No upload frame may follow END_STREAM.
            self.next_upload_at = None;
            self.wait_until("pending writes", |runner| runner.acks.is_empty() && runner.output.is_empty())
                .await?;
            self.write(frames::encode_frame(frame_type::DATA, END_STREAM, BACKGROUND_STREAM, "end")).await?;
            expected.insert(0, (BACKGROUND_STREAM, "the background upload"));
        }
        let profile = self.run.context.profile;
        let head = request_block(profile, &profile.read_method, "follow-up");
        self.write(frames::encode_frame(
            frame_type::HEADERS,
            END_HEADERS | END_STREAM,
            FOLLOW_UP_STREAM,
            head,
        ))
        .await?;
        if !self.run.case.settings.is_empty() {
            // The case's settings may have closed the windows of all streams.
            for (number, _) in &expected {
                self.write(frames::window_update_frame(*number, 0xffff)).await?;
            }
        }
        for (number, waited_for) in expected {
            self.wait_until(&format!("a response to {waited_for}"), |runner| {
                runner.is_stream_ended(number) || runner.connection_closed
            })
            .await?;
            self.check_stream(number, ExpectedResponse::Served)
                .map_err(|violation| format!("{waited_for}: {violation}"))?;
        }
        Ok(())
    }

    fn is_stream_ended(&self, number: u32) -> bool {
        self.streams.get(&number).is_some_and(ReceivedStream::is_ended)
    }

    /// Writes all bytes, and reads at the same time.
    async fn write(&mut self, bytes: impl Into<Bytes>) -> Result<(), String> {
        self.output = bytes.into();
        // A failed write is not a violation: the gateway may have closed. The received frames decide.
        self.wait_until("pending writes", |runner| runner.output.is_empty() || runner.connection_closed).await
    }

    /// Reads frames and writes pending output until the condition holds.
    ///
    /// # Errors
    /// The connection closes first, the deadline passes, or a frame is malformed.
    async fn wait_until(
        &mut self,
        waited_for: &str,
        condition: impl Fn(&Self) -> bool,
    ) -> Result<(), String> {
        let mut buffer = vec![0; 64 * 1024];
        let mut tick = tokio::time::interval(UPLOAD_INTERVAL.min(Duration::from_millis(20)));
        loop {
            if condition(self) {
                return Ok(());
            }
            if self.connection_closed {
                return Err(format!("expected {waited_for}: connection closed"));
            }
            if self.output.is_empty() {
                self.output = self.acks.pop_front().unwrap_or_default().into();
            }
            tokio::select! {
                read = self.read_half.read(&mut buffer) => match read {
                    Ok(size @ 1..) => self.receive(buffer.get(..size).unwrap_or_default())?,
                    Ok(0) | Err(_) => self.connection_closed = true,
                },
                wrote = self.write_half.write(&self.output), if !self.output.is_empty() => match wrote {
                    Ok(size) => drop(self.output.split_to(size)),
                    // Received data may still be readable.
                    Err(_) => self.output.clear(),
                },
                // The condition may depend on the upstream: check it again.
                _ = tick.tick() => self.continue_background_upload(),
                () = tokio::time::sleep_until(self.deadline.into()) => {
                    return Err(format!("expected {waited_for}: timed out"));
                }
            }
            // A flood must not delay the other rows on this thread.
            tokio::task::yield_now().await;
        }
    }

    fn continue_background_upload(&mut self) {
        let now = Instant::now();
        if self.next_upload_at.is_some_and(|at| now > at) && !self.is_stream_ended(BACKGROUND_STREAM) {
            self.next_upload_at = Some(now + UPLOAD_INTERVAL);
            self.queue_ack(frames::encode_frame(frame_type::DATA, 0, BACKGROUND_STREAM, "piece"));
        }
    }

    fn queue_ack(&mut self, frame: Vec<u8>) {
        if !self.acks_suppressed {
            self.acks.push_back(frame);
        }
    }

    fn receive(&mut self, buffer: &[u8]) -> Result<(), String> {
        self.received.extend_from_slice(buffer);
        while let Some(frame) = frames::take_frame(&mut self.received) {
            self.handle_frame(&frame).map_err(|problem| format!("malformed response: {problem}"))?;
        }
        Ok(())
    }

    fn handle_frame(&mut self, frame: &Frame) -> Result<(), &'static str> {
        match frame.frame_type {
            frame_type::SETTINGS if frame.flags & ACK == 0 => {
                self.settings_received = true;
                self.queue_ack(frames::encode_frame(frame_type::SETTINGS, ACK, 0, []));
            }
            frame_type::PING if frame.flags & ACK == 0 => {
                self.queue_ack(frames::encode_frame(frame_type::PING, ACK, 0, &frame.payload));
            }
            frame_type::GOAWAY => {
                let code = frames::leading_u32(frame.payload.get(4..).unwrap_or_default());
                // A graceful shutdown sends two GOAWAY frames; the last one counts.
                self.goaway_code = Some(code);
            }
            frame_type::HEADERS => {
                if frame.flags & END_HEADERS == 0 {
                    return Err("header block in several frames");
                }
                let fields = hpack::decode(&frame.payload)?;
                let stream = self.streams.entry(frame.stream).or_default();
                stream.receive_headers(fields)?;
                stream.set_ended(frame.flags & END_STREAM != 0);
            }
            frame_type::DATA => {
                let stream = self.streams.entry(frame.stream).or_default();
                let response = stream.response.as_mut().ok_or("DATA before HEADERS")?;
                append_capped(&mut response.body, &frame.payload);
                response.body_length += frame.payload.len() as u64;
                stream.set_ended(frame.flags & END_STREAM != 0);
            }
            frame_type::RST_STREAM => {
                let stream = self.streams.entry(frame.stream).or_default();
                stream.reset_code = Some(frames::leading_u32(&frame.payload));
            }
            // ACKs of our PING and SETTINGS, WINDOW_UPDATE, and unknown frames.
            _ => {}
        }
        Ok(())
    }
}

impl ReceivedStream {
    fn receive_headers(&mut self, mut fields: hpack::DecodedHeaders) -> Result<(), &'static str> {
        let pseudo = fields.iter().take_while(|(name, _)| name.starts_with(':')).count();
        if self.response.is_some() {
            return if pseudo == 0 { Ok(()) } else { Err("second response on a stream") };
        }
        let status =
            fields.first().filter(|(name, _)| name == ":status").ok_or("response without :status")?;
        let status =
            status.1.parse().ok().filter(|_| status.1.len() == 3).ok_or("status code is not three digits")?;
        if pseudo != 1 || fields.iter().any(|(name, _)| name.bytes().any(|octet| octet.is_ascii_uppercase()))
        {
            return Err("unexpected pseudo-header field, or field name in upper case");
        }
        if fields.iter().any(|(name, _)| CONNECTION_SPECIFIC.contains(&name.as_str())) {
            return Err("connection-specific field");
        }
        if (100..200).contains(&status) {
            self.interim.push(status);
            return Ok(());
        }
        fields.remove(0);
        let length = fields.iter().find(|(name, _)| name == "content-length");
        let length = length.and_then(|(_, length)| length.parse().ok());
        self.response = Some(ReceivedResponse {
            status,
            headers: fields,
            body: Vec::new(),
            body_length: 0,
            framing: length.map_or(ResponseBodyFraming::CloseDelimited, ResponseBodyFraming::Length),
            end: BodyEnd::Truncated,
            interim: std::mem::take(&mut self.interim),
        });
        Ok(())
    }

    fn set_ended(&mut self, ends: bool) {
        let Some(response) = self.response.as_mut().filter(|_| ends) else { return };
        self.complete = true;
        response.end = BodyEnd::Complete;
    }
}

/// Fields that HTTP/2 forbids (RFC 9113 8.2.2).
const CONNECTION_SPECIFIC: [&str; 5] =
    ["connection", "transfer-encoding", "keep-alive", "upgrade", "proxy-connection"];

/// Checks that the body has the length of Content-Length.
fn check_content_length(response: &ReceivedResponse) -> Result<(), String> {
    let ResponseBodyFraming::Length(length) = response.framing else { return Ok(()) };
    if response.end == BodyEnd::Complete && length != response.body_length {
        return Err(format!("expected {length} bytes (Content-Length), got {}", response.body_length));
    }
    Ok(())
}

fn describe_stream(stream: &ReceivedStream) -> String {
    match (&stream.response, stream.reset_code) {
        (Some(response), _) => format!("{} with {} bytes", response.status, response.body_length),
        (None, Some(code)) => format!("RST_STREAM with error {code}"),
        (None, None) => "no response".to_owned(),
    }
}
