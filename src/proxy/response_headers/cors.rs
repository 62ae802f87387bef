//! Whose pages may read an answer: finds the rules that hold for a request and dresses its answers by them.
//!
//! Which origin is allowed, and what a browser is told, is decided in [`crate::http::cors`]. A request that reaches a
//! route has the route's rules, every other those of the top level.

use std::sync::Arc;

use http::Method;
use http::header::ACCESS_CONTROL_REQUEST_METHOD;

use super::ResponseHeaderMutations;
use crate::http::cors::{self, CorsPolicy, PreflightRequest, PreflightResult};
use crate::http::request_head;
use crate::proxy::gateway::Gateway;
use crate::proxy::message::request::Request;
use crate::snapshot::{Route, Snapshot};

/// The rules that hold, if any do: the route's, or those of requests that reach none.
pub(in crate::proxy) fn policy<'a>(
    snapshot: &'a Snapshot,
    route: Option<&'a Route>,
) -> Option<&'a Arc<CorsPolicy>> {
    match route {
        Some(route) => route.config.cors.as_ref(),
        None => snapshot.unrouted.cors.as_ref(),
    }
}

/// Dresses the answers of a request.
pub(in crate::proxy) fn apply(
    response_headers: &mut ResponseHeaderMutations,
    snapshot: &Snapshot,
    route: Option<&Route>,
    request: &Request,
) {
    if let Some(policy) = policy(snapshot, route) {
        response_headers.apply_cors(policy, single_origin(request), cors::VARY_ORIGIN);
    }
}

/// What the answer to a head that is no request wears. `single_origin`: what it says of one, as far as it can be read.
pub(in crate::proxy) fn unrouted_response_headers(
    gateway: &Gateway,
    origin: Option<&[u8]>,
) -> ResponseHeaderMutations {
    let mut response_headers = ResponseHeaderMutations::default();
    if let Some(policy) = &gateway.snapshot.load().unrouted.cors {
        response_headers.apply_cors(policy, origin, cors::VARY_ORIGIN);
    }
    response_headers
}

/// The method that a preflight asks for; `None` where the request is no preflight.
pub(in crate::proxy) fn preflight_method(request: &Request) -> Option<Method> {
    if request.method != Method::OPTIONS || single_origin(request).is_none() {
        return None;
    }
    let method = request.fields.value(ACCESS_CONTROL_REQUEST_METHOD.as_str())?;
    // One that we would never serve is no question.
    request_head::check_method(method).ok()
}

/// Answers a preflight; `None` when the page is foreign, and then the dress is that of its refusal.
pub(in crate::proxy) fn preflight(
    response_headers: &mut ResponseHeaderMutations,
    policy: &Arc<CorsPolicy>,
    request: &Request,
    method: &Method,
) -> Option<Vec<cors::HeaderField>> {
    let preflight_request = PreflightRequest { origin: single_origin(request).unwrap_or_default(), method };
    let headers = request.fields.values("access-control-request-headers");
    match policy.preflight(&preflight_request, headers) {
        PreflightResult::Allowed(fields) => Some(fields),
        PreflightResult::OriginNotAllowed => {
            response_headers.apply_cors(policy, None, cors::VARY_PREFLIGHT);
            None
        }
    }
}

/// The only `Origin` of the request. Two of them are none.
fn single_origin(request: &Request) -> Option<&[u8]> {
    let mut values = request.fields.values("origin");
    let origin = values.next()?;
    values.next().is_none().then_some(origin)
}
