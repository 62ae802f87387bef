//! From when and until when a certificate is valid: two dates at a fixed place of its DER.
//!
//! Whether that is still or already so is for those who have a clock. Everything else in a certificate is judged by
//! `webpki`; it does not tell the dates.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The two dates of a certificate, in seconds since 1970; before that is 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// Not valid before.
    pub from: u64,
    /// Not valid after.
    pub until: u64,
}

impl Validity {
    /// What is wrong with it at `now`: a part of a sentence about the certificate.
    pub fn fault(self, now: SystemTime) -> Option<String> {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        if now > self.until {
            Some(format!("expired on {}", date(self.until)))
        } else if now < self.from {
            Some(format!("is not valid before {}", date(self.from)))
        } else {
            None
        }
    }

    /// Reads a certificate (RFC 5280 4.1). `None`: it is none.
    pub fn of(certificate: &[u8]) -> Option<Validity> {
        let (signed, _) = expect(certificate, SEQUENCE)?;
        let (mut fields, _) = expect(signed, SEQUENCE)?;
        // Version (may be left out), serial number, algorithm, issuer.
        if let Some((_, rest)) = expect(fields, VERSION) {
            fields = rest;
        }
        for tag in [INTEGER, SEQUENCE, SEQUENCE] {
            fields = expect(fields, tag)?.1;
        }
        let (dates, _) = expect(fields, SEQUENCE)?;
        let (from, rest) = moment(dates)?;
        let (until, _) = moment(rest)?;
        Some(Validity { from, until })
    }
}

const INTEGER: u8 = 0x02;
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

fn date(seconds: u64) -> String {
    // The last date that the formatter knows; certificates without an end have 9999-12-31.
    const LAST: u64 = 253_402_300_799;
    let moment = UNIX_EPOCH + Duration::from_secs(seconds.min(LAST));
    humantime::format_rfc3339_seconds(moment).to_string()
}

/// The content of the element that `input` begins with, if it has this tag, and what follows it.
fn expect(input: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, content, rest) = element(input)?;
    (found == tag).then_some((content, rest))
}

fn element(input: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = input.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
        if digits.is_empty() || digits.len() > 4 {
            return None;
        }
        (digits.iter().fold(0, |length, digit| (length << 8) | usize::from(*digit)), rest)
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

/// A time that the input begins with, and what follows it.
fn moment(input: &[u8]) -> Option<(u64, &[u8])> {
    let (tag, text, rest) = element(input)?;
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
    let mut two = || -> Option<i64> {
        let (digits, rest) = rest_of_text.split_at_checked(2)?;
        rest_of_text = rest;
        digits.parse().ok()
    };
    let (month, day) = (two()?, two()?);
    let (hour, minute, second) = (two()?, two()?, two()?);
    let seconds = days_since_1970(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second;
    Some((u64::try_from(seconds).unwrap_or(0), rest))
}

/// Howard Hinnant's `days_from_civil`: years begin in March, so that the leap day is the last of them.
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

    fn certificate(from: (i32, u8, u8), until: (i32, u8, u8)) -> Vec<u8> {
        let mut parameters = rcgen::CertificateParams::new(vec!["a.test".to_owned()]).unwrap();
        parameters.not_before = rcgen::date_time_ymd(from.0, from.1, from.2);
        parameters.not_after = rcgen::date_time_ymd(until.0, until.1, until.2);
        let key = rcgen::KeyPair::generate().unwrap();
        parameters.self_signed(&key).unwrap().der().to_vec()
    }

    #[test]
    fn the_dates_of_a_certificate_are_read_in_both_forms_of_time() {
        let read = |from, until| Validity::of(&certificate(from, until)).unwrap();
        // `date -u -d 2024-02-29 +%s` and so on.
        assert_eq!(
            read((2024, 2, 29), (2049, 12, 31)),
            Validity { from: 1_709_164_800, until: 2_524_521_600 }
        );
        assert_eq!(read((1999, 1, 1), (2100, 3, 1)), Validity { from: 915_148_800, until: 4_107_542_400 });
    }

    #[test]
    fn a_date_out_of_the_range_is_told_and_one_within_is_not() {
        let validity = Validity { from: 1_709_164_800, until: 1_711_929_600 };
        let at = |seconds| validity.fault(UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(at(1_709_164_799).unwrap(), "is not valid before 2024-02-29T00:00:00Z");
        assert_eq!(at(1_709_164_800), None);
        assert_eq!(at(1_711_929_600), None);
        assert_eq!(at(1_711_929_601).unwrap(), "expired on 2024-04-01T00:00:00Z");
        let endless = Validity { from: 0, until: u64::MAX };
        assert_eq!(endless.fault(SystemTime::now()), None);
    }

    #[test]
    fn what_is_no_certificate_has_no_dates_and_no_prefix_of_one_panics() {
        let whole = certificate((2024, 1, 1), (2025, 1, 1));
        for length in 0..whole.len().min(200) {
            assert_eq!(Validity::of(&whole[..length]), None, "{length}");
        }
        assert_eq!(Validity::of(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff]), None);
        assert_eq!(Validity::of(b"-----BEGIN"), None);
    }
}
