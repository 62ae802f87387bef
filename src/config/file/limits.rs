//! The sections `rate_limits` and `stores` of the file. The comments on the fields are the documentation.
//!
//! [`super::super::validate_limits`] and [`super::super::validate_stores`] check the values against each other.

use schemars::JsonSchema;
use serde::Deserialize;

use super::forms::Either;
use super::syntaxes::{
    Allowance, FieldName, Jitter, KeyPrefix, LimitKeyPart, Network, Sha256, StoreAddress, StoreSecret, Time,
};
use crate::limit::{Algorithm, LimiterMode, OnFailure, UnreadableBody};

// The keys `stores` and `store` name what is a backend everywhere else: in code, messages and documentation.
/// A Redis or Valkey backend that several gateways share.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("x-short" = "redis"))]
pub(crate) struct StoreFile {
    /// The address of the backend.
    ///
    /// `redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE]`, or `rediss://` with TLS. Redis Cluster:
    /// `redis+cluster://HOST:PORT,HOST:PORT`. Redis Sentinel: `redis+sentinel://HOST:PORT,HOST:PORT/MASTER`. Both
    /// support TLS as `rediss+cluster://` and `rediss+sentinel://`. Redis 6 or later, or any Valkey.
    #[schemars(extend("x-missing" = "write the address, for example redis: redis://127.0.0.1:6379"))]
    pub redis: StoreAddress,

    /// How the backend's certificate is verified; only for `rediss` addresses.
    pub tls: Option<StoreTlsFile>,

    /// The secret for hashing keys before they leave the gateway. It must be the same on every gateway that shares the
    /// backend.
    ///
    /// Without it, anyone who can read the backend can recover client addresses by brute force. Changing it resets all
    /// counters.
    #[schemars(extend("x-default" = "none", "x-single" = "write one text"))]
    pub secret: Option<StoreSecret>,

    /// The prefix of all key names in the backend.
    #[schemars(extend("default" = "statusquo:"))]
    pub prefix: KeyPrefix,

    /// How long a decision of the backend may take.
    ///
    /// After that, `on_failure` applies to the request.
    #[schemars(extend("default" = "20ms", "x-min" = "1ms", "x-max" = "5s"))]
    pub timeout: Time,

    /// What happens to requests while the backend is unavailable.
    #[schemars(extend("default" = "local"))]
    pub on_failure: OnFailure,
}

/// How the certificate of a backend is verified.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct StoreTlsFile {
    /// The certificate authorities that are trusted instead of the system's: a PEM file.
    ///
    /// It is read at startup and on every reload.
    #[schemars(extend("x-default" = "the system's authorities", "x-unit" = "path, relative to the directory of this file"))]
    pub ca: Option<String>,
}

/// One rate limit rule.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("x-short" = "allow"))]
pub(crate) struct RateLimitFile {
    /// What identifies a client; a list combines several parts into one key.
    ///
    /// `client_ip` (IPv6 by `client.ipv6_prefix`), `host`, `method`, `route`, `header:NAME`, `cookie:NAME`,
    /// `query:NAME`, `path:NAME` (a parameter of the route's path), `body:NAME` (a member of a JSON body of at most 64
    /// KiB, case-insensitive; the gateway reads the body before it admits the request). If a request lacks a part (the
    /// value is missing, empty or repeated), `client_ip` replaces that part; for bodies that cannot be read see
    /// `unreadable`. Keys are stored only as keyed hashes.
    #[schemars(extend("default" = ["client_ip"], "x-unit" = "list of parts", "x-empty" = "the list is empty, so all clients would share one counter; use [route] if that is intended"))]
    pub key: Vec<LimitKeyPart>,

    /// What happens to requests with a JSON body that cannot be read for a `body:NAME` part of `key`.
    ///
    /// Such a body is longer than 64 KiB, has a content coding, names the member twice, or is not valid JSON. By
    /// default these requests get 400 (cause `malformed_body`), because servers disagree about such bodies: a client
    /// could use one to be counted by a value that the upstream does not use. In shadow mode `client_ip` replaces the
    /// part.
    #[schemars(extend("default" = "reject"))]
    pub unreadable: UnreadableBody,

    /// How many requests each key may send in a period.
    ///
    /// Further requests get 429 (cause `rate_limited`) with the `Retry-After` after which a request is admitted again.
    #[schemars(extend("x-missing" = "write the quota, for example allow: 100 per 1m", "x-unit" = "`COUNT per DURATION`, for example `100 per 1m`, or the keys below"))]
    pub allow: Either<Allowance, AllowFile>,

