//! What every response of one request wears, passed or ours: fields that steps before the answer have finished.
//!
//! A step adds its fields here and says which of the upstream's they take the place of; [`super::relay`] and
//! [`super::replies`] apply both. What the fields say is decided in the rooms that make them.

use http::{HeaderName, HeaderValue};

/// The fields and what they replace.
#[derive(Debug, Default)]
pub(super) struct Dress {
    fields: Vec<(HeaderName, HeaderValue)>,
    /// Lower-case beginnings of the names that are ours on this request.
    owned: Vec<&'static str>,
}

impl Dress {
    /// The fields, in the order in which they were added.
    pub(super) fn fields(&self) -> &[(HeaderName, HeaderValue)] {
        &self.fields
    }

    /// Whether a field of the upstream is dropped because ours stands for it.
    pub(super) fn replaces(&self, name: &[u8]) -> bool {
        self.owned.iter().any(|start| {
            name.get(..start.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(start.as_bytes()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_begin_as_ours_are_replaced() {
        let dress = Dress { fields: Vec::new(), owned: vec!["x-ratelimit-"] };
        assert!(dress.replaces(b"X-RateLimit-Limit"));
        assert!(!dress.replaces(b"X-Rate"));
        assert!(!Dress::default().replaces(b"X-RateLimit-Limit"));
    }
}
