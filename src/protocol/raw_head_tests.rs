//! What the scanner says of whole, split, dripped, oversized and impossible heads.

use super::*;

const HEAD: &[u8] = b"GET /a?b=c HTTP/1.1\r\nHost: example.com\r\nX: \ty\xff\r\nEmpty:\r\n\r\n";

fn scan(bytes: &[u8], max: usize) -> Progress {
    HeadScanner::new(max).advance(bytes)
}

fn refused(bytes: &[u8]) -> (Cause, &'static str) {
    match scan(bytes, 4096) {
        Progress::Refused(refusal) => (refusal.cause, refusal.evidence),
        other => panic!("{other:?} for {:?}", bytes.escape_ascii().to_string()),
    }
}

#[test]
fn a_head_ends_with_its_empty_line_and_not_before() {
    for end in 0..HEAD.len() {
        assert_eq!(scan(&HEAD[..end], 4096), Progress::NeedMore, "{end}");
    }
    let whole = Progress::Complete { length: HEAD.len(), skip: 0 };
    assert_eq!(scan(HEAD, 4096), whole);
    assert_eq!(scan(&[HEAD, b"body \x00\n"].concat(), 4096), whole);
}

#[test]
fn a_dripped_head_gets_the_same_verdict_and_keeps_it() {
    let bytes = [b"\r\n", HEAD, b"POST"].concat();
    let mut scanner = HeadScanner::new(4096);
    for end in 0..bytes.len() {
        let expected = match end < HEAD.len() + 2 {
            true => Progress::NeedMore,
            false => Progress::Complete { length: HEAD.len() + 2, skip: 2 },
        };
        assert_eq!(scanner.advance(&bytes[..end]), expected, "{end}");
    }
}

#[test]
fn a_refusal_is_final() {
    let mut scanner = HeadScanner::new(4096);
    let first = scanner.advance(b"GET / HTTP/1.1\n");
    assert!(matches!(first, Progress::Refused(_)));
    assert_eq!(scanner.advance(b"GET / HTTP/1.1\nHost: a\r\n\r\n"), first);
}

#[test]
fn one_empty_line_before_the_request_is_dropped_and_a_second_refused() {
    assert_eq!(scan(b"\r\nGET / HTTP/1.0\r\n\r\n", 99), Progress::Complete { length: 20, skip: 2 });
    let second = (Cause::MalformedRequestLine, "more than one empty line before the request line");
    assert_eq!(refused(b"\r\n\r"), second);
    assert_eq!(refused(b"\rG"), (Cause::MalformedRequestLine, "bare CR"));
    assert_eq!(refused(b"\n"), (Cause::MalformedRequestLine, "bare LF before the request line"));
}

