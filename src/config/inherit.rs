//! Merges the sections that are inherited: `timeouts` of the top level, the upstream and the route, and `errors` of the
//! top level and the route.
//!
//! It works on the tree, before the sections are read: the keys of the inner section replace those of the outer one,
//! and a new key needs nothing here. The defaults apply last.

use super::problem::Location;
use super::tree::{Entry, Node, NodeKind};

/// The file with complete `timeouts` and `errors` in every upstream and route.
pub(crate) fn resolve(root: &Node) -> Node {
    let mut root = root.clone();
    let errors = section(root.get("errors"));
    let timeouts = section(root.get("timeouts"));
    let mut inheritable_errors = errors.clone();
    // The top-level overrides are checked after those of the route.
    inheritable_errors.remove("overrides");
    let mut upstream_timeouts = Vec::new();
    for entry in root.get_mut("upstreams").map(Node::entries_mut).unwrap_or_default() {
        let merged = overlay(&timeouts, &section(entry.value.get("timeouts")));
        upstream_timeouts.push((entry.key.clone(), merged.clone()));
        entry.value.set("timeouts", merged);
    }
    for route in root.get_mut("routes").map(Node::items_mut).unwrap_or_default() {
        let upstream = route.get("upstream").and_then(Node::text).unwrap_or_default();
        let inherited = upstream_timeouts.iter().find(|(name, _)| name == upstream);
        let outer = inherited.map_or(&timeouts, |(_, timeouts)| timeouts);
        let merged = overlay(outer, &section(route.get("timeouts")));
        route.set("timeouts", merged);
        let merged = overlay(&inheritable_errors, &section(route.get("errors")));
        route.set("errors", merged);
    }
    root.set("errors", errors);
    root.set("timeouts", timeouts);
    root
}

/// The section as a mapping. `errors: pass` is short for `errors: { mode: pass }`.
fn section(node: Option<&Node>) -> Node {
    let mut section = Node { location: Location::NOWHERE, kind: NodeKind::Mapping(Vec::new()) };
    match node {
        Some(node) if node.text().is_some() => section.set("mode", node.clone()),
        Some(node) if !node.entries().is_empty() => return node.clone(),
        Some(_) | None => {}
    }
    section
}

/// The keys of `inner`, and those of `outer` that it does not contain. Sections are merged key by key.
fn overlay(outer: &Node, inner: &Node) -> Node {
    let mut merged = outer.clone();
    let present = |entry: &&Entry| entry.value.kind != NodeKind::Invalid && !entry.value.is_null();
    for entry in inner.entries().iter().filter(present) {
        let value = match (merged.get(&entry.key), &entry.value.kind) {
            (Some(outer), NodeKind::Mapping(_)) => overlay(outer, &entry.value),
            _ => entry.value.clone(),
        };
        merged.set(&entry.key, value);
    }
    merged
}
