//! A second try, with few others beside it, for rows that failed: a row that passes then is flaky.
//!
//! Timeouts are scaled by the load of the machine, so that a failure of the first try is the gateway's. It is reported, and
//! kept as the reason of the flaky row.

use std::future::Future;

use futures_util::StreamExt;
use futures_util::stream;

use super::{ReportRow, Verdict};

/// Where more rows fail than that, the gateway is to blame, and the report not to be waited for.
const MAX_RETRIED_ROWS: usize = 200;

/// Plays those of `rows` that failed once more, so many at once; `run` takes the place in the list.
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

/// Plays a row, and once more when it fails.
pub(super) async fn at_most_twice<F: Future<Output = ReportRow>>(play: impl Fn() -> F) -> ReportRow {
    let first = play().await;
    match &first.verdict {
        Verdict::Failed(_) => play().await.after(&first.verdict),
        Verdict::Passed | Verdict::Flaky(_) | Verdict::NotApplicable(_) => first,
    }
}

impl ReportRow {
    /// The second try of a row, whose first one came to this.
    fn after(self, first: &Verdict) -> ReportRow {
        let verdict = match (first, self.verdict) {
            (Verdict::Failed(how), Verdict::Passed) => Verdict::Flaky(how.clone()),
            (_, second) => second,
        };
        ReportRow { verdict, retried: true, ..self }
    }
}
