//! The interface to a shared rate-limit backend, which counts for several gateways.
//!
//! A backend decides by the same algorithms as [`super::limit_table`], but on its own states and asynchronously, within
//! [`Backend::timeout`]. The request path selects the rules of a request and handles failures; the backend handles its
//! connections. A rule without a backend uses its [`super::limit_table`] directly.

use schemars::JsonSchema;
use serde::Deserialize;
use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use super::key::{Key, Secret};
use super::limit_table::Algorithm;
use super::quota::Quota;
use super::quota_decision::QuotaDecision;
use super::timestamp::Timestamp;

/// A request to debit one key of one rule.
#[derive(Clone, Copy, Debug)]
pub struct DebitRequest<'a> {
    /// The rule's name. Each rule has its own states, also for equal keys.
    pub rule: &'a str,
    /// The key, hashed with [`Backend::secret`].
    pub key: Key,
    /// The quota of the rule.
    pub quota: Quota,
    /// The algorithm of the rule.
    pub algorithm: Algorithm,
    /// The cost of the request.
    pub cost: u32,
}

/// What happens to requests while the backend is unavailable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// Each gateway counts in its own memory.
    Local,
    /// Requests are admitted without being counted.
    Allow,
    /// Requests get 503 (cause `limiter_unavailable`).
    Deny,
}

/// Why a call to the backend failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum BackendError {
    /// No reply within the timeout.
    Timeout,
    /// No connection.
    Unreachable,
    /// A reply that the script cannot have sent.
    InvalidReply,
    /// The backend replied with an error.
    ErrorReply,
    /// The call was not attempted, because previous calls failed.
    CircuitOpen,
}

impl BackendError {
    /// Every error.
    pub const ALL: [BackendError; 5] = [
        BackendError::Timeout,
        BackendError::Unreachable,
        BackendError::InvalidReply,
        BackendError::ErrorReply,
        BackendError::CircuitOpen,
    ];

    /// The value of the metric label `kind`.
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

/// The reply to [`Backend::debit`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DebitReply {
    /// One decision per request, in order. If one is a denial, nothing was debited; the others are as if decided alone.
    pub decisions: Vec<QuotaDecision>,
    /// The time of the debit on the backend's clock. Meaningless for a denial.
    pub debited_at: Timestamp,
}

impl DebitReply {
    /// Whether everything was debited.
    pub fn admits_all(&self) -> bool {
        self.decisions.iter().all(|decision| decision.retry_after().is_none())
    }
}

/// A failed [`Backend::debit`].
#[derive(Debug)]
pub struct DebitError {
    /// Why it failed.
    pub error: BackendError,
    /// The debit, if the backend may still make it.
    pub late: Option<LateDebit>,
}

impl From<BackendError> for DebitError {
    fn from(error: BackendError) -> Self {
        DebitError { error, late: None }
    }
}

/// A debit that was pending at the timeout. If the backend makes it later, the debit is undone, unless it is kept.
pub struct LateDebit(Box<dyn FnOnce() + Send + Sync>);

impl LateDebit {
    /// `keep` is called to keep the debit, and otherwise dropped.
    pub fn new(keep: impl FnOnce() + Send + Sync + 'static) -> Self {
        LateDebit(Box::new(keep))
    }

    /// Keeps the debit, because its request was admitted.
    pub fn keep(self) {
        (self.0)();
    }
}

impl Debug for LateDebit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LateDebit(..)")
    }
}

/// A pending call to a backend.
pub type BackendFuture<'a, T, E = BackendError> = Pin<Box<dyn Future<Output = Result<T, E>> + Send + 'a>>;

/// A backend that keeps states for several gateways. It survives reloads while its settings are equal.
pub trait Backend: Debug + Send + Sync {
    /// The name in the configuration, and the value of the metric label `store`.
    fn name(&self) -> &str;

    /// The secret that hashes keys, equal for all gateways that share the backend.
    fn secret(&self) -> Secret;

    /// The timeout of a call.
    fn timeout(&self) -> Duration;

    /// What happens to requests while the backend is unavailable.
    fn on_failure(&self) -> OnFailure;

    /// Debits all keys, or none if one of them denies. Atomic if all keys are on one node.
    fn debit<'a>(&'a self, requests: &'a [DebitRequest<'a>]) -> BackendFuture<'a, DebitReply, DebitError>;

    /// Undoes an allowed [`Backend::debit`]. `at` is its [`DebitReply::debited_at`].
    fn refund<'a>(&'a self, requests: &'a [DebitRequest<'a>], at: Timestamp) -> BackendFuture<'a, ()>;

    /// Resets the counts of these keys.
    fn reset<'a>(&'a self, requests: &'a [DebitRequest<'a>]) -> BackendFuture<'a, ()>;
}
