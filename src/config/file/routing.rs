//! The sections `timeouts`, `upstreams` and `routes` of the file. The comments on the fields are the manual.
//!
//! How they are checked against each other is in [`super::super::validate_routing`].

use schemars::JsonSchema;
use serde::Deserialize;

use super::super::schema::{OrOff, ServerText};
use super::cors::CorsForm;
use super::errors::ErrorsForm;
use super::forms::{DurationText, Either, SizeText};

/// Time limits towards upstreams.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TimeoutsFile {
    /// How long one TCP connection attempt may take.
    ///
    /// When it passes, the client is answered 504 (cause `connection_timeout`), and the request is not tried again: not at
    /// another server either. Unit: duration. Default: `2s`. Reload: yes.
    pub connect: Option<DurationText>,

    /// How long one TLS handshake with a server may take.
    ///
    /// After the connection is there. When it passes, the client is answered 504 (cause `tls_timeout`), and the request is
    /// not tried again. Unit: duration. Default: `3s`. Reload: yes.
    pub tls: Option<DurationText>,

    /// How long one attempt may wait until the whole response head is there.
    ///
    /// From the request having been sent. When it passes, the client is answered 504 (cause `http_response_timeout`) and
    /// the request is not repeated. Unit: duration. Default: `15s`. Reload: yes.
    pub response_headers: Option<DurationText>,

    /// How long a request may take from its parsed head until the response head has been judged.
    ///
    /// Connecting, retries and back-off included; the clock stands while the client's own bytes are awaited. When it
    /// passes, the client is answered 504 (cause `deadline_exceeded`). Unit: duration. Default: `30s`. Reload: yes.
    pub deadline: Option<DurationText>,

    /// How long an upstream may be silent inside a response body, or take nothing of a request body.
    ///
    /// Silence in a response: it has begun, so it is aborted; the client sees a cut message, never a false end. A request
    /// body that is not taken is 504 (`connection_write_timeout`), unless `deadline` strikes first. Unit: duration.
    /// Default: `60s`. Reload: yes.
    pub body_idle: Option<DurationText>,

    /// The same silence for `text/event-stream` and gRPC, where waiting is normal.
    ///
    /// In a call of gRPC it is the silence of both sides, also before the response begins. Unit: duration. Default: `5m`. Reload: yes.
    pub stream_idle: Option<DurationText>,

    /// How long a tunnel may stay open in which no byte moves, in either direction.
    ///
    /// A tunnel is what is left of a request after a 101. When the time passes, both of its connections are reset; that is
    /// counted in `aborted_total` under the cause `tunnel_idle`. Of the other times only `max_duration` holds in a tunnel.
    /// Unit: duration. Default: `1h`. Reload: yes.
    pub tunnel_idle: Option<DurationText>,

    /// How long everything may take, the response body or the tunnel included.
    ///
    /// A response that has begun is aborted. Unit: duration, or `off`. Default: `off`. Reload: yes.
    #[schemars(with = "Option<OrOff<DurationText>>")]
    pub max_duration: Option<DurationText>,
}

/// A group of servers that can answer the same requests.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UpstreamFile {
    /// The servers; at least one.
    ///
    /// Each is `host:port`, `http://host:port`, `https://host:port`, or a mapping with the keys below. Either all of them
    /// speak TLS (`https://`) or none does. Names are resolved in the background. Required. Reload: yes.
    #[schemars(with = "Option<Vec<Either<ServerText, ServerFile>>>")]
    pub servers: Option<Vec<Either<String, ServerFile>>>,

    /// How a server is chosen.
    ///
    /// Default: `round_robin`. Reload: yes.
    pub balance: Option<Balance>,

    /// Which connections are kept for the next request.
    pub keepalive: Option<KeepaliveFile>,

    /// When a request is tried again.
    pub retry: Option<RetryFile>,

    /// How many requests the servers work on at once. Off when left out.
    pub concurrency: Option<ConcurrencyFile>,

    /// How the certificates of `https://` servers are verified.
    ///
    /// Without it they must be valid for the server's name and signed by an authority that this system trusts (Debian:
    /// ca-certificates). One that is not is answered 504 (cause `tls_certificate_error`); the log says what is wrong with
    /// it. TLS 1.2 and 1.3 are spoken.
    pub tls: Option<UpstreamTlsFile>,

    /// Whether HTTP/2 is spoken to the servers.
    ///
    /// `auto`: where a server with TLS agrees to it (ALPN); the others get HTTP/1.1. `always`: without asking, also without
    /// TLS; a server that does not speak it is answered 504 (cause `http_protocol_error`; over TLS, where it does not agree to
    /// it, `tls_protocol_error`). Requests share connections, as many at once as the server allows and 100 at most. gRPC
    /// needs it. Default: `auto`. Reload: yes.
    pub http2: Option<Http2>,

    /// How often the servers' names are resolved again.
    ///
    /// When resolving fails, the last known addresses stay in use. Unit: duration. Default: `30s`. Reload: yes.
    pub dns_refresh: Option<DurationText>,

    /// Time limits of this upstream, over the top-level ones.
    pub timeouts: Option<TimeoutsFile>,
}

