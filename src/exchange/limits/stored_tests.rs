//! Rules that count in a store: together with others, while it answers and while it does not.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Mutex;

use http::HeaderValue;

use super::*;
use crate::config;
use crate::limit::{
    Algorithm, BackendFuture, KeyPart, Limiter, LimiterMode, LimiterSettings, Quota, QuotaDecision, Secret,
    table,
};
use crate::observe::Metrics;
use crate::snapshot::limits::RateLimitRule;

/// A store in this process: it counts by the same tables, and can be told to fail or to hang.
#[derive(Debug)]
struct Fake {
    states: Mutex<HashMap<(String, u128), u32>>,
    fails: Mutex<Option<BackendError>>,
    hangs: bool,
    on_failure: OnFailure,
    asked: Mutex<Vec<String>>,
}

impl Fake {
    fn new(on_failure: OnFailure) -> Arc<Fake> {
        Arc::new(Fake {
            states: Mutex::default(),
            fails: Mutex::default(),
            hangs: false,
            on_failure,
            asked: Mutex::default(),
        })
    }

    fn failing(on_failure: OnFailure) -> Arc<Fake> {
        let fake = Fake::new(on_failure);
        *fake.fails.lock().unwrap() = Some(BackendError::Unreachable);
        fake
    }

    fn note(&self, what: &str, asks: &[TakeRequest<'_>]) {
        let rules: Vec<&str> = asks.iter().map(|ask| ask.rule).collect();
        self.asked.lock().unwrap().push(format!("{what} {}", rules.join("+")));
    }

    fn notes(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

impl Backend for Fake {
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

    fn take<'a>(&'a self, asks: &'a [TakeRequest<'a>]) -> BackendFuture<'a, TakeReply> {
        self.note("take", asks);
        Box::pin(async move {
            if self.hangs {
                std::future::pending::<()>().await;
            }
            if let Some(failure) = *self.fails.lock().unwrap() {
                return Err(failure);
            }
            let mut states = self.states.lock().unwrap();
            let decide = |ask: &TakeRequest<'_>, taken: u32| {
                table::preview(ask.algorithm, &ask.quota, Timestamp::default(), taken, ask.cost)
            };
            let taken = |states: &HashMap<_, u32>, ask: &TakeRequest<'_>| {
                states.get(&(ask.rule.to_owned(), ask.key.bits())).copied().unwrap_or(0)
            };
            let decisions: Vec<QuotaDecision> =
                asks.iter().map(|ask| decide(ask, taken(&states, ask))).collect();
            if decisions.iter().all(|decision| decision.retry_after().is_none()) {
                for ask in asks {
                    *states.entry((ask.rule.to_owned(), ask.key.bits())).or_default() += ask.cost;
                }
            }
            Ok(TakeReply { decisions, taken_at: Timestamp::default() })
        })
    }

    fn refund<'a>(&'a self, asks: &'a [TakeRequest<'a>], _: Timestamp) -> BackendFuture<'a, ()> {
        self.note("give back", asks);
        let mut states = self.states.lock().unwrap();
        for ask in asks {
            *states.get_mut(&(ask.rule.to_owned(), ask.key.bits())).unwrap() -= ask.cost;
        }
        Box::pin(std::future::ready(Ok(())))
    }

    fn reset<'a>(&'a self, asks: &'a [TakeRequest<'a>]) -> BackendFuture<'a, ()> {
        self.note("reset", asks);
        for ask in asks {
            self.states.lock().unwrap().remove(&(ask.rule.to_owned(), ask.key.bits()));
        }
        Box::pin(std::future::ready(Ok(())))
    }
}

fn rule(name: &str, allowed: u32, store: Option<&Arc<Fake>>, mode: LimiterMode) -> Arc<RateLimitRule> {
    let settings = LimiterSettings {
        quota: Quota::new(allowed, Duration::from_secs(3_600), allowed).unwrap(),
        algorithm: Algorithm::Gcra,
        cost: 1,
        key: vec![KeyPart::ClientIp],
        mode,
        exempt: Vec::new(),
        credentials: Vec::new(),
        reset_on: vec![201],
        retry_after_jitter: 0,
        store: store.map(|store| store.name().to_owned()),
        max_keys: 1_000,
    };
    Arc::new(RateLimitRule {
        limiter: Limiter::new(name, settings, Secret::new([1, 2])),
        store: store.map(|store| Arc::clone(store) as Arc<dyn Backend>),
        metrics: Metrics::new().limit(name, store.map(|store| store.name())),
    })
}

/// A snapshot whose only route has these rules.
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

fn story() -> Story {
    Story::begin(HeaderValue::from_static("id"), IpAddr::V4(Ipv4Addr::LOCALHOST))
}

/// Asks once; the cause of the refusal, if it is one.
async fn ask_once(snapshot: &Snapshot) -> Option<Cause> {
    let route = &snapshot.routes[0];
    let admitted = admit_with_stores(snapshot, route, &request(), None, &mut story()).await;
    admitted.err().map(|fault| fault.cause())
}

