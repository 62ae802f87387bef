//! What went wrong, as one value: a [`Fault`] is a [`Cause`], the [`Phase`] it happened in, and [`Evidence`].
//!
//! A fault is named once, where it happens, and carried unchanged to the code, the body, the metric and the log.
//! It does not know which status answers it (see [`super::policy`]) and holds nothing that a client may read:
//! the evidence has no way into a body.
//!
//! Cause names are stable: they are metric labels, configuration keys and log values. Where RFC 9209 (Proxy-Status,
//! section 2.3) registers an error type for the situation, the cause bears that name.

use std::fmt;
use std::time::Duration;

/// Declares the causes once: variant, stable name, one sentence for the documentation, and `reserved` where no request is
/// answered with it yet.
macro_rules! causes {
    ($($variant:ident $name:literal $description:literal $($reserved:ident)?;)+) => {
        /// Why a request could not be answered by the upstream's own response. The names are stable API.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Cause { $(#[doc = $description] $variant,)+ }

        impl Cause {
            /// Every cause, in the order of the specification.
            pub const ALL: &'static [Cause] = &[$(Cause::$variant,)+];

            /// The stable name: metric label, configuration value, log value.
            pub const fn name(self) -> &'static str {
                match self { $(Cause::$variant => $name,)+ }
            }

            /// One sentence for the operator: when it is raised.
            pub const fn description(self) -> &'static str {
                match self { $(Cause::$variant => $description,)+ }
            }

            /// Whether the name is only kept for later: no request to the gateway is answered with it.
            pub const fn is_reserved(self) -> bool {
                match self { $(Cause::$variant => !stringify!($($reserved)?).is_empty(),)+ }
            }
        }
    };
}

causes! {
    HttpRequestError "http_request_error" "The client's bytes are not one clear HTTP request.";
    MalformedRequestLine "malformed_request_line" "The request line is not `method SP target SP HTTP/1.x`.";
    MalformedHeader "malformed_header" "A request field is malformed: bad name, obs-fold, bare CR or LF, control byte.";
    AmbiguousFraming "ambiguous_framing" "Content-Length and Transfer-Encoding do not say one clear body length.";
    InvalidHost "invalid_host" "Host is missing, repeated, malformed, or differs from the target's authority.";
    AmbiguousPath "ambiguous_path" "The path has dot segments, a backslash, a control byte or a broken percent-encoding.";
    UnsupportedVersion "unsupported_version" "The request line names a version other than HTTP/1.0 or HTTP/1.1.";
    UnsupportedMethod "unsupported_method" "CONNECT and TRACE are not served.";
    UnsupportedExpectation "unsupported_expectation" "Expect asks for something other than 100-continue.";
    MalformedBody "malformed_body" "The request body breaks its own framing (bad chunk, short body).";
    HeaderTooLarge "header_too_large" "The request head is larger than `client.max_header_bytes` or has too many fields.";
    UriTooLong "uri_too_long" "The request line alone is larger than `client.max_header_bytes`.";
    BodyTooLarge "body_too_large" "The request body is larger than `client.max_body`.";
    ClientTooSlow "client_too_slow" "The request head or body did not arrive in time.";
    DestinationNotFound "destination_not_found" "No route matches the request.";
    HttpRequestDenied "http_request_denied" "A `deny` or `allow_from` rule of the route refused the request, or `cors` a preflight from a foreign origin.";
    RateLimited "rate_limited" "A rate-limit rule refused the request.";
    ProxyInternalError "proxy_internal_error" "A bug of the gateway: a panic was caught.";
    ProxyConfigurationError "proxy_configuration_error" "The configuration turned out impossible at run time.";
    ProxyLoopDetected "proxy_loop_detected" "The request has already passed this gateway (our own Via was seen).";
    ConnectionLimitReached "connection_limit_reached" "More client connections than `client.max_connections`.";
    QueueFull "queue_full" "The upstream's queue of waiting requests is full.";
    QueueTimeout "queue_timeout" "The request waited longer than the queue's time limit.";
    BreakerOpen "breaker_open" "The circuit breaker of every server is open." reserved;
    DestinationUnavailable "destination_unavailable" "No healthy server is left in the upstream." reserved;
    LimiterUnavailable "limiter_unavailable" "The rate-limit store failed and its policy is to refuse.";
    ResourceExhausted "resource_exhausted" "The machine is out of descriptors, ports or memory.";
    Draining "draining" "The gateway starts or shuts down; only `/readyz` says so." reserved;
    DnsError "dns_error" "The upstream's name has no address.";
    DnsTimeout "dns_timeout" "The upstream's name was not resolved in time." reserved;
    DestinationIpUnroutable "destination_ip_unroutable" "There is no route to the upstream's address.";
    ConnectionRefused "connection_refused" "The upstream refused the connection.";
    ConnectionTerminated "connection_terminated" "The upstream closed or reset the connection before its response head was whole.";
    ConnectionWriteError "connection_write_error" "Writing the request to the upstream failed." reserved;
    TlsProtocolError "tls_protocol_error" "TLS with the upstream failed, most often in the handshake.";
    TlsCertificateError "tls_certificate_error" "The upstream's certificate was not accepted.";
    HttpProtocolError "http_protocol_error" "The upstream's bytes are not a valid HTTP response.";
    HttpResponseHeaderSectionSize "http_response_header_section_size" "The upstream's response head is too large.";
    HttpUpgradeFailed "http_upgrade_failed" "The upgrade was not carried through.";
    HttpResponseIncomplete "http_response_incomplete" "The upstream's response body ended early.";
    ConnectionTimeout "connection_timeout" "The upstream did not accept the connection in time.";
    TlsTimeout "tls_timeout" "The TLS handshake with the upstream took too long.";
    HttpResponseTimeout "http_response_timeout" "The whole response head did not arrive in time.";
    DeadlineExceeded "deadline_exceeded" "The request's total time was used up.";
    ConnectionReadTimeout "connection_read_timeout" "The upstream fell silent inside its response.";
    ConnectionWriteTimeout "connection_write_timeout" "The upstream did not take the request's bytes in time.";
}

