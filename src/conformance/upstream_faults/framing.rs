//! Body framing: Content-Length, Transfer-Encoding and chunks.
//!
//! Ambiguous framing in the headers is replaced by an error. Invalid framing inside the body truncates a response whose
//! headers were sent; bodies that are cut off are in [`super::connection`].

use crate::contract::Cause;

use super::super::script::{Script, UpstreamStep, write_bytes};
use super::{
    FaultOutcome, INTERNAL_HOSTNAME, ReplyReason, UpstreamFault, after_request, fault_row, forwarded_row,
};

/// All rows of this file.
pub(super) fn rows() -> Vec<UpstreamFault> {
    [ambiguous(), unambiguous(), chunks(), surplus_bytes()].concat()
}

fn ambiguous() -> Vec<UpstreamFault> {
    let outcome =
        FaultOutcome::LocalReply { code: 504, reason: ReplyReason::Fault(Cause::HttpProtocolError) };
    let fault =
        |name, description, script: Script| UpstreamFault { script, ..fault_row(name, description, outcome) };
    let with = |name, description, fields: &str| {
        let head = format!("HTTP/1.1 200 OK\r\nx-served-by: {INTERNAL_HOSTNAME}\r\n{fields}\r\n\r\nhello, ");
        fault(name, description, after_request(vec![write_bytes(head), UpstreamStep::Close]))
    };
    let chunked = |name, description, line: &str, fields: &str| {
        let head =
            format!("{line}\r\nx-served-by: {INTERNAL_HOSTNAME}\r\n{fields}\r\n\r\n5\r\nhello\r\n0\r\n\r\n");
        fault(name, description, after_request(vec![write_bytes(head), UpstreamStep::Close]))
    };
    let http = "HTTP/1.1 200 OK";
    vec![
        with(
            "two-lengths",
            "sends two different Content-Length fields",
            "content-length: 5\r\ncontent-length: 7",
        ),
        with(
            "length-list",
            "sends two different lengths in one Content-Length field",
            "content-length: 5, 7",
        ),
        with("signed-length", "sends a Content-Length with a plus sign", "content-length: +5"),
        with("negative-length", "sends a negative Content-Length", "content-length: -5"),
        with("hexadecimal-length", "sends a hexadecimal Content-Length", "content-length: 0x5"),
        with("fractional-length", "sends a fractional Content-Length", "content-length: 5.0"),
        with("lettered-length", "sends a Content-Length spelled as a word", "content-length: five"),
        with("empty-length", "sends an empty Content-Length", "content-length:"),
        with("split-length", "sends a Content-Length with a space between digits", "content-length: 1 0"),
        with("huge-length", "sends a Content-Length above 64 bits", "content-length: 18446744073709551616"),
        with(
            "huge-signed-length",
            "sends a Content-Length above 63 bits",
            "content-length: 9223372036854775808",
        ),
        chunked(
            "length-and-chunks",
            "sends Content-Length before Transfer-Encoding: chunked",
            http,
            "content-length: 5\r\ntransfer-encoding: chunked",
        ),
        chunked(
            "chunks-and-length",
            "sends Content-Length after Transfer-Encoding: chunked",
            http,
            "transfer-encoding: chunked\r\ncontent-length: 15",
        ),
        chunked("unknown-transfer", "sends an unknown transfer coding", http, "transfer-encoding: shrunk"),
        chunked(
            "gzip-transfer",
            "sends Transfer-Encoding: gzip, chunked",
            http,
            "transfer-encoding: gzip, chunked",
        ),
        chunked(
            "chunked-not-last",
            "sends Transfer-Encoding: chunked, gzip",
            http,
            "transfer-encoding: chunked, gzip",
        ),
        chunked(
            "identity-transfer",
            "sends Transfer-Encoding: identity",
            http,
            "transfer-encoding: identity",
        ),
        chunked(
            "repeated-transfer",
            "sends two Transfer-Encoding fields",
            http,
            "transfer-encoding: chunked\r\ntransfer-encoding: chunked",
        ),
        chunked(
            "doubled-transfer",
            "sends Transfer-Encoding: chunked, chunked",
            http,
            "transfer-encoding: chunked, chunked",
        ),
        chunked("quoted-transfer", "sends a quoted transfer coding", http, "transfer-encoding: \"chunked\""),
        chunked(
            "padded-transfer",
            "sends a control character before the transfer coding",
            http,
            "transfer-encoding: \x0bchunked",
        ),
        chunked("empty-transfer", "sends an empty Transfer-Encoding", http, "transfer-encoding:"),
        chunked(
            "chunks-in-1.0",
            "sends a chunked body in an HTTP/1.0 response",
            "HTTP/1.0 200 OK",
            "transfer-encoding: chunked",
        ),
    ]
}

