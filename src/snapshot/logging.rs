//! Converts the configured log settings to those of [`crate::telemetry`] and `tracing`.

use tracing::Level;

use crate::config::{LogLevel, LogRequests};
use crate::telemetry::LoggedRequests;

/// The level from which lines are written.
pub(crate) const fn level(level: LogLevel) -> Level {
    match level {
        LogLevel::Error => Level::ERROR,
        LogLevel::Warn => Level::WARN,
        LogLevel::Info => Level::INFO,
        LogLevel::Debug => Level::DEBUG,
        LogLevel::Trace => Level::TRACE,
    }
}

/// Which requests are logged.
pub(crate) const fn requests(requests: LogRequests) -> LoggedRequests {
    match requests {
        LogRequests::Errors => LoggedRequests::Errors,
        LogRequests::All => LoggedRequests::All,
        LogRequests::Off => LoggedRequests::Off,
    }
}
