//! The table of HTTP/2 client faults: the frames that a client sends, and the exact outcome of each stream and of the
//! connection.
//!
//! The counterpart of [`mod@super::client_faults`], with which it shares its types. Many malformed requests never reach the
//! gateway's code: the HTTP/2 library resets the stream or closes the connection. The row then holds the cause under
//! which that is counted. [`super::runner_h2`] runs the rows.

use std::time::Duration;

use bytes::Bytes;

use super::client_faults::{ExpectedResponse, FAULT_HEADER, GatewayProfile, UpstreamSaw};
use super::frames::{END_HEADERS, END_STREAM, encode_frame, frame_type};
use super::hpack::HeaderList;
use crate::contract::Cause;

mod bodies;
mod connections;
mod floods;
mod flow_control;
mod header_lists;
mod pseudo_headers;

/// One HTTP/2 client fault, or an unusual but valid request.
#[derive(Clone, Debug)]
pub struct H2ClientFault {
    /// Stable name.
    pub name: &'static str,
    /// What the client does, in one line.
    pub description: &'static str,
    /// The SETTINGS after the preface; `None`: only the steps are sent, which may contain the preface.
    pub settings: Option<Vec<(u16, u32)>>,
    /// The steps of the client.
    pub steps: Vec<FrameStep>,
    /// The expected outcome of each stream.
    pub stream_outcomes: Vec<(u32, StreamOutcome)>,
    /// The expected state of the connection.
    pub close_outcome: CloseOutcome,
    /// What the upstream receives.
    pub upstream_saw: UpstreamSaw,
    /// Run an upload on another stream of the connection, which must be served.
    pub background_stream: bool,
    /// The causes counted in `closed_without_response_total`, once each.
    pub close_reasons: Vec<&'static str>,
    /// A path with dot segments; the row does not apply where a lenient route matches it.
    pub dot_segment_path: Option<&'static str>,
    /// More events may be counted: how many streams become requests depends on how the bytes arrive.
    pub nondeterministic: bool,
}

/// One step of an HTTP/2 client.
#[derive(Clone, Debug)]
pub enum FrameStep {
    /// Sends these frames.
    Send(Bytes),
    /// Sends the frames this many times; stops early when the connection closes.
    SendRepeated(Bytes, u32),
    /// Sends the frames repeatedly with this pause in between, until the expected streams end or the connection closes.
    SendSlowly(Bytes, Duration),
    /// Waits until the upstream has received a request of this row.
    WaitForUpstreamRequest,
    /// Waits until the stream has ended.
    WaitForStreamEnd(u32),
    /// Acknowledges nothing from now on, not even PING.
    SuppressAcks,
    /// Closes the connection.
    Close,
}

/// The outcome of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamOutcome {
    /// A complete response.
    Response(ExpectedResponse),
    /// RST_STREAM without a response.
    Reset,
    /// An empty 431, which the HTTP/2 library sends.
    Empty431,
    /// The headers of a documented error for this cause, then RST_STREAM: the client's window takes no body.
    HeadersOnly(Cause),
    /// No response: the client reset the stream, or the connection ends.
    NoResponse,
}

/// The outcome of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseOutcome {
    /// It serves another request.
    KeptOpen,
    /// GOAWAY with an error code, then close.
    ErrorGoaway,
    /// GOAWAY with NO_ERROR, then close.
    GracefulGoaway,
    /// The client closed it.
    ClientClosed,
}

/// The close reason of a stream that the HTTP/2 library resets.
pub const STREAM_ERROR: &str = "http2_stream_error";
/// The close reason of a connection that the HTTP/2 library closes with an error.
pub const CONNECTION_ERROR: &str = "http2_connection_error";
const IDLE_TIMEOUT: &str = "idle_timeout";
const CLIENT_GONE: &str = "client_gone";

impl H2ClientFault {
    /// The query parameter that identifies the requests of this row in the upstream's recording.
    pub fn marker(&self) -> String {
        format!("row={}", self.name)
    }

    fn without_background_stream(mut self) -> Self {
        self.background_stream = false;
        self
    }

