//! Checks an error response against the contract, as a client can.
//!
//! The checks hold for every error of the gateway. Whether it is the right error for a row is checked by the caller.
//! The violation is the text that an operator reads next to the name of the fault.

use super::response_reader::{BodyEnd, ReceivedResponse, ResponseBodyFraming};
use super::step::RequestKind;
use crate::contract::conform::{self, Conformance, ErrorBody};
use crate::contract::{Contract, JsonPath, RequestSent, UpstreamMessages, json};

/// Checks a response with a status code of 400 or above.
///
/// # Errors
/// The first violation of the contract.
pub fn check_error_response(
    response: &ReceivedResponse,
    request_kind: RequestKind,
    contract: &Contract,
) -> Result<(), String> {
    let status = response.status;
    if contract.code(status).is_none() {
        return Err(format!("{status} is not a documented code"));
    }
    if response.end != BodyEnd::Complete {
        return Err("truncated error response".to_owned());
    }
    let is_repeated =
        |single: &&&str| response.headers.iter().filter(|(name, _)| name == **single).count() > 1;
    if let Some(name) = SINGLE_FIELDS.iter().find(is_repeated) {
        return Err(format!("duplicate {name} field in an error"));
    }
    if matches!(response.framing, ResponseBodyFraming::Chunked | ResponseBodyFraming::CloseDelimited) {
        return Err("error without Content-Length".to_owned());
    }
    let expected = contract.media_type().to_str().unwrap_or_default();
    let is_expected = |media_type: &str| is_media_type(media_type, expected);
    if !response.header("content-type").map_or(request_kind.head, is_expected) {
        let actual = response.header("content-type").unwrap_or("none");
        return Err(format!("expected Content-Type {expected}, got {actual}"));
    }
    if response.header("cache-control") != Some("no-store") {
        return Err("error without Cache-Control: no-store".to_owned());
    }
    if !response.header("x-request-id").is_some_and(is_uuid_v7) {
        return Err("error without a valid X-Request-Id".to_owned());
    }
    if matches!(status, 429 | 503) && !response.header("retry-after").is_some_and(is_retry_after) {
        return Err(format!("{status} without a valid Retry-After"));
    }
    if request_kind.head {
        return Ok(());
    }
    parse_error_body(response, contract).map(|_| ())
}

/// The members of an error body that are compared with the expectation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParsedErrorBody {
    /// The message; empty if the contract has no place for it.
    pub message: String,
    /// The type.
    pub error_type: Option<String>,
    /// `cause`.
    pub cause: Option<String>,
    /// `request_sent`.
    pub request_sent: Option<RequestSent>,
}

/// Parses and checks the body of an error.
///
/// # Errors
/// The body does not have the form of the contract.
pub fn parse_error_body(response: &ReceivedResponse, contract: &Contract) -> Result<ParsedErrorBody, String> {
    if contract.is_flat() { parse_flat_body(response) } else { parse_templated_body(response, contract) }
}

/// The message and the type where the contract's template has them.
pub(crate) fn message_and_type(body: &[u8], contract: &Contract) -> (Option<String>, Option<String>) {
    let text = String::from_utf8_lossy(body);
    let Ok(value) = json::read(&text) else { return (None, None) };
    let template = contract.template();
    let first = |places: &[JsonPath]| {
        places.iter().find_map(|place| place.find(&value)?.as_text().map(str::to_owned))
    };
    (first(template.message_places()), first(template.type_places()))
}

fn parse_templated_body(response: &ReceivedResponse, contract: &Contract) -> Result<ParsedErrorBody, String> {
    let media_type = Some(contract.media_type().as_bytes());
    let body = ErrorBody { status: response.status, media_type, body: &response.body };
    match conform::check_conformance(contract, &body, UpstreamMessages::All) {
        Conformance::Conforms => {}
        Conformance::NotJson => return Err("error body is not a JSON object".to_owned()),
        Conformance::WrongShape
        | Conformance::MessageWithheld
        | Conformance::Undocumented
        | Conformance::TooLarge
        | Conformance::BuffersFull
        | Conformance::Incomplete => {
            return Err("the error body does not have the form of the contract".to_owned());
        }
    }
    let (message, error_type) = message_and_type(&response.body, contract);
    let message = message.unwrap_or_default();
    Ok(ParsedErrorBody { message, error_type, cause: None, request_sent: None })
}

fn parse_flat_body(response: &ReceivedResponse) -> Result<ParsedErrorBody, String> {
    let text = String::from_utf8_lossy(&response.body);
    let value = json::read(&text).map_err(|error| match error {
        json::ReadError::DuplicateMember => "duplicate member in the error body",
        json::ReadError::Syntax | json::ReadError::TooDeep => "error body is not a JSON object",
    })?;
    let members = value.members().ok_or("error body is not a JSON object")?;
    if let Some(other) = members.iter().find(|member| !ALLOWED_MEMBERS.contains(&&*member.name)) {
        return Err(format!("unexpected member {:?} in the error body", other.name));
    }
    let text_of = |name: &str| value.member(name).map(|member| member.as_text());
    let message = text_of("message").flatten().filter(|text| is_message(text));
    let message = message.ok_or("error body without a message of 1 to 1,000 printable characters")?;
    if value.member("code").is_none_or(|code| code.raw != response.status.to_string()) {
        return Err("code in the error body differs from the status code".to_owned());
    }
    if text_of("request_id").is_some_and(|id| id != response.header("x-request-id")) {
        return Err("request_id differs from X-Request-Id".to_owned());
    }
    let request_sent = value.member("request_sent").map(|member| serde_json::from_str(member.raw));
    Ok(ParsedErrorBody {
        message: message.to_owned(),
        error_type: text_of("type").flatten().map(str::to_owned),
        cause: text_of("cause").map(|cause| cause.unwrap_or_default().to_owned()),
        request_sent: request_sent
            .transpose()
            .map_err(|_| "request_sent is not one of none, partial, full")?,
    })
}

/// Those of the flat body, of the built-in contracts, and of `errors.include`.
const ALLOWED_MEMBERS: [&str; 9] =
    ["message", "code", "type", "version", "details", "request_id", "cause", "retryable", "request_sent"];

/// Fields that an error must not repeat.
const SINGLE_FIELDS: [&str; 7] =
    ["content-type", "date", "location", "retry-after", "x-request-id", "x-content-type-options", "server"];

fn is_message(text: &str) -> bool {
    (1..=1000).contains(&text.chars().count()) && !text.contains(char::is_control)
}

/// Accepts the contract's media type; a charset parameter must be UTF-8. Other parameters are ignored: forwarded errors
/// may have them.
fn is_media_type(media_type: &str, expected: &str) -> bool {
    let lower = media_type.to_ascii_lowercase();
    let mut parts = lower.split(';').map(str::trim);
    let is_utf8_charset = |parameter: &str| match parameter.split_once('=') {
        Some(("charset", value)) => value.trim_matches('"') == "utf-8",
        Some(_) => true,
        None => parameter.is_empty(),
    };
    let expected = expected.split(';').next().map(str::trim);
    parts.next() == expected && parts.all(is_utf8_charset)
}

fn is_uuid_v7(id: &str) -> bool {
    id.len() == 36 && uuid::Uuid::try_parse(id).is_ok_and(|id| id.get_version_num() == 7)
}

fn is_retry_after(value: &str) -> bool {
    value.parse::<u64>().is_ok_and(|seconds| seconds >= 1) || value.ends_with(" GMT")
}
