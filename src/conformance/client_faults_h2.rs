//! The table of HTTP/2 client faults: frames that a client sends, and exactly what should become of each stream, and of the
//! connection.
//!
//! The counterpart of [`super::client_faults`], whose words it shares where they mean the same on both protocols. Much of what is
//! malformed here never becomes a request: the HTTP/2 library resets the stream or ends the connection, and what stands in
//! the table then is the name under which that silence is counted. A row does not know how it is played
//! ([`super::runner_h2`]).

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

/// One way in which an HTTP/2 client breaks, or comes close to it.
#[derive(Clone, Debug)]
pub struct H2ClientFault {
    /// Stable name.
    pub name: &'static str,
    /// What the client does, in one line.
    pub description: &'static str,
    /// The settings that it begins with; `None`: it sends the preface and nothing else.
    pub settings: Option<Vec<(u16, u32)>>,
    /// What it does, step by step.
    pub steps: Vec<FrameStep>,
    /// What becomes of its streams.
    pub stream_outcomes: Vec<(u32, StreamOutcome)>,
    /// What becomes of the connection.
    pub close_outcome: CloseOutcome,
    /// What the upstream receives.
    pub upstream_saw: UpstreamSaw,
    /// Another stream of the connection uploads meanwhile, and is served.
    pub background_stream: bool,
    /// What is counted in `closed_without_response_total`, once each.
    pub close_reasons: Vec<&'static str>,
    /// The path that must lead to no route but one that refuses dot segments.
    pub dot_segment_path: Option<&'static str>,
    /// More may be counted: how many of its streams become requests depends on how its bytes arrive.
    pub nondeterministic: bool,
}

/// One thing a client does.
#[derive(Clone, Debug)]
pub enum FrameStep {
    /// Sends these frames.
    Send(Bytes),
    /// Sends the same frames so many times; ends early when they are not taken any more.
    SendRepeated(Bytes, u32),
    /// Sends the same frames again and again with a pause after each, until the other side ends the connection.
    SendSlowly(Bytes, Duration),
    /// Waits until the upstream has received a request of this row.
    WaitForUpstreamRequest,
    /// Waits until the stream has got its answer.
    WaitForStreamEnd(u32),
    /// From now on it acknowledges nothing, not even a PING.
    SuppressAcks,
    /// Closes the connection.
    Close,
}

/// What becomes of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamOutcome {
    /// It is answered, and ends.
    Response(ExpectedResponse),
    /// It is reset without a response.
    Reset,
    /// It gets an empty 431, which the HTTP/2 library makes by itself.
    Empty431,
    /// It gets the head of a documented error, and is reset for its cause: the client takes no body.
    HeadersOnly(Cause),
    /// Nothing more comes on it, because the client has ended it or the connection ends.
    NoResponse,
}

/// What becomes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseOutcome {
    /// It serves another request.
    KeptOpen,
    /// GOAWAY with a code, and the end.
    ErrorGoaway,
    /// GOAWAY without one, and the end.
    GracefulGoaway,
    /// The client has left.
    ClientClosed,
}

/// What the silence of a reset stream is called.
pub const STREAM_ERROR: &str = "http2_stream_error";
/// What the silence of a connection that ends with an error is called.
pub const CONNECTION_ERROR: &str = "http2_connection_error";
const IDLE_TIMEOUT: &str = "idle_timeout";
const CLIENT_GONE: &str = "client_gone";

impl H2ClientFault {
    /// The mark in the query of each of its requests, by which they are found in what an upstream received.
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

/// The whole table for this setting, in the order in which it is shown.
pub fn client_faults_h2(profile: &GatewayProfile) -> Vec<H2ClientFault> {
    client_faults_h2_by_section(profile).into_iter().flat_map(|(_, rows)| rows).collect()
}

/// The same, sort by sort, each with its title.
pub fn client_faults_h2_by_section(profile: &GatewayProfile) -> Vec<(&'static str, Vec<H2ClientFault>)> {
    vec![
        ("Who is asked", pseudo_headers::authorities(profile)),
        ("What is asked for", pseudo_headers::targets(profile)),
        ("Methods, schemes, and other fields with a colon", pseudo_headers::other_pseudo_headers(profile)),
        ("Fields", header_lists::fields(profile)),
        ("Header lists", header_lists::header_list_sizes(profile)),
        ("The length of a body", bodies::lengths(profile)),
        ("The end of a body", bodies::ends(profile)),
        ("Bodies that do not come", bodies::slow(profile)),
        ("Flow control", flow_control::flow_control(profile)),
        ("Frames", connections::frames(profile)),
        ("Streams", connections::streams(profile)),
        ("Connections that say nothing", connections::slow(profile)),
        ("Floods", floods::floods(profile)),
    ]
}

/// The stream that most rows need; 1 is the neighbour's.
const FAULT_STREAM: u32 = 3;

impl GatewayProfile {
    /// The fields of an ordinary request of this row, by this method.
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

    /// The upload that goes on beside most rows.
    pub fn background_upload(&self) -> HeaderList {
        self.post_headers("neighbour")
    }

    /// What is asked at the end, to see that the connection is still whole.
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

/// A request without a body, and what becomes of it.
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

/// What makes the library end the connection.
fn connection_error(
    name: &'static str,
    description: &'static str,
    frames: impl Into<Bytes>,
) -> H2ClientFault {
    fault_row(name, description, vec![FrameStep::Send(frames.into())], Vec::new(), CloseOutcome::ErrorGoaway)
}

/// A request that its upstream does not answer, and what it says then: so that the answer does not come first.
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

/// HEADERS with this list.
fn send_headers(stream: u32, header_list: &HeaderList, end_stream: bool) -> FrameStep {
    FrameStep::Send(headers_frames(stream, header_list, end_stream).into())
}

fn headers_frames(stream: u32, header_list: &HeaderList, end_stream: bool) -> Vec<u8> {
    let end = if end_stream { END_STREAM } else { 0 };
    header_block_frames(stream, &header_list.encode(), end)
}

/// A header block in as many frames as it needs.
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

/// The largest frame that anybody has to take.
const MAX_FRAME_PAYLOAD: usize = 16 * 1024;

#[cfg(test)]
#[path = "client_faults_h2_tests.rs"]
mod tests;
