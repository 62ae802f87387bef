//! Applies the rate limits of a route: either every enforced rule is debited, or none.
//!
//! [`crate::limit`] implements the limiters. This module selects the rules that apply to a request, combines their
//! decisions and creates the fault for a denied request. [`backends`] handles rules that count in a shared backend,
//! [`key_source`] supplies the values of the rate-limit keys, [`buffer_body`] reads the body for them, and [`headers`]
//! writes the response fields.

mod backends;
pub(super) mod buffer_body;
pub(super) mod headers;
mod key_source;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::context::{Exchange, Interrupt, RequestContext};
use super::header_mutations::ResponseHeaderMutations;
use super::message::request::Request;
use super::upload::Upload;
use crate::config::validate_limits::MAX_RULES_PER_ROUTE;
use crate::contract::{Cause, Evidence, Fault, Phase};
use crate::limit::{Key, LimiterMode, QuotaDecision, Timestamp};
use crate::snapshot::Route;
use crate::snapshot::rate_limits::{RateLimitRule, timestamp};
use crate::telemetry::LimitDecision;

pub(super) use backends::reset;
use buffer_body::BufferedBody;
use headers::RuleResult;
use key_source::{KeyBody, RequestKeySource};

/// An admitted request.
#[derive(Debug, Default)]
pub(super) struct Admitted {
    /// The upload, if the limits have read the body or its beginning.
    pub(super) buffered_body: Option<Upload>,
    /// The rules that counted the request and are reset by some upstream statuses (`reset_on`).
    pub(super) reset_candidates: ResetCandidates,
}

/// Rules, each with the key of the request.
pub(super) type ResetCandidates = Vec<(Arc<RateLimitRule>, Key)>;

/// Applies the rate limits of a route, and adds their response headers.
///
/// # Errors
/// `rate_limited`, with the time after which the rules would admit the request. `limiter_unavailable` if a backend with
/// `on_failure: deny` fails. If the limits read the request body: it is malformed or too large, or the client is too
/// slow or disconnected.
pub(super) async fn admit(
    exchange: &mut Exchange<'_>,
    route: &Route,
    request: &Request,
) -> Result<Admitted, Interrupt> {
    if route.rate_limits.is_empty() {
        return Ok(Admitted::default());
    }
    if route.limits_need_io {
        // Boxed because most routes do not need it: their futures should not include this one.
        return Box::pin(admit_with_io(exchange, route, request)).await;
    }
    let reset_candidates =
        admit_in_memory(exchange, &request_key_source(exchange.context, route, request, KeyBody::Absent))?;
    Ok(Admitted { buffered_body: None, reset_candidates })
}

/// Applies rate limits that need I/O: a rule counts in a backend, or its key is a member of the request body.
async fn admit_with_io(
    exchange: &mut Exchange<'_>,
    route: &Route,
    request: &Request,
) -> Result<Admitted, Interrupt> {
    let buffered = match route.limits_read_body {
        true => match buffer_body::buffer_body(exchange, route, request).await {
            Ok(buffered) => buffered,
            Err(interrupt) => {
                add_current_state(&mut exchange.header_mutations, exchange.context, route, request);
                return Err(interrupt);
            }
        },
        false => BufferedBody::NotBuffered,
    };
    let body = key_body(&buffered);
    let key_source = request_key_source(exchange.context, route, request, body);
    if let Some((rule, evidence)) = key_source.unreadable_body() {
        // A rejected request consumes no quota, but the response reports the current state of the rules in memory.
        exchange.record.denied_by = Some(Arc::clone(rule));
        add_current_state(&mut exchange.header_mutations, exchange.context, route, request);
        let evidence = Evidence::from_static(evidence);
        return Err(Fault::new(Cause::MalformedBody, Phase::Admit).with_evidence(evidence).into());
    }
    let reset_candidates = if route.rate_limits.iter().any(|rule| rule.backend.is_some()) {
        backends::admit_with_backends(exchange, &key_source).await?
    } else {
        admit_in_memory(exchange, &key_source)?
    };
    let buffered_body = match buffered {
        BufferedBody::Read(upload) => Some(upload),
        BufferedBody::NotBuffered | BufferedBody::Unreadable(_) => None,
    };
    Ok(Admitted { buffered_body, reset_candidates })
}

