//! Requests that never become complete: their timeouts, and clients that close.
//!
//! The malformed requests are cases of `client.yaml`; [`super::client_faults`] runs them.

use std::time::{Duration, Instant};

use super::prelude::*;

#[test]
fn unfinished_header_section_gets_400_at_the_header_timeout() {
    let upstream = ok_upstream("must not be reached");
    let gateway = Gateway::with_upstream(&upstream).set("client.header_timeout", "400ms").start();
    let started = Instant::now();
    let mut client = gateway.client();
    client.send("GET / HTTP/1.1\r\nhost: test\r\n");
    let mut writer = client.writer();
    let slow_writer = std::thread::spawn(move || {
        use std::io::Write;
        while writer.write_all(b"a: b\r\n").is_ok() && started.elapsed() < limit() {
            std::thread::sleep(Duration::from_millis(30));
        }
    });
    let response = client.read(SentRequest::Http11("GET"));
    response.assert_local_reply_message(400, "The request was not received in time.");
    let taken = started.elapsed();
    assert!(taken >= Duration::from_millis(380), "{taken:?}");
    slow_writer.join().unwrap();
    gateway.expect_metric("errors_total", &[("cause", "client_too_slow")], 1.0);
    gateway.expect_metric("responses_total", &[("code", "400"), ("origin", "proxy")], 1.0);
}

#[test]
fn silent_connection_is_closed_without_response_and_counted() {
    let upstream = ok_upstream("");
    let gateway = Gateway::with_upstream(&upstream).set("client.idle_timeout", "300ms").start();
    let mut client = gateway.client();
    client.get("/").assert_response(200, "");
    client.expect_close();
    gateway.expect_metric("closed_without_response_total", &[("cause", "idle_timeout")], 1.0);
    drop(gateway.client());
    gateway.expect_metric("closed_without_response_total", &[("cause", "no_request")], 1.0);
}

#[test]
fn disconnect_inside_the_header_section_is_counted_or_gets_400() {
    let upstream = ok_upstream("");
    let gateway = Gateway::with_upstream(&upstream).start();
    let mut client = gateway.client();
    client.send("GET / HTTP/1.1\r\nho");
    client.shutdown_write();
    match client.try_read(SentRequest::Http11("GET")) {
        Ok(response) => assert_eq!(response.status, 400),
        Err(none) => {
            assert_eq!(none, NoResponse::Closed);
            gateway.expect_metric("closed_without_response_total", &[("cause", "client_gone")], 1.0);
        }
    }
    assert_eq!(upstream.request_count(), 0);
}

#[test]
fn missing_body_gets_400_at_the_body_timeout() {
    let upstream = ok_upstream("must not be served");
    let gateway = Gateway::with_upstream(&upstream).set("client.body_timeout", "300ms").start();
    let started = Instant::now();
    let mut client = gateway.client();
    client.send("POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 10\r\n\r\nabc");
    let response = client.read(SentRequest::Http11("POST"));
    response.assert_local_reply_message(400, "The request was not received in time.");
    assert!(started.elapsed() >= Duration::from_millis(280));
    client.expect_close();
    gateway.expect_metric("errors_total", &[("cause", "client_too_slow")], 1.0);
    assert!(upstream.recording().requests().all(|request| !request.complete));
}
