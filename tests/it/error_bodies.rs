//! Errors that the upstream answered: what passes, what is replaced, and what is kept of it.
//!
//! The plain rows are in [`super::matrix`]; here are the byte-exact and the connection-wise ones.

use statusquo::rehearse::{UpstreamStep, http_response, write_bytes};

use super::gateway::Gateway;
use super::reader::Asked;
use super::upstreams::{answering, by_request, html, script};

#[test]
fn a_conforming_error_passes_byte_for_byte_without_the_names_of_servers() {
    let body = "{ \"code\": 409,\n  \"message\": \"Already paid.\", \"type\": \"order_paid\" }";
    let fields =
        "409 Conflict\ncontent-type: application/json; charset=UTF-8\nserver: x\nx-powered-by: y\nx-order: 7";
    let upstream = answering(http_response(fields, body));
    let gateway = Gateway::in_front_of(&upstream).start();
    let answer = gateway.client().get("/");
    answer.is(409, body);
    assert_eq!(answer.field("x-order"), Some("7"));
    assert_eq!((answer.field("server"), answer.field("x-powered-by")), (None, None));
    gateway.expect_metric("responses_total", &[("code", "409"), ("origin", "upstream")], 1.0);
    gateway.expect_metric("conformance_total", &[("result", "conforms")], 1.0);
}

#[test]
fn a_conforming_503_without_retry_after_gets_one() {
    let upstream = answering(http_response(
        "503 Service Unavailable\ncontent-type: application/json",
        r#"{"message":"Full.","code":503}"#,
    ));
    let gateway = Gateway::in_front_of(&upstream).start();
    let answer = gateway.client().get("/");
    assert_eq!((answer.status, answer.field("retry-after")), (503, Some("5")));
}

#[test]
fn a_message_of_a_5xx_never_leaves() {
    let upstream = answering(http_response(
        "500 Internal Server Error\ncontent-type: application/json",
        r#"{"message":"db-7 is down"}"#,
    ));
    let gateway = Gateway::in_front_of(&upstream).start();
    gateway.client().get("/").is_made(500);
}

#[test]
fn a_message_of_a_4xx_stays_unless_messages_are_turned_off() {
    let body = r#"{"errors":[{"detail":"The size must be a number."}]}"#;
    let upstream =
        answering(http_response("422 Unprocessable Content\ncontent-type: application/json", body));
    let kept = Gateway::in_front_of(&upstream).start();
    kept.client().get("/").is_made_saying(400, "The size must be a number.");
    let off = Gateway::in_front_of(&upstream).set("errors.upstream_messages", "none").start();
    off.client().get("/").is_made(400);
}

#[test]
fn markup_in_a_message_is_refused() {
    let upstream = answering(http_response(
        "400 Bad Request\ncontent-type: application/json",
        r#"{"message":"<b>no</b>"}"#,
    ));
    let gateway = Gateway::in_front_of(&upstream).start();
    gateway.client().get("/").is_made(400);
}

#[test]
fn replaced_errors_keep_the_listed_fields_and_lose_all_others() {
    let head = "403 Forbidden\ncontent-type: text/html\nwww-authenticate: Basic\nset-cookie: a=b\nset-cookie: c=d\n\
                x-ratelimit-remaining: 3\nlocation: /login\netag: \"1\"\nx-internal: db-7\nallow: GET";
    let upstream = answering(http_response(head, "<p>no</p>"));
    let gateway = Gateway::in_front_of(&upstream).start();
    let answer = gateway.client().get("/");
    answer.is_made(403);
    for kept in [("www-authenticate", "Basic"), ("x-ratelimit-remaining", "3"), ("allow", "GET")] {
        assert_eq!(answer.field(kept.0), Some(kept.1));
    }
    assert_eq!(answer.fields.iter().filter(|(name, _)| name == "set-cookie").count(), 2);
    assert_eq!((answer.field("location"), answer.field("x-internal")), (None, None));
}

#[test]
fn both_connections_survive_a_replacement() {
    let upstream = html("502 Bad Gateway");
    let gateway = Gateway::in_front_of(&upstream).start();
    let mut client = gateway.client();
    for _ in 0..5 {
        let answer = client.get("/");
        answer.is_made(504);
        assert!(answer.connection_usable);
    }
    assert_eq!((upstream.connection_count(), upstream.request_count()), (1, 5));
    gateway.expect_metric("responses_total", &[("code", "504"), ("origin", "replaced")], 5.0);
}

#[test]
fn an_endless_error_body_costs_the_upstream_its_connection_and_the_client_nothing() {
    let upstream = by_request(|request| match request.path() {
        "/endless" => vec![
            UpstreamStep::ReadRequestHead,
            write_bytes("HTTP/1.1 404 Not Found\r\ntransfer-encoding: chunked\r\n\r\n"),
            UpstreamStep::WriteRepeated {
                bytes: "4\r\nabcd\r\n".into(),
                count: u64::MAX,
                interval: std::time::Duration::ZERO,
            },
        ],
        _ => vec![UpstreamStep::ReadRequestHead, UpstreamStep::Write(http_response("200 OK", "fine"))],
    });
    let gateway = Gateway::in_front_of(&upstream).start();
    let mut client = gateway.client();
    client.get("/endless").is_made(404);
    client.get("/").is(200, "fine");
    assert_eq!(upstream.connection_count(), 2);
    gateway.expect_metric("conformance_total", &[("result", "too_large")], 1.0);
}

#[test]
fn a_replaced_head_has_no_body_and_no_length() {
    let upstream = script([
        UpstreamStep::ReadRequestHead,
        write_bytes("HTTP/1.1 500 Oh\r\ncontent-type: text/html\r\ncontent-length: 900\r\n\r\n"),
    ]);
    let gateway = Gateway::in_front_of(&upstream).start();
    let mut client = gateway.client();
    let answer = client.ask("HEAD", "/", "", "");
    super::promise::check_made(&answer, Asked::Http11("HEAD"), 500, "");
    assert_eq!(answer.field("content-length"), None);
    assert_eq!(client.ask("HEAD", "/", "", "").status, 500);
    assert_eq!(upstream.connection_count(), 1);
}

#[test]
fn a_head_error_that_names_json_passes() {
    let head = "HTTP/1.1 404 Not Found\r\ncontent-type: application/json\r\ncontent-length: 44\r\n\r\n";
    let upstream = script([UpstreamStep::ReadRequestHead, write_bytes(head)]);
    let gateway = Gateway::in_front_of(&upstream).start();
    assert_eq!(gateway.client().ask("HEAD", "/", "", "").status, 404);
    gateway.expect_metric("responses_total", &[("code", "404"), ("origin", "upstream")], 1.0);
}

#[test]
fn mode_observe_passes_the_page_and_counts_what_it_would_have_sent() {
    let upstream = by_request(|_| {
        vec![
            UpstreamStep::ReadRequestHead,
            UpstreamStep::Write(http_response("405 Nope\ncontent-type: text/html", "<p>")),
        ]
    });
    let gateway = Gateway::in_front_of(&upstream)
        .route("name: seen, match: { path: \"/{*rest}\" }, upstream: main, errors: { mode: observe }")
        .start();
    let mut socket = gateway.client().writer();
    use std::io::{Read, Write};
    socket.write_all(b"GET / HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    socket.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 405 ") && text.ends_with("<p>"), "{text}");
    gateway.expect_metric("would_replace_total", &[("route", "seen"), ("from", "405"), ("to", "400")], 1.0);
}
