//! What we promise: codes, causes, the policy that joins them, and the replies made of them.
//!
//! This room is pure: it knows no pingora, tokio, tracing, prometheus, clock, file or environment, and a test reads its
//! sources to hold that. Start with [`fault`] (what can go wrong), then [`code`] (what may be answered), [`policy`]
//! (which answer), [`conform`] (which upstream errors may pass) and [`reply`] (the answer itself).

pub mod builtin;
pub mod code;
pub mod body;
pub mod conform;
pub mod fault;
pub mod policy;
pub mod reply;

pub use code::{CodeEntry, Contract, DocumentedCode};
pub use fault::{Cause, Evidence, Fault, Phase, RequestSent};
pub use policy::{Case, Override, Overrides, Rule, Ruling, Situation};
pub use reply::{LocalReply, ReplyFacts, compose};
