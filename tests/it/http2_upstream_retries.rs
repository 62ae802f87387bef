//! Retries over HTTP/2: which connection a request is sent on again, and what is recorded of the try before.

use std::sync::Arc;

use http::{Request, Response};

use super::h2_upstream::{H2Server, RST_STREAM, RawH2Server};
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

/// A connection whose streams are refused may be of no use any more: the last try gets another one.
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
