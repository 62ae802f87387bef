//! Request and response smuggling by upgrades: framing fields on a 101, and requests with a body that ask for an
//! upgrade.
//!
//! A 101 has no content whatever its fields say: what follows belongs to the tunnel, in both directions, and is never
//! read as a message. A request whose upgrade is refused is an ordinary one, and the next request begins behind its
//! body.

use statusquo::conformance::Script;

use super::lenient_readers::{self, DuplicatePolicy, LenientRequest};
use super::request_reader::{MessageSource, ReadResult, read};

use super::super::prelude::*;

/// Fields of a 101 that say how long its content is.
const FRAMING: [&str; 10] = [
    "",
    "content-length: 0\r\n",
    "content-length: 4\r\n",
    "content-length: 99999\r\n",
    "content-length: 4\r\ncontent-length: 5\r\n",
    "content-length: -1\r\n",
    "transfer-encoding: chunked\r\n",
    "transfer-encoding: chunked\r\ncontent-length: 4\r\n",
    "transfer-encoding: gzip, chunked\r\n",
    "transfer-encoding: identity\r\ntransfer-encoding: chunked\r\n",
];

/// What a server sends behind a 101. Each could be read as the end of a body and a further response.
const TUNNELLED: [&str; 5] = [
    "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil",
    "4\r\nevil\r\n0\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
    "evilHTTP/1.1 404 Not Found\r\n\r\n",
    "0\r\n\r\n\r\n",
    "\r\n\r\n",
];

const WEBSOCKET: &str = "GET /chat HTTP/1.1\r\nhost: test\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
    sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\r\n";

fn switching(framing: &str) -> String {
    format!(
        "HTTP/1.1 101 Switching Protocols\r\n{framing}upgrade: websocket\r\nconnection: upgrade\r\n\
         sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
    )
}

#[test]
fn bytes_behind_a_101_are_no_message_whatever_its_framing_fields_say() {
    let cases: Vec<(&str, &str)> =
        FRAMING.iter().flat_map(|framing| TUNNELLED.iter().map(move |bytes| (*framing, *bytes))).collect();
    let steps: Vec<Script> = cases
        .iter()
        .map(|(framing, bytes)| {
            let bytes = format!("{}{bytes}", switching(framing));
            vec![Step::ReadRequestHead, write_bytes(bytes), Step::EchoRaw, Step::Close]
        })
        .collect();
    let upstream = scripts(steps);
    let gateway = Gateway::with_upstream(&upstream).set("log.requests", "all").start();
    for (number, (framing, bytes)) in cases.iter().enumerate() {
        let mut client = gateway.client();
        // The client hides a request in the tunnel; the echo returns it.
        let hidden = format!("GET /hidden/{number} HTTP/1.1\r\nhost: test\r\n\r\n");
        client.send(format!("{WEBSOCKET}{hidden}"));
        let response = client.read(SentRequest::Http11("GET"));
        assert_eq!(response.status, 101, "{framing:?} {bytes:?}: {response:?}");
        for name in ["content-length", "transfer-encoding"] {
            assert_eq!(response.header(name), None, "{framing:?} {bytes:?}");
        }
        client.wait_for(&format!("{bytes}{hidden}"));
    }
    assert_eq!(upstream.request_count(), cases.len());
    assert!(!gateway.log_text().contains("/hidden"));
}

#[test]
fn unexpected_101_is_replaced_whatever_its_framing_fields_say() {
    let upstream = by_request(|request| {
        let bytes =
            match request.path().strip_prefix("/chat/").and_then(|number| number.parse::<usize>().ok()) {
                None => "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nnext".to_owned(),
                Some(number) => format!("{}{}", switching(FRAMING[number]), TUNNELLED[0]),
            };
        vec![write_bytes(bytes)]
    });
    let gateway = Gateway::with_upstream(&upstream).start();
    let mut client = gateway.client();
    for number in 0..FRAMING.len() {
        client.get(&format!("/chat/{number}")).assert_local_reply(504);
        client.get("/next").assert_response(200, "next");
    }
}

/// The upstream answers a request for an upgrade with an ordinary response.
fn refusing_upgrades() -> ScriptedUpstream {
    by_request(|request| -> Script {
        let body = request.path().trim_start_matches('/').to_owned();
        let response = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        vec![Step::ReadBody, write_bytes(response)]
    })
}

fn with_upgrades(setup: GatewaySetup) -> GatewaySetup {
    setup.route("name: engine, match: { path: \"/{*rest}\" }, upstream: main, upgrades: [websocket, tcp]")
}

