//! What all connections of the gateway share: the current snapshot, the counters, our own name in `Via`.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use arc_swap::ArcSwap;

use crate::snapshot::Snapshot;
use crate::telemetry::Metrics;

/// Shared by every connection.
#[derive(Debug)]
pub struct Gateway {
    /// Swapped as a whole; a request pins one.
    pub snapshot: ArcSwap<Snapshot>,
    /// The counters of the process.
    pub metrics: Arc<Metrics>,
    /// So many connections to upstreams may be in use at once before no further one is made.
    max_upstream_connections: AtomicI64,
    /// `1.1 PSEUDONYM`, as it is written.
    pub(super) via: Vec<u8>,
    /// A path that panics, for the tests of the guard; never set in a release build.
    pub(super) panic_path: Option<&'static str>,
}

impl Gateway {
    /// `pseudonym` is our name in Via (RFC 9110 7.6.3): a token, the same for the life of the process, different for
    /// each instance.
    /// `max_upstream_connections` is what the descriptor limit leaves for connections to upstreams in use.
    pub fn new(
        snapshot: Snapshot,
        metrics: Arc<Metrics>,
        pseudonym: &str,
        max_upstream_connections: usize,
    ) -> Self {
        Gateway {
            snapshot: ArcSwap::from_pointee(snapshot),
            metrics,
            max_upstream_connections: AtomicI64::new(
                i64::try_from(max_upstream_connections).unwrap_or(i64::MAX),
            ),
            via: format!("1.1 {pseudonym}").into_bytes(),
            panic_path: None,
        }
    }

    /// So many connections to upstreams may be in use from now on.
    pub fn set_max_upstream_connections(&self, limit: usize) {
        self.max_upstream_connections.store(i64::try_from(limit).unwrap_or(i64::MAX), Ordering::Relaxed);
    }

    /// So many connections to upstreams may be in use.
    pub(super) fn max_upstream_connections(&self) -> i64 {
        self.max_upstream_connections.load(Ordering::Relaxed)
    }

    /// Makes one path panic. Debug builds only: a release build ignores it.
    pub fn set_panic_path(&mut self, path: &'static str) {
        if cfg!(debug_assertions) {
            self.panic_path = Some(path);
        }
    }

    /// Our name, without the protocol version.
    pub(super) fn pseudonym(&self) -> &[u8] {
        self.via.get(4..).unwrap_or_default()
    }
}
