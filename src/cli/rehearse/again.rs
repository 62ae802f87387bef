//! A second try, with few others beside it, for rows that failed: a row that passes then is flaky.
//!
//! Timeouts are scaled by the load of the machine, so that a failure of the first try is the gateway's. It is reported, and
//! kept as the reason of the flaky row.

use std::future::Future;

use futures_util::StreamExt;
use futures_util::stream;

use super::{Row, Verdict};

/// Where more rows fail than that, the gateway is to blame, and the report not to be waited for.
const MOST: usize = 200;

/// Plays those of `rows` that failed once more, so many at once; `play` takes the place in the list.
pub(super) async fn failed_ones<F: Future<Output = Row>>(
    rows: &mut [Row],
    at_once: usize,
    play: impl Fn(usize) -> F,
) {
    let has_failed = |row: &Row| matches!(row.verdict, Verdict::Failed(_));
    let failed: Vec<usize> =
        rows.iter().enumerate().filter(|(_, row)| has_failed(row)).map(|(index, _)| index).collect();
    if failed.len() > MOST {
        return;
    }
    let play = &play;
    let played = failed.into_iter().map(|index| async move { (index, play(index).await) });
    let mut played = stream::iter(played).buffer_unordered(at_once);
    while let Some((index, second)) = played.next().await {
        if let Some(place) = rows.get_mut(index) {
            *place = second.after(&place.verdict);
        }
    }
}

/// Plays a row, and once more when it fails.
pub(super) async fn at_most_twice<F: Future<Output = Row>>(play: impl Fn() -> F) -> Row {
    let first = play().await;
    match &first.verdict {
        Verdict::Failed(_) => play().await.after(&first.verdict),
        Verdict::Passed | Verdict::Flaky(_) | Verdict::NotApplicable(_) => first,
    }
}

impl Row {
    /// The second try of a row, whose first one came to this.
    fn after(self, first: &Verdict) -> Row {
        let verdict = match (first, self.verdict) {
            (Verdict::Failed(how), Verdict::Passed) => Verdict::Flaky(how.clone()),
            (_, second) => second,
        };
        Row { verdict, repeated: true, ..self }
    }
}
