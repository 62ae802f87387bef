//! Rows that break the connection: frames that may not come, streams that may not be, and connections that say nothing.

use super::super::clients::{Expected, PLAY, Reaches, Setting};
use super::super::frames::{self, END_HEADERS, END_STREAM, PADDED, PREFACE, frame, kind, setting, settings};
use super::{
    Deed, Fate, FrameFault, GONE, IDLE, LastWord, MOST, STREAM, STREAM_ERROR, broken, data, fault, head,
    headers, send,
};

/// Frames that say what they may not, or come where they may not.
pub(super) fn frames(at: &Setting) -> Vec<FrameFault> {
    let ping = |length: usize, stream| frame(kind::PING, 0, stream, vec![0; length]);
    let unknown = [frame(0x77, 0xff, 0, "unknown"), frame(0x77, 0xff, STREAM, "unknown")].concat();
    let priority =
        |stream: u32, on: u32| frame(kind::PRIORITY, 0, stream, [&on.to_be_bytes()[..], &[1]].concat());
    let begun = |name| {
        let octets = at.get(name).block();
        let (first, rest) = octets.split_at_checked(5).unwrap_or_default();
        (frame(kind::HEADERS, END_STREAM, STREAM, first), rest.to_vec())
    };
    let (first, rest) = begun("h2-interleaved");
    let interleaved = [first, ping(8, 0), frame(kind::CONTINUATION, END_HEADERS, STREAM, rest)].concat();
    let (first, rest) = begun("h2-strange-continuation");
    let strange = [first, frame(kind::CONTINUATION, END_HEADERS, 5, rest)].concat();
    let beside = |name, meaning, frames: Vec<u8>| {
        let deeds = vec![send(frames), head(STREAM + 2, &at.get(name), true)];
        fault(name, meaning, deeds, vec![(STREAM + 2, Fate::Answer(Expected::Served))], LastWord::Stays)
    };
    vec![
        beside("h2-unknown-frames", "frames of a kind that nobody knows", unknown),
        beside("h2-priorities", "an order of streams, as it was once", priority(STREAM, 1)),
        broken(
            "h2-no-continuation",
            "CONTINUATION without HEADERS",
            frame(kind::CONTINUATION, END_HEADERS, STREAM, []),
        ),
        broken("h2-interleaved", "PING inside a header block", interleaved),
        broken("h2-strange-continuation", "CONTINUATION of another stream", strange),
        broken("h2-frame-too-large", "a frame of 17 KiB", frame(kind::PING, 0, 0, vec![0; MOST + 1024])),
        broken("h2-short-ping", "PING of seven octets", ping(7, 0)),
        broken("h2-ping-on-a-stream", "PING on a stream", ping(8, STREAM)),
        broken("h2-settings-on-a-stream", "SETTINGS on a stream", frame(kind::SETTINGS, 0, STREAM, [])),
        broken("h2-short-settings", "SETTINGS of five octets", frame(kind::SETTINGS, 0, 0, [0; 5])),
        broken(
            "h2-settings-answer",
            "the answer to SETTINGS with a setting in it",
            frame(kind::SETTINGS, 1, 0, [0; 6]),
        ),
        broken(
            "h2-window-too-large",
            "a setting of a window above 2^31-1",
            settings(&[(setting::INITIAL_WINDOW_SIZE, u32::MAX)]),
        ),
        broken(
            "h2-frames-too-small",
            "a setting of frames below 16 KiB",
            settings(&[(setting::MAX_FRAME_SIZE, 100)]),
        ),
        broken(
            "h2-push",
            "PUSH_PROMISE from a client",
            frame(
                kind::PUSH_PROMISE,
                END_HEADERS,
                STREAM,
                [&[0, 0, 0, 4][..], &at.get("h2-push").block()].concat(),
            ),
        ),
        broken(
            "h2-padding-too-long",
            "more padding than frame",
            frame(kind::HEADERS, END_STREAM | END_HEADERS | PADDED, STREAM, [200, 0, 0]),
        ),
        broken("h2-data-on-the-connection", "DATA on stream 0", data(0, "x", false)),
        broken(
            "h2-head-on-the-connection",
            "HEADERS on stream 0",
            headers(0, &at.get("h2-head-on-the-connection"), true),
        ),
    ]
}