    /// How many requests are admitted at once after a pause; only with `algorithm: gcra`.
    ///
    /// Clients see it in `X-RateLimit-Limit`.
    #[schemars(range(min = 1), extend("x-default" = "the count of `allow`"))]
    pub burst: Option<u32>,

    /// How much of the quota one request uses.
    ///
    /// With `allow: 1000 per 1h` and `cost: 10`, 100 requests are admitted; `X-RateLimit-Limit` and `-Remaining` are in
    /// the units of `allow`.
    #[schemars(range(min = 1), extend("default" = 1, "x-unit" = "number, from 1 to the number that is admitted at once"))]
    pub cost: u32,

    /// How requests are counted.
    #[schemars(extend("default" = "gcra"))]
    pub algorithm: Algorithm,

    /// What happens to requests over the limit.
    #[schemars(extend("default" = "enforce"))]
    pub mode: LimiterMode,

    /// The backend in which requests are counted: a name of `stores`.
    ///
    /// The limit then applies to all gateways that share the backend together.
    #[schemars(extend("x-default" = "process memory", "x-unit" = "name", "x-ref" = "stores"))]
    pub store: Option<String>,

    /// Clients that the rule does not apply to: their requests are neither counted nor denied.
    ///
    /// Networks such as `10.0.0.0/8`, addresses, or the keys below for clients that send a secret value in a header
    /// field. The presence of the field alone exempts nobody.
    #[schemars(extend("default" = [], "x-unit" = "list"))]
    pub exempt: Vec<Either<Network, ExemptFile>>,

    /// Upstream status codes that reset the client's counter.
    ///
    /// With `[201]` on a login route, only failed logins count. The response with that status still reports the quota
    /// before the reset.
    #[schemars(inner(range(min = 200, max = 599)), extend("default" = [], "x-unit" = "list of status codes"))]
    pub reset_on: Vec<u16>,

    /// The maximum random delay that is added to `Retry-After`.
    ///
    /// Each denied request gets a random number of additional whole seconds, so that clients of one window do not
    /// return at the same time.
    #[schemars(extend("x-default" = "none"))]
    pub retry_after_jitter: Option<Jitter>,

    /// The maximum number of keys that are counted exactly.
    ///
    /// A key takes 16 bytes with `gcra` and 24 bytes with the window algorithms. Above the limit, the keys with the
    /// most quota left are evicted; an evicted key that is still active is counted approximately.
    #[schemars(range(min = crate::limit::state_table::MIN_KEYS, max = 10_000_000), extend("default" = 200000))]
    pub max_keys: usize,
}

/// A header field with a secret value that exempts a client.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExemptFile {
    /// The name of the header field.
    #[schemars(extend("x-missing" = "write the name of the field, for example header: x-api-key"))]
    pub header: FieldName,

    /// The SHA-256 of the secret value, as `printf %s VALUE | sha256sum` prints it.
    #[schemars(extend("x-missing" = "write the 64 hexadecimal digits that `printf %s VALUE | sha256sum` prints"))]
    pub sha256: Sha256,
}

/// Which header fields report the rate limit to clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LimitHeaders {
    /// `X-RateLimit-Limit`, `-Remaining` and `-Reset`, of the rule with the least quota left.
    XRatelimit,
    /// `RateLimit` and `RateLimit-Policy`, of every rule (draft-ietf-httpapi-ratelimit-headers).
    Ratelimit,
    /// Both sets of fields.
    Both,
}

impl LimitHeaders {
    /// Whether `X-RateLimit-*` fields are sent.
    pub const fn sends_x_ratelimit(self) -> bool {
        matches!(self, LimitHeaders::XRatelimit | LimitHeaders::Both)
    }

    /// Whether `RateLimit` and `RateLimit-Policy` are sent.
    pub const fn sends_ratelimit(self) -> bool {
        matches!(self, LimitHeaders::Ratelimit | LimitHeaders::Both)
    }
}

/// A quota: a number of requests and a period.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AllowFile {
    /// The number of requests.
    #[schemars(range(min = 1), extend("x-missing" = "write the number of requests, for example requests: 100"))]
    pub requests: u32,

    /// The period.
    #[schemars(extend("x-missing" = "write the period, for example per: 1m"))]
    pub per: Time,
}
