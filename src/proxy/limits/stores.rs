//! Applies rate limits when some of the rules count in a store (Redis): decisions need a round trip, and the store may
//! fail.
//!
//! Rules in memory are checked first, so that a request they deny never reaches a store. Then each store debits all of
//! its keys or none, then the rules in memory are debited. If one denies, everything debited before is refunded.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::context::Exchange;
use super::subject::RequestSubject;
use super::{
    ResetCandidates, RuleCheck, RuleChecks, applicable_rules, denied_fault, reset_candidates,
    shadow_decision, write_headers,
};
use crate::contract::{Cause, Evidence, Fault, Phase};
use crate::limit::{Backend, BackendError, OnFailure, TakeReply, TakeRequest, Timestamp};
use crate::snapshot::rate_limits::timestamp;
use crate::telemetry::LimitDecision;
use crate::upstream::timer::timeout_at;

/// Applies the rate limits of a route, in memory and in stores, and adds their response headers.
///
/// # Errors
/// `rate_limited`, with the time after which the rules would admit the request. `limiter_unavailable` if a store with
/// `on_failure: deny` fails.
pub(super) async fn admit_with_stores(
    exchange: &mut Exchange<'_>,
    subject: &RequestSubject<'_>,
) -> Result<ResetCandidates, Fault> {
    let now = timestamp(Instant::now());
    let mut checks = applicable_rules(subject);
    let mut debits = Debits::default();
    let admitted = debits.take_all(&mut checks, now).await;
    if admitted != Ok(true) {
        debits.refund(&checks, now).await;
    }
    write_headers(exchange, &checks, now);
    match admitted {
        Ok(true) => {}
        Ok(false) => return Err(denied_fault(&checks, exchange)),
        Err(StoreUnavailable) => {
            let evidence = Evidence::from_static("the rate-limit store is unavailable");
            return Err(Fault::new(Cause::LimiterUnavailable, Phase::Admit).with_evidence(evidence));
        }
    }
    for (index, check) in checks.iter().enumerate() {
        let Some(check) = check else { continue };
        match &check.rule.store {
            None => check.count_admitted(now),
            Some(_) if check.is_enforced() => check.rule.metrics.record(debits.decision(index)),
            Some(store) => take_shadow(check, store.as_ref(), now).await,
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
        if let Some(store) = &rule.store {
            // If this fails, the count stays: the client gets less than its quota, never more.
            let _ = with_timeout(store.as_ref(), store.reset(&[rule.limiter.take_request(key)])).await;
        }
    }
}

/// Added to the timeout of a store, so that the store reports its own, more precise error first.
const TIMEOUT_MARGIN: Duration = Duration::from_millis(5);

/// A store with `on_failure: deny` has failed.
#[derive(Debug, PartialEq, Eq)]
struct StoreUnavailable;

/// Where the rules of a request were debited. Rules are identified by their index in [`RuleChecks`].
#[derive(Default)]
struct Debits {
    /// With the time of the debit on the store's clock, which a refund needs.
    in_store: Vec<(usize, Timestamp)>,
    in_memory: Vec<usize>,
    /// Not counted, because the store failed and has `on_failure: allow`.
    uncounted: Vec<usize>,
    /// To be debited in memory, because the store failed and has `on_failure: local`.
    fallback_in_memory: Vec<usize>,
}

impl Debits {
    async fn take_all(
        &mut self,
        checks: &mut RuleChecks<'_>,
        now: Timestamp,
    ) -> Result<bool, StoreUnavailable> {
        if !peek(checks, now, |check| check.rule.store.is_none()) {
            return Ok(false);
        }
        let mut stores: Vec<Arc<dyn Backend>> = Vec::new();
        for check in checks.iter().flatten().filter(|check| check.is_enforced()) {
            if let Some(store) = &check.rule.store
                && !stores.iter().any(|known| Arc::ptr_eq(known, store))
            {
                stores.push(Arc::clone(store));
            }
        }
        for store in stores {
            if !self.take_from_store(&store, checks, now).await? {
                return Ok(false);
            }
        }
        for (index, check) in checks.iter_mut().enumerate() {
            let Some(check) = check else { continue };
            let counts_locally = check.rule.store.is_none() || self.fallback_in_memory.contains(&index);
            if !check.is_enforced() || !counts_locally {
                continue;
            }
            let decision = check.rule.limiter.take(check.key, now);
            check.decision = Some(decision);
            if decision.retry_after().is_some() {
                // Another request was debited between peek and take.
                return Ok(false);
            }
            self.in_memory.push(index);
        }
        Ok(true)
    }

    /// Debits all enforced rules of one store in one call.
    async fn take_from_store(
        &mut self,
        store: &Arc<dyn Backend>,
        checks: &mut RuleChecks<'_>,
        now: Timestamp,
    ) -> Result<bool, StoreUnavailable> {
        let indices: Vec<usize> = checks
            .iter()
            .enumerate()
            .filter_map(|(index, check)| check.as_ref().map(|check| (index, check)))
            .filter(|(_, check)| check.is_enforced() && uses_store(check, store))
            .map(|(index, _)| index)
            .collect();
        let requests = store_requests(checks, &indices);
        let reply = with_timeout(store.as_ref(), store.take(&requests)).await;
        let reply = reply.and_then(|reply| {
            if reply.decisions.len() == requests.len() { Ok(reply) } else { Err(BackendError::InvalidReply) }
        });
        match (reply, store.on_failure()) {
            (Ok(TakeReply { decisions, taken_at: at }), _) => {
                let admitted = decisions.iter().all(|decision| decision.retry_after().is_none());
                for (index, decision) in indices.iter().zip(decisions) {
                    if let Some(Some(check)) = checks.get_mut(*index) {
                        check.decision = Some(decision);
                    }
                }
                if admitted {
                    self.in_store.extend(indices.into_iter().map(|index| (index, at)));
                }
                Ok(admitted)
            }
            (Err(_), OnFailure::Local) => {
                let admitted = peek(checks, now, |check| uses_store(check, store));
                self.fallback_in_memory.extend(indices);
                Ok(admitted)
            }
            (Err(_), OnFailure::Allow) => {
                self.uncounted.extend(indices);
                Ok(true)
            }
            (Err(_), OnFailure::Deny) => {
                for check in checks.iter().flatten().filter(|check| uses_store(check, store)) {
                    check.rule.metrics.record(LimitDecision::FailedClosed);
                }
                Err(StoreUnavailable)
            }
        }
    }

    /// Refunds what was debited before the request was denied.
    async fn refund(&self, checks: &RuleChecks<'_>, now: Timestamp) {
        for index in &self.in_memory {
            if let Some(Some(check)) = checks.get(*index) {
                check.rule.limiter.refund(check.key, now);
            }
        }
        let mut remaining = self.in_store.clone();
        while let Some((index, at)) = remaining.first().copied() {
            let Some(store) = checks.get(index).and_then(|check| check.as_ref()?.rule.store.clone()) else {
                return;
            };
            let in_store =
                |index: usize| matches!(checks.get(index), Some(Some(check)) if uses_store(check, &store));
            let (in_this_store, rest): (Vec<_>, Vec<_>) =
                remaining.iter().partition(|(index, _)| in_store(*index));
            let indices: Vec<usize> = in_this_store.into_iter().map(|(index, _)| index).collect();
            let requests = store_requests(checks, &indices);
            // If this fails, the debit stays: the client gets less than its quota, never more.
            let _ = with_timeout(store.as_ref(), store.refund(&requests, at)).await;
            remaining = rest;
        }
    }

    /// The decision to record for an enforced rule of a store, for an admitted request.
    fn decision(&self, index: usize) -> LimitDecision {
        if self.uncounted.contains(&index) { LimitDecision::FailedOpen } else { LimitDecision::Allowed }
    }
}

/// Whether the rule counts in this store.
fn uses_store(check: &RuleCheck<'_>, store: &Arc<dyn Backend>) -> bool {
    check.rule.store.as_ref().is_some_and(|rule_store| Arc::ptr_eq(rule_store, store))
}

/// The calls to a store for the rules at these indices.
fn store_requests<'a>(checks: &RuleChecks<'a>, indices: &[usize]) -> Vec<TakeRequest<'a>> {
    let selected = indices.iter().filter_map(|index| checks.get(*index)?.as_ref());
    selected.map(|check| check.rule.limiter.take_request(check.key)).collect()
}

