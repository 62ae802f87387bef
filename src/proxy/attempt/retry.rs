//! May the request be sent again after this fault? Pure, and the whole rule in one place.
//!
//! Nothing that may have been processed is repeated, except where repeating is harmless by the method's own definition.

use http::Method;

use crate::contract::{Cause, Phase};

/// What is known of the attempt that failed.
#[derive(Clone, Copy, Debug)]
pub(in crate::proxy) struct FailedAttempt<'a> {
    pub(in crate::proxy) cause: Cause,
    pub(in crate::proxy) phase: Phase,
    pub(in crate::proxy) method: &'a Method,
    /// A byte of a response came.
    pub(in crate::proxy) response_started: bool,
    /// The upstream has said that it did not look at the request and never will: REFUSED_STREAM, or a GOAWAY that passes
    /// it over.
    pub(in crate::proxy) unprocessed: bool,
    /// The same bytes can be sent again.
    pub(in crate::proxy) can_replay: bool,
}

/// Whether and where another attempt goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy) enum Retry {
    /// The fault stands.
    Never,
    /// To another server or address; without one the fault stands.
    OtherServer,
    /// To another server if there is one, else to the same on a new connection.
    AnyServer,
}

/// The rule.
pub(in crate::proxy) fn decide(attempt: FailedAttempt<'_>) -> Retry {
    if !attempt.can_replay {
        return Retry::Never;
    }
    if attempt.unprocessed {
        return Retry::AnyServer;
    }
    match attempt.cause {
        // Nothing was sent: any method.
        Cause::DnsError
        | Cause::DestinationIpUnroutable
        | Cause::ConnectionRefused
        | Cause::TlsCertificateError => Retry::OtherServer,
        Cause::ConnectionTerminated | Cause::TlsProtocolError if attempt.phase == Phase::Connect => {
            Retry::OtherServer
        }
        // Closed before any byte of a response: a server that closes idle connections, or one that crashed half-way.
        Cause::ConnectionTerminated | Cause::ConnectionWriteError | Cause::TlsProtocolError
            if !attempt.response_started && attempt.method.is_idempotent() =>
        {
            Retry::AnyServer
        }
        Cause::ConnectionTerminated | Cause::ConnectionWriteError | Cause::TlsProtocolError => Retry::Never,
        // Never after a timeout: the time is the client's, and the upstream may still be at work.
        Cause::DnsTimeout
        | Cause::ConnectionTimeout
        | Cause::TlsTimeout
        | Cause::HttpResponseTimeout
        | Cause::DeadlineExceeded
        | Cause::ConnectionReadTimeout
        | Cause::ConnectionWriteTimeout => Retry::Never,
        // A server that speaks another protocol: nothing was sent.
        Cause::HttpProtocolError if attempt.phase == Phase::Connect => Retry::OtherServer,
        // The upstream answered, however badly.
        Cause::HttpProtocolError
        | Cause::HttpResponseHeaderSectionSize
        | Cause::HttpUpgradeFailed
        | Cause::HttpResponseIncomplete => Retry::Never,
        // The client's doing, or ours: another server changes nothing.
        Cause::HttpRequestError
        | Cause::MalformedRequestLine
        | Cause::MalformedHeader
        | Cause::AmbiguousFraming
        | Cause::InvalidHost
        | Cause::AmbiguousPath
        | Cause::UnsupportedVersion
        | Cause::UnsupportedMethod
        | Cause::UnsupportedExpectation
        | Cause::MalformedBody
        | Cause::HeaderTooLarge
        | Cause::UriTooLong
        | Cause::BodyTooLarge
        | Cause::ClientTooSlow
        | Cause::DestinationNotFound
        | Cause::HttpRequestDenied
        | Cause::RateLimited
        | Cause::ProxyInternalError
        | Cause::ProxyConfigurationError
        | Cause::ProxyLoopDetected
        | Cause::ConnectionLimitReached
        | Cause::QueueFull
        | Cause::QueueTimeout
        | Cause::BreakerOpen
        | Cause::DestinationUnavailable
        | Cause::LimiterUnavailable
        | Cause::ResourceExhausted
        | Cause::Draining => Retry::Never,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(cause: Cause, method: &Method) -> FailedAttempt<'_> {
        FailedAttempt {
            cause,
            phase: Phase::ResponseHeaders,
            method,
            response_started: false,
            unprocessed: false,
            can_replay: true,
        }
    }

    #[test]
    fn refused_connection_is_retried_on_another_server_for_any_method() {
        assert_eq!(decide(failed(Cause::ConnectionRefused, &Method::POST)), Retry::OtherServer);
    }

    #[test]
    fn close_before_any_byte_retries_idempotent_methods_only() {
        assert_eq!(decide(failed(Cause::ConnectionTerminated, &Method::PUT)), Retry::AnyServer);
        assert_eq!(decide(failed(Cause::ConnectionTerminated, &Method::POST)), Retry::Never);
        let started =
            FailedAttempt { response_started: true, ..failed(Cause::ConnectionTerminated, &Method::GET) };
        assert_eq!(decide(started), Retry::Never);
    }

    #[test]
    fn unprocessed_request_is_retried_for_any_method() {
        let unprocessed =
            FailedAttempt { unprocessed: true, ..failed(Cause::ConnectionTerminated, &Method::POST) };
        assert_eq!(decide(unprocessed), Retry::AnyServer);
        assert_eq!(decide(FailedAttempt { can_replay: false, ..unprocessed }), Retry::Never);
    }

    #[test]
    fn protocol_error_while_connecting_is_retried_on_another_server() {
        let fault = failed(Cause::HttpProtocolError, &Method::POST);
        assert_eq!(decide(FailedAttempt { phase: Phase::Connect, ..fault }), Retry::OtherServer);
        assert_eq!(decide(fault), Retry::Never);
    }

    #[test]
    fn timeouts_and_requests_without_replay_are_never_retried() {
        for cause in Cause::ALL
            .iter()
            .filter(|cause| cause.name().contains("timeout") || **cause == Cause::DeadlineExceeded)
        {
            assert_eq!(decide(failed(*cause, &Method::GET)), Retry::Never, "{cause}");
        }
        for cause in Cause::ALL {
            let without_replay = FailedAttempt { can_replay: false, ..failed(*cause, &Method::GET) };
            assert_eq!(decide(without_replay), Retry::Never, "{cause}");
        }
    }
}
