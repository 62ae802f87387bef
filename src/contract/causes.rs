//! The causes of errors: one table, one row per cause. Everything that depends on a cause alone is in its row.
//!
//! To add a cause, add a row, raise it in one place, and add a case to the fault suite. Cause names are stable: they
//! are metric labels, configuration values and log values. If RFC 9209 (Proxy-Status, section 2.3) registers an error
//! type, the cause has that name.

use std::fmt;

use serde::Deserialize;

use super::grpc_status::GrpcStatus;
use super::phase::Phase;

/// The name used instead of a cause when the upstream sent an error response: metric label, override key, log value.
pub(crate) const UPSTREAM_RESPONSE: &str = "upstream_response";

/// When a request may be sent again after a fault of this cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryRule {
    /// Never: the upstream may have processed the request, or another server would fail too.
    Never,
    /// With any method, to another server or address: nothing was sent.
    NothingSent,
    /// With any method, to another server, if the fault occurred while connecting; otherwise never.
    WhileConnecting,
    /// As [`RetryRule::WhileConnecting`]; and idempotent methods if a reused connection ended before any byte of a response.
    BeforeResponse,
}

/// What is known about a cause: one row of the table.
#[derive(Clone, Copy, Debug)]
struct Row {
    preferences: &'static [u16],
    phase: Phase,
    grpc: GrpcStatus,
    message: Option<&'static str>,
    retry: RetryRule,
    overload: bool,
    reserved: bool,
}

const fn row(preferences: &'static [u16], phase: Phase, grpc: GrpcStatus) -> Row {
    Row { preferences, phase, grpc, message: None, retry: RetryRule::Never, overload: false, reserved: false }
}

impl Row {
    /// The client message in the built-in contracts; without one, the code's message is sent.
    const fn message(mut self, message: &'static str) -> Row {
        self.message = Some(message);
        self
    }

    const fn retry(mut self, rule: RetryRule) -> Row {
        self.retry = rule;
        self
    }

    /// The gateway works, but cannot take the request now.
    const fn overload(mut self) -> Row {
        self.overload = true;
        self
    }

    /// No response uses the cause yet.
    const fn reserved(mut self) -> Row {
        self.reserved = true;
        self
    }
}

/// Preferences of overload causes.
const OVERLOAD: &[u16] = &[503, 500];
/// Preferences when the upstream could not be reached or its response is invalid.
pub(super) const BAD_GATEWAY: &[u16] = &[502, 504, 503, 500];
/// Preferences when a time limit towards the upstream expired.
pub(super) const TIMEOUT: &[u16] = &[504, 502, 503, 500];

