//! The rate limits of a route: every rule is asked, and all are debited or none.
//!
//! How much is left to whom is [`crate::limit`]'s to say. Here: which rules concern a request, what of several answers
//! counts, and what a refusal says. Rules that count in memory are asked at once; where one counts in a store, [`stored`]
//! waits for it. [`mod@subject`] is what rules count by, [`ahead`] reads a body for it, [`told`] is what clients are told. A step
//! of the straight line: [`super::exchange`].

pub(super) mod ahead;
mod stored;
mod subject;
pub(super) mod told;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::dress::Dress;
use super::flow::Story;
use super::request::Request;
use crate::config::validate_limits::MAX_RULES_PER_ROUTE;
use crate::contract::{Cause, Fault, Phase};
use crate::limit::{Key, LimiterMode, QuotaDecision, Timestamp};
use crate::observe::LimitDecision;
use crate::snapshot::limits::{RateLimitRule, timestamp};
use crate::snapshot::{Route, Snapshot};

pub(super) use stored::{admit_with_stores, reset};
use subject::OfRequest;
use told::Told;

/// Asks the route's rules, which all count in memory, and dresses the response with what they leave.
///
/// # Errors
/// `rate_limited`, with the wait after which the rules would admit the request.
pub(super) fn admit(
    snapshot: &Snapshot,
    route: &Route,
    request: &Request,
    body: Option<&[u8]>,
    story: &mut Story,
) -> Result<(), Fault> {
    if route.rate_limits.is_empty() {
        return Ok(());
    }
    // A body that was read ahead took its time.
    let now = timestamp(if body.is_some() { Instant::now() } else { story.started });
    let subject = subject(snapshot, route, request, story.client_ip, body);
    let mut asked = ask(route, &subject);
    let admitted = take_all(&mut asked, now);
    conclude(snapshot, &asked, now, story);
    if !admitted {
        return Err(refusal(&asked, story));
    }
    remember(&asked, story);
    for asked in asked.iter().flatten() {
        asked.count_admitted(now);
    }
    Ok(())
}

/// How the request's keys stand, for an answer to a request of which nothing else is known any more: what rules in memory
/// would say. Takes nothing.
pub(super) fn dress_as_they_stand(
    dress: &mut Dress,
    snapshot: &Snapshot,
    route: &Route,
    request: &Request,
    client_ip: IpAddr,
) {
    let now = timestamp(Instant::now());
    let mut asked = ask(route, &subject(snapshot, route, request, client_ip, None));
    for asked in asked.iter_mut().flatten().filter(|asked| asked.is_enforced() && asked.rule.store.is_none())
    {
        asked.decision = Some(asked.rule.limiter.current_state(asked.key, now));
    }
    let told = asked.iter().flatten().filter_map(Asked::told);
    told::tell(dress, snapshot.limit_headers, told, now, SystemTime::now());
}

fn subject<'a>(
    snapshot: &Snapshot,
    route: &'a Route,
    request: &'a Request,
    client_ip: IpAddr,
    body: Option<&'a [u8]>,
) -> OfRequest<'a> {
    OfRequest { request, client_ip, ipv6_prefix: snapshot.client.ipv6_prefix, route, body }
}

/// A rule that concerns the request.
struct Asked<'a> {
    rule: &'a Arc<RateLimitRule>,
    key: Key,
    /// Of a rule that is enforced: its last word.
    decision: Option<QuotaDecision>,
}

impl Asked<'_> {
    fn is_enforced(&self) -> bool {
        self.rule.limiter.settings().mode == LimiterMode::Enforce
    }

    fn told(&self) -> Option<Told<'_>> {
        let limiter = &self.rule.limiter;
        self.decision.map(|decision| Told { name: limiter.name(), settings: limiter.settings(), decision })
    }

    /// The request passes. Rules that only watch are asked now, for they see what passes.
    fn count_admitted(&self, now: Timestamp) {
        let decided = if self.is_enforced() {
            LimitDecision::Allowed
        } else {
            watched(&self.rule.limiter.take(self.key, now))
        };
        self.rule.metrics.record(decided);
    }
}

/// What a rule that only watches has seen.
const fn watched(decision: &QuotaDecision) -> LimitDecision {
    match decision {
        QuotaDecision::Allow(_) => LimitDecision::Allowed,
        QuotaDecision::Deny { .. } => LimitDecision::ShadowDenied,
    }
}

type AskedRules<'a> = [Option<Asked<'a>>; MAX_RULES_PER_ROUTE];

fn ask<'a>(route: &'a Route, subject: &OfRequest<'_>) -> AskedRules<'a> {
    let mut asked = [const { None }; MAX_RULES_PER_ROUTE];
    let concerned = route.rate_limits.iter().filter(|rule| !rule.limiter.exempts(subject));
    for (slot, rule) in asked.iter_mut().zip(concerned) {
        *slot = Some(Asked { rule, key: rule.limiter.key(subject), decision: None });
    }
    asked
}

/// Takes from every rule that is enforced, or from none.
fn take_all(asked: &mut AskedRules<'_>, now: Timestamp) -> bool {
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
            asked.rule.limiter.refund(asked.key, now);
        }
    }
    !refused
}

/// Whether every rule that is enforced would admit the request. All are asked, so that the longest wait is known.
fn look_at_all(asked: &mut AskedRules<'_>, now: Timestamp) -> bool {
    let mut admitted = true;
    for asked in asked.iter_mut().flatten().filter(|asked| asked.is_enforced()) {
        let decision = asked.rule.limiter.peek(asked.key, now);
        admitted &= decision.retry_after().is_none();
        asked.decision = Some(decision);
    }
    admitted
}

/// Every rule has spoken: the response wears it.
fn conclude(snapshot: &Snapshot, asked: &AskedRules<'_>, now: Timestamp, story: &mut Story) {
    let told = asked.iter().flatten().filter_map(Asked::told);
    told::tell(&mut story.dress, snapshot.limit_headers, told, now, SystemTime::now());
}

/// The request passes: what its answer may undo is kept.
fn remember(asked: &AskedRules<'_>, story: &mut Story) {
    for asked in asked.iter().flatten().filter(|asked| !asked.rule.limiter.settings().reset_on.is_empty()) {
        story.counted.push((Arc::clone(asked.rule), asked.key));
    }
}

/// The fault of a refusal: the longest wait over the rules that refuse, and the rule that asks for it.
fn refusal(asked: &AskedRules<'_>, story: &mut Story) -> Fault {
    let mut longest = Duration::ZERO;
    for asked in asked.iter().flatten() {
        let Some(wait) = asked.decision.and_then(|decision| decision.retry_after()) else { continue };
        asked.rule.metrics.record(LimitDecision::Denied);
        if wait > longest {
            longest = wait;
            story.rule = Some(Arc::clone(asked.rule));
        }
    }
    let most = story.rule.as_ref().map_or(0, |rule| rule.limiter.settings().retry_after_jitter);
    Fault::new(Cause::RateLimited, Phase::Admit)
        .with_retry_after(longest + told::jitter(&story.request_id, most))
}
