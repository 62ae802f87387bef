//! Complete request header sections with the cause of their rejection, starting with request smuggling.

use super::super::request_scanner::{RequestScanner, ScanProgress};
use super::*;

/// The expected framing, or the cause of the rejection.
type FramingResult = Result<RequestFraming, Cause>;

/// The result of the scanner followed by the parser. The parser alone must reject the same requests.
fn framing_of(version: &str, fields: &str) -> FramingResult {
    let head = format!("POST / {version}\r\nHost: a\r\n{fields}\r\n");
    let parsed = parse(head.as_bytes());
    let result = match RequestScanner::new(4096).advance(head.as_bytes()) {
        ScanProgress::Rejected(rejection) => Err(rejection.cause),
        ScanProgress::Complete { length, .. } => parse(&head.as_bytes()[..length])
            .map(|parsed| parsed.framing)
            .map_err(|rejection| rejection.cause),
        ScanProgress::NeedMore => panic!("{fields:?} is incomplete"),
    };
    assert_eq!(parsed.is_err(), result.is_err(), "{fields:?}");
    result
}

fn rejection_cause(head: &[u8]) -> Cause {
    match parse(head) {
        Ok(facts) => panic!("{} was accepted: {facts:?}", head.escape_ascii()),
        Err(rejection) => rejection.cause,
    }
}

fn line_cause(line: &str) -> Cause {
    rejection_cause(format!("{line}\r\nHost: a\r\n\r\n").as_bytes())
}

fn fields_cause(fields: &str) -> Cause {
    rejection_cause(format!("GET / HTTP/1.1\r\n{fields}\r\n").as_bytes())
}

