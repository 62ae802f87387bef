//! The sections `timeouts` and `upstreams` of the file. The comments on the fields are the documentation.
//!
//! [`super::super::validate_routing`] checks them against each other.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::forms::Either;
use super::syntaxes::{HashSource, HealthPath, HostChoice, Percent, Server, Time, TimeOrOff};
use crate::upstream::http2::HttpVersionPolicy;
use crate::upstream::settings::Balance;

/// Upstream timeouts.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "TimeoutsFile", extend("x-short" = "deadline"))]
pub struct Timeouts {
    /// How long one TCP connection attempt may take.
    ///
    /// After that, the next address of the server is tried, then another server; without one, the client gets 504
    /// (cause `connection_timeout`).
    #[serde(with = "Time")]
    #[schemars(extend("default" = "2s"))]
    pub connect: Duration,

    /// How long one TLS handshake with a server may take, after the TCP connection is established.
    ///
    /// After that, the next address of the server is tried, then another server; without one, the client gets 504
    /// (cause `tls_timeout`).
    #[serde(with = "Time")]
    #[schemars(extend("default" = "3s"))]
    pub tls: Duration,

    /// How long one attempt may wait for the complete response headers after the request was sent.
    ///
    /// After that, the client gets 504 (cause `http_response_timeout`). The request is not retried.
    #[serde(with = "Time")]
    #[schemars(extend("default" = "15s"))]
    pub response_headers: Duration,

    /// How long a request may take from its parsed request headers until the upstream's response is classified (an
    /// error with its body).
    ///
    /// This includes the queue, connecting and retries. Time spent waiting for the request body does not count. After
    /// that, the client gets 504 (cause `deadline_exceeded`). The body of an upstream's error is buffered within the
    /// same deadline; an error that is incomplete by then is replaced.
    #[serde(with = "Time")]
    #[schemars(extend("default" = "30s"))]
    pub deadline: Duration,

    /// How long an upstream may be idle while it sends a response body or receives a request body.
    ///
    /// An idle response body is aborted: the client sees that it is truncated. A request body that the upstream does
    /// not accept ends with 504 (cause `connection_write_timeout`), unless `deadline` expires first.
    #[serde(with = "Time")]
    #[schemars(extend("default" = "60s"))]
    pub body_idle: Duration,

    /// The idle timeout for `text/event-stream` and gRPC, where pauses are normal. It replaces `body_idle`.
    ///
    /// For gRPC it applies in both directions, also before the response starts.
    #[serde(with = "Time")]
    #[schemars(extend("default" = "5m"))]
    pub stream_idle: Duration,

    /// How long a tunnel may be idle in both directions.
    ///
    /// A tunnel is the connection after a 101 response. After this time both of its connections are reset, and
    /// `aborted_total` counts cause `tunnel_idle`. Of the other timeouts only `max_duration` applies to tunnels.
    #[serde(with = "Time")]
    #[schemars(extend("default" = "1h"))]
    pub tunnel_idle: Duration,

    /// How long a request may take in total, including its response body or tunnel.
    ///
    /// After that, a response that has started is aborted.
    #[serde(with = "TimeOrOff")]
    #[schemars(extend("default" = "off"))]
    pub max_duration: Option<Duration>,
}

/// A group of equivalent servers.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("x-short" = "servers"))]
pub(crate) struct UpstreamFile {
    /// The servers; at least one.
    ///
    /// Each is `host:port`, `http://host:port`, `https://host:port`, `unix:/path` (a Unix socket on this machine), or a
    /// mapping with the keys below. A URL may have a base path: the server `http://host:3000/api` gets `/users?a=1` as
    /// `/api/users?a=1`, behind `strip_prefix` and `rewrite`; a path with dot segments gets 400 then (cause
    /// `ambiguous_path`). Use TLS (`https://`) for all of them or for none. Names are resolved in the background.
    #[schemars(extend("x-missing" = "list at least one, for example servers: [\"127.0.0.1:8000\"]", "x-empty" = "no server is listed; list at least one, for example servers: [\"127.0.0.1:8000\"]"))]
    pub servers: Vec<Either<Server, ServerFile>>,

    /// How a server is selected.
    ///
    /// `round_robin`: in turn, by weight. `random`: at random, by weight. `least_busy`: the less busy of two random
    /// servers, by requests in progress and weight. With `hash`, equal values go to the same server while it gets
    /// requests.
    #[schemars(extend("default" = "round_robin"))]
    pub balance: Either<Balance, HashFile>,

