//! What a crowd of hostile clients costs: the memory that it takes while it is there, and what is left of it
//! when it has gone.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use bytes::Bytes;
use statusquo::rehearse::clients::FAULT_HEADER;
use statusquo::rehearse::frames::{
    self, END_HEADERS, END_STREAM, PREFACE, encode_frame, frame_type, setting_id, settings_frame,
    window_update_frame,
};
use statusquo::rehearse::hpack::HeaderList;
use statusquo::rehearse::talk::upstream_script;
use statusquo::rehearse::{GatewayProfile, client_faults_h2};

use super::clients_h2::play_all;
use super::gateway::{Gateway, Setup};
use super::h2_upstream::Serving;
use super::http2_upstream::serving;
use super::load::limit;
use super::upstreams::by_request;

/// The most that all of it may take.
const MOST: f64 = 64.0 * 1024.0 * 1024.0;
/// As many as a connection may have at once.
const STREAMS: u32 = 128;

/// Resident, in bytes.
fn memory(gateway: &Gateway) -> f64 {
    let metrics = gateway.metrics();
    let found = metrics.iter().find(|series| series.name == "process_resident_memory_bytes");
    found.expect("the process tells its memory").value
}

fn request(stream: u32, method: &str, play: &str, ends: bool) -> Vec<u8> {
    let list = HeaderList::default()
        .with(":method", method)
        .with(":scheme", "http")
        .with(":path", "/rehearsal")
        .with(":authority", "rehearsal.example")
        .with(FAULT_HEADER, play);
    let flags = END_HEADERS | if ends { END_STREAM } else { 0 };
    encode_frame(frame_type::HEADERS, flags, stream, list.encode())
}

/// A connection that has said hello with this window for each stream.
fn hello(gateway: SocketAddr, stream_window: u32) -> TcpStream {
    let mut client = TcpStream::connect(gateway).unwrap();
    client.set_read_timeout(Some(limit())).unwrap();
    let told = settings_frame(&[(setting_id::INITIAL_WINDOW_SIZE, stream_window)]);
    client.write_all(&[PREFACE, &told].concat()).unwrap();
    client
}

/// Every stream asks for an endless answer and takes none of it.
fn hoarder(gateway: SocketAddr) -> TcpStream {
    let mut client = hello(gateway, 0);
    let all: Vec<u8> = (0..STREAMS).flat_map(|n| request(2 * n + 1, "GET", "endless", true)).collect();
    client.write_all(&all).unwrap();
    client
}

/// Every stream has an open window, the connection has too, and nobody reads the socket.
fn deaf(gateway: SocketAddr) -> TcpStream {
    let mut client = hello(gateway, 0x7fff_ffff);
    client.write_all(&window_update_frame(0, 0x7fff_0000)).unwrap();
    let all: Vec<u8> = (0..STREAMS).flat_map(|n| request(2 * n + 1, "GET", "endless", true)).collect();
    client.write_all(&all).unwrap();
    client
}

/// Every stream uploads as much as its window allows to an upstream that does not answer.
fn pusher(gateway: SocketAddr) -> TcpStream {
    let mut client = hello(gateway, 0xffff);
    let body = encode_frame(frame_type::DATA, 0, 0, [b'x'; 8 * 1024]);
    let all: Vec<u8> = (0..STREAMS)
        .flat_map(|n| {
            let mut data = body.clone();
            data.splice(5..9, (2 * n + 1).to_be_bytes());
            [request(2 * n + 1, "POST", "hang", false), data].concat()
        })
        .collect();
    client.write_all(&all).unwrap();
    client
}

/// Every stream uploads, as fast as it is let, what could be sent again to another server if this one failed.
fn uploader(gateway: SocketAddr) -> TcpStream {
    let mut client = hello(gateway, 0xffff);
    let all: Vec<u8> = (0..STREAMS).flat_map(|n| request(2 * n + 1, "POST", "hang", false)).collect();
    client.write_all(&all).unwrap();
    let (mut come, mut room) = (Vec::new(), 0xffff_usize);
    for _ in 0..15 {
        for n in 0..STREAMS {
            while room < 4096 {
                let mut piece = [0; 4096];
                let read = client.read(&mut piece).unwrap();
                assert!(read > 0, "it may go on");
                come.extend_from_slice(&piece[..read]);
                while let Some(frame) = frames::take_frame(&mut come) {
                    if (frame.frame_type, frame.stream) == (frame_type::WINDOW_UPDATE, 0) {
                        room += frames::leading_u32(&frame.payload) as usize;
                    }
                }
            }
            room -= 4096;
            client.write_all(&encode_frame(frame_type::DATA, 0, 2 * n + 1, [b'x'; 4096])).unwrap();
        }
    }
    client
}

