//! What a route does to the path before the upstream or a redirect gets it: strip a prefix, rewrite, add a base path.
//!
//! The path is the received one, so that spellings survive. A result begins with exactly one slash and has no dot
//! segments: otherwise a parameter could lead out of the part of the upstream that the route is for.

use std::borrow::Cow;

use super::Rejection;
use super::path_pattern::{PathPattern, strip_segments};
use super::target::{Ambiguity, PathInfo, check_path};
use super::value_template::{Placeholder, ValueTemplate};
use crate::contract::Cause;

/// How a route changes the path of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PathRewrite {
    /// Removes this many segments from the start.
    StripSegments(usize),
    /// Replaces the path by this text, whose placeholders are parameters of the route's pattern.
    Replace(PathPattern, ValueTemplate),
}

impl PathRewrite {
    /// Rewrites a received path.
    ///
    /// # Errors
    /// `ambiguous_path` if the result has dot segments.
    pub(crate) fn apply(&self, path: &[u8]) -> Result<Vec<u8>, Rejection> {
        let rewritten = match self {
            PathRewrite::StripSegments(count) => strip_segments(path, *count),
            PathRewrite::Replace(pattern, template) => {
                let values = pattern.values(path);
                fill(template, |placeholder| parameter(&values, placeholder))
            }
        };
        check_rewritten(rewritten)
    }
}

/// Checks the path that a template gives if every parameter is one letter.
///
/// # Errors
/// Every request would be rejected: the path has dot segments, or octets that no path may have.
pub(crate) fn check_template(template: &ValueTemplate) -> Result<(), Rejection> {
    check_rewritten(fill(template, |_| Some(Cow::Borrowed(b"x")))).map(|_| ())
}

/// The path that a template gives with these values. It begins with exactly one slash.
fn fill<'a>(template: &ValueTemplate, value: impl FnMut(Placeholder) -> Option<Cow<'a, [u8]>>) -> Vec<u8> {
    strip_segments(&template.render(value).unwrap_or_default(), 0)
}

fn check_rewritten(path: Vec<u8>) -> Result<Vec<u8>, Rejection> {
    match check_path(&path) {
        Ok(PathInfo {
            ambiguity: None | Some(Ambiguity::EncodedBackslash | Ambiguity::EncodedControl),
            ..
        }) => Ok(path),
        Ok(_) => Err(Rejection::new(Cause::AmbiguousPath, "the rewritten path has dot segments")),
        Err(rejection) => Err(rejection),
    }
}

/// Where a redirect leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RedirectTarget {
    pattern: PathPattern,
    /// `/PATH`, or `SCHEME://HOST/PATH`.
    to: ValueTemplate,
    has_query: bool,
}

impl RedirectTarget {
    /// A redirect to this text, whose placeholders are parameters of the route's pattern and `{host}`.
    pub(crate) fn new(pattern: PathPattern, to: ValueTemplate, has_query: bool) -> Self {
        RedirectTarget { pattern, to, has_query }
    }

    /// The value of `Location`, in ASCII. The query of the request is appended unless the target has its own.
    ///
    /// A parameter loses leading slashes and backslashes: `//evil.test` after the first slash of a target would name
    /// another host.
    pub(crate) fn location(&self, host: &str, path: &[u8], query: &[u8]) -> Vec<u8> {
        let values = self.pattern.values(path);
        let rendered = self.to.render(|placeholder| match placeholder {
            Placeholder::Host => Some(Cow::Owned(host.as_bytes().to_vec())),
            _ => parameter(&values, placeholder).map(|value| Cow::Owned(trim_start(&value).to_vec())),
        });
        let mut rendered = rendered.unwrap_or_default();
        // An empty parameter at the start of a path would leave two slashes: the next segment would be a host.
        if rendered.starts_with(b"/") {
            rendered = [b"/", trim_start(&rendered)].concat();
        }
        let mut location = Vec::with_capacity(128);
        rendered.into_iter().for_each(|octet| push_encoded(&mut location, octet));
        if !self.has_query && !query.is_empty() {
            location.push(b'?');
            query.iter().for_each(|octet| push_encoded(&mut location, *octet));
        }
        location
    }
}

