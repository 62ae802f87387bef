//! Start to shutdown: probes, a drain that loses no request, and an exit within its timeout.

use std::net::TcpStream;
use std::time::Instant;

use statusquo::conformance::frames::{PREFACE, frame_type, settings_frame};

use super::prelude::*;
use super::raw_h2_client::{RawH2Client, get_frame};

#[test]
fn livez_and_readyz_respond() {
    let upstream = ok_upstream("");
    let gateway = Gateway::with_upstream(&upstream).start();
    for path in ["/livez", "/readyz"] {
        assert_eq!(gateway.get_telemetry(path).status, 200);
    }
    gateway.get_telemetry("/elsewhere").assert_local_reply(404);
}

#[test]
fn telemetry_listener_follows_the_error_contract() {
    let upstream = ok_upstream("");
    let gateway = Gateway::with_upstream(&upstream).start();
    let mut client = super::http1_client::Client::connect(gateway.telemetry(), Default::default());
    client.send("GET /metrics\r\n\r\n");
    assert_eq!(client.read(SentRequest::Http11("GET")).status, 400);
}

#[test]
fn sigterm_completes_requests_in_flight_and_exits_0() {
    let gate = Gate::new();
    let upstream = script([
        Step::ReadRequestHead,
        write_bytes("HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\nhalf"),
        Step::WaitForGate(gate.clone()),
        write_bytes("half"),
    ]);
    let gateway = Gateway::with_upstream(&upstream)
        .route("name: local, match: { path: /local }, respond: { status: 200, body: local, media_type: text/plain }")
        .route("name: all, upstream: main")
        .start();
    // Without a request it would stay open until the end of the drain.
    let mut idle = gateway.client();
    idle.get("/local").assert_response(200, "local");
    let mut busy = gateway.client();
    busy.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n");
    busy.wait_for("half");
    gateway.send_sigterm();
    idle.expect_close();
    gate.open();
    busy.read(SentRequest::Http11("GET")).assert_response(200, "halfhalf");
    busy.expect_close();
    assert_eq!(gateway.wait_for_exit(limit()).code(), Some(0));
    assert!(TcpStream::connect(gateway.address()).is_err());
}

#[test]
fn response_during_drain_has_connection_close() {
    let gate = Gate::new();
    let upstream = script([
        Step::ReadRequestHead,
        Step::WaitForGate(gate.clone()),
        Step::Write(http_response("502 Bad", "<p>")),
    ]);
    let gateway = Gateway::with_upstream(&upstream).start();
    let mut client = gateway.client();
    client.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n");
    assert!(upstream.wait_until(limit(), |seen| seen.requests().count() == 1));
    gateway.send_sigterm();
    // Draining has begun when new connections are refused.
    let deadline = Instant::now() + limit();
    while TcpStream::connect(gateway.address()).is_ok() {
        assert!(Instant::now() < deadline, "the listener stays open");
    }
    gate.open();
    let response = client.read(SentRequest::Http11("GET"));
    response.assert_local_reply(504);
    assert!(response.has_connection_close(), "{response:#?}");
    client.expect_close();
    assert_eq!(gateway.wait_for_exit(limit()).code(), Some(0));
}

#[test]
fn drain_delay_reports_not_ready_and_still_serves() {
    let upstream = ok_upstream("still here");
    let gateway = Gateway::with_upstream(&upstream).set("drain_delay", "10m").start();
    gateway.send_sigterm();
    let deadline = Instant::now() + limit();
    while gateway.get_telemetry("/readyz").status != 503 {
        assert!(Instant::now() < deadline, "still ready");
    }
    assert_eq!(gateway.get_telemetry("/livez").status, 200);
    // The reload tests cover the end of the delay; here it would fall into the middle of the test.
    gateway.client().get("/").assert_response(200, "still here");
}

#[test]
fn unfinished_request_is_aborted_after_the_drain_timeout() {
    let upstream = script([
        Step::ReadRequestHead,
        write_bytes("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf"),
        Step::ReadUntilClose,
    ]);
    let gateway =
        Gateway::with_upstream(&upstream).set("drain", "500ms").set("timeouts.body_idle", "60s").start();
    let mut client = gateway.client();
    client.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n");
    client.wait_for("half");
    gateway.send_sigterm();
    assert_eq!(gateway.wait_for_exit(limit()).code(), Some(0));
    assert!(!matches!(client.read_close(), NoResponse::TimedOut));
}