/// Every stream says a head of 60 KiB in a few bytes, and waits.
fn bomber(gateway: SocketAddr) -> TcpStream {
    let mut client = hello(gateway, 0xffff);
    let list = HeaderList::default()
        .with(":method", "GET")
        .with(":scheme", "http")
        .with(":path", "/rehearsal")
        .with(":authority", "rehearsal.example")
        .with(FAULT_HEADER, "hang");
    // A field that is to be remembered, and then its number again and again (RFC 7541 6.1, 6.2.1).
    let mut first = list.encode();
    first.extend([0x40, 1, b'x', 0x7f, 0xbd, 0x1d]);
    first.resize(first.len() + 3900, b'y');
    let again = [list.encode(), vec![0xbe; 15]].concat();
    let mut all = encode_frame(frame_type::HEADERS, END_HEADERS | END_STREAM, 1, first);
    for n in 1..STREAMS {
        all.extend(encode_frame(frame_type::HEADERS, END_HEADERS | END_STREAM, 2 * n + 1, &again));
    }
    client.write_all(&all).unwrap();
    client
}

/// A header block of a megabyte less a bit, in pieces, that does not end.
fn half_a_head(gateway: SocketAddr) -> TcpStream {
    let mut client = hello(gateway, 0xffff);
    let mut first = vec![0, 1, b'x', 0x7f, 0xf0, 0xff, 0x3e];
    first.resize(16 * 1024, b'y');
    let mut all = encode_frame(frame_type::HEADERS, 0, 1, first);
    for _ in 0..14 {
        all.extend(encode_frame(frame_type::CONTINUATION, 0, 1, [b'y'; 16 * 1024]));
    }
    // It may be ended for it before all of it is out.
    let _ = client.write_all(&all);
    client
}

/// One head of 4 KiB, and 17 of 59,045 bytes, are a megabyte less a bit.
#[test]
fn the_large_heads_of_a_connection_share_a_megabyte_and_a_small_one_always_has_room() {
    let upstream = by_request(upstream_script);
    let gateway = Gateway::in_front_of(&upstream).h2c().start();
    let mut client = bomber(gateway.h2_address());
    let full = [("code", "503"), ("cause", "resource_exhausted")];
    gateway.wait_for_metric(limit(), "errors_total", &full, f64::from(STREAMS - 18));
    gateway.wait_for_metric(limit(), "requests_in_flight", &[], 18.0);
    let small = 2 * STREAMS + 1;
    client.write_all(&request(small, "GET", "served", true)).unwrap();
    client.set_read_timeout(Some(limit())).unwrap();
    let mut come = Vec::new();
    let answer = loop {
        if let Some(frame) = frames::take_frame(&mut come) {
            if (frame.frame_type, frame.stream) == (frame_type::DATA, small) {
                break frame;
            }
            continue;
        }
        let mut piece = [0; 4096];
        let read = client.read(&mut piece).unwrap();
        assert!(read > 0, "the connection stays");
        come.extend_from_slice(&piece[..read]);
    };
    assert_eq!(answer.payload, b"served\n");
    drop(client);
    gateway.wait_for_metric(limit(), "requests_in_flight", &[], 0.0);
    // There is room again.
    let _client = bomber(gateway.h2_address());
    gateway.wait_for_metric(limit(), "requests_in_flight", &[], 18.0);
}

/// Every stream says a head of 240,000 bytes in as many, and takes nothing of its answer.
fn loudmouth(gateway: SocketAddr) -> TcpStream {
    let mut client = hello(gateway, 0);
    let mut list = HeaderList::default()
        .with(":method", "GET")
        .with(":scheme", "http")
        .with(":path", "/rehearsal")
        .with(":authority", "rehearsal.example");
    for _ in 0..60 {
        list = list.with("x", "y".repeat(4000));
    }
    let block = list.encode();
    for n in 0..STREAMS {
        let mut pieces = block.chunks(16 * 1024).peekable();
        let (mut kind, mut begins) = (frame_type::HEADERS, END_STREAM);
        while let Some(piece) = pieces.next() {
            let ends = if pieces.peek().is_none() { END_HEADERS } else { 0 };
            client.write_all(&encode_frame(kind, begins | ends, 2 * n + 1, piece)).unwrap();
            (kind, begins) = (frame_type::CONTINUATION, 0);
        }
    }
    client
}

