//! Computes the expected response to a fault under a configuration, and compares responses with it.
//!
//! The expected code, message and type come from the error policy through [`crate::snapshot::error_context`], as for
//! `explain` and for the request path. The response is checked from its bytes.

use std::borrow::Cow;
use std::time::SystemTime;

use http::{HeaderValue, Method};

use crate::config::{Config, ErrorMode, ErrorSettings, RouteConfig};
use crate::conformance::response_reader::{BodyEnd, ReceivedResponse};
use crate::conformance::{
    CheckedMetric, FaultOutcome, RequestKind, Step, Tally, UpstreamFault, contract_check,
};
use crate::contract::causes::UPSTREAM_RESPONSE;
use crate::contract::conform::{self, Conformance, ErrorBody};
use crate::contract::decode::decode;
use crate::contract::{
    BodyFormat, Cause, ContentCoding, Contract, Decision, ExtractedError, LocalReply, RequestSent, Trigger,
    UpstreamMessages, extract,
};
use crate::snapshot::error_context::{ErrorContext, RequestState};

/// The expected response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Expectation {
    pub(super) status: u16,
    pub(super) source: ResponseSource,
}

/// Where the expected response comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ResponseSource {
    /// A local reply.
    LocalReply {
        /// The `cause` label of the metric.
        cause: &'static str,
        message: String,
        error_type: Option<String>,
        min_request_sent: RequestSent,
    },
    /// The upstream.
    Forwarded {
        /// The body, if it is known.
        body: Option<Vec<u8>>,
        /// Alternatively a local reply with this status, for a response that is truncated before it is classified.
        or_replaced_with: Option<u16>,
    },
    /// The upstream, with what only the gateway knows, such as the request ID: the error follows the contract.
    Completed,
    /// The upstream, truncated.
    Truncated {
        cause: Cause,
        /// The complete body, of which the client receives a prefix.
        body: Vec<u8>,
    },
}

/// The configuration and request facts that determine an error response.
#[derive(Clone, Copy)]
pub(super) struct ExpectationContext<'a> {
    pub(super) config: &'a Config,
    /// `None` for a request that matches no route.
    pub(super) route: Option<&'a RouteConfig>,
    /// The rules of a request that matches no route.
    pub(super) unrouted: &'a ErrorSettings,
    pub(super) method: &'a Method,
}

