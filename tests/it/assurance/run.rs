//! Many cases by many clients at once; a case that fails is made smaller and shown byte for byte.
//!
//! It knows nothing of HTTP. `PROPERTY_SEED` and `PROPERTY_CASES` say which cases and how many.

use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::Mutex;

use super::random::Random;

/// Clients at once.
pub const CLIENTS: usize = 48;
/// Clients at once in a second try.
const FEW: usize = 6;
/// A case that fails is tried so often in smaller forms.
const TRIALS: usize = 60;

/// One kind of case.
pub trait Side: Sync {
    type Case: Clone + Debug + Send;

    /// Makes a case.
    fn make(&self, number: u64, random: &mut Random) -> Self::Case;

    /// Plays it under this number; an error says what was not as it must be.
    fn check(&self, number: u64, case: &Self::Case) -> Result<(), String>;

    /// The same with one part less, for every part.
    fn smaller(case: &Self::Case) -> Vec<Self::Case>;

    /// Every byte of it, in ASCII.
    fn show(case: &Self::Case) -> String;
}

/// Which cases.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub seed: u64,
    pub cases: u64,
    pub clients: usize,
}

impl Plan {
    /// By the environment, where it says something.
    pub fn of_environment(cases: u64) -> Plan {
        let number = |name: &str| -> Option<u64> {
            let text = std::env::var(name).ok()?;
            Some(text.parse().unwrap_or_else(|_| panic!("{name} is not a number: {text:?}")))
        };
        let seed = number("PROPERTY_SEED").unwrap_or(0x51a7_0500);
        Plan { seed, cases: number("PROPERTY_CASES").unwrap_or(cases), clients: CLIENTS }
    }
}

/// Tries the plan; what fails is tried once more from the start, by few clients, and has to fail again. Limits are short here,
/// and on a machine that is busy with other things they strike where nobody is slow; a real breach does not mind who is near.
pub fn twice(plan: Plan, attempt: impl Fn(Plan)) {
    if catch_unwind(AssertUnwindSafe(|| attempt(plan))).is_err() {
        eprintln!("once more, by {FEW} clients");
        attempt(Plan { clients: FEW, ..plan });
    }
}

/// Plays every case of the plan; panics with the first that fails. Says how many were played.
pub fn run<S: Side>(what: &str, plan: Plan, side: &S) -> u64 {
    let begun = Instant::now();
    let next = AtomicU64::new(0);
    let stop = AtomicBool::new(false);
    let failed: Mutex<Option<(u64, S::Case, String)>> = Mutex::new(None);
    std::thread::scope(|scope| {
        for _ in 0..plan.clients {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= plan.cases {
                        return;
                    }
                    let case = side.make(number, &mut Random::of(plan.seed, number));
                    if let Err(why) = guarded(side, number, &case) {
                        stop.store(true, Ordering::Relaxed);
                        failed.lock().get_or_insert((number, case, why));
                    }
                }
            });
        }
    });
    if let Some((number, case, why)) = failed.into_inner() {
        let (small, small_why) = minimise(side, plan.cases + number, case.clone(), why.clone());
        panic!(
            "{what}: case {number} of PROPERTY_SEED={} fails: {why}\n{}\nas small as it gets: {small_why}\n{}",
            plan.seed,
            S::show(&case),
            S::show(&small),
        );
    }
    let played = next.load(Ordering::Relaxed).min(plan.cases);
    eprintln!("{what}: {played} cases of PROPERTY_SEED={} in {:.1?}", plan.seed, begun.elapsed());
    played
}

fn guarded<S: Side>(side: &S, number: u64, case: &S::Case) -> Result<(), String> {
    catch_unwind(AssertUnwindSafe(|| side.check(number, case))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        Err(text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default())
    })
}

/// Leaves out part after part while it still fails.
fn minimise<S: Side>(side: &S, number: u64, mut case: S::Case, mut why: String) -> (S::Case, String) {
    let mut trials = 0;
    'smaller: loop {
        for small in S::smaller(&case) {
            trials += 1;
            if trials > TRIALS {
                return (case, why);
            }
            if let Err(still) = guarded(side, number, &small) {
                (case, why) = (small, still);
                continue 'smaller;
            }
        }
        return (case, why);
    }
}
