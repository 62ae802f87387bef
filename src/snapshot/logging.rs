//! The operator's words about the log in the words of those who write it.

use tracing::Level;

use crate::config::{LogLevel, LogRequests};
use crate::telemetry::LoggedRequests;

/// The least severe lines that are written.
pub const fn level(level: LogLevel) -> Level {
    match level {
        LogLevel::Error => Level::ERROR,
        LogLevel::Warn => Level::WARN,
        LogLevel::Info => Level::INFO,
        LogLevel::Debug => Level::DEBUG,
        LogLevel::Trace => Level::TRACE,
    }
}

/// Which requests get a line.
pub const fn requests(requests: LogRequests) -> LoggedRequests {
    match requests {
        LogRequests::Errors => LoggedRequests::Errors,
        LogRequests::All => LoggedRequests::All,
        LogRequests::Off => LoggedRequests::Off,
    }
}
