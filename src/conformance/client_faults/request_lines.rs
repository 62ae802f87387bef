//! Client faults in the request line: other protocols, syntax, versions and methods.
//!
//! Faults of the request target are in [`super::targets`].

use crate::contract::Cause;

use super::{
    ClientFault, ClientStep, ConnectionOutcome, ExpectedResponse, RequestKind, rejected, send, served,
    steps_row,
};

const MALFORMED_LINE: Cause = Cause::MalformedRequestLine;

/// Clients that send another protocol.
pub(super) fn other_protocols() -> Vec<ClientFault> {
    let tls: &[u8] = b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03 0123456789abcdef0123456789abcdef";
    let other = |name, description, bytes: &'static [u8]| rejected(name, description, MALFORMED_LINE, bytes);
    let mut rows = vec![
        other("tls-hello", "sends a TLS ClientHello on a plain port", tls),
        rejected(
            "http2-preface",
            "sends the HTTP/2 preface on an HTTP/1 port",
            Cause::UnsupportedVersion,
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
        ),
        other("ssh-banner", "sends an SSH banner", b"SSH-2.0-OpenSSH_9.2p1\r\n"),
        other("smtp", "sends an SMTP EHLO", b"EHLO mail.example.com\r\n\r\n"),
        other("redis", "sends a Redis PING", b"*1\r\n$4\r\nPING\r\n"),
        other(
            "proxy-protocol-1",
            "sends an unexpected PROXY protocol version 1 header",
            b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n\r\n",
        ),
        other(
            "proxy-protocol-2",
            "sends an unexpected PROXY protocol version 2 header",
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c",
        ),
        other("zeros", "sends zero bytes", &[0; 64]),
        other(
            "json-first",
            "sends JSON without a header section",
            b"{\"jsonrpc\":\"2.0\",\"method\":\"ping\"}\r\n\r\n",
        ),
    ];
    rows.extend(
        RANDOM_NAMES
            .iter()
            .zip(1_u64..)
            .map(|(name, seed)| rejected(name, "sends random bytes", MALFORMED_LINE, random_bytes(seed))),
    );
    rows
}

const RANDOM_NAMES: [&str; 8] =
    ["noise-1", "noise-2", "noise-3", "noise-4", "noise-5", "noise-6", "noise-7", "noise-8"];

/// 96 pseudo-random bytes for this seed, then a blank line, so that the gateway does not wait for more. One byte is
/// always invalid in a request line.
fn random_bytes(seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        // xorshift64 (Marsaglia).
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let mut bytes: Vec<u8> = (0..12).flat_map(|_| next()).collect();
    bytes.insert(usize::try_from(seed).unwrap_or_default() * 2, 0x80);
    bytes.extend_from_slice(b"\r\n\r\n");
    bytes
}

/// Malformed request lines: not `method SP request-target SP HTTP-version CRLF` (RFC 9112, section 3).
pub(super) fn request_lines() -> Vec<ClientFault> {
    let line = |name, description, bytes: &'static str| rejected(name, description, MALFORMED_LINE, bytes);
    vec![
        line(
            "two-spaces",
            "two spaces before the request target",
            "<GET>  <path>?<row> HTTP/1.1\r\nhost: <host>\r\n\r\n",
        ),
        line("two-spaces-later", "two spaces before the version", "<get>  HTTP/1.1\r\nhost: <host>\r\n\r\n"),
        line("space-at-end", "a space after the version", "<get> HTTP/1.1 \r\nhost: <host>\r\n\r\n"),
        line("space-first", "a space before the method", " <get> HTTP/1.1\r\nhost: <host>\r\n\r\n"),
        line(
            "tab-for-space",
            "tabs instead of spaces",
            "<GET>\t<path>?<row>\tHTTP/1.1\r\nhost: <host>\r\n\r\n",
        ),
        line("no-version", "no version, as in HTTP/0.9", "<get>\r\nhost: <host>\r\n\r\n"),
        line("no-target", "no request target", "<GET> HTTP/1.1\r\nhost: <host>\r\n\r\n"),
        line("method-alone", "a method and nothing else", "<GET>\r\n\r\n"),
        line(
            "four-words",
            "a fourth word in the request line",
            "<get> extra HTTP/1.1\r\nhost: <host>\r\n\r\n",
        ),
        line("line-feed-only", "a request line that ends with a bare LF", "<get> HTTP/1.1\nhost: <host>\n\n"),
        line(
            "carriage-return-only",
            "a request line that ends with a bare CR",
            "<get> HTTP/1.1\rhost: <host>\r\r",
        ),
        line(
            "two-carriage-returns",
            "a request line that ends with CR CR LF",
            "<get> HTTP/1.1\r\r\nhost: <host>\r\n\r\n",
        ),
        line(
            "nul-in-line",
            "a NUL byte in the request target",
            "<GET> <path>\0?<row> HTTP/1.1\r\nhost: <host>\r\n\r\n",
        ),
        line(
            "delete-in-line",
            "a DEL byte in the request target",
            "<GET> <path>\x7f?<row> HTTP/1.1\r\nhost: <host>\r\n\r\n",
        ),
        line(
            "form-feed-in-line",
            "a form feed before the version",
            "<get>\x0cHTTP/1.1\r\nhost: <host>\r\n\r\n",
        ),
        line(
            "space-after-empty-line",
            "a space after an empty line before the request",
            "\r\n <get> HTTP/1.1\r\nhost: <host>\r\n\r\n",
        ),
        served(
            "two-empty-lines-first",
            "two empty lines before the request",
            "\r\n\r\n<get> HTTP/1.1\r\nhost: <host>\r\n\r\n",
        ),
        served("line-feed-first", "a bare LF before the request", "\n<get> HTTP/1.1\r\nhost: <host>\r\n\r\n"),
        served(
            "empty-lines-of-all-kinds",
            "a run of CR and LF before the request",
            "\n\r\r\n\r\n\n<get> HTTP/1.1\r\nhost: <host>\r\n\r\n",
        ),
        served(
            "empty-line-first",
            "one empty line before the request, as old clients send",
            "\r\n<get> HTTP/1.1\r\nhost: <host>\r\n\r\n",
        ),
        steps_row(
            "head-in-single-bytes",
            "a valid request, one byte per packet",
            "<get> HTTP/1.1\r\nhost: <host>\r\n\r\n"
                .split_inclusive(['>', ' ', '\r', '\n'])
                .map(send)
                .chain([ClientStep::ReadResponse(RequestKind::DEFAULT)])
                .collect(),
            vec![ExpectedResponse::Served],
            ConnectionOutcome::KeptOpen,
            super::UpstreamSaw::Complete(1),
        ),
    ]
}

