//! `statusquo limits simulate --log FILE`: whom would the rate limits of this configuration have refused?
//!
//! It replays an access log against the configured rules: who, when, by which rule. Reading lines is in [`log_lines`], asking
//! the rules in [`replay`]; nothing is opened but the two files.

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
use crate::config::Config;
use crate::limit::KeyPart;
use log_lines::LoggedRequest;
use replay::{DeniedRequest, ReplayResult};

/// Longest line that is read: our own are far shorter. Bytes.
const MAX_LINE_BYTES: u64 = 64 * 1024;

/// What to replay against what.
#[derive(Debug, clap::Args)]
pub struct SimulateOptions {
    /// The configuration whose rules are asked.
    #[arg(value_name = "FILE", env = "STATUSQUO_CONFIG", default_value = "statusquo.yaml")]
    file: PathBuf,
    /// The access log: our own JSON lines (`log.requests: all`), or the common or combined form; `-` is standard input.
    #[arg(long, value_name = "LOG")]
    log: PathBuf,
    /// The host of every request, where routes or rules tell hosts apart: logs do not say it.
    #[arg(long, value_name = "HOST", default_value = "")]
    host: String,
    /// How the result is printed.
    #[arg(long, value_enum, default_value_t)]
    format: ReportFormat,
}

/// Replays: 0 when that was possible, whatever came of it; 78 for a refused configuration, 1 for an unreadable log.
pub fn run(options: &SimulateOptions) -> ExitCode {
    let config = match super::load_or_exit(&options.file) {
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
            print_message(&format!("cannot read {}: {error}\n", options.log.display()));
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

/// The requests of a log, and how many of its lines are none.
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

/// What the result does not say by itself.
fn notes(config: &Config, requests: &[LoggedRequest], skipped_lines: u64) -> Vec<String> {
    let mut notes = Vec::new();
    if skipped_lines > 0 {
        notes.push(format!("{skipped_lines} lines are no request that a limit could meet"));
    }
    if requests.is_empty() {
        notes.push("there is no request in this log".to_owned());
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
        notes.push(format!("{name} counts by what logs do not tell; such requests are counted by client_ip"));
    }
    notes
}

fn write_text(out: &mut dyn Write, replayed: &ReplayResult<'_>, requests: usize) -> io::Result<()> {
    for denied in &replayed.denied {
        let DeniedRequest { request, route, rule, shadow, retry_after } = denied;
        let time = humantime::format_rfc3339_millis(UNIX_EPOCH + request.started);
        let verb = if *shadow { "would deny" } else { "denied" };
        // A log holds what clients sent: it must not steer a terminal.
        let (method, target) = (request.method.escape_debug(), request.target.escape_debug());
        let client = request.client_ip;
        writeln!(
            out,
            "{time} {verb} {client} {method} {target} route={route} rule={rule} retry_after={retry_after}"
        )?;
    }
    writeln!(out, "{requests} requests, {} of them limited by no rule", replayed.unlimited)?;
    for (rule, (allowed, denied)) in &replayed.rules {
        let clients: BTreeSet<_> = replayed
            .denied
            .iter()
            .filter(|denial| denial.rule == *rule)
            .map(|denial| denial.request.client_ip)
            .collect();
        writeln!(out, "{rule}: {allowed} admitted, {denied} denied, of {} clients", clients.len())?;
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
