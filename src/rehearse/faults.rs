//! The table of upstream faults: what the upstream does, and exactly what should come of it.
//!
//! One row per fault, told once for tests, `demo`, `rehearse` and the documentation. A row says what is sent on the wire
//! and what the contract demands; it does not know how a gateway gets there. Codes are plain numbers here: this table is
//! the expectation that the policy is held against, so it must not be computed by the policy.

mod connection;
mod errors;

use crate::contract::{Cause, RequestSent};

use super::script::{Script, Step};

/// One way in which an upstream breaks.
#[derive(Clone, Debug)]
pub struct UpstreamFault {
    /// Stable name; `/NAME` is the path under which the misbehaving upstream plays it.
    pub name: &'static str,
    /// What happens, in one line.
    pub meaning: &'static str,
    /// Which kind of address it happens at.
    pub place: Place,
    /// What a scripted address plays; empty elsewhere.
    pub script: Script,
    /// What the client gets.
    pub outcome: Outcome,
    /// Which message is in a replaced body.
    pub message: Message,
    /// Fields of the upstream that must reach the client.
    pub keeps: &'static [(&'static str, &'static str)],
    /// The least that may be said about the request having reached the upstream; saying more is true as well.
    pub sent_at_least: RequestSent,
}

/// Which kind of server plays a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// One that reads the request and plays the script.
    Scripted,
    /// One that accepts and closes without reading.
    Closing,
    /// A port that refuses.
    Refusing,
    /// A port whose backlog is full.
    FullBacklog,
}

impl Place {
    /// Every place.
    pub const ALL: [Place; 4] = [Place::Scripted, Place::Closing, Place::Refusing, Place::FullBacklog];

    /// The name of its upstream in a configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Place::Scripted => "misbehaving",
            Place::Closing => "closing",
            Place::Refusing => "refusing",
            Place::FullBacklog => "full",
        }
    }
}

/// What the client gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A new body under this code.
    Answered {
        /// The status.
        code: u16,
        /// The reason that is counted and logged.
        why: Why,
    },
    /// The upstream's own response as received.
    Passed {
        /// The status.
        code: u16,
    },
    /// The head has left; the message is visibly cut.
    Aborted {
        /// The status that had left.
        code: u16,
        /// The cause that is counted.
        cause: Cause,
    },
}

impl Outcome {
    /// The status that the client sees.
    pub const fn code(self) -> u16 {
        match self {
            Outcome::Answered { code, .. } | Outcome::Passed { code } | Outcome::Aborted { code, .. } => code,
        }
    }

    /// The value of the label `cause`.
    pub const fn cause_name(self) -> &'static str {
        match self {
            Outcome::Answered { why: Why::Fault(cause), .. } | Outcome::Aborted { cause, .. } => cause.name(),
            Outcome::Answered { why: Why::Status(_), .. } | Outcome::Passed { .. } => "upstream_response",
        }
    }
}

/// Why an answer was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Nothing usable came.
    Fault(Cause),
    /// The upstream answered this status.
    Status(u16),
}

/// Which message stands in a replaced body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// The contract's text of the code.
    OfTheCode,
    /// The upstream's own.
    Kept(&'static str),
}

impl UpstreamFault {
    /// The path under which it is played.
    pub fn path(&self) -> String {
        format!("/{}", self.name)
    }

    fn keeping(mut self, message: &'static str) -> Self {
        self.message = Message::Kept(message);
        self
    }

    fn with_fields(mut self, keeps: &'static [(&'static str, &'static str)]) -> Self {
        self.keeps = keeps;
        self
    }
}

/// The whole table, in the order in which it is shown: from the connection to the end of the body.
pub fn upstream_faults() -> Vec<UpstreamFault> {
    [
        connection::connecting(),
        connection::response_heads(),
        errors::statuses(),
        errors::bodies(),
        connection::bodies_cut(),
    ]
    .concat()
}

/// A row with the usual rest: played by the scripted upstream, which reads the whole request.
fn row(name: &'static str, meaning: &'static str, outcome: Outcome) -> UpstreamFault {
    UpstreamFault {
        name,
        meaning,
        place: Place::Scripted,
        script: Script::new(),
        outcome,
        message: Message::OfTheCode,
        keeps: &[],
        sent_at_least: RequestSent::Full,
    }
}

fn answered(
    name: &'static str,
    meaning: &'static str,
    status: u16,
    code: u16,
    steps: Vec<Step>,
) -> UpstreamFault {
    let outcome = Outcome::Answered { code, why: Why::Status(status) };
    UpstreamFault { script: after_the_head(steps), ..row(name, meaning, outcome) }
}

fn after_the_head(steps: Vec<Step>) -> Script {
    std::iter::once(Step::ReadHead).chain(std::iter::once(Step::ReadBody)).chain(steps).collect()
}

fn status_of(line: &str) -> u16 {
    line.split(' ').next().and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_fault_has_its_own_name_and_something_to_play() {
        let faults = upstream_faults();
        let names: BTreeSet<_> = faults.iter().map(|fault| fault.name).collect();
        assert_eq!(names.len(), faults.len());
        for fault in &faults {
            assert_eq!(fault.script.is_empty(), fault.place != Place::Scripted, "{}", fault.name);
        }
    }

    #[test]
    fn every_expected_code_of_an_error_is_one_of_the_documented_page() {
        for fault in upstream_faults() {
            if !matches!(fault.outcome, Outcome::Aborted { .. }) {
                assert!(
                    [400, 401, 403, 404, 409, 429, 500, 503, 504].contains(&fault.outcome.code()),
                    "{}",
                    fault.name
                );
            }
        }
    }
}
