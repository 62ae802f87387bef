//! The table of client faults: what a client sends, byte for byte, and exactly what should come of it.
//!
//! One row per fault, told once for tests and `rehearse`. Rows are written for any gateway: where a
//! request is to be understood, it asks for what the [`Setting`] says is there. Expectations come from the contract
//! (`docs/codes.md`), not from what a gateway happens to do. A row does not know how it is played ([`super::talk`]).

use std::time::Duration;

use bytes::Bytes;

use crate::contract::Cause;

mod chunks;
mod conduct;
mod endings;
mod fields;
mod framing;
mod lines;
mod pipelines;
mod targets;
mod tls;

pub use tls::{client_faults_tls, client_faults_tls_by_sort};

/// One way in which a client breaks, or comes close to it.
#[derive(Clone, Debug)]
pub struct ClientFault {
    /// Stable name.
    pub name: &'static str,
    /// What the client does, in one line.
    pub meaning: &'static str,
    /// What it does, step by step.
    pub acts: Vec<Act>,
    /// What it gets, answer by answer: as many as there are [`Act::Answer`]s.
    pub answers: Vec<Expected>,
    /// What becomes of the connection.
    pub ending: Ending,
    /// What the upstream receives.
    pub reaches: Reaches,
    /// The request line that must reach the setting's route, where it is another than the setting's own.
    pub asks: Option<Target>,
    /// The receive buffer of its socket is as small as it gets.
    pub narrow: bool,
}

/// What is asked for in a request line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The method.
    pub method: String,
    /// The path, as sent.
    pub path: String,
    /// Without Host: only a route for any host takes it.
    pub no_host: bool,
}

/// One thing a client does.
#[derive(Clone, Debug)]
pub enum Act {
    /// Sends these bytes.
    Send(Bytes),
    /// Sends the same bytes so many times; ends early when they are not taken any more.
    Repeat(Bytes, u64),
    /// Sends the same bytes again and again with a pause after each, until something comes back.
    Drip(Bytes, Duration),
    /// Reads one interim response, which must have this status.
    Interim(u16),
    /// Reads one final response, as an answer to this.
    Answer(Asked),
    /// Reads one final response so many bytes at a time, with a pause before each.
    AnswerSlowly(Asked, usize, Duration),
    /// Waits until the upstream has received a request of this row.
    Arrived,
    /// Waits until something has come back, and leaves it unread.
    Answered,
    /// Neither sends nor reads for so long.
    Pause(Duration),
    /// Shuts down the sending side.
    HalfClose,
    /// Closes the connection.
    Close,
    /// Resets the connection.
    Reset,
    /// Begins TLS; everything behind it is encrypted.
    Handshake(Hello),
    /// Sends these bytes past TLS.
    Beneath(Bytes),
    /// Waits for the alert with which the gateway gives TLS up.
    Alert(Alert),
    /// Reads whatever comes until the connection ends, and forgets it.
    Forget,
}

/// How a client begins TLS, and what comes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The server that it asks for (SNI).
    pub name: Option<&'static str>,
    /// The protocols that it offers (ALPN).
    pub offers: &'static [&'static str],
    /// It takes any certificate, or none.
    pub trusts: bool,
    /// It knows nothing newer than TLS 1.2.
    pub old: bool,
    /// What comes of it.
    pub gets: Shaken,
}

/// What comes of a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shaken {
    /// It goes well, with this protocol.
    Agrees(Option<&'static str>),
    /// The gateway refuses it.
    Alert(Alert),
    /// The client refuses it, for the certificate.
    Distrusts,
}

/// An alert of TLS that ends the connection (RFC 8446 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alert {
    /// Its number.
    pub code: u8,
    /// Its name.
    pub name: &'static str,
}

