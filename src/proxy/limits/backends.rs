//! Applies rate limits when some of the rules count in a shared backend (Redis, an entry of `stores`): decisions need a
//! round trip, and the backend may fail.
//!
//! Rules in memory are checked first, so that a request they deny never reaches a backend. Then each backend debits all
//! of its keys or none, then the rules in memory are debited. If one denies, everything debited before is refunded.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::context::Exchange;
use super::key_source::RequestKeySource;
use super::{
    ResetCandidates, RuleCheck, RuleChecks, applicable_rules, denied_fault, peek, reset_candidates,
    shadow_decision, write_headers,
};
use crate::contract::{Cause, Evidence, Fault, Phase};
use crate::limit::{
    Backend, BackendError, BackendFuture, DebitError, DebitReply, DebitRequest, LateDebit, OnFailure,
    Timestamp,
};
use crate::snapshot::rate_limits::timestamp;
use crate::telemetry::LimitDecision;
use crate::upstream::timer::timeout_at;

/// Applies the rate limits of a route, in memory and in backends, and adds their response headers.
///
/// # Errors
/// `rate_limited`, with the time after which the rules would admit the request. `limiter_unavailable` if a backend with
/// `on_failure: deny` fails.
pub(super) async fn admit_with_backends(
    exchange: &mut Exchange<'_>,
    key_source: &RequestKeySource<'_>,
) -> Result<ResetCandidates, Fault> {
    let now = timestamp(Instant::now());
    let mut checks = applicable_rules(key_source);
    let mut debits = Debits::default();
    let admitted = debits.debit_all(&mut checks, now).await;
    if admitted != Ok(true) {
        debits.refund(&checks, now).await;
    }
    write_headers(exchange, &checks, now);
    match admitted {
        Ok(true) => debits.late.drain(..).for_each(LateDebit::keep),
        Ok(false) => return Err(denied_fault(&checks, exchange)),
        Err(BackendUnavailable) => {
            let evidence = Evidence::from_static("the rate-limit backend is unavailable");
            if key_source.route.config.upstream.is_some() {
                key_source.route.upstream_metrics.shed(Cause::LimiterUnavailable);
            }
            return Err(Fault::new(Cause::LimiterUnavailable, Phase::Admit).with_evidence(evidence));
        }
    }
    for (index, check) in checks.iter().enumerate() {
        let Some(check) = check else { continue };
        match &check.rule.backend {
            None => check.count_admitted(now),
            Some(_) if check.is_enforced() => check.rule.metrics.record(debits.decision(index)),
            Some(backend) => debit_shadow(check, backend.as_ref(), now).await,
        }
    }
    Ok(reset_candidates(&checks))
}

/// Resets the rules that list this upstream status in `reset_on`, for the keys of the request.
pub(in crate::proxy) async fn reset(candidates: ResetCandidates, status: u16) {
    for (rule, key) in candidates {
        if !rule.limiter.settings().reset_on.contains(&status) {
            continue;
        }
        rule.limiter.reset(key);
        if let Some(backend) = &rule.backend {
            // If this fails, the count stays: the client gets less than its quota, never more.
            let _ = with_timeout(backend.as_ref(), backend.reset(&[rule.limiter.debit_request(key)])).await;
        }
    }
}

/// Added to the timeout of a backend, so that the backend reports its own, more precise error first.
const TIMEOUT_MARGIN: Duration = Duration::from_millis(5);

/// A backend with `on_failure: deny` has failed.
#[derive(Debug, PartialEq, Eq)]
struct BackendUnavailable;

/// Which rules of a request were debited, and where. Rules are identified by their index in [`RuleChecks`].
#[derive(Default)]
struct Debits {
    /// With the time of the debit on the backend's clock, which a refund needs.
    in_backend: Vec<(usize, Timestamp)>,
    in_memory: Vec<usize>,
    /// Not counted, because the backend failed and has `on_failure: allow`.
    uncounted: Vec<usize>,
    /// To be debited in memory, because the backend failed and has `on_failure: local`.
    fallback_in_memory: Vec<usize>,
    /// What a backend may still debit after its timeout. Undone when dropped, so that a denied request consumes
    /// nothing.
    late: Vec<LateDebit>,
}

