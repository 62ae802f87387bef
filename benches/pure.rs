//! Criterion benchmarks of the pure steps of a request: `cargo bench --bench pure`. `-- --bounds` measures the memory
//! of rate limits under a flood of clients, `-- --rates` decisions per second in memory and in Redis.
//!
//! `pure/samples.rs` defines the measured steps; `tests/benchmarks.rs` asserts that each step returns the expected
//! result. `peers.rs` measures the whole path against other proxies.

#![allow(unreachable_pub)] // a test crate exports nothing
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "pure/decision_rates.rs"]
mod decision_rates;
#[path = "pure/memory_bounds.rs"]
mod memory_bounds;
#[path = "pure/samples.rs"]
mod samples;

use std::hint::black_box;
use std::time::Duration;

use criterion::Criterion;

use statusquo::limit::Algorithm;

use samples::{CONFORMING, NON_CONFORMING, REQUEST, RESPONSE, Samples};

fn contract(c: &mut Criterion, samples: &Samples) {
    c.bench_function("policy: upstream fault", |b| b.iter(|| black_box(samples.decide_fault())));
    c.bench_function("policy: upstream status code", |b| b.iter(|| black_box(samples.decide_status())));
    let decision = samples.decide_fault();
    c.bench_function("compose a local reply", |b| {
        b.iter(|| black_box(samples.compose(black_box(&decision))))
    });
    c.bench_function("check an error body", |b| b.iter(|| samples.examine(404, black_box(CONFORMING))));
    c.bench_function("extract message and type of an error body", |b| {
        b.iter(|| samples.extract(black_box(NON_CONFORMING)))
    });
}

fn routing(c: &mut Criterion, samples: &Samples) {
    let path = "/v1/databases/main/collections/orders";
    c.bench_function("route: exact host", |b| b.iter(|| samples.route(black_box("api7.example.com"), path)));
    c.bench_function("route: wildcard host", |b| b.iter(|| samples.route(black_box("eu.example.com"), path)));
}

fn limits(c: &mut Criterion, samples: &Samples) {
    c.bench_function("limit: GCRA without table, 2 requests", |b| b.iter(|| black_box(samples.gcra())));
    let algorithms = [
        ("GCRA", Algorithm::Gcra),
        ("fixed window", Algorithm::FixedWindow),
        ("sliding window", Algorithm::SlidingWindow),
    ];
    for (name, algorithm) in algorithms {
        let mut now = Duration::ZERO;
        c.bench_function(&format!("limit: {name} allows"), |b| {
            b.iter(|| {
                now += Duration::from_secs(1);
                samples.limit(algorithm, black_box(now))
            });
        });
        // The quota is already used up: the first requests take it.
        let now = Duration::from_secs(u64::from(u32::MAX));
        c.bench_function(&format!("limit: {name} denies"), |b| {
            b.iter(|| samples.limit(algorithm, black_box(now)));
        });
    }
}

fn heads(c: &mut Criterion) {
    c.bench_function("scan request headers", |b| b.iter(|| samples::scan_request(black_box(REQUEST))));
    c.bench_function("parse request headers", |b| b.iter(|| samples::parse_request(black_box(REQUEST))));
    c.bench_function("scan response headers", |b| b.iter(|| samples::scan_response(black_box(RESPONSE))));
    c.bench_function("parse response headers", |b| b.iter(|| samples::check_response(black_box(RESPONSE))));
}

fn main() {
    if std::env::args().any(|word| word == "--bounds") {
        return memory_bounds::check();
    }
    if std::env::args().any(|word| word == "--rates") {
        return decision_rates::measure(Duration::from_secs(2));
    }
    // These steps take nanoseconds; the whole run stays below one minute.
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_millis(1500))
        .sample_size(50)
        .configure_from_args();
    let samples = Samples::new();
    contract(&mut criterion, &samples);
    routing(&mut criterion, &samples);
    limits(&mut criterion, &samples);
    heads(&mut criterion);
    criterion.final_summary();
}
