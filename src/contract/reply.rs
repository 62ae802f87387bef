//! Builds a complete [`LocalReply`] (status, header fields, body) from a decision of the policy.
//!
//! [`compose`] does not choose the code (see [`super::policy`]) and does not send anything. The sender adds only
//! Content-Length, Connection and Date. Evidence cannot appear in a reply: every text comes from the contract, an
//! operator's override, or an upstream message that passes [`super::text::is_allowed`].

use std::sync::Arc;
use std::time::SystemTime;

use bytes::{Bytes, BytesMut};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, LOCATION, RETRY_AFTER, VARY, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderName, HeaderValue};

use super::body::decimal_digits;
use super::causes::Cause;
use super::code::{CodeEntry, Contract, DocumentedCode};
use super::fault::RequestSent;
use super::grpc::{self, GrpcFamily};
use super::header_filter::retry_after_seconds;
use super::policy::{Decision, Trigger};
use super::route_response::{FixedResponse, RedirectStatus, shared_reason};
use super::template::presets::PROBLEM;
use super::template::render::BodyValues;
use super::text;

/// The format of an error body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BodyFormat {
    /// The contract's, whatever the client prefers (`errors.format: contract`).
    #[default]
    Contract,
    /// The contract's; a client that prefers problem documents gets them (`errors.format: negotiate`).
    NegotiatedContract,
    /// A problem document (RFC 9457), which the client prefers.
    NegotiatedProblem,
}

impl BodyFormat {
    /// Whether the format depends on the Accept of the request.
    pub(crate) const fn is_negotiated(self) -> bool {
        match self {
            BodyFormat::Contract => false,
            BodyFormat::NegotiatedContract | BodyFormat::NegotiatedProblem => true,
        }
    }
}

/// The inputs of a reply, apart from the decision.
#[derive(Clone, Debug)]
pub struct ReplyContext<'a> {
    /// The request method is HEAD: the reply has no body.
    pub is_head_request: bool,
    /// The request is a gRPC call: the error is sent in header fields with HTTP status 200.
    pub grpc: Option<GrpcFamily>,
    /// The sanitized upstream message, if it may be sent with this code. It precedes the contract's message, but not an
    /// override's. A message that fails [`text::is_allowed`] is ignored.
    pub message: Option<&'a str>,
    /// The upstream's `type`; a value that the contract does not allow is ignored.
    pub kind: Option<&'a str>,
    /// The upstream's details, as JSON.
    pub details: Option<&'a str>,
    /// The upstream's declared values, as JSON, by their index.
    pub declared: &'a [Option<String>],
    /// The format of the body.
    pub format: BodyFormat,
    /// The request ID, sent as `X-Request-Id`.
    pub request_id: Option<&'a HeaderValue>,
    /// The `retryable` member, see `retryable_after` in `retryable.rs`.
    pub retryable: bool,
    /// How much of the request was sent to the upstream.
    pub request_sent: RequestSent,
    /// Fallback `Retry-After` of a 429 or 503, a rate limit or an overload, in seconds; 0 is sent as 1.
    pub retry_after: u64,
    /// The current time, for a `Retry-After` of the upstream that is a date.
    pub now: SystemTime,
    /// Upstream header fields to keep, and fields of other modules (rate limits, CORS). Their first `Retry-After`
    /// precedes the fallback.
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

