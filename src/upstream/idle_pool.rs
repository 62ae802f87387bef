//! The idle connections to one address.
//!
//! The connection that was used last is reused first, so that a peak leaves few connections that stay in use. One that
//! the server has closed, or on which unexpected bytes arrive, is closed at once: a background task is woken by such an
//! event and calls [`IdlePool::sweep`]. It is also checked when it is taken.

use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, ReadBuf};

/// The idle connections to one address.
#[derive(Debug)]
pub(crate) struct IdlePool<S>(Mutex<Vec<IdleConnection<S>>>);

#[derive(Debug)]
struct IdleConnection<S> {
    stream: S,
    since: Instant,
    expires: Instant,
}

impl<S> Default for IdlePool<S> {
    fn default() -> Self {
        IdlePool(Mutex::default())
    }
}

impl<S: AsyncRead + Unpin> IdlePool<S> {
    /// Takes a usable connection that has been idle for at most `max_idle`. `total` counts the idle connections of the
    /// upstream.
    pub(crate) fn take(&self, max_idle: Duration, now: Instant, total: &AtomicUsize) -> Option<S> {
        loop {
            let mut idle = {
                let mut connections = self.0.lock();
                let newest = connections.last()?;
                if newest.expires > now && now.saturating_duration_since(newest.since) > max_idle {
                    return None;
                }
                connections.pop()?
            };
            total.fetch_sub(1, Ordering::Relaxed);
            if idle.expires > now && is_quiet(&mut idle.stream, Waker::noop()) {
                return Some(idle.stream);
            }
        }
    }

    /// Keeps a connection for `timeout`. If the upstream has `max` idle connections, the oldest one to this address is
    /// closed instead. `watcher` is woken when the server closes the connection or sends anything.
    pub(crate) fn put(
        &self,
        mut stream: S,
        (now, timeout): (Instant, Duration),
        (total, max): (&AtomicUsize, usize),
        watcher: &Waker,
    ) {
        if !is_quiet(&mut stream, watcher) {
            return;
        }
        let idle = IdleConnection { stream, since: now, expires: now + timeout };
        let mut connections = self.0.lock();
        if total.fetch_add(1, Ordering::Relaxed) >= max {
            total.fetch_sub(1, Ordering::Relaxed);
            if connections.is_empty() {
                return;
            }
            connections.remove(0);
        }
        connections.push(idle);
    }

    /// Closes connections that have expired, that the server has closed, or on which bytes arrived.
    pub(crate) fn sweep(&self, now: Instant, total: &AtomicUsize, watcher: &Waker) {
        let mut connections = self.0.lock();
        let before = connections.len();
        connections.retain_mut(|idle| idle.expires > now && is_quiet(&mut idle.stream, watcher));
        total.fetch_sub(before - connections.len(), Ordering::Relaxed);
    }

    /// Closes all connections.
    pub(crate) fn clear(&self, total: &AtomicUsize) {
        let closed = std::mem::take(&mut *self.0.lock());
        total.fetch_sub(closed.len(), Ordering::Relaxed);
    }
}

/// Whether the connection is open and has nothing to read. Takes no system call while the runtime knows of no event.
pub(crate) fn is_quiet<S: AsyncRead + Unpin>(stream: &mut S, watcher: &Waker) -> bool {
    let mut byte = [0; 1];
    let mut buffer = ReadBuf::new(&mut byte);
    let mut cx = Context::from_waker(watcher);
    Pin::new(stream).poll_read(&mut cx, &mut buffer).is_pending()
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    const FOUR_SECONDS: Duration = Duration::from_secs(4);

    fn pool(now: Instant, count: usize) -> (IdlePool<DuplexStream>, AtomicUsize, Vec<DuplexStream>) {
        let (pool, total) = (IdlePool::default(), AtomicUsize::new(0));
        let mut servers = Vec::new();
        for _ in 0..count {
            let (client, server) = duplex(64);
            pool.put(client, (now, FOUR_SECONDS), (&total, 8), Waker::noop());
            servers.push(server);
        }
        (pool, total, servers)
    }

    #[tokio::test]
    async fn closed_and_noisy_connections_are_not_taken() {
        let now = Instant::now();
        let (pool, total, mut servers) = pool(now, 3);
        servers[2].write_all(b"\r\n").await.unwrap();
        servers.remove(1);
        assert!(pool.take(FOUR_SECONDS, now, &total).is_some());
        assert!(pool.take(FOUR_SECONDS, now, &total).is_none());
        assert_eq!(total.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn connection_is_taken_until_it_expires_or_exceeds_the_limit_of_the_request() {
        let now = Instant::now();
        let (pool, total, _servers) = pool(now, 3);
        let second = Duration::from_secs(1);
        assert!(pool.take(second, now + second, &total).is_some());
        assert!(pool.take(second, now + second * 2, &total).is_none());
        assert_eq!(total.load(Ordering::Relaxed), 2, "older connections stay for other requests");
        assert!(pool.take(FOUR_SECONDS, now + second * 3, &total).is_some());
        assert!(pool.take(FOUR_SECONDS, now + FOUR_SECONDS, &total).is_none());
        assert_eq!(total.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn sweep_closes_what_is_closed_noisy_or_expired() {
        let now = Instant::now();
        let (pool, total, mut servers) = pool(now, 4);
        servers[3].write_all(b"x").await.unwrap();
        servers.remove(0);
        pool.sweep(now, &total, Waker::noop());
        assert_eq!(total.load(Ordering::Relaxed), 2);
        pool.sweep(now + FOUR_SECONDS, &total, Waker::noop());
        assert_eq!(total.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn oldest_connection_makes_room_at_the_limit() {
        let now = Instant::now();
        let (pool, total, mut servers) = pool(now, 2);
        let (client, server) = duplex(64);
        pool.put(client, (now, FOUR_SECONDS), (&total, 2), Waker::noop());
        servers.push(server);
        assert_eq!(total.load(Ordering::Relaxed), 2);
        assert!(servers[0].write_all(b"x").await.is_err(), "the oldest is closed");
        let other: IdlePool<DuplexStream> = IdlePool::default();
        let (client, _server) = duplex(64);
        other.put(client, (now, FOUR_SECONDS), (&total, 2), Waker::noop());
        assert!(other.take(FOUR_SECONDS, now, &total).is_none(), "another address has no room");
        assert_eq!(total.load(Ordering::Relaxed), 2);
        pool.clear(&total);
        assert_eq!(total.load(Ordering::Relaxed), 0);
    }
}
