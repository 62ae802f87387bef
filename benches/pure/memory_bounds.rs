//! Memory of a rate limit of at most 200,000 keys under 10,000,000 clients, and whether offenders stay limited.
//!
//! `limit::state_table` has a smaller version of this test. This run reads the resident memory of the whole process
//! before and after, so nothing else may run in it: `cargo bench --bench pure -- --bounds`.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use statusquo::limit::{
    Algorithm, KeyPart, Limiter, LimiterMode, LimiterSettings, Quota, QuotaDecision, Secret, Timestamp,
};

use crate::samples::ClientAddress;

/// Distinct clients.
const CLIENTS: u32 = 10_000_000;
/// Clients that have used up their quota.
const OFFENDERS: u32 = 1_000;
const MAX_KEYS: usize = 200_000;
/// Largest accepted growth of resident memory, in KiB.
const MAX_GROWTH_KIB: u64 = 40 * 1024;

/// Prints one line per algorithm; fails when a bound is exceeded.
#[allow(clippy::print_stdout)] // prints the result
pub fn check() {
    println!(
        "| algorithm | clients | kept | memory grew by | offenders still limited |\n|---|---|---|---|---|"
    );
    // Kept alive, so that no limiter is measured in memory that another one has freed.
    let mut measured = Vec::new();
    for (name, algorithm) in [
        ("gcra", Algorithm::Gcra),
        ("fixed_window", Algorithm::FixedWindow),
        ("sliding_window", Algorithm::SlidingWindow),
    ] {
        let before = resident();
        let settings = LimiterSettings {
            quota: Quota::new(100, Duration::from_secs(3_600), 100).expect("a valid quota"),
            algorithm,
            cost: 1,
            key: vec![KeyPart::ClientIp],
            unreadable: statusquo::limit::UnreadableBody::Reject,
            mode: LimiterMode::Enforce,
            exempt: Vec::new(),
            credentials: Vec::new(),
            reset_on: Vec::new(),
            retry_after_jitter: 0,
            store: None,
            max_keys: MAX_KEYS,
        };
        let limiter = Limiter::new("bounded", settings, Secret::new([7, 11]));
        let now = Timestamp::after_epoch(Duration::from_secs(60));
        let take = |number: u32| {
            let client = ClientAddress(IpAddr::V4(Ipv4Addr::from_bits(number)));
            matches!(limiter.debit(limiter.key(&client), now), QuotaDecision::Allow(_))
        };
        for offender in 0..OFFENDERS {
            assert_eq!((0..200).filter(|_| take(offender)).count(), 100, "{name}: {offender}");
        }
        for client in OFFENDERS..CLIENTS {
            assert!(take(client), "{name}: {client} is denied because of other clients");
        }
        let limited = (0..OFFENDERS).filter(|offender| !take(*offender)).count();
        let grown = resident().saturating_sub(before);
        let kept = limiter.stats(now).keys;
        println!("| {name} | {CLIENTS} | {kept} | {} KiB | {limited} of {OFFENDERS} |", grown);
        assert!(grown < MAX_GROWTH_KIB && kept <= MAX_KEYS as u64, "{name}: exceeds a bound");
        assert!(limited == OFFENDERS as usize, "{name}: offenders are no longer limited");
        measured.push(limiter);
    }
}

/// Resident memory of this process, in KiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("this runs on Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a VmRSS line");
    line.trim().trim_end_matches(" kB").parse().expect("a number of kB")
}
