//! HTTP/2 clients that begin a header block, or a frame, and do not end it.
//!
//! Silence between requests is another matter, and so is a body that comes slowly: here nothing but `client.header_timeout`
//! may end a wait, so all other limits are far longer than the watchdog.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use statusquo::rehearse::frames::{
    END_HEADERS, END_STREAM, Frame, PREFACE, encode_frame, frame_type, leading_u32, settings_frame,
    take_frame,
};
use statusquo::rehearse::hpack::HeaderList;
use statusquo::rehearse::{Gate, UpstreamStep, http_response};

use super::gateway::{Gateway, Setup};
use super::load::{limit, millis, scaled};
use super::upstreams::{ok, script};

/// `client.header_timeout`.
const PATIENCE: Duration = Duration::from_millis(1200);

fn patient_but_for_heads(setup: Setup) -> Gateway {
    setup
        .set("client.header_timeout", "1200ms")
        .set("client.idle_timeout", "60s")
        .set("client.body_timeout", "50s")
        .h2c()
        .limit(Duration::from_secs(60))
        .start()
}

/// A connection in frames.
struct Raw {
    stream: TcpStream,
    come: Vec<u8>,
}

impl Raw {
    fn connect(address: SocketAddr) -> Raw {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(limit())).unwrap();
        let mut raw = Raw { stream, come: Vec::new() };
        raw.send(&[PREFACE, &settings_frame(&[])].concat());
        raw
    }

    fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// The next frame; `None` at the end.
    fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = take_frame(&mut self.come) {
                return Some(frame);
            }
            let mut piece = [0; 4096];
            match self.stream.read(&mut piece) {
                Ok(0) => return None,
                Ok(size) => self.come.extend_from_slice(&piece[..size]),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("nothing comes: {error}"),
            }
        }
    }

    fn until(&mut self, kind: u8) -> Frame {
        loop {
            let frame = self.next().expect("the connection is there");
            if frame.frame_type == kind {
                return frame;
            }
        }
    }

    /// GOAWAY without an error, and the end.
    fn ends(&mut self) {
        let goaway = self.until(frame_type::GOAWAY);
        assert_eq!(leading_u32(&goaway.payload[4..]), 0);
        while self.next().is_some() {}
    }
}

fn block(method: &str) -> Vec<u8> {
    let list = HeaderList::default().with(":method", method).with(":scheme", "http").with(":path", "/");
    list.with(":authority", "test").encode()
}

/// So many connections ended because their time was up, and none for another reason of HTTP/2.
fn silences(gateway: &Gateway, timeouts: usize) {
    let count = |cause, wanted| {
        gateway.expect_metric("closed_without_response_total", &[("cause", cause)], wanted);
    };
    count("idle_timeout", timeouts as f64);
    for other in ["client_gone", "http2_connection_error", "http2_stream_error"] {
        count(other, 0.0);
    }
}

#[test]
fn two_hundred_stalled_heads_are_cut_at_their_limit_while_others_are_served() {
    const EACH: usize = 200;
    let upstream = ok("fine");
    let gateway = patient_but_for_heads(Gateway::in_front_of(&upstream));
    let whole = block("GET");
    let halves = [
        encode_frame(frame_type::HEADERS, END_STREAM, 1, &whole[..7]),
        [
            encode_frame(frame_type::HEADERS, END_STREAM, 1, &whole[..7]),
            encode_frame(frame_type::CONTINUATION, 0, 1, &whole[7..12]),
        ]
        .concat(),
        encode_frame(frame_type::HEADERS, END_STREAM | END_HEADERS, 1, &whole)[..12].to_vec(),
        encode_frame(frame_type::PING, 0, 0, [1; 8])[..4].to_vec(),
        vec![0],
    ];
    let mut stalled: Vec<(Raw, Instant)> = (0..EACH)
        .map(|index| {
            let mut raw = Raw::connect(gateway.h2_address());
            let begun = Instant::now();
            raw.send(&halves[index % halves.len()]);
            (raw, begun)
        })
        .collect();
    let mut neighbour = gateway.h2_client();
    neighbour.get("/").is(200, "fine");
    for (raw, begun) in &mut stalled {
        raw.ends();
        assert!(begun.elapsed() >= PATIENCE, "{:?}", begun.elapsed());
    }
    silences(&gateway, EACH);
    neighbour.get("/").is(200, "fine");
}

