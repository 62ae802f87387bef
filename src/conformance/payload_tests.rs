//! Tests the forms of payloads, and the errors of invalid ones.

use super::*;

fn bytes_of(yaml: &str) -> Result<Vec<u8>, String> {
    let payload: Payload =
        serde_saphyr::from_str(yaml).map_err(|error| error.without_snippet().to_string())?;
    Ok(payload.bytes(Scope { profile: None, name: "test", stream: STREAM_PLACEHOLDER }))
}

#[test]
fn http_response_has_crlf_lines_and_exact_content_length() {
    let bytes = http_response("404 Not Found\ncontent-type: text/html", "<h1>");
    assert_eq!(
        bytes,
        "HTTP/1.1 404 Not Found\r\ncontent-type: text/html\r\ncontent-length: 4\r\n\r\n<h1>".as_bytes()
    );
}

#[test]
fn payloads_are_text_lists_and_generated_bytes() {
    for (yaml, expected) in [
        (r#""a\r\nb\0""#, b"a\r\nb\0".to_vec()),
        (r#"["a", { hex: "ff 00" }, "b"]"#, b"a\xff\0b".to_vec()),
        (r#"{ repeat: { of: "ab", times: 3 } }"#, b"ababab".to_vec()),
        (r#"{ slice: { of: "abcdef", from: 1, to: -2 } }"#, b"bcd".to_vec()),
        (r#"{ half: "abcdef" }"#, b"abc".to_vec()),
        ("{ zeros: 1KiB }", vec![0; 1024]),
        ("{ nested: 2 }", b"[[]]".to_vec()),
        ("{ utf16: a }", b"a\0".to_vec()),
        ("{ u32: [stream, 1] }", [STREAM_PLACEHOLDER.to_be_bytes(), [0, 0, 0, 1]].concat()),
        (
            r#"{ response: { head: "204 No", body: x } }"#,
            b"HTTP/1.1 204 No\r\ncontent-length: 1\r\n\r\nx".to_vec(),
        ),
        (
            r#"{ frame: { type: goaway, stream: 0, payload: { hex: "07" } } }"#,
            b"\0\0\x01\x07\0\0\0\0\0\x07".to_vec(),
        ),
        (r#"{ data: { body: x, end: true, stream: 5 } }"#, b"\0\0\x01\0\x01\0\0\0\x05x".to_vec()),
    ] {
        assert_eq!(bytes_of(yaml), Ok(expected), "{yaml}");
    }
}

#[test]
fn compressed_payloads_decompress_to_their_source() {
    let gzip = bytes_of(r#"{ gzip: { repeat: { of: "x", times: 10MiB } } }"#).unwrap();
    assert!(gzip.starts_with(&[0x1f, 0x8b]) && gzip.len() < 20_000);
    let zstd = bytes_of("{ zstd: text }").unwrap();
    assert_eq!(zstd::decode_all(&*zstd).unwrap(), b"text");
}

#[test]
fn invalid_payloads_are_reported_with_their_position() {
    for (yaml, expected) in [
        (r#"{ hex: "fg" }"#, "pairs of hexadecimal digits"),
        ("{ shout: x }", "shout"),
        ("{ frame: { type: shout } }", "a frame type"),
        ("{ zeros: many }", "a number, a size"),
    ] {
        let error = bytes_of(yaml).unwrap_err();
        assert!(error.contains(expected) && error.contains("line 1"), "{yaml}: {error}");
    }
}
