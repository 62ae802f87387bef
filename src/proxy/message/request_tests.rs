//! Compares the whole header section that the upstream receives.
#![allow(clippy::unwrap_used)]

use super::*;

fn h1(request_head: &'static str) -> Request {
    let request_head = Bytes::from_static(request_head.as_bytes());
    let parsed = request_head::parse(&request_head).unwrap();
    Request::from_h1(request_head, &parsed)
}

fn header_section(request: &Request) -> String {
    let forwarding_info = ForwardingInfo {
        forwarded_for: &HeaderValue::from_static("192.0.2.7"),
        proto: "http",
        request_id: &HeaderValue::from_static("0190aaaa-bbbb-7ccc-8ddd-eeeeeeeeeeee"),
        server: "127.0.0.1:3000",
        upstream_tls: false,
        offer: None,
        via: b"1.1 statusquo-1",
    };
    let mut out = BytesMut::new();
    request.write_request_head(&mut out, &forwarding_info).unwrap();
    String::from_utf8(out.to_vec()).unwrap()
}

const FORWARDED_HEADERS: &str = "X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: api.test:8080\r\n\
    X-Request-Id: 0190aaaa-bbbb-7ccc-8ddd-eeeeeeeeeeee\r\n\
    traceparent: 00-0190aaaabbbb7ccc8dddeeeeeeeeeeee-8dddeeeeeeeeeeee-00\r\nVia: 1.1 statusquo-1\r\n";

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
fn traceparent_of_the_client_is_forwarded() {
    let request = h1("GET / HTTP/1.1\r\nHost: api.test:8080\r\nTraceparent: 00-1-2-01\r\n\r\n");
    assert!(header_section(&request).contains("Traceparent: 00-1-2-01\r\n"));
    assert!(!header_section(&request).contains("traceparent: 00-0190"));
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
}

#[test]
fn traceparent_uses_the_32_hex_digits_of_the_request_id() {
    let trace_of = |id: &str| {
        let mut out = BytesMut::new();
        write_trace_value(&mut out, id.as_bytes()).then(|| String::from_utf8(out.to_vec()).unwrap())
    };
    let expected = Some("00-0190aaaabbbb7ccc8dddeeeeeeeeeeee-8dddeeeeeeeeeeee-00".to_owned());
    for id in [
        "0190aaaa-bbbb-7ccc-8ddd-eeeeeeeeeeee",
        "0190AAAA-BBBB-7CCC-8DDD-EEEEEEEEEEEE",
        "0190aaaabbbb7ccc8dddeeeeeeeeeeee",
        "0190aaaab-bbb-7ccc-8ddd-eeeeeeeeeeee",
        "z-0190aaaabbbb7ccc8dddeeeeeeeeeeee-z",
    ] {
        assert_eq!(trace_of(id), expected, "{id}");
    }
    for id in ["0190aaaa-bbbb-7ccc-8ddd-eeeeeeeeeeez", "0190aaaa0bbbb07ccc08ddd0eeeeeeeeeeee", "7", ""] {
        assert_eq!(trace_of(id), None, "{id}");
    }
}
