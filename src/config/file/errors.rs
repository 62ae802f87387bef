//! The section `errors` of the file. The comments on the fields are the documentation.
//!
//! [`super::super::validate_errors`] checks them; [`crate::contract`] applies them.

use schemars::JsonSchema;
use serde::Deserialize;

use super::contract::AnyJson;
use super::forms::{Either, Named, OneOrMany};
use super::syntaxes::{
    CauseName, ErrorStatus, KeptField, MemberName, MessagePath, MethodName, RetryAfter, Size, Time,
};
use crate::contract::UpstreamMessages;

/// `enforce`, `observe`, `pass`, or a mapping.
pub(crate) type ErrorsForm = Either<ErrorMode, ErrorsFile>;

/// How error responses are produced.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("x-planned" = { "proxy_status": "remove it" }))]
pub(crate) struct ErrorsFile {
    /// What happens to error responses of the upstream.
    ///
    /// It applies to complete upstream responses only; errors that the gateway generates always follow the contract.
    #[schemars(extend("default" = "enforce"))]
    pub mode: ErrorMode,

    /// The format of error bodies.
    ///
    /// With `negotiate`, every error response has `Vary: Accept`.
    #[schemars(extend("default" = "contract"))]
    pub format: ErrorFormat,

    /// Which errors of the upstream may keep its message.
    ///
    /// Other errors are replaced even if their body has the documented form. A replaced error keeps one plain line;
    /// markup, stack traces and URLs with credentials are rejected.
    #[schemars(extend("default" = "client_errors"))]
    pub upstream_messages: UpstreamMessages,

    /// Additional members of a `flat` error body, besides `message` and `code`.
    ///
    /// In a body of another form, place them in the template of the contract.
    #[schemars(extend("default" = []))]
    pub include: Vec<IncludeWord>,

    /// Further places of the message in an error body of the upstream; they are searched first.
    ///
    /// The usual places are searched anyway: `message`, `error.message`, `detail`, `errors[0].message` and others,
    /// which docs/contracts.md lists.
    #[schemars(extend("default" = [], "x-unit" = "list of places such as `fault.faultstring` or `errors[0].text`"))]
    pub message_paths: Vec<MessagePath>,

    /// The members of an error body of the upstream whose value is kept as `{details}` when the body is replaced.
    ///
    /// The first one that is present is kept, at the top level or inside `error`, if the upstream's status and the one
    /// sent are 4xx: for example the list of invalid fields. At most 16 KiB, 8 levels and 256 texts; a text that looks
    /// like markup or a stack trace is left out and counted.
    #[schemars(extend("default" = [], "x-unit" = "list of member names such as `errors` or `violations`"))]
    pub keep_details: Vec<MemberName>,

    /// Limits for reading the body of an upstream error to check it against the contract.
    #[schemars(extend("default" = {}))]
    pub upstream_body: UpstreamBodyFile,

    /// The `Retry-After` on 429 and 503 responses, unless a more exact value is known.
    #[schemars(extend("default" = "5s"))]
    pub retry_after: RetryAfter,

    /// Exceptions from the contract's mapping of errors to codes; the first that matches applies.
    ///
    /// The overrides of a route are checked before these.
    #[schemars(extend("default" = []))]
    pub overrides: Vec<OverrideFile>,

    /// Additional header fields of the upstream response that a replaced 4xx keeps.
    ///
    /// The built-in list (`WWW-Authenticate`, `Retry-After`, `X-RateLimit-*`, `Vary`, ...) always applies. Fields that
    /// describe framing, connection or content cannot be kept.
    #[schemars(extend("default" = [], "x-unit" = "list of field names"))]
    pub keep_headers: Vec<KeptField>,
}

/// What happens to error responses of the upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErrorMode {
    /// Errors that are not in the contract are replaced.
    Enforce,
    /// The upstream's response is forwarded unchanged; responses that `enforce` would replace are counted.
    Observe,
    /// The upstream's response is forwarded unchanged. Use it for user-provided content.
    Pass,
}

