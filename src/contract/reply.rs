//! Builds a complete [`LocalReply`] (status, header fields, body) from a decision of the policy.
//!
//! [`compose`] does not choose the code (see [`super::policy`]) and does not send anything. The sender adds only
//! Content-Length, Connection and Date. Evidence cannot appear in a reply: every text comes from the contract, an
//! operator's override, or an upstream message that passes [`super::text::is_allowed`].

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

/// Where the error originated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorOrigin {
    /// In the gateway: a fault.
    Proxy,
    /// In the upstream: its error response is replaced.
    Replaced,
}

/// The inputs of a reply, apart from the decision.
#[derive(Clone, Debug)]
pub struct ReplyContext<'a> {
    /// Where the error originated.
    pub origin: ErrorOrigin,
    /// The request method is HEAD: the reply has no body.
    pub is_head_request: bool,
    /// The request is a gRPC call: the error is sent in header fields with HTTP status 200.
    pub grpc: bool,
    /// The sanitized upstream message, if it may be sent with this code. It precedes the contract's message, but not an
    /// override's. A message that fails [`text::is_allowed`] is ignored.
    pub message: Option<&'a str>,
    /// The upstream's `type`; a value that the contract does not allow is ignored.
    pub kind: Option<&'a str>,
    /// The optional body members.
    pub include: Include,
    /// The request ID, sent as `X-Request-Id`.
    pub request_id: Option<&'a HeaderValue>,
    /// The `retryable` member, see [`body::retryable`].
    pub retryable: bool,
    /// How much of the request was sent to the upstream.
    pub request_sent: RequestSent,
    /// Fallback `Retry-After` of a 429 or 503, in seconds; 0 is sent as 1.
    pub retry_after: u64,
    /// Upstream header fields to keep, and fields of other modules (rate limits, CORS). Their first `Retry-After`
    /// precedes the fallback.
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

/// A complete response that the gateway sends instead of an upstream response. Only [`compose`] builds error replies,
/// so their code is always documented; [`LocalReply::preflight`] builds the only successful reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalReply {
    /// `None` for a preflight response.
    code: Option<DocumentedCode>,
    status: u16,
    reason: Arc<str>,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: Bytes,
    content_length: Option<u64>,
}

impl LocalReply {
    /// Builds the response to an allowed preflight request: 204 with these header fields.
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

    /// The documented code; `None` if the reply is not an error.
    pub const fn code(&self) -> Option<DocumentedCode> {
        self.code
    }

    /// The HTTP status code on the wire. For a gRPC error this is 200.
    pub const fn status(&self) -> u16 {
        self.status
    }

    /// The reason phrase, for HTTP/1.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// All header fields except Content-Length and Connection. Contains Date only if the upstream's was kept.
    pub fn headers(&self) -> &[(HeaderName, HeaderValue)] {
        &self.headers
    }

    /// The body; empty on a HEAD request.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// Content-Length in bytes. `None` for a replaced response to HEAD, because the length for GET is unknown, and for
    /// replies without content (RFC 9110, section 8.6).
    pub const fn content_length(&self) -> Option<u64> {
        self.content_length
    }
}

/// Builds the reply for a decision.
pub fn compose(contract: &Contract, decision: &Decision, context: ReplyContext<'_>) -> LocalReply {
    let entry = contract.entry(decision.code());
    if context.grpc {
        return compose_grpc(contract, decision, entry, context);
    }
    let text = write_body(contract, decision, entry, &context);

    // A HEAD reply has the length of the GET reply. If the response is replaced, GET might have forwarded another body.
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

/// Builds the reply for a gRPC client: `grpc-status` and `grpc-message` in the header section, no body
/// ("Trailers-Only").
fn compose_grpc(
    contract: &Contract,
    decision: &Decision,
    entry: &CodeEntry,
    context: ReplyContext<'_>,
) -> LocalReply {
    let status = grpc::status_for_error(decision.trigger(), entry.code().status());
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
    // The message is percent-encoded, so the conversion never fails.
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

/// Returns the fields of `context`, then the reply's fields in a fixed order.
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
        // An override's `Retry-After` replaces all others. Of duplicates, keep the first.
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
