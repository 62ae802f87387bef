//! The strict response parser against handwritten bytes: it must detect every violation.

use std::io::{self, Read};

use super::{HttpResponse, MessageFraming, NoResponse, ResponseEnd, SentRequest, StrictReader};

const GET: SentRequest = SentRequest::Http11("GET");

fn read(bytes: &str) -> Result<HttpResponse, NoResponse> {
    StrictReader::new(bytes.as_bytes()).read(GET)
}

fn violation(bytes: &str) -> String {
    match read(bytes) {
        Err(NoResponse::Malformed(what)) => what,
        other => panic!("{bytes:?} was parsed as {other:?}"),
    }
}

/// Returns the bytes, then an error.
struct ThenError(io::Cursor<Vec<u8>>, io::ErrorKind);

impl Read for ThenError {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buffer)? {
            0 => Err(self.1.into()),
            size => Ok(size),
        }
    }
}

fn read_then_error(bytes: &str, error: io::ErrorKind) -> Result<HttpResponse, NoResponse> {
    StrictReader::new(ThenError(io::Cursor::new(bytes.as_bytes().to_vec()), error)).read(GET)
}

#[test]
fn valid_response_is_read_completely_and_leaves_the_next() {
    let bytes = "HTTP/1.1 103 \r\nlink: a\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 3\r\nX-A:  b \r\n\r\nabcHTTP/1.1 204 No\r\n\r\n";
    let mut reader = StrictReader::new(bytes.as_bytes());
    let response = reader.read(GET).unwrap();
    assert_eq!(
        (response.status, response.reason.as_str(), response.body.as_slice()),
        (200, "OK", &b"abc"[..])
    );
    assert_eq!(response.header("x-a"), Some("b"));
    assert_eq!(response.interim, [(103, vec![("link".to_owned(), "a".to_owned())])]);
    assert!(response.connection_usable && response.end == ResponseEnd::Complete);
    let next = reader.read(GET).unwrap();
    assert_eq!((next.status, next.framing), (204, MessageFraming::Bodyless));
    assert_eq!(reader.read(GET), Err(NoResponse::Closed));
}

#[test]
fn chunks_are_joined_and_the_last_chunk_is_required() {
    let complete = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n";
    let response = read(complete).unwrap();
    assert_eq!((response.text().as_str(), response.end), ("abcd", ResponseEnd::Complete));
    let head = complete.find("\r\n\r\n").unwrap() + 4;
    for end in head..complete.len() {
        let response = read(&complete[..end]).unwrap();
        assert_eq!(response.end, ResponseEnd::Truncated { after: response.body.len() }, "truncated at {end}");
        assert!(!response.connection_usable);
    }
}

#[test]
fn short_body_reports_how_it_ended() {
    let short = "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nab";
    assert_eq!(read(short).unwrap().end, ResponseEnd::Truncated { after: 2 });
    assert_eq!(
        read_then_error(short, io::ErrorKind::ConnectionReset).unwrap().end,
        ResponseEnd::Reset { after: 2 }
    );
    assert_eq!(
        read_then_error(short, io::ErrorKind::WouldBlock).unwrap().end,
        ResponseEnd::TimedOut { after: 2 }
    );
}

#[test]
fn missing_response_reports_its_reason() {
    assert_eq!(read(""), Err(NoResponse::Closed));
    assert_eq!(read_then_error("", io::ErrorKind::ConnectionReset), Err(NoResponse::Reset));
    assert_eq!(read_then_error("", io::ErrorKind::TimedOut), Err(NoResponse::TimedOut));
    assert_eq!(read("HTTP/1.1 2"), Err(NoResponse::Truncated("HTTP/1.1 2".to_owned())));
}

#[test]
fn grammar_violations_are_all_rejected() {
    for (bytes, what) in [
        ("HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n", "HTTP/1.1"),
        ("HTTP/1.1 200\r\ncontent-length: 0\r\n\r\n", "without a space before the reason phrase"),
        ("HTTP/1.1 20 OK\r\ncontent-length: 0\r\n\r\n", "three digits"),
        ("HTTP/1.1 200 OK\r\na: b\r\n c\r\ncontent-length: 0\r\n\r\n", "line folding"),
        ("HTTP/1.1 200 OK\r\na : b\r\ncontent-length: 0\r\n\r\n", "not a token"),
        ("HTTP/1.1 200 OK\r\na\r\ncontent-length: 0\r\n\r\n", "without a colon"),
        ("HTTP/1.1 200 OK\r\na: b\nc: d\r\ncontent-length: 0\r\n\r\n", "control characters"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 0\r\ncontent-length: 0\r\n\r\n", "duplicate singleton field"),
        ("HTTP/1.1 200 OK\r\ncontent-length: +1\r\n\r\na", "not digits"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\na", "both"),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\na", "not chunked"),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3;a=b\r\nabc\r\n0\r\n\r\n",
            "plain hexadecimal",
        ),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nabc\r\n0\r\n\r\n",
            "longer than its size",
        ),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\na: b\r\n\r\n", "trailers"),
        ("HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n\r\n", "framing on a 101 or 204"),
        ("HTTP/1.1 200 OK\r\na: b\r\n\r\n", "no body length"),
        ("HTTP/1.1 100 Continue\r\ncontent-length: 0\r\n\r\n", "framing on an interim"),
    ] {
        let found = violation(bytes);
        assert!(found.contains(what), "{bytes:?}: {found}");
    }
}

#[test]
fn http10_rejects_chunks_and_interim_and_accepts_close_delimited() {
    let read_http10 = |bytes: &str| StrictReader::new(bytes.as_bytes()).read(SentRequest::Http10("GET"));
    assert!(matches!(
        read_http10("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
        Err(NoResponse::Malformed(_))
    ));
    assert!(matches!(
        read_http10("HTTP/1.1 103 Hi\r\n\r\nHTTP/1.1 204 No\r\n\r\n"),
        Err(NoResponse::Malformed(_))
    ));
    let response = read_http10("HTTP/1.1 200 OK\r\n\r\nabc").unwrap();
    assert_eq!(
        (response.framing, response.text().as_str(), response.connection_usable),
        (MessageFraming::CloseDelimited, "abc", false)
    );
    let kept =
        read_http10("HTTP/1.1 200 OK\r\nconnection: keep-alive\r\ncontent-length: 1\r\n\r\na").unwrap();
    assert!(kept.connection_usable);
}

#[test]
fn head_response_has_no_body_despite_content_length() {
    let bytes = "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n";
    let response = StrictReader::new(bytes.as_bytes()).read(SentRequest::Http11("HEAD")).unwrap();
    assert_eq!((response.framing, response.end), (MessageFraming::Bodyless, ResponseEnd::Complete));
}

#[test]
fn bytes_after_a_response_are_reported() {
    let mut reader = StrictReader::new(&b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nabc"[..]);
    reader.read(GET).unwrap();
    assert_eq!(reader.unread(), b"bc");
    assert!(matches!(reader.read_end(), NoResponse::Malformed(_)));
}
