//! Path patterns of routes (`/users/{id}/{*rest}`), and the parameter values of a received path.
//!
//! [`crate::snapshot::router`] decides which route matches, on the normalised path. Rewrites, redirects and header
//! values need the parameters as the client spelled them, so this file finds the same segments in the received path.
//! Repeated slashes separate one pair of segments, as in [`super::path::normalise`].

use super::ascii_class::{HIGH, UNRESERVED, class_bits, decode_hex_pair};

/// A parsed path pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PathPattern {
    segments: Vec<Segment>,
    /// Names of the parameters, in order of appearance. A catch-all is the last.
    names: Vec<String>,
    ends_in_catch_all: bool,
}

/// One segment of a pattern: static text, with at most one parameter in it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Segment {
    prefix_len: usize,
    has_parameter: bool,
    suffix_len: usize,
}

impl PathPattern {
    /// A parameter name that occurs more than once.
    pub(crate) fn repeated_name(&self) -> Option<&str> {
        let earlier = |index: usize| self.names.get(..index).unwrap_or_default();
        self.names
            .iter()
            .enumerate()
            .find(|(index, name)| earlier(*index).contains(name))
            .map(|(_, name)| name.as_str())
    }

    /// Parses a pattern that the router accepts: `{name}` is a parameter, `{*name}` takes the rest of the path, `{{`
    /// and `}}` are literal braces.
    pub(crate) fn parse(pattern: &str) -> PathPattern {
        let mut parsed = PathPattern { segments: Vec::new(), names: Vec::new(), ends_in_catch_all: false };
        for text in pattern.split('/').filter(|text| !text.is_empty()) {
            if let Some(name) = text.strip_prefix("{*").and_then(|rest| rest.strip_suffix('}')) {
                parsed.names.push(name.to_owned());
                parsed.ends_in_catch_all = true;
                break;
            }
            let (segment, name) = Segment::parse(text);
            parsed.names.extend(name);
            parsed.segments.push(segment);
        }
        parsed
    }

    /// The position of a parameter among the values that [`Self::values`] returns.
    pub(crate) fn position(&self, name: &str) -> Option<usize> {
        self.names.iter().position(|candidate| candidate == name)
    }

    /// The names of the parameters, in order.
    pub(crate) fn names(&self) -> &[String] {
        &self.names
    }

    /// The values of the parameters in a path that matches the pattern, as received. A catch-all has no leading slash;
    /// it is empty for the path of its parent.
    pub(crate) fn values<'a>(&self, path: &'a [u8]) -> Vec<&'a [u8]> {
        let mut values = Vec::with_capacity(self.names.len());
        let mut rest = path;
        for segment in &self.segments {
            let (text, after) = split_segment(rest);
            if segment.has_parameter {
                values.push(trim_spelled(text, segment.prefix_len, segment.suffix_len));
            }
            rest = after;
        }
        if self.ends_in_catch_all {
            values.push(skip_slashes(rest));
        }
        values
    }
}

impl Segment {
    /// Parses the text between two slashes. Also returns the name of its parameter.
    fn parse(text: &str) -> (Segment, Option<String>) {
        let mut segment = Segment { prefix_len: 0, has_parameter: false, suffix_len: 0 };
        let mut name = None;
        let mut letters = text.chars().peekable();
        while let Some(letter) = letters.next() {
            if matches!(letter, '{' | '}') && letters.peek() == Some(&letter) {
                letters.next();
            } else if letter == '{' {
                name = Some(letters.by_ref().take_while(|letter| *letter != '}').collect());
                segment.has_parameter = true;
                continue;
            }
            let counted =
                if segment.has_parameter { &mut segment.suffix_len } else { &mut segment.prefix_len };
            *counted += letter.len_utf8();
        }
        (segment, name)
    }
}

/// Removes the first `count` segments of a path, however they are spelled. The result begins with exactly one slash.
pub(crate) fn strip_segments(path: &[u8], count: usize) -> Vec<u8> {
    let mut rest = path;
    for _ in 0..count {
        rest = split_segment(rest).1;
    }
    let mut stripped = Vec::with_capacity(rest.len() + 1);
    stripped.push(b'/');
    stripped.extend_from_slice(skip_slashes(rest));
    stripped
}

