//! Deserialises the tree into the structs of [`super::file`] and reports every type error and unknown key.
//!
//! serde stops at the first error. Each error is therefore recorded with its location, its value is marked as invalid
//! (which then reads as absent), and deserialisation starts again until it succeeds. [`super::validate`] checks the
//! values.

use std::fmt;

use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Deserializer, IntoDeserializer, Unexpected, Visitor,
};
use serde::forward_to_deserialize_any;

use super::problem::{Problem, closest_match, join_or, quoted};
use super::tree::{Entry, Node, NodeKind, Tree};
use super::unsupported;

/// Deserialises the tree. Type errors are added to `problems`, and their values are absent in the result.
pub(crate) fn deserialize<T: DeserializeOwned + Default>(tree: &mut Tree, problems: &mut Vec<Problem>) -> T {
    // The bound only matters for hostile files.
    for _ in 0..MAX_TYPE_ERRORS {
        let error = match T::deserialize(NodeDeserializer { node: &tree.root }) {
            Ok(value) => return value,
            Err(error) => error,
        };
        let child_indices: Vec<usize> = error.child_indices.iter().rev().copied().collect();
        problems.push(error.problem(tree, &child_indices));
        if !tree.mark_invalid(&child_indices) || child_indices.is_empty() {
            break;
        }
    }
    T::default()
}

/// A type error or unknown key, and its position in the tree.
#[derive(Debug)]
pub(crate) struct TypeError {
    kind: TypeErrorKind,
    /// Child indices from the value up to the root.
    child_indices: Vec<usize>,
    at_key: bool,
}

#[derive(Debug)]
enum TypeErrorKind {
    /// The message and the help.
    Mismatch(String, String),
    UnknownKey(String, &'static [&'static str]),
    UnknownValue(String, &'static [&'static str]),
}

impl TypeError {
    fn mismatch(message: impl Into<String>, help: impl Into<String>) -> Self {
        TypeError {
            kind: TypeErrorKind::Mismatch(message.into(), help.into()),
            child_indices: Vec::new(),
            at_key: false,
        }
    }

    fn in_child(mut self, child: usize) -> Self {
        self.child_indices.push(child);
        self
    }

    fn problem(self, tree: &Tree, address: &[usize]) -> Problem {
        let (path, location) = tree.path_and_location(address, self.at_key);
        let (message, help) = match self.kind {
            TypeErrorKind::Mismatch(message, help) => (message, help),
            TypeErrorKind::UnknownKey(key, known) => match unsupported::help_for_key(&path) {
                Some(help) => (unsupported::MESSAGE.to_owned(), help.to_owned()),
                None if key == "<<" => {
                    ("merge keys are not supported".to_owned(), "write the keys out".to_owned())
                }
                None => ("unknown key".to_owned(), did_you_mean(&key, known)),
            },
            TypeErrorKind::UnknownValue(value, known) => match unsupported::help_for_value(&path, &value) {
                Some(help) => (format!("{} is {}", quoted(&value), unsupported::MESSAGE), help.to_owned()),
                None => (format!("unknown value {}", quoted(&value)), did_you_mean(&value, known)),
            },
        };
        Problem { path, location: Some(location), message, help }
    }
}

/// `did you mean "x"?`, or else the list of known words.
pub(crate) fn did_you_mean(word: &str, known: &[&str]) -> String {
    match closest_match(word, known.iter().copied()) {
        Some(near) => format!("did you mean {}?", quoted(near)),
        None => format!("expected {}", join_or(known)),
    }
}

impl fmt::Display for TypeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            TypeErrorKind::Mismatch(message, help) => write!(f, "{message}; {help}"),
            TypeErrorKind::UnknownKey(word, _) | TypeErrorKind::UnknownValue(word, _) => f.write_str(word),
        }
    }
}

impl std::error::Error for TypeError {}

impl de::Error for TypeError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        TypeError::mismatch(message.to_string(), "")
    }

    fn invalid_type(unexpected: Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        let found = match unexpected {
            Unexpected::Seq => "a list".to_owned(),
            Unexpected::Map => "a mapping".to_owned(),
            Unexpected::Unit | Unexpected::Option => "nothing".to_owned(),
            Unexpected::Str(text) => quoted(text),
            other => other.to_string(),
        };
        TypeError::mismatch(format!("found {found}"), format!("expected {expected}"))
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        TypeError {
            kind: TypeErrorKind::UnknownKey(field.to_owned(), expected),
            child_indices: Vec::new(),
            at_key: true,
        }
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        TypeError {
            kind: TypeErrorKind::UnknownValue(variant.to_owned(), expected),
            child_indices: Vec::new(),
            at_key: false,
        }
    }
}

/// Presents one value of the tree to serde.
struct NodeDeserializer<'t> {
    node: &'t Node,
}

