//! The error contract from a client's point of view: requirements for every response with status code 400 or above.
//!
//! Written from the specification, on purpose without the gateway's own tables. It checks an [`HttpResponse`] of the
//! strict reader; whether the error is the right one is asserted by each test.

use std::fmt;
use std::io::Read;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;

use super::response_reader::{HttpResponse, MessageFraming, ResponseEnd, SentRequest};

/// Documented status codes with their messages.
pub const DOCUMENTED_CODES: [(u16, &str); 9] = [
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

/// The contract's message for this status code.
pub fn default_message(code: u16) -> &'static str {
    DOCUMENTED_CODES
        .iter()
        .find(|(documented, _)| *documented == code)
        .map(|(_, text)| *text)
        .expect("a documented code")
}

/// The body of a local reply with this status code.
pub fn default_body(code: u16, message: &str) -> String {
    format!(r#"{{"message":{},"code":{code}}}"#, Value::from(message))
}

/// Panics unless the response conforms to the contract, whether generated or forwarded.
#[track_caller]
pub fn check_contract(response: &HttpResponse, request: SentRequest) {
    if response.status < 400 {
        return;
    }
    if let Err(violation) = check_error_response(response, request) {
        panic!("{violation}: {response:#?}\n{}", response.text());
    }
}

/// Panics unless the gateway generated this status code and message.
#[track_caller]
pub fn check_local_reply(response: &HttpResponse, request: SentRequest, code: u16, message: &str) {
    check_contract(response, request);
    assert_eq!(response.status, code, "{response:#?}\n{}", response.text());
    assert_eq!(response.header("content-type"), Some("application/json"), "{response:#?}");
    assert_eq!(response.header("x-content-type-options"), Some("nosniff"), "{response:#?}");
    assert!(
        response.framing == MessageFraming::Http2 || response.header("date").is_some(),
        "no Date: {response:#?}"
    );
    for leak in ["server", "x-powered-by", "etag", "last-modified", "content-encoding"] {
        assert_eq!(response.header(leak), None, "header field of the upstream: {response:#?}");
    }
    if !request.is_head() {
        assert_eq!(response.text(), default_body(code, message), "{response:#?}");
    }
}

/// Describes the first contract violation of an error response.
pub fn check_error_response(response: &HttpResponse, request: SentRequest) -> Result<(), String> {
    let status = response.status;
    if !DOCUMENTED_CODES.iter().any(|(code, _)| *code == status) {
        return Err(format!("{status} is not a documented status code"));
    }
    if response.end != ResponseEnd::Complete {
        return Err("incomplete error response".to_owned());
    }
    if response.framing == MessageFraming::Chunked {
        return Err("Content-Length is missing or wrong".to_owned());
    }
    let media_type_may_lack = request.is_head();
    if !response.header("content-type").map_or(media_type_may_lack, is_json) {
        return Err("Content-Type is not application/json".to_owned());
    }
    if response.header("cache-control") != Some("no-store") {
        return Err("no Cache-Control: no-store".to_owned());
    }
    if !response.header("x-request-id").is_some_and(is_uuid_v7) {
        return Err("X-Request-Id is not a UUIDv7".to_owned());
    }
    if matches!(status, 429 | 503) && !response.header("retry-after").is_some_and(is_retry_after) {
        return Err("429 or 503 without Retry-After".to_owned());
    }
    if request.is_head() {
        return if response.body.is_empty() { Ok(()) } else { Err("body in a response to HEAD".to_owned()) };
    }
    check_error_body(&decoded_body(response)?, status)
}

/// Decodes the content coding before the contract check.
fn decoded_body(response: &HttpResponse) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    let read = match response.header("content-encoding") {
        None => return Ok(response.body.clone()),
        Some("gzip") => flate2::read::GzDecoder::new(&response.body[..]).read_to_end(&mut body),
        Some("br") => brotli::Decompressor::new(&response.body[..], 4096).read_to_end(&mut body),
        Some("zstd") => zstd::stream::copy_decode(&response.body[..], &mut body).map(|()| body.len()),
        // The low bits of the first octet of a zlib wrapper are 8: the method.
        Some("deflate") if response.body.first().is_some_and(|octet| octet & 15 == 8) => {
            flate2::read::ZlibDecoder::new(&response.body[..]).read_to_end(&mut body)
        }
        Some("deflate") => flate2::read::DeflateDecoder::new(&response.body[..]).read_to_end(&mut body),
        Some(other) => return Err(format!("unsupported content coding {other:?}")),
    };
    read.map_err(|error| format!("invalid content coding: {error}")).map(|_| body)
}

