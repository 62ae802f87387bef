//! Coded error bodies made readable: gzip, deflate, br and zstd, one coding only, never more output than a limit.
//!
//! A bomb costs no more than the limit: the output is bounded before it is made, and no decoder is used that keeps a
//! window of a size the sender chooses. It knows nothing of JSON or of responses (see [`super::conform`]).

use brotli::enc::StandardAlloc;
use brotli::{BrotliDecompressStream, BrotliResult, BrotliState};
use flate2::{Decompress, FlushDecompress, Status};
use http::HeaderValue;

/// A content coding that we can read (RFC 9110, section 8.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ContentCoding {
    /// None.
    Identity,
    /// `gzip`, `x-gzip`.
    Gzip,
    /// `deflate`: the zlib format, or the raw stream that some senders mean by it.
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
    /// Not a whole stream of that coding, or something stands behind it.
    Malformed,
}

impl ContentCoding {
    /// The coding that the values of Content-Encoding name. `None`: an unknown one, or more than one.
    pub fn parse<'a>(content_encoding: impl IntoIterator<Item = &'a HeaderValue>) -> Option<ContentCoding> {
        let mut coding = ContentCoding::Identity;
        let values = content_encoding.into_iter();
        for token in values.flat_map(|value| value.as_bytes().split(|&b| b == b',')) {
            let parsed = ContentCoding::from_token(token.trim_ascii())?;
            match (coding, parsed) {
                (_, ContentCoding::Identity) => {}
                (
                    ContentCoding::Identity,
                    ContentCoding::Gzip | ContentCoding::Deflate | ContentCoding::Br | ContentCoding::Zstd,
                ) => coding = parsed,
                (
                    ContentCoding::Gzip | ContentCoding::Deflate | ContentCoding::Br | ContentCoding::Zstd,
                    ContentCoding::Gzip | ContentCoding::Deflate | ContentCoding::Br | ContentCoding::Zstd,
                ) => return None,
            }
        }
        Some(coding)
    }

    fn from_token(token: &[u8]) -> Option<ContentCoding> {
        let matches = |name: &str| token.eq_ignore_ascii_case(name.as_bytes());
        // Empty list elements are ignored (RFC 9110, section 5.6.1.2).
        if token.is_empty() || matches("identity") {
            Some(ContentCoding::Identity)
        } else if matches("gzip") || matches("x-gzip") {
            Some(ContentCoding::Gzip)
        } else if matches("deflate") {
            Some(ContentCoding::Deflate)
        } else if matches("br") {
            Some(ContentCoding::Br)
        } else if matches("zstd") {
            Some(ContentCoding::Zstd)
        } else {
            None
        }
    }
}

/// Decodes a whole body into at most `limit` bytes.
///
/// # Errors
/// [`DecodeError::TooLarge`] past the limit; [`DecodeError::Malformed`] for everything that is not exactly one whole body.
pub fn decode(coding: ContentCoding, body: &[u8], limit: usize) -> Result<Vec<u8>, DecodeError> {
    match coding {
        ContentCoding::Identity => BoundedOutput::new(limit).finish_with(body),
        ContentCoding::Gzip => inflate_gzip(body, limit),
        ContentCoding::Deflate => inflate_deflate(body, limit),
        ContentCoding::Br => decode_brotli(body, limit),
        ContentCoding::Zstd => decode_zstd(body, limit),
    }
}

/// Bytes that never become more than a limit.
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

/// What a step of a decoder may put out at once, in bytes.
const CHUNK_SIZE: usize = 8 * 1024;

/// The largest window of deflate, which zlib and gzip share.
const WINDOW_BITS: u8 = 15;

fn inflate_gzip(body: &[u8], limit: usize) -> Result<Vec<u8>, DecodeError> {
    let mut output = BoundedOutput::new(limit);
    let mut rest = inflate(&mut Decompress::new_gzip(WINDOW_BITS), body, &mut output)?;
    // A gzip body may have several members (RFC 1952, section 2.2); what is no member is garbage.
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
        Err(DecodeError::TooLarge) => Err(DecodeError::TooLarge),
        Ok(bytes) => Ok(bytes),
    }
}

/// Inflates one stream to its end and returns what stands behind it.
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
            // No step forward: the stream wants more than there is.
            Status::Ok | Status::BufError if read == 0 && written == 0 => return Err(DecodeError::Malformed),
            Status::Ok | Status::BufError => {}
        }
    }
}

fn decode_brotli(body: &[u8], limit: usize) -> Result<Vec<u8>, DecodeError> {
    // `new_strict`: no "large windows", so the window is 16 MiB at most; it is zeroed memory of which only what is
    // written becomes real, and no more than the limit and a step is written.
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
    // In one call, straight into a buffer of the limit's size: the streaming decoder would allocate the window that the
    // frame asks for, up to 128 MiB. It reads several frames and refuses garbage behind them.
    let mut bytes = Vec::with_capacity(limit);
    match zstd::zstd_safe::decompress(&mut bytes, body) {
        // An empty body is no frame.
        Ok(_) if body.is_empty() => Err(DecodeError::Malformed),
        Ok(_) => Ok(bytes),
        Err(ZSTD_OUTPUT_TOO_SMALL) => Err(DecodeError::TooLarge),
        Err(_) => Err(DecodeError::Malformed),
    }
}

/// zstd's error 70, `dstSize_tooSmall`; its numbers are fixed since 1.3.1 (zstd_errors.h) and come as negative sizes.
const ZSTD_OUTPUT_TOO_SMALL: usize = 0usize.wrapping_sub(70);

#[cfg(test)]
#[path = "decode_tests.rs"]
mod tests;
