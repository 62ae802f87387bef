//! The file as a tree in which every value has its line and column.
//!
//! A value with a problem is marked [`NodeKind::Invalid`] and stays in the tree, so that the positions and indices of
//! its neighbours remain correct and it is not also reported as missing.

use super::problem::{Diagnostic, Location, Problem};

/// A value and its location.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    /// The start of the value.
    pub location: Location,
    /// The value.
    pub kind: NodeKind,
}

/// The kinds of values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NodeKind {
    /// Text; numbers and booleans are also text here.
    Scalar {
        /// The text, with variables expanded.
        text: String,
        /// Not quoted in the file; only plain text can be null.
        plain: bool,
    },
    /// A list.
    Sequence(Vec<Node>),
    /// Unique keys and their values, in the order of the file.
    Mapping(Vec<Entry>),
    /// A value with a problem that is already reported.
    Invalid,
}

/// One entry of a mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The key.
    pub key: String,
    /// The start of the key.
    pub location: Location,
    /// Its value.
    pub value: Node,
}

impl Node {
    /// Whether the value is absent, `null` or `~`.
    pub(crate) fn is_null(&self) -> bool {
        match &self.kind {
            NodeKind::Scalar { text, plain } => {
                *plain && matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL")
            }
            NodeKind::Sequence(_) | NodeKind::Mapping(_) | NodeKind::Invalid => false,
        }
    }

    /// The kind of value for messages, for example `a list`.
    pub(crate) fn type_name(&self) -> &'static str {
        match &self.kind {
            NodeKind::Scalar { .. } if self.is_null() => "nothing",
            NodeKind::Scalar { .. } => "text",
            NodeKind::Sequence(_) => "a list",
            NodeKind::Mapping(_) => "a mapping",
            NodeKind::Invalid => "an invalid value",
        }
    }

    /// The number of values in this tree, itself included, and their depth; for limits on aliases.
    pub(crate) fn count_and_depth(&self) -> (usize, usize) {
        let children: Box<dyn Iterator<Item = &Node>> = match &self.kind {
            NodeKind::Scalar { .. } | NodeKind::Invalid => Box::new(std::iter::empty()),
            NodeKind::Sequence(items) => Box::new(items.iter()),
            NodeKind::Mapping(entries) => Box::new(entries.iter().map(|entry| &entry.value)),
        };
        children
            .map(Node::count_and_depth)
            .fold((1, 1), |(count, depth), (inner, inner_depth)| (count + inner, depth.max(inner_depth + 1)))
    }

    /// The text of a scalar that is not null.
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.kind {
            NodeKind::Scalar { text, .. } if !self.is_null() => Some(text),
            NodeKind::Scalar { .. } | NodeKind::Sequence(_) | NodeKind::Mapping(_) | NodeKind::Invalid => {
                None
            }
        }
    }

    /// The entries of a mapping; none for other values.
    pub(crate) fn entries(&self) -> &[Entry] {
        match &self.kind {
            NodeKind::Mapping(entries) => entries,
            NodeKind::Scalar { .. } | NodeKind::Sequence(_) | NodeKind::Invalid => &[],
        }
    }

    /// The entries of a mapping; none for other values.
    pub(crate) fn entries_mut(&mut self) -> &mut [Entry] {
        match &mut self.kind {
            NodeKind::Mapping(entries) => entries,
            NodeKind::Scalar { .. } | NodeKind::Sequence(_) | NodeKind::Invalid => &mut [],
        }
    }

    /// The items of a list; none for other values.
    pub(crate) fn items(&self) -> &[Node] {
        match &self.kind {
            NodeKind::Sequence(items) => items,
            NodeKind::Scalar { .. } | NodeKind::Mapping(_) | NodeKind::Invalid => &[],
        }
    }

    /// The items of a list; none for other values.
    pub(crate) fn items_mut(&mut self) -> &mut [Node] {
        match &mut self.kind {
            NodeKind::Sequence(items) => items,
            NodeKind::Scalar { .. } | NodeKind::Mapping(_) | NodeKind::Invalid => &mut [],
        }
    }

    /// The value of a key.
    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        self.entries().iter().find(|entry| entry.key == key).map(|entry| &entry.value)
    }

    /// The value of a key.
    pub(crate) fn get_mut(&mut self, key: &str) -> Option<&mut Node> {
        self.entries_mut().iter_mut().find(|entry| entry.key == key).map(|entry| &mut entry.value)
    }

    /// Adds or replaces a key of a mapping; a key without a value becomes a mapping with this key.
    pub(crate) fn set(&mut self, key: &str, value: Node) {
        if self.is_null() {
            self.kind = NodeKind::Mapping(Vec::new());
        }
        if let Some(present) = self.get_mut(key) {
            *present = value;
        } else if let NodeKind::Mapping(entries) = &mut self.kind {
            entries.push(Entry { key: key.to_owned(), location: value.location, value });
        }
    }

    /// Removes a key of a mapping.
    pub(crate) fn remove(&mut self, key: &str) {
        if let NodeKind::Mapping(entries) = &mut self.kind {
            entries.retain(|entry| entry.key != key);
        }
    }

    /// Sets the file of all locations.
    pub(crate) fn set_file(&mut self, file: usize) {
        self.location.file = file;
        match &mut self.kind {
            NodeKind::Scalar { .. } | NodeKind::Invalid => {}
            NodeKind::Sequence(items) => items.iter_mut().for_each(|item| item.set_file(file)),
            NodeKind::Mapping(entries) => entries.iter_mut().for_each(|entry| {
                entry.location.file = file;
                entry.value.set_file(file);
            }),
        }
    }

    fn has_invalid(&self) -> bool {
        match &self.kind {
            NodeKind::Invalid => true,
            NodeKind::Scalar { .. } => false,
            NodeKind::Sequence(items) => items.iter().any(Node::has_invalid),
            NodeKind::Mapping(entries) => entries.iter().any(|entry| entry.value.has_invalid()),
        }
    }
}

