//! Header fields that the gateway adds to every response of one request, forwarded or generated.
//!
//! CORS, rate limits, `Allow` and the route's `response_headers` add fields, and name the upstream fields to remove.
//! [`super::relay`] and [`super::reply_builder`] apply both to the response.

pub(super) mod cors;

use std::sync::Arc;

use http::header::{ACCESS_CONTROL_EXPOSE_HEADERS, ALLOW, VARY};
use http::{HeaderName, HeaderValue};

use super::message::HeaderFields;
use crate::contract::header_filter::is_known_field_name;
use crate::contract::reply::{COMMON_REPLY_FIELDS, decimal};
use crate::http::ascii_class::list_elements;
use crate::http::cors::{CallKind, CorsPolicy};
use crate::http::header_edits::RenderedEdits;

/// Fields to add to a response, and upstream fields to remove.
#[derive(Debug, Default)]
pub(super) struct ResponseHeaderMutations {
    fields: Vec<(HeaderName, HeaderValue)>,
    /// Upstream fields whose names start with one of these are removed. In lower case.
    removed_prefixes: Vec<&'static str>,
    cors: Option<CorsState>,
    /// The route's `response_headers`. Boxed because few routes have them.
    edits: Option<Box<RenderedEdits>>,
}

/// The CORS policy of the request, and its result.
#[derive(Debug)]
struct CorsState {
    policy: Arc<CorsPolicy>,
    /// The members that the gateway adds to `Vary`.
    vary: HeaderValue,
    /// The origin is allowed: its scripts may read the response.
    readable: bool,
    call: CallKind,
}

impl ResponseHeaderMutations {
    /// Adds the CORS fields of `policy` for this origin. The upstream's CORS fields are removed from now on.
    pub(super) fn apply_cors(
        &mut self,
        policy: &Arc<CorsPolicy>,
        origin: Option<&[u8]>,
        vary: HeaderValue,
        call: CallKind,
    ) {
        let fields = origin.and_then(|origin| policy.response_fields(origin));
        let readable = fields.is_some();
        self.fields.extend(fields.into_iter().flatten());
        self.cors = Some(CorsState { policy: Arc::clone(policy), vary, readable, call });
    }

    /// Whether the upstream's `Access-Control-*` fields are replaced.
    pub(super) const fn overrides_cors(&self) -> bool {
        self.cors.is_some()
    }

    /// Sets `X-RateLimit-*`: the quota, what remains of it, and the Unix time in seconds at which it is replenished.
    pub(super) fn set_x_ratelimit(&mut self, limit: u32, remaining: u32, reset: u64) {
        self.removed_prefixes.push("x-ratelimit-");
        self.fields.reserve(3 + COMMON_REPLY_FIELDS);
        self.fields.extend([
            (X_RATELIMIT_LIMIT, decimal(limit.into())),
            (X_RATELIMIT_REMAINING, decimal(remaining.into())),
            (X_RATELIMIT_RESET, decimal(reset)),
        ]);
    }

    /// Sets the structured fields `RateLimit` and `RateLimit-Policy`.
    pub(super) fn set_ratelimit(&mut self, states: HeaderValue, policies: HeaderValue) {
        self.removed_prefixes.push("ratelimit");
        self.fields.extend([(RATELIMIT_POLICY, policies), (RATELIMIT, states)]);
    }

    /// Applies the route's `response_headers` to the response.
    pub(super) fn set_edits(&mut self, edits: RenderedEdits) {
        self.edits = Some(Box::new(edits));
    }

    /// The route's `response_headers`, with their values.
    pub(super) fn edits(&self) -> Option<&RenderedEdits> {
        self.edits.as_deref()
    }

    /// Sets `Allow`: the methods that the routes of this path accept.
    pub(super) fn set_allow(&mut self, methods: HeaderValue) {
        self.fields.push((ALLOW, methods));
    }

    /// The fields of a local reply: moved, because a request gets one response. `upstream_fields` are those of the
    /// response that it replaces, with the status that is sent.
    pub(super) fn take_fields(
        &mut self,
        upstream_fields: Option<(&HeaderFields, u16)>,
    ) -> Vec<(HeaderName, HeaderValue)> {
        let mut fields = std::mem::take(&mut self.fields);
        let is_client_error = upstream_fields.is_none_or(|(_, status)| status < 500);
        // No field of a 5xx carries upstream text.
        let is_kept = |name: &[u8]| is_client_error || is_known_field_name(name);
        fields.extend(self.merged_fields(upstream_fields.map(|(fields, _)| fields), is_kept));
        fields
    }

    /// The fields to add, in order. Without [`Self::merged_fields`].
    pub(super) fn fields(&self) -> &[(HeaderName, HeaderValue)] {
        &self.fields
    }

    /// `Vary` and `Access-Control-Expose-Headers`, which combine the gateway's members with those of `upstream_fields`
    /// for which `is_kept` returns true.
    pub(super) fn merged_fields(
        &self,
        upstream_fields: Option<&HeaderFields>,
        is_kept: impl Fn(&[u8]) -> bool,
    ) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
        let merged = self.cors.as_ref().map(|cors| {
            let is_kept = &is_kept;
            let values = |name| {
                let values = upstream_fields.into_iter().flat_map(move |fields| fields.values(name));
                values.flat_map(list_elements).filter(|element| is_kept(element))
            };
            let vary = (VARY, crate::http::cors::merge_vary(&cors.vary, values("vary")));
            let expose = cors.readable.then(|| {
                let lists = values("access-control-expose-headers");
                (ACCESS_CONTROL_EXPOSE_HEADERS, cors.policy.exposed_headers(cors.call, lists))
            });
            [Some(vary), expose]
        });
        merged.into_iter().flatten().flatten()
    }

    /// Whether an upstream field is removed, because the gateway sets it or the route removes it.
    pub(super) fn overrides(&self, name: &[u8]) -> bool {
        let has_prefix = |prefix: &str| {
            name.get(..prefix.len()).is_some_and(|leading| leading.eq_ignore_ascii_case(prefix.as_bytes()))
        };
        self.removed_prefixes.iter().any(|prefix| has_prefix(prefix))
            || self.edits.as_ref().is_some_and(|edits| edits.removes(name))
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
    fn only_listed_prefixes_are_removed() {
        let mutations = ResponseHeaderMutations {
            removed_prefixes: vec!["x-ratelimit-"],
            ..ResponseHeaderMutations::default()
        };
        assert!(mutations.overrides(b"X-RateLimit-Limit"));
        assert!(!mutations.overrides(b"X-Rate"));
        assert!(!mutations.overrides(b"Vary"));
        assert!(!ResponseHeaderMutations::default().overrides(b"X-RateLimit-Limit"));
    }
}