/// Splits off the first segment, without the slashes before it.
fn split_segment(path: &[u8]) -> (&[u8], &[u8]) {
    let text = skip_slashes(path);
    let end = text.iter().position(|octet| *octet == b'/').unwrap_or(text.len());
    text.split_at_checked(end).unwrap_or((text, b""))
}

fn skip_slashes(path: &[u8]) -> &[u8] {
    let slashes = path.iter().take_while(|octet| **octet == b'/').count();
    path.get(slashes..).unwrap_or_default()
}

/// Removes a static prefix and suffix, whose lengths are those of the normalised spelling, from a received segment.
fn trim_spelled(text: &[u8], prefix_len: usize, suffix_len: usize) -> &[u8] {
    let mut start = 0;
    let mut normal_len = 0;
    while normal_len < prefix_len {
        let Some((spelled, normal)) = unit_at(text, start) else { return b"" };
        start += spelled;
        normal_len += normal;
    }
    let rest = text.get(start..).unwrap_or_default();
    let total: usize = units(rest).map(|(_, normal)| normal).sum();
    let mut end = 0;
    let mut kept = 0;
    for (spelled, normal) in units(rest) {
        if kept + normal + suffix_len > total {
            break;
        }
        kept += normal;
        end += spelled;
    }
    rest.get(..end).unwrap_or_default()
}

/// The units of a segment, as their received and their normalised length.
fn units(text: &[u8]) -> impl Iterator<Item = (usize, usize)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let unit = unit_at(text, at)?;
        at += unit.0;
        Some(unit)
    })
}

/// The received and the normalised length of the octet or percent-encoding at this offset.
fn unit_at(text: &[u8], at: usize) -> Option<(usize, usize)> {
    match text.get(at..)? {
        [] => None,
        [b'%', high, low, ..] => match decode_hex_pair(*high, *low) {
            Some(octet) if class_bits(octet) & UNRESERVED != 0 => Some((3, 1)),
            Some(_) => Some((3, 3)),
            None => Some((1, 3)),
        },
        [b'%', ..] => Some((1, 3)),
        [octet, ..] if class_bits(*octet) & HIGH != 0 => Some((1, 3)),
        [_, ..] => Some((1, 1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(pattern: &str, path: &str) -> Vec<String> {
        let values = PathPattern::parse(pattern).values(path.as_bytes());
        values.iter().map(|value| String::from_utf8_lossy(value).into_owned()).collect()
    }

    #[test]
    fn parameters_are_the_received_spelling_of_their_segments() {
        for (pattern, path, expected) in [
            ("/users/{id}", "/users/7", &["7"][..]),
            ("/users/{id}", "//us%65rs///a%2Fb", &["a%2Fb"]),
            ("/users/{id}/x/{*rest}", "/users/7/x/a//b/", &["7", "a//b/"]),
            ("/users/{*rest}", "/users", &[""]),
            ("/users/{*rest}", "/users//", &[""]),
            ("/{*rest}", "///a/b", &["a/b"]),
            ("/static", "/static", &[]),
            ("/x-{n}", "/%78-12", &["12"]),
            ("/x-{n}.json", "/x-a%2Db%2Ejson", &["a%2Db"]),
            ("/{{y}}-{n}", "/{y}-5", &["5"]),
        ] {
            assert_eq!(values(pattern, path), expected, "{pattern} {path}");
        }
    }

    #[test]
    fn segments_are_counted_whatever_their_spelling() {
        for (path, count, expected) in [
            ("/users/7", 1, "/7"),
            ("//us%65rs///7//8/", 1, "/7//8/"),
            ("/users", 1, "/"),
            ("/users/", 1, "/"),
            ("/a/b/c", 2, "/c"),
            ("/a//evil.test", 1, "/evil.test"),
            ("/", 0, "/"),
            ("//a", 0, "/a"),
        ] {
            assert_eq!(String::from_utf8_lossy(&strip_segments(path.as_bytes(), count)), expected, "{path}");
        }
    }
}
