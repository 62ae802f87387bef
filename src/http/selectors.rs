//! Extracts a named value from a request: a path or query parameter, a cookie, or a member of a JSON body.
//!
//! Rate-limit rules use the values as keys. Servers disagree about which of several values with the same name is used,
//! so a duplicate name has no value here, and neither has an invalid encoding. Names and values are percent-decoded.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

/// Returns the value of `{name}` or `{*name}` in a route's `pattern` for a normalised path.
pub(crate) fn path_parameter<'a>(pattern: &str, path: &'a str, name: &str) -> Option<Cow<'a, [u8]>> {
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
            // A catch-all parameter has the rest of the path as its value.
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

/// Returns the decoded value of a query parameter that occurs exactly once.
pub(crate) fn query_parameter<'a>(query: &'a [u8], name: &str) -> Option<Cow<'a, [u8]>> {
    let mut unique_value = None;
    for pair in query.split(|octet| *octet == b'&') {
        let (key, value) = split_at_equals(pair);
        if percent_decode(key, true)?.as_ref() == name.as_bytes() {
            if unique_value.is_some() {
                return None;
            }
            unique_value = Some(value);
        }
    }
    percent_decode(unique_value?, true)
}

/// Returns the value of a cookie that occurs exactly once in all `Cookie` fields of a request.
pub(crate) fn cookie_value<'a>(fields: impl Iterator<Item = &'a [u8]>, name: &str) -> Option<&'a [u8]> {
    let mut unique_value = None;
    for pair in fields.flat_map(|field| field.split(|octet| *octet == b';')) {
        let (key, value) = split_at_equals(pair);
        if key.trim_ascii() == name.as_bytes() {
            if unique_value.is_some() {
                return None;
            }
            unique_value = Some(value.trim_ascii());
        }
    }
    unique_value
}

/// Returns the value of a member of a JSON object: a string in lower case, a number or a boolean. `None` if the
/// document is no object or has no such value.
///
/// # Errors
/// Servers disagree about the value: the member occurs twice, or the document is not one JSON value.
pub(crate) fn json_member(body: &[u8], name: &str) -> Result<Option<String>, AmbiguousMember> {
    let mut reader = serde_json::Deserializer::from_slice(body);
    let value = if body.trim_ascii_start().first() == Some(&b'{') {
        reader.deserialize_map(MemberVisitor { name })
    } else {
        reader.deserialize_ignored_any(IgnoredAny).map(|_| Ok(None))
    };
    let value = value.map_err(|_| AmbiguousMember::InvalidJson)?;
    reader.end().map_err(|_| AmbiguousMember::InvalidJson)?;
    value
}

/// Why a member of a JSON document has no certain value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AmbiguousMember {
    /// The object has several members of this name: some servers use the first value, others the last.
    Repeated,
    /// Not one JSON value: some servers read it nevertheless, for example up to an error or with comments.
    InvalidJson,
}

/// Reads one member and skips all others.
struct MemberVisitor<'a> {
    name: &'a str,
}

impl<'de> Visitor<'de> for MemberVisitor<'_> {
    type Value = Result<Option<String>, AmbiguousMember>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut result: Option<Self::Value> = None;
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
            result = Some(if result.is_some() { Err(AmbiguousMember::Repeated) } else { Ok(value) });
        }
        Ok(result.unwrap_or(Ok(None)))
    }
}

fn split_at_equals(pair: &[u8]) -> (&[u8], &[u8]) {
    match pair.iter().position(|octet| *octet == b'=') {
        Some(at) => (pair.get(..at).unwrap_or_default(), pair.get(at + 1..).unwrap_or_default()),
        None => (pair, b""),
    }
}

/// Decodes percent-encoding, and `+` to a space if `plus_is_space`. `None` for an invalid percent-encoding.
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
                // 2 hexadecimal digits always fit in a `u8`.
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
        let (repeated, invalid) = (Err(AmbiguousMember::Repeated), Err(AmbiguousMember::InvalidJson));
        for (body, expected) in [
            (r#"{"email":"Bob@Example.COM"}"#, Ok(Some("bob@example.com"))),
            (r#" {"a":[1,{"email":"x"}],"e\u006dail":"\u0041"} "#, Ok(Some("a"))),
            (r#"{"email":17}"#, Ok(Some("17"))),
            (r#"{"email":true}"#, Ok(Some("true"))),
            (r#"{"email":null}"#, Ok(None)),
            (r#"{"email":["a"]}"#, Ok(None)),
            (r#"{"Email":"a"}"#, Ok(None)),
            (r#"["email"]"#, Ok(None)),
            ("17", Ok(None)),
            (r#"{"email":"a","email":"b"}"#, repeated),
            (r#"{"email":"a","x":1,"em\u0061il":"a"}"#, repeated),
            (r#"{"email":"a","email":"b","email":"c"}"#, repeated),
            (r#"{"email":"a","email":"b""#, invalid),
            (r#"{"email":"a"} x"#, invalid),
            (r#"{"email":"a",}"#, invalid),
            (r#"{"email":"a""#, invalid),
            ("\u{feff}{\"email\":\"a\"}", invalid),
            ("[1", invalid),
            ("email=a", invalid),
            ("", invalid),
        ] {
            let member = json_member(body.as_bytes(), "email");
            assert_eq!(member.as_ref().map(Option::as_deref), expected.as_ref().copied(), "{body}");
        }
    }
}
