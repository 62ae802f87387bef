//! The structs that mirror the configuration file. `docs/configuration.md` is generated from their field comments.
//!
//! Their attributes are the table of keys ([`super::keys`]), [`syntaxes`] is the table of values; [`super::validate`]
//! checks the values against each other. Larger sections are in [`contract`] (contracts), [`errors`], [`cors`],
//! [`limits`] (rate limits), [`routing`] (timeouts, upstreams) and [`route`] (routes).

use std::net::SocketAddr;

use schemars::JsonSchema;
use serde::Deserialize;

pub(crate) mod actions;
pub(crate) mod contract;
pub(crate) mod cors;
pub(crate) mod errors;
pub(crate) mod forms;
pub(crate) mod limits;
mod parsers;
pub(crate) mod route;
pub(crate) mod routing;
pub(crate) mod syntaxes;

pub(crate) use parsers::{cause, not_a_name_server};

use contract::{ContractFile, ContractForm};
use cors::CorsFile;
use errors::ErrorsForm;
use forms::{Named, OneOrMany};
use limits::{LimitHeaders, RateLimitFile, StoreFile};
use route::RouteFile;
use routing::{Timeouts, UpstreamFile};
use syntaxes::{
    FieldName, FileMode, ListenAddress, PeerNetwork, Resolver, Size, SizeOrOff, SizeOrZero, TcpAddress, Time,
    TimeOrZero, Workers,
};

/// A name that is a metric label.
const LABEL: &str = "^[A-Za-z0-9_.-]{1,64}$";

/// The whole file.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("x-planned" = {
    "admin": "remove it; /metrics, /livez and /readyz are at telemetry.address",
    "tracing": "remove it; traceparent and tracestate are forwarded",
}))]
pub(crate) struct ConfigFile {
    /// The version of the file format.
    ///
    /// Only `1` exists.
    #[schemars(extend("default" = 1))]
    pub version: u64,

    /// Other files, whose `contracts`, `rate_limits`, `routes`, `stores` and `upstreams` are added to those of this
    /// file.
    ///
    /// A path, or a pattern with `*` and `?` in any part of it; relative paths start at the directory of this file, and
    /// the files of a pattern are read in the order of their names. A name may be declared once. Relative paths in an
    /// included file start at its own directory. A pattern that matches nothing is a warning of `check`.
    #[schemars(extend("default" = [], "x-unit" = "list of paths, for example `routes.d/*.yaml`"))]
    #[expect(dead_code, reason = "the files are merged before this struct is read")]
    pub include: Vec<String>,

    /// The number of threads that serve requests.
    ///
    /// `auto` is one thread per CPU core that the process may use.
    #[schemars(extend("default" = "auto", "x-reload" = "no"))]
    pub workers: Workers,

    /// How long the gateway keeps accepting connections after SIGTERM, while `/readyz` already returns 503.
    ///
    /// This gives a load balancer time to stop sending traffic. Requests are served as before.
    #[schemars(extend("default" = "5s"))]
    pub drain_delay: TimeOrZero,

    /// How long open connections may take to finish after the listeners have closed.
    ///
    /// The next response on each HTTP/1 connection carries `Connection: close`; HTTP/2 connections get a GOAWAY. A
    /// connection that was accepted and has not sent a request yet gets its first request served. Connections that are
    /// still open when this time has passed are closed.
    #[schemars(extend("default" = "30s"))]
    pub drain: TimeOrZero,

    /// The addresses on which clients connect; at least one.
    #[schemars(required, extend("x-missing" = "add an address: listen: [{ address: \":8080\" }]", "x-empty" = "the list is empty; add an address: listen: [{ address: \":8080\" }]", "x-reload" = "no"))]
    pub listen: Option<Vec<ListenFile>>,

    /// The endpoint that serves `/metrics`, `/livez` and `/readyz`.
    #[schemars(extend("default" = {}))]
    pub telemetry: TelemetryConfig,

    /// The log: format, level, and which requests are logged.
    #[schemars(extend("default" = {}))]
    pub log: LogConfig,

    /// Limits for clients: sizes, timeouts, connections; and which proxies are trusted to report the client address.
    #[schemars(extend("default" = {}))]
    pub client: ClientFile,

    /// Error contracts by name: the codes that clients may receive, their messages, and the form of a body.
    ///
    /// A route or listener uses one by its name. Built in are `appwrite`, `appwrite-current` and `problem`.
    #[schemars(extend("x-default" = "none", "propertyNames" = { "pattern": LABEL }))]
    pub contracts: Option<Named<ContractFile>>,

