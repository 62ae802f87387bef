//! Collects the problems of values against each other, and reads the files that the configuration refers to.
//!
//! An invalid value is recorded as a problem at its [`Place`]; the caller continues with the default, so that one load
//! finds all problems.

use std::cell::{OnceCell, RefCell};
use std::sync::Arc;
use std::time::SystemTime;

use super::file::forms::Named;
use super::problem::{Diagnostic, Location, Problem, Source};
use super::sources::{self, ReadHelp};
use super::tree::{Node, NodeKind, child_path, index_in_file};
use crate::contract::text;
use crate::tls::cert_verification::CertVerification;

/// What a configuration is loaded for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To be used, here or elsewhere: serving an expired certificate is better than not serving at all.
    Use,
    /// To be checked, at this time and on this machine: certificates must be valid, and sockets possible.
    Check(SystemTime),
}

/// The file and the problems found so far.
pub(crate) struct Validator<'t> {
    /// The file with all locations.
    pub tree: &'t Node,
    /// The problems so far.
    pub problems: RefCell<Vec<Problem>>,
    /// The files, for the places in messages; relative paths start at the directory of their file.
    pub files: &'t [Source],
    /// What the file is loaded for.
    pub purpose: Purpose,
    /// Valid settings that are probably mistakes.
    pub warnings: RefCell<Vec<Problem>>,
    /// The trusted authorities of the system, loaded on first use.
    pub system_trust: OnceCell<Arc<CertVerification>>,
}

impl Validator<'_> {
    /// The place of the whole file.
    pub(crate) fn root(&self) -> Place<'_> {
        let location = self.tree.location;
        Place { validator: self, path: String::new(), location, name: location, node: Some(self.tree) }
    }
}

/// A value of the file, present or absent: what a check asks about it, and where its problems are recorded.
#[derive(Clone)]
pub(crate) struct Place<'v> {
    /// What collects the problems.
    pub validator: &'v Validator<'v>,
    /// For messages, with the indices of the file.
    path: String,
    /// A text value itself, or the key of another value; the closest parent of an absent value.
    location: Location,
    /// The key.
    name: Location,
    node: Option<&'v Node>,
}