/// How a server is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Balance {
    /// One after the other, by weight.
    #[default]
    RoundRobin,
}

/// How the certificates of servers are verified.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UpstreamTlsFile {
    /// Whether certificates are verified.
    ///
    /// `false` takes any certificate of anybody: whoever stands between the gateway and the server can read and change
    /// everything. The log says so as an error at every start and reload. Unit: `true` or `false`. Default: `true`.
    /// Reload: yes.
    pub verify: Option<bool>,

    /// The name that the servers must be certified for, and that they are asked by (SNI).
    ///
    /// With it, a server's own name may be one that no certificate can be for.
    /// Unit: host name. Default: the host of each server. Reload: yes.
    pub sni: Option<String>,

    /// The authorities that may have signed the certificates, instead of those that the system trusts: a PEM file.
    ///
    /// Read at the start and at every reload. Unit: path, from the folder of this file. Default: the system's own.
    /// Reload: yes.
    pub ca: Option<String>,
}

/// When HTTP/2 is spoken to servers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Http2 {
    /// Never.
    Off,
    /// Where a server with TLS agrees to it.
    #[default]
    Auto,
    /// Without asking.
    Always,
}

/// One server in its long form.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServerFile {
    /// The server.
    ///
    /// Required. Unit: `host:port`, `http://host:port` or `https://host:port`. Reload: yes.
    #[schemars(with = "Option<ServerText>")]
    pub address: Option<String>,

    /// Its share of the requests, relative to the others'.
    ///
    /// Unit: number, 1 to 1000. Default: `1`. Reload: yes.
    pub weight: Option<u64>,
}

/// Connections kept open to the servers.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeepaliveFile {
    /// How many idle connections are kept at most.
    ///
    /// Or what the descriptor limit allows, whichever is less: a quarter of it for all upstreams together. 0 makes a new
    /// connection for every request. Unit: number. Default: `128`. Reload: yes.
    pub max: Option<u64>,

    /// How long an idle connection is kept.
    ///
    /// Choose it shorter than the servers' own limit: then they do not close a connection that is just being used.
    /// Unit: duration. Default: `4s`. Reload: yes.
    pub idle: Option<DurationText>,
}

/// When a request is tried again.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RetryFile {
    /// How often a request is tried at most, the first time included.
    ///
    /// A failed connection or name is tried again for any method; a connection that closed before any byte of the response
    /// for idempotent methods; a time limit never. 1 is no retry. Unit: number, 1 to 10. Default: `2`. Reload: yes.
    pub attempts: Option<u64>,

    /// Statuses of the upstream that are tried again, for idempotent methods.
    ///
    /// Unit: list of numbers, 400 to 599. Default: `[]`. Reload: yes.
    pub on_status: Option<Vec<u64>>,
}

/// How many requests an upstream works on at once.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConcurrencyFile {
    /// How many requests are at the upstream at once, over all its servers.
    ///
    /// A request counts from its first attempt to the end of its response. One more waits in the queue, or is answered
    /// 503 (cause `queue_full`) with a `Retry-After` made of the queue's length and the recent times of requests; the
    /// upstream sees nothing of it. A smaller value after a reload throws nobody out. Unit: number, 1 to 1000000.
    /// Required. Reload: yes.
    pub max: Option<u64>,

    /// How many requests may wait for their turn, first come, first served.
    ///
    /// 0 refuses at once. A client that leaves while it waits gives its place to the next. Unit: number, 0 to 1000000.
    /// Default: `64`. Reload: yes.
    pub queue: Option<u64>,

    /// How long a request may wait for its turn.
    ///
    /// When it passes, the client is answered 503 (cause `queue_timeout`). Waiting is part of `timeouts.deadline`.
    /// Unit: duration. Default: `100ms`. Reload: yes.
    pub queue_timeout: Option<DurationText>,
}

