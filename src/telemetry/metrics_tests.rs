//! The metrics page: the series exported from the start, what each call counts, and the text format.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::string_slice)]

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::contract::conform::Conformance;
use crate::contract::{Contract, Trigger};
use crate::telemetry::metrics_page_tests::type_name;
use crate::telemetry::{LimitDecision, LimitStats, ResponseOrigin};

type Labels = BTreeMap<String, String>;

/// A sample line.
#[derive(Clone, Debug, PartialEq)]
struct Sample {
    name: String,
    labels: Labels,
    value: f64,
}

/// Parses the text format strictly: every sample belongs to the family declared above it, every family is declared once
/// with one help and one type, no series appears twice.
fn parse(page: &str) -> (BTreeMap<String, String>, Vec<Sample>) {
    let mut types = BTreeMap::new();
    let mut samples: Vec<Sample> = Vec::new();
    let mut seen = BTreeSet::new();
    let mut pending_help = None;
    let mut family = String::new();
    assert!(page.ends_with('\n'));
    for line in page.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap();
            assert!(!help.is_empty());
            pending_help = Some(name.to_owned());
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert_eq!(pending_help.take().as_deref(), Some(name), "type without help");
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            assert!(types.insert(name.to_owned(), kind.to_owned()).is_none(), "{name} declared twice");
            family = name.to_owned();
        } else {
            let sample = sample(line);
            let kind = types.get(&family).unwrap_or_else(|| panic!("{line} before any type"));
            let allowed: &[&str] = if kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
            assert!(
                allowed.iter().any(|end| sample.name == format!("{family}{end}")),
                "{line} under {family}"
            );
            assert!(seen.insert((sample.name.clone(), sample.labels.clone())), "{line} appears twice");
            samples.push(sample);
        }
    }
    (types, samples)
}

fn sample(line: &str) -> Sample {
    let end = line.find(['{', ' ']).unwrap();
    let name = line[..end].to_owned();
    let is_name_char = |char: char| char.is_ascii_alphanumeric() || char == '_';
    assert!(
        name.chars().all(is_name_char) && !name.starts_with(|char: char| char.is_ascii_digit()),
        "{line}"
    );
    let mut labels = Labels::new();
    let mut rest = &line[end..];
    if let Some(mut inner) = rest.strip_prefix('{') {
        loop {
            let (label, after) = inner.split_once("=\"").unwrap();
            assert!(!label.is_empty() && label.chars().all(is_name_char), "{line}");
            let (value, after) = quoted(after);
            assert!(labels.insert(label.to_owned(), value).is_none(), "{line} repeats a label");
            if let Some(after) = after.strip_prefix('}') {
                rest = after;
                break;
            }
            inner = after.strip_prefix(',').unwrap();
        }
    }
    let value = rest.strip_prefix(' ').unwrap();
    let value = if value == "+Inf" { f64::INFINITY } else { value.parse().unwrap() };
    Sample { name, labels, value }
}

fn quoted(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut chars = text.chars();
    loop {
        match chars.next().unwrap() {
            '"' => return (value, chars.as_str()),
            '\\' => value.push(match chars.next().unwrap() {
                'n' => '\n',
                char @ ('\\' | '"') => char,
                other => panic!("escape {other}"),
            }),
            char => value.push(char),
        }
    }
}

struct MetricsPage {
    types: BTreeMap<String, String>,
    samples: Vec<Sample>,
}

impl MetricsPage {
    fn of(metrics: &Metrics) -> Self {
        MetricsPage::at(metrics, Instant::now())
    }

    fn at(metrics: &Metrics, now: Instant) -> Self {
        let (types, samples) = parse(std::str::from_utf8(&metrics.render_at(now)).unwrap());
        MetricsPage { types, samples }
    }

    /// The sum of the series that have all these labels; `None` without such a series.
    fn sum(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let name = format!("statusquo_{name}");
        let has = |sample: &&Sample| {
            labels
                .iter()
                .all(|(label, value)| sample.labels.get(*label).is_some_and(|actual| actual == value))
        };
        let mut found = self.samples.iter().filter(|sample| sample.name == name).filter(has).peekable();
        found.peek().is_some().then(|| found.map(|sample| sample.value).sum())
    }
}

fn new_metrics() -> Metrics {
    Metrics::new()
}

