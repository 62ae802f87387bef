//! Rows whose fields are wrong: their syntax, what Connection says, and Host.
//!
//! What says how long a body is has its own files: [`super::framing`] and [`super::chunks`].

use crate::contract::Cause;

use super::{ClientFault, rejected, served};

const MALFORMED_HEADER: Cause = Cause::MalformedHeader;

/// A request with these lines after Host.
fn request_with(lines: &str) -> String {
    format!("<get> HTTP/1.1\r\nhost: <host>\r\n{lines}\r\n\r\n")
}

/// Lines that are not `name: value`.
pub(super) fn syntax() -> Vec<ClientFault> {
    let bad = |name, meaning, lines: &str| rejected(name, meaning, MALFORMED_HEADER, request_with(lines));
    vec![
        bad("space-before-colon", "a space between name and colon", "x-note : a"),
        bad("tab-before-colon", "a tab between name and colon", "x-note\t: a"),
        bad("no-colon", "a field without a colon", "x-note"),
        bad("no-name", "a field without a name", ": a"),
        bad("space-in-name", "a space inside a name", "x note: a"),
        bad("folded-with-space", "a value folded over two lines", "x-note: a\r\n b"),
        bad("folded-with-tab", "a value folded with a tab", "x-note: a\r\n\tb"),
        rejected(
            "folded-first",
            "a first field that begins with a space",
            MALFORMED_HEADER,
            "<get> HTTP/1.1\r\n host: <host>\r\n\r\n",
        ),
        bad("line-feed-in-fields", "fields parted by LF alone", "x-note: a\nx-other: b"),
        bad("carriage-return-in-value", "a CR inside a value", "x-note: a\rb"),
        bad("carriage-return-injection", "a CR that some take for a line end", "x-note: a\rx-admin: yes"),
        bad("nul-in-value", "a zero byte in a value", "x-note: a\0b"),
        bad("nul-in-name", "a zero byte in a name", "x-no\0te: a"),
        bad("bell-in-value", "a control byte in a value", "x-note: a\x07b"),
        bad("delete-in-value", "a DEL in a value", "x-note: a\x7fb"),
        bad("parenthesis-in-name", "a parenthesis in a name", "x(note): a"),
        bad("slash-in-name", "a slash in a name", "x/note: a"),
        bad("unicode-name", "a name beyond ASCII", "x-n\u{f8}te: a"),
        bad("end-with-line-feed", "a head that ends with LF LF", "x-note: a\n\n"),
        served("empty-value", "an empty value", request_with("x-note:")),
        served("latin-1-value", "a value beyond ASCII", request_with("x-note: caf\u{e9}")),
        served("tab-in-value", "a tab inside a value", request_with("x-note: a\tb")),
        served(
            "many-equal-names",
            "the same unknown field fifty times",
            request_with(["x-note: a"; 50].join("\r\n").as_str()),
        ),
    ]
}

/// What Connection and its kin say.
pub(super) fn connection() -> Vec<ClientFault> {
    let bad = |name, meaning, lines: &str| rejected(name, meaning, MALFORMED_HEADER, request_with(lines));
    vec![
        bad("connection-names-host", "Connection names Host", "connection: host"),
        bad(
            "connection-names-length",
            "Connection names Content-Length",
            "connection: close, content-length",
        ),
        bad("connection-names-authorization", "Connection names Authorization", "connection: authorization"),
        bad("connection-names-forwarded", "Connection names X-Forwarded-For", "connection: x-forwarded-for"),
        bad("connection-no-token", "a connection option that is no token", "connection: a b"),
        bad(
            "connection-seventeen",
            "seventeen connection options",
            &format!("connection: {}", ["x-a"; 17].join(", ")),
        ),
        served(
            "connection-names-another",
            "Connection names a field of the client's own",
            request_with("connection: x-note\r\nx-note: a"),
        ),
        served(
            "upgrade-h2c",
            "asks for HTTP/2 by Upgrade",
            request_with(
                "connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__",
            ),
        ),
        served(
            "upgrade-unknown",
            "asks to switch to a protocol of its own",
            request_with("connection: upgrade\r\nupgrade: rehearsal/1"),
        ),
        served(
            "upgrade-by-post",
            "asks for WebSocket by POST",
            "<post> HTTP/1.1\r\nhost: <host>\r\nconnection: upgrade\r\nupgrade: websocket\r\ncontent-length: 2\r\n\r\nhi",
        ),
        served(
            "upgrade-with-body",
            "asks for HTTP/2 by Upgrade, with a body",
            "<post> HTTP/1.1\r\nhost: <host>\r\nconnection: upgrade, http2-settings\r\nupgrade: h2c\r\n\
             http2-settings: AAMAAABkAAQAAP__\r\ncontent-length: 2\r\n\r\nhi",
        ),
        served(
            "upgrade-unconnected",
            "names websocket in Upgrade and not in Connection",
            request_with("upgrade: websocket"),
        ),
        served("te-trailers", "would take trailers", request_with("te: trailers\r\nconnection: te")),
        served("connection-close", "asks to close", request_with("connection: close"))
            .ending(super::ConnectionOutcome::AnnouncedClose),
        served(
            "connection-close-and-keep",
            "asks to close and to keep alive",
            request_with("connection: keep-alive, close"),
        )
        .ending(super::ConnectionOutcome::AnnouncedClose),
    ]
}

/// Whom a request is for.
pub(super) fn hosts() -> Vec<ClientFault> {
    let host = |name, meaning, lines: &str| {
        rejected(name, meaning, Cause::InvalidHost, format!("<get> HTTP/1.1\r\n{lines}\r\n"))
    };
    let named = |name, meaning, value: &str| host(name, meaning, &format!("host: {value}\r\n"));
    vec![
        host("no-host", "HTTP/1.1 without Host", ""),
        host("two-hosts", "two different Hosts", "host: <host>\r\nhost: other.example\r\n"),
        host("same-host-twice", "the same Host twice", "host: <host>\r\nhost: <host>\r\n"),
        named("empty-host", "an empty Host", ""),
        named("host-list", "two hosts in one field", "<host>, other.example"),
        named("host-with-user", "user information in Host", "user@<host>"),
        named("host-with-path", "a path in Host", "<host>/admin"),
        named("host-with-space", "a space in Host", "<host> other"),
        named("host-with-scheme", "a scheme in Host", "http://<host>"),
        named("host-percent", "a percent-encoding in Host", "%6chost.example"),
        named("host-port-letters", "a port of letters", "<host>:http"),
        named("host-port-large", "a port beyond 65535", "<host>:65536"),
        named("host-port-negative", "a port with a sign", "<host>:-1"),
        named("host-empty-label", "an empty label", "a..example"),
        named("host-open-bracket", "an IPv6 address without its end", "[::1"),
        named("host-bad-address", "brackets around something that is no IPv6 address", "[::zz]"),
        named("host-port-alone", "a port without a host", ":80"),
        named("host-too-long", "a host of 300 bytes", &"a".repeat(300)),
        named("host-underscore-and-angle", "an angle bracket in Host", ">.example"),
        served(
            "host-in-upper-case",
            "the field's name in capitals",
            "<get> HTTP/1.1\r\nHOST: <host>\r\n\r\n",
        ),
        served("host-with-port", "a port in Host", "<get> HTTP/1.1\r\nhost: <host>:8080\r\n\r\n"),
        served("host-empty-port", "a colon and no port", "<get> HTTP/1.1\r\nhost: <host>:\r\n\r\n"),
        served("host-final-dot", "a final dot", "<get> HTTP/1.1\r\nhost: <host>.\r\n\r\n"),
    ]
}
