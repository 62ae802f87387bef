//! Cross-origin sharing (the WHATWG's Fetch standard, 3.3) as pure rules: which origin may read, and what a browser is told.
//!
//! A [`Policy`] is compiled once from the configuration and asked per request: [`Policy::actual`] for a response,
//! [`Policy::preflight`] for the question before a request. What depends on the upstream's own lists is merged by
//! [`Policy::expose`] and [`vary`]. It knows no routes and writes to nobody.

use std::time::Duration;

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_MAX_AGE,
};
use http::{HeaderName, HeaderValue, Method};

use super::octets;
use super::origin::{Origin, OriginPattern};

/// A field of a response.
pub type Field = (HeaderName, HeaderValue);

/// Fields that tell a client why it failed and when to come back: whoever may read the response may read them.
pub const EXPOSED: [&str; 7] = [
    "X-RateLimit-Limit",
    "X-RateLimit-Remaining",
    "X-RateLimit-Reset",
    "RateLimit",
    "RateLimit-Policy",
    "Retry-After",
    "X-Request-Id",
];

/// What an answer depends on, for caches.
pub const VARY: HeaderValue = HeaderValue::from_static("Origin");

/// The same for an answer to a preflight.
pub const PREFLIGHT_VARY: HeaderValue =
    HeaderValue::from_static("Origin, Access-Control-Request-Method, Access-Control-Request-Headers");

/// Whose pages may read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origins {
    /// Everybody's. Never together with credentials.
    Any,
    /// Those that match.
    Listed(Vec<OriginPattern>),
}

/// What an operator says.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Whose pages may read.
    pub origins: Origins,
    /// Whether they may send cookies and other credentials along. Only with listed origins.
    pub credentials: bool,
    /// Methods that may be used; without any, the one asked for.
    pub methods: Vec<Method>,
    /// Request fields that may be sent; `None` for those asked for.
    pub headers: Option<Vec<HeaderName>>,
    /// Response fields that may be read, beside [`EXPOSED`].
    pub expose: Vec<HeaderName>,
    /// For how long a browser may remember the answer to a preflight; whole seconds.
    pub max_age: Option<Duration>,
}

/// The rules, with every list written out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    origins: Origins,
    credentials: bool,
    methods: Option<HeaderValue>,
    headers: Headers,
    expose: HeaderValue,
    max_age: Option<HeaderValue>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Headers {
    AsAsked,
    Only(Option<HeaderValue>),
}

/// What a preflight asks.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// `Origin`.
    pub origin: &'a [u8],
    /// `Access-Control-Request-Method`.
    pub method: &'a Method,
}

/// The answer to a preflight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Preflight {
    /// With these fields.
    Allowed(Vec<Field>),
    /// The page is nobody's that we know.
    Foreign,
}

impl Policy {
    /// Writes the lists out.
    pub fn new(rules: Rules) -> Policy {
        let any = rules.origins == Origins::Any;
        let expose = rules.expose.iter().map(HeaderName::as_str);
        let expose = expose.filter(|name| !EXPOSED.iter().any(|ours| ours.eq_ignore_ascii_case(name)));
        Policy {
            credentials: rules.credentials && !any,
            origins: rules.origins,
            methods: list(rules.methods.iter().map(Method::as_str)),
            headers: match rules.headers {
                None => Headers::AsAsked,
                Some(names) => Headers::Only(list(names.iter().map(HeaderName::as_str))),
            },
            expose: list(expose.chain(EXPOSED)).unwrap_or(HeaderValue::from_static("Retry-After")),
            max_age: rules.max_age.map(|age| HeaderValue::from(age.as_secs())),
        }
    }

    /// What lets a page of this origin read a response; `None` for a foreign one. Not among the fields: what depends on
    /// the upstream ([`Policy::expose`], [`vary`]).
    pub fn actual(&self, origin: &[u8]) -> Option<impl Iterator<Item = Field> + use<>> {
        let allowed = self.allowed(origin)?;
        let credentials =
            self.credentials.then_some((ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true")));
        Some(std::iter::once((ACCESS_CONTROL_ALLOW_ORIGIN, allowed)).chain(credentials))
    }

    /// The answer to a preflight. `headers`: the values of `Access-Control-Request-Headers`.
    pub fn preflight<'a>(
        &self,
        question: &Question<'_>,
        headers: impl Iterator<Item = &'a [u8]>,
    ) -> Preflight {
        let Some(fields) = self.actual(question.origin) else { return Preflight::Foreign };
        let mut fields: Vec<Field> = fields.collect();
        let methods = match &self.methods {
            Some(methods) => Some(methods.clone()),
            None => list(std::iter::once(question.method.as_str())),
        };
        let headers = match &self.headers {
            Headers::Only(names) => names.clone(),
            Headers::AsAsked => {
                let asked = headers.flat_map(octets::list).filter(|name| octets::is_token(name));
                list(asked.filter_map(|name| std::str::from_utf8(name).ok()))
            }
        };
        fields.extend(methods.map(|methods| (ACCESS_CONTROL_ALLOW_METHODS, methods)));
        fields.extend(headers.map(|headers| (ACCESS_CONTROL_ALLOW_HEADERS, headers)));
        fields.extend(self.max_age.clone().map(|age| (ACCESS_CONTROL_MAX_AGE, age)));
        fields.push((http::header::VARY, PREFLIGHT_VARY));
        Preflight::Allowed(fields)
    }

    /// `Access-Control-Expose-Headers`: ours, and what the upstream's own list has beside them.
    pub fn expose<'a>(&self, theirs: impl Iterator<Item = &'a [u8]>) -> HeaderValue {
        merged(&self.expose, theirs.flat_map(octets::list))
    }

    fn allowed(&self, text: &[u8]) -> Option<HeaderValue> {
        let origin = Origin::parse(text)?;
        match &self.origins {
            Origins::Any => Some(HeaderValue::from_static("*")),
            Origins::Listed(patterns) if patterns.iter().any(|pattern| pattern.matches(&origin)) => {
                HeaderValue::from_bytes(text).ok()
            }
            Origins::Listed(_) => None,
        }
    }
}

/// `Vary`: ours, and what the upstream's own has beside it. A star says everything.
pub fn vary<'a>(ours: &HeaderValue, theirs: impl Iterator<Item = &'a [u8]>) -> HeaderValue {
    let mut star = false;
    let theirs = theirs.flat_map(octets::list).inspect(|name| star |= *name == b"*");
    let merged = merged(ours, theirs);
    if star { HeaderValue::from_static("*") } else { merged }
}

/// `a, b, c`; `None` for no names.
fn list<'a>(names: impl Iterator<Item = &'a str>) -> Option<HeaderValue> {
    let names: Vec<&str> = names.collect();
    if names.is_empty() { None } else { HeaderValue::try_from(names.join(", ")).ok() }
}

/// Ours, then those of theirs that are not among ours.
fn merged<'a>(ours: &HeaderValue, theirs: impl Iterator<Item = &'a [u8]>) -> HeaderValue {
    let mut out = Vec::new();
    for name in theirs {
        let known = || octets::list(ours.as_bytes()).any(|our| our.eq_ignore_ascii_case(name));
        if !octets::is_token(name) || known() {
            continue;
        }
        if out.is_empty() {
            out.extend_from_slice(ours.as_bytes());
        }
        out.extend_from_slice(b", ");
        out.extend_from_slice(name);
    }
    // Tokens, commas and blanks are always a value.
    if out.is_empty() { ours.clone() } else { HeaderValue::try_from(out).unwrap_or_else(|_| ours.clone()) }
}

#[cfg(test)]
#[path = "cors_tests.rs"]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests;
