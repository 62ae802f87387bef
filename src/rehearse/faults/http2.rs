//! Rows of the table about HTTP/2 towards the upstream: no greeting, streams that are reset, connections that are taken
//! leave of, and frames that are none.
//!
//! Scripts write frames ([`super::super::upstream_h2`]); [`THIS`] stands for the stream of the request. Which reset may be sent
//! again is no matter of these rows: they are broken each time.

use bytes::Bytes;

use crate::contract::{Cause, RequestSent};

use super::super::frames::kind::{
    CONTINUATION, DATA, GOAWAY, HEADERS, PUSH_PROMISE, RST_STREAM, SETTINGS, WINDOW_UPDATE,
};
use super::super::frames::{END_HEADERS, END_STREAM, frame};
use super::super::script::{Script, Step, say};
use super::super::upstream_h2::THIS;
use super::{Ask, Message, Outcome, Place, SECRET, UpstreamFault, Why, row};

/// All of them.
pub(super) fn rows() -> Vec<UpstreamFault> {
    [greetings(), resets_before(), partings(), heads(), served(), resets_after(), bodies()].concat()
}

/// `:status: 200` (RFC 7541, appendix A).
const OK: &[u8] = &[0x88];

/// Code, name before the head, name inside the body, what it is called, cause before the head.
const CODES: &[(u32, &str, &str, &str, &str, Cause)] = {
    use Cause::{ConnectionTerminated as Gone, HttpProtocolError as Accused};
    macro_rules! codes {
        ($($code:literal $name:literal $cause:ident;)+) => {
            &[$((
                $code,
                concat!("h2-reset-", $name),
                concat!("h2-cut-", $name),
                concat!("resets the stream before its head, with the code ", $name),
                concat!("resets the stream inside its body, with the code ", $name),
                $cause,
            ),)+]
        };
    }
    codes! {
        0 "no-error" Gone;
        1 "protocol-error" Accused;
        2 "internal-error" Gone;
        3 "flow-control-error" Accused;
        4 "settings-timeout" Accused;
        5 "stream-closed" Accused;
        6 "frame-size-error" Accused;
        7 "refused-stream" Gone;
        8 "cancel" Gone;
        9 "compression-error" Accused;
        10 "connect-error" Gone;
        11 "enhance-your-calm" Gone;
        12 "inadequate-security" Accused;
        13 "http-1-1-required" Accused;
        77 "of-no-name" Accused;
    }
};

/// Before anything of a request is sent.
fn greetings() -> Vec<UpstreamFault> {
    let at = |name, meaning, place, cause| UpstreamFault {
        place,
        sent_at_least: RequestSent::None,
        ..row(name, meaning, Outcome::Answered { code: 504, why: Why::Fault(cause) })
    };
    vec![
        at("h2-no-settings", "never sends its SETTINGS", Place::Ungreeting, Cause::ConnectionTimeout),
        at(
            "h2-accept-close",
            "closes the connection before its SETTINGS",
            Place::ClosingOnFrames,
            Cause::ConnectionTerminated,
        ),
        at("h2-answered-in-http-1", "answers in HTTP/1.1", Place::OtherLanguage, Cause::HttpProtocolError),
    ]
}

fn resets_before() -> Vec<UpstreamFault> {
    CODES
        .iter()
        .map(|(code, name, _, meaning, _, cause)| fault(name, meaning, *cause, vec![reset(*code)]))
        .collect()
}

fn resets_after() -> Vec<UpstreamFault> {
    CODES
        .iter()
        .map(|(code, _, name, _, meaning, _)| {
            cut(name, meaning, Cause::HttpResponseIncomplete, vec![reset(*code)])
        })
        .collect()
}

