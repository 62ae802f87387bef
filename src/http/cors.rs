//! Cross-origin sharing (the WHATWG's Fetch standard, 3.3) as pure rules: which origin may read, and what a browser is told.
//!
//! A [`CorsPolicy`] is compiled once from the configuration and asked per request: [`CorsPolicy::response_headers`] for a response,
//! [`CorsPolicy::preflight`] for the question before a request. What depends on the upstream's own lists is merged by
//! [`CorsPolicy::exposed_headers`] and [`merge_vary`]. It knows no routes and writes to nobody.

use std::time::Duration;

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_MAX_AGE,
};
use http::{HeaderName, HeaderValue, Method};

use super::ascii_class;
use super::origin::{Origin, OriginPattern};

/// A field of a response.
pub type HeaderField = (HeaderName, HeaderValue);

/// Fields that tell a client why it failed and when to come back: whoever may read the response may read them.
pub const DEFAULT_EXPOSED: [&str; 7] = [
    "X-RateLimit-Limit",
    "X-RateLimit-Remaining",
    "X-RateLimit-Reset",
    "RateLimit",
    "RateLimit-Policy",
    "Retry-After",
    "X-Request-Id",
];

/// What an answer depends on, for caches.
pub const VARY_ORIGIN: HeaderValue = HeaderValue::from_static("Origin");

/// The same for an answer to a preflight.
pub const VARY_PREFLIGHT: HeaderValue =
    HeaderValue::from_static("Origin, Access-Control-Request-Method, Access-Control-Request-Headers");

/// Whose pages may read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AllowedOrigins {
    /// Everybody's. Never together with credentials.
    Any,
    /// Those that match.
    Listed(Vec<OriginPattern>),
}

/// What an operator says.
#[derive(Clone, Debug)]
pub struct CorsRules {
    /// Whose pages may read.
    pub origins: AllowedOrigins,
    /// Whether they may send cookies and other credentials along. Only with listed origins.
    pub credentials: bool,
    /// Methods that may be used; without any, the one asked for.
    pub methods: Vec<Method>,
    /// Request fields that may be sent; `None` for those asked for.
    pub headers: Option<Vec<HeaderName>>,
    /// Response fields that may be read, beside [`DEFAULT_EXPOSED`].
    pub expose: Vec<HeaderName>,
    /// For how long a browser may remember the answer to a preflight; whole seconds.
    pub max_age: Option<Duration>,
}

/// The rules, with every list written out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CorsPolicy {
    origins: AllowedOrigins,
    credentials: bool,
    methods: Option<HeaderValue>,
    headers: AllowedHeaders,
    expose: HeaderValue,
    max_age: Option<HeaderValue>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum AllowedHeaders {
    Requested,
    Listed(Option<HeaderValue>),
}

/// What a preflight asks.
#[derive(Clone, Copy, Debug)]
pub struct PreflightRequest<'a> {
    /// `Origin`.
    pub origin: &'a [u8],
    /// `AccessLog-Control-Request-Method`.
    pub method: &'a Method,
}

/// The answer to a preflight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PreflightResult {
    /// With these fields.
    Allowed(Vec<HeaderField>),
    /// The page is nobody's that we know.
    OriginNotAllowed,
}

impl CorsPolicy {
    /// Writes the lists out.
    pub fn new(rules: CorsRules) -> CorsPolicy {
        let any = rules.origins == AllowedOrigins::Any;
        let expose = rules.expose.iter().map(HeaderName::as_str);
        let expose =
            expose.filter(|name| !DEFAULT_EXPOSED.iter().any(|listed| listed.eq_ignore_ascii_case(name)));
        CorsPolicy {
            credentials: rules.credentials && !any,
            origins: rules.origins,
            methods: join_names(rules.methods.iter().map(Method::as_str)),
            headers: match rules.headers {
                None => AllowedHeaders::Requested,
                Some(names) => AllowedHeaders::Listed(join_names(names.iter().map(HeaderName::as_str))),
            },
            expose: join_names(expose.chain(DEFAULT_EXPOSED))
                .unwrap_or(HeaderValue::from_static("Retry-After")),
            max_age: rules.max_age.map(|age| HeaderValue::from(age.as_secs())),
        }
    }

