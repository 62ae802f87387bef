//! Generates `docs/configuration.md` from the comments in [`super::file`].
//!
//! It parses the sources as text, because doc comments are not available otherwise; the structs must therefore stay
//! simple. Compiled for tests only. To regenerate the page: `UPDATE_DOCS=1 cargo test configuration_page`.

use std::collections::HashMap;
use std::fmt::Write as _;

use super::unsupported;

/// The sources that mirror the file.
pub(super) const SOURCES: [&str; 5] = [
    include_str!("file.rs"),
    include_str!("file/cors.rs"),
    include_str!("file/errors.rs"),
    include_str!("file/limits.rs"),
    include_str!("file/routing.rs"),
];

/// A struct or an enum of the sources.
#[derive(Default)]
struct DocItem {
    members: Vec<DocMember>,
    is_enum: bool,
}

/// A field or a variant.
struct DocMember {
    key: String,
    kind: String,
    docs: Vec<String>,
}

fn items() -> HashMap<String, DocItem> {
    let mut items: HashMap<String, DocItem> = HashMap::new();
    for source in SOURCES {
        let mut docs: Vec<String> = Vec::new();
        let mut rename = None;
        let mut current: Option<String> = None;
        for line in source.lines() {
            let trimmed = line.trim();
            if let Some(text) = trimmed.strip_prefix("///") {
                docs.push(text.trim().to_owned());
            } else if let Some(name) = trimmed.strip_prefix("#[serde(rename = \"") {
                rename = name.strip_suffix("\")]").map(str::to_owned);
            } else if trimmed.starts_with("#[") {
            } else if let Some(rest) = strip_visibility(line).strip_prefix("type ") {
                // `pub type Form = Either<Word, File>;`: only the long form has keys.
                let (name, target) = rest.split_once(" = ").unwrap();
                items
                    .insert(name.to_owned(), DocItem { members: vec![alias_member(target)], is_enum: false });
                docs.clear();
            } else if let Some(rest) = strip_visibility(line)
                .strip_prefix("struct ")
                .or_else(|| strip_visibility(line).strip_prefix("enum "))
            {
                let name = rest.split([' ', '(', '<']).next().unwrap().to_owned();
                items.insert(name.clone(), DocItem { is_enum: line.contains("enum"), ..DocItem::default() });
                current = Some(name);
                docs.clear();
            } else if line == "}" {
                current = None;
            } else if let (Some(name), false) = (&current, trimmed.is_empty()) {
                let item = items.get_mut(name).unwrap();
                let member = strip_visibility(trimmed).trim_end_matches(',');
                let (key, kind) = member.split_once(": ").unwrap_or((member, ""));
                let key = rename
                    .take()
                    .unwrap_or_else(|| if item.is_enum { snake_case(key) } else { key.to_owned() });
                item.members.push(DocMember { key, kind: kind.to_owned(), docs: std::mem::take(&mut docs) });
            } else {
                docs.clear();
            }
        }
    }
    items
}

fn alias_member(target: &str) -> DocMember {
    DocMember { key: String::new(), kind: target.trim_end_matches(';').to_owned(), docs: Vec::new() }
}

fn snake_case(name: &str) -> String {
    let mut out = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !out.is_empty() {
            out.push('_');
        }
        out.extend(letter.to_lowercase());
    }
    out
}

/// The struct or enum that a type contains, with aliases resolved.
fn resolve_type<'a>(kind: &str, items: &'a HashMap<String, DocItem>) -> Option<(&'a str, &'a DocItem)> {
    let words = kind.split(|letter: char| !letter.is_alphanumeric()).filter(|word| !word.is_empty());
    let mut candidates: Vec<(&str, &DocItem)> = Vec::new();
    for word in words {
        if let Some((name, item)) = items.get_key_value(word) {
            match item.members.as_slice() {
                [only] if only.key.is_empty() => candidates.extend(resolve_type(&only.kind, items)),
                _ => candidates.push((name, item)),
            }
        }
    }
    // Of a short and a long form, the page lists the keys; the text describes the short form.
    candidates.iter().find(|(_, item)| !item.is_enum).or(candidates.first()).copied()
}

fn page() -> String {
    let items = items();
    let mut out = String::from(PAGE_HEADER);
    let mut seen = HashMap::new();
    section(&mut out, "", &items["ConfigFile"], &items, &mut seen);
    out.push_str(UNSUPPORTED_SECTION);
    for (pattern, help) in unsupported::KEYS {
        writeln!(out, "| `{}` | {help} |", pattern.replace('*', "NAME")).unwrap();
    }
    for (pattern, value, help) in unsupported::VALUES {
        let pattern = pattern.replace('*', "NAME");
        writeln!(out, "| `{pattern}: {value}` | {help} |").unwrap();
    }
    out
}

