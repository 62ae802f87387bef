//! Classifies an upstream response: forward it, or replace it.
//!
//! Error bodies are buffered within `errors.upstream_body.limit` and decoded. [`crate::contract`] decides whether they
//! conform and which code replaces them. Nothing is sent to the client here.

use std::borrow::Cow;
use std::future::poll_fn;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Method};

use super::clock::TimeLimit;
use super::context::RequestContext;
use super::message::HeaderFields;
use super::upstream_conn::{UpstreamConn, UpstreamResponse};
use super::wait::measured_timeout;
use crate::config::ErrorMode;
use crate::contract::conform::{self, Conformance, ErrorBody};
use crate::contract::decode::{self, ContentCoding, DecodeError};
use crate::contract::extract::{self, ExtractedError};
use crate::contract::{Cause, Contract, Decision, EXCERPT_LIMIT, Evidence, Phase, Trigger};
use crate::snapshot::error_context::ErrorContext;

/// Read size for error bodies. Most are smaller, and many may be buffered at once.
const ERROR_BUFFER_SIZE: usize = 8 * 1024;

/// What is done with a response.
#[derive(Debug)]
pub(super) enum Verdict {
    /// Forward the response; its body has not been read.
    Forward,
    /// Forward an error that is not replaced: these bytes of its body were already read.
    ForwardBuffered(Bytes),
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
    /// The content coding was removed, because the client does not accept it.
    pub(super) decoded: bool,
}

/// Why a response is replaced, and with what.
#[derive(Debug)]
pub(super) struct Replacement {
    pub(super) decision: Decision,
    pub(super) extracted: ExtractedError,
    /// For the access log: the upstream's reason phrase and the beginning of its body.
    pub(super) evidence: Evidence,
}

/// The result of checking an error response against the contract.
struct Examination {
    conformance: Conformance,
    extracted: ExtractedError,
    /// The body to send if the response conforms; `None` means as received.
    conforming_body: Option<ConformingBody>,
    /// The body for the evidence, decoded if possible.
    readable_body: Bytes,
}

impl Examination {
    fn without_extracted_error(conformance: Conformance, readable_body: &Bytes) -> Examination {
        Examination {
            conformance,
            extracted: ExtractedError::default(),
            conforming_body: None,
            readable_body: readable_body.clone(),
        }
    }
}

/// The result of buffering an error body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BufferOutcome {
    Complete,
    TooLarge,
    /// The connection closed early, or the framing is invalid.
    Incomplete,
    /// `errors.upstream_body.timeout` or a request deadline expired.
    TimedOut,
}

/// Classifies a response whose headers have been received.
pub(super) async fn classify(context: &mut RequestContext<'_>, response: &mut UpstreamResponse) -> Verdict {
    let status = response.response_head.parsed.status;
    let mode = context.route.config.errors.mode;
    if status < 400 || mode == ErrorMode::Pass {
        return Verdict::Forward;
    }
    let decision = decide(context, status);
    let documented = context.snapshot.contract.code(status).is_some();
    if context.request.method == Method::HEAD {
        let head_conforms =
            documented && conform::head_response_conforms(media_type(&response.response_head.fields));
        let conformance = match (documented, head_conforms) {
            (false, _) => Conformance::Undocumented,
            (true, true) => Conformance::Conforms,
            (true, false) => Conformance::WrongShape,
        };
        let examination = Examination {
            conforming_body: Some(ConformingBody { body: None, decoded: false }),
            ..Examination::without_extracted_error(conformance, &Bytes::new())
        };
        return verdict(context, response, decision, examination, None);
    }
    let error_config = &context.route.config.errors;
    let now = Instant::now();
    let at = now + error_config.upstream_body_timeout;
    let limit = context.with_deadlines(
        TimeLimit::new(at, Cause::ConnectionReadTimeout, Phase::ResponseBody),
        Phase::ResponseBody,
    );
    let mut body = BytesMut::new();
    let time_left = limit.at.saturating_duration_since(now);
    let buffering = buffer_body(&mut response.conn, &mut body, error_config.upstream_body_limit);
    let (buffered, waited) = measured_timeout(now, time_left, buffering).await;
    context.log.waited += waited;
    let outcome = buffered.unwrap_or(BufferOutcome::TimedOut);
    let body = body.freeze();
    let examination = match outcome {
        _ if !documented && outcome != BufferOutcome::Complete => {
            Examination::without_extracted_error(Conformance::Undocumented, &body)
        }
        BufferOutcome::TooLarge => Examination::without_extracted_error(Conformance::TooLarge, &body),
        BufferOutcome::Incomplete | BufferOutcome::TimedOut => {
            Examination::without_extracted_error(Conformance::Incomplete, &body)
        }
        BufferOutcome::Complete => examine(context, response, documented, &body),
    };
    // A truncated response is replaced in `observe` mode too, because it cannot be forwarded. A large or slow one can:
    // the relay reads the rest of its body.
    if mode == ErrorMode::Observe && outcome == BufferOutcome::Incomplete {
        context.route.upstream_metrics.conformance(examination.conformance);
        return replacement(context, response, decision, examination);
    }
    verdict(context, response, decision, examination, Some(body))
}

