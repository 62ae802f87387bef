//! Waits until a request may be sent to its upstream: for the lock of its client's pinned connection, and for a
//! concurrency permit (`upstreams.NAME.concurrency`).
//!
//! [`crate::upstream::concurrency`] implements the queue. This file ends the wait on a timeout or when the client
//! disconnects. It sets no timer while permits are available.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Instant;

use super::pinned_lock;
use crate::contract::{Cause, Fault, Phase};
use crate::proxy::context::{AcquiredPermits, Exchange, Interrupt};
use crate::proxy::deadlines::{RequestDeadlines, TimeLimit};
use crate::proxy::downstream::Downstream;
use crate::proxy::message::request::Request;
use crate::proxy::upload::Upload;
use crate::snapshot::Route;
use crate::upstream::concurrency::{AcquireOutcome, Concurrency, Permit, Ticket};
use crate::upstream::timer::timeout_at;

/// Acquires what a request needs before it is sent to its upstream. On an error, nothing was sent.
pub(in crate::proxy) async fn acquire<'a>(
    exchange: &mut Exchange<'_>,
    route: &'a Route,
    request: &Request,
    buffered_body: Option<&Upload>,
) -> Result<AcquiredPermits<'a>, Interrupt> {
    // The pinned connection comes first: it may already hold a permit.
    let Some(entry) = pinned_lock::entry(exchange, route, request) else {
        let permit = acquire_permit(exchange, route, buffered_body).await?;
        return Ok(AcquiredPermits { permit, pinned: None });
    };
    let deadlines = exchange.context.deadlines(route, buffered_body);
    // Boxed because few requests need it.
    let pinned = Box::pin(pinned_lock::lock(exchange, entry, request, &deadlines)).await?;
    let permit = match &pinned {
        Some(pinned) if pinned.has_permit() => None,
        Some(_) | None => acquire_permit(exchange, route, buffered_body).await?,
    };
    Ok(AcquiredPermits { permit, pinned })
}

/// Acquires a concurrency permit; `None` when the route's upstream has no limit.
async fn acquire_permit<'a>(
    exchange: &mut Exchange<'_>,
    route: &'a Route,
    buffered_body: Option<&Upload>,
) -> Result<Option<Permit<'a>>, Interrupt> {
    let Some(concurrency) = &route.concurrency else { return Ok(None) };
    // When the permit is acquired. For a request that has not waited, `started` is close enough and saves reading the
    // clock.
    let waited = buffered_body.is_some() || route.limits_need_io;
    let now = if waited { Instant::now() } else { exchange.context.started };
    let outcome = match concurrency.try_acquire(now) {
        AcquireOutcome::Permit(permit) => return Ok(Some(permit)),
        AcquireOutcome::QueueFull => Err(Interrupt::Fault(Fault::new(Cause::QueueFull, Phase::Admit))),
        AcquireOutcome::Ticket(ticket) => {
            let _waiting = route.upstream_metrics.queued();
            let deadlines = exchange.context.deadlines(route, buffered_body);
            let queued_at = Instant::now();
            let outcome = wait_for_permit(ticket, concurrency, &deadlines, exchange.client).await;
            exchange.record.queue_time = Some(queued_at.elapsed());
            outcome
        }
    };
    match outcome {
        Err(Interrupt::Fault(fault)) => {
            route.upstream_metrics.shed(fault.cause());
            Err(Interrupt::Fault(match concurrency.estimated_wait(Instant::now()) {
                Some(retry_after) => fault.with_retry_after(retry_after),
                None => fault,
            }))
        }
        outcome => outcome.map(Some),
    }
}

/// Waits until the ticket becomes a permit, the earliest time limit passes or the client disconnects.
async fn wait_for_permit<'a>(
    mut ticket: Ticket<'a>,
    concurrency: &Concurrency,
    deadlines: &RequestDeadlines,
    client: &mut Downstream,
) -> Result<Permit<'a>, Interrupt> {
    let started = Instant::now();
    let queue_limit =
        TimeLimit::new(started + concurrency.limits().queue_timeout, Cause::QueueTimeout, Phase::Admit);
    let limit = queue_limit.earlier(Some(deadlines.earliest(Phase::Admit)));
    let permit_future = poll_fn(|cx| match ticket.poll_permit(cx) {
        Poll::Ready(permit) => Poll::Ready(Ok(permit)),
        Poll::Pending => client.poll_disconnect(cx).map(|()| Err(Interrupt::ClientDisconnected)),
    });
    let outcome = timeout_at(limit.at, permit_future).await;
    // Queue time counts as time spent waiting for the upstream.
    client.add_wait(started.elapsed());
    outcome.unwrap_or_else(|| Err(Interrupt::Fault(limit.fault())))
}
