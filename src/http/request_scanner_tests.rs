//! Complete, split, slow, oversized and invalid header sections.

use super::*;

const HEAD: &[u8] = b"GET /a?b=c HTTP/1.1\r\nHost: example.com\r\nX: \ty\xff\r\nEmpty:\r\n\r\n";

fn scan(bytes: &[u8], max: usize) -> ScanProgress {
    RequestScanner::new(max).advance(bytes)
}

fn rejected_with(bytes: &[u8]) -> (Cause, &'static str) {
    match scan(bytes, 4096) {
        ScanProgress::Rejected(rejection) => (rejection.cause, rejection.evidence),
        other => panic!("{other:?} for {:?}", bytes.escape_ascii().to_string()),
    }
}

#[test]
fn request_completes_at_the_empty_line() {
    for end in 0..HEAD.len() {
        assert_eq!(scan(&HEAD[..end], 4096), ScanProgress::NeedMore, "{end}");
    }
    let complete = ScanProgress::Complete { length: HEAD.len(), skip: 0 };
    assert_eq!(scan(HEAD, 4096), complete);
    assert_eq!(scan(&[HEAD, b"body \x00\n"].concat(), 4096), complete);
}

#[test]
fn byte_by_byte_scan_gives_the_same_result() {
    let bytes = [b"\r\n", HEAD, b"POST"].concat();
    let mut scanner = RequestScanner::new(4096);
    for end in 0..bytes.len() {
        let expected = match end < HEAD.len() + 2 {
            true => ScanProgress::NeedMore,
            false => ScanProgress::Complete { length: HEAD.len() + 2, skip: 2 },
        };
        assert_eq!(scanner.advance(&bytes[..end]), expected, "{end}");
    }
}

#[test]
fn rejection_is_final() {
    let mut scanner = RequestScanner::new(4096);
    let first = scanner.advance(b"GET / HTTP/1.1\n");
    assert!(matches!(first, ScanProgress::Rejected(_)));
    assert_eq!(scanner.advance(b"GET / HTTP/1.1\nHost: a\r\n\r\n"), first);
}

#[test]
fn leading_run_of_cr_and_lf_is_skipped() {
    for blank in ["\r\n", "\n", "\r", "\r\n\r\n", "\n\n\r\n\r", "\r\r\n"] {
        let bytes = [blank.as_bytes(), b"GET / HTTP/1.0\r\n\r\n"].concat();
        let complete = ScanProgress::Complete { length: bytes.len(), skip: blank.len() };
        assert_eq!(scan(&bytes, 99), complete, "{blank:?}");
        let mut scanner = RequestScanner::new(99);
        for end in 0..bytes.len() {
            assert_eq!(scanner.advance(&bytes[..end]), ScanProgress::NeedMore, "{blank:?} {end}");
        }
        assert_eq!(scanner.advance(&bytes), complete, "{blank:?}");
    }
    for first in [" ", "\t", "\0", "\u{b}"] {
        let bytes = format!("\r\n{first}GET / HTTP/1.0\r\n\r\n");
        let expected = (Cause::MalformedRequestLine, "the first byte is not a token character");
        assert_eq!(rejected_with(bytes.as_bytes()), expected);
    }
}

#[test]
fn leading_run_counts_towards_the_limit() {
    let bytes = [b"\r\n".repeat(20), HEAD.to_vec()].concat();
    let complete = ScanProgress::Complete { length: bytes.len(), skip: 40 };
    assert_eq!(scan(&bytes, bytes.len()), complete);
    let ScanProgress::Rejected(rejection) = scan(&bytes, bytes.len() - 1) else { panic!("accepted") };
    assert_eq!(rejection.cause, Cause::HeaderTooLarge);
    let ScanProgress::Rejected(rejection) = scan(&b"\n".repeat(100), 100) else { panic!("accepted") };
    assert_eq!(rejection.cause, Cause::HeaderTooLarge);
    assert_eq!(scan(&b"\n".repeat(99), 100), ScanProgress::NeedMore);
}

#[test]
fn first_invalid_byte_is_rejected_immediately() {
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
        let (actual_cause, text) = rejected_with(&bytes);
        assert_eq!(actual_cause, *cause, "{}", bytes.escape_ascii());
        assert!(text.contains(evidence), "{} for {}", text, bytes.escape_ascii());
    }
}

#[test]
fn request_of_exactly_the_limit_is_accepted() {
    assert_eq!(scan(HEAD, HEAD.len()), ScanProgress::Complete { length: HEAD.len(), skip: 0 });
    let ScanProgress::Rejected(rejection) = scan(HEAD, HEAD.len() - 1) else { panic!("accepted") };
    assert_eq!(rejection.cause, Cause::HeaderTooLarge);
}

#[test]
fn oversized_line_is_uri_too_long_oversized_fields_header_too_large() {
    let line_end = HEAD.iter().position(|byte| *byte == b'\n').unwrap();
    for max in 1..HEAD.len() {
        let expected = if max <= line_end { Cause::UriTooLong } else { Cause::HeaderTooLarge };
        for input in [&HEAD[..max], HEAD] {
            let ScanProgress::Rejected(rejection) = scan(input, max) else { panic!("accepted at {max}") };
            assert_eq!(rejection.cause, expected, "{max}");
        }
    }
}

#[test]
fn number_of_fields_is_limited_only_by_their_size() {
    let head = [b"GET / HTTP/1.1\r\n".to_vec(), b"A:\r\n".repeat(5000), b"\r\n".to_vec()].concat();
    assert!(matches!(scan(&head, head.len()), ScanProgress::Complete { .. }));
    let ScanProgress::Rejected(rejection) = scan(&head, head.len() - 1) else { panic!("accepted") };
    assert_eq!(rejection.cause, Cause::HeaderTooLarge);
}

#[test]
fn scanner_is_idle_until_the_first_request_byte() {
    let mut scanner = RequestScanner::new(99);
    assert!(scanner.is_idle());
    scanner.advance(b"\r\n");
    assert!(scanner.is_idle());
    scanner.advance(b"\r\nG");
    assert!(!scanner.is_idle());
}
