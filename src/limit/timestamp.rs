//! Timestamps on a monotonic clock, relative to an epoch.
//!
//! Decisions do not depend on the system time, so that changing it has no effect. The caller chooses the epoch, to
//! which windows are aligned; it must not change while states exist.

use std::time::Duration;

/// Nanoseconds since the epoch. 64 bits suffice for 584 years.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The timestamp this long after the epoch, at most 584 years.
    pub fn after_epoch(since: Duration) -> Self {
        Timestamp(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
    }

    /// The time since the epoch.
    pub const fn since_epoch(self) -> Duration {
        Duration::from_nanos(self.0)
    }

    pub(super) const fn nanos(self) -> u64 {
        self.0
    }
}
