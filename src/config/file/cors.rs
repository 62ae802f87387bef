//! The section `cors` of the file, at the top and on routes. The comments on the fields are the manual.
//!
//! What browsers are told is [`crate::http::cors`]; how the keys are checked is in [`super::super::validate_cors`].

use schemars::JsonSchema;
use serde::Deserialize;

use super::forms::{DurationText, Either};

/// `default`, or a mapping.
pub type CorsForm = Either<CorsWord, CorsFile>;

/// The rules of a route in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CorsWord {
    /// Those of the top level.
    Default,
}

/// Whose pages may read responses in a browser.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CorsFile {
    /// The origins whose pages may read responses.
    ///
    /// Each is `https://app.example.com`, or `https://*.example.com` for all names below one, with a port where it is not
    /// the scheme's own. Scheme and port must be the same; upper and lower case do not matter. `["*"]` is everybody, and
    /// is refused together with `allow_credentials`. The origin `null` is never allowed. A preflight from another origin
    /// is answered 403 (cause `http_request_denied`); other responses then lack the fields that a browser asks for.
    /// Required. Unit: list of origins. Reload: yes.
    pub allow_origins: Option<Vec<String>>,

    /// Whether pages may send cookies and other credentials along.
    ///
    /// Unit: `true` or `false`. Default: `false`. Reload: yes.
    pub allow_credentials: Option<bool>,

    /// The methods that a preflight allows.
    ///
    /// Unit: list of methods. Default: those of the route, or the one asked for where it takes all. Reload: yes.
    pub allow_methods: Option<Vec<String>>,

    /// The request fields that a preflight allows.
    ///
    /// Unit: list of field names. Default: those asked for. Reload: yes.
    pub allow_headers: Option<Vec<String>>,

    /// Further response fields that pages may read.
    ///
    /// `X-RateLimit-*`, `RateLimit`, `RateLimit-Policy`, `Retry-After`, `X-Request-Id` and what the upstream lists itself
    /// may be read anyway. Unit: list of field names, or `["*"]` where no credentials are allowed. Default: `[]`.
    /// Reload: yes.
    pub expose_headers: Option<Vec<String>>,

    /// How long a browser may remember the answer to a preflight.
    ///
    /// Unit: duration in whole seconds, at most 1d. Default: the browser's own (a few seconds). Reload: yes.
    pub max_age: Option<DurationText>,
}
