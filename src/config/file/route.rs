//! The section `routes` of the file. The comments on the fields are the documentation.
//!
//! [`super::super::validate_routing`] and [`super::super::validate_actions`] check it.

use schemars::JsonSchema;
use serde::Deserialize;

use super::actions::{HeaderEditsFile, MaintenanceFile, RedirectFile, RespondFile};
use super::cors::CorsForm;
use super::errors::ErrorsForm;
use super::forms::Named;
use super::routing::Timeouts;
use super::syntaxes::{HostPattern, MethodName, Network, Size, UpgradeName};

/// A route: the requests that it matches, their upstream, and the rules for them.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("x-planned" = { "priority": "remove it; requests of all routes are equal" }))]
pub(crate) struct RouteFile {
    /// The name of the route in metrics, logs and `explain`.
    #[schemars(required, extend("x-missing" = "write a name for metrics and logs, for example name: api", "x-unit" = "1 to 64 of `A-Z`, `a-z`, `0-9`, `_`, `.` and `-`, each name once"))]
    pub name: Option<String>,

    /// Which requests the route matches.
    #[serde(rename = "match")]
    #[schemars(extend("default" = {}))]
    pub matches: MatchFile,

    /// The upstream that requests are forwarded to.
    ///
    /// Required unless the route has `redirect` or `respond`.
    #[schemars(extend("x-default" = "none", "x-unit" = "a name of `upstreams`", "x-ref" = "upstreams"))]
    pub upstream: Option<String>,

    /// The contract of this route.
    #[schemars(extend("x-default" = "the default contract", "x-unit" = "name of a contract"))]
    pub contract: Option<String>,

    /// The leading part of the path that the upstream does not get.
    ///
    /// It must be a prefix of `match.path`. As many segments are removed as it has, whatever their spelling; the result
    /// begins with exactly one slash, and the query is kept. With `/users` the upstream gets `/users/7?a=1` as
    /// `/7?a=1`.
    #[schemars(extend("x-default" = "none"))]
    pub strip_prefix: Option<String>,

    /// The path that the upstream gets, with parameters of `match.path`, for example `/v2/people/{rest}`.
    ///
    /// Parameters are inserted as received; the query is kept. A rewritten path with dot segments gets 400 (cause
    /// `ambiguous_path`).
    #[schemars(extend("x-default" = "none"))]
    pub rewrite: Option<String>,

    /// Changes of the header fields that the upstream gets.
    ///
    /// Framing and hop-by-hop fields, `Host`, `Via`, `X-Request-Id` and `X-Forwarded-*` cannot be changed.
    pub request_headers: Option<HeaderEditsFile>,

    /// Changes of the header fields of every response of the route, errors included.
    ///
    /// Framing and hop-by-hop fields, `Content-Type`, `Content-Encoding`, `Date`, `Retry-After` and `X-Request-Id`
    /// cannot be changed; with `cors`, `Access-Control-*` cannot either, and `Vary` can only be added to.
    /// `Cache-Control` and `X-Content-Type-Options` of an error stay those of the contract (`no-store` and `nosniff`),
    /// whatever is set, added or removed here; on other responses they change.
    pub response_headers: Option<HeaderEditsFile>,

    /// Redirects requests of the route instead of forwarding them. Rate limits and access rules apply first.
    pub redirect: Option<RedirectFile>,

    /// Responds to requests of the route instead of forwarding them. Rate limits and access rules apply first.
    ///
    /// Either `code`, an error of the contract, or `status` with or without a `body`. HEAD, HTTP/2 and gRPC are handled
    /// as for every other response of the gateway.
    pub respond: Option<RespondFile>,

    /// Answers requests with 503 while it is enabled (cause `maintenance`). Access rules and rate limits come later.
    pub maintenance: Option<MaintenanceFile>,

    /// How error responses of this route are produced. The keys override the top-level ones.
    ///
    /// Short form: `errors: enforce`, `errors: observe`, `errors: pass`.
    #[schemars(extend("default" = {}))]
    pub errors: ErrorsForm,

    /// CORS policy of this route.
    ///
    /// Short form: `cors: default` uses the top-level policy. Without this key, the `Access-Control-*` fields of the
    /// upstream are forwarded, and so are preflights.
    pub cors: Option<CorsForm>,

    /// Timeouts of this route. They override those of its upstream and the top-level ones.
    #[schemars(extend("default" = {}))]
    pub timeouts: Timeouts,

    /// The maximum size of a request body.
    ///
    /// A larger one gets 400, or 413 under `appwrite-current` (cause `body_too_large`).
    #[schemars(extend("x-default" = "`client.max_body`"))]
    pub max_body: Option<Size>,

    /// The rate limit rules of this route; a request must be within all of them.
    ///
    /// A denied request uses no quota of any rule. Every response of the route reports the quota of the rule that has
    /// the least left, in `X-RateLimit-Limit`, `-Remaining` and `-Reset`.
    #[schemars(extend("default" = [], "x-unit" = "list of names of `rate_limits`, at most 8", "x-ref" = "rate_limits"))]
    pub rate_limits: Vec<String>,

