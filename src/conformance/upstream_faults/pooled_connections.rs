//! Pooled connections: connections that fail when they are reused, and connections that must not be reused.
//!
//! The first request of each connection gets a 200; the row describes the response to the second. The rows check which
//! requests the gateway retries; the upstream's recording is the evidence.

use crate::contract::{Cause, RequestSent};

use super::super::script::{Script, UpstreamStep, http_response, write_bytes};
use super::{
    FaultOutcome, FaultRequest, POOLED_BODY, ReplyReason, ServerKind, UpstreamFault, fault_row, forwarded_row,
};

/// All rows of this file.
pub(super) fn rows() -> Vec<UpstreamFault> {
    let get = FaultRequest { count: 2, ..FaultRequest::single("GET") };
    let post = FaultRequest { body: "pay once".into(), count: 2, ..FaultRequest::single("POST") };
    let terminated =
        FaultOutcome::LocalReply { code: 504, reason: ReplyReason::Fault(Cause::ConnectionTerminated) };
    let on_kept = |request: &FaultRequest, name, description, outcome, script: Script| UpstreamFault {
        server_kind: ServerKind::Pooled,
        request: request.clone(),
        body: POOLED_BODY.into(),
        min_request_sent: RequestSent::Partial,
        script,
        ..fault_row(name, description, outcome)
    };
    let forwarded = FaultOutcome::Forwarded { code: 200 };
    let read = || vec![UpstreamStep::ReadRequestHead, UpstreamStep::ReadBody];
    let then = |last: Vec<UpstreamStep>| [read(), last].concat();
    let half = || then(vec![write_bytes("HTTP/1.1 2"), UpstreamStep::Close]);
    let twice = |name, description, bytes: bytes::Bytes, last: Vec<UpstreamStep>| UpstreamFault {
        request: get.clone(),
        ..forwarded_row(name, description, 200, "hello", [vec![write_bytes(bytes)], last].concat())
    };
    vec![
        on_kept(
            &get,
            "stale-closed",
            "closes a reused connection after a GET",
            forwarded,
            then(vec![UpstreamStep::Close]),
        ),
        on_kept(
            &get,
            "stale-reset",
            "resets a reused connection after a GET",
            forwarded,
            then(vec![UpstreamStep::Reset]),
        ),
        on_kept(
            &get,
            "stale-abandoned",
            "closes a reused connection without reading the GET",
            forwarded,
            vec![UpstreamStep::CloseAbruptly],
        ),
        on_kept(
            &get,
            "stale-half-line",
            "sends half a status line on a reused connection, then closes",
            terminated,
            half(),
        ),
        on_kept(
            &post,
            "stale-closed-post",
            "closes a reused connection after a POST",
            terminated,
            then(vec![UpstreamStep::Close]),
        ),
        on_kept(
            &post,
            "stale-reset-post",
            "resets a reused connection after a POST",
            terminated,
            then(vec![UpstreamStep::Reset]),
        ),
        on_kept(
            &post,
            "stale-half-line-post",
            "sends half a status line for a POST on a reused connection, then closes",
            terminated,
            half(),
        ),
        twice(
            "says-close",
            "sends Connection: close and closes",
            http_response("200 OK\nconnection: close", "hello"),
            vec![UpstreamStep::Close],
        ),
        twice(
            "says-close-and-stays",
            "sends Connection: close and keeps the connection open",
            http_response("200 OK\nconnection: close", "hello"),
            vec![UpstreamStep::ReadUntilClose],
        ),
        twice(
            "closes-silently",
            "closes the connection after its response without Connection: close",
            http_response("200 OK", "hello"),
            vec![UpstreamStep::Close],
        ),
        twice(
            "http-1.0-length",
            "sends an HTTP/1.0 response with a Content-Length",
            "HTTP/1.0 200 OK\r\ncontent-length: 5\r\n\r\nhello".into(),
            vec![UpstreamStep::Close],
        ),
    ]
}
