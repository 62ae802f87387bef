//! Errors from upstreams: forwarded, replaced, and which parts are kept.
//!
//! [`super::upstream_faults`] covers the simple cases; these tests cover exact bytes and connections.

use super::contract_check::default_message;
use super::prelude::*;

#[test]
fn conforming_error_is_forwarded_byte_for_byte_without_server_names() {
    let body = "{ \"code\": 409,\n  \"message\": \"Already paid.\", \"type\": \"order_paid\" }";
    let fields =
        "409 Conflict\ncontent-type: application/json; charset=UTF-8\nserver: x\nx-powered-by: y\nx-order: 7";
    let upstream = static_response(http_response(fields, body));
    let gateway = Gateway::with_upstream(&upstream).start();
    let response = gateway.client().get("/");
    response.assert_response(409, body);
    assert_eq!(response.header("x-order"), Some("7"));
    assert_eq!((response.header("server"), response.header("x-powered-by")), (None, None));
    gateway.expect_metric("responses_total", &[("code", "409"), ("origin", "upstream")], 1.0);
    gateway.expect_metric("conformance_total", &[("result", "conforms")], 1.0);
}

#[test]
fn conforming_503_without_retry_after_gets_one() {
    let upstream = static_response(http_response(
        "503 Service Unavailable\ncontent-type: application/json",
        r#"{"message":"Full.","code":503}"#,
    ));
    let gateway = Gateway::with_upstream(&upstream).start();
    let response = gateway.client().get("/");
    assert_eq!((response.status, response.header("retry-after")), (503, Some("5")));
    gateway.expect_metric("conformance_total", &[("result", "message_withheld")], 1.0);
}

#[test]
fn upstream_message_of_a_4xx_is_kept_unless_messages_are_off() {
    let body = r#"{"errors":[{"detail":"The size must be a number."}]}"#;
    let upstream =
        static_response(http_response("422 Unprocessable Content\ncontent-type: application/json", body));
    let kept = Gateway::with_upstream(&upstream).start();
    kept.client().get("/").assert_local_reply_message(400, "The size must be a number.");
    let off = Gateway::with_upstream(&upstream).set("errors.upstream_messages", "none").start();
    off.client().get("/").assert_local_reply(400);
}

#[test]
fn replaced_error_keeps_listed_header_fields_only() {
    let head = "403 Forbidden\ncontent-type: text/html\nwww-authenticate: Basic\nset-cookie: a=b\nset-cookie: c=d\n\
                x-ratelimit-remaining: 3\nlocation: /login\netag: \"1\"\nx-internal: db-7\nallow: GET";
    let upstream = static_response(http_response(head, "<p>no</p>"));
    let gateway = Gateway::with_upstream(&upstream).start();
    let response = gateway.client().get("/");
    response.assert_local_reply(403);
    for kept in [("www-authenticate", "Basic"), ("x-ratelimit-remaining", "3"), ("allow", "GET")] {
        assert_eq!(response.header(kept.0), Some(kept.1));
    }
    assert_eq!(response.headers.iter().filter(|(name, _)| name == "set-cookie").count(), 2);
    assert_eq!((response.header("location"), response.header("x-internal")), (None, None));
}

#[test]
fn replaced_error_keeps_both_connections_open() {
    let upstream = html_upstream("502 Bad Gateway");
    let gateway = Gateway::with_upstream(&upstream).start();
    let mut client = gateway.client();
    for _ in 0..5 {
        let response = client.get("/");
        response.assert_local_reply(504);
        assert!(response.connection_usable);
    }
    assert_eq!((upstream.connection_count(), upstream.request_count()), (1, 5));
    gateway.expect_metric("responses_total", &[("code", "504"), ("origin", "replaced")], 5.0);
}

#[test]
fn endless_error_body_closes_only_the_upstream_connection() {
    let upstream = by_request(|request| match request.path() {
        "/endless" => vec![
            Step::ReadRequestHead,
            write_bytes("HTTP/1.1 404 Not Found\r\ntransfer-encoding: chunked\r\n\r\n"),
            Step::WriteRepeated {
                bytes: "4\r\nabcd\r\n".into(),
                count: u64::MAX,
                interval: std::time::Duration::ZERO,
            },
        ],
        _ => vec![Step::ReadRequestHead, Step::Write(http_response("200 OK", "fine"))],
    });
    let gateway = Gateway::with_upstream(&upstream).start();
    let mut client = gateway.client();
    client.get("/endless").assert_local_reply(404);
    client.get("/").assert_response(200, "fine");
    assert_eq!(upstream.connection_count(), 2);
    gateway.expect_metric("conformance_total", &[("result", "too_large")], 1.0);
}

