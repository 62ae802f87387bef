//! Compressed error bodies: every content coding, decompression bombs, mislabelled and multiple codings.
//!
//! The gateway decodes them within limits and classifies the result like the bodies in [`super::error_bodies`].

use std::io::Write;

use brotli::CompressorWriter;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};

use super::super::script::{UpstreamStep, http_response};
use super::{FaultOutcome, FaultRequest, INTERNAL_HOSTNAME, UpstreamFault, replaced_row};

const MESSAGE: &str = "This page is in the archive.";
const PLAIN: &str = r#"{"message":"Order 7 does not exist.","code":404}"#;

/// All rows of this file.
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
        row("gzip-error", "sends an error of another shape, in gzip", "gzip", gzip(body)),
        row(
            "x-gzip-error",
            "sends an error of another shape, in gzip with its old name x-gzip",
            "x-gzip",
            gzip(body),
        ),
        row("br-error", "sends an error of another shape, in brotli", "br", brotli(body)),
        row("zstd-error", "sends an error of another shape, in zstd", "zstd", zstd(body)),
        row("deflate-error", "sends an error of another shape, in deflate", "deflate", zlib(body)),
        row(
            "raw-deflate-error",
            "sends an error of another shape, in deflate without the zlib wrapper",
            "deflate",
            deflate(body),
        ),
        row(
            "identity-coding",
            "sends an error of another shape, with Content-Encoding: identity",
            "identity",
            body.to_vec(),
        ),
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
            "sends an error that matches the template, in gzip that the client does not accept",
            "gzip",
            gzip(body),
        )),
        decoded(row(
            "conforming-br",
            "sends an error that matches the template, in brotli that the client does not accept",
            "br",
            brotli(body),
        )),
        decoded(row(
            "conforming-zstd",
            "sends an error that matches the template, in zstd that the client does not accept",
            "zstd",
            zstd(body),
        )),
        decoded(row(
            "conforming-deflate",
            "sends an error that matches the template, in deflate that the client does not accept",
            "deflate",
            zlib(body),
        )),
        accepting(
            "accept-encoding: gzip\r\n",
            row(
                "conforming-gzip-accepted",
                "sends an error that matches the template, in gzip that the client accepts",
                "gzip",
                gzip(body),
            )
            .with_kept_headers(&[("content-encoding", "gzip")]),
        ),
        accepting(
            "accept-encoding: br;q=0.5, gzip\r\n",
            row(
                "conforming-br-accepted",
                "sends an error that matches the template, in brotli that the client accepts",
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
        coded_row("gzip-lie", "declares gzip and sends plain JSON", 404, "gzip", body.to_vec()),
        coded_row("br-lie", "declares brotli and sends gzip", 404, "br", gzip(body)),
        coded_row("zstd-lie", "declares zstd and sends plain JSON", 404, "zstd", body.to_vec()),
        coded_row("hidden-gzip", "declares identity and sends gzip", 404, "identity", gzip(body)),
        coded_row("cut-gzip", "sends a truncated gzip stream", 404, "gzip", half(gzip(body))),
        coded_row("cut-br", "sends a truncated brotli stream", 404, "br", half(brotli(body))),
        coded_row(
            "gzip-and-more",
            "sends extra bytes after the gzip stream",
            404,
            "gzip",
            [gzip(body), b"more".to_vec()].concat(),
        ),
        coded_row("two-codings", "applies gzip twice", 404, "gzip, gzip", gzip(&gzip(body))),
        coded_row(
            "mixed-codings",
            "applies two different content codings",
            404,
            "br, gzip",
            gzip(&brotli(body)),
        ),
        coded_row("unknown-coding", "sends an unknown content coding", 404, "shrunk", body.to_vec()),
        coded_row("gzip-500", "sends 500 with a gzip body", 500, "gzip", gzip(body)),
        coded_row("empty-gzip", "declares gzip and sends no body", 404, "gzip", Vec::new()),
    ]
}

/// Ten megabytes in a few kilobytes.
fn decompression_bombs() -> Vec<UpstreamFault> {
    let blanks = " ".repeat(10 * 1024 * 1024);
    let body = format!(r#"{{"message":"No such order.","code":404}}{blanks}"#);
    let body = body.as_bytes();
    vec![
        coded_row("gzip-bomb", "sends 10 MiB compressed with gzip", 404, "gzip", gzip(body)),
        coded_row("br-bomb", "sends 10 MiB compressed with brotli", 404, "br", brotli(body)),
        coded_row("zstd-bomb", "sends 10 MiB compressed with zstd", 404, "zstd", zstd(body)),
        coded_row("deflate-bomb", "sends 10 MiB compressed with deflate", 404, "deflate", zlib(body)),
    ]
}

// Writing to memory cannot fail. If it did, the row's test would fail because of the missing message.

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
