//! Rows whose body is not what its head says, does not end as it should, or does not come.

use crate::contract::Cause;

use super::super::clients::{Expected, Reaches, Setting};
use super::super::frames::{self, END_STREAM, PADDED, frame, kind};
use super::super::hpack::List;
use super::{
    CONNECTION_ERROR, Deed, Fate, FrameFault, GONE, LastWord, STREAM, asked, data, fault, head, headers,
    refused, reset, send, waiting,
};

/// The length that was said.
pub(super) fn lengths(at: &Setting) -> Vec<FrameFault> {
    let framing = Cause::AmbiguousFraming;
    let said = |name, lengths: &[&str]| {
        lengths.iter().fold(at.post(name), |list, length| list.with("content-length", length))
    };
    let body = |name, meaning, list: List, bytes: Vec<u8>| {
        let deeds = vec![head(STREAM, &list, false), send(bytes)];
        fault(name, meaning, deeds, vec![(STREAM, Fate::Reset)], LastWord::Stays)
            .reaching(Reaches::NeverWhole)
    };
    let too_large = at.max_body.saturating_add(1).to_string();
    let large = Fate::Answer(Expected::RefusedOnRoute(Cause::BodyTooLarge));
    vec![
        body(
            "h2-longer-body",
            "four bytes for a Content-Length of 2",
            said("h2-longer-body", &["2"]),
            data(STREAM, "four", true),
        ),
        body(
            "h2-shorter-body",
            "four bytes for a Content-Length of 5",
            said("h2-shorter-body", &["5"]),
            data(STREAM, "four", true),
        ),
        body(
            "h2-longer-body-in-pieces",
            "a Content-Length of 2 that is passed in a second frame",
            said("h2-longer-body-in-pieces", &["2"]),
            [data(STREAM, "ab", false), data(STREAM, "c", true)].concat(),
        )
        // The upstream may have had all of its two bytes before.
        .reaching(Reaches::Anything),
        reset(
            "h2-length-without-body",
            "a Content-Length of 5 and no body",
            &said("h2-length-without-body", &["5"]),
        ),
        reset("h2-two-lengths", "two Content-Lengths that differ", &said("h2-two-lengths", &["0", "5"])),
        refused(
            "h2-same-length-twice",
            "the same Content-Length twice",
            framing,
            &said("h2-same-length-twice", &["0", "0"]),
        ),
        reset("h2-length-list", "Content-Length: 0, 0", &said("h2-length-list", &["0, 0"])),
        reset("h2-signed-length", "Content-Length: +0", &said("h2-signed-length", &["+0"])),
        reset("h2-negative-length", "Content-Length: -1", &said("h2-negative-length", &["-1"])),
        reset(
            "h2-endless-length",
            "a Content-Length of 30 digits",
            &said("h2-endless-length", &[&"9".repeat(30)]),
        ),
        fault(
            "h2-length-too-large",
            "a Content-Length above the route's max_body",
            vec![head(STREAM, &said("h2-length-too-large", &[&too_large]), false)],
            vec![(STREAM, large)],
            LastWord::Stays,
        ),
        asked(
            "h2-length-of-nothing",
            "a Content-Length of 0",
            &said("h2-length-of-nothing", &["0"]),
            Fate::Answer(Expected::Served),
        )
        .reaching(Reaches::Whole(1)),
    ]
}

/// How the body ends, and what comes behind.
pub(super) fn ends(at: &Setting) -> Vec<FrameFault> {
    let upload = |name, meaning, then: Vec<u8>, fate| {
        let deeds = vec![head(STREAM, &at.post(name), false), send(data(STREAM, "abc", false)), send(then)];
        let reaches = if fate == Fate::Reset { Reaches::NeverWhole } else { Reaches::Whole(1) };
        fault(name, meaning, deeds, vec![(STREAM, fate)], LastWord::Stays).reaching(reaches)
    };
    let trailers = List::default().with("x-checksum", "1");
    let padded = frame(kind::DATA, END_STREAM | PADDED, STREAM, b"\x04abc\0\0\0\0");
    let served = Fate::Answer(Expected::Served);
    let nothing: Vec<u8> = (0..50).flat_map(|_| data(STREAM, "", false)).collect();
    vec![
        upload("h2-trailers", "fields behind the body", headers(STREAM, &trailers, true), served),
        upload("h2-padded", "a body with padding", padded, served),
        upload(
            "h2-empty-pieces",
            "fifty empty DATA frames",
            [nothing, data(STREAM, "", true)].concat(),
            served,
        ),
        upload(
            "h2-pseudo-in-trailers",
            ":path behind the body, which the library overlooks",
            headers(STREAM, &trailers.clone().first(":path", "/smuggled"), true),
            served,
        ),
        upload(
            "h2-connection-in-trailers",
            "Connection behind the body",
            headers(STREAM, &trailers.clone().with("connection", "close"), true),
            Fate::Reset,
        ),
        upload(
            "h2-trailers-without-end",
            "trailers that do not end the stream",
            headers(STREAM, &trailers, false),
            Fate::Reset,
        ),
        waiting(
            "h2-data-after-end",
            "DATA behind the end of the stream",
            at,
            data(STREAM, "x", false),
            Fate::Silence,
            LastWord::Error,
        )
        .counted(&[CONNECTION_ERROR, GONE]),
        waiting(
            "h2-head-after-end",
            "a second head behind the end of the stream",
            at,
            headers(STREAM, &at.get("h2-head-after-end"), true),
            Fate::Silence,
            LastWord::Error,
        )
        .counted(&[CONNECTION_ERROR, GONE]),
        fault(
            "h2-reset-while-waiting",
            "resets the stream while it waits for the answer",
            vec![
                head(STREAM, &at.get("h2-reset-while-waiting").with(super::PLAY, "hang"), true),
                Deed::Arrived,
                send(frames::reset(STREAM, 8)),
            ],
            vec![(STREAM, Fate::Silence)],
            LastWord::Stays,
        )
        .reaching(Reaches::Anything)
        .counted(&[GONE]),
        fault(
            "h2-reset-in-body",
            "resets the stream inside its body",
            vec![
                head(STREAM, &at.post("h2-reset-in-body"), false),
                send(data(STREAM, "abc", false)),
                Deed::Arrived,
                send(frames::reset(STREAM, 8)),
            ],
            vec![(STREAM, Fate::Silence)],
            LastWord::Stays,
        )
        .reaching(Reaches::NeverWhole)
        .counted(&[GONE]),
    ]
}

/// Bodies that do not come.
pub(super) fn slow(at: &Setting) -> Vec<FrameFault> {
    let slow = Fate::Answer(Expected::RefusedOnRoute(Cause::ClientTooSlow));
    let stalled = |name, meaning, bytes: Vec<u8>| {
        let deeds = vec![head(STREAM, &at.post(name), false), send(bytes)];
        fault(name, meaning, deeds, vec![(STREAM, slow)], LastWord::Stays).reaching(Reaches::NeverWhole)
    };
    let deeds = vec![
        head(STREAM, &at.post("h2-body-of-nothing"), false),
        Deed::Drip(data(STREAM, "", false).into(), at.pause()),
    ];
    vec![
        stalled("h2-body-never-comes", "a head, and no body behind it", Vec::new()),
        stalled("h2-body-stops", "a body that stops", data(STREAM, "abc", false)),
        fault(
            "h2-body-of-nothing",
            "empty DATA frames in the place of a body",
            deeds,
            vec![(STREAM, slow)],
            LastWord::Stays,
        )
        .reaching(Reaches::NeverWhole),
    ]
}