fn route_of(metrics: &Metrics, name: &str, upstream: Option<&str>) -> Arc<RouteMetrics> {
    metrics.route(&CodeLabels::for_contract(&Contract::builtin("appwrite").unwrap()), name, upstream)
}

#[test]
fn metrics_page_of_a_small_gateway_is_exact() {
    let metrics = new_metrics();
    let shop = route_of(&metrics, "shop", Some("backend"));
    shop.response(200, ResponseOrigin::Upstream);
    shop.response(503, ResponseOrigin::Proxy);
    shop.error(503, Trigger::Fault(Cause::BreakerOpen), None);
    shop.duration(200, Duration::from_millis(3));
    let page = String::from_utf8(metrics.render()).unwrap();
    // Without values that differ between runs, and without series that repeat a list.
    let stable_lines = page.lines().filter(|line| {
        !["process_", "_aborted_total{", "_closed_without_", "build_info{", "overhead_"]
            .iter()
            .any(|part| line.contains(part))
    });
    let expected = r#"# HELP statusquo_aborted_total Responses truncated, and tunnels closed, after the headers were sent. The client sees a reset or an early end of its connection or stream.
# TYPE statusquo_aborted_total counter
# HELP statusquo_build_info Always 1; the labels identify the running build.
# TYPE statusquo_build_info gauge
# HELP statusquo_config_last_reload_successful 1 if the last configuration reload was applied, 0 if it was rejected.
# TYPE statusquo_config_last_reload_successful gauge
statusquo_config_last_reload_successful 0
# HELP statusquo_config_last_reload_timestamp_seconds Unix time at which the active configuration was loaded, at startup or by a reload.
# TYPE statusquo_config_last_reload_timestamp_seconds gauge
statusquo_config_last_reload_timestamp_seconds 0
# HELP statusquo_config_reloads_total Configuration reloads (SIGHUP), by result: `applied` or `rejected`.
# TYPE statusquo_config_reloads_total counter
statusquo_config_reloads_total{result="applied"} 0
statusquo_config_reloads_total{result="rejected"} 0
# HELP statusquo_details_dropped_total Texts in the details of upstream errors that were left out because they look like markup, a stack trace or credentials, and details that exceed a bound.
# TYPE statusquo_details_dropped_total counter
statusquo_details_dropped_total 0
# HELP statusquo_errors_total Responses with a status code of 400 or above, by the cause that determined it (`upstream_response`: the upstream's own status code).
# TYPE statusquo_errors_total counter
statusquo_errors_total{cause="breaker_open",code="503",route="shop",upstream="backend",upstream_status="none"} 1
# HELP statusquo_log_lines_dropped_total Lost log lines: `queue_full` (standard error accepts lines too slowly) or `write_failed` (writing to it failed).
# TYPE statusquo_log_lines_dropped_total counter
statusquo_log_lines_dropped_total{reason="queue_full"} 0
statusquo_log_lines_dropped_total{reason="write_failed"} 0
# HELP statusquo_panics_total Panics caught while handling a request; the client got a 500 or an aborted response. Each is a bug.
# TYPE statusquo_panics_total counter
statusquo_panics_total 0
# HELP statusquo_request_duration_seconds Time from the parsed request headers to the end of the response, by class of the status code sent.
# TYPE statusquo_request_duration_seconds histogram
statusquo_request_duration_seconds_bucket{class="2xx",route="shop",le="0.001"} 0
statusquo_request_duration_seconds_bucket{class="2xx",route="shop",le="0.0025"} 0
statusquo_request_duration_seconds_bucket{class="2xx",route="shop",le="0.005"} 1
statusquo_request_duration_seconds_bucket{class="2xx",route="shop",le="0.01"} 1
statusquo_request_duration_seconds_bucket{class="2xx",route="shop",le="0.025"} 1
statusquo_request_duration_seconds_bucket{class="2xx",route="shop",le="0.05"} 1
statusquo_request_duration_seconds_bucket{class="2xx",route="shop",le="0.1"} 1
statusquo_request_duration_seconds_bucket{class="2xx",route="shop",le="0.25"} 1
statusquo_request_duration_seconds_bucket{class="2xx",route="shop",le="0.5"} 1
statusquo_request_duration_seconds_bucket{class="2xx",route="shop",le="1"} 1
statusquo_request_duration_seconds_bucket{class="2xx",route="shop",le="2.5"} 1
statusquo_request_duration_seconds_bucket{class="2xx",route="shop",le="5"} 1
statusquo_request_duration_seconds_bucket{class="2xx",route="shop",le="10"} 1
statusquo_request_duration_seconds_bucket{class="2xx",route="shop",le="30"} 1
statusquo_request_duration_seconds_bucket{class="2xx",route="shop",le="60"} 1
statusquo_request_duration_seconds_bucket{class="2xx",route="shop",le="+Inf"} 1
statusquo_request_duration_seconds_sum{class="2xx",route="shop"} 0.003
statusquo_request_duration_seconds_count{class="2xx",route="shop"} 1
# HELP statusquo_responses_total Responses whose headers were sent (interim responses excluded), by status code and origin: `upstream` (forwarded), `completed` (forwarded with members that only the gateway knows, or as a problem document), `replaced` (sent in place of the upstream's error), or `proxy` (the gateway's own).
# TYPE statusquo_responses_total counter
statusquo_responses_total{code="200",origin="upstream",route="shop"} 1
statusquo_responses_total{code="400",origin="proxy",route="shop"} 0
statusquo_responses_total{code="400",origin="replaced",route="shop"} 0
statusquo_responses_total{code="401",origin="proxy",route="shop"} 0
statusquo_responses_total{code="401",origin="replaced",route="shop"} 0
statusquo_responses_total{code="403",origin="proxy",route="shop"} 0
statusquo_responses_total{code="403",origin="replaced",route="shop"} 0
statusquo_responses_total{code="404",origin="proxy",route="shop"} 0
statusquo_responses_total{code="404",origin="replaced",route="shop"} 0
statusquo_responses_total{code="409",origin="proxy",route="shop"} 0
statusquo_responses_total{code="409",origin="replaced",route="shop"} 0
statusquo_responses_total{code="429",origin="proxy",route="shop"} 0
statusquo_responses_total{code="429",origin="replaced",route="shop"} 0
statusquo_responses_total{code="500",origin="proxy",route="shop"} 0
statusquo_responses_total{code="500",origin="replaced",route="shop"} 0
statusquo_responses_total{code="503",origin="proxy",route="shop"} 1
statusquo_responses_total{code="503",origin="replaced",route="shop"} 0
statusquo_responses_total{code="504",origin="proxy",route="shop"} 0
statusquo_responses_total{code="504",origin="replaced",route="shop"} 0
"#;
    assert_eq!(stable_lines.map(|line| format!("{line}\n")).collect::<String>(), expected);
}