/// A complete response that the gateway sends instead of an upstream response. Only [`compose`] builds error replies,
/// so their code is always documented; [`LocalReply::preflight`], [`LocalReply::redirect`] and [`LocalReply::fixed`]
/// build the replies below 400.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalReply {
    /// `None` for a status below 400.
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
        LocalReply::without_code(204, shared_reason(204), headers, None)
    }

    /// Builds a redirect to `location`, without a body.
    pub fn redirect(
        status: RedirectStatus,
        location: HeaderValue,
        mut headers: Vec<(HeaderName, HeaderValue)>,
        request_id: &HeaderValue,
    ) -> LocalReply {
        headers.extend([(LOCATION, location), (REQUEST_ID, request_id.clone())]);
        LocalReply::without_code(status.code(), shared_reason(status.code()), headers, Some(0))
    }

    /// Builds the fixed response that a route declares. Its status is below 400 and therefore needs no contract.
    pub fn fixed(
        response: &FixedResponse,
        is_head_request: bool,
        mut headers: Vec<(HeaderName, HeaderValue)>,
        request_id: &HeaderValue,
    ) -> LocalReply {
        headers.extend(response.media_type().map(|media_type| (CONTENT_TYPE, media_type.clone())));
        headers.push((REQUEST_ID, request_id.clone()));
        let (status, body) = (response.status(), response.body());
        let length = status.has_length().then_some(body.len() as u64);
        let reply = LocalReply::without_code(status.code(), response.shared_reason(), headers, length);
        LocalReply { body: if is_head_request { Bytes::new() } else { body.clone() }, ..reply }
    }

    /// A reply without a documented code and without a body.
    const fn without_code(
        status: u16,
        reason: Arc<str>,
        headers: Vec<(HeaderName, HeaderValue)>,
        content_length: Option<u64>,
    ) -> LocalReply {
        LocalReply { code: None, status, reason, headers, body: Bytes::new(), content_length }
    }

    /// Removes the header fields for which `removes` returns true, then adds `added`.
    pub(crate) fn edit_headers(
        &mut self,
        removes: impl Fn(&HeaderName) -> bool,
        added: impl Iterator<Item = (HeaderName, HeaderValue)>,
    ) {
        self.headers.retain(|(name, _)| !removes(name));
        self.headers.extend(added);
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
    /// replies without content (RFC 9110 8.6).
    pub const fn content_length(&self) -> Option<u64> {
        self.content_length
    }
}

/// Builds the reply for a decision.
pub fn compose(contract: &Contract, decision: &Decision, context: ReplyContext<'_>) -> LocalReply {
    let entry = contract.entry(decision.code());
    if let Some(family) = context.grpc {
        return compose_grpc(contract, decision, entry, (family, context));
    }
    let retry_after = retry_after_of(decision, entry, &context);
    let text = write_body(contract, decision, entry, &context, retry_after);

    // A HEAD reply has the length of the GET reply. If the response is replaced, GET might have forwarded another body.
    let content_length = match decision.trigger() {
        Trigger::UpstreamStatus(_) if context.is_head_request => None,
        Trigger::Fault(_) | Trigger::UpstreamStatus(_) => Some(text.len() as u64),
    };
    let body = if context.is_head_request { Bytes::new() } else { text };

    let media_type = match context.format {
        BodyFormat::Contract | BodyFormat::NegotiatedContract => contract.media_type().clone(),
        BodyFormat::NegotiatedProblem => PROBLEM_MEDIA_TYPE,
    };
    let headers = reply_headers(decision, media_type, context, retry_after);
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
/// ("Trailers-Only"). Clients of gRPC-Web read them there too, and require the media type that they use.
fn compose_grpc(
    contract: &Contract,
    decision: &Decision,
    entry: &CodeEntry,
    (family, context): (GrpcFamily, ReplyContext<'_>),
) -> LocalReply {
    let status = grpc::status_for_error(decision.trigger(), entry.code().status());
    let message = grpc::encode_message(message_of(contract, decision, &context));
    let retry_after = retry_after_of(decision, entry, &context);
    let media_type = HeaderValue::from_static(family.media_type());
    let context = ReplyContext { format: BodyFormat::Contract, ..context };
    let mut headers = reply_headers(decision, media_type, context, retry_after);
    // A field for browsers; there is no body that one could take for another type.
    headers.retain(|(name, _)| *name != X_CONTENT_TYPE_OPTIONS);
    headers.push((GRPC_STATUS, HeaderValue::from(status as u16)));
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
    retry_after: Option<RetryAfter>,
) -> Bytes {
    let template = match context.format {
        BodyFormat::Contract | BodyFormat::NegotiatedContract => contract.template(),
        BodyFormat::NegotiatedProblem => &PROBLEM,
    };
    let has_upstream_parts = context.message.is_some()
        || context.kind.is_some()
        || context.details.is_some()
        || context.declared.iter().any(Option::is_some);
    if decision.has_default_body()
        && !has_upstream_parts
        && context.format != BodyFormat::NegotiatedProblem
        && let Some(body) = contract.prepared_body(entry.code(), decision.cause())
    {
        return body;
    }
    let upstream_kind =
        context.kind.filter(|kind| decision.override_type().is_none() && contract.allows_type(kind));
    let own_kind =
        || decision.override_type().unwrap_or_else(|| contract.type_for(entry.code(), decision.cause()));
    let names = contract.template().values().iter();
    let declared: Vec<Option<&str>> = names
        .zip(contract.declared_values(entry.code(), decision.cause()))
        .enumerate()
        .map(|(index, (value, constant))| {
            let upstream = context.declared.get(index).and_then(Option::as_deref);
            decision.override_value(&value.name).or(upstream).or(constant)
        })
        .collect();
    let values = BodyValues {
        message: message_of(contract, decision, context),
        kind: upstream_kind.unwrap_or_else(own_kind),
        kind_of_upstream: upstream_kind.is_some(),
        details: context.details,
        request_id: context.request_id.and_then(|id| id.to_str().ok()),
        cause: decision.trigger().name(),
        retryable: context.retryable,
        request_sent: context.request_sent,
        retry_after: retry_after.map(RetryAfter::seconds),
        declared: &declared,
        ..contract.body_values(entry.code(), decision.cause())
    };
    let mut out = BytesMut::new();
    template.render(&values, &mut out);
    out.freeze()
}

/// The override's message, else the upstream's if it may be sent, else the contract's.
fn message_of<'a>(contract: &'a Contract, decision: &'a Decision, context: &ReplyContext<'a>) -> &'a str {
    let upstream = context.message.filter(|_| decision.override_message().is_none());
    upstream.filter(|text| text::is_allowed(text)).unwrap_or_else(|| decision.message(contract))
}

