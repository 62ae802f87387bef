//! What a route's `match` may say about hosts and paths, and when two routes could not be told apart.
//!
//! Hosts and paths are compared in the one spelling that [`crate::protocol`] gives to requests, so a pattern in another
//! spelling could never match: it is refused here, with the right one as the remedy. Which route wins is decided where
//! requests are routed, not here.

use std::net::Ipv6Addr;

use http::Method;
use matchit::{InsertError, Router};

use super::error::{Refusal, quoted};
use super::units::host_name;
use crate::protocol;

/// A host as routes see it: exact, `*.` with a name, or `None` for any (written `*`).
///
/// # Errors
/// With a port, a path, a scheme, or a star elsewhere.
pub fn host(text: &str) -> Result<Option<String>, Refusal> {
    if text == "*" {
        return Ok(None);
    }
    let in_brackets = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    if let Some(address) = in_brackets.and_then(|address| address.parse::<Ipv6Addr>().ok()) {
        return Ok(Some(address.to_string()));
    }
    let (star, name) = match text.strip_prefix("*.") {
        Some(name) => ("*.", name),
        None => ("", text),
    };
    if let Some(name) = host_name(name) {
        return Ok(Some(format!("{star}{name}")));
    }
    let what = format!("{} is not a host", quoted(text));
    match text.rsplit_once(':') {
        Some((name, port)) if !name.is_empty() && super::units::is_digits(port) => Err(Refusal::new(
            what,
            format!("write {} alone: the port of a request does not matter", quoted(name)),
        )),
        Some(_) | None => {
            Err(Refusal::new(what, "expected a name such as api.example.com, or \"*.example.com\""))
        }
    }
}

/// Checks a path pattern and gives its shape: the pattern without the names of its parameters.
///
/// # Errors
/// When no request could match it, or the router cannot take it. `lenient` routes may name dot segments.
pub fn path_shape(text: &str, lenient: bool) -> Result<String, Refusal> {
    if !text.starts_with('/') {
        let remedy = format!("write {}", quoted(&format!("/{text}")));
        return Err(Refusal::new(format!("{} does not begin with /", quoted(text)), remedy));
    }
    if let Some((path, _)) = text.split_once(['?', '#']) {
        let remedy = format!("write {}: routes look at the path alone", quoted(path));
        return Err(Refusal::new(format!("{} is more than a path", quoted(text)), remedy));
    }
    Router::new().insert(text, ()).map_err(|error| unroutable(text, &error))?;
    let normal = protocol::path::normalise(text.as_bytes());
    if normal != text {
        let what =
            format!("{} would never match: requests are compared in their normal spelling", quoted(text));
        return Err(Refusal::new(what, format!("write {}", quoted(&normal))));
    }
    let (shape, example) = without_names(text);
    match protocol::target::check_path(example.as_bytes()) {
        Err(refusal) => Err(Refusal::new(
            format!("{} would never match: {}", quoted(text), refusal.evidence),
            "write another path",
        )),
        Ok(facts) if facts.dot_segments && !lenient => {
            let what = format!("{} would never match: paths with dot segments are refused", quoted(text));
            Err(Refusal::new(what, "resolve the dots, or set paths: lenient"))
        }
        Ok(_) => Ok(shape),
    }
}

fn unroutable(text: &str, error: &InsertError) -> Refusal {
    let what = format!("{} is not a path pattern", quoted(text));
    match error {
        InsertError::InvalidParamSegment => {
            Refusal::new(what, "use one {parameter} between two slashes at most")
        }
        InsertError::InvalidCatchAll => Refusal::new(what, "{*rest} must be the last segment"),
        InsertError::Conflict { .. } | InsertError::InvalidParam => Refusal::new(
            what,
            "give each brace its partner and a name: {id}, {*rest}; write {{ for a brace itself",
        ),
        _ => Refusal::new(what, "expected static text, {parameter} or {*rest} between slashes"),
    }
}

