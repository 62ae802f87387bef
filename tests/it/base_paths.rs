//! Servers with a base path: what they receive, byte for byte, and which requests do not get there.

use statusquo::conformance::RecordedHead;

use super::http2_upstream::echo_server;
use super::prelude::*;

/// Responds with the request line that it got.
fn echo() -> ScriptedUpstream {
    by_request(|request: &RecordedHead| {
        let line = format!("{} {}", request.method, request.target);
        vec![Step::ReadRequestHead, Step::ReadBody, write_bytes(http_response("200 OK", line))]
    })
}

fn with_base(upstream: &ScriptedUpstream, base: &str) -> GatewaySetup {
    let refusing = refusing_port();
    let server = format!("http://{}{base}", upstream.address());
    GatewaySetup::with_servers(&[refusing.address()])
        .with_h2c_listener()
        .named_upstream("app", &[&server])
        .route("name: strip, match: { path: \"/users/{*rest}\" }, upstream: app, strip_prefix: /users")
        .route("name: rewrite, match: { path: \"/old/{*rest}\" }, upstream: app, rewrite: \"/v2/{rest}\"")
        .route("name: lenient, match: { path: \"/l/{*rest}\" }, upstream: app, paths: lenient")
        .route("name: all, match: { path: \"/{*rest}\" }, upstream: app")
}

#[test]
fn base_path_stands_before_the_path_that_the_route_makes() {
    let upstream = echo();
    let gateway = with_base(&upstream, "/api/v1/").start();
    let (mut client, mut h2) = (gateway.client(), gateway.h2_client());
    for (target, expected) in [
        ("/", "/api/v1/"),
        ("/?", "/api/v1/?"),
        ("/a/b?c=//d&e=/../", "/api/v1/a/b?c=//d&e=/../"),
        ("/users", "/api/v1/"),
        ("/users/7?x", "/api/v1/7?x"),
        ("//us%65rs//7//8", "/api/v1/7//8"),
        ("/old/a%2Fb", "/api/v1/v2/a%2Fb"),
        ("/l/a%5Cb", "/api/v1/l/a%5Cb"),
        ("///evil.test/%41", "/api/v1/evil.test/%41"),
        ("/a;b=c/@:~", "/api/v1/a;b=c/@:~"),
    ] {
        client.get(target).assert_response(200, &format!("GET {expected}"));
        h2.get(target).assert_response(200, &format!("GET {expected}"));
    }
    for target in ["/l/../x", "/l/%2e%2E/x", "/l/a/..%2fx", "/l/..;x", "/users/..", "/old/."] {
        let message = "The path of the request is malformed or ambiguous.";
        client.get(target).assert_local_reply_message(400, message);
    }
    // An asterisk has no path.
    let asterisk = "OPTIONS * HTTP/1.1\r\nhost: test\r\n\r\n";
    let response = client.exchange(SentRequest::Http11("OPTIONS"), asterisk);
    assert!(response.status == 404 || response.text() == "OPTIONS *", "{response:?}");
    let recording = upstream.recording();
    assert!(recording.requests().all(|request| request.head.target == "*"
        || (request.head.target.starts_with("/api/v1/") && !request.head.target.starts_with("/api/v1//"))));
    let line = gateway.log_line(|line| line["path"] == "/l/../x");
    assert_eq!(line["cause"], "ambiguous_path");
}

#[test]
fn host_and_health_checks_do_not_have_the_base_path() {
    let upstream = by_request(|request| {
        let text = format!("{} {}", request.header("host").unwrap_or_default(), request.target);
        vec![Step::ReadRequestHead, Step::ReadBody, write_bytes(http_response("200 OK", text))]
    });
    let gateway = with_base(&upstream, "/api")
        .set("upstream.host", "server")
        .set("upstream.health", "{ path: /healthz, every: 100ms }")
        .start();
    let expected = format!("{} /api/x", upstream.address());
    gateway.client().get("/x").assert_response(200, &expected);
    assert!(upstream.wait_until(limit(), |recording| recording.requests_for("/healthz") > 0));
    let label = format!("{}/api", upstream.address());
    gateway.expect_metric("upstream_attempts_total", &[("server", &label), ("result", "ok")], 1.0);
}

#[test]
fn each_server_gets_its_own_base_path_also_after_a_retry_and_a_reload() {
    let (first, second) = (echo(), echo());
    let refusing = refusing_port();
    let servers = [
        format!("http://{}/dead", refusing.address()),
        format!("http://{}/one", first.address()),
        format!("http://{}/two", first.address()),
        second.address().to_string(),
    ];
    let setup = |servers: &[String]| {
        GatewaySetup::with_servers(&[refusing_port().address()])
            .named_upstream("app", &servers.iter().map(String::as_str).collect::<Vec<_>>())
            .set("upstream app.ejection", "off")
            .route("name: all, match: { path: \"/{*rest}\" }, upstream: app")
    };
    let gateway = setup(&servers).start();
    let mut client = gateway.client();
    let mut seen: Vec<String> = (0..8).map(|_| client.get("/x?y").text()).collect();
    seen.sort();
    seen.dedup();
    assert_eq!(seen, ["GET /one/x?y", "GET /two/x?y", "GET /x?y"]);
    assert_eq!(gateway.reload(setup(&[format!("http://{}/three", first.address())])), "applied");
    client.get("/x").assert_response(200, "GET /three/x");
}

#[test]
fn base_path_reaches_an_http2_server() {
    let upstream = echo_server(10);
    let server = format!("http://{}/api", upstream.address());
    let gateway = GatewaySetup::with_servers(&[refusing_port().address()])
        .named_upstream("app", &[&server])
        .set("upstream.http2", "always")
        .route("name: all, match: { path: \"/{*rest}\" }, upstream: app")
        .start();
    let response = gateway.client().get("//a%2Fb?c");
    let uri = response.header("got-uri").unwrap_or_default();
    assert!(uri.ends_with("/api/a%2Fb?c") && !uri.ends_with("//api/a%2Fb?c"), "{uri}");
}
