//! Client faults in header fields: syntax, Connection and Host.
//!
//! The fields that frame the body are in [`super::framing`] and [`super::chunks`].

use crate::contract::Cause;

use super::{ClientFault, rejected, served};

const MALFORMED_HEADER: Cause = Cause::MalformedHeader;

/// A GET with these header lines after Host.
fn request_with(lines: &str) -> String {
    format!("<get> HTTP/1.1\r\nhost: <host>\r\n{lines}\r\n\r\n")
}

/// Malformed field lines.
pub(super) fn syntax() -> Vec<ClientFault> {
    let invalid =
        |name, description, lines: &str| rejected(name, description, MALFORMED_HEADER, request_with(lines));
    vec![
        invalid("space-before-colon", "a space between field name and colon", "x-note : a"),
        invalid("tab-before-colon", "a tab between field name and colon", "x-note\t: a"),
        invalid("no-colon", "a field line without a colon", "x-note"),
        invalid("no-name", "a field line with an empty name", ": a"),
        invalid("space-in-name", "a space inside a field name", "x note: a"),
        invalid("folded-with-space", "a field value folded with a space (obs-fold)", "x-note: a\r\n b"),
        invalid("folded-with-tab", "a field value folded with a tab (obs-fold)", "x-note: a\r\n\tb"),
        rejected(
            "folded-first",
            "a first field line that begins with a space",
            MALFORMED_HEADER,
            "<get> HTTP/1.1\r\n host: <host>\r\n\r\n",
        ),
        invalid("line-feed-in-fields", "field lines that end with a bare LF", "x-note: a\nx-other: b"),
        invalid("carriage-return-in-value", "a CR inside a field value", "x-note: a\rb"),
        invalid(
            "carriage-return-injection",
            "a bare CR that some parsers treat as a line end",
            "x-note: a\rx-admin: yes",
        ),
        invalid("nul-in-value", "a NUL byte in a field value", "x-note: a\0b"),
        invalid("nul-in-name", "a NUL byte in a field name", "x-no\0te: a"),
        invalid("bell-in-value", "a control character in a field value", "x-note: a\x07b"),
        invalid("delete-in-value", "a DEL byte in a field value", "x-note: a\x7fb"),
        invalid("parenthesis-in-name", "a parenthesis in a field name", "x(note): a"),
        invalid("slash-in-name", "a slash in a field name", "x/note: a"),
        invalid("unicode-name", "a non-ASCII field name", "x-n\u{f8}te: a"),
        invalid("end-with-line-feed", "a header section that ends with LF LF", "x-note: a\n\n"),
        served("empty-value", "an empty field value", request_with("x-note:")),
        served("latin-1-value", "a non-ASCII field value", request_with("x-note: caf\u{e9}")),
        served("tab-in-value", "a tab inside a field value", request_with("x-note: a\tb")),
        served(
            "many-equal-names",
            "the same unknown field 50 times",
            request_with(["x-note: a"; 50].join("\r\n").as_str()),
        ),
    ]
}

