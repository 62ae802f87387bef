//! What the rehearsal's clients got from one gateway, and whether the gateway has counted the same.
//!
//! Only sums: which row a figure comes from is told by the row. What cannot be known of a row (a response that is let
//! through and left in the middle) makes a bound looser, and says how many times; nothing else does.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use crate::telemetry::Metrics;

/// The sums of one gateway.
#[derive(Debug, Default)]
pub(super) struct ObservedCounts(Mutex<Counts>);

#[derive(Clone, Debug, Default)]
struct Counts {
    /// Final responses by status.
    responses: BTreeMap<u16, u64>,
    /// Errors by the cause that their rows expect.
    errors: BTreeMap<&'static str, u64>,
    /// Errors of which no row says the cause: requests before a row's own, and rows that came out otherwise.
    unattributed_errors: u64,
    /// Cut responses, by cause.
    truncated: BTreeMap<&'static str, u64>,
    /// Responses that pass whatever they are, and did not come to their end here.
    unfinished: u64,
    /// Connections without an answer, by cause.
    closed_without_response: BTreeMap<&'static str, u64>,
    /// Anything may have been counted beside what is known.
    allows_extra: bool,
    /// Of so many events nobody knows what became of them: rows that were played again.
    unknown: u64,
}

/// What is compared, one row of the report each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CheckedMetric {
    Responses,
    Errors,
    Aborted,
    ClosedWithoutResponse,
}

impl CheckedMetric {
    pub(super) const ALL: [CheckedMetric; 4] = [
        CheckedMetric::Responses,
        CheckedMetric::Errors,
        CheckedMetric::Aborted,
        CheckedMetric::ClosedWithoutResponse,
    ];

    /// The metric and its label.
    const fn family_and_label(self) -> (&'static str, &'static str) {
        match self {
            CheckedMetric::Responses => ("statusquo_responses_total", "code"),
            CheckedMetric::Errors => ("statusquo_errors_total", "cause"),
            CheckedMetric::Aborted => ("statusquo_aborted_total", "cause"),
            CheckedMetric::ClosedWithoutResponse => ("statusquo_closed_without_response_total", "cause"),
        }
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            CheckedMetric::Responses => "responses_total",
            CheckedMetric::Errors => "errors_total",
            CheckedMetric::Aborted => "aborted_total",
            CheckedMetric::ClosedWithoutResponse => "closed_without_response_total",
        }
    }

    pub(super) const fn description(self) -> &'static str {
        match self {
            CheckedMetric::Responses => "every response is counted under its status",
            CheckedMetric::Errors => "every error is counted under its cause",
            CheckedMetric::Aborted => "every response that broke off is counted under its cause",
            CheckedMetric::ClosedWithoutResponse => {
                "every connection without an answer is counted under its cause"
            }
        }
    }
}

impl ObservedCounts {
    /// A final response was read; `cause` is why it is an error, where a row says that.
    pub(super) fn record_response(&self, status: u16, cause: Option<&'static str>) {
        let mut counts = self.0.lock();
        *counts.responses.entry(status).or_default() += 1;
        if status >= 400 {
            match cause {
                Some(cause) => *counts.errors.entry(cause).or_default() += 1,
                None => counts.unattributed_errors += 1,
            }
        }
    }

    /// And was visibly cut.
    pub(super) fn record_truncated(&self, cause: &'static str) {
        *self.0.lock().truncated.entry(cause).or_default() += 1;
    }

    /// And was not read to its end, or came to an end that is the upstream's own affair.
    pub(super) fn record_unfinished(&self) {
        self.0.lock().unfinished += 1;
    }

    /// A connection ended without an answer.
    pub(super) fn record_close(&self, cause: &'static str) {
        *self.0.lock().closed_without_response.entry(cause).or_default() += 1;
    }

    /// More happened than was seen: from now on only less than that is a difference.
    pub(super) fn allow_extra(&self) {
        self.0.lock().allows_extra = true;
    }

