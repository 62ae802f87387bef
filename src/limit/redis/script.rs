//! The script, the names of its keys, and its arguments.
//!
//! A key name has the rule's name, a hash of its quota (so that a changed rule starts with new counts) and the hashed
//! key in braces: the hash tag by which Redis Cluster selects the node. Pure.

use std::fmt::Write as _;
use std::hash::Hasher;

use siphasher::sip::SipHasher13;

use crate::limit::{Algorithm, DebitRequest, Timestamp};

/// The source of the script: debits all keys or none, or refunds, atomically.
pub const SOURCE: &str = include_str!("decide.lua");

/// The SHA-1 digest of a script in hexadecimal, by which the server identifies it.
pub fn sha1_digest(text: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
    digest.as_ref().iter().fold(String::with_capacity(40), |mut name, octet| {
        let _ = write!(name, "{octet:02x}");
        name
    })
}

/// The operation of a script call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScriptOperation {
    /// Debit all keys or none.
    Debit,
    /// Undo a debit made at this time of the server's clock.
    Refund(Timestamp),
}

/// Hashes what has separate counts: rule, algorithm and quota.
pub(crate) fn rule_hash(request: &DebitRequest<'_>) -> u64 {
    let mut hasher = SipHasher13::new();
    hasher.write(request.rule.as_bytes());
    hasher.write_u8(0xff);
    hasher.write_u8(request.algorithm as u8);
    hasher.write_u32(request.quota.allowed());
    hasher.write_u32(request.quota.burst());
    hasher.write_u128(request.quota.period().as_nanos());
    hasher.finish()
}

/// The name of a request's key on the server.
pub fn key_name(prefix: &str, request: &DebitRequest<'_>) -> String {
    format!("{prefix}{}:{:08x}:{{{:032x}}}", request.rule, rule_hash(request) as u32, request.key.bits())
}

/// The first arguments of the script: operation and time.
pub fn operation_args(operation: ScriptOperation) -> [String; 3] {
    let (name, at) = match operation {
        ScriptOperation::Debit => ("debit", Timestamp::default()),
        ScriptOperation::Refund(at) => ("refund", at),
    };
    let at = at.since_epoch();
    [name.to_owned(), at.as_secs().to_string(), at.subsec_nanos().to_string()]
}

/// The arguments of one key: algorithm, cost, and three numbers of the quota.
pub fn key_args(request: &DebitRequest<'_>) -> [String; 5] {
    let quota = &request.quota;
    let (algorithm_code, [one, two, three]) = match request.algorithm {
        Algorithm::Gcra => {
            let full = u64::try_from(quota.fill_time().as_nanos()).unwrap_or(u64::MAX);
            // The script's numbers are exact up to 2^53 ns (104 days). Above that, rounding must not deny the last
            // request of a burst.
            let slack = if full > MAX_EXACT_INTEGER { 64 } else { 0 };
            let interval = full / u64::from(quota.burst());
            ("g", [interval, full.saturating_add(slack), u64::from(quota.burst())])
        }
        Algorithm::FixedWindow => ("f", window_args(request)),
        Algorithm::SlidingWindow => ("s", window_args(request)),
    };
    [algorithm_code.to_owned(), request.cost.to_string(), one.to_string(), two.to_string(), three.to_string()]
}

/// The count, and the window length in seconds and nanoseconds. The script cannot divide exactly by fractional seconds
/// above 52 days, so such lengths are rounded up to whole seconds.
fn window_args(request: &DebitRequest<'_>) -> [u64; 3] {
    let period = request.quota.period();
    let (seconds, nanos) = (period.as_secs(), u64::from(period.subsec_nanos()));
    let (seconds, nanos) = if nanos > 0 && period.as_nanos() >= u128::from(MAX_EXACT_INTEGER / 2) {
        (seconds + 1, 0)
    } else {
        (seconds, nanos)
    };
    [u64::from(request.quota.allowed()), seconds, nanos]
}

/// The first integer above which an `f64` is not exact; numbers in Lua are `f64`.
const MAX_EXACT_INTEGER: u64 = 1 << 53;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::limit::{Key, Quota};

    fn request(rule: &str, allowed: u32, period: Duration, algorithm: Algorithm) -> DebitRequest<'_> {
        let quota = Quota::new(allowed, period, allowed).unwrap();
        DebitRequest { rule, key: Key::from_bits(0xabc), quota, algorithm, cost: 2 }
    }

    #[test]
    fn key_name_contains_rule_quota_hash_and_tag() {
        let hour = Duration::from_secs(3_600);
        let name_of = |allowed, algorithm| key_name("p:", &request("login", allowed, hour, algorithm));
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
    fn key_args_follow_the_quota() {
        let of = |request: &DebitRequest<'_>| key_args(request).join(" ");
        assert_eq!(
            of(&request("r", 3, Duration::from_secs(1), Algorithm::Gcra)),
            "g 2 333333334 1000000002 3"
        );
        assert_eq!(
            of(&request("r", 9, Duration::from_millis(1500), Algorithm::FixedWindow)),
            "f 2 9 1 500000000"
        );
        assert_eq!(of(&request("r", 9, Duration::from_secs(7), Algorithm::SlidingWindow)), "s 2 9 7 0");
        let odd = Duration::new(100 * 86_400, 1);
        assert_eq!(of(&request("r", 9, odd, Algorithm::SlidingWindow)), "s 2 9 8640001 0");
        assert_eq!(operation_args(ScriptOperation::Debit).join(" "), "debit 0 0");
        let at = Timestamp::after_epoch(Duration::new(5, 7));
        assert_eq!(operation_args(ScriptOperation::Refund(at)).join(" "), "refund 5 7");
    }

    #[test]
    fn digest_matches_the_redis_script_digest() {
        assert_eq!(sha1_digest("return 1"), "e0e1f9fabfc9d4800c877a703b823ac0578ff8db");
    }
}
