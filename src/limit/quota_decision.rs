//! The result of a rate limit for one request: allowed or denied, and the remaining quota of its key.
//!
//! The same for every algorithm and backend.

use std::time::Duration;

/// The quota of a key after a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuotaState {
    /// Requests admitted at once from idle.
    pub limit: u32,
    /// Requests that would still be admitted now.
    pub remaining: u32,
    /// Time until the whole `limit` is available again.
    pub reset: Duration,
}

/// The decision about one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuotaDecision {
    /// Allowed and counted.
    Allow(QuotaState),
    /// Denied and not counted.
    Deny {
        /// The quota before the request.
        quota_state: QuotaState,
        /// Time after which the same request would be allowed without other requests. Never zero.
        retry_after: Duration,
    },
}

impl QuotaDecision {
    /// The quota of the key.
    pub const fn quota_state(&self) -> &QuotaState {
        match self {
            QuotaDecision::Allow(quota_state) | QuotaDecision::Deny { quota_state, .. } => quota_state,
        }
    }

    /// Time to wait; `None` if the request is allowed.
    pub const fn retry_after(&self) -> Option<Duration> {
        match self {
            QuotaDecision::Allow(_) => None,
            QuotaDecision::Deny { retry_after, .. } => Some(*retry_after),
        }
    }
}