/// The decision of the error policy on this upstream status.
fn decide(context: &RequestContext<'_>, status: u16) -> Decision {
    let error_context = ErrorContext {
        contract: &context.snapshot.contract,
        overrides: &context.snapshot.overrides,
        error_config: &context.route.config.errors,
        upstream: Some(context.route.upstream.name()),
        method: &context.request.method,
        grpc: context.request.is_grpc(),
    };
    error_context.decide(Trigger::UpstreamStatus(status))
}

/// Counts the conformance and returns the verdict. `body` is what was read of the body; `None` for a HEAD request.
fn verdict(
    context: &RequestContext<'_>,
    response: &UpstreamResponse,
    decision: Decision,
    examination: Examination,
    body: Option<Bytes>,
) -> Verdict {
    context.route.upstream_metrics.conformance(examination.conformance);
    // gRPC clients read the error from the gRPC status, not from the body.
    let may_forward = examination.conformance == Conformance::Conforms
        && decision.allows_upstream_body()
        && !context.request.is_grpc();
    let unchanged = |body: Option<Bytes>| body.map_or(Verdict::Forward, Verdict::ForwardBuffered);
    match context.route.config.errors.mode {
        ErrorMode::Pass => unchanged(body),
        ErrorMode::Observe => {
            if let (false, Trigger::UpstreamStatus(from)) = (may_forward, decision.trigger()) {
                context.route.metrics.would_replace(from, decision.code().status());
            }
            unchanged(body)
        }
        ErrorMode::Enforce if may_forward => Verdict::ForwardConforming(
            examination.conforming_body.unwrap_or(ConformingBody { body, decoded: false }),
        ),
        ErrorMode::Enforce => replacement(context, response, decision, examination),
    }
}

/// The verdict that replaces the response, with evidence if the access log records errors.
fn replacement(
    context: &RequestContext<'_>,
    response: &UpstreamResponse,
    decision: Decision,
    examination: Examination,
) -> Verdict {
    let evidence = if context.snapshot.access.is_enabled(true) {
        let reason =
            response.response_head.reason.get(..EXCERPT_LIMIT).unwrap_or(&response.response_head.reason);
        Evidence::with_excerpt(&String::from_utf8_lossy(reason), &examination.readable_body)
    } else {
        Evidence::none()
    };
    Verdict::Replace(Replacement { decision, extracted: examination.extracted, evidence })
}

