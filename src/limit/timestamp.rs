//! A moment on a clock that only runs forward, as far from an origin as the caller says.
//!
//! It is no time of day: decisions never see one, so setting the system's clock changes none. The origin is the caller's
//! choice, and windows are aligned to it; it must be the same for the life of the states that are compared with it.

use std::time::Duration;

/// Nanoseconds since the origin. 64 bits last for 584 years.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The moment this long after the origin; further than 584 years is the last moment.
    pub fn after_origin(since: Duration) -> Self {
        Timestamp(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
    }

    /// How long after the origin.
    pub const fn since_origin(self) -> Duration {
        Duration::from_nanos(self.0)
    }

    pub(super) const fn nanos(self) -> u64 {
        self.0
    }
}
