//! The stores of a snapshot, carried from snapshot to snapshot while their settings stay, and counted.

use std::sync::Arc;
use std::time::Duration;

use crate::limit::BackendError;
use crate::limit::redis::{BackendObserver, RedisBackend, StoreSettings};
use crate::telemetry::{Metrics, StoreMetrics};

/// A store for each of the configuration's, in their order; those of `previous` that have not changed, where there are.
pub(super) fn carry_over(
    settings: &[StoreSettings],
    previous: &[Arc<RedisBackend>],
    metrics: &Metrics,
) -> Vec<Arc<RedisBackend>> {
    let store = |settings: &StoreSettings| {
        let unchanged = previous.iter().find(|store| store.settings() == settings);
        unchanged.cloned().unwrap_or_else(|| {
            let failure_names = BackendError::ALL.iter().map(|failure| failure.name());
            let observer = StoreObserver(metrics.store(&settings.name, failure_names));
            Arc::new(RedisBackend::new(settings.clone(), Box::new(observer)))
        })
    };
    settings.iter().map(store).collect()
}

#[derive(Debug)]
struct StoreObserver(StoreMetrics);

impl BackendObserver for StoreObserver {
    fn on_success(&self, elapsed: Duration) {
        self.0.record_duration(elapsed);
    }

    fn on_error(&self, failure: BackendError, elapsed: Duration) {
        self.0.record_error(failure.name());
        match failure {
            BackendError::CircuitOpen => {}
            BackendError::Timeout
            | BackendError::Unreachable
            | BackendError::InvalidReply
            | BackendError::ErrorReply => self.0.record_duration(elapsed),
        }
    }
}
