//! When a store is asked, and when it is left alone: a machine of two states that is told what happened and when. Pure.
//!
//! It opens when the connection is lost or when answer after answer fails, and from then on no request asks. Whether the
//! store has come back is tried beside the requests, ever more seldom; the first success closes it.

use std::time::Duration;

use crate::limit::BackendError;

/// So many failures in a row are no accident.
const FAILURE_THRESHOLD: u32 = 5;
/// From the opening to the first trial, and then twice as long each time.
const INITIAL_BACKOFF: Duration = Duration::from_millis(100);
/// But no longer than this.
const MAX_BACKOFF: Duration = Duration::from_secs(1);

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
        probes: u32,
    },
}

/// Nothing has been tried yet.
impl Default for Breaker {
    fn default() -> Self {
        Breaker::Open { connections: 0, probes: 0 }
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
    pub fn record_success(&mut self, connection_id: u64) {
        if let Breaker::Closed { connection, failures } = self
            && *connection == connection_id
        {
            *failures = 0;
        }
    }

    /// An answer by this connection has failed; says whether that opens the breaker.
    pub fn record_failure(&mut self, connection_id: u64, error: BackendError) -> bool {
        let Breaker::Closed { connection, failures } = self else { return false };
        if *connection != connection_id {
            // What was asked of an earlier connection says nothing of this one.
            return false;
        }
        *failures += 1;
        let opens = match error {
            BackendError::Unreachable => true,
            BackendError::Timeout
            | BackendError::InvalidReply
            | BackendError::ErrorReply
            | BackendError::CircuitOpen => *failures >= FAILURE_THRESHOLD,
        };
        if opens {
            *self = Breaker::Open { connections: *connection, probes: 0 };
        }
        opens
    }

    /// A trial has failed, or the breaker has just opened: so long until the next.
    pub fn next_backoff(&mut self) -> Duration {
        match self {
            Breaker::Closed { .. } => INITIAL_BACKOFF,
            Breaker::Open { probes: trials, .. } => {
                let backoff = INITIAL_BACKOFF.saturating_mul(1 << (*trials).min(16)).min(MAX_BACKOFF);
                *trials = trials.saturating_add(1);
                backoff
            }
        }
    }

    /// A trial has succeeded: the number of its connection.
    pub fn close(&mut self) -> u64 {
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
    fn opens_on_connection_loss_or_five_failures() {
        let mut breaker = Breaker::default();
        assert_eq!(breaker.connection(), None);
        let one = breaker.close();
        assert_eq!(breaker.connection(), Some(one));
        for _ in 0..3 {
            for _ in 0..4 {
                assert!(!breaker.record_failure(one, BackendError::Timeout));
            }
            breaker.record_success(one);
        }
        for _ in 0..4 {
            assert!(!breaker.record_failure(one, BackendError::InvalidReply));
        }
        assert!(breaker.record_failure(one, BackendError::ErrorReply));
        assert_eq!(breaker.connection(), None);
        assert!(!breaker.record_failure(one, BackendError::Timeout), "once is enough");
        let two = breaker.close();
        assert_ne!(one, two);
        assert!(breaker.record_failure(two, BackendError::Unreachable));
    }

    #[test]
    fn results_of_an_old_connection_are_ignored() {
        let mut breaker = Breaker::default();
        let one = breaker.close();
        assert!(breaker.record_failure(one, BackendError::Unreachable));
        let two = breaker.close();
        assert!(!breaker.record_failure(one, BackendError::Unreachable));
        for _ in 0..4 {
            assert!(!breaker.record_failure(two, BackendError::Timeout));
        }
        breaker.record_success(one);
        assert!(breaker.record_failure(two, BackendError::Timeout));
    }

    #[test]
    fn backoff_grows_to_the_maximum() {
        let mut breaker = Breaker::default();
        let backoffs: Vec<u128> = (0..6).map(|_| breaker.next_backoff().as_millis()).collect();
        assert_eq!(backoffs, [100, 200, 400, 800, 1000, 1000]);
        for _ in 0..100 {
            assert_eq!(breaker.next_backoff(), MAX_BACKOFF);
        }
        let one = breaker.close();
        assert!(breaker.record_failure(one, BackendError::Unreachable));
        assert_eq!(breaker.next_backoff(), INITIAL_BACKOFF);
    }
}
