//! Tracks the streams of one HTTP/2 client connection from its frames, so that each disconnect is counted once.
//!
//! Every request runs in a separate task, some streams never become a request, and the `h2` crate drops the streams of
//! a closed connection. Only the order of the frames shows whether a client disconnected before its response.
//! [`super::connection::h2`] reports the frames that were read and written. A stream is counted at most once: as a
//! response, as a reset by the gateway, or as a disconnect. Streams above the last one of a GOAWAY are not counted.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;

/// NO_ERROR: reset after a complete response, to stop the rest of the request body (RFC 9113 8.1).
const NO_ERROR: u32 = 0;
/// STREAM_CLOSED: a frame was received on a closed stream, which has been counted already.
const STREAM_CLOSED: u32 = 5;
/// CANCEL: the gateway truncated the response.
const CANCEL: u32 = 8;

/// Maximum number of entries; the oldest is evicted. Higher than the limit on concurrent streams, because the reset of
/// a malformed stream may never be written.
const MAX_ENTRIES: usize = 16 * 1024;

/// The streams of one connection. A cloneable handle, shared by the tasks of the connection.
#[derive(Clone, Debug, Default)]
pub(super) struct StreamTable(Arc<Mutex<Table>>);

#[derive(Debug, Default)]
struct Table {
    /// Sorted by stream identifier.
    entries: Vec<Entry>,
    /// The last stream identifier of the GOAWAY that was written.
    goaway_last_stream: Option<u32>,
    /// A complete header section has opened a stream.
    has_opened: bool,
    connection_ended: bool,
}

#[derive(Debug)]
struct Entry {
    stream: u32,
    state: State,
    /// The stream became a request. The `h2` crate itself responds to the others, or resets them.
    accepted: bool,
    /// The request has ended: its task makes no further call.
    request_ended: bool,
    /// Number of interim responses that are queued and not yet written.
    pending_interim: u32,
    /// Number of body bytes in the DATA frames that were written.
    data_written: u64,
    /// The task that waits in [`StreamTable::poll_data_written`].
    waiting: Option<Waker>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// There is no final response yet.
    Open,
    /// The final response is counted. Its HEADERS is not written yet, and may never be.
    Responded,
    /// HEADERS of the final response is written.
    HeadersWritten,
    /// The response is complete, or a reset was written.
    Ended,
    /// The client reset the stream or closed the connection before the response was counted.
    Disconnected,
}

impl StreamTable {
    /// Records a complete header section that opened this stream.
    pub(super) fn opened(&self, stream: u32) {
        let mut table = self.0.lock();
        table.has_opened = true;
        if table.connection_ended || table.goaway_last_stream.is_some_and(|last| stream > last) {
            return;
        }
        let entry = Entry {
            stream,
            state: State::Open,
            accepted: false,
            request_ended: false,
            pending_interim: 0,
            data_written: 0,
            waiting: None,
        };
        table.entries.push(entry);
        if table.entries.len() > MAX_ENTRIES {
            table.entries.remove(0);
        }
    }

    /// Whether a complete header section has opened a stream.
    pub(super) fn has_opened(&self) -> bool {
        self.0.lock().has_opened
    }

    /// Records a RST_STREAM from the client. Returns whether it preceded the response.
    pub(super) fn reset_by_client(&self, stream: u32) -> bool {
        let mut table = self.0.lock();
        let Some((index, entry)) = table.find(stream) else { return false };
        let disconnected = entry.state == State::Open;
        entry.state = match entry.state {
            State::Open | State::Disconnected => State::Disconnected,
            State::Responded | State::HeadersWritten | State::Ended => State::Ended,
        };
        entry.wake();
        if entry.request_ended {
            table.entries.remove(index);
        }
        disconnected
    }

    /// Records that this stream became a request. To be called before a response is queued.
    pub(super) fn request_accepted(&self, stream: u32) {
        if let Some((_, entry)) = self.0.lock().find(stream) {
            entry.accepted = true;
        }
    }

    /// Claims the stream for its final response. Returns false if a disconnect or a reset was counted before: the
    /// response must then not be counted. To be called before the response is queued.
    pub(super) fn claim_response(&self, stream: u32) -> bool {
        let mut table = self.0.lock();
        // Without an entry it is unknown how the stream ends.
        let Some((_, entry)) = table.find(stream) else { return true };
        let may_respond = matches!(entry.state, State::Open | State::Responded);
        if may_respond {
            entry.state = State::Responded;
        }
        may_respond
    }

