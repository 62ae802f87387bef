//! The checks that deny a request before the rate limits: a denied request consumes nothing.
//!
//! [`check`] defines their order.

use std::time::Duration;

use http::Method;

use super::context::RequestContext;
use super::gateway::Gateway;
use super::message::request::Request;
use crate::contract::{Cause, Evidence, Fault, Phase};
use crate::http::framing::RequestFraming;
use crate::http::peer::Peer;
use crate::snapshot::Route;

/// Checks whether the route accepts the request, before the rate limits count it.
///
/// # Errors
/// The fault of the first check that denies it.
pub(super) fn check(context: &RequestContext<'_>, route: &Route, request: &Request) -> Result<(), Fault> {
    // A request in a loop would use up the quota of its client.
    check_loop(context.gateway, request)?;
    check_maintenance(route, context.client_address)?;
    check_deny_from(route, context.client_address)?;
    check_allow_from(route, context.client_address)?;
    check_method(route, &request.method)?;
    // A client must not get a 100 Continue for a body that is too large.
    check_length(route, request.framing)
}

/// Rejects a request that has already passed through this gateway (`Via`).
fn check_loop(gateway: &Gateway, request: &Request) -> Result<(), Fault> {
    if request.passed_through(gateway.pseudonym()) {
        return Err(denied(Cause::ProxyLoopDetected, "this gateway's Via pseudonym was received"));
    }
    Ok(())
}

/// Rejects every client that `maintenance.allow_from` does not list.
fn check_maintenance(route: &Route, client: Peer) -> Result<(), Fault> {
    let Some(maintenance) = &route.config.maintenance else { return Ok(()) };
    if client.is_in(&maintenance.allow_from) {
        return Ok(());
    }
    let fault = Fault::new(Cause::Maintenance, Phase::Admit).with_message(maintenance.message.clone());
    Err(match maintenance.retry_after {
        Some(seconds) => fault.with_retry_after(Duration::from_secs(seconds)),
        None => fault,
    })
}

/// `deny_from`.
fn check_deny_from(route: &Route, client: Peer) -> Result<(), Fault> {
    if client.is_in(&route.config.deny_from) {
        return Err(denied(Cause::HttpRequestDenied, "the client is in deny_from"));
    }
    Ok(())
}

/// `allow_from`.
fn check_allow_from(route: &Route, client: Peer) -> Result<(), Fault> {
    let networks = &route.config.allow_from;
    if !networks.is_empty() && !client.is_in(networks) {
        return Err(denied(Cause::HttpRequestDenied, "the client is not in allow_from"));
    }
    Ok(())
}

/// `deny.methods`.
fn check_method(route: &Route, method: &Method) -> Result<(), Fault> {
    if route.config.denies(method) {
        return Err(denied(Cause::HttpRequestDenied, "the method is in deny.methods"));
    }
    Ok(())
}

/// `max_body`, as far as the length is announced. [`super::upload`] checks other bodies while they arrive.
fn check_length(route: &Route, framing: RequestFraming) -> Result<(), Fault> {
    match framing {
        RequestFraming::Length(length) if length > route.config.max_body => {
            Err(denied(Cause::BodyTooLarge, "Content-Length is above max_body"))
        }
        RequestFraming::Length(_) | RequestFraming::None | RequestFraming::Chunked => Ok(()),
    }
}

fn denied(cause: Cause, evidence: &'static str) -> Fault {
    Fault::new(cause, Phase::Admit).with_evidence(Evidence::from_static(evidence))
}
