//! Rows of the table about where a body ends: lengths, codings of transfer, chunks.
//!
//! A head that is not clear about it is no response. A body that breaks its own framing after the head has left is cut
//! where the client sees it; plain cuts are in [`super::connection`].

use crate::contract::Cause;

use super::super::script::{Script, UpstreamStep, write_bytes};
use super::{
    FaultOutcome, INTERNAL_HOSTNAME, ReplyReason, UpstreamFault, after_request, fault_row, forwarded_row,
};

/// All of them.
pub(super) fn rows() -> Vec<UpstreamFault> {
    [ambiguous(), unambiguous(), chunks(), surplus_bytes()].concat()
}

fn ambiguous() -> Vec<UpstreamFault> {
    let outcome =
        FaultOutcome::LocalReply { code: 504, reason: ReplyReason::Fault(Cause::HttpProtocolError) };
    let fault = |name, meaning, script: Script| UpstreamFault { script, ..fault_row(name, meaning, outcome) };
    let with = |name, meaning, fields: &str| {
        let head = format!("HTTP/1.1 200 OK\r\nx-served-by: {INTERNAL_HOSTNAME}\r\n{fields}\r\n\r\nhello, ");
        fault(name, meaning, after_request(vec![write_bytes(head), UpstreamStep::Close]))
    };
    let chunked = |name, meaning, line: &str, fields: &str| {
        let head =
            format!("{line}\r\nx-served-by: {INTERNAL_HOSTNAME}\r\n{fields}\r\n\r\n5\r\nhello\r\n0\r\n\r\n");
        fault(name, meaning, after_request(vec![write_bytes(head), UpstreamStep::Close]))
    };
    let http = "HTTP/1.1 200 OK";
    vec![
        with("two-lengths", "gives two different Content-Lengths", "content-length: 5\r\ncontent-length: 7"),
        with("length-list", "gives two different lengths in one field", "content-length: 5, 7"),
        with("signed-length", "gives a length with a sign", "content-length: +5"),
        with("negative-length", "gives a negative length", "content-length: -5"),
        with("hexadecimal-length", "gives a length in hexadecimal", "content-length: 0x5"),
        with("fractional-length", "gives a length with a fraction", "content-length: 5.0"),
        with("lettered-length", "gives a length in words", "content-length: five"),
        with("empty-length", "gives an empty Content-Length", "content-length:"),
        with("split-length", "gives a length with a blank in it", "content-length: 1 0"),
        with("huge-length", "gives a length beyond 64 bits", "content-length: 18446744073709551616"),
        with("huge-signed-length", "gives a length beyond 63 bits", "content-length: 9223372036854775808"),
        chunked(
            "length-and-chunks",
            "gives a length and sends chunks",
            http,
            "content-length: 5\r\ntransfer-encoding: chunked",
        ),
        chunked(
            "chunks-and-length",
            "sends chunks and gives a length",
            http,
            "transfer-encoding: chunked\r\ncontent-length: 15",
        ),
        chunked("unknown-transfer", "uses an unknown Transfer-Encoding", http, "transfer-encoding: shrunk"),
        chunked("gzip-transfer", "compresses its transfer", http, "transfer-encoding: gzip, chunked"),
        chunked("chunked-not-last", "has chunked not last", http, "transfer-encoding: chunked, gzip"),
        chunked("identity-transfer", "says Transfer-Encoding: identity", http, "transfer-encoding: identity"),
        chunked(
            "repeated-transfer",
            "has two Transfer-Encodings",
            http,
            "transfer-encoding: chunked\r\ntransfer-encoding: chunked",
        ),
        chunked("doubled-transfer", "says chunked twice", http, "transfer-encoding: chunked, chunked"),
        chunked("quoted-transfer", "quotes its Transfer-Encoding", http, "transfer-encoding: \"chunked\""),
        chunked(
            "padded-transfer",
            "hides its coding behind a control byte",
            http,
            "transfer-encoding: \x0bchunked",
        ),
        chunked("empty-transfer", "has an empty Transfer-Encoding", http, "transfer-encoding:"),
        chunked("chunks-in-1.0", "sends chunks in HTTP/1.0", "HTTP/1.0 200 OK", "transfer-encoding: chunked"),
    ]
}

