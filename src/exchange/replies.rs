//! From a fault or a judged response to the local reply: facts are collected here, decided in [`crate::contract`].
//!
//! It writes nothing: the reply goes to [`super::door`].

use std::cell::RefCell;
use std::time::{SystemTime, UNIX_EPOCH};

use http::{HeaderName, HeaderValue};

use super::flow::{Flow, Story};
use super::head::Fields;
use super::judge::Replacement;
use super::peer::UpstreamHead;
use super::record::Scope;
use crate::config::ErrorRules;
use crate::contract::fields::{self, HeaderFilterContext};
use crate::contract::{Decision, Fault, LocalReply, Trigger};
use crate::snapshot::grounds::RequestState;

/// The ruling on a fault, and its reply.
pub(super) fn for_fault(scope: &Scope<'_>, fault: &Fault, story: &Story) -> (Decision, LocalReply) {
    let grounds = scope.grounds();
    let ruling = grounds.decide(Trigger::Fault(fault.cause()));
    let known = RequestState {
        request_id: &story.request_id,
        request_sent: story.sent,
        retry_after: fault.retry_after(),
    };
    let fields = dressed(Vec::with_capacity(6), story, None);
    let reply = grounds.local_reply(&ruling, &known, fields);
    (ruling, reply)
}

/// The reply that takes the place of an upstream's error.
pub(super) fn for_response(
    scope: &Scope<'_>,
    flow: &Flow<'_>,
    head: &UpstreamHead,
    replacement: &Replacement,
) -> LocalReply {
    let Replacement { ruling, extract, said: _ } = replacement;
    let kept = kept_fields(scope.rules(), head, ruling.code().status(), flow.story);
    let fields = dressed(kept, flow.story, Some(&head.fields));
    scope.grounds().replacement_reply(ruling, extract, &flow.story.request_id, fields)
}

/// Adds what every response of this request wears.
fn dressed(
    mut fields: Vec<(HeaderName, HeaderValue)>,
    story: &Story,
    theirs: Option<&Fields>,
) -> Vec<(HeaderName, HeaderValue)> {
    fields.extend(story.dress.fields().iter().cloned());
    fields.extend(story.dress.merged(theirs));
    fields
}

/// The upstream's fields that stay on a replaced error.
fn kept_fields(
    rules: &ErrorRules,
    head: &UpstreamHead,
    sent: u16,
    story: &Story,
) -> Vec<(HeaderName, HeaderValue)> {
    let context = HeaderFilterContext {
        status_sent: sent,
        upstream_status: head.facts.status,
        gateway_cors: story.dress.owns_cors(),
        extra_kept: &rules.keep_headers,
        now: SystemTime::now(),
    };
    let mut kept = Vec::with_capacity(8);
    let theirs = &head.fields;
    // What Connection names is the upstream's connection's, on an error as on any response.
    let nominated = head.nominated();
    for (name, value) in theirs.iter() {
        if nominated.removes_name(name) || story.dress.replaces(name) {
            continue;
        }
        let Ok(name) = HeaderName::from_bytes(name) else { continue };
        let Ok(value) = HeaderValue::from_bytes(value) else { continue };
        if fields::keep_on_replaced(&name, &value, context) {
            kept.push((name, value));
        }
    }
    kept
}

thread_local! {
    /// Random bits for request ids: seeded from the system once a thread, then stepped. Ids need to be different, not
    /// secret.
    static RANDOM: RefCell<[u64; 2]> = RefCell::new({
        let (one, two) = uuid::Uuid::new_v4().as_u64_pair();
        [one, two | 1]
    });
}

/// A fresh request id: a UUID of version 7 (RFC 9562 5.7), so that ids sort by time.
pub(super) fn new_request_id() -> HeaderValue {
    let millis = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
    let random = RANDOM.with_borrow_mut(|state| [step(state), step(state)]);
    let mut bytes = [0_u8; 10];
    for (slot, byte) in bytes.iter_mut().zip(random.iter().flat_map(|word| word.to_le_bytes())) {
        *slot = byte;
    }
    let id = uuid::Builder::from_unix_timestamp_millis(millis, &bytes).into_uuid();
    let mut text = [0_u8; uuid::fmt::Hyphenated::LENGTH];
    let text = id.as_hyphenated().encode_lower(&mut text);
    // Hexadecimal digits and hyphens are always a field value.
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static("0"))
}

/// xoroshiro128+ (Blackman and Vigna): a few instructions for well spread bits.
fn step(state: &mut [u64; 2]) -> u64 {
    let [one, mut two] = *state;
    let result = one.wrapping_add(two);
    two ^= one;
    *state = [one.rotate_left(24) ^ two ^ (two << 16), two.rotate_left(37)];
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_ids_are_different_uuids_of_version_7() {
        let ids: std::collections::HashSet<String> =
            (0..10_000).map(|_| new_request_id().to_str().unwrap().to_owned()).collect();
        assert_eq!(ids.len(), 10_000);
        for id in ids {
            assert_eq!(uuid::Uuid::parse_str(&id).unwrap().get_version_num(), 7, "{id}");
        }
    }
}