    fn with_dot_segment_path(mut self, path: &'static str) -> Self {
        self.dot_segment_path = Some(path);
        self
    }

    fn nondeterministic(mut self) -> Self {
        self.nondeterministic = true;
        self
    }

    fn with_upstream_saw(mut self, upstream_saw: UpstreamSaw) -> Self {
        self.upstream_saw = upstream_saw;
        self
    }

    fn with_settings(mut self, settings: &[(u16, u32)]) -> Self {
        self.settings = Some(settings.to_vec());
        self
    }

    fn with_close_reasons(mut self, close_reasons: &[&'static str]) -> Self {
        self.close_reasons = close_reasons.to_vec();
        self
    }
}

/// All HTTP/2 client faults for this profile, in documentation order.
pub fn client_faults_h2(profile: &GatewayProfile) -> Vec<H2ClientFault> {
    client_faults_h2_by_section(profile).into_iter().flat_map(|(_, rows)| rows).collect()
}

/// [`client_faults_h2()`], grouped by the headings of the documentation.
pub fn client_faults_h2_by_section(profile: &GatewayProfile) -> Vec<(&'static str, Vec<H2ClientFault>)> {
    vec![
        ("Authority", pseudo_headers::authorities(profile)),
        ("Path", pseudo_headers::targets(profile)),
        ("Other pseudo-header fields", pseudo_headers::other_pseudo_headers(profile)),
        ("Header fields", header_lists::fields(profile)),
        ("Header compression and header list size", header_lists::header_list_sizes(profile)),
        ("Body length", bodies::lengths(profile)),
        ("Trailers and the end of the stream", bodies::ends(profile)),
        ("Slow bodies", bodies::slow(profile)),
        ("Flow control", flow_control::flow_control(profile)),
        ("Frames", connections::frames(profile)),
        ("Streams", connections::streams(profile)),
        ("Idle and stalled connections", connections::slow(profile)),
        ("Floods", floods::floods(profile)),
    ]
}

/// The stream of most rows; stream 1 is the background upload.
const FAULT_STREAM: u32 = 3;

impl GatewayProfile {
    /// The header list of an ordinary request of this row.
    fn header_list(&self, method: &str, name: &str) -> HeaderList {
        HeaderList::default()
            .with(":method", method)
            .with(":scheme", "http")
            .with(":path", format!("{}?row={name}", self.path))
            .with(":authority", &self.host)
    }

    fn get_headers(&self, name: &str) -> HeaderList {
        self.header_list(&self.read_method, name)
    }

    fn post_headers(&self, name: &str) -> HeaderList {
        self.header_list(&self.write_method, name)
    }

    /// The header list of the background upload.
    pub fn background_upload(&self) -> HeaderList {
        self.post_headers("background")
    }

