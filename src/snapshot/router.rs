//! Host, path and method to a route: host first (exact, then the longest wildcard, then any), then path, then method.
//!
//! A route whose methods do not match is skipped as if it were not there: each method that the configuration names has
//! a tree of its own. `/x/{*rest}` includes `/x/`. Pure: it sees a host, a normalised path and a method, and returns
//! the index of a route.

use std::collections::HashMap;

use http::Method;

use crate::config;
use crate::protocol::authority;

/// The compiled routes.
#[derive(Debug)]
pub struct Router {
    exact: HashMap<String, Host>,
    /// Longest pattern first.
    wildcard: Vec<(String, Host)>,
    any: Host,
}

/// The routes of one host pattern.
#[derive(Debug, Default)]
struct Host {
    /// One tree for each method that any of its routes names.
    named: Vec<(Method, matchit::Router<usize>)>,
    /// For every other method: the routes that take all.
    other: matchit::Router<usize>,
}

impl Router {
    /// Compiles the routes.
    ///
    /// # Errors
    /// A sentence that names the route whose pattern is not taken.
    pub fn build(routes: &[config::RouteConfig]) -> Result<Router, String> {
        let mut exact: HashMap<String, Vec<usize>> = HashMap::new();
        let mut wildcard: HashMap<String, Vec<usize>> = HashMap::new();
        let mut any: Vec<usize> = Vec::new();
        for (index, route) in routes.iter().enumerate() {
            match &route.host {
                None => any.push(index),
                Some(host) if host.starts_with("*.") => wildcard.entry(host.clone()).or_default().push(index),
                Some(host) => exact.entry(host.clone()).or_default().push(index),
            }
        }
        let mut wildcard: Vec<(String, Host)> = wildcard
            .into_iter()
            .map(|(pattern, indices)| Ok((pattern, Host::build(routes, &indices)?)))
            .collect::<Result<_, String>>()?;
        wildcard.sort_by(|(one, _), (other, _)| other.len().cmp(&one.len()).then_with(|| one.cmp(other)));
        let exact = exact
            .into_iter()
            .map(|(host, indices)| Ok((host, Host::build(routes, &indices)?)))
            .collect::<Result<_, String>>()?;
        Ok(Router { exact, wildcard, any: Host::build(routes, &any)? })
    }

    /// The route's index; `host` as [`authority::routing_host`] gives it, `path` normalised.
    pub fn find(&self, host: &str, path: &str, method: &Method) -> Option<usize> {
        let exact = if self.exact.is_empty() { None } else { self.exact.get(host) };
        let wildcard = self.wildcard.iter().filter(|(pattern, _)| authority::matches_pattern(pattern, host));
        exact
            .into_iter()
            .chain(wildcard.map(|(_, routes)| routes))
            .chain(std::iter::once(&self.any))
            .find_map(|routes| routes.find(path, method))
    }
}

impl Host {
    fn build(routes: &[config::RouteConfig], indices: &[usize]) -> Result<Host, String> {
        let here: Vec<(usize, &config::RouteConfig)> =
            indices.iter().filter_map(|index| routes.get(*index).map(|route| (*index, route))).collect();
        let mut methods: Vec<Method> =
            here.iter().flat_map(|(_, route)| route.methods.iter().cloned()).collect();
        if methods.contains(&Method::GET) {
            methods.push(Method::HEAD);
        }
        methods.sort_by(|one, other| one.as_str().cmp(other.as_str()));
        methods.dedup();
        let named = methods
            .into_iter()
            .map(|method| {
                let tree = tree(here.iter().filter(|(_, route)| takes(route, &method)))?;
                Ok((method, tree))
            })
            .collect::<Result<_, String>>()?;
        Ok(Host { named, other: tree(here.iter().filter(|(_, route)| route.methods.is_empty()))? })
    }

    fn find(&self, path: &str, method: &Method) -> Option<usize> {
        let tree = self.named.iter().find(|(named, _)| named == method).map_or(&self.other, |(_, tree)| tree);
        tree.at(path).ok().map(|found| *found.value)
    }
}

/// HEAD is served where GET is.
fn takes(route: &config::RouteConfig, method: &Method) -> bool {
    route.methods.is_empty()
        || route.methods.contains(method)
        || (*method == Method::HEAD && route.methods.contains(&Method::GET))
}

/// Explicit patterns go in first: a catch-all adds the path it hangs on only where no route has it, and a route that
/// names the method goes before one that takes all.
fn tree<'a>(
    routes: impl Iterator<Item = &'a (usize, &'a config::RouteConfig)>,
) -> Result<matchit::Router<usize>, String> {
    let mut routes: Vec<_> = routes.collect();
    routes.sort_by_key(|(_, route)| route.methods.is_empty());
    let mut tree = matchit::Router::new();
    let mut taken: Vec<String> = Vec::new();
    for (index, route) in &routes {
        let pattern = anonymous(&route.path);
        if taken.contains(&pattern) {
            continue;
        }
        tree.insert(pattern.clone(), *index).map_err(|error| {
            format!("the path pattern {} of route {} is not taken: {error}", route.path, route.name)
        })?;
        taken.push(pattern);
    }
    for (index, route) in &routes {
        if let Some(base) = catch_all_base(&route.path) {
            let base = anonymous(base);
            if !taken.contains(&base) && tree.insert(base.clone(), *index).is_ok() {
                taken.push(base);
            }
        }
    }
    Ok(tree)
}

