//! Checks the section `rate_limits` and references to it.
//!
//! [`crate::limit`] checks quotas; its errors become diagnostics here.

use std::time::Duration;

use ipnet::IpNet;

use super::file::forms::{DurationText, Either, Named};
use super::file::limits::{self, AllowForm, ExemptForm, LimitMode, RateLimitFile, Unreadable};
use super::problem::{Diagnostic, closest_match, join_or, quoted};
use super::tree::KeyPath;
use super::units;
use super::units::header_name;
use super::validate_stores::{self, ValidatedStore};
use super::validator::{Validator, metric_name};
use crate::limit::{
    Algorithm, Credential, KeyPart, LimiterMode, LimiterSettings, Quota, QuotaError, UnreadableBody,
};

/// A rule of the file. An invalid rule keeps its name, so that references to it are not reported as unknown.
pub(crate) struct ValidatedLimit {
    /// The name in the file.
    pub name: String,
    /// The settings, if valid.
    pub settings: Option<LimiterSettings>,
}

/// The maximum number of rules per route; every request evaluates all of them.
pub(crate) const MAX_RULES_PER_ROUTE: usize = 8;

const KEY_PARTS: [&str; 9] = [
    "client_ip",
    "host",
    "method",
    "route",
    "header:NAME",
    "cookie:NAME",
    "query:NAME",
    "path:NAME",
    "body:NAME",
];

/// Every rule, in the order of the file.
pub(crate) fn rate_limits(
    validator: &mut Validator<'_>,
    files: Option<&Named<RateLimitFile>>,
    stores: &[ValidatedStore],
) -> Vec<ValidatedLimit> {
    let root = KeyPath::Root;
    let section = root.key("rate_limits");
    let mut limits = Vec::new();
    for (name, file) in files.into_iter().flat_map(|files| &files.0) {
        let at = section.key(name);
        validator.check(&at, metric_name(name));
        let algorithm = match file.algorithm {
            limits::Algorithm::Gcra => Algorithm::Gcra,
            limits::Algorithm::FixedWindow => Algorithm::FixedWindow,
            limits::Algorithm::SlidingWindow => Algorithm::SlidingWindow,
        };
        let quota = quota(validator, &at, file, algorithm);
        let cost = cost(validator, &at.key("cost"), file.cost, quota.map(|quota| algorithm.capacity(&quota)));
        let key = key(validator, &at.key("key"), file);
        let (exempt, credentials) = exempt(validator, &at.key("exempt"), file.exempt.as_ref());
        let reset_on = statuses(validator, &at.key("reset_on"), file.reset_on.as_ref());
        let jitter = jitter(validator, &at.key("retry_after_jitter"), file.retry_after_jitter.as_ref());
        let store = file
            .store
            .as_ref()
            .and_then(|name| validate_stores::resolve_store(validator, &at.key("store"), name, stores));
        if is_enforced(file)
            && !key.contains(&KeyPart::ClientIp)
            && key.iter().any(KeyPart::is_client_controlled)
        {
            let message = "a client can send another client's value and use up its quota";
            let help = "add client_ip to the key, and add a second rule with only client_ip";
            validator.warn(&at.key("key"), Diagnostic::new(message, help));
        }
        let unreadable = unreadable(validator, &at.key("unreadable"), file, &key);
        let mode = match file.mode {
            LimitMode::Enforce => LimiterMode::Enforce,
            LimitMode::Shadow => LimiterMode::Shadow,
        };
        let settings = quota.map(|quota| LimiterSettings {
            quota,
            algorithm,
            cost,
            key,
            unreadable,
            mode,
            exempt,
            credentials,
            reset_on,
            retry_after_jitter: jitter,
            store,
            max_keys: file.max_keys,
        });
        limits.push(ValidatedLimit { name: name.clone(), settings });
    }
    limits
}

fn is_enforced(file: &RateLimitFile) -> bool {
    match file.mode {
        LimitMode::Enforce => true,
        LimitMode::Shadow => false,
    }
}

fn quota(
    validator: &mut Validator<'_>,
    at: &KeyPath<'_>,
    file: &RateLimitFile,
    algorithm: Algorithm,
) -> Option<Quota> {
    let allow = at.key("allow");
    let Some(form) = &file.allow else { return None };
    let parsed = allowance(validator, &allow, form);
    let text = &match form {
        Either::Short(text) => text.clone(),
        Either::Long(file) => format!(
            "{} per {}",
            file.requests.unwrap_or_default(),
            file.per.as_ref().map_or("", |DurationText(text)| text)
        ),
    };
    let burst_at = at.key("burst");
    let mut explicit_burst = validator.number(&burst_at, file.burst, 1..=u64::from(u32::MAX));
    if explicit_burst.is_some() && algorithm != Algorithm::Gcra {
        let message = "burst has no effect with a window algorithm";
        validator.report(&burst_at, Diagnostic::new(message, "remove it, or use algorithm: gcra"));
        explicit_burst = None;
    }
    let (allowed, period) = parsed?;
    let burst = explicit_burst.and_then(|burst| u32::try_from(burst).ok()).unwrap_or(allowed);
    let (at, message, help) = match Quota::new(allowed, period, burst) {
        Ok(quota) => return Some(quota),
        Err(QuotaError::Zero) => (
            allow,
            format!("{} would deny every request", quoted(text)),
            "use a count and a duration greater than 0",
        ),
        Err(QuotaError::TooFast) => (
            allow,
            format!("{} exceeds one million per second", quoted(text)),
            "remove the rule, or reduce the quota",
        ),
        Err(QuotaError::TooSlow) if explicit_burst.is_some_and(|burst| burst > u64::from(allowed)) => (
            burst_at,
            format!("a bucket of {burst} would take more than a year to refill"),
            "reduce burst, or increase the quota",
        ),
        Err(QuotaError::TooSlow) => {
            (allow, format!("{} has a period of more than a year", quoted(text)), "use at most 365d")
        }
    };
    validator.report(&at, Diagnostic::new(message, help));
    None
}

