//! The fields that report the client and its connection to the upstream, and what the gateway adds to forwarded
//! responses.

use bytes::Bytes;
use h2::server::SendResponse;
use http::Request;
use statusquo::conformance::RecordedHead;

use super::h2_upstream::H2Server;
use super::prelude::*;

const TRUSTED: (&str, &str) = ("client.trusted_proxies", "[127.0.0.0/8]");

/// The head of a GET for the host `app.test` with these fields, as the upstream receives it.
#[track_caller]
fn received(setup: impl Fn(GatewaySetup) -> GatewaySetup, fields: &str) -> (RecordedHead, u16) {
    let upstream = ok_upstream("");
    let gateway = setup(Gateway::with_upstream(&upstream)).start();
    let request = format!("GET / HTTP/1.1\r\nhost: app.test\r\n{fields}\r\n");
    assert_eq!(gateway.client().exchange(SentRequest::Http11("GET"), request).status, 200);
    let head = upstream.recording().requests().next().unwrap().head.clone();
    (head, gateway.address().port())
}

/// The fields about the client, in a fixed order; absent ones are empty.
fn forwarded(head: &RecordedHead) -> [&str; 6] {
    ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-port", "x-real-ip", "forwarded"]
        .map(|name| head.header(name).unwrap_or_default())
}

const CLAIMS: &str = "x-forwarded-for: 192.0.2.7\r\nx-forwarded-proto: https\r\nx-forwarded-port: 443\r\n\
    x-forwarded-host: shop.example\r\nforwarded: for=192.0.2.9;proto=https;host=evil\r\nx-real-ip: 192.0.2.8\r\n";

#[test]
fn claims_of_an_untrusted_peer_are_replaced_by_the_connection() {
    for fields in [CLAIMS.to_owned(), CLAIMS.replace('-', "_"), String::new()] {
        let (head, port) = received(|setup| setup, &fields);
        let port = port.to_string();
        let expected =
            ["127.0.0.1", "http", "app.test", &port, "127.0.0.1", "for=127.0.0.1;host=app.test;proto=http"];
        assert_eq!(forwarded(&head), expected);
        let text = String::from_utf8_lossy(&head.raw).into_owned();
        assert!(!text.contains("192.0.2") && !text.contains("https"), "{text}");
    }
}

#[test]
fn trusted_headers_of_a_trusted_proxy_are_used() {
    let trusted = |setup: GatewaySetup| setup.set(TRUSTED.0, TRUSTED.1);
    let (head, _) = received(trusted, CLAIMS);
    let expected =
        ["192.0.2.7", "https", "app.test", "443", "192.0.2.7", "for=192.0.2.7;host=app.test;proto=https"];
    assert_eq!(forwarded(&head), expected);
    // A proxy that reports only the scheme means its default port.
    let (head, _) = received(trusted, "x-forwarded-proto: https\r\nx-forwarded-user: kim\r\n");
    let expected =
        ["127.0.0.1", "https", "app.test", "443", "127.0.0.1", "for=127.0.0.1;host=app.test;proto=https"];
    assert_eq!(forwarded(&head), expected);
    assert_eq!(head.header("x-forwarded-user"), Some("kim"));
    let hosts = |setup: GatewaySetup| trusted(setup).set("client.trusted_headers", "[x-forwarded-host]");
    let (head, _) = received(hosts, CLAIMS);
    let expected = [
        "127.0.0.1",
        "http",
        "shop.example",
        "80",
        "127.0.0.1",
        "for=127.0.0.1;host=shop.example;proto=http",
    ];
    assert_eq!(forwarded(&head), expected);
    let rfc = |setup: GatewaySetup| trusted(setup).set("client.trusted_headers", "[forwarded]");
    let (head, _) =
        received(rfc, "forwarded: for=\"[2001:db8::1]:4711\";proto=https;host=\"b.example:8443\"\r\n");
    let expected = [
        "2001:db8::1",
        "https",
        "b.example:8443",
        "8443",
        "2001:db8::1",
        "for=\"[2001:db8::1]\";host=\"b.example:8443\";proto=https",
    ];
    assert_eq!(forwarded(&head), expected);
}

#[test]
fn application_that_redirects_to_https_does_not_loop_behind_a_proxy() {
    let upstream = by_request(|head| {
        let response = match head.header("x-forwarded-proto") {
            Some("https") => http_response("200 OK\ncontent-type: text/plain", "secure"),
            _ => http_response("301 Moved\nlocation: https://app.test/", ""),
        };
        vec![write_bytes(response)]
    });
    let gateway = Gateway::with_upstream(&upstream).set(TRUSTED.0, TRUSTED.1).start();
    let behind = "x-forwarded-for: 192.0.2.7\r\nx-forwarded-proto: https\r\nx-forwarded-port: 443\r\n";
    gateway.client().request("GET", "/", behind, "").assert_response(200, "secure");
    assert_eq!(gateway.client().get("/").status, 301);
}

