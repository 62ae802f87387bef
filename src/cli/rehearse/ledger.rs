//! What the rehearsal's clients got from one gateway, and whether the gateway has counted the same.
//!
//! Only sums: which row a figure comes from is told by the row. What cannot be known of a row (a response that is let
//! through and left in the middle) makes a bound looser, and says how many times; nothing else does.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use crate::observe::Metrics;

/// The sums of one gateway.
#[derive(Debug, Default)]
pub(super) struct Ledger(Mutex<Sums>);

#[derive(Clone, Debug, Default)]
struct Sums {
    /// Final responses by status.
    answers: BTreeMap<u16, u64>,
    /// Errors by the cause that their rows expect.
    errors: BTreeMap<&'static str, u64>,
    /// Errors of which no row says the cause: requests before a row's own, and rows that came out otherwise.
    other_errors: u64,
    /// Cut responses, by cause.
    cut: BTreeMap<&'static str, u64>,
    /// Responses that pass whatever they are, and did not come to their end here.
    left: u64,
    /// Connections without an answer, by cause.
    silent: BTreeMap<&'static str, u64>,
    /// Anything may have been counted beside what is known.
    more: bool,
    /// Of so many events nobody knows what became of them: rows that were played again.
    lost: u64,
}

/// What is compared, one row of the report each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Account {
    Responses,
    Errors,
    Aborts,
    Silences,
}

impl Account {
    pub(super) const ALL: [Account; 4] =
        [Account::Responses, Account::Errors, Account::Aborts, Account::Silences];

    /// The metric and its label.
    const fn metric(self) -> (&'static str, &'static str) {
        match self {
            Account::Responses => ("statusquo_responses_total", "code"),
            Account::Errors => ("statusquo_errors_total", "cause"),
            Account::Aborts => ("statusquo_aborted_total", "cause"),
            Account::Silences => ("statusquo_closed_without_response_total", "cause"),
        }
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Account::Responses => "responses_total",
            Account::Errors => "errors_total",
            Account::Aborts => "aborted_total",
            Account::Silences => "closed_without_response_total",
        }
    }

    pub(super) const fn meaning(self) -> &'static str {
        match self {
            Account::Responses => "every response is counted under its status",
            Account::Errors => "every error is counted under its cause",
            Account::Aborts => "every response that broke off is counted under its cause",
            Account::Silences => "every connection without an answer is counted under its cause",
        }
    }
}

impl Ledger {
    /// A final response was read; `cause` is why it is an error, where a row says that.
    pub(super) fn answer(&self, status: u16, cause: Option<&'static str>) {
        let mut sums = self.0.lock();
        *sums.answers.entry(status).or_default() += 1;
        if status >= 400 {
            match cause {
                Some(cause) => *sums.errors.entry(cause).or_default() += 1,
                None => sums.other_errors += 1,
            }
        }
    }

    /// And was visibly cut.
    pub(super) fn cut(&self, cause: &'static str) {
        *self.0.lock().cut.entry(cause).or_default() += 1;
    }

    /// And was not read to its end, or came to an end that is the upstream's own affair.
    pub(super) fn left(&self) {
        self.0.lock().left += 1;
    }

    /// A connection ended without an answer.
    pub(super) fn silent(&self, cause: &'static str) {
        *self.0.lock().silent.entry(cause).or_default() += 1;
    }

    /// More happened than was seen: from now on only less than that is a difference.
    pub(super) fn more(&self) {
        self.0.lock().more = true;
    }

    /// Of a row that came out otherwise, so many events: what the gateway counted for them cannot be said.
    pub(super) fn lost(&self, events: usize) {
        self.0.lock().lost += events as u64;
    }

    /// Everything that is known, in all.
    pub(super) fn total(&self, account: Account) -> u64 {
        let sums = self.0.lock();
        match account {
            Account::Responses => sums.answers.values().sum(),
            Account::Errors => sums.answers.range(400..).map(|(_, count)| count).sum(),
            Account::Aborts => sums.cut.values().sum(),
            Account::Silences => sums.silent.values().sum(),
        }
    }

    /// What the gateway has counted otherwise; nothing when all agrees.
    pub(super) fn differences(&self, account: Account, metrics: &Metrics) -> Vec<String> {
        let sums = self.0.lock().clone();
        let counted = series(metrics, account.metric());
        let (mut expected, slack): (BTreeMap<String, u64>, u64) = match account {
            Account::Responses => {
                // A status without a label of its own stands in the sum of its kind.
                let mut by_label = BTreeMap::new();
                for (status, count) in &sums.answers {
                    let own = status.to_string();
                    let label = if counted.contains_key(&own) { own } else { kind(*status).to_owned() };
                    *by_label.entry(label).or_default() += count;
                }
                (by_label, 0)
            }
            Account::Errors => (named(&sums.errors), sums.other_errors),
            Account::Aborts => (named(&sums.cut), sums.left),
            Account::Silences => (named(&sums.silent), 0),
        };
        // What was lost may have been counted, under any name.
        let slack = if sums.more { u64::MAX / 2 } else { slack + sums.lost };
        for label in counted.keys() {
            expected.entry(label.clone()).or_default();
        }
        let of = |label: &str| counted.get(label).copied().unwrap_or(0);
        let differs = |label: &str, least: u64| !(least..=least + slack).contains(&of(label));
        let wrong = expected.iter().filter(|(label, least)| differs(label, **least));
        let mut wrong: Vec<String> =
            wrong.map(|(label, least)| format!("{label}: {} counted, {least} seen", of(label))).collect();
        let (all, seen) = (counted.values().sum::<u64>(), expected.values().sum::<u64>());
        let most = seen + slack;
        let exact = account == Account::Errors && !sums.more && sums.lost == 0;
        if wrong.is_empty() && (all > most || all < if exact { most } else { seen }) {
            wrong.push(format!("in all {all} counted, {most} seen"));
        }
        wrong
    }
}

fn named(sums: &BTreeMap<&'static str, u64>) -> BTreeMap<String, u64> {
    sums.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
}

/// The label of statuses that have none of their own.
const fn kind(status: u16) -> &'static str {
    match status {
        400..=499 => "other_4xx",
        500..=599 => "other_5xx",
        _ => "other",
    }
}

/// The sums of a metric over this label.
fn series(metrics: &Metrics, (name, label): (&str, &str)) -> BTreeMap<String, u64> {
    let page = String::from_utf8(metrics.render()).unwrap_or_default();
    let key = format!("{label}=\"");
    let mut sums = BTreeMap::new();
    for line in page.lines().filter(|line| line.split('{').next() == Some(name)) {
        let value = line.rsplit_once(' ').and_then(|(_, value)| value.parse::<f64>().ok());
        let labels = line.split(['{', ',']).filter_map(|part| part.strip_prefix(&*key));
        if let (Some(value), Some(label)) = (value, labels.filter_map(|rest| rest.split('"').next()).next()) {
            *sums.entry(label.to_owned()).or_default() += value as u64;
        }
    }
    sums
}
