//! Evaluates the rate limits of a configuration for logged requests.
//!
//! [`crate::limit`] decides at the times of the log, one request after the other. Values that a log does not contain
//! count as missing in the request.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use http::{HeaderName, Method};

use super::log_lines::LoggedRequest;
use crate::config::{Config, RouteConfig};
use crate::http::route_conditions::BareRequest;
use crate::http::{path, selectors, target};
use crate::limit::{Key, KeySource, Limiter, LimiterMode, QuotaDecision, Secret, Timestamp};
use crate::snapshot::router::Router;

/// A request that a rule denied, or would have denied in mode `shadow`.
#[derive(Debug)]
pub(super) struct DeniedRequest<'a> {
    pub request: &'a LoggedRequest,
    pub route: &'a str,
    /// The rule with the longest wait.
    pub rule: &'a str,
    /// Whether the rule is in mode `shadow`.
    pub shadow: bool,
    /// Whole seconds, rounded up.
    pub retry_after: u64,
}

/// The results of the replay.
#[derive(Debug, Default)]
pub(super) struct ReplayResult<'a> {
    pub denied: Vec<DeniedRequest<'a>>,
    /// By rule: the numbers of admitted and denied requests.
    pub rules: BTreeMap<&'a str, (u64, u64)>,
    /// The number of requests without a rate limit.
    pub unlimited: u64,
}

/// Replays `requests`, with `host` as the host of those whose line has none.
///
/// # Errors
/// The routes of the configuration cannot be compiled, which is a bug.
pub(super) fn replay<'a>(
    config: &'a Config,
    host: &str,
    requests: &'a [LoggedRequest],
) -> Result<ReplayResult<'a>, String> {
    let router = Router::build(&config.routes)?;
    let new_limiter = |(number, limit): (usize, &crate::config::RateLimit)| {
        Limiter::new(&limit.name, limit.settings.clone(), Secret::new([number as u64, 1]))
    };
    let limiters: Vec<Limiter> = config.rate_limits.iter().enumerate().map(new_limiter).collect();
    let mut replayed = ReplayResult::default();
    let mut charged: Vec<Vec<(usize, Key)>> = vec![Vec::new(); requests.len()];
    for (number, is_end) in events_by_time(requests) {
        let Some(request) = requests.get(number) else { continue };
        let Some(slot) = charged.get_mut(number) else { continue };
        if is_end {
            for (rule, key) in std::mem::take(slot) {
                let Some(limiter) = limiters.get(rule) else { continue };
                if request.status.is_some_and(|status| limiter.settings().reset_on.contains(&status)) {
                    limiter.reset(key);
                }
            }
            continue;
        }
        let host = request.host.as_deref().unwrap_or(host);
        let Some(route) = matched_route(config, &router, host, request) else {
            replayed.unlimited += 1;
            continue;
        };
        let key_source = LogKeySource { request, host, route, ipv6_prefix: config.client.ipv6_prefix };
        let mut rules = Vec::new();
        for index in &route.rate_limits {
            let (Some(limiter), Some(limit)) = (limiters.get(*index), config.rate_limits.get(*index)) else {
                continue;
            };
            if !limiter.exempts(&key_source) {
                rules.push((*index, limit.name.as_str(), limiter, limiter.key(&key_source)));
            }
        }
        *slot = evaluate(&mut replayed, request, &route.name, &rules);
        replayed.unlimited += u64::from(rules.is_empty());
    }
    Ok(replayed)
}

type MatchedRule<'r, 'a> = (usize, &'a str, &'r Limiter, Key);

