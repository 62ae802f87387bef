//! Caches denials of the backend until they expire, so that repeated requests are denied without a call.
//!
//! A flood from one client thus causes one call per second, and denials stay in force while the backend is unavailable.
//! Each entry is checked again once per second, because another gateway may have reset the count (`reset_on`) or
//! refunded a debit. The cache is bounded; keys beyond the bound are not cached. Callers pass the time.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::script;
use crate::limit::{DebitRequest, QuotaDecision, QuotaState};

/// Maximum number of entries, of about 100 bytes each.
const MAX_ENTRIES: usize = 16_384;
const SHARDS: usize = 16;
/// Time after which a cached denial is checked with the backend.
const RECHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Hash of rule and quota, and the key.
type EntryId = (u64, u128);

#[derive(Clone, Copy, Debug)]
struct CachedDecision {
    /// The backend's decision.
    decision: QuotaDecision,
    /// When it was received.
    decided_at: Instant,
    /// When a request last checked it with the backend.
    checked_at: Instant,
    /// When the denial ends that it was part of.
    expires_at: Instant,
}

/// The cache, in shards.
#[derive(Debug)]
pub(crate) struct DenyCache(Box<[Mutex<HashMap<EntryId, CachedDecision>>]>);

impl Default for DenyCache {
    fn default() -> Self {
        DenyCache((0..SHARDS).map(|_| Mutex::default()).collect())
    }
}

