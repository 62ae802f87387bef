//! Scales the times in tests by the load of the machine.
//!
//! The factor is measured when the first test of a process starts and updated at the start of each test; it is constant
//! within a test. Timeouts under test, pauses that must be longer or shorter than a timeout, and watchdogs are
//! multiplied by it. Nothing else in a test may depend on the speed of the machine. `LOAD_FACTOR` in the environment
//! overrides the measurement.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Time limit of a wait on an idle machine. Long, because a passing test never waits for it.
pub const WATCHDOG: Duration = Duration::from_secs(30);
/// Largest load factor.
pub(crate) const MAX_FACTOR: u32 = 8;
/// A configured time above this one stands for "never" in a test and is not scaled.
const NEVER: Duration = Duration::from_secs(9);
/// Upper bound of a scaled time, below the times that stand for "never".
const MAX_SCALED_TIME: Duration = Duration::from_secs(45);
/// Configuration keys of timeouts. Rate-limit periods and `retry_after` are not scaled.
pub(crate) const TIMEOUT_KEYS: [&str; 16] = [
    "connect",
    "tls",
    "response_headers",
    "deadline",
    "body_idle",
    "max_duration",
    "stream_idle",
    "tunnel_idle",
    "header_timeout",
    "body_timeout",
    "write_timeout",
    "idle_timeout",
    "queue_timeout",
    "timeout",
    "drain",
    "drain_delay",
];

/// Settings of the gateways under test. Their timeouts are not reached, however busy the machine is: a test that waits
/// for a timeout sets it itself.
pub const DEFAULT_SETTINGS: [(&str, &str); 12] = [
    ("workers", "2"),
    ("drain_delay", "0s"),
    ("drain", "45s"),
    ("log.format", "json"),
    ("log.requests", "errors"),
    ("client.header_timeout", "45s"),
    ("client.body_timeout", "45s"),
    ("timeouts.connect", "15s"),
    ("timeouts.response_headers", "45s"),
    ("timeouts.deadline", "45s"),
    ("timeouts.body_idle", "45s"),
    ("errors.upstream_body", "{ timeout: 45s }"),
];

/// Load factor of this test, 1 to 8: how much longer operations may take than on an idle machine.
pub fn factor() -> u32 {
    thread_local! {
        static OF_THIS_TEST: OnceCell<u32> = const { OnceCell::new() };
    }
    static AT_START: OnceLock<u32> = OnceLock::new();
    OF_THIS_TEST.with(|factor| *factor.get_or_init(|| (*AT_START.get_or_init(measure)).max(queued())))
}

/// Multiplies a time by the load factor.
pub fn scaled(time: Duration) -> Duration {
    time * factor()
}

/// The default watchdog of a wait, scaled.
pub fn limit() -> Duration {
    scaled(WATCHDOG)
}

/// This number of milliseconds, scaled.
pub fn millis(number: u64) -> Duration {
    scaled(Duration::from_millis(number))
}

/// Adjusts the timeouts of the connect phases to the deadline of a test.
pub(crate) fn adjust_to_deadline(settings: &mut BTreeMap<String, String>, upstream_tls: bool) {
    let deadline = settings["timeouts.deadline"].clone();
    // A connect timeout above the deadline is refused.
    if milliseconds(&settings["timeouts.connect"]) > milliseconds(&deadline) {
        settings.insert("timeouts.connect".to_owned(), deadline.clone());
    }
    // The default is not scaled, so under load it would end a handshake before a scaled deadline does.
    if upstream_tls {
        settings.entry("timeouts.tls".to_owned()).or_insert(deadline);
    }
}

/// Scales every timeout in a configuration text.
pub fn configuration(text: &str) -> String {
    scale(text, factor())
}

pub(crate) fn scale(text: &str, factor: u32) -> String {
    let mut scaled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(colon) = rest.find(": ") {
        let (before, value) = rest.split_at(colon + 2);
        let name =
            before[..colon].rsplit(|c: char| c != '_' && !c.is_ascii_lowercase()).next().unwrap_or_default();
        let length = value.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(value.len());
        let (word, after) = value.split_at(length);
        scaled.push_str(before);
        match milliseconds(word).filter(|time| TIMEOUT_KEYS.contains(&name) && *time <= NEVER) {
            // The timeout of a rate-limit backend may be at most 5 s.
            Some(time) if name == "timeout" => push_scaled(&mut scaled, time, factor, Duration::from_secs(5)),
            Some(time) => push_scaled(&mut scaled, time, factor, MAX_SCALED_TIME),
            None => scaled.push_str(word),
        }
        rest = after;
    }
    scaled.push_str(rest);
    scaled
}

fn push_scaled(text: &mut String, time: Duration, factor: u32, max: Duration) {
    let scaled = (time * factor).min(max.max(time));
    text.push_str(&format!("{}ms", scaled.as_millis()));
}

fn milliseconds(word: &str) -> Option<Duration> {
    let digits = word.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits.parse().ok().filter(|number| *number > 0)?;
    match &word[digits.len()..] {
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        _ => None,
    }
}

/// The largest of three measurements: CPU contention, wake-up latency and run-queue length.
fn measure() -> u32 {
    if let Some(given) = std::env::var("LOAD_FACTOR").ok().and_then(|text| text.parse().ok()) {
        return u32::clamp(given, 1, MAX_FACTOR);
    }
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let shared = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..processors).map(|_| scope.spawn(slowdown)).collect();
        workers.into_iter().map(|worker| worker.join().unwrap_or(1)).max().unwrap_or(1)
    });
    let factor = shared.max(lateness()).max(queued()).clamp(1, MAX_FACTOR);
    eprintln!("load factor {factor}: timeouts are multiplied by it");
    factor
}

/// Repeats the same work: total time relative to the fastest iteration.
fn slowdown() -> u32 {
    const ITERATIONS: u32 = 60;
    let started = Instant::now();
    let fastest = (0..ITERATIONS)
        .map(|_| {
            let started = Instant::now();
            black_box((0..100_000_u64).fold(1_u64, |sum, number| black_box(sum.wrapping_mul(31) ^ number)));
            started.elapsed()
        })
        .min()
        .unwrap_or_default();
    // Rounds to the nearest factor: less than half is noise.
    (started.elapsed().as_secs_f64() / (fastest * ITERATIONS).as_secs_f64().max(1e-6)).round() as u32
}

/// Worst of 5 sleeps of 5 ms, relative to 5 ms.
fn lateness() -> u32 {
    let sleep = Duration::from_millis(5);
    let worst = (0..5)
        .map(|_| {
            let started = Instant::now();
            std::thread::sleep(sleep);
            started.elapsed()
        })
        .max()
        .unwrap_or_default();
    (worst.as_secs_f64() / sleep.as_secs_f64()).round() as u32
}

/// Runnable tasks per processor, now or averaged over the last minute, without this one.
fn queued() -> u32 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let mut words = text.split_ascii_whitespace();
    let minute: f64 = words.next().and_then(|word| word.parse().ok()).unwrap_or(0.0);
    let running: f64 = words.nth(2).and_then(|word| word.split('/').next()?.parse().ok()).unwrap_or(1.0);
    let processors = std::thread::available_parallelism().map_or(1, usize::from) as f64;
    (((running - 1.0).max(minute) / processors).round() as u32).clamp(1, MAX_FACTOR)
}
