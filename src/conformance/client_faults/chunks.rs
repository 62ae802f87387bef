//! Client faults in chunked bodies, including request smuggling (RFC 9112, section 7.1).
//!
//! The request has matched its route when its body fails, so the route's error rules apply, and the upstream has
//! received at most part of the request.

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
        .with_connection_outcome(ConnectionOutcome::AnnouncedClose)
        .with_upstream_saw(UpstreamSaw::AtMostPartial)
}

/// Chunk size lines and chunk data.
pub(super) fn sizes() -> Vec<ClientFault> {
    let size = |name, description, line: &str| {
        malformed_chunk(name, description, &format!("{line}\r\nabc\r\n0\r\n\r\n{SMUGGLED_REQUEST}"))
    };
    let valid = |name, description, body: &str| served(name, description, chunked(body));
    vec![
        size("chunk-letters", "a chunk size that is not a number", "zz"),
        size("chunk-empty-size", "an empty chunk size", ""),
        size("chunk-minus", "a negative chunk size", "-3"),
        size("chunk-plus", "a chunk size with a plus sign", "+3"),
        size("chunk-prefix", "a chunk size with the prefix 0x", "0x3"),
        size("chunk-underscore", "a chunk size with an underscore", "0_3"),
        size("chunk-space-first", "a space before the chunk size", " 3"),
        size("chunk-space-after", "a space after the chunk size", "3 "),
        size("chunk-tab-after", "a tab after the chunk size", "3\t"),
        size("chunk-two-sizes", "two chunk sizes on a line", "3 3"),
        size("chunk-comma", "a comma after the chunk size", "3,"),
        size("chunk-nul", "a NUL byte after the chunk size", "3\0"),
        size("chunk-fraction", "a fractional chunk size", "3.0"),
        size("chunk-carriage-returns", "CR CR LF after the chunk size", "3\r"),
        size("chunk-unicode-digit", "a non-ASCII digit in a chunk size", "\u{663}"),
        size("chunk-of-16-digits", "a chunk size of 16 digits", "1000000000000003"),
        size("chunk-zeros-and-prefix", "a chunk size with the prefix 0x after zeros", "000x3"),
        size("chunk-space-and-digit", "a space inside a chunk size", "0 3;a=b"),
        size("chunk-vertical-tab", "a vertical tab before a chunk extension", "3\x0b;a=b"),
        size("chunk-wraps-u64", "a chunk size of 2^64 + 3", "10000000000000003"),
        size("chunk-extension-control", "a control character in a chunk extension", "3;a=\x07"),
        size("chunk-extension-carriage-return", "a bare CR in a chunk extension", "3;a\rb"),
        size("chunk-extension-long", "a chunk extension of 2,000 bytes", &format!("3;{}", "x".repeat(2000))),
        malformed_chunk(
            "chunk-line-feed",
            "a bare LF after the chunk size",
            &format!("3\nabc\r\n0\r\n\r\n{SMUGGLED_REQUEST}"),
        ),
        malformed_chunk(
            "chunk-extension-line-feed",
            "a bare LF after a chunk extension",
            &format!("3;a\nabc\r\n0\r\n\r\n{SMUGGLED_REQUEST}"),
        ),
        malformed_chunk(
            "chunk-data-line-feed",
            "a bare LF after the chunk data",
            &format!("3\r\nabc\n0\r\n\r\n{SMUGGLED_REQUEST}"),
        ),
        malformed_chunk(
            "chunk-data-carriage-return",
            "a bare CR after the chunk data",
            &format!("3\r\nabc\r0\r\n\r\n{SMUGGLED_REQUEST}"),
        ),
        malformed_chunk(
            "chunk-too-long",
            "chunk data longer than the chunk size",
            &format!("3\r\nabcdef\r\n0\r\n\r\n{SMUGGLED_REQUEST}"),
        ),
        malformed_chunk(
            "chunk-too-short",
            "chunk data shorter than the chunk size",
            &format!("5\r\nabc\r\n0\r\n\r\n{SMUGGLED_REQUEST}"),
        ),
        malformed_chunk(
            "chunk-no-line-end",
            "no line end after the chunk data",
            &format!("3\r\nabc0\r\n\r\n{SMUGGLED_REQUEST}"),
        ),
        valid("chunk-capitals", "a chunk size in upper case", "A\r\n0123456789\r\n0\r\n\r\n"),
        valid("chunk-leading-zeros", "a chunk size with leading zeros", "0003\r\nabc\r\n000\r\n\r\n"),
        valid(
            "chunk-of-17-digits",
            "a chunk size of 17 digits, 16 of them zeros",
            "00000000000000003\r\nabc\r\n00000000000000000\r\n\r\n",
        ),
        valid(
            "chunk-many-zeros",
            "a chunk size with 900 leading zeros",
            &format!("{}3\r\nabc\r\n0\r\n\r\n", "0".repeat(900)),
        ),
        valid(
            "chunk-extension-spaces",
            "white space around the parts of a chunk extension",
            "3 ; a = b\t;\tc = \"d ; e\"\r\nabc\r\n0\t;e\r\n\r\n",
        ),
        valid(
            "chunk-extension",
            "a chunk extension, which is removed",
            "3;a=b;c=\"d\"\r\nabc\r\n0;e\r\n\r\n",
        ),
        valid(
            "chunks-of-one-byte",
            "1,000 chunks of one byte",
            &format!("{}0\r\n\r\n", "1\r\nx\r\n".repeat(1000)),
        ),
    ]
}

/// The last chunk and the trailers.
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
    let valid = |name, description, lines: &str| {
        served(name, description, chunked(&format!("3\r\nabc\r\n0\r\n{lines}\r\n\r\n")))
    };
    vec![
        trailer("trailer-no-colon", "a trailer without a colon", "x-note"),
        trailer("trailer-space-colon", "a space before the colon of a trailer", "x-note : a"),
        trailer("trailer-folded", "a folded trailer", "x-note: a\r\n b"),
        trailer("trailer-line-feed", "a bare LF after a trailer", "x-note: a\nx-other: b"),
        trailer("trailer-nul", "a NUL byte in a trailer", "x-note: a\0"),
        trailer("trailers-too-long", "20 KiB of trailers", &["x-note: 0123456789abcdef"; 900].join("\r\n")),
        malformed_chunk(
            "request-for-a-trailer",
            "the next request where trailers are expected",
            &format!("0\r\n{SMUGGLED_REQUEST}"),
        ),
        short("no-last-chunk", "a half-close before the last chunk", "3\r\nabc\r\n"),
        short("half-a-chunk", "a half-close inside a chunk", "30\r\nabc"),
        short("half-a-size", "a half-close inside a chunk size", "3\r\nabc\r\n3"),
        short("last-chunk-without-end", "a half-close after the size of the last chunk", "3\r\nabc\r\n0\r\n"),
        valid("trailer", "a trailer, which is removed", "x-note: a"),
        valid("trailer-with-length", "Content-Length in the trailers", "content-length: 60"),
        valid("trailer-with-host", "Host in the trailers", "host: other.example"),
    ]
}