#[tokio::test]
async fn all_rules_are_debited_or_none_wherever_they_count() {
    let store = Fake::new(OnFailure::Local);
    let rules = vec![
        rule("far", 2, Some(&store), LimiterMode::Enforce),
        rule("near", 3, None, LimiterMode::Enforce),
        rule("farther", 5, Some(&store), LimiterMode::Enforce),
    ];
    let snapshot = snapshot(rules);
    assert_eq!(ask_once(&snapshot).await, None);
    assert_eq!(ask_once(&snapshot).await, None);
    assert_eq!(ask_once(&snapshot).await, Some(Cause::RateLimited));
    assert_eq!(store.notes(), ["take far+farther"; 3], "one question for all rules of a store");
    // The refusal took nothing: one is left in memory and three in the store.
    let taken: Vec<u32> = {
        let states = store.states.lock().unwrap();
        let mut taken: Vec<u32> = states.values().copied().collect();
        taken.sort_unstable();
        taken
    };
    assert_eq!(taken, [2, 2]);
    let near = &snapshot.routes[0].rate_limits[1];
    let asked = ask(
        &snapshot.routes[0],
        &subject(&snapshot, &snapshot.routes[0], &request(), story().client_ip, None),
    );
    let now = timestamp(Instant::now());
    assert_eq!(near.limiter.current_state(asked[1].as_ref().unwrap().key, now).quota_state().remaining, 1);
}

#[tokio::test]
async fn whom_memory_refuses_costs_no_store_anything() {
    let store = Fake::new(OnFailure::Local);
    let snapshot = snapshot(vec![
        rule("near", 1, None, LimiterMode::Enforce),
        rule("far", 9, Some(&store), LimiterMode::Enforce),
    ]);
    assert_eq!(ask_once(&snapshot).await, None);
    assert_eq!(ask_once(&snapshot).await, Some(Cause::RateLimited));
    assert_eq!(store.notes(), ["take far"]);
}

#[tokio::test]
async fn what_one_store_took_is_given_back_when_another_refuses() {
    let (one, other) = (Fake::new(OnFailure::Local), Fake::new(OnFailure::Deny));
    let rules = vec![
        rule("first", 9, Some(&one), LimiterMode::Enforce),
        rule("second", 1, Some(&other), LimiterMode::Enforce),
    ];
    let snapshot = snapshot(rules);
    assert_eq!(ask_once(&snapshot).await, None);
    assert_eq!(ask_once(&snapshot).await, Some(Cause::RateLimited));
    assert_eq!(one.notes(), ["take first", "take first", "give back first"]);
    *other.fails.lock().unwrap() = Some(BackendError::InvalidReply);
    assert_eq!(ask_once(&snapshot).await, Some(Cause::LimiterUnavailable));
    assert_eq!(one.notes(), ["take first", "give back first"]);
    assert_eq!(one.states.lock().unwrap().values().sum::<u32>(), 1);
}

#[tokio::test]
async fn a_store_that_fails_leaves_what_the_operator_chose() {
    let memory = Fake::failing(OnFailure::Local);
    let by_memory = snapshot(vec![rule("a", 2, Some(&memory), LimiterMode::Enforce)]);
    let mut causes = Vec::new();
    for _ in 0..3 {
        causes.push(ask_once(&by_memory).await);
    }
    assert_eq!(causes, [None, None, Some(Cause::RateLimited)]);

    let open = snapshot(vec![rule("a", 1, Some(&Fake::failing(OnFailure::Allow)), LimiterMode::Enforce)]);
    let closed = snapshot(vec![rule("a", 1, Some(&Fake::failing(OnFailure::Deny)), LimiterMode::Enforce)]);
    for _ in 0..3 {
        assert_eq!(ask_once(&open).await, None);
        assert_eq!(ask_once(&closed).await, Some(Cause::LimiterUnavailable));
    }
}

#[tokio::test]
async fn a_store_that_hangs_is_waited_for_no_longer_than_it_may_take() {
    let mut store = Fake::new(OnFailure::Deny);
    Arc::get_mut(&mut store).unwrap().hangs = true;
    let snapshot = snapshot(vec![rule("a", 1, Some(&store), LimiterMode::Enforce)]);
    let began = Instant::now();
    let told = timeout_at(began + Duration::from_secs(20), ask_once(&snapshot)).await.unwrap();
    assert_eq!(told, Some(Cause::LimiterUnavailable));
    assert!(began.elapsed() >= store.timeout());
}

#[tokio::test]
async fn a_rule_that_only_watches_is_asked_about_what_passes_and_refuses_nothing() {
    let store = Fake::new(OnFailure::Deny);
    let snapshot = snapshot(vec![
        rule("near", 2, None, LimiterMode::Enforce),
        rule("trial", 1, Some(&store), LimiterMode::Shadow),
    ]);
    let mut causes = Vec::new();
    for _ in 0..3 {
        causes.push(ask_once(&snapshot).await);
    }
    assert_eq!(causes, [None, None, Some(Cause::RateLimited)]);
    assert_eq!(store.notes(), ["take trial"; 2]);
    *store.fails.lock().unwrap() = Some(BackendError::CircuitOpen);
    let snapshot = self::snapshot(vec![rule("trial", 1, Some(&store), LimiterMode::Shadow)]);
    assert_eq!(ask_once(&snapshot).await, None, "whatever happens to it");
}

#[tokio::test]
async fn a_reset_reaches_the_store_and_only_for_the_statuses_that_say_so() {
    let store = Fake::new(OnFailure::Local);
    let snapshot = snapshot(vec![rule("far", 1, Some(&store), LimiterMode::Enforce)]);
    let route = &snapshot.routes[0];
    for (status, expected) in [(401, Some(Cause::RateLimited)), (201, None)] {
        store.states.lock().unwrap().clear();
        let mut story = story();
        assert!(admit_with_stores(&snapshot, route, &request(), None, &mut story).await.is_ok());
        reset(&mut story, status).await;
        assert_eq!(ask_once(&snapshot).await, expected, "{status}");
    }
}
