//! A second try, with few others beside it, for rows that broke the contract among thousands.
//!
//! Rows are about time, and a machine that is busy with other things makes upstreams and clients late that are not meant to
//! be. What is broken is broken when there is quiet, too. That a row was repeated is told.

use std::future::Future;

use futures_util::StreamExt;
use futures_util::stream;

use super::{Row, Verdict};

/// Where more than that is broken, the machine is not to blame, and the report not to be waited for.
const MOST: usize = 200;

/// Plays the broken ones of `rows` once more, so many at once; `play` takes the place in the list.
pub(super) async fn broken_ones<F: Future<Output = Row>>(
    rows: &mut [Row],
    at_once: usize,
    play: impl Fn(usize) -> F,
) {
    let is_broken = |row: &Row| matches!(row.verdict, Verdict::Broken(_));
    let broken: Vec<usize> =
        rows.iter().enumerate().filter(|(_, row)| is_broken(row)).map(|(index, _)| index).collect();
    if broken.len() > MOST {
        return;
    }
    let play = &play;
    let played = broken.into_iter().map(|index| async move { (index, play(index).await) });
    let mut played = stream::iter(played).buffer_unordered(at_once);
    while let Some((index, row)) = played.next().await {
        if let Some(place) = rows.get_mut(index) {
            *place = Row { repeated: true, ..row };
        }
    }
}
