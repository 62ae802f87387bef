//! `schema`: the JSON Schema of the configuration file, for editors and validators.

use std::io::Write as _;
use std::process::ExitCode;

use crate::config::schema;

/// Prints it: 0, or 1 when nobody takes it.
pub fn run() -> ExitCode {
    match std::io::stdout().lock().write_all(schema::schema_document().as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
