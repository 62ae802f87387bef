//! Routing and forwarding: the selected upstream and the request that it receives.

use statusquo::conformance::RecordedHead;

use super::prelude::*;

/// The request as the upstream received it.
#[track_caller]
fn request_as_received(request: &str) -> RecordedHead {
    let upstream = ok_upstream("");
    let gateway = Gateway::with_upstream(&upstream).start();
    assert_eq!(gateway.client().exchange(SentRequest::Http11("GET"), request).status, 200);
    let recording = upstream.recording();
    recording.requests().next().unwrap().head.clone()
}

#[test]
fn request_target_and_host_are_forwarded_byte_for_byte() {
    for target in ["/", "/a?b=c&d", "//a//b", "/%61%2Fb", "/a;b=c/~d", "/a?x=/../y"] {
        let head = request_as_received(&format!("GET {target} HTTP/1.1\r\nHost: Shop.Example:8080\r\n\r\n"));
        assert_eq!((head.target.as_str(), head.version.as_str()), (target, "HTTP/1.1"));
        assert_eq!(head.header("host"), Some("Shop.Example:8080"));
    }
}

#[test]
fn absolute_form_target_is_forwarded_in_origin_form() {
    let head = request_as_received("GET http://shop.example/a?b HTTP/1.1\r\nhost: shop.example\r\n\r\n");
    assert_eq!((head.target.as_str(), head.header("host")), ("/a?b", Some("shop.example")));
}

#[test]
fn hop_by_hop_fields_are_not_forwarded() {
    let head = request_as_received(
        "GET / HTTP/1.1\r\nhost: test\r\nconnection: keep-alive, x-mine\r\nx-mine: 1\r\nkeep-alive: timeout=5\r\n\
         te: trailers\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\nproxy-connection: close\r\nx-other: 2\r\n\r\n",
    );
    for removed in
        ["x-mine", "keep-alive", "te", "upgrade", "http2-settings", "proxy-connection", "transfer-encoding"]
    {
        assert_eq!(head.header(removed), None, "{removed}");
    }
    assert_eq!(head.header("x-other"), Some("2"));
}

