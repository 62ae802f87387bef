//! Errors of the gateway: a [`Fault`] has a [`Cause`], the [`Phase`] in which it occurred, and [`Evidence`] for the
//! log.
//!
//! A fault is created where the error occurs, and passed unchanged to the policy, the metrics and the log. It does not
//! contain the status code (see [`super::policy`]) or any text for the client: evidence is never written to a body.
//!
//! Cause names are stable: they are metric labels, configuration values and log values. If RFC 9209 (Proxy-Status,
//! section 2.3) registers an error type, the cause has that name.

use std::fmt;
use std::time::Duration;

/// Declares the causes: variant, stable name, one sentence for the documentation, and `reserved` if no response uses
/// the cause yet.
macro_rules! causes {
    ($($variant:ident $name:literal $description:literal $($reserved:ident)?;)+) => {
        /// Why the upstream's response could not be forwarded. The names are stable API.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
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
                match self { $(Cause::$variant => $description,)+ }
            }

            /// Whether the name is reserved for later: no response uses it yet.
            pub const fn is_reserved(self) -> bool {
                match self { $(Cause::$variant => !stringify!($($reserved)?).is_empty(),)+ }
            }
        }
    };
}

causes! {
    HttpRequestError "http_request_error" "The bytes from the client are not a valid HTTP request.";
    MalformedRequestLine "malformed_request_line" "The request line is not `method SP target SP HTTP/1.x`.";
    MalformedHeader "malformed_header" "A request header field is malformed: invalid name, obs-fold, bare CR or LF, control byte.";
    AmbiguousFraming "ambiguous_framing" "Content-Length and Transfer-Encoding do not define one unambiguous body length.";
    InvalidHost "invalid_host" "Host is missing, repeated or malformed, or differs from the authority of the request target.";
    AmbiguousPath "ambiguous_path" "The path has dot segments, a backslash, a control byte or a broken percent-encoding.";
    UnsupportedVersion "unsupported_version" "The request line names a version other than HTTP/1.0 or HTTP/1.1.";
    UnsupportedMethod "unsupported_method" "CONNECT and TRACE are not supported.";
    UnsupportedExpectation "unsupported_expectation" "Expect has a value other than 100-continue.";
    MalformedBody "malformed_body" "The request body violates its framing (invalid chunk, body too short).";
    HeaderTooLarge "header_too_large" "The request header section is larger than `client.max_header_bytes` or has too many fields.";
    UriTooLong "uri_too_long" "The request line alone is larger than `client.max_header_bytes`.";
    BodyTooLarge "body_too_large" "The request body is larger than `client.max_body`.";
    ClientTooSlow "client_too_slow" "The request headers or body did not arrive in time.";
    DestinationNotFound "destination_not_found" "No route matches the request.";
    HttpRequestDenied "http_request_denied" "A `deny` or `allow_from` rule of the route denied the request, or its CORS policy denied a preflight request.";
    RateLimited "rate_limited" "A rate-limit rule denied the request.";
    ProxyInternalError "proxy_internal_error" "A bug in the gateway: a panic was caught.";
    ProxyConfigurationError "proxy_configuration_error" "The configuration proved invalid at run time.";
    ProxyLoopDetected "proxy_loop_detected" "The request has already passed through this gateway (its Via entry is present).";
    ConnectionLimitReached "connection_limit_reached" "More client connections than `client.max_connections`.";
    QueueFull "queue_full" "The upstream's queue of waiting requests is full.";
    QueueTimeout "queue_timeout" "The request waited longer than the queue timeout.";
    BreakerOpen "breaker_open" "The circuit breaker of every server is open." reserved;
    DestinationUnavailable "destination_unavailable" "The upstream has no healthy server." reserved;
    LimiterUnavailable "limiter_unavailable" "The rate-limit backend failed, and requests are denied on failure.";
    ResourceExhausted "resource_exhausted" "The host is out of file descriptors, ports or memory.";
    Draining "draining" "The gateway is starting or shutting down; only `/readyz` reports this." reserved;
    DnsError "dns_error" "The upstream's name does not resolve to an address.";
    DnsTimeout "dns_timeout" "The upstream's name was not resolved in time." reserved;
    DestinationIpUnroutable "destination_ip_unroutable" "The network has no route to the upstream's address.";
    ConnectionRefused "connection_refused" "The upstream refused the connection.";
    ConnectionTerminated "connection_terminated" "The upstream closed or reset the connection before the response headers were complete.";
    ConnectionWriteError "connection_write_error" "Writing the request to the upstream failed." reserved;
    TlsProtocolError "tls_protocol_error" "TLS with the upstream failed, usually during the handshake.";
    TlsCertificateError "tls_certificate_error" "The upstream's certificate was rejected.";
    HttpProtocolError "http_protocol_error" "The bytes from the upstream are not a valid HTTP response.";
    HttpResponseHeaderSectionSize "http_response_header_section_size" "The upstream's response header section is too large.";
    HttpUpgradeFailed "http_upgrade_failed" "The protocol upgrade was not completed.";
    HttpResponseIncomplete "http_response_incomplete" "The upstream's response body was truncated.";
    ConnectionTimeout "connection_timeout" "The upstream did not accept the connection in time.";
    TlsTimeout "tls_timeout" "The TLS handshake with the upstream took too long.";
    HttpResponseTimeout "http_response_timeout" "The complete response headers did not arrive in time.";
    DeadlineExceeded "deadline_exceeded" "The deadline of the request expired.";
    ConnectionReadTimeout "connection_read_timeout" "The upstream was idle too long during its response.";
    ConnectionWriteTimeout "connection_write_timeout" "The upstream did not accept the bytes of the request in time.";
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
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The phase of request processing in which a fault occurred. For the log only; the status code does not depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Reading the request headers.
    RequestHeaders,
    /// Choosing the route.
    Route,
    /// Admission: rate limits, concurrency limits, circuit breaker.
    Admit,
    /// Selecting a server and connecting to it.
    Connect,
    /// Sending the request.
    Send,
    /// Waiting for the response headers.
    ResponseHeaders,
    /// Buffering an error body of the upstream.
    ResponseBody,
    /// Relaying the body after the response headers were sent.
    Relay,
    /// Anywhere in the gateway: a panic was caught.
    Internal,
}

