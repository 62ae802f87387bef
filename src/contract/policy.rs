//! The error policy: [`decide`] maps a cause or an upstream status to a [`Decision`].
//!
//! It is pure and total: every cause and every status maps to a documented code, because a contract must document a
//! code of every preference list in [`super::causes`]. [`super::reply`] builds the response, and [`super::conform`]
//! checks whether the upstream's body may be forwarded. Metrics, the log and `explain` use the same decision.

use std::fmt;
use std::sync::Arc;

use http::Method;

use super::causes::{Cause, UPSTREAM_RESPONSE};
use super::code::{Contract, DocumentedCode};

/// What the policy decides about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Trigger {
    /// A fault: no usable response.
    Fault(Cause),
    /// The upstream sent a response with this error status.
    UpstreamStatus(u16),
}

impl Trigger {
    /// The name of the cause, or [`UPSTREAM_RESPONSE`].
    pub const fn name(self) -> &'static str {
        match self {
            Trigger::Fault(cause) => cause.name(),
            Trigger::UpstreamStatus(_) => UPSTREAM_RESPONSE,
        }
    }
}

/// Everything that a decision depends on.
#[derive(Clone, Copy, Debug)]
pub struct PolicyInput<'a> {
    /// What happened.
    pub trigger: Trigger,
    /// The upstream's name in the configuration; `None` if no route matched.
    pub upstream: Option<&'a str>,
    /// The method of the request.
    pub method: &'a Method,
    /// The code that the route declares in `respond`, for the cause `route_response`.
    pub route_response: Option<DocumentedCode>,
}

/// When an override applies. Empty conditions match everything; all other conditions must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Matcher {
    /// One of these causes. With causes alone, an upstream response never matches.
    pub causes: Vec<Cause>,
    /// The upstream sent an error response (`cause: upstream_response`). Combined with `causes` by OR.
    pub upstream_response: bool,
    /// The upstream's response has one of these statuses; a fault never matches.
    pub upstream_status: Vec<u16>,
    /// The upstream has this name.
    pub upstream: Option<Box<str>>,
    /// The request has one of these methods.
    pub methods: Vec<Method>,
}

impl Matcher {
    /// Whether all conditions hold.
    pub fn matches(&self, input: &PolicyInput<'_>) -> bool {
        let matches_any_cause = self.causes.is_empty() && !self.upstream_response;
        let trigger_matches = match input.trigger {
            Trigger::Fault(cause) => {
                self.upstream_status.is_empty() && (matches_any_cause || self.causes.contains(&cause))
            }
            Trigger::UpstreamStatus(status) => {
                (matches_any_cause || self.upstream_response)
                    && (self.upstream_status.is_empty() || self.upstream_status.contains(&status))
            }
        };
        trigger_matches
            && self.upstream.as_deref().is_none_or(|name| input.upstream == Some(name))
            && (self.methods.is_empty() || self.methods.contains(input.method))
    }
}

/// Declared values by name, as JSON.
pub(crate) type OverrideValues = Arc<[(Box<str>, Box<str>)]>;

/// An operator's exception to the default tables. Values that are not set keep their default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Override {
    /// When it applies.
    pub matcher: Matcher,
    /// The status to send instead. A contract that does not document it ignores it.
    pub code: Option<u16>,
    /// The client message to send instead; it must pass [`super::text::is_allowed`].
    pub message: Option<Arc<str>>,
    /// The type to send instead.
    pub kind: Option<Arc<str>>,
    /// Declared values to send instead, as JSON.
    pub values: OverrideValues,
    /// `Retry-After`, in seconds.
    pub retry_after: Option<u64>,
}

/// The overrides for a request. Route overrides precede global ones; the first match wins.
#[derive(Clone, Copy, Debug, Default)]
pub struct Overrides<'a> {
    /// The overrides of the route.
    pub route: &'a [Override],
    /// The overrides of all routes.
    pub global: &'a [Override],
}

/// The rule that made the decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PolicyRule {
    /// The upstream's status is documented and is kept.
    Documented,
    /// A row of the default tables.
    Default,
    /// The route declares the code of its responses (`respond`).
    RouteResponse,
    /// This override of the route, counted from 0.
    RouteOverride(usize),
    /// This global override, counted from 0.
    GlobalOverride(usize),
}

impl fmt::Display for PolicyRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PolicyRule::Documented => f.write_str("documented"),
            PolicyRule::Default => f.write_str("default"),
            PolicyRule::RouteResponse => f.write_str("response of the route"),
            PolicyRule::RouteOverride(index) => write!(f, "route override {index}"),
            PolicyRule::GlobalOverride(index) => write!(f, "global override {index}"),
        }
    }
}