/// The `Retry-After` of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RetryAfter {
    /// Among the fields already.
    Kept(u64),
    /// To be added.
    Added(u64),
}

impl RetryAfter {
    const fn seconds(self) -> u64 {
        match self {
            RetryAfter::Kept(seconds) | RetryAfter::Added(seconds) => seconds,
        }
    }
}

/// The override's, else the first of the fields, else the fallback where the reply must have one.
fn retry_after_of(decision: &Decision, entry: &CodeEntry, context: &ReplyContext<'_>) -> Option<RetryAfter> {
    if let Some(seconds) = decision.retry_after() {
        return Some(RetryAfter::Added(seconds.max(1)));
    }
    if let Some((_, value)) = context.headers.iter().find(|(name, _)| *name == RETRY_AFTER) {
        return Some(RetryAfter::Kept(retry_after_seconds(value, context.now).unwrap_or(1)));
    }
    let is_overload = decision
        .cause()
        .is_some_and(|cause| cause.is_overload() || matches!(cause, Cause::RateLimited | Cause::Maintenance));
    let needed = matches!(entry.code().status(), 429 | 503) || is_overload;
    needed.then(|| RetryAfter::Added(context.retry_after.max(1)))
}

/// Returns the fields of `context`, then the reply's fields in a fixed order.
fn reply_headers(
    decision: &Decision,
    media_type: HeaderValue,
    context: ReplyContext<'_>,
    retry_after: Option<RetryAfter>,
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
    headers.reserve(COMMON_REPLY_FIELDS);
    headers.push((CONTENT_TYPE, media_type));
    headers.push((CACHE_CONTROL, HeaderValue::from_static("no-store")));
    headers.push((X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")));
    if let Some(id) = context.request_id {
        headers.push((REQUEST_ID, id.clone()));
    }
    if let Some(RetryAfter::Added(seconds)) = retry_after {
        headers.push((RETRY_AFTER, decimal(seconds)));
    }
    if context.format.is_negotiated() {
        headers.push((VARY, HeaderValue::from_static("Accept")));
    }
    headers
}

/// How many fields [`reply_headers`] adds at most.
pub(crate) const COMMON_REPLY_FIELDS: usize = 6;

/// A number as field value, in one allocation; the conversion of the `http` crate needs two.
pub(crate) fn decimal(value: u64) -> HeaderValue {
    HeaderValue::from_bytes(decimal_digits(value, &mut [0; 20]))
        .unwrap_or_else(|_| HeaderValue::from_static("0"))
}

/// The media type of problem documents.
pub(crate) const PROBLEM_MEDIA_TYPE: HeaderValue = HeaderValue::from_static("application/problem+json");
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

#[cfg(test)]
#[path = "reply_tests.rs"]
mod tests;
