//! `respond` of a route: errors of the contract and fixed responses, on both protocols, without an upstream.

use bytes::Bytes;

use super::prelude::*;

fn responding(upstream: &ScriptedUpstream) -> GatewaySetup {
    Gateway::with_upstream(upstream)
        .with_h2c_listener()
        .set("log.requests", "all")
        .set("rate_limits.few", "{ key: [client_ip], allow: 1 per 1h }")
        .route("name: up, match: { path: /up }, respond: { status: 200, body: \"ok\\n\", media_type: text/plain }")
        .route("name: made, match: { path: /made }, respond: { status: 201, body: \"\", media_type: application/json }")
        .route("name: empty, match: { path: /empty }, respond: { status: 204 }")
        .route("name: reset, match: { path: /reset }, respond: { status: 205 }")
        .route("name: same, match: { path: /same }, respond: { status: 304 }")
        .route("name: odd, match: { path: /odd }, respond: { status: 299 }")
        .route("name: gone, match: { path: \"/gone/{*rest}\" }, respond: { code: 404 }")
        .route("name: later, match: { path: /later }, respond: { code: 503 }, errors: { retry_after: 9s }")
        .route(
            "name: limited, match: { path: /limited }, respond: { code: 401 }, rate_limits: [few], \
             deny: { methods: [PUT] }, response_headers: { set: { x-a: \"{path}\" } }",
        )
        .route(
            "name: closed, match: { path: /closed }, respond: { status: 200 }, maintenance: { retry_after: 1h }",
        )
}

/// The fields of a response without those that differ between requests and protocols.
fn fields(response: &HttpResponse) -> Vec<(&str, &str)> {
    let fields = response.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    fields.filter(|(name, _)| !matches!(*name, "date" | "x-request-id")).collect()
}

/// Path, status, reason, body, and the fields besides Date and X-Request-Id.
type FixedCase = (&'static str, u16, &'static str, &'static str, &'static [(&'static str, &'static str)]);

const FIXED: [FixedCase; 6] = [
    ("/up", 200, "OK", "ok\n", &[("content-type", "text/plain"), ("content-length", "3")]),
    ("/made", 201, "Created", "", &[("content-type", "application/json"), ("content-length", "0")]),
    ("/empty", 204, "No Content", "", &[]),
    ("/reset", 205, "Reset Content", "", &[("content-length", "0")]),
    ("/same", 304, "Not Modified", "", &[]),
    ("/odd", 299, "", "", &[("content-length", "0")]),
];

#[test]
fn fixed_responses_are_the_declared_ones_on_both_protocols() {
    let upstream = ok_upstream("ok");
    let gateway = responding(&upstream).start();
    let (mut client, mut h2) = (gateway.client(), gateway.h2_client());
    for (path, status, reason, body, expected) in FIXED {
        for method in ["GET", "HEAD", "POST", "DELETE", "OPTIONS"] {
            let expected_body = if method == "HEAD" { "" } else { body };
            let response = client.request(method, path, "", "");
            assert_eq!((response.status, response.reason.as_str()), (status, reason), "{method} {path}");
            assert_eq!((response.text().as_str(), response.end), (expected_body, ResponseEnd::Complete));
            assert_eq!(fields(&response), expected, "{method} {path}");
            assert!(response.header("x-request-id").is_some() && response.header("date").is_some());
            let response = h2.request(method, path, &[], Bytes::new());
            assert_eq!(
                (response.status, response.text().as_str()),
                (status, expected_body),
                "{method} {path}"
            );
            assert_eq!(fields(&response), expected, "HTTP/2 {method} {path}");
        }
    }
    gateway.expect_metric("responses_total", &[("route", "up"), ("code", "200"), ("origin", "proxy")], 10.0);
    let line = gateway.log_line(|line| line["route"] == "up" && line["method"] == "HEAD");
    assert_eq!(
        (&line["outcome"], &line["message"], &line["level"], &line["code"], &line["cause"]),
        (
            &"responded".into(),
            &"sent response of route".into(),
            &"info".into(),
            &200.into(),
            &serde_json::Value::Null
        )
    );
    assert_eq!(upstream.recording().requests().count(), 0);
}

