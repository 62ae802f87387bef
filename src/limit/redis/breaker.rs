//! The circuit breaker of a backend, as a pure state machine.
//!
//! It opens when the connection is lost or after `FAILURE_THRESHOLD` failures in a row; requests then make no calls.
//! A background task probes the server with exponential backoff; the first success closes the breaker.

use std::time::Duration;

use crate::limit::BackendError;

/// Consecutive failures that open the breaker.
const FAILURE_THRESHOLD: u32 = 5;
/// Time from the opening to the first probe; doubles with every probe.
const INITIAL_BACKOFF: Duration = Duration::from_millis(100);
/// Maximum time between probes.
const MAX_BACKOFF: Duration = Duration::from_secs(1);

/// The state of the breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Breaker {
    /// Calls are made.
    Closed {
        /// The ID of the current connection.
        connection: u64,
        /// Failures since the last success.
        failures: u32,
    },
    /// No calls are made, because the connection is missing or failing.
    Open {
        /// The ID of the last connection.
        connections: u64,
        /// Failed probes since the breaker opened.
        probes: u32,
    },
}

/// Open, before the first connection.
impl Default for Breaker {
    fn default() -> Self {
        Breaker::Open { connections: 0, probes: 0 }
    }
}

impl Breaker {
    /// The ID of the connection for calls, if closed.
    pub(crate) const fn connection(&self) -> Option<u64> {
        match self {
            Breaker::Closed { connection, .. } => Some(*connection),
            Breaker::Open { .. } => None,
        }
    }

    /// Records a success on this connection.
    pub(crate) fn record_success(&mut self, connection_id: u64) {
        if let Breaker::Closed { connection, failures } = self
            && *connection == connection_id
        {
            *failures = 0;
        }
    }

    /// Records a failure on this connection. Returns whether it opened the breaker.
    pub(crate) fn record_failure(&mut self, connection_id: u64, error: BackendError) -> bool {
        let Breaker::Closed { connection, failures } = self else { return false };
        if *connection != connection_id {
            // A late result of an earlier connection.
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

    /// The time until the next probe. Counts the probe.
    pub(crate) fn next_backoff(&mut self) -> Duration {
        match self {
            Breaker::Closed { .. } => INITIAL_BACKOFF,
            Breaker::Open { probes, .. } => {
                let backoff = INITIAL_BACKOFF.saturating_mul(1 << (*probes).min(16)).min(MAX_BACKOFF);
                *probes = probes.saturating_add(1);
                backoff
            }
        }
    }

    /// Closes the breaker after a successful probe. Returns the ID of the new connection.
    pub(crate) fn close(&mut self) -> u64 {
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
