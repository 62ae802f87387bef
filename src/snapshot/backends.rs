//! The shared rate-limit backends of a snapshot, carried over while their settings are equal, with their metrics.

use std::sync::Arc;
use std::time::Duration;

use crate::limit::BackendError;
use crate::limit::redis::{BackendObserver, BackendSettings, RedisBackend};
use crate::telemetry::{BackendMetrics, Metrics};

/// Returns a backend for each of `settings`, in order: an equal one of `previous`, else a new one.
pub(super) fn carry_over(
    settings: &[BackendSettings],
    previous: &[Arc<RedisBackend>],
    metrics: &Metrics,
) -> Vec<Arc<RedisBackend>> {
    let backend = |settings: &BackendSettings| {
        let unchanged = previous.iter().find(|backend| backend.settings() == settings);
        unchanged.cloned().unwrap_or_else(|| {
            let error_names = BackendError::ALL.iter().map(|error| error.name());
            let observer = MetricsObserver(metrics.backend(&settings.name, error_names));
            Arc::new(RedisBackend::new(settings.clone(), Box::new(observer)))
        })
    };
    settings.iter().map(backend).collect()
}

#[derive(Debug)]
struct MetricsObserver(BackendMetrics);

impl BackendObserver for MetricsObserver {
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
