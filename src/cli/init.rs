//! `init`: writes a commented file to start from. It never touches one that is there.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;

use super::run::print_message;

/// The file. A test holds that `check` accepts it.
const TEMPLATE: &str = include_str!("init.yaml");

/// Writes it to `file`, or to standard output for `-`: 0, or 1 when it cannot be written or is there already.
pub fn run(file: &Path) -> ExitCode {
    let name = file.display();
    let written = if file == Path::new("-") {
        io::stdout().lock().write_all(TEMPLATE.as_bytes()).map_err(|error| error.to_string())
    } else {
        File::create_new(file).and_then(|mut output| output.write_all(TEMPLATE.as_bytes())).map_err(|error| {
            match error.kind() {
                io::ErrorKind::AlreadyExists => {
                    format!("{name} is there already and stays as it is; name another file, or - to print")
                }
                io::ErrorKind::NotFound => {
                    format!("cannot write {name}: there is no such directory; create it first")
                }
                _ => format!("cannot write {name}: {error}; name a file that you may write"),
            }
        })
    };
    match written {
        Ok(()) => {
            if file != Path::new("-") {
                print_message(&format!("wrote {name}; now: statusquo check {name} && statusquo run {name}"));
            }
            ExitCode::SUCCESS
        }
        Err(sentence) => {
            print_message(&sentence);
            ExitCode::FAILURE
        }
    }
}
