//! The file as a tree in which every value still knows its line and column.
//!
//! It knows nothing of YAML's syntax (see [`super::parse`]) nor of what a key means (see [`super::file`]). A value that
//! was found wrong is marked [`Kind::Refused`] and stays in its place, so that the positions and numbers of its
//! neighbours remain true and nobody complains that it is missing.

use super::error::{Problem, Refusal, Spot};

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Where it begins.
    pub spot: Spot,
    /// What it is.
    pub kind: Kind,
}

/// The form of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
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
    Refused,
}

/// One key of a mapping with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Where the key begins.
    pub spot: Spot,
    /// Its value.
    pub value: Node,
}

impl Node {
    /// Nothing was written, or `null` or `~`.
    pub fn is_null(&self) -> bool {
        match &self.kind {
            Kind::Scalar { text, plain } => {
                *plain && matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL")
            }
            Kind::Sequence(_) | Kind::Mapping(_) | Kind::Refused => false,
        }
    }

    /// What it is, for a sentence: `a list`.
    pub fn noun(&self) -> &'static str {
        match &self.kind {
            Kind::Scalar { .. } if self.is_null() => "nothing",
            Kind::Scalar { .. } => "text",
            Kind::Sequence(_) => "a list",
            Kind::Mapping(_) => "a mapping",
            Kind::Refused => "a refused value",
        }
    }

    /// How many values it holds, itself included, and how deep they are nested. For limits on aliases.
    pub fn size(&self) -> (usize, usize) {
        let children: Box<dyn Iterator<Item = &Node>> = match &self.kind {
            Kind::Scalar { .. } | Kind::Refused => Box::new(std::iter::empty()),
            Kind::Sequence(items) => Box::new(items.iter()),
            Kind::Mapping(entries) => Box::new(entries.iter().map(|entry| &entry.value)),
        };
        children
            .map(Node::size)
            .fold((1, 1), |(count, depth), (inner, deep)| (count + inner, depth.max(deep + 1)))
    }

    fn holds_refused(&self) -> bool {
        match &self.kind {
            Kind::Refused => true,
            Kind::Scalar { .. } => false,
            Kind::Sequence(items) => items.iter().any(Node::holds_refused),
            Kind::Mapping(entries) => entries.iter().any(|entry| entry.value.holds_refused()),
        }
    }

    fn child_mut(&mut self, index: usize) -> Option<&mut Node> {
        match &mut self.kind {
            Kind::Sequence(items) => items.get_mut(index),
            Kind::Mapping(entries) => entries.get_mut(index).map(|entry| &mut entry.value),
            Kind::Scalar { .. } | Kind::Refused => None,
        }
    }
}

/// The address of a value as validation walks: keys by name, list items by their number *among those not refused*.
#[derive(Clone, Copy, Debug)]
pub enum Place<'a> {
    /// The file.
    Root,
    /// A key of the mapping at the place before.
    Key(&'a Place<'a>, &'a str),
    /// An item of the list at the place before.
    Item(&'a Place<'a>, usize),
}

impl<'a> Place<'a> {
    /// The value of `name` in this mapping.
    pub fn key(&'a self, name: &'a str) -> Place<'a> {
        Place::Key(self, name)
    }

    /// The item `index` of this list.
    pub fn item(&'a self, index: usize) -> Place<'a> {
        Place::Item(self, index)
    }
}

/// The whole file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree {
    /// Its outermost value.
    pub root: Node,
}

/// What [`Tree::find`] knows of a place.
struct Found<'t> {
    /// As it is written for people, with the numbers that the file has.
    path: String,
    /// Where to point: the value if it is text, else its key; the nearest enclosing thing if it was not written at all.
    spot: Spot,
    /// The value, if it was written.
    node: Option<&'t Node>,
}

impl Tree {
    /// A problem with the value at `place`.
    pub fn problem(&self, place: &Place<'_>, refusal: Refusal) -> Problem {
        let found = self.find(place);
        Problem { path: found.path, spot: Some(found.spot), what: refusal.what, remedy: refusal.remedy }
    }

    /// Whether something is written at `place`, be it refused or not: then nobody may say that it is missing.
    pub fn is_written(&self, place: &Place<'_>) -> bool {
        self.find(place).node.is_some_and(|node| !node.is_null())
    }

