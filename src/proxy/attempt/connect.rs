//! Gets a connection for an attempt: from the pool, a stream of a shared HTTP/2 connection, or a new connection.
//!
//! A new connection is opened to the first address of the server that accepts it. An address that fails, also in the
//! TLS handshake, is followed by the next one within the same attempt.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use pingora::protocols::Stream;

use crate::contract::{Cause, Evidence, Fault, Phase};
use crate::proxy::context::{Exchange, Forwarding, Interrupt};
use crate::proxy::deadlines::TimeLimit;
use crate::proxy::downstream::Downstream;
use crate::proxy::upstream_conn::UpstreamConn;
use crate::upstream::Candidate;
use crate::upstream::endpoint::Endpoint;
use crate::upstream::http2::{HttpVersionPolicy, Reusable};
use crate::upstream::timer::timeout_at;

/// Which open connections an attempt may use instead of a new one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reuse {
    /// A pooled HTTP/1 connection that was idle for at most this long; none if `None`.
    pub(super) pooled_for: Option<Duration>,
    /// The HTTP/2 connections whose streams may be used.
    pub(super) shared: Reusable,
}

/// A connection for one attempt.
pub(super) struct AcquiredConnection {
    pub(super) conn: UpstreamConn,
    /// It served another request before, or serves one now.
    pub(super) reused: bool,
}

/// A new connection.
struct NewConnection {
    candidate: Candidate,
    stream: Stream,
    /// ALPN selected HTTP/2.
    negotiated_h2: bool,
}

/// Takes a connection from the pool or opens one: an HTTP/2 stream if the request and the server can use it, otherwise
/// an HTTP/1 connection.
pub(super) async fn acquire_connection(
    exchange: &mut Exchange<'_>,
    forwarding: &mut Forwarding<'_>,
    candidate: &Candidate,
    reuse: Reuse,
) -> Result<AcquiredConnection, Interrupt> {
    if let Some(conn) = forwarding.take_pinned() {
        forwarding.route.upstream_metrics.connection(true);
        return Ok(AcquiredConnection { conn, reused: true });
    }
    // An NTLM exchange starts on a connection that no other request has used.
    let pooled_for = reuse.pooled_for.filter(|_| !forwarding.request.authenticates_connection);
    let reuse = Reuse { pooled_for, ..reuse };
    let transport = forwarding.route.upstream.transport();
    // Upgrades and connection-based authentication (NTLM, Negotiate) need an HTTP/1 connection.
    if !forwarding.needs_http1() && transport.http2().may_serve(candidate) {
        // Boxed because most upstreams use HTTP/1: their futures should not include this one.
        return Box::pin(acquire_stream(exchange, forwarding, candidate, reuse)).await;
    }
    if let Some(pooled) = reuse_h1(forwarding, candidate, reuse) {
        return Ok(pooled);
    }
    // Boxed because most attempts reuse a connection.
    let opened = Box::pin(open_connection(exchange, forwarding, candidate)).await?;
    if opened.negotiated_h2 {
        // The server has switched to HTTP/2 since the last TLS handshake.
        return Box::pin(start_http(exchange, forwarding, opened)).await;
    }
    let conn = UpstreamConn::h1(opened.stream, opened.candidate, forwarding.request.framing);
    Ok(AcquiredConnection { conn, reused: false })
}

/// Takes an idle HTTP/1 connection from the pool.
fn reuse_h1(forwarding: &Forwarding<'_>, candidate: &Candidate, reuse: Reuse) -> Option<AcquiredConnection> {
    let route = forwarding.route;
    let stream = route.upstream.transport().reuse(candidate, reuse.pooled_for?)?;
    route.upstream_metrics.connection(true);
    let candidate = Candidate::new(Arc::clone(candidate.endpoint()));
    Some(AcquiredConnection {
        conn: UpstreamConn::h1(stream, candidate, forwarding.request.framing),
        reused: true,
    })
}

/// Acquires a stream on a shared HTTP/2 connection.
fn reuse_h2(forwarding: &Forwarding<'_>, candidate: &Candidate, reuse: Reuse) -> Option<AcquiredConnection> {
    let route = forwarding.route;
    let slot = route.upstream.transport().http2().acquire_stream(candidate, reuse.shared)?;
    route.upstream_metrics.connection(true);
    Some(AcquiredConnection { conn: UpstreamConn::h2(slot, forwarding.request.framing), reused: true })
}