fn check_error_body(body: &[u8], status: u16) -> Result<(), String> {
    let ObjectMembers(members) =
        serde_json::from_slice(body).map_err(|error| format!("body is not a JSON object: {error}"))?;
    let mut names: Vec<_> = members.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    if names.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err("duplicate member in the body".to_owned());
    }
    let member = |name: &str| members.iter().find(|(found, _)| found == name).map(|(_, value)| value);
    match member("message").and_then(Value::as_str) {
        Some(text) if (1..=1000).contains(&text.chars().count()) && !text.contains(char::is_control) => {}
        _ => return Err("no message of 1 to 1,000 characters in the body".to_owned()),
    }
    if member("code").and_then(Value::as_u64) != Some(u64::from(status)) {
        return Err("code in the body is not the status code".to_owned());
    }
    let documented = ["message", "code", "type", "version", "request_id", "retryable", "request_sent"];
    match names.iter().find(|name| !documented.contains(name)) {
        Some(unknown) => Err(format!("unknown member {unknown:?} in the body")),
        None => Ok(()),
    }
}

/// `application/json` with charset UTF-8 or none. Other parameters are ignored.
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

/// Members of a JSON object in order, duplicates included.
struct ObjectMembers(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for ObjectMembers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectVisitor;
        impl<'de> Visitor<'de> for ObjectVisitor {
            type Value = ObjectMembers;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<ObjectMembers, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(ObjectMembers(members))
            }
        }
        deserializer.deserialize_map(ObjectVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::super::response_reader::StrictReader;
    use super::*;

    const GET: SentRequest = SentRequest::Http11("GET");
    const ID: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

    fn error(status: u16, fields: &str, body: &str) -> Result<(), String> {
        let message = format!("HTTP/1.1 {status} X\r\n{fields}content-length: {}\r\n\r\n{body}", body.len());
        check_error_response(&StrictReader::new(message.as_bytes()).read(GET).unwrap(), GET)
    }

    fn valid_fields() -> String {
        format!("content-type: application/json\r\ncache-control: no-store\r\nx-request-id: {ID}\r\n")
    }

    #[test]
    fn documented_error_is_accepted() {
        assert_eq!(error(404, &valid_fields(), r#"{"message":"No.","code":404,"type":"x"}"#), Ok(()));
        assert_eq!(
            error(503, &format!("{}retry-after: 5\r\n", valid_fields()), r#"{"message":"No.","code":503}"#),
            Ok(())
        );
    }

    #[test]
    fn contract_violations_are_each_reported() {
        let body = r#"{"message":"No.","code":404}"#;
        for (status, fields, body, what) in [
            (405, valid_fields(), r#"{"message":"No.","code":405}"#, "not a documented status code"),
            (404, valid_fields().replace("application/json", "text/html"), body, "not application/json"),
            (404, valid_fields().replace("no-store", "public"), body, "no-store"),
            (404, valid_fields().replace("-774b", "-474b"), body, "X-Request-Id"),
            (503, valid_fields(), r#"{"message":"No.","code":503}"#, "without Retry-After"),
            (404, valid_fields(), "", "not a JSON object"),
            (404, valid_fields(), "[]", "not a JSON object"),
            (404, valid_fields(), r#"{"message":"","code":404}"#, "1,000 characters"),
            (404, valid_fields(), r#"{"message":"No.","code":500}"#, "not the status"),
            (404, valid_fields(), r#"{"message":"No.","code":"404"}"#, "not the status"),
            (404, valid_fields(), r#"{"message":"No.","code":404,"code":404}"#, "duplicate member"),
            (404, valid_fields(), r#"{"message":"No.","code":404,"trace":"x"}"#, "trace"),
        ] {
            let found = error(status, &fields, body).unwrap_err();
            assert!(found.contains(what), "{status} {fields} {body}: {found}");
        }
    }
}
