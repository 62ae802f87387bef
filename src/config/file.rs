//! The configuration file, key for key. The comments on the fields are the manual: `docs/configuration.md` is made of them.
//!
//! Everything is optional here, and texts are kept as they were written: what must be present, which values make sense
//! and what an absent key means is decided in [`super::validate`]. Sections with keys of their own are in [`errors`]
//! (contract and errors), [`cors`], [`limits`] (rate limits) and [`routing`] (timeouts, upstreams, routes).

use schemars::JsonSchema;
use serde::Deserialize;

pub mod cors;
pub mod errors;
pub mod forms;
pub mod limits;
pub mod routing;

use cors::CorsFile;
use errors::{ContractForm, ErrorsForm};
use forms::{DurationText, Named, OneOrMany, SizeText};
use limits::{LimitHeaders, RateLimitFile, StoreFile};
use routing::{RouteFile, TimeoutsFile, UpstreamFile};

use super::schema::{ListenText, OrOff, WorkersText};

/// The whole file.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConfigFile {
    /// The version of this format.
    ///
    /// Only `1` exists. Unit: number. Default: `1`. Reload: yes.
    pub version: Option<u64>,

    /// How many threads serve requests.
    ///
    /// `auto` is one per processor core that the process may use. Unit: number or `auto`. Default: `auto`. Reload: no.
    #[schemars(with = "Option<WorkersText>")]
    pub workers: Option<String>,

    /// How long new connections are still accepted after SIGTERM, while `/readyz` already answers 503.
    ///
    /// It gives a load balancer the time to notice. Clients see nothing of it. Unit: duration. Default: `5s`. Reload: yes.
    pub drain_delay: Option<DurationText>,

    /// How long open connections get to finish after the listeners have closed.
    ///
    /// Their next answer says `Connection: close`; what is still open afterwards is cut. Unit: duration.
    /// Default: `30s`. Reload: yes.
    pub drain: Option<DurationText>,

    /// Where clients connect; at least one.
    ///
    /// Required. Reload: no.
    pub listen: Option<Vec<ListenFile>>,

    /// Where `/metrics`, `/livez` and `/readyz` are served.
    pub telemetry: Option<TelemetryFile>,

    /// How the log is written, and which requests are in it.
    pub log: Option<LogFile>,

    /// What clients may do: sizes, times, connections, and whom to believe about a client's address.
    pub client: Option<ClientFile>,

    /// Which error codes may be sent, and with which texts.
    ///
    /// The name of a built-in contract (`appwrite`, `appwrite-current`), or a table of your own with the keys below.
    /// Unit: name or mapping. Default: `appwrite`. Reload: yes.
    pub contract: Option<ContractForm>,

    /// How errors are made. A route may override each key.
    ///
    /// Short form: `errors: enforce`, `errors: observe`, `errors: pass`.
    pub errors: Option<ErrorsForm>,

    /// Time limits towards upstreams, for every route. An upstream or a route may override each key; the route's wins.
    pub timeouts: Option<TimeoutsFile>,

    /// Who answers, by name. The names are metric labels.
    ///
    /// Required as soon as a route refers to one.
    pub upstreams: Option<Named<UpstreamFile>>,

    /// Whose pages may read responses in a browser, for requests that reach no route.
    ///
    /// A route takes it over with `cors: default`, or has its own. Where there is `cors`, the upstream's
    /// `AccessLog-Control-*` fields are removed, on errors and on everything else the right ones are set, and preflights are
    /// answered by the gateway: never forwarded, never limited.
    pub cors: Option<CorsFile>,

    /// How many requests are allowed to whom, by name. The names are metric labels.
    ///
    /// A rule takes effect on the routes that name it in `rate_limits`; a rule named by several routes counts over all of
    /// them, unless `route` is part of its key.
    pub rate_limits: Option<Named<RateLimitFile>>,

    /// Where several gateways count together, by name. The names are metric labels.
    ///
    /// A rule counts there when it names the store; all others count in the memory of the process.
    pub stores: Option<Named<StoreFile>>,

    /// In which fields the responses of limited routes say where the client stands.
    ///
    /// The upstream's fields of these names are replaced. Default: `x_ratelimit`. Reload: yes.
    pub rate_limit_headers: Option<LimitHeaders>,

    /// Which requests go where; at least one.
    ///
    /// The host decides first (exact, then `*.` wildcard, then any), then the path (static, then `{parameter}`, then
    /// `{*rest}`), then the method. The order in the file does not matter. A request that no route takes is answered 404.
    /// Required. Reload: yes.
    pub routes: Option<Vec<RouteFile>>,
}

/// One address of the gateway.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListenFile {
    /// Address and port to accept connections on.
    ///
    /// `":8080"` is every IPv4 address, `localhost:8080` the loopback; port 0 lets the system choose one, which is
    /// printed at the start. Required. Unit: `ADDRESS:PORT`. Reload: no.
    #[schemars(with = "Option<ListenText>")]
    pub address: Option<String>,

    /// Whether clients speak HTTP/2 without TLS here, from the first byte ("prior knowledge").
    ///
    /// Such a listener serves no HTTP/1. Unit: `true` or `false`. Default: `false`. Reload: no.
    pub h2c: Option<bool>,

    /// The certificate that is shown here. Without it the listener speaks no TLS.
    ///
    /// TLS 1.2 and 1.3; HTTP/2 where the client asks for it (ALPN), else HTTP/1.1. With a list of such sections each
    /// client gets the certificate for the name that it asks for (SNI), or the first where nobody has that name.
    /// A handshake has `client.header_timeout`. Reload: the contents of the files, yes; turning TLS on or off, no.
    pub tls: Option<OneOrMany<CertificateFile>>,
}