#[test]
fn ambiguous_body_length_is_rejected() {
    const AMBIGUOUS: FramingResult = Err(Cause::AmbiguousFraming);
    const MALFORMED: FramingResult = Err(Cause::MalformedHeader);
    let table: &[(&str, FramingResult)] = &[
        // Unambiguous lengths.
        ("", Ok(RequestFraming::None)),
        ("Content-Length: 0\r\n", Ok(RequestFraming::Length(0))),
        ("content-LENGTH:5\r\n", Ok(RequestFraming::Length(5))),
        ("Content-Length: \t 5 \t\r\n", Ok(RequestFraming::Length(5))),
        ("Content-Length: 0005\r\n", Ok(RequestFraming::Length(5))),
        ("Content-Length: 9223372036854775807\r\n", Ok(RequestFraming::Length(9_223_372_036_854_775_807))),
        ("Transfer-Encoding: chunked\r\n", Ok(RequestFraming::Chunked)),
        ("transfer-encoding:CHUNKED\r\n", Ok(RequestFraming::Chunked)),
        ("Transfer-Encoding: \tchunked \t\r\n", Ok(RequestFraming::Chunked)),
        ("X-Transfer-Encoding: gzip\r\nX-Content-Length: x\r\n", Ok(RequestFraming::None)),
        // Content-Length and Transfer-Encoding.
        ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", AMBIGUOUS),
        ("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", AMBIGUOUS),
        ("Transfer-Encoding: chunked\r\nContent-Length: 0\r\n", AMBIGUOUS),
        ("TRANSFER-ENCODING: CHUNKED\r\nA: b\r\nCONTENT-LENGTH: 4\r\n", AMBIGUOUS),
        ("Content-Length: x\r\nTransfer-Encoding: chunked\r\n", AMBIGUOUS),
        ("Content-Length: 5\r\nTransfer-Encoding: identity\r\n", AMBIGUOUS),
        // Repeated lengths.
        ("Content-Length: 5\r\nContent-Length: 5\r\n", AMBIGUOUS),
        ("Content-Length: 5\r\nContent-Length: 6\r\n", AMBIGUOUS),
        ("Content-Length: 0\r\nA: b\r\ncontent-length: 30\r\n", AMBIGUOUS),
        ("Content-Length: 5, 5\r\n", AMBIGUOUS),
        ("Content-Length: 5,6\r\n", AMBIGUOUS),
        ("Content-Length: ,5\r\n", AMBIGUOUS),
        ("Content-Length: 5,\r\n", AMBIGUOUS),
        // Lengths that only some parsers accept.
        ("Content-Length:\r\n", AMBIGUOUS),
        ("Content-Length: \t\r\n", AMBIGUOUS),
        ("Content-Length: +5\r\n", AMBIGUOUS),
        ("Content-Length: -5\r\n", AMBIGUOUS),
        ("Content-Length: -0\r\n", AMBIGUOUS),
        ("Content-Length: 0x5\r\n", AMBIGUOUS),
        ("Content-Length: 0o5\r\n", AMBIGUOUS),
        ("Content-Length: 5.0\r\n", AMBIGUOUS),
        ("Content-Length: 5e0\r\n", AMBIGUOUS),
        ("Content-Length: 5 5\r\n", AMBIGUOUS),
        ("Content-Length: 5;a\r\n", AMBIGUOUS),
        ("Content-Length: \"5\"\r\n", AMBIGUOUS),
        ("Content-Length: '5'\r\n", AMBIGUOUS),
        ("Content-Length: 1_000\r\n", AMBIGUOUS),
        ("Content-Length: 5a\r\n", AMBIGUOUS),
        ("Content-Length: NaN\r\n", AMBIGUOUS),
        ("Content-Length: \u{665}\r\n", AMBIGUOUS),
        ("Content-Length: \u{a0}5\r\n", AMBIGUOUS),
        ("Content-Length: 9223372036854775808\r\n", AMBIGUOUS),
        ("Content-Length: 18446744073709551615\r\n", AMBIGUOUS),
        ("Content-Length: 18446744073709551616\r\n", AMBIGUOUS),
        ("Content-Length: 18446744073709551621\r\n", AMBIGUOUS),
        ("Content-Length: 99999999999999999999999999\r\n", AMBIGUOUS),
        // Transfer codings other than chunked.
        ("Transfer-Encoding:\r\n", AMBIGUOUS),
        ("Transfer-Encoding: \r\n", AMBIGUOUS),
        ("Transfer-Encoding: identity\r\n", AMBIGUOUS),
        ("Transfer-Encoding: gzip\r\n", AMBIGUOUS),
        ("Transfer-Encoding: gzip, chunked\r\n", AMBIGUOUS),
        ("Transfer-Encoding: chunked, gzip\r\n", AMBIGUOUS),
        ("Transfer-Encoding: chunked, identity\r\n", AMBIGUOUS),
        ("Transfer-Encoding: identity, chunked\r\n", AMBIGUOUS),
        ("Transfer-Encoding: chunked, chunked\r\n", AMBIGUOUS),
        ("Transfer-Encoding: chunked,\r\n", AMBIGUOUS),
        ("Transfer-Encoding: ,chunked\r\n", AMBIGUOUS),
        ("Transfer-Encoding: chunked;q=1\r\n", AMBIGUOUS),
        ("Transfer-Encoding: chunked;\r\n", AMBIGUOUS),
        ("Transfer-Encoding: \"chunked\"\r\n", AMBIGUOUS),
        ("Transfer-Encoding: 'chunked'\r\n", AMBIGUOUS),
        ("Transfer-Encoding: xchunked\r\n", AMBIGUOUS),
        ("Transfer-Encoding: chunkedx\r\n", AMBIGUOUS),
        ("Transfer-Encoding: chun ked\r\n", AMBIGUOUS),
        ("Transfer-Encoding: chunk\r\n", AMBIGUOUS),
        ("Transfer-Encoding: cow\r\n", AMBIGUOUS),
        ("Transfer-Encoding: \u{a0}chunked\r\n", AMBIGUOUS),
        ("Transfer-Encoding: ch\u{fc}nked\r\n", AMBIGUOUS),
        // The Kelvin sign lower-cases to k in Unicode, but not in HTTP.
        ("Transfer-Encoding: chun\u{212a}ed\r\n", AMBIGUOUS),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", AMBIGUOUS),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", AMBIGUOUS),
        ("Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n", AMBIGUOUS),
        ("Transfer-Encoding: chunked\r\nTransfer-encoding: cow\r\n", AMBIGUOUS),
        // Names that CGI gateways treat as the framing fields.
        ("Transfer_Encoding: chunked\r\n", AMBIGUOUS),
        ("Content_Length: 5\r\n", AMBIGUOUS),
        ("Content-Length: 5\r\ncontent_length: 6\r\n", AMBIGUOUS),
        // Invalid field names.
        ("Transfer-Encoding : chunked\r\n", MALFORMED),
        ("Transfer-Encoding\t: chunked\r\n", MALFORMED),
        (" Transfer-Encoding: chunked\r\n", MALFORMED),
        ("\tTransfer-Encoding: chunked\r\n", MALFORMED),
        ("Transfer Encoding: chunked\r\n", MALFORMED),
        ("Transfer-Encoding\u{b}: chunked\r\n", MALFORMED),
        ("\u{b}Transfer-Encoding: chunked\r\n", MALFORMED),
        ("Transfer-Encoding\0: chunked\r\n", MALFORMED),
        ("\"Transfer-Encoding\": chunked\r\n", MALFORMED),
        ("Transfer-Encoding chunked\r\n", MALFORMED),
        ("Transfer-Encoding\r\n: chunked\r\n", MALFORMED),
        ("Content-Length : 5\r\n", MALFORMED),
        (" Content-Length: 5\r\n", MALFORMED),
        ("Content-Length\u{a0}: 5\r\n", MALFORMED),
        // Values with folded lines, control bytes, or invalid line ends.
        ("Transfer-Encoding:\r\n chunked\r\n", MALFORMED),
        ("Transfer-Encoding: x\r\n\tchunked\r\n", MALFORMED),
        ("Transfer-Encoding:\u{b}chunked\r\n", MALFORMED),
        ("Transfer-Encoding: \u{c}chunked\r\n", MALFORMED),
        ("Transfer-Encoding: chunked\u{b}\r\n", MALFORMED),
        ("Transfer-Encoding: chunked\0\r\n", MALFORMED),
        ("Transfer-Encoding: chunked\u{7f}\r\n", MALFORMED),
        ("Transfer-Encoding: chunked\n", MALFORMED),
        ("Transfer-Encoding: chunked\r", MALFORMED),
        ("X: a\nTransfer-Encoding: chunked\r\n", MALFORMED),
        ("X: a\rTransfer-Encoding: chunked\r\n", MALFORMED),
        ("X: a\r\r\nTransfer-Encoding: chunked\r\n", MALFORMED),
        ("X: a\n\r\nTransfer-Encoding: chunked\r\n", MALFORMED),
        ("Content-Length: 5\n", MALFORMED),
        ("Content-Length: 5\0\r\n", MALFORMED),
        ("Content-Length: 5\r\n 0\r\n", MALFORMED),
        ("Content-Length: 5\u{b}\r\n", MALFORMED),
        // Connection options that would remove framing fields.
        ("Connection: Content-Length\r\nContent-Length: 5\r\n", MALFORMED),
        ("Connection: close, transfer-encoding\r\nTransfer-Encoding: chunked\r\n", MALFORMED),
    ];
    assert!(table.len() > 100);
    for (fields, expected) in table {
        assert_eq!(framing_of("HTTP/1.1", fields), *expected, "{fields:?}");
    }
}

