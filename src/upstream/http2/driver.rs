//! Runs one upstream HTTP/2 connection: the handshake, the task that reads and writes frames, and the close.
//!
//! PINGs are only sent after a stream timed out. gRPC servers close connections of clients that send more than two
//! PINGs in five minutes without data (`too_many_pings`).

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::{Ping, PingPong};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;

use super::goaway_observer::{GoAwayObserver, ObservedState};
use super::{ConnectionState, IdleLimit, MAX_STREAMS, SharedConnection};
use crate::contract::{Cause, Evidence, Fault, Phase};

/// Receive window of a stream, in bytes.
const STREAM_WINDOW: u32 = 64 * 1024;
/// Receive window of the connection: the sum of all stream windows, so that a slow client cannot block other streams.
const CONNECTION_WINDOW: u32 = STREAM_WINDOW * MAX_STREAMS as u32;
/// Largest header list that the `h2` crate accepts.
const LIBRARY_MAX_HEADER_LIST: u32 = 256 * 1024;
/// Time for a PING acknowledgement.
const PING_TIMEOUT: Duration = Duration::from_secs(2);
/// Time for writing the final GOAWAY.
const GOAWAY_TIMEOUT: Duration = Duration::from_secs(1);

/// Reads and writes the frames.
type H2Connection<S> = h2::client::Connection<GoAwayObserver<S>, Bytes>;

/// Exchanges connection prefaces (RFC 9113 3.4) and spawns the driver. Waits for the server's SETTINGS, which confirm
/// HTTP/2 and the number of streams. The connection starts with one acquired slot.
pub(super) async fn start<S>(stream: S, idle_limit: IdleLimit) -> Result<Arc<SharedConnection>, Fault>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let observed = Arc::new(ObservedState::default());
    let failed = |error: h2::Error| handshake_fault(&observed, &error);
    let mut options = h2::client::Builder::new();
    options
        .enable_push(false)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(LIBRARY_MAX_HEADER_LIST);
    let observer = GoAwayObserver::new(stream, Arc::clone(&observed));
    let (send, mut h2_connection) = options.handshake::<_, Bytes>(observer).await.map_err(failed)?;
    let ping = h2_connection.ping_pong();
    poll_fn(|cx| match Pin::new(&mut h2_connection).poll(cx) {
        Poll::Ready(Err(error)) => Poll::Ready(Err(failed(error))),
        Poll::Ready(Ok(())) => Poll::Ready(Err(closed_before_settings())),
        Poll::Pending if observed.settings_received() => Poll::Ready(Ok(())),
        Poll::Pending => Poll::Pending,
    })
    .await?;
    if send.current_max_send_streams() == 0 {
        let evidence =
            Evidence::from_static("the server allows no stream (SETTINGS_MAX_CONCURRENT_STREAMS: 0)");
        return Err(Fault::new(Cause::HttpProtocolError, Phase::Connect).with_evidence(evidence));
    }
    let state = ConnectionState {
        streams: 1,
        idle_since: Instant::now(),
        probing: false,
        ping_timed_out: false,
        closed: false,
    };
    let connection = Arc::new(SharedConnection {
        opened_at: Instant::now(),
        send: Mutex::new(Some(send)),
        state: Mutex::new(state),
        observed,
        changed: Notify::new(),
    });
    let driver = ConnectionDriver { connection: Arc::clone(&connection), idle_limit };
    tokio::spawn(driver.run(h2_connection, ping));
    Ok(connection)
}

fn closed_before_settings() -> Fault {
    let evidence = Evidence::from_static("connection closed before SETTINGS");
    Fault::new(Cause::ConnectionTerminated, Phase::Connect).with_evidence(evidence)
}

