//! Rows of the table about coded error bodies: each coding, bombs, lies, and more than one.
//!
//! What is in them is decoded within bounds and judged like any body of [`super::error_bodies`].

use std::io::Write;

use brotli::CompressorWriter;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};

use super::super::script::{UpstreamStep, http_response};
use super::{FaultOutcome, FaultRequest, INTERNAL_HOSTNAME, UpstreamFault, replaced_row};

const MESSAGE: &str = "This page is in the archive.";
const PLAIN: &str = r#"{"message":"Order 7 does not exist.","code":404}"#;

/// All of them.
pub(super) fn rows() -> Vec<UpstreamFault> {
    [kept_messages(), conforming(), undecodable(), decompression_bombs()].concat()
}

fn coded_row(
    name: &'static str,
    description: &'static str,
    status: u16,
    coding: &str,
    body: Vec<u8>,
) -> UpstreamFault {
    let head = format!(
        "{status} {INTERNAL_HOSTNAME}\ncontent-type: application/json\ncontent-encoding: {coding}\nx-served-by: {INTERNAL_HOSTNAME}"
    );
    replaced_row(name, description, status, status, vec![UpstreamStep::Write(http_response(&head, body))])
}

fn kept_messages() -> Vec<UpstreamFault> {
    let body = format!(r#"{{"detail":"{MESSAGE}","host":"{INTERNAL_HOSTNAME}"}}"#);
    let body = body.as_bytes();
    let row = |name, description, coding: &str, body| {
        coded_row(name, description, 404, coding, body).with_upstream_message(MESSAGE)
    };
    vec![
        row("gzip-error", "a compressed error of another shape", "gzip", gzip(body)),
        row("x-gzip-error", "the same under the old name of gzip", "x-gzip", gzip(body)),
        row("br-error", "an error in brotli", "br", brotli(body)),
        row("zstd-error", "an error in zstd", "zstd", zstd(body)),
        row("deflate-error", "an error in deflate", "deflate", zlib(body)),
        row("raw-deflate-error", "an error in deflate without its zlib frame", "deflate", deflate(body)),
        row("identity-coding", "an error in the coding identity", "identity", body.to_vec()),
    ]
}

fn conforming() -> Vec<UpstreamFault> {
    let row = |name, description, coding: &'static str, body: Vec<u8>| {
        let (sent, steps) = (Bytes::from(body.clone()), body);
        let head = format!("404 No\ncontent-type: application/json\ncontent-encoding: {coding}");
        UpstreamFault {
            outcome: FaultOutcome::Forwarded { code: 404 },
            body: sent,
            ..replaced_row(
                name,
                description,
                404,
                404,
                vec![UpstreamStep::Write(http_response(&head, steps))],
            )
        }
    };
    let accepting = |fields, row: UpstreamFault| UpstreamFault {
        request: FaultRequest { header_lines: fields, ..FaultRequest::single("GET") },
        ..row
    };
    let decoded = |row: UpstreamFault| UpstreamFault {
        body: PLAIN.into(),
        removed_headers: &["content-encoding"],
        ..row
    };
    let body = PLAIN.as_bytes();
    vec![
        decoded(row(
            "conforming-gzip",
            "a documented error in gzip that the client does not take",
            "gzip",
            gzip(body),
        )),
        decoded(row(
            "conforming-br",
            "a documented error in brotli that the client does not take",
            "br",
            brotli(body),
        )),
        decoded(row(
            "conforming-zstd",
            "a documented error in zstd that the client does not take",
            "zstd",
            zstd(body),
        )),
        decoded(row(
            "conforming-deflate",
            "a documented error in deflate that the client does not take",
            "deflate",
            zlib(body),
        )),
        accepting(
            "accept-encoding: gzip\r\n",
            row(
                "conforming-gzip-accepted",
                "a documented error in gzip that the client takes",
                "gzip",
                gzip(body),
            )
            .with_kept_headers(&[("content-encoding", "gzip")]),
        ),
        accepting(
            "accept-encoding: br;q=0.5, gzip\r\n",
            row(
                "conforming-br-accepted",
                "a documented error in brotli that the client takes",
                "br",
                brotli(body),
            )
            .with_kept_headers(&[("content-encoding", "br")]),
        ),
    ]
}

fn undecodable() -> Vec<UpstreamFault> {
    let message = format!(r#"{{"message":"{INTERNAL_HOSTNAME}"}}"#);
    let body = message.as_bytes();
    let half = |bytes: Vec<u8>| bytes.get(..bytes.len() / 2).unwrap_or_default().to_vec();
    vec![
        coded_row("gzip-lie", "says gzip and is plain JSON", 404, "gzip", body.to_vec()),
        coded_row("br-lie", "says br and is gzip", 404, "br", gzip(body)),
        coded_row("zstd-lie", "says zstd and is plain JSON", 404, "zstd", body.to_vec()),
        coded_row("hidden-gzip", "is gzip and does not say so", 404, "identity", gzip(body)),
        coded_row("cut-gzip", "half a gzip stream", 404, "gzip", half(gzip(body))),
        coded_row("cut-br", "half a brotli stream", 404, "br", half(brotli(body))),
        coded_row(
            "gzip-and-more",
            "bytes behind the gzip stream",
            404,
            "gzip",
            [gzip(body), b"more".to_vec()].concat(),
        ),
        coded_row("two-codings", "two codings", 404, "gzip, gzip", gzip(&gzip(body))),
        coded_row("mixed-codings", "two different codings", 404, "br, gzip", gzip(&brotli(body))),
        coded_row("unknown-coding", "a coding that nobody knows", 404, "shrunk", body.to_vec()),
        coded_row("gzip-500", "a compressed error under 500", 500, "gzip", gzip(body)),
        coded_row("empty-gzip", "says gzip and has no body", 404, "gzip", Vec::new()),
    ]
}

/// Ten megabytes in a few kilobytes.
fn decompression_bombs() -> Vec<UpstreamFault> {
    let blanks = " ".repeat(10 * 1024 * 1024);
    let body = format!(r#"{{"message":"No such order.","code":404}}{blanks}"#);
    let body = body.as_bytes();
    vec![
        coded_row("gzip-bomb", "ten megabytes in gzip", 404, "gzip", gzip(body)),
        coded_row("br-bomb", "ten megabytes in brotli", 404, "br", brotli(body)),
        coded_row("zstd-bomb", "ten megabytes in zstd", 404, "zstd", zstd(body)),
        coded_row("deflate-bomb", "ten megabytes in deflate", 404, "deflate", zlib(body)),
    ]
}

// Writing into memory does not fail; should it ever, the row's test says so: the message is missing.

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    let _ = encoder.write_all(body);
    encoder.finish().unwrap_or_default()
}

fn zlib(body: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    let _ = encoder.write_all(body);
    encoder.finish().unwrap_or_default()
}

fn deflate(body: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
    let _ = encoder.write_all(body);
    encoder.finish().unwrap_or_default()
}

fn brotli(body: &[u8]) -> Vec<u8> {
    let mut encoder = CompressorWriter::new(Vec::new(), 4096, 5, 20);
    let _ = encoder.write_all(body);
    encoder.into_inner()
}

fn zstd(body: &[u8]) -> Vec<u8> {
    zstd::encode_all(body, 3).unwrap_or_default()
}