fn unambiguous() -> Vec<UpstreamFault> {
    let ok = |name, meaning, fields: &str, bytes: &str| {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n{fields}\r\n\r\n{bytes}");
        forwarded_row(name, meaning, 200, "hello", vec![write_bytes(head)])
    };
    let chunks = "transfer-encoding: chunked";
    vec![
        ok(
            "same-length-twice",
            "gives the same length twice",
            "content-length: 5\r\ncontent-length: 5",
            "hello",
        ),
        ok("same-length-list", "gives the same length twice in one field", "content-length: 5, 5", "hello"),
        ok("leading-zeros", "gives a length with leading zeros", "content-length: 00005", "hello"),
        ok(
            "upper-case-chunked",
            "spells chunked in capitals",
            "Transfer-Encoding: CHUNKED",
            "5\r\nhello\r\n0\r\n\r\n",
        ),
        ok("chunk-extension", "puts an extension on a chunk", chunks, "5;name=value\r\nhello\r\n0\r\n\r\n"),
        ok("padded-chunk-size", "pads a chunk size with blanks", chunks, "5   \r\nhello\r\n0\r\n\r\n"),
        ok("trailers", "sends trailers", chunks, "5\r\nhello\r\n0\r\nx-sum: 7\r\n\r\n"),
        ok(
            "single-byte-chunks",
            "sends chunks of one byte",
            chunks,
            "1\r\nh\r\n1\r\ne\r\n1\r\nl\r\n1\r\nl\r\n1\r\no\r\n0\r\n\r\n",
        ),
        forwarded_row(
            "ended-by-close",
            "ends its body by closing",
            200,
            "hello",
            vec![write_bytes("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nhello"), UpstreamStep::Close],
        ),
        forwarded_row(
            "http-1.0",
            "answers HTTP/1.0 and closes",
            200,
            "hello",
            vec![write_bytes("HTTP/1.0 200 OK\r\n\r\nhello"), UpstreamStep::Close],
        ),
    ]
}

/// The first chunk is good; the head and it may have left when the framing breaks.
fn chunks() -> Vec<UpstreamFault> {
    let outcome = FaultOutcome::Aborted { code: 200, cause: Cause::HttpProtocolError };
    let then = |name, meaning, rest: &str| {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n";
        UpstreamFault {
            script: after_request(vec![
                write_bytes(format!("{head}9\r\nfirst and\r\n{rest}")),
                UpstreamStep::Close,
            ]),
            body: "first andhello".into(),
            ..fault_row(name, meaning, outcome)
        }
    };
    vec![
        then("bad-chunk-size", "has a chunk size that is no number", "zz\r\nhello\r\n0\r\n\r\n"),
        then("negative-chunk-size", "has a negative chunk size", "-5\r\nhello\r\n0\r\n\r\n"),
        then("prefixed-chunk-size", "has a chunk size with 0x", "0x5\r\nhello\r\n0\r\n\r\n"),
        then("empty-chunk-size", "has a line without a chunk size", "\r\nhello\r\n0\r\n\r\n"),
        then("huge-chunk-size", "has a chunk size beyond 64 bits", "10000000000000005\r\nhello\r\n0\r\n\r\n"),
        then("long-chunk", "has a chunk longer than its size", "5\r\nhello, world\r\n0\r\n\r\n"),
        then("bare-lf-in-chunks", "ends a chunk size with LF alone", "5\nhello\r\n0\r\n\r\n"),
        then(
            "huge-extension",
            "has a chunk extension of 100 KB",
            &format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(100_000)),
        ),
        then("bad-trailer", "has a trailer that is no field", "0\r\nnot a field\r\n\r\n"),
        then(
            "huge-trailers",
            "has trailers of 100 KB",
            &format!("0\r\nx-sum: {}\r\n\r\n", "7".repeat(100_000)),
        ),
    ]
}

/// More bytes than the message has: they are nobody's answer.
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
            "sends more than its Content-Length",
            200,
            "hello",
            vec![write_bytes(format!("{head}content-length: 5\r\n\r\nhello, {INTERNAL_HOSTNAME}"))],
        ),
        twice(forwarded_row(
            "second-response",
            "sends a second response behind the first",
            200,
            "hello",
            vec![write_bytes(format!("{head}content-length: 5\r\n\r\nhello{forged}"))],
        )),
        twice(forwarded_row(
            "second-response-after-chunks",
            "sends a second response behind the last chunk",
            200,
            "hello",
            vec![write_bytes(format!(
                "{head}transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n{forged}"
            ))],
        )),
    ]
}
