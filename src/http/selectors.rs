//! One named value out of a request: a parameter of its path or query, a cookie, a member of a JSON body.
//!
//! For rules that tell requests apart by it. Upstreams disagree about which of two values with the same name counts, so a
//! name that comes twice has no value here; neither has one that is spelled in a way that cannot be read. Names and values
//! are compared in the spelling that upstreams see after decoding.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

/// The value of `{name}` or `{*name}` in a route's `pattern`, for a path in its normal spelling.
pub fn path_parameter<'a>(pattern: &str, path: &'a str, name: &str) -> Option<Cow<'a, [u8]>> {
    let mut segments = path.split('/');
    for part in pattern.split('/') {
        let parameter_parts = part.split_once('{').zip(part.rsplit_once('}'));
        let Some(((prefix, _), (_, suffix))) = parameter_parts else {
            segments.next()?;
            continue;
        };
        let parameter = part.get(prefix.len() + 1..part.len() - suffix.len() - 1)?;
        if parameter.strip_prefix('*').unwrap_or(parameter) != name {
            segments.next()?;
            continue;
        }
        let value = if parameter.starts_with('*') {
            // The rest: everything from here on.
            let first = segments.next()?;
            let start = path.len() - first.len() - segments.map(|segment| segment.len() + 1).sum::<usize>();
            path.get(start..)?
        } else {
            segments.next()?
        };
        return percent_decode(value.strip_prefix(prefix)?.strip_suffix(suffix)?.as_bytes(), false);
    }
    None
}

/// The only value of a parameter of a query.
pub fn query_parameter<'a>(query: &'a [u8], name: &str) -> Option<Cow<'a, [u8]>> {
    let mut found = None;
    for pair in query.split(|octet| *octet == b'&') {
        let (key, value) = split_at_equals(pair);
        if percent_decode(key, true)?.as_ref() == name.as_bytes() {
            if found.is_some() {
                return None;
            }
            found = Some(value);
        }
    }
    percent_decode(found?, true)
}

/// The only value of a cookie, over all `Cookie` fields of a request.
pub fn cookie_value<'a>(fields: impl Iterator<Item = &'a [u8]>, name: &str) -> Option<&'a [u8]> {
    let mut found = None;
    for pair in fields.flat_map(|field| field.split(|octet| *octet == b';')) {
        let (key, value) = split_at_equals(pair);
        if key.trim_ascii() == name.as_bytes() {
            if found.is_some() {
                return None;
            }
            found = Some(value.trim_ascii());
        }
    }
    found
}

/// The only value of a member of a JSON object, with its case folded: a text, a number, `true` or `false`.
pub fn json_member(body: &[u8], name: &str) -> Option<String> {
    let mut reader = serde_json::Deserializer::from_slice(body);
    let found = reader.deserialize_map(MemberVisitor { name }).ok()?;
    reader.end().ok()?;
    found
}

/// Finds one member, and reads the others without keeping them.
struct MemberVisitor<'a> {
    name: &'a str,
}

impl<'de> Visitor<'de> for MemberVisitor<'_> {
    type Value = Option<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found: Option<Option<String>> = None;
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            if key != self.name {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            let value = match map.next_value::<serde_json::Value>()? {
                serde_json::Value::String(text) => Some(text.to_lowercase()),
                serde_json::Value::Number(number) => Some(number.to_string()),
                serde_json::Value::Bool(boolean) => Some(boolean.to_string()),
                serde_json::Value::Null | serde_json::Value::Array(_) | serde_json::Value::Object(_) => None,
            };
            found = Some(if found.is_some() { None } else { value });
        }
        Ok(found.flatten())
    }
}

fn split_at_equals(pair: &[u8]) -> (&[u8], &[u8]) {
    match pair.iter().position(|octet| *octet == b'=') {
        Some(at) => (pair.get(..at).unwrap_or_default(), pair.get(at + 1..).unwrap_or_default()),
        None => (pair, b""),
    }
}

