//! Which names of the configuration have series. After a reload removed a name, its gauges disappear at once and its
//! counters and histograms ten minutes later, so that Prometheus scrapes their last values.
//!
//! The prometheus crate keeps a series until it is removed by its labels. They are removed at a scrape: a request of
//! the previous configuration may create a series again.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use prometheus::core::{Collector as _, MetricVec, MetricVecBuilder};

use super::definitions::{MEMORY, NONE};

/// How long counters and histograms of a removed name are exported.
const COUNTER_LIFETIME: Duration = Duration::from_secs(10 * 60);

/// A name of the configuration that is a label value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum SeriesName {
    /// A route.
    Route(String),
    /// An upstream.
    Upstream(String),
    /// A server: its upstream and its label.
    Server(String, String),
    /// A rate limit.
    Rule(String),
    /// A shared rate-limit backend.
    Store(String),
}

impl SeriesName {
    /// Whether this label value also stands for the absence of a name, so that its series are not those of the name
    /// alone.
    fn is_reserved(&self) -> bool {
        match self {
            SeriesName::Route(name) | SeriesName::Upstream(name) => name == NONE,
            SeriesName::Store(name) => name == MEMORY,
            SeriesName::Server(..) | SeriesName::Rule(_) => false,
        }
    }

    /// The names in the labels of a series.
    fn in_labels<'a>(labels: &'a HashMap<&str, &str>) -> impl Iterator<Item = SeriesName> + 'a {
        let name = |label, make: fn(String) -> SeriesName| Some(make((*labels.get(label)?).to_owned()));
        let server = || {
            let (upstream, server) = (labels.get("upstream")?, labels.get("server")?);
            Some(SeriesName::Server((*upstream).to_owned(), (*server).to_owned()))
        };
        [
            name("route", SeriesName::Route),
            name("upstream", SeriesName::Upstream),
            server(),
            name("rule", SeriesName::Rule),
            name("store", SeriesName::Store),
        ]
        .into_iter()
        .flatten()
    }
}

/// The names of the active configuration, and those that reloads have removed.
#[derive(Debug, Default)]
pub(super) struct SeriesNames(Mutex<Names>);

#[derive(Debug, Default)]
struct Names {
    active: BTreeSet<SeriesName>,
    /// Since when. A name stays here until a configuration has it again.
    removed: BTreeMap<SeriesName, Instant>,
}

impl SeriesNames {
    /// Keeps the series of these names from now on. Call it before their handles are resolved: a handle whose series is
    /// removed counts nowhere.
    pub(super) fn keep(&self, names: &BTreeSet<SeriesName>) {
        let mut state = self.lock();
        state.removed.retain(|name, _| !names.contains(name));
        state.active.extend(names.iter().cloned());
    }

    /// Records that the active configuration has exactly these names.
    pub(super) fn activate(&self, names: &BTreeSet<SeriesName>, now: Instant) {
        let mut state = self.lock();
        let Names { active, removed } = &mut *state;
        let previous = std::mem::replace(active, names.clone());
        removed.retain(|name, _| !names.contains(name));
        let gone = previous.into_iter().filter(|name| !names.contains(name) && !name.is_reserved());
        removed.extend(gone.map(|name| (name, now)));
    }

    /// The removed names, unless there are none. `keep` waits until the value is dropped.
    pub(super) fn removed(&self, now: Instant) -> Option<RemovedNames<'_>> {
        let names = self.lock();
        (!names.removed.is_empty()).then_some(RemovedNames { names, now })
    }

    fn lock(&self) -> MutexGuard<'_, Names> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The names that reloads have removed, at one time.
pub(super) struct RemovedNames<'n> {
    names: MutexGuard<'n, Names>,
    now: Instant,
}

impl RemovedNames<'_> {
    /// Whether the name was removed: it has no gauges.
    pub(super) fn contains(&self, name: &SeriesName) -> bool {
        self.names.removed.contains_key(name)
    }

    /// Whether the name has no counters and histograms either.
    pub(super) fn is_expired(&self, name: &SeriesName) -> bool {
        self.names.removed.get(name).is_some_and(|since| self.is_over(*since))
    }

    /// Whether that is so for some name.
    pub(super) fn has_expired(&self) -> bool {
        self.names.removed.values().any(|since| self.is_over(*since))
    }

    fn is_over(&self, since: Instant) -> bool {
        self.now.saturating_duration_since(since) >= COUNTER_LIFETIME
    }
}

/// Removes the series with a name for which `is_removed` returns true.
pub(super) fn remove_series<B: MetricVecBuilder>(
    vector: &MetricVec<B>,
    is_removed: &dyn Fn(&SeriesName) -> bool,
) {
    for family in vector.collect() {
        for series in family.get_metric() {
            let labels: HashMap<&str, &str> =
                series.get_label().iter().map(|label| (label.name(), label.value())).collect();
            if SeriesName::in_labels(&labels).any(|name| is_removed(&name)) {
                // Fails only if the series is gone already.
                let _ = vector.remove(&labels);
            }
        }
    }
}
