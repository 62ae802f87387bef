//! `config/annotated.yaml` against the resolved defaults: every key of it is left out once.
//!
//! A key whose value is the default changes nothing by being left out. One that must be there cannot be left out. Of any
//! other the file says what happens without it: on the line, or in the comment directly above.

use super::super::super::parse_yaml::parse;
use super::super::super::tree::{Node, NodeKind};
use super::{ANNOTATED, load};

/// What the file says of a value that is not the default.
const SAID: [&str; 2] = ["when left out", "unless written"];

/// A key of the file: the way to it by number, its path, and its line.
struct Key {
    way: Vec<usize>,
    path: String,
    line: usize,
}

fn keys(node: &Node, way: &[usize], path: &str, found: &mut Vec<Key>) {
    let deeper = |index| [way, &[index]].concat();
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
                found.push(Key { way: deeper(index), path: path.clone(), line: entry.location.line });
                keys(&entry.value, &deeper(index), &path, found);
            }
        }
    }
}

/// The tree as text, without the entry at the end of this way.
fn text(node: &Node, without: Option<&[usize]>) -> String {
    let below = |index| without.and_then(|way| way.split_first()).filter(|(first, _)| **first == index);
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
        // The file loads: there is none.
        NodeKind::Invalid => String::new(),
    }
}

/// What this file means, but for the lines that its problems quote; nothing when it is refused.
fn resolved(text: &str) -> Option<String> {
    let config = format!("{:#?}", load(text).ok()?);
    config.split_once("\n    warnings: ").map(|(config, _)| config.to_owned())
}

/// The comment on this line (counted from 1) and those directly above it.
fn comments(line: usize) -> String {
    let lines: Vec<&str> = ANNOTATED.lines().collect();
    let above = lines[..line - 1].iter().rev().take_while(|line| line.trim_start().starts_with('#'));
    let own = lines[line - 1].split_once(" #").map_or("", |(_, comment)| comment);
    above.copied().chain([own]).collect::<Vec<_>>().join("\n")
}

#[test]
fn every_key_of_the_annotated_file_has_its_default_or_says_what_happens_without() {
    let root = parse(ANNOTATED, &|name| (name == "PORT").then(|| "8081".to_owned()), &mut Vec::new());
    let root = root.unwrap().root;
    let whole = resolved(ANNOTATED).unwrap();
    assert_eq!(resolved(&text(&root, None)), Some(whole.clone()), "nothing is left out yet");
    let mut found = Vec::new();
    keys(&root, &[], "", &mut found);
    assert!(found.len() > 100, "{}", found.len());
    // What cannot be left out changes nothing.
    let changes = |key: &&Key| resolved(&text(&root, Some(&key.way))).is_some_and(|config| config != whole);
    let examples: Vec<&Key> = found.iter().filter(changes).collect();
    // A section is an example for what it holds, or by itself.
    let holds_another = |key: &Key| {
        examples.iter().any(|other| other.way.len() > key.way.len() && other.way.starts_with(&key.way))
    };
    let silent: Vec<String> = examples
        .iter()
        .filter(|key| !holds_another(key) && !SAID.iter().any(|words| comments(key.line).contains(words)))
        .map(|key| format!("{}: {}", key.line, key.path))
        .collect();
    assert!(silent.is_empty(), "not the defaults, and nothing says so:\n{}", silent.join("\n"));
}