/// The number of requests and the period.
fn allowance(validator: &mut Validator<'_>, at: &KeyPath<'_>, form: &AllowForm) -> Option<(u32, Duration)> {
    match form {
        Either::Short(text) => validator.check(at, units::allowance(text)),
        Either::Long(file) => {
            let (requests_at, per_at) = (at.key("requests"), at.key("per"));
            let requests = validator.number(&requests_at, file.requests, 1..=u64::from(u32::MAX));
            let period = validator.duration(&per_at, file.per.as_ref());
            Some((u32::try_from(requests?).ok()?, period?))
        }
    }
}

/// Exempt networks and exempt clients with a secret header value.
fn exempt(
    validator: &mut Validator<'_>,
    at: &KeyPath<'_>,
    forms: Option<&Vec<ExemptForm>>,
) -> (Vec<IpNet>, Vec<Credential>) {
    let (mut networks, mut credentials) = (Vec::new(), Vec::new());
    for (index, form) in forms.into_iter().flatten().enumerate() {
        let item = at.item(index);
        match form {
            Either::Short(text) => networks.extend(validator.check(&item, units::network(text))),
            Either::Long(file) => {
                let (header_at, digest_at) = (item.key("header"), item.key("sha256"));
                let header =
                    file.header.as_ref().and_then(|name| validator.check(&header_at, header_name(name)));
                let digest = file.sha256.as_ref().and_then(|text| validator.check(&digest_at, sha256(text)));
                credentials.extend(header.zip(digest).map(|(header, sha256)| Credential { header, sha256 }));
            }
        }
    }
    (networks, credentials)
}

/// 64 hexadecimal digits.
fn sha256(text: &str) -> Result<[u8; 32], Diagnostic> {
    // The text may be the secret itself, so the message does not repeat it.
    let error = || {
        Diagnostic::new(
            "the value is not a SHA-256",
            "write the 64 hexadecimal digits that `printf %s VALUE | sha256sum` prints",
        )
    };
    let mut digest = [0; 32];
    if text.len() != 64 || !text.bytes().all(|octet| octet.is_ascii_hexdigit()) {
        return Err(error());
    }
    for (slot, pair) in digest.iter_mut().zip(text.as_bytes().chunks(2)) {
        let pair = std::str::from_utf8(pair).map_err(|_| error())?;
        *slot = u8::from_str_radix(pair, 16).map_err(|_| error())?;
    }
    Ok(digest)
}

/// Status codes of final responses.
fn statuses(validator: &mut Validator<'_>, at: &KeyPath<'_>, written: Option<&Vec<u64>>) -> Vec<u16> {
    let mut statuses = Vec::new();
    for (index, status) in written.into_iter().flatten().enumerate() {
        let status = validator.number(&at.item(index), Some(*status), 200..=599);
        statuses.extend(status.and_then(|status| u16::try_from(status).ok()));
    }
    statuses
}

/// Whole seconds, at most an hour.
fn jitter(validator: &mut Validator<'_>, at: &KeyPath<'_>, text: Option<&DurationText>) -> u32 {
    let Some(time) = validator.duration(at, text) else { return 0 };
    if time.subsec_nanos() > 0 || time > Duration::from_secs(3_600) {
        let original = text.map_or("", |text| text.0.as_str());
        let message = format!("{} cannot be added to Retry-After", quoted(original));
        validator.report(at, Diagnostic::new(message, "use whole seconds, at most 1h"));
        return 0;
    }
    u32::try_from(time.as_secs()).unwrap_or(0)
}

/// The cost of a request, at most the capacity of the quota.
fn cost(validator: &mut Validator<'_>, at: &KeyPath<'_>, written: Option<u64>, capacity: Option<u32>) -> u32 {
    let max_cost = capacity.unwrap_or(u32::MAX);
    match validator.number(at, written, 1..=u64::from(u32::MAX)) {
        Some(cost) if cost > u64::from(max_cost) => {
            let message = format!("{cost} exceeds the {max_cost} that are admitted at once");
            validator.report(
                at,
                Diagnostic::new(message, format!("use at most {max_cost}, or increase the quota")),
            );
            1
        }
        Some(cost) => u32::try_from(cost).unwrap_or(1),
        None => 1,
    }
}

