//! CORS: adds the fields of the policy for a request to the response headers.
//!
//! [`crate::http::cors`] implements the policy. [`crate::snapshot::ResponseSettings`] has the one that applies.

use std::sync::Arc;

use http::Method;
use http::header::ACCESS_CONTROL_REQUEST_METHOD;

use super::ResponseHeaderMutations;
use crate::contract::grpc::GrpcFamily;
use crate::contract::{Cause, Evidence, Fault, Phase};
use crate::http::cors::{self, CallKind, CorsPolicy, PreflightRequest, PreflightResult};
use crate::http::request_head;
use crate::proxy::message::request::Request;

/// Adds the CORS fields for a request to its response headers.
pub(in crate::proxy) fn apply(
    header_mutations: &mut ResponseHeaderMutations,
    policy: Option<&Arc<CorsPolicy>>,
    request: &Request,
) {
    if let Some(policy) = policy {
        let call = CallKind::of(request.grpc_family());
        header_mutations.apply_cors(policy, single_origin(request), cors::VARY_ORIGIN, call);
    }
}

/// The response headers for a rejected request. `origin` is its `Origin`, as far as it could be parsed.
pub(in crate::proxy) fn for_rejected(
    policy: Option<&Arc<CorsPolicy>>,
    origin: Option<&[u8]>,
    grpc: Option<GrpcFamily>,
) -> ResponseHeaderMutations {
    let mut header_mutations = ResponseHeaderMutations::default();
    if let Some(policy) = policy {
        header_mutations.apply_cors(policy, origin, cors::VARY_ORIGIN, CallKind::of(grpc));
    }
    header_mutations
}

/// The method that a preflight requests.
#[derive(Debug)]
pub(in crate::proxy) enum PreflightMethod {
    /// The preflight is routed by it.
    Routable(Method),
    /// TRACE, CONNECT, or not a method: the gateway never accepts it, so no route has it.
    NeverAccepted,
}

impl PreflightMethod {
    /// The method; `None` for one that the gateway never accepts.
    fn accepted(&self) -> Option<&Method> {
        match self {
            PreflightMethod::Routable(method) => Some(method),
            PreflightMethod::NeverAccepted => None,
        }
    }
}

/// The method that a preflight requests; `None` if the request is not a preflight.
pub(in crate::proxy) fn preflight_method(request: &Request) -> Option<PreflightMethod> {
    if request.method != Method::OPTIONS || single_origin(request).is_none() {
        return None;
    }
    let method = request.fields.value(ACCESS_CONTROL_REQUEST_METHOD.as_str())?;
    let method = request_head::check_method(method);
    Some(method.map_or(PreflightMethod::NeverAccepted, PreflightMethod::Routable))
}

/// The fields of the response to a preflight.
///
/// # Errors
/// `http_request_denied` if the origin is not allowed: `response_headers` then has the fields for the error response.
pub(in crate::proxy) fn preflight(
    header_mutations: &mut ResponseHeaderMutations,
    policy: &Arc<CorsPolicy>,
    request: &Request,
    method: &PreflightMethod,
    has_route: bool,
) -> Result<Vec<cors::HeaderField>, Fault> {
    let origin = single_origin(request).unwrap_or_default();
    let preflight_request = PreflightRequest { origin, method: method.accepted(), has_route };
    let headers = request.fields.values("access-control-request-headers");
    match policy.preflight(&preflight_request, headers) {
        PreflightResult::Allowed(fields) => Ok(fields),
        PreflightResult::OriginNotAllowed => {
            header_mutations.apply_cors(policy, None, cors::VARY_PREFLIGHT, CallKind::Http);
            let evidence = Evidence::from_static("the origin of the preflight is not in allow_origins");
            Err(Fault::new(Cause::HttpRequestDenied, Phase::Admit).with_evidence(evidence))
        }
    }
}

/// The `Origin` of the request; `None` if it is repeated.
fn single_origin(request: &Request) -> Option<&[u8]> {
    let mut values = request.fields.values("origin");
    let origin = values.next()?;
    values.next().is_none().then_some(origin)
}
