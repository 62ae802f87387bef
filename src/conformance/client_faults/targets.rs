//! Rows about what is asked for: spellings of a path that two readers could read in two ways, and the forms of a target.
//!
//! A spelling that has one reading is served, and reaches the upstream as it came.

use crate::contract::Cause;

use super::{
    ClientFault, ClientStep, ConnectionOutcome, ExpectedResponse, RequestKind, rejected, row, send, served,
};

const REST_OF_REQUEST: &str = "HTTP/1.1\r\nhost: <host>\r\n\r\n";

/// Paths.
pub(super) fn paths() -> Vec<ClientFault> {
    // Refused while the head is read, so the connection closes; dot segments only when the route is known.
    let ambiguous = |name, meaning, suffix: &str| {
        let bytes = format!("<GET> <path>{suffix}?<row> {REST_OF_REQUEST}");
        rejected(name, meaning, Cause::AmbiguousPath, bytes)
    };
    let dots = |name, meaning, suffix: &str| {
        ambiguous(name, meaning, suffix)
            .ending(ConnectionOutcome::KeptOpen)
            .asking("<GET>", &format!("<path>{suffix}"))
    };
    let illegal = |name, meaning, suffix: &str| {
        rejected(
            name,
            meaning,
            Cause::MalformedRequestLine,
            format!("<GET> <path>{suffix} {REST_OF_REQUEST}"),
        )
    };
    let fine = |name, meaning, suffix: &str| {
        served(name, meaning, format!("<GET> <path>{suffix}?<row> {REST_OF_REQUEST}"))
            .asking("<GET>", &format!("<path>{suffix}"))
    };
    vec![
        dots("dot-segment", "a segment of one dot", "/./b"),
        dots("two-dots", "a segment of two dots", "/../b"),
        dots("two-dots-at-end", "two dots at the end", "/.."),
        dots("encoded-dots", "two encoded dots", "/%2e%2E/b"),
        dots("half-encoded-dots", "one dot encoded, one not", "/.%2e/b"),
        dots("dots-before-encoded-slash", "two dots and an encoded slash", "/..%2fb"),
        dots("dots-with-parameter", "two dots and a parameter", "/..;a=b/b"),
        ambiguous("backslash", "a backslash", "\\b"),
        ambiguous("backslash-dots", "two dots between backslashes", "\\..\\b"),
        ambiguous("encoded-backslash", "an encoded backslash", "%5cb"),
        ambiguous("encoded-nul", "an encoded zero byte", "%00"),
        ambiguous("encoded-line-end", "an encoded CR LF, to inject a field", "%0d%0aset-cookie:a"),
        ambiguous("encoded-delete", "an encoded DEL", "%7f"),
        ambiguous("broken-encoding", "a percent sign and no digits", "%zz"),
        ambiguous("half-an-encoding", "a percent sign and one digit at the end", "%2"),
        ambiguous("lone-percent", "a percent sign at the end", "%"),
        ambiguous("unicode-encoding", "an encoding that only one vendor knew", "%u002e"),
        illegal("fragment", "a fragment in the request line", "#top?<row>"),
        illegal("quotation-mark", "a raw quotation mark", "\"b?<row>"),
        illegal("less-than", "a raw tag in the query", "?<row>&a=<b>"),
        illegal("double-quote-in-query", "a raw quotation mark in the query", "?<row>&a=\"b\""),
        fine("double-slash", "a slash twice", "//b"),
        fine("encoded-slash", "an encoded slash", "/a%2Fb"),
        fine("encoded-letter", "a letter that needs no encoding", "/%61b"),
        fine("encoded-percent", "an encoded percent sign before 2e", "/%252e%252e/b"),
        fine("three-dots", "a segment of three dots", "/.../b"),
        fine("raw-utf-8", "raw UTF-8", "/caf\u{e9}"),
        row(
            "raw-latin-1",
            "a raw byte that is not UTF-8",
            [b"<GET> <path>/caf\xe9?<row> ", REST_OF_REQUEST.as_bytes()].concat(),
            ExpectedResponse::Rejected(Cause::MalformedRequestLine),
        ),
        served("dots-in-query", "dot segments in the query", format!("<get>&a=/../b {REST_OF_REQUEST}")),
        served(
            "encoded-nul-in-query",
            "an encoded zero byte in the query",
            format!("<get>&a=%00 {REST_OF_REQUEST}"),
        ),
    ]
}

/// Absolute, authority and asterisk form.
pub(super) fn forms() -> Vec<ClientFault> {
    let line = |name, meaning, target: &str| {
        rejected(name, meaning, Cause::MalformedRequestLine, format!("<GET> {target} {REST_OF_REQUEST}"))
    };
    let host = |name, meaning, target: &str| {
        rejected(name, meaning, Cause::InvalidHost, format!("<GET> {target} {REST_OF_REQUEST}"))
    };
    vec![
        served(
            "absolute-form",
            "the whole URI of this host",
            format!("<GET> http://<host><path>?<row> {REST_OF_REQUEST}"),
        ),
        host(
            "absolute-other-host",
            "the whole URI of a host that Host does not name",
            "http://other.example<path>?<row>",
        ),
        host("absolute-other-port", "a port that Host does not name", "http://<host>:81<path>?<row>"),
        host("absolute-user", "user information before the host", "http://user@<host><path>?<row>"),
        host(
            "absolute-user-trick",
            "this host as user information of another",
            "http://<host>@other.example<path>?<row>",
        ),
        host("absolute-no-host", "a scheme and no host", "http:///<path>?<row>"),
        line("absolute-ftp", "a scheme that is not HTTP", "ftp://<host><path>?<row>"),
        line("absolute-one-slash", "a scheme and one slash", "http:<path>?<row>"),
        line("scheme-relative-word", "a target that is neither a path nor a URI", "rehearsal?<row>"),
        line("authority-form", "a host and port in the place of a path", "<host>:80"),
        line("asterisk-get", "an asterisk by a method other than OPTIONS", "*"),
        ClientFault {
            steps: vec![
                send(format!("OPTIONS * {REST_OF_REQUEST}")),
                ClientStep::ReadResponse(RequestKind::DEFAULT),
            ],
            connection_outcome: ConnectionOutcome::KeptOpen,
            ..rejected(
                "asterisk-options",
                "OPTIONS for the server as a whole, which is no route",
                Cause::DestinationNotFound,
                "",
            )
        },
    ]
}