    /// The contract of routes that name none, and of requests whose host no route and no listener's `contract` covers.
    ///
    /// The name of one of `contracts`, of a built-in one (`appwrite`, `appwrite-current`, `problem`), or a contract.
    #[schemars(extend("default" = "appwrite", "x-unit" = "name or mapping"))]
    pub contract: Option<ContractForm>,

    /// How error responses are produced. A route may override each key.
    ///
    /// Short form: `errors: enforce`, `errors: observe`, `errors: pass`.
    #[schemars(extend("default" = {}))]
    pub errors: ErrorsForm,

    /// Upstream timeouts for every route. An upstream may override each key, and a route may override both.
    #[schemars(extend("default" = {}))]
    pub timeouts: Timeouts,

    /// Where the names of servers are looked up: `dns`, `system`, or the addresses of name servers.
    ///
    /// `dns` is the hosts file, then the name servers of /etc/resolv.conf with its `search`, `ndots`, `timeout` (at
    /// most 2 s) and `attempts`; both files are read again when they change. An answer is valid for its TTL, at least 1
    /// s and at most `dns_refresh`; if a lookup fails, the last addresses remain in use. A list of addresses, such as
    /// `[10.0.0.53, "127.0.0.1:8600"]`, replaces the name servers of resolv.conf and its search domains. `system` uses
    /// the C library (getaddrinfo) every `dns_refresh`, for names that only its modules know. IP addresses and
    /// `localhost` are never looked up.
    #[schemars(extend("default" = "dns", "x-unit" = "`dns`, `system`, or list of `ADDRESS[:PORT]`", "x-empty" = "no name server is listed; write dns, system, or the addresses of name servers, for example [10.0.0.53, \"127.0.0.1:8600\"]"))]
    pub resolver: OneOrMany<Resolver>,

    /// Groups of servers that requests are forwarded to, by name. The names are metric labels.
    ///
    /// Required if a route refers to an upstream.
    #[schemars(extend("propertyNames" = { "pattern": LABEL }, "x-example" = "{ servers: [\"127.0.0.1:8000\"] }"))]
    pub upstreams: Option<Named<UpstreamFile>>,

    /// CORS policy for requests that match no route, unless the first route of their host has one.
    ///
    /// A route uses this policy with `cors: default`, or defines its own. Where a policy applies, the gateway removes
    /// the upstream's `Access-Control-*` fields and sets its own on every response, errors included. The gateway also
    /// responds to preflights itself: they are never forwarded and never rate limited.
    pub cors: Option<CorsFile>,

    /// Rate limit rules, by name. The names are metric labels.
    ///
    /// A rule applies to the routes that list it in `rate_limits`. Routes that share a rule share its counters, unless
    /// `route` is part of its key.
    #[schemars(extend("propertyNames" = { "pattern": LABEL }, "x-example" = "{ allow: 100 per 1m }"))]
    pub rate_limits: Option<Named<RateLimitFile>>,

    /// Redis or Valkey backends that let several gateways share rate limits, by name. The names are metric labels.
    ///
    /// A rule uses a backend if it names it in `store`; all other rules count in process memory.
    #[schemars(extend("propertyNames" = { "pattern": LABEL }, "x-example" = "{ redis: redis://127.0.0.1:6379 }"))]
    pub stores: Option<Named<StoreFile>>,

    /// Which header fields report the rate limit to clients on rate-limited routes.
    ///
    /// Upstream fields with these names are replaced.
    #[schemars(extend("default" = "x_ratelimit"))]
    pub rate_limit_headers: LimitHeaders,

    /// Which requests are forwarded to which upstream; at least one.
    ///
    /// Only routes that match in everything compete. Of these the host decides first (exact, then `*.` wildcard, then
    /// any), then the path (static, then `{parameter}`, then `{*rest}`), then the number of conditions (`scheme`,
    /// `headers`, `query`), then whether the route names the method. The order in the file does not matter. A request
    /// that matches no route gets 404 (cause `destination_not_found`). If routes match its host and path but not its
    /// method, the cause is `method_not_allowed`: the response has `Allow`, and the code is 405 if the contract
    /// documents it, otherwise 404.
    #[schemars(required, extend("x-missing" = "add a route, for example routes: [{ name: all, upstream: shop }]", "x-empty" = "the list is empty, so every request would get 404; add a route, for example routes: [{ name: all, upstream: shop }]"))]
    pub routes: Option<Vec<RouteFile>>,
}

