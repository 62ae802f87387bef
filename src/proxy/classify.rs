//! Classifies an upstream response: forward it, or replace it.
//!
//! Error bodies are buffered within `errors.upstream_body.limit` and decoded. [`crate::contract`] decides whether they
//! conform and which code replaces them. Nothing is sent to the client here.

use std::borrow::Cow;
use std::future::poll_fn;
use std::time::{Instant, SystemTime};

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Method};

use super::context::{Exchange, Forwarding, RequestContext};
use super::deadlines::TimeLimit;
use super::message::HeaderFields;
use super::upstream_conn::{UpstreamConn, UpstreamResponse, UpstreamResponseHead};
use super::wait::measured_timeout;
use crate::config::ErrorMode;
use crate::contract::conform::{self, Conformance, ConformingError, ErrorBody};
use crate::contract::decode::{self, ContentCoding, DecodeError};
use crate::contract::extract::{self, ExtractedError};
use crate::contract::forwarded::{self, ForwardedFacts};
use crate::contract::template::conform::is_request_id;
use crate::contract::{
    BodyFormat, Cause, Decision, EXCERPT_LIMIT, Evidence, Phase, RequestSent, Trigger, header_filter,
    retryable,
};

/// Read size for error bodies. Most are smaller, and many may be buffered at once.
const ERROR_BUFFER_SIZE: usize = 8 * 1024;

/// What is done with a response.
#[derive(Debug)]
pub(super) enum Classification {
    /// Forward the response; these bytes of its body were already read.
    Forward(Bytes),
    /// Forward an error that conforms to the contract. Its body is complete.
    ForwardConforming(ConformingBody),
    /// Replace the response with a local reply.
    Replace(Replacement),
}

/// The body of a conforming error.
#[derive(Debug)]
pub(super) struct ConformingBody {
    /// The body to send; `None` for a HEAD request.
    pub(super) body: Option<Bytes>,
    /// How it differs from the one received.
    pub(super) change: BodyChange,
}

/// What was changed in a conforming body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyChange {
    Unchanged,
    /// The content coding was removed, because the client does not accept it.
    Decoded,
    /// The gateway added members that only it can provide, such as the request ID.
    Completed,
    /// The client prefers problem documents.
    Problem,
    /// A response to HEAD, whose body for GET would have been changed.
    UnknownLength,
}

/// Why a response is replaced, and with what.
#[derive(Debug)]
pub(super) struct Replacement {
    pub(super) decision: Decision,
    pub(super) extracted: ExtractedError,
    /// For the access log: the upstream's reason phrase and the beginning of its body.
    pub(super) evidence: Evidence,
}

/// An error body that was checked against the contract. It may have been read in part, or not at all.
struct CheckedBody {
    conformance: Conformance,
    extracted: ExtractedError,
    /// The body to send if the response conforms; `None` means as received.
    conforming_body: Option<ConformingBody>,
    /// The body for the evidence in the access log, decoded if it had to be.
    evidence_body: Bytes,
}

impl CheckedBody {
    /// A body from which nothing is extracted for a replacement.
    fn without_extract(conformance: Conformance, evidence_body: &Bytes) -> CheckedBody {
        CheckedBody {
            conformance,
            extracted: ExtractedError::default(),
            conforming_body: None,
            evidence_body: evidence_body.clone(),
        }
    }
}

/// The result of buffering an error body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Buffering {
    Complete,
    TooLarge,
    /// The connection closed early, or the framing is invalid.
    Incomplete,
    /// `errors.upstream_body.timeout` or a request deadline expired.
    TimedOut,
}

