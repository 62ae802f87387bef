//! Plays one row of the table of HTTP/2 clients against a gateway, and compares what became of its streams and of the
//! connection with what stands there.
//!
//! The counterpart of [`super::runner`], with the same scene and the same judge. It reads and writes at the same time, as
//! HTTP/2 demands, and acknowledges what a polite client would.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use super::client_faults::{ExpectedResponse, RequestKind};
use super::client_faults_h2::{CloseOutcome, FrameStep, H2ClientFault, StreamOutcome};
use super::frames::{self, ACK, END_HEADERS, END_STREAM, Frame, PREFACE, frame_type, setting_id};
use super::hpack;
use super::response_reader::{BodyEnd, ReceivedResponse, ResponseBodyFraming, append_capped};
use super::runner::{RunResult, TestContext, UpstreamRequestCount};

/// The stream of the upload that goes on beside a row.
const BACKGROUND_STREAM: u32 = 1;
/// The stream of the request that follows.
const FOLLOW_UP_STREAM: u32 = 0x0100_0001;
/// So often the neighbour sends a piece: more often than the limit on bodies.
const UPLOAD_INTERVAL: Duration = Duration::from_millis(200);
/// Half of what a window can be: what comes is counted, never held back.
const LARGE_WINDOW_SIZE: u32 = 0x4000_0000;

/// Plays a row to its end.
pub async fn run_h2_client_fault(row: &H2ClientFault, context: &TestContext<'_>) -> RunResult {
    let stream = match context.connector.connect(false).await {
        Ok(stream) => stream,
        Err(error) => {
            let violation = Some(format!("no connection to the gateway: {error}"));
            return RunResult { responses: Vec::new(), raw: Vec::new(), violation };
        }
    };
    let mut runner = Http2Runner::new(row, context, stream);
    let result = runner.run().await;
    let violation = match result {
        Ok(()) => UpstreamRequestCount::count(&row.marker(), context.upstream)
            .check(runner.earlier, row.upstream_saw)
            .err(),
        Err(violation) => Some(violation),
    };
    RunResult { responses: runner.responses, raw: Vec::new(), violation }
}

/// A row that is being played.
struct Http2Runner<'a> {
    row: &'a H2ClientFault,
    context: &'a TestContext<'a>,
    earlier: UpstreamRequestCount,
    read_half: OwnedReadHalf,
    write_half: OwnedWriteHalf,
    /// What came and is no whole frame yet.
    received: Vec<u8>,
    /// What is to be written next.
    output: Bytes,
    /// Acknowledgements, to be written between two deeds.
    acks: VecDeque<Vec<u8>>,
    streams: BTreeMap<u32, ReceivedStream>,
    /// The answers that the row and what goes on beside it wait for.
    responses: Vec<ReceivedResponse>,
    /// The other side's SETTINGS came.
    settings_received: bool,
    /// The code of its GOAWAY.
    goaway_code: Option<u32>,
    connection_closed: bool,
    client_closed: bool,
    acks_suppressed: bool,
    deadline: Instant,
    /// When the neighbour sends its next piece; `None` before its head and once it ends.
    next_upload_at: Option<Instant>,
}

/// What came on one stream.
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

impl<'a> Http2Runner<'a> {
    fn new(row: &'a H2ClientFault, context: &'a TestContext<'a>, stream: TcpStream) -> Self {
        let (reading, writing) = stream.into_split();
        Http2Runner {
            row,
            context,
            earlier: UpstreamRequestCount::count(&row.marker(), context.upstream),
            read_half: reading,
            write_half: writing,
            received: Vec::new(),
            output: Bytes::new(),
            acks: VecDeque::new(),
            streams: BTreeMap::new(),
            responses: Vec::new(),
            settings_received: false,
            goaway_code: None,
            connection_closed: false,
            client_closed: false,
            acks_suppressed: false,
            deadline: Instant::now() + context.limit,
            next_upload_at: None,
        }
    }

