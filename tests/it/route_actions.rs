//! What a route does besides forwarding: conditions, path rewrites, header edits, redirects, maintenance, access rules.

use super::prelude::*;

/// Responds with its name, the request line and the `x-` fields that it got.
fn echo(name: &'static str) -> ScriptedUpstream {
    by_request(move |request| {
        let tenant: Vec<String> = request
            .headers
            .iter()
            .filter(|(name, _)| name.starts_with("x-t-"))
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let text = format!("{name} {} {}", request.target, tenant.join(","));
        let response = http_response("200 OK\nx-powered-by: php\nx-up: 1", text.trim_end());
        vec![Step::ReadRequestHead, Step::ReadBody, write_bytes(response)]
    })
}

fn body(response: &HttpResponse) -> String {
    assert_eq!(response.status, 200);
    String::from_utf8_lossy(&response.body).into_owned()
}

fn two_upstreams() -> (ScriptedUpstream, ScriptedUpstream) {
    (echo("main"), echo("canary"))
}

fn setup(main: &ScriptedUpstream, canary: &ScriptedUpstream) -> GatewaySetup {
    Gateway::with_upstream(main).upstream("canary", &[canary.address()])
}

#[test]
fn conditions_choose_between_routes_of_one_path() {
    let (main, canary) = two_upstreams();
    let gateway = setup(&main, &canary)
        .route("name: plain, match: { path: \"/a/{*rest}\" }, upstream: main")
        .route("name: header, match: { path: \"/a/{*rest}\", headers: { x-canary: \"1\" } }, upstream: canary")
        .route("name: query, match: { path: \"/a/{id}\", query: { beta: \"*\" }, methods: [GET] }, upstream: canary")
        .route("name: post, match: { path: \"/a/{id}\", query: { beta: \"*\" } }, upstream: main")
        .route("name: tls, match: { path: \"/tls\", scheme: https }, upstream: canary")
        .start();
    let mut client = gateway.client();
    let mut get = |target: &'static str, fields: &str| body(&client.request("GET", target, fields, ""));
    assert_eq!(get("/a/b", ""), "main /a/b");
    assert_eq!(get("/a/b", "x-canary: 1\r\n"), "canary /a/b");
    assert_eq!(get("/a/b", "x-canary: 2\r\n"), "main /a/b");
    assert_eq!(get("/a/b", "x-canary: 1\r\nx-canary: 1\r\n"), "main /a/b");
    assert_eq!(get("/a/b?x=1&b%65ta=", ""), "canary /a/b?x=1&b%65ta=");
    assert_eq!(get("/a/b?betamax=1", ""), "main /a/b?betamax=1");
    client.get("/tls").assert_local_reply(404);
    assert_eq!(body(&client.request("POST", "/a/b?beta=1", "", "x")), "main /a/b?beta=1");
}

#[test]
fn rewritten_paths_keep_spelling_and_query() {
    let (main, canary) = two_upstreams();
    let gateway = setup(&main, &canary)
        .route("name: strip, match: { path: \"/users/{*rest}\" }, upstream: main, strip_prefix: /users")
        .route("name: rewrite, match: { path: \"/old/{id}/{*rest}\" }, upstream: canary, rewrite: \"/v2/people/{id}/{rest}\"")
        .route("name: lenient, match: { path: \"/l/{*rest}\" }, upstream: main, strip_prefix: /l, paths: lenient")
        .start();
    let mut client = gateway.client();
    let mut get = |target: &str| body(&client.get(target));
    assert_eq!(get("/users/7?a=%20b"), "main /7?a=%20b");
    assert_eq!(get("//us%65rs///7//8/?a"), "main /7//8/?a");
    assert_eq!(get("/users"), "main /");
    assert_eq!(get("/users/"), "main /");
    assert_eq!(get("/users//evil.test/x"), "main /evil.test/x");
    assert_eq!(get("/old/a%2Fb/c//d?q"), "canary /v2/people/a%2Fb/c//d?q");
    assert_eq!(get("/old/7"), "canary /v2/people/7/");
    for target in ["/l/../x", "/l/%2e%2e/x", "/l/a/..%2fx"] {
        let message = "The path of the request is malformed or ambiguous.";
        client.get(target).assert_local_reply_message(400, message);
    }
}