    /// Which idle connections are kept for later requests.
    #[schemars(extend("default" = {}))]
    pub keepalive: KeepaliveFile,

    /// When a request is retried.
    #[schemars(extend("default" = {}))]
    pub retry: RetryFile,

    /// Active health checks. Off if absent.
    ///
    /// Each address of each server is checked on connections of its own, in the background, with a jitter of up to 10
    /// %. A server whose checks fail gets no request; without any healthy server, clients get 503 (cause
    /// `destination_unavailable`) with a `Retry-After` of the next check.
    pub health: Option<HealthFile>,

    /// When a server gets no requests because its requests failed. `off` switches it off.
    ///
    /// A failure is a fault of the upstream or a status in `failure_status`; what a client caused does not count. An
    /// ejected server is tried again after `for`, with one request at a time until one has succeeded. If that fails, it
    /// is ejected for twice as long, at most ten times `for`. A name with several addresses has its addresses ejected
    /// separately. A single server is never ejected.
    #[schemars(extend("default" = {}))]
    pub ejection: Either<Off, EjectionFile>,

    /// The circuit breaker of the whole upstream. Off if absent.
    ///
    /// While it is open, clients get 503 (cause `breaker_open`) at once, with a `Retry-After` of the next trial, and
    /// the upstream receives nothing. After `open_for`, one request at a time is let through; its result closes the
    /// breaker or opens it again. Failures are those of `ejection`.
    pub breaker: Option<BreakerFile>,

    /// How many concurrent requests the servers receive. No limit if absent.
    pub concurrency: Option<ConcurrencyFile>,

    /// How the certificates of `https://` servers are verified.
    ///
    /// Without this section, a certificate must be valid for the host of the server and be issued by an authority that
    /// the system trusts (Debian: ca-certificates). If verification fails, the client gets 504 (cause
    /// `tls_certificate_error`) and the log has the reason. TLS 1.2 and 1.3 are supported.
    pub tls: Option<UpstreamTlsFile>,

    /// Whether requests are sent over HTTP/2.
    ///
    /// With `auto`, HTTP/2 is used if a TLS server selects it (ALPN), otherwise HTTP/1.1. A request for which the
    /// server then requires HTTP/1.1 (HTTP_1_1_REQUIRED, as for Windows authentication) is sent again over HTTP/1.1.
    /// With `always`, HTTP/2 is used without negotiation, also without TLS; for a server that does not support it,
    /// clients get 504 (cause `http_protocol_error`, or `tls_protocol_error` if the TLS server does not select it).
    /// Requests share connections, up to the server's limit of concurrent streams and at most 100. gRPC requires
    /// HTTP/2.
    #[schemars(extend("default" = "auto"))]
    pub http2: HttpVersionPolicy,

    /// The Host that the servers receive.
    ///
    /// `client` is the client's, unchanged. `server` is the address of the server as written in `servers`, without the
    /// default port of its scheme. Anything else is sent as it is. `X-Forwarded-Host` has the client's in every case.
    #[schemars(extend("default" = "client"))]
    pub host: HostChoice,

    /// Whether requests have `Via`, which names the gateway.
    ///
    /// Some servers react to it; nginx, for example, does not compress its responses. With `off` no `Via` is sent, not
    /// even the client's, and a request that this upstream sends back to the gateway is not recognised as a loop.
    #[schemars(extend("default" = "on"))]
    pub via: ViaWord,

    /// How long the addresses of a name are used at most before it is resolved again.
    ///
    /// A shorter TTL is respected, down to 1 s. If resolution fails, the last known addresses remain in use.
    #[schemars(extend("default" = "30s"))]
    pub dns_refresh: Time,

    /// Timeouts of this upstream. They override the top-level ones.
    #[schemars(extend("default" = {}))]
    pub timeouts: Timeouts,
}

/// Whether requests have `Via`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ViaWord {
    /// `Via: 1.1 PSEUDONYM` is added.
    On,
    /// None is sent.
    Off,
}

/// Selects a server by a hash: equal values go to the same server while it gets requests.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("x-example" = "{ hash: client_ip }"))]
pub(crate) struct HashFile {
    /// What is hashed.
    ///
    /// A request without the field or cookie is sent by the client's address. When a server is added or gets no
    /// requests, only its share of the values moves.
    #[schemars(extend("x-missing" = "write what is hashed, for example hash: client_ip"))]
    pub hash: HashSource,
}

