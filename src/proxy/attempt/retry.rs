//! Decides whether a failed attempt may be retried. Has no side effects.
//!
//! A request that the upstream may have processed is retried only if its method is idempotent (RFC 9110 9.2.2).

use http::Method;

use crate::contract::{Cause, Phase, RetryRule};

/// What is known about a failed attempt.
#[derive(Clone, Copy, Debug)]
pub(in crate::proxy) struct FailedAttempt<'a> {
    pub(in crate::proxy) cause: Cause,
    pub(in crate::proxy) phase: Phase,
    pub(in crate::proxy) method: &'a Method,
    /// Any byte of a response was received.
    pub(in crate::proxy) response_started: bool,
    /// The upstream reported that it did not process the request: REFUSED_STREAM, or a GOAWAY
    /// whose last stream identifier is lower.
    pub(in crate::proxy) unprocessed: bool,
    /// The request body can be sent again from the beginning.
    pub(in crate::proxy) can_replay: bool,
}

/// Where to send the next attempt, if there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy) enum Retry {
    /// No retry.
    Never,
    /// Only to another server or address.
    OtherServer,
    /// To another server if possible, otherwise to the same one on a new connection.
    AnyServer,
}

/// Decides whether and where to retry.
pub(in crate::proxy) fn decide(attempt: FailedAttempt<'_>) -> Retry {
    if !attempt.can_replay {
        return Retry::Never;
    }
    if attempt.unprocessed {
        return Retry::AnyServer;
    }
    let connecting = attempt.phase == Phase::Connect;
    match attempt.cause.retry_rule() {
        RetryRule::NothingSent => Retry::OtherServer,
        RetryRule::WhileConnecting | RetryRule::BeforeResponse if connecting => Retry::OtherServer,
        // The server closed an idle connection, or crashed during the request.
        RetryRule::BeforeResponse if !attempt.response_started && attempt.method.is_idempotent() => {
            Retry::AnyServer
        }
        RetryRule::WhileConnecting | RetryRule::BeforeResponse | RetryRule::Never => Retry::Never,
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
        let attempt = failed(Cause::HttpProtocolError, &Method::POST);
        assert_eq!(decide(FailedAttempt { phase: Phase::Connect, ..attempt }), Retry::OtherServer);
        assert_eq!(decide(attempt), Retry::Never);
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
