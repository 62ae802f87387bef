//! Is the request head whole yet, and can these bytes still become one?
//!
//! The scanner is fed the growing buffer and looks at every byte once, however the client drips it. It refuses at the
//! first byte that no head may have there, so that a TLS client on a plain port is answered at once and not after the
//! header time limit. It does not understand what the head says: that is [`super::request_head::parse`].

use super::octets::{TOKEN, class, field_line, text_len, token_len};
use super::{MAX_FIELDS, Refusal};
use crate::contract::Cause;

/// Longest method that is looked at: the longest registered one (UPDATEREDIRECTREF) has 17 letters.
pub const MAX_METHOD: usize = 32;

/// What is known after looking at the bytes so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// So far so good; the head is not whole.
    NeedMore,
    /// The head is whole.
    Complete {
        /// Bytes up to and including the empty line that ends the head, `skip` included.
        length: usize,
        /// Bytes of an empty line before the request line (0 or 2); drop them.
        skip: usize,
    },
    /// Nothing that may follow can make this a head.
    Refused(Refusal),
}

/// Where in the grammar the next byte stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Start,
    EmptyLineFeed,
    Method,
    RequestLine,
    RequestLineFeed,
    FieldStart,
    Name,
    Value,
    ValueFeed,
    LastFeed,
    End,
}

/// Scans one request head.
#[derive(Clone, Debug)]
pub struct HeadScanner {
    max_bytes: usize,
    scanned: usize,
    skip: usize,
    fields: usize,
    at: At,
    refused: Option<Refusal>,
}

impl HeadScanner {
    /// A scanner for a head of at most `max_bytes` bytes (an empty line before it counts).
    pub const fn new(max_bytes: usize) -> Self {
        HeadScanner { max_bytes, scanned: 0, skip: 0, fields: 0, at: At::Start, refused: None }
    }

    /// Looks at what is new in `buffer`, which holds everything received so far.
    ///
    /// The verdict does not depend on how the bytes were split. [`Progress::Complete`] and [`Progress::Refused`] are
    /// final.
    pub fn advance(&mut self, buffer: &[u8]) -> Progress {
        if self.refused.is_none()
            && let Err(refusal) = self.scan(buffer)
        {
            self.refused = Some(refusal);
        }
        match (self.refused, self.at) {
            (Some(refusal), _) => Progress::Refused(refusal),
            (None, At::End) => Progress::Complete { length: self.scanned, skip: self.skip },
            (None, _) => Progress::NeedMore,
        }
    }

    /// Nothing of a request was received yet: closing now is not an error.
    pub fn is_untouched(&self) -> bool {
        matches!(self.at, At::Start | At::EmptyLineFeed) && self.refused.is_none()
    }

    fn scan(&mut self, buffer: &[u8]) -> Result<(), Refusal> {
        let window = buffer.get(..self.max_bytes).unwrap_or(buffer);
        while self.at != At::End {
            let mut rest = window.get(self.scanned..).unwrap_or_default();
            // Whole field lines, without a stop at each of their parts.
            while self.at == At::FieldStart
                && self.fields < MAX_FIELDS
                && let Some((name_len, text_len)) = field_line(rest)
            {
                self.fields += 1;
                self.scanned += name_len + text_len + 3;
                rest = window.get(self.scanned..).unwrap_or_default();
            }
            let run = match self.at {
                At::Method | At::Name => token_len(rest),
                At::RequestLine | At::Value => text_len(rest),
                At::Start | At::EmptyLineFeed | At::RequestLineFeed | At::FieldStart => 0,
                At::ValueFeed | At::LastFeed | At::End => 0,
            };
            self.scanned += run;
            if self.at == At::Method && self.scanned - self.skip > MAX_METHOD {
                return Err(Refusal::new(Cause::UnsupportedMethod, "the method is longer than any method"));
            }
            let Some(byte) = rest.get(run) else {
                return if window.len() == self.max_bytes { Err(self.too_large()) } else { Ok(()) };
            };
            self.scanned += 1;
            self.at = self.step(*byte)?;
        }
        Ok(())
    }

