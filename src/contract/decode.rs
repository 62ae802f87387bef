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
pub enum Coding {
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
pub enum DecodeFailure {
    /// More output than the limit.
    TooLarge,
    /// Not a whole stream of that coding, or something stands behind it.
    Broken,
}

impl Coding {
    /// The coding that the values of Content-Encoding name. `None`: an unknown one, or more than one.
    pub fn parse<'a>(content_encoding: impl IntoIterator<Item = &'a HeaderValue>) -> Option<Coding> {
        let mut coding = Coding::Identity;
        let values = content_encoding.into_iter();
        for token in values.flat_map(|value| value.as_bytes().split(|&b| b == b',')) {
            let named = Coding::named(token.trim_ascii())?;
            match (coding, named) {
                (_, Coding::Identity) => {}
                (Coding::Identity, Coding::Gzip | Coding::Deflate | Coding::Br | Coding::Zstd) => {
                    coding = named
                }
                (
                    Coding::Gzip | Coding::Deflate | Coding::Br | Coding::Zstd,
                    Coding::Gzip | Coding::Deflate | Coding::Br | Coding::Zstd,
                ) => return None,
            }
        }
        Some(coding)
    }

    fn named(token: &[u8]) -> Option<Coding> {
        let is = |name: &str| token.eq_ignore_ascii_case(name.as_bytes());
        // Empty list elements are ignored (RFC 9110, section 5.6.1.2).
        if token.is_empty() || is("identity") {
            Some(Coding::Identity)
        } else if is("gzip") || is("x-gzip") {
            Some(Coding::Gzip)
        } else if is("deflate") {
            Some(Coding::Deflate)
        } else if is("br") {
            Some(Coding::Br)
        } else if is("zstd") {
            Some(Coding::Zstd)
        } else {
            None
        }
    }
}

/// Decodes a whole body into at most `limit` bytes.
///
/// # Errors
/// [`DecodeFailure::TooLarge`] past the limit; [`DecodeFailure::Broken`] for everything that is not exactly one whole body.
pub fn decode(coding: Coding, body: &[u8], limit: usize) -> Result<Vec<u8>, DecodeFailure> {
    match coding {
        Coding::Identity => Output::new(limit).with(body),
        Coding::Gzip => inflate_gzip(body, limit),
        Coding::Deflate => inflate_deflate(body, limit),
        Coding::Br => decode_brotli(body, limit),
        Coding::Zstd => decode_zstd(body, limit),
    }
}

/// Bytes that never become more than a limit.
struct Output {
    bytes: Vec<u8>,
    limit: usize,
}

impl Output {
    fn new(limit: usize) -> Self {
        Output { bytes: Vec::new(), limit }
    }

    fn push(&mut self, more: &[u8]) -> Result<(), DecodeFailure> {
        let room = self.limit - self.bytes.len();
        if more.len() > room {
            return Err(DecodeFailure::TooLarge);
        }
        if self.bytes.capacity() - self.bytes.len() < more.len() {
            // Doubling, but never past the limit.
            self.bytes.reserve_exact(more.len().max(self.bytes.len()).min(room));
        }
        self.bytes.extend_from_slice(more);
        Ok(())
    }

    fn with(mut self, more: &[u8]) -> Result<Vec<u8>, DecodeFailure> {
        self.push(more)?;
        Ok(self.bytes)
    }
}

/// What a step of a decoder may put out at once, in bytes.
const STEP: usize = 8 * 1024;

/// The largest window of deflate, which zlib and gzip share.
const WINDOW_BITS: u8 = 15;

fn inflate_gzip(body: &[u8], limit: usize) -> Result<Vec<u8>, DecodeFailure> {
    let mut output = Output::new(limit);
    let mut rest = inflate(&mut Decompress::new_gzip(WINDOW_BITS), body, &mut output)?;
    // A gzip body may have several members (RFC 1952, section 2.2); what is no member is garbage.
    while !rest.is_empty() {
        rest = inflate(&mut Decompress::new_gzip(WINDOW_BITS), rest, &mut output)?;
    }
    Ok(output.bytes)
}

