//! The table of upstream faults: what the upstream does, and exactly what should come of it.
//!
//! One row per fault, told once for tests, `demo`, `rehearse` and the documentation. A row says what is sent on the wire
//! and what the contract demands; it does not know how a gateway gets there. Codes are plain numbers here: this table is
//! the expectation that the policy is held against, so it must not be computed by the policy.

mod bodies;
mod coded;
mod connection;
mod fields;
mod framing;
mod heads;
mod http2;
mod interim;
mod pooled;
mod statuses;
mod tls;
mod upgrade;

use std::sync::LazyLock;

use bytes::Bytes;

use crate::contract::{Cause, RequestSent};

use super::script::{Script, Step};

/// One way in which an upstream breaks.
#[derive(Clone, Debug)]
pub struct UpstreamFault {
    /// Stable name; `/NAME` is the path under which the misbehaving upstream plays it.
    pub name: &'static str,
    /// What happens, in one line.
    pub meaning: &'static str,
    /// Which sort of fault it is.
    pub kind: Kind,
    /// What a client asks to see it.
    pub ask: Ask,
    /// Which kind of address it happens at.
    pub place: Place,
    /// What a scripted address plays; empty elsewhere.
    pub script: Script,
    /// What the client gets.
    pub outcome: Outcome,
    /// Which message is in a replaced body.
    pub message: Message,
    /// Fields of the upstream that must reach the client.
    pub keeps: &'static [(&'static str, &'static str)],
    /// Fields of the upstream that must not reach the client.
    pub lacks: &'static [&'static str],
    /// The interim responses before the answer.
    pub interim: &'static [u16],
    /// The body of a response that passes, or the whole of which an aborted one is the beginning.
    pub body: Bytes,
    /// The least that may be said about the request having reached the upstream; saying more is true as well.
    pub sent_at_least: RequestSent,
}

/// What a client asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// The method.
    pub method: &'static str,
    /// Further fields, each line with its CRLF.
    pub fields: &'static str,
    /// The body; empty for none.
    pub body: Bytes,
    /// How often, one after the other; the last answer is the one that the row tells of. The others are 200.
    pub times: u32,
}

impl Ask {
    const fn once(method: &'static str) -> Ask {
        Ask { method, fields: "", body: Bytes::new(), times: 1 }
    }

    /// One GET without a body or fields: what `curl URL` asks.
    pub fn is_plain(&self) -> bool {
        *self == Ask::once("GET")
    }
}

/// The sorts of faults, in the order in which they are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// There is no connection, or one that is of no use.
    Connecting,
    /// TLS with the server comes to nothing.
    Tls,
    /// The response head does not come, or not whole.
    NoHead,
    /// What comes is no response head.
    BadHead,
    /// The end of the body is not told clearly.
    Framing,
    /// 1xx responses, and statuses without a body.
    Interim,
    /// The request asks to change to WebSocket.
    Upgrade,
    /// A kept connection that fails under a request, or carries too much.
    Pooled,
    /// An error status.
    Status,
    /// The body of an error.
    ErrorBody,
    /// The content coding of an error.
    Coding,
    /// The fields of an error.
    Fields,
    /// The body breaks after the head has left.
    CutBody,
    /// The server speaks HTTP/2, and breaks it or breaks off.
    Http2,
}

impl Kind {
    /// Every kind, in order.
    pub const ALL: [Kind; 14] = [
        Kind::Connecting,
        Kind::Tls,
        Kind::NoHead,
        Kind::BadHead,
        Kind::Framing,
        Kind::Interim,
        Kind::Upgrade,
        Kind::Pooled,
        Kind::Status,
        Kind::ErrorBody,
        Kind::Coding,
        Kind::Fields,
        Kind::CutBody,
        Kind::Http2,
    ];

    /// What the upstream does, for a heading.
    pub const fn title(self) -> &'static str {
        match self {
            Kind::Connecting => "No connection, or one that is of no use",
            Kind::Tls => "TLS that comes to nothing",
            Kind::NoHead => "The response head does not come, or not whole",
            Kind::BadHead => "What comes is no HTTP response",
            Kind::Framing => "The end of the body is not told clearly",
            Kind::Interim => "Interim responses, and responses without a body",
            Kind::Upgrade => "A request to change to WebSocket that comes to nothing",
            Kind::Pooled => "Kept connections that fail, or carry too much",
            Kind::Status => "An error status with an HTML page",
            Kind::ErrorBody => "Errors with a body of another shape",
            Kind::Coding => "Errors with a coded body",
            Kind::Fields => "Fields on errors",
            Kind::CutBody => "A body that breaks after the head has left",
            Kind::Http2 => "HTTP/2 that breaks, or breaks off",
        }
    }
}

