//! For `explain`: computes, without a request, the fields that the gateway adds to a response.
//!
//! Uses the same code as real requests.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use super::limits::headers::{self, RuleResult};
use super::response_headers::ResponseHeaderMutations;
use crate::config::LimitHeaders;
use crate::http::cors::{self, CallKind, CorsPolicy};
use crate::limit::Timestamp;

/// The fields that the gateway would add to a local reply, for this CORS policy, origin and rate-limit results.
pub(crate) fn preview_response_headers(
    policy: Option<&Arc<CorsPolicy>>,
    origin: Option<&[u8]>,
    (headers, results): (LimitHeaders, &[RuleResult<'_>]),
    now: SystemTime,
) -> Vec<cors::HeaderField> {
    let mut response_headers = ResponseHeaderMutations::default();
    if let Some(policy) = policy {
        response_headers.apply_cors(policy, origin, cors::VARY_ORIGIN, CallKind::Http);
    }
    let timestamp = Timestamp::after_origin(now.duration_since(UNIX_EPOCH).unwrap_or_default());
    headers::write(&mut response_headers, headers, results.iter().copied(), timestamp, now);
    response_headers.fields().iter().cloned().chain(response_headers.merged_fields(None)).collect()
}
