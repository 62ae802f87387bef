//! Any API's contract: what a client receives of upstream errors and faults under several templates.
//!
//! Whole responses are compared as text. The responses are read without the reader of the other tests, which expects
//! bodies of the built-in contract.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use super::prelude::*;

const SHOP: &str = r#"{ shop: { body: { error: { code: "{type}", message: "{message}", param: "{param|null}", request_id: "{request_id}" }, live: false },
  values: { param: string }, keep_headers: ["x-shop-*"], statuses: { 422: 404 },
  codes: [{ code: 400, type: bad_request }, { code: 404, type: gone, message: "It is gone.", values: { param: id } }, { code: 500 }, { code: 503, type: busy }],
  causes: { connection_refused: { message: "The shop is closed.", type: closed } } } }"#;

fn shop(upstream: &ScriptedUpstream) -> GatewaySetup {
    Gateway::with_upstream(upstream).set("contracts", SHOP).set("contract", "shop")
}

/// The response to one request, as text: sorted fields without Date, the request ID replaced by `ID`.
fn exchange(gateway: &Gateway, method: &str, more: &str) -> String {
    let mut stream = TcpStream::connect(gateway.address()).unwrap();
    stream.set_read_timeout(Some(limit())).unwrap();
    write!(stream, "{method} /x HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\n{more}\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap();
    let mut fields: Vec<String> = lines.map(|line| line.replacen(": ", "=", 1)).collect();
    let id =
        fields.iter().find_map(|field| field.to_lowercase().strip_prefix("x-request-id=").map(str::to_owned));
    fields.iter_mut().for_each(|field| {
        if let Some((name, value)) = field.split_once('=') {
            *field = format!("{}={value}", name.to_lowercase());
        }
    });
    fields.retain(|field| !field.starts_with("date=") && field != "connection=close");
    fields.sort();
    let text = format!("{status}|{}|{body}", fields.join("|"));
    id.map_or(text.clone(), |id| text.replace(&id, "ID"))
}

fn answer(status: &str, fields: &str, body: &str) -> ScriptedUpstream {
    static_response(http_response(&format!("{status}\n{fields}"), body))
}

const JSON: &str = "content-type: application/json";

#[test]
fn conforming_error_of_a_declared_template_is_forwarded_or_completed() {
    let body = r#"{ "live": false, "error": {"param":null, "code":"sold_out","message":"Sold out.","request_id":"theirs"} }"#;
    let upstream = answer("404 Not Found", &format!("{JSON}\netag: \"1\"\nserver: x"), body);
    let gateway = shop(&upstream).start();
    assert_eq!(
        exchange(&gateway, "GET", ""),
        format!(
            "HTTP/1.1 404 Not Found|cache-control=no-store|content-length={}|content-type=application/json|etag=\"1\"|x-request-id=ID|{body}",
            body.len()
        )
    );
    gateway.expect_metric("responses_total", &[("code", "404"), ("origin", "upstream")], 1.0);

    let upstream = answer(
        "404 Not Found",
        &format!(
            "{JSON}\netag: \"1\"\ncontent-digest: sha-256=:x:\ndigest: x\nrepr-digest: x\ncontent-md5: x"
        ),
        &body.replace(r#","request_id":"theirs""#, ""),
    );
    let gateway = shop(&upstream).start();
    let completed = r#"{ "live": false, "error": {"param":null, "code":"sold_out","message":"Sold out.","request_id":"ID"} }"#;
    let text = exchange(&gateway, "GET", "");
    assert_eq!(
        text,
        format!(
            "HTTP/1.1 404 Not Found|cache-control=no-store|content-length={}|content-type=application/json|x-request-id=ID|{completed}",
            completed.len() + 34
        )
    );
    gateway.expect_metric("responses_total", &[("code", "404"), ("origin", "completed")], 1.0);
}

#[test]
fn completed_error_has_the_request_id_of_the_response() {
    let body = r#"{"live":false,"error":{"param":null,"code":"sold_out","message":"Sold out."}}"#;
    let id_in_body = |fields: &str, more: &str| {
        let upstream = answer("404 Not Found", &format!("{JSON}{fields}"), body);
        let text = exchange(&shop(&upstream).start(), "GET", more);
        assert!(text.contains("|x-request-id=ID|"), "{text}");
        text.rsplit_once(r#""request_id":"#).map(|(_, rest)| rest.to_owned()).unwrap()
    };
    assert_eq!(id_in_body("\nx-request-id: upstream-17", ""), r#""ID"}}"#);
    assert_eq!(id_in_body("", ""), r#""ID"}}"#);
    // A field that Connection names is removed, and ours takes its place.
    assert_eq!(id_in_body("\nx-request-id: upstream-17\nconnection: x-request-id", ""), r#""ID"}}"#);
}

#[test]
fn other_errors_get_the_body_of_the_template() {
    let body = r#"{"errors":{"age":["must be 18"]},"code":"under_age","error":{"param":"age"}}"#;
    let upstream =
        answer("422 Unprocessable", &format!("{JSON}\nx-shop-hint: 1\nx-other: 2\netag: \"1\""), body);
    let gateway = shop(&upstream).start();
    let expected = r#"{"error":{"code":"under_age","message":"must be 18","param":"age","request_id":"ID"},"live":false}"#;
    assert_eq!(
        exchange(&gateway, "GET", ""),
        format!(
            "HTTP/1.1 404 Not Found|cache-control=no-store|content-length={}|content-type=application/json|x-content-type-options=nosniff|x-request-id=ID|x-shop-hint=1|{expected}",
            expected.len() + 34
        )
    );
    // A constant of the code where the upstream has no such value.
    let upstream = answer("410 Gone", "content-type: text/html", "<p>");
    let gateway = shop(&upstream).start();
    assert!(exchange(&gateway, "GET", "").ends_with(
        r#"|{"error":{"code":"gone","message":"It is gone.","param":"id","request_id":"ID"},"live":false}"#
    ));
}

#[test]
fn fault_gets_the_message_and_type_of_its_cause() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let gateway =
        GatewaySetup::with_servers(&[closed]).set("contracts", SHOP).set("contract", "shop").start();
    let expected = r#"{"error":{"code":"closed","message":"The shop is closed.","param":null,"request_id":"ID"},"live":false}"#;
    assert_eq!(
        exchange(&gateway, "GET", ""),
        format!(
            "HTTP/1.1 503 Service Unavailable|cache-control=no-store|content-length={}|content-type=application/json|retry-after=5|x-content-type-options=nosniff|x-request-id=ID|{expected}",
            expected.len() + 34
        )
    );
    let head = exchange(&gateway, "HEAD", "");
    assert!(head.contains(&format!("content-length={}|", expected.len() + 34)), "{head}");
    assert!(head.ends_with("|x-request-id=ID|"), "{head}");
}

#[test]
fn head_of_a_server_error_keeps_no_field_of_the_upstream() {
    let upstream =
        answer("500 Oops", &format!("{JSON}\nx-db: db-7\nset-cookie: a=b\nlink: </db-7>\nvary: x-shard"), "");
    let gateway = Gateway::with_upstream(&upstream).start();
    assert_eq!(
        exchange(&gateway, "HEAD", ""),
        "HTTP/1.1 500 Internal Server Error|cache-control=no-store|content-type=application/json|x-content-type-options=nosniff|x-request-id=ID|"
    );
}

#[test]
fn server_error_turned_into_a_client_error_sends_no_text_of_the_upstream() {
    let body = r#"{"message":"row 7 of table users","type":"pg_error","errors":["db-7"]}"#;
    let upstream = answer("500 Oops", &format!("{JSON}\nx-db: db-7"), body);
    let gateway = Gateway::with_upstream(&upstream)
        .set("errors.overrides", "[{ when: { upstream_status: 500 }, code: 404 }]")
        .set("errors.include", "[type, details]")
        .set("errors.keep_details", "[errors]")
        .start();
    let text = exchange(&gateway, "GET", "");
    assert!(
        text.ends_with(
            r#"|{"message":"The URI requested is invalid or the resource requested does not exist.","code":404,"type":"general_route_not_found"}"#
        ),
        "{text}"
    );
    assert!(!text.contains("db-7") && !text.contains("pg_error"), "{text}");
}

#[test]
fn details_and_oauth_types_of_the_upstream_are_kept_and_dropped_texts_are_counted() {
    let body = r#"{"error":"invalid_grant","error_description":"The code has expired.","errors":[{"at":"code"},"at f (a.js:1:2)"]}"#;
    let upstream = answer("400 Bad", JSON, body);
    let gateway = Gateway::with_upstream(&upstream)
        .set("errors.include", "[details]")
        .set("errors.keep_details", "[violations, errors]")
        .start();
    let text = exchange(&gateway, "GET", "");
    let expected =
        r#"|{"message":"The code has expired.","code":400,"type":"invalid_grant","details":[{"at":"code"}]}"#;
    assert!(text.ends_with(expected), "{text}");
    gateway.expect_metric("details_dropped_total", &[], 1.0);
}

#[test]
fn client_that_prefers_problem_documents_gets_them() {
    let upstream =
        answer("404 Not Found", JSON, r#"{"message":"No such user.","code":404,"type":"user_not_found"}"#);
    let gateway = Gateway::with_upstream(&upstream).set("errors.format", "negotiate").start();
    let problem = r#"{"type":"about:blank","title":"Not Found","status":404,"detail":"No such user.","instance":"urn:uuid:ID","code":"user_not_found"}"#;
    let length = problem.len() + 34;
    assert_eq!(
        exchange(&gateway, "GET", "accept: application/problem+json, application/json;q=0.5\r\n"),
        format!(
            "HTTP/1.1 404 Not Found|cache-control=no-store|content-length={length}|content-type=application/problem+json|vary=Accept|x-request-id=ID|{problem}"
        )
    );
    let plain = exchange(&gateway, "GET", "accept: */*\r\n");
    assert!(
        plain.contains("|vary=Accept|")
            && plain.ends_with(r#"|{"message":"No such user.","code":404,"type":"user_not_found"}"#)
    );
    let upstream = answer("503 Busy", "retry-after: 7", "x");
    let gateway = Gateway::with_upstream(&upstream).set("errors.format", "negotiate").start();
    let text = exchange(&gateway, "GET", "accept: application/problem+json\r\n");
    assert!(text.contains("|content-type=application/problem+json|"), "{text}");
    assert!(
        text.ends_with(r#""instance":"urn:uuid:ID","code":"general_service_overloaded","retry_after":7}"#),
        "{text}"
    );
}

#[test]
fn routes_have_contracts_of_their_own() {
    let upstream = answer("404 Not Found", "content-type: text/plain", "No such item.");
    let gateway = Gateway::with_upstream(&upstream)
        .set("contracts", SHOP)
        .route("name: shop, match: { path: /x }, upstream: main, contract: shop")
        .route("name: rest, upstream: main")
        .start();
    assert!(exchange(&gateway, "GET", "").ends_with(
        r#"|{"error":{"code":"gone","message":"No such item.","param":"id","request_id":"ID"},"live":false}"#
    ));
    gateway.client().get("/y").assert_local_reply_message(404, "No such item.");
    gateway.expect_metric("responses_total", &[("route", "shop"), ("code", "503"), ("origin", "proxy")], 0.0);
}

#[test]
fn request_id_of_a_completed_body_is_that_of_the_response() {
    let body = r#"{"live":false,"error":{"param":null,"code":"sold_out","message":"Sold out."}}"#;
    for id in [String::new(), "a".repeat(129), "\u{e9}abc".to_owned(), "theirs".to_owned()] {
        let upstream = answer("404 Not Found", &format!("{JSON}\nx-request-id: {id}"), body);
        let text = exchange(&shop(&upstream).start(), "GET", "");
        assert_eq!(text.matches("x-request-id=ID").count(), 1, "{text}");
        assert!(text.contains(r#""request_id":"ID""#), "{text}");
        assert!(id != "theirs" || !text.contains("theirs"), "{text}");
    }
}

#[test]
fn retry_after_in_a_body_is_the_field_that_is_sent() {
    for (status, fields, field, member) in [
        (404, "retry-after: 86401", Some("86401"), Some(86_401)),
        (404, "retry-after: 0", Some("0"), Some(0)),
        (404, "retry-after: Thu, 01 Jan 1970 00:00:09 GMT", Some("Thu, 01 Jan 1970 00:00:09 GMT"), Some(0)),
        (404, "retry-after: 7\nretry-after: 86401", Some("7"), Some(7)),
        (404, "retry-after: 7\nconnection: x, Retry-After", None, None),
        (404, "x-a: b", None, None),
        (429, "retry-after: 86401", Some("5"), Some(5)),
        (429, "retry-after: 7\nconnection: Retry-After", Some("5"), Some(5)),
    ] {
        let body = format!(r#"{{"status":{status},"retry_after":3}}"#);
        let fields = format!("content-type: application/problem+json\n{fields}");
        let upstream = answer(&format!("{status} Error"), &fields, &body);
        let gateway = Gateway::with_upstream(&upstream).set("contract", "problem").start();
        let text = exchange(&gateway, "GET", "");
        let (head, body) = text.rsplit_once('|').unwrap();
        let sent: Vec<_> = head.split('|').filter_map(|line| line.strip_prefix("retry-after=")).collect();
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(sent, Vec::from_iter(field), "{fields}: {text}");
        assert_eq!(body.get("retry_after"), member.map(serde_json::Value::from).as_ref(), "{fields}: {text}");
    }
}