#[test]
fn documented_series_start_at_zero() {
    let metrics = new_metrics();
    for route in ["shop", "none"] {
        route_of(&metrics, route, None);
    }
    let page = MetricsPage::of(&metrics);
    for route in ["shop", "none"] {
        for code in ["400", "401", "403", "404", "409", "429", "500", "503", "504"] {
            for origin in ["replaced", "proxy"] {
                let labels = [("route", route), ("code", code), ("origin", origin)];
                assert_eq!(page.sum("responses_total", &labels), Some(0.0), "{labels:?}");
            }
        }
    }
    for cause in Cause::ALL.iter().map(|cause| cause.name()).chain(["client_gone"]) {
        assert_eq!(page.sum("aborted_total", &[("cause", cause)]), Some(0.0), "{cause}");
    }
    for reason in CloseReason::ALL {
        assert_eq!(
            page.sum("closed_without_response_total", &[("cause", reason.name())]),
            Some(0.0),
            "{reason:?}"
        );
    }
    for result in ["applied", "rejected"] {
        assert_eq!(page.sum("config_reloads_total", &[("result", result)]), Some(0.0), "{result}");
    }
    for reason in ["queue_full", "write_failed"] {
        assert_eq!(page.sum("log_lines_dropped_total", &[("reason", reason)]), Some(0.0), "{reason}");
    }
    for name in ["panics_total", "overhead_seconds_count"] {
        assert_eq!(page.sum(name, &[]), Some(0.0), "{name}");
    }
    assert_eq!(page.sum("build_info", &[("version", env!("CARGO_PKG_VERSION"))]), Some(1.0));
    // All other series are 0.
    let nonzero: Vec<_> = page
        .samples
        .iter()
        .filter(|sample| sample.name.starts_with(definitions::PREFIX) && sample.value != 0.0)
        .map(|sample| sample.name.as_str())
        .collect();
    assert_eq!(nonzero, ["statusquo_build_info"]);
}