/// Unsupported versions.
pub(super) fn versions() -> Vec<ClientFault> {
    let version = |name, description, word: &str| {
        let cause = Cause::UnsupportedVersion;
        rejected(name, description, cause, format!("<get> {word}\r\nhost: <host>\r\n\r\n"))
    };
    let no_version = |name, description, word: &str| {
        rejected(name, description, MALFORMED_LINE, format!("<get> {word}\r\nhost: <host>\r\n\r\n"))
    };
    vec![
        version("version-0.9", "the version HTTP/0.9", "HTTP/0.9"),
        version("version-2.1", "the version HTTP/2.1", "HTTP/2.1"),
        served(
            "version-1.2",
            "the version HTTP/1.2, which is read as HTTP/1.1",
            "<get> HTTP/1.2\r\nhost: <host>\r\n\r\n",
        ),
        served(
            "version-1.9",
            "the version HTTP/1.9 and a chunked body",
            "<post> HTTP/1.9\r\nhost: <host>\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        ),
        version("version-2.0", "the version HTTP/2.0", "HTTP/2.0"),
        version("version-3", "the version HTTP/3", "HTTP/3"),
        version("version-in-lower-case", "the version http/1.1", "http/1.1"),
        no_version("version-1.10", "the version HTTP/1.10", "HTTP/1.10"),
        no_version("version-without-slash", "the version HTTP1.1", "HTTP1.1"),
        no_version("version-of-letters", "the version HTTP/x.y", "HTTP/x.y"),
        no_version("version-of-another", "the version RTSP/1.0", "RTSP/1.0"),
        no_version("version-with-plus", "the version HTTP/+1.1", "HTTP/+1.1"),
        no_version("version-with-comma", "the version HTTP/1,1", "HTTP/1,1"),
    ]
}

/// Rejected, malformed and unregistered methods.
pub(super) fn methods() -> Vec<ClientFault> {
    let unsupported = |name, description, bytes: &str| {
        rejected(name, description, Cause::UnsupportedMethod, bytes.to_owned())
    };
    let tail = "HTTP/1.1\r\nhost: <host>\r\n\r\n";
    vec![
        unsupported(
            "connect",
            "CONNECT to another host",
            "CONNECT example.com:443 HTTP/1.1\r\nhost: example.com:443\r\n\r\n",
        ),
        unsupported("connect-origin-form", "CONNECT with a path", &format!("CONNECT <path>?<row> {tail}")),
        unsupported("trace", "TRACE", &format!("TRACE <path>?<row> {tail}")),
        unsupported(
            "trace-in-lower-case",
            "the method trace, which some servers treat as TRACE",
            &format!("trace <path>?<row> {tail}"),
        ),
        unsupported(
            "long-method",
            "a method of 40 characters",
            &format!("{} <path>?<row> {tail}", "M".repeat(40)),
        ),
        rejected(
            "method-no-token",
            "a method with invalid characters",
            MALFORMED_LINE,
            format!("G@T <path>?<row> {tail}"),
        ),
        rejected(
            "method-in-quotes",
            "a method in quotes",
            MALFORMED_LINE,
            format!("\"GET\" <path>?<row> {tail}"),
        ),
        served("unknown-method", "an unregistered method", format!("BREW <path>?<row> {tail}"))
            .with_routed_request("BREW", "<path>"),
        served(
            "method-in-lower-case",
            "the method get, which is not GET",
            format!("get <path>?<row> {tail}"),
        )
        .with_routed_request("get", "<path>"),
    ]
}
