//! Response header sections: valid, ambiguous (response splitting), and connection reuse.

use super::*;

fn parse_get(head: &str) -> Result<ResponseHead, &'static str> {
    parse(head.as_bytes(), &Method::GET)
}

fn framing(fields: &str) -> Result<ResponseFraming, &'static str> {
    parse_get(&format!("HTTP/1.1 200 OK\r\n{fields}\r\n")).map(|facts| facts.framing)
}

#[test]
fn framing_follows_the_header_fields() {
    for (fields, expected) in [
        ("", ResponseFraming::UntilClose),
        ("Content-Length: 5\r\n", ResponseFraming::Length(5)),
        ("content-length:0\r\n", ResponseFraming::Length(0)),
        ("Content-Length: 5\r\nContent-Length: 5\r\n", ResponseFraming::Length(5)),
        ("Content-Length: 5, 5\r\n", ResponseFraming::Length(5)),
        ("Content-Length: 5,05\r\nContent-Length: 5\r\n", ResponseFraming::Length(5)),
        ("Transfer-Encoding: Chunked\r\n", ResponseFraming::Chunked),
    ] {
        assert_eq!(framing(fields), Ok(expected), "{fields:?}");
    }
}

#[test]
fn ambiguous_response_heads_are_rejected() {
    for fields in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: 5, 6\r\n",
        "Content-Length: 5,\r\n",
        "Content-Length:\r\n",
        "Content-Length: +5\r\n",
        "Content-Length: -1\r\n",
        "Content-Length: 0x5\r\n",
        "Content-Length: 5 5\r\n",
        "Content-Length: 9223372036854775808\r\n",
        "Content-Length : 5\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: chunked, chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: identity\r\n",
        "Transfer-Encoding:\r\n",
        "Transfer-Encoding: chunked;a\r\n",
        "Transfer-Encoding : chunked\r\n",
        "A: b\r\n folded\r\n",
        " A: b\r\n",
        "\tA: b\r\n",
        "A: b\n",
        "A: b\nC: d\r\n",
        "A: b\rC\r\n",
        "A: b\r\r\n",
        "A: \0\r\n",
        "A: \u{b}\r\n",
        "A: \u{7f}\r\n",
        "A\0: b\r\n",
        "A b: c\r\n",
        "A\r\n",
        ": a\r\n",
        "\u{e9}: a\r\n",
    ] {
        assert!(framing(fields).is_err(), "{fields:?}");
    }
}

#[test]
fn status_line_is_parsed_strictly() {
    for (line, status) in [
        ("HTTP/1.1 200 OK", 200),
        ("HTTP/1.1 200 ", 200),
        ("HTTP/1.1 200", 200),
        ("HTTP/1.1 200  two  spaces", 200),
        ("HTTP/1.0 599 caf\u{e9}\t!", 599),
        ("HTTP/1.1 100 Continue", 100),
        ("HTTP/1.1 101 Switching", 101),
        ("HTTP/1.2 200 OK", 200),
        ("HTTP/1.9 204", 204),
    ] {
        assert_eq!(parse_get(&format!("{line}\r\n\r\n")).map(|facts| facts.status), Ok(status), "{line}");
    }
    for line in [
        "",
        "HTTP/1.1",
        "HTTP/1.1 ",
        "HTTP/1.1 20",
        "HTTP/1.1 2000",
        "HTTP/1.1 200OK",
        "HTTP/1.1  200 OK",
        "HTTP/1.1\t200 OK",
        "HTTP/1.1 200\tOK",
        "HTTP/1.1 +20 OK",
        "HTTP/1.1 2x0 OK",
        "HTTP/1.1 000 OK",
        "HTTP/1.1 099 OK",
        "HTTP/1.1 600 OK",
        "HTTP/1.1 999 OK",
        "HTTP/1.10 200 OK",
        "HTTP/1.x 200 OK",
        "HTTP/2.0 200 OK",
        "HTTP/2 200",
        "http/1.1 200 OK",
        "ICY 200 OK",
        " HTTP/1.1 200 OK",
        "HTTP/1.1 200 O\0K",
        "HTTP/1.1 200 OK\u{7f}",
        "\r\nHTTP/1.1 200",
    ] {
        assert!(parse_get(&format!("{line}\r\n\r\n")).is_err(), "{line:?}");
    }
    assert!(parse_get("HTTP/1.1 200 OK\n\n").is_err());
    assert!(parse_get("HTTP/1.1 200 OK\r\r\n\r\n").is_err());
}

#[test]
fn response_head_must_be_complete_and_exact() {
    let head = "HTTP/1.1 200 OK\r\nA: b\r\n\r\n";
    assert!(parse_get(head).is_ok());
    for end in 0..head.len() {
        assert!(parse_get(&head[..end]).is_err(), "{end}");
    }
    assert!(parse_get(&format!("{head}x")).is_err());
}

#[test]
fn bodyless_responses_keep_content_length() {
    let head = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
    let facts = parse(head, &Method::HEAD).unwrap();
    assert_eq!((facts.framing, facts.content_length), (ResponseFraming::NoBody, Some(5)));
    assert!(facts.keep_alive);
    for status in [100, 103, 204, 304] {
        let head = format!("HTTP/1.1 {status} X\r\n\r\n");
        let facts = parse(head.as_bytes(), &Method::GET).unwrap();
        assert_eq!((facts.framing, facts.keep_alive), (ResponseFraming::NoBody, true), "{status}");
    }
    let chunked = parse(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", &Method::HEAD).unwrap();
    assert_eq!((chunked.framing, chunked.keep_alive), (ResponseFraming::NoBody, true));
}

#[test]
fn framing_fields_of_a_101_are_ignored() {
    for fields in [
        "Transfer-Encoding: chunked\r\n",
        "Content-Length: 0\r\n",
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: x\r\n",
        "Transfer-Encoding: gzip\r\n",
    ] {
        let facts = parse_get(&format!("HTTP/1.1 101 X\r\n{fields}\r\n")).unwrap();
        assert_eq!((facts.framing, facts.content_length), (ResponseFraming::NoBody, None), "{fields:?}");
        assert!(parse_get(&format!("HTTP/1.1 101 X\r\n{fields} folded\r\n\r\n")).is_err());
    }
}

#[test]
fn keep_alive_requires_an_unambiguous_response_end() {
    for (head, keep_alive) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", true),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: x, Close\r\n\r\n", false),
        ("HTTP/1.1 200 OK\r\n\r\n", false),
        ("HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n", false),
        ("HTTP/1.0 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\n", true),
        ("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\n", false),
        ("HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n", false),
        ("HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", false),
        ("HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", true),
        ("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", true),
    ] {
        assert_eq!(parse_get(head).unwrap().keep_alive, keep_alive, "{head:?}");
    }
    assert!(parse_get("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").is_err());
}
