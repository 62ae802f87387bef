//! Which requests use the pinned connection of their client ([`crate::proxy::pinned`]), and the wait for its lock.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use crate::contract::Phase;
use crate::proxy::context::{Exchange, Interrupt};
use crate::proxy::deadlines::RequestDeadlines;
use crate::proxy::message::added_request_fields::PeerTrust;
use crate::proxy::message::request::Request;
use crate::proxy::pinned::{PinnedEntry, PinnedLock};
use crate::snapshot::Route;
use crate::upstream::http2::HttpVersionPolicy;
use crate::upstream::timer::timeout_at;

/// The entry whose lock the request must hold: it has NTLM or Negotiate credentials, or its client already has a pinned
/// connection to this upstream. `None` for all other requests.
///
/// Many users may share the connection of a trusted proxy. It gets no pinned connection: one user would act as another.
pub(super) fn entry(
    exchange: &mut Exchange<'_>,
    route: &Route,
    request: &Request,
) -> Option<Arc<PinnedEntry>> {
    let authenticates = request.authenticates_connection;
    let table = if authenticates { exchange.client.pinned_or_new() } else { exchange.client.pinned()? };
    if exchange.context.peer_trust == PeerTrust::Trusted {
        return None;
    }
    let upstream = &route.upstream;
    // HTTP/2 shares its connections.
    let http2_only = upstream.transport().http2().version_policy() == HttpVersionPolicy::Http2;
    if http2_only { None } else { table.entry(upstream, authenticates) }
}

/// Waits for the lock, until the deadline passes or the client disconnects. `None` if the connection was closed
/// meanwhile and the request needs no new one.
pub(super) async fn lock(
    exchange: &mut Exchange<'_>,
    entry: Arc<PinnedEntry>,
    request: &Request,
    deadlines: &RequestDeadlines,
) -> Result<Option<PinnedLock>, Interrupt> {
    let started = Instant::now();
    let limit = deadlines.earliest(Phase::Admit);
    let mut locking = pin!(entry.lock());
    let client = &mut *exchange.client;
    let pinned = timeout_at(
        limit.at,
        poll_fn(|cx| match locking.as_mut().poll(cx) {
            Poll::Ready(pinned) => Poll::Ready(Ok(pinned)),
            Poll::Pending => client.poll_disconnect(cx).map(|()| Err(Interrupt::ClientDisconnected)),
        }),
    )
    .await;
    exchange.client.add_wait(started.elapsed());
    let pinned = pinned.unwrap_or_else(|| Err(Interrupt::Fault(limit.fault())))?;
    Ok((request.authenticates_connection || pinned.endpoint().is_some()).then_some(pinned))
}
