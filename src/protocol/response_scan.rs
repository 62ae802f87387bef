//! Is an upstream's response head whole? An incremental scan that refuses as soon as the bytes cannot become one.
//!
//! The rules of a whole head are in [`super::response_head`]; this finds its end, without reading a byte twice.

/// Largest response head, in bytes. Servers send a few hundred; Envoy's own bound is 60 KiB.
pub const MAX_HEAD: usize = 64 * 1024;

const START: &[u8] = b"HTTP/1.";

/// What the bytes so far are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scan {
    /// The beginning of a head.
    NeedMore,
    /// A head of so many bytes, blank line included.
    Whole(usize),
    /// No head. The sentence is for the log.
    Broken(&'static str),
    /// More than [`MAX_HEAD`] bytes.
    TooLarge,
}

/// The state of one scan.
#[derive(Clone, Copy, Debug, Default)]
pub struct ResponseScan {
    scanned: usize,
    /// Where the line began that is being scanned.
    line: usize,
}

impl ResponseScan {
    /// Looks at what has come since the last call; `buffer` holds everything so far.
    pub fn advance(&mut self, buffer: &[u8]) -> Scan {
        let start = buffer.get(..START.len().min(buffer.len())).unwrap_or_default();
        if !START.starts_with(start) {
            // RFC 8446 5.1: a record with an alert, and the version's first octet.
            if buffer.starts_with(&[0x15, 0x03]) {
                return Scan::Broken("the answer is a TLS alert: this port speaks TLS, write https://");
            }
            return Scan::Broken("the answer does not begin with HTTP/1.");
        }
        while let Some(rest) = buffer.get(self.scanned..) {
            let Some(found) = memchr::memchr(b'\n', rest) else {
                self.scanned = buffer.len();
                break;
            };
            let feed = self.scanned + found;
            if feed == 0 || buffer.get(feed - 1) != Some(&b'\r') {
                return Scan::Broken("a bare LF in the response head");
            }
            self.scanned = feed + 1;
            if self.scanned > MAX_HEAD {
                return Scan::TooLarge;
            }
            if feed - self.line == 1 {
                return Scan::Whole(self.scanned);
            }
            self.line = self.scanned;
        }
        if buffer.len() > MAX_HEAD { Scan::TooLarge } else { Scan::NeedMore }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(bytes: &[u8], step: usize) -> Scan {
        let mut scan = ResponseScan::default();
        for end in (step..bytes.len()).step_by(step) {
            match scan.advance(bytes.get(..end).unwrap_or_default()) {
                Scan::NeedMore => {}
                other => return other,
            }
        }
        scan.advance(bytes)
    }

    #[test]
    fn the_end_is_found_however_the_bytes_arrive() {
        let head = b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n";
        let bytes = [&head[..], b"body\n"].concat();
        for step in 1..=bytes.len() {
            assert_eq!(scan(&bytes, step), Scan::Whole(head.len()), "{step}");
        }
        assert_eq!(scan(b"HTTP/1.1 200 OK\r\n", 1), Scan::NeedMore);
        assert_eq!(scan(b"", 1), Scan::NeedMore);
    }

    #[test]
    fn what_cannot_become_a_head_is_refused_at_once() {
        for bytes in
            [&b"<html>"[..], b"HTTQ", b"ICY 200 OK", b"HTTP/2 200\r\n", b"\r\nHTTP/1.1 200 OK\r\n\r\n"]
        {
            assert_eq!(scan(bytes, 1), Scan::Broken("the answer does not begin with HTTP/1."));
        }
        for bytes in
            [&b"HTTP/1.1 200 OK\n"[..], b"HTTP/1.1 200 OK\r\nA: b\n\r\n", b"HTTP/1.1 200 OK\r\nA: b\r\n\n"]
        {
            assert_eq!(scan(bytes, 1), Scan::Broken("a bare LF in the response head"));
        }
    }

    #[test]
    fn a_head_of_the_limit_passes_and_one_byte_more_does_not() {
        let head = |size: usize| {
            let mut head = b"HTTP/1.1 200 OK\r\nA: ".to_vec();
            head.resize(size - 4, b'x');
            head.extend_from_slice(b"\r\n\r\n");
            head
        };
        assert_eq!(scan(&head(MAX_HEAD), 1000), Scan::Whole(MAX_HEAD));
        assert_eq!(scan(&head(MAX_HEAD + 1), 1000), Scan::TooLarge);
        assert_eq!(scan(&head(MAX_HEAD * 20), MAX_HEAD), Scan::TooLarge);
    }
}