/// One listen address.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("x-short" = "address", "x-example" = "{ address: \":8080\" }"))]
pub(crate) struct ListenFile {
    /// The address and port to accept connections on.
    ///
    /// `":8080"` is every IPv4 address, `localhost:8080` is loopback. With port 0 the system chooses a free port, which
    /// is printed at startup. `unix:/path` is a Unix socket. A socket on which no process listens is replaced, and the
    /// socket is removed at the end. Its peers have no address: they are one client for rate limits and
    /// `client.max_connections_per_client`, and no network of `allow_from` or `deny_from` contains them. A proxy on
    /// this machine may report its clients: list `unix` in `client.trusted_proxies` or `proxy_protocol.from`.
    #[schemars(extend("x-missing" = "write an address, for example address: \":8080\"", "x-reload" = "no"))]
    pub address: ListenAddress,

    /// The permissions of a Unix socket: who may connect.
    ///
    /// Its owner and group are those of the process. Connecting needs permission to write.
    #[schemars(extend("x-default" = "0660", "x-reload" = "no"))]
    pub mode: Option<FileMode>,

    /// The contract of requests on this address whose host no route matches, or cannot be read. Other requests that
    /// reach no route have the contract of the first route in the file whose host matches.
    #[schemars(extend("x-default" = "the default contract", "x-unit" = "name of a contract"))]
    pub contract: Option<String>,

    /// Whether this listener accepts HTTP/2 without TLS, with prior knowledge.
    ///
    /// Such a listener does not accept HTTP/1.
    #[schemars(extend("default" = false, "x-reload" = "no"))]
    pub h2c: bool,

    /// Requires a PROXY protocol header (version 1 or 2) at the start of every connection.
    ///
    /// Load balancers send it (HAProxy `send-proxy`, nginx `proxy_protocol on`, cloud network load balancers) to name
    /// the client of a TCP connection. That address then stands for the peer everywhere: in `client.trusted_proxies`,
    /// `allow_from`, rate limits and the log. `LOCAL` and `UNKNOWN` headers name none, so the peer itself is used. A
    /// connection without a valid header of at most 4 KiB within `client.header_timeout`, or from a peer that is not in
    /// `from`, is closed and counted (cause `proxy_protocol_error`).
    pub proxy_protocol: Option<ProxyProtocolFile>,

    /// The TLS certificate of this listener. Without it, connections are plaintext.
    ///
    /// TLS 1.2 and 1.3 are supported. HTTP/2 is used if the client offers it (ALPN), otherwise HTTP/1.1. A list of
    /// sections serves several certificates: each client gets the one that covers its server name (SNI), or the first
    /// if none does. `client.header_timeout` limits the handshake.
    #[schemars(extend("x-empty" = "the list is empty; write a certificate and its key: tls: { cert: gateway.crt, key: gateway.key }", "x-reload" = "the contents of the files, yes; turning TLS on or off, no"))]
    pub tls: Option<OneOrMany<CertificateFile>>,
}

/// Who sends PROXY protocol headers.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("x-short" = "from", "x-example" = "{ from: [10.0.0.0/8] }"))]
pub(crate) struct ProxyProtocolFile {
    /// The load balancers that may connect, and must send a header. `unix` is required on a Unix socket.
    #[schemars(extend("x-missing" = "list the load balancers, for example from: [10.0.0.0/8]", "x-unit" = "list of networks such as `10.0.0.0/8`, addresses, or `unix`", "x-reload" = "no", "x-empty" = "the list is empty, so no connection would be accepted; list the load balancers, for example from: [10.0.0.0/8]"))]
    pub from: Vec<PeerNetwork>,
}

/// A certificate and its private key.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("x-example" = "{ cert: gateway.crt, key: gateway.key }"))]
pub(crate) struct CertificateFile {
    /// The certificate chain: a PEM file with the server certificate first, then the intermediate certificates.
    ///
    /// It is read at startup and on every reload. `check` rejects an expired certificate; `run` serves it and logs an
    /// error.
    #[schemars(extend("x-missing" = "write the path of the certificate, for example gateway.crt", "x-unit" = "path, relative to the directory of this file"))]
    pub cert: String,

    /// The private key of the certificate: a PEM file without a passphrase.
    ///
    /// RSA with at least 2048 bits, ECDSA P-256 or P-384, or Ed25519.
    #[schemars(extend("x-missing" = "write the path of its private key, for example gateway.key", "x-unit" = "path, relative to the directory of this file"))]
    pub key: String,

