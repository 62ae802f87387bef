//! What every response of one request wears, passed or ours: fields that steps before the answer have finished.
//!
//! A step adds its fields here and says which of the upstream's they take the place of; [`super::relay`] and
//! [`super::replies`] apply both. What the fields say is decided in the rooms that make them.

use std::sync::Arc;

use http::header::{ACCESS_CONTROL_EXPOSE_HEADERS, VARY};
use http::{HeaderName, HeaderValue};

use super::head::Fields;
use crate::protocol::cors::{self, CorsPolicy};

/// The fields and what they replace.
#[derive(Debug, Default)]
pub(super) struct Dress {
    fields: Vec<(HeaderName, HeaderValue)>,
    /// Lower-case beginnings of the names that are ours on this request.
    owned: Vec<&'static str>,
    shared: Option<Shared>,
}

/// Cross-origin sharing is ours on this request.
#[derive(Debug)]
struct Shared {
    policy: Arc<CorsPolicy>,
    /// Our part of `Vary`.
    vary: HeaderValue,
    /// The page may read the response.
    readable: bool,
}

impl Dress {
    /// Takes cross-origin sharing over: what a page of this origin is told, and our part of `Vary`.
    pub(super) fn share(&mut self, policy: &Arc<CorsPolicy>, origin: Option<&[u8]>, vary: HeaderValue) {
        let fields = origin.and_then(|origin| policy.response_headers(origin));
        let readable = fields.is_some();
        self.fields.extend(fields.into_iter().flatten());
        self.shared = Some(Shared { policy: Arc::clone(policy), vary, readable });
    }

    /// Whether `AccessLog-Control-*` are ours.
    pub(super) const fn owns_cors(&self) -> bool {
        self.shared.is_some()
    }

    /// Where the client stands: how many at once, how many now, and the second of the epoch when all are there again.
    pub(super) fn limit(&mut self, limit: u32, remaining: u32, reset: u64) {
        self.owned.push("x-ratelimit-");
        self.fields.extend([
            (LIMIT, HeaderValue::from(limit)),
            (REMAINING, HeaderValue::from(remaining)),
            (RESET, HeaderValue::from(reset)),
        ]);
    }

    /// The same in structured fields: `RateLimit` and `RateLimit-Policy`.
    pub(super) fn standard_limits(&mut self, states: HeaderValue, policies: HeaderValue) {
        self.owned.push("ratelimit");
        self.fields.extend([(POLICY, policies), (STATE, states)]);
    }

    /// The fields, in the order in which they were added.
    pub(super) fn fields(&self) -> &[(HeaderName, HeaderValue)] {
        &self.fields
    }

    /// Fields that stand for ours and the upstream's at once. `theirs`: its response head, if there is one.
    pub(super) fn merged(&self, theirs: Option<&Fields>) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
        let merged = self.shared.as_ref().map(|shared| {
            let values = |name| theirs.into_iter().flat_map(move |fields| fields.values(name));
            let vary = (VARY, cors::merge_vary(&shared.vary, values("vary")));
            let expose = shared.readable.then(|| {
                let lists = values("access-control-expose-headers");
                (ACCESS_CONTROL_EXPOSE_HEADERS, shared.policy.exposed_headers(lists))
            });
            [Some(vary), expose]
        });
        merged.into_iter().flatten().flatten()
    }

    /// Whether a field of the upstream is dropped because ours stands for it.
    pub(super) fn replaces(&self, name: &[u8]) -> bool {
        let begins = |start: &str| {
            name.get(..start.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(start.as_bytes()))
        };
        self.owned.iter().any(|start| begins(start))
            || (self.owns_cors() && (begins("access-control-") || name.eq_ignore_ascii_case(b"vary")))
    }
}

const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const STATE: HeaderName = HeaderName::from_static("ratelimit");
const LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_begin_as_ours_are_replaced() {
        let dress = Dress { owned: vec!["x-ratelimit-"], ..Dress::default() };
        assert!(dress.replaces(b"X-RateLimit-Limit"));
        assert!(!dress.replaces(b"X-Rate"));
        assert!(!dress.replaces(b"Vary"));
        assert!(!Dress::default().replaces(b"X-RateLimit-Limit"));
    }
}