#[test]
fn sighup_without_a_config_file_is_logged_and_ignored() {
    let upstream = ok_upstream("still here");
    let to = upstream.address().to_string();
    let arguments = ["proxy", "--from", "127.0.0.1:0", "--to", &to, "--telemetry", "127.0.0.1:0"];
    let gateway = Gateway::from_command(&arguments);
    gateway.send_signal("HUP");
    let ignored = "ignored SIGHUP: the configuration did not come from a file";
    gateway.log_line(|line| line["message"] == ignored);
    gateway.client().get("/").assert_response(200, "still here");
}

/// Scripts for nginx or HAProxy send them; by default each ends a process at once.
#[test]
fn unsupported_signals_are_logged_and_ignored_also_during_a_drain() {
    let gate = Gate::new();
    let upstream = gated_upstream(&gate, "still here");
    let gateway = Gateway::with_upstream(&upstream).set("drain", "60s").start();
    let mut client = gateway.client();
    client.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n");
    assert!(upstream.wait_until(limit(), |seen| seen.requests().count() == 1));
    let send_all = |count| {
        for name in ["USR1", "USR2", "ALRM"] {
            gateway.send_signal(name);
            let prefix = format!("ignored SIG{name}: ");
            let line_count = || gateway.log_text().matches(&prefix).count();
            let deadline = Instant::now() + limit();
            while line_count() < count {
                assert!(Instant::now() < deadline, "{}", gateway.log_text());
                std::thread::yield_now();
            }
        }
    };
    send_all(1);
    gateway.send_sigterm();
    gateway.log_line(|line| line["message"] == "draining");
    send_all(2);
    gate.open();
    client.read(SentRequest::Http11("GET")).assert_response(200, "still here");
    assert_eq!(gateway.wait_for_exit(limit()).code(), Some(0));
}

/// Its client knows only that it was accepted. The close of a keep-alive connection, one second into the drain, marks
/// the time when connections without a request were closed too.
#[test]
fn connection_without_a_request_is_served_until_the_drain_ends() {
    let upstream = ok_upstream("fine");
    let gateway = Gateway::with_upstream(&upstream).set("drain", "60s").with_h2c_listener().start();
    let mut silent = gateway.client();
    let mut silent_h2c = RawH2Client::of(TcpStream::connect(gateway.h2_address()).unwrap());
    let mut silent_h2 = RawH2Client::connect(gateway.h2_address(), &[], &[]);
    silent_h2.read_until(frame_type::SETTINGS);
    let mut kept = gateway.client();
    kept.get("/").assert_response(200, "fine");
    for listener in [gateway.address(), gateway.h2_address()] {
        gateway.expect_metric("connections", &[("listener", &listener.to_string())], 2.0);
    }
    gateway.send_sigterm();
    kept.expect_close();
    gateway.expect_metric("closed_without_response_total", &[], 1.0);
    let response = silent.get("/");
    response.assert_response(200, "fine");
    assert!(response.has_connection_close());
    silent.expect_close();
    silent_h2c.send([PREFACE, &settings_frame(&[])].concat());
    for h2 in [&mut silent_h2, &mut silent_h2c] {
        h2.send(get_frame(1));
        let data = h2.read_until_frame(|frame| (frame.frame_type, frame.stream) == (frame_type::DATA, 1));
        assert_eq!(data.payload, b"fine");
    }
    drop((silent_h2, silent_h2c));
    assert_eq!(gateway.wait_for_exit(limit()).code(), Some(0));
}

#[test]
fn connection_accepted_before_the_drain_gets_a_response() {
    let upstream = ok_upstream("still here");
    let gateway = Gateway::with_upstream(&upstream).set("drain_delay", "0s").descriptors(128).start();
    // Stopped, so that the connections wait in the listen backlog when the signal arrives; there are more of them than
    // one accept batch.
    gateway.send_signal("STOP");
    let mut clients: Vec<_> = (0..60).map(|_| gateway.client()).collect();
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n");
    }
    gateway.send_sigterm();
    gateway.send_signal("CONT");
    for mut client in clients {
        let response = client.read(SentRequest::Http11("GET"));
        assert!(matches!(response.status, 200 | 503), "{response:#?}");
        client.expect_close();
    }
    assert_eq!(gateway.wait_for_exit(limit()).code(), Some(0));
}
