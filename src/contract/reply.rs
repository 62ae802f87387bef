//! A ruling becomes a [`LocalReply`], complete: status, every field, body.
//!
//! [`compose`] takes finished values and joins them; it decides no code (see [`super::policy`]) and writes to nobody. The
//! door that sends a reply adds Content-Length, Connection and Date and nothing else. Evidence has no way in: every text
//! here comes from the contract, an operator's override, or a message that passes the text rule.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderName, HeaderValue};

use super::body::{self, Include, Members};
use super::code::{CodeEntry, Contract, DocumentedCode};
use super::fault::RequestSent;
use super::grpc;
use super::policy::Ruling;
use super::text;

/// Who made the error that is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// We did: a fault.
    Proxy,
    /// The upstream did: its answer is replaced.
    Replaced,
}

/// What is known when a reply is made. Finished values only.
#[derive(Clone, Debug)]
pub struct ReplyFacts<'a> {
    /// Who made the error.
    pub origin: Origin,
    /// The request is a HEAD: no body.
    pub head_request: bool,
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
    pub fields: Vec<(HeaderName, HeaderValue)>,
}

/// A whole answer made here. Only [`compose`] makes one that is an error, so its code is documented and its body says so;
/// [`LocalReply::preflight`] makes the one that is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalReply {
    /// `None` for a preflight's answer.
    code: Option<DocumentedCode>,
    status: u16,
    reason: Arc<str>,
    fields: Vec<(HeaderName, HeaderValue)>,
    body: Bytes,
    content_length: Option<u64>,
}

impl LocalReply {
    /// The answer to a preflight that is allowed: 204 with these fields.
    pub fn preflight(mut fields: Vec<(HeaderName, HeaderValue)>, request_id: &HeaderValue) -> LocalReply {
        fields.push((REQUEST_ID, request_id.clone()));
        LocalReply {
            code: None,
            status: 204,
            reason: Arc::from("No Content"),
            fields,
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
    pub fn fields(&self) -> &[(HeaderName, HeaderValue)] {
        &self.fields
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
pub fn compose(contract: &Contract, ruling: &Ruling, facts: ReplyFacts<'_>) -> LocalReply {
    let entry = contract.entry(ruling.code());
    if facts.grpc {
        return in_grpc(contract, ruling, entry, facts);
    }
    let text = write_body(contract, ruling, entry, &facts);

    // As long as GET's would be. A replaced answer's GET might have passed as it was.
    let content_length = match facts.origin {
        Origin::Replaced if facts.head_request => None,
        Origin::Proxy | Origin::Replaced => Some(text.len() as u64),
    };
    let body = if facts.head_request { Bytes::new() } else { text };

    let fields = all_fields(ruling, entry, facts);
    LocalReply {
        code: Some(entry.code()),
        status: entry.code().status(),
        reason: entry.shared_reason(),
        fields,
        body,
        content_length,
    }
}

/// The same error to a caller of gRPC: two fields say it, and nothing follows the head ("Trailers-Only").
fn in_grpc(contract: &Contract, ruling: &Ruling, entry: &CodeEntry, facts: ReplyFacts<'_>) -> LocalReply {
    let status = grpc::Status::of(ruling.case(), entry.code().status());
    let said = facts.message.filter(|_| ruling.own_message().is_none()).filter(|text| text::passes(text));
    let message = grpc::message(said.unwrap_or_else(|| ruling.message(contract)));
    let mut fields = all_fields(ruling, entry, facts);
    for (name, value) in &mut fields {
        if *name == CONTENT_TYPE {
            *value = HeaderValue::from_static("application/grpc");
        }
    }
    fields.push((GRPC_STATUS, HeaderValue::from_static(status.number())));
    // Percent-encoded, so it is always a field value.
    if let Ok(message) = HeaderValue::from_str(&message) {
        fields.push((GRPC_MESSAGE, message));
    }
    LocalReply {
        code: Some(entry.code()),
        status: 200,
        reason: Arc::from("OK"),
        fields,
        body: Bytes::new(),
        content_length: None,
    }
}

fn write_body(contract: &Contract, ruling: &Ruling, entry: &CodeEntry, facts: &ReplyFacts<'_>) -> Bytes {
    let upstream_message =
        facts.message.filter(|_| ruling.own_message().is_none()).filter(|text| text::passes(text));
    let upstream_kind = facts.kind.filter(|kind| contract.allows_type(kind));
    let include = facts.include;
    let members = Members {
        code: entry.code(),
        message: upstream_message.unwrap_or_else(|| ruling.message(contract)),
        kind: upstream_kind.or_else(|| entry.kind().filter(|_| include.kind)),
        request_id: facts.request_id.filter(|_| include.request_id).and_then(|id| id.to_str().ok()),
        retryable: include.retryable.then_some(facts.retryable),
        request_sent: include.request_sent.then_some(facts.request_sent),
    };
    let mut out = BytesMut::new();
    body::write_json(&members, &mut out);
    out.freeze()
}

/// The fields given, then ours, in a fixed order.
fn all_fields(ruling: &Ruling, entry: &CodeEntry, facts: ReplyFacts<'_>) -> Vec<(HeaderName, HeaderValue)> {
    let mut fields = facts.fields;
    let mut waits = 0;
    fields.retain(|(name, _)| {
        if *name != RETRY_AFTER {
            return true;
        }
        // An override's wait replaces every other; of several, the first counts.
        waits += 1;
        waits == 1 && ruling.retry_after().is_none()
    });
    let says_later = matches!(entry.code().status(), 429 | 503);
    let wait = match ruling.retry_after() {
        Some(seconds) => Some(seconds),
        None if says_later && waits == 0 => Some(facts.retry_after),
        None => None,
    };

    fields.reserve(5);
    fields.push((CONTENT_TYPE, HeaderValue::from_static(body::JSON)));
    fields.push((CACHE_CONTROL, HeaderValue::from_static("no-store")));
    fields.push((X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")));
    if let Some(id) = facts.request_id {
        fields.push((REQUEST_ID, id.clone()));
    }
    if let Some(seconds) = wait {
        fields.push((RETRY_AFTER, HeaderValue::from(seconds.max(1))));
    }
    fields
}

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

#[cfg(test)]
#[path = "reply_tests.rs"]
mod tests;
