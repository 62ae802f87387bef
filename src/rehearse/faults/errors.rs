//! Rows of the table whose upstream answers an error by itself, in a status or a body that is not documented.
//!
//! For upstreams that do not answer, see [`super::connection`].

use std::io::Write;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::super::script::{Step, reply, say};
use super::{Outcome, UpstreamFault, answered, status_of};

/// Which statuses become which.
pub(super) fn statuses() -> Vec<UpstreamFault> {
    const HTML: &str = "<html><body><h1>It broke</h1><hr>apache/2.4 on db-7.internal</body></html>";
    let status = |name, meaning, line: &str, code| {
        let head = format!("{line}\ncontent-type: text/html\nserver: apache/2.4\nx-powered-by: PHP/8.3");
        answered(name, meaning, status_of(line), code, vec![Step::Write(reply(&head, HTML))])
    };
    let with = |name, meaning, line: &str, field: &str, code| {
        let head = format!("{line}\ncontent-type: text/html\n{field}");
        answered(name, meaning, status_of(line), code, vec![Step::Write(reply(&head, HTML))])
    };
    vec![
        status("html-500", "an HTML error page, 500", "500 Internal Server Error", 500),
        status("html-502", "an HTML error page, 502", "502 Bad Gateway", 504),
        status("html-503", "an HTML error page, 503", "503 Service Unavailable", 503),
        status("html-404", "an HTML error page, 404", "404 Not Found", 404),
        status("payment-required", "402, which is not documented", "402 Payment Required", 403),
        status("method-not-allowed", "405, which is not documented", "405 Method Not Allowed", 400),
        status("request-timeout", "408, which clients would repeat", "408 Request Timeout", 504),
        status("gone", "410, which is not documented", "410 Gone", 404),
        status("precondition-failed", "412, which is not documented", "412 Precondition Failed", 409),
        status("teapot", "418, which is not documented", "418 I'm a teapot", 400),
        status("not-implemented", "501, which is not documented", "501 Not Implemented", 500),
        status("bandwidth", "509, which is nobody's standard", "509 Bandwidth Limit Exceeded", 503),
        status(
            "cdn-520",
            "520, from a content delivery network",
            "520 Web Server Returned an Unknown Error",
            504,
        ),
        with(
            "login-page",
            "401 with a challenge",
            "401 Unauthorized",
            "www-authenticate: Bearer realm=\"shop\"",
            401,
        )
        .with_fields(&[("www-authenticate", "Bearer realm=\"shop\"")]),
        with("slow-down", "429 with a Retry-After", "429 Too Many Requests", "retry-after: 7", 429)
            .with_fields(&[("retry-after", "7")]),
        with(
            "maintenance",
            "503 with a senseless Retry-After",
            "503 Service Unavailable",
            "retry-after: soon",
            503,
        ),
    ]
}

/// What is made of an error's body.
pub(super) fn bodies() -> Vec<UpstreamFault> {
    const JSON: &str = "content-type: application/json";
    let body = |name, meaning, line: &str, body: &[u8]| {
        let steps = vec![Step::Write(reply(&format!("{line}\n{JSON}"), body))];
        answered(name, meaning, status_of(line), status_of(line), steps)
    };
    let steps = |name, meaning, steps| answered(name, meaning, 500, 500, steps);
    let gzipped = format!("404 Not Found\n{JSON}\ncontent-encoding: gzip");
    let conforming = r#"{"message":"Order 7 does not exist.","code":404}"#;
    vec![
        UpstreamFault {
            outcome: Outcome::Passed { code: 404 },
            body: conforming.into(),
            ..body(
                "conforming-404",
                "a documented error in the documented shape",
                "404 Not Found",
                conforming.as_bytes(),
            )
        },
        body(
            "other-json",
            "JSON of another shape, with a message",
            "404 Not Found",
            br#"{"error":{"message":"No order has this number.","trace":"orders.rb:17"},"ok":false}"#,
        )
        .keeping("No order has this number."),
        body(
            "stack-trace",
            "JSON with a stack trace in it",
            "500 Internal Server Error",
            br#"{"message":"NullPointerException at com.shop.Orders.find(Orders.java:42)","sql":"SELECT 1"}"#,
        ),
        body(
            "wrong-code",
            "JSON whose code is not its status",
            "409 Conflict",
            br#"{"message":"The order has been paid.","code":1062}"#,
        )
        .keeping("The order has been paid."),
        body("not-json", "claims JSON and is not", "400 Bad Request", b"{'message': 'single quotes'}"),
        body("empty-error", "an error without a body", "500 Internal Server Error", b""),
        answered(
            "gzip-error",
            "a compressed error of another shape",
            404,
            404,
            vec![Step::Write(reply(&gzipped, gzip(br#"{"detail":"This page is in the archive."}"#)))],
        )
        .keeping("This page is in the archive."),
        steps(
            "endless-error",
            "an error body that never ends",
            vec![
                say(
                    "HTTP/1.1 500 Internal Server Error\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n",
                ),
                Step::Repeat {
                    bytes: "10\r\n0123456789abcde\n\r\n".into(),
                    times: u64::MAX,
                    every: Duration::ZERO,
                },
            ],
        ),
        steps(
            "stalled-error",
            "an error body that falls silent",
            vec![
                say(
                    "HTTP/1.1 500 Internal Server Error\r\ncontent-type: application/json\r\ncontent-length: 90\r\n\r\n{\"mess",
                ),
                Step::Hang,
            ],
        ),
        steps(
            "cut-error",
            "an error body cut short",
            vec![
                say(
                    "HTTP/1.1 500 Internal Server Error\r\ncontent-type: application/json\r\ncontent-length: 90\r\n\r\n{\"mess",
                ),
                Step::Close,
            ],
        ),
    ]
}

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    // Writing into memory does not fail; should it ever, the row's test says so: the message is missing.
    let _ = encoder.write_all(body);
    encoder.finish().unwrap_or_default()
}
