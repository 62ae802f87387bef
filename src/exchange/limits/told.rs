//! What clients are told about rate limits: the fields of every answer, and the wait of a refusal.
//!
//! Of several rules the tightest speaks in `X-RateLimit-*`; all of them in `RateLimit` and `RateLimit-Policy`
//! (draft-ietf-httpapi-ratelimit-headers). Which fields there are is the operator's choice; what the rules say has been
//! decided before ([`super`]).

use std::cmp::Reverse;
use std::fmt::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::HeaderValue;

use super::super::dress::Dress;
use crate::config::LimitHeaders;
use crate::limit::{Algorithm, LimiterSettings, QuotaDecision, QuotaState, Timestamp};

/// What an enforced rule has said.
#[derive(Clone, Copy, Debug)]
pub struct Told<'a> {
    /// The rule.
    pub name: &'a str,
    /// What it allows.
    pub settings: &'a LimiterSettings,
    /// Its last word on this request.
    pub decision: QuotaDecision,
}

/// Dresses the response with what the rules left at `now`, which the system's clock calls `wall`.
pub fn tell<'a>(
    dress: &mut Dress,
    headers: LimitHeaders,
    told: impl Iterator<Item = Told<'a>> + Clone,
    now: Timestamp,
    wall: SystemTime,
) {
    let Some(tightest) = told.clone().min_by_key(|told| tightness(&told.decision)) else { return };
    if headers.has_x() {
        let QuotaState { limit, remaining, reset } = *tightest.decision.quota_state();
        dress.limit(limit, remaining, full_at(now, reset, wall));
    }
    if headers.has_standard() {
        let (mut policies, mut states) = (String::new(), String::new());
        for Told { name, settings, decision } in told {
            let QuotaState { limit, remaining, reset } = *decision.quota_state();
            let comma = if policies.is_empty() { "" } else { ", " };
            // Names are letters, digits, _, . and -: nothing has to be escaped.
            let _ = write!(policies, "{comma}\"{name}\";q={limit};w={}", whole_seconds(window(settings)));
            let _ = write!(states, "{comma}\"{name}\";r={remaining};t={}", whole_seconds(reset));
        }
        if let (Ok(policies), Ok(states)) = (HeaderValue::try_from(policies), HeaderValue::try_from(states)) {
            dress.standard_limits(states, policies);
        }
    }
}

/// In which time all of what is admitted at once comes back.
fn window(settings: &LimiterSettings) -> Duration {
    match settings.algorithm {
        Algorithm::Gcra => settings.quota.fill_time(),
        Algorithm::FixedWindow | Algorithm::SlidingWindow => settings.quota.period(),
    }
}

/// Rounded up.
fn whole_seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

/// What is added to the wait of a refusal, so that not everybody comes back in the same second: 0 to `most` seconds, by
/// the last digits of the request's id.
pub fn jitter(request_id: &HeaderValue, most: u32) -> Duration {
    let spread = |mixed: u64, octet: &u8| (mixed ^ u64::from(*octet)).wrapping_mul(0x0100_0000_01B3);
    let mixed = request_id.as_bytes().iter().fold(0xCBF2_9CE4_8422_2325, spread) >> 16;
    Duration::from_secs(mixed % (u64::from(most) + 1))
}

/// The least is the tightest: what leaves least, then what lasts longest.
fn tightness(decision: &QuotaDecision) -> (u32, Reverse<Option<Duration>>, Reverse<Duration>) {
    let standing = decision.quota_state();
    (standing.remaining, Reverse(decision.retry_after()), Reverse(standing.reset))
}

/// The second of the epoch at which all is there again, rounded up. The only place where the time of day matters.
///
/// Moments began with it, so the two differ only after somebody has set the clock, and then by so many whole seconds: the
/// end of an hour stays a whole second.
fn full_at(now: Timestamp, reset: Duration, wall: SystemTime) -> u64 {
    const SECOND: i64 = 1_000_000_000;
    let nanos = |since: Duration| i64::try_from(since.as_nanos()).unwrap_or(i64::MAX);
    let wall = wall.duration_since(UNIX_EPOCH).map_or(0, nanos);
    let now = nanos(now.since_origin());
    let set = (wall - now + SECOND / 2).div_euclid(SECOND);
    let at = now.saturating_add(nanos(reset)).saturating_add(SECOND - 1).div_euclid(SECOND) + set;
    u64::try_from(at).unwrap_or(0)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_reset_is_never_told_too_early_and_a_windows_end_is_its_second() {
        let now = Timestamp::after_origin(Duration::from_millis(1_700_000_000_250));
        let wall = |milliseconds| UNIX_EPOCH + Duration::from_millis(milliseconds);
        for (milliseconds, second) in [(0, 1), (750, 1), (751, 2), (60_000, 61)] {
            // What is asked of the clock comes a little later.
            for later in [0, 3, 400] {
                let told = full_at(now, Duration::from_millis(milliseconds), wall(1_700_000_000_250 + later));
                assert_eq!(told, 1_700_000_000 + second, "{milliseconds} {later}");
            }
        }
        // Somebody has set the clock since.
        let reset = Duration::from_millis(750);
        assert_eq!(full_at(now, reset, wall(1_600_000_000_250)), 1_600_000_001);
        assert_eq!(full_at(now, reset, wall(1_800_000_000_253)), 1_800_000_001);
        assert_eq!(full_at(now, Duration::ZERO, UNIX_EPOCH - Duration::from_secs(9)), 1);
    }

    #[test]
    fn the_tightest_rule_leaves_least_and_of_two_the_one_that_lasts_longer() {
        let second = Duration::from_secs(1);
        let allow = |remaining, reset| QuotaDecision::Allow(QuotaState { limit: 9, remaining, reset });
        let deny = |reset, retry_after| QuotaDecision::Deny {
            quota_state: QuotaState { limit: 9, remaining: 0, reset },
            retry_after,
        };
        let order = [
            deny(2 * second, 3 * second),
            deny(9 * second, 2 * second),
            allow(0, 8 * second),
            allow(0, 7 * second),
            allow(1, 9 * second),
        ];
        for pair in order.windows(2) {
            assert!(pair.first().map(tightness) < pair.last().map(tightness), "{pair:?}");
        }
    }

    #[test]
    fn jitter_stays_in_its_bounds_and_differs_from_request_to_request() {
        let ids = (0..200).map(|number| HeaderValue::try_from(format!("id-{number}")).unwrap());
        let told: std::collections::HashSet<u64> = ids.map(|id| jitter(&id, 9).as_secs()).collect();
        assert_eq!((told.len(), told.iter().max()), (10, Some(&9)));
        assert_eq!(jitter(&HeaderValue::from_static("x"), 0), Duration::ZERO);
    }
}
