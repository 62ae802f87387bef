//! `statusquo check`: validates a configuration.
//!
//! The file is loaded exactly as by `run`, but nothing is opened. Expired certificates are rejected; `run` serves them
//! and logs an error. The result is printed on standard output and the problems on standard error; with `--format
//! json`, everything is one document on standard output.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use serde_json::json;

use crate::config::{self, Config, Problems};

/// The exit status for an invalid configuration (`EX_CONFIG` in sysexits.h).
pub(crate) const INVALID_CONFIG: u8 = 78;

/// The output format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ReportFormat {
    /// Text.
    #[default]
    Text,
    /// JSON.
    Json,
}

/// Checks `file`. The exit status is 0 if it is valid, [`INVALID_CONFIG`] if not, and 1 if the output could not be
/// written.
pub(crate) fn run(file: &Path, format: ReportFormat) -> ExitCode {
    let parallelism = std::thread::available_parallelism().map_or(1, usize::from);
    #[expect(clippy::disallowed_methods, reason = "only cli reads the environment")]
    let loaded = config::load_file(
        file,
        &|name| std::env::var(name).ok(),
        parallelism,
        config::Purpose::Check(std::time::SystemTime::now()),
    );
    let written = report(file, format, &loaded, &mut io::stdout().lock(), &mut io::stderr().lock());
    match (written, loaded) {
        (Err(_), _) => ExitCode::FAILURE,
        (Ok(()), Ok(_)) => ExitCode::SUCCESS,
        (Ok(()), Err(_)) => ExitCode::from(INVALID_CONFIG),
    }
}

fn report(
    file: &Path,
    format: ReportFormat,
    loaded: &Result<Config, Problems>,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<()> {
    let name = file.display().to_string();
    match (format, loaded) {
        (ReportFormat::Text, Ok(config)) => {
            if !config.warnings.is_empty() {
                write!(err, "warnings:\n{}", config.warnings.render_list())?;
            }
            writeln!(out, "{name}: configuration is valid: {}", summary(config))
        }
        (ReportFormat::Text, Err(problems)) => {
            write!(err, "{problems}").and_then(|()| writeln!(out, "{name}: configuration is invalid"))
        }
        (ReportFormat::Json, Ok(config)) => {
            let warnings = config.warnings.to_json();
            write_json(out, &json!({ "file": name, "valid": true, "problems": [], "warnings": warnings }))
        }
        (ReportFormat::Json, Err(problems)) => write_json(out, &invalid(file, problems)),
    }
}

/// The report on an invalid file as JSON.
pub(super) fn invalid(file: &Path, problems: &Problems) -> serde_json::Value {
    let file = file.display().to_string();
    json!({ "file": file, "valid": false, "problems": problems.to_json(), "warnings": [] })
}

pub(super) fn write_json(out: &mut dyn Write, value: &serde_json::Value) -> io::Result<()> {
    writeln!(out, "{value:#}")
}

fn summary(config: &Config) -> String {
    let count = |number: usize, noun: &str| format!("{number} {noun}{}", if number == 1 { "" } else { "s" });
    let contracts: Vec<&str> = config.contracts().iter().map(|contract| contract.name()).collect();
    format!(
        "{}, {}, {}, {} {}",
        count(config.listeners.len(), "listener"),
        count(config.upstreams.len(), "upstream"),
        count(config.routes.len(), "route"),
        if contracts.len() == 1 { "contract" } else { "contracts" },
        contracts.join(", "),
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn reported(text: &str, format: ReportFormat) -> (String, String) {
        let loaded = config::load_str("statusquo.yaml", text, &|_| None, 1);
        let (mut out, mut err) = (Vec::new(), Vec::new());
        report(Path::new("statusquo.yaml"), format, &loaded, &mut out, &mut err).unwrap();
        (String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
    }

    const VALID: &str = include_str!("../../config/minimal.yaml");

    #[test]
    fn check_prints_one_line_on_stdout_for_a_valid_file() {
        let (out, err) = reported(VALID, ReportFormat::Text);
        assert_eq!(
            out,
            "statusquo.yaml: configuration is valid: 1 listener, 1 upstream, 1 route, contract appwrite\n"
        );
        assert_eq!(err, "");
    }

    #[test]
    fn rate_limit_key_without_client_ip_is_valid_with_a_lockout_warning() {
        let with = |rules: &str| {
            let (name, _) = rules.split_once(':').unwrap();
            let used = VALID.replace("upstream: app", &format!("upstream: app\n    rate_limits: [{name}]"));
            format!("{used}\nrate_limits: {{ {rules} }}\n")
        };
        let (out, err) =
            reported(&with("login: { key: [\"body:email\", route], allow: 10 per 1h }"), ReportFormat::Text);
        assert!(out.starts_with("statusquo.yaml: configuration is valid: "), "{out}");
        let warning = "rate_limits.login.key: a client can send another client's value and use up its quota; add client_ip \
                       to the key, and add a second rule with only client_ip";
        assert!(err.starts_with("warnings:\n") && err.contains(warning), "{err}");
        let (out, _) =
            reported(&with("login: { key: [\"body:email\"], allow: 10 per 1h }"), ReportFormat::Json);
        let value: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!(value["warnings"][0]["path"], "rate_limits.login.key");
        for valid_rule in [
            "a: { key: [client_ip, \"body:email\"], allow: 10 per 1h }",
            "a: { key: [route], allow: 10 per 1h }",
            "a: { key: [\"body:email\"], allow: 10 per 1h, mode: shadow }",
        ] {
            assert_eq!(reported(&with(valid_rule), ReportFormat::Text).1, "", "{valid_rule}");
        }
    }

    #[test]
    fn problems_are_printed_on_stderr_in_text_format() {
        let (out, err) = reported(&VALID.replace("upstream: app", "upstream: apt"), ReportFormat::Text);
        assert_eq!(out, "statusquo.yaml: configuration is invalid\n");
        assert!(err.contains("routes[0].upstream: unknown upstream \"apt\"; did you mean \"app\"?"), "{err}");
    }

    #[test]
    fn problems_are_printed_on_stdout_in_json_format() {
        let (out, err) = reported(&VALID.replace("upstream: app", "upstream: apt"), ReportFormat::Json);
        let value: serde_json::Value = serde_json::from_str(&out).unwrap();
        let expected = json!({
            "file": "statusquo.yaml",
            "valid": false,
            "problems": [{
                "path": "routes[0].upstream",
                "file": "statusquo.yaml",
                "line": 14,
                "column": 15,
                "message": "unknown upstream \"apt\"",
                "help": "did you mean \"app\"?",
            }],
            "warnings": [],
        });
        assert_eq!((value, err.as_str()), (expected, ""));
    }

    #[test]
    fn missing_file_is_reported_in_one_sentence() {
        let path = Path::new("no-such-directory/statusquo.yaml");
        let problems = config::load_file(path, &|_| None, 1, config::Purpose::Use).unwrap_err();
        assert_eq!(
            problems.to_string(),
            "cannot read no-such-directory/statusquo.yaml: no such file; pass the path of a configuration file, or create one \
             with `statusquo init`\n"
        );
    }
}
