//! How much is allowed: rate limits, from what an operator allowed to a [`QuotaDecision`] about one request.
//!
//! This room is pure: the moment of a decision is passed in, and so are the secrets that hide keys. It knows no request,
//! no status and no metric. Start with [`quota`] (what is allowed), then [`gcra`] and [`window`] (the decision on a
//! [`state`]), [`key`] (whose state it is), [`state_table`] (where states are kept, within bounds, with [`overflow_sketch`] of what had to
//! go) and [`limiter`] (a rule with all of these, as the request path asks it). [`backend`] is the seam for counts that are
//! kept elsewhere, [`credential`] who is exempt by what it knows.

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
