//! Checks whether a body has the form of the template.

use super::{Field, Node, ObjectNode, Piece, Placeholder, Template, ValueType};
use crate::contract::json::{Kind, Value};
use crate::contract::text;
use crate::contract::types::{Types, is_uri_reference};

/// Longest message and title of a conforming body, in characters.
pub(crate) const MAX_TEXT: usize = 8192;

/// Bounds of what the template does not describe: details, declared values, further members.
const FREE_BYTES: usize = 16 * 1024;
const FREE_DEPTH: usize = 8;
const FREE_TEXTS: usize = 256;

impl Template {
    /// Whether a body that the upstream sent with this status has the form of the template.
    pub(crate) fn conforms(&self, body: &Value<'_>, status: u16, types: &Types) -> bool {
        let mut check = Check { template: self, status, types, free: FreeBounds::default() };
        check.object(&self.root, body)
    }

    /// The item of each node in a list of a body that conforms; `None` is an absent one.
    pub(super) fn items<'v, 't>(
        &self,
        nodes: &[Node],
        mut items: &'v [Value<'t>],
        (status, types): (u16, &Types),
    ) -> Vec<Option<&'v Value<'t>>> {
        let mut found = Vec::with_capacity(nodes.len());
        let mut rest = nodes;
        while let Some((node, after)) = rest.split_first() {
            let mut check = Check { template: self, status, types, free: FreeBounds::default() };
            let item = match (check.has_item(node, after, items), items.split_first()) {
                (Some(true), Some((item, others))) => {
                    items = others;
                    Some(item)
                }
                _ => None,
            };
            found.push(item);
            rest = after;
        }
        found
    }
}

struct Check<'a> {
    template: &'a Template,
    status: u16,
    types: &'a Types,
    free: FreeBounds,
}

impl Check<'_> {
    fn object(&mut self, node: &ObjectNode, value: &Value<'_>) -> bool {
        let Some(members) = value.members() else { return false };
        for member in members {
            let known = node.members.iter().find(|known| *known.name == *member.name);
            let valid = match known {
                Some(known) => self.node(&known.node, &member.value),
                None => node.open && text::passes_rule(&member.name) && self.free.accepts(&member.value),
            };
            if !valid {
                return false;
            }
        }
        let has = |name: &str| members.iter().any(|member| member.name == name);
        node.members.iter().all(|known| known.optional || has(&known.name))
    }

    fn node(&mut self, node: &Node, value: &Value<'_>) -> bool {
        match node {
            Node::Null => is_null(value),
            Node::Bool(truth) => matches!(value.kind, Kind::Bool(found) if found == *truth),
            Node::Number(number) => matches!(value.kind, Kind::Number) && *value.raw == **number,
            Node::Text(text) => value.as_text() == Some(text),
            Node::Object(object) => self.object(object, value),
            Node::Repeated(object) => value
                .items()
                .is_some_and(|items| !items.is_empty() && items.iter().all(|item| self.object(object, item))),
            Node::List(nodes) => value.items().is_some_and(|items| self.list(nodes, items)),
            Node::Placeholder(placeholder) => self.placeholder(*placeholder, value),
            Node::Mixed(pieces) => value.as_text().is_some_and(|text| has_form(text, pieces)),
        }
    }

    /// Every item in order; an item that may be absent may be missing.
    fn list(&mut self, nodes: &[Node], items: &[Value<'_>]) -> bool {
        match nodes.split_first() {
            Some((node, nodes)) => self.has_item(node, nodes, items).is_some(),
            None => items.is_empty(),
        }
    }

    /// Whether the first item is that of `node`, or it is absent; `None` if the items conform in neither case.
    fn has_item(&mut self, node: &Node, nodes: &[Node], items: &[Value<'_>]) -> Option<bool> {
        // Anything may stand for a value that the gateway replaces, so that the type decides between it and the next
        // item.
        let is_other = items.first().is_some_and(|item| node.is_overwritten() && !item.is_integer());
        for is_present in if node.may_be_absent() && is_other { [false, true] } else { [true, false] } {
            let before = self.free;
            let conforms = match (is_present, items.split_first()) {
                (true, Some((item, rest))) => self.node(node, item) && self.list(nodes, rest),
                (true, None) => false,
                (false, _) => node.may_be_absent() && self.list(nodes, items),
            };
            if conforms {
                return Some(is_present);
            }
            self.free = before;
        }
        None
    }

    fn placeholder(&mut self, placeholder: Placeholder, value: &Value<'_>) -> bool {
        let field = placeholder.field;
        // The gateway replaces it.
        if field.is_overwritten() || (placeholder.or_null && is_null(value)) {
            return true;
        }
        if placeholder.as_text {
            return value.as_text().is_some_and(|text| self.text_of(field, text));
        }
        match field {
            Field::Code => matches!(value.kind, Kind::Number) && value.raw == self.status.to_string(),
            Field::Message | Field::Title => value.as_text().is_some_and(is_sentence),
            Field::Type | Field::UpstreamType | Field::ProblemCode => self.types.kind_of(value).is_some(),
            Field::ProblemType => value.as_text().is_some_and(is_uri_reference),
            Field::Details => !is_null(value) && self.free.accepts(value),
            Field::RequestId => value.as_text().is_some_and(is_request_id),
            Field::ProblemInstance => value.as_text().is_some_and(is_uri_reference),
            Field::Version => value.as_text().is_some_and(is_version),
            Field::Declared(index) => {
                let value_type = self.template.values.get(index).map(|declared| declared.value_type);
                value_type.is_some_and(|value_type| has_type(value, value_type)) && self.free.accepts(value)
            }
            Field::Cause | Field::Retryable | Field::RequestSent | Field::RetryAfter => true,
        }
    }

    /// A value written as text (`|string`).
    fn text_of(&mut self, field: Field, text: &str) -> bool {
        match field {
            Field::Code => text == self.status.to_string(),
            Field::Message | Field::Title => is_sentence(text),
            Field::Type | Field::UpstreamType | Field::ProblemCode | Field::ProblemType => {
                self.types.accept(text)
            }
            Field::RequestId => is_request_id(text),
            Field::Declared(index) => {
                let value_type = self.template.values.get(index).map(|declared| declared.value_type);
                text::passes_rule(text)
                    && value_type.is_some_and(|value_type| match value_type {
                        ValueType::Integer => is_integer_text(text),
                        ValueType::Boolean => matches!(text, "true" | "false"),
                        ValueType::String | ValueType::Any => true,
                        ValueType::Object | ValueType::List => false,
                    })
            }
            Field::Version => is_version(text),
            Field::ProblemInstance => is_uri_reference(text),
            Field::Details => false,
            Field::Cause | Field::Retryable | Field::RequestSent | Field::RetryAfter => true,
        }
    }
}

/// What has been accepted of values that the template does not describe, all together.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct FreeBounds {
    bytes: usize,
    texts: usize,
}

