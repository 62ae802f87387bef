//! Which header fields a forwarded response has: those of the upstream, and those that the gateway adds.
//!
//! [`super::relay`] sends them; [`super::preview`] shows those of a conforming error for `explain`.

use std::time::SystemTime;

use http::header::{DATE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderName, HeaderValue};

use super::downstream::FieldWriter;
use super::error_body::{BodyChange, ConformingBody, upstream_request_id};
use super::error_retry_after::RetryAfter;
use super::header_mutations::ResponseHeaderMutations;
use super::message::{BodyLength, HeaderFields, h1_writer};
use super::upstream_conn::UpstreamResponseHead;
use crate::config::ErrorSettings;
use crate::contract::header_filter;
use crate::contract::reply::PROBLEM_MEDIA_TYPE;
use crate::http::header_edits::{RenderedEdits, is_defined_for_errors};
use crate::http::hop_by_hop;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The header fields of an error that conforms to the contract.
#[derive(Clone, Copy, Debug)]
pub(super) struct ConformingFields<'a> {
    pub(super) response_head: &'a UpstreamResponseHead,
    pub(super) error: &'a ConformingBody,
    pub(super) settings: &'a ErrorSettings,
    pub(super) request_id: &'a HeaderValue,
    /// What the gateway adds to every response of the request.
    pub(super) added: &'a ResponseHeaderMutations,
    pub(super) now: SystemTime,
}

impl ConformingFields<'_> {
    /// Writes the upstream's fields, without those that [`header_filter::drop_on_conforming`] lists, `Cache-Control:
    /// no-store`, and the fields of every forwarded response.
    pub(super) fn write(&self, writer: &mut FieldWriter<'_>) {
        let (head, added) = (self.response_head, self.added);
        let change = self.error.change;
        let retry_after = match self.error.retry_after {
            Some(seconds) => RetryAfter::of_override(seconds),
            None => {
                let (values, status) = (head.end_to_end_values("retry-after"), head.parsed.status);
                RetryAfter::for_error(values, status, self.settings.retry_after, self.now)
            }
        };
        // A body written by the gateway contains the request ID, so the field must have the same value.
        let replaces_id = matches!(change, BodyChange::MembersAdded | BodyChange::Problem)
            && upstream_request_id(head).is_none();
        let sent = forward_fields(writer, head, |name| {
            let is_overridden =
                added.overrides(name) && !name.eq_ignore_ascii_case(b"x-content-type-options");
            !is_overridden
                && is_kept_on_error(name, change, &retry_after)
                && !(replaces_id && name.eq_ignore_ascii_case(b"x-request-id"))
        });
        writer.append(b"Cache-Control", b"no-store");
        if change == BodyChange::Problem {
            writer.append(b"Content-Type", PROBLEM_MEDIA_TYPE.as_bytes());
        }
        if self.settings.negotiate {
            writer.append(b"Vary", b"Accept");
        }
        sent.add_missing(writer, self.request_id, || self.now);
        let is_editable = |name: &HeaderName| !is_defined_for_errors(name);
        write_gateway_fields(writer, added, &head.fields, is_editable);
        // The route may demand it, but not change or remove it.
        let is_nosniff = |(name, _): &(HeaderName, HeaderValue)| *name == X_CONTENT_TYPE_OPTIONS;
        let demands_nosniff = added.edits().is_some_and(|edits| edits.fields().iter().any(is_nosniff));
        if demands_nosniff && head.end_to_end_values("x-content-type-options").next().is_none() {
            writer.append(b"X-Content-Type-Options", b"nosniff");
        }
        if let RetryAfter::Set(Some(value)) = &retry_after {
            writer.append(b"Retry-After", value);
        }
    }
}