/// The fields of a request for `/first`, and its body. A second request follows at once.
const REQUESTS: [(&str, &str, &str); 10] = [
    ("POST", "upgrade: tcp\r\ncontent-length: 3\r\n", "abc"),
    ("POST", "upgrade: tcp\r\ncontent-length: 0\r\n", ""),
    ("POST", "upgrade: tcp\r\n", ""),
    (
        "PUT",
        "upgrade: tcp, websocket\r\ncontent-length: 42\r\n",
        "GET /hidden HTTP/1.1\r\nhost: other.test\r\n\r\n",
    ),
    ("GET", "upgrade: tcp\r\ncontent-length: 3\r\n", "abc"),
    ("POST", "upgrade: tcp\r\ntransfer-encoding: chunked\r\n", "3\r\nabc\r\n0\r\n\r\n"),
    ("POST", "upgrade: tcp\r\ntransfer-encoding: chunked\r\n", "0003 ; a\r\nabc\r\n0\r\n\r\n"),
    ("POST", "upgrade: websocket\r\ncontent-length: 3\r\n", "abc"),
    ("POST", "upgrade: h2c\r\nhttp2-settings: AA\r\ncontent-length: 3\r\n", "abc"),
    ("DELETE", "upgrade: tcp\r\nupgrade: tcp\r\ncontent-length: 3\r\n", "abc"),
];

#[test]
fn request_with_a_refused_upgrade_ends_where_its_body_ends() {
    let upstream = refusing_upgrades();
    let gateway = with_upgrades(Gateway::with_upstream(&upstream)).start();
    let mut client = gateway.client();
    let mut expected = Vec::new();
    for (number, (method, fields, body)) in REQUESTS.into_iter().enumerate() {
        let [first, second] = [2 * number, 2 * number + 1].map(|number| format!("/{number:02}"));
        client.send(format!(
            "{method} {first} HTTP/1.1\r\nhost: test\r\nconnection: upgrade\r\n{fields}\r\n{body}\
             GET {second} HTTP/1.1\r\nhost: test\r\n\r\n"
        ));
        client.read(SentRequest::Http11(method)).assert_response(200, &first[1..]);
        client.read(SentRequest::Http11("GET")).assert_response(200, &second[1..]);
        let decoded = if fields.contains("chunked") { "abc" } else { body };
        expected.push((method.to_owned(), first, decoded.as_bytes().to_vec()));
        expected.push(("GET".to_owned(), second, Vec::new()));
    }
    expect_requests_of_all_readers(&upstream, &expected);
}

#[test]
fn request_for_an_upgrade_with_an_ambiguous_length_is_rejected() {
    let upstream = refusing_upgrades();
    let gateway = with_upgrades(Gateway::with_upstream(&upstream)).start();
    for fields in [
        "content-length: 3\r\ntransfer-encoding: chunked\r\n",
        "content-length: 3\r\ncontent-length: 4\r\n",
        "content-length: +3\r\n",
        "content-length: 3, 4\r\n",
        "transfer-encoding: identity\r\n",
        "connection: content-length\r\ncontent-length: 3\r\n",
    ] {
        let mut client = gateway.client();
        client.send(format!(
            "POST /first HTTP/1.1\r\nhost: test\r\nconnection: upgrade\r\nupgrade: tcp\r\n{fields}\r\nabc\
             GET /second HTTP/1.1\r\nhost: test\r\n\r\n"
        ));
        let response = client.read(SentRequest::Http11("POST"));
        assert_eq!(response.status, 400, "{fields:?}");
        client.expect_close();
    }
    assert_eq!(upstream.request_count(), 0);
}

/// The strict reader and both lenient readers see these requests in what the upstream received, ordered by target.
#[track_caller]
fn expect_requests_of_all_readers(upstream: &ScriptedUpstream, expected: &[LenientRequest]) {
    let recording = upstream.recording();
    let received: Vec<&[u8]> = recording.connections.iter().map(|connection| &connection.raw[..]).collect();
    let by_target = |mut requests: Vec<LenientRequest>| {
        requests.sort_by(|one, other| one.1.cmp(&other.1));
        requests
    };
    for duplicates in [DuplicatePolicy::First, DuplicatePolicy::Last] {
        let read = received.iter().map(|bytes| lenient_readers::read_all(bytes, duplicates));
        let (found, rest): (Vec<_>, Vec<_>) = read.unzip();
        assert!(rest.iter().all(|rest| rest.is_empty()), "{duplicates:?}: {rest:?}");
        assert_eq!(by_target(found.concat()), expected, "{duplicates:?}");
    }
    let mut found = Vec::new();
    for mut rest in received {
        while !rest.is_empty() {
            // The gateway may ask for an upgrade, which is a field between two neighbours: read as a client's request.
            let ReadResult::Complete(head, body, length) = read(rest, MessageSource::Client) else {
                panic!("not a request: {}", rest.escape_ascii());
            };
            found.push((head.method, head.target, body));
            rest = &rest[length..];
        }
    }
    assert_eq!(by_target(found), expected);
}
