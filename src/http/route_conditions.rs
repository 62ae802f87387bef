//! Conditions of a route beyond host, path and method: the scheme, header fields and query parameters.
//!
//! A field or parameter that occurs more than once has no single value, because servers disagree about which one they
//! use: it is present, but equals nothing.

use http::HeaderName;

use super::selectors::query_parameter;

/// What a header field or a query parameter must be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Expected {
    /// Present, whatever its value (`"*"`).
    Present,
    /// Present once, with exactly this value.
    Value(String),
}

/// The conditions of one route. All must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RouteConditions {
    /// `http` or `https`.
    pub(crate) scheme: Option<String>,
    pub(crate) headers: Vec<(HeaderName, Expected)>,
    pub(crate) query: Vec<(String, Expected)>,
}

/// The parts of a request that conditions look at.
pub trait ConditionSource {
    /// The scheme that the client used, as far as the gateway knows.
    fn scheme(&self) -> &str;
    /// The values of a header field, one for each field line.
    fn header_values<'a>(&'a self, name: &'a str) -> Box<dyn Iterator<Item = &'a [u8]> + 'a>;
    /// The query without the question mark.
    fn query(&self) -> &[u8];
}

/// A request over `http` of which only host, path and method are known.
#[derive(Clone, Copy, Debug)]
pub struct BareRequest;

impl ConditionSource for BareRequest {
    fn scheme(&self) -> &str {
        "http"
    }

    fn header_values<'a>(&'a self, _: &'a str) -> Box<dyn Iterator<Item = &'a [u8]> + 'a> {
        Box::new(std::iter::empty())
    }

    fn query(&self) -> &[u8] {
        b""
    }
}

impl RouteConditions {
    /// How many conditions there are: of two routes for one path, the one with more is tried first.
    pub(crate) fn count(&self) -> usize {
        usize::from(self.scheme.is_some()) + self.headers.len() + self.query.len()
    }

    /// Whether no request can meet these and the other conditions: they require different values of one thing.
    pub(crate) fn excludes(&self, other: &RouteConditions) -> bool {
        let schemes_differ =
            matches!((&self.scheme, &other.scheme), (Some(own), Some(others)) if own != others);
        schemes_differ || differ(&self.headers, &other.headers) || differ(&self.query, &other.query)
    }

    /// Whether all conditions hold.
    pub(crate) fn hold(&self, source: &dyn ConditionSource) -> bool {
        self.scheme.as_ref().is_none_or(|scheme| scheme == source.scheme())
            && self.headers.iter().all(|(name, expected)| header_matches(source, name, expected))
            && self.query.iter().all(|(name, expected)| query_matches(source.query(), name, expected))
    }
}

/// Whether both lists require a value of one name, and the values differ.
fn differ<N: PartialEq>(own: &[(N, Expected)], others: &[(N, Expected)]) -> bool {
    own.iter().any(|(name, expected)| {
        others.iter().any(|(other, required)| match (expected, required) {
            (Expected::Value(left), Expected::Value(right)) => name == other && left != right,
            (Expected::Present, _) | (_, Expected::Present) => false,
        })
    })
}

fn header_matches(source: &dyn ConditionSource, name: &HeaderName, expected: &Expected) -> bool {
    let mut values = source.header_values(name.as_str());
    let first = values.next();
    match expected {
        Expected::Present => first.is_some(),
        Expected::Value(value) => first == Some(value.as_bytes()) && values.next().is_none(),
    }
}

fn query_matches(query: &[u8], name: &str, expected: &Expected) -> bool {
    match expected {
        Expected::Present => query.split(|octet| *octet == b'&').any(|pair| {
            let key = pair.split(|octet| *octet == b'=').next().unwrap_or_default();
            // A single pair always has a single value.
            !pair.is_empty() && query_parameter(key, name).is_some()
        }),
        Expected::Value(value) => {
            query_parameter(query, name).is_some_and(|found| *found == *value.as_bytes())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Source {
        headers: &'static [(&'static str, &'static str)],
        query: &'static str,
    }

    impl ConditionSource for Source {
        fn scheme(&self) -> &str {
            "https"
        }

        fn header_values<'a>(&'a self, name: &'a str) -> Box<dyn Iterator<Item = &'a [u8]> + 'a> {
            Box::new(self.headers.iter().filter(move |field| field.0 == name).map(|field| field.1.as_bytes()))
        }

        fn query(&self) -> &[u8] {
            self.query.as_bytes()
        }
    }

    #[test]
    fn all_conditions_must_hold() {
        let value = |text: &str| Expected::Value(text.to_owned());
        let header = |expected| RouteConditions {
            headers: vec![(HeaderName::from_static("x-canary"), expected)],
            ..RouteConditions::default()
        };
        let query = |expected| RouteConditions {
            query: vec![("beta".to_owned(), expected)],
            ..RouteConditions::default()
        };
        let scheme = |scheme: &str| RouteConditions { scheme: Some(scheme.to_owned()), ..Default::default() };
        let once = Source { headers: &[("x-canary", "1")], query: "a=2&b%65ta=1&x" };
        let twice = Source { headers: &[("x-canary", "1"), ("x-canary", "1")], query: "beta=1&beta=1" };
        let none = Source { headers: &[("x-other", "1")], query: "betamax=1&a=beta" };
        for (conditions, holds_once, holds_twice, holds_none) in [
            (header(Expected::Present), true, true, false),
            (header(value("1")), true, false, false),
            (header(value("2")), false, false, false),
            (query(Expected::Present), true, true, false),
            (query(value("1")), true, false, false),
            (query(value("")), false, false, false),
            (scheme("https"), true, true, true),
            (scheme("http"), false, false, false),
        ] {
            let holds = [conditions.hold(&once), conditions.hold(&twice), conditions.hold(&none)];
            assert_eq!(holds, [holds_once, holds_twice, holds_none], "{conditions:?}");
            assert_eq!(conditions.count(), 1);
        }
    }
}
