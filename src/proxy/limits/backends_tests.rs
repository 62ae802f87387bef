//! Tests of rules that count in a backend: together with rules in memory, and when the backend fails.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::super::key_source::KeyBody;
use super::super::request_key_source;
use super::*;
use crate::config;
use crate::limit::{
    Algorithm, BackendFuture, KeyPart, Limiter, LimiterMode, LimiterSettings, Quota, QuotaDecision, Secret,
    UnreadableBody, limit_table,
};
use crate::proxy::buffered_stream::BufferedStream;
use crate::proxy::context::RequestContext;
use crate::proxy::downstream::Downstream;
use crate::proxy::downstream::h1::DownstreamH1;
use crate::proxy::gateway::Gateway;
use crate::proxy::message::request::Request;
use crate::snapshot::Snapshot;
use crate::snapshot::rate_limits::RateLimitRule;
use crate::telemetry::Metrics;

const CLIENT_IP: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// An in-process backend with the same counting rules, which can fail or hang.
#[derive(Debug)]
struct FakeBackend {
    counts: Mutex<HashMap<(String, u128), u32>>,
    failure: Mutex<Option<BackendError>>,
    hangs: bool,
    /// Whether a failed debit may still be made, and how many of those were kept.
    late: Option<Arc<AtomicUsize>>,
    on_failure: OnFailure,
    calls: Mutex<Vec<String>>,
}

impl FakeBackend {
    fn new(on_failure: OnFailure) -> Arc<FakeBackend> {
        Arc::new(FakeBackend {
            counts: Mutex::default(),
            failure: Mutex::default(),
            hangs: false,
            late: None,
            on_failure,
            calls: Mutex::default(),
        })
    }

    fn failing(on_failure: OnFailure) -> Arc<FakeBackend> {
        let backend = FakeBackend::new(on_failure);
        *backend.failure.lock().unwrap() = Some(BackendError::Unreachable);
        backend
    }

    fn record_call(&self, operation: &str, requests: &[DebitRequest<'_>]) {
        let rules: Vec<&str> = requests.iter().map(|request| request.rule).collect();
        self.calls.lock().unwrap().push(format!("{operation} {}", rules.join("+")));
    }

    fn debit_calls(&self) -> Vec<String> {
        std::mem::take(&mut self.calls.lock().unwrap())
    }
}

impl Backend for FakeBackend {
    fn name(&self) -> &str {
        "fake"
    }

    fn secret(&self) -> Secret {
        Secret::new([1, 2])
    }

    fn timeout(&self) -> Duration {
        Duration::from_millis(20)
    }

    fn on_failure(&self) -> OnFailure {
        self.on_failure
    }

    fn debit<'a>(&'a self, requests: &'a [DebitRequest<'a>]) -> BackendFuture<'a, DebitReply, DebitError> {
        self.record_call("debit", requests);
        Box::pin(async move {
            if self.hangs {
                std::future::pending::<()>().await;
            }
            if let Some(error) = *self.failure.lock().unwrap() {
                let count = |kept: Arc<AtomicUsize>| move || kept.store(kept.load(Relaxed) + 1, Relaxed);
                let late = self.late.clone().map(|kept| LateDebit::new(count(kept)));
                return Err(DebitError { error, late });
            }
            let mut counts = self.counts.lock().unwrap();
            let decide = |request: &DebitRequest<'_>, taken: u32| {
                limit_table::preview(
                    request.algorithm,
                    &request.quota,
                    Timestamp::default(),
                    taken,
                    request.cost,
                )
            };
            let taken = |counts: &HashMap<_, u32>, request: &DebitRequest<'_>| {
                counts.get(&(request.rule.to_owned(), request.key.bits())).copied().unwrap_or(0)
            };
            let decisions: Vec<QuotaDecision> =
                requests.iter().map(|request| decide(request, taken(&counts, request))).collect();
            if decisions.iter().all(|decision| decision.retry_after().is_none()) {
                for request in requests {
                    *counts.entry((request.rule.to_owned(), request.key.bits())).or_default() += request.cost;
                }
            }
            Ok(DebitReply { decisions, debited_at: Timestamp::default() })
        })
    }

    fn refund<'a>(&'a self, requests: &'a [DebitRequest<'a>], _: Timestamp) -> BackendFuture<'a, ()> {
        self.record_call("refund", requests);
        let mut counts = self.counts.lock().unwrap();
        for request in requests {
            *counts.get_mut(&(request.rule.to_owned(), request.key.bits())).unwrap() -= request.cost;
        }
        Box::pin(std::future::ready(Ok(())))
    }

    fn reset<'a>(&'a self, requests: &'a [DebitRequest<'a>]) -> BackendFuture<'a, ()> {
        self.record_call("reset", requests);
        for request in requests {
            self.counts.lock().unwrap().remove(&(request.rule.to_owned(), request.key.bits()));
        }
        Box::pin(std::future::ready(Ok(())))
    }
}