impl Debits {
    /// Debits every enforced rule. Returns whether the request is admitted; if not, the caller refunds what was
    /// debited.
    async fn debit_all(
        &mut self,
        checks: &mut RuleChecks<'_>,
        now: Timestamp,
    ) -> Result<bool, BackendUnavailable> {
        if !peek(checks, now, |check| check.rule.backend.is_none()) {
            return Ok(false);
        }
        for backend in backends_of(checks) {
            if !self.debit_in_backend(&backend, checks, now).await? {
                return Ok(false);
            }
        }
        Ok(self.debit_in_memory(checks, now))
    }

    /// Debits all enforced rules of one backend in one call, or none of them. Returns whether they admit the request.
    async fn debit_in_backend(
        &mut self,
        backend: &Arc<dyn Backend>,
        checks: &mut RuleChecks<'_>,
        now: Timestamp,
    ) -> Result<bool, BackendUnavailable> {
        let indices = enforced_rules_of(checks, backend);
        let requests = backend_requests(checks, &indices);
        let reply = with_timeout(backend.as_ref(), backend.debit(&requests)).await;
        let reply = reply.and_then(|reply| {
            let is_complete = reply.decisions.len() == requests.len();
            is_complete.then_some(reply).ok_or(BackendError::InvalidReply.into())
        });
        let reply = reply.map_err(|DebitError { late, .. }| self.late.extend(late));
        match (reply, backend.on_failure()) {
            (Ok(reply), _) => {
                let admitted = reply.admits_all();
                let DebitReply { decisions, debited_at: at } = reply;
                for (index, decision) in indices.iter().zip(decisions) {
                    if let Some(Some(check)) = checks.get_mut(*index) {
                        check.decision = Some(decision);
                    }
                }
                if admitted {
                    self.in_backend.extend(indices.into_iter().map(|index| (index, at)));
                }
                Ok(admitted)
            }
            (Err(_), OnFailure::Local) => {
                let admitted = peek(checks, now, |check| uses_backend(check, backend));
                self.fallback_in_memory.extend(indices);
                Ok(admitted)
            }
            (Err(_), OnFailure::Allow) => {
                self.uncounted.extend(indices);
                Ok(true)
            }
            (Err(_), OnFailure::Deny) => {
                let enforced = |check: &&RuleCheck<'_>| check.is_enforced() && uses_backend(check, backend);
                for check in checks.iter().flatten().filter(enforced) {
                    check.rule.metrics.record(LimitDecision::FailedClosed);
                }
                Err(BackendUnavailable)
            }
        }
    }

    /// Debits the enforced rules that count in memory, up to the first that denies. Returns whether all admit the
    /// request.
    fn debit_in_memory(&mut self, checks: &mut RuleChecks<'_>, now: Timestamp) -> bool {
        for (index, check) in checks.iter_mut().enumerate() {
            let Some(check) = check else { continue };
            let counts_in_memory = check.rule.backend.is_none() || self.fallback_in_memory.contains(&index);
            if !check.is_enforced() || !counts_in_memory {
                continue;
            }
            let decision = check.rule.limiter.debit(check.key, now);
            check.decision = Some(decision);
            if decision.retry_after().is_some() {
                // Another request was debited between peek and debit.
                return false;
            }
            self.in_memory.push(index);
        }
        true
    }