/// Declares the enum and its table from the rows. The doc comment of a row is the cause's description.
macro_rules! causes {
    ($(#[doc = $description:literal] $variant:ident $name:literal = $row:expr;)+) => {
        /// Why the upstream's response could not be forwarded. The names are stable API.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
        #[serde(try_from = "String")]
        #[repr(u8)]
        pub enum Cause { $(#[doc = $description] $variant,)+ }

        impl Cause {
            /// All causes, in the order of the specification.
            pub const ALL: &'static [Cause] = &[$(Cause::$variant,)+];

            /// The stable name, used as metric label, configuration value and log value.
            pub const fn name(self) -> &'static str {
                match self { $(Cause::$variant => $name,)+ }
            }

            /// One sentence for the operator: when the cause occurs.
            pub const fn description(self) -> &'static str {
                match self { $(Cause::$variant => $description.trim_ascii_start(),)+ }
            }

            const fn row(self) -> Row {
                match self { $(Cause::$variant => const { $row },)+ }
            }
        }
    };
}

causes! {
    /// The bytes from the client are not a valid HTTP request.
    HttpRequestError "http_request_error" = row(&[400], Phase::RequestHeaders, GrpcStatus::InvalidArgument)
        .message("The request is not a valid HTTP request.");
    /// The request line is not `method SP target SP HTTP/1.x`.
    MalformedRequestLine "malformed_request_line" = row(&[400], Phase::RequestHeaders, GrpcStatus::InvalidArgument)
        .message("The request line is malformed.");
    /// A request header field is malformed: invalid name, folded line, bare CR or LF, control byte.
    MalformedHeader "malformed_header" = row(&[400], Phase::RequestHeaders, GrpcStatus::InvalidArgument)
        .message("A header field of the request is malformed.");
    /// Content-Length and Transfer-Encoding do not define one unambiguous body length.
    AmbiguousFraming "ambiguous_framing" = row(&[400], Phase::RequestHeaders, GrpcStatus::InvalidArgument)
        .message("The length of the request body is not stated clearly.");
    /// Host is missing, repeated or malformed, or differs from the authority of the request target.
    InvalidHost "invalid_host" = row(&[400], Phase::RequestHeaders, GrpcStatus::InvalidArgument)
        .message("The Host of the request is missing, repeated or malformed.");
    /// The path has dot segments, a backslash, a control byte or a broken percent-encoding, or matches another route once `%2F` is decoded.
    AmbiguousPath "ambiguous_path" = row(&[400], Phase::Route, GrpcStatus::InvalidArgument)
        .message("The path of the request is malformed or ambiguous.");
    /// The request line names a version other than HTTP/1.0 to HTTP/1.9.
    UnsupportedVersion "unsupported_version" = row(&[505, 400], Phase::RequestHeaders, GrpcStatus::InvalidArgument)
        .message("The HTTP version of the request is not supported.");
    /// The method is CONNECT or TRACE, which are not supported.
    UnsupportedMethod "unsupported_method" = row(&[501, 405, 400], Phase::RequestHeaders, GrpcStatus::InvalidArgument)
        .message("The method of the request is not supported.");
    /// Expect has a value other than 100-continue.
    UnsupportedExpectation "unsupported_expectation" = row(&[417, 400], Phase::RequestHeaders, GrpcStatus::InvalidArgument)
        .message("The expectation of the request cannot be met.");
    /// The request body violates its framing (invalid chunk, body too short), or cannot be read for a `body:` key of a rate limit.
    MalformedBody "malformed_body" = row(&[400], Phase::Send, GrpcStatus::InvalidArgument)
        .message("The request body is malformed or incomplete.");
    /// The request header section is larger than `client.max_header_bytes`.
    HeaderTooLarge "header_too_large" = row(&[431, 400], Phase::RequestHeaders, GrpcStatus::ResourceExhausted)
        .message("The header fields of the request are too large.");
    /// The request line alone is larger than `client.max_header_bytes`.
    UriTooLong "uri_too_long" = row(&[414, 400], Phase::RequestHeaders, GrpcStatus::ResourceExhausted)
        .message("The URI of the request is too long.");
    /// The request body is larger than `client.max_body`, or the `max_body` of the route.
    BodyTooLarge "body_too_large" = row(&[413, 400], Phase::Admit, GrpcStatus::ResourceExhausted)
        .message("The request body is too large.");
    /// The request headers or body did not arrive in time.
    ClientTooSlow "client_too_slow" = row(&[400], Phase::RequestHeaders, GrpcStatus::DeadlineExceeded)
        .message("The request was not received in time.");
    /// No route matches the host and the path of the request.
    DestinationNotFound "destination_not_found" = row(&[404, 400], Phase::Route, GrpcStatus::Unimplemented);
    /// Routes match the host and the path, but none of them matches the method. The response has `Allow`.
    MethodNotAllowed "method_not_allowed" = row(&[405, 404, 400], Phase::Route, GrpcStatus::Unimplemented);
    /// A `deny`, `deny_from` or `allow_from` rule of the route denied the request, or its CORS policy denied a preflight request.
    HttpRequestDenied "http_request_denied" = row(&[403, 401, 400], Phase::Admit, GrpcStatus::PermissionDenied);
    /// A rate-limit rule denied the request.
    RateLimited "rate_limited" = row(&[429, 503, 400], Phase::Admit, GrpcStatus::ResourceExhausted);
    /// The route is in maintenance (`maintenance`).
    Maintenance "maintenance" = row(OVERLOAD, Phase::Admit, GrpcStatus::Unavailable);
    /// The route responds with an error of the contract (`respond`), whose code is the one that it declares.
    RouteResponse "route_response" = row(&[404, 400], Phase::Admit, GrpcStatus::Unimplemented);
    /// A bug in the gateway: a panic was caught.
    ProxyInternalError "proxy_internal_error" = row(&[500], Phase::Internal, GrpcStatus::Internal);
    /// The configuration proved invalid at run time. No known request leads to this.
    ProxyConfigurationError "proxy_configuration_error" = row(&[500], Phase::Internal, GrpcStatus::Internal);
    /// The request has already passed through this gateway (its Via entry is present).
    ProxyLoopDetected "proxy_loop_detected" = row(&[508, 500], Phase::Admit, GrpcStatus::Internal);
    /// `client.max_connections` is reached and no connection is idle, or the client has `client.max_connections_per_client`.
    ConnectionLimitReached "connection_limit_reached" = row(OVERLOAD, Phase::Admit, GrpcStatus::Unavailable)
        .overload();
    /// The upstream's queue of waiting requests is full.
    QueueFull "queue_full" = row(OVERLOAD, Phase::Admit, GrpcStatus::Unavailable).overload();
    /// The request waited longer than `concurrency.queue_timeout`.
    QueueTimeout "queue_timeout" = row(OVERLOAD, Phase::Admit, GrpcStatus::Unavailable).overload();
    /// The circuit breaker of the upstream is open (`upstreams.NAME.breaker`).
    BreakerOpen "breaker_open" = row(OVERLOAD, Phase::Admit, GrpcStatus::Unavailable).overload();
    /// Every server of the upstream is unhealthy or ejected (`health`, `ejection`).
    DestinationUnavailable "destination_unavailable" = row(OVERLOAD, Phase::Admit, GrpcStatus::Unavailable)
        .overload();
    /// The rate-limit backend is unavailable, and its `on_failure` is `deny`.
    LimiterUnavailable "limiter_unavailable" = row(OVERLOAD, Phase::Admit, GrpcStatus::Unavailable)
        .overload();
    /// No file descriptors, local ports or memory left, or over 1 MiB of request headers on one HTTP/2 connection.
    ResourceExhausted "resource_exhausted" = row(OVERLOAD, Phase::Connect, GrpcStatus::Unavailable)
        .overload();
    /// The gateway is starting or shutting down; only `/readyz` reports this.
    Draining "draining" = row(OVERLOAD, Phase::Admit, GrpcStatus::Unavailable).overload().reserved();
    /// The upstream's name does not resolve to an address.
    DnsError "dns_error" = row(BAD_GATEWAY, Phase::Connect, GrpcStatus::Unavailable)
        .retry(RetryRule::NothingSent);
    /// The upstream's name was not resolved in time.
    DnsTimeout "dns_timeout" = row(TIMEOUT, Phase::Connect, GrpcStatus::Unavailable)
        .retry(RetryRule::NothingSent);
    /// The network has no route to the upstream's address.
    DestinationIpUnroutable "destination_ip_unroutable" = row(BAD_GATEWAY, Phase::Connect, GrpcStatus::Unavailable)
        .retry(RetryRule::NothingSent);
    /// The upstream refused the connection.
    ConnectionRefused "connection_refused" = row(BAD_GATEWAY, Phase::Connect, GrpcStatus::Unavailable)
        .retry(RetryRule::NothingSent);
    /// The upstream closed or reset the connection before the response headers were complete.
    ConnectionTerminated "connection_terminated" = row(BAD_GATEWAY, Phase::ResponseHeaders, GrpcStatus::Unavailable)
        .retry(RetryRule::BeforeResponse);
    // The specification names it, but nothing raises it: after a failed write the response is still read, because the
    // upstream may have sent one before it closed; without one the cause is `connection_terminated`.
    /// Writing the request to the upstream failed.
    ConnectionWriteError "connection_write_error" = row(BAD_GATEWAY, Phase::Send, GrpcStatus::Unavailable)
        .retry(RetryRule::BeforeResponse)
        .reserved();
    /// TLS with the upstream failed, usually during the handshake.
    TlsProtocolError "tls_protocol_error" = row(BAD_GATEWAY, Phase::Connect, GrpcStatus::Unavailable)
        .retry(RetryRule::BeforeResponse);
    /// The upstream's certificate was rejected.
    TlsCertificateError "tls_certificate_error" = row(BAD_GATEWAY, Phase::Connect, GrpcStatus::Unavailable)
        .retry(RetryRule::NothingSent);
    /// The bytes from the upstream are not a valid HTTP response.
    HttpProtocolError "http_protocol_error" = row(BAD_GATEWAY, Phase::ResponseHeaders, GrpcStatus::Internal)
        .retry(RetryRule::WhileConnecting);
    /// The upstream's response header section is too large.
    HttpResponseHeaderSectionSize "http_response_header_section_size" = row(BAD_GATEWAY, Phase::ResponseHeaders, GrpcStatus::Internal);
    /// The upstream's 101 response does not match the requested upgrade.
    HttpUpgradeFailed "http_upgrade_failed" = row(BAD_GATEWAY, Phase::ResponseHeaders, GrpcStatus::Internal);
    /// The upstream's response body was truncated.
    HttpResponseIncomplete "http_response_incomplete" = row(BAD_GATEWAY, Phase::Relay, GrpcStatus::Unavailable);
    /// The upstream did not accept the connection within `timeouts.connect`.
    ConnectionTimeout "connection_timeout" = row(TIMEOUT, Phase::Connect, GrpcStatus::Unavailable)
        .retry(RetryRule::NothingSent);
    /// The TLS handshake with the upstream took longer than `timeouts.tls`.
    TlsTimeout "tls_timeout" = row(TIMEOUT, Phase::Connect, GrpcStatus::Unavailable)
        .retry(RetryRule::NothingSent);
    /// The complete response headers did not arrive within `timeouts.response_headers`.
    HttpResponseTimeout "http_response_timeout" = row(TIMEOUT, Phase::ResponseHeaders, GrpcStatus::DeadlineExceeded);
    /// Queue and attempts took longer than `timeouts.deadline`, or the request longer than `timeouts.max_duration`.
    DeadlineExceeded "deadline_exceeded" = row(TIMEOUT, Phase::ResponseHeaders, GrpcStatus::DeadlineExceeded);
    /// The upstream sent nothing for `timeouts.body_idle` inside its response body.
    ConnectionReadTimeout "connection_read_timeout" = row(TIMEOUT, Phase::Relay, GrpcStatus::DeadlineExceeded);
    /// The upstream did not accept the bytes of the request in time.
    ConnectionWriteTimeout "connection_write_timeout" = row(TIMEOUT, Phase::Send, GrpcStatus::DeadlineExceeded);
}

impl Cause {
    /// Returns the cause with this stable name.
    pub fn from_name(name: &str) -> Option<Cause> {
        Cause::ALL.iter().copied().find(|cause| cause.name() == name)
    }

    /// Dense index, for arrays of counters.
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The preference list: the first of these status codes that the contract documents is sent.
    pub(crate) const fn preferences(self) -> &'static [u16] {
        self.row().preferences
    }

    /// The phase in which the cause usually occurs. The log has the phase of the fault.
    pub(crate) const fn usual_phase(self) -> Phase {
        self.row().phase
    }

    /// The `grpc-status` for gRPC clients.
    pub const fn grpc_status(self) -> GrpcStatus {
        self.row().grpc
    }

    /// The client message in the built-in contracts, where the cause has its own.
    pub(crate) const fn builtin_message(self) -> Option<&'static str> {
        self.row().message
    }

    /// Whether the request may be sent again.
    pub(crate) const fn retry_rule(self) -> RetryRule {
        self.row().retry
    }

    /// Whether the gateway works but cannot take the request now. Not a failure of the upstream.
    pub(crate) const fn is_overload(self) -> bool {
        self.row().overload
    }

    /// Whether the upstream could not be reached, or did not answer correctly or in time.
    pub(crate) const fn is_upstream_fault(self) -> bool {
        !self.is_overload() && matches!(self.preferences(), [.., 503, 500])
    }

    /// Whether the client caused it: the last resort of its preferences is 400.
    pub(crate) const fn is_client_error(self) -> bool {
        matches!(self.preferences(), [.., 400])
    }

    /// Whether the name is reserved for later: no response uses it yet.
    pub const fn is_reserved(self) -> bool {
        self.row().reserved
    }
}

impl TryFrom<String> for Cause {
    type Error = String;

    fn try_from(name: String) -> Result<Cause, String> {
        let unknown = || format!("{name:?} is not a cause, expected one of those in docs/codes.md");
        Cause::from_name(&name).ok_or_else(unknown)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The preference list of an error status of the upstream that the contract does not document. A status outside 400-599
/// is handled like `http_protocol_error`.
pub(crate) const fn preferences_for_upstream(status: u16) -> &'static [u16] {
    match status {
        401 => &[401, 403, 400],
        402 | 403 | 451 => &[403, 400],
        404 | 410 => &[404, 400],
        409 | 412 | 423 => &[409, 400],
        429 => &[429, 503, 400],
        // Neither can be sent: 408 makes clients repeat the request by themselves (RFC 9110 15.5.9).
        408 | 499 | 504 => TIMEOUT,
        424 => BAD_GATEWAY,
        400..=499 => &[400],
        503 | 507 | 509 | 529 => OVERLOAD,
        502 | 520..=527 | 530 | 598 | 599 => BAD_GATEWAY,
        500..=599 => &[500],
        _ => Cause::HttpProtocolError.preferences(),
    }
}
