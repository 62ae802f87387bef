//! What must hold for any bytes: no panic, no verdict that depends on how they were split, and no head that we and the
//! codec's parser read differently.
//!
//! Heads are made of fragments that attackers use, so that most are nearly right; plain random bytes come on top.

use http::Method;
use proptest::prelude::*;

use super::raw_head::{HeadScanner, Progress};
use super::request_head::{self, RequestFacts, Version};
use super::{MAX_FIELDS, response_head};

const LINES: &[&str] = &[
    "GET / HTTP/1.1",
    "POST /a/../b?c HTTP/1.1",
    "GET http://a/b HTTP/1.1",
    "OPTIONS * HTTP/1.1",
    "GET / HTTP/1.0",
    "GET  / HTTP/1.1",
    "GET / HTTP/1.2",
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
];

const FIELDS: &[&str] = &[
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

const ENDS: &[&str] =
    &["\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\n", "\r", "\r\r\n", ""];

/// Heads that are right or nearly right, and whatever follows them.
fn heads() -> impl Strategy<Value = Vec<u8>> {
    let field = (prop::sample::select(FIELDS), prop::sample::select(ENDS));
    let body = prop::sample::select(&["", "GET / HTTP/1.1\r\n\r\n", "\n", "5\r\nhello\r\n0\r\n\r\n"][..]);
    (
        prop::sample::select(LINES),
        prop::sample::select(ENDS),
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

/// A good head with some bytes replaced.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
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

fn anything() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![4 => heads(), 4 => damaged(), 1 => prop::collection::vec(any::<u8>(), 0..64)]
}

/// What the scanner lets through and the strict reading accepts.
fn accepted(bytes: &[u8]) -> Option<(&[u8], RequestFacts)> {
    match HeadScanner::new(4096).advance(bytes) {
        Progress::Complete { length, skip } => {
            let head = &bytes[skip..length];
            request_head::parse(head).ok().map(|facts| (head, facts))
        }
        Progress::NeedMore | Progress::Refused(_) => None,
    }
}

proptest! {
    // 4,096 of them; `PROPTEST_CASES`, 256 by default, makes it fewer or more.
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases.saturating_mul(16)))]

    #[test]
    fn a_verdict_does_not_depend_on_how_the_bytes_were_split(
        bytes in anything(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        max in prop_oneof![Just(4096_usize), 0_usize..120],
    ) {
        let whole = HeadScanner::new(max).advance(&bytes);
        let mut ends: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        ends.sort_unstable();
        ends.push(bytes.len());
        let mut scanner = HeadScanner::new(max);
        let mut last = Progress::NeedMore;
        for end in ends {
            let next = scanner.advance(&bytes[..end]);
            prop_assert!(last == Progress::NeedMore || last == next, "{last:?} became {next:?}");
            last = next;
        }
        prop_assert_eq!(last, whole);
    }

    #[test]
    fn what_is_accepted_is_read_alike_by_the_codec(bytes in anything()) {
        let Some((head, facts)) = accepted(&bytes) else { return Ok(()) };
        let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
        let mut request = httparse::Request::new(&mut fields);
        let parsed = request.parse(head);
        prop_assert_eq!(parsed, Ok(httparse::Status::Complete(head.len())));
        prop_assert_eq!(request.method, Some(facts.method.as_str()));
        prop_assert_eq!(request.path.map(str::as_bytes), head.get(facts.raw_target.clone()));
        prop_assert_eq!(request.version, Some(u8::from(facts.version == Version::Http11)));
        prop_assert_eq!(request.headers.len(), facts.fields);
        if !facts.absolute_form {
            let host = request.headers.iter().find(|field| field.name.eq_ignore_ascii_case("host"));
            prop_assert_eq!(host.map(|field| field.value).unwrap_or_default(), facts.authority(head));
        }
        let origin = facts.origin_form(head);
        prop_assert!(http::uri::PathAndQuery::try_from(&*origin).is_ok_and(|uri| uri.as_str().as_bytes() == &*origin));
    }

    #[test]
    fn what_the_strict_reading_accepts_the_scanner_lets_through(bytes in anything()) {
        if request_head::parse(&bytes).is_ok() {
            let whole = Progress::Complete { length: bytes.len(), skip: 0 };
            prop_assert_eq!(HeadScanner::new(4096).advance(&bytes), whole);
        }
    }

    #[test]
    fn an_accepted_response_head_is_read_alike_by_the_codec(
        bytes in heads().prop_map(|head| [b"HTTP/1.1 200 OK\r\n", &head[head.iter().position(|b| *b == b'\n').map_or(0, |at| at + 1)..]].concat()),
    ) {
        let Ok(facts) = response_head::check(&bytes, &Method::GET) else { return Ok(()) };
        let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
        let mut response = httparse::Response::new(&mut fields);
        prop_assert_eq!(response.parse(&bytes), Ok(httparse::Status::Complete(bytes.len())));
        prop_assert_eq!(response.code, Some(facts.status));
    }

    #[test]
    fn no_bytes_make_anything_panic(bytes in prop::collection::vec(any::<u8>(), 0..96)) {
        let _ = request_head::parse(&bytes);
        let _ = response_head::check(&bytes, &Method::GET);
        let _ = super::target::check_path(&bytes);
        let _ = super::authority::check_authority(&bytes);
        let _ = super::authority::routing_host(&bytes);
        let _ = super::hop::Nominated::from_values([&bytes[..]]);
        let _ = super::media::is_grpc(&bytes) || super::media::is_event_stream(&bytes);
    }
}

#[test]
fn the_generated_heads_are_neither_all_good_nor_all_bad() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let mut good = 0;
    for _ in 0..1000 {
        let bytes = anything().new_tree(&mut runner).unwrap().current();
        good += usize::from(accepted(&bytes).is_some());
    }
    assert!((50..950).contains(&good), "{good} of 1000 are accepted");
}