fn rule(
    name: &str,
    allowed: u32,
    backend: Option<&Arc<FakeBackend>>,
    mode: LimiterMode,
) -> Arc<RateLimitRule> {
    let settings = LimiterSettings {
        unreadable: UnreadableBody::Reject,
        quota: Quota::new(allowed, Duration::from_secs(3_600), allowed).unwrap(),
        algorithm: Algorithm::Gcra,
        cost: 1,
        key: vec![KeyPart::ClientIp],
        mode,
        exempt: Vec::new(),
        credentials: Vec::new(),
        reset_on: vec![201],
        retry_after_jitter: 0,
        store: backend.map(|backend| backend.name().to_owned()),
        max_keys: 1_000,
    };
    Arc::new(RateLimitRule {
        limiter: Limiter::new(name, settings, Secret::new([1, 2])),
        backend: backend.map(|backend| Arc::clone(backend) as Arc<dyn Backend>),
        metrics: Metrics::new().limit(name, backend.map(|backend| backend.name())),
    })
}

/// A snapshot with one route that has these rules.
fn snapshot(rules: Vec<Arc<RateLimitRule>>) -> Snapshot {
    let text = "version: 1\nlisten: [{ address: 127.0.0.1:0 }]\nupstreams: { u: { servers: [127.0.0.1:1] } }\n\
                routes: [{ name: r, upstream: u }]\n";
    let config = config::load_str("test.yaml", text, &|_| None, 1).unwrap();
    let mut snapshot = Snapshot::build(&config, &Metrics::new(), None).unwrap();
    snapshot.routes[0].rate_limits = rules;
    snapshot
}

fn request() -> Request {
    let (mut parts, ()) = http::Request::get("http://x/").body(()).unwrap().into_parts();
    Request::from_h2(&mut parts, true).unwrap()
}

/// Applies the limits to one request. Returns the rules that may be reset, or the cause if it is denied.
async fn admit(snapshot: &Snapshot) -> Result<ResetCandidates, Cause> {
    let gateway = Gateway::new(self::snapshot(Vec::new()), Arc::new(Metrics::new()), "test", 1);
    let request = request();
    let context = RequestContext::begin(&gateway, snapshot, &request, CLIENT_IP.into(), None);
    let (_shutdown, shutdown) = tokio::sync::watch::channel(false);
    let stream = BufferedStream::new(Box::new(tokio::io::duplex(1).0));
    let mut client = Downstream::h1(
        DownstreamH1::new(stream, shutdown),
        crate::http::reported_origin::ListenerOrigin { scheme: "http", port: 80, tls_version: None },
    );
    let mut exchange = Exchange::begin(&context, &mut client);
    let key_source = request_key_source(&context, &snapshot.routes[0], &request, KeyBody::Absent);
    admit_with_backends(&mut exchange, &key_source).await.map_err(|fault| fault.cause())
}

/// Applies the limits to one request. Returns the cause if it is denied.
async fn try_admit(snapshot: &Snapshot) -> Option<Cause> {
    admit(snapshot).await.err()
}

