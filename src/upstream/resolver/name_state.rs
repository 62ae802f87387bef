//! What is known about a name: its last good addresses, and when it is looked up next. Pure: the caller passes the
//! answer and the time.
//!
//! ```text
//! addresses of a family          replace those that were known
//! no record of that type         removes them, if the other family has addresses; otherwise they are kept
//! failure (SERVFAIL, silence)    keeps them, and the name is looked up again soon: after 1 s, 2 s, 4 s, ..
//! ```

use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::contract::Cause;

/// The shortest interval of lookups, also for a TTL of 0.
pub(crate) const MIN_TTL: Duration = Duration::from_secs(1);

/// The addresses of one family in an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FamilyAnswer {
    /// At least one address.
    Addresses {
        /// The addresses, in any order.
        addresses: Vec<IpAddr>,
        /// How long they are valid.
        ttl: Duration,
    },
    /// The name does not exist, or has no address of this family.
    Empty,
    /// No name server gave a usable answer.
    Failed(LookupFailure),
}

/// Why a lookup gave no usable answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LookupFailure {
    /// The name has no address, or the name servers reported an error.
    Error,
    /// No name server answered in time.
    TimedOut,
}

impl LookupFailure {
    /// The cause of the response to a request.
    pub(crate) const fn cause(self) -> Cause {
        match self {
            LookupFailure::Error => Cause::DnsError,
            LookupFailure::TimedOut => Cause::DnsTimeout,
        }
    }

    /// What the log says about a request.
    pub(crate) const fn evidence(self) -> &'static str {
        match self {
            LookupFailure::Error => "no server has been resolved to an address",
            LookupFailure::TimedOut => "no name server has answered yet",
        }
    }
}

/// The answers for both families.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NameAnswer {
    /// IPv4.
    pub v4: FamilyAnswer,
    /// IPv6.
    pub v6: FamilyAnswer,
}

impl NameAnswer {
    /// Both families failed.
    pub(crate) const fn failed(failure: LookupFailure) -> Self {
        NameAnswer { v4: FamilyAnswer::Failed(failure), v6: FamilyAnswer::Failed(failure) }
    }

    /// These addresses, in any order; [`LookupFailure::Error`] without any.
    pub(crate) fn of(addresses: impl IntoIterator<Item = IpAddr>, ttl: Duration) -> Self {
        let (v4, v6): (Vec<IpAddr>, Vec<IpAddr>) = addresses.into_iter().partition(IpAddr::is_ipv4);
        let family = |addresses: Vec<IpAddr>| match addresses.is_empty() {
            true => FamilyAnswer::Empty,
            false => FamilyAnswer::Addresses { addresses, ttl },
        };
        NameAnswer { v4: family(v4), v6: family(v6) }
    }

    /// Whether any family has addresses.
    pub(crate) const fn has_addresses(&self) -> bool {
        matches!(self.v4, FamilyAnswer::Addresses { .. }) || matches!(self.v6, FamilyAnswer::Addresses { .. })
    }

    /// Why there is no address; `None` if there is one.
    pub(crate) fn failure(&self) -> Option<LookupFailure> {
        match (&self.v4, &self.v6) {
            (FamilyAnswer::Addresses { .. }, _) | (_, FamilyAnswer::Addresses { .. }) => None,
            (
                FamilyAnswer::Failed(LookupFailure::TimedOut),
                FamilyAnswer::Failed(LookupFailure::TimedOut),
            ) => Some(LookupFailure::TimedOut),
            (
                FamilyAnswer::Empty | FamilyAnswer::Failed(_),
                FamilyAnswer::Empty | FamilyAnswer::Failed(_),
            ) => Some(LookupFailure::Error),
        }
    }
}

/// The state of one name.
#[derive(Clone, Debug, Default)]
pub(crate) struct NameState {
    v4: Vec<IpAddr>,
    v6: Vec<IpAddr>,
    /// Lookups in a row in which a family failed, or both were empty.
    failures: u32,
    /// When the name is looked up next; `None` before the first lookup.
    next: Option<Instant>,
    failure: Option<LookupFailure>,
}

impl NameState {
    /// Whether the name should be looked up now.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.next.is_none_or(|next| next <= now)
    }

    /// How long until the next lookup.
    pub(crate) fn wait(&self, now: Instant) -> Duration {
        self.next.map_or(Duration::ZERO, |next| next.saturating_duration_since(now))
    }

    /// The last good addresses of both families.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.v4.iter().chain(&self.v6).copied()
    }

    /// Why the last lookup gave no address; [`LookupFailure::TimedOut`] before the first one has ended.
    pub(crate) const fn failure(&self) -> Option<LookupFailure> {
        match self.next {
            None => Some(LookupFailure::TimedOut),
            Some(_) => self.failure,
        }
    }

    /// The state after a lookup that ended at `now`. `refresh` is the longest interval of lookups.
    pub(crate) fn apply(&mut self, answer: NameAnswer, refresh: Duration, now: Instant) {
        self.failure = answer.failure();
        let both_empty = !answer.has_addresses();
        let mut ttl = refresh;
        let mut failed = both_empty;
        for (known, family) in [(&mut self.v4, answer.v4), (&mut self.v6, answer.v6)] {
            match family {
                FamilyAnswer::Addresses { addresses, ttl: valid } => {
                    *known = addresses;
                    ttl = ttl.min(valid);
                }
                FamilyAnswer::Empty if both_empty => {}
                FamilyAnswer::Empty => known.clear(),
                FamilyAnswer::Failed(_) => failed = true,
            }
        }
        self.failures = if failed { self.failures.saturating_add(1) } else { 0 };
        let pause = match self.failures {
            0 => ttl.max(MIN_TTL),
            count => MIN_TTL.saturating_mul(1 << (count - 1).min(16)),
        };
        self.next = Some(now + pause.min(refresh));
    }
}

#[cfg(test)]
#[path = "name_state_tests.rs"]
mod tests;
