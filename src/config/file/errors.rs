//! The sections `contract` and `errors` of the file. The comments on the fields are the documentation.
//!
//! [`super::super::validate_errors`] checks them; [`crate::contract`] applies them.

use schemars::JsonSchema;
use serde::Deserialize;

use super::forms::{DurationText, Either, Named, SizeText, StringOrList};

/// The name of a built-in contract, or a custom contract.
pub(crate) type ContractForm = Either<String, ContractFile>;

/// `enforce`, `observe`, `pass`, or a mapping.
pub(crate) type ErrorsForm = Either<ErrorMode, ErrorsFile>;

/// A custom contract.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ContractFile {
    /// The complete list of codes that clients may receive.
    ///
    /// Each cause, and each upstream status that is not listed here, has a list of preferred codes; the first of them
    /// that is listed here is sent. 400 and 500 are sufficient for all of them; `check` reports if one is missing that
    /// is needed. Required. Reload: yes.
    pub codes: Option<Vec<CodeFile>>,

    /// Messages for single causes, by the name of the cause.
    ///
    /// The message is used if the error is sent with the default code of its cause: the code without overrides. Reload:
    /// yes.
    pub causes: Option<Named<CauseFile>>,

    /// The only values of the member `type` that clients may receive.
    ///
    /// Unit: list of words of `a-z`, `0-9` and `_`. Default: any such word. Reload: yes.
    pub types: Option<Vec<String>>,
}

/// One documented code.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CodeFile {
    /// The HTTP status code.
    ///
    /// 400 to 599, except 408, after which clients repeat the request. Required. Unit: number. Reload: yes.
    pub code: Option<u64>,

    /// The reason phrase in the status line.
    ///
    /// Default: the registered phrase of the code. Reload: yes.
    pub text: Option<String>,

    /// The message for errors with this code, unless the cause or the upstream provides one.
    ///
    /// Required. Unit: 1 to 1000 characters of plain text. Reload: yes.
    pub message: Option<String>,

    /// The member `type` of errors that the gateway generates, if `errors.include` contains `type`.
    ///
    /// Default: none. Reload: yes.
    #[serde(rename = "type")]
    pub kind: Option<String>,
}

/// The message of one cause.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CauseFile {
    /// The message that the client receives if this cause is sent with its default code.
    ///
    /// Required. Unit: 1 to 1000 characters of plain text. Reload: yes.
    pub message: Option<String>,
}

/// How error responses are produced.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ErrorsFile {
    /// What happens to error responses of the upstream.
    ///
    /// It applies to complete upstream responses only; errors that the gateway generates always follow the contract.
    /// Default: `enforce`. Reload: yes.
    pub mode: Option<ErrorMode>,

    /// The format of error bodies.
    ///
    /// Default: `contract`. Reload: yes.
    pub format: Option<ErrorFormat>,

    /// Which replaced errors may keep the message of the upstream.
    ///
    /// Only a plain sentence is kept; markup and stack traces are rejected. Default: `client_errors`. Reload: yes.
    pub upstream_messages: Option<UpstreamMessagesWord>,

    /// Additional members of error bodies, besides `message` and `code`.
    ///
    /// Default: `[]`. Reload: yes.
    pub include: Option<Vec<IncludeWord>>,

    /// Limits for reading the body of an upstream error to check it against the contract.
    pub upstream_body: Option<UpstreamBodyFile>,

    /// The `Retry-After` on 429 and 503 responses, unless a more exact value is known.
    ///
    /// Unit: duration in whole seconds, 1s to 1d. Default: `5s`. Reload: yes.
    pub retry_after: Option<DurationText>,

    /// Exceptions from the contract's mapping of errors to codes; the first that matches applies.
    ///
    /// The overrides of a route are checked before these. Default: `[]`. Reload: yes.
    pub overrides: Option<Vec<OverrideFile>>,

    /// Additional header fields of the upstream response that a replaced error keeps.
    ///
    /// The built-in list (`WWW-Authenticate`, `Retry-After`, `X-RateLimit-*`, `Vary`, ...) always applies. Fields that
    /// describe framing, connection or content cannot be kept. Unit: list of field names. Default: `[]`. Reload: yes.
    pub keep_headers: Option<Vec<String>>,
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
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct UpstreamBodyFile {
    /// The maximum number of bytes that are read, after decoding.
    ///
    /// A larger body does not conform and is replaced. Unit: size, 1B to 64KiB. Default: `64KiB`. Reload: yes.
    pub limit: Option<SizeText>,

    /// How long reading the body may take.
    ///
    /// A body that is incomplete by then does not conform and is replaced. Unit: duration. Default: `500ms`. Reload:
    /// yes.
    pub timeout: Option<DurationText>,
}

/// One exception from the contract's mapping.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct OverrideFile {
    /// When the override applies. All given conditions must match.
    ///
    /// Required, with at least one key.
    pub when: Option<WhenFile>,

    /// The status code to send; it must be in the contract.
    ///
    /// Default: the code from the contract's mapping. Unit: number. Reload: yes.
    pub code: Option<u64>,

    /// The message to send.
    ///
    /// Default: the message of the cause or of the code. Unit: 1 to 1000 characters of plain text. Reload: yes.
    pub message: Option<String>,

    /// The `Retry-After` to send.
    ///
    /// Default: the exact value if known, else `errors.retry_after`. Unit: duration in whole seconds, 1s to 1d. Reload:
    /// yes.
    pub retry_after: Option<DurationText>,
}

/// When an override applies.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct WhenFile {
    /// The cause, or a list of causes. `upstream_response` is an error response of the upstream.
    ///
    /// The names are those in metrics and logs. Unit: name or list of names. Reload: yes.
    pub cause: Option<StringOrList>,

    /// The status code of the upstream response, or a list of status codes.
    ///
    /// Unit: 400 to 599, or a list. Reload: yes.
    pub upstream_status: Option<StringOrList>,

    /// The name of the upstream.
    ///
    /// Unit: a name of `upstreams`. Reload: yes.
    pub upstream: Option<String>,

    /// The request method, or a list of methods.
    ///
    /// Unit: method or list of methods. Reload: yes.
    pub method: Option<StringOrList>,
}
