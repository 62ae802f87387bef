//! Client-side counts, compared with the gateway's metrics.
//!
//! A client that waits for its response knows the exact outcome. A client that resets its connection does not: for
//! these the counts have a minimum and a maximum.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::super::metrics_parser::Series;
use super::super::prelude::*;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientCounts {
    /// Final responses by status code.
    pub responses: BTreeMap<u16, u64>,
    /// Detectably truncated responses.
    pub truncated: u64,
    /// Connections closed with an unanswered request.
    pub unanswered: u64,
    /// Connections without a request, closed by the client.
    pub no_request: u64,
    /// Idle connections closed by the gateway.
    pub idle: u64,
    /// Events of connections reset by their clients: minimum and maximum.
    pub uncertain: (u64, u64),
}

/// The counts, shared by threads.
#[derive(Debug, Default)]
pub struct ObservedResponses(Mutex<ClientCounts>);

impl ObservedResponses {
    pub fn update(&self, change: impl FnOnce(&mut ClientCounts)) {
        change(&mut self.0.lock());
    }

    pub fn record(&self, response: &HttpResponse) {
        self.update(|counts| {
            *counts.responses.entry(response.status).or_default() += 1;
            counts.truncated +=
                u64::from(matches!(response.end, ResponseEnd::Truncated { .. } | ResponseEnd::Reset { .. }));
        });
    }

    pub fn counts(&self) -> ClientCounts {
        self.0.lock().clone()
    }

    /// Waits until the gateway is idle and returns the differences between its counts and the clients'; empty if equal.
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
            metrics
                .iter()
                .filter(|series| series.matches(name, labels))
                .map(|series| series.value)
                .sum::<f64>() as u64
        };
        let counts = self.counts();
        let mut differences = Vec::new();
        let mut expect = |what: String, counted: u64, minimum: u64, maximum: u64| {
            if !(minimum..=maximum).contains(&counted) {
                differences
                    .push(format!("{what}: the gateway counted {counted}, clients {minimum} to {maximum}"));
            }
        };
        let slack = counts.uncertain.1;
        // Unregistered status codes below 400 are counted together, so only their sum is compared.
        for status in [200, 201, 204, 206, 301, 302, 304].into_iter().chain(400..600) {
            let observed = counts.responses.get(&status).copied().unwrap_or(0);
            let counted = sum("responses_total", &[("code", &status.to_string())]);
            expect(format!("responses of {status}"), counted, observed, observed + slack);
        }
        let observed: u64 = counts.responses.values().sum();
        let responses = sum("responses_total", &[]);
        let errors: u64 = (400..600).map(|code| sum("responses_total", &[("code", &code.to_string())])).sum();
        expect("errors".to_owned(), sum("errors_total", &[]), errors, errors);
        let closed_with = |cause| sum("closed_without_response_total", &[("cause", cause)]);
        let (client_gone, no_request) = (closed_with("client_gone"), closed_with("no_request"));
        expect(
            "closed without response, client_gone".to_owned(),
            client_gone,
            counts.unanswered,
            counts.unanswered + slack,
        );
        expect(
            "closed without response, no_request".to_owned(),
            no_request,
            counts.no_request,
            counts.no_request + slack,
        );
        expect(
            "closed without response, idle_timeout".to_owned(),
            closed_with("idle_timeout"),
            counts.idle,
            counts.idle,
        );
        let known = observed + counts.unanswered + counts.no_request;
        let (minimum, maximum) = (known + counts.uncertain.0, known + counts.uncertain.1);
        expect(
            "responses and closes without a response".to_owned(),
            responses + client_gone + no_request,
            minimum,
            maximum,
        );
        let aborted = sum("aborted_total", &[]);
        expect("aborts".to_owned(), aborted, counts.truncated, counts.truncated + slack);
        expect("requests in flight".to_owned(), sum("requests_in_flight", &[]), 0, 0);
        expect("connections".to_owned(), sum("connections", &[("listener", listener)]), 0, 0);
        expect("panics".to_owned(), sum("panics_total", &[]), 0, 0);
        differences
    }
}