#[test]
fn http_1_0_rejects_chunked() {
    let chunked = "Transfer-Encoding: chunked\r\n";
    assert_eq!(framing_of("HTTP/1.0", chunked), Err(Cause::AmbiguousFraming));
    assert_eq!(framing_of("HTTP/1.0", "Content-Length: 5\r\n"), Ok(RequestFraming::Length(5)));
}

#[test]
fn request_line_needs_three_parts_and_single_spaces() {
    for line in [
        "",
        "GET",
        "GET /",
        "GET / ",
        " GET / HTTP/1.1",
        "GET  / HTTP/1.1",
        "GET /  HTTP/1.1",
        "GET / HTTP/1.1 ",
        "GET /a b HTTP/1.1",
        "GET\t/\tHTTP/1.1",
        "GET / HTTP/1.1\t",
        "GET HTTP/1.1",
        "GET / HTTPS/1.1",
        "GET / HTTP",
        "GET / HTTP/",
        "GET / HTTP/1",
        "GET / HTTP/1.",
        "GET / HTTP/1.1.1",
        "GET / HTTP/11",
        "GET / HTTP/1.10",
        "GET / HTTP/x.y",
        "GET / 1.1",
        "GET / HTTP /1.1",
        "G\u{e9}T / HTTP/1.1",
        "GET/ / HTTP/1.1",
        "(GET) / HTTP/1.1",
        "GET / HTTP/1,1",
        "GET / http/1.1",
        "GET / Http/1.0",
        "GET / http/2.0",
        "GET /\u{b}HTTP/1.1",
    ] {
        assert_eq!(line_cause(line), Cause::MalformedRequestLine, "{line:?}");
    }
}

