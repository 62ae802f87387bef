//! Where a client stands with the rate limits of a route: fresh before its first request, or at its end.
//!
//! The decisions are those of [`crate::limit`], on states that nobody has touched. Real clients stand somewhere between.

use crate::config::{Config, RouteConfig};
use crate::contract::{Cause, Fault, Phase};
use crate::limit::{LimiterMode, Timestamp, limit_table};
use crate::proxy::RuleResult;

/// What the rules say.
#[derive(Debug, Default)]
pub(super) struct RateLimitState<'a> {
    /// Of every rule that is enforced.
    pub(super) rule_results: Vec<RuleResult<'a>>,
    /// The rule that refuses.
    pub(super) denied_by: Option<&'a str>,
    /// And for how long, in seconds.
    pub(super) retry_after: Option<u64>,
}

/// Whether any rule of this route can refuse.
pub(super) fn is_limited(config: &Config, route: &RouteConfig) -> bool {
    enforced_rules(config, route).next().is_some()
}

/// About which request the rules are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RequestPosition {
    /// A client's first.
    First,
    /// The one that is too many for the first of them.
    OverLimit,
    /// A client's first, and nothing is known of what counts in a store.
    FirstWithoutStores,
}

/// Asks the rules of a route.
pub(super) fn evaluate<'a>(
    config: &'a Config,
    route: &RouteConfig,
    position: RequestPosition,
) -> RateLimitState<'a> {
    let now = Timestamp::after_origin(super::explanation::PLACEHOLDER_TIME);
    let over_limit = position == RequestPosition::OverLimit;
    let mut state = RateLimitState::default();
    for limit in enforced_rules(config, route) {
        if position == RequestPosition::FirstWithoutStores && limit.settings.store.is_some() {
            continue;
        }
        let settings = &limit.settings;
        let decide =
            |taken| limit_table::preview(settings.algorithm, &settings.quota, now, taken, settings.cost);
        let mut decision = decide(0);
        if over_limit && state.denied_by.is_none() {
            // All has been taken that requests of this cost could take, and then one more comes.
            let capacity = settings.algorithm.capacity(&settings.quota);
            decision = decide(capacity - capacity % settings.cost.max(1));
            state.denied_by = Some(&limit.name);
            state.retry_after = decision.retry_after().and_then(|wait| {
                Fault::new(Cause::RateLimited, Phase::Admit).with_retry_after(wait).retry_after()
            });
        }
        state.rule_results.push(RuleResult { name: &limit.name, settings, decision });
    }
    state
}

fn enforced_rules<'a>(
    config: &'a Config,
    route: &RouteConfig,
) -> impl Iterator<Item = &'a crate::config::RateLimit> {
    let rules = route.rate_limits.iter().filter_map(|index| config.rate_limits.get(*index));
    rules.filter(|limit| limit.settings.mode == LimiterMode::Enforce)
}