/// Whether the selected enforced rules would admit the request by their counts in memory. Checks all of them, because
/// the longest wait is reported.
fn peek(checks: &mut RuleChecks<'_>, now: Timestamp, applies: impl Fn(&RuleCheck<'_>) -> bool) -> bool {
    let mut admitted = true;
    for check in checks.iter_mut().flatten().filter(|check| check.is_enforced() && applies(check)) {
        let decision = check.rule.limiter.peek(check.key, now);
        admitted &= decision.retry_after().is_none();
        check.decision = Some(decision);
    }
    admitted
}

/// Counts an admitted request in a store, for a rule in shadow mode.
async fn take_shadow(check: &RuleCheck<'_>, store: &dyn Backend, now: Timestamp) {
    let request = [check.rule.limiter.take_request(check.key)];
    let decision =
        match with_timeout(store, store.take(&request)).await.as_ref().map(|reply| &reply.decisions[..]) {
            Ok([decision]) => shadow_decision(decision),
            Ok(_) | Err(_) => match store.on_failure() {
                OnFailure::Local => shadow_decision(&check.rule.limiter.take(check.key, now)),
                OnFailure::Allow | OnFailure::Deny => LimitDecision::FailedOpen,
            },
        };
    check.rule.metrics.record(decision);
}

/// Limits the time of a call to a store. The store applies the same timeout; this one is for a store that does not.
async fn with_timeout<T>(
    store: &dyn Backend,
    reply: crate::limit::BackendFuture<'_, T>,
) -> Result<T, BackendError> {
    timeout_at(Instant::now() + store.timeout() + TIMEOUT_MARGIN, reply)
        .await
        .unwrap_or(Err(BackendError::Timeout))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
#[path = "stores_tests.rs"]
mod tests;