/// The path of a value during validation: keys by name, list items by their index *among the valid items*.
#[derive(Clone, Copy, Debug)]
pub(crate) enum KeyPath<'a> {
    /// The root of the file.
    Root,
    /// A key of the mapping at the parent path.
    Key(&'a KeyPath<'a>, &'a str),
    /// An item of the list at the parent path.
    Item(&'a KeyPath<'a>, usize),
}

impl<'a> KeyPath<'a> {
    /// The path of the key `name` in this mapping.
    pub(crate) fn key(&'a self, name: &'a str) -> KeyPath<'a> {
        KeyPath::Key(self, name)
    }

    /// The path of the item `index` in this list.
    pub(crate) fn item(&'a self, index: usize) -> KeyPath<'a> {
        KeyPath::Item(self, index)
    }
}

/// The whole file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tree {
    /// The outermost value.
    pub root: Node,
}

/// The result of [`Tree::locate`].
struct FoundNode<'t> {
    /// The path for messages, with the indices of the file.
    path: String,
    /// The location for messages: a text value itself, or the key of another value; the closest parent of an absent
    /// value.
    location: Location,
    /// The value, if present.
    node: Option<&'t Node>,
}

impl Tree {
    /// The diagnostic as a problem at `path`.
    pub(crate) fn problem(&self, path: &KeyPath<'_>, diagnostic: Diagnostic) -> Problem {
        let found = self.locate(path);
        diagnostic.at(found.path, found.location)
    }

    /// The diagnostic as a problem of the key that `path` ends with.
    pub(crate) fn problem_of_name(&self, path: &KeyPath<'_>, diagnostic: Diagnostic) -> Problem {
        let found = self.locate(path);
        let entry = match *path {
            KeyPath::Key(parent, name) => {
                let entries = self.locate(parent).node.map(Node::entries).unwrap_or_default();
                entries.iter().find(|entry| entry.key == name)
            }
            KeyPath::Root | KeyPath::Item(..) => None,
        };
        diagnostic.at(found.path, entry.map_or(found.location, |entry| entry.location))
    }

    /// The location of the value at `path`, or of its closest parent.
    pub(crate) fn location(&self, path: &KeyPath<'_>) -> Location {
        self.locate(path).location
    }

    /// The value at `path`.
    pub(crate) fn node(&self, path: &KeyPath<'_>) -> Option<&Node> {
        self.locate(path).node
    }

