//! Checks an upstream's error body against the contract. A conforming body is forwarded, with members added that only
//! the gateway knows. From any other body it extracts what the replacement may contain.
//!
//! Pure. [`super::classify`] reads the bodies of real responses, [`super::preview`] passes given ones for `explain`.

use std::borrow::Cow;
use std::time::SystemTime;

use bytes::Bytes;
use http::HeaderValue;

use super::error_retry_after::RetryAfter;
use super::message::HeaderFields;
use super::upstream_conn::UpstreamResponseHead;
use crate::contract::conform::{self, Conformance, ConformingError, ErrorBody};
use crate::contract::decode::{self, ContentCoding, DecodeError};
use crate::contract::extract::{self, ExtractedError};
use crate::contract::forwarded_error::{self, ForwardedFacts};
use crate::contract::template::conform::is_request_id;
use crate::contract::{BodyFormat, Decision, RequestSent, retryable};
use crate::snapshot::error_context::ErrorContext;

/// An upstream's error response without its body, and the facts of the request that decide what is sent of the body.
#[derive(Clone, Copy, Debug)]
pub(super) struct ErrorResponse<'a> {
    pub(super) context: ErrorContext<'a>,
    pub(super) decision: &'a Decision,
    pub(super) head: &'a UpstreamResponseHead,
    pub(super) request_fields: &'a HeaderFields,
    pub(super) request_id: &'a HeaderValue,
    pub(super) now: SystemTime,
}

/// An error body that was checked against the contract. It may have been read in part, or not at all.
#[derive(Debug)]
pub(super) struct CheckedBody {
    pub(super) conformance: Conformance,
    /// What may be sent of a body that is replaced.
    pub(super) extracted: ExtractedError,
    /// The body to send, if the response conforms and may be forwarded.
    pub(super) forwarded: Option<ConformingBody>,
    /// The body for the evidence in the access log, decoded if it had to be.
    pub(super) evidence_body: Bytes,
}

/// The body of a conforming error.
#[derive(Debug)]
pub(super) struct ConformingBody {
    /// The body to send; `None` for a HEAD request.
    pub(super) body: Option<Bytes>,
    /// How it differs from the one received.
    pub(super) change: BodyChange,
    /// The `Retry-After` of an override, in seconds.
    pub(super) retry_after: Option<u64>,
}

/// What was changed in a conforming body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyChange {
    Unchanged,
    /// The content coding was removed, because the client does not accept it.
    Decoded,
    /// The gateway added members that only it can provide, such as the request ID.
    MembersAdded,
    /// Converted to a problem document, because the client prefers that.
    Problem,
    /// A response to HEAD: the body of GET would have been changed, so its length is unknown.
    UnknownLength,
}

