//! Judge a response head and, for an error, its bounded body: may it pass, or is it replaced?
//!
//! What conforms and which code answers is decided in [`crate::contract`]; this file holds the body back, decodes it and
//! asks. It writes to no client.

use std::borrow::Cow;
use std::future::poll_fn;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Method};

use super::attempt::UpstreamResponse;
use super::clock::TimeLimit;
use super::context::RequestContext;
use super::message::HeaderFields;
use super::upstream_conn::UpstreamConn;
use super::wait::waited;
use crate::config::ErrorMode;
use crate::contract::conform::{self, Conformance, ErrorBody, ExtractedError};
use crate::contract::decode::{self, ContentCoding, DecodeError};
use crate::contract::{Cause, Contract, Decision, EXCERPT_LIMIT, Evidence, Phase, Trigger};
use crate::snapshot::error_context::ErrorContext;

/// An error's body is read in pieces of this size: most are smaller, and a thousand of them may be held at once.
const ERROR_BUFFER_SIZE: usize = 8 * 1024;

/// What becomes of a response.
#[derive(Debug)]
pub(super) enum Verdict {
    /// It passes as it comes.
    Pass,
    /// An error that nobody replaces passes: what was read of its body, and then the rest.
    PassBuffered(Bytes),
    /// An error in the contract passes, whole.
    PassConforming(ConformingBody),
    /// It is replaced.
    Replace(Replacement),
}

/// The body of a conforming error.
#[derive(Debug)]
pub(super) struct ConformingBody {
    /// As it will be sent; `None` on HEAD.
    pub(super) body: Option<Bytes>,
    /// The content coding was taken off, because the client does not accept it.
    pub(super) decoded: bool,
}

/// Why and by what a response is replaced.
#[derive(Debug)]
pub(super) struct Replacement {
    pub(super) decision: Decision,
    pub(super) extract: ExtractedError,
    /// What the upstream said, for the log: its reason and the beginning of its body.
    pub(super) evidence: Evidence,
}

/// What a response turned out to be.
struct Examination {
    conformance: Conformance,
    extract: ExtractedError,
    /// As a conforming body is sent, if not as it was received.
    conforming_body: Option<ConformingBody>,
    /// The body, readable where it could be decoded.
    readable_body: Bytes,
}

impl Examination {
    fn without_extract(conformance: Conformance, readable_body: &Bytes) -> Examination {
        Examination {
            conformance,
            extract: ExtractedError::default(),
            conforming_body: None,
            readable_body: readable_body.clone(),
        }
    }
}

/// How the held body ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BufferOutcome {
    Complete,
    TooLarge,
    /// The connection ended or the framing broke.
    Incomplete,
    /// The time is up.
    TimedOut,
}

/// Judges the response that has begun.
pub(super) async fn classify(context: &mut RequestContext<'_>, response: &mut UpstreamResponse) -> Verdict {
    let status = response.response_head.facts.status;
    let mode = context.route.config.errors.mode;
    if status < 400 || mode == ErrorMode::Pass {
        return Verdict::Pass;
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
            ..Examination::without_extract(conformance, &Bytes::new())
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
    let left = limit.at.saturating_duration_since(now);
    let holding = buffer_body(&mut response.conn, &mut body, error_config.upstream_body_limit);
    let (held, waited) = waited(now, left, holding).await;
    context.log.waited += waited;
    let outcome = held.unwrap_or(BufferOutcome::TimedOut);
    let body = body.freeze();
    let examination = match outcome {
        _ if !documented && outcome != BufferOutcome::Complete => {
            Examination::without_extract(Conformance::Undocumented, &body)
        }
        BufferOutcome::TooLarge => Examination::without_extract(Conformance::TooLarge, &body),
        BufferOutcome::Incomplete | BufferOutcome::TimedOut => {
            Examination::without_extract(Conformance::Incomplete, &body)
        }
        BufferOutcome::Complete => examine(context, response, documented, &body),
    };
    // A cut response is a fault, and faults are answered in every mode. One that is only large or slow is not: where
    // nothing is replaced, its rest follows.
    if mode == ErrorMode::Observe && outcome == BufferOutcome::Incomplete {
        context.route.upstream_metrics.conformance(examination.conformance);
        return replacement(context, response, decision, examination);
    }
    verdict(context, response, decision, examination, Some(body))
}

/// What the contract says about this status of this upstream.
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

/// Counts what was found and turns it into the verdict. `body`: what was read of it; `None` on HEAD.
fn verdict(
    context: &RequestContext<'_>,
    response: &UpstreamResponse,
    decision: Decision,
    examination: Examination,
    body: Option<Bytes>,
) -> Verdict {
    context.route.upstream_metrics.conformance(examination.conformance);
    // A caller of gRPC reads no bodies: its error is said in fields, whatever the upstream's looks like.
    let may_pass = examination.conformance == Conformance::Conforms
        && decision.allows_upstream_body()
        && !context.request.is_grpc();
    let unchanged = |body: Option<Bytes>| body.map_or(Verdict::Pass, Verdict::PassBuffered);
    match context.route.config.errors.mode {
        ErrorMode::Pass => unchanged(body),
        ErrorMode::Observe => {
            if let (false, Trigger::UpstreamStatus(from)) = (may_pass, decision.trigger()) {
                context.route.metrics.would_replace(from, decision.code().status());
            }
            unchanged(body)
        }
        ErrorMode::Enforce if may_pass => Verdict::PassConforming(
            examination.conforming_body.unwrap_or(ConformingBody { body, decoded: false }),
        ),
        ErrorMode::Enforce => replacement(context, response, decision, examination),
    }
}

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
    Verdict::Replace(Replacement { decision, extract: examination.extract, evidence })
}

/// Reads the body until its end, the limit or the first fault.
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

/// Holds a whole body against the contract.
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
        return Examination::without_extract(conformance, body);
    };
    let decoded: Cow<'_, [u8]> = match coding {
        ContentCoding::Identity => Cow::Borrowed(body),
        ContentCoding::Gzip | ContentCoding::Deflate | ContentCoding::Br | ContentCoding::Zstd => {
            match decode::decode(coding, body, error_config.upstream_body_limit) {
                Ok(decoded) => Cow::Owned(decoded),
                Err(DecodeError::TooLarge) => {
                    return Examination::without_extract(Conformance::TooLarge, body);
                }
                Err(DecodeError::Malformed) => {
                    return Examination::without_extract(Conformance::NotJson, body);
                }
            }
        }
    };
    let conformance = if documented {
        let error = ErrorBody {
            status: response.response_head.facts.status,
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
            ..Examination::without_extract(conformance, body)
        };
    }
    let extract = extract(contract, &decoded);
    let readable_body = match decoded {
        Cow::Borrowed(_) => body.clone(),
        Cow::Owned(decoded) => Bytes::from(decoded),
    };
    Examination { conformance, extract, conforming_body: None, readable_body }
}

fn extract(contract: &Contract, body: &[u8]) -> ExtractedError {
    // Most replaced bodies are pages: a look at the first byte spares the parser.
    let starts_json =
        body.iter().find(|octet| !octet.is_ascii_whitespace()).is_some_and(|octet| *octet == b'{');
    if starts_json { conform::extract(contract, body) } else { ExtractedError::default() }
}

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

/// The one Content-Type. Of several, clients read one or another: that is no type at all.
fn media_type(fields: &HeaderFields) -> Option<&[u8]> {
    let mut types = fields.values("content-type");
    let first = types.next()?;
    Some(if types.next().is_none() { first } else { b"" })
}
