//! The order in which a request is admitted: what denies it comes before its rate limits, whatever kind they are.
//!
//! Periods are hours, so that no quota is replenished during a test.

use super::prelude::*;
use super::redis_server::RedisServer;

const JSON_FIELD: &str = "content-type: application/json\r\n";

/// A gateway with one route whose only rule `a` admits one request. The route denies DELETE and bodies above 64 bytes.
fn gateway_with_rule(upstream: &ScriptedUpstream, redis_url: &str, rule: &str) -> Gateway {
    Gateway::with_upstream(upstream)
        .set(
            "stores",
            &format!(
                "{{ shared: {{ redis: \"{redis_url}\", secret: sixteen-or-more-letters, timeout: 2s }} }}"
            ),
        )
        .set("rate_limits", &format!("{{ a: {{ allow: 1 per 1h, {rule} }} }}"))
        .route("name: all, upstream: main, rate_limits: [a], max_body: 64B, deny: { methods: [DELETE] }")
        .start()
}

#[test]
fn denied_request_consumes_nothing_whatever_kind_of_limit() {
    let (upstream, redis) = (ok_upstream("fine"), RedisServer::start());
    for (rule, reported) in [
        ("key: [client_ip]", true),
        ("key: [\"body:email\"]", true),
        ("key: [client_ip], store: shared", false),
        ("key: [\"body:email\"], store: shared", false),
    ] {
        let gateway = gateway_with_rule(&upstream, &redis.url(), rule);
        redis.command(&["FLUSHALL"]);
        let mut client = gateway.client();
        let body = r#"{"email":"a"}"#;
        // The current quota is reported where that takes no I/O.
        let expected_remaining = reported.then_some("1");
        let remaining = |response: &HttpResponse| response.header("x-ratelimit-remaining").map(str::to_owned);
        for _ in 0..2 {
            let response = client.request("DELETE", "/", JSON_FIELD, body);
            response.assert_local_reply(403);
            assert_eq!(remaining(&response).as_deref(), expected_remaining, "{rule}");
            let response = gateway.client().request("POST", "/", JSON_FIELD, &"x".repeat(65));
            assert_eq!(response.status, 400, "{response:#?}");
            assert_eq!(remaining(&response).as_deref(), expected_remaining, "{rule}");
        }
        gateway.expect_metric("rate_limit_decisions_total", &[("rule", "a")], 0.0);
        let statuses = [0, 1].map(|_| client.request("POST", "/", JSON_FIELD, body).status);
        assert_eq!(statuses, [200, 429], "{rule}");
        // A denial needs no quota either.
        client.request("DELETE", "/", JSON_FIELD, body).assert_local_reply(403);
        gateway.expect_metric("rate_limit_decisions_total", &[("rule", "a"), ("decision", "denied")], 1.0);
        gateway.expect_metrics_match_responses();
    }
}
