//! A strict JSON reader that keeps the bytes: every value knows its text and its position.
//!
//! serde_json cannot report positions, turns numbers into floats and keeps the last of duplicate members; here numbers
//! stay as written, and a duplicate member is an error, because parsers disagree about its value. A text that is read
//! is valid RFC 8259 JSON; the fuzz targets compare with serde_json.

use std::borrow::Cow;
use std::collections::HashSet;

/// Nesting of lists and objects, as in serde_json. The reader is recursive, so this bounds its stack.
const MAX_DEPTH: usize = 128;

/// Up to this many members, duplicates are found by comparison.
const FEW_MEMBERS: usize = 12;

/// A value and the bytes that it was read from.
#[derive(Clone, Debug)]
pub(crate) struct Value<'t> {
    /// The text of the value, without whitespace around it.
    pub raw: &'t str,
    /// The position of `raw` in the text.
    pub start: usize,
    /// What it is.
    pub kind: Kind<'t>,
}

/// The kinds of values.
#[derive(Clone, Debug)]
pub(crate) enum Kind<'t> {
    Null,
    Bool(bool),
    /// [`Value::raw`] is the number as written.
    Number,
    /// The decoded text.
    Text(Cow<'t, str>),
    List(Vec<Value<'t>>),
    /// In the order of the text; the names are unique.
    Object(Vec<Member<'t>>),
}

/// A member of an object.
#[derive(Clone, Debug)]
pub(crate) struct Member<'t> {
    /// The position of the name.
    pub start: usize,
    /// The decoded name.
    pub name: Cow<'t, str>,
    /// Its value.
    pub value: Value<'t>,
}

/// Why a text was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReadError {
    /// Not exactly one JSON value.
    Syntax,
    /// An object has two members of one name.
    DuplicateMember,
    /// Nested more deeply than [`MAX_DEPTH`].
    TooDeep,
}

impl<'t> Value<'t> {
    /// The position after the value.
    pub(crate) const fn end(&self) -> usize {
        self.start + self.raw.len()
    }

    /// The text, if it is a string.
    pub(crate) fn as_text(&self) -> Option<&str> {
        if let Kind::Text(text) = &self.kind { Some(text) } else { None }
    }

    /// The member of this name, if it is an object that has one.
    pub(crate) fn member(&self, name: &str) -> Option<&Value<'t>> {
        self.members()?.iter().find(|member| member.name == name).map(|member| &member.value)
    }

    /// The members, if it is an object.
    pub(crate) fn members(&self) -> Option<&[Member<'t>]> {
        if let Kind::Object(members) = &self.kind { Some(members) } else { None }
    }

    /// The items, if it is a list.
    pub(crate) fn items(&self) -> Option<&[Value<'t>]> {
        if let Kind::List(items) = &self.kind { Some(items) } else { None }
    }

    /// Whether it is an integer literal: digits, without fraction and exponent.
    pub(crate) fn is_integer(&self) -> bool {
        matches!(self.kind, Kind::Number)
            && !self.raw.bytes().any(|octet| matches!(octet, b'.' | b'e' | b'E'))
    }
}

/// Reads a text that must be exactly one JSON value. A byte order mark is an error.
///
/// # Errors
/// See [`ReadError`].
pub(crate) fn read(text: &str) -> Result<Value<'_>, ReadError> {
    let mut reader = Reader { text, at: 0 };
    reader.skip_whitespace();
    let value = reader.value(0)?;
    reader.skip_whitespace();
    if reader.at == text.len() { Ok(value) } else { Err(ReadError::Syntax) }
}

