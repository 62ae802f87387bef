//! What clients are told of their request having reached the upstream, held against what the upstream received.
//!
//! Over the whole table of faults: a `none` that is not true would make a client pay twice, and so would a request that
//! reaches an upstream twice although its method is not idempotent.

use std::collections::HashMap;
use std::sync::Mutex;

use bytes::Bytes;
use serde_json::Value;
use statusquo::rehearse::{FaultRequest, FaultyUpstream, UpstreamFault, upstream_faults};

use super::gateway::Gateway;
use super::matrix::{ask, for_each_at_once, in_front_of};
use super::reader::Answer;

/// An answer that a client got.
struct Told {
    fault: &'static str,
    method: &'static str,
    /// What its body says, where it is one of ours.
    sent: Option<String>,
    /// The least that may be said.
    at_least: &'static str,
}

#[test]
fn no_request_is_falsely_told_to_be_unsent_and_no_post_or_patch_reaches_an_upstream_twice() {
    let misbehaving = FaultyUpstream::start().unwrap();
    let faults: Vec<UpstreamFault> = upstream_faults()
        .into_iter()
        .flat_map(|fault| [by("POST", &fault), by("PATCH", &fault), Some(fault)])
        .flatten()
        .collect();
    let gateway = in_front_of(&misbehaving, &upstream_faults(), "127.0.0.1")
        .set("errors.include", "[request_sent]")
        .set("log.requests", "all")
        .start();
    let told: Mutex<HashMap<String, Told>> = Mutex::default();
    for_each_at_once(&faults, |fault| {
        let answer = ask(&mut gateway.client(), fault);
        let (fault, method) = (fault.name, fault.request.method);
        let at_least = least(&faults, fault);
        let entry = Told { fault, method, sent: sent_in(&answer), at_least };
        told.lock().unwrap().insert(answer.field("x-request-id").unwrap().to_owned(), entry);
    });
    let told = told.into_inner().unwrap();
    let logged = logged(&gateway, &told);
    let received = Received::by(&misbehaving);
    let mut wrong = Vec::new();
    for (id, told) in &told {
        let logged = logged[id].as_str();
        let name = format!("{} {}", told.method, told.fault);
        if told.sent.as_deref().is_some_and(|sent| sent != logged) {
            wrong.push(format!("{name}: the body says {:?}, the log {logged}", told.sent));
        }
        if rank(logged) < rank(told.at_least) || (logged == "none" && received.any_byte(id)) {
            wrong.push(format!("{name}: {logged} is said, but {} is true", told.at_least));
        }
        let must_not = ["POST", "PATCH"].contains(&told.method) && !PASSED_OVER.contains(&told.fault);
        if must_not && received.times(id) > 1 {
            wrong.push(format!("{name}: the upstream received it {} times", received.times(id)));
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
    assert!(told.values().any(|told| told.sent.as_deref() == Some("none")), "nothing was told to be unsent");
    assert!(told.len() > 1_100, "{}", told.len());
}

/// Rows in which the upstream says in so many words that it has not looked at the request: any other server may be asked,
/// or the same again.
const PASSED_OVER: [&str; 2] = ["h2-reset-refused-stream", "h2-goaway-passing-over"];

/// The same row asked by this method, which must not be repeated; `None` where the method is the point.
fn by(method: &'static str, fault: &UpstreamFault) -> Option<UpstreamFault> {
    let body = Bytes::from("order 7, paid once");
    let ask = FaultRequest { method, body, ..fault.request.clone() };
    (fault.request.method == "GET").then(|| UpstreamFault { request: ask, ..fault.clone() })
}

fn least(faults: &[UpstreamFault], name: &str) -> &'static str {
    faults.iter().find(|fault| fault.name == name).unwrap().min_request_sent.name()
}

fn rank(sent: &str) -> usize {
    ["none", "partial", "full"].iter().position(|known| *known == sent).unwrap()
}

fn sent_in(answer: &Answer) -> Option<String> {
    let body: Value = serde_json::from_slice(&answer.body).ok()?;
    body["request_sent"].as_str().map(str::to_owned)
}

/// What the log says, by request.
fn logged(gateway: &Gateway, told: &HashMap<String, Told>) -> HashMap<String, String> {
    let mut logged: HashMap<String, String> = HashMap::new();
    while let Some(missing) = told.keys().find(|id| !logged.contains_key(*id)) {
        gateway.log_line(|line| line["request_id"] == missing.as_str());
        for line in gateway.log_text().lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
            if let (Some(id), Some(sent)) = (line["request_id"].as_str(), line["request_sent"].as_str()) {
                logged.insert(id.to_owned(), sent.to_owned());
            }
        }
    }
    logged
}

/// What the upstreams received.
struct Received {
    heads: HashMap<String, usize>,
    raw: Vec<u8>,
}

impl Received {
    fn by(misbehaving: &FaultyUpstream) -> Received {
        let mut received = Received { heads: HashMap::new(), raw: Vec::new() };
        for upstream in misbehaving.recording_upstreams() {
            let seen = upstream.recording();
            for id in seen.requests().filter_map(|request| request.head.header("x-request-id")) {
                *received.heads.entry(id.to_owned()).or_default() += 1;
            }
            received.raw.extend(seen.connections.iter().flat_map(|connection| connection.raw.iter()));
        }
        received
    }

    fn times(&self, id: &str) -> usize {
        self.heads.get(id).copied().unwrap_or(0)
    }

    fn any_byte(&self, id: &str) -> bool {
        self.times(id) > 0 || memchr::memmem::find(&self.raw, id.as_bytes()).is_some()
    }
}
