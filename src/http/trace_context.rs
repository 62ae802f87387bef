//! W3C Trace Context: the trace ID of a request, for the log. The fields themselves are forwarded unchanged.

/// The trace ID in a `traceparent` (W3C Trace Context 3.2.2). `None` if the value is malformed or the ID is all zeros.
pub(crate) fn trace_id(traceparent: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(traceparent).ok()?;
    let mut members = text.split('-');
    let (version, trace_id, parent_id, flags) =
        (members.next()?, members.next()?, members.next()?, members.next()?);
    // A higher version may have further members; version ff is invalid.
    let valid = version != "ff"
        && (version != "00" || members.next().is_none())
        && is_hex(version, 2)
        && is_hex(trace_id, 32)
        && is_hex(parent_id, 16)
        && is_hex(flags, 2)
        && trace_id.bytes().any(|digit| digit != b'0');
    valid.then_some(trace_id)
}

/// Whether the text is this many lower-case hexadecimal digits.
fn is_hex(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trace_id_is_read_from_a_valid_traceparent_only() {
        const ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
        let parse = |text: &str| trace_id(text.as_bytes()).map(str::to_owned);
        assert_eq!(parse(&format!("00-{ID}-00f067aa0ba902b7-01")).as_deref(), Some(ID));
        assert_eq!(parse(&format!("cc-{ID}-00f067aa0ba902b7-01-later")).as_deref(), Some(ID));
        for malformed in [
            String::new(),
            ID.to_owned(),
            format!("00-{ID}-00f067aa0ba902b7"),
            format!("00-{ID}-00f067aa0ba902b7-01-x"),
            format!("ff-{ID}-00f067aa0ba902b7-01"),
            format!("00-{}-00f067aa0ba902b7-01", ID.to_uppercase()),
            format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32)),
            format!("00-{ID}0-00f067aa0ba902b7-01"),
        ] {
            assert_eq!(parse(&malformed), None, "{malformed}");
        }
    }
}
