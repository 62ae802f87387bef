//! Where log lines go: standard error, through a bounded queue that a request never waits for.
//!
//! A full queue drops lines and counts them. The libraries speak through the same lines, but only from `warn` on, and
//! pingora only from `error` on, without its connectors: they repeat what we say ourselves. What a line looks like is [`super::line`]'s business,
//! which requests get one is [`super::access`]'s.

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

use super::line::{self, Form};
use super::sink::{Failed, Sink};

/// What the operator chose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Text on a terminal, JSON lines otherwise.
    Auto,
    /// Always text.
    Text,
    /// Always JSON lines.
    Json,
}

/// Lines that are lost.
#[derive(Clone, Debug)]
pub struct Dropped {
    queue: ErrorCounter,
    writer: Failed,
}

impl Dropped {
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
pub struct Verbosity(reload::Handle<Targets, Registry>);

impl Verbosity {
    /// From now on, lines of this level and above are written.
    pub fn set(&self, level: Level) {
        // Fails only when the log has ended; then nothing is written anyway.
        let _ = self.0.reload(filter(level));
    }
}

/// A log that was started.
#[derive(Debug)]
pub struct Started {
    /// Writes what is queued when it is dropped: keep it until the very end.
    pub guard: WorkerGuard,
    /// Lines that are lost.
    pub dropped: Dropped,
    /// What is written.
    pub verbosity: Verbosity,
}

/// Starts the log of the process and writes to standard error. Fails when a log has been started before.
pub fn start(format: Format, level: Level, colours: bool) -> Result<Started, TryInitError> {
    // The queue flushes whenever it runs empty: a line by itself leaves at once, lines in a rush share a system call.
    let (writer, guard, dropped) = queue(io::stderr());
    let (subscriber, verbosity) = subscriber(form(format, colours), level, writer);
    subscriber.try_init()?;
    Ok(Started { guard, dropped, verbosity })
}

/// What [`start`] installs; for tests that look at the lines.
pub(crate) fn subscriber<W>(form: Form, level: Level, writer: W) -> (impl Subscriber + Send + Sync, Verbosity)
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let (filter, handle) = reload::Layer::new(filter(level));
    (tracing_subscriber::registry().with(filter).with(Lines { form, writer }), Verbosity(handle))
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

fn queue<W: Write + Send + 'static>(to: W) -> (NonBlocking, WorkerGuard, Dropped) {
    let sink = Sink::new(to);
    let failed = sink.failed();
    let (writer, guard) = NonBlockingBuilder::default()
        .buffered_lines_limit(QUEUED_LINES)
        .lossy(true)
        .thread_name("log-writer")
        .finish(sink);
    let dropped = Dropped { queue: writer.error_counter(), writer: failed };
    (writer, guard, dropped)
}

fn form(format: Format, colours: bool) -> Form {
    let terminal = io::stderr().is_terminal();
    match format {
        Format::Json => Form::Json,
        Format::Auto if !terminal => Form::Json,
        Format::Auto | Format::Text => Form::Text { colour: terminal && colours },
    }
}

/// Writes each event as one line, in one call, so that lines never mix.
struct Lines<W> {
    form: Form,
    writer: W,
}

impl<S, W> Layer<S> for Lines<W>
where
    S: Subscriber,
    W: for<'w> MakeWriter<'w> + 'static,
{
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut line = String::with_capacity(LINE_SIZE);
        line::write(self.form, event, SystemTime::now(), &mut line);
        // Nobody is left to tell when the log itself cannot be written.
        let _ = self.writer.make_writer().write_all(line.as_bytes());
    }
}

/// About 8 MiB of lines at worst; a second of failures at 16,000 requests a second.
const QUEUED_LINES: usize = 16_384;
const LINE_SIZE: usize = 768;

#[cfg(test)]
#[path = "log_tests.rs"]
mod tests;
