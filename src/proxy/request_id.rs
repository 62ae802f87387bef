//! Generates request IDs: unique, sortable by time, and cheap.

use std::cell::RefCell;
use std::time::{SystemTime, UNIX_EPOCH};

use http::HeaderValue;

thread_local! {
    /// State of the random number generator for request ids, seeded from the system once per thread. Ids must be
    /// unique, not secret.
    static RANDOM: RefCell<[u64; 2]> = RefCell::new({
        let (one, two) = uuid::Uuid::new_v4().as_u64_pair();
        [one, two | 1]
    });
}

/// Generates a request id: a UUID version 7 (RFC 9562 5.7), so that ids sort by time.
pub(super) fn generate() -> HeaderValue {
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
            (0..10_000).map(|_| generate().to_str().unwrap().to_owned()).collect();
        assert_eq!(ids.len(), 10_000);
        for id in ids {
            assert_eq!(uuid::Uuid::parse_str(&id).unwrap().get_version_num(), 7, "{id}");
        }
    }
}