#[test]
fn request_id_of_a_trusted_proxy_is_used_if_it_is_well_formed() {
    for (id, used) in [
        ("a1B2.c3:d4_e5-f6", true),
        ("12345678", true),
        ("1234567", false),
        ("with space in it", false),
        ("semi;colon", false),
    ] {
        let (head, _) = received(|setup| setup.set(TRUSTED.0, TRUSTED.1), &format!("x-request-id: {id}\r\n"));
        assert_eq!(head.header("x-request-id") == Some(id), used, "{id}");
    }
}

#[test]
fn trace_context_is_forwarded_and_never_invented() {
    let (head, _) = received(|setup| setup, "");
    assert_eq!((head.header("traceparent"), head.header("tracestate")), (None, None));
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let (head, _) = received(|setup| setup, &format!("traceparent: {trace}\r\ntracestate: a=1,b=2\r\n"));
    assert_eq!((head.header("traceparent"), head.header("tracestate")), (Some(trace), Some("a=1,b=2")));
}

#[test]
fn via_can_be_off_and_the_host_can_be_chosen() {
    let (head, _) = received(|setup| setup, "via: 1.1 front\r\n");
    assert_eq!(head.header("host"), Some("app.test"));
    assert!(String::from_utf8_lossy(&head.raw).contains("1.1 statusquo-"), "{head:?}");
    let (head, _) = received(|setup| setup.set("upstream.via", "off"), "via: 1.1 front\r\n");
    assert_eq!(head.header("via"), None);
    let (head, _) = received(|setup| setup.set("upstream.host", "api.internal:8000"), "");
    assert_eq!(
        (head.header("host"), head.header("x-forwarded-host")),
        (Some("api.internal:8000"), Some("app.test"))
    );
    let upstream = ok_upstream("");
    let gateway = Gateway::with_upstream(&upstream).set("upstream.host", "server").start();
    assert_eq!(gateway.client().get("/").status, 200);
    let host = upstream.address().to_string();
    assert_eq!(upstream.recording().requests().next().unwrap().head.header("host"), Some(&host[..]));
}

#[test]
fn http2_upstream_receives_the_same_fields() {
    async fn respond(request: Request<h2::RecvStream>, mut send: SendResponse<Bytes>) {
        let names = [
            "x-forwarded-for",
            "x-forwarded-proto",
            "x-forwarded-host",
            "x-forwarded-port",
            "x-real-ip",
            "forwarded",
            "via",
            "traceparent",
        ];
        let value = |name| request.headers().get(name).map_or("-", |value| value.to_str().unwrap());
        let mut text: Vec<&str> = names.iter().map(|name| value(*name)).collect();
        text.push(request.uri().authority().unwrap().as_str());
        let text = text.join(" ");
        let Ok(mut body) = send.send_response(http::Response::new(()), false) else { return };
        let _ = body.send_data(Bytes::from(text), true);
    }
    let server = H2Server::with(8, respond);
    let gateway = GatewaySetup::with_servers(&[server.address()])
        .set("upstream.http2", "always")
        .set("upstream.via", "off")
        .set("upstream.host", "api.internal")
        .set(TRUSTED.0, TRUSTED.1)
        .start();
    gateway.client().request("GET", "/", CLAIMS, "").assert_response(
        200,
        "192.0.2.7 https test 443 192.0.2.7 for=192.0.2.7;host=test;proto=https - - api.internal",
    );
}

#[test]
fn forwarded_responses_keep_the_request_id_and_get_a_date() {
    let upstream = static_response(http_response("200 OK\nx-request-id: upstream-1", "fine"));
    let gateway = Gateway::with_upstream(&upstream).set("log.requests", "all").with_h2c_listener().start();
    for response in [gateway.client().get("/"), gateway.h2_client().get("/")] {
        assert_eq!(response.header("x-request-id"), Some("upstream-1"), "{response:?}");
        assert!(response.header("date").is_some_and(|date| date.ends_with(" GMT")), "{response:?}");
    }
    let sent =
        upstream.recording().requests().next().unwrap().head.header("x-request-id").unwrap().to_owned();
    gateway.log_line(|line| line["request_id"] == sent);
    let dated = "Tue, 15 Nov 1994 08:12:31 GMT";
    let upstream = static_response(http_response(&format!("200 OK\nDate: {dated}"), "fine"));
    let gateway = Gateway::with_upstream(&upstream).start();
    let response = gateway.client().get("/");
    let dates: Vec<_> =
        response.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("date")).collect();
    assert_eq!((dates.len(), response.header("date")), (1, Some(dated)));
    assert!(response.header("x-request-id").is_some());
}

#[test]
fn response_without_content_keeps_its_content_type() {
    let upstream = super::scripted_upstreams::script([
        Step::ReadRequestHead,
        write_bytes("HTTP/1.1 204 No Content\r\ncontent-type: application/json\r\netag: \"1\"\r\n\r\n"),
    ]);
    let gateway = Gateway::with_upstream(&upstream).with_h2c_listener().start();
    for response in [gateway.client().get("/"), gateway.h2_client().get("/")] {
        assert_eq!((response.status, response.header("content-type")), (204, Some("application/json")));
        assert_eq!(response.header("etag"), Some("\"1\""));
    }
}
