//! The handles of one rate limit, and the figures that are read from the limiters at scrape time.
//!
//! Counting is all it does. What a limiter holds is asked through a function that others give; it knows no limiter.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use prometheus::{Histogram, IntCounter};

use super::handle_cache::DenseHandles;
use super::metrics::{Metrics, Vectors};

/// The label of rules that count in the process's own memory.
const MEMORY: &str = "memory";

/// What a rule said about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitDecision {
    /// The request was admitted and counted.
    Allowed,
    /// It was refused.
    Denied,
    /// It was admitted although it was one too many, because the rule only watches.
    ShadowDenied,
    /// It was admitted uncounted, because the store did not answer.
    FailedOpen,
    /// It was refused, because the store did not answer.
    FailedClosed,
}

impl LimitDecision {
    const COUNT: usize = 5;

    /// The value of the label.
    pub const fn name(self) -> &'static str {
        match self {
            LimitDecision::Allowed => "allowed",
            LimitDecision::Denied => "denied",
            LimitDecision::ShadowDenied => "shadow_denied",
            LimitDecision::FailedOpen => "failed_open",
            LimitDecision::FailedClosed => "failed_closed",
        }
    }
}

/// What is counted for one rule.
#[derive(Debug)]
pub struct LimitMetrics {
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

    /// The rule has decided about a request.
    pub fn record(&self, decision: LimitDecision) {
        self.decisions.with(
            decision as usize,
            || self.vectors.limit_decisions.with_label_values(&[&*self.rule, &*self.store, decision.name()]),
            IntCounter::inc,
        );
    }
}

/// What is counted for one store. Everything is there at 0 from the start.
#[derive(Debug)]
pub struct StoreMetrics {
    duration: Histogram,
    errors: Vec<(&'static str, IntCounter)>,
}

impl StoreMetrics {
    /// A question took so long.
    pub fn record_duration(&self, time: Duration) {
        self.duration.observe(time.as_secs_f64());
    }

    /// And had no answer of use, for a reason of this kind.
    pub fn record_error(&self, kind: &'static str) {
        if let Some((_, errors)) = self.errors.iter().find(|(known, _)| *known == kind) {
            errors.inc();
        }
    }
}

/// What a limiter holds, and how many keys it has let go since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LimitStats {
    /// Keys that are being limited now.
    pub keys: u64,
    /// Keys that made room when they owed nothing any more.
    pub evicted_idle: u64,
    /// Keys that made room although they still owed something.
    pub evicted_active: u64,
}

/// A limiter that is asked at every scrape, until it answers `None`: then it is gone.
pub(crate) struct LimitSource {
    rule: String,
    read: Box<dyn Fn() -> Option<LimitStats> + Send + Sync>,
    reported: LimitStats,
}

impl fmt::Debug for LimitSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watched")
            .field("rule", &self.rule)
            .field("counted", &self.reported)
            .finish_non_exhaustive()
    }
}

impl Metrics {
    /// The handles of one rule that counts in a store, or in memory. Resolve once per limiter.
    pub fn limit(&self, rule: &str, store: Option<&str>) -> LimitMetrics {
        LimitMetrics::new(Arc::clone(&self.vectors), rule, store)
    }

    /// The handles of one store, which fails in these ways. Resolve once per store.
    pub fn store(&self, name: &str, kinds: impl Iterator<Item = &'static str>) -> StoreMetrics {
        let errors = |kind| (kind, self.vectors.store_errors.with_label_values(&[name, kind]));
        StoreMetrics {
            duration: self.vectors.store_duration.with_label_values(&[name]),
            errors: kinds.map(errors).collect(),
        }
    }

    /// From now on, `read` is asked at every scrape, until it answers `None`. Several limiters of one rule, while a
    /// reload is under way, are summed up.
    pub fn register_limit(&self, rule: &str, read: impl Fn() -> Option<LimitStats> + Send + Sync + 'static) {
        let source =
            LimitSource { rule: rule.to_owned(), read: Box::new(read), reported: LimitStats::default() };
        self.limits.lock().unwrap_or_else(PoisonError::into_inner).push(source);
    }

    /// Brings gauges and counters of the limiters up to date.
    pub(super) fn collect_limits(&self) {
        let mut limits = self.limits.lock().unwrap_or_else(PoisonError::into_inner);
        let mut keys: BTreeMap<String, Option<u64>> = BTreeMap::new();
        limits.retain_mut(|source| {
            let sum = keys.entry(source.rule.clone()).or_default();
            let Some(stats) = (source.read)() else { return false };
            *sum = Some(sum.unwrap_or_default() + stats.keys);
            let evicted = |kind, now: u64, before: u64| {
                if now > before {
                    let labels = [source.rule.as_str(), kind];
                    self.vectors.limit_evictions.with_label_values(&labels).inc_by(now - before);
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
                    self.vectors.limit_keys.with_label_values(&[rule.as_str()]).set(keys);
                }
                // It may never have been read.
                None => drop(self.vectors.limit_keys.remove_label_values(&[rule.as_str()])),
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Mutex;

    use super::*;

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
                "evictions_total{kind=\"idle\",rule=\"per_ip\"} 5",
                "evictions_total{kind=\"active\",rule=\"per_ip\"} 1",
                "keys{rule=\"per_ip\"} 4"
            ]
        );
    }

    #[test]
    fn store_errors_start_at_zero_by_kind() {
        let metrics = Metrics::new();
        let store = metrics.store("shared", ["timeout", "invalid_reply"].into_iter());
        store.record_duration(Duration::from_millis(3));
        store.record_error("invalid_reply");
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
    fn dropped_limiter_disappears_its_replacement_stays() {
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
