//! Syntax that the grammar of HTTP does not have, or few clients send, and that has only one reading: it is served, and
//! the upstream receives the target's bytes unchanged.
//!
//! `property/smuggling.rs` checks the same syntax against strict and lenient readers.

use bytes::Bytes;
use h2::server::SendResponse;
use http::Request;

use super::h2_upstream::H2Server;
use super::prelude::*;

const AMBIGUOUS: &str = "The path of the request is malformed or ambiguous.";

/// The octets of a text whose characters are octets.
fn octets(text: &str) -> Vec<u8> {
    text.chars().map(|octet| octet as u8).collect()
}

/// Sends each request line; expects 200, and this request line at the upstream.
#[track_caller]
fn expect_forwarded(setup: impl Fn(GatewaySetup) -> GatewaySetup, lines: &[(&str, &str)]) {
    let upstream = ok_upstream("fine");
    let gateway = setup(Gateway::with_upstream(&upstream)).start();
    for (sent, expected) in lines {
        let mut client = gateway.client();
        client.send(octets(&format!("{sent}\r\nhost: test\r\n\r\n")));
        client.read(SentRequest::Http11("GET")).assert_response(200, "fine");
        let recording = upstream.recording();
        let raw =
            recording.connections.iter().map(|connection| &connection.raw[..]).collect::<Vec<_>>().concat();
        let line = octets(&format!("{expected}\r\nHost: test\r\n"));
        let found = raw.windows(line.len()).any(|window| window == line);
        assert!(found, "{expected:?} in {}", raw.escape_ascii());
    }
}

#[test]
fn raw_octets_of_a_query_are_forwarded_unchanged() {
    let lines: Vec<String> = [
        "filter={\"a\":1}",
        "q=<b>&r=|`^[]\\'",
        "name=caf\u{e9}",
        "name=\u{c3}\u{a9}&x=\u{ff}\u{80}\u{85}\u{a0}",
        "a=%zz%&b=%00%0a",
        "\"\"?\"",
    ]
    .iter()
    .map(|query| format!("GET /q?{query} HTTP/1.1"))
    .collect();
    let lines: Vec<(&str, &str)> = lines.iter().map(|line| (&line[..], &line[..])).collect();
    expect_forwarded(|setup| setup, &lines);
}

#[test]
fn minor_versions_and_default_ports_have_one_reading() {
    expect_forwarded(
        |setup| setup,
        &[
            ("GET /a HTTP/1.2", "GET /a HTTP/1.1"),
            ("GET /b HTTP/1.9", "GET /b HTTP/1.1"),
            ("GET http://test:80/c HTTP/1.1", "GET /c HTTP/1.1"),
            ("GET http://TEST/d?x HTTP/1.1", "GET /d?x HTTP/1.1"),
            ("GET http://test:/e HTTP/1.1", "GET /e HTTP/1.1"),
            ("GET https://test:443/f HTTP/1.1", "GET /f HTTP/1.1"),
        ],
    );
}

#[test]
fn lenient_route_forwards_encoded_backslashes_and_control_octets() {
    let lenient = |setup: GatewaySetup| {
        setup.route("name: all, match: { path: \"/{*rest}\" }, upstream: main, paths: lenient")
    };
    let lines: Vec<String> =
        ["/users/CORP%5Cjdoe", "/key%0Aname", "/a%0d%0Ab%09%7f", "/%5c../%1f", "/../%5C"]
            .iter()
            .map(|path| format!("GET {path} HTTP/1.1"))
            .collect();
    let lines: Vec<(&str, &str)> = lines.iter().map(|line| (&line[..], &line[..])).collect();
    expect_forwarded(lenient, &lines);
    let upstream = ok_upstream("must not be reached");
    let gateway = lenient(Gateway::with_upstream(&upstream)).start();
    for path in ["/%00", "/a%5C%00", "/a\\b", "/%0"] {
        gateway.client().get(path).assert_local_reply_message(400, AMBIGUOUS);
    }
    let strict = Gateway::with_upstream(&upstream).start();
    for path in ["/users/CORP%5Cjdoe", "/key%0Aname", "/%7f"] {
        strict.client().get(path).assert_local_reply_message(400, AMBIGUOUS);
    }
    strict.expect_metric("errors_total", &[("cause", "ambiguous_path")], 3.0);
    assert_eq!(upstream.request_count(), 0);
}

