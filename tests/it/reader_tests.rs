//! The strict reader against hand-made bytes: it must be able to fail.

use std::io::{self, Read};

use super::{Answer, Asked, Ended, Framing, Reader, Unanswered};

const GET: Asked = Asked::Http11("GET");

fn read(bytes: &str) -> Result<Answer, Unanswered> {
    Reader::new(bytes.as_bytes()).read(GET)
}

fn breach(bytes: &str) -> String {
    match read(bytes) {
        Err(Unanswered::Malformed(what)) => what,
        other => panic!("{bytes:?} was read as {other:?}"),
    }
}

/// Bytes, then an error.
struct Then(io::Cursor<Vec<u8>>, io::ErrorKind);

impl Read for Then {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buffer)? {
            0 => Err(self.1.into()),
            size => Ok(size),
        }
    }
}

fn then(bytes: &str, error: io::ErrorKind) -> Result<Answer, Unanswered> {
    Reader::new(Then(io::Cursor::new(bytes.as_bytes().to_vec()), error)).read(GET)
}

#[test]
fn a_correct_response_is_read_whole_and_leaves_the_next_one() {
    let bytes = "HTTP/1.1 103 \r\nlink: a\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 3\r\nX-A:  b \r\n\r\nabcHTTP/1.1 204 No\r\n\r\n";
    let mut reader = Reader::new(bytes.as_bytes());
    let answer = reader.read(GET).unwrap();
    assert_eq!((answer.status, answer.reason.as_str(), answer.body.as_slice()), (200, "OK", &b"abc"[..]));
    assert_eq!(answer.field("x-a"), Some("b"));
    assert_eq!(answer.interim, [(103, vec![("link".to_owned(), "a".to_owned())])]);
    assert!(answer.connection_usable && answer.ended == Ended::Complete);
    let next = reader.read(GET).unwrap();
    assert_eq!((next.status, next.framing), (204, Framing::Bodyless));
    assert_eq!(reader.read(GET), Err(Unanswered::Closed));
}

#[test]
fn chunks_are_joined_and_their_end_is_required() {
    let whole = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n";
    let answer = read(whole).unwrap();
    assert_eq!((answer.text().as_str(), answer.ended), ("abcd", Ended::Complete));
    let head = whole.find("\r\n\r\n").unwrap() + 4;
    for end in head..whole.len() {
        let answer = read(&whole[..end]).unwrap();
        assert_eq!(answer.ended, Ended::Cut { after: answer.body.len() }, "cut at {end}");
        assert!(!answer.connection_usable);
    }
}

#[test]
fn a_short_body_is_told_by_how_it_ended() {
    let short = "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nab";
    assert_eq!(read(short).unwrap().ended, Ended::Cut { after: 2 });
    assert_eq!(then(short, io::ErrorKind::ConnectionReset).unwrap().ended, Ended::Reset { after: 2 });
    assert_eq!(then(short, io::ErrorKind::WouldBlock).unwrap().ended, Ended::Silent { after: 2 });
}

#[test]
fn no_answer_is_told_by_how_it_did_not_come() {
    assert_eq!(read(""), Err(Unanswered::Closed));
    assert_eq!(then("", io::ErrorKind::ConnectionReset), Err(Unanswered::Reset));
    assert_eq!(then("", io::ErrorKind::TimedOut), Err(Unanswered::Silent));
    assert_eq!(read("HTTP/1.1 2"), Err(Unanswered::Torn("HTTP/1.1 2".to_owned())));
}

#[test]
fn every_breach_of_the_grammar_is_refused() {
    for (bytes, what) in [
        ("HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n", "HTTP/1.1"),
        ("HTTP/1.1 200\r\ncontent-length: 0\r\n\r\n", "space before its reason"),
        ("HTTP/1.1 20 OK\r\ncontent-length: 0\r\n\r\n", "three digits"),
        ("HTTP/1.1 200 OK\r\na: b\r\n c\r\ncontent-length: 0\r\n\r\n", "folded"),
        ("HTTP/1.1 200 OK\r\na : b\r\ncontent-length: 0\r\n\r\n", "not a token"),
        ("HTTP/1.1 200 OK\r\na\r\ncontent-length: 0\r\n\r\n", "without a colon"),
        ("HTTP/1.1 200 OK\r\na: b\nc: d\r\ncontent-length: 0\r\n\r\n", "control characters"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 0\r\ncontent-length: 0\r\n\r\n", "stands twice"),
        ("HTTP/1.1 200 OK\r\ncontent-length: +1\r\n\r\na", "not digits"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\na", "beside"),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\na", "other than chunked"),
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
        ("HTTP/1.1 200 OK\r\na: b\r\n\r\n", "no framing at all"),
        ("HTTP/1.1 100 Continue\r\ncontent-length: 0\r\n\r\n", "framing on an interim"),
    ] {
        let found = breach(bytes);
        assert!(found.contains(what), "{bytes:?}: {found}");
    }
}

#[test]
fn http_1_0_gets_no_chunks_and_no_interim_responses_and_may_be_ended_by_close() {
    let ask = |bytes: &str| Reader::new(bytes.as_bytes()).read(Asked::Http10("GET"));
    assert!(matches!(
        ask("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
        Err(Unanswered::Malformed(_))
    ));
    assert!(matches!(ask("HTTP/1.1 103 Hi\r\n\r\nHTTP/1.1 204 No\r\n\r\n"), Err(Unanswered::Malformed(_))));
    let answer = ask("HTTP/1.1 200 OK\r\n\r\nabc").unwrap();
    assert_eq!(
        (answer.framing, answer.text().as_str(), answer.connection_usable),
        (Framing::Close, "abc", false)
    );
    let kept = ask("HTTP/1.1 200 OK\r\nconnection: keep-alive\r\ncontent-length: 1\r\n\r\na").unwrap();
    assert!(kept.connection_usable);
}

#[test]
fn a_head_answer_has_no_body_whatever_its_length_says() {
    let bytes = "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n";
    let answer = Reader::new(bytes.as_bytes()).read(Asked::Http11("HEAD")).unwrap();
    assert_eq!((answer.framing, answer.ended), (Framing::Bodyless, Ended::Complete));
}

#[test]
fn bytes_after_an_answer_are_seen() {
    let mut reader = Reader::new(&b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nabc"[..]);
    reader.read(GET).unwrap();
    assert_eq!(reader.surplus(), b"bc");
    assert!(matches!(reader.read_end(), Unanswered::Malformed(_)));
}