/// The length of a conforming error. `received` is the upstream's Content-Length, which a response to HEAD keeps only
/// if its body would have been sent unchanged.
pub(super) fn conforming_length(error: &ConformingBody, received: Option<u64>) -> BodyLength {
    match (&error.body, received) {
        (Some(body), _) => BodyLength::Exactly(body.len() as u64),
        (None, Some(length)) if error.change == BodyChange::Unchanged => BodyLength::Exactly(length),
        (None, Some(_) | None) => BodyLength::Absent,
    }
}

/// Whether an upstream's field is kept on a conforming error whose body is changed in this way.
fn is_kept_on_error(name: &[u8], change: BodyChange, retry_after: &RetryAfter<'_>) -> bool {
    let is = |lower: &[u8]| name.eq_ignore_ascii_case(lower);
    let is_replaced = is(b"cache-control")
        || (matches!(retry_after, RetryAfter::Set(_)) && is(b"retry-after"))
        || (change == BodyChange::Problem && is(b"content-type"));
    let is_changed = change != BodyChange::Unchanged;
    let is_removed = |name: &HeaderName| {
        header_filter::drop_on_conforming(name) || (is_changed && header_filter::describes_content(name))
    };
    !is_replaced && HeaderName::from_bytes(name).is_ok_and(|name| !is_removed(&name))
}

/// Whether the upstream sent the fields that every forwarded response has.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SentByUpstream {
    date: bool,
    request_id: bool,
}

impl SentByUpstream {
    /// Adds the fields that the upstream did not send. The time is read only if `Date` is one of them.
    pub(super) fn add_missing(
        self,
        writer: &mut FieldWriter<'_>,
        request_id: &HeaderValue,
        now: impl FnOnce() -> SystemTime,
    ) {
        if !self.date {
            // RFC 9110 6.6.1: a recipient with a clock adds it.
            writer.append_generated(&DATE, &h1_writer::http_date(now()));
        }
        self.add_missing_request_id(writer, request_id);
    }

    /// Adds `X-Request-Id` if the upstream did not send it.
    pub(super) fn add_missing_request_id(self, writer: &mut FieldWriter<'_>, request_id: &HeaderValue) {
        if !self.request_id {
            writer.append_generated(&REQUEST_ID, request_id);
        }
    }
}

/// Writes the fields that the gateway adds to every forwarded response of this request. `is_editable`: whether the
/// route may set this field.
pub(super) fn write_gateway_fields(
    writer: &mut FieldWriter<'_>,
    header_mutations: &ResponseHeaderMutations,
    upstream_fields: &HeaderFields,
    is_editable: impl Fn(&HeaderName) -> bool,
) {
    let edits = header_mutations.edits();
    let is_kept = |name: &HeaderName| edits.is_none_or(|edits| !edits.removes(name.as_str().as_bytes()));
    for (name, value) in header_mutations.fields() {
        if is_kept(name) {
            writer.append_generated(name, value);
        }
    }
    for (name, value) in header_mutations.merged_fields(Some(upstream_fields), |_| true) {
        if is_kept(&name) {
            writer.append_generated(&name, &value);
        }
    }
    for (name, value) in
        edits.into_iter().flat_map(RenderedEdits::fields).filter(|field| is_editable(&field.0))
    {
        writer.append_generated(name, value);
    }
}

/// Copies the end-to-end fields for which `keep` returns true, names and values unchanged.
pub(super) fn forward_fields(
    writer: &mut FieldWriter<'_>,
    response_head: &UpstreamResponseHead,
    keep: impl Fn(&[u8]) -> bool,
) -> SentByUpstream {
    let connection_options = response_head.connection_options();
    let mut sent = SentByUpstream::default();
    for (name, value) in response_head.fields.iter() {
        if !connection_options.removes_name(name) && !hop_by_hop::is_framing_name(name) && keep(name) {
            match name.len() {
                4 => sent.date |= name.eq_ignore_ascii_case(b"date"),
                12 => sent.request_id |= name.eq_ignore_ascii_case(b"x-request-id"),
                _ => {}
            }
            writer.append(name, value);
        }
    }
    sent
}
