//! HTTP/2 connections that close while their client still receives, and while it sends the frames of a client that
//! reads.

use std::net::{SocketAddr, TcpStream};

use statusquo::conformance::frames::{
    ACK, END_STREAM, Frame, encode_frame, frame_type, leading_u32, setting_id, window_update_frame,
};

use super::prelude::*;
use super::raw_h2_client::{RawH2Client, get_frame};

/// More than a client's small receive buffer and less than the gateway's send buffer hold.
const BODY: usize = 60_000;
const WINDOW: u32 = 1 << 30;

/// A client whose windows are large and whose receive buffer is small.
pub fn connect_with_small_buffer(address: SocketAddr, frames: &[u8]) -> RawH2Client {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(&address.into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(limit())).unwrap();
    let settings = [(setting_id::INITIAL_WINDOW_SIZE, WINDOW)];
    RawH2Client::over(stream, &settings, &[&window_update_frame(0, WINDOW), frames].concat())
}

/// The last stream of a GOAWAY.
fn last_stream(goaway: &Frame) -> u32 {
    leading_u32(&goaway.payload)
}

/// Acknowledges the PING between the two GOAWAY frames of a graceful shutdown.
fn acknowledge_shutdown(client: &mut RawH2Client) {
    let ping =
        client.read_until_frame(|frame| frame.frame_type == frame_type::PING && frame.flags & ACK == 0);
    client.send(encode_frame(frame_type::PING, ACK, 0, ping.payload));
}

/// Reads the response on stream 1 to the end of the connection, and returns credit for every DATA frame. Returns the
/// number of body bytes and whether the stream ended.
fn read_with_window_updates(client: &mut RawH2Client) -> (usize, bool) {
    let (mut length, mut has_ended) = (0, false);
    while let Some(frame) = client.try_frame() {
        if frame.frame_type == frame_type::DATA && !frame.payload.is_empty() {
            length += frame.payload.len();
            // An error shows as the end of the connection.
            let _ = client.try_send(window_update_frame(0, frame.payload.len() as u32));
        }
        has_ended |= frame.frame_type == frame_type::DATA && frame.flags & END_STREAM != 0;
    }
    (length, has_ended)
}

/// Sends the head, and the body when the gate opens.
fn large_upstream(gate: &Gate) -> ScriptedUpstream {
    script([
        Step::ReadRequestHead,
        write_bytes(format!("HTTP/1.1 200 OK\r\ncontent-length: {BODY}\r\n\r\n")),
        Step::WaitForGate(gate.clone()),
        write_bytes(vec![b'x'; BODY]),
    ])
}

fn start(upstream: &ScriptedUpstream) -> Gateway {
    Gateway::with_upstream(upstream)
        .set("log.requests", "all")
        .set("drain", "40s")
        .with_h2c_listener()
        .start()
}

/// Waits until the gateway has written the whole response, which the client has not read, and reads it.
fn expect_whole_response(gateway: &Gateway, client: &mut RawH2Client) {
    gateway.log_line(|line| line["outcome"] == "forwarded" && line["bytes_out"] == BODY);
    assert_eq!(read_with_window_updates(client), (BODY, true));
}

#[test]
fn response_written_during_a_drain_is_read_to_its_end() {
    let gate = Gate::new();
    let upstream = large_upstream(&gate);
    let gateway = start(&upstream);
    let mut client = connect_with_small_buffer(gateway.h2_address(), &get_frame(1));
    client.read_until(frame_type::HEADERS);
    gateway.send_sigterm();
    acknowledge_shutdown(&mut client);
    client.read_until_frame(|frame| frame.frame_type == frame_type::GOAWAY && last_stream(frame) == 1);
    gate.open();
    expect_whole_response(&gateway, &mut client);
    drop(client);
    assert_eq!(gateway.wait_for_exit(limit()).code(), Some(0));
}

#[test]
fn response_written_after_a_goaway_of_the_client_is_read_to_its_end() {
    let gate = Gate::new();
    let upstream = large_upstream(&gate);
    let gateway = start(&upstream);
    let mut client = connect_with_small_buffer(gateway.h2_address(), &get_frame(1));
    client.read_until(frame_type::HEADERS);
    client.send(encode_frame(frame_type::GOAWAY, 0, 0, [0; 8]));
    gate.open();
    expect_whole_response(&gateway, &mut client);
    drop(client);
    gateway.expect_metric("connections", &[("listener", &gateway.h2_address().to_string())], 0.0);
}
