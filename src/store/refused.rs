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
const MOST: usize = 16_384;
const SHARDS: usize = 16;
/// So long a refusal is not asked about again.
const FRESH: Duration = Duration::from_secs(1);

/// Rule, quota and key.
type Id = (u64, u128);

#[derive(Clone, Copy, Debug)]
struct Entry {
    /// What the store said.
    decision: QuotaDecision,
    /// And when.
    at: Instant,
    /// When somebody last asked about it.
    asked: Instant,
    /// When the refusal ends of which it was a part.
    until: Instant,
}

/// Refusals of the store that still hold.
#[derive(Debug)]
pub struct Refused(Box<[Mutex<HashMap<Id, Entry>>]>);

impl Default for Refused {
    fn default() -> Self {
        Refused((0..SHARDS).map(|_| Mutex::default()).collect())
    }
}

impl Refused {
    /// What the store would say about all of these keys, if it has refused one of them and need not be asked again yet.
    pub fn told(&self, asks: &[TakeRequest<'_>], now: Instant) -> Option<Vec<QuotaDecision>> {
        let ids: Vec<Id> = asks.iter().map(id).collect();
        // Most requests are not refused: one look is enough for them.
        let entries: Vec<Entry> = ids.iter().map(|id| self.find(id, now)).collect::<Option<_>>()?;
        let stale = |entry: &Entry| now.saturating_duration_since(entry.asked) >= FRESH;
        if entries.iter().any(stale) {
            for id in &ids {
                // Who asks now asks for the others of this second too.
                self.on(id, |entries| {
                    if let Some(entry) = entries.get_mut(id) {
                        entry.asked = now;
                    }
                });
            }
            return None;
        }
        refusal(&entries, now)
    }

    /// The same from a store that does not answer.
    pub fn still(&self, asks: &[TakeRequest<'_>], now: Instant) -> Option<Vec<QuotaDecision>> {
        let entries: Vec<Entry> = asks.iter().map(|ask| self.find(&id(ask), now)).collect::<Option<_>>()?;
        refusal(&entries, now)
    }

    /// The store has decided about these keys.
    pub fn heard(&self, asks: &[TakeRequest<'_>], decisions: &[QuotaDecision], now: Instant) {
        let wait = decisions.iter().filter_map(QuotaDecision::retry_after).max();
        for (ask, decision) in asks.iter().zip(decisions) {
            let id = id(ask);
            self.on(&id, |entries| match wait {
                None => {
                    if !entries.is_empty() {
                        entries.remove(&id);
                    }
                }
                Some(wait) => {
                    if entries.len() >= MOST / SHARDS && !entries.contains_key(&id) {
                        entries.retain(|_, entry| entry.until > now);
                        if entries.len() >= MOST / SHARDS {
                            return;
                        }
                    }
                    let until = now + decision.retry_after().unwrap_or(wait);
                    entries.insert(id, Entry { decision: *decision, at: now, asked: now, until });
                }
            });
        }
    }

    /// These keys may have something again.
    pub fn forget(&self, asks: &[TakeRequest<'_>]) {
        for id in asks.iter().map(id) {
            self.on(&id, |entries| entries.remove(&id));
        }
    }

    fn find(&self, id: &Id, now: Instant) -> Option<Entry> {
        self.on(id, |entries| entries.get(id).copied()).flatten().filter(|entry| entry.until > now)
    }

    fn on<T>(&self, id: &Id, then: impl FnOnce(&mut HashMap<Id, Entry>) -> T) -> Option<T> {
        let shard = self.0.get(id.1 as usize % SHARDS)?;
        Some(then(&mut shard.lock()))
    }
}

fn id(ask: &TakeRequest<'_>) -> Id {
    (script::kind(ask), ask.key.bits())
}

/// The decisions as they are now, if one of them still refuses.
fn refusal(entries: &[Entry], now: Instant) -> Option<Vec<QuotaDecision>> {
    let aged = entries.iter().map(|entry| aged(entry.decision, now.saturating_duration_since(entry.at)));
    let aged: Vec<QuotaDecision> = aged.collect();
    aged.iter().any(|decision| decision.retry_after().is_some()).then_some(aged)
}

fn aged(decision: QuotaDecision, by: Duration) -> QuotaDecision {
    let later = |standing: QuotaState| QuotaState { reset: standing.reset.saturating_sub(by), ..standing };
    match decision {
        QuotaDecision::Allow(standing) => QuotaDecision::Allow(later(standing)),
        QuotaDecision::Deny { quota_state: standing, retry_after } => {
            let retry_after = retry_after.saturating_sub(by).max(Duration::from_nanos(1));
            QuotaDecision::Deny { quota_state: later(standing), retry_after }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::limit::{Algorithm, Key, Quota};

    const SECOND: Duration = Duration::from_secs(1);

    fn ask(rule: &str, key: u128) -> TakeRequest<'_> {
        let quota = Quota::new(10, 60 * SECOND, 10).unwrap();
        TakeRequest { rule, key: Key::from_bits(key), quota, algorithm: Algorithm::Gcra, cost: 1 }
    }

    fn standing(seconds: u32) -> QuotaState {
        QuotaState { limit: 10, remaining: 0, reset: seconds * SECOND }
    }

    fn deny(seconds: u32) -> QuotaDecision {
        QuotaDecision::Deny { quota_state: standing(60), retry_after: seconds * SECOND }
    }

    #[test]
    fn a_refusal_holds_until_its_wait_ends_and_is_asked_about_once_a_second() {
        let (refused, now) = (Refused::default(), Instant::now());
        let asks = [ask("a", 1)];
        assert_eq!(refused.told(&asks, now), None);
        refused.heard(&asks, &[deny(3)], now);
        let half = SECOND / 2;
        let later = QuotaDecision::Deny {
            quota_state: QuotaState { reset: 60 * SECOND - half, ..standing(0) },
            retry_after: 3 * SECOND - half,
        };
        assert_eq!(refused.told(&asks, now + half), Some(vec![later]));
        assert_eq!(refused.told(&asks, now + SECOND), None, "somebody asks again");
        assert!(refused.told(&asks, now + SECOND).is_some(), "and the others wait for that");
        assert!(refused.still(&asks, now + 2 * SECOND).is_some());
        assert_eq!(refused.still(&asks, now + 3 * SECOND), None);
        assert_eq!(refused.told(&asks, now + 3 * SECOND), None);
        assert_eq!(refused.told(&[ask("b", 1)], now), None, "another rule");
        assert_eq!(refused.told(&[ask("a", 2)], now), None, "another key");
    }

    #[test]
    fn an_admission_a_reset_and_a_key_that_is_not_known_end_it() {
        let (refused, now) = (Refused::default(), Instant::now());
        let both = [ask("a", 1), ask("b", 1)];
        refused.heard(&both, &[deny(9), QuotaDecision::Allow(standing(5))], now);
        assert_eq!(refused.told(&both, now).unwrap(), [deny(9), QuotaDecision::Allow(standing(5))]);
        assert_eq!(refused.told(&both[1..], now), None, "who is not refused");
        assert_eq!(refused.told(&[both[0], ask("c", 1)], now), None, "nothing is known of one");
        refused.forget(&both[..1]);
        assert_eq!(refused.still(&both, now), None);
        refused.heard(&both[..1], &[deny(9)], now);
        refused.heard(&both[..1], &[QuotaDecision::Allow(standing(5))], now);
        assert_eq!(refused.still(&both[..1], now), None);
    }

    #[test]
    fn there_are_never_more_than_so_many() {
        let (refused, now) = (Refused::default(), Instant::now());
        for key in 0..3 * MOST as u128 {
            refused.heard(&[ask("a", key)], &[deny(9)], now);
        }
        let held = |refused: &Refused| refused.0.iter().map(|shard| shard.lock().len()).sum::<usize>();
        assert_eq!(held(&refused), MOST);
        let later = now + 10 * SECOND;
        refused.heard(&[ask("a", u128::MAX)], &[deny(9)], later);
        assert!(refused.told(&[ask("a", u128::MAX)], later).is_some(), "what has ended makes room");
    }
}
