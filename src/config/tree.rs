//! The file as a tree in which every value still knows its line and column.
//!
//! It knows nothing of YAML's syntax (see [`super::parse_yaml`]) nor of what a key means (see [`super::file`]). A value that
//! was found wrong is marked [`NodeKind::Invalid`] and stays in its place, so that the positions and numbers of its
//! neighbours remain true and nobody complains that it is missing.

use super::problem::{Diagnostic, Location, Problem};

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Where it begins.
    pub location: Location,
    /// What it is.
    pub kind: NodeKind,
}

/// The form of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeKind {
    /// Text; numbers and truth values are still text here.
    Scalar {
        /// Its characters, variables already put in.
        text: String,
        /// Without quotes in the file: only such text can mean "nothing".
        plain: bool,
    },
    /// A list.
    Sequence(Vec<Node>),
    /// Keys and values in the order of the file; no key twice.
    Mapping(Vec<Entry>),
    /// Already complained about.
    Invalid,
}

/// One key of a mapping with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Where the key begins.
    pub location: Location,
    /// Its value.
    pub value: Node,
}

impl Node {
    /// Nothing was written, or `null` or `~`.
    pub fn is_null(&self) -> bool {
        match &self.kind {
            NodeKind::Scalar { text, plain } => {
                *plain && matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL")
            }
            NodeKind::Sequence(_) | NodeKind::Mapping(_) | NodeKind::Invalid => false,
        }
    }

    /// What it is, for a sentence: `a list`.
    pub fn type_name(&self) -> &'static str {
        match &self.kind {
            NodeKind::Scalar { .. } if self.is_null() => "nothing",
            NodeKind::Scalar { .. } => "text",
            NodeKind::Sequence(_) => "a list",
            NodeKind::Mapping(_) => "a mapping",
            NodeKind::Invalid => "a refused value",
        }
    }

    /// How many values it holds, itself included, and how deep they are nested. For limits on aliases.
    pub fn count_and_depth(&self) -> (usize, usize) {
        let children: Box<dyn Iterator<Item = &Node>> = match &self.kind {
            NodeKind::Scalar { .. } | NodeKind::Invalid => Box::new(std::iter::empty()),
            NodeKind::Sequence(items) => Box::new(items.iter()),
            NodeKind::Mapping(entries) => Box::new(entries.iter().map(|entry| &entry.value)),
        };
        children
            .map(Node::count_and_depth)
            .fold((1, 1), |(count, depth), (inner, inner_depth)| (count + inner, depth.max(inner_depth + 1)))
    }

    fn has_invalid(&self) -> bool {
        match &self.kind {
            NodeKind::Invalid => true,
            NodeKind::Scalar { .. } => false,
            NodeKind::Sequence(items) => items.iter().any(Node::has_invalid),
            NodeKind::Mapping(entries) => entries.iter().any(|entry| entry.value.has_invalid()),
        }
    }

    fn child_mut(&mut self, index: usize) -> Option<&mut Node> {
        match &mut self.kind {
            NodeKind::Sequence(items) => items.get_mut(index),
            NodeKind::Mapping(entries) => entries.get_mut(index).map(|entry| &mut entry.value),
            NodeKind::Scalar { .. } | NodeKind::Invalid => None,
        }
    }
}

/// The address of a value as validation walks: keys by name, list items by their number *among those not refused*.
#[derive(Clone, Copy, Debug)]
pub enum KeyPath<'a> {
    /// The file.
    Root,
    /// A key of the mapping at the place before.
    Key(&'a KeyPath<'a>, &'a str),
    /// An item of the list at the place before.
    Item(&'a KeyPath<'a>, usize),
}

impl<'a> KeyPath<'a> {
    /// The value of `name` in this mapping.
    pub fn key(&'a self, name: &'a str) -> KeyPath<'a> {
        KeyPath::Key(self, name)
    }

    /// The item `index` of this list.
    pub fn item(&'a self, index: usize) -> KeyPath<'a> {
        KeyPath::Item(self, index)
    }
}

/// The whole file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree {
    /// Its outermost value.
    pub root: Node,
}

/// What [`Tree::locate`] knows of a place.
struct FoundNode<'t> {
    /// As it is written for people, with the numbers that the file has.
    path: String,
    /// Where to point: the value if it is text, else its key; the nearest enclosing thing if it was not written at all.
    location: Location,
    /// The value, if it was written.
    node: Option<&'t Node>,
}

impl Tree {
    /// A problem with the value at `path`.
    pub fn problem(&self, path: &KeyPath<'_>, diagnostic: Diagnostic) -> Problem {
        let found = self.locate(path);
        Problem {
            path: found.path,
            location: Some(found.location),
            message: diagnostic.message,
            help: diagnostic.help,
        }
    }

