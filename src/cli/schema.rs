//! `schema`: prints the JSON Schema of the configuration file, for editors and validators.

use std::io::Write as _;
use std::process::ExitCode;

use crate::config::schema;

/// Prints the schema. The exit status is 1 if the output could not be written.
pub(crate) fn run() -> ExitCode {
    match std::io::stdout().lock().write_all(schema::schema_document().as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