    /// Which requests are denied.
    pub deny: Option<DenyFile>,

    /// The only clients that may use the route.
    ///
    /// Other clients get 403 (cause `http_request_denied`).
    #[schemars(extend("x-default" = "everyone", "x-unit" = "list of networks such as `10.0.0.0/8`, or addresses", "x-empty" = "the list is empty, so no client could use the route; list networks, or remove the key"))]
    pub allow_from: Option<Vec<Network>>,

    /// Clients that may not use the route. They get 403 (cause `http_request_denied`). Checked before `allow_from`.
    #[schemars(extend("default" = [], "x-unit" = "list of networks such as `10.0.0.0/8`, or addresses"))]
    pub deny_from: Vec<Network>,

    /// How paths that servers interpret differently are handled: with dot segments (`/a/../b`), an encoded backslash
    /// (`%5C`) or encoded control bytes.
    #[schemars(extend("default" = "strict"))]
    pub paths: PathsWord,

    /// The protocols that clients may switch to with `Upgrade`, over HTTP/1.1.
    ///
    /// `websocket` starts with a GET without a body, the others with any method and a body of known length, which is
    /// sent first: `tcp` and `spdy/3.1` are those of a container engine's `exec` and `attach`. Protocols that are not
    /// listed are removed from the request, which is then handled without an upgrade. If the upstream responds with a
    /// 101 for a protocol that was not forwarded, or with a wrong `Sec-WebSocket-Accept`, the client gets 504 (cause
    /// `http_upgrade_failed`). HTTP itself (`h2c`) cannot be listed: requests inside the tunnel would bypass every
    /// rule. Upgrades are sent over HTTP/1.1 to an upstream with `http2: auto`; an upstream with `http2: always`
    /// receives none.
    #[schemars(extend("default" = ["websocket"], "x-unit" = "list of names such as `websocket`, `[]` for none"))]
    pub upgrades: Vec<UpgradeName>,

    /// What the gateway sends to the upstream in `X-Forwarded-For`.
    #[schemars(extend("default" = "replace"))]
    pub forwarded: ForwardedWord,
}

/// Which requests a route matches. An absent key matches everything.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("x-short" = "path"))]
pub(crate) struct MatchFile {
    /// The host of the request.
    ///
    /// A name such as `api.example.com`, or `*.example.com` for all its subdomains. The port, case and a trailing dot
    /// of the request's Host are ignored.
    #[schemars(extend("x-default" = "any host", "x-single" = "write one host, and a route for each of the others"))]
    pub host: Option<HostPattern>,

    /// The path of the request.
    ///
    /// `/users/{id}` matches any single segment in place of `{id}`; `/files/{*rest}` matches `/files`, `/files/` and
    /// everything below it. The pattern is compared with the normalised request path (`%61` is `a`, `//` is `/`).
    #[schemars(extend("default" = "/{*rest}", "x-single" = "write one path, and a route for each of the others"))]
    pub path: String,

    /// The methods of the request. GET includes HEAD.
    ///
    /// If routes match host and path, but none of them the method, the response has `Allow` with the methods of those
    /// routes (cause `method_not_allowed`).
    #[schemars(extend("x-default" = "all", "x-unit" = "list of methods", "x-empty" = "the list is empty, so the route would match no request; remove the key to match all methods"))]
    pub methods: Option<Vec<MethodName>>,

    /// The scheme of the request.
    #[schemars(extend("x-default" = "both"))]
    pub scheme: Option<SchemeWord>,

    /// Header fields that the request must have: an exact value, or `"*"` for any value.
    ///
    /// Of two routes for the same host and path, the one with more conditions is tried first. A field that occurs more
    /// than once matches no exact value; `"*"` still matches.
    #[schemars(extend("x-default" = "none", "x-unit" = "mapping of field names to values"))]
    pub headers: Option<Named<String>>,

    /// Query parameters that the request must have: an exact value, or `"*"` for any value. Names and values are
    /// compared decoded. A parameter that occurs more than once matches no exact value.
    #[schemars(extend("x-default" = "none", "x-unit" = "mapping of parameters to values"))]
    pub query: Option<Named<String>>,
}

/// A scheme.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum SchemeWord {
    /// Plaintext.
    Http,
    /// TLS.
    Https,
}

/// Which requests are denied.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("x-short" = "methods"))]
pub(crate) struct DenyFile {
    /// Methods for which clients get 403 (cause `http_request_denied`). GET includes HEAD.
    #[schemars(extend("default" = [], "x-unit" = "list of methods"))]
    pub methods: Vec<MethodName>,
}

/// How paths that servers interpret differently are handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum PathsWord {
    /// The client gets 400 (cause `ambiguous_path`).
    Strict,
    /// They are forwarded unchanged, to an upstream that resolves them.
    Lenient,
}

/// What the gateway sends in `X-Forwarded-For`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ForwardedWord {
    /// Only the client address.
    Replace,
    /// The client address and the chain of trusted proxies behind it.
    Append,
}