    /// Whether something is written at `path`, be it refused or not: then nobody may say that it is missing.
    pub fn is_written(&self, path: &KeyPath<'_>) -> bool {
        self.locate(path).node.is_some_and(|node| !node.is_null())
    }

    /// Where `path` stands.
    pub fn location(&self, path: &KeyPath<'_>) -> Location {
        self.locate(path).location
    }

    /// The keys of the mapping at `path`, those with refused values included.
    pub fn keys(&self, path: &KeyPath<'_>) -> Vec<&str> {
        match self.locate(path).node.map(|node| &node.kind) {
            Some(NodeKind::Mapping(entries)) => entries.iter().map(|entry| entry.key.as_str()).collect(),
            Some(NodeKind::Scalar { .. } | NodeKind::Sequence(_) | NodeKind::Invalid) | None => Vec::new(),
        }
    }

    /// Whether something at or below `path` has been refused: then its absence proves nothing.
    pub fn any_invalid(&self, path: &KeyPath<'_>) -> bool {
        self.locate(path).node.is_some_and(Node::has_invalid)
    }

    fn locate(&self, path: &KeyPath<'_>) -> FoundNode<'_> {
        match *path {
            KeyPath::Root => {
                FoundNode { path: String::new(), location: self.root.location, node: Some(&self.root) }
            }
            KeyPath::Key(parent, name) => {
                let parent = self.locate(parent);
                let path = child_path(&parent.path, name);
                match parent.node.map(|node| &node.kind) {
                    Some(NodeKind::Mapping(entries)) => {
                        match entries.iter().find(|entry| entry.key == name) {
                            Some(entry) => FoundNode {
                                path,
                                location: entry.display_location(),
                                node: Some(&entry.value),
                            },
                            None => FoundNode { path, location: parent.location, node: None },
                        }
                    }
                    // What became of a refused mapping's keys is unknown: they count as written.
                    Some(NodeKind::Invalid) => {
                        FoundNode { path, location: parent.location, node: parent.node }
                    }
                    Some(NodeKind::Scalar { .. } | NodeKind::Sequence(_)) | None => {
                        FoundNode { path, location: parent.location, node: None }
                    }
                }
            }
            KeyPath::Item(parent, index) => {
                let parent = self.locate(parent);
                let item = match parent.node.map(|node| &node.kind) {
                    Some(NodeKind::Sequence(items)) => {
                        items.iter().enumerate().filter(|(_, item)| item.kind != NodeKind::Invalid).nth(index)
                    }
                    Some(NodeKind::Scalar { .. } | NodeKind::Mapping(_) | NodeKind::Invalid) | None => None,
                };
                match item {
                    Some((number, item)) => FoundNode {
                        path: format!("{}[{number}]", parent.path),
                        location: item.location,
                        node: Some(item),
                    },
                    // One word where a list may stand: the word is its only item.
                    None => FoundNode { path: parent.path, location: parent.location, node: parent.node },
                }
            }
        }
    }

    /// Path and position of the value at a raw address (numbers of children), and whether its key is meant.
    pub fn path_and_location(&self, child_indices: &[usize], at_key: bool) -> (String, Location) {
        let mut node = &self.root;
        let mut path = String::new();
        let mut location = node.location;
        for (depth, &index) in child_indices.iter().enumerate() {
            match &node.kind {
                NodeKind::Sequence(items) => {
                    let Some(item) = items.get(index) else { break };
                    path = format!("{path}[{index}]");
                    location = item.location;
                    node = item;
                }
                NodeKind::Mapping(entries) => {
                    let Some(entry) = entries.get(index) else { break };
                    path = child_path(&path, &entry.key);
                    let last = depth + 1 == child_indices.len();
                    location = if last && at_key { entry.location } else { entry.display_location() };
                    node = &entry.value;
                }
                NodeKind::Scalar { .. } | NodeKind::Invalid => break,
            }
        }
        (path, location)
    }

    /// Marks the value at a raw address as refused. False when there is none or it was refused before.
    pub fn mark_invalid(&mut self, child_indices: &[usize]) -> bool {
        let mut node = &mut self.root;
        for &index in child_indices {
            match node.child_mut(index) {
                Some(child) => node = child,
                None => return false,
            }
        }
        std::mem::replace(&mut node.kind, NodeKind::Invalid) != NodeKind::Invalid
    }
}

impl Entry {
    /// Text is pointed at itself, larger things at their key.
    fn display_location(&self) -> Location {
        match &self.value.kind {
            NodeKind::Scalar { .. } if !self.value.is_null() => self.value.location,
            NodeKind::Scalar { .. } | NodeKind::Sequence(_) | NodeKind::Mapping(_) | NodeKind::Invalid => {
                self.location
            }
        }
    }
}

/// `parent.key`, or the key alone at the top.
pub fn child_path(parent: &str, key: &str) -> String {
    let key: String = key.escape_debug().collect();
    if parent.is_empty() { key } else { format!("{parent}.{key}") }
}