/// Classifies a response whose headers have been received.
pub(super) async fn classify(
    exchange: &mut Exchange<'_>,
    forwarding: &Forwarding<'_>,
    response: &mut UpstreamResponse,
) -> Classification {
    let status = response.response_head.parsed.status;
    let mode = forwarding.route.config.errors.mode;
    if status < 400 || mode == ErrorMode::Pass {
        return Classification::Forward(Bytes::new());
    }
    let context = forwarding.context;
    let decision = context.error_context().decide(Trigger::UpstreamStatus(status));
    let documented = context.contract().code(status).is_some();
    if forwarding.request.method == Method::HEAD {
        let checked = check_head_response(forwarding, documented, &response.response_head);
        return count_and_conclude(forwarding, response, decision, checked, None);
    }
    let mut body = BytesMut::new();
    let buffering = buffer_body(exchange, forwarding, &mut response.conn, &mut body).await;
    let body = body.freeze();
    let checked = match buffering {
        _ if !documented && buffering != Buffering::Complete => {
            CheckedBody::without_extract(Conformance::Undocumented, &body)
        }
        Buffering::TooLarge => CheckedBody::without_extract(Conformance::TooLarge, &body),
        Buffering::Incomplete | Buffering::TimedOut => {
            CheckedBody::without_extract(Conformance::Incomplete, &body)
        }
        Buffering::Complete => check_body(forwarding, response, &decision, &body),
    };
    // A truncated response is replaced in `observe` mode too, because it cannot be forwarded. A large or slow one can:
    // the relay reads the rest of its body.
    if mode == ErrorMode::Observe && buffering == Buffering::Incomplete {
        forwarding.route.upstream_metrics.conformance(checked.conformance);
        return replacement(forwarding, response, decision, checked);
    }
    count_and_conclude(forwarding, response, decision, checked, Some(body))
}

/// Checks the response to a HEAD request, which has no body.
fn check_head_response(
    forwarding: &Forwarding<'_>,
    documented: bool,
    response_head: &UpstreamResponseHead,
) -> CheckedBody {
    let context = forwarding.context;
    let contract = context.contract();
    let status = response_head.parsed.status;
    let messages = context.error_config().upstream_messages;
    let conformance = if !documented {
        Conformance::Undocumented
    } else if conform::head_response_conforms(contract, status, media_type(&response_head.fields), messages) {
        Conformance::Conforms
    } else {
        Conformance::WrongShape
    };
    let change = if context.body_format() == BodyFormat::NegotiatedProblem {
        BodyChange::Problem
    } else if contract.template().completes()
        || !content_coding(&response_head.fields).is_some_and(|coding| accepts(forwarding, coding))
    {
        BodyChange::UnknownLength
    } else {
        BodyChange::Unchanged
    };
    CheckedBody {
        conforming_body: Some(ConformingBody { body: None, change }),
        ..CheckedBody::without_extract(conformance, &Bytes::new())
    }
}

/// Counts the conformance and concludes what is done with the response. `body` is what was read of the body; `None` for a
/// HEAD request.
fn count_and_conclude(
    forwarding: &Forwarding<'_>,
    response: &UpstreamResponse,
    decision: Decision,
    checked: CheckedBody,
    body: Option<Bytes>,
) -> Classification {
    forwarding.route.upstream_metrics.conformance(checked.conformance);
    let may_forward =
        checked.conformance == Conformance::Conforms && may_forward_conforming(forwarding, &decision);
    let unchanged = |body: Option<Bytes>| Classification::Forward(body.unwrap_or_default());
    match forwarding.route.config.errors.mode {
        ErrorMode::Pass => unchanged(body),
        ErrorMode::Observe => {
            if let (false, Trigger::UpstreamStatus(from)) = (may_forward, decision.trigger()) {
                forwarding.route.metrics.would_replace(from, decision.code().status());
            }
            unchanged(body)
        }
        ErrorMode::Enforce if may_forward => Classification::ForwardConforming(
            checked.conforming_body.unwrap_or(ConformingBody { body, change: BodyChange::Unchanged }),
        ),
        ErrorMode::Enforce => replacement(forwarding, response, decision, checked),
    }
}

/// Whether an error is forwarded if it conforms. gRPC clients read an error from the gRPC status, not from the body.
fn may_forward_conforming(forwarding: &Forwarding<'_>, decision: &Decision) -> bool {
    decision.allows_upstream_body() && !forwarding.request.is_grpc()
}

/// The classification of a response that is replaced, with evidence if the access log records errors.
fn replacement(
    forwarding: &Forwarding<'_>,
    response: &UpstreamResponse,
    decision: Decision,
    checked: CheckedBody,
) -> Classification {
    let evidence = if forwarding.context.snapshot.access.is_enabled(true) {
        upstream_evidence(&response.response_head.reason, &checked.evidence_body)
    } else {
        Evidence::none()
    };
    Classification::Replace(Replacement { decision, extracted: checked.extracted, evidence })
}

/// The reason phrase and the body: both are the upstream's, so `log.evidence` limits both.
fn upstream_evidence(reason: &[u8], body: &[u8]) -> Evidence {
    let separator: &[u8] = if reason.is_empty() || body.is_empty() { b"" } else { b": " };
    let body = body.get(..=EXCERPT_LIMIT).unwrap_or(body);
    Evidence::with_excerpt("", &[reason, separator, body].concat())
}

