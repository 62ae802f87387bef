//! The command line: one file per command. The only room that reads the environment and writes to standard output.
//!
//! Results go to standard output, text for people to standard error. Exit codes: 0 fine, 1 runtime failure, 2 command
//! line, 78 configuration refused.

pub mod check;
pub mod codes;
pub mod demo;
pub mod explain;
pub mod init;
pub mod packaging;
pub mod proxy;
pub mod run;
pub mod schema;
pub mod simulate;
pub mod verify;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, Subcommand};

use crate::config::{self, Config, Problems};
use crate::server::reload::ConfigLoader;

/// The gateway that keeps an API's error contract: whatever the services behind it do, clients get documented codes.
#[derive(Debug, Parser)]
#[command(name = "statusquo", version, about, propagate_version = true, after_help = FIRST_STEPS)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

const FIRST_STEPS: &str = "\
First steps:
  statusquo demo                           an upstream that misbehaves, and the curl lines to try
  statusquo proxy --to 127.0.0.1:3000      in front of a service of yours, without a file
  statusquo init && statusquo run          with a file, statusquo.yaml

Exit codes: 0 fine, 1 runtime failure, 2 command line, 78 configuration refused.";

/// What to do.
#[derive(Debug, Subcommand)]
enum Command {
    /// Serve a configuration until SIGTERM.
    Run(ConfigArg),
    /// Serve without a file: one address in front of one or more servers.
    Proxy(proxy::ProxyOptions),
    /// Start the gateway before an embedded misbehaving upstream and print what to try.
    Demo(demo::DemoOptions),
    /// Write a commented configuration to start from; `-` prints it.
    Init(ConfigArg),
    /// Validate a configuration; exit 0 or 78.
    Check {
        #[command(flatten)]
        file: ConfigArg,
        /// How the result is printed.
        #[arg(long, value_enum, default_value_t)]
        format: check::ReportFormat,
    },
    /// Show the exact answer a client would get for a cause or an upstream's status, and which rule decides.
    Explain(explain::ExplainOptions),
    /// Provoke every fault against a configuration, with local servers that misbehave; exit 1 when anything leaves the
    /// contract.
    Verify(verify::VerifyOptions),
    /// Ask the rate limits without serving.
    Limits {
        #[command(subcommand)]
        command: LimitsCommand,
    },
    /// Print the contract as documentation.
    Codes {
        #[command(flatten)]
        file: OptionalConfigArg,
        /// How it is printed.
        #[arg(long, value_enum, default_value_t)]
        format: codes::CodesFormat,
    },
    /// Print the JSON Schema of the configuration, for editors and validators.
    Schema,
    /// Print the completions of a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Print the manual page.
    Man,
}

/// What to ask the rate limits.
#[derive(Debug, Subcommand)]
enum LimitsCommand {
    /// Replay an access log: whom would the rules have refused, when, and which rule?
    Simulate(simulate::SimulateOptions),
}

/// The configuration file of a command.
#[derive(Debug, clap::Args)]
struct ConfigArg {
    /// The configuration.
    #[arg(value_name = "FILE", env = "STATUSQUO_CONFIG", default_value = "statusquo.yaml")]
    file: PathBuf,
}

/// The configuration file of a command that can do without.
#[derive(Debug, clap::Args)]
struct OptionalConfigArg {
    /// The configuration whose contract is printed; without one, the built-in contract.
    #[arg(value_name = "FILE", env = "STATUSQUO_CONFIG")]
    file: Option<PathBuf>,
}

/// Reads the command line and does what it says.
pub fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Run(file) => run::run(&file.file),
        Command::Proxy(options) => proxy::run(&options),
        Command::Demo(options) => demo::run(&options),
        Command::Init(file) => init::run(&file.file),
        Command::Check { file, format } => check::run(&file.file, format),
        Command::Explain(options) => explain::run(&options),
        Command::Verify(options) => verify::run(&options),
        Command::Limits { command: LimitsCommand::Simulate(options) } => simulate::run(&options),
        Command::Codes { file, format } => codes::run(file.file.as_deref(), format),
        Command::Schema => schema::run(),
        Command::Completions { shell } => packaging::completions(shell),
        Command::Man => packaging::man(),
    }
}

/// Loads a configuration with the variables of the environment; says what is wrong with it.
fn load_or_exit(file: &Path) -> Result<Config, ExitCode> {
    read_config(file).map_err(|problems| {
        run::print_message(&problems.to_string());
        ExitCode::from(check::INVALID_CONFIG)
    })
}

/// How the file is read again while it is served.
fn reloader(file: &Path) -> ConfigLoader {
    let file = file.to_owned();
    Arc::new(move || read_config(&file))
}

fn read_config(file: &Path) -> Result<Config, Problems> {
    #[expect(clippy::disallowed_methods, reason = "the command line is where the environment is read")]
    config::load_file(file, &|name| std::env::var(name).ok(), parallelism())
}

/// What `workers: auto` means here.
fn parallelism() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
