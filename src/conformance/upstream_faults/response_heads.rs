//! Rows of the table whose response head is none: garbage, impossible statuses, forbidden bytes, too much of it.
//!
//! And beside them the odd heads that are still clear, which must pass. What a clear head may say wrongly about its body
//! is in [`super::framing`].

use std::time::Duration;

use crate::contract::Cause;

use super::super::script::{UpstreamStep, write_bytes};
use super::{
    FaultOutcome, INTERNAL_HOSTNAME, ReplyReason, UpstreamFault, after_request, fault_row, forwarded_row,
};

/// All of them.
pub(super) fn rows() -> Vec<UpstreamFault> {
    [not_http(), statuses(), forbidden_bytes(), sizes(), unusual_but_valid()].concat()
}

/// The bytes of a head that is none, and the end.
fn malformed_head(
    name: &'static str,
    description: &'static str,
    bytes: impl Into<bytes::Bytes>,
) -> UpstreamFault {
    let outcome =
        FaultOutcome::LocalReply { code: 504, reason: ReplyReason::Fault(Cause::HttpProtocolError) };
    UpstreamFault {
        script: after_request(vec![write_bytes(bytes), UpstreamStep::Close]),
        ..fault_row(name, description, outcome)
    }
}

/// A status line, then what is needed to make it a head.
fn status_line_row(name: &'static str, description: &'static str, line: &str) -> UpstreamFault {
    malformed_head(
        name,
        description,
        format!("{line}\r\nx-served-by: {INTERNAL_HOSTNAME}\r\ncontent-length: 2\r\n\r\nok"),
    )
}

/// A good status line, then this in the place of a field line.
fn header_field_row(name: &'static str, description: &'static str, field: &str) -> UpstreamFault {
    let head = format!(
        "HTTP/1.1 200 OK\r\nx-served-by: {INTERNAL_HOSTNAME}\r\n{field}\r\ncontent-length: 2\r\n\r\nok"
    );
    malformed_head(name, description, head)
}

fn not_http() -> Vec<UpstreamFault> {
    vec![
        malformed_head(
            "garbage",
            "answers in another protocol, that of mail",
            format!("220 mail.{INTERNAL_HOSTNAME} ESMTP ready\r\n250 at your service\r\n\r\n"),
        ),
        malformed_head(
            "http-0.9",
            "answers a page without a head, as HTTP/0.9 did",
            format!("<html><body>{INTERNAL_HOSTNAME}</body></html>"),
        ),
        malformed_head(
            "tls-alert",
            "answers a TLS alert on a plain port",
            &b"\x15\x03\x01\x00\x02\x02\x46"[..],
        ),
        malformed_head(
            "http2-frames",
            "answers frames of HTTP/2",
            &b"\0\0\x06\x04\0\0\0\0\0\0\x03\0\0\0\x64"[..],
        ),
        malformed_head(
            "random-bytes",
            "answers bytes that mean nothing",
            &b"\x9c\x00\xf1\x80\r\n\r\n\xff\xfe"[..],
        ),
        malformed_head("blank-lines", "answers blank lines", "\r\n\r\n\r\n\r\n"),
        status_line_row("http-2.0", "says HTTP/2.0 in text", "HTTP/2.0 200 OK"),
        status_line_row("http-1.2", "says HTTP/1.2", "HTTP/1.2 200 OK"),
        status_line_row("lower-case-version", "spells its version in lower case", "http/1.1 200 OK"),
        status_line_row("icy", "answers like a radio stream", "ICY 200 OK"),
        status_line_row("cgi-status", "answers with a CGI head", "Status: 200 OK"),
    ]
}

fn statuses() -> Vec<UpstreamFault> {
    vec![
        status_line_row("bad-status-000", "answers with status 000", "HTTP/1.1 000 Ready"),
        status_line_row("bad-status-099", "answers with status 099", "HTTP/1.1 099 Ready"),
        status_line_row("bad-status-600", "answers with status 600", "HTTP/1.1 600 Ready"),
        status_line_row("status-999", "answers with an impossible status", "HTTP/1.1 999 Ready"),
        status_line_row("negative-status", "answers with status -1", "HTTP/1.1 -1 Ready"),
        status_line_row("short-status", "answers with a status of two digits", "HTTP/1.1 20 OK"),
        status_line_row("long-status", "answers with a status of four digits", "HTTP/1.1 2000 OK"),
        status_line_row("letters-in-status", "answers with letters in its status", "HTTP/1.1 2OO OK"),
        status_line_row("no-status", "answers without a status", "HTTP/1.1 OK"),
        status_line_row("two-blanks", "puts two blanks before its status", "HTTP/1.1  200 OK"),
        status_line_row("nul-in-reason", "has a NUL in its reason", "HTTP/1.1 200 O\0K"),
    ]
}

