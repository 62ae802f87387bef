//! Metric handles of one rate limit and one rate-limit backend, and the statistics read from the limiters at scrape
//! time.
//!
//! Each limiter registers a function that returns its statistics; this file does not depend on the limiter's types.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus::{Histogram, IntCounter};

use super::definitions::MEMORY;
use super::handle_cache::DenseHandles;
use super::vectors::Vectors;

/// The decision of one rule about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LimitDecision {
    /// The request was admitted and counted.
    Allowed,
    /// The request was denied.
    Denied,
    /// The request exceeded the limit but was admitted, because the rule is in mode `shadow`.
    ShadowDenied,
    /// The request was admitted without counting, because the backend was unavailable.
    FailedOpen,
    /// The request was denied, because the backend was unavailable.
    FailedClosed,
}

impl LimitDecision {
    const COUNT: usize = 5;

    /// The value of the label.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            LimitDecision::Allowed => "allowed",
            LimitDecision::Denied => "denied",
            LimitDecision::ShadowDenied => "shadow_denied",
            LimitDecision::FailedOpen => "failed_open",
            LimitDecision::FailedClosed => "failed_closed",
        }
    }
}

/// The counters of one rule.
#[derive(Debug)]
pub(crate) struct LimitMetrics {
    vectors: Arc<Vectors>,
    rule: Box<str>,
    store: Box<str>,
    decisions: DenseHandles<IntCounter>,
}

impl LimitMetrics {
    pub(crate) fn new(vectors: Arc<Vectors>, rule: &str, store: Option<&str>) -> Self {
        let store = store.unwrap_or(MEMORY).into();
        LimitMetrics { vectors, rule: rule.into(), store, decisions: DenseHandles::new(LimitDecision::COUNT) }
    }

    /// Counts one decision.
    pub(crate) fn record(&self, decision: LimitDecision) {
        self.decisions.with(
            decision as usize,
            || self.vectors.limit_decisions.with_label_values(&[&*self.rule, &*self.store, decision.name()]),
            IntCounter::inc,
        );
    }
}

/// The metrics of one rate-limit backend, all exported as 0 from the start.
#[derive(Debug)]
pub(crate) struct BackendMetrics {
    duration: Histogram,
    errors: Vec<(&'static str, IntCounter)>,
}

impl BackendMetrics {
    pub(super) fn new(vectors: &Vectors, name: &str, kinds: impl Iterator<Item = &'static str>) -> Self {
        let errors = |kind| (kind, vectors.store_errors.with_label_values(&[name, kind]));
        BackendMetrics {
            duration: vectors.store_duration.with_label_values(&[name]),
            errors: kinds.map(errors).collect(),
        }
    }

    /// Records the duration of one call.
    pub(crate) fn record_duration(&self, time: Duration) {
        self.duration.observe(time.as_secs_f64());
    }

    /// Counts one failed call. Ignores a kind that was not passed to [`BackendMetrics::new`].
    pub(crate) fn record_error(&self, kind: &'static str) {
        if let Some((_, errors)) = self.errors.iter().find(|(known, _)| *known == kind) {
            errors.inc();
        }
    }
}

/// Statistics of a limiter: its current keys, and its evictions since it was created.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LimitStats {
    /// Active keys (quota not fully replenished).
    pub keys: u64,
    /// Evicted keys whose quota was fully replenished.
    pub evicted_idle: u64,
    /// Evicted keys that were still active.
    pub evicted_active: u64,
}

/// One registered limiter. Read at every scrape, until `read` returns `None` because the limiter was dropped.
struct LimitSource {
    rule: String,
    read: Box<dyn Fn() -> Option<LimitStats> + Send + Sync>,
    reported: LimitStats,
}

impl fmt::Debug for LimitSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LimitSource")
            .field("rule", &self.rule)
            .field("reported", &self.reported)
            .finish_non_exhaustive()
    }
}

/// The registered limiters.
#[derive(Debug, Default)]
pub(super) struct LimitSources(Mutex<Vec<LimitSource>>);

impl LimitSources {
    /// Adds a limiter.
    pub(super) fn register(&self, rule: &str, read: impl Fn() -> Option<LimitStats> + Send + Sync + 'static) {
        let source =
            LimitSource { rule: rule.to_owned(), read: Box::new(read), reported: LimitStats::default() };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(source);
    }

