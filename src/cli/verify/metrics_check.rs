//! Compares the metrics of every gateway with what its clients saw, and checks for panics.
//!
//! Runs only if no row failed: the number of events of a failed row is not known. For flaky rows the comparison allows
//! as many additional events as they may have caused.

use std::time::{Duration, Instant};

use super::harness::{Harness, RunningGateway};
use super::{Fault, ReportRow, Section, Verdict};
use crate::conformance::CheckedMetric;

/// Some events are counted after the response was sent. Scaled by the load factor.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(10);
const PANICS_ROW: Fault = ("panics", "no gateway panicked");

/// One row per metric, over all gateways, and one for panics.
pub(super) async fn check_all(harness: &Harness, rows: &[ReportRow]) -> Vec<ReportRow> {
    let metrics = CheckedMetric::ALL.map(|metric| (metric.name(), metric.description()));
    let skipped = |reason: &str| {
        let all = metrics.into_iter().chain([PANICS_ROW]);
        all.map(|fault| ReportRow::new(Section::Metrics, fault, None).skipped(reason)).collect()
    };
    if rows.iter().any(|row| matches!(row.verdict, Verdict::Failed(_))) {
        return skipped("a row above failed");
    }
    let mut results: Vec<ReportRow> = Vec::new();
    for metric in CheckedMetric::ALL {
        results.push(check_metric(harness, metric).await);
    }
    results.push(check_panics(harness));
    results
}

async fn check_metric(harness: &Harness, metric: CheckedMetric) -> ReportRow {
    let fault = (metric.name(), metric.description());
    let gateways = || harness.gateways();
    let deadline = Instant::now() + harness.load.scale(SETTLE_TIMEOUT);
    let differences = loop {
        let differences_of = |(name, gateway): (String, &RunningGateway)| -> Vec<String> {
            let page = String::from_utf8(gateway.metrics.render()).unwrap_or_default();
            let differences = gateway.observed.differences(metric, &page);
            differences.iter().map(|difference| format!("gateway {name}: {difference}")).collect()
        };
        let differences: Vec<String> = gateways().flat_map(differences_of).collect();
        if differences.is_empty() || Instant::now() > deadline {
            break differences;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let seen: u64 = gateways().map(|(_, gateway)| gateway.observed.total(metric)).sum();
    let actual = if differences.is_empty() { seen.to_string() } else { "different".to_owned() };
    result_row(fault, seen.to_string(), actual, differences)
}

fn check_panics(harness: &Harness) -> ReportRow {
    let panics: u64 = harness.gateways().map(|(_, gateway)| gateway.metrics.panics.get()).sum();
    let differences = if panics == 0 { Vec::new() } else { vec![format!("expected 0 panics, got {panics}")] };
    result_row(PANICS_ROW, "0".to_owned(), panics.to_string(), differences)
}

fn result_row(fault: Fault, expected: String, actual: String, differences: Vec<String>) -> ReportRow {
    let result = if differences.is_empty() { Ok(()) } else { Err(differences.join("; ")) };
    ReportRow::new(Section::Metrics, fault, None).judged(expected, actual, result)
}
