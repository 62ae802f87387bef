//! Reads the structs, and reports everything that the schema says about the file: every invalid value, unknown key,
//! missing key, empty list, invalid name and unknown reference.
//!
//! serde stops at the first error. Each error is therefore recorded with its location, its value is marked as invalid
//! (which then reads as absent), and reading starts again until it succeeds. A section without a required key is
//! invalid as a whole.

use super::deserialize::read;
use super::file::ConfigFile;
use super::inherit;
use super::key_help;
use super::keys::Keys;
use super::problem::{Diagnostic, Problem, did_you_mean, quoted, refuse};
use super::server_address::server;
use super::shapes;
use super::tree::{Entry, Node, NodeKind, child_path};
use super::units;

/// Reads the tree. Invalid values are added to `problems` and read as absent. `None` after too many of them.
pub(crate) fn read_file(tree: &mut Node, problems: &mut Vec<Problem>) -> Option<ConfigFile> {
    // The bound only matters for hostile files.
    for _ in 0..MAX_TYPE_ERRORS {
        let Err(error) = read(tree) else {
            SchemaCheck { tree, problems, address: Vec::new() }.check(tree, Keys::root());
            return read(&inherit::resolve(tree)).ok();
        };
        let address = error.address();
        match (error.incomplete_section(), tree.child(&address)) {
            (Some(keys), Some(section)) => {
                SchemaCheck { tree, problems, address: address.clone() }.check(section, keys);
            }
            _ => {
                let (path, location) = tree.path_and_location(&address, error.is_at_key());
                problems.push(error.diagnostic(tree).at(path, location));
            }
        }
        if !tree.mark_invalid(&address) {
            break;
        }
    }
    None
}

/// Checks what serde cannot. Invalid values are already reported.
struct SchemaCheck<'t> {
    tree: &'t Node,
    problems: &'t mut Vec<Problem>,
    /// The child indices of the current value.
    address: Vec<usize>,
}

impl SchemaCheck<'_> {
    fn report(&mut self, diagnostic: Diagnostic) {
        let (path, location) = self.tree.path_and_location(&self.address, false);
        self.problems.push(diagnostic.at(path, location));
    }

    /// Checks a value and the values in it.
    fn check(&mut self, node: &Node, keys: Keys) {
        match &node.kind {
            NodeKind::Invalid => {}
            NodeKind::Mapping(entries) => self.check_section(entries, keys),
            // `shop:` without a value is an empty section.
            NodeKind::Scalar { .. } if node.is_null() => self.check_section(&[], keys),
            NodeKind::Scalar { text, .. } => self.check_reference(text, keys),
            NodeKind::Sequence(items) => {
                if let (true, Some(text)) = (items.is_empty(), keys.text("x-empty")) {
                    let (message, help) = text.split_once("; ").unwrap_or((text, ""));
                    self.report(Diagnostic::new(message, help));
                }
                for (index, item) in items.iter().enumerate() {
                    self.address.push(index);
                    match item.text() {
                        Some(text) => self.check_reference(text, keys),
                        None => self.check(item, keys.item()),
                    }
                    self.address.pop();
                }
            }
        }
    }

    fn check_section(&mut self, entries: &[Entry], keys: Keys) {
        for name in keys.required() {
            if !entries.iter().any(|entry| entry.key == name && !entry.value.is_null()) {
                let help = keys.key(name).text("x-missing").unwrap_or("add it");
                let (path, location) = self.tree.path_and_location(&self.address, false);
                self.problems.push(Diagnostic::new("missing", help).at(child_path(&path, name), location));
            }
        }
        for (index, entry) in entries.iter().enumerate() {
            self.address.push(index);
            if keys.are_labels()
                && let Err(diagnostic) = metric_name(&entry.key)
            {
                self.report(diagnostic);
            }
            if !entry.value.is_null() || keys.are_names() {
                self.check(&entry.value, keys.key(&entry.key));
            }
            self.address.pop();
        }
    }

    /// A text that names a section (`x-ref`), which must exist.
    fn check_reference(&mut self, name: &str, keys: Keys) {
        let Some(section) = keys.text("x-ref") else { return };
        let known: Vec<&str> = match self.tree.get(section) {
            Some(Node { kind: NodeKind::Invalid, .. }) => return,
            Some(node) => node.entries().iter().map(|entry| entry.key.as_str()).collect(),
            None => Vec::new(),
        };
        if known.contains(&name) {
            return;
        }
        let noun = section.trim_end_matches('s').replace('_', " ");
        let is_address = section == "upstreams" && name.contains(['.', ':', '/']) && server(name).is_ok();
        let is_quota = section == "rate_limits" && units::allowance(name).is_ok();
        let help = if is_address {
            key_help::declaration(section, &format!("{{ servers: [{}] }}", shapes::scalar(name)))
        } else if is_quota {
            key_help::declaration(section, &format!("{{ allow: {name} }}"))
        } else if known.is_empty() {
            let example = Keys::root().key(section).text("x-example").unwrap_or("{}");
            format!("add it: {section}: {{ {name}: {example} }}")
        } else {
            did_you_mean(name, &known)
        };
        self.report(Diagnostic::new(format!("unknown {noun} {}", quoted(name)), help));
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
        return refuse(name, "is not a valid name", "use 1 to 64 of A-Z, a-z, 0-9, _, . and -");
    }
    if name == "none" {
        let message = "\"none\" is reserved: metrics use it for requests without a route";
        return Err(Diagnostic::new(message, "choose another name"));
    }
    Ok(())
}

const MAX_TYPE_ERRORS: usize = 300;
