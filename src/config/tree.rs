//! The file as a tree in which every value has its line and column.
//!
//! A value with a problem is marked [`NodeKind::Invalid`] and stays in the tree, so that the positions and indices of
//! its neighbours remain correct and it is not also reported as missing.

use super::problem::Location;

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
        self.children()
            .map(Node::count_and_depth)
            .fold((1, 1), |(count, depth), (inner, inner_depth)| (count + inner, depth.max(inner_depth + 1)))
    }

    /// The items of a list, or the values of a mapping.
    fn children(&self) -> impl Iterator<Item = &Node> {
        self.items().iter().chain(self.entries().iter().map(|entry| &entry.value))
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

    /// The entry with this key.
    pub(crate) fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries().iter().find(|entry| entry.key == key)
    }

    /// The value of a key.
    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|entry| &entry.value)
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

    /// Whether this value or one in it is invalid.
    pub(crate) fn has_invalid(&self) -> bool {
        self.kind == NodeKind::Invalid || self.children().any(Node::has_invalid)
    }

    /// The path and location of the value at these child indices; with `at_key`, the location of its key.
    pub(crate) fn path_and_location(&self, child_indices: &[usize], at_key: bool) -> (String, Location) {
        let mut node = self;
        let mut path = String::new();
        let mut location = node.location;
        for (depth, &index) in child_indices.iter().enumerate() {
            if let Some(item) = node.items().get(index) {
                path = format!("{path}[{}]", index_in_file(node.items(), index));
                location = item.location;
                node = item;
            } else if let Some(entry) = node.entries().get(index) {
                path = child_path(&path, &entry.key);
                let last = depth + 1 == child_indices.len();
                location = if last && at_key { entry.location } else { entry.display_location() };
                node = &entry.value;
            }
        }
        (path, location)
    }

    /// The value at these child indices.
    pub(crate) fn child(&self, child_indices: &[usize]) -> Option<&Node> {
        child_indices.iter().try_fold(self, |node, &index| node.children().nth(index))
    }

    /// Marks the value at these child indices as invalid. Returns false if it is absent or was already invalid.
    pub(crate) fn mark_invalid(&mut self, child_indices: &[usize]) -> bool {
        let node = child_indices.iter().try_fold(self, |node, &index| match &mut node.kind {
            NodeKind::Sequence(items) => items.get_mut(index),
            NodeKind::Mapping(entries) => entries.get_mut(index).map(|entry| &mut entry.value),
            NodeKind::Scalar { .. } | NodeKind::Invalid => None,
        });
        node.is_some_and(|node| std::mem::replace(&mut node.kind, NodeKind::Invalid) != NodeKind::Invalid)
    }
}

impl Entry {
    /// The location of a text value, or else of the key.
    pub(crate) fn display_location(&self) -> Location {
        if self.value.text().is_some() { self.value.location } else { self.location }
    }
}

/// The index that a reader counts: the items of included files follow those of the main file.
pub(crate) fn index_in_file(items: &[Node], index: usize) -> usize {
    let file = items.get(index).map(|item| item.location.file);
    items.iter().take(index).filter(|other| Some(other.location.file) == file).count()
}

/// `parent.key`, or only the key at the top level.
pub(crate) fn child_path(parent: &str, key: &str) -> String {
    let key: String = key.escape_debug().collect();
    if parent.is_empty() { key } else { format!("{parent}.{key}") }
}
