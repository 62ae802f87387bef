//! HTTP/2 client faults in header fields, HPACK and the size of the header list.

use crate::contract::Cause;

use super::super::client_faults::GatewayProfile;
use super::super::frames::{END_STREAM, encode_frame, frame_type};
use super::super::hpack::{HeaderList, encode_integer, encode_string};
use super::{
    CloseOutcome, FAULT_STREAM, H2ClientFault, StreamOutcome, connection_error, fault_row,
    header_block_frames, headers_frames, rejected, send, served, stream_reset,
};

/// Fields that are forbidden in HTTP/2, and malformed fields.
pub(super) fn fields(profile: &GatewayProfile) -> Vec<H2ClientFault> {
    let get = |name| profile.get_headers(name);
    let breaks = |name, description, list: HeaderList| {
        connection_error(name, description, headers_frames(FAULT_STREAM, &list, true))
    };
    let framing = Cause::AmbiguousFraming;
    vec![
        stream_reset(
            "h2-connection",
            "a Connection field",
            &get("h2-connection").with("connection", "close"),
        ),
        stream_reset(
            "h2-keep-alive",
            "a Keep-Alive field",
            &get("h2-keep-alive").with("keep-alive", "timeout=5"),
        ),
        stream_reset(
            "h2-proxy-connection",
            "a Proxy-Connection field",
            &get("h2-proxy-connection").with("proxy-connection", "close"),
        ),
        stream_reset("h2-upgrade", "an Upgrade field", &get("h2-upgrade").with("upgrade", "websocket")),
        stream_reset(
            "h2-transfer-encoding",
            "a Transfer-Encoding field",
            &get("h2-transfer-encoding").with("transfer-encoding", "chunked"),
        ),
        stream_reset(
            "h2-te",
            "a TE field with a value other than trailers",
            &get("h2-te").with("te", "gzip"),
        ),
        served("h2-te-trailers", "TE: trailers", &get("h2-te-trailers").with("te", "trailers")),
        breaks("h2-upper-case", "a field name in upper case", get("h2-upper-case").with("X-Upper", "1")),
        breaks("h2-space-in-name", "a space in a field name", get("h2-space-in-name").with("x y", "1")),
        breaks("h2-colon-in-name", "a colon in a field name", get("h2-colon-in-name").with("x:y", "1")),
        breaks("h2-empty-name", "an empty field name", get("h2-empty-name").with("", "1")),
        breaks(
            "h2-unknown-pseudo",
            "an unknown pseudo-header field",
            get("h2-unknown-pseudo").prepend(":smuggled", "1"),
        ),
        breaks("h2-cr-in-value", "CR in a field value", get("h2-cr-in-value").with("x-a", "b\rx: y")),
        breaks("h2-lf-in-value", "LF in a field value", get("h2-lf-in-value").with("x-a", "b\nx: y")),
        breaks(
            "h2-crlf-in-value",
            "a whole request in a field value",
            get("h2-crlf-in-value").with("x-a", "b\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n"),
        ),
        breaks("h2-nul-in-value", "a NUL byte in a field value", get("h2-nul-in-value").with("x-a", "b\0")),
        breaks("h2-crlf-in-name", "CRLF in a field name", get("h2-crlf-in-name").with("x-a\r\nx-b", "c")),
        served(
            "h2-crumbs",
            "Cookie split into three fields",
            &get("h2-crumbs").with("cookie", "a=1").with("cookie", "b=2").with("cookie", "c=3"),
        ),
        rejected(
            "h2-expectation",
            "an expectation other than 100-continue",
            Cause::UnsupportedExpectation,
            &get("h2-expectation").with("expect", "tea"),
        ),
        rejected(
            "h2-disguised-length",
            "a content_length field",
            framing,
            &get("h2-disguised-length").with("content_length", "5"),
        ),
        rejected(
            "h2-disguised-coding",
            "a transfer_encoding field",
            framing,
            &get("h2-disguised-coding").with("transfer_encoding", "chunked"),
        ),
    ]
}

/// Header lists that are too large, encoded or decoded, and malformed HPACK blocks.
pub(super) fn header_list_sizes(profile: &GatewayProfile) -> Vec<H2ClientFault> {
    let large = Cause::HeaderTooLarge;
    let many_fields = (0..300)
        .fold(profile.get_headers("h2-many-fields"), |list, number| list.with(format!("x-{number}"), ""));
    let padded = (0..70)
        .fold(profile.get_headers("h2-list-too-large"), |list, _| list.with("x-padding", "x".repeat(1000)));
    let bomb = |name, times| {
        header_block_frames(FAULT_STREAM, &hpack_bomb(&profile.get_headers(name), times), END_STREAM)
    };
    let index = [profile.get_headers("h2-no-such-index").encode(), vec![0xff, 0x80, 0x01]].concat();
    let table = [vec![0x3f, 0xe1, 0xff, 0x03], profile.get_headers("h2-larger-table").encode()].concat();
    let cut = profile.get_headers("h2-cut-block").encode();
    let cut = cut.get(..cut.len() - 3).unwrap_or_default().to_vec();
    vec![
        rejected("h2-many-fields", "300 fields", large, &many_fields),
        rejected("h2-list-too-large", "70 KB of fields", large, &padded),
        fault_row(
            "h2-bomb",
            "HPACK bomb: one field referenced 100 times, 400 KB from about 4 KB",
            vec![send(bomb("h2-bomb", 100))],
            vec![(FAULT_STREAM, StreamOutcome::Empty431)],
            CloseOutcome::KeptOpen,
        ),
        connection_error(
            "h2-large-bomb",
            "HPACK bomb: one field referenced 1,000 times, 4 MB",
            bomb("h2-large-bomb", 1000),
        ),
        connection_error(
            "h2-no-such-index",
            "an HPACK index outside both tables",
            encode_frame(frame_type::HEADERS, 5, FAULT_STREAM, index),
        ),
        connection_error(
            "h2-larger-table",
            "an HPACK dynamic table size above the limit",
            encode_frame(frame_type::HEADERS, 5, FAULT_STREAM, table),
        ),
        connection_error(
            "h2-cut-block",
            "a truncated HPACK block",
            encode_frame(frame_type::HEADERS, 5, FAULT_STREAM, cut),
        ),
        connection_error(
            "h2-endless-number",
            "an HPACK integer without end",
            encode_frame(frame_type::HEADERS, 5, FAULT_STREAM, [0xff; 64]),
        ),
    ]
}

/// A field of 4,000 bytes enters the dynamic table and is then referenced this many times.
fn hpack_bomb(list: &HeaderList, times: usize) -> Vec<u8> {
    let mut octets = list.encode();
    encode_integer(&mut octets, 0x40, 6, 0);
    encode_string(&mut octets, b"x");
    encode_string(&mut octets, &[b'y'; 4000]);
    octets.extend(std::iter::repeat_n(0xbe, times));
    octets
}