    /// Of a row that came out otherwise, so many events: what the gateway counted for them cannot be said.
    pub(super) fn record_unknown(&self, events: usize) {
        self.0.lock().unknown += events as u64;
    }

    /// Everything that is known, in all.
    pub(super) fn total(&self, metric: CheckedMetric) -> u64 {
        let counts = self.0.lock();
        match metric {
            CheckedMetric::Responses => counts.responses.values().sum(),
            CheckedMetric::Errors => counts.responses.range(400..).map(|(_, count)| count).sum(),
            CheckedMetric::Aborted => counts.truncated.values().sum(),
            CheckedMetric::ClosedWithoutResponse => counts.closed_without_response.values().sum(),
        }
    }

    /// What the gateway has counted otherwise; nothing when all agrees.
    pub(super) fn differences(&self, metric: CheckedMetric, metrics: &Metrics) -> Vec<String> {
        let counts = self.0.lock().clone();
        let counted = sums_by_label(metrics, metric.family_and_label());
        let (mut expected, slack): (BTreeMap<String, u64>, u64) = match metric {
            CheckedMetric::Responses => {
                // A status without a label of its own stands in the sum of its kind.
                let mut by_label = BTreeMap::new();
                for (status, count) in &counts.responses {
                    let status_label = status.to_string();
                    let label = if counted.contains_key(&status_label) {
                        status_label
                    } else {
                        status_class_label(*status).to_owned()
                    };
                    *by_label.entry(label).or_default() += count;
                }
                (by_label, 0)
            }
            CheckedMetric::Errors => (with_owned_names(&counts.errors), counts.unattributed_errors),
            CheckedMetric::Aborted => (with_owned_names(&counts.truncated), counts.unfinished),
            CheckedMetric::ClosedWithoutResponse => (with_owned_names(&counts.closed_without_response), 0),
        };
        // What was lost may have been counted, under any name.
        let slack = if counts.allows_extra { u64::MAX / 2 } else { slack + counts.unknown };
        for label in counted.keys() {
            expected.entry(label.clone()).or_default();
        }
        let count_of = |label: &str| counted.get(label).copied().unwrap_or(0);
        let differs = |label: &str, minimum: u64| !(minimum..=minimum + slack).contains(&count_of(label));
        let differences = expected.iter().filter(|(label, minimum)| differs(label, **minimum));
        let mut differences: Vec<String> = differences
            .map(|(label, minimum)| format!("{label}: {} counted, {minimum} seen", count_of(label)))
            .collect();
        let (counted_total, seen) = (counted.values().sum::<u64>(), expected.values().sum::<u64>());
        let maximum = seen + slack;
        let exact = metric == CheckedMetric::Errors && !counts.allows_extra && counts.unknown == 0;
        if differences.is_empty()
            && (counted_total > maximum || counted_total < if exact { maximum } else { seen })
        {
            differences.push(format!("in all {counted_total} counted, {maximum} seen"));
        }
        differences
    }
}

fn with_owned_names(counts: &BTreeMap<&'static str, u64>) -> BTreeMap<String, u64> {
    counts.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
}

/// The label of statuses that have none of their own.
const fn status_class_label(status: u16) -> &'static str {
    match status {
        400..=499 => "other_4xx",
        500..=599 => "other_5xx",
        _ => "other",
    }
}

/// The sums of a metric over this label.
fn sums_by_label(metrics: &Metrics, (name, label): (&str, &str)) -> BTreeMap<String, u64> {
    let page = String::from_utf8(metrics.render()).unwrap_or_default();
    let key = format!("{label}=\"");
    let mut counts = BTreeMap::new();
    for line in page.lines().filter(|line| line.split('{').next() == Some(name)) {
        let value = line.rsplit_once(' ').and_then(|(_, value)| value.parse::<f64>().ok());
        let labels = line.split(['{', ',']).filter_map(|part| part.strip_prefix(&*key));
        if let (Some(value), Some(label)) = (value, labels.filter_map(|rest| rest.split('"').next()).next()) {
            *counts.entry(label.to_owned()).or_default() += value as u64;
        }
    }
    counts
}