    /// Updates the gauges and counters of all registered limiters.
    pub(super) fn collect(&self, vectors: &Vectors) {
        let mut limits = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut keys: BTreeMap<String, Option<u64>> = BTreeMap::new();
        limits.retain_mut(|source| {
            let sum = keys.entry(source.rule.clone()).or_default();
            let Some(stats) = (source.read)() else { return false };
            *sum = Some(sum.unwrap_or_default() + stats.keys);
            let evicted = |kind, now: u64, before: u64| {
                if now > before {
                    let labels = [source.rule.as_str(), kind];
                    vectors.limit_evictions.with_label_values(&labels).inc_by(now - before);
                }
            };
            evicted("idle", stats.evicted_idle, source.reported.evicted_idle);
            evicted("active", stats.evicted_active, source.reported.evicted_active);
            source.reported = stats;
            true
        });
        for (rule, keys) in keys {
            match keys {
                Some(keys) => {
                    let keys = i64::try_from(keys).unwrap_or(i64::MAX);
                    vectors.limit_keys.with_label_values(&[rule.as_str()]).set(keys);
                }
                // Fails if no scrape has exported the series; nothing to remove then.
                None => drop(vectors.limit_keys.remove_label_values(&[rule.as_str()])),
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::telemetry::Metrics;

    fn lines(metrics: &Metrics) -> Vec<String> {
        let page = String::from_utf8(metrics.render()).unwrap();
        let mut lines: Vec<String> = page
            .lines()
            .filter_map(|line| line.strip_prefix("statusquo_rate_limit_"))
            .map(str::to_owned)
            .collect();
        lines.sort();
        lines
    }

    #[test]
    fn decisions_are_counted_and_stats_are_read_at_scrape() {
        let metrics = Metrics::new();
        let limit = metrics.limit("per_ip", None);
        limit.record(LimitDecision::Allowed);
        limit.record(LimitDecision::Allowed);
        limit.record(LimitDecision::ShadowDenied);
        let current = Arc::new(Mutex::new(Some(LimitStats { keys: 7, evicted_idle: 2, evicted_active: 0 })));
        let read = Arc::clone(&current);
        metrics.register_limit("per_ip", move || *read.lock().unwrap());
        metrics.register_limit("per_ip", || Some(LimitStats { keys: 1, ..LimitStats::default() }));
        for _ in 0..2 {
            let expected = [
                "decisions_total{decision=\"allowed\",rule=\"per_ip\",store=\"memory\"} 2",
                "decisions_total{decision=\"shadow_denied\",rule=\"per_ip\",store=\"memory\"} 1",
                "evictions_total{kind=\"idle\",rule=\"per_ip\"} 2",
                "keys{rule=\"per_ip\"} 8",
            ];
            assert_eq!(lines(&metrics), expected);
        }
        *current.lock().unwrap() = Some(LimitStats { keys: 3, evicted_idle: 5, evicted_active: 1 });
        assert_eq!(
            lines(&metrics).get(2..).unwrap(),
            [
                "evictions_total{kind=\"active\",rule=\"per_ip\"} 1",
                "evictions_total{kind=\"idle\",rule=\"per_ip\"} 5",
                "keys{rule=\"per_ip\"} 4"
            ]
        );
    }

    #[test]
    fn store_errors_start_at_zero_by_kind() {
        let metrics = Metrics::new();
        let backend = metrics.backend("shared", ["timeout", "invalid_reply"].into_iter());
        backend.record_duration(Duration::from_millis(3));
        backend.record_error("invalid_reply");
        let lines = lines(&metrics);
        for line in [
            "store_duration_seconds_bucket{store=\"shared\",le=\"0.0025\"} 0",
            "store_duration_seconds_bucket{store=\"shared\",le=\"0.005\"} 1",
            "store_errors_total{kind=\"invalid_reply\",store=\"shared\"} 1",
            "store_errors_total{kind=\"timeout\",store=\"shared\"} 0",
        ] {
            assert!(lines.iter().any(|actual| actual == line), "{line}: {lines:#?}");
        }
    }

    #[test]
    fn series_of_a_dropped_limiter_disappears_unless_replaced() {
        let metrics = Metrics::new();
        let limiter = Arc::new(());
        for rule in ["kept", "gone"] {
            let limiter = Arc::downgrade(&limiter);
            metrics.register_limit(rule, move || limiter.upgrade().map(|_| LimitStats::default()));
        }
        metrics.register_limit("kept", || Some(LimitStats::default()));
        assert_eq!(lines(&metrics), ["keys{rule=\"gone\"} 0", "keys{rule=\"kept\"} 0"]);
        drop(limiter);
        assert_eq!(lines(&metrics), ["keys{rule=\"kept\"} 0"]);
    }
}