fn forbidden_bytes() -> Vec<UpstreamFault> {
    vec![
        header_field_row("nul-in-value", "has a NUL in a field", "x-note: a\0b"),
        header_field_row("control-in-value", "has a control byte in a field", "x-note: a\x1b[2Jb"),
        header_field_row("bare-cr", "has a CR without LF in a field", "x-note: a\rx-forged: b"),
        header_field_row("bare-lf", "ends a field line with LF alone", "x-note: a\nx-other: b"),
        malformed_head(
            "only-lf",
            "ends all its lines with LF alone",
            format!("HTTP/1.1 200 OK\nx-served-by: {INTERNAL_HOSTNAME}\ncontent-length: 2\n\nok"),
        ),
        header_field_row("folded-field", "folds a field over two lines", "x-note: one\r\n two"),
        header_field_row("folded-by-tab", "folds a field with a tab", "x-note: one\r\n\ttwo"),
        header_field_row("space-before-colon", "has a blank before a colon", "x-note : one"),
        header_field_row("space-in-name", "has a blank in a field name", "x note: one"),
        header_field_row("no-name", "has a field without a name", ": one"),
        header_field_row("no-colon", "has a field line without a colon", "x-note one"),
        header_field_row("no-token", "has a field name that is no token", "x-n(o)te: one"),
        header_field_row("high-byte-in-name", "has a field name beyond ASCII", "x-nöte: one"),
        malformed_head(
            "space-before-first-field",
            "indents its first field",
            format!("HTTP/1.1 200 OK\r\n x-served-by: {INTERNAL_HOSTNAME}\r\ncontent-length: 2\r\n\r\nok"),
        ),
    ]
}

fn sizes() -> Vec<UpstreamFault> {
    let outcome = FaultOutcome::LocalReply {
        code: 504,
        reason: ReplyReason::Fault(Cause::HttpResponseHeaderSectionSize),
    };
    let large = |name, description, chunk: String, times, end: &'static str| UpstreamFault {
        script: after_request(vec![
            write_bytes(format!("HTTP/1.1 200 OK\r\nx-served-by: {INTERNAL_HOSTNAME}\r\n")),
            UpstreamStep::WriteRepeated { bytes: chunk.into(), count: times, interval: Duration::ZERO },
            write_bytes(end),
            UpstreamStep::ReadUntilClose,
        ]),
        ..fault_row(name, description, outcome)
    };
    let padding = "x-padding: 0123456789\r\n";
    vec![
        large("head-64-kib", "sends a response head of 64 KiB", padding.repeat(2850), 1, "\r\n"),
        large("head-1-mib", "sends a response head of a mebibyte", padding.repeat(1000), 46, "\r\n"),
        large("oversized-head", "sends a response head of two megabytes", padding.repeat(1000), 100, "\r\n"),
        large("fields-10000", "sends 10,000 fields", "x-a: 1\r\n".repeat(10_000), 1, "\r\n"),
        large("endless-head", "sends a response head without an end", padding.repeat(100), u64::MAX, ""),
        large("endless-value", "sends a field without an end", "x".repeat(10_000), u64::MAX, ""),
        UpstreamFault {
            script: after_request(vec![
                write_bytes("HTTP/1.1 200 "),
                UpstreamStep::WriteRepeated {
                    bytes: "x".repeat(10_000).into(),
                    count: u64::MAX,
                    interval: Duration::ZERO,
                },
            ]),
            ..fault_row("endless-reason", "sends a reason without an end", outcome)
        },
    ]
}

fn unusual_but_valid() -> Vec<UpstreamFault> {
    let ok = |name, description, line: &str, fields: &str| {
        let head = format!("{line}\r\n{fields}content-length: 2\r\n\r\nok");
        forwarded_row(name, description, 200, "ok", vec![write_bytes(head)])
    };
    vec![
        ok("no-reason", "has no reason, nor the blank before it", "HTTP/1.1 200", ""),
        ok("empty-reason", "has an empty reason", "HTTP/1.1 200 ", ""),
        ok(
            "long-reason",
            "has a reason of 10,000 letters",
            &format!("HTTP/1.1 200 {}", "x".repeat(10_000)),
            "",
        ),
        ok("fields-1000", "sends 1,000 fields", "HTTP/1.1 200 OK", &"x-a: 1\r\n".repeat(1000)),
        ok(
            "head-60-kib",
            "sends a response head of 60 KiB",
            "HTTP/1.1 200 OK",
            &"x-padding: 0123456789\r\n".repeat(2670),
        ),
        ok("empty-value", "has a field without a value", "HTTP/1.1 200 OK", "x-note:\r\n"),
        ok("wide-blanks", "has blanks around a value", "HTTP/1.1 200 OK", "x-note: \t one \t\r\n"),
    ]
}
