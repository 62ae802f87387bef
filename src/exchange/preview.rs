//! What an answer would wear, for those who want to see it without a request (`explain`).
//!
//! The fields are made by the steps that make them for real requests; nothing is decided here.

use std::sync::Arc;
use std::time::SystemTime;

use super::dress::Dress;
use super::limits;
use crate::limit::Decision;
use crate::protocol::cors::{self, Policy};

/// The fields of an answer of ours: to a page of this origin, by these rules of sharing, after these rules were asked.
pub fn worn(
    policy: Option<&Arc<Policy>>,
    origin: Option<&[u8]>,
    decisions: &[Decision],
    now: SystemTime,
) -> Vec<cors::Field> {
    let mut dress = Dress::default();
    if let Some(policy) = policy {
        dress.share(policy, origin, cors::VARY);
    }
    limits::tell(&mut dress, decisions.iter(), now);
    dress.fields().iter().cloned().chain(dress.merged(None)).collect()
}
