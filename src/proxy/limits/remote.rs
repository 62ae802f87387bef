//! The same questions where some rules count in a store: answers take time there, and may not come.
//!
//! Rules in memory are looked at first, so that whom they refuse costs no store anything; then each store takes from all of
//! its keys or none; then memory takes. Whatever was taken before a refusal is given back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::context::RequestLog;
use super::{
    RuleCheck, RuleChecks, applicable_rules, denied_fault, keep_for_reset, shadow_decision, subject,
    write_headers,
};
use crate::contract::{Cause, Evidence, Fault, Phase};
use crate::limit::{Backend, BackendError, OnFailure, TakeReply, TakeRequest, Timestamp};
use crate::proxy::message::request::Request;
use crate::snapshot::rate_limits::timestamp;
use crate::snapshot::{Route, Snapshot};
use crate::telemetry::LimitDecision;
use crate::upstream::timer::timeout_at;

/// Asks the route's rules, wherever they count, and dresses the response with what they leave.
///
/// # Errors
/// `rate_limited`, with the wait after which the rules would admit the request; `limiter_unavailable` where a store does
/// not answer and requests are to be refused then.
pub async fn admit_with_stores(
    snapshot: &Snapshot,
    route: &Route,
    request: &Request,
    body: Option<&[u8]>,
    log: &mut RequestLog,
) -> Result<(), Fault> {
    let now = timestamp(Instant::now());
    let mut checks = applicable_rules(route, &subject(snapshot, route, request, log.client_ip, body));
    let mut charges = Charges::default();
    let admitted = charges.take_all(&mut checks, now).await;
    if admitted != Ok(true) {
        charges.give_back(&checks, now).await;
    }
    write_headers(snapshot, &checks, now, log);
    match admitted {
        Ok(true) => {}
        Ok(false) => return Err(denied_fault(&checks, log)),
        Err(BackendUnavailable) => {
            let evidence = Evidence::from_static("the store of a rate limit does not answer");
            return Err(Fault::new(Cause::LimiterUnavailable, Phase::Admit).with_evidence(evidence));
        }
    }
    keep_for_reset(&checks, log);
    for (index, check) in checks.iter().enumerate() {
        let Some(check) = check else { continue };
        match &check.rule.store {
            None => check.count_admitted(now),
            Some(_) if check.is_enforced() => check.rule.metrics.record(charges.decision(index)),
            Some(store) => take_shadow(check, store.as_ref(), now).await,
        }
    }
    Ok(())
}

/// The keys that the request was counted under have taken nothing, where its rules say so of this upstream status.
pub async fn reset(log: &mut RequestLog, status: u16) {
    for (rule, key) in std::mem::take(&mut log.reset_candidates) {
        if !rule.limiter.settings().reset_on.contains(&status) {
            continue;
        }
        rule.limiter.reset(key);
        if let Some(store) = &rule.store {
            // Without an answer the count stays, which is the safe side.
            let _ = with_timeout(store.as_ref(), store.reset(&[rule.limiter.take_request(key)])).await;
        }
    }
}

/// Stores know best why they fail: they are given a moment to say so.
const TIMEOUT_MARGIN: Duration = Duration::from_millis(5);

/// A store does not answer, and requests are to be refused then.
#[derive(Debug, PartialEq, Eq)]
struct BackendUnavailable;

/// Where the rules of a request were counted, by their number.
#[derive(Default)]
struct Charges {
    /// With the moment of the store's clock.
    in_store: Vec<(usize, Timestamp)>,
    in_memory: Vec<usize>,
    uncounted: Vec<usize>,
    /// To be counted in memory, because their store does not answer.
    local_fallback: Vec<usize>,
}

