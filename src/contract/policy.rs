//! Which code answers what: the one decision, [`decide`], from a cause or an upstream status to a [`Ruling`].
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
pub enum Case {
    /// Something went wrong: no usable response.
    Fault(Cause),
    /// The upstream answered this status itself.
    UpstreamStatus(u16),
}

impl Case {
    /// The cause's name, or [`UPSTREAM_RESPONSE`].
    pub const fn name(self) -> &'static str {
        match self {
            Case::Fault(cause) => cause.name(),
            Case::UpstreamStatus(_) => UPSTREAM_RESPONSE,
        }
    }
}

/// Everything that a decision may depend on.
#[derive(Clone, Copy, Debug)]
pub struct Situation<'a> {
    /// What happened.
    pub case: Case,
    /// The upstream's name in the configuration; `None` where no route was found.
    pub upstream: Option<&'a str>,
    /// The method of the request.
    pub method: &'a Method,
}

/// When an override applies. What is empty does not restrict; what is given must all hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct When {
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

impl When {
    /// Whether this override applies.
    pub fn matches(&self, situation: &Situation<'_>) -> bool {
        let any_cause = self.causes.is_empty() && !self.upstream_response;
        let case = match situation.case {
            Case::Fault(cause) => {
                self.upstream_status.is_empty() && (any_cause || self.causes.contains(&cause))
            }
            Case::UpstreamStatus(status) => {
                (any_cause || self.upstream_response)
                    && (self.upstream_status.is_empty() || self.upstream_status.contains(&status))
            }
        };
        case && self.upstream.as_deref().is_none_or(|name| situation.upstream == Some(name))
            && (self.methods.is_empty() || self.methods.contains(situation.method))
    }
}

/// An operator's exception from the default tables. What it does not set stays as it was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Override {
    /// When it applies.
    pub when: When,
    /// Another code.
    pub code: Option<DocumentedCode>,
    /// Another text; it must pass [`super::text::passes`].
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
pub enum Rule {
    /// The upstream's status is in the contract and stays.
    Documented,
    /// A row of the default tables.
    Default,
    /// This override of the route, counted from 0.
    RouteOverride(usize),
    /// This global override, counted from 0.
    GlobalOverride(usize),
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Rule::Documented => f.write_str("documented"),
            Rule::Default => f.write_str("default"),
            Rule::RouteOverride(index) => write!(f, "route override {index}"),
            Rule::GlobalOverride(index) => write!(f, "global override {index}"),
        }
    }
}

/// The decision: a documented code, its text, its advice, and the rule that decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ruling {
    code: DocumentedCode,
    rule: Rule,
    case: Case,
    message: Option<Arc<str>>,
    retry_after: Option<u64>,
}

impl Ruling {
    /// The code that is sent.
    pub const fn code(&self) -> DocumentedCode {
        self.code
    }

    /// The rule that decided.
    pub const fn rule(&self) -> Rule {
        self.rule
    }

    /// What was decided about.
    pub const fn case(&self) -> Case {
        self.case
    }

    /// The cause; `None` when the upstream answered itself.
    pub const fn cause(&self) -> Option<Cause> {
        match self.case {
            Case::Fault(cause) => Some(cause),
            Case::UpstreamStatus(_) => None,
        }
    }

    /// `Retry-After` of an override, in seconds.
    pub const fn retry_after(&self) -> Option<u64> {
        self.retry_after
    }

    /// The text an override gives; it precedes a message of the upstream.
    pub fn own_message(&self) -> Option<&str> {
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
    pub fn upstream_body_may_pass(&self) -> bool {
        match self.case {
            Case::Fault(_) => false,
            Case::UpstreamStatus(status) => status == self.code.status() && self.message.is_none(),
        }
    }
}

/// Decides what is answered. Total, without side effects and without an allocation.
pub fn decide(contract: &Contract, situation: &Situation<'_>, overrides: &Overrides<'_>) -> Ruling {
    let (code, rule) = match situation.case {
        Case::Fault(cause) => (contract.default_target(default_status(cause)), Rule::Default),
        Case::UpstreamStatus(status) => match contract.code(status) {
            Some(code) => (code, Rule::Documented),
            None => (contract.default_target(default_status_for_upstream(status)), Rule::Default),
        },
    };
    let mut ruling = Ruling { code, rule, case: situation.case, message: None, retry_after: None };

    let route =
        first_match(overrides.route, situation).map(|(index, found)| (Rule::RouteOverride(index), found));
    let found = route.or_else(|| {
        first_match(overrides.global, situation).map(|(index, found)| (Rule::GlobalOverride(index), found))
    });
    if let Some((rule, found)) = found {
        ruling.rule = rule;
        ruling.code = found.code.unwrap_or(code);
        ruling.message = found.message.clone();
        ruling.retry_after = found.retry_after;
    }
    ruling
}

fn first_match<'a>(overrides: &'a [Override], situation: &Situation<'_>) -> Option<(usize, &'a Override)> {
    overrides.iter().enumerate().find(|(_, candidate)| candidate.when.matches(situation))
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