#[test]
fn a_head_that_is_dripped_has_the_same_limit() {
    let upstream = ok("fine");
    let gateway = patient_but_for_heads(Gateway::in_front_of(&upstream));
    let mut raw = Raw::connect(gateway.h2_address());
    raw.until(frame_type::SETTINGS);
    let begun = Instant::now();
    raw.send(&encode_frame(frame_type::HEADERS, END_STREAM, 1, []));
    let mut dripping = raw.stream.try_clone().unwrap();
    let drip = encode_frame(frame_type::CONTINUATION, 0, 1, []);
    // So many of them at once would be a flood.
    let pause = millis(200);
    let dripper = std::thread::spawn(move || {
        while dripping.write_all(&drip).is_ok() {
            std::thread::sleep(pause); // the slow client is what is tested
        }
    });
    raw.ends();
    assert!(begun.elapsed() >= PATIENCE, "{:?}", begun.elapsed());
    dripper.join().unwrap();
    silences(&gateway, 1);
}

#[test]
fn data_that_comes_slowly_is_a_body_and_no_head() {
    let upstream = ok("fine");
    let gateway = patient_but_for_heads(Gateway::in_front_of(&upstream));
    let data = encode_frame(frame_type::DATA, END_STREAM, 1, [b'x'; 64]);
    // Inside the payload, and inside the frame's head.
    for cut in [40, 2] {
        let mut raw = Raw::connect(gateway.h2_address());
        raw.send(&encode_frame(frame_type::HEADERS, END_HEADERS, 1, block("POST")));
        raw.send(&data[..cut]);
        std::thread::sleep(scaled(PATIENCE * 2)); // the slow client is what is tested
        raw.send(&data[cut..]);
        let head = raw.until(frame_type::HEADERS);
        assert_eq!(head.stream, 1);
        assert_eq!(raw.until(frame_type::DATA).payload, b"fine");
    }
    silences(&gateway, 0);
}

#[test]
fn who_has_asked_is_answered_before_a_connection_ends_for_half_a_head() {
    let gate = Gate::default();
    let upstream = script([
        UpstreamStep::ReadRequestHead,
        UpstreamStep::WaitForGate(gate.clone()),
        UpstreamStep::Write(http_response("200 OK", "fine")),
    ]);
    let gateway = patient_but_for_heads(Gateway::in_front_of(&upstream));
    let mut raw = Raw::connect(gateway.h2_address());
    let begun = Instant::now();
    raw.send(&encode_frame(frame_type::HEADERS, END_HEADERS | END_STREAM, 1, block("GET")));
    raw.send(&encode_frame(frame_type::HEADERS, END_STREAM, 3, []));
    raw.until(frame_type::GOAWAY);
    assert!(begun.elapsed() >= PATIENCE, "{:?}", begun.elapsed());
    gate.open();
    assert_eq!(raw.until(frame_type::HEADERS).stream, 1);
    assert_eq!(raw.until(frame_type::DATA).payload, b"fine");
    while raw.next().is_some() {}
    silences(&gateway, 1);
}

#[test]
fn a_connection_that_there_is_no_place_for_ends_however_often_it_asks() {
    let upstream = ok("fine");
    let gateway =
        Gateway::in_front_of(&upstream).set("client.max_connections", "1").h2c().limit(limit() * 3).start();
    let mut placed = gateway.h2_client();
    placed.get("/").is(200, "fine");
    let mut raw = Raw::connect(gateway.h2_address());
    let mut asking = raw.stream.try_clone().unwrap();
    let asker = std::thread::spawn(move || {
        let whole = block("GET");
        let ask = |stream| encode_frame(frame_type::HEADERS, END_STREAM | END_HEADERS, stream, &whole);
        for stream in (1..).step_by(2) {
            if asking.write_all(&ask(stream)).is_err() {
                return;
            }
            std::thread::sleep(Duration::from_millis(200)); // the client that asks on is what is tested
        }
    });
    // It never answers the PING that goes with GOAWAY.
    assert_eq!(leading_u32(&raw.until(frame_type::GOAWAY).payload[4..]), 0);
    let told = Instant::now();
    while raw.next().is_some() {
        assert!(told.elapsed() < limit(), "it stays for ever");
    }
    asker.join().unwrap();
    placed.get("/").is(200, "fine");
    gateway.expect_metric("closed_without_response_total", &[("cause", "http2_connection_error")], 0.0);
}
