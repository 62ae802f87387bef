//! What is counted and logged: the accounts agree with what clients saw, and nothing internal reaches a client.

use std::time::Duration;

use statusquo::rehearse::{
    FaultyUpstream, ServerKind, UpstreamStep, http_response, upstream_faults, write_bytes,
};

use super::gateway::{Gateway, Setup};
use super::reader::Asked;
use super::upstreams::{answering, html, ok, refusing, script};

#[test]
fn for_every_code_the_counters_equal_what_clients_saw_while_many_ask_at_once() {
    let misbehaving = FaultyUpstream::start().unwrap();
    let gateway = Setup::of_servers(&[misbehaving.address(ServerKind::Scripted)])
        .limit(Duration::from_secs(20))
        .start();
    let quick = |name: &str| !["hang", "drip", "stalled"].iter().any(|slow| name.contains(slow));
    let faults = upstream_faults();
    let paths: Vec<String> = faults
        .iter()
        .filter(|fault| {
            fault.server_kind == ServerKind::Scripted && fault.request.is_plain_get() && quick(fault.name)
        })
        .map(|fault| fault.path())
        .chain(
            ["/ok", "/created", "/no-content", "/not-modified", "/hints", "/a/../b", "/bytes/5000"]
                .map(str::to_owned),
        )
        .collect();
    std::thread::scope(|scope| {
        for worker in 0..4 {
            let (gateway, paths) = (&gateway, &paths);
            scope.spawn(move || {
                let mut client = gateway.client();
                for turn in 0..paths.len() {
                    // A different order for each, so that different faults meet.
                    let answer = client.get(&paths[(turn * (2 * worker + 1) + worker) % paths.len()]);
                    if !answer.connection_usable {
                        client = gateway.client();
                    }
                }
            });
        }
    });
    gateway.expect_accounts_to_agree();
    gateway.expect_metric("requests_in_flight", &[], 0.0);
    gateway.expect_metric("panics_total", &[], 0.0);
}

#[test]
fn the_accounts_are_there_at_zero_before_anything_happens() {
    let upstream = ok("");
    let gateway = Gateway::in_front_of(&upstream).start();
    let metrics = gateway.metrics();
    for code in ["400", "401", "403", "404", "409", "429", "500", "503", "504"] {
        for origin in ["replaced", "proxy"] {
            let labels = [("route", "all"), ("code", code), ("origin", origin)];
            let found: Vec<_> =
                metrics.iter().filter(|series| series.is("responses_total", &labels)).collect();
            assert!(found.len() == 1 && found[0].value == 0.0, "{labels:?}: {found:?}");
        }
    }
    assert!(
        metrics.iter().any(|series| series.is("aborted_total", &[("cause", "http_response_incomplete")]))
    );
    assert!(metrics.iter().any(|series| series.is("build_info", &[]) && series.value == 1.0));
}

#[test]
fn the_metrics_page_has_the_content_type_that_scrapers_ask_for() {
    let upstream = ok("");
    let gateway = Gateway::in_front_of(&upstream).start();
    let page = gateway.probe("/metrics");
    assert!(page.field("content-type").unwrap().starts_with("text/plain; version=0.0.4"), "{page:#?}");
}

#[test]
fn connections_are_counted_while_they_are_open() {
    let upstream = ok("");
    let gateway = Gateway::in_front_of(&upstream).start();
    let mut clients: Vec<_> = (0..3).map(|_| gateway.client()).collect();
    for client in &mut clients {
        client.get("/").is(200, "");
    }
    let listener = gateway.address().to_string();
    gateway.expect_metric("connections", &[("listener", &listener)], 3.0);
    drop(clients);
    gateway.expect_metric("connections", &[("listener", &listener)], 0.0);
}

#[test]
fn a_failed_request_has_one_line_with_its_cause_and_its_evidence() {
    let refusing = refusing();
    let gateway = Setup::of_servers(&[refusing.address()]).start();
    let answer = gateway.client().get("/orders/7?token=secret");
    let id = answer.field("x-request-id").unwrap().to_owned();
    let line = gateway.log_line(|line| line["request_id"] == id);
    assert_eq!(line["cause"], "connection_refused");
    assert_eq!(line["code"], 504);
    assert_eq!((&line["route"], &line["upstream"]), (&"all".into(), &"main".into()));
    assert_eq!(line["path"], "/orders/7");
    assert_eq!(line["request_sent"], "none");
    assert_eq!(line["server"], refusing.address().to_string());
    assert!(line["evidence"].as_str().is_some_and(|evidence| !evidence.is_empty()), "{line:#}");
    assert!(!gateway.log_text().contains("secret"));
}

