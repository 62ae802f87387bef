//! Presents the tree to serde, which fills the structs of [`super::file`].
//!
//! Ranges and defaults come from the attributes of the structs, through their schema: an absent key with a default is
//! read as if the file contained the default. Invalid values read as absent. [`super::structure`] collects the errors.

use std::borrow::Cow;

use serde::de::value::StrDeserializer;
use serde::de::{self, Deserialize as _, DeserializeSeed, Deserializer, IntoDeserializer, Visitor};
use serde::forward_to_deserialize_any;

use super::file::ConfigFile;
use super::key_help;
use super::keys::Keys;
use super::problem::{join_or, quoted};
use super::shapes;
use super::tree::{Entry, Node, NodeKind};
use super::type_error::TypeError;
use super::units;

/// Fills the structs.
///
/// # Errors
/// The first type error, unknown key or missing key.
pub(super) fn read(root: &Node) -> Result<ConfigFile, TypeError> {
    ConfigFile::deserialize(NodeDeserializer { node: root, keys: Keys::root() })
}

/// Presents one value of the tree to serde.
struct NodeDeserializer<'t> {
    node: &'t Node,
    /// What the schema says about the value and the keys in it.
    keys: Keys,
}

impl<'t> NodeDeserializer<'t> {
    fn text(&self, expected: &str) -> Result<&'t str, TypeError> {
        self.node.text().ok_or_else(|| self.not_single(expected, &|text| self.check_bounds(text).is_ok()))
    }

    /// The error for a list or a mapping in place of a single value, which `accepts` may refuse.
    fn not_single(&self, expected: &str, accepts: &dyn Fn(&str) -> bool) -> TypeError {
        let own = self.keys.text("x-single").map(str::to_owned);
        let meant = own.or_else(|| match (self.node.items(), self.keys.text("x-ref")) {
            ([only], _) if only.text().is_some_and(accepts) => {
                shapes::flow(only).map(|text| format!("write {text}"))
            }
            ([], Some(section)) if !self.node.entries().is_empty() => key_help::declared(section, self.node),
            (_, _) => None,
        });
        match meant {
            Some(help) => TypeError::mismatch(format!("found {}", self.node.type_name()), help),
            None => self.type_error(expected),
        }
    }

    /// A number within the range of the schema; `widest` is the range of the type.
    fn number(&self, widest: u64) -> Result<u64, TypeError> {
        let text = self.text("a whole number")?;
        if !units::is_digits(text) {
            let example = self.keys.example().or_else(|| Some(self.keys.range()?.0.to_string()));
            let meant = units::suggested_number(text).filter(|meant| {
                let (min, max) = self.keys.range().unwrap_or((0, widest));
                meant.parse().is_ok_and(|number: u64| (min..=max.min(widest)).contains(&number))
            });
            let starts = |c: char| c.is_ascii_digit() || matches!(c, '<' | '>');
            let is_range = text.starts_with(starts) && text.contains(['x', '-', '>', '<']);
            let help = match (meant, is_range) {
                (Some(meant), _) => format!("write {meant}"),
                // `5xx`, `500-599`.
                (None, true) => {
                    format!("list each number, for example {}", example.as_deref().unwrap_or("64"))
                }
                (None, false) => {
                    format!("write digits only, for example {}", example.as_deref().unwrap_or("64"))
                }
            };
            return Err(TypeError::mismatch(format!("{} is not a whole number", quoted(text)), help));
        }
        let (min, max) = self.keys.range().unwrap_or((0, widest));
        let max = max.min(widest);
        text.parse().ok().filter(|number| (min..=max).contains(number)).ok_or_else(|| {
            let message = format!("{} is out of range", text);
            TypeError::mismatch(message, format!("expected {min} to {max}"))
        })
    }

    /// Checks a duration, size or percentage against `x-min` and `x-max` of the schema.
    fn check_bounds(&self, text: &str) -> Result<(), TypeError> {
        let (min, max) = (self.keys.text("x-min"), self.keys.text("x-max"));
        // 0 needs no unit where the type of the key allows it.
        let lacks_unit = units::is_digits(text) && (text != "0" || min.is_some());
        if let (Some(bound), true) = (min.or(max), lacks_unit) {
            // Of several units, the one within the bounds.
            let units = ["ms", "s", "B", "KiB", "MiB", "%"].map(|unit| format!("{text}{unit}"));
            let fits = |text: &&String| {
                measure(text).is_some() && is_time(text) == is_time(bound) && self.check_bounds(text).is_ok()
            };
            let example = units.iter().find(fits).map_or(bound, String::as_str);
            let message = format!("{} has no unit", quoted(text));
            return Err(TypeError::mismatch(message, format!("write {example}")));
        }
        // A value of another kind is refused by its type.
        let is_of_kind = min.or(max).is_some_and(|bound| is_time(bound) == is_time(text));
        let (Some(value), true) = (measure(text), is_of_kind) else { return Ok(()) };
        let word = if min.and_then(measure).is_some_and(|min| value < min) {
            "small"
        } else if max.and_then(measure).is_some_and(|max| value > max) {
            "large"
        } else {
            return Ok(());
        };
        let help = match (self.keys.text("x-help"), min, max) {
            (Some(help), ..) => help.to_owned(),
            (None, Some(min), Some(max)) => format!("use {min} to {max}"),
            (None, Some(min), None) => format!("use at least {min}"),
            (None, None, max) => format!("use at most {}", max.unwrap_or_default()),
        };
        Err(TypeError::mismatch(format!("{} is too {word}", quoted(text)), help))
    }

    /// The section that a single value is probably short for (`x-short`), if it would be accepted: `{ path: /x }` for
    /// `/x`, `{ address: ":8080" }` for `8080`.
    fn long_form<'de, V: Visitor<'de>>(&self, visitor: V) -> Option<String> {
        let key = self.keys.text("x-short")?;
        if let Some(text) =
            self.node.text().filter(|_| self.keys.names().contains(&"methods") && key == "path")
        {
            return shapes::match_section(text);
        }
        let location = self.node.location;
        let is_list = self.keys.key(key).item().is_known();
        let items = match self.node.items() {
            [] => std::slice::from_ref(self.node),
            items => items,
        };
        let value = match is_list {
            true => Node { location, kind: NodeKind::Sequence(items.to_vec()) },
            false => self.node.clone(),
        };
        let entry = Entry { key: key.to_owned(), location, value };
        let value = match visitor.visit_map(EntryAccess::new(&[entry], self.keys)) {
            Ok(_) => shapes::list(items),
            Err(error) if items.len() == 1 => error.suggestion()?,
            Err(_) => return None,
        };
        Some(if is_list { format!("{{ {key}: [{value}] }}") } else { format!("{{ {key}: {value} }}") })
    }

    /// The help for a word such as `off` where a section is expected; `None` for other values.
    fn switched_off(&self) -> Option<String> {
        if !shapes::is_off(self.node.text()?) {
            return None;
        }
        let has_default = self.keys.annotation("default").is_some();
        let section =
            self.keys.text("x-off").map(|section| format!("expected a mapping, for example {section}"));
        section
            .or_else(|| (!has_default).then(|| "remove it: without the key, the default applies".to_owned()))
    }

    /// The section for a word such as `on`; `None` for other values.
    fn switched_on(&self) -> Option<String> {
        let text = self.node.text()?;
        let is_on = shapes::is_on(text) || matches!(text, "auto" | "default");
        let section = self.keys.text("x-example").or_else(|| self.keys.required().is_empty().then_some("{}"));
        section.filter(|_| is_on).map(str::to_owned)
    }

    fn type_error(&self, expected: &str) -> TypeError {
        let found = self.node.text().map_or_else(|| self.node.type_name().to_owned(), quoted);
        TypeError::mismatch(format!("found {found}"), format!("expected {expected}"))
    }
}

