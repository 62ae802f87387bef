//! HTTP/2 on both sides with a faulty upstream: no truncated stream ends cleanly, and a fault on one stream does not
//! affect others.
//!
//! The rows come from the fault table; `upstream_faults.rs` runs them over HTTP/1.

use statusquo::conformance::{FaultOutcome, FaultyUpstream, ServerKind, UpstreamFault, upstream_faults};

use super::h2_upstream::{DATA, END_HEADERS, END_STREAM, HEADERS, RST_STREAM, RawH2Connection, RawH2Server};
use super::http2_upstream::raw_server_setup;
use super::response_reader::{HttpResponse, ResponseEnd};
use super::upstream_faults::{run_concurrently, upstream_fault_setup};

#[test]
fn broken_upstream_never_ends_a_client_stream_cleanly() {
    let faults: Vec<UpstreamFault> = upstream_faults()
        .into_iter()
        .filter(|fault| {
            fault.server_kind == ServerKind::Http2Scripted
                || matches!(fault.expect.outcome, FaultOutcome::Aborted { .. })
        })
        .filter(|fault| fault.request.count == 1)
        .collect();
    let faulty_upstream = FaultyUpstream::start().unwrap();
    let gateway = upstream_fault_setup(&faulty_upstream, &faults, "127.0.0.1").with_h2c_listener().start();
    run_concurrently(&faults, |fault| {
        let mut client = gateway.h2_client();
        let name = fault.name;
        let response = client.request(fault.request.method, &fault.path(), &[], fault.request.body.clone());
        assert_eq!(response.status, fault.expect.outcome.status(), "{name}");
        match fault.expect.outcome {
            FaultOutcome::Aborted { .. } => {
                assert!(matches!(response.end, ResponseEnd::Reset { .. }), "{name}: {response:#?}");
                assert!(fault.expect.body.starts_with(&response.body), "{name}: {:?}", response.text());
            }
            FaultOutcome::Forwarded { .. } => {
                assert!(
                    response.end == ResponseEnd::Complete && response.body == fault.expect.body,
                    "{name}: {response:#?}"
                );
            }
            FaultOutcome::LocalReply { code, .. } => response.assert_local_reply(code),
        }
        // The client's connection is still usable.
        client.get("/no-such-route").assert_local_reply(404);
    });
    gateway.expect_metric("closed_without_response_total", &[], 0.0);
    gateway.expect_metric("panics_total", &[], 0.0);
}

/// Serves two requests per connection: the second gets the fault, the first a complete response around it.
fn two_stream_server(fault: fn(&mut RawH2Connection, u32) -> Option<()>) -> RawH2Server {
    RawH2Server::with_script(move |connection| {
        connection.read_preface()?;
        connection.send_settings(&[])?;
        let first = connection.next_request()?;
        connection.send_ok_headers(first, false)?;
        connection.send_frame(DATA, 0, first, b"be")?;
        let second = connection.next_request()?;
        fault(connection, second)?;
        // The rest of the first response follows the fault.
        connection.ping_and_wait()?;
        connection.send_frame(DATA, END_STREAM, first, b"gun")?;
        connection.read_until_closed()
    })
}

#[test]
fn stream_fault_leaves_other_streams_of_the_connection_intact() {
    type StreamFault = fn(&mut RawH2Connection, u32) -> Option<()>;
    let faults: [(StreamFault, u16); 5] = [
        (|connection, stream| connection.send_frame(RST_STREAM, 0, stream, &[0, 0, 0, 2]), 504),
        (
            |connection, stream| {
                connection.send_frame(HEADERS, END_HEADERS | END_STREAM, stream, b"\x00\x01a\x01b")
            },
            504,
        ),
        (|connection, stream| connection.send_frame(HEADERS, END_HEADERS, stream, b"\x08\x03101"), 504),
        (
            |connection, stream| {
                // Content-Length: 9.
                connection.send_frame(HEADERS, END_HEADERS, stream, b"\x88\x0f\x0d\x019")?;
                connection.send_frame(DATA, END_STREAM, stream, b"short")
            },
            200,
        ),
        (
            |connection, stream| {
                connection.send_ok_headers(stream, false)?;
                connection.send_frame(DATA, 0, stream, b"begun")?;
                connection.send_frame(RST_STREAM, 0, stream, &[0, 0, 0, 8])
            },
            200,
        ),
    ];
    for (number, (fault, status)) in faults.into_iter().enumerate() {
        let upstream = two_stream_server(fault);
        // A retry would hide the fault's own outcome.
        let gateway =
            raw_server_setup(&upstream).set("upstream.retry", "{ attempts: 1 }").with_h2c_listener().start();
        let responses = gateway.h2_client().get_all(&["/", "/"]);
        let is_complete = |response: &&HttpResponse| {
            response.end == ResponseEnd::Complete && (response.status, &response.body[..]) == (200, b"begun")
        };
        let is_truncated = |response: &&HttpResponse| {
            response.status == status && (status == 504 || response.end != ResponseEnd::Complete)
        };
        let found =
            (responses.iter().filter(is_complete).count(), responses.iter().filter(is_truncated).count());
        assert_eq!(found, (1, 1), "{number}: {responses:#?}");
        assert_eq!(upstream.connections(), 1, "{number}");
    }
}

#[test]
fn reset_stream_counts_as_an_attempt_on_a_reused_connection() {
    let upstream = RawH2Server::with_script(|connection| {
        connection.read_preface()?;
        connection.send_settings(&[])?;
        let stream = connection.next_request()?;
        connection.send_ok_response(stream)?;
        loop {
            let stream = connection.next_request()?;
            connection.send_frame(RST_STREAM, 0, stream, &[0, 0, 0, 2])?;
        }
    });
    // Every connection serves its first request, so a retry on a new connection succeeds.
    let gateway = raw_server_setup(&upstream).set("upstream.retry", "{ attempts: 1 }").start();
    let mut client = gateway.client();
    client.get("/").assert_response(200, "fine");
    client.get("/").assert_local_reply(504);
    assert_eq!((upstream.connections(), upstream.requests()), (1, 2));
    gateway.expect_metric("upstream_retries_total", &[], 0.0);
}
