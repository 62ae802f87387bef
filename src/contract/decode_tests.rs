//! Every coding forth and back, cut short, with garbage behind it, and as a bomb.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::io::Read;

use flate2::Compression;
use flate2::read::{DeflateEncoder, GzEncoder, ZlibEncoder};
use proptest::prelude::*;

use super::*;

const LIMIT: usize = 64 * 1024;

/// The forms on the wire, each with the coding that names it.
const FORMS: &[(&str, Coding)] = &[
    ("gzip", Coding::Gzip),
    ("zlib", Coding::Deflate),
    ("raw deflate", Coding::Deflate),
    ("br", Coding::Br),
    ("zstd", Coding::Zstd),
    ("zstd stream", Coding::Zstd),
];

fn encoded(form: &str, plain: &[u8]) -> Vec<u8> {
    fn all(mut encoder: impl Read) -> Vec<u8> {
        let mut out = Vec::new();
        encoder.read_to_end(&mut out).unwrap();
        out
    }
    match form {
        "gzip" => all(GzEncoder::new(plain, Compression::default())),
        "zlib" => all(ZlibEncoder::new(plain, Compression::default())),
        "raw deflate" => all(DeflateEncoder::new(plain, Compression::default())),
        "br" => all(brotli::CompressorReader::new(plain, 4096, 3, 22)),
        "zstd" => zstd::bulk::compress(plain, 3).unwrap(),
        "zstd stream" => zstd::stream::encode_all(plain, 3).unwrap(),
        other => panic!("{other}"),
    }
}

#[test]
fn a_body_comes_back_whole_up_to_exactly_the_limit() {
    for &(form, coding) in FORMS {
        for size in [0, 1, 100, STEP, STEP + 1, LIMIT] {
            let plain: Vec<u8> = (0..size).map(|i| (i % 251) as u8).collect();
            assert_eq!(decode(coding, &encoded(form, &plain), LIMIT), Ok(plain), "{form} {size}");
        }
        let plain = vec![7; LIMIT + 1];
        assert_eq!(decode(coding, &encoded(form, &plain), LIMIT), Err(DecodeFailure::TooLarge), "{form}");
    }
    assert_eq!(decode(Coding::Identity, b"abc", 3), Ok(b"abc".to_vec()));
    assert_eq!(decode(Coding::Identity, b"abcd", 3), Err(DecodeFailure::TooLarge));
}

#[test]
fn a_bomb_is_too_large_however_little_it_weighs() {
    let zeros = vec![0; 8 * 1024 * 1024];
    for &(form, coding) in FORMS {
        let bomb = encoded(form, &zeros);
        assert!(bomb.len() < 10_000, "{form}");
        assert_eq!(decode(coding, &bomb, LIMIT), Err(DecodeFailure::TooLarge), "{form}");
    }
}

#[test]
fn a_body_cut_anywhere_is_broken() {
    let plain = br#"{"message":"The shop is closed today, come again tomorrow.","code":503}"#;
    for &(form, coding) in FORMS {
        let whole = encoded(form, plain);
        for cut in 0..whole.len() {
            assert_eq!(decode(coding, &whole[..cut], LIMIT), Err(DecodeFailure::Broken), "{form} {cut}");
        }
    }
}

#[test]
fn anything_behind_the_stream_is_broken() {
    for &(form, coding) in FORMS {
        for garbage in [&b"\0"[..], b"x", b"<html>", b"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"] {
            let body = [&encoded(form, b"hello")[..], garbage].concat();
            assert_eq!(decode(coding, &body, LIMIT), Err(DecodeFailure::Broken), "{form} {garbage:?}");
        }
    }
}

#[test]
fn a_gzip_body_of_two_members_is_one_body() {
    let body = [encoded("gzip", b"hello "), encoded("gzip", b"world")].concat();
    assert_eq!(decode(Coding::Gzip, &body, LIMIT), Ok(b"hello world".to_vec()));
    assert_eq!(decode(Coding::Gzip, &body, 10), Err(DecodeFailure::TooLarge));
}

#[test]
fn the_declared_coding_is_believed_and_no_other_is_tried() {
    for &(form, coding) in FORMS {
        for &(_, other) in FORMS {
            if other != coding {
                assert_eq!(
                    decode(other, &encoded(form, b"hello"), LIMIT),
                    Err(DecodeFailure::Broken),
                    "{form} {other:?}"
                );
            }
        }
        assert_eq!(decode(coding, br#"{"message":"plain"}"#, LIMIT), Err(DecodeFailure::Broken), "{form}");
    }
}

#[test]
fn one_known_coding_is_read_and_everything_else_is_not() {
    let parse = |values: &[&'static str]| {
        Coding::parse(&values.iter().map(|value| HeaderValue::from_static(value)).collect::<Vec<_>>())
    };
    assert_eq!(parse(&[]), Some(Coding::Identity));
    assert_eq!(parse(&[""]), Some(Coding::Identity));
    assert_eq!(parse(&["identity"]), Some(Coding::Identity));
    assert_eq!(parse(&["GZip"]), Some(Coding::Gzip));
    assert_eq!(parse(&["x-gzip"]), Some(Coding::Gzip));
    assert_eq!(parse(&[" deflate , "]), Some(Coding::Deflate));
    assert_eq!(parse(&["identity, br"]), Some(Coding::Br));
    assert_eq!(parse(&["identity", "zstd"]), Some(Coding::Zstd));
    assert_eq!(parse(&["gzip, gzip"]), None);
    assert_eq!(parse(&["gzip", "br"]), None);
    assert_eq!(parse(&["compress"]), None);
    assert_eq!(parse(&["gzip;q=1"]), None);
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_make_more_than_the_limit(body in proptest::collection::vec(any::<u8>(), 0..600), limit in 0usize..2000) {
        for coding in [Coding::Identity, Coding::Gzip, Coding::Deflate, Coding::Br, Coding::Zstd] {
            if let Ok(plain) = decode(coding, &body, limit) {
                prop_assert!(plain.len() <= limit);
            }
        }
    }

    #[test]
    fn a_damaged_body_never_makes_more_than_the_limit(at in any::<proptest::sample::Index>(), byte in any::<u8>(), form in 0..FORMS.len()) {
        let (form, coding) = FORMS[form];
        let mut body = encoded(form, &b"The same words again and again. ".repeat(40));
        let at = at.index(body.len());
        body[at] = byte;
        if let Ok(plain) = decode(coding, &body, 1280) {
            prop_assert!(plain.len() <= 1280);
        }
    }
}
