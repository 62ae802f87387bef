//! The access log: whole lines, with their fields in order, over both HTTP versions, with and without TLS.

use std::time::Duration;

use serde_json::{Map, Value};

use super::h2_client::H2Client;
use super::h2_upstream::RawH2Server;
use super::prelude::*;
use super::tls_client::TlsClient;
use super::tls_listener::{tls_gateway, tls_gateway_with_alpn};

/// A line as text, with the fields that differ between runs replaced: the time, the ID, and durations, of which only
/// the presence is compared.
fn comparable(line: &Value, servers: &[(std::net::SocketAddr, &str)]) -> String {
    fn replace(name: &str, value: &Value) -> Value {
        match (name, value) {
            ("time" | "request_id", _) => Value::from("-"),
            (name, Value::Number(_)) if name == "ms" || name.ends_with("_ms") => Value::from(0),
            (_, Value::Object(members)) => Value::Object(
                members.iter().map(|(name, value)| (name.clone(), replace(name, value))).collect(),
            ),
            (_, Value::Array(items)) => items.iter().map(|item| replace("", item)).collect(),
            (_, value) => value.clone(),
        }
    }
    let mut text = replace("", line).to_string();
    for (address, name) in servers {
        text = text.replace(&address.to_string(), name);
    }
    text
}

/// The names of the fields of the line that contains `text`, as written.
fn field_names(gateway: &Gateway, text: &str) -> Vec<String> {
    let log = gateway.log_text();
    let line = log.lines().find(|line| line.contains(text)).expect("a line");
    // `serde_json` sorts names: read them from the text instead. No value of these lines contains `,"`.
    let names = line.trim_start_matches('{').split(",\"").map(|part| part.trim_start_matches('"'));
    names.filter_map(|part| Some(part.split_once("\":")?.0.to_owned())).collect()
}

fn logged(gateway: &Gateway, path: &str) -> Map<String, Value> {
    let line = gateway.log_line(|line| line["path"] == path);
    line.as_object().expect("an object").clone()
}

#[test]
fn failed_request_logs_host_protocol_and_user_agent() {
    let upstream = html_upstream("502 Broken");
    let gateway = Gateway::with_upstream(&upstream).start();
    gateway
        .client()
        .request(
            "POST",
            "/orders/7?token=secret",
            "user-agent: curl/8.5.0\r\n\
             traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n\
             authorization: secret\r\n",
            "a body",
        )
        .assert_local_reply(504);
    let line = gateway.log_line(|line| line["path"] == "/orders/7");
    let text = comparable(&line, &[(upstream.address(), "upstream")]);
    let expected = serde_json::json!({
        "time": "-", "level": "warn", "message": "replaced upstream response", "request_id": "-",
        "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736", "route": "all", "method": "POST", "host": "test",
        "path": "/orders/7", "protocol": "HTTP/1.1", "user_agent": "curl/8.5.0", "client_ip": "127.0.0.1",
        "upstream": "main", "server": "upstream", "code": 504, "upstream_status": 502, "bytes_in": 6,
        "bytes_out": line["bytes_out"], "elapsed_ms": 0, "connect_ms": 0, "response_headers_ms": 0,
        "request_sent": "full", "evidence": line["evidence"], "outcome": "replaced",
    });
    assert_eq!(text, expected.to_string());
    assert!(!gateway.log_text().contains("secret"));
    assert_eq!(
        field_names(&gateway, "/orders/7"),
        [
            "time",
            "level",
            "message",
            "request_id",
            "trace_id",
            "route",
            "method",
            "host",
            "path",
            "protocol",
            "user_agent",
            "client_ip",
            "upstream",
            "server",
            "code",
            "upstream_status",
            "bytes_in",
            "bytes_out",
            "elapsed_ms",
            "connect_ms",
            "response_headers_ms",
            "request_sent",
            "evidence",
            "outcome",
        ]
    );
}