impl FreeBounds {
    /// Whether the value is within the bounds and its texts pass the rule.
    pub(crate) fn accepts(&mut self, value: &Value<'_>) -> bool {
        self.bytes += value.raw.len();
        self.bytes <= FREE_BYTES && self.texts_pass(value, 0)
    }

    /// Counts a value that has been checked.
    pub(crate) const fn add(&mut self, bytes: usize, texts: usize) -> bool {
        self.bytes += bytes;
        self.texts += texts;
        self.bytes <= FREE_BYTES && self.texts <= FREE_TEXTS
    }

    fn texts_pass(&mut self, value: &Value<'_>, depth: usize) -> bool {
        match &value.kind {
            Kind::Null | Kind::Bool(_) | Kind::Number => true,
            Kind::Text(text) => {
                self.texts += 1;
                self.texts <= FREE_TEXTS && text::passes_rule(text)
            }
            Kind::List(items) => {
                depth < FREE_DEPTH && items.iter().all(|item| self.texts_pass(item, depth + 1))
            }
            Kind::Object(members) => {
                depth < FREE_DEPTH
                    && members.iter().all(|member| {
                        text::passes_rule(&member.name) && self.texts_pass(&member.value, depth + 1)
                    })
            }
        }
    }
}

/// Nesting of details, for code that builds them.
pub(crate) const MAX_FREE_DEPTH: usize = FREE_DEPTH;

pub(crate) const fn is_null(value: &Value<'_>) -> bool {
    matches!(value.kind, Kind::Null)
}

pub(crate) fn has_type(value: &Value<'_>, value_type: ValueType) -> bool {
    match value_type {
        ValueType::String => value.as_text().is_some(),
        ValueType::Integer => value.is_integer(),
        ValueType::Boolean => matches!(value.kind, Kind::Bool(_)),
        ValueType::Object => value.members().is_some(),
        ValueType::List => value.items().is_some(),
        ValueType::Any => true,
    }
}

fn is_sentence(text: &str) -> bool {
    !text.is_empty()
        && (text.len() <= MAX_TEXT || text.chars().nth(MAX_TEXT).is_none())
        && text::passes_rule(text)
}

/// What may stand for `{request_id}`.
pub(crate) fn is_request_id(text: &str) -> bool {
    (1..=128).contains(&text.len()) && text.bytes().all(|octet| (0x20..0x7f).contains(&octet))
}

/// `[0-9A-Za-z.+-]{1,32}`.
fn is_version(text: &str) -> bool {
    (1..=32).contains(&text.len())
        && text.bytes().all(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'.' | b'+' | b'-'))
}

fn is_integer_text(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    !digits.is_empty() && digits.bytes().all(|octet| octet.is_ascii_digit())
}

/// Whether a text has the literal parts of `pieces` in their order.
fn has_form(text: &str, pieces: &[Piece]) -> bool {
    if !text::passes_rule(text) || text.len() > MAX_TEXT * 4 {
        return false;
    }
    let mut rest = text;
    let last = pieces.len().saturating_sub(1);
    // A part that follows a placeholder may stand anywhere after the previous one; the last one at the end.
    let mut floating = false;
    for (index, piece) in pieces.iter().enumerate() {
        match piece {
            Piece::Field(_) => floating = true,
            Piece::Literal(literal) => {
                let found = if !floating {
                    rest.strip_prefix(&**literal)
                } else if index == last {
                    rest.ends_with(&**literal).then_some("")
                } else {
                    rest.split_once(&**literal).map(|(_, after)| after)
                };
                let Some(after) = found else { return false };
                rest = after;
                floating = false;
            }
        }
    }
    floating || rest.is_empty()
}
