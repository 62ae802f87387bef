//! The load factor: how many times longer this machine takes for the same work because other processes use its
//! processors.
//!
//! It is measured before the gateways start. Every timeout of the run is multiplied by it, so that a busy machine makes
//! a run slower instead of making it fail. The ratio of elapsed time to processor time is independent of the
//! processor's speed.

use std::num::NonZero;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

/// In tenths, so that scaled timeouts are exact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LoadFactor {
    tenths: u32,
}

impl LoadFactor {
    /// No other process uses the processors.
    pub(super) const IDLE: LoadFactor = LoadFactor { tenths: 10 };

    /// Keeps a few processors busy for a moment. Call it while this process is otherwise idle: its own work would be
    /// taken for progress. [`LoadFactor::IDLE`] where the system does not report processor time.
    pub(super) fn measure() -> LoadFactor {
        let threads = thread::available_parallelism().map_or(MIN_THREADS, NonZero::get);
        let threads = threads.clamp(MIN_THREADS, MAX_THREADS);
        let Some(before) = processor_time() else { return LoadFactor::IDLE };
        let begun = Instant::now();
        let deadline = begun + WINDOW;
        let started = thread::scope(|scope| {
            let spin = || {
                while Instant::now() < deadline {
                    std::hint::spin_loop();
                }
            };
            let spawn = |_: &usize| thread::Builder::new().spawn_scoped(scope, spin).is_ok();
            (0..threads).filter(spawn).count()
        });
        let elapsed = begun.elapsed();
        match processor_time() {
            Some(after) if started == threads => {
                LoadFactor::of(elapsed * u32::try_from(threads).unwrap_or(1), after.saturating_sub(before))
            }
            Some(_) | None => LoadFactor::IDLE,
        }
    }

    /// The ratio of the needed processor time to the received one.
    fn of(needed: Duration, received: Duration) -> LoadFactor {
        let tenths = (needed.as_millis() * 10).checked_div(received.as_millis());
        let tenths = tenths.and_then(|tenths| u32::try_from(tenths).ok()).unwrap_or(u32::MAX);
        LoadFactor { tenths: tenths.clamp(LoadFactor::IDLE.tenths, MAX_TENTHS) }
    }

    /// Multiplies a timeout by the factor.
    pub(super) fn scale(self, limit: Duration) -> Duration {
        limit.saturating_mul(self.tenths) / LoadFactor::IDLE.tenths
    }

    /// Whether `later` is more than 25 % higher, so that timeouts scaled by `self` were too short.
    pub(super) fn is_exceeded_by(self, later: LoadFactor) -> bool {
        later.tenths * 4 > self.tenths * 5
    }

    /// The factor in tenths.
    pub(super) const fn tenths(self) -> u32 {
        self.tenths
    }

    pub(super) fn as_f64(self) -> f64 {
        f64::from(self.tenths) / f64::from(LoadFactor::IDLE.tenths)
    }
}

impl std::fmt::Display for LoadFactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.1}", self.as_f64())
    }
}

/// Several scheduler time slices, and several periods of a CPU quota (100 ms on Linux).
const WINDOW: Duration = Duration::from_millis(300);
/// A run needs two processors: on one alone, the factor is 2.
const MIN_THREADS: usize = 2;
/// More threads do not improve the measurement.
const MAX_THREADS: usize = 4;
/// Above this a row would take minutes, and scripts would end before the timeouts that they test.
const MAX_TENTHS: u32 = 100;

/// The processor time of all threads of this process.
fn processor_time() -> Option<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_SELF).ok()?;
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    u64::try_from(micros).ok().map(Duration::from_micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn load_factor_is_needed_over_received_processor_time_within_bounds() {
        let of = |needed, received| LoadFactor::of(SECOND * needed, SECOND * received).to_string();
        assert_eq!(
            [of(6, 6), of(6, 7), of(6, 5), of(6, 2), of(600, 1), of(6, 0)],
            ["1.0", "1.0", "1.2", "3.0", "10.0", "10.0"]
        );
    }

    #[test]
    fn timeouts_are_multiplied_exactly() {
        let factor = LoadFactor::of(SECOND * 23, SECOND * 10);
        assert_eq!(factor.scale(Duration::from_millis(700)), Duration::from_millis(1610));
        assert_eq!(LoadFactor::IDLE.scale(SECOND), SECOND);
        assert!(LoadFactor::IDLE.scale(Duration::MAX) > SECOND);
    }

    #[test]
    fn factor_is_exceeded_by_a_quarter_more() {
        let of = |tenths| LoadFactor { tenths };
        assert!(!of(20).is_exceeded_by(of(25)) && of(20).is_exceeded_by(of(26)));
        assert!(!of(20).is_exceeded_by(of(10)));
    }

    #[test]
    fn measured_factor_is_within_its_bounds() {
        let measured = LoadFactor::measure();
        assert!(measured >= LoadFactor::IDLE && measured.as_f64() <= 10.0, "{measured}");
    }
}