fn section(
    out: &mut String,
    path: &str,
    item: &DocItem,
    items: &HashMap<String, DocItem>,
    seen: &mut HashMap<String, String>,
) {
    for member in &item.members {
        let path = if path.is_empty() { member.key.clone() } else { format!("{path}.{}", member.key) };
        let level = if path.contains('.') { "###" } else { "##" };
        writeln!(out, "{level} `{path}`\n").unwrap();
        paragraphs(out, &member.docs);
        let Some((name, inner)) = resolve_type(&member.kind, items) else { continue };
        if inner.is_enum {
            for variant in &inner.members {
                writeln!(out, "- `{}`: {}", variant.key, variant.docs.join(" ")).unwrap();
            }
            out.push('\n');
            continue;
        }
        if let Some(first) = seen.get(name) {
            writeln!(out, "The keys are those of [`{first}`](#{}).\n", anchor(first)).unwrap();
            continue;
        }
        let child_path = match &member.kind {
            kind if kind.contains("Named<") => format!("{path}.NAME"),
            kind if kind.contains("Vec<") => format!("{path}[]"),
            _ => path.clone(),
        };
        seen.insert(name.to_owned(), path);
        section(out, &child_path, inner, items, seen);
    }
}

/// Joins lines to paragraphs and puts the metadata (unit, default, reload) in a separate paragraph.
fn paragraphs(out: &mut String, docs: &[String]) {
    for paragraph in docs.split(|line| line.is_empty()) {
        let text = paragraph.join(" ");
        let metadata_start =
            ["Required.", "Unit:", "Default:", "Reload:"].iter().filter_map(|word| text.find(word)).min();
        let (text, metadata) = text.split_at(metadata_start.unwrap_or(text.len()));
        for part in [text, metadata].iter().map(|part| part.trim()).filter(|part| !part.is_empty()) {
            writeln!(out, "{part}\n").unwrap();
        }
    }
}

/// The anchor that GitHub generates for a heading.
fn anchor(path: &str) -> String {
    path.chars()
        .filter(|letter| letter.is_alphanumeric() || matches!(letter, '_' | '-'))
        .collect::<String>()
        .to_lowercase()
}

const PAGE_HEADER: &str = "<!-- Generated from src/config/file.rs; regenerate with: UPDATE_DOCS=1 cargo test configuration_page -->

# The configuration file

The configuration is one YAML file, by default `statusquo.yaml`. `config/minimal.yaml` is the smallest working file;
`config/annotated.yaml` contains every key. `statusquo check` reports all problems of a file with line, column and help,
and exits with status 78. `run` prints the same problems and does not start.

- Unknown keys are rejected, never ignored. So are planned keys that are not implemented yet (listed at the end).
- Status codes on this page are those of the default contract, `appwrite`. Another contract may send another code for the
  same cause: `statusquo codes FILE` prints the codes of your file.
- Durations are whole numbers with `ms`, `s`, `m`, `h` or `d` (`800ms`, `5s`, `1m30s`); sizes use `B`, `KiB`, `MiB`, `GiB`
  (or the decimal `KB`, `MB`, `GB`). The unit is required.
- `${NAME}` in a value is an environment variable, which must be set. `${NAME:-default}` uses the default if the variable
  is unset or empty. `$${` is a literal `${`. Quote values that contain braces.
- A key without a value is treated as absent. Anchors and aliases are supported; tags, merge keys and multiple documents
  are not.
- Paths on this page are written as `upstreams.NAME.servers[]`: `NAME` is a name that you choose, `[]` is each item of a
  list.
- \"Reload\" states whether a change takes effect on SIGHUP. If the new file changes a key with \"Reload: no\" or has a
  problem, the reload is rejected as a whole and the old configuration stays in use.

";

const UNSUPPORTED_SECTION: &str = "## Not supported yet

These keys and values are planned. They are rejected with a specific message until they are implemented.

| key | what to use now |
|---|---|
";

/// The line without `pub` or `pub(crate)`.
fn strip_visibility(line: &str) -> &str {
    line.strip_prefix("pub(crate) ").or_else(|| line.strip_prefix("pub ")).unwrap_or(line)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn configuration_page_matches_the_comments() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/configuration.md");
        let generated = page();
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, &generated).unwrap();
        }
        let current = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            current == generated,
            "docs/configuration.md is out of date; run: UPDATE_DOCS=1 cargo test configuration_page"
        );
    }

    #[test]
    fn every_key_starts_with_one_sentence() {
        for (name, item) in items() {
            for member in item.members.iter().filter(|member| !member.key.is_empty()) {
                let first = member.docs.first().map(String::as_str).unwrap_or_default();
                assert!(first.contains('.'), "{name}.{}: {first:?}", member.key);
            }
        }
    }

    #[test]
    fn every_leaf_documents_default_and_reload() {
        let items = items();
        for (name, item) in items.iter().filter(|(_, item)| !item.is_enum) {
            for member in item.members.iter().filter(|member| !member.key.is_empty()) {
                let leaf = resolve_type(&member.kind, &items).is_none_or(|(_, inner)| inner.is_enum);
                let text = member.docs.join(" ");
                let complete = text.contains("Reload:")
                    && (text.contains("Default:") || text.contains("Required") || name == "WhenFile");
                assert!(!leaf || complete, "{name}.{}: {text}", member.key);
            }
        }
    }
}