/// `/x/` of `/x/{*rest}`.
fn catch_all_base(path: &str) -> Option<&str> {
    let (base, last) = path.rsplit_once('/')?;
    let end = base.len() + 1;
    (last.starts_with("{*")).then(|| path.get(..end)).flatten()
}

/// The pattern with its parameters named by position: `/{a}/x` and `/{b}/y` are then one tree, not a conflict.
fn anonymous(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    let mut parameters = 0_u32;
    let mut rest = path;
    while let Some(open) = rest.find('{') {
        let (before, from) = rest.split_at_checked(open).unwrap_or((rest, ""));
        out.push_str(before);
        if let Some(after) = from.strip_prefix("{{") {
            out.push_str("{{");
            rest = after;
            continue;
        }
        let close = from.find('}').unwrap_or(from.len());
        let star = if from.starts_with("{*") { "*" } else { "" };
        out.push_str(&format!("{{{star}p{parameters}}}"));
        parameters += 1;
        rest = from.get(close + 1..).unwrap_or_default();
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// (name, host, path, methods) to a router and a finder by name.
    fn finder(
        routes: &[(&'static str, Option<&str>, &str, &[Method])],
    ) -> impl Fn(&str, &str, Method) -> Option<&'static str> {
        let names: Vec<&'static str> = routes.iter().map(|route| route.0).collect();
        let text: String = routes
            .iter()
            .map(|(name, host, path, methods)| {
                let host = host.map_or(String::new(), |host| format!("host: \"{host}\", "));
                let methods: Vec<&str> = methods.iter().map(Method::as_str).collect();
                format!("  - {{ name: {name}, match: {{ {host}path: \"{path}\", methods: [{}] }}, upstream: u }}\n", methods.join(", "))
            })
            .collect();
        let text = format!(
            "version: 1\nlisten: [{{ address: 127.0.0.1:0 }}]\nupstreams: {{ u: {{ servers: [127.0.0.1:1] }} }}\nroutes:\n{}",
            text.replace(", methods: []", "")
        );
        let config = config::load_str("test.yaml", &text, &|_| None, 1)
            .unwrap_or_else(|problems| panic!("{problems}"));
        let router = Router::build(&config.routes).unwrap();
        move |host, path, method| router.find(host, path, &method).and_then(|index| names.get(index).copied())
    }

    #[test]
    fn the_most_precise_host_wins_and_a_miss_falls_through() {
        let find = finder(&[
            ("any", None, "/{*rest}", &[]),
            ("wide", Some("*.example.com"), "/{*rest}", &[]),
            ("deep", Some("*.eu.example.com"), "/{*rest}", &[]),
            ("exact", Some("api.example.com"), "/v1/{*rest}", &[]),
        ]);
        assert_eq!(find("api.example.com", "/v1/x", Method::GET), Some("exact"));
        assert_eq!(find("api.example.com", "/v2/x", Method::GET), Some("wide"));
        assert_eq!(find("a.b.eu.example.com", "/", Method::GET), Some("deep"));
        assert_eq!(find("example.com", "/", Method::GET), Some("any"));
    }

    #[test]
    fn a_route_whose_methods_do_not_match_is_skipped() {
        let find = finder(&[
            ("login", None, "/v1/login", &[Method::POST]),
            ("read", None, "/v1/{x}", &[Method::GET]),
            ("all", None, "/{*rest}", &[]),
        ]);
        assert_eq!(find("a", "/v1/login", Method::POST), Some("login"));
        assert_eq!(find("a", "/v1/login", Method::GET), Some("read"));
        assert_eq!(find("a", "/v1/login", Method::HEAD), Some("read"));
        assert_eq!(find("a", "/v1/login", Method::PUT), Some("all"));
        assert_eq!(find("a", "/", Method::PUT), Some("all"), "a catch-all includes the path it hangs on");
    }

    #[test]
    fn a_catch_all_includes_its_slash_and_nothing_above_it() {
        let find = finder(&[("x", None, "/x/{*rest}", &[])]);
        assert_eq!(find("a", "/x/", Method::GET), Some("x"));
        assert_eq!(find("a", "/x/y/z", Method::GET), Some("x"));
        assert_eq!(find("a", "/x", Method::GET), None);
        assert_eq!(find("a", "*", Method::OPTIONS), None);
    }

    #[test]
    fn parameters_of_different_names_share_a_tree() {
        let find = finder(&[
            ("one", None, "/{a}/x", &[]),
            ("two", None, "/{b}/y", &[]),
            ("static", None, "/s/x", &[]),
        ]);
        assert_eq!(find("a", "/q/x", Method::GET), Some("one"));
        assert_eq!(find("a", "/q/y", Method::GET), Some("two"));
        assert_eq!(find("a", "/s/x", Method::GET), Some("static"));
    }
}
