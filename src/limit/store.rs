//! The seam for counts that are kept elsewhere: what a rule asks of a store that other gateways ask too.
//!
//! A store decides by the same algorithms as the tables here, on states of its own, and its answers take time: whoever asks
//! waits for [`Store::patience`] and no longer. Which rules concern a request, and what a failure means for it, is decided
//! on the request path; how a store is reached, and what it does about an ailing server, only the store knows. Memory is no
//! store: a rule without one asks its [`super::table`] at once.

use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use super::decision::Decision;
use super::key::{Key, Secret};
use super::moment::Moment;
use super::quota::Quota;
use super::table::Algorithm;

/// One question: may this key of this rule take so much?
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// The rule's name: the same key under another rule is another state.
    pub rule: &'a str,
    /// Whose state it is, hashed under [`Store::secret`].
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
    UseMemory,
    /// They pass uncounted.
    Allow,
    /// They are refused.
    Refuse,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Failure {
    /// It did not come in time.
    Timeout,
    /// There is no connection.
    Unreachable,
    /// It is none that the store could have given.
    Garbage,
    /// It is an error.
    Refused,
    /// The store is not asked for a while, because it failed before.
    Resting,
}

impl Failure {
    /// All of them.
    pub const ALL: [Failure; 5] =
        [Failure::Timeout, Failure::Unreachable, Failure::Garbage, Failure::Refused, Failure::Resting];

    /// The value of the label `kind`.
    pub const fn name(self) -> &'static str {
        match self {
            Failure::Timeout => "timeout",
            Failure::Unreachable => "unreachable",
            Failure::Garbage => "garbage",
            Failure::Refused => "refused",
            Failure::Resting => "resting",
        }
    }
}

/// The answer to [`Store::take`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// In the order of the questions; where one is a refusal, the others say what they would have said without it.
    pub decisions: Vec<Decision>,
    /// When that was, on the store's own clock. Of a refusal nobody needs it.
    pub at: Moment,
}

/// An answer on its way.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = Result<T, Failure>> + Send + 'a>>;

/// Keeps states for several gateways. Lives as long as its settings stay the same.
pub trait Store: Debug + Send + Sync {
    /// Its name in the configuration: the label `store`.
    fn name(&self) -> &str;

    /// What hides keys in it: the same for every gateway that shares it.
    fn secret(&self) -> Secret;

    /// How long a decision may take.
    fn patience(&self) -> Duration;

    /// What becomes of requests while it does not answer.
    fn on_failure(&self) -> OnFailure;

    /// Takes from all keys or, if one of them refuses, from none: one step, as far as the keys are in one place.
    fn take<'a>(&'a self, asks: &'a [Ask<'a>]) -> Pending<'a, Taken>;

    /// Undoes a [`Store::take`] that was allowed at this moment of the store's clock.
    fn give_back<'a>(&'a self, asks: &'a [Ask<'a>], at: Moment) -> Pending<'a, ()>;

    /// These keys have taken nothing.
    fn reset<'a>(&'a self, asks: &'a [Ask<'a>]) -> Pending<'a, ()>;
}