#[tokio::test]
async fn all_rules_are_debited_or_none_across_backends() {
    let backend = FakeBackend::new(OnFailure::Local);
    let rules = vec![
        rule("remote", 2, Some(&backend), LimiterMode::Enforce),
        rule("local", 3, None, LimiterMode::Enforce),
        rule("remote_2", 5, Some(&backend), LimiterMode::Enforce),
    ];
    let snapshot = snapshot(rules);
    assert_eq!(try_admit(&snapshot).await, None);
    assert_eq!(try_admit(&snapshot).await, None);
    assert_eq!(try_admit(&snapshot).await, Some(Cause::RateLimited));
    assert_eq!(backend.debit_calls(), ["debit remote+remote_2"; 3], "one call for all rules of a backend");
    // The denied request debited nothing: 2 requests are counted, in memory and for each rule of the backend.
    let taken: Vec<u32> = {
        let counts = backend.counts.lock().unwrap();
        let mut taken: Vec<u32> = counts.values().copied().collect();
        taken.sort_unstable();
        taken
    };
    assert_eq!(taken, [2, 2]);
    let local_rule = &snapshot.routes[0].rate_limits[1];
    let request = request();
    let (route, ipv6_prefix) = (&snapshot.routes[0], snapshot.client.ipv6_prefix);
    let key_source = RequestKeySource {
        request: &request,
        client_ip: Some(CLIENT_IP),
        ipv6_prefix,
        route,
        body: KeyBody::Absent,
    };
    let checks = applicable_rules(&key_source);
    let now = timestamp(Instant::now());
    assert_eq!(
        local_rule.limiter.current_state(checks[1].as_ref().unwrap().key, now).quota_state().remaining,
        1
    );
}

#[tokio::test]
async fn request_denied_by_memory_never_reaches_the_backend() {
    let backend = FakeBackend::new(OnFailure::Local);
    let snapshot = snapshot(vec![
        rule("local", 1, None, LimiterMode::Enforce),
        rule("remote", 9, Some(&backend), LimiterMode::Enforce),
    ]);
    assert_eq!(try_admit(&snapshot).await, None);
    assert_eq!(try_admit(&snapshot).await, Some(Cause::RateLimited));
    assert_eq!(backend.debit_calls(), ["debit remote"]);
}

#[tokio::test]
async fn first_backend_is_refunded_when_the_second_denies() {
    let (first, second) = (FakeBackend::new(OnFailure::Local), FakeBackend::new(OnFailure::Deny));
    let rules = vec![
        rule("first", 9, Some(&first), LimiterMode::Enforce),
        rule("second", 1, Some(&second), LimiterMode::Enforce),
    ];
    let snapshot = snapshot(rules);
    assert_eq!(try_admit(&snapshot).await, None);
    assert_eq!(try_admit(&snapshot).await, Some(Cause::RateLimited));
    assert_eq!(first.debit_calls(), ["debit first", "debit first", "refund first"]);
    *second.failure.lock().unwrap() = Some(BackendError::InvalidReply);
    assert_eq!(try_admit(&snapshot).await, Some(Cause::LimiterUnavailable));
    assert_eq!(first.debit_calls(), ["debit first", "refund first"]);
    assert_eq!(first.counts.lock().unwrap().values().sum::<u32>(), 1);
}

#[tokio::test]
async fn failing_backend_follows_on_failure() {
    let local = FakeBackend::failing(OnFailure::Local);
    let local_snapshot = snapshot(vec![rule("a", 2, Some(&local), LimiterMode::Enforce)]);
    let mut causes = Vec::new();
    for _ in 0..3 {
        causes.push(try_admit(&local_snapshot).await);
    }
    assert_eq!(causes, [None, None, Some(Cause::RateLimited)]);

    let open =
        snapshot(vec![rule("a", 1, Some(&FakeBackend::failing(OnFailure::Allow)), LimiterMode::Enforce)]);
    let closed =
        snapshot(vec![rule("a", 1, Some(&FakeBackend::failing(OnFailure::Deny)), LimiterMode::Enforce)]);
    for _ in 0..3 {
        assert_eq!(try_admit(&open).await, None);
        assert_eq!(try_admit(&closed).await, Some(Cause::LimiterUnavailable));
    }
}

