//! Every coding: round trip, truncated, with trailing garbage, and as a decompression bomb.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::io::Read;

use flate2::Compression;
use flate2::read::{DeflateEncoder, GzEncoder, ZlibEncoder};
use proptest::prelude::*;

use super::*;

const OUTPUT_LIMIT: usize = 64 * 1024;

/// The encodings on the wire, each with its content coding.
const ENCODINGS: &[(&str, ContentCoding)] = &[
    ("gzip", ContentCoding::Gzip),
    ("zlib", ContentCoding::Deflate),
    ("raw deflate", ContentCoding::Deflate),
    ("br", ContentCoding::Br),
    ("zstd", ContentCoding::Zstd),
    ("zstd stream", ContentCoding::Zstd),
];

fn encode(encoding: &str, plain: &[u8]) -> Vec<u8> {
    fn read_all(mut encoder: impl Read) -> Vec<u8> {
        let mut out = Vec::new();
        encoder.read_to_end(&mut out).unwrap();
        out
    }
    match encoding {
        "gzip" => read_all(GzEncoder::new(plain, Compression::default())),
        "zlib" => read_all(ZlibEncoder::new(plain, Compression::default())),
        "raw deflate" => read_all(DeflateEncoder::new(plain, Compression::default())),
        "br" => read_all(brotli::CompressorReader::new(plain, 4096, 3, 22)),
        "zstd" => zstd::bulk::compress(plain, 3).unwrap(),
        "zstd stream" => zstd::stream::encode_all(plain, 3).unwrap(),
        other => panic!("{other}"),
    }
}

#[test]
fn decode_round_trips_up_to_the_limit() {
    for &(encoding, coding) in ENCODINGS {
        for size in [0, 1, 100, CHUNK_SIZE, CHUNK_SIZE + 1, OUTPUT_LIMIT] {
            let plain: Vec<u8> = (0..size).map(|i| (i % 251) as u8).collect();
            assert_eq!(
                decode(coding, &encode(encoding, &plain), OUTPUT_LIMIT),
                Ok(plain),
                "{encoding} {size}"
            );
        }
        let plain = vec![7; OUTPUT_LIMIT + 1];
        assert_eq!(
            decode(coding, &encode(encoding, &plain), OUTPUT_LIMIT),
            Err(DecodeError::TooLarge),
            "{encoding}"
        );
    }
    assert_eq!(decode(ContentCoding::Identity, b"abc", 3), Ok(b"abc".to_vec()));
    assert_eq!(decode(ContentCoding::Identity, b"abcd", 3), Err(DecodeError::TooLarge));
}

#[test]
fn decompression_bomb_is_too_large() {
    let zeros = vec![0; 8 * 1024 * 1024];
    for &(encoding, coding) in ENCODINGS {
        let bomb = encode(encoding, &zeros);
        assert!(bomb.len() < 10_000, "{encoding}");
        assert_eq!(decode(coding, &bomb, OUTPUT_LIMIT), Err(DecodeError::TooLarge), "{encoding}");
    }
}

#[test]
fn truncated_body_is_malformed() {
    let plain = br#"{"message":"The shop is closed today, come again tomorrow.","code":503}"#;
    for &(encoding, coding) in ENCODINGS {
        let encoded_body = encode(encoding, plain);
        for cut in 0..encoded_body.len() {
            assert_eq!(
                decode(coding, &encoded_body[..cut], OUTPUT_LIMIT),
                Err(DecodeError::Malformed),
                "{encoding} {cut}"
            );
        }
    }
}

#[test]
fn trailing_garbage_is_malformed() {
    for &(encoding, coding) in ENCODINGS {
        for garbage in [&b"\0"[..], b"x", b"<html>", b"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"] {
            let body = [&encode(encoding, b"hello")[..], garbage].concat();
            assert_eq!(
                decode(coding, &body, OUTPUT_LIMIT),
                Err(DecodeError::Malformed),
                "{encoding} {garbage:?}"
            );
        }
    }
}

#[test]
fn gzip_members_are_concatenated() {
    let body = [encode("gzip", b"hello "), encode("gzip", b"world")].concat();
    assert_eq!(decode(ContentCoding::Gzip, &body, OUTPUT_LIMIT), Ok(b"hello world".to_vec()));
    assert_eq!(decode(ContentCoding::Gzip, &body, 10), Err(DecodeError::TooLarge));
}

#[test]
fn only_the_declared_coding_is_tried() {
    for &(encoding, coding) in ENCODINGS {
        for &(_, other) in ENCODINGS {
            if other != coding {
                assert_eq!(
                    decode(other, &encode(encoding, b"hello"), OUTPUT_LIMIT),
                    Err(DecodeError::Malformed),
                    "{encoding} {other:?}"
                );
            }
        }
        assert_eq!(
            decode(coding, br#"{"message":"plain"}"#, OUTPUT_LIMIT),
            Err(DecodeError::Malformed),
            "{encoding}"
        );
    }
}

#[test]
fn content_encoding_must_name_one_known_coding() {
    let parse = |values: &[&'static str]| {
        ContentCoding::parse(&values.iter().map(|value| HeaderValue::from_static(value)).collect::<Vec<_>>())
    };
    assert_eq!(parse(&[]), Some(ContentCoding::Identity));
    assert_eq!(parse(&[""]), Some(ContentCoding::Identity));
    assert_eq!(parse(&["identity"]), Some(ContentCoding::Identity));
    assert_eq!(parse(&["GZip"]), Some(ContentCoding::Gzip));
    assert_eq!(parse(&["x-gzip"]), Some(ContentCoding::Gzip));
    assert_eq!(parse(&[" deflate , "]), Some(ContentCoding::Deflate));
    assert_eq!(parse(&["identity, br"]), Some(ContentCoding::Br));
    assert_eq!(parse(&["identity", "zstd"]), Some(ContentCoding::Zstd));
    assert_eq!(parse(&["gzip, gzip"]), None);
    assert_eq!(parse(&["gzip", "br"]), None);
    assert_eq!(parse(&["compress"]), None);
    assert_eq!(parse(&["gzip;q=1"]), None);
}

proptest! {
    #[test]
    fn arbitrary_input_never_exceeds_the_limit(body in proptest::collection::vec(any::<u8>(), 0..600), limit in 0usize..2000) {
        for coding in [ContentCoding::Identity, ContentCoding::Gzip, ContentCoding::Deflate, ContentCoding::Br, ContentCoding::Zstd] {
            if let Ok(plain) = decode(coding, &body, limit) {
                prop_assert!(plain.len() <= limit);
            }
        }
    }

    #[test]
    fn corrupted_input_never_exceeds_the_limit(at in any::<proptest::sample::Index>(), byte in any::<u8>(), form in 0..ENCODINGS.len()) {
        let (form, coding) = ENCODINGS[form];
        let mut body = encode(form, &b"The same words again and again. ".repeat(40));
        let at = at.index(body.len());
        body[at] = byte;
        if let Ok(plain) = decode(coding, &body, 1280) {
            prop_assert!(plain.len() <= 1280);
        }
    }
}
