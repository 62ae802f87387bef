//! Finds the route of a request, by host, path and method.
//!
//! A CORS preflight is about another request: if a CORS policy applies to that request, the preflight is routed by the
//! method that it names.

use std::sync::Arc;

use http::{HeaderValue, Method};

use super::context::{RequestContext, request_origin};
use super::header_mutations::cors::{self, PreflightMethod};
use super::message::request::Request;
use crate::contract::{Cause, Evidence, Fault, Phase};
use crate::http::cors::CorsPolicy;
use crate::http::reported_origin::ListenerOrigin;
use crate::http::route_conditions::ConditionSource;
use crate::http::{authority, path};
use crate::snapshot::{ResponseSettings, Route, Snapshot};

/// The result of routing.
#[derive(Debug)]
pub(super) enum Routing<'a> {
    /// The request is for this route.
    Route(&'a Route),
    /// A preflight for a request with this method; the gateway responds to it by this policy.
    Preflight {
        route: Option<&'a Route>,
        settings: ResponseSettings<'a>,
        policy: &'a Arc<CorsPolicy>,
        method: PreflightMethod,
    },
    /// The request cannot be routed: no route matches, or the path is ambiguous. `allow` is the value of `Allow`, if
    /// only the method does not match.
    Unroutable { settings: ResponseSettings<'a>, fault: Fault, allow: Option<HeaderValue> },
}

impl<'a> Routing<'a> {
    /// The route of the request.
    pub(super) const fn route(&self) -> Option<&'a Route> {
        match self {
            Routing::Route(route) => Some(route),
            Routing::Preflight { route, .. } => *route,
            Routing::Unroutable { .. } => None,
        }
    }

    /// The `errors` and CORS configuration of the response.
    pub(super) fn settings(&self) -> ResponseSettings<'a> {
        match self {
            Routing::Route(route) => route.response_settings(),
            Routing::Preflight { settings, .. } | Routing::Unroutable { settings, .. } => *settings,
        }
    }
}

/// Routes a request that arrived at the listener with this index.
pub(super) fn route<'a>(
    context: &RequestContext<'a>,
    request: &Request,
    listener: usize,
    listener_origin: ListenerOrigin,
) -> Routing<'a> {
    let snapshot = context.snapshot;
    let lookup = RouteLookup {
        snapshot,
        context,
        listener,
        request,
        listener_origin,
        host: &authority::routing_host(&request.authority),
        path: &path::normalise(request.path()),
    };
    if let Some(method) = cors::preflight_method(request) {
        let by_method = |method| lookup.find(method).ok().flatten();
        // A preflight for TRACE, CONNECT or an invalid method has no route. The policy of the route for OPTIONS
        // responds to it; without one it is forwarded as an ordinary OPTIONS.
        let (route, options_route) = match &method {
            PreflightMethod::Routable(method) => (by_method(method), None),
            PreflightMethod::NeverAccepted => (None, by_method(&request.method)),
        };
        let settings =
            route.or(options_route).map_or_else(|| lookup.unrouted_settings(), Route::response_settings);
        if let Some(policy) = settings.cors {
            return Routing::Preflight { route, settings, policy, method };
        }
    }
    match lookup.find(&request.method) {
        Ok(Some(route)) => Routing::Route(route),
        Ok(None) => lookup.no_route(),
        Err(fault) => {
            let settings = snapshot.unrouted_settings(listener, Some(lookup.host), None);
            Routing::Unroutable { settings, fault, allow: None }
        }
    }
}

/// What a request is routed by, apart from the method: its host and path, and the source of its other conditions.
struct RouteLookup<'a, 'r> {
    snapshot: &'a Snapshot,
    context: &'r RequestContext<'a>,
    listener: usize,
    request: &'r Request,
    listener_origin: ListenerOrigin,
    host: &'r str,
    /// Normalised.
    path: &'r str,
}

impl<'a> RouteLookup<'a, '_> {
    /// The route for this method.
    ///
    /// # Errors
    /// `ambiguous_path`: the upstream could understand the path as that of another route.
    fn find(&self, method: &Method) -> Result<Option<&'a Route>, Fault> {
        let router = &self.snapshot.router;
        let index = router.find(self.host, self.path, method, self);
        let route = index.and_then(|index| self.snapshot.routes.get(index));
        if let Some(ambiguity) = self.request.ambiguity
            && !route.is_some_and(|route| route.config.lenient_paths)
        {
            return Err(ambiguous_path(ambiguity.evidence()));
        }
        if let Some(decoded) = path::decode_slashes(self.path) {
            // An upstream that decodes %2F would serve a path of another route, and bypass that route's rules.
            let other = router.find(self.host, &decoded, method, self);
            let reaches_other = if other.is_some() {
                other != index
            } else {
                router.has_other_methods(self.host, &decoded, self)
            };
            if route.is_some() && reaches_other {
                return Err(ambiguous_path("an encoded slash hides a path of another route"));
            }
        }
        Ok(route)
    }

    /// The result if no route matches.
    fn no_route(&self) -> Routing<'a> {
        let fault = |cause| Fault::new(cause, Phase::Route);
        let settings = self.unrouted_settings();
        if !self.snapshot.router.has_other_methods(self.host, self.path, self) {
            return Routing::Unroutable { settings, fault: fault(Cause::DestinationNotFound), allow: None };
        }
        let methods = self.snapshot.router.allowed_methods(self.host, self.path, self);
        let names: Vec<&str> = methods.iter().map(Method::as_str).collect();
        let allow = HeaderValue::from_str(&names.join(", ")).ok();
        Routing::Unroutable { settings, fault: fault(Cause::MethodNotAllowed), allow }
    }

    /// The settings of the response if no route has this host, path and method.
    fn unrouted_settings(&self) -> ResponseSettings<'a> {
        let other_methods = self.snapshot.router.has_other_methods(self.host, self.path, self);
        let path = other_methods.then_some(self.path);
        self.snapshot.unrouted_settings(self.listener, Some(self.host), path)
    }
}

impl ConditionSource for RouteLookup<'_, '_> {
    fn scheme(&self) -> &str {
        request_origin(self.context, self.request, self.listener_origin).scheme
    }

    fn header_values<'a>(&'a self, name: &'a str) -> Box<dyn Iterator<Item = &'a [u8]> + 'a> {
        Box::new(self.request.fields.values(name))
    }

    fn query(&self) -> &[u8] {
        self.request.query()
    }
}

fn ambiguous_path(evidence: &'static str) -> Fault {
    Fault::new(Cause::AmbiguousPath, Phase::Route).with_evidence(Evidence::from_static(evidence))
}
