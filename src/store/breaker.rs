//! When a store is asked, and when it is left alone: a machine of two states that is told what happened and when. Pure.
//!
//! It opens when the connection is lost or when answer after answer fails, and from then on no request asks. Whether the
//! store has come back is tried beside the requests, ever more seldom; the first success closes it.

use std::time::Duration;

use crate::limit::BackendError;

/// So many failures in a row are no accident.
const FAILURES: u32 = 5;
/// From the opening to the first trial, and then twice as long each time.
const FIRST: Duration = Duration::from_millis(100);
/// But no longer than this.
const LONGEST: Duration = Duration::from_secs(1);

/// Whether the store is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Breaker {
    /// It is, by this connection; so many answers in a row have failed.
    Closed {
        /// Which connection.
        connection: u64,
        /// Failures since the last success.
        failures: u32,
    },
    /// It is not: there is no connection, or a bad one.
    Open {
        /// Connections so far.
        connections: u64,
        /// Trials that failed since it opened.
        trials: u32,
    },
}

/// Nothing has been tried yet.
impl Default for Breaker {
    fn default() -> Self {
        Breaker::Open { connections: 0, trials: 0 }
    }
}

impl Breaker {
    /// The connection that may be asked.
    pub const fn connection(&self) -> Option<u64> {
        match self {
            Breaker::Closed { connection, .. } => Some(*connection),
            Breaker::Open { .. } => None,
        }
    }

    /// An answer has come by this connection.
    pub fn answered(&mut self, by: u64) {
        if let Breaker::Closed { connection, failures } = self
            && *connection == by
        {
            *failures = 0;
        }
    }

    /// An answer by this connection has failed; says whether that opens the breaker.
    pub fn failed(&mut self, by: u64, how: BackendError) -> bool {
        let Breaker::Closed { connection, failures } = self else { return false };
        if *connection != by {
            // What was asked of an earlier connection says nothing of this one.
            return false;
        }
        *failures += 1;
        let opens = match how {
            BackendError::Unreachable => true,
            BackendError::Timeout
            | BackendError::InvalidReply
            | BackendError::ErrorReply
            | BackendError::CircuitOpen => *failures >= FAILURES,
        };
        if opens {
            *self = Breaker::Open { connections: *connection, trials: 0 };
        }
        opens
    }

    /// A trial has failed, or the breaker has just opened: so long until the next.
    pub fn pause(&mut self) -> Duration {
        match self {
            Breaker::Closed { .. } => FIRST,
            Breaker::Open { trials, .. } => {
                let pause = FIRST.saturating_mul(1 << (*trials).min(16)).min(LONGEST);
                *trials = trials.saturating_add(1);
                pause
            }
        }
    }

    /// A trial has succeeded: the number of its connection.
    pub fn closes(&mut self) -> u64 {
        let connection = match self {
            Breaker::Closed { connection, .. } => *connection + 1,
            Breaker::Open { connections, .. } => *connections + 1,
        };
        *self = Breaker::Closed { connection, failures: 0 };
        connection
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_opens_at_a_lost_connection_and_after_five_failures_in_a_row() {
        let mut breaker = Breaker::default();
        assert_eq!(breaker.connection(), None);
        let one = breaker.closes();
        assert_eq!(breaker.connection(), Some(one));
        for _ in 0..3 {
            for _ in 0..4 {
                assert!(!breaker.failed(one, BackendError::Timeout));
            }
            breaker.answered(one);
        }
        for _ in 0..4 {
            assert!(!breaker.failed(one, BackendError::InvalidReply));
        }
        assert!(breaker.failed(one, BackendError::ErrorReply));
        assert_eq!(breaker.connection(), None);
        assert!(!breaker.failed(one, BackendError::Timeout), "once is enough");
        let two = breaker.closes();
        assert_ne!(one, two);
        assert!(breaker.failed(two, BackendError::Unreachable));
    }

    #[test]
    fn what_was_asked_of_an_earlier_connection_says_nothing_of_this_one() {
        let mut breaker = Breaker::default();
        let one = breaker.closes();
        assert!(breaker.failed(one, BackendError::Unreachable));
        let two = breaker.closes();
        assert!(!breaker.failed(one, BackendError::Unreachable));
        for _ in 0..4 {
            assert!(!breaker.failed(two, BackendError::Timeout));
        }
        breaker.answered(one);
        assert!(breaker.failed(two, BackendError::Timeout));
    }

    #[test]
    fn trials_become_seldom_and_never_cease() {
        let mut breaker = Breaker::default();
        let pauses: Vec<u128> = (0..6).map(|_| breaker.pause().as_millis()).collect();
        assert_eq!(pauses, [100, 200, 400, 800, 1000, 1000]);
        for _ in 0..100 {
            assert_eq!(breaker.pause(), LONGEST);
        }
        let one = breaker.closes();
        assert!(breaker.failed(one, BackendError::Unreachable));
        assert_eq!(breaker.pause(), FIRST);
    }
}