impl ExpectationContext<'_> {
    fn error_context(&self) -> ErrorContext<'_> {
        let upstream = self.route.and_then(|route| self.config.upstreams.get(route.upstream?));
        ErrorContext {
            contract: self.contract(),
            overrides: &self.config.overrides,
            error_config: self.error_rules(),
            upstream: upstream.map(|upstream| upstream.name.as_str()),
            method: self.method,
            grpc: None,
            format: BodyFormat::Contract,
        }
    }

    /// The contract of the route.
    pub(super) fn contract(&self) -> &Contract {
        &self.error_rules().contract
    }

    fn error_rules(&self) -> &ErrorSettings {
        self.route.map_or(self.unrouted, |route| &route.errors)
    }

    /// The local reply to a fault.
    pub(super) fn for_fault(&self, cause: Cause, sent_at_least: RequestSent) -> Expectation {
        let error_context = self.error_context();
        let decision = error_context.decide(Trigger::Fault(cause));
        let maintenance = self.route.and_then(|route| route.maintenance.as_ref());
        let maintenance = maintenance.filter(|_| cause == Cause::Maintenance);
        let facts = RequestState {
            request_id: &PLACEHOLDER_ID,
            request_sent: sent_at_least,
            retry_after: None,
            now: SystemTime::UNIX_EPOCH,
            message: maintenance.and_then(|maintenance| maintenance.message.as_deref()),
        };
        let reply = error_context.local_reply(&decision, &facts, Vec::new());
        local_reply((&decision, self.contract()), &reply, cause.name(), sent_at_least)
    }

    fn replaced(&self, decision: &Decision, extracted: &ExtractedError) -> Expectation {
        let reply = self.error_context().replacement_reply(
            decision,
            extracted,
            (&PLACEHOLDER_ID, SystemTime::UNIX_EPOCH),
            Vec::new(),
        );
        local_reply((decision, self.contract()), &reply, UPSTREAM_RESPONSE, RequestSent::Full)
    }

    /// The expected response of a row.
    pub(super) fn for_row(&self, fault: &UpstreamFault) -> Expectation {
        let body = || fault.expect.body.to_vec();
        match fault.expect.outcome {
            FaultOutcome::Aborted { code, cause } => {
                Expectation { status: code, source: ResponseSource::Truncated { cause, body: body() } }
            }
            FaultOutcome::Forwarded { code } if code < 400 => Expectation::forwarded(code, Some(body())),
            FaultOutcome::Forwarded { code } => self.for_conforming(code, fault),
            FaultOutcome::LocalReply { reason: Trigger::Fault(cause), .. } => {
                self.for_fault(self.shorter_timeout_cause(cause), fault.expect.request_sent)
            }
            FaultOutcome::LocalReply { reason: Trigger::UpstreamStatus(status), .. } => {
                self.for_status(status, fault)
            }
        }
    }

    /// When two timeouts cover the same wait, the shorter one determines the cause.
    fn shorter_timeout_cause(&self, cause: Cause) -> Cause {
        match self.route {
            Some(route) if cause == Cause::HttpResponseTimeout => {
                let deadline_first = route.timeouts.deadline <= route.timeouts.response_headers;
                if deadline_first { Cause::DeadlineExceeded } else { cause }
            }
            Some(_) | None => cause,
        }
    }

    fn for_conforming(&self, status: u16, fault: &UpstreamFault) -> Expectation {
        let body = fault.expect.body.to_vec();
        if self.error_rules().mode != ErrorMode::Enforce {
            // The gateway removes an unaccepted content coding only in mode `enforce`.
            return Expectation::forwarded(status, Some(body).filter(|_| !has_content_coding(fault)));
        }
        let decision = self.error_context().decide(Trigger::UpstreamStatus(status));
        let media_type = Some(&b"application/json"[..]);
        let plain = fault.expect.decoded.as_ref().unwrap_or(&fault.expect.body);
        let error = ErrorBody { status, media_type, body: plain };
        let messages = self.error_rules().upstream_messages;
        let contract = self.contract();
        let conforms = plain.is_empty()
            || conform::check_conformance(contract, &error, messages) == Conformance::Conforms;
        if contract.code(status).is_some() && conforms && decision.allows_upstream_body() {
            let is_empty = plain.is_empty();
            return if is_empty {
                Expectation::forwarded(status, Some(body))
            } else {
                self.conforming(status, body)
            };
        }
        let error_context = self.error_context();
        let extraction = error_context.extraction(status, &decision);
        self.replaced(&decision, &extract::extract_with(contract, plain, &extraction))
    }

    /// A conforming error: its body as it is, or completed where the contract has members that only the gateway knows.
    fn conforming(&self, status: u16, body: Vec<u8>) -> Expectation {
        if self.contract().template().adds_members() {
            return Expectation { status, source: ResponseSource::Completed };
        }
        Expectation::forwarded(status, Some(body))
    }

    /// The response itself, where a row whose body the default contract refuses conforms to this one: another form, or
    /// 5xx messages that may be sent.
    fn if_conforming_here(
        &self,
        status: u16,
        fault: &UpstreamFault,
        decision: &Decision,
    ) -> Option<Expectation> {
        let (contract, messages) = (self.contract(), self.error_rules().upstream_messages);
        if contract.is_flat() && messages != UpstreamMessages::All {
            return None;
        }
        let response = WrittenResponse::of(fault)?;
        let error = ErrorBody { status, media_type: Some(response.media_type), body: &response.body };
        let conforms = conform::check_conformance(contract, &error, messages) == Conformance::Conforms;
        let is_forwarded = conforms && decision.allows_upstream_body();
        is_forwarded.then(|| self.conforming(status, response.body.into_owned()))
    }

    fn for_status(&self, status: u16, fault: &UpstreamFault) -> Expectation {
        let decision = self.error_context().decide(Trigger::UpstreamStatus(status));
        match self.error_rules().mode {
            ErrorMode::Enforce => {
                let error_context = self.error_context();
                let extraction = error_context.extraction(status, &decision);
                if let Some(forwarded) = self.if_conforming_here(status, fault, &decision) {
                    return forwarded;
                }
                // The rows know the messages of 4xx alone.
                let message = fault.expect.message.clone().or_else(|| {
                    let response = WrittenResponse::of(fault).filter(|_| status >= 500)?;
                    extract::extract_with(self.contract(), &response.body, &extraction).message
                });
                let message = message.filter(|_| extraction.message);
                self.replaced(&decision, &ExtractedError { message, ..ExtractedError::default() })
            }
            ErrorMode::Observe => {
                let or_replaced_with = Some(decision.code().status());
                Expectation { status, source: ResponseSource::Forwarded { body: None, or_replaced_with } }
            }
            ErrorMode::Pass => Expectation::forwarded(status, None),
        }
    }
}

