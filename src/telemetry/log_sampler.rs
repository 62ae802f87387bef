//! Samples the log lines of a storm: many requests that fail for one cause within a short time.
//!
//! Per cause and outcome, the first [`FULL_LINES`] lines of a [`WINDOW`] are written, then every [`SAMPLE_INTERVAL`]th.
//! The others are counted, and the count is written as a summary at most once per [`SUMMARY_INTERVAL`]; so the lines
//! and the counts add up to the requests. Only failed requests come here: a successful one pays nothing.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tracing::Level;

use super::access_log::{RequestOutcome, TARGET};
use crate::contract::Cause;

/// After this time the lines of a cause are written in full again.
const WINDOW: Duration = Duration::from_secs(10);
/// Lines per window that are written in full.
const FULL_LINES: u64 = 500;
/// Of the further lines of a window, every such line is written.
const SAMPLE_INTERVAL: u64 = 100;
/// How long omitted lines are counted before the count is written.
pub(crate) const SUMMARY_INTERVAL: Duration = Duration::from_secs(1);

/// Decides which failed requests get a line during a storm. Lives as long as the process.
#[derive(Debug, Default)]
pub(crate) struct LogSampler {
    kinds: Mutex<HashMap<LineKind, LineCounts>>,
    /// Notified of the first omitted line after a summary.
    omitted: Notify,
}

/// Lines that count together. A request without a fault, such as a replaced one, has no cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct LineKind {
    cause: Option<Cause>,
    outcome: RequestOutcome,
}

/// The lines of one kind.
#[derive(Clone, Copy, Debug)]
struct LineCounts {
    window_start: Instant,
    /// In this window, omitted ones included.
    lines: u64,
    /// Since the last summary.
    omitted: u64,
}

impl LineCounts {
    /// Counts a line; returns whether it is written.
    fn count(&mut self, now: Instant) -> bool {
        if now.saturating_duration_since(self.window_start) >= WINDOW {
            (self.window_start, self.lines) = (now, 0);
        }
        self.lines += 1;
        let is_written =
            self.lines <= FULL_LINES || (self.lines - FULL_LINES).is_multiple_of(SAMPLE_INTERVAL);
        self.omitted += u64::from(!is_written);
        is_written
    }
}

impl LogSampler {
    /// Counts a failed request; returns whether its line is written.
    pub(crate) fn admits(&self, cause: Option<Cause>, outcome: RequestOutcome, now: Instant) -> bool {
        let new = LineCounts { window_start: now, lines: 0, omitted: 0 };
        let mut kinds = self.kinds.lock();
        let counts = kinds.entry(LineKind { cause, outcome }).or_insert(new);
        let is_written = counts.count(now);
        let is_first_omitted = !is_written && counts.omitted == 1;
        drop(kinds);
        if is_first_omitted {
            self.omitted.notify_one();
        }
        is_written
    }

    /// Waits until a line was omitted.
    pub(crate) async fn wait_for_omitted(&self) {
        self.omitted.notified().await;
    }

    /// Writes a line for each kind with omitted lines: how many they were.
    pub(crate) fn write_summaries(&self) {
        self.take_omitted(|LineKind { cause, outcome }, omitted| {
            let cause = cause.map(Cause::name);
            match outcome.level() {
                Level::ERROR => summary_at!(Level::ERROR, cause, outcome, omitted),
                Level::WARN => summary_at!(Level::WARN, cause, outcome, omitted),
                // No outcome has another level.
                Level::INFO | Level::DEBUG | Level::TRACE => {
                    summary_at!(Level::INFO, cause, outcome, omitted);
                }
            }
        });
    }

    /// Passes on the number of omitted lines since the last call, under the lock: the last call of the process returns
    /// after all summaries are written.
    fn take_omitted(&self, mut write: impl FnMut(LineKind, u64)) {
        for (kind, counts) in self.kinds.lock().iter_mut().filter(|(_, counts)| counts.omitted > 0) {
            write(*kind, std::mem::take(&mut counts.omitted));
        }
    }
}

/// A macro, because tracing requires a constant level per callsite.
macro_rules! summary_at {
    ($level:expr, $cause:ident, $outcome:ident, $omitted:ident) => {
        tracing::event!(
            target: TARGET,
            $level,
            cause = $cause,
            outcome = $outcome.name(),
            omitted_lines = $omitted,
            message = "omitted log lines of one cause",
        )
    };
}
use summary_at;

#[cfg(test)]
mod tests {
    use super::*;

    const REFUSED: Option<Cause> = Some(Cause::ConnectionRefused);
    const FAILED: RequestOutcome = RequestOutcome::UpstreamFailed;

    /// Counts the lines that are written of this many requests at this time.
    fn written(sampler: &LogSampler, cause: Option<Cause>, requests: u64, now: Instant) -> u64 {
        (0..requests).map(|_| u64::from(sampler.admits(cause, FAILED, now))).sum()
    }

    fn omitted(sampler: &LogSampler) -> Vec<(LineKind, u64)> {
        let mut all = Vec::new();
        sampler.take_omitted(|kind, lines| all.push((kind, lines)));
        all
    }

    #[test]
    fn storm_is_sampled_and_every_omitted_line_is_counted_once() {
        let (sampler, now) = (LogSampler::default(), Instant::now());
        assert_eq!(written(&sampler, REFUSED, FULL_LINES, now), FULL_LINES);
        assert_eq!(omitted(&sampler), []);
        assert_eq!(written(&sampler, REFUSED, 250, now), 2);
        let kind = LineKind { cause: REFUSED, outcome: FAILED };
        assert_eq!(omitted(&sampler), [(kind, 248)]);
        assert_eq!(omitted(&sampler), []);
        assert_eq!(written(&sampler, REFUSED, 50, now), 1, "every hundredth, across summaries");
        assert_eq!(omitted(&sampler), [(kind, 49)]);
    }

    #[test]
    fn storm_omits_no_lines_of_other_causes_outcomes_and_windows() {
        let (sampler, now) = (LogSampler::default(), Instant::now());
        written(&sampler, REFUSED, 2 * FULL_LINES, now);
        assert_eq!(written(&sampler, Some(Cause::DnsError), 1, now), 1);
        assert_eq!(written(&sampler, None, 1, now), 1);
        assert!(sampler.admits(REFUSED, RequestOutcome::Rejected, now));
        assert_eq!(written(&sampler, REFUSED, 1, now + WINDOW - Duration::from_nanos(1)), 0);
        assert_eq!(written(&sampler, REFUSED, FULL_LINES + 1, now + WINDOW), FULL_LINES);
    }

    #[tokio::test]
    async fn first_omitted_line_wakes_the_writer_of_summaries() {
        let (sampler, now) = (LogSampler::default(), Instant::now());
        for _ in 0..2 {
            while sampler.admits(REFUSED, FAILED, now) {}
            sampler.wait_for_omitted().await;
            assert_eq!(omitted(&sampler).len(), 1);
        }
    }
}
