//! A ruling becomes a [`LocalReply`], complete: status, every field, body.
//!
//! [`compose`] takes finished values and joins them; it decides no code (see [`super::policy`]) and writes to nobody. The
//! door that sends a reply adds Content-Length, Connection and Date and nothing else. Evidence has no way in: every text
//! here comes from the contract, an operator's override, or a message that passes the text rule.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderName, HeaderValue};

use super::body::{self, ErrorBodyMembers, Include};
use super::code::{CodeEntry, Contract, DocumentedCode};
use super::fault::RequestSent;
use super::grpc;
use super::policy::Decision;
use super::text;

/// Who made the error that is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorOrigin {
    /// We did: a fault.
    Proxy,
    /// The upstream did: its answer is replaced.
    Replaced,
}

/// What is known when a reply is made. Finished values only.
#[derive(Clone, Debug)]
pub struct ReplyContext<'a> {
    /// Who made the error.
    pub origin: ErrorOrigin,
    /// The request is a HEAD: no body.
    pub is_head_request: bool,
    /// The request is a call of gRPC: the error is said in fields, beside HTTP 200.
    pub grpc: bool,
    /// The upstream's message, cleaned, where it may leave under this code. Used before the ruling's text, but never
    /// before an override's; one that does not pass the text rule is not used.
    pub message: Option<&'a str>,
    /// The upstream's `type`; one that the contract does not allow is not used.
    pub kind: Option<&'a str>,
    /// Members asked for.
    pub include: Include,
    /// The request's id.
    pub request_id: Option<&'a HeaderValue>,
    /// See [`body::retryable`].
    pub retryable: bool,
    /// Whether the request reached the upstream.
    pub request_sent: RequestSent,
    /// `Retry-After` of a 429 or 503 where nothing better is known, in seconds; 0 counts as 1.
    pub retry_after: u64,
    /// Kept fields of the upstream, and finished fields of others (limits, CORS). The first `Retry-After` among them
    /// precedes the fallback.
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

/// A whole answer made here. Only [`compose`] makes one that is an error, so its code is documented and its body says so;
/// [`LocalReply::preflight`] makes the one that is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalReply {
    /// `None` for a preflight's answer.
    code: Option<DocumentedCode>,
    status: u16,
    reason: Arc<str>,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: Bytes,
    content_length: Option<u64>,
}

impl LocalReply {
    /// The answer to a preflight that is allowed: 204 with these fields.
    pub fn preflight(mut headers: Vec<(HeaderName, HeaderValue)>, request_id: &HeaderValue) -> LocalReply {
        headers.push((REQUEST_ID, request_id.clone()));
        LocalReply {
            code: None,
            status: 204,
            reason: Arc::from("No Content"),
            headers,
            body: Bytes::new(),
            content_length: None,
        }
    }

    /// The code; `None` where it is no error.
    pub const fn code(&self) -> Option<DocumentedCode> {
        self.code
    }

    /// The status on the wire.
    pub const fn status(&self) -> u16 {
        self.status
    }

    /// The reason phrase, for HTTP/1.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// Every field but Content-Length, Connection and Date. (A Date is among them where the upstream's was kept.)
    pub fn headers(&self) -> &[(HeaderName, HeaderValue)] {
        &self.headers
    }

    /// The body; empty on a HEAD request.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// Content-Length, in bytes. `None` on a HEAD request whose answer is replaced: what GET would have is not known. `None`
    /// too where there is no content (RFC 9110 8.6).
    pub const fn content_length(&self) -> Option<u64> {
        self.content_length
    }
}

/// Makes the reply of a ruling.
pub fn compose(contract: &Contract, decision: &Decision, context: ReplyContext<'_>) -> LocalReply {
    let entry = contract.entry(decision.code());
    if context.grpc {
        return compose_grpc(contract, decision, entry, context);
    }
    let text = write_body(contract, decision, entry, &context);

    // As long as GET's would be. A replaced answer's GET might have passed as it was.
    let content_length = match context.origin {
        ErrorOrigin::Replaced if context.is_head_request => None,
        ErrorOrigin::Proxy | ErrorOrigin::Replaced => Some(text.len() as u64),
    };
    let body = if context.is_head_request { Bytes::new() } else { text };

    let headers = reply_headers(decision, entry, context);
    LocalReply {
        code: Some(entry.code()),
        status: entry.code().status(),
        reason: entry.shared_reason(),
        headers,
        body,
        content_length,
    }
}