#[test]
fn request_bodies_are_read_or_the_connection_closes_after_a_fixed_response() {
    let upstream = ok_upstream("ok");
    let gateway = responding(&upstream).start();
    let mut client = gateway.client();
    client.request("POST", "/up", "", "a body").assert_response(200, "ok\n");
    let chunked =
        "POST /up HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    let mut other = gateway.client();
    other.exchange(SentRequest::Http11("POST"), chunked).assert_response(200, "ok\n");
    let large = format!("POST /up HTTP/1.1\r\nhost: test\r\ncontent-length: {}\r\n\r\n", 1024 * 1024);
    let response = client.exchange(SentRequest::Http11("POST"), large);
    response.assert_response(200, "ok\n");
    assert!(response.has_connection_close());
    let mut waiting = gateway.client();
    let awaited = "POST /up HTTP/1.1\r\nhost: test\r\ncontent-length: 9\r\nexpect: 100-continue\r\n\r\n";
    let response = waiting.exchange(SentRequest::Http11("POST"), awaited);
    response.assert_response(200, "ok\n");
    assert!(response.interim.is_empty() && response.has_connection_close());
    let mut h2 = gateway.h2_client();
    let body = Bytes::from(vec![b'x'; 100 * 1024]);
    h2.request("POST", "/up", &[], body).assert_response(200, "ok\n");
    h2.get("/up").assert_response(200, "ok\n");
    assert_eq!(upstream.recording().requests().count(), 0);
}

#[test]
fn declared_error_is_the_documented_one_with_cause_route_response() {
    let upstream = ok_upstream("ok");
    let gateway = responding(&upstream).start();
    let (mut client, mut h2) = (gateway.client(), gateway.h2_client());
    client.get("/gone/a/b?c").assert_local_reply(404);
    h2.get("/gone").assert_local_reply(404);
    let response = client.request("HEAD", "/gone", "", "");
    assert_eq!((response.status, response.body.len()), (404, 0));
    assert_eq!(response.header("content-length"), Some("95"));
    let response = client.get("/later");
    response.assert_local_reply(503);
    assert_eq!(response.header("retry-after"), Some("9"));
    let call = [("content-type", "application/grpc"), ("te", "trailers")];
    let response = h2.request("POST", "/gone/a.Service/Call", &call, Bytes::new());
    assert_eq!((response.status, response.header("grpc-status")), (200, Some("12")));
    let labels = [("route", "gone"), ("cause", "route_response"), ("code", "404"), ("upstream", "none")];
    gateway.expect_metric("errors_total", &labels, 3.0);
    let line = gateway.log_line(|line| line["route"] == "later");
    assert_eq!((&line["cause"], &line["outcome"]), (&"route_response".into(), &"rejected".into()));
    assert_eq!(upstream.recording().requests().count(), 0);
}

#[test]
fn maintenance_access_and_rate_limits_precede_the_response_of_a_route() {
    let upstream = ok_upstream("ok");
    let gateway = responding(&upstream).start();
    let mut client = gateway.client();
    let response = client.get("/closed");
    response.assert_local_reply(503);
    assert_eq!(response.header("retry-after"), Some("3600"));
    client.request("PUT", "/limited", "", "").assert_local_reply(403);
    let response = client.get("/limited");
    response.assert_local_reply(401);
    assert_eq!(
        (response.header("x-ratelimit-remaining"), response.header("x-a")),
        (Some("0"), Some("/limited"))
    );
    client.get("/limited").assert_local_reply(429);
}

#[test]
fn overrides_and_the_contract_decide_the_error_of_a_route() {
    let upstream = ok_upstream("ok");
    let contract = "{ codes: [{ code: 400, type: bad }, { code: 404, type: missing }, { code: 500, type: internal }], \
                    causes: { route_response: { message: \"Use /v2.\" } } }";
    let gateway = Gateway::with_upstream(&upstream)
        .set("contracts.small", contract)
        .set("contract", "small")
        .set("errors.overrides", "[{ when: { cause: route_response, method: PUT }, code: 400, message: \"No.\" }]")
        .route("name: old, match: { path: /old }, respond: { code: 404 }")
        .route(
            "name: closed, match: { path: /closed }, upstream: main, maintenance: { retry_after: 1h, message: \"Soon.\" }",
        )
        .start();
    let mut client = gateway.client();
    client.get("/old").assert_response(404, r#"{"message":"Use /v2.","code":404}"#);
    client.request("PUT", "/old", "", "").assert_response(400, r#"{"message":"No.","code":400}"#);
    // The contract has no 503: maintenance tells nevertheless when to come back.
    let response = client.get("/closed");
    response.assert_response(500, r#"{"message":"Soon.","code":500}"#);
    assert_eq!(response.header("retry-after"), Some("3600"));
}