/// A duration in milliseconds, a size in bytes or a percentage.
fn measure(text: &str) -> Option<u128> {
    let size = || units::size(text).ok().map(u128::from);
    let time = || units::duration(text).ok().map(|time| time.as_millis());
    let percent = text.strip_suffix('%').and_then(|percent| percent.parse().ok());
    percent.or_else(time).or_else(size)
}

fn is_time(text: &str) -> bool {
    units::duration(text).is_ok()
}

macro_rules! deserialize_numbers {
    ($($method:ident $number:ty),*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypeError> {
            visitor.visit_u64(self.number(<$number>::MAX.into())?)
        }
    )*};
}

impl<'de> Deserializer<'de> for NodeDeserializer<'_> {
    type Error = TypeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypeError> {
        let completed = |error: TypeError| error.with_example(self.keys).in_section(self.keys);
        match &self.node.kind {
            NodeKind::Scalar { .. } if self.node.is_null() => visitor.visit_unit(),
            NodeKind::Scalar { text, .. } => visitor.visit_str(text).map_err(completed),
            NodeKind::Sequence(items) => {
                let items = ItemAccess { items: items.iter().enumerate(), keys: self.keys.item() };
                visitor.visit_seq(items).map_err(|error| error.with_example(self.keys))
            }
            NodeKind::Mapping(entries) => {
                visitor.visit_map(EntryAccess::new(entries, self.keys)).map_err(completed)
            }
            NodeKind::Invalid => visitor.visit_unit(),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypeError> {
        match self.text("true or false")? {
            "true" => visitor.visit_bool(true),
            "false" => visitor.visit_bool(false),
            "True" | "TRUE" | "yes" | "Yes" | "on" | "On" | "y" | "1" => Err(self.type_error("true")),
            "False" | "FALSE" | "no" | "No" | "off" | "Off" | "n" | "0" => Err(self.type_error("false")),
            _ => Err(self.type_error("true or false")),
        }
    }

    deserialize_numbers! { deserialize_u8 u8, deserialize_u16 u16, deserialize_u32 u32, deserialize_u64 u64 }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypeError> {
        let text = self.text("a single value")?;
        self.check_bounds(text)?;
        visitor.visit_str(text)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypeError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypeError> {
        if self.node.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, TypeError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypeError> {
        match &self.node.kind {
            NodeKind::Sequence(_) => self.deserialize_any(visitor),
            NodeKind::Scalar { text, .. } if shapes::is_on(text) || shapes::is_off(text) => {
                let may_be_empty = shapes::is_off(text) && self.keys.text("x-empty").is_none();
                let example = self.keys.item().example().filter(|_| !may_be_empty).unwrap_or_default();
                Err(self.type_error(&format!("a list, for example [{example}]")))
            }
            NodeKind::Scalar { text, .. } if !self.node.is_null() => {
                let item = self.keys.item();
                let parts: Vec<&str> =
                    text.split([',', ' ', '|']).map(str::trim).filter(|part| !part.is_empty()).collect();
                let part = |part: &&str| Node {
                    location: self.node.location,
                    kind: NodeKind::Scalar { text: (*part).to_owned(), plain: false },
                };
                let mut parts: Vec<Node> = parts.iter().map(part).collect();
                if parts.is_empty() {
                    parts.push(self.node.clone());
                }
                let items = parts.iter().enumerate();
                // The list that was probably meant, if it would be accepted.
                let example = match visitor.visit_seq(ItemAccess { items, keys: item }) {
                    Ok(_) => Some(shapes::list(&parts)),
                    Err(error) => error.suggestion().or_else(|| item.example()),
                };
                let help = match example {
                    Some(example) => format!("expected a list, for example [{example}]"),
                    None => "expected a list (each item after \"- \")".to_owned(),
                };
                Err(TypeError::mismatch(format!("found {}", quoted(text)), help))
            }
            NodeKind::Mapping(_) => {
                let item = self.keys.item();
                let access = |list: &Node| {
                    visitor
                        .visit_seq(ItemAccess { items: list.items().iter().enumerate(), keys: item })
                        .is_ok()
                };
                let meant =
                    shapes::as_list(self.node, item).filter(access).and_then(|list| shapes::flow(&list));
                let example = || item.text("x-example").map(str::to_owned).or_else(|| item.example());
                let example = meant.or_else(|| example().map(|example| format!("[{example}]")));
                let by_name = if item.names().contains(&"name") { "- name: NAME" } else { "- " };
                Err(self.type_error(&match example {
                    Some(example) => format!("a list, for example {example}"),
                    None => format!("a list (each item after {by_name:?})"),
                }))
            }
            NodeKind::Scalar { .. } | NodeKind::Invalid => {
                Err(self.type_error("a list (each item after \"- \")"))
            }
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypeError> {
        match &self.node.kind {
            NodeKind::Mapping(_) => self.deserialize_any(visitor),
            // `shop:` without a value is an empty mapping.
            NodeKind::Scalar { .. } if self.node.is_null() => {
                visitor.visit_map(EntryAccess::new(&[], self.keys)).map_err(|e| e.in_section(self.keys))
            }
            NodeKind::Scalar { .. } | NodeKind::Sequence(_) | NodeKind::Invalid => {
                let access =
                    |named: &Node| visitor.visit_map(EntryAccess::new(named.entries(), self.keys)).is_ok();
                let meant = shapes::as_named(self.node).filter(access).and_then(|named| shapes::flow(&named));
                let example = || Some(format!("{{ NAME: {} }}", self.keys.text("x-example")?));
                Err(self.type_error(&match meant.or_else(example) {
                    Some(example) => format!("a mapping, for example {example}"),
                    None => "a mapping".to_owned(),
                }))
            }
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, TypeError> {
        match &self.node.kind {
            // Only the root: other invalid values are skipped.
            NodeKind::Invalid => visitor.visit_map(EntryAccess::new(&[], self.keys)),
            NodeKind::Scalar { .. } | NodeKind::Sequence(_) if !self.node.is_null() => {
                if let Some(help) = self.switched_off() {
                    let found = quoted(self.node.text().unwrap_or_default());
                    return Err(TypeError::mismatch(format!("found {found}"), help));
                }
                if let Some(example) = self.long_form(visitor).or_else(|| self.switched_on()) {
                    return Err(self.type_error(&format!("a mapping, for example {example}")));
                }
                if let Some(example) = self.keys.text("x-example") {
                    return Err(self.type_error(&format!("a mapping, for example {example}")));
                }
                let shown = fields.get(..4).map_or_else(|| fields.join(", "), |some| some.join(", "));
                let more = if fields.len() > 4 { ", ..." } else { "" };
                Err(self.type_error(&format!("a mapping ({shown}{more})")))
            }
            NodeKind::Mapping(_) | NodeKind::Scalar { .. } | NodeKind::Sequence(_) => {
                self.deserialize_map(visitor)
            }
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, TypeError> {
        match &self.node.kind {
            // `{ hash: client_ip }`: no variant has a value, so the key is always an unknown variant.
            NodeKind::Mapping(entries) => match entries.first() {
                Some(entry) => {
                    let error: TypeError = de::Error::unknown_variant(&entry.key, variants);
                    Err(error.in_section(self.keys))
                }
                None => Err(self.type_error(&join_or(variants))),
            },
            NodeKind::Scalar { .. } | NodeKind::Sequence(_) | NodeKind::Invalid => {
                let text = self
                    .node
                    .text()
                    .ok_or_else(|| self.not_single(&join_or(variants), &|text| variants.contains(&text)))?;
                let text: StrDeserializer<'_, TypeError> = text.into_deserializer();
                visitor.visit_enum(text).map_err(|error| error.in_section(self.keys))
            }
        }
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u128 f32 f64 char bytes byte_buf unit unit_struct tuple tuple_struct
        identifier ignored_any
    }
}

struct ItemAccess<'t> {
    items: std::iter::Enumerate<std::slice::Iter<'t, Node>>,
    keys: Keys,
}

impl<'de> de::SeqAccess<'de> for ItemAccess<'_> {
    type Error = TypeError;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, TypeError> {
        match self.items.by_ref().find(|(_, item)| item.kind != NodeKind::Invalid) {
            Some((index, node)) => {
                let value = seed.deserialize(NodeDeserializer { node, keys: self.keys });
                value.map(Some).map_err(|error| error.in_child(index))
            }
            None => Ok(None),
        }
    }
}

/// The valid entries of a mapping, then the defaults of absent keys.
struct EntryAccess<'t> {
    entries: std::iter::Enumerate<std::slice::Iter<'t, Entry>>,
    all: &'t [Entry],
    keys: Keys,
    defaults: std::vec::IntoIter<(&'static str, Node)>,
    value: Option<(Option<usize>, Cow<'t, Node>, Keys)>,
}

impl<'t> EntryAccess<'t> {
    fn new(all: &'t [Entry], keys: Keys) -> Self {
        let defaults = keys.defaults().into_iter();
        EntryAccess { entries: all.iter().enumerate(), all, keys, defaults, value: None }
    }
}

impl<'de> de::MapAccess<'de> for EntryAccess<'_> {
    type Error = TypeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, TypeError> {
        let keys = self.keys;
        let valid = |entry: &Entry| entry.value.kind != NodeKind::Invalid;
        if let Some((index, entry)) = self.entries.by_ref().find(|(_, entry)| valid(entry)) {
            // A key without a value is an absent key, except that a name without a value is an empty section.
            let default = if entry.value.is_null() { keys.default_of(&entry.key) } else { None };
            let value = default.map_or(Cow::Borrowed(&entry.value), Cow::Owned);
            self.value = Some((Some(index), value, keys.key(&entry.key)));
            let key: StrDeserializer<'_, TypeError> = entry.key.as_str().into_deserializer();
            return seed.deserialize(key).map(Some).map_err(|error| error.in_child(index));
        }
        let written = |name: &str| self.all.iter().any(|entry| entry.key == name && valid(entry));
        let Some((name, node)) = self.defaults.find(|(name, _)| !written(name)) else { return Ok(None) };
        self.value = Some((None, Cow::Owned(node), keys.key(name)));
        let key: StrDeserializer<'_, TypeError> = name.into_deserializer();
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, TypeError> {
        match self.value.take() {
            Some((index, node, keys)) => {
                let value = seed.deserialize(NodeDeserializer { node: &node, keys });
                value.map_err(|error| match index {
                    Some(index) => error.in_child(index),
                    None => error,
                })
            }
            None => Err(TypeError::mismatch("a value was requested before its key", "")),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::problem::Location;
    use super::super::type_error::TypeErrorKind;
    use super::*;

    /// The keys of the section at this path, in the order of its struct; `[]` is an item of a list.
    pub(in crate::config) fn key_order(path: &[&str]) -> &'static [&'static str] {
        let location = Location { file: 0, line: 1, column: 1 };
        let mapping = |key: &str, value: Node| Node {
            location,
            kind: NodeKind::Mapping(vec![Entry { key: key.to_owned(), location, value }]),
        };
        let mut node =
            mapping("?", Node { location, kind: NodeKind::Scalar { text: "x".to_owned(), plain: false } });
        for step in path.iter().rev() {
            node = match *step {
                "[]" => Node { location, kind: NodeKind::Sequence(vec![node]) },
                key => mapping(key, node),
            };
        }
        match read(&node).map_err(|error| error.kind) {
            Err(TypeErrorKind::UnknownKey(_, known)) => known,
            Ok(_) | Err(_) => &[],
        }
    }
}
