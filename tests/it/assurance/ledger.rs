//! What clients counted, and whether the gateway counted the same.
//!
//! Every client that waits for its answer knows exactly what it got. One that resets its connection does not: for those
//! the ledger holds how many events there must be at least and at most.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::super::gateway::Gateway;
use super::super::load::limit;
use super::super::reader::{Answer, Ended};
use super::super::telemetry::Series;

/// The sums.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Final responses by status.
    pub answers: BTreeMap<u16, u64>,
    /// Responses that were visibly cut.
    pub cut: u64,
    /// Connections that ended with a request unanswered.
    pub unanswered: u64,
    /// Connections on which nothing was asked, ended by the client.
    pub nothing: u64,
    /// Idle connections that the gateway ended.
    pub idle: u64,
    /// Events of connections that their clients reset: at least, at most.
    pub unknown: (u64, u64),
}

/// The sums, from many threads.
#[derive(Debug, Default)]
pub struct Ledger(Mutex<Sums>);

impl Ledger {
    pub fn add(&self, change: impl FnOnce(&mut Sums)) {
        change(&mut self.0.lock());
    }

    pub fn answer(&self, answer: &Answer) {
        self.add(|sums| {
            *sums.answers.entry(answer.status).or_default() += 1;
            sums.cut += u64::from(matches!(answer.ended, Ended::Cut { .. } | Ended::Reset { .. }));
        });
    }

    pub fn sums(&self) -> Sums {
        self.0.lock().clone()
    }

    /// Waits until the gateway is at rest and says what it counted otherwise than the clients; nothing when all agrees.
    pub fn differences(&self, gateway: &Gateway) -> Vec<String> {
        let deadline = Instant::now() + limit();
        loop {
            let differences = self.compare(&gateway.metrics(), &gateway.address().to_string());
            if differences.is_empty() || Instant::now() > deadline {
                return differences;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn compare(&self, metrics: &[Series], listener: &str) -> Vec<String> {
        let sum = |name: &str, labels: &[(&str, &str)]| -> u64 {
            metrics.iter().filter(|series| series.is(name, labels)).map(|series| series.value).sum::<f64>()
                as u64
        };
        let sums = self.sums();
        let mut differences = Vec::new();
        let mut expect = |what: String, counted: u64, least: u64, most: u64| {
            if !(least..=most).contains(&counted) {
                differences.push(format!("{what}: the gateway counted {counted}, clients {least} to {most}"));
            }
        };
        let slack = sums.unknown.1;
        // What is no registered status below 400 is counted together, and only in the sum here.
        for status in [200, 201, 204, 206, 301, 302, 304].into_iter().chain(400..600) {
            let seen = sums.answers.get(&status).copied().unwrap_or(0);
            let counted = sum("responses_total", &[("code", &status.to_string())]);
            expect(format!("responses of {status}"), counted, seen, seen + slack);
        }
        let seen: u64 = sums.answers.values().sum();
        let responses = sum("responses_total", &[]);
        let errors: u64 = (400..600).map(|code| sum("responses_total", &[("code", &code.to_string())])).sum();
        expect("errors".to_owned(), sum("errors_total", &[]), errors, errors);
        let silent = |cause| sum("closed_without_response_total", &[("cause", cause)]);
        let (gone, nothing) = (silent("client_gone"), silent("connect_and_close"));
        expect("silences, client_gone".to_owned(), gone, sums.unanswered, sums.unanswered + slack);
        expect("silences, connect_and_close".to_owned(), nothing, sums.nothing, sums.nothing + slack);
        expect("silences, idle_timeout".to_owned(), silent("idle_timeout"), sums.idle, sums.idle);
        let known = seen + sums.unanswered + sums.nothing;
        let (least, most) = (known + sums.unknown.0, known + sums.unknown.1);
        expect("responses and silences".to_owned(), responses + gone + nothing, least, most);
        let aborted = sum("aborted_total", &[]);
        expect("aborts".to_owned(), aborted, sums.cut, sums.cut + slack);
        expect("requests in flight".to_owned(), sum("requests_in_flight", &[]), 0, 0);
        expect("connections".to_owned(), sum("connections", &[("listener", listener)]), 0, 0);
        expect("panics".to_owned(), sum("panics_total", &[]), 0, 0);
        differences
    }
}
