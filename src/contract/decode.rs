//! Decodes gzip, deflate, br and zstd error bodies. Supports one coding per body, with a limit on the output size.
//!
//! A decompression bomb costs at most the limit: the output is bounded before it is allocated, and no decoder allocates
//! a window whose size the sender chooses. [`super::conform`] parses the result.

use brotli::enc::StandardAlloc;
use brotli::{BrotliDecompressStream, BrotliResult, BrotliState};
use flate2::{Decompress, FlushDecompress, Status};
use http::HeaderValue;

/// A supported content coding (RFC 9110 8.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ContentCoding {
    /// No coding.
    Identity,
    /// `gzip`, `x-gzip`.
    Gzip,
    /// `deflate`: the zlib format, or a raw deflate stream as some senders produce.
    Deflate,
    /// `br`.
    Br,
    /// `zstd`.
    Zstd,
}

/// Why a body could not be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DecodeError {
    /// More output than the limit.
    TooLarge,
    /// Not a complete stream of that coding, or followed by other bytes.
    Malformed,
}

impl ContentCoding {
    /// Parses the values of Content-Encoding. Returns `None` for an unknown coding or more than one.
    pub fn parse<'a>(content_encoding: impl IntoIterator<Item = &'a HeaderValue>) -> Option<ContentCoding> {
        let mut coding = ContentCoding::Identity;
        let values = content_encoding.into_iter();
        for token in values.flat_map(|value| value.as_bytes().split(|&b| b == b',')) {
            let parsed = ContentCoding::from_token(token.trim_ascii())?;
            if coding == ContentCoding::Identity {
                coding = parsed;
            } else if parsed != ContentCoding::Identity {
                return None;
            }
        }
        Some(coding)
    }

    fn from_token(token: &[u8]) -> Option<ContentCoding> {
        match &*token.to_ascii_lowercase() {
            // Empty list elements are ignored (RFC 9110 5.6.1.2).
            b"" | b"identity" => Some(ContentCoding::Identity),
            b"gzip" | b"x-gzip" => Some(ContentCoding::Gzip),
            b"deflate" => Some(ContentCoding::Deflate),
            b"br" => Some(ContentCoding::Br),
            b"zstd" => Some(ContentCoding::Zstd),
            _ => None,
        }
    }
}

/// Decodes a complete body into at most `limit` bytes.
///
/// # Errors
/// [`DecodeError::TooLarge`] above the limit; [`DecodeError::Malformed`] if `body` is not exactly one complete body.
pub(crate) fn decode(coding: ContentCoding, body: &[u8], limit: usize) -> Result<Vec<u8>, DecodeError> {
    match coding {
        ContentCoding::Identity => BoundedOutput::new(limit).finish_with(body),
        ContentCoding::Gzip => inflate_gzip(body, limit),
        ContentCoding::Deflate => inflate_deflate(body, limit),
        ContentCoding::Br => decode_brotli(body, limit),
        ContentCoding::Zstd => decode_zstd(body, limit),
    }
}

/// An output buffer that never exceeds its limit.
struct BoundedOutput {
    bytes: Vec<u8>,
    limit: usize,
}

impl BoundedOutput {
    fn new(limit: usize) -> Self {
        BoundedOutput { bytes: Vec::new(), limit }
    }

    fn push(&mut self, chunk: &[u8]) -> Result<(), DecodeError> {
        let available = self.limit - self.bytes.len();
        if chunk.len() > available {
            return Err(DecodeError::TooLarge);
        }
        if self.bytes.capacity() - self.bytes.len() < chunk.len() {
            // Doubling, but never past the limit.
            self.bytes.reserve_exact(chunk.len().max(self.bytes.len()).min(available));
        }
        self.bytes.extend_from_slice(chunk);
        Ok(())
    }

    fn finish_with(mut self, chunk: &[u8]) -> Result<Vec<u8>, DecodeError> {
        self.push(chunk)?;
        Ok(self.bytes)
    }
}

/// Output size of one decoder step, in bytes.
const CHUNK_SIZE: usize = 8 * 1024;

/// The maximum window of deflate, zlib and gzip: 2^15 bytes.
const WINDOW_BITS: u8 = 15;

