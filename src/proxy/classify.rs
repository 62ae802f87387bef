//! Classifies an upstream response: forward it, or replace it.
//!
//! Error bodies are buffered within `errors.upstream_body`. [`super::error_body`] checks them, and [`crate::contract`]
//! decides which code replaces those that do not conform. Nothing is sent to the client here.

use std::future::poll_fn;
use std::time::{Instant, SystemTime};

use bytes::{Bytes, BytesMut};
use http::Method;

use super::buffer_budget::BufferShare;
use super::context::{Exchange, Forwarding};
use super::deadlines::TimeLimit;
use super::error_body::{CheckedBody, ConformingBody, ErrorResponse};
use super::upstream_conn::{UpstreamConn, UpstreamResponse};
use super::wait::measured_timeout;
use crate::config::ErrorMode;
use crate::contract::conform::Conformance;
use crate::contract::extract::ExtractedError;
use crate::contract::{Cause, Decision, EXCERPT_LIMIT, Evidence, Phase, Trigger};
use crate::telemetry::RequestOutcome;

/// Read size for error bodies. Most are smaller, and many may be buffered at once.
const ERROR_BUFFER_SIZE: usize = 8 * 1024;

/// The limit on the bytes of an error body with a content coding. Slightly above `limit`, because a coding may enlarge
/// content that it cannot compress.
const fn coded_limit(limit: usize) -> usize {
    limit + limit / 16 + 1024
}

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

/// Why a response is replaced, and with what.
#[derive(Debug)]
pub(super) struct Replacement {
    pub(super) decision: Decision,
    pub(super) extracted: ExtractedError,
    /// For the access log: the upstream's reason phrase and the beginning of its body.
    pub(super) evidence: Evidence,
}

/// The result of buffering an error body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Buffering {
    Complete,
    TooLarge,
    /// The buffered error bodies of all requests leave no memory for this one.
    BuffersFull,
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
    let context = forwarding.context.error_context();
    let decision = context.decide(Trigger::UpstreamStatus(status));
    let is_head = forwarding.request.method == Method::HEAD;
    let (buffering, body) = if is_head {
        (Buffering::Complete, Bytes::new())
    } else {
        let decoded_limit = forwarding.route.config.errors.upstream_body_limit;
        let is_coded = response.response_head.end_to_end_values("content-encoding").next().is_some();
        let limit = if is_coded { coded_limit(decoded_limit) } else { decoded_limit };
        buffer_body(exchange, forwarding, &mut response.conn, limit).await
    };
    let error = ErrorResponse {
        context,
        decision: &decision,
        head: &response.response_head,
        request_fields: &forwarding.request.fields,
        request_id: &forwarding.context.request_id,
        now: SystemTime::now(),
    };
    let checked = match buffering {
        Buffering::Complete if is_head => error.check_without_body(),
        Buffering::Complete => error.check(&body),
        Buffering::TooLarge => error.uncheckable(Conformance::TooLarge, &body),
        Buffering::BuffersFull => error.uncheckable(Conformance::BuffersFull, &body),
        Buffering::Incomplete | Buffering::TimedOut => error.uncheckable(Conformance::Incomplete, &body),
    };
    forwarding.route.upstream_metrics.conformance(checked.conformance);
    if checked.extracted.details_dropped > 0 {
        forwarding.context.gateway.metrics.details_dropped(checked.extracted.details_dropped);
    }
    // A truncated response is replaced in `observe` mode too, because it cannot be forwarded. A large or slow one can:
    // the relay reads the rest of its body.
    if mode == ErrorMode::Observe && buffering != Buffering::Incomplete {
        if checked.forwarded.is_none() {
            forwarding.route.metrics.would_replace(status, decision.code().status());
        }
        return Classification::Forward(body);
    }
    match checked.forwarded {
        Some(conforming) => Classification::ForwardConforming(conforming),
        None => replacement(forwarding, response, decision, checked),
    }
}

/// The classification of a response that is replaced, with evidence if the access log records errors.
fn replacement(
    forwarding: &Forwarding<'_>,
    response: &UpstreamResponse,
    decision: Decision,
    checked: CheckedBody,
) -> Classification {
    let evidence = if forwarding.context.snapshot.access.is_enabled(RequestOutcome::Replaced, true) {
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

/// Buffers the body within `body_limit` bytes, `errors.upstream_body.timeout` and the deadlines of the request.
async fn buffer_body(
    exchange: &mut Exchange<'_>,
    forwarding: &Forwarding<'_>,
    conn: &mut UpstreamConn,
    body_limit: usize,
) -> (Buffering, Bytes) {
    let error_config = &forwarding.route.config.errors;
    let now = Instant::now();
    let at = now + error_config.upstream_body_timeout;
    // The fault of this limit is not reported: the response is replaced, or forwarded as far as it was read.
    let limit = TimeLimit::new(at, Cause::ConnectionReadTimeout, Phase::ResponseHeaders);
    let limit = forwarding.with_deadlines(limit, Phase::ResponseHeaders);
    let time_left = limit.at.saturating_duration_since(now);
    let mut body = BytesMut::new();
    let mut share = exchange.context.gateway.error_bodies.share();
    let reading = read_body(conn, &mut body, body_limit, &mut share);
    let (buffering, waited) = measured_timeout(now, time_left, reading).await;
    exchange.error_body_share = Some(share);
    exchange.client.add_wait(waited);
    let buffering = buffering.unwrap_or_else(|| {
        conn.on_timeout(&limit.fault());
        Buffering::TimedOut
    });
    (buffering, body.freeze())
}

/// Reads the body until its end, until it exceeds `limit`, until no memory is left for it, or until reading fails.
async fn read_body(
    conn: &mut UpstreamConn,
    body: &mut BytesMut,
    limit: usize,
    share: &mut BufferShare<'_>,
) -> Buffering {
    loop {
        if !share.reserve(ERROR_BUFFER_SIZE) {
            return Buffering::BuffersFull;
        }
        match poll_fn(|cx| conn.poll_body(cx, ERROR_BUFFER_SIZE)).await {
            Ok(Some(length)) => {
                // An HTTP/2 frame may be larger than what was reserved.
                if !share.resize(ERROR_BUFFER_SIZE, length) {
                    return Buffering::BuffersFull;
                }
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
