//! What a route does besides forwarding: header edits, redirects, maintenance. The comments on the fields are the
//! documentation.
//!
//! [`super::super::validate_actions`] checks them.

use schemars::JsonSchema;
use serde::Deserialize;

use super::forms::Named;
use super::syntaxes::{ErrorStatus, FieldName, FixedCode, MediaType, Network, RedirectCode, RetryAfter};

/// Changes of header fields.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct HeaderEditsFile {
    /// Fields to set, by name. They replace every field of that name.
    ///
    /// A value may contain `{client_ip}`, `{host}`, `{path}`, `{request_id}`, `{client_cert_subject}`,
    /// `{client_cert_fingerprint}` and the parameters of the route's path, as received and never decoded; `{{` and `}}`
    /// are literal braces. A value that is absent removes the field. The subject of the client's certificate is written
    /// as in `CN=billing,O=Acme` (RFC 4514, in printable ASCII), the fingerprint is its SHA-256 in 64 lower-case
    /// hexadecimal digits; both are absent without `listen[].tls.client_ca` and where the client sent no certificate.
    #[schemars(extend("x-default" = "none", "x-unit" = "mapping of field names to values"))]
    pub set: Option<Named<String>>,

    /// Fields to add, by name, behind those of the same name.
    #[schemars(extend("x-default" = "none", "x-unit" = "mapping of field names to values"))]
    pub add: Option<Named<String>>,

    /// Names of fields to remove.
    #[schemars(extend("default" = [], "x-unit" = "list of field names"))]
    pub remove: Vec<FieldName>,
}

/// Where a route redirects to.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("x-short" = "to"))]
pub(crate) struct RedirectFile {
    /// The value of `Location`: a path, or `SCHEME://HOST/PATH`.
    ///
    /// `{name}` is a parameter of the route's path, as received, without leading slashes and backslashes. In the host
    /// only `{host}` is possible, and only if `match.host` is set. The query of the request is appended unless this
    /// text has its own.
    #[schemars(extend("x-missing" = "write the target, for example to: \"/new/{rest}\"", "x-unit" = "`/PATH` or `https://HOST/PATH`"))]
    pub to: String,

    /// The status code: 301, 302, 303, 307 or 308. 307 and 308 keep the method.
    #[schemars(extend("default" = 308))]
    pub code: RedirectCode,
}

/// What a route responds with.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("x-short" = "code"))]
pub(crate) struct RespondFile {
    /// The error that clients get: a code of the route's contract, which defines message, type and body (cause
    /// `route_response`).
    #[schemars(extend("x-default" = "none"))]
    pub code: Option<ErrorStatus>,

    /// The status of a fixed response, in place of `code`: 200 to 399. For 301, 302, 303, 307 and 308 there is
    /// `redirect`.
    #[schemars(extend("x-default" = "none"))]
    pub status: Option<FixedCode>,

    /// The body of a fixed response. It is sent as it is written here; a response to HEAD has only its length.
    #[schemars(extend("x-default" = "no body", "x-single" = "write it as text, for example '{\"ok\":true}'"))]
    pub body: Option<String>,

    /// The media type of the body, for example `text/plain` or `application/json`. Required with `body`.
    #[schemars(extend("x-default" = "none"))]
    pub media_type: Option<MediaType>,
}

/// Planned maintenance of a route.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("x-short" = "enabled"))]
pub(crate) struct MaintenanceFile {
    /// Whether requests get 503 (cause `maintenance`) instead of being forwarded.
    ///
    /// Metrics and alerts do not count it as a failure of the upstream. A reload switches it.
    #[schemars(extend("default" = true))]
    pub enabled: bool,

    /// The message of the response.
    #[schemars(extend("x-default" = "the message of the contract"))]
    pub message: Option<String>,

    /// The `Retry-After` of the response.
    #[schemars(extend("x-default" = "`errors.retry_after`"))]
    pub retry_after: Option<RetryAfter>,

    /// Clients that are served nevertheless, for example your own network.
    #[schemars(extend("default" = [], "x-unit" = "list of networks such as `10.0.0.0/8`, or addresses"))]
    pub allow_from: Vec<Network>,
}