/// Which requests go to which upstream, and by which rules.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RouteFile {
    /// What metrics, the log and `explain` call it.
    ///
    /// Required. Unit: 1 to 64 of `A-Z`, `a-z`, `0-9`, `_`, `.` and `-`, each name once. Reload: yes.
    pub name: Option<String>,

    /// Which requests it takes.
    #[serde(rename = "match")]
    pub matches: Option<MatchFile>,

    /// Who answers.
    ///
    /// Required. Unit: a name of `upstreams`. Reload: yes.
    pub upstream: Option<String>,

    /// How errors of this route are made, over the top-level keys.
    ///
    /// Short form: `errors: enforce`, `errors: observe`, `errors: pass`.
    pub errors: Option<ErrorsForm>,

    /// Whose pages may read this route's responses in a browser.
    ///
    /// Short form: `cors: default` takes over the top-level section. Without it, the upstream's own fields pass, and so do
    /// preflights.
    pub cors: Option<CorsForm>,

    /// Time limits of this route, over those of its upstream and of the top level.
    pub timeouts: Option<TimeoutsFile>,

    /// How large a request body may be.
    ///
    /// Larger ones are answered 400 (cause `body_too_large`). Unit: size. Default: `client.max_body`. Reload: yes.
    pub max_body: Option<SizeText>,

    /// The rate limits that hold here; a request must keep all of them.
    ///
    /// A refusal takes nothing from any of them. Every response of the route tells where its client stands, in
    /// `X-RateLimit-Limit`, `-Remaining` and `-Reset`, by the rule that leaves least. Unit: list of names of
    /// `rate_limits`, at most 8. Default: `[]`. Reload: yes.
    pub rate_limits: Option<Vec<String>>,

    /// Requests that are refused.
    pub deny: Option<DenyFile>,

    /// The only clients that may use the route.
    ///
    /// Others are answered 403 (cause `http_request_denied`). Unit: list of networks such as `10.0.0.0/8`, or addresses.
    /// Default: everyone. Reload: yes.
    pub allow_from: Option<Vec<String>>,

    /// How paths with dot segments (`/a/../b`) are taken.
    ///
    /// Default: `strict`. Reload: yes.
    pub paths: Option<PathsWord>,

    /// The protocols that a client may change to, by `Upgrade` in a GET on HTTP/1.1.
    ///
    /// What is not listed is dropped from the request, which is served as if it had not asked. A 101 of the upstream that
    /// takes up nothing of what was forwarded is answered 504 (cause `http_upgrade_failed`); for WebSocket that includes a
    /// wrong `Sec-WebSocket-Accept`. HTTP itself cannot be listed (`h2c`): requests inside would pass by every rule.
    /// An upstream with `http2: auto` is asked in HTTP/1.1 then; one with `always` is offered no upgrade.
    /// Unit: list of names such as `websocket`, `[]` for none. Default: `[websocket]`. Reload: yes.
    pub upgrades: Option<Vec<String>>,

    /// What the upstream reads in `X-Forwarded-For`.
    ///
    /// Default: `replace`. Reload: yes.
    pub forwarded: Option<ForwardedWord>,
}

/// Which requests a route takes. What is not given does not restrict.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MatchFile {
    /// The host.
    ///
    /// A name such as `api.example.com`, or `*.example.com` for all names below it. Port, case and a final dot of the
    /// request's Host do not matter. Default: any host. Reload: yes.
    pub host: Option<String>,

    /// The path.
    ///
    /// `/users/{id}` takes any one segment in place of `{id}`, `/files/{*rest}` everything below `/files/`, that included.
    /// It is compared with the normalised path of a request (`%61` is `a`, `//` is `/`). Default: `/{*rest}`. Reload: yes.
    pub path: Option<String>,

    /// The methods. HEAD is served where GET is.
    ///
    /// Unit: list of methods. Default: all. Reload: yes.
    pub methods: Option<Vec<String>>,
}

/// Requests that are refused.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DenyFile {
    /// Methods that are answered 403 (cause `http_request_denied`).
    ///
    /// Unit: list of methods. Default: `[]`. Reload: yes.
    pub methods: Option<Vec<String>>,
}

/// How paths with dot segments are taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PathsWord {
    /// They are answered 400 (cause `ambiguous_path`).
    #[default]
    Strict,
    /// They pass unchanged to an upstream that resolves them itself.
    Lenient,
}

/// What the upstream reads in `X-Forwarded-For`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ForwardedWord {
    /// The client alone.
    #[default]
    Replace,
    /// The client and the chain of trusted peers behind it.
    Append,
}