/// Changes every metric, for a route `shop` with the upstream `backend`.
fn change_every_metric(metrics: &Metrics) {
    let route = route_of(metrics, "shop", Some("backend"));
    route.response(200, ResponseOrigin::Upstream);
    route.error(504, Trigger::Fault(Cause::DnsError), None);
    route.client_disconnected();
    route.would_replace(502, 504);
    route.grpc_error(
        Trigger::Fault(Cause::RateLimited),
        crate::contract::grpc_status::GrpcStatus::ResourceExhausted,
    );
    route.duration(200, Duration::ZERO);
    let upstream = metrics.upstream("backend", vec!["backend:80".to_owned()]);
    upstream.attempt(0, Ok(()));
    upstream.retry(0, Ok(()));
    upstream.connect_time(Duration::ZERO);
    upstream.connection(false);
    upstream.shed(Cause::QueueFull);
    drop(upstream.queued());
    metrics.concurrency_limits([("backend", 512)].into_iter());
    let servers = [("backend", "backend:80", "healthy")];
    metrics.upstream_states(servers.into_iter(), [("backend", "closed")].into_iter());
    upstream.conformance(Conformance::Conforms);
    metrics.config_loaded("0123456789ab", UNIX_EPOCH);
    metrics.certificate_expiry(
        [("127.0.0.1:443", "a.example", 9), ("127.0.0.1:443", "a.example", 7)].into_iter(),
    );
    drop(metrics.connections("127.0.0.1:80").guard());
    metrics.limit("per_ip", None).record(LimitDecision::Allowed);
    let store = metrics.backend("shared", ["timeout"].into_iter());
    store.record_duration(std::time::Duration::from_millis(1));
    metrics.register_limit("per_ip", || Some(LimitStats { evicted_idle: 1, ..LimitStats::default() }));
}

#[test]
fn every_metric_has_its_documented_name_type_and_labels() {
    let metrics = new_metrics();
    change_every_metric(&metrics);
    let page = MetricsPage::of(&metrics);
    for row in definitions::ALL {
        assert_eq!(
            page.types.get(&row.full_name()).map(String::as_str),
            Some(type_name(row.kind)),
            "{}",
            row.name
        );
        let count = format!("{}_count", row.full_name());
        let sample =
            page.samples.iter().find(|sample| sample.name == row.full_name() || sample.name == count);
        let sample = sample.unwrap();
        let labels: BTreeSet<&str> = sample.labels.keys().map(String::as_str).collect();
        assert_eq!(labels, row.labels.iter().copied().collect(), "{}", row.name);
    }
    let own_families = page.types.keys().filter(|name| !name.starts_with("process_")).count();
    assert_eq!(own_families, definitions::ALL.len(), "a metric without a row in the table");
    assert!(!cfg!(target_os = "linux") || page.types.contains_key("process_open_fds"));
}

#[test]
fn series_of_removed_names_disappear_gauges_at_once_and_counters_later() {
    let names = BTreeSet::from([
        SeriesName::Route("shop".to_owned()),
        SeriesName::Upstream("backend".to_owned()),
        SeriesName::Server("backend".to_owned(), "backend:80".to_owned()),
        SeriesName::Rule("per_ip".to_owned()),
        SeriesName::Store("shared".to_owned()),
    ]);
    let metrics = new_metrics();
    // The families with a series of such a name.
    let named = |now| -> BTreeSet<String> {
        let labels = ["route", "upstream", "rule", "store"];
        let is_named = |sample: &&Sample| labels.iter().any(|label| sample.labels.contains_key(*label));
        let samples = MetricsPage::at(&metrics, now).samples;
        samples.iter().filter(is_named).map(|sample| sample.name.clone()).collect()
    };
    metrics.keep_series(&names);
    change_every_metric(&metrics);
    let start = Instant::now();
    metrics.activate_series(&names, start);
    let all = named(start + Duration::from_secs(86_400));
    assert!(all.len() > 20, "{all:?}");

    metrics.activate_series(&BTreeSet::new(), start);
    let gauges =
        ["requests_in_flight", "requests_queued", "rate_limit_keys"].map(|name| format!("statusquo_{name}"));
    let counters: BTreeSet<String> = all.iter().filter(|name| !gauges.contains(name)).cloned().collect();
    assert_eq!(named(start), counters);
    let lifetime = Duration::from_secs(600);
    assert_eq!(named(start + lifetime - Duration::from_millis(1)), counters);
    // The snapshot replaces these as a whole.
    let replaced = ["breaker_state", "concurrency_limit", "upstream_server_state", "upstream_server_up"]
        .map(|name| format!("statusquo_{name}"));
    assert_eq!(named(start + lifetime), BTreeSet::from(replaced));

    metrics.keep_series(&names);
    route_of(&metrics, "shop", Some("backend")).response(200, ResponseOrigin::Upstream);
    metrics.activate_series(&names, start + lifetime);
    let page = MetricsPage::at(&metrics, start + 9 * lifetime);
    assert_eq!(page.sum("responses_total", &[("route", "shop"), ("code", "200")]), Some(1.0));
}

