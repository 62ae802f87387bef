//! Frames of HTTP/2 (RFC 9113 4.1 and 6), written as one is told and read as they come.
//!
//! Nothing is checked that is written: a frame may say anything. What a frame means is for [`super::runner_h2`].

/// The client's preface (RFC 9113 3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What a frame is.
pub mod frame_type {
    /// Bytes of a body.
    pub const DATA: u8 = 0;
    /// A header block.
    pub const HEADERS: u8 = 1;
    /// An order among streams, obsolete.
    pub const PRIORITY: u8 = 2;
    /// The end of a stream, at once.
    pub const RST_STREAM: u8 = 3;
    /// What its sender wants to be known.
    pub const SETTINGS: u8 = 4;
    /// Streams that a server begins.
    pub const PUSH_PROMISE: u8 = 5;
    /// To be answered with the same octets.
    pub const PING: u8 = 6;
    /// The end of the connection.
    pub const GOAWAY: u8 = 7;
    /// More bytes may come.
    pub const WINDOW_UPDATE: u8 = 8;
    /// The rest of a header block.
    pub const CONTINUATION: u8 = 9;
}

/// Nothing follows on this stream.
pub const END_STREAM: u8 = 1;
/// Of SETTINGS and PING: this is the answer.
pub const ACK: u8 = 1;
/// The header block is whole.
pub const END_HEADERS: u8 = 4;
/// The first octet says how many of the last ones mean nothing.
pub const PADDED: u8 = 8;

/// Names of SETTINGS.
pub mod setting_id {
    /// Octets that a dynamic table may hold.
    pub const HEADER_TABLE_SIZE: u16 = 1;
    /// Streams at once.
    pub const MAX_CONCURRENT_STREAMS: u16 = 3;
    /// Octets that a stream may send unasked.
    pub const INITIAL_WINDOW_SIZE: u16 = 4;
    /// Octets of a frame.
    pub const MAX_FRAME_SIZE: u16 = 5;
}

/// A frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// One of [`frame_type`], or anything else.
    pub frame_type: u8,
    /// What is said of it.
    pub flags: u8,
    /// 0: the connection.
    pub stream: u32,
    /// Its octets.
    pub payload: Vec<u8>,
}

/// The bytes of a frame.
pub fn encode_frame(frame_type: u8, flags: u8, stream: u32, payload: impl AsRef<[u8]>) -> Vec<u8> {
    let payload = payload.as_ref();
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
    let mut bytes = length.get(1..).unwrap_or_default().to_vec();
    bytes.extend_from_slice(&[frame_type, flags]);
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// A SETTINGS frame with these values.
pub fn settings_frame(values: &[(u16, u32)]) -> Vec<u8> {
    let pairs = values.iter().flat_map(|(name, value)| {
        name.to_be_bytes().into_iter().chain(value.to_be_bytes()).collect::<Vec<u8>>()
    });
    encode_frame(frame_type::SETTINGS, 0, 0, pairs.collect::<Vec<u8>>())
}

/// So many more bytes may come on this stream.
pub fn window_update_frame(stream: u32, increment: u32) -> Vec<u8> {
    encode_frame(frame_type::WINDOW_UPDATE, 0, stream, increment.to_be_bytes())
}

/// The end of a stream with this code.
pub fn rst_stream_frame(stream: u32, code: u32) -> Vec<u8> {
    encode_frame(frame_type::RST_STREAM, 0, stream, code.to_be_bytes())
}

/// Takes the first frame off the bytes, once it is there as a whole.
pub fn take_frame(bytes: &mut Vec<u8>) -> Option<Frame> {
    let [a, b, c, frame_type, flags, w, x, y, z] = *bytes.first_chunk::<9>()?;
    let length = usize::try_from(u32::from_be_bytes([0, a, b, c])).ok()?;
    let payload = bytes.get(9..9 + length)?.to_vec();
    bytes.drain(..9 + length);
    let stream = u32::from_be_bytes([w, x, y, z]) & 0x7fff_ffff;
    Some(Frame { frame_type, flags, stream, payload })
}

/// The number in the first four octets; 0 where there are none.
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