#[test]
fn header_edits_apply_to_requests_and_to_every_response() {
    let main = echo("main");
    let edits = "request_headers: { set: { x-t-a: \"{client_ip}\", x-t-id: \"{id}\" }, add: { x-t-b: two }, remove: [x-t-gone] }, \
                 response_headers: { set: { strict-transport-security: \"max-age=31536000\" }, remove: [x-powered-by] }";
    let refusing = refusing_port();
    let gateway = Gateway::with_upstream(&main)
        .upstream("dead", &[refusing.address()])
        .route(&format!("name: edits, match: {{ path: \"/e/{{id}}\" }}, upstream: main, {edits}"))
        .route(&format!("name: dead, match: {{ path: \"/dead/{{id}}\" }}, upstream: dead, {edits}"))
        .start();
    let mut client = gateway.client();
    let response = client.request("GET", "/e/7%41", "x-t-a: forged\r\nx-t-b: one\r\nx-t-gone: 1\r\n", "");
    assert_eq!(body(&response), "main /e/7%41 x-t-b=one,x-t-a=127.0.0.1,x-t-id=7%41,x-t-b=two");
    assert_eq!(response.header("x-powered-by"), None);
    assert_eq!(response.header("x-up"), Some("1"));
    assert_eq!(response.header("strict-transport-security"), Some("max-age=31536000"));
    let response = client.get("/dead/1");
    response.assert_local_reply(504);
    assert_eq!(response.header("strict-transport-security"), Some("max-age=31536000"));
}

#[test]
fn redirects_go_where_the_route_says_whatever_the_client_sends() {
    let main = echo("main");
    let gateway = Gateway::with_upstream(&main)
        .route("name: old, match: { path: \"/old/{*rest}\" }, redirect: { to: \"/{rest}\", code: 301 }")
        .route("name: host, match: { host: a.test, path: \"/h/{*rest}\" }, redirect: { to: \"https://{host}/{rest}\" }")
        .route("name: query, match: { path: /q }, redirect: { to: \"https://new.test/?from=q\", code: 303 }")
        .start();
    let mut client = gateway.client();
    for (target, fields, status, location) in [
        ("/old/a/b?c=d", "", 301, "/a/b?c=d"),
        ("/old//evil.test/x", "", 301, "/evil.test/x"),
        ("/old/%2F%2Fevil.test", "", 301, "/%2F%2Fevil.test"),
        ("/old/https://evil.test", "", 301, "/https://evil.test"),
        ("/q?x=1", "", 303, "https://new.test/?from=q"),
    ] {
        let response = client.request("GET", target, fields, "");
        assert_eq!((response.status, response.header("location")), (status, Some(location)), "{target}");
        assert_eq!(response.header("content-length"), Some("0"));
        assert!(response.body.is_empty());
    }
    let mut client = gateway.client();
    client.send("GET /h/x?y HTTP/1.1\r\nhost: a.test:8080\r\n\r\n");
    let response = client.read(super::response_reader::SentRequest::Http11("GET"));
    assert_eq!((response.status, response.header("location")), (308, Some("https://a.test/x?y")));
    gateway.expect_metric("responses_total", &[("route", "old"), ("code", "301"), ("origin", "proxy")], 4.0);
}

#[test]
fn maintenance_is_a_documented_503_and_no_upstream_failure() {
    let main = echo("main");
    let maintained = |extra: &str| {
        Gateway::with_upstream(&main).route(&format!(
            "name: shop, match: {{ path: \"/{{*rest}}\" }}, upstream: main, \
             maintenance: {{ message: \"Back at 10:00 UTC.\", retry_after: 1h{extra} }}"
        ))
    };
    let gateway = maintained("").start();
    let mut client = gateway.client();
    let response = client.get("/");
    response.assert_local_reply_message(503, "Back at 10:00 UTC.");
    assert_eq!(response.header("retry-after"), Some("3600"));
    gateway.expect_metric("errors_total", &[("cause", "maintenance"), ("code", "503")], 1.0);
    assert_eq!(main.recording().requests().count(), 0);
    assert_eq!(gateway.reload(maintained(", allow_from: [127.0.0.1]")), "applied");
    assert_eq!(body(&client.get("/x")), "main /x");
    assert_eq!(gateway.reload(maintained(", enabled: false")), "applied");
    assert_eq!(body(&client.get("/y")), "main /y");
}

#[test]
fn denied_networks_get_403_before_the_allowed_ones() {
    let main = echo("main");
    let gateway = Gateway::with_upstream(&main)
        .route("name: d, match: { path: \"/{*rest}\" }, upstream: main, allow_from: [127.0.0.0/8], deny_from: [127.0.0.1]")
        .start();
    let mut client: Client = gateway.client();
    client.get("/").assert_local_reply(403);
}
