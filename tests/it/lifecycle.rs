//! From start to end: probes, a drain that loses nothing, an end that comes in time.

use std::net::TcpStream;
use std::time::Instant;

use statusquo::rehearse::{Gate, UpstreamStep, http_response, write_bytes};

use super::gateway::Gateway;
use super::load::limit;
use super::reader::{Asked, Unanswered};
use super::upstreams::{ok, script};

#[test]
fn the_probes_answer() {
    let upstream = ok("");
    let gateway = Gateway::in_front_of(&upstream).start();
    for path in ["/livez", "/readyz"] {
        assert_eq!(gateway.probe(path).status, 200);
    }
    gateway.probe("/elsewhere").is_made(404);
}

#[test]
fn the_telemetry_listener_holds_the_promise_too() {
    let upstream = ok("");
    let gateway = Gateway::in_front_of(&upstream).start();
    let mut client = super::client::Client::connect(gateway.telemetry(), Default::default());
    client.send("GET /metrics\r\n\r\n");
    assert_eq!(client.read(Asked::Http11("GET")).status, 400);
}

#[test]
fn sigterm_finishes_what_is_under_way_and_exits_0() {
    let gate = Gate::new();
    let upstream = script([
        UpstreamStep::ReadRequestHead,
        write_bytes("HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\nhalf"),
        UpstreamStep::WaitForGate(gate.clone()),
        write_bytes("half"),
    ]);
    let gateway = Gateway::in_front_of(&upstream).start();
    let mut idle = gateway.client();
    let mut busy = gateway.client();
    busy.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n");
    busy.wait_for("half");
    gateway.terminate();
    idle.expect_close();
    gate.open();
    busy.read(Asked::Http11("GET")).is(200, "halfhalf");
    busy.expect_close();
    assert_eq!(gateway.wait(limit()).code(), Some(0));
    assert!(TcpStream::connect(gateway.address()).is_err());
}

#[test]
fn an_answer_made_while_draining_says_that_the_connection_closes() {
    let gate = Gate::new();
    let upstream = script([
        UpstreamStep::ReadRequestHead,
        UpstreamStep::WaitForGate(gate.clone()),
        UpstreamStep::Write(http_response("502 Bad", "<p>")),
    ]);
    let gateway = Gateway::in_front_of(&upstream).start();
    let mut client = gateway.client();
    client.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n");
    assert!(upstream.wait_until(limit(), |seen| seen.requests().count() == 1));
    gateway.terminate();
    // Draining has begun when nobody is let in any more.
    let deadline = Instant::now() + limit();
    while TcpStream::connect(gateway.address()).is_ok() {
        assert!(Instant::now() < deadline, "the listener stays open");
    }
    gate.open();
    let answer = client.read(Asked::Http11("GET"));
    answer.is_made(504);
    assert!(answer.says_close(), "{answer:#?}");
    client.expect_close();
    assert_eq!(gateway.wait(limit()).code(), Some(0));
}

#[test]
fn before_the_drain_the_gateway_is_not_ready_and_still_serves() {
    let upstream = ok("still here");
    let gateway = Gateway::in_front_of(&upstream).set("drain_delay", "10m").start();
    gateway.terminate();
    let deadline = Instant::now() + limit();
    while gateway.probe("/readyz").status != 503 {
        assert!(Instant::now() < deadline, "still ready");
    }
    assert_eq!(gateway.probe("/livez").status, 200);
    // That the delay ends is a test of the reload's: this one would end in the middle of it.
    gateway.client().get("/").is(200, "still here");
}

#[test]
fn a_request_that_does_not_end_is_not_waited_for_beyond_the_drain_time() {
    let upstream = script([
        UpstreamStep::ReadRequestHead,
        write_bytes("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf"),
        UpstreamStep::ReadUntilClose,
    ]);
    let gateway =
        Gateway::in_front_of(&upstream).set("drain", "500ms").set("timeouts.between_bytes", "60s").start();
    let mut client = gateway.client();
    client.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n");
    client.wait_for("half");
    gateway.terminate();
    assert_eq!(gateway.wait(limit()).code(), Some(0));
    assert!(!matches!(client.end(), Unanswered::Silent));
}

#[test]
fn a_hangup_without_a_file_to_read_again_is_logged_and_does_not_end_the_process() {
    let upstream = ok("still here");
    let to = upstream.address().to_string();
    let arguments = ["proxy", "--from", "127.0.0.1:0", "--to", &to, "--telemetry", "127.0.0.1:0"];
    let gateway = Gateway::by_command(&arguments);
    gateway.signal("HUP");
    let ignored = "ignored SIGHUP: the configuration did not come from a file";
    gateway.log_line(|line| line["message"] == ignored);
    gateway.client().get("/").is(200, "still here");
}

#[test]
fn who_had_connected_before_the_end_began_is_answered() {
    let upstream = ok("still here");
    let gateway = Gateway::in_front_of(&upstream).set("drain_delay", "0s").descriptors(128).start();
    // Stopped, so that the connections wait in the system's backlog when the signal comes; there are more of them than are
    // let in at once.
    gateway.signal("STOP");
    let mut clients: Vec<_> = (0..60).map(|_| gateway.client()).collect();
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n");
    }
    gateway.terminate();
    gateway.signal("CONT");
    for mut client in clients {
        let answer = client.read(Asked::Http11("GET"));
        assert!(matches!(answer.status, 200 | 503), "{answer:#?}");
        client.expect_close();
    }
    assert_eq!(gateway.wait(limit()).code(), Some(0));
}
