//! Compares the whole header section that the upstream receives.
#![allow(clippy::unwrap_used)]

use http::HeaderName;

use super::super::added_request_fields::PeerTrust;
use super::super::request_h2;
use super::*;
use crate::http::header_edits::HeaderEdits;
use crate::http::path_pattern::PathPattern;
use crate::http::reported_origin::RequestOrigin;
use crate::http::value_template::ValueTemplate;

fn h1(request_head: impl Into<Bytes>) -> Request {
    let request_head = request_head.into();
    let parsed = request_head::parse(&request_head).unwrap();
    Request::from_h1(request_head, &parsed)
}

static FORWARDED_FOR: HeaderValue = HeaderValue::from_static("192.0.2.7");
static REQUEST_ID: HeaderValue = HeaderValue::from_static("0190aaaa-bbbb-7ccc-8ddd-eeeeeeeeeeee");

fn forwarding_info(request: &Request) -> ForwardingInfo<'_> {
    ForwardingInfo {
        target: &request.target,
        edits: None,
        forwarded_for: &FORWARDED_FOR,
        origin: RequestOrigin { scheme: "http", host: b"api.test:8080", port: 8080 },
        peer_trust: PeerTrust::Untrusted,
        request_id: &REQUEST_ID,
        host: &request.authority,
        upstream_tls: false,
        upgrade_offer: None,
        via: Some(b"1.1 statusquo-1"),
    }
}

fn header_section(request: &Request) -> String {
    let mut out = BytesMut::new();
    request.write_request_head(&mut out, &forwarding_info(request));
    String::from_utf8(out.to_vec()).unwrap()
}

const FORWARDED_HEADERS: &str = "X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: api.test:8080\r\n\
    X-Forwarded-Port: 8080\r\nX-Real-IP: 192.0.2.7\r\n\
    Forwarded: for=192.0.2.7;host=\"api.test:8080\";proto=http\r\n\
    X-Request-Id: 0190aaaa-bbbb-7ccc-8ddd-eeeeeeeeeeee\r\nVia: 1.1 statusquo-1\r\n";

#[test]
fn request_head_keeps_target_and_end_to_end_fields_only() {
    let request = h1(
        "POST //a/%61?x=%zz HTTP/1.1\r\nhost: api.test:8080\r\nAccept: */*\r\nConnection: close, x-hop\r\n\
         X-Hop: 1\r\nKeep-Alive: 5\r\nUpgrade: websocket\r\nTE: trailers\r\nX-Forwarded-For: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\n\
         X-Real-IP: 6.6.6.6\r\nX-Request-ID: mine\r\nContent-Length: 2\r\nExpect: 100-continue\r\nCookie: a=b\r\n\r\n",
    );
    assert_eq!(
        header_section(&request),
        format!(
            "POST //a/%61?x=%zz HTTP/1.1\r\nHost: api.test:8080\r\nAccept: */*\r\nCookie: a=b\r\n{FORWARDED_HEADERS}\
             Expect: 100-continue\r\nContent-Length: 2\r\n\r\n"
        )
    );
}

/// RFC 9110 8.6: servers may reject such a request with 411 otherwise.
#[test]
fn request_whose_method_expects_content_states_that_there_is_none() {
    for (method, states) in [
        ("POST", true),
        ("PUT", true),
        ("PATCH", true),
        ("GET", false),
        ("DELETE", false),
        ("OPTIONS", false),
    ] {
        let over_h1 = h1(format!("{method} / HTTP/1.1\r\nhost: api.test\r\n\r\n"));
        let head = http::Request::builder().method(method).uri("http://api.test/").body(()).unwrap();
        let over_h2 = Request::from_h2(&mut head.into_parts().0, true).unwrap();
        for request in [over_h1, over_h2] {
            let sent = header_section(&request);
            assert_eq!(sent.ends_with("\r\nContent-Length: 0\r\n\r\n"), states, "{sent}");
        }
    }
}

