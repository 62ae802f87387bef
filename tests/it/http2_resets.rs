//! HTTP/2 clients that take back what they have asked for, slowly enough for every limit of the library.
//!
//! The library frees a stream at once; what was begun for it here must end as soon. Floods that are ended for what they
//! are stand in the table of HTTP/2 clients.

use std::io::{Read, Write};
use std::net::TcpStream;

use statusquo::rehearse::FullBacklog;
use statusquo::rehearse::frames::{
    ACK, END_HEADERS, END_STREAM, PREFACE, frame, kind, reset, settings, take,
};
use statusquo::rehearse::hpack::List;

use super::client::LIMIT;
use super::gateway::Setup;

#[test]
fn requests_that_are_reset_while_they_wait_for_a_connection_leave_none_behind() {
    const BATCHES: u32 = 60;
    const EACH: u32 = 10;
    let upstream = FullBacklog::start().unwrap();
    let gateway = Setup::of_servers(&[upstream.address()])
        .set("timeouts.connect", "50s")
        .set("timeouts.total", "55s")
        .h2c()
        .start();
    let mut client = TcpStream::connect(gateway.h2_address()).unwrap();
    client.set_nodelay(true).unwrap();
    client.set_read_timeout(Some(LIMIT)).unwrap();
    client.write_all(&[PREFACE, &settings(&[])].concat()).unwrap();
    let list = List::default().with(":method", "GET").with(":scheme", "http").with(":path", "/");
    let block = list.with(":authority", "test").block();
    let ping = frame(kind::PING, 0, 0, [9; 8]);
    let mut come = Vec::new();
    // An answer to a PING means that all before it was read.
    let mut pong = |client: &mut TcpStream| {
        client.write_all(&ping).unwrap();
        loop {
            while let Some(frame) = take(&mut come) {
                assert_ne!(frame.kind, kind::GOAWAY, "{frame:?}");
                if frame.kind == kind::PING && frame.flags & ACK != 0 {
                    return;
                }
            }
            let mut piece = [0; 4096];
            let size = client.read(&mut piece).unwrap();
            assert!(size > 0, "the connection is there");
            come.extend_from_slice(&piece[..size]);
        }
    };
    for batch in 0..BATCHES {
        let streams = || (0..EACH).map(|number| 1 + 2 * (batch * EACH + number));
        let heads =
            streams().flat_map(|stream| frame(kind::HEADERS, END_HEADERS | END_STREAM, stream, &block));
        client.write_all(&heads.collect::<Vec<u8>>()).unwrap();
        pong(&mut client);
        client.write_all(&streams().flat_map(|stream| reset(stream, 8)).collect::<Vec<u8>>()).unwrap();
        pong(&mut client);
    }
    // Long before the first of them could have waited for its whole limit.
    gateway.expect_metric(
        "closed_without_response_total",
        &[("cause", "client_gone")],
        f64::from(BATCHES * EACH),
    );
    gateway.expect_metric("requests_in_flight", &[], 0.0);
    gateway.expect_metric("errors_total", &[], 0.0);
}
