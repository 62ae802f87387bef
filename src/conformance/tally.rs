//! Counts what the clients of one gateway saw, and compares it with the gateway's metrics.
//!
//! The one count of events, for `verify` and the tests. Only sums are kept. A case whose events are not known exactly
//! (for example a forwarded response that is read in part) widens the accepted range by its number of events.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use crate::contract::Cause;

use super::case::{ClientFault, ClientProtocol};
use super::runner::RunResult;

/// The counts of one gateway.
#[derive(Debug, Default)]
pub struct Tally(Mutex<Counts>);

#[derive(Clone, Debug, Default)]
struct Counts {
    /// Events by metric and the label that is compared: a status or a cause.
    events: BTreeMap<CheckedMetric, BTreeMap<String, u64>>,
    /// Errors with an unknown cause: from requests before a row's own one, and from rows that did not pass.
    unattributed_errors: u64,
    /// Forwarded responses that were not read to their end.
    unfinished: u64,
    /// Additional events of any kind are accepted.
    allows_extra: bool,
    /// The number of events with an unknown outcome, from rows that were run again.
    unknown: u64,
}

/// The metrics that are compared, one row of the report each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CheckedMetric {
    /// `responses_total`
    Responses,
    /// `errors_total`
    Errors,
    /// `aborted_total`
    Aborted,
    /// `closed_without_response_total`
    ClosedWithoutResponse,
}

impl CheckedMetric {
    /// All metrics.
    pub const ALL: [CheckedMetric; 4] = [
        CheckedMetric::Responses,
        CheckedMetric::Errors,
        CheckedMetric::Aborted,
        CheckedMetric::ClosedWithoutResponse,
    ];

    /// The name without the prefix of the program, the label that is compared, and what the comparison shows.
    const fn row(self) -> (&'static str, &'static str, &'static str) {
        match self {
            CheckedMetric::Responses => {
                ("responses_total", "code", "every response is counted by its status code")
            }
            CheckedMetric::Errors => ("errors_total", "cause", "every error is counted by its cause"),
            CheckedMetric::Aborted => {
                ("aborted_total", "cause", "every truncated response is counted by its cause")
            }
            CheckedMetric::ClosedWithoutResponse => (
                "closed_without_response_total",
                "cause",
                "every connection without a response is counted by its cause",
            ),
        }
    }

    /// The name without the prefix of the program.
    pub const fn name(self) -> &'static str {
        self.row().0
    }

    /// What the comparison shows.
    pub const fn description(self) -> &'static str {
        self.row().2
    }
}

impl Tally {
    /// Records what the client of a case received. After a violation the number of events is not known exactly.
    pub fn record_client_fault(&self, case: &ClientFault, result: &RunResult) {
        if result.violation.is_some() {
            let closes: usize = case.counted().iter().map(|(_, times)| times).sum();
            return self.record_unknown(case.expected.len() + closes + 3);
        }
        self.0.lock().allows_extra |= case.nondeterministic;
        // HTTP/2: the background upload and the follow-up request get 200, errors belong to the case.
        let mut causes = case.expected.iter().filter_map(|expected| expected.error_cause());
        for (index, response) in result.responses.iter().enumerate() {
            let cause = match case.protocol {
                _ if response.status < 400 => None,
                ClientProtocol::Http2 => causes.next(),
                ClientProtocol::Http1 | ClientProtocol::Tls | ClientProtocol::Route => {
                    case.expected.get(index).copied().unwrap_or(case.next()).error_cause()
                }
            };
            self.record_response(response.status, cause.map(Cause::name));
        }
        for cause in case.expected.iter().filter_map(|expected| expected.aborted_cause()) {
            self.record(CheckedMetric::Aborted, cause, 1);
        }
        for (reason, times) in case.counted() {
            self.record(CheckedMetric::ClosedWithoutResponse, reason, times as u64);
        }
    }

    /// Records a final response; `cause` is the cause of an error, if the row defines it.
    pub(crate) fn record_response(&self, status: u16, cause: Option<&'static str>) {
        self.record(CheckedMetric::Responses, &status.to_string(), 1);
        match cause {
            _ if status < 400 => {}
            Some(cause) => self.record(CheckedMetric::Errors, cause, 1),
            None => self.0.lock().unattributed_errors += 1,
        }
    }

