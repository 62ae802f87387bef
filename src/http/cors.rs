//! CORS (WHATWG Fetch, section 3.3): which origins are allowed, and the response header fields for them.
//!
//! A [`CorsPolicy`] is compiled once from the configuration. [`CorsPolicy::response_fields`] returns the fields of a
//! response, [`CorsPolicy::preflight`] those of a preflight response. [`CorsPolicy::exposed_headers`] and
//! [`merge_vary`] merge lists that the upstream also sends.

use std::time::Duration;

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_MAX_AGE,
};
use http::{HeaderName, HeaderValue, Method};

use super::ascii_class;
use super::origin::{Origin, OriginPattern};
use crate::contract::grpc::GrpcFamily;

/// A header field of a response: name and value.
pub(crate) type HeaderField = (HeaderName, HeaderValue);

/// Response fields that are always exposed: they report rate limits, when to retry, and the request ID.
pub(crate) const DEFAULT_EXPOSED: [&str; 7] = [
    "X-RateLimit-Limit",
    "X-RateLimit-Remaining",
    "X-RateLimit-Reset",
    "RateLimit",
    "RateLimit-Policy",
    "Retry-After",
    "X-Request-Id",
];

/// Fields of gRPC-Web in which a page reads the error of a call; exposed on responses to such calls.
const GRPC_WEB_EXPOSED: [&str; 3] = ["grpc-status", "grpc-message", "grpc-status-details-bin"];

/// `Vary` of a response to which the policy applies.
pub(crate) const VARY_ORIGIN: HeaderValue = HeaderValue::from_static("Origin");

/// `Vary` of a preflight response.
pub(crate) const VARY_PREFLIGHT: HeaderValue =
    HeaderValue::from_static("Origin, Access-Control-Request-Method, Access-Control-Request-Headers");

/// The origins that may read responses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AllowedOrigins {
    /// Any origin. Never combined with credentials.
    Any,
    /// Origins that match one of these patterns.
    Listed(Vec<OriginPattern>),
}

/// A CORS policy as configured.
#[derive(Clone, Debug)]
pub struct CorsRules {
    /// The origins that may read responses.
    pub origins: AllowedOrigins,
    /// Whether requests may include cookies and other credentials. Ignored with [`AllowedOrigins::Any`].
    pub credentials: bool,
    /// The allowed methods; if empty, the requested method is allowed.
    pub methods: Vec<Method>,
    /// The allowed request fields; `None` allows the requested ones.
    pub headers: Option<Vec<HeaderName>>,
    /// Response fields to expose in addition to [`DEFAULT_EXPOSED`].
    pub expose: Vec<HeaderName>,
    /// How long a browser may cache a preflight response; sent in whole seconds.
    pub max_age: Option<Duration>,
}

/// A compiled CORS policy with prepared field values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CorsPolicy {
    origins: AllowedOrigins,
    credentials: bool,
    methods: Option<HeaderValue>,
    headers: AllowedHeaders,
    expose: HeaderValue,
    expose_to_grpc_web: HeaderValue,
    max_age: Option<HeaderValue>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum AllowedHeaders {
    Requested,
    Listed(Option<HeaderValue>),
}

/// What a page reads of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallKind {
    /// Status, header fields and body.
    Http,
    /// The result of a gRPC-Web call.
    GrpcWeb,
}

impl CallKind {
    /// The kind of a request that is a gRPC call of this family.
    pub(crate) fn of(grpc: Option<GrpcFamily>) -> CallKind {
        if grpc.is_some_and(GrpcFamily::is_web) { CallKind::GrpcWeb } else { CallKind::Http }
    }
}

/// The parts of a preflight request that the policy checks.
#[derive(Clone, Copy, Debug)]
pub struct PreflightRequest<'a> {
    /// `Origin`.
    pub origin: &'a [u8],
    /// `Access-Control-Request-Method`; `None` for one that the gateway never accepts, which is not allowed either.
    pub method: Option<&'a Method>,
    /// Whether a route has this method. If none has, the request gets an error, which the page must be able to read:
    /// the browser may send it, whatever the policy's methods are.
    pub has_route: bool,
}

/// The result of a preflight request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PreflightResult {
    /// Allowed; the response has these fields.
    Allowed(Vec<HeaderField>),
    /// The policy does not allow the origin.
    OriginNotAllowed,
}

