//! What a route changes in a request and its responses: header edits, the path, and the target of a redirect.
//!
//! Values are as received, never decoded; [`crate::http::value_template`] defines the placeholders.

use std::borrow::Cow;

use bytes::Bytes;
use http::HeaderValue;

use super::context::RequestContext;
use super::header_mutations::ResponseHeaderMutations;
use super::message::request::Request;
use crate::config::Redirect;
use crate::contract::{Cause, Evidence, Fault, Phase};
use crate::http::authority;
use crate::http::header_edits::{HeaderEdits, RenderedEdits};
use crate::http::path_rewrite::PathRewrite;
use crate::http::target::{Ambiguity, MAX_TARGET_LEN};
use crate::http::value_template::Placeholder;
use crate::snapshot::Route;

/// Applies the route's `response_headers`. They are for every response of the route, so this comes first.
pub(super) fn apply_response_edits(
    header_mutations: &mut ResponseHeaderMutations,
    context: &RequestContext<'_>,
    request: &Request,
) {
    if let Some(route) = context.route
        && !route.config.response_edits.is_empty()
    {
        header_mutations.set_edits(render(&route.config.response_edits, context, route, request));
    }
}

/// Checks the target that the upstream gets, and returns it if the route rewrites the path. The query stays. A server
/// may put its base path before it.
///
/// # Errors
/// `ambiguous_path`: the rewritten path, or one after a base path, has dot segments. `uri_too_long`.
pub(super) fn upstream_target(route: &Route, request: &Request) -> Result<Option<Bytes>, Fault> {
    let longest_base = route.upstream.longest_base_path();
    let target = match &route.config.path_rewrite {
        None if longest_base == 0 => return Ok(None),
        // Dot segments could lead out of the base path.
        None if request.ambiguity == Some(Ambiguity::DotSegments) => {
            let evidence = Evidence::from_static("a path with dot segments cannot follow a base path");
            return Err(Fault::new(Cause::AmbiguousPath, Phase::Admit).with_evidence(evidence));
        }
        None => None,
        Some(rewrite) => Some(rewrite_target(rewrite, request)?),
    };
    if longest_base + target.as_ref().unwrap_or(&request.target).len() > MAX_TARGET_LEN {
        let evidence =
            Evidence::from_static("the target, with path rewrite and base path, is longer than 65,534 bytes");
        return Err(Fault::new(Cause::UriTooLong, Phase::Admit).with_evidence(evidence));
    }
    Ok(target)
}

fn rewrite_target(rewrite: &PathRewrite, request: &Request) -> Result<Bytes, Fault> {
    let path = rewrite.apply(request.path()).map_err(|rejection| {
        Fault::new(rejection.cause, Phase::Admit).with_evidence(Evidence::from_static(rejection.evidence))
    })?;
    let query = request.target.get(request.path().len()..).unwrap_or_default();
    Ok([&path, query].concat().into())
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
        Placeholder::ClientIp => {
            context.client_address.ip().map(|ip| Cow::Owned(ip.to_string().into_bytes()))
        }
        Placeholder::Host => (!host.is_empty()).then(|| Cow::Owned(host.as_bytes().to_vec())),
        Placeholder::Path => Some(Cow::Borrowed(request.path())),
        Placeholder::RequestId => Some(Cow::Borrowed(context.request_id.as_bytes())),
        Placeholder::ClientCertSubject => {
            context.certificate?.subject().map(|subject| Cow::Borrowed(subject.as_bytes()))
        }
        Placeholder::ClientCertFingerprint => {
            Some(Cow::Borrowed(context.certificate?.fingerprint().as_bytes()))
        }
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