    /// Records events with this status or cause.
    pub(crate) fn record(&self, metric: CheckedMetric, label: &str, events: u64) {
        *self.0.lock().events.entry(metric).or_default().entry(label.to_owned()).or_default() += events;
    }

    /// Records that the response was not read to its end.
    pub(crate) fn record_unfinished(&self) {
        self.0.lock().unfinished += 1;
    }

    /// Records this many events with an unknown outcome, for a row that did not pass.
    pub(crate) fn record_unknown(&self, events: usize) {
        self.0.lock().unknown += events as u64;
    }

    /// The total of the recorded events.
    pub fn total(&self, metric: CheckedMetric) -> u64 {
        let counts = self.0.lock();
        let unattributed = if metric == CheckedMetric::Errors { counts.unattributed_errors } else { 0 };
        unattributed + counts.events.get(&metric).map_or(0, |events| events.values().sum())
    }

    /// The differences between the recorded events and the gateway's metrics, a page in the text format.
    pub fn differences(&self, metric: CheckedMetric, page: &str) -> Vec<String> {
        let counts = self.0.lock().clone();
        let counted = sums_by_label(page, metric);
        let mut expected: BTreeMap<String, u64> = BTreeMap::new();
        for (label, count) in counts.events.get(&metric).into_iter().flatten() {
            // A status without its own label is counted under the label of its class.
            let has_class = metric == CheckedMetric::Responses && !counted.contains_key(label);
            let label = if has_class { status_class_label(label) } else { label };
            *expected.entry(label.to_owned()).or_default() += count;
        }
        let slack = match metric {
            CheckedMetric::Errors => counts.unattributed_errors,
            CheckedMetric::Aborted => counts.unfinished,
            CheckedMetric::Responses | CheckedMetric::ClosedWithoutResponse => 0,
        };
        // Events with an unknown outcome may have been counted under any label.
        let slack = if counts.allows_extra { u64::MAX / 2 } else { slack + counts.unknown };
        for label in counted.keys() {
            expected.entry(label.clone()).or_default();
        }
        let count_of = |label: &str| counted.get(label).copied().unwrap_or(0);
        let differs = |label: &str, minimum: u64| !(minimum..=minimum + slack).contains(&count_of(label));
        let differences = expected.iter().filter(|(label, minimum)| differs(label, **minimum));
        let mut differences: Vec<String> = differences
            .map(|(label, minimum)| format!("{label}: expected {minimum}, got {}", count_of(label)))
            .collect();
        let (counted_total, seen) = (counted.values().sum::<u64>(), expected.values().sum::<u64>());
        let maximum = seen + slack;
        let exact = metric == CheckedMetric::Errors && !counts.allows_extra && counts.unknown == 0;
        if differences.is_empty()
            && (counted_total > maximum || counted_total < if exact { maximum } else { seen })
        {
            differences.push(format!("total: expected {maximum}, got {counted_total}"));
        }
        differences
    }
}

/// The label of statuses without their own label.
fn status_class_label(status: &str) -> &'static str {
    match status.as_bytes().first() {
        Some(b'4') => "other_4xx",
        Some(b'5') => "other_5xx",
        Some(_) | None => "other",
    }
}

/// The sums of a metric by the values of its label.
fn sums_by_label(page: &str, metric: CheckedMetric) -> BTreeMap<String, u64> {
    let (name, label, _) = metric.row();
    let (name, key) = (format!("statusquo_{name}"), format!("{label}=\""));
    let mut counts = BTreeMap::new();
    for line in page.lines().filter(|line| line.split('{').next() == Some(&name)) {
        let value = line.rsplit_once(' ').and_then(|(_, value)| value.parse::<f64>().ok());
        let labels = line.split(['{', ',']).filter_map(|part| part.strip_prefix(&*key));
        if let (Some(value), Some(label)) = (value, labels.filter_map(|rest| rest.split('"').next()).next()) {
            *counts.entry(label.to_owned()).or_default() += value as u64;
        }
    }
    counts
}
