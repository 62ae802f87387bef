//! Connection failures, incomplete response headers, and truncated bodies.
//!
//! Complete error responses are in [`super::error_bodies`].

use std::time::Duration;

use bytes::Bytes;

use crate::contract::{Cause, RequestSent};

use super::super::script::{Script, UpstreamStep, write_bytes};
use super::{FaultOutcome, ReplyReason, ServerKind, UpstreamFault, after_request, fault_row, forwarded_row};

/// Failures before a request is sent.
pub(super) fn connect_failures() -> Vec<UpstreamFault> {
    let at_server = |name, description, server_kind, cause| {
        let outcome = FaultOutcome::LocalReply { code: 504, reason: ReplyReason::Fault(cause) };
        UpstreamFault {
            server_kind,
            script: Script::new(),
            min_request_sent: RequestSent::None,
            ..fault_row(name, description, outcome)
        }
    };
    vec![
        at_server("refused", "refuses the TCP connection", ServerKind::Refusing, Cause::ConnectionRefused),
        at_server(
            "connect-timeout",
            "does not respond to the TCP connection attempt",
            ServerKind::FullBacklog,
            Cause::ConnectionTimeout,
        ),
        at_server(
            "accept-close",
            "accepts the connection and closes it",
            ServerKind::Closing,
            Cause::ConnectionTerminated,
        ),
    ]
}

/// Missing or incomplete response headers.
pub(super) fn response_heads() -> Vec<UpstreamFault> {
    const PARTIAL_HEAD: &str = "HTTP/1.1 200 db-7.internal\r\nx-served-by: db-7.internal\r\ncontent-le";
    let fault = |name, description, cause, steps: Vec<UpstreamStep>| UpstreamFault {
        script: after_request(steps),
        ..fault_row(
            name,
            description,
            FaultOutcome::LocalReply { code: 504, reason: ReplyReason::Fault(cause) },
        )
    };
    let drip = |bytes: String| UpstreamStep::WriteSlowly {
        bytes: bytes.into(),
        interval: Duration::from_millis(40),
    };
    let padding = "x-padding: 0123456789\r\n";
    vec![
        fault(
            "close-before-head",
            "reads the request and closes the connection",
            Cause::ConnectionTerminated,
            vec![UpstreamStep::Close],
        ),
        fault(
            "reset-before-head",
            "reads the request and resets the connection",
            Cause::ConnectionTerminated,
            vec![UpstreamStep::Reset],
        ),
        fault(
            "close-in-head",
            "closes the connection inside the response headers",
            Cause::ConnectionTerminated,
            vec![write_bytes(PARTIAL_HEAD), UpstreamStep::Close],
        ),
        fault(
            "reset-in-head",
            "resets the connection inside the response headers",
            Cause::ConnectionTerminated,
            vec![write_bytes(PARTIAL_HEAD), UpstreamStep::Reset],
        ),
        fault(
            "hang",
            "reads the request and never responds",
            Cause::HttpResponseTimeout,
            vec![UpstreamStep::ReadUntilClose],
        ),
        fault(
            "hang-in-head",
            "stalls inside the response headers",
            Cause::HttpResponseTimeout,
            vec![write_bytes(PARTIAL_HEAD), UpstreamStep::ReadUntilClose],
        ),
        fault(
            "dripped-status-line",
            "sends the status line one byte at a time",
            Cause::HttpResponseTimeout,
            vec![drip(format!("HTTP/1.1 200 {}\r\n", "x".repeat(4000)))],
        ),
        fault(
            "silent-close",
            "shuts down its sending side and keeps the connection open",
            Cause::ConnectionTerminated,
            vec![UpstreamStep::ShutdownWrite, UpstreamStep::ReadUntilClose],
        ),
        fault(
            "dripped-head",
            "sends the response headers one byte at a time",
            Cause::HttpResponseTimeout,
            vec![drip(format!("HTTP/1.1 200 OK\r\n{}\r\n", padding.repeat(200)))],
        ),
    ]
}