#[test]
fn a_head_that_is_refused_is_not_kept_while_its_answer_waits() {
    let upstream = by_request(upstream_script);
    let gateway = Gateway::in_front_of(&upstream).h2c().limit(Duration::from_secs(60)).start();
    gateway.h2_client().get("/rehearsal");
    let idle = memory(&gateway);
    let clients = [loudmouth(gateway.h2_address()), loudmouth(gateway.h2_address())];
    let refused = [("code", "400"), ("cause", "header_too_large")];
    gateway.wait_for_metric(limit(), "errors_total", &refused, f64::from(2 * STREAMS));
    let held = memory(&gateway) - idle;
    // The heads alone are 61 MB.
    assert!(held < MOST / 2.0, "{held} bytes over idle");
    drop(clients);
}

#[test]
fn what_an_http_2_upstream_sends_for_clients_that_take_nothing_is_bounded() {
    let upstream = Serving::with(1000, |_, mut respond| async move {
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
    let gateway = serving(&upstream).limit(Duration::from_secs(60)).start();
    gateway.expect_metric("requests_in_flight", &[], 0.0);
    let idle = memory(&gateway);
    let clients = [hoarder(gateway.h2_address()), hoarder(gateway.h2_address())];
    let all = f64::from(2 * STREAMS);
    gateway.wait_for_metric(limit(), "requests_in_flight", &[], all);
    // The windows are full long before.
    let (mut held, begun) = (0_f64, Instant::now());
    while begun.elapsed() < Duration::from_secs(3) {
        held = held.max(memory(&gateway) - idle);
    }
    assert!(held < MOST, "{held} bytes over idle");
    drop(clients);
}

#[test]
#[ignore = "make proof: a fleet of clients"]
fn a_hostile_crowd_costs_less_than_64_mib_and_further_ones_no_more() {
    let upstream = by_request(upstream_script);
    let gateway = Setup::of_servers(&[upstream.address()])
        .set("client.header_timeout", "2s")
        .set("client.body_timeout", "2s")
        .set("client.write_timeout", "2s")
        .set("client.idle_timeout", "2s")
        .set("client.max_body", "1MiB")
        .set("timeouts.response_head", "5s")
        .set("timeouts.total", "8s")
        .h2c()
        .limit(Duration::from_secs(120))
        .start();
    let setting = GatewayProfile::example();
    // Whatever is made once and kept is made now.
    let few: Vec<_> = client_faults_h2(&setting).into_iter().take(20).collect();
    play_all(&gateway, &upstream, &setting, &few);
    gateway.expect_metric("requests_in_flight", &[], 0.0);
    let idle = memory(&gateway);

    // The allocator keeps some of what is given back, now and then more of it: what leaks is gone after each of them.
    let rests = [(); 3].map(|()| {
        crowd(
            &gateway,
            || {
                play_all(&gateway, &upstream, &setting, &client_faults_h2(&setting));
            },
            idle,
        )
    });
    let grown = (rests[1] - rests[0]).min(rests[2] - rests[1]);
    assert!(grown < MOST / 8.0, "{} KiB more at rest after each crowd, {rests:?}", grown / 1024.0);
}

/// A crowd comes, while all this is played, and leaves; what is resident at rest then.
fn crowd(gateway: &Gateway, play: impl Fn() + Send, idle: f64) -> f64 {
    let address = gateway.h2_address();
    let makers: [fn(SocketAddr) -> TcpStream; 6] = [hoarder, deaf, pusher, half_a_head, bomber, uploader];
    let crowd: Vec<TcpStream> = (0..2).flat_map(|_| makers.map(|maker| maker(address))).collect();
    let most = std::thread::scope(|scope| {
        let rows = scope.spawn(play);
        let (mut most, begun) = (0_f64, Instant::now());
        while !rows.is_finished() || begun.elapsed() < Duration::from_secs(3) {
            most = most.max(memory(gateway));
        }
        most
    });
    assert!(most - idle < MOST, "{} KiB at the most, {} KiB before", most / 1024.0, idle / 1024.0);

    // Others are served meanwhile, and afterwards nothing of the crowd is left.
    gateway.h2_client().get("/rehearsal").is(200, "served\n");
    drop(crowd);
    gateway.wait_for_metric(limit(), "requests_in_flight", &[], 0.0);
    gateway.wait_for_metric(limit(), "connections", &[("listener", &address.to_string())], 0.0);
    // An idle gateway gives back what nobody uses, every two seconds: what it has not given back after five is kept.
    let (mut rest, begun) = (memory(gateway), Instant::now());
    while begun.elapsed() < Duration::from_secs(5) {
        rest = rest.min(memory(gateway));
    }
    rest
}