impl Alert {
    /// A message that may not come here.
    pub const UNEXPECTED_MESSAGE: Alert = Alert { code: 10, name: "unexpected_message" };
    /// A record that cannot be decrypted.
    pub const BAD_RECORD_MAC: Alert = Alert { code: 20, name: "bad_record_mac" };
    /// Nothing that both sides know.
    pub const HANDSHAKE_FAILURE: Alert = Alert { code: 40, name: "handshake_failure" };
    /// What cannot be read.
    pub const DECODE_ERROR: Alert = Alert { code: 50, name: "decode_error" };
    /// No version that both sides know.
    pub const PROTOCOL_VERSION: Alert = Alert { code: 70, name: "protocol_version" };
    /// No protocol that both sides know.
    pub const NO_APPLICATION_PROTOCOL: Alert = Alert { code: 120, name: "no_application_protocol" };
}

/// What is asked: how a response is to be read depends on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// By HEAD.
    pub head: bool,
    /// By HTTP/1.0.
    pub old: bool,
}

/// What a client gets for one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// A documented error for what is no request, or reaches no route.
    Refused(Cause),
    /// A documented error for a request that reached its route.
    RefusedOnRoute(Cause),
    /// The upstream's answer: 200 with [`SERVED`].
    Served,
    /// The upstream's long answer: 200 with so many bytes.
    ServedBytes(u64),
    /// The upstream's endless answer, visibly cut for this cause.
    Cut(Cause),
    /// The beginning of the upstream's endless answer: more of it is not read.
    Begun,
}

/// What becomes of a connection after the last answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It serves another request.
    Stays,
    /// The last answer has said that it closes, and it does.
    Closes,
    /// It closes after the upstream's answer, which could not say so: it left while the upload might still have come to
    /// its end.
    Unsaid,
    /// It has ended with the message that was cut.
    Cut,
    /// It closes without an answer, which is counted in `closed_without_response_total` under this name.
    Silence(&'static str),
    /// It is closed in silence after an answer, as any kept connection is in the end; that is counted too.
    Idle,
    /// The client has left; what is counted is a silence of this name.
    Left(&'static str),
    /// The client has left inside an answer, which is counted as cut because of it.
    LeftInside,
}

/// What an upstream receives of a row's requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reaches {
    /// So many whole requests, and no other.
    Whole(usize),
    /// At most an unfinished request.
    NeverWhole,
    /// Whatever it is: the client has left, or would not read.
    Anything,
}

/// What a gateway has to offer to the rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// A method that reaches the route without a body.
    pub read: String,
    /// A method that reaches it with one.
    pub write: String,
    /// The path that both ask for.
    pub path: String,
    /// The host that both name.
    pub host: String,
    /// `client.max_header_bytes`.
    pub max_header_bytes: usize,
    /// The route's `max_body`.
    pub max_body: u64,
    /// `client.write_timeout`.
    pub write_timeout: Duration,
}

/// The body of what the upstream serves.
pub const SERVED: &str = "served\n";

/// The field by which a request tells the rehearsal's upstream what to play.
pub const PLAY: &str = "x-rehearsal";

impl Asked {
    /// By any method but HEAD, over HTTP/1.1.
    pub const USUAL: Asked = Asked { head: false, old: false };
    /// By HEAD, over HTTP/1.1.
    pub const HEAD: Asked = Asked { head: true, old: false };
    /// By any method but HEAD, over HTTP/1.0.
    pub const OLD: Asked = Asked { head: false, old: true };
}

impl Expected {
    /// The cause of the error, or of the cut.
    pub const fn cause(self) -> Option<Cause> {
        match self {
            Expected::Refused(cause) | Expected::RefusedOnRoute(cause) | Expected::Cut(cause) => Some(cause),
            Expected::Served | Expected::ServedBytes(_) | Expected::Begun => None,
        }
    }
}

impl ClientFault {
    /// The mark in the query of each of its requests, by which they are found in what an upstream received.
    pub fn mark(&self) -> String {
        format!("row={}", self.name)
    }

