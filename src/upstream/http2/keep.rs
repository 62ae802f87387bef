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

use super::watch::{Seen, Watched};
use super::{Connection, MOST_STREAMS, Resting, State};
use crate::contract::{Cause, Evidence, Fault, Phase};

/// What one stream may have under way towards us.
const STREAM_WINDOW: u32 = 64 * 1024;
/// What all of them may: as much as each, so that one whose client is slow never holds up the others.
const CONNECTION_WINDOW: u32 = STREAM_WINDOW * MOST_STREAMS as u32;
/// The library's bound on header lists.
const LIBRARY_MAX_FIELDS: u32 = 256 * 1024;
/// So long a connection in doubt may take for its answer to a PING.
const SIGN_OF_LIFE: Duration = Duration::from_secs(2);
/// So long a last GOAWAY may take to leave.
const FAREWELL: Duration = Duration::from_secs(1);

/// What moves the frames.
type Frames<S> = h2::client::Connection<Watched<S>, Bytes>;

/// Greets and waits for the server's greeting: only then it is known to speak HTTP/2, and how many streams it allows. One
/// of them is taken already.
pub(super) async fn begin<S>(stream: S, resting: Resting) -> Result<Arc<Connection>, Fault>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let seen = Arc::new(Seen::default());
    let failed = |error: h2::Error| refused(&seen, &error);
    let mut options = h2::client::Builder::new();
    options
        .enable_push(false)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(LIBRARY_MAX_FIELDS);
    let watched = Watched::new(stream, Arc::clone(&seen));
    let (send, mut frames) = options.handshake::<_, Bytes>(watched).await.map_err(failed)?;
    let ping = frames.ping_pong();
    poll_fn(|cx| match Pin::new(&mut frames).poll(cx) {
        Poll::Ready(Err(error)) => Poll::Ready(Err(failed(error))),
        Poll::Ready(Ok(())) => Poll::Ready(Err(closed())),
        Poll::Pending if seen.greeted() => Poll::Ready(Ok(())),
        Poll::Pending => Poll::Pending,
    })
    .await?;
    if send.current_max_send_streams() == 0 {
        let evidence =
            Evidence::from_static("the server allows no stream (SETTINGS_MAX_CONCURRENT_STREAMS: 0)");
        return Err(Fault::new(Cause::HttpProtocolError, Phase::Connect).with_evidence(evidence));
    }
    let state = State { open: 1, resting_since: Instant::now(), doubted: false, silent: false, over: false };
    let connection = Arc::new(Connection {
        send: Mutex::new(Some(send)),
        state: Mutex::new(state),
        seen,
        changed: Notify::new(),
    });
    let keeper = Keeper { connection: Arc::clone(&connection), resting };
    tokio::spawn(keeper.keep(frames, ping));
    Ok(connection)
}

fn closed() -> Fault {
    let evidence = Evidence::from_static("closed before its SETTINGS");
    Fault::new(Cause::ConnectionTerminated, Phase::Connect).with_evidence(evidence)
}

/// Names what came in place of a greeting.
fn refused(seen: &Seen, error: &h2::Error) -> Fault {
    let instead = seen.instead();
    if !instead.is_empty() {
        let evidence = Evidence::with_excerpt("the server does not speak HTTP/2", &instead);
        return Fault::new(Cause::HttpProtocolError, Phase::Connect).with_evidence(evidence);
    }
    let cause = if error.is_io() { Cause::ConnectionTerminated } else { Cause::HttpProtocolError };
    Fault::new(cause, Phase::Connect).with_evidence(Evidence::owned(error.to_string()))
}

struct Keeper {
    connection: Arc<Connection>,
    resting: Resting,
}

impl Keeper {
    /// Moves frames until the connection ends, or has no reason to go on.
    async fn keep<S>(self, mut frames: Frames<S>, mut ping: Option<PingPong>)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let connection = &*self.connection;
        // Since when an answer to a PING is awaited, and what had been read until then.
        let mut asked: Option<(Instant, u64)> = None;
        loop {
            let now = Instant::now();
            let state = *connection.state.lock();
            if let Some((since, reads)) = asked {
                if connection.seen.reads() != reads {
                    asked = None;
                    connection.state.lock().doubted = false;
                } else if now >= since + SIGN_OF_LIFE {
                    connection.state.lock().silent = true;
                    break;
                }
            } else if state.doubted {
                asked = Some((now, connection.seen.reads()));
            }
            if let (Some(_), Some(ping)) = (asked, &mut ping) {
                // One that is still unanswered asks the same.
                let _ = ping.send_ping(Ping::opaque());
            }
            if self.may_end(now) {
                // Nobody can begin a stream any more, so the library says GOAWAY and ends.
                tokio::select! {
                    _ = &mut frames => {}
                    () = tokio::time::sleep(FAREWELL) => {}
                }
                break;
            }
            let until = match asked {
                Some((since, _)) => since + SIGN_OF_LIFE,
                None if state.open == 0 => state.resting_since + self.resting.idle,
                None => now + Duration::from_secs(3600),
            };
            tokio::select! {
                // Frames first: what they tell is asked for behind them.
                biased;
                _ = &mut frames => break,
                // Then an answer to a PING, also to one that nobody waits for any more: until it is taken the library
                // sends no other PING.
                () = answered(&mut ping) => {}
                () = connection.changed.notified() => {}
                () = tokio::time::sleep(until.saturating_duration_since(now)) => {}
                () = going_away(connection) => connection.retire(),
            }
        }
        let mut send = connection.send.lock();
        *send = None;
        let mut state = connection.state.lock();
        state.over = true;
        if state.open == 0 {
            self.resting.now.fetch_sub(1, Ordering::Relaxed);
        }
        // What is still under way ends with the connection: its frames are dropped now.
    }

    /// Whether nobody uses the connection or should use it again; from then on nobody can.
    fn may_end(&self, now: Instant) -> bool {
        let mut send = self.connection.send.lock();
        let state = self.connection.state.lock();
        let crowded = self.resting.now.load(Ordering::Relaxed) > self.resting.most;
        let ends =
            state.open == 0 && (send.is_none() || crowded || now >= state.resting_since + self.resting.idle);
        if ends {
            *send = None;
        }
        ends
    }
}

async fn answered(ping: &mut Option<PingPong>) {
    match ping {
        Some(ping) => poll_fn(|cx| ping.poll_pong(cx).map(|_| ())).await,
        None => std::future::pending().await,
    }
}

/// Ready once a GOAWAY has come. Whatever is read wakes the task that asks.
async fn going_away(connection: &Connection) {
    poll_fn(|_| {
        let goes = connection.seen.last_stream() != u32::MAX && connection.send.lock().is_some();
        if goes { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}