/// What an upstream must not let anybody know: the name of a machine. It stands wherever the rows have room for it (in
/// reasons, fields and bodies), and never in a message that is kept, so that no error may ever hold it.
pub const SECRET: &str = "db-7.internal";

/// What [`Place::Pooled`] answers to the first request of a connection.
pub(super) const GOOD_OF_POOLED: &str = "good";

/// Which kind of server plays a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// One that reads the request and plays the script.
    Scripted,
    /// One that answers the first request of each connection well, and plays the script for all others on it. A row
    /// of this place needs an upstream of its own in the configuration, so that its connection is nobody else's.
    Pooled,
    /// One that accepts and closes without reading.
    Closing,
    /// A port that refuses.
    Refusing,
    /// A port whose backlog is full.
    FullBacklog,
    /// One that speaks HTTP/2 without TLS, reads the request and plays the script.
    Frames,
    /// One that should speak HTTP/2, accepts and says nothing.
    Ungreeting,
    /// One that should, accepts and closes.
    ClosingOnFrames,
    /// One that should, and speaks HTTP/1.1.
    OtherLanguage,
    /// One that speaks TLS with a good certificate, and should not.
    TlsPort,
    /// One whose certificate is over.
    Expired,
    /// One whose certificate is not valid yet.
    NotYetValid,
    /// One whose certificate is for another name.
    WrongName,
    /// One whose certificate is signed by itself.
    SelfSigned,
    /// One whose certificate is signed by a stranger.
    Stranger,
    /// One that should speak TLS, and speaks plain HTTP.
    PlainPort,
    /// One that answers a handshake with an alert.
    TlsAlert,
    /// One that closes inside a handshake.
    TlsCut,
    /// One that resets inside a handshake.
    TlsReset,
    /// One that falls silent inside a handshake.
    TlsStall,
}

impl Place {
    /// Every place.
    pub const ALL: [Place; 20] = [
        Place::Scripted,
        Place::Pooled,
        Place::Closing,
        Place::Refusing,
        Place::FullBacklog,
        Place::Frames,
        Place::Ungreeting,
        Place::ClosingOnFrames,
        Place::OtherLanguage,
        Place::TlsPort,
        Place::Expired,
        Place::NotYetValid,
        Place::WrongName,
        Place::SelfSigned,
        Place::Stranger,
        Place::PlainPort,
        Place::TlsAlert,
        Place::TlsCut,
        Place::TlsReset,
        Place::TlsStall,
    ];

    /// Whether it plays scripts.
    pub const fn plays(self) -> bool {
        matches!(self, Place::Scripted | Place::Pooled | Place::Frames)
    }

    /// Whether it has to be spoken to in HTTP/2, without being asked (`http2: always`).
    pub const fn wants_http2(self) -> bool {
        matches!(self, Place::Frames | Place::Ungreeting | Place::ClosingOnFrames | Place::OtherLanguage)
    }

    /// Whether it has to be spoken to in TLS (`https://`).
    pub const fn wants_tls(self) -> bool {
        self.is_about_certificates()
            || matches!(
                self,
                Place::PlainPort | Place::TlsAlert | Place::TlsCut | Place::TlsReset | Place::TlsStall
            )
    }

    /// Whether it is its certificate that is not good.
    pub const fn is_about_certificates(self) -> bool {
        matches!(
            self,
            Place::Expired | Place::NotYetValid | Place::WrongName | Place::SelfSigned | Place::Stranger
        )
    }

    /// The name of its upstream in a configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Place::Scripted => "misbehaving",
            Place::Pooled => "pooled",
            Place::Closing => "closing",
            Place::Refusing => "refusing",
            Place::FullBacklog => "full",
            Place::Frames => "frames",
            Place::Ungreeting => "ungreeting",
            Place::ClosingOnFrames => "closing-on-frames",
            Place::OtherLanguage => "other-language",
            Place::TlsPort => "with-tls",
            Place::Expired => "expired",
            Place::NotYetValid => "not-yet-valid",
            Place::WrongName => "wrong-name",
            Place::SelfSigned => "self-signed",
            Place::Stranger => "stranger",
            Place::PlainPort => "plain",
            Place::TlsAlert => "alert",
            Place::TlsCut => "cut",
            Place::TlsReset => "reset",
            Place::TlsStall => "stall",
        }
    }
}

/// What the client gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A new body under this code.
    Answered {
        /// The status.
        code: u16,
        /// The reason that is counted and logged.
        why: Why,
    },
    /// The upstream's own response as received.
    Passed {
        /// The status.
        code: u16,
    },
    /// The head has left; the message is visibly cut.
    Aborted {
        /// The status that had left.
        code: u16,
        /// The cause that is counted.
        cause: Cause,
    },
}

