//! Evaluates `Accept-Encoding` (RFC 9110 12.5.3).

use super::accept::quality;
use super::ascii_class::list_elements;

/// Whether these values of Accept-Encoding prefer `gzip` to the identity: they accept it, and do not give the identity
/// a higher quality. False without the field.
pub(crate) fn prefers_gzip<'a>(values: impl IntoIterator<Item = &'a [u8]>) -> bool {
    let (mut gzip, mut identity, mut wildcard) = (None, None, None);
    for element in values.into_iter().flat_map(list_elements) {
        let mut parts = element.split(|octet| *octet == b';').map(<[u8]>::trim_ascii);
        let name = parts.next().unwrap_or_default().to_ascii_lowercase();
        let target = match name.as_slice() {
            b"gzip" | b"x-gzip" => &mut gzip,
            b"identity" => &mut identity,
            b"*" => &mut wildcard,
            _ => continue,
        };
        *target = target.or(Some(parts.find_map(quality).unwrap_or(1000)));
    }
    let gzip = gzip.or(wildcard).unwrap_or(0);
    gzip > 0 && gzip >= identity.unwrap_or(0)
}

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
    fn gzip_is_preferred_if_accepted_with_at_least_the_quality_of_identity() {
        for (value, expected) in [
            ("gzip", true),
            ("GZIP, deflate", true),
            ("x-gzip;q=0.1", true),
            ("deflate, *", true),
            ("*;q=0.5, identity;q=0.2", true),
            ("identity;q=0, gzip;q=0.001", true),
            ("gzip;q=0", false),
            ("gzip; Q=0.000, *", false),
            ("*;q=0", false),
            ("identity", false),
            ("identity, gzip;q=0.9", false),
            ("deflate, br", false),
            ("gzipped", false),
            ("", false),
        ] {
            assert_eq!(prefers_gzip([value.as_bytes()]), expected, "{value}");
        }
        assert!(prefers_gzip([&b"br"[..], b"gzip"]));
        assert!(!prefers_gzip([]));
    }

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