#[test]
fn other_versions_are_unsupported() {
    for version in ["HTTP/0.9", "HTTP/2.1", "HTTP/2.0", "HTTP/2", "HTTP/3", "HTTP/9.9"] {
        assert_eq!(line_cause(&format!("GET / {version}")), Cause::UnsupportedVersion, "{version}");
    }
    assert_eq!(rejection_cause(b"PRI * HTTP/2.0\r\n\r\n"), Cause::UnsupportedVersion);
}

#[test]
fn higher_minor_versions_are_read_as_http_1_1() {
    for minor in 1..=9 {
        let version = format!("HTTP/1.{minor}");
        let head = format!("GET / {version}\r\nHost: a\r\n\r\n");
        let facts = parse(head.as_bytes()).unwrap();
        assert_eq!((facts.version, facts.keep_alive), (Version::Http11, true), "{version}");
        assert_eq!(framing_of(&version, "Transfer-Encoding: chunked\r\n"), Ok(RequestFraming::Chunked));
        assert_eq!(rejection_cause(format!("GET / {version}\r\n\r\n").as_bytes()), Cause::InvalidHost);
    }
}

#[test]
fn authorities_that_differ_only_in_the_default_port_are_equal() {
    for (target, host) in [
        ("http://a:80/x", "a"),
        ("http://a/x", "a:80"),
        ("HTTP://A:80/x", "a"),
        ("http://a:/x", "a"),
        ("http://a:080/x", "a"),
        ("https://a:443/x", "a"),
        ("https://a/x", "a:443"),
        ("http://[::1]:80/x", "[::1]"),
        ("http://a:8080/x", "a:8080"),
    ] {
        let head = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        let facts = parse(head.as_bytes()).unwrap();
        assert_eq!(facts.authority(head.as_bytes()), host.as_bytes(), "{target} {host}");
    }
    for (target, host) in [
        ("http://a:443/x", "a"),
        ("https://a:80/x", "a"),
        ("https://a/x", "a:80"),
        ("http://a:81/x", "a:80"),
        ("http://a:80/x", "b"),
        ("http://a.:80/x", "a"),
        ("http://[::1]:80/x", "[::2]"),
    ] {
        let head = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        assert_eq!(rejection_cause(head.as_bytes()), Cause::InvalidHost, "{target} {host}");
    }
}

#[test]
fn connect_and_trace_are_unsupported_methods() {
    for method in ["CONNECT", "TRACE", "connect", "Trace", "ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFG"] {
        assert_eq!(line_cause(&format!("{method} / HTTP/1.1")), Cause::UnsupportedMethod, "{method}");
    }
    assert_eq!(line_cause("CONNECT example.com:443 HTTP/1.1"), Cause::UnsupportedMethod);
    for method in ["GET", "PATCH", "PROPFIND", "get", "M-SEARCH", "!#$%&'*+-.^_`|~09az"] {
        let head = format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(parse(head.as_bytes()).unwrap().method.as_str(), method);
    }
}

