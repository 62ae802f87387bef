//! A request as ejection and the circuit breaker see it: whether it is admitted, and its outcome.
//!
//! A failure is a fault of the upstream, or a status in `ejection.failure_status`. What the client caused is neither a
//! failure nor a success.

use std::time::Instant;

use crate::contract::{Cause, Fault, Phase};
use crate::proxy::context::{Exchange, Interrupt};
use crate::proxy::record::RequestEnd;
use crate::snapshot::Route;
use crate::upstream::UpstreamRuntime;
use crate::upstream::attempt_window::AttemptOutcome;
use crate::upstream::breaker::Change;
use crate::upstream::endpoint::AttemptGuard;

/// Whether this fault counts as a failure of the upstream. The caller leaves out faults that occur while the upload
/// waits for the client.
fn is_upstream_failure(fault: &Fault) -> bool {
    let cause = fault.cause();
    let is_gateway_error = matches!(cause, Cause::ProxyInternalError | Cause::ProxyConfigurationError);
    // A stream that lasts until `timeouts.max_duration`, or whose client reads slowly, says nothing about the upstream.
    let is_stream_end = cause == Cause::DeadlineExceeded && fault.phase() == Phase::Relay;
    // The deadline passed in the queue: nothing was sent.
    let before_attempts = fault.phase() == Phase::Admit;
    !is_gateway_error
        && !before_attempts
        && !is_stream_end
        && !cause.is_client_error()
        && !cause.is_overload()
}

/// Admits the request to the route's upstream, unless its circuit breaker is open.
pub(in crate::proxy) fn check_breaker(exchange: &mut Exchange<'_>, route: &Route) -> Result<(), Interrupt> {
    let Some(breaker) = route.upstream.breaker() else { return Ok(()) };
    let now = Instant::now();
    match breaker.admit(now) {
        Ok(pass) => {
            exchange.record.breaker_pass = Some(pass);
            Ok(())
        }
        Err(retry_after) => {
            route.upstream_metrics.shed(Cause::BreakerOpen);
            // When the breaker admits a request again, a server must be available too.
            let retry_after = retry_after.max(route.upstream.wait_for_server(now).unwrap_or_default());
            Err(Fault::new(Cause::BreakerOpen, Phase::Admit).with_retry_after(retry_after).into())
        }
    }
}

/// Records the header section of the response that the client gets. A trial ends with it: a stream or tunnel may last
/// for hours, and no other request is admitted during a trial. The end of the response is recorded separately.
pub(super) fn record_final_headers(exchange: &mut Exchange<'_>, upstream: &UpstreamRuntime, status: u16) {
    if exchange.record.outcome_settled {
        // The status is in `retry.on_status`, but no attempt followed: this response is final. A failure was recorded;
        // a success becomes a failure if the response is truncated.
        exchange.record.outcome_settled = upstream.is_failure_status(status);
    }
    if exchange.record.last_attempt.as_ref().is_some_and(AttemptGuard::is_trial) {
        record_status(exchange, upstream, status);
    }
    if let Some(pass) = &mut exchange.record.breaker_pass
        && pass.is_trial()
    {
        log_change(upstream, pass.end_trial(outcome_of_status(upstream, status), Instant::now()));
    }
}

/// Records a response whose status is in `retry.on_status`, before another attempt is tried. Ejection counts every
/// attempt; the breaker counts only the result of the request.
pub(super) fn record_retryable_response(
    exchange: &mut Exchange<'_>,
    upstream: &UpstreamRuntime,
    status: u16,
) {
    record_status(exchange, upstream, status);
    exchange.record.outcome_settled = true;
}

fn record_status(exchange: &mut Exchange<'_>, upstream: &UpstreamRuntime, status: u16) {
    if let Some(guard) = &mut exchange.record.last_attempt {
        upstream.record(guard, outcome_of_status(upstream, status), Instant::now());
    }
}

fn outcome_of_status(upstream: &UpstreamRuntime, status: u16) -> AttemptOutcome {
    if upstream.is_failure_status(status) { AttemptOutcome::Failure } else { AttemptOutcome::Success }
}

fn log_change(upstream: &UpstreamRuntime, change: Change) {
    match change {
        Change::None => {}
        Change::Opened => tracing::error!(upstream = upstream.name(), "circuit breaker opened"),
        Change::Closed => tracing::info!(upstream = upstream.name(), "circuit breaker closed"),
    }
}

/// Records an attempt that failed before the response headers.
pub(super) fn attempt_failed(exchange: &mut Exchange<'_>, upstream: &UpstreamRuntime, fault: &Fault) {
    if is_upstream_failure(fault)
        && let Some(guard) = &mut exchange.record.last_attempt
    {
        upstream.record(guard, AttemptOutcome::Failure, Instant::now());
        exchange.record.outcome_settled = true;
    }
}

/// Records a request that has ended now.
pub(in crate::proxy) fn record_end(exchange: &mut Exchange<'_>, end: &RequestEnd, now: Instant) {
    let Some(route) = exchange.context.route else { return };
    let record = &mut exchange.record;
    if record.last_attempt.is_none() && record.breaker_pass.is_none() {
        return;
    }
    let upstream = &route.upstream;
    let outcome = match end {
        RequestEnd::Forwarded { .. } | RequestEnd::Replaced { .. } | RequestEnd::TunnelIdle { .. } => Some(
            record
                .upstream_status
                .map_or(AttemptOutcome::Success, |status| outcome_of_status(upstream, status)),
        ),
        RequestEnd::LocalError { fault, .. } | RequestEnd::Aborted { fault, .. } => {
            is_upstream_failure(fault).then_some(AttemptOutcome::Failure)
        }
        RequestEnd::Preflight { .. }
        | RequestEnd::Redirected { .. }
        | RequestEnd::FixedResponse { .. }
        | RequestEnd::ClientDisconnected { .. } => None,
    };
    let (guard, pass) = (record.last_attempt.as_mut(), record.breaker_pass.take());
    let Some(outcome) = outcome else { return };
    if let Some(guard) = guard
        && !record.outcome_settled
    {
        upstream.record(guard, outcome, now);
    }
    if let Some(pass) = pass {
        log_change(upstream, pass.record(outcome, now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_that_lasts_until_max_duration_is_no_failure_of_the_upstream() {
        let is_failure = |cause, phase| is_upstream_failure(&Fault::new(cause, phase));
        assert!(!is_failure(Cause::DeadlineExceeded, Phase::Relay));
        assert!(is_failure(Cause::DeadlineExceeded, Phase::ResponseHeaders));
        assert!(is_failure(Cause::ConnectionReadTimeout, Phase::Relay));
        assert!(!is_failure(Cause::ClientTooSlow, Phase::Relay));
        assert!(!is_failure(Cause::DeadlineExceeded, Phase::Admit));
        assert!(!is_failure(Cause::QueueFull, Phase::Admit));
        assert!(!is_failure(Cause::ProxyInternalError, Phase::Internal));
    }
}
