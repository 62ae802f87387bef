//! Rows of the table about kept connections: ones that fail under a request, and ones that are not to be kept.
//!
//! The first request of each connection is answered well; what is told is the answer to the second. Whether it may be
//! sent again is the question, and the upstream's record the proof.

use crate::contract::{Cause, RequestSent};

use super::super::script::{Script, Step, reply, say};
use super::{Ask, GOOD_OF_POOLED, Outcome, Place, UpstreamFault, Why, passed, row};

/// All of them.
pub(super) fn rows() -> Vec<UpstreamFault> {
    let get = Ask { times: 2, ..Ask::once("GET") };
    let post = Ask { body: "pay once".into(), times: 2, ..Ask::once("POST") };
    let terminated = Outcome::Answered { code: 504, why: Why::Fault(Cause::ConnectionTerminated) };
    let on_kept = |ask: &Ask, name, meaning, outcome, script: Script| UpstreamFault {
        place: Place::Pooled,
        ask: ask.clone(),
        body: GOOD_OF_POOLED.into(),
        sent_at_least: RequestSent::Partial,
        script,
        ..row(name, meaning, outcome)
    };
    let again = Outcome::Passed { code: 200 };
    let read = || vec![Step::ReadHead, Step::ReadBody];
    let then = |last: Vec<Step>| [read(), last].concat();
    let half = || then(vec![say("HTTP/1.1 2"), Step::Close]);
    let twice = |name, meaning, bytes: bytes::Bytes, last: Vec<Step>| UpstreamFault {
        ask: get.clone(),
        ..passed(name, meaning, 200, "hello", [vec![say(bytes)], last].concat())
    };
    vec![
        on_kept(&get, "stale-closed", "closes a kept connection under a GET", again, then(vec![Step::Close])),
        on_kept(&get, "stale-reset", "resets a kept connection under a GET", again, then(vec![Step::Reset])),
        on_kept(
            &get,
            "stale-abandoned",
            "closes a kept connection without reading the GET",
            again,
            vec![Step::Abandon],
        ),
        on_kept(&get, "stale-half-line", "sends half a status line on a kept connection", terminated, half()),
        on_kept(
            &post,
            "stale-closed-post",
            "closes a kept connection under a POST",
            terminated,
            then(vec![Step::Close]),
        ),
        on_kept(
            &post,
            "stale-reset-post",
            "resets a kept connection under a POST",
            terminated,
            then(vec![Step::Reset]),
        ),
        on_kept(&post, "stale-half-line-post", "sends half a status line under a POST", terminated, half()),
        twice(
            "says-close",
            "says Connection: close",
            reply("200 OK\nconnection: close", "hello"),
            vec![Step::Close],
        ),
        twice(
            "says-close-and-stays",
            "says Connection: close and stays",
            reply("200 OK\nconnection: close", "hello"),
            vec![Step::Hang],
        ),
        twice(
            "closes-silently",
            "closes a kept connection without a word",
            reply("200 OK", "hello"),
            vec![Step::Close],
        ),
        twice(
            "http-1.0-length",
            "answers HTTP/1.0 with a length",
            "HTTP/1.0 200 OK\r\ncontent-length: 5\r\n\r\nhello".into(),
            vec![Step::Close],
        ),
    ]
}
