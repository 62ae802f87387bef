//! Builds the local reply for a fault or a replaced response.
//!
//! This module collects the input; [`crate::contract`] decides what the reply contains.
//! [`super::local_reply`] sends the reply.

use std::cell::RefCell;
use std::time::{SystemTime, UNIX_EPOCH};

use http::{HeaderName, HeaderValue};

use super::classify::Replacement;
use super::context::{RequestContext, RequestLog};
use super::message::HeaderFields;
use super::record::RequestScope;
use super::upstream_conn::UpstreamResponseHead;
use crate::config::ErrorRules;
use crate::contract::header_filter::{self, HeaderFilterContext};
use crate::contract::{Fault, LocalReply, Trigger};
use crate::snapshot::error_context::RequestState;

/// The local reply for a fault.
pub(super) fn for_fault(scope: &RequestScope<'_>, fault: &Fault, log: &RequestLog) -> LocalReply {
    let error_context = scope.error_context();
    let decision = error_context.decide(Trigger::Fault(fault.cause()));
    let request_state = RequestState {
        request_id: &log.request_id,
        request_sent: log.request_sent,
        retry_after: fault.retry_after(),
    };
    let fields = with_response_headers(Vec::with_capacity(6), log, None);
    error_context.local_reply(&decision, &request_state, fields)
}

/// The reply that replaces an upstream's error.
pub(super) fn for_replacement(
    scope: &RequestScope<'_>,
    context: &RequestContext<'_>,
    response_head: &UpstreamResponseHead,
    replacement: &Replacement,
) -> LocalReply {
    let Replacement { decision, extracted, evidence: _ } = replacement;
    let kept = kept_fields(scope.error_config(), response_head, decision.code().status(), context.log);
    let fields = with_response_headers(kept, context.log, Some(&response_head.fields));
    scope.error_context().replacement_reply(decision, extracted, &context.log.request_id, fields)
}

/// Adds the fields that every response of this request gets.
fn with_response_headers(
    mut fields: Vec<(HeaderName, HeaderValue)>,
    log: &RequestLog,
    upstream_fields: Option<&HeaderFields>,
) -> Vec<(HeaderName, HeaderValue)> {
    fields.extend(log.response_headers.fields().iter().cloned());
    fields.extend(log.response_headers.merged_fields(upstream_fields));
    fields
}

/// The upstream's fields that are kept on a replaced error.
fn kept_fields(
    error_config: &ErrorRules,
    response_head: &UpstreamResponseHead,
    status: u16,
    log: &RequestLog,
) -> Vec<(HeaderName, HeaderValue)> {
    let context = HeaderFilterContext {
        status_sent: status,
        upstream_status: response_head.parsed.status,
        gateway_cors: log.response_headers.overrides_cors(),
        extra_kept: &error_config.keep_headers,
        now: SystemTime::now(),
    };
    let mut kept = Vec::with_capacity(8);
    let upstream_fields = &response_head.fields;
    // Fields that Connection names are hop-by-hop, on an error as on any response.
    let connection_options = response_head.connection_options();
    for (name, value) in upstream_fields.iter() {
        if connection_options.removes_name(name) || log.response_headers.overrides(name) {
            continue;
        }
        let Ok(name) = HeaderName::from_bytes(name) else { continue };
        let Ok(value) = HeaderValue::from_bytes(value) else { continue };
        if header_filter::keep_on_replaced(&name, &value, context) {
            kept.push((name, value));
        }
    }
    kept
}

thread_local! {
    /// State of the random number generator for request ids, seeded from the system once per thread. Ids must be
    /// unique, not secret.
    static RANDOM: RefCell<[u64; 2]> = RefCell::new({
        let (one, two) = uuid::Uuid::new_v4().as_u64_pair();
        [one, two | 1]
    });
}

/// Generates a request id: a UUID version 7 (RFC 9562 5.7), so that ids sort by time.
pub(super) fn new_request_id() -> HeaderValue {
    let millis = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
    let random = RANDOM.with_borrow_mut(|state| [next_random(state), next_random(state)]);
    let mut bytes = [0_u8; 10];
    for (slot, byte) in bytes.iter_mut().zip(random.iter().flat_map(|word| word.to_le_bytes())) {
        *slot = byte;
    }
    let id = uuid::Builder::from_unix_timestamp_millis(millis, &bytes).into_uuid();
    let mut text = [0_u8; uuid::fmt::Hyphenated::LENGTH];
    let text = id.as_hyphenated().encode_lower(&mut text);
    // Hexadecimal digits and hyphens are always a valid field value.
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static("0"))
}

/// xoroshiro128+ (Blackman and Vigna): fast, and evenly distributed.
fn next_random(state: &mut [u64; 2]) -> u64 {
    let [first, mut second] = *state;
    let result = first.wrapping_add(second);
    second ^= first;
    *state = [first.rotate_left(24) ^ second ^ (second << 16), second.rotate_left(37)];
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_ids_are_unique_version_7_uuids() {
        let ids: std::collections::HashSet<String> =
            (0..10_000).map(|_| new_request_id().to_str().unwrap().to_owned()).collect();
        assert_eq!(ids.len(), 10_000);
        for id in ids {
            assert_eq!(uuid::Uuid::parse_str(&id).unwrap().get_version_num(), 7, "{id}");
        }
    }
}
