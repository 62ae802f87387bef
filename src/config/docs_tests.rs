//! Generates `docs/configuration.md` from the schema, that is, from the attributes and comments in [`super::file`].
//!
//! To regenerate the page: `UPDATE_DOCS=1 cargo test configuration_page`.

use std::collections::HashMap;
use std::fmt::Write as _;

use serde_json::Value;

use super::deserialize::tests::key_order;
use super::keys::Keys;
use crate::generated_files::assert_current;

/// A key of the file, its path as in the page, and the keys that lead to it.
struct PageKey {
    path: String,
    steps: Vec<&'static str>,
    keys: Keys,
    required: bool,
}

/// The keys of a section, in the order of the struct.
fn keys_of(section: Keys, path: &str, steps: &[&'static str]) -> Vec<PageKey> {
    let required = section.required();
    let key = |name: &'static str| PageKey {
        path: if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") },
        steps: [steps, &[name]].concat(),
        keys: section.key(name),
        required: required.contains(&name),
    };
    key_order(steps).iter().map(|name| key(name)).collect()
}

/// The section below a key: its path, the steps that lead to it, and its keys. A list of one or many sections counts as
/// one.
fn section_below(key: &PageKey) -> Option<(String, Vec<&'static str>, Keys)> {
    let is_section = |keys: Keys| !keys.names().is_empty();
    let item = key.keys.item();
    if is_section(key.keys) {
        Some((key.path.clone(), key.steps.clone(), key.keys))
    } else if is_section(item) {
        Some((format!("{}[]", key.path), [&key.steps[..], &["[]"]].concat(), item))
    } else if key.keys.are_names() && is_section(key.keys.key("")) {
        Some((format!("{}.NAME", key.path), [&key.steps[..], &["NAME"]].concat(), key.keys.key("")))
    } else {
        None
    }
}

/// The name of the type in the schema, to print its keys once.
fn type_name(keys: Keys) -> String {
    let sections: Vec<&Value> =
        keys.forms().into_iter().filter(|form| form.get("properties").is_some()).collect();
    format!("{:p}", sections[0])
}

fn page() -> String {
    let mut out = String::from(PAGE_HEADER);
    let mut planned = Vec::new();
    print_section(&mut out, keys_of(Keys::root(), "", &[]), &mut HashMap::new());
    collect_planned(Keys::root(), "", &[], &mut planned);
    out.push_str(PLANNED_SECTION);
    for (path, help) in planned {
        writeln!(out, "| `{path}` | {help} |").unwrap();
    }
    out
}

fn print_section(out: &mut String, keys: Vec<PageKey>, seen: &mut HashMap<String, String>) {
    for key in keys {
        let level = if key.path.contains('.') { "###" } else { "##" };
        writeln!(out, "{level} `{}`\n", key.path).unwrap();
        for paragraph in key.keys.text("description").unwrap().split("\n\n") {
            writeln!(out, "{}\n", paragraph.replace('\n', " ")).unwrap();
        }
        let below = section_below(&key);
        let metadata = metadata(&key, below.is_none());
        if !metadata.is_empty() {
            writeln!(out, "{metadata}\n").unwrap();
        }
        let words = words(key.keys);
        let Some((path, steps, section)) = below else {
            for (word, description) in &words {
                writeln!(out, "- `{word}`: {description}").unwrap();
            }
            if !words.is_empty() {
                out.push('\n');
            }
            continue;
        };
        if let Some(first) = seen.get(&type_name(section)) {
            writeln!(out, "The keys are those of [`{first}`](#{}).\n", anchor(first)).unwrap();
            continue;
        }
        seen.insert(type_name(section), key.path);
        print_section(out, keys_of(section, &path, &steps), seen);
    }
}

/// The values of an enumeration, each with its description; also of a list of them.
fn words(keys: Keys) -> Vec<(&'static str, String)> {
    let forms = keys.forms().into_iter().chain(keys.item().forms());
    let words = forms.filter_map(|form| form.get("oneOf")?.as_array()).flatten();
    words
        .map(|word| {
            (word["const"].as_str().unwrap(), word["description"].as_str().unwrap().replace('\n', " "))
        })
        .collect()
}