struct Reader<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Reader<'t> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// Moves past `octet` if it is next.
    fn accept(&mut self, octet: u8) -> bool {
        let found = self.peek() == Some(octet);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, octet: u8) -> Result<(), ReadError> {
        if self.accept(octet) { Ok(()) } else { Err(ReadError::Syntax) }
    }

    fn skip_whitespace(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn value(&mut self, depth: usize) -> Result<Value<'t>, ReadError> {
        let start = self.at;
        let kind = match self.peek() {
            Some(b'{') => self.object(depth)?,
            Some(b'[') => self.list(depth)?,
            Some(b'"') => Kind::Text(self.string()?),
            Some(b't') => self.word("true", Kind::Bool(true))?,
            Some(b'f') => self.word("false", Kind::Bool(false))?,
            Some(b'n') => self.word("null", Kind::Null)?,
            Some(b'-' | b'0'..=b'9') => self.number()?,
            Some(_) | None => return Err(ReadError::Syntax),
        };
        // Both ends are at ASCII characters.
        let raw = self.text.get(start..self.at).ok_or(ReadError::Syntax)?;
        Ok(Value { raw, start, kind })
    }

    fn word(&mut self, word: &str, kind: Kind<'t>) -> Result<Kind<'t>, ReadError> {
        let rest = self.text.as_bytes().get(self.at..).unwrap_or_default();
        if !rest.starts_with(word.as_bytes()) {
            return Err(ReadError::Syntax);
        }
        self.at += word.len();
        Ok(kind)
    }

    fn number(&mut self) -> Result<Kind<'t>, ReadError> {
        self.accept(b'-');
        if !self.accept(b'0') {
            self.digits()?;
        }
        if self.accept(b'.') {
            self.digits()?;
        }
        if self.accept(b'e') || self.accept(b'E') {
            let _sign = self.accept(b'+') || self.accept(b'-');
            self.digits()?;
        }
        Ok(Kind::Number)
    }

    fn digits(&mut self) -> Result<(), ReadError> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at > start { Ok(()) } else { Err(ReadError::Syntax) }
    }

    fn string(&mut self) -> Result<Cow<'t, str>, ReadError> {
        let start = self.at;
        self.at += 1;
        let mut escaped = false;
        loop {
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => {
                    escaped = true;
                    self.at += 2;
                }
                Some(0..=0x1f) | None => return Err(ReadError::Syntax),
                Some(_) => self.at += 1,
            }
        }
        self.at += 1;
        if escaped {
            // serde_json decodes escapes, surrogates included.
            let raw = self.text.get(start..self.at).ok_or(ReadError::Syntax)?;
            return serde_json::from_str::<String>(raw).map(Cow::Owned).map_err(|_| ReadError::Syntax);
        }
        self.text.get(start + 1..self.at - 1).map(Cow::Borrowed).ok_or(ReadError::Syntax)
    }

    fn list(&mut self, depth: usize) -> Result<Kind<'t>, ReadError> {
        let depth = deeper(depth)?;
        self.at += 1;
        self.skip_whitespace();
        let mut items = Vec::new();
        if self.accept(b']') {
            return Ok(Kind::List(items));
        }
        loop {
            items.push(self.value(depth)?);
            self.skip_whitespace();
            if self.accept(b']') {
                return Ok(Kind::List(items));
            }
            self.expect(b',')?;
            self.skip_whitespace();
        }
    }

    fn object(&mut self, depth: usize) -> Result<Kind<'t>, ReadError> {
        let depth = deeper(depth)?;
        self.at += 1;
        self.skip_whitespace();
        let mut members = Vec::new();
        if self.accept(b'}') {
            return Ok(Kind::Object(members));
        }
        loop {
            let start = self.at;
            if self.peek() != Some(b'"') {
                return Err(ReadError::Syntax);
            }
            let name = self.string()?;
            self.skip_whitespace();
            self.expect(b':')?;
            self.skip_whitespace();
            let value = self.value(depth)?;
            members.push(Member { start, name, value });
            self.skip_whitespace();
            if self.accept(b'}') {
                break;
            }
            self.expect(b',')?;
            self.skip_whitespace();
        }
        if has_duplicates(&members) { Err(ReadError::DuplicateMember) } else { Ok(Kind::Object(members)) }
    }
}

fn deeper(depth: usize) -> Result<usize, ReadError> {
    if depth == MAX_DEPTH { Err(ReadError::TooDeep) } else { Ok(depth + 1) }
}

