//! Malformed response headers: other protocols, invalid status codes, forbidden bytes, and excessive size.
//!
//! Unusual but valid headers are here too; they must be forwarded. Invalid body framing is in [`super::framing`].

use std::time::Duration;

use crate::contract::Cause;

use super::super::script::{UpstreamStep, write_bytes};
use super::{
    FaultOutcome, INTERNAL_HOSTNAME, ReplyReason, UpstreamFault, after_request, fault_row, forwarded_row,
};

/// All rows of this file.
pub(super) fn rows() -> Vec<UpstreamFault> {
    [not_http(), statuses(), forbidden_bytes(), sizes(), unusual_but_valid()].concat()
}

/// Malformed response headers, then a close.
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

/// This status line, followed by valid header fields.
fn status_line_row(name: &'static str, description: &'static str, line: &str) -> UpstreamFault {
    malformed_head(
        name,
        description,
        format!("{line}\r\nx-served-by: {INTERNAL_HOSTNAME}\r\ncontent-length: 2\r\n\r\nok"),
    )
}

/// A valid status line with this field line.
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
            "replies in another protocol (SMTP)",
            format!("220 mail.{INTERNAL_HOSTNAME} ESMTP ready\r\n250 at your service\r\n\r\n"),
        ),
        malformed_head(
            "http-0.9",
            "sends a body without headers, as HTTP/0.9 did",
            format!("<html><body>{INTERNAL_HOSTNAME}</body></html>"),
        ),
        malformed_head(
            "tls-alert",
            "sends a TLS alert on a plain port",
            &b"\x15\x03\x01\x00\x02\x02\x46"[..],
        ),
        malformed_head("http2-frames", "sends HTTP/2 frames", &b"\0\0\x06\x04\0\0\0\0\0\0\x03\0\0\0\x64"[..]),
        malformed_head("random-bytes", "sends random bytes", &b"\x9c\x00\xf1\x80\r\n\r\n\xff\xfe"[..]),
        malformed_head("blank-lines", "sends only blank lines", "\r\n\r\n\r\n\r\n"),
        status_line_row("http-2.0", "sends a status line with HTTP/2.0", "HTTP/2.0 200 OK"),
        status_line_row("http-1.10", "sends a status line with HTTP/1.10", "HTTP/1.10 200 OK"),
        status_line_row("lower-case-version", "sends the HTTP version in lower case", "http/1.1 200 OK"),
        status_line_row("icy", "sends an ICY (Shoutcast) status line", "ICY 200 OK"),
        status_line_row("cgi-status", "sends CGI headers without a status line", "Status: 200 OK"),
    ]
}

fn statuses() -> Vec<UpstreamFault> {
    vec![
        status_line_row("bad-status-000", "sends status code 000", "HTTP/1.1 000 Ready"),
        status_line_row("bad-status-099", "sends status code 099", "HTTP/1.1 099 Ready"),
        status_line_row("bad-status-600", "sends status code 600", "HTTP/1.1 600 Ready"),
        status_line_row("status-999", "sends status code 999", "HTTP/1.1 999 Ready"),
        status_line_row("negative-status", "sends status code -1", "HTTP/1.1 -1 Ready"),
        status_line_row("short-status", "sends a status code of two digits", "HTTP/1.1 20 OK"),
        status_line_row("long-status", "sends a status code of four digits", "HTTP/1.1 2000 OK"),
        status_line_row("letters-in-status", "sends letters in the status code", "HTTP/1.1 2OO OK"),
        status_line_row("no-status", "sends no status code", "HTTP/1.1 OK"),
        status_line_row("two-blanks", "sends two spaces before the status code", "HTTP/1.1  200 OK"),
        status_line_row("nul-in-reason", "sends a NUL byte in the reason phrase", "HTTP/1.1 200 O\0K"),
    ]
}

