//! Checks the section `rate_limits` and references to it.
//!
//! [`crate::limit`] checks quotas; its errors become diagnostics here.

use super::file::forms::{Either, Named};
use super::file::limits::RateLimitFile;
use super::problem::{Diagnostic, quoted};
use super::tree::KeyPath;
use super::units::duration_text;
use super::validator::Validator;
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

/// Every rule, in the order of the file.
pub(crate) fn rate_limits(
    validator: &mut Validator<'_>,
    files: Option<&Named<RateLimitFile>>,
) -> Vec<ValidatedLimit> {
    let root = KeyPath::Root;
    let section = root.key("rate_limits");
    let mut limits = Vec::new();
    for (name, file) in files.into_iter().flat_map(|files| &files.0) {
        let settings = rule(validator, &section.key(name), file);
        limits.push(ValidatedLimit { name: name.clone(), settings });
    }
    limits
}

fn rule(validator: &mut Validator<'_>, at: &KeyPath<'_>, file: &RateLimitFile) -> Option<LimiterSettings> {
    let quota = quota(validator, at, file);
    let key = key(validator, &at.key("key"), file);
    let capacity = quota.map_or(u32::MAX, |quota| file.algorithm.capacity(&quota));
    if file.cost > capacity {
        let message = format!("{} exceeds the {capacity} that are admitted at once", file.cost);
        let help = format!("use at most {capacity}, or increase the quota");
        validator.report(&at.key("cost"), Diagnostic::new(message, help));
    }
    if file.mode == LimiterMode::Enforce
        && !key.contains(&KeyPart::ClientIp)
        && key.iter().any(KeyPart::is_client_controlled)
    {
        let message = "a client can send another client's value and use up its quota";
        let help = "add client_ip to the key, and add a second rule with only client_ip";
        validator.warn(&at.key("key"), Diagnostic::new(message, help));
    }
    check_unreadable(validator, &at.key("unreadable"), &key);
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

fn quota(validator: &mut Validator<'_>, at: &KeyPath<'_>, file: &RateLimitFile) -> Option<Quota> {
    let (allow, burst_at) = (at.key("allow"), at.key("burst"));
    let (allowed, period) = match &file.allow {
        Either::Short(allowance) => allowance.0,
        Either::Long(file) => (file.requests, *file.per),
    };
    if file.burst.is_some() && file.algorithm != Algorithm::Gcra {
        let message = "burst has no effect with a window algorithm";
        validator.report(&burst_at, Diagnostic::new(message, "remove it, or use algorithm: gcra"));
    }
    let burst = file.burst.filter(|_| file.algorithm == Algorithm::Gcra).unwrap_or(allowed);
    let text = quoted(&format!("{allowed} per {}", duration_text(period)));
    let (at, message, help) = match Quota::new(allowed, period, burst) {
        Ok(quota) => return Some(quota),
        Err(QuotaError::Zero) => {
            (allow, format!("{text} would deny every request"), "use a count and a duration greater than 0")
        }
        Err(QuotaError::TooFast) => {
            (allow, format!("{text} exceeds one million per second"), "remove the rule, or reduce the quota")
        }
        Err(QuotaError::TooSlow) if burst > allowed => (
            burst_at,
            format!("a bucket of {burst} would take more than a year to refill"),
            "reduce burst, or increase the quota",
        ),
        Err(QuotaError::TooSlow) => {
            (allow, format!("{text} has a period of more than a year"), "use at most 365d")
        }
    };
    validator.report(&at, Diagnostic::new(message, help));
    None
}

/// The parts of the key, each once.
fn key(validator: &mut Validator<'_>, at: &KeyPath<'_>, file: &RateLimitFile) -> Vec<KeyPart> {
    let mut parts: Vec<KeyPart> = Vec::new();
    for (index, part) in file.key.iter().enumerate() {
        if parts.contains(part) {
            validator.report_duplicate(&at.item(index));
        }
        parts.push(part.0.clone());
    }
    parts
}

/// Reports `unreadable` if it is written without an effect.
fn check_unreadable(validator: &mut Validator<'_>, at: &KeyPath<'_>, key: &[KeyPart]) {
    let reads_body = key.iter().any(|part| matches!(part, KeyPart::Body(_)));
    if !reads_body && validator.tree.is_written(at) {
        let message = "unreadable has no effect without a body part in key";
        validator.report(at, Diagnostic::new(message, "remove it, or add \"body:NAME\" to key"));
    }
}

/// The rules of a route as indices of `limits`, in the order of the route. Unknown names are already reported.
pub(crate) fn route_rules(
    validator: &mut Validator<'_>,
    at: &KeyPath<'_>,
    names: &[String],
    limits: &[ValidatedLimit],
) -> Vec<usize> {
    let mut rules: Vec<usize> = Vec::new();
    for (index, name) in names.iter().enumerate() {
        match limits.iter().position(|limit| limit.name == *name) {
            Some(rule) if rules.contains(&rule) => validator.report_duplicate(&at.item(index)),
            Some(rule) => rules.push(rule),
            None => {}
        }
    }
    if rules.len() > MAX_RULES_PER_ROUTE {
        let message = format!("{} rules exceed the limit of a route", rules.len());
        validator.report(at, Diagnostic::new(message, format!("keep at most {MAX_RULES_PER_ROUTE}")));
    }
    rules
}
