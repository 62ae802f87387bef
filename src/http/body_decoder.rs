//! Decodes body framing incrementally: Content-Length, chunked, or until the connection closes.
//!
//! The decoder consumes framing bytes from the caller's buffer and returns how many body bytes follow. It is stricter
//! than RFC 9112 7.1: it rejects bare LF, signs and prefixes in chunk sizes, and control bytes in chunk extensions.
//! Only upstreams may pad chunk sizes with spaces, as old servers do; everyone may put white space before the semicolon
//! of an extension. Trailers are validated and dropped.

use bytes::{Buf, BytesMut};

use super::ascii_class::{is_field_text, is_token, trim_ows};
use super::framing::RequestFraming;
use super::response_head::ResponseFraming;

/// Maximum length of a chunk-size line with extensions, in bytes. Real ones have a few bytes.
const MAX_CHUNK_LINE: usize = 1024;
/// Maximum length of the trailer section, in bytes.
pub(crate) const MAX_TRAILER_BYTES: usize = 16 * 1024;

/// The result of one decoding step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeStep {
    /// The buffer starts with this number of body bytes, at least 1. The caller removes them before the next call.
    Data(usize),
    /// The buffer is empty or ends inside the framing.
    NeedMore,
    /// The body has ended; the remaining bytes of the buffer are not part of it.
    End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DecoderState {
    Length(u64),
    ChunkSize,
    ChunkData(u64),
    ChunkEnd,
    Trailers(usize),
    UntilClose,
    Done,
}

/// Decodes the framing of one body.
#[derive(Clone, Copy, Debug)]
pub struct BodyDecoder {
    state: DecoderState,
    allow_padding: bool,
}

impl BodyDecoder {
    /// Creates a decoder for a request body.
    pub const fn request(framing: RequestFraming) -> Self {
        let state = match framing {
            RequestFraming::None | RequestFraming::Length(0) => DecoderState::Done,
            RequestFraming::Length(length) => DecoderState::Length(length),
            RequestFraming::Chunked => DecoderState::ChunkSize,
        };
        BodyDecoder { state, allow_padding: false }
    }

    /// Creates a decoder for a response body.
    pub const fn response(framing: ResponseFraming) -> Self {
        let state = match framing {
            ResponseFraming::NoBody | ResponseFraming::Length(0) => DecoderState::Done,
            ResponseFraming::Length(length) => DecoderState::Length(length),
            ResponseFraming::Chunked => DecoderState::ChunkSize,
            ResponseFraming::UntilClose => DecoderState::UntilClose,
        };
        BodyDecoder { state, allow_padding: true }
    }

    /// Whether the body has ended.
    pub(crate) const fn is_done(&self) -> bool {
        matches!(self.state, DecoderState::Done)
    }

    /// Whether the body ends when the connection closes.
    pub(crate) const fn is_close_delimited(&self) -> bool {
        matches!(self.state, DecoderState::UntilClose)
    }

    /// Records that the connection was closed. Returns whether the body is complete.
    pub(crate) fn finish_on_close(&mut self) -> bool {
        if self.is_close_delimited() {
            self.state = DecoderState::Done;
        }
        self.is_done()
    }

    /// The number of body bytes that remain, if known.
    pub const fn remaining(&self) -> Option<u64> {
        match self.state {
            DecoderState::Length(remaining) => Some(remaining),
            DecoderState::Done => Some(0),
            DecoderState::ChunkSize
            | DecoderState::ChunkData(_)
            | DecoderState::ChunkEnd
            | DecoderState::Trailers(_)
            | DecoderState::UntilClose => None,
        }
    }

