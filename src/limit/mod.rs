//! How much is allowed: rate limits, from what an operator allowed to a [`Decision`] about one request.
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
pub use decision::{Decision, Standing};
pub use key::{Key, KeyPart, Secret, Subject};
pub use limiter::{Limiter, Mode, Settings};
pub use memory::Figures;
pub use moment::Moment;
pub use quota::{Quota, Unusable};
pub use store::{Ask, Failure, OnFailure, Pending, Store, Taken};
pub use table::{Algorithm, Table};