    /// How the last answer is read.
    pub fn last_asked(&self) -> Asked {
        let asked = self.acts.iter().rev().find_map(|act| match act {
            Act::Answer(asked) | Act::AnswerSlowly(asked, ..) => Some(*asked),
            Act::Send(_)
            | Act::Repeat(..)
            | Act::Drip(..)
            | Act::Interim(_)
            | Act::Arrived
            | Act::Answered => None,
            Act::Pause(_) | Act::HalfClose | Act::Close | Act::Reset => None,
            Act::Handshake(_) | Act::Beneath(_) | Act::Alert(_) | Act::Forget => None,
        });
        asked.unwrap_or_default()
    }

    fn reaching(mut self, reaches: Reaches) -> Self {
        self.reaches = reaches;
        self
    }

    fn ending(mut self, ending: Ending) -> Self {
        self.ending = ending;
        self
    }

    fn asking(mut self, method: &str, path: &str) -> Self {
        self.asks = Some(Target { method: method.to_owned(), path: path.to_owned(), no_host: false });
        self
    }

    /// Puts the setting's words in the place of `<get>` and the like.
    fn spelled(mut self, setting: &Setting) -> Self {
        let name = self.name;
        let spell = |bytes: &Bytes| spell(bytes, setting, name);
        for act in &mut self.acts {
            match act {
                Act::Send(bytes) | Act::Repeat(bytes, _) | Act::Drip(bytes, _) => *bytes = spell(bytes),
                Act::Interim(_) | Act::Answer(_) | Act::AnswerSlowly(..) | Act::Arrived | Act::Answered => {}
                Act::Pause(_) | Act::HalfClose | Act::Close | Act::Reset => {}
                Act::Handshake(_) | Act::Beneath(_) | Act::Alert(_) | Act::Forget => {}
            }
        }
        if let Some(target) = &mut self.asks {
            for text in [&mut target.method, &mut target.path] {
                *text = String::from_utf8_lossy(&spell(&Bytes::from(text.clone()))).into_owned();
            }
        }
        self
    }
}

impl Setting {
    /// For whoever only wants to know which rows there are.
    pub fn any() -> Setting {
        Setting {
            read: "GET".to_owned(),
            write: "POST".to_owned(),
            path: "/rehearsal".to_owned(),
            host: "rehearsal.example".to_owned(),
            max_header_bytes: 32 * 1024,
            max_body: 1024 * 1024,
            write_timeout: Duration::from_secs(1),
        }
    }

    /// How long a client waits between two things that it does: less than any limit, and longer where limits are long. What
    /// was sent is read by then, and who sends piece after piece does not become a flood before a limit strikes.
    pub(super) fn pause(&self) -> Duration {
        Duration::from_millis(150).max(self.write_timeout.saturating_mul(3) / 20)
    }

    /// A plain request, to see that a connection is still whole.
    pub fn follow_up(&self) -> Bytes {
        spell(&Bytes::from_static(b"<get> HTTP/1.1\r\nhost: <host>\r\n\r\n"), self, "follow-up")
    }
}

/// The whole table for this setting, in the order in which it is shown: from the first byte to the last.
pub fn client_faults(setting: &Setting) -> Vec<ClientFault> {
    client_faults_by_sort(setting).into_iter().flat_map(|(_, rows)| rows).collect()
}

/// The same, under the headings of the page.
pub fn client_faults_by_sort(setting: &Setting) -> Vec<(&'static str, Vec<ClientFault>)> {
    let sorts = [
        (
            "The first line",
            [lines::strangers(), lines::request_lines(), lines::versions(), lines::methods()].concat(),
        ),
        ("What is asked for", [targets::paths(), targets::forms()].concat()),
        ("Fields", [fields::syntax(), fields::connection(), fields::hosts()].concat()),
        ("How long the body is", [framing::lengths(), framing::codings(), framing::both()].concat()),
        ("Chunks", [chunks::sizes(), chunks::ends()].concat()),
        ("Too much, too slow, or under conditions", {
            [conduct::sizes(setting), conduct::expectations(setting), conduct::slow()].concat()
        }),
        ("Leaving, and not reading", [endings::leaving(setting), endings::reading(setting)].concat()),
        ("Several requests, and HTTP/1.0", [pipelines::old_versions(), pipelines::pipelines()].concat()),
    ];
    let spelled = |rows: Vec<ClientFault>| rows.into_iter().map(|row| row.spelled(setting)).collect();
    sorts.into_iter().map(|(title, rows)| (title, spelled(rows))).collect()
}

