//! The sections `timeouts`, `upstreams` and `routes` of the file. The comments on the fields are the documentation.
//!
//! [`super::super::validate_routing`] checks them against each other.

use schemars::JsonSchema;
use serde::Deserialize;

use super::super::schema::{OrOff, ServerText};
use super::cors::CorsForm;
use super::errors::ErrorsForm;
use super::forms::{DurationText, Either, SizeText};

/// Upstream timeouts.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TimeoutsFile {
    /// How long one TCP connection attempt may take.
    ///
    /// After that, the client gets 504 (cause `connection_timeout`). The request is not retried, not even at
    /// another server. Unit: duration. Default: `2s`. Reload: yes.
    pub connect: Option<DurationText>,

    /// How long one TLS handshake with a server may take, after the TCP connection is established.
    ///
    /// After that, the client gets 504 (cause `tls_timeout`). The request is not retried. Unit: duration. Default:
    /// `3s`. Reload: yes.
    pub tls: Option<DurationText>,

    /// How long one attempt may wait for the complete response headers after the request was sent.
    ///
    /// After that, the client gets 504 (cause `http_response_timeout`). The request is not retried. Unit: duration.
    /// Default: `15s`. Reload: yes.
    pub response_headers: Option<DurationText>,

    /// How long a request may take from its parsed request headers until the upstream's response headers are received.
    ///
    /// This includes the queue, connecting and retries. Time spent waiting for the request body does not count. After
    /// that, the client gets 504 (cause `deadline_exceeded`). Unit: duration. Default: `30s`. Reload: yes.
    pub deadline: Option<DurationText>,

    /// How long an upstream may be idle while it sends a response body or receives a request body.
    ///
    /// An idle response body is aborted: the client sees that it is truncated. A request body that
    /// the upstream does not accept ends with 504 (cause `connection_write_timeout`), unless `deadline` expires first.
    /// Unit: duration. Default: `60s`. Reload: yes.
    pub body_idle: Option<DurationText>,

    /// The idle timeout for `text/event-stream` and gRPC, where pauses are normal. It replaces `body_idle`.
    ///
    /// For gRPC it applies in both directions, also before the response starts. Unit: duration. Default: `5m`. Reload:
    /// yes.
    pub stream_idle: Option<DurationText>,

    /// How long a tunnel may be idle in both directions.
    ///
    /// A tunnel is the connection after a 101 response. After this time both of its connections are reset, and
    /// `aborted_total` counts cause `tunnel_idle`. Of the other timeouts only `max_duration` applies to tunnels. Unit:
    /// duration. Default: `1h`. Reload: yes.
    pub tunnel_idle: Option<DurationText>,

    /// How long a request may take in total, including its response body or tunnel.
    ///
    /// After that, a response that has started is aborted. Unit: duration, or `off`. Default: `off`. Reload: yes.
    #[schemars(with = "Option<OrOff<DurationText>>")]
    pub max_duration: Option<DurationText>,
}

/// A group of equivalent servers.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct UpstreamFile {
    /// The servers; at least one.
    ///
    /// Each is `host:port`, `http://host:port`, `https://host:port`, or a mapping with the keys below. Use TLS
    /// (`https://`) for all of them or for none. Names are resolved in the background. Required. Reload: yes.
    #[schemars(with = "Option<Vec<Either<ServerText, ServerFile>>>")]
    pub servers: Option<Vec<Either<String, ServerFile>>>,

    /// How a server is selected.
    ///
    /// Default: `round_robin`. Reload: yes.
    pub balance: Option<Balance>,

    /// Which idle connections are kept for later requests.
    pub keepalive: Option<KeepaliveFile>,

    /// When a request is retried.
    pub retry: Option<RetryFile>,

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
    /// With `auto`, HTTP/2 is used if a TLS server selects it (ALPN), otherwise HTTP/1.1. With `always`, HTTP/2 is used
    /// without negotiation, also without TLS; for a server that does not support it, clients get 504 (cause
    /// `http_protocol_error`, or `tls_protocol_error` if the TLS server does not select it). Requests share
    /// connections, up to the server's limit of concurrent streams and at most 100. gRPC requires HTTP/2. Default:
    /// `auto`. Reload: yes.
    pub http2: Option<Http2>,

    /// How often the names of servers are resolved again.
    ///
    /// If resolution fails, the last known addresses remain in use. Unit: duration. Default: `30s`. Reload: yes.
    pub dns_refresh: Option<DurationText>,

    /// Timeouts of this upstream. They override the top-level ones.
    pub timeouts: Option<TimeoutsFile>,
}

