//! State that is carried over from one snapshot to the next.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::time::Instant;

use super::*;
use crate::upstream::concurrency::{AcquireOutcome, Occupancy};

const SHOP: &str = "shop: { servers: [127.0.0.1:1], concurrency: { max: 1, queue: 0 } }";

fn build(upstreams: &[&str], metrics: &Metrics, previous: Option<&Snapshot>) -> Snapshot {
    let upstreams: String = upstreams.iter().map(|upstream| format!("  {upstream}\n")).collect();
    let text = format!(
        "listen: [{{ address: 127.0.0.1:0 }}]\nupstreams:\n{upstreams}routes: [{{ name: r, upstream: shop }}]\n"
    );
    let config =
        config::load_str("test.yaml", &text, &|_| None, 1).unwrap_or_else(|problems| panic!("{problems}"));
    let snapshot = Snapshot::build(&config, metrics, previous).unwrap();
    snapshot.apply(metrics);
    snapshot
}

fn concurrency_limit_metric(metrics: &Metrics) -> String {
    let page = String::from_utf8(metrics.render()).unwrap();
    page.lines().filter(|line| line.starts_with("statusquo_concurrency_limit{")).collect()
}

#[test]
fn upstream_is_kept_while_its_settings_are_equal() {
    let metrics = Metrics::new();
    let first = build(&[SHOP, "other: { servers: [127.0.0.1:2] }"], &metrics, None);
    let second = build(
        &["other: { servers: [127.0.0.1:3] }", &SHOP.replace("queue: 0", "queue: 5")],
        &metrics,
        Some(&first),
    );
    assert!(Arc::ptr_eq(&first.upstreams[0].runtime, &second.upstreams[1].runtime));
    assert!(!Arc::ptr_eq(&first.upstreams[1].runtime, &second.upstreams[0].runtime));
    for changed in [
        SHOP.replace("127.0.0.1:1", "127.0.0.1:9"),
        SHOP.replace("concurrency", "dns_refresh: 3s, concurrency"),
        SHOP.replace("concurrency", "keepalive: { max: 3 }, concurrency"),
        SHOP.replace("shop:", "shop2:") + "\n  shop: { servers: [127.0.0.1:1], keepalive: { idle: 1s } }",
    ] {
        let third = build(&[&changed], &metrics, Some(&second));
        let kept = |upstream: &UpstreamHandle| Arc::ptr_eq(&upstream.runtime, &second.upstreams[1].runtime);
        assert!(!third.upstreams.iter().any(kept), "{changed}");
    }
}

#[test]
fn in_flight_requests_count_against_the_next_snapshots_limit() {
    let metrics = Metrics::new();
    let first = build(&[SHOP], &metrics, None);
    let concurrency = first.routes[0].concurrency.as_deref().unwrap();
    let AcquireOutcome::Permit(_held) = concurrency.try_acquire(Instant::now()) else {
        panic!("below the limit")
    };
    let changed = SHOP.replace("127.0.0.1:1", "127.0.0.1:9").replace("max: 1", "max: 2");
    let second = build(&[&changed], &metrics, Some(&first));
    let concurrency = second.routes[0].concurrency.as_deref().unwrap();
    assert_eq!(concurrency.occupancy(), Occupancy { in_flight: 1, waiting: 0 });
    let AcquireOutcome::Permit(_second) = concurrency.try_acquire(Instant::now()) else {
        panic!("the new limit is 2")
    };
    assert!(matches!(concurrency.try_acquire(Instant::now()), AcquireOutcome::QueueFull));
    assert_eq!(concurrency_limit_metric(&metrics), "statusquo_concurrency_limit{upstream=\"shop\"} 2");
}

#[test]
fn removed_limit_disappears_from_metrics_and_admits_everyone() {
    let metrics = Metrics::new();
    let first = build(&[SHOP], &metrics, None);
    let second = build(&["shop: { servers: [127.0.0.1:1] }"], &metrics, Some(&first));
    assert_eq!(
        second.routes[0].concurrency.as_ref().unwrap().limits(),
        crate::upstream::concurrency::ConcurrencyLimits::UNLIMITED
    );
    assert!(Arc::ptr_eq(&first.routes[0].upstream, &second.routes[0].upstream));
    assert_eq!(concurrency_limit_metric(&metrics), "");
}

#[test]
fn new_contract_adds_labels_and_keeps_counters() {
    let metrics = Metrics::new();
    let first = build(&[SHOP], &metrics, None);
    first.routes[0].metrics.response(504, crate::telemetry::ResponseOrigin::Proxy);
    let codes: Vec<String> = [400, 401, 403, 404, 409, 429, 455, 500, 503, 504]
        .iter()
        .map(|code| format!("{{ code: {code}, text: No, message: \"No.\" }}"))
        .collect();
    let shop = format!("{SHOP}\ncontract: {{ codes: [{}] }}", codes.join(", "));
    let second = build(&[&shop], &metrics, Some(&first));
    second.routes[0].metrics.response(455, crate::telemetry::ResponseOrigin::Proxy);
    second.routes[0].metrics.response(504, crate::telemetry::ResponseOrigin::Proxy);
    let page = String::from_utf8(metrics.render()).unwrap();
    let has = |code, count| {
        format!("\nstatusquo_responses_total{{code=\"{code}\",origin=\"proxy\",route=\"r\"}} {count}\n")
    };
    assert!(page.contains(&has(455, 1)) && page.contains(&has(504, 2)), "{page}");
}
