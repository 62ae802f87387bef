//! Where a client stands with the rate limits of a route: fresh before its first request, or at its end.
//!
//! The decisions are those of [`crate::limit`], on states that nobody has touched. Real clients stand somewhere between.

use crate::config::{Config, RouteConfig};
use crate::contract::{Cause, Fault, Phase};
use crate::exchange::RuleResult;
use crate::limit::{LimiterMode, Timestamp, table};

/// What the rules say.
#[derive(Debug, Default)]
pub(super) struct Limited<'a> {
    /// Of every rule that is enforced.
    pub(super) told: Vec<RuleResult<'a>>,
    /// The rule that refuses.
    pub(super) rule: Option<&'a str>,
    /// And for how long, in seconds.
    pub(super) retry_after: Option<u64>,
}

/// Whether any rule of this route can refuse.
pub(super) fn is_limited(config: &Config, route: &RouteConfig) -> bool {
    enforced(config, route).next().is_some()
}

/// About which request the rules are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    /// A client's first.
    First,
    /// The one that is too many for the first of them.
    TooMany,
    /// A client's first, and nothing is known of what counts in a store.
    WithoutStores,
}

/// Asks the rules of a route.
pub(super) fn ask<'a>(config: &'a Config, route: &RouteConfig, which: Which) -> Limited<'a> {
    let now = Timestamp::after_origin(super::made::SOME_DAY);
    let refused = which == Which::TooMany;
    let mut limited = Limited::default();
    for limit in enforced(config, route) {
        if which == Which::WithoutStores && limit.settings.store.is_some() {
            continue;
        }
        let settings = &limit.settings;
        let ask = |taken| table::preview(settings.algorithm, &settings.quota, now, taken, settings.cost);
        let mut decision = ask(0);
        if refused && limited.rule.is_none() {
            // All has been taken that requests of this cost could take, and then one more comes.
            let capacity = settings.algorithm.capacity(&settings.quota);
            decision = ask(capacity - capacity % settings.cost.max(1));
            limited.rule = Some(&limit.name);
            limited.retry_after = decision.retry_after().and_then(|wait| {
                Fault::new(Cause::RateLimited, Phase::Admit).with_retry_after(wait).retry_after()
            });
        }
        limited.told.push(RuleResult { name: &limit.name, settings, decision });
    }
    limited
}

fn enforced<'a>(
    config: &'a Config,
    route: &RouteConfig,
) -> impl Iterator<Item = &'a crate::config::RateLimit> {
    let rules = route.rate_limits.iter().filter_map(|index| config.rate_limits.get(*index));
    rules.filter(|limit| limit.settings.mode == LimiterMode::Enforce)
}
