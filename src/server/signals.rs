//! The signals that do not end the process: SIGHUP reloads, and signals that mean something to other servers are
//! logged.
//!
//! [`super::drain`] handles those that shut it down.

use std::io;

use nix::sys::signal::{SIGALRM, SIGHUP, SIGUSR1, SIGUSR2, SigSet};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::warn;

/// Blocks the signals of this file until [`sighup`] and [`ignore_unsupported`] install their handlers: they may arrive
/// immediately after the start, and would otherwise end the process. Call it before other threads start.
pub(crate) fn block() {
    // Fails only for an invalid signal.
    let _ = SigSet::from_iter([SIGHUP, SIGUSR1, SIGUSR2, SIGALRM]).thread_block();
}

/// Installs the handler for SIGHUP and unblocks the signal; a blocked one is delivered now.
///
/// # Errors
/// The system rejected the handler.
pub(super) fn sighup() -> io::Result<Signal> {
    let signal_stream = signal(SignalKind::hangup())?;
    let _ = SigSet::from_iter([SIGHUP]).thread_unblock();
    Ok(signal_stream)
}

/// Logs signals that are not supported. By default they end a process at once, without a drain: a script written for
/// another server (nginx reopens its log files on SIGUSR1) would interrupt every request.
///
/// # Errors
/// The system rejected a handler.
pub(super) fn ignore_unsupported() -> io::Result<()> {
    let unsupported = [
        (
            SignalKind::user_defined1(),
            "ignored SIGUSR1: there is no log file to reopen, because the log goes to standard error",
        ),
        (
            SignalKind::user_defined2(),
            "ignored SIGUSR2: a handover to a new binary is not supported yet; send SIGTERM and start the new binary",
        ),
        (SignalKind::alarm(), "ignored SIGALRM: it is not supported"),
    ];
    for (kind, message) in unsupported {
        let mut received = signal(kind)?;
        tokio::spawn(async move {
            while received.recv().await.is_some() {
                warn!("{message}");
            }
        });
    }
    let _ = SigSet::from_iter([SIGUSR1, SIGUSR2, SIGALRM]).thread_unblock();
    Ok(())
}
