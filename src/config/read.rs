//! From the tree to the structs of [`super::file`], with every misfit found in one go.
//!
//! serde stops at the first error. So a misfit is recorded with its place, the value is marked as refused (it then reads
//! as if it were not written), and the reading starts again, until nothing misfits. What a value means is not judged here
//! (see [`super::validate`]); only whether it has the right form, and whether its key exists.

use std::fmt;

use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Deserializer, IntoDeserializer, Unexpected, Visitor,
};
use serde::forward_to_deserialize_any;

use super::error::{Problem, either, nearest, quoted};
use super::not_yet;
use super::tree::{Entry, Kind, Node, Tree};

/// Reads the tree as a `T`. Misfits go to `problems`, and what misfits is absent in the result.
pub fn read<T: DeserializeOwned + Default>(tree: &mut Tree, problems: &mut Vec<Problem>) -> T {
    // The bound is for hostile files only: a person has given up long before.
    for _ in 0..MOST_MISFITS {
        let misfit = match T::deserialize(Reader { node: &tree.root }) {
            Ok(value) => return value,
            Err(misfit) => misfit,
        };
        let address: Vec<usize> = misfit.address.iter().rev().copied().collect();
        problems.push(misfit.problem(tree, &address));
        if !tree.refuse(&address) || address.is_empty() {
            break;
        }
    }
    T::default()
}

/// Why the reading stopped, and at which value.
#[derive(Debug)]
pub struct Misfit {
    kind: MisfitKind,
    /// Numbers of children from the value up to the root.
    address: Vec<usize>,
    on_key: bool,
}

#[derive(Debug)]
enum MisfitKind {
    /// The sentence, and what would be right.
    Form(String, String),
    UnknownKey(String, &'static [&'static str]),
    UnknownValue(String, &'static [&'static str]),
}

impl Misfit {
    fn form(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Misfit { kind: MisfitKind::Form(what.into(), remedy.into()), address: Vec::new(), on_key: false }
    }

    fn inside(mut self, child: usize) -> Self {
        self.address.push(child);
        self
    }

    fn problem(self, tree: &Tree, address: &[usize]) -> Problem {
        let (path, spot) = tree.describe(address, self.on_key);
        let (what, remedy) = match self.kind {
            MisfitKind::Form(what, remedy) => (what, remedy),
            MisfitKind::UnknownKey(key, known) => match not_yet::key(&path) {
                Some(remedy) => (not_yet::WHAT.to_owned(), remedy.to_owned()),
                None if key == "<<" => {
                    ("merge keys are not supported".to_owned(), "write the keys out".to_owned())
                }
                None => ("there is no such key".to_owned(), suggestion(&key, known)),
            },
            MisfitKind::UnknownValue(value, known) => match not_yet::value(&path, &value) {
                Some(remedy) => (format!("{} is {}", quoted(&value), not_yet::WHAT), remedy.to_owned()),
                None => (format!("{} is not known here", quoted(&value)), suggestion(&value, known)),
            },
        };
        Problem { path, spot: Some(spot), what, remedy }
    }
}

/// "did you mean", or else what there is.
pub fn suggestion(word: &str, known: &[&str]) -> String {
    match nearest(word, known.iter().copied()) {
        Some(near) => format!("did you mean {}?", quoted(near)),
        None => format!("expected {}", either(known)),
    }
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            MisfitKind::Form(what, remedy) => write!(f, "{what}; {remedy}"),
            MisfitKind::UnknownKey(word, _) | MisfitKind::UnknownValue(word, _) => f.write_str(word),
        }
    }
}

impl std::error::Error for Misfit {}

impl de::Error for Misfit {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Misfit::form(message.to_string(), "")
    }

    fn invalid_type(unexpected: Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        let found = match unexpected {
            Unexpected::Seq => "a list".to_owned(),
            Unexpected::Map => "a mapping".to_owned(),
            Unexpected::Unit | Unexpected::Option => "nothing".to_owned(),
            Unexpected::Str(text) => quoted(text),
            other => other.to_string(),
        };
        Misfit::form(format!("found {found}"), format!("expected {expected}"))
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        Misfit { kind: MisfitKind::UnknownKey(field.to_owned(), expected), address: Vec::new(), on_key: true }
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        Misfit {
            kind: MisfitKind::UnknownValue(variant.to_owned(), expected),
            address: Vec::new(),
            on_key: false,
        }
    }
}

/// Hands one value of the tree to serde.
struct Reader<'t> {
    node: &'t Node,
}

