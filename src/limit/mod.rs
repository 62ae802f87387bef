//! Rate limits: from a configured quota to a [`QuotaDecision`] about one request.
//!
//! This module is pure, except for [`redis`]: callers pass the time and the secrets that hash keys. Start with
//! [`quota`] (what is allowed), then [`gcra`] and [`window`] (the algorithms, which decide on a [`state`]), [`key`]
//! (which state a request uses), [`state_table`] (states in bounded memory, with an [`overflow_sketch`] of evicted
//! ones) and [`limiter`] (one rule, as the request path uses it). [`backend`] is the interface to shared counts;
//! [`credential`] exempts clients that present a secret.

pub(crate) mod backend;
pub(crate) mod credential;
pub mod gcra;
pub(crate) mod key;
pub(crate) mod limit_table;
pub(crate) mod limiter;
pub(crate) mod overflow_sketch;
pub(crate) mod quota;
pub(crate) mod quota_decision;
pub mod redis;
pub(crate) mod state;
pub(crate) mod state_table;
pub(crate) mod timestamp;
pub(crate) mod window;

pub use backend::{
    Backend, BackendError, BackendFuture, DebitError, DebitReply, DebitRequest, LateDebit, OnFailure,
};
pub use credential::Credential;
pub use key::{Key, KeyPart, KeySource, Secret};
pub use limit_table::{Algorithm, LimitTable};
pub use limiter::{Limiter, LimiterMode, LimiterSettings, UnreadableBody};
pub use quota::{Quota, QuotaError};
pub use quota_decision::{QuotaDecision, QuotaState};
pub use state_table::TableStats;
pub use timestamp::Timestamp;
