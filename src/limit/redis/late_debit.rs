//! Debits whose reply did not come within the timeout. A server that was slow or paused still makes them; if the
//! request was not admitted meanwhile, they are undone when the reply comes.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, oneshot};

use super::timeout::with_timeout;
use crate::limit::backend::LateDebit;
use crate::limit::{Algorithm, BackendError, DebitRequest, Key, Quota};

/// How long a late reply is awaited. After that the debit stays.
const LATE_REPLY_TIMEOUT: Duration = Duration::from_secs(60);
/// Late replies that are awaited at once. Further debits stay. The circuit breaker opens long before that.
const MAX_LATE_REPLIES: usize = 4096;

/// A [`DebitRequest`] that outlives the request of the client.
#[derive(Clone, Debug)]
pub(super) struct OwnedRequest {
    rule: String,
    key: Key,
    quota: Quota,
    algorithm: Algorithm,
    cost: u32,
}

impl OwnedRequest {
    pub(super) fn copy_of(request: &DebitRequest<'_>) -> Self {
        let DebitRequest { rule, key, quota, algorithm, cost } = *request;
        OwnedRequest { rule: rule.to_owned(), key, quota, algorithm, cost }
    }

    pub(super) fn as_request(&self) -> DebitRequest<'_> {
        let OwnedRequest { rule, key, quota, algorithm, cost } = self;
        DebitRequest { rule, key: *key, quota: *quota, algorithm: *algorithm, cost: *cost }
    }
}

/// The late replies that are awaited.
#[derive(Debug)]
pub(super) struct LateReplies(Arc<Semaphore>);

impl Default for LateReplies {
    fn default() -> Self {
        LateReplies(Arc::new(Semaphore::new(MAX_LATE_REPLIES)))
    }
}

impl LateReplies {
    /// Waits in the background for the result of a debit, and then undoes it, unless the result of this call says to
    /// keep it. `None` if too many replies are awaited.
    pub(super) fn undo_unless_kept<T, U>(
        &self,
        pending: impl Future<Output = Result<T, BackendError>> + Send + 'static,
        undo: impl FnOnce(T) -> U + Send + 'static,
    ) -> Option<LateDebit>
    where
        T: Send,
        U: Future<Output = ()> + Send,
    {
        let permit = Arc::clone(&self.0).try_acquire_owned().ok()?;
        let (keep, kept) = oneshot::channel();
        tokio::spawn(async move {
            let _permit = permit;
            // The sender is used or dropped as soon as the request is admitted or denied.
            if kept.await.is_ok() {
                return;
            }
            // An error leaves open whether the debit was made.
            if let Some(Ok(made)) = with_timeout(LATE_REPLY_TIMEOUT, pending).await {
                with_timeout(LATE_REPLY_TIMEOUT, undo(made)).await;
            }
        });
        Some(LateDebit::new(move || {
            // Fails only if the process ends.
            let _ = keep.send(());
        }))
    }
}
