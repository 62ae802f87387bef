//! Rows of the table about an error's body: shapes of the world's frameworks, broken JSON, too much of it, too slow.
//!
//! Each status here is documented: what is at stake is whether the body passes, and which message is kept of it. Coded
//! bodies are in [`super::content_coding`].

use std::sync::LazyLock;
use std::time::Duration;

use bytes::Bytes;

use super::super::script::{UpstreamStep, http_response, write_bytes};
use super::{FaultOutcome, INTERNAL_HOSTNAME, UpstreamFault, replaced_row};

const JSON: &str = "application/json";

/// All of them.
pub(super) fn rows() -> Vec<UpstreamFault> {
    [conforming(), framework_shapes(), internal_details(), broken_json(), near_conforming(), slow_and_large()]
        .concat()
}

/// An error whose status stays and whose body is replaced.
fn replaced(
    name: &'static str,
    description: &'static str,
    status: u16,
    media_type: &str,
    body: impl AsRef<[u8]>,
) -> UpstreamFault {
    let head =
        format!("{status} {INTERNAL_HOSTNAME}\ncontent-type: {media_type}\nx-served-by: {INTERNAL_HOSTNAME}");
    replaced_row(name, description, status, status, vec![UpstreamStep::Write(http_response(&head, body))])
}

fn conforming() -> Vec<UpstreamFault> {
    let forwarded = |name, description, code, fields: &str, body: Bytes| UpstreamFault {
        outcome: FaultOutcome::Forwarded { code },
        body: body.clone(),
        ..replaced_row(
            name,
            description,
            code,
            code,
            vec![UpstreamStep::Write(http_response(&format!("{code} Oops\n{fields}"), body))],
        )
    };
    let json = "content-type: application/json";
    let plain = r#"{"message":"Order 7 does not exist.","code":404}"#;
    let full = r#"{"message":"Order 7 has been paid.","code":409,"type":"order_paid","version":"1.8.0"}"#;
    let unframed = |name, description, steps| UpstreamFault {
        outcome: FaultOutcome::Forwarded { code: 404 },
        body: plain.into(),
        ..replaced_row(name, description, 404, 404, steps)
    };
    vec![
        forwarded("conforming-404", "a documented error in the documented shape", 404, json, plain.into()),
        forwarded("conforming-full", "a documented error with type and version", 409, json, full.into()),
        forwarded(
            "conforming-charset",
            "a documented error that names its charset",
            404,
            "content-type: Application/JSON; charset=UTF-8",
            plain.into(),
        ),
        forwarded(
            "conforming-64-kib",
            "a documented error padded to 64 KiB",
            404,
            json,
            format!("{plain}{}", " ".repeat(64 * 1024 - plain.len())).into(),
        ),
        unframed(
            "conforming-chunked",
            "a documented error in chunks",
            vec![write_bytes(format!(
                "HTTP/1.1 404 No\r\n{json}\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{plain}\r\n0\r\n\r\n",
                plain.len()
            ))],
        ),
        unframed(
            "conforming-unframed",
            "a documented error that ends with the connection",
            vec![
                write_bytes(format!("HTTP/1.1 404 No\r\n{json}\r\nconnection: close\r\n\r\n{plain}")),
                UpstreamStep::Close,
            ],
        ),
        unframed(
            "conforming-dripped",
            "a documented error, one byte at a time",
            vec![
                write_bytes(format!("HTTP/1.1 404 No\r\n{json}\r\ncontent-length: {}\r\n\r\n", plain.len())),
                UpstreamStep::WriteSlowly { bytes: plain.into(), interval: Duration::from_millis(4) },
            ],
        ),
    ]
}