/// Reads the body until its end, until it exceeds `limit`, or until reading fails.
async fn buffer_body(conn: &mut UpstreamConn, body: &mut BytesMut, limit: usize) -> BufferOutcome {
    loop {
        match poll_fn(|cx| conn.poll_body(cx, ERROR_BUFFER_SIZE)).await {
            Ok(Some(length)) => {
                body.extend_from_slice(conn.body_bytes(length));
                conn.consume(length);
                if body.len() > limit {
                    return BufferOutcome::TooLarge;
                }
            }
            Ok(None) => return BufferOutcome::Complete,
            Err(_) => return BufferOutcome::Incomplete,
        }
    }
}

/// Decodes a complete body and checks it against the contract.
fn examine(
    context: &RequestContext<'_>,
    response: &UpstreamResponse,
    documented: bool,
    body: &Bytes,
) -> Examination {
    let contract = &context.snapshot.contract;
    let error_config = &context.route.config.errors;
    let codings: Vec<HeaderValue> = response
        .response_head
        .fields
        .values("content-encoding")
        .filter_map(|value| HeaderValue::from_bytes(value).ok())
        .collect();
    let Some(coding) = ContentCoding::parse(&codings) else {
        let conformance = if documented { Conformance::NotJson } else { Conformance::Undocumented };
        return Examination::without_extracted_error(conformance, body);
    };
    let decoded: Cow<'_, [u8]> = match coding {
        ContentCoding::Identity => Cow::Borrowed(body),
        ContentCoding::Gzip | ContentCoding::Deflate | ContentCoding::Br | ContentCoding::Zstd => {
            match decode::decode(coding, body, error_config.upstream_body_limit) {
                Ok(decoded) => Cow::Owned(decoded),
                Err(DecodeError::TooLarge) => {
                    return Examination::without_extracted_error(Conformance::TooLarge, body);
                }
                Err(DecodeError::Malformed) => {
                    return Examination::without_extracted_error(Conformance::NotJson, body);
                }
            }
        }
    };
    let conformance = if documented {
        let error = ErrorBody {
            status: response.response_head.parsed.status,
            media_type: media_type(&response.response_head.fields),
            body: &decoded,
        };
        conform::check_conformance(contract, &error, error_config.upstream_messages)
    } else {
        Conformance::Undocumented
    };
    if conformance == Conformance::Conforms && !context.request.is_grpc() {
        let client_accepts = coding == ContentCoding::Identity || accepts(context, coding);
        let conforming_body = if client_accepts { body.clone() } else { Bytes::from(decoded.into_owned()) };
        let conforming_body = ConformingBody { body: Some(conforming_body), decoded: !client_accepts };
        return Examination {
            conforming_body: Some(conforming_body),
            ..Examination::without_extracted_error(conformance, body)
        };
    }
    let extracted = extract_error(contract, &decoded);
    let readable_body = match decoded {
        Cow::Borrowed(_) => body.clone(),
        Cow::Owned(decoded) => Bytes::from(decoded),
    };
    Examination { conformance, extracted, conforming_body: None, readable_body }
}

/// The error message and type in a body that is replaced.
fn extract_error(contract: &Contract, body: &[u8]) -> ExtractedError {
    // Most replaced bodies are HTML pages: checking the first byte avoids parsing them.
    let starts_json =
        body.iter().find(|octet| !octet.is_ascii_whitespace()).is_some_and(|octet| *octet == b'{');
    if starts_json { extract::extract(contract, body) } else { ExtractedError::default() }
}

/// Whether the client accepts this content coding.
fn accepts(context: &RequestContext<'_>, coding: ContentCoding) -> bool {
    let name = match coding {
        ContentCoding::Identity => return true,
        ContentCoding::Gzip => "gzip",
        ContentCoding::Deflate => "deflate",
        ContentCoding::Br => "br",
        ContentCoding::Zstd => "zstd",
    };
    crate::http::accept_encoding::accepts_coding(context.request.fields.values("accept-encoding"), name)
}

/// The Content-Type. An empty value if there are several, because clients differ in which one they use.
fn media_type(fields: &HeaderFields) -> Option<&[u8]> {
    let mut types = fields.values("content-type");
    let first = types.next()?;
    Some(if types.next().is_none() { first } else { b"" })
}
