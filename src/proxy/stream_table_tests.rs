//! Frames and tasks in every order in which they can come: the count must depend on the frames alone.

use super::*;

/// What can happen to one stream behind the HEADERS that opens it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    /// The client's RST_STREAM is read.
    Reset,
    /// The stream becomes a request.
    Accept,
    /// The response headers are written.
    Headers,
    /// The end of the response is written.
    End,
    /// The request's task ends.
    Finish,
}

use Event::{Accept, End, Finish, Headers, Reset};

const STREAM: u32 = 1;

/// Every order of a subset of the events in which causes come before their effects.
fn orders() -> Vec<Vec<Event>> {
    let mut whole = Vec::new();
    let mut open = vec![Vec::new()];
    while let Some(order) = open.pop() {
        for event in [Reset, Accept, Headers, End, Finish] {
            let causes: &[Event] = match event {
                Reset | Accept => &[],
                Headers | Finish => &[Accept],
                End => &[Accept, Headers],
            };
            if !order.contains(&event) && causes.iter().all(|cause| order.contains(cause)) {
                open.push([&order[..], &[event]].concat());
            }
        }
        whole.push(order);
    }
    whole
}

/// How many clients are counted as gone, and whether the request may count a truncated response of its own.
fn play(order: &[Event]) -> (usize, Option<bool>) {
    let table = StreamTable::default();
    table.opened(STREAM);
    let (mut gone, mut answered) = (0, None);
    for event in order {
        match event {
            Reset => gone += usize::from(table.reset_by_client(STREAM)),
            Accept => table.accept(STREAM),
            Headers => assert!(!table.headers_written(STREAM, false), "{order:?}"),
            End => table.end_written(STREAM),
            Finish => answered = Some(table.finish(STREAM)),
        }
    }
    (gone + table.connection_ended(), answered)
}

#[test]
fn client_gone_is_counted_once_in_every_order_of_frames_and_tasks() {
    let orders = orders();
    assert_eq!(orders.len(), 46);
    for order in orders {
        let place = |event| order.iter().position(|other| *other == event);
        let answered_first = match (place(Headers), place(Reset)) {
            (Some(headers), Some(reset)) => headers < reset,
            (Some(_), None) => true,
            (None, _) => false,
        };
        let (gone, answered) = play(&order);
        assert_eq!(gone, usize::from(!answered_first), "{order:?}");
        if let (Some(true), false) = (answered, answered_first) {
            panic!("both would count the stream: {order:?}");
        }
    }
}

#[test]
fn memory_of_a_stream_ends_with_its_request_and_its_frames() {
    for order in orders() {
        let over = order.contains(&Finish) && (order.contains(&End) || order.contains(&Reset));
        let table = StreamTable::default();
        table.opened(STREAM);
        for event in &order {
            match event {
                Reset => {
                    let _ = table.reset_by_client(STREAM);
                }
                Accept => table.accept(STREAM),
                Headers => {
                    let _ = table.headers_written(STREAM, false);
                }
                End => table.end_written(STREAM),
                Finish => {
                    let _ = table.finish(STREAM);
                }
            }
        }
        assert_eq!(table.0.lock().entries.is_empty(), over, "{order:?}");
    }
}

#[test]
fn interim_response_does_not_answer_a_stream() {
    let table = StreamTable::default();
    table.opened(STREAM);
    table.accept(STREAM);
    table.interim(STREAM);
    table.interim(STREAM);
    assert!(!table.headers_written(STREAM, false));
    assert!(!table.headers_written(STREAM, false));
    assert!(table.reset_by_client(STREAM));
    assert!(!table.finish(STREAM));
    assert_eq!(table.connection_ended(), 0);
}

#[test]
fn stream_that_the_library_ends_is_not_counted_as_a_client_gone() {
    let table = StreamTable::default();
    // Malformed, and reset for it; too large, and answered 431 and reset behind it.
    table.opened(1);
    assert!(table.reset_written(1, 1));
    table.opened(3);
    assert!(table.headers_written(3, true));
    assert!(!table.reset_written(3, 7));
    // Malformed behind its header section: handed out although its reset has left.
    table.opened(5);
    assert!(table.reset_written(5, 1));
    table.accept(5);
    assert!(table.finish(5));
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
fn streams_above_the_last_one_of_a_goaway_are_not_counted() {
    let table = StreamTable::default();
    table.opened(1);
    table.opened(3);
    table.goaway_written(1);
    table.opened(5);
    assert!(!table.reset_by_client(3));
    assert!(!table.reset_by_client(5));
    assert_eq!(table.connection_ended(), 1);
    assert!(!table.finish(1));
}

#[test]
fn resets_of_the_gateway_are_not_those_of_malformed_streams() {
    for (code, malformed) in
        [(NO_ERROR, false), (1, true), (STREAM_CLOSED, false), (7, true), (CANCEL, false)]
    {
        let table = StreamTable::default();
        table.opened(STREAM);
        table.accept(STREAM);
        assert!(!table.headers_written(STREAM, false));
        assert_eq!(table.reset_written(STREAM, code), malformed, "{code}");
    }
}
