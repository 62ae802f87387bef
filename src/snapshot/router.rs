//! Maps host, path and method to a route: by host first (exact, then the longest wildcard, then any), then path, then
//! method.
//!
//! A route whose methods do not match is skipped: each configured method has its own tree. `/x/{*rest}` includes `/x`
//! and `/x/`. Routes with conditions (scheme, header fields, query) are not in the trees, nor are those whose parameter
//! stands where another route has a catch-all: they are tried one by one, and compete by the specificity of their path
//! with what the trees find. Pure: returns the index of the route for a request.

use std::collections::HashMap;

use http::Method;
use matchit::InsertError;

use crate::config;
use crate::http::authority;
use crate::http::route_conditions::{ConditionSource, RouteConditions};

/// The compiled routes.
#[derive(Debug)]
pub struct Router {
    exact: HashMap<String, HostRoutes>,
    /// Longest pattern first.
    wildcard: Vec<(String, HostRoutes)>,
    any: HostRoutes,
    /// The hosts of the routes, each with the index of its first route, in the order of the file.
    hosts: Vec<(Option<String>, usize)>,
    /// The routes one by one, in the order of the file.
    in_order: Vec<SingleRoute>,
}

/// Host and path of one route.
#[derive(Debug)]
struct SingleRoute {
    host: Option<String>,
    tree: matchit::Router<usize>,
}

/// The routes of one host pattern.
#[derive(Debug, Default)]
struct HostRoutes {
    /// One tree for each method that a route of this host lists.
    by_method: Vec<(Method, matchit::Router<usize>)>,
    /// For all other methods: the routes without a list of methods.
    any_method: matchit::Router<usize>,
    /// The routes that are not in a tree, because they have conditions or no tree can hold them: the most specific path
    /// first, then the one with more conditions, then the one that lists methods.
    sequential: Vec<SequentialRoute>,
    /// The specificity of every route's path, by its index; empty if all routes are in trees.
    specificities: Vec<Specificity>,
}

/// A route that is tried by itself. It may have no conditions.
#[derive(Debug)]
struct SequentialRoute {
    index: usize,
    specificity: Specificity,
    methods: Vec<Method>,
    conditions: RouteConditions,
    /// Matches the route's path alone.
    tree: matchit::Router<usize>,
}

/// Kinds of the segments of a path pattern. Of two patterns that match one path the smaller one is more specific.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Specificity(Vec<SegmentKind>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum SegmentKind {
    Static,
    /// A parameter with static text before or after it.
    PartlyStatic,
    Parameter,
    CatchAll,
}

impl Router {
    /// Compiles the routes.
    ///
    /// # Errors
    /// A message that names the route whose pattern was rejected.
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
        let mut wildcard: Vec<(String, HostRoutes)> = wildcard
            .into_iter()
            .map(|(pattern, indices)| Ok((pattern, HostRoutes::build(routes, &indices)?)))
            .collect::<Result<_, String>>()?;
        wildcard.sort_by(|(left, _), (right, _)| right.len().cmp(&left.len()).then_with(|| left.cmp(right)));
        let exact = exact
            .into_iter()
            .map(|(host, indices)| Ok((host, HostRoutes::build(routes, &indices)?)))
            .collect::<Result<_, String>>()?;
        let mut hosts: Vec<(Option<String>, usize)> = Vec::new();
        for (index, route) in routes.iter().enumerate() {
            if !hosts.iter().any(|(host, _)| *host == route.host) {
                hosts.push((route.host.clone(), index));
            }
        }
        let single = |(index, route): (usize, &config::RouteConfig)| {
            let tree = build_tree(std::iter::once(&(index, route)))?;
            Ok(SingleRoute { host: route.host.clone(), tree })
        };
        let in_order = routes.iter().enumerate().map(single).collect::<Result<_, String>>()?;
        Ok(Router { exact, wildcard, any: HostRoutes::build(routes, &any)?, hosts, in_order })
    }

    /// The first route of the file whose host matches. One without a host matches every host.
    pub(crate) fn first_for_host(&self, host: &str) -> Option<usize> {
        self.hosts.iter().find(|(pattern, _)| host_matches(pattern.as_deref(), host)).map(|(_, index)| *index)
    }

    /// The first route of the file whose host and path match, whatever its methods.
    pub(crate) fn first_for_path(&self, host: &str, path: &str) -> Option<usize> {
        self.in_order
            .iter()
            .position(|route| host_matches(route.host.as_deref(), host) && route.tree.at(path).is_ok())
    }

    /// Whether routes match host, path and conditions, whatever the method.
    pub(crate) fn has_other_methods(&self, host: &str, path: &str, source: &dyn ConditionSource) -> bool {
        self.host_routes(host).any(|routes| routes.allowed_methods(path, source).next().is_some())
    }

    /// The methods of the routes that match host, path and conditions, sorted. Empty if none does.
    pub(crate) fn allowed_methods(
        &self,
        host: &str,
        path: &str,
        source: &dyn ConditionSource,
    ) -> Vec<Method> {
        let mut methods: Vec<Method> =
            self.host_routes(host).flat_map(|routes| routes.allowed_methods(path, source)).cloned().collect();
        methods.sort_by(|left, right| left.as_str().cmp(right.as_str()));
        methods.dedup();
        methods
    }

    /// Returns the index of the route. `host` comes from [`authority::routing_host`]; `path` is normalised.
    pub fn find(
        &self,
        host: &str,
        path: &str,
        method: &Method,
        source: &dyn ConditionSource,
    ) -> Option<usize> {
        self.host_routes(host).find_map(|routes| routes.find(path, method, source))
    }

    /// The routes whose host matches, the most specific host first.
    fn host_routes(&self, host: &str) -> impl Iterator<Item = &HostRoutes> {
        let exact = if self.exact.is_empty() { None } else { self.exact.get(host) };
        let wildcard = self.wildcard.iter().filter(|(pattern, _)| authority::matches_pattern(pattern, host));
        exact.into_iter().chain(wildcard.map(|(_, routes)| routes)).chain(std::iter::once(&self.any))
    }
}

