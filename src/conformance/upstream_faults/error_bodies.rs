//! Error bodies: shapes of common frameworks, malformed JSON, large and slow bodies.
//!
//! Every status here is documented. The rows check whether the body is forwarded, and which message of a replaced body
//! is kept. Compressed bodies are in [`super::content_coding`].

use std::sync::LazyLock;
use std::time::Duration;

use bytes::Bytes;

use super::super::script::{UpstreamStep, http_response, write_bytes};
use super::{FaultOutcome, INTERNAL_HOSTNAME, UpstreamFault, replaced_row};

const JSON: &str = "application/json";

/// All rows of this file.
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
        forwarded("conforming-404", "sends an error that matches the template", 404, json, plain.into()),
        forwarded(
            "conforming-full",
            "sends an error that matches the template, with type and version",
            409,
            json,
            full.into(),
        ),
        forwarded(
            "conforming-charset",
            "sends an error that matches the template, with a charset parameter",
            404,
            "content-type: Application/JSON; charset=UTF-8",
            plain.into(),
        ),
        forwarded(
            "conforming-64-kib",
            "sends an error that matches the template, padded to 64 KiB",
            404,
            json,
            format!("{plain}{}", " ".repeat(64 * 1024 - plain.len())).into(),
        ),
        unframed(
            "conforming-chunked",
            "sends an error that matches the template, in chunks",
            vec![write_bytes(format!(
                "HTTP/1.1 404 No\r\n{json}\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{plain}\r\n0\r\n\r\n",
                plain.len()
            ))],
        ),
        unframed(
            "conforming-unframed",
            "sends an error that matches the template and ends when the connection closes",
            vec![
                write_bytes(format!("HTTP/1.1 404 No\r\n{json}\r\nconnection: close\r\n\r\n{plain}")),
                UpstreamStep::Close,
            ],
        ),
        unframed(
            "conforming-dripped",
            "sends an error that matches the template, one byte at a time",
            vec![
                write_bytes(format!("HTTP/1.1 404 No\r\n{json}\r\ncontent-length: {}\r\n\r\n", plain.len())),
                UpstreamStep::WriteSlowly { bytes: plain.into(), interval: Duration::from_millis(4) },
            ],
        ),
    ]
}