#[test]
fn errors_are_counted_by_cause_and_upstream_status() {
    let metrics = new_metrics();
    let route = route_of(&metrics, "shop", Some("backend"));
    route.error(504, Trigger::Fault(Cause::ConnectionRefused), None);
    route.error(504, Trigger::Fault(Cause::ConnectionRefused), None);
    route.error(504, Trigger::Fault(Cause::HttpResponseIncomplete), Some(500));
    route.error(504, Trigger::UpstreamStatus(502), Some(502));
    route.error(404, Trigger::UpstreamStatus(404), None);
    route.error(400, Trigger::UpstreamStatus(418), None);
    // An override may map one cause to different codes.
    route.error(503, Trigger::Fault(Cause::ConnectionRefused), None);
    route_of(&metrics, "none", None).error(404, Trigger::Fault(Cause::DestinationNotFound), None);

    let page = MetricsPage::of(&metrics);
    let mut rows: Vec<_> = page
        .samples
        .iter()
        .filter(|sample| sample.name == "statusquo_errors_total")
        .map(|sample| {
            let label = |name: &str| sample.labels[name].clone();
            let words = ["route", "upstream", "code", "cause", "upstream_status"].map(label).join(" ");
            format!("{words} {}", sample.value)
        })
        .collect();
    rows.sort();
    assert_eq!(
        rows,
        [
            "none none 404 destination_not_found none 1",
            "shop backend 400 upstream_response other_4xx 1",
            "shop backend 404 upstream_response 404 1",
            "shop backend 503 connection_refused none 1",
            "shop backend 504 connection_refused none 2",
            "shop backend 504 http_response_incomplete 500 1",
            "shop backend 504 upstream_response 502 1",
        ]
    );
}

#[test]
fn sums_over_routes_match_the_responses_sent() {
    let metrics = new_metrics();
    let routes = ["a", "b", "none"].map(|name| route_of(&metrics, name, None));
    let mut sent: BTreeMap<u16, f64> = BTreeMap::new();
    // More combinations than the handle caches have slots: the last ones are looked up by labels.
    for (offset, route) in routes.iter().enumerate() {
        for (index, &cause) in Cause::ALL.iter().enumerate() {
            for code in [400, 404, 500, 503, 504] {
                if (index + offset) % 2 == 0 {
                    route.response(code, ResponseOrigin::Proxy);
                    route.error(code, Trigger::Fault(cause), None);
                } else {
                    route.response(code, ResponseOrigin::Replaced);
                    route.error(code, Trigger::UpstreamStatus(400 + index as u16), None);
                }
                *sent.entry(code).or_default() += 1.0;
            }
        }
    }
    let page = MetricsPage::of(&metrics);
    for (code, count) in sent {
        let label = code.to_string();
        assert_eq!(page.sum("responses_total", &[("code", &label)]), Some(count), "responses of {code}");
        assert_eq!(page.sum("errors_total", &[("code", &label)]), Some(count), "errors of {code}");
    }
}

#[test]
fn counters_survive_a_new_snapshot() {
    let metrics = new_metrics();
    route_of(&metrics, "shop", None).response(503, ResponseOrigin::Proxy);
    route_of(&metrics, "shop", None).response(503, ResponseOrigin::Proxy);
    let labels = [("route", "shop"), ("code", "503"), ("origin", "proxy")];
    assert_eq!(MetricsPage::of(&metrics).sum("responses_total", &labels), Some(2.0));
}