/// How a server is selected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Balance {
    /// In turn, by weight.
    #[default]
    RoundRobin,
}

/// How the certificates of servers are verified.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct UpstreamTlsFile {
    /// Whether certificates are verified.
    ///
    /// `false` disables certificate verification; a man in the middle can then read and modify traffic. The gateway
    /// logs this as an error at every startup and reload. Unit: `true` or `false`. Default: `true`. Reload: yes.
    pub verify: Option<bool>,

    /// The server name that is sent (SNI) and that certificates must be valid for.
    ///
    /// With it, the host of a server may be a name that no certificate can contain. Unit: host name. Default: the host
    /// of each server. Reload: yes.
    pub sni: Option<String>,

    /// The certificate authorities that are trusted instead of the system's: a PEM file.
    ///
    /// It is read at startup and on every reload. Unit: path, relative to the directory of this file. Default: the
    /// system's authorities. Reload: yes.
    pub ca: Option<String>,
}

/// When requests are sent over HTTP/2.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Http2 {
    /// Never.
    Off,
    /// If a TLS server selects it (ALPN).
    #[default]
    Auto,
    /// Always, without negotiation.
    Always,
}

/// One server in its long form.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ServerFile {
    /// The address of the server.
    ///
    /// Required. Unit: `host:port`, `http://host:port` or `https://host:port`. Reload: yes.
    #[schemars(with = "Option<ServerText>")]
    pub address: Option<String>,

    /// The share of requests that the server receives, relative to the other servers.
    ///
    /// Unit: number, 1 to 1000. Default: `1`. Reload: yes.
    pub weight: Option<u64>,
}

/// Idle connections to servers.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeepaliveFile {
    /// The maximum number of idle connections.
    ///
    /// The file descriptor limit may lower it: all upstreams together keep at most a quarter of the descriptors. With
    /// 0, every request uses a new connection. Unit: number. Default: `128`. Reload: yes.
    pub max: Option<u64>,

    /// How long an idle connection is kept.
    ///
    /// Set it below the idle timeout of the servers, so that they do not close a connection that is about to be used.
    /// Unit: duration. Default: `4s`. Reload: yes.
    pub idle: Option<DurationText>,
}

/// When a request is retried.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RetryFile {
    /// The maximum number of attempts per request, including the first.
    ///
    /// Failed connections and failed name resolution are retried for every method. A connection that closed before any
    /// response byte is retried for idempotent methods. Timeouts are never retried. 1 disables retries. Unit: number, 1
    /// to 10. Default: `2`. Reload: yes.
    pub attempts: Option<u64>,

    /// Upstream status codes that are retried, for idempotent methods.
    ///
    /// Unit: list of numbers, 400 to 599. Default: `[]`. Reload: yes.
    pub on_status: Option<Vec<u64>>,
}

/// The limit of concurrent requests to an upstream.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ConcurrencyFile {
    /// The maximum number of concurrent requests to all servers of the upstream together.
    ///
    /// A request counts from its first attempt to the end of its response. Further requests wait in the queue. If the
    /// queue is full, the client gets 503 (cause `queue_full`) with a `Retry-After` that is estimated from the queue
    /// length and recent request durations; the upstream does not receive the request. Lowering the limit on reload
    /// does not interrupt running requests. Unit: number, 1 to 1000000. Required. Reload: yes.
    pub max: Option<u64>,

    /// How many requests may wait in the queue, in order of arrival.
    ///
    /// With 0, requests above the limit are rejected immediately. A client that disconnects leaves the queue. Unit:
    /// number, 0 to 1000000. Default: `64`. Reload: yes.
    pub queue: Option<u64>,

    /// How long a request may wait in the queue.
    ///
    /// After that, the client gets 503 (cause `queue_timeout`). Waiting counts towards `timeouts.deadline`. Unit:
    /// duration. Default: `100ms`. Reload: yes.
    pub queue_timeout: Option<DurationText>,
}