impl ErrorResponse<'_> {
    /// Checks a response to HEAD, which has no body.
    pub(super) fn check_without_body(&self) -> CheckedBody {
        let contract = self.context.contract;
        let status = self.head.parsed.status;
        let messages = self.context.error_config.upstream_messages;
        let conformance = conform::check_head_response(contract, status, self.media_type(), messages);
        let change = if self.context.format == BodyFormat::NegotiatedProblem {
            BodyChange::Problem
        } else if contract.template().adds_members()
            || !self.coding().is_some_and(|coding| self.accepts(coding))
        {
            BodyChange::UnknownLength
        } else {
            BodyChange::Unchanged
        };
        let may_be_sent = conformance == Conformance::Conforms && self.may_forward();
        CheckedBody {
            forwarded: may_be_sent.then_some(self.forwarded(None, change)),
            ..CheckedBody::replaced(conformance, Bytes::new())
        }
    }

    /// The result for a body that cannot be checked, for this reason.
    pub(super) fn uncheckable(&self, reason: Conformance, body: &Bytes) -> CheckedBody {
        let conformance = if self.is_documented() { reason } else { Conformance::Undocumented };
        CheckedBody::replaced(conformance, body.clone())
    }

    /// Decodes a complete body and checks it against the contract.
    pub(super) fn check(&self, body: &Bytes) -> CheckedBody {
        let Some(coding) = self.coding() else { return self.uncheckable(Conformance::NotJson, body) };
        let decoded = match decoded(coding, body, self.context.error_config.upstream_body_limit) {
            Ok(decoded) => decoded,
            Err(conformance) => return CheckedBody::replaced(conformance, body.clone()),
        };
        let status = self.head.parsed.status;
        let error = ErrorBody { status, media_type: self.media_type(), body: &decoded };
        let messages = self.context.error_config.upstream_messages;
        let conformance = match conform::check_body(self.context.contract, &error, messages) {
            Ok(conforming) if self.may_forward() => {
                return CheckedBody {
                    forwarded: Some(self.conforming_body(coding, body, &conforming)),
                    ..CheckedBody::replaced(Conformance::Conforms, body.clone())
                };
            }
            // Replaced all the same: what may be sent of it is extracted.
            Ok(_) => Conformance::Conforms,
            Err(conformance) => conformance,
        };
        let extracted = self.extract(&error);
        let evidence_body = match decoded {
            Cow::Borrowed(_) => body.clone(),
            Cow::Owned(decoded) => Bytes::from(decoded),
        };
        CheckedBody { extracted, ..CheckedBody::replaced(conformance, evidence_body) }
    }

    fn is_documented(&self) -> bool {
        self.context.contract.code(self.head.parsed.status).is_some()
    }

    /// Whether the error is forwarded if it conforms. gRPC clients read an error from the gRPC status, not from the
    /// body.
    fn may_forward(&self) -> bool {
        self.decision.allows_upstream_body() && self.context.grpc.is_none()
    }

    fn forwarded(&self, body: Option<Bytes>, change: BodyChange) -> ConformingBody {
        ConformingBody { body, change, retry_after: self.override_retry_after() }
    }

    /// The `Retry-After` of an override, in seconds.
    fn override_retry_after(&self) -> Option<u64> {
        self.decision.retry_after().map(|seconds| seconds.max(1))
    }

    /// The body of a conforming error, as it is sent to the client. `body` is what was received, in this coding.
    fn conforming_body(
        &self,
        coding: ContentCoding,
        body: &Bytes,
        conforming: &ConformingError<'_>,
    ) -> ConformingBody {
        let contract = self.context.contract;
        let status = self.head.parsed.status;
        let is_problem = self.context.format == BodyFormat::NegotiatedProblem;
        if let (Some(code), true) = (contract.code(status), is_problem || contract.template().adds_members())
        {
            let facts = ForwardedFacts {
                request_id: upstream_request_id(self.head).or_else(|| self.request_id.to_str().ok()),
                retryable: retryable(status, RequestSent::Full, self.context.method),
                retry_after: self.retry_after(),
            };
            if is_problem {
                let body = forwarded_error::problem_document(contract, code, conforming, facts);
                return self.forwarded(Some(body), BodyChange::Problem);
            }
            if let Some(body) = forwarded_error::add_members(contract, code, conforming, facts) {
                return self.forwarded(Some(body), BodyChange::MembersAdded);
            }
        }
        if coding == ContentCoding::Identity || self.accepts(coding) {
            return self.forwarded(Some(body.clone()), BodyChange::Unchanged);
        }
        let decoded = Bytes::copy_from_slice(conforming.text.as_bytes());
        self.forwarded(Some(decoded), BodyChange::Decoded)
    }

    /// The seconds of the `Retry-After` that the client receives with a conforming error.
    fn retry_after(&self) -> Option<u64> {
        if let Some(seconds) = self.override_retry_after() {
            return Some(seconds);
        }
        let (values, status) = (self.head.end_to_end_values("retry-after"), self.head.parsed.status);
        RetryAfter::for_error(values, status, self.context.error_config.retry_after, self.now)
            .seconds(self.now)
    }

    /// What may be sent of a body that is replaced.
    fn extract(&self, error: &ErrorBody<'_>) -> ExtractedError {
        let contract = self.context.contract;
        let extraction = self.context.extraction(error.status, self.decision);
        // Most replaced bodies are HTML pages: checking the first byte avoids parsing them.
        let text = error.body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(error.body);
        let starts_json =
            text.iter().find(|octet| !octet.is_ascii_whitespace()).is_some_and(|octet| *octet == b'{');
        let may_be_used = extraction.message || extraction.details || contract.types().is_some();
        if starts_json && may_be_used {
            return extract::extract_with(contract, error.body, &extraction);
        }
        let is_text = error.media_type.is_some_and(|value| {
            let essence = value.split(|octet| *octet == b';').next().unwrap_or_default();
            essence.trim_ascii().eq_ignore_ascii_case(b"text/plain")
        });
        let message =
            (is_text && extraction.message).then(|| extract::plain_text_message(error.body)).flatten();
        ExtractedError { message, ..ExtractedError::default() }
    }

    /// The coding of the body; `None` if it cannot be decoded.
    fn coding(&self) -> Option<ContentCoding> {
        let values = self.head.end_to_end_values("content-encoding");
        let codings: Vec<_> = values.filter_map(|value| HeaderValue::from_bytes(value).ok()).collect();
        ContentCoding::parse(&codings)
    }

    /// Whether the client accepts this content coding.
    fn accepts(&self, coding: ContentCoding) -> bool {
        let name = match coding {
            ContentCoding::Identity => return true,
            ContentCoding::Gzip => "gzip",
            ContentCoding::Deflate => "deflate",
            ContentCoding::Br => "br",
            ContentCoding::Zstd => "zstd",
        };
        crate::http::accept_encoding::accepts_coding(self.request_fields.values("accept-encoding"), name)
    }

    /// The Content-Type. An empty value if there are several, because clients differ in which one they use.
    fn media_type(&self) -> Option<&[u8]> {
        let mut types = self.head.end_to_end_values("content-type");
        let first = types.next()?;
        Some(if types.next().is_none() { first } else { b"" })
    }
}

/// The `X-Request-Id` of the upstream, which stays on a conforming error. `None` if a body cannot contain it.
pub(super) fn upstream_request_id(head: &UpstreamResponseHead) -> Option<&str> {
    let value = head.end_to_end_values("x-request-id").next()?;
    std::str::from_utf8(value).ok().filter(|id| is_request_id(id))
}

impl CheckedBody {
    /// A body that is replaced, and of which nothing is sent.
    fn replaced(conformance: Conformance, evidence_body: Bytes) -> CheckedBody {
        CheckedBody { conformance, extracted: ExtractedError::default(), forwarded: None, evidence_body }
    }
}

/// The body without its content coding, at most `limit` bytes; the conformance of one that cannot be decoded.
fn decoded(coding: ContentCoding, body: &Bytes, limit: usize) -> Result<Cow<'_, [u8]>, Conformance> {
    match coding {
        ContentCoding::Identity if body.len() > limit => Err(Conformance::TooLarge),
        ContentCoding::Identity => Ok(Cow::Borrowed(body)),
        ContentCoding::Gzip | ContentCoding::Deflate | ContentCoding::Br | ContentCoding::Zstd => {
            decode::decode(coding, body, limit).map(Cow::Owned).map_err(|error| match error {
                DecodeError::TooLarge => Conformance::TooLarge,
                DecodeError::Malformed => Conformance::NotJson,
            })
        }
    }
}
