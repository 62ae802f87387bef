//! The rate limits of a snapshot: a limiter for each rule, carried over while its settings are equal.
//!
//! Generates secrets and reads the clock, so that [`crate::limit`] needs neither randomness nor a clock.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::config::RateLimit;
use crate::limit::redis::RedisBackend;
use crate::limit::{Backend, Limiter, Secret, Timestamp};
use crate::telemetry::{LimitMetrics, LimitStats, Metrics};

/// A rule with its state and metric handles.
#[derive(Debug)]
pub(crate) struct RateLimitRule {
    /// The counts in memory. For a rule with a shared backend, used while the backend is unavailable.
    pub limiter: Limiter,
    /// The shared backend, if the rule has one.
    pub backend: Option<Arc<dyn Backend>>,
    /// Metric handles.
    pub metrics: LimitMetrics,
}

/// Converts an instant to a timestamp: the system time when the process started plus the monotonic time since then.
/// Windows are therefore aligned to the Unix epoch, and later changes of the system time do not move them. The start
/// is the same for the whole process, because limiters survive reloads.
pub(crate) fn timestamp(at: Instant) -> Timestamp {
    static START: OnceLock<(Instant, Duration)> = OnceLock::new();
    let (process_start, since_epoch) = *START.get_or_init(|| {
        let now = Instant::now();
        (now, SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
    });
    Timestamp::after_epoch(since_epoch.saturating_add(at.saturating_duration_since(process_start)))
}

/// Returns a rule for each of `limits`, in order: an unchanged one of `previous`, else a new one.
pub(super) fn rules(
    limits: &[RateLimit],
    backends: &[Arc<RedisBackend>],
    previous: &[Arc<RateLimitRule>],
    metrics: &Metrics,
) -> Vec<Arc<RateLimitRule>> {
    timestamp(Instant::now()); // fixes the start
    let rule = |limit: &RateLimit| {
        let name = limit.settings.store.as_deref();
        let backend = name.and_then(|name| backends.iter().find(|backend| backend.name() == name));
        let backend = backend.map(|backend| Arc::clone(backend) as Arc<dyn Backend>);
        let unchanged = |rule: &&Arc<RateLimitRule>| {
            let same_backend = match (&rule.backend, &backend) {
                (Some(left), Some(right)) => Arc::ptr_eq(left, right),
                (None, None) => true,
                (Some(_), None) | (None, Some(_)) => false,
            };
            rule.limiter.name() == limit.name && *rule.limiter.settings() == limit.settings && same_backend
        };
        previous.iter().find(unchanged).cloned().unwrap_or_else(|| new_rule(limit, backend.as_ref(), metrics))
    };
    limits.iter().map(rule).collect()
}

fn new_rule(limit: &RateLimit, backend: Option<&Arc<dyn Backend>>, metrics: &Metrics) -> Arc<RateLimitRule> {
    let secret = backend.map_or_else(
        || {
            let (one, two) = uuid::Uuid::new_v4().as_u64_pair();
            Secret::new([one, two])
        },
        // All gateways that share the backend must hash keys alike.
        |backend| backend.secret(),
    );
    let limiter = Limiter::new(&limit.name, limit.settings.clone(), secret);
    let rule_metrics = metrics.limit(&limit.name, backend.map(|backend| backend.name()));
    let rule = Arc::new(RateLimitRule { limiter, backend: backend.cloned(), metrics: rule_metrics });
    let weak_rule = Arc::downgrade(&rule);
    metrics.register_limit(&limit.name, move || {
        let stats = weak_rule.upgrade()?.limiter.stats(timestamp(Instant::now()));
        Some(LimitStats {
            keys: stats.keys,
            evicted_idle: stats.evicted_idle,
            evicted_active: stats.evicted_active,
        })
    });
    rule
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::*;
    use crate::config;

    fn limits(text: &str) -> Vec<RateLimit> {
        let text = format!(
            "version: 1\nlisten: [{{ address: 127.0.0.1:0 }}]\nupstreams: {{ u: {{ servers: [127.0.0.1:1] }} }}\nrate_limits: {{ {text} }}\nroutes: [{{ name: r, upstream: u }}]\n"
        );
        config::load_str("test.yaml", &text, &|_| None, 1)
            .unwrap_or_else(|problems| panic!("{problems}"))
            .rate_limits
    }

    #[test]
    fn rule_keeps_its_counts_while_name_and_settings_are_equal() {
        let metrics = Metrics::new();
        let before = rules(
            &limits("a: { allow: 1 per 1s }, b: { allow: 1 per 1s }, c: { allow: 1 per 1s }"),
            &[],
            &[],
            &metrics,
        );
        let after = rules(
            &limits("c: { allow: 1 per 1s, burst: 1 }, d: { allow: 1 per 1s }, a: { allow: 2 per 1s }"),
            &[],
            &before,
            &metrics,
        );
        let names: Vec<&str> = after.iter().map(|rule| rule.limiter.name()).collect();
        assert_eq!(names, ["c", "d", "a"]);
        assert!(Arc::ptr_eq(&after[0], &before[2]));
        assert!(!Arc::ptr_eq(&after[2], &before[0]), "its quota changed");
    }
}
