//! Reads single values of the file and collects what is wrong with them, each with its place.
//!
//! Every method takes the place, the value if there is one, and gives the parsed value if there is one *and* it is good;
//! a bad one has been recorded, and the caller goes on with the default, so that all problems are found at once. What the
//! sections mean is not known here (see [`super::validate`]).

use std::io;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::{HeaderName, Method};
use ipnet::IpNet;

use super::file::forms::{DurationText, SizeText};
use super::problem::{Diagnostic, Problem, quoted};
use super::tree::{KeyPath, Tree};
use super::units;
use crate::contract::text;
use crate::http::request_head::check_method;
use crate::tls::cert_verification::CertVerification;

/// The tree, and what was found wrong with it.
pub struct Validator<'t> {
    /// Where everything stands.
    pub tree: &'t Tree,
    /// What is wrong so far.
    pub problems: Vec<Problem>,
    /// Where relative paths begin.
    pub base_dir: &'t Path,
    /// When it is asked whether certificates are valid; `None`: it is not asked.
    pub now: Option<SystemTime>,
    /// What can be served and is probably not meant.
    pub warnings: Vec<Problem>,
    /// The system's list of trusted authorities, once somebody has asked for it.
    pub system_trust: Option<Arc<CertVerification>>,
}

impl Validator<'_> {
    /// Records what is wrong with the value at `at`.
    pub fn report(&mut self, at: &KeyPath<'_>, diagnostic: Diagnostic) {
        self.problems.push(self.tree.problem(at, diagnostic));
    }

    /// Records that the value at `at` is probably not meant.
    pub fn warn(&mut self, at: &KeyPath<'_>, diagnostic: Diagnostic) {
        self.warnings.push(self.tree.problem(at, diagnostic));
    }

    /// Records that something required is missing, unless it was written and has been refused already.
    pub fn missing(&mut self, at: &KeyPath<'_>, help: impl Into<String>) {
        if !self.tree.is_written(at) {
            self.report(at, Diagnostic::new("missing", help));
        }
    }

    /// A parsed value, or its refusal on record.
    pub fn check<T>(&mut self, at: &KeyPath<'_>, parsed: Result<T, Diagnostic>) -> Option<T> {
        match parsed {
            Ok(value) => Some(value),
            Err(diagnostic) => {
                self.report(at, diagnostic);
                None
            }
        }
    }

    /// A time above zero.
    pub fn duration(&mut self, at: &KeyPath<'_>, text: Option<&DurationText>) -> Option<Duration> {
        let time = self.duration_or_zero(at, text)?;
        if time.is_zero() {
            self.report(
                at,
                Diagnostic::new("0 would let nothing through", "write a time above zero, for example 1s"),
            );
            return None;
        }
        Some(time)
    }

    /// A time; zero has a meaning.
    pub fn duration_or_zero(&mut self, at: &KeyPath<'_>, text: Option<&DurationText>) -> Option<Duration> {
        let DurationText(text) = text?;
        if text == "off" {
            self.report(at, Diagnostic::new("this limit cannot be off", "write a time, for example 1h"));
            return None;
        }
        self.check(at, units::duration(text))
    }

    /// A time above zero, or `Some(None)` for `off`.
    pub fn duration_or_off(
        &mut self,
        at: &KeyPath<'_>,
        text: Option<&DurationText>,
    ) -> Option<Option<Duration>> {
        match text {
            Some(DurationText(word)) if word == "off" => Some(None),
            text => self.duration(at, text).map(Some),
        }
    }

    /// A time in whole seconds, one second to one day: a `Retry-After`.
    pub fn retry_after_seconds(&mut self, at: &KeyPath<'_>, text: Option<&DurationText>) -> Option<u64> {
        let time = self.duration_or_zero(at, text)?;
        let seconds = time.as_secs();
        if Duration::from_secs(seconds) != time || !(1..=86_400).contains(&seconds) {
            let written = text.map_or("", |text| text.0.as_str());
            let message = format!("{} cannot be sent as Retry-After", quoted(written));
            self.report(at, Diagnostic::new(message, "write whole seconds from 1s to 1d"));
            return None;
        }
        Some(seconds)
    }

    /// A size within bounds; `bounds` in words is the remedy.
    pub fn size(
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
    pub fn number(
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

    /// Every good item of a list.
    pub fn list<T>(
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

    /// What is in a file that the configuration names.
    pub fn read_file(&mut self, at: &KeyPath<'_>, text: &str) -> Option<Vec<u8>> {
        let path = self.base_dir.join(text);
        let unreadable = |reason: &str, remedy: &str| {
            Err(Diagnostic::new(format!("cannot read {}: {reason}", path.display()), remedy))
        };
        let read = match std::fs::read(&path) {
            Ok(bytes) if bytes.len() > MAX_FILE_SIZE => {
                unreadable("it is larger than 8 MiB", "write the path of a PEM file")
            }
            Ok(bytes) => Ok(bytes),
            Err(error) => match error.kind() {
                io::ErrorKind::NotFound => unreadable(
                    "no such file",
                    "write the path of a PEM file; a relative one begins at the folder of this file",
                ),
                io::ErrorKind::PermissionDenied => {
                    unreadable("permission denied", "let the user that runs statusquo read it")
                }
                io::ErrorKind::IsADirectory => {
                    unreadable("it is a directory", "write the path of the file in it")
                }
                _ => unreadable(&error.to_string(), "write the path of a readable PEM file"),
            },
        };
        self.check(at, read)
    }

    /// Networks.
    pub fn networks(&mut self, at: &KeyPath<'_>, items: Option<&Vec<String>>) -> Vec<IpNet> {
        self.list(at, items, units::network)
    }

    /// Methods, each once.
    pub fn methods(&mut self, at: &KeyPath<'_>, items: Option<&Vec<String>>) -> Vec<Method> {
        let mut methods = self.list(at, items, method);
        let mut seen = Vec::new();
        methods.retain(|method| {
            let new = !seen.contains(method);
            seen.push(method.clone());
            new
        });
        methods
    }

    /// A text that a client may read.
    pub fn message(&mut self, at: &KeyPath<'_>, message: &str) -> bool {
        match text::problem(message) {
            None => true,
            Some(problem) => {
                let sentence = problem.to_string();
                let (problem_text, remedy) = sentence.split_once("; ").unwrap_or((&sentence, ""));
                self.report(at, Diagnostic::new(format!("the text {problem_text}"), remedy));
                false
            }
        }
    }
}

/// A method that requests may have.
pub fn method(text: &str) -> Result<Method, Diagnostic> {
    const COMMON_METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
    match check_method(text.as_bytes()) {
        Err(_) if text.eq_ignore_ascii_case("CONNECT") || text.eq_ignore_ascii_case("TRACE") => {
            Err(Diagnostic::new(
                format!("{} is never served", quoted(text)),
                "remove it: it is always answered 400",
            ))
        }
        Err(_) => Err(Diagnostic::new(
            format!("{} is not a method", quoted(text)),
            "expected one such as GET or POST",
        )),
        Ok(_)
            if COMMON_METHODS.contains(&text.to_ascii_uppercase().as_str())
                && !COMMON_METHODS.contains(&text) =>
        {
            let help = format!("methods know upper and lower case: write {}", text.to_ascii_uppercase());
            Err(Diagnostic::new(format!("{} is not a method", quoted(text)), help))
        }
        Ok(method) => Ok(method),
    }
}

/// A field name, in lower case.
pub fn header_name(text: &str) -> Result<HeaderName, Diagnostic> {
    HeaderName::from_bytes(text.as_bytes()).map_err(|_| {
        let message = format!("{} is not a field name", quoted(text));
        Diagnostic::new(message, "expected letters, digits and -, for example x-forwarded-for")
    })
}

/// A name that can be a metric label, a log value and a part of a path in a sentence.
///
/// # Errors
/// When it is empty, too long, has other characters, or is `none`.
pub fn metric_name(name: &str) -> Result<(), Diagnostic> {
    let valid = (1..=64).contains(&name.len())
        && name.bytes().all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, b'_' | b'.' | b'-'));
    if !valid {
        let message = format!("{} cannot be a name", quoted(name));
        return Err(Diagnostic::new(message, "use 1 to 64 of A-Z, a-z, 0-9, _, . and -"));
    }
    if name == "none" {
        return Err(Diagnostic::new(
            "\"none\" is what metrics say where there is no route",
            "choose another name",
        ));
    }
    Ok(())
}

/// Far above any bundle of certificates; it only stops a wrong path from filling the memory.
const MAX_FILE_SIZE: usize = 8 << 20;
