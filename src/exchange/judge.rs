//! Judge a response head and, for an error, its bounded body: may it pass, or is it replaced?
//!
//! What conforms and which code answers is decided in [`crate::contract`]; this file holds the body back, decodes it and
//! asks. It writes to no client.

use std::borrow::Cow;
use std::future::poll_fn;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Method};

use super::attempt::Answered;
use super::clock::Limit;
use super::flow::Flow;
use super::head::Fields;
use super::peer::Peer;
use super::wait::waited;
use crate::config::ErrorMode;
use crate::contract::conform::{self, Conformance, ErrorBody, ExtractedError};
use crate::contract::decode::{self, ContentCoding, DecodeError};
use crate::contract::{Cause, Contract, Decision, EXCERPT_LIMIT, Evidence, Phase, Trigger};
use crate::snapshot::grounds::ErrorContext;

/// An error's body is read in pieces of this size: most are smaller, and a thousand of them may be held at once.
const ERROR_ROOM: usize = 8 * 1024;

/// What becomes of a response.
#[derive(Debug)]
pub(super) enum Verdict {
    /// It passes as it comes.
    Pass,
    /// An error that nobody replaces passes: what was read of its body, and then the rest.
    PassBegun(Bytes),
    /// An error in the contract passes, whole.
    PassError(ErrorBytes),
    /// It is replaced.
    Replace(Replacement),
}

/// The body of a conforming error.
#[derive(Debug)]
pub(super) struct ErrorBytes {
    /// As it will be sent; `None` on HEAD.
    pub(super) body: Option<Bytes>,
    /// The content coding was taken off, because the client does not accept it.
    pub(super) decoded: bool,
}

/// Why and by what a response is replaced.
#[derive(Debug)]
pub(super) struct Replacement {
    pub(super) ruling: Decision,
    pub(super) extract: ExtractedError,
    /// What the upstream said, for the log: its reason and the beginning of its body.
    pub(super) said: Evidence,
}

/// What a response turned out to be.
struct Found {
    conformance: Conformance,
    extract: ExtractedError,
    /// As a conforming body is sent, if not as it was received.
    sent: Option<ErrorBytes>,
    /// The body, readable where it could be decoded.
    said: Bytes,
}

impl Found {
    fn bare(conformance: Conformance, said: &Bytes) -> Found {
        Found { conformance, extract: ExtractedError::default(), sent: None, said: said.clone() }
    }
}

/// How the held body ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Held {
    Whole,
    TooLarge,
    /// The connection ended or the framing broke.
    Cut,
    /// The time is up.
    Stalled,
}

/// Judges the response that has begun.
pub(super) async fn judge(flow: &mut Flow<'_>, answered: &mut Answered) -> Verdict {
    let status = answered.head.facts.status;
    let mode = flow.route.config.errors.mode;
    if status < 400 || mode == ErrorMode::Pass {
        return Verdict::Pass;
    }
    let ruling = rule(flow, status);
    let documented = flow.snapshot.contract.code(status).is_some();
    if flow.request.method == Method::HEAD {
        let good = documented && conform::head_response_conforms(media_type(&answered.head.fields));
        let conformance = match (documented, good) {
            (false, _) => Conformance::Undocumented,
            (true, true) => Conformance::Conforms,
            (true, false) => Conformance::WrongShape,
        };
        let found = Found {
            sent: Some(ErrorBytes { body: None, decoded: false }),
            ..Found::bare(conformance, &Bytes::new())
        };
        return conclude(flow, answered, ruling, found, None);
    }
    let rules = &flow.route.config.errors;
    let now = Instant::now();
    let at = now + rules.upstream_body_timeout;
    let limit =
        flow.limit(Limit::new(at, Cause::ConnectionReadTimeout, Phase::ResponseBody), Phase::ResponseBody);
    let mut body = BytesMut::new();
    let left = limit.at.saturating_duration_since(now);
    let holding = hold(&mut answered.peer, &mut body, rules.upstream_body_limit);
    let (held, waited) = waited(now, left, holding).await;
    flow.story.waited += waited;
    let held = held.unwrap_or(Held::Stalled);
    let body = body.freeze();
    let found = match held {
        _ if !documented && held != Held::Whole => Found::bare(Conformance::Undocumented, &body),
        Held::TooLarge => Found::bare(Conformance::TooLarge, &body),
        Held::Cut | Held::Stalled => Found::bare(Conformance::Incomplete, &body),
        Held::Whole => examine(flow, answered, documented, &body),
    };
    // A cut response is a fault, and faults are answered in every mode. One that is only large or slow is not: where
    // nothing is replaced, its rest follows.
    if mode == ErrorMode::Observe && held == Held::Cut {
        flow.route.upstream_metrics.conformance(found.conformance);
        return replace(flow, answered, ruling, found);
    }
    conclude(flow, answered, ruling, found, Some(body))
}

/// What the contract says about this status of this upstream.
fn rule(flow: &Flow<'_>, status: u16) -> Decision {
    let grounds = ErrorContext {
        contract: &flow.snapshot.contract,
        overrides: &flow.snapshot.overrides,
        error_config: &flow.route.config.errors,
        upstream: Some(flow.route.upstream.name()),
        method: &flow.request.method,
        grpc: flow.request.is_grpc(),
    };
    grounds.decide(Trigger::UpstreamStatus(status))
}