#[test]
fn forwarding_headers_of_an_untrusted_client_are_replaced() {
    let head = request_as_received(
        "GET / HTTP/1.1\r\nhost: test\r\nx-forwarded-for: 1.2.3.4\r\nx-forwarded-proto: https\r\nx-forwarded-host: evil\r\n\
         forwarded: for=1.2.3.4\r\nx-real-ip: 1.2.3.4\r\nx-request-id: mine\r\n\r\n",
    );
    assert_eq!(head.header("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(head.header("x-forwarded-proto"), Some("http"));
    assert_eq!(head.header("x-forwarded-host"), Some("test"));
    assert!(head.header("x-request-id").is_some_and(|id| id.len() == 36));
    assert!(head.header("via").is_some_and(|via| via.starts_with("1.1 ")));
    let text = String::from_utf8_lossy(&head.raw).into_owned();
    assert!(!text.contains("1.2.3.4") && !text.contains("evil"), "{text}");
}

#[test]
fn request_id_is_equal_upstream_downstream_and_in_the_log() {
    let upstream = super::scripted_upstreams::html_upstream("502 Bad Gateway");
    let gateway = Gateway::with_upstream(&upstream).start();
    let response = gateway.client().get("/");
    let id = response.header("x-request-id").unwrap();
    assert_eq!(upstream.recording().requests().next().unwrap().head.header("x-request-id"), Some(id));
    gateway.log_line(|line| line["request_id"] == id);
}

#[test]
fn request_with_our_own_via_is_a_proxy_loop() {
    let upstream = ok_upstream("");
    let gateway = Gateway::with_upstream(&upstream).start();
    gateway.client().get("/").assert_response(200, "");
    let via = upstream.recording().requests().next().unwrap().head.header("via").unwrap().to_owned();
    let response = gateway.client().request("GET", "/", &format!("via: {via}\r\n"), "");
    response.assert_local_reply(500);
    gateway.expect_metric("errors_total", &[("cause", "proxy_loop_detected")], 1.0);
}

#[test]
fn body_framing_is_regenerated() {
    let upstream = ok_upstream("");
    let gateway = Gateway::with_upstream(&upstream).start();
    let chunked = "POST / HTTP/1.1\r\nhost: test\r\ntransfer-encoding: Chunked\r\n\r\n3;a=b\r\nabc\r\n0\r\nx: y\r\n\r\n";
    gateway.client().exchange(SentRequest::Http11("POST"), chunked).assert_response(200, "");
    let recording = upstream.recording();
    let request = recording.requests().next().unwrap();
    assert_eq!(
        (request.body.as_slice(), request.head.header("transfer-encoding")),
        (&b"abc"[..], Some("chunked"))
    );
    let raw = String::from_utf8_lossy(&recording.connections[0].raw).into_owned();
    assert!(!raw.contains("a=b"), "{raw}");
}

#[test]
fn routes_match_by_host_then_path_then_method() {
    let (exact, wild, path, method, rest) = (
        ok_upstream("exact"),
        ok_upstream("wild"),
        ok_upstream("path"),
        ok_upstream("method"),
        ok_upstream("rest"),
    );
    let gateway = Gateway::with_upstream(&rest)
        .upstream("exact", &[exact.address()])
        .upstream("wild", &[wild.address()])
        .upstream("path", &[path.address()])
        .upstream("method", &[method.address()])
        .route("name: exact, match: { host: api.shop.example, path: \"/{*rest}\" }, upstream: exact")
        .route("name: wild, match: { host: \"*.shop.example\", path: \"/{*rest}\" }, upstream: wild")
        .route("name: path, match: { path: \"/orders/{id}\" }, upstream: path")
        .route("name: method, match: { path: /orders, methods: [POST] }, upstream: method")
        .route("name: rest, match: { path: \"/{*rest}\" }, upstream: main")
        .start();
    let mut client = gateway.client();
    for (method, target, host, expected) in [
        ("GET", "/", "API.shop.example.:8080", "exact"),
        ("GET", "/orders/7", "www.shop.example", "wild"),
        ("GET", "/orders/7", "other", "path"),
        ("GET", "//orders//%37", "other", "path"),
        ("POST", "/orders", "other", "method"),
        ("GET", "/orders", "other", "rest"),
        ("GET", "/", "other", "rest"),
    ] {
        let request = format!("{method} {target} HTTP/1.1\r\nhost: {host}\r\n\r\n");
        let response = client.exchange(SentRequest::Http11("GET"), request);
        assert_eq!(response.text(), expected, "{method} {target} {host}");
    }
}

#[test]
fn head_matches_get_routes() {
    let upstream = super::scripted_upstreams::static_response("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n");
    let gateway = Gateway::with_upstream(&upstream)
        .route("name: page, match: { path: /page, methods: [GET] }, upstream: main")
        .start();
    assert_eq!(gateway.client().request("HEAD", "/page", "", "").status, 200);
    assert_eq!(gateway.client().request("POST", "/page", "", "").status, 404);
}

#[test]
fn denied_method_and_disallowed_client_get_403() {
    let upstream = ok_upstream("fine");
    let gateway = Gateway::with_upstream(&upstream)
        .route("name: inner, match: { path: /inner }, upstream: main, allow_from: [10.0.0.0/8]")
        .route("name: rest, match: { path: \"/{*rest}\" }, upstream: main, deny: { methods: [DELETE] }")
        .start();
    let mut client = gateway.client();
    client.get("/inner").assert_local_reply(403);
    client.request("DELETE", "/x", "", "").assert_local_reply(403);
    client.get("/x").assert_response(200, "fine");
    gateway.expect_metric("errors_total", &[("cause", "http_request_denied")], 2.0);
    assert_eq!(upstream.request_count(), 1);
}

/// A client could otherwise learn by HEAD what it may not get by GET.
#[test]
fn route_that_denies_get_denies_head_too() {
    let upstream = ok_upstream("fine");
    let gateway = Gateway::with_upstream(&upstream)
        .route("name: inner, match: { path: /inner }, upstream: main, deny: { methods: [GET] }")
        .route("name: rest, match: { path: \"/{*rest}\" }, upstream: main, deny: { methods: [HEAD] }")
        .with_h2c_listener()
        .start();
    let mut client = gateway.client();
    client.get("/inner").assert_local_reply(403);
    assert_eq!(client.request("HEAD", "/inner", "", "").status, 403);
    let response = gateway.h2_client().request("HEAD", "/inner", &[], bytes::Bytes::new());
    assert_eq!(response.status, 403);
    assert_eq!(upstream.request_count(), 0);
    client.request("POST", "/inner", "", "").assert_response(200, "fine");
    // HEAD does not include GET.
    client.get("/").assert_response(200, "fine");
    assert_eq!(client.request("HEAD", "/", "", "").status, 403);
    assert_eq!(upstream.request_count(), 2);
}

#[test]
fn method_of_no_matching_route_gets_an_allow_header() {
    let upstream = ok_upstream("fine");
    let gateway = Gateway::with_upstream(&upstream)
        .route("name: read, match: { path: \"/users/{id}\", methods: [GET] }, upstream: main")
        .route("name: write, match: { path: \"/users/{*rest}\", methods: [PUT] }, upstream: main")
        .with_h2c_listener()
        .start();
    let response = gateway.client().request("DELETE", "/users/7", "", "");
    // The built-in contract documents no 405.
    response.assert_local_reply(404);
    assert_eq!(response.header("allow"), Some("GET, HEAD, PUT"));
    let response = gateway.h2_client().request("DELETE", "/users/7", &[], bytes::Bytes::new());
    assert_eq!((response.status, response.header("allow")), (404, Some("GET, HEAD, PUT")));
    let response = gateway.client().request("DELETE", "/other", "", "");
    response.assert_local_reply(404);
    assert_eq!(response.header("allow"), None);
    gateway.expect_metric("errors_total", &[("cause", "method_not_allowed"), ("code", "404")], 2.0);
    gateway.expect_metric("errors_total", &[("cause", "destination_not_found"), ("code", "404")], 1.0);
    assert_eq!(upstream.request_count(), 0);
}

/// CGI-style servers map `_` and `-` in field names to the same variable.
#[test]
fn request_id_spelled_with_underscores_is_removed() {
    let upstream = ok_upstream("fine");
    let gateway = Gateway::with_upstream(&upstream).start();
    let fields = "X_Request_Id: theirs-1\r\nx-request_id: theirs-2\r\nX-Request-Id: theirs-3\r\n";
    let response = gateway.client().request("GET", "/", fields, "");
    let recording = upstream.recording();
    let raw = String::from_utf8_lossy(&recording.connections[0].raw).into_owned();
    assert!(!raw.contains("theirs"), "{raw}");
    let request_id = recording.requests().next().unwrap().head.header("x-request-id").unwrap().to_owned();
    assert_eq!(response.header("x-request-id"), Some(request_id.as_str()));
}
