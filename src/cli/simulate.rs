//! `statusquo limits simulate --log FILE`: replays an access log and prints the requests that the rate limits would
//! deny.
//!
//! [`log_lines`] parses the log and [`replay`] evaluates the rules. Nothing is opened except the two files.

mod log_lines;
mod replay;

use std::collections::BTreeSet;
use std::io::{self, BufRead, Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::UNIX_EPOCH;

use serde_json::json;

use super::check::ReportFormat;
use super::run::print_message;
use super::{ConfigArg, load_or_exit};
use crate::config::Config;
use crate::config::problem::Diagnostic;
use crate::config::sources::{ReadHelp, unreadable};
use crate::http::peer::Peer;
use crate::limit::KeyPart;
use log_lines::LoggedRequest;
use replay::{DeniedRequest, ReplayResult};

/// In bytes; lines of the access log are far shorter.
const MAX_LINE_BYTES: u64 = 64 * 1024;

const LOG_FILE: ReadHelp = ReadHelp {
    missing: "pass the path of an access log, or `--log -` for standard input",
    directory: "pass the path of a log file in it",
    unreadable: "pass the path of a readable access log",
    too_large: "pass a part of it",
};

/// The options of `limits simulate`.
#[derive(Debug, clap::Args)]
pub(crate) struct SimulateOptions {
    #[command(flatten)]
    file: ConfigArg,
    /// The access log: JSON lines of statusquo (`log.requests: all`), or the common or combined log format; `-` is
    /// standard input.
    #[arg(long, value_name = "LOG")]
    log: PathBuf,
    /// The host of requests whose line has none, if routes or rules depend on it.
    #[arg(long, value_name = "HOST", default_value = "")]
    host: String,
    /// The output format.
    #[arg(long, value_enum, default_value_t)]
    format: ReportFormat,
}

/// Prints the result of the replay. The exit status is 78 for an invalid configuration and 1 for an unreadable log.
pub(crate) fn run(options: &SimulateOptions) -> ExitCode {
    let config = match load_or_exit(&options.file.file, options.format) {
        Ok(config) => config,
        Err(code) => return code,
    };
    let read = if options.log.as_os_str() == "-" {
        read_log(io::stdin().lock())
    } else {
        std::fs::File::open(&options.log).and_then(|file| read_log(io::BufReader::new(file)))
    };
    let (requests, skipped_lines) = match read {
        Ok(read) => read,
        Err(error) => {
            let Diagnostic { message, help } = unreadable(&options.log, &error, &LOG_FILE);
            print_message(&format!("{message}; {help}\n"));
            return ExitCode::FAILURE;
        }
    };
    let replayed = match replay::replay(&config, &options.host, &requests) {
        Ok(replayed) => replayed,
        Err(problem) => {
            print_message(&format!("{problem}\n"));
            return ExitCode::FAILURE;
        }
    };
    for note in notes(&config, &requests, skipped_lines) {
        print_message(&format!("note: {note}\n"));
    }
    let out = &mut io::stdout().lock();
    let written = match options.format {
        ReportFormat::Text => write_text(out, &replayed, requests.len()),
        ReportFormat::Json => write_json(out, &replayed, requests.len(), skipped_lines),
    };
    if written.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The requests of a log, and the number of lines without one.
fn read_log(mut log: impl BufRead) -> io::Result<(Vec<LoggedRequest>, u64)> {
    let (mut requests, mut skipped_lines) = (Vec::new(), 0);
    let mut line = Vec::new();
    loop {
        line.clear();
        if log.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut line)? == 0 {
            return Ok((requests, skipped_lines));
        }
        match log_lines::parse(&String::from_utf8_lossy(&line)) {
            Some(request) => requests.push(request),
            None => skipped_lines += 1,
        }
    }
}

/// Limitations of the result.
fn notes(config: &Config, requests: &[LoggedRequest], skipped_lines: u64) -> Vec<String> {
    let mut notes = Vec::new();
    if skipped_lines > 0 {
        notes.push(format!("{skipped_lines} lines do not contain a request that a rate limit applies to"));
    }
    if requests.is_empty() {
        notes.push("this log contains no requests".to_owned());
    }
    let mut unlogged_keys = BTreeSet::new();
    for limit in &config.rate_limits {
        for part in &limit.settings.key {
            match part {
                KeyPart::Header(_) | KeyPart::Cookie(_) | KeyPart::Body(_) => {
                    unlogged_keys.insert(limit.name.as_str());
                }
                KeyPart::Query(_) if requests.iter().any(|request| request.route.is_some()) => {
                    unlogged_keys.insert(limit.name.as_str());
                }
                KeyPart::ClientIp
                | KeyPart::Host
                | KeyPart::Method
                | KeyPart::Route
                | KeyPart::Path(_)
                | KeyPart::Query(_) => {}
            }
        }
    }
    for name in unlogged_keys {
        notes
            .push(format!("the key of {name} uses values that logs do not contain; client_ip replaces them"));
    }
    notes
}

fn write_text(out: &mut dyn Write, replayed: &ReplayResult<'_>, requests: usize) -> io::Result<()> {
    for denied in &replayed.denied {
        let DeniedRequest { request, route, rule, shadow, retry_after } = denied;
        let time = humantime::format_rfc3339_millis(UNIX_EPOCH + request.started);
        let verb = if *shadow { "would deny" } else { "denied" };
        // A log contains client input, which must not control a terminal.
        let (method, target) = (request.method.escape_debug(), request.target.escape_debug());
        let client = request.client_ip.map_or(Peer::Unix, Peer::from);
        writeln!(
            out,
            "{time} {verb} {client} {method} {target} route={route} rule={rule} retry_after={retry_after}"
        )?;
    }
    writeln!(out, "{requests} requests, {} of them without a rate limit", replayed.unlimited)?;
    for (rule, (allowed, denied)) in &replayed.rules {
        let clients: BTreeSet<_> = replayed
            .denied
            .iter()
            .filter(|denial| denial.rule == *rule)
            .map(|denial| denial.request.client_ip)
            .collect();
        writeln!(out, "{rule}: {allowed} admitted, {denied} denied, from {} clients", clients.len())?;
    }
    Ok(())
}

fn write_json(
    out: &mut dyn Write,
    replayed: &ReplayResult<'_>,
    requests: usize,
    skipped_lines: u64,
) -> io::Result<()> {
    let denied: Vec<_> = replayed
        .denied
        .iter()
        .map(|denied| {
            json!({
                "time": humantime::format_rfc3339_millis(UNIX_EPOCH + denied.request.started).to_string(),
                "client_ip": denied.request.client_ip,
                "method": denied.request.method,
                "target": denied.request.target,
                "route": denied.route,
                "rule": denied.rule,
                "decision": if denied.shadow { "shadow_denied" } else { "denied" },
                "retry_after": denied.retry_after,
            })
        })
        .collect();
    let rules: Vec<_> = replayed
        .rules
        .iter()
        .map(|(name, (allowed, denied))| json!({ "rule": name, "allowed": allowed, "denied": denied }))
        .collect();
    let value = json!({
        "requests": requests,
        "skipped_lines": skipped_lines,
        "unlimited": replayed.unlimited,
        "rules": rules,
        "denied": denied,
    });
    writeln!(out, "{value:#}")
}