    /// Where `place` stands.
    pub fn spot(&self, place: &Place<'_>) -> Spot {
        self.find(place).spot
    }

    /// The keys of the mapping at `place`, those with refused values included.
    pub fn keys(&self, place: &Place<'_>) -> Vec<&str> {
        match self.find(place).node.map(|node| &node.kind) {
            Some(Kind::Mapping(entries)) => entries.iter().map(|entry| entry.key.as_str()).collect(),
            Some(Kind::Scalar { .. } | Kind::Sequence(_) | Kind::Refused) | None => Vec::new(),
        }
    }

    /// Whether something at or below `place` has been refused: then its absence proves nothing.
    pub fn any_refused(&self, place: &Place<'_>) -> bool {
        self.find(place).node.is_some_and(Node::holds_refused)
    }

    fn find(&self, place: &Place<'_>) -> Found<'_> {
        match *place {
            Place::Root => Found { path: String::new(), spot: self.root.spot, node: Some(&self.root) },
            Place::Key(parent, name) => {
                let parent = self.find(parent);
                let path = child_path(&parent.path, name);
                match parent.node.map(|node| &node.kind) {
                    Some(Kind::Mapping(entries)) => match entries.iter().find(|entry| entry.key == name) {
                        Some(entry) => Found { path, spot: entry.pointer(), node: Some(&entry.value) },
                        None => Found { path, spot: parent.spot, node: None },
                    },
                    // What became of a refused mapping's keys is unknown: they count as written.
                    Some(Kind::Refused) => Found { path, spot: parent.spot, node: parent.node },
                    Some(Kind::Scalar { .. } | Kind::Sequence(_)) | None => {
                        Found { path, spot: parent.spot, node: None }
                    }
                }
            }
            Place::Item(parent, index) => {
                let parent = self.find(parent);
                let item = match parent.node.map(|node| &node.kind) {
                    Some(Kind::Sequence(items)) => {
                        items.iter().enumerate().filter(|(_, item)| item.kind != Kind::Refused).nth(index)
                    }
                    Some(Kind::Scalar { .. } | Kind::Mapping(_) | Kind::Refused) | None => None,
                };
                match item {
                    Some((number, item)) => Found {
                        path: format!("{}[{number}]", parent.path),
                        spot: item.spot,
                        node: Some(item),
                    },
                    // One word where a list may stand: the word is its only item.
                    None => Found { path: parent.path, spot: parent.spot, node: parent.node },
                }
            }
        }
    }

    /// Path and position of the value at a raw address (numbers of children), and whether its key is meant.
    pub fn describe(&self, address: &[usize], on_key: bool) -> (String, Spot) {
        let mut node = &self.root;
        let mut path = String::new();
        let mut spot = node.spot;
        for (depth, &index) in address.iter().enumerate() {
            match &node.kind {
                Kind::Sequence(items) => {
                    let Some(item) = items.get(index) else { break };
                    path = format!("{path}[{index}]");
                    spot = item.spot;
                    node = item;
                }
                Kind::Mapping(entries) => {
                    let Some(entry) = entries.get(index) else { break };
                    path = child_path(&path, &entry.key);
                    let last = depth + 1 == address.len();
                    spot = if last && on_key { entry.spot } else { entry.pointer() };
                    node = &entry.value;
                }
                Kind::Scalar { .. } | Kind::Refused => break,
            }
        }
        (path, spot)
    }

    /// Marks the value at a raw address as refused. False when there is none or it was refused before.
    pub fn refuse(&mut self, address: &[usize]) -> bool {
        let mut node = &mut self.root;
        for &index in address {
            match node.child_mut(index) {
                Some(child) => node = child,
                None => return false,
            }
        }
        std::mem::replace(&mut node.kind, Kind::Refused) != Kind::Refused
    }
}

impl Entry {
    /// Text is pointed at itself, larger things at their key.
    fn pointer(&self) -> Spot {
        match &self.value.kind {
            Kind::Scalar { .. } if !self.value.is_null() => self.value.spot,
            Kind::Scalar { .. } | Kind::Sequence(_) | Kind::Mapping(_) | Kind::Refused => self.spot,
        }
    }
}

/// `parent.key`, or the key alone at the top.
pub fn child_path(parent: &str, key: &str) -> String {
    let key: String = key.escape_debug().collect();
    if parent.is_empty() { key } else { format!("{parent}.{key}") }
}
