//! Wraps pingora's timer so that it never fires early. It may fire up to 20 ms late.
//!
//! Callers whose deadline can move must check the clock again when the timer fires.

use std::future::Future;
use std::time::{Duration, Instant};

/// Pingora truncates deadlines to whole milliseconds, so one wait in 700 ended up to 1 ms early.
const ROUNDING_ERROR: Duration = Duration::from_millis(1);

/// Completes after at least `duration`.
#[expect(clippy::disallowed_methods, reason = "the only wrapper of this timer")]
pub(crate) async fn sleep(duration: Duration) {
    pingora::time::sleep(duration.saturating_add(ROUNDING_ERROR)).await;
}

/// Runs `future` until `deadline`; `None` when the deadline passed first.
#[expect(clippy::disallowed_methods, reason = "the only wrapper of this timer")]
pub(crate) async fn timeout_at<T>(deadline: Instant, future: impl Future<Output = T>) -> Option<T> {
    let remaining = deadline.saturating_duration_since(Instant::now());
    pingora::time::timeout(remaining.saturating_add(ROUNDING_ERROR), future).await.ok()
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    #[tokio::test]
    async fn sleep_and_timeout_never_fire_early() {
        // Waits of many lengths: without the correction some of them end early.
        let waits = (0..60).map(|wait| async move {
            for round in 0..80 {
                let limit = Duration::from_micros(10_000 + (wait * 80 + round) * 7_830 % 10_000);
                let started = Instant::now();
                if round % 2 == 0 {
                    sleep(limit).await;
                } else {
                    assert_eq!(timeout_at(started + limit, pending::<()>()).await, None);
                }
                assert!(started.elapsed() >= limit, "{:?} instead of {limit:?}", started.elapsed());
            }
        });
        futures_util::future::join_all(waits).await;
    }

    #[tokio::test]
    async fn timeout_returns_a_value_that_is_ready_in_time() {
        assert_eq!(timeout_at(Instant::now() + Duration::from_secs(60), async { 7 }).await, Some(7));
    }
}