/// The body as the keys see it. An empty one is absent.
fn key_body(buffered: &BufferedBody) -> KeyBody<'_> {
    match buffered {
        BufferedBody::NotBuffered => KeyBody::Absent,
        BufferedBody::Unreadable(reason) => KeyBody::Unreadable(reason),
        BufferedBody::Read(upload) => match upload.buffered_body() {
            Some(body) if body.trim_ascii().is_empty() => KeyBody::Absent,
            Some(body) if body.len() <= buffer_body::MAX_BUFFERED_BODY => KeyBody::Json(body),
            Some(_) | None => KeyBody::Unreadable(buffer_body::TOO_LARGE),
        },
    }
}

/// Applies the rate limits of a route whose rules all count in memory.
fn admit_in_memory(
    exchange: &mut Exchange<'_>,
    key_source: &RequestKeySource<'_>,
) -> Result<ResetCandidates, Fault> {
    // After a wait for the body, the clock is read again: with the time of the request headers the limiter would count
    // in an earlier window than other requests already have.
    let waited = key_source.route.limits_need_io;
    let now = timestamp(if waited { Instant::now() } else { exchange.context.started });
    let mut checks = applicable_rules(key_source);
    let admitted = debit_all(&mut checks, now);
    write_headers(exchange, &checks, now);
    if !admitted {
        return Err(denied_fault(&checks, exchange));
    }
    for check in checks.iter().flatten() {
        check.count_admitted(now);
    }
    Ok(reset_candidates(&checks))
}

/// Adds the current state of the rules in memory to the response headers, without debiting them: for a request that is
/// denied before the limits, and for the response after a panic.
pub(super) fn add_current_state(
    header_mutations: &mut ResponseHeaderMutations,
    context: &RequestContext<'_>,
    route: &Route,
    request: &Request,
) {
    if route.rate_limits.is_empty() {
        return;
    }
    let now = timestamp(Instant::now());
    let mut checks = applicable_rules(&request_key_source(context, route, request, KeyBody::Absent));
    // The body may be unread or unreadable: for a rule that reads it, this is the state of a key without the member.
    for check in
        checks.iter_mut().flatten().filter(|check| check.is_enforced() && check.rule.backend.is_none())
    {
        check.decision = Some(check.rule.limiter.current_state(check.key, now));
    }
    let results = checks.iter().flatten().filter_map(RuleCheck::result);
    headers::write(header_mutations, context.snapshot.limit_headers, results, now, SystemTime::now());
}

fn request_key_source<'a>(
    context: &RequestContext<'_>,
    route: &'a Route,
    request: &'a Request,
    body: KeyBody<'a>,
) -> RequestKeySource<'a> {
    let ipv6_prefix = context.snapshot.client.ipv6_prefix;
    RequestKeySource { request, client_ip: context.client_address.ip(), ipv6_prefix, route, body }
}

/// A rule that applies to the request, and its decision.
struct RuleCheck<'a> {
    rule: &'a Arc<RateLimitRule>,
    key: Key,
    /// The latest decision; `None` if there is none: not checked yet, shadow mode, or not counted.
    decision: Option<QuotaDecision>,
}

impl RuleCheck<'_> {
    fn is_enforced(&self) -> bool {
        self.rule.limiter.settings().mode == LimiterMode::Enforce
    }

    fn result(&self) -> Option<RuleResult<'_>> {
        let limiter = &self.rule.limiter;
        self.decision.map(|decision| RuleResult {
            name: limiter.name(),
            settings: limiter.settings(),
            decision,
        })
    }

    /// Counts an admitted request. Rules in shadow mode are debited here, because they count admitted requests only.
    fn count_admitted(&self, now: Timestamp) {
        let decision = if self.is_enforced() {
            LimitDecision::Allowed
        } else {
            shadow_decision(&self.rule.limiter.debit(self.key, now))
        };
        self.rule.metrics.record(decision);
    }
}