/// The value `off`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Off {
    /// Switched off.
    Off,
}

/// Active health checks.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("x-short" = "path", "x-example" = "{ path: /healthz }"))]
pub(crate) struct HealthFile {
    /// The target of a GET request, as it is sent: the base path of a server is not put before it.
    ///
    /// Required, unless `tcp` is true.
    #[schemars(extend("x-default" = "none"))]
    pub path: Option<HealthPath>,

    /// Whether a check only connects, with a TLS handshake if the server uses TLS.
    #[schemars(extend("default" = false))]
    pub tcp: bool,

    /// The time between two checks of an address.
    #[schemars(extend("default" = "5s"))]
    pub every: Time,

    /// How long a check may take.
    #[schemars(extend("default" = "1s"))]
    pub timeout: Time,

    /// How many checks in a row must fail before a server gets no requests.
    #[schemars(range(min = 1, max = 100), extend("default" = 3))]
    pub fall: u32,

    /// How many checks in a row must succeed before it gets requests again.
    ///
    /// After the first, the others follow within half a second.
    #[schemars(range(min = 1, max = 100), extend("default" = 2))]
    pub rise: u32,

    /// The status codes of a healthy server.
    #[schemars(inner(range(min = 100, max = 599)), extend("default" = [200, 204], "x-unit" = "list of numbers, 100 to 599", "x-empty" = "the list is empty, so no server would be healthy; list the status codes, for example expect: [200, 204]"))]
    pub expect: Vec<u16>,
}

/// Passive ejection.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("x-example" = "{ consecutive: 5 }"))]
pub(crate) struct EjectionFile {
    /// How many failures in a row eject a server.
    #[schemars(range(min = 1, max = 1000), extend("default" = 5))]
    pub consecutive: u32,

    /// The share of failures within `window` that ejects a server.
    #[schemars(extend("default" = "50%"))]
    pub failure_ratio: Percent,

    /// The time over which the share is counted.
    #[schemars(extend("default" = "10s"))]
    pub window: Time,

    /// How many requests within `window` the share needs.
    #[schemars(range(min = 1, max = 100000), extend("default" = 20))]
    pub min_requests: u32,

    /// How long a server is ejected the first time.
    #[serde(rename = "for")]
    #[schemars(extend("default" = "5s"))]
    pub duration: Time,

    /// How much of the upstream may be ejected at a time, rounded down; one of two or more servers always may be.
    #[schemars(extend("default" = "50%"))]
    pub max_ejected: Percent,

    /// Upstream status codes that count as failures, also for `breaker`.
    #[schemars(inner(range(min = 400, max = 599)), extend("default" = [502, 503, 504], "x-unit" = "list of numbers, 400 to 599"))]
    pub failure_status: Vec<u16>,
}

/// The circuit breaker.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BreakerFile {
    /// The share of failed requests within `window` that opens it.
    #[schemars(extend("default" = "50%"))]
    pub failure_ratio: Percent,

    /// The time over which the share is counted.
    #[schemars(extend("default" = "10s"))]
    pub window: Time,

    /// How many requests within `window` the share needs.
    #[schemars(range(min = 1, max = 100000), extend("default" = 20))]
    pub min_requests: u32,

    /// How long it stays open before a request is let through.
    #[schemars(extend("default" = "5s"))]
    pub open_for: Time,
}

/// How the certificates of servers are verified.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("x-planned" = {
    "cert": "remove it; the gateway sends servers no certificate",
    "key": "remove it; the gateway sends servers no certificate",
}))]
pub(crate) struct UpstreamTlsFile {
    /// Whether certificates are verified.
    ///
    /// `false` disables certificate verification; a man in the middle can then read and modify traffic. The gateway
    /// logs this as an error at every startup and reload.
    #[schemars(extend("default" = true))]
    pub verify: bool,

    /// The server name that is sent (SNI) and that certificates must be valid for.
    ///
    /// With it, the host of a server may be a name that no certificate can contain.
    #[schemars(extend("x-default" = "the host of each server", "x-unit" = "host name"))]
    pub sni: Option<String>,