impl Phase {
    /// The name in the log.
    pub const fn name(self) -> &'static str {
        match self {
            Phase::RequestHeaders => "request_headers",
            Phase::Route => "route",
            Phase::Admit => "admit",
            Phase::Connect => "connect",
            Phase::Send => "send",
            Phase::ResponseHeaders => "response_headers",
            Phase::ResponseBody => "response_body",
            Phase::Relay => "relay",
            Phase::Internal => "internal",
        }
    }
}

/// Maximum size of an upstream excerpt in the log, in bytes: enough to identify the sender, too few to fill a disk.
pub const EXCERPT_LIMIT: usize = 256;

/// Details of a fault for the log, for example an error text or the invalid byte.
///
/// [`Evidence::for_log`] is the only way to read it, and nothing in [`super::reply`] accepts one.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Evidence(Option<EvidenceText>);

#[derive(Clone, PartialEq, Eq)]
enum EvidenceText {
    Fixed(&'static str),
    Owned(Box<str>),
}

impl Evidence {
    /// No evidence.
    pub const fn none() -> Self {
        Evidence(None)
    }

    /// A constant text; does not allocate.
    pub const fn from_static(text: &'static str) -> Self {
        Evidence(Some(EvidenceText::Fixed(text)))
    }

    /// A text built at run time.
    pub fn owned(text: impl Into<Box<str>>) -> Self {
        Evidence(Some(EvidenceText::Owned(text.into())))
    }

    /// A sentence, followed by the first bytes that the upstream sent instead of a response (at most
    /// [`EXCERPT_LIMIT`]).
    pub fn with_excerpt(sentence: &str, excerpt: &[u8]) -> Self {
        let (excerpt, ellipsis) = match excerpt.split_at_checked(EXCERPT_LIMIT) {
            Some((beginning, [_, ..])) => (beginning, "..."),
            Some((_, [])) | None => (excerpt, ""),
        };
        match (sentence, excerpt) {
            ("", []) => Evidence::none(),
            (_, []) => Evidence::owned(sentence),
            ("", _) => Evidence::owned(format!("{}{ellipsis}", String::from_utf8_lossy(excerpt))),
            (_, _) => Evidence::owned(format!("{sentence}: {}{ellipsis}", String::from_utf8_lossy(excerpt))),
        }
    }

