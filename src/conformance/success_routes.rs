//! Valid responses of the faulty upstream, to show that the gateway forwards them unchanged.
//!
//! The counterpart of [`super::case`]. Unknown paths get an HTML 404, which the gateway replaces.

use std::time::Duration;

use bytes::Bytes;

use super::payload::http_response;
use super::recorder::RecordedHead;
use super::step::{Script, Step, write_bytes};

/// A path with a valid response.
#[derive(Clone, Copy, Debug)]
pub struct SuccessRoute {
    /// The request path.
    pub path: &'static str,
    /// The response, in one line.
    pub description: &'static str,
    /// The status code that the client receives.
    pub status: u16,
}

/// The paths that `demo` lists. [`success_script`] also serves `/status/N` and `/bytes/N` for any number.
pub const fn success_routes() -> &'static [SuccessRoute] {
    &[
        SuccessRoute { path: "/ok", description: "a JSON response", status: 200 },
        SuccessRoute { path: "/stream", description: "ten chunks, one every 200 ms", status: 200 },
        SuccessRoute { path: "/echo", description: "echoes the request body while it arrives", status: 200 },
        SuccessRoute { path: "/bytes/1000000", description: "1,000,000 bytes", status: 200 },
        SuccessRoute { path: "/created", description: "201 with a Location", status: 201 },
        SuccessRoute { path: "/no-content", description: "204", status: 204 },
        SuccessRoute { path: "/not-modified", description: "304", status: 304 },
        SuccessRoute { path: "/hints", description: "103 Early Hints, then 200", status: 200 },
    ]
}

/// The script for a request that selects no fault.
pub fn success_script(request: &RecordedHead) -> Script {
    let path = request.path();
    if path == "/echo" {
        return vec![Step::ReadRequestHead, Step::EchoBody];
    }
    let mut script = vec![Step::ReadRequestHead, Step::SendContinue, Step::ReadBody];
    script.extend(if request.method == "HEAD" {
        vec![Step::Write(head_response(path))]
    } else {
        response_steps(path)
    });
    script
}

fn response_steps(path: &str) -> Script {
    match path {
        "/ok" => vec![Step::Write(http_response("200 OK\ncontent-type: application/json", r#"{"ok":true}"#))],
        "/created" => vec![Step::Write(http_response("201 Created\nlocation: /orders/8", "{}"))],
        "/no-content" => {
            vec![write_bytes("HTTP/1.1 204 No Content\r\ncontent-type: application/json\r\n\r\n")]
        }
        "/not-modified" => vec![write_bytes("HTTP/1.1 304 Not Modified\r\netag: \"7\"\r\n\r\n")],
        "/hints" => vec![
            write_bytes("HTTP/1.1 103 Early Hints\r\nlink: </style.css>; rel=preload\r\n\r\n"),
            Step::Write(http_response("200 OK\ncontent-type: text/plain", "after the hints\n")),
        ],
        "/stream" => vec![
            write_bytes("HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n"),
            Step::WriteRepeated {
                bytes: "5\r\ntick\n\r\n".into(),
                count: 10,
                interval: Duration::from_millis(200),
            },
            write_bytes("0\r\n\r\n"),
        ],
        _ => parameterised_response(path),
    }
}

/// `/status/N`: status N with an HTML page. `/bytes/N`: a body of N bytes. Any other path: an HTML 404.
fn parameterised_response(path: &str) -> Script {
    if let Some(size) = path_number(path, "/bytes/") {
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\ncontent-length: {size}\r\n\r\n"
        );
        return vec![
            write_bytes(head),
            Step::WriteRepeated {
                bytes: PATTERN.into(),
                count: size / PATTERN.len() as u64,
                interval: Duration::ZERO,
            },
            write_bytes(PATTERN.bytes().take(size as usize % PATTERN.len()).collect::<Vec<u8>>()),
        ];
    }
    let status = path_number(path, "/status/").filter(|status| (200..600).contains(status)).unwrap_or(404);
    if matches!(status, 204 | 304) {
        return vec![write_bytes(format!("HTTP/1.1 {status} Nothing\r\n\r\n"))];
    }
    let head = format!("{status} Of That Name\ncontent-type: text/html\nserver: apache/2.4");
    vec![Step::Write(http_response(&head, format!("<html><body><h1>{status}</h1></body></html>")))]
}

fn path_number(path: &str, prefix: &str) -> Option<u64> {
    path.strip_prefix(prefix)?.parse().ok()
}

/// The response headers of the corresponding GET, without a body.
fn head_response(path: &str) -> Bytes {
    let status = path_number(path, "/status/").filter(|status| (200..600).contains(status));
    let route_status =
        success_routes().iter().find(|route| route.path == path).map(|route| u64::from(route.status));
    let status = status.or(route_status).unwrap_or(if path.starts_with("/bytes/") { 200 } else { 404 });
    let length = match path {
        "/ok" => "content-length: 11\r\n".to_owned(),
        _ => {
            path_number(path, "/bytes/").map(|size| format!("content-length: {size}\r\n")).unwrap_or_default()
        }
    };
    format!("HTTP/1.1 {status} Of That Name\r\ncontent-type: application/json\r\n{length}\r\n").into()
}

/// 1,024 bytes of text, repeated in the body of `/bytes/N`, so that a test can check a download byte for byte.
pub const PATTERN: &str = include_str!("pattern.txt");
