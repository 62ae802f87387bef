//! The command line: one file per command. The only module that reads the environment and writes to standard output.
//!
//! Results go to standard output, messages to standard error. Exit codes: 0 success, 1 runtime failure, 2 invalid
//! command line, 78 invalid configuration.

pub(crate) mod check;
pub(crate) mod codes;
pub(crate) mod demo;
pub(crate) mod explain;
pub(crate) mod init;
pub(crate) mod packaging;
pub(crate) mod proxy;
pub(crate) mod run;
pub(crate) mod schema;
pub(crate) mod simulate;
pub(crate) mod verify;

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::builder::{OsStringValueParser, TypedValueParser as _};
use clap::{Parser, Subcommand, ValueHint};

use check::ReportFormat;

use crate::config::{self, Config, Problems};
use crate::server::reload::ConfigLoader;

/// A reverse proxy that keeps an API's error contract: every failure reaches the client as a documented code.
#[derive(Debug, Parser)]
#[command(name = "statusquo", version, about, propagate_version = true, after_help = FIRST_STEPS)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

const FIRST_STEPS: &str = "\
First steps:
  statusquo demo                           a faulty upstream, and curl commands to try
  statusquo proxy --to 127.0.0.1:3000      in front of your service, without a file
  statusquo init && statusquo run          with a configuration file, statusquo.yaml

Exit codes: 0 success, 1 runtime failure, 2 invalid command line, 78 invalid configuration.";

/// The commands.
#[derive(Debug, Subcommand)]
enum Command {
    /// Serve a configuration until SIGTERM.
    Run(ConfigArg),
    /// Serve without a configuration file: one address in front of one or more servers.
    Proxy(proxy::ProxyOptions),
    /// Start the gateway in front of an embedded faulty upstream and print commands to try.
    Demo(demo::DemoOptions),
    /// Write a commented configuration file to start from; `-` prints it.
    Init(ConfigArg),
    /// Validate a configuration; exit 0 or 78.
    Check {
        #[command(flatten)]
        file: ConfigArg,
        /// The output format.
        #[arg(long, value_enum, default_value_t)]
        format: check::ReportFormat,
    },
    /// Show the exact response that a client would get for a cause or an upstream status code, and which rule decides.
    Explain(explain::ExplainOptions),
    /// Inject every fault into a gateway with this configuration, on loopback; exit 1 if a response violates the
    /// contract.
    Verify(verify::VerifyOptions),
    /// Evaluate rate limits without serving.
    Limits {
        #[command(subcommand)]
        command: LimitsCommand,
    },
    /// Print the contract as documentation.
    Codes {
        #[command(flatten)]
        file: ConfigArg,
        /// One of the contracts that the file uses, or a built-in one; by default the file's default contract.
        #[arg(long, value_name = "NAME")]
        contract: Option<String>,
        /// The output format.
        #[arg(long, value_enum, default_value_t)]
        format: codes::CodesFormat,
    },
    /// Print the JSON Schema of the configuration, for editors and validators.
    Schema,
    /// Print shell completions.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Print the manual page.
    Man,
}

/// The commands of `limits`.
#[derive(Debug, Subcommand)]
enum LimitsCommand {
    /// Replay an access log and show which requests the rate limits would have denied.
    Simulate(simulate::SimulateOptions),
}

/// The configuration file of a command.
#[derive(Debug, clap::Args)]
struct ConfigArg {
    /// The configuration file.
    #[arg(value_name = "FILE", env = "STATUSQUO_CONFIG", default_value = DEFAULT_FILE, value_hint = ValueHint::FilePath)]
    #[arg(value_parser = OsStringValueParser::new().map(file_or_default))]
    file: PathBuf,
}

const DEFAULT_FILE: &str = "statusquo.yaml";

/// An empty variable, as of a container without a value for it, counts as unset.
fn file_or_default(file: OsString) -> PathBuf {
    PathBuf::from(if file.is_empty() { DEFAULT_FILE.into() } else { file })
}

/// Parses the command line and runs the command.
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
        Command::Codes { file, contract, format } => codes::run(&file.file, contract.as_deref(), format),
        Command::Schema => schema::run(),
        Command::Completions { shell } => packaging::completions(shell),
        Command::Man => packaging::man(),
    }
}

/// Loads a configuration with the environment's variables; prints its problems, as JSON where the result would be JSON.
fn load_or_exit(file: &Path, format: ReportFormat) -> Result<Config, ExitCode> {
    read_config(file).map_err(|problems| {
        match format {
            ReportFormat::Text => run::print_message(&problems.to_string()),
            // The exit code says the same if nobody reads this.
            ReportFormat::Json => {
                drop(check::write_json(&mut io::stdout().lock(), &check::invalid(file, &problems)))
            }
        }
        ExitCode::from(check::INVALID_CONFIG)
    })
}

/// Reads the file again on reload.
fn reloader(file: &Path) -> ConfigLoader {
    let file = file.to_owned();
    Arc::new(move || read_config(&file))
}

fn read_config(file: &Path) -> Result<Config, Problems> {
    #[expect(clippy::disallowed_methods, reason = "only cli reads the environment")]
    config::load_file(file, &|name| std::env::var(name).ok(), parallelism(), config::Purpose::Use)
}

/// The value of `workers: auto`.
fn parallelism() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
