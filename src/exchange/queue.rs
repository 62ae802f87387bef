//! Wait for a turn at an upstream whose number of requests is limited (`upstreams.NAME.concurrency`).
//!
//! Who is in line and whose turn it is is decided in [`crate::upstream::concurrency`]; here the wait gets its ends: the
//! turn, the time limits, the client that leaves. While there is room nothing here waits or sets a timer.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Instant;

use super::clock::{Clock, Limit};
use super::downstream::Downstream;
use super::flow::{Stop, Story};
use crate::contract::{Cause, Fault, Phase};
use crate::snapshot::Route;
use crate::upstream::concurrency::{Admission, Concurrency, Permit, Ticket};
use crate::upstream::timer::timeout_at;

/// A permit for the request, or why it gets none; the upstream has seen nothing of it then. `None` where nothing is
/// limited.
pub(super) async fn turn<'a>(
    route: &'a Route,
    clock: &Clock,
    client: &mut Downstream,
    story: &mut Story,
) -> Result<Option<Permit<'a>>, Stop> {
    let Some(concurrency) = &route.concurrency else { return Ok(None) };
    let outcome = match concurrency.try_acquire(story.started) {
        Admission::Permit(permit) => return Ok(Some(permit)),
        Admission::QueueFull => Err(Stop::Fault(Fault::new(Cause::QueueFull, Phase::Admit))),
        Admission::Ticket(place) => {
            let _waiting = route.upstream_metrics.queued();
            wait(place, concurrency, clock, client, story).await
        }
    };
    match outcome {
        Err(Stop::Fault(fault)) => {
            route.upstream_metrics.shed(fault.cause());
            Err(Stop::Fault(match concurrency.estimated_wait(Instant::now()) {
                Some(wait) => fault.with_retry_after(wait),
                None => fault,
            }))
        }
        outcome => outcome.map(Some),
    }
}

async fn wait<'a>(
    mut place: Ticket<'a>,
    concurrency: &Concurrency,
    clock: &Clock,
    client: &mut Downstream,
    story: &mut Story,
) -> Result<Permit<'a>, Stop> {
    let begun = Instant::now();
    let queue = Limit::new(begun + concurrency.limits().queue_timeout, Cause::QueueTimeout, Phase::Admit);
    let limit = queue.or(Some(clock.total(Phase::Admit))).or(clock.whole(Phase::Admit));
    let turn = poll_fn(|cx| match place.poll_permit(cx) {
        Poll::Ready(permit) => Poll::Ready(Ok(permit)),
        Poll::Pending => client.poll_gone(cx).map(|()| Err(Stop::ClientGone)),
    });
    let outcome = timeout_at(limit.at, turn).await;
    // The upstream is what has no room.
    story.waited += begun.elapsed();
    outcome.unwrap_or_else(|| Err(Stop::Fault(limit.fault())))
}