impl Cause {
    /// The cause with this stable name.
    pub fn from_name(name: &str) -> Option<Cause> {
        Cause::ALL.iter().copied().find(|cause| cause.name() == name)
    }

    /// Dense index, for tables of counters.
    pub const fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Where in the request's straight line the fault happened. For the log; it never chooses a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Reading the request head.
    RequestHeaders,
    /// Choosing the route.
    Route,
    /// Admission: limits, concurrency, breaker.
    Admit,
    /// Finding and connecting to a server.
    Connect,
    /// Sending the request.
    Send,
    /// Waiting for the response head.
    ResponseHeaders,
    /// Reading an error body that is held back.
    ResponseBody,
    /// Relaying after the head has left.
    Relay,
    /// Anywhere in our own code: a panic.
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

/// So many bytes of what an upstream said are kept for the log: enough to see what answered, too few to fill a disk.
pub const EXCERPT_LIMIT: usize = 256;

/// What we know beyond the cause: an error's text, a byte that was wrong. For the log only.
///
/// It cannot be read except through [`Evidence::for_log`], and nothing in [`super::reply`] takes one.
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

    /// A fixed sentence: costs nothing.
    pub const fn from_static(text: &'static str) -> Self {
        Evidence(Some(EvidenceText::Fixed(text)))
    }

    /// A text made at run time.
    pub fn owned(text: impl Into<Box<str>>) -> Self {
        Evidence(Some(EvidenceText::Owned(text.into())))
    }

    /// A sentence and the beginning of what the upstream said in the place of a response: at most [`EXCERPT_LIMIT`] bytes of it.
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

    /// The text, for a log line and nothing else.
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

/// One failure, named where it happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    cause: Cause,
    phase: Phase,
    evidence: Evidence,
    retry_after: Option<u64>,
}

impl Fault {
    /// A fault without evidence.
    pub const fn new(cause: Cause, phase: Phase) -> Self {
        Fault { cause, phase, evidence: Evidence::none(), retry_after: None }
    }

    /// The same fault with evidence for the log.
    #[must_use]
    pub fn with_evidence(mut self, evidence: Evidence) -> Self {
        self.evidence = evidence;
        self
    }

    /// The same fault with the time after which the request may come again: rounded up to seconds, at least 1.
    #[must_use]
    pub const fn with_retry_after(mut self, wait: Duration) -> Self {
        let seconds = wait.as_secs().saturating_add((wait.subsec_nanos() > 0) as u64);
        self.retry_after = Some(if seconds == 0 { 1 } else { seconds });
        self
    }

    /// Why.
    pub const fn cause(&self) -> Cause {
        self.cause
    }

    /// Where.
    pub const fn phase(&self) -> Phase {
        self.phase
    }

    /// When the request may come again, in seconds, where that is known.
    pub const fn retry_after(&self) -> Option<u64> {
        self.retry_after
    }

    /// What the log may say about it.
    pub const fn evidence(&self) -> &Evidence {
        &self.evidence
    }
}

/// Whether the request reached the upstream. Never falsely [`RequestSent::None`]: a client may repeat such a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RequestSent {
    /// Not a byte of it.
    #[default]
    None,
    /// Some of its bytes may have arrived.
    Partial,
    /// All of it was handed to the transport.
    Full,
}

impl RequestSent {
    /// The value in bodies and logs.
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
        let text = |sentence, said: &[u8]| Evidence::with_excerpt(sentence, said).for_log().to_owned();
        assert_eq!(text("no head", b"220 mail\r\n"), "no head: 220 mail\r\n");
        assert_eq!(
            (text("", b"x"), text("no head", b""), text("", b"")),
            ("x".into(), "no head".into(), "".into())
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
