//! The section `cors` of the file, at the top level and on routes. The comments on the fields are the documentation.
//!
//! [`super::super::validate_cors`] checks the keys; [`crate::http::cors`] applies the policy.

use schemars::JsonSchema;
use serde::Deserialize;

use super::forms::Either;
use super::syntaxes::{CorsField, CorsMethod, FieldName, MaxAge, Origin};

/// `default`, or a mapping.
pub(crate) type CorsForm = Either<CorsWord, CorsFile>;

/// The short form of a route's policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum CorsWord {
    /// The top-level policy.
    Default,
}

/// A CORS policy.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("x-example" = "{ allow_origins: [\"https://app.example.com\"] }"))]
pub(crate) struct CorsFile {
    /// The origins whose pages may read responses.
    ///
    /// Each is `https://app.example.com`, or `https://*.example.com` for all subdomains, with a port unless it is the
    /// default of the scheme. Scheme and port must match; case does not matter. `["*"]` allows every origin and cannot
    /// be combined with `allow_credentials`. The origin `null` is never allowed. A preflight from another origin gets
    /// 403 (cause `http_request_denied`); other responses then lack the `Access-Control-*` fields, so the browser hides
    /// them from the page.
    #[schemars(extend("x-missing" = "list at least one, for example allow_origins: [\"https://app.example.com\"]", "x-empty" = "no origin is listed; list at least one, for example allow_origins: [\"https://app.example.com\"]", "x-unit" = "list of origins"))]
    pub allow_origins: Vec<Origin>,

    /// Whether pages may send cookies and other credentials.
    #[schemars(extend("default" = false))]
    pub allow_credentials: bool,

    /// The methods that a preflight allows.
    #[schemars(extend("x-default" = "the methods of the route; the requested method if the route matches all", "x-unit" = "list of methods", "x-empty" = "no method is listed; remove the key to allow the methods of the route"))]
    pub allow_methods: Option<Vec<CorsMethod>>,

    /// The request header fields that a preflight allows.
    #[schemars(extend("x-default" = "the requested fields", "x-unit" = "list of field names"))]
    pub allow_headers: Option<Vec<CorsField>>,

    /// Additional response header fields that pages may read.
    ///
    /// `X-RateLimit-*`, `RateLimit`, `RateLimit-Policy`, `Retry-After`, `X-Request-Id` and the fields that the upstream
    /// exposes are always included.
    #[schemars(extend("default" = [], "x-unit" = "list of field names, or `[\"*\"]` if credentials are not allowed"))]
    pub expose_headers: Vec<FieldName>,

    /// How long a browser may cache the response to a preflight.
    #[schemars(extend("x-default" = "chosen by the browser (a few seconds)"))]
    pub max_age: Option<MaxAge>,
}