impl Charges {
    async fn take_all(
        &mut self,
        checks: &mut RuleChecks<'_>,
        now: Timestamp,
    ) -> Result<bool, BackendUnavailable> {
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
            let counts_locally = check.rule.store.is_none() || self.local_fallback.contains(&index);
            if !check.is_enforced() || !counts_locally {
                continue;
            }
            let decision = check.rule.limiter.take(check.key, now);
            check.decision = Some(decision);
            if decision.retry_after().is_some() {
                // Another request has come between looking and taking.
                return Ok(false);
            }
            self.in_memory.push(index);
        }
        Ok(true)
    }

    /// Asks one store about all of its rules at once.
    async fn take_from_store(
        &mut self,
        store: &Arc<dyn Backend>,
        checks: &mut RuleChecks<'_>,
        now: Timestamp,
    ) -> Result<bool, BackendUnavailable> {
        let indices: Vec<usize> = checks
            .iter()
            .enumerate()
            .filter_map(|(index, check)| check.as_ref().map(|check| (index, check)))
            .filter(|(_, check)| check.is_enforced() && uses_store(check, store))
            .map(|(index, _)| index)
            .collect();
        let requests = store_requests(checks, &indices);
        let reply = with_timeout(store.as_ref(), store.take(&requests)).await;
        let reply = reply.and_then(|taken| {
            if taken.decisions.len() == requests.len() { Ok(taken) } else { Err(BackendError::InvalidReply) }
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
                self.local_fallback.extend(indices);
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
                Err(BackendUnavailable)
            }
        }
    }

    /// Undoes what was taken before the request was refused.
    async fn give_back(&self, checks: &RuleChecks<'_>, now: Timestamp) {
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
                |index: usize| matches!(checks.get(index), Some(Some(it)) if uses_store(it, &store));
            let (in_this_store, rest): (Vec<_>, Vec<_>) =
                remaining.iter().partition(|(index, _)| in_store(*index));
            let indices: Vec<usize> = in_this_store.into_iter().map(|(index, _)| index).collect();
            let requests = store_requests(checks, &indices);
            // Without an answer it stays taken, which is the safe side.
            let _ = with_timeout(store.as_ref(), store.refund(&requests, at)).await;
            remaining = rest;
        }
    }

    /// What is counted for a rule of a store that was asked about a request that passes.
    fn decision(&self, index: usize) -> LimitDecision {
        if self.uncounted.contains(&index) { LimitDecision::FailedOpen } else { LimitDecision::Allowed }
    }
}

/// Whether the rule counts in this store.
fn uses_store(check: &RuleCheck<'_>, store: &Arc<dyn Backend>) -> bool {
    check.rule.store.as_ref().is_some_and(|rule_store| Arc::ptr_eq(rule_store, store))
}

fn store_requests<'a>(checks: &RuleChecks<'a>, indices: &[usize]) -> Vec<TakeRequest<'a>> {
    let selected = indices.iter().filter_map(|index| checks.get(*index)?.as_ref());
    selected.map(|check| check.rule.limiter.take_request(check.key)).collect()
}

/// Whether the enforced rules among these would admit the request by what memory says. All of them are asked.
fn peek(checks: &mut RuleChecks<'_>, now: Timestamp, applies: impl Fn(&RuleCheck<'_>) -> bool) -> bool {
    let mut admitted = true;
    for check in checks.iter_mut().flatten().filter(|check| check.is_enforced() && applies(check)) {
        let decision = check.rule.limiter.peek(check.key, now);
        admitted &= decision.retry_after().is_none();
        check.decision = Some(decision);
    }
    admitted
}

/// A rule that only watches is told of a request that passes.
async fn take_shadow(check: &RuleCheck<'_>, store: &dyn Backend, now: Timestamp) {
    let request = [check.rule.limiter.take_request(check.key)];
    let decision =
        match with_timeout(store, store.take(&request)).await.as_ref().map(|taken| &taken.decisions[..]) {
            Ok([decision]) => shadow_decision(decision),
            Ok(_) | Err(_) => match store.on_failure() {
                OnFailure::Local => shadow_decision(&check.rule.limiter.take(check.key, now)),
                OnFailure::Allow | OnFailure::Deny => LimitDecision::FailedOpen,
            },
        };
    check.rule.metrics.record(decision);
}

/// An answer of the store, if it comes in time. A store keeps its time by itself; this holds where it does not.
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
#[path = "remote_tests.rs"]
mod tests;
