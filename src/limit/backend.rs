//! The seam for counts that are kept elsewhere: what a rule asks of a store that other gateways ask too.
//!
//! A store decides by the same algorithms as the tables here, on states of its own, and its answers take time: whoever asks
//! waits for [`Backend::timeout`] and no longer. Which rules concern a request, and what a failure means for it, is decided
//! on the request path; how a store is reached, and what it does about an ailing server, only the store knows. Memory is no
//! store: a rule without one asks its [`super::limit_table`] at once.

use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use super::key::{Key, Secret};
use super::limit_table::Algorithm;
use super::quota::Quota;
use super::quota_decision::QuotaDecision;
use super::timestamp::Timestamp;

/// One question: may this key of this rule take so much?
#[derive(Clone, Copy, Debug)]
pub struct TakeRequest<'a> {
    /// The rule's name: the same key under another rule is another state.
    pub rule: &'a str,
    /// Whose state it is, hashed under [`Backend::secret`].
    pub key: Key,
    /// What is allowed.
    pub quota: Quota,
    /// How requests are counted.
    pub algorithm: Algorithm,
    /// How much the request takes.
    pub cost: u32,
}

/// What becomes of requests while a store does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFailure {
    /// The process counts by itself.
    Local,
    /// They pass uncounted.
    Allow,
    /// They are refused.
    Deny,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum BackendError {
    /// It did not come in time.
    Timeout,
    /// There is no connection.
    Unreachable,
    /// It is none that the store could have given.
    InvalidReply,
    /// It is an error.
    ErrorReply,
    /// The store is not asked for a while, because it failed before.
    CircuitOpen,
}

impl BackendError {
    /// All of them.
    pub const ALL: [BackendError; 5] = [
        BackendError::Timeout,
        BackendError::Unreachable,
        BackendError::InvalidReply,
        BackendError::ErrorReply,
        BackendError::CircuitOpen,
    ];

    /// The value of the label `kind`.
    pub const fn name(self) -> &'static str {
        match self {
            BackendError::Timeout => "timeout",
            BackendError::Unreachable => "unreachable",
            BackendError::InvalidReply => "invalid_reply",
            BackendError::ErrorReply => "refused",
            BackendError::CircuitOpen => "circuit_open",
        }
    }
}

/// The answer to [`Backend::take`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TakeReply {
    /// In the order of the questions; where one is a refusal, the others say what they would have said without it.
    pub decisions: Vec<QuotaDecision>,
    /// When that was, on the store's own clock. Of a refusal nobody needs it.
    pub taken_at: Timestamp,
}

/// An answer on its way.
pub type BackendFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, BackendError>> + Send + 'a>>;

/// Keeps states for several gateways. Lives as long as its settings stay the same.
pub trait Backend: Debug + Send + Sync {
    /// Its name in the configuration: the label `store`.
    fn name(&self) -> &str;

    /// What hides keys in it: the same for every gateway that shares it.
    fn secret(&self) -> Secret;

    /// How long a decision may take.
    fn timeout(&self) -> Duration;

    /// What becomes of requests while it does not answer.
    fn on_failure(&self) -> OnFailure;

    /// Takes from all keys or, if one of them refuses, from none: one step, as far as the keys are in one place.
    fn take<'a>(&'a self, requests: &'a [TakeRequest<'a>]) -> BackendFuture<'a, TakeReply>;

    /// Undoes a [`Backend::take`] that was allowed at this moment of the store's clock.
    fn refund<'a>(&'a self, requests: &'a [TakeRequest<'a>], at: Timestamp) -> BackendFuture<'a, ()>;

    /// These keys have taken nothing.
    fn reset<'a>(&'a self, requests: &'a [TakeRequest<'a>]) -> BackendFuture<'a, ()>;
}