/// The decision to record for a rule in shadow mode.
const fn shadow_decision(decision: &QuotaDecision) -> LimitDecision {
    match decision {
        QuotaDecision::Allow(_) => LimitDecision::Allowed,
        QuotaDecision::Deny { .. } => LimitDecision::ShadowDenied,
    }
}

type RuleChecks<'a> = [Option<RuleCheck<'a>>; MAX_RULES_PER_ROUTE];

fn applicable_rules<'a>(key_source: &RequestKeySource<'a>) -> RuleChecks<'a> {
    let mut checks = [const { None }; MAX_RULES_PER_ROUTE];
    let applicable = key_source.route.rate_limits.iter().filter(|rule| !rule.limiter.exempts(key_source));
    for (slot, rule) in checks.iter_mut().zip(applicable) {
        *slot = Some(RuleCheck { rule, key: rule.limiter.key(key_source), decision: None });
    }
    checks
}

/// Debits every enforced rule, or none. Returns whether the request is admitted.
fn debit_all(checks: &mut RuleChecks<'_>, now: Timestamp) -> bool {
    let enforced = checks.iter().flatten().filter(|check| check.is_enforced()).count();
    if enforced > 1 && !peek(checks, now, |_| true) {
        return false;
    }
    let mut taken_count = 0;
    let denied = checks.iter_mut().flatten().filter(|check| check.is_enforced()).any(|check| {
        let decision = check.rule.limiter.debit(check.key, now);
        check.decision = Some(decision);
        let denied = decision.retry_after().is_some();
        taken_count += usize::from(!denied);
        denied
    });
    if denied {
        // Another request was debited between peek and debit.
        for check in checks.iter().flatten().filter(|check| check.is_enforced()).take(taken_count) {
            check.rule.limiter.refund(check.key, now);
        }
    }
    !denied
}

/// Whether the enforced rules for which `applies` returns true would admit the request, by their counts in memory.
/// Checks all of them, because the longest wait is reported.
fn peek(checks: &mut RuleChecks<'_>, now: Timestamp, applies: impl Fn(&RuleCheck<'_>) -> bool) -> bool {
    let mut admitted = true;
    for check in checks.iter_mut().flatten().filter(|check| check.is_enforced() && applies(check)) {
        let decision = check.rule.limiter.peek(check.key, now);
        admitted &= decision.retry_after().is_none();
        check.decision = Some(decision);
    }
    admitted
}

/// Adds the response headers for the decisions of the rules.
fn write_headers(exchange: &mut Exchange<'_>, checks: &RuleChecks<'_>, now: Timestamp) {
    let results = checks.iter().flatten().filter_map(RuleCheck::result);
    let limit_headers = exchange.context.snapshot.limit_headers;
    headers::write(&mut exchange.header_mutations, limit_headers, results, now, SystemTime::now());
}

/// The rules that the upstream's status may reset (`reset_on`).
fn reset_candidates(checks: &RuleChecks<'_>) -> ResetCandidates {
    let resettable = |check: &&RuleCheck<'_>| !check.rule.limiter.settings().reset_on.is_empty();
    let candidates = checks.iter().flatten().filter(resettable);
    candidates.map(|check| (Arc::clone(check.rule), check.key)).collect()
}

/// Creates the fault for a denied request, with the longest wait of the rules that deny it, and records that rule.
fn denied_fault(checks: &RuleChecks<'_>, exchange: &mut Exchange<'_>) -> Fault {
    let mut longest_wait = Duration::ZERO;
    let mut denied_by = None;
    for check in checks.iter().flatten() {
        let Some(retry_after) = check.decision.and_then(|decision| decision.retry_after()) else { continue };
        check.rule.metrics.record(LimitDecision::Denied);
        if retry_after > longest_wait {
            longest_wait = retry_after;
            denied_by = Some(Arc::clone(check.rule));
        }
    }
    let max_jitter = denied_by.as_ref().map_or(0, |rule| rule.limiter.settings().retry_after_jitter);
    exchange.record.denied_by = denied_by;
    Fault::new(Cause::RateLimited, Phase::Admit)
        .with_retry_after(longest_wait + headers::jitter(&exchange.context.request_id, max_jitter))
}
