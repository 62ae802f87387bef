//! Adds to a conforming body what only the gateway knows. Everything else keeps the upstream's bytes.

use bytes::{BufMut, Bytes, BytesMut};

use super::render::{BodyValues, is_absent, write_node};
use super::{Node, ObjectNode, Template};
use crate::contract::json::Value;
use crate::contract::types::Types;

impl Template {
    /// The completed body, or `None` if nothing is added or changed. `text` is what `body` was read from, and conforms.
    pub(crate) fn add_members(
        &self,
        (text, body): (&str, &Value<'_>),
        values: &BodyValues<'_>,
        types: &Types,
    ) -> Option<Bytes> {
        if !self.facts.adds_members {
            return None;
        }
        let out = BytesMut::with_capacity(text.len() + 128);
        let mut writer = Writer { template: self, text, copied: 0, out, values, types };
        writer.object(&self.root, body);
        writer.copy_to(text.len());
        (writer.out != text.as_bytes()).then(|| writer.out.freeze())
    }
}

/// Copies the text up to each change.
struct Writer<'a> {
    template: &'a Template,
    text: &'a str,
    /// The text before this position has been copied, or left out.
    copied: usize,
    out: BytesMut,
    values: &'a BodyValues<'a>,
    types: &'a Types,
}

impl Writer<'_> {
    fn copy_to(&mut self, end: usize) {
        let bytes = self.text.as_bytes().get(self.copied..end).unwrap_or_default();
        self.out.put_slice(bytes);
        self.copied = end.max(self.copied);
    }

    fn node(&mut self, node: &Node, value: &Value<'_>) {
        match node {
            Node::Null | Node::Bool(_) | Node::Number(_) | Node::Text(_) | Node::Mixed(_) => {}
            Node::Object(object) => self.object(object, value),
            Node::Repeated(object) => {
                for item in value.items().unwrap_or_default() {
                    self.object(object, item);
                }
            }
            Node::List(nodes) => self.list(nodes, value),
            Node::Placeholder(_) if node.is_overwritten() => {
                self.copy_to(value.start);
                write_node(node, self.values, &mut self.out);
                self.copied = value.end();
            }
            Node::Placeholder(_) => {}
        }
    }

    /// Items that are complete. The list is written anew if an item is removed or added.
    fn list(&mut self, nodes: &[Node], value: &Value<'_>) {
        let items = value.items().unwrap_or_default();
        let items = self.template.items(nodes, items, (self.values.code, self.types));
        let pairs = || nodes.iter().zip(&items).filter(|(node, item)| item.is_some() || self.is_added(node));
        if pairs().all(|(node, item)| item.is_some() && !self.is_removed(node)) {
            for (node, item) in nodes.iter().zip(items) {
                item.into_iter().for_each(|item| self.node(node, item));
            }
            return;
        }
        let pairs: Vec<_> = pairs().filter(|(node, _)| !self.is_removed(node)).collect();
        self.copy_to(value.start);
        let mut separator = b'[';
        for (node, item) in pairs {
            self.out.put_u8(std::mem::replace(&mut separator, b','));
            match item {
                Some(item) => {
                    self.copied = item.start;
                    self.node(node, item);
                    self.copy_to(item.end());
                }
                None => write_node(node, self.values, &mut self.out),
            }
        }
        self.out.put_slice(if separator == b'[' { b"[]" } else { b"]" });
        self.copied = value.end();
    }

    /// Whether the gateway removes what the upstream wrote there.
    fn is_removed(&self, node: &Node) -> bool {
        node.is_overwritten() && is_absent(node, self.values)
    }

    /// Whether the gateway writes what the upstream's body lacks.
    fn is_added(&self, node: &Node) -> bool {
        node.is_of_gateway() && !is_absent(node, self.values)
    }

    fn object(&mut self, node: &ObjectNode, value: &Value<'_>) {
        let Some(members) = value.members() else { return };
        let known = |name: &str| node.members.iter().find(|known| *known.name == *name);
        let is_removed = |name: &str| known(name).is_some_and(|known| self.is_removed(&known.node));
        let removed: Vec<bool> = members.iter().map(|member| is_removed(&member.name)).collect();
        let mut any_kept = false;
        // The end of the member before: a removed one takes the comma before it with it.
        let mut previous_end = value.start + 1;
        for (member, removed) in members.iter().zip(removed) {
            if removed {
                self.copy_to(previous_end);
                self.copied = member.value.end();
            } else {
                if !any_kept && self.copied == previous_end && previous_end > value.start + 1 {
                    // All members before it were removed: no comma before the first one.
                    self.copied = member.start;
                }
                any_kept = true;
                if let Some(known) = known(&member.name) {
                    self.node(&known.node, &member.value);
                }
            }
            previous_end = member.value.end();
        }
        self.copy_to(previous_end);
        for missing in &node.members {
            let is_missing = !members.iter().any(|member| *member.name == *missing.name);
            if is_missing && self.is_added(&missing.node) {
                if std::mem::replace(&mut any_kept, true) {
                    self.out.put_u8(b',');
                }
                self.out.put_slice(missing.key.as_bytes());
                write_node(&missing.node, self.values, &mut self.out);
            }
        }
    }
}