/// The format of error bodies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(extend("x-planned" = { "problem": "use \"negotiate\", or contract: problem" }))]
pub(crate) enum ErrorFormat {
    /// The contract's, regardless of `Accept`.
    Contract,
    /// A problem document (RFC 9457) for a client that prefers `application/problem+json`, the contract's for others.
    Negotiate,
}

/// An additional member of error bodies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum IncludeWord {
    /// The machine-readable type: the upstream's, the cause's or the code's.
    Type,
    /// What `errors.keep_details` keeps of the upstream's body.
    Details,
    /// The request id, as in `X-Request-Id`.
    RequestId,
    /// The name of the cause, or `upstream_response`.
    Cause,
    /// Whether the client may retry the request.
    Retryable,
    /// How much of the request was sent to the upstream: `none`, `partial` or `full`.
    RequestSent,
}

/// Limits for reading an upstream error body.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("x-short" = "limit"))]
pub(crate) struct UpstreamBodyFile {
    /// The maximum number of bytes that are read, after decoding.
    ///
    /// A larger body does not conform and is replaced.
    #[schemars(extend(
        "default" = "64KiB",
        "x-min" = "1B",
        "x-max" = "64KiB",
        "x-help" = "use 1B to 64KiB: a larger error body never conforms"
    ))]
    pub limit: Size,

    /// How long reading the body may take.
    ///
    /// A body that is incomplete by then does not conform and is replaced.
    #[schemars(extend("default" = "500ms"))]
    pub timeout: Time,
}

/// One exception from the contract's mapping.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("x-example" = "{ when: { cause: connection_refused }, code: 503 }"))]
pub(crate) struct OverrideFile {
    /// When the override applies: at least one condition. All given conditions must match.
    #[schemars(required, extend("x-missing" = "add a condition, for example when: { cause: connection_refused }"))]
    pub when: Option<WhenFile>,

    /// The status code to send; it must be in the contract of every route that the override applies to.
    #[schemars(range(min = 400, max = 599), extend("x-default" = "the code from the contract's mapping"))]
    pub code: Option<u16>,

    /// The message to send.
    #[schemars(extend("x-default" = "the message of the cause or of the code", "x-unit" = "1 to 1000 characters of plain text"))]
    pub message: Option<String>,

    /// The machine-readable type to send.
    #[schemars(extend("x-default" = "the type of the cause or of the code"))]
    #[serde(rename = "type")]
    pub kind: Option<String>,

    /// The declared values to send, by name (`contracts.NAME.values`).
    #[schemars(extend("x-default" = "those of the cause or of the code", "x-unit" = "mapping of names to values"))]
    pub values: Option<Named<AnyJson>>,

    /// The `Retry-After` to send.
    #[schemars(extend("x-default" = "the exact value if known, else `errors.retry_after`"))]
    pub retry_after: Option<RetryAfter>,
}

/// When an override applies.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("x-short" = "cause"))]
pub(crate) struct WhenFile {
    /// The cause, or a list of causes. `upstream_response` is an error response of the upstream.
    ///
    /// The names are those in metrics and logs.
    #[schemars(extend("x-unit" = "name or list of names", "x-empty" = "the list is empty, so every cause would match; list a cause, or remove the key"))]
    pub cause: Option<OneOrMany<CauseName>>,

    /// The status code of the upstream response, or a list of status codes.
    #[schemars(extend("x-unit" = "400 to 599, or a list", "x-empty" = "the list is empty, so every status would match; list a status, or remove the key"))]
    pub upstream_status: Option<OneOrMany<ErrorStatus>>,

    /// The name of the upstream.
    #[schemars(extend("x-unit" = "a name of `upstreams`", "x-ref" = "upstreams"))]
    pub upstream: Option<String>,

    /// The request method, or a list of methods.
    #[schemars(extend("x-unit" = "method or list of methods", "x-empty" = "the list is empty, so every method would match; list a method, or remove the key"))]
    pub method: Option<OneOrMany<MethodName>>,
}
