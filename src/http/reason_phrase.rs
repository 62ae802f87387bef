//! Reason phrases of status lines, as RFC 9110 15 names the status codes.

use http::StatusCode;

/// The registered phrase; `None` for an unregistered status.
pub(crate) fn reason_phrase(status: u16) -> Option<&'static str> {
    match status {
        // The `http` crate has the phrases of RFC 7231 and RFC 4918 for these two.
        413 => Some("Content Too Large"),
        422 => Some("Unprocessable Content"),
        _ => StatusCode::from_u16(status).ok()?.canonical_reason(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phrases_are_those_of_rfc_9110() {
        let expected = [
            (200, Some("OK")),
            (413, Some("Content Too Large")),
            (414, Some("URI Too Long")),
            (416, Some("Range Not Satisfiable")),
            (422, Some("Unprocessable Content")),
            (504, Some("Gateway Timeout")),
            (599, None),
            (99, None),
        ];
        for (status, phrase) in expected {
            assert_eq!(reason_phrase(status), phrase, "{status}");
        }
    }
}
