//! The life of one HTTP/2 connection: its beginning, the task that moves its frames, its end.
//!
//! PINGs are sent to connections in doubt alone. Regular ones would break streams that are quiet for good reasons: gRPC's
//! own servers hang up on clients that ping more than twice in five minutes (`too_many_pings`).

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

/// What one stream may have under way towards us.
const STREAM_WINDOW: u32 = 64 * 1024;
/// What all of them may: as much as each, so that one whose client is slow never holds up the others.
const CONNECTION_WINDOW: u32 = STREAM_WINDOW * MAX_STREAMS as u32;
/// The library's bound on header lists.
const LIBRARY_MAX_HEADER_LIST: u32 = 256 * 1024;
/// So long a connection in doubt may take for its answer to a PING.
const PING_TIMEOUT: Duration = Duration::from_secs(2);
/// So long a last GOAWAY may take to leave.
const GOAWAY_TIMEOUT: Duration = Duration::from_secs(1);

/// What moves the frames.
type H2Connection<S> = h2::client::Connection<GoAwayObserver<S>, Bytes>;

/// Greets and waits for the server's greeting: only then it is known to speak HTTP/2, and how many streams it allows. One
/// of them is taken already.
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
        Poll::Ready(Ok(())) => Poll::Ready(Err(closed_fault())),
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
        send: Mutex::new(Some(send)),
        state: Mutex::new(state),
        observed,
        changed: Notify::new(),
    });
    let driver = ConnectionDriver { connection: Arc::clone(&connection), idle_limit };
    tokio::spawn(driver.run(h2_connection, ping));
    Ok(connection)
}

fn closed_fault() -> Fault {
    let evidence = Evidence::from_static("closed before its SETTINGS");
    Fault::new(Cause::ConnectionTerminated, Phase::Connect).with_evidence(evidence)
}

/// Names what came in place of a greeting.
fn handshake_fault(observed: &ObservedState, error: &h2::Error) -> Fault {
    let unexpected_bytes = observed.unexpected_bytes();
    if !unexpected_bytes.is_empty() {
        let evidence = Evidence::with_excerpt("the server does not speak HTTP/2", &unexpected_bytes);
        return Fault::new(Cause::HttpProtocolError, Phase::Connect).with_evidence(evidence);
    }
    let cause = if error.is_io() { Cause::ConnectionTerminated } else { Cause::HttpProtocolError };
    Fault::new(cause, Phase::Connect).with_evidence(Evidence::owned(error.to_string()))
}

struct ConnectionDriver {
    connection: Arc<SharedConnection>,
    idle_limit: IdleLimit,
}

impl ConnectionDriver {
    /// Moves frames until the connection ends, or has no reason to go on.
    async fn run<S>(self, mut h2_connection: H2Connection<S>, mut ping: Option<PingPong>)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let shared = &*self.connection;
        // Since when an answer to a PING is awaited, and what had been read until then.
        let mut ping_sent: Option<(Instant, u64)> = None;
        loop {
            let now = Instant::now();
            let state = *shared.state.lock();
            if let Some((since, reads)) = ping_sent {
                if shared.observed.read_count() != reads {
                    ping_sent = None;
                    shared.state.lock().probing = false;
                } else if now >= since + PING_TIMEOUT {
                    shared.state.lock().ping_timed_out = true;
                    break;
                }
            } else if state.probing {
                ping_sent = Some((now, shared.observed.read_count()));
            }
            if let (Some(_), Some(ping)) = (ping_sent, &mut ping) {
                // One that is still unanswered asks the same.
                let _ = ping.send_ping(Ping::opaque());
            }
            if self.should_close(now) {
                // Nobody can begin a stream any more, so the library says GOAWAY and ends.
                tokio::select! {
                    _ = &mut h2_connection => {}
                    () = tokio::time::sleep(GOAWAY_TIMEOUT) => {}
                }
                break;
            }
            let wake_at = match ping_sent {
                Some((since, _)) => since + PING_TIMEOUT,
                None if state.streams == 0 => state.idle_since + self.idle_limit.timeout,
                None => now + Duration::from_secs(3600),
            };
            tokio::select! {
                // Frames first: what they tell is asked for behind them.
                biased;
                _ = &mut h2_connection => break,
                // Then an answer to a PING, also to one that nobody waits for any more: until it is taken the library
                // sends no other PING.
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
        // What is still under way ends with the connection: its frames are dropped now.
    }

    /// Whether nobody uses the connection or should use it again; from then on nobody can.
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

/// Ready once a GOAWAY has come. Whatever is read wakes the task that asks.
async fn goaway_received(connection: &SharedConnection) {
    poll_fn(|_| {
        let received = connection.observed.last_stream() != u32::MAX && connection.send.lock().is_some();
        if received { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}
