//! Logs the problems and warnings of a configuration, as `check` prints them: each with its key and place.

use tracing::{error, warn};

use crate::config::Problems;

macro_rules! log_each {
    ($log:ident, $problems:expr) => {
        for problem in $problems.iter() {
            $log!(
                key = (!problem.path.is_empty()).then_some(&*problem.path),
                file = problem.location.map(|location| $problems.file_name(location)),
                line = problem.location.map(|location| location.line),
                column = problem.location.map(|location| location.column),
                "{}",
                problem.message_and_help()
            );
        }
    };
}

/// Why a configuration is rejected.
pub(super) fn log_errors(problems: &Problems) {
    log_each!(error, problems);
}

/// What is probably a mistake in a configuration that is used.
pub(super) fn log_warnings(warnings: &Problems) {
    log_each!(warn, warnings);
}
