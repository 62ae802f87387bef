//! Serves requests to the telemetry endpoints: a page, or a local reply.
//!
//! A [`PageHandler`] generates the pages. These requests are not counted in route metrics and not logged.

use std::fmt;

use http::{HeaderValue, Method};

use super::context::{Exchange, ReceivedRequest, RequestContext};
use super::downstream::Downstream;
use super::gateway::Gateway;
use super::local_reply;
use super::message::request::Request;
use super::reply_builder;
use crate::contract::{Cause, Evidence, Fault, PageResponse, Phase};
use crate::http::accept_encoding::prefers_gzip;
use crate::http::peer::Peer;

/// Generates the responses on a telemetry listener.
pub(crate) trait PageHandler: Send + Sync + fmt::Debug {
    /// Returns the page.
    ///
    /// # Errors
    /// The fault to respond with, for example an unknown path or a method that is not allowed.
    fn respond(&self, request: &PageRequest<'_>) -> Result<PageResponse, Fault>;

    /// The value of `Allow` where the method is not allowed.
    fn allowed_methods(&self) -> HeaderValue;
}

/// What a page depends on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PageRequest<'a> {
    /// The method.
    pub(crate) method: &'a Method,
    /// The path, without the query.
    pub(crate) path: &'a str,
    /// The client prefers gzip to an uncompressed page.
    pub(crate) prefers_gzip: bool,
}

/// Serves one request.
pub(super) async fn serve(
    gateway: &Gateway,
    handler: &dyn PageHandler,
    client: &mut Downstream,
    request: &Request,
) {
    let page = match std::str::from_utf8(request.path()) {
        Ok(path) => handler.respond(&PageRequest {
            method: &request.method,
            path,
            prefers_gzip: prefers_gzip(request.fields.values("accept-encoding")),
        }),
        Err(_) => Err(Fault::new(Cause::DestinationNotFound, Phase::Route)
            .with_evidence(Evidence::from_static("the path is not UTF-8"))),
    };
    let write_timeout = gateway.snapshot.load().client.write_timeout;
    match page {
        Ok(page) => {
            if let Some(sender) = client.response_sender() {
                local_reply::send_page(sender, &page, request.method == Method::HEAD, write_timeout).await;
            }
        }
        Err(fault) => {
            let allow = (fault.cause() == Cause::MethodNotAllowed).then(|| handler.allowed_methods());
            reply_to_fault(gateway, client, ReceivedRequest::Valid(request), &fault, allow).await;
        }
    }
}

/// Sends the error for a fault that occurs before the page is chosen.
pub(super) async fn reject(gateway: &Gateway, client: &mut Downstream, fault: Fault) {
    reply_to_fault(
        gateway,
        client,
        ReceivedRequest::Rejected {
            request_line: b"",
            grpc: None,
            accept: None,
            host: None,
            user_agent: None,
        },
        &fault,
        None,
    )
    .await;
}

async fn reply_to_fault(
    gateway: &Gateway,
    client: &mut Downstream,
    received: ReceivedRequest<'_>,
    fault: &Fault,
    allow: Option<HeaderValue>,
) {
    let snapshot = gateway.snapshot.load_full();
    // The peer is not used: these requests are not logged.
    let context =
        RequestContext::unrouted(gateway, &snapshot, snapshot.default_settings(), received, Peer::Unix);
    let mut exchange = Exchange::begin(&context, client);
    if let Some(methods) = allow {
        exchange.header_mutations.set_allow(methods);
    }
    let reply = reply_builder::for_fault(&mut exchange, fault);
    if let Some(sender) = exchange.client.response_sender() {
        local_reply::send(sender, &reply, snapshot.client.write_timeout).await;
    }
}
