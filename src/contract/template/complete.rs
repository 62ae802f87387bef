//! Adds to a conforming body what only the gateway knows. Everything else keeps the upstream's bytes.

use bytes::{BufMut, Bytes, BytesMut};

use super::render::{BodyValues, is_absent, write_node};
use super::{Node, ObjectNode, Template};
use crate::contract::json::Value;

impl Template {
    /// The completed body, or `None` if nothing is added or changed. `text` is what `body` was read from, and conforms.
    pub(crate) fn complete(&self, text: &str, body: &Value<'_>, values: &BodyValues<'_>) -> Option<Bytes> {
        if !self.facts.completes {
            return None;
        }
        let mut writer = Writer { text, copied: 0, out: BytesMut::with_capacity(text.len() + 128), values };
        writer.object(&self.root, body);
        writer.copy_to(text.len());
        (writer.out != text.as_bytes()).then(|| writer.out.freeze())
    }
}

/// Copies the text up to each change.
struct Writer<'a> {
    text: &'a str,
    /// The text before this position has been copied, or left out.
    copied: usize,
    out: BytesMut,
    values: &'a BodyValues<'a>,
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
            Node::Placeholder(placeholder) if placeholder.field.is_overwritten() => {
                self.copy_to(value.start);
                write_node(node, self.values, &mut self.out);
                self.copied = value.end();
            }
            Node::Placeholder(_) => {}
        }
    }

    /// Items that are complete, as far as the two lists correspond.
    fn list(&mut self, nodes: &[Node], value: &Value<'_>) {
        let items = value.items().unwrap_or_default();
        if items.len() != nodes.len() {
            return;
        }
        for (node, item) in nodes.iter().zip(items) {
            if !is_absent(node, self.values) {
                self.node(node, item);
            }
        }
    }

    fn object(&mut self, node: &ObjectNode, value: &Value<'_>) {
        let Some(members) = value.members() else { return };
        let known = |name: &str| node.members.iter().find(|known| *known.name == *name);
        let is_removed = |name: &str| {
            known(name).is_some_and(|known| {
                let overwritten = known.node.placeholder().is_some_and(|own| own.field.is_overwritten());
                overwritten && is_absent(&known.node, self.values)
            })
        };
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
            if is_missing && missing.node.is_of_gateway() && !is_absent(&missing.node, self.values) {
                if std::mem::replace(&mut any_kept, true) {
                    self.out.put_u8(b',');
                }
                self.out.put_slice(missing.key.as_bytes());
                write_node(&missing.node, self.values, &mut self.out);
            }
        }
    }
}