/// A route: the requests that it matches, their upstream, and the rules for them.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RouteFile {
    /// The name of the route in metrics, logs and `explain`.
    ///
    /// Required. Unit: 1 to 64 of `A-Z`, `a-z`, `0-9`, `_`, `.` and `-`, each name once. Reload: yes.
    pub name: Option<String>,

    /// Which requests the route matches.
    #[serde(rename = "match")]
    pub matches: Option<MatchFile>,

    /// The upstream that requests are forwarded to.
    ///
    /// Required. Unit: a name of `upstreams`. Reload: yes.
    pub upstream: Option<String>,

    /// How error responses of this route are produced. The keys override the top-level ones.
    ///
    /// Short form: `errors: enforce`, `errors: observe`, `errors: pass`.
    pub errors: Option<ErrorsForm>,

    /// CORS policy of this route.
    ///
    /// Short form: `cors: default` uses the top-level policy. Without this key, the `Access-Control-*` fields of the
    /// upstream are forwarded, and so are preflights.
    pub cors: Option<CorsForm>,

    /// Timeouts of this route. They override those of its upstream and the top-level ones.
    pub timeouts: Option<TimeoutsFile>,

    /// The maximum size of a request body.
    ///
    /// A larger one gets 400, or 413 under `appwrite-current` (cause `body_too_large`). Unit: size. Default:
    /// `client.max_body`. Reload: yes.
    pub max_body: Option<SizeText>,

    /// The rate limit rules of this route; a request must be within all of them.
    ///
    /// A denied request uses no quota of any rule. Every response of the route reports the quota of the rule that has
    /// the least left, in `X-RateLimit-Limit`, `-Remaining` and `-Reset`. Unit: list of names of `rate_limits`, at most
    /// 8. Default: `[]`. Reload: yes.
    pub rate_limits: Option<Vec<String>>,

    /// Which requests are denied.
    pub deny: Option<DenyFile>,

    /// The only clients that may use the route.
    ///
    /// Other clients get 403 (cause `http_request_denied`). Unit: list of networks such as `10.0.0.0/8`, or addresses.
    /// Default: everyone. Reload: yes.
    pub allow_from: Option<Vec<String>>,

    /// How paths with dot segments (`/a/../b`) are handled.
    ///
    /// Default: `strict`. Reload: yes.
    pub paths: Option<PathsWord>,

    /// The protocols that clients may switch to with `Upgrade`, in a GET request over HTTP/1.1.
    ///
    /// Protocols that are not listed are removed from the request, which is then handled without an upgrade. If the
    /// upstream responds with a 101 for a protocol that was not forwarded, or with a wrong `Sec-WebSocket-Accept`, the
    /// client gets 504 (cause `http_upgrade_failed`). HTTP itself (`h2c`) cannot be listed: requests inside the tunnel
    /// would bypass every rule. Upgrades are sent over HTTP/1.1 to an upstream with `http2: auto`; an upstream with
    /// `http2: always` receives none. Unit: list of names such as `websocket`, `[]` for none. Default: `[websocket]`.
    /// Reload: yes.
    pub upgrades: Option<Vec<String>>,

    /// What the gateway sends to the upstream in `X-Forwarded-For`.
    ///
    /// Default: `replace`. Reload: yes.
    pub forwarded: Option<ForwardedWord>,
}

/// Which requests a route matches. An absent key matches everything.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct MatchFile {
    /// The host of the request.
    ///
    /// A name such as `api.example.com`, or `*.example.com` for all its subdomains. The port, case and a trailing dot
    /// of the request's Host are ignored. Default: any host. Reload: yes.
    pub host: Option<String>,

    /// The path of the request.
    ///
    /// `/users/{id}` matches any single segment in place of `{id}`; `/files/{*rest}` matches `/files/` and everything
    /// below it. The pattern is compared with the normalised request path (`%61` is `a`, `//` is `/`). Default:
    /// `/{*rest}`. Reload: yes.
    pub path: Option<String>,

    /// The methods of the request. GET includes HEAD.
    ///
    /// If routes match host and path, but none of them the method, the response has `Allow` with the methods of those
    /// routes (cause `method_not_allowed`). Unit: list of methods. Default: all. Reload: yes.
    pub methods: Option<Vec<String>>,
}

/// Which requests are denied.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DenyFile {
    /// Methods for which clients get 403 (cause `http_request_denied`).
    ///
    /// Unit: list of methods. Default: `[]`. Reload: yes.
    pub methods: Option<Vec<String>>,
}

/// How paths with dot segments are handled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum PathsWord {
    /// The client gets 400 (cause `ambiguous_path`).
    #[default]
    Strict,
    /// They are forwarded unchanged, to an upstream that resolves them.
    Lenient,
}

/// What the gateway sends in `X-Forwarded-For`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ForwardedWord {
    /// Only the client address.
    #[default]
    Replace,
    /// The client address and the chain of trusted proxies behind it.
    Append,
}