/// A certificate with its key.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CertificateFile {
    /// The certificate: a PEM file, the server's own first, then those of the authorities between it and the root.
    ///
    /// Read at the start and at every reload. `check` refuses one that has expired; `run` serves it, and says so in the
    /// log as an error. Required. Unit: path, from the folder of this file. Reload: yes.
    pub cert: Option<String>,

    /// Its private key: a PEM file, without a password.
    ///
    /// RSA of 2048 bits or more, ECDSA P-256 or P-384, or Ed25519. Required. Unit: path, from the folder of this file.
    /// Reload: yes.
    pub key: Option<String>,
}

/// The read-only endpoint.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TelemetryFile {
    /// Address and port of the endpoint for Prometheus and probes.
    ///
    /// Keep it away from clients: metrics name your routes and upstreams. Unit: `ADDRESS:PORT`.
    /// Default: `127.0.0.1:9464`. Reload: no.
    #[schemars(with = "Option<ListenText>")]
    pub address: Option<String>,
}

/// The log.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LogFile {
    /// The form of the lines.
    ///
    /// Default: `auto`. Reload: no.
    pub format: Option<LogFormat>,

    /// The least severe lines that are written.
    ///
    /// Default: `info`. Reload: yes.
    pub level: Option<LogLevel>,

    /// Which requests get a line.
    ///
    /// Default: `errors`. Reload: yes.
    pub requests: Option<LogRequests>,
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// Text on a terminal, JSON lines otherwise.
    #[default]
    Auto,
    /// Always text.
    Text,
    /// Always JSON lines.
    Json,
}

/// The least severe line that is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogLevel {
    /// A human must act.
    Error,
    /// We answered for the upstream.
    Warn,
    /// Start, stop, reload.
    #[default]
    Info,
    /// One request's story.
    Debug,
    /// Everything.
    Trace,
}

/// Which requests get a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogRequests {
    /// Those that ended in an error, an abort or a close.
    #[default]
    Errors,
    /// All.
    All,
    /// None.
    Off,
}

/// Limits towards clients.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClientFile {
    /// Peers that are believed when they say in `ip_header` who the client is.
    ///
    /// The rightmost address in the header that is not one of them is the client. Without any, the peer is the client.
    /// Unit: list of networks such as `10.0.0.0/8`, or addresses. Default: `[]`. Reload: yes.
    pub trusted_proxies: Option<Vec<String>>,

    /// The field in which trusted peers name the client.
    ///
    /// Unit: field name. Default: `x-forwarded-for`. Reload: yes.
    pub ip_header: Option<String>,

    /// By how many leading bits IPv6 clients are told apart.
    ///
    /// A household usually has a whole /64. Unit: bits, 1 to 128. Default: `64`. Reload: yes.
    pub ipv6_prefix: Option<u64>,

    /// How long a client may take to send the whole request head.
    ///
    /// Too slow is answered 400 (cause `client_too_slow`) and the connection is closed. Unit: duration.
    /// On HTTP/2 a header block, or a frame other than DATA, has this time to come to its end; the connection ends with
    /// GOAWAY after it, once the requests before are answered (counted as `idle_timeout`).
    /// A TLS handshake has the same time; one that takes longer ends without an answer. Default: `10s`. Reload: yes.
    pub header_timeout: Option<DurationText>,

    /// How long a client may send nothing while its request body is awaited.
    ///
    /// Too slow is answered 400 (cause `client_too_slow`) and the connection is closed. A call of gRPC has
    /// `timeouts.stream_idle` instead. Unit: duration. Default: `30s`. Reload: yes.
    pub body_timeout: Option<DurationText>,

    /// How many bytes per second of its body a client must send at least.
    ///
    /// Judged after 30 s of waiting for it; below, the answer is 400 (cause `client_too_slow`). Not judged for gRPC, nor
    /// once the response has begun. Unit: size per second, or `off`. Default: `512B`. Reload: yes.
    #[schemars(with = "Option<OrOff<SizeText>>")]
    pub min_body_rate: Option<SizeText>,

    /// How long a client may accept nothing of its response.
    ///
    /// The response is aborted then. Unit: duration. Default: `30s`. Reload: yes.
    pub write_timeout: Option<DurationText>,

    /// How long a connection may wait between two requests.
    ///
    /// It is closed then, which no client sees as an error. Unit: duration. Default: `75s`. Reload: yes.
    pub idle_timeout: Option<DurationText>,

    /// How large a request head may be, request line and all fields together.
    ///
    /// Larger ones are answered 400 (cause `header_too_large`, or `uri_too_long` for the line alone).
    /// It holds for HTTP/1; on HTTP/2 the limit is 64 KiB, where each field counts as 32 bytes more than it has (RFC 9113).
    /// Unit: size, 1KiB to 64KiB. Default: `32KiB`. Reload: yes.
    pub max_header_bytes: Option<SizeText>,

    /// How large a request body may be. A route may set its own.
    ///
    /// Larger ones are answered 400 (cause `body_too_large`). Unit: size. Default: `10MiB`. Reload: yes.
    pub max_body: Option<SizeText>,

    /// How many client connections may be open at once.
    ///
    /// Or what the descriptor limit allows, whichever is less: nearly half of it (the log says the number at the start),
    /// for a request may need a second descriptor towards its upstream. Above it a client is answered 503 (cause
    /// `connection_limit_reached`) and its connection is closed. Unit: number. Default: `20000`. Reload: yes.
    pub max_connections: Option<u64>,
}