    /// The header list of the final request, which checks that the connection is still usable.
    pub fn follow_up_headers(&self) -> HeaderList {
        self.get_headers("follow-up")
    }
}

fn fault_row(
    name: &'static str,
    description: &'static str,
    steps: Vec<FrameStep>,
    stream_outcomes: Vec<(u32, StreamOutcome)>,
    close_outcome: CloseOutcome,
) -> H2ClientFault {
    let stream_errors = stream_outcomes
        .iter()
        .filter(|(_, stream_outcome)| *stream_outcome == StreamOutcome::Reset)
        .map(|_| STREAM_ERROR);
    let header_list_errors = stream_outcomes
        .iter()
        .filter(|(_, stream_outcome)| *stream_outcome == StreamOutcome::Empty431)
        .map(|_| "http2_header_list");
    let end_stream = (close_outcome == CloseOutcome::ErrorGoaway).then_some(CONNECTION_ERROR);
    let served_streams = stream_outcomes
        .iter()
        .filter(|(_, stream_outcome)| *stream_outcome == StreamOutcome::Response(ExpectedResponse::Served))
        .count();
    H2ClientFault {
        name,
        description,
        settings: Some(Vec::new()),
        steps,
        close_outcome,
        upstream_saw: UpstreamSaw::Complete(served_streams),
        background_stream: close_outcome == CloseOutcome::KeptOpen,
        close_reasons: stream_errors.chain(header_list_errors).chain(end_stream).collect(),
        stream_outcomes,
        dot_segment_path: None,
        nondeterministic: false,
    }
}

/// One request without a body, with this outcome.
fn single_request(
    name: &'static str,
    description: &'static str,
    header_list: &HeaderList,
    stream_outcome: StreamOutcome,
) -> H2ClientFault {
    fault_row(
        name,
        description,
        vec![send_headers(FAULT_STREAM, header_list, true)],
        vec![(FAULT_STREAM, stream_outcome)],
        CloseOutcome::KeptOpen,
    )
}

fn rejected(
    name: &'static str,
    description: &'static str,
    cause: Cause,
    header_list: &HeaderList,
) -> H2ClientFault {
    single_request(name, description, header_list, StreamOutcome::Response(ExpectedResponse::Rejected(cause)))
}

fn served(name: &'static str, description: &'static str, header_list: &HeaderList) -> H2ClientFault {
    single_request(name, description, header_list, StreamOutcome::Response(ExpectedResponse::Served))
}

fn stream_reset(name: &'static str, description: &'static str, header_list: &HeaderList) -> H2ClientFault {
    single_request(name, description, header_list, StreamOutcome::Reset)
}

/// Frames that cause a connection error in the HTTP/2 library.
fn connection_error(
    name: &'static str,
    description: &'static str,
    frames: impl Into<Bytes>,
) -> H2ClientFault {
    fault_row(name, description, vec![FrameStep::Send(frames.into())], Vec::new(), CloseOutcome::ErrorGoaway)
}

/// Sends `frames_then` while a request is pending; the upstream never responds, so that no response arrives first.
fn while_pending(
    name: &'static str,
    description: &'static str,
    profile: &GatewayProfile,
    frames_then: impl Into<Bytes>,
    stream_outcome: StreamOutcome,
    close_outcome: CloseOutcome,
) -> H2ClientFault {
    let hanging_request = profile.get_headers(name).with(FAULT_HEADER, "hang");
    let steps = vec![
        send_headers(FAULT_STREAM, &hanging_request, true),
        FrameStep::WaitForUpstreamRequest,
        FrameStep::Send(frames_then.into()),
    ];
    fault_row(name, description, steps, vec![(FAULT_STREAM, stream_outcome)], close_outcome)
        .with_upstream_saw(UpstreamSaw::Any)
}

/// Sends a header block with this list.
fn send_headers(stream: u32, header_list: &HeaderList, end_stream: bool) -> FrameStep {
    FrameStep::Send(headers_frames(stream, header_list, end_stream).into())
}

fn headers_frames(stream: u32, header_list: &HeaderList, end_stream: bool) -> Vec<u8> {
    let end = if end_stream { END_STREAM } else { 0 };
    header_block_frames(stream, &header_list.encode(), end)
}

/// Splits a header block into HEADERS and CONTINUATION frames.
fn header_block_frames(stream: u32, octets: &[u8], flags: u8) -> Vec<u8> {
    let mut fragments = octets.chunks(MAX_FRAME_PAYLOAD).peekable();
    let (mut bytes, mut kind) = (Vec::new(), frame_type::HEADERS);
    while let Some(fragment) = fragments.next() {
        let last = if fragments.peek().is_none() { END_HEADERS } else { 0 };
        let flags = if kind == frame_type::HEADERS { flags } else { 0 };
        bytes.extend(encode_frame(kind, flags | last, stream, fragment));
        kind = frame_type::CONTINUATION;
    }
    bytes
}

fn data_frame(stream: u32, octets: impl AsRef<[u8]>, end_stream: bool) -> Vec<u8> {
    encode_frame(frame_type::DATA, u8::from(end_stream), stream, octets)
}

fn send(bytes: impl Into<Bytes>) -> FrameStep {
    FrameStep::Send(bytes.into())
}

/// The default and minimum SETTINGS_MAX_FRAME_SIZE (RFC 9113, section 6.5.2).
const MAX_FRAME_PAYLOAD: usize = 16 * 1024;

#[cfg(test)]
#[path = "client_faults_h2_tests.rs"]
mod tests;
