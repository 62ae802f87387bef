//! Compares `config/annotated.yaml` with the resolved defaults: each key is removed once.
//!
//! Removing a key with its default value changes nothing, and a required key cannot be removed. For every other key the
//! file must describe the default, on the same line or in the comment directly above.

use super::super::super::parse_yaml::parse;
use super::super::super::tree::{Node, NodeKind};
use super::{ANNOTATED, load};

/// The words that describe a default.
const DEFAULT_NOTES: [&str; 2] = ["when left out", "unless written"];

/// A key of the file: its child indices, its path, and its line.
struct Key {
    indices: Vec<usize>,
    path: String,
    line: usize,
}

fn keys(node: &Node, indices: &[usize], path: &str, found: &mut Vec<Key>) {
    let deeper = |index| [indices, &[index]].concat();
    match &node.kind {
        NodeKind::Scalar { .. } | NodeKind::Invalid => {}
        NodeKind::Sequence(items) => {
            for (index, item) in items.iter().enumerate() {
                keys(item, &deeper(index), &format!("{path}[{index}]"), found);
            }
        }
        NodeKind::Mapping(entries) => {
            for (index, entry) in entries.iter().enumerate() {
                let path = format!("{path}.{}", entry.key);
                found.push(Key { indices: deeper(index), path: path.clone(), line: entry.location.line });
                keys(&entry.value, &deeper(index), &path, found);
            }
        }
    }
}

/// The tree as text, without the entry at these child indices.
fn text(node: &Node, without: Option<&[usize]>) -> String {
    let below =
        |index| without.and_then(|indices| indices.split_first()).filter(|(first, _)| **first == index);
    let kept = |index| below(index).is_none_or(|(_, rest)| !rest.is_empty());
    let inner = |index, value| text(value, below(index).map(|(_, rest)| rest));
    match &node.kind {
        NodeKind::Scalar { .. } if node.is_null() => "null".to_owned(),
        NodeKind::Scalar { text, .. } => serde_json::to_string(text).unwrap(),
        NodeKind::Sequence(items) => {
            let items: Vec<_> = items.iter().enumerate().map(|(index, item)| inner(index, item)).collect();
            format!("[{}]", items.join(", "))
        }
        NodeKind::Mapping(entries) => {
            let entries = entries.iter().enumerate().filter(|(index, _)| kept(*index));
            let entries: Vec<_> = entries
                .map(|(index, entry)| {
                    let key = serde_json::to_string(&entry.key).unwrap();
                    format!("{key}: {}", inner(index, &entry.value))
                })
                .collect();
            format!("{{{}}}", entries.join(", "))
        }
        // The file is valid, so it has no invalid value.
        NodeKind::Invalid => String::new(),
    }
}

/// The resolved configuration without its warnings; `None` if the file is invalid.
fn resolved(text: &str) -> Option<String> {
    let config = format!("{:#?}", load(text).ok()?);
    config.split_once("\n    warnings: ").map(|(config, _)| config.to_owned())
}

/// The comment on this line (from 1) and the comments directly above it.
fn comments(line: usize) -> String {
    let lines: Vec<&str> = ANNOTATED.lines().collect();
    let above = lines[..line - 1].iter().rev().take_while(|line| line.trim_start().starts_with('#'));
    let same_line = lines[line - 1].split_once(" #").map_or("", |(_, comment)| comment);
    above.copied().chain([same_line]).collect::<Vec<_>>().join("\n")
}

#[test]
fn every_key_of_the_annotated_file_has_or_describes_its_default() {
    let root = parse(ANNOTATED, &|name| (name == "PORT").then(|| "8081".to_owned()), &mut Vec::new());
    let root = root.unwrap();
    let complete = resolved(ANNOTATED).unwrap();
    assert_eq!(resolved(&text(&root, None)), Some(complete.clone()), "with all keys");
    let mut all_keys = Vec::new();
    keys(&root, &[], "", &mut all_keys);
    assert!(all_keys.len() > 100, "{}", all_keys.len());
    // Required keys count as unchanged.
    let changes =
        |key: &&Key| resolved(&text(&root, Some(&key.indices))).is_some_and(|config| config != complete);
    let examples: Vec<&Key> = all_keys.iter().filter(changes).collect();
    // A section is reported only if none of its keys is.
    let contains_another = |key: &Key| {
        examples
            .iter()
            .any(|other| other.indices.len() > key.indices.len() && other.indices.starts_with(&key.indices))
    };
    let undocumented: Vec<String> = examples
        .iter()
        .filter(|key| {
            !contains_another(key) && !DEFAULT_NOTES.iter().any(|words| comments(key.line).contains(words))
        })
        .map(|key| format!("{}: {}", key.line, key.path))
        .collect();
    assert!(
        undocumented.is_empty(),
        "values that are not the default, without a comment:\n{}",
        undocumented.join("\n")
    );
}
