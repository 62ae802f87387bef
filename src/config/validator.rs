//! Parses single values of the file and collects their problems.
//!
//! Every method takes the path and the optional value, and returns the parsed value if it is present and valid. An
//! invalid value is recorded as a problem; the caller continues with the default, so that one load finds all problems.

use std::io;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::Method;
use ipnet::IpNet;

use super::file::forms::{DurationText, SizeText};
use super::problem::{Diagnostic, Problem, Source, quoted};
use super::sources;
use super::tree::{KeyPath, Tree};
use super::units;
use crate::contract::text;
use crate::tls::cert_verification::CertVerification;

/// The tree and the problems found so far.
pub(crate) struct Validator<'t> {
    /// The file with all locations.
    pub tree: &'t Tree,
    /// The problems so far.
    pub problems: Vec<Problem>,
    /// The files, for the places in messages; relative paths start at the directory of their file.
    pub files: &'t [Source],
    /// The time at which certificates must be valid; `None` skips this check.
    pub now: Option<SystemTime>,
    /// Valid settings that are probably mistakes.
    pub warnings: Vec<Problem>,
    /// The trusted authorities of the system, loaded on first use.
    pub system_trust: Option<Arc<CertVerification>>,
}

impl Validator<'_> {
    /// Records a problem with the value at `at`.
    pub(crate) fn report(&mut self, at: &KeyPath<'_>, diagnostic: Diagnostic) {
        self.problems.push(self.tree.problem(at, diagnostic));
    }

    /// Records a problem, unless the same one is recorded already: several routes may find it in one inherited key.
    pub(crate) fn report_once(&mut self, at: &KeyPath<'_>, diagnostic: Diagnostic) {
        let problem = self.tree.problem(at, diagnostic);
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }

    /// Records a warning about the value at `at`.
    pub(crate) fn warn(&mut self, at: &KeyPath<'_>, diagnostic: Diagnostic) {
        self.warnings.push(self.tree.problem(at, diagnostic));
    }

    /// Records that a required value is missing, unless it is present but invalid.
    pub(crate) fn missing(&mut self, at: &KeyPath<'_>, help: impl Into<String>) {
        if !self.tree.is_written(at) {
            self.report(at, Diagnostic::new("missing", help));
        }
    }

    /// Returns the parsed value, or records its diagnostic.
    pub(crate) fn check<T>(&mut self, at: &KeyPath<'_>, parsed: Result<T, Diagnostic>) -> Option<T> {
        match parsed {
            Ok(value) => Some(value),
            Err(diagnostic) => {
                self.report(at, diagnostic);
                None
            }
        }
    }

    /// A duration greater than zero.
    pub(crate) fn duration(&mut self, at: &KeyPath<'_>, text: Option<&DurationText>) -> Option<Duration> {
        let time = self.duration_or_zero(at, text)?;
        if time.is_zero() {
            self.report(
                at,
                Diagnostic::new("the duration must be greater than 0", "use a duration such as 1s"),
            );
            return None;
        }
        Some(time)
    }

    /// A duration; zero is allowed.
    pub(crate) fn duration_or_zero(
        &mut self,
        at: &KeyPath<'_>,
        text: Option<&DurationText>,
    ) -> Option<Duration> {
        let DurationText(text) = text?;
        if text == "off" {
            self.report(at, Diagnostic::new("\"off\" is not allowed here", "use a duration such as 1s"));
            return None;
        }
        self.check(at, units::duration(text))
    }

    /// A size within `bounds`; `help` describes the bounds.
    pub(crate) fn size(
        &mut self,
        at: &KeyPath<'_>,
        text: Option<&SizeText>,
        bounds: RangeInclusive<u64>,
        help: &str,
    ) -> Option<u64> {
        let SizeText(text) = text?;
        let size = self.check(at, units::size(text))?;
        if !bounds.contains(&size) {
            let word = if size < *bounds.start() { "small" } else { "large" };
            self.report(at, Diagnostic::new(format!("{} is too {word}", quoted(text)), help));
            return None;
        }
        Some(size)
    }

    /// A number within bounds.
    pub(crate) fn number(
        &mut self,
        at: &KeyPath<'_>,
        number: Option<u64>,
        bounds: RangeInclusive<u64>,
    ) -> Option<u64> {
        let number = number?;
        if !bounds.contains(&number) {
            let help = format!("expected {} to {}", bounds.start(), bounds.end());
            self.report(at, Diagnostic::new(format!("{number} is out of range"), help));
            return None;
        }
        Some(number)
    }

    /// Every valid item of a list.
    pub(crate) fn list<T>(
        &mut self,
        at: &KeyPath<'_>,
        items: Option<&Vec<String>>,
        parse: impl Fn(&str) -> Result<T, Diagnostic>,
    ) -> Vec<T> {
        let mut values = Vec::new();
        for (index, item) in items.into_iter().flatten().enumerate() {
            values.extend(self.check(&at.item(index), parse(item)));
        }
        values
    }

    fn directory(&self, at: &KeyPath<'_>) -> PathBuf {
        let file = self.files.get(self.tree.location(at).file);
        file.map(|file| sources::directory(&file.name)).unwrap_or_default()
    }

    /// ` (file:line)` of an earlier value, if it is in another file than the value at `at`; otherwise empty.
    pub(crate) fn other_file(&self, at: &KeyPath<'_>, earlier: &KeyPath<'_>) -> String {
        let earlier = self.tree.location(earlier);
        if earlier.file == self.tree.location(at).file {
            return String::new();
        }
        format!(" ({})", sources::place(self.files, earlier))
    }

    /// Reads a file that the configuration refers to.
    pub(crate) fn read_file(&mut self, at: &KeyPath<'_>, text: &str) -> Option<Vec<u8>> {
        let path = self.directory(at).join(text);
        let unreadable = |reason: &str, help: &str| {
            Err(Diagnostic::new(format!("cannot read {}: {reason}", path.display()), help))
        };
        let read = match std::fs::read(&path) {
            Ok(bytes) if bytes.len() > MAX_FILE_SIZE => {
                unreadable("it is larger than 8 MiB", "write the path of a PEM file")
            }
            Ok(bytes) => Ok(bytes),
            Err(error) => match error.kind() {
                io::ErrorKind::NotFound => unreadable(
                    "no such file",
                    "write the path of a PEM file, relative to the directory of this file",
                ),
                io::ErrorKind::PermissionDenied => {
                    unreadable("permission denied", "grant read access to the user that runs statusquo")
                }
                io::ErrorKind::IsADirectory => {
                    unreadable("it is a directory", "write the path of a file in it")
                }
                _ => unreadable(&error.to_string(), "write the path of a readable PEM file"),
            },
        };
        self.check(at, read)
    }

    /// A list of networks.
    pub(crate) fn networks(&mut self, at: &KeyPath<'_>, items: Option<&Vec<String>>) -> Vec<IpNet> {
        self.list(at, items, units::network)
    }

    /// A list of methods, without duplicates.
    pub(crate) fn methods(&mut self, at: &KeyPath<'_>, items: Option<&Vec<String>>) -> Vec<Method> {
        let mut methods = self.list(at, items, units::method);
        let mut seen = Vec::new();
        methods.retain(|method| {
            let new = !seen.contains(method);
            seen.push(method.clone());
            new
        });
        methods
    }

    /// Checks a message for clients.
    pub(crate) fn message(&mut self, at: &KeyPath<'_>, message: &str) -> bool {
        match text::problem(message) {
            None => true,
            Some(problem) => {
                let text = problem.to_string();
                let (problem_text, help) = text.split_once("; ").unwrap_or((&text, ""));
                self.report(at, Diagnostic::new(format!("the message {problem_text}"), help));
                false
            }
        }
    }
}

/// Checks a name that becomes a metric label, a log value and a part of paths in messages.
///
/// # Errors
/// The name is empty, too long, has other characters, or is `none`.
pub(crate) fn metric_name(name: &str) -> Result<(), Diagnostic> {
    let valid = (1..=64).contains(&name.len())
        && name.bytes().all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, b'_' | b'.' | b'-'));
    if !valid {
        let message = format!("{} is not a valid name", quoted(name));
        return Err(Diagnostic::new(message, "use 1 to 64 of A-Z, a-z, 0-9, _, . and -"));
    }
    if name == "none" {
        return Err(Diagnostic::new(
            "\"none\" is reserved: metrics use it for requests without a route",
            "choose another name",
        ));
    }
    Ok(())
}

/// Far above any certificate bundle; it prevents a wrong path from filling the memory.
const MAX_FILE_SIZE: usize = 8 << 20;