    async fn run(&mut self) -> Result<(), String> {
        if let Some(settings) = &self.row.settings {
            // Nothing is to be remembered of the answers' fields, and nothing to be held back but what the row says.
            let base_settings =
                [(setting_id::HEADER_TABLE_SIZE, 0), (setting_id::INITIAL_WINDOW_SIZE, LARGE_WINDOW_SIZE)];
            let description: Vec<_> = base_settings.into_iter().chain(settings.iter().copied()).collect();
            let window_update = frames::window_update_frame(0, LARGE_WINDOW_SIZE - 0xffff);
            self.write([PREFACE, &frames::settings_frame(&description), &window_update].concat()).await?;
            // Acknowledged, too: what follows may be half of something.
            self.wait_until("its SETTINGS", |runner| {
                runner.settings_received && runner.acks.is_empty() && runner.output.is_empty()
            })
            .await?;
        }
        if self.row.background_stream {
            let head = self.context.profile.background_upload().encode();
            self.write(frames::encode_frame(frame_type::HEADERS, END_HEADERS, BACKGROUND_STREAM, head))
                .await?;
            // Not before: DATA of a stream that nobody has opened ends the connection.
            self.next_upload_at = Some(Instant::now() + UPLOAD_INTERVAL);
        }
        for step in &self.row.steps {
            if self.client_closed {
                break;
            }
            self.run_step(step).await?;
        }
        self.check_outcome().await
    }

    async fn run_step(&mut self, step: &FrameStep) -> Result<(), String> {
        self.deadline = Instant::now() + self.context.limit;
        match step {
            FrameStep::Send(bytes) => self.write(bytes.clone()).await,
            FrameStep::SendRepeated(bytes, times) => {
                for _ in 0..*times {
                    if self.connection_closed {
                        break;
                    }
                    self.write(bytes.clone()).await?;
                }
                Ok(())
            }
            FrameStep::SendSlowly(bytes, every) => {
                let (limit, streams) = (self.deadline, self.row.stream_outcomes.clone());
                let is_done = |runner: &Self| {
                    runner.connection_closed
                        || !streams.is_empty()
                            && streams.iter().all(|(number, _)| runner.is_stream_ended(*number))
                };
                while !is_done(self) && Instant::now() < limit {
                    self.deadline = limit;
                    self.write(bytes.clone()).await?;
                    self.deadline = limit.min(Instant::now() + *every);
                    // That nothing has come by then is no breach.
                    let _ = self.wait_until("", is_done).await;
                }
                self.deadline = limit;
                Ok(())
            }
            FrameStep::WaitForUpstreamRequest => {
                let (marker, earlier) = (self.row.marker(), self.earlier);
                let upstream = self.context.upstream;
                self.wait_until("that its request reaches the upstream", |_| {
                    UpstreamRequestCount::count(&marker, upstream).exceeds(earlier)
                })
                .await
            }
            FrameStep::WaitForStreamEnd(number) => {
                self.wait_until("an answer", |runner| runner.is_stream_ended(*number)).await
            }
            FrameStep::SuppressAcks => {
                self.acks_suppressed = true;
                Ok(())
            }
            FrameStep::Close => {
                self.client_closed = true;
                // What is unread turns the end into a reset: to who waits it is all the same.
                self.write_half.shutdown().await.map_err(|error| format!("cannot close: {error}"))
            }
        }
    }

    async fn check_outcome(&mut self) -> Result<(), String> {
        self.deadline = Instant::now() + self.context.limit;
        if self.client_closed {
            // Gone at once, whatever still comes.
            return Ok(());
        }
        let row = self.row;
        let streams: Vec<u32> = row
            .stream_outcomes
            .iter()
            .filter(|(_, outcome)| *outcome != StreamOutcome::NoResponse)
            .map(|(number, _)| *number)
            .collect();
        for number in streams {
            self.wait_until(&format!("an answer on stream {number}"), |runner| {
                runner.is_stream_ended(number) || runner.connection_closed
            })
            .await?;
        }
        for (number, outcome) in &row.stream_outcomes {
            self.check_stream(*number, *outcome)
                .map_err(|violation| format!("stream {number}: {violation}"))?;
        }
        match row.close_outcome {
            CloseOutcome::ClientClosed => Ok(()),
            CloseOutcome::KeptOpen => self.follow_up().await,
            CloseOutcome::ErrorGoaway | CloseOutcome::GracefulGoaway => {
                self.wait_until("the end of the connection", |runner| runner.connection_closed).await?;
                match (row.close_outcome, self.goaway_code) {
                    (CloseOutcome::ErrorGoaway, Some(0)) => Err("a GOAWAY that names no error".to_owned()),
                    (CloseOutcome::GracefulGoaway, Some(code)) if code != 0 => {
                        Err(format!("a GOAWAY for the error {code}"))
                    }
                    (CloseOutcome::ErrorGoaway | CloseOutcome::GracefulGoaway, None) => {
                        Err("the connection ends without a GOAWAY".to_owned())
                    }
                    (
                        CloseOutcome::ClientClosed
                        | CloseOutcome::KeptOpen
                        | CloseOutcome::ErrorGoaway
                        | CloseOutcome::GracefulGoaway,
                        Some(_) | None,
                    ) => Ok(()),
                }
            }
        }
    }

