//! Time limits of calls to the server.

use std::time::Duration;

#[expect(
    clippy::disallowed_methods,
    reason = "timeouts are a few milliseconds, and the coarse timer may be 20 ms late"
)]
pub(super) async fn with_timeout<T>(limit: Duration, future: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(limit, future).await.ok()
}
