//! `statusquo check`: is this configuration good?
//!
//! It loads the file exactly as `run` does and opens nothing. Certificates must be valid now: `run` would serve an expired
//! one, and say so. The result is on standard output, what is wrong on standard
//! error (as JSON, all of it is the result). What is wrong is decided in [`crate::config`].

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use serde_json::json;

use crate::config::{self, Config, Problems};

/// The exit status of a refused configuration (`EX_CONFIG` of sysexits.h).
pub const REFUSED: u8 = 78;

/// How the result is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// For machines.
    Json,
}

/// Checks `file`: 0 when it is good, [`REFUSED`] when it is not, 1 when the result could not be written.
pub fn run(file: &Path, format: Format) -> ExitCode {
    let parallelism = std::thread::available_parallelism().map_or(1, usize::from);
    #[expect(clippy::disallowed_methods, reason = "the command line is where the environment is read")]
    let loaded =
        config::check_file(file, &|name| std::env::var(name).ok(), parallelism, std::time::SystemTime::now());
    let written = report(file, format, &loaded, &mut io::stdout().lock(), &mut io::stderr().lock());
    match (written, loaded) {
        (Err(_), _) => ExitCode::FAILURE,
        (Ok(()), Ok(_)) => ExitCode::SUCCESS,
        (Ok(()), Err(_)) => ExitCode::from(REFUSED),
    }
}

fn report(
    file: &Path,
    format: Format,
    loaded: &Result<Config, Problems>,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<()> {
    let name = file.display().to_string();
    match (format, loaded) {
        (Format::Text, Ok(config)) => {
            if !config.warnings.is_empty() {
                write!(err, "probably not meant:\n{}", config.warnings.render_list())?;
            }
            writeln!(out, "{name} is good: {}", summary(config))
        }
        (Format::Text, Err(problems)) => {
            write!(err, "{problems}").and_then(|()| writeln!(out, "{name} is refused"))
        }
        (Format::Json, Ok(config)) => {
            let warnings = config.warnings.to_json();
            write_json(out, &json!({ "file": name, "good": true, "problems": [], "warnings": warnings }))
        }
        (Format::Json, Err(problems)) => {
            let problems = problems.to_json();
            write_json(out, &json!({ "file": name, "good": false, "problems": problems, "warnings": [] }))
        }
    }
}

fn write_json(out: &mut dyn Write, value: &serde_json::Value) -> io::Result<()> {
    writeln!(out, "{value:#}")
}

fn summary(config: &Config) -> String {
    let count = |number: usize, noun: &str| format!("{number} {noun}{}", if number == 1 { "" } else { "s" });
    format!(
        "{}, {}, {}, contract {}",
        count(config.listeners.len(), "listener"),
        count(config.upstreams.len(), "upstream"),
        count(config.routes.len(), "route"),
        config.contract.name(),
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn reported(text: &str, format: Format) -> (String, String) {
        let loaded = config::load_str("statusquo.yaml", text, &|_| None, 1);
        let (mut out, mut err) = (Vec::new(), Vec::new());
        report(Path::new("statusquo.yaml"), format, &loaded, &mut out, &mut err).unwrap();
        (String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
    }

    const GOOD: &str = include_str!("../../config/minimal.yaml");

    #[test]
    fn a_good_file_is_one_line_on_standard_output() {
        let (out, err) = reported(GOOD, Format::Text);
        assert_eq!(out, "statusquo.yaml is good: 1 listener, 1 upstream, 1 route, contract appwrite\n");
        assert_eq!(err, "");
    }

    #[test]
    fn a_limit_that_lets_anybody_lock_others_out_is_good_and_warned_of() {
        let with = |rules: &str| format!("{GOOD}\nrate_limits: {{ {rules} }}\n");
        let (out, err) =
            reported(&with("login: { key: [\"body:email\", route], allow: 10 per 1h }"), Format::Text);
        assert!(out.starts_with("statusquo.yaml is good: "), "{out}");
        let told = "rate_limits.login.key: anybody can send another's value and use up what is allowed to them; add client_ip \
                    to the key, and a rule by client_ip alone beside it";
        assert!(err.starts_with("probably not meant:\n") && err.contains(told), "{err}");
        let (out, _) = reported(&with("login: { key: [\"body:email\"], allow: 10 per 1h }"), Format::Json);
        let value: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!(value["warnings"][0]["path"], "rate_limits.login.key");
        for fine in [
            "a: { key: [client_ip, \"body:email\"], allow: 10 per 1h }",
            "a: { key: [route], allow: 10 per 1h }",
            "a: { key: [\"body:email\"], allow: 10 per 1h, mode: shadow }",
        ] {
            assert_eq!(reported(&with(fine), Format::Text).1, "", "{fine}");
        }
    }

    #[test]
    fn problems_are_for_people_on_standard_error() {
        let (out, err) = reported(&GOOD.replace("upstream: app", "upstream: apt"), Format::Text);
        assert_eq!(out, "statusquo.yaml is refused\n");
        assert!(
            err.contains("routes[0].upstream: there is no upstream \"apt\"; did you mean \"app\"?"),
            "{err}"
        );
    }

    #[test]
    fn problems_are_for_machines_on_standard_output() {
        let (out, err) = reported(&GOOD.replace("upstream: app", "upstream: apt"), Format::Json);
        let value: serde_json::Value = serde_json::from_str(&out).unwrap();
        let expected = json!({
            "file": "statusquo.yaml",
            "good": false,
            "problems": [{
                "path": "routes[0].upstream",
                "line": 14,
                "column": 15,
                "what": "there is no upstream \"apt\"",
                "remedy": "did you mean \"app\"?",
            }],
            "warnings": [],
        });
        assert_eq!((value, err.as_str()), (expected, ""));
    }

    #[test]
    fn a_file_that_is_not_there_is_told_in_one_sentence() {
        let path = Path::new("no-such-directory/statusquo.yaml");
        let problems = config::load_file(path, &|_| None, 1).unwrap_err();
        assert_eq!(
            problems.to_string(),
            "cannot read no-such-directory/statusquo.yaml: no such file; pass the path of a configuration, or write one \
             with `statusquo init`\n"
        );
    }
}
