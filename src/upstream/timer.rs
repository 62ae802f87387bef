//! Pingora's timer, never early: what waits for a limit may be told of it late, by up to 20 ms, and not before its time.
//!
//! It knows nothing of what the times are for. Who waits while limits move looks at its clock again.

use std::future::Future;
use std::time::{Duration, Instant};

/// Pingora drops what a deadline has beyond whole milliseconds, and fires for the rest: one wait in 700 ended up to a
/// millisecond before its time.
const DROPPED: Duration = Duration::from_millis(1);

/// Ready after `duration`.
#[expect(clippy::disallowed_methods, reason = "this is its place")]
pub async fn sleep(duration: Duration) {
    pingora::time::sleep(duration.saturating_add(DROPPED)).await;
}

/// Waits until `at` at the latest; `None` when the time came first.
#[expect(clippy::disallowed_methods, reason = "this is its place")]
pub async fn within<T>(at: Instant, future: impl Future<Output = T>) -> Option<T> {
    let left = at.saturating_duration_since(Instant::now());
    pingora::time::timeout(left.saturating_add(DROPPED), future).await.ok()
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    #[tokio::test]
    async fn no_wait_ends_before_its_time() {
        // Waits of all lengths: without the correction some of them end early.
        let waits = (0..60).map(|wait| async move {
            for turn in 0..80 {
                let limit = Duration::from_micros(10_000 + (wait * 80 + turn) * 7_830 % 10_000);
                let begun = Instant::now();
                if turn % 2 == 0 {
                    sleep(limit).await;
                } else {
                    assert_eq!(within(begun + limit, pending::<()>()).await, None);
                }
                assert!(begun.elapsed() >= limit, "{:?} instead of {limit:?}", begun.elapsed());
            }
        });
        futures_util::future::join_all(waits).await;
    }

    #[tokio::test]
    async fn what_is_ready_in_time_is_what_comes() {
        assert_eq!(within(Instant::now() + Duration::from_secs(60), async { 7 }).await, Some(7));
    }
}
