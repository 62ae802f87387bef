//! Random inputs: mostly valid requests and responses made of critical fragments, and plain random bytes.
//!
//! The generators do not depend on the expected results.

use super::random::SeededRandom;

/// Bytes that belong together; `separate` writes them in a write of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fragment {
    pub bytes: Vec<u8>,
    pub separate: bool,
}

/// The bytes, grouped by write.
pub fn writes(pieces: &[Fragment]) -> Vec<Vec<u8>> {
    let mut writes: Vec<Vec<u8>> = Vec::new();
    for piece in pieces {
        match writes.last_mut() {
            Some(last) if !piece.separate => last.extend_from_slice(&piece.bytes),
            _ => writes.push(piece.bytes.clone()),
        }
    }
    writes
}

/// All variants with one piece less.
pub fn without_one(pieces: &[Fragment]) -> Vec<Vec<Fragment>> {
    let but = |left_out| {
        let kept = pieces.iter().enumerate().filter(move |(index, _)| *index != left_out);
        kept.map(|(_, piece)| piece.clone()).collect()
    };
    (0..pieces.len()).map(but).collect()
}

pub fn show(pieces: &[Fragment]) -> String {
    let line = |write: &Vec<u8>| format!("  b\"{}\"\n", write.escape_ascii());
    writes(pieces).iter().map(line).collect()
}

/// Random bytes of an upstream, sent after a request.
pub fn response(random: &mut SeededRandom) -> Vec<Fragment> {
    match random.below(100) {
        0..70 => split_randomly(structured_response(random), random),
        70..90 => {
            let mut bytes = structured_response(random).concat();
            random.damage(&mut bytes);
            split_randomly(lines(&bytes), random)
        }
        90..95 => split_randomly(vec![random.bytes(300)], random),
        _ => split_randomly(
            vec![b"HTTP/1.1 ".to_vec(), random.bytes(60), b"\r\n\r\n".to_vec(), random.bytes(60)],
            random,
        ),
    }
}

/// Random bytes of a client on one connection, with at most `max_requests` requests.
pub fn requests(random: &mut SeededRandom, max_requests: usize) -> Vec<Fragment> {
    match random.below(100) {
        0..65 => split_randomly(structured_requests(random, max_requests), random),
        65..88 => {
            let mut bytes = structured_requests(random, max_requests).concat();
            random.damage(&mut bytes);
            split_randomly(lines(&bytes), random)
        }
        88..92 => Vec::new(),
        92..96 => split_randomly(vec![random.bytes(200)], random),
        _ => split_randomly(
            vec![b"GET /".to_vec(), random.bytes(40), b" HTTP/1.1\r\nhost: a\r\n\r\n".to_vec()],
            random,
        ),
    }
}

fn split_randomly(fragments: Vec<Vec<u8>>, random: &mut SeededRandom) -> Vec<Fragment> {
    let apart = random.percent(30);
    fragments.into_iter().map(|bytes| Fragment { bytes, separate: apart && random.percent(30) }).collect()
}

fn lines(bytes: &[u8]) -> Vec<Vec<u8>> {
    bytes.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect()
}

fn structured_response(random: &mut SeededRandom) -> Vec<Vec<u8>> {
    if random.percent(30) {
        return valid_response(random);
    }
    let mut parts: Vec<Vec<u8>> = Vec::new();
    if random.percent(12) {
        let times = if random.percent(10) { 17 + random.below(4) } else { 1 + random.below(3) };
        let interim = random.pick(INTERIM);
        parts.extend((0..times).map(|_| interim.into()));
    }
    let line = if random.percent(75) {
        let status = random.pick(STATUSES);
        format!("HTTP/1.1 {status} Whatever\r\n")
    } else {
        format!("{}{}", random.pick(STATUS_LINES), random.pick(ENDS))
    };
    parts.push(line.into());
    for _ in 0..random.below(4) {
        parts.push(format!("{}{}", random.pick(RESPONSE_FIELDS), random.pick(ENDS)).into());
    }
    let body = random.pick(BODIES);
    let (framing, body) = match random.below(10) {
        0..4 => (format!("content-length: {}\r\n", body.len()), vec![body.as_bytes().to_vec()]),
        4..7 => ("transfer-encoding: chunked\r\n".to_owned(), chunked(body.as_bytes(), random)),
        7 => (String::new(), vec![body.as_bytes().to_vec()]),
        _ => (format!("{}\r\n", random.pick(FRAMINGS)), vec![body.as_bytes().to_vec()]),
    };
    parts.push(framing.into());
    parts.push(b"\r\n".to_vec());
    parts.extend(body);
    if random.percent(10) {
        parts.push(random.pick(TRAILING_BYTES).into());
    }
    if random.percent(10) {
        parts.truncate(1 + random.below(parts.len()));
    }
    parts
}

