//! Serves one stream of an HTTP/2 connection, in a task of its own.

use std::sync::Arc;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::HeaderValue;
use http::request::Parts;

use crate::contract::Fault;
use crate::http::framing::RequestFraming;
use crate::http::peer::Peer;
use crate::http::reported_origin::ListenerOrigin;
use crate::proxy::connection::{ListenerService, first_line, reject_guarded, serve_guarded};
use crate::proxy::downstream::h2::{DownstreamH2, RequestProperties, StreamBudget};
use crate::proxy::downstream::{Downstream, ResponseState};
use crate::proxy::message::request::{Request, h2_authority, rejection_to_fault};
use crate::proxy::pinned::PinnedConnections;
use crate::proxy::record::{self, RejectedFacts, RejectedRequest};
use crate::proxy::request::RequestSource;
use crate::proxy::stream_table::StreamTable;
use crate::tls::client_certificate::ClientCertificate;

/// What the task of one stream needs besides the request.
pub(super) struct StreamTask {
    pub(super) listener: Arc<ListenerService>,
    pub(super) table: StreamTable,
    pub(super) peer: Peer,
    pub(super) certificate: Option<Arc<ClientCertificate>>,
    pub(super) listener_origin: ListenerOrigin,
    pub(super) budget: StreamBudget,
    pub(super) pinned: Arc<PinnedConnections>,
    /// Why the request is rejected, although it may be well-formed.
    pub(super) rejection: Option<Fault>,
}

impl StreamTask {
    /// Serves the request, or sends its error response, and counts the stream if the client has disconnected.
    pub(super) async fn serve(self, request: http::Request<RecvStream>, respond: SendResponse<Bytes>) {
        let StreamTask { listener, table, peer, certificate, listener_origin, budget, pinned, rejection } =
            self;
        let stream_id = respond.stream_id().as_u32();
        let (mut parts, body) = request.into_parts();
        let is_head_request = parts.method == http::Method::HEAD;
        let awaits_continue = parts.headers.contains_key(http::header::EXPECT);
        let request = Request::from_h2(&mut parts, body.is_end_stream());
        let length = match request.as_ref().map(|request| request.framing) {
            Ok(RequestFraming::Length(length)) => Some(length),
            Ok(RequestFraming::None | RequestFraming::Chunked) | Err(_) => None,
        };
        let properties = RequestProperties { is_head_request, awaits_continue, length };
        let h2 = DownstreamH2::new(body, respond, properties, budget, table.clone());
        let mut client = Downstream::h2(h2, listener_origin, pinned);
        let request = match (request, rejection) {
            (Ok(request), None) => Ok(request),
            (Ok(request), Some(fault)) => {
                let value = |name| request.fields.value(name).map(Bytes::copy_from_slice);
                let facts = RejectedFacts {
                    host: Some(request.authority.clone()),
                    origin: value("origin"),
                    accept: value("accept"),
                    user_agent: value("user-agent"),
                    grpc: request.grpc_family(),
                };
                Err(rejected_request(&parts, fault, facts))
            }
            (Err(error), _) => {
                Err(rejected_request(&parts, rejection_to_fault(error), invalid_request_facts(&parts)))
            }
        };
        // Sending the error response may block on the client: free the large header section first.
        drop(parts);
        let source = RequestSource { listener: listener.index, peer, certificate: certificate.as_deref() };
        match request {
            Ok(request) => serve_guarded(&listener, source, &mut client, &request).await,
            Err(rejected) => reject_guarded(&listener, source, &mut client, rejected).await,
        }
        let response_counted = table.request_ended(stream_id);
        match client.state() {
            // The frame observers count a stream without a counted response, and a malformed one.
            ResponseState::NotStarted => {}
            ResponseState::Started | ResponseState::Disconnected if !response_counted => {}
            _ if client.is_malformed() => {}
            state => record::count_disconnect(&listener.gateway, state),
        }
    }
}

/// What is known of a rejected request, for its error response and the log.
fn rejected_request(parts: &Parts, fault: Fault, facts: RejectedFacts) -> RejectedRequest {
    let request_line = first_line(format!("{} {}", parts.method, parts.uri.path()).as_bytes());
    RejectedRequest { fault, request_line, facts }
}

/// The facts of an invalid header section.
fn invalid_request_facts(parts: &Parts) -> RejectedFacts {
    let value =
        |name| parts.headers.get(name).map(|value: &HeaderValue| Bytes::copy_from_slice(value.as_bytes()));
    RejectedFacts {
        host: h2_authority(parts).ok(),
        origin: value(http::header::ORIGIN),
        accept: value(http::header::ACCEPT),
        user_agent: value(http::header::USER_AGENT),
        grpc: Request::h2_grpc_family(parts),
    }
}
