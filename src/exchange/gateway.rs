//! What all connections of the gateway share: the current snapshot, the counters, the log, our own name in `Via`.

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::observe::{Access, Metrics};
use crate::snapshot::Snapshot;

/// Shared by every connection.
#[derive(Debug)]
pub struct Gateway {
    /// Swapped as a whole; a request pins one.
    pub snapshot: ArcSwap<Snapshot>,
    /// The counters of the process.
    pub metrics: Arc<Metrics>,
    /// One event per request that is worth one.
    pub access: Access,
    /// `1.1 PSEUDONYM`, as it is written.
    pub(super) via: Vec<u8>,
    /// A path that panics, for the tests of the guard; never set in a release build.
    pub(super) panic_path: Option<&'static str>,
}

impl Gateway {
    /// `pseudonym` is our name in Via (RFC 9110 7.6.3): a token, the same for the life of the process, different for
    /// each instance.
    pub fn new(snapshot: Snapshot, metrics: Arc<Metrics>, access: Access, pseudonym: &str) -> Self {
        Gateway {
            snapshot: ArcSwap::from_pointee(snapshot),
            metrics,
            access,
            via: format!("1.1 {pseudonym}").into_bytes(),
            panic_path: None,
        }
    }

    /// Makes one path panic. Debug builds only: a release build ignores it.
    pub fn panic_at(&mut self, path: &'static str) {
        if cfg!(debug_assertions) {
            self.panic_path = Some(path);
        }
    }

    /// Our name, without the protocol version.
    pub(super) fn pseudonym(&self) -> &[u8] {
        self.via.get(4..).unwrap_or_default()
    }
}