    /// What lets a page of this origin read a response; `None` for a foreign one. Not among the fields: what depends on
    /// the upstream ([`CorsPolicy::exposed_headers`], [`merge_vary`]).
    pub fn response_headers(&self, origin: &[u8]) -> Option<impl Iterator<Item = HeaderField> + use<>> {
        let allowed = self.allow_origin(origin)?;
        let credentials =
            self.credentials.then_some((ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true")));
        Some(std::iter::once((ACCESS_CONTROL_ALLOW_ORIGIN, allowed)).chain(credentials))
    }

    /// The answer to a preflight. `headers`: the values of `AccessLog-Control-Request-Headers`.
    pub fn preflight<'a>(
        &self,
        request: &PreflightRequest<'_>,
        headers: impl Iterator<Item = &'a [u8]>,
    ) -> PreflightResult {
        let Some(fields) = self.response_headers(request.origin) else {
            return PreflightResult::OriginNotAllowed;
        };
        let mut response_fields: Vec<HeaderField> = fields.collect();
        let methods = match &self.methods {
            Some(methods) => Some(methods.clone()),
            None => join_names(std::iter::once(request.method.as_str())),
        };
        let headers = match &self.headers {
            AllowedHeaders::Listed(names) => names.clone(),
            AllowedHeaders::Requested => {
                let requested =
                    headers.flat_map(ascii_class::list_elements).filter(|name| ascii_class::is_token(name));
                join_names(requested.filter_map(|name| std::str::from_utf8(name).ok()))
            }
        };
        response_fields.extend(methods.map(|methods| (ACCESS_CONTROL_ALLOW_METHODS, methods)));
        response_fields.extend(headers.map(|headers| (ACCESS_CONTROL_ALLOW_HEADERS, headers)));
        response_fields.extend(self.max_age.clone().map(|age| (ACCESS_CONTROL_MAX_AGE, age)));
        response_fields.push((http::header::VARY, VARY_PREFLIGHT));
        PreflightResult::Allowed(response_fields)
    }

    /// `AccessLog-Control-Expose-Headers`: ours, and what the upstream's own list has beside them.
    pub fn exposed_headers<'a>(&self, upstream_values: impl Iterator<Item = &'a [u8]>) -> HeaderValue {
        merge_lists(&self.expose, upstream_values.flat_map(ascii_class::list_elements))
    }

    fn allow_origin(&self, text: &[u8]) -> Option<HeaderValue> {
        let origin = Origin::parse(text)?;
        match &self.origins {
            AllowedOrigins::Any => Some(HeaderValue::from_static("*")),
            AllowedOrigins::Listed(patterns) if patterns.iter().any(|pattern| pattern.matches(&origin)) => {
                HeaderValue::from_bytes(text).ok()
            }
            AllowedOrigins::Listed(_) => None,
        }
    }
}

/// `Vary`: ours, and what the upstream's own has beside it. A star says everything.
pub fn merge_vary<'a>(
    gateway_value: &HeaderValue,
    upstream_values: impl Iterator<Item = &'a [u8]>,
) -> HeaderValue {
    let mut has_wildcard = false;
    let upstream_names =
        upstream_values.flat_map(ascii_class::list_elements).inspect(|name| has_wildcard |= *name == b"*");
    let value = merge_lists(gateway_value, upstream_names);
    if has_wildcard { HeaderValue::from_static("*") } else { value }
}

/// `a, b, c`; `None` for no names.
fn join_names<'a>(names: impl Iterator<Item = &'a str>) -> Option<HeaderValue> {
    let names: Vec<&str> = names.collect();
    if names.is_empty() { None } else { HeaderValue::try_from(names.join(", ")).ok() }
}

/// Ours, then those of theirs that are not among ours.
fn merge_lists<'a>(
    gateway_value: &HeaderValue,
    upstream_names: impl Iterator<Item = &'a [u8]>,
) -> HeaderValue {
    let mut out = Vec::new();
    for name in upstream_names {
        let is_present =
            || ascii_class::list_elements(gateway_value.as_bytes()).any(|our| our.eq_ignore_ascii_case(name));
        if !ascii_class::is_token(name) || is_present() {
            continue;
        }
        if out.is_empty() {
            out.extend_from_slice(gateway_value.as_bytes());
        }
        out.extend_from_slice(b", ");
        out.extend_from_slice(name);
    }
    // Tokens, commas and blanks are always a value.
    if out.is_empty() {
        gateway_value.clone()
    } else {
        HeaderValue::try_from(out).unwrap_or_else(|_| gateway_value.clone())
    }
}

#[cfg(test)]
#[path = "cors_tests.rs"]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests;