/// Acquires a stream on a shared HTTP/2 connection, or an HTTP/1 connection if the server does not support HTTP/2.
async fn acquire_stream(
    exchange: &mut Exchange<'_>,
    forwarding: &mut Forwarding<'_>,
    candidate: &Candidate,
    reuse: Reuse,
) -> Result<AcquiredConnection, Interrupt> {
    let http2 = forwarding.route.upstream.transport().http2();
    if let Some(shared) = reuse_h2(forwarding, candidate, reuse) {
        return Ok(shared);
    }
    // The request that holds the connect lock has a timeout for each step: connect, TLS, SETTINGS. The other
    // requests wait for at most the sum of these timeouts.
    let timeouts = forwarding.route.timeouts();
    let tls_timeout = if candidate.tls_name.is_some() { timeouts.tls } else { Duration::ZERO };
    let at = Instant::now() + timeouts.connect + tls_timeout + timeouts.connect;
    let limit = forwarding
        .with_deadlines(TimeLimit::new(at, Cause::ConnectionTimeout, Phase::Connect), Phase::Connect);
    let started = Instant::now();
    let connect_guard =
        cancel_on_disconnect(exchange.client, timeout_at(limit.at, http2.lock_connect(candidate))).await;
    exchange.client.add_wait(started.elapsed());
    let Some(connect_guard) = connect_guard? else { return Err(limit.fault().into()) };
    if let Some(shared) = reuse_h2(forwarding, candidate, reuse) {
        return Ok(shared);
    }
    if !http2.may_serve(candidate) {
        // The previous holder of the lock found that the server uses HTTP/1: every request opens its own connection.
        drop(connect_guard);
        if let Some(pooled) = reuse_h1(forwarding, candidate, reuse) {
            return Ok(pooled);
        }
    }
    let opened = open_connection(exchange, forwarding, candidate).await?;
    start_http(exchange, forwarding, opened).await
}

/// Starts HTTP/2 or HTTP/1 on a new connection, as ALPN selected. Without TLS there is no ALPN: this function is then
/// called only for an upstream that is configured to use HTTP/2.
async fn start_http(
    exchange: &mut Exchange<'_>,
    forwarding: &mut Forwarding<'_>,
    opened: NewConnection,
) -> Result<AcquiredConnection, Interrupt> {
    let NewConnection { candidate, stream, negotiated_h2 } = opened;
    let http2 = forwarding.route.upstream.transport().http2();
    let framing = forwarding.request.framing;
    if candidate.tls_name.is_some() {
        http2.set_negotiated(&candidate, negotiated_h2);
    }
    if candidate.tls_name.is_none() || negotiated_h2 {
        let started = Instant::now();
        let attempt_limit = TimeLimit::new(
            started + forwarding.route.timeouts().connect,
            Cause::ConnectionTimeout,
            Phase::Connect,
        );
        let limit = forwarding.with_deadlines(attempt_limit, Phase::Connect);
        let slot = cancel_on_disconnect(
            exchange.client,
            timeout_at(limit.at, http2.start_connection(&candidate, stream)),
        )
        .await;
        exchange.client.add_wait(started.elapsed());
        return match slot? {
            Some(slot) => Ok(AcquiredConnection { conn: UpstreamConn::h2(slot?, framing), reused: false }),
            None => Err(limit.fault().with_evidence(Evidence::from_static("no SETTINGS received")).into()),
        };
    }
    if http2.version_policy() == HttpVersionPolicy::Http2 {
        let evidence = Evidence::from_static("the server did not select HTTP/2 (ALPN)");
        return Err(Fault::new(Cause::TlsProtocolError, Phase::Connect).with_evidence(evidence).into());
    }
    Ok(AcquiredConnection { conn: UpstreamConn::h1(stream, candidate, framing), reused: false })
}

/// Opens a new connection to the first address that accepts one, with TLS if configured.
async fn open_connection(
    exchange: &mut Exchange<'_>,
    forwarding: &mut Forwarding<'_>,
    candidate: &Candidate,
) -> Result<NewConnection, Interrupt> {
    // If upstream connections used up all file descriptors, the listeners could not accept connections.
    let (gateway, snapshot) = (exchange.context.gateway, exchange.context.snapshot);
    if gateway.is_at_upstream_limit(snapshot) {
        let evidence = Evidence::from_static("the file descriptors for upstream connections are used up");
        forwarding.route.upstream_metrics.shed(Cause::ResourceExhausted);
        return Err(Fault::new(Cause::ResourceExhausted, Phase::Connect).with_evidence(evidence).into());
    }
    let upstream = &forwarding.route.upstream;
    let mut addresses = candidate.addresses();
    loop {
        let (endpoint, stream) = connect_first(exchange, forwarding, &mut addresses).await?;
        let candidate = Candidate::new(endpoint);
        match tls_handshake(exchange, forwarding, &candidate, stream).await {
            Ok((stream, negotiated_h2)) => {
                forwarding.route.upstream_metrics.connection(false);
                return Ok(NewConnection { candidate, stream, negotiated_h2 });
            }
            Err(Interrupt::Fault(fault)) if !addresses.is_empty() && is_address_specific(&fault) => {
                let now = Instant::now();
                candidate.state.connect_failed(now);
                if let Some(guard) = &mut exchange.record.last_attempt {
                    upstream.address_failed(guard, candidate.endpoint(), now);
                }
            }
            Err(interrupt) => return Err(interrupt),
        }
    }
}