fn inflate_deflate(body: &[u8], limit: usize) -> Result<Vec<u8>, DecodeFailure> {
    let whole = |zlib_header: bool| {
        let mut output = Output::new(limit);
        match inflate(&mut Decompress::new(zlib_header), body, &mut output)? {
            [] => Ok(output.bytes),
            [..] => Err(DecodeFailure::Broken),
        }
    };
    match whole(true) {
        Err(DecodeFailure::Broken) => whole(false),
        Err(DecodeFailure::TooLarge) => Err(DecodeFailure::TooLarge),
        Ok(bytes) => Ok(bytes),
    }
}

/// Inflates one stream to its end and returns what stands behind it.
fn inflate<'b>(
    stream: &mut Decompress,
    body: &'b [u8],
    output: &mut Output,
) -> Result<&'b [u8], DecodeFailure> {
    let mut step = [0; STEP];
    let mut rest = body;
    loop {
        let (read, written) = (stream.total_in(), stream.total_out());
        let status =
            stream.decompress(rest, &mut step, FlushDecompress::None).map_err(|_| DecodeFailure::Broken)?;
        let read = usize::try_from(stream.total_in() - read).unwrap_or(usize::MAX);
        let written = usize::try_from(stream.total_out() - written).unwrap_or(usize::MAX);
        rest = rest.get(read..).unwrap_or_default();
        output.push(step.get(..written).unwrap_or_default())?;
        match status {
            Status::StreamEnd => return Ok(rest),
            // No step forward: the stream wants more than there is.
            Status::Ok | Status::BufError if read == 0 && written == 0 => return Err(DecodeFailure::Broken),
            Status::Ok | Status::BufError => {}
        }
    }
}

fn decode_brotli(body: &[u8], limit: usize) -> Result<Vec<u8>, DecodeFailure> {
    // `new_strict`: no "large windows", so the window is 16 MiB at most; it is zeroed memory of which only what is
    // written becomes real, and no more than the limit and a step is written.
    let mut state =
        BrotliState::new_strict(StandardAlloc::default(), StandardAlloc::default(), StandardAlloc::default());
    let mut output = Output::new(limit);
    let mut step = [0; STEP];
    let (mut unread, mut read, mut total) = (body.len(), 0, 0);
    loop {
        let (mut room, mut written) = (STEP, 0);
        let result = BrotliDecompressStream(
            &mut unread,
            &mut read,
            body,
            &mut room,
            &mut written,
            &mut step,
            &mut total,
            &mut state,
        );
        output.push(step.get(..written).unwrap_or_default())?;
        match result {
            BrotliResult::NeedsMoreOutput => {}
            BrotliResult::ResultSuccess if unread == 0 => return Ok(output.bytes),
            BrotliResult::ResultSuccess | BrotliResult::NeedsMoreInput | BrotliResult::ResultFailure => {
                return Err(DecodeFailure::Broken);
            }
        }
    }
}

fn decode_zstd(body: &[u8], limit: usize) -> Result<Vec<u8>, DecodeFailure> {
    // In one call, straight into a buffer of the limit's size: the streaming decoder would allocate the window that the
    // frame asks for, up to 128 MiB. It reads several frames and refuses garbage behind them.
    let mut bytes = Vec::with_capacity(limit);
    match zstd::zstd_safe::decompress(&mut bytes, body) {
        // An empty body is no frame.
        Ok(_) if body.is_empty() => Err(DecodeFailure::Broken),
        Ok(_) => Ok(bytes),
        Err(ZSTD_OUTPUT_TOO_SMALL) => Err(DecodeFailure::TooLarge),
        Err(_) => Err(DecodeFailure::Broken),
    }
}

/// zstd's error 70, `dstSize_tooSmall`; its numbers are fixed since 1.3.1 (zstd_errors.h) and come as negative sizes.
const ZSTD_OUTPUT_TOO_SMALL: usize = 0usize.wrapping_sub(70);

#[cfg(test)]
#[path = "decode_tests.rs"]
mod tests;
