//! Log levels per crate, and the bounded queue.

#![allow(clippy::unwrap_used)]

use std::sync::{Arc, Condvar, Mutex};

use tracing::subscriber::with_default;

use super::super::sink::BUFFER_SIZE;
use super::*;

/// A writer whose content a test can read.
#[derive(Clone, Default)]
struct SharedBuffer(Arc<Mutex<Vec<u8>>>);

impl Write for SharedBuffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl SharedBuffer {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

fn logged(level: Level) -> Vec<String> {
    let buffer = SharedBuffer::default();
    let writer = buffer.clone();
    with_default(subscriber(LineFormat::Text { colour: false }, level, move || writer.clone()).0, || {
        tracing::error!(target: "statusquo::server", "ours error");
        tracing::info!(target: "statusquo::server", "ours info");
        tracing::debug!(target: "statusquo::server", "ours debug");
        tracing::error!(target: "pingora_core::protocols", "pingora error");
        tracing::warn!(target: "pingora_core::protocols", "pingora warn");
        tracing::error!(target: "pingora_core::connectors", "failed to acquire reusable stream");
        tracing::warn!(target: "h2::proto", "library warn");
        tracing::info!(target: "h2::proto", "library info");
    });
    let words = |line: &str| line.split_whitespace().skip(2).take(2).collect::<Vec<_>>().join(" ");
    buffer.text().lines().map(words).collect()
}

#[test]
fn libraries_log_from_warn_and_pingora_from_error() {
    assert_eq!(logged(Level::INFO), ["ours error", "ours info", "pingora error", "library warn"]);
    assert_eq!(
        logged(Level::DEBUG),
        ["ours error", "ours info", "ours debug", "pingora error", "library warn"]
    );
    assert_eq!(logged(Level::ERROR), ["ours error", "pingora error"]);
}

/// A writer that blocks until it is opened.
#[derive(Clone, Default)]
struct BlockedWriter(Arc<(Mutex<bool>, Condvar)>);

impl Write for BlockedWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let opened = self.0.1.wait_while(self.0.0.lock().unwrap(), |opened| !*opened).unwrap();
        drop(opened);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn blocked_writer_drops_and_counts_lines() {
    let blocked = BlockedWriter::default();
    let (writer, guard, dropped) = bounded_writer(blocked.clone());
    // Every line has at least 64 bytes.
    let (buffered, lost) = (BUFFER_SIZE / 64, 100);
    with_default(subscriber(LineFormat::Json, Level::INFO, writer).0, || {
        // Fills the queue and the writer's buffer, and exceeds both.
        for _ in 0..QUEUED_LINES + buffered + lost {
            tracing::info!(target: "statusquo", "message");
        }
    });
    let counted = dropped.queue_full();
    assert!((lost as u64..=(buffered + lost) as u64).contains(&counted), "{counted}");

    let metrics = crate::telemetry::Metrics::new();
    metrics.register_log(dropped);
    for _ in 0..2 {
        let page = String::from_utf8(metrics.render()).unwrap();
        let line = format!("\nstatusquo_log_lines_dropped_total{{reason=\"queue_full\"}} {counted}\n");
        assert!(page.contains(&line), "{page}");
    }

    *blocked.0.0.lock().unwrap() = true;
    blocked.0.1.notify_all();
    drop(guard);
}

#[test]
fn guard_flushes_queued_lines() {
    let buffer = SharedBuffer::default();
    let (writer, guard, _) = bounded_writer(buffer.clone());
    with_default(
        subscriber(LineFormat::Json, Level::INFO, writer).0,
        || tracing::info!(target: "statusquo", "last line"),
    );
    drop(guard);
    assert!(buffer.text().contains("last line"));
}

#[test]
fn level_can_change_at_runtime() {
    let buffer = SharedBuffer::default();
    let writer = buffer.clone();
    let (subscriber, level_handle) = subscriber(LineFormat::Json, Level::INFO, move || writer.clone());
    with_default(subscriber, || {
        for (level, message) in
            [(Level::WARN, "hidden first"), (Level::DEBUG, "visible"), (Level::ERROR, "hidden last")]
        {
            level_handle.set(level);
            tracing::info!(target: "statusquo", "{message}");
        }
    });
    let lines = buffer.text();
    assert!(lines.contains("\"visible\"") && lines.lines().count() == 1, "{lines}");
}