impl HostRoutes {
    fn build(routes: &[config::RouteConfig], indices: &[usize]) -> Result<HostRoutes, String> {
        let host_routes: Vec<(usize, &config::RouteConfig)> =
            indices.iter().filter_map(|index| routes.get(*index).map(|route| (*index, route))).collect();
        let mut shapes = matchit::Router::new();
        // A tree cannot hold `/{a}/x` and `/{*rest}`: the one that comes later in the file is tried by itself.
        let mut fits_tree = |path: &str| {
            let shape = with_positional_names(path);
            let inserted = shapes.insert(shape.clone(), ());
            !matches!(inserted, Err(InsertError::Conflict { with }) if with != shape)
        };
        let (sequential, host_routes): (Vec<_>, Vec<_>) = host_routes
            .into_iter()
            .partition(|(_, route)| route.conditions.count() > 0 || !fits_tree(&route.path));
        let mut methods: Vec<Method> =
            host_routes.iter().flat_map(|(_, route)| route.methods.iter().cloned()).collect();
        if methods.contains(&Method::GET) {
            methods.push(Method::HEAD);
        }
        methods.sort_by(|left, right| left.as_str().cmp(right.as_str()));
        methods.dedup();
        let by_method = methods
            .into_iter()
            .map(|method| {
                let tree = build_tree(host_routes.iter().filter(|(_, route)| route.accepts(&method)))?;
                Ok((method, tree))
            })
            .collect::<Result<_, String>>()?;
        Ok(HostRoutes {
            by_method,
            any_method: build_tree(host_routes.iter().filter(|(_, route)| route.methods.is_empty()))?,
            specificities: if sequential.is_empty() {
                Vec::new()
            } else {
                routes.iter().map(|route| Specificity::of(&route.path)).collect()
            },
            sequential: sequential_routes(&sequential)?,
        })
    }

    /// The listed methods whose routes match the path and their conditions.
    fn allowed_methods<'a>(
        &'a self,
        path: &'a str,
        source: &'a dyn ConditionSource,
    ) -> impl Iterator<Item = &'a Method> {
        let listed = self.by_method.iter().filter(move |(_, tree)| tree.at(path).is_ok());
        let sequential = self.sequential.iter().filter(move |route| route.applies(path, source));
        listed.map(|(method, _)| method).chain(sequential.flat_map(|route| &route.methods))
    }

    fn find(&self, path: &str, method: &Method, source: &dyn ConditionSource) -> Option<usize> {
        let tree = self
            .by_method
            .iter()
            .find(|(candidate, _)| candidate == method)
            .map_or(&self.any_method, |(_, tree)| tree);
        let from_tree = tree.at(path).ok().map(|matched| *matched.value);
        if self.sequential.is_empty() {
            return from_tree;
        }
        let accepted = |route: &&SequentialRoute| {
            (route.methods.is_empty() || route.methods.contains(method)) && route.applies(path, source)
        };
        let Some(sequential) = self.sequential.iter().find(accepted) else { return from_tree };
        let other = from_tree.and_then(|index| Some((index, self.specificities.get(index)?)));
        match other {
            Some((index, specificity)) if *specificity < sequential.specificity => Some(index),
            _ => Some(sequential.index),
        }
    }
}

