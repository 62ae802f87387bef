//! The sections `contract` and `errors` of the file. The comments on the fields are the manual.
//!
//! What they promise to clients is [`crate::contract`]; how they are checked is in [`super::super::validate_errors`].

use schemars::JsonSchema;
use serde::Deserialize;

use super::forms::{DurationText, Either, Named, SizeText, StringOrList};

/// The name of a built-in contract, or a table.
pub type ContractForm = Either<String, ContractFile>;

/// `enforce`, `telemetry`, `pass`, or a mapping.
pub type ErrorsForm = Either<ErrorMode, ErrorsFile>;

/// A contract of your own.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ContractFile {
    /// The codes that may be sent, and nothing else is.
    ///
    /// Every cause and every undocumented upstream status needs somewhere to go; loading names those that have none.
    /// Required. Reload: yes.
    pub codes: Option<Vec<CodeFile>>,

    /// Texts for single causes, by the cause's name.
    ///
    /// A client reads them when the cause is answered with its default code. Reload: yes.
    pub causes: Option<Named<CauseFile>>,

    /// The only values of the member `type` that may leave.
    ///
    /// Unit: list of texts of `a-z`, `0-9` and `_`. Default: any such text. Reload: yes.
    pub types: Option<Vec<String>>,
}

/// One documented code.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CodeFile {
    /// The status.
    ///
    /// 400 to 599, never 408 (clients repeat such a request by themselves). Required. Unit: number. Reload: yes.
    pub code: Option<u64>,

    /// The reason phrase of the status line.
    ///
    /// Default: the registered phrase of the code. Reload: yes.
    pub text: Option<String>,

    /// What the client reads where nothing better is known.
    ///
    /// Required. Unit: 1 to 1000 characters of plain text. Reload: yes.
    pub message: Option<String>,

    /// The member `type` of errors that the gateway makes itself, where `errors.include` asks for it.
    ///
    /// Default: none. Reload: yes.
    #[serde(rename = "type")]
    pub kind: Option<String>,
}

/// The text of one cause.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CauseFile {
    /// What the client reads when this cause is answered with its default code.
    ///
    /// Required. Unit: 1 to 1000 characters of plain text. Reload: yes.
    pub message: Option<String>,
}

/// How errors are made.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ErrorsFile {
    /// What happens to errors that the upstream itself answered.
    ///
    /// It concerns complete upstream responses only: what the gateway has to answer itself always keeps the contract.
    /// Default: `enforce`. Reload: yes.
    pub mode: Option<ErrorMode>,

    /// The form of error bodies.
    ///
    /// Default: `contract`. Reload: yes.
    pub format: Option<ErrorFormat>,

    /// From which replaced errors the upstream's own message may be kept.
    ///
    /// Only a plain sentence ever leaves: markup and stack traces are refused. Default: `client_errors`. Reload: yes.
    pub upstream_messages: Option<UpstreamMessagesWord>,

    /// Members added to error bodies beside `message` and `code`.
    ///
    /// Default: `[]`. Reload: yes.
    pub include: Option<Vec<IncludeWord>>,

    /// How much of an upstream's error body is read to judge it, and for how long.
    pub upstream_body: Option<UpstreamBodyFile>,

    /// `Retry-After` on 429 and 503 where nothing better is known.
    ///
    /// Unit: duration in whole seconds, 1s to 1d. Default: `5s`. Reload: yes.
    pub retry_after: Option<DurationText>,

    /// Exceptions from the table of codes; the first that matches wins.
    ///
    /// A route's own come before these. Default: `[]`. Reload: yes.
    pub overrides: Option<Vec<OverrideFile>>,

    /// Further fields of the upstream's response that a replaced error keeps.
    ///
    /// The built-in list (`WWW-Authenticate`, `Retry-After`, `X-RateLimit-*`, `Vary`, ...) always holds. Fields of framing,
    /// connection and content cannot be kept. Unit: list of field names. Default: `[]`. Reload: yes.
    pub keep_headers: Option<Vec<String>>,
}

/// What happens to errors that the upstream itself answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErrorMode {
    /// The contract holds: what is not in it is replaced.
    #[default]
    Enforce,
    /// The upstream's complete response passes; what would have changed is counted.
    Observe,
    /// Upstream responses pass, for content that belongs to users.
    Pass,
}

/// The form of error bodies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErrorFormat {
    /// `{"message":"...","code":...}`, whatever `Accept` says.
    #[default]
    Contract,
}

/// From which errors the upstream's own message may be kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UpstreamMessagesWord {
    /// When the code sent is a 4xx.
    #[default]
    ClientErrors,
    /// Always, those of 5xx too: only where upstreams say nothing that clients must not read.
    All,
    /// Never.
    None,
}

/// A member that may be added to error bodies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum IncludeWord {
    /// The code's `type`, on errors that the gateway makes itself.
    Type,
    /// The request's id, the same as in `X-Request-Id`.
    RequestId,
    /// Whether the client may repeat the request.
    Retryable,
    /// Whether the request reached the upstream: `none`, `partial` or `full`.
    RequestSent,
}

/// How an upstream's error body is read.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UpstreamBodyFile {
    /// How many bytes of it are read at most, after decoding.
    ///
    /// A larger body does not conform and is replaced. Unit: size, 1B to 64KiB. Default: `64KiB`. Reload: yes.
    pub limit: Option<SizeText>,

    /// How long the reading may take.
    ///
    /// A body that is not whole by then does not conform and is replaced. Unit: duration. Default: `500ms`. Reload: yes.
    pub timeout: Option<DurationText>,
}

/// One exception from the table of codes.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OverrideFile {
    /// When it applies. Everything that is given must hold.
    ///
    /// Required, with at least one key.
    pub when: Option<WhenFile>,

    /// The code to answer with; it must be in the contract.
    ///
    /// Default: the code that the table gives. Unit: number. Reload: yes.
    pub code: Option<u64>,

    /// The text to answer with.
    ///
    /// Default: the text of the cause or of the code. Unit: 1 to 1000 characters of plain text. Reload: yes.
    pub message: Option<String>,

    /// The `Retry-After` to answer with.
    ///
    /// Default: what is known, else `errors.default_retry_after`. Unit: duration in whole seconds, 1s to 1d. Reload: yes.
    pub retry_after: Option<DurationText>,
}

/// When an override applies.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WhenFile {
    /// The cause, or one of several. `upstream_response` is the upstream's own error.
    ///
    /// The names are those of the metrics and of the log. Unit: name or list of names. Reload: yes.
    pub cause: Option<StringOrList>,

    /// The status that the upstream answered, or one of several.
    ///
    /// Unit: 400 to 599, or a list. Reload: yes.
    pub upstream_status: Option<StringOrList>,

    /// The upstream of this name.
    ///
    /// Unit: a name of `upstreams`. Reload: yes.
    pub upstream: Option<String>,

    /// The method of the request, or one of several.
    ///
    /// Unit: method or list of methods. Reload: yes.
    pub method: Option<StringOrList>,
}