    /// The place after `byte`, which is the first that does not continue a run.
    fn step(&mut self, byte: u8) -> Result<At, Refusal> {
        match self.at {
            At::Start => match byte {
                b'\r' if self.skip == 0 => Ok(At::EmptyLineFeed),
                _ if class(byte) & TOKEN != 0 => Ok(At::Method),
                _ => Err(bad_start(byte)),
            },
            At::EmptyLineFeed => {
                // RFC 9112 2.2: at least one empty line before the request line should be ignored. One it is.
                self.skip = 2;
                feed(byte, At::Start, Cause::MalformedRequestLine)
            }
            At::Method => match byte {
                b' ' => Ok(At::RequestLine),
                _ => Err(malformed_line("a byte of the method is not a token character")),
            },
            At::RequestLine => match byte {
                b'\r' => Ok(At::RequestLineFeed),
                b'\n' => Err(malformed_line("bare LF in the request line")),
                _ => Err(malformed_line("a control byte in the request line")),
            },
            At::RequestLineFeed => feed(byte, At::FieldStart, Cause::MalformedRequestLine),
            At::FieldStart => self.start_field(byte),
            At::Name => match byte {
                b':' => Ok(At::Value),
                _ => Err(Refusal::new(Cause::MalformedHeader, bad_name(byte))),
            },
            At::Value => match byte {
                b'\r' => Ok(At::ValueFeed),
                _ => Err(Refusal::new(Cause::MalformedHeader, bad_value(byte))),
            },
            At::ValueFeed => feed(byte, At::FieldStart, Cause::MalformedHeader),
            At::LastFeed => feed(byte, At::End, Cause::MalformedHeader),
            At::End => Ok(At::End),
        }
    }

    fn start_field(&mut self, byte: u8) -> Result<At, Refusal> {
        if byte == b'\r' {
            return Ok(At::LastFeed);
        }
        if class(byte) & TOKEN == 0 {
            return Err(Refusal::new(Cause::MalformedHeader, bad_field_start(byte)));
        }
        self.fields += 1;
        if self.fields > MAX_FIELDS {
            return Err(Refusal::new(Cause::HeaderTooLarge, "more than 256 fields"));
        }
        Ok(At::Name)
    }

    fn too_large(&self) -> Refusal {
        match self.at {
            At::Start | At::EmptyLineFeed | At::Method | At::RequestLine | At::RequestLineFeed => {
                Refusal::new(Cause::UriTooLong, "the request line alone is over the size limit")
            }
            At::FieldStart | At::Name | At::Value | At::ValueFeed | At::LastFeed | At::End => {
                Refusal::new(Cause::HeaderTooLarge, "the head is over the size limit")
            }
        }
    }
}

fn feed(byte: u8, next: At, cause: Cause) -> Result<At, Refusal> {
    if byte == b'\n' { Ok(next) } else { Err(Refusal::new(cause, "bare CR")) }
}

const fn malformed_line(evidence: &'static str) -> Refusal {
    Refusal::new(Cause::MalformedRequestLine, evidence)
}

fn bad_start(byte: u8) -> Refusal {
    malformed_line(match byte {
        0x16 => "a TLS handshake on a plain-text port",
        b'\r' => "more than one empty line before the request line",
        b'\n' => "bare LF before the request line",
        _ => "the first byte is not a token character",
    })
}

/// What is wrong with bytes that should be a field line or the empty line, and are neither.
pub(super) fn field_line_fault(rest: &[u8]) -> &'static str {
    let (name, after) = rest.split_at_checked(token_len(rest)).unwrap_or((rest, b""));
    let text = match (name, after) {
        (_, []) => return "the head ends inside a field line",
        ([], [b'\r', ..]) => return "the head does not end with its empty line",
        ([], [byte, ..]) => return bad_field_start(*byte),
        (_, [b':', text @ ..]) => text,
        (_, [byte, ..]) => return bad_name(*byte),
    };
    match text.get(text_len(text)..).unwrap_or_default() {
        [] => "the head ends inside a field line",
        [b'\r', ..] => "bare CR in a field value",
        [byte, ..] => bad_value(*byte),
    }
}

/// What is wrong with a byte at the start of a field line that is neither CR nor a token character.
const fn bad_field_start(byte: u8) -> &'static str {
    match byte {
        b' ' | b'\t' => "a field line starts with white space (obs-fold)",
        b':' => "a field without a name",
        b'\n' => "bare LF where a field line starts",
        _ => "a field name starts with a byte that is not a token character",
    }
}

/// What is wrong with a byte that ends a field name and is not the colon.
const fn bad_name(byte: u8) -> &'static str {
    match byte {
        b' ' | b'\t' => "white space between field name and colon",
        b'\r' | b'\n' => "a field line without a colon",
        _ => "a byte of a field name is not a token character",
    }
}

/// What is wrong with a byte that ends a field value and is not CR.
const fn bad_value(byte: u8) -> &'static str {
    match byte {
        b'\n' => "bare LF in a field value",
        0 => "NUL in a field value",
        _ => "a control byte in a field value",
    }
}

#[cfg(test)]
#[path = "raw_head_tests.rs"]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::string_slice, clippy::panic)]
mod tests;
