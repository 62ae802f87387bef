//! `statusquo limits simulate --log FILE`: whom would the rate limits of this configuration have refused?
//!
//! It replays an access log against the configured rules: who, when, by which rule. Reading lines is in [`lines`], asking
//! the rules in [`replay`]; nothing is opened but the two files.

mod lines;
mod replay;

use std::collections::BTreeSet;
use std::io::{self, BufRead, Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::UNIX_EPOCH;

use serde_json::json;

use super::check::Format;
use super::run::say;
use crate::config::Config;
use crate::limit::KeyPart;
use lines::Logged;
use replay::{Refused, Replayed};

/// Longest line that is read: our own are far shorter. Bytes.
const LONGEST_LINE: u64 = 64 * 1024;

/// What to replay against what.
#[derive(Debug, clap::Args)]
pub struct Options {
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
    format: Format,
}

/// Replays: 0 when that was possible, whatever came of it; 78 for a refused configuration, 1 for an unreadable log.
pub fn run(options: &Options) -> ExitCode {
    let config = match super::load(&options.file) {
        Ok(config) => config,
        Err(code) => return code,
    };
    let read = if options.log.as_os_str() == "-" {
        read(io::stdin().lock())
    } else {
        std::fs::File::open(&options.log).and_then(|file| read(io::BufReader::new(file)))
    };
    let (requests, others) = match read {
        Ok(read) => read,
        Err(error) => {
            say(&format!("cannot read {}: {error}\n", options.log.display()));
            return ExitCode::FAILURE;
        }
    };
    let replayed = match replay::replay(&config, &options.host, &requests) {
        Ok(replayed) => replayed,
        Err(problem) => {
            say(&format!("{problem}\n"));
            return ExitCode::FAILURE;
        }
    };
    for note in notes(&config, &requests, others) {
        say(&format!("note: {note}\n"));
    }
    let out = &mut io::stdout().lock();
    let written = match options.format {
        Format::Text => as_text(out, &replayed, requests.len()),
        Format::Json => as_json(out, &replayed, requests.len(), others),
    };
    if written.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The requests of a log, and how many of its lines are none.
fn read(mut log: impl BufRead) -> io::Result<(Vec<Logged>, u64)> {
    let (mut requests, mut others) = (Vec::new(), 0);
    let mut line = Vec::new();
    loop {
        line.clear();
        if log.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line)? == 0 {
            return Ok((requests, others));
        }
        match lines::parse(&String::from_utf8_lossy(&line)) {
            Some(request) => requests.push(request),
            None => others += 1,
        }
    }
}

/// What the result does not say by itself.
fn notes(config: &Config, requests: &[Logged], others: u64) -> Vec<String> {
    let mut notes = Vec::new();
    if others > 0 {
        notes.push(format!("{others} lines are no request that a limit could meet"));
    }
    if requests.is_empty() {
        notes.push("there is no request in this log".to_owned());
    }
    let mut untold = BTreeSet::new();
    for limit in &config.rate_limits {
        for part in &limit.settings.key {
            match part {
                KeyPart::Header(_) | KeyPart::Cookie(_) | KeyPart::Body(_) => {
                    untold.insert(limit.name.as_str());
                }
                KeyPart::Query(_) if requests.iter().any(|request| request.route.is_some()) => {
                    untold.insert(limit.name.as_str());
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
    for name in untold {
        notes.push(format!("{name} counts by what logs do not tell; such requests are counted by client_ip"));
    }
    notes
}

fn as_text(out: &mut dyn Write, replayed: &Replayed<'_>, requests: usize) -> io::Result<()> {
    for refused in &replayed.refused {
        let Refused { request, route, rule, shadow, retry_after } = refused;
        let time = humantime::format_rfc3339_millis(UNIX_EPOCH + request.started);
        let word = if *shadow { "would refuse" } else { "refused" };
        // A log holds what clients sent: it must not steer a terminal.
        let (method, target) = (request.method.escape_debug(), request.target.escape_debug());
        let client = request.client_ip;
        writeln!(
            out,
            "{time} {word} {client} {method} {target} route={route} rule={rule} retry_after={retry_after}"
        )?;
    }
    writeln!(out, "{requests} requests, {} of them limited by no rule", replayed.unlimited)?;
    for (rule, (admitted, refused)) in &replayed.rules {
        let clients: BTreeSet<_> =
            replayed.refused.iter().filter(|it| it.rule == *rule).map(|it| it.request.client_ip).collect();
        writeln!(out, "{rule}: {admitted} admitted, {refused} refused, of {} clients", clients.len())?;
    }
    Ok(())
}

fn as_json(out: &mut dyn Write, replayed: &Replayed<'_>, requests: usize, others: u64) -> io::Result<()> {
    let refused: Vec<_> = replayed
        .refused
        .iter()
        .map(|refused| {
            json!({
                "time": humantime::format_rfc3339_millis(UNIX_EPOCH + refused.request.started).to_string(),
                "client_ip": refused.request.client_ip,
                "method": refused.request.method,
                "target": refused.request.target,
                "route": refused.route,
                "rule": refused.rule,
                "decision": if refused.shadow { "would_refuse" } else { "refused" },
                "retry_after": refused.retry_after,
            })
        })
        .collect();
    let rules: Vec<_> = replayed
        .rules
        .iter()
        .map(|(name, (admitted, refused))| json!({ "rule": name, "admitted": admitted, "refused": refused }))
        .collect();
    let value = json!({
        "requests": requests,
        "other_lines": others,
        "unlimited": replayed.unlimited,
        "rules": rules,
        "refused": refused,
    });
    writeln!(out, "{value:#}")
}
