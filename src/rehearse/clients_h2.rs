//! The table of HTTP/2 client faults: frames that a client sends, and exactly what should become of each stream, and of the
//! connection.
//!
//! The counterpart of [`super::clients`], whose words it shares where they mean the same on both protocols. Much of what is
//! malformed here never becomes a request: the HTTP/2 library resets the stream or ends the connection, and what stands in
//! the table then is the name under which that silence is counted. A row does not know how it is played
//! ([`super::talk_h2`]).

use std::time::Duration;

use bytes::Bytes;

use super::clients::{Expected, PLAY, Reaches, Setting};
use super::frames::{END_HEADERS, END_STREAM, frame, kind};
use super::hpack::List;
use crate::contract::Cause;

mod bodies;
mod connections;
mod floods;
mod heads;
mod pseudo;
mod windows;

/// One way in which an HTTP/2 client breaks, or comes close to it.
#[derive(Clone, Debug)]
pub struct FrameFault {
    /// Stable name.
    pub name: &'static str,
    /// What the client does, in one line.
    pub meaning: &'static str,
    /// The settings that it begins with; `None`: it sends the preface and nothing else.
    pub settings: Option<Vec<(u16, u32)>>,
    /// What it does, step by step.
    pub deeds: Vec<Deed>,
    /// What becomes of its streams.
    pub fates: Vec<(u32, Fate)>,
    /// What becomes of the connection.
    pub ending: LastWord,
    /// What the upstream receives.
    pub reaches: Reaches,
    /// Another stream of the connection uploads meanwhile, and is served.
    pub neighbour: bool,
    /// What is counted in `closed_without_response_total`, once each.
    pub silences: Vec<&'static str>,
    /// The path that must lead to no route but one that refuses dot segments.
    pub dotted: Option<&'static str>,
    /// More may be counted: how many of its streams become requests depends on how its bytes arrive.
    pub loose: bool,
}

/// One thing a client does.
#[derive(Clone, Debug)]
pub enum Deed {
    /// Sends these frames.
    Send(Bytes),
    /// Sends the same frames so many times; ends early when they are not taken any more.
    Repeat(Bytes, u32),
    /// Sends the same frames again and again with a pause after each, until the other side ends the connection.
    Drip(Bytes, Duration),
    /// Waits until the upstream has received a request of this row.
    Arrived,
    /// Waits until the stream has got its answer.
    Answered(u32),
    /// From now on it acknowledges nothing, not even a PING.
    Mute,
    /// Closes the connection.
    Close,
}

/// What becomes of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is answered, and ends.
    Answer(Expected),
    /// It is reset without a response.
    Reset,
    /// It gets an empty 431, which the HTTP/2 library makes by itself.
    Empty431,
    /// It gets the head of a documented error, and is reset for its cause: the client takes no body.
    HeadOnly(Cause),
    /// Nothing more comes on it, because the client has ended it or the connection ends.
    Silence,
}

/// What becomes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LastWord {
    /// It serves another request.
    Stays,
    /// GOAWAY with a code, and the end.
    Error,
    /// GOAWAY without one, and the end.
    Farewell,
    /// The client has left.
    Left,
}

/// What the silence of a reset stream is called.
pub const STREAM_ERROR: &str = "http2_stream_error";
/// What the silence of a connection that ends with an error is called.
pub const CONNECTION_ERROR: &str = "http2_connection_error";
const IDLE: &str = "idle_timeout";
const GONE: &str = "client_gone";

impl FrameFault {
    /// The mark in the query of each of its requests, by which they are found in what an upstream received.
    pub fn mark(&self) -> String {
        format!("row={}", self.name)
    }

    fn alone(mut self) -> Self {
        self.neighbour = false;
        self
    }

    fn dotted(mut self, path: &'static str) -> Self {
        self.dotted = Some(path);
        self
    }

    fn loose(mut self) -> Self {
        self.loose = true;
        self
    }

    fn reaching(mut self, reaches: Reaches) -> Self {
        self.reaches = reaches;
        self
    }

    fn with_settings(mut self, settings: &[(u16, u32)]) -> Self {
        self.settings = Some(settings.to_vec());
        self
    }

    fn counted(mut self, silences: &[&'static str]) -> Self {
        self.silences = silences.to_vec();
        self
    }
}

/// The whole table for this setting, in the order in which it is shown.
pub fn client_faults_h2(setting: &Setting) -> Vec<FrameFault> {
    client_faults_h2_by_sort(setting).into_iter().flat_map(|(_, rows)| rows).collect()
}

/// The same, sort by sort, each with its title.
pub fn client_faults_h2_by_sort(setting: &Setting) -> Vec<(&'static str, Vec<FrameFault>)> {
    vec![
        ("Who is asked", pseudo::authorities(setting)),
        ("What is asked for", pseudo::targets(setting)),
        ("Methods, schemes, and other fields with a colon", pseudo::others(setting)),
        ("Fields", heads::fields(setting)),
        ("Header lists", heads::sizes(setting)),
        ("The length of a body", bodies::lengths(setting)),
        ("The end of a body", bodies::ends(setting)),
        ("Bodies that do not come", bodies::slow(setting)),
        ("Flow control", windows::windows(setting)),
        ("Frames", connections::frames(setting)),
        ("Streams", connections::streams(setting)),
        ("Connections that say nothing", connections::slow(setting)),
        ("Floods", floods::floods(setting)),
    ]
}

/// The stream that most rows need; 1 is the neighbour's.
const STREAM: u32 = 3;

impl Setting {
    /// The fields of an ordinary request of this row, by this method.
    fn list(&self, method: &str, name: &str) -> List {
        List::default()
            .with(":method", method)
            .with(":scheme", "http")
            .with(":path", format!("{}?row={name}", self.path))
            .with(":authority", &self.host)
    }