#[test]
fn the_first_impossible_byte_is_refused_at_once() {
    use Cause::{MalformedHeader, MalformedRequestLine, UnsupportedMethod};
    let start = b"GET / HTTP/1.1\r\nHost: a\r\n";
    let table: &[(&[u8], bool, Cause, &str)] = &[
        (b"\x16\x03", false, MalformedRequestLine, "TLS"),
        (b"\0", false, MalformedRequestLine, "first byte"),
        (b" ", false, MalformedRequestLine, "first byte"),
        (b"(", false, MalformedRequestLine, "first byte"),
        (b"\xef\xbb\xbfGET", false, MalformedRequestLine, "first byte"),
        (b"GE\tT", false, MalformedRequestLine, "method"),
        (b"GET\r", false, MalformedRequestLine, "method"),
        (b"GET\n", false, MalformedRequestLine, "method"),
        (b"GET/", false, MalformedRequestLine, "method"),
        (b"PUT / \0", false, MalformedRequestLine, "control"),
        (b"PUT /\x7f", false, MalformedRequestLine, "control"),
        (b"PUT / HTTP/1.1\n", false, MalformedRequestLine, "bare LF"),
        (b"PUT / HTTP/1.1\r\r", false, MalformedRequestLine, "bare CR"),
        (b"PUT / HTTP/1.1\rX", false, MalformedRequestLine, "bare CR"),
        (b"ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFG", false, UnsupportedMethod, "longer"),
        (b" folded", true, MalformedHeader, "obs-fold"),
        (b"\tfolded", true, MalformedHeader, "obs-fold"),
        (b"\n", true, MalformedHeader, "bare LF"),
        (b":", true, MalformedHeader, "without a name"),
        (b"\0", true, MalformedHeader, "token"),
        (b"A :", true, MalformedHeader, "between"),
        (b"A\t:", true, MalformedHeader, "between"),
        (b"A\r", true, MalformedHeader, "without a colon"),
        (b"A\n", true, MalformedHeader, "without a colon"),
        (b"A\x00", true, MalformedHeader, "token"),
        (b"A\xff", true, MalformedHeader, "token"),
        (b"A(", true, MalformedHeader, "token"),
        (b"A: b\n", true, MalformedHeader, "bare LF"),
        (b"A: b\rc", true, MalformedHeader, "bare CR"),
        (b"A: b\r\r", true, MalformedHeader, "bare CR"),
        (b"A: \0", true, MalformedHeader, "NUL"),
        (b"A: \x0b", true, MalformedHeader, "control"),
        (b"A: \x0c", true, MalformedHeader, "control"),
        (b"A: \x7f", true, MalformedHeader, "control"),
        (b"A: \x1b[0m", true, MalformedHeader, "control"),
        (b"\r\r", true, MalformedHeader, "bare CR"),
        (b"\rX", true, MalformedHeader, "bare CR"),
    ];
    for (bytes, in_fields, cause, evidence) in table {
        let bytes = if *in_fields { [start, *bytes].concat() } else { bytes.to_vec() };
        let (found, why) = refused(&bytes);
        assert_eq!(found, *cause, "{}", bytes.escape_ascii());
        assert!(why.contains(evidence), "{} for {}", why, bytes.escape_ascii());
    }
}

#[test]
fn a_head_of_exactly_the_limit_passes_and_one_byte_more_does_not() {
    assert_eq!(scan(HEAD, HEAD.len()), Progress::Complete { length: HEAD.len(), skip: 0 });
    let Progress::Refused(refusal) = scan(HEAD, HEAD.len() - 1) else { panic!("accepted") };
    assert_eq!(refusal.cause, Cause::HeaderTooLarge);
}

#[test]
fn a_request_line_without_end_is_a_long_uri_and_fields_without_end_a_large_head() {
    let line_end = HEAD.iter().position(|byte| *byte == b'\n').unwrap();
    for max in 1..HEAD.len() {
        let expected = if max <= line_end { Cause::UriTooLong } else { Cause::HeaderTooLarge };
        for shown in [&HEAD[..max], HEAD] {
            let Progress::Refused(refusal) = scan(shown, max) else { panic!("accepted at {max}") };
            assert_eq!(refusal.cause, expected, "{max}");
        }
    }
}

#[test]
fn the_257th_field_is_one_too_many() {
    let head = |fields: usize| [b"GET / HTTP/1.1\r\n".to_vec(), b"A: b\r\n".repeat(fields), b"\r\n".to_vec()];
    assert!(matches!(scan(&head(256).concat(), 9999), Progress::Complete { .. }));
    let Progress::Refused(refusal) = scan(&head(257).concat(), 9999) else { panic!("accepted") };
    assert_eq!(refusal.cause, Cause::HeaderTooLarge);
}

#[test]
fn a_connection_that_said_nothing_is_told_from_one_that_began_a_request() {
    let mut scanner = HeadScanner::new(99);
    assert!(scanner.is_untouched());
    scanner.advance(b"\r\n");
    assert!(scanner.is_untouched());
    scanner.advance(b"\r\nG");
    assert!(!scanner.is_untouched());
}
