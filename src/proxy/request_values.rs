//! What a route changes in a request and its responses: header edits, the path, and the target of a redirect.
//!
//! Values are as received, never decoded; [`crate::http::value_template`] defines the placeholders.

use std::borrow::Cow;

use bytes::Bytes;
use http::HeaderValue;

use super::context::RequestContext;
use super::message::request::Request;
use super::response_headers::ResponseHeaderMutations;
use crate::config::Redirect;
use crate::contract::{Cause, Evidence, Fault, Phase};
use crate::http::authority;
use crate::http::header_edits::{HeaderEdits, RenderedEdits};
use crate::http::value_template::Placeholder;
use crate::snapshot::Route;

/// Applies the route's `response_headers`. They are for every response of the route, so this comes first.
pub(super) fn apply_response_edits(
    response_headers: &mut ResponseHeaderMutations,
    context: &RequestContext<'_>,
    request: &Request,
) {
    if let Some(route) = context.route
        && !route.config.response_edits.is_empty()
    {
        response_headers.set_edits(render(&route.config.response_edits, context, route, request));
    }
}

/// The target that the upstream gets, if the route rewrites the path. The query stays.
///
/// # Errors
/// `ambiguous_path`: the rewritten path has dot segments.
pub(super) fn rewritten_target(route: &Route, request: &Request) -> Result<Option<Bytes>, Fault> {
    let Some(rewrite) = &route.config.path_rewrite else { return Ok(None) };
    let path = rewrite.apply(request.path()).map_err(|rejection| {
        Fault::new(rejection.cause, Phase::Admit).with_evidence(Evidence::from_static(rejection.evidence))
    })?;
    let query = request.target.get(request.path().len()..).unwrap_or_default();
    Ok(Some([&path, query].concat().into()))
}

/// The route's `request_headers` with their values; `None` if it has none.
pub(super) fn request_edits(
    context: &RequestContext<'_>,
    route: &Route,
    request: &Request,
) -> Option<RenderedEdits> {
    let edits = &route.config.request_edits;
    (!edits.is_empty()).then(|| render(edits, context, route, request))
}

fn render(
    edits: &HeaderEdits,
    context: &RequestContext<'_>,
    route: &Route,
    request: &Request,
) -> RenderedEdits {
    let parameters = route.config.pattern.values(request.path());
    let host = authority::routing_host(&request.authority);
    edits.render(|placeholder| match placeholder {
        Placeholder::ClientIp => context.client.ip().map(|ip| Cow::Owned(ip.to_string().into_bytes())),
        Placeholder::Host => (!host.is_empty()).then(|| Cow::Owned(host.as_bytes().to_vec())),
        Placeholder::Path => Some(Cow::Borrowed(request.path())),
        Placeholder::RequestId => Some(Cow::Borrowed(context.request_id.as_bytes())),
        Placeholder::Parameter(position) => parameters.get(position).map(|value| Cow::Borrowed(*value)),
    })
}

/// The value of `Location` for this request.
///
/// # Errors
/// Never for a redirect that `check` accepts: its value is ASCII.
pub(super) fn redirect_location(redirect: &Redirect, request: &Request) -> Result<HeaderValue, Fault> {
    let host = authority::routing_host(&request.authority);
    let location = redirect.target.location(&host, request.path(), request.query());
    HeaderValue::from_bytes(&location).map_err(|_| {
        let evidence = Evidence::from_static("the redirect target is not a field value");
        Fault::new(Cause::ProxyConfigurationError, Phase::Internal).with_evidence(evidence)
    })
}
