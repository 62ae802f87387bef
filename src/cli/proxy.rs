//! `proxy`: serves one address in front of one or more servers, without a configuration file.
//!
//! The options become a configuration text that is loaded like a file. `--print-config` prints it, as a start for a
//! file.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;

use super::parallelism;
use super::run::{print_addresses, print_message, serve};
use crate::config::{self, Problems, listen_address, problem::Diagnostic, server_address, units};
use crate::server::signals;

/// The options of `proxy`.
#[derive(Debug, clap::Args)]
#[command(after_help = USAGE_EXAMPLES)]
pub(crate) struct ProxyOptions {
    /// The listen address and port for clients; ":8080" is every IPv4 address. Or a Unix socket: "unix:/path".
    #[arg(long, value_name = "ADDRESS", default_value = ":8080", value_parser = listen_address)]
    from: String,
    /// The upstream server: host:port, http://host:port or unix:/path. Requests are distributed over several servers in
    /// turn.
    #[arg(long, value_name = "SERVER", required = true, value_delimiter = ',', value_parser = server)]
    to: Vec<String>,
    /// How many requests a client address may send in a period, such as "100 per 1m"; further requests get 429.
    #[arg(long, value_name = "COUNT per TIME", value_parser = rate_limit)]
    limit: Option<String>,
    /// How long the upstream may take to start a response before the client gets 504 [default: 15s for one attempt, 30s
    /// with retries].
    #[arg(long, value_name = "TIME", value_parser = duration)]
    timeout: Option<String>,
    /// The error contract: a built-in one [default: appwrite].
    #[arg(long, value_name = "NAME", value_parser = clap::builder::PossibleValuesParser::new(crate::contract::builtin::CONTRACT_NAMES))]
    contract: Option<String>,
    /// The address of /metrics, /livez and /readyz [default: 127.0.0.1:9464].
    #[arg(long, value_name = "ADDRESS", value_parser = tcp_address)]
    telemetry: Option<String>,
    /// Print the equivalent configuration file and exit.
    #[arg(long)]
    print_config: bool,
}

/// The exit code of an invalid command line, like that of clap.
const INVALID_COMMAND_LINE: u8 = 2;

const USAGE_EXAMPLES: &str = "\
Examples:
  statusquo proxy --to 127.0.0.1:3000
  statusquo proxy --from :80 --to 10.0.0.5:8000 --to 10.0.0.6:8000 --timeout 10s
  statusquo proxy --to 127.0.0.1:3000 --limit \"100 per 1m\" --print-config > statusquo.yaml";

/// Serves until a signal, as `run` does with the printed file.
pub(crate) fn run(options: &ProxyOptions) -> ExitCode {
    signals::block();
    let text = build_configuration(options);
    match config::load_str("proxy.yaml", &text, &|_| None, parallelism()) {
        Ok(_) if options.print_config => match std::io::stdout().lock().write_all(text.as_bytes()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        },
        Ok(config) => serve(config, None, print_addresses),
        Err(problems) => {
            print_message(&usage_error(options, &problems));
            ExitCode::from(INVALID_COMMAND_LINE)
        }
    }
}

/// What is wrong with the options. The user has no file, so a problem of the text names the option that caused it.
fn usage_error(options: &ProxyOptions, problems: &Problems) -> String {
    let mut lines: Vec<String> = Vec::new();
    for problem in problems.iter() {
        let section = problem.path.split(['.', '[']).next().unwrap_or_default();
        let (option, help) = match section {
            "listen" | "telemetry" => {
                let port = if options.from.ends_with(":9464") { 9465 } else { 9464 };
                ("--from", format!("choose another port, for example --telemetry 127.0.0.1:{port}"))
            }
            "rate_limits" => {
                ("--limit", "write a count and a time above 0, for example --limit \"100 per 1m\"".to_owned())
            }
            "timeouts" => ("--timeout", "write a time above 0, for example --timeout 15s".to_owned()),
            "upstreams" => {
                let help = "write each server once, and all of them with https:// or none";
                ("--to", format!("{help}, for example --to 127.0.0.1:3000"))
            }
            _ => ("the options", problem.help.clone()),
        };
        let line = format!("error: {option}: {}; {help}", problem.message);
        // One option may be several keys.
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    format!("{}\n\nFor more information, try 'statusquo proxy --help'.", lines.join("\n"))
}

fn build_configuration(options: &ProxyOptions) -> String {
    let mut text = format!("version: 1\n\nlisten:\n  - address: {}\n", yaml_string(&options.from));
    // Writing to a String cannot fail.
    if let Some(name) = &options.contract {
        let _ = write!(text, "\ncontract: {name}\n");
    }
    if let Some(address) = &options.telemetry {
        let _ = write!(text, "\ntelemetry:\n  address: {}\n", yaml_string(address));
    }
    if let Some(time) = &options.timeout {
        let _ = write!(text, "\ntimeouts:\n  response_headers: {time}\n  deadline: {time}\n");
    }
    if let Some(limit) = &options.limit {
        let limit = yaml_string(limit);
        let _ = write!(text, "\nrate_limits:\n  per_ip: {{ key: [client_ip], allow: {limit} }}\n");
    }
    let servers: Vec<String> = options.to.iter().map(|server| yaml_string(server)).collect();
    let _ = write!(text, "\nupstreams:\n  main:\n    servers: [{}]\n", servers.join(", "));
    text.push_str("\nroutes:\n  - name: all\n    upstream: main\n");
    if options.limit.is_some() {
        text.push_str("    rate_limits: [per_ip]\n");
    }
    text
}

/// A JSON string is valid YAML; only `${` needs escaping.
fn yaml_string(text: &str) -> String {
    serde_json::Value::from(text.replace("${", "$${")).to_string()
}

fn listen_address(text: &str) -> Result<String, String> {
    validated(text, listen_address::listen_address(text))
}

fn tcp_address(text: &str) -> Result<String, String> {
    validated(text, units::tcp_address(text))
}

fn server(text: &str) -> Result<String, String> {
    validated(text, server_address::server(text))
}

fn duration(text: &str) -> Result<String, String> {
    validated(text, units::duration(text))
}

fn rate_limit(text: &str) -> Result<String, String> {
    validated(text, units::allowance(text))
}

fn validated<T>(text: &str, parsed: Result<T, Diagnostic>) -> Result<String, String> {
    match parsed {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(format!("{}; {}", error.message, error.help)),
    }
}