#[test]
fn a_good_request_has_no_line_unless_all_are_wanted() {
    let upstream = ok("fine");
    let gateway = Gateway::in_front_of(&upstream).set("log.requests", "all").start();
    let id = gateway.client().get("/seen").field("x-request-id").map(str::to_owned);
    let line = gateway.log_line(|line| line["path"] == "/seen");
    assert_eq!(line["code"], 200);
    assert!(id.is_some_and(|id| line["request_id"] == id));
    let quiet = Gateway::in_front_of(&upstream).start();
    quiet.client().get("/unseen").is(200, "fine");
    quiet.client().get("/a/../b");
    quiet.log_line(|line| line["cause"] == "ambiguous_path");
    assert!(!quiet.log_text().contains("/unseen"));
}

#[test]
fn control_characters_of_a_client_do_not_reach_the_log() {
    let upstream = html("502 Bad Gateway");
    let gateway = Gateway::in_front_of(&upstream).start();
    gateway
        .client()
        .exchange(Asked::Http11("GET"), b"GET /a%1b[31m HTTP/1.1\r\nhost: test\r\nx: \xff\xfe\r\n\r\n");
    let line = gateway.log_line(|line| line["path"].as_str().is_some_and(|path| path.starts_with("/a")));
    assert!(!line.to_string().contains('\u{1b}'));
}

/// Whatever the upstream says must not be in what the client gets; for garbage it is in the log.
#[test]
fn nothing_that_an_upstream_says_in_a_fault_or_a_5xx_reaches_a_client() {
    const CANARY: &str = "canary-7f3a";
    let canaries = [
        format!("220 {CANARY} ESMTP\r\n\r\n"),
        format!(
            "HTTP/1.1 500 {CANARY}\r\nx-a: {CANARY}\r\nserver: {CANARY}\r\ncontent-length: 11\r\n\r\n{CANARY}"
        ),
        format!("HTTP/1.1 503 {CANARY}\r\nretry-after: {CANARY}\r\ncontent-length: 11\r\n\r\n{CANARY}"),
        format!("HTTP/1.1 200 OK\r\nx-a: {CANARY}\r\n {CANARY}\r\n\r\n"),
        format!("HTTP/1.1 999 {CANARY}\r\n\r\n"),
        format!("HTTP/1.1 200 OK\r\ncontent-length: {CANARY}\r\n\r\n"),
    ];
    for bytes in canaries {
        let upstream =
            script([UpstreamStep::ReadRequestHead, write_bytes(bytes.clone()), UpstreamStep::Close]);
        let gateway = Gateway::in_front_of(&upstream).start();
        let answer = gateway.client().get("/");
        assert!(answer.status >= 500, "{bytes:?}: {answer:#?}");
        let whole = format!("{answer:?} {}", answer.text());
        assert!(!whole.contains(CANARY), "{bytes:?}: {whole}");
        gateway.log_line(|line| line["code"] == answer.status);
    }
}

#[test]
fn members_are_added_to_a_body_only_where_they_are_asked_for() {
    let refusing = refusing();
    let gateway = Setup::of_servers(&[refusing.address()])
        .set("errors.include", "[type, request_id, retryable, request_sent]")
        .start();
    let answer = gateway.client().get("/");
    let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(body["type"], "general_gateway_timeout");
    assert_eq!(body["request_id"], answer.field("x-request-id").unwrap());
    assert_eq!(body["request_sent"], "none");
    assert!(body["retryable"].is_boolean());
    assert!(answer.text().starts_with(r#"{"message":"#), "{}", answer.text());
}

#[test]
fn request_sent_is_never_falsely_none() {
    for (steps, least) in [
        (vec![UpstreamStep::ReadRequestHead, UpstreamStep::Close], "full"),
        (vec![UpstreamStep::ReadRequestHead, UpstreamStep::ReadUntilClose], "full"),
        (vec![UpstreamStep::ReadRequestHead, write_bytes("HTTP/1.1 2"), UpstreamStep::Reset], "full"),
    ] {
        let upstream = script(steps);
        let gateway = Gateway::in_front_of(&upstream)
            .set("errors.include", "[request_sent]")
            .set("timeouts.response_head", "300ms")
            .start();
        let answer = gateway.client().ask("POST", "/", "", "body");
        let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(body["request_sent"], least);
        assert_eq!(upstream.request_count(), 1);
    }
}

#[test]
fn overrides_decide_code_and_text_and_the_first_match_wins() {
    let (refusing, upstream) = (refusing(), answering(http_response("405 No", "<p>")));
    let gateway = Gateway::in_front_of(&upstream)
        .upstream("shop", &[refusing.address()])
        .set(
            "errors.overrides",
            "[{ when: { cause: connection_refused, upstream: shop }, code: 503, message: \"The shop is restarting.\", \
             retry_after: 9s }, { when: { upstream_status: [405] }, code: 404 }]",
        )
        .route("name: shop, match: { path: /shop }, upstream: shop")
        .route("name: rest, match: { path: \"/{*rest}\" }, upstream: main")
        .start();
    let mut client = gateway.client();
    let answer = client.get("/shop");
    answer.is_made_saying(503, "The shop is restarting.");
    assert_eq!(answer.field("retry-after"), Some("9"));
    client.get("/").is_made(404);
}