#[test]
fn target_must_have_one_of_three_forms() {
    for (line, expected) in [
        ("GET example.com:80 HTTP/1.1", Cause::MalformedRequestLine),
        ("GET * HTTP/1.1", Cause::MalformedRequestLine),
        ("OPTIONS ** HTTP/1.1", Cause::MalformedRequestLine),
        ("OPTIONS *?a HTTP/1.1", Cause::MalformedRequestLine),
        ("GET a HTTP/1.1", Cause::MalformedRequestLine),
        ("GET ?a HTTP/1.1", Cause::MalformedRequestLine),
        ("GET ftp://a/ HTTP/1.1", Cause::MalformedRequestLine),
        ("GET ws://a/ HTTP/1.1", Cause::MalformedRequestLine),
        ("GET http:/a HTTP/1.1", Cause::MalformedRequestLine),
        ("GET http:a HTTP/1.1", Cause::MalformedRequestLine),
        ("GET http:\\\\a/ HTTP/1.1", Cause::MalformedRequestLine),
        ("GET /#a HTTP/1.1", Cause::MalformedRequestLine),
        ("GET http://a/#b HTTP/1.1", Cause::MalformedRequestLine),
        ("GET http://a#b HTTP/1.1", Cause::MalformedRequestLine),
        ("GET /<script> HTTP/1.1", Cause::MalformedRequestLine),
        ("GET /\" HTTP/1.1", Cause::MalformedRequestLine),
        ("GET http:///a HTTP/1.1", Cause::InvalidHost),
        ("GET http:// HTTP/1.1", Cause::InvalidHost),
        ("GET http://u@a/ HTTP/1.1", Cause::InvalidHost),
        ("GET http://u:p@a/ HTTP/1.1", Cause::InvalidHost),
        ("GET http://a\\b/ HTTP/1.1", Cause::InvalidHost),
        ("GET http://b/ HTTP/1.1", Cause::InvalidHost),
        ("GET http://a:81/ HTTP/1.1", Cause::InvalidHost),
        ("GET /a\\b HTTP/1.1", Cause::AmbiguousPath),
        ("GET http://a/%00 HTTP/1.1", Cause::AmbiguousPath),
        ("GET /% HTTP/1.1", Cause::AmbiguousPath),
    ] {
        assert_eq!(line_cause(line), expected, "{line}");
    }
}

#[test]
fn target_parts_are_found_in_every_form() {
    for (line, target, path, origin, authority) in [
        ("GET /a/b?c=d", "/a/b?c=d", "/a/b", "/a/b?c=d", "a"),
        ("GET //x", "//x", "//x", "//x", "a"),
        ("OPTIONS *", "*", "*", "*", "a"),
        ("OPTIONS http://a", "", "/", "*", "a"),
        ("GET http://a", "", "/", "/", "a"),
        ("GET HTTP://A/b?c", "/b?c", "/b", "/b?c", "a"),
        ("GET https://a?b", "?b", "/", "/?b", "a"),
        ("GET http://a/", "/", "/", "/", "a"),
    ] {
        let head = format!("{line} HTTP/1.1\r\nX: y\r\nhost: \t a \r\n\r\n");
        let head = head.as_bytes();
        let facts = parse(head).unwrap();
        assert_eq!(&head[facts.target.clone()], target.as_bytes(), "{line}");
        assert_eq!(facts.path(head), path.as_bytes(), "{line}");
        assert_eq!(&*facts.origin_form(head), origin.as_bytes(), "{line}");
        assert_eq!(facts.authority(head), authority.as_bytes(), "{line}");
        assert_eq!(facts.absolute_form, line.to_ascii_lowercase().contains("http"), "{line}");
        assert_eq!(facts.field_count, 2);
    }
}

#[test]
fn dot_segments_are_reported_not_rejected() {
    let head = b"GET /a/..;/b HTTP/1.1\r\nHost: a\r\n\r\n";
    assert_eq!(parse(head).unwrap().ambiguity, Some(Ambiguity::DotSegments));
    assert_eq!(parse(b"GET /a?/../b HTTP/1.1\r\nHost: a\r\n\r\n").unwrap().ambiguity, None);
}

