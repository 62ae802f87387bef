//! The sections `contract` and `errors` of the file. The comments on the fields are the documentation.
//!
//! [`super::super::validate_errors`] checks them; [`crate::contract`] applies them.

use schemars::JsonSchema;
use serde::Deserialize;

use super::forms::{Either, KeptField, Named, RetryAfter, Size, StringOrList, Time};

/// The name of a built-in contract, or a custom contract.
pub(crate) type ContractForm = Either<String, ContractFile>;

/// `enforce`, `observe`, `pass`, or a mapping.
pub(crate) type ErrorsForm = Either<ErrorMode, ErrorsFile>;

/// A custom contract.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ContractFile {
    /// The complete list of codes that clients may receive.
    ///
    /// Each cause, and each upstream status that is not listed here, has a list of preferred codes; the first of them
    /// that is listed here is sent. 400 and 500 are sufficient for all of them; `check` reports if one is missing that
    /// is needed.
    #[schemars(required, extend("x-missing" = "list the codes that clients may receive"))]
    pub codes: Option<Vec<CodeFile>>,

    /// Messages for single causes, by the name of the cause.
    ///
    /// The message is used if the error is sent with the default code of its cause: the code without overrides.
    pub causes: Option<Named<CauseFile>>,

    /// The only values of the member `type` that clients may receive.
    #[schemars(extend("x-default" = "any such word", "x-unit" = "list of words of `a-z`, `0-9` and `_`"))]
    pub types: Option<Vec<String>>,
}

/// One documented code.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CodeFile {
    /// The HTTP status code.
    ///
    /// 400 to 599, except 408, after which clients repeat the request.
    #[schemars(required, range(min = 400, max = 599), extend("x-missing" = "write the status code, for example code: 404", "x-unit" = "number"))]
    pub code: Option<u16>,

    /// The reason phrase in the status line.
    #[schemars(extend("x-default" = "the registered phrase of the code"))]
    pub text: Option<String>,

    /// The message for errors with this code, unless the cause or the upstream provides one.
    #[schemars(required, extend("x-missing" = "write the message that clients receive", "x-unit" = "1 to 1000 characters of plain text"))]
    pub message: Option<String>,

    /// The member `type` of errors that the gateway generates, if `errors.include` contains `type`.
    #[schemars(extend("x-default" = "none"))]
    #[serde(rename = "type")]
    pub kind: Option<String>,
}

/// The message of one cause.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CauseFile {
    /// The message that the client receives if this cause is sent with its default code.
    #[schemars(required, extend("x-missing" = "write the message that clients receive", "x-unit" = "1 to 1000 characters of plain text"))]
    pub message: Option<String>,
}

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
    #[schemars(extend("default" = "contract"))]
    pub format: ErrorFormat,

    /// Which replaced errors may keep the message of the upstream.
    ///
    /// Only a plain sentence is kept; markup and stack traces are rejected.
    #[schemars(extend("default" = "client_errors"))]
    pub upstream_messages: UpstreamMessagesWord,

    /// Additional members of error bodies, besides `message` and `code`.
    #[schemars(extend("default" = []))]
    pub include: Vec<IncludeWord>,

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

    /// Additional header fields of the upstream response that a replaced error keeps.
    ///
    /// The built-in list (`WWW-Authenticate`, `Retry-After`, `X-RateLimit-*`, `Vary`, ...) always applies. Fields that
    /// describe framing, connection or content cannot be kept.
    #[schemars(extend("default" = [], "x-unit" = "list of field names"))]
    pub keep_headers: Vec<KeptField>,
}

/// What happens to error responses of the upstream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErrorMode {
    /// Errors that are not in the contract are replaced.
    #[default]
    Enforce,
    /// The upstream's response is forwarded unchanged; responses that `enforce` would replace are counted.
    Observe,
    /// The upstream's response is forwarded unchanged. Use it for user-provided content.
    Pass,
}

/// The format of error bodies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(extend("x-planned" = { "problem": "use \"contract\"", "negotiate": "use \"contract\"" }))]
pub(crate) enum ErrorFormat {
    /// `{"message":"...","code":...}`, regardless of `Accept`.
    #[default]
    Contract,
}

/// Which errors may keep the message of the upstream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum UpstreamMessagesWord {
    /// Errors that are sent to the client with a 4xx code.
    #[default]
    ClientErrors,
    /// All errors, 5xx included. Use it only if upstream messages never contain internal details.
    All,
    /// No errors.
    None,
}

/// An additional member of error bodies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum IncludeWord {
    /// The `type` of the code, on errors that the gateway generates.
    Type,
    /// The request id, as in `X-Request-Id`.
    RequestId,
    /// Whether the client may retry the request.
    Retryable,
    /// How much of the request was sent to the upstream: `none`, `partial` or `full`.
    RequestSent,
}

/// Limits for reading an upstream error body.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
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
pub(crate) struct OverrideFile {
    /// When the override applies: at least one condition. All given conditions must match.
    #[schemars(required, extend("x-missing" = "add a condition, for example when: { cause: connection_refused }"))]
    pub when: Option<WhenFile>,

    /// The status code to send; it must be in the contract.
    #[schemars(extend("x-default" = "the code from the contract's mapping"))]
    pub code: Option<u16>,

    /// The message to send.
    #[schemars(extend("x-default" = "the message of the cause or of the code", "x-unit" = "1 to 1000 characters of plain text"))]
    pub message: Option<String>,

    /// The `Retry-After` to send.
    #[schemars(extend("x-default" = "the exact value if known, else `errors.retry_after`"))]
    pub retry_after: Option<RetryAfter>,
}

/// When an override applies.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct WhenFile {
    /// The cause, or a list of causes. `upstream_response` is an error response of the upstream.
    ///
    /// The names are those in metrics and logs.
    #[schemars(extend("x-unit" = "name or list of names"))]
    pub cause: Option<StringOrList>,

    /// The status code of the upstream response, or a list of status codes.
    #[schemars(extend("x-unit" = "400 to 599, or a list"))]
    pub upstream_status: Option<StringOrList>,

    /// The name of the upstream.
    #[schemars(extend("x-unit" = "a name of `upstreams`"))]
    pub upstream: Option<String>,

    /// The request method, or a list of methods.
    #[schemars(extend("x-unit" = "method or list of methods"))]
    pub method: Option<StringOrList>,
}
