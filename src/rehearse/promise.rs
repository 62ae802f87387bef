//! The promise, as a client can check it: what every error must be, whatever it was that broke.
//!
//! It judges one [`Answer`] by a contract and the configured choices; whether it is the right error for the row is for the
//! caller to say. Breaches are sentences: they are what an operator reads beside the name of a fault.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;

use super::answers::{Answer, Ended, Framing};
use super::clients::Asked;
use crate::contract::{Contract, RequestSent};

/// Judges an answer of 400 or above.
///
/// # Errors
/// The first thing about it that breaks the promise.
pub fn judge(answer: &Answer, asked: Asked, contract: &Contract) -> Result<(), String> {
    let status = answer.status;
    if contract.code(status).is_none() {
        return Err(format!("{status} is not a documented code"));
    }
    if answer.ended != Ended::Whole {
        return Err("an error that is not whole".to_owned());
    }
    let stands_twice = |single: &&&str| answer.fields.iter().filter(|(name, _)| name == **single).count() > 1;
    if let Some(name) = SINGLE.iter().find(stands_twice) {
        return Err(format!("an error with two {name}"));
    }
    if matches!(answer.framing, Framing::Chunked | Framing::Close) {
        return Err("an error without an exact Content-Length".to_owned());
    }
    if !answer.field("content-type").map_or(asked.head, is_json) {
        let found = answer.field("content-type").unwrap_or("nothing");
        return Err(format!("an error whose Content-Type is {found}, not application/json"));
    }
    if answer.field("cache-control") != Some("no-store") {
        return Err("an error that may be stored: no Cache-Control: no-store".to_owned());
    }
    if !answer.field("x-request-id").is_some_and(is_uuid_v7) {
        return Err("an error without an X-Request-Id".to_owned());
    }
    if matches!(status, 429 | 503) && !answer.field("retry-after").is_some_and(is_retry_after) {
        return Err(format!("a {status} without a Retry-After"));
    }
    if asked.head {
        return Ok(());
    }
    body_of(answer).map(|_| ())
}

/// The members of an error's body that a client reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorBody {
    /// `message`.
    pub message: String,
    /// `type`.
    pub kind: Option<String>,
    /// `request_sent`.
    pub sent: Option<RequestSent>,
}

/// Reads the body of an error.
///
/// # Errors
/// It is not the documented object.
pub fn body_of(answer: &Answer) -> Result<ErrorBody, String> {
    let Members(members) =
        serde_json::from_slice(&answer.body).map_err(|_| "a body that is no JSON object")?;
    let repeated =
        members.iter().any(|(name, _)| members.iter().filter(|(other, _)| other == name).count() > 1);
    if repeated {
        return Err("a body with a repeated member".to_owned());
    }
    if let Some((name, _)) = members.iter().find(|(name, _)| !MEMBERS.contains(&name.as_str())) {
        return Err(format!("a body with a member {name:?}"));
    }
    let member = |name: &str| members.iter().find(|(found, _)| found == name).map(|(_, value)| value);
    let message = member("message").and_then(Value::as_str).filter(|text| is_message(text));
    let message = message.ok_or("a body without a message of 1 to 1,000 plain characters")?;
    if member("code").and_then(Value::as_u64) != Some(u64::from(answer.status)) {
        return Err("a body whose code is not the status".to_owned());
    }
    if let Some(id) = member("request_id")
        && id.as_str() != answer.field("x-request-id")
    {
        return Err("a request_id that is not the X-Request-Id".to_owned());
    }
    let sent = member("request_sent").map(|value| {
        let all = [RequestSent::None, RequestSent::Partial, RequestSent::Full];
        let named = value.as_str().and_then(|name| all.into_iter().find(|sent| sent.name() == name));
        named.ok_or("a request_sent that is none of none, partial, full")
    });
    Ok(ErrorBody {
        message: message.to_owned(),
        kind: member("type").and_then(Value::as_str).map(str::to_owned),
        sent: sent.transpose()?,
    })
}

const MEMBERS: [&str; 7] = ["message", "code", "type", "version", "request_id", "retryable", "request_sent"];

/// Fields that an error has once or not at all.
const SINGLE: [&str; 7] =
    ["content-type", "date", "location", "retry-after", "x-request-id", "x-content-type-options", "server"];

fn is_message(text: &str) -> bool {
    (1..=1000).contains(&text.chars().count()) && !text.contains(char::is_control)
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
    let groups: Vec<&str> = id.split('-').collect();
    groups.iter().map(|group| group.len()).eq([8, 4, 4, 4, 12])
        && groups.iter().all(|group| group.bytes().all(|byte| byte.is_ascii_hexdigit()))
        && groups.get(2).is_some_and(|group| group.starts_with('7'))
}

fn is_retry_after(value: &str) -> bool {
    value.parse::<u64>().is_ok_and(|seconds| seconds >= 1) || value.ends_with(" GMT")
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
