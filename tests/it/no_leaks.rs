//! No internal detail of an upstream reaches a client in an error; the operator finds it in the log.
//!
//! Covers the whole fault table, whose rows contain a host name in status lines, header fields and bodies. Here random
//! words replace that name and the upstream's host name. Set `STATUSQUO_TEST_SEED` to repeat a run.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Mutex;

use bytes::Bytes;
use serde_json::Value;
use statusquo::conformance::{
    FaultOutcome, FaultyUpstream, INTERNAL_HOSTNAME, UpstreamFault, upstream_faults,
};

use super::contract_check::default_message;
use super::prelude::*;
use super::upstream_faults::{run_concurrently, send_requests, upstream_fault_setup, wait_for_dns};

/// The random words of a run.
struct RandomSecrets {
    /// Replaces the host name, with the same length.
    secret: String,
    /// An unusual spelling of the loopback address: hexadecimal with many leading zeros.
    host: String,
}

impl RandomSecrets {
    fn generate() -> RandomSecrets {
        let seed = std::env::var("STATUSQUO_TEST_SEED").ok().and_then(|text| text.parse().ok());
        let seed: u64 = seed.unwrap_or_else(|| RandomState::new().hash_one("seed"));
        eprintln!("STATUSQUO_TEST_SEED={seed}");
        let zeros = "0".repeat(2 + (seed >> 60) as usize);
        RandomSecrets {
            secret: format!("c{:012x}", seed & 0xffff_ffff_ffff),
            host: format!("0x{zeros}7f000001"),
        }
    }

    fn appear_in(&self, text: &str) -> bool {
        text.contains(&self.secret) || text.contains(&self.host) || text.contains(INTERNAL_HOSTNAME)
    }
}

#[test]
fn local_replies_leak_no_upstream_detail_and_the_log_has_it() {
    let secrets = RandomSecrets::generate();
    let faults = faults_with_secrets(&secrets);
    let faulty_upstream = FaultyUpstream::with_faults(&faults).unwrap();
    let gateway = upstream_fault_setup(&faulty_upstream, &faults, &secrets.host).start();
    wait_for_dns(&gateway, &faults);
    let ids: Mutex<HashMap<&str, String>> = Mutex::default();
    run_concurrently(&faults, |fault| {
        let response = send_requests(&mut gateway.client(), fault);
        assert_eq!(response.status, fault.expect.outcome.status(), "{}", fault.name);
        if let FaultOutcome::LocalReply { .. } = fault.expect.outcome {
            assert!(!secrets.appear_in(&everything_in(&response)), "{}: {response:#?}", fault.name);
            let id = response.header("x-request-id").unwrap().to_owned();
            ids.lock().unwrap().insert(fault.name, id);
        }
    });
    let ids = ids.into_inner().unwrap();
    let lines = log_lines(&gateway, ids.values());
    let not_logged: Vec<&str> = faults
        .iter()
        .filter_map(|fault| Some((fault, lines.get(ids.get(fault.name)?)?)))
        .filter(|(fault, line)| !is_logged(fault, &line.to_string(), &secrets))
        .map(|(fault, _)| fault.name)
        .collect();
    assert_eq!(not_logged, Vec::<&str>::new(), "rows whose upstream detail is not in the log");
}

#[test]
fn errors_leak_nothing_when_upstream_messages_are_off() {
    let secrets = RandomSecrets::generate();
    let faults = faults_with_secrets(&secrets);
    let faulty_upstream = FaultyUpstream::with_faults(&faults).unwrap();
    let gateway = upstream_fault_setup(&faulty_upstream, &faults, &secrets.host)
        .set("errors.upstream_messages", "none")
        .start();
    wait_for_dns(&gateway, &faults);
    run_concurrently(&faults, |fault| {
        let response = send_requests(&mut gateway.client(), fault);
        let code = fault.expect.outcome.status();
        assert_eq!(response.status, code, "{}", fault.name);
        if code >= 400 {
            assert!(!secrets.appear_in(&everything_in(&response)), "{}: {response:#?}", fault.name);
            if fault.request.method != "HEAD" {
                let body: Value = serde_json::from_slice(&response.body).unwrap();
                assert_eq!(body["message"], default_message(code), "{}", fault.name);
            }
        }
    });
}

/// The fault table with the random words in its scripts.
fn faults_with_secrets(secrets: &RandomSecrets) -> Vec<UpstreamFault> {
    assert_eq!(
        secrets.secret.len(),
        INTERNAL_HOSTNAME.len(),
        "Content-Length and chunk sizes must stay valid"
    );
    let mut faults = upstream_faults();
    for step in faults.iter_mut().flat_map(|fault| fault.script.iter_mut()) {
        if let Step::Write(bytes) | Step::WriteSlowly { bytes, .. } | Step::WriteRepeated { bytes, .. } = step
        {
            *bytes = replace_bytes(bytes, INTERNAL_HOSTNAME.as_bytes(), secrets.secret.as_bytes());
        }
    }
    faults
}

fn replace_bytes(bytes: &Bytes, old: &[u8], new: &[u8]) -> Bytes {
    let mut all = bytes.to_vec();
    let offsets: Vec<usize> = memchr::memmem::find_iter(bytes, old).collect();
    for at in offsets {
        all[at..at + old.len()].copy_from_slice(new);
    }
    all.into()
}

/// All bytes of the response as one text.
fn everything_in(response: &HttpResponse) -> String {
    format!(
        "{} {} {:?} {:?} {}",
        response.status,
        response.reason,
        response.headers,
        response.interim,
        response.text()
    )
}

/// Each log line names the server, and what it sent if it sent anything.
fn is_logged(fault: &UpstreamFault, line: &str, secrets: &RandomSecrets) -> bool {
    let contains_secret = fault.script.iter().any(|step| match step {
        Step::Write(bytes) => memchr::memmem::find(bytes, secrets.secret.as_bytes()).is_some(),
        _ => false,
    });
    let has_other_address = fault.server_kind.requires_tls() || fault.server_kind.uses_socket();
    (line.contains(&secrets.host) || has_other_address)
        && (!contains_secret || line.contains(&secrets.secret))
}

/// Log lines by request id.
fn log_lines<'a>(gateway: &Gateway, ids: impl Iterator<Item = &'a String> + Clone) -> HashMap<String, Value> {
    let mut lines = HashMap::new();
    while let Some(missing) = ids.clone().find(|id| !lines.contains_key(*id)) {
        gateway.log_line(|line| line["request_id"] == missing.as_str());
        for line in gateway.log_text().lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
            if let Some(id) = line["request_id"].as_str() {
                lines.insert(id.to_owned(), line.clone());
            }
        }
    }
    lines
}
