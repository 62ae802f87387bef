//! Trailers from HTTP/2 to HTTP/2, and gRPC calls, whose errors are sent as gRPC statuses.
//!
//! `tests/sdks/grpc.rs` tests a real gRPC client and server.

use bytes::Bytes;
use http::{HeaderMap, Request, Response};

use super::connections::hold_place;
use super::h2_client::H2Client;
use super::h2_upstream::{H2Server, RST_STREAM, RawH2Server};
use super::http2_upstream::{h2_server_setup, raw_server_setup};
use super::prelude::*;

#[test]
fn trailers_are_forwarded_from_http2_to_http2() {
    let upstream = H2Server::with(100, |_, mut respond| async move {
        let mut send = respond.send_response(Response::new(()), false).unwrap();
        send.send_data(Bytes::from_static(b"body"), false).unwrap();
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", "0".parse().unwrap());
        trailers.insert("x-sum", "abc".parse().unwrap());
        send.send_trailers(trailers).unwrap();
    });
    let gateway = h2_server_setup(&upstream).start();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (body, trailers) = runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(gateway.h2_address()).await.unwrap();
        let (mut send, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(async move { drop(connection.await) });
        let request = Request::builder().uri("http://test/").body(()).unwrap();
        let (response, _) = send.send_request(request, true).unwrap();
        let mut body = response.await.unwrap().into_body();
        let data = body.data().await.unwrap().unwrap();
        assert!(body.data().await.is_none());
        (data, body.trailers().await.unwrap().unwrap())
    });
    assert_eq!(
        (&body[..], trailers["grpc-status"].as_bytes(), trailers["x-sum"].as_bytes()),
        (&b"body"[..], &b"0"[..], &b"abc"[..])
    );
    gateway.client().get("/").assert_response(200, "body");
}

