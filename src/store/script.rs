//! What is asked of a store: the script, the names of keys, and the numbers that say what is allowed.
//!
//! A key's name holds the rule's name, what the rule allows (so that a changed rule begins anew) and the hash of what is
//! counted by, in braces: Redis Cluster keeps what has one such tag on one node. Pure.

use std::fmt::Write as _;
use std::hash::Hasher;

use siphasher::sip::SipHasher13;

use crate::limit::{Algorithm, TakeRequest, Timestamp};

/// One atomic step: takes from all keys or from none, or gives back.
pub const TEXT: &str = include_str!("decide.lua");

/// The name that the server gives to the script: its SHA-1 in hexadecimal digits.
pub fn digest(text: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
    digest.as_ref().iter().fold(String::with_capacity(40), |mut name, octet| {
        let _ = write!(name, "{octet:02x}");
        name
    })
}

/// What is done with the keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Take from all or from none.
    Take,
    /// Undo what was taken at this moment of the store's clock.
    GiveBack(Timestamp),
}

/// Tells apart what is counted apart: rule, algorithm and quota.
pub fn kind(ask: &TakeRequest<'_>) -> u64 {
    let mut hasher = SipHasher13::new();
    hasher.write(ask.rule.as_bytes());
    hasher.write_u8(0xff);
    hasher.write_u8(ask.algorithm as u8);
    hasher.write_u32(ask.quota.allowed());
    hasher.write_u32(ask.quota.burst());
    hasher.write_u128(ask.quota.period().as_nanos());
    hasher.finish()
}

/// The name of a key.
pub fn name(prefix: &str, ask: &TakeRequest<'_>) -> String {
    format!("{prefix}{}:{:08x}:{{{:032x}}}", ask.rule, kind(ask) as u32, ask.key.bits())
}

/// What stands before the numbers of the keys.
pub fn step(step: Step) -> [String; 3] {
    let (word, at) = match step {
        Step::Take => ("take", Timestamp::default()),
        Step::GiveBack(at) => ("give back", at),
    };
    let at = at.since_origin();
    [word.to_owned(), at.as_secs().to_string(), at.subsec_nanos().to_string()]
}

/// The numbers of one key: algorithm, cost, and what is allowed.
pub fn numbers(ask: &TakeRequest<'_>) -> [String; 5] {
    let quota = &ask.quota;
    let (letter, [one, two, three]) = match ask.algorithm {
        Algorithm::Gcra => {
            let full = u64::try_from(quota.fill_time().as_nanos()).unwrap_or(u64::MAX);
            // The script's numbers are whole up to 2^53 ns, 104 days; above that a few of them are lost, and may not cost
            // the last request of a burst.
            let slack = if full > EXACT { 64 } else { 0 };
            let interval = full / u64::from(quota.burst());
            ("g", [interval, full.saturating_add(slack), u64::from(quota.burst())])
        }
        Algorithm::FixedWindow => ("f", window(ask)),
        Algorithm::SlidingWindow => ("s", window(ask)),
    };
    [letter.to_owned(), ask.cost.to_string(), one.to_string(), two.to_string(), three.to_string()]
}

/// The count, and the length in seconds and nanoseconds. One that is no whole number of seconds and longer than the script
/// can divide by becomes one: of 52 days, less than a second.
fn window(ask: &TakeRequest<'_>) -> [u64; 3] {
    let period = ask.quota.period();
    let (seconds, nanos) = (period.as_secs(), u64::from(period.subsec_nanos()));
    let (seconds, nanos) = if nanos > 0 && period.as_nanos() >= u128::from(EXACT / 2) {
        (seconds + 1, 0)
    } else {
        (seconds, nanos)
    };
    [u64::from(ask.quota.allowed()), seconds, nanos]
}

const EXACT: u64 = 1 << 53;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::limit::{Key, Quota};

    fn ask(rule: &str, allowed: u32, period: Duration, algorithm: Algorithm) -> TakeRequest<'_> {
        let quota = Quota::new(allowed, period, allowed).unwrap();
        TakeRequest { rule, key: Key::from_bits(0xabc), quota, algorithm, cost: 2 }
    }

    #[test]
    fn a_name_has_the_rule_what_it_allows_and_a_tag_and_nothing_that_a_client_sent() {
        let hour = Duration::from_secs(3_600);
        let name_of = |allowed, algorithm| name("p:", &ask("login", allowed, hour, algorithm));
        let login = name_of(10, Algorithm::Gcra);
        assert!(
            login.starts_with("p:login:") && login.ends_with(":{00000000000000000000000000000abc}"),
            "{login}"
        );
        assert_ne!(login, name_of(11, Algorithm::Gcra));
        assert_ne!(login, name_of(10, Algorithm::FixedWindow));
        assert_eq!(login, name_of(10, Algorithm::Gcra));
    }

    #[test]
    fn numbers_are_those_of_the_quota() {
        let of = |ask: &TakeRequest<'_>| numbers(ask).join(" ");
        assert_eq!(of(&ask("r", 3, Duration::from_secs(1), Algorithm::Gcra)), "g 2 333333334 1000000002 3");
        assert_eq!(
            of(&ask("r", 9, Duration::from_millis(1500), Algorithm::FixedWindow)),
            "f 2 9 1 500000000"
        );
        assert_eq!(of(&ask("r", 9, Duration::from_secs(7), Algorithm::SlidingWindow)), "s 2 9 7 0");
        let odd = Duration::new(100 * 86_400, 1);
        assert_eq!(of(&ask("r", 9, odd, Algorithm::SlidingWindow)), "s 2 9 8640001 0");
        assert_eq!(step(Step::Take).join(" "), "take 0 0");
        let at = Timestamp::after_origin(Duration::new(5, 7));
        assert_eq!(step(Step::GiveBack(at)).join(" "), "give back 5 7");
    }

    #[test]
    fn the_digest_is_what_a_server_calls_the_script() {
        assert_eq!(digest("return 1"), "e0e1f9fabfc9d4800c877a703b823ac0578ff8db");
    }
}
