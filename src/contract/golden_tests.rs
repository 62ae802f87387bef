//! Every decision of the built-in contracts, compared with a committed file: `decisions.txt`.
//!
//! The file shows what a change of the policy changes. `UPDATE_DOCS=1 cargo test golden_decisions` writes it again.

#![allow(clippy::unwrap_used)]

use std::fmt::Write as _;

use http::Method;

use super::{Cause, Contract, Overrides, PolicyInput, Trigger, builtin, decide};

#[test]
fn golden_decisions_of_the_built_in_contracts_are_unchanged() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/contract/decisions.txt");
    let made = decisions();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, &made).unwrap();
    }
    let committed = std::fs::read_to_string(path).unwrap();
    let difference = committed.lines().zip(made.lines()).find(|(old, new)| old != new);
    assert!(committed == made, "src/contract/decisions.txt differs, first at {difference:?}");
}

/// One line a decision: what happened, the status and the text that a client gets.
fn decisions() -> String {
    let mut text = String::new();
    for name in builtin::CONTRACT_NAMES {
        let contract = Contract::builtin(name).unwrap();
        let mut line = |label: &str, case: Trigger| {
            let situation = PolicyInput { trigger: case, upstream: None, method: &Method::GET };
            let decided = decide(&contract, &situation, &Overrides::default());
            let status = decided.code().status();
            writeln!(text, "{name} {label} -> {status} {}", decided.message(&contract)).unwrap();
        };
        for cause in Cause::ALL {
            line(cause.name(), Trigger::Fault(*cause));
        }
        for status in 400..=999 {
            line(&status.to_string(), Trigger::UpstreamStatus(status));
        }
    }
    text
}
