//! Applies the rate limits of a route: either every enforced rule is debited, or none.
//!
//! [`crate::limit`] implements the limiters. This module selects the rules that apply to a request, combines their
//! decisions and creates the fault for a denied request. [`stores`] handles rules that count in a store,
//! [`mod@subject`] supplies the values of the rate-limit keys, [`buffer_body`] reads the body for them, and [`headers`]
//! writes the response fields.

pub(super) mod buffer_body;
pub(super) mod headers;
mod stores;
mod subject;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::context::RequestLog;
use super::message::request::Request;
use super::response_headers::ResponseHeaderMutations;
use crate::config::validate_limits::MAX_RULES_PER_ROUTE;
use crate::contract::{Cause, Fault, Phase};
use crate::limit::{Key, LimiterMode, QuotaDecision, Timestamp};
use crate::snapshot::rate_limits::{RateLimitRule, timestamp};
use crate::snapshot::{Route, Snapshot};
use crate::telemetry::LimitDecision;

use headers::RuleResult;
pub(super) use stores::{admit_with_stores, reset};
use subject::RequestSubject;

/// Applies the rate limits of a route whose rules all count in memory, and adds their response headers.
///
/// # Errors
/// `rate_limited`, with the time after which the rules would admit the request.
pub(super) fn admit(
    snapshot: &Snapshot,
    route: &Route,
    request: &Request,
    body: Option<&[u8]>,
    log: &mut RequestLog,
) -> Result<(), Fault> {
    if route.rate_limits.is_empty() {
        return Ok(());
    }
    // Buffering the body takes time, after which `started` is too old.
    let now = timestamp(if body.is_some() { Instant::now() } else { log.started });
    let subject = subject(snapshot, route, request, log.client_ip, body);
    let mut checks = applicable_rules(route, &subject);
    let admitted = take_all(&mut checks, now);
    write_headers(snapshot, &checks, now, log);
    if !admitted {
        return Err(denied_fault(&checks, log));
    }
    keep_for_reset(&checks, log);
    for check in checks.iter().flatten() {
        check.count_admitted(now);
    }
    Ok(())
}

/// Adds the current state of the rules in memory to the response headers, without debiting them. For the response after
/// a panic.
pub(super) fn add_current_state(
    response_headers: &mut ResponseHeaderMutations,
    snapshot: &Snapshot,
    route: &Route,
    request: &Request,
    client_ip: IpAddr,
) {
    let now = timestamp(Instant::now());
    let mut checks = applicable_rules(route, &subject(snapshot, route, request, client_ip, None));
    for check in checks.iter_mut().flatten().filter(|check| check.is_enforced() && check.rule.store.is_none())
    {
        check.decision = Some(check.rule.limiter.current_state(check.key, now));
    }
    let results = checks.iter().flatten().filter_map(RuleCheck::result);
    headers::write(response_headers, snapshot.limit_headers, results, now, SystemTime::now());
}

fn subject<'a>(
    snapshot: &Snapshot,
    route: &'a Route,
    request: &'a Request,
    client_ip: IpAddr,
    body: Option<&'a [u8]>,
) -> RequestSubject<'a> {
    RequestSubject { request, client_ip, ipv6_prefix: snapshot.client.ipv6_prefix, route, body }
}

/// A rule that applies to the request, and its decision.
struct RuleCheck<'a> {
    rule: &'a Arc<RateLimitRule>,
    key: Key,
    /// The latest decision; `None` for a rule in shadow mode.
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
            shadow_decision(&self.rule.limiter.take(self.key, now))
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

fn applicable_rules<'a>(route: &'a Route, subject: &RequestSubject<'_>) -> RuleChecks<'a> {
    let mut checks = [const { None }; MAX_RULES_PER_ROUTE];
    let applicable = route.rate_limits.iter().filter(|rule| !rule.limiter.exempts(subject));
    for (slot, rule) in checks.iter_mut().zip(applicable) {
        *slot = Some(RuleCheck { rule, key: rule.limiter.key(subject), decision: None });
    }
    checks
}

/// Debits every enforced rule, or none. Returns whether the request is admitted.
fn take_all(checks: &mut RuleChecks<'_>, now: Timestamp) -> bool {
    let enforced = checks.iter().flatten().filter(|check| check.is_enforced()).count();
    if enforced > 1 && !peek_all(checks, now) {
        return false;
    }
    let mut taken_count = 0;
    let denied = checks.iter_mut().flatten().filter(|check| check.is_enforced()).any(|check| {
        let decision = check.rule.limiter.take(check.key, now);
        check.decision = Some(decision);
        let denied = decision.retry_after().is_some();
        taken_count += usize::from(!denied);
        denied
    });
    if denied {
        // Another request was debited between peek and take.
        for check in checks.iter().flatten().filter(|check| check.is_enforced()).take(taken_count) {
            check.rule.limiter.refund(check.key, now);
        }
    }
    !denied
}

/// Whether every enforced rule would admit the request. Checks all of them, because the longest wait is reported.
fn peek_all(checks: &mut RuleChecks<'_>, now: Timestamp) -> bool {
    let mut admitted = true;
    for check in checks.iter_mut().flatten().filter(|check| check.is_enforced()) {
        let decision = check.rule.limiter.peek(check.key, now);
        admitted &= decision.retry_after().is_none();
        check.decision = Some(decision);
    }
    admitted
}

/// Adds the response headers for the decisions of the rules.
fn write_headers(snapshot: &Snapshot, checks: &RuleChecks<'_>, now: Timestamp, log: &mut RequestLog) {
    let results = checks.iter().flatten().filter_map(RuleCheck::result);
    headers::write(&mut log.response_headers, snapshot.limit_headers, results, now, SystemTime::now());
}

/// Keeps the rules that the upstream's status may reset (`reset_on`).
fn keep_for_reset(checks: &RuleChecks<'_>, log: &mut RequestLog) {
    for check in checks.iter().flatten().filter(|check| !check.rule.limiter.settings().reset_on.is_empty()) {
        log.reset_candidates.push((Arc::clone(check.rule), check.key));
    }
}

/// Creates the fault for a denied request, with the longest wait of the rules that deny it, and logs that rule.
fn denied_fault(checks: &RuleChecks<'_>, log: &mut RequestLog) -> Fault {
    let mut longest_wait = Duration::ZERO;
    for check in checks.iter().flatten() {
        let Some(retry_after) = check.decision.and_then(|decision| decision.retry_after()) else { continue };
        check.rule.metrics.record(LimitDecision::Denied);
        if retry_after > longest_wait {
            longest_wait = retry_after;
            log.denied_by = Some(Arc::clone(check.rule));
        }
    }
    let max_jitter = log.denied_by.as_ref().map_or(0, |rule| rule.limiter.settings().retry_after_jitter);
    Fault::new(Cause::RateLimited, Phase::Admit)
        .with_retry_after(longest_wait + headers::jitter(&log.request_id, max_jitter))
}