    /// The authorities that issue the certificates of clients: a PEM file with their certificates, without a private
    /// key.
    ///
    /// It needs `client_auth`, and it is read at startup and on every reload. A certificate must be signed by one of
    /// the authorities, directly or through intermediate certificates that the client sends, be valid now, and be
    /// usable for TLS clients. The certificates of the file are trusted as themselves too. Connections that were
    /// accepted before a reload stay open; there is no session resumption, so that every new connection is verified by
    /// the current file. If `tls` is a list, every certificate of the listener has the same `client_ca` and
    /// `client_auth`.
    #[schemars(extend("x-default" = "none", "x-unit" = "path, relative to the directory of this file"))]
    pub client_ca: Option<String>,

    /// Whether clients need a certificate that is verified by `client_ca`.
    ///
    /// Without this key clients are not asked for one, and `client_ca` alone is refused: whether it would require
    /// certificates differs between servers. The connection of a client that is not accepted is closed in the
    /// handshake, without a response, and counted (cause `tls_handshake_failed`); the log says why. `request_headers`
    /// of a route can tell the upstream who the client is.
    #[schemars(extend("x-default" = "off: clients are not asked for a certificate"))]
    pub client_auth: Option<ClientAuthWord>,
}

/// Which clients are accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ClientAuthWord {
    /// Those with a valid certificate.
    Required,
    /// Those with a valid certificate, and those that send none. An invalid one is not accepted.
    Optional,
}

/// The read-only telemetry endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "TelemetryFile", extend("x-short" = "address"))]
pub struct TelemetryConfig {
    /// The address and port for Prometheus scrapes and health probes.
    ///
    /// Do not expose it to clients: metrics contain the names of routes and upstreams.
    #[schemars(extend("default" = "127.0.0.1:9464", "x-reload" = "no"))]
    #[serde(with = "TcpAddress")]
    pub address: SocketAddr,
}

/// Log settings.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "LogFile", extend("x-short" = "level", "x-off" = "{ requests: off }", "x-planned" = { "file": "remove it; the log is standard error" }))]
pub struct LogConfig {
    /// The format of log lines.
    #[schemars(extend("default" = "auto", "x-reload" = "no"))]
    pub format: LogFormat,

    /// The least severe level that is logged.
    #[schemars(extend("default" = "info"))]
    pub level: LogLevel,

    /// Which requests are logged.
    #[schemars(extend("default" = "errors"))]
    pub requests: LogRequests,

    /// How much of what an upstream sent a log line may contain, in the field `evidence`.
    ///
    /// It is logged instead of a malformed response or of an error body that was replaced; clients never receive it.
    /// With 0 no line has `evidence`, not even the gateway's own explanation of a failure.
    #[schemars(extend("default" = "256B", "x-max" = "2KiB"))]
    #[serde(with = "SizeOrZero")]
    pub evidence: usize,
}

/// The format of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// Text on a terminal, otherwise JSON lines.
    Auto,
    /// Human-readable text.
    Text,
    /// JSON lines.
    Json,
}

/// The least severe level that is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogLevel {
    /// Conditions that need an operator.
    Error,
    /// Also requests whose upstream failed or whose upstream response was replaced.
    Warn,
    /// Also rejected requests (4xx and overload), startup, shutdown and reload.
    Info,
    /// Also details of single requests.
    Debug,
    /// Everything.
    Trace,
}

/// Which requests are logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogRequests {
    /// Requests that ended with an error response, an abort or a closed connection. A storm of one cause is sampled.
    Errors,
    /// All requests.
    All,
    /// No requests.
    Off,
}

/// A field that reports how a client reached the proxy in front.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum TrustedHeader {
    /// The client address, if `ip_header` is this field.
    XForwardedFor,
    /// The scheme.
    XForwardedProto,
    /// The host.
    XForwardedHost,
    /// The port.
    XForwardedPort,
    /// RFC 7239: scheme, host, and without `x-forwarded-for` the client address.
    Forwarded,
}