#[test]
fn replaced_head_response_has_no_body_and_no_content_length() {
    let upstream = script([
        Step::ReadRequestHead,
        write_bytes("HTTP/1.1 500 Oh\r\ncontent-type: text/html\r\ncontent-length: 900\r\n\r\n"),
    ]);
    let gateway = Gateway::with_upstream(&upstream).start();
    let mut client = gateway.client();
    let response = client.request("HEAD", "/", "", "");
    super::contract_check::check_local_reply(&response, SentRequest::Http11("HEAD"), 500, "");
    assert_eq!(response.header("content-length"), None);
    assert_eq!(client.request("HEAD", "/", "", "").status, 500);
    assert_eq!(upstream.connection_count(), 1);
}

#[test]
fn head_error_with_json_content_type_is_forwarded() {
    let head = "HTTP/1.1 404 Not Found\r\ncontent-type: application/json\r\ncontent-length: 44\r\n\r\n";
    let upstream = script([Step::ReadRequestHead, write_bytes(head)]);
    let gateway = Gateway::with_upstream(&upstream).start();
    assert_eq!(gateway.client().request("HEAD", "/", "", "").status, 404);
    gateway.expect_metric("responses_total", &[("code", "404"), ("origin", "upstream")], 1.0);
}

#[test]
fn head_error_of_a_body_that_would_be_decoded_has_no_field_about_its_bytes() {
    let head = "HTTP/1.1 404 Not Found\r\ncontent-type: application/json\r\ncontent-length: 44\r\n\
        content-encoding: gzip\r\netag: \"1\"\r\nlast-modified: Sat, 01 Jan 2000 00:00:00 GMT\r\n\
        repr-digest: sha-256=:eA==:\r\nx-total: 1\r\n\r\n";
    let upstream = script([Step::ReadRequestHead, write_bytes(head)]);
    let gateway = Gateway::with_upstream(&upstream).start();
    let described = ["content-length", "content-encoding", "etag", "repr-digest"];
    for (accepted, count) in [("", 0), ("accept-encoding: br\r\n", 0), ("accept-encoding: gzip\r\n", 4)] {
        let response = gateway.client().request("HEAD", "/", accepted, "");
        assert_eq!((response.status, response.header("x-total")), (404, Some("1")));
        assert!(response.header("last-modified").is_some(), "not about the bytes: {response:#?}");
        let found = described.iter().filter(|name| response.header(name).is_some()).count();
        assert_eq!(found, count, "{accepted:?}: {response:#?}");
    }
}