/// `Required. Unit: duration. Default: 5s. Reload: yes.`
fn metadata(key: &PageKey, leaf: bool) -> String {
    let mut parts = Vec::new();
    if key.required {
        parts.push("Required.".to_owned());
    }
    if let Some(unit) = unit(key.keys).filter(|unit| !unit.is_empty()) {
        parts.push(format!("Unit: {unit}."));
    }
    if let Some(default) = default(key.keys) {
        parts.push(format!("Default: {default}."));
    }
    match key.keys.text("x-reload") {
        Some(reload) => parts.push(format!("Reload: {reload}.")),
        None if leaf || !parts.is_empty() => parts.push("Reload: yes.".to_owned()),
        None => {}
    }
    parts.join(" ")
}

/// The unit of the key or its type, with the range.
fn unit(keys: Keys) -> Option<String> {
    let bounds = |least: Option<String>, most: Option<String>| match (least, most) {
        (Some(min), Some(max)) => format!(", {min} to {max}"),
        (Some(min), None) => format!(", at least {min}"),
        (None, Some(max)) => format!(", at most {max}"),
        (None, None) => String::new(),
    };
    let is = |name: &str| {
        let types = keys.forms().into_iter().filter_map(|form| form.get("type"));
        types
            .into_iter()
            .any(|kind| kind == name || kind.as_array().is_some_and(|all| all.contains(&name.into())))
    };
    let own = keys.text("x-unit");
    if own.is_none() && is("boolean") {
        return Some("`true` or `false`".to_owned());
    }
    if own.is_none() && is("integer") {
        let number = |name| keys.annotation(name).map(Value::to_string);
        let min = number("minimum").filter(|min| min != "0" || number("maximum").is_some());
        return Some(format!("number{}", bounds(min, number("maximum"))));
    }
    let text = |name| keys.text(name).map(str::to_owned);
    Some(format!("{}{}", own?, bounds(text("x-min"), text("x-max"))))
}

/// The default in the syntax of the file, or in words.
fn default(keys: Keys) -> Option<String> {
    fn written(value: &Value) -> String {
        match value {
            Value::String(text) if text.ends_with(':') => format!("\"{text}\""),
            Value::String(text) => text.clone(),
            Value::Array(items) => {
                format!("[{}]", items.iter().map(written).collect::<Vec<_>>().join(", "))
            }
            other => other.to_string(),
        }
    }
    match keys.annotation("default").filter(|value| !value.is_null() && !value.is_object()) {
        Some(value) => Some(format!("`{}`", written(value))),
        None => keys.text("x-default").map(str::to_owned),
    }
}

