//! What was probably meant by a value of the wrong shape: a mapping in place of a list, a list in place of named
//! sections, a rule in the syntax of another tool in place of `match`.
//!
//! [`flow`] writes a value as it would be typed in.

use super::foreign_patterns;
use super::keys::Keys;
use super::problem::Location;
use super::route_patterns;
use super::tree::{Entry, Node, NodeKind};
use super::units;

/// A longer value is not repeated in a help.
const MAX_LENGTH: usize = 100;

/// Whether the word switches something on.
pub(super) fn is_on(text: &str) -> bool {
    matches!(text, "on" | "true" | "yes" | "enabled")
}

/// Whether the word switches something off.
pub(super) fn is_off(text: &str) -> bool {
    matches!(text, "off" | "false" | "no" | "none" | "never" | "disabled")
}

/// The text as a YAML value, in quotes if it needs them.
pub(super) fn scalar(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '/' | '-');
    let needs_quotes = text.is_empty() || text.starts_with('-') || !text.chars().all(plain);
    if needs_quotes { format!("{text:?}") } else { text.to_owned() }
}

/// The texts of the items as YAML, without brackets.
pub(super) fn list(items: &[Node]) -> String {
    let texts: Vec<String> = items.iter().filter_map(Node::text).map(scalar).collect();
    texts.join(", ")
}

/// The value in one line, as it would be typed in; `None` if it is long, invalid or may have a secret.
pub(super) fn flow(node: &Node) -> Option<String> {
    let text = match &node.kind {
        NodeKind::Scalar { .. } if node.is_null() => "~".to_owned(),
        NodeKind::Scalar { text, .. } if text.contains("://") && text.contains('@') => return None,
        NodeKind::Scalar { text, .. } => scalar(text),
        NodeKind::Sequence(items) => {
            format!("[{}]", items.iter().map(flow).collect::<Option<Vec<_>>>()?.join(", "))
        }
        NodeKind::Mapping(entries) if entries.is_empty() => "{}".to_owned(),
        NodeKind::Mapping(entries) => {
            let entry = |entry: &Entry| {
                let value = flow(&entry.value).filter(|_| entry.key != "secret")?;
                Some(format!("{}: {value}", scalar(&entry.key)))
            };
            format!("{{ {} }}", entries.iter().map(entry).collect::<Option<Vec<_>>>()?.join(", "))
        }
        NodeKind::Invalid => return None,
    };
    (text.chars().count() <= MAX_LENGTH).then_some(text)
}

fn node(kind: NodeKind) -> Node {
    Node { location: Location::NOWHERE, kind }
}

fn text_node(text: &str) -> Node {
    node(NodeKind::Scalar { text: text.to_owned(), plain: false })
}

fn entry(key: &str, value: Node) -> Entry {
    Entry { key: key.to_owned(), location: Location::NOWHERE, value }
}

/// A mapping as the list that was probably meant: one item, or items by their names. `item` describes an item.
pub(super) fn as_list(mapping: &Node, item: Keys) -> Option<Node> {
    let (entries, names) = (mapping.entries(), item.names());
    let items: Vec<Node> = if names.is_empty() {
        let listed = entries.iter().filter(|entry| entry.value.text().is_some_and(is_on));
        listed.map(|entry| text_node(&entry.key)).collect()
    } else if entries.iter().all(|entry| names.contains(&&*entry.key)) {
        vec![mapping.clone()]
    } else if names.contains(&"name") {
        let named = |from: &Entry| {
            let mut item = vec![entry("name", text_node(&from.key))];
            item.extend(from.value.entries().iter().cloned());
            node(NodeKind::Mapping(item))
        };
        entries.iter().map(named).collect()
    } else {
        let key = item.text("x-short")?;
        let short = |from: &Entry| node(NodeKind::Mapping(vec![entry(key, text_node(&from.key))]));
        entries.iter().map(short).collect()
    };
    (!items.is_empty()).then(|| node(NodeKind::Sequence(items)))
}

/// A list as the named sections that were probably meant: items with a `name`, or of one key each.
pub(super) fn as_named(list: &Node) -> Option<Node> {
    let named = |item: &Node| match item.entries() {
        [only] => Some(only.clone()),
        entries => {
            let name = item.get("name").and_then(Node::text)?;
            let rest = entries.iter().filter(|entry| entry.key != "name").cloned().collect();
            Some(entry(name, node(NodeKind::Mapping(rest))))
        }
    };
    let sections = list.items().iter().map(named).collect::<Option<Vec<_>>>()?;
    (!sections.is_empty()).then(|| node(NodeKind::Mapping(sections)))
}

/// The section `match` for a path, a host, or a rule of Traefik such as ``Host(`a.com`) && PathPrefix(`/x`)``.
pub(super) fn match_section(text: &str) -> Option<String> {
    if !text.contains("(`") {
        let host = || route_patterns::host(text).ok().filter(|_| text.contains('.')).map(|_| text.to_owned());
        return match path(text) {
            Some(path) => Some(format!("{{ path: {} }}", scalar(&path))),
            None => Some(format!("{{ host: {} }}", scalar(&host()?))),
        };
    }
    let mut keys = Vec::new();
    for part in text.split("&&").map(str::trim) {
        let (matcher, value) = part.strip_suffix("`)")?.split_once("(`")?;
        keys.push(match matcher {
            "Host" => format!("host: {}", route_patterns::host(value).ok()?.map(|host| scalar(&host))?),
            "Method" => format!("methods: [{}]", units::method(value).ok()?),
            _ => format!("path: {}", scalar(&path(part)?)),
        });
    }
    Some(format!("{{ {} }}", keys.join(", ")))
}

/// The path in our syntax, for text that begins like a path or is in the syntax of another tool.
fn path(text: &str) -> Option<String> {
    let is_valid = |path: &str| route_patterns::path_shape(path, false).is_ok();
    if is_valid(text) {
        return Some(text.to_owned());
    }
    if !foreign_patterns::is_foreign(text) {
        return None;
    }
    foreign_patterns::translate(text).map(|ours| ours.pattern).filter(|path| is_valid(path))
}

/// The pattern for a prefix of other tools: `/api` also matches what is below it.
pub(super) fn prefix(text: &str) -> Option<String> {
    let pattern = format!("{}/{{*rest}}", text.trim_end_matches(['/', '*']));
    route_patterns::path_shape(&pattern, false).ok().map(|_| scalar(&pattern))
}
