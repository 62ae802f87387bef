//! Places in a JSON body: `error.message`, `errors[0].detail`.

use std::fmt;

use super::json::Value;

/// One step of a [`JsonPath`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A member of an object.
    Member(Box<str>),
    /// An item of a list, counted from 0.
    Item(usize),
}

/// A place in a JSON body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonPath {
    steps: Vec<Step>,
}

impl JsonPath {
    pub(crate) const fn new(steps: Vec<Step>) -> JsonPath {
        JsonPath { steps }
    }

    /// Reads a place: names separated by dots, each with indices in brackets. `None` if it is malformed.
    pub fn parse(text: &str) -> Option<JsonPath> {
        let mut steps = Vec::new();
        for part in text.split('.') {
            let (name, mut rest) = match part.find('[') {
                Some(at) => part.split_at_checked(at)?,
                None => (part, ""),
            };
            if name.is_empty() || name.contains(|c: char| c.is_control() || c == ']') {
                return None;
            }
            steps.push(Step::Member(name.into()));
            while !rest.is_empty() {
                let (index, after) = rest.strip_prefix('[')?.split_once(']')?;
                if index.is_empty() || !index.bytes().all(|octet| octet.is_ascii_digit()) {
                    return None;
                }
                steps.push(Step::Item(index.parse().ok()?));
                rest = after;
            }
        }
        (steps.len() <= MAX_STEPS).then_some(JsonPath { steps })
    }

    /// The value at this place.
    pub(crate) fn find<'v, 't>(&self, body: &'v Value<'t>) -> Option<&'v Value<'t>> {
        self.steps.iter().try_fold(body, |value, step| match step {
            Step::Member(name) => value.member(name),
            Step::Item(index) => value.items()?.get(*index),
        })
    }
}

impl fmt::Display for JsonPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, step) in self.steps.iter().enumerate() {
            match step {
                Step::Member(name) if index == 0 => f.write_str(name)?,
                Step::Member(name) => write!(f, ".{name}")?,
                Step::Item(item) => write!(f, "[{item}]")?,
            }
        }
        Ok(())
    }
}

/// Deeper places are mistakes.
const MAX_STEPS: usize = 32;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::contract::json;

    #[test]
    fn paths_find_members_and_items() {
        let body = json::read(r#"{"fault":{"faultstring":"a"},"errors":[[{"m":"b"}]]}"#).unwrap();
        let at = |path: &str| JsonPath::parse(path).unwrap().find(&body).map(|value| value.raw.to_owned());
        assert_eq!(at("fault.faultstring").as_deref(), Some("\"a\""));
        assert_eq!(at("errors[0][0].m").as_deref(), Some("\"b\""));
        assert_eq!(at("errors[1]"), None);
        assert_eq!(at("fault[0]"), None);
        assert_eq!(JsonPath::parse("a.b[0][1].c").unwrap().to_string(), "a.b[0][1].c");
    }

    #[test]
    fn malformed_paths_are_refused() {
        for text in ["", ".", "a.", ".a", "a..b", "[0]", "a[", "a[]", "a[x]", "a[-1]", "a]0[", "a[0]b"] {
            assert_eq!(JsonPath::parse(text), None, "{text}");
        }
    }
}
