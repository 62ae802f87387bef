//! Memory under hostile clients: peak usage, and what remains after they have disconnected.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use bytes::Bytes;
use statusquo::conformance::frames::{
    self, END_HEADERS, END_STREAM, encode_frame, frame_type, setting_id, window_update_frame,
};
use statusquo::conformance::success_routes::upstream_script;
use statusquo::conformance::{ClientProtocol, FAULT_HEADER, GatewayProfile, client_faults};

use super::client_faults::run_all;
use super::h2_upstream::H2Server;
use super::http2_upstream::h2_server_setup;
use super::prelude::*;
use super::raw_h2_client::{RawH2Client, request_block};

/// Largest accepted growth of resident memory, in bytes.
const MAX_MEMORY: f64 = 64.0 * 1024.0 * 1024.0;
/// Maximum concurrent streams of a connection.
const MAX_STREAMS: u32 = 128;

/// Resident memory, in bytes.
fn memory(gateway: &Gateway) -> f64 {
    let metrics = gateway.metrics();
    let found = metrics.iter().find(|series| series.name == "process_resident_memory_bytes");
    found.expect("a memory metric").value
}

fn request_frame(stream: u32, method: &str, script: &str, ends: bool) -> Vec<u8> {
    let flags = END_HEADERS | if ends { END_STREAM } else { 0 };
    let block = request_block(method, "/resources", &[(FAULT_HEADER, script)]);
    encode_frame(frame_type::HEADERS, flags, stream, block)
}

/// A connection after the preface and SETTINGS with this stream window.
fn open_connection(gateway: SocketAddr, stream_window: u32) -> TcpStream {
    RawH2Client::connect(gateway, &[(setting_id::INITIAL_WINDOW_SIZE, stream_window)], &[]).stream
}

/// Every stream requests an endless response with a window of 0.
fn zero_window_client(gateway: SocketAddr) -> TcpStream {
    let mut client = open_connection(gateway, 0);
    let all: Vec<u8> =
        (0..MAX_STREAMS).flat_map(|n| request_frame(2 * n + 1, "GET", "endless", true)).collect();
    client.write_all(&all).unwrap();
    client
}

/// All windows are open, but the client does not read the socket.
fn non_reading_client(gateway: SocketAddr) -> TcpStream {
    let mut client = open_connection(gateway, 0x7fff_ffff);
    client.write_all(&window_update_frame(0, 0x7fff_0000)).unwrap();
    let all: Vec<u8> =
        (0..MAX_STREAMS).flat_map(|n| request_frame(2 * n + 1, "GET", "endless", true)).collect();
    client.write_all(&all).unwrap();
    client
}

/// Every stream uploads as much as its window allows to an upstream that does not respond.
fn uploading_client(gateway: SocketAddr) -> TcpStream {
    let mut client = open_connection(gateway, 0xffff);
    let body = encode_frame(frame_type::DATA, 0, 0, [b'x'; 8 * 1024]);
    let all: Vec<u8> = (0..MAX_STREAMS)
        .flat_map(|n| {
            let mut data = body.clone();
            data.splice(5..9, (2 * n + 1).to_be_bytes());
            [request_frame(2 * n + 1, "POST", "hang", false), data].concat()
        })
        .collect();
    client.write_all(&all).unwrap();
    client
}

/// Every stream uploads a body that is small enough to be buffered for a retry.
fn slow_uploading_client(gateway: SocketAddr) -> TcpStream {
    let mut client = open_connection(gateway, 0xffff);
    let all: Vec<u8> =
        (0..MAX_STREAMS).flat_map(|n| request_frame(2 * n + 1, "POST", "hang", false)).collect();
    client.write_all(&all).unwrap();
    let (mut received, mut window) = (Vec::new(), 0xffff_usize);
    for _ in 0..15 {
        for n in 0..MAX_STREAMS {
            while window < 4096 {
                let mut piece = [0; 4096];
                let read = client.read(&mut piece).unwrap();
                assert!(read > 0, "the connection is closed");
                received.extend_from_slice(&piece[..read]);
                while let Some(frame) = frames::take_frame(&mut received) {
                    if (frame.frame_type, frame.stream) == (frame_type::WINDOW_UPDATE, 0) {
                        window += frames::leading_u32(&frame.payload) as usize;
                    }
                }
            }
            window -= 4096;
            client.write_all(&encode_frame(frame_type::DATA, 0, 2 * n + 1, [b'x'; 4096])).unwrap();
        }
    }
    client
}

