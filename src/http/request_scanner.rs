//! Finds the end of a request header section incrementally, and rejects invalid bytes early.
//!
//! The scanner receives the growing buffer and reads every byte once, however slowly the client sends. It rejects the
//! request at the first invalid byte, so that a TLS client on a plain-text port gets a response immediately instead of
//! after the header timeout. [`super::request_head::parse`] parses the complete header section.

use super::Rejection;
use super::ascii_class::{TOKEN, class_bits, field_line_lengths, field_text_len, token_len};
use crate::contract::Cause;

/// Maximum length of a method in bytes; the longest registered method (UPDATEREDIRECTREF) has 17 letters.
pub(crate) const MAX_METHOD_LEN: usize = 32;

/// The result of scanning the bytes received so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScanProgress {
    /// Valid so far, but incomplete.
    NeedMore,
    /// The header section is complete.
    Complete {
        /// Bytes up to and including the empty line that ends the header section, including `skip`.
        length: usize,
        /// Number of CR and LF before the request line, to be ignored.
        skip: usize,
    },
    /// Invalid, whatever bytes follow.
    Rejected(Rejection),
}

/// The position of the next byte in the grammar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ScanState {
    Start,
    Method,
    RequestLine,
    RequestLineLf,
    FieldStart,
    FieldName,
    FieldValue,
    FieldLineLf,
    FinalLf,
    End,
}

/// Scans one request header section.
#[derive(Clone, Debug)]
pub struct RequestScanner {
    max_bytes: usize,
    scanned: usize,
    skip: usize,
    state: ScanState,
    rejected: Option<Rejection>,
}

impl RequestScanner {
    /// Creates a scanner with a limit of `max_bytes` bytes, including CR and LF before the request line.
    pub const fn new(max_bytes: usize) -> Self {
        RequestScanner { max_bytes, scanned: 0, skip: 0, state: ScanState::Start, rejected: None }
    }

    /// Scans the new bytes in `buffer`, which contains everything received so far.
    ///
    /// The result does not depend on how the bytes were split. [`ScanProgress::Complete`] and
    /// [`ScanProgress::Rejected`] are final.
    pub fn advance(&mut self, buffer: &[u8]) -> ScanProgress {
        if self.rejected.is_none()
            && let Err(rejection) = self.scan(buffer)
        {
            self.rejected = Some(rejection);
        }
        match (self.rejected, self.state) {
            (Some(rejection), _) => ScanProgress::Rejected(rejection),
            (None, ScanState::End) => ScanProgress::Complete { length: self.scanned, skip: self.skip },
            (None, _) => ScanProgress::NeedMore,
        }
    }

    /// Whether no request byte was received yet, so that closing the connection is not an error.
    pub fn is_idle(&self) -> bool {
        self.state == ScanState::Start && self.rejected.is_none()
    }

    fn scan(&mut self, buffer: &[u8]) -> Result<(), Rejection> {
        let window = buffer.get(..self.max_bytes).unwrap_or(buffer);
        while self.state != ScanState::End {
            let mut rest = window.get(self.scanned..).unwrap_or_default();
            // Fast path: consume complete field lines at once.
            while self.state == ScanState::FieldStart
                && let Some((name_len, text_len)) = field_line_lengths(rest)
            {
                self.scanned += name_len + text_len + 3;
                rest = window.get(self.scanned..).unwrap_or_default();
            }
            let run_len = match self.state {
                ScanState::Method | ScanState::FieldName => token_len(rest),
                ScanState::RequestLine | ScanState::FieldValue => field_text_len(rest),
                // RFC 9112 2.2: clients send empty lines before a request, and after a body. Whatever their form, they
                // contain nothing.
                ScanState::Start => blank_len(rest),
                ScanState::RequestLineLf | ScanState::FieldStart => 0,
                ScanState::FieldLineLf | ScanState::FinalLf | ScanState::End => 0,
            };
            self.scanned += run_len;
            if self.state == ScanState::Start {
                self.skip = self.scanned;
            }
            if self.state == ScanState::Method && self.scanned - self.skip > MAX_METHOD_LEN {
                return Err(Rejection::new(Cause::UnsupportedMethod, "the method is longer than 32 bytes"));
            }
            let Some(byte) = rest.get(run_len) else {
                return if window.len() == self.max_bytes { Err(self.too_large()) } else { Ok(()) };
            };
            self.scanned += 1;
            self.state = self.next_state(*byte)?;
        }
        Ok(())
    }

