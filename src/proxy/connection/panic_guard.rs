//! Runs a request under a panic guard: a panic becomes a documented 500, or a truncated response.

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::{ListenerRole, ListenerService};
use crate::contract::{Cause, Fault, Phase};
use crate::proxy::downstream::{Downstream, ResponseState};
use crate::proxy::message::request::Request;
use crate::proxy::record::RejectedRequest;
use crate::proxy::request::RequestSource;
use crate::proxy::{local_reply, pages, request};

/// The work that runs under the panic guard.
enum GuardedWork<'a> {
    Serve(&'a Request),
    /// Boxed because it is rare and large.
    Reject(Box<RejectedRequest>),
}

/// Serves a well-formed request under the panic guard.
pub(in crate::proxy::connection) async fn serve_guarded(
    listener: &ListenerService,
    source: RequestSource<'_>,
    client: &mut Downstream,
    request: &Request,
) {
    run_guarded(listener, source, client, GuardedWork::Serve(request)).await;
}

/// Sends the error response to a rejected request under the panic guard.
pub(in crate::proxy::connection) async fn reject_guarded(
    listener: &ListenerService,
    source: RequestSource<'_>,
    client: &mut Downstream,
    rejected: RejectedRequest,
) {
    run_guarded(listener, source, client, GuardedWork::Reject(Box::new(rejected))).await;
}

/// Runs `work` under a panic guard, then reads the rest of the request body within limits: the request is recorded by
/// then.
async fn run_guarded(
    listener: &ListenerService,
    source: RequestSource<'_>,
    client: &mut Downstream,
    work: GuardedWork<'_>,
) {
    respond_guarded(listener, source, client, work).await;
    if client.state() == ResponseState::Complete {
        local_reply::discard_request_body(client).await;
    }
}

/// Runs `work` under a panic guard. A panic becomes a documented 500, or a truncated response if the headers were sent
/// already, and increments a metric.
async fn respond_guarded(
    listener: &ListenerService,
    source: RequestSource<'_>,
    client: &mut Downstream,
    work: GuardedWork<'_>,
) {
    let (request, rejected) = match &work {
        GuardedWork::Serve(request) => (Some(*request), None),
        GuardedWork::Reject(rejected) => {
            (None, Some((rejected.request_line.clone(), rejected.facts.clone())))
        }
    };
    // Boxed because the futures are large: idle connections should not reserve memory for one. Each has its own box:
    // one future around all of them would be copied twice.
    let gateway = &listener.gateway;
    let guarded_task: BoxFuture<'_, ()> = match (&listener.role, work) {
        (ListenerRole::Gateway, GuardedWork::Serve(request)) => {
            Box::pin(request::serve(gateway, source, client, request))
        }
        (ListenerRole::Gateway, GuardedWork::Reject(rejected)) => {
            Box::pin(request::reject(gateway, source, client, *rejected))
        }
        (ListenerRole::Pages { handler, .. }, GuardedWork::Serve(request)) => {
            Box::pin(pages::serve(gateway, handler.as_ref(), client, request))
        }
        (ListenerRole::Pages { .. }, GuardedWork::Reject(rejected)) => {
            Box::pin(pages::reject(gateway, client, rejected.fault))
        }
    };
    if AssertUnwindSafe(guarded_task).catch_unwind().await.is_ok() {
        return;
    }
    listener.gateway.metrics.panics.inc();
    match client.state() {
        ResponseState::NotStarted => {
            let fault = Fault::new(Cause::ProxyInternalError, Phase::Internal);
            // Boxed like the request itself.
            let send_reply = Box::pin(async {
                match (&listener.role, request) {
                    (ListenerRole::Gateway, Some(request)) => {
                        request::respond_after_panic(&listener.gateway, source, client, request).await;
                    }
                    (ListenerRole::Gateway, None) => {
                        let (request_line, facts) = rejected.unwrap_or_default();
                        let rejected = RejectedRequest { fault, request_line, facts };
                        request::reject(&listener.gateway, source, client, rejected).await;
                    }
                    (ListenerRole::Pages { .. }, _) => pages::reject(&listener.gateway, client, fault).await,
                }
            });
            if AssertUnwindSafe(send_reply).catch_unwind().await.is_err() {
                client.abort();
            }
        }
        ResponseState::Started => {
            listener.gateway.metrics.aborted(Cause::ProxyInternalError);
            client.abort();
        }
        ResponseState::Complete
        | ResponseState::Aborted(_)
        | ResponseState::Disconnected
        | ResponseState::WriteTimeout => {}
    }
}
