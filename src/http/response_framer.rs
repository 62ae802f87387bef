//! Finds the end of an upstream's response header section incrementally, and rejects invalid bytes early.
//!
//! It reads every byte once. [`super::response_head`] validates and parses the complete header section.

/// Maximum size of a response header section, in bytes. Typical responses have a few hundred; Envoy's limit is 60 KiB.
pub(crate) const MAX_RESPONSE_HEAD: usize = 64 * 1024;

const STATUS_LINE_START: &[u8] = b"HTTP/1.";

/// The result of scanning the bytes received so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FramerProgress {
    /// Valid so far, but incomplete.
    NeedMore,
    /// The header section is complete; its length in bytes includes the empty line.
    Complete(usize),
    /// Not an HTTP/1 response. The text is for the log.
    Malformed(&'static str),
    /// More than [`MAX_RESPONSE_HEAD`] bytes.
    TooLarge,
}

/// Scans one response header section.
#[derive(Clone, Copy, Debug, Default)]
pub struct ResponseFramer {
    scanned: usize,
    /// The start of the current line.
    line_start: usize,
}

impl ResponseFramer {
    /// Scans the bytes received since the last call; `buffer` contains everything received so far.
    pub fn advance(&mut self, buffer: &[u8]) -> FramerProgress {
        let start = buffer.get(..STATUS_LINE_START.len().min(buffer.len())).unwrap_or_default();
        if !STATUS_LINE_START.starts_with(start) {
            // RFC 8446 5.1: an alert record, and the first octet of the version.
            if buffer.starts_with(&[0x15, 0x03]) {
                return FramerProgress::Malformed(
                    "the response is a TLS alert: this port expects TLS, use https://",
                );
            }
            return FramerProgress::Malformed("the response does not start with HTTP/1.");
        }
        while let Some(rest) = buffer.get(self.scanned..) {
            let Some(offset) = memchr::memchr(b'\n', rest) else {
                self.scanned = buffer.len();
                break;
            };
            let lf = self.scanned + offset;
            if lf == 0 || buffer.get(lf - 1) != Some(&b'\r') {
                return FramerProgress::Malformed("bare LF in the response headers");
            }
            self.scanned = lf + 1;
            if self.scanned > MAX_RESPONSE_HEAD {
                return FramerProgress::TooLarge;
            }
            if lf - self.line_start == 1 {
                return FramerProgress::Complete(self.scanned);
            }
            self.line_start = self.scanned;
        }
        if buffer.len() > MAX_RESPONSE_HEAD { FramerProgress::TooLarge } else { FramerProgress::NeedMore }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame_split(bytes: &[u8], step: usize) -> FramerProgress {
        let mut framer = ResponseFramer::default();
        for end in (step..bytes.len()).step_by(step) {
            match framer.advance(bytes.get(..end).unwrap_or_default()) {
                FramerProgress::NeedMore => {}
                other => return other,
            }
        }
        framer.advance(bytes)
    }

    #[test]
    fn end_is_found_at_every_split() {
        let head = b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n";
        let bytes = [&head[..], b"body\n"].concat();
        for step in 1..=bytes.len() {
            assert_eq!(frame_split(&bytes, step), FramerProgress::Complete(head.len()), "{step}");
        }
        assert_eq!(frame_split(b"HTTP/1.1 200 OK\r\n", 1), FramerProgress::NeedMore);
        assert_eq!(frame_split(b"", 1), FramerProgress::NeedMore);
    }

    #[test]
    fn invalid_bytes_are_rejected_immediately() {
        for bytes in
            [&b"<html>"[..], b"HTTQ", b"ICY 200 OK", b"HTTP/2 200\r\n", b"\r\nHTTP/1.1 200 OK\r\n\r\n"]
        {
            assert_eq!(
                frame_split(bytes, 1),
                FramerProgress::Malformed("the response does not start with HTTP/1.")
            );
        }
        for bytes in
            [&b"HTTP/1.1 200 OK\n"[..], b"HTTP/1.1 200 OK\r\nA: b\n\r\n", b"HTTP/1.1 200 OK\r\nA: b\r\n\n"]
        {
            assert_eq!(frame_split(bytes, 1), FramerProgress::Malformed("bare LF in the response headers"));
        }
    }

    #[test]
    fn response_head_of_the_limit_is_accepted() {
        let head = |size: usize| {
            let mut head = b"HTTP/1.1 200 OK\r\nA: ".to_vec();
            head.resize(size - 4, b'x');
            head.extend_from_slice(b"\r\n\r\n");
            head
        };
        assert_eq!(frame_split(&head(MAX_RESPONSE_HEAD), 1000), FramerProgress::Complete(MAX_RESPONSE_HEAD));
        assert_eq!(frame_split(&head(MAX_RESPONSE_HEAD + 1), 1000), FramerProgress::TooLarge);
        assert_eq!(frame_split(&head(MAX_RESPONSE_HEAD * 20), MAX_RESPONSE_HEAD), FramerProgress::TooLarge);
    }
}
