//! Writes JSON error bodies: members, their order, and escaping.
//!
//! [`super::policy`] and [`super::reply`] choose the code and the message. Another body format would be another writer
//! of the same [`ErrorBodyMembers`].

use bytes::{BufMut, BytesMut};
use http::Method;

use super::code::DocumentedCode;
use super::fault::RequestSent;

/// Optional members that an operator can add to every local error body.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Include {
    /// `type`, also when the upstream body has none.
    pub kind: bool,
    /// `request_id`.
    pub request_id: bool,
    /// `retryable`: whether the client may retry the same request. See [`retryable`].
    pub retryable: bool,
    /// `request_sent`: whether the request reached the upstream.
    pub request_sent: bool,
}

/// The members of one body. `None` members are omitted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ErrorBodyMembers<'a> {
    /// `code`, the documented status code.
    pub code: DocumentedCode,
    /// `message`.
    pub message: &'a str,
    /// `type`.
    pub kind: Option<&'a str>,
    /// `request_id`.
    pub request_id: Option<&'a str>,
    /// `retryable`.
    pub retryable: Option<bool>,
    /// `request_sent`.
    pub request_sent: Option<RequestSent>,
}

/// The media type of the output of [`write_json`].
pub(crate) const JSON_MEDIA_TYPE: &str = "application/json";

/// Writes `{"message":"...","code":N}`, with the optional `type`, `request_id`, `retryable` and `request_sent` last.
pub(crate) fn write_json(members: &ErrorBodyMembers<'_>, out: &mut BytesMut) {
    out.reserve(members.message.len() + members.kind.map_or(0, str::len) + 160);
    out.put_slice(b"{\"message\":");
    write_string(members.message, out);
    out.put_slice(b",\"code\":");
    write_status(members.code.status(), out);
    if let Some(kind) = members.kind {
        out.put_slice(b",\"type\":");
        write_string(kind, out);
    }
    if let Some(id) = members.request_id {
        out.put_slice(b",\"request_id\":");
        write_string(id, out);
    }
    if let Some(retryable) = members.retryable {
        out.put_slice(if retryable { b",\"retryable\":true" } else { b",\"retryable\":false" });
    }
    if let Some(sent) = members.request_sent {
        out.put_slice(b",\"request_sent\":");
        write_string(sent.name(), out);
    }
    out.put_u8(b'}');
}

/// Whether a client may retry the unchanged request: the error is temporary (429, 503, 504), and the request was not
/// processed (not sent to the upstream, or denied with 429) or its method is idempotent (RFC 9110, section 9.2.2).
/// For other codes a retry gets the same response.
pub fn retryable(code_status: u16, request_sent: RequestSent, method: &Method) -> bool {
    match code_status {
        429 => true,
        503 | 504 => request_sent == RequestSent::None || method.is_idempotent(),
        _ => false,
    }
}

/// A JSON string, quotes included (RFC 8259, section 7).
fn write_string(text: &str, out: &mut BytesMut) {
    out.put_u8(b'"');
    let mut rest = text.as_bytes();
    // Few messages need escaping. Without an early exit the compiler vectorizes this check (16 bytes at a time).
    if !rest.iter().fold(false, |any, &b| any | needs_escape(b)) {
        out.put_slice(rest);
        out.put_u8(b'"');
        return;
    }
    // Only ASCII bytes are escaped, so splitting there never divides a UTF-8 sequence.
    while let Some(at) = rest.iter().position(|&b| needs_escape(b)) {
        let (plain, tail) = rest.split_at(at);
        out.put_slice(plain);
        let Some((&byte, after)) = tail.split_first() else { break };
        write_escape(byte, out);
        rest = after;
    }
    out.put_slice(rest);
    out.put_u8(b'"');
}

const fn needs_escape(byte: u8) -> bool {
    (byte < 0x20) | (byte == b'"') | (byte == b'\\')
}

fn write_escape(byte: u8, out: &mut BytesMut) {
    match byte {
        b'"' => out.put_slice(b"\\\""),
        b'\\' => out.put_slice(b"\\\\"),
        b'\n' => out.put_slice(b"\\n"),
        b'\r' => out.put_slice(b"\\r"),
        b'\t' => out.put_slice(b"\\t"),
        _ => {
            out.put_slice(b"\\u00");
            out.put_u8(hex_digit(byte >> 4));
            out.put_u8(hex_digit(byte & 0x0f));
        }
    }
}

const fn hex_digit(nibble: u8) -> u8 {
    if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 }
}

/// Writes the 3 digits of a documented status.
fn write_status(status: u16, out: &mut BytesMut) {
    for unit in [100, 10, 1] {
        // Below 10, so the cast is lossless.
        out.put_u8(b'0' + (status / unit % 10) as u8);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::contract::Contract;

    fn rendered(members: &ErrorBodyMembers<'_>) -> String {
        let mut out = BytesMut::new();
        write_json(members, &mut out);
        String::from_utf8(out.to_vec()).unwrap()
    }

    fn members(message: &str) -> ErrorBodyMembers<'_> {
        let code = Contract::builtin("appwrite").unwrap().code(404).unwrap();
        ErrorBodyMembers { code, message, kind: None, request_id: None, retryable: None, request_sent: None }
    }

    #[test]
    fn json_body_starts_with_message_and_code() {
        assert_eq!(rendered(&members("No such user.")), r#"{"message":"No such user.","code":404}"#);
        let all = ErrorBodyMembers {
            kind: Some("user_not_found"),
            request_id: Some("0190-a"),
            retryable: Some(false),
            request_sent: Some(RequestSent::Partial),
            ..members("x")
        };
        assert_eq!(
            rendered(&all),
            r#"{"message":"x","code":404,"type":"user_not_found","request_id":"0190-a","retryable":false,"request_sent":"partial"}"#
        );
    }

    #[test]
    fn json_string_escapes_only_what_json_requires() {
        assert_eq!(
            rendered(&members("\"\\\n\r\t\u{0}\u{1f}/é\u{2028}\u{7f}")),
            "{\"message\":\"\\\"\\\\\\n\\r\\t\\u0000\\u001f/é\u{2028}\u{7f}\",\"code\":404}"
        );
    }

    #[test]
    fn retryable_depends_on_status_request_sent_and_method() {
        let cases = [
            (429, RequestSent::Full, Method::POST, true),
            (503, RequestSent::None, Method::POST, true),
            (503, RequestSent::Partial, Method::POST, false),
            (503, RequestSent::Full, Method::DELETE, true),
            (504, RequestSent::None, Method::PATCH, true),
            (504, RequestSent::Full, Method::PATCH, false),
            (504, RequestSent::Full, Method::GET, true),
            (500, RequestSent::None, Method::GET, false),
            (400, RequestSent::None, Method::GET, false),
            (404, RequestSent::None, Method::GET, false),
        ];
        for (status, sent, method, expected) in cases {
            assert_eq!(retryable(status, sent, &method), expected, "{status} {sent:?} {method}");
        }
    }

    proptest! {
        #[test]
        fn json_body_round_trips_any_text(message in any::<String>(), id in any::<String>()) {
            let all = ErrorBodyMembers { request_id: Some(&id), ..members(&message) };
            let parsed: serde_json::Value = serde_json::from_str(&rendered(&all)).unwrap();
            prop_assert_eq!(&parsed["message"], &serde_json::json!(message));
            prop_assert_eq!(&parsed["request_id"], &serde_json::json!(id));
            prop_assert_eq!(&parsed["code"], &serde_json::json!(404));
        }
    }
}
