//! The stores of a snapshot, carried from snapshot to snapshot while their settings stay, and counted.

use std::sync::Arc;
use std::time::Duration;

use crate::limit::BackendError;
use crate::observe::{Metrics, StoreMetrics};
use crate::store::{BackendObserver, RedisBackend, StoreSettings};

/// A store for each of the configuration's, in their order; those of `previous` that have not changed, where there are.
pub(super) fn stores(
    settings: &[StoreSettings],
    previous: &[Arc<RedisBackend>],
    metrics: &Metrics,
) -> Vec<Arc<RedisBackend>> {
    let store = |settings: &StoreSettings| {
        let same = previous.iter().find(|store| store.settings() == settings);
        same.cloned().unwrap_or_else(|| {
            let kinds = BackendError::ALL.iter().map(|failure| failure.name());
            let counted = Counted(metrics.store(&settings.name, kinds));
            Arc::new(RedisBackend::new(settings.clone(), Box::new(counted)))
        })
    };
    settings.iter().map(store).collect()
}

#[derive(Debug)]
struct Counted(StoreMetrics);

impl BackendObserver for Counted {
    fn on_success(&self, after: Duration) {
        self.0.record_duration(after);
    }

    fn on_error(&self, how: BackendError, after: Duration) {
        self.0.record_error(how.name());
        match how {
            BackendError::CircuitOpen => {}
            BackendError::Timeout
            | BackendError::Unreachable
            | BackendError::InvalidReply
            | BackendError::ErrorReply => self.0.record_duration(after),
        }
    }
}