impl CorsPolicy {
    /// Compiles the rules.
    pub fn new(rules: CorsRules) -> CorsPolicy {
        let any = rules.origins == AllowedOrigins::Any;
        let expose = rules.expose.iter().map(HeaderName::as_str);
        let expose =
            expose.filter(|name| !DEFAULT_EXPOSED.iter().any(|listed| listed.eq_ignore_ascii_case(name)));
        let expose =
            join_names(expose.chain(DEFAULT_EXPOSED)).unwrap_or(HeaderValue::from_static("Retry-After"));
        CorsPolicy {
            credentials: rules.credentials && !any,
            origins: rules.origins,
            methods: join_names(rules.methods.iter().map(Method::as_str)),
            headers: match rules.headers {
                None => AllowedHeaders::Requested,
                Some(names) => AllowedHeaders::Listed(join_names(names.iter().map(HeaderName::as_str))),
            },
            expose_to_grpc_web: merge_lists(&expose, GRPC_WEB_EXPOSED.iter().map(|name| name.as_bytes())),
            expose,
            max_age: rules.max_age.map(|age| HeaderValue::from(age.as_secs())),
        }
    }

    /// Returns the response fields for this origin; `None` if the origin is not allowed. Fields that depend on the
    /// upstream response are separate: [`CorsPolicy::exposed_headers`] and [`merge_vary`].
    pub fn response_fields(&self, origin: &[u8]) -> Option<impl Iterator<Item = HeaderField> + use<>> {
        let allowed = self.allow_origin(origin)?;
        let credentials =
            self.credentials.then_some((ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true")));
        Some(std::iter::once((ACCESS_CONTROL_ALLOW_ORIGIN, allowed)).chain(credentials))
    }

    /// Evaluates a preflight request. `headers` are the values of `Access-Control-Request-Headers`.
    pub fn preflight<'a>(
        &self,
        request: &PreflightRequest<'_>,
        headers: impl Iterator<Item = &'a [u8]>,
    ) -> PreflightResult {
        let Some(fields) = self.response_fields(request.origin) else {
            return PreflightResult::OriginNotAllowed;
        };
        let mut response_fields: Vec<HeaderField> = fields.collect();
        let methods = match (&self.methods, request.method) {
            (Some(methods), Some(_)) if request.has_route => Some(methods.clone()),
            (Some(_) | None, Some(method)) => join_names(std::iter::once(method.as_str())),
            (methods, None) => methods.clone(),
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

    /// Returns `Access-Control-Expose-Headers`: the policy's names, then the upstream's additional names.
    pub(crate) fn exposed_headers<'a>(
        &self,
        call: CallKind,
        upstream_values: impl Iterator<Item = &'a [u8]>,
    ) -> HeaderValue {
        let own = match call {
            CallKind::Http => &self.expose,
            CallKind::GrpcWeb => &self.expose_to_grpc_web,
        };
        merge_lists(own, upstream_values.flat_map(ascii_class::list_elements))
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

/// Merges `Vary`: the gateway's names, then the upstream's additional names; `*` if the upstream's list has it.
pub(crate) fn merge_vary<'a>(
    gateway_value: &HeaderValue,
    upstream_values: impl Iterator<Item = &'a [u8]>,
) -> HeaderValue {
    let mut has_wildcard = false;
    let upstream_names =
        upstream_values.flat_map(ascii_class::list_elements).inspect(|name| has_wildcard |= *name == b"*");
    let value = merge_lists(gateway_value, upstream_names);
    if has_wildcard { HeaderValue::from_static("*") } else { value }
}

/// Joins names to `a, b, c`; `None` if there are none.
fn join_names<'a>(names: impl Iterator<Item = &'a str>) -> Option<HeaderValue> {
    let names: Vec<&str> = names.collect();
    if names.is_empty() { None } else { HeaderValue::try_from(names.join(", ")).ok() }
}

/// Appends the upstream's names that the gateway's value does not contain.
fn merge_lists<'a>(
    gateway_value: &HeaderValue,
    upstream_names: impl Iterator<Item = &'a [u8]>,
) -> HeaderValue {
    let mut merged = Vec::new();
    for name in upstream_names {
        let is_present = || {
            ascii_class::list_elements(gateway_value.as_bytes())
                .any(|listed| listed.eq_ignore_ascii_case(name))
        };
        if !ascii_class::is_token(name) || is_present() {
            continue;
        }
        if merged.is_empty() {
            merged.extend_from_slice(gateway_value.as_bytes());
        }
        merged.extend_from_slice(b", ");
        merged.extend_from_slice(name);
    }
    // Tokens, commas and spaces always form a valid value.
    if merged.is_empty() {
        gateway_value.clone()
    } else {
        HeaderValue::try_from(merged).unwrap_or_else(|_| gateway_value.clone())
    }
}

#[cfg(test)]
#[path = "cors_tests.rs"]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests;
