//! Checks the section `rate_limits` and references to it.
//!
//! [`crate::limit`] checks quotas; its errors become diagnostics here.

use super::RouteConfig;
use super::file::forms::{Either, Text};
use super::file::limits::RateLimitFile;
use super::problem::{closest_match, quoted};
use super::units::duration_text;
use super::validator::Place;
use crate::limit::{Algorithm, Credential, KeyPart, LimiterMode, LimiterSettings, Quota, QuotaError};

/// A rule of the file. An invalid rule keeps its name, so that references to it are not reported as unknown.
pub(crate) struct ValidatedLimit {
    /// The name in the file.
    pub name: String,
    /// The settings, if valid.
    pub settings: Option<LimiterSettings>,
}

/// The maximum number of rules per route; every request evaluates all of them.
pub(crate) const MAX_RULES_PER_ROUTE: usize = 8;

/// The rule with this name.
pub(crate) fn rate_limit((at, name, file): (Place<'_>, &String, &RateLimitFile)) -> ValidatedLimit {
    ValidatedLimit { name: name.clone(), settings: rule(&at, file) }
}

fn rule(at: &Place<'_>, file: &RateLimitFile) -> Option<LimiterSettings> {
    let quota = quota(at, file);
    let key_at = at.key("key");
    let key = key_at.distinct(Text::values(&file.key));
    let capacity = quota.map_or(u32::MAX, |quota| file.algorithm.capacity(&quota));
    if file.cost > capacity {
        let message = format!("{} exceeds the {capacity} that are admitted at once", file.cost);
        at.key("cost").report(message, format!("use at most {capacity}, or increase the quota"));
    }
    if file.mode == LimiterMode::Enforce
        && !key.contains(&KeyPart::ClientIp)
        && key.iter().any(KeyPart::is_client_controlled)
    {
        let message = "a client can send another client's value and use up its quota";
        key_at.warn(message, "add client_ip to the key, and add a second rule with only client_ip");
    }
    if !key.iter().any(|part| matches!(part, KeyPart::Body(_))) {
        let message = "unreadable has no effect without a body part in key";
        at.key("unreadable").pointless(message, "remove it, or add \"body:NAME\" to key");
    }
    let (mut exempt, mut credentials) = (Vec::new(), Vec::new());
    for form in &file.exempt {
        match form {
            Either::Short(network) => exempt.push(network.0),
            Either::Long(file) => {
                credentials.push(Credential { header: file.header.0.clone(), sha256: file.sha256.0 });
            }
        }
    }
    Some(LimiterSettings {
        quota: quota?,
        algorithm: file.algorithm,
        cost: file.cost,
        key,
        unreadable: file.unreadable,
        mode: file.mode,
        exempt,
        credentials,
        reset_on: file.reset_on.clone(),
        retry_after_jitter: file.retry_after_jitter.map_or(0, |jitter| u32::try_from(*jitter).unwrap_or(0)),
        store: file.store.clone(),
        max_keys: file.max_keys,
    })
}

fn quota(at: &Place<'_>, file: &RateLimitFile) -> Option<Quota> {
    let (allow, burst_at) = (at.key("allow"), at.key("burst"));
    let (allowed, period) = match &file.allow {
        Either::Short(allowance) => allowance.0,
        Either::Long(file) => (file.requests, *file.per),
    };
    if file.burst.is_some() && file.algorithm != Algorithm::Gcra {
        let message = "burst has no effect with a window algorithm";
        burst_at.report(message, "remove it, or use algorithm: gcra");
    }
    let burst = file.burst.filter(|_| file.algorithm == Algorithm::Gcra).unwrap_or(allowed);
    let text = quoted(&format!("{allowed} per {}", duration_text(period)));
    match Quota::new(allowed, period, burst) {
        Ok(quota) => return Some(quota),
        Err(QuotaError::Zero) => {
            let message = format!("{text} would deny every request");
            allow.report(message, "use a count and a duration greater than 0");
        }
        Err(QuotaError::TooFast) => {
            let message = format!("{text} exceeds one million per second");
            allow.report(message, "remove the rule, or reduce the quota");
        }
        Err(QuotaError::TooSlow) if burst > allowed => burst_at.report(
            format!("a bucket of {burst} would take more than a year to refill"),
            "reduce burst, or increase the quota",
        ),
        Err(QuotaError::TooSlow) => {
            allow.report(format!("{text} has a period of more than a year"), "use at most 365d");
        }
    }
    None
}

/// Reports the path parameters in keys that a route with the rule does not have: `client_ip` counts in their place. If
/// no route with the rule has the parameter, it is a mistake.
pub(crate) fn check_path_parts(root: &Place<'_>, limits: &[ValidatedLimit], routes: &[RouteConfig]) {
    for (number, limit) in limits.iter().enumerate() {
        let users = || routes.iter().enumerate().filter(|(_, route)| route.rate_limits.contains(&number));
        let key = limit.settings.iter().flat_map(|settings| settings.key.iter().enumerate());
        for (index, part) in key {
            let KeyPart::Path(name) = part else { continue };
            let has_parameter = |route: &RouteConfig| route.pattern.position(name).is_some();
            let is_possible = users().any(|(_, route)| has_parameter(route));
            for (route_number, route) in users().filter(|(_, route)| !has_parameter(route)) {
                if is_possible {
                    let rule = quoted(&limit.name);
                    let message =
                        format!("the path has no parameter {{{name}}}, so {rule} counts by client_ip here");
                    let help = "add the parameter to match.path, or use a rule of its own";
                    root.key("routes").item(route_number).key("rate_limits").warn(message, help);
                    continue;
                }
                let item = root.key("rate_limits").key(&limit.name).key("key").item(index);
                let message = format!("no route with this rule has a parameter {{{name}}} in its path");
                let near = closest_match(name, route.pattern.names().iter().map(String::as_str));
                item.report_once(
                    message,
                    match near {
                        Some(near) => format!("did you mean \"path:{near}\"?"),
                        None => format!("remove it, or add {{{name}}} to match.path"),
                    },
                );
            }
        }
    }
}

/// The rules of a route as indices of `limits`, in the order of the route. Unknown names are already reported.
pub(crate) fn route_rules(at: &Place<'_>, names: &[String], limits: &[ValidatedLimit]) -> Vec<usize> {
    let mut rules: Vec<usize> = Vec::new();
    for (item, name) in at.items(names) {
        match limits.iter().position(|limit| limit.name == *name) {
            Some(rule) if rules.contains(&rule) => item.report_duplicate(),
            Some(rule) => rules.push(rule),
            None => {}
        }
    }
    if rules.len() > MAX_RULES_PER_ROUTE {
        let message = format!("{} rules exceed the limit of a route", rules.len());
        at.report(message, format!("keep at most {MAX_RULES_PER_ROUTE}"));
    }
    rules
}