#[test]
fn absolute_target_is_sent_in_origin_form() {
    let request = h1("GET http://api.test:8080?q HTTP/1.1\r\nHost: api.test:8080\r\n\r\n");
    assert_eq!(
        header_section(&request),
        format!("GET /?q HTTP/1.1\r\nHost: api.test:8080\r\n{FORWARDED_HEADERS}\r\n")
    );
}

#[test]
fn absolute_target_without_path_becomes_slash_or_asterisk() {
    let get = h1("GET http://a HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(header_section(&get).starts_with("GET / HTTP/1.1\r\n"));
    let options = h1("OPTIONS http://a HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(header_section(&options).starts_with("OPTIONS * HTTP/1.1\r\n"));
}

#[test]
fn trace_context_is_forwarded_unchanged_and_never_invented() {
    let trace = "Traceparent: 00-1-2-01\r\ntracestate: a=b,c=d\r\nbaggage: x=y\r\n";
    let request = h1("GET / HTTP/1.1\r\nHost: api.test:8080\r\nTraceparent: 00-1-2-01\r\n\
        tracestate: a=b,c=d\r\nbaggage: x=y\r\n\r\n");
    assert!(header_section(&request).contains(trace));
    let without = h1("GET / HTTP/1.1\r\nHost: api.test:8080\r\n\r\n");
    assert!(!header_section(&without).contains("trace"));
}

#[test]
fn underscore_spellings_of_written_fields_are_removed() {
    let request = h1(
        "GET / HTTP/1.1\r\nHost: api.test:8080\r\nX_Forwarded_For: 6.6.6.6\r\nx-forwarded_proto: https\r\n\
        X_Forwarded-Host: a\r\nX_FORWARDED_PORT: 1\r\nx_real_ip: 6\r\nX_Real-IP: 6\r\nX_Request_Id: 6\r\n\
        X_Other: 1\r\n\r\n",
    );
    assert_eq!(
        header_section(&request),
        format!("GET / HTTP/1.1\r\nHost: api.test:8080\r\nX_Other: 1\r\n{FORWARDED_HEADERS}\r\n")
    );
}

#[test]
fn what_trusted_proxies_report_besides_the_written_fields_is_kept() {
    let fields = "X-Forwarded-Prefix: /a\r\nX-Forwarded-User: kim\r\n";
    let request = h1("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-Prefix: /a\r\nX-Forwarded-User: kim\r\n\
        X-Forwarded-For: 1.1.1.1\r\nForwarded: for=1.1.1.1\r\nVia: 1.1 b\r\n\r\n");
    let forwarded_for = HeaderValue::from_static("2001:db8::1, 192.0.2.7");
    let info = ForwardingInfo {
        target: &request.target,
        edits: None,
        host: b"c.internal",
        forwarded_for: &forwarded_for,
        origin: RequestOrigin { scheme: "https", host: b"a", port: 443 },
        peer_trust: PeerTrust::Trusted,
        request_id: &HeaderValue::from_static("abcdefgh"),
        upstream_tls: false,
        upgrade_offer: None,
        via: None,
    };
    let mut out = BytesMut::new();
    request.write_request_head(&mut out, &info);
    assert_eq!(
        String::from_utf8(out.to_vec()).unwrap(),
        format!(
            "GET / HTTP/1.1\r\nHost: c.internal\r\n{fields}X-Forwarded-For: 2001:db8::1, 192.0.2.7\r\n\
             X-Forwarded-Proto: https\r\nX-Forwarded-Host: a\r\nX-Forwarded-Port: 443\r\nX-Real-IP: 2001:db8::1\r\n\
             Forwarded: for=\"[2001:db8::1]\";host=a;proto=https, for=192.0.2.7\r\nX-Request-Id: abcdefgh\r\n\r\n"
        )
    );
}

/// Names of many lengths: the gateway recognises the fields that it withholds by theirs.
#[test]
fn route_removes_and_replaces_fields_of_every_name() {
    let names = [
        "dnt",
        "date",
        "from",
        "range",
        "accept",
        "cookie",
        "origin",
        "user-agent",
        "if-none-match",
        "authorization",
    ];
    for name in names {
        let request_head =
            format!("GET / HTTP/1.1\r\nHost: a\r\nx-other: 1\r\n{name}: theirs\r\n\r\n").into();
        let request =
            Request::from_h1(Bytes::clone(&request_head), &request_head::parse(&request_head).unwrap());
        for (edit, kept) in [("remove", None), ("set", Some("ours"))] {
            let value = ValueTemplate::parse("ours", &PathPattern::parse("/")).unwrap();
            let header_name = HeaderName::from_static(name);
            let edits = match edit {
                "remove" => HeaderEdits { remove: vec![header_name], ..HeaderEdits::default() },
                _ => HeaderEdits { set: vec![(header_name, value)], ..HeaderEdits::default() },
            };
            let edits = edits.render(|_| None);
            let forwarding_info = ForwardingInfo { edits: Some(&edits), ..forwarding_info(&request) };
            let mut out = BytesMut::new();
            request.write_request_head(&mut out, &forwarding_info);
            let head = String::from_utf8(out.to_vec()).unwrap();
            assert!(!head.contains("theirs"), "{name}: {head}");
            assert_eq!(head.contains(&format!("\r\n{name}: ours\r\n")), kept.is_some(), "{name}: {head}");
            let h2 = super::super::request_h2::request_head(&request, &forwarding_info).unwrap();
            assert_eq!(h2.headers().get(name).map(|value| value.to_str().unwrap()), kept, "{name} {edit}");
            assert!(head.contains("x-other: 1") && h2.headers().contains_key("x-other"));
        }
    }
}

#[test]
fn http2_request_gets_host_and_one_cookie_field() {
    let mut parts = http::Request::builder()
        .method("PUT")
        .uri("http://api.test:8080/x?y")
        .header("cookie", "a=b")
        .header("accept", "*/*")
        .header("cookie", "c=d")
        .body(())
        .unwrap()
        .into_parts()
        .0;
    let request = Request::from_h2(&mut parts, false).unwrap();
    assert_eq!(
        header_section(&request),
        format!(
            "PUT /x?y HTTP/1.1\r\nHost: api.test:8080\r\naccept: */*\r\ncookie: a=b; c=d\r\n{FORWARDED_HEADERS}\
             Transfer-Encoding: chunked\r\n\r\n"
        )
    );
}

#[test]
fn own_pseudonym_in_via_is_detected_as_a_loop() {
    let request =
        h1("GET / HTTP/1.1\r\nHost: a\r\nVia: 1.0 fred, 1.1 statusquo-1 (x)\r\nVia: 2 other\r\n\r\n");
    assert!(request.passed_through(b"statusquo-1"));
    assert!(!request.passed_through(b"statusquo-2"));
    for via in ["1.1  statusquo-1", "1.1\tstatusquo-1", "1.0 a,1.1 \t statusquo-1\t(x)"] {
        let request = h1(format!("GET / HTTP/1.1\r\nHost: a\r\nVia: {via}\r\n\r\n"));
        assert!(request.passed_through(b"statusquo-1"), "{via:?}");
    }
}

#[test]
fn fields_named_in_connection_are_removed_and_those_of_the_gateway_written() {
    let named = "Cookie, Origin, Via, X-Request-Id, Content-Type, Traceparent, Forwarded, X-Real-IP";
    let request = h1(format!(
        "GET /x HTTP/1.1\r\nHost: api.test\r\nConnection: {named}\r\nCookie: a\r\nOrigin: b\r\nVia: 1.1 c\r\n\
         X-Request-Id: d\r\nContent-Type: e\r\nTraceparent: f\r\nForwarded: for=g\r\nX-Real-IP: h\r\nX-I: i\r\n\r\n"
    ));
    assert_eq!(
        header_section(&request),
        format!("GET /x HTTP/1.1\r\nHost: api.test\r\nX-I: i\r\n{FORWARDED_HEADERS}\r\n")
    );
    let head = request_h2::request_head(&request, &forwarding_info(&request)).unwrap();
    for name in ["cookie", "origin", "content-type", "traceparent"] {
        assert!(!head.headers().contains_key(name), "{name}");
    }
    assert_eq!(head.headers().get_all("via").iter().count(), 1);
    assert_eq!(head.headers().get("x-i").unwrap(), "i");
}
