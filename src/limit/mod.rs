//! How much is allowed: rate limits, from what an operator allowed to a [`QuotaDecision`] about one request.
//!
//! This room is pure: the moment of a decision is passed in, and so are the secrets that hide keys. It knows no request,
//! no status and no metric. Start with [`quota`] (what is allowed), then [`gcra`] and [`window`] (the decision on a
//! [`state`]), [`key`] (whose state it is), [`memory`] (where states are kept, within bounds, with [`debts`] of what had to
//! go) and [`limiter`] (a rule with all of these, as the request path asks it). [`store`] is the seam for counts that are
//! kept elsewhere, [`credential`] who is exempt by what it knows.

pub mod credential;
pub mod debts;
pub mod decision;
pub mod gcra;
pub mod key;
pub mod limiter;
pub mod memory;
pub mod moment;
pub mod quota;
pub mod state;
pub mod store;
pub mod table;
pub mod window;

pub use credential::Credential;
pub use decision::{QuotaDecision, QuotaState};
pub use key::{Key, KeyPart, KeySource, Secret};
pub use limiter::{Limiter, LimiterMode, LimiterSettings};
pub use memory::TableStats;
pub use moment::Timestamp;
pub use quota::{Quota, QuotaError};
pub use store::{Backend, BackendError, BackendFuture, OnFailure, TakeReply, TakeRequest};
pub use table::{Algorithm, LimitTable};