impl SequentialRoute {
    /// Whether path and conditions match, whatever the method.
    fn applies(&self, path: &str, source: &dyn ConditionSource) -> bool {
        self.tree.at(path).is_ok() && self.conditions.hold(source)
    }
}

/// Compiles the routes with conditions, in the order in which they are tried.
fn sequential_routes(routes: &[(usize, &config::RouteConfig)]) -> Result<Vec<SequentialRoute>, String> {
    let mut compiled = Vec::with_capacity(routes.len());
    for route in routes {
        let (index, config) = *route;
        let mut methods = config.methods.clone();
        if methods.contains(&Method::GET) {
            methods.push(Method::HEAD);
        }
        compiled.push(SequentialRoute {
            index,
            specificity: Specificity::of(&config.path),
            methods,
            conditions: config.conditions.clone(),
            tree: build_tree(std::iter::once(route))?,
        });
    }
    compiled.sort_by(|left, right| {
        let more_conditions_first = right.conditions.count().cmp(&left.conditions.count());
        let listed_methods_first = left.methods.is_empty().cmp(&right.methods.is_empty());
        left.specificity.cmp(&right.specificity).then(more_conditions_first).then(listed_methods_first)
    });
    Ok(compiled)
}

impl Specificity {
    fn of(pattern: &str) -> Specificity {
        let kind = |segment: &str| match segment.replace("{{", "").replace("}}", "") {
            text if !text.contains('{') => SegmentKind::Static,
            text if text.starts_with("{*") => SegmentKind::CatchAll,
            text if text.starts_with('{') && text.ends_with('}') => SegmentKind::Parameter,
            _ => SegmentKind::PartlyStatic,
        };
        Specificity(pattern.split('/').skip(1).map(kind).collect())
    }
}

/// Whether the host pattern of a route matches a host.
fn host_matches(pattern: Option<&str>, host: &str) -> bool {
    pattern.is_none_or(|pattern| authority::matches_pattern(pattern, host))
}

/// Builds a tree. A route that lists the method precedes one for all methods. Explicit patterns are inserted first: a
/// catch-all adds its base path only if no route has it.
fn build_tree<'a>(
    routes: impl Iterator<Item = &'a (usize, &'a config::RouteConfig)>,
) -> Result<matchit::Router<usize>, String> {
    let mut routes: Vec<_> = routes.collect();
    routes.sort_by_key(|(_, route)| route.methods.is_empty());
    let mut tree = matchit::Router::new();
    let mut inserted: Vec<String> = Vec::new();
    for (index, route) in &routes {
        let pattern = with_positional_names(&route.path);
        if inserted.contains(&pattern) {
            continue;
        }
        tree.insert(pattern.clone(), *index).map_err(|error| {
            format!("the path pattern {} of route {} was rejected: {error}", route.path, route.name)
        })?;
        inserted.push(pattern);
    }
    for (index, route) in &routes {
        for base in catch_all_bases(&route.path) {
            let base = with_positional_names(base);
            if !inserted.contains(&base) && tree.insert(base.clone(), *index).is_ok() {
                inserted.push(base);
            }
        }
    }
    Ok(tree)
}

/// Returns `/x/` and `/x` for `/x/{*rest}`.
fn catch_all_bases(path: &str) -> impl Iterator<Item = &str> {
    let base = path.rsplit_once('/').filter(|(_, last)| last.starts_with("{*")).map(|(base, _)| base);
    let with_slash = base.and_then(|base| path.get(..=base.len()));
    with_slash.into_iter().chain(base.filter(|base| !base.is_empty()))
}

