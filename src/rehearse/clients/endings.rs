//! Rows of clients that leave, half or altogether, and of clients that do not read.
//!
//! Who is gone cannot be answered: those rows end in a silence that is counted under its name.

use std::time::Duration;

use bytes::Bytes;

use crate::contract::Cause;

use super::{Act, Asked, ClientFault, Ending, Expected, PLAY, Reaches, Setting, acted, send};

/// How much the upstream serves to those who read slowly, and how much is uploaded to an upstream that has answered.
const LARGE: u64 = 8 * 1024 * 1024;
const PIECE: usize = 64 * 1024;

const GONE: &str = "client_gone";

/// Clients that leave.
pub(super) fn leaving(setting: &Setting) -> Vec<ClientFault> {
    let half = |name, meaning, bytes: &str, expected| {
        acted(
            name,
            meaning,
            vec![send(bytes.to_owned()), Act::HalfClose, Act::Answer(Asked::USUAL)],
            vec![expected],
            Ending::Closes,
            Reaches::NeverWhole,
        )
    };
    let left = |name, meaning, acts: Vec<Act>, silence| {
        acted(name, meaning, acts, Vec::new(), Ending::Left(silence), Reaches::Anything)
    };
    let silent = |name, meaning, acts: Vec<Act>, silence| {
        acted(name, meaning, acts, Vec::new(), Ending::Silence(silence), Reaches::Whole(0))
    };
    let hang = format!("<get> HTTP/1.1\r\nhost: <host>\r\n{PLAY}: hang\r\n\r\n");
    let no_request = Expected::Refused(Cause::HttpRequestError);
    let no_body = Expected::RefusedOnRoute(Cause::MalformedBody);
    let short = "<post> HTTP/1.1\r\nhost: <host>\r\ncontent-length: 10\r\n\r\nabc";
    vec![
        half(
            "half-a-line",
            "shuts down its sending side inside the request line",
            "<GET> <path>?<row> HT",
            no_request,
        ),
        half(
            "half-a-head",
            "shuts down its sending side inside its fields",
            "<get> HTTP/1.1\r\nhost: <h",
            no_request,
        ),
        half("short-body", "shuts down its sending side before its Content-Length", short, no_body),
        acted(
            "half-close-while-waiting",
            "shuts down its sending side while it waits for the answer",
            vec![send(hang.clone()), Act::Arrived, Act::HalfClose],
            Vec::new(),
            Ending::Silence(GONE),
            Reaches::Anything,
        ),
        left(
            "reset-while-waiting",
            "resets while it waits for the answer",
            vec![send(hang.clone()), Act::Arrived, Act::Reset],
            GONE,
        ),
        left(
            "close-while-waiting",
            "closes while it waits for the answer",
            vec![send(hang), Act::Arrived, Act::Close],
            GONE,
        ),
        left(
            "reset-in-head",
            "resets inside its head",
            vec![send("<get> HTTP/1.1\r\nhost"), Act::Pause(setting.pause()), Act::Reset],
            GONE,
        ),
        left("reset-in-body", "resets inside its body", vec![send(short), Act::Arrived, Act::Reset], GONE),
        left(
            "connect-and-reset",
            "connects and resets",
            vec![Act::Pause(setting.pause()), Act::Reset],
            "connect_and_close",
        ),
        left("connect-and-close", "connects and closes, as probes do", vec![Act::Close], "connect_and_close"),
        silent(
            "half-close-at-once",
            "shuts down its sending side at once",
            vec![Act::HalfClose],
            "connect_and_close",
        ),
        silent("idle", "connects and says nothing", Vec::new(), "idle_timeout"),
        silent(
            "empty-line-alone",
            "sends an empty line and nothing else",
            vec![send("\r\n")],
            "idle_timeout",
        ),
        acted(
            "idle-after-answer",
            "asks once and then says nothing more",
            vec![send("<get> HTTP/1.1\r\nhost: <host>\r\n\r\n"), Act::Answer(Asked::USUAL)],
            vec![Expected::Served],
            Ending::Idle,
            Reaches::Whole(1),
        ),
    ]
}

/// Clients that read late, slowly, or never, and those whose answer is known before they have sent all.
pub(super) fn reading(setting: &Setting) -> Vec<ClientFault> {
    let get = |play: &str| send(format!("<get> HTTP/1.1\r\nhost: <host>\r\n{PLAY}: {play}\r\n\r\n"));
    let post = |play: &str, length: u64| {
        send(format!("<post> HTTP/1.1\r\nhost: <host>\r\n{PLAY}: {play}\r\ncontent-length: {length}\r\n\r\n"))
    };
    let piece = Bytes::from(vec![b'x'; PIECE]);
    // Within what the route takes, and more than is read for the sake of the connection.
    let pieces = (LARGE.min(setting.max_body) / PIECE as u64).max(2);
    let upload = pieces * PIECE as u64;
    vec![
        ClientFault {
            narrow: true,
            ..acted(
                "never-reads",
                "asks for an endless answer and reads nothing",
                vec![
                    get("endless"),
                    Act::Pause(setting.write_timeout.saturating_mul(2)),
                    Act::Answer(Asked::USUAL),
                ],
                vec![Expected::Cut(Cause::ClientTooSlow)],
                Ending::Cut,
                Reaches::Anything,
            )
        },
        ClientFault {
            narrow: true,
            ..acted(
                "reads-slowly",
                "reads a megabyte, slowly",
                vec![get("megabyte"), Act::AnswerSlowly(Asked::USUAL, 32 * 1024, Duration::from_millis(3))],
                vec![Expected::ServedBytes(MEGABYTE)],
                Ending::Stays,
                Reaches::Whole(1),
            )
        },
        acted(
            "close-inside-answer",
            "closes inside an endless answer",
            vec![get("endless"), Act::Answer(Asked::USUAL), Act::Close],
            vec![Expected::Begun],
            Ending::LeftInside,
            Reaches::Anything,
        ),
        acted(
            "answer-before-upload",
            "sends eight megabytes although the answer is known after the head, and reads then",
            vec![post("early", upload), Act::Answered, Act::Repeat(piece, pieces), Act::Answer(Asked::USUAL)],
            vec![Expected::Served],
            Ending::Unsaid,
            Reaches::Anything,
        ),
        acted(
            "small-rest-of-upload",
            "sends the little rest of its body after the answer",
            vec![post("early", 3), Act::Answer(Asked::USUAL), send("abc")],
            vec![Expected::Served],
            Ending::Stays,
            Reaches::Anything,
        ),
    ]
}

/// What [`reading`] asks for in one piece.
pub const MEGABYTE: u64 = 1024 * 1024;
