//! Compares every decision of the built-in contracts with a committed file, `decisions.txt`.
//!
//! The file's diff shows the effect of a policy change. `UPDATE_DOCS=1 cargo test golden_decisions` regenerates it.

#![allow(clippy::unwrap_used)]

use std::fmt::Write as _;

use http::Method;

use super::{Cause, Contract, Overrides, PolicyInput, Trigger, builtin, decide};
use crate::generated_files::assert_current;

#[test]
fn golden_decisions_of_the_built_in_contracts_are_unchanged() {
    assert_current("src/contract/decisions.txt", &decisions(), "golden_decisions");
}

/// One line per decision: the trigger, the status code and the client message.
fn decisions() -> String {
    let mut text = String::new();
    for name in builtin::CONTRACT_NAMES {
        let contract = Contract::builtin(name).unwrap();
        let mut line = |label: &str, trigger: Trigger| {
            let input = PolicyInput { trigger, upstream: None, method: &Method::GET, route_response: None };
            let decision = decide(&contract, &input, &Overrides::default());
            let status = decision.code().status();
            writeln!(text, "{name} {label} -> {status} {}", decision.message(&contract)).unwrap();
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