    /// The certificate authorities that are trusted instead of the system's: a PEM file.
    ///
    /// A server's own certificate may be listed too: it is then trusted as itself, unless it has expired. Also one that
    /// names no host (no subject alternative names) or that is an authority's, as `openssl req -x509` creates it, is
    /// then accepted; one that names only other hosts is not. The file is read at startup and on every reload.
    #[schemars(extend("x-default" = "the system's authorities", "x-unit" = "path, relative to the directory of this file"))]
    pub ca: Option<String>,
}

/// One server in its long form.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ServerFile {
    /// The address of the server.
    #[schemars(extend("x-missing" = "write host:port, for example \"api.internal:80\"", "x-unit" = "`host:port`, `http://host:port`, `https://host:port/base/path` or `unix:/path`"))]
    pub address: Server,

    /// The share of requests that the server receives, relative to the other servers.
    #[schemars(range(min = 1, max = 1000), extend("default" = 1))]
    pub weight: u32,
}

/// Idle connections to servers.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("x-short" = "max", "x-off" = "{ max: 0 }"))]
pub(crate) struct KeepaliveFile {
    /// The maximum number of idle connections.
    ///
    /// The file descriptor limit may lower it: all upstreams together keep at most a quarter of the descriptors. With
    /// 0, every request uses a new connection. It is also the maximum number of connections per server that are pinned
    /// to clients which authenticate with NTLM or Negotiate; further ones are closed after each response, so that these
    /// clients cannot authenticate.
    #[schemars(range(min = 0, max = 65_536), extend("default" = 128))]
    pub max: usize,

    /// How long an idle connection is kept.
    ///
    /// Set it below the idle timeout of the servers, so that they do not close a connection that is about to be used.
    #[schemars(extend("default" = "4s"))]
    pub idle: Time,
}

/// When a request is retried.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("x-short" = "attempts", "x-off" = "{ attempts: 1 }"))]
pub(crate) struct RetryFile {
    /// The maximum number of attempts per request, including the first.
    ///
    /// Failures and timeouts of connections, TLS handshakes and name resolution are retried for every method, on
    /// another server. If a reused connection closes before any response byte, idempotent methods are sent again on
    /// another connection. A timeout after the request was sent is never retried, nor is the close of a new connection.
    /// 1 disables retries. A pooled connection that proves to be closed, or a request that an HTTP/2 server reports as
    /// unprocessed, does not count as an attempt.
    #[schemars(range(min = 1, max = 10), extend("default" = 2))]
    pub attempts: u32,

    /// Retries within 10 s, as a share of the upstream's requests in this time. 10 retries are always allowed.
    ///
    /// It keeps retries from multiplying the load on servers that fail because of load.
    #[schemars(extend("default" = "20%"))]
    pub budget: Percent,

    /// Upstream status codes that are retried, for idempotent methods.
    #[schemars(inner(range(min = 400, max = 599)), extend("default" = [], "x-unit" = "list of numbers, 400 to 599"))]
    pub on_status: Vec<u16>,
}

/// The limit of concurrent requests to an upstream.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("x-short" = "max", "x-planned" = { "adaptive": "use max, a fixed limit" }))]
pub(crate) struct ConcurrencyFile {
    /// The maximum number of concurrent requests to all servers of the upstream together.
    ///
    /// A request counts from its first attempt to the end of its response. Further requests wait in the queue. If the
    /// queue is full, the client gets 503 (cause `queue_full`) with a `Retry-After` that is estimated from the queue
    /// length and recent request durations; the upstream does not receive the request. Lowering the limit on reload
    /// does not interrupt running requests. A connection that is pinned to a client which authenticates with NTLM or
    /// Negotiate counts as one request until it is closed, also between its requests.
    #[schemars(range(min = 1, max = 1000000), extend("x-missing" = "write the maximum number of concurrent requests, for example max: 512"))]
    pub max: u32,

    /// How many requests may wait in the queue, in order of arrival.
    ///
    /// With 0, requests above the limit are rejected immediately. A client that disconnects leaves the queue.
    #[schemars(range(min = 0, max = 1000000), extend("default" = 64))]
    pub queue: u32,

    /// How long a request may wait in the queue.
    ///
    /// After that, the client gets 503 (cause `queue_timeout`). Waiting counts towards `timeouts.deadline`.
    #[schemars(extend("default" = "100ms"))]
    pub queue_timeout: Time,
}
