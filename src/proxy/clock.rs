//! The times of one request: when it began, when it must have been answered, and which limit strikes first.
//!
//! Pure on given instants. The total deadline stands still while we wait for the client's own bytes.

use std::time::{Duration, Instant};

use crate::config::Timeouts;
use crate::contract::{Cause, Fault, Phase};

/// A limit that may strike: when, and what it means then.
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

    /// The earlier of two.
    #[must_use]
    pub(super) fn earlier(self, other: Option<TimeLimit>) -> TimeLimit {
        match other {
            Some(other) if other.at < self.at => other,
            Some(_) | None => self,
        }
    }

    /// What it means when it strikes.
    pub(super) const fn fault(&self) -> Fault {
        Fault::new(self.cause, self.phase)
    }
}

/// The clock of one request.
#[derive(Clone, Copy, Debug)]
pub(super) struct RequestClock {
    started: Instant,
    paused: Duration,
    deadline: Duration,
    max_duration: Option<Duration>,
}

impl RequestClock {
    pub(super) const fn start(started: Instant, timeouts: &Timeouts) -> Self {
        RequestClock {
            started,
            paused: Duration::ZERO,
            deadline: timeouts.deadline,
            max_duration: timeouts.max_duration,
        }
    }

    /// So long we waited for the client: that time is not the upstream's.
    pub(super) fn pause(&mut self, waited: Duration) {
        self.paused += waited;
    }

    /// When the response head must have been judged.
    pub(super) fn deadline(&self, phase: Phase) -> TimeLimit {
        TimeLimit::new(self.started + self.deadline + self.paused, Cause::DeadlineExceeded, phase)
    }

    /// When everything must be over, where that is limited.
    pub(super) fn max_duration(&self, phase: Phase) -> Option<TimeLimit> {
        self.max_duration
            .map(|max_duration| TimeLimit::new(self.started + max_duration, Cause::DeadlineExceeded, phase))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clock_returns_the_earliest_limit_and_pauses_the_deadline() {
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
        let mut clock = RequestClock::start(now, &timeouts);
        let response_headers =
            TimeLimit::new(now + second * 4, Cause::HttpResponseTimeout, Phase::ResponseHeaders);
        assert_eq!(
            response_headers.earlier(Some(clock.deadline(Phase::Send))).fault().cause(),
            Cause::DeadlineExceeded
        );
        clock.pause(second * 2);
        assert_eq!(
            response_headers.earlier(Some(clock.deadline(Phase::Send))).fault().cause(),
            Cause::HttpResponseTimeout
        );
        assert_eq!(clock.max_duration(Phase::Relay).map(|limit| limit.at), Some(now + second * 9));
    }
}
