//! `init`: writes a commented configuration file to start from. It never overwrites a file.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;

use super::run::print_message;

/// A test verifies that `check` accepts it.
const TEMPLATE: &str = include_str!("init.yaml");

/// Writes the template to `file`, or to standard output for `-`. The exit status is 1 if the file exists or cannot be
/// written.
pub(crate) fn run(file: &Path) -> ExitCode {
    let name = file.display();
    let written = if file == Path::new("-") {
        io::stdout().lock().write_all(TEMPLATE.as_bytes()).map_err(|error| error.to_string())
    } else {
        File::create_new(file).and_then(|mut output| output.write_all(TEMPLATE.as_bytes())).map_err(|error| {
            match error.kind() {
                io::ErrorKind::AlreadyExists => {
                    format!("{name} already exists and was not changed; write another file, or print with -")
                }
                io::ErrorKind::NotFound => {
                    format!("cannot write {name}: no such directory; create it first")
                }
                _ => format!("cannot write {name}: {error}; use a writable path"),
            }
        })
    };
    match written {
        Ok(()) => {
            if file != Path::new("-") {
                print_message(&format!("wrote {name}; next: statusquo check {name} && statusquo run {name}"));
            }
            ExitCode::SUCCESS
        }
        Err(message) => {
            print_message(&message);
            ExitCode::FAILURE
        }
    }
}
