//! The shapes of values in the file: text with a syntax, named sections in order, one value or a list, a short form.
//!
//! [`super::syntaxes`] has the syntaxes.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::{Deserializer, IntoDeserializer, MapAccess, SeqAccess, Visitor, value};
use serde_json::json;

use super::super::problem::Diagnostic;

/// The syntax of a value that is written as text.
pub(crate) trait Syntax {
    /// The parsed value.
    type Value: Clone + fmt::Debug;
    /// The name in the schema.
    const NAME: &'static str;
    /// The unit in the reference page.
    const UNIT: &'static str;
    /// A regular expression that valid text matches completely.
    const PATTERN: &'static str;
    /// A valid value.
    const EXAMPLE: &'static str;

    /// Parses the text.
    ///
    /// # Errors
    /// What is wrong with the text, and what would be right.
    fn parse(text: &str) -> Result<Self::Value, Diagnostic>;
}

/// A value that is written as text and parsed when the file is read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Text<S: Syntax>(pub S::Value);

impl<S: Syntax> Text<S> {
    /// The value, for a field of its type: `#[serde(with = "Time")]`.
    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<S::Value, D::Error> {
        S::parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }

    /// The values of a list.
    pub(crate) fn values(list: &[Text<S>]) -> Vec<S::Value> {
        list.iter().map(|text| text.0.clone()).collect()
    }
}

impl<S: Syntax> Deref for Text<S> {
    type Target = S::Value;

    fn deref(&self) -> &S::Value {
        &self.0
    }
}

impl<'de, S: Syntax> Deserialize<'de> for Text<S> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Text::<S>::deserialize(deserializer).map(Text)
    }
}

impl<S: Syntax> JsonSchema for Text<S> {
    fn schema_name() -> Cow<'static, str> {
        S::NAME.into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        // Digits without quotes are a number for other YAML parsers, and `off` may be `false` (YAML 1.1).
        let is_number = S::EXAMPLE.bytes().all(|digit| digit.is_ascii_digit());
        let types = if is_number { json!(["string", "integer"]) } else { json!("string") };
        let text = json!({ "type": types, "pattern": format!("^({})$", S::PATTERN) });
        let mut schema = match text {
            text if S::PATTERN.starts_with("0|") => json_schema!({ "anyOf": [text, { "const": 0 }] }),
            text if S::PATTERN.starts_with("off|") => json_schema!({ "anyOf": [text, { "const": false }] }),
            serde_json::Value::Object(text) => Schema::from(text),
            _ => Schema::default(),
        };
        schema.insert("examples".to_owned(), json!([S::EXAMPLE]));
        schema.insert("x-unit".to_owned(), json!(S::UNIT));
        schema
    }
}

/// Sections by name, in the order of the file.
#[derive(Clone, Debug)]
pub(crate) struct Named<T>(pub Vec<(String, T)>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Named<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NamedVisitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for NamedVisitor<T> {
            type Value = Named<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mapping of names to sections")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Named<T>, A::Error> {
                let mut sections = Vec::new();
                while let Some(section) = map.next_entry()? {
                    sections.push(section);
                }
                Ok(Named(sections))
            }
        }
        deserializer.deserialize_map(NamedVisitor(PhantomData))
    }
}

impl<T: JsonSchema> JsonSchema for Named<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("Named{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let section = generator.subschema_for::<T>();
        json_schema!({ "type": "object", "additionalProperties": section })
    }
}

/// One value, or a list of values.
#[derive(Clone, Debug)]
pub(crate) struct OneOrMany<T>(pub Vec<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for OneOrMany<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrManyVisitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for OneOrManyVisitor<T> {
            type Value = OneOrMany<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("one value, or a list of values")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
                let text: value::StrDeserializer<'_, E> = text.into_deserializer();
                Ok(OneOrMany(vec![T::deserialize(text)?]))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                Ok(OneOrMany(vec![T::deserialize(value::MapAccessDeserializer::new(map))?]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<Self::Value, A::Error> {
                Vec::deserialize(value::SeqAccessDeserializer::new(items)).map(OneOrMany)
            }
        }
        deserializer.deserialize_any(OneOrManyVisitor(PhantomData))
    }
}

impl<T: JsonSchema> JsonSchema for OneOrMany<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("{}OrMany", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let one = generator.subschema_for::<T>();
        json_schema!({ "anyOf": [one, { "type": "array", "items": one }] })
    }
}

/// A short form (a scalar), or the long form (a mapping).
#[derive(Clone, Debug)]
pub(crate) enum Either<S, L> {
    /// A scalar.
    Short(S),
    /// A mapping.
    Long(L),
}

impl<'de, S: Deserialize<'de>, L: Deserialize<'de>> Deserialize<'de> for Either<S, L> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EitherVisitor<S, L>(PhantomData<(S, L)>);
        impl<'de, S: Deserialize<'de>, L: Deserialize<'de>> Visitor<'de> for EitherVisitor<S, L> {
            type Value = Either<S, L>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a single value or a mapping")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
                let word: value::StrDeserializer<'_, E> = text.into_deserializer();
                S::deserialize(word).map(Either::Short)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                L::deserialize(value::MapAccessDeserializer::new(map)).map(Either::Long)
            }
        }
        deserializer.deserialize_any(EitherVisitor(PhantomData))
    }
}

impl<S: JsonSchema, L: JsonSchema> JsonSchema for Either<S, L> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("{}Or{}", S::schema_name(), L::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let (short, long) = (generator.subschema_for::<S>(), generator.subschema_for::<L>());
        json_schema!({ "anyOf": [short, long] })
    }
}
