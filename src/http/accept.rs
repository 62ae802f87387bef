//! The Accept of a request: which of two media types a client prefers (RFC 9110 12.5.1).

/// Whether the client prefers `first` to `second`: it accepts it with a higher quality. A client without Accept, or
/// with equal qualities, prefers `first` only if it names it and not `second`.
pub(crate) fn prefers<'v>(fields: impl Iterator<Item = &'v [u8]>, first: &[u8], second: &[u8]) -> bool {
    let (mut best_first, mut best_second) = (Match::default(), Match::default());
    for range in fields.flat_map(|value| value.split(|octet| *octet == b',')) {
        let mut parts = range.split(|octet| *octet == b';').map(<[u8]>::trim_ascii);
        let Some(range) = parts.next().filter(|range| !range.is_empty()) else { continue };
        let quality = parts.find_map(quality).unwrap_or(1000);
        best_first.offer(range, first, quality);
        best_second.offer(range, second, quality);
    }
    let named = best_first.specificity == 3 && best_second.specificity < 3;
    best_first.quality > best_second.quality
        || (named && best_first.quality > 0 && best_first.quality == best_second.quality)
}

/// The most specific range that matches a media type.
#[derive(Clone, Copy, Default)]
struct Match {
    specificity: u8,
    /// In thousandths.
    quality: u16,
}

impl Match {
    fn offer(&mut self, range: &[u8], media_type: &[u8], quality: u16) {
        let essence = media_type.split(|octet| *octet == b';').next().unwrap_or_default().trim_ascii();
        let main = essence.split(|octet| *octet == b'/').next().unwrap_or_default();
        let specificity = if range.eq_ignore_ascii_case(essence) {
            3
        } else if range.strip_suffix(b"/*").is_some_and(|range| range.eq_ignore_ascii_case(main)) {
            2
        } else if range == b"*/*" {
            1
        } else {
            return;
        };
        if specificity > self.specificity {
            *self = Match { specificity, quality };
        }
    }
}

/// `q=0.5` as 500; `None` for another parameter. An invalid value counts as 0.
pub(super) fn quality(parameter: &[u8]) -> Option<u16> {
    let mut halves = parameter.splitn(2, |octet| *octet == b'=');
    let is_quality = halves.next()?.trim_ascii().eq_ignore_ascii_case(b"q");
    let text = is_quality.then(|| halves.next().unwrap_or_default().trim_ascii())?;
    let (whole, fraction) = match text {
        [whole, b'.', fraction @ ..] => (*whole, fraction),
        [whole] => (*whole, &[][..]),
        [..] => return Some(0),
    };
    if fraction.len() > 3 || !fraction.iter().all(u8::is_ascii_digit) {
        return Some(0);
    }
    let thousandths = (0..3)
        .fold(0, |sum, place| sum * 10 + fraction.get(place).map_or(0, |digit| u16::from(*digit - b'0')));
    match whole {
        b'0' => Some(thousandths),
        b'1' if thousandths == 0 => Some(1000),
        _ => Some(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn higher_quality_is_preferred_and_a_named_type_before_a_range() {
        for (accept, expected) in [
            ("application/problem+json", true),
            ("application/problem+json, application/json;q=0.9", true),
            ("application/json, Application/Problem+JSON", false),
            ("application/problem+json;q=0.8, application/json", false),
            ("application/problem+json, */*", true),
            ("application/problem+json;q=0.5, */*", false),
            ("application/*", false),
            ("*/*", false),
            ("", false),
            ("text/html", false),
            ("application/problem+json;q=0", false),
            ("application/problem+json;q=2, text/html", false),
            ("application/*;q=0.5, application/problem+json;q=0.6, application/json;q=0.1", true),
            ("application/problem+json ; q=0.3, application/json;q=0.250", true),
        ] {
            let fields = [accept.as_bytes()];
            let found = prefers(fields.into_iter(), b"application/problem+json", b"application/json");
            assert_eq!(found, expected, "{accept}");
        }
        assert!(!prefers(std::iter::empty(), b"application/problem+json", b"application/json"));
    }
}