/// Without percent-encoding; `plus_is_space` says that a plus sign is a space. `None` where a `%` encodes nothing.
fn percent_decode(text: &[u8], plus_is_space: bool) -> Option<Cow<'_, [u8]>> {
    if !text.iter().any(|octet| *octet == b'%' || (plus_is_space && *octet == b'+')) {
        return Some(Cow::Borrowed(text));
    }
    let mut out = Vec::with_capacity(text.len());
    let mut octets = text.iter().copied();
    while let Some(octet) = octets.next() {
        out.push(match octet {
            b'%' => {
                let mut digit = || char::from(octets.next()?).to_digit(16);
                let (high, low) = (digit()?, digit()?);
                // Two hexadecimal digits are an octet.
                (high << 4 | low) as u8
            }
            b'+' if plus_is_space => b' ',
            octet => octet,
        });
    }
    Some(Cow::Owned(out))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: Option<Cow<'_, [u8]>>) -> Option<String> {
        value.map(|value| String::from_utf8_lossy(&value).into_owned())
    }

    #[test]
    fn path_parameter_is_found_by_position() {
        for (pattern, path, name, expected) in [
            ("/v1/teams/{team}/memberships", "/v1/teams/blue/memberships", "team", Some("blue")),
            ("/v1/teams/{team}/memberships", "/v1/teams/a%20b%2Fc/memberships", "team", Some("a b/c")),
            ("/v1/{a}/x/{b}", "/v1/one/x/two", "b", Some("two")),
            ("/v1/{a}/x/{b}", "/v1/one/x/two", "c", None),
            ("/files/{*rest}", "/files/a/b/c", "rest", Some("a/b/c")),
            ("/{*rest}", "/", "rest", Some("")),
            ("/img-{id}.png", "/img-7.png", "id", Some("7")),
            ("/{*rest}", "/a%2", "rest", None),
        ] {
            assert_eq!(
                text(path_parameter(pattern, path, name)).as_deref(),
                expected,
                "{pattern} {path} {name}"
            );
        }
    }

    #[test]
    fn query_parameter_must_be_unique_and_is_decoded() {
        for (query, expected) in [
            ("email=a", Some("a")),
            ("x=1&email=a%40b&y", Some("a@b")),
            ("e%6Dail=a+b", Some("a b")),
            ("email", Some("")),
            ("Email=a", None),
            ("email=a&email=a", None),
            ("email=a&e%6dail=b", None),
            ("email=%4", None),
            ("", None),
        ] {
            assert_eq!(text(query_parameter(query.as_bytes(), "email")).as_deref(), expected, "{query}");
        }
    }

    #[test]
    fn cookie_must_be_unique_across_headers() {
        let cookie = |fields: &[&'static str]| {
            let value = cookie_value(fields.iter().map(|field| field.as_bytes()), "sid");
            value.map(|value| String::from_utf8_lossy(value).into_owned())
        };
        assert_eq!(cookie(&["a=1; sid=x=y; b"]).as_deref(), Some("x=y"));
        assert_eq!(cookie(&["a=1", "sid=2"]).as_deref(), Some("2"));
        assert_eq!(cookie(&["sid=1; sid=2"]), None);
        assert_eq!(cookie(&["sid=1", "sid=1"]), None);
        assert_eq!(cookie(&["xsid=1"]), None);
    }

    #[test]
    fn json_member_must_be_unique_and_is_lowercased() {
        for (body, expected) in [
            (r#"{"email":"Bob@Example.COM"}"#, Some("bob@example.com")),
            (r#" {"a":[1,{"email":"x"}],"e\u006dail":"\u0041"} "#, Some("a")),
            (r#"{"email":17}"#, Some("17")),
            (r#"{"email":true}"#, Some("true")),
            (r#"{"email":null}"#, None),
            (r#"{"email":["a"]}"#, None),
            (r#"{"email":"a","email":"b"}"#, None),
            (r#"{"Email":"a"}"#, None),
            (r#"{"email":"a"} x"#, None),
            (r#"{"email":"a""#, None),
            (r#"["email"]"#, None),
            ("email=a", None),
            ("", None),
        ] {
            assert_eq!(json_member(body.as_bytes(), "email").as_deref(), expected, "{body}");
        }
    }
}
