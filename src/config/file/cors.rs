//! The section `cors` of the file, at the top level and on routes. The comments on the fields are the documentation.
//!
//! [`super::super::validate_cors`] checks the keys; [`crate::http::cors`] applies the policy.

use schemars::JsonSchema;
use serde::Deserialize;

use super::forms::{DurationText, Either};

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
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CorsFile {
    /// The origins whose pages may read responses.
    ///
    /// Each is `https://app.example.com`, or `https://*.example.com` for all subdomains, with a port unless it is the
    /// default of the scheme. Scheme and port must match; case does not matter. `["*"]` allows every origin and cannot
    /// be combined with `allow_credentials`. The origin `null` is never allowed. A preflight from another origin gets
    /// 403 (cause `http_request_denied`); other responses then lack the `Access-Control-*` fields, so the browser hides
    /// them from the page. Required. Unit: list of origins. Reload: yes.
    pub allow_origins: Option<Vec<String>>,

    /// Whether pages may send cookies and other credentials.
    ///
    /// Unit: `true` or `false`. Default: `false`. Reload: yes.
    pub allow_credentials: Option<bool>,

    /// The methods that a preflight allows.
    ///
    /// Unit: list of methods. Default: the methods of the route; the requested method if the route matches all. Reload:
    /// yes.
    pub allow_methods: Option<Vec<String>>,

    /// The request header fields that a preflight allows.
    ///
    /// Unit: list of field names. Default: the requested fields. Reload: yes.
    pub allow_headers: Option<Vec<String>>,

    /// Additional response header fields that pages may read.
    ///
    /// `X-RateLimit-*`, `RateLimit`, `RateLimit-Policy`, `Retry-After`, `X-Request-Id` and the fields that the upstream
    /// exposes are always included. Unit: list of field names, or `["*"]` if credentials are not allowed. Default:
    /// `[]`. Reload: yes.
    pub expose_headers: Option<Vec<String>>,

    /// How long a browser may cache the response to a preflight.
    ///
    /// Unit: duration in whole seconds, at most 1d. Default: chosen by the browser (a few seconds). Reload: yes.
    pub max_age: Option<DurationText>,
}
