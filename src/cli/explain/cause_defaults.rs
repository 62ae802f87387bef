//! What a cause alone leaves open: in which phase it is raised, what is known by then, and how the connection fares.
//!
//! The request path knows these things because it has a request; here they stand as a table of the usual case. The test
//! that compares `explain` with the wire holds every row that can be provoked.

use crate::contract::{Cause, Phase, RequestSent};

/// The usual circumstances of a cause.
#[derive(Clone, Copy, Debug)]
pub(super) struct CauseDefaults {
    /// Where it is raised.
    pub(super) phase: Phase,
    /// A request had been understood by then: its method is known.
    pub(super) has_request: bool,
    /// A route had been found by then.
    pub(super) has_route: bool,
    /// How much of the request had reached the upstream.
    pub(super) request_sent: RequestSent,
    /// What else can be said.
    pub(super) note: Option<&'static str>,
}

impl CauseDefaults {
    /// Of an error that the upstream answered itself.
    pub(super) const FOR_UPSTREAM_RESPONSE: CauseDefaults = CauseDefaults {
        phase: Phase::ResponseHeaders,
        has_request: true,
        has_route: true,
        request_sent: RequestSent::Full,
        note: None,
    };

    /// Of this cause. `has_route` decides where it is raised with a route and without.
    pub(super) const fn for_cause(cause: Cause, has_route: bool) -> CauseDefaults {
        let phase = phase(cause, has_route);
        let request_known = !matches!(phase, Phase::RequestHeaders | Phase::Internal)
            && !matches!(cause, Cause::ConnectionLimitReached | Cause::Draining);
        CauseDefaults {
            phase,
            has_request: request_known,
            has_route: request_known && !matches!(phase, Phase::Route),
            request_sent: default_request_sent(phase),
            note: note(cause, has_route),
        }
    }

    /// The response head has left: nothing can be answered any more.
    pub(super) const fn after_headers_sent(&self) -> bool {
        matches!(self.phase, Phase::Relay)
    }
}

const fn phase(cause: Cause, has_route: bool) -> Phase {
    match cause {
        Cause::ClientTooSlow if has_route => Phase::Send,
        Cause::HttpRequestError
        | Cause::MalformedRequestLine
        | Cause::MalformedHeader
        | Cause::AmbiguousFraming
        | Cause::InvalidHost
        | Cause::UnsupportedVersion
        | Cause::UnsupportedMethod
        | Cause::UnsupportedExpectation
        | Cause::HeaderTooLarge
        | Cause::UriTooLong
        | Cause::ClientTooSlow => Phase::RequestHeaders,

        Cause::AmbiguousPath | Cause::DestinationNotFound => Phase::Route,

        Cause::BodyTooLarge
        | Cause::HttpRequestDenied
        | Cause::RateLimited
        | Cause::ProxyLoopDetected
        | Cause::ConnectionLimitReached
        | Cause::QueueFull
        | Cause::QueueTimeout
        | Cause::BreakerOpen
        | Cause::DestinationUnavailable
        | Cause::LimiterUnavailable
        | Cause::Draining => Phase::Admit,

        Cause::ProxyInternalError | Cause::ProxyConfigurationError => Phase::Internal,

        Cause::ResourceExhausted
        | Cause::DnsError
        | Cause::DnsTimeout
        | Cause::DestinationIpUnroutable
        | Cause::ConnectionRefused
        | Cause::ConnectionTimeout
        | Cause::TlsProtocolError
        | Cause::TlsCertificateError
        | Cause::TlsTimeout => Phase::Connect,

        Cause::MalformedBody | Cause::ConnectionWriteError | Cause::ConnectionWriteTimeout => Phase::Send,

        Cause::ConnectionTerminated
        | Cause::HttpProtocolError
        | Cause::HttpResponseHeaderSectionSize
        | Cause::HttpUpgradeFailed
        | Cause::HttpResponseTimeout
        | Cause::DeadlineExceeded => Phase::ResponseHeaders,

        Cause::HttpResponseIncomplete | Cause::ConnectionReadTimeout => Phase::Relay,
    }
}

const fn default_request_sent(phase: Phase) -> RequestSent {
    match phase {
        Phase::RequestHeaders | Phase::Route | Phase::Admit | Phase::Connect | Phase::Internal => {
            RequestSent::None
        }
        Phase::Send => RequestSent::Partial,
        Phase::ResponseHeaders | Phase::ResponseBody | Phase::Relay => RequestSent::Full,
    }
}

const fn note(cause: Cause, has_route: bool) -> Option<&'static str> {
    match cause {
        Cause::ClientTooSlow if !has_route => {
            Some("This is a request head that came too slowly; with --route, a body that did.")
        }
        Cause::AmbiguousPath => {
            Some("This is a path with dot segments; for other paths the connection is closed as well.")
        }
        Cause::HttpProtocolError => Some("Once the response head has left, the response is cut instead."),
        _ => None,
    }
}