    /// Refunds what was debited before the request was denied.
    async fn refund(&self, checks: &RuleChecks<'_>, now: Timestamp) {
        for index in &self.in_memory {
            if let Some(Some(check)) = checks.get(*index) {
                check.rule.limiter.refund(check.key, now);
            }
        }
        let mut remaining = self.in_backend.clone();
        while let Some((index, at)) = remaining.first().copied() {
            let Some(backend) = checks.get(index).and_then(|check| check.as_ref()?.rule.backend.clone())
            else {
                return;
            };
            let in_backend = |index: usize| matches!(checks.get(index), Some(Some(check)) if uses_backend(check, &backend));
            let (in_this_backend, rest): (Vec<_>, Vec<_>) =
                remaining.iter().partition(|(index, _)| in_backend(*index));
            let indices: Vec<usize> = in_this_backend.into_iter().map(|(index, _)| index).collect();
            let requests = backend_requests(checks, &indices);
            // If this fails, the debit stays: the client gets less than its quota, never more.
            let _ = with_timeout(backend.as_ref(), backend.refund(&requests, at)).await;
            remaining = rest;
        }
    }

    /// The decision to record for an enforced rule of a backend, for an admitted request.
    fn decision(&self, index: usize) -> LimitDecision {
        if self.uncounted.contains(&index) { LimitDecision::FailedOpen } else { LimitDecision::Allowed }
    }
}

/// The backends of the enforced rules, each once.
fn backends_of(checks: &RuleChecks<'_>) -> Vec<Arc<dyn Backend>> {
    let mut backends: Vec<Arc<dyn Backend>> = Vec::new();
    for check in checks.iter().flatten().filter(|check| check.is_enforced()) {
        if let Some(backend) = &check.rule.backend
            && !backends.iter().any(|known| Arc::ptr_eq(known, backend))
        {
            backends.push(Arc::clone(backend));
        }
    }
    backends
}

/// The indices of the enforced rules that count in this backend.
fn enforced_rules_of(checks: &RuleChecks<'_>, backend: &Arc<dyn Backend>) -> Vec<usize> {
    let applies = |check: &RuleCheck<'_>| check.is_enforced() && uses_backend(check, backend);
    let indexed = checks.iter().enumerate();
    indexed
        .filter_map(|(index, check)| check.as_ref().filter(|check| applies(check)).map(|_| index))
        .collect()
}

/// Whether the rule counts in this backend.
fn uses_backend(check: &RuleCheck<'_>, backend: &Arc<dyn Backend>) -> bool {
    check.rule.backend.as_ref().is_some_and(|rule_backend| Arc::ptr_eq(rule_backend, backend))
}

/// The calls to a backend for the rules at these indices.
fn backend_requests<'a>(checks: &RuleChecks<'a>, indices: &[usize]) -> Vec<DebitRequest<'a>> {
    let selected = indices.iter().filter_map(|index| checks.get(*index)?.as_ref());
    selected.map(|check| check.rule.limiter.debit_request(check.key)).collect()
}

/// Counts an admitted request in a backend, for a rule in shadow mode.
async fn debit_shadow(check: &RuleCheck<'_>, backend: &dyn Backend, now: Timestamp) {
    let request = [check.rule.limiter.debit_request(check.key)];
    let reply = with_timeout(backend, backend.debit(&request)).await;
    let reply = reply.map_err(|DebitError { late, .. }| late.map(LateDebit::keep));
    let decision = match reply.as_ref().map(|reply| &reply.decisions[..]) {
        Ok([decision]) => shadow_decision(decision),
        Ok(_) | Err(_) => match backend.on_failure() {
            OnFailure::Local => shadow_decision(&check.rule.limiter.debit(check.key, now)),
            OnFailure::Allow | OnFailure::Deny => LimitDecision::FailedOpen,
        },
    };
    check.rule.metrics.record(decision);
}

/// Limits the time of a call to a backend. The backend applies the same timeout; this one is for a backend that does
/// not.
async fn with_timeout<T, E: From<BackendError>>(
    backend: &dyn Backend,
    reply: BackendFuture<'_, T, E>,
) -> Result<T, E> {
    timeout_at(Instant::now() + backend.timeout() + TIMEOUT_MARGIN, reply)
        .await
        .unwrap_or_else(|| Err(BackendError::Timeout.into()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
#[path = "backends_tests.rs"]
mod tests;
