//! Requests to our own endpoints: a page, or a fault answered by the same door as the gateway's.
//!
//! Which pages there are is not known here. They count in no route's metrics: a scrape is not traffic.

use std::fmt;

use http::Method;

use super::door;
use super::downstream::Downstream;
use super::flow::Story;
use super::gateway::Gateway;
use super::record::Scope;
use super::replies;
use super::request::Request;
use crate::contract::{Evidence, Fault, PageResponse, Phase};

/// What answers on a listener that is not the gateway's.
pub trait Pages: Send + Sync + fmt::Debug {
    /// The page, or why there is none.
    ///
    /// # Errors
    /// A fault, to be answered by the contract.
    fn answer(&self, method: &Method, path: &str) -> Result<PageResponse, Fault>;
}

/// Answers one request.
pub(super) async fn serve(gateway: &Gateway, pages: &dyn Pages, client: &mut Downstream, request: &Request) {
    let page = match std::str::from_utf8(request.path()) {
        Ok(path) => pages.answer(&request.method, path),
        Err(_) => Err(Fault::new(crate::contract::Cause::DestinationNotFound, Phase::Route)
            .with_evidence(Evidence::from_static("the path is not UTF-8"))),
    };
    let write_timeout = gateway.snapshot.load().client.write_timeout;
    match page {
        Ok(page) => {
            if let Some(unanswered) = client.unanswered() {
                door::page(unanswered, &page, request.method == Method::HEAD, write_timeout).await;
            }
        }
        Err(fault) => answer_fault(gateway, client, Some(request), &fault).await,
    }
}

/// Answers what is not a request.
pub(super) async fn refuse(gateway: &Gateway, client: &mut Downstream, fault: Fault) {
    answer_fault(gateway, client, None, &fault).await;
}

async fn answer_fault(gateway: &Gateway, client: &mut Downstream, request: Option<&Request>, fault: &Fault) {
    let snapshot = gateway.snapshot.load_full();
    let story = Story::begin(replies::new_request_id(), std::net::Ipv4Addr::UNSPECIFIED.into());
    let scope = Scope { gateway, snapshot: &snapshot, route: None, request, refused_grpc: false };
    let (_, reply) = replies::for_fault(&scope, fault, &story);
    if let Some(unanswered) = client.unanswered() {
        door::answer(unanswered, &reply, snapshot.client.write_timeout).await;
    }
}