/// What the script of a row writes at once: a row that expects a reply does not have the body.
struct WrittenResponse<'a> {
    media_type: &'a [u8],
    /// Without content coding.
    body: Cow<'a, [u8]>,
}

impl WrittenResponse<'_> {
    fn of(fault: &UpstreamFault) -> Option<WrittenResponse<'_>> {
        fault.script.iter().find_map(|step| {
            let Step::Write(bytes) = step else { return None };
            let (head, body) = bytes.split_at_checked(memchr::memmem::find(bytes, b"\r\n\r\n")? + 4)?;
            let name = b"content-type: ";
            let (_, value) = head.split_at_checked(memchr::memmem::find(head, name)? + name.len())?;
            let codings =
                [ContentCoding::Gzip, ContentCoding::Br, ContentCoding::Zstd, ContentCoding::Deflate];
            let decoded = codings.iter().find_map(|coding| decode(*coding, body, conform::BODY_LIMIT).ok());
            let decoded = decoded.filter(|_| has_content_coding(fault));
            let body = decoded.map_or(Cow::Borrowed(body), Cow::Owned);
            value.split(|octet| *octet == b'\r').next().map(|media_type| WrittenResponse { media_type, body })
        })
    }
}

/// Whether the upstream's response has a Content-Encoding.
fn has_content_coding(fault: &UpstreamFault) -> bool {
    let name = b"content-encoding";
    fault.script.iter().any(
        |step| matches!(step, Step::Write(bytes) if bytes.windows(name.len()).any(|window| window == name)),
    )
}

/// A placeholder request ID: the expected body is compared without it.
static PLACEHOLDER_ID: HeaderValue = HeaderValue::from_static("00000000-0000-7000-8000-000000000000");

fn local_reply(
    (decision, contract): (&Decision, &Contract),
    reply: &LocalReply,
    cause: &'static str,
    sent_at_least: RequestSent,
) -> Expectation {
    let (message, error_type) = contract_check::message_and_type(reply.body(), contract);
    let message = message.unwrap_or_default();
    let source = ResponseSource::LocalReply { cause, message, error_type, min_request_sent: sent_at_least };
    Expectation { status: decision.code().status(), source }
}

impl Expectation {
    const fn forwarded(status: u16, body: Option<Vec<u8>>) -> Expectation {
        Expectation { status, source: ResponseSource::Forwarded { body, or_replaced_with: None } }
    }

    /// A short description for the report.
    pub(super) fn describe(&self) -> String {
        let status = self.status;
        match &self.source {
            ResponseSource::LocalReply { cause, .. } => format!("{status} {cause}"),
            ResponseSource::Forwarded { .. } => format!("{status} from the upstream"),
            ResponseSource::Completed => format!("{status} from the upstream, completed"),
            ResponseSource::Truncated { cause, .. } => format!("{status}, truncated: {cause}"),
        }
    }