/// Counts what was found and turns it into the verdict. `body`: what was read of it; `None` on HEAD.
fn conclude(
    flow: &Flow<'_>,
    answered: &Answered,
    ruling: Decision,
    found: Found,
    body: Option<Bytes>,
) -> Verdict {
    flow.route.upstream_metrics.conformance(found.conformance);
    // A caller of gRPC reads no bodies: its error is said in fields, whatever the upstream's looks like.
    let passes = found.conformance == Conformance::Conforms
        && ruling.allows_upstream_body()
        && !flow.request.is_grpc();
    let as_it_is = |body: Option<Bytes>| body.map_or(Verdict::Pass, Verdict::PassBegun);
    match flow.route.config.errors.mode {
        ErrorMode::Pass => as_it_is(body),
        ErrorMode::Observe => {
            if let (false, Trigger::UpstreamStatus(from)) = (passes, ruling.trigger()) {
                flow.route.metrics.would_replace(from, ruling.code().status());
            }
            as_it_is(body)
        }
        ErrorMode::Enforce if passes => {
            Verdict::PassError(found.sent.unwrap_or(ErrorBytes { body, decoded: false }))
        }
        ErrorMode::Enforce => replace(flow, answered, ruling, found),
    }
}

fn replace(flow: &Flow<'_>, answered: &Answered, ruling: Decision, found: Found) -> Verdict {
    let said = if flow.snapshot.access.is_enabled(true) {
        let reason = answered.head.reason.get(..EXCERPT_LIMIT).unwrap_or(&answered.head.reason);
        Evidence::with_excerpt(&String::from_utf8_lossy(reason), &found.said)
    } else {
        Evidence::none()
    };
    Verdict::Replace(Replacement { ruling, extract: found.extract, said })
}

/// Reads the body until its end, the limit or the first fault.
async fn hold(peer: &mut Peer, body: &mut BytesMut, most: usize) -> Held {
    loop {
        match poll_fn(|cx| peer.poll_body(cx, ERROR_ROOM)).await {
            Ok(Some(length)) => {
                body.extend_from_slice(peer.body_bytes(length));
                peer.take(length);
                if body.len() > most {
                    return Held::TooLarge;
                }
            }
            Ok(None) => return Held::Whole,
            Err(_) => return Held::Cut,
        }
    }
}

/// Holds a whole body against the contract.
fn examine(flow: &Flow<'_>, answered: &Answered, documented: bool, body: &Bytes) -> Found {
    let contract = &flow.snapshot.contract;
    let rules = &flow.route.config.errors;
    let codings: Vec<HeaderValue> = answered
        .head
        .fields
        .values("content-encoding")
        .filter_map(|value| HeaderValue::from_bytes(value).ok())
        .collect();
    let Some(coding) = ContentCoding::parse(&codings) else {
        let conformance = if documented { Conformance::NotJson } else { Conformance::Undocumented };
        return Found::bare(conformance, body);
    };
    let decoded: Cow<'_, [u8]> = match coding {
        ContentCoding::Identity => Cow::Borrowed(body),
        ContentCoding::Gzip | ContentCoding::Deflate | ContentCoding::Br | ContentCoding::Zstd => {
            match decode::decode(coding, body, rules.upstream_body_limit) {
                Ok(decoded) => Cow::Owned(decoded),
                Err(DecodeError::TooLarge) => return Found::bare(Conformance::TooLarge, body),
                Err(DecodeError::Malformed) => return Found::bare(Conformance::NotJson, body),
            }
        }
    };
    let conformance = if documented {
        let error = ErrorBody {
            status: answered.head.facts.status,
            media_type: media_type(&answered.head.fields),
            body: &decoded,
        };
        conform::check_conformance(contract, &error, rules.upstream_messages)
    } else {
        Conformance::Undocumented
    };
    if conformance == Conformance::Conforms && !flow.request.is_grpc() {
        let takes = coding == ContentCoding::Identity || accepts(flow, coding);
        let sent = if takes { body.clone() } else { Bytes::from(decoded.into_owned()) };
        let sent = ErrorBytes { body: Some(sent), decoded: !takes };
        return Found { sent: Some(sent), ..Found::bare(conformance, body) };
    }
    let extract = extract(contract, &decoded);
    let said = match decoded {
        Cow::Borrowed(_) => body.clone(),
        Cow::Owned(decoded) => Bytes::from(decoded),
    };
    Found { conformance, extract, sent: None, said }
}

fn extract(contract: &Contract, body: &[u8]) -> ExtractedError {
    // Most replaced bodies are pages: a look at the first byte spares the parser.
    let starts_json =
        body.iter().find(|octet| !octet.is_ascii_whitespace()).is_some_and(|octet| *octet == b'{');
    if starts_json { conform::extract(contract, body) } else { ExtractedError::default() }
}

fn accepts(flow: &Flow<'_>, coding: ContentCoding) -> bool {
    let name = match coding {
        ContentCoding::Identity => return true,
        ContentCoding::Gzip => "gzip",
        ContentCoding::Deflate => "deflate",
        ContentCoding::Br => "br",
        ContentCoding::Zstd => "zstd",
    };
    crate::protocol::accept::accepts_coding(flow.request.fields.values("accept-encoding"), name)
}

/// The one Content-Type. Of several, clients read one or another: that is no type at all.
fn media_type(fields: &Fields) -> Option<&[u8]> {
    let mut types = fields.values("content-type");
    let first = types.next()?;
    Some(if types.next().is_none() { first } else { b"" })
}
