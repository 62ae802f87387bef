//! Rows of clients that send what costs them little: so many frames that somebody has to say when it is enough.

use super::super::clients::{Expected, PLAY, Reaches, Setting};
use super::super::frames::{self, frame, kind, settings, window};
use super::{
    CONNECTION_ERROR, Deed, Fate, FrameFault, LastWord, MOST, STREAM, broken, fault, head, headers, send,
};

pub(super) fn floods(at: &Setting) -> Vec<FrameFault> {
    // What is borne to its end, and the request behind it served.
    let borne = |name, meaning, flood: Vec<u8>, times| {
        let deeds = vec![Deed::Repeat(flood.into(), times), head(STREAM + 2, &at.get(name), true)];
        fault(name, meaning, deeds, vec![(STREAM + 2, Fate::Answer(Expected::Served))], LastWord::Stays)
    };
    let ping = frame(kind::PING, 0, 0, [7; 8]);
    let priority = frame(kind::PRIORITY, 0, STREAM, [0, 0, 0, 1, 1]);
    let resets: Vec<u8> = (0..1000)
        .flat_map(|number| {
            let stream = STREAM + 2 * number;
            let hang = at.get("h2-rapid-reset").with(PLAY, "hang");
            [headers(stream, &hang, true), frames::reset(stream, 8)].concat()
        })
        .collect();
    let continued: Vec<u8> = (0..1000)
        .flat_map(|number| {
            let kind = if number == 0 { kind::HEADERS } else { kind::CONTINUATION };
            frame(kind, 0, STREAM, [])
        })
        .collect();
    let growing: Vec<u8> = (0..1000)
        .flat_map(|number| {
            let kind = if number == 0 { kind::HEADERS } else { kind::CONTINUATION };
            let mut octets = vec![0, 1, b'x', 0x7f, 0xf0, 0x7e];
            octets.resize(MOST, b'y');
            frame(kind, 0, STREAM, octets)
        })
        .collect();
    let malformed: Vec<u8> = (0..2000)
        .flat_map(|number| {
            headers(STREAM + 2 * number, &at.get("h2-malformed-streams").with("connection", "close"), true)
        })
        .collect();
    vec![
        borne("h2-ping-flood", "ten thousand PINGs at once", ping.repeat(100), 100),
        borne("h2-settings-flood", "ten thousand SETTINGS at once", settings(&[]).repeat(100), 100),
        borne("h2-window-flood", "ten thousand windows of one byte more", window(0, 1).repeat(100), 100),
        borne("h2-priority-flood", "ten thousand orders of streams", priority.repeat(100), 100),
        borne(
            "h2-unknown-flood",
            "ten thousand frames that nobody knows",
            frame(0x77, 0, 0, [0; 64]).repeat(100),
            100,
        ),
        broken("h2-rapid-reset", "a thousand requests, each reset at once", resets)
            .reaching(Reaches::Anything)
            .loose(),
        broken("h2-continuation-flood", "a header block in a thousand empty pieces", continued),
        broken("h2-endless-head", "a header block that grows by 16 KiB a thousand times", growing),
        fault(
            "h2-malformed-streams",
            "two thousand malformed requests at once",
            vec![send(malformed)],
            Vec::new(),
            LastWord::Error,
        )
        .counted(&[CONNECTION_ERROR])
        .loose(),
    ]
}
