//! Encodes and decodes HTTP/2 frames (RFC 9113, sections 4.1 and 6).
//!
//! Encoding checks nothing, so that tests can send invalid frames. [`super::runner`] interprets the decoded frames.

use bytes::BufMut;

/// The client's connection preface (RFC 9113 3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Frame types (RFC 9113 6).
pub mod frame_type {
    /// Body bytes.
    pub const DATA: u8 = 0;
    /// The first fragment of a header block.
    pub const HEADERS: u8 = 1;
    /// Immediate termination of a stream.
    pub const RST_STREAM: u8 = 3;
    /// Connection parameters of the sender.
    pub const SETTINGS: u8 = 4;
    /// Liveness check; the receiver returns the payload.
    pub const PING: u8 = 6;
    /// Shutdown of the connection.
    pub const GOAWAY: u8 = 7;
    /// Flow-control credit.
    pub const WINDOW_UPDATE: u8 = 8;
    /// A further fragment of a header block.
    pub const CONTINUATION: u8 = 9;

    /// The names in files of cases, by type.
    pub(crate) const NAMES: [&str; 10] = [
        "data",
        "headers",
        "priority",
        "rst_stream",
        "settings",
        "push_promise",
        "ping",
        "goaway",
        "window_update",
        "continuation",
    ];
}

/// The last frame of a stream.
pub const END_STREAM: u8 = 1;
/// SETTINGS and PING: an acknowledgement.
pub const ACK: u8 = 1;
/// The last fragment of a header block.
pub const END_HEADERS: u8 = 4;

/// SETTINGS identifiers (RFC 9113 6.5.2).
pub mod setting_id {
    /// Maximum size of the HPACK dynamic table, in bytes.
    pub(crate) const HEADER_TABLE_SIZE: u16 = 1;
    /// Maximum number of concurrent streams.
    pub(crate) const MAX_CONCURRENT_STREAMS: u16 = 3;
    /// Initial flow-control window of a stream, in bytes.
    pub const INITIAL_WINDOW_SIZE: u16 = 4;
}

/// Placeholder for the stream identifier of the request, in frame headers and payloads of an upstream's script.
pub(crate) const STREAM_PLACEHOLDER: u32 = 0x7fff_fffd;

/// A frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// One of [`frame_type`], or an unknown type.
    pub frame_type: u8,
    /// The flags; their meaning depends on the type.
    pub flags: u8,
    /// The stream identifier; 0 is the connection.
    pub stream: u32,
    /// The payload.
    pub payload: Vec<u8>,
}

/// Encodes a frame.
pub fn encode_frame(frame_type: u8, flags: u8, stream: u32, payload: impl AsRef<[u8]>) -> Vec<u8> {
    let payload = payload.as_ref();
    let mut bytes = Vec::with_capacity(9 + payload.len());
    bytes.put_uint(payload.len() as u64, 3);
    bytes.put_slice(&[frame_type, flags]);
    bytes.put_u32(stream);
    bytes.put_slice(payload);
    bytes
}

/// A SETTINGS frame with these values.
pub fn settings_frame(values: &[(u16, u32)]) -> Vec<u8> {
    let mut payload = Vec::new();
    for (name, value) in values {
        payload.put_u16(*name);
        payload.put_u32(*value);
    }
    encode_frame(frame_type::SETTINGS, 0, 0, payload)
}

/// A WINDOW_UPDATE frame; stream 0 is the connection.
pub fn window_update_frame(stream: u32, increment: u32) -> Vec<u8> {
    encode_frame(frame_type::WINDOW_UPDATE, 0, stream, increment.to_be_bytes())
}

/// An RST_STREAM frame with this error code.
pub fn rst_stream_frame(stream: u32, code: u32) -> Vec<u8> {
    encode_frame(frame_type::RST_STREAM, 0, stream, code.to_be_bytes())
}

/// Splits a header block into HEADERS and CONTINUATION frames; `flags` are those of HEADERS besides END_HEADERS.
pub fn header_block_frames(stream: u32, block: &[u8], flags: u8) -> Vec<u8> {
    let mut fragments = block.chunks(MAX_FRAME_PAYLOAD).peekable();
    let (mut bytes, mut kind) = (Vec::new(), frame_type::HEADERS);
    while let Some(fragment) = fragments.next() {
        let last = if fragments.peek().is_none() { END_HEADERS } else { 0 };
        let flags = if kind == frame_type::HEADERS { flags } else { 0 };
        bytes.extend(encode_frame(kind, flags | last, stream, fragment));
        kind = frame_type::CONTINUATION;
    }
    bytes
}

/// The default and minimum SETTINGS_MAX_FRAME_SIZE (RFC 9113 6.5.2).
const MAX_FRAME_PAYLOAD: usize = 16 * 1024;

/// Removes the first frame from the buffer; `None` while it is incomplete.
pub fn take_frame(bytes: &mut Vec<u8>) -> Option<Frame> {
    let [a, b, c, frame_type, flags, w, x, y, z] = *bytes.first_chunk::<9>()?;
    let length = usize::try_from(u32::from_be_bytes([0, a, b, c])).ok()?;
    let payload = bytes.get(9..9 + length)?.to_vec();
    bytes.drain(..9 + length);
    let stream = u32::from_be_bytes([w, x, y, z]) & 0x7fff_ffff;
    Some(Frame { frame_type, flags, stream, payload })
}

/// The first 4 bytes as a big-endian number; 0 if the payload is shorter.
pub fn leading_u32(payload: &[u8]) -> u32 {
    payload.first_chunk::<4>().map_or(0, |octets| u32::from_be_bytes(*octets))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_round_trip_when_fed_octet_by_octet() {
        let written = [
            settings_frame(&[(setting_id::INITIAL_WINDOW_SIZE, 7)]),
            encode_frame(frame_type::DATA, END_STREAM, 3, vec![b'x'; 70_000]),
            rst_stream_frame(5, 8),
        ]
        .concat();
        let (mut received, mut frames) = (Vec::new(), Vec::new());
        for octet in written {
            received.push(octet);
            frames.extend(take_frame(&mut received));
        }
        let decoded: Vec<_> =
            frames.iter().map(|frame| (frame.frame_type, frame.stream, frame.payload.len())).collect();
        assert_eq!(
            decoded,
            [(frame_type::SETTINGS, 0, 6), (frame_type::DATA, 3, 70_000), (frame_type::RST_STREAM, 5, 4)]
        );
        assert_eq!(frames.last().map(|frame| leading_u32(&frame.payload)), Some(8));
        assert_eq!(received, b"");
    }
}
