//! The rate limits of a route: every rule is asked, and all are debited or none.
//!
//! How much is left to whom is [`crate::limit`]'s to say. Here: what of the request a rule counts by, which of several
//! rules a client is told about, and what a refusal says. A step of the straight line: [`super::exchange`].

use std::borrow::Cow;
use std::cmp::Reverse;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::HeaderName;

use super::dress::Dress;
use super::flow::Story;
use super::request::Request;
use crate::config::validate_limits::MOST_RULES;
use crate::contract::{Cause, Fault, Phase};
use crate::limit::{Decision, Key, Mode, Moment, Standing, Subject};
use crate::observe::LimitDecision;
use crate::protocol::authority;
use crate::snapshot::limits::{Rule, moment};
use crate::snapshot::{Route, Snapshot};

/// Asks the route's rules, and dresses the response with what the tightest of them leaves.
///
/// # Errors
/// `rate_limited`, with the wait after which the rules would admit the request.
pub(super) fn admit(
    snapshot: &Snapshot,
    route: &Route,
    request: &Request,
    story: &mut Story,
) -> Result<(), Fault> {
    if route.limits.is_empty() {
        return Ok(());
    }
    let now = moment(story.started);
    let mut asked = ask(snapshot, route, request, story.client_ip);
    let admitted = take_all(&mut asked, now);

    let told = asked.iter().flatten().filter_map(|asked| asked.decision.as_ref());
    tell(&mut story.dress, told, now, SystemTime::now());
    if admitted {
        count_admitted(&asked, now);
        return Ok(());
    }
    Err(refusal(&asked, story))
}

/// Dresses the response with what the tightest rule left at `now`, which the system's clock calls `wall`.
pub(super) fn tell<'a>(
    dress: &mut Dress,
    told: impl Iterator<Item = &'a Decision>,
    now: Moment,
    wall: SystemTime,
) {
    if let Some(tightest) = told.min_by_key(|decision| tightness(decision)) {
        let Standing { limit, remaining, reset } = *tightest.standing();
        dress.limit(limit, remaining, full_at(now, reset, wall));
    }
}

/// A rule that concerns the request.
struct Asked<'a> {
    rule: &'a Arc<Rule>,
    key: Key,
    /// Of a rule that is enforced: its last word.
    decision: Option<Decision>,
}

impl Asked<'_> {
    fn is_enforced(&self) -> bool {
        self.rule.limiter.settings().mode == Mode::Enforce
    }
}

type AskedRules<'a> = [Option<Asked<'a>>; MOST_RULES];

fn ask<'a>(snapshot: &Snapshot, route: &'a Route, request: &Request, client_ip: IpAddr) -> AskedRules<'a> {
    let subject =
        OfRequest { request, client_ip, ipv6_prefix: snapshot.client.ipv6_prefix, route: &route.config.name };
    let mut asked = [const { None }; MOST_RULES];
    let concerned = route.limits.iter().filter(|rule| !rule.limiter.exempts(client_ip));
    for (slot, rule) in asked.iter_mut().zip(concerned) {
        *slot = Some(Asked { rule, key: rule.limiter.key(&subject), decision: None });
    }
    asked
}

/// Takes from every rule that is enforced, or from none.
fn take_all(asked: &mut AskedRules<'_>, now: Moment) -> bool {
    let enforced = asked.iter().flatten().filter(|asked| asked.is_enforced()).count();
    if enforced > 1 && !look_at_all(asked, now) {
        return false;
    }
    let mut taken = 0;
    let refused = asked.iter_mut().flatten().filter(|asked| asked.is_enforced()).any(|asked| {
        let decision = asked.rule.limiter.take(asked.key, now);
        asked.decision = Some(decision);
        let refused = decision.retry_after().is_some();
        taken += usize::from(!refused);
        refused
    });
    if refused {
        // Another request has come between looking and taking.
        for asked in asked.iter().flatten().filter(|asked| asked.is_enforced()).take(taken) {
            asked.rule.limiter.give_back(asked.key, now);
        }
    }
    !refused
}