    /// Returns the state after `byte`, the first byte that does not continue the current run.
    fn next_state(&self, byte: u8) -> Result<ScanState, Rejection> {
        match self.state {
            ScanState::Start => match byte {
                _ if class_bits(byte) & TOKEN != 0 => Ok(ScanState::Method),
                _ => Err(invalid_first_byte(byte)),
            },
            ScanState::Method => match byte {
                b' ' => Ok(ScanState::RequestLine),
                _ => Err(malformed_request_line("a byte of the method is not a token character")),
            },
            ScanState::RequestLine => match byte {
                b'\r' => Ok(ScanState::RequestLineLf),
                b'\n' => Err(malformed_request_line("bare LF in the request line")),
                _ => Err(malformed_request_line("a control byte in the request line")),
            },
            ScanState::RequestLineLf => expect_lf(byte, ScanState::FieldStart, Cause::MalformedRequestLine),
            ScanState::FieldStart => begin_field(byte),
            ScanState::FieldName => match byte {
                b':' => Ok(ScanState::FieldValue),
                _ => Err(Rejection::new(Cause::MalformedHeader, field_name_error(byte))),
            },
            ScanState::FieldValue => match byte {
                b'\r' => Ok(ScanState::FieldLineLf),
                _ => Err(Rejection::new(Cause::MalformedHeader, field_value_error(byte))),
            },
            ScanState::FieldLineLf => expect_lf(byte, ScanState::FieldStart, Cause::MalformedHeader),
            ScanState::FinalLf => expect_lf(byte, ScanState::End, Cause::MalformedHeader),
            ScanState::End => Ok(ScanState::End),
        }
    }

    fn too_large(&self) -> Rejection {
        match self.state {
            ScanState::Start => Rejection::new(
                Cause::HeaderTooLarge,
                "the empty lines before a request exceed the size limit",
            ),
            ScanState::Method | ScanState::RequestLine | ScanState::RequestLineLf => {
                Rejection::new(Cause::UriTooLong, "the request line exceeds the size limit")
            }
            ScanState::FieldStart
            | ScanState::FieldName
            | ScanState::FieldValue
            | ScanState::FieldLineLf
            | ScanState::FinalLf
            | ScanState::End => {
                Rejection::new(Cause::HeaderTooLarge, "the header section exceeds the size limit")
            }
        }
    }
}

/// The number of leading CR and LF.
pub(crate) fn blank_len(octets: &[u8]) -> usize {
    octets.iter().take_while(|octet| matches!(octet, b'\r' | b'\n')).count()
}

fn begin_field(byte: u8) -> Result<ScanState, Rejection> {
    match byte {
        b'\r' => Ok(ScanState::FinalLf),
        _ if class_bits(byte) & TOKEN != 0 => Ok(ScanState::FieldName),
        _ => Err(Rejection::new(Cause::MalformedHeader, field_start_error(byte))),
    }
}

fn expect_lf(byte: u8, next: ScanState, cause: Cause) -> Result<ScanState, Rejection> {
    if byte == b'\n' { Ok(next) } else { Err(Rejection::new(cause, "bare CR")) }
}

const fn malformed_request_line(evidence: &'static str) -> Rejection {
    Rejection::new(Cause::MalformedRequestLine, evidence)
}

fn invalid_first_byte(byte: u8) -> Rejection {
    malformed_request_line(match byte {
        0x16 => "a TLS handshake on a plain-text port",
        _ => "the first byte is not a token character",
    })
}

/// Returns why `rest` starts with neither a field line nor the final empty line.
pub(super) fn field_line_error(rest: &[u8]) -> &'static str {
    let (name, after) = rest.split_at_checked(token_len(rest)).unwrap_or((rest, b""));
    let text = match (name, after) {
        (_, []) => return "the header section ends inside a field line",
        ([], [b'\r', ..]) => return "the header section does not end with an empty line",
        ([], [byte, ..]) => return field_start_error(*byte),
        (_, [b':', text @ ..]) => text,
        (_, [byte, ..]) => return field_name_error(*byte),
    };
    match text.get(field_text_len(text)..).unwrap_or_default() {
        [] => "the header section ends inside a field line",
        [b'\r', ..] => "bare CR in a field value",
        [byte, ..] => field_value_error(*byte),
    }
}

/// Returns the error for a byte at the start of a field line that is neither CR nor a token character.
const fn field_start_error(byte: u8) -> &'static str {
    match byte {
        b' ' | b'\t' => "a field line starts with white space (obs-fold)",
        b':' => "a field without a name",
        b'\n' => "bare LF where a field line starts",
        _ => "a field name starts with a byte that is not a token character",
    }
}

/// Returns the error for a byte that ends a field name and is not a colon.
const fn field_name_error(byte: u8) -> &'static str {
    match byte {
        b' ' | b'\t' => "white space between field name and colon",
        b'\r' | b'\n' => "a field line without a colon",
        _ => "a byte of a field name is not a token character",
    }
}

/// Returns the error for a byte that ends a field value and is not CR.
const fn field_value_error(byte: u8) -> &'static str {
    match byte {
        b'\n' => "bare LF in a field value",
        0 => "NUL in a field value",
        _ => "a control byte in a field value",
    }
}

#[cfg(test)]
#[path = "request_scanner_tests.rs"]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::string_slice, clippy::panic)]
mod tests;
