//! Whom the store has refused: refused here, without asking, until the wait ends.
//!
//! So a flood of one client costs the store one question a second, and an offender stays refused while the store is gone.
//! Once a second somebody is let through to ask again, because another gateway may have begun the count anew
//! (`reset_on`), or given back. Bounded: where there are too many, the store is asked about the others. Moments are passed
//! in.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::script;
use crate::limit::{QuotaDecision, QuotaState, TakeRequest};

/// So many keys are remembered; of one, 100 bytes.
const MAX_ENTRIES: usize = 16_384;
const SHARDS: usize = 16;
/// So long a refusal is not asked about again.
const RECHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Rule, quota and key.
type EntryId = (u64, u128);

#[derive(Clone, Copy, Debug)]
struct CachedDecision {
    /// What the store said.
    decision: QuotaDecision,
    /// And when.
    decided_at: Instant,
    /// When somebody last asked about it.
    checked_at: Instant,
    /// When the refusal ends of which it was a part.
    expires_at: Instant,
}

/// Refusals of the store that still hold.
#[derive(Debug)]
pub struct DenyCache(Box<[Mutex<HashMap<EntryId, CachedDecision>>]>);

impl Default for DenyCache {
    fn default() -> Self {
        DenyCache((0..SHARDS).map(|_| Mutex::default()).collect())
    }
}

impl DenyCache {
    /// What the store would say about all of these keys, if it has refused one of them and need not be asked again yet.
    pub fn get(&self, requests: &[TakeRequest<'_>], now: Instant) -> Option<Vec<QuotaDecision>> {
        let ids: Vec<EntryId> = requests.iter().map(entry_id).collect();
        // Most requests are not refused: one look is enough for them.
        let entries: Vec<CachedDecision> = ids.iter().map(|id| self.find(id, now)).collect::<Option<_>>()?;
        let stale =
            |entry: &CachedDecision| now.saturating_duration_since(entry.checked_at) >= RECHECK_INTERVAL;
        if entries.iter().any(stale) {
            for id in &ids {
                // Who asks now asks for the others of this second too.
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

    /// The same from a store that does not answer.
    pub fn get_stale(&self, requests: &[TakeRequest<'_>], now: Instant) -> Option<Vec<QuotaDecision>> {
        let entries: Vec<CachedDecision> =
            requests.iter().map(|ask| self.find(&entry_id(ask), now)).collect::<Option<_>>()?;
        denied_decisions(&entries, now)
    }

    /// The store has decided about these keys.
    pub fn update(&self, requests: &[TakeRequest<'_>], decisions: &[QuotaDecision], now: Instant) {
        let wait = decisions.iter().filter_map(QuotaDecision::retry_after).max();
        for (ask, decision) in requests.iter().zip(decisions) {
            let id = entry_id(ask);
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

    /// These keys may have something again.
    pub fn remove(&self, requests: &[TakeRequest<'_>]) {
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

fn entry_id(ask: &TakeRequest<'_>) -> EntryId {
    (script::rule_hash(ask), ask.key.bits())
}

/// The decisions as they are now, if one of them still refuses.
fn denied_decisions(entries: &[CachedDecision], now: Instant) -> Option<Vec<QuotaDecision>> {
    let aged = entries
        .iter()
        .map(|entry| aged_decision(entry.decision, now.saturating_duration_since(entry.decided_at)));
    let aged: Vec<QuotaDecision> = aged.collect();
    aged.iter().any(|decision| decision.retry_after().is_some()).then_some(aged)
}

fn aged_decision(decision: QuotaDecision, by: Duration) -> QuotaDecision {
    let advance = |standing: QuotaState| QuotaState { reset: standing.reset.saturating_sub(by), ..standing };
    match decision {
        QuotaDecision::Allow(standing) => QuotaDecision::Allow(advance(standing)),
        QuotaDecision::Deny { quota_state: standing, retry_after } => {
            let retry_after = retry_after.saturating_sub(by).max(Duration::from_nanos(1));
            QuotaDecision::Deny { quota_state: advance(standing), retry_after }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::limit::{Algorithm, Key, Quota};

    const SECOND: Duration = Duration::from_secs(1);

    fn request(rule: &str, key: u128) -> TakeRequest<'_> {
        let quota = Quota::new(10, 60 * SECOND, 10).unwrap();
        TakeRequest { rule, key: Key::from_bits(key), quota, algorithm: Algorithm::Gcra, cost: 1 }
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
        let asks = [request("a", 1)];
        assert_eq!(cache.get(&asks, now), None);
        cache.update(&asks, &[deny(3)], now);
        let half = SECOND / 2;
        let later = QuotaDecision::Deny {
            quota_state: QuotaState { reset: 60 * SECOND - half, ..quota_state(0) },
            retry_after: 3 * SECOND - half,
        };
        assert_eq!(cache.get(&asks, now + half), Some(vec![later]));
        assert_eq!(cache.get(&asks, now + SECOND), None, "somebody asks again");
        assert!(cache.get(&asks, now + SECOND).is_some(), "and the others wait for that");
        assert!(cache.get_stale(&asks, now + 2 * SECOND).is_some());
        assert_eq!(cache.get_stale(&asks, now + 3 * SECOND), None);
        assert_eq!(cache.get(&asks, now + 3 * SECOND), None);
        assert_eq!(cache.get(&[request("b", 1)], now), None, "another rule");
        assert_eq!(cache.get(&[request("a", 2)], now), None, "another key");
    }

    #[test]
    fn admission_reset_or_unknown_key_ends_a_denial() {
        let (cache, now) = (DenyCache::default(), Instant::now());
        let requests = [request("a", 1), request("b", 1)];
        cache.update(&requests, &[deny(9), QuotaDecision::Allow(quota_state(5))], now);
        assert_eq!(cache.get(&requests, now).unwrap(), [deny(9), QuotaDecision::Allow(quota_state(5))]);
        assert_eq!(cache.get(&requests[1..], now), None, "who is not refused");
        assert_eq!(cache.get(&[requests[0], request("c", 1)], now), None, "nothing is known of one");
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
        assert!(cache.get(&[request("a", u128::MAX)], later).is_some(), "what has ended makes room");
    }
}