/// Streams that may not be.
pub(super) fn streams(at: &Setting) -> Vec<FrameFault> {
    let older = |name| {
        let deeds = vec![head(9, &at.get(name), true), Deed::Answered(9), head(STREAM, &at.get(name), true)];
        fault(
            name,
            "a stream with a lower number than the last",
            deeds,
            vec![(9, Fate::Answer(Expected::Served))],
            LastWord::Error,
        )
    };
    // One more than is allowed, all at once. The upstream keeps them waiting; their connection ends before it does.
    let most = 128;
    let hang = at.get("h2-too-many-streams").with(PLAY, "hang");
    let numbers = || (0..=most).map(|number| STREAM + 2 * number);
    let all: Vec<u8> = numbers().flat_map(|stream| headers(stream, &hang, true)).collect();
    let fates = numbers()
        .map(|stream| (stream, if stream == STREAM + 2 * most { Fate::Reset } else { Fate::Silence }));
    let mut silences = vec![GONE; 128];
    silences.push(STREAM_ERROR);
    vec![
        broken("h2-even-stream", "a stream with an even number", headers(4, &at.get("h2-even-stream"), true)),
        older("h2-lower-stream"),
        broken("h2-data-without-head", "DATA on a stream that was never begun", data(STREAM, "x", false)),
        broken(
            "h2-reset-without-head",
            "RST_STREAM on a stream that was never begun",
            frames::reset(STREAM, 8),
        ),
        fault(
            "h2-too-many-streams",
            "one stream more than are allowed at once",
            vec![send(all), Deed::Answered(STREAM + 2 * most), Deed::Close],
            fates.collect(),
            LastWord::Left,
        )
        .reaching(Reaches::Anything)
        .counted(&silences),
        fault(
            "h2-leaves-while-waiting",
            "closes the connection while a stream waits for its answer",
            vec![
                head(STREAM, &at.get("h2-leaves-while-waiting").with(PLAY, "hang"), true),
                Deed::Arrived,
                Deed::Close,
            ],
            vec![(STREAM, Fate::Silence)],
            LastWord::Left,
        )
        .reaching(Reaches::Anything)
        .counted(&[GONE]),
        fault(
            "h2-goaway",
            "says goodbye with a request under way, and is answered",
            vec![send(
                [headers(STREAM, &at.get("h2-goaway"), true), frame(kind::GOAWAY, 0, 0, [0; 8])].concat(),
            )],
            vec![(STREAM, Fate::Answer(Expected::Served))],
            LastWord::Farewell,
        ),
    ]
}

/// Connections that say nothing, or never say it to the end.
pub(super) fn slow(at: &Setting) -> Vec<FrameFault> {
    let silent =
        |name, meaning, deeds| fault(name, meaning, deeds, Vec::new(), LastWord::Farewell).counted(&[IDLE]);
    let octets = at.get("h2-half-a-head").block();
    let (half, _) = octets.split_at_checked(9).unwrap_or_default();
    let half = frame(kind::HEADERS, END_STREAM, STREAM, half);
    let ping = frame(kind::PING, 0, 0, [7; 8]);
    let mut bare = silent("h2-preface-alone", "the preface, and nothing behind it", vec![send(PREFACE)]);
    bare.settings = None;
    let mut other = fault(
        "h2-no-settings",
        "a request in the place of SETTINGS, which the library overlooks",
        vec![send([PREFACE.to_vec(), headers(STREAM, &at.get("h2-no-settings"), true)].concat())],
        vec![(STREAM, Fate::Answer(Expected::Served))],
        LastWord::Farewell,
    )
    .counted(&[IDLE]);
    other.settings = None;
    vec![
        bare,
        other,
        silent("h2-no-request", "a connection, and no request", Vec::new()),
        silent(
            "h2-pings-alone",
            "PING, again and again, and no request",
            vec![Deed::Drip(ping.clone().into(), at.pause())],
        ),
        silent(
            "h2-half-a-head",
            "a header block that does not come to its end",
            vec![send(half.clone()), Deed::Mute],
        ),
        silent(
            "h2-dripped-head",
            "a header block that does not come to its end, one empty frame after the other",
            vec![
                send(half),
                Deed::Drip(frame(kind::CONTINUATION, 0, STREAM, []).into(), at.pause()),
                Deed::Mute,
            ],
        ),
        silent(
            "h2-half-a-frame",
            "PING without its last octet, and nothing behind it",
            vec![send(but_for_one(&ping)), Deed::Mute],
        ),
        silent(
            "h2-half-a-frame-head",
            "three octets of a frame, and nothing behind them",
            vec![send([0, 0, 8].as_slice()), Deed::Mute],
        ),
    ]
}

/// All but the last octet.
fn but_for_one(frame: &[u8]) -> Vec<u8> {
    frame.split_last().map_or_else(Vec::new, |(_, rest)| rest.to_vec())
}