/// GOAWAY, and connections that end without one.
fn partings() -> Vec<UpstreamFault> {
    let gone = Cause::ConnectionTerminated;
    let late = [go_away(THIS, 0), head(OK, false), data(b"late", true)].concat();
    vec![
        fault(
            "h2-goaway-passing-over",
            "says GOAWAY and that it has not looked at the request",
            gone,
            vec![say(go_away(0, 0)), Step::Close],
        ),
        fault(
            "h2-goaway-and-close",
            "says GOAWAY after the request, and closes without an answer",
            gone,
            vec![say(go_away(THIS, 0)), Step::Close],
        ),
        fault(
            "h2-goaway-accusing",
            "says GOAWAY with PROTOCOL_ERROR, and closes",
            Cause::HttpProtocolError,
            vec![say(go_away(THIS, 1)), Step::Close],
        ),
        fault("h2-close", "closes without a word", gone, vec![Step::Close]),
        fault("h2-tcp-reset", "resets the TCP connection", gone, vec![Step::Reset]),
        fault("h2-hang", "never answers", Cause::HttpResponseTimeout, vec![Step::Hang]),
        fault(
            "h2-silent",
            "never answers, and gives no sign of life: no answer to a PING either",
            Cause::HttpResponseTimeout,
            vec![Step::Mute, Step::Hang],
        ),
        UpstreamFault {
            script: vec![Step::Hang],
            ask: Ask { body: Bytes::from(vec![b'x'; 100_000]), ..Ask::once("POST") },
            sent_at_least: RequestSent::Partial,
            ..fault(
                "h2-window-shut",
                "never opens the window for the rest of a request's body",
                Cause::ConnectionWriteTimeout,
                Vec::new(),
            )
        },
        passed(
            "h2-goaway-then-answer",
            "says GOAWAY, and answers what it has taken",
            "late",
            vec![say(late)],
        ),
        passed(
            "h2-answer-then-goaway",
            "answers, and says GOAWAY",
            "fine",
            vec![say([fine(), go_away(THIS, 0)].concat()), Step::Close],
        ),
    ]
}

/// What comes in the place of a head.
fn heads() -> Vec<UpstreamFault> {
    let broken = |name, meaning, frames: Vec<u8>| {
        fault(name, meaning, Cause::HttpProtocolError, vec![say(frames), Step::Hang])
    };
    let hints = head(b"\x08\x03103", false);
    let mut huge = OK.to_vec();
    for _ in 0..700 {
        huge.extend(field("x-padding", &"0123456789".repeat(10)));
    }
    vec![
        broken("h2-garbage", "says what is no frame", vec![0xff; 64]),
        broken(
            "h2-http-1-inside",
            "answers in HTTP/1.1 after its SETTINGS",
            b"HTTP/1.1 200 OK\r\n\r\n".to_vec(),
        ),
        broken("h2-data-first", "sends DATA before its head", data(b"before the head", true)),
        broken("h2-data-to-nobody", "sends DATA on the stream 0", frame(DATA, 0, 0, b"to nobody")),
        broken(
            "h2-foreign-stream",
            "answers on a stream that nobody has opened",
            frame(HEADERS, END_HEADERS, 2, OK),
        ),
        broken("h2-pushes", "pushes although it was told not to", {
            frame(PUSH_PROMISE, END_HEADERS, THIS, [&[0, 0, 0, 2], OK].concat())
        }),
        broken("h2-broken-coding", "codes its head in a way that cannot be read", head(&[0x80], true)),
        broken("h2-frame-too-long", "announces a frame of a megabyte", vec![0x10, 0, 0, DATA, 0, 0, 0, 0, 1]),
        broken("h2-bad-settings", "sends SETTINGS that are none", frame(SETTINGS, 0, 0, [0, 2, 0, 0, 0, 9])),
        broken("h2-window-overflow", "opens the window beyond its end", {
            frame(WINDOW_UPDATE, 0, 0, 0x7fff_ffff_u32.to_be_bytes())
        }),
        broken("h2-torn-head", "breaks off a head for another frame", {
            [frame(HEADERS, 0, THIS, OK), frame(DATA, 0, THIS, b"x")].concat()
        }),
        broken("h2-lone-continuation", "goes on with a head that has not begun", {
            frame(CONTINUATION, END_HEADERS, THIS, OK)
        }),
        broken("h2-no-status", "sends a head without :status", head(&field("x-a", "b"), true)),
        broken("h2-two-statuses", "says :status twice", head(&[0x88, 0x88], true)),
        broken("h2-connection-field", "sends Connection", {
            head(&[OK, &field("connection", "close")].concat(), true)
        }),
        broken(
            "h2-upper-case",
            "names a field in upper case",
            head(&[OK, &field("X-A", "b")].concat(), true),
        ),
        broken("h2-101", "switches protocols", head(b"\x08\x03101", false)),
        broken("h2-two-lengths", "says two lengths", {
            let lengths = [field("content-length", "4"), field("content-length", "5")].concat();
            [head(&[OK, &lengths].concat(), false), data(b"four", true)].concat()
        }),
        broken("h2-hints-without-end", "sends 17 interim responses", hints.repeat(17)),
        UpstreamFault {
            script: with_body(vec![say(split_head(&huge))]),
            ..fault("h2-huge-head", "has a head of 70 KB", Cause::HttpResponseHeaderSectionSize, Vec::new())
        },
    ]
    .into_iter()
    .map(|row| match row.name {
        // Sixteen of them have passed by then.
        "h2-hints-without-end" => UpstreamFault { interim: &[103; 16], ..row },
        _ => row,
    })
    .collect()
}

