//! The command line: one file per command. The only room that reads the environment and writes to standard output.
//!
//! Results go to standard output, text for people to standard error. Exit codes: 0 fine, 1 runtime failure, 2 command
//! line, 78 configuration refused.

pub mod check;
pub mod codes;
pub mod demo;
pub mod run;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The gateway that keeps an API's error contract.
#[derive(Debug, Parser)]
#[command(name = "statusquo", version, about, propagate_version = true)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
enum Command {
    /// Serve a configuration until SIGTERM.
    Run(File),
    /// Validate a configuration; exit 0 or 78.
    Check {
        #[command(flatten)]
        file: File,
        /// How the result is printed.
        #[arg(long, value_enum, default_value_t)]
        format: check::Format,
    },
    /// Start the gateway before an embedded misbehaving upstream and print what to try.
    Demo(demo::Options),
    /// Print the contract as documentation.
    Codes {
        #[command(flatten)]
        file: OptionalFile,
        /// How it is printed.
        #[arg(long, value_enum, default_value_t)]
        format: codes::Format,
    },
}

/// The configuration file of a command.
#[derive(Debug, clap::Args)]
struct File {
    /// The configuration.
    #[arg(value_name = "FILE", env = "STATUSQUO_CONFIG", default_value = "statusquo.yaml")]
    file: PathBuf,
}

/// The configuration file of a command that can do without.
#[derive(Debug, clap::Args)]
struct OptionalFile {
    /// The configuration whose contract is printed; without one, the built-in contract.
    #[arg(value_name = "FILE", env = "STATUSQUO_CONFIG")]
    file: Option<PathBuf>,
}

/// Reads the command line and does what it says.
pub fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Run(file) => run::run(&file.file),
        Command::Check { file, format } => check::run(&file.file, format),
        Command::Demo(options) => demo::run(&options),
        Command::Codes { file, format } => codes::run(file.file.as_deref(), format),
    }
}
