//! How the process ends: announce, stop accepting, let requests finish, leave.
//!
//! SIGTERM gives load balancers `drain_delay` to look elsewhere; SIGINT, from a keyboard, does not wait. A second
//! signal of either kind ends at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Instant;

use arc_swap::ArcSwap;
use futures_util::future::join_all;
use nix::sys::signal::SigSet;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::{info, warn};

use crate::admin::telemetry::Readiness;
use crate::config::Config;
use crate::proxy::ConnectionTracker;
use crate::upstream::timer::{sleep, timeout_at};

/// How far the process is, for `/readyz`.
#[derive(Debug, Default)]
pub struct ProcessState(AtomicU8);

impl ProcessState {
    /// How far it is now.
    pub fn readiness(&self) -> Readiness {
        match self.0.load(Ordering::Acquire) {
            0 => Readiness::Starting,
            1 => Readiness::Serving,
            _ => Readiness::Draining,
        }
    }

    /// All listeners are there.
    pub fn set_serving(&self) {
        self.0.store(1, Ordering::Release);
    }

    /// The end has begun.
    pub fn set_draining(&self) {
        self.0.store(2, Ordering::Release);
    }
}

/// The signals that end the process.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

/// Which one came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ShutdownSignal {
    Terminate,
    Interrupt,
}

/// A SIGHUP that comes from now on waits until [`sighup`] are listened to, instead of ending the process: whoever has
/// just started it may ask for a reload at once. To be called before there are other threads.
pub fn block_sighup() {
    // It cannot fail for a signal that exists.
    let _ = SigSet::from_iter([nix::sys::signal::SIGHUP]).thread_block();
}

/// Listens to SIGHUP, to those that were held as well.
///
/// # Errors
/// The system refuses a handler.
pub fn sighup() -> std::io::Result<Signal> {
    let signal_stream = signal(SignalKind::hangup())?;
    let _ = SigSet::from_iter([nix::sys::signal::SIGHUP]).thread_unblock();
    Ok(signal_stream)
}

impl Signals {
    /// Takes them over from the system's default.
    ///
    /// # Errors
    /// The system refuses a handler.
    pub fn install() -> std::io::Result<Signals> {
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

/// Waits for a signal and then drains, by the times of the configuration that is `running` then; returns when the
/// process may end.
pub async fn wait_and_drain(
    mut signals: Signals,
    state: Arc<ProcessState>,
    listeners: watch::Sender<bool>,
    acceptors: Vec<JoinHandle<()>>,
    tracker: Arc<ConnectionTracker>,
    running: &ArcSwap<Config>,
) {
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
        // Listeners close, idle connections end, the others are told to.
        let _ = listeners.send(true);
        let ended = async {
            // Who is in a backlog still comes in.
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
    info!("stopped");
}
