//! What the misbehaving upstream does well: the paths that show that a gateway leaves good traffic alone.
//!
//! The counterpart of [`super::faults`]. Nothing here is an error that would be replaced, but for unknown paths, which get
//! the HTML page that a web server would send.

use std::time::Duration;

use bytes::Bytes;

use super::record::Request;
use super::script::{Script, Step, reply, say};

/// A path that works.
#[derive(Clone, Copy, Debug)]
pub struct GoodPath {
    /// The path to ask for.
    pub path: &'static str,
    /// What it shows, in one line.
    pub meaning: &'static str,
    /// The status that the client gets.
    pub code: u16,
}

/// The paths worth showing. [`good_script`] serves them, and `/status/N` and `/bytes/N` for any number.
pub const fn good_paths() -> &'static [GoodPath] {
    &[
        GoodPath { path: "/ok", meaning: "a JSON answer", code: 200 },
        GoodPath { path: "/stream", meaning: "ten chunks, one every 200 ms", code: 200 },
        GoodPath { path: "/echo", meaning: "sends the request body back while it arrives", code: 200 },
        GoodPath { path: "/bytes/1000000", meaning: "a million bytes", code: 200 },
        GoodPath { path: "/created", meaning: "201 with a Location", code: 201 },
        GoodPath { path: "/no-content", meaning: "204", code: 204 },
        GoodPath { path: "/not-modified", meaning: "304", code: 304 },
        GoodPath { path: "/hints", meaning: "103 Early Hints, then 200", code: 200 },
    ]
}

/// What is played for a request that asks for no fault.
pub fn good_script(request: &Request) -> Script {
    let path = request.path();
    if path == "/echo" {
        return vec![Step::ReadHead, Step::Echo];
    }
    let mut script = vec![Step::ReadHead, Step::Continue, Step::ReadBody];
    script.extend(if request.method == "HEAD" {
        vec![Step::Write(without_body(path))]
    } else {
        answer(path)
    });
    script
}

fn answer(path: &str) -> Script {
    match path {
        "/ok" => vec![Step::Write(reply("200 OK\ncontent-type: application/json", r#"{"ok":true}"#))],
        "/created" => vec![Step::Write(reply("201 Created\nlocation: /orders/8", "{}"))],
        "/no-content" => vec![say("HTTP/1.1 204 No Content\r\ncontent-type: application/json\r\n\r\n")],
        "/not-modified" => vec![say("HTTP/1.1 304 Not Modified\r\netag: \"7\"\r\n\r\n")],
        "/hints" => vec![
            say("HTTP/1.1 103 Early Hints\r\nlink: </style.css>; rel=preload\r\n\r\n"),
            Step::Write(reply("200 OK\ncontent-type: text/plain", "after the hints\n")),
        ],
        "/stream" => vec![
            say("HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n"),
            Step::Repeat { bytes: "5\r\ntick\n\r\n".into(), times: 10, every: Duration::from_millis(200) },
            say("0\r\n\r\n"),
        ],
        _ => numbered(path),
    }
}

/// `/status/N`: that status with an HTML page. `/bytes/N`: a body of so many bytes. Anything else is an HTML 404.
fn numbered(path: &str) -> Script {
    if let Some(size) = number(path, "/bytes/") {
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\ncontent-length: {size}\r\n\r\n"
        );
        return vec![
            say(head),
            Step::Repeat { bytes: PATTERN.into(), times: size / PATTERN.len() as u64, every: Duration::ZERO },
            say(PATTERN.bytes().take(size as usize % PATTERN.len()).collect::<Vec<u8>>()),
        ];
    }
    let status = number(path, "/status/").filter(|status| (200..600).contains(status)).unwrap_or(404);
    if matches!(status, 204 | 304) {
        return vec![say(format!("HTTP/1.1 {status} Nothing\r\n\r\n"))];
    }
    let head = format!("{status} Of That Name\ncontent-type: text/html\nserver: apache/2.4");
    vec![Step::Write(reply(&head, format!("<html><body><h1>{status}</h1></body></html>")))]
}

fn number(path: &str, prefix: &str) -> Option<u64> {
    path.strip_prefix(prefix)?.parse().ok()
}

/// The head that GET would get and nothing after it.
fn without_body(path: &str) -> Bytes {
    let status = number(path, "/status/").filter(|status| (200..600).contains(status));
    let known = good_paths().iter().find(|good| good.path == path).map(|good| u64::from(good.code));
    let status = status.or(known).unwrap_or(if path.starts_with("/bytes/") { 200 } else { 404 });
    let length = match path {
        "/ok" => "content-length: 11\r\n".to_owned(),
        _ => number(path, "/bytes/").map(|size| format!("content-length: {size}\r\n")).unwrap_or_default(),
    };
    format!("HTTP/1.1 {status} Of That Name\r\ncontent-type: application/json\r\n{length}\r\n").into()
}

/// 1,024 bytes of text: what `/bytes/N` is made of, so that a test can check a download byte for byte.
pub const PATTERN: &str = include_str!("pattern.txt");
