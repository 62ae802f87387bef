//! Decides whether a failed attempt may be retried. Has no side effects.
//!
//! A request that the upstream may have processed is retried only if its method is idempotent (RFC 9110 9.2.2).

use http::Method;

use super::ConnectionFacts;
use crate::contract::{Cause, Phase, RetryRule};

/// What is known about a failed attempt.
#[derive(Clone, Copy, Debug)]
pub(in crate::proxy) struct FailedAttempt<'a> {
    pub(in crate::proxy) cause: Cause,
    pub(in crate::proxy) phase: Phase,
    pub(in crate::proxy) method: &'a Method,
    pub(super) connection: ConnectionFacts,
    /// The replay buffer holds all of the request body received so far: it can be sent again.
    pub(in crate::proxy) is_replayable: bool,
    /// The request has credentials that authenticate its connection (NTLM, Negotiate). They belong to a handshake of
    /// that connection, so they are not sent on a second one.
    pub(in crate::proxy) authenticates_connection: bool,
}

/// Whether to send the request again, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy) enum Retry {
    /// No retry.
    Never,
    /// Resend on another connection, not counted as an attempt: the connection failed, not the server. After too many
    /// reconnects it is treated as [`Retry::AnyServer`].
    Reconnect,
    /// Resend over HTTP/1 to the same server, not counted as an attempt: it requires that for this request (RFC 9113
    /// 7).
    OverHttp1,
    /// Only to another server or address.
    OtherServer,
    /// To another server if possible, otherwise to the same one on a new connection.
    AnyServer,
}

