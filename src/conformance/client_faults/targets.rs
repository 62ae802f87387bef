//! Client faults in the request target: ambiguous paths, and the forms of a target.
//!
//! An unambiguous path is served and reaches the upstream unchanged.

use crate::contract::Cause;

use super::{
    ClientFault, ClientStep, ConnectionOutcome, ExpectedResponse, RequestKind, UpstreamSaw, rejected, row,
    send, served,
};

const REST_OF_REQUEST: &str = "HTTP/1.1\r\nhost: <host>\r\n\r\n";

/// Paths.
pub(super) fn paths() -> Vec<ClientFault> {
    // Rejected while the headers are parsed, so the connection closes. What a lenient route accepts is rejected after
    // routing.
    let ambiguous = |name, description, suffix: &str| {
        let bytes = format!("<GET> <path>{suffix}?<row> {REST_OF_REQUEST}");
        rejected(name, description, Cause::AmbiguousPath, bytes)
    };
    let dots = |name, description, suffix: &str| {
        ambiguous(name, description, suffix)
            .with_connection_outcome(ConnectionOutcome::KeptOpen)
            .with_routed_request("<GET>", &format!("<path>{suffix}"))
    };
    let illegal = |name, description, suffix: &str| {
        rejected(
            name,
            description,
            Cause::MalformedRequestLine,
            format!("<GET> <path>{suffix} {REST_OF_REQUEST}"),
        )
    };
    let valid = |name, description, suffix: &str| {
        served(name, description, format!("<GET> <path>{suffix}?<row> {REST_OF_REQUEST}"))
            .with_routed_request("<GET>", &format!("<path>{suffix}"))
    };
    vec![
        dots("dot-segment", "a dot segment (.)", "/./b"),
        dots("two-dots", "a dot segment (..)", "/../b"),
        dots("two-dots-at-end", "a dot segment (..) at the end", "/.."),
        dots("encoded-dots", "two encoded dots", "/%2e%2E/b"),
        dots("half-encoded-dots", "one dot encoded, the other not", "/.%2e/b"),
        dots("dots-before-encoded-slash", "two dots and an encoded slash", "/..%2fb"),
        dots("dots-with-parameter", "two dots with a path parameter", "/..;a=b/b"),
        ambiguous("backslash", "a backslash", "\\b"),
        ambiguous("backslash-dots", "two dots between backslashes", "\\..\\b"),
        dots("encoded-backslash", "an encoded backslash", "%5cb"),
        ambiguous("encoded-nul", "an encoded NUL byte", "%00"),
        dots("encoded-line-end", "an encoded CR LF, which could inject a field", "%0d%0aset-cookie:a"),
        dots("encoded-delete", "an encoded DEL byte", "%7f"),
        ambiguous("broken-encoding", "a percent sign without hexadecimal digits", "%zz"),
        ambiguous("half-an-encoding", "a percent sign with one digit at the end", "%2"),
        ambiguous("lone-percent", "a percent sign at the end", "%"),
        ambiguous("unicode-encoding", "a non-standard %u encoding", "%u002e"),
        illegal("fragment", "a fragment in the request target", "#top?<row>"),
        illegal("quotation-mark", "a raw quotation mark in the path", "\"b?<row>"),
        illegal("less-than", "a raw HTML tag in the path", "/<b>?<row>"),
        illegal("space-in-query", "a raw space in the query", "?<row>&a=b c"),
        valid("double-slash", "a double slash", "//b"),
        valid("encoded-slash", "an encoded slash", "/a%2Fb"),
        valid("encoded-letter", "an encoded letter", "/%61b"),
        valid("encoded-percent", "an encoded percent sign before 2e", "/%252e%252e/b"),
        valid("three-dots", "a segment of three dots", "/.../b"),
        valid("raw-utf-8", "raw UTF-8 in the path", "/caf\u{e9}"),
        row(
            "raw-latin-1",
            "a raw byte that is not UTF-8",
            [b"<GET> <path>/caf\xe9?<row> ", REST_OF_REQUEST.as_bytes()].concat(),
            ExpectedResponse::Rejected(Cause::MalformedRequestLine),
        ),
        served(
            "json-in-query",
            "raw braces and quotation marks in the query",
            format!("<get>&filter={{\"a\":[1,2]}} {REST_OF_REQUEST}"),
        ),
        served(
            "raw-punctuation-in-query",
            "raw punctuation in the query",
            format!("<get>&a=<b>|`^\\ {REST_OF_REQUEST}"),
        ),
        row(
            "raw-latin-1-in-query",
            "raw bytes in the query that are not UTF-8",
            [b"<get>&a=caf\xe9\xff\x80 ", REST_OF_REQUEST.as_bytes()].concat(),
            ExpectedResponse::Served,
        )
        .with_upstream_saw(UpstreamSaw::Complete(1)),
        served("dots-in-query", "dot segments in the query", format!("<get>&a=/../b {REST_OF_REQUEST}")),
        served(
            "encoded-nul-in-query",
            "an encoded NUL byte in the query",
            format!("<get>&a=%00 {REST_OF_REQUEST}"),
        ),
    ]
}

/// Absolute, authority and asterisk form.
pub(super) fn forms() -> Vec<ClientFault> {
    let line = |name, description, target: &str| {
        rejected(name, description, Cause::MalformedRequestLine, format!("<GET> {target} {REST_OF_REQUEST}"))
    };
    let host = |name, description, target: &str| {
        rejected(name, description, Cause::InvalidHost, format!("<GET> {target} {REST_OF_REQUEST}"))
    };
    vec![
        served(
            "absolute-form",
            "absolute form with the host of the Host field",
            format!("<GET> http://<host><path>?<row> {REST_OF_REQUEST}"),
        ),
        host(
            "absolute-other-host",
            "absolute form with a host that differs from Host",
            "http://other.example<path>?<row>",
        ),
        host(
            "absolute-other-port",
            "absolute form with a port that differs from Host",
            "http://<host>:81<path>?<row>",
        ),
        served(
            "absolute-default-port",
            "absolute form with the default port, which Host omits",
            format!("<GET> http://<host>:80<path>?<row> {REST_OF_REQUEST}"),
        ),
        host(
            "absolute-port-of-https",
            "absolute form with the default port of another scheme",
            "http://<host>:443<path>?<row>",
        ),
        host("absolute-user", "absolute form with user information", "http://user@<host><path>?<row>"),
        host(
            "absolute-user-trick",
            "absolute form with this host as the user information of another host",
            "http://<host>@other.example<path>?<row>",
        ),
        host("absolute-no-host", "absolute form without a host", "http:///<path>?<row>"),
        line("absolute-ftp", "absolute form with a scheme other than HTTP", "ftp://<host><path>?<row>"),
        line("absolute-one-slash", "a scheme with a single slash", "http:<path>?<row>"),
        line("scheme-relative-word", "a request target that is neither a path nor a URI", "verify?<row>"),
        line("authority-form", "authority form with a method other than CONNECT", "<host>:80"),
        line("asterisk-get", "asterisk form with a method other than OPTIONS", "*"),
        ClientFault {
            steps: vec![
                send(format!("OPTIONS * {REST_OF_REQUEST}")),
                ClientStep::ReadResponse(RequestKind::DEFAULT),
            ],
            connection_outcome: ConnectionOutcome::KeptOpen,
            ..rejected(
                "asterisk-options",
                "OPTIONS in asterisk form, which matches no route",
                Cause::DestinationNotFound,
                "",
            )
        },
    ]
}
