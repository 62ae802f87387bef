//! Graceful shutdown: report not ready, stop accepting, wait for running requests, exit.
//!
//! After SIGTERM the gateway accepts for `drain_delay` more, so that load balancers can react; after SIGINT, from a
//! terminal, it does not. A second signal of either kind exits immediately.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Instant;

use arc_swap::ArcSwap;
use futures_util::future::join_all;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::{info, warn};

use crate::admin::telemetry::Readiness;
use crate::config::Config;
use crate::proxy::ConnectionTracker;
use crate::upstream::timer::{sleep, timeout_at};

/// The state of the process, shown by `/readyz`.
#[derive(Debug, Default)]
pub(crate) struct ProcessState(AtomicU8);

impl ProcessState {
    /// The current state.
    pub(crate) fn readiness(&self) -> Readiness {
        match self.0.load(Ordering::Acquire) {
            0 => Readiness::Starting,
            1 => Readiness::Serving,
            _ => Readiness::Draining,
        }
    }

    /// Records that all listeners are open.
    pub(crate) fn set_serving(&self) {
        self.0.store(1, Ordering::Release);
    }

    /// Records that the shutdown has begun.
    pub(crate) fn set_draining(&self) {
        self.0.store(2, Ordering::Release);
    }
}

/// The signals that shut down the process.
#[derive(Debug)]
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

/// The signal that was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ShutdownSignal {
    Terminate,
    Interrupt,
}

impl Signals {
    /// Installs the handlers.
    ///
    /// # Errors
    /// The system rejected a handler.
    pub(crate) fn install() -> std::io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> ShutdownSignal {
        tokio::select! {
            _ = self.terminate.recv() => ShutdownSignal::Terminate,
            _ = self.interrupt.recv() => ShutdownSignal::Interrupt,
        }
    }
}

/// The listeners that a drain closes, and their connections.
#[derive(Debug)]
pub(super) struct DrainedListeners {
    /// Stops accepting, and closes idle connections.
    pub(super) stop: watch::Sender<bool>,
    /// Ready when the backlogs are empty.
    pub(super) acceptors: Vec<JoinHandle<()>>,
    pub(super) tracker: Arc<ConnectionTracker>,
}

/// Waits for a signal, then drains with the timeouts of the configuration `running` at that time. Returns when the
/// process can exit.
pub(super) async fn wait_and_drain(
    mut signals: Signals,
    state: &ProcessState,
    listeners: DrainedListeners,
    running: &ArcSwap<Config>,
) {
    let DrainedListeners { stop, acceptors, tracker } = listeners;
    let first = signals.next().await;
    state.set_draining();
    let (delay, limit) = {
        let config = running.load();
        (config.drain_delay, config.drain)
    };
    info!(open = tracker.count(), "draining");
    let drain = async {
        if first == ShutdownSignal::Terminate {
            sleep(delay).await;
        }
        // Closes listeners and idle connections; other connections close after their current request.
        let _ = stop.send(true);
        let ended = async {
            // Connections in the backlogs are still accepted.
            join_all(acceptors).await;
            tracker.drained().await;
        };
        let finished = timeout_at(Instant::now() + limit, ended).await;
        if finished.is_none() {
            warn!(open = tracker.count(), "drain timeout expired; closing open connections");
        }
    };
    tokio::select! {
        () = drain => {}
        _ = signals.next() => warn!(open = tracker.count(), "second signal received; exiting immediately"),
    }
}
