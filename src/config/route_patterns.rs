//! Checks the host and path patterns of routes, and detects conflicting routes.
//!
//! [`crate::http`] normalises the hosts and paths of requests, so a pattern in another form could never match. It is
//! rejected here, and the help contains the normalised form.

use std::collections::HashMap;
use std::net::Ipv6Addr;

use http::Method;
use matchit::{InsertError, Router};

use super::foreign_patterns::{self, Difference, Translation};
use super::problem::{Diagnostic, quoted, refuse};
use super::suggestions;
use super::units::{host_name, is_digits};
use crate::http::path_pattern::PathPattern;
use crate::http::route_conditions::RouteConditions;
use crate::http::target::{Ambiguity, check_path};

/// A host pattern: exact, `*.` with a name, or `None` for any host (written `*`).
///
/// # Errors
/// The pattern has a port, a path, a scheme, or `*` in another position.
pub(crate) fn host(text: &str) -> Result<Option<String>, Diagnostic> {
    if text == "*" {
        return Ok(None);
    }
    let in_brackets = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    if let Some(address) = in_brackets.and_then(|address| address.parse::<Ipv6Addr>().ok()) {
        return Ok(Some(address.to_string()));
    }
    let (wildcard, name) = match text.strip_prefix("*.") {
        Some(name) => ("*.", name),
        None => ("", text),
    };
    if let Some(domain) = text.strip_prefix('.').filter(|domain| host_name(domain).is_some()) {
        return refuse(text, "is not a host", format!("write {}", quoted(&format!("*.{domain}"))));
    }
    if let Some(name) = host_name(name).filter(|name| name != "_") {
        return Ok(Some(format!("{wildcard}{name}")));
    }
    let help = match suggested_host(text) {
        Some((meant, ignored)) => format!("write {}{ignored}", quoted(&meant)),
        None if text.contains(',') => "write a route for each host".to_owned(),
        None if !text.is_ascii() => {
            "write the host as clients send it, in its xn-- form (Punycode)".to_owned()
        }
        None => "expected a name such as api.example.com, or \"*.example.com\"".to_owned(),
    };
    refuse(text, "is not a host", help)
}

/// The host of an authority or a URL, an address in brackets, and what is ignored.
fn suggested_host(text: &str) -> Option<(String, &'static str)> {
    if let Some(meant) = suggestions::host(text, |meant| host(meant).is_ok()) {
        return Some((meant, ""));
    }
    const PORT: &str = ": the port of a request is ignored";
    if let Ok(address) = text.trim_matches(['[', ']']).parse::<Ipv6Addr>() {
        return Some((format!("[{address}]"), ""));
    }
    let authority = text.split_once("://").map_or(text, |(_, rest)| rest).split('/').next()?.trim();
    let meant = match authority.rsplit_once(':') {
        Some((name, port)) if is_digits(port) => (name.to_owned(), PORT),
        Some(_) | None => (authority.to_owned(), ""),
    };
    (meant.0 != text && host(&meant.0).is_ok()).then_some(meant)
}

