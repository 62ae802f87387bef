//! The deadlines of one request, and which time limit expires first.
//!
//! Computes with the instants that callers pass and never reads the clock. The deadline is extended by the time spent
//! waiting for the client's body.

use std::time::{Duration, Instant};

use crate::config::Timeouts;
use crate::contract::{Cause, Fault, Phase};

/// A time limit: when it expires, and the fault that results.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TimeLimit {
    pub(super) at: Instant,
    cause: Cause,
    phase: Phase,
}

impl TimeLimit {
    pub(super) const fn new(at: Instant, cause: Cause, phase: Phase) -> Self {
        TimeLimit { at, cause, phase }
    }

    /// The earlier of two limits.
    #[must_use]
    pub(super) fn earlier(self, other: Option<TimeLimit>) -> TimeLimit {
        match other {
            Some(other) if other.at < self.at => other,
            Some(_) | None => self,
        }
    }

    /// The fault that results when the limit expires.
    pub(super) const fn fault(&self) -> Fault {
        Fault::new(self.cause, self.phase)
    }
}

/// The deadlines of one request.
#[derive(Clone, Copy, Debug)]
pub(super) struct RequestDeadlines {
    started: Instant,
    /// Time by which the deadline is extended.
    extension: Duration,
    deadline: Duration,
    max_duration: Option<Duration>,
}

impl RequestDeadlines {
    pub(super) const fn start(started: Instant, timeouts: &Timeouts) -> Self {
        RequestDeadlines {
            started,
            extension: Duration::ZERO,
            deadline: timeouts.deadline,
            max_duration: timeouts.max_duration,
        }
    }

    /// Extends the deadline by time spent waiting for the client.
    pub(super) fn extend(&mut self, waited: Duration) {
        self.extension += waited;
    }

    /// The earlier of `deadline` and `max_duration`.
    pub(super) fn earliest(&self, phase: Phase) -> TimeLimit {
        self.deadline(phase).earlier(self.max_duration(phase))
    }

    /// The limit on the time until the response is classified, an error with its body (`timeouts.deadline`).
    pub(super) fn deadline(&self, phase: Phase) -> TimeLimit {
        TimeLimit::new(self.started + self.deadline + self.extension, Cause::DeadlineExceeded, phase)
    }

    /// The limit on the whole request, if configured (`timeouts.max_duration`).
    pub(super) fn max_duration(&self, phase: Phase) -> Option<TimeLimit> {
        self.max_duration
            .map(|max_duration| TimeLimit::new(self.started + max_duration, Cause::DeadlineExceeded, phase))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_return_the_earliest_limit_and_extends_the_deadline() {
        let now = Instant::now();
        let second = Duration::from_secs(1);
        let timeouts = Timeouts {
            connect: second,
            tls: second,
            response_headers: second,
            deadline: second * 3,
            body_idle: second,
            stream_idle: second,
            tunnel_idle: second,
            max_duration: Some(second * 9),
        };
        let mut deadlines = RequestDeadlines::start(now, &timeouts);
        let response_headers =
            TimeLimit::new(now + second * 4, Cause::HttpResponseTimeout, Phase::ResponseHeaders);
        assert_eq!(
            response_headers.earlier(Some(deadlines.deadline(Phase::Send))).fault().cause(),
            Cause::DeadlineExceeded
        );
        deadlines.extend(second * 2);
        assert_eq!(
            response_headers.earlier(Some(deadlines.deadline(Phase::Send))).fault().cause(),
            Cause::HttpResponseTimeout
        );
        assert_eq!(deadlines.max_duration(Phase::Relay).map(|limit| limit.at), Some(now + second * 9));
    }
}
