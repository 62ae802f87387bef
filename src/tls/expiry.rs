//! The validity dates of a certificate, which `webpki` does not expose.
//!
//! The caller passes the current time.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::der::{certificate_fields, read_element};

/// The validity dates of a certificate, in seconds since 1970. Earlier dates become 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// The first second of validity.
    pub not_before: u64,
    /// The last second of validity.
    pub not_after: u64,
}

impl Validity {
    /// Why the certificate is not valid at `now`, as a phrase that continues "the certificate ..."; `None` if it is
    /// valid.
    pub fn problem(self, now: SystemTime) -> Option<String> {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        if now > self.not_after {
            Some(format!("expired on {}", format_date(self.not_after)))
        } else if now < self.not_before {
            Some(format!("is not valid before {}", format_date(self.not_before)))
        } else {
            None
        }
    }

    /// Reads the dates of a DER certificate (RFC 5280 4.1); `None` if it is malformed.
    pub fn parse(certificate: &[u8]) -> Option<Validity> {
        let dates = certificate_fields(certificate)?.dates;
        let (not_before, rest) = read_time(dates)?;
        let (not_after, _) = read_time(rest)?;
        Some(Validity { not_before, not_after })
    }
}

const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// A time in seconds since 1970, for people.
pub(super) fn format_date(seconds: u64) -> String {
    // The last date that the formatter supports. Certificates without an expiry date have 9999-12-31.
    const LAST: u64 = 253_402_300_799;
    let time = UNIX_EPOCH + Duration::from_secs(seconds.min(LAST));
    humantime::format_rfc3339_seconds(time).to_string()
}

/// The time at the start of `input`, in seconds since 1970, and the rest of `input`.
fn read_time(input: &[u8]) -> Option<(u64, &[u8])> {
    let (tag, text, rest) = read_element(input)?;
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    let (year, text) = match tag {
        UTC_TIME => {
            let (year, text) = text.split_at_checked(2)?;
            let year: i64 = year.parse().ok()?;
            (if year < 50 { 2000 + year } else { 1900 + year }, text)
        }
        GENERALIZED_TIME => {
            let (year, text) = text.split_at_checked(4)?;
            (year.parse().ok()?, text)
        }
        _ => return None,
    };
    let mut rest_of_text = text;
    let mut two_digits = || -> Option<i64> {
        let (digits, rest) = rest_of_text.split_at_checked(2)?;
        rest_of_text = rest;
        digits.parse().ok()
    };
    let (month, day) = (two_digits()?, two_digits()?);
    let (hour, minute, second) = (two_digits()?, two_digits()?, two_digits()?);
    let seconds = days_since_1970(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second;
    Some((u64::try_from(seconds).unwrap_or(0), rest))
}

/// Howard Hinnant's `days_from_civil`: years begin in March, so that the leap day is the last day of a year.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    fn certificate(not_before: (i32, u8, u8), not_after: (i32, u8, u8)) -> Vec<u8> {
        let mut parameters = rcgen::CertificateParams::new(vec!["a.test".to_owned()]).unwrap();
        parameters.not_before = rcgen::date_time_ymd(not_before.0, not_before.1, not_before.2);
        parameters.not_after = rcgen::date_time_ymd(not_after.0, not_after.1, not_after.2);
        let key = rcgen::KeyPair::generate().unwrap();
        parameters.self_signed(&key).unwrap().der().to_vec()
    }

    #[test]
    fn certificate_dates_are_read_from_both_time_formats() {
        let parse = |not_before, not_after| Validity::parse(&certificate(not_before, not_after)).unwrap();
        // Expected values from `date -u -d 2024-02-29 +%s`.
        assert_eq!(
            parse((2024, 2, 29), (2049, 12, 31)),
            Validity { not_before: 1_709_164_800, not_after: 2_524_521_600 }
        );
        assert_eq!(
            parse((1999, 1, 1), (2100, 3, 1)),
            Validity { not_before: 915_148_800, not_after: 4_107_542_400 }
        );
    }

    #[test]
    fn dates_outside_the_validity_are_reported() {
        let validity = Validity { not_before: 1_709_164_800, not_after: 1_711_929_600 };
        let at = |seconds| validity.problem(UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(at(1_709_164_799).unwrap(), "is not valid before 2024-02-29T00:00:00Z");
        assert_eq!(at(1_709_164_800), None);
        assert_eq!(at(1_711_929_600), None);
        assert_eq!(at(1_711_929_601).unwrap(), "expired on 2024-04-01T00:00:00Z");
        let unlimited = Validity { not_before: 0, not_after: u64::MAX };
        assert_eq!(unlimited.problem(SystemTime::now()), None);
    }

    #[test]
    fn invalid_or_truncated_certificates_have_no_validity() {
        let complete = certificate((2024, 1, 1), (2025, 1, 1));
        for length in 0..complete.len().min(200) {
            assert_eq!(Validity::parse(&complete[..length]), None, "{length}");
        }
        assert_eq!(Validity::parse(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff]), None);
        assert_eq!(Validity::parse(b"-----BEGIN"), None);
    }
}