/// Checks a path pattern and returns its shape: the pattern with all parameters renamed to `x`.
///
/// # Errors
/// No request could match it, or the router rejects it. `lenient` routes may contain dot segments.
pub(crate) fn path_shape(text: &str, lenient: bool) -> Result<String, Diagnostic> {
    let accepted = |path: &str, reason: &str| {
        let is_valid = path_shape(path, lenient).is_ok();
        if is_valid { format!("write {}{reason}", quoted(path)) } else { PATTERN_HELP.to_owned() }
    };
    let trimmed = text.trim();
    if trimmed != text {
        return refuse(text, "begins or ends with a space", accepted(trimmed, ""));
    }
    if let Some((_, rest)) = text.split_once("://").filter(|_| !text.starts_with(['/', '^', '~'])) {
        let path = rest.find('/').and_then(|start| rest.get(start..)).unwrap_or("/");
        return refuse(text, "is a URL", accepted(path, ", and the host in match.host"));
    }
    if foreign_patterns::is_foreign(text) {
        let ours = foreign_patterns::translate(text);
        let help = ours.map(|Translation { pattern, difference }| match difference {
            Difference::None => accepted(&pattern, ""),
            Difference::AnyText => accepted(&pattern, ": a parameter matches any text up to the next slash"),
            Difference::WholeSegment => accepted(&pattern, ": it matches its beginning and the paths below"),
        });
        let help = help.unwrap_or_else(|| PATTERN_HELP.to_owned());
        return refuse(text, "is a pattern in the syntax of another tool", help);
    }
    if !text.starts_with('/') {
        return refuse(text, "does not start with /", accepted(&format!("/{text}"), ""));
    }
    if let Some((path, _)) = text.split_once(['?', '#']) {
        return refuse(text, "is not a path", accepted(path, ": routes match only the path"));
    }
    Router::new().insert(text, ()).map_err(|error| pattern_error(text, &error))?;
    if text.split('/').any(|segment| segment.contains("{*") && !segment.starts_with("{*")) {
        return refuse(text, "has {*rest} within a segment", PATTERN_HELP);
    }
    let names = PathPattern::parse(text);
    if let Some(name) = names.repeated_name() {
        return refuse(
            text,
            format!("has the parameter {{{name}}} twice"),
            "give each parameter a name of its own",
        );
    }
    let normalised = crate::http::path::normalise(text.as_bytes());
    if normalised != text {
        let help = match path_shape(&normalised, lenient) {
            Ok(_) => format!("write {}", quoted(&normalised)),
            Err(diagnostic) => diagnostic.help,
        };
        return refuse(text, "would never match: request paths are normalised first", help);
    }
    let (shape, example) = anonymise_parameters(text);
    let (reason, help) = match check_path(example.as_bytes()) {
        Err(error) => {
            let encoded = percent_encoded(text);
            let help =
                if encoded == text { "use a different path".to_owned() } else { accepted(&encoded, "") };
            return refuse(text, format!("would never match: {}", error.evidence), help);
        }
        Ok(facts) => match facts.ambiguity {
            Some(Ambiguity::DotSegments) if !lenient => {
                ("paths with dot segments are rejected", "resolve the dot segments, or set paths: lenient")
            }
            Some(Ambiguity::EncodedBackslash | Ambiguity::EncodedControl) if !lenient => (
                "paths with an encoded backslash or control byte are rejected",
                "use a different path, or set paths: lenient",
            ),
            Some(_) | None => return Ok(shape),
        },
    };
    refuse(text, format!("would never match: {reason}"), help)
}

/// The path as clients send it, where it has characters that they encode.
fn percent_encoded(text: &str) -> String {
    let is_escape = |rest: &str| {
        rest.get(1..3).is_some_and(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
    };
    let encode = |(at, letter): (usize, char)| match letter {
        '%' if is_escape(text.get(at..).unwrap_or_default()) => "%".to_owned(),
        ' ' | '"' | '%' | '^' => format!("%{:02X}", u32::from(letter)),
        _ => letter.to_string(),
    };
    text.char_indices().map(encode).collect()
}

const PATTERN_HELP: &str =
    "use static text, {parameter} and {*rest}, for example \"/users/{id}\" or \"/{*rest}\"";

fn pattern_error(text: &str, error: &InsertError) -> Diagnostic {
    let help = match error {
        InsertError::InvalidParamSegment => "use at most one {parameter} per segment",
        InsertError::InvalidCatchAll => "{*rest} must be the last segment",
        InsertError::Conflict { .. } | InsertError::InvalidParam => {
            "close each brace and name the parameter, as in {id} or {*rest}; write {{ for a literal brace"
        }
        _ => "expected static text, {parameter} or {*rest} between slashes",
    };
    Diagnostic::of(text, "is not a path pattern", help)
}

/// The pattern with all parameters renamed to `x`, and a path that it matches.
fn anonymise_parameters(pattern: &str) -> (String, String) {
    let (mut shape, mut example) = (String::new(), String::new());
    let mut letters = pattern.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '{' | '}' if letters.peek() == Some(&letter) => {
                letters.next();
                shape.extend([letter, letter]);
                example.push(letter);
            }
            '{' => {
                shape.push_str(if letters.peek() == Some(&'*') { "{*x}" } else { "{x}" });
                example.push('x');
                letters.by_ref().take_while(|inside| *inside != '}').for_each(drop);
            }
            other => {
                shape.push(other);
                example.push(other);
            }
        }
    }
    (shape, example)
}

/// The routes accepted so far, by host pattern.
#[derive(Default)]
pub(crate) struct RouteTable(HashMap<Option<String>, HostRoutes>);

/// The routes of one host pattern.
#[derive(Default)]
struct HostRoutes(Vec<RoutePattern>);

/// What a route matches within its host.
pub(crate) struct RoutePattern {
    shape: String,
    /// The methods, HEAD included with GET; empty means all.
    methods: Vec<Method>,
    conditions: RouteConditions,
    name: String,
}