impl<'t> NodeDeserializer<'t> {
    fn text(&self, expected: &str) -> Result<&'t str, TypeError> {
        match &self.node.kind {
            NodeKind::Scalar { text, .. } if !self.node.is_null() => Ok(text),
            NodeKind::Scalar { .. } | NodeKind::Sequence(_) | NodeKind::Mapping(_) | NodeKind::Invalid => {
                Err(self.type_error(expected))
            }
        }
    }

    fn number(&self) -> Result<u64, TypeError> {
        let text = self.text("a whole number")?;
        let digits = super::units::is_digits(text);
        text.parse().ok().filter(|_| digits).ok_or_else(|| {
            let message = format!("{} is not a whole number", quoted(text));
            TypeError::mismatch(
                message,
                if digits { "use a smaller number" } else { "write digits only, for example 64" },
            )
        })
    }

    fn type_error(&self, expected: &str) -> TypeError {
        let found = match &self.node.kind {
            NodeKind::Scalar { text, .. } if !self.node.is_null() => quoted(text),
            NodeKind::Scalar { .. } | NodeKind::Sequence(_) | NodeKind::Mapping(_) | NodeKind::Invalid => {
                self.node.type_name().to_owned()
            }
        };
        TypeError::mismatch(format!("found {found}"), format!("expected {expected}"))
    }
}

impl<'de> Deserializer<'de> for NodeDeserializer<'_> {
    type Error = TypeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypeError> {
        match &self.node.kind {
            NodeKind::Scalar { .. } if self.node.is_null() => visitor.visit_unit(),
            NodeKind::Scalar { text, .. } => visitor.visit_str(text),
            NodeKind::Sequence(items) => visitor.visit_seq(ItemAccess { items: items.iter().enumerate() }),
            NodeKind::Mapping(entries) => {
                visitor.visit_map(EntryAccess { entries: entries.iter().enumerate(), value: None })
            }
            NodeKind::Invalid => visitor.visit_unit(),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypeError> {
        match self.text("true or false")? {
            "true" => visitor.visit_bool(true),
            "false" => visitor.visit_bool(false),
            _ => Err(self.type_error("true or false")),
        }
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypeError> {
        visitor.visit_u64(self.number()?)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypeError> {
        visitor.visit_str(self.text("a single value")?)
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
            NodeKind::Scalar { text, .. } if !self.node.is_null() => {
                let help = format!("expected a list, for example [{text}]");
                Err(TypeError::mismatch(format!("found {}", quoted(text)), help))
            }
            NodeKind::Scalar { .. } | NodeKind::Mapping(_) | NodeKind::Invalid => {
                Err(self.type_error("a list (each item after \"- \")"))
            }
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypeError> {
        match &self.node.kind {
            NodeKind::Mapping(_) => self.deserialize_any(visitor),
            // `shop:` without a value is an empty mapping.
            NodeKind::Scalar { .. } if self.node.is_null() => {
                visitor.visit_map(EntryAccess { entries: [].iter().enumerate(), value: None })
            }
            NodeKind::Scalar { .. } | NodeKind::Sequence(_) | NodeKind::Invalid => {
                Err(self.type_error("a mapping"))
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
            NodeKind::Mapping(_) => self.deserialize_map(visitor),
            NodeKind::Scalar { .. } if self.node.is_null() => self.deserialize_map(visitor),
            NodeKind::Scalar { .. } | NodeKind::Sequence(_) | NodeKind::Invalid => {
                let shown: Vec<&str> = fields.iter().copied().take(4).collect();
                let more = if fields.len() > shown.len() { ", ..." } else { "" };
                Err(self.type_error(&format!("a mapping ({}{more})", shown.join(", "))))
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
                Some(entry) => Err(de::Error::unknown_variant(&entry.key, variants)),
                None => Err(self.type_error(&join_or(variants))),
            },
            NodeKind::Scalar { .. } | NodeKind::Sequence(_) | NodeKind::Invalid => {
                visitor.visit_enum(self.text(&join_or(variants))?.into_deserializer())
            }
        }
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u8 u16 u32 u128 f32 f64 char bytes byte_buf unit unit_struct tuple tuple_struct
        identifier ignored_any
    }
}

struct ItemAccess<'t> {
    items: std::iter::Enumerate<std::slice::Iter<'t, Node>>,
}

impl<'de> de::SeqAccess<'de> for ItemAccess<'_> {
    type Error = TypeError;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, TypeError> {
        match self.items.by_ref().find(|(_, item)| item.kind != NodeKind::Invalid) {
            Some((index, node)) => {
                seed.deserialize(NodeDeserializer { node }).map(Some).map_err(|error| error.in_child(index))
            }
            None => Ok(None),
        }
    }
}

struct EntryAccess<'t> {
    entries: std::iter::Enumerate<std::slice::Iter<'t, Entry>>,
    value: Option<(usize, &'t Node)>,
}

impl<'de> de::MapAccess<'de> for EntryAccess<'_> {
    type Error = TypeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, TypeError> {
        match self.entries.by_ref().find(|(_, entry)| entry.value.kind != NodeKind::Invalid) {
            Some((index, entry)) => {
                self.value = Some((index, &entry.value));
                let key: de::value::StrDeserializer<'_, TypeError> = entry.key.as_str().into_deserializer();
                seed.deserialize(key).map(Some).map_err(|error| error.in_child(index))
            }
            None => Ok(None),
        }
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, TypeError> {
        match self.value.take() {
            Some((index, node)) => {
                seed.deserialize(NodeDeserializer { node }).map_err(|error| error.in_child(index))
            }
            None => Err(TypeError::mismatch("a value was requested before its key", "")),
        }
    }
}

const MAX_TYPE_ERRORS: usize = 300;