fn key(validator: &mut Validator<'_>, at: &KeyPath<'_>, file: &RateLimitFile) -> Vec<KeyPart> {
    if file.key.as_ref().is_some_and(Vec::is_empty) && !validator.tree.any_invalid(at) {
        let diagnostic = Diagnostic::new(
            "the list is empty, so all clients would share one counter",
            "use [route] if that is intended",
        );
        validator.report(at, diagnostic);
    }
    let mut parts: Vec<KeyPart> = Vec::new();
    for (index, text) in file.key.iter().flatten().enumerate() {
        let item = at.item(index);
        let Some(part) = validator.check(&item, key_part(text)) else { continue };
        if parts.contains(&part) {
            let message = format!("{} is listed twice", quoted(text));
            validator.report(&item, Diagnostic::new(message, "keep one"));
        }
        parts.push(part);
    }
    if parts.is_empty() { vec![KeyPart::ClientIp] } else { parts }
}

/// What happens to unreadable bodies; reported if it is written without an effect.
fn unreadable(
    validator: &mut Validator<'_>,
    at: &KeyPath<'_>,
    file: &RateLimitFile,
    key: &[KeyPart],
) -> UnreadableBody {
    let reads_body = key.iter().any(|part| matches!(part, KeyPart::Body(_)));
    if !reads_body && validator.tree.is_written(at) {
        let message = "unreadable has no effect without a body part in key";
        validator.report(at, Diagnostic::new(message, "remove it, or add \"body:NAME\" to key"));
    }
    match file.unreadable {
        Unreadable::Reject => UnreadableBody::Reject,
        Unreadable::ClientIp => UnreadableBody::ClientIp,
    }
}

fn key_part(text: &str) -> Result<KeyPart, Diagnostic> {
    let unknown_part = || {
        let message = format!("{} is not a valid key part", quoted(text));
        match closest_match(text, KEY_PARTS) {
            Some(near) => Diagnostic::new(message, format!("did you mean {}?", quoted(near))),
            None => Diagnostic::new(message, format!("expected {}", join_or(&KEY_PARTS))),
        }
    };
    match text.split_once(':') {
        None => match text {
            "client_ip" => Ok(KeyPart::ClientIp),
            "host" => Ok(KeyPart::Host),
            "method" => Ok(KeyPart::Method),
            "route" => Ok(KeyPart::Route),
            _ => Err(unknown_part()),
        },
        Some(("header", name)) => header_name(name).map(KeyPart::Header).map_err(|_| {
            let message = format!("{} is not a valid key part", quoted(text));
            Diagnostic::new(message, "use letters, digits and -, for example header:x-api-key")
        }),
        Some((kind @ ("body" | "cookie" | "query" | "path"), name)) => {
            if name.is_empty() {
                let message = format!("{} has no name", quoted(text));
                return Err(Diagnostic::new(
                    message,
                    format!("write one after the colon, for example {kind}:id"),
                ));
            }
            Ok(match kind {
                "body" => KeyPart::Body(name.into()),
                "cookie" => KeyPart::Cookie(name.into()),
                "query" => KeyPart::Query(name.into()),
                _ => KeyPart::Path(name.into()),
            })
        }
        Some(_) => Err(unknown_part()),
    }
}

/// The rules of a route as indices of `limits`, in the order of the route.
pub(crate) fn route_rules(
    validator: &mut Validator<'_>,
    at: &KeyPath<'_>,
    names: Option<&Vec<String>>,
    limits: &[ValidatedLimit],
) -> Vec<usize> {
    let root = KeyPath::Root;
    let section = root.key("rate_limits");
    let mut rules: Vec<usize> = Vec::new();
    for (index, name) in names.into_iter().flatten().enumerate() {
        let item = at.item(index);
        match limits.iter().position(|limit| limit.name == *name) {
            Some(rule) if rules.contains(&rule) => {
                let message = format!("{} is listed twice", quoted(name));
                validator.report(&item, Diagnostic::new(message, "keep one"));
            }
            Some(rule) => rules.push(rule),
            // An invalid rule is already reported.
            None if validator.tree.is_written(&section.key(name)) => {}
            None => validator.report(&item, unknown_rate_limit(name, limits)),
        }
    }
    if rules.len() > MAX_RULES_PER_ROUTE {
        let message = format!("{} rules exceed the limit of a route", rules.len());
        validator.report(at, Diagnostic::new(message, format!("keep at most {MAX_RULES_PER_ROUTE}")));
    }
    rules
}

fn unknown_rate_limit(name: &str, limits: &[ValidatedLimit]) -> Diagnostic {
    let message = format!("unknown rate limit {}", quoted(name));
    let names: Vec<&str> = limits.iter().map(|limit| limit.name.as_str()).collect();
    match closest_match(name, names.iter().copied()) {
        Some(near) => Diagnostic::new(message, format!("did you mean {}?", quoted(near))),
        None if names.is_empty() => {
            Diagnostic::new(message, format!("add it: rate_limits: {{ {name}: {{ allow: 100 per 1m }} }}"))
        }
        None => Diagnostic::new(message, format!("expected {}", join_or(&names))),
    }
}