#[test]
fn upstream_events_are_counted_by_result() {
    let metrics = new_metrics();
    let upstream = metrics.upstream("backend", vec!["backend:80".to_owned()]);
    upstream.attempt(0, Err(Cause::ConnectionRefused));
    upstream.attempt(0, Ok(()));
    upstream.retry(0, Ok(()));
    upstream.connection(false);
    upstream.connection(true);
    upstream.connection(true);
    upstream.connect_time(Duration::from_millis(2));
    upstream.response_headers_time(Duration::from_millis(40));
    for &result in Conformance::ALL {
        upstream.conformance(result);
    }
    let page = MetricsPage::of(&metrics);
    assert_eq!(page.sum("upstream_attempts_total", &[("result", "connection_refused")]), Some(1.0));
    assert_eq!(page.sum("upstream_attempts_total", &[("result", "ok")]), Some(1.0));
    assert_eq!(page.sum("upstream_retries_total", &[]), Some(1.0));
    assert_eq!(page.sum("upstream_connections_total", &[("reused", "false")]), Some(1.0));
    assert_eq!(page.sum("upstream_connections_total", &[("reused", "true")]), Some(2.0));
    assert_eq!(page.sum("upstream_phase_duration_seconds_sum", &[("phase", "connect")]), Some(0.002));
    assert_eq!(page.sum("upstream_phase_duration_seconds_sum", &[("phase", "response_headers")]), Some(0.04));
    for result in Conformance::ALL {
        assert_eq!(
            page.sum("conformance_total", &[("upstream", "backend"), ("result", result.label())]),
            Some(1.0)
        );
    }
}

#[test]
fn gauge_guard_decrements_on_drop_and_on_panic() {
    let metrics = new_metrics();
    let upstream = metrics.upstream("backend", vec!["backend:80".to_owned()]);
    let first_guard = upstream.in_flight();
    let second_guard = upstream.in_flight();
    assert_eq!(upstream.in_flight_count(), 2);
    drop(first_guard);
    assert_eq!(MetricsPage::of(&metrics).sum("requests_in_flight", &[("upstream", "backend")]), Some(1.0));
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _held = second_guard;
        panic!("on purpose");
    }));
    assert!(panicked.is_err());
    assert_eq!(upstream.in_flight_count(), 0);

    let listener = metrics.connections("0.0.0.0:80");
    let _open = listener.guard();
    assert_eq!(MetricsPage::of(&metrics).sum("connections", &[("listener", "0.0.0.0:80")]), Some(1.0));
}

#[test]
fn durations_are_counted_by_status_class() {
    let metrics = new_metrics();
    let route = route_of(&metrics, "shop", None);
    for status in [200, 204, 302, 404, 599, 101, 99, 600, 0] {
        route.duration(status, Duration::from_secs(1));
    }
    let page = MetricsPage::of(&metrics);
    let count = |class| page.sum("request_duration_seconds_count", &[("class", class)]);
    assert_eq!(["2xx", "3xx", "4xx", "5xx"].map(count), [Some(2.0), Some(1.0), Some(1.0), Some(1.0)]);
    assert_eq!(page.sum("request_duration_seconds_count", &[]), Some(5.0));
}

#[test]
fn aborts_and_closes_are_counted_by_cause() {
    let metrics = new_metrics();
    metrics.aborted(Cause::HttpResponseIncomplete);
    metrics.aborted_client_gone();
    metrics.closed_without_response(CloseReason::NoRequest);
    metrics.panics.inc();
    metrics.overhead(Duration::from_micros(30));
    let page = MetricsPage::of(&metrics);
    assert_eq!(page.sum("aborted_total", &[("cause", "http_response_incomplete")]), Some(1.0));
    assert_eq!(page.sum("aborted_total", &[("cause", "client_gone")]), Some(1.0));
    assert_eq!(page.sum("aborted_total", &[]), Some(2.0));
    assert_eq!(page.sum("closed_without_response_total", &[("cause", "no_request")]), Some(1.0));
    assert_eq!(page.sum("panics_total", &[]), Some(1.0));
    assert_eq!(page.sum("overhead_seconds_bucket", &[("le", "0.00005")]), Some(1.0));
    assert_eq!(page.sum("overhead_seconds_bucket", &[("le", "0.000025")]), Some(0.0));
}

#[test]
fn configured_names_are_escaped_in_labels() {
    let metrics = new_metrics();
    route_of(&metrics, "a\"b\\c\nd", None).client_disconnected();
    assert_eq!(
        MetricsPage::of(&metrics).sum("client_disconnects_total", &[("route", "a\"b\\c\nd")]),
        Some(1.0)
    );
}