#[tokio::test]
async fn late_debit_is_kept_only_if_the_request_was_admitted() {
    let kept = Arc::<AtomicUsize>::default();
    let late = |on_failure| {
        let mut backend = FakeBackend::failing(on_failure);
        Arc::get_mut(&mut backend).unwrap().late = Some(Arc::clone(&kept));
        backend
    };
    let kept_after = async |snapshot: &Snapshot| {
        let cause = try_admit(snapshot).await;
        (cause, kept.swap(0, Relaxed), Arc::strong_count(&kept))
    };
    let deny = snapshot(vec![rule("a", 1, Some(&late(OnFailure::Deny)), LimiterMode::Enforce)]);
    // A reference each: this test, and the backend.
    assert_eq!(kept_after(&deny).await, (Some(Cause::LimiterUnavailable), 0, 2));
    drop(deny);
    let allow = snapshot(vec![rule("a", 1, Some(&late(OnFailure::Allow)), LimiterMode::Enforce)]);
    assert_eq!(kept_after(&allow).await, (None, 1, 2));
    drop(allow);
    let local = snapshot(vec![rule("a", 1, Some(&late(OnFailure::Local)), LimiterMode::Enforce)]);
    assert_eq!(kept_after(&local).await, (None, 1, 2));
    assert_eq!(kept_after(&local).await, (Some(Cause::RateLimited), 0, 2));
    drop(local);
    let shadow = snapshot(vec![rule("a", 1, Some(&late(OnFailure::Deny)), LimiterMode::Shadow)]);
    assert_eq!(kept_after(&shadow).await, (None, 1, 2));
}

#[tokio::test]
async fn hanging_backend_is_abandoned_after_its_timeout() {
    let mut backend = FakeBackend::new(OnFailure::Deny);
    Arc::get_mut(&mut backend).unwrap().hangs = true;
    let snapshot = snapshot(vec![rule("a", 1, Some(&backend), LimiterMode::Enforce)]);
    let started = Instant::now();
    let cause = timeout_at(started + Duration::from_secs(20), try_admit(&snapshot)).await.unwrap();
    assert_eq!(cause, Some(Cause::LimiterUnavailable));
    assert!(started.elapsed() >= backend.timeout());
}

#[tokio::test]
async fn shadow_rule_counts_admitted_requests_and_denies_none() {
    let backend = FakeBackend::new(OnFailure::Deny);
    let snapshot = snapshot(vec![
        rule("local", 2, None, LimiterMode::Enforce),
        rule("shadow", 1, Some(&backend), LimiterMode::Shadow),
    ]);
    let mut causes = Vec::new();
    for _ in 0..3 {
        causes.push(try_admit(&snapshot).await);
    }
    assert_eq!(causes, [None, None, Some(Cause::RateLimited)]);
    assert_eq!(backend.debit_calls(), ["debit shadow"; 2]);
    *backend.failure.lock().unwrap() = Some(BackendError::CircuitOpen);
    let snapshot = self::snapshot(vec![rule("shadow", 1, Some(&backend), LimiterMode::Shadow)]);
    assert_eq!(try_admit(&snapshot).await, None, "a shadow rule admits even if its backend fails");
}

#[tokio::test]
async fn reset_reaches_the_backend_for_listed_statuses_only() {
    let backend = FakeBackend::new(OnFailure::Local);
    let snapshot = snapshot(vec![rule("remote", 1, Some(&backend), LimiterMode::Enforce)]);
    for (status, expected) in [(401, Some(Cause::RateLimited)), (201, None)] {
        backend.counts.lock().unwrap().clear();
        reset(admit(&snapshot).await.unwrap(), status).await;
        assert_eq!(try_admit(&snapshot).await, expected, "{status}");
    }
}
