//! Many cases by many clients at once; a case that fails is made smaller and shown byte for byte.
//!
//! It knows nothing of HTTP. `PROPERTY_SEED` and `PROPERTY_CASES` say which cases and how many.

use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::Mutex;

use super::random::SeededRandom;

/// Clients at once.
pub const CLIENTS: usize = 48;
/// Clients at once in a second try.
const RETRY_CLIENTS: usize = 6;
/// A case that fails is tried so often in smaller forms.
const MAX_SHRINK_TRIALS: usize = 60;

/// One kind of case.
pub trait Property: Sync {
    type Case: Clone + Debug + Send;

    /// Makes a case.
    fn make(&self, number: u64, random: &mut SeededRandom) -> Self::Case;

    /// Plays it under this number; an error says what was not as it must be.
    fn check(&self, number: u64, case: &Self::Case) -> Result<(), String>;

    /// The same with one part less, for every part.
    fn shrink(case: &Self::Case) -> Vec<Self::Case>;

    /// Every byte of it, in ASCII.
    fn render(case: &Self::Case) -> String;
}

/// Which cases.
#[derive(Clone, Copy, Debug)]
pub struct CasePlan {
    pub seed: u64,
    pub cases: u64,
    pub clients: usize,
}

impl CasePlan {
    /// By the environment, where it says something.
    pub fn from_environment(cases: u64) -> CasePlan {
        let number = |name: &str| -> Option<u64> {
            let text = std::env::var(name).ok()?;
            Some(text.parse().unwrap_or_else(|_| panic!("{name} is not a number: {text:?}")))
        };
        let seed = number("PROPERTY_SEED").unwrap_or(0x51a7_0500);
        CasePlan { seed, cases: number("PROPERTY_CASES").unwrap_or(cases), clients: CLIENTS }
    }
}

/// Tries the plan; what fails is tried once more from the start, by few clients, and has to fail again. Limits are short here,
/// and on a machine that is busy with other things they strike where nobody is slow; a real breach does not mind who is near.
pub fn with_retry(plan: CasePlan, attempt: impl Fn(CasePlan)) {
    if catch_unwind(AssertUnwindSafe(|| attempt(plan))).is_err() {
        eprintln!("once more, by {RETRY_CLIENTS} clients");
        attempt(CasePlan { clients: RETRY_CLIENTS, ..plan });
    }
}

/// Plays every case of the plan; panics with the first that fails. Says how many were played.
pub fn run<S: Property>(what: &str, plan: CasePlan, property: &S) -> u64 {
    let started = Instant::now();
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
                    let case = property.make(number, &mut SeededRandom::of(plan.seed, number));
                    if let Err(reason) = check_without_panic(property, number, &case) {
                        stop.store(true, Ordering::Relaxed);
                        failed.lock().get_or_insert((number, case, reason));
                    }
                }
            });
        }
    });
    if let Some((number, case, reason)) = failed.into_inner() {
        let (shrunk, shrunk_reason) =
            shrink_case(property, plan.cases + number, case.clone(), reason.clone());
        panic!(
            "{what}: case {number} of PROPERTY_SEED={} fails: {reason}\n{}\nas small as it gets: {shrunk_reason}\n{}",
            plan.seed,
            S::render(&case),
            S::render(&shrunk),
        );
    }
    let played = next.load(Ordering::Relaxed).min(plan.cases);
    eprintln!("{what}: {played} cases of PROPERTY_SEED={} in {:.1?}", plan.seed, started.elapsed());
    played
}

fn check_without_panic<S: Property>(property: &S, number: u64, case: &S::Case) -> Result<(), String> {
    catch_unwind(AssertUnwindSafe(|| property.check(number, case))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        Err(text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default())
    })
}

/// Leaves out part after part while it still fails.
fn shrink_case<S: Property>(
    property: &S,
    number: u64,
    mut case: S::Case,
    mut reason: String,
) -> (S::Case, String) {
    let mut trials = 0;
    'smaller: loop {
        for shrunk in S::shrink(&case) {
            trials += 1;
            if trials > MAX_SHRINK_TRIALS {
                return (case, reason);
            }
            if let Err(shrunk_reason) = check_without_panic(property, number, &shrunk) {
                (case, reason) = (shrunk, shrunk_reason);
                continue 'smaller;
            }
        }
        return (case, reason);
    }
}
