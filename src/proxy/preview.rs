//! For `explain`: computes, without a request, the fields that the gateway adds to a response, and what a client
//! receives of an upstream's error.
//!
//! Uses the same code as real requests.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Method};

use super::downstream::FieldWriter;
use super::downstream::h1::{Persistence, write_response_head};
use super::error_body::{BodyChange, CheckedBody, ErrorResponse};
use super::forwarded_response::{ConformingFields, conforming_length};
use super::header_mutations::ResponseHeaderMutations;
use super::limits::headers::{self, RuleResult};
use super::message::{HeaderFields, ResponseHeadParts};
use super::upstream_conn::UpstreamResponseHead;
use crate::config::LimitHeaders;
use crate::contract::conform::Conformance;
use crate::contract::{Decision, ExtractedError};
use crate::http::cors::{self, CallKind, CorsPolicy};
use crate::http::header_edits::RenderedEdits;
use crate::http::request_head::Version;
use crate::http::response_head;
use crate::limit::Timestamp;
use crate::snapshot::error_context::ErrorContext;

/// The fields that the gateway adds to every response of a request.
#[derive(Debug)]
pub(crate) struct PreviewedHeaders(ResponseHeaderMutations);

impl PreviewedHeaders {
    /// For this CORS policy, origin and rate-limit results.
    pub(crate) fn new(
        policy: Option<&Arc<CorsPolicy>>,
        origin: Option<&[u8]>,
        headers: LimitHeaders,
        results: &[RuleResult<'_>],
        now: SystemTime,
    ) -> Self {
        let mut header_mutations = ResponseHeaderMutations::default();
        if let Some(policy) = policy {
            header_mutations.apply_cors(policy, origin, cors::VARY_ORIGIN, CallKind::Http);
        }
        let timestamp = Timestamp::after_epoch(now.duration_since(UNIX_EPOCH).unwrap_or_default());
        headers::write(&mut header_mutations, headers, results.iter().copied(), timestamp, now);
        PreviewedHeaders(header_mutations)
    }

    /// The fields of a local reply, without the edits of the route.
    pub(crate) fn for_local_reply(&self) -> Vec<cors::HeaderField> {
        self.0.fields().iter().cloned().chain(self.0.merged_fields(None, |_| true)).collect()
    }

    /// Sets `Allow`.
    pub(crate) fn set_allow(&mut self, methods: HeaderValue) {
        self.0.set_allow(methods);
    }

    /// Adds the edits of the route.
    pub(crate) fn set_edits(&mut self, edits: RenderedEdits) {
        self.0.set_edits(edits);
    }
}

/// An upstream's error response that has only Content-Length and Content-Type.
#[derive(Debug)]
pub(crate) struct SampleResponse {
    head: UpstreamResponseHead,
    body: Bytes,
}

impl SampleResponse {
    /// # Errors
    /// A constant text: the header section is malformed.
    pub(crate) fn new(status: u16, media_type: &HeaderValue, body: Bytes) -> Result<Self, &'static str> {
        let line = format!("HTTP/1.1 {status} \r\nContent-Length: {}\r\nContent-Type: ", body.len());
        let head = Bytes::from([line.as_bytes(), media_type.as_bytes(), b"\r\n\r\n"].concat());
        let head = UpstreamResponseHead {
            parsed: response_head::parse(&head, &Method::GET)?,
            fields: HeaderFields::Raw(head),
            reason: Bytes::new(),
            headers_only: false,
        };
        Ok(SampleResponse { head, body })
    }

    /// Checks the response as [`super::classify`] does. A response to HEAD has no body.
    pub(crate) fn check<'a>(
        &'a self,
        context: ErrorContext<'_>,
        decision: &Decision,
        request_id: &HeaderValue,
        now: SystemTime,
    ) -> CheckedResponse<'a> {
        let request_fields = HeaderFields::Raw(Bytes::new());
        let head = &self.head;
        let error =
            ErrorResponse { context, decision, head, request_fields: &request_fields, request_id, now };
        let checked = if *context.method == Method::HEAD {
            error.check_without_body()
        } else if self.body.len() > context.error_config.upstream_body_limit {
            error.uncheckable(Conformance::TooLarge, &self.body)
        } else {
            error.check(&self.body)
        };
        CheckedResponse { head, checked }
    }
}

/// A response that was checked against the contract.
#[derive(Debug)]
pub(crate) struct CheckedResponse<'a> {
    head: &'a UpstreamResponseHead,
    checked: CheckedBody,
}

impl CheckedResponse<'_> {
    pub(crate) const fn conformance(&self) -> Conformance {
        self.checked.conformance
    }

    /// How the body that is forwarded differs from the upstream's; `None` if the response is replaced.
    pub(crate) fn forwarded(&self) -> Option<BodyChange> {
        self.checked.forwarded.as_ref().map(|body| body.change)
    }

    /// What may be sent of a body that is replaced.
    pub(crate) const fn extracted(&self) -> &ExtractedError {
        &self.checked.extracted
    }

    /// The HTTP/1.1 bytes of the forwarded response, and the length of its body. Empty if the response is replaced.
    pub(crate) fn render_h1(
        &self,
        context: &ErrorContext<'_>,
        added: &PreviewedHeaders,
        request_id: &HeaderValue,
        now: SystemTime,
    ) -> (Bytes, u64) {
        let Some(forwarded) = &self.checked.forwarded else { return (Bytes::new(), 0) };
        let fields = ConformingFields {
            response_head: self.head,
            error: forwarded,
            settings: context.error_config,
            request_id,
            added: &added.0,
            now,
        };
        let status = self.head.parsed.status;
        let length = conforming_length(forwarded, self.head.parsed.content_length);
        let parts = ResponseHeadParts { status, reason: None, length };
        let framing = parts.sent_framing(Version::Http11, *context.method == Method::HEAD);
        let mut out = BytesMut::new();
        write_response_head(
            &mut out,
            &parts,
            framing,
            Persistence { version: Version::Http11, keep_alive: true },
            |out| {
                fields.write(&mut FieldWriter::Raw(out));
            },
        );
        let body = forwarded.body.as_ref().map_or(&[][..], |body| &body[..]);
        out.extend_from_slice(body);
        (out.freeze(), body.len() as u64)
    }
}