fn parameter<'a>(values: &[&'a [u8]], placeholder: Placeholder) -> Option<Cow<'a, [u8]>> {
    match placeholder {
        Placeholder::Parameter(position) => values.get(position).map(|value| Cow::Borrowed(*value)),
        Placeholder::ClientIp
        | Placeholder::Host
        | Placeholder::Path
        | Placeholder::RequestId
        | Placeholder::ClientCertSubject
        | Placeholder::ClientCertFingerprint => None,
    }
}

fn trim_start(value: &[u8]) -> &[u8] {
    let skipped = value.iter().take_while(|octet| matches!(octet, b'/' | b'\\')).count();
    value.get(skipped..).unwrap_or_default()
}

/// Percent-encodes what a URI may not have (RFC 3986 2): a field value is ASCII.
fn push_encoded(text: &mut Vec<u8>, octet: u8) {
    if octet.is_ascii_graphic()
        && !matches!(octet, b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}')
    {
        text.push(octet);
    } else {
        text.extend_from_slice(format!("%{octet:02X}").as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replace(pattern: &str, to: &str) -> PathRewrite {
        let pattern = PathPattern::parse(pattern);
        let template = ValueTemplate::parse(to, &pattern).unwrap_or_else(|error| panic!("{error}"));
        PathRewrite::Replace(pattern, template)
    }

    fn apply(rewrite: &PathRewrite, path: &str) -> Result<String, Cause> {
        let result = rewrite.apply(path.as_bytes()).map_err(|rejection| rejection.cause);
        result.map(|path| String::from_utf8_lossy(&path).into_owned())
    }

    #[test]
    fn rewritten_paths_keep_spellings_and_begin_with_one_slash() {
        let rewrite = replace("/users/{id}/{*rest}", "/v2/people/{id}/{rest}");
        assert_eq!(apply(&rewrite, "/users/a%2Fb//x//y/"), Ok("/v2/people/a%2Fb/x//y/".to_owned()));
        let rewrite = replace("/x/{*rest}", "/{rest}");
        assert_eq!(apply(&rewrite, "/x///evil.test/a"), Ok("/evil.test/a".to_owned()));
        assert_eq!(apply(&rewrite, "/x"), Ok("/".to_owned()));
    }

    #[test]
    fn dot_segments_that_a_rewrite_makes_are_refused() {
        let joined = replace("/x/{a}/{b}", "/{a}{b}/z");
        assert_eq!(apply(&joined, "/x/./."), Err(Cause::AmbiguousPath));
        assert_eq!(apply(&PathRewrite::StripSegments(1), "/x/../y"), Err(Cause::AmbiguousPath));
        assert_eq!(apply(&PathRewrite::StripSegments(1), "/x/%2e%2E/y"), Err(Cause::AmbiguousPath));
    }

    #[test]
    fn redirect_cannot_leave_its_host() {
        let location = |pattern: &str, to: &str, path: &str, query: &str| {
            let pattern = PathPattern::parse(pattern);
            let template = ValueTemplate::parse(to, &pattern).unwrap_or_else(|error| panic!("{error}"));
            let target = RedirectTarget::new(pattern, template, to.contains('?'));
            String::from_utf8_lossy(&target.location("a.test", path.as_bytes(), query.as_bytes()))
                .into_owned()
        };
        for (pattern, to, path, query, expected) in [
            ("/old/{*rest}", "/new/{rest}", "/old/a/b", "x=1", "/new/a/b?x=1"),
            ("/old/{*rest}", "/{rest}", "/old//evil.test", "", "/evil.test"),
            ("/old/{*rest}", "/{rest}", "/old/%2F%2Fevil.test", "", "/%2F%2Fevil.test"),
            ("/{*rest}", "https://{host}/{rest}", "//evil.test/a", "q=<", "https://a.test/evil.test/a?q=%3C"),
            ("/{*rest}", "https://new.test/{rest}?a=1", "/b", "c=2", "https://new.test/b?a=1"),
            ("/o/{id}", "/n/{id}", "/o/\u{fc}", "", "/n/%C3%BC"),
            ("/{a}/{*rest}", "/{rest}/{a}", "/evil.test", "", "/evil.test"),
            ("/{a}/{*rest}", "/{rest}/{rest}/{a}", "/evil.test/", "", "/evil.test"),
            ("/{*rest}", "/{rest}/login", "/", "", "/login"),
        ] {
            assert_eq!(location(pattern, to, path, query), expected);
        }
    }
}
