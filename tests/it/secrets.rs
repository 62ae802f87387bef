//! Nothing that an upstream lets slip reaches a client in an error, and the operator finds it in the log.
//!
//! Over the whole table of faults, whose rows hold the name of a machine in status lines, fields and bodies: here a
//! random word stands in its place, and the upstream's own name is as random. Set `STATUSQUO_TEST_SEED` to repeat a run.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Mutex;

use bytes::Bytes;
use serde_json::Value;
use statusquo::rehearse::{
    FaultOutcome, FaultyUpstream, INTERNAL_HOSTNAME, UpstreamFault, UpstreamStep, upstream_faults,
};

use super::gateway::Gateway;
use super::matrix::{ask, for_each_at_once, in_front_of, until_names_are_known};
use super::promise::text_of;
use super::reader::Answer;

/// The random words of a run.
struct Words {
    /// In the place of the machine's name, and as long.
    secret: String,
    /// A way to write the loopback's address that nobody would write: in hexadecimal, behind many zeros.
    host: String,
}

impl Words {
    fn draw() -> Words {
        let seed = std::env::var("STATUSQUO_TEST_SEED").ok().and_then(|text| text.parse().ok());
        let seed: u64 = seed.unwrap_or_else(|| RandomState::new().hash_one("seed"));
        eprintln!("STATUSQUO_TEST_SEED={seed}");
        let zeros = "0".repeat(2 + (seed >> 60) as usize);
        Words { secret: format!("c{:012x}", seed & 0xffff_ffff_ffff), host: format!("0x{zeros}7f000001") }
    }

    fn are_in(&self, text: &str) -> bool {
        text.contains(&self.secret) || text.contains(&self.host) || text.contains(INTERNAL_HOSTNAME)
    }
}

#[test]
fn no_error_of_ours_tells_what_an_upstream_let_slip_and_the_log_does() {
    let words = Words::draw();
    let faults = in_other_words(&words);
    let misbehaving = FaultyUpstream::with_faults(faults.clone()).unwrap();
    let gateway = in_front_of(&misbehaving, &faults, &words.host).start();
    until_names_are_known(&gateway, &faults);
    let ids: Mutex<HashMap<&str, String>> = Mutex::default();
    for_each_at_once(&faults, |fault| {
        let answer = ask(&mut gateway.client(), fault);
        assert_eq!(answer.status, fault.outcome.status(), "{}", fault.name);
        if let FaultOutcome::LocalReply { .. } = fault.outcome {
            assert!(!words.are_in(&all_of(&answer)), "{}: {answer:#?}", fault.name);
            let id = answer.field("x-request-id").unwrap().to_owned();
            ids.lock().unwrap().insert(fault.name, id);
        }
    });
    let ids = ids.into_inner().unwrap();
    let lines = log_lines(&gateway, ids.values());
    let untold: Vec<&str> = faults
        .iter()
        .filter_map(|fault| Some((fault, lines.get(ids.get(fault.name)?)?)))
        .filter(|(fault, line)| !is_told(fault, &line.to_string(), &words))
        .map(|(fault, _)| fault.name)
        .collect();
    assert_eq!(untold, Vec::<&str>::new(), "the log does not tell what the upstream said");
}

#[test]
fn without_messages_of_the_upstream_no_error_at_all_tells_anything() {
    let words = Words::draw();
    let faults = in_other_words(&words);
    let misbehaving = FaultyUpstream::with_faults(faults.clone()).unwrap();
    let gateway =
        in_front_of(&misbehaving, &faults, &words.host).set("errors.upstream_messages", "none").start();
    until_names_are_known(&gateway, &faults);
    for_each_at_once(&faults, |fault| {
        let answer = ask(&mut gateway.client(), fault);
        let code = fault.outcome.status();
        assert_eq!(answer.status, code, "{}", fault.name);
        if code >= 400 {
            assert!(!words.are_in(&all_of(&answer)), "{}: {answer:#?}", fault.name);
            if fault.request.method != "HEAD" {
                let body: Value = serde_json::from_slice(&answer.body).unwrap();
                assert_eq!(body["message"], text_of(code), "{}", fault.name);
            }
        }
    });
}

/// The table with the words of this run in its scripts.
fn in_other_words(words: &Words) -> Vec<UpstreamFault> {
    assert_eq!(words.secret.len(), INTERNAL_HOSTNAME.len(), "lengths and chunks stay right");
    let mut faults = upstream_faults();
    for step in faults.iter_mut().flat_map(|fault| fault.script.iter_mut()) {
        if let UpstreamStep::Write(bytes)
        | UpstreamStep::WriteSlowly { bytes, .. }
        | UpstreamStep::WriteRepeated { bytes, .. } = step
        {
            *bytes = replaced(bytes, INTERNAL_HOSTNAME.as_bytes(), words.secret.as_bytes());
        }
    }
    faults
}

fn replaced(bytes: &Bytes, old: &[u8], new: &[u8]) -> Bytes {
    let mut all = bytes.to_vec();
    let places: Vec<usize> = memchr::memmem::find_iter(bytes, old).collect();
    for at in places {
        all[at..at + old.len()].copy_from_slice(new);
    }
    all.into()
}

/// Every byte of it, in one text.
fn all_of(answer: &Answer) -> String {
    format!("{} {} {:?} {:?} {}", answer.status, answer.reason, answer.fields, answer.interim, answer.text())
}

/// Which server it was stands in each line; what it said, where it said anything.
fn is_told(fault: &UpstreamFault, line: &str, words: &Words) -> bool {
    let says = fault.script.iter().any(|step| match step {
        UpstreamStep::Write(bytes) => memchr::memmem::find(bytes, words.secret.as_bytes()).is_some(),
        _ => false,
    });
    (line.contains(&words.host) || fault.server_kind.requires_tls())
        && (!says || line.contains(&words.secret))
}

/// By request.
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
