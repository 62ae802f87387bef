//! What an answer would wear, for those who want to see it without a request (`explain`).
//!
//! The fields are made by the steps that make them for real requests; nothing is decided here.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use super::dress::Dress;
use super::limits::told;
use crate::config::LimitHeaders;
use crate::limit::Timestamp;
use crate::protocol::cors::{self, CorsPolicy};

pub use super::limits::told::Told;

/// The fields of an answer of ours: to a page of this origin, by these rules of sharing, after these rules were asked.
pub fn worn(
    policy: Option<&Arc<CorsPolicy>>,
    origin: Option<&[u8]>,
    (headers, told): (LimitHeaders, &[Told<'_>]),
    now: SystemTime,
) -> Vec<cors::HeaderField> {
    let mut dress = Dress::default();
    if let Some(policy) = policy {
        dress.share(policy, origin, cors::VARY_ORIGIN);
    }
    let moment = Timestamp::after_origin(now.duration_since(UNIX_EPOCH).unwrap_or_default());
    told::tell(&mut dress, headers, told.iter().copied(), moment, now);
    dress.fields().iter().cloned().chain(dress.merged(None)).collect()
}