/// Every stream sends a header section of 60 KiB, compressed to a few bytes, and waits.
fn hpack_bomb_client(gateway: SocketAddr) -> TcpStream {
    let mut client = open_connection(gateway, 0xffff);
    let block = request_block("GET", "/resources", &[(FAULT_HEADER, "hang")]);
    // A field that is added to the dynamic table, followed by repeated references to it (RFC 7541 sections 6.1 and
    // 6.2.1).
    let mut first = block.clone();
    first.extend([0x40, 1, b'x', 0x7f, 0xbd, 0x1d]);
    first.resize(first.len() + 3900, b'y');
    let repeated_headers = [block, vec![0xbe; 15]].concat();
    let mut all = encode_frame(frame_type::HEADERS, END_HEADERS | END_STREAM, 1, first);
    for n in 1..MAX_STREAMS {
        all.extend(encode_frame(frame_type::HEADERS, END_HEADERS | END_STREAM, 2 * n + 1, &repeated_headers));
    }
    client.write_all(&all).unwrap();
    client
}

/// An unfinished header block of slightly less than 1 MiB, in CONTINUATION frames.
fn partial_headers_client(gateway: SocketAddr) -> TcpStream {
    let mut client = open_connection(gateway, 0xffff);
    let mut first = vec![0, 1, b'x', 0x7f, 0xf0, 0xff, 0x3e];
    first.resize(16 * 1024, b'y');
    let mut all = encode_frame(frame_type::HEADERS, 0, 1, first);
    for _ in 0..14 {
        all.extend(encode_frame(frame_type::CONTINUATION, 0, 1, [b'y'; 16 * 1024]));
    }
    // The gateway may close the connection before everything is sent.
    let _ = client.write_all(&all);
    client
}

/// One header section of 4 KiB and 17 of 59,045 bytes take slightly less than 1 MiB.
#[test]
fn large_header_sections_share_1_mib_and_small_ones_always_fit() {
    let upstream = by_request(upstream_script);
    let gateway = Gateway::with_upstream(&upstream).with_h2c_listener().start();
    let mut client = RawH2Client::of(hpack_bomb_client(gateway.h2_address()));
    let full = [("code", "503"), ("cause", "resource_exhausted")];
    gateway.wait_for_metric(limit(), "errors_total", &full, f64::from(MAX_STREAMS - 18));
    gateway.wait_for_metric(limit(), "requests_in_flight", &[], 18.0);
    let small = 2 * MAX_STREAMS + 1;
    client.send(request_frame(small, "GET", "served", true));
    let response =
        client.read_until_frame(|frame| (frame.frame_type, frame.stream) == (frame_type::DATA, small));
    assert_eq!(response.payload, b"served\n");
    drop(client);
    gateway.wait_for_metric(limit(), "requests_in_flight", &[], 0.0);
    // Memory is available again.
    let _client = hpack_bomb_client(gateway.h2_address());
    gateway.wait_for_metric(limit(), "requests_in_flight", &[], 18.0);
}

/// Every stream sends an uncompressed header section of 240,000 bytes and reads no response.
fn large_headers_client(gateway: SocketAddr) -> TcpStream {
    let mut client = open_connection(gateway, 0);
    let padding = "y".repeat(4000);
    let block = request_block("GET", "/resources", &[("x", padding.as_str()); 60]);
    for n in 0..MAX_STREAMS {
        client.write_all(&frames::header_block_frames(2 * n + 1, &block, END_STREAM)).unwrap();
    }
    client
}

#[test]
fn rejected_header_section_is_freed_while_its_response_waits() {
    let upstream = by_request(upstream_script);
    let gateway =
        Gateway::with_upstream(&upstream).with_h2c_listener().limit(Duration::from_secs(60)).start();
    gateway.h2_client().get("/resources");
    let idle = memory(&gateway);
    let clients = [large_headers_client(gateway.h2_address()), large_headers_client(gateway.h2_address())];
    let refused = [("code", "400"), ("cause", "header_too_large")];
    gateway.wait_for_metric(limit(), "errors_total", &refused, f64::from(2 * MAX_STREAMS));
    let growth = memory(&gateway) - idle;
    // The header sections alone are 61 MB.
    assert!(growth < MAX_MEMORY / 2.0, "{growth} bytes over idle");
    drop(clients);
}

