//! Which request stands for a route: a method, a host and a path that the router gives to it and to no other.
//!
//! Found by trying: the pattern with plain words in the place of its parameters, and the router asked what it makes of it.

use http::Method;

use crate::config::{Config, RouteConfig};
use crate::protocol::{authority, path};
use crate::snapshot::router::Router;

/// A request that reaches its route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Visit {
    /// Index of the route.
    pub(super) route: usize,
    pub(super) method: Method,
    pub(super) host: String,
    pub(super) path: String,
}

/// The routes of a configuration, and how to get there.
#[derive(Debug)]
pub(super) struct Map {
    router: Router,
    /// Route by route; a sentence where no request was found.
    pub(super) visits: Vec<Result<Visit, String>>,
}

impl Map {
    /// Of these routes.
    pub(super) fn of(config: &Config) -> Result<Map, String> {
        let router = Router::build(&config.routes)?;
        let visits = config.routes.iter().enumerate();
        let visits = visits.map(|(index, route)| visit(&router, index, route)).collect();
        Ok(Map { router, visits })
    }

    /// Which route takes this.
    pub(super) fn route(&self, host: &str, spelled: &str, method: &Method) -> Option<usize> {
        let path = path::normalise(spelled.as_bytes());
        self.router.find(&authority::routing_host(host.as_bytes()), &path, method)
    }

    /// Whether a request of this method, where the visit leads, reaches the same route.
    pub(super) fn takes(&self, visit: &Visit, method: &Method) -> bool {
        self.route(&visit.host, &visit.path, method) == Some(visit.route)
    }
}

/// Words for parameters, tried one after the other: another route may have taken the first as its own.
const WORDS: [&str; 3] = ["rehearsal", "rehearsal-7f3a", "7"];

fn visit(router: &Router, index: usize, route: &RouteConfig) -> Result<Visit, String> {
    let allowed: Vec<Method> = methods(route).filter(|method| !route.deny_methods.contains(method)).collect();
    if allowed.is_empty() {
        return Err("the route denies every method that it takes".to_owned());
    }
    for word in WORDS {
        let path = filled(&route.path, word);
        for host in hosts(route, word) {
            let here = authority::routing_host(host.as_bytes());
            let normal = path::normalise(path.as_bytes());
            let reaches = |method: &&Method| router.find(&here, &normal, method) == Some(index);
            if let Some(method) = allowed.iter().find(reaches) {
                return Ok(Visit { route: index, method: method.clone(), host: host.clone(), path });
            }
        }
    }
    Err("other routes take every request of it that was tried".to_owned())
}

fn methods(route: &RouteConfig) -> impl Iterator<Item = Method> {
    let usual = [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS];
    let named = route.methods.clone();
    let all = named.is_empty();
    // GET first where it is among them: most rows ask by it.
    let first = usual.into_iter().filter(move |method| all || named.contains(method));
    first.chain(route.methods.clone())
}

fn hosts(route: &RouteConfig, word: &str) -> Vec<String> {
    match route.host.as_deref() {
        None => vec![format!("{word}.invalid"), format!("{word}.example"), "127.0.0.1".to_owned()],
        Some(pattern) => match pattern.strip_prefix('*') {
            Some(rest) => vec![format!("{word}{rest}")],
            None if pattern.contains(':') => vec![format!("[{pattern}]")],
            None => vec![pattern.to_owned()],
        },
    }
}

/// The pattern with `word` in the place of each parameter; doubled braces are single ones.
fn filled(pattern: &str, word: &str) -> String {
    let mut out = String::with_capacity(pattern.len());
    let mut rest = pattern.chars().peekable();
    while let Some(next) = rest.next() {
        match next {
            '{' | '}' if rest.peek() == Some(&next) => {
                rest.next();
                out.push(next);
            }
            '{' => {
                for inside in rest.by_ref() {
                    if inside == '}' {
                        break;
                    }
                }
                out.push_str(word);
            }
            other => out.push(other),
        }
    }
    path::normalise(out.as_bytes()).into_owned()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::*;

    fn visits(routes: &str) -> Vec<Result<Visit, String>> {
        let text = format!(
            "version: 1\nlisten: [{{ address: 127.0.0.1:0 }}]\nupstreams: {{ u: {{ servers: [127.0.0.1:1] }} }}\nroutes:\n{routes}"
        );
        let config = crate::config::load_str("test.yaml", &text, &|_| None, 1)
            .unwrap_or_else(|problems| panic!("{problems}"));
        Map::of(&config).unwrap().visits
    }

    fn told(visit: &Result<Visit, String>) -> String {
        match visit {
            Ok(visit) => format!("{} {}{}", visit.method, visit.host, visit.path),
            Err(why) => why.clone(),
        }
    }

    #[test]
    fn every_route_gets_a_request_that_reaches_it_and_no_other() {
        let found = visits(
            "  - { name: a, match: { host: \"*.example.com\", path: \"/x/{id}/y\", methods: [POST] }, upstream: u }\n  \
               - { name: b, match: { path: \"/{*rest}\" }, upstream: u, deny: { methods: [GET] } }\n  \
               - { name: c, match: { path: \"/files/{*rest}\" }, upstream: u }\n  \
               - { name: d, match: { path: /files/rehearsal }, upstream: u }\n",
        );
        let told: Vec<_> = found.iter().map(told).collect();
        assert_eq!(
            told,
            [
                "POST rehearsal.example.com/x/rehearsal/y",
                "POST rehearsal.invalid/rehearsal",
                "GET rehearsal-7f3a.invalid/files/rehearsal-7f3a",
                "GET rehearsal.invalid/files/rehearsal",
            ]
        );
    }

    #[test]
    fn braces_of_a_pattern_are_told_from_parameters() {
        assert_eq!(filled("/a/{b}/{*c}", "w"), "/a/w/w");
        assert_eq!(filled("/a/{b}.json", "w"), "/a/w.json");
    }
}