/// Responses that fail after their headers were sent.
pub(super) fn truncated_bodies() -> Vec<UpstreamFault> {
    const CHUNKED_HEAD: &str =
        "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n9\r\nfirst and\r\n";
    const LENGTH_HEAD: &str =
        "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 1000\r\n\r\nfirst and";
    let truncated = |name, description, cause, steps: Vec<UpstreamStep>| {
        let outcome = FaultOutcome::Aborted { code: 200, cause };
        UpstreamFault {
            script: after_request(steps),
            body: "first and".into(),
            ..fault_row(name, description, outcome)
        }
    };
    let incomplete = Cause::HttpResponseIncomplete;
    let old = "HTTP/1.0 200 OK\r\ncontent-type: text/plain\r\n\r\nfirst and";
    let behind_head = |name, description, cause, steps: Vec<UpstreamStep>| UpstreamFault {
        body: Bytes::new(),
        ..truncated(name, description, cause, steps)
    };
    let (length, chunked) =
        (LENGTH_HEAD.trim_end_matches("first and"), CHUNKED_HEAD.trim_end_matches("9\r\nfirst and\r\n"));
    vec![
        behind_head(
            "cut-behind-head",
            "closes before the first byte of the body",
            incomplete,
            vec![write_bytes(length), UpstreamStep::Close],
        ),
        behind_head(
            "cut-behind-head-of-chunks",
            "closes before the first chunk",
            incomplete,
            vec![write_bytes(chunked), UpstreamStep::Close],
        ),
        behind_head(
            "reset-behind-head",
            "resets before the first byte of the body",
            incomplete,
            vec![write_bytes(length), UpstreamStep::Reset],
        ),
        behind_head(
            "stalled-behind-head",
            "stalls before the first byte of the body",
            Cause::ConnectionReadTimeout,
            vec![write_bytes(length), UpstreamStep::ReadUntilClose],
        ),
        truncated(
            "cut-body",
            "closes before Content-Length bytes are sent",
            incomplete,
            vec![write_bytes(LENGTH_HEAD), UpstreamStep::Close],
        ),
        truncated(
            "cut-chunked",
            "closes before the last chunk",
            incomplete,
            vec![write_bytes(CHUNKED_HEAD), UpstreamStep::Close],
        ),
        truncated(
            "reset-in-body",
            "resets inside the body",
            incomplete,
            vec![write_bytes(LENGTH_HEAD), UpstreamStep::Reset],
        ),
        truncated(
            "stalled-body",
            "stalls inside the body",
            Cause::ConnectionReadTimeout,
            vec![write_bytes(LENGTH_HEAD), UpstreamStep::ReadUntilClose],
        ),
        truncated(
            "cut-in-chunk",
            "closes inside a chunk",
            incomplete,
            vec![write_bytes(CHUNKED_HEAD), write_bytes("64\r\n"), UpstreamStep::Close],
        ),
        truncated(
            "cut-in-chunk-size",
            "closes inside a chunk size",
            incomplete,
            vec![write_bytes(CHUNKED_HEAD), write_bytes("6"), UpstreamStep::Close],
        ),
        truncated(
            "cut-before-last-line",
            "closes before the blank line that ends the chunked body",
            incomplete,
            vec![write_bytes(CHUNKED_HEAD), write_bytes("0\r\n"), UpstreamStep::Close],
        ),
        truncated(
            "reset-in-chunks",
            "resets between chunks",
            incomplete,
            vec![write_bytes(CHUNKED_HEAD), UpstreamStep::Reset],
        ),
        truncated(
            "reset-unframed",
            "resets the connection inside a body that ends when the connection closes",
            incomplete,
            vec![write_bytes(old), UpstreamStep::Reset],
        ),
        truncated(
            "stalled-chunks",
            "stalls between chunks",
            Cause::ConnectionReadTimeout,
            vec![write_bytes(CHUNKED_HEAD), UpstreamStep::ReadUntilClose],
        ),
        forwarded_row(
            "dripped-body",
            "sends the body one byte at a time: slow, but valid",
            200,
            "first and hello",
            vec![
                write_bytes("HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 15\r\n\r\n"),
                UpstreamStep::WriteSlowly {
                    bytes: "first and hello".into(),
                    interval: Duration::from_millis(80),
                },
            ],
        ),
    ]
}
