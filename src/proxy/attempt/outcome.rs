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
use crate::upstream::breaker::Change;
use crate::upstream::endpoint::AttemptGuard;
use crate::upstream::outcome_window::Outcome;

/// Whether this fault counts as a failure of the upstream. The caller excludes faults while the client was waited for.
fn is_upstream_failure(fault: &Fault) -> bool {
    let cause = fault.cause();
    let of_gateway = matches!(cause, Cause::ProxyInternalError | Cause::ProxyConfigurationError);
    !of_gateway && !cause.is_client_error() && !cause.is_overload()
}

/// Admits the request to the route's upstream, unless its circuit breaker is open.
pub(in crate::proxy) fn pass_breaker(exchange: &mut Exchange<'_>, route: &Route) -> Result<(), Interrupt> {
    let Some(breaker) = route.upstream.breaker() else { return Ok(()) };
    match breaker.admit(Instant::now()) {
        Ok(pass) => {
            exchange.record.breaker_pass = Some(pass);
            Ok(())
        }
        Err(retry_after) => {
            route.upstream_metrics.shed(Cause::BreakerOpen);
            Err(Fault::new(Cause::BreakerOpen, Phase::Admit).with_retry_after(retry_after).into())
        }
    }
}

/// Records the header section of a response: a trial ends with its status.
pub(super) fn responded(exchange: &mut Exchange<'_>, upstream: &UpstreamRuntime, status: u16) {
    if exchange.record.last_attempt.as_ref().is_some_and(AttemptGuard::is_trial) {
        record_status(exchange, upstream, status);
    }
}

/// Records the response of an attempt that is followed by another one: clients do not see it, ejection does.
pub(super) fn response_discarded(exchange: &mut Exchange<'_>, upstream: &UpstreamRuntime, status: u16) {
    if !exchange.record.outcome_recorded {
        record_status(exchange, upstream, status);
    }
}

fn record_status(exchange: &mut Exchange<'_>, upstream: &UpstreamRuntime, status: u16) {
    if let Some(guard) = &mut exchange.record.last_attempt {
        let failed = upstream.is_failure_status(status);
        let outcome = if failed { Outcome::Failure } else { Outcome::Success };
        upstream.record(guard, outcome, Instant::now());
        exchange.record.outcome_recorded = true;
    }
}

/// Records an attempt that failed before the response headers.
pub(super) fn attempt_failed(exchange: &mut Exchange<'_>, upstream: &UpstreamRuntime, fault: &Fault) {
    if is_upstream_failure(fault)
        && let Some(guard) = &mut exchange.record.last_attempt
    {
        upstream.record(guard, Outcome::Failure, Instant::now());
        exchange.record.outcome_recorded = true;
    }
}

/// Records the end of a request.
pub(in crate::proxy) fn conclude(exchange: &mut Exchange<'_>, end: &RequestEnd) {
    let Some(route) = exchange.context.route else { return };
    let record = &mut exchange.record;
    if record.last_attempt.is_none() && record.breaker_pass.is_none() {
        return;
    }
    let upstream = &route.upstream;
    let outcome = match end {
        RequestEnd::Forwarded { .. } | RequestEnd::Replaced { .. } | RequestEnd::TunnelIdle { .. } => {
            let failed = record.upstream_status.is_some_and(|status| upstream.is_failure_status(status));
            Some(if failed { Outcome::Failure } else { Outcome::Success })
        }
        RequestEnd::Replied { fault, .. } | RequestEnd::Aborted { fault, .. } => {
            is_upstream_failure(fault).then_some(Outcome::Failure)
        }
        RequestEnd::Preflight { .. } | RequestEnd::Redirected { .. } | RequestEnd::ClientDisconnected => None,
    };
    let (guard, pass) = (record.last_attempt.as_mut(), record.breaker_pass.take());
    let Some(outcome) = outcome else { return };
    let now = Instant::now();
    if let Some(guard) = guard
        && !record.outcome_recorded
    {
        upstream.record(guard, outcome, now);
    }
    if let Some(pass) = pass {
        match pass.record(outcome, now) {
            Change::None => {}
            Change::Opened => tracing::error!(upstream = upstream.name(), "circuit breaker opened"),
            Change::Closed => tracing::info!(upstream = upstream.name(), "circuit breaker closed"),
        }
    }
}