fn inflate_gzip(body: &[u8], limit: usize) -> Result<Vec<u8>, DecodeError> {
    let mut output = BoundedOutput::new(limit);
    let mut rest = inflate(&mut Decompress::new_gzip(WINDOW_BITS), body, &mut output)?;
    // A gzip body may have several members (RFC 1952 2.2); anything else is malformed.
    while !rest.is_empty() {
        rest = inflate(&mut Decompress::new_gzip(WINDOW_BITS), rest, &mut output)?;
    }
    Ok(output.bytes)
}

fn inflate_deflate(body: &[u8], limit: usize) -> Result<Vec<u8>, DecodeError> {
    let inflate_all = |zlib_header: bool| {
        let mut output = BoundedOutput::new(limit);
        match inflate(&mut Decompress::new(zlib_header), body, &mut output)? {
            [] => Ok(output.bytes),
            [..] => Err(DecodeError::Malformed),
        }
    };
    match inflate_all(true) {
        Err(DecodeError::Malformed) => inflate_all(false),
        other => other,
    }
}

/// Inflates one stream to its end and returns the bytes that follow it.
fn inflate<'b>(
    stream: &mut Decompress,
    body: &'b [u8],
    output: &mut BoundedOutput,
) -> Result<&'b [u8], DecodeError> {
    let mut chunk = [0; CHUNK_SIZE];
    let mut rest = body;
    loop {
        let (read, written) = (stream.total_in(), stream.total_out());
        let status =
            stream.decompress(rest, &mut chunk, FlushDecompress::None).map_err(|_| DecodeError::Malformed)?;
        let read = usize::try_from(stream.total_in() - read).unwrap_or(usize::MAX);
        let written = usize::try_from(stream.total_out() - written).unwrap_or(usize::MAX);
        rest = rest.get(read..).unwrap_or_default();
        output.push(chunk.get(..written).unwrap_or_default())?;
        match status {
            Status::StreamEnd => return Ok(rest),
            // No progress: the stream is truncated.
            Status::Ok | Status::BufError if read == 0 && written == 0 => return Err(DecodeError::Malformed),
            Status::Ok | Status::BufError => {}
        }
    }
}

fn decode_brotli(body: &[u8], limit: usize) -> Result<Vec<u8>, DecodeError> {
    // `new_strict` rejects "large windows", so the window is at most 16 MiB. It is zeroed memory: the kernel commits
    // only the pages that are written, at most the limit plus one step.
    let mut state =
        BrotliState::new_strict(StandardAlloc::default(), StandardAlloc::default(), StandardAlloc::default());
    let mut output = BoundedOutput::new(limit);
    let mut chunk = [0; CHUNK_SIZE];
    let (mut unread, mut read, mut total) = (body.len(), 0, 0);
    loop {
        let (mut available, mut written) = (CHUNK_SIZE, 0);
        let result = BrotliDecompressStream(
            &mut unread,
            &mut read,
            body,
            &mut available,
            &mut written,
            &mut chunk,
            &mut total,
            &mut state,
        );
        output.push(chunk.get(..written).unwrap_or_default())?;
        match result {
            BrotliResult::NeedsMoreOutput => {}
            BrotliResult::ResultSuccess if unread == 0 => return Ok(output.bytes),
            BrotliResult::ResultSuccess | BrotliResult::NeedsMoreInput | BrotliResult::ResultFailure => {
                return Err(DecodeError::Malformed);
            }
        }
    }
}

fn decode_zstd(body: &[u8], limit: usize) -> Result<Vec<u8>, DecodeError> {
    // Decodes in one call into a buffer of `limit` bytes: the streaming decoder would allocate the window that the
    // frame declares, up to 128 MiB. The call accepts several frames and rejects trailing garbage.
    let mut bytes = Vec::with_capacity(limit);
    match zstd::zstd_safe::decompress(&mut bytes, body) {
        // zstd accepts an empty input, but an empty body is not a frame.
        Ok(_) if body.is_empty() => Err(DecodeError::Malformed),
        Ok(_) => Ok(bytes),
        Err(ZSTD_OUTPUT_TOO_SMALL) => Err(DecodeError::TooLarge),
        Err(_) => Err(DecodeError::Malformed),
    }
}

/// zstd error 70, `dstSize_tooSmall`. Error numbers are stable since 1.3.1 (zstd_errors.h) and returned as negative
/// sizes.
const ZSTD_OUTPUT_TOO_SMALL: usize = 0usize.wrapping_sub(70);

#[cfg(test)]
#[path = "decode_tests.rs"]
mod tests;
