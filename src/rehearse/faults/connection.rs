//! Rows of the table that break the connection or the message: at connect, around the response head, inside the body.
//!
//! What makes each of them a fault is in the bytes and the closing. For upstreams that answer an error properly, see
//! [`super::bodies`].

use std::time::Duration;

use bytes::Bytes;

use crate::contract::{Cause, RequestSent};

use super::super::script::{Script, Step, say};
use super::{Outcome, Place, UpstreamFault, Why, after_the_head, passed, row};

/// No connection, or one that is of no use.
pub(super) fn connecting() -> Vec<UpstreamFault> {
    let at = |name, meaning, place, cause| {
        let outcome = Outcome::Answered { code: 504, why: Why::Fault(cause) };
        UpstreamFault {
            place,
            script: Script::new(),
            sent_at_least: RequestSent::None,
            ..row(name, meaning, outcome)
        }
    };
    vec![
        at("refused", "nothing listens on the port", Place::Refusing, Cause::ConnectionRefused),
        at(
            "connect-timeout",
            "the connection attempt gets no answer",
            Place::FullBacklog,
            Cause::ConnectionTimeout,
        ),
        at(
            "accept-close",
            "the connection is accepted and closed",
            Place::Closing,
            Cause::ConnectionTerminated,
        ),
    ]
}

/// The response head does not come, or is none.
pub(super) fn response_heads() -> Vec<UpstreamFault> {
    const HALF_A_HEAD: &str = "HTTP/1.1 200 db-7.internal\r\nx-served-by: db-7.internal\r\ncontent-le";
    let fault = |name, meaning, cause, steps: Vec<Step>| UpstreamFault {
        script: after_the_head(steps),
        ..row(name, meaning, Outcome::Answered { code: 504, why: Why::Fault(cause) })
    };
    let drip = |bytes: String| Step::Drip { bytes: bytes.into(), every: Duration::from_millis(40) };
    let padding = "x-padding: 0123456789\r\n";
    vec![
        fault(
            "close-before-head",
            "reads the request and closes",
            Cause::ConnectionTerminated,
            vec![Step::Close],
        ),
        fault(
            "reset-before-head",
            "reads the request and resets",
            Cause::ConnectionTerminated,
            vec![Step::Reset],
        ),
        fault(
            "close-in-head",
            "closes inside its response head",
            Cause::ConnectionTerminated,
            vec![say(HALF_A_HEAD), Step::Close],
        ),
        fault(
            "reset-in-head",
            "resets inside its response head",
            Cause::ConnectionTerminated,
            vec![say(HALF_A_HEAD), Step::Reset],
        ),
        fault("hang", "reads the request and never answers", Cause::HttpResponseTimeout, vec![Step::Hang]),
        fault(
            "hang-in-head",
            "falls silent inside its response head",
            Cause::HttpResponseTimeout,
            vec![say(HALF_A_HEAD), Step::Hang],
        ),
        fault(
            "dripped-status-line",
            "sends its status line one byte at a time",
            Cause::HttpResponseTimeout,
            vec![drip(format!("HTTP/1.1 200 {}\r\n", "x".repeat(4000)))],
        ),
        fault(
            "silent-close",
            "shuts down its sending side and stays",
            Cause::ConnectionTerminated,
            vec![Step::HalfClose, Step::Hang],
        ),
        fault(
            "dripped-head",
            "sends its response head one byte at a time",
            Cause::HttpResponseTimeout,
            vec![drip(format!("HTTP/1.1 200 OK\r\n{}\r\n", padding.repeat(200)))],
        ),
    ]
}

/// The head has left when the body breaks.
pub(super) fn bodies_cut() -> Vec<UpstreamFault> {
    const CHUNKED: &str =
        "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n9\r\nfirst and\r\n";
    const LENGTH: &str =
        "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 1000\r\n\r\nfirst and";
    let cut = |name, meaning, cause, steps: Vec<Step>| {
        let outcome = Outcome::Aborted { code: 200, cause };
        UpstreamFault {
            script: after_the_head(steps),
            body: "first and".into(),
            ..row(name, meaning, outcome)
        }
    };
    let incomplete = Cause::HttpResponseIncomplete;
    let old = "HTTP/1.0 200 OK\r\ncontent-type: text/plain\r\n\r\nfirst and";
    let behind_head = |name, meaning, cause, steps: Vec<Step>| UpstreamFault {
        body: Bytes::new(),
        ..cut(name, meaning, cause, steps)
    };
    let (length, chunked) =
        (LENGTH.trim_end_matches("first and"), CHUNKED.trim_end_matches("9\r\nfirst and\r\n"));
    vec![
        behind_head(
            "cut-behind-head",
            "closes before the first byte of its body",
            incomplete,
            vec![say(length), Step::Close],
        ),
        behind_head(
            "cut-behind-head-of-chunks",
            "closes before its first chunk",
            incomplete,
            vec![say(chunked), Step::Close],
        ),
        behind_head(
            "reset-behind-head",
            "resets before the first byte of its body",
            incomplete,
            vec![say(length), Step::Reset],
        ),
        behind_head(
            "stalled-behind-head",
            "falls silent before the first byte of its body",
            Cause::ConnectionReadTimeout,
            vec![say(length), Step::Hang],
        ),
        cut("cut-body", "closes before its Content-Length", incomplete, vec![say(LENGTH), Step::Close]),
        cut("cut-chunked", "closes before its last chunk", incomplete, vec![say(CHUNKED), Step::Close]),
        cut("reset-in-body", "resets inside its body", incomplete, vec![say(LENGTH), Step::Reset]),
        cut(
            "stalled-body",
            "falls silent inside its body",
            Cause::ConnectionReadTimeout,
            vec![say(LENGTH), Step::Hang],
        ),
        cut(
            "cut-in-chunk",
            "closes inside a chunk",
            incomplete,
            vec![say(CHUNKED), say("64\r\n"), Step::Close],
        ),
        cut(
            "cut-in-chunk-size",
            "closes inside a chunk size",
            incomplete,
            vec![say(CHUNKED), say("6"), Step::Close],
        ),
        cut(
            "cut-before-last-line",
            "closes before the blank line that ends its chunks",
            incomplete,
            vec![say(CHUNKED), say("0\r\n"), Step::Close],
        ),
        cut("reset-in-chunks", "resets between chunks", incomplete, vec![say(CHUNKED), Step::Reset]),
        cut(
            "reset-unframed",
            "resets a body that a close would have ended",
            incomplete,
            vec![say(old), Step::Reset],
        ),
        cut(
            "stalled-chunks",
            "falls silent between chunks",
            Cause::ConnectionReadTimeout,
            vec![say(CHUNKED), Step::Hang],
        ),
        passed(
            "dripped-body",
            "sends its body one byte at a time: slow is no fault",
            200,
            "first and hello",
            vec![
                say("HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 15\r\n\r\n"),
                Step::Drip { bytes: "first and hello".into(), every: Duration::from_millis(80) },
            ],
        ),
    ]
}