/// The same error to a caller of gRPC: two fields say it, and nothing follows the head ("Trailers-Only").
fn compose_grpc(
    contract: &Contract,
    decision: &Decision,
    entry: &CodeEntry,
    context: ReplyContext<'_>,
) -> LocalReply {
    let status = grpc::GrpcStatus::for_error(decision.trigger(), entry.code().status());
    let upstream_message = context
        .message
        .filter(|_| decision.override_message().is_none())
        .filter(|text| text::is_allowed(text));
    let message = grpc::encode_message(upstream_message.unwrap_or_else(|| decision.message(contract)));
    let mut headers = reply_headers(decision, entry, context);
    for (name, value) in &mut headers {
        if *name == CONTENT_TYPE {
            *value = HeaderValue::from_static("application/grpc");
        }
    }
    headers.push((GRPC_STATUS, HeaderValue::from_static(status.number())));
    // Percent-encoded, so it is always a field value.
    if let Ok(message) = HeaderValue::from_str(&message) {
        headers.push((GRPC_MESSAGE, message));
    }
    LocalReply {
        code: Some(entry.code()),
        status: 200,
        reason: Arc::from("OK"),
        headers,
        body: Bytes::new(),
        content_length: None,
    }
}

fn write_body(
    contract: &Contract,
    decision: &Decision,
    entry: &CodeEntry,
    context: &ReplyContext<'_>,
) -> Bytes {
    let upstream_message = context
        .message
        .filter(|_| decision.override_message().is_none())
        .filter(|text| text::is_allowed(text));
    let upstream_kind = context.kind.filter(|kind| contract.allows_type(kind));
    let include = context.include;
    let members = ErrorBodyMembers {
        code: entry.code(),
        message: upstream_message.unwrap_or_else(|| decision.message(contract)),
        kind: upstream_kind.or_else(|| entry.kind().filter(|_| include.kind)),
        request_id: context.request_id.filter(|_| include.request_id).and_then(|id| id.to_str().ok()),
        retryable: include.retryable.then_some(context.retryable),
        request_sent: include.request_sent.then_some(context.request_sent),
    };
    let mut out = BytesMut::new();
    body::write_json(&members, &mut out);
    out.freeze()
}

/// The fields given, then ours, in a fixed order.
fn reply_headers(
    decision: &Decision,
    entry: &CodeEntry,
    context: ReplyContext<'_>,
) -> Vec<(HeaderName, HeaderValue)> {
    let mut headers = context.headers;
    let mut retry_after_count = 0;
    headers.retain(|(name, _)| {
        if *name != RETRY_AFTER {
            return true;
        }
        // An override's wait replaces every other; of several, the first counts.
        retry_after_count += 1;
        retry_after_count == 1 && decision.retry_after().is_none()
    });
    let needs_retry_after = matches!(entry.code().status(), 429 | 503);
    let retry_after = match decision.retry_after() {
        Some(seconds) => Some(seconds),
        None if needs_retry_after && retry_after_count == 0 => Some(context.retry_after),
        None => None,
    };

    headers.reserve(5);
    headers.push((CONTENT_TYPE, HeaderValue::from_static(body::JSON_MEDIA_TYPE)));
    headers.push((CACHE_CONTROL, HeaderValue::from_static("no-store")));
    headers.push((X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")));
    if let Some(id) = context.request_id {
        headers.push((REQUEST_ID, id.clone()));
    }
    if let Some(seconds) = retry_after {
        headers.push((RETRY_AFTER, HeaderValue::from(seconds.max(1))));
    }
    headers
}

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

#[cfg(test)]
#[path = "reply_tests.rs"]
mod tests;
