//! What the attributes of the file types say about a key: its default, range, help and place in the file.
//!
//! The schema that schemars generates from [`super::file`] is the only table of keys. The loader reads defaults, ranges
//! and required keys from it, and the reference page and the published schema are printed from it. Extensions:
//!
//! - `x-reload` (absent is "yes"), `x-unit`, `x-default` (a default in words);
//! - `x-missing`: the help for a required key that is absent; `x-empty`: message and help for a list that must not be
//!   empty;
//! - `x-min`, `x-max`: bounds of a duration or size; `x-help`: the help for a value outside them;
//! - `x-ref`: the section whose names the text or list refers to; `x-example` (of that section): an example of its
//!   entries; `propertyNames`: its names are metric labels;
//! - `x-off` (of a section): the section that switches off what `off` would; `x-example` of one without a default: what
//!   `on` would;
//! - `x-short` (of a section): the key that a single value probably means;
//! - `x-single`: the help for a list or mapping in place of a single value;
//! - `x-planned` (of a section or enumeration): planned keys or values, each with its help.

use std::sync::LazyLock;

use serde_json::Value;

use super::problem::Location;
use super::schema;
use super::tree::{Entry, Node, NodeKind};

/// The schema of one value of the file, and of the keys in it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keys(&'static Value);

static SCHEMA: LazyLock<Value> = LazyLock::new(schema::generate);

impl Keys {
    /// The whole file.
    pub(crate) fn root() -> Keys {
        Keys(&SCHEMA)
    }

    /// The value of a key of this section, or the section with a name of this list of named sections.
    pub(crate) fn key(self, name: &str) -> Keys {
        self.find(|form| {
            form.get("properties").and_then(|keys| keys.get(name)).or_else(|| named_section(form))
        })
    }

    /// An item of this list.
    pub(crate) fn item(self) -> Keys {
        self.find(|form| form.get("items"))
    }

    /// Whether the schema describes such a value.
    pub(crate) fn is_known(self) -> bool {
        !self.0.is_null()
    }

    /// Whether the keys are names that the operator chooses.
    pub(crate) fn are_names(self) -> bool {
        self.in_forms(named_section).next().is_some()
    }

    /// Whether these names are metric labels.
    pub(crate) fn are_labels(self) -> bool {
        self.annotation("propertyNames").is_some()
    }

    /// The keys of this section, in alphabetical order.
    pub(crate) fn names(self) -> Vec<&'static str> {
        self.properties().map(|(name, _)| name.as_str()).collect()
    }

    /// The keys that a section must have.
    pub(crate) fn required(self) -> Vec<&'static str> {
        let names = self.in_forms(|form| form.get("required")?.as_array()).flatten();
        names.filter_map(Value::as_str).filter(|name| self.default_of(name).is_none()).collect()
    }

    /// The keys of this section that have a default, and the default as it would be written.
    pub(crate) fn defaults(self) -> Vec<(&'static str, Node)> {
        self.properties()
            .filter_map(|(name, key)| Some((name.as_str(), to_node(key.get("default")?))))
            .collect()
    }

    /// The default of a key of this section.
    pub(crate) fn default_of(self, name: &str) -> Option<Node> {
        self.in_forms(|form| form.get("properties")?.get(name)?.get("default")).next().map(to_node)
    }

    /// Whether the default is a section, as of what is on unless it is switched off.
    pub(crate) fn default_is_section(self) -> bool {
        self.annotation("default").is_some_and(Value::is_object)
    }

    /// The range of a number.
    pub(crate) fn range(self) -> Option<(u64, u64)> {
        let bound = |name| self.annotation(name).and_then(Value::as_u64);
        let (min, max) = (bound("minimum"), bound("maximum"));
        (min.is_some() || max.is_some()).then(|| (min.unwrap_or(0), max.unwrap_or(u64::MAX)))
    }

    /// A valid value, as it would be written: the default, or an example of its syntax.
    pub(crate) fn example(self) -> Option<String> {
        let examples = || self.annotation("examples")?.as_array()?.first();
        match self.annotation("default").or_else(examples)? {
            Value::String(text) => Some(format!("{text:?}")),
            Value::Number(number) => Some(number.to_string()),
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
        }
    }

    /// An extension that is text.
    pub(crate) fn text(self, name: &str) -> Option<&'static str> {
        self.annotation(name).and_then(Value::as_str)
    }

    /// The help for a planned key of this section, or a planned value.
    pub(crate) fn planned(self, word: &str) -> Option<&'static str> {
        self.in_forms(|form| form.get("x-planned")?.get(word)?.as_str()).next()
    }

    /// A member of the key's own schema, or else of the schema of its type.
    pub(crate) fn annotation(self, name: &str) -> Option<&'static Value> {
        self.0.get(name).or_else(|| self.in_forms(|form| form.get(name)).next())
    }

    /// The alternatives of this value, with references resolved: a short and a long form, one or a list of them.
    pub(crate) fn forms(self) -> Vec<&'static Value> {
        let mut forms = Vec::new();
        collect_forms(self.0, &mut forms);
        forms
    }

    fn find(self, child: impl Fn(&'static Value) -> Option<&'static Value>) -> Keys {
        Keys(self.in_forms(child).next().unwrap_or(&Value::Null))
    }

    fn in_forms<T>(self, part: impl Fn(&'static Value) -> Option<T>) -> impl Iterator<Item = T> {
        self.forms().into_iter().filter_map(part)
    }

    fn properties(self) -> impl Iterator<Item = (&'static String, &'static Value)> {
        self.in_forms(|form| form.get("properties")?.as_object()).flatten()
    }
}

fn collect_forms(schema: &'static Value, forms: &mut Vec<&'static Value>) {
    if let Some(name) = schema.get("$ref").and_then(Value::as_str).and_then(|name| name.strip_prefix('#')) {
        return SCHEMA.pointer(name).into_iter().for_each(|target| collect_forms(target, forms));
    }
    match schema.get("anyOf").and_then(Value::as_array) {
        Some(alternatives) => alternatives.iter().for_each(|form| collect_forms(form, forms)),
        None => forms.push(schema),
    }
}

fn named_section(form: &'static Value) -> Option<&'static Value> {
    form.get("additionalProperties").filter(|section| section.is_object())
}

/// A default as a value of the file.
fn to_node(value: &Value) -> Node {
    let kind = match value {
        Value::Null => NodeKind::Scalar { text: String::new(), plain: true },
        Value::String(text) => NodeKind::Scalar { text: text.clone(), plain: false },
        Value::Bool(_) | Value::Number(_) => NodeKind::Scalar { text: value.to_string(), plain: false },
        Value::Array(items) => NodeKind::Sequence(items.iter().map(to_node).collect()),
        Value::Object(members) => NodeKind::Mapping(
            members
                .iter()
                .map(|(key, value)| Entry {
                    key: key.clone(),
                    location: Location::NOWHERE,
                    value: to_node(value),
                })
                .collect(),
        ),
    };
    Node { location: Location::NOWHERE, kind }
}