#[test]
fn host_must_be_present_once_and_valid() {
    for fields in [
        "",
        "Host:\r\n",
        "Host: \t\r\n",
        "Host: a\r\nHost: a\r\n",
        "Host: a\r\nhost: b\r\n",
        "Host: a b\r\n",
        "Host: a, b\r\n",
        "Host: u@a\r\n",
        "Host: a/b\r\n",
        "Host: a:x\r\n",
        "Host: [::1\r\n",
        "Host: \u{e9}\r\n",
        "X-Host: a\r\n",
        "Host: http://a\r\n",
    ] {
        assert_eq!(fields_cause(fields), Cause::InvalidHost, "{fields:?}");
    }
    assert_eq!(fields_cause("Host : a\r\n"), Cause::MalformedHeader);
    assert_eq!(rejection_cause(b"GET http://a/ HTTP/1.1\r\n\r\n"), Cause::InvalidHost);
    assert_eq!(rejection_cause(b"GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n"), Cause::InvalidHost);
    assert_eq!(rejection_cause(b"GET / HTTP/1.0\r\nHost:\r\n\r\n"), Cause::InvalidHost);
}

#[test]
fn http_1_0_may_omit_host() {
    let head = b"GET / HTTP/1.0\r\n\r\n";
    let facts = parse(head).unwrap();
    assert_eq!((facts.version, facts.authority.clone()), (Version::Http10, None));
    assert_eq!(facts.authority(head), b"");
    let head = b"GET http://a:8/x HTTP/1.0\r\n\r\n";
    assert_eq!(parse(head).unwrap().authority(head), b"a:8");
}

#[test]
fn expect_accepts_only_100_continue() {
    for fields in
        ["Expect: x\r\n", "Expect:\r\n", "Expect: 100-continue, x\r\n", "Expect: 100-continue;a\r\n"]
    {
        assert_eq!(
            fields_cause(&format!("Host: a\r\n{fields}")),
            Cause::UnsupportedExpectation,
            "{fields:?}"
        );
    }
    assert_eq!(
        fields_cause("Host: a\r\nExpect: 100-continue\r\nExpect: 100-continue\r\n"),
        Cause::UnsupportedExpectation
    );
    let expects_continue = |version: &str, fields: &str| {
        let head = format!("PUT / {version}\r\nHost: a\r\nexpect: 100-Continue\r\n{fields}\r\n");
        parse(head.as_bytes()).unwrap().expect_continue
    };
    assert!(expects_continue("HTTP/1.1", "Content-Length: 5\r\n"));
    assert!(expects_continue("HTTP/1.1", "Transfer-Encoding: chunked\r\n"));
    assert!(!expects_continue("HTTP/1.1", ""));
    assert!(!expects_continue("HTTP/1.1", "Content-Length: 0\r\n"));
    assert!(!expects_continue("HTTP/1.0", "Content-Length: 5\r\n"));
}

#[test]
fn connection_header_decides_keep_alive() {
    for (version, fields, keep_alive) in [
        ("HTTP/1.1", "", true),
        ("HTTP/1.1", "Connection: close\r\n", false),
        ("HTTP/1.1", "Connection: keep-alive\r\n", true),
        ("HTTP/1.1", "Connection: keep-alive, Close\r\n", false),
        ("HTTP/1.1", "Connection: TE\r\nConnection: ,close,\r\n", false),
        ("HTTP/1.1", "Connection:\r\n", true),
        ("HTTP/1.0", "", false),
        ("HTTP/1.0", "Connection: Keep-Alive\r\n", true),
        ("HTTP/1.0", "Connection: keep-alive, close\r\n", false),
    ] {
        let head = format!("GET / {version}\r\nHost: a\r\n{fields}\r\n");
        assert_eq!(parse(head.as_bytes()).unwrap().keep_alive, keep_alive, "{version} {fields:?}");
    }
}

#[test]
fn connection_cannot_name_protected_headers() {
    for value in [
        "Host",
        "content-length",
        "Authorization",
        "X-Forwarded-For",
        "close, x-forwarded-proto",
        "Transfer-Encoding",
        "a b",
        "\"close\"",
        "close;q=1",
        "close/",
    ] {
        let fields = format!("Host: a\r\nConnection: {value}\r\n");
        assert_eq!(fields_cause(&fields), Cause::MalformedHeader, "{value}");
    }
    let many = ["x"; 1000].join(",");
    for value in ["Forwarded", "cookie, via", "X-Real-Ip", &many] {
        let head = format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: {value}\r\nConnection: {value}\r\n\r\n");
        assert!(parse(head.as_bytes()).unwrap().has_connection_options, "{value}");
    }
}

