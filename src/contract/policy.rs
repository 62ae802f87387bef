//! Which code answers what: the one decision, [`decide`], from a cause or an upstream status to a [`Decision`].
//!
//! Pure and total: every cause and every status has an answer, because a contract cannot be declared without the targets
//! of the two default tables below. It does not know how the answer looks (see [`super::reply`]) nor whether an upstream's
//! body may pass as it is (see [`super::conform`]); metrics, the log and `explain` read the same ruling.

use std::fmt;
use std::sync::Arc;

use http::Method;

use super::code::{Contract, DocumentedCode};
use super::fault::Cause;

/// The name that stands where a cause stands when the upstream itself answered an error: label, override key, log value.
pub const UPSTREAM_RESPONSE: &str = "upstream_response";

/// What is to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Trigger {
    /// Something went wrong: no usable response.
    Fault(Cause),
    /// The upstream answered this status itself.
    UpstreamStatus(u16),
}

impl Trigger {
    /// The cause's name, or [`UPSTREAM_RESPONSE`].
    pub const fn name(self) -> &'static str {
        match self {
            Trigger::Fault(cause) => cause.name(),
            Trigger::UpstreamStatus(_) => UPSTREAM_RESPONSE,
        }
    }
}

/// Everything that a decision may depend on.
#[derive(Clone, Copy, Debug)]
pub struct PolicyInput<'a> {
    /// What happened.
    pub trigger: Trigger,
    /// The upstream's name in the configuration; `None` where no route was found.
    pub upstream: Option<&'a str>,
    /// The method of the request.
    pub method: &'a Method,
}

/// When an override applies. What is empty does not restrict; what is given must all hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Matcher {
    /// One of these causes. With causes alone, an answer of the upstream never matches.
    pub causes: Vec<Cause>,
    /// Like a further cause: the upstream answered an error itself (`cause: upstream_response`).
    pub upstream_response: bool,
    /// The upstream answered one of these statuses; a fault never matches.
    pub upstream_status: Vec<u16>,
    /// The upstream of this name.
    pub upstream: Option<Box<str>>,
    /// One of these methods.
    pub methods: Vec<Method>,
}

impl Matcher {
    /// Whether this override applies.
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

/// An operator's exception from the default tables. What it does not set stays as it was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Override {
    /// When it applies.
    pub matcher: Matcher,
    /// Another code.
    pub code: Option<DocumentedCode>,
    /// Another text; it must pass [`super::text::is_allowed`].
    pub message: Option<Arc<str>>,
    /// `Retry-After`, in seconds.
    pub retry_after: Option<u64>,
}

/// The overrides that concern a request. The route's own precede the global ones; the first match wins.
#[derive(Clone, Copy, Debug, Default)]
pub struct Overrides<'a> {
    /// Of the route.
    pub route: &'a [Override],
    /// Of every route.
    pub global: &'a [Override],
}

/// Which rule decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PolicyRule {
    /// The upstream's status is in the contract and stays.
    Documented,
    /// A row of the default tables.
    Default,
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
            PolicyRule::RouteOverride(index) => write!(f, "route override {index}"),
            PolicyRule::GlobalOverride(index) => write!(f, "global override {index}"),
        }
    }
}

/// The decision: a documented code, its text, its advice, and the rule that decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    code: DocumentedCode,
    rule: PolicyRule,
    trigger: Trigger,
    message: Option<Arc<str>>,
    retry_after: Option<u64>,
}

impl Decision {
    /// The code that is sent.
    pub const fn code(&self) -> DocumentedCode {
        self.code
    }

    /// The rule that decided.
    pub const fn rule(&self) -> PolicyRule {
        self.rule
    }

    /// What was decided about.
    pub const fn trigger(&self) -> Trigger {
        self.trigger
    }

    /// The cause; `None` when the upstream answered itself.
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

    /// The text an override gives; it precedes a message of the upstream.
    pub fn override_message(&self) -> Option<&str> {
        self.message.as_deref()
    }

    /// The text: the override's, the cause's, the code's.
    pub fn message<'a>(&'a self, contract: &'a Contract) -> &'a str {
        match &self.message {
            Some(message) => message,
            None => contract.message_for(self.code, self.cause()),
        }
    }

