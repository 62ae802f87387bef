//! State shared by all connections: the current snapshot, the metrics and the pseudonym in `Via`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arc_swap::ArcSwap;

use super::buffer_budget::BufferBudget;
use crate::snapshot::Snapshot;
use crate::telemetry::{LogSampler, Metrics};
use crate::upstream::transport::OpenConnections;

/// State shared by all connections.
#[derive(Debug)]
pub(crate) struct Gateway {
    /// The current configuration, replaced as a whole by a reload. Each request loads it once.
    pub snapshot: ArcSwap<Snapshot>,
    /// The metrics of the process.
    pub metrics: Arc<Metrics>,
    /// Samples the log lines of a storm.
    pub log_sampler: LogSampler,
    /// The memory for error bodies that are buffered to be checked.
    pub(super) error_bodies: BufferBudget,
    /// Maximum number of upstream connections in use at once.
    max_upstream_connections: AtomicUsize,
    /// The open upstream connections.
    pub(super) open_upstream_connections: OpenConnections,
    /// The `Via` value: `1.1 PSEUDONYM`.
    pub(super) via: Vec<u8>,
    /// A path that panics, to test the panic handler; never set in a release build.
    panic_path: Option<&'static str>,
}

impl Gateway {
    /// `pseudonym` identifies this instance in `Via` (RFC 9110 7.6.3): a token, unique to each instance, constant while
    /// the process runs. `max_upstream_connections` is the share of the file descriptor limit that is meant for
    /// upstream connections in use.
    pub(crate) fn new(
        snapshot: Snapshot,
        metrics: Arc<Metrics>,
        pseudonym: &str,
        max_upstream_connections: usize,
    ) -> Self {
        Gateway {
            snapshot: ArcSwap::from_pointee(snapshot),
            metrics,
            log_sampler: LogSampler::default(),
            error_bodies: BufferBudget::default(),
            max_upstream_connections: AtomicUsize::new(max_upstream_connections),
            open_upstream_connections: OpenConnections::default(),
            via: format!("1.1 {pseudonym}").into_bytes(),
            panic_path: None,
        }
    }

    /// Changes the maximum number of upstream connections in use. Open connections are kept.
    pub(crate) fn set_max_upstream_connections(&self, limit: usize) {
        self.max_upstream_connections.store(limit, Ordering::Relaxed);
    }

    /// Whether the number of upstream connections in use allows no further one. `snapshot` is that of the request.
    pub(super) fn is_at_upstream_limit(&self, snapshot: &Snapshot) -> bool {
        let idle = snapshot.idle_upstream_connections();
        let in_use = self.open_upstream_connections.count().saturating_sub(idle);
        in_use >= self.max_upstream_connections.load(Ordering::Relaxed)
    }

    /// Makes one path panic. Debug builds only: a release build ignores it.
    pub(crate) fn set_panic_path(&mut self, path: &'static str) {
        if cfg!(debug_assertions) {
            self.panic_path = Some(path);
        }
    }

    /// Panics on the configured path, to test the panic guard.
    #[expect(
        clippy::panic,
        reason = "the guard is tested with a real panic; debug builds only, and only on the configured path"
    )]
    pub(super) fn panic_on_test_path(&self, path: &[u8]) {
        if self.panic_path.is_some_and(|panic_path| path == panic_path.as_bytes()) {
            panic!("the panic path was requested");
        }
    }

    /// The pseudonym in `Via`, without the protocol version.
    pub(super) fn pseudonym(&self) -> &[u8] {
        // After `1.1 `.
        self.via.get(4..).unwrap_or_default()
    }
}
