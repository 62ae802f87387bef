//! Properties for arbitrary bytes: no panic, results independent of how the bytes are split, and identical results from
//! this parser and the codec's parser.
//!
//! Requests are generated from fragments that attackers use, so that most are almost valid; some are random bytes.

use http::Method;
use proptest::prelude::*;

use super::request_head::{self, RequestHead, Version};
use super::request_scanner::{RequestScanner, ScanProgress};
use super::response_head;

const REQUEST_LINES: &[&str] = &[
    "GET / HTTP/1.1",
    "POST /a/../b?c HTTP/1.1",
    "GET http://a/b HTTP/1.1",
    "OPTIONS * HTTP/1.1",
    "GET / HTTP/1.0",
    "GET  / HTTP/1.1",
    "GET / HTTP/1.2",
    "GET /?filter={\"a\":<1>} HTTP/1.1",
    "GET /?\u{e9}\"`| HTTP/1.9",
    "GET /a%5Cb%0a?%5c HTTP/1.1",
    "GET http://a:80/b HTTP/1.1",
    "GET https://A:443/b HTTP/1.1",
    "get /%61 HTTP/1.1",
    "GET /\u{e9}|^ HTTP/1.1",
    "TRACE / HTTP/1.1",
    "GET http://a?q HTTP/1.1",
    "GET /a#b HTTP/1.1",
    "GET /a`b HTTP/1.1",
    "GET /?` HTTP/1.1",
    "X-Y.~ / HTTP/1.1",
    "GET /{\"a\"} HTTP/1.1",
    "GET /a;b HTTP/1.1",
    "\r\nGET / HTTP/1.1",
    "\nGET / HTTP/1.1",
    "\r\n\r\n\nGET / HTTP/1.1",
    "\r\n GET / HTTP/1.1",
];

const FIELD_LINES: &[&str] = &[
    "Host: a",
    "host:\ta ",
    "Host: b",
    "Content-Length: 5",
    "content-length:0",
    "Content-Length: 5, 5",
    "Transfer-Encoding: chunked",
    "Transfer-Encoding: x",
    "Transfer-Encoding : chunked",
    " folded",
    "\tfolded",
    "A:",
    "A: \t",
    ": b",
    "A",
    "Connection: close",
    "Connection: host",
    "Expect: 100-continue",
    "A: \u{e9}\u{a0}",
    "A: b\u{0}",
    "A: b\rc",
    "A: b\nC: d",
    "A: \u{7f}",
    "A\u{b}: c",
    "!#$%&'*+-.^_`|~: 1",
    "\"A\": b",
    "Cookie: a=b; c=d",
];

const LINE_ENDS: &[&str] =
    &["\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\n", "\r", "\r\r\n", ""];

/// Valid or almost valid requests, with following bytes.
fn generated_requests() -> impl Strategy<Value = Vec<u8>> {
    let field = (prop::sample::select(FIELD_LINES), prop::sample::select(LINE_ENDS));
    let body = prop::sample::select(&["", "GET / HTTP/1.1\r\n\r\n", "\n", "5\r\nhello\r\n0\r\n\r\n"][..]);
    (
        prop::sample::select(REQUEST_LINES),
        prop::sample::select(LINE_ENDS),
        prop::collection::vec(field, 0..6),
        any::<bool>(),
        body,
    )
        .prop_map(|(line, end, fields, with_host, body)| {
            let mut head = format!("{line}{end}");
            if with_host {
                head.push_str("Host: a\r\n");
            }
            for (field, end) in fields {
                head.push_str(field);
                head.push_str(end);
            }
            head.push_str("\r\n");
            head.push_str(body);
            head.into_bytes()
        })
}

/// A valid request with some bytes replaced.
fn mutated_request() -> impl Strategy<Value = Vec<u8>> {
    let change =
        (any::<prop::sample::Index>(), prop_oneof![any::<u8>(), prop::sample::select(&b"\r\n\t :%./"[..])]);
    prop::collection::vec(change, 0..4).prop_map(|changes| {
        let mut head =
            b"PUT /a/b%20c?d=e HTTP/1.1\r\nHost: example.com:80\r\nContent-Length: 12\r\nA:  b \r\n\r\n"
                .to_vec();
        for (at, byte) in changes {
            let at = at.index(head.len());
            head[at] = byte;
        }
        head
    })
}

fn any_request() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![4 => generated_requests(), 4 => mutated_request(), 1 => prop::collection::vec(any::<u8>(), 0..64)]
}

/// The header section and its parsed form, if both the scanner and the parser accept it.
fn accept(bytes: &[u8]) -> Option<(&[u8], RequestHead)> {
    match RequestScanner::new(4096).advance(bytes) {
        ScanProgress::Complete { length, skip } => {
            let head = &bytes[skip..length];
            request_head::parse(head).ok().map(|facts| (head, facts))
        }
        ScanProgress::NeedMore | ScanProgress::Rejected(_) => None,
    }
}

