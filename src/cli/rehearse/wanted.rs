//! What should come of a fault under this configuration, and whether an answer is that.
//!
//! The expected code, message and type come from the policy room by way of [`crate::snapshot::grounds`], as they do for
//! `explain` and for the request path. The answer is judged from its bytes.

use http::{HeaderValue, Method};
use serde_json::Value;

use super::ledger::Ledger;
use crate::config::{Config, ErrorMode, ErrorRules, RouteConfig};
use crate::contract::conform::{self, Conformance, ErrorBody};
use crate::contract::policy::UPSTREAM_RESPONSE;
use crate::contract::{Cause, Contract, Decision, ExtractedError, LocalReply, RequestSent, Trigger};
use crate::rehearse::answers::{BodyEnd, ReceivedResponse};
use crate::rehearse::faults::{ExpectedMessage, FaultOutcome, ReplyReason, UpstreamFault};
use crate::rehearse::{RequestKind, UpstreamStep, promise};
use crate::snapshot::grounds::{ErrorContext, RequestState};

/// What a client should get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// An error that the gateway makes.
    Made {
        status: u16,
        /// The label of the cause.
        cause: &'static str,
        message: String,
        kind: Option<String>,
        sent_at_least: RequestSent,
    },
    /// The upstream's own response.
    Passed {
        status: u16,
        /// Its body, where that is known.
        body: Option<Vec<u8>>,
        /// Or a made error, for a response that was cut before it was judged.
        or_made: Option<u16>,
    },
    /// The upstream's response, visibly cut.
    Cut {
        status: u16,
        cause: Cause,
        /// The whole of which it is the beginning.
        body: Vec<u8>,
    },
}

/// What an error rests on.
#[derive(Clone, Copy)]
pub(super) struct Rules<'a> {
    pub(super) config: &'a Config,
    /// `None` for what reaches no route.
    pub(super) route: Option<&'a RouteConfig>,
    pub(super) method: &'a Method,
}

impl Rules<'_> {
    fn grounds(&self) -> ErrorContext<'_> {
        let upstream = self.route.and_then(|route| self.config.upstreams.get(route.upstream));
        ErrorContext {
            contract: &self.config.contract,
            overrides: &self.config.overrides,
            error_config: self.errors(),
            upstream: upstream.map(|upstream| upstream.name.as_str()),
            method: self.method,
            grpc: false,
        }
    }

    fn errors(&self) -> &ErrorRules {
        self.route.map_or(&self.config.errors, |route| &route.errors)
    }

    /// What a fault is answered with.
    pub(super) fn of_fault(&self, cause: Cause, sent_at_least: RequestSent) -> Wanted {
        let grounds = self.grounds();
        let ruling = grounds.decide(Trigger::Fault(cause));
        let known = RequestState { request_id: &ANY_ID, request_sent: sent_at_least, retry_after: None };
        let reply = grounds.local_reply(&ruling, &known, Vec::new());
        made(&ruling, &reply, cause.name(), sent_at_least)
    }

    fn replaced(&self, ruling: &Decision, found: &ExtractedError) -> Wanted {
        let reply = self.grounds().replacement_reply(ruling, found, &ANY_ID, Vec::new());
        made(ruling, &reply, UPSTREAM_RESPONSE, RequestSent::Full)
    }

    /// What should come of a row of the table.
    pub(super) fn of_row(&self, fault: &UpstreamFault) -> Wanted {
        match fault.outcome {
            FaultOutcome::Aborted { code, cause } => {
                Wanted::Cut { status: code, cause, body: fault.body.to_vec() }
            }
            FaultOutcome::Forwarded { code } if code < 400 => {
                Wanted::Passed { status: code, body: Some(fault.body.to_vec()), or_made: None }
            }
            FaultOutcome::Forwarded { code } => self.of_conforming(code, fault),
            FaultOutcome::LocalReply { reason: ReplyReason::Fault(cause), .. } => {
                self.of_fault(self.first_limit(cause), fault.min_request_sent)
            }
            FaultOutcome::LocalReply { reason: ReplyReason::Status(status), .. } => {
                self.of_status(status, fault)
            }
        }
    }

    /// Of two limits on the same wait, the shorter one names the cause.
    fn first_limit(&self, cause: Cause) -> Cause {
        match self.route {
            Some(route) if cause == Cause::HttpResponseTimeout => {
                let total_first = route.timeouts.deadline <= route.timeouts.response_headers;
                if total_first { Cause::DeadlineExceeded } else { cause }
            }
            Some(_) | None => cause,
        }
    }

    fn of_conforming(&self, status: u16, fault: &UpstreamFault) -> Wanted {
        let coded = is_coded(fault);
        if self.errors().mode != ErrorMode::Enforce {
            // A coding that the client does not take is taken off what keeps the contract, not off what merely passes.
            let body = (!coded).then(|| fault.body.to_vec());
            return Wanted::Passed { status, body, or_made: None };
        }
        let passed = Wanted::Passed { status, body: Some(fault.body.to_vec()), or_made: None };
        let ruling = self.grounds().decide(Trigger::UpstreamStatus(status));
        let media_type = Some(&b"application/json"[..]);
        let body = ErrorBody { status, media_type, body: &fault.body };
        let messages = self.errors().upstream_messages;
        let contract = &self.config.contract;
        let conforms = fault.body.is_empty()
            || (coded && messages.allowed_with(status))
            || conform::check_conformance(contract, &body, messages) == Conformance::Conforms;
        if contract.code(status).is_some() && conforms && ruling.allows_upstream_body() {
            return passed;
        }
        self.replaced(&ruling, &crate::contract::extract::extract(contract, &fault.body))
    }

    fn of_status(&self, status: u16, fault: &UpstreamFault) -> Wanted {
        let ruling = self.grounds().decide(Trigger::UpstreamStatus(status));
        match self.errors().mode {
            ErrorMode::Enforce => {
                let message = match fault.expected_message {
                    ExpectedMessage::ContractDefault => None,
                    ExpectedMessage::FromUpstream(text) => Some(text.to_owned()),
                };
                self.replaced(&ruling, &ExtractedError { message, kind: None })
            }
            ErrorMode::Observe => {
                Wanted::Passed { status, body: None, or_made: Some(ruling.code().status()) }
            }
            ErrorMode::Pass => Wanted::Passed { status, body: None, or_made: None },
        }
    }
}

