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

use super::error::{Problem, Refusal, quoted};
use super::file::forms::{DurationText, SizeText};
use super::tree::{Place, Tree};
use super::units;
use crate::contract::text;
use crate::protocol::request_head::check_method;
use crate::tls::trust::CertVerification;

/// The tree, and what was found wrong with it.
pub struct Checker<'t> {
    /// Where everything stands.
    pub tree: &'t Tree,
    /// What is wrong so far.
    pub problems: Vec<Problem>,
    /// Where relative paths begin.
    pub folder: &'t Path,
    /// When it is asked whether certificates are valid; `None`: it is not asked.
    pub now: Option<SystemTime>,
    /// What can be served and is probably not meant.
    pub warnings: Vec<Problem>,
    /// The system's list of trusted authorities, once somebody has asked for it.
    pub system: Option<Arc<CertVerification>>,
}

impl Checker<'_> {
    /// Records what is wrong with the value at `at`.
    pub fn refuse(&mut self, at: &Place<'_>, refusal: Refusal) {
        self.problems.push(self.tree.problem(at, refusal));
    }

    /// Records that the value at `at` is probably not meant.
    pub fn warn(&mut self, at: &Place<'_>, refusal: Refusal) {
        self.warnings.push(self.tree.problem(at, refusal));
    }

    /// Records that something required is missing, unless it was written and has been refused already.
    pub fn missing(&mut self, at: &Place<'_>, remedy: impl Into<String>) {
        if !self.tree.is_written(at) {
            self.refuse(at, Refusal::new("missing", remedy));
        }
    }

    /// A parsed value, or its refusal on record.
    pub fn accept<T>(&mut self, at: &Place<'_>, parsed: Result<T, Refusal>) -> Option<T> {
        match parsed {
            Ok(value) => Some(value),
            Err(refusal) => {
                self.refuse(at, refusal);
                None
            }
        }
    }

    /// A time above zero.
    pub fn time(&mut self, at: &Place<'_>, text: Option<&DurationText>) -> Option<Duration> {
        let time = self.time_or_zero(at, text)?;
        if time.is_zero() {
            self.refuse(
                at,
                Refusal::new("0 would let nothing through", "write a time above zero, for example 1s"),
            );
            return None;
        }
        Some(time)
    }

    /// A time; zero has a meaning.
    pub fn time_or_zero(&mut self, at: &Place<'_>, text: Option<&DurationText>) -> Option<Duration> {
        let DurationText(text) = text?;
        if text == "off" {
            self.refuse(at, Refusal::new("this limit cannot be off", "write a time, for example 1h"));
            return None;
        }
        self.accept(at, units::duration(text))
    }

    /// A time above zero, or `Some(None)` for `off`.
    pub fn time_or_off(&mut self, at: &Place<'_>, text: Option<&DurationText>) -> Option<Option<Duration>> {
        match text {
            Some(DurationText(word)) if word == "off" => Some(None),
            text => self.time(at, text).map(Some),
        }
    }

    /// A time in whole seconds, one second to one day: a `Retry-After`.
    pub fn seconds(&mut self, at: &Place<'_>, text: Option<&DurationText>) -> Option<u64> {
        let time = self.time_or_zero(at, text)?;
        let seconds = time.as_secs();
        if Duration::from_secs(seconds) != time || !(1..=86_400).contains(&seconds) {
            let written = text.map_or("", |text| text.0.as_str());
            let what = format!("{} cannot be sent as Retry-After", quoted(written));
            self.refuse(at, Refusal::new(what, "write whole seconds from 1s to 1d"));
            return None;
        }
        Some(seconds)
    }

    /// A size within bounds; `bounds` in words is the remedy.
    pub fn size(
        &mut self,
        at: &Place<'_>,
        text: Option<&SizeText>,
        bounds: RangeInclusive<u64>,
        remedy: &str,
    ) -> Option<u64> {
        let SizeText(text) = text?;
        let size = self.accept(at, units::size(text))?;
        if !bounds.contains(&size) {
            let word = if size < *bounds.start() { "small" } else { "large" };
            self.refuse(at, Refusal::new(format!("{} is too {word}", quoted(text)), remedy));
            return None;
        }
        Some(size)
    }

    /// A number within bounds.
    pub fn number(
        &mut self,
        at: &Place<'_>,
        number: Option<u64>,
        bounds: RangeInclusive<u64>,
    ) -> Option<u64> {
        let number = number?;
        if !bounds.contains(&number) {
            let remedy = format!("expected {} to {}", bounds.start(), bounds.end());
            self.refuse(at, Refusal::new(format!("{number} is out of range"), remedy));
            return None;
        }
        Some(number)
    }

    /// Every good item of a list.
    pub fn list<T>(
        &mut self,
        at: &Place<'_>,
        items: Option<&Vec<String>>,
        parse: impl Fn(&str) -> Result<T, Refusal>,
    ) -> Vec<T> {
        let mut values = Vec::new();
        for (index, item) in items.into_iter().flatten().enumerate() {
            values.extend(self.accept(&at.item(index), parse(item)));
        }
        values
    }

    /// What is in a file that the configuration names.
    pub fn contents(&mut self, at: &Place<'_>, text: &str) -> Option<Vec<u8>> {
        let path = self.folder.join(text);
        let unreadable = |reason: &str, remedy: &str| {
            Err(Refusal::new(format!("cannot read {}: {reason}", path.display()), remedy))
        };
        let read = match std::fs::read(&path) {
            Ok(bytes) if bytes.len() > LARGEST_CONTENTS => {
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
        self.accept(at, read)
    }

    /// Networks.
    pub fn networks(&mut self, at: &Place<'_>, items: Option<&Vec<String>>) -> Vec<IpNet> {
        self.list(at, items, units::network)
    }

    /// Methods, each once.
    pub fn methods(&mut self, at: &Place<'_>, items: Option<&Vec<String>>) -> Vec<Method> {
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
    pub fn message(&mut self, at: &Place<'_>, message: &str) -> bool {
        match text::problem(message) {
            None => true,
            Some(problem) => {
                let sentence = problem.to_string();
                let (what, remedy) = sentence.split_once("; ").unwrap_or((&sentence, ""));
                self.refuse(at, Refusal::new(format!("the text {what}"), remedy));
                false
            }
        }
    }
}

/// A method that requests may have.
pub fn method(text: &str) -> Result<Method, Refusal> {
    const USUAL: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
    match check_method(text.as_bytes()) {
        Err(_) if text.eq_ignore_ascii_case("CONNECT") || text.eq_ignore_ascii_case("TRACE") => Err(
            Refusal::new(format!("{} is never served", quoted(text)), "remove it: it is always answered 400"),
        ),
        Err(_) => {
            Err(Refusal::new(format!("{} is not a method", quoted(text)), "expected one such as GET or POST"))
        }
        Ok(_) if USUAL.contains(&text.to_ascii_uppercase().as_str()) && !USUAL.contains(&text) => {
            let remedy = format!("methods know upper and lower case: write {}", text.to_ascii_uppercase());
            Err(Refusal::new(format!("{} is not a method", quoted(text)), remedy))
        }
        Ok(method) => Ok(method),
    }
}

/// A field name, in lower case.
pub fn field_name(text: &str) -> Result<HeaderName, Refusal> {
    HeaderName::from_bytes(text.as_bytes()).map_err(|_| {
        let what = format!("{} is not a field name", quoted(text));
        Refusal::new(what, "expected letters, digits and -, for example x-forwarded-for")
    })
}

/// A name that can be a metric label, a log value and a part of a path in a sentence.
///
/// # Errors
/// When it is empty, too long, has other characters, or is `none`.
pub fn label(name: &str) -> Result<(), Refusal> {
    let sound = (1..=64).contains(&name.len())
        && name.bytes().all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, b'_' | b'.' | b'-'));
    if !sound {
        let what = format!("{} cannot be a name", quoted(name));
        return Err(Refusal::new(what, "use 1 to 64 of A-Z, a-z, 0-9, _, . and -"));
    }
    if name == "none" {
        return Err(Refusal::new(
            "\"none\" is what metrics say where there is no route",
            "choose another name",
        ));
    }
    Ok(())
}

/// Far above any bundle of certificates; it only stops a wrong path from filling the memory.
const LARGEST_CONTENTS: usize = 8 << 20;
