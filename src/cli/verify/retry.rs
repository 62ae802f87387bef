//! Runs planned rows concurrently, and the failed ones a second time with less concurrency: a row that then passes is
//! flaky.
//!
//! Timeouts are scaled by the load of the machine, so a failure of the first run is attributed to the gateway. It is
//! kept as the reason of the flaky row.

use std::future::Future;

use futures_util::StreamExt;
use futures_util::stream;

use super::{ReportRow, Verdict};

/// If more rows fail, the gateway is at fault, and second runs would only delay the report.
const MAX_RETRIED_ROWS: usize = 200;
/// Concurrency of the second runs.
const RETRY_CONCURRENCY: usize = 4;

/// Runs the planned rows, `concurrency` at a time; returns them in their order.
pub(super) async fn run_rows<'a, T, F: Future<Output = ReportRow>>(
    planned: &'a [T],
    concurrency: usize,
    run: impl Fn(&'a T) -> F,
) -> Vec<ReportRow> {
    let run = &run;
    let play = |(index, item): (usize, &'a T)| async move { (index, run(item).await) };
    let runs = stream::iter(planned.iter().enumerate().map(play));
    let mut rows: Vec<(usize, ReportRow)> = runs.buffer_unordered(concurrency).collect().await;
    rows.sort_unstable_by_key(|(index, _)| *index);
    let has_failed = |row: &ReportRow| matches!(row.verdict, Verdict::Failed(_));
    let failed: Vec<(usize, &T)> = planned
        .iter()
        .enumerate()
        .zip(&rows)
        .filter(|(_, (_, row))| has_failed(row))
        .map(|(item, _)| item)
        .collect();
    if failed.len() <= MAX_RETRIED_ROWS {
        let runs = stream::iter(failed.into_iter().map(play));
        let mut results = runs.buffer_unordered(concurrency.min(RETRY_CONCURRENCY));
        while let Some((index, second)) = results.next().await {
            if let Some((_, row)) = rows.get_mut(index) {
                *row = second.after(&row.verdict);
            }
        }
    }
    rows.into_iter().map(|(_, row)| row).collect()
}

/// Runs a row, and a second time if it fails.
pub(super) async fn at_most_twice<F: Future<Output = ReportRow>>(play: impl Fn() -> F) -> ReportRow {
    let first = play().await;
    match &first.verdict {
        Verdict::Failed(_) => play().await.after(&first.verdict),
        Verdict::Passed | Verdict::Flaky(_) | Verdict::NotApplicable(_) => first,
    }
}

impl ReportRow {
    /// Combines the second run of a row with the verdict of its first.
    fn after(self, first: &Verdict) -> ReportRow {
        let verdict = match (first, self.verdict) {
            (Verdict::Failed(reason), Verdict::Passed) => Verdict::Flaky(reason.clone()),
            (_, second) => second,
        };
        ReportRow { verdict, retried: true, ..self }
    }
}