/// The result of the policy: a documented code, the message, `Retry-After`, and the rule that made the decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    code: DocumentedCode,
    rule: PolicyRule,
    trigger: Trigger,
    message: Option<Arc<str>>,
    kind: Option<Arc<str>>,
    values: Option<OverrideValues>,
    retry_after: Option<u64>,
}

impl Decision {
    /// The code to send.
    pub const fn code(&self) -> DocumentedCode {
        self.code
    }

    /// The rule that made the decision.
    pub const fn rule(&self) -> PolicyRule {
        self.rule
    }

    /// The cause or upstream status that was the input.
    pub const fn trigger(&self) -> Trigger {
        self.trigger
    }

    /// The cause; `None` for an upstream response.
    pub const fn cause(&self) -> Option<Cause> {
        match self.trigger {
            Trigger::Fault(cause) => Some(cause),
            Trigger::UpstreamStatus(_) => None,
        }
    }

    /// `Retry-After` of an override, in seconds.
    pub const fn retry_after(&self) -> Option<u64> {
        self.retry_after
    }

    /// The message of an override; it precedes the upstream's message.
    pub(crate) fn override_message(&self) -> Option<&str> {
        self.message.as_deref()
    }

    /// The type of an override; it precedes the upstream's type.
    pub(crate) fn override_type(&self) -> Option<&str> {
        self.kind.as_deref()
    }

    /// The declared value of an override, as JSON.
    pub(crate) fn override_value(&self, name: &str) -> Option<&str> {
        let (_, json) = self.values.as_ref()?.iter().find(|(known, _)| **known == *name)?;
        Some(json)
    }

    /// Whether the body is that of the contract for this cause: neither an override nor the route decides it.
    pub(crate) fn has_default_body(&self) -> bool {
        match self.rule {
            PolicyRule::Documented | PolicyRule::Default => true,
            PolicyRule::RouteResponse | PolicyRule::RouteOverride(_) | PolicyRule::GlobalOverride(_) => false,
        }
    }

    /// The client message: from the override, else the cause, else the code.
    pub fn message<'a>(&'a self, contract: &'a Contract) -> &'a str {
        match &self.message {
            Some(message) => message,
            None => contract.message_for(self.code, self.cause()),
        }
    }

    /// Whether the upstream's body may be forwarded if it conforms: the upstream sent a response, its status is kept,
    /// and no override changes the body.
    pub(crate) fn allows_upstream_body(&self) -> bool {
        match self.trigger {
            Trigger::Fault(_) => false,
            Trigger::UpstreamStatus(status) => {
                status == self.code.status()
                    && self.message.is_none()
                    && self.kind.is_none()
                    && self.values.is_none()
            }
        }
    }
}

/// Decides which error to send. Total, without side effects and without allocation.
pub fn decide(contract: &Contract, input: &PolicyInput<'_>, overrides: &Overrides<'_>) -> Decision {
    let (code, rule) = match input.trigger {
        Trigger::Fault(cause) => match input.route_response.filter(|_| cause == Cause::RouteResponse) {
            Some(declared) => (declared, PolicyRule::RouteResponse),
            None => (contract.code_for_cause(cause), PolicyRule::Default),
        },
        Trigger::UpstreamStatus(status) => match contract.code(status) {
            Some(code) => (code, PolicyRule::Documented),
            None => (contract.code_for_upstream(status), PolicyRule::Default),
        },
    };
    let mut decision = Decision {
        code,
        rule,
        trigger: input.trigger,
        message: None,
        kind: None,
        values: None,
        retry_after: None,
    };

    let route = first_match(overrides.route, input, PolicyRule::RouteOverride);
    let matched = route.or_else(|| first_match(overrides.global, input, PolicyRule::GlobalOverride));
    if let Some((rule, matched)) = matched {
        decision.rule = rule;
        decision.code = matched.code.and_then(|status| contract.code(status)).unwrap_or(code);
        decision.message = matched.message.clone();
        decision.kind = matched.kind.clone();
        decision.values = (!matched.values.is_empty()).then(|| Arc::clone(&matched.values));
        decision.retry_after = matched.retry_after;
    }
    decision
}

/// The first override that matches, and the rule that it is.
fn first_match<'a>(
    overrides: &'a [Override],
    input: &PolicyInput<'_>,
    rule: fn(usize) -> PolicyRule,
) -> Option<(PolicyRule, &'a Override)> {
    let index = overrides.iter().position(|candidate| candidate.matcher.matches(input))?;
    Some((rule(index), overrides.get(index)?))
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