fn forbidden_bytes() -> Vec<UpstreamFault> {
    vec![
        header_field_row("nul-in-value", "sends a NUL byte in a field value", "x-note: a\0b"),
        header_field_row(
            "control-in-value",
            "sends a control character in a field value",
            "x-note: a\x1b[2Jb",
        ),
        header_field_row("bare-cr", "sends a CR without LF in a field value", "x-note: a\rx-forged: b"),
        header_field_row("bare-lf", "ends a field line with a bare LF", "x-note: a\nx-other: b"),
        malformed_head(
            "only-lf",
            "ends every line with a bare LF",
            format!("HTTP/1.1 200 OK\nx-served-by: {INTERNAL_HOSTNAME}\ncontent-length: 2\n\nok"),
        ),
        header_field_row("folded-field", "folds a field line with a space (obs-fold)", "x-note: one\r\n two"),
        header_field_row("folded-by-tab", "folds a field line with a tab (obs-fold)", "x-note: one\r\n\ttwo"),
        header_field_row(
            "space-before-colon",
            "sends a space before the colon of a field line",
            "x-note : one",
        ),
        header_field_row("space-in-name", "sends a space inside a field name", "x note: one"),
        header_field_row("no-name", "sends a field line with an empty name", ": one"),
        header_field_row("no-colon", "sends a field line without a colon", "x-note one"),
        header_field_row("no-token", "sends a field name with invalid characters", "x-n(o)te: one"),
        header_field_row("high-byte-in-name", "sends a field name with non-ASCII bytes", "x-nöte: one"),
        malformed_head(
            "space-before-first-field",
            "sends a space before the first field line",
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
        large("head-64-kib", "sends 64 KiB of response headers", padding.repeat(2850), 1, "\r\n"),
        large("head-1-mib", "sends 1 MiB of response headers", padding.repeat(1000), 46, "\r\n"),
        large("oversized-head", "sends 2 MB of response headers", padding.repeat(1000), 100, "\r\n"),
        large("fields-10000", "sends 10,000 header fields", "x-a: 1\r\n".repeat(10_000), 1, "\r\n"),
        large("endless-head", "sends response headers without end", padding.repeat(100), u64::MAX, ""),
        large("endless-value", "sends a field value without end", "x".repeat(10_000), u64::MAX, ""),
        UpstreamFault {
            script: after_request(vec![
                write_bytes("HTTP/1.1 200 "),
                UpstreamStep::WriteRepeated {
                    bytes: "x".repeat(10_000).into(),
                    count: u64::MAX,
                    interval: Duration::ZERO,
                },
            ]),
            ..fault_row("endless-reason", "sends a reason phrase without end", outcome)
        },
    ]
}

fn unusual_but_valid() -> Vec<UpstreamFault> {
    let ok = |name, description, line: &str, fields: &str| {
        let head = format!("{line}\r\n{fields}content-length: 2\r\n\r\nok");
        forwarded_row(name, description, 200, "ok", vec![write_bytes(head)])
    };
    vec![
        ok("no-reason", "sends no reason phrase, nor the space before it", "HTTP/1.1 200", ""),
        ok("empty-reason", "sends an empty reason phrase", "HTTP/1.1 200 ", ""),
        ok(
            "long-reason",
            "sends a reason phrase of 10,000 characters",
            &format!("HTTP/1.1 200 {}", "x".repeat(10_000)),
            "",
        ),
        ok("fields-1000", "sends 1,000 header fields", "HTTP/1.1 200 OK", &"x-a: 1\r\n".repeat(1000)),
        ok(
            "head-60-kib",
            "sends 60 KiB of response headers",
            "HTTP/1.1 200 OK",
            &"x-padding: 0123456789\r\n".repeat(2670),
        ),
        ok("empty-value", "sends a field with an empty value", "HTTP/1.1 200 OK", "x-note:\r\n"),
        ok(
            "wide-blanks",
            "sends whitespace around a field value",
            "HTTP/1.1 200 OK",
            "x-note: \t one \t\r\n",
        ),
    ]
}