/// A well-formed response, success or error.
fn valid_response(random: &mut SeededRandom) -> Vec<Vec<u8>> {
    let (status, body) = (random.pick(STATUSES), random.pick(BODIES));
    let mut parts = vec![format!("HTTP/1.1 {status} Whatever\r\n").into_bytes()];
    if random.percent(60) {
        parts.push(format!("{}\r\n", random.pick(&RESPONSE_FIELDS[..8])).into());
    }
    if random.percent(50) {
        parts.push(format!("content-length: {}\r\n\r\n{body}", body.len()).into());
        return parts;
    }
    parts.push(b"transfer-encoding: chunked\r\n\r\n".to_vec());
    for chunk in body.as_bytes().chunks(1 + random.below(body.len() + 1)) {
        parts.push(format!("{:x}\r\n", chunk.len()).into());
        parts.push([chunk, b"\r\n"].concat());
    }
    parts.push(b"0\r\n\r\n".to_vec());
    parts
}

fn structured_requests(random: &mut SeededRandom, max_requests: usize) -> Vec<Vec<u8>> {
    if random.percent(40) {
        return (0..1 + random.below(max_requests)).flat_map(|_| valid_request(random)).collect();
    }
    let mut parts = Vec::new();
    for _ in 0..1 + random.below(max_requests) {
        if random.percent(5) {
            parts.push(random.pick(&["\r\n", "\n", "\r\n\r\n", " "]).into());
        }
        let line = if random.percent(80) {
            let method = random.pick(&["GET", "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "head"]);
            let version = random.pick(&["1.1", "1.1", "1.1", "1.1", "1.0"]);
            format!("{method} {} HTTP/{version}\r\n", random.pick(TARGETS))
        } else {
            format!("{}{}", random.pick(REQUEST_LINES), random.pick(ENDS))
        };
        parts.push(line.into());
        if random.percent(92) {
            parts.push(b"host: test\r\n".to_vec());
        }
        for _ in 0..random.below(3) {
            parts.push(format!("{}{}", random.pick(REQUEST_FIELDS), random.pick(ENDS)).into());
        }
        let body = random.pick(&["", "x", "abc", "a=b&c=d", "GET /inner HTTP/1.1\r\nhost: test\r\n\r\n"]);
        let (framing, body) = match random.below(10) {
            0..4 => (String::new(), Vec::new()),
            4..6 => (format!("content-length: {}\r\n", body.len()), vec![body.as_bytes().to_vec()]),
            6..8 => ("transfer-encoding: chunked\r\n".to_owned(), chunked(body.as_bytes(), random)),
            _ => (format!("{}\r\n", random.pick(FRAMINGS)), vec![body.as_bytes().to_vec()]),
        };
        parts.push(framing.into());
        parts.push(b"\r\n".to_vec());
        parts.extend(body);
    }
    if random.percent(8) {
        parts.truncate(1 + random.below(parts.len()));
    }
    parts
}

/// A request that a gateway must not reject.
fn valid_request(random: &mut SeededRandom) -> Vec<Vec<u8>> {
    let method = random.pick(&["GET", "GET", "HEAD", "POST", "PUT", "DELETE"]);
    let target = random.pick(&TARGETS[..9]);
    let body = random.pick(&["x", "abc", "GET /inner HTTP/1.1\r\nhost: test\r\n\r\n"]);
    let mut parts = vec![format!("{method} {target} HTTP/1.1\r\nhost: test\r\n").into_bytes()];
    match random.below(4) {
        0 => parts.push(format!("content-length: {}\r\n\r\n{body}", body.len()).into()),
        1 => {
            parts.push(b"transfer-encoding: chunked\r\n\r\n".to_vec());
            for chunk in body.as_bytes().chunks(1 + random.below(body.len())) {
                parts.push(format!("{:x}\r\n", chunk.len()).into());
                parts.push([chunk, b"\r\n"].concat());
            }
            parts.push(b"0\r\n\r\n".to_vec());
        }
        2 => parts.push(b"expect: 100-continue\r\ncontent-length: 3\r\n\r\nabc".to_vec()),
        _ => parts.push(b"\r\n".to_vec()),
    }
    parts
}

/// A chunked body; one in four is malformed.
pub fn chunked(body: &[u8], random: &mut SeededRandom) -> Vec<Vec<u8>> {
    let mut parts = Vec::new();
    for chunk in body.chunks(1 + random.below(body.len() + 1)) {
        let size = match random.below(20) {
            0 => format!(
                "{}{:x}\r\n",
                random.pick(&["0", "+", "-", "0x", " ", "fffffffffffffff"]),
                chunk.len()
            ),
            1 => format!(
                "{:x}{}\r\n",
                chunk.len(),
                random.pick(&[";x=y", ";", " ", ";a=\"b\"", "\t", ";\u{7f}", "g"])
            ),
            _ => format!("{:x}\r\n", chunk.len()),
        };
        parts.push(size.into());
        parts.push(chunk.to_vec());
        parts.push(
            random.pick(&["\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\n", "", "\r"]).into(),
        );
    }
    parts.push(
        random
            .pick(&[
                "0\r\n\r\n",
                "0\r\n\r\n",
                "0\r\n\r\n",
                "0\r\n\r\n",
                "0\r\n\r\n",
                "0\r\nx: y\r\n\r\n",
                "000\r\n\r\n",
                "0\r\nhost: b\r\n\r\n",
                "0\r\n",
                "0",
                "",
                "0\n\n",
                "0\r\nx y\r\n\r\n",
            ])
            .into(),
    );
    parts
}

const STATUSES: &[u16] = &[
    200, 200, 200, 200, 201, 204, 206, 301, 302, 304, 400, 401, 402, 403, 404, 405, 408, 409, 410, 412, 416,
    418, 422, 423, 424, 429, 451, 499, 500, 501, 502, 503, 504, 505, 507, 511, 520, 529, 530, 598, 599,
];

const STATUS_LINES: &[&str] = &[
    "HTTP/1.1 200",
    "HTTP/1.1 200 ",
    "HTTP/1.0 200 OK",
    "HTTP/1.0 404 No",
    "HTTP/1.1 200 \u{e9}",
    "HTTP/1.1  200 OK",
    "HTTP/1.1 20 OK",
    "HTTP/1.1 099 X",
    "HTTP/1.1 600 X",
    "HTTP/1.1 999 X",
    "HTTP/1.1 -1 X",
    "HTTP/1.1 2x0 X",
    "HTTP/1.1 2000 X",
    "HTTP/2 200 OK",
    "HTTP/1.2 200 OK",
    "http/1.1 200 OK",
    "HTTP/1.1\t200 OK",
    " HTTP/1.1 200 OK",
    "ICY 200 OK",
    "220 mail ESMTP",
    "SSH-2.0-x",
    "<html>",
    "",
    "\0\0\0\u{4}",
    "HTTP/1.1 101 Switching Protocols",
    "HTTP/1.1 100 Continue",
    "HTTP/1.1 503",
];

const INTERIM: &[&str] = &[
    "HTTP/1.1 100 Continue\r\n\r\n",
    "HTTP/1.1 103 Early Hints\r\nlink: </a>; rel=preload\r\n\r\n",
    "HTTP/1.1 102 Processing\r\n\r\n",
    "HTTP/1.1 199 \r\n\r\n",
    "HTTP/1.1 103 Hints\r\ncontent-length: 3\r\n\r\n",
    "HTTP/1.1 103 Hints\r\ntransfer-encoding: chunked\r\n\r\n",
    "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
    "HTTP/1.0 100 Continue\r\n\r\n",
];

const RESPONSE_FIELDS: &[&str] = &[
    "content-type: application/json",
    "Content-Type: text/html; charset=utf-8",
    "content-type: application/json; charset=utf-16",
    "content-type: application/grpc",
    "content-type: text/event-stream",
    "connection: close",
    "connection: keep-alive",
    "connection: content-length",
    "connection: x-a, close",
    "content-encoding: gzip",
    "content-encoding: br",
    "content-encoding: zstd",
    "content-encoding: deflate",
    "content-encoding: gzip, br",
    "content-encoding: identity",
    "retry-after: 7",
    "retry-after: soon",
    "retry-after: -1",
    "retry-after: 99999999999999999999",
    "location: /elsewhere",
    "set-cookie: a=b",
    "set-cookie: c=d",
    "server: apache",
    "x-powered-by: php",
    "www-authenticate: Basic",
    "date: Sun, 06 Nov 1994 08:49:37 GMT",
    "date: yesterday",
    "refresh: 0; url=/",
    "x-a:",
    "x-a: b\u{0}",
    "x-a: b\rc",
    "x-a: b\nc: d",
    " folded",
    "\tfolded",
    "x-a : b",
    ": b",
    "no colon",
    "x-\u{e9}: b",
    "x-a: \u{e9}\u{a0}",
    "x-request-id: of-the-upstream",
    "x-ratelimit-limit: 5",
    "x-ratelimit-reset: x",
    "cache-control: public",
    "vary: *",
    "allow: GET",
    "content-range: bytes */3",
    "upgrade: h2c",
    "trailer: x",
    "keep-alive: timeout=5",
    "proxy-authenticate: Basic",
    "access-control-allow-origin: *",
    "transfer-encoding : chunked",
    "grpc-status: 2",
    "strict-transport-security: max-age=1",
    "x-content-type-options: sniff",
    "content-length_: 5",
    "etag: \"7\"",
];

const FRAMINGS: &[&str] = &[
    "content-length: 0",
    "content-length: 1",
    "content-length: 3",
    "content-length: 99",
    "content-length: 999999999999",
    "content-length: +3",
    "content-length: -1",
    "content-length: 0x3",
    "content-length: 3, 3",
    "content-length: 3, 4",
    "content-length: 3\r\ncontent-length: 3",
    "content-length: 3\r\ncontent-length: 4",
    "content-length:",
    "content-length: 99999999999999999999999",
    "content-length: 3 3",
    "content-length : 3",
    "content-length: 3;",
    "content-length: 3.0",
    "content_length: 3",
    "content-length: 3\r\ntransfer-encoding: chunked",
    "transfer-encoding: chunked\r\ncontent-length: 3",
    "transfer-encoding: identity",
    "transfer-encoding: gzip, chunked",
    "transfer-encoding: chunked, chunked",
    "transfer-encoding: xchunked",
    "transfer-encoding: chunked\r\ntransfer-encoding: chunked",
    "transfer-encoding: CHUNKED",
    "transfer-encoding: \"chunked\"",
    "transfer-encoding:\u{b}chunked",
    "transfer-encoding: chunked;q=1",
    "transfer-encoding:\tchunked",
    "transfer_encoding: chunked",
    "transfer-encoding: ,chunked",
    "transfer-encoding: chunked,",
    "transfer-encoding: identity\r\ntransfer-encoding: chunked",
    "x: y\r\n transfer-encoding: chunked",
];

const BODIES: &[&str] = &[
    "",
    "x",
    "all is well",
    "<html><h1>It broke</h1></html>",
    "{\"ok\":true}",
    "{\"message\":\"No such order.\",\"code\":404}",
    "{\"message\":\"Taken.\",\"code\":409,\"type\":\"order_taken\"}",
    "{\"code\":404,\"message\":\"No.\"}",
    "{\"message\":\"Broken.\",\"code\":500}",
    "{\"message\":\"A\",\"message\":\"B\",\"code\":404}",
    "{\"message\":\"\\ud800\",\"code\":404}",
    "\u{feff}{\"message\":\"No.\",\"code\":404}",
    "{\"message\":\"No.\",\"code\":404",
    "{\"message\":\"<b>\",\"code\":404}",
    "{\"error\":{\"message\":\"Nested.\"}}",
    "{\"detail\":\"Of a framework.\"}",
    "{\"title\":\"T\",\"status\":404}",
    "{\"errors\":[{\"message\":\"Of a graph.\"}]}",
    "{\"message\":\"No.\",\"code\":404,\"trace\":[1,2]}",
    "{\"message\":\"No.\",\"code\":4.04e2}",
    "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
    "null",
    "\u{1f}\u{8b}\u{8}\0\0\0\0\0",
    "(\u{b5}/\u{fd}",
    "{\"message\":\"at x.js:10 of y\",\"code\":400}",
    "{\"message\":\"Traceback (most recent call last)\",\"code\":400}",
    "{\"message\":\"a\\u0000b\",\"code\":400}",
];

/// Bytes after a complete response.
const TRAILING_BYTES: &[&str] = &[
    "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nforged",
    "\r\n",
    "x",
    "0\r\n\r\n",
    "HTTP/1.1 408 Request Timeout\r\nconnection: close\r\n\r\n",
];

const ENDS: &[&str] = &[
    "\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\r\n",
    "\r\n", "\n", "\r", "\r\r\n", "",
];

const TARGETS: &[&str] = &[
    "/",
    "/fine",
    "/a?b=c",
    "/until",
    "/chunks",
    "/hints",
    "/broken",
    "/taken",
    "/early",
    "/%61",
    "/a//b",
    "/{a}",
    "/\u{e9}",
    "*",
    "http://test/abs",
    "http://other/abs",
    "HTTP://test",
    "/a/../b",
    "/a;b",
    "/a%2fb",
    "/a%zz",
    "/a#b",
    "?q",
    "//test/x",
    "http://test?q",
    "/..%2f",
    "/a\\b",
    "a",
    "/a%00",
];

const REQUEST_LINES: &[&str] = &[
    "GET / HTTP/1.1",
    "GET  / HTTP/1.1",
    "GET / HTTP/1.1 ",
    "GET / HTTP/2.0",
    "GET / HTTP/1.2",
    "GET / HTTP/0.9",
    "GET /",
    "GET",
    "CONNECT test:443 HTTP/1.1",
    "TRACE / HTTP/1.1",
    "PRI * HTTP/2.0",
    "G@T / HTTP/1.1",
    "get / HTTP/1.1",
    "GET\t/ HTTP/1.1",
    "GET / http/1.1",
    "HEAD / HTTP/7.7",
    "GET /a b HTTP/1.1",
    " GET / HTTP/1.1",
    "OPTIONS * HTTP/1.1",
    "X-Y.~ / HTTP/1.1",
    "\u{16}\u{3}\u{1}",
    "POST / HTTP/1.1",
    "GET /?` HTTP/1.1",
    "GET / HTTP/1.10",
    "GET / HTTP/+1.1",
    "",
];

const REQUEST_FIELDS: &[&str] = &[
    "connection: close",
    "connection: keep-alive",
    "connection: host",
    "connection: content-length",
    "connection: x-a",
    "connection: \"",
    "host: b",
    "Host:",
    "host: a b",
    "expect: 100-continue",
    "expect: x",
    "expect: 100-continue, x",
    "te: trailers",
    "upgrade: h2c",
    "upgrade: websocket",
    "x-a:",
    "x-a: b\u{0}",
    "x-a: b\rc",
    "x-a: b\nc: d",
    " folded",
    "\tfolded",
    "x-a : b",
    ": b",
    "no colon",
    "x-\u{e9}: b",
    "x-a: \u{e9}\u{a0}",
    "x-a: \u{7f}",
    "cookie: a=b",
    "x-forwarded-for: 1.2.3.4",
    "x-request-id: 7",
    "via: 1.1 x",
    "origin: https://a.example",
    "access-control-request-method: GET",
    "content-type: application/grpc",
    "keep-alive: 5",
    "proxy-connection: close",
    "transfer-encoding : chunked",
    "content-length : 3",
    "range: bytes=0-1",
    "trailer: x",
    "http2-settings: AA",
    "traceparent: 00-0-0-00",
    "content_length: 3",
    "transfer_encoding: chunked",
    "x_request_id: 8",
    "accept-encoding: gzip",
];