#[test]
fn request_trailers_are_forwarded_except_header_only_fields() {
    let upstream = H2Server::with(100, |request, mut respond| async move {
        let mut body = request.into_body();
        while let Some(Ok(piece)) = body.data().await {
            let _ = body.flow_control().release_capacity(piece.len());
        }
        let trailers = body.trailers().await.ok().flatten().unwrap_or_default();
        let mut names: Vec<_> =
            trailers.iter().map(|(name, value)| format!("{name}={}", value.to_str().unwrap())).collect();
        names.sort_unstable();
        let mut send = respond.send_response(Response::new(()), false).unwrap();
        let _ = send.send_data(Bytes::from(names.join(" ")), true);
    });
    let gateway = h2_server_setup(&upstream).start();
    let trailers = [
        ("x-sum", "abc"),
        ("x-sum", "def"),
        ("grpc-x", "1"),
        ("authorization", "Basic x"),
        ("x-forwarded-for", "1.2.3.4"),
        ("x_forwarded_for", "1.2.3.4"),
        ("forwarded", "for=1.2.3.4"),
        ("host", "other"),
        ("content-length", "9"),
        ("x-request-id", "mine"),
        ("via", "1.1 x"),
    ];
    for body in ["", "body"] {
        let received = with_trailers(gateway.h2_address(), body, &trailers);
        assert_eq!(received.unwrap(), "grpc-x=1 x-sum=abc x-sum=def", "{body:?}");
    }
    // Trailers from HTTP/1 are discarded.
    let mut client = gateway.client();
    client.send("POST / HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nx-sum: abc\r\n\r\n");
    client.read(super::response_reader::SentRequest::Http11("POST")).assert_response(200, "");
    client.get("/").assert_response(200, "");

    let long = "x".repeat(17 * 1024);
    let refused = with_trailers(gateway.h2_address(), "body", &[("x-long", &long)]);
    assert_eq!(refused.unwrap(), r#"{"message":"The request body is malformed or incomplete.","code":400}"#);
}

/// The response body of a POST request with these trailers.
fn with_trailers(
    gateway: std::net::SocketAddr,
    body: &'static str,
    trailers: &[(&str, &str)],
) -> Result<String, h2::Error> {
    let mut map = HeaderMap::new();
    for (name, value) in trailers {
        map.append(http::HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(gateway).await.unwrap();
        let (mut send, connection) = h2::client::handshake(stream).await?;
        tokio::spawn(async move { drop(connection.await) });
        let request = Request::builder().method("POST").uri("http://test/").body(()).unwrap();
        let (response, mut stream) = send.send_request(request, false)?;
        if !body.is_empty() {
            stream.send_data(Bytes::from_static(body.as_bytes()), false)?;
        }
        stream.send_trailers(map)?;
        let mut body = response.await?.into_body();
        let mut received = Vec::new();
        while let Some(piece) = body.data().await {
            received.extend_from_slice(&piece?);
        }
        Ok(String::from_utf8(received).unwrap())
    })
}

#[test]
fn request_trailers_are_resent_on_retry() {
    let upstream = RawH2Server::with_script(|connection| {
        connection.read_preface()?;
        connection.send_settings(&[])?;
        let first = connection.next_request()?;
        // The trailers: a second HEADERS frame.
        assert_eq!(connection.next_request()?, first);
        connection.send_frame(RST_STREAM, 0, first, &[0, 0, 0, 7])?;
        let second = connection.next_request()?;
        assert_eq!(connection.next_request()?, second);
        connection.send_ok_response(second)?;
        connection.read_until_closed()
    });
    let gateway = raw_server_setup(&upstream).with_h2c_listener().start();
    assert_eq!(with_trailers(gateway.h2_address(), "body", &[("x-sum", "1")]).unwrap(), "fine");
    assert_eq!((upstream.connections(), upstream.requests()), (1, 4));
}

/// Makes a gRPC call; returns the response, grpc-status and grpc-message.
fn call(client: &mut H2Client, path: &str) -> (HttpResponse, String, String) {
    call_with(client, path, &[])
}

/// Like `call`, with more header fields.
fn call_with(client: &mut H2Client, path: &str, more: &[(&str, &str)]) -> (HttpResponse, String, String) {
    let grpc_fields = [("content-type", "application/grpc+proto"), ("te", "trailers")];
    let response = client.request("POST", path, &[&grpc_fields, more].concat(), Bytes::from_static(&[0; 5]));
    assert_eq!(
        (response.status, response.header("content-type"), response.body.len()),
        (200, Some("application/grpc"), 0)
    );
    assert_eq!(
        (response.header("cache-control"), response.header("content-length")),
        (Some("no-store"), None)
    );
    let field = |name: &str| response.header(name).unwrap_or_default().to_owned();
    let (status, message) = (field("grpc-status"), field("grpc-message"));
    (response, status, message)
}

#[test]
fn grpc_client_gets_every_error_as_grpc_status() {
    let upstream = H2Server::with(100, |request: Request<_>, mut respond| async move {
        let path = request.uri().path().to_owned();
        if path == "/hang" {
            std::future::pending::<()>().await;
        }
        let (status, body) = match path.as_str() {
            "/own" => (404, r#"{"message":"No such 100 % order.","code":404}"#),
            "/busy" => (503, "<html>"),
            _ => (502, "<html>"),
        };
        let head =
            Response::builder().status(status).header("content-type", "application/json").body(()).unwrap();
        let mut send = respond.send_response(head, false).unwrap();
        let _ = send.send_data(Bytes::from_static(body.as_bytes()), true);
    });
    let refusing = refusing_port();
    let gateway = h2_server_setup(&upstream)
        .upstream("refusing", &[refusing.address()])
        .set("timeouts.response_headers", "300ms")
        .set("rate_limits.one", "{ key: [client_ip], allow: 1 per 1h }")
        .route("name: refused, match: { path: /refused }, upstream: refusing")
        .route("name: limited, match: { path: /limited }, upstream: refusing, rate_limits: [one]")
        .route("name: main, match: { path: \"/main/{*rest}\" }, upstream: main")
        .route("name: hang, match: { path: /hang }, upstream: main")
        .route("name: own, match: { path: /own }, upstream: main")
        .route("name: busy, match: { path: /busy }, upstream: main")
        .start();
    let mut client = gateway.h2_client();
    let text = super::contract_check::default_message;
    for (path, status, message, cause) in [
        ("/nowhere", "12", text(404), "destination_not_found"),
        ("/refused", "14", text(504), "connection_refused"),
        ("/hang", "4", text(504), "http_response_timeout"),
        ("/main/x", "14", text(504), "upstream_response"),
        ("/busy", "14", text(503), "upstream_response"),
        ("/own", "12", "No such 100 %25 order.", "upstream_response"),
    ] {
        let (_, grpc_status, grpc_message) = call(&mut client, path);
        assert_eq!((grpc_status.as_str(), grpc_message.as_str()), (status, message), "{path}");
        gateway.expect_metric(
            "grpc_errors_total",
            &[
                ("cause", cause),
                ("grpc_status", status),
                (
                    "route",
                    if path == "/nowhere" {
                        "none"
                    } else {
                        path.trim_start_matches('/').split('/').next().unwrap()
                    },
                ),
            ],
            1.0,
        );
    }
    call(&mut client, "/limited");
    let (limited, status, message) = call(&mut client, "/limited");
    assert_eq!((status.as_str(), message.as_str()), ("8", text(429)));
    assert!(limited.header("retry-after").is_some() && limited.header("x-ratelimit-limit").is_some());
    // gRPC-Web on HTTP/1, whose messages have a length prefix.
    let web =
        gateway.client().request("POST", "/refused", "content-type: application/grpc-web+proto\r\n", "12345");
    assert_eq!(
        (web.status, web.header("grpc-status"), web.header("content-length")),
        (200, Some("14"), Some("0"))
    );
    gateway.expect_metric("errors_total", &[], 0.0);
    gateway.expect_metrics_match_responses();
}

/// Also for requests that are rejected before a route is selected.
#[test]
fn malformed_grpc_call_gets_a_grpc_status() {
    let gateway = GatewaySetup::with_servers(&[refusing_port().address()]).with_h2c_listener().start();
    let mut client = gateway.h2_client();
    let long = "x".repeat(70_000);
    for (path, field, status, cause, message) in [
        ("/a/../b", ("x", "y"), "3", "ambiguous_path", "The path of the request is malformed or ambiguous."),
        (
            "/",
            ("host", "other"),
            "3",
            "invalid_host",
            "The Host of the request is missing, repeated or malformed.",
        ),
        ("/", ("x", &long), "8", "header_too_large", "The header fields of the request are too large."),
        (
            "/",
            ("expect", "miracles"),
            "3",
            "unsupported_expectation",
            "The expectation of the request cannot be met.",
        ),
    ] {
        let (_, grpc_status, grpc_message) = call_with(&mut client, path, &[field]);
        assert_eq!((grpc_status.as_str(), grpc_message.as_str()), (status, message), "{path} {}", field.0);
        let labels = [("cause", cause), ("grpc_status", status), ("route", "none")];
        gateway.expect_metric("grpc_errors_total", &labels, 1.0);
    }
    let response =
        gateway.client().request("POST", "/a/../b", "content-type: application/grpc-web\r\n", "12345");
    assert_eq!((response.status, response.header("grpc-status"), response.body.len()), (200, Some("3"), 0));
    gateway.expect_metric("errors_total", &[], 0.0);

    let overloaded = GatewaySetup::with_servers(&[refusing_port().address()])
        .with_h2c_listener()
        .set("client.max_connections", "1")
        .start();
    let _only = hold_place(&overloaded, 1);
    assert_eq!(call(&mut overloaded.h2_client(), "/").1, "14");
    let labels = [("cause", "connection_limit_reached"), ("grpc_status", "14")];
    overloaded.expect_metric("grpc_errors_total", &labels, 1.0);
}

/// The media types of gRPC-Web requests, and that of errors.
const GRPC_WEB_TYPES: [(&str, &str); 5] = [
    ("application/grpc-web", "application/grpc-web"),
    ("application/grpc-web+proto", "application/grpc-web"),
    ("application/grpc-web-text", "application/grpc-web-text"),
    ("Application/gRPC-Web-Text+proto; charset=utf-8", "application/grpc-web-text"),
    ("application/grpc+proto", "application/grpc"),
];

#[test]
fn grpc_web_errors_have_its_media_type_and_are_readable_by_pages() {
    let upstream = super::scripted_upstreams::html_upstream("503 Service Unavailable");
    let gateway = GatewaySetup::with_servers(&[upstream.address()])
        .upstream("down", &[refusing_port().address()])
        .route("name: down, match: { path: /down }, upstream: down, cors: default")
        .route("name: up, match: { path: /up }, upstream: main, cors: default")
        .set("cors", "{ allow_origins: [\"https://app.example.com\"], expose_headers: [x-total] }")
        .with_h2c_listener()
        .start();
    for (sent, received) in GRPC_WEB_TYPES {
        for (path, status) in [("/down", "14"), ("/up", "14"), ("/none", "12")] {
            let fields = format!("content-type: {sent}\r\norigin: https://app.example.com\r\n");
            let h1 = gateway.client().request("POST", path, &fields, "\0\0\0\0\0");
            let h2_fields = [("content-type", sent), ("origin", "https://app.example.com")];
            let h2 = gateway.h2_client().request("POST", path, &h2_fields, Bytes::from_static(&[0; 5]));
            for response in [h1, h2] {
                assert_eq!((response.status, response.text().as_str()), (200, ""), "{sent} {path}");
                assert_eq!(response.header("content-type"), Some(received), "{path}");
                assert_eq!(response.header("grpc-status"), Some(status), "{sent} {path}");
                assert!(response.header("grpc-message").is_some_and(|message| !message.is_empty()));
                assert_eq!(response.header("x-content-type-options"), None);
                assert_eq!(response.header("access-control-allow-origin"), Some("https://app.example.com"));
                let exposed = response.header("access-control-expose-headers").unwrap().to_ascii_lowercase();
                let exposed: Vec<_> = exposed.split(", ").collect();
                for name in ["grpc-status", "grpc-message", "grpc-status-details-bin"] {
                    assert_eq!(
                        exposed.contains(&name),
                        received != "application/grpc",
                        "{sent}: {exposed:?}"
                    );
                }
                assert!(exposed.contains(&"x-total") && exposed.contains(&"x-request-id"), "{exposed:?}");
            }
        }
    }
}

#[test]
fn malformed_grpc_web_request_gets_its_media_type() {
    let gateway = GatewaySetup::with_servers(&[refusing_port().address()])
        .set("cors", "{ allow_origins: [\"https://app.example.com\"] }")
        .start();
    let mut client = gateway.client();
    let response = client.exchange(
        super::response_reader::SentRequest::Http11("POST"),
        "POST /../x HTTP/1.1\r\nhost: test\r\ncontent-type: application/grpc-web-text\r\n\
         origin: https://app.example.com\r\n\r\n",
    );
    assert_eq!((response.status, response.header("content-type")), (200, Some("application/grpc-web-text")));
    assert_eq!(response.header("grpc-status"), Some("3"));
    let exposed = response.header("access-control-expose-headers").unwrap();
    assert!(exposed.contains("grpc-status-details-bin"), "{exposed}");
}

#[test]
fn forwarded_grpc_web_response_exposes_its_status() {
    let upstream = super::scripted_upstreams::static_response(
        "HTTP/1.1 200 OK\r\ncontent-type: application/grpc-web+proto\r\ngrpc-status: 5\r\ngrpc-message: gone\r\n\
         access-control-expose-headers: x-sum\r\ncontent-length: 0\r\n\r\n",
    );
    let gateway = GatewaySetup::with_servers(&[upstream.address()])
        .route("name: all, match: { path: \"/{*rest}\" }, upstream: main, cors: default")
        .set("cors", "{ allow_origins: [\"https://app.example.com\"] }")
        .start();
    let fields = "content-type: application/grpc-web+proto\r\norigin: https://app.example.com\r\n";
    let response = gateway.client().request("POST", "/", fields, "\0\0\0\0\0");
    assert_eq!((response.status, response.header("grpc-status")), (200, Some("5")));
    let exposed = response.header("access-control-expose-headers").unwrap();
    assert!(exposed.ends_with("grpc-status, grpc-message, grpc-status-details-bin, x-sum"), "{exposed}");
    let plain = gateway.client().request("GET", "/", "origin: https://app.example.com\r\n", "");
    assert!(!plain.header("access-control-expose-headers").unwrap().contains("grpc"));
}
