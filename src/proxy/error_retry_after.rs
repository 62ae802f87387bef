//! The `Retry-After` of an upstream's error that conforms to the contract: one decision for the field and for the
//! member `{retry_after}` of the body.

use std::borrow::Cow;
use std::time::SystemTime;

use http::HeaderValue;

use crate::contract::header_filter;

/// The `Retry-After` of a conforming error.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum RetryAfter<'a> {
    /// The upstream's field is forwarded, if there is one: this is its value.
    Forwarded(Option<&'a [u8]>),
    /// The upstream's fields are removed, and this value is sent, if any.
    Set(Option<Cow<'a, [u8]>>),
}

impl<'a> RetryAfter<'a> {
    /// `values` are the upstream's. 429 and 503 always have a valid value, by default `default` seconds. Of several
    /// fields the first is kept, as in a replaced error.
    pub(super) fn for_error(
        mut values: impl Iterator<Item = &'a [u8]>,
        status: u16,
        default: u64,
        now: SystemTime,
    ) -> RetryAfter<'a> {
        let is_valid = |value: &&[u8]| {
            HeaderValue::from_bytes(value).is_ok_and(|value| header_filter::is_valid_retry_after(&value, now))
        };
        let received = values.next();
        let first = received.filter(is_valid).map(Cow::Borrowed);
        let has_duplicates = values.next().is_some();
        let is_required = matches!(status, 429 | 503);
        let is_missing = is_required && first.is_none();
        if has_duplicates || is_missing {
            let default = || is_required.then(|| Cow::Owned(default.max(1).to_string().into_bytes()));
            RetryAfter::Set(first.or_else(default))
        } else {
            RetryAfter::Forwarded(received)
        }
    }

    /// The seconds of an override.
    pub(super) fn of_override(seconds: u64) -> RetryAfter<'static> {
        RetryAfter::Set(Some(Cow::Owned(seconds.to_string().into_bytes())))
    }

    /// The seconds that the sent field means: none without a field, or if it is neither a number nor a date.
    pub(super) fn seconds(&self, now: SystemTime) -> Option<u64> {
        let value = match self {
            RetryAfter::Forwarded(value) => (*value)?,
            RetryAfter::Set(value) => value.as_deref()?,
        };
        header_filter::any_retry_after_seconds(value, now)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn decided<'a>(status: u16, received: &[&'a str]) -> RetryAfter<'a> {
        let now = SystemTime::UNIX_EPOCH + Duration::from_millis(100_500);
        RetryAfter::for_error(received.iter().map(|value| value.as_bytes()), status, 0, now)
    }

    /// The fields that a client gets: those of the upstream, or the one that is set.
    fn sent(status: u16, received: &[&str]) -> Vec<String> {
        match decided(status, received) {
            RetryAfter::Forwarded(_) => received.iter().map(|value| (*value).to_owned()).collect(),
            RetryAfter::Set(value) => {
                value.iter().map(|value| String::from_utf8_lossy(value).into_owned()).collect()
            }
        }
    }

    #[test]
    fn retry_after_of_an_error_is_valid_where_required_and_never_repeated() {
        assert_eq!(sent(503, &["7"]), ["7"]);
        assert_eq!(sent(503, &["7", "9"]), ["7"]);
        assert_eq!(sent(503, &[]), ["1"]);
        assert_eq!(sent(429, &["soon"]), ["1"]);
        assert_eq!(sent(429, &["soon", "9"]), ["1"]);
        assert_eq!(sent(404, &["7"]), ["7"]);
        assert_eq!(sent(404, &["7", "9"]), ["7"]);
        assert_eq!(sent(404, &["soon", "9"]), [""; 0]);
        assert_eq!(sent(404, &[]), [""; 0]);
    }

    #[test]
    fn seconds_are_those_of_the_sent_field() {
        let seconds = |status, received: &[&str]| {
            let now = SystemTime::UNIX_EPOCH + Duration::from_millis(100_500);
            decided(status, received).seconds(now)
        };
        assert_eq!(seconds(404, &["86401"]), Some(86_401));
        assert_eq!(seconds(404, &["0"]), Some(0));
        assert_eq!(seconds(404, &["Sun, 04 Jan 1970 00:00:00 GMT"]), Some(259_100));
        assert_eq!(seconds(404, &["Thu, 01 Jan 1970 00:00:00 GMT"]), Some(0));
        assert_eq!(seconds(404, &["7", "9"]), Some(7));
        assert_eq!(seconds(429, &["86401"]), Some(1));
        for absent in [&["soon"][..], &["soon", "9"], &[], &["99999999999999999999999"], &[""]] {
            assert_eq!(seconds(404, absent), None, "{absent:?}");
        }
    }
}
