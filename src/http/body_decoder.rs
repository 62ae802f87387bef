//! Where a body ends, byte by byte: Content-Length, chunks, or the end of the connection.
//!
//! A decoder says how many bytes at the front of a buffer are body and eats what is framing. It owns no buffer and
//! reads no socket. It is stricter than RFC 9112 7.1 asks: no bare LF, no sign or prefix in a size, no control byte in
//! an extension; only an upstream may pad its sizes with blanks, as old servers do. Trailers are checked and dropped.

use bytes::{Buf, BytesMut};

use super::ascii_class::{is_field_text, is_token};
use super::framing::RequestFraming;
use super::response_head::ResponseFraming;

/// Longest chunk-size line, extensions included. Real ones are a few bytes.
const MAX_CHUNK_LINE: usize = 1024;
/// Longest trailer section.
pub const MAX_TRAILER_BYTES: usize = 16 * 1024;

/// What stands at the front of the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeStep {
    /// So many bytes of body, at least 1. The caller takes them all before it asks again.
    Data(usize),
    /// Nothing that can be told apart yet.
    NeedMore,
    /// The body has ended; what follows in the buffer is not part of it.
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

/// Finds the end of one body.
#[derive(Clone, Copy, Debug)]
pub struct BodyDecoder {
    state: DecoderState,
    allow_padding: bool,
}

impl BodyDecoder {
    /// For a request.
    pub const fn request(framing: RequestFraming) -> Self {
        let state = match framing {
            RequestFraming::None | RequestFraming::Length(0) => DecoderState::Done,
            RequestFraming::Length(length) => DecoderState::Length(length),
            RequestFraming::Chunked => DecoderState::ChunkSize,
        };
        BodyDecoder { state, allow_padding: false }
    }

    /// For a response.
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
    pub const fn is_done(&self) -> bool {
        matches!(self.state, DecoderState::Done)
    }

    /// Whether the end of the connection is the end of the body.
    pub const fn is_close_delimited(&self) -> bool {
        matches!(self.state, DecoderState::UntilClose)
    }

    /// The connection has ended: is the body whole?
    pub fn finish_on_close(&mut self) -> bool {
        if self.is_close_delimited() {
            self.state = DecoderState::Done;
        }
        self.is_done()
    }

    /// How many body bytes are still to come, where that was said.
    pub const fn remaining(&self) -> Option<u64> {
        match self.state {
            DecoderState::Length(left) => Some(left),
            DecoderState::Done => Some(0),
            DecoderState::ChunkSize
            | DecoderState::ChunkData(_)
            | DecoderState::ChunkEnd
            | DecoderState::Trailers(_)
            | DecoderState::UntilClose => None,
        }
    }

    /// Looks at the front of the buffer and eats framing.
    ///
    /// # Errors
    /// A sentence for the log: the framing is broken, and nothing after it can be trusted.
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
                DecoderState::Length(left) => {
                    let (taken, left) = consume(buffer.len(), left);
                    if taken > 0 {
                        self.state = if left == 0 { DecoderState::Done } else { DecoderState::Length(left) };
                    }
                    return Ok(if taken == 0 { DecodeStep::NeedMore } else { DecodeStep::Data(taken) });
                }
                DecoderState::ChunkData(left) => {
                    let (taken, left) = consume(buffer.len(), left);
                    if taken > 0 {
                        self.state =
                            if left == 0 { DecoderState::ChunkEnd } else { DecoderState::ChunkData(left) };
                    }
                    return Ok(if taken == 0 { DecodeStep::NeedMore } else { DecodeStep::Data(taken) });
                }
                DecoderState::ChunkEnd => match (buffer.first(), buffer.get(1)) {
                    (Some(b'\r'), Some(b'\n')) => {
                        buffer.advance(2);
                        self.state = DecoderState::ChunkSize;
                    }
                    (None, _) | (Some(b'\r'), None) => return Ok(DecodeStep::NeedMore),
                    (Some(_), _) => return Err("a chunk is longer than its size"),
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
                        return Err("a trailer is not a field");
                    }
                    buffer.advance(line + 2);
                    self.state =
                        if line == 0 { DecoderState::Done } else { DecoderState::Trailers(seen + line + 2) };
                }
            }
        }
    }
}

/// How many of the buffered bytes belong to what is left, and how many are left then.
fn consume(buffered: usize, left: u64) -> (usize, u64) {
    let taken = usize::try_from(left).unwrap_or(usize::MAX).min(buffered);
    (taken, left - taken as u64)
}

/// The length of the line at the front, without its CRLF; `None` while it is not whole.
fn find_line(buffer: &[u8], max_len: usize) -> Result<Option<usize>, &'static str> {
    for (at, octet) in buffer.iter().enumerate() {
        match octet {
            b'\r' => {
                return match buffer.get(at + 1) {
                    Some(b'\n') => Ok(Some(at)),
                    None => Ok(None),
                    Some(_) => Err("a bare CR in the chunk framing"),
                };
            }
            b'\n' => return Err("a bare LF in the chunk framing"),
            _ if at >= max_len => return Err("a line of the chunk framing is too long"),
            _ => {}
        }
    }
    Ok(None)
}

/// `1*HEXDIG [ ";" extension ]`: at most 15 digits, so that the sum of two sizes cannot overflow.
fn chunk_size(line: &[u8], allow_padding: bool) -> Result<u64, &'static str> {
    let digits = line.iter().take_while(|octet| octet.is_ascii_hexdigit()).count();
    let (size, mut rest) = line.split_at_checked(digits).unwrap_or_default();
    if size.is_empty() || size.len() > 15 {
        return Err("a chunk size is not a plain hexadecimal number");
    }
    if allow_padding {
        rest = rest.trim_ascii();
    }
    match rest.first() {
        None => {}
        Some(b';') if is_field_text(rest) => {}
        Some(_) => return Err("a chunk size is followed by something that is no extension"),
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

/// `name ":" value`, as strict as a head's field.
fn is_trailer(line: &[u8]) -> bool {
    let Some(colon) = line.iter().position(|octet| *octet == b':') else { return false };
    let (name, value) = line.split_at_checked(colon).unwrap_or_default();
    is_token(name) && is_field_text(value)
}

#[cfg(test)]
#[path = "body_decoder_tests.rs"]
mod tests;