#[test]
fn encoded_slash_that_hides_another_route_is_ambiguous() {
    let (site, admin) = (ok_upstream("site"), ok_upstream("admin"));
    let gateway = Gateway::with_upstream(&site)
        .upstream("admin", &[admin.address()])
        .route("name: admin, match: { path: \"/admin/{*rest}\" }, upstream: admin, allow_from: [192.0.2.1]")
        .route("name: posts, match: { path: \"/posts/{id}\", methods: [POST] }, upstream: main")
        .route("name: files, match: { path: \"/files/{*rest}\" }, upstream: main")
        .route("name: project, match: { path: \"/projects/{id}\" }, upstream: main")
        .route("name: issues, match: { path: \"/projects/{id}/issues\" }, upstream: main")
        .route("name: page, match: { path: \"/{page}\" }, upstream: main")
        .start();
    let mut client = gateway.client();
    for path in ["/admin%2Fusers", "/%2fadmin%2fusers", "/projects/7%2Fissues", "/posts%2F7", "/admin%2F"] {
        client.get(path).assert_local_reply_message(400, AMBIGUOUS);
    }
    gateway.expect_metric("errors_total", &[("cause", "ambiguous_path")], 5.0);
    for path in ["/files/a%2Fb", "/files/%2F", "/projects/group%2Fname", "/a%2Fb", "/a%252Fb", "/b?admin%2Fx"]
    {
        client.get(path).assert_response(200, "site");
    }
    assert_eq!(admin.request_count(), 0);
}

#[test]
fn empty_lines_around_requests_are_ignored() {
    let upstream = ok_upstream("fine");
    let gateway = Gateway::with_upstream(&upstream).start();
    let mut client = gateway.client();
    for (before, after) in [("\n", "\r\n\r\n"), ("\r\n\r\n", "\n"), ("\r\r\n", "\r\n\r\n\n\n"), ("", "\r")] {
        let post = "POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 2\r\n\r\naa";
        client
            .exchange(SentRequest::Http11("POST"), format!("{before}{post}{after}"))
            .assert_response(200, "fine");
    }
    client.get("/").assert_response(200, "fine");
    client.send("\r\n\r\n");
    client.shutdown_write();
    client.expect_close();
    gateway.expect_metric("responses_total", &[("code", "400")], 0.0);
    assert_eq!(upstream.request_count(), 5);
}

#[test]
fn empty_lines_count_towards_the_size_limit_and_restart_no_time_limit() {
    let upstream = ok_upstream("fine");
    let gateway = Gateway::with_upstream(&upstream)
        .set("client.max_header_bytes", "4KiB")
        .set("client.idle_timeout", "600ms")
        .start();
    let mut client = gateway.client();
    client.send("\r\n".repeat(2048));
    assert_eq!(client.read(SentRequest::Http11("GET")).status, 400);
    gateway.expect_metric("errors_total", &[("cause", "header_too_large")], 1.0);
    let mut client = gateway.client();
    client.get("/").assert_response(200, "fine");
    // More often than the idle timeout; the writes after the close fail.
    for _ in 0..40 {
        if client.try_send("\r\n").is_err() {
            break;
        }
        std::thread::sleep(millis(50));
    }
    client.read_close();
    gateway.expect_metric("closed_without_response_total", &[("cause", "idle_timeout")], 1.0);
}

#[test]
fn chunk_lines_may_have_zeros_and_white_space() {
    let upstream = ok_upstream("fine");
    let gateway = Gateway::with_upstream(&upstream).start();
    let zeros = "0".repeat(300);
    for body in [
        "0000000000000005\r\nhello\r\n0\r\n\r\n".to_owned(),
        format!("{zeros}5\r\nhello\r\n{zeros}\r\n\r\n"),
        "5 ; a = b\r\nhello\r\n0 ; c\r\n\r\n".to_owned(),
        "2\t;\ta\r\nhe\r\n03 ;b=\"c ; d\" ; e\r\nllo\r\n000\t;\r\n\r\n".to_owned(),
    ] {
        let head = "POST / HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n";
        gateway
            .client()
            .exchange(SentRequest::Http11("POST"), format!("{head}{body}"))
            .assert_response(200, "fine");
        assert_eq!(upstream.recording().requests().last().unwrap().body, b"hello", "{body}");
    }
}

async fn respond_over_h2(request: Request<h2::RecvStream>, mut send: SendResponse<Bytes>) {
    let target = request.uri().path_and_query().map(ToString::to_string).unwrap_or_default();
    let Ok(mut body) = send.send_response(http::Response::new(()), false) else { return };
    let _ = body.send_data(Bytes::from(target), true);
}

#[test]
fn http2_upstream_receives_the_queries_that_http2_can_carry() {
    let server = H2Server::with(8, respond_over_h2);
    let gateway = GatewaySetup::with_servers(&[server.address()]).set("upstream.http2", "always").start();
    for query in ["a={b}|`^[]\\", "name=%22", "x=%zz"] {
        let target = format!("/q?{query}");
        gateway.client().get(&target).assert_response(200, &target);
    }
    // An upstream that uses only HTTP/2 cannot receive these.
    for query in ["a=\"b\"", "a=<b>", "caf\u{e9}\u{ff}"] {
        let mut client = gateway.client();
        client.send(octets(&format!("GET /q?{query} HTTP/1.1\r\nhost: test\r\n\r\n")));
        assert_eq!(client.read(SentRequest::Http11("GET")).status, 400, "{query}");
    }
    gateway.expect_metric("errors_total", &[("cause", "malformed_request_line")], 3.0);
}
