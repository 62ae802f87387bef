//! The times of one request: when it began, when it must have been answered, and which limit strikes first.
//!
//! Pure on given instants. The total deadline stands still while we wait for the client's own bytes.

use std::time::{Duration, Instant};

use crate::config::Timeouts;
use crate::contract::{Cause, Fault, Phase};

/// A limit that may strike: when, and what it means then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limit {
    pub(super) at: Instant,
    cause: Cause,
    phase: Phase,
}

impl Limit {
    pub(super) const fn new(at: Instant, cause: Cause, phase: Phase) -> Self {
        Limit { at, cause, phase }
    }

    /// The earlier of two.
    #[must_use]
    pub(super) fn or(self, other: Option<Limit>) -> Limit {
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
pub(super) struct Clock {
    started: Instant,
    paused: Duration,
    total: Duration,
    whole: Option<Duration>,
}

impl Clock {
    pub(super) const fn start(started: Instant, timeouts: &Timeouts) -> Self {
        Clock { started, paused: Duration::ZERO, total: timeouts.deadline, whole: timeouts.max_duration }
    }

    /// So long we waited for the client: that time is not the upstream's.
    pub(super) fn pause(&mut self, waited: Duration) {
        self.paused += waited;
    }

    /// When the response head must have been judged.
    pub(super) fn total(&self, phase: Phase) -> Limit {
        Limit::new(self.started + self.total + self.paused, Cause::DeadlineExceeded, phase)
    }

    /// When everything must be over, where that is limited.
    pub(super) fn whole(&self, phase: Phase) -> Option<Limit> {
        self.whole.map(|whole| Limit::new(self.started + whole, Cause::DeadlineExceeded, phase))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_limit_strikes_and_waiting_for_the_client_moves_the_total() {
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
        let mut clock = Clock::start(now, &timeouts);
        let head = Limit::new(now + second * 4, Cause::HttpResponseTimeout, Phase::ResponseHeaders);
        assert_eq!(head.or(Some(clock.total(Phase::Send))).fault().cause(), Cause::DeadlineExceeded);
        clock.pause(second * 2);
        assert_eq!(head.or(Some(clock.total(Phase::Send))).fault().cause(), Cause::HttpResponseTimeout);
        assert_eq!(clock.whole(Phase::Relay).map(|limit| limit.at), Some(now + second * 9));
    }
}