#[test]
fn request_head_must_be_complete_and_exact() {
    let head = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    assert!(parse(head).is_ok());
    for end in 0..head.len() {
        let expected = if end < 16 { Cause::MalformedRequestLine } else { Cause::MalformedHeader };
        assert_eq!(rejection_cause(&head[..end]), expected, "{end}");
    }
    assert_eq!(rejection_cause(b"GET / HTTP/1.1\r\nHost: a\r\n\r\nX"), Cause::MalformedHeader);
    assert_eq!(rejection_cause(b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"), Cause::MalformedRequestLine);
}

#[test]
fn number_of_fields_is_not_limited() {
    let head = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "A:\r\n".repeat(5000));
    assert_eq!(parse(head.as_bytes()).unwrap().field_count, 5001);
}

/// The framing of a rejected request: that of the body, `true` if the client keeps the connection.
fn rejected_framing(head: &str) -> Option<(RequestFraming, bool)> {
    let rejected = parse_with_framing(head.as_bytes()).unwrap_err();
    assert_eq!(Err(rejected.rejection), parse(head.as_bytes()), "{head:?}");
    rejected.framing.map(|known| (known.framing, known.keep_alive))
}

#[test]
fn framing_of_a_rejected_request_is_known_if_only_its_meaning_is_invalid() {
    for line in ["GET /a\\b", "GET /%00", "GET /%zz", "TRACE /", "GET /<x>", "GET x", "GET *", "GET http:///"]
    {
        let head = format!("{line} HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(rejected_framing(&head), Some((RequestFraming::None, true)), "{line}");
    }
    for fields in [
        "Host: a\r\nExpect: x\r\n",
        "",
        "Host: a\r\nHost: a\r\n",
        "Host: a/b\r\n",
        "Host: b\r\n",
        "Host: a\r\nConnection: authorization\r\n",
        "Host: a\r\nConnection: host, x-forwarded-for\r\n",
        "Host: a\r\nConnection: a b\r\n",
    ] {
        let head = format!("POST http://a/ HTTP/1.1\r\n{fields}Content-Length: 3\r\n\r\n");
        assert_eq!(rejected_framing(&head), Some((RequestFraming::Length(3), true)), "{fields:?}");
        let head = format!("POST http://a/ HTTP/1.1\r\n{fields}Transfer-Encoding: chunked\r\n\r\n");
        assert_eq!(rejected_framing(&head), Some((RequestFraming::Chunked, true)), "{fields:?}");
        let head = format!("POST http://a/ HTTP/1.1\r\n{fields}Connection: close\r\n\r\n");
        assert_eq!(rejected_framing(&head), Some((RequestFraming::None, false)), "{fields:?}");
    }
    assert_eq!(rejected_framing("GET /%00 HTTP/1.0\r\n\r\n"), Some((RequestFraming::None, false)));
    // A client that waits for a 100 may never send the body.
    let head = b"POST / HTTP/1.1\r\nHost: a\r\nExpect: x\r\nContent-Length: 3\r\n\r\n";
    let known = parse_with_framing(head).unwrap_err().framing.unwrap();
    assert!(known.expect_continue);
}

#[test]
fn framing_of_a_rejected_request_is_unknown_if_readers_could_disagree_about_its_end() {
    for head in [
        "GET /%00 http/1.1\r\nHost: a\r\n\r\n",
        "GET /%00  HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/2.0\r\nHost: a\r\n\r\n",
        "(GET) / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /%00 HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\n",
        "GET /%00 HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "GET /%00 HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nConnection: content-length\r\nContent-Length: 1\r\n\r\n",
        "POST / HTTP/1.1\r\nExpect: x\r\nConnection: transfer-encoding\r\n\r\n",
        "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
        // What follows may be meant for a tunnel.
        "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n",
        "connect / HTTP/1.1\r\nHost: a\r\n\r\n",
    ] {
        assert_eq!(rejected_framing(head), None, "{head:?}");
    }
}
