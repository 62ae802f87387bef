//! Runs failed rows a second time with less concurrency: a row that then passes is flaky.
//!
//! Timeouts are scaled by the load of the machine, so a failure of the first run is attributed to the gateway. It is
//! kept as the reason of the flaky row.

use std::future::Future;

use futures_util::StreamExt;
use futures_util::stream;

use super::{ReportRow, Verdict};

/// If more rows fail, the gateway is at fault, and second runs would only delay the report.
const MAX_RETRIED_ROWS: usize = 200;

/// Runs the failed rows again, `concurrency` at a time; `run` takes the index of a row.
pub(super) async fn failed_ones<F: Future<Output = ReportRow>>(
    rows: &mut [ReportRow],
    concurrency: usize,
    run: impl Fn(usize) -> F,
) {
    let has_failed = |row: &ReportRow| matches!(row.verdict, Verdict::Failed(_));
    let failed: Vec<usize> =
        rows.iter().enumerate().filter(|(_, row)| has_failed(row)).map(|(index, _)| index).collect();
    if failed.len() > MAX_RETRIED_ROWS {
        return;
    }
    let run = &run;
    let played = failed.into_iter().map(|index| async move { (index, run(index).await) });
    let mut results = stream::iter(played).buffer_unordered(concurrency);
    while let Some((index, second)) = results.next().await {
        if let Some(slot) = rows.get_mut(index) {
            *slot = second.after(&slot.verdict);
        }
    }
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