impl RoutePattern {
    /// `shape` is that of [`path_shape`]; no `methods` means all.
    pub(crate) fn new(shape: String, methods: &[Method], conditions: &RouteConditions, name: &str) -> Self {
        let name = name.to_owned();
        RoutePattern { shape, methods: with_head(methods), conditions: conditions.clone(), name }
    }
}

impl RouteTable {
    /// Adds a route.
    ///
    /// # Errors
    /// A request could match this route and an earlier one equally.
    pub(crate) fn add(&mut self, host: &Option<String>, route: RoutePattern) -> Result<(), Diagnostic> {
        self.0.entry(host.clone()).or_default().add(route)
    }
}

impl HostRoutes {
    fn add(&mut self, row: RoutePattern) -> Result<(), Diagnostic> {
        let competes = |other: &&RoutePattern| other.shape == row.shape && other.competes_with(&row);
        if let Some(duplicate) = self.0.iter().find(competes) {
            return Err(indistinguishable(&row, duplicate));
        }
        self.0.push(row);
        Ok(())
    }
}

impl RoutePattern {
    /// Whether some request of the same path matches both routes, and nothing decides between them.
    fn competes_with(&self, other: &RoutePattern) -> bool {
        let shared = self.methods.iter().any(|method| other.methods.contains(method));
        let methods_overlap = shared || (self.methods.is_empty() && other.methods.is_empty());
        methods_overlap
            && self.conditions.count() == other.conditions.count()
            && !self.conditions.excludes(&other.conditions)
    }
}

fn indistinguishable(route: &RoutePattern, other: &RoutePattern) -> Diagnostic {
    let name = quoted(&other.name);
    if route.conditions == other.conditions {
        let message = format!("the route matches the same requests as route {name}");
        return Diagnostic::new(message, "change the host, path or methods of one of them");
    }
    let message = format!("a request could match this route and route {name}, which has as many conditions");
    Diagnostic::new(message, "add a condition to one of them: the route with more conditions is tried first")
}

