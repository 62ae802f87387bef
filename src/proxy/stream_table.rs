//! The streams that an HTTP/2 client has opened on one connection, and how far each has got, told from the frames alone.
//!
//! The requests run in tasks of their own, some of them never start, and the `h2` crate drops what a closed connection left
//! behind: only the order of the frames tells whether a client was gone before its response. [`super::connection::h2_read_timeout`] reports the
//! frames that were read, [`super::connection::h2_reset_counter`] those that were written; nobody else counts a client that has gone. A stream
//! ends in exactly one way: with response headers, with a reset of ours, or with its client gone.

use std::sync::Arc;

use parking_lot::Mutex;

/// NO_ERROR: a reset behind a whole response, because the rest of an upload is not wanted (RFC 9113 8.1).
const NO_ERROR: u32 = 0;
/// STREAM_CLOSED: a frame came for a stream that had ended, which was counted then.
const STREAM_CLOSED: u32 = 5;
/// CANCEL: a response that the gateway itself has truncated.
const CANCEL: u32 = 8;

/// At most so many streams are remembered; the oldest are dropped. More than a connection may have open: a reset of a
/// malformed stream may never be written.
const MOST: usize = 16 * 1024;

/// The streams of one connection; a handle that its tasks share.
#[derive(Clone, Debug, Default)]
pub(super) struct StreamTable(Arc<Mutex<Table>>);

#[derive(Debug, Default)]
struct Table {
    /// In the order of their numbers.
    entries: Vec<Entry>,
    /// The last stream that a GOAWAY of ours has promised to process.
    last_stream: Option<u32>,
    connection_ended: bool,
}

#[derive(Debug)]
struct Entry {
    stream: u32,
    state: State,
    /// It became a request. The `h2` crate answers or resets the others.
    accepted: bool,
    /// Its request is over: no further call comes for it.
    finished: bool,
    /// Interim responses that are queued and not written.
    interim: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing of a final response was written.
    Unanswered,
    /// The response headers were written.
    Answered,
    /// The response is complete, or a reset was written.
    Ended,
    /// The client reset it, or its connection ended, before response headers were written.
    ClientGone,
}

impl StreamTable {
    /// A header section that opens this stream was read, whole.
    pub(super) fn opened(&self, stream: u32) {
        let mut table = self.0.lock();
        if table.connection_ended || table.last_stream.is_some_and(|last| stream > last) {
            return;
        }
        let entry = Entry { stream, state: State::Unanswered, accepted: false, finished: false, interim: 0 };
        table.entries.push(entry);
        if table.entries.len() > MOST {
            table.entries.remove(0);
        }
    }

    /// A RST_STREAM of the client was read. Says whether it came before response headers.
    pub(super) fn reset_by_client(&self, stream: u32) -> bool {
        let mut table = self.0.lock();
        let Some((place, entry)) = table.find(stream) else { return false };
        let gone = entry.state == State::Unanswered;
        entry.state = match entry.state {
            State::Unanswered | State::ClientGone => State::ClientGone,
            State::Answered | State::Ended => State::Ended,
        };
        if entry.finished {
            table.entries.remove(place);
        }
        gone
    }

    /// This stream became a request; to be called before anything of a response is queued.
    pub(super) fn accept(&self, stream: u32) {
        if let Some((_, entry)) = self.0.lock().find(stream) {
            entry.accepted = true;
        }
    }

    /// An interim response is about to be queued: its HEADERS is not the response's.
    pub(super) fn interim(&self, stream: u32) {
        if let Some((_, entry)) = self.0.lock().find(stream) {
            entry.interim += 1;
        }
    }

    /// The request on this stream is over. Says whether its response headers were written; one that was queued and not
    /// written belongs to a client that has gone, or it will be written yet.
    pub(super) fn finish(&self, stream: u32) -> bool {
        let mut table = self.0.lock();
        let Some((place, entry)) = table.find(stream) else { return true };
        let answered = matches!(entry.state, State::Answered | State::Ended);
        entry.finished = true;
        if matches!(entry.state, State::Ended | State::ClientGone) {
            table.entries.remove(place);
        }
        answered
    }

    /// HEADERS was written. Says whether it is a response that the `h2` crate has made by itself.
    pub(super) fn headers_written(&self, stream: u32, end_stream: bool) -> bool {
        let mut table = self.0.lock();
        let Some((_, entry)) = table.find(stream) else { return false };
        if entry.interim > 0 && !end_stream {
            entry.interim -= 1;
            return false;
        }
        let made_by_library = entry.state == State::Unanswered && !entry.accepted;
        if entry.state == State::Unanswered {
            entry.state = State::Answered;
        }
        if end_stream {
            table.end(stream);
        }
        made_by_library
    }

    /// The END_STREAM of a response was written.
    pub(super) fn end_written(&self, stream: u32) {
        self.0.lock().end(stream);
    }

    /// RST_STREAM with this code was written. Says whether the `h2` crate has thereby ended a malformed stream: the
    /// gateway's own resets have other codes.
    pub(super) fn reset_written(&self, stream: u32, code: u32) -> bool {
        let mut table = self.0.lock();
        let open = table
            .find(stream)
            .is_some_and(|(_, entry)| matches!(entry.state, State::Unanswered | State::Answered));
        table.end(stream);
        open && !matches!(code, NO_ERROR | STREAM_CLOSED | CANCEL)
    }

    /// GOAWAY was written: streams above this one are not processed, and their client knows.
    pub(super) fn goaway_written(&self, last_stream: u32) {
        let mut table = self.0.lock();
        table.last_stream = Some(last_stream);
        table.entries.retain(|entry| entry.stream <= last_stream);
    }

    /// The connection has ended; how many streams had no response headers by then.
    pub(super) fn connection_ended(&self) -> usize {
        let mut table = self.0.lock();
        table.connection_ended = true;
        let mut gone = 0;
        for entry in &mut table.entries {
            if entry.state == State::Unanswered {
                entry.state = State::ClientGone;
                gone += 1;
            }
        }
        gone
    }
}

impl Table {
    fn find(&mut self, stream: u32) -> Option<(usize, &mut Entry)> {
        let place = self.entries.binary_search_by_key(&stream, |entry| entry.stream).ok()?;
        self.entries.get_mut(place).map(|entry| (place, entry))
    }

    /// Nothing more is written on this stream.
    fn end(&mut self, stream: u32) {
        let Some((place, entry)) = self.find(stream) else { return };
        if entry.state != State::ClientGone {
            entry.state = State::Ended;
        }
        // Of a stream that never becomes a request nobody reports the end.
        if entry.finished || !entry.accepted {
            self.entries.remove(place);
        }
    }
}

#[cfg(test)]
#[path = "stream_table_tests.rs"]
mod tests;
