//! HTTP/2 on both sides while the upstream breaks it: an end of a stream is always the truth, and what breaks one stream
//! breaks no other.
//!
//! The rows themselves are in the table, and asked over HTTP/1 in `matrix.rs`.

use statusquo::rehearse::{FaultOutcome, FaultyUpstream, ServerKind, UpstreamFault, upstream_faults};

use super::h2_upstream::{DATA, END_HEADERS, END_STREAM, HEADERS, RST_STREAM, Raw, RawConnection};
use super::http2_upstream::before;
use super::matrix::{for_each_at_once, in_front_of};
use super::reader::{Answer, Ended};

#[test]
fn an_upstream_that_breaks_off_never_ends_a_stream_of_a_client_cleanly() {
    let faults: Vec<UpstreamFault> = upstream_faults()
        .into_iter()
        .filter(|fault| {
            fault.server_kind == ServerKind::Http2Scripted
                || matches!(fault.outcome, FaultOutcome::Aborted { .. })
        })
        .filter(|fault| fault.request.count == 1)
        .collect();
    let misbehaving = FaultyUpstream::start().unwrap();
    let gateway = in_front_of(&misbehaving, &faults, "127.0.0.1").h2c().start();
    for_each_at_once(&faults, |fault| {
        let mut client = gateway.h2_client();
        let name = fault.name;
        let answer = client.ask(fault.request.method, &fault.path(), &[], fault.request.body.clone());
        assert_eq!(answer.status, fault.outcome.status(), "{name}");
        match fault.outcome {
            FaultOutcome::Aborted { .. } => {
                assert!(matches!(answer.ended, Ended::Reset { .. }), "{name}: {answer:#?}");
                assert!(fault.body.starts_with(&answer.body), "{name}: {:?}", answer.text());
            }
            FaultOutcome::Forwarded { .. } => {
                assert!(answer.ended == Ended::Complete && answer.body == fault.body, "{name}: {answer:#?}");
            }
            FaultOutcome::LocalReply { code, .. } => answer.is_made(code),
        }
        // The client's connection is unharmed by all of it.
        client.get("/no-such-route").is_made(404);
    });
    gateway.expect_metric("closed_without_response_total", &[], 0.0);
    gateway.expect_metric("panics_total", &[], 0.0);
}

/// Two requests on one connection: this comes to the second, and the first is answered well around it.
fn beside(way: fn(&mut RawConnection, u32) -> Option<()>) -> Raw {
    Raw::playing(move |connection| {
        connection.preface()?;
        connection.greet(&[])?;
        let first = connection.request()?;
        connection.ok_head(first, false)?;
        connection.frame(DATA, 0, first, b"be")?;
        let second = connection.request()?;
        way(connection, second)?;
        // The rest of the first comes when the second is over.
        connection.pong()?;
        connection.frame(DATA, END_STREAM, first, b"gun")?;
        connection.until_closed()
    })
}

#[test]
fn what_breaks_one_stream_breaks_no_other_one_of_its_connection() {
    type Way = fn(&mut RawConnection, u32) -> Option<()>;
    let ways: [(Way, u16); 5] = [
        (|connection, stream| connection.frame(RST_STREAM, 0, stream, &[0, 0, 0, 2]), 504),
        (
            |connection, stream| {
                connection.frame(HEADERS, END_HEADERS | END_STREAM, stream, b"\x00\x01a\x01b")
            },
            504,
        ),
        (|connection, stream| connection.frame(HEADERS, END_HEADERS, stream, b"\x08\x03101"), 504),
        (
            |connection, stream| {
                // Content-Length: 9.
                connection.frame(HEADERS, END_HEADERS, stream, b"\x88\x0f\x0d\x019")?;
                connection.frame(DATA, END_STREAM, stream, b"short")
            },
            200,
        ),
        (
            |connection, stream| {
                connection.ok_head(stream, false)?;
                connection.frame(DATA, 0, stream, b"begun")?;
                connection.frame(RST_STREAM, 0, stream, &[0, 0, 0, 8])
            },
            200,
        ),
    ];
    for (number, (way, status)) in ways.into_iter().enumerate() {
        let upstream = beside(way);
        let gateway = before(&upstream).h2c().start();
        let answers = gateway.h2_client().get_all(&["/", "/"]);
        let whole = |answer: &&Answer| {
            answer.ended == Ended::Complete && (answer.status, &answer.body[..]) == (200, b"begun")
        };
        let broken =
            |answer: &&Answer| answer.status == status && (status == 504 || answer.ended != Ended::Complete);
        let found = (answers.iter().filter(whole).count(), answers.iter().filter(broken).count());
        assert_eq!(found, (1, 1), "{number}: {answers:#?}");
        assert_eq!(upstream.connections(), 1, "{number}");
    }
}