fn unambiguous() -> Vec<UpstreamFault> {
    let ok = |name, description, fields: &str, bytes: &str| {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n{fields}\r\n\r\n{bytes}");
        forwarded_row(name, description, 200, "hello", vec![write_bytes(head)])
    };
    let chunks = "transfer-encoding: chunked";
    vec![
        ok(
            "same-length-twice",
            "sends the same Content-Length in two fields",
            "content-length: 5\r\ncontent-length: 5",
            "hello",
        ),
        ok(
            "same-length-list",
            "sends the same length twice in one Content-Length field",
            "content-length: 5, 5",
            "hello",
        ),
        ok("leading-zeros", "sends a Content-Length with leading zeros", "content-length: 00005", "hello"),
        ok(
            "upper-case-chunked",
            "sends Transfer-Encoding: CHUNKED in upper case",
            "Transfer-Encoding: CHUNKED",
            "5\r\nhello\r\n0\r\n\r\n",
        ),
        ok("chunk-extension", "sends a chunk extension", chunks, "5;name=value\r\nhello\r\n0\r\n\r\n"),
        ok("padded-chunk-size", "sends spaces after a chunk size", chunks, "5   \r\nhello\r\n0\r\n\r\n"),
        ok("trailers", "sends trailers", chunks, "5\r\nhello\r\n0\r\nx-sum: 7\r\n\r\n"),
        ok(
            "single-byte-chunks",
            "sends chunks of one byte",
            chunks,
            "1\r\nh\r\n1\r\ne\r\n1\r\nl\r\n1\r\nl\r\n1\r\no\r\n0\r\n\r\n",
        ),
        forwarded_row(
            "ended-by-close",
            "ends the body by closing the connection",
            200,
            "hello",
            vec![write_bytes("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nhello"), UpstreamStep::Close],
        ),
        forwarded_row(
            "http-1.0",
            "sends an HTTP/1.0 response and closes",
            200,
            "hello",
            vec![write_bytes("HTTP/1.0 200 OK\r\n\r\nhello"), UpstreamStep::Close],
        ),
    ]
}

/// The first chunk is valid; it and the headers may have been sent when the framing fails.
fn chunks() -> Vec<UpstreamFault> {
    let outcome = FaultOutcome::Aborted { code: 200, cause: Cause::HttpProtocolError };
    let then = |name, description, rest: &str| {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n";
        UpstreamFault {
            script: after_request(vec![
                write_bytes(format!("{head}9\r\nfirst and\r\n{rest}")),
                UpstreamStep::Close,
            ]),
            body: "first andhello".into(),
            ..fault_row(name, description, outcome)
        }
    };
    vec![
        then("bad-chunk-size", "sends a chunk size that is not a number", "zz\r\nhello\r\n0\r\n\r\n"),
        then("negative-chunk-size", "sends a negative chunk size", "-5\r\nhello\r\n0\r\n\r\n"),
        then("prefixed-chunk-size", "sends a chunk size with the prefix 0x", "0x5\r\nhello\r\n0\r\n\r\n"),
        then("empty-chunk-size", "sends an empty chunk size", "\r\nhello\r\n0\r\n\r\n"),
        then(
            "huge-chunk-size",
            "sends a chunk size above 64 bits",
            "10000000000000005\r\nhello\r\n0\r\n\r\n",
        ),
        then("long-chunk", "sends a chunk longer than its size", "5\r\nhello, world\r\n0\r\n\r\n"),
        then("bare-lf-in-chunks", "ends a chunk size line with a bare LF", "5\nhello\r\n0\r\n\r\n"),
        then(
            "huge-extension",
            "sends a chunk extension of 100 KB",
            &format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(100_000)),
        ),
        then("bad-trailer", "sends a malformed trailer", "0\r\nnot a field\r\n\r\n"),
        then(
            "huge-trailers",
            "sends 100 KB of trailers",
            &format!("0\r\nx-sum: {}\r\n\r\n", "7".repeat(100_000)),
        ),
    ]
}

/// Bytes after the end of the response, which must never be used as the response to another request.
fn surplus_bytes() -> Vec<UpstreamFault> {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n";
    let forged =
        format!("HTTP/1.1 200 OK\r\nx-served-by: {INTERNAL_HOSTNAME}\r\ncontent-length: 6\r\n\r\nforged");
    let twice = |row: UpstreamFault| {
        let request = super::FaultRequest { count: 2, ..row.request.clone() };
        UpstreamFault { request, ..row }
    };
    vec![
        forwarded_row(
            "long-body",
            "sends more bytes than Content-Length",
            200,
            "hello",
            vec![write_bytes(format!("{head}content-length: 5\r\n\r\nhello, {INTERNAL_HOSTNAME}"))],
        ),
        twice(forwarded_row(
            "second-response",
            "sends a second response right after the first",
            200,
            "hello",
            vec![write_bytes(format!("{head}content-length: 5\r\n\r\nhello{forged}"))],
        )),
        twice(forwarded_row(
            "second-response-after-chunks",
            "sends a second response after the last chunk",
            200,
            "hello",
            vec![write_bytes(format!(
                "{head}transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n{forged}"
            ))],
        )),
    ]
}
