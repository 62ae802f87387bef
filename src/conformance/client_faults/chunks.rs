//! Rows whose heads are clear and whose chunks are not: the second half of request smuggling (RFC 9112 7.1).
//!
//! The request has reached its route when its body breaks, so the answer is the route's, and an upstream has at most half a
//! request.

use crate::contract::Cause;

use super::framing::SMUGGLED_REQUEST;
use super::{
    ClientFault, ClientStep, ConnectionOutcome, ExpectedResponse, RequestKind, UpstreamSaw, row, send, served,
};

/// A chunked request with this body.
fn chunked(body: &str) -> String {
    format!("<post> HTTP/1.1\r\nhost: <host>\r\ntransfer-encoding: chunked\r\n\r\n{body}")
}

fn malformed_chunk(name: &'static str, description: &'static str, body: &str) -> ClientFault {
    let expected = ExpectedResponse::RejectedOnRoute(Cause::MalformedBody);
    row(name, description, chunked(body), expected)
        .ending(ConnectionOutcome::AnnouncedClose)
        .with_upstream_saw(UpstreamSaw::AtMostPartial)
}

/// Size lines and the data after them.
pub(super) fn sizes() -> Vec<ClientFault> {
    let size = |name, description, line: &str| {
        malformed_chunk(name, description, &format!("{line}\r\nabc\r\n0\r\n\r\n{SMUGGLED_REQUEST}"))
    };
    let fine = |name, description, body: &str| served(name, description, chunked(body));
    vec![
        size("chunk-letters", "a size that is no number", "zz"),
        size("chunk-empty-size", "an empty size line", ""),
        size("chunk-minus", "a negative size", "-3"),
        size("chunk-plus", "a size with a plus sign", "+3"),
        size("chunk-prefix", "a size with 0x", "0x3"),
        size("chunk-underscore", "a size with an underscore", "0_3"),
        size("chunk-space-first", "a space before the size", " 3"),
        size("chunk-space-after", "a space after the size", "3 "),
        size("chunk-tab-after", "a tab after the size", "3\t"),
        size("chunk-two-sizes", "two sizes on a line", "3 3"),
        size("chunk-comma", "a comma after the size", "3,"),
        size("chunk-nul", "a zero byte after the size", "3\0"),
        size("chunk-fraction", "a fraction", "3.0"),
        size("chunk-carriage-returns", "CR CR LF after the size", "3\r"),
        size("chunk-unicode-digit", "a digit that is not ASCII", "\u{663}"),
        size("chunk-of-17-digits", "a size of 17 digits", "00000000000000003"),
        size("chunk-wraps-u64", "2^64 + 3 in hexadecimal", "10000000000000003"),
        size("chunk-extension-control", "a control byte in an extension", "3;a=\x07"),
        size("chunk-extension-carriage-return", "a bare CR in an extension", "3;a\rb"),
        size("chunk-extension-long", "an extension of 2,000 bytes", &format!("3;{}", "x".repeat(2000))),
        malformed_chunk(
            "chunk-line-feed",
            "LF alone after the size",
            &format!("3\nabc\r\n0\r\n\r\n{SMUGGLED_REQUEST}"),
        ),
        malformed_chunk(
            "chunk-extension-line-feed",
            "LF alone after an extension",
            &format!("3;a\nabc\r\n0\r\n\r\n{SMUGGLED_REQUEST}"),
        ),
        malformed_chunk(
            "chunk-data-line-feed",
            "LF alone after the data",
            &format!("3\r\nabc\n0\r\n\r\n{SMUGGLED_REQUEST}"),
        ),
        malformed_chunk(
            "chunk-data-carriage-return",
            "CR alone after the data",
            &format!("3\r\nabc\r0\r\n\r\n{SMUGGLED_REQUEST}"),
        ),
        malformed_chunk(
            "chunk-too-long",
            "data longer than its size",
            &format!("3\r\nabcdef\r\n0\r\n\r\n{SMUGGLED_REQUEST}"),
        ),
        malformed_chunk(
            "chunk-too-short",
            "data shorter than its size",
            &format!("5\r\nabc\r\n0\r\n\r\n{SMUGGLED_REQUEST}"),
        ),
        malformed_chunk(
            "chunk-no-line-end",
            "no line end after the data",
            &format!("3\r\nabc0\r\n\r\n{SMUGGLED_REQUEST}"),
        ),
        fine("chunk-capitals", "a size in capitals", "A\r\n0123456789\r\n0\r\n\r\n"),
        fine("chunk-leading-zeros", "zeros before a size", "0003\r\nabc\r\n000\r\n\r\n"),
        fine("chunk-extension", "an extension, which is dropped", "3;a=b;c=\"d\"\r\nabc\r\n0;e\r\n\r\n"),
        fine(
            "chunks-of-one-byte",
            "a thousand chunks of one byte",
            &format!("{}0\r\n\r\n", "1\r\nx\r\n".repeat(1000)),
        ),
    ]
}

/// The last chunk and what follows it.
pub(super) fn ends() -> Vec<ClientFault> {
    let trailer = |name, description, lines: &str| {
        malformed_chunk(name, description, &format!("3\r\nabc\r\n0\r\n{lines}\r\n\r\n{SMUGGLED_REQUEST}"))
    };
    let short = |name, description, body: &str| ClientFault {
        steps: vec![
            send(chunked(body)),
            ClientStep::ShutdownWrite,
            ClientStep::ReadResponse(RequestKind::DEFAULT),
        ],
        ..malformed_chunk(name, description, body)
    };
    let fine = |name, description, lines: &str| {
        served(name, description, chunked(&format!("3\r\nabc\r\n0\r\n{lines}\r\n\r\n")))
    };
    vec![
        trailer("trailer-no-colon", "a trailer without a colon", "x-note"),
        trailer("trailer-space-colon", "a space before a trailer's colon", "x-note : a"),
        trailer("trailer-folded", "a folded trailer", "x-note: a\r\n b"),
        trailer("trailer-line-feed", "LF alone after a trailer", "x-note: a\nx-other: b"),
        trailer("trailer-nul", "a zero byte in a trailer", "x-note: a\0"),
        trailer("trailers-too-long", "20 KiB of trailers", &["x-note: 0123456789abcdef"; 900].join("\r\n")),
        malformed_chunk(
            "request-for-a-trailer",
            "the next request in the place of trailers",
            &format!("0\r\n{SMUGGLED_REQUEST}"),
        ),
        short("no-last-chunk", "the sending side shut down before the last chunk", "3\r\nabc\r\n"),
        short("half-a-chunk", "the sending side shut down inside a chunk", "30\r\nabc"),
        short("half-a-size", "the sending side shut down inside a size", "3\r\nabc\r\n3"),
        short(
            "last-chunk-without-end",
            "the sending side shut down after the last chunk's size",
            "3\r\nabc\r\n0\r\n",
        ),
        fine("trailer", "a trailer, which is dropped", "x-note: a"),
        fine("trailer-with-length", "Content-Length among the trailers", "content-length: 60"),
        fine("trailer-with-host", "Host among the trailers", "host: other.example"),
    ]
}
