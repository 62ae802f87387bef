//! The base path of an upstream server: what stands before the path of every request to it.
//!
//! It has no dot segments, no empty segments, no query and no percent-encoding that servers read differently. So the
//! joined path has dot segments only if the received one has; [`BasePath::join`] leaves that to its caller.

use std::fmt;
use std::sync::Arc;

use super::target::{PathInfo, check_path};

/// The longest base path, in bytes.
const MAX_LEN: usize = 1024;

/// A base path: begins with one slash and does not end with one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BasePath(Arc<str>);

impl BasePath {
    /// Reads the path of a server's URL, which begins with a slash. `None` if it is only the slash.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Option<BasePath>, &'static str> {
        let path = text.strip_suffix('/').unwrap_or(text);
        if path.is_empty() {
            return Ok(None);
        }
        if path.contains(['?', '#']) {
            return Err("has a query or a fragment");
        }
        if path.contains("//") || text.ends_with("//") {
            return Err("has an empty segment");
        }
        if path.contains(['{', '}']) || !path.bytes().all(|octet| octet.is_ascii_graphic()) {
            return Err("has a character that must be percent-encoded");
        }
        if path.len() > MAX_LEN {
            return Err("is longer than 1024 characters");
        }
        match check_path(path.as_bytes()) {
            Ok(PathInfo { ambiguity: None, .. }) => Ok(Some(BasePath(Arc::from(path)))),
            Ok(PathInfo { ambiguity: Some(ambiguity), .. }) => Err(ambiguity.short_evidence()),
            Err(_) => Err("has a character that must be percent-encoded"),
        }
    }

    /// The target of a request to the server: the base path, then the path with exactly one slash at its start, then
    /// the query as it is. An asterisk-form target, which has no path, stays.
    pub(crate) fn join(&self, target: &[u8]) -> Vec<u8> {
        let slashes = target.iter().take_while(|octet| **octet == b'/').count();
        match slashes.checked_sub(1) {
            Some(surplus) => [self.0.as_bytes(), target.get(surplus..).unwrap_or_default()].concat(),
            None => target.to_vec(),
        }
    }

    /// The text.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for BasePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn base(text: &str) -> BasePath {
        BasePath::parse(text).unwrap().unwrap()
    }

    #[test]
    fn segments_are_joined_and_the_query_is_kept() {
        for (path, target, expected) in [
            ("/api", "/users/7?a=//b", "/api/users/7?a=//b"),
            ("/api/", "/", "/api/"),
            ("/api", "/?q", "/api/?q"),
            ("/api/v1", "///evil.test//x", "/api/v1/evil.test//x"),
            ("/a%2Fb", "/c%2Fd", "/a%2Fb/c%2Fd"),
            ("/api", "*", "*"),
        ] {
            assert_eq!(String::from_utf8_lossy(&base(path).join(target.as_bytes())), expected);
        }
        assert_eq!(BasePath::parse("/"), Ok(None));
    }

    #[test]
    fn paths_that_servers_read_differently_are_no_base() {
        for text in [
            "/a/../b",
            "/..",
            "/%2e%2E/x",
            "/a/..;x",
            "/..%2fx",
            "//a",
            "/a//b",
            "/a//",
            "/a?x",
            "/a#x",
            "/a b",
            "/a\\b",
            "/a%5Cb",
            "/a%00",
            "/a%0a",
            "/a%zz",
            "/{x}",
            "/\u{e4}",
        ] {
            assert!(BasePath::parse(text).is_err(), "{text}");
        }
        assert!(BasePath::parse(&format!("/{}", "x".repeat(MAX_LEN))).is_err());
    }

    proptest! {
        #[test]
        fn joined_path_is_the_base_and_the_received_path(
            segments in prop::collection::vec("[a-z0-9._~%-]{1,6}", 1..4),
            path in prop::collection::vec(prop::sample::select(&b"/abc.%2eEfF5C;*:@"[..]), 0..20),
            query in prop::option::of("[/?.a=&]{0,10}"),
        ) {
            let Ok(Some(base)) = BasePath::parse(&format!("/{}", segments.join("/"))) else { return Ok(()) };
            let path = [b"/", &path[..]].concat();
            let Ok(received) = check_path(&path) else { return Ok(()) };
            let query = query.map(|query| format!("?{query}")).unwrap_or_default();
            let joined = base.join(&[&path, query.as_bytes()].concat());
            let info = check_path(&joined).map_err(|rejection| TestCaseError::fail(rejection.evidence))?;
            let (joined_path, joined_query) = joined.split_at(info.path_len);
            prop_assert_eq!(joined_query, query.as_bytes());
            prop_assert_eq!(info.ambiguity, received.ambiguity);
            prop_assert!(!joined.starts_with(b"//"));
            let rest = joined_path.strip_prefix(base.as_str().as_bytes()).unwrap();
            prop_assert!(rest.starts_with(b"/") && !rest.starts_with(b"//"));
            let without = |path: &[u8]| path.iter().position(|octet| *octet != b'/').map(|at| path[at..].to_vec());
            prop_assert_eq!(without(rest), without(&path));
        }
    }
}