    fn get(&self, name: &str) -> List {
        self.list(&self.read, name)
    }

    fn post(&self, name: &str) -> List {
        self.list(&self.write, name)
    }

    /// The upload that goes on beside most rows.
    pub fn neighbour(&self) -> List {
        self.post("neighbour")
    }

    /// What is asked at the end, to see that the connection is still whole.
    pub fn another(&self) -> List {
        self.get("follow-up")
    }
}

fn fault(
    name: &'static str,
    meaning: &'static str,
    deeds: Vec<Deed>,
    fates: Vec<(u32, Fate)>,
    ending: LastWord,
) -> FrameFault {
    let resets = fates.iter().filter(|(_, fate)| *fate == Fate::Reset).map(|_| STREAM_ERROR);
    let too_large = fates.iter().filter(|(_, fate)| *fate == Fate::Empty431).map(|_| "http2_header_list");
    let ends = (ending == LastWord::Error).then_some(CONNECTION_ERROR);
    let served = fates.iter().filter(|(_, fate)| *fate == Fate::Answer(Expected::Served)).count();
    FrameFault {
        name,
        meaning,
        settings: Some(Vec::new()),
        deeds,
        ending,
        reaches: Reaches::Whole(served),
        neighbour: ending == LastWord::Stays,
        silences: resets.chain(too_large).chain(ends).collect(),
        fates,
        dotted: None,
        loose: false,
    }
}

/// A request without a body, and what becomes of it.
fn asked(name: &'static str, meaning: &'static str, list: &List, fate: Fate) -> FrameFault {
    fault(name, meaning, vec![head(STREAM, list, true)], vec![(STREAM, fate)], LastWord::Stays)
}

fn refused(name: &'static str, meaning: &'static str, cause: Cause, list: &List) -> FrameFault {
    asked(name, meaning, list, Fate::Answer(Expected::Refused(cause)))
}

fn served(name: &'static str, meaning: &'static str, list: &List) -> FrameFault {
    asked(name, meaning, list, Fate::Answer(Expected::Served))
}

fn reset(name: &'static str, meaning: &'static str, list: &List) -> FrameFault {
    asked(name, meaning, list, Fate::Reset)
}

/// What makes the library end the connection.
fn broken(name: &'static str, meaning: &'static str, frames: impl Into<Bytes>) -> FrameFault {
    fault(name, meaning, vec![Deed::Send(frames.into())], Vec::new(), LastWord::Error)
}

/// A request that its upstream does not answer, and what it says then: so that the answer does not come first.
fn waiting(
    name: &'static str,
    meaning: &'static str,
    setting: &Setting,
    then: impl Into<Bytes>,
    fate: Fate,
    ending: LastWord,
) -> FrameFault {
    let hangs = setting.get(name).with(PLAY, "hang");
    let deeds = vec![head(STREAM, &hangs, true), Deed::Arrived, Deed::Send(then.into())];
    fault(name, meaning, deeds, vec![(STREAM, fate)], ending).reaching(Reaches::Anything)
}

/// HEADERS with this list.
fn head(stream: u32, list: &List, ends: bool) -> Deed {
    Deed::Send(headers(stream, list, ends).into())
}

fn headers(stream: u32, list: &List, ends: bool) -> Vec<u8> {
    let end = if ends { END_STREAM } else { 0 };
    block(stream, &list.block(), end)
}

/// A header block in as many frames as it needs.
fn block(stream: u32, octets: &[u8], flags: u8) -> Vec<u8> {
    let mut pieces = octets.chunks(MOST).peekable();
    let (mut bytes, mut kind) = (Vec::new(), kind::HEADERS);
    while let Some(piece) = pieces.next() {
        let last = if pieces.peek().is_none() { END_HEADERS } else { 0 };
        let flags = if kind == kind::HEADERS { flags } else { 0 };
        bytes.extend(frame(kind, flags | last, stream, piece));
        kind = kind::CONTINUATION;
    }
    bytes
}

fn data(stream: u32, octets: impl AsRef<[u8]>, ends: bool) -> Vec<u8> {
    frame(kind::DATA, u8::from(ends), stream, octets)
}

fn send(bytes: impl Into<Bytes>) -> Deed {
    Deed::Send(bytes.into())
}

/// The largest frame that anybody has to take.
const MOST: usize = 16 * 1024;

#[cfg(test)]
#[path = "clients_h2_tests.rs"]
mod tests;