/// Whether every rule that is enforced would admit the request. All are asked, so that the longest wait is known.
fn look_at_all(asked: &mut AskedRules<'_>, now: Moment) -> bool {
    let mut admitted = true;
    for asked in asked.iter_mut().flatten().filter(|asked| asked.is_enforced()) {
        let decision = asked.rule.limiter.look(asked.key, now);
        admitted &= decision.retry_after().is_none();
        asked.decision = Some(decision);
    }
    admitted
}

/// The request passes: every rule counts it, and rules that only watch are asked now, for they see what passes.
fn count_admitted(asked: &AskedRules<'_>, now: Moment) {
    for asked in asked.iter().flatten() {
        let decided = if asked.is_enforced() {
            LimitDecision::Allowed
        } else {
            match asked.rule.limiter.take(asked.key, now) {
                Decision::Allow(_) => LimitDecision::Allowed,
                Decision::Deny { .. } => LimitDecision::WouldRefuse,
            }
        };
        asked.rule.metrics.decided(decided);
    }
}

/// The fault of a refusal: the longest wait over the rules that refuse, and the rule that asks for it.
fn refusal(asked: &AskedRules<'_>, story: &mut Story) -> Fault {
    let mut longest = Duration::ZERO;
    for asked in asked.iter().flatten() {
        let Some(wait) = asked.decision.and_then(|decision| decision.retry_after()) else { continue };
        asked.rule.metrics.decided(LimitDecision::Refused);
        if wait > longest {
            longest = wait;
            story.rule = Some(Arc::clone(asked.rule));
        }
    }
    Fault::new(Cause::RateLimited, Phase::Admit).again_after(longest)
}

/// The least is the tightest: what leaves least, then what lasts longest.
fn tightness(decision: &Decision) -> (u32, Reverse<Option<Duration>>, Reverse<Duration>) {
    let standing = decision.standing();
    (standing.remaining, Reverse(decision.retry_after()), Reverse(standing.reset))
}

/// The second of the epoch at which all is there again, rounded up. The only place where the time of day matters.
///
/// Moments began with it, so the two differ only after somebody has set the clock, and then by so many whole seconds: the
/// end of an hour stays a whole second.
fn full_at(now: Moment, reset: Duration, wall: SystemTime) -> u64 {
    const SECOND: i128 = 1_000_000_000;
    let nanos = |since: Duration| i128::try_from(since.as_nanos()).unwrap_or(i128::MAX);
    let wall = wall.duration_since(UNIX_EPOCH).map_or(0, nanos);
    let now = nanos(now.since_origin());
    let set = (wall - now + SECOND / 2).div_euclid(SECOND);
    let at = (now + nanos(reset) + SECOND - 1).div_euclid(SECOND) + set;
    u64::try_from(at).unwrap_or(0)
}

/// What rules count by, read from a request.
struct OfRequest<'a> {
    request: &'a Request,
    client_ip: IpAddr,
    ipv6_prefix: u8,
    route: &'a str,
}

impl Subject for OfRequest<'_> {
    fn client_ip(&self) -> IpAddr {
        self.client_ip
    }

    fn ipv6_prefix(&self) -> u8 {
        self.ipv6_prefix
    }

    fn header(&self, name: &HeaderName) -> Option<&[u8]> {
        let name = name.as_str().as_bytes();
        let mut values = self.request.fields.iter().filter(|(found, _)| found.eq_ignore_ascii_case(name));
        let (_, value) = values.next()?;
        // Which of two values the upstream reads is not known here.
        values.next().is_none().then_some(value)
    }

    fn host(&self) -> Option<Cow<'_, str>> {
        let authority = &self.request.authority;
        (!authority.is_empty()).then(|| authority::routing_host(authority))
    }

    fn method(&self) -> &str {
        self.request.method.as_str()
    }

    fn route(&self) -> &str {
        self.route
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reset_is_never_told_too_early_and_a_windows_end_is_its_second() {
        let now = Moment::after_origin(Duration::from_millis(1_700_000_000_250));
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
        let allow = |remaining, reset| Decision::Allow(Standing { limit: 9, remaining, reset });
        let deny = |reset, retry_after| Decision::Deny {
            standing: Standing { limit: 9, remaining: 0, reset },
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
}
