//! Finds a request for each route: a method, a host and a path that the router matches to this route.
//!
//! The search replaces the parameters of the pattern with fixed words and asks the router for the matching route.

use http::Method;

use crate::config::{Config, ErrorSettings, RouteConfig};
use crate::http::route_conditions::BareRequest;
use crate::http::{authority, path};
use crate::snapshot::router::Router;

/// A request that reaches its route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RouteProbe {
    /// Index of the route.
    pub(super) route_index: usize,
    pub(super) method: Method,
    pub(super) host: String,
    pub(super) path: String,
}

/// The probes of all routes, and the router that matched them.
#[derive(Debug)]
pub(super) struct RouteProbes {
    router: Router,
    /// One entry per route; an error message if no request reaches the route.
    pub(super) probes: Vec<Result<RouteProbe, String>>,
}

impl RouteProbes {
    /// Finds the probes of all routes.
    pub(super) fn build(config: &Config) -> Result<RouteProbes, String> {
        let router = Router::build(&config.routes)?;
        let probes = config.routes.iter().enumerate();
        let probes = probes.map(|(index, route)| find_probe(&router, index, route)).collect();
        Ok(RouteProbes { router, probes })
    }

    /// The index of the route that matches this request.
    pub(super) fn route_for(&self, host: &str, raw_path: &str, method: &Method) -> Option<usize> {
        let path = path::normalise(raw_path.as_bytes());
        self.router.find(&authority::routing_host(host.as_bytes()), &path, method, &BareRequest)
    }

    /// The rules of a request for the probe's host that no route matches. If `same_path`, only its method differs.
    pub(super) fn unrouted_settings<'a>(
        &self,
        config: &'a Config,
        probe: &RouteProbe,
        same_path: bool,
    ) -> &'a ErrorSettings {
        let host = authority::routing_host(probe.host.as_bytes());
        let path = path::normalise(probe.path.as_bytes());
        let index = if same_path {
            self.router.first_for_path(&host, &path)
        } else {
            self.router.first_for_host(&host)
        };
        let route = index.and_then(|index| config.routes.get(index));
        route.map_or(&config.errors, |route| &route.errors)
    }

    /// Whether the probe reaches the same route with this method.
    pub(super) fn accepts(&self, probe: &RouteProbe, method: &Method) -> bool {
        self.route_for(&probe.host, &probe.path, method) == Some(probe.route_index)
    }
}

/// Values for parameters, tried in order: another route may match the first one literally.
const PARAMETER_VALUES: [&str; 3] = ["verify", "verify-7f3a", "7"];

fn find_probe(router: &Router, index: usize, route: &RouteConfig) -> Result<RouteProbe, String> {
    let allowed: Vec<Method> = candidate_methods(route).filter(|method| !route.denies(method)).collect();
    if allowed.is_empty() {
        return Err("the route denies every method that it matches".to_owned());
    }
    for value in PARAMETER_VALUES {
        let path = fill_parameters(&route.path, value);
        for host in candidate_hosts(route, value) {
            let routing_host = authority::routing_host(host.as_bytes());
            let normalised = path::normalise(path.as_bytes());
            let reaches = |method: &&Method| {
                router.find(&routing_host, &normalised, method, &BareRequest) == Some(index)
            };
            if let Some(method) = allowed.iter().find(reaches) {
                return Ok(RouteProbe {
                    route_index: index,
                    method: method.clone(),
                    host: host.clone(),
                    path,
                });
            }
        }
    }
    Err("other routes match every request that was tried for this route".to_owned())
}

fn candidate_methods(route: &RouteConfig) -> impl Iterator<Item = Method> {
    let common = [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS];
    let listed = route.methods.clone();
    let any_method = listed.is_empty();
    // GET first if it is allowed: most rows use it.
    let first = common.into_iter().filter(move |method| any_method || listed.contains(method));
    first.chain(route.methods.clone())
}

fn candidate_hosts(route: &RouteConfig, value: &str) -> Vec<String> {
    match route.host.as_deref() {
        None => vec![format!("{value}.invalid"), format!("{value}.example"), "127.0.0.1".to_owned()],
        Some(pattern) => match pattern.strip_prefix('*') {
            Some(rest) => vec![format!("{value}{rest}")],
            None if pattern.contains(':') => vec![format!("[{pattern}]")],
            None => vec![pattern.to_owned()],
        },
    }
}

/// Replaces each parameter of the pattern with `value`; doubled braces are literal ones.
fn fill_parameters(pattern: &str, value: &str) -> String {
    let mut filled = String::with_capacity(pattern.len());
    let mut rest = pattern.chars().peekable();
    while let Some(next) = rest.next() {
        match next {
            '{' | '}' if rest.peek() == Some(&next) => {
                rest.next();
                filled.push(next);
            }
            '{' => {
                for inside in rest.by_ref() {
                    if inside == '}' {
                        break;
                    }
                }
                filled.push_str(value);
            }
            other => filled.push(other),
        }
    }
    path::normalise(filled.as_bytes()).into_owned()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::*;

    fn probes_for(routes: &str) -> Vec<Result<RouteProbe, String>> {
        let text = format!(
            "version: 1\nlisten: [{{ address: 127.0.0.1:0 }}]\nupstreams: {{ u: {{ servers: [127.0.0.1:1] }} }}\nroutes:\n{routes}"
        );
        let config = crate::config::load_str("test.yaml", &text, &|_| None, 1)
            .unwrap_or_else(|problems| panic!("{problems}"));
        RouteProbes::build(&config).unwrap().probes
    }

    fn describe(probe: &Result<RouteProbe, String>) -> String {
        match probe {
            Ok(probe) => format!("{} {}{}", probe.method, probe.host, probe.path),
            Err(why) => why.clone(),
        }
    }

    #[test]
    fn route_probe_reaches_its_own_route_and_no_other() {
        let found = probes_for(
            "  - { name: a, match: { host: \"*.example.com\", path: \"/x/{id}/y\", methods: [POST] }, upstream: u }\n  \
               - { name: b, match: { path: \"/{*rest}\" }, upstream: u, deny: { methods: [GET] } }\n  \
               - { name: c, match: { path: \"/files/{*rest}\" }, upstream: u }\n  \
               - { name: d, match: { path: /files/verify }, upstream: u }\n",
        );
        let described: Vec<_> = found.iter().map(describe).collect();
        assert_eq!(
            described,
            [
                "POST verify.example.com/x/verify/y",
                "POST verify.invalid/verify",
                "GET verify-7f3a.invalid/files/verify-7f3a",
                "GET verify.invalid/files/verify",
            ]
        );
    }

    #[test]
    fn parameter_filling_replaces_only_parameters_in_a_pattern() {
        assert_eq!(fill_parameters("/a/{b}/{*c}", "w"), "/a/w/w");
        assert_eq!(fill_parameters("/a/{b}.json", "w"), "/a/w.json");
    }
}
