//! Retries over HTTP/2: which connection a request is sent on again, and what is recorded of the try before.

use std::sync::Arc;
use std::sync::Barrier;

use http::{Request, Response};
use serde_json::Value;

use super::h2_upstream::{H2Server, RST_STREAM, RawH2Connection, RawH2Server};
use super::http2_upstream::raw_server_setup;
use super::prelude::*;

const EIGHT: [&str; 8] = ["/1", "/2", "/3", "/4", "/5", "/6", "/7", "/8"];

/// Connections are opened one at a time: a storm of retries must not wait for a connection each.
#[test]
fn retries_share_the_open_connection_of_the_other_server() {
    let busy = H2Server::with(100, |_: Request<_>, mut respond| async move {
        let _ = respond.send_response(Response::builder().status(503).body(()).unwrap(), true);
    });
    let refusing = refusing_port();
    for failing in [busy.address(), refusing.address()] {
        // No response is sent before all requests have arrived: the connection is in use.
        let all = Arc::new(tokio::sync::Barrier::new(EIGHT.len()));
        let other = H2Server::with(100, move |_, mut respond| {
            let all = Arc::clone(&all);
            async move {
                all.wait().await;
                let _ = respond.send_response(Response::new(()), true);
            }
        });
        let gateway = GatewaySetup::with_servers(&[failing, other.address()])
            .set("upstream.http2", "always")
            .set("upstream.retry", "{ attempts: 2, on_status: [503] }")
            .set("upstream.ejection", "off")
            .with_h2c_listener()
            .start();
        for response in gateway.h2_client().get_all(&EIGHT) {
            response.assert_response(200, "");
        }
        assert_eq!(other.connections(), 1);
        gateway.expect_metric("upstream_retries_total", &[("result", "ok")], 4.0);
        gateway.expect_metrics_match_responses();
    }
}

/// A connection whose streams are refused may never accept one again: the last try gets another one.
#[test]
fn last_try_of_a_refused_request_gets_another_connection() {
    let upstream = RawH2Server::with_script(|connection| {
        if connection.index > 0 {
            return connection.serve_all();
        }
        connection.read_preface()?;
        connection.send_settings(&[])?;
        loop {
            let stream = connection.next_request()?;
            connection.send_frame(RST_STREAM, 0, stream, &[0, 0, 0, 7])?;
        }
    });
    let gateway = raw_server_setup(&upstream).start();
    gateway.client().request("POST", "/", "", "body").assert_response(200, "fine");
    assert_eq!((upstream.connections(), upstream.requests()), (2, 4));
}

/// The second request opens a connection, which leaves it unprocessed, and is sent again on the first one.
#[test]
fn connect_time_of_a_connection_that_is_given_up_is_not_logged() {
    let (opened, widened) = (Arc::new(Barrier::new(2)), Arc::new(Barrier::new(2)));
    let upstream = RawH2Server::with_script(move |connection| {
        connection.read_preface()?;
        if connection.index == 0 {
            first_connection(connection, &opened, &widened)
        } else {
            connection.send_settings(&[])?;
            connection.next_request()?;
            opened.wait();
            widened.wait();
            connection.send_goaway(0, 0)?;
            connection.read_until_closed()
        }
    });
    let gateway = raw_server_setup(&upstream).with_h2c_listener().set("log.requests", "all").start();
    for response in gateway.h2_client().get_all(&["/1", "/2"]) {
        response.assert_response(200, "fine");
    }
    assert_eq!((upstream.connections(), upstream.requests()), (2, 3));
    let opening = |line: &Value| line["code"] == 200 && !line["connect_ms"].is_null();
    gateway.log_line(opening);
    let reusing = |line: &Value| line["code"] == 200 && line["connect_ms"].is_null();
    gateway.log_line(reusing);
}

/// Allows one stream until the other connection has a request, and then more.
fn first_connection(connection: &mut RawH2Connection, opened: &Barrier, widened: &Barrier) -> Option<()> {
    connection.send_settings(&[(3, 1)])?;
    let first = connection.next_request()?;
    opened.wait();
    connection.send_settings(&[(3, 10)])?;
    connection.ping_and_wait()?;
    widened.wait();
    let second = connection.next_request()?;
    connection.send_ok_response(first)?;
    connection.send_ok_response(second)?;
    connection.read_until_closed()
}