/// Replaces `<GET>` and `<POST>` (methods), `<path>`, `<row>` (the mark), `<host>`, and `<get>`, `<post>`, `<head>`
/// (method and target).
fn spell(bytes: &Bytes, setting: &Setting, name: &str) -> Bytes {
    if !bytes.contains(&b'<') {
        return bytes.clone();
    }
    let line = |method: &str| format!("{method} {}?row={name}", setting.path);
    let words = [
        ("<get>", line(&setting.read)),
        ("<post>", line(&setting.write)),
        ("<head>", line("HEAD")),
        ("<GET>", setting.read.clone()),
        ("<POST>", setting.write.clone()),
        ("<path>", setting.path.clone()),
        ("<row>", format!("row={name}")),
        ("<host>", setting.host.clone()),
    ];
    let mut spelled = Vec::with_capacity(bytes.len() + 64);
    let mut rest = bytes.as_ref();
    while let Some(at) = memchr::memchr(b'<', rest) {
        let (plain, from) = rest.split_at_checked(at).unwrap_or((rest, b""));
        spelled.extend_from_slice(plain);
        let word = words.iter().find(|(word, _)| from.starts_with(word.as_bytes()));
        let (text, length) = word.map_or((&b"<"[..], 1), |(word, text)| (text.as_bytes(), word.len()));
        spelled.extend_from_slice(text);
        rest = from.get(length..).unwrap_or_default();
    }
    spelled.extend_from_slice(rest);
    spelled.into()
}

/// A row that sends these bytes and reads one answer.
fn row(
    name: &'static str,
    meaning: &'static str,
    bytes: impl Into<Bytes>,
    expected: Expected,
) -> ClientFault {
    let ending = if matches!(expected, Expected::Refused(_)) { Ending::Closes } else { Ending::Stays };
    let reaches = match expected {
        Expected::Refused(_) | Expected::RefusedOnRoute(_) => Reaches::Whole(0),
        Expected::Served | Expected::ServedBytes(_) => Reaches::Whole(1),
        Expected::Cut(_) | Expected::Begun => Reaches::Anything,
    };
    ClientFault {
        name,
        meaning,
        acts: vec![Act::Send(bytes.into()), Act::Answer(Asked::USUAL)],
        answers: vec![expected],
        ending,
        reaches,
        asks: None,
        narrow: false,
    }
}

/// What is no request: 400 for this cause, and the connection closes.
fn refused(name: &'static str, meaning: &'static str, cause: Cause, bytes: impl Into<Bytes>) -> ClientFault {
    row(name, meaning, bytes, Expected::Refused(cause))
}

/// What is unusual and yet right.
fn served(name: &'static str, meaning: &'static str, bytes: impl Into<Bytes>) -> ClientFault {
    row(name, meaning, bytes, Expected::Served)
}

/// A row of these steps.
fn acted(
    name: &'static str,
    meaning: &'static str,
    acts: Vec<Act>,
    answers: Vec<Expected>,
    ending: Ending,
    reaches: Reaches,
) -> ClientFault {
    ClientFault { name, meaning, acts, answers, ending, reaches, asks: None, narrow: false }
}

fn send(bytes: impl Into<Bytes>) -> Act {
    Act::Send(bytes.into())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
#[path = "clients_tests.rs"]
mod tests;