/// Whether the upstream codes the body of its answer.
fn is_coded(fault: &UpstreamFault) -> bool {
    let name = b"content-encoding";
    fault.script.iter().any(
        |step| matches!(step, UpstreamStep::Write(bytes) if bytes.windows(name.len()).any(|window| window == name)),
    )
}

/// Stands for the id of a request.
static ANY_ID: HeaderValue = HeaderValue::from_static("00000000-0000-7000-8000-000000000000");

fn made(ruling: &Decision, reply: &LocalReply, cause: &'static str, sent_at_least: RequestSent) -> Wanted {
    let body: Value = serde_json::from_slice(reply.body()).unwrap_or_default();
    let text = |name: &str| body.get(name).and_then(Value::as_str).map(str::to_owned);
    Wanted::Made {
        status: ruling.code().status(),
        cause,
        message: text("message").unwrap_or_default(),
        kind: text("type"),
        sent_at_least,
    }
}

impl Wanted {
    pub(super) const fn status(&self) -> u16 {
        match self {
            Wanted::Made { status, .. } | Wanted::Passed { status, .. } | Wanted::Cut { status, .. } => {
                *status
            }
        }
    }

    /// In a few words, for the table.
    pub(super) fn told(&self) -> String {
        match self {
            Wanted::Made { status, cause, .. } => format!("{status} {cause}"),
            Wanted::Passed { status, .. } => format!("{status} of the upstream"),
            Wanted::Cut { status, cause, .. } => format!("{status}, cut: {cause}"),
        }
    }

    /// Judges an answer.
    ///
    /// # Errors
    /// What is different.
    pub(super) fn judge(
        &self,
        answer: &ReceivedResponse,
        asked: RequestKind,
        contract: &Contract,
    ) -> Result<(), String> {
        match self {
            Wanted::Made { status, message, kind, sent_at_least, .. } => {
                if answer.status >= 400 {
                    promise::check_error_response(answer, asked, contract)?;
                }
                if answer.status != *status {
                    return Err(format!("{} in the place of {status}", answer.status));
                }
                if asked.head {
                    return Ok(());
                }
                let body = promise::parse_error_body(answer)?;
                if body.message != *message {
                    return Err(format!("the message {:?} in the place of {message:?}", body.message));
                }
                if kind.is_some() && body.error_type.is_none() {
                    return Err("a body without the type that errors.include asks for".to_owned());
                }
                if body.request_sent.is_some_and(|sent| sent < *sent_at_least) {
                    return Err("a request_sent that says less than was sent".to_owned());
                }
                Ok(())
            }
            Wanted::Passed { status, body, or_made } => {
                if answer.status != *status {
                    return match or_made {
                        Some(made) if answer.status == *made => {
                            promise::check_error_response(answer, asked, contract)
                        }
                        Some(_) | None => Err(format!("{} in the place of {status}", answer.status)),
                    };
                }
                match body {
                    Some(body) if answer.end != BodyEnd::Complete || answer.body != *body => {
                        Err("a body that is not the upstream's".to_owned())
                    }
                    Some(_) | None => Ok(()),
                }
            }
            Wanted::Cut { status, body, .. } => {
                if answer.status != *status {
                    return Err(format!("{} in the place of {status}", answer.status));
                }
                if answer.end != BodyEnd::Truncated {
                    return Err("a broken response that is not visibly cut".to_owned());
                }
                if !body.starts_with(&answer.body) {
                    return Err("a body that is not the beginning of the upstream's".to_owned());
                }
                Ok(())
            }
        }
    }

    /// Writes down what came. Of a row that came out otherwise, only that there was an answer.
    pub(super) fn note(&self, ledger: &Ledger, answer: &ReceivedResponse, kept: bool) {
        let (cause, cut) = match self {
            Wanted::Made { cause, .. } => (Some(*cause), None),
            Wanted::Passed { status, .. } if answer.status == *status => (Some(UPSTREAM_RESPONSE), None),
            // Made in the place of one that passes: for which of its faults, only the gateway knows.
            Wanted::Passed { .. } => (None, None),
            Wanted::Cut { cause, .. } => (None, Some(*cause)),
        };
        ledger.answer(answer.status, cause.filter(|_| kept));
        match cut.filter(|_| kept) {
            Some(cause) => ledger.cut(cause.name()),
            None if answer.end != BodyEnd::Complete => ledger.left(),
            None => {}
        }
    }
}

/// An answer in a few words, for the table.
pub(super) fn told(answer: &ReceivedResponse) -> String {
    let how = match answer.end {
        BodyEnd::Complete => "",
        BodyEnd::Truncated => ", cut",
        BodyEnd::TimedOut => ", and then silence",
        BodyEnd::LimitReached => ", long",
    };
    let media_type = answer.header("content-type").unwrap_or("no body");
    format!("{} {media_type}{how}", answer.status)
}
