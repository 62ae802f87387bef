//! The errors of reading a value into the structs of [`super::file`]: what is wrong, and what would be right.

use std::fmt;

use serde::de::{self, Unexpected};

use super::key_help;
use super::keys::Keys;
use super::problem::{Diagnostic, NOT_YET, did_you_mean, quoted};
use super::shapes;
use super::tree::Node;

/// A type error or unknown key, and its position in the tree.
#[derive(Debug)]
pub(super) struct TypeError {
    pub(super) kind: TypeErrorKind,
    /// Child indices from the value up to the root.
    child_indices: Vec<usize>,
    /// The section that contains the key, or the value itself.
    section: Option<Keys>,
}

#[derive(Debug)]
pub(super) enum TypeErrorKind {
    /// The message and the help.
    Mismatch(String, String),
    /// A required key of the section is absent or invalid.
    MissingKey,
    UnknownKey(String, &'static [&'static str]),
    UnknownValue(String, &'static [&'static str]),
}

impl TypeError {
    fn new(kind: TypeErrorKind) -> Self {
        TypeError { kind, child_indices: Vec::new(), section: None }
    }

    pub(super) fn mismatch(message: impl Into<String>, help: impl Into<String>) -> Self {
        TypeError::new(TypeErrorKind::Mismatch(message.into(), help.into()))
    }

    pub(super) fn in_child(mut self, child: usize) -> Self {
        self.child_indices.push(child);
        self
    }

    pub(super) fn in_section(mut self, keys: Keys) -> Self {
        self.section.get_or_insert(keys);
        self
    }

    /// Child indices from the root to the value.
    pub(super) fn address(&self) -> Vec<usize> {
        self.child_indices.iter().rev().copied().collect()
    }

    /// The section that lacks a required key.
    pub(super) fn incomplete_section(&self) -> Option<Keys> {
        if let TypeErrorKind::MissingKey = self.kind { self.section } else { None }
    }

    /// Whether the problem is the name of the key.
    pub(super) fn is_at_key(&self) -> bool {
        matches!(self.kind, TypeErrorKind::UnknownKey(..))
    }

    /// What is wrong in this tree.
    pub(super) fn diagnostic(&self, tree: &Node) -> Diagnostic {
        let planned = |word: &str| self.section.and_then(|section| section.planned(word));
        match &self.kind {
            TypeErrorKind::Mismatch(message, help) => Diagnostic::new(message, help),
            TypeErrorKind::MissingKey => Diagnostic::new("incomplete", "add the missing keys"),
            TypeErrorKind::UnknownKey(key, _) if key == "<<" => {
                Diagnostic::new("merge keys are not supported", "write the keys out")
            }
            TypeErrorKind::UnknownKey(key, known) => match planned(key) {
                Some(help) => Diagnostic::new(NOT_YET, help),
                None => Diagnostic::new("unknown key", self.help_for_key(key, known, tree)),
            },
            TypeErrorKind::UnknownValue(value, known) => match planned(value) {
                Some(help) => Diagnostic::of(value, format!("is {NOT_YET}"), help),
                // Kong lists the paths of a route under the name of this key.
                None if *known == ["strict", "lenient"] && value.starts_with('/') => Diagnostic::of(
                    value,
                    "is not how paths are handled",
                    format!("write match: {{ path: {} }}", shapes::scalar(value)),
                ),
                None => Diagnostic::new(
                    format!("unknown value {}", quoted(value)),
                    self.help_for_value(value, known),
                ),
            },
        }
    }

    /// What an unknown key was probably meant to be.
    fn help_for_key(&self, key: &str, known: &[&str], tree: &Node) -> String {
        let address = self.address();
        let (index, parent) = address.split_last().unzip();
        let siblings = tree.child(parent.unwrap_or_default()).map(Node::entries).unwrap_or_default();
        let entry = index.and_then(|index| siblings.get(*index));
        match entry.zip(self.section) {
            Some((entry, section)) => key_help::unknown_key(entry, siblings, section, known),
            None => did_you_mean(key, known),
        }
    }

    /// What an unknown value was probably meant to be.
    fn help_for_value(&self, value: &str, known: &[&str]) -> String {
        let help = did_you_mean(value, known);
        let Some(section) = self.section else { return help };
        match section.text("x-example").filter(|_| help.starts_with("expected ")) {
            Some(example) if section.default_is_section() && shapes::is_on(value) => {
                format!("write a mapping, for example {example}; or remove it: this is the default")
            }
            Some(example) => format!("{help}; or a mapping, for example {example}"),
            None => help,
        }
    }

    /// The value in a help such as `write "127.0.0.1:80"`, or `expected a mapping, for example { path: /x }`.
    pub(super) fn suggestion(&self) -> Option<String> {
        let TypeErrorKind::Mismatch(_, help) = &self.kind else { return None };
        if let Some((_, section)) = help.split_once("a mapping, for example ") {
            return Some(section.to_owned());
        }
        let (_, from) = help.split_once("write ")?;
        if let Some(quoted) = from.strip_prefix('"') {
            return quoted.split_once('"').map(|(value, _)| format!("\"{value}\""));
        }
        let end = [", ", " or ", ": ", ";"].iter().filter_map(|end| from.find(end)).min();
        let value = from.get(..end.unwrap_or(from.len()))?;
        value.starts_with(|first: char| first.is_ascii_digit()).then(|| value.to_owned())
    }

    /// With an example, if the value should be a section or may be one.
    pub(super) fn with_example(mut self, keys: Keys) -> Self {
        let example = || keys.text("x-example").map(str::to_owned).or_else(|| keys.example());
        if let TypeErrorKind::Mismatch(_, help) = &mut self.kind
            && self.child_indices.is_empty()
            && matches!(
                &**help,
                "expected a mapping" | "expected a single value" | "expected a single value or a mapping"
            )
            && let Some(example) = example()
        {
            help.push_str(&format!(", for example {example}"));
        }
        self
    }
}

impl fmt::Display for TypeError {
    /// Nobody reads it: [`TypeError::diagnostic`] is the message.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl std::error::Error for TypeError {}

impl de::Error for TypeError {
    /// A [`Diagnostic`] as text.
    fn custom<T: fmt::Display>(message: T) -> Self {
        let text = message.to_string();
        let (message, help) = text.split_once(Diagnostic::SEPARATOR).unwrap_or((&text, ""));
        TypeError::mismatch(message, help)
    }

    fn invalid_type(unexpected: Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        let found = match unexpected {
            Unexpected::Seq => "a list".to_owned(),
            Unexpected::Map => "a mapping".to_owned(),
            Unexpected::Unit | Unexpected::Option => "nothing".to_owned(),
            Unexpected::Str(text) => quoted(text),
            other => other.to_string(),
        };
        let expected = expected.to_string();
        let expected = match &*expected {
            expected if expected.starts_with("struct ") => "a mapping",
            "a string" => "a single value",
            expected => expected,
        };
        TypeError::mismatch(format!("found {found}"), format!("expected {expected}"))
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        TypeError::new(TypeErrorKind::UnknownKey(field.to_owned(), expected))
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        TypeError::new(TypeErrorKind::UnknownValue(variant.to_owned(), expected))
    }

    fn missing_field(_: &'static str) -> Self {
        TypeError::new(TypeErrorKind::MissingKey)
    }
}
