//! The inputs of an error response: combines the configuration (contract, overrides, rules of the route) with the facts
//! of one request and passes them to [`crate::contract`], which decides.
//!
//! The request path and `explain` both use it, so that they cannot differ. Pure. The sender of local replies adds the
//! connection-specific header fields.

use http::{HeaderName, HeaderValue, Method};

use crate::config::ErrorRules;
use crate::contract::reply::ErrorOrigin;
use crate::contract::{
    Contract, Decision, ExtractedError, LocalReply, Override, Overrides, PolicyInput, ReplyContext,
    RequestSent, Trigger, body, compose, policy,
};

/// The configuration that applies to one request, borrowed from its snapshot.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ErrorContext<'a> {
    /// The contract.
    pub contract: &'a Contract,
    /// Overrides for all routes. Those of `error_config` take precedence.
    pub overrides: &'a [Override],
    /// The error rules of the route, or those for requests that match no route.
    pub error_config: &'a ErrorRules,
    /// The upstream's name; `None` if no route matched.
    pub upstream: Option<&'a str>,
    /// The method of the request; GET if it could not be parsed.
    pub method: &'a Method,
    /// Whether the request is a gRPC call.
    pub grpc: bool,
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
}

impl ErrorContext<'_> {
    /// Returns the contract's decision for `trigger`.
    pub(crate) fn decide(&self, trigger: Trigger) -> Decision {
        let input = PolicyInput { trigger, upstream: self.upstream, method: self.method };
        let overrides = Overrides { route: &self.error_config.overrides, global: self.overrides };
        policy::decide(self.contract, &input, &overrides)
    }

    /// Composes the reply to a fault. `fields` are header fields to add.
    pub(crate) fn local_reply(
        &self,
        decision: &Decision,
        request_state: &RequestState<'_>,
        fields: Vec<(HeaderName, HeaderValue)>,
    ) -> LocalReply {
        self.build_reply(decision, ErrorOrigin::Proxy, &ExtractedError::default(), request_state, fields)
    }

    /// Composes the replacement of an upstream's error response. `extract` is what may be kept of its body; `fields`
    /// are header fields to add, including the kept ones of the upstream.
    pub(crate) fn replacement_reply(
        &self,
        decision: &Decision,
        extract: &ExtractedError,
        request_id: &HeaderValue,
        fields: Vec<(HeaderName, HeaderValue)>,
    ) -> LocalReply {
        // The upstream responded, so it has received the request.
        let request_state = RequestState { request_id, request_sent: RequestSent::Full, retry_after: None };
        self.build_reply(decision, ErrorOrigin::Replaced, extract, &request_state, fields)
    }

    fn build_reply(
        &self,
        decision: &Decision,
        origin: ErrorOrigin,
        extract: &ExtractedError,
        request_state: &RequestState<'_>,
        fields: Vec<(HeaderName, HeaderValue)>,
    ) -> LocalReply {
        let status = decision.code().status();
        let context = ReplyContext {
            origin,
            is_head_request: *self.method == Method::HEAD,
            grpc: self.grpc,
            message: extract
                .message
                .as_deref()
                .filter(|_| self.error_config.upstream_messages.allowed_with(status)),
            kind: extract.kind.as_deref(),
            include: self.error_config.include,
            request_id: Some(request_state.request_id),
            retryable: body::retryable(status, request_state.request_sent, self.method),
            request_sent: request_state.request_sent,
            retry_after: request_state.retry_after.unwrap_or(self.error_config.retry_after),
            headers: fields,
        };
        compose(self.contract, decision, context)
    }
}
