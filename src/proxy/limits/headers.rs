//! Writes the rate-limit header fields of a response.
//!
//! `X-RateLimit-*` describes the most restrictive rule; `RateLimit` and `RateLimit-Policy` list all rules
//! (draft-ietf-httpapi-ratelimit-headers). The configuration selects which of these two groups are sent.

use std::cmp::Reverse;
use std::fmt::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::HeaderValue;

use super::super::header_mutations::ResponseHeaderMutations;
use crate::config::LimitHeaders;
use crate::limit::{Algorithm, LimiterSettings, QuotaDecision, QuotaState, Timestamp};

/// The result of an enforced rule.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RuleResult<'a> {
    /// The name of the rule.
    pub name: &'a str,
    /// The settings of the rule.
    pub settings: &'a LimiterSettings,
    /// The decision on this request.
    pub decision: QuotaDecision,
}

/// Adds the fields for these results. `now` and `wall_clock` are the same instant, on the monotonic and on the system
/// clock.
pub(crate) fn write<'a>(
    header_mutations: &mut ResponseHeaderMutations,
    headers: LimitHeaders,
    results: impl Iterator<Item = RuleResult<'a>> + Clone,
    now: Timestamp,
    wall_clock: SystemTime,
) {
    let Some(most_restrictive) = results.clone().min_by_key(|result| restrictiveness(&result.decision))
    else {
        return;
    };
    if headers.sends_x_ratelimit() {
        let QuotaState { limit, remaining, reset } = *most_restrictive.decision.quota_state();
        header_mutations.set_x_ratelimit(limit, remaining, reset_at(now, reset, wall_clock));
    }
    if headers.sends_ratelimit() {
        let (mut policies, mut states) = (String::new(), String::new());
        for RuleResult { name, settings, decision } in results {
            let QuotaState { limit, remaining, reset } = *decision.quota_state();
            let comma = if policies.is_empty() { "" } else { ", " };
            // Rule names consist of letters, digits, _, . and -, which need no escaping.
            let _ = write!(policies, "{comma}\"{name}\";q={limit};w={}", ceil_seconds(window(settings)));
            let _ = write!(states, "{comma}\"{name}\";r={remaining};t={}", ceil_seconds(reset));
        }
        if let (Ok(policies), Ok(states)) = (HeaderValue::try_from(policies), HeaderValue::try_from(states)) {
            header_mutations.set_ratelimit(states, policies);
        }
    }
}

/// The time in which an empty quota is fully replenished.
fn window(settings: &LimiterSettings) -> Duration {
    match settings.algorithm {
        Algorithm::Gcra => settings.quota.fill_time(),
        Algorithm::FixedWindow | Algorithm::SlidingWindow => settings.quota.period(),
    }
}

/// The duration in seconds, rounded up.
fn ceil_seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

/// A delay to add to Retry-After, so that denied clients do not all return in the same second: 0 to `max_seconds`
/// seconds, from an FNV-1a hash of the request id.
pub(crate) fn jitter(request_id: &HeaderValue, max_seconds: u32) -> Duration {
    if max_seconds == 0 {
        return Duration::ZERO;
    }
    let mix = |hash: u64, octet: &u8| (hash ^ u64::from(*octet)).wrapping_mul(0x0100_0000_01B3);
    let hash = request_id.as_bytes().iter().fold(0xCBF2_9CE4_8422_2325, mix) >> 16;
    Duration::from_secs(hash % (u64::from(max_seconds) + 1))
}

/// A sort key whose minimum is the most restrictive rule: least remaining, then longest wait, then latest reset.
fn restrictiveness(decision: &QuotaDecision) -> (u32, Reverse<Option<Duration>>, Reverse<Duration>) {
    let quota = decision.quota_state();
    (quota.remaining, Reverse(decision.retry_after()), Reverse(quota.reset))
}

/// The Unix time in seconds at which the quota is fully replenished, rounded up.
///
/// The monotonic clock was started with the time of the system clock, so the two differ only if the system clock was
/// set afterwards. The offset is rounded to whole seconds, so that the end of a fixed window stays a whole second.
fn reset_at(now: Timestamp, reset: Duration, wall_clock: SystemTime) -> u64 {
    const SECOND: i64 = 1_000_000_000;
    let nanos = |since: Duration| i64::try_from(since.as_nanos()).unwrap_or(i64::MAX);
    let wall_clock = wall_clock.duration_since(UNIX_EPOCH).map_or(0, nanos);
    let now = nanos(now.since_epoch());
    let clock_offset = (wall_clock - now + SECOND / 2).div_euclid(SECOND);
    let at = now.saturating_add(nanos(reset)).saturating_add(SECOND - 1).div_euclid(SECOND) + clock_offset;
    u64::try_from(at).unwrap_or(0)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn reset_is_rounded_up_and_follows_the_wall_clock() {
        let now = Timestamp::after_epoch(Duration::from_millis(1_700_000_000_250));
        let wall = |milliseconds| UNIX_EPOCH + Duration::from_millis(milliseconds);
        for (milliseconds, second) in [(0, 1), (750, 1), (751, 2), (60_000, 61)] {
            // The system clock is read a little later.
            for delay in [0, 3, 400] {
                let actual =
                    reset_at(now, Duration::from_millis(milliseconds), wall(1_700_000_000_250 + delay));
                assert_eq!(actual, 1_700_000_000 + second, "{milliseconds} {delay}");
            }
        }
        // The system clock was set after the monotonic clock had started.
        let reset = Duration::from_millis(750);
        assert_eq!(reset_at(now, reset, wall(1_600_000_000_250)), 1_600_000_001);
        assert_eq!(reset_at(now, reset, wall(1_800_000_000_253)), 1_800_000_001);
        assert_eq!(reset_at(now, Duration::ZERO, UNIX_EPOCH - Duration::from_secs(9)), 1);
    }

    #[test]
    fn most_restrictive_rule_has_least_remaining_then_longest_wait() {
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
            assert!(pair.first().map(restrictiveness) < pair.last().map(restrictiveness), "{pair:?}");
        }
    }

    #[test]
    fn jitter_is_bounded_and_differs_between_requests() {
        let ids = (0..200).map(|number| HeaderValue::try_from(format!("id-{number}")).unwrap());
        let delays: std::collections::HashSet<u64> = ids.map(|id| jitter(&id, 9).as_secs()).collect();
        assert_eq!((delays.len(), delays.iter().max()), (10, Some(&9)));
        assert_eq!(jitter(&HeaderValue::from_static("x"), 0), Duration::ZERO);
    }
}
