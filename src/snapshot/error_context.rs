//! The inputs of an error response: combines the configuration (contract, overrides, settings of the route) with the
//! facts of one request and passes them to [`crate::contract`], which decides.
//!
//! The request path and `explain` both use it, so that they cannot differ. Pure. The sender of local replies adds the
//! connection-specific header fields.

use std::time::SystemTime;

use http::{HeaderName, HeaderValue, Method};

use crate::config::ErrorSettings;
use crate::contract::grpc::GrpcFamily;
use crate::contract::reply::PROBLEM_MEDIA_TYPE;
use crate::contract::{
    BodyFormat, Contract, Decision, ExtractedError, Extraction, LocalReply, Override, Overrides, PolicyInput,
    ReplyContext, RequestSent, Trigger, UpstreamMessages, compose, policy, retryable,
};
use crate::http::accept;

/// The configuration that applies to one request, borrowed from its snapshot.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ErrorContext<'a> {
    /// The contract.
    pub contract: &'a Contract,
    /// Overrides for all routes. Those of `error_config` take precedence.
    pub overrides: &'a [Override],
    /// The error settings of the route, or those for requests that match no route.
    pub error_config: &'a ErrorSettings,
    /// The upstream's name; `None` if no route matched.
    pub upstream: Option<&'a str>,
    /// The method of the request; GET if it could not be parsed.
    pub method: &'a Method,
    /// Whether the request is a gRPC call.
    pub grpc: Option<GrpcFamily>,
    /// The format of the body.
    pub format: BodyFormat,
}

/// The format of the error bodies for a request with these `Accept` fields.
pub(crate) fn body_format<'a>(
    settings: &ErrorSettings,
    accept: impl Iterator<Item = &'a [u8]>,
) -> BodyFormat {
    if !settings.negotiate {
        return BodyFormat::Contract;
    }
    let other = settings.contract.media_type().as_bytes();
    if accept::prefers(accept, PROBLEM_MEDIA_TYPE.as_bytes(), other) {
        BodyFormat::NegotiatedProblem
    } else {
        BodyFormat::NegotiatedContract
    }
}

/// The facts of the request at the time of the response.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RequestState<'a> {
    /// The request ID.
    pub request_id: &'a HeaderValue,
    /// How much of the request was sent to the upstream.
    pub request_sent: RequestSent,
    /// Seconds after which the client may retry, if an earlier step determined them.
    pub retry_after: Option<u64>,
    /// The current time.
    pub now: SystemTime,
    /// The message that the configuration has for this fault (`maintenance.message`).
    pub message: Option<&'a str>,
}

impl ErrorContext<'_> {
    /// Returns the contract's decision for `trigger`.
    pub(crate) fn decide(&self, trigger: Trigger) -> Decision {
        let route_response = self.error_config.route_response;
        let input = PolicyInput { trigger, upstream: self.upstream, method: self.method, route_response };
        let overrides = Overrides { route: &self.error_config.overrides, global: self.overrides };
        policy::decide(self.contract, &input, &overrides)
    }

    /// What of the body of an upstream's error may be sent with the status of `decision`.
    pub(crate) fn extraction(&self, upstream_status: u16, decision: &Decision) -> Extraction<'_> {
        let sent = decision.code().status();
        let settings = self.error_config;
        let client_error = upstream_status < 500 && sent < 500;
        Extraction {
            message: settings.upstream_messages.allowed(upstream_status, sent),
            any_type: client_error || settings.upstream_messages == UpstreamMessages::All,
            details: client_error,
            message_paths: &settings.message_paths,
            keep_details: &settings.keep_details,
        }
    }

    /// Composes the reply to a fault. `fields` are header fields to add.
    pub(crate) fn local_reply(
        &self,
        decision: &Decision,
        request_state: &RequestState<'_>,
        fields: Vec<(HeaderName, HeaderValue)>,
    ) -> LocalReply {
        self.build_reply(decision, None, request_state, fields)
    }

    /// Composes the replacement of an upstream's error response. `extract` is what may be kept of its body; `fields`
    /// are header fields to add, including the kept ones of the upstream.
    pub(crate) fn replacement_reply(
        &self,
        decision: &Decision,
        extract: &ExtractedError,
        (request_id, now): (&HeaderValue, SystemTime),
        fields: Vec<(HeaderName, HeaderValue)>,
    ) -> LocalReply {
        // The upstream responded, so it has received the request.
        let request_state = RequestState {
            request_id,
            request_sent: RequestSent::Full,
            retry_after: None,
            now,
            message: None,
        };
        self.build_reply(decision, Some(extract), &request_state, fields)
    }

    fn build_reply(
        &self,
        decision: &Decision,
        replaced: Option<&ExtractedError>,
        request_state: &RequestState<'_>,
        fields: Vec<(HeaderName, HeaderValue)>,
    ) -> LocalReply {
        let status = decision.code().status();
        let nothing = ExtractedError::default();
        let extract = replaced.unwrap_or(&nothing);
        let context = ReplyContext {
            is_head_request: *self.method == Method::HEAD,
            grpc: self.grpc,
            message: request_state.message.or(extract.message.as_deref()),
            kind: extract.kind.as_deref(),
            details: extract.details.as_deref(),
            declared: &extract.declared,
            format: self.format,
            request_id: Some(request_state.request_id),
            retryable: retryable::retryable_after(
                decision.trigger(),
                status,
                request_state.request_sent,
                self.method,
            ),
            request_sent: request_state.request_sent,
            retry_after: request_state.retry_after.unwrap_or(self.error_config.retry_after),
            now: request_state.now,
            headers: fields,
        };
        compose(self.contract, decision, context)
    }
}
