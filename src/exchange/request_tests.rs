//! What the upstream receives, whole.
#![allow(clippy::unwrap_used)]

use super::*;

fn h1(head: &'static str) -> Request {
    let head = Bytes::from_static(head.as_bytes());
    let facts = request_head::parse(&head).unwrap();
    Request::from_h1(head, &facts)
}

fn sent(request: &Request) -> String {
    let told = Told {
        forwarded_for: &HeaderValue::from_static("192.0.2.7"),
        proto: "http",
        request_id: &HeaderValue::from_static("0190aaaa-bbbb-7ccc-8ddd-eeeeeeeeeeee"),
        server: "127.0.0.1:3000",
        upstream_tls: false,
        offer: None,
        via: b"1.1 statusquo-1",
    };
    let mut out = BytesMut::new();
    request.write_head(&mut out, &told).unwrap();
    String::from_utf8(out.to_vec()).unwrap()
}

const TOLD: &str = "X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: api.test:8080\r\n\
    X-Request-Id: 0190aaaa-bbbb-7ccc-8ddd-eeeeeeeeeeee\r\n\
    traceparent: 00-0190aaaabbbb7ccc8dddeeeeeeeeeeee-8dddeeeeeeeeeeee-00\r\nVia: 1.1 statusquo-1\r\n";

#[test]
fn the_upstream_receives_target_and_end_to_end_fields_as_they_came_and_nothing_of_the_hop() {
    let request = h1(
        "POST //a/%61?x=%zz HTTP/1.1\r\nhost: api.test:8080\r\nAccept: */*\r\nConnection: close, x-hop\r\n\
         X-Hop: 1\r\nKeep-Alive: 5\r\nUpgrade: websocket\r\nTE: trailers\r\nX-Forwarded-For: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\n\
         X-Real-IP: 6.6.6.6\r\nX-Request-ID: mine\r\nContent-Length: 2\r\nExpect: 100-continue\r\nCookie: a=b\r\n\r\n",
    );
    assert_eq!(
        sent(&request),
        format!(
            "POST //a/%61?x=%zz HTTP/1.1\r\nHost: api.test:8080\r\nAccept: */*\r\nCookie: a=b\r\n{TOLD}\
             Expect: 100-continue\r\nContent-Length: 2\r\n\r\n"
        )
    );
}

#[test]
fn an_absolute_target_is_sent_in_origin_form_with_its_host() {
    let request = h1("GET http://api.test:8080?q HTTP/1.1\r\nHost: api.test:8080\r\n\r\n");
    assert_eq!(sent(&request), format!("GET /?q HTTP/1.1\r\nHost: api.test:8080\r\n{TOLD}\r\n"));
}

#[test]
fn an_absolute_target_without_a_path_is_the_root_and_for_options_the_server() {
    let get = h1("GET http://a HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(sent(&get).starts_with("GET / HTTP/1.1\r\n"));
    let options = h1("OPTIONS http://a HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(sent(&options).starts_with("OPTIONS * HTTP/1.1\r\n"));
}

#[test]
fn a_trace_that_began_elsewhere_goes_on() {
    let request = h1("GET / HTTP/1.1\r\nHost: api.test:8080\r\nTraceparent: 00-1-2-01\r\n\r\n");
    assert!(sent(&request).contains("Traceparent: 00-1-2-01\r\n"));
    assert!(!sent(&request).contains("traceparent: 00-0190"));
}

#[test]
fn an_http2_request_gets_a_host_and_one_cookie_field() {
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
        sent(&request),
        format!(
            "PUT /x?y HTTP/1.1\r\nHost: api.test:8080\r\naccept: */*\r\ncookie: a=b; c=d\r\n{TOLD}\
             Transfer-Encoding: chunked\r\n\r\n"
        )
    );
}

#[test]
fn a_request_that_passed_us_before_is_known_by_the_pseudonym() {
    let request =
        h1("GET / HTTP/1.1\r\nHost: a\r\nVia: 1.0 fred, 1.1 statusquo-1 (x)\r\nVia: 2 other\r\n\r\n");
    assert!(request.came_through(b"statusquo-1"));
    assert!(!request.came_through(b"statusquo-2"));
}

#[test]
fn a_trace_begins_with_the_32_digits_of_an_id_however_they_are_grouped() {
    let trace_of = |id: &str| {
        let mut out = BytesMut::new();
        trace(&mut out, id.as_bytes()).then(|| String::from_utf8(out.to_vec()).unwrap())
    };
    let begun = Some("00-0190aaaabbbb7ccc8dddeeeeeeeeeeee-8dddeeeeeeeeeeee-00".to_owned());
    for id in [
        "0190aaaa-bbbb-7ccc-8ddd-eeeeeeeeeeee",
        "0190AAAA-BBBB-7CCC-8DDD-EEEEEEEEEEEE",
        "0190aaaabbbb7ccc8dddeeeeeeeeeeee",
        "0190aaaab-bbb-7ccc-8ddd-eeeeeeeeeeee",
        "z-0190aaaabbbb7ccc8dddeeeeeeeeeeee-z",
    ] {
        assert_eq!(trace_of(id), begun, "{id}");
    }
    for id in ["0190aaaa-bbbb-7ccc-8ddd-eeeeeeeeeeez", "0190aaaa0bbbb07ccc08ddd0eeeeeeeeeeee", "7", ""] {
        assert_eq!(trace_of(id), None, "{id}");
    }
}