    /// Announces an interim response, whose HEADERS must not be taken for the final response. To be called before it
    /// is queued.
    pub(super) fn expect_interim(&self, stream: u32) {
        if let Some((_, entry)) = self.0.lock().find(stream) {
            entry.pending_interim += 1;
        }
    }

    /// Records the end of the request. Returns whether its response was counted or its reset was written. Otherwise the
    /// frame observers have counted the stream as disconnected, or will count it.
    pub(super) fn request_ended(&self, stream: u32) -> bool {
        let mut table = self.0.lock();
        let Some((index, entry)) = table.find(stream) else { return true };
        let response_counted = matches!(entry.state, State::Responded | State::HeadersWritten | State::Ended);
        entry.request_ended = true;
        if matches!(entry.state, State::Ended | State::Disconnected) {
            table.entries.remove(index);
        }
        response_counted
    }

    /// Records a written HEADERS. Returns whether the `h2` crate generated this response.
    pub(super) fn headers_written(&self, stream: u32, end_stream: bool) -> bool {
        let mut table = self.0.lock();
        let Some((_, entry)) = table.find(stream) else { return false };
        if entry.pending_interim > 0 && !end_stream {
            entry.pending_interim -= 1;
            return false;
        }
        let generated_by_library = entry.state == State::Open && !entry.accepted;
        if matches!(entry.state, State::Open | State::Responded) {
            entry.state = State::HeadersWritten;
        }
        if end_stream {
            table.end(stream);
        }
        generated_by_library
    }

    /// Records a written DATA frame without END_STREAM.
    pub(super) fn data_written(&self, stream: u32, length: usize) {
        if let Some((_, entry)) = self.0.lock().find(stream) {
            entry.data_written += length as u64;
            entry.wake();
        }
    }

    /// Ready when this many body bytes were written, or no more will be.
    pub(super) fn poll_data_written(&self, stream: u32, length: u64, cx: &mut Context<'_>) -> Poll<()> {
        let mut table = self.0.lock();
        if table.connection_ended {
            return Poll::Ready(());
        }
        match table.find(stream) {
            Some((_, entry)) if entry.is_open() && entry.data_written < length => {
                entry.waiting = Some(cx.waker().clone());
                Poll::Pending
            }
            Some(_) | None => Poll::Ready(()),
        }
    }

    /// Records a written END_STREAM.
    pub(super) fn end_written(&self, stream: u32) {
        self.0.lock().end(stream);
    }

    /// Records a written RST_STREAM. Returns whether the `h2` crate has reset a malformed stream: the gateway uses
    /// other error codes.
    pub(super) fn reset_written(&self, stream: u32, code: u32) -> bool {
        let mut table = self.0.lock();
        let open = table.find(stream).is_some_and(|(_, entry)| entry.is_open());
        table.end(stream);
        open && !matches!(code, NO_ERROR | STREAM_CLOSED | CANCEL)
    }

    /// Records a written GOAWAY: streams above `last_stream` are not processed, which the client can see.
    pub(super) fn goaway_written(&self, last_stream: u32) {
        let mut table = self.0.lock();
        table.goaway_last_stream = Some(last_stream);
        table.entries.retain(|entry| entry.stream <= last_stream);
    }

    /// Records the end of the connection. Returns the number of streams without a response.
    pub(super) fn connection_ended(&self) -> usize {
        let mut table = self.0.lock();
        table.connection_ended = true;
        let mut disconnected = 0;
        for entry in &mut table.entries {
            entry.wake();
            if entry.state == State::Open {
                entry.state = State::Disconnected;
                disconnected += 1;
            }
        }
        disconnected
    }
}

impl Entry {
    /// Whether the gateway may still send frames of a response.
    const fn is_open(&self) -> bool {
        matches!(self.state, State::Open | State::Responded | State::HeadersWritten)
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waiting.take() {
            waker.wake();
        }
    }
}

impl Table {
    fn find(&mut self, stream: u32) -> Option<(usize, &mut Entry)> {
        let index = self.entries.binary_search_by_key(&stream, |entry| entry.stream).ok()?;
        self.entries.get_mut(index).map(|entry| (index, entry))
    }

    /// Marks the stream as ended, and removes it unless its request is still running.
    fn end(&mut self, stream: u32) {
        let Some((index, entry)) = self.find(stream) else { return };
        if entry.state != State::Disconnected {
            entry.state = State::Ended;
        }
        entry.wake();
        // `request_ended` is never called for a stream that is not accepted.
        if entry.request_ended || !entry.accepted {
            self.entries.remove(index);
        }
    }
}

#[cfg(test)]
#[path = "stream_table_tests.rs"]
mod tests;
