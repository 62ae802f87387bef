//! The same questions where some rules count in a store: answers take time there, and may not come.
//!
//! Rules in memory are looked at first, so that whom they refuse costs no store anything; then each store takes from all of
//! its keys or none; then memory takes. Whatever was taken before a refusal is given back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::flow::Story;
use super::super::request::Request;
use super::{Asked, AskedRules, ask, conclude, refusal, remember, subject, watched};
use crate::contract::{Cause, Evidence, Fault, Phase};
use crate::limit::{Backend, BackendError, OnFailure, TakeReply, TakeRequest, Timestamp};
use crate::observe::LimitDecision;
use crate::snapshot::limits::timestamp;
use crate::snapshot::{Route, Snapshot};
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
    story: &mut Story,
) -> Result<(), Fault> {
    let now = timestamp(Instant::now());
    let mut asked = ask(route, &subject(snapshot, route, request, story.client_ip, body));
    let mut counted = Counted::default();
    let admitted = counted.take_all(&mut asked, now).await;
    if admitted != Ok(true) {
        counted.give_back(&asked, now).await;
    }
    conclude(snapshot, &asked, now, story);
    match admitted {
        Ok(true) => {}
        Ok(false) => return Err(refusal(&asked, story)),
        Err(Unavailable) => {
            let evidence = Evidence::from_static("the store of a rate limit does not answer");
            return Err(Fault::new(Cause::LimiterUnavailable, Phase::Admit).with_evidence(evidence));
        }
    }
    remember(&asked, story);
    for (number, asked) in asked.iter().enumerate() {
        let Some(asked) = asked else { continue };
        match &asked.rule.store {
            None => asked.count_admitted(now),
            Some(_) if asked.is_enforced() => asked.rule.metrics.record(counted.how(number)),
            Some(store) => watch(asked, store.as_ref(), now).await,
        }
    }
    Ok(())
}

/// The keys that the request was counted under have taken nothing, where its rules say so of this upstream status.
pub async fn reset(story: &mut Story, status: u16) {
    for (rule, key) in std::mem::take(&mut story.counted) {
        if !rule.limiter.settings().reset_on.contains(&status) {
            continue;
        }
        rule.limiter.reset(key);
        if let Some(store) = &rule.store {
            // Without an answer the count stays, which is the safe side.
            let _ = patiently(store.as_ref(), store.reset(&[rule.limiter.take_request(key)])).await;
        }
    }
}

/// Stores know best why they fail: they are given a moment to say so.
const MARGIN: Duration = Duration::from_millis(5);

/// A store does not answer, and requests are to be refused then.
#[derive(Debug, PartialEq, Eq)]
struct Unavailable;

/// Where the rules of a request were counted, by their number.
#[derive(Default)]
struct Counted {
    /// With the moment of the store's clock.
    in_store: Vec<(usize, Timestamp)>,
    in_memory: Vec<usize>,
    nowhere: Vec<usize>,
    /// To be counted in memory, because their store does not answer.
    instead: Vec<usize>,
}

impl Counted {
    async fn take_all(&mut self, asked: &mut AskedRules<'_>, now: Timestamp) -> Result<bool, Unavailable> {
        if !look(asked, now, |asked| asked.rule.store.is_none()) {
            return Ok(false);
        }
        let mut stores: Vec<Arc<dyn Backend>> = Vec::new();
        for asked in asked.iter().flatten().filter(|asked| asked.is_enforced()) {
            if let Some(store) = &asked.rule.store
                && !stores.iter().any(|known| Arc::ptr_eq(known, store))
            {
                stores.push(Arc::clone(store));
            }
        }
        for store in stores {
            if !self.take_from(&store, asked, now).await? {
                return Ok(false);
            }
        }
        for (number, asked) in asked.iter_mut().enumerate() {
            let Some(asked) = asked else { continue };
            let here = asked.rule.store.is_none() || self.instead.contains(&number);
            if !asked.is_enforced() || !here {
                continue;
            }
            let decision = asked.rule.limiter.take(asked.key, now);
            asked.decision = Some(decision);
            if decision.retry_after().is_some() {
                // Another request has come between looking and taking.
                return Ok(false);
            }
            self.in_memory.push(number);
        }
        Ok(true)
    }

