//! Builds the local reply for a fault or a replaced response.
//!
//! This module collects the input; [`crate::contract`] decides what the reply contains. [`super::local_reply`] sends
//! the reply.

use std::time::{SystemTime, UNIX_EPOCH};

use http::{HeaderName, HeaderValue};

use super::classify::Replacement;
use super::context::Exchange;
use super::upstream_conn::UpstreamResponseHead;
use crate::contract::header_filter::{self, HeaderFilterContext};
use crate::contract::{Fault, LocalReply, Trigger};
use crate::snapshot::error_context::RequestState;

/// The local reply for a fault.
pub(super) fn for_fault(exchange: &mut Exchange<'_>, fault: &Fault) -> LocalReply {
    let error_context = exchange.context.error_context();
    let decision = error_context.decide(Trigger::Fault(fault.cause()));
    let request_state = RequestState {
        request_id: &exchange.context.request_id,
        request_sent: exchange.record.request_sent,
        retry_after: fault.retry_after(),
        // Only the Retry-After of an upstream can be a date.
        now: UNIX_EPOCH,
        message: fault.message(),
    };
    let fields = exchange.header_mutations.take_fields(None);
    error_context.local_reply(&decision, &request_state, fields)
}

/// The reply that replaces an upstream's error.
pub(super) fn for_replacement(
    exchange: &mut Exchange<'_>,
    response_head: &UpstreamResponseHead,
    replacement: &Replacement,
) -> LocalReply {
    let Replacement { decision, extracted, evidence: _ } = replacement;
    let now = SystemTime::now();
    let status = decision.code().status();
    let mut fields = kept_fields(exchange, response_head, status, now);
    fields.append(&mut exchange.header_mutations.take_fields(Some((&response_head.fields, status))));
    let request_id = &exchange.context.request_id;
    exchange.context.error_context().replacement_reply(decision, extracted, (request_id, now), fields)
}

/// The upstream's fields that are kept on a replaced error.
fn kept_fields(
    exchange: &Exchange<'_>,
    response_head: &UpstreamResponseHead,
    status: u16,
    now: SystemTime,
) -> Vec<(HeaderName, HeaderValue)> {
    let header_mutations = &exchange.header_mutations;
    let filter_context = HeaderFilterContext {
        status_sent: status,
        gateway_cors: header_mutations.overrides_cors(),
        extra_kept: &exchange.context.error_config().keep_headers,
        contract_kept: exchange.context.contract().keep_headers(),
        now,
    };
    let mut kept = Vec::with_capacity(8);
    let upstream_fields = &response_head.fields;
    // Fields that Connection names are hop-by-hop, on an error as on any response.
    let connection_options = response_head.connection_options();
    for (name, value) in upstream_fields.iter() {
        if connection_options.removes_name(name) || header_mutations.overrides(name) {
            continue;
        }
        let Ok(name) = HeaderName::from_bytes(name) else { continue };
        let Ok(value) = HeaderValue::from_bytes(value) else { continue };
        let is_repeated = || header_filter::is_single(&name) && kept.iter().any(|(other, _)| *other == name);
        if header_filter::keep_on_replaced(&name, &value, filter_context) && !is_repeated() {
            kept.push((name, value));
        }
    }
    kept
}
