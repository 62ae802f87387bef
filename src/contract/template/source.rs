//! A template as written: a JSON value without positions. Also the form of constants of declared values.

use super::super::body::write_string;
use super::super::json::{self, Kind, Value};

/// A JSON value as the operator wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TemplateSource {
    /// `null`.
    Null,
    /// A name without a value, as YAML reads `{message}` without quotes. JSON has no such value.
    Empty,
    /// `true` or `false`.
    Bool(bool),
    /// A JSON number, as written.
    Number(String),
    /// A text.
    Text(String),
    /// A list.
    List(Vec<TemplateSource>),
    /// An object, with its members in order; a name may occur twice.
    Object(Vec<(String, TemplateSource)>),
}

impl TemplateSource {
    /// Reads JSON. `None` if it is not exactly one value, or has duplicate members.
    pub fn from_json(text: &str) -> Option<TemplateSource> {
        json::read(text).ok().map(|value| TemplateSource::from_value(&value))
    }

    fn from_value(value: &Value<'_>) -> TemplateSource {
        match &value.kind {
            Kind::Null => TemplateSource::Null,
            Kind::Bool(truth) => TemplateSource::Bool(*truth),
            Kind::Number => TemplateSource::Number(value.raw.to_owned()),
            Kind::Text(text) => TemplateSource::Text(text.clone().into_owned()),
            Kind::List(items) => TemplateSource::List(items.iter().map(TemplateSource::from_value).collect()),
            Kind::Object(members) => TemplateSource::Object(
                members
                    .iter()
                    .map(|member| {
                        (member.name.clone().into_owned(), TemplateSource::from_value(&member.value))
                    })
                    .collect(),
            ),
        }
    }

    /// The value as JSON without whitespace.
    pub fn to_json(&self) -> String {
        let mut out = bytes::BytesMut::new();
        self.write(&mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    fn write(&self, out: &mut bytes::BytesMut) {
        match self {
            TemplateSource::Null | TemplateSource::Empty => out.extend_from_slice(b"null"),
            TemplateSource::Bool(true) => out.extend_from_slice(b"true"),
            TemplateSource::Bool(false) => out.extend_from_slice(b"false"),
            TemplateSource::Number(number) => out.extend_from_slice(number.as_bytes()),
            TemplateSource::Text(text) => write_string(text, out),
            TemplateSource::List(items) => {
                out.extend_from_slice(b"[");
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        out.extend_from_slice(b",");
                    }
                    item.write(out);
                }
                out.extend_from_slice(b"]");
            }
            TemplateSource::Object(members) => {
                out.extend_from_slice(b"{");
                for (index, (name, value)) in members.iter().enumerate() {
                    if index > 0 {
                        out.extend_from_slice(b",");
                    }
                    write_string(name, out);
                    out.extend_from_slice(b":");
                    value.write(out);
                }
                out.extend_from_slice(b"}");
            }
        }
    }
}