    /// Judges what became of a stream.
    fn check_stream(&mut self, number: u32, outcome: StreamOutcome) -> Result<(), String> {
        let stream = self.streams.remove(&number).unwrap_or_default();
        let description = format!("{}{}", describe_stream(&stream), self.describe_end());
        match outcome {
            StreamOutcome::NoResponse if stream.response.is_none() => Ok(()),
            StreamOutcome::Reset
                if stream.response.is_none() && stream.reset_code.is_some_and(|code| code != 0) =>
            {
                Ok(())
            }
            StreamOutcome::Empty431 => match stream.response {
                Some(response) if response.status == 431 && response.body_length == 0 => Ok(()),
                Some(_) | None => Err(format!("{description} in the place of an empty 431")),
            },
            StreamOutcome::HeadersOnly(cause) => match stream.response {
                Some(response) if response.body_length == 0 && response.end == BodyEnd::Truncated => {
                    // The body is what HEAD would not get: everything but that is judged.
                    let head = ReceivedResponse { end: BodyEnd::Complete, ..response };
                    let verdict = (self.context.check_response)(
                        ExpectedResponse::Rejected(cause),
                        RequestKind::HEAD,
                        &head,
                    );
                    self.responses.push(head);
                    verdict
                }
                Some(_) | None => Err(format!("{description} in the place of a head alone")),
            },
            StreamOutcome::Response(expected) => {
                let Some(response) = stream.response else {
                    return Err(format!("{description} in the place of an answer"));
                };
                let verdict = check_content_length(&response)
                    .and_then(|()| (self.context.check_response)(expected, RequestKind::DEFAULT, &response));
                self.responses.push(response);
                verdict
            }
            StreamOutcome::Reset => Err(format!("{description} in the place of a reset")),
            StreamOutcome::NoResponse => Err(format!("{description} in the place of nothing")),
        }
    }

    /// For who wonders why nothing came.
    fn describe_end(&self) -> String {
        match (self.connection_closed, self.goaway_code) {
            (false, None) => String::new(),
            (false, Some(code)) => format!(" behind a GOAWAY for {code}"),
            (true, None) => " before the connection ends".to_owned(),
            (true, Some(code)) => format!(" before the connection ends with a GOAWAY for {code}"),
        }
    }

    /// The connection is whole only if what went on beside the row comes to its end, and the next request is served.
    async fn follow_up(&mut self) -> Result<(), String> {
        let mut expected = vec![(FOLLOW_UP_STREAM, "the next request on the connection")];
        if self.row.background_stream {
            // Not a piece behind the end.
            self.next_upload_at = None;
            self.wait_until("that its frames are taken", |runner| {
                runner.acks.is_empty() && runner.output.is_empty()
            })
            .await?;
            self.write(frames::encode_frame(frame_type::DATA, END_STREAM, BACKGROUND_STREAM, "end")).await?;
            expected.insert(0, (BACKGROUND_STREAM, "another stream of the connection"));
        }
        let head = self.context.profile.follow_up_headers().encode();
        self.write(frames::encode_frame(
            frame_type::HEADERS,
            END_HEADERS | END_STREAM,
            FOLLOW_UP_STREAM,
            head,
        ))
        .await?;
        if self.row.settings.as_ref().is_some_and(|settings| !settings.is_empty()) {
            // The row has closed the windows of all streams.
            for (number, _) in &expected {
                self.write(frames::window_update_frame(*number, 0xffff)).await?;
            }
        }
        for (number, waited_for) in expected {
            self.wait_until(&format!("an answer to {waited_for}"), |runner| {
                runner.is_stream_ended(number) || runner.connection_closed
            })
            .await?;
            self.check_stream(number, StreamOutcome::Response(ExpectedResponse::Served))
                .map_err(|violation| format!("{waited_for}: {violation}"))?;
        }
        Ok(())
    }

    fn is_stream_ended(&self, number: u32) -> bool {
        self.streams.get(&number).is_some_and(ReceivedStream::is_ended)
    }