/// Evaluates the rules for one request; returns the keys that were charged.
fn evaluate<'a>(
    replayed: &mut ReplayResult<'a>,
    request: &'a LoggedRequest,
    route: &'a str,
    rules: &[MatchedRule<'_, 'a>],
) -> Vec<(usize, Key)> {
    let now = Timestamp::after_epoch(request.started);
    let enforced =
        |(_, _, limiter, _): &&MatchedRule<'_, 'a>| limiter.settings().mode == LimiterMode::Enforce;
    let mut longest: Option<(Duration, &'a str)> = None;
    for (_, name, limiter, key) in rules.iter().filter(enforced) {
        if let Some(wait) = limiter.peek(*key, now).retry_after() {
            replayed.rules.entry(name).or_default().1 += 1;
            longest = longest.filter(|(other, _)| *other >= wait).or(Some((wait, name)));
        }
    }
    if let Some((wait, rule)) = longest {
        let retry_after = whole_seconds(wait);
        replayed.denied.push(DeniedRequest { request, route, rule, shadow: false, retry_after });
        return Vec::new();
    }
    for (_, name, limiter, key) in rules {
        let counts = replayed.rules.entry(name).or_default();
        match limiter.debit(*key, now) {
            QuotaDecision::Allow(_) => counts.0 += 1,
            QuotaDecision::Deny { retry_after, .. } => {
                counts.1 += 1;
                let retry_after = whole_seconds(retry_after);
                replayed.denied.push(DeniedRequest { request, route, rule: name, shadow: true, retry_after });
            }
        }
    }
    rules.iter().map(|(index, _, _, key)| (*index, *key)).collect()
}

/// The start and (`true`) the end of every request, by time, then in the order of the log.
fn events_by_time(requests: &[LoggedRequest]) -> Vec<(usize, bool)> {
    let mut events: Vec<(Duration, usize, bool)> = Vec::with_capacity(2 * requests.len());
    for (number, request) in requests.iter().enumerate() {
        events.push((request.started, number, false));
        events.push((request.ended, number, true));
    }
    events.sort_unstable();
    events.into_iter().map(|(_, number, is_end)| (number, is_end)).collect()
}

/// The route that the line names, or else the route that the request matches.
fn matched_route<'a>(
    config: &'a Config,
    router: &Router,
    host: &str,
    request: &LoggedRequest,
) -> Option<&'a RouteConfig> {
    if let Some(name) = &request.route {
        let named = config.routes.iter().find(|route| route.name == *name);
        if named.is_some() || name.is_empty() {
            return named;
        }
    }
    let (raw, _) = split_query(&request.target);
    let facts = target::check_path(raw.as_bytes()).ok()?;
    let method = Method::from_bytes(request.method.as_bytes()).ok()?;
    let index = router.find(host, &path::normalise(raw.as_bytes()), &method, &BareRequest)?;
    config.routes.get(index).filter(|route| route.lenient_paths || facts.ambiguity.is_none())
}

fn split_query(target: &str) -> (&str, &str) {
    target.split_once('?').unwrap_or((target, ""))
}

fn whole_seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}

/// The parts of a rate limit key that a log contains.
struct LogKeySource<'a> {
    request: &'a LoggedRequest,
    host: &'a str,
    route: &'a RouteConfig,
    ipv6_prefix: u8,
}

impl KeySource for LogKeySource<'_> {
    fn client_ip(&self) -> Option<IpAddr> {
        self.request.client_ip
    }

    fn ipv6_prefix(&self) -> u8 {
        self.ipv6_prefix
    }

    fn header(&self, name: &HeaderName) -> Option<&[u8]> {
        let header = match name.as_str() {
            "referer" => &self.request.referer,
            "user-agent" => &self.request.user_agent,
            _ => return None,
        };
        header.as_ref().map(|value| value.as_bytes())
    }

    fn host(&self) -> Option<Cow<'_, str>> {
        (!self.host.is_empty()).then_some(Cow::Borrowed(self.host))
    }

    fn method(&self) -> &str {
        &self.request.method
    }

    fn route(&self) -> &str {
        &self.route.name
    }

    fn path(&self, name: &str) -> Option<Cow<'_, [u8]>> {
        let normal = path::normalise(split_query(&self.request.target).0.as_bytes());
        selectors::path_parameter(&self.route.path, &normal, name).map(|value| Cow::Owned(value.into_owned()))
    }

    fn cookie(&self, _: &str) -> Option<&[u8]> {
        None
    }

    fn query(&self, name: &str) -> Option<Cow<'_, [u8]>> {
        selectors::query_parameter(split_query(&self.request.target).1.as_bytes(), name)
    }

    fn body(&self, _: &str) -> Option<String> {
        None
    }
}
