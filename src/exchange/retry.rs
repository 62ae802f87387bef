//! May the request be sent again after this fault? Pure, and the whole rule in one place.
//!
//! Nothing that may have been processed is repeated, except where repeating is harmless by the method's own definition.

use http::Method;

use crate::contract::{Cause, Phase};

/// What is known of the attempt that failed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Failed<'a> {
    pub(super) cause: Cause,
    pub(super) phase: Phase,
    pub(super) method: &'a Method,
    /// A byte of a response came.
    pub(super) answered: bool,
    /// The upstream has said that it did not look at the request and never will: REFUSED_STREAM, or a GOAWAY that passes
    /// it over.
    pub(super) passed_over: bool,
    /// The same bytes can be sent again.
    pub(super) can_replay: bool,
}

/// Whether and where another attempt goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Retry {
    /// The fault stands.
    No,
    /// To another server or address; without one the fault stands.
    Elsewhere,
    /// To another server if there is one, else to the same on a new connection.
    Anywhere,
}

/// The rule.
pub(super) fn decide(failed: Failed<'_>) -> Retry {
    if !failed.can_replay {
        return Retry::No;
    }
    if failed.passed_over {
        return Retry::Anywhere;
    }
    match failed.cause {
        // Nothing was sent: any method.
        Cause::DnsError
        | Cause::DestinationIpUnroutable
        | Cause::ConnectionRefused
        | Cause::TlsCertificateError => Retry::Elsewhere,
        Cause::ConnectionTerminated | Cause::TlsProtocolError if failed.phase == Phase::Connect => {
            Retry::Elsewhere
        }
        // Closed before any byte of a response: a server that closes idle connections, or one that crashed half-way.
        Cause::ConnectionTerminated | Cause::ConnectionWriteError | Cause::TlsProtocolError
            if !failed.answered && failed.method.is_idempotent() =>
        {
            Retry::Anywhere
        }
        Cause::ConnectionTerminated | Cause::ConnectionWriteError | Cause::TlsProtocolError => Retry::No,
        // Never after a timeout: the time is the client's, and the upstream may still be at work.
        Cause::DnsTimeout
        | Cause::ConnectionTimeout
        | Cause::TlsTimeout
        | Cause::HttpResponseTimeout
        | Cause::DeadlineExceeded
        | Cause::ConnectionReadTimeout
        | Cause::ConnectionWriteTimeout => Retry::No,
        // A server that speaks another protocol: nothing was sent.
        Cause::HttpProtocolError if failed.phase == Phase::Connect => Retry::Elsewhere,
        // The upstream answered, however badly.
        Cause::HttpProtocolError
        | Cause::HttpResponseHeaderSectionSize
        | Cause::HttpUpgradeFailed
        | Cause::HttpResponseIncomplete => Retry::No,
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
        | Cause::Draining => Retry::No,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(cause: Cause, method: &Method) -> Failed<'_> {
        Failed {
            cause,
            phase: Phase::ResponseHeaders,
            method,
            answered: false,
            passed_over: false,
            can_replay: true,
        }
    }

    #[test]
    fn a_refused_connection_is_tried_elsewhere_with_any_method() {
        assert_eq!(decide(failed(Cause::ConnectionRefused, &Method::POST)), Retry::Elsewhere);
    }

    #[test]
    fn a_close_before_any_byte_repeats_only_idempotent_methods() {
        assert_eq!(decide(failed(Cause::ConnectionTerminated, &Method::PUT)), Retry::Anywhere);
        assert_eq!(decide(failed(Cause::ConnectionTerminated, &Method::POST)), Retry::No);
        let answered = Failed { answered: true, ..failed(Cause::ConnectionTerminated, &Method::GET) };
        assert_eq!(decide(answered), Retry::No);
    }

    #[test]
    fn what_the_upstream_passed_over_is_sent_again_with_any_method() {
        let passed_over = Failed { passed_over: true, ..failed(Cause::ConnectionTerminated, &Method::POST) };
        assert_eq!(decide(passed_over), Retry::Anywhere);
        assert_eq!(decide(Failed { can_replay: false, ..passed_over }), Retry::No);
    }

    #[test]
    fn a_server_of_another_protocol_is_left_for_another_one() {
        let fault = failed(Cause::HttpProtocolError, &Method::POST);
        assert_eq!(decide(Failed { phase: Phase::Connect, ..fault }), Retry::Elsewhere);
        assert_eq!(decide(fault), Retry::No);
    }

    #[test]
    fn nothing_is_repeated_after_a_timeout_or_without_the_whole_body() {
        for cause in Cause::ALL
            .iter()
            .filter(|cause| cause.name().contains("timeout") || **cause == Cause::DeadlineExceeded)
        {
            assert_eq!(decide(failed(*cause, &Method::GET)), Retry::No, "{cause}");
        }
        for cause in Cause::ALL {
            let gone = Failed { can_replay: false, ..failed(*cause, &Method::GET) };
            assert_eq!(decide(gone), Retry::No, "{cause}");
        }
    }
}