proptest! {
    // 4,096 cases by default: 16 times `PROPTEST_CASES` (256).
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases.saturating_mul(16)))]

    #[test]
    fn scanner_result_is_independent_of_splits(
        bytes in any_request(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        max in prop_oneof![Just(4096_usize), 0_usize..120],
    ) {
        let at_once = RequestScanner::new(max).advance(&bytes);
        let mut ends: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        ends.sort_unstable();
        ends.push(bytes.len());
        let mut scanner = RequestScanner::new(max);
        let mut last = ScanProgress::NeedMore;
        for end in ends {
            let next = scanner.advance(&bytes[..end]);
            prop_assert!(last == ScanProgress::NeedMore || last == next, "{last:?} became {next:?}");
            last = next;
        }
        prop_assert_eq!(last, at_once);
    }

    #[test]
    fn accepted_requests_parse_equally_in_httparse(bytes in any_request()) {
        let Some((head, facts)) = accept(&bytes) else { return Ok(()) };
        let mut fields = [httparse::EMPTY_HEADER; 256];
        let mut request = httparse::Request::new(&mut fields);
        let line_end = head.iter().position(|octet| *octet == b'\r').unwrap_or_default();
        // The codec requires queries of UTF-8, and knows no higher minor version. Neither ends a target or a line.
        let mut plain = head.to_vec();
        let target = facts.raw_target.clone();
        plain[target].iter_mut().filter(|octet| !octet.is_ascii()).for_each(|octet| *octet = b'x');
        if facts.version == Version::Http11 {
            plain[line_end - 1] = b'1';
        }
        let parsed = request.parse(&plain);
        prop_assert_eq!(parsed, Ok(httparse::Status::Complete(head.len())));
        prop_assert_eq!(request.method, Some(facts.method.as_str()));
        prop_assert_eq!(request.path.map(str::as_bytes), plain.get(facts.raw_target.clone()));
        prop_assert_eq!(request.version, Some(u8::from(facts.version == Version::Http11)));
        prop_assert_eq!(request.headers.len(), facts.field_count);
        if !facts.absolute_form {
            let host = request.headers.iter().find(|field| field.name.eq_ignore_ascii_case("host"));
            prop_assert_eq!(host.map(|field| field.value).unwrap_or_default(), facts.authority(head));
        }
        let origin = facts.origin_form(head);
        let carried = http::uri::PathAndQuery::try_from(&*origin).is_ok_and(|uri| uri.as_str().as_bytes() == &*origin);
        prop_assert_eq!(carried, facts.target_fits_http2);
    }

    #[test]
    fn scanner_accepts_what_the_parser_accepts(bytes in any_request()) {
        if request_head::parse(&bytes).is_ok() {
            let complete = ScanProgress::Complete { length: bytes.len(), skip: 0 };
            prop_assert_eq!(RequestScanner::new(4096).advance(&bytes), complete);
        }
    }

    #[test]
    fn accepted_responses_parse_equally_in_httparse(
        bytes in generated_requests().prop_map(|head| [b"HTTP/1.1 200 OK\r\n", &head[head.iter().position(|b| *b == b'\n').map_or(0, |at| at + 1)..]].concat()),
    ) {
        let Ok(facts) = response_head::parse(&bytes, &Method::GET) else { return Ok(()) };
        let mut fields = [httparse::EMPTY_HEADER; 256];
        let mut response = httparse::Response::new(&mut fields);
        prop_assert_eq!(response.parse(&bytes), Ok(httparse::Status::Complete(bytes.len())));
        prop_assert_eq!(response.code, Some(facts.status));
    }

    #[test]
    fn arbitrary_bytes_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..96)) {
        let _ = request_head::parse(&bytes);
        let _ = response_head::parse(&bytes, &Method::GET);
        let _ = super::target::check_path(&bytes);
        let _ = super::authority::check_authority(&bytes);
        let _ = super::authority::routing_host(&bytes);
        let _ = super::hop_by_hop::ConnectionOptions::from_values([&bytes[..]]);
        let _ = super::media_type::is_grpc(&bytes) || super::media_type::is_event_stream(&bytes);
    }
}

#[test]
fn generated_requests_mix_valid_and_invalid() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let mut accepted = 0;
    for _ in 0..1000 {
        let bytes = any_request().new_tree(&mut runner).unwrap().current();
        accepted += usize::from(accept(&bytes).is_some());
    }
    assert!((50..950).contains(&accepted), "{accepted} of 1000 were accepted");
}
