//! Where log lines go: standard error, through a bounded queue that a request never waits for.
//!
//! A full queue drops lines and counts them. The libraries speak through the same lines, but only from `warn` on, and
//! pingora only from `error` on, without its connectors: they repeat what we say ourselves. What a line looks like is [`super::formatter`]'s business,
//! which requests get one is [`super::access_log`]'s.

use std::io::{self, IsTerminal, Write};
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
use super::sink::{Failed, Sink};

/// What the operator chose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputFormat {
    /// Text on a terminal, JSON lines otherwise.
    Auto,
    /// Always text.
    Text,
    /// Always JSON lines.
    Json,
}

/// Lines that are lost.
#[derive(Clone, Debug)]
pub struct DroppedLines {
    queue: ErrorCounter,
    writer: Failed,
}

impl DroppedLines {
    /// How many did not fit into the queue so far.
    pub fn queue_full(&self) -> u64 {
        self.queue.dropped_lines() as u64
    }

    /// How many could not be written so far.
    pub fn write_failed(&self) -> u64 {
        self.writer.lines()
    }
}

/// The least severe lines that are written; may change while the process runs.
#[derive(Clone, Debug)]
pub struct LevelHandle(reload::Handle<Targets, Registry>);

impl LevelHandle {
    /// From now on, lines of this level and above are written.
    pub fn set(&self, level: Level) {
        // Fails only when the log has ended; then nothing is written anyway.
        let _ = self.0.reload(filter(level));
    }
}

/// A log that was started.
#[derive(Debug)]
pub struct LogHandle {
    /// Writes what is queued when it is dropped: keep it until the very end.
    pub guard: WorkerGuard,
    /// Lines that are lost.
    pub dropped: DroppedLines,
    /// What is written.
    pub level_handle: LevelHandle,
}

/// Starts the log of the process and writes to standard error. Fails when a log has been started before.
pub fn start(format: OutputFormat, level: Level, colours: bool) -> Result<LogHandle, TryInitError> {
    // The queue flushes whenever it runs empty: a line by itself leaves at once, lines in a rush share a system call.
    let (writer, guard, dropped) = bounded_writer(io::stderr());
    let (subscriber, level_handle) = subscriber(line_format(format, colours), level, writer);
    subscriber.try_init()?;
    Ok(LogHandle { guard, dropped, level_handle })
}

/// What [`start`] installs; for tests that look at the lines.
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
        // `failed to acquire reusable stream`: a connection that is just leaving the pool. Another is made.
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

/// Writes each event as one line, in one call, so that lines never mix.
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
        // Nobody is left to tell when the log itself cannot be written.
        let _ = self.writer.make_writer().write_all(line.as_bytes());
    }
}

/// About 8 MiB of lines at worst; a second of failures at 16,000 requests a second.
const QUEUED_LINES: usize = 16_384;
const LINE_CAPACITY: usize = 768;

#[cfg(test)]
#[path = "log_tests.rs"]
mod tests;
