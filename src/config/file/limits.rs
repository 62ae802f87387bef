//! The sections `rate_limits` and `stores` of the file. The comments on the fields are the manual.
//!
//! What the texts mean is checked in [`super::super::validate_limits`] and [`super::super::validate_stores`].

use schemars::JsonSchema;
use serde::Deserialize;

use super::super::schema::AllowText;
use super::forms::{DurationText, Either};

/// Either `COUNT per DURATION` or the keys of [`AllowFile`].
pub type AllowForm = Either<String, AllowFile>;

/// A Redis or Valkey in which several gateways count together.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StoreFile {
    /// Where it is.
    ///
    /// `redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE]`, or `rediss://` with TLS. A cluster:
    /// `redis+cluster://HOST:PORT,HOST:PORT`. By sentinels: `redis+sentinel://HOST:PORT,HOST:PORT/MASTER`. Both with TLS as
    /// `rediss+...`. Redis 6 or later, any Valkey. Required. Unit: URL. Reload: yes.
    pub redis: Option<String>,

    /// How its certificate is verified; with `rediss` only.
    pub tls: Option<StoreTlsFile>,

    /// What keys are hashed with before they leave the gateway: the same text on every gateway that shares the store.
    ///
    /// Without it who reads the store can find out addresses by trying. Changing it begins all counts anew.
    /// Unit: text of at least 16 characters. Default: none. Reload: yes.
    pub secret: Option<String>,

    /// What the names of all keys in the store begin with.
    ///
    /// Unit: letters, digits and `:._-`, at most 64. Default: `"statusquo:"`. Reload: yes.
    pub prefix: Option<String>,

    /// How long a decision of the store may take.
    ///
    /// Then `on_failure` says what becomes of the request. Unit: duration, `1ms` to `5s`. Default: `20ms`. Reload: yes.
    pub timeout: Option<DurationText>,

    /// What becomes of requests while the store does not answer.
    ///
    /// Default: `local`. Reload: yes.
    pub on_failure: Option<OnFailure>,
}

/// How the certificate of a store is verified.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StoreTlsFile {
    /// The authorities that may have signed the certificate, instead of those that the system trusts: a PEM file.
    ///
    /// Read at the start and at every reload. Unit: path, from the folder of this file. Default: the system's own.
    /// Reload: yes.
    pub ca: Option<String>,
}

/// What becomes of requests while a store does not answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// Each gateway counts by itself, in its own memory.
    #[default]
    Local,
    /// They pass uncounted.
    Allow,
    /// They are answered 503 (cause `limiter_unavailable`).
    Deny,
}