    /// Whether the upstream's own body may pass if it conforms: the upstream answered, its status stays, and no override
    /// gives another text.
    pub fn allows_upstream_body(&self) -> bool {
        match self.trigger {
            Trigger::Fault(_) => false,
            Trigger::UpstreamStatus(status) => status == self.code.status() && self.message.is_none(),
        }
    }
}

/// Decides what is answered. Total, without side effects and without an allocation.
pub fn decide(contract: &Contract, input: &PolicyInput<'_>, overrides: &Overrides<'_>) -> Decision {
    let (code, rule) = match input.trigger {
        Trigger::Fault(cause) => (contract.default_code(default_status(cause)), PolicyRule::Default),
        Trigger::UpstreamStatus(status) => match contract.code(status) {
            Some(code) => (code, PolicyRule::Documented),
            None => (contract.default_code(default_status_for_upstream(status)), PolicyRule::Default),
        },
    };
    let mut decision = Decision { code, rule, trigger: input.trigger, message: None, retry_after: None };

    let route =
        first_match(overrides.route, input).map(|(index, found)| (PolicyRule::RouteOverride(index), found));
    let matched = route.or_else(|| {
        first_match(overrides.global, input).map(|(index, found)| (PolicyRule::GlobalOverride(index), found))
    });
    if let Some((rule, matched)) = matched {
        decision.rule = rule;
        decision.code = matched.code.unwrap_or(code);
        decision.message = matched.message.clone();
        decision.retry_after = matched.retry_after;
    }
    decision
}

fn first_match<'a>(overrides: &'a [Override], input: &PolicyInput<'_>) -> Option<(usize, &'a Override)> {
    overrides.iter().enumerate().find(|(_, candidate)| candidate.matcher.matches(input))
}

/// The default table of causes: what was the client's doing is 4xx, what is ours is 500, what is overload is 503, and
/// every failure between us and the upstream is 504, "failure within the stack".
pub const fn default_status(cause: Cause) -> u16 {
    match cause {
        Cause::HttpRequestError
        | Cause::MalformedRequestLine
        | Cause::MalformedHeader
        | Cause::AmbiguousFraming
        | Cause::InvalidHost
        | Cause::AmbiguousPath
        | Cause::UnsupportedVersion
        | Cause::UnsupportedMethod
        | Cause::UnsupportedExpectation
        | Cause::MalformedBody
        | Cause::HeaderTooLarge
        | Cause::UriTooLong
        | Cause::BodyTooLarge
        // RFC 9110 15.5.9 would have 408; clients repeat that by themselves.
        | Cause::ClientTooSlow => 400,

        Cause::HttpRequestDenied => 403,
        Cause::DestinationNotFound => 404,
        Cause::RateLimited => 429,

        Cause::ProxyInternalError | Cause::ProxyConfigurationError | Cause::ProxyLoopDetected => 500,

        Cause::ConnectionLimitReached
        | Cause::QueueFull
        | Cause::QueueTimeout
        | Cause::BreakerOpen
        | Cause::DestinationUnavailable
        | Cause::LimiterUnavailable
        | Cause::ResourceExhausted
        | Cause::Draining => 503,

        Cause::DnsError
        | Cause::DnsTimeout
        | Cause::DestinationIpUnroutable
        | Cause::ConnectionRefused
        | Cause::ConnectionTerminated
        | Cause::ConnectionWriteError
        | Cause::TlsProtocolError
        | Cause::TlsCertificateError
        | Cause::HttpProtocolError
        | Cause::HttpResponseHeaderSectionSize
        | Cause::HttpUpgradeFailed
        | Cause::HttpResponseIncomplete
        | Cause::ConnectionTimeout
        | Cause::TlsTimeout
        | Cause::HttpResponseTimeout
        | Cause::DeadlineExceeded
        | Cause::ConnectionReadTimeout
        | Cause::ConnectionWriteTimeout => 504,
    }
}

/// The default table of upstream statuses that the contract does not document. A number that is no error status at all
/// is answered like the protocol error that it is.
pub const fn default_status_for_upstream(status: u16) -> u16 {
    match status {
        402 | 451 => 403,
        410 => 404,
        412 | 423 => 409,
        424 => 500,
        408 | 499 => 504,
        400..=499 => 400,
        507 | 509 | 529 => 503,
        502 | 520..=527 | 530 | 598 | 599 => 504,
        500..=599 => 500,
        _ => 504,
    }
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
