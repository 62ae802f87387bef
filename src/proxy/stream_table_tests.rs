//! The stream table under every possible order of frames and task events: the count must depend on the frames alone.

use super::*;

/// An event on one stream after the HEADERS that opened it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    /// The client's RST_STREAM is read.
    Reset,
    /// The stream becomes a request.
    Accept,
    /// The response is counted and queued, unless the stream already has a result.
    Respond,
    /// The response headers are written.
    Headers,
    /// The end of the response is written.
    End,
    /// The request's task ends.
    Finish,
}

use Event::{Accept, End, Finish, Headers, Reset, Respond};

const STREAM: u32 = 1;

/// Every sequence of distinct events in which causes precede their effects.
fn orders() -> Vec<Vec<Event>> {
    let mut complete = Vec::new();
    let mut open = vec![Vec::new()];
    while let Some(order) = open.pop() {
        for event in [Reset, Accept, Respond, Headers, End, Finish] {
            let causes: &[Event] = match event {
                Reset | Accept => &[],
                Respond | Finish => &[Accept],
                Headers => &[Accept, Respond],
                End => &[Accept, Respond, Headers],
            };
            // The task responds before it ends; what it has queued may be written later.
            if event == Respond && order.contains(&Finish) {
                continue;
            }
            if !order.contains(&event) && causes.iter().all(|cause| order.contains(cause)) {
                open.push([&order[..], &[event]].concat());
            }
        }
        complete.push(order);
    }
    complete
}

/// Replays the events. Returns the number of counted responses, of counted disconnects, and the result of
/// [`StreamTable::request_ended`].
fn replay(order: &[Event]) -> (usize, usize, Option<bool>) {
    let table = StreamTable::default();
    table.opened(STREAM);
    let (mut responses, mut disconnects, mut response_counted) = (0, 0, None);
    for event in order {
        match event {
            Reset => disconnects += usize::from(table.reset_by_client(STREAM)),
            Accept => table.request_accepted(STREAM),
            Respond => responses += usize::from(table.claim_response(STREAM)),
            Headers => assert!(!table.headers_written(STREAM, false), "{order:?}"),
            End => table.end_written(STREAM),
            Finish => response_counted = Some(table.request_ended(STREAM)),
        }
    }
    (responses, disconnects + table.connection_ended(), response_counted)
}

#[test]
fn disconnect_is_counted_once_in_every_order_of_frames_and_tasks() {
    let orders = orders();
    assert_eq!(orders.len(), 62);
    for order in orders {
        let position = |event| order.iter().position(|other| *other == event);
        let is_response_first = match (position(Respond), position(Reset)) {
            (Some(response), Some(reset)) => response < reset,
            (Some(_), None) => true,
            (None, _) => false,
        };
        let (responses, disconnects, response_counted) = replay(&order);
        let expected = (usize::from(is_response_first), usize::from(!is_response_first));
        assert_eq!((responses, disconnects), expected, "{order:?}");
        if let (Some(true), false) = (response_counted, is_response_first) {
            panic!("the disconnect would be counted twice: {order:?}");
        }
    }
}

#[test]
fn entry_is_removed_when_the_request_and_its_frames_have_ended() {
    for order in orders() {
        let is_over = order.contains(&Finish) && (order.contains(&End) || order.contains(&Reset));
        let table = StreamTable::default();
        table.opened(STREAM);
        for event in &order {
            match event {
                Reset => {
                    let _ = table.reset_by_client(STREAM);
                }
                Accept => table.request_accepted(STREAM),
                Respond => {
                    let _ = table.claim_response(STREAM);
                }
                Headers => {
                    let _ = table.headers_written(STREAM, false);
                }
                End => table.end_written(STREAM),
                Finish => {
                    let _ = table.request_ended(STREAM);
                }
            }
        }
        assert_eq!(table.0.lock().entries.is_empty(), is_over, "{order:?}");
    }
}

#[test]
fn interim_response_does_not_count_as_response_headers() {
    let table = StreamTable::default();
    table.opened(STREAM);
    table.request_accepted(STREAM);
    table.expect_interim(STREAM);
    table.expect_interim(STREAM);
    assert!(!table.headers_written(STREAM, false));
    assert!(!table.headers_written(STREAM, false));
    assert!(table.reset_by_client(STREAM));
    assert!(!table.request_ended(STREAM));
    assert_eq!(table.connection_ended(), 0);
}

#[test]
fn stream_ended_by_the_library_is_not_counted_as_a_disconnect() {
    let table = StreamTable::default();
    // Stream 1 is malformed and reset. Stream 3 is too large: it gets a 431 and is reset afterwards.
    table.opened(1);
    assert!(table.reset_written(1, 1));
    table.opened(3);
    assert!(table.headers_written(3, true));
    assert!(!table.reset_written(3, 7));
    // Stream 5 is malformed after its header section: it becomes a request although its reset was written.
    table.opened(5);
    assert!(table.reset_written(5, 1));
    table.request_accepted(5);
    assert!(table.request_ended(5));
    assert_eq!(table.connection_ended(), 0);
}

#[test]
fn malformed_stream_that_its_client_resets_first_is_counted_once() {
    let table = StreamTable::default();
    table.opened(STREAM);
    assert!(table.reset_by_client(STREAM));
    assert!(!table.reset_written(STREAM, 1));
    assert!(!table.headers_written(STREAM, true));
    assert_eq!(table.connection_ended(), 0);
}

#[test]
fn streams_above_the_goaway_are_not_counted() {
    let table = StreamTable::default();
    table.opened(1);
    table.opened(3);
    table.goaway_written(1);
    table.opened(5);
    assert!(!table.reset_by_client(3));
    assert!(!table.reset_by_client(5));
    assert_eq!(table.connection_ended(), 1);
    assert!(!table.request_ended(1));
}

#[test]
fn gateway_resets_are_not_counted_as_malformed_streams() {
    for (code, malformed) in
        [(NO_ERROR, false), (1, true), (STREAM_CLOSED, false), (7, true), (CANCEL, false)]
    {
        let table = StreamTable::default();
        table.opened(STREAM);
        table.request_accepted(STREAM);
        assert!(!table.headers_written(STREAM, false));
        assert_eq!(table.reset_written(STREAM, code), malformed, "{code}");
    }
}