    /// Asks one store about all of its rules at once.
    async fn take_from(
        &mut self,
        store: &Arc<dyn Backend>,
        asked: &mut AskedRules<'_>,
        now: Timestamp,
    ) -> Result<bool, Unavailable> {
        let numbers: Vec<usize> = asked
            .iter()
            .enumerate()
            .filter_map(|(number, asked)| asked.as_ref().map(|asked| (number, asked)))
            .filter(|(_, asked)| asked.is_enforced() && is_of(asked, store))
            .map(|(number, _)| number)
            .collect();
        let questions = questions(asked, &numbers);
        let answer = patiently(store.as_ref(), store.take(&questions)).await;
        let answer = answer.and_then(|taken| {
            if taken.decisions.len() == questions.len() { Ok(taken) } else { Err(BackendError::InvalidReply) }
        });
        match (answer, store.on_failure()) {
            (Ok(TakeReply { decisions, taken_at: at }), _) => {
                let admitted = decisions.iter().all(|decision| decision.retry_after().is_none());
                for (number, decision) in numbers.iter().zip(decisions) {
                    if let Some(Some(asked)) = asked.get_mut(*number) {
                        asked.decision = Some(decision);
                    }
                }
                if admitted {
                    self.in_store.extend(numbers.into_iter().map(|number| (number, at)));
                }
                Ok(admitted)
            }
            (Err(_), OnFailure::Local) => {
                let admitted = look(asked, now, |asked| is_of(asked, store));
                self.instead.extend(numbers);
                Ok(admitted)
            }
            (Err(_), OnFailure::Allow) => {
                self.nowhere.extend(numbers);
                Ok(true)
            }
            (Err(_), OnFailure::Deny) => {
                for asked in asked.iter().flatten().filter(|asked| is_of(asked, store)) {
                    asked.rule.metrics.record(LimitDecision::FailedClosed);
                }
                Err(Unavailable)
            }
        }
    }

    /// Undoes what was taken before the request was refused.
    async fn give_back(&self, asked: &AskedRules<'_>, now: Timestamp) {
        for number in &self.in_memory {
            if let Some(Some(asked)) = asked.get(*number) {
                asked.rule.limiter.refund(asked.key, now);
            }
        }
        let mut left = self.in_store.clone();
        while let Some((number, at)) = left.first().copied() {
            let Some(store) = asked.get(number).and_then(|it| it.as_ref()?.rule.store.clone()) else {
                return;
            };
            let of_it = |number: usize| matches!(asked.get(number), Some(Some(it)) if is_of(it, &store));
            let (these, others): (Vec<_>, Vec<_>) = left.iter().partition(|(number, _)| of_it(*number));
            let these: Vec<usize> = these.into_iter().map(|(number, _)| number).collect();
            let questions = questions(asked, &these);
            // Without an answer it stays taken, which is the safe side.
            let _ = patiently(store.as_ref(), store.refund(&questions, at)).await;
            left = others;
        }
    }

    /// What is counted for a rule of a store that was asked about a request that passes.
    fn how(&self, number: usize) -> LimitDecision {
        if self.nowhere.contains(&number) { LimitDecision::FailedOpen } else { LimitDecision::Allowed }
    }
}

/// Whether the rule counts in this store.
fn is_of(asked: &Asked<'_>, store: &Arc<dyn Backend>) -> bool {
    asked.rule.store.as_ref().is_some_and(|its| Arc::ptr_eq(its, store))
}

fn questions<'a>(asked: &AskedRules<'a>, numbers: &[usize]) -> Vec<TakeRequest<'a>> {
    let these = numbers.iter().filter_map(|number| asked.get(*number)?.as_ref());
    these.map(|asked| asked.rule.limiter.take_request(asked.key)).collect()
}

/// Whether the enforced rules among these would admit the request by what memory says. All of them are asked.
fn look(asked: &mut AskedRules<'_>, now: Timestamp, these: impl Fn(&Asked<'_>) -> bool) -> bool {
    let mut admitted = true;
    for asked in asked.iter_mut().flatten().filter(|asked| asked.is_enforced() && these(asked)) {
        let decision = asked.rule.limiter.peek(asked.key, now);
        admitted &= decision.retry_after().is_none();
        asked.decision = Some(decision);
    }
    admitted
}

/// A rule that only watches is told of a request that passes.
async fn watch(asked: &Asked<'_>, store: &dyn Backend, now: Timestamp) {
    let question = [asked.rule.limiter.take_request(asked.key)];
    let decided =
        match patiently(store, store.take(&question)).await.as_ref().map(|taken| &taken.decisions[..]) {
            Ok([decision]) => watched(decision),
            Ok(_) | Err(_) => match store.on_failure() {
                OnFailure::Local => watched(&asked.rule.limiter.take(asked.key, now)),
                OnFailure::Allow | OnFailure::Deny => LimitDecision::FailedOpen,
            },
        };
    asked.rule.metrics.record(decided);
}

/// An answer of the store, if it comes in time. A store keeps its time by itself; this holds where it does not.
async fn patiently<T>(
    store: &dyn Backend,
    answer: crate::limit::BackendFuture<'_, T>,
) -> Result<T, BackendError> {
    timeout_at(Instant::now() + store.timeout() + MARGIN, answer).await.unwrap_or(Err(BackendError::Timeout))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
#[path = "stored_tests.rs"]
mod tests;