    /// Whether a value, valid or invalid, is present at `path`, so that it must not be reported as missing.
    pub(crate) fn is_written(&self, path: &KeyPath<'_>) -> bool {
        self.locate(path).node.is_some_and(|node| !node.is_null())
    }

    /// The keys of the mapping at `path`, including those with invalid values.
    pub(crate) fn keys(&self, path: &KeyPath<'_>) -> Vec<&str> {
        match self.locate(path).node.map(|node| &node.kind) {
            Some(NodeKind::Mapping(entries)) => entries.iter().map(|entry| entry.key.as_str()).collect(),
            Some(NodeKind::Scalar { .. } | NodeKind::Sequence(_) | NodeKind::Invalid) | None => Vec::new(),
        }
    }

    /// Whether a value at or below `path` is invalid, so that its absence in the structs is not a problem.
    pub(crate) fn any_invalid(&self, path: &KeyPath<'_>) -> bool {
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
                    // The keys of an invalid mapping are unknown and count as present.
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
                    Some(NodeKind::Sequence(items)) => items
                        .iter()
                        .enumerate()
                        .filter(|(_, item)| item.kind != NodeKind::Invalid)
                        .nth(index)
                        .map(|(number, item)| (index_in_file(items, number, item), item)),
                    Some(NodeKind::Scalar { .. } | NodeKind::Mapping(_) | NodeKind::Invalid) | None => None,
                };
                match item {
                    Some((number, item)) => FoundNode {
                        path: format!("{}[{number}]", parent.path),
                        location: item.location,
                        node: Some(item),
                    },
                    // A single value where a list is allowed is its only item.
                    None => FoundNode { path: parent.path, location: parent.location, node: parent.node },
                }
            }
        }
    }

    /// The path and location of the value at these child indices; with `at_key`, the location of its key.
    pub(crate) fn path_and_location(&self, child_indices: &[usize], at_key: bool) -> (String, Location) {
        let mut node = &self.root;
        let mut path = String::new();
        let mut location = node.location;
        for (depth, &index) in child_indices.iter().enumerate() {
            match &node.kind {
                NodeKind::Sequence(items) => {
                    let Some(item) = items.get(index) else { break };
                    path = format!("{path}[{}]", index_in_file(items, index, item));
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

    /// The value at these child indices.
    pub(crate) fn child(&self, child_indices: &[usize]) -> Option<&Node> {
        child_indices.iter().try_fold(&self.root, |node, &index| match &node.kind {
            NodeKind::Sequence(items) => items.get(index),
            NodeKind::Mapping(entries) => entries.get(index).map(|entry| &entry.value),
            NodeKind::Scalar { .. } | NodeKind::Invalid => None,
        })
    }

    /// Marks the value at these child indices as invalid. Returns false if it is absent or was already invalid.
    pub(crate) fn mark_invalid(&mut self, child_indices: &[usize]) -> bool {
        let node = child_indices.iter().try_fold(&mut self.root, |node, &index| match &mut node.kind {
            NodeKind::Sequence(items) => items.get_mut(index),
            NodeKind::Mapping(entries) => entries.get_mut(index).map(|entry| &mut entry.value),
            NodeKind::Scalar { .. } | NodeKind::Invalid => None,
        });
        node.is_some_and(|node| std::mem::replace(&mut node.kind, NodeKind::Invalid) != NodeKind::Invalid)
    }
}

impl Entry {
    /// The location of a text value, or else of the key.
    fn display_location(&self) -> Location {
        match &self.value.kind {
            NodeKind::Scalar { .. } if !self.value.is_null() => self.value.location,
            NodeKind::Scalar { .. } | NodeKind::Sequence(_) | NodeKind::Mapping(_) | NodeKind::Invalid => {
                self.location
            }
        }
    }
}

/// The index that a reader counts: the items of included files follow those of the main file.
fn index_in_file(items: &[Node], index: usize, item: &Node) -> usize {
    items.iter().take(index).filter(|other| other.location.file == item.location.file).count()
}

/// `parent.key`, or only the key at the top level.
pub(crate) fn child_path(parent: &str, key: &str) -> String {
    let key: String = key.escape_debug().collect();
    if parent.is_empty() { key } else { format!("{parent}.{key}") }
}
