//! What every response of one request wears, passed or ours: fields that steps before the answer have finished.
//!
//! A step adds its fields here and says which of the upstream's they take the place of; [`super::relay`] and
//! [`super::reply_builder`] apply both. What the fields say is decided in the rooms that make them.

pub(super) mod cors;
pub(super) mod preview;
use std::sync::Arc;

use http::header::{ACCESS_CONTROL_EXPOSE_HEADERS, VARY};
use http::{HeaderName, HeaderValue};

use super::message::HeaderFields;
use crate::http::cors::CorsPolicy;

/// The fields and what they replace.
#[derive(Debug, Default)]
pub(super) struct ResponseHeaderMutations {
    fields: Vec<(HeaderName, HeaderValue)>,
    /// Lower-case beginnings of the names that are ours on this request.
    owned_prefixes: Vec<&'static str>,
    cors: Option<CorsState>,
}

/// Cross-origin sharing is ours on this request.
#[derive(Debug)]
struct CorsState {
    policy: Arc<CorsPolicy>,
    /// Our part of `Vary`.
    vary: HeaderValue,
    /// The page may read the response.
    readable: bool,
}

impl ResponseHeaderMutations {
    /// Takes cross-origin sharing over: what a page of this origin is told, and our part of `Vary`.
    pub(super) fn apply_cors(&mut self, policy: &Arc<CorsPolicy>, origin: Option<&[u8]>, vary: HeaderValue) {
        let fields = origin.and_then(|origin| policy.response_headers(origin));
        let readable = fields.is_some();
        self.fields.extend(fields.into_iter().flatten());
        self.cors = Some(CorsState { policy: Arc::clone(policy), vary, readable });
    }

    /// Whether `AccessLog-Control-*` are ours.
    pub(super) const fn overrides_cors(&self) -> bool {
        self.cors.is_some()
    }

    /// Where the client stands: how many at once, how many now, and the second of the epoch when all are there again.
    pub(super) fn set_rate_limit(&mut self, limit: u32, remaining: u32, reset: u64) {
        self.owned_prefixes.push("x-ratelimit-");
        self.fields.extend([
            (X_RATELIMIT_LIMIT, HeaderValue::from(limit)),
            (X_RATELIMIT_REMAINING, HeaderValue::from(remaining)),
            (X_RATELIMIT_RESET, HeaderValue::from(reset)),
        ]);
    }

    /// The same in structured fields: `RateLimit` and `RateLimit-Policy`.
    pub(super) fn set_standard_rate_limit(&mut self, states: HeaderValue, policies: HeaderValue) {
        self.owned_prefixes.push("ratelimit");
        self.fields.extend([(RATELIMIT_POLICY, policies), (RATELIMIT, states)]);
    }

    /// The fields, in the order in which they were added.
    pub(super) fn fields(&self) -> &[(HeaderName, HeaderValue)] {
        &self.fields
    }

    /// Fields that stand for ours and the upstream's at once. `upstream_fields`: its response head, if there is one.
    pub(super) fn merged_fields(
        &self,
        upstream_fields: Option<&HeaderFields>,
    ) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
        let merged = self.cors.as_ref().map(|cors| {
            let values = |name| upstream_fields.into_iter().flat_map(move |fields| fields.values(name));
            let vary = (VARY, crate::http::cors::merge_vary(&cors.vary, values("vary")));
            let expose = cors.readable.then(|| {
                let lists = values("access-control-expose-headers");
                (ACCESS_CONTROL_EXPOSE_HEADERS, cors.policy.exposed_headers(lists))
            });
            [Some(vary), expose]
        });
        merged.into_iter().flatten().flatten()
    }

    /// Whether a field of the upstream is dropped because ours stands for it.
    pub(super) fn overrides(&self, name: &[u8]) -> bool {
        let has_prefix = |prefix: &str| {
            name.get(..prefix.len()).is_some_and(|leading| leading.eq_ignore_ascii_case(prefix.as_bytes()))
        };
        self.owned_prefixes.iter().any(|prefix| has_prefix(prefix))
            || (self.overrides_cors()
                && (has_prefix("access-control-") || name.eq_ignore_ascii_case(b"vary")))
    }
}

const RATELIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const RATELIMIT: HeaderName = HeaderName::from_static("ratelimit");
const X_RATELIMIT_LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const X_RATELIMIT_REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const X_RATELIMIT_RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_owned_prefixes_are_overridden() {
        let mutations = ResponseHeaderMutations {
            owned_prefixes: vec!["x-ratelimit-"],
            ..ResponseHeaderMutations::default()
        };
        assert!(mutations.overrides(b"X-RateLimit-Limit"));
        assert!(!mutations.overrides(b"X-Rate"));
        assert!(!mutations.overrides(b"Vary"));
        assert!(!ResponseHeaderMutations::default().overrides(b"X-RateLimit-Limit"));
    }
}
