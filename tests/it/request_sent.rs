//! The reported `request_sent` compared with what the upstream received.
//!
//! Covers the whole fault table: a wrong `none` could make a client pay twice, and so could a non-idempotent request
//! that reaches an upstream twice.

use std::collections::HashMap;
use std::sync::Mutex;

use bytes::Bytes;
use serde_json::Value;
use statusquo::conformance::{FaultRequest, FaultyUpstream, UpstreamFault, upstream_faults};

use super::prelude::*;
use super::upstream_faults::{run_concurrently, send_requests, upstream_fault_setup};

/// The response of a client.
struct SentReport {
    fault: &'static str,
    method: &'static str,
    /// `request_sent` in the body, if it is a local reply.
    reported: Option<String>,
    /// The smallest correct value.
    minimum: &'static str,
}

#[test]
fn request_sent_is_truthful_and_post_and_patch_are_sent_at_most_once() {
    let faulty_upstream = FaultyUpstream::start().unwrap();
    let faults: Vec<UpstreamFault> = upstream_faults()
        .into_iter()
        .flat_map(|fault| [with_method("POST", &fault), with_method("PATCH", &fault), Some(fault)])
        .flatten()
        .collect();
    let gateway = upstream_fault_setup(&faulty_upstream, &upstream_faults(), "127.0.0.1")
        .set("errors.include", "[request_sent]")
        .set("log.requests", "all")
        .start();
    let reports: Mutex<HashMap<String, SentReport>> = Mutex::default();
    run_concurrently(&faults, |fault| {
        let response = send_requests(&mut gateway.client(), fault);
        let (fault, method) = (fault.name, fault.request.method);
        let at_least = min_request_sent(&faults, fault);
        let entry = SentReport { fault, method, reported: reported_in(&response), minimum: at_least };
        reports.lock().unwrap().insert(response.header("x-request-id").unwrap().to_owned(), entry);
    });
    let reports = reports.into_inner().unwrap();
    let logged = logged_request_sent(&gateway, &reports);
    let upstream_record = UpstreamRecord::with_method(&faulty_upstream);
    let mut mismatches = Vec::new();
    for (id, reports) in &reports {
        let logged = logged[id].as_str();
        let name = format!("{} {}", reports.method, reports.fault);
        if reports.reported.as_deref().is_some_and(|sent| sent != logged) {
            mismatches.push(format!("{name}: body {:?}, log {logged}", reports.reported));
        }
        if rank(logged) < rank(reports.minimum) || (logged == "none" && upstream_record.has_any_byte(id)) {
            mismatches.push(format!("{name}: reported {logged}, at least {} is true", reports.minimum));
        }
        let must_not_repeat =
            ["POST", "PATCH"].contains(&reports.method) && !UNPROCESSED.contains(&reports.fault);
        if must_not_repeat && upstream_record.request_count(id) > 1 {
            mismatches.push(format!(
                "{name}: the upstream received it {} times",
                upstream_record.request_count(id)
            ));
        }
    }
    assert_eq!(mismatches, Vec::<String>::new());
    assert!(
        reports.values().any(|reports| reports.reported.as_deref() == Some("none")),
        "no response reports request_sent: none"
    );
    assert!(reports.len() > 1_100, "{}", reports.len());
}

/// Rows in which the upstream states that it has not processed the request: a retry on any server is safe.
const UNPROCESSED: [&str; 2] = ["h2-reset-refused-stream", "h2-goaway-passing-over"];

/// The same row with this method, which must not be retried; `None` if the row depends on its method.
fn with_method(method: &'static str, fault: &UpstreamFault) -> Option<UpstreamFault> {
    let body = Bytes::from("order 7, paid once");
    let fault_request = FaultRequest { method, body, ..fault.request.clone() };
    (fault.request.method == "GET").then(|| UpstreamFault { request: fault_request, ..fault.clone() })
}

fn min_request_sent(faults: &[UpstreamFault], name: &str) -> &'static str {
    faults.iter().find(|fault| fault.name == name).unwrap().expect.request_sent.name()
}

fn rank(sent: &str) -> usize {
    ["none", "partial", "full"].iter().position(|known| *known == sent).unwrap()
}

fn reported_in(response: &HttpResponse) -> Option<String> {
    let body: Value = serde_json::from_slice(&response.body).ok()?;
    body["request_sent"].as_str().map(str::to_owned)
}

/// `request_sent` in the log, by request id.
fn logged_request_sent(gateway: &Gateway, reports: &HashMap<String, SentReport>) -> HashMap<String, String> {
    let mut logged: HashMap<String, String> = HashMap::new();
    while let Some(missing) = reports.keys().find(|id| !logged.contains_key(*id)) {
        gateway.log_line(|line| line["request_id"] == missing.as_str());
        for line in gateway.log_text().lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
            if let (Some(id), Some(sent)) = (line["request_id"].as_str(), line["request_sent"].as_str()) {
                logged.insert(id.to_owned(), sent.to_owned());
            }
        }
    }
    logged
}

/// Requests that the upstreams received.
struct UpstreamRecord {
    heads: HashMap<String, usize>,
    raw: Vec<u8>,
}

impl UpstreamRecord {
    fn with_method(faulty_upstream: &FaultyUpstream) -> UpstreamRecord {
        let mut upstream_record = UpstreamRecord { heads: HashMap::new(), raw: Vec::new() };
        for upstream in faulty_upstream.recording_upstreams() {
            let seen = upstream.recording();
            for id in seen.requests().filter_map(|request| request.head.header("x-request-id")) {
                *upstream_record.heads.entry(id.to_owned()).or_default() += 1;
            }
            upstream_record.raw.extend(seen.connections.iter().flat_map(|connection| connection.raw.iter()));
        }
        upstream_record
    }

    fn request_count(&self, id: &str) -> usize {
        self.heads.get(id).copied().unwrap_or(0)
    }

    fn has_any_byte(&self, id: &str) -> bool {
        self.request_count(id) > 0 || memchr::memmem::find(&self.raw, id.as_bytes()).is_some()
    }
}