    /// Compares a response with the expectation.
    ///
    /// # Errors
    /// The difference.
    pub(super) fn check(
        &self,
        response: &ReceivedResponse,
        request_kind: RequestKind,
        contract: &Contract,
    ) -> Result<(), String> {
        let check_error = || contract_check::check_error_response(response, request_kind, contract);
        let has_status = response.status == self.status;
        let differs = || Err(format!("expected {}, got {}", self.status, response.status));
        match &self.source {
            ResponseSource::LocalReply { cause, message, error_type, min_request_sent } => {
                if response.status >= 400 {
                    check_error()?;
                }
                if !has_status {
                    return differs();
                }
                if request_kind.head {
                    return Ok(());
                }
                let body = contract_check::parse_error_body(response, contract)?;
                if body.message != *message {
                    return Err(format!("expected message {message:?}, got {:?}", body.message));
                }
                if error_type.is_some() && body.error_type.is_none() {
                    return Err("error body without type, which errors.include requires".to_owned());
                }
                if let Some(other) = body.cause.filter(|other| other != cause) {
                    return Err(format!("expected cause {cause}, got {other:?}"));
                }
                if body.request_sent.is_some_and(|sent| sent < *min_request_sent) {
                    return Err(format!("expected request_sent {} or more", min_request_sent.name()));
                }
                Ok(())
            }
            ResponseSource::Forwarded { or_replaced_with: Some(other), .. }
                if response.status == *other && !has_status =>
            {
                check_error()
            }
            ResponseSource::Forwarded { .. }
            | ResponseSource::Completed
            | ResponseSource::Truncated { .. }
                if !has_status =>
            {
                differs()
            }
            ResponseSource::Forwarded { body: Some(body), .. }
                if response.end != BodyEnd::Complete || response.body != *body =>
            {
                Err("body differs from the upstream's".to_owned())
            }
            ResponseSource::Forwarded { .. } => Ok(()),
            ResponseSource::Completed => check_error(),
            ResponseSource::Truncated { .. } if response.end != BodyEnd::Truncated => {
                Err("expected a truncated response, got a complete one".to_owned())
            }
            ResponseSource::Truncated { body, .. } if !body.starts_with(&response.body) => {
                Err("body is not a prefix of the upstream's".to_owned())
            }
            ResponseSource::Truncated { .. } => Ok(()),
        }
    }

    /// Records a response; without its cause if the row did not pass.
    pub(super) fn record(&self, observed: &Tally, response: &ReceivedResponse, passed: bool) {
        let (cause, truncation_cause) = match &self.source {
            ResponseSource::LocalReply { cause, .. } => (Some(*cause), None),
            ResponseSource::Truncated { cause, .. } => (None, Some(*cause)),
            // A local reply instead of a forwarded response: its cause depends on the gateway.
            ResponseSource::Forwarded { .. } | ResponseSource::Completed => {
                (Some(UPSTREAM_RESPONSE).filter(|_| response.status == self.status), None)
            }
        };
        observed.record_response(response.status, cause.filter(|_| passed));
        match truncation_cause.filter(|_| passed) {
            Some(cause) => observed.record(CheckedMetric::Aborted, cause.name(), 1),
            None if response.end != BodyEnd::Complete => observed.record_unfinished(),
            None => {}
        }
    }
}

/// A short description of a response for the report.
pub(super) fn describe_response(response: &ReceivedResponse) -> String {
    let suffix = match response.end {
        BodyEnd::Complete => "",
        BodyEnd::Truncated => ", truncated",
        BodyEnd::TimedOut => ", timed out",
        BodyEnd::LimitReached => ", read in part",
    };
    let media_type = response.header("content-type").unwrap_or("without Content-Type");
    format!("{} {media_type}{suffix}", response.status)
}
