//! `run`: serves a configuration until a signal.

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use super::check::ReportFormat;
use super::{load_or_exit, reloader};
use crate::config::{Config, LogFormat};
use crate::server::boot::{self, Listening};
use crate::server::reload::ConfigLoader;
use crate::server::signals;
use crate::snapshot::logging;
use crate::telemetry::{Metrics, log};

/// Serves `file`. The exit status is 0 after an orderly shutdown, 78 for an invalid file, and 1 if it cannot be served.
pub(crate) fn run(file: &Path) -> ExitCode {
    signals::block();
    match load_or_exit(file, ReportFormat::Text) {
        Ok(config) => serve(config, Some(reloader(file)), print_addresses),
        Err(exit_code) => exit_code,
    }
}

/// Serves a valid configuration. SIGHUP reloads it with `load`; `listening` is called once all listeners are bound.
pub(super) fn serve(
    config: Config,
    load: Option<ConfigLoader>,
    listening: impl FnOnce(&Listening) + 'static,
) -> ExitCode {
    let metrics = Arc::new(Metrics::new());
    let level = logging::level(config.log.level);
    let log = match log::start(log_format(config.log.format), level, use_color()) {
        Ok(started) => started,
        Err(error) => {
            print_message(&format!("cannot start the log: {error}"));
            return ExitCode::FAILURE;
        }
    };
    metrics.register_log(log.dropped);
    let options = boot::ServeOptions {
        metrics,
        load,
        verbosity: log.level_handle,
        panic_path: panic_path(),
        on_listening: Box::new(listening),
    };
    let served = boot::serve(config, options);
    // Flushes the log before the final message.
    drop(log.guard);
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            print_message(&message);
            ExitCode::FAILURE
        }
    }
}

pub(super) fn print_addresses(listening: &Listening) {
    let mut text = String::new();
    for address in &listening.gateway {
        text.push_str(&format!("listening on {address}\n"));
    }
    text.push_str(&format!("telemetry on {}\n", listening.telemetry));
    // Standard error may be closed; serving continues.
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

/// Prints a message on standard error.
pub(super) fn print_message(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{}", text.trim_end());
}

/// A path that panics, for the tests of the panic guard; debug builds only.
fn panic_path() -> Option<&'static str> {
    (cfg!(debug_assertions) && std::env::var_os("STATUSQUO_TEST_PANIC").is_some()).then_some("/__panic")
}

/// Colour is off if NO_COLOR is set and not empty (no-color.org).
fn use_color() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

fn log_format(format: LogFormat) -> log::OutputFormat {
    match format {
        LogFormat::Auto => log::OutputFormat::Auto,
        LogFormat::Text => log::OutputFormat::Text,
        LogFormat::Json => log::OutputFormat::Json,
    }
}
