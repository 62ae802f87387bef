//! Checks the section `rate_limits`, and the names by which routes refer to it.
//!
//! What a rule can be decided with is for [`crate::limit`] to say; here its reasons become sentences.

use std::time::Duration;

use ipnet::IpNet;

use super::checker::{Checker, field_name, label};
use super::error::{Refusal, either, nearest, quoted};
use super::file::forms::{DurationText, Either, Named};
use super::file::limits::{self, AllowForm, ExemptForm, LimitMode, RateLimitFile};
use super::tree::Place;
use super::units;
use super::validate_stores::{self, CheckedStore};
use crate::limit::{Algorithm, Credential, KeyPart, LimiterMode, LimiterSettings, Quota, QuotaError, memory};

/// A rule of the file. One with a problem keeps its name, so that routes are not told that it does not exist.
pub struct CheckedLimit {
    /// What routes call it.
    pub name: String,
    /// What it allows, if that is good.
    pub settings: Option<LimiterSettings>,
}

/// Most rules of one route: each is a step of every request.
pub const MOST_RULES: usize = 8;

const MOST_KEYS: u64 = 10_000_000;
const DEFAULT_KEYS: usize = 200_000;
const PARTS: [&str; 9] = [
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
pub fn rate_limits(
    checker: &mut Checker<'_>,
    files: Option<&Named<RateLimitFile>>,
    stores: &[CheckedStore],
) -> Vec<CheckedLimit> {
    let root = Place::Root;
    let section = root.key("rate_limits");
    let mut limits = Vec::new();
    for (name, file) in files.into_iter().flat_map(|files| &files.0) {
        let at = section.key(name);
        checker.accept(&at, label(name));
        let algorithm = match file.algorithm.unwrap_or_default() {
            limits::Algorithm::Gcra => Algorithm::Gcra,
            limits::Algorithm::FixedWindow => Algorithm::FixedWindow,
            limits::Algorithm::SlidingWindow => Algorithm::SlidingWindow,
        };
        let quota = quota(checker, &at, file, algorithm);
        let cost = cost(checker, &at.key("cost"), file.cost, quota.map(|quota| algorithm.capacity(&quota)));
        let key = key(checker, &at.key("key"), file);
        let (exempt, credentials) = exempt(checker, &at.key("exempt"), file.exempt.as_ref());
        let reset_on = statuses(checker, &at.key("reset_on"), file.reset_on.as_ref());
        let jitter = jitter(checker, &at.key("retry_after_jitter"), file.retry_after_jitter.as_ref());
        let store = file
            .store
            .as_ref()
            .and_then(|name| validate_stores::named(checker, &at.key("store"), name, stores));
        let fewest = memory::MIN_KEYS as u64;
        let max_keys = checker.number(&at.key("max_keys"), file.max_keys, fewest..=MOST_KEYS);
        if mode_refuses(file)
            && !key.contains(&KeyPart::ClientIp)
            && key.iter().any(KeyPart::is_client_controlled)
        {
            let what = "anybody can send another's value and use up what is allowed to them";
            let remedy = "add client_ip to the key, and a rule by client_ip alone beside it";
            checker.warn(&at.key("key"), Refusal::new(what, remedy));
        }
        let mode = match file.mode.unwrap_or_default() {
            LimitMode::Enforce => LimiterMode::Enforce,
            LimitMode::Shadow => LimiterMode::Shadow,
        };
        let max_keys = max_keys.and_then(|keys| usize::try_from(keys).ok()).unwrap_or(DEFAULT_KEYS);
        let settings = quota.map(|quota| LimiterSettings {
            quota,
            algorithm,
            cost,
            key,
            mode,
            exempt,
            credentials,
            reset_on,
            retry_after_jitter: jitter,
            store,
            max_keys,
        });
        limits.push(CheckedLimit { name: name.clone(), settings });
    }
    limits
}

fn mode_refuses(file: &RateLimitFile) -> bool {
    match file.mode.unwrap_or_default() {
        LimitMode::Enforce => true,
        LimitMode::Shadow => false,
    }
}

fn quota(
    checker: &mut Checker<'_>,
    at: &Place<'_>,
    file: &RateLimitFile,
    algorithm: Algorithm,
) -> Option<Quota> {
    let allow = at.key("allow");
    let Some(form) = &file.allow else {
        checker.missing(&allow, "say how many requests are allowed, for example allow: 100 per 1m");
        return None;
    };
    let parsed = allowance(checker, &allow, form);
    let text = &match form {
        Either::Short(text) => text.clone(),
        Either::Long(file) => format!(
            "{} per {}",
            file.requests.unwrap_or_default(),
            file.per.as_ref().map_or("", |DurationText(text)| text)
        ),
    };
    let burst_at = at.key("burst");
    let mut written = checker.number(&burst_at, file.burst, 1..=u64::from(u32::MAX));
    if written.is_some() && algorithm != Algorithm::Gcra {
        let what = "a window admits as many at once as it allows";
        checker.refuse(&burst_at, Refusal::new(what, "remove it, or use algorithm: gcra"));
        written = None;
    }
    let (allowed, period) = parsed?;
    let burst = written.and_then(|burst| u32::try_from(burst).ok()).unwrap_or(allowed);
    let (at, what, remedy) = match Quota::new(allowed, period, burst) {
        Ok(quota) => return Some(quota),
        Err(QuotaError::Zero) => (
            allow,
            format!("{} would let nothing through", quoted(text)),
            "write a count and a time above zero",
        ),
        Err(QuotaError::TooFast) => (
            allow,
            format!("{} is more than a million per second", quoted(text)),
            "remove the rule, or allow less",
        ),
        Err(QuotaError::TooSlow) if written.is_some_and(|burst| burst > u64::from(allowed)) => (
            burst_at,
            format!("a bucket of {burst} would take longer than a year to fill"),
            "write a smaller number, or allow more",
        ),
        Err(QuotaError::TooSlow) => {
            (allow, format!("{} is spread over more than a year", quoted(text)), "write at most 365d")
        }
    };
    checker.refuse(&at, Refusal::new(what, remedy));
    None
}

/// So many requests, in such a time.
fn allowance(checker: &mut Checker<'_>, at: &Place<'_>, form: &AllowForm) -> Option<(u32, Duration)> {
    match form {
        Either::Short(text) => checker.accept(at, units::allowance(text)),
        Either::Long(file) => {
            let (requests_at, per_at) = (at.key("requests"), at.key("per"));
            if file.requests.is_none() {
                checker.missing(&requests_at, "say how many, for example requests: 100");
            }
            if file.per.is_none() {
                checker.missing(&per_at, "say in which time, for example per: 1m");
            }
            let requests = checker.number(&requests_at, file.requests, 1..=u64::from(u32::MAX));
            let period = checker.time(&per_at, file.per.as_ref());
            Some((u32::try_from(requests?).ok()?, period?))
        }
    }
}

/// Networks, and who knows the right value of a field.
fn exempt(
    checker: &mut Checker<'_>,
    at: &Place<'_>,
    forms: Option<&Vec<ExemptForm>>,
) -> (Vec<IpNet>, Vec<Credential>) {
    let (mut networks, mut credentials) = (Vec::new(), Vec::new());
    for (index, form) in forms.into_iter().flatten().enumerate() {
        let item = at.item(index);
        match form {
            Either::Short(text) => networks.extend(checker.accept(&item, units::network(text))),
            Either::Long(file) => {
                let (header_at, digest_at) = (item.key("header"), item.key("sha256"));
                if file.header.is_none() {
                    checker.missing(&header_at, "name the request field, for example header: x-api-key");
                }
                if file.sha256.is_none() {
                    checker.missing(&digest_at, "write what `printf %s VALUE | sha256sum` prints");
                }
                let header =
                    file.header.as_ref().and_then(|name| checker.accept(&header_at, field_name(name)));
                let digest = file.sha256.as_ref().and_then(|text| checker.accept(&digest_at, sha256(text)));
                credentials.extend(header.zip(digest).map(|(header, sha256)| Credential { header, sha256 }));
            }
        }
    }
    (networks, credentials)
}

/// 64 hexadecimal digits.
fn sha256(text: &str) -> Result<[u8; 32], Refusal> {
    // What was written may be the secret itself: it is not repeated.
    let wrong = || {
        Refusal::new("this is not a SHA-256", "write the 64 digits that `printf %s VALUE | sha256sum` prints")
    };
    let mut digest = [0; 32];
    if text.len() != 64 || !text.bytes().all(|octet| octet.is_ascii_hexdigit()) {
        return Err(wrong());
    }
    for (slot, pair) in digest.iter_mut().zip(text.as_bytes().chunks(2)) {
        let pair = std::str::from_utf8(pair).map_err(|_| wrong())?;
        *slot = u8::from_str_radix(pair, 16).map_err(|_| wrong())?;
    }
    Ok(digest)
}

/// Statuses that a final response can have.
fn statuses(checker: &mut Checker<'_>, at: &Place<'_>, written: Option<&Vec<u64>>) -> Vec<u16> {
    let mut statuses = Vec::new();
    for (index, status) in written.into_iter().flatten().enumerate() {
        let status = checker.number(&at.item(index), Some(*status), 200..=599);
        statuses.extend(status.and_then(|status| u16::try_from(status).ok()));
    }
    statuses
}

/// Whole seconds, at most an hour.
fn jitter(checker: &mut Checker<'_>, at: &Place<'_>, text: Option<&DurationText>) -> u32 {
    let Some(time) = checker.time(at, text) else { return 0 };
    if time.subsec_nanos() > 0 || time > Duration::from_secs(3_600) {
        let written = text.map_or("", |text| text.0.as_str());
        let what = format!("{} cannot be added to Retry-After", quoted(written));
        checker.refuse(at, Refusal::new(what, "write whole seconds, at most 1h"));
        return 0;
    }
    u32::try_from(time.as_secs()).unwrap_or(0)
}

/// How much a request takes: at most what can be there at all.
fn cost(checker: &mut Checker<'_>, at: &Place<'_>, written: Option<u64>, capacity: Option<u32>) -> u32 {
    let most = capacity.unwrap_or(u32::MAX);
    match checker.number(at, written, 1..=u64::from(u32::MAX)) {
        Some(cost) if cost > u64::from(most) => {
            let what = format!("{cost} is more than the {most} that are admitted at once");
            checker.refuse(at, Refusal::new(what, format!("write at most {most}, or allow more")));
            1
        }
        Some(cost) => u32::try_from(cost).unwrap_or(1),
        None => 1,
    }
}

fn key(checker: &mut Checker<'_>, at: &Place<'_>, file: &RateLimitFile) -> Vec<KeyPart> {
    if file.key.as_ref().is_some_and(Vec::is_empty) && !checker.tree.any_refused(at) {
        let refusal = Refusal::new(
            "the list is empty, so all clients would share one count",
            "write [route] if that is meant",
        );
        checker.refuse(at, refusal);
    }
    let mut parts: Vec<KeyPart> = Vec::new();
    for (index, text) in file.key.iter().flatten().enumerate() {
        let item = at.item(index);
        let Some(part) = checker.accept(&item, key_part(text)) else { continue };
        if parts.contains(&part) {
            let what = format!("{} is listed twice", quoted(text));
            checker.refuse(&item, Refusal::new(what, "keep one"));
        }
        parts.push(part);
    }
    if parts.is_empty() { vec![KeyPart::ClientIp] } else { parts }
}

fn key_part(text: &str) -> Result<KeyPart, Refusal> {
    let unknown = || {
        let what = format!("{} is not a part of a request", quoted(text));
        match nearest(text, PARTS) {
            Some(near) => Refusal::new(what, format!("did you mean {}?", quoted(near))),
            None => Refusal::new(what, format!("expected {}", either(&PARTS))),
        }
    };
    match text.split_once(':') {
        None => match text {
            "client_ip" => Ok(KeyPart::ClientIp),
            "host" => Ok(KeyPart::Host),
            "method" => Ok(KeyPart::Method),
            "route" => Ok(KeyPart::Route),
            _ => Err(unknown()),
        },
        Some(("header", name)) => field_name(name).map(KeyPart::Header),
        Some((kind @ ("body" | "cookie" | "query" | "path"), name)) => {
            if name.is_empty() {
                let what = format!("{} has no name", quoted(text));
                return Err(Refusal::new(what, format!("write one behind the colon, for example {kind}:id")));
            }
            Ok(match kind {
                "body" => KeyPart::Body(name.into()),
                "cookie" => KeyPart::Cookie(name.into()),
                "query" => KeyPart::Query(name.into()),
                _ => KeyPart::Path(name.into()),
            })
        }
        Some(_) => Err(unknown()),
    }
}

/// The rules of a route as numbers of `limits`, in the order in which it names them.
pub fn of_route(
    checker: &mut Checker<'_>,
    at: &Place<'_>,
    names: Option<&Vec<String>>,
    limits: &[CheckedLimit],
) -> Vec<usize> {
    let root = Place::Root;
    let section = root.key("rate_limits");
    let mut rules: Vec<usize> = Vec::new();
    for (index, name) in names.into_iter().flatten().enumerate() {
        let item = at.item(index);
        match limits.iter().position(|limit| limit.name == *name) {
            Some(rule) if rules.contains(&rule) => {
                let what = format!("{} is listed twice", quoted(name));
                checker.refuse(&item, Refusal::new(what, "keep one"));
            }
            Some(rule) => rules.push(rule),
            // Written, but refused for another reason already.
            None if checker.tree.is_written(&section.key(name)) => {}
            None => checker.refuse(&item, no_rate_limit(name, limits)),
        }
    }
    if rules.len() > MOST_RULES {
        let what = format!("{} rules are more than a route can have", rules.len());
        checker.refuse(at, Refusal::new(what, format!("keep at most {MOST_RULES}")));
    }
    rules
}

fn no_rate_limit(name: &str, limits: &[CheckedLimit]) -> Refusal {
    let what = format!("there is no rate limit {}", quoted(name));
    let names: Vec<&str> = limits.iter().map(|limit| limit.name.as_str()).collect();
    match nearest(name, names.iter().copied()) {
        Some(near) => Refusal::new(what, format!("did you mean {}?", quoted(near))),
        None if names.is_empty() => {
            Refusal::new(what, format!("add it: rate_limits: {{ {name}: {{ allow: 100 per 1m }} }}"))
        }
        None => Refusal::new(what, format!("expected {}", either(&names))),
    }
}