/// Answers that are none of the gateway's business, or its ordinary one.
fn served() -> Vec<UpstreamFault> {
    let page = format!("<h1>{SECRET}</h1>");
    let own = r#"{"message":"No such order.","code":404}"#;
    let status =
        |code: &str, kind: &str| [b"\x08\x03", code.as_bytes(), &field("content-type", kind)].concat();
    let trailers = frame(HEADERS, END_HEADERS | END_STREAM, THIS, field("x-sum", "1"));
    vec![
        UpstreamFault {
            place: Place::Frames,
            script: with_body(vec![say([
                head(&status("502", "text/html"), false),
                data(page.as_bytes(), true),
            ]
            .concat())]),
            ..row(
                "h2-error-page",
                "answers 502 with an HTML page",
                Outcome::Answered { code: 504, why: Why::Status(502) },
            )
        },
        UpstreamFault {
            outcome: Outcome::Passed { code: 404 },
            ..passed("h2-own-error", "answers 404 as the page demands", own, {
                vec![say(
                    [head(&status("404", "application/json"), false), data(own.as_bytes(), true)].concat()
                )]
            })
        },
        UpstreamFault {
            interim: &[103],
            ..passed(
                "h2-hints",
                "sends 103 first",
                "fine",
                vec![say([head(b"\x08\x03103", false), fine()].concat())],
            )
        },
        passed("h2-trailers", "sends trailers", "fine", {
            vec![say([head(OK, false), data(b"fine", false), trailers].concat())]
        }),
        passed("h2-empty", "has nothing but a head", "", vec![say(head(OK, true))]),
        passed("h2-reset-behind-answer", "wants no more of the request once it has answered", "fine", {
            vec![say([fine(), frame(RST_STREAM, 0, THIS, [0; 4])].concat())]
        }),
        passed("h2-data-after-end", "goes on after the end of its answer", "fine", {
            vec![say([fine(), data(b"and more", false)].concat())]
        }),
    ]
}

