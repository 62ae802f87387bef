//! Body framing: complete, split, truncated, and invalid.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use super::*;

/// Feeds `bytes` in chunks of `step`. Returns the body, the bytes after it and whether it is complete, or the error.
fn decode_split(
    mut decoder: BodyDecoder,
    bytes: &[u8],
    step: usize,
) -> Result<(Vec<u8>, Vec<u8>, bool), &'static str> {
    let mut buffer = BytesMut::new();
    let mut body = Vec::new();
    let mut pieces = bytes.chunks(step);
    loop {
        match decoder.decode(&mut buffer)? {
            DecodeStep::Data(length) => body.extend_from_slice(&buffer.split_to(length)),
            DecodeStep::End => {
                let rest = buffer.iter().copied().chain(pieces.flatten().copied()).collect();
                return Ok((body, rest, true));
            }
            DecodeStep::NeedMore => match pieces.next() {
                Some(piece) => buffer.extend_from_slice(piece),
                None => return Ok((body, Vec::new(), decoder.finish_on_close())),
            },
        }
    }
}

fn chunked() -> BodyDecoder {
    BodyDecoder::request(RequestFraming::Chunked)
}

#[test]
fn body_decodes_equally_at_every_split() {
    type BodyCase = (BodyDecoder, &'static [u8], &'static [u8], &'static [u8]);
    let cases: [BodyCase; 9] = [
        (BodyDecoder::request(RequestFraming::Length(5)), b"helloGET", b"hello", b"GET"),
        (BodyDecoder::request(RequestFraming::None), b"GET", b"", b"GET"),
        (chunked(), b"5\r\nhello\r\n0\r\n\r\nGET", b"hello", b"GET"),
        (chunked(), b"2;a=b\r\nhe\r\n03\r\nllo\r\n0\r\nX: y\r\n\r\nGET", b"hello", b"GET"),
        (chunked(), b"A\r\n0123456789\r\n0;last\r\n\r\n", b"0123456789", b""),
        (chunked(), b"00000000000000000005\r\nhello\r\n0000000000000000000000\r\n\r\nG", b"hello", b"G"),
        (chunked(), b"3 ; a = b\r\nhel\r\n02\t \t;\t a\t=\"b ; c\" \r\nlo\r\n0 ;x\r\n\r\n", b"hello", b""),
        (chunked(), b"5;\r\nhello\r\n0;;\r\n\r\n", b"hello", b""),
        (BodyDecoder::response(ResponseFraming::Chunked), b"5  \r\nhello\r\n0 \r\n\r\n", b"hello", b""),
    ];
    for (decoder, bytes, body, rest) in cases {
        for step in 1..=bytes.len() {
            let read = decode_split(decoder, bytes, step).unwrap();
            assert_eq!(read, (body.to_vec(), rest.to_vec(), true), "{step}");
        }
    }
}

#[test]
fn truncated_body_is_incomplete() {
    for bytes in [
        &b"5\r\nhel"[..],
        b"5\r\nhello\r\n",
        b"5\r\nhello\r\n0\r\n",
        b"",
        b"5",
        b"5\r\nhello\r\n0\r\nX: y\r\n",
    ] {
        assert!(!decode_split(chunked(), bytes, 64).unwrap().2, "{bytes:?}");
    }
    assert!(!decode_split(BodyDecoder::request(RequestFraming::Length(5)), b"hell", 64).unwrap().2);
    assert!(decode_split(BodyDecoder::response(ResponseFraming::UntilClose), b"hell", 64).unwrap().2);
}

#[test]
fn invalid_chunk_framing_is_rejected_at_every_split() {
    let huge = [b"5;".to_vec(), vec![b'x'; 2000], b"\r\n".to_vec()].concat();
    let long_trailer = [b"0\r\nX: ".to_vec(), vec![b'x'; 17_000]].concat();
    let cases: [&[u8]; 27] = [
        b"5\nhello\r\n",
        b"5\r\nhello\n0\r\n\r\n",
        b"5\r\nhelloX\r\n0\r\n\r\n",
        b"+5\r\nhello\r\n",
        b"-5\r\nhello\r\n",
        b"0x5\r\nhello\r\n",
        b" 5\r\nhello\r\n",
        b"5 \r\nhello\r\n",
        b"5\t\r\nhello\r\n",
        b"5\x0b;a\r\nhello\r\n",
        b"5 5;a\r\nhello\r\n",
        b"5 a\r\nhello\r\n",
        b"00000x5\r\nhello\r\n",
        b"5,\r\nhello\r\n",
        b"\r\nhello\r\n",
        b"g\r\nhello\r\n",
        b"5\rhello\r\n",
        b"5;a\0\r\nhello\r\n",
        b"1000000000000000\r\n",
        b"00001000000000000000\r\n",
        b"ffffffffffffffff\r\n",
        b"0\r\nbroken\r\n\r\n",
        b"0\r\n folded: x\r\n\r\n",
        b"0\r\nA : x\r\n\r\n",
        b"0\r\nA: x\n\r\n",
        &huge,
        &long_trailer,
    ];
    for bytes in cases {
        for step in [1, 2, 3, 7, bytes.len()] {
            assert!(decode_split(chunked(), bytes, step).is_err(), "{:?}", String::from_utf8_lossy(bytes));
        }
    }
}

#[test]
fn remaining_is_known_only_with_content_length() {
    assert_eq!(BodyDecoder::request(RequestFraming::Length(9)).remaining(), Some(9));
    assert_eq!(BodyDecoder::request(RequestFraming::None).remaining(), Some(0));
    assert_eq!(chunked().remaining(), None);
}