/// Decides whether and where to retry.
pub(in crate::proxy) fn decide(attempt: FailedAttempt<'_>) -> Retry {
    if !attempt.is_replayable || (attempt.authenticates_connection && attempt.phase != Phase::Connect) {
        return Retry::Never;
    }
    let ConnectionFacts { maybe_stale, response_started, not_http, unprocessed, requires_http1 } =
        attempt.connection;
    if requires_http1 {
        return Retry::OverHttp1;
    }
    if unprocessed {
        return Retry::Reconnect;
    }
    let idempotent = attempt.method.is_idempotent();
    // What arrives on a reused connection before a response belongs to an earlier request.
    if maybe_stale && idempotent && not_http && attempt.phase == Phase::ResponseHeaders {
        return Retry::Reconnect;
    }
    let connecting = attempt.phase == Phase::Connect;
    match attempt.cause.retry_rule() {
        RetryRule::NothingSent => Retry::OtherServer,
        RetryRule::WhileConnecting | RetryRule::BeforeResponse if connecting => Retry::OtherServer,
        // The server closed a connection that was idle too long. A server that closes a new one has read the request:
        // if the request is what made it fail, another server would fail too.
        RetryRule::BeforeResponse if maybe_stale && !response_started && idempotent => Retry::Reconnect,
        RetryRule::WhileConnecting | RetryRule::BeforeResponse | RetryRule::Never => Retry::Never,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEW: ConnectionFacts = ConnectionFacts {
        maybe_stale: false,
        response_started: false,
        not_http: false,
        unprocessed: false,
        requires_http1: false,
    };
    const REUSED: ConnectionFacts = ConnectionFacts { maybe_stale: true, ..NEW };

    fn failed(cause: Cause, method: &Method) -> FailedAttempt<'_> {
        FailedAttempt {
            cause,
            phase: Phase::ResponseHeaders,
            method,
            connection: NEW,
            is_replayable: true,
            authenticates_connection: false,
        }
    }

    #[test]
    fn failure_to_connect_is_retried_on_another_server_for_any_method() {
        for cause in [
            Cause::ConnectionRefused,
            Cause::ConnectionTimeout,
            Cause::DnsError,
            Cause::DnsTimeout,
            Cause::TlsTimeout,
            Cause::TlsCertificateError,
            Cause::TlsProtocolError,
            Cause::ConnectionTerminated,
        ] {
            let attempt = FailedAttempt { phase: Phase::Connect, ..failed(cause, &Method::POST) };
            assert_eq!(decide(attempt), Retry::OtherServer, "{cause}");
        }
    }

    #[test]
    fn close_before_any_byte_retries_idempotent_methods_on_reused_connections_only() {
        for (connection, decision) in [(NEW, Retry::Never), (REUSED, Retry::Reconnect)] {
            let attempt =
                |method| FailedAttempt { connection, ..failed(Cause::ConnectionTerminated, method) };
            assert_eq!(decide(attempt(&Method::PUT)), decision);
            assert_eq!(decide(attempt(&Method::POST)), Retry::Never);
            let started = ConnectionFacts { response_started: true, ..connection };
            assert_eq!(decide(FailedAttempt { connection: started, ..attempt(&Method::GET) }), Retry::Never);
        }
    }

    #[test]
    fn other_protocol_on_reused_connection_reconnects_idempotent() {
        let not_http = ConnectionFacts { response_started: true, not_http: true, ..REUSED };
        let attempt =
            FailedAttempt { connection: not_http, ..failed(Cause::HttpProtocolError, &Method::GET) };
        assert_eq!(decide(attempt), Retry::Reconnect);
        assert_eq!(decide(FailedAttempt { method: &Method::POST, ..attempt }), Retry::Never);
        let new = ConnectionFacts { maybe_stale: false, ..not_http };
        assert_eq!(decide(FailedAttempt { connection: new, ..attempt }), Retry::Never);
        let response = ConnectionFacts { not_http: false, ..not_http };
        assert_eq!(decide(FailedAttempt { connection: response, ..attempt }), Retry::Never);
    }

    #[test]
    fn unprocessed_request_reconnects_for_any_method() {
        let connection = ConnectionFacts { unprocessed: true, ..NEW };
        let unprocessed = FailedAttempt { connection, ..failed(Cause::ConnectionTerminated, &Method::POST) };
        assert_eq!(decide(unprocessed), Retry::Reconnect);
        assert_eq!(decide(FailedAttempt { is_replayable: false, ..unprocessed }), Retry::Never);
    }

    #[test]
    fn request_for_which_http1_is_required_is_resent_over_http1_for_any_method() {
        let connection = ConnectionFacts { requires_http1: true, ..NEW };
        let refused = FailedAttempt { connection, ..failed(Cause::HttpProtocolError, &Method::POST) };
        assert_eq!(decide(refused), Retry::OverHttp1);
        assert_eq!(decide(FailedAttempt { is_replayable: false, ..refused }), Retry::Never);
    }

    #[test]
    fn credentials_of_a_connection_are_not_sent_on_a_second_one() {
        for connection in [NEW, REUSED, ConnectionFacts { unprocessed: true, ..NEW }] {
            let attempt = failed(Cause::ConnectionTerminated, &Method::GET);
            let attempt = FailedAttempt { connection, authenticates_connection: true, ..attempt };
            assert_eq!(decide(attempt), Retry::Never);
            let connecting = FailedAttempt { phase: Phase::Connect, connection: NEW, ..attempt };
            assert_eq!(decide(connecting), Retry::OtherServer);
        }
    }

    #[test]
    fn protocol_error_while_connecting_is_retried_on_another_server() {
        let attempt = failed(Cause::HttpProtocolError, &Method::POST);
        assert_eq!(decide(FailedAttempt { phase: Phase::Connect, ..attempt }), Retry::OtherServer);
        assert_eq!(decide(attempt), Retry::Never);
    }

    #[test]
    fn later_timeouts_and_requests_without_replay_are_never_retried() {
        for cause in [
            Cause::HttpResponseTimeout,
            Cause::DeadlineExceeded,
            Cause::ConnectionReadTimeout,
            Cause::ConnectionWriteTimeout,
        ] {
            for connection in [NEW, REUSED] {
                let attempt = FailedAttempt { connection, ..failed(cause, &Method::GET) };
                assert_eq!(decide(attempt), Retry::Never, "{cause}");
            }
        }
        for cause in Cause::ALL {
            let without_replay = FailedAttempt { is_replayable: false, ..failed(*cause, &Method::GET) };
            assert_eq!(decide(without_replay), Retry::Never, "{cause}");
        }
    }
}
