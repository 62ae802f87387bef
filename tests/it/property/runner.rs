//! Runs many cases with concurrent clients; a failing case is shrunk and printed byte for byte.
//!
//! Independent of HTTP. `PROPERTY_SEED` and `PROPERTY_CASES` select the cases and their number.

use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::Mutex;

use super::random::SeededRandom;

/// Concurrent clients.
pub const CLIENTS: usize = 48;
/// Concurrent clients of a retry.
const RETRY_CLIENTS: usize = 6;
/// Trials with smaller variants of a failing case.
const MAX_SHRINK_TRIALS: usize = 60;

/// A property and its cases.
pub trait Property: Sync {
    type Case: Clone + Debug + Send;

    /// Generates a case.
    fn make(&self, number: u64, random: &mut SeededRandom) -> Self::Case;

    /// Runs a case under this number; an error describes the violation.
    fn check(&self, number: u64, case: &Self::Case) -> Result<(), String>;

    /// All variants with one part less.
    fn shrink(case: &Self::Case) -> Vec<Self::Case>;

    /// All bytes of the case, in ASCII.
    fn render(case: &Self::Case) -> String;
}

/// The selected cases.
#[derive(Clone, Copy, Debug)]
pub struct CasePlan {
    pub seed: u64,
    pub cases: u64,
    pub clients: usize,
}

impl CasePlan {
    /// Reads the environment; `cases` is the default number.
    pub fn from_environment(cases: u64) -> CasePlan {
        let number = |name: &str| -> Option<u64> {
            let text = std::env::var(name).ok()?;
            Some(text.parse().unwrap_or_else(|_| panic!("{name} is not a number: {text:?}")))
        };
        let seed = number("PROPERTY_SEED").unwrap_or(0x51a7_0500);
        CasePlan { seed, cases: number("PROPERTY_CASES").unwrap_or(cases), clients: CLIENTS }
    }
}

/// Runs the plan and retries it once with fewer clients on failure; only a second failure counts. The timeouts are
/// short, so on a busy machine they may expire without a fault; a real violation does not depend on concurrency.
pub fn with_retry(plan: CasePlan, attempt: impl Fn(CasePlan)) {
    if catch_unwind(AssertUnwindSafe(|| attempt(plan))).is_err() {
        eprintln!("retrying with {RETRY_CLIENTS} clients");
        attempt(CasePlan { clients: RETRY_CLIENTS, ..plan });
    }
}

/// Runs every case of the plan; panics on the first failure. Returns the number of cases.
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

/// Removes parts while the case still fails.
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
