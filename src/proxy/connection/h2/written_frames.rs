//! Parses the frames that the `h2` crate writes, to count the streams that it rejects without returning a request.
//!
//! The crate sends RST_STREAM for a malformed stream (RFC 9113 8.1.1) and an empty 431 for a header list above its
//! limit. The [`StreamTable`] holds the state of the streams. The observer does not modify the bytes.

use crate::http::h2_frame::{self, FrameEvent, FrameHeader, flag, frame_type};
use crate::proxy::stream_table::StreamTable;

/// What the `h2` crate did by itself in the observed frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct LibraryActions {
    /// Malformed streams that it reset.
    pub(super) resets: usize,
    /// Responses that it sent.
    pub(super) responses: usize,
}

/// Parses the frames written on one connection.
#[derive(Debug, Default)]
pub(super) struct WrittenFrameObserver {
    table: StreamTable,
    parser: h2_frame::FrameParser,
    /// The field at the start of the current payload, if its frame type is RST_STREAM or GOAWAY.
    field: Option<PayloadField>,
}

/// The first four octets of the payload, as far as they were written: the error code of RST_STREAM, or the last stream
/// identifier of GOAWAY.
#[derive(Clone, Copy, Debug)]
struct PayloadField {
    kind: u8,
    stream: u32,
    value: u32,
    /// Number of octets written so far.
    octets: u8,
}

impl WrittenFrameObserver {
    pub(super) fn new(table: StreamTable) -> Self {
        WrittenFrameObserver { table, ..WrittenFrameObserver::default() }
    }

    /// Parses written bytes.
    pub(super) fn observe(&mut self, mut written: &[u8]) -> LibraryActions {
        let mut actions = LibraryActions::default();
        while let Some(event) = self.parser.next(&mut written) {
            match event {
                FrameEvent::Header(header) => self.begin_frame(header, &mut actions),
                FrameEvent::Payload(octets) => self.read_payload(octets, &mut actions),
            }
        }
        actions
    }

    fn begin_frame(
        &mut self,
        FrameHeader { kind, flags, stream }: FrameHeader,
        actions: &mut LibraryActions,
    ) {
        self.field = matches!(kind, frame_type::RST_STREAM | frame_type::GOAWAY).then_some(PayloadField {
            kind,
            stream,
            value: 0,
            octets: 0,
        });
        let end_stream = flags & flag::END_STREAM != 0;
        match kind {
            frame_type::HEADERS => {
                actions.responses += usize::from(self.table.headers_written(stream, end_stream));
            }
            frame_type::DATA if end_stream => self.table.end_written(stream),
            frame_type::DATA => self.table.data_written(stream, self.parser.remaining()),
            _ => {}
        }
    }

    fn read_payload(&mut self, octets: &[u8], actions: &mut LibraryActions) {
        let Some(field) = &mut self.field else { return };
        for octet in octets.iter().take(usize::from(4 - field.octets)) {
            field.value = field.value << 8 | u32::from(*octet);
            field.octets += 1;
        }
        if field.octets < 4 {
            return;
        }
        let PayloadField { kind, stream, value, .. } = *field;
        self.field = None;
        if kind == frame_type::GOAWAY {
            // The high bit is reserved.
            self.table.goaway_written(value & 0x7fff_ffff);
        } else {
            actions.resets += usize::from(self.table.reset_written(stream, value));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
        let length = payload.len() as u8;
        [&[0, 0, length, kind, flags, 0, 0, 0, stream], payload].concat()
    }

    /// The actions observed, which must not depend on how the bytes are split.
    fn observed_actions(accepted: &[u32], bytes: &[u8]) -> LibraryActions {
        let results = (1..=bytes.len()).map(|step| {
            let streams = StreamTable::default();
            (1..=9).step_by(2).for_each(|stream| streams.opened(stream));
            accepted.iter().for_each(|stream| streams.request_accepted(*stream));
            let mut observer = WrittenFrameObserver::new(streams);
            bytes.chunks(step).fold(LibraryActions::default(), |sum, piece| {
                let LibraryActions { resets, responses } = observer.observe(piece);
                LibraryActions { resets: sum.resets + resets, responses: sum.responses + responses }
            })
        });
        let all: Vec<LibraryActions> = results.collect();
        assert!(all.windows(2).all(|pair| pair.first() == pair.last()), "{all:?}");
        all.first().copied().unwrap_or_default()
    }

    #[test]
    fn library_resets_are_counted_for_any_split() {
        let bytes = [
            frame(4, 0, 0, &[]),
            frame(3, 0, 1, &[0, 0, 0, 1]),
            frame(0, 0, 3, &[3; 200]),
            frame(7, 0, 0, &[0, 0, 0, 9, 0, 0, 0, 0, b'b', b'y', b'e']),
            frame(3, 0, 5, &[0, 0, 0, 0]),
            frame(3, 0, 7, &[0, 0, 0, 8]),
            frame(1, 0, 3, &[0, 0, 4, 3]),
            frame(3, 0, 9, &[0, 0, 0, 7]),
            frame(3, 0, 3, &[0, 0, 0, 5]),
        ]
        .concat();
        assert_eq!(observed_actions(&[3], &bytes), LibraryActions { resets: 2, responses: 0 });
    }

    #[test]
    fn only_responses_to_unaccepted_streams_count_as_library_responses() {
        let bytes = [
            frame(1, 4, 1, b"head"),
            frame(0, 0, 1, b"body"),
            frame(1, 5, 1, b"trailers"),
            frame(1, 5, 3, b"431"),
            frame(3, 0, 3, &[0, 0, 0, 1]),
            frame(1, 5, 5, b"head"),
            frame(1, 5, 7, b"431"),
        ]
        .concat();
        assert_eq!(observed_actions(&[1, 5], &bytes), LibraryActions { resets: 0, responses: 2 });
    }
}