/// Renames the parameters by position, so that `/{a}/x` and `/{b}/y` do not conflict in one tree.
fn with_positional_names(path: &str) -> String {
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
        let catch_all = if from.starts_with("{*") { "*" } else { "" };
        out.push_str(&format!("{{{catch_all}p{parameters}}}"));
        parameters += 1;
        rest = from.get(close + 1..).unwrap_or_default();
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::route_conditions::BareRequest;

    /// A route of a test: name, host, path, methods.
    type TestRoute = (&'static str, Option<&'static str>, &'static str, &'static [Method]);

    fn router(routes: &[TestRoute]) -> Router {
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
        Router::build(&config.routes).unwrap()
    }

    /// Finds the name of the route for a host, a path and a method.
    fn finder(routes: &[TestRoute]) -> impl Fn(&str, &str, Method) -> Option<&'static str> {
        let names: Vec<&'static str> = routes.iter().map(|route| route.0).collect();
        let router = router(routes);
        move |host, path, method| {
            router.find(host, path, &method, &BareRequest).and_then(|index| names.get(index).copied())
        }
    }

    #[test]
    fn most_specific_host_wins_and_a_miss_falls_through() {
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
    fn allowed_methods_are_those_of_the_routes_that_match_host_and_path() {
        let router = router(&[
            ("read", Some("a.test"), "/x/{id}", &[Method::GET]),
            ("write", None, "/x/{*rest}", &[Method::PUT, Method::DELETE]),
            ("other", Some("b.test"), "/x/{id}", &[Method::PATCH]),
        ]);
        let allowed = |host, path| -> Vec<String> {
            router.allowed_methods(host, path, &BareRequest).iter().map(ToString::to_string).collect()
        };
        assert_eq!(allowed("a.test", "/x/1"), ["DELETE", "GET", "HEAD", "PUT"]);
        assert_eq!(allowed("c.test", "/x/1"), ["DELETE", "PUT"]);
        assert_eq!(allowed("a.test", "/y"), [""; 0]);
        assert!(
            router.has_other_methods("c.test", "/x/1", &BareRequest)
                && !router.has_other_methods("a.test", "/y", &BareRequest)
        );
    }

    #[test]
    fn first_route_of_the_file_that_matches_host_and_path_is_found() {
        let router = router(&[
            ("wide", Some("*.a.test"), "/x/{*rest}", &[Method::PUT]),
            ("exact", Some("b.a.test"), "/x/{id}", &[Method::GET]),
            ("any", None, "/y", &[]),
        ]);
        let first = |host| router.first_for_host(host);
        assert_eq!((first("b.a.test"), first("c.test"), first("")), (Some(0), Some(2), Some(2)));
        let first = |host, path| router.first_for_path(host, path);
        assert_eq!(first("b.a.test", "/x/1"), Some(0), "the order of the file, not the specificity");
        assert_eq!((first("b.a.test", "/y"), first("c.test", "/x/1")), (Some(2), None));
    }

    #[test]
    fn route_is_skipped_when_its_methods_do_not_match() {
        let find = finder(&[
            ("login", None, "/v1/login", &[Method::POST]),
            ("read", None, "/v1/{x}", &[Method::GET]),
            ("all", None, "/{*rest}", &[]),
        ]);
        assert_eq!(find("a", "/v1/login", Method::POST), Some("login"));
        assert_eq!(find("a", "/v1/login", Method::GET), Some("read"));
        assert_eq!(find("a", "/v1/login", Method::HEAD), Some("read"));
        assert_eq!(find("a", "/v1/login", Method::PUT), Some("all"));
        assert_eq!(find("a", "/", Method::PUT), Some("all"), "a catch-all includes its base path");
    }

    #[test]
    fn parameter_precedes_a_catch_all_of_the_same_segment() {
        let mut routes: [TestRoute; 6] = [
            ("all", None, "/{*rest}", &[]),
            ("tenant", None, "/{tenant}/x", &[]),
            ("users", None, "/u/{*rest}", &[]),
            ("user", None, "/u/{id}", &[]),
            ("put", None, "/u/{id}", &[Method::PUT]),
            ("posts", None, "/u/{id}/p", &[]),
        ];
        for _ in 0..2 {
            let find = finder(&routes);
            for (path, expected) in [
                ("/", "all"),
                ("/a", "all"),
                ("/a/x", "tenant"),
                ("/a/y", "all"),
                ("/u", "users"),
                ("/u/1", "user"),
                ("/u/1/p", "posts"),
                ("/u/1/q", "users"),
            ] {
                assert_eq!(find("h", path, Method::GET), Some(expected), "{path} of {routes:?}");
            }
            assert_eq!(find("h", "/u/1", Method::PUT), Some("put"));
            drop(find);
            routes.reverse();
        }
    }

    #[test]
    fn catch_all_includes_its_base_with_and_without_slash() {
        let find = finder(&[("x", None, "/x/{*rest}", &[])]);
        assert_eq!(find("a", "/x/", Method::GET), Some("x"));
        assert_eq!(find("a", "/x/y/z", Method::GET), Some("x"));
        assert_eq!(find("a", "/x", Method::GET), Some("x"));
        assert_eq!(find("a", "/xy", Method::GET), None);
        assert_eq!(find("a", "*", Method::OPTIONS), None);
    }

    #[test]
    fn parameters_with_different_names_share_a_tree() {
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
