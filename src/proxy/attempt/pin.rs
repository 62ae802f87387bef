//! Which requests use the pinned connection of their client ([`crate::proxy::pinned`]), and the wait for their turn.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use crate::contract::Phase;
use crate::proxy::context::{Exchange, Interrupt};
use crate::proxy::message::forwarding::PeerTrust;
use crate::proxy::message::request::Request;
use crate::proxy::pinned::{PinSlot, PinTurn};
use crate::proxy::upload::Upload;
use crate::snapshot::Route;
use crate::upstream::http2::HttpVersionPolicy;
use crate::upstream::timer::timeout_at;

/// Where a request takes its turn that authenticates its connection, or whose client has such a connection to the
/// upstream; `None` for all others.
///
/// Many users may share the connection of a trusted proxy. It gets no pinned connection: one user would act as another.
pub(super) fn slot(exchange: &mut Exchange<'_>, route: &Route, request: &Request) -> Option<Arc<PinSlot>> {
    let authenticates = request.authenticates_connection;
    let table = if authenticates { exchange.client.pins_or_new() } else { exchange.client.pins()? };
    if exchange.context.peer == PeerTrust::Trusted {
        return None;
    }
    let upstream = &route.upstream;
    // HTTP/2 shares its connections.
    let http2_only = upstream.transport().http2().version_policy() == HttpVersionPolicy::Http2;
    if http2_only { None } else { table.slot(upstream, authenticates) }
}

/// Waits for the turn of a request, until it is over its deadline or the client disconnects. `None` if the connection is
/// gone and the request opens none.
pub(super) async fn take_turn(
    exchange: &mut Exchange<'_>,
    slot: Arc<PinSlot>,
    request: &Request,
    (route, buffered_body): (&Route, Option<&Upload>),
) -> Result<Option<PinTurn>, Interrupt> {
    let started = Instant::now();
    let deadlines = exchange.context.deadlines(route, buffered_body);
    let limit = deadlines.earliest(Phase::Admit);
    let mut taking = pin!(slot.take_turn());
    let client = &mut *exchange.client;
    let turn = timeout_at(
        limit.at,
        poll_fn(|cx| match taking.as_mut().poll(cx) {
            Poll::Ready(turn) => Poll::Ready(Ok(turn)),
            Poll::Pending => client.poll_disconnect(cx).map(|()| Err(Interrupt::ClientDisconnected)),
        }),
    )
    .await;
    exchange.client.add_wait(started.elapsed());
    let turn = turn.unwrap_or_else(|| Err(Interrupt::Fault(limit.fault())))?;
    Ok((request.authenticates_connection || turn.endpoint().is_some()).then_some(turn))
}
