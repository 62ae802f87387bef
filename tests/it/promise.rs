//! The promise, as a client could check it: what every answer of 400 or above must be.
//!
//! Written from the specification and on purpose not from the gateway's own tables. It judges an [`Answer`] that the
//! strict reader has read; whether it is the right error for the request is for the scenario to say.

use std::fmt;
use std::io::Read;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;

use super::reader::{Answer, Asked, Ended, Framing};

/// The documented codes with their texts.
pub const CODES: [(u16, &str); 9] = [
    (400, "The request was invalid or cannot be otherwise served."),
    (401, "Missing or incorrect authentication credentials."),
    (403, "The request is understood, but it has been refused, or access is not allowed."),
    (404, "The URI requested is invalid or the resource requested does not exist."),
    (409, "The request conflicts with the current state of the server."),
    (429, "Too many requests"),
    (500, "Something is broken."),
    (503, "The servers are up but overloaded with requests. Try again later."),
    (
        504,
        "The servers are up, but the request could not be serviced due to some failure within the stack. Try again later.",
    ),
];

/// The contract's text of this code.
pub fn text_of(code: u16) -> &'static str {
    CODES.iter().find(|(known, _)| *known == code).map(|(_, text)| *text).expect("a documented code")
}

/// The body that the gateway makes for this code.
pub fn body_of(code: u16, message: &str) -> String {
    format!(r#"{{"message":{},"code":{code}}}"#, Value::from(message))
}

/// Panics unless the answer keeps the contract: every error, made or passed.
#[track_caller]
pub fn check_contract(answer: &Answer, asked: Asked) {
    if answer.status < 400 {
        return;
    }
    if let Err(breach) = judge(answer, asked) {
        panic!("{breach}: {answer:#?}\n{}", answer.text());
    }
}

/// Panics unless the answer was made by the gateway under this code with this message.
#[track_caller]
pub fn check_made(answer: &Answer, asked: Asked, code: u16, message: &str) {
    check_contract(answer, asked);
    assert_eq!(answer.status, code, "{answer:#?}\n{}", answer.text());
    assert_eq!(answer.field("content-type"), Some("application/json"), "{answer:#?}");
    assert_eq!(answer.field("x-content-type-options"), Some("nosniff"), "{answer:#?}");
    assert!(answer.framing == Framing::Http2 || answer.field("date").is_some(), "no Date: {answer:#?}");
    for leak in ["server", "x-powered-by", "etag", "last-modified", "content-encoding"] {
        assert_eq!(answer.field(leak), None, "a field of the upstream: {answer:#?}");
    }
    if !asked.head() {
        assert_eq!(answer.text(), body_of(code, message), "{answer:#?}");
    }
}

/// Says which part of the contract an error breaks.
pub fn judge(answer: &Answer, asked: Asked) -> Result<(), String> {
    let status = answer.status;
    if !CODES.iter().any(|(code, _)| *code == status) {
        return Err(format!("{status} is not a documented code"));
    }
    if answer.ended != Ended::Complete {
        return Err("an error that is not complete".to_owned());
    }
    if answer.framing == Framing::Chunked {
        return Err("an error without an exact Content-Length".to_owned());
    }
    let media_type_may_lack = asked.head();
    if !answer.field("content-type").map_or(media_type_may_lack, is_json) {
        return Err("an error that is not application/json".to_owned());
    }
    if answer.field("cache-control") != Some("no-store") {
        return Err("an error that may be stored".to_owned());
    }
    if !answer.field("x-request-id").is_some_and(is_uuid_v7) {
        return Err("an error without an X-Request-Id of version 7".to_owned());
    }
    if matches!(status, 429 | 503) && !answer.field("retry-after").is_some_and(is_retry_after) {
        return Err("a 429 or 503 that does not say when to return".to_owned());
    }
    if asked.head() {
        return if answer.body.is_empty() { Ok(()) } else { Err("a body after HEAD".to_owned()) };
    }
    judge_body(&decoded(answer)?, status)
}

/// A client that takes a coding reads the promise behind it.
fn decoded(answer: &Answer) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    let read = match answer.field("content-encoding") {
        None => return Ok(answer.body.clone()),
        Some("gzip") => flate2::read::GzDecoder::new(&answer.body[..]).read_to_end(&mut body),
        Some("br") => brotli::Decompressor::new(&answer.body[..], 4096).read_to_end(&mut body),
        Some(other) => return Err(format!("an error in the coding {other:?}")),
    };
    read.map_err(|error| format!("a body that is not in its coding: {error}")).map(|_| body)
}