    /// The text. Use it only in log records.
    pub fn for_log(&self) -> &str {
        match &self.0 {
            None => "",
            Some(EvidenceText::Fixed(text)) => text,
            Some(EvidenceText::Owned(text)) => text,
        }
    }
}

impl fmt::Debug for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Evidence(..)")
    }
}

/// An error, created where it occurs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    cause: Cause,
    phase: Phase,
    evidence: Evidence,
    retry_after: Option<u64>,
}

impl Fault {
    /// Creates a fault without evidence.
    pub const fn new(cause: Cause, phase: Phase) -> Self {
        Fault { cause, phase, evidence: Evidence::none(), retry_after: None }
    }

    /// Sets the evidence for the log.
    #[must_use]
    pub fn with_evidence(mut self, evidence: Evidence) -> Self {
        self.evidence = evidence;
        self
    }

    /// Sets the time after which the client may retry, rounded up to seconds, at least 1.
    #[must_use]
    pub const fn with_retry_after(mut self, wait: Duration) -> Self {
        let seconds = wait.as_secs().saturating_add((wait.subsec_nanos() > 0) as u64);
        self.retry_after = Some(if seconds == 0 { 1 } else { seconds });
        self
    }

    /// The cause, which determines the status code.
    pub const fn cause(&self) -> Cause {
        self.cause
    }

    /// The phase of request processing, for the log.
    pub const fn phase(&self) -> Phase {
        self.phase
    }

    /// When the client may retry, in seconds, if known.
    pub const fn retry_after(&self) -> Option<u64> {
        self.retry_after
    }

    /// Details for the log.
    pub const fn evidence(&self) -> &Evidence {
        &self.evidence
    }
}

/// How much of the request was sent to the upstream. Never [`RequestSent::None`] if a byte may have been sent, because
/// clients may retry such a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RequestSent {
    /// Not a single byte was sent.
    #[default]
    None,
    /// The upstream may have received some of its bytes.
    Partial,
    /// The complete request was written to the transport.
    Full,
}

impl RequestSent {
    /// The value in error bodies and logs.
    pub const fn name(self) -> &'static str {
        match self {
            RequestSent::None => "none",
            RequestSent::Partial => "partial",
            RequestSent::Full => "full",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upstream_excerpt_is_bounded() {
        let text = |sentence, excerpt: &[u8]| Evidence::with_excerpt(sentence, excerpt).for_log().to_owned();
        assert_eq!(text("no status line", b"220 mail\r\n"), "no status line: 220 mail\r\n");
        assert_eq!(
            (text("", b"x"), text("no status line", b""), text("", b"")),
            ("x".into(), "no status line".into(), "".into())
        );
        assert_eq!(text("", &[b'x'; EXCERPT_LIMIT]), "x".repeat(EXCERPT_LIMIT));
        assert_eq!(text("", &[b'x'; EXCERPT_LIMIT + 1]), format!("{}...", "x".repeat(EXCERPT_LIMIT)));
        assert_eq!(text("", b"\xff"), "\u{fffd}");
    }

    #[test]
    fn retry_after_rounds_up_to_at_least_one_second() {
        let fault = || Fault::new(Cause::RateLimited, Phase::Admit);
        assert_eq!(fault().retry_after(), None);
        for (milliseconds, seconds) in [(0, 1), (1, 1), (1_000, 1), (1_001, 2), (59_999, 60)] {
            let wait = Duration::from_millis(milliseconds);
            assert_eq!(fault().with_retry_after(wait).retry_after(), Some(seconds), "{milliseconds}");
        }
        assert_eq!(fault().with_retry_after(Duration::MAX).retry_after(), Some(u64::MAX));
    }
}
