//! The results of a route's rate limits for a client's first request, or for the first request over a limit.
//!
//! [`crate::limit`] decides, on unused state. Real clients are between these two cases.

use crate::config::{Config, RouteConfig};
use crate::contract::{Cause, Fault, Phase};
use crate::limit::{LimiterMode, Timestamp, limit_table};
use crate::proxy::RuleResult;

/// The results of the rules.
#[derive(Debug, Default)]
pub(super) struct RateLimitState<'a> {
    /// One for each enforced rule.
    pub(super) rule_results: Vec<RuleResult<'a>>,
    /// The rule that denies the request.
    pub(super) denied_by: Option<&'a str>,
    /// In seconds.
    pub(super) retry_after: Option<u64>,
}

/// Whether any rule of this route can deny requests.
pub(super) fn is_limited(config: &Config, route: &RouteConfig) -> bool {
    enforced_rules(config, route).next().is_some()
}

/// The request that the rules are evaluated for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RequestPosition {
    /// The first of a client.
    First,
    /// The first that exceeds the limit of the first rule.
    OverLimit,
    /// The first of a client, while the shared backends are unavailable.
    FirstWithoutStores,
    /// Denied before the limits, by a client that has sent none: it is not counted, and backends are not asked.
    NotCounted,
}

/// Evaluates the rules of a route.
pub(super) fn evaluate<'a>(
    config: &'a Config,
    route: &RouteConfig,
    position: RequestPosition,
) -> RateLimitState<'a> {
    let now = Timestamp::after_epoch(super::explanation::PLACEHOLDER_TIME);
    let over_limit = position == RequestPosition::OverLimit;
    let mut state = RateLimitState::default();
    for limit in enforced_rules(config, route) {
        let settings = &limit.settings;
        let cost = match position {
            RequestPosition::FirstWithoutStores | RequestPosition::NotCounted if settings.store.is_some() => {
                continue;
            }
            RequestPosition::NotCounted => 0,
            RequestPosition::First | RequestPosition::OverLimit | RequestPosition::FirstWithoutStores => {
                settings.cost
            }
        };
        let decide = |used| limit_table::preview(settings.algorithm, &settings.quota, now, used, cost);
        let mut decision = decide(0);
        if over_limit && state.denied_by.is_none() {
            // The quota is used up by requests of this cost, and one more arrives.
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
