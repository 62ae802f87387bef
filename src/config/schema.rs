//! The JSON Schema of the configuration file (draft 2020-12), generated from the structs in [`super::file`] and their
//! comments.
//!
//! It describes keys and the form of values; [`super::validate`] checks references and ranges. The schema accepts
//! whatever the loader accepts: keys without a value, and environment variables in every value. To regenerate
//! `docs/config.schema.json`: `UPDATE_DOCS=1 cargo test config_schema`.

use std::borrow::Cow;

use schemars::generate::SchemaSettings;
use schemars::transform::{Transform, transform_subschemas};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

use super::file::ConfigFile;
use super::file::forms::{DurationText, Either, Named, OneOrMany, SizeText, StringOrList};

/// The complete schema, indented, with a final newline.
pub(crate) fn schema_document() -> String {
    let mut schema = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<ConfigFile>();
    schema.insert("title".to_owned(), json!("Configuration of statusquo"));
    MatchLoader.transform(&mut schema);
    format!("{:#}\n", schema.as_value())
}

/// Matches text with an environment variable, whose value is unknown to the schema.
const VARIABLE_PATTERN: &str = r"\$\{";

/// Adds what the loader does beyond the structs: required keys and environment variables.
struct MatchLoader;

impl Transform for MatchLoader {
    fn transform(&mut self, schema: &mut Schema) {
        transform_subschemas(self, schema);
        add_required(schema);
        let Some(object) = schema.as_object_mut() else { return };
        // The integer widths of the structs are irrelevant to operators.
        object.remove("format");
        allow_variables(object);
    }
}

/// A key is required if its comment contains `Required.`.
fn add_required(schema: &mut Schema) {
    let Some(Value::Object(properties)) = schema.get("properties") else { return };
    let is_required = |key: &Value| {
        key.get("description").and_then(Value::as_str).is_some_and(|text| {
            text.split("\n\n").any(|part| part.starts_with("Required.") || part.starts_with("Required,"))
                || text.contains(" Required.")
                || text.contains("\nRequired.")
        })
    };
    let required: Vec<Value> =
        properties.iter().filter(|(_, key)| is_required(key)).map(|(name, _)| json!(name)).collect();
    if !required.is_empty() {
        schema.insert("required".to_owned(), Value::Array(required));
    }
}

/// Numbers, booleans and enum values may come from a variable; text may contain one.
fn allow_variables(object: &mut serde_json::Map<String, Value>) {
    let variable = json!({ "type": "string", "pattern": VARIABLE_PATTERN });
    let types = match object.get("type") {
        Some(Value::String(name)) => vec![json!(name)],
        Some(Value::Array(names)) => names.clone(),
        Some(_) | None => Vec::new(),
    };
    let is = |wanted: &str| types.iter().any(|name| name == wanted);
    if (is("integer") || is("boolean")) && !is("string") {
        let types: Vec<Value> = [json!("string")].into_iter().chain(types).collect();
        object.insert("type".to_owned(), Value::Array(types));
        object.insert("pattern".to_owned(), json!(VARIABLE_PATTERN));
        return;
    }
    if let Some(Value::String(pattern)) = object.get_mut("pattern")
        && pattern != VARIABLE_PATTERN
    {
        pattern.push('|');
        pattern.push_str(VARIABLE_PATTERN);
    }
    if let Some(Value::Array(words)) = object.get_mut("oneOf")
        && words.iter().any(|word| word.get("const").is_some())
    {
        words.push(variable);
    }
}

/// Text that matches this pattern completely.
fn text_schema(pattern: &str, example: &str) -> Schema {
    json_schema!({ "type": "string", "pattern": format!("^({pattern})$"), "examples": [example] })
}

const DURATION: &str = "([0-9]+(ms|s|m|h|d))+";
const IP: &str = r"\[[0-9A-Fa-f:.]+\]|[0-9]+(\.[0-9]+){3}";
const PORT: &str = "[0-9]{1,5}";
const SIZE: &str = "[0-9]+(B|KiB|MiB|GiB|KB|MB|GB)";

impl JsonSchema for DurationText {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        text_schema(DURATION, "5s")
    }
}