fn has_duplicates(members: &[Member<'_>]) -> bool {
    if members.len() <= FEW_MEMBERS {
        return members
            .iter()
            .enumerate()
            .any(|(index, member)| members.iter().take(index).any(|earlier| earlier.name == member.name));
    }
    let mut names = HashSet::with_capacity(members.len());
    members.iter().any(|member| !names.insert(&member.name))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The text of every value, written again from what was read.
    fn rewritten(value: &Value<'_>) -> String {
        match &value.kind {
            Kind::Null | Kind::Bool(_) | Kind::Number => value.raw.to_owned(),
            Kind::Text(text) => serde_json::to_string(text).unwrap(),
            Kind::List(items) => format!("[{}]", items.iter().map(rewritten).collect::<Vec<_>>().join(",")),
            Kind::Object(members) => {
                let members = members.iter().map(|member| {
                    format!("{}:{}", serde_json::to_string(&member.name).unwrap(), rewritten(&member.value))
                });
                format!("{{{}}}", members.collect::<Vec<_>>().join(","))
            }
        }
    }

    #[test]
    fn values_keep_their_text_and_position() {
        let text = " { \"a\" : [ 1.50 , -0e+7 ] , \"\\u00e9\" : { } } ";
        let value = read(text).unwrap();
        let list = value.member("a").unwrap();
        let numbers: Vec<&str> = list.items().unwrap().iter().map(|item| item.raw).collect();
        assert_eq!(numbers, ["1.50", "-0e+7"]);
        assert_eq!(text.get(list.start..list.end()), Some("[ 1.50 , -0e+7 ]"));
        assert_eq!(value.member("é").unwrap().raw, "{ }");
        assert_eq!(text.get(value.members().unwrap()[1].start..), Some("\"\\u00e9\" : { } } "));
    }

    #[test]
    fn duplicate_members_are_refused_at_every_level() {
        let many: String = (0..40).map(|number| format!("\"m{number}\":0,")).collect();
        for text in [
            r#"{"a":1,"a":1}"#.to_owned(),
            r#"{"a":1,"\u0061":1}"#.to_owned(),
            r#"[[{"b":{"a":1,"a":1}}]]"#.to_owned(),
            format!("{{{many}\"m7\":0}}"),
        ] {
            assert_eq!(read(&text).err(), Some(ReadError::DuplicateMember), "{text}");
        }
        assert!(read(&format!("{{{many}\"m40\":{{\"m7\":0}}}}")).is_ok());
    }

    #[test]
    fn nesting_is_bounded() {
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert!(read(&nested(128)).is_ok());
        assert_eq!(read(&nested(129)).err(), Some(ReadError::TooDeep));
        assert_eq!(read(&"{\"a\":".repeat(100_000)).err(), Some(ReadError::TooDeep));
    }

    #[test]
    fn only_valid_json_is_read() {
        for text in [
            "",
            " ",
            "01",
            "1.",
            ".5",
            "+1",
            "1e",
            "-",
            "tru",
            "nul",
            "NaN",
            "'a'",
            "{a:1}",
            "{\"a\"}",
            "{\"a\":1,}",
            "[1,]",
            "[1 2]",
            "[",
            "{",
            "\"a",
            "\"\\x\"",
            "\"\\ud800\"",
            "\"a\nb\"",
            "1 2",
            "\u{feff}1",
            "{\"a\":1}}",
            "\"\\",
            "[1]x",
            "\u{a0}1",
            "1//",
        ] {
            assert_eq!(read(text).err(), Some(ReadError::Syntax), "{text}");
            assert!(serde_json::from_str::<serde_json::Value>(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn reader_agrees_with_serde_json(text in r#"([\[\]{},: ]|"[a-c]{0,1}"|"\\u00e9"|-?[0-9]{1,2}(\.[0-9])?(e[0-9])?|true|null){0,14}"#) {
            let other = serde_json::from_str::<serde_json::Value>(&text);
            match read(&text) {
                Ok(value) => {
                    // It refuses numbers that no f64 has, such as 1e999.
                    let Ok(other) = other else {
                        prop_assert!(serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok(), "{}", text);
                        return Ok(());
                    };
                    prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&rewritten(&value)).unwrap(), other);
                }
                Err(ReadError::Syntax) => prop_assert!(other.is_err(), "{}", text),
                Err(ReadError::DuplicateMember) => {}
                Err(ReadError::TooDeep) => panic!("{text}"),
            }
        }
    }
}