impl DenyCache {
    /// The current decisions for these keys, if all are cached, one is a denial, and none needs a check.
    pub(crate) fn get(&self, requests: &[DebitRequest<'_>], now: Instant) -> Option<Vec<QuotaDecision>> {
        let ids: Vec<EntryId> = requests.iter().map(entry_id).collect();
        // Most requests have no entry: the first lookup ends the search.
        let entries: Vec<CachedDecision> = ids.iter().map(|id| self.find(id, now)).collect::<Option<_>>()?;
        let stale =
            |entry: &CachedDecision| now.saturating_duration_since(entry.checked_at) >= RECHECK_INTERVAL;
        if entries.iter().any(stale) {
            for id in &ids {
                // This request checks on behalf of all requests in the next second.
                self.with_shard(id, |entries| {
                    if let Some(entry) = entries.get_mut(id) {
                        entry.checked_at = now;
                    }
                });
            }
            return None;
        }
        denied_decisions(&entries, now)
    }

    /// Like [`DenyCache::get`], but for an unavailable backend: entries that need a check are used too.
    pub(crate) fn get_stale(
        &self,
        requests: &[DebitRequest<'_>],
        now: Instant,
    ) -> Option<Vec<QuotaDecision>> {
        let entries: Vec<CachedDecision> =
            requests.iter().map(|request| self.find(&entry_id(request), now)).collect::<Option<_>>()?;
        denied_decisions(&entries, now)
    }

    /// Records the backend's decisions for these keys.
    pub(crate) fn update(&self, requests: &[DebitRequest<'_>], decisions: &[QuotaDecision], now: Instant) {
        let wait = decisions.iter().filter_map(QuotaDecision::retry_after).max();
        for (request, decision) in requests.iter().zip(decisions) {
            let id = entry_id(request);
            self.with_shard(&id, |entries| match wait {
                None => {
                    if !entries.is_empty() {
                        entries.remove(&id);
                    }
                }
                Some(wait) => {
                    if entries.len() >= MAX_ENTRIES / SHARDS && !entries.contains_key(&id) {
                        entries.retain(|_, entry| entry.expires_at > now);
                        if entries.len() >= MAX_ENTRIES / SHARDS {
                            return;
                        }
                    }
                    let until = now + decision.retry_after().unwrap_or(wait);
                    entries.insert(
                        id,
                        CachedDecision {
                            decision: *decision,
                            decided_at: now,
                            checked_at: now,
                            expires_at: until,
                        },
                    );
                }
            });
        }
    }

    /// Removes the entries of these keys.
    pub(crate) fn remove(&self, requests: &[DebitRequest<'_>]) {
        for id in requests.iter().map(entry_id) {
            self.with_shard(&id, |entries| entries.remove(&id));
        }
    }

    fn find(&self, id: &EntryId, now: Instant) -> Option<CachedDecision> {
        self.with_shard(id, |entries| entries.get(id).copied())
            .flatten()
            .filter(|entry| entry.expires_at > now)
    }

    fn with_shard<T>(
        &self,
        id: &EntryId,
        operation: impl FnOnce(&mut HashMap<EntryId, CachedDecision>) -> T,
    ) -> Option<T> {
        let shard = self.0.get(id.1 as usize % SHARDS)?;
        Some(operation(&mut shard.lock()))
    }
}

fn entry_id(request: &DebitRequest<'_>) -> EntryId {
    (script::rule_hash(request), request.key.bits())
}

/// The decisions adjusted to `now`, if one of them is still a denial.
fn denied_decisions(entries: &[CachedDecision], now: Instant) -> Option<Vec<QuotaDecision>> {
    let aged = entries
        .iter()
        .map(|entry| aged_decision(entry.decision, now.saturating_duration_since(entry.decided_at)));
    let aged: Vec<QuotaDecision> = aged.collect();
    aged.iter().any(|decision| decision.retry_after().is_some()).then_some(aged)
}

fn aged_decision(decision: QuotaDecision, by: Duration) -> QuotaDecision {
    let advance = |state: QuotaState| QuotaState { reset: state.reset.saturating_sub(by), ..state };
    match decision {
        QuotaDecision::Allow(state) => QuotaDecision::Allow(advance(state)),
        QuotaDecision::Deny { quota_state, retry_after } => {
            let retry_after = retry_after.saturating_sub(by).max(Duration::from_nanos(1));
            QuotaDecision::Deny { quota_state: advance(quota_state), retry_after }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::limit::{Algorithm, Key, Quota};

    const SECOND: Duration = Duration::from_secs(1);

    fn request(rule: &str, key: u128) -> DebitRequest<'_> {
        let quota = Quota::new(10, 60 * SECOND, 10).unwrap();
        DebitRequest { rule, key: Key::from_bits(key), quota, algorithm: Algorithm::Gcra, cost: 1 }
    }

    fn quota_state(seconds: u32) -> QuotaState {
        QuotaState { limit: 10, remaining: 0, reset: seconds * SECOND }
    }

    fn deny(seconds: u32) -> QuotaDecision {
        QuotaDecision::Deny { quota_state: quota_state(60), retry_after: seconds * SECOND }
    }

    #[test]
    fn denial_is_cached_and_rechecked_every_second() {
        let (cache, now) = (DenyCache::default(), Instant::now());
        let requests = [request("a", 1)];
        assert_eq!(cache.get(&requests, now), None);
        cache.update(&requests, &[deny(3)], now);
        let half = SECOND / 2;
        let later = QuotaDecision::Deny {
            quota_state: QuotaState { reset: 60 * SECOND - half, ..quota_state(0) },
            retry_after: 3 * SECOND - half,
        };
        assert_eq!(cache.get(&requests, now + half), Some(vec![later]));
        assert_eq!(cache.get(&requests, now + SECOND), None, "the entry needs a check");
        assert!(cache.get(&requests, now + SECOND).is_some(), "one check per second");
        assert!(cache.get_stale(&requests, now + 2 * SECOND).is_some());
        assert_eq!(cache.get_stale(&requests, now + 3 * SECOND), None);
        assert_eq!(cache.get(&requests, now + 3 * SECOND), None);
        assert_eq!(cache.get(&[request("b", 1)], now), None, "another rule");
        assert_eq!(cache.get(&[request("a", 2)], now), None, "another key");
    }

    #[test]
    fn admission_reset_or_unknown_key_ends_a_denial() {
        let (cache, now) = (DenyCache::default(), Instant::now());
        let requests = [request("a", 1), request("b", 1)];
        cache.update(&requests, &[deny(9), QuotaDecision::Allow(quota_state(5))], now);
        assert_eq!(cache.get(&requests, now).unwrap(), [deny(9), QuotaDecision::Allow(quota_state(5))]);
        assert_eq!(cache.get(&requests[1..], now), None, "allowed");
        assert_eq!(cache.get(&[requests[0], request("c", 1)], now), None, "one key is not cached");
        cache.remove(&requests[..1]);
        assert_eq!(cache.get_stale(&requests, now), None);
        cache.update(&requests[..1], &[deny(9)], now);
        cache.update(&requests[..1], &[QuotaDecision::Allow(quota_state(5))], now);
        assert_eq!(cache.get_stale(&requests[..1], now), None);
    }

    #[test]
    fn cache_size_is_bounded() {
        let (cache, now) = (DenyCache::default(), Instant::now());
        for key in 0..3 * MAX_ENTRIES as u128 {
            cache.update(&[request("a", key)], &[deny(9)], now);
        }
        let size = |cache: &DenyCache| cache.0.iter().map(|shard| shard.lock().len()).sum::<usize>();
        assert_eq!(size(&cache), MAX_ENTRIES);
        let later = now + 10 * SECOND;
        cache.update(&[request("a", u128::MAX)], &[deny(9)], later);
        assert!(cache.get(&[request("a", u128::MAX)], later).is_some(), "expired entries make room");
    }
}