#[test]
fn buffered_http2_upstream_data_is_bounded_for_non_reading_clients() {
    let upstream = H2Server::with(1000, |_, mut respond| async move {
        let Ok(mut send) = respond.send_response(http::Response::new(()), false) else { return };
        let piece = Bytes::from(vec![b'x'; 16 * 1024]);
        while let Some(Ok(_)) = {
            send.reserve_capacity(piece.len());
            std::future::poll_fn(|cx| send.poll_capacity(cx)).await
        } {
            let length = send.capacity().min(piece.len());
            if send.send_data(piece.slice(..length), false).is_err() {
                return;
            }
        }
    });
    let gateway = h2_server_setup(&upstream).limit(Duration::from_secs(60)).start();
    gateway.expect_metric("requests_in_flight", &[], 0.0);
    let idle = memory(&gateway);
    let clients = [zero_window_client(gateway.h2_address()), zero_window_client(gateway.h2_address())];
    let all = f64::from(2 * MAX_STREAMS);
    gateway.wait_for_metric(limit(), "requests_in_flight", &[], all);
    // The windows are full long before.
    let (mut growth, started) = (0_f64, Instant::now());
    while started.elapsed() < Duration::from_secs(3) {
        growth = growth.max(memory(&gateway) - idle);
    }
    assert!(growth < MAX_MEMORY, "{growth} bytes over idle");
    drop(clients);
}

#[test]
#[ignore = "make proof: many clients"]
fn hostile_clients_use_less_than_64_mib_and_leak_nothing() {
    let upstream = by_request(upstream_script);
    let gateway = GatewaySetup::with_servers(&[upstream.address()])
        .set("client.header_timeout", "2s")
        .set("client.body_timeout", "2s")
        .set("client.write_timeout", "2s")
        .set("client.idle_timeout", "2s")
        .set("client.max_body", "1MiB")
        .set("timeouts.response_headers", "5s")
        .set("timeouts.deadline", "8s")
        .with_h2c_listener()
        .limit(Duration::from_secs(120))
        .start();
    let profile = GatewayProfile::example();
    // Allocates everything that is created once and kept.
    let few: Vec<_> = client_faults(ClientProtocol::Http2).into_iter().take(20).collect();
    run_all(gateway.h2_address(), &upstream, &profile, &few);
    gateway.expect_metric("requests_in_flight", &[], 0.0);
    let idle = memory(&gateway);

    // The allocator keeps some freed memory, sometimes more of it; a leak is in all three measurements.
    let idle_after_each = [(); 3].map(|()| {
        peak_then_idle_memory(
            &gateway,
            || {
                run_all(gateway.h2_address(), &upstream, &profile, &client_faults(ClientProtocol::Http2));
            },
            idle,
        )
    });
    let grown = (idle_after_each[1] - idle_after_each[0]).min(idle_after_each[2] - idle_after_each[1]);
    assert!(
        grown < MAX_MEMORY / 8.0,
        "{} KiB more when idle after each round, {idle_after_each:?}",
        grown / 1024.0
    );
}

/// Connects hostile clients while `workload` runs, disconnects them, and returns the resident memory when idle.
fn peak_then_idle_memory(gateway: &Gateway, workload: impl Fn() + Send, idle: f64) -> f64 {
    let address = gateway.h2_address();
    let makers: [fn(SocketAddr) -> TcpStream; 6] = [
        zero_window_client,
        non_reading_client,
        uploading_client,
        partial_headers_client,
        hpack_bomb_client,
        slow_uploading_client,
    ];
    let hostile_clients: Vec<TcpStream> = (0..2).flat_map(|_| makers.map(|maker| maker(address))).collect();
    let peak = std::thread::scope(|scope| {
        let rows = scope.spawn(workload);
        let (mut peak, started) = (0_f64, Instant::now());
        while !rows.is_finished() || started.elapsed() < Duration::from_secs(3) {
            peak = peak.max(memory(gateway));
        }
        peak
    });
    assert!(peak - idle < MAX_MEMORY, "peak {} KiB, idle {} KiB", peak / 1024.0, idle / 1024.0);

    // Other clients are served meanwhile, and no state of the hostile clients remains.
    gateway.h2_client().get("/resources").assert_response(200, "served\n");
    drop(hostile_clients);
    gateway.wait_for_metric(limit(), "requests_in_flight", &[], 0.0);
    gateway.wait_for_metric(limit(), "connections", &[("listener", &address.to_string())], 0.0);
    // An idle gateway trims its allocator every 2 s: memory that is still resident after 5 s is in use.
    let (mut idle_memory, started) = (memory(gateway), Instant::now());
    while started.elapsed() < Duration::from_secs(5) {
        idle_memory = idle_memory.min(memory(gateway));
    }
    idle_memory
}