/// Buffers the body within `errors.upstream_body` and the deadlines of the request.
async fn buffer_body(
    exchange: &mut Exchange<'_>,
    forwarding: &Forwarding<'_>,
    conn: &mut UpstreamConn,
    body: &mut BytesMut,
) -> Buffering {
    let error_config = &forwarding.route.config.errors;
    let now = Instant::now();
    let at = now + error_config.upstream_body_timeout;
    let limit = TimeLimit::new(at, Cause::ConnectionReadTimeout, Phase::ResponseBody);
    let limit = forwarding.with_deadlines(limit, Phase::ResponseBody);
    let time_left = limit.at.saturating_duration_since(now);
    let reading = read_body(conn, body, error_config.upstream_body_limit);
    let (buffering, waited) = measured_timeout(now, time_left, reading).await;
    exchange.client.add_wait(waited);
    buffering.unwrap_or(Buffering::TimedOut)
}

/// Reads the body until its end, until it exceeds `limit`, or until reading fails.
async fn read_body(conn: &mut UpstreamConn, body: &mut BytesMut, limit: usize) -> Buffering {
    loop {
        match poll_fn(|cx| conn.poll_body(cx, ERROR_BUFFER_SIZE)).await {
            Ok(Some(length)) => {
                body.extend_from_slice(conn.body_bytes(length));
                conn.consume(length);
                if body.len() > limit {
                    return Buffering::TooLarge;
                }
            }
            Ok(None) => return Buffering::Complete,
            Err(_) => return Buffering::Incomplete,
        }
    }
}

/// Decodes a complete body and checks it against the contract.
fn check_body(
    forwarding: &Forwarding<'_>,
    response: &UpstreamResponse,
    decision: &Decision,
    body: &Bytes,
) -> CheckedBody {
    let contract = forwarding.context.contract();
    let status = response.response_head.parsed.status;
    let documented = contract.code(status).is_some();
    let error_config = &forwarding.route.config.errors;
    let Some(coding) = content_coding(&response.response_head.fields) else {
        let conformance = if documented { Conformance::NotJson } else { Conformance::Undocumented };
        return CheckedBody::without_extract(conformance, body);
    };
    let decoded = match decoded(coding, body, error_config.upstream_body_limit) {
        Ok(decoded) => decoded,
        Err(conformance) => return CheckedBody::without_extract(conformance, body),
    };
    let media_type = media_type(&response.response_head.fields);
    let error = ErrorBody { status, media_type, body: &decoded };
    let conformance = match conform::check_body(contract, &error, error_config.upstream_messages) {
        Ok(conforming) if may_forward_conforming(forwarding, decision) => {
            let conforming_body = conforming_body(forwarding, response, (coding, body), &conforming);
            return CheckedBody {
                conforming_body: Some(conforming_body),
                ..CheckedBody::without_extract(Conformance::Conforms, body)
            };
        }
        // Replaced all the same: what may be sent of it is extracted.
        Ok(_) => Conformance::Conforms,
        Err(conformance) => conformance,
    };
    let extracted = extract_error(forwarding.context, &error, decision);
    let evidence_body = match decoded {
        Cow::Borrowed(_) => body.clone(),
        Cow::Owned(decoded) => Bytes::from(decoded),
    };
    CheckedBody { conformance, extracted, conforming_body: None, evidence_body }
}

/// The body without its content coding; the conformance of one that cannot be decoded.
fn decoded(coding: ContentCoding, body: &Bytes, limit: usize) -> Result<Cow<'_, [u8]>, Conformance> {
    match coding {
        ContentCoding::Identity => Ok(Cow::Borrowed(body)),
        ContentCoding::Gzip | ContentCoding::Deflate | ContentCoding::Br | ContentCoding::Zstd => {
            decode::decode(coding, body, limit).map(Cow::Owned).map_err(|error| match error {
                DecodeError::TooLarge => Conformance::TooLarge,
                DecodeError::Malformed => Conformance::NotJson,
            })
        }
    }
}

