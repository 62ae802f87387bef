//! Decisions per second: in memory from several threads, and in a local Redis over a pipelined connection.
//!
//! No requests are involved, only the rate-limit backend and Debian's redis-server: `cargo bench --bench pure --
//! --rates`.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use statusquo::limit::redis::{Address, BackendObserver, BackendSettings, RedisBackend};
use statusquo::limit::{
    Algorithm, Backend, BackendError, DebitRequest, Key, Limiter, OnFailure, Quota, Secret, Timestamp,
};

use crate::samples;

/// Measured rate of one backend.
#[derive(Debug)]
pub struct DecisionRate {
    pub decisions: u64,
    pub elapsed: Duration,
    /// Median latency of a decision.
    pub median: Duration,
    /// 99th percentile of the latency.
    pub slow: Duration,
    pub failures: u64,
}

impl DecisionRate {
    pub fn per_second(&self) -> f64 {
        self.decisions as f64 / self.elapsed.as_secs_f64()
    }
}

/// A dedicated redis-server process; ends on drop.
pub struct RedisProcess {
    child: Child,
    url: String,
}

impl RedisProcess {
    pub fn start() -> RedisProcess {
        let port = TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .expect("a free port")
            .port();
        let mut command = Command::new("redis-server");
        command.args([
            "--port",
            &port.to_string(),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--appendonly",
            "no",
        ]);
        let child = command.stdout(Stdio::null()).spawn().expect("redis-server; `make setup` installs it");
        RedisProcess { child, url: format!("redis://127.0.0.1:{port}") }
    }
}

impl Drop for RedisProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[derive(Debug, Default)]
struct FailureCounter(Arc<AtomicU64>);

impl BackendObserver for FailureCounter {
    fn on_success(&self, _: Duration) {}

    fn on_error(&self, _: BackendError, _: Duration) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Runs this number of concurrent decisions for `duration`, spread over 10,000 keys.
pub fn measure_redis(
    server: &RedisProcess,
    algorithm: Algorithm,
    concurrency: usize,
    duration: Duration,
) -> DecisionRate {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("threads").block_on(async {
        let failures = Arc::new(AtomicU64::new(0));
        let settings = BackendSettings {
            name: "bench".to_owned(),
            address: Address::parse(&server.url).expect("an address"),
            ca_pem: None,
            prefix: "bench:".to_owned(),
            secret: Secret::new([7, 11]),
            timeout: Duration::from_secs(1),
            on_failure: OnFailure::Deny,
        };
        let store = Arc::new(RedisBackend::new(settings, Box::new(FailureCounter(Arc::clone(&failures)))));
        store.start_reconnecting();
        let deadline = Instant::now() + Duration::from_secs(10);
        while !store.is_available() {
            assert!(Instant::now() < deadline, "redis-server does not respond");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let started = Instant::now();
        failures.store(0, Ordering::Relaxed);
        let clients: Vec<_> = (0..concurrency)
            .map(|client| {
                let store = Arc::clone(&store);
                tokio::spawn(async move {
                    decide_until(&store, algorithm, client as u64, started + duration).await
                })
            })
            .collect();
        let mut times = Vec::new();
        for client in clients {
            times.extend(client.await.expect("no panic"));
        }
        let elapsed = started.elapsed();
        times.sort_unstable();
        let at = |part: usize| times.get(times.len() * part / 100).copied().unwrap_or_default();
        let failures = failures.load(Ordering::Relaxed);
        DecisionRate {
            decisions: times.len() as u64 - failures,
            elapsed,
            median: at(50),
            slow: at(99),
            failures,
        }
    })
}

async fn decide_until(
    store: &RedisBackend,
    algorithm: Algorithm,
    client: u64,
    until: Instant,
) -> Vec<Duration> {
    let quota = Quota::new(1_000_000, Duration::from_secs(3_600), 1_000_000).expect("a valid quota");
    let (mut times, mut key) = (Vec::new(), client);
    while Instant::now() < until {
        key = key.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        let request = DebitRequest {
            rule: "bench",
            key: Key::from_bits(u128::from(key >> 33) % 10_000),
            quota,
            algorithm,
            cost: 1,
        };
        let started = Instant::now();
        let _ = store.debit(&[request]).await;
        times.push(started.elapsed());
    }
    times
}

/// Runs this number of threads, each with its own clients, against one in-memory rule.
pub fn measure_memory(threads: u32, duration: Duration) -> DecisionRate {
    let limiter: Limiter = samples::limiter(Algorithm::Gcra);
    let started = Instant::now();
    let decisions = std::thread::scope(|scope| {
        let limiter = &limiter;
        let counting = (0..threads).map(|thread| {
            scope.spawn(move || {
                let (mut decisions, mut number) = (0_u64, thread << 24);
                while started.elapsed() < duration {
                    for _ in 0..1_000 {
                        number = (number & 0xff00_0000) | (number.wrapping_add(1) & 0xffff);
                        let client = samples::ClientAddress(std::net::Ipv4Addr::from_bits(number).into());
                        std::hint::black_box(limiter.debit(
                            limiter.key(&client),
                            Timestamp::after_epoch(Duration::from_secs(decisions)),
                        ));
                        decisions += 1;
                    }
                }
                decisions
            })
        });
        counting.collect::<Vec<_>>().into_iter().map(|thread| thread.join().expect("no panic")).sum()
    });
    let elapsed = started.elapsed();
    DecisionRate { decisions, elapsed, median: Duration::ZERO, slow: Duration::ZERO, failures: 0 }
}

/// Prints both tables; fails when a backend is slower than its target.
#[allow(clippy::print_stdout)] // prints the result
pub fn measure(duration: Duration) {
    println!("| threads | decisions per second | per decision and thread, ns |\n|---|---:|---:|");
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32);
    // More threads than cores would measure preemption while a lock is held.
    for threads in 1..=cores {
        let rate = measure_memory(threads, duration);
        let each = 1e9 / rate.per_second() * f64::from(threads);
        println!("| {threads} | {:.0} | {each:.0} |", rate.per_second());
    }
    let server = RedisProcess::start();
    println!(
        "\n| algorithm | concurrent | decisions per second | median | 99 % |\n|---|---:|---:|---:|---:|"
    );
    let mut best = 0.0_f64;
    for (name, algorithm) in [
        ("gcra", Algorithm::Gcra),
        ("fixed_window", Algorithm::FixedWindow),
        ("sliding_window", Algorithm::SlidingWindow),
    ] {
        for concurrency in [1, 16, 64, 256] {
            let rate = measure_redis(&server, algorithm, concurrency, duration);
            let micros = |time: Duration| time.as_secs_f64() * 1e6;
            let (median, slow) = (micros(rate.median), micros(rate.slow));
            println!("| {name} | {concurrency} | {:.0} | {median:.0} µs | {slow:.0} µs |", rate.per_second());
            assert_eq!(rate.failures, 0, "{name}, {concurrency}");
            best = best.max(rate.per_second());
        }
    }
    assert!(best >= 20_000.0, "expected at least 20000 decisions per second, got {best:.0}");
}