/// One rule: how much is allowed to whom.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RateLimitFile {
    /// What requests are counted by; a list counts by all of its parts together.
    ///
    /// `client_ip` (IPv6 by `client.ipv6_prefix`), `host`, `method`, `route`, `header:NAME`, `cookie:NAME`, `query:NAME`,
    /// `path:NAME` (a parameter of the route's path), `body:NAME` (a member of a JSON body of at most 64 KiB, its case
    /// folded; the body is read before the request is admitted). Where a request lacks a part (no such value, an empty or a
    /// repeated one, a body that cannot be read), that part is its `client_ip`. Keys are kept as keyed hashes only.
    /// Unit: list of parts. Default: `[client_ip]`. Reload: yes.
    pub key: Option<Vec<String>>,

    /// How many requests are allowed in which time.
    ///
    /// More are answered 429 (cause `rate_limited`), with the `Retry-After` after which the request is admitted.
    /// Required. Unit: `COUNT per DURATION`, for example `100 per 1m`, or the keys below. Reload: yes.
    #[schemars(with = "Option<Either<AllowText, AllowFile>>")]
    pub allow: Option<AllowForm>,

    /// How many requests are admitted at once after a pause; with `algorithm: gcra` only.
    ///
    /// What `X-RateLimit-Limit` shows. Unit: number. Default: the count of `allow`. Reload: yes.
    pub burst: Option<u64>,

    /// How much of what is allowed one request takes.
    ///
    /// With `allow: 1000 per 1h` and `cost: 10`, 100 requests are admitted; `X-RateLimit-Limit` and `-Remaining` stay in
    /// the units of `allow`. Unit: number, 1 to what is admitted at once. Default: `1`. Reload: yes.
    pub cost: Option<u64>,

    /// How requests are counted.
    ///
    /// Default: `gcra`. Reload: yes.
    pub algorithm: Option<Algorithm>,

    /// What becomes of a request that is too many.
    ///
    /// Default: `enforce`. Reload: yes.
    pub mode: Option<LimitMode>,

    /// Where requests are counted: the name of a section of `stores`.
    ///
    /// All gateways that share the store allow together what is allowed. Unit: name. Default: the memory of the process.
    /// Reload: yes.
    pub store: Option<String>,

    /// Who the rule does not concern: they are neither counted nor refused by it.
    ///
    /// Networks such as `10.0.0.0/8`, addresses, or the keys below for who knows the right value of a request field. That a
    /// field is there exempts nobody. Unit: list. Default: `[]`. Reload: yes.
    pub exempt: Option<Vec<ExemptForm>>,

    /// Upstream statuses after which the client's count begins anew.
    ///
    /// With `[201]` on a login only failures count in effect: the response of that status still says where the client stood
    /// before. Unit: list of statuses. Default: `[]`. Reload: yes.
    pub reset_on: Option<Vec<u64>>,

    /// Up to how much later than necessary a refused client is told to come back.
    ///
    /// `Retry-After` gets 0 to so many whole seconds more, another number for each request, so that clients of one window do
    /// not come back in the same second. Unit: duration in whole seconds, at most `1h`. Default: none. Reload: yes.
    pub retry_after_jitter: Option<DurationText>,

    /// How many keys are remembered at once.
    ///
    /// A key takes 16 bytes with `gcra`, 24 with the windows. When there are more, those that owe least make room, and of those that owe much a note stays.
    /// Unit: number, 16 to 10000000. Default: `200000`. Reload: yes.
    pub max_keys: Option<u64>,
}

/// A network, or the keys of [`ExemptFile`].
pub type ExemptForm = Either<String, ExemptFile>;

/// Who knows the right value of a request field.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExemptFile {
    /// The field's name.
    ///
    /// Required. Unit: field name. Reload: yes.
    pub header: Option<String>,

    /// The SHA-256 of its right value, as `printf %s VALUE | sha256sum` prints it.
    ///
    /// Required. Unit: 64 hexadecimal digits. Reload: yes.
    pub sha256: Option<String>,
}

/// In which fields clients are told of rate limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LimitHeaders {
    /// `X-RateLimit-Limit`, `-Remaining` and `-Reset`, of the rule that leaves least.
    #[default]
    XRatelimit,
    /// `RateLimit` and `RateLimit-Policy`, of every rule (draft-ietf-httpapi-ratelimit-headers).
    Ratelimit,
    /// All of them.
    Both,
}

impl LimitHeaders {
    /// Whether there are `X-RateLimit-*`.
    pub const fn has_x(self) -> bool {
        matches!(self, LimitHeaders::XRatelimit | LimitHeaders::Both)
    }

    /// Whether there are `RateLimit` and `RateLimit-Policy`.
    pub const fn has_standard(self) -> bool {
        matches!(self, LimitHeaders::Ratelimit | LimitHeaders::Both)
    }
}

/// How many requests, and the time in which they are allowed.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AllowFile {
    /// How many requests.
    ///
    /// Required. Unit: number. Reload: yes.
    pub requests: Option<u64>,

    /// In which time.
    ///
    /// Required. Unit: duration. Reload: yes.
    pub per: Option<DurationText>,
}

/// How requests are counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Algorithm {
    /// A bucket of `burst` requests that fills evenly.
    #[default]
    Gcra,
    /// So many in each window, and everything anew in the next. Windows are aligned to the epoch: those of an hour begin
    /// with the hour (UTC). Around their turn twice as many can come.
    FixedWindow,
    /// The same, but the window before counts too, by the part of it that is less than a whole period ago.
    SlidingWindow,
}

/// What becomes of a request that is too many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LimitMode {
    /// It is refused.
    #[default]
    Enforce,
    /// It passes and is counted as `shadow_denied`; clients see nothing of the rule.
    Shadow,
}
