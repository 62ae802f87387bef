//! Changes of header fields that a route declares: `set`, `add` and `remove`.
//!
//! Values are templates; an absent value of `set` removes the field. Framing, hop-by-hop and other fields that the
//! gateway writes itself cannot be edited: [`protected_request_field`] and [`protected_response_field`] name them.

use std::borrow::Cow;

use http::{HeaderName, HeaderValue};

use super::hop_by_hop;
use super::value_template::{Placeholder, ValueTemplate};

/// The edits of one direction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct HeaderEdits {
    /// Replaces every field of the name.
    pub(crate) set: Vec<(HeaderName, ValueTemplate)>,
    /// Added behind fields of the same name.
    pub(crate) add: Vec<(HeaderName, ValueTemplate)>,
    pub(crate) remove: Vec<HeaderName>,
}

/// The edits with their values for one request.
#[derive(Clone, Debug, Default)]
pub(crate) struct RenderedEdits {
    removed: Vec<HeaderName>,
    fields: Vec<(HeaderName, HeaderValue)>,
}

impl HeaderEdits {
    pub(crate) const fn is_empty(&self) -> bool {
        self.set.is_empty() && self.add.is_empty() && self.remove.is_empty()
    }

    /// Whether fields of this name, in lower case, are set, added to or removed.
    pub(crate) fn edits(&self, name: &str) -> bool {
        let written = self.set.iter().chain(&self.add).map(|(name, _)| name);
        written.chain(&self.remove).any(|edited| edited.as_str() == name)
    }

    /// Whether a value has placeholders.
    pub(crate) fn depends_on_request(&self) -> bool {
        self.set.iter().chain(&self.add).any(|(_, value)| value.placeholders().next().is_some())
    }

    /// Fills in the values. A value that no field may have (control characters, which no part of a valid request has)
    /// is absent.
    pub(crate) fn render<'a>(
        &self,
        mut value: impl FnMut(Placeholder) -> Option<Cow<'a, [u8]>>,
    ) -> RenderedEdits {
        let mut rendered = RenderedEdits { removed: self.remove.clone(), fields: Vec::new() };
        rendered.removed.extend(self.set.iter().map(|(name, _)| name.clone()));
        for (name, template) in self.set.iter().chain(&self.add) {
            let text = template.render(&mut value);
            if let Some(text) = text.and_then(|text| HeaderValue::from_bytes(&text).ok()) {
                rendered.fields.push((name.clone(), text));
            }
        }
        rendered
    }
}

impl RenderedEdits {
    /// Whether a client's field of this name is not forwarded. A name that differs from an edited one only by `_` for
    /// `-` is not forwarded either: CGI-like servers do not distinguish the two.
    pub(crate) fn removes_from_request(&self, name: &[u8]) -> bool {
        let fold = |octet: &u8| if *octet == b'_' { b'-' } else { octet.to_ascii_lowercase() };
        let is_like =
            |edited: &HeaderName| name.iter().map(fold).eq(edited.as_str().bytes().map(|octet| fold(&octet)));
        self.removed.iter().any(is_like)
            || (name.contains(&b'_')
                && self.fields.iter().any(|(added, _)| {
                    is_like(added) && !name.eq_ignore_ascii_case(added.as_str().as_bytes())
                }))
    }

    /// Whether a response's fields of this name are removed.
    pub(crate) fn removes(&self, name: &[u8]) -> bool {
        self.removed.iter().any(|removed| name.eq_ignore_ascii_case(removed.as_str().as_bytes()))
    }

    /// The fields to write, in the order of the configuration: `set`, then `add`.
    pub(crate) fn fields(&self) -> &[(HeaderName, HeaderValue)] {
        &self.fields
    }
}

/// Why a route cannot edit this request field; `None` if it can.
pub(crate) fn protected_request_field(name: &HeaderName) -> Option<&'static str> {
    match name.as_str() {
        "host" => Some("the key host of the upstream decides it"),
        "expect" => Some("the gateway handles it"),
        "via" => Some("the key via of the upstream decides it"),
        "x-request-id" | "forwarded" | "x-real-ip" => Some("the gateway writes it"),
        text if text.starts_with("x-forwarded-") => Some("the gateway writes it"),
        _ => framing_or_hop_by_hop(name),
    }
}

/// Why a route cannot edit this response field; `None` if it can.
pub(crate) fn protected_response_field(name: &HeaderName) -> Option<&'static str> {
    match name.as_str() {
        "content-type" | "content-encoding" => Some("it describes the body"),
        "date" => Some("it is the time of the response"),
        "retry-after" => Some("the gateway writes it"),
        "x-request-id" => Some("the gateway writes it"),
        "grpc-status" | "grpc-message" => Some("it is the result of a gRPC call"),
        _ => framing_or_hop_by_hop(name),
    }
}

/// Whether the contract defines this field for errors: the route's edits apply to it on other responses only.
pub(crate) fn is_defined_for_errors(name: &HeaderName) -> bool {
    matches!(name.as_str(), "cache-control" | "x-content-type-options")
}

fn framing_or_hop_by_hop(name: &HeaderName) -> Option<&'static str> {
    if hop_by_hop::is_framing_name(name.as_str().as_bytes()) {
        return Some("it is part of the framing");
    }
    hop_by_hop::is_hop_by_hop(name).then_some("it belongs to one connection")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::super::path_pattern::PathPattern;
    use super::*;

    fn edits(text: &str) -> HeaderEdits {
        let template = |text: &str| ValueTemplate::parse(text, &PathPattern::parse("/{id}")).unwrap();
        HeaderEdits {
            set: vec![(HeaderName::from_static("x-set"), template(text))],
            add: vec![(HeaderName::from_static("x-add"), template("a"))],
            remove: vec![HeaderName::from_static("x-gone")],
        }
    }

    #[test]
    fn set_replaces_add_keeps_and_an_absent_value_removes() {
        let rendered = edits("v {id}").render(|_| Some(Cow::Borrowed(b"7")));
        assert!(rendered.removes(b"X-Set") && rendered.removes(b"x-gone") && !rendered.removes(b"x-add"));
        let fields: Vec<_> = rendered.fields().iter().map(|(_, value)| value.as_bytes().to_vec()).collect();
        assert_eq!(fields, [b"v 7".to_vec(), b"a".to_vec()]);
        let rendered = edits("v {host}").render(|_| None);
        assert!(rendered.removes(b"x-set"));
        assert_eq!(rendered.fields().len(), 1);
    }

    #[test]
    fn underscore_variants_of_edited_request_fields_are_not_forwarded() {
        let rendered = edits("v").render(|_| None);
        for (name, removed) in [
            ("X_Set", true),
            ("x-set", true),
            ("x_gone", true),
            ("x_add", true),
            ("x-add", false),
            ("x_sets", false),
            ("x_other", false),
        ] {
            assert_eq!(rendered.removes_from_request(name.as_bytes()), removed, "{name}");
        }
    }

    proptest! {
        #[test]
        fn no_value_of_a_client_ends_a_field(value in prop::collection::vec(any::<u8>(), 0..40)) {
            let rendered = edits("v {id}").render(|_| Some(Cow::Borrowed(&value)));
            for (_, text) in rendered.fields() {
                prop_assert!(!text.as_bytes().iter().any(|octet| matches!(octet, b'\r' | b'\n' | 0)));
            }
        }
    }
}