impl<'v> Place<'v> {
    /// The key `name` of this section.
    pub(crate) fn key(&self, name: &str) -> Place<'v> {
        let path = child_path(&self.path, name);
        match self.node.and_then(|node| node.entry(name)) {
            Some(entry) => Place {
                validator: self.validator,
                path,
                location: entry.display_location(),
                name: entry.location,
                node: Some(&entry.value),
            },
            // The keys of an invalid section are unknown and count as present.
            None => {
                let node = self.node.filter(|node| node.kind == NodeKind::Invalid);
                Place { path, name: self.location, node, ..self.clone() }
            }
        }
    }

    /// The item `index` of this list, counted *among the valid items*.
    pub(crate) fn item(&self, index: usize) -> Place<'v> {
        let items = self.node.map(Node::items).unwrap_or_default();
        match items.iter().enumerate().filter(|(_, item)| item.kind != NodeKind::Invalid).nth(index) {
            Some((number, item)) => {
                let path = format!("{}[{}]", self.path, index_in_file(items, number));
                let location = item.location;
                Place { validator: self.validator, path, location, name: location, node: Some(item) }
            }
            // A single value where a list is allowed is its only item.
            None => self.clone(),
        }
    }

    /// The items of this list, each with its place.
    pub(crate) fn items<'f, T: 'f, I: IntoIterator<Item = &'f T>>(
        &self,
        items: I,
    ) -> impl Iterator<Item = (Place<'v>, &'f T)> + use<'v, 'f, T, I> {
        let list = self.clone();
        items.into_iter().enumerate().map(move |(index, item)| (list.item(index), item))
    }

    /// The named values of this section, each with its place.
    pub(crate) fn sections<'f, T>(
        &self,
        sections: Option<&'f Named<T>>,
    ) -> impl Iterator<Item = (Place<'v>, &'f String, &'f T)> + use<'v, 'f, T> {
        let section = self.clone();
        let sections = sections.into_iter().flat_map(|sections| &sections.0);
        sections.map(move |(name, value)| (section.key(name), name, value))
    }

    /// The path for messages, for example `routes[1].timeouts.deadline`.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// The value, unless it is absent.
    pub(crate) fn node(&self) -> Option<&'v Node> {
        self.node
    }

    /// Whether a value, valid or invalid, is present, so that it must not be reported as missing.
    pub(crate) fn is_written(&self) -> bool {
        self.node.is_some_and(|node| !node.is_null())
    }

    /// Whether this value or one in it is invalid, so that its absence in the structs is not a problem.
    pub(crate) fn any_invalid(&self) -> bool {
        self.node.is_some_and(Node::has_invalid)
    }

    /// Whether this value or one in it is invalid, or has a problem that is recorded.
    pub(crate) fn is_faulty(&self) -> bool {
        let is_inside = |problem: &Problem| {
            let rest = problem.path.strip_prefix(&self.path);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        self.any_invalid() || self.validator.problems.borrow().iter().any(is_inside)
    }

    /// Records a problem.
    pub(crate) fn report(&self, message: impl Into<String>, help: impl Into<String>) {
        self.diagnose(Diagnostic::new(message, help));
    }

    /// Records the diagnostic as a problem.
    pub(crate) fn diagnose(&self, diagnostic: Diagnostic) {
        self.validator.problems.borrow_mut().push(diagnostic.at(&*self.path, self.location));
    }

    /// Records the diagnostic as a problem with the key itself, not with its value.
    pub(crate) fn diagnose_name(&self, diagnostic: Diagnostic) {
        self.validator.problems.borrow_mut().push(diagnostic.at(&*self.path, self.name));
    }

    /// Records a problem, unless the same one is recorded already: several routes may find it in one inherited key.
    pub(crate) fn report_once(&self, message: impl Into<String>, help: impl Into<String>) {
        let problem = Diagnostic::new(message, help).at(&*self.path, self.location);
        let mut problems = self.validator.problems.borrow_mut();
        if !problems.contains(&problem) {
            problems.push(problem);
        }
    }

    /// Records a warning.
    pub(crate) fn warn(&self, message: impl Into<String>, help: impl Into<String>) {
        let warning = Diagnostic::new(message, help).at(&*self.path, self.location);
        self.validator.warnings.borrow_mut().push(warning);
    }

    /// Records that a required value is missing, unless it is present but invalid.
    pub(crate) fn missing(&self, help: impl Into<String>) {
        if !self.is_written() {
            self.report("missing", help);
        }
    }

    /// Records that this key has no effect because of another one, if it is written.
    pub(crate) fn pointless(&self, message: impl Into<String>, help: impl Into<String>) {
        if self.is_written() {
            self.report(message, help);
        }
    }

    /// Returns the parsed value, or records its diagnostic.
    pub(crate) fn check<T>(&self, parsed: Result<T, Diagnostic>) -> Option<T> {
        parsed.map_err(|diagnostic| self.diagnose(diagnostic)).ok()
    }

    /// Returns the parsed name of this key, or records its diagnostic.
    pub(crate) fn check_name<T>(&self, parsed: Result<T, Diagnostic>) -> Option<T> {
        parsed.map_err(|diagnostic| self.diagnose_name(diagnostic)).ok()
    }

    /// The values of this list; one that is listed twice is recorded.
    pub(crate) fn distinct<T: Clone + PartialEq>(&self, values: impl IntoIterator<Item = T>) -> Vec<T> {
        let mut seen = Vec::new();
        for (index, value) in values.into_iter().enumerate() {
            if seen.contains(&value) {
                self.item(index).report_duplicate();
            } else {
                seen.push(value);
            }
        }
        seen
    }

    /// Records that an earlier item of the list is the same.
    pub(crate) fn report_duplicate(&self) {
        let text = self.node.and_then(Node::text).unwrap_or_default();
        self.diagnose(Diagnostic::of(text, "is listed twice", "keep one"));
    }

    /// ` (file:line)` of an earlier value, if it is in another file than this one; otherwise empty.
    pub(crate) fn other_file(&self, earlier: &Place<'_>) -> String {
        if earlier.location.file == self.location.file {
            return String::new();
        }
        format!(" ({})", sources::place(self.validator.files, earlier.location))
    }

    /// Reads a file that the configuration refers to.
    pub(crate) fn read_file(&self, text: &str) -> Option<Vec<u8>> {
        let file = self.validator.files.get(self.location.file);
        let path = file.map(|file| sources::directory(&file.name)).unwrap_or_default().join(text);
        self.check(sources::read_bytes(&path, &PEM_FILE))
    }

    /// Checks a message for clients.
    pub(crate) fn message(&self, message: &str) -> bool {
        let Some(problem) = text::problem(message) else { return true };
        let text = problem.to_string();
        let (problem, help) = text.split_once("; ").unwrap_or((&text, ""));
        self.report(format!("the message {problem}"), help);
        false
    }
}

const PEM_FILE: ReadHelp = ReadHelp {
    missing: "write the path of a PEM file, relative to the directory of this file",
    directory: "write the path of a file in it",
    unreadable: "write the path of a readable PEM file",
    too_large: "write the path of a PEM file",
};
