//! Collects the problems of values against each other, and reads the files that the configuration refers to.
//!
//! An invalid value is recorded as a problem; the caller continues with the default, so that one load finds all problems.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use http::Method;

use super::file::syntaxes::MethodName;
use super::problem::{Diagnostic, Problem, Source, quoted};
use super::sources;
use super::tree::{KeyPath, Tree};
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

    /// Records a problem with the key itself, not with its value.
    pub(crate) fn report_name(&mut self, at: &KeyPath<'_>, diagnostic: Diagnostic) {
        self.problems.push(self.tree.problem_of_name(at, diagnostic));
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

    /// Records that an earlier item of the list is the same.
    pub(crate) fn report_duplicate(&mut self, item: &KeyPath<'_>) {
        let text = self.tree.node(item).and_then(|node| node.text()).unwrap_or_default();
        self.report(item, Diagnostic::new(format!("{} is listed twice", quoted(text)), "keep one"));
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

/// The methods of a list, each once.
pub(crate) fn distinct(list: Option<&[MethodName]>) -> Vec<Method> {
    let mut methods: Vec<Method> = Vec::new();
    for method in list.into_iter().flatten() {
        if !methods.contains(method) {
            methods.push(method.0.clone());
        }
    }
    methods
}

/// Far above any certificate bundle; it prevents a wrong path from filling the memory.
const MAX_FILE_SIZE: usize = 8 << 20;
