//! Keeps the benchmarks correct: asserts what each step returns, and runs the peer benchmark on a small scale.
//!
//! Nothing is timed here. The sources of `benches/` are compiled into this test.

#![allow(unreachable_pub)] // a test crate exports nothing
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::panic
)]
#![allow(clippy::print_stderr)] // reports progress of the peer benchmark
#![allow(clippy::disallowed_methods)] // waits for other programs and reads the environment

#[path = "../benches/peers/mod.rs"]
#[allow(dead_code)] // counting and pinning need an otherwise idle machine
mod peers;
#[path = "../benches/pure/samples.rs"]
mod samples;
#[path = "../benches/pure/decision_rates.rs"]
#[allow(dead_code)] // the tables need an otherwise idle machine
mod stores;

use std::path::Path;
use std::time::Duration;

use statusquo::contract::Conformance;
use statusquo::http::framing::RequestFraming;
use statusquo::http::request_scanner::ScanProgress;
use statusquo::http::response_framer::FramerProgress;
use statusquo::http::response_head::ResponseFraming;
use statusquo::limit::{Algorithm, QuotaDecision};

use peers::Scale;
use peers::baseline::{self, Cost};
use samples::{CONFORMING, NON_CONFORMING, REQUEST, RESPONSE, Samples};

#[test]
fn contract_steps_return_the_expected_results() {
    let samples = Samples::new();
    assert_eq!(samples.decide_fault().code().status(), 504);
    assert_eq!(samples.decide_status().code().status(), 504);
    let reply = samples.compose(&samples.decide_fault());
    assert!(reply.body().ends_with(b"\"code\":504}"), "{reply:?}");
    assert_eq!(samples.examine(404, CONFORMING), Conformance::Conforms);
    let kept = samples.extract(NON_CONFORMING);
    assert_eq!(kept.message.as_deref(), Some("The name must not be longer than 128 characters."));
}

#[test]
fn router_distinguishes_all_100_routes() {
    let samples = Samples::new();
    let path = "/v1/databases/main/collections/orders";
    assert_eq!(samples.route("api7.example.com", path), Some(7 * 9 + 3));
    assert_eq!(samples.route("eu.example.com", path), Some(10 * 9 + 3));
    assert_eq!(samples.route("elsewhere.example", path), Some(99));
}

#[test]
fn limiters_allow_the_burst_and_deny_the_next_request() {
    let samples = Samples::new();
    assert!(matches!(samples.gcra(), QuotaDecision::Allow(_)));
    let now = Duration::from_secs(1);
    for (algorithm, expected) in
        [(Algorithm::Gcra, 20), (Algorithm::FixedWindow, 100), (Algorithm::SlidingWindow, 100)]
    {
        let admitted =
            (0..200).filter(|_| matches!(samples.limit(algorithm, now), QuotaDecision::Allow(_))).count();
        assert_eq!(admitted, expected, "{algorithm:?}");
    }
}

#[test]
fn memory_and_redis_decisions_all_succeed() {
    let short = Duration::from_millis(100);
    assert!(stores::measure_memory(2, short).decisions >= 2_000);
    let server = stores::RedisProcess::start();
    for algorithm in [Algorithm::Gcra, Algorithm::FixedWindow, Algorithm::SlidingWindow] {
        let rate = stores::measure_redis(&server, algorithm, 16, short);
        assert!(rate.decisions > 0 && rate.failures == 0, "{algorithm:?}: {rate:?}");
    }
}

#[test]
fn sample_header_sections_are_complete_and_valid() {
    assert_eq!(samples::scan_request(REQUEST), ScanProgress::Complete { length: REQUEST.len(), skip: 0 });
    let parsed = samples::parse_request(REQUEST);
    assert_eq!((parsed.field_count, parsed.framing, parsed.keep_alive), (9, RequestFraming::None, true));
    assert_eq!(samples::scan_response(RESPONSE), FramerProgress::Complete(RESPONSE.len()));
    let parsed = samples::check_response(RESPONSE);
    assert_eq!((parsed.status, parsed.framing), (200, ResponseFraming::Length(1024)));
}

#[test]
fn peer_benchmark_returns_expected_responses_at_small_scale() {
    let text = peers::measure(Path::new(env!("CARGO_BIN_EXE_statusquo")), Scale::SMOKE, None)
        .unwrap_or_else(|error| panic!("{error}"));
    for (job, responses) in [("W1", "forwarded"), ("W2", "JSON 504"), ("W4", "JSON 504")] {
        let row =
            text.lines().find(|line| line.starts_with(&format!("| {job} ")) && line.contains("statusquo"));
        assert!(row.is_some_and(|row| row.contains(responses)), "{text}");
    }
    assert!(text.contains("with 20 idle connections"), "{text}");
}

fn costs(rows: &[(&str, f64, f64)]) -> Vec<Cost> {
    let cost = |(job, calls, instructions): &(&str, f64, f64)| Cost {
        job: (*job).to_owned(),
        calls: *calls,
        instructions: *instructions,
    };
    rows.iter().map(cost).collect()
}

#[test]
fn cost_guard_accepts_one_percent_more_and_anything_less() {
    let committed = costs(&[("W1", 4.2, 38_000.0), ("W3", 2.1, 19_000.0)]);
    let counted = costs(&[("W1", 4.3, 38_380.0), ("W3", 1.1, 9_500.0)]);
    let found = baseline::compare(&committed, &counted);
    assert_eq!(found.failures, [""; 0]);
    let rows: Vec<&str> = found.table.lines().skip(2).collect();
    assert_eq!(
        rows,
        [
            "| W1 | 4.20 | 4.30 | +2.4 % | 38000 | 38380 | +1.0 % |",
            "| W3 | 2.10 | 1.10 | -47.6 % | 19000 | 9500 | -50.0 % |"
        ]
    );
}

#[test]
fn cost_guard_fails_above_one_percent_and_on_one_more_call() {
    let committed = costs(&[("W1", 4.2, 38_000.0), ("W4", 10.2, 29_500.0)]);
    let counted = costs(&[("W1", 4.2, 38_381.0), ("W4", 11.2, 29_500.0)]);
    assert_eq!(
        baseline::compare(&committed, &counted).failures,
        ["W1: 38381 instructions instead of 38000", "W4: 11.20 system calls instead of 10.20"]
    );
}

#[test]
fn cost_guard_fails_for_a_job_on_one_side_only() {
    let (one, other) = (costs(&[("W1", 4.2, 38_000.0)]), costs(&[("W9", 1.0, 1.0)]));
    assert_eq!(baseline::compare(&one, &other).failures, ["W9: no committed cost", "W1: not counted"]);
}

#[test]
fn committed_costs_name_every_job_and_survive_an_update() {
    let text = include_str!("../benches/peers/baseline.tsv");
    let committed = baseline::parse(text).unwrap();
    let jobs: Vec<&str> = committed.iter().map(|cost| cost.job.as_str()).collect();
    assert_eq!(jobs, peers::job::Job::ALL.map(peers::job::Job::name));
    assert_eq!(baseline::write(&committed), text);
    assert!(baseline::parse("W1\t4.20\n").unwrap_err().contains("three columns"));
}
