//! Writes log lines to standard error through a bounded queue, so that a request never waits for the log.
//!
//! A full queue drops lines and counts them. Libraries log from `warn` on; pingora from `error` on, and its connectors
//! not at all, because we log the same failures. [`super::formatter`] formats a line, [`super::access_log`] selects the
//! requests.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{Registry, reload};

use super::formatter::{self, LineFormat};
use super::sink::Sink;

/// The configured log format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OutputFormat {
    /// Text on a terminal, JSON lines otherwise.
    Auto,
    /// Always text.
    Text,
    /// Always JSON lines.
    Json,
}

/// Counts of lost lines.
#[derive(Clone, Debug)]
pub(crate) struct DroppedLines {
    queue: ErrorCounter,
    writer: Arc<AtomicU64>,
}

impl DroppedLines {
    /// Lines dropped because the queue was full.
    pub(crate) fn queue_full(&self) -> u64 {
        self.queue.dropped_lines() as u64
    }

    /// Lines that could not be written.
    pub(crate) fn write_failed(&self) -> u64 {
        self.writer.load(Ordering::Relaxed)
    }
}

/// Changes the log level at run time.
#[derive(Clone, Debug)]
pub(crate) struct LevelHandle(reload::Handle<Targets, Registry>);

impl LevelHandle {
    /// Writes lines of this level and above from now on.
    pub(crate) fn set(&self, level: Level) {
        // Fails only after the log has ended.
        let _ = self.0.reload(filter(level));
    }
}

/// A running log.
#[derive(Debug)]
pub(crate) struct LogHandle {
    /// Flushes queued lines when dropped: keep it until the process exits.
    pub guard: WorkerGuard,
    /// Counts of lost lines.
    pub dropped: DroppedLines,
    /// The log level.
    pub level_handle: LevelHandle,
}

/// Starts the log of the process. Fails if a log was started before.
pub(crate) fn start(format: OutputFormat, level: Level, colours: bool) -> Result<LogHandle, TryInitError> {
    // The writer flushes whenever the queue is empty: a single line is written at once, many lines share a system call.
    let (writer, guard, dropped) = bounded_writer(io::stderr());
    let (subscriber, level_handle) = subscriber(line_format(format, colours), level, writer);
    subscriber.try_init()?;
    Ok(LogHandle { guard, dropped, level_handle })
}

/// The subscriber that [`start`] installs, and its level handle.
pub(crate) fn subscriber<W>(
    line_format: LineFormat,
    level: Level,
    writer: W,
) -> (impl Subscriber + Send + Sync, LevelHandle)
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let (filter, handle) = reload::Layer::new(filter(level));
    (tracing_subscriber::registry().with(filter).with(LineLayer { line_format, writer }), LevelHandle(handle))
}

fn filter(level: Level) -> Targets {
    let libraries = LevelFilter::from_level(level.min(Level::WARN));
    Targets::new()
        .with_default(libraries)
        .with_target(env!("CARGO_PKG_NAME"), level)
        .with_target("pingora", Level::ERROR)
        // What a lookup found is logged by us, once.
        .with_target("hickory_net", Level::ERROR)
        .with_target("hickory_resolver", Level::ERROR)
        // "failed to acquire reusable stream": harmless, a connection was just leaving the pool.
        .with_target("pingora_core::connectors", LevelFilter::OFF)
}

fn bounded_writer<W: Write + Send + 'static>(output: W) -> (NonBlocking, WorkerGuard, DroppedLines) {
    let sink = Sink::new(output);
    let failed = sink.failed();
    let (writer, guard) = NonBlockingBuilder::default()
        .buffered_lines_limit(QUEUED_LINES)
        .lossy(true)
        .thread_name("log-writer")
        .finish(sink);
    let dropped = DroppedLines { queue: writer.error_counter(), writer: failed };
    (writer, guard, dropped)
}

fn line_format(format: OutputFormat, colours: bool) -> LineFormat {
    let terminal = io::stderr().is_terminal();
    match format {
        OutputFormat::Json => LineFormat::Json,
        OutputFormat::Auto if !terminal => LineFormat::Json,
        OutputFormat::Auto | OutputFormat::Text => LineFormat::Text { colour: terminal && colours },
    }
}

/// Writes each event with one call, so that lines never mix.
struct LineLayer<W> {
    line_format: LineFormat,
    writer: W,
}

impl<S, W> Layer<S> for LineLayer<W>
where
    S: Subscriber,
    W: for<'w> MakeWriter<'w> + 'static,
{
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut line = String::with_capacity(LINE_CAPACITY);
        formatter::format_event(self.line_format, event, SystemTime::now(), &mut line);
        // An error of the log itself cannot be logged.
        let _ = self.writer.make_writer().write_all(line.as_bytes());
    }
}

/// At most about 8 MiB; 1 s of failures at 16,000 requests/s.
const QUEUED_LINES: usize = 16_384;
const LINE_CAPACITY: usize = 768;

#[cfg(test)]
#[path = "log_tests.rs"]
mod tests;