#[test]
fn several_attempts_are_one_list_in_order() {
    let (refusing, upstream) = (refusing_port(), ok_upstream("fine"));
    let gateway = GatewaySetup::with_servers(&[refusing.address(), upstream.address()])
        .set("log.requests", "all")
        .start();
    gateway.client().get("/twice").assert_response(200, "fine");
    gateway.client().get("/once").assert_response(200, "fine");
    let servers = [(refusing.address(), "refusing"), (upstream.address(), "upstream")];
    let expected = |path: &str, attempts: Option<Value>| {
        let mut line = serde_json::json!({
            "time": "-", "level": "info", "message": "forwarded response", "request_id": "-", "route": "all",
            "method": "GET", "host": "test", "path": path, "protocol": "HTTP/1.1", "client_ip": "127.0.0.1",
            "upstream": "main", "server": "upstream", "code": 200, "upstream_status": 200, "bytes_in": 0,
            "bytes_out": 4, "elapsed_ms": 0, "connect_ms": 0, "response_headers_ms": 0, "request_sent": "full",
            "outcome": "forwarded",
        });
        if let Some(attempts) = attempts {
            line["attempts"] = attempts;
        }
        line
    };
    let attempts = serde_json::json!([
        { "server": "refusing", "cause": "connection_refused", "ms": 0 },
        { "server": "upstream", "cause": "ok", "ms": 0 },
    ]);
    let twice = gateway.log_line(|line| line["path"] == "/twice");
    assert_eq!(comparable(&twice, &servers), expected("/twice", Some(attempts)).to_string());
    let mut once = gateway.log_line(|line| line["path"] == "/once");
    // The connection is reused if the first request has returned it already.
    once["connect_ms"] = Value::from(0);
    assert_eq!(comparable(&once, &servers), expected("/once", None).to_string());
    let log = gateway.log_text();
    let written =
        format!(r#""attempts":[{{"server":"{}","cause":"connection_refused","ms":"#, refusing.address());
    assert!(log.contains(&written), "{log}");
}

#[test]
fn failed_attempts_name_every_server_and_the_final_cause() {
    let (one, other) = (refusing_port(), refusing_port());
    let gateway = GatewaySetup::with_servers(&[one.address(), other.address()]).start();
    gateway.client().get("/").assert_local_reply(504);
    let line = gateway.log_line(|line| line["code"] == 504);
    let pairs: Vec<(Value, Value)> = line["attempts"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|attempt| (attempt["server"].clone(), attempt["cause"].clone()))
        .collect();
    let refused =
        |address: std::net::SocketAddr| (Value::from(address.to_string()), "connection_refused".into());
    assert_eq!(pairs, [refused(one.address()), refused(other.address())]);
}

#[test]
fn tls_version_and_protocol_are_logged() {
    let upstream = ok_upstream("fine");
    let all = || Gateway::with_upstream(&upstream).set("log.requests", "all");
    let (gateway, trusting) = tls_gateway(all());
    TlsClient::connect(gateway.address(), "test", &trusting).get("/h1").assert_response(200, "fine");
    let line = logged(&gateway, "/h1");
    assert_eq!((&line["protocol"], &line["tls"]), (&"HTTP/1.1".into(), &"TLSv1.3".into()));

    let (gateway, trusting) = tls_gateway_with_alpn(all(), &["h2"]);
    let mut client = H2Client::connect_tls(gateway.address(), "test", &trusting);
    client.get("/h2").assert_response(200, "fine");
    let line = logged(&gateway, "/h2");
    assert_eq!((&line["protocol"], &line["tls"]), (&"HTTP/2".into(), &"TLSv1.3".into()));
    assert!(line["host"].as_str().is_some_and(|host| host.starts_with("test")), "{line:?}");

    let gateway = all().with_h2c_listener().start();
    gateway.h2_client().get("/h2c").assert_response(200, "fine");
    gateway.client().exchange(SentRequest::Http10("GET"), "GET /old HTTP/1.0\r\n\r\n");
    let line = logged(&gateway, "/h2c");
    assert_eq!((&line["protocol"], line.get("tls")), (&"HTTP/2".into(), None));
    let line = logged(&gateway, "/old");
    assert_eq!(
        (&line["protocol"], line.get("host"), line.get("user_agent")),
        (&"HTTP/1.0".into(), None, None)
    );
}

#[test]
fn rejected_request_logs_its_method_host_and_user_agent() {
    let upstream = ok_upstream("");
    let gateway = Gateway::with_upstream(&upstream).start();
    let rejected = "GET /a?b HTTP/1.1\r\nhost: shop.test:8080\r\nuser-agent: probe/1\r\na : b\r\n\r\n";
    gateway.client().exchange(SentRequest::Http11("GET"), rejected);
    let line = gateway.log_line(|line| line["cause"] == "malformed_header");
    let expected = serde_json::json!({
        "time": "-", "level": "info", "message": "rejected request", "request_id": "-", "method": "GET",
        "host": "shop.test:8080", "path": "/a", "protocol": "HTTP/1.1", "user_agent": "probe/1", "client_ip": "127.0.0.1",
        "cause": "malformed_header", "phase": line["phase"], "code": 400, "bytes_in": 0,
        "bytes_out": line["bytes_out"], "elapsed_ms": 0, "request_sent": "none", "evidence": line["evidence"],
        "outcome": "rejected",
    });
    assert_eq!(comparable(&line, &[]), expected.to_string());

    let h2_gateway = Gateway::with_upstream(&upstream).with_h2c_listener().start();
    assert_eq!(h2_gateway.h2_client().get("/a/../b").status, 400);
    let line = h2_gateway.log_line(|line| line["cause"] == "ambiguous_path");
    let logged = (&line["protocol"], &line["method"], &line["host"]);
    assert_eq!(logged, (&"HTTP/2".into(), &"GET".into(), &"test".into()));
}

#[test]
fn control_characters_in_host_and_user_agent_are_escaped() {
    let gateway = GatewaySetup::with_servers(&[refusing_port().address()]).start();
    gateway.client().request("GET", "/", "user-agent: a\tb\u{9b}31m\u{202e}\"\r\n", "");
    let line = gateway.log_line(|line| line["code"] == 504);
    assert_eq!(line["user_agent"], "a\tb\u{9b}31m\u{202e}\"");
    assert!(gateway.log_text().contains(r#""user_agent":"a\tb\u009b31m\u202e\"","#));
}

fn evidence_of(upstream: &ScriptedUpstream, limit: &str) -> Option<String> {
    let gateway = Gateway::with_upstream(upstream).set("log.evidence", limit).start();
    assert!(gateway.client().get("/").status >= 500);
    let line = gateway.log_line(|line| line["code"].as_u64() >= Some(500));
    line.get("evidence").map(|evidence| evidence.as_str().expect("text").to_owned())
}

#[test]
fn evidence_contains_at_most_the_configured_bytes_of_the_upstream() {
    let body = "<p>0123456789</p>".repeat(200);
    let replaced = static_response(http_response("500 Broken", &body));
    let long = |limit: usize| format!("{}...", &format!("Broken: {body}")[..limit]);
    assert_eq!(evidence_of(&replaced, "256B"), Some(long(256)));
    assert_eq!(evidence_of(&replaced, "10B"), Some(long(10)));
    assert_eq!(evidence_of(&replaced, "1KiB"), Some(long(1024)));
    assert_eq!(evidence_of(&replaced, "0"), None);
    assert_eq!(evidence_of(&replaced, "0B"), None);
    let malformed = script([Step::ReadRequestHead, write_bytes("220 mail.example ESMTP\r\n"), Step::Close]);
    let whole = evidence_of(&malformed, "256B").expect("evidence");
    assert!(whole.ends_with(": 220 mail.example ESMTP\r\n"), "{whole}");
    let cut = evidence_of(&malformed, "3B").expect("evidence");
    assert_eq!(cut, whole.replace("220 mail.example ESMTP\r\n", "220..."));
    assert_eq!(evidence_of(&malformed, "0"), None);
}

#[test]
fn time_in_the_queue_is_logged_for_requests_that_waited() {
    let gate = Gate::new();
    let opened = gate.clone();
    let upstream = by_request(move |request| {
        let wait = (request.target == "/first").then(|| Step::WaitForGate(gate.clone()));
        let respond = Step::Write(http_response("200 OK", "fine"));
        [Step::ReadRequestHead].into_iter().chain(wait).chain([respond]).collect()
    });
    let gateway = Gateway::with_upstream(&upstream)
        .set("log.requests", "all")
        .set("upstream.concurrency", "{ max: 1, queue: 4, queue_timeout: 60s }")
        .start();
    let (mut first, mut second) = (gateway.client(), gateway.client());
    first.send("GET /first HTTP/1.1\r\nhost: test\r\n\r\n");
    gateway.wait_for_metric(limit(), "requests_in_flight", &[], 1.0);
    second.send("GET /second HTTP/1.1\r\nhost: test\r\n\r\n");
    gateway.wait_for_metric(limit(), "requests_queued", &[], 1.0);
    opened.open();
    first.read(SentRequest::Http11("GET")).assert_response(200, "fine");
    second.read(SentRequest::Http11("GET")).assert_response(200, "fine");
    assert_eq!(logged(&gateway, "/first").get("queue_ms"), None);
    assert!(logged(&gateway, "/second")["queue_ms"].is_number());
}

#[test]
fn text_format_has_the_same_fields() {
    let (refusing, upstream) = (refusing_port(), ok_upstream("fine"));
    let gateway = GatewaySetup::with_servers(&[refusing.address(), upstream.address()])
        .set("log.requests", "all")
        .set("log.format", "text")
        .start();
    gateway.client().request("GET", "/", "user-agent: a b\r\n", "").assert_response(200, "fine");
    gateway.send_sigterm();
    assert!(gateway.wait_for_exit(limit()).success());
    let log = gateway.log_text();
    let line = log.lines().find(|line| line.contains("forwarded response")).expect("a line");
    let attempts =
        format!(r#" attempts=[{{"server":"{}","cause":"connection_refused","ms":"#, refusing.address());
    assert!(
        line.contains(r#" host=test path=/ protocol=HTTP/1.1 user_agent="a b" client_ip=127.0.0.1 "#),
        "{line}"
    );
    assert!(line.contains(&attempts), "{line}");
}

#[test]
fn rejected_request_is_logged_with_its_method_and_the_bytes_that_are_sent() {
    let upstream = ok_upstream("unused");
    let gateway = Gateway::with_upstream(&upstream).start();
    for (method, has_body) in [("HEAD", false), ("GET", true), ("B@D", true)] {
        let mut client = gateway.client();
        client.send(format!("{method} /{method} HTTP/1.1\r\nhost: test\r\nhost: other\r\n\r\n"));
        assert_eq!(client.read(SentRequest::Http11(method)).status, 400);
        let line = gateway.log_line(|line| line["path"] == format!("/{method}"));
        let expected = if method == "B@D" { Value::Null } else { method.into() };
        assert_eq!((&line["method"], line["bytes_out"] != 0), (&expected, has_body), "{line:#}");
    }
}

#[test]
fn truncated_response_is_logged_in_phase_relay() {
    let upstream = by_request(|head| {
        let body = match &*head.target {
            "/cut" => "content-length: 9\r\n\r\nfour",
            "/chunk" => "transfer-encoding: chunked\r\n\r\n4\r\nfour\r\nzz\r\n",
            _ => "content-length: 9\r\n\r\n",
        };
        let end = if head.target == "/upload" { Step::ReadUntilClose } else { Step::Close };
        vec![Step::ReadRequestHead, write_bytes(format!("HTTP/1.1 200 OK\r\n{body}")), end]
    });
    let gateway = Gateway::with_upstream(&upstream).start();
    for path in ["/cut", "/chunk"] {
        gateway.client().get(path);
    }
    let mut client = gateway.client();
    client.send("POST /upload HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n");
    client.wait_for("Content-Length: 9\r\n\r\n");
    client.send("zz\r\n");
    client.read(SentRequest::Http11("POST"));
    for (path, cause) in [
        ("/cut", "http_response_incomplete"),
        ("/chunk", "http_protocol_error"),
        ("/upload", "malformed_body"),
    ] {
        let line = logged(&gateway, path);
        let facts = ["outcome", "cause", "phase"].map(|name| line[name].as_str().unwrap());
        assert_eq!(facts, ["aborted", cause, "relay"], "{path}");
    }
}

#[test]
fn fault_of_a_body_that_a_rate_limit_reads_is_logged_in_phase_admit() {
    let upstream = ok_upstream("fine");
    let gateway = Gateway::with_upstream(&upstream)
        .set("rate_limits", "{ login: { key: [\"body:email\"], allow: 9 per 1h } }")
        .set("client.body_timeout", "300ms")
        .route("name: all, upstream: main, rate_limits: [login], max_body: 4B")
        .start();
    for (path, end, cause) in [
        ("/slow", "", "client_too_slow"),
        ("/malformed", "zz\r\n", "malformed_body"),
        ("/large", "5\r\n12345\r\n", "body_too_large"),
    ] {
        let mut client = gateway.client();
        let fields = "content-type: application/json\r\ntransfer-encoding: chunked";
        client.send(format!("POST {path} HTTP/1.1\r\nhost: test\r\n{fields}\r\n\r\n{end}"));
        let response = client.read(SentRequest::Http11("POST"));
        assert_eq!(response.status, 400, "{path}");
        assert!(response.has_connection_close(), "{path}: the end of the body is unknown");
        let line = logged(&gateway, path);
        let facts = ["cause", "phase", "request_sent"].map(|name| line[name].as_str().unwrap());
        assert_eq!(facts, [cause, "admit", "none"], "{path}");
    }
    assert_eq!(upstream.request_count(), 0);
}

#[test]
fn time_of_the_last_attempt_contains_its_handshake() {
    const DELAY: Duration = Duration::from_millis(300);
    let refusing = refusing_port();
    let slow = RawH2Server::with_script(|connection| {
        connection.read_preface()?;
        std::thread::sleep(DELAY); // upstream under test
        connection.send_settings(&[])?;
        let stream = connection.next_request()?;
        connection.send_ok_response(stream)?;
        connection.read_until_closed()
    });
    let gateway = GatewaySetup::with_servers(&[refusing.address(), slow.address()])
        .set("upstream.http2", "always")
        .set("log.requests", "all")
        .start();
    gateway.client().get("/").assert_response(200, "fine");
    let line = logged(&gateway, "/");
    let last = &line["attempts"][1];
    assert_eq!(last["cause"], "ok");
    assert!(last["ms"].as_u64() >= Some(300), "{line:#?}");
}
