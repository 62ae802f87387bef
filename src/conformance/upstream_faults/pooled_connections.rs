//! Rows of the table about kept connections: ones that fail under a request, and ones that are not to be kept.
//!
//! The first request of each connection is answered well; what is told is the answer to the second. Whether it may be
//! sent again is the question, and the upstream's record the proof.

use crate::contract::{Cause, RequestSent};

use super::super::script::{Script, UpstreamStep, http_response, write_bytes};
use super::{
    FaultOutcome, FaultRequest, POOLED_BODY, ReplyReason, ServerKind, UpstreamFault, fault_row, forwarded_row,
};

/// All of them.
pub(super) fn rows() -> Vec<UpstreamFault> {
    let get = FaultRequest { count: 2, ..FaultRequest::single("GET") };
    let post = FaultRequest { body: "pay once".into(), count: 2, ..FaultRequest::single("POST") };
    let terminated =
        FaultOutcome::LocalReply { code: 504, reason: ReplyReason::Fault(Cause::ConnectionTerminated) };
    let on_kept = |request: &FaultRequest, name, meaning, outcome, script: Script| UpstreamFault {
        server_kind: ServerKind::Pooled,
        request: request.clone(),
        body: POOLED_BODY.into(),
        min_request_sent: RequestSent::Partial,
        script,
        ..fault_row(name, meaning, outcome)
    };
    let forwarded = FaultOutcome::Forwarded { code: 200 };
    let read = || vec![UpstreamStep::ReadRequestHead, UpstreamStep::ReadBody];
    let then = |last: Vec<UpstreamStep>| [read(), last].concat();
    let half = || then(vec![write_bytes("HTTP/1.1 2"), UpstreamStep::Close]);
    let twice = |name, meaning, bytes: bytes::Bytes, last: Vec<UpstreamStep>| UpstreamFault {
        request: get.clone(),
        ..forwarded_row(name, meaning, 200, "hello", [vec![write_bytes(bytes)], last].concat())
    };
    vec![
        on_kept(
            &get,
            "stale-closed",
            "closes a kept connection under a GET",
            forwarded,
            then(vec![UpstreamStep::Close]),
        ),
        on_kept(
            &get,
            "stale-reset",
            "resets a kept connection under a GET",
            forwarded,
            then(vec![UpstreamStep::Reset]),
        ),
        on_kept(
            &get,
            "stale-abandoned",
            "closes a kept connection without reading the GET",
            forwarded,
            vec![UpstreamStep::CloseAbruptly],
        ),
        on_kept(&get, "stale-half-line", "sends half a status line on a kept connection", terminated, half()),
        on_kept(
            &post,
            "stale-closed-post",
            "closes a kept connection under a POST",
            terminated,
            then(vec![UpstreamStep::Close]),
        ),
        on_kept(
            &post,
            "stale-reset-post",
            "resets a kept connection under a POST",
            terminated,
            then(vec![UpstreamStep::Reset]),
        ),
        on_kept(&post, "stale-half-line-post", "sends half a status line under a POST", terminated, half()),
        twice(
            "says-close",
            "says Connection: close",
            http_response("200 OK\nconnection: close", "hello"),
            vec![UpstreamStep::Close],
        ),
        twice(
            "says-close-and-stays",
            "says Connection: close and stays",
            http_response("200 OK\nconnection: close", "hello"),
            vec![UpstreamStep::ReadUntilClose],
        ),
        twice(
            "closes-silently",
            "closes a kept connection without a word",
            http_response("200 OK", "hello"),
            vec![UpstreamStep::Close],
        ),
        twice(
            "http-1.0-length",
            "answers HTTP/1.0 with a length",
            "HTTP/1.0 200 OK\r\ncontent-length: 5\r\n\r\nhello".into(),
            vec![UpstreamStep::Close],
        ),
    ]
}
