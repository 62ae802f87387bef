//! Rate limits: from a configured quota to a [`QuotaDecision`] about one request.
//!
//! This room is pure, except for [`redis`]: callers pass the time and the secrets that hash keys. Start with [`quota`]
//! (what is allowed), then [`gcra`] and [`window`] (the algorithms, which decide on a [`state`]), [`key`] (which state
//! a request uses), [`state_table`] (states in bounded memory, with an [`overflow_sketch`] of evicted ones) and
//! [`limiter`] (one rule, as the request path uses it). [`backend`] is the interface to shared counts; [`credential`]
//! exempts clients that present a secret.

pub mod backend;
pub mod credential;
pub mod gcra;
pub mod key;
pub mod limit_table;
pub mod limiter;
pub mod overflow_sketch;
pub mod quota;
pub mod quota_decision;
pub mod redis;
pub mod state;
pub mod state_table;
pub mod timestamp;
pub mod window;

pub use backend::{Backend, BackendError, BackendFuture, OnFailure, TakeReply, TakeRequest};
pub use credential::Credential;
pub use key::{Key, KeyPart, KeySource, Secret};
pub use limit_table::{Algorithm, LimitTable};
pub use limiter::{Limiter, LimiterMode, LimiterSettings};
pub use quota::{Quota, QuotaError};
pub use quota_decision::{QuotaDecision, QuotaState};
pub use state_table::TableStats;
pub use timestamp::Timestamp;