    /// Consumes framing at the start of the buffer up to the next body bytes.
    ///
    /// # Errors
    /// A constant text for the log if the framing is invalid. The connection cannot be used afterwards.
    pub fn decode(&mut self, buffer: &mut BytesMut) -> Result<DecodeStep, &'static str> {
        loop {
            match self.state {
                DecoderState::Done => return Ok(DecodeStep::End),
                DecoderState::UntilClose => {
                    return Ok(if buffer.is_empty() {
                        DecodeStep::NeedMore
                    } else {
                        DecodeStep::Data(buffer.len())
                    });
                }
                DecoderState::Length(remaining) => {
                    let (length, remaining) = consume(buffer.len(), remaining);
                    if length > 0 {
                        self.state =
                            if remaining == 0 { DecoderState::Done } else { DecoderState::Length(remaining) };
                    }
                    return Ok(if length == 0 { DecodeStep::NeedMore } else { DecodeStep::Data(length) });
                }
                DecoderState::ChunkData(remaining) => {
                    let (length, remaining) = consume(buffer.len(), remaining);
                    if length > 0 {
                        self.state = if remaining == 0 {
                            DecoderState::ChunkEnd
                        } else {
                            DecoderState::ChunkData(remaining)
                        };
                    }
                    return Ok(if length == 0 { DecodeStep::NeedMore } else { DecodeStep::Data(length) });
                }
                DecoderState::ChunkEnd => match (buffer.first(), buffer.get(1)) {
                    (Some(b'\r'), Some(b'\n')) => {
                        buffer.advance(2);
                        self.state = DecoderState::ChunkSize;
                    }
                    (None, _) | (Some(b'\r'), None) => return Ok(DecodeStep::NeedMore),
                    (Some(_), _) => return Err("chunk data is longer than the chunk size"),
                },
                DecoderState::ChunkSize => {
                    let Some(line) = find_line(buffer, MAX_CHUNK_LINE)? else {
                        return Ok(DecodeStep::NeedMore);
                    };
                    let size = chunk_size(buffer.get(..line).unwrap_or_default(), self.allow_padding)?;
                    buffer.advance(line + 2);
                    self.state =
                        if size == 0 { DecoderState::Trailers(0) } else { DecoderState::ChunkData(size) };
                }
                DecoderState::Trailers(seen) => {
                    let Some(line) = find_line(buffer, MAX_TRAILER_BYTES.saturating_sub(seen))? else {
                        return Ok(DecodeStep::NeedMore);
                    };
                    if line > 0 && !is_trailer(buffer.get(..line).unwrap_or_default()) {
                        return Err("a trailer line is not a valid field");
                    }
                    buffer.advance(line + 2);
                    self.state =
                        if line == 0 { DecoderState::Done } else { DecoderState::Trailers(seen + line + 2) };
                }
            }
        }
    }
}

/// Returns how many of the buffered bytes belong to the body, and how many body bytes remain after them.
fn consume(buffered: usize, remaining: u64) -> (usize, u64) {
    let length = usize::try_from(remaining).unwrap_or(usize::MAX).min(buffered);
    (length, remaining - length as u64)
}

/// Returns the length of the first line without its CRLF; `None` while the line is incomplete.
fn find_line(buffer: &[u8], max_len: usize) -> Result<Option<usize>, &'static str> {
    for (at, octet) in buffer.iter().enumerate() {
        match octet {
            b'\r' => {
                return match buffer.get(at + 1) {
                    Some(b'\n') => Ok(Some(at)),
                    None => Ok(None),
                    Some(_) => Err("bare CR in the chunk framing"),
                };
            }
            b'\n' => return Err("bare LF in the chunk framing"),
            _ if at >= max_len => return Err("a chunk-size or trailer line is too long"),
            _ => {}
        }
    }
    Ok(None)
}

/// Parses `1*HEXDIG [ BWS ";" extension ]` (RFC 9112 7.1.1). At most 15 digits after leading zeros, so that the
/// sum of 2 sizes cannot overflow.
fn chunk_size(line: &[u8], allow_padding: bool) -> Result<u64, &'static str> {
    let digits = line.iter().take_while(|octet| octet.is_ascii_hexdigit()).count();
    let (size, rest) = line.split_at_checked(digits).unwrap_or_default();
    let zeros = size.iter().take_while(|digit| **digit == b'0').count();
    if size.is_empty() || size.len() - zeros > 15 {
        return Err("a chunk size is not a plain hexadecimal number");
    }
    let extension = trim_ows(rest);
    match extension.first() {
        None if allow_padding || rest.is_empty() => {}
        Some(b';') if is_field_text(extension) => {}
        None | Some(_) => return Err("a chunk size is not followed by a valid extension"),
    }
    Ok(size.iter().fold(0, |sum, digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => digit.to_ascii_lowercase().wrapping_sub(b'a') + 10,
        };
        sum * 16 + u64::from(value)
    }))
}

/// Whether the line is `name ":" value`, by the rules of a header field.
fn is_trailer(line: &[u8]) -> bool {
    let Some(colon) = line.iter().position(|octet| *octet == b':') else { return false };
    let (name, value) = line.split_at_checked(colon).unwrap_or_default();
    is_token(name) && is_field_text(value)
}

#[cfg(test)]
#[path = "body_decoder_tests.rs"]
mod tests;