impl JsonSchema for SizeText {
    fn schema_name() -> Cow<'static, str> {
        "Size".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        text_schema(SIZE, "10MiB")
    }
}

/// Text that matches this pattern, or `off`, which YAML 1.1 parsers read as `false`.
fn text_or_off_schema(pattern: &str, example: &str) -> Schema {
    json_schema!({ "anyOf": [text_schema(&format!("off|{pattern}"), example), { "const": false }] })
}

/// A value that may also be `off`. Only for the schema; the structs of the file keep the text.
pub(crate) struct OrOff<T>(std::marker::PhantomData<T>);

impl JsonSchema for OrOff<DurationText> {
    fn schema_name() -> Cow<'static, str> {
        "DurationOrOff".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        text_or_off_schema(DURATION, "1h")
    }
}

impl JsonSchema for OrOff<SizeText> {
    fn schema_name() -> Cow<'static, str> {
        "SizeOrOff".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        text_or_off_schema(SIZE, "512B")
    }
}

/// A listen address. Only for the schema.
pub(crate) struct ListenText;

impl JsonSchema for ListenText {
    fn schema_name() -> Cow<'static, str> {
        "ListenAddress".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        text_schema(&format!("({IP}|localhost)?:{PORT}"), "0.0.0.0:8080")
    }
}

/// A server of an upstream. Only for the schema.
pub(crate) struct ServerText;

impl JsonSchema for ServerText {
    fn schema_name() -> Cow<'static, str> {
        "ServerAddress".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let host = format!(r"({IP}|[A-Za-z0-9._-]+)");
        text_schema(&format!("{host}:{PORT}|https?://{host}(:{PORT})?/?"), "10.0.1.10:8000")
    }
}

/// A quota. Only for the schema.
pub(crate) struct AllowText;

impl JsonSchema for AllowText {
    fn schema_name() -> Cow<'static, str> {
        "Allowance".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        text_schema(&format!("[0-9]+ +per +{DURATION}"), "100 per 1m")
    }
}

/// `auto` or a number. Only for the schema.
pub(crate) struct WorkersText;

impl JsonSchema for WorkersText {
    fn schema_name() -> Cow<'static, str> {
        "Workers".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [{ "type": "integer", "minimum": 1 }, { "type": "string", "pattern": "^auto$" }] })
    }
}

impl JsonSchema for StringOrList {
    fn schema_name() -> Cow<'static, str> {
        "StringOrList".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let word = json!({ "type": ["string", "integer"] });
        json_schema!({ "anyOf": [word, { "type": "array", "items": word }] })
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
        let item_schema = generator.subschema_for::<T>();
        json_schema!({ "type": "object", "additionalProperties": item_schema })
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

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::super::unsupported;
    use super::*;

    #[test]
    fn config_schema_matches_the_structs() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/config.schema.json");
        let generated = schema_document();
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, &generated).unwrap();
        }
        let current = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            current == generated,
            "docs/config.schema.json is out of date; run: UPDATE_DOCS=1 cargo test config_schema"
        );
    }

    #[test]
    fn every_mapping_rejects_unknown_keys() {
        fn walk(value: &Value, path: &str) {
            if value.get("properties").is_some() {
                assert_eq!(value["additionalProperties"], false, "{path}");
            }
            match value {
                Value::Object(members) => {
                    members.iter().for_each(|(name, below)| walk(below, &format!("{path}/{name}")));
                }
                Value::Array(items) => items.iter().for_each(|below| walk(below, path)),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
            }
        }
        walk(&serde_json::from_str(&schema_document()).unwrap(), "");
    }

    #[test]
    fn unsupported_keys_are_not_in_the_schema() {
        let schema: Value = serde_json::from_str(&schema_document()).unwrap();
        for (pattern, _) in unsupported::KEYS.iter().filter(|(pattern, _)| !pattern.contains('.')) {
            assert!(schema["properties"].get(pattern).is_none(), "{pattern}");
        }
        let required: Vec<&str> =
            schema["required"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        assert_eq!(required, ["listen", "routes"]);
    }
}