/// The body that the client receives of a conforming error. `body` is what was received, in this coding.
fn conforming_body(
    forwarding: &Forwarding<'_>,
    response: &UpstreamResponse,
    (coding, body): (ContentCoding, &Bytes),
    conforming: &ConformingError<'_>,
) -> ConformingBody {
    let context = forwarding.context;
    let contract = context.contract();
    let status = response.response_head.parsed.status;
    let is_problem = context.body_format() == BodyFormat::NegotiatedProblem;
    if let (Some(code), true) = (contract.code(status), is_problem || contract.template().completes()) {
        let default = context.error_config().retry_after;
        let facts = ForwardedFacts {
            request_id: request_id_of(&response.response_head).or_else(|| context.request_id.to_str().ok()),
            retryable: retryable(status, RequestSent::Full, &forwarding.request.method),
            retry_after: retry_after_of(&response.response_head.fields, status, default, SystemTime::now()),
        };
        if is_problem {
            let body = forwarded::problem_document(contract, code, conforming, facts);
            return ConformingBody { body: Some(body), change: BodyChange::Problem };
        }
        if let Some(body) = forwarded::complete(contract, code, conforming, facts) {
            return ConformingBody { body: Some(body), change: BodyChange::Completed };
        }
    }
    if coding == ContentCoding::Identity || accepts(forwarding, coding) {
        return ConformingBody { body: Some(body.clone()), change: BodyChange::Unchanged };
    }
    let decoded = Bytes::copy_from_slice(conforming.text.as_bytes());
    ConformingBody { body: Some(decoded), change: BodyChange::Decoded }
}

/// The `X-Request-Id` of the upstream, which stays on a conforming error.
fn request_id_of(response_head: &UpstreamResponseHead) -> Option<&str> {
    let name = "x-request-id";
    let value = response_head.fields.values(name).next()?;
    let removed = response_head.connection_options().removes_name(name.as_bytes());
    std::str::from_utf8(value).ok().filter(|id| !removed && is_request_id(id))
}

/// The seconds of the `Retry-After` that the client receives with a conforming error.
fn retry_after_of(fields: &HeaderFields, status: u16, default: u64, now: SystemTime) -> Option<u64> {
    let first = fields.values("retry-after").next().and_then(|value| HeaderValue::from_bytes(value).ok());
    let seconds = first.and_then(|value| header_filter::retry_after_seconds(&value, now));
    seconds.or_else(|| matches!(status, 429 | 503).then(|| default.max(1)))
}

/// What may be sent of a body that is replaced.
fn extract_error(context: &RequestContext<'_>, error: &ErrorBody<'_>, decision: &Decision) -> ExtractedError {
    let error_context = context.error_context();
    let extraction = error_context.extraction(error.status, decision);
    // Most replaced bodies are HTML pages: checking the first byte avoids parsing them.
    let text = error.body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(error.body);
    let starts_json =
        text.iter().find(|octet| !octet.is_ascii_whitespace()).is_some_and(|octet| *octet == b'{');
    let may_be_used = extraction.message || extraction.details || error_context.contract.types().is_some();
    if starts_json && may_be_used {
        let extracted = extract::extract_with(error_context.contract, error.body, &extraction);
        if extracted.details_dropped > 0 {
            context.gateway.metrics.details_dropped(extracted.details_dropped);
        }
        return extracted;
    }
    let is_text = error.media_type.is_some_and(|value| {
        let essence = value.split(|octet| *octet == b';').next().unwrap_or_default();
        essence.trim_ascii().eq_ignore_ascii_case(b"text/plain")
    });
    let message = (is_text && extraction.message).then(|| extract::plain_text_message(error.body)).flatten();
    ExtractedError { message, ..ExtractedError::default() }
}

/// The coding of a body; `None` if it cannot be decoded.
fn content_coding(fields: &HeaderFields) -> Option<ContentCoding> {
    let values = fields.values("content-encoding");
    let codings: Vec<_> = values.filter_map(|value| HeaderValue::from_bytes(value).ok()).collect();
    ContentCoding::parse(&codings)
}

/// Whether the client accepts this content coding.
fn accepts(forwarding: &Forwarding<'_>, coding: ContentCoding) -> bool {
    let name = match coding {
        ContentCoding::Identity => return true,
        ContentCoding::Gzip => "gzip",
        ContentCoding::Deflate => "deflate",
        ContentCoding::Br => "br",
        ContentCoding::Zstd => "zstd",
    };
    crate::http::accept_encoding::accepts_coding(forwarding.request.fields.values("accept-encoding"), name)
}

/// The Content-Type. An empty value if there are several, because clients differ in which one they use.
fn media_type(fields: &HeaderFields) -> Option<&[u8]> {
    let mut types = fields.values("content-type");
    let first = types.next()?;
    Some(if types.next().is_none() { first } else { b"" })
}