/// Whether another address of the server may succeed where this one failed.
fn is_address_specific(fault: &Fault) -> bool {
    !matches!(fault.cause(), Cause::DeadlineExceeded | Cause::ProxyConfigurationError)
}

/// Connects to one of `addresses` (TCP or Unix socket). Removes that address, and those that failed, from the list.
async fn connect_first(
    exchange: &mut Exchange<'_>,
    forwarding: &Forwarding<'_>,
    addresses: &mut Vec<Arc<Endpoint>>,
) -> Result<(Arc<Endpoint>, Stream), Interrupt> {
    let (route, started) = (forwarding.route, Instant::now());
    let deadline = forwarding.deadlines.earliest(Phase::Connect);
    let open = &exchange.context.gateway.open_upstream_connections;
    let connecting =
        route.upstream.transport().connect_first(addresses, route.timeouts().connect, deadline.at, open);
    // Boxed because the future is large and most requests reuse a connection.
    let outcome = cancel_on_disconnect(exchange.client, Box::pin(connecting)).await;
    let (elapsed, now) = (started.elapsed(), Instant::now());
    exchange.client.add_wait(elapsed);
    let outcome = outcome?;
    exchange.record.connect_time = Some(elapsed);
    route.upstream_metrics.connect_time(elapsed);
    let guard = exchange.record.last_attempt.as_mut();
    match outcome.result {
        Ok((endpoint, stream)) => {
            if let Some(guard) = guard {
                route.upstream.connected_after(guard, &endpoint, &outcome.failed, now);
            }
            let failed =
                |address: &Arc<Endpoint>| outcome.failed.iter().any(|failed| Arc::ptr_eq(failed, address));
            addresses.retain(|address| !Arc::ptr_eq(address, &endpoint) && !failed(address));
            Ok((endpoint, stream))
        }
        Err(fault) => {
            // The failure of the attempt's own address is recorded with the attempt; here, those of the other
            // addresses.
            if let Some(guard) = guard {
                let at = Arc::clone(guard.endpoint());
                for endpoint in outcome.failed.iter().filter(|endpoint| !Arc::ptr_eq(endpoint, &at)) {
                    route.upstream.address_failed(guard, endpoint, now);
                }
            }
            let timed_out = fault.cause() == Cause::ConnectionTimeout && now >= deadline.at;
            Err(if timed_out { deadline.fault().into() } else { fault.into() })
        }
    }
}

/// Performs the TLS handshake if the server uses TLS. The flag is true if ALPN selected HTTP/2.
async fn tls_handshake(
    exchange: &mut Exchange<'_>,
    forwarding: &mut Forwarding<'_>,
    candidate: &Candidate,
    stream: Stream,
) -> Result<(Stream, bool), Interrupt> {
    let Some(name) = &candidate.tls_name else { return Ok((stream, false)) };
    let started = Instant::now();
    let attempt_limit =
        TimeLimit::new(started + forwarding.route.timeouts().tls, Cause::TlsTimeout, Phase::Connect);
    let limit = forwarding.with_deadlines(attempt_limit, Phase::Connect);
    let transport = forwarding.route.upstream.transport();
    let time_left = limit.at.saturating_duration_since(started);
    let handshake = transport.encrypt(stream, name, time_left, forwarding.needs_http1());
    let stream = cancel_on_disconnect(exchange.client, handshake).await;
    let elapsed = started.elapsed();
    exchange.client.add_wait(elapsed);
    let stream = stream?;
    forwarding.route.upstream_metrics.tls_time(elapsed);
    match stream {
        Err(fault) if fault.cause() == Cause::TlsTimeout => Err(limit.fault().into()),
        Ok(_) | Err(_) => Ok(stream?),
    }
}

/// Cancels `future` when an HTTP/2 client resets its stream. Otherwise a client that opens and resets streams quickly
/// could start more upstream connections than it may have streams (rapid reset). An HTTP/1 client has one request at a
/// time on a connection, so it does not need this.
async fn cancel_on_disconnect<T>(
    client: &mut Downstream,
    future: impl Future<Output = T>,
) -> Result<T, Interrupt> {
    let is_h2 = client.is_h2();
    let mut future = pin!(future);
    poll_fn(|cx| {
        // Check the client first, so that nothing starts for a stream that was already reset.
        if is_h2 && client.poll_disconnect(cx).is_ready() {
            return Poll::Ready(Err(Interrupt::ClientDisconnected));
        }
        future.as_mut().poll(cx).map(Ok)
    })
    .await
}