/// The head has left when the body breaks.
fn bodies() -> Vec<UpstreamFault> {
    let (incomplete, broken) = (Cause::HttpResponseIncomplete, Cause::HttpProtocolError);
    let of_length = |length: &str, body: &[u8]| {
        [head(&[OK, &field("content-length", length)].concat(), false), data(body, true)].concat()
    };
    let of_itself = |name, meaning, frames: Vec<u8>| UpstreamFault {
        script: with_body(vec![say(frames)]),
        ..cut(name, meaning, broken, Vec::new())
    };
    vec![
        cut(
            "h2-no-end",
            "falls silent before the end of its stream",
            Cause::ConnectionReadTimeout,
            vec![Step::Hang],
        ),
        cut(
            "h2-silent-in-body",
            "falls silent before the end of its stream, and answers no PING",
            Cause::ConnectionReadTimeout,
            vec![Step::Mute, Step::Hang],
        ),
        cut("h2-close-in-body", "closes before the end of its stream", incomplete, vec![Step::Close]),
        cut(
            "h2-tcp-reset-in-body",
            "resets the TCP connection inside its body",
            incomplete,
            vec![Step::Reset],
        ),
        cut(
            "h2-goaway-in-body",
            "says GOAWAY inside its body, and closes",
            incomplete,
            vec![say(go_away(THIS, 2)), Step::Close],
        ),
        cut(
            "h2-garbage-in-body",
            "says what is no frame inside its body",
            broken,
            vec![say(vec![0xff; 64]), Step::Hang],
        ),
        cut(
            "h2-data-to-nobody-in-body",
            "sends DATA on the stream 0 inside its body",
            broken,
            vec![say(frame(DATA, 0, 0, b"to nobody")), Step::Hang],
        ),
        of_itself("h2-short", "ends before its Content-Length", of_length("1000", b"first and")),
        of_itself("h2-long", "goes on after its Content-Length", of_length("4", b"first and")),
    ]
}

fn fault(name: &'static str, meaning: &'static str, cause: Cause, steps: Vec<Step>) -> UpstreamFault {
    UpstreamFault {
        place: Place::Frames,
        script: with_body(steps),
        ..row(name, meaning, Outcome::Answered { code: 504, why: Why::Fault(cause) })
    }
}

/// After a head and some of the body, these steps.
fn cut(name: &'static str, meaning: &'static str, cause: Cause, steps: Vec<Step>) -> UpstreamFault {
    let begun = say([head(OK, false), data(b"first and", false)].concat());
    UpstreamFault {
        place: Place::Frames,
        script: with_body(std::iter::once(begun).chain(steps).collect()),
        body: "first and".into(),
        ..row(name, meaning, Outcome::Aborted { code: 200, cause })
    }
}

fn passed(name: &'static str, meaning: &'static str, body: &'static str, steps: Vec<Step>) -> UpstreamFault {
    UpstreamFault {
        place: Place::Frames,
        script: with_body(steps),
        body: body.into(),
        message: Message::OfTheCode,
        ..row(name, meaning, Outcome::Passed { code: 200 })
    }
}

/// Once the whole request is there.
fn with_body(steps: Vec<Step>) -> Script {
    std::iter::once(Step::ReadBody).chain(steps).collect()
}

fn head(block: &[u8], ends: bool) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | u8::from(ends), THIS, block)
}

fn data(bytes: &[u8], ends: bool) -> Vec<u8> {
    frame(DATA, u8::from(ends), THIS, bytes)
}

fn fine() -> Vec<u8> {
    [head(OK, false), data(b"fine", true)].concat()
}

fn reset(code: u32) -> Step {
    say(frame(RST_STREAM, 0, THIS, code.to_be_bytes()))
}

fn go_away(last: u32, code: u32) -> Vec<u8> {
    frame(GOAWAY, 0, 0, [last.to_be_bytes(), code.to_be_bytes()].concat())
}

/// A field in plain letters (RFC 7541 6.2.2).
fn field(name: &str, value: &str) -> Vec<u8> {
    let length = |text: &str| u8::try_from(text.len()).unwrap_or(0x7e);
    let mut bytes = vec![0, length(name)];
    bytes.extend_from_slice(name.as_bytes());
    bytes.push(length(value));
    bytes.extend_from_slice(value.as_bytes());
    bytes
}

/// A head in as many frames as it needs.
fn split_head(block: &[u8]) -> Vec<u8> {
    let mut pieces = block.chunks(16 * 1024).peekable();
    let mut bytes = Vec::new();
    let mut kind = HEADERS;
    while let Some(piece) = pieces.next() {
        let ends = if pieces.peek().is_none() { END_HEADERS } else { 0 };
        bytes.extend(frame(kind, if kind == HEADERS { ends | END_STREAM } else { ends }, THIS, piece));
        kind = CONTINUATION;
    }
    bytes
}