impl<'t> Reader<'t> {
    fn text(&self, wanted: &str) -> Result<&'t str, Misfit> {
        match &self.node.kind {
            Kind::Scalar { text, .. } if !self.node.is_null() => Ok(text),
            Kind::Scalar { .. } | Kind::Sequence(_) | Kind::Mapping(_) | Kind::Refused => {
                Err(self.misfit(wanted))
            }
        }
    }

    fn number(&self) -> Result<u64, Misfit> {
        let text = self.text("a whole number")?;
        let digits = super::units::is_digits(text);
        text.parse().ok().filter(|_| digits).ok_or_else(|| {
            let what = format!("{} is not a whole number", quoted(text));
            Misfit::form(
                what,
                if digits { "write a smaller one" } else { "write digits only, for example 64" },
            )
        })
    }

    fn misfit(&self, wanted: &str) -> Misfit {
        let found = match &self.node.kind {
            Kind::Scalar { text, .. } if !self.node.is_null() => quoted(text),
            Kind::Scalar { .. } | Kind::Sequence(_) | Kind::Mapping(_) | Kind::Refused => {
                self.node.noun().to_owned()
            }
        };
        Misfit::form(format!("found {found}"), format!("expected {wanted}"))
    }
}

impl<'de> Deserializer<'de> for Reader<'_> {
    type Error = Misfit;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match &self.node.kind {
            Kind::Scalar { .. } if self.node.is_null() => visitor.visit_unit(),
            Kind::Scalar { text, .. } => visitor.visit_str(text),
            Kind::Sequence(items) => visitor.visit_seq(Items { items: items.iter().enumerate() }),
            Kind::Mapping(entries) => {
                visitor.visit_map(Entries { entries: entries.iter().enumerate(), value: None })
            }
            Kind::Refused => visitor.visit_unit(),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match self.text("true or false")? {
            "true" => visitor.visit_bool(true),
            "false" => visitor.visit_bool(false),
            _ => Err(self.misfit("true or false")),
        }
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        visitor.visit_u64(self.number()?)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        visitor.visit_str(self.text("text")?)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        if self.node.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match &self.node.kind {
            Kind::Sequence(_) => self.deserialize_any(visitor),
            Kind::Scalar { text, .. } if !self.node.is_null() => {
                let remedy = format!("expected a list, for example [{text}]");
                Err(Misfit::form(format!("found {}", quoted(text)), remedy))
            }
            Kind::Scalar { .. } | Kind::Mapping(_) | Kind::Refused => {
                Err(self.misfit("a list (each item after \"- \")"))
            }
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match &self.node.kind {
            Kind::Mapping(_) => self.deserialize_any(visitor),
            // `shop:` with nothing below is a mapping without keys.
            Kind::Scalar { .. } if self.node.is_null() => {
                visitor.visit_map(Entries { entries: [].iter().enumerate(), value: None })
            }
            Kind::Scalar { .. } | Kind::Sequence(_) | Kind::Refused => Err(self.misfit("keys with values")),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        match &self.node.kind {
            Kind::Mapping(_) => self.deserialize_map(visitor),
            Kind::Scalar { .. } if self.node.is_null() => self.deserialize_map(visitor),
            Kind::Scalar { .. } | Kind::Sequence(_) | Kind::Refused => {
                let some: Vec<&str> = fields.iter().copied().take(4).collect();
                let more = if fields.len() > some.len() { ", ..." } else { "" };
                Err(self.misfit(&format!("keys with values ({}{more})", some.join(", "))))
            }
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        match &self.node.kind {
            // `{ hash: client_ip }`: the key is the choice; that it is not one of ours is all that can be said.
            Kind::Mapping(entries) => match entries.first() {
                Some(entry) => Err(de::Error::unknown_variant(&entry.key, variants)),
                None => Err(self.misfit(&either(variants))),
            },
            Kind::Scalar { .. } | Kind::Sequence(_) | Kind::Refused => {
                visitor.visit_enum(self.text(&either(variants))?.into_deserializer())
            }
        }
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u8 u16 u32 u128 f32 f64 char bytes byte_buf unit unit_struct tuple tuple_struct
        identifier ignored_any
    }
}

struct Items<'t> {
    items: std::iter::Enumerate<std::slice::Iter<'t, Node>>,
}

impl<'de> de::SeqAccess<'de> for Items<'_> {
    type Error = Misfit;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Misfit> {
        match self.items.by_ref().find(|(_, item)| item.kind != Kind::Refused) {
            Some((index, node)) => {
                seed.deserialize(Reader { node }).map(Some).map_err(|misfit| misfit.inside(index))
            }
            None => Ok(None),
        }
    }
}

struct Entries<'t> {
    entries: std::iter::Enumerate<std::slice::Iter<'t, Entry>>,
    value: Option<(usize, &'t Node)>,
}

impl<'de> de::MapAccess<'de> for Entries<'_> {
    type Error = Misfit;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Misfit> {
        match self.entries.by_ref().find(|(_, entry)| entry.value.kind != Kind::Refused) {
            Some((index, entry)) => {
                self.value = Some((index, &entry.value));
                let key: de::value::StrDeserializer<'_, Misfit> = entry.key.as_str().into_deserializer();
                seed.deserialize(key).map(Some).map_err(|misfit| misfit.inside(index))
            }
            None => Ok(None),
        }
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Misfit> {
        match self.value.take() {
            Some((index, node)) => seed.deserialize(Reader { node }).map_err(|misfit| misfit.inside(index)),
            None => Err(Misfit::form("a value was asked for before its key", "")),
        }
    }
}

const MOST_MISFITS: usize = 300;
