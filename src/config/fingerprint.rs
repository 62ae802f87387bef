//! The fingerprint of a configuration, for the metric `config_hash_info`: equal files have equal ones on every
//! instance.
//!
//! It covers keys and values with their variables and included files, and not comments, layout or certificates.

use std::fmt::Write as _;

use ring::digest::{Context, SHA256};

use super::tree::{Node, NodeKind};

/// The first 12 hexadecimal digits of the SHA-256 of the values in the tree.
pub(crate) fn fingerprint(tree: &Node) -> String {
    let mut context = Context::new(&SHA256);
    add(&mut context, tree);
    let digest = context.finish();
    let mut text = String::with_capacity(12);
    for octet in digest.as_ref().iter().take(6) {
        // Writing to a String cannot fail.
        let _ = write!(text, "{octet:02x}");
    }
    text
}

/// Adds a value. Kinds and lengths keep different trees apart.
fn add(context: &mut Context, node: &Node) {
    match &node.kind {
        NodeKind::Scalar { .. } if node.is_null() => context.update(b"n"),
        NodeKind::Scalar { text, .. } => add_text(context, b't', text),
        NodeKind::Sequence(items) => {
            add_length(context, b's', items.len());
            items.iter().for_each(|item| add(context, item));
        }
        NodeKind::Mapping(entries) => {
            add_length(context, b'm', entries.len());
            for entry in entries {
                add_text(context, b'k', &entry.key);
                add(context, &entry.value);
            }
        }
        NodeKind::Invalid => context.update(b"i"),
    }
}

fn add_text(context: &mut Context, kind: u8, text: &str) {
    add_length(context, kind, text.len());
    context.update(text.as_bytes());
}

fn add_length(context: &mut Context, kind: u8, length: usize) {
    context.update(&[kind]);
    context.update(&(length as u64).to_be_bytes());
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::config::parse_yaml::parse;

    #[test]
    fn fingerprint_changes_with_values_and_variables_only() {
        let of = |text: &str, value: &str| {
            let variables = |_: &str| Some(value.to_owned());
            fingerprint(&parse(text, &variables, &mut Vec::new()).unwrap())
        };
        let text = "a: [x, \"${V}\"]\nb: { c: d }\n";
        let expected = of(text, "1");
        assert!(
            expected.len() == 12 && expected.bytes().all(|octet| octet.is_ascii_hexdigit()),
            "{expected}"
        );
        assert_eq!(of("# comment\na:\n  - x\n  - '1'\nb:\n  c: \"d\"\n", "1"), expected);
        for (changed, value) in [
            (text, "2"),
            ("a: [x1, \"\"]\nb: { c: d }", "1"),
            ("a: [x, \"1\", b]\nc: d", "1"),
            ("a: [x, \"1\"]\nb: { c: ~ }", "1"),
        ] {
            assert_ne!(of(changed, value), expected, "{changed}");
        }
    }
}
