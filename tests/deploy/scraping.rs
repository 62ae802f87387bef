//! Counters scraped by Prometheus match the responses that clients received.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde_json::Value;
use statusquo::conformance::{RefusingPort, ScriptedUpstream, Step, http_response, write_bytes};

use crate::curl::Curl;
use crate::gateway::RealGateway;
use crate::prometheus::Prometheus;

/// Responds by path: success, an HTML error page, a documented error, or a closed connection.
fn upstream() -> ScriptedUpstream {
    ScriptedUpstream::by_request(|request| match request.path() {
        "/page" => vec![write_bytes(http_response(
            "502 Bad Gateway\ncontent-type: text/html",
            "<h1>Bad Gateway</h1>",
        ))],
        "/missing" => vec![write_bytes(http_response(
            "404 Not Found\ncontent-type: application/json",
            r#"{"message":"There is no such order.","code":404}"#,
        ))],
        "/cut" => vec![Step::Reset],
        _ => vec![write_bytes(http_response("200 OK\ncontent-type: text/plain", "fine"))],
    })
    .unwrap()
}

/// Sends requests one at a time; counts the status codes that curl received.
fn send_requests(gateway: SocketAddr, path: &str, times: usize, counts: &mut BTreeMap<u16, u64>) {
    for response in Curl::http1().get_all(gateway, &vec![path; times]) {
        *counts.entry(response.status).or_default() += 1;
    }
}

/// Sums by status code, without zeros.
fn by_code(data: &Value) -> BTreeMap<u16, u64> {
    let series = data["result"].as_array().unwrap().iter();
    let sums = series.map(|one| {
        let code = one["metric"]["code"].as_str().unwrap().parse().unwrap();
        let sum: f64 = one["value"][1].as_str().unwrap().parse().unwrap();
        (code, sum as u64)
    });
    sums.filter(|(_, sum)| *sum > 0).collect()
}

#[test]
#[ignore = "make proof: Prometheus"]
fn prometheus_counts_by_code_match_client_responses() {
    let (upstream, refusing) = (upstream(), RefusingPort::start().unwrap());
    let gateway = RealGateway::with(&format!(
        "upstreams: {{ app: {{ servers: [\"{}\"] }}, dead: {{ servers: [\"{}\"] }} }}\n\
         routes:\n\
         - {{ name: dead, match: {{ path: \"/dead/{{*rest}}\" }}, upstream: dead }}\n\
         - {{ name: closed, match: {{ path: /closed }}, upstream: app, deny: {{ methods: [GET] }} }}\n\
         - {{ name: app, match: {{ path: \"/{{*rest}}\" }}, upstream: app }}\n",
        upstream.address(),
        refusing.address()
    ));
    let mut counts = BTreeMap::new();
    let traffic = [("/", 7), ("/page", 5), ("/missing", 4), ("/cut", 3), ("/dead/x", 2), ("/closed", 6)];
    for (path, times) in traffic {
        send_requests(gateway.http1, path, times, &mut counts);
    }
    assert_eq!(counts, BTreeMap::from([(200, 7), (403, 6), (404, 4), (504, 10)]));

    let prometheus = Prometheus::scraping(gateway.telemetry);
    let responses = "/api/v1/query?query=sum%20by%20(code)%20(statusquo_responses_total)";
    let errors = "/api/v1/query?query=sum%20by%20(code)%20(statusquo_errors_total)";
    prometheus.wait_for(responses, |data| (by_code(data) == counts).then_some(()));
    prometheus.wait_for(errors, |data| (by_code(data) == counts.clone().split_off(&400)).then_some(()));

    // Requests continue while Prometheus scrapes.
    for (path, times) in traffic {
        send_requests(gateway.http1, path, 2 * times, &mut counts);
    }
    prometheus.wait_for(responses, |data| (by_code(data) == counts).then_some(()));

    // Prometheus accepts the metrics page, and the rules can be evaluated over it.
    let targets = prometheus.api("/api/v1/targets").unwrap();
    let target = &targets["activeTargets"][0];
    assert_eq!((&target["health"], &target["lastError"]), (&"up".into(), &"".into()), "{target:#}");
    let evaluated = |data: &Value| {
        let groups = data["groups"].as_array().unwrap().iter();
        let rules: Vec<_> = groups.flat_map(|group| group["rules"].as_array().unwrap()).cloned().collect();
        rules.iter().all(|rule| rule["health"] != "unknown").then_some(rules)
    };
    let rules = prometheus.wait_for("/api/v1/rules", evaluated);
    let unwell: Vec<_> = rules.iter().filter(|rule| rule["health"] != "ok").collect();
    assert!(rules.len() > 20 && unwell.is_empty(), "{unwell:#?}");
    // The second round of requests is an increase that `rate` can see.
    let rate = "/api/v1/query?query=code:statusquo_responses:rate5m%3E0";
    let codes = |data: &Value| {
        let codes = data["result"].as_array().unwrap().iter();
        let codes: Vec<_> = codes.map(|one| one["metric"]["code"].as_str().unwrap().to_owned()).collect();
        (codes.len() == counts.len()).then_some(codes)
    };
    let mut codes = prometheus.wait_for(rate, codes);
    codes.sort();
    assert_eq!(codes, ["200", "403", "404", "504"]);
}