/// The error formats of common frameworks.
fn framework_shapes() -> Vec<UpstreamFault> {
    let json = |name, description, status, body: String| replaced(name, description, status, JSON, body);
    vec![
        json(
            "other-json",
            "sends JSON of another shape, with a message",
            404,
            format!(r#"{{"error":{{"message":"No order has this number.","trace":"{INTERNAL_HOSTNAME}"}},"ok":false}}"#),
        )
        .with_upstream_message("No order has this number."),
        replaced(
            "problem-json",
            "sends RFC 9457 problem details",
            409,
            "application/problem+json",
            format!(r#"{{"type":"about:blank","title":"Out of stock","status":409,"detail":"Only 3 are left.","instance":"{INTERNAL_HOSTNAME}"}}"#),
        )
        .with_upstream_message("Only 3 are left."),
        json(
            "graphql",
            "sends GraphQL errors",
            400,
            format!(r#"{{"errors":[{{"message":"Cannot query field \"x\".","path":["{INTERNAL_HOSTNAME}"]}}],"data":null}}"#),
        )
        .with_upstream_message("Cannot query field \"x\"."),
        json(
            "json-api",
            "sends JSON:API errors",
            403,
            format!(r#"{{"errors":[{{"status":"403","detail":"Not your order.","id":"{INTERNAL_HOSTNAME}"}}]}}"#),
        )
        .with_upstream_message("Not your order."),
        json(
            "oauth",
            "sends an OAuth 2.0 error",
            400,
            format!(r#"{{"error":"invalid_grant","error_description":"The code has expired.","error_uri":"{INTERNAL_HOSTNAME}"}}"#),
        )
        .with_upstream_message("The code has expired."),
        json(
            "spring-404",
            "sends a Spring Boot JSON error, 404",
            404,
            format!(r#"{{"timestamp":"2026-01-01","status":404,"error":"Not Found","path":"/{INTERNAL_HOSTNAME}"}}"#),
        )
        .with_upstream_message("Not Found"),
        json(
            "spring-500",
            "sends a Spring Boot JSON error, 500",
            500,
            format!(r#"{{"status":500,"error":"Internal Server Error","trace":"java.lang.NullPointerException: {INTERNAL_HOSTNAME}"}}"#),
        ),
        replaced(
            "spring-page",
            "sends a Spring Boot whitelabel error page",
            500,
            "text/html;charset=UTF-8",
            format!("<html><body><h1>Whitelabel Error Page</h1><p>{INTERNAL_HOSTNAME}</p></body></html>"),
        ),
        json(
            "laravel",
            "sends a Laravel validation error",
            400,
            format!(r#"{{"message":"The name is required.","errors":{{"name":["{INTERNAL_HOSTNAME}"]}}}}"#),
        )
        .with_upstream_message("The name is required."),
        json(
            "fastapi",
            "sends a FastAPI validation error, whose detail is a list",
            400,
            format!(r#"{{"detail":[{{"loc":["body","{INTERNAL_HOSTNAME}"],"msg":"field required"}}]}}"#),
        ),
        json("express", "sends an Express error", 400, r#"{"error":"The cart is empty."}"#.to_owned())
            .with_upstream_message("The cart is empty."),
        replaced(
            "soap",
            "sends a SOAP fault",
            500,
            "text/xml; charset=utf-8",
            format!("<soap:Envelope><soap:Body><soap:Fault><faultstring>{INTERNAL_HOSTNAME}</faultstring></soap:Fault></soap:Body></soap:Envelope>"),
        ),
        replaced("plain-text", "sends a line of plain text", 400, "text/plain", format!("Bad order on {INTERNAL_HOSTNAME}")),
        replaced("html-500", "sends an HTML error page with 500", 500, "text/html", format!("<h1>{INTERNAL_HOSTNAME}</h1>")),
        replaced("html-503", "sends an HTML error page with 503", 503, "text/html", format!("<h1>{INTERNAL_HOSTNAME}</h1>")),
        replaced("html-504", "sends an HTML error page with 504", 504, "text/html", format!("<h1>{INTERNAL_HOSTNAME}</h1>")),
        replaced("html-404", "sends an HTML error page with 404", 404, "text/html", format!("<h1>{INTERNAL_HOSTNAME}</h1>")),
    ]
}

/// Internal details that must not reach the client.
fn internal_details() -> Vec<UpstreamFault> {
    let json = |name, description, status, body: String| replaced(name, description, status, JSON, body);
    vec![
        json(
            "stack-trace",
            "sends JSON that contains a stack trace, with 500",
            500,
            format!(
                r#"{{"message":"NullPointerException at com.shop.Orders.find(Orders.java:42)","sql":"SELECT 1 -- {INTERNAL_HOSTNAME}"}}"#
            ),
        ),
        json(
            "trace-in-400",
            "sends a stack frame in the message of a 400",
            400,
            format!(r#"{{"message":"oops at {INTERNAL_HOSTNAME}:12"}}"#),
        ),
        json(
            "traceback",
            "sends a Python traceback in the message of a 400",
            400,
            format!(r#"{{"message":"Traceback (most recent call last): {INTERNAL_HOSTNAME}"}}"#),
        ),
        json(
            "markup-in-400",
            "sends HTML markup in the message of a 400",
            400,
            format!(r#"{{"message":"<b>{INTERNAL_HOSTNAME}</b>"}}"#),
        ),
        json(
            "message-500",
            "sends a message with 500",
            500,
            format!(r#"{{"message":"{INTERNAL_HOSTNAME} is down"}}"#),
        ),
        json(
            "conforming-500",
            "sends an error that matches the template, with 500",
            500,
            format!(r#"{{"message":"{INTERNAL_HOSTNAME} is down","code":500}}"#),
        ),
        json(
            "conforming-503",
            "sends an error that matches the template, with 503",
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
            "declares JSON and sends something else",
            400,
            JSON,
            format!("{{'message': '{INTERNAL_HOSTNAME}'}}"),
        ),
        replaced("empty-error", "sends 500 without a body", 500, JSON, ""),
        json("empty-404", "sends 404 without a body", Vec::new()),
        json(
            "two-messages",
            "sends JSON with a duplicate member",
            format!(r#"{{"message":"{INTERNAL_HOSTNAME}","message":"No.","code":404}}"#).into(),
        ),
        json(
            "twice-inside",
            "sends JSON with a duplicate member in a nested object",
            format!(r#"{{"message":"{INTERNAL_HOSTNAME}","at":{{"a":1,"a":2}}}}"#).into(),
        ),
        json(
            "byte-order-mark",
            "sends JSON after a byte order mark",
            format!("\u{feff}{{\"message\":\"{INTERNAL_HOSTNAME}\",\"code\":404}}").into(),
        ),
        json(
            "bad-utf-8",
            "sends JSON with invalid UTF-8",
            [format!(r#"{{"message":"{INTERNAL_HOSTNAME} "#).as_bytes(), b"\xff\"}"].concat(),
        ),
        json(
            "utf-16",
            "sends JSON in UTF-16",
            r#"{"message":"No."}"#.encode_utf16().flat_map(u16::to_le_bytes).collect(),
        ),
        json("half-json", "sends truncated JSON", format!(r#"{{"message":"{INTERNAL_HOSTNAME}","co"#).into()),
        json(
            "json-and-more",
            "sends two JSON objects",
            format!(r#"{{"message":"{INTERNAL_HOSTNAME}"}}{{}}"#).into(),
        ),
        json(
            "comment-in-json",
            "sends JSON with a comment",
            format!(r#"{{"message":"{INTERNAL_HOSTNAME}"/* no */}}"#).into(),
        ),
        json("json-array", "sends a JSON array", format!(r#"[{{"message":"{INTERNAL_HOSTNAME}"}}]"#).into()),
        json("json-string", "sends a JSON string", format!(r#""{INTERNAL_HOSTNAME}""#).into()),
        json("json-null", "sends the JSON value null", b"null".to_vec()),
        json("deep-30000", "sends JSON nested 30,000 levels deep", deep(30_000)),
        json("deep-100000", "sends JSON nested 100,000 levels deep", deep(100_000)),
    ]
}

/// Bodies that differ from the template in one detail.
fn near_conforming() -> Vec<UpstreamFault> {
    static LONG: LazyLock<(String, String)> = LazyLock::new(|| ("é".repeat(5000), "é".repeat(1000)));
    let json = |name, description, body: String| {
        replaced(name, description, 404, JSON, body).with_upstream_message("No such order.")
    };
    let (long, truncated) = &*LONG;
    vec![
        replaced(
            "wrong-code",
            "sends JSON whose code differs from the status code",
            409,
            JSON,
            r#"{"message":"The order has been paid.","code":1062}"#,
        )
        .with_upstream_message("The order has been paid."),
        json(
            "code-as-text",
            "sends JSON whose code is a string",
            r#"{"message":"No such order.","code":"404"}"#.into(),
        ),
        json(
            "code-as-fraction",
            "sends JSON whose code has a fraction",
            r#"{"message":"No such order.","code":404.0}"#.into(),
        ),
        json("no-code", "sends the template without a code", r#"{"message":"No such order."}"#.into()),
        json(
            "further-member",
            "sends the template with an undocumented member",
            format!(r#"{{"message":"No such order.","code":404,"host":"{INTERNAL_HOSTNAME}"}}"#),
        ),
        json(
            "bad-version",
            "sends the template with an invalid version",
            r#"{"message":"No such order.","code":404,"version":"one two"}"#.into(),
        ),
        json(
            "control-in-message",
            "sends an unescaped line break in the message",
            r#"{"message":"No such\n order.","code":404}"#.into(),
        ),
        replaced(
            "long-message",
            "sends a message of 5,000 characters",
            404,
            JSON,
            format!(r#"{{"message":"{long}","code":404}}"#),
        )
        .with_upstream_message(truncated),
        replaced("empty-message", "sends an empty message", 404, JSON, r#"{"message":"","code":404}"#),
        replaced(
            "message-number",
            "sends a message that is a number",
            404,
            JSON,
            r#"{"message":7,"code":404}"#,
        ),
        replaced(
            "message-null",
            "sends a message that is null, next to a title",
            404,
            JSON,
            r#"{"message":null,"title":"No such order."}"#,
        )
        .with_upstream_message("No such order."),
        replaced(
            "wrong-charset",
            "sends the template in another charset",
            404,
            "application/json; charset=latin1",
            r#"{"message":"No such order.","code":404}"#,
        )
        .with_upstream_message("No such order."),
        replaced(
            "text-json",
            "sends the template with another media type",
            404,
            "text/json",
            r#"{"message":"No such order.","code":404}"#,
        )
        .with_upstream_message("No such order."),
        replaced_row(
            "no-media-type",
            "sends the template without a media type",
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
            "sends an error body of 10 MiB",
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
            "sends a chunked error body without end",
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
            "sends an error body without end and without framing",
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
            "sends an error body of 1 byte above 64 KiB",
            404,
            "content-length: 65537",
            vec![write_bytes(format!("{{\"message\":\"{INTERNAL_HOSTNAME}\"}}{}", " ".repeat(65537 - 27)))],
        ),
        of(
            "stalled-error",
            "stalls inside an error body",
            500,
            length,
            vec![write_bytes(half.clone()), UpstreamStep::ReadUntilClose],
        ),
        of(
            "stalled-404",
            "sends the headers of a 404 and stalls before the body",
            404,
            length,
            vec![UpstreamStep::ReadUntilClose],
        ),
        of(
            "dripped-error",
            "sends an error body one byte at a time, without end",
            500,
            chunked,
            vec![UpstreamStep::WriteSlowly {
                bytes: chunk.repeat(400).into(),
                interval: Duration::from_millis(40),
            }],
        ),
        of(
            "cut-error",
            "closes inside an error body",
            500,
            length,
            vec![write_bytes(half.clone()), UpstreamStep::Close],
        ),
        of(
            "cut-404",
            "closes inside the body of a 404",
            404,
            length,
            vec![write_bytes(half.clone()), UpstreamStep::Close],
        ),
        of(
            "reset-error",
            "resets inside an error body",
            500,
            length,
            vec![write_bytes(half), UpstreamStep::Reset],
        ),
        of(
            "unended-error",
            "closes before the last chunk of an error body",
            500,
            chunked,
            vec![write_bytes(chunk.clone()), UpstreamStep::Close],
        ),
        of(
            "bad-chunk-in-error",
            "sends an invalid chunk size inside an error body",
            404,
            chunked,
            vec![write_bytes(format!("{chunk}zz\r\n")), UpstreamStep::Close],
        ),
    ]
}