    /// Writes all of it, and reads meanwhile.
    async fn write(&mut self, bytes: impl Into<Bytes>) -> Result<(), String> {
        self.output = bytes.into();
        // What is not taken any more has been answered: reading decides.
        self.wait_until("that its frames are taken", |runner| {
            runner.output.is_empty() || runner.connection_closed
        })
        .await
    }

    /// Reads, and writes what is to be written, until this is so.
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
                return Err(format!("expected {waited_for}, and the connection ends"));
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
                                // What is already here may still be read.
                                Err(_) => self.output.clear(),
                            },
                            // What is awaited may happen elsewhere.
                            _ = tick.tick() => {
            if self.next_upload_at.is_some_and(|at| Instant::now() > at) && !self.is_stream_ended(BACKGROUND_STREAM) {
                                    self.next_upload_at = Some(Instant::now() + UPLOAD_INTERVAL);
                                    self.queue_ack(frames::encode_frame(frame_type::DATA, 0, BACKGROUND_STREAM, "piece"));
                                }
                            }
                            () = tokio::time::sleep_until(self.deadline.into()) => {
                                return Err(format!("expected {waited_for}, and nothing comes"));
                            }
                        }
            // Floods are sent beside other rows: they must not be late for it.
            tokio::task::yield_now().await;
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
            self.handle_frame(&frame)
                .map_err(|waited_for| format!("what comes is malformed: {waited_for}"))?;
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
                // A farewell may come in two steps; an error is the last word.
                self.goaway_code = Some(code);
            }
            frame_type::HEADERS => {
                if frame.flags & END_HEADERS == 0 {
                    return Err("a head in several frames");
                }
                let fields = hpack::decode(&frame.payload)?;
                let stream = self.streams.entry(frame.stream).or_default();
                stream.receive_headers(fields)?;
                stream.set_ended(frame.flags & END_STREAM != 0);
            }
            frame_type::DATA => {
                let stream = self.streams.entry(frame.stream).or_default();
                let response = stream.response.as_mut().ok_or("DATA before a head")?;
                append_capped(&mut response.body, &frame.payload);
                response.body_length += frame.payload.len() as u64;
                stream.set_ended(frame.flags & END_STREAM != 0);
            }
            frame_type::RST_STREAM => {
                let stream = self.streams.entry(frame.stream).or_default();
                stream.reset_code = Some(frames::leading_u32(&frame.payload));
            }
            // PING and SETTINGS that answer ours, windows, and what nobody asked for.
            _ => {}
        }
        Ok(())
    }
}

impl ReceivedStream {
    fn receive_headers(&mut self, mut fields: hpack::DecodedHeaders) -> Result<(), &'static str> {
        let pseudo = fields.iter().take_while(|(name, _)| name.starts_with(':')).count();
        if self.response.is_some() {
            return if pseudo == 0 { Ok(()) } else { Err("a second head") };
        }
        let status =
            fields.first().filter(|(name, _)| name == ":status").ok_or("a head without its status")?;
        let status = status.1.parse().ok().filter(|_| status.1.len() == 3).ok_or("a status that is none")?;
        if pseudo != 1 || fields.iter().any(|(name, _)| name.bytes().any(|octet| octet.is_ascii_uppercase()))
        {
            return Err("a name in upper case, or with a colon");
        }
        if fields.iter().any(|(name, _)| CONNECTION_SPECIFIC.contains(&name.as_str())) {
            return Err("a field that belongs to HTTP/1");
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

/// Fields of one connection of HTTP/1 (RFC 9113 8.2.2).
const CONNECTION_SPECIFIC: [&str; 5] =
    ["connection", "transfer-encoding", "keep-alive", "upgrade", "proxy-connection"];

/// What it says of its length is true.
fn check_content_length(response: &ReceivedResponse) -> Result<(), String> {
    match response.framing {
        ResponseBodyFraming::Length(length)
            if response.end == BodyEnd::Complete && length != response.body_length =>
        {
            Err(format!("{} bytes for a Content-Length of {length}", response.body_length))
        }
        ResponseBodyFraming::Length(_)
        | ResponseBodyFraming::Bodiless
        | ResponseBodyFraming::Chunked
        | ResponseBodyFraming::CloseDelimited => Ok(()),
    }
}

fn describe_stream(stream: &ReceivedStream) -> String {
    match (&stream.response, stream.reset_code) {
        (Some(response), _) => format!("{} with {} bytes", response.status, response.body_length),
        (None, Some(code)) => format!("a reset for the error {code}"),
        (None, None) => "nothing".to_owned(),
    }
}