#[test]
fn observe_mode_forwards_the_page_and_counts_would_replace() {
    let upstream = by_request(|_| {
        vec![Step::ReadRequestHead, Step::Write(http_response("405 Nope\ncontent-type: text/html", "<p>"))]
    });
    let gateway = Gateway::with_upstream(&upstream)
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

type Encode = fn(&[u8]) -> Vec<u8>;

/// The content codings, and how to encode in them. Servers send `deflate` with and without the zlib wrapper.
const CODINGS: [(&str, Encode); 5] = [
    ("gzip", |text| read_all(flate2::read::GzEncoder::new(text, flate2::Compression::default()))),
    ("deflate", |text| read_all(flate2::read::ZlibEncoder::new(text, flate2::Compression::default()))),
    ("deflate", |text| read_all(flate2::read::DeflateEncoder::new(text, flate2::Compression::default()))),
    ("br", |text| read_all(brotli::CompressorReader::new(text, 4096, 5, 22))),
    ("zstd", |text| zstd::encode_all(text, 3).unwrap()),
];

fn read_all(mut encoder: impl std::io::Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    encoder.read_to_end(&mut bytes).unwrap();
    bytes
}

/// Statuses and bodies, and what becomes of them: `Ok` is forwarded, `Err` is replaced, with this message or
/// the contract's.
const CODED_ERRORS: [(u16, &str, Result<(), &str>); 4] = [
    (404, r#"{"message":"Order 7 does not exist.","code":404}"#, Ok(())),
    (404, r#"{"detail":"Order 7 does not exist."}"#, Err("Order 7 does not exist.")),
    (500, r#"{"message":"db-7.internal is down","code":500}"#, Err("")),
    (500, r#"{"detail":"db-7.internal is down"}"#, Err("")),
];

#[test]
fn coded_error_is_judged_by_its_text_and_decoded_if_the_client_needs_it() {
    let upstream = by_request(|request| {
        let mut indexes = request.path().split('/').skip(1).map(|index| index.parse::<usize>().unwrap());
        let (coding, encode) = CODINGS[indexes.next().unwrap()];
        let (status, text, _) = CODED_ERRORS[indexes.next().unwrap()];
        let fields = format!("content-type: application/json\ncontent-encoding: {coding}\netag: \"1\"");
        let body = encode(text.as_bytes());
        let mut response = http_response(&format!("{status} Error\n{fields}"), &body);
        if request.method == "HEAD" {
            response.truncate(response.len() - body.len());
        }
        vec![Step::Write(response)]
    });
    let gateway = Gateway::with_upstream(&upstream).start();
    for (index, (coding, encode)) in CODINGS.iter().enumerate() {
        for (error, (status, text, expected)) in CODED_ERRORS.iter().enumerate() {
            for accepted in ["", "accept-encoding: identity\r\n", &format!("accept-encoding: {coding}\r\n")] {
                let row = format!("{coding} {index}, {status} {text}, {accepted:?}");
                let path = format!("/{index}/{error}");
                let response = gateway.client().request("GET", &path, accepted, "");
                let head = gateway.client().request("HEAD", &path, accepted, "");
                let kept = |name| (response.header(name).is_some(), head.header(name).is_some());
                assert_eq!((response.status, head.status), (*status, *status), "{row}");
                let keeps_coding = accepted.contains(coding);
                match expected {
                    Ok(()) => {
                        let coded = encode(text.as_bytes());
                        let body = if keeps_coding { &coded } else { text.as_bytes() };
                        assert_eq!(response.body, body, "{row}");
                        for name in ["content-encoding", "etag"] {
                            assert_eq!(kept(name), (keeps_coding, keeps_coding), "{row}: {name}");
                        }
                        let length = coded.len().to_string();
                        assert_eq!(head.header("content-length"), keeps_coding.then_some(&*length), "{row}");
                    }
                    Err(message) => {
                        let message = if message.is_empty() { default_message(*status) } else { message };
                        response.assert_local_reply_message(*status, message);
                        assert_eq!(
                            kept("content-encoding"),
                            (false, *status == 404 && keeps_coding),
                            "{row}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn retry_after_of_an_override_is_sent_with_a_conforming_error() {
    let upstream = by_request(|request| {
        let status = request.path().trim_start_matches('/').to_owned();
        let head = format!("{status} Error\ncontent-type: application/json\nretry-after: 5");
        let body = format!(r#"{{"message":"Later.","code":{status}}}"#);
        vec![Step::Write(http_response(&head, body))]
    });
    let gateway = Gateway::with_upstream(&upstream)
        .set("errors.overrides", "[{ when: { upstream_status: [404, 429] }, retry_after: 77s }]")
        .start();
    for (status, seconds) in [(404, "77"), (429, "77"), (409, "5")] {
        let response = gateway.client().get(&format!("/{status}"));
        response.assert_response(status, &format!(r#"{{"message":"Later.","code":{status}}}"#));
        let sent: Vec<_> = response.headers.iter().filter(|(name, _)| name == "retry-after").collect();
        assert_eq!(sent.len(), 1, "{response:#?}");
        assert_eq!(sent[0].1, seconds);
    }
}

#[test]
fn no_field_of_a_replaced_5xx_has_text_of_the_upstream() {
    let head = "500 Error\ncontent-type: text/html\ndate: db7.internal\nstrict-transport-security: node=db7.internal\n\
        access-control-allow-origin: db7.internal\naccess-control-db7: x\nvary: accept, X-Shard-Db7\n\
        access-control-expose-headers: X-Node-Db7, retry-after\naccess-control-allow-methods: GET, DB7\n\
        date: Thu, 01 Jan 2026 00:00:00 GMT\ndate: Thu, 01 Jan 2026 00:00:01 GMT\n\
        strict-transport-security: max-age=60; includeSubDomains\nstrict-transport-security: max-age=7";
    let upstream = static_response(http_response(head, "<p>"));
    let gateway = Gateway::with_upstream(&upstream)
        .route("name: plain, match: { path: /plain }, upstream: main")
        .route("name: cors, match: { path: /cors }, upstream: main, cors: { allow_origins: [\"https://a.test\"] }")
        .start();
    for (path, vary) in [("/plain", None), ("/cors", Some("Origin, accept"))] {
        let response = gateway.client().request("GET", path, "origin: https://a.test\r\n", "");
        assert_eq!(response.status, 500);
        let text = format!("{:?}", response.headers).to_lowercase();
        assert!(!text.contains("db7"), "{text}");
        assert_eq!(response.header("vary"), vary, "{text}");
        let values = |wanted: &str| -> Vec<&str> {
            response.headers.iter().filter(|(name, _)| name == wanted).map(|(_, value)| &**value).collect()
        };
        assert_eq!(values("date"), ["Thu, 01 Jan 2026 00:00:00 GMT"]);
        assert_eq!(values("strict-transport-security"), ["max-age=60; includeSubDomains"]);
    }
}

/// An upstream whose response to `/NUMBER` is that of this number: the status and fields, and the body.
fn numbered_errors(errors: &[(&str, &[u8])]) -> ScriptedUpstream {
    let responses: Vec<_> = errors.iter().map(|(head, body)| http_response(head, body)).collect();
    by_request(move |request| {
        let number: usize = request.path().rsplit('/').next().unwrap().parse().unwrap();
        vec![Step::Write(responses[number].clone())]
    })
}

#[test]
fn field_that_connection_names_does_not_count() {
    let gzip = CODINGS[0].1(br#"{"message":"No.","code":404}"#);
    let upstream = numbered_errors(&[
        (
            "429 Error\ncontent-type: application/json\nretry-after: 7\nconnection: Retry-After",
            br#"{"message":"No.","code":429}"#,
        ),
        (
            "503 Error\ncontent-type: application/json\nretry-after: 7\nconnection: retry-after",
            br#"{"message":"No.","code":503}"#,
        ),
        (
            "404 Error\ncontent-type: application/json\nconnection: Content-Type",
            br#"{"message":"No.","code":404}"#,
        ),
        (
            "404 Error\ncontent-type: application/json\ncontent-encoding: gzip\nconnection: Content-Encoding",
            &gzip,
        ),
    ]);
    let gateway = Gateway::with_upstream(&upstream).set("errors.upstream_messages", "all").start();
    let get = |path| gateway.client().request("GET", path, "accept-encoding: gzip\r\n", "");
    for (path, status) in [("/0", 429), ("/1", 503)] {
        let response = get(path);
        response.assert_response(status, &format!(r#"{{"message":"No.","code":{status}}}"#));
        assert_eq!(response.header("retry-after"), Some("5"), "{path}");
    }
    // Replaced: without its coding the second body is no text.
    for (path, message) in [("/2", "No."), ("/3", default_message(404))] {
        let response = get(path);
        response.assert_local_reply_message(404, message);
        assert_eq!(response.header("content-type"), Some("application/json"), "{path}");
    }
}

#[test]
fn route_cannot_take_nosniff_from_a_conforming_error() {
    let body: &[u8] = br#"{"message":"No.","code":404}"#;
    let upstream = numbered_errors(&[
        ("404 Error\ncontent-type: application/json\nx-content-type-options: nosniff", body),
        ("404 Error\ncontent-type: application/json", body),
    ]);
    let edits = |name: &str, edits: &str| {
        format!(
            "name: {name}, match: {{ path: \"/{name}/{{n}}\" }}, upstream: main, response_headers: {edits}"
        )
    };
    let gateway = Gateway::with_upstream(&upstream)
        .route(&edits("set", "{ set: { x-content-type-options: nosniff } }"))
        .route(&edits("other", "{ set: { x-content-type-options: sniff } }"))
        .route(&edits("add", "{ add: { x-content-type-options: nosniff } }"))
        .route(&edits("remove", "{ remove: [x-content-type-options] }"))
        .route("name: plain, match: { path: \"/plain/{n}\" }, upstream: main")
        .start();
    for (path, count) in [
        ("/set/0", 1),
        ("/set/1", 1),
        ("/other/0", 1),
        ("/other/1", 1),
        ("/add/0", 1),
        ("/add/1", 1),
        ("/remove/0", 1),
        ("/remove/1", 0),
        ("/plain/1", 0),
    ] {
        let response = gateway.client().get(path);
        assert_eq!(response.status, 404);
        let fields = response.headers.iter().filter(|(name, _)| name == "x-content-type-options");
        let values: Vec<_> = fields.map(|(_, value)| &**value).collect();
        assert_eq!(values, vec!["nosniff"; count], "{path}");
    }
}

#[test]
fn coded_error_is_measured_by_its_text() {
    let stored = |text: &[u8]| read_all(flate2::read::GzEncoder::new(text, flate2::Compression::none()));
    let text_of = |length: usize| {
        let start = br#"{"message":"No.","code":404"#.to_vec();
        let spaces = vec![b' '; length - start.len() - 1];
        [start, spaces, b"}".to_vec()].concat()
    };
    let (fits, too_long) = (text_of(64 * 1024), text_of(64 * 1024 + 1));
    let (coded, too_long_coded) = (stored(&fits), stored(&too_long));
    // An empty gzip member is 20 bytes of nothing.
    let padded = [coded.clone(), stored(b"").repeat(8 * 1024)].concat();
    assert!(coded.len() > fits.len());
    let json = "404 Error\ncontent-type: application/json";
    let coded_json = "404 Error\ncontent-type: application/json\ncontent-encoding: gzip";
    let identity = "404 Error\ncontent-type: application/json\ncontent-encoding: identity";
    let upstream = numbered_errors(&[
        (json, &fits),
        (coded_json, &coded),
        (json, &too_long),
        (coded_json, &too_long_coded),
        (identity, &too_long),
        (coded_json, &padded),
    ]);
    let gateway = Gateway::with_upstream(&upstream).start();
    for path in ["/0", "/1"] {
        let response = gateway.client().get(path);
        assert_eq!((response.status, response.body == fits), (404, true), "{path}");
    }
    for path in ["/2", "/3", "/4", "/5"] {
        gateway.client().get(path).assert_local_reply(404);
    }
    gateway.expect_metric("conformance_total", &[("result", "conforms")], 2.0);
    gateway.expect_metric("conformance_total", &[("result", "too_large")], 4.0);
}

/// 700 bodies of which the last byte is missing would need 42 MB; 32 MiB are shared.
#[test]
fn error_bodies_above_the_shared_memory_are_replaced_without_being_read() {
    const CLIENTS: usize = 700;
    const LENGTH: usize = 60_000;
    const SHARED: usize = 32 * 1024 * 1024;
    let body = format!("{:LENGTH$}", r#"{"message":"Not there.","code":404}"#);
    let response = http_response("404 Not Found\ncontent-type: application/json", &body);
    let (most, last) = response.split_at(response.len() - 1);
    let gate = Gate::new();
    let upstream = script([
        Step::ReadRequestHead,
        write_bytes(most.to_owned()),
        Step::WaitForGate(gate.clone()),
        write_bytes(last.to_owned()),
    ]);
    let gateway = Gateway::with_upstream(&upstream)
        .set("errors.upstream_body", "{ limit: 64KiB, timeout: 45s }")
        .start();

    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| gateway.client()).collect();
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nhost: a.test\r\n\r\n");
    }
    let unread = [("result", "buffers_full")];
    gateway.expect_metric_of_at_least("conformance_total", &unread, (CLIENTS - SHARED / LENGTH) as f64);
    gate.open();

    let mut replaced = 0;
    for client in &mut clients {
        let response = client.read(SentRequest::Http11("GET"));
        assert_eq!(response.status, 404);
        replaced += u32::from(response.body != body.as_bytes());
    }
    gateway.expect_metric("conformance_total", &unread, f64::from(replaced));
    gateway.expect_metric(
        "conformance_total",
        &[("result", "conforms")],
        CLIENTS as f64 - f64::from(replaced),
    );
    // The memory was given back.
    assert_eq!(gateway.client().get("/").body, body.as_bytes());
}
