//! The machine-readable types of errors: which may be sent, and the one made from a title.

use super::json::{Kind, Value};
use super::text;

/// Which types a contract allows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Types {
    /// The closed list; `None` allows every well-formed type.
    pub listed: Option<Vec<String>>,
}

impl Types {
    /// Whether a type may be sent: it is on the closed list, or well-formed where there is none.
    pub(crate) fn accept(&self, kind: &str) -> bool {
        match &self.listed {
            Some(listed) => listed.iter().any(|known| known == kind),
            None => is_well_formed(kind),
        }
    }

    /// The type in a body, if it may be sent. Integers are only on a closed list.
    pub(crate) fn kind_of<'v>(&self, value: &'v Value<'_>) -> Option<&'v str> {
        let kind = match &value.kind {
            // An integer on the list is a number in the body.
            Kind::Text(text) if is_integer_type(text) => return None,
            Kind::Text(text) => text,
            Kind::Number => value.raw,
            Kind::Null | Kind::Bool(_) | Kind::List(_) | Kind::Object(_) => return None,
        };
        self.accept(kind).then_some(kind)
    }
}

/// `[A-Za-z][A-Za-z0-9_.-]{0,63}`.
pub(crate) fn is_well_formed(kind: &str) -> bool {
    kind.len() <= 64
        && kind.bytes().next().is_some_and(|first| first.is_ascii_alphabetic())
        && kind.bytes().all(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'_' | b'.' | b'-'))
}

/// Whether an operator may declare it: well-formed, an integer, or a URI.
pub(crate) fn is_declarable(kind: &str) -> bool {
    is_well_formed(kind) || is_integer_type(kind) || is_uri(kind)
}

/// What [`is_declarable`] accepts.
pub(crate) const PATTERN_HELP: &str =
    "a letter, then up to 63 of A-Z, a-z, 0-9, _, . and -; or an integer; or a URI";

/// Whether a type is an integer: it is then a JSON number.
pub(crate) fn is_integer_type(kind: &str) -> bool {
    let digits = kind.strip_prefix('-').unwrap_or(kind);
    (1..=18).contains(&digits.len())
        && digits.bytes().all(|octet| octet.is_ascii_digit())
        && (digits == "0" || !digits.starts_with('0'))
}

/// Whether a type is an absolute URI, without user information.
pub(crate) fn is_uri(kind: &str) -> bool {
    let Some((scheme, _)) = kind.split_once(':') else { return false };
    scheme.bytes().next().is_some_and(|first| first.is_ascii_alphabetic())
        && scheme.bytes().all(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'+' | b'-' | b'.'))
        && is_uri_reference(kind)
}

/// Whether a text can be a URI reference (RFC 3986), without user information.
pub(crate) fn is_uri_reference(text: &str) -> bool {
    let has_user = text.split_once("//").is_some_and(|(_, rest)| {
        rest.split(['/', '?', '#']).next().is_some_and(|authority| authority.contains('@'))
    });
    text.len() <= 2048
        && !has_user
        && text.bytes().all(|octet| {
            octet.is_ascii_graphic()
                && !matches!(octet, b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}')
        })
        && text::passes_rule(text)
}

/// A title in snake case: `Not Found` is `not_found`.
pub(crate) fn from_title(title: &str) -> String {
    let mut kind = String::with_capacity(title.len());
    for letter in title.chars() {
        if letter.is_ascii_alphanumeric() {
            kind.push(letter.to_ascii_lowercase());
        } else if letter != '\'' && !kind.is_empty() && !kind.ends_with('_') {
            kind.push('_');
        }
    }
    kind.truncate(kind.trim_end_matches('_').len().min(64));
    // A title begins with a letter, but nothing requires it.
    if is_well_formed(&kind) { kind } else { "error".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::json;

    #[test]
    fn titles_become_snake_case() {
        for (title, kind) in [
            ("Not Found", "not_found"),
            ("I'm a Teapot", "im_a_teapot"),
            ("Non-Authoritative  Information", "non_authoritative_information"),
            ("404 Gone", "error"),
            ("!", "error"),
        ] {
            assert_eq!(from_title(title), kind);
        }
        assert_eq!(from_title(&"a ".repeat(60)).len(), 64);
    }

    #[test]
    fn types_are_words_integers_or_uris() {
        for kind in
            ["a", "Not.Found-2_x", "20404", "-1", "0", "https://errors.example/not-found", "urn:problem:x"]
        {
            assert!(is_declarable(kind), "{kind}");
        }
        for kind in ["", "1a", "_a", "ä", "a b", "01", "https://u:p@h/x", "http://h/<b>", ":x", "--1"] {
            assert!(!is_declarable(kind), "{kind}");
        }
    }

    #[test]
    fn closed_list_decides_alone() {
        let types = Types { listed: Some(vec!["20404".to_owned(), "known".to_owned()]) };
        let accepts = |json: &str| json::read(json).is_ok_and(|value| types.kind_of(&value).is_some());
        assert!(accepts("20404") && accepts("\"known\""));
        for other in ["\"20404\"", "20405", "20404.0", "\"other\"", "null", "[\"known\"]"] {
            assert!(!accepts(other), "{other}");
        }
        let open = Types::default();
        assert!(open.accept("Any.type-1") && !open.accept("20404"));
    }
}
