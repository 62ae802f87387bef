//! What an error answer rests on, wherever it is made: the request path and `explain` ask the same questions here.
//!
//! It joins what the configuration says (the contract, overrides, the rules of a route) with what is known of one
//! request, and hands both to [`crate::contract`], which decides. It knows no socket, no clock and no connection; what the
//! door adds to a reply is the door's.

use http::{HeaderName, HeaderValue, Method};

use crate::config::ErrorRules;
use crate::contract::reply::ErrorOrigin;
use crate::contract::{
    Contract, Decision, ExtractedError, LocalReply, Override, Overrides, PolicyInput, ReplyContext,
    RequestSent, Trigger, body, compose, policy,
};

/// What holds for one request: borrowed from the snapshot that it has pinned.
#[derive(Clone, Copy, Debug)]
pub struct ErrorContext<'a> {
    /// What is promised.
    pub contract: &'a Contract,
    /// Overrides of every route; the rules' own precede them.
    pub overrides: &'a [Override],
    /// The error rules of the route, or those of requests that reach none.
    pub error_config: &'a ErrorRules,
    /// The upstream's name; `None` where no route was found.
    pub upstream: Option<&'a str>,
    /// The method of the request; GET where there was no request.
    pub method: &'a Method,
    /// It is a call of gRPC.
    pub grpc: bool,
}

/// What is known of the request when it is answered.
#[derive(Clone, Copy, Debug)]
pub struct RequestState<'a> {
    /// Its id.
    pub request_id: &'a HeaderValue,
    /// How much of it had reached the upstream.
    pub request_sent: RequestSent,
    /// When it may come again, in seconds, where a step before knows it.
    pub retry_after: Option<u64>,
}

impl ErrorContext<'_> {
    /// What the contract says about this case.
    pub fn decide(&self, trigger: Trigger) -> Decision {
        let input = PolicyInput { trigger, upstream: self.upstream, method: self.method };
        let overrides = Overrides { route: &self.error_config.overrides, global: self.overrides };
        policy::decide(self.contract, &input, &overrides)
    }

    /// The reply to a fault. `fields` are the finished ones of other steps.
    pub fn local_reply(
        &self,
        decision: &Decision,
        request_state: &RequestState<'_>,
        fields: Vec<(HeaderName, HeaderValue)>,
    ) -> LocalReply {
        self.build_reply(decision, ErrorOrigin::Proxy, &ExtractedError::default(), request_state, fields)
    }

    /// The reply in the place of an upstream's error. `extract` is what may be kept of its body, `fields` what is kept of
    /// its head and the finished ones of other steps.
    pub fn replacement_reply(
        &self,
        decision: &Decision,
        extract: &ExtractedError,
        request_id: &HeaderValue,
        fields: Vec<(HeaderName, HeaderValue)>,
    ) -> LocalReply {
        // It has answered, so it has the request.
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
        let facts = ReplyContext {
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
        compose(self.contract, decision, facts)
    }
}
