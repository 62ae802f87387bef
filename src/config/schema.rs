//! The JSON Schema of the configuration file (draft 2020-12), generated from the structs in [`super::file`] and their
//! comments.
//!
//! It describes keys and the form of values; [`super::validate`] checks references and ranges. The schema accepts
//! whatever the loader accepts: keys without a value, and environment variables in every value. To regenerate
//! `docs/config.schema.json`: `UPDATE_DOCS=1 cargo test config_schema`.

use schemars::Schema;
use schemars::generate::SchemaSettings;
use schemars::transform::{Transform, transform_subschemas};
use serde_json::{Value, json};

use super::file::ConfigFile;

/// The complete schema, indented, with a final newline.
pub(crate) fn schema_document() -> String {
    let mut schema = root_schema();
    schema.insert("title".to_owned(), json!("Configuration of statusquo"));
    MatchLoader.transform(&mut schema);
    format!("{:#}\n", schema.as_value())
}

/// The schema as the structs describe it, for [`super::keys`].
pub(super) fn generate() -> Value {
    root_schema().to_value()
}

fn root_schema() -> Schema {
    SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<ConfigFile>()
}

/// Matches text with an environment variable, whose value is unknown to the schema.
const VARIABLE_PATTERN: &str = r"\$\{";

/// Adds what the loader does beyond the structs: environment variables, and no help that only the loader shows.
struct MatchLoader;

impl Transform for MatchLoader {
    fn transform(&mut self, schema: &mut Schema) {
        transform_subschemas(self, schema);
        let Some(object) = schema.as_object_mut() else { return };
        // The integer widths of the structs are irrelevant to operators.
        object.remove("format");
        for name in [
            "x-missing",
            "x-help",
            "x-planned",
            "x-short",
            "x-off",
            "x-empty",
            "x-ref",
            "x-example",
            "x-single",
        ] {
            object.remove(name);
        }
        drop_defaulted(object);
        allow_absence(object);
        allow_variables(object);
    }
}

/// A key with a default is not required.
fn drop_defaulted(object: &mut serde_json::Map<String, Value>) {
    let properties = object.get("properties").cloned().unwrap_or_default();
    let has_default = |name: &Value| {
        name.as_str().and_then(|name| properties.get(name)).is_some_and(|key| key.get("default").is_some())
    };
    if let Some(Value::Array(required)) = object.get_mut("required") {
        required.retain(|name| !has_default(name));
        if required.is_empty() {
            object.remove("required");
        }
    }
}

/// A key without a value counts as absent, so it may be null if it has a default.
fn allow_absence(object: &mut serde_json::Map<String, Value>) {
    let Some(Value::Object(properties)) = object.get_mut("properties") else { return };
    for key in properties.values_mut().filter(|key| key.get("default").is_some()) {
        let Some(key) = key.as_object_mut() else { continue };
        let absent = json!({ "type": "null" });
        if let Some(target) = key.remove("$ref") {
            key.insert("anyOf".to_owned(), json!([{ "$ref": target }, absent]));
        } else if let Some(Value::Array(forms)) = key.get_mut("anyOf") {
            forms.push(absent);
        } else if let Some(Value::Array(types)) = key.get_mut("type") {
            types.push(json!("null"));
            types.dedup();
        } else if let Some(name) = key.remove("type") {
            key.insert("type".to_owned(), json!([name, "null"]));
        }
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
        // YAML 1.1 parsers read `on` and `off` as booleans.
        let is_word =
            |word: &str| words.iter().any(|value| value.get("const").is_some_and(|value| value == word));
        let booleans = [("on", true), ("off", false)].into_iter().filter(|(word, _)| is_word(word));
        let booleans: Vec<Value> = booleans.map(|(_, value)| json!({ "const": value })).collect();
        words.extend(booleans);
        words.push(variable);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use crate::generated_files::assert_current;

    #[test]
    fn config_schema_matches_the_structs() {
        assert_current("docs/config.schema.json", &schema_document(), "config_schema");
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
    fn required_keys_of_the_file_are_listen_and_routes() {
        let schema: Value = serde_json::from_str(&schema_document()).unwrap();
        let required: Vec<&str> =
            schema["required"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        assert_eq!(required, ["listen", "routes"]);
    }

    /// A planned key that is implemented becomes a field, and its row goes.
    #[test]
    fn planned_keys_and_values_are_not_in_the_schema() {
        fn walk(schema: &Value) {
            let planned = schema.get("x-planned").and_then(Value::as_object);
            for word in planned.into_iter().flatten().map(|(word, _)| word) {
                assert!(schema["properties"].get(word).is_none(), "{word}");
                let values = schema.get("oneOf").and_then(Value::as_array).into_iter().flatten();
                assert!(values.into_iter().all(|value| value["const"] != *word), "{word}");
            }
            match schema {
                Value::Object(members) => members.values().for_each(walk),
                Value::Array(items) => items.iter().for_each(walk),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
            }
        }
        walk(&generate());
    }
}