fn collect_planned(
    section: Keys,
    path: &str,
    steps: &[&'static str],
    planned: &mut Vec<(String, &'static str)>,
) {
    let table = |keys: Keys| {
        let tables: Vec<&Value> = keys.forms().into_iter().filter_map(|form| form.get("x-planned")).collect();
        tables.into_iter().filter_map(Value::as_object).flatten()
    };
    for (word, help) in table(section) {
        let path = if path.is_empty() { word.clone() } else { format!("{path}.{word}") };
        planned.push((path, help.as_str().unwrap()));
    }
    for key in keys_of(section, path, steps) {
        match section_below(&key) {
            Some((path, steps, section)) => collect_planned(section, &path, &steps, planned),
            None => {
                for (word, help) in table(key.keys) {
                    planned.push((format!("{}: {word}", key.path), help.as_str().unwrap()));
                }
            }
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

const PAGE_HEADER: &str = "<!-- Generated from the attributes in src/config/file*; regenerate with: UPDATE_DOCS=1 cargo test configuration_page -->

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

const PLANNED_SECTION: &str = "## Not supported yet

These keys and values are planned. They are rejected with a specific message until they are implemented.

| key | what to use now |
|---|---|
";

#[test]
fn configuration_page_matches_the_attributes() {
    assert_current("docs/configuration.md", &page(), "configuration_page");
}

fn every_key(keys: Vec<PageKey>, seen: &mut HashMap<String, String>, check: &mut dyn FnMut(&PageKey, bool)) {
    for key in keys {
        let below = section_below(&key);
        check(&key, below.is_none());
        if let Some((path, steps, section)) = below
            && seen.insert(type_name(section), String::new()).is_none()
        {
            every_key(keys_of(section, &path, &steps), seen, check);
        }
    }
}

#[test]
fn every_key_starts_with_one_sentence() {
    every_key(keys_of(Keys::root(), "", &[]), &mut HashMap::new(), &mut |key, _| {
        let text = key.keys.text("description").unwrap_or_default();
        let first = text.split("\n\n").next().unwrap_or_default();
        assert!(first.contains('.'), "{}: {text:?}", key.path);
    });
}

#[test]
fn every_leaf_is_required_or_documents_its_default() {
    every_key(keys_of(Keys::root(), "", &[]), &mut HashMap::new(), &mut |key, leaf| {
        let complete = key.required || default(key.keys).is_some() || key.path.contains(".when.");
        assert!(!leaf || complete, "{}", key.path);
    });
}

#[test]
fn annotated_file_has_every_key() {
    let annotated = include_str!("../../config/annotated.yaml");
    every_key(keys_of(Keys::root(), "", &[]), &mut HashMap::new(), &mut |key, _| {
        let name = key.steps.last().unwrap();
        assert!(annotated.contains(&format!("{name}:")), "{}", key.path);
    });
}

/// Every default of the schema as the text of a Rust literal, if it is unlikely to mean something else.
fn default_literals(schema: &Value, found: &mut Vec<String>) {
    if let Some(default) = schema.get("default").filter(|_| schema.get("description").is_some()) {
        match default {
            Value::String(text) if text.bytes().any(|octet| octet.is_ascii_digit() || octet == b'{') => {
                found.push(default.to_string());
            }
            Value::Array(items) if items.len() > 1 && items.iter().all(Value::is_number) => {
                let items: Vec<String> = items.iter().map(Value::to_string).collect();
                found.push(items.join(", "));
            }
            Value::Number(number) if number.as_u64().is_some_and(|number| number > 1024) => {
                found.push(number.to_string());
            }
            _ => {}
        }
    }
    match schema {
        Value::Object(members) => members.values().for_each(|below| default_literals(below, found)),
        Value::Array(items) => items.iter().for_each(|below| default_literals(below, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// A default stands in the attribute of its field, and nowhere else.
#[test]
fn no_default_stands_twice() {
    let mut literals = Vec::new();
    default_literals(&super::schema::generate(), &mut literals);
    assert!(literals.len() > 30, "{literals:?}");
    let root = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src/config"));
    let mut twice = Vec::new();
    for path in
        [root.to_owned(), root.join("file")].iter().flat_map(|folder| std::fs::read_dir(folder).unwrap())
    {
        let path = path.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if !name.ends_with(".rs") || name.ends_with("_tests.rs") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
        let code = code.split("#[cfg(test)]\n#[allow").next().unwrap();
        for (number, line) in code.lines().enumerate() {
            let line = line.trim_start();
            // Attributes are the table; rows of syntaxes have examples.
            let is_attribute = line.starts_with("\"x-") || line.contains("\"default\" = ");
            let is_code = !line.starts_with("//") && !is_attribute && name != "syntaxes.rs";
            let plain = line.replace('_', "");
            let has = |literal: &&String| line.contains(literal.as_str()) || plain.contains(literal.as_str());
            if let Some(literal) = literals.iter().filter(|_| is_code).find(has) {
                twice.push(format!("{name}:{}: {literal}", number + 1));
            }
            if line == "#[default]" {
                twice.push(format!("{name}:{}: {line}", number + 1));
            }
        }
    }
    assert!(twice.is_empty(), "these defaults stand twice:\n{}", twice.join("\n"));
}
