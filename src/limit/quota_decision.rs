//! What is said about one request: admitted or refused, and where its key stands afterwards.
//!
//! The same for every algorithm and store. What a client is told of it, and under which status, is decided elsewhere.

use std::time::Duration;

/// Where a key stands after a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuotaState {
    /// How many requests are admitted at once from idle.
    pub limit: u32,
    /// How many more would be admitted now.
    pub remaining: u32,
    /// Until all of `limit` is there again.
    pub reset: Duration,
}

/// The answer to "may this request pass?".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuotaDecision {
    /// It may, and has been counted.
    Allow(QuotaState),
    /// It may not, and nothing was counted.
    Deny {
        /// As it was before.
        quota_state: QuotaState,
        /// The same request would be admitted after this, if no other came. Never zero.
        retry_after: Duration,
    },
}

impl QuotaDecision {
    /// Where the key stands now.
    pub const fn quota_state(&self) -> &QuotaState {
        match self {
            QuotaDecision::Allow(standing) | QuotaDecision::Deny { quota_state: standing, .. } => standing,
        }
    }

    /// How long to wait; `None` when the request may pass.
    pub const fn retry_after(&self) -> Option<Duration> {
        match self {
            QuotaDecision::Allow(_) => None,
            QuotaDecision::Deny { retry_after, .. } => Some(*retry_after),
        }
    }
}
