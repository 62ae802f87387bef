//! Rows whose fields are wrong, or too many.

use crate::contract::Cause;

use super::super::clients::Setting;
use super::super::frames::{END_STREAM, frame, kind};
use super::super::hpack::{List, integer, text};
use super::{
    Fate, FrameFault, LastWord, STREAM, block, broken, fault, headers, refused, reset, send, served,
};

/// What a field may not be on HTTP/2, or not at all.
pub(super) fn fields(at: &Setting) -> Vec<FrameFault> {
    let get = |name| at.get(name);
    let breaks = |name, meaning, list: List| broken(name, meaning, headers(STREAM, &list, true));
    let framing = Cause::AmbiguousFraming;
    vec![
        reset("h2-connection", "Connection", &get("h2-connection").with("connection", "close")),
        reset("h2-keep-alive", "Keep-Alive", &get("h2-keep-alive").with("keep-alive", "timeout=5")),
        reset(
            "h2-proxy-connection",
            "Proxy-Connection",
            &get("h2-proxy-connection").with("proxy-connection", "close"),
        ),
        reset("h2-upgrade", "Upgrade", &get("h2-upgrade").with("upgrade", "websocket")),
        reset(
            "h2-transfer-encoding",
            "Transfer-Encoding",
            &get("h2-transfer-encoding").with("transfer-encoding", "chunked"),
        ),
        reset("h2-te", "TE that names more than trailers", &get("h2-te").with("te", "gzip")),
        served("h2-te-trailers", "TE: trailers", &get("h2-te-trailers").with("te", "trailers")),
        breaks("h2-upper-case", "a name in upper case", get("h2-upper-case").with("X-Upper", "1")),
        breaks("h2-space-in-name", "a space in a name", get("h2-space-in-name").with("x y", "1")),
        breaks("h2-colon-in-name", "a colon in a name", get("h2-colon-in-name").with("x:y", "1")),
        breaks("h2-empty-name", "an empty name", get("h2-empty-name").with("", "1")),
        breaks(
            "h2-unknown-pseudo",
            "a pseudo field that nobody registered",
            get("h2-unknown-pseudo").first(":smuggled", "1"),
        ),
        breaks("h2-cr-in-value", "CR in a value", get("h2-cr-in-value").with("x-a", "b\rx: y")),
        breaks("h2-lf-in-value", "LF in a value", get("h2-lf-in-value").with("x-a", "b\nx: y")),
        breaks(
            "h2-crlf-in-value",
            "a whole request in a value",
            get("h2-crlf-in-value").with("x-a", "b\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n"),
        ),
        breaks("h2-nul-in-value", "NUL in a value", get("h2-nul-in-value").with("x-a", "b\0")),
        breaks("h2-crlf-in-name", "CRLF in a name", get("h2-crlf-in-name").with("x-a\r\nx-b", "c")),
        served(
            "h2-crumbs",
            "Cookie in three pieces",
            &get("h2-crumbs").with("cookie", "a=1").with("cookie", "b=2").with("cookie", "c=3"),
        ),
        refused(
            "h2-expectation",
            "an expectation other than 100-continue",
            Cause::UnsupportedExpectation,
            &get("h2-expectation").with("expect", "tea"),
        ),
        refused(
            "h2-disguised-length",
            "content_length",
            framing,
            &get("h2-disguised-length").with("content_length", "5"),
        ),
        refused(
            "h2-disguised-coding",
            "transfer_encoding",
            framing,
            &get("h2-disguised-coding").with("transfer_encoding", "chunked"),
        ),
    ]
}

/// Header lists that are too large, as sent or as they unfold.
pub(super) fn sizes(at: &Setting) -> Vec<FrameFault> {
    let large = Cause::HeaderTooLarge;
    let many = (0..300).fold(at.get("h2-many-fields"), |list, number| list.with(format!("x-{number}"), ""));
    let padded =
        (0..70).fold(at.get("h2-list-too-large"), |list, _| list.with("x-padding", "x".repeat(1000)));
    let bomb = |name, times| block(STREAM, &bomb(&at.get(name), times), END_STREAM);
    let index = [at.get("h2-no-such-index").block(), vec![0xff, 0x80, 0x01]].concat();
    let table = [vec![0x3f, 0xe1, 0xff, 0x03], at.get("h2-larger-table").block()].concat();
    let cut = at.get("h2-cut-block").block();
    let cut = cut.get(..cut.len() - 3).unwrap_or_default().to_vec();
    vec![
        refused("h2-many-fields", "three hundred fields", large, &many),
        refused("h2-list-too-large", "70 KB of fields", large, &padded),
        fault(
            "h2-bomb",
            "a field that is said once and named a hundred times: 400 KB in little more than 4",
            vec![send(bomb("h2-bomb", 100))],
            vec![(STREAM, Fate::Empty431)],
            LastWord::Stays,
        ),
        broken("h2-large-bomb", "the same a thousand times: 4 MB", bomb("h2-large-bomb", 1000)),
        broken(
            "h2-no-such-index",
            "a field of an index that no table has",
            frame(kind::HEADERS, 5, STREAM, index),
        ),
        broken("h2-larger-table", "a table larger than allowed", frame(kind::HEADERS, 5, STREAM, table)),
        broken("h2-cut-block", "a header block that ends early", frame(kind::HEADERS, 5, STREAM, cut)),
        broken(
            "h2-endless-number",
            "a number that does not end",
            frame(kind::HEADERS, 5, STREAM, [0xff; 64]),
        ),
    ]
}

/// A field of 4,000 octets goes into the dynamic table, and is named so many times more.
fn bomb(list: &List, times: usize) -> Vec<u8> {
    let mut octets = list.block();
    integer(&mut octets, 0x40, 6, 0);
    text(&mut octets, b"x");
    text(&mut octets, &[b'y'; 4000]);
    octets.extend(std::iter::repeat_n(0xbe, times));
    octets
}
