//! Rows about flow control: windows that overflow, that are none, and that nobody opens.

use crate::contract::Cause;

use super::super::clients::{Expected, PLAY, Reaches, Setting};
use super::super::frames::{setting, window};
use super::{
    CONNECTION_ERROR, Deed, Fate, FrameFault, GONE, LastWord, STREAM, broken, fault, head, send, waiting,
};

const LARGEST: u32 = 0x7fff_ffff;

pub(super) fn windows(at: &Setting) -> Vec<FrameFault> {
    let endless = |name, meaning, settings: &[(u16, u32)], bytes: Vec<u8>| {
        let deeds = vec![head(STREAM, &at.get(name).with(PLAY, "endless"), true), send(bytes)];
        let cut = Fate::Answer(Expected::Cut(Cause::ClientTooSlow));
        fault(name, meaning, deeds, vec![(STREAM, cut)], LastWord::Stays)
            .reaching(Reaches::Anything)
            .with_settings(settings)
            .alone()
    };
    let closed = [(setting::INITIAL_WINDOW_SIZE, 0)];
    let opened = |name, meaning, first: u32| {
        // The window was closed, and is opened when the answer waits for it.
        let deeds = vec![
            head(STREAM, &at.get(name), true),
            Deed::Arrived,
            send(window(STREAM, first)),
            send(window(STREAM, 1000)),
        ];
        fault(name, meaning, deeds, vec![(STREAM, Fate::Answer(Expected::Served))], LastWord::Stays)
            .with_settings(&closed)
            .alone()
    };
    let end = |name, meaning, then: Vec<u8>, ending| {
        let fate = if ending == LastWord::Stays { Fate::Reset } else { Fate::Silence };
        let row = waiting(name, meaning, at, then, fate, ending);
        if ending == LastWord::Stays { row } else { row.counted(&[CONNECTION_ERROR, GONE]) }
    };
    vec![
        end(
            "h2-stream-window-overflow",
            "a window of a stream above 2^31-1",
            window(STREAM, LARGEST),
            LastWord::Stays,
        ),
        end(
            "h2-window-overflow",
            "a window of the connection above 2^31-1",
            window(0, LARGEST),
            LastWord::Error,
        ),
        end(
            "h2-stream-window-of-nothing",
            "a window of a stream that grows by 0",
            window(STREAM, 0),
            LastWord::Error,
        ),
        end(
            "h2-window-of-nothing",
            "a window of the connection that grows by 0",
            window(0, 0),
            LastWord::Error,
        ),
        broken("h2-window-of-nobody", "a window for a stream that was never begun", window(9, 1)),
        endless(
            "h2-window-closed",
            "takes nothing of an endless answer: its window is closed",
            &closed,
            Vec::new(),
        ),
        endless("h2-window-ajar", "takes a hundred bytes of an endless answer", &closed, window(STREAM, 100)),
        fault(
            "h2-error-not-taken",
            "takes nothing of the answer to what is no request: its window is closed",
            vec![head(STREAM, &at.get("h2-error-not-taken").but(":path", "/a/../b"), true)],
            vec![(STREAM, Fate::HeadOnly(Cause::AmbiguousPath))],
            LastWord::Stays,
        )
        .with_settings(&closed)
        .alone()
        .dotted("/a/../b"),
        opened("h2-window-opens", "opens its window late, byte by byte", 1),
    ]
}