/// Connection, Upgrade and TE.
pub(super) fn connection() -> Vec<ClientFault> {
    let invalid =
        |name, description, lines: &str| rejected(name, description, MALFORMED_HEADER, request_with(lines));
    vec![
        invalid("connection-names-host", "Connection lists Host", "connection: host"),
        invalid(
            "connection-names-length",
            "Connection lists Content-Length",
            "connection: close, content-length",
        ),
        invalid(
            "connection-names-authorization",
            "Connection lists Authorization",
            "connection: authorization",
        ),
        invalid(
            "connection-names-forwarded",
            "Connection lists X-Forwarded-For",
            "connection: x-forwarded-for",
        ),
        invalid("connection-no-token", "a connection option with invalid characters", "connection: a b"),
        invalid(
            "connection-seventeen",
            "17 connection options",
            &format!("connection: {}", ["x-a"; 17].join(", ")),
        ),
        served(
            "connection-names-another",
            "Connection lists a custom field",
            request_with("connection: x-note\r\nx-note: a"),
        ),
        served(
            "upgrade-h2c",
            "Upgrade to h2c",
            request_with(
                "connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__",
            ),
        ),
        served(
            "upgrade-unknown",
            "Upgrade to an unknown protocol",
            request_with("connection: upgrade\r\nupgrade: example/1"),
        ),
        served(
            "upgrade-by-post",
            "Upgrade to WebSocket with POST",
            "<post> HTTP/1.1\r\nhost: <host>\r\nconnection: upgrade\r\nupgrade: websocket\r\ncontent-length: 2\r\n\r\nhi",
        ),
        served(
            "upgrade-with-body",
            "Upgrade to h2c with a body",
            "<post> HTTP/1.1\r\nhost: <host>\r\nconnection: upgrade, http2-settings\r\nupgrade: h2c\r\n\
             http2-settings: AAMAAABkAAQAAP__\r\ncontent-length: 2\r\n\r\nhi",
        ),
        served(
            "upgrade-unconnected",
            "Upgrade: websocket without Connection: upgrade",
            request_with("upgrade: websocket"),
        ),
        served("te-trailers", "TE: trailers", request_with("te: trailers\r\nconnection: te")),
        served("connection-close", "Connection: close", request_with("connection: close"))
            .with_connection_outcome(super::ConnectionOutcome::AnnouncedClose),
        served(
            "connection-close-and-keep",
            "Connection: close, keep-alive",
            request_with("connection: keep-alive, close"),
        )
        .with_connection_outcome(super::ConnectionOutcome::AnnouncedClose),
    ]
}

/// The Host field.
pub(super) fn hosts() -> Vec<ClientFault> {
    let host = |name, description, lines: &str| {
        rejected(name, description, Cause::InvalidHost, format!("<get> HTTP/1.1\r\n{lines}\r\n"))
    };
    let named = |name, description, value: &str| host(name, description, &format!("host: {value}\r\n"));
    vec![
        host("no-host", "HTTP/1.1 without Host", ""),
        host("two-hosts", "two different Host fields", "host: <host>\r\nhost: other.example\r\n"),
        host("same-host-twice", "the same Host field twice", "host: <host>\r\nhost: <host>\r\n"),
        named("empty-host", "an empty Host", ""),
        named("host-list", "two hosts in one Host field", "<host>, other.example"),
        named("host-with-user", "user information in Host", "user@<host>"),
        named("host-with-path", "a path in Host", "<host>/admin"),
        named("host-with-space", "a space in Host", "<host> other"),
        named("host-with-scheme", "a scheme in Host", "http://<host>"),
        named("host-percent", "a percent-encoding in Host", "%6chost.example"),
        named("host-port-letters", "letters in the port of Host", "<host>:http"),
        named("host-port-large", "a port above 65535 in Host", "<host>:65536"),
        named("host-port-negative", "a signed port in Host", "<host>:-1"),
        named("host-empty-label", "an empty label in Host", "a..example"),
        named("host-open-bracket", "an IPv6 address without its closing bracket in Host", "[::1"),
        named("host-bad-address", "an invalid IPv6 address in brackets in Host", "[::zz]"),
        named("host-port-alone", "a port without a host in Host", ":80"),
        named("host-too-long", "a Host of 300 bytes", &"a".repeat(300)),
        named("host-underscore-and-angle", "an angle bracket in Host", ">.example"),
        served(
            "host-in-upper-case",
            "the field name HOST in upper case",
            "<get> HTTP/1.1\r\nHOST: <host>\r\n\r\n",
        ),
        served("host-with-port", "a port in Host", "<get> HTTP/1.1\r\nhost: <host>:8080\r\n\r\n"),
        served(
            "host-empty-port",
            "a colon without a port in Host",
            "<get> HTTP/1.1\r\nhost: <host>:\r\n\r\n",
        ),
        served("host-final-dot", "a final dot in Host", "<get> HTTP/1.1\r\nhost: <host>.\r\n\r\n"),
    ]
}
