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
pub struct Grounds<'a> {
    /// What is promised.
    pub contract: &'a Contract,
    /// Overrides of every route; the rules' own precede them.
    pub overrides: &'a [Override],
    /// The error rules of the route, or those of requests that reach none.
    pub rules: &'a ErrorRules,
    /// The upstream's name; `None` where no route was found.
    pub upstream: Option<&'a str>,
    /// The method of the request; GET where there was no request.
    pub method: &'a Method,
    /// It is a call of gRPC.
    pub grpc: bool,
}

/// What is known of the request when it is answered.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// Its id.
    pub request_id: &'a HeaderValue,
    /// How much of it had reached the upstream.
    pub sent: RequestSent,
    /// When it may come again, in seconds, where a step before knows it.
    pub retry_after: Option<u64>,
}

impl Grounds<'_> {
    /// What the contract says about this case.
    pub fn rule(&self, case: Trigger) -> Decision {
        let situation = PolicyInput { trigger: case, upstream: self.upstream, method: self.method };
        let overrides = Overrides { route: &self.rules.overrides, global: self.overrides };
        policy::decide(self.contract, &situation, &overrides)
    }

    /// The reply to a fault. `fields` are the finished ones of other steps.
    pub fn answer(
        &self,
        ruling: &Decision,
        known: &Known<'_>,
        fields: Vec<(HeaderName, HeaderValue)>,
    ) -> LocalReply {
        self.reply(ruling, ErrorOrigin::Proxy, &ExtractedError::default(), known, fields)
    }

    /// The reply in the place of an upstream's error. `found` is what may be kept of its body, `fields` what is kept of
    /// its head and the finished ones of other steps.
    pub fn replace(
        &self,
        ruling: &Decision,
        found: &ExtractedError,
        request_id: &HeaderValue,
        fields: Vec<(HeaderName, HeaderValue)>,
    ) -> LocalReply {
        // It has answered, so it has the request.
        let known = Known { request_id, sent: RequestSent::Full, retry_after: None };
        self.reply(ruling, ErrorOrigin::Replaced, found, &known, fields)
    }

    fn reply(
        &self,
        ruling: &Decision,
        origin: ErrorOrigin,
        found: &ExtractedError,
        known: &Known<'_>,
        fields: Vec<(HeaderName, HeaderValue)>,
    ) -> LocalReply {
        let status = ruling.code().status();
        let facts = ReplyContext {
            origin,
            is_head_request: *self.method == Method::HEAD,
            grpc: self.grpc,
            message: found.message.as_deref().filter(|_| self.rules.upstream_messages.allowed_with(status)),
            kind: found.kind.as_deref(),
            include: self.rules.include,
            request_id: Some(known.request_id),
            retryable: body::retryable(status, known.sent, self.method),
            request_sent: known.sent,
            retry_after: known.retry_after.unwrap_or(self.rules.retry_after),
            headers: fields,
        };
        compose(self.contract, ruling, facts)
    }
}
