//! The shared rate-limit backends of a snapshot, carried over while their settings are equal, with their metrics.

use std::sync::Arc;
use std::time::Duration;

use crate::limit::BackendError;
use crate::limit::redis::{BackendObserver, RedisBackend, StoreSettings};
use crate::telemetry::{BackendMetrics, Metrics};

/// Returns a backend for each of `settings`, in order: an equal one of `previous`, else a new one.
pub(super) fn carry_over(
    settings: &[StoreSettings],
    previous: &[Arc<RedisBackend>],
    metrics: &Metrics,
) -> Vec<Arc<RedisBackend>> {
    let store = |settings: &StoreSettings| {
        let unchanged = previous.iter().find(|store| store.settings() == settings);
        unchanged.cloned().unwrap_or_else(|| {
            let error_names = BackendError::ALL.iter().map(|error| error.name());
            let observer = StoreObserver(metrics.backend(&settings.name, error_names));
            Arc::new(RedisBackend::new(settings.clone(), Box::new(observer)))
        })
    };
    settings.iter().map(store).collect()
}

#[derive(Debug)]
struct StoreObserver(BackendMetrics);

impl BackendObserver for StoreObserver {
    fn on_success(&self, elapsed: Duration) {
        self.0.record_duration(elapsed);
    }

    fn on_error(&self, error: BackendError, elapsed: Duration) {
        self.0.record_error(error.name());
        match error {
            BackendError::CircuitOpen => {}
            BackendError::Timeout
            | BackendError::Unreachable
            | BackendError::InvalidReply
            | BackendError::ErrorReply => self.0.record_duration(elapsed),
        }
    }
}