/// GET includes HEAD.
fn with_head(methods: &[Method]) -> Vec<Method> {
    let mut methods = methods.to_vec();
    if methods.contains(&Method::GET) && !methods.contains(&Method::HEAD) {
        methods.push(Method::HEAD);
    }
    methods
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use http::HeaderName;

    use super::*;
    use crate::http::route_conditions::Expected;

    #[test]
    fn host_patterns_are_normalised() {
        assert_eq!(host("API.example.com."), Ok(Some("api.example.com".to_owned())));
        assert_eq!(host("*.Example.com"), Ok(Some("*.example.com".to_owned())));
        assert_eq!(host("*"), Ok(None));
        assert_eq!(host("[0::1]"), Ok(Some("::1".to_owned())));
        for text in ["", "api.example.com:80", "http://x", "a*.b", "*.*.b", "a/b", "*."] {
            assert!(host(text).is_err(), "{text}");
        }
        assert!(host("a.b:80").unwrap_err().help.starts_with("write \"a.b\""));
        let form = "expected a name such as api.example.com, or \"*.example.com\"";
        for (text, remedy) in [
            ("::1", "write \"[::1]\""),
            ("[::1", "write \"[::1]\""),
            ("[::1]:80", "write \"[::1]\": the port of a request is ignored"),
            ("a:80:90", form),
            ("https://a.b/x", "write \"a.b\""),
            ("a_b c", form),
        ] {
            assert_eq!(host(text).unwrap_err().help, remedy, "{text}");
        }
    }

    #[test]
    fn unmatchable_pattern_is_rejected_with_the_right_spelling() {
        for (text, remedy) in [
            ("users", "write \"/users\""),
            ("/a?b=c", "write \"/a\": routes match only the path"),
            ("//a//b", "write \"/a/b\""),
            ("/%61", "write \"/a\""),
            ("/%c3%a9", "write \"/%C3%A9\""),
            ("/é", "write \"/%C3%A9\""),
            ("/{*rest}/x", "{*rest} must be the last segment"),
            ("/{a}{b}", "use at most one {parameter} per segment"),
            ("/a/../b", "resolve the dot segments, or set paths: lenient"),
            ("/a b", "write \"/a%20b\""),
            ("/50%/\"x\"", "write \"/50%25/%22x%22\""),
            ("/acc> ount/x", PATTERN_HELP),
            ("~ \\.php$", PATTERN_HELP),
            ("/u/{id:[0-9]+}", "write \"/u/{id}\": a parameter matches any text up to the next slash"),
            ("/api*", "write \"/api/{*rest}\": it matches its beginning and the paths below"),
            ("/x/%2e%2e/y", "resolve the dot segments, or set paths: lenient"),
            ("https://x/y", "write \"/y\", and the host in match.host"),
            (" /x", "write \"/x\""),
            ("= /x", "write \"/x\""),
            ("a b", PATTERN_HELP),
        ] {
            assert_eq!(path_shape(text, false).unwrap_err().help, remedy, "{text}");
        }
        for text in ["/{", "/{}", "/}", "/{a/b"] {
            assert!(path_shape(text, false).is_err(), "{text}");
        }
        assert_eq!(path_shape("/a/../b", true).as_deref(), Ok("/a/../b"));
        assert_eq!(
            path_shape("/v1/{id}/x-{n}/{{y}}/{*rest}", false).as_deref(),
            Ok("/v1/{x}/x-{x}/{{y}}/{*x}")
        );
    }

    #[test]
    fn routes_differing_only_in_parameter_names_conflict() {
        let mut table = RouteTable::default();
        let host = Some("a.b".to_owned());
        let shape = |path: &str| path_shape(path, false).unwrap();
        let mut add = |host: &Option<String>, path: &str, methods: &[Method], name: &str| {
            let route = RoutePattern::new(shape(path), methods, &RouteConditions::default(), name);
            table.add(host, route).map_err(|diagnostic| diagnostic.message)
        };
        let duplicate_of =
            |name: &str| Err(format!("the route matches the same requests as route \"{name}\""));
        assert_eq!(add(&None, "/u/{id}", &[Method::GET], "one"), Ok(()));
        assert_eq!(add(&None, "/u/{name}", &[Method::POST], "two"), Ok(()));
        assert_eq!(add(&host, "/u/{id}", &[Method::GET], "three"), Ok(()));
        assert_eq!(add(&None, "/u/me", &[], "four"), Ok(()));
        assert_eq!(add(&None, "/u/{x}", &[Method::PUT, Method::POST], "five"), duplicate_of("two"));
        assert_eq!(add(&None, "/u/{x}", &[Method::HEAD], "six"), duplicate_of("one"));
        assert_eq!(add(&None, "/u/{x}", &[], "all"), Ok(()));
        assert_eq!(add(&None, "/u/{y}", &[], "seven"), duplicate_of("all"));
    }

    #[test]
    fn conditions_tell_routes_apart_unless_both_could_hold() {
        let mut table = RouteTable::default();
        let header = |name: &'static str, value: &str| {
            let expected = if value == "*" { Expected::Present } else { Expected::Value(value.to_owned()) };
            (HeaderName::from_static(name), expected)
        };
        let mut add = |path: &str, methods: &[Method], headers: &[(HeaderName, Expected)], name: &str| {
            let conditions = RouteConditions { headers: headers.to_vec(), ..RouteConditions::default() };
            let route = RoutePattern::new(path_shape(path, false).unwrap(), methods, &conditions, name);
            table.add(&None, route).map_err(|diagnostic| diagnostic.message)
        };
        let competes = |name: &str| {
            Err(format!(
                "a request could match this route and route \"{name}\", which has as many conditions"
            ))
        };
        assert_eq!(add("/a/{*rest}", &[], &[], "plain"), Ok(()));
        assert_eq!(add("/a/{*rest}", &[], &[header("x-a", "1")], "one"), Ok(()));
        assert_eq!(add("/a/{id}", &[], &[header("x-a", "1")], "parameter"), Ok(()));
        assert_eq!(add("/a/{*rest}", &[], &[header("x-a", "2")], "two"), Ok(()));
        assert_eq!(add("/a/{*rest}", &[Method::GET], &[header("x-b", "1")], "get"), Ok(()));
        assert_eq!(add("/a/{*rest}", &[], &[header("x-a", "1"), header("x-b", "1")], "both"), Ok(()));
        assert_eq!(add("/a/{*rest}", &[], &[header("x-b", "1")], "other"), competes("one"));
        assert_eq!(add("/a/{*rest}", &[], &[header("x-a", "*")], "any"), competes("one"));
        assert_eq!(
            add("/a/{*rest}", &[], &[header("x-a", "1")], "same"),
            Err("the route matches the same requests as route \"one\"".to_owned())
        );
    }
}