/// The pattern with its parameters named alike, and a path that it matches.
fn without_names(pattern: &str) -> (String, String) {
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

/// The routes accepted so far, to hold a new one against.
#[derive(Default)]
pub struct Table {
    hosts: Vec<(Option<String>, Host)>,
}

/// The routes of one host pattern, and the trees that requests are looked up in: one for each method that a route names
/// and one (`None`) for all others. A route that names a method goes before one that takes all.
#[derive(Default)]
struct Host {
    routes: Vec<Row>,
    trees: Vec<(Option<Method>, Router<()>)>,
}

struct Row {
    shape: String,
    /// Every method it takes, HEAD with GET; empty is all.
    methods: Vec<Method>,
    name: String,
}

impl Table {
    /// Adds a route.
    ///
    /// # Errors
    /// When a request could belong to it and to an earlier one alike.
    pub fn add(
        &mut self,
        host: &Option<String>,
        shape: &str,
        methods: &[Method],
        name: &str,
    ) -> Result<(), Refusal> {
        let index = match self.hosts.iter().position(|(known, _)| known == host) {
            Some(index) => index,
            None => {
                let all = Host { routes: Vec::new(), trees: vec![(None, Router::new())] };
                self.hosts.push((host.clone(), all));
                self.hosts.len() - 1
            }
        };
        let Some((_, table)) = self.hosts.get_mut(index) else { return Ok(()) };
        table.add(Row { shape: shape.to_owned(), methods: with_head(methods), name: name.to_owned() })
    }
}

impl Host {
    fn add(&mut self, row: Row) -> Result<(), Refusal> {
        if let Some(same) =
            self.routes.iter().find(|other| other.shape == row.shape && same_methods(other, &row))
        {
            let what = format!("it could not be told apart from the route {}", quoted(&same.name));
            return Err(Refusal::new(what, "give one of them another host, path or methods"));
        }
        for method in &row.methods {
            if !self.trees.iter().any(|(known, _)| known.as_ref() == Some(method)) {
                let mut tree = Router::new();
                for all in self.routes.iter().filter(|route| route.methods.is_empty()) {
                    // What went into the tree of all methods goes into an empty one too.
                    let _ = tree.insert(all.shape.clone(), ());
                }
                self.trees.push((Some(method.clone()), tree));
            }
        }
        for (method, tree) in &mut self.trees {
            let takes =
                row.methods.is_empty() || method.as_ref().is_some_and(|method| row.methods.contains(method));
            if !takes {
                continue;
            }
            match tree.insert(row.shape.clone(), ()) {
                // The same shape is there for all methods: the one that names the method goes before it.
                Err(InsertError::Conflict { with }) if with != row.shape => {
                    let other = self.routes.iter().find(|route| route.shape == with);
                    let other = other.map_or(with.as_str(), |route| &route.name);
                    let what =
                        format!("its path and that of the route {} cannot stand side by side", quoted(other));
                    let remedy = "between the same slashes, use either {parameter} or {*rest} in both";
                    return Err(Refusal::new(what, remedy));
                }
                Ok(()) | Err(_) => {}
            }
        }
        self.routes.push(row);
        Ok(())
    }
}

/// Whether a method belongs to both in the same way: named by both, or taken by both with all others.
fn same_methods(a: &Row, b: &Row) -> bool {
    let shared = a.methods.iter().any(|method| b.methods.contains(method));
    shared || (a.methods.is_empty() && b.methods.is_empty())
}

/// HEAD is served where GET is.
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
    use super::*;

    #[test]
    fn hosts_are_brought_into_the_form_that_routing_compares() {
        assert_eq!(host("API.example.com."), Ok(Some("api.example.com".to_owned())));
        assert_eq!(host("*.Example.com"), Ok(Some("*.example.com".to_owned())));
        assert_eq!(host("*"), Ok(None));
        assert_eq!(host("[0::1]"), Ok(Some("::1".to_owned())));
        for text in ["", "api.example.com:80", "http://x", "a*.b", "*.*.b", "a/b", "*."] {
            assert!(host(text).is_err(), "{text}");
        }
        assert!(host("a.b:80").unwrap_err().remedy.contains("\"a.b\" alone"));
    }

    #[test]
    fn a_pattern_that_no_request_could_match_is_refused_with_the_right_spelling() {
        for (text, remedy) in [
            ("users", "write \"/users\""),
            ("/a?b=c", "write \"/a\": routes look at the path alone"),
            ("//a//b", "write \"/a/b\""),
            ("/%61", "write \"/a\""),
            ("/%c3%a9", "write \"/%C3%A9\""),
            ("/é", "write \"/%C3%A9\""),
            ("/{*rest}/x", "{*rest} must be the last segment"),
            ("/{a}{b}", "use one {parameter} between two slashes at most"),
            ("/a/../b", "resolve the dots, or set paths: lenient"),
            ("/a b", "write another path"),
        ] {
            assert_eq!(path_shape(text, false).unwrap_err().remedy, remedy, "{text}");
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
    fn two_routes_are_the_same_when_only_their_parameters_are_named_differently() {
        let mut table = Table::default();
        let host = Some("a.b".to_owned());
        let shape = |path: &str| path_shape(path, false).unwrap();
        let mut add = |host: &Option<String>, path: &str, methods: &[Method], name: &str| {
            table.add(host, &shape(path), methods, name).map_err(|refusal| refusal.what)
        };
        let same = |name: &str| Err(format!("it could not be told apart from the route \"{name}\""));
        assert_eq!(add(&None, "/u/{id}", &[Method::GET], "one"), Ok(()));
        assert_eq!(add(&None, "/u/{name}", &[Method::POST], "two"), Ok(()));
        assert_eq!(add(&host, "/u/{id}", &[Method::GET], "three"), Ok(()));
        assert_eq!(add(&None, "/u/me", &[], "four"), Ok(()));
        assert_eq!(add(&None, "/u/{x}", &[Method::PUT, Method::POST], "five"), same("two"));
        assert_eq!(add(&None, "/u/{x}", &[Method::HEAD], "six"), same("one"));
        assert_eq!(add(&None, "/u/{x}", &[], "all"), Ok(()));
        assert_eq!(add(&None, "/u/{y}", &[], "seven"), same("all"));
    }

    #[test]
    fn a_parameter_and_the_rest_cannot_stand_side_by_side_for_one_method() {
        let mut table = Table::default();
        let shape = |path: &str| path_shape(path, false).unwrap();
        assert!(table.add(&None, &shape("/u/{id}"), &[Method::GET], "one").is_ok());
        assert!(table.add(&None, &shape("/u/{*rest}"), &[Method::POST], "two").is_ok());
        let refusal = table.add(&None, &shape("/u/{*rest}"), &[], "three").unwrap_err();
        assert_eq!(refusal.what, "its path and that of the route \"one\" cannot stand side by side");
    }
}