fn judge_body(body: &[u8], status: u16) -> Result<(), String> {
    let Members(members) =
        serde_json::from_slice(body).map_err(|error| format!("a body that is not a JSON object: {error}"))?;
    let mut names: Vec<_> = members.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    if names.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err("a body with a repeated member".to_owned());
    }
    let member = |name: &str| members.iter().find(|(found, _)| found == name).map(|(_, value)| value);
    match member("message").and_then(Value::as_str) {
        Some(text) if (1..=1000).contains(&text.chars().count()) && !text.contains(char::is_control) => {}
        _ => return Err("a body without a message of 1 to 1,000 characters".to_owned()),
    }
    if member("code").and_then(Value::as_u64) != Some(u64::from(status)) {
        return Err("a body whose code is not the status".to_owned());
    }
    let known = ["message", "code", "type", "version", "request_id", "retryable", "request_sent"];
    match names.iter().find(|name| !known.contains(name)) {
        Some(unknown) => Err(format!("a body with a member {unknown:?}")),
        None => Ok(()),
    }
}

/// `application/json`; a charset, where given, is UTF-8. Other parameters are the upstream's affair.
fn is_json(media_type: &str) -> bool {
    let lower = media_type.to_ascii_lowercase();
    let mut parts = lower.split(';').map(str::trim);
    let of_text = |parameter: &str| match parameter.split_once('=') {
        Some(("charset", value)) => value.trim_matches('"') == "utf-8",
        Some(_) => true,
        None => parameter.is_empty(),
    };
    parts.next() == Some("application/json") && parts.all(of_text)
}

fn is_uuid_v7(id: &str) -> bool {
    let hyphens = [8, 13, 18, 23];
    id.len() == 36
        && id
            .bytes()
            .enumerate()
            .all(|(at, byte)| if hyphens.contains(&at) { byte == b'-' } else { byte.is_ascii_hexdigit() })
        && id.as_bytes()[14] == b'7'
}

fn is_retry_after(value: &str) -> bool {
    value.parse::<u64>().is_ok_and(|seconds| (1..=86_400).contains(&seconds)) || value.ends_with(" GMT")
}

/// The members of a JSON object in order, repeated ones included.
struct Members(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

#[cfg(test)]
mod tests {
    use super::super::reader::Reader;
    use super::*;

    const GET: Asked = Asked::Http11("GET");
    const ID: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

    fn error(status: u16, fields: &str, body: &str) -> Result<(), String> {
        let message = format!("HTTP/1.1 {status} X\r\n{fields}content-length: {}\r\n\r\n{body}", body.len());
        judge(&Reader::new(message.as_bytes()).read(GET).unwrap(), GET)
    }

    fn good() -> String {
        format!("content-type: application/json\r\ncache-control: no-store\r\nx-request-id: {ID}\r\n")
    }

    #[test]
    fn a_documented_error_passes() {
        assert_eq!(error(404, &good(), r#"{"message":"No.","code":404,"type":"x"}"#), Ok(()));
        assert_eq!(
            error(503, &format!("{}retry-after: 5\r\n", good()), r#"{"message":"No.","code":503}"#),
            Ok(())
        );
    }

    #[test]
    fn every_breach_of_the_promise_is_named() {
        let body = r#"{"message":"No.","code":404}"#;
        for (status, fields, body, what) in [
            (405, good(), r#"{"message":"No.","code":405}"#, "not a documented code"),
            (404, good().replace("application/json", "text/html"), body, "not application/json"),
            (404, good().replace("no-store", "public"), body, "may be stored"),
            (404, good().replace("-774b", "-474b"), body, "X-Request-Id"),
            (503, good(), r#"{"message":"No.","code":503}"#, "when to return"),
            (404, good(), "", "not a JSON object"),
            (404, good(), "[]", "not a JSON object"),
            (404, good(), r#"{"message":"","code":404}"#, "1,000 characters"),
            (404, good(), r#"{"message":"No.","code":500}"#, "not the status"),
            (404, good(), r#"{"message":"No.","code":"404"}"#, "not the status"),
            (404, good(), r#"{"message":"No.","code":404,"code":404}"#, "repeated member"),
            (404, good(), r#"{"message":"No.","code":404,"trace":"x"}"#, "trace"),
        ] {
            let found = error(status, &fields, body).unwrap_err();
            assert!(found.contains(what), "{status} {fields} {body}: {found}");
        }
    }
}