/// Limits for clients.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ClientFile {
    /// Proxies whose `ip_header` is trusted to report the client address.
    ///
    /// The client is the rightmost address in the header that is not a trusted proxy. If the list is empty, the client
    /// is the peer of the connection. `unix` trusts the peers of Unix sockets (`listen[].address: unix:/path`).
    #[schemars(extend("default" = [], "x-unit" = "list of networks such as `10.0.0.0/8`, addresses, or `unix`"))]
    pub trusted_proxies: Vec<PeerNetwork>,

    /// The request header field in which trusted proxies report the client address.
    #[schemars(extend("default" = "x-forwarded-for"))]
    pub ip_header: FieldName,

    /// The fields of trusted proxies from which the upstream's `X-Forwarded-*` and `Forwarded` are written.
    ///
    /// Without them, and for all other peers, these fields describe the connection to the gateway. A value that is not
    /// exactly one scheme, host or port is ignored. `x-forwarded-for` must be listed as long as `ip_header` is this
    /// field; it may be one to which the proxies append. List another field only if every trusted proxy overwrites it:
    /// a field that it passes on was written by the client.
    #[schemars(extend("default" = ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-port"]))]
    pub trusted_headers: Vec<TrustedHeader>,

    /// How many leading bits of an IPv6 address identify a client.
    ///
    /// A household usually has a whole /64.
    #[schemars(range(min = 1, max = 128), extend("default" = 64))]
    pub ipv6_prefix: u8,

    /// How long a client may take to send a complete header section.
    ///
    /// A slower client gets 400 (cause `client_too_slow`) and the connection is closed. On HTTP/2 this is the time to
    /// complete a header block or any frame other than DATA; after that, earlier requests get their responses and the
    /// connection ends with GOAWAY (counted as `idle_timeout`). The same limit applies to a TLS handshake; a slower one
    /// is closed without a response.
    #[schemars(extend("default" = "10s"))]
    pub header_timeout: Time,

    /// How long a client may send nothing while the gateway waits for its request body.
    ///
    /// A slower client gets 400 (cause `client_too_slow`) and the connection is closed. For gRPC,
    /// `timeouts.stream_idle` applies instead.
    #[schemars(extend("default" = "30s"))]
    pub body_timeout: Time,

    /// The minimum rate at which a client must send its request body.
    ///
    /// It is enforced after 30 s of waiting for body data; a slower client gets 400 (cause `client_too_slow`). It does
    /// not apply to gRPC, nor after the response has started.
    #[schemars(extend(
        "default" = "512B",
        "x-unit" = "size per second, or `off`",
        "x-min" = "1B",
        "x-help" = "use off to disable the minimum rate"
    ))]
    pub min_body_rate: SizeOrOff,

    /// How long a client may read nothing of a response.
    ///
    /// After that the response is aborted.
    #[schemars(extend("default" = "30s"))]
    pub write_timeout: Time,

    /// How long a client connection may be idle between two requests.
    ///
    /// After that it is closed; clients do not see an error.
    #[schemars(extend("default" = "75s"))]
    pub idle_timeout: Time,

    /// The maximum size of a request's header section, the request line included.
    ///
    /// A larger one gets 400 (cause `header_too_large`, or `uri_too_long` if the request line alone is too long). It
    /// applies to HTTP/1. On HTTP/2 the limit is 64 KiB, where each field counts 32 bytes more than its length (RFC
    /// 9113).
    #[schemars(extend("default" = "32KiB", "x-min" = "1KiB", "x-max" = "64KiB"))]
    pub max_header_bytes: Size,

    /// The maximum size of a request body. A route may override it.
    ///
    /// A larger one gets 400, or 413 under `appwrite-current` (cause `body_too_large`).
    #[schemars(extend("default" = "10MiB"))]
    pub max_body: Size,

    /// The maximum number of open client connections.
    ///
    /// The file descriptor limit may lower it: clients get nearly half of the descriptors, because a request may need a
    /// second one for its upstream (the effective number is logged at startup). Above the limit the keep-alive
    /// connection that has been idle longest is closed (cause `evicted`). If none is idle, the new client gets 503
    /// (cause `connection_limit_reached`) and its connection is closed.
    #[schemars(range(min = 1, max = 10_000_000), extend("default" = 20_000))]
    pub max_connections: usize,

    /// The maximum number of open connections of one client, so that no client can take all of them.
    ///
    /// A client is an address, or an IPv6 network (`ipv6_prefix`). Above the limit it gets 503 (cause
    /// `connection_limit_reached`) and its connection is closed. It does not apply to `trusted_proxies`, which connect
    /// for many clients.
    #[schemars(range(min = 1, max = 10_000_000), extend("x-default" = "a tenth of `max_connections`, at least 100"))]
    pub max_connections_per_client: Option<usize>,
}
