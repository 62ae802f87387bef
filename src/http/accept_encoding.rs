//! Evaluates `Accept-Encoding` (RFC 9110, section 12.5.3).

use super::ascii_class::list_elements;

/// Whether these values of Accept-Encoding accept `coding` (lower case, not `identity`).
///
/// Without the field, RFC 9110 allows any coding. This function returns `false` then: the caller has the decoded body,
/// which every client can read.
pub(crate) fn accepts_coding<'a>(values: impl IntoIterator<Item = &'a [u8]>, coding: &str) -> bool {
    let mut wildcard = false;
    for element in values.into_iter().flat_map(list_elements) {
        let mut parts = element.split(|octet| *octet == b';').map(<[u8]>::trim_ascii);
        let name = parts.next().unwrap_or_default();
        let accepted = !parts.any(is_zero_weight);
        if name.eq_ignore_ascii_case(coding.as_bytes())
            || (coding == "gzip" && name.eq_ignore_ascii_case(b"x-gzip"))
        {
            return accepted;
        }
        if name == b"*" {
            wildcard = accepted;
        }
    }
    wildcard
}

/// Whether the parameter is `q=0`, `q=0.0` or `q=0.000`.
fn is_zero_weight(parameter: &[u8]) -> bool {
    let Some((b"q" | b"Q", value)) = parameter.split_at_checked(1) else { return false };
    let value = value.trim_ascii().strip_prefix(b"=").unwrap_or_default().trim_ascii();
    value.first() == Some(&b'0') && value.iter().all(|octet| matches!(octet, b'0' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coding_is_accepted_if_listed_or_covered_by_wildcard() {
        let cases: [(&str, &str, bool); 10] = [
            ("gzip, deflate, br", "br", true),
            ("gzip, deflate", "br", false),
            ("GZIP;q=0.5", "gzip", true),
            ("gzip;q=0", "gzip", false),
            ("gzip; Q = 0.000", "gzip", false),
            ("*", "zstd", true),
            ("*;q=0", "zstd", false),
            ("br;q=0, *", "br", false),
            ("x-gzip", "gzip", true),
            ("identity", "gzip", false),
        ];
        for (value, coding, expected) in cases {
            assert_eq!(accepts_coding([value.as_bytes()], coding), expected, "{value} {coding}");
        }
        assert!(!accepts_coding([], "gzip"));
    }
}
