//! What a client receives of an upstream's body that conforms: its bytes, completed, or the same error as a problem
//! document.

use bytes::{Bytes, BytesMut};

use super::code::{Contract, DocumentedCode};
use super::conform::ConformingError;
use super::extract::{self, compact};
use super::fault::RequestSent;
use super::template::presets::PROBLEM;
use super::template::render::BodyValues;

/// What only the gateway knows about a forwarded error.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ForwardedFacts<'a> {
    /// The request ID in the response.
    pub request_id: Option<&'a str>,
    /// Whether the client may repeat the request.
    pub retryable: bool,
    /// The seconds of the response's `Retry-After`.
    pub retry_after: Option<u64>,
}

/// The body with what only the gateway knows, or `None` if the template has nothing to add.
pub(crate) fn add_members(
    contract: &Contract,
    code: DocumentedCode,
    error: &ConformingError<'_>,
    facts: ForwardedFacts<'_>,
) -> Option<Bytes> {
    let template = contract.template();
    if !template.adds_members() {
        return None;
    }
    template.add_members((error.text, &error.value), &values(contract, code, facts), contract.allowed_types())
}

/// The error as a problem document, with its message, type and details.
pub(crate) fn problem_document(
    contract: &Contract,
    code: DocumentedCode,
    error: &ConformingError<'_>,
    facts: ForwardedFacts<'_>,
) -> Bytes {
    let template = contract.template();
    let body = &error.value;
    let message = template.message_places().iter().find_map(|place| place.find(body)?.as_text());
    let kind = extract::type_in(contract, body);
    let details = template.detail_places().iter().find_map(|place| place.find(body)).map(compact);
    let own = values(contract, code, facts);
    let values = BodyValues {
        message: message.unwrap_or(own.message),
        kind: kind.unwrap_or(own.kind),
        kind_of_upstream: kind.is_some(),
        details: details.as_deref(),
        ..own
    };
    let mut out = BytesMut::new();
    PROBLEM.render(&values, &mut out);
    out.freeze()
}

fn values<'a>(contract: &'a Contract, code: DocumentedCode, facts: ForwardedFacts<'a>) -> BodyValues<'a> {
    BodyValues {
        request_id: facts.request_id,
        retryable: facts.retryable,
        request_sent: RequestSent::Full,
        retry_after: facts.retry_after,
        ..contract.body_values(code, None)
    }
}