/// What frameworks answer, as they answer it.
fn framework_shapes() -> Vec<UpstreamFault> {
    let json = |name, description, status, body: String| replaced(name, description, status, JSON, body);
    vec![
        json(
            "other-json",
            "JSON of another shape, with a message",
            404,
            format!(r#"{{"error":{{"message":"No order has this number.","trace":"{INTERNAL_HOSTNAME}"}},"ok":false}}"#),
        )
        .with_upstream_message("No order has this number."),
        replaced(
            "problem-json",
            "a problem of RFC 9457",
            409,
            "application/problem+json",
            format!(r#"{{"type":"about:blank","title":"Out of stock","status":409,"detail":"Only 3 are left.","instance":"{INTERNAL_HOSTNAME}"}}"#),
        )
        .with_upstream_message("Only 3 are left."),
        json(
            "graphql",
            "errors of GraphQL",
            400,
            format!(r#"{{"errors":[{{"message":"Cannot query field \"x\".","path":["{INTERNAL_HOSTNAME}"]}}],"data":null}}"#),
        )
        .with_upstream_message("Cannot query field \"x\"."),
        json(
            "json-api",
            "errors of JSON:API",
            403,
            format!(r#"{{"errors":[{{"status":"403","detail":"Not your order.","id":"{INTERNAL_HOSTNAME}"}}]}}"#),
        )
        .with_upstream_message("Not your order."),
        json(
            "oauth",
            "an error of OAuth 2",
            400,
            format!(r#"{{"error":"invalid_grant","error_description":"The code has expired.","error_uri":"{INTERNAL_HOSTNAME}"}}"#),
        )
        .with_upstream_message("The code has expired."),
        json(
            "spring-404",
            "a whitelabel error of Spring, 404",
            404,
            format!(r#"{{"timestamp":"2026-01-01","status":404,"error":"Not Found","path":"/{INTERNAL_HOSTNAME}"}}"#),
        )
        .with_upstream_message("Not Found"),
        json(
            "spring-500",
            "a whitelabel error of Spring, 500",
            500,
            format!(r#"{{"status":500,"error":"Internal Server Error","trace":"java.lang.NullPointerException: {INTERNAL_HOSTNAME}"}}"#),
        ),
        replaced(
            "spring-page",
            "a whitelabel page of Spring",
            500,
            "text/html;charset=UTF-8",
            format!("<html><body><h1>Whitelabel Error Page</h1><p>{INTERNAL_HOSTNAME}</p></body></html>"),
        ),
        json(
            "laravel",
            "an error of Laravel",
            400,
            format!(r#"{{"message":"The name is required.","errors":{{"name":["{INTERNAL_HOSTNAME}"]}}}}"#),
        )
        .with_upstream_message("The name is required."),
        json(
            "fastapi",
            "an error of FastAPI whose detail is a list",
            400,
            format!(r#"{{"detail":[{{"loc":["body","{INTERNAL_HOSTNAME}"],"msg":"field required"}}]}}"#),
        ),
        json("express", "an error of Express", 400, r#"{"error":"The cart is empty."}"#.to_owned())
            .with_upstream_message("The cart is empty."),
        replaced(
            "soap",
            "a fault of SOAP",
            500,
            "text/xml; charset=utf-8",
            format!("<soap:Envelope><soap:Body><soap:Fault><faultstring>{INTERNAL_HOSTNAME}</faultstring></soap:Fault></soap:Body></soap:Envelope>"),
        ),
        replaced("plain-text", "a line of plain text", 400, "text/plain", format!("Bad order on {INTERNAL_HOSTNAME}")),
        replaced("html-500", "an HTML error page, 500", 500, "text/html", format!("<h1>{INTERNAL_HOSTNAME}</h1>")),
        replaced("html-503", "an HTML error page, 503", 503, "text/html", format!("<h1>{INTERNAL_HOSTNAME}</h1>")),
        replaced("html-504", "an HTML error page, 504", 504, "text/html", format!("<h1>{INTERNAL_HOSTNAME}</h1>")),
        replaced("html-404", "an HTML error page, 404", 404, "text/html", format!("<h1>{INTERNAL_HOSTNAME}</h1>")),
    ]
}

/// Texts that must not leave.
fn internal_details() -> Vec<UpstreamFault> {
    let json = |name, description, status, body: String| replaced(name, description, status, JSON, body);
    vec![
        json(
            "stack-trace",
            "JSON with a stack trace in it",
            500,
            format!(
                r#"{{"message":"NullPointerException at com.shop.Orders.find(Orders.java:42)","sql":"SELECT 1 -- {INTERNAL_HOSTNAME}"}}"#
            ),
        ),
        json(
            "trace-in-400",
            "a stack frame in the message of a 400",
            400,
            format!(r#"{{"message":"oops at {INTERNAL_HOSTNAME}:12"}}"#),
        ),
        json(
            "traceback",
            "a traceback of Python in a 400",
            400,
            format!(r#"{{"message":"Traceback (most recent call last): {INTERNAL_HOSTNAME}"}}"#),
        ),
        json(
            "markup-in-400",
            "markup in the message of a 400",
            400,
            format!(r#"{{"message":"<b>{INTERNAL_HOSTNAME}</b>"}}"#),
        ),
        json(
            "message-500",
            "a message under 500",
            500,
            format!(r#"{{"message":"{INTERNAL_HOSTNAME} is down"}}"#),
        ),
        json(
            "conforming-500",
            "the documented shape under 500",
            500,
            format!(r#"{{"message":"{INTERNAL_HOSTNAME} is down","code":500}}"#),
        ),
        json(
            "conforming-503",
            "the documented shape under 503",
            503,
            format!(r#"{{"message":"{INTERNAL_HOSTNAME} is full","code":503}}"#),
        ),
    ]
}

fn broken_json() -> Vec<UpstreamFault> {
    let json = |name, description, body: Vec<u8>| replaced(name, description, 404, JSON, body);
    let deep = |levels: usize| {
        let (open, close) = ("[".repeat(levels), "]".repeat(levels));
        format!(r#"{{"deep":{open}{close},"message":"{INTERNAL_HOSTNAME}"}}"#).into_bytes()
    };
    vec![
        replaced(
            "not-json",
            "claims JSON and is not",
            400,
            JSON,
            format!("{{'message': '{INTERNAL_HOSTNAME}'}}"),
        ),
        replaced("empty-error", "an error without a body", 500, JSON, ""),
        json("empty-404", "a 404 without a body", Vec::new()),
        json(
            "two-messages",
            "JSON with a member twice",
            format!(r#"{{"message":"{INTERNAL_HOSTNAME}","message":"No.","code":404}}"#).into(),
        ),
        json(
            "twice-inside",
            "JSON with a member twice in an inner object",
            format!(r#"{{"message":"{INTERNAL_HOSTNAME}","at":{{"a":1,"a":2}}}}"#).into(),
        ),
        json(
            "byte-order-mark",
            "JSON behind a byte order mark",
            format!("\u{feff}{{\"message\":\"{INTERNAL_HOSTNAME}\",\"code\":404}}").into(),
        ),
        json(
            "bad-utf-8",
            "JSON that is not UTF-8",
            [format!(r#"{{"message":"{INTERNAL_HOSTNAME} "#).as_bytes(), b"\xff\"}"].concat(),
        ),
        json(
            "utf-16",
            "JSON in UTF-16",
            r#"{"message":"No."}"#.encode_utf16().flat_map(u16::to_le_bytes).collect(),
        ),
        json(
            "half-json",
            "JSON that stops in the middle",
            format!(r#"{{"message":"{INTERNAL_HOSTNAME}","co"#).into(),
        ),
        json(
            "json-and-more",
            "two JSON objects",
            format!(r#"{{"message":"{INTERNAL_HOSTNAME}"}}{{}}"#).into(),
        ),
        json(
            "comment-in-json",
            "JSON with a comment",
            format!(r#"{{"message":"{INTERNAL_HOSTNAME}"/* no */}}"#).into(),
        ),
        json("json-array", "a JSON list", format!(r#"[{{"message":"{INTERNAL_HOSTNAME}"}}]"#).into()),
        json("json-string", "a JSON string", format!(r#""{INTERNAL_HOSTNAME}""#).into()),
        json("json-null", "null", b"null".to_vec()),
        json("deep-30000", "JSON nested 30,000 levels deep", deep(30_000)),
        json("deep-100000", "JSON nested 100,000 levels deep", deep(100_000)),
    ]
}

/// One step from the documented shape.
fn near_conforming() -> Vec<UpstreamFault> {
    static LONG: LazyLock<(String, String)> = LazyLock::new(|| ("é".repeat(5000), "é".repeat(1000)));
    let json = |name, description, body: String| {
        replaced(name, description, 404, JSON, body).with_upstream_message("No such order.")
    };
    let (long, truncated) = &*LONG;
    vec![
        replaced(
            "wrong-code",
            "JSON whose code is not its status",
            409,
            JSON,
            r#"{"message":"The order has been paid.","code":1062}"#,
        )
        .with_upstream_message("The order has been paid."),
        json("code-as-text", "the code as text", r#"{"message":"No such order.","code":"404"}"#.into()),
        json(
            "code-as-fraction",
            "the code with a fraction",
            r#"{"message":"No such order.","code":404.0}"#.into(),
        ),
        json("no-code", "the documented shape without a code", r#"{"message":"No such order."}"#.into()),
        json(
            "further-member",
            "a member that is not documented",
            format!(r#"{{"message":"No such order.","code":404,"host":"{INTERNAL_HOSTNAME}"}}"#),
        ),
        json(
            "bad-version",
            "a version that is none",
            r#"{"message":"No such order.","code":404,"version":"one two"}"#.into(),
        ),
        json(
            "control-in-message",
            "a message with a line break",
            r#"{"message":"No such\n order.","code":404}"#.into(),
        ),
        replaced(
            "long-message",
            "a message of 5,000 characters",
            404,
            JSON,
            format!(r#"{{"message":"{long}","code":404}}"#),
        )
        .with_upstream_message(truncated),
        replaced("empty-message", "an empty message", 404, JSON, r#"{"message":"","code":404}"#),
        replaced("message-number", "a message that is a number", 404, JSON, r#"{"message":7,"code":404}"#),
        replaced(
            "message-null",
            "a message that is null, beside a title",
            404,
            JSON,
            r#"{"message":null,"title":"No such order."}"#,
        )
        .with_upstream_message("No such order."),
        replaced(
            "wrong-charset",
            "the documented shape in another charset",
            404,
            "application/json; charset=latin1",
            r#"{"message":"No such order.","code":404}"#,
        )
        .with_upstream_message("No such order."),
        replaced(
            "text-json",
            "the documented shape under another media type",
            404,
            "text/json",
            r#"{"message":"No such order.","code":404}"#,
        )
        .with_upstream_message("No such order."),
        replaced_row(
            "no-media-type",
            "the documented shape without a media type",
            404,
            404,
            vec![UpstreamStep::Write(http_response("404 No", r#"{"message":"No such order.","code":404}"#))],
        )
        .with_upstream_message("No such order."),
    ]
}

fn slow_and_large() -> Vec<UpstreamFault> {
    let of = |name, description, status: u16, framing: &str, steps: Vec<UpstreamStep>| {
        let head = write_bytes(format!(
            "HTTP/1.1 {status} {INTERNAL_HOSTNAME}\r\ncontent-type: application/json\r\nx-served-by: {INTERNAL_HOSTNAME}\r\n{framing}\r\n\r\n"
        ));
        replaced_row(name, description, status, status, std::iter::once(head).chain(steps).collect())
    };
    let half = format!(r#"{{"message":"{INTERNAL_HOSTNAME}"#);
    let (length, chunked) = ("content-length: 90", "transfer-encoding: chunked");
    let chunk = format!("d\r\n{INTERNAL_HOSTNAME}\r\n");
    let padding = Bytes::from(INTERNAL_HOSTNAME.repeat(1000));
    vec![
        of(
            "error-10-mib",
            "an error body of ten mebibytes",
            500,
            &format!("content-length: {}", 13_000 * 807),
            vec![UpstreamStep::WriteRepeated {
                bytes: padding.clone(),
                count: 807,
                interval: Duration::ZERO,
            }],
        ),
        of(
            "endless-error",
            "an error body that never ends",
            500,
            chunked,
            vec![UpstreamStep::WriteRepeated {
                bytes: chunk.repeat(100).into(),
                count: u64::MAX,
                interval: Duration::ZERO,
            }],
        ),
        of(
            "endless-unframed-error",
            "an error body that never ends and has no framing",
            404,
            "connection: close",
            vec![UpstreamStep::WriteRepeated {
                bytes: padding.clone(),
                count: u64::MAX,
                interval: Duration::ZERO,
            }],
        ),
        of(
            "error-over-64-kib",
            "an error body of a little more than 64 KiB",
            404,
            "content-length: 65537",
            vec![write_bytes(format!("{{\"message\":\"{INTERNAL_HOSTNAME}\"}}{}", " ".repeat(65537 - 27)))],
        ),
        of(
            "stalled-error",
            "an error body that falls silent",
            500,
            length,
            vec![write_bytes(half.clone()), UpstreamStep::ReadUntilClose],
        ),
        of("stalled-404", "a 404 whose body does not come", 404, length, vec![UpstreamStep::ReadUntilClose]),
        of(
            "dripped-error",
            "an error body, one byte at a time without end",
            500,
            chunked,
            vec![UpstreamStep::WriteSlowly {
                bytes: chunk.repeat(400).into(),
                interval: Duration::from_millis(40),
            }],
        ),
        of(
            "cut-error",
            "an error body cut short",
            500,
            length,
            vec![write_bytes(half.clone()), UpstreamStep::Close],
        ),
        of("cut-404", "a 404 cut short", 404, length, vec![write_bytes(half.clone()), UpstreamStep::Close]),
        of(
            "reset-error",
            "an error body that ends in a reset",
            500,
            length,
            vec![write_bytes(half), UpstreamStep::Reset],
        ),
        of(
            "unended-error",
            "an error body without its last chunk",
            500,
            chunked,
            vec![write_bytes(chunk.clone()), UpstreamStep::Close],
        ),
        of(
            "bad-chunk-in-error",
            "an error body with a broken chunk",
            404,
            chunked,
            vec![write_bytes(format!("{chunk}zz\r\n")), UpstreamStep::Close],
        ),
    ]
}