impl Outcome {
    /// The status that the client sees.
    pub const fn code(self) -> u16 {
        match self {
            Outcome::Answered { code, .. } | Outcome::Passed { code } | Outcome::Aborted { code, .. } => code,
        }
    }

    /// The value of the label `cause`.
    pub const fn cause_name(self) -> &'static str {
        match self {
            Outcome::Answered { why: Why::Fault(cause), .. } | Outcome::Aborted { cause, .. } => cause.name(),
            Outcome::Answered { why: Why::Status(_), .. } | Outcome::Passed { .. } => "upstream_response",
        }
    }
}

/// Why an answer was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Nothing usable came.
    Fault(Cause),
    /// The upstream answered this status.
    Status(u16),
}

/// Which message stands in a replaced body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// The contract's text of the code.
    OfTheCode,
    /// The upstream's own.
    Kept(&'static str),
}

impl UpstreamFault {
    /// The path under which it is played.
    pub fn path(&self) -> String {
        format!("/{}", self.name)
    }

    /// The client's connection serves further requests afterwards.
    pub const fn keeps_connection(&self) -> bool {
        !matches!(self.outcome, Outcome::Aborted { .. })
    }

    fn keeping(mut self, message: &'static str) -> Self {
        self.message = Message::Kept(message);
        self
    }

    fn with_fields(mut self, keeps: &'static [(&'static str, &'static str)]) -> Self {
        self.keeps = keeps;
        self
    }
}

/// The whole table, in the order in which it is shown: from the connection to the end of the body.
pub fn upstream_faults() -> Vec<UpstreamFault> {
    TABLE.clone()
}

/// Made once: some of its bodies are large.
static TABLE: LazyLock<Vec<UpstreamFault>> = LazyLock::new(|| {
    [
        of(Kind::Connecting, connection::connecting()),
        of(Kind::Tls, tls::rows()),
        of(Kind::NoHead, connection::response_heads()),
        of(Kind::BadHead, heads::rows()),
        of(Kind::Framing, framing::rows()),
        of(Kind::Interim, interim::rows()),
        of(Kind::Upgrade, upgrade::rows()),
        of(Kind::Pooled, pooled::rows()),
        of(Kind::Status, statuses::rows()),
        of(Kind::ErrorBody, bodies::rows()),
        of(Kind::Coding, coded::rows()),
        of(Kind::Fields, fields::rows()),
        of(Kind::CutBody, connection::bodies_cut()),
        of(Kind::Http2, http2::rows()),
    ]
    .concat()
});

fn of(kind: Kind, rows: Vec<UpstreamFault>) -> Vec<UpstreamFault> {
    rows.into_iter().map(|row| UpstreamFault { kind, ..row }).collect()
}

/// A row with the usual rest: played by the scripted upstream, which reads the whole request.
fn row(name: &'static str, meaning: &'static str, outcome: Outcome) -> UpstreamFault {
    UpstreamFault {
        name,
        meaning,
        kind: Kind::Connecting,
        ask: Ask::once("GET"),
        place: Place::Scripted,
        script: Script::new(),
        outcome,
        message: Message::OfTheCode,
        keeps: &[],
        lacks: &[],
        interim: &[],
        body: Bytes::new(),
        sent_at_least: RequestSent::Full,
    }
}

fn answered(
    name: &'static str,
    meaning: &'static str,
    status: u16,
    code: u16,
    steps: Vec<Step>,
) -> UpstreamFault {
    let outcome = Outcome::Answered { code, why: Why::Status(status) };
    UpstreamFault { script: after_the_head(steps), ..row(name, meaning, outcome) }
}

fn after_the_head(steps: Vec<Step>) -> Script {
    std::iter::once(Step::ReadHead).chain(std::iter::once(Step::ReadBody)).chain(steps).collect()
}

/// A response that passes with this body.
fn passed(
    name: &'static str,
    meaning: &'static str,
    code: u16,
    body: &'static str,
    steps: Vec<Step>,
) -> UpstreamFault {
    UpstreamFault {
        script: after_the_head(steps),
        body: body.into(),
        ..row(name, meaning, Outcome::Passed { code })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_fault_has_its_own_name_and_something_to_play() {
        let faults = upstream_faults();
        let names: BTreeSet<_> = faults.iter().map(|fault| fault.name).collect();
        assert_eq!(names.len(), faults.len());
        for fault in &faults {
            assert_eq!(fault.script.is_empty(), !fault.place.plays(), "{}", fault.name);
        }
    }

    #[test]
    fn every_expected_code_of_an_error_is_one_of_the_documented_page() {
        for fault in upstream_faults() {
            if fault.outcome.code() >= 400 {
                assert!(
                    [400, 401, 403, 404, 409, 429, 500, 503, 504].contains(&fault.outcome.code()),
                    "{}",
                    fault.name
                );
            }
        }
    }
}