/// Maps a failed handshake to a [`Fault`].
fn handshake_fault(observed: &ObservedState, error: &h2::Error) -> Fault {
    let unexpected_bytes = observed.unexpected_bytes();
    if !unexpected_bytes.is_empty() {
        let evidence = Evidence::with_excerpt("the server does not use HTTP/2", &unexpected_bytes);
        return Fault::new(Cause::HttpProtocolError, Phase::Connect).with_evidence(evidence);
    }
    // With TLS 1.3 a server can reject the handshake late, for example if it requires a client certificate.
    if let Some(tls_error) = observed.tls_error() {
        let evidence = Evidence::owned(tls_error.to_owned());
        return Fault::new(Cause::TlsProtocolError, Phase::Connect).with_evidence(evidence);
    }
    let cause = if error.is_io() { Cause::ConnectionTerminated } else { Cause::HttpProtocolError };
    Fault::new(cause, Phase::Connect).with_evidence(Evidence::owned(error.to_string()))
}

struct ConnectionDriver {
    connection: Arc<SharedConnection>,
    idle_limit: IdleLimit,
}

impl ConnectionDriver {
    /// Reads and writes frames until the connection closes or reaches an idle limit.
    async fn run<S>(self, mut h2_connection: H2Connection<S>, mut ping: Option<PingPong>)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let shared = &*self.connection;
        // When the PING was sent, and the read count at that time.
        let mut ping_sent: Option<(Instant, u64)> = None;
        loop {
            let now = Instant::now();
            let state = *shared.state.lock();
            if let Some((sent_at, read_count)) = ping_sent {
                if shared.observed.read_count() != read_count {
                    ping_sent = None;
                    shared.state.lock().probing = false;
                } else if now >= sent_at + PING_TIMEOUT {
                    shared.state.lock().ping_timed_out = true;
                    break;
                }
            } else if state.probing {
                ping_sent = Some((now, shared.observed.read_count()));
            }
            if let (Some(_), Some(ping)) = (ping_sent, &mut ping) {
                // An error means that an earlier PING is still unacknowledged, which serves the same purpose.
                let _ = ping.send_ping(Ping::opaque());
            }
            if self.should_close(now) {
                // The sender was dropped, so the `h2` crate sends GOAWAY and closes.
                tokio::select! {
                    _ = &mut h2_connection => {}
                    () = tokio::time::sleep(GOAWAY_TIMEOUT) => {}
                }
                break;
            }
            let wake_at = match ping_sent {
                Some((sent_at, _)) => sent_at + PING_TIMEOUT,
                None if state.streams == 0 => state.idle_since + self.idle_limit.timeout,
                None => now + Duration::from_secs(3600),
            };
            tokio::select! {
                // Frames first: the branches below depend on what was read.
                biased;
                _ = &mut h2_connection => break,
                // Always consume the PING acknowledgement: until then the `h2` crate sends no other PING.
                () = pong_received(&mut ping) => {}
                () = shared.changed.notified() => {}
                () = tokio::time::sleep(wake_at.saturating_duration_since(now)) => {}
                () = goaway_received(shared) => shared.close_gracefully(),
            }
        }
        let mut send = shared.send.lock();
        *send = None;
        let mut state = shared.state.lock();
        state.closed = true;
        if state.streams == 0 {
            self.idle_limit.count.fetch_sub(1, Ordering::Relaxed);
        }
        // Returning drops the connection, which ends the remaining streams.
    }

    /// Whether to close an idle connection. If so, no stream can be opened from then on.
    fn should_close(&self, now: Instant) -> bool {
        let mut send = self.connection.send.lock();
        let state = self.connection.state.lock();
        let too_many_idle = self.idle_limit.count.load(Ordering::Relaxed) > self.idle_limit.max;
        let closes = state.streams == 0
            && (send.is_none() || too_many_idle || now >= state.idle_since + self.idle_limit.timeout);
        if closes {
            *send = None;
        }
        closes
    }
}

async fn pong_received(ping: &mut Option<PingPong>) {
    match ping {
        Some(ping) => poll_fn(|cx| ping.poll_pong(cx).map(|_| ())).await,
        None => std::future::pending().await,
    }
}

/// Ready once a GOAWAY was received. Needs no waker: reading a frame wakes the driver task.
async fn goaway_received(connection: &SharedConnection) {
    poll_fn(|_| {
        let received = connection.observed.last_stream() != u32::MAX && connection.send.lock().is_some();
        if received { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}
